//! The plugins of users: listed, added, let go, and refused when their files change.
//!
//! Whoever changes pins holds `App::pins` meanwhile, so that a file is never held against a pin that is just being
//! replaced.

use std::sync::Arc;

use hyper::StatusCode;

use super::endpoints::{Answer, empty, json_answer};
use super::error::{ApiError, Code};
use super::{App, audit, request};
use crate::plugin::registry::{Candidate, Pin, PluginView};
use crate::resolve::now;
use crate::vault::audit::{About, Actor, Change};
use crate::vault::usage::ChangeKind;

/// Under which the vault keeps the pinned plugins.
pub const PINS: &str = "plugins";

/// Every plugin, as its file is now.
pub(super) async fn list(app: &Arc<App>) -> Vec<PluginView> {
    look_again(app).await;
    app.registry.list().await
}

/// Holds the files of the added plugins against their pins. What has changed is refused from now on, and what is as
/// it was added is used again.
pub async fn look_again(app: &Arc<App>) {
    let pins = app.pins.lock().await;
    if pins.is_empty() {
        return;
    }
    let (looking, looked_for) = (Arc::clone(app), pins.clone());
    let changed = tokio::task::spawn_blocking(move || looking.registry.look_again(&looked_for)).await;
    for feature in changed.unwrap_or_default() {
        forget_plans(app, &feature).await;
    }
}

pub(super) async fn add(app: &Arc<App>, actor: &Actor, mut fields: request::Fields) -> Answer {
    let file = fields.text("file");
    let confirm = fields.flag("confirm").unwrap_or(false);
    let digest = fields.optional_text("digest");
    let replaces = fields.optional_text("replaces");
    fields.finish()?;
    let file = std::path::PathBuf::from(file.unwrap_or_default());
    if !file.is_absolute() {
        return Err(ApiError::fields(vec![("file".into(), "an absolute path is needed".into())]));
    }
    if !confirm {
        return Ok(json_answer(StatusCode::OK, &app.registry.look(&file).await?));
    }
    let Some(digest) = digest else {
        return Err(ApiError::fields(vec![("digest".into(), "the SHA-256 that was looked at is needed".into())]));
    };
    let kind = ChangeKind::PluginAdded;
    // Nobody waits while it is compiled.
    let looked_at = async { Ok(app.registry.candidate(&file).await?) };
    let candidate = audit::attempt(app, actor, &[(kind, About::Whole)], looked_at).await?;
    let about = About::Plugin(candidate.feature().to_owned());
    let adding = confirmed(app, actor, candidate, &digest, replaces.as_deref());
    let added = audit::attempt(app, actor, &[(kind, about)], adding).await?;
    forget_plans(app, &added.feature).await;
    Ok(json_answer(StatusCode::CREATED, &added))
}

/// Adds what somebody has looked at.
async fn confirmed(
    app: &Arc<App>,
    actor: &Actor,
    candidate: Candidate,
    digest: &str,
    replaces: Option<&str>,
) -> Result<PluginView, ApiError> {
    let mut pins = app.pins.lock().await;
    let mut next = pins.clone();
    let pin = async |pin: Pin| {
        let mut change = of_plugin(ChangeKind::PluginAdded, actor, &pin.feature).after(pin.digest.as_str());
        change.before = app.registry.digest(&pin.feature);
        next.retain(|known| known.feature != pin.feature);
        next.push(pin);
        store_pins(app, &next, change).await
    };
    let added = app.registry.add(candidate, digest, replaces, pin).await?;
    *pins = next;
    Ok(added)
}

fn of_plugin(kind: ChangeKind, actor: &Actor, feature: &str) -> Change {
    Change::new(kind, actor, now()).about(About::Plugin(feature.to_owned()))
}

pub(super) async fn remove(app: &Arc<App>, actor: &Actor, feature: &str) -> Answer {
    let about = match app.registry.knows(feature) {
        true => About::Plugin(feature.to_owned()),
        false => audit::unknown(&app.resolver, actor, feature),
    };
    audit::attempt(app, actor, &[(ChangeKind::PluginRemoved, about)], removed(app, actor, feature)).await?;
    forget_plans(app, feature).await;
    Ok(empty(StatusCode::NO_CONTENT))
}

async fn removed(app: &Arc<App>, actor: &Actor, feature: &str) -> Result<(), ApiError> {
    let mut pins = app.pins.lock().await;
    let mut next = pins.clone();
    let Some(at) = next.iter().position(|pin| pin.feature == feature) else {
        let message = format!("no plugin was added for the feature `{feature}`; built-in ones cannot be removed");
        return Err(ApiError::new(Code::NotFound, message));
    };
    let change = of_plugin(ChangeKind::PluginRemoved, actor, feature).before(next.remove(at).digest);
    store_pins(app, &next, change).await.map_err(|error| ApiError::new(Code::Unavailable, error))?;
    app.registry.remove(feature).await;
    *pins = next;
    Ok(())
}

async fn store_pins(app: &Arc<App>, pins: &[Pin], change: Change) -> Result<(), String> {
    let bytes = serde_json::to_vec(pins).map_err(|error| error.to_string())?;
    let app = Arc::clone(app);
    let stored = tokio::task::spawn_blocking(move || app.inventory.set_document(PINS, &bytes, &[change])).await;
    stored.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

async fn forget_plans(app: &Arc<App>, feature: &str) {
    app.inventory.forget_plans(Some(feature)).wait().await;
}
