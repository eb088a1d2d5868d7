//! The account server: HTTP/1.1 over TLS, in front of a storage.
//!
//! It stores sealed boxes, numbers and hashes, and replaces heads. It has no key to any box, and learns neither a name
//! nor a value (promise Zero knowledge).

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod error;
pub mod events;
pub mod limits;
pub mod metrics;
pub mod request;
pub mod routes;
pub mod storage;
pub mod tls;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, body::Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;

use self::limits::{RateLimiter, ServerLimits};
use self::metrics::ServerCounters;
use self::routes::{Endpoint, ROUTES};
use self::storage::{Retention, Storage};
use self::tls::{Certificate, TlsError};
use guillemet_base::names::Millis;
use guillemet_base::time::now;
use guillemet_http::router::{RouteMatch, Router};
use guillemet_http::shutdown::{Shutdown, accept_failed};

/// The time limit for a connection's TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The longest silence of a connection, and the time limit for the head of a request.
const SILENT: Duration = Duration::from_secs(75);
/// The longest time for which a peer can leave bytes unacknowledged, or its window closed.
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);
/// The time that running requests have when the server stops.
const LAST: Duration = Duration::from_secs(10);
/// The interval at which old heads and forms are removed.
const PRUNE: Duration = Duration::from_secs(3600);

/// The state from which requests are answered.
pub struct ServerState {
    /// The storage with the accounts.
    pub storage: Arc<dyn Storage>,
    /// The limits for callers.
    pub limits: ServerLimits,
    /// The requests, streams and memory that callers use.
    pub rate_limiter: Arc<RateLimiter>,
    /// The counters for `/metrics`.
    pub counts: ServerCounters,
    /// The time at which the server started.
    pub started_at: Millis,
}

impl ServerState {
    /// Starts with empty counters in front of a storage.
    pub fn new(storage: Arc<dyn Storage>, limits: ServerLimits) -> Self {
        let rate_limiter = Arc::new(RateLimiter::new(&limits));
        Self { storage, limits, rate_limiter, counts: ServerCounters::default(), started_at: now() }
    }
}

/// Serves until told to stop, then lets running requests finish.
///
/// # Errors
/// [`TlsError`] if TLS cannot be used.
pub async fn serve(
    app: Arc<ServerState>,
    listener: TcpListener,
    certificate: Arc<Certificate>,
    mut stop: Shutdown,
) -> Result<(), TlsError> {
    let acceptor = TlsAcceptor::from(certificate.config()?);
    let router = Arc::new(Router::new(&ROUTES));
    let connections = app.limits.connections;
    let permits = Arc::new(Semaphore::new(connections));
    tokio::spawn(Arc::clone(&certificate).follow(stop.clone()));
    tokio::spawn(prune_regularly(Arc::clone(&app), stop.clone()));
    let mut full = false;
    loop {
        let accepted = tokio::select! {
            () = stop.requested() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                    if !std::mem::replace(&mut full, true) {
                        tracing::warn!("connections are refused: all {connections} are in use; raise --connections");
                    }
                    continue;
                };
                full = false;
                let connection =
                    Connection { app: Arc::clone(&app), router: Arc::clone(&router), peer, _permit: permit };
                tokio::spawn(connection.run(stream, acceptor.clone(), stop.clone()));
            }
            Err(error) => accept_failed(&error).await,
        }
    }
    drop(listener);
    app.storage.hub().close();
    // Each connection gives its permit back when it ends.
    let count = u32::try_from(connections).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(LAST, permits.acquire_many(count)).await;
    Ok(())
}

/// Removes old heads and forms, once at the start and then at intervals.
async fn prune_regularly(app: Arc<ServerState>, mut stop: Shutdown) {
    let mut tick = tokio::time::interval(PRUNE);
    loop {
        tokio::select! {
            () = stop.requested() => return,
            _ = tick.tick() => {}
        }
        let age = u64::try_from(app.limits.retention.as_millis()).unwrap_or(u64::MAX);
        let retention = Retention { before: now().saturating_sub(age), keep: app.limits.keep_heads };
        match app.storage.prune(retention).await {
            Ok(0) => {}
            Ok(heads) => tracing::info!(heads, "former heads were removed"),
            Err(error) => tracing::error!(%error, "former heads could not be removed; they are kept for now"),
        }
    }
}

struct Connection {
    app: Arc<ServerState>,
    router: Arc<Router<Endpoint>>,
    peer: SocketAddr,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(self, stream: TcpStream, acceptor: TlsAcceptor, mut stop: Shutdown) {
        let _counted = self.app.counts.http.connected();
        if let Err(error) = configure_socket(&stream) {
            tracing::debug!(%error, "a connection keeps the system's timeouts");
        }
        let stream = tokio::select! {
            () = stop.requested() => return,
            agreed = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)) => match agreed {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "the TLS handshake failed");
                    return;
                }
                Err(_) => return,
            },
        };
        let service = service_fn(|request| self.handle(request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(SILENT)
            .max_buf_size(64 << 10)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = stop.requested() => {
                connection.as_mut().graceful_shutdown();
                tokio::time::timeout(LAST, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "a connection was interrupted");
        }
    }

    async fn handle(&self, request: Request<Incoming>) -> Result<hyper::Response<handlers::AnswerBody>, Infallible> {
        let (parts, body) = request.into_parts();
        let matched = self.router.find(parts.method.as_str(), parts.uri.path());
        // The log gets the endpoint, because a path contains ids.
        let endpoint = if let RouteMatch::Endpoint(endpoint, _) = &matched { Some(*endpoint) } else { None };
        let response = handlers::handle(&self.app, matched, &parts, body, canonical(self.peer.ip())).await;
        self.app.counts.http.count(endpoint.map(|endpoint| endpoint as usize), response.status());
        tracing::debug!(?endpoint, status = response.status().as_u16(), "answered");
        Ok(response)
    }
}

/// Maps the two forms of an IPv4 address to one.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Sends packets without delay, and detects a peer that is gone, also while data is written to it.
fn configure_socket(stream: &TcpStream) -> std::io::Result<()> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, UNACKNOWLEDGED)?;
    sockopt::set_tcp_user_timeout(stream, u32::try_from(UNACKNOWLEDGED.as_millis()).unwrap_or(u32::MAX))?;
    Ok(())
}

pub mod handlers;
#[cfg(test)]
mod tests;
pub mod validate;
