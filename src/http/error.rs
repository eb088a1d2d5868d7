//! The one shape of every error over HTTP, and the one place where an error of the application becomes HTTP.
//!
//! Knows no value: messages come from modules that never had one.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};

use crate::app::error::{AppError, ErrorCode};
use crate::resolve::budget::Exhausted;
use guillemet_api::error::{ErrorBody, ErrorEntry};

/// The body of an error that cannot be written, which no error is.
const UNWRITABLE: &[u8] = br#"{"code":"internal_error","message":"the daemon failed inside; its log says where"}"#;

/// What went wrong, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The request is malformed.
    BadRequest,
    /// The body is larger than 1 MiB.
    TooLarge,
    /// The path does not take this method.
    MethodNotAllowed,
    /// The caller has as many connections or streams as it gets.
    RateLimited,
    /// A service failed.
    App(ErrorCode),
}

/// A row of `Code::ALL`.
const fn app(code: ErrorCode, status: u16) -> (Code, &'static str, u16) {
    (Code::App(code), code.name(), status)
}

impl Code {
    /// All of them, with the code and the status of the answer.
    pub const ALL: [(Self, &'static str, u16); 13] = [
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

    fn row(self) -> (&'static str, StatusCode) {
        let row = Self::ALL.iter().find(|(code, ..)| *code == self);
        let (_, name, status) = row.copied().unwrap_or(app(ErrorCode::Internal, 500));
        (name, StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
    }
}

/// An error on its way out: of a service, or of the request itself.
#[derive(Debug)]
pub struct HttpError {
    code: Code,
    body: ErrorBody,
    /// Whether the refusal that this is has been recorded.
    is_recorded: bool,
    /// In seconds.
    retry_after: Option<u32>,
}

impl HttpError {
    /// Returns an error with nothing but a message, which ends with what to do.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let body = ErrorBody { code: code.row().0.into(), message: message.into(), detail: None, errors: Vec::new() };
        Self { code, body, is_recorded: false, retry_after: None }
    }

    /// Returns whether it is a refusal of the caller that nobody has recorded yet.
    pub fn is_unrecorded_refusal(&self) -> bool {
        self.code == Code::App(ErrorCode::Forbidden) && !self.is_recorded
    }

    /// Returns the status of its answer.
    pub fn status(&self) -> StatusCode {
        self.code.row().1
    }

    /// Returns what is wrong, and what to do.
    pub fn message(&self) -> &str {
        &self.body.message
    }

    /// Returns what more there is to say.
    pub fn detail(&self) -> Option<&str> {
        self.body.detail.as_deref()
    }

    /// Returns everything that is wrong, one entry each.
    pub fn errors(&self) -> &[ErrorEntry] {
        &self.body.errors
    }

    /// Returns the answer of the API.
    pub fn response(&self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body().into()));
        *response.status_mut() = self.status();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }

    /// Returns the body of that answer: JSON and a line end.
    pub fn body(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(&self.body).unwrap_or_else(|_| UNWRITABLE.into());
        bytes.push(b'\n');
        bytes
    }
}

impl From<AppError> for HttpError {
    fn from(error: AppError) -> Self {
        let mut refusal = Self::new(Code::App(error.code()), error.to_string());
        refusal.body.detail = error.detail();
        refusal.body.errors = error.entries();
        refusal.is_recorded = matches!(error, AppError::Forbidden { is_recorded: true, .. });
        refusal.retry_after = error.retry_after();
        refusal
    }
}

impl From<Exhausted> for HttpError {
    fn from(error: Exhausted) -> Self {
        AppError::from(error).into()
    }
}
