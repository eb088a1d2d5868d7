//! The one shape of every error, and the one place where an error of any module becomes HTTP.
//!
//! Knows no value: messages come from modules that never had one.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

use crate::inventory::{InventoryError, ReferenceView};
use crate::plugin::registry::AddError;
use crate::resolve::budget::Exhausted;
use crate::resolve::plans::Unplanned;
use crate::resolve::{Reason, Refused};
use crate::template::Problem;
use crate::template::catalog::Unwritable;

/// After how many seconds a caller may try again for whose bytes there is no room: most answers are taken within one.
const RETRY_SECONDS: u32 = 1;

/// What went wrong, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The request is not one.
    BadRequest,
    /// The body is larger than 1 MiB.
    TooLarge,
    /// The path knows other methods only.
    MethodNotAllowed,
    /// This caller may not.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// It is in the way of something else.
    Conflict,
    /// A secret is missing or disabled.
    SecretUnavailable,
    /// A field holds what it cannot hold.
    Validation,
    /// A template is wrong.
    TemplateInvalid,
    /// The caller has as much as it gets.
    RateLimited,
    /// A plugin is wrong.
    PluginFailed,
    /// Not now.
    Unavailable,
    /// A mistake of this program.
    Internal,
}

impl Code {
    /// All of them, with the code and the status of the answer.
    pub const ALL: [(Self, &'static str, u16); 13] = [
        (Self::BadRequest, "bad_request", 400),
        (Self::TooLarge, "bad_request", 413),
        (Self::MethodNotAllowed, "bad_request", 405),
        (Self::Forbidden, "forbidden", 403),
        (Self::NotFound, "not_found", 404),
        (Self::Conflict, "conflict", 409),
        (Self::SecretUnavailable, "secret_unavailable", 409),
        (Self::Validation, "validation_error", 422),
        (Self::TemplateInvalid, "template_invalid", 422),
        (Self::RateLimited, "rate_limit_exceeded", 429),
        (Self::PluginFailed, "plugin_failed", 502),
        (Self::Unavailable, "service_unavailable", 503),
        (Self::Internal, "internal_error", 500),
    ];

    /// Returns it as the API spells it.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    fn row(self) -> (&'static str, StatusCode) {
        let row = Self::ALL.iter().find(|(code, ..)| *code == self);
        let (_, name, status) = row.copied().unwrap_or((Self::Internal, "internal_error", 500));
        (name, StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
    }
}

/// An error on its way out.
#[derive(Debug)]
pub struct ApiError {
    code: Code,
    message: String,
    detail: Option<String>,
    errors: Vec<Value>,
    /// Whether it may quote the text of a template.
    quotes: bool,
    /// Whether what was asked for was done, and something behind it failed.
    after_the_fact: bool,
    /// Whether the refusal that this is has been recorded.
    recorded: bool,
    retry_after: Option<u32>,
}

impl ApiError {
    /// With nothing but a message, which ends with what to do.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            detail: None,
            errors: Vec::new(),
            quotes: false,
            after_the_fact: false,
            recorded: false,
            retry_after: None,
        }
    }

    /// With everything that is wrong, one entry each.
    pub fn with<T: Serialize>(code: Code, message: impl Into<String>, errors: impl IntoIterator<Item = T>) -> Self {
        let errors = errors.into_iter().map(|error| serde_json::to_value(error).unwrap_or_default());
        Self { errors: errors.collect(), ..Self::new(code, message) }
    }

    /// Adds what more there is to say.
    #[must_use]
    pub fn with_detail(self, detail: Option<String>) -> Self {
        Self { detail: detail.or(self.detail), ..self }
    }

    /// What a caller is told for whose bytes there is no room now.
    pub fn exhausted() -> Self {
        let message = "this user has as much under way as it gets (limits.in_flight_mib); read the answers it has, ask for \
                       less at once, or try again";
        Self::busy(message)
    }

    /// What a caller is told who may try again in a moment.
    pub fn busy(message: &str) -> Self {
        Self { retry_after: Some(RETRY_SECONDS), ..Self::new(Code::Unavailable, message) }
    }

    /// What a caller is told that may not: the same, whatever it asked for.
    pub fn forbidden() -> Self {
        Self::new(Code::Forbidden, super::endpoints::FORBIDDEN)
    }

    /// Fields of the request that hold what they cannot hold: (field, message).
    pub fn fields(errors: Vec<(String, String)>) -> Self {
        let entries = errors.into_iter().map(|(field, message)| json!({"field": field, "message": message}));
        Self::with(Code::Validation, "the request holds what it cannot hold", entries)
    }

    /// What a caller is told where a part of the daemon failed.
    pub fn internal() -> Self {
        Self::new(Code::Internal, "the request failed inside; the daemon's log says where")
    }

    /// What went wrong, as programs are told.
    pub fn code(&self) -> &'static str {
        self.code.row().0
    }

    /// The same refusal, recorded with what it is of.
    #[must_use]
    pub fn recorded(self) -> Self {
        Self { recorded: true, ..self }
    }

    /// Whether a caller may not, and nobody has recorded that yet.
    pub fn is_unrecorded_refusal(&self) -> bool {
        self.code == Code::Forbidden && !self.recorded
    }

    /// Whether what was asked for was done, and something behind it failed.
    pub fn is_after_the_fact(&self) -> bool {
        self.after_the_fact
    }

    /// The status of its answer.
    pub fn status(&self) -> StatusCode {
        self.code.row().1
    }

    /// What is wrong, and what to do.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What more there is to say.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// Everything that is wrong, one entry each.
    pub fn errors(&self) -> &[Value] {
        &self.errors
    }

    /// The answer.
    pub fn response(&self) -> Response<Full<Bytes>> {
        let (_, status) = self.code.row();
        let mut response = Response::new(Full::new(self.body().into()));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }

    /// The body of the answer: JSON and a line end.
    pub fn body(&self) -> Vec<u8> {
        let (name, _) = self.code.row();
        let mut body = json!({"code": name, "message": self.message});
        if let Some(detail) = &self.detail {
            body["detail"] = detail.as_str().into();
        }
        if !self.errors.is_empty() {
            body["errors"] = self.errors.clone().into();
        }
        let mut bytes = body.to_string().into_bytes();
        bytes.push(b'\n');
        bytes
    }
}

impl From<InventoryError> for ApiError {
    fn from(error: InventoryError) -> Self {
        let message = error.to_string();
        match error {
            InventoryError::NotFound(_) | InventoryError::Renamed { .. } => Self::new(Code::NotFound, message),
            InventoryError::Missing { references, .. } => {
                let entry = |reference: ReferenceView| {
                    let mut entry = serde_json::to_value(reference).unwrap_or_default();
                    entry["message"] = "named here".into();
                    entry
                };
                Self::with(Code::NotFound, message, references.into_iter().map(entry))
            }
            InventoryError::Taken(_) => {
                Self::with(Code::Conflict, message.clone(), [json!({"field": "name", "message": message})])
            }
            InventoryError::Conflict(_) => Self::new(Code::Conflict, message),
            InventoryError::NotRewritten { .. } => Self { after_the_fact: true, ..Self::new(Code::Conflict, message) },
            InventoryError::Value(_) => Self::fields(vec![("value".into(), message)]),
            InventoryError::Version(_) => Self::fields(vec![("version".into(), message)]),
            InventoryError::Unwritable { files, .. } => {
                let entry =
                    |file: Unwritable| json!({"field": null, "template": file.template, "message": file.message});
                Self::with(Code::Conflict, message, files.into_iter().map(entry))
            }
            InventoryError::Referenced { blockers, .. } => {
                let mut error = Self::with(Code::Conflict, message, blockers);
                error.detail = Some(
                    "take the references out of the templates, then delete it; disabling it refuses every \
                                     further resolution at once"
                        .into(),
                );
                error
            }
            InventoryError::Formerly { holder, blockers, .. } => {
                let mut error = Self::with(Code::Conflict, message, blockers);
                error.detail = Some(format!(
                    "`guillemet secret edit {holder} --rewrite` writes its present name into the templates; the name is \
                     free then"
                ));
                error
            }
            InventoryError::Vault(_) | InventoryError::Usage(_) => Self::new(Code::Unavailable, message),
        }
    }
}

impl From<Exhausted> for ApiError {
    fn from(_: Exhausted) -> Self {
        Self::exhausted()
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Unrecorded(why) => Self::new(Code::Unavailable, why),
            Refused::Exhausted => Self::exhausted(),
            Refused::Secrets(faults) => {
                let unfit = faults.iter().all(|fault| fault.reason == Reason::Unfit);
                let (code, message) = if unfit {
                    (Code::Validation, "a value cannot stand in its place; nothing was rendered")
                } else {
                    (Code::SecretUnavailable, "a secret is not to be had; nothing was resolved")
                };
                Self::with(code, message, faults)
            }
        }
    }
}

/// Problems of a template as entries of `errors`.
fn problem_entry(template: Option<&str>, problem: &Problem) -> Value {
    let mut entry = serde_json::to_value(problem).unwrap_or_default();
    entry["field"] = problem.path.as_str().into();
    if let Some(template) = template {
        entry["template"] = template.into();
    }
    entry
}

impl ApiError {
    /// Why a template has no plan; `template` is its id, or nothing where it came with the request.
    pub fn unplanned(template: Option<&str>, unplanned: &Unplanned) -> Self {
        let shown = template.map_or_else(|| "the template".into(), |id| format!("template `{id}`"));
        let error = match unplanned {
            Unplanned::Problems(problems) | Unplanned::File(problems) => Self::with(
                Code::TemplateInvalid,
                match template {
                    Some(id) => format!("{shown} cannot be rendered; `guillemet template check {id}` shows why"),
                    None => format!("{shown} cannot be rendered"),
                },
                problems.iter().map(|problem| problem_entry(template, problem)),
            ),
            Unplanned::Plugin(message) => Self::with(
                Code::PluginFailed,
                format!("{shown} cannot be rendered: {message}"),
                [problem_entry(template, &Problem { message: message.clone(), ..Problem::default() })],
            ),
            Unplanned::NoTarget(targets) => Self::with(
                Code::NotFound,
                format!("{shown} has no such target; there are {}", targets.join(", ")),
                [json!({"field": "target", "message": format!("one of {}", targets.join(", "))})],
            ),
        };
        Self { quotes: matches!(unplanned, Unplanned::Problems(_) | Unplanned::Plugin(_)), ..error }
    }

    /// Returns the same for a caller who may render the template `id` and not read it: where it is wrong, and nothing
    /// that could quote it. Parsers and plugins write what they like.
    pub fn without_quotes(self, id: &str) -> Self {
        if !self.quotes {
            return self;
        }
        let message = format!("template `{id}` cannot be rendered; `guillemet template check {id}` shows why");
        let entry = |error: &Value| {
            let problem = Problem {
                line: error["line"].as_u64().and_then(|line| line.try_into().ok()),
                column: error["column"].as_u64().and_then(|column| column.try_into().ok()),
                message: "it cannot be rendered; an administrator can see why".into(),
                ..Problem::default()
            };
            problem_entry(Some(id), &problem)
        };
        Self::with(self.code, message, self.errors.iter().map(entry))
    }
}

impl From<AddError> for ApiError {
    fn from(error: AddError) -> Self {
        let code = match error {
            AddError::Unreadable(_) => Code::NotFound,
            AddError::Unkept(_) => Code::Unavailable,
            AddError::Unfit(_) => Code::Validation,
            AddError::Changed(_) | AddError::Taken(_) => Code::Conflict,
        };
        Self::new(code, error.to_string())
    }
}
