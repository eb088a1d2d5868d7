//! The errors of the daemon's services.
//!
//! Knows neither the caller nor the HTTP library: the API turns an error into a response, the console into a page.
//! Holds no value (promise Blind), because the modules that errors come from never had one.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::configuration::ConfigRefusal as RefusedConfiguration;
use crate::inventory::{AccountError, BlockerView, InventoryError, Panicked};
use crate::resolve::budget::Exhausted;
use crate::resolve::{Fault, RefusalReason, ResolveError};
use crate::sync::SyncError;
use guillemet_account::client::AccountClientError;
use guillemet_account::engine::PushError;
use guillemet_api::error::ErrorEntry;
use guillemet_base::names::SecretName;
use guillemet_base::problem::Problem;
use guillemet_plugin::compare::Break;
use guillemet_plugin::plans::PlanError;
use guillemet_plugin::registry::AddError;
use guillemet_template::catalog::Unwritable;
use guillemet_vault::store::VaultError;
use guillemet_vault::usage::RecorderError;

/// Seconds after which a caller may try again if memory for answers has run out. Most answers are taken within one
/// second.
const RETRY_SECONDS: u32 = 1;
/// The message for a caller that lacks a right.
const FORBIDDEN: &str = "permission denied; a [[client]] rule in guillemet.toml can grant it";
/// The message for one secret that a caller may not resolve.
const FORBIDDEN_SECRET: &str = "no [[client]] rule allows you to resolve this secret by name";

/// The kind of an error, for programs. The audit trail keeps its name with a change that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// The caller lacks the right to do this.
    Forbidden,
    /// The thing that was asked for does not exist.
    NotFound,
    /// The present state does not allow the request.
    Conflict,
    /// A secret is missing or disabled.
    SecretUnavailable,
    /// Something in the request, the configuration or a plugin is invalid.
    Validation,
    /// A template cannot be rendered.
    TemplateInvalid,
    /// A plugin failed, or could not run.
    PluginFailed,
    /// The request cannot be served now, and may be tried again.
    Unavailable,
    /// The daemon failed internally; the log says where.
    Internal,
}

impl ErrorCode {
    /// Returns the name of the code in the API and the audit trail.
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

/// The error of a service. `Display` says what is wrong and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The inventory refused a change or could not be read.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// The account refused, or its server could not be reached.
    #[error("{}", sync_message(.0))]
    Sync(SyncError),
    /// A plugin could not be added.
    #[error(transparent)]
    Plugin(#[from] AddError),
    /// The configuration file has mistakes; the former configuration stays in force.
    #[error("the configuration has errors, so the previous one stays in effect; nothing was changed")]
    Configuration {
        /// The path of the configuration file.
        file: PathBuf,
        /// Everything that is wrong with it.
        refusal: Arc<RefusedConfiguration>,
    },
    /// Secrets of a render or a resolve cannot be used. Lists all of them.
    #[error("{}", faults_message(.0))]
    Secrets(Vec<Fault>),
    /// A template could not be planned.
    #[error("{}", .0.message())]
    Template(TemplateError),
    /// The caller lacks the right. The message is the same whatever it asked for.
    #[error("{FORBIDDEN}")]
    Forbidden {
        /// The secrets that it may not resolve; empty if they are not the reason.
        secrets: Vec<ForbiddenSecret>,
        /// Whether the refusal is in the audit trail already.
        is_recorded: bool,
    },
    /// Fields of the request are invalid. Each entry has the name of the field and what is wrong with it.
    #[error("invalid fields")]
    Invalid(Vec<(String, String)>),
    /// The thing that was asked for does not exist. Holds the message.
    #[error("{0}")]
    NotFound(String),
    /// The template's target is not the one that the caller has a copy of. Holds the id of the target.
    #[error("the target `{0}` does not match guillemet-if-target")]
    OtherTarget(String),
    /// The request cannot be served now. Holds the message.
    #[error("{0}")]
    Unavailable(String),
    /// The request cannot be served now, but can be a moment later. Holds the message.
    #[error("{0}")]
    Busy(&'static str),
    /// The caller's user has no memory left for answers.
    #[error(
        "too much data in flight for this user (limits.in_flight_mib); read the pending responses, request less at \
         once, or try again"
    )]
    Exhausted,
    /// The daemon failed internally. Holds the message.
    #[error("{0}")]
    Internal(&'static str),
}

/// A secret that a caller may not resolve by the name it used.
#[derive(Clone, Debug)]
pub struct ForbiddenSecret {
    /// The field of the request that names the secret.
    field: String,
    message: &'static str,
    name: Option<SecretName>,
    line: Option<u32>,
    column: Option<u32>,
}

impl ForbiddenSecret {
    /// Describes an entry of a list in the request, such as `secrets.3`.
    pub fn of_field(field: String) -> Self {
        Self { field, message: FORBIDDEN_SECRET, name: None, line: None, column: None }
    }

    /// Describes a reference in a template that came with the request; line and column count from 1.
    pub fn of_reference(name: SecretName, line: u32, column: u32) -> Self {
        let (name, line, column) = (Some(name), Some(line), Some(column));
        Self { field: "template".into(), message: FORBIDDEN_SECRET, name, line, column }
    }
}

/// The reason why a template could not be planned, and how much of it the caller may read.
#[derive(Debug)]
pub struct TemplateError {
    /// The template's id; `None` if the template came with the request.
    template: Option<String>,
    cause: PlanError,
    /// Another possible reason, such as a configuration that is not in force.
    hint: Option<String>,
    /// Whether details are left out, because the caller may render the template but not read it.
    is_redacted: bool,
}

impl TemplateError {
    /// Makes the error for a stored template, or with `None` for one that came with the request.
    pub fn new(template: Option<&str>, cause: PlanError) -> Self {
        Self { template: template.map(str::to_owned), cause, hint: None, is_redacted: false }
    }

    /// Adds another possible reason.
    #[must_use]
    pub fn with_hint(self, hint: Option<String>) -> Self {
        Self { hint, ..self }
    }

    /// Removes everything that could quote the template, and keeps line and column: for a caller who may render the
    /// template but not read it. Messages of parsers and plugins can contain any text.
    #[must_use]
    pub fn without_quotes(self) -> Self {
        match self.cause {
            PlanError::Problems(_) | PlanError::Plugin(_) => Self { hint: None, is_redacted: true, ..self },
            PlanError::File(_) | PlanError::NoTarget(_) => self,
        }
    }

    fn code(&self) -> ErrorCode {
        match self.cause {
            PlanError::Problems(_) | PlanError::File(_) => ErrorCode::TemplateInvalid,
            PlanError::Plugin(_) => ErrorCode::PluginFailed,
            PlanError::NoTarget(_) => ErrorCode::NotFound,
        }
    }

    fn message(&self) -> String {
        let subject = self.template.as_ref().map_or_else(|| "the template".into(), |id| format!("template `{id}`"));
        match (&self.cause, &self.template) {
            (PlanError::Plugin(message), _) if !self.is_redacted => format!("{subject} cannot be rendered: {message}"),
            (PlanError::NoTarget(targets), _) => {
                format!("{subject} has no such target; use one of: {}", targets.join(", "))
            }
            (_, Some(id)) => format!("{subject} cannot be rendered; run `guillemet template check {id}` to see why"),
            (_, None) => format!("{subject} cannot be rendered"),
        }
    }

    fn entries(&self) -> Vec<ErrorEntry> {
        match &self.cause {
            PlanError::Problems(problems) | PlanError::File(problems) => {
                problems.iter().map(|problem| self.entry(problem)).collect()
            }
            PlanError::Plugin(message) => {
                vec![self.entry(&Problem { message: message.clone(), ..Problem::default() })]
            }
            PlanError::NoTarget(targets) => {
                vec![ErrorEntry::of_field(Some("target"), format!("must be one of {}", targets.join(", ")))]
            }
        }
    }

    fn entry(&self, problem: &Problem) -> ErrorEntry {
        let mut entry = if self.is_redacted {
            let message = "it cannot be rendered; ask an administrator why".into();
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
    /// Makes the error for a caller that lacks the right, if the refusal has not been recorded yet.
    pub fn forbidden() -> Self {
        Self::Forbidden { secrets: Vec::new(), is_recorded: false }
    }

    /// Makes the error for a refusal that is in the audit trail. `secrets` are the reason, if there are any.
    pub fn forbidden_and_recorded(secrets: Vec<ForbiddenSecret>) -> Self {
        Self::Forbidden { secrets, is_recorded: true }
    }

    /// Makes the error of a service that panicked.
    pub fn internal() -> Self {
        Self::Internal(Panicked::MESSAGE)
    }

    /// Makes the error for one invalid field.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid(vec![(field.into(), message.into())])
    }

    /// Returns the kind of the error, for programs.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Inventory(error) => inventory_code(error),
            Self::Sync(error) => sync_code(error),
            Self::Plugin(error) => match error {
                AddError::Unreadable(_) => ErrorCode::NotFound,
                AddError::Unkept(_) => ErrorCode::Unavailable,
                AddError::Unfit(_) => ErrorCode::Validation,
                AddError::NoFormer(_) => ErrorCode::NotFound,
                AddError::Changed(_)
                | AddError::Taken(_)
                | AddError::StoodIn(_)
                | AddError::Breaks(_)
                | AddError::BreaksOther(_)
                | AddError::FormerChanged(_) => ErrorCode::Conflict,
            },
            Self::Secrets(faults) if are_unrepresentable(faults) => ErrorCode::Validation,
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

    /// Returns further advice for people; `None` if there is none.
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Inventory(InventoryError::Referenced { .. }) => Some(
                "remove the references from the templates, then delete the secret; to stop its use immediately, \
                 disable it"
                    .into(),
            ),
            Self::Inventory(InventoryError::Formerly { holder, .. }) => Some(format!(
                "run `guillemet secret edit {holder} --rewrite` to write its current name into the templates; then \
                 this name is free"
            )),
            Self::Template(error) => error.hint.clone(),
            _ => None,
        }
    }

    /// Returns everything that is wrong, one object for each. Each has a `field`, which may be null, and a `message`.
    pub fn entries(&self) -> Vec<ErrorEntry> {
        match self {
            Self::Inventory(error) => inventory_entries(error),
            Self::Sync(error) => sync_entries(error),
            Self::Configuration { file, refusal } => {
                let entry = |problem: &Problem| {
                    let mut entry = ErrorEntry::of_problem(problem);
                    entry.file = Some(file.to_string_lossy().into_owned());
                    entry
                };
                refusal.problems.iter().map(entry).collect()
            }
            Self::Secrets(faults) => faults.iter().map(fault_entry).collect(),
            Self::Template(error) => error.entries(),
            Self::Plugin(AddError::Breaks(breaks) | AddError::BreaksOther(breaks)) => {
                breaks.iter().map(break_entry).collect()
            }
            Self::Forbidden { secrets, .. } => secrets.iter().map(forbidden_entry).collect(),
            Self::Invalid(fields) => {
                fields.iter().map(|(field, message)| ErrorEntry::of_field(Some(field), message)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Returns after how many seconds the caller may try again; `None` if that is not known.
    pub fn retry_after(&self) -> Option<u32> {
        matches!(self, Self::Busy(_) | Self::Exhausted).then_some(RETRY_SECONDS)
    }

    /// Returns whether the change was made, and only a later step failed.
    pub fn is_after_the_fact(&self) -> bool {
        matches!(self, Self::Inventory(InventoryError::NotRewritten { .. }))
    }

    /// Removes what could quote a template, as [`TemplateError::without_quotes`] does; leaves other errors as they are.
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

impl From<ResolveError> for AppError {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::Unrecorded(message) => Self::Unavailable(message),
            ResolveError::Exhausted => Self::Exhausted,
            ResolveError::Secrets(faults) => Self::Secrets(faults),
        }
    }
}

impl From<SyncError> for AppError {
    fn from(error: SyncError) -> Self {
        match error {
            SyncError::Account(AccountError::Inventory(error)) => Self::Inventory(error),
            error => Self::Sync(error),
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

fn break_entry(broken: &Break) -> ErrorEntry {
    let mut entry = ErrorEntry::of_problem(&broken.problem);
    entry.template.clone_from(&broken.template);
    if let (Some(_), Some(target)) = (&broken.template, &broken.target) {
        entry.message += &format!(" (target `{target}`)");
    }
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

fn are_unrepresentable(faults: &[Fault]) -> bool {
    faults.iter().all(|fault| fault.reason == RefusalReason::Unfit)
}

/// Says what was not rendered or resolved, and how many secrets are missing, disabled or do not fit.
fn faults_message(faults: &[Fault]) -> String {
    let number = |reason| {
        let names = faults.iter().filter(|fault| fault.reason == reason).map(|fault| fault.name.to_ascii_lowercase());
        names.collect::<HashSet<_>>().len()
    };
    let parts = [
        (RefusalReason::Missing, "is missing", "are missing"),
        (RefusalReason::Disabled, "is disabled", "are disabled"),
    ];
    let mut parts: Vec<String> = (parts.into_iter())
        .filter_map(|(reason, singular, plural)| match number(reason) {
            0 => None,
            1 => Some(format!("1 secret {singular}")),
            number => Some(format!("{number} secrets {plural}")),
        })
        .collect();
    match number(RefusalReason::Unfit) {
        0 => {}
        1 => parts.push("1 value does not fit its place".into()),
        number => parts.push(format!("{number} values do not fit their places")),
    }
    let action = match faults.first() {
        Some(Fault { template: Some(id), .. }) => format!("render {id}"),
        Some(Fault { line: Some(_), .. }) => "render the template".into(),
        _ => "resolve".into(),
    };
    format!("cannot {action}: {}", parts.join(", "))
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
        InventoryError::Vault(VaultError::Unserializable(_))
        | InventoryError::Usage(RecorderError::Vault(VaultError::Unserializable(_))) => ErrorCode::Internal,
        InventoryError::Vault(_) | InventoryError::Usage(_) => ErrorCode::Unavailable,
    }
}

fn inventory_entries(error: &InventoryError) -> Vec<ErrorEntry> {
    let of_field = |field| vec![ErrorEntry::of_field(Some(field), error.to_string())];
    match error {
        InventoryError::Missing { references, .. } => {
            references.iter().map(|reference| ErrorEntry::of_reference(reference.clone(), "referenced here")).collect()
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

fn sync_code(error: &SyncError) -> ErrorCode {
    match error {
        SyncError::Account(AccountError::Unprepared(PushError::NoDevice | PushError::NoSecret)) => ErrorCode::NotFound,
        SyncError::Account(AccountError::Unprepared(PushError::Unserializable(_))) | SyncError::Panicked(_) => {
            ErrorCode::Internal
        }
        SyncError::Account(_)
        | SyncError::Other(_)
        | SyncError::Server(AccountClientError::Refused { status: 403, .. }) => ErrorCode::Conflict,
        SyncError::Server(_)
        | SyncError::Offline(_)
        | SyncError::DeleteOffline(_)
        | SyncError::Unknown
        | SyncError::Crowded => ErrorCode::Unavailable,
    }
}

fn sync_message(error: &SyncError) -> String {
    match error {
        SyncError::Server(AccountClientError::Refused { status: 403, .. }) => {
            "this invitation was already used, or is older than ten minutes; create another one with `guillemet \
             account invite` on a machine in the account"
                .into()
        }
        error => error.to_string(),
    }
}

fn sync_entries(error: &SyncError) -> Vec<ErrorEntry> {
    match error {
        SyncError::Account(AccountError::SameNames(names)) => {
            let entry = |name: &String| {
                let message = format!("`{name}` exists in this vault and in the account; choose both, account or mine");
                let mut entry = ErrorEntry::of_field(Some(format!("same_names.{name}")), message);
                entry.name = Some(name.clone());
                entry
            };
            names.iter().map(entry).collect()
        }
        SyncError::Account(AccountError::Refused(refusal)) => {
            let mut entry = ErrorEntry::of_field(None::<String>, error.to_string());
            entry.reason = Some(refusal.code().into());
            vec![entry]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_the_daemon_can_have_done_wrong_is_an_internal_error() {
        let unserializable = || serde_json::from_str::<()>("").unwrap_err();
        let vault = || VaultError::Unserializable(unserializable());
        for error in [
            AppError::internal(),
            SyncError::Panicked(Panicked).into(),
            SyncError::from(AccountError::Unprepared(PushError::Unserializable(unserializable()))).into(),
            SyncError::from(AccountError::from(vault())).into(),
            InventoryError::Usage(vault().into()).into(),
        ] {
            assert_eq!(error.code(), ErrorCode::Internal, "{error}");
        }
        assert_eq!(AppError::internal().to_string(), AppError::from(SyncError::Panicked(Panicked)).to_string());
    }
}
