//! Why a service of the daemon did not do what it was asked for.
//!
//! Knows neither who asks nor over what: the API makes an answer of an error, the console a page. Holds no value, since
//! the modules it comes from never had one.

use std::path::PathBuf;
use std::sync::Arc;

use super::configuration::Refused as RefusedConfiguration;
use crate::account::client::ClientError;
use crate::account::engine::Unprepared;
use crate::inventory::{AccountError, BlockerView, InventoryError};
use crate::resolve::budget::Exhausted;
use crate::resolve::{Fault, Reason, Refused};
use crate::sync::SyncError;
use guillemet_api::error::ErrorEntry;
use guillemet_base::names::SecretName;
use guillemet_plugin::plans::Unplanned;
use guillemet_plugin::registry::AddError;
use guillemet_template::Problem;
use guillemet_template::catalog::Unwritable;

/// After how many seconds a caller may try again for whose bytes there is no room: most answers are taken within one.
const RETRY_SECONDS: u32 = 1;
/// What a caller is told that may not.
const FORBIDDEN: &str = "this caller may not do that; a [[client]] rule of guillemet.toml can allow it";
/// The same of one secret.
const FORBIDDEN_SECRET: &str = "no rule allows this caller to resolve this secret by its name";

/// The kind of an error, for programs. The audit trail keeps its name with a change that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// The caller lacks the right.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// The present state does not allow it.
    Conflict,
    /// A secret is missing or disabled.
    SecretUnavailable,
    /// A field is invalid.
    Validation,
    /// A template cannot be rendered.
    TemplateInvalid,
    /// A plugin failed.
    PluginFailed,
    /// It cannot be done now, and may be tried again.
    Unavailable,
    /// The daemon failed inside.
    Internal,
}

impl ErrorCode {
    /// Returns the code as the API and the audit trail spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::SecretUnavailable => "secret_unavailable",
            Self::Validation => "validation_error",
            Self::TemplateInvalid => "template_invalid",
            Self::PluginFailed => "plugin_failed",
            Self::Unavailable => "service_unavailable",
            Self::Internal => "internal_error",
        }
    }
}

/// Why a service failed. `Display` says what is wrong and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The inventory refused a change, or cannot be read.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// The account, or the way to its server.
    #[error("{}", sync_message(.0))]
    Sync(SyncError),
    /// A plugin cannot be added.
    #[error(transparent)]
    Plugin(#[from] AddError),
    /// The configuration file has mistakes; what was in force still is.
    #[error("the configuration cannot be used, and the one in force stays; nothing was changed")]
    Configuration {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        refused: Arc<RefusedConfiguration>,
    },
    /// Secrets of a render or a resolve cannot be used.
    #[error("{}", faults_message(.0))]
    Secrets(Vec<Fault>),
    /// A template has no plan.
    #[error("{}", .0.message())]
    Template(TemplateError),
    /// The caller lacks the right. The message is the same whatever it asked for.
    #[error("{FORBIDDEN}")]
    Forbidden {
        /// The secrets it may not resolve, where these are the reason.
        secrets: Vec<ForbiddenSecret>,
        /// Whether the refusal is in the audit trail already.
        is_recorded: bool,
    },
    /// Fields that are invalid, each with what is wrong with it.
    #[error("the request holds what it cannot hold")]
    Invalid(Vec<(String, String)>),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// The target a template is rendered for, given by its id, is not the one that the caller has a copy of.
    #[error("the target `{0}` is not the one of guillemet-if-target")]
    OtherTarget(String),
    /// It cannot be done now.
    #[error("{0}")]
    Unavailable(String),
    /// It cannot be done now, and a moment later it can be.
    #[error("{0}")]
    Busy(&'static str),
    /// The caller's user has no memory left for answers.
    #[error(
        "this user has as much under way as it gets (limits.in_flight_mib); read the answers it has, ask for less at once, \
         or try again"
    )]
    Exhausted,
    /// The daemon failed inside.
    #[error("{0}")]
    Internal(&'static str),
}

/// A secret that a caller may not resolve by the name it used.
#[derive(Clone, Debug)]
pub struct ForbiddenSecret {
    /// The field of the request that names it.
    field: String,
    message: &'static str,
    name: Option<SecretName>,
    line: Option<u32>,
    column: Option<u32>,
}

impl ForbiddenSecret {
    /// Describes an entry of a list in the request.
    pub fn of_field(field: String) -> Self {
        Self { field, message: FORBIDDEN_SECRET, name: None, line: None, column: None }
    }

    /// Describes a reference in a template that came with the request; line and column count from 1.
    pub fn of_reference(name: SecretName, line: u32, column: u32) -> Self {
        let (name, line, column) = (Some(name), Some(line), Some(column));
        Self { field: "template".into(), message: FORBIDDEN_SECRET, name, line, column }
    }
}

/// Why a template has no plan, and how much of that the caller may read.
#[derive(Debug)]
pub struct TemplateError {
    /// Its id; `None` where the template came with the request.
    template: Option<String>,
    cause: Unplanned,
    /// What else may be the reason.
    hint: Option<String>,
    /// Whether the caller may render the template and not read it.
    is_redacted: bool,
}

impl TemplateError {
    /// Returns the error of a stored template, or of one that came with the request (`None`).
    pub fn new(template: Option<&str>, cause: Unplanned) -> Self {
        Self { template: template.map(str::to_owned), cause, hint: None, is_redacted: false }
    }

    /// Adds what else may be the reason.
    #[must_use]
    pub fn with_hint(self, hint: Option<String>) -> Self {
        Self { hint, ..self }
    }

    /// Returns the same for a caller who may render the template and not read it: where it is wrong, and nothing that
    /// could quote it. Parsers and plugins write what they like.
    #[must_use]
    pub fn without_quotes(self) -> Self {
        match self.cause {
            Unplanned::Problems(_) | Unplanned::Plugin(_) => Self { hint: None, is_redacted: true, ..self },
            Unplanned::File(_) | Unplanned::NoTarget(_) => self,
        }
    }

    fn code(&self) -> ErrorCode {
        match self.cause {
            Unplanned::Problems(_) | Unplanned::File(_) => ErrorCode::TemplateInvalid,
            Unplanned::Plugin(_) => ErrorCode::PluginFailed,
            Unplanned::NoTarget(_) => ErrorCode::NotFound,
        }
    }

    fn message(&self) -> String {
        let shown = self.template.as_ref().map_or_else(|| "the template".into(), |id| format!("template `{id}`"));
        match (&self.cause, &self.template) {
            (Unplanned::Plugin(message), _) if !self.is_redacted => format!("{shown} cannot be rendered: {message}"),
            (Unplanned::NoTarget(targets), _) => {
                format!("{shown} has no such target; there are {}", targets.join(", "))
            }
            (_, Some(id)) => format!("{shown} cannot be rendered; `guillemet template check {id}` shows why"),
            (_, None) => format!("{shown} cannot be rendered"),
        }
    }

    fn entries(&self) -> Vec<ErrorEntry> {
        match &self.cause {
            Unplanned::Problems(problems) | Unplanned::File(problems) => {
                problems.iter().map(|problem| self.entry(problem)).collect()
            }
            Unplanned::Plugin(message) => {
                vec![self.entry(&Problem { message: message.clone(), ..Problem::default() })]
            }
            Unplanned::NoTarget(targets) => {
                vec![ErrorEntry::of_field(Some("target"), format!("one of {}", targets.join(", ")))]
            }
        }
    }

    fn entry(&self, problem: &Problem) -> ErrorEntry {
        let mut entry = if self.is_redacted {
            let message = "it cannot be rendered; an administrator can see why".into();
            ErrorEntry::of_problem(&Problem {
                line: problem.line,
                column: problem.column,
                message,
                ..Problem::default()
            })
        } else {
            ErrorEntry::of_problem(problem)
        };
        entry.template.clone_from(&self.template);
        entry
    }
}

impl AppError {
    /// Returns the error of a caller that lacks the right, which nobody has recorded yet.
    pub fn forbidden() -> Self {
        Self::Forbidden { secrets: Vec::new(), is_recorded: false }
    }

    /// Returns the same for a refusal that is in the audit trail, with the secrets that are the reason.
    pub fn forbidden_and_recorded(secrets: Vec<ForbiddenSecret>) -> Self {
        Self::Forbidden { secrets, is_recorded: true }
    }

    /// Returns the error of a service whose thread failed.
    pub fn internal() -> Self {
        Self::Internal("the request failed inside; the daemon's log says where")
    }

    /// Returns the error of one field.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid(vec![(field.into(), message.into())])
    }

    /// Returns the kind of the error, for programs.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Inventory(error) => inventory_code(error),
            Self::Sync(trouble) => sync_code(trouble),
            Self::Plugin(error) => match error {
                AddError::Unreadable(_) => ErrorCode::NotFound,
                AddError::Unkept(_) => ErrorCode::Unavailable,
                AddError::Unfit(_) => ErrorCode::Validation,
                AddError::Changed(_) | AddError::Taken(_) => ErrorCode::Conflict,
            },
            Self::Secrets(faults) if are_unfit(faults) => ErrorCode::Validation,
            Self::Secrets(_) => ErrorCode::SecretUnavailable,
            Self::Template(error) => error.code(),
            Self::Forbidden { .. } => ErrorCode::Forbidden,
            Self::Configuration { .. } | Self::Invalid(_) => ErrorCode::Validation,
            Self::NotFound(_) => ErrorCode::NotFound,
            Self::OtherTarget(_) => ErrorCode::Conflict,
            Self::Unavailable(_) | Self::Busy(_) | Self::Exhausted => ErrorCode::Unavailable,
            Self::Internal(_) => ErrorCode::Internal,
        }
    }

    /// Returns what more there is to say, for people.
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Inventory(InventoryError::Referenced { .. }) => Some(
                "take the references out of the templates, then delete it; disabling it refuses every further resolution \
                 at once"
                    .into(),
            ),
            Self::Inventory(InventoryError::Formerly { holder, .. }) => Some(format!(
                "`guillemet secret edit {holder} --rewrite` writes its present name into the templates; the name is free \
                 then"
            )),
            Self::Template(error) => error.hint.clone(),
            _ => None,
        }
    }

    /// Returns everything that is wrong, one entry each.
    pub fn entries(&self) -> Vec<ErrorEntry> {
        match self {
            Self::Inventory(error) => inventory_entries(error),
            Self::Sync(trouble) => sync_entries(trouble),
            Self::Configuration { file, refused } => {
                let entry = |problem: &Problem| {
                    let mut entry = ErrorEntry::of_problem(problem);
                    entry.file = Some(file.to_string_lossy().into_owned());
                    entry
                };
                refused.problems.iter().map(entry).collect()
            }
            Self::Secrets(faults) => faults.iter().map(fault_entry).collect(),
            Self::Template(error) => error.entries(),
            Self::Forbidden { secrets, .. } => secrets.iter().map(forbidden_entry).collect(),
            Self::Invalid(fields) => {
                fields.iter().map(|(field, message)| ErrorEntry::of_field(Some(field), message)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Returns after how many seconds the caller may try again, where that is known.
    pub fn retry_after(&self) -> Option<u32> {
        matches!(self, Self::Busy(_) | Self::Exhausted).then_some(RETRY_SECONDS)
    }

    /// Returns whether the change was made, and only something behind it failed.
    pub fn is_after_the_fact(&self) -> bool {
        matches!(self, Self::Inventory(InventoryError::NotRewritten { .. }))
    }

    /// Returns the same for a caller who may render a template and not read it.
    #[must_use]
    pub fn without_quotes(self) -> Self {
        match self {
            Self::Template(error) => Self::Template(error.without_quotes()),
            error => error,
        }
    }
}

impl From<Exhausted> for AppError {
    fn from(_: Exhausted) -> Self {
        Self::Exhausted
    }
}

impl From<Refused> for AppError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Unrecorded(why) => Self::Unavailable(why),
            Refused::Exhausted => Self::Exhausted,
            Refused::Secrets(faults) => Self::Secrets(faults),
        }
    }
}

impl From<SyncError> for AppError {
    fn from(trouble: SyncError) -> Self {
        match trouble {
            SyncError::Account(AccountError::Inventory(error)) => Self::Inventory(error),
            trouble => Self::Sync(trouble),
        }
    }
}

fn fault_entry(fault: &Fault) -> ErrorEntry {
    let mut entry = ErrorEntry::of_secret(&fault.field, &fault.message);
    entry.name = Some(fault.name.clone());
    entry.reason = Some(fault.reason.code().into());
    entry.template.clone_from(&fault.template);
    (entry.line, entry.column) = (fault.line, fault.column);
    entry
}

fn forbidden_entry(secret: &ForbiddenSecret) -> ErrorEntry {
    let mut entry = ErrorEntry::of_secret(&secret.field, secret.message);
    entry.name = secret.name.as_ref().map(SecretName::to_string);
    (entry.line, entry.column) = (secret.line, secret.column);
    entry
}

fn blocker_entry(blocker: &BlockerView) -> ErrorEntry {
    let mut entry = ErrorEntry::of_reference(blocker.reference.clone(), &blocker.message);
    entry.reason = Some(blocker.reason.code().into());
    entry.retry_after_ms = blocker.retry_after_ms;
    entry
}

fn are_unfit(faults: &[Fault]) -> bool {
    faults.iter().all(|fault| fault.reason == Reason::Unfit)
}

fn faults_message(faults: &[Fault]) -> &'static str {
    match are_unfit(faults) {
        true => "a value cannot stand in its place; nothing was rendered",
        false => "a secret is not to be had; nothing was resolved",
    }
}

fn inventory_code(error: &InventoryError) -> ErrorCode {
    match error {
        InventoryError::NotFound(_) | InventoryError::Renamed { .. } | InventoryError::Missing { .. } => {
            ErrorCode::NotFound
        }
        InventoryError::Taken(_)
        | InventoryError::Conflict(_)
        | InventoryError::NotRewritten { .. }
        | InventoryError::Unwritable { .. }
        | InventoryError::Referenced { .. }
        | InventoryError::Formerly { .. } => ErrorCode::Conflict,
        InventoryError::Value(_) | InventoryError::Version(_) => ErrorCode::Validation,
        InventoryError::Vault(_) | InventoryError::Usage(_) => ErrorCode::Unavailable,
    }
}

fn inventory_entries(error: &InventoryError) -> Vec<ErrorEntry> {
    let of_field = |field| vec![ErrorEntry::of_field(Some(field), error.to_string())];
    match error {
        InventoryError::Missing { references, .. } => {
            references.iter().map(|reference| ErrorEntry::of_reference(reference.clone(), "named here")).collect()
        }
        InventoryError::Taken(_) => of_field("name"),
        InventoryError::Value(_) => of_field("value"),
        InventoryError::Version(_) => of_field("version"),
        InventoryError::Unwritable { files, .. } => {
            let entry = |file: &Unwritable| {
                let mut entry = ErrorEntry::of_field(None::<String>, &file.message);
                entry.template = Some(file.template.clone());
                entry
            };
            files.iter().map(entry).collect()
        }
        InventoryError::Referenced { blockers, .. } | InventoryError::Formerly { blockers, .. } => {
            blockers.iter().map(blocker_entry).collect()
        }
        _ => Vec::new(),
    }
}

fn sync_code(trouble: &SyncError) -> ErrorCode {
    match trouble {
        SyncError::Account(AccountError::Inventory(error)) => inventory_code(error),
        SyncError::Account(AccountError::Unprepared(Unprepared::NoDevice | Unprepared::NoSecret)) => {
            ErrorCode::NotFound
        }
        SyncError::Account(_)
        | SyncError::Panicked(_)
        | SyncError::Other(_)
        | SyncError::Server(ClientError::Refused { status: 403, .. }) => ErrorCode::Conflict,
        SyncError::Server(_)
        | SyncError::Offline(_)
        | SyncError::DeleteOffline(_)
        | SyncError::Unknown
        | SyncError::Crowded => ErrorCode::Unavailable,
    }
}

fn sync_message(trouble: &SyncError) -> String {
    match trouble {
        SyncError::Server(ClientError::Refused { status: 403, .. }) => {
            "this invitation was used, or is older than ten minutes; `guillemet account invite` on a machine of the account makes another".into()
        }
        trouble => trouble.to_string(),
    }
}

fn sync_entries(trouble: &SyncError) -> Vec<ErrorEntry> {
    match trouble {
        SyncError::Account(AccountError::SameNames(names)) => {
            let entry = |name: &String| {
                let message = format!("`{name}` is in this vault and in the account; both, account or mine?");
                let mut entry = ErrorEntry::of_field(Some(format!("same_names.{name}")), message);
                entry.name = Some(name.clone());
                entry
            };
            names.iter().map(entry).collect()
        }
        SyncError::Account(AccountError::Refused(refusal)) => {
            let mut entry = ErrorEntry::of_field(None::<String>, trouble.to_string());
            entry.reason = Some(refusal.code().into());
            vec![entry]
        }
        _ => Vec::new(),
    }
}
