//! The plugins of users: listed, added, let go, and refused when their files change.
//!
//! Whoever changes pins holds `App::pins` meanwhile, so that a file is never held against a pin that is just being
//! replaced.

use std::sync::Arc;

use hyper::StatusCode;

use super::endpoints::{Answer, empty, json_answer};
use super::error::{ApiError, Code};
use super::{App, request};
use crate::plugin::registry::{Pin, PluginView};

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

pub(super) async fn add(app: &Arc<App>, mut fields: request::Fields) -> Answer {
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
    // Nobody waits while it is compiled.
    let candidate = app.registry.candidate(&file).await?;
    let mut pins = app.pins.lock().await;
    let mut next = pins.clone();
    let pin = async |pin: Pin| {
        next.retain(|known| known.feature != pin.feature);
        next.push(pin);
        store_pins(app, &next).await
    };
    let added = app.registry.add(candidate, &digest, replaces.as_deref(), pin).await?;
    *pins = next;
    forget_plans(app, &added.feature).await;
    Ok(json_answer(StatusCode::CREATED, &added))
}

pub(super) async fn remove(app: &Arc<App>, feature: &str) -> Answer {
    let mut pins = app.pins.lock().await;
    let mut next = pins.clone();
    next.retain(|pin| pin.feature != feature);
    if next.len() == pins.len() {
        let message = format!("no plugin was added for the feature `{feature}`; built-in ones cannot be removed");
        return Err(ApiError::new(Code::NotFound, message));
    }
    store_pins(app, &next).await.map_err(|error| ApiError::new(Code::Unavailable, error))?;
    app.registry.remove(feature).await;
    *pins = next;
    forget_plans(app, feature).await;
    Ok(empty(StatusCode::NO_CONTENT))
}

async fn store_pins(app: &Arc<App>, pins: &[Pin]) -> Result<(), String> {
    let bytes = serde_json::to_vec(pins).map_err(|error| error.to_string())?;
    let app = Arc::clone(app);
    let stored = tokio::task::spawn_blocking(move || app.inventory.set_document(PINS, &bytes)).await;
    stored.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

async fn forget_plans(app: &Arc<App>, feature: &str) {
    app.inventory.forget_plans(Some(feature)).wait().await;
}
