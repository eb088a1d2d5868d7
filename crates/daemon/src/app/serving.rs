//! Renders stored templates: makes sure each is current, published, planned and permitted, and then fills it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::access::{Access, Principal};
use super::error::{AppError, TemplateError};
use super::{App, blocking, configuration};
use crate::inventory::Inventory;
use crate::resolve::snapshot::Snapshot;
use crate::resolve::{RenderedConfig, Resolver};
use guillemet_base::names::Millis;
use guillemet_plan::plan::Plan;
use guillemet_plan::protocol::Target;
use guillemet_plugin::plans::{PlanError, Prepared};
use guillemet_vault::usage::Caller;

/// The longest time that a request waits for a plan.
pub const PLAN_TIME: Duration = Duration::from_secs(10);

/// The most requests that re-read their template at the same time, for local file systems and again for remote ones.
const RECHECKS: usize = 8;

/// The options of a render.
#[derive(Clone, Copy, Debug)]
pub struct RenderOptions<'a> {
    /// The name of the target, present or former; `None` for the template's default.
    pub target: Option<&'a str>,
    /// A name of the target that the caller has a copy of. The render is refused for any other target.
    pub expected_target: Option<&'a [u8]>,
    /// The entity tags of the copies that the caller has; `None` if it sent none.
    pub if_none_match: Option<&'a str>,
}

/// Renders a template for a caller, from the file as it is now, and records the uses of its secrets.
///
/// # Errors
/// - [`AppError::Unavailable`]: this device has had no news of its account for too long, the other devices could not
///   yet be told what the template references, the file keeps changing, planning takes too long, or the uses cannot be
///   recorded.
/// - [`AppError::Forbidden`]: the caller may not render the template for this target.
/// - [`AppError::NotFound`]: there is no such template.
/// - [`AppError::Template`]: it could not be planned for the target. A caller who does not administer sees none of its
///   text.
/// - [`AppError::OtherTarget`]: the target is not the expected one.
/// - [`AppError::Secrets`]: secrets are unavailable, or do not fit where they are placed.
/// - [`AppError::Exhausted`]: there is no memory left for the answer.
pub async fn render(
    app: &Arc<App>,
    id: &str,
    options: RenderOptions<'_>,
    principal: Principal<'_>,
) -> Result<(RenderedConfig, Arc<Plan>), AppError> {
    ensure_recent_head(app.sync.handle.head_age(), principal.config().max_head_age)?;
    let (snapshot, prepared, plan) = match ready_plan(app, id, options.target) {
        Some(planned) => planned,
        None => {
            // On the heap, because a render that need not wait has no use for them.
            if !Box::pin(may_render(app, id, options.target, principal.access)).await {
                return Err(forbidden_template(app, principal.route, id, principal.caller));
            }
            let planned = Box::pin(current_plan(app, id, options.target)).await;
            planned.map_err(|error| if principal.access.administers() { error } else { error.without_quotes() })?
        }
    };
    // The default target may have changed with the template or the plugin meanwhile, and the rules with the
    // configuration.
    let may_render = principal.recheck(app, |access| {
        access.administers() || access.may_render(id, Some(&plan.target.names().collect::<Vec<_>>()))
    })?;
    if !may_render {
        return Err(forbidden_template(app, principal.route, id, principal.caller));
    }
    check_same_target(&plan.target, options.expected_target)?;
    let work = Resolver::render_work(&snapshot, &plan);
    let (caller, tags) = (principal.caller.clone(), options.if_none_match.map(str::to_owned));
    let make = move |resolver: &Resolver| {
        let template_id = Some(prepared.template.id.as_str());
        let rendered = resolver.render(snapshot, template_id, &plan, &caller, tags.as_deref())?;
        Ok((rendered, plan))
    };
    app.make_answer(work, make).await
}

/// Refuses a render for another target than the one that the caller has a copy of.
fn check_same_target(target: &Target, expected: Option<&[u8]>) -> Result<(), AppError> {
    match expected {
        Some(expected) if !target.names().any(|name| name.as_bytes() == expected) => {
            Err(AppError::OtherTarget(target.id.clone()))
        }
        _ => Ok(()),
    }
}

/// Returns whether a caller may render a template for a target. A caller without the right must learn nothing about the
/// template's problems, so this looks only at its targets, and only if the caller's rights depend on them.
async fn may_render(app: &Arc<App>, id: &str, target: Option<&str>, access: &Access<'_>) -> bool {
    if access.administers() {
        return true;
    }
    // A caller that may render it for no target causes no call to the plugin.
    if !access.may_render(id, None) {
        return false;
    }
    if access.may_render_any(id) {
        return true;
    }
    let (shared, owned_id, target) = (Arc::clone(app), id.to_owned(), target.map(str::to_owned));
    let names = app.on_daemon(async move { target_names(&shared, &owned_id, target.as_deref()).await }).await;
    names.is_some_and(|names| access.may_render(id, Some(&names.iter().map(String::as_str).collect::<Vec<_>>())))
}

/// Returns the names of a target as far as they are known, or those of the default target of a template. `None` if the
/// template's feature is not known.
async fn target_names(app: &Arc<App>, id: &str, target: Option<&str>) -> Option<Vec<String>> {
    let (feature, _) = id.split_once('/').unwrap_or_default();
    let names = |target: &Target| target.names().map(str::to_owned).collect();
    let of_feature = async || app.registry.targets(feature).await.unwrap_or_default();
    if let Some(name) = target {
        let targets = of_feature().await;
        let found = targets.iter().find(|candidate| candidate.names().any(|alias| alias == name));
        return Some(found.map_or_else(|| vec![name.to_owned()], names));
    }
    let config = app.config.load_full();
    let targets = async {
        let (_, prepared) = current_template(app, id, Instant::now() + PLAN_TIME).await.ok()?;
        prepared.targets(&app.registry, &config.variables).await.ok()
    };
    match tokio::time::timeout(PLAN_TIME, targets).await.ok().flatten() {
        Some(targets) => targets.list.first().map(names),
        // The template does not exist or is broken: treat it like one that names no targets.
        None => of_feature().await.first().map(names),
    }
}

/// Records that a caller was refused a template. The answer is the same whether the template exists or not, and the id
/// that was asked for is recorded only if it exists.
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

/// Checks that the newest head is recent enough to serve from. `age` is its age in milliseconds, or `None` without an
/// account; `max_age` is `account.max_head_age_seconds`, or `None` for no limit.
///
/// # Errors
/// [`AppError::Unavailable`] if the head is older.
pub(super) fn ensure_recent_head(age: Option<Millis>, max_age: Option<Duration>) -> Result<(), AppError> {
    let Some((age, max_age)) = age.zip(max_age).filter(|(age, max_age)| u128::from(*age) > max_age.as_millis()) else {
        return Ok(());
    };
    let message = format!(
        "the account state on this device is {} s old, and account.max_head_age_seconds is {}; no secrets are \
         delivered until this device reaches the account again. Run `guillemet account status` to see why",
        age / 1000,
        max_age.as_secs()
    );
    Err(AppError::Unavailable(message))
}

/// Returns the template once it may be served: the account's other devices know its references, or cannot be told now
/// (promise Guarded).
///
/// # Errors
/// [`AppError::Unavailable`] if they could not be told in time.
async fn ensure_published(
    app: &App,
    snapshot: Arc<Snapshot>,
    prepared: Arc<Prepared>,
    until: Instant,
) -> Result<(Arc<Snapshot>, Arc<Prepared>), AppError> {
    if app.sync.handle.is_settled(&prepared.template) {
        return Ok((snapshot, prepared));
    }
    // Hold nothing of the old state while waiting: the account may change it.
    drop(snapshot);
    if app.sync.handle.wait_until_published(&prepared.template, until).await {
        return Ok((app.resolver.current.load(), prepared));
    }
    let message = "the account's other devices could not be told about this template's references yet; try again";
    Err(AppError::Unavailable(message.into()))
}

/// Limits how many requests re-read their template at the same time. A request that waits for a hanging file system
/// keeps its place, so remote file systems have separate places.
pub struct Rechecks {
    local: Arc<Semaphore>,
    remote: Arc<Semaphore>,
}

impl Default for Rechecks {
    fn default() -> Self {
        let permits = || Arc::new(Semaphore::new(RECHECKS));
        Self { local: permits(), remote: permits() }
    }
}

impl Rechecks {
    /// Reads the file of template `id` again, whether or not the template is known.
    async fn recheck(&self, app: &Arc<App>, id: &str, is_local: bool, until: Instant) -> Result<(), AppError> {
        let too_late = || {
            let message =
                format!("reading the file of template `{id}` takes too long; try again when its file system responds");
            AppError::Unavailable(message)
        };
        let permits = Arc::clone(if is_local { &self.local } else { &self.remote });
        let owned_id = id.to_owned();
        let recheck = async {
            let Ok(permit) = permits.acquire_owned().await else { return Err(too_late()) };
            let read = move |inventory: &Inventory| {
                let _permit = permit;
                inventory.recheck(&owned_id);
                Ok(())
            };
            blocking(app, read).await
        };
        tokio::time::timeout_at(until.into(), recheck).await.map_err(|_| too_late())?
    }
}

/// Returns the newest form of a template, read from its file as it is now.
///
/// # Errors
/// [`AppError::NotFound`] if there is no such template. [`AppError::Unavailable`] if its file keeps changing or does
/// not answer, or the account's other devices could not be told in time.
pub async fn current_template(
    app: &Arc<App>,
    id: &str,
    until: Instant,
) -> Result<(Arc<Snapshot>, Arc<Prepared>), AppError> {
    let mut read: Option<Arc<Prepared>> = None;
    let mut rechecked = false;
    loop {
        let snapshot = app.resolver.current.load();
        let template = snapshot.templates.get(id).cloned();
        match template {
            Some(prepared) if prepared.template.is_local && prepared.template.is_current() => {
                return ensure_published(app, snapshot, prepared, until).await;
            }
            // Its metadata is not conclusive, but the file has been read since then and was unchanged.
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
            // Changed, gone or new since it was read, or only a read that may wait can tell.
            template => {
                let is_local = template.as_ref().is_none_or(|prepared| prepared.template.is_local);
                read = template;
                drop(snapshot);
                app.rechecks.recheck(app, id, is_local, until).await?;
                rechecked = true;
            }
        }
    }
}

/// A template, its plan for a target, and the snapshot that both belong to.
type Planned = (Arc<Snapshot>, Arc<Prepared>, Arc<Plan>);

/// Returns the newest form of a template, its plan for a target, and the snapshot that both belong to.
///
/// # Errors
/// Those of [`current_template`]; [`AppError::Template`] if it could not be planned; [`AppError::Unavailable`] if that
/// takes too long.
pub async fn current_plan(app: &Arc<App>, id: &str, target: Option<&str>) -> Result<Planned, AppError> {
    if let Some(planned) = ready_plan(app, id, target) {
        return Ok(planned);
    }
    let (shared, id, target) = (Arc::clone(app), id.to_owned(), target.map(str::to_owned));
    app.on_daemon(async move { wait_for_plan(&shared, &id, target.as_deref()).await }).await
}

/// Returns what [`current_plan`] does, if it can be had without waiting.
fn ready_plan(app: &App, id: &str, target: Option<&str>) -> Option<Planned> {
    let snapshot = app.resolver.current.load();
    let prepared = Arc::clone(snapshot.templates.get(id)?);
    let template = &prepared.template;
    let is_servable = template.is_local && template.is_current() && app.sync.handle.is_settled(template);
    let plan = prepared.plan_if_made(target).filter(|_| is_servable)?.ok()?;
    Some((snapshot, prepared, plan))
}

async fn wait_for_plan(app: &Arc<App>, id: &str, target: Option<&str>) -> Result<Planned, AppError> {
    let until = Instant::now() + PLAN_TIME;
    let mut has_caught_up = false;
    loop {
        let (snapshot, prepared) = current_template(app, id, until).await?;
        match prepared.plan_if_made(target) {
            Some(Ok(plan)) => return Ok((snapshot, prepared, plan)),
            Some(Err(error)) => {
                drop(snapshot);
                let may_be_of_variables = matches!(error, PlanError::Problems(_));
                if may_be_of_variables && !std::mem::replace(&mut has_caught_up, true) {
                    let catching_up = configuration::reload_if_changed(app);
                    let _ = tokio::time::timeout_at(until.into(), catching_up).await;
                    continue;
                }
                let hint = if may_be_of_variables { app.configuration_hint() } else { None };
                return Err(AppError::Template(TemplateError::new(Some(id), error).with_hint(hint)));
            }
            None => {}
        }
        // Hold nothing of the old state while waiting, so that no change has to wait for this plan.
        drop(snapshot);
        let config = app.config.load_full();
        let making = prepared.plan(target, &app.registry, &config.variables);
        match tokio::time::timeout_at(until.into(), making).await {
            Err(_) => {
                let message = format!("template `{id}` is still being compiled; try again");
                return Err(AppError::Unavailable(message));
            }
            Ok(Err(error @ (PlanError::NoTarget(_) | PlanError::Plugin(_)))) => {
                return Err(AppError::Template(TemplateError::new(Some(id), error)));
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
            let error = format!("{:?}", ensure_recent_head(Some(age), minute).unwrap_err());
            assert!(error.contains("Unavailable") && error.contains("account.max_head_age_seconds is 60"), "{error}");
        }
    }
}
