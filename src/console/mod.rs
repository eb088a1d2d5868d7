//! The console: pages for operators, in a browser on this machine.
//!
//! This file owns the listener and its lifetime: it opens with the first link asked for and closes when no
//! link and no session is left, so a daemon nobody administers has no TCP socket. Shows what the API shows,
//! by the same inner functions; knows no vault and no SQL. Values go in, never out.
//!
//! Invariant: only connections of users who can have a link are served: the daemon's own, root, and who asked for one.

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
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use self::pages::Pages;
use self::peer::Owners;
use self::session::{Sessions, Times};
use crate::app::{self, App, LinkRequest};
use crate::http::admission::{Admission, Holder, Slot};
use crate::http::connection::Timed;
use crate::vault::audit::Change;
use crate::vault::usage::{Caller, ChangeKind};
use guillemet_api::console::ConsoleLink;
use guillemet_base::time::now;

/// Every path of the console, the methods it takes, and the fields of its form where it has one.
pub fn routes() -> impl Iterator<Item = (&'static str, &'static str, &'static [&'static str])> {
    router::ROUTES.into_iter().map(|(path, route, fields)| (path, route.methods(fields), fields))
}

/// The most connections at once; for a further one the longest idle one ends.
const CONNECTIONS: usize = 32;
/// How long a connection may be silent, or the head of a request take.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// After which a connection ends with the request under way; browsers open another.
const CONNECTION_TIME: Duration = Duration::from_secs(30);
/// How long that request may still take.
const LAST_REQUEST_TIME: Duration = Duration::from_secs(20);
/// How long an answer may take to be taken.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// How often it is looked whether somebody is left, and who is silent.
const LOOK: Duration = Duration::from_secs(1);

/// One opening of the console.
struct Site {
    app: Arc<App>,
    pages: Pages,
    /// `NAME.localhost:PORT`, the one host it answers for.
    host: String,
    own_uid: u32,
    sessions: Mutex<Sessions>,
    /// Who may connect beside the daemon's user and root: who asked for a link.
    visitors: Mutex<HashSet<u32>>,
}

impl Site {
    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a request for a link, which lets its caller connect.
    fn give_link(&self, request: LinkRequest) {
        self.visitors().extend(peer::visitors(&request.caller));
        let _ = request.answer.send(Ok(self.link(&request.caller)));
    }

    /// Records the sessions that have ended.
    async fn record_ended(&self) {
        let ended = self.sessions().take_ended(Instant::now());
        if ended.is_empty() {
            return;
        }
        let closed = ended.iter().map(|actor| Change::new(ChangeKind::ConsoleClosed, actor, now()));
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

/// Opens the console whenever a link is wanted, until told to stop.
pub async fn run(app: Arc<App>, mut wanted: mpsc::Receiver<LinkRequest>, mut stop: watch::Receiver<bool>) {
    loop {
        let first = tokio::select! {
            () = stopped(&mut stop) => return,
            first = wanted.recv() => first,
        };
        let Some(first) = first else { return };
        match Listeners::open().await {
            Ok(listeners) => {
                let site = Arc::new(Site {
                    app: Arc::clone(&app),
                    pages: Pages::new(),
                    host: format!("{}:{}", session::host(), listeners.port),
                    own_uid: rustix::process::geteuid().as_raw(),
                    sessions: Mutex::new(Sessions::new(Times::default(), Instant::now())),
                    visitors: Mutex::default(),
                });
                site.give_link(first);
                tracing::info!(port = listeners.port, "the console is open");
                serve(&site, listeners, &mut wanted, &mut stop).await;
                tracing::info!("the console is closed");
            }
            Err(error) => {
                let _ = first.answer.send(Err(format!("the console cannot be opened: {error}")));
            }
        }
    }
}

/// Serves until nobody is left, or until told to stop.
async fn serve(
    site: &Arc<Site>,
    listeners: Listeners,
    wanted: &mut mpsc::Receiver<LinkRequest>,
    stop: &mut watch::Receiver<bool>,
) {
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let admission = Admission::new(CONNECTIONS, site.own_uid);
    let mut door = Door { site, admission: &admission, connections: JoinSet::new(), count: 0 };
    loop {
        tokio::select! {
            () = stopped(stop) => break,
            link = wanted.recv() => match link {
                Some(link) => site.give_link(link),
                None => break,
            },
            _ = look.tick() => {
                admission.end_silent(HEAD_TIME);
                site.record_ended().await;
                if site.sessions().are_over(Instant::now()) {
                    break;
                }
            },
            accepted = listeners.accept() => match accepted {
                Ok((stream, owner)) => door.receive(stream, owner, stop.clone()),
                Err(error) => {
                    // Out of descriptors, most likely: give connections time to end rather than spin.
                    tracing::warn!(%error, "a connection to the console could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
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

/// Decides over who connects.
struct Door<'a> {
    site: &'a Arc<Site>,
    admission: &'a Arc<Admission<()>>,
    connections: JoinSet<()>,
    /// Connections that were served. Browsers open several at once, so each counts as a process of its own.
    count: u32,
}

impl Door<'_> {
    /// Serves a connection of this user, or ends it.
    fn receive(&mut self, stream: TcpStream, owner: io::Result<u32>, stop: watch::Receiver<bool>) {
        let uid = match owner {
            Ok(uid) if self.site.may_connect(uid) => uid,
            // Anybody can make any number of them: not for a log that is read.
            refused => return tracing::debug!(?refused, "a connection to the console of somebody else was ended"),
        };
        self.count = self.count.wrapping_add(1);
        let Some(slot) = self.admission.take(Holder { uid, pid: self.count }, ()) else {
            return tracing::warn!(uid, "all connections to the console are busy, and one more was ended");
        };
        let site = Arc::clone(self.site);
        self.connections.spawn(async move { connection(&site, stream, slot, stop).await });
    }
}

/// Returns when the daemon is to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error says that the sender is gone, and the daemon with it.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn connection(site: &Arc<Site>, stream: TcpStream, mut slot: Slot<()>, mut stop: watch::Receiver<bool>) {
    if !slot.is_free(ANSWER_TIME).await {
        return;
    }
    let state = &slot.state;
    let service = service_fn(async |request| {
        state.asked();
        let mut answer = router::answer(site, request).await;
        if let Ok(answer) = &mut answer
            && state.is_last()
        {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        state.answered();
        answer
    });
    let connection = http1::Builder::new()
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(Timed::new(stream, Arc::clone(state), ANSWER_TIME)), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        // First what has arrived, then whether it is the end.
        biased;
        ended = connection.as_mut() => ended,
        _ = state.ended() => {
            if !state.has_rest() {
                return;
            }
            tokio::time::timeout(LAST_REQUEST_TIME, connection).await.unwrap_or(Ok(()))
        }
        _ = tokio::time::timeout(CONNECTION_TIME, stopped(&mut stop)) => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(LAST_REQUEST_TIME, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the console ended early");
    }
}

/// The loopback addresses of one port.
///
/// Both of them: browsers take a name under `.localhost` for either, the newer protocol first. Were only one
/// taken, another user of this machine could listen on the other, and be sent the link.
struct Listeners {
    port: u16,
    v4: TcpListener,
    /// `None` where the machine has no IPv6.
    v6: Option<TcpListener>,
    owners: Owners,
}

impl Listeners {
    async fn open() -> io::Result<Self> {
        let (port, v4, v6) = Self::bind().await?;
        let owners = Self::owners(v4.local_addr()?).await.map_err(|error| {
            let message =
                format!("this kernel does not say whose a connection is ({error}); it needs CONFIG_INET_DIAG");
            io::Error::new(error.kind(), message)
        })?;
        Ok(Self { port, v4, v6, owners })
    }

    /// Binds both addresses.
    async fn bind() -> io::Result<(u16, TcpListener, Option<TcpListener>)> {
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..16 {
            let v4 = TcpListener::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).await?;
            let port = v4.local_addr()?.port();
            match TcpListener::bind(SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port)).await {
                Ok(v6) => return Ok((port, v4, Some(v6))),
                // Somebody has this port there: another one.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
                Err(error) => {
                    tracing::debug!(%error, "the console listens on IPv4 only");
                    return Ok((port, v4, None));
                }
            }
        }
        Err(last)
    }

    /// A way to ask whose a connection is, tried on one of our own: where it does not work nobody could come in, and
    /// who asks for a link had better hear why.
    async fn owners(listener: SocketAddr) -> io::Result<Owners> {
        let owners = Owners::open()?;
        let own = TcpStream::connect(listener).await?;
        owners.of(own.local_addr()?, listener)?;
        Ok(owners)
    }

    /// The next connection, and whose it is.
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
