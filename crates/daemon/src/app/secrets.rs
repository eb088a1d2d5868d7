//! The services for secrets: listing, changing, and resolving by name.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use zeroize::Zeroizing;

use super::access::{Access, Principal};
use super::error::{AppError, ForbiddenSecret};
use super::serving::{PLAN_TIME, ensure_recent_head};
use super::{App, audit, blocking};
use crate::inventory::{Filter, Inventory, InventoryError, SecretChange};
use crate::resolve::Resolver;
use crate::resolve::snapshot::{Released, Snapshot, SnapshotState};
use crate::sync;
use guillemet_api::secrets::{ChangedSecret, SecretDetail, SecretView};
use guillemet_base::names::SecretName;
use guillemet_base::time::now;
use guillemet_plugin::plans::Prepared;
use guillemet_vault::audit::{Actor, AuditChange, ChangeSubject};
use guillemet_vault::usage::{Caller, ChangeKind};

/// Returns how many secrets pass a filter, and those on its page. They reflect the templates as they were at `since` or
/// later.
///
/// # Errors
/// [`AppError::Inventory`] if usage cannot be read.
pub async fn list(app: &Arc<App>, filter: Filter, since: Instant) -> Result<(usize, Vec<SecretView>), AppError> {
    blocking(app, move |inventory| inventory.list(&filter, since)).await
}

/// Returns a secret, or the row of a missing one. Includes the fields that its references are in, and what the
/// account's other devices have reported of its use so far, because people decide by that whether to rotate or delete
/// it.
///
/// # Errors
/// [`AppError::Inventory`] if there is no such secret, or usage cannot be read.
pub async fn show(app: &Arc<App>, name: SecretName) -> Result<SecretDetail, AppError> {
    sync::refresh_reports(&app.sync).await;
    let detail = show_all(app, vec![name.clone()], Instant::now()).await?.pop();
    detail.ok_or_else(|| InventoryError::NotFound(name.to_string()).into())
}

/// Returns the details of each of these names that exists, for the files as they were at `since` or later. The field of
/// a reference is known once its template has been planned; if that takes too long, the reference is shown without it.
///
/// # Errors
/// [`AppError::Inventory`], but not for names that do not exist.
pub async fn show_all(app: &Arc<App>, names: Vec<SecretName>, since: Instant) -> Result<Vec<SecretDetail>, AppError> {
    let names: Arc<[SecretName]> = names.into();
    let read = |names: Arc<[SecretName]>| {
        blocking(app, move |inventory| {
            let details = names.iter().map(|name| inventory.show(name, since));
            details.filter(|detail| !matches!(detail, Err(InventoryError::NotFound(_)))).collect::<Result<Vec<_>, _>>()
        })
    };
    let mut details = read(Arc::clone(&names)).await?;
    let snapshot = app.resolver.current.load();
    let references = details.iter().flat_map(|detail| &detail.references);
    let unknown = references.filter(|reference| reference.device.is_none() && reference.field.is_none());
    let unplanned: BTreeSet<&str> = unknown.map(|reference| reference.template.as_str()).collect();
    let unplanned = unplanned.into_iter().filter_map(|id| snapshot.templates.get(id));
    let unplanned: Vec<_> = unplanned.filter(|prepared| prepared.is_good().is_none()).cloned().collect();
    drop(snapshot);
    if !unplanned.is_empty() {
        plan_for_fields(app, unplanned).await;
        details = read(names).await?;
    }
    Ok(details)
}

/// Plans templates, so that the fields of their references are known.
async fn plan_for_fields(app: &App, unplanned: Vec<Arc<Prepared>>) {
    let config = app.config.load_full();
    let plan = async {
        for prepared in unplanned {
            // References in a template that cannot be planned are shown without fields.
            let _ = prepared.plans(&app.registry, &config.variables).await;
        }
    };
    let _ = tokio::time::timeout(PLAN_TIME, plan).await;
}

/// Changes a secret. Returns when no answer from the old state can still leave (promise At once). Records the change as
/// failed if it was not made.
async fn apply_change(
    app: &Arc<App>,
    actor: &Actor,
    attempted: &[(ChangeKind, ChangeSubject)],
    change: impl FnOnce(&Inventory, &Actor) -> Result<(ChangedSecret, Released), InventoryError> + Send + 'static,
) -> Result<ChangedSecret, AppError> {
    let by = actor.clone();
    audit::attempt(app, actor, attempted, async {
        let (changed, released) = blocking(app, move |inventory| change(inventory, &by)).await?;
        released.wait().await;
        Ok(changed)
    })
    .await
}

/// Creates a secret.
///
/// # Errors
/// [`AppError::Inventory`], such as for a name that is taken or a value that cannot be stored.
pub async fn create(
    app: &Arc<App>,
    actor: &Actor,
    name: SecretName,
    value: Zeroizing<String>,
    enabled: bool,
) -> Result<ChangedSecret, AppError> {
    let attempted = [(ChangeKind::SecretCreated, audit::subject_of(&app.resolver, actor, &name))];
    apply_change(app, actor, &attempted, move |inventory, actor| inventory.create(actor, name, &value, enabled)).await
}

/// Changes a secret, if its entity tag matches `expected`.
///
/// # Errors
/// [`AppError::Inventory`], such as for a secret that does not exist or was changed meanwhile.
pub async fn update(
    app: &Arc<App>,
    actor: &Actor,
    name: SecretName,
    change: SecretChange,
    expected: Option<String>,
) -> Result<ChangedSecret, AppError> {
    let subject = audit::subject_of(&app.resolver, actor, &name);
    let kinds = [
        change.value.as_ref().map(|_| ChangeKind::SecretRotated),
        change
            .enabled
            .map(|is_enabled| if is_enabled { ChangeKind::SecretEnabled } else { ChangeKind::SecretDisabled }),
        change.name.as_ref().map(|_| ChangeKind::SecretRenamed),
        change.rewrite.then_some(ChangeKind::ReferencesRewritten),
    ];
    let attempted: Vec<_> = kinds.into_iter().flatten().map(|kind| (kind, subject.clone())).collect();
    apply_change(app, actor, &attempted, move |inventory, actor| {
        inventory.update(actor, &name, change, expected.as_deref())
    })
    .await
}

/// Gives a secret the value of a former version again, if its entity tag matches `expected`.
///
/// # Errors
/// [`AppError::Inventory`], such as for a version that does not exist.
pub async fn roll_back(
    app: &Arc<App>,
    actor: &Actor,
    name: SecretName,
    version: u32,
    expected: Option<String>,
) -> Result<ChangedSecret, AppError> {
    let attempted = [(ChangeKind::SecretRolledBack, audit::subject_of(&app.resolver, actor, &name))];
    apply_change(app, actor, &attempted, move |inventory, actor| {
        inventory.rollback(actor, &name, version, expected.as_deref())
    })
    .await
}

/// Deletes a secret that no template references, and its usage counters.
///
/// # Errors
/// [`AppError::Inventory`], such as for references that block the delete; [`AppError::Sync`].
pub async fn delete(app: &Arc<App>, actor: &Actor, name: SecretName, expected: Option<String>) -> Result<(), AppError> {
    let attempted = [(ChangeKind::SecretDeleted, audit::subject_of(&app.resolver, actor, &name))];
    let deleting = async { Ok(sync::delete(&app.sync, actor, name, expected).await?) };
    let (id, released) = audit::attempt(app, actor, &attempted, deleting).await?;
    released.wait().await;
    // Only now: before this, an answer that was still leaving could have recorded a use.
    blocking(app, move |inventory| inventory.forget_usage(id)).await
}

/// Returns the values of secrets by name, as the body of `{"secrets": {name: value}}`, and records each use. `reveal`
/// says that a person will look at the values; for a caller who administers, that is recorded too.
///
/// # Errors
/// - [`AppError::Unavailable`]: this device has had no news of its account for too long, or a use cannot be recorded.
/// - [`AppError::Forbidden`]: lists each secret that the caller may not resolve.
/// - [`AppError::Secrets`]: lists each secret that is unavailable.
/// - [`AppError::Exhausted`]: there is no memory left for the answer.
pub async fn resolve(
    app: &Arc<App>,
    principal: Principal<'_>,
    names: &[SecretName],
    reveal: bool,
) -> Result<Bytes, AppError> {
    ensure_recent_head(app.sync.handle.head_age(), principal.config().max_head_age)?;
    let snapshot = app.resolver.current.load();
    let forbidden = principal.recheck(app, |access| forbidden_names(&snapshot, names.iter(), access))?;
    if !forbidden.is_empty() {
        let secrets = forbidden.iter().map(|index| (&names[*index], ""));
        app.resolver.forbid(principal.caller, principal.route, None, secrets);
        let entry = |index: &usize| ForbiddenSecret::of_field(format!("secrets.{index}"));
        return Err(AppError::forbidden_and_recorded(forbidden.iter().map(entry).collect()));
    }
    let resolve = resolve_names(app, snapshot, names, principal.caller);
    match reveal && principal.access.administers() {
        true => Box::pin(resolve_for_display(app, &Actor::caller(principal.caller), names, resolve)).await,
        false => resolve.await,
    }
}

async fn resolve_names(
    app: &Arc<App>,
    snapshot: Arc<Snapshot>,
    names: &[SecretName],
    caller: &Caller,
) -> Result<Bytes, AppError> {
    let work = Resolver::resolve_work(&snapshot, names);
    let (names, caller) = (names.to_vec(), caller.clone());
    app.make_answer(work, move |resolver| resolver.resolve(snapshot, &names, &caller)).await
}

/// Resolves secrets for a person who looks at their values. That is recorded beside the uses, and before the answer
/// leaves (promise Recorded).
async fn resolve_for_display(
    app: &Arc<App>,
    actor: &Actor,
    names: &[SecretName],
    resolve: impl Future<Output = Result<Bytes, AppError>>,
) -> Result<Bytes, AppError> {
    let kind = ChangeKind::SecretRevealed;
    let attempted: Vec<_> = names.iter().map(|name| (kind, audit::subject_of(&app.resolver, actor, name))).collect();
    let body = audit::attempt(app, actor, &attempted, resolve).await?;
    let done = attempted.into_iter().map(|(kind, subject)| AuditChange::new(kind, actor, now()).about(subject));
    audit::record(app, done.collect()).await?;
    Ok(body)
}

/// Returns the indexes of the names by which the caller may not resolve a secret.
pub(super) fn forbidden_names<'a>(
    state: &SnapshotState,
    names: impl Iterator<Item = &'a SecretName>,
    access: &Access<'_>,
) -> Vec<usize> {
    if access.administers() {
        return Vec::new();
    }
    let is_allowed = |name: &SecretName| access.may_resolve(name, state.secret(&name.key()).map(|secret| &secret.name));
    names.enumerate().filter(|(_, name)| !is_allowed(name)).map(|(index, _)| index).collect()
}
