//! The errors of the account server, in the one form that all of them have, and the mapping from storage errors to
//! HTTP.
//!
//! Knows nothing about what is in the boxes: no message quotes a body.

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;

use super::storage::StorageError;
use guillemet_http::error::{self, ErrorHeader, ErrorTable};
use guillemet_http::query::FieldError;
use guillemet_wire::{ErrorBody, ErrorEntry};

/// The kind of an error, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerErrorCode {
    /// The request is malformed.
    BadRequest,
    /// The body is too large.
    TooLarge,
    /// The path does not support the method.
    MethodNotAllowed,
    /// There is no API key, or it is not known.
    Unauthorized,
    /// The API key does not allow this.
    Forbidden,
    /// The requested object does not exist.
    NotFound,
    /// The request conflicts with what is stored.
    Conflict,
    /// The heads in between are no longer kept.
    ContinuityLost,
    /// Another head is the newest.
    PreconditionFailed,
    /// A field has a value that is not allowed.
    Validation,
    /// The caller has reached its limit.
    RateLimited,
    /// The server cannot answer at the moment.
    Unavailable,
    /// The server has a bug.
    Internal,
}

impl ErrorTable for ServerErrorCode {
    const ALL: &'static [(Self, &'static str, u16)] = &[
        (Self::BadRequest, "bad_request", 400),
        (Self::TooLarge, "bad_request", 413),
        (Self::MethodNotAllowed, "bad_request", 405),
        (Self::Unauthorized, "unauthorized", 401),
        (Self::Forbidden, "forbidden", 403),
        (Self::NotFound, "not_found", 404),
        (Self::Conflict, "conflict", 409),
        (Self::ContinuityLost, "continuity_lost", 409),
        (Self::PreconditionFailed, "precondition_failed", 412),
        (Self::Validation, "validation_error", 422),
        (Self::RateLimited, "rate_limit_exceeded", 429),
        (Self::Unavailable, "service_unavailable", 503),
        (Self::Internal, "internal_error", 500),
    ];
}

/// An error that is about to be sent to the caller.
#[derive(Debug)]
pub struct ServerError {
    code: ServerErrorCode,
    message: String,
    detail: Option<String>,
    errors: Vec<FieldError>,
    header: Option<ErrorHeader>,
}

impl ServerError {
    /// Makes an error with only a message. The message ends with what to do.
    pub fn new(code: ServerErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: None, errors: Vec::new(), header: None }
    }

    /// Makes an error for fields of the request that have a value that is not allowed, as (field, message).
    pub fn fields(errors: Vec<FieldError>) -> Self {
        Self { errors, ..Self::new(ServerErrorCode::Validation, "invalid fields") }
    }

    /// Makes the error for a key that belongs to another account or does not allow the request. It is the same whether
    /// there is such an account or not.
    pub fn forbidden() -> Self {
        Self::new(
            ServerErrorCode::Forbidden,
            "this API key is not allowed to do this; use an account and API key that belong together",
        )
    }

    /// Makes the error for a missing or unknown API key.
    pub fn unauthorized() -> Self {
        let message = "X-API-Key must contain the API key of a device in the account; the key of a revoked device is \
             no longer valid";
        Self::new(ServerErrorCode::Unauthorized, message)
    }

    /// Makes the error for a caller that has reached its limit. `seconds` is the time until it can try again.
    pub fn rate_limited(message: &str, seconds: u64) -> Self {
        let header = Some(ErrorHeader::RetryAfter(seconds.max(1)));
        Self { header, ..Self::new(ServerErrorCode::RateLimited, message) }
    }

    /// Makes the error for a method that the path does not support. `methods` are those that it does.
    pub fn other_methods(methods: String) -> Self {
        let error = Self::new(ServerErrorCode::MethodNotAllowed, format!("this path only supports {methods}"));
        Self { header: Some(ErrorHeader::Allow(methods.into())), ..error }
    }

    /// Makes the response that is sent to the caller.
    pub fn response(self) -> Response<Full<Bytes>> {
        let Self { code, message, detail, errors, header } = self;
        let errors = errors.into_iter().map(|(field, message)| ErrorEntry { field, message }).collect();
        let body = ErrorBody { code: code.name().into(), message, detail, errors };
        error::response(code.status(), &body, header.as_ref())
    }
}

/// A response that cannot be written as JSON, which is logged.
impl From<serde_json::Error> for ServerError {
    fn from(error: serde_json::Error) -> Self {
        tracing::error!(%error, "a response could not be written");
        Self::new(ServerErrorCode::Internal, "internal error in the account server; see its log")
    }
}

impl From<StorageError> for ServerError {
    fn from(error: StorageError) -> Self {
        let message = error.to_string();
        match error {
            StorageError::Behind(newest) => match newest.map(|newest| serde_json::to_string(&newest)).transpose() {
                Ok(detail) => Self { detail, ..Self::new(ServerErrorCode::PreconditionFailed, message) },
                Err(error) => error.into(),
            },
            StorageError::ContinuityLost { .. } => Self::new(ServerErrorCode::ContinuityLost, message),
            StorageError::Refused(errors) => Self::fields(errors),
            StorageError::Token => Self::new(ServerErrorCode::Forbidden, message),
            StorageError::NotHigher { .. } | StorageError::Taken => Self::new(ServerErrorCode::Conflict, message),
            StorageError::NoHead(_) => Self::new(ServerErrorCode::NotFound, message),
            // The account or the key has ended since the key was looked up.
            StorageError::NoAccount | StorageError::Ended => Self::unauthorized(),
            StorageError::Stopped => Self::new(ServerErrorCode::Unavailable, message),
            StorageError::Database(_) | StorageError::NewerFormat { .. } | StorageError::Locked(_) => {
                // The message of the database is for the operator, not for the caller.
                tracing::error!(error = message, "a request failed");
                Self::new(ServerErrorCode::Unavailable, "the account server cannot reach its database; try again later")
            }
        }
    }
}
