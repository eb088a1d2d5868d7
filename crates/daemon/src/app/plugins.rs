//! The plugins that users added: listed, added, removed, and refused when their files change.
//!
//! `App::pins` is locked for every change of the pins, so that a file is never compared with a pin that is just being
//! replaced.

use std::path::Path;
use std::sync::Arc;

use super::error::AppError;
use super::{App, audit};
use guillemet_api::plugins::{PluginSource, PluginStatus, PluginTarget, PluginView, ReplacedPlugin};
use guillemet_base::time::now;
use guillemet_plan::protocol::Target;
use guillemet_plugin::registry::{self, Pin, PluginCandidate};
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
    app.registry.list().await.into_iter().map(view).collect()
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

/// Returns what a file would be as a plugin, for a person who decides whether to add it.
///
/// # Errors
/// [`AppError::Plugin`] if the file cannot be read or is not a plugin.
pub async fn inspect(app: &Arc<App>, file: &Path) -> Result<PluginView, AppError> {
    Ok(view(app.registry.inspect(file).await?))
}

/// Adds the plugin in a file. `digest` is the SHA-256 of the file that a person has inspected; `replaces` is that of
/// the plugin that it may replace.
///
/// # Errors
/// [`AppError::Plugin`] if the file cannot be read, stored or used as a plugin, or differs from what was inspected.
pub async fn add(
    app: &Arc<App>,
    actor: &Actor,
    file: &Path,
    digest: &str,
    replaces: Option<&str>,
) -> Result<PluginView, AppError> {
    let kind = ChangeKind::PluginAdded;
    // Compiled without the lock on `App::pins`, so that nobody waits for it.
    let candidate = async { Ok(app.registry.read_candidate(file).await?) };
    let candidate = audit::attempt(app, actor, &[(kind, ChangeSubject::Whole)], candidate).await?;
    let subject = ChangeSubject::Plugin(candidate.feature().to_owned());
    let adding = add_confirmed(app, actor, candidate, digest, replaces);
    let added = audit::attempt(app, actor, &[(kind, subject)], adding).await?;
    forget_plans(app, &added.feature).await;
    Ok(added)
}

/// Adds a plugin that a person has inspected.
async fn add_confirmed(
    app: &Arc<App>,
    actor: &Actor,
    candidate: PluginCandidate,
    digest: &str,
    replaces: Option<&str>,
) -> Result<PluginView, AppError> {
    let mut pins = app.pins.lock().await;
    let mut next = pins.clone();
    let pin = async |pin: Pin| {
        let mut change = of_plugin(ChangeKind::PluginAdded, actor, &pin.feature).after(pin.digest.as_str());
        change.before = app.registry.digest(&pin.feature);
        next.retain(|existing| existing.feature != pin.feature);
        next.push(pin);
        store_pins(app, &next, change).await
    };
    let added = app.registry.add(candidate, digest, replaces, pin).await?;
    *pins = next;
    Ok(view(added))
}

fn of_plugin(kind: ChangeKind, actor: &Actor, feature: &str) -> AuditChange {
    AuditChange::new(kind, actor, now()).about(ChangeSubject::Plugin(feature.to_owned()))
}

/// Removes the plugin that was added for a feature. If it replaced a built-in plugin, that one is used again.
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
    let mut next = pins.clone();
    let Some(at) = next.iter().position(|pin| pin.feature == feature) else {
        let message =
            format!("there is no added plugin for the feature `{feature}`; built-in plugins cannot be removed");
        return Err(AppError::NotFound(message));
    };
    let change = of_plugin(ChangeKind::PluginRemoved, actor, feature).before(next.remove(at).digest);
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

async fn forget_plans(app: &Arc<App>, feature: &str) {
    let feature = feature.to_owned();
    // A panic has been logged.
    if let Ok(released) = app.inventory.run(move |inventory| inventory.forget_plans(Some(&feature))).await {
        released.wait().await;
    }
}

fn view(plugin: registry::PluginInfo) -> PluginView {
    let target = |target: Target| PluginTarget {
        id: target.id,
        title: target.title,
        media_type: target.media_type,
        file_name: target.file_name,
        aliases: target.aliases,
    };
    let replaced = |replaced: registry::ReplacedInfo| ReplacedPlugin {
        source: origin(replaced.source),
        version: replaced.version,
        digest: replaced.digest,
    };
    PluginView {
        feature: plugin.feature,
        title: plugin.title,
        version: plugin.version,
        source: origin(plugin.source),
        digest: plugin.digest,
        targets: plugin.targets.into_iter().map(target).collect(),
        secret_fields: plugin.secret_fields,
        schema: plugin.schema,
        status: if plugin.problem.is_none() { PluginStatus::Ok } else { PluginStatus::Refused },
        problem: plugin.problem,
        replaces: plugin.replaces.map(replaced),
    }
}

fn origin(source: registry::PluginOrigin) -> PluginSource {
    match source {
        registry::PluginOrigin::BuiltIn => PluginSource::BuiltIn,
        registry::PluginOrigin::Added => PluginSource::Added,
    }
}
