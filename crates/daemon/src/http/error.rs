//! The one form of errors over HTTP, and the one place that turns an [`AppError`] into an HTTP response.
//!
//! Holds no value (promise Blind), because the modules that messages come from never had one.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Response, StatusCode};

use crate::app::error::{AppError, ErrorCode};
use crate::resolve::budget::Exhausted;
use guillemet_api::error::{ErrorBody, ErrorEntry};
use guillemet_http::error::{self, ErrorHeader, ErrorTable};

/// What went wrong, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpErrorCode {
    /// The request is malformed or its body arrived too slowly.
    BadRequest,
    /// The body is larger than `request::BODY_MAX`, 1 MiB.
    TooLarge,
    /// The path does not support this method.
    MethodNotAllowed,
    /// The caller already has all the connections or streams that it may have.
    RateLimited,
    /// A service returned an error of this kind.
    App(ErrorCode),
}

/// Makes a row of [`HttpErrorCode::ALL`].
const fn app(code: ErrorCode, status: u16) -> (HttpErrorCode, &'static str, u16) {
    (HttpErrorCode::App(code), code.name(), status)
}

impl ErrorTable for HttpErrorCode {
    const ALL: &'static [(Self, &'static str, u16)] = &[
        (Self::BadRequest, "bad_request", 400),
        (Self::TooLarge, "bad_request", 413),
        (Self::MethodNotAllowed, "bad_request", 405),
        app(ErrorCode::Forbidden, 403),
        app(ErrorCode::NotFound, 404),
        app(ErrorCode::Conflict, 409),
        app(ErrorCode::SecretUnavailable, 409),
        app(ErrorCode::Validation, 422),
        app(ErrorCode::TemplateInvalid, 422),
        (Self::RateLimited, "rate_limit_exceeded", 429),
        app(ErrorCode::PluginFailed, 502),
        app(ErrorCode::Unavailable, 503),
        app(ErrorCode::Internal, 500),
    ];
}

/// An error as a response: of a service, or of the request itself.
#[derive(Debug)]
pub struct HttpError {
    code: HttpErrorCode,
    body: Box<ErrorBody>,
    /// Whether it is a refusal that has been recorded in the audit trail.
    is_recorded: bool,
    header: Option<ErrorHeader>,
}

impl HttpError {
    /// Makes an error with only a message, which should end with what to do.
    pub fn new(code: HttpErrorCode, message: impl Into<String>) -> Self {
        let body = ErrorBody { code: code.name().into(), message: message.into(), detail: None, errors: Vec::new() };
        Self { code, body: Box::new(body), is_recorded: false, header: None }
    }

    /// Makes the error for a method that is not among those that a path supports, which are separated by commas.
    pub fn method_not_allowed(methods: String) -> Self {
        let error = Self::new(HttpErrorCode::MethodNotAllowed, format!("this path only supports {methods}"));
        Self { header: Some(ErrorHeader::Allow(methods.into())), ..error }
    }

    /// Returns whether it is a refusal that has not been recorded in the audit trail yet.
    pub fn is_unrecorded_refusal(&self) -> bool {
        self.code == HttpErrorCode::App(ErrorCode::Forbidden) && !self.is_recorded
    }

    /// Returns the HTTP status of the response.
    pub fn status(&self) -> StatusCode {
        self.code.status()
    }

    /// Returns what is wrong and what to do.
    pub fn message(&self) -> &str {
        &self.body.message
    }

    /// Returns further advice, if there is any.
    pub fn detail(&self) -> Option<&str> {
        self.body.detail.as_deref()
    }

    /// Returns everything that is wrong, one entry for each.
    pub fn errors(&self) -> &[ErrorEntry] {
        &self.body.errors
    }

    /// Returns the error as a response of the API.
    pub fn response(&self) -> Response<Full<Bytes>> {
        error::response(self.status(), &self.body, self.header.as_ref())
    }

    /// Returns the body of that response: JSON and a newline.
    pub fn body(&self) -> Vec<u8> {
        error::bytes(&self.body)
    }
}

impl From<AppError> for HttpError {
    fn from(error: AppError) -> Self {
        let mut refusal = Self::new(HttpErrorCode::App(error.code()), error.to_string());
        refusal.body.detail = error.detail();
        refusal.body.errors = error.entries();
        refusal.is_recorded = matches!(error, AppError::Forbidden { is_recorded: true, .. });
        refusal.header = error.retry_after().map(|seconds| ErrorHeader::RetryAfter(seconds.into()));
        refusal
    }
}

impl From<Exhausted> for HttpError {
    fn from(error: Exhausted) -> Self {
        AppError::from(error).into()
    }
}
