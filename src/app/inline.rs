//! `POST /v1/render`: a config of a template that comes with the request.
//!
//! It sees no variables unless its caller administers, and needs the right to resolve every secret that is
//! named anywhere in it by that name: who writes the template decides where a secret goes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::json;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use super::endpoints::{self, Answer, Asked, FORBIDDEN, FORBIDDEN_SECRET, PLAN_TIME};
use super::error::{ApiError, Code};
use super::routes::Endpoint;
use super::{App, request};
use crate::config::Config;
use crate::plugin::plan::Plan;
use crate::resolve::plans::{Source, Unplanned, plan_once};
use crate::resolve::snapshot::State;
use crate::sys::stack::leaving_nothing;
use crate::template::Format;
use crate::template::catalog::TEMPLATE_MAX;
use crate::template::lexer::{Lexed, lex};

/// How many planners of their own run at once, for callers who do not administer. Each user has one at most.
const PLANNERS: usize = 4;

/// One inline render at a time for each user, so that none of them keeps planners from the others by starting processes.
pub struct Turns {
    users: Mutex<HashMap<u32, Weak<tokio::sync::Mutex<()>>>>,
    planners: Arc<Semaphore>,
}

/// A user's turn, and a place for a planner of its own where it needs one. Given back when dropped.
struct Turn {
    _user: OwnedMutexGuard<()>,
    _planner: Option<OwnedSemaphorePermit>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { users: Mutex::default(), planners: Arc::new(Semaphore::new(PLANNERS)) }
    }
}

impl Turns {
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

    /// Waits for the turn of a user; with a planner of its own, for a place for that too. Whoever waits for a place has
    /// its user's turn, so users get places in the order in which they came, whatever each of them asks for.
    async fn turn(&self, uid: u32, has_own_planner: bool) -> Turn {
        let user = self.of(uid).lock_owned().await;
        // An error would say that there are no places, and they are never taken away.
        let planner = if has_own_planner { Arc::clone(&self.planners).acquire_owned().await.ok() } else { None };
        Turn { _user: user, _planner: planner }
    }
}

/// The body of the request.
pub struct Inline {
    feature: String,
    format: Format,
    text: String,
    target: Option<String>,
}

impl Inline {
    /// Reads the body; what is wrong with single fields is noted there.
    ///
    /// # Errors
    /// When `finish` will tell more.
    pub fn read(fields: &mut request::Fields) -> Result<Self, ApiError> {
        let feature = fields.text("feature");
        let format = fields.one_of("format", &["toml", "json", "jsonc", "yaml"]);
        let text = fields.text("template");
        if text.as_ref().is_some_and(|text| text.len() as u64 > TEMPLATE_MAX) {
            fields.wrong("template", format!("a template may have at most {} KiB", TEMPLATE_MAX >> 10));
        }
        let target = fields.optional_text("target");
        let format = format.as_deref().and_then(Format::from_extension);
        match (feature, format, text) {
            (Some(feature), Some(format), Some(text)) => Ok(Self { feature, format, text, target }),
            _ => Err(ApiError::new(Code::Validation, "the request holds what it cannot hold")),
        }
    }
}

/// Renders it. A caller who does not administer gets a planner of its own for it, which ends with the request: what its
/// template does to a planner, it does to nobody else's template.
pub async fn render(app: &Arc<App>, inline: Inline, asked: Asked<'_>) -> Answer {
    let lexed = lex(&inline.text).map_err(|problems| ApiError::unplanned(None, &Unplanned::Problems(problems)))?;
    permit(app, &app.resolver.current.load(), &lexed, asked)?;
    if !app.registry.knows(&inline.feature) {
        let message = "there is no plugin for this feature; `guillemet plugin list` shows which there are";
        return Err(ApiError::fields(vec![("feature".into(), message.into())]));
    }
    let until = Instant::now() + PLAN_TIME;
    let administers = asked.access.administers();
    let turn = tokio::time::timeout_at(until, app.inline.turn(asked.caller.uid, !administers)).await;
    let turn = turn.map_err(|_| {
        ApiError::busy(
            "another template of this user is being worked out (POST /v1/render takes one at a time of each user), or all \
             planners for such templates are busy; try again",
        )
    })?;
    let lexed = Arc::new(lexed);
    let planning = async {
        if administers {
            let _turn = turn;
            let source = Source { feature: &inline.feature, format: inline.format, lexed: &lexed };
            return plan_once(source, inline.target.as_deref(), &app.registry, asked.config).await;
        }
        let config = Config { vars: json!({}), env: Default::default(), ..asked.config.clone() };
        plan_apart(app, &inline, &lexed, config, turn).await
    };
    let plan = tokio::time::timeout_at(until, planning)
        .await
        .map_err(|_| ApiError::new(Code::Unavailable, "the template is still being worked out; try again"))?
        .map_err(|unplanned| ApiError::unplanned(None, &unplanned))?;
    let snapshot = app.resolver.current.load();
    if administers
        && !(std::ptr::eq(&*app.config.load_full(), asked.config) && asked.now(app, |access| access.administers())?)
    {
        let message = "the configuration was changed while the template was worked out; try again";
        return Err(ApiError::new(Code::Unavailable, message));
    }
    // The names may have moved to other secrets meanwhile.
    permit(app, &snapshot, &lexed, asked)?;
    let rendered = leaving_nothing(|| app.resolver.render(snapshot, None, &plan, asked.caller, asked.known()))?;
    Ok(endpoints::document(rendered, &plan.target, inline.target.as_deref()))
}

/// Plans in a planner of its own. The turn ends when that planner is gone, also where the caller went before: else who
/// asks and goes would have more planners than its turn allows.
async fn plan_apart(
    app: &Arc<App>,
    inline: &Inline,
    lexed: &Arc<Lexed>,
    config: Config,
    turn: Turn,
) -> Result<Plan, Unplanned> {
    let (mut told, wanted) = oneshot::channel();
    let (app, lexed) = (Arc::clone(app), Arc::clone(lexed));
    let (feature, format, target) = (inline.feature.clone(), inline.format, inline.target.clone());
    tokio::spawn(async move {
        let _turn = turn;
        let registry = match app.registry.apart(&feature).await {
            Ok(registry) => registry,
            Err(message) => {
                let _ = told.send(Err(Unplanned::Plugin(message)));
                return;
            }
        };
        let source = Source { feature: &feature, format, lexed: &lexed };
        let planned = tokio::select! {
            planned = plan_once(source, target.as_deref(), &registry, &config) => Some(planned),
            () = told.closed() => None,
        };
        if let Some(planned) = planned {
            let _ = told.send(planned);
        }
        registry.end().await;
    });
    wanted.await.unwrap_or_else(|_| Err(Unplanned::Plugin("the planner was lost; try again".into())))
}

/// Refuses a template that names a secret, in whatever branch, that its caller may not resolve by name.
fn permit(app: &App, state: &State, lexed: &Lexed, asked: Asked<'_>) -> Result<(), ApiError> {
    let references = &lexed.references;
    let names = || references.iter().map(|reference| &reference.name);
    let refused = asked.now(app, |access| endpoints::refused(state, names(), access))?;
    if refused.is_empty() {
        return Ok(());
    }
    let names = refused.iter().map(|index| (&references[*index].name, ""));
    app.resolver.forbid(asked.caller, &Endpoint::RenderInline.route(), None, names);
    let entry = |index: &usize| {
        let reference = &references[*index];
        json!({
            "field": "template", "message": FORBIDDEN_SECRET, "name": reference.name,
            "line": reference.line, "column": reference.column,
        })
    };
    Err(ApiError::with(Code::Forbidden, FORBIDDEN, refused.iter().map(entry)).recorded())
}
