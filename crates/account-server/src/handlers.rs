//! Answers to requests: identifies the caller, checks what its key allows, and asks the storage.
//!
//! Invariant: unless an endpoint needs no key, nothing is looked up for a caller before its key is verified, and all it
//! can ask for belongs to the account of that key.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use serde::Serialize;
use subtle::ConstantTimeEq;

use super::error::{ServerError, ServerErrorCode};
use super::limits::LimitKey;
use super::routes::Endpoint;
use super::storage::{KeyKind, Pushing, StorageError};
use super::{ServerState, events, metrics, request};
use crate::validate;
use guillemet_base::time::now;
use guillemet_http::event_stream::EventStream;
use guillemet_http::metrics::MEDIA_TYPE;
use guillemet_http::router::{Params, RouteMatch};
use guillemet_wire::{
    AccountId, AccountListing, CurrentDevice, DeviceId, Enrolment, Hash, InviteRegistration, Push, UsageUpload,
};

/// The body of an answer: complete, or a stream of events.
pub type AnswerBody = Either<Full<Bytes>, EventStream>;

/// The caller of a request, as its API key identifies it.
#[derive(Clone, Debug)]
pub struct AuthenticatedDevice {
    /// The id of the API key.
    pub key_id: String,
    /// The SHA-256 of the whole API key.
    pub key_hash: Hash,
    /// The kind of the key, which decides what it allows.
    pub kind: KeyKind,
    /// The account that the key belongs to.
    pub account: AccountId,
    /// The device that the key belongs to; `None` for a key that creates an account.
    pub device: Option<DeviceId>,
}

impl AuthenticatedDevice {
    fn device(&self) -> Result<DeviceId, ServerError> {
        self.device.ok_or_else(ServerError::forbidden)
    }
}

/// Answers a request. `from` is the address of the peer.
pub async fn handle(
    app: &Arc<ServerState>,
    route: RouteMatch<'_, Endpoint>,
    parts: &Parts,
    mut body: Incoming,
    from: IpAddr,
) -> Response<AnswerBody> {
    let result = match route {
        RouteMatch::Nothing => {
            Err(ServerError::new(ServerErrorCode::NotFound, "there is no such path; see openapi-account.yaml"))
        }
        RouteMatch::OtherMethods(methods) => Err(ServerError::other_methods(methods)),
        RouteMatch::Endpoint(endpoint, params) => dispatch(app, endpoint, &params, parts, &mut body, from).await,
    };
    match result {
        Ok(response) => response,
        Err(error) => {
            request::discard_body(&mut body).await;
            error.response().map(Either::Left)
        }
    }
}

async fn dispatch(
    app: &Arc<ServerState>,
    endpoint: Endpoint,
    params: &Params<'_, '_>,
    parts: &Parts,
    body: &mut Incoming,
    from: IpAddr,
) -> Result<Response<AnswerBody>, ServerError> {
    match endpoint {
        Endpoint::Health => {
            app.storage.totals().await?;
            return json(StatusCode::OK, &serde_json::json!({"status": "ok"}));
        }
        Endpoint::Metrics => {
            let text = metrics::text(app).await?;
            return Ok(whole(StatusCode::OK, MEDIA_TYPE, text.into()));
        }
        Endpoint::Enrol => return enrol(app, params, parts, body, from).await,
        _ => {}
    }
    let caller = caller(app, parts, from).await?;
    if !endpoint.keys().contains(&caller.kind) {
        return Err(ServerError::forbidden());
    }
    if endpoint != Endpoint::Current && request::id::<AccountId>(params.get("id"))? != caller.account {
        return Err(ServerError::forbidden());
    }
    if endpoint != Endpoint::Changes {
        request::no_query(parts.uri.query())?;
    }
    let (storage, account) = (&app.storage, caller.account);
    match endpoint {
        Endpoint::Current => {
            let admitted = caller.kind == KeyKind::Device;
            json(StatusCode::OK, &CurrentDevice { id: account, device: caller.device, admitted })
        }
        Endpoint::Push => push(app, &caller, parts, body).await,
        Endpoint::Changes => {
            let (from, limit) = request::cursor(parts.uri.query())?;
            json(StatusCode::OK, &storage.changes(account, caller.device()?, from, limit).await?)
        }
        Endpoint::Events => events::stream(app, caller).map(|response| response.map(Either::Right)),
        Endpoint::Invite => {
            let invite: InviteRegistration = request::body(&app.rate_limiter, body).await?;
            validate::invite(&invite)?;
            let lifetime = Duration::from_secs(invite.expires_in).as_millis() as u64;
            storage.invite(account, invite.token_hash, now() + lifetime).await?;
            json(StatusCode::CREATED, &invite)
        }
        Endpoint::Enrolments => listing(storage.enrolments(account).await?),
        Endpoint::TurnAway => {
            let device = params.get("device").and_then(|raw| raw.parse().ok()).ok_or_else(not_waiting)?;
            if storage.reject_enrolment(account, device).await? { Ok(nothing()) } else { Err(not_waiting()) }
        }
        Endpoint::Wrap => {
            let not_admitted = || {
                ServerError::new(
                    ServerErrorCode::NotFound,
                    "this device has not been admitted to the account yet; wait until it is",
                )
            };
            json(StatusCode::OK, &storage.wrap(account, caller.device()?).await?.ok_or_else(not_admitted)?)
        }
        Endpoint::PutUsage => {
            let usage: UsageUpload = request::body(&app.rate_limiter, body).await?;
            validate::usage(&usage)?;
            if Some(usage.device) != caller.device {
                let message = "a device can only report its own usage".to_owned();
                return Err(ServerError::fields(vec![("device".into(), message)]));
            }
            storage.put_usage(account, usage).await?;
            Ok(nothing())
        }
        Endpoint::Usage => listing(storage.usage(account).await?),
        Endpoint::Health | Endpoint::Metrics | Endpoint::Enrol => Err(ServerError::forbidden()),
    }
}

/// Identifies the caller by its API key. Callers without a valid key are limited by their address, so that nobody can
/// try keys without end. When an address has reached its limit, a key that was valid a while ago is still accepted,
/// because many machines may share one address.
async fn caller(app: &ServerState, parts: &Parts, from: IpAddr) -> Result<AuthenticatedDevice, ServerError> {
    let stranger = LimitKey::Stranger(from);
    let rate_limited =
        |seconds| ServerError::rate_limited("too many requests; wait for the time in Retry-After", seconds);
    let key = request::api_key(&parts.headers);
    let is_known = key.as_ref().is_some_and(|key| app.rate_limiter.has_seen(&LimitKey::Key(key.id().to_owned())));
    if !is_known {
        app.rate_limiter.check(&stranger, Instant::now()).map_err(rate_limited)?;
    }
    let mut caller = None;
    if let Some(key) = key
        && let Some(stored) = app.storage.key(key.id()).await?
        && bool::from(stored.hash.0.ct_eq(&key.hash().0))
    {
        let (key_id, key_hash) = (key.id().to_owned(), stored.hash);
        caller = Some(AuthenticatedDevice {
            key_id,
            key_hash,
            kind: stored.kind,
            account: stored.account,
            device: stored.device,
        });
    }
    let Some(caller) = caller else {
        app.rate_limiter.acquire(stranger, Instant::now()).map_err(rate_limited)?;
        return Err(ServerError::unauthorized());
    };
    app.rate_limiter.acquire(LimitKey::Key(caller.key_id.clone()), Instant::now()).map_err(rate_limited)?;
    app.rate_limiter.acquire(LimitKey::Account(caller.account), Instant::now()).map_err(rate_limited)?;
    Ok(caller)
}

async fn push(
    app: &ServerState,
    caller: &AuthenticatedDevice,
    parts: &Parts,
    body: &mut Incoming,
) -> Result<Response<AnswerBody>, ServerError> {
    let expected = request::expected_head(&parts.headers)?;
    if caller.kind == KeyKind::Creation && expected.is_some() {
        return Err(ServerError::forbidden());
    }
    let push: Push = request::body(&app.rate_limiter, body).await?;
    validate::push(&push)?;
    let hash = push.head.hash(caller.account);
    let pushing = Pushing { account: caller.account, push, hash, expected, at: now(), bounds: app.limits.bounds };
    let newest = app.storage.push(pushing).await?;
    app.counts.pushed();
    json(StatusCode::CREATED, &newest)
}

async fn enrol(
    app: &ServerState,
    params: &Params<'_, '_>,
    parts: &Parts,
    body: &mut Incoming,
    from: IpAddr,
) -> Result<Response<AnswerBody>, ServerError> {
    let rate_limited =
        |seconds| ServerError::rate_limited("too many requests; wait for the time in Retry-After", seconds);
    app.rate_limiter.acquire(LimitKey::Stranger(from), Instant::now()).map_err(rate_limited)?;
    request::no_query(parts.uri.query())?;
    // The answer is the same whether there is such an account or not.
    let account = params.get("id").and_then(|raw| raw.parse().ok()).ok_or(StorageError::Token)?;
    let token = request::token(&parts.headers).ok_or(StorageError::Token)?;
    let enrolment: Enrolment = request::body(&app.rate_limiter, body).await?;
    validate::enrolment(&enrolment)?;
    app.storage.enrol(account, token, enrolment.clone(), now()).await?;
    json(StatusCode::CREATED, &enrolment)
}

fn listing<T: Serialize>(items: Vec<T>) -> Result<Response<AnswerBody>, ServerError> {
    json(StatusCode::OK, &AccountListing { count: items.len(), items })
}

fn json(status: StatusCode, value: &impl Serialize) -> Result<Response<AnswerBody>, ServerError> {
    Ok(whole(status, "application/json", serde_json::to_vec(value)?))
}

fn whole(status: StatusCode, media_type: &'static str, bytes: Vec<u8>) -> Response<AnswerBody> {
    let mut response = Response::new(Either::Left(Full::new(bytes.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn nothing() -> Response<AnswerBody> {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Makes the error for a device that does not wait to be admitted.
fn not_waiting() -> ServerError {
    ServerError::new(
        ServerErrorCode::NotFound,
        "no such device is waiting; run `guillemet account devices` to list them",
    )
}
