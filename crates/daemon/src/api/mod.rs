//! The local API: HTTP/1.1 over a Unix socket.
//!
//! Reads requests, finds out who sent them, calls the services of `app`, and writes the responses. What a request does
//! is decided in those services.

mod context;
pub mod endpoints;
pub mod events;
pub mod listener;
pub mod metrics;
pub mod refusal;
pub mod request;
pub mod response;
pub mod routes;
pub mod stand_in;
pub mod workers;

use std::convert::Infallible;
use std::os::unix::net;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http_body_util::{Either, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use self::context::RequestContext;
use self::listener::Listener;
use self::metrics::RequestCounters;
use self::refusal::ConnectionRefusal;
use self::response::{Body, IntoResponse};
use self::routes::{Endpoint, ROUTES};
use self::workers::Workers;
use crate::app::App;
use crate::app::access::{Access, Peer, Principal};
use crate::app::error::{AppError, ErrorCode};
use crate::app::identity::{self, Rules};
use crate::http::admission::{Admission, ConnectionSlot, EndReason, SlotHolder};
use crate::http::connection::Timed;
use crate::http::error::{HttpError, HttpErrorCode};
use crate::http::request::RequestUrl;
use crate::resolve::budget::{Reservation, SMALL};
use guillemet_http::router::{RouteMatch, Router};
use guillemet_http::shutdown::{Shutdown, accept_failed};
use guillemet_vault::usage::Caller;

/// How often silent connections are looked for, and other periodic work is done.
const LOOK: Duration = Duration::from_millis(250);
/// The shortest time between log lines about callers without any right, because those callers decide how many they are.
const TELL: Duration = Duration::from_secs(10);
/// The most bytes in the body of a request that is answered on the thread of its connection.
const SHORT_BODY: u64 = 1 << 10;
/// The `Connection` header of the last response on a connection.
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// Serves until told to stop, then lets the requests in progress finish.
pub async fn serve(
    app: Arc<App>,
    counts: Arc<RequestCounters>,
    workers: Workers,
    mut listener: Listener,
    mut gate_requests: mpsc::Receiver<oneshot::Sender<()>>,
    mut stop: Shutdown,
) {
    let mut gate = Gate::new(app, counts, workers);
    let mut interval = tokio::time::interval(LOOK);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let accepted = tokio::select! {
            () = stop.requested() => break,
            _ = interval.tick() => {
                drop(gate.sweep());
                continue;
            }
            Some(done) = gate_requests.recv() => {
                let (admission, ended) = (Arc::clone(&gate.admission), gate.sweep());
                tokio::spawn(async move {
                    admission.have_ended(&ended).await;
                    // The caller of the reload may have disconnected.
                    let _ = done.send(());
                });
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(stream) => gate.receive(stream),
            Err(error) => accept_failed(&error).await,
        }
    }
    drop(listener);
    gate.app.events.close();
    gate.admission.stop().await;
}

/// Admits or refuses new connections. Anyone can connect, so the work per connection is small and never blocks.
struct Gate {
    app: Arc<App>,
    counts: Arc<RequestCounters>,
    router: Arc<Router<Endpoint>>,
    admission: Arc<Admission<Peer>>,
    /// The rules that open connections were last checked against.
    rules: Arc<Rules>,
    /// The response to callers without any right.
    forbidden: ConnectionRefusal,
    /// The response to callers that already have all the connections they may have.
    full: Arc<ConnectionRefusal>,
    /// The callers without any right that have not been logged yet: their number, and the last one.
    unlogged: Option<(u64, Peer)>,
    logged_at: Instant,
    workers: Workers,
}

impl Gate {
    fn new(app: Arc<App>, counts: Arc<RequestCounters>, workers: Workers) -> Self {
        let rules = app.rules.load_full();
        Self {
            router: Arc::new(Router::new(&ROUTES)),
            admission: Admission::new(rules.config.limits.connections, app.own_uid),
            rules,
            forbidden: ConnectionRefusal::new(&no_rights()),
            full: Arc::new(ConnectionRefusal::new(&HttpError::new(
                HttpErrorCode::RateLimited,
                "this caller has reached its limit of connections; reuse a connection for several requests, or raise \
                 limits.connections",
            ))),
            unlogged: None,
            logged_at: Instant::now(),
            workers,
            app,
            counts,
        }
    }

    /// Serves a connection, or refuses it.
    fn receive(&mut self, stream: UnixStream) {
        let peer = Peer::of(&stream);
        let Some(holder) = self.holder(&peer) else {
            self.counts.answered(None, StatusCode::FORBIDDEN);
            let count = self.unlogged.take().map_or(0, |(count, _)| count);
            self.unlogged = Some((count + 1, peer));
            return self.forbidden.send(stream);
        };
        let peer = peer.with_executable();
        let Some(slot) = self.admission.admit(holder, peer.clone()) else {
            self.counts.answered(None, StatusCode::TOO_MANY_REQUESTS);
            return self.full.send(stream);
        };
        let (app, counts, router) = (Arc::clone(&self.app), Arc::clone(&self.counts), Arc::clone(&self.router));
        let stream = match stream.into_std() {
            Ok(stream) => stream,
            Err(error) => return tracing::warn!(%error, "a connection could not be handed to its thread"),
        };
        let served = Served { app, counts, router, peer, slot };
        self.workers.spawn(connection(served, stream, Arc::clone(&self.full)));
    }

    /// Returns who the peer is, if it has any right. Does not look up names again: that is done for each request.
    fn holder(&self, peer: &Peer) -> Option<SlotHolder> {
        let rules = self.app.rules.load();
        let (caller, _) = peer.access(self.app.own_uid, &rules)?;
        Some(SlotHolder { uid: caller.uid, pid: caller.pid })
    }

    /// Does the periodic work: ends connections that are silent for too long, and after a change of the rules those of
    /// callers that lost their right. Returns the numbers of the event streams among the latter.
    fn sweep(&mut self) -> Vec<u64> {
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
        if self.logged_at.elapsed() >= TELL
            && let Some((count, peer)) = self.unlogged.take()
        {
            tracing::warn!(count, last = ?peer.caller, "callers without any permission were refused");
            self.logged_at = Instant::now();
        }
        ended
    }
}

/// Makes the error for a caller without any right.
fn no_rights() -> HttpError {
    let message =
        "only the user running the daemon can connect, plus anyone a [[client]] rule in guillemet.toml allows";
    HttpError::new(HttpErrorCode::App(ErrorCode::Forbidden), message)
}

/// A connection that is served, and what its requests need.
struct Served {
    app: Arc<App>,
    counts: Arc<RequestCounters>,
    router: Arc<Router<Endpoint>>,
    peer: Peer,
    slot: ConnectionSlot<Peer>,
}

async fn connection(mut served: Served, stream: net::UnixStream, full: Arc<ConnectionRefusal>) {
    // From here on the kernel wakes the thread that this runs on.
    let stream = match UnixStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!(%error, "a connection could not be served"),
    };
    let limits = served.app.config.load().limits;
    if !served.slot.is_free(limits.transfer).await {
        served.counts.answered(None, StatusCode::TOO_MANY_REQUESTS);
        return full.send(stream);
    }
    let served = Arc::new(served);
    let state = &served.slot.state;
    let _counted = served.counts.connected();
    let service = service_fn(async |request| {
        state.request_arrived();
        let mut response = served.handle(request).await;
        if state.is_last() {
            response.headers_mut().insert(CONNECTION, CLOSE);
        }
        // A stream of events counts as a request in progress for as long as it lasts.
        if let Either::Left(_) = response.body() {
            state.response_ready();
        }
        Ok::<_, Infallible>(response)
    });
    // No timer of hyper's: it would be set and cleared with each request, and `state` knows which connections are
    // silent.
    let connection = http1::Builder::new()
        // Write the response's own buffer, not a copy: that buffer wipes itself and releases its snapshot when it has
        // been written.
        .writev(true)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(Timed::new(stream, Arc::clone(state), limits.transfer)), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        // First read what has arrived, then check whether the connection has to end.
        biased;
        result = connection.as_mut() => result,
        reason = state.wait_for_end() => {
            tracing::debug!(caller = ?served.peer.caller, ?reason, "a connection is closed");
            let most = match reason {
                EndReason::Stop => {
                    let most = if state.is_busy() { limits.idle } else { limits.transfer };
                    connection.as_mut().graceful_shutdown();
                    most
                }
                EndReason::Forbidden if served.slot.is_streaming() => return,
                _ if !state.has_rest() => return,
                _ => limits.idle,
            };
            tokio::time::timeout(most, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection was interrupted");
    }
}

impl Served {
    /// Answers a request: on this thread if that takes no longer than reading it did, otherwise on the daemon's
    /// runtime.
    async fn handle(self: &Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let matched = self.router.find(head.method.as_str(), head.uri.path());
        let is_short = match matched {
            // What does not find its plan made, or makes a large answer, leaves this thread itself.
            RouteMatch::Endpoint(Endpoint::Render | Endpoint::Health, _) => true,
            RouteMatch::Endpoint(Endpoint::Resolve, _) => {
                body.size_hint().upper().is_some_and(|size| size <= SHORT_BODY)
            }
            _ => false,
        };
        if is_short {
            return self.answer(matched, &head, body).await;
        }
        drop(matched);
        let served = Arc::clone(self);
        let answering = async move {
            let matched = served.router.find(head.method.as_str(), head.uri.path());
            served.answer(matched, &head, body).await
        };
        Box::pin(self.app.on_daemon(answering)).await
    }

    async fn answer(&self, matched: RouteMatch<'_, Endpoint>, head: &Parts, body: Incoming) -> Response<Body> {
        // For the log, which must not contain paths or methods: they may hold a value that was pasted into the wrong
        // place.
        let endpoint = if let RouteMatch::Endpoint(endpoint, _) = &matched { Some(*endpoint) } else { None };
        let mut rules = self.app.rules.load_full();
        if self.peer.is_known_by_name(&rules) && !rules.are_current() {
            let app = Arc::clone(&self.app);
            rules = self.app.on_daemon(async move { identity::refresh(&app).await }).await;
        }
        let response = match self.peer.access(self.app.own_uid, &rules) {
            Some((caller, access)) => self.dispatch(matched, head, body, caller, &access, &rules).await,
            // The caller had rights when it connected. It has none now, so it keeps no connection either.
            None => {
                if let Some((caller, endpoint)) = self.peer.caller.as_ref().zip(endpoint) {
                    self.app.resolver.forbid(caller, endpoint.route(), None, std::iter::empty());
                }
                let mut response = no_rights().into_response();
                response.headers_mut().insert(CONNECTION, CLOSE);
                response
            }
        };
        let response = self.reserve_response(&head.method, endpoint, response);
        self.counts.answered(endpoint, response.status());
        tracing::debug!(?endpoint, status = response.status().as_u16(), "answered");
        response
    }

    /// Reserves memory for a response until it has been written.
    fn reserve_response(
        &self,
        method: &Method,
        endpoint: Option<Endpoint>,
        response: Response<Body>,
    ) -> Response<Body> {
        let resolved = matches!(endpoint, Some(Endpoint::Render | Endpoint::RenderInline | Endpoint::Resolve));
        let size = match response.body() {
            // Responses with values have been counted before their uses were recorded.
            Either::Left(body) if !(resolved && response.status().is_success()) => body.size_hint().exact(),
            _ => None,
        };
        let size = size.and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
        if size <= SMALL {
            return response;
        }
        let (budget, uid) = (&self.app.resolver.budget, self.peer.caller.as_ref().map_or(0, |caller| caller.uid));
        let reservation = match budget.reserve(uid, size) {
            Ok(reservation) => reservation,
            // A change has been made already, so its result is sent even without room for it.
            Err(_) if response.status().is_success() && method != Method::GET => budget.count(uid, size),
            Err(exhausted) => return HttpError::from(exhausted).into_response(),
        };
        response.map(|body| match body {
            Either::Left(body) => {
                let bytes = Bytes::from_owner(ReservedBytes { bytes: whole(body), _reservation: reservation });
                Either::Left(Full::new(bytes))
            }
            stream => stream,
        })
    }

    /// Handles a request of a caller that has some right, whether or not its path exists.
    async fn dispatch(
        &self,
        matched: RouteMatch<'_, Endpoint>,
        head: &Parts,
        body: Incoming,
        caller: &Caller,
        access: &Access<'_>,
        rules: &Arc<Rules>,
    ) -> Response<Body> {
        let (endpoint, params) = match matched {
            RouteMatch::Endpoint(endpoint, params) => (endpoint, params),
            RouteMatch::Nothing => {
                let message = "there is no such path; see openapi.yaml";
                return HttpError::from(AppError::NotFound(message.into())).into_response();
            }
            RouteMatch::OtherMethods(methods) => return HttpError::method_not_allowed(methods).into_response(),
        };
        let route = endpoint.route();
        let principal = Principal { caller, access, rules, peer: &self.peer, route };
        let (app, counts, slot) = (&self.app, &self.counts, &self.slot);
        let url = RequestUrl::new(params, head.uri.query());
        let context = RequestContext { app, counts, url, head, body, principal, slot };
        endpoints::handle(endpoint, context).await.unwrap_or_else(|error| {
            // The rules changed while the request was in progress: only the route is known, so that is recorded.
            if error.is_unrecorded_refusal() {
                self.app.resolver.forbid(caller, route, None, std::iter::empty());
            }
            error.into_response()
        })
    }
}

/// The bytes of a response, with the memory reserved for them.
struct ReservedBytes {
    bytes: Bytes,
    _reservation: Reservation,
}

impl AsRef<[u8]> for ReservedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Returns the bytes of a body that is complete in memory.
fn whole(mut body: Full<Bytes>) -> Bytes {
    match Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
        _ => Bytes::new(),
    }
}

#[cfg(test)]
mod tests;
