//! The way to the account's server: HTTP/1.1 over TLS, on connections that are used again.
//!
//! Knows what travels and nothing of what is in the boxes. Repeats nothing that may have been taken: whoever
//! asked decides that.

mod connect;
mod events;

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use data_encoding::HEXLOWER;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use self::connect::Way;
pub use self::events::Events;
use super::api_key::ApiKey;
use super::wire::{
    AccountId, BODY_MAX, Changes, Current, Cursor, DeviceId, Enrolment, Hash, Invite, Listing, Newest, Push, Usage,
    Wrap,
};

/// How long a request may take, its answer included.
const TIME: Duration = Duration::from_secs(60);
/// The largest answer, in bytes: a page of changes is 8 MiB and the box that no longer fitted.
const ANSWER_MAX: usize = 2 * BODY_MAX;
/// How many connections are kept for the next request.
const KEPT: usize = 4;

/// Why the server was not asked, or what it said.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is none.
    #[error("{0} is no address of an account server; https://HOST:PORT is needed")]
    Address(String),
    /// The machine trusts nobody.
    #[error("no certificate authority is known on this machine; install ca-certificates, or use a code with a pin")]
    NoRoots,
    /// Nobody answers, or the answer broke off.
    #[error("the account's server cannot be reached: {0}. It is tried again; check the network and the server")]
    Unreachable(String),
    /// The server shows another certificate than expected.
    #[error(
        "the account's server is not the one it should be: {0}. Check the address; a new certificate needs a new code"
    )]
    Untrusted(String),
    /// The API key is not known, or has ended.
    #[error("the account's server does not know this device's API key; if it was revoked, join again")]
    Unauthorized,
    /// Another head is the newest: this one.
    #[error("the account has a newer head")]
    Conflict(Option<Newest>),
    /// Heads in between are no longer kept.
    #[error(
        "the account's server no longer keeps the heads since this device was last there; `guillemet account repair`"
    )]
    ContinuityLost,
    /// Too many requests.
    #[error("the account's server wants {after:?} of quiet; it is tried again then")]
    Busy {
        /// For how long.
        after: Duration,
    },
    /// Anything else that it refused.
    #[error("the account's server refused ({status} {code}): {message}")]
    Refused {
        /// The status.
        status: u16,
        /// The code.
        code: String,
        /// Why, and what to do.
        message: String,
    },
    /// Not the answer it should be.
    #[error("the account's server gave an answer that makes no sense ({0}); is it one, and of the same version?")]
    Malformed(String),
}

impl ClientError {
    /// Whether the same request may succeed later without anybody doing anything.
    pub fn passes(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Busy { .. } => true,
            Self::Refused { status, .. } => *status >= 500,
            _ => false,
        }
    }
}

/// The shape of every error.
#[derive(Deserialize)]
struct Problem {
    code: String,
    message: String,
    #[serde(default)]
    detail: Option<String>,
    #[serde(default)]
    errors: Vec<Field>,
}

#[derive(Deserialize)]
struct Field {
    field: String,
    message: String,
}

/// The way to one server, with the key of one device.
pub struct Client {
    way: Way,
    key: Option<HeaderValue>,
    time: Duration,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.way)
    }
}

/// A request in the making.
struct Asking<'a> {
    method: Method,
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Vec<u8>,
    key: Option<&'a HeaderValue>,
}

impl Client {
    /// To the server at `https://HOST[:PORT]`. With a pin its certificate has to be that one; without, one that
    /// this machine trusts for the host. Looks at the machine's certificates, and so may block for a moment.
    ///
    /// # Errors
    /// When the address is none, or no certificates are trusted.
    pub fn new(url: &str, pin: Option<Hash>, key: Option<&ApiKey>) -> Result<Self, ClientError> {
        let key = key.map(|key| {
            // A key is printable ASCII.
            let value = HeaderValue::from_str(key.expose());
            value.map(|mut value| {
                value.set_sensitive(true);
                value
            })
        });
        let key = key.transpose().map_err(|_| ClientError::Unauthorized)?;
        Ok(Self { way: Way::new(url, pin)?, key, time: TIME, idle: Mutex::default() })
    }

    /// With another time for a request.
    pub fn within(self, time: Duration) -> Self {
        Self { time, ..self }
    }

    /// Whose key it is.
    ///
    /// # Errors
    /// See `ClientError`.
    pub async fn current(&self) -> Result<Current, ClientError> {
        self.read(self.get("/v1/accounts/current".into())).await
    }

    /// Pushes onto the head `expected`; onto none for the first.
    ///
    /// # Errors
    /// `Conflict` with the newest head where that is another one. After `Unreachable` nobody knows whether the
    /// push was taken: the next pull tells.
    pub async fn push(&self, account: AccountId, push: &Push, expected: Option<Hash>) -> Result<Newest, ClientError> {
        let mut asking = self.with_body(Method::POST, format!("/v1/accounts/{account}/heads"), push)?;
        asking.headers.push(match expected {
            Some(hash) => (IF_MATCH, value(&format!("\"{hash}\""))?),
            None => (IF_NONE_MATCH, HeaderValue::from_static("*")),
        });
        self.read(asking).await
    }

    /// A page of what changed since, with at most `limit` records.
    ///
    /// # Errors
    /// `ContinuityLost` where the heads since then are no longer kept.
    pub async fn changes(&self, account: AccountId, from: &Cursor, limit: usize) -> Result<Changes, ClientError> {
        let Cursor { heads_after, records_after, after_id } = from;
        let mut path = format!(
            "/v1/accounts/{account}/changes?heads_after={heads_after}&records_after={records_after}&limit={limit}"
        );
        if let Some(id) = after_id {
            path.push_str(&format!("&after_id={id}"));
        }
        self.read(self.get(path)).await
    }

    /// What changes from now on; the newest head first.
    ///
    /// # Errors
    /// See `ClientError`.
    pub async fn events(&self, account: AccountId) -> Result<Events, ClientError> {
        let asking = self.get(format!("/v1/accounts/{account}/events"));
        let response = self.bounded(self.send_apart(asking)).await?;
        if response.status() == StatusCode::OK {
            Ok(Events::new(response.into_body()))
        } else {
            Err(self.bounded(problem(response)).await.err().unwrap_or_else(|| malformed("no error")))
        }
    }

    /// Makes an invitation good.
    ///
    /// # Errors
    /// See `ClientError`.
    pub async fn invite(&self, account: AccountId, invite: &Invite) -> Result<(), ClientError> {
        self.done(self.with_body(Method::POST, format!("/v1/accounts/{account}/invites"), invite)?).await
    }

    /// Asks to join, with the token of an invitation. The API key of this client is not sent.
    ///
    /// # Errors
    /// `Refused` with 403 for a token that is unknown, used by another device, or too old.
    pub async fn enrol(&self, account: AccountId, token: &[u8; 32], enrolment: &Enrolment) -> Result<(), ClientError> {
        let asking = self.with_body(Method::POST, format!("/v1/accounts/{account}/enrolments"), enrolment)?;
        let mut token = value(&Zeroizing::new(HEXLOWER.encode(token)))?;
        token.set_sensitive(true);
        let headers = [asking.headers, vec![(HeaderName::from_static("x-enrolment-token"), token)]].concat();
        self.done(Asking { headers, key: None, ..asking }).await
    }

    /// The devices that wait.
    ///
    /// # Errors
    /// See `ClientError`.
    pub async fn enrolments(&self, account: AccountId) -> Result<Vec<Enrolment>, ClientError> {
        let listing: Listing<Enrolment> = self.read(self.get(format!("/v1/accounts/{account}/enrolments"))).await?;
        Ok(listing.items)
    }

    /// Turns a device away that waits; whether there was one.
    ///
    /// # Errors
    /// See `ClientError`.
    pub async fn turn_away(&self, account: AccountId, device: DeviceId) -> Result<bool, ClientError> {
        let mut asking = self.get(format!("/v1/accounts/{account}/enrolments/{device}"));
        asking.method = Method::DELETE;
        found(self.done(asking).await).map(|found| found.is_some())
    }

    /// The newest key of an epoch for this device; `None` until it is admitted.
    ///
    /// # Errors
    /// See `ClientError`.
    pub async fn wrap(&self, account: AccountId) -> Result<Option<Wrap>, ClientError> {
        found(self.read(self.get(format!("/v1/accounts/{account}/wrap"))).await)
    }

    /// Tells what was used on this device.
    ///
    /// # Errors
    /// `Refused` with 409 where the server has a counter that is as high.
    pub async fn put_usage(&self, account: AccountId, usage: &Usage) -> Result<(), ClientError> {
        self.done(self.with_body(Method::PUT, format!("/v1/accounts/{account}/usage"), usage)?).await
    }

    /// What was used on every device.
    ///
    /// # Errors
    /// See `ClientError`.
    pub async fn usage(&self, account: AccountId) -> Result<Vec<Usage>, ClientError> {
        let listing: Listing<Usage> = self.read(self.get(format!("/v1/accounts/{account}/usage"))).await?;
        Ok(listing.items)
    }

    fn get(&self, path: String) -> Asking<'_> {
        Asking { method: Method::GET, path, headers: Vec::new(), body: Vec::new(), key: self.key.as_ref() }
    }

    fn with_body(&self, method: Method, path: String, body: &impl Serialize) -> Result<Asking<'_>, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| malformed(&error.to_string()))?;
        let headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        Ok(Asking { method, path, headers, body, key: self.key.as_ref() })
    }

    async fn bounded<T>(&self, work: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
        let late = || ClientError::Unreachable(format!("no answer within {:?}", self.time));
        tokio::time::timeout(self.time, work).await.map_err(|_| late())?
    }

    /// Asks, and reads the answer.
    async fn read<T: DeserializeOwned>(&self, asking: Asking<'_>) -> Result<T, ClientError> {
        let bytes = self.bounded(self.ask(asking)).await?;
        serde_json::from_slice(&bytes).map_err(|error| malformed(&error.to_string()))
    }

    /// Asks, for an answer that says nothing but that it was done.
    async fn done(&self, asking: Asking<'_>) -> Result<(), ClientError> {
        self.bounded(self.ask(asking)).await.map(drop)
    }

    async fn ask(&self, asking: Asking<'_>) -> Result<Bytes, ClientError> {
        problem(self.send(asking).await?).await
    }

    /// Sends a request, on a connection that is there or on a new one.
    async fn send(&self, asking: Asking<'_>) -> Result<Response<Incoming>, ClientError> {
        let mut request = self.request(asking)?;
        while let Some(mut connection) = self.take_idle() {
            match connection.try_send_request(request).await {
                Ok(response) => {
                    self.keep(connection);
                    return Ok(response);
                }
                // Nothing of it has left: the server had ended the connection.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(unreachable(&error.into_error())),
                },
            }
        }
        let mut connection = self.way.connect().await?;
        let response = connection.send_request(request).await.map_err(|error| unreachable(&error))?;
        self.keep(connection);
        Ok(response)
    }

    /// Sends a request on a connection of its own.
    async fn send_apart(&self, asking: Asking<'_>) -> Result<Response<Incoming>, ClientError> {
        let request = self.request(asking)?;
        self.way.connect().await?.send_request(request).await.map_err(|error| unreachable(&error))
    }

    fn request(&self, asking: Asking<'_>) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = Request::builder().method(asking.method).uri(asking.path).header(HOST, self.way.authority());
        for (name, value) in asking.headers {
            request = request.header(name, value);
        }
        if let Some(key) = asking.key {
            request = request.header("x-api-key", key);
        }
        request.body(Full::new(asking.body.into())).map_err(|error| malformed(&error.to_string()))
    }

    fn take_idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|connection| !connection.is_closed());
        // One whose answer is still being read is not ready.
        let ready = idle.iter().position(SendRequest::is_ready)?;
        Some(idle.swap_remove(ready))
    }

    /// Its answer may still be on its way: it is taken again when that has been read.
    fn keep(&self, connection: SendRequest<Full<Bytes>>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push(connection);
        }
    }
}

/// The body of a good answer, or what the server said is wrong.
async fn problem(response: Response<Incoming>) -> Result<Bytes, ClientError> {
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_MAX).collect().await;
    let bytes = body.map_err(|error| ClientError::Unreachable(format!("the answer broke off: {error}")))?.to_bytes();
    if parts.status.is_success() {
        return Ok(bytes);
    }
    let status = parts.status;
    let Ok(problem) = serde_json::from_slice::<Problem>(&bytes) else {
        return Err(malformed(&format!("status {status}")));
    };
    Err(match (status, problem.code.as_str()) {
        (StatusCode::UNAUTHORIZED, _) => ClientError::Unauthorized,
        (StatusCode::PRECONDITION_FAILED, _) => {
            let newest = problem.detail.map(|detail| serde_json::from_str(&detail)).transpose();
            ClientError::Conflict(newest.map_err(|error| malformed(&error.to_string()))?)
        }
        (StatusCode::CONFLICT, "continuity_lost") => ClientError::ContinuityLost,
        (StatusCode::TOO_MANY_REQUESTS, _) => {
            let after = parts.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            ClientError::Busy { after: Duration::from_secs(after.unwrap_or(1)) }
        }
        _ => {
            let mut message = problem.message;
            for Field { field, message: wrong } in problem.errors {
                message.push_str(&format!("; {field}: {wrong}"));
            }
            ClientError::Refused { status: status.as_u16(), code: problem.code, message }
        }
    })
}

/// `None` where there is no such thing.
fn found<T>(result: Result<T, ClientError>) -> Result<Option<T>, ClientError> {
    match result {
        Err(ClientError::Refused { status: 404, .. }) => Ok(None),
        result => result.map(Some),
    }
}

fn value(text: &str) -> Result<HeaderValue, ClientError> {
    HeaderValue::from_str(text).map_err(|_| malformed("a header that is no text"))
}

fn malformed(why: &str) -> ClientError {
    ClientError::Malformed(why.to_owned())
}

fn unreachable(error: &dyn std::error::Error) -> ClientError {
    // hyper tells the cause beside.
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    ClientError::Unreachable(format!("{error}{cause}"))
}
