//! The local API: HTTP/1.1 over a Unix socket.
//!
//! Reads requests, asks who is asking, calls the services of `app`, writes answers. What is done, they know.

mod context;
pub mod endpoints;
pub mod events;
pub mod listener;
pub mod metrics;
pub mod refusal;
pub mod request;
pub mod response;
pub mod routes;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http_body_util::{Either, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{ALLOW, CONNECTION, HeaderValue};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use self::context::RequestContext;
use self::listener::Listener;
use self::metrics::Counts;
use self::refusal::Refusal;
use self::response::{Body, IntoResponse};
use self::routes::{Endpoint, Found, Router};
use crate::app::App;
use crate::app::access::{Access, Peer, Principal};
use crate::app::error::{AppError, ErrorCode};
use crate::app::identity::{self, Rules};
use crate::http::admission::{Admission, Ended, Holder, Slot};
use crate::http::connection::Timed;
use crate::http::error::{Code, HttpError};
use crate::resolve::budget::{Reservation, SMALL};
use crate::vault::usage::Caller;

/// How often silent connections are looked for.
const LOOK: Duration = Duration::from_millis(250);
/// How often the log tells of callers without any right, at most: they decide how many they are.
const TELL: Duration = Duration::from_secs(10);
/// Of `Connection`: this answer is its last.
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// Serves until told to stop, then lets the requests under way end.
pub async fn serve(
    app: Arc<App>,
    counts: Arc<Counts>,
    mut listener: Listener,
    mut asked: mpsc::Receiver<oneshot::Sender<()>>,
    mut stop: watch::Receiver<bool>,
) {
    let mut gate = Gate::new(app, counts);
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let accepted = tokio::select! {
            () = stopped(&mut stop) => break,
            _ = look.tick() => {
                drop(gate.look());
                continue;
            }
            Some(held) = asked.recv() => {
                let (admission, ended) = (Arc::clone(&gate.admission), gate.look());
                tokio::spawn(async move {
                    admission.have_ended(&ended).await;
                    // Whoever asked may have left.
                    let _ = held.send(());
                });
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(stream) => gate.receive(stream),
            Err(error) => {
                // Out of descriptors, most likely: give connections time to end rather than spin.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    gate.app.events.close();
    gate.admission.stop().await;
}

/// Returns when the daemon is to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error says that the sender is gone, and the daemon with it.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Decides over who connects. Anybody may, so it does little for each, and nothing that waits.
struct Gate {
    app: Arc<App>,
    counts: Arc<Counts>,
    router: Arc<Router>,
    admission: Arc<Admission<Peer>>,
    /// The rules that open connections were last held against.
    rules: Arc<Rules>,
    /// For callers without any right.
    forbidden: Refusal,
    /// For callers that have as many connections as they get.
    full: Arc<Refusal>,
    /// Callers without any right that the log has not told yet: how many, and the last one.
    untold: Option<(u64, Peer)>,
    told_at: Instant,
}

impl Gate {
    fn new(app: Arc<App>, counts: Arc<Counts>) -> Self {
        let rules = app.rules.load_full();
        Self {
            router: Arc::new(Router::new()),
            admission: Admission::new(rules.config.limits.connections, app.own_uid),
            rules,
            forbidden: Refusal::new(&no_rights()),
            full: Arc::new(Refusal::new(&HttpError::new(
                Code::RateLimited,
                "this caller has reached its limit of connections; reuse a connection for several requests, or raise \
                 limits.connections",
            ))),
            untold: None,
            told_at: Instant::now(),
            app,
            counts,
        }
    }

    /// Serves a connection, or refuses it.
    fn receive(&mut self, stream: UnixStream) {
        let peer = Peer::of(&stream);
        let Some(holder) = self.holder(&peer) else {
            self.counts.answered(None, StatusCode::FORBIDDEN);
            let count = self.untold.take().map_or(0, |(count, _)| count);
            self.untold = Some((count + 1, peer));
            return self.forbidden.send(stream);
        };
        let peer = peer.with_executable();
        let Some(slot) = self.admission.take(holder, peer.clone()) else {
            self.counts.answered(None, StatusCode::TOO_MANY_REQUESTS);
            return self.full.send(stream);
        };
        let (app, counts, router) = (Arc::clone(&self.app), Arc::clone(&self.counts), Arc::clone(&self.router));
        let served = Served { app, counts, router, peer, slot };
        tokio::spawn(connection(served, stream, Arc::clone(&self.full)));
    }

    /// Who it is, if it may ask for anything. Nobody is asked which number a name has now: that is done for a request.
    fn holder(&self, peer: &Peer) -> Option<Holder> {
        let rules = self.app.rules.load();
        let (caller, _) = peer.access(self.app.own_uid, &rules)?;
        Some(Holder { uid: caller.uid, pid: caller.pid })
    }

    /// What is done now and then: ends connections that are silent for too long, and after a change of the rules those
    /// of callers without any right. Returns the numbers of the event streams among these.
    fn look(&mut self) -> Vec<u64> {
        let rules = self.app.rules.load_full();
        let mut ended = Vec::new();
        if !Arc::ptr_eq(&rules, &self.rules) {
            ended = self.admission.end_forbidden(|peer, streams| match peer.access(self.app.own_uid, &rules) {
                Some((_, access)) => streams && !access.administers(),
                None => true,
            });
        }
        self.admission.end_silent(rules.config.limits.idle);
        if rules.are_due() && !identity::is_busy(&self.app) {
            let app = Arc::clone(&self.app);
            tokio::spawn(async move { identity::refresh(&app).await });
        }
        self.rules = rules;
        if self.told_at.elapsed() >= TELL
            && let Some((count, peer)) = self.untold.take()
        {
            tracing::warn!(count, last = ?peer.caller, "callers without any permission were refused");
            self.told_at = Instant::now();
        }
        ended
    }
}

/// What a caller without any right is told.
fn no_rights() -> HttpError {
    let message =
        "only the user running the daemon can connect, plus anyone a [[client]] rule in guillemet.toml allows";
    HttpError::new(Code::App(ErrorCode::Forbidden), message)
}

/// What the requests of a connection are answered with.
struct Served {
    app: Arc<App>,
    counts: Arc<Counts>,
    router: Arc<Router>,
    peer: Peer,
    slot: Slot<Peer>,
}

async fn connection(mut served: Served, stream: UnixStream, full: Arc<Refusal>) {
    let limits = served.app.config.load().limits;
    if !served.slot.is_free(limits.transfer).await {
        served.counts.answered(None, StatusCode::TOO_MANY_REQUESTS);
        return full.send(stream);
    }
    let state = &served.slot.state;
    let _counted = served.counts.connected();
    let service = service_fn(async |request| {
        state.asked();
        let mut answer = served.answer(request).await;
        if state.is_last() {
            answer.headers_mut().insert(CONNECTION, CLOSE);
        }
        // A stream of events is under way for as long as it lasts.
        if let Either::Left(_) = answer.body() {
            state.answered();
        }
        Ok::<_, Infallible>(answer)
    });
    // No timer of hyper's: it would be set and unset with each request, and `state` knows what is silent.
    let connection = http1::Builder::new()
        // The answer's own buffer is written, not a copy: it wipes itself and lets its snapshot go when it has left.
        .writev(true)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(Timed::new(stream, Arc::clone(state), limits.transfer)), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        // First what has arrived, then whether it is the end.
        biased;
        ended = connection.as_mut() => ended,
        reason = state.ended() => {
            tracing::debug!(caller = ?served.peer.caller, ?reason, "a connection is closed");
            let most = match reason {
                Ended::Stop => {
                    let most = if state.is_busy() { limits.idle } else { limits.transfer };
                    connection.as_mut().graceful_shutdown();
                    most
                }
                Ended::Forbidden if served.slot.streams() => return,
                _ if !state.has_rest() => return,
                _ => limits.idle,
            };
            tokio::time::timeout(most, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection was interrupted");
    }
}

impl Served {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let found = self.router.find(head.method.as_str(), head.uri.path());
        // For the log: what stands in a path or a method may be a value that was pasted into the wrong place.
        let known = if let Found::Endpoint(endpoint, _) = &found { Some(*endpoint) } else { None };
        let mut rules = self.app.rules.load_full();
        if self.peer.is_known_by_name(&rules) && !rules.are_current() {
            rules = identity::refresh(&self.app).await;
        }
        let response = match self.peer.access(self.app.own_uid, &rules) {
            Some((caller, access)) => self.dispatch(found, &head, body, caller, &access, &rules).await,
            // It had rights when it connected. Without any it gets no connection, and so this one ends.
            None => {
                if let Some((caller, endpoint)) = self.peer.caller.as_ref().zip(known) {
                    self.app.resolver.forbid(caller, endpoint.route(), None, std::iter::empty());
                }
                let mut response = no_rights().into_response();
                response.headers_mut().insert(CONNECTION, CLOSE);
                response
            }
        };
        let response = self.counted(&head.method, known, response);
        self.counts.answered(known, response.status());
        tracing::debug!(endpoint = ?known, status = response.status().as_u16(), "answered");
        response
    }

    /// Counts what an answer takes of memory until it has been written.
    fn counted(&self, method: &Method, endpoint: Option<Endpoint>, response: Response<Body>) -> Response<Body> {
        let resolved = matches!(endpoint, Some(Endpoint::Render | Endpoint::RenderInline | Endpoint::Resolve));
        let size = match response.body() {
            // Answers with values were counted before they were recorded.
            Either::Left(body) if !(resolved && response.status().is_success()) => body.size_hint().exact(),
            _ => None,
        };
        let size = size.and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
        if size <= SMALL {
            return response;
        }
        let (budget, uid) = (&self.app.resolver.budget, self.peer.caller.as_ref().map_or(0, |caller| caller.uid));
        let reservation = match budget.take(uid, size) {
            Ok(reservation) => reservation,
            // What has been changed has been, and is told.
            Err(_) if response.status().is_success() && method != Method::GET => budget.count(uid, size),
            Err(exhausted) => return HttpError::from(exhausted).into_response(),
        };
        response.map(|body| match body {
            Either::Left(body) => {
                let bytes = Bytes::from_owner(Counted { bytes: whole(body), _reservation: reservation });
                Either::Left(Full::new(bytes))
            }
            stream => stream,
        })
    }

    /// Answers a request of a caller that may ask for something, wherever its path led.
    async fn dispatch(
        &self,
        found: Found<'_>,
        head: &Parts,
        body: Incoming,
        caller: &Caller,
        access: &Access<'_>,
        rules: &Arc<Rules>,
    ) -> Response<Body> {
        let (endpoint, params) = match found {
            Found::Endpoint(endpoint, params) => (endpoint, params),
            Found::Nothing => {
                let message = "there is no such path; see openapi.yaml";
                return HttpError::from(AppError::NotFound(message.into())).into_response();
            }
            Found::OtherMethods(methods) => return method_not_allowed(&methods),
        };
        let route = endpoint.route();
        let principal = Principal { caller, access, rules, peer: &self.peer, route };
        let (app, counts, slot) = (&self.app, &self.counts, &self.slot);
        let context = RequestContext { app, counts, params, head, body, principal, slot };
        endpoints::answer(endpoint, context).await.unwrap_or_else(|error| {
            // Where nobody knew more of it than the route: the rules changed while the request was under way.
            if error.is_unrecorded_refusal() {
                self.app.resolver.forbid(caller, route, None, std::iter::empty());
            }
            error.into_response()
        })
    }
}

/// Returns the answer to a method that a path does not take.
fn method_not_allowed(methods: &str) -> Response<Body> {
    let message = format!("this path only supports {methods}");
    let mut response = HttpError::new(Code::MethodNotAllowed, message).into_response();
    if let Ok(methods) = HeaderValue::from_str(methods) {
        response.headers_mut().insert(ALLOW, methods);
    }
    response
}

/// Bytes of an answer, with the memory reserved for them.
struct Counted {
    bytes: Bytes,
    _reservation: Reservation,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// What is in a body that is there as a whole.
fn whole(mut body: Full<Bytes>) -> Bytes {
    match Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
        _ => Bytes::new(),
    }
}

#[cfg(test)]
mod tests;
