//! The console: pages for operators, in a browser on this machine.
//!
//! This file owns the listener and its lifetime: it opens with the first link asked for and closes when no
//! link and no session is left, so a daemon nobody administers has no TCP socket. Shows what the API shows,
//! by the same inner functions; knows no vault and no SQL. Values go in, never out.

mod actions;
mod form;
mod listing;
mod other;
mod pages;
mod secrets;
mod session;
mod site;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use self::pages::Pages;
use self::session::{Sessions, Times};
use crate::api::{App, Link, LinkWanted};

/// The most connections at once; further ones wait.
const CONNECTIONS: usize = 32;
/// How long the head of a request may take.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// After which a connection ends with the request under way; browsers open another.
const CONNECTION_TIME: Duration = Duration::from_secs(30);
/// How long that request may still take.
const LAST_REQUEST_TIME: Duration = Duration::from_secs(20);
/// How often it is looked whether somebody is left.
const LOOK: Duration = Duration::from_secs(1);

/// One opening of the console.
struct Site {
    app: Arc<App>,
    pages: Pages,
    /// `NAME.localhost:PORT`, the one host it answers for.
    host: String,
    sessions: Mutex<Sessions>,
}

impl Site {
    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(&self) -> Link {
        let token = self.sessions().link(Instant::now());
        Link { url: format!("http://{}/login?token={token}", self.host), expires_in: Times::default().link.as_secs() }
    }
}

/// Opens the console whenever a link is wanted, until told to stop.
pub async fn run(app: Arc<App>, mut wanted: mpsc::Receiver<LinkWanted>, mut stop: watch::Receiver<bool>) {
    loop {
        let first = tokio::select! {
            () = stopped(&mut stop) => return,
            first = wanted.recv() => first,
        };
        let Some(first) = first else { return };
        match Listeners::open().await {
            Ok(listeners) => {
                let host = format!("{}:{}", session::host(), listeners.port);
                let sessions = Mutex::new(Sessions::new(Times::default(), Instant::now()));
                let site = Arc::new(Site { app: Arc::clone(&app), pages: Pages::new(), host, sessions });
                let _ = first.send(Ok(site.link()));
                tracing::info!(port = listeners.port, "the console is open");
                serve(&site, listeners, &mut wanted, &mut stop).await;
                tracing::info!("the console is closed");
            }
            Err(error) => {
                let _ = first.send(Err(format!("no port of the loopback interface can be listened on: {error}")));
            }
        }
    }
}

/// Serves until nobody is left, or until told to stop.
async fn serve(
    site: &Arc<Site>,
    listeners: Listeners,
    wanted: &mut mpsc::Receiver<LinkWanted>,
    stop: &mut watch::Receiver<bool>,
) {
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let stopping = stop.clone();
    loop {
        // Without a place nothing is accepted: who connects then waits.
        let place = Arc::clone(&places);
        tokio::select! {
            () = stopped(stop) => break,
            link = wanted.recv() => match link {
                Some(link) => drop(link.send(Ok(site.link()))),
                None => break,
            },
            _ = look.tick() => if site.sessions().are_over(Instant::now()) {
                break;
            },
            accepted = async {
                let place = place.acquire_owned().await;
                (listeners.accept().await, place)
            } => match accepted {
                (Ok(stream), Ok(place)) => {
                    let (site, stopping) = (Arc::clone(site), stopping.clone());
                    connections.spawn(async move {
                        connection(&site, stream, stopping).await;
                        drop(place);
                    });
                }
                (Err(error), _) => {
                    // Out of descriptors, most likely: give connections time to end rather than spin.
                    tracing::warn!(%error, "a connection to the console could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                (_, Err(_)) => break,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listeners);
    while connections.join_next().await.is_some() {}
}

/// Returns when the daemon is to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error says that the sender is gone, and the daemon with it.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn connection(site: &Arc<Site>, stream: TcpStream, mut stop: watch::Receiver<bool>) {
    let service = service_fn(|request| site::answer(site, request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
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
}

impl Listeners {
    async fn open() -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..16 {
            let v4 = TcpListener::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).await?;
            let port = v4.local_addr()?.port();
            match TcpListener::bind(SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port)).await {
                Ok(v6) => return Ok(Self { port, v4, v6: Some(v6) }),
                // Somebody has this port there: another one.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
                Err(error) => {
                    tracing::debug!(%error, "the console listens on IPv4 only");
                    return Ok(Self { port, v4, v6: None });
                }
            }
        }
        Err(last)
    }

    async fn accept(&self) -> io::Result<TcpStream> {
        let v6 = async {
            match &self.v6 {
                Some(v6) => v6.accept().await,
                None => std::future::pending().await,
            }
        };
        let (stream, _) = tokio::select! {
            accepted = self.v4.accept() => accepted?,
            accepted = v6 => accepted?,
        };
        Ok(stream)
    }
}
