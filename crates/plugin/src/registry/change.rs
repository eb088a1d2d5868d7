//! Changes of the plugins in force: a file is inspected and added, the former plugin is brought back, one is removed.
//!
//! Nothing unpinned is ever used: the caller stores the pin in the vault before the plugin is used.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{
    AddError, FormerPin, FormerPlugin, Pin, PluginInfo, PluginOrigin, RegisteredPlugin, Registry, ReplacedInfo,
    built_in, read_component, view,
};
use crate::client::{Planner, PlannerError};
use guillemet_plan::protocol::Description;

/// A plugin that may be put in force.
pub struct PluginCandidate {
    planner: Planner,
    source: PluginOrigin,
    digest: String,
    description: Description,
}

impl PluginCandidate {
    /// Returns the feature that it implements.
    pub fn feature(&self) -> &str {
        &self.description.feature
    }

    /// Returns the SHA-256 of its component, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Returns the size of its component, in bytes.
    pub fn size(&self) -> usize {
        self.planner.component().len()
    }

    /// Returns how it describes itself.
    pub fn description(&self) -> &Description {
        &self.description
    }

    pub(super) fn plugin(&self) -> RegisteredPlugin {
        let plugin = RegisteredPlugin::new(self.source, self.digest.clone(), Ok(self.planner.clone()));
        plugin.description.set(self.description.clone()).ok();
        plugin
    }
}

impl Registry {
    /// Reads a file that may be added, and asks it to describe itself. This compiles it, which can take seconds.
    ///
    /// # Errors
    /// Fails with [`AddError::Unreadable`] or [`AddError::Unfit`].
    pub async fn read_candidate(&self, file: &Path) -> Result<PluginCandidate, AddError> {
        let path = file.to_owned();
        // The caller chooses the path, which can be on a disk that does not answer.
        let read = tokio::task::spawn_blocking(move || read_component(&path));
        let component = read.await.map_err(|error| AddError::Unreadable(error.to_string()))??;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let plugin = self.plugin(PluginOrigin::Added, &name, component.into());
        candidate(plugin)
            .await
            .map_err(|message| AddError::Unfit(format!("{} cannot be added: {message}", file.display())))
    }

    /// Reads the plugin that was in force before the present one of a feature.
    ///
    /// # Errors
    /// Fails with [`AddError::NoFormer`], and with [`AddError::FormerChanged`] if its file does not match its pin, or
    /// it no longer works.
    pub async fn former_candidate(&self, feature: &str) -> Result<PluginCandidate, AddError> {
        let Some(former) = self.formers.load().get(feature).cloned() else {
            return Err(AddError::NoFormer(format!(
                "no former plugin of `{feature}` is kept: there is one once another plugin has taken its place"
            )));
        };
        let failed = |message: String| {
            AddError::FormerChanged(format!(
                "the former plugin of `{feature}` cannot be \
            brought back: {message}"
            ))
        };
        let plugin = match (&former.pin.digest, built_in(feature)) {
            (Some(digest), _) => {
                let path = self.files.former(feature);
                let read = tokio::task::spawn_blocking(move || read_component(&path)).await;
                let component = read.map_err(|error| failed(error.to_string()))?.map_err(|e| failed(e.to_string()))?;
                if let Some(problem) = self.files.former_mismatch(feature, digest, &component) {
                    return Err(failed(problem));
                }
                self.plugin(PluginOrigin::Added, feature, component.into())
            }
            (None, Some(builtin)) => self.built_in(builtin),
            (None, None) => return Err(failed("this version of Guillemet has no built-in one".into())),
        };
        let candidate = candidate(plugin).await.map_err(failed)?;
        if candidate.feature() == feature {
            Ok(candidate)
        } else {
            Err(failed(format!("it now describes the feature `{}`", candidate.feature())))
        }
    }

    /// Returns a candidate as listings show it, with the plugin whose place it would take.
    pub async fn preview(&self, candidate: &PluginCandidate) -> PluginInfo {
        let feature = candidate.feature();
        let replaces = match self.other_plugin(candidate) {
            Some(existing) => {
                let version = self.describe(feature).await.ok().map(|description| description.version);
                Some(ReplacedInfo { source: existing.source, version, digest: existing.digest.clone() })
            }
            None => None,
        };
        PluginInfo { replaces, ..self.info(candidate) }
    }

    fn info(&self, candidate: &PluginCandidate) -> PluginInfo {
        let PluginCandidate { source, digest, description, .. } = candidate;
        let former = self.former_info(candidate.feature());
        PluginInfo { former, ..view(candidate.feature(), *source, digest, Ok(description.clone())) }
    }

    /// Returns a registry with only this candidate. It shares the candidate's planner.
    pub fn with_only(&self, candidate: &PluginCandidate) -> Self {
        self.only(candidate.feature(), candidate.plugin())
    }

    /// Returns the plugin of a candidate's feature, unless it is this same one.
    fn other_plugin(&self, candidate: &PluginCandidate) -> Option<Arc<RegisteredPlugin>> {
        self.plugins.load().get(candidate.feature()).filter(|current| current.digest != candidate.digest).cloned()
    }

    /// Checks that a candidate is the one that was confirmed, and takes the place of the plugin that was confirmed.
    /// Returns the origin of the plugin that it replaces; `None` if it replaces none.
    ///
    /// # Errors
    /// Fails with [`AddError::Changed`] or [`AddError::Taken`].
    pub fn check_confirmed(
        &self,
        candidate: &PluginCandidate,
        confirmed: &str,
        replaces: Option<&str>,
    ) -> Result<Option<PluginOrigin>, AddError> {
        if candidate.digest != confirmed {
            return Err(AddError::Changed(candidate.digest.clone()));
        }
        let Some(existing) = self.other_plugin(candidate) else { return Ok(None) };
        if replaces == Some(&existing.digest) {
            return Ok(Some(existing.source));
        }
        let kind = if existing.source == PluginOrigin::BuiltIn { "the built-in one" } else { "an added one" };
        Err(AddError::Taken(format!(
            "the feature `{}` already has a plugin: {kind}, SHA-256 {digest}. To replace it, pass its digest: {digest}",
            candidate.feature(),
            digest = existing.digest
        )))
    }

    /// Puts a plugin in force, and keeps the one that was in force before. `confirmed` is the digest that a person has
    /// confirmed, `replaces` that of the plugin whose place it may take. `pin` stores the pin in the vault and runs
    /// before the plugin is used, so that nothing unpinned is ever used.
    ///
    /// # Errors
    /// Fails with [`AddError`]; the plugin that was in force stays in force then.
    pub async fn install(
        &self,
        candidate: PluginCandidate,
        confirmed: &str,
        replaces: Option<&str>,
        pin: impl AsyncFnOnce(Pin) -> Result<(), String>,
    ) -> Result<PluginInfo, AddError> {
        self.check_confirmed(&candidate, confirmed, replaces)?;
        let feature = candidate.feature().to_owned();
        let former = self.next_former(&candidate).await;
        let is_added = candidate.source == PluginOrigin::Added;
        if is_added {
            let (files, feature, planner) = (self.files.clone(), feature.clone(), candidate.planner.clone());
            let staged = tokio::task::spawn_blocking(move || files.stage(&feature, planner.component())).await;
            staged
                .map_err(io::Error::other)
                .and_then(|staged| staged)
                .map_err(|error| AddError::Unkept(format!("the plugin cannot be stored: {error}")))?;
        }
        let next = Pin { feature: feature.clone(), digest: is_added.then(|| candidate.digest.clone()), former };
        if let Err(error) = pin(next.clone()).await {
            let (files, feature) = (self.files.clone(), feature.clone());
            // A panic has been logged.
            let _ = tokio::task::spawn_blocking(move || files.discard_staged(&feature)).await;
            return Err(AddError::Unkept(error));
        }
        self.settle(next).await;
        self.change(|plugins| {
            plugins.insert(feature, Arc::new(candidate.plugin()));
        });
        Ok(PluginInfo { replaces: None, ..self.info(&candidate) })
    }

    /// Returns the pin of the plugin that a candidate would leave behind. A plugin that is refused cannot be brought
    /// back, so the one before it stays the former one.
    async fn next_former(&self, candidate: &PluginCandidate) -> Option<FormerPin> {
        let feature = candidate.feature();
        let kept = || {
            let former = self.formers.load().get(feature).map(|former| former.pin.clone())?;
            let is_candidate = match &former.digest {
                Some(digest) => *digest == candidate.digest,
                None => candidate.source == PluginOrigin::BuiltIn,
            };
            (!is_candidate).then_some(former)
        };
        let Some(existing) = self.other_plugin(candidate) else { return kept() };
        match (&existing.planner, existing.source) {
            (Err(_), _) => kept(),
            (Ok(_), PluginOrigin::BuiltIn) => Some(FormerPin { digest: None, version: None }),
            (Ok(_), PluginOrigin::Added | PluginOrigin::StandIn) => {
                let version = self.describe(feature).await.ok().map(|description| description.version);
                Some(FormerPin { digest: Some(existing.digest.clone()), version })
            }
        }
    }

    /// Puts the files of a plugin that has been pinned in their places. If that fails, the plugin is in force all the
    /// same, and the next start tries again.
    async fn settle(&self, pin: Pin) {
        let replaced = self.plugins.load().get(&pin.feature).and_then(|plugin| plugin.planner.clone().ok());
        let files = self.files.clone();
        let settle = move || {
            let settled = files.settle(&pin, replaced.as_ref().map(Planner::component));
            if let Err(error) = settled {
                let feature = &pin.feature;
                tracing::warn!(feature, "a plugin is in force, but its files cannot be put in place: {error}");
            }
            let former: Option<FormerPlugin> =
                pin.former.as_ref().map(|former| files.former_plugin(&pin.feature, former));
            (pin.feature, former)
        };
        // A panic has been logged.
        if let Ok((feature, former)) = tokio::task::spawn_blocking(settle).await {
            self.set_former(&feature, former);
        }
    }

    /// Removes the plugin that a user added, and the one before it; a built-in one of the same feature is used again.
    /// The caller has removed the pin from the vault, so the daemon does not use the files again even if they cannot be
    /// removed. The log has a warning then.
    pub async fn remove(&self, feature: &str) {
        let (files, name) = (self.files.clone(), feature.to_owned());
        let removed = tokio::task::spawn_blocking(move || files.remove(&name)).await;
        if let Ok(Err((file, error))) = removed {
            tracing::warn!(
                feature,
                file = %file.display(),
                "a plugin is no longer used, but its file cannot be removed: {error}; remove it by hand, because \
                 `template check` uses every file in this folder"
            );
        }
        self.set_former(feature, None);
        self.change(|plugins| {
            plugins.remove(feature);
            if let Some(builtin) = built_in(feature) {
                plugins.insert(feature.to_owned(), Arc::new(self.built_in(builtin)));
            }
        });
    }
}

/// Asks a plugin to describe itself. This compiles it, which can take seconds.
pub(super) async fn candidate(plugin: RegisteredPlugin) -> Result<PluginCandidate, String> {
    let RegisteredPlugin { source, digest, planner, .. } = plugin;
    let planner = planner?;
    let description = planner.load().await.map_err(|error: PlannerError| error.to_string())?;
    Ok(PluginCandidate { planner, source, digest, description })
}
