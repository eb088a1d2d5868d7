//! Rendering stored templates: fresh, published, planned, permitted, and then filled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::access::{Access, Principal};
use super::error::{AppError, TemplateError};
use super::{App, blocking, configuration};
use crate::inventory::Inventory;
use crate::resolve::Rendered;
use crate::resolve::snapshot::Snapshot;
use crate::vault::usage::Caller;
use guillemet_base::names::Millis;
use guillemet_base::sys::stack::leaving_nothing;
use guillemet_plan::plan::Plan;
use guillemet_plan::protocol::Target;
use guillemet_plugin::plans::{Prepared, Unplanned};

/// How long a request waits for a plan.
pub const PLAN_TIME: Duration = Duration::from_secs(10);

/// How many requests read their template again at the same time, of those on this machine and of others.
const RECHECKS: usize = 8;

/// How a template is to be rendered.
#[derive(Clone, Copy, Debug)]
pub struct RenderOptions<'a> {
    /// The target, by its present or a former name; the template's default where there is none.
    pub target: Option<&'a str>,
    /// A name of the target that the caller has a copy of. Nothing is rendered for another one.
    pub expected_target: Option<&'a [u8]>,
    /// The entity tags of the copies that the caller has.
    pub known: Option<&'a str>,
}

/// Renders a template for a caller, from its file as it is now, and records the uses of its secrets.
///
/// # Errors
/// `Unavailable`: this device has not heard of its account for too long, other devices could not be told yet what the
/// template names, it keeps changing, or nothing can be recorded. `Forbidden`. `NotFound`: there is no such template.
/// `Template`: it has no plan for the target; a caller who does not administer reads nothing of it there. `OtherTarget`.
/// `Secrets`: values are missing, or cannot stand in their places. `Exhausted`.
pub async fn render(
    app: &Arc<App>,
    id: &str,
    options: RenderOptions<'_>,
    principal: Principal<'_>,
) -> Result<(Rendered, Arc<Plan>), AppError> {
    ensure_recent_head(app.sync.handle.head_age(), principal.config().max_head_age)?;
    if !may_render(app, id, options.target, principal.access).await {
        return Err(forbidden_template(app, principal.route, id, principal.caller));
    }
    let (snapshot, prepared, plan) = planned(app, id, options.target)
        .await
        .map_err(|error| if principal.access.administers() { error } else { error.without_quotes() })?;
    // Another default, if the template was edited or the plugin replaced meanwhile; other rules, if the configuration was.
    let names: Vec<&str> = plan.target.names().collect();
    if !principal.recheck(app, |access| access.may_render(id, Some(&names)))? {
        return Err(forbidden_template(app, principal.route, id, principal.caller));
    }
    check_same_target(&plan.target, options.expected_target)?;
    let of = Some(prepared.template.id.as_str());
    let rendered = leaving_nothing(|| app.resolver.render(snapshot, of, &plan, principal.caller, options.known))?;
    Ok((rendered, plan))
}

/// Refuses a render for another target than the one that its caller has a copy of.
fn check_same_target(target: &Target, expected: Option<&[u8]>) -> Result<(), AppError> {
    match expected {
        Some(expected) if !target.names().any(|name| name.as_bytes() == expected) => {
            Err(AppError::OtherTarget(target.id.clone()))
        }
        _ => Ok(()),
    }
}

/// Whether a caller may render a template for a target. A problem of the template is nobody's business who may not, so
/// nothing but its targets is looked at, and those only where a rule for one of them is all the caller has.
async fn may_render(app: &Arc<App>, id: &str, target: Option<&str>, access: &Access<'_>) -> bool {
    if access.administers() {
        return true;
    }
    // Where it may not for any target, not even the plugin is asked.
    if !access.may_render(id, None) {
        return false;
    }
    if access.may_render_any(id) {
        return true;
    }
    let (feature, _) = id.split_once('/').unwrap_or_default();
    let of_feature = async || app.registry.targets(feature).await.unwrap_or_default();
    if let Some(name) = target {
        let known = of_feature().await.into_iter().find(|known| known.names().any(|known| known == name));
        return match known {
            Some(known) => access.may_render(id, Some(&known.names().collect::<Vec<_>>())),
            None => access.may_render(id, Some(&[name])),
        };
    }
    let config = app.config.load_full();
    let named = async {
        let (_, prepared) = current(app, id, Instant::now() + PLAN_TIME).await.ok()?;
        prepared.targets(&app.registry, &config.variables).await.ok()
    };
    let default = match tokio::time::timeout(PLAN_TIME, named).await.ok().flatten() {
        Some(targets) => targets.list.first().cloned(),
        // It is not there, or broken: it is told as one without targets of its own.
        None => of_feature().await.into_iter().next(),
    };
    default.is_some_and(|default| access.may_render(id, Some(&default.names().collect::<Vec<_>>())))
}

/// Notes that a caller was refused a template. It is told the same whether there is one or not, and what it
/// typed is kept only where there is.
pub fn forbidden_template(app: &Arc<App>, route: &str, id: &str, caller: &Caller) -> AppError {
    let snapshot = app.resolver.current.load();
    match snapshot.templates.get(id) {
        Some(prepared) => {
            let template = &prepared.template;
            let names = template.references().iter().map(|reference| (&reference.name, ""));
            app.resolver.forbid(caller, route, Some(&template.id), names);
        }
        None => app.resolver.forbid_unknown(caller, route, id),
    }
    AppError::forbidden_and_recorded(Vec::new())
}

/// Checks that this device has heard of its account lately enough to serve. `age` is how old the newest head is, in
/// milliseconds, and `most` how old it may be.
///
/// # Errors
/// `Unavailable`: it is older.
pub(super) fn ensure_recent_head(age: Option<Millis>, most: Option<Duration>) -> Result<(), AppError> {
    let Some((age, most)) = age.zip(most).filter(|(age, most)| u128::from(*age) > most.as_millis()) else {
        return Ok(());
    };
    let message = format!(
        "the account state on this device is {} s old, and account.max_head_age_seconds is {}; no secrets are \
         delivered until this device reaches the account again. Run `guillemet account status` to see why",
        age / 1000,
        most.as_secs()
    );
    Err(AppError::Unavailable(message))
}

/// Returns a template that may be served: the account's other devices know what it names, or cannot be told now.
///
/// # Errors
/// `Unavailable`: they were not told in time.
async fn ensure_published(
    app: &App,
    snapshot: Arc<Snapshot>,
    prepared: Arc<Prepared>,
    until: Instant,
) -> Result<(Arc<Snapshot>, Arc<Prepared>), AppError> {
    if app.sync.handle.is_settled(&prepared.template) {
        return Ok((snapshot, prepared));
    }
    // Nothing of the old state is held while waiting: the account may change it.
    drop(snapshot);
    if app.sync.handle.published(&prepared.template, until).await {
        return Ok((app.resolver.current.load(), prepared));
    }
    let message = "the account's other devices could not be told about this template's references yet; try again";
    Err(AppError::Unavailable(message.into()))
}

/// How many read a template again for a request at the same time. One that waits for a file system that hangs keeps its
/// place, so those behind a network have places of their own.
pub struct Rechecks {
    local: Arc<Semaphore>,
    remote: Arc<Semaphore>,
}

impl Default for Rechecks {
    fn default() -> Self {
        let places = || Arc::new(Semaphore::new(RECHECKS));
        Self { local: places(), remote: places() }
    }
}

impl Rechecks {
    /// Reads what may be the template `id` again.
    async fn recheck(&self, app: &Arc<App>, id: &str, is_local: bool, until: Instant) -> Result<(), AppError> {
        let late = || {
            let message =
                format!("reading the file of template `{id}` takes too long; try again when its file system responds");
            AppError::Unavailable(message)
        };
        let places = Arc::clone(if is_local { &self.local } else { &self.remote });
        let owned_id = id.to_owned();
        let recheck = async {
            let Ok(place) = places.acquire_owned().await else { return Err(late()) };
            let read = move |inventory: &Inventory| {
                let _place = place;
                inventory.recheck(&owned_id);
                Ok(())
            };
            blocking(app, read).await
        };
        tokio::time::timeout_at(until.into(), recheck).await.map_err(|_| late())?
    }
}

/// The newest form of a template: what is served is what is in the file now.
///
/// # Errors
/// There is none, or it does not rest.
pub async fn current(app: &Arc<App>, id: &str, until: Instant) -> Result<(Arc<Snapshot>, Arc<Prepared>), AppError> {
    let mut read: Option<Arc<Prepared>> = None;
    let mut rechecked = false;
    loop {
        let snapshot = app.resolver.current.load();
        let found = snapshot.templates.get(id).cloned();
        match found {
            Some(prepared) if prepared.template.is_local && prepared.template.is_current() => {
                return ensure_published(app, snapshot, prepared, until).await;
            }
            // Not sure by its metadata, but it has been read since then and was as it had been.
            Some(prepared) if read.as_ref().is_some_and(|read| Arc::ptr_eq(read, &prepared)) => {
                return ensure_published(app, snapshot, prepared, until).await;
            }
            None if rechecked => {
                let message =
                    format!("there is no template `{id}`; run `guillemet template list` to see all templates");
                return Err(AppError::NotFound(message));
            }
            _ if Instant::now() >= until => {
                let message = format!("template `{id}` is still being edited; try again once it stops changing");
                return Err(AppError::Unavailable(message));
            }
            // Changed, gone or new since it was read; or nobody can tell without a wait.
            found => {
                let is_local = found.as_ref().is_none_or(|prepared| prepared.template.is_local);
                read = found;
                drop(snapshot);
                app.rechecks.recheck(app, id, is_local, until).await?;
                rechecked = true;
            }
        }
    }
}

/// The newest form of a template with its plan for a target, and the snapshot both belong to.
///
/// # Errors
/// As `current`, or why there is no plan.
pub async fn planned(
    app: &Arc<App>,
    id: &str,
    target: Option<&str>,
) -> Result<(Arc<Snapshot>, Arc<Prepared>, Arc<Plan>), AppError> {
    let until = Instant::now() + PLAN_TIME;
    let mut has_caught_up = false;
    loop {
        let (snapshot, prepared) = current(app, id, until).await?;
        match prepared.ready(target) {
            Some(Ok(plan)) => return Ok((snapshot, prepared, plan)),
            Some(Err(unplanned)) => {
                drop(snapshot);
                let may_be_of_variables = matches!(unplanned, Unplanned::Problems(_));
                if may_be_of_variables && !std::mem::replace(&mut has_caught_up, true) {
                    let catching_up = configuration::catch_up(app);
                    let _ = tokio::time::timeout_at(until.into(), catching_up).await;
                    continue;
                }
                let hint = if may_be_of_variables { app.configuration_hint() } else { None };
                return Err(AppError::Template(TemplateError::new(Some(id), unplanned).with_hint(hint)));
            }
            None => {}
        }
        // Nothing of the old state is held while waiting, so that no change has to wait for this plan.
        drop(snapshot);
        let config = app.config.load_full();
        let making = prepared.plan(target, &app.registry, &config.variables);
        match tokio::time::timeout_at(until.into(), making).await {
            Err(_) => {
                let message = format!("template `{id}` is still being compiled; try again");
                return Err(AppError::Unavailable(message));
            }
            Ok(Err(unplanned @ (Unplanned::NoTarget(_) | Unplanned::Plugin(_)))) => {
                return Err(AppError::Template(TemplateError::new(Some(id), unplanned)));
            }
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_an_old_head_nothing_is_served() {
        let minute = Some(Duration::from_secs(60));
        for (age, most) in
            [(None, None), (None, minute), (Some(0), minute), (Some(60_000), minute), (Some(u64::MAX), None)]
        {
            assert!(ensure_recent_head(age, most).is_ok(), "{age:?} of {most:?}");
        }
        for age in [60_001, u64::MAX] {
            let refused = format!("{:?}", ensure_recent_head(Some(age), minute).unwrap_err());
            assert!(
                refused.contains("Unavailable") && refused.contains("account.max_head_age_seconds is 60"),
                "{refused}"
            );
        }
    }
}
