//! Renders a template that comes with the request.
//!
//! Such a template sees no variables unless its caller administers. The caller needs the right to resolve, by that
//! name, every secret that the template names anywhere, because the author of a template decides where a secret goes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::json;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use super::App;
use super::access::Principal;
use super::error::{AppError, ForbiddenSecret, TemplateError};
use super::secrets::forbidden_names;
use super::serving::{PLAN_TIME, ensure_recent_head};
use crate::resolve::snapshot::SnapshotState;
use crate::resolve::{RenderedConfig, Resolver};
use guillemet_plan::plan::Plan;
use guillemet_plugin::plans::{PlanError, TemplateSource, Variables, plan_once};
use guillemet_template::Format;
use guillemet_template::lexer::{Lexed, lex};

/// The most planners that run at once for templates of callers who do not administer. Each user has at most one.
const PLANNERS: usize = 4;

/// Allows one inline render at a time for each user, so that no user can take all planners by starting processes.
pub struct InlineQueue {
    users: Mutex<HashMap<u32, Weak<tokio::sync::Mutex<()>>>>,
    planners: Arc<Semaphore>,
}

/// The turn of a user, and its place for a separate planner if it needs one. Both are given back on drop.
struct InlinePermit {
    _user: OwnedMutexGuard<()>,
    _planner: Option<OwnedSemaphorePermit>,
}

impl Default for InlineQueue {
    fn default() -> Self {
        Self { users: Mutex::default(), planners: Arc::new(Semaphore::new(PLANNERS)) }
    }
}

impl InlineQueue {
    fn of(&self, uid: u32) -> Arc<tokio::sync::Mutex<()>> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = users.get(&uid).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        users.insert(uid, Arc::downgrade(&turn));
        turn
    }

    /// Waits for the turn of a user, and with `has_own_planner` also for a planner's place. A request that waits for a
    /// place already has its user's turn, so users get places in the order in which they came, however many requests
    /// each sends.
    async fn acquire(&self, uid: u32, has_own_planner: bool) -> InlinePermit {
        let user = self.of(uid).lock_owned().await;
        // An error would mean that the semaphore was closed, which never happens.
        let planner = if has_own_planner { Arc::clone(&self.planners).acquire_owned().await.ok() } else { None };
        InlinePermit { _user: user, _planner: planner }
    }
}

/// A template that comes with a request.
pub struct InlineTemplate {
    /// The feature whose plugin renders it.
    pub feature: String,
    /// The format of the text.
    pub format: Format,
    /// The text of the template.
    pub text: String,
    /// The name of the target, present or former; `None` for the feature's default.
    pub target: Option<String>,
}

/// Renders an inline template. If the caller does not administer, the template gets a separate planner that ends with
/// the request, so a template that attacks its planner cannot affect other templates (promise Isolated).
/// `if_none_match` holds the entity tags of the copies that the caller has.
///
/// # Errors
/// - [`AppError::Unavailable`]: this device has had no news of its account for too long, the planning takes too long,
///   the configuration changed meanwhile, or the uses cannot be recorded.
/// - [`AppError::Template`]: the template could not be planned.
/// - [`AppError::Forbidden`]: lists each secret it names that the caller may not resolve by that name.
/// - [`AppError::Invalid`]: there is no such feature.
/// - [`AppError::Busy`]: no turn or planner became free in time.
/// - [`AppError::Secrets`]: secrets are unavailable, or do not fit where they are placed.
/// - [`AppError::Exhausted`]: there is no memory left for the answer.
pub async fn render(
    app: &Arc<App>,
    inline: &InlineTemplate,
    if_none_match: Option<&str>,
    principal: Principal<'_>,
) -> Result<(RenderedConfig, Plan), AppError> {
    ensure_recent_head(app.sync.handle.head_age(), principal.config().max_head_age)?;
    let lexed = lex(&inline.text).map_err(|problems| template_error(PlanError::Problems(problems)))?;
    let lexed = Arc::new(lexed);
    check_permitted(app, &app.resolver.current.load(), &lexed, principal)?;
    if !app.registry.has_plugin(&inline.feature) {
        let message = "there is no plugin for this feature; run `guillemet plugin list` to see all plugins";
        return Err(AppError::invalid("feature", message));
    }
    let plan = plan_queued(app, inline, Arc::clone(&lexed), principal).await?;
    let snapshot = app.resolver.current.load();
    if principal.access.administers()
        && !(std::ptr::eq(&*app.config.load_full(), principal.config())
            && principal.recheck(app, |access| access.administers())?)
    {
        let message = "the configuration changed while the template was being compiled; try again";
        return Err(AppError::Unavailable(message.into()));
    }
    // Names may have moved to other secrets meanwhile.
    check_permitted(app, &snapshot, &lexed, principal)?;
    let work = Resolver::render_work(&snapshot, &plan);
    let (caller, tags) = (principal.caller.clone(), if_none_match.map(str::to_owned));
    let make = move |resolver: &Resolver| {
        let rendered = resolver.render(snapshot, None, &plan, &caller, tags.as_deref())?;
        Ok((rendered, plan))
    };
    app.make_answer(work, make).await
}

/// Plans the template when its user's turn comes.
async fn plan_queued(
    app: &Arc<App>,
    inline: &InlineTemplate,
    lexed: Arc<Lexed>,
    principal: Principal<'_>,
) -> Result<Plan, AppError> {
    let until = Instant::now() + PLAN_TIME;
    let administers = principal.access.administers();
    let permit = tokio::time::timeout_at(until, app.inline.acquire(principal.caller.uid, !administers)).await;
    let permit = permit.map_err(|_| {
        AppError::Busy(
            "another template of this user is being compiled (POST /v1/render compiles one template per user at a \
             time), or all planners for these templates are busy; try again",
        )
    })?;
    let planning = async {
        if administers {
            let _permit = permit;
            let source = TemplateSource { feature: &inline.feature, format: inline.format, lexed: &lexed };
            return plan_once(source, inline.target.as_deref(), &app.registry, &principal.config().variables).await;
        }
        let variables = Variables { vars: json!({}), ..Variables::default() };
        plan_separately(app, inline, &lexed, variables, permit).await
    };
    tokio::time::timeout_at(until, planning)
        .await
        .map_err(|_| AppError::Unavailable("the template is still being compiled; try again".into()))?
        .map_err(template_error)
}

fn template_error(cause: PlanError) -> AppError {
    AppError::Template(TemplateError::new(None, cause))
}

/// Plans in a separate planner. The turn ends when that planner has ended, even if the caller disconnected earlier:
/// otherwise a caller that asks and disconnects again and again would have more planners than its turn allows.
async fn plan_separately(
    app: &Arc<App>,
    inline: &InlineTemplate,
    lexed: &Arc<Lexed>,
    variables: Variables,
    permit: InlinePermit,
) -> Result<Plan, PlanError> {
    let (mut sender, receiver) = oneshot::channel();
    let (app, lexed) = (Arc::clone(app), Arc::clone(lexed));
    let (feature, format, target) = (inline.feature.clone(), inline.format, inline.target.clone());
    tokio::spawn(async move {
        let _permit = permit;
        let registry = match app.registry.with_own_planner(&feature).await {
            Ok(registry) => registry,
            Err(message) => {
                let _ = sender.send(Err(PlanError::Plugin(message)));
                return;
            }
        };
        let source = TemplateSource { feature: &feature, format, lexed: &lexed };
        let planned = tokio::select! {
            planned = plan_once(source, target.as_deref(), &registry, &variables) => Some(planned),
            () = sender.closed() => None,
        };
        if let Some(planned) = planned {
            let _ = sender.send(planned);
        }
        registry.end().await;
    });
    receiver.await.unwrap_or_else(|_| Err(PlanError::Plugin("the planner exited unexpectedly; try again".into())))
}

/// Refuses a template that names, in any branch, a secret that its caller may not resolve by that name.
fn check_permitted(app: &App, state: &SnapshotState, lexed: &Lexed, principal: Principal<'_>) -> Result<(), AppError> {
    let references = &lexed.references;
    let names = || references.iter().map(|reference| &reference.name);
    let forbidden = principal.recheck(app, |access| forbidden_names(state, names(), access))?;
    if forbidden.is_empty() {
        return Ok(());
    }
    let names = forbidden.iter().map(|index| (&references[*index].name, ""));
    app.resolver.forbid(principal.caller, principal.route, None, names);
    let entry = |index: &usize| {
        let reference = &references[*index];
        ForbiddenSecret::of_reference(reference.name.clone(), reference.line, reference.column)
    };
    Err(AppError::forbidden_and_recorded(forbidden.iter().map(entry).collect()))
}
