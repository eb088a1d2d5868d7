//! The client of the account server: HTTP/1.1 over TLS, on connections that are reused.
//!
//! Knows the types that travel, and nothing about what is in the boxes. Never repeats a request that the server may
//! have accepted: that is the caller's decision.

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
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

pub use self::events::HeadEvents;
use crate::connect::{ConnectError, ServerAddress, with_cause};
use guillemet_wire::api_key::ApiKey;
use guillemet_wire::{
    AccountId, AccountListing, BODY_MAX, ChangesPage, CurrentDevice, DeviceId, Enrolment, ErrorBody, ErrorEntry, Hash,
    HeadRef, InviteRegistration, PullCursor, Push, UsageUpload, Wrap,
};

/// The time limit for a request, its answer included.
const TIME: Duration = Duration::from_secs(60);
/// The largest answer, in bytes. A page of changes has 8 MiB, and the box that no longer fitted.
const ANSWER_MAX: usize = 2 * BODY_MAX;
/// The number of connections that are kept for later requests.
const KEPT: usize = 4;

/// The reasons why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum AccountClientError {
    /// The address is not one of an account server.
    #[error("{0} is not the address of an account server; use https://HOST:PORT")]
    Address(String),
    /// The machine trusts no certificate authority, and there is no pin.
    #[error("this machine has no certificate authorities; install ca-certificates, or use a code with a pin")]
    NoRoots,
    /// Nothing answers, or the answer broke off.
    #[error("cannot reach the account's server: {0}. Guillemet tries again; check the network and the server")]
    Unreachable(String),
    /// The server shows another certificate than expected.
    #[error(
        "the account's server has an unexpected certificate: {0}. Check the address; a new certificate needs a new code"
    )]
    Untrusted(String),
    /// The server does not know the API key, or the key has ended.
    #[error("the account's server does not know this device's API key; if it was revoked, join again")]
    Unauthorized,
    /// Another head is the newest. Holds that head, if the server names it.
    #[error("the account has a newer head")]
    Conflict(Option<HeadRef>),
    /// The server no longer keeps the heads in between.
    #[error(
        "the account's server no longer keeps the heads since this device last connected; run `guillemet account \
         repair`"
    )]
    ContinuityLost,
    /// The server received too many requests.
    #[error("the account's server asks to wait {after:?}; Guillemet tries again after that")]
    Busy {
        /// The time after which the server accepts requests again.
        after: Duration,
    },
    /// The server refused the request for any other reason.
    #[error("the account's server refused the request ({status} {code}): {message}")]
    Refused {
        /// The HTTP status of the answer.
        status: u16,
        /// The code of the error, as in openapi-account.yaml.
        code: String,
        /// The reason, and what to do about it.
        message: String,
    },
    /// The answer is not in the expected form.
    #[error(
        "the account's server sent an invalid response ({0}); check that the address is that of an account server of \
         the same version"
    )]
    Malformed(String),
}

impl From<ConnectError> for AccountClientError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Address(address) => Self::Address(address),
            ConnectError::NoRoots => Self::NoRoots,
            ConnectError::Unreachable(reason) => Self::Unreachable(reason),
            ConnectError::Untrusted(reason) => Self::Untrusted(reason),
        }
    }
}

impl AccountClientError {
    /// Returns whether the same request may succeed later without anyone's intervention.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Busy { .. } => true,
            Self::Refused { status, .. } => *status >= 500,
            _ => false,
        }
    }
}

/// The client of one server, with the API key of one device.
pub struct AccountClient {
    address: ServerAddress,
    key: Option<HeaderValue>,
    time: Duration,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

impl fmt::Debug for AccountClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.address)
    }
}

/// A request that is being put together.
struct ClientRequest<'a> {
    method: Method,
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Vec<u8>,
    key: Option<&'a HeaderValue>,
}

impl AccountClient {
    /// Makes a client of the server at `https://HOST[:PORT]`. With a pin, the server's certificate must have that
    /// SHA-256; without, this machine must trust it for the host. Reads the machine's certificates, so it can block for
    /// a moment.
    ///
    /// # Errors
    /// [`AccountClientError::Address`] if the address is not one; [`AccountClientError::NoRoots`] if the machine trusts
    /// no certificate authority and there is no pin.
    pub fn new(url: &str, pin: Option<Hash>, key: Option<&ApiKey>) -> Result<Self, AccountClientError> {
        let key = key.map(|key| {
            // A key is printable ASCII, so this cannot fail.
            let value = HeaderValue::from_str(key.expose());
            value.map(|mut value| {
                value.set_sensitive(true);
                value
            })
        });
        let key = key.transpose().map_err(|_| AccountClientError::Unauthorized)?;
        Ok(Self { address: ServerAddress::new(url, pin)?, key, time: TIME, idle: Mutex::default() })
    }

    /// Returns the account and device of the API key.
    ///
    /// # Errors
    /// See [`AccountClientError`].
    pub async fn current(&self) -> Result<CurrentDevice, AccountClientError> {
        self.fetch(self.get("/v1/accounts/current".into())).await
    }

    /// Pushes onto the head `expected`; `None` for the first head of an account.
    ///
    /// # Errors
    /// [`AccountClientError::Conflict`] with the newest head if that is not `expected`. After
    /// [`AccountClientError::Unreachable`] it is unknown whether the server accepted the push: the next pull shows it.
    pub async fn push(
        &self,
        account: AccountId,
        push: &Push,
        expected: Option<Hash>,
    ) -> Result<HeadRef, AccountClientError> {
        let mut call = self.with_body(Method::POST, format!("/v1/accounts/{account}/heads"), push)?;
        call.headers.push(match expected {
            Some(hash) => (IF_MATCH, header_value(&format!("\"{hash}\""))?),
            None => (IF_NONE_MATCH, HeaderValue::from_static("*")),
        });
        self.fetch(call).await
    }

    /// Returns a page of the changes since `from`, with at most `limit` records.
    ///
    /// # Errors
    /// [`AccountClientError::ContinuityLost`] if the server no longer keeps the heads since then.
    pub async fn changes(
        &self,
        account: AccountId,
        from: &PullCursor,
        limit: usize,
    ) -> Result<ChangesPage, AccountClientError> {
        let PullCursor { heads_after, records_after, after_id } = from;
        let mut path = format!(
            "/v1/accounts/{account}/changes?heads_after={heads_after}&records_after={records_after}&limit={limit}"
        );
        if let Some(id) = after_id {
            path.push_str(&format!("&after_id={id}"));
        }
        self.fetch(self.get(path)).await
    }

    /// Opens the stream of events. Its first event is the newest head.
    ///
    /// # Errors
    /// See [`AccountClientError`].
    pub async fn events(&self, account: AccountId) -> Result<HeadEvents, AccountClientError> {
        let call = self.get(format!("/v1/accounts/{account}/events"));
        let response = self.with_time_limit(self.send_on_new_connection(call)).await?;
        if response.status() == StatusCode::OK {
            Ok(HeadEvents::new(response.into_body()))
        } else {
            Err(self.with_time_limit(check_status(response)).await.err().unwrap_or_else(|| malformed("no error")))
        }
    }

    /// Registers an invitation, so that a device can use it.
    ///
    /// # Errors
    /// See [`AccountClientError`].
    pub async fn invite(&self, account: AccountId, invite: &InviteRegistration) -> Result<(), AccountClientError> {
        self.execute(self.with_body(Method::POST, format!("/v1/accounts/{account}/invites"), invite)?).await
    }

    /// Asks to join, with the token of an invitation. Does not send this client's API key.
    ///
    /// # Errors
    /// [`AccountClientError::Refused`] with status 403 if the token is unknown, was used by another device, or is too
    /// old.
    pub async fn enrol(
        &self,
        account: AccountId,
        token: &[u8; 32],
        enrolment: &Enrolment,
    ) -> Result<(), AccountClientError> {
        let call = self.with_body(Method::POST, format!("/v1/accounts/{account}/enrolments"), enrolment)?;
        let mut token = header_value(&Zeroizing::new(HEXLOWER.encode(token)))?;
        token.set_sensitive(true);
        let headers = [call.headers, vec![(HeaderName::from_static("x-enrolment-token"), token)]].concat();
        self.execute(ClientRequest { headers, key: None, ..call }).await
    }

    /// Returns the devices that ask to join.
    ///
    /// # Errors
    /// See [`AccountClientError`].
    pub async fn enrolments(&self, account: AccountId) -> Result<Vec<Enrolment>, AccountClientError> {
        let listing: AccountListing<Enrolment> =
            self.fetch(self.get(format!("/v1/accounts/{account}/enrolments"))).await?;
        Ok(listing.items)
    }

    /// Rejects the request of a device to join. Returns whether there was one.
    ///
    /// # Errors
    /// See [`AccountClientError`].
    pub async fn reject_enrolment(&self, account: AccountId, device: DeviceId) -> Result<bool, AccountClientError> {
        let mut call = self.get(format!("/v1/accounts/{account}/enrolments/{device}"));
        call.method = Method::DELETE;
        none_if_missing(self.execute(call).await).map(|found| found.is_some())
    }

    /// Returns the newest key of an epoch that is wrapped for this device; `None` until the device is admitted.
    ///
    /// # Errors
    /// See [`AccountClientError`].
    pub async fn wrap(&self, account: AccountId) -> Result<Option<Wrap>, AccountClientError> {
        none_if_missing(self.fetch(self.get(format!("/v1/accounts/{account}/wrap"))).await)
    }

    /// Reports the uses on this device.
    ///
    /// # Errors
    /// [`AccountClientError::Refused`] with status 409 if the server has a counter that is as high.
    pub async fn put_usage(&self, account: AccountId, usage: &UsageUpload) -> Result<(), AccountClientError> {
        self.execute(self.with_body(Method::PUT, format!("/v1/accounts/{account}/usage"), usage)?).await
    }

    /// Returns the newest report of each device.
    ///
    /// # Errors
    /// See [`AccountClientError`].
    pub async fn usage(&self, account: AccountId) -> Result<Vec<UsageUpload>, AccountClientError> {
        let listing: AccountListing<UsageUpload> =
            self.fetch(self.get(format!("/v1/accounts/{account}/usage"))).await?;
        Ok(listing.items)
    }

    fn get(&self, path: String) -> ClientRequest<'_> {
        ClientRequest { method: Method::GET, path, headers: Vec::new(), body: Vec::new(), key: self.key.as_ref() }
    }

    fn with_body(
        &self,
        method: Method,
        path: String,
        body: &impl Serialize,
    ) -> Result<ClientRequest<'_>, AccountClientError> {
        let body = serde_json::to_vec(body).map_err(|error| malformed(&error.to_string()))?;
        let headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        Ok(ClientRequest { method, path, headers, body, key: self.key.as_ref() })
    }

    async fn with_time_limit<T>(
        &self,
        work: impl Future<Output = Result<T, AccountClientError>>,
    ) -> Result<T, AccountClientError> {
        let timed_out = || AccountClientError::Unreachable(format!("no response within {:?}", self.time));
        tokio::time::timeout(self.time, work).await.map_err(|_| timed_out())?
    }

    /// Sends a request and decodes the answer.
    async fn fetch<T: DeserializeOwned>(&self, call: ClientRequest<'_>) -> Result<T, AccountClientError> {
        let bytes = self.with_time_limit(self.fetch_bytes(call)).await?;
        serde_json::from_slice(&bytes).map_err(|error| malformed(&error.to_string()))
    }

    /// Sends a request whose answer has no content.
    async fn execute(&self, call: ClientRequest<'_>) -> Result<(), AccountClientError> {
        self.with_time_limit(self.fetch_bytes(call)).await.map(drop)
    }

    async fn fetch_bytes(&self, call: ClientRequest<'_>) -> Result<Bytes, AccountClientError> {
        check_status(self.send(call).await?).await
    }

    /// Sends a request on an idle connection, or on a new one.
    async fn send(&self, call: ClientRequest<'_>) -> Result<Response<Incoming>, AccountClientError> {
        let mut request = self.request(call)?;
        while let Some(mut connection) = self.take_idle() {
            match connection.try_send_request(request).await {
                Ok(response) => {
                    self.put_idle(connection);
                    return Ok(response);
                }
                // Nothing of the request has been sent, because the server had ended the connection. So it can be sent
                // again.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(unreachable(&error.into_error())),
                },
            }
        }
        let mut connection = self.address.connect().await?;
        let response = connection.send_request(request).await.map_err(|error| unreachable(&error))?;
        self.put_idle(connection);
        Ok(response)
    }

    /// Sends a request on a new connection, which is not reused.
    async fn send_on_new_connection(&self, call: ClientRequest<'_>) -> Result<Response<Incoming>, AccountClientError> {
        let request = self.request(call)?;
        self.address.connect().await?.send_request(request).await.map_err(|error| unreachable(&error))
    }

    fn request(&self, call: ClientRequest<'_>) -> Result<Request<Full<Bytes>>, AccountClientError> {
        let mut request = Request::builder().method(call.method).uri(call.path).header(HOST, self.address.authority());
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        if let Some(key) = call.key {
            request = request.header("x-api-key", key);
        }
        request.body(Full::new(call.body.into())).map_err(|error| malformed(&error.to_string()))
    }

    fn take_idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|connection| !connection.is_closed());
        // A connection whose answer is still being read is not ready.
        let ready = idle.iter().position(SendRequest::is_ready)?;
        Some(idle.swap_remove(ready))
    }

    /// Keeps a connection for later. Its answer may still be arriving: the connection is taken again when that has been
    /// read.
    fn put_idle(&self, connection: SendRequest<Full<Bytes>>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push(connection);
        }
    }
}

/// Returns the body of a successful answer, or the error that the server reports.
async fn check_status(response: Response<Incoming>) -> Result<Bytes, AccountClientError> {
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_MAX).collect().await;
    let bytes = body
        .map_err(|error| {
            AccountClientError::Unreachable(format!("the connection was lost during the response: {error}"))
        })?
        .to_bytes();
    if parts.status.is_success() {
        return Ok(bytes);
    }
    let status = parts.status;
    let Ok(problem) = serde_json::from_slice::<ErrorBody>(&bytes) else {
        return Err(malformed(&format!("status {status}")));
    };
    Err(match (status, problem.code.as_ref()) {
        (StatusCode::UNAUTHORIZED, _) => AccountClientError::Unauthorized,
        (StatusCode::PRECONDITION_FAILED, _) => {
            let newest = problem.detail.map(|detail| serde_json::from_str(&detail)).transpose();
            AccountClientError::Conflict(newest.map_err(|error| malformed(&error.to_string()))?)
        }
        (StatusCode::CONFLICT, "continuity_lost") => AccountClientError::ContinuityLost,
        (StatusCode::TOO_MANY_REQUESTS, _) => {
            let after = parts.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            AccountClientError::Busy { after: Duration::from_secs(after.unwrap_or(1)) }
        }
        _ => {
            let mut message = problem.message;
            for ErrorEntry { field, message: reason } in problem.errors {
                message.push_str(&format!("; {field}: {reason}"));
            }
            AccountClientError::Refused { status: status.as_u16(), code: problem.code.into_owned(), message }
        }
    })
}

/// Turns a 404 into `None`.
fn none_if_missing<T>(result: Result<T, AccountClientError>) -> Result<Option<T>, AccountClientError> {
    match result {
        Err(AccountClientError::Refused { status: 404, .. }) => Ok(None),
        result => result.map(Some),
    }
}

fn header_value(text: &str) -> Result<HeaderValue, AccountClientError> {
    HeaderValue::from_str(text).map_err(|_| malformed("a header that is not text"))
}

fn malformed(reason: &str) -> AccountClientError {
    AccountClientError::Malformed(reason.to_owned())
}

fn unreachable(error: &dyn std::error::Error) -> AccountClientError {
    AccountClientError::Unreachable(with_cause(error))
}
