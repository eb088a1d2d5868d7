//! Puts another plugin in force: one from a file, or the former one. Shows first what would change, and refuses what
//! would break unless the caller agrees to it.
//!
//! What is confirmed is bound three times: to the component that was inspected, to the plugin that it replaces, and to
//! what was shown to break. The comparison is made again for the confirmation, so that a caller who never looked gets
//! the same refusal as one who did.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::super::error::AppError;
use super::super::{App, audit, blocking};
use super::{forget_plans, of_plugin, store_pins, views};
use guillemet_api::plugins::PluginView;
use guillemet_plugin::compare::{self, Break, Comparison};
use guillemet_plugin::registry::{AddError, Pin, PluginCandidate, PluginOrigin};
use guillemet_template::catalog::Template;
use guillemet_vault::audit::{Actor, ChangeSubject};
use guillemet_vault::usage::ChangeKind;

/// What a person confirms.
pub struct Confirmed {
    /// The SHA-256 of the component that was inspected.
    pub digest: String,
    /// The SHA-256 of the plugin whose place it may take.
    pub replaces: Option<String>,
    /// Whether it may break what works now.
    pub breaks: bool,
    /// The digest of what was shown to break. With `None`, `breaks` is for anything.
    pub comparison: Option<String>,
}

/// Returns what a file would be as a plugin and what it would change, for a person who decides whether to add it.
///
/// # Errors
/// [`AppError::Plugin`] if the file cannot be read or is not a plugin.
pub async fn inspect(app: &Arc<App>, file: &Path) -> Result<PluginView, AppError> {
    let candidate = app.registry.read_candidate(file).await?;
    app.registry.check_no_stand_in(candidate.feature())?;
    let failed = app.checker.check(file, candidate.digest(), candidate.size()).await;
    let mut comparison = compare(app, &candidate).await;
    comparison.breaks.extend(failed.into_iter().map(Break::of_check));
    Ok(inspected(app, &candidate, comparison).await)
}

/// Returns what the former plugin of a feature is and what it would change, for a person who decides whether to bring
/// it back.
///
/// # Errors
/// [`AppError::Plugin`] if no former plugin is kept, or its file does not match its pin.
pub async fn inspect_former(app: &Arc<App>, feature: &str) -> Result<PluginView, AppError> {
    app.registry.check_no_stand_in(feature)?;
    let candidate = app.registry.former_candidate(feature).await?;
    let comparison = compare(app, &candidate).await;
    Ok(inspected(app, &candidate, comparison).await)
}

async fn inspected(app: &Arc<App>, candidate: &PluginCandidate, comparison: Comparison) -> PluginView {
    let view = views::plugin(app.registry.preview(candidate).await);
    PluginView { comparison: Some(views::comparison(comparison)), ..view }
}

/// Adds the plugin in a file. `replace` is the feature whose built-in plugin it may replace.
///
/// # Errors
/// [`AppError::Plugin`] if the file cannot be read, stored or used as a plugin, differs from what was inspected, or
/// would break what was not agreed to.
pub async fn add(
    app: &Arc<App>,
    actor: &Actor,
    file: &Path,
    replace: Option<&str>,
    confirmed: Confirmed,
) -> Result<PluginView, AppError> {
    let kind = ChangeKind::PluginAdded;
    // Compiled without the lock on `App::pins`, so that nobody waits for it.
    let candidate = async { Ok(app.registry.read_candidate(file).await?) };
    let candidate = audit::attempt(app, actor, &[(kind, ChangeSubject::Whole)], candidate).await?;
    let subject = ChangeSubject::Plugin(candidate.feature().to_owned());
    let adding = async {
        app.registry.check_no_stand_in(candidate.feature())?;
        let replaced = check_confirmed(app, &candidate, &confirmed)?;
        check_built_in(&candidate, replaced, replace)?;
        let present = app.registry.digest(candidate.feature());
        let mut comparison = compare(app, &candidate).await;
        // What is in force already breaks nothing.
        if present.as_deref() != Some(candidate.digest()) {
            let failed = app.checker.checked(file, candidate.digest(), candidate.size()).await;
            comparison.breaks.extend(failed.into_iter().map(Break::of_check));
        }
        check_breaks(&comparison, &confirmed)?;
        install(app, (kind, actor), candidate, &confirmed, present).await
    };
    let added = audit::attempt(app, actor, &[(kind, subject)], adding).await?;
    forget_plans(app, &added.feature).await;
    Ok(added)
}

/// Brings the former plugin of a feature back. The one in force becomes the former one.
///
/// # Errors
/// [`AppError::Plugin`] if no former plugin is kept, its file does not match its pin, it differs from what was
/// inspected, or would break what was not agreed to.
pub async fn roll_back(
    app: &Arc<App>,
    actor: &Actor,
    feature: &str,
    confirmed: Confirmed,
) -> Result<PluginView, AppError> {
    let kind = ChangeKind::PluginRolledBack;
    let subject = match app.registry.has_plugin(feature) {
        true => ChangeSubject::Plugin(feature.to_owned()),
        false => audit::unknown_subject(&app.resolver, actor, feature),
    };
    let rolling_back = async {
        app.registry.check_no_stand_in(feature)?;
        let candidate = app.registry.former_candidate(feature).await?;
        check_confirmed(app, &candidate, &confirmed)?;
        let present = app.registry.digest(feature);
        check_breaks(&compare(app, &candidate).await, &confirmed)?;
        install(app, (kind, actor), candidate, &confirmed, present).await
    };
    let present = audit::attempt(app, actor, &[(kind, subject)], rolling_back).await?;
    forget_plans(app, feature).await;
    Ok(present)
}

fn check_confirmed(
    app: &Arc<App>,
    candidate: &PluginCandidate,
    confirmed: &Confirmed,
) -> Result<Option<PluginOrigin>, AppError> {
    Ok(app.registry.check_confirmed(candidate, &confirmed.digest, confirmed.replaces.as_deref())?)
}

/// Checks that the caller named the feature whose built-in plugin is replaced, and no other.
fn check_built_in(
    candidate: &PluginCandidate,
    replaced: Option<PluginOrigin>,
    replace: Option<&str>,
) -> Result<(), AppError> {
    let feature = candidate.feature();
    match (replaced, replace) {
        (Some(PluginOrigin::BuiltIn), None) => Err(AddError::Taken(format!(
            "the plugin of `{feature}` is built in; to replace it, name it: --replace {feature}"
        ))
        .into()),
        (_, Some(named)) if named != feature => Err(AddError::Taken(format!(
            "the file is a plugin for `{feature}`, not for `{named}`, which you named to be replaced"
        ))
        .into()),
        _ => Ok(()),
    }
}

/// Checks that nothing would break, or that the caller agreed to break exactly this.
fn check_breaks(comparison: &Comparison, confirmed: &Confirmed) -> Result<(), AppError> {
    if comparison.breaks.is_empty() {
        return Ok(());
    }
    if !confirmed.breaks {
        return Err(AddError::Breaks(comparison.breaks.clone()).into());
    }
    match &confirmed.comparison {
        Some(agreed) if *agreed != comparison.digest() => Err(AddError::BreaksOther(comparison.breaks.clone()).into()),
        _ => Ok(()),
    }
}

/// Compares a candidate with the plugin in force, over the templates of its feature.
async fn compare(app: &Arc<App>, candidate: &PluginCandidate) -> Comparison {
    let since = Instant::now();
    let scanned = blocking(app, move |inventory| {
        inventory.refresh(since);
        Ok(())
    });
    // Without a scan, the templates that are known will do. A panic has been logged.
    scanned.await.ok();
    let templates: Vec<Arc<Template>> = {
        let snapshot = app.resolver.current.load();
        let all = snapshot.templates.values().map(|prepared| &prepared.template);
        let mut templates: Vec<_> = all.filter(|template| template.feature == candidate.feature()).cloned().collect();
        templates.sort_by(|a, b| a.id.cmp(&b.id));
        templates
    };
    let config = app.config.load_full();
    compare::compare(&app.registry, candidate, templates, &config.variables).await
}

/// Pins a candidate and puts it in force, if the plugin in force is still the one that it was compared with, which has
/// the digest `compared`.
async fn install(
    app: &Arc<App>,
    (kind, actor): (ChangeKind, &Actor),
    candidate: PluginCandidate,
    confirmed: &Confirmed,
    compared: Option<String>,
) -> Result<PluginView, AppError> {
    let mut pins = app.pins.lock().await;
    app.registry.check_no_stand_in(candidate.feature())?;
    if app.registry.digest(candidate.feature()) != compared {
        let message = format!("the plugin of `{}` was replaced meanwhile; check it again", candidate.feature());
        return Err(AddError::Taken(message).into());
    }
    let mut next = pins.clone();
    let after = candidate.digest().to_owned();
    let pin = async |pin: Pin| {
        let mut change = of_plugin(kind, actor, &pin.feature).after(after);
        change.before = app.registry.digest(&pin.feature);
        next.retain(|existing| existing.feature != pin.feature);
        if pin.digest.is_some() || pin.former.is_some() {
            next.push(pin);
        }
        store_pins(app, &next, change).await
    };
    let (digest, replaces) = (&confirmed.digest, confirmed.replaces.as_deref());
    let present = app.registry.install(candidate, digest, replaces, pin).await?;
    *pins = next;
    Ok(views::plugin(present))
}
