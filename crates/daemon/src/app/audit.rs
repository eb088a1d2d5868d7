//! What the audit trail records about changes that a caller asked for and did not get.
//!
//! A change that succeeds is recorded where it is made, in the same transaction. One that fails is recorded here, with
//! the error code that the caller gets. Knows no particular change: the caller of this module describes it.

use std::fmt::Display;
use std::sync::Arc;

use super::App;
use super::error::AppError;
use crate::resolve::Resolver;
use guillemet_base::names::SecretName;
use guillemet_base::time::now;
use guillemet_vault::audit::{Actor, AuditChange, ChangeSubject};
use guillemet_vault::usage::{ChangeKind, Subject};

/// Returns what a name in a request refers to: a secret, or a name in use. A name that is not known here is hashed.
pub fn subject_of(resolver: &Resolver, actor: &Actor, name: &SecretName) -> ChangeSubject {
    let state = resolver.current.load();
    if let Some(secret) = state.secret(&name.key()) {
        return ChangeSubject::Secret(secret.id, secret.name.to_string());
    }
    if state.knows_name(&name.key()) {
        return ChangeSubject::Name(name.to_string());
    }
    unknown_subject(resolver, actor, name.as_str())
}

/// Returns the keyed hash that is recorded in place of a text that is not known here.
pub fn unknown_subject(resolver: &Resolver, actor: &Actor, name: &str) -> ChangeSubject {
    let uid = actor.caller.as_ref().map_or(0, |caller| caller.uid);
    match resolver.recorder.unknown_subject(uid, name, now()) {
        Subject::Unknown(unknown) => ChangeSubject::Unknown(unknown),
        Subject::Name(_) | Subject::Secret(_) => ChangeSubject::Whole,
    }
}

/// Awaits a change. If it fails, records one failed event for each kind in `attempted`.
///
/// # Errors
/// Those of the change.
pub async fn attempt<T>(
    app: &Arc<App>,
    actor: &Actor,
    attempted: &[(ChangeKind, ChangeSubject)],
    change: impl Future<Output = Result<T, AppError>>,
) -> Result<T, AppError> {
    let done = change.await;
    if let Err(error) = &done
        && !error.is_after_the_fact()
    {
        let failed = |(kind, subject): &(ChangeKind, ChangeSubject)| {
            AuditChange::new(*kind, actor, now()).about(subject.clone()).failed(error.code().name())
        };
        record_failed(app, attempted.iter().map(failed).collect()).await;
    }
    done
}

/// Records changes that were not made. If that fails, it is logged only: the caller already gets the reason for the
/// failure.
pub async fn record_failed(app: &Arc<App>, changes: Vec<AuditChange>) {
    if let Err(error) = record(app, changes).await {
        tracing::error!(error = error.to_string(), "a failed change could not be recorded");
    }
}

/// Records changes that have no transaction of the vault to be recorded in. The events are on disk when this returns.
///
/// # Errors
/// [`AppError::Unavailable`] if they cannot be written. The change must then not be made, or not be acknowledged.
pub async fn record(app: &Arc<App>, changes: Vec<AuditChange>) -> Result<(), AppError> {
    let resolver = Arc::clone(&app.resolver);
    #[expect(clippy::disallowed_methods, reason = "on a blocking thread")]
    let write = move || resolver.recorder.record_changes(&changes);
    match tokio::task::spawn_blocking(write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(AppError::Unavailable(unrecorded_message(&error))),
        Err(_) => Err(AppError::internal()),
    }
}

/// Returns the message for a change that is not made because it cannot be recorded.
pub fn unrecorded_message(error: &dyn Display) -> String {
    format!("the change cannot be recorded in the audit trail, so it was not made: {error}")
}
