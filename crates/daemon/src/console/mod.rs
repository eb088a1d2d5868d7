//! The console: pages for operators, in a browser on this machine.
//!
//! This file owns the listeners and their lifetime. They open with the first link that is requested, and close when no
//! link and no session is left, so a daemon that nobody administers has no TCP socket. The pages show what the API
//! shows, through the same services (`app`). Knows no SQL, and of the vault only the types of the audit trail. Values
//! go in, never out (promise Blind).
//!
//! Invariant: only connections of users who can have a link are served: the daemon's user, root, and users who
//! requested one.

mod actions;
mod audit;
mod form;
mod listing;
mod pages;
mod peer;
mod plugins;
mod router;
mod secrets;
mod session;
mod templates;
mod visit;
use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use self::pages::Pages;
use self::peer::Owners;
use self::session::{Sessions, Times};
use crate::app::{self, App, LinkRequest};
use crate::http::admission::{Admission, ConnectionSlot, SlotHolder};
use crate::http::connection::Timed;
use guillemet_api::console::ConsoleLink;
use guillemet_base::time::now;
use guillemet_http::shutdown::{Shutdown, accept_failed};
use guillemet_vault::audit::AuditChange;
use guillemet_vault::usage::{Caller, ChangeKind};

/// Returns every path of the console with its methods (separated by commas) and the fields of its form, if it has one.
pub fn routes() -> impl Iterator<Item = (&'static str, &'static str, &'static [&'static str])> {
    router::ROUTES.into_iter().map(|(path, route, fields)| (path, route.methods(fields), fields))
}

/// The most connections at once. For another one, the connection that was idle longest is ended.
const CONNECTIONS: usize = 32;
/// The longest time that a connection may be silent, or take to send the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// The age at which a connection ends, after the request in progress. Browsers then open another one.
const CONNECTION_TIME: Duration = Duration::from_secs(30);
/// The longest time that this last request may still take.
const LAST_REQUEST_TIME: Duration = Duration::from_secs(20);
/// The longest time that a browser may take to accept a response.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// How often to check whether any link or session is left, and which connections are silent.
const LOOK: Duration = Duration::from_secs(1);

/// The console while it is open, from the first link to the last session.
struct Site {
    app: Arc<App>,
    pages: Pages,
    /// `NAME.localhost:PORT`, the only host that it responds for.
    host: String,
    own_uid: u32,
    sessions: Mutex<Sessions>,
    /// The users who requested a link, who may connect like root and the daemon's user.
    visitors: Mutex<HashSet<u32>>,
}

impl Site {
    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Responds to a request for a link, and lets its caller connect.
    fn answer_link_request(&self, request: LinkRequest) {
        self.visitors().extend(peer::visitors(&request.caller));
        let _ = request.reply.send(Ok(self.link(&request.caller)));
    }

    /// Records the sessions that have ended.
    async fn record_ended(&self) {
        let ended = self.sessions().take_ended(Instant::now());
        if ended.is_empty() {
            return;
        }
        let closed = ended.iter().map(|actor| AuditChange::new(ChangeKind::ConsoleClosed, actor, now()));
        if let Err(error) = app::audit::record(&self.app, closed.collect()).await {
            tracing::error!(error = error.to_string(), "the end of a console session could not be recorded");
        }
    }

    fn visitors(&self) -> MutexGuard<'_, HashSet<u32>> {
        self.visitors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn may_connect(&self, uid: u32) -> bool {
        uid == self.own_uid || uid == 0 || self.visitors().contains(&uid)
    }

    fn link(&self, caller: &Caller) -> ConsoleLink {
        let token = self.sessions().link(caller, Instant::now());
        ConsoleLink {
            url: format!("http://{}/login?token={token}", self.host),
            expires_in: Times::default().link.as_secs(),
        }
    }
}

/// Opens the console whenever a link is requested, until told to stop.
pub async fn run(app: Arc<App>, mut requests: mpsc::Receiver<LinkRequest>, mut stop: Shutdown) {
    loop {
        let first = tokio::select! {
            () = stop.requested() => return,
            first = requests.recv() => first,
        };
        let Some(first) = first else { return };
        match LoopbackListeners::open().await {
            Ok(listeners) => {
                let site = Arc::new(Site {
                    app: Arc::clone(&app),
                    pages: Pages::new(),
                    host: format!("{}:{}", session::random_host(), listeners.port),
                    own_uid: rustix::process::geteuid().as_raw(),
                    sessions: Mutex::new(Sessions::new(Times::default(), Instant::now())),
                    visitors: Mutex::default(),
                });
                site.answer_link_request(first);
                tracing::info!(port = listeners.port, "the console is open");
                serve(&site, listeners, &mut requests, &mut stop).await;
                tracing::info!("the console is closed");
            }
            Err(error) => {
                let _ = first.reply.send(Err(format!("the console cannot be opened: {error}")));
            }
        }
    }
}

/// Serves until no link and no session is left, or until told to stop.
async fn serve(
    site: &Arc<Site>,
    listeners: LoopbackListeners,
    requests: &mut mpsc::Receiver<LinkRequest>,
    stop: &mut Shutdown,
) {
    let mut interval = tokio::time::interval(LOOK);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let admission = Admission::new(CONNECTIONS, site.own_uid);
    let mut door = Door { site, admission: &admission, connections: JoinSet::new(), count: 0 };
    loop {
        tokio::select! {
            () = stop.requested() => break,
            link = requests.recv() => match link {
                Some(link) => site.answer_link_request(link),
                None => break,
            },
            _ = interval.tick() => {
                admission.end_silent(HEAD_TIME);
                site.record_ended().await;
                if site.sessions().are_over(Instant::now()) {
                    break;
                }
            },
            accepted = listeners.accept() => match accepted {
                Ok((stream, owner)) => door.receive(stream, owner, stop.clone()),
                Err(error) => accept_failed(&error).await,
            },
            Some(_) = door.connections.join_next() => {}
        }
    }
    drop(listeners);
    let mut connections = door.connections;
    while connections.join_next().await.is_some() {}
    site.sessions().close();
    site.record_ended().await;
}

/// Admits or refuses new connections.
struct Door<'a> {
    site: &'a Arc<Site>,
    admission: &'a Arc<Admission<()>>,
    connections: JoinSet<()>,
    /// The number of connections served so far. A browser opens several at once, so each counts as a separate process.
    count: u32,
}

impl Door<'_> {
    /// Serves a connection of this user, or ends it.
    fn receive(&mut self, stream: TcpStream, owner: io::Result<u32>, stop: Shutdown) {
        let uid = match owner {
            Ok(uid) if self.site.may_connect(uid) => uid,
            // Anyone can open any number of connections, so this is not for a log that people read.
            refused => return tracing::debug!(?refused, "a connection from another user to the console was closed"),
        };
        self.count = self.count.wrapping_add(1);
        let Some(slot) = self.admission.admit(SlotHolder { uid, pid: self.count }, ()) else {
            return tracing::warn!(uid, "all connections to the console are busy; one more was closed");
        };
        let site = Arc::clone(self.site);
        self.connections.spawn(async move { connection(&site, stream, slot, stop).await });
    }
}

async fn connection(site: &Arc<Site>, stream: TcpStream, mut slot: ConnectionSlot<()>, mut stop: Shutdown) {
    if !slot.is_free(ANSWER_TIME).await {
        return;
    }
    let state = &slot.state;
    let service = service_fn(async |request| {
        state.request_arrived();
        let mut response = router::handle(site, request).await;
        if let Ok(response) = &mut response
            && state.is_last()
        {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        state.response_ready();
        response
    });
    let connection = http1::Builder::new()
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(Timed::new(stream, Arc::clone(state), ANSWER_TIME)), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        // First read what has arrived, then check whether the connection has to end.
        biased;
        result = connection.as_mut() => result,
        _ = state.wait_for_end() => {
            if !state.has_rest() {
                return;
            }
            tokio::time::timeout(LAST_REQUEST_TIME, connection).await.unwrap_or(Ok(()))
        }
        _ = tokio::time::timeout(CONNECTION_TIME, stop.requested()) => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(LAST_REQUEST_TIME, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection to the console was interrupted");
    }
}

/// The listeners on both loopback addresses of one port.
///
/// Both are needed: browsers resolve a name under `.localhost` to either, the IPv6 address first. If the console took
/// only one, another user of this machine could listen on the other and receive the link.
struct LoopbackListeners {
    port: u16,
    v4: TcpListener,
    /// `None` if the machine has no IPv6.
    v6: Option<TcpListener>,
    owners: Owners,
}

impl LoopbackListeners {
    async fn open() -> io::Result<Self> {
        let (port, v4, v6) = Self::bind().await?;
        let owners = Self::owners(v4.local_addr()?).await.map_err(|error| {
            let message =
                format!("this kernel does not report who owns a connection ({error}); it needs CONFIG_INET_DIAG");
            io::Error::new(error.kind(), message)
        })?;
        Ok(Self { port, v4, v6, owners })
    }

    /// Binds both addresses to the same port.
    async fn bind() -> io::Result<(u16, TcpListener, Option<TcpListener>)> {
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..16 {
            let v4 = TcpListener::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).await?;
            let port = v4.local_addr()?.port();
            match TcpListener::bind(SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port)).await {
                Ok(v6) => return Ok((port, v4, Some(v6))),
                // Another process has this port on IPv6: try another port.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
                Err(error) => {
                    tracing::debug!(%error, "the console listens on IPv4 only");
                    return Ok((port, v4, None));
                }
            }
        }
        Err(last)
    }

    /// Opens the way to ask for the owner of a connection, and tries it on one of our own: if it does not work, nobody
    /// can connect, and the caller that requests a link should learn why.
    async fn owners(listener: SocketAddr) -> io::Result<Owners> {
        let owners = Owners::open()?;
        let connection = TcpStream::connect(listener).await?;
        owners.of(connection.local_addr()?, listener)?;
        Ok(owners)
    }

    /// Accepts a connection. Returns it with its owner.
    async fn accept(&self) -> io::Result<(TcpStream, io::Result<u32>)> {
        let v6 = async {
            match &self.v6 {
                Some(v6) => v6.accept().await,
                None => std::future::pending().await,
            }
        };
        let (stream, peer) = tokio::select! {
            accepted = self.v4.accept() => accepted?,
            accepted = v6 => accepted?,
        };
        let owner = stream.local_addr().and_then(|local| self.owners.of(peer, local));
        Ok((stream, owner))
    }
}
