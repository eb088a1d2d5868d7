//! Lets a component under development stand in for a feature's plugin, and ends that.
//!
//! Nothing is pinned or stored; the audit trail has the beginning and the end. While the component stands in, the
//! feature's plugin is not changed. Knows nothing of the connection that the stand-in lasts as long as: its caller does.

use std::path::Path;
use std::sync::Arc;

use super::super::App;
use super::super::audit;
use super::super::error::AppError;
use super::{forget_plans, of_plugin};
use guillemet_base::time::now;
use guillemet_plugin::registry::PluginCandidate;
use guillemet_vault::audit::{Actor, ChangeSubject};
use guillemet_vault::usage::ChangeKind;

/// A component that stands in for a plugin until [`end`](Self::end).
pub struct StandIn {
    app: Arc<App>,
    actor: Actor,
    feature: String,
    digest: String,
    number: u64,
}

/// Reads a component that may stand in for the plugin of a feature. `digest` is that of the component that was built.
/// Compiles it, and changes nothing yet.
///
/// # Errors
/// [`AppError::Plugin`] if the file cannot be read, is not a plugin of the feature, or has changed since it was built.
pub async fn read(
    app: &Arc<App>,
    actor: &Actor,
    feature: &str,
    file: &Path,
    digest: &str,
) -> Result<PluginCandidate, AppError> {
    let subject = match app.registry.has_plugin(feature) {
        true => ChangeSubject::Plugin(feature.to_owned()),
        false => audit::unknown_subject(&app.resolver, actor, feature),
    };
    let reading = async { Ok(app.registry.read_stand_in(feature, file, digest).await?) };
    audit::attempt(app, actor, &[(ChangeKind::PluginStandInStarted, subject)], reading).await
}

/// Uses a component for its feature from now on. Takes the place of one that stands in already. Once this returns, no
/// answer that the plugin made can leave.
///
/// The caller must run this to its end, and end what it returns.
///
/// # Errors
/// [`AppError::Unavailable`] if the audit trail cannot be written.
pub async fn begin(app: &Arc<App>, actor: &Actor, candidate: PluginCandidate) -> Result<StandIn, AppError> {
    let (feature, digest) = (candidate.feature().to_owned(), candidate.digest().to_owned());
    // Locked, so that no change of the plugin is under way.
    let pins = app.pins.lock().await;
    let mut change = of_plugin(ChangeKind::PluginStandInStarted, actor, &feature).after(digest.clone());
    change.before = app.registry.digest(&feature);
    audit::record(app, vec![change]).await?;
    let number = app.registry.begin_stand_in(&candidate, now());
    drop(pins);
    tracing::info!(feature, digest, "a component under development stands in for a plugin");
    forget_plans(app, &feature).await;
    Ok(StandIn { app: Arc::clone(app), actor: actor.clone(), feature, digest, number })
}

impl StandIn {
    /// Returns the feature whose plugin it stands in for.
    pub fn feature(&self) -> &str {
        &self.feature
    }

    /// Returns the SHA-256 of the component, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Waits until another component stands in.
    pub async fn replaced(&self) {
        self.app.registry.stand_in_ended(&self.feature, self.number).await;
    }

    /// Uses the plugin of the feature again, unless another component stands in now. Once this returns, no answer that
    /// the component made can leave.
    pub async fn end(self) {
        let Self { app, actor, feature, digest, number } = self;
        if !app.registry.end_stand_in(&feature, number) {
            return;
        }
        tracing::info!(feature, digest, "a component under development no longer stands in for a plugin");
        forget_plans(&app, &feature).await;
        let mut change = of_plugin(ChangeKind::PluginStandInEnded, &actor, &feature);
        change.before = Some(digest);
        change.after = app.registry.digest(&feature);
        if let Err(error) = audit::record(&app, vec![change]).await {
            tracing::error!(error = error.to_string(), "the end of a stand-in could not be recorded");
        }
    }
}
