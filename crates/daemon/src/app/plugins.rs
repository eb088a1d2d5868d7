//! The plugins that users added: listed, added, rolled back, removed, refused when their files change, and stood in for
//! by components under development.
//!
//! `App::pins` is locked for every change of the pins, so that a file is never compared with a pin that is just being
//! replaced.

mod replace;
pub mod stand_in;
mod views;

use std::sync::Arc;

pub use self::replace::{Confirmed, add, inspect, inspect_former, roll_back};
use super::error::AppError;
use super::{App, audit};
use crate::events::{Change, Event};
use guillemet_api::plugins::PluginView;
use guillemet_base::time::now;
use guillemet_plugin::registry::Pin;
use guillemet_vault::audit::{Actor, AuditChange, ChangeSubject};
use guillemet_vault::usage::ChangeKind;

/// The label under which the vault keeps the pinned plugins.
pub const PINS: &str = "plugins";

/// Returns every plugin, after checking the files of the added ones again.
pub async fn list(app: &Arc<App>) -> Vec<PluginView> {
    recheck(app).await;
    list_cached(app).await
}

/// Returns every plugin, as it was when its file was last looked at.
pub async fn list_cached(app: &App) -> Vec<PluginView> {
    app.registry.list().await.into_iter().map(views::plugin).collect()
}

/// Compares the files of the added plugins with their pins. A plugin whose file has changed is refused from now on; one
/// whose file matches its pin again is used again.
pub async fn recheck(app: &Arc<App>) {
    let pins = app.pins.lock().await;
    if pins.is_empty() {
        return;
    }
    let (shared, expected_pins) = (Arc::clone(app), pins.clone());
    let changed = tokio::task::spawn_blocking(move || shared.registry.recheck(&expected_pins)).await;
    for feature in changed.unwrap_or_default() {
        forget_plans(app, &feature).await;
    }
}

fn of_plugin(kind: ChangeKind, actor: &Actor, feature: &str) -> AuditChange {
    AuditChange::new(kind, actor, now()).about(ChangeSubject::Plugin(feature.to_owned()))
}

/// Removes the plugin that was added for a feature, and the former one that is kept. If there is a built-in plugin of
/// the feature, that one is used again.
///
/// # Errors
/// [`AppError::NotFound`] if no plugin was added for the feature. [`AppError::Unavailable`] if the removal cannot be
/// stored.
pub async fn remove(app: &Arc<App>, actor: &Actor, feature: &str) -> Result<(), AppError> {
    let subject = match app.registry.has_plugin(feature) {
        true => ChangeSubject::Plugin(feature.to_owned()),
        false => audit::unknown_subject(&app.resolver, actor, feature),
    };
    audit::attempt(app, actor, &[(ChangeKind::PluginRemoved, subject)], remove_pinned(app, actor, feature)).await?;
    forget_plans(app, feature).await;
    Ok(())
}

async fn remove_pinned(app: &Arc<App>, actor: &Actor, feature: &str) -> Result<(), AppError> {
    let mut pins = app.pins.lock().await;
    app.registry.check_no_stand_in(feature)?;
    let mut next = pins.clone();
    let Some(at) = next.iter().position(|pin| pin.feature == feature) else {
        let message =
            format!("there is no added plugin for the feature `{feature}`; built-in plugins cannot be removed");
        return Err(AppError::NotFound(message));
    };
    let mut change = of_plugin(ChangeKind::PluginRemoved, actor, feature);
    let removed = next.remove(at);
    change.before = removed.digest.or_else(|| removed.former?.digest);
    store_pins(app, &next, change).await.map_err(AppError::Unavailable)?;
    app.registry.remove(feature).await;
    *pins = next;
    Ok(())
}

async fn store_pins(app: &Arc<App>, pins: &[Pin], change: AuditChange) -> Result<(), String> {
    let bytes = serde_json::to_vec(pins).map_err(|error| error.to_string())?;
    let stored = app.inventory.run(move |inventory| inventory.set_document(PINS, &bytes, &[change])).await;
    stored.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

/// Makes the plans of a feature's templates again, and tells listeners that the templates may render differently. Once
/// this returns, no answer made with a former plan can leave.
async fn forget_plans(app: &Arc<App>, feature: &str) {
    let of_feature = feature.to_owned();
    // A panic has been logged.
    if let Ok(released) = app.inventory.run(move |inventory| inventory.forget_plans(Some(&of_feature))).await {
        released.wait().await;
    }
    let snapshot = app.resolver.current.load();
    let templates = snapshot.templates.values().map(|prepared| &prepared.template);
    for template in templates.filter(|template| template.feature == feature) {
        app.events.publish(Event::Template { id: template.id.to_string(), change: Change::Changed });
    }
}
