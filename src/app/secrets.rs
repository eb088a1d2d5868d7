//! Secrets: shown, changed and resolved by name.

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
use crate::resolve::snapshot::{Released, State};
use crate::sync;
use crate::vault::audit::{About, Actor, Change};
use crate::vault::usage::ChangeKind;
use guillemet_api::secrets::{ChangedSecret, SecretDetail, SecretView};
use guillemet_base::names::SecretName;
use guillemet_base::sys::stack::leaving_nothing;
use guillemet_base::time::now;
use guillemet_plugin::plans::Prepared;

/// Returns how many secrets pass a filter, and those of its page. They are true to the templates as these were at `since`
/// or later.
///
/// # Errors
/// `Inventory`, when usage cannot be read.
pub async fn list(app: &Arc<App>, filter: Filter, since: Instant) -> Result<(usize, Vec<SecretView>), AppError> {
    blocking(app, move |inventory| inventory.list(&filter, since)).await
}

/// A secret, or the row of a missing one, with the fields its references stand in, and with what the account's other
/// devices have reported of its use until now: whoever rotates or deletes it decides by that.
///
/// # Errors
/// The inventory's.
pub async fn show(app: &Arc<App>, name: SecretName) -> Result<SecretDetail, AppError> {
    sync::refresh_reports(&app.sync).await;
    let shown = show_all(app, vec![name.clone()], Instant::now()).await?.pop();
    shown.ok_or_else(|| InventoryError::NotFound(name.to_string()).into())
}

/// The same of each of these names that is there, true to the files as they were at `since` or later. Which fields
/// references stand in is known once their templates are planned; what takes too long for that is shown without.
///
/// # Errors
/// The inventory's, but for names that are not there.
pub async fn show_all(app: &Arc<App>, names: Vec<SecretName>, since: Instant) -> Result<Vec<SecretDetail>, AppError> {
    let names: Arc<[SecretName]> = names.into();
    let look = |names: Arc<[SecretName]>| {
        blocking(app, move |inventory| {
            let shown = names.iter().map(|name| inventory.show(name, since));
            shown.filter(|shown| !matches!(shown, Err(InventoryError::NotFound(_)))).collect::<Result<Vec<_>, _>>()
        })
    };
    let mut shown = look(Arc::clone(&names)).await?;
    let snapshot = app.resolver.current.load();
    let references = shown.iter().flat_map(|shown| &shown.references);
    let unknown = references.filter(|reference| reference.device.is_none() && reference.field.is_none());
    let unplanned: BTreeSet<&str> = unknown.map(|reference| reference.template.as_str()).collect();
    let unplanned = unplanned.into_iter().filter_map(|id| snapshot.templates.get(id));
    let unplanned: Vec<_> = unplanned.filter(|prepared| prepared.is_good().is_none()).cloned().collect();
    drop(snapshot);
    if !unplanned.is_empty() {
        plan_for_fields(app, unplanned).await;
        shown = look(names).await?;
    }
    Ok(shown)
}

/// Works templates out, so that the fields of their references are known.
async fn plan_for_fields(app: &App, unplanned: Vec<Arc<Prepared>>) {
    let config = app.config.load_full();
    let plan = async {
        for prepared in unplanned {
            // A template without a plan is shown without fields.
            let _ = prepared.plans(&app.registry, &config.variables).await;
        }
    };
    let _ = tokio::time::timeout(PLAN_TIME, plan).await;
}

/// Calls the inventory for a change of a secret. Returns when no answer of the old state can still leave; that it was
/// not made is recorded.
async fn changed(
    app: &Arc<App>,
    actor: &Actor,
    wanted: &[(ChangeKind, About)],
    change: impl FnOnce(&Inventory, &Actor) -> Result<(ChangedSecret, Released), InventoryError> + Send + 'static,
) -> Result<ChangedSecret, AppError> {
    let by = actor.clone();
    audit::attempt(app, actor, wanted, async {
        let (changed, released) = blocking(app, move |inventory| change(inventory, &by)).await?;
        released.wait().await;
        Ok(changed)
    })
    .await
}

/// Creates a secret.
///
/// # Errors
/// The inventory's.
pub async fn create(
    app: &Arc<App>,
    actor: &Actor,
    name: SecretName,
    value: Zeroizing<String>,
    enabled: bool,
) -> Result<ChangedSecret, AppError> {
    let wanted = [(ChangeKind::SecretCreated, audit::about(&app.resolver, actor, &name))];
    changed(app, actor, &wanted, move |inventory, actor| inventory.create(actor, name, &value, enabled)).await
}

/// Changes a secret, if it still is what `expected` says.
///
/// # Errors
/// The inventory's.
pub async fn update(
    app: &Arc<App>,
    actor: &Actor,
    name: SecretName,
    change: SecretChange,
    expected: Option<String>,
) -> Result<ChangedSecret, AppError> {
    let about = audit::about(&app.resolver, actor, &name);
    let kinds = [
        change.value.as_ref().map(|_| ChangeKind::SecretRotated),
        change.enabled.map(|on| if on { ChangeKind::SecretEnabled } else { ChangeKind::SecretDisabled }),
        change.name.as_ref().map(|_| ChangeKind::SecretRenamed),
        change.rewrite.then_some(ChangeKind::ReferencesRewritten),
    ];
    let wanted: Vec<_> = kinds.into_iter().flatten().map(|kind| (kind, about.clone())).collect();
    changed(app, actor, &wanted, move |inventory, actor| inventory.update(actor, &name, change, expected.as_deref()))
        .await
}

/// Gives a secret the value of a former version again, if it still is what `expected` says.
///
/// # Errors
/// The inventory's.
pub async fn roll_back(
    app: &Arc<App>,
    actor: &Actor,
    name: SecretName,
    version: u32,
    expected: Option<String>,
) -> Result<ChangedSecret, AppError> {
    let wanted = [(ChangeKind::SecretRolledBack, audit::about(&app.resolver, actor, &name))];
    changed(app, actor, &wanted, move |inventory, actor| inventory.rollback(actor, &name, version, expected.as_deref()))
        .await
}

/// Deletes a secret that nothing references, and what was resolved of it.
///
/// # Errors
/// The inventory's.
pub async fn delete(app: &Arc<App>, actor: &Actor, name: SecretName, expected: Option<String>) -> Result<(), AppError> {
    let wanted = [(ChangeKind::SecretDeleted, audit::about(&app.resolver, actor, &name))];
    let deleting = async { Ok(sync::delete(&app.sync, actor, name, expected).await?) };
    let (id, released) = audit::attempt(app, actor, &wanted, deleting).await?;
    released.wait().await;
    // After the last answer that could still have recorded one.
    blocking(app, move |inventory| inventory.forget_usage(id)).await
}

/// Returns the values of secrets by name, as the body of `{"secrets": {name: value}}`, and records each use. Where `reveal`
/// says that a person will look at the values, a caller who administers has that recorded too.
///
/// # Errors
/// `Unavailable`: this device has not heard of its account for too long, or a use cannot be recorded. `Forbidden`, with
/// each secret that the caller may not resolve. `Secrets`, with each that has no value to be had. `Exhausted`.
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
    let resolve = || Ok(leaving_nothing(|| app.resolver.resolve(snapshot, names, principal.caller))?);
    match reveal && principal.access.administers() {
        true => revealed(app, &Actor::caller(principal.caller), names, resolve).await,
        false => resolve(),
    }
}

/// Resolves secrets for a person who looks at their values: that is recorded beside the use, and before the answer
/// leaves.
async fn revealed(
    app: &Arc<App>,
    actor: &Actor,
    names: &[SecretName],
    resolve: impl FnOnce() -> Result<Bytes, AppError>,
) -> Result<Bytes, AppError> {
    let kind = ChangeKind::SecretRevealed;
    let wanted: Vec<_> = names.iter().map(|name| (kind, audit::about(&app.resolver, actor, name))).collect();
    let body = audit::attempt(app, actor, &wanted, async { resolve() }).await?;
    let done = wanted.into_iter().map(|(kind, about)| Change::new(kind, actor, now()).about(about));
    audit::record(app, done.collect()).await?;
    Ok(body)
}

/// Returns the indexes of the secrets that a caller may not resolve by these names.
pub(super) fn forbidden_names<'a>(
    state: &State,
    names: impl Iterator<Item = &'a SecretName>,
    access: &Access<'_>,
) -> Vec<usize> {
    if access.administers() {
        return Vec::new();
    }
    let may = |name: &SecretName| access.may_resolve(name, state.secret(&name.key()).map(|secret| &secret.name));
    names.enumerate().filter(|(_, name)| !may(name)).map(|(index, _)| index).collect()
}
