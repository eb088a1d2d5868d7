//! `POST /v1/render`: a config of a template that comes with the request.
//!
//! It sees no variables unless its caller administers, and needs the right to resolve every secret that is
//! named anywhere in it by that name: who writes the template decides where a secret goes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::json;

use super::endpoints::{self, Answer, Asked, FORBIDDEN, FORBIDDEN_SECRET, PLAN_TIME};
use super::error::{ApiError, Code};
use super::routes::Endpoint;
use super::{App, request};
use crate::config::Config;
use crate::resolve::plans::{Source, Unplanned, plan_once};
use crate::resolve::snapshot::State;
use crate::sys::stack::leaving_nothing;
use crate::template::Format;
use crate::template::catalog::TEMPLATE_MAX;
use crate::template::lexer::{Lexed, lex};

/// One inline render at a time for each caller, so that none of them keeps the planners from the others.
#[derive(Default)]
pub struct Turns(Mutex<HashMap<u32, Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// The turn of a process.
    fn of(&self, pid: u32) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = turns.get(&pid).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        turns.insert(pid, Arc::downgrade(&turn));
        turn
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

/// Renders it.
pub async fn render(app: &Arc<App>, inline: Inline, asked: Asked<'_>) -> Answer {
    let lexed = lex(&inline.text).map_err(|problems| ApiError::unplanned(None, &Unplanned::Problems(problems)))?;
    permit(app, &app.resolver.current.load(), &lexed, asked)?;
    if !app.registry.knows(&inline.feature) {
        let message = "there is no plugin for this feature; `guillemet plugin list` shows which there are";
        return Err(ApiError::fields(vec![("feature".into(), message.into())]));
    }
    let bare;
    let sees_variables = asked.access.administers();
    let config = if sees_variables {
        asked.config
    } else {
        bare = Config { vars: json!({}), env: Default::default(), ..asked.config.clone() };
        &bare
    };
    let turn = app.inline.of(asked.caller.pid);
    let source = Source { feature: &inline.feature, format: inline.format, lexed: &lexed };
    let planning = async {
        let _turn = turn.lock().await;
        plan_once(source, inline.target.as_deref(), &app.registry, config).await
    };
    let plan = tokio::time::timeout(PLAN_TIME, planning)
        .await
        .map_err(|_| ApiError::new(Code::Unavailable, "the template is still being worked out; try again"))?
        .map_err(|unplanned| ApiError::unplanned(None, &unplanned))?;
    let snapshot = app.resolver.current.load();
    if sees_variables
        && !(std::ptr::eq(&*app.config.load_full(), asked.config) && asked.now(app, |access| access.administers())?)
    {
        let message = "the configuration was changed while the template was worked out; try again";
        return Err(ApiError::new(Code::Unavailable, message));
    }
    // The names may have moved to other secrets meanwhile.
    permit(app, &snapshot, &lexed, asked)?;
    let rendered = leaving_nothing(|| app.resolver.render(snapshot, None, &plan, asked.caller, asked.known()))?;
    Ok(endpoints::document(rendered))
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
    Err(ApiError::with(Code::Forbidden, FORBIDDEN, refused.iter().map(entry)))
}
