//! The local API: HTTP/1.1 over a Unix socket.
//!
//! Reads requests, asks who is asking, calls the parts, writes answers. Knows no SQL, no crypto, no plugin.

pub mod account;
pub mod connection;
pub mod endpoints;
pub mod error;
pub mod events;
pub mod inline;
pub mod metrics;
pub mod peer;
pub mod places;
pub mod plugins;
pub mod request;
pub mod routes;
pub mod usage;
pub mod view;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, HeaderValue};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use self::error::{ApiError, Code};
use self::metrics::Counts;
use self::peer::{Access, Peer};
use self::places::{Ended, Place, Places};
use self::routes::{Endpoint, Found, Router};
use crate::config::Config;
use crate::events::Events;
use crate::inventory::Inventory;
use crate::membership;
use crate::names::Millis;
use crate::permissions::TrustedHome;
use crate::plugin::registry::Registry;
use crate::resolve::Resolver;
use crate::vault::usage::Caller;

/// How often silent connections are looked for.
const LOOK: Duration = Duration::from_millis(250);

/// A link to the console.
#[derive(Debug, serde::Serialize)]
pub struct Link {
    /// Where to go.
    pub url: String,
    /// For how many seconds it is good.
    pub expires_in: u64,
}

/// A wish for a link; the answer is one, or why there is none.
pub type LinkWanted = oneshot::Sender<Result<Link, String>>;

/// What requests are answered from.
pub struct App {
    /// Where everything lies.
    pub home: TrustedHome,
    /// The configuration in force.
    pub config: ArcSwap<Config>,
    /// Secrets and templates.
    pub inventory: Inventory,
    /// Answers with values.
    pub resolver: Arc<Resolver>,
    /// The plugins.
    pub registry: Registry,
    /// How it stands with the account.
    pub account: membership::Handle,
    /// How the vault is unlocked, for `status`.
    pub unlock: &'static str,
    /// When the daemon started.
    pub started_at: Millis,
    /// What was answered since then, for `/metrics`.
    pub counts: Counts,
    /// What a person should know, for `status`.
    pub warnings: Vec<String>,
    /// What has changed, for those who listen.
    pub events: Arc<Events>,
    /// Who has an inline render under way.
    pub inline: inline::Turns,
    /// The pinned plugins; held while one is added or removed, or their files are looked at.
    pub pins: tokio::sync::Mutex<Vec<crate::plugin::registry::Pin>>,
    /// To the console, which opens with the first wish.
    pub links: mpsc::Sender<LinkWanted>,
}

/// Serves until told to stop, then lets the requests under way end.
pub async fn serve(app: Arc<App>, listener: UnixListener, mut stop: watch::Receiver<bool>) {
    let router = Arc::new(Router::new());
    let own_uid = rustix::process::geteuid().as_raw();
    let places = Places::new(app.config.load().limits.connections);
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let accepted = tokio::select! {
            () = stopped(&mut stop) => break,
            _ = look.tick() => {
                places.end_silent(app.config.load().limits.idle);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let peer = Peer::of(&stream);
                let Some(place) = places.take(peer.caller.as_ref().map_or(0, |caller| caller.pid)) else {
                    refuse(&stream);
                    app.counts.answered(None, StatusCode::TOO_MANY_REQUESTS);
                    continue;
                };
                tokio::spawn(connection(Arc::clone(&app), Arc::clone(&router), stream, peer, own_uid, place));
            }
            Err(error) => {
                // Out of descriptors, most likely: give connections time to end rather than spin.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    app.events.close();
    places.stop().await;
}

/// Tells a caller that it has as many connections as it gets. It has not been asked what it wants, and is
/// not waited for.
fn refuse(stream: &UnixStream) {
    let message = "all connections are taken, and no other caller has more of them than this one; use one connection \
                   for several requests, or raise limits.connections";
    let body = ApiError::new(Code::RateLimited, message).body();
    let head = "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\nconnection: close";
    let head = format!("{head}\r\ncontent-length: {}\r\n\r\n", body.len());
    let _ = stream.try_write(&[head.as_bytes(), &body].concat());
}

/// Returns when the daemon is to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error says that the sender is gone, and the daemon with it.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn connection(app: Arc<App>, router: Arc<Router>, stream: UnixStream, peer: Peer, own_uid: u32, place: Place) {
    let (limits, line) = (app.config.load().limits, &place.line);
    let _counted = app.counts.connected();
    let service = service_fn(async |request| {
        line.asked();
        let answer = answer(&app, &router, &peer, own_uid, request).await;
        // A stream of events is under way for as long as it lasts.
        if let Either::Left(_) = answer.body() {
            line.answered();
        }
        Ok::<_, Infallible>(answer)
    });
    // No timer of hyper's: it would be set and unset with each request, and `line` knows what is silent.
    let connection = http1::Builder::new()
        // The answer's own buffer is written, not a copy: it wipes itself and lets its snapshot go when it has left.
        .writev(true)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(connection::Timed::new(stream, Arc::clone(line), limits.transfer)), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        reason = line.ended() => {
            tracing::debug!(caller = ?peer.caller, ?reason, "a connection is ended");
            if reason != Ended::Stop {
                return;
            }
            let most = if line.is_silent() { limits.transfer } else { limits.idle };
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(most, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn answer(
    app: &Arc<App>,
    router: &Router,
    peer: &Peer,
    own_uid: u32,
    request: Request<Incoming>,
) -> Response<Either<Full<Bytes>, events::Stream>> {
    let (parts, body) = request.into_parts();
    let found = router.find(parts.method.as_str(), parts.uri.path());
    // For the log: what stands in a path or a method may be a value that was pasted into the wrong place.
    let known = if let Found::Endpoint(endpoint, _) = &found { Some(*endpoint) } else { None };
    let config = app.config.load();
    let response = match peer.access(own_uid, &config) {
        Some((caller, access)) => lead(app, found, &parts, body, caller, &access, &config).await,
        None => {
            tracing::warn!(caller = ?peer.caller, "a caller was refused");
            let message =
                "only the user this daemon runs as, and those a [[client]] rule of guillemet.toml names, may ask";
            ApiError::new(Code::Forbidden, message).response().map(Either::Left)
        }
    };
    app.counts.answered(known, response.status());
    tracing::debug!(endpoint = ?known, status = response.status().as_u16(), "answered");
    response
}

/// Where a path led.
async fn lead(
    app: &Arc<App>,
    found: Found<'_>,
    parts: &Parts,
    body: Incoming,
    caller: &Caller,
    access: &Access<'_>,
    config: &Config,
) -> Response<Either<Full<Bytes>, events::Stream>> {
    let result = match found {
        Found::Nothing => Err(ApiError::new(Code::NotFound, "there is no such path; openapi.yaml lists them")),
        Found::OtherMethods(methods) => {
            let message = format!("this path knows {methods} only");
            let mut response = ApiError::new(Code::MethodNotAllowed, message).response();
            if let Ok(methods) = HeaderValue::from_str(&methods) {
                response.headers_mut().insert(ALLOW, methods);
            }
            return response.map(Either::Left);
        }
        Found::Endpoint(Endpoint::Events, _) if access.administers() => {
            match request::query(parts.uri.query(), []).and_then(|[]| events::stream(&app.events)) {
                Ok(stream) => return stream.map(Either::Right),
                Err(error) => Err(error),
            }
        }
        Found::Endpoint(endpoint, params) => {
            let asked = endpoints::Asked { params: &params, parts, caller, access, config };
            endpoints::answer(app, endpoint, asked, body).await
        }
    };
    result.unwrap_or_else(|error| error.response()).map(Either::Left)
}

#[cfg(test)]
mod tests;
