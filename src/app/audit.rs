//! What the audit trail tells of changes that a caller wanted and did not get.
//!
//! A change that is made is recorded where it is made, in its transaction. One that fails is recorded here, with the code
//! that the caller is told. Knows no change: whoever asks for one says what it would have been.

use std::fmt::Display;
use std::sync::Arc;

use super::App;
use super::error::AppError;
use crate::resolve::Resolver;
use crate::vault::audit::{About, Actor, Change};
use crate::vault::usage::{ChangeKind, Subject};
use guillemet_base::names::SecretName;
use guillemet_base::time::now;

/// What a name in a request is of: a secret, or a name; one that nothing here has is not recorded itself.
pub fn about(resolver: &Resolver, actor: &Actor, name: &SecretName) -> About {
    let state = resolver.current.load();
    if let Some(secret) = state.secret(&name.key()) {
        return About::Secret(secret.id, secret.name.to_string());
    }
    if state.knows(&name.key()) {
        return About::Name(name.to_string());
    }
    unknown(resolver, actor, name.as_str())
}

/// What stands for a text that nothing here has.
pub fn unknown(resolver: &Resolver, actor: &Actor, asked: &str) -> About {
    let uid = actor.caller.as_ref().map_or(0, |caller| caller.uid);
    match resolver.recorder.unknown(uid, asked, now()) {
        Subject::Unknown(unknown) => About::Unknown(unknown),
        Subject::Name(_) | Subject::Secret(_) => About::Whole,
    }
}

/// Awaits a change, and records that it was not made where it fails: one event for each kind.
///
/// # Errors
/// The change's.
pub async fn attempt<T>(
    app: &Arc<App>,
    actor: &Actor,
    wanted: &[(ChangeKind, About)],
    change: impl Future<Output = Result<T, AppError>>,
) -> Result<T, AppError> {
    let done = change.await;
    if let Err(error) = &done
        && !error.is_after_the_fact()
    {
        let failed = |(kind, about): &(ChangeKind, About)| {
            Change::new(*kind, actor, now()).about(about.clone()).failed(error.code().name())
        };
        record_failed(app, wanted.iter().map(failed).collect()).await;
    }
    done
}

/// Records changes that were not made. Where that fails the log says so: whoever wanted them is told why they failed.
pub async fn record_failed(app: &Arc<App>, changes: Vec<Change>) {
    if let Err(error) = record(app, changes).await {
        tracing::error!(error = error.to_string(), "a failed change could not be recorded");
    }
}

/// Records changes that change nothing in the vault's own records. They are on disk when this returns.
///
/// # Errors
/// Unavailable: the change must not be made then, or must not be acknowledged.
pub async fn record(app: &Arc<App>, changes: Vec<Change>) -> Result<(), AppError> {
    let resolver = Arc::clone(&app.resolver);
    let recorded = tokio::task::spawn_blocking(move || resolver.recorder.record_changes(&changes)).await;
    match recorded {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(AppError::Unavailable(unrecorded(&error))),
        Err(_) => Err(AppError::internal()),
    }
}

/// What is told of a change that is not made because it cannot be recorded.
pub fn unrecorded(error: &dyn Display) -> String {
    format!("the change cannot be recorded in the audit trail, so it was not made: {error}")
}
