//! The plugins of this daemon: the built-in ones, and those that a user added and pinned.
//!
//! Knows nothing of templates or secrets. A plugin's bytes are read when it is added, when the daemon starts, and when
//! its file has changed. A plugin that no longer matches its pin is refused until it is added again.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::client::{CompileError, CompiledCache, Planner, PlannerError};
use guillemet_base::files::{self, Fingerprint, Links};
use guillemet_builtin as builtin;
use guillemet_plan::protocol::{Description, PlanRequest, Planned, Target};

/// The largest component, in bytes.
pub const COMPONENT_MAX: u64 = 32 << 20;

/// What the vault stores about a plugin that a user added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The feature that the plugin implements.
    pub feature: String,
    /// The SHA-256 of its component, in hexadecimal.
    pub digest: String,
}

/// The origin of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PluginOrigin {
    /// It is part of this program.
    BuiltIn,
    /// A user has added it.
    Added,
}

/// A plugin as listings show it.
#[derive(Clone, Debug)]
pub struct PluginInfo {
    /// The feature that it implements; also the folder of its templates.
    pub feature: String,
    /// The name of the feature for people; empty if the plugin is refused.
    pub title: String,
    /// The plugin's own version; empty if the plugin is refused.
    pub version: String,
    /// The origin of the plugin.
    pub source: PluginOrigin,
    /// The SHA-256 of its component, in hexadecimal.
    pub digest: String,
    /// The targets that it can write, the default first.
    pub targets: Vec<Target>,
    /// Patterns of the fields that may contain a secret, such as `headers.*`.
    pub secret_fields: Vec<String>,
    /// The JSON Schema of its config; `null` if the plugin is refused.
    pub schema: serde_json::Value,
    /// The reason why it is refused; `None` if it is not.
    pub problem: Option<String>,
    /// The plugin whose place it takes, or would take if it were added.
    pub replaces: Option<ReplacedInfo>,
}

/// A plugin that another one takes the place of.
#[derive(Clone, Debug)]
pub struct ReplacedInfo {
    /// The origin of the replaced plugin.
    pub source: PluginOrigin,
    /// The version of the replaced plugin; `None` if that is not loaded to ask for it.
    pub version: Option<String>,
    /// The SHA-256 of its component, in hexadecimal.
    pub digest: String,
}

/// The reason why a plugin cannot be added.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// The file cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// The plugin cannot be stored.
    #[error("{0}")]
    Unkept(String),
    /// The file is not a plugin, or breaks the contract.
    #[error("{0}")]
    Unfit(String),
    /// The file is not the one that was confirmed. Holds its SHA-256.
    #[error("the file changed after it was confirmed: its SHA-256 is now {0}. Check it again")]
    Changed(String),
    /// The feature already has another plugin, and the caller did not name that one as the one to replace.
    #[error("{0}")]
    Taken(String),
}

struct RegisteredPlugin {
    source: PluginOrigin,
    digest: String,
    /// The planner; `Err` holds the reason why the file is refused.
    planner: Result<Planner, String>,
    /// The fingerprint of the file when it was read; `None` if the next change might leave the same one.
    fingerprint: Mutex<Option<Fingerprint>>,
    description: tokio::sync::OnceCell<Description>,
}

impl RegisteredPlugin {
    fn new(source: PluginOrigin, digest: String, planner: Result<Planner, String>) -> Self {
        Self { source, digest, planner, fingerprint: Mutex::default(), description: tokio::sync::OnceCell::new() }
    }

    fn fingerprint(&self) -> Option<Fingerprint> {
        *self.fingerprint.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_fingerprint(&self, fingerprint: Option<Fingerprint>) {
        *self.fingerprint.lock().unwrap_or_else(PoisonError::into_inner) = fingerprint;
    }
}

/// A file that may be added.
pub struct PluginCandidate {
    component: Vec<u8>,
    plugin: RegisteredPlugin,
    description: Description,
}

impl PluginCandidate {
    /// Returns the feature that it implements.
    pub fn feature(&self) -> &str {
        &self.description.feature
    }
}

/// The plugins of this daemon.
pub struct Registry {
    plugins: ArcSwap<BTreeMap<String, Arc<RegisteredPlugin>>>,
    dir: PathBuf,
    cache: Arc<dyn CompiledCache>,
}

fn hex(digest: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(digest)
}

impl Registry {
    /// Creates a registry of the built-in plugins and the pinned ones in `dir`. Reads their files.
    pub fn new(dir: PathBuf, pins: &[Pin], cache: Arc<dyn CompiledCache>) -> Self {
        let registry = Self { plugins: ArcSwap::default(), dir, cache };
        let mut plugins = BTreeMap::new();
        for builtin in &builtin::ALL {
            plugins.insert(builtin.feature.to_owned(), Arc::new(registry.built_in(builtin)));
        }
        for pin in pins {
            plugins.insert(pin.feature.clone(), Arc::new(registry.pinned(pin)));
        }
        registry.plugins.store(Arc::new(plugins));
        registry
    }

    /// Creates a registry of the built-in plugins and every file in `dir`, pinned or not. Only for checking templates,
    /// where no value is involved.
    pub fn unpinned(dir: PathBuf) -> Self {
        Self::unpinned_with(dir, super::cache::of_user())
    }

    /// Does the same as [`unpinned`](Self::unpinned), with another cache of compiled forms.
    pub fn unpinned_with(dir: PathBuf, cache: Arc<dyn CompiledCache>) -> Self {
        let files = fs::read_dir(&dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let components = files.filter(|path| path.extension().is_some_and(|extension| extension == "wasm"));
        let pins: Vec<Pin> = components
            .filter_map(|path| {
                let feature = path.file_stem()?.to_str()?.to_owned();
                Some(Pin { feature, digest: hex(&Sha256::digest(read_component(&path).ok()?)) })
            })
            .collect();
        Self::new(dir, &pins, cache)
    }

    fn built_in(&self, builtin: &builtin::Builtin) -> RegisteredPlugin {
        self.plugin(PluginOrigin::BuiltIn, builtin.feature, builtin.component.into())
    }

    fn plugin(&self, source: PluginOrigin, name: &str, component: Arc<[u8]>) -> RegisteredPlugin {
        let planner = Planner::new(name, component, Arc::clone(&self.cache));
        let digest = hex(planner.digest());
        RegisteredPlugin::new(source, digest, Ok(planner))
    }

    fn pinned(&self, pin: &Pin) -> RegisteredPlugin {
        let path = self.file(&pin.feature);
        let unusable = |problem| RegisteredPlugin::new(PluginOrigin::Added, pin.digest.clone(), Err(problem));
        // A file that cannot be read is tried again each time: the cause may end without a trace on the file.
        let mut last_read = None;
        let plugin = match read_with_fingerprint(&path) {
            Err(error) => {
                unusable(format!("{error}; add it again, or remove it with `guillemet plugin remove {}`", pin.feature))
            }
            Ok((component, fingerprint)) => {
                last_read = Some(fingerprint);
                let plugin = self.plugin(PluginOrigin::Added, &pin.feature, component.into());
                if plugin.digest == pin.digest {
                    plugin
                } else {
                    unusable(format!(
                        "{path} has changed since it was added (SHA-256 {}, now {}) and is not used; if you expect \
                         this change, run `guillemet plugin add {path}`",
                        pin.digest,
                        plugin.digest,
                        path = path.display(),
                    ))
                }
            }
        };
        plugin.set_fingerprint(last_read.filter(Fingerprint::is_settled));
        plugin
    }

    /// Checks the files of pinned plugins against their pins, if their fingerprint has changed. Returns the features
    /// whose plugin is now refused, is used again, or is refused for another reason. Reads files.
    pub fn recheck(&self, pins: &[Pin]) -> Vec<String> {
        let mut changed = Vec::new();
        for pin in pins {
            let Some(existing) = self.plugins.load().get(&pin.feature).cloned() else { continue };
            let fingerprint = Fingerprint::of(&self.file(&pin.feature)).ok();
            if fingerprint.is_some() && fingerprint == existing.fingerprint() {
                continue;
            }
            let now = self.pinned(pin);
            if existing.planner.as_ref().err() == now.planner.as_ref().err() {
                // The running planner continues: it has the bytes of the pin.
                existing.set_fingerprint(now.fingerprint());
                continue;
            }
            match &now.planner {
                Ok(_) => {
                    tracing::info!(feature = pin.feature, "a plugin matches its pinned digest again and is in use")
                }
                Err(problem) => tracing::warn!(feature = pin.feature, "a plugin is refused: {problem}"),
            }
            self.change(|plugins| {
                plugins.insert(pin.feature.clone(), Arc::new(now));
            });
            changed.push(pin.feature.clone());
        }
        changed
    }

    /// Returns why plugins are refused, one sentence for each, for people.
    pub fn refusals(&self) -> Vec<String> {
        let plugins = self.plugins.load();
        plugins.iter().filter_map(|(feature, plugin)| Some(sentence(feature, plugin.planner.as_ref().err()?))).collect()
    }

    fn file(&self, feature: &str) -> PathBuf {
        self.dir.join(feature).with_extension("wasm")
    }

    fn get(&self, feature: &str) -> Result<Arc<RegisteredPlugin>, String> {
        self.plugins.load().get(feature).cloned().ok_or_else(|| {
            let features: Vec<String> = self.plugins.load().keys().cloned().collect();
            format!(
                "there is no plugin for the feature `{feature}`; features with a plugin: {}. Rename the folder, or add \
                 a plugin with `guillemet plugin add FILE`",
                features.join(", ")
            )
        })
    }

    /// Reports whether a feature has a plugin, even if that is refused.
    pub fn has_plugin(&self, feature: &str) -> bool {
        self.plugins.load().contains_key(feature)
    }

    /// Returns the description of a feature's plugin. Loads the plugin on first use.
    ///
    /// # Errors
    /// Fails with the reason, for people, if the feature has no usable plugin.
    pub async fn describe(&self, feature: &str) -> Result<Description, String> {
        let plugin = self.get(feature)?;
        let planner = plugin.planner.as_ref().map_err(Clone::clone)?;
        let load = || async {
            let description = planner.load().await.map_err(|error| sentence(feature, &error.to_string()))?;
            if description.feature == feature {
                Ok(description)
            } else {
                Err(format!("plugin `{feature}` now describes the feature `{}`", description.feature))
            }
        };
        plugin.description.get_or_try_init(load).await.cloned()
    }

    /// Returns the targets of a feature, the default first.
    ///
    /// # Errors
    /// Fails as [`describe`](Self::describe) does.
    pub async fn targets(&self, feature: &str) -> Result<Vec<Target>, String> {
        Ok(self.describe(feature).await?.targets)
    }

    /// Makes the plan of a template.
    ///
    /// # Errors
    /// Fails as [`Planner::plan`] does; the message of a failure names the plugin.
    pub async fn plan(&self, feature: &str, request: PlanRequest) -> Result<Planned, CompileError> {
        self.with_planner(feature, async |planner| planner.plan(request).await).await
    }

    /// Takes the lines that a feature's plugin logged during its last plan, for its author.
    pub fn take_log(&self, feature: &str) -> Vec<String> {
        let plugin = self.get(feature).ok();
        let planner = plugin.as_ref().and_then(|plugin| plugin.planner.as_ref().ok());
        planner.map(Planner::take_log).unwrap_or_default()
    }

    /// Asks which targets a template names for itself; empty if it names none.
    ///
    /// # Errors
    /// Fails as [`plan`](Self::plan) does.
    pub async fn named_targets(&self, feature: &str, request: PlanRequest) -> Result<Vec<Target>, CompileError> {
        self.with_planner(feature, async |planner| planner.targets(request).await).await
    }

    async fn with_planner<T>(
        &self,
        feature: &str,
        ask: impl AsyncFnOnce(&Planner) -> Result<T, CompileError>,
    ) -> Result<T, CompileError> {
        let failed = |message| CompileError::Failed { message };
        let plugin = self.get(feature).map_err(failed)?;
        let planner = plugin.planner.as_ref().map_err(|problem| failed(problem.clone()))?;
        ask(planner).await.map_err(|failure| match failure {
            problems @ CompileError::Problems(_) => problems,
            failure => failed(sentence(feature, &failure.to_string())),
        })
    }

    /// Returns a registry with only this feature's plugin, in a planner that nothing else uses. The caller has to call
    /// [`end`](Self::end).
    ///
    /// # Errors
    /// Fails as [`describe`](Self::describe) does.
    pub async fn with_own_planner(&self, feature: &str) -> Result<Self, String> {
        // Uses the shared planner: the compiled form that it stores serves the separate one.
        let description = self.describe(feature).await?;
        let plugin = self.get(feature)?;
        let planner = plugin.planner.as_ref().map(Planner::with_own_child).map_err(Clone::clone);
        let isolated = RegisteredPlugin::new(plugin.source, plugin.digest.clone(), planner);
        isolated.description.set(description).ok();
        let plugins = BTreeMap::from([(feature.to_owned(), Arc::new(isolated))]);
        let (dir, cache) = (self.dir.clone(), Arc::clone(&self.cache));
        Ok(Self { plugins: ArcSwap::from_pointee(plugins), dir, cache })
    }

    /// Ends every planner, and waits for them to exit.
    pub async fn end(&self) {
        let plugins = self.plugins.load_full();
        for planner in plugins.values().filter_map(|plugin| plugin.planner.as_ref().ok()) {
            planner.end().await;
        }
    }

    /// Returns every plugin as listings show it. Loads those that were not used yet.
    pub async fn list(&self) -> Vec<PluginInfo> {
        let plugins = self.plugins.load_full();
        let mut views = Vec::with_capacity(plugins.len());
        for (feature, plugin) in plugins.iter() {
            let described = self.describe(feature).await;
            let builtin = builtin::ALL.iter().find(|builtin| builtin.feature == feature);
            let replaces = builtin.filter(|_| plugin.source == PluginOrigin::Added).map(|builtin| ReplacedInfo {
                source: PluginOrigin::BuiltIn,
                version: None,
                digest: hex(&Sha256::digest(builtin.component)),
            });
            views.push(PluginInfo { replaces, ..view(feature, plugin.source, &plugin.digest, described) });
        }
        views
    }

    /// Returns the SHA-256 of a feature's plugin, in hexadecimal.
    pub fn digest(&self, feature: &str) -> Option<String> {
        self.plugins.load().get(feature).map(|plugin| plugin.digest.clone())
    }

    /// Returns the number of plugins.
    pub fn count(&self) -> usize {
        self.plugins.load().len()
    }

    /// Returns the number of planners that are running now.
    pub fn running(&self) -> usize {
        let plugins = self.plugins.load();
        plugins
            .values()
            .filter_map(|plugin| plugin.planner.as_ref().ok())
            .filter(|planner| planner.is_running())
            .count()
    }

    /// Returns what adding a file would add.
    ///
    /// # Errors
    /// Fails with [`AddError::Unreadable`] or [`AddError::Unfit`].
    pub async fn inspect(&self, file: &Path) -> Result<PluginInfo, AddError> {
        let PluginCandidate { plugin, description, .. } = self.read_candidate(file).await?;
        let feature = description.feature.clone();
        let replaces = match self.other_plugin(&feature, &plugin) {
            Some(existing) => {
                let version = self.describe(&feature).await.ok().map(|description| description.version);
                Some(ReplacedInfo { source: existing.source, version, digest: existing.digest.clone() })
            }
            None => None,
        };
        Ok(PluginInfo { replaces, ..view(&feature, PluginOrigin::Added, &plugin.digest, Ok(description)) })
    }

    /// Returns the plugin of a feature, unless it is this same one.
    fn other_plugin(&self, feature: &str, plugin: &RegisteredPlugin) -> Option<Arc<RegisteredPlugin>> {
        self.plugins.load().get(feature).filter(|current| current.digest != plugin.digest).cloned()
    }

    /// Adds a plugin: writes it to its place and uses it from now on. `confirmed` is the digest that a person has
    /// confirmed, `replaces` that of the plugin whose place it may take. `pin` stores the pin in the vault and runs
    /// before the plugin is used, so that nothing unpinned is ever used.
    ///
    /// # Errors
    /// Fails with [`AddError`]; either nothing has changed then, or the file is in its place but not used.
    pub async fn add(
        &self,
        candidate: PluginCandidate,
        confirmed: &str,
        replaces: Option<&str>,
        pin: impl AsyncFnOnce(Pin) -> Result<(), String>,
    ) -> Result<PluginInfo, AddError> {
        let PluginCandidate { component, plugin, description } = candidate;
        if plugin.digest != confirmed {
            return Err(AddError::Changed(plugin.digest));
        }
        let feature = description.feature.clone();
        if let Some(existing) = self.other_plugin(&feature, &plugin)
            && replaces != Some(&existing.digest)
        {
            let kind = if existing.source == PluginOrigin::BuiltIn { "the built-in one" } else { "an added one" };
            return Err(AddError::Taken(format!(
                "the feature `{feature}` already has a plugin: {kind}, SHA-256 {digest}. To replace it, pass its \
                 digest: {digest}",
                digest = existing.digest
            )));
        }
        let not_stored = |error: std::io::Error| AddError::Unkept(format!("the plugin cannot be stored: {error}"));
        let (dir, path) = (self.dir.clone(), self.file(&feature));
        let written = tokio::task::spawn_blocking(move || write_component(&dir, &path, &component)).await;
        written.map_err(std::io::Error::other).and_then(|written| written).map_err(not_stored)?;
        pin(Pin { feature: feature.clone(), digest: plugin.digest.clone() }).await.map_err(AddError::Unkept)?;
        let added = view(&feature, PluginOrigin::Added, &plugin.digest, Ok(description));
        self.change(|plugins| {
            plugins.insert(feature, Arc::new(plugin));
        });
        Ok(added)
    }

    /// Removes a plugin that a user added; a built-in one of the same feature is used again. The caller has removed its
    /// pin from the vault, so the daemon does not use the file again even if it cannot be removed. The log has a
    /// warning then.
    pub async fn remove(&self, feature: &str) {
        let path = self.file(feature);
        let removed = tokio::task::spawn_blocking(move || remove_component(&path)).await;
        if let Err(error) = removed.unwrap_or_else(|error| Err(error.into())) {
            let file = self.file(feature);
            tracing::warn!(
                feature,
                file = %file.display(),
                "a plugin is no longer used, but its file cannot be removed: {error}; remove it by hand, because \
                 `template check` uses every file in this folder"
            );
        }
        self.change(|plugins| {
            plugins.remove(feature);
            if let Some(builtin) = builtin::ALL.iter().find(|builtin| builtin.feature == feature) {
                plugins.insert(feature.to_owned(), Arc::new(self.built_in(builtin)));
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Arc<RegisteredPlugin>>)) {
        let mut plugins = BTreeMap::clone(&self.plugins.load());
        change(&mut plugins);
        self.plugins.store(Arc::new(plugins));
    }

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
        let plugin = self.plugin(PluginOrigin::Added, &name, component.clone().into());
        let invalid = |message: String| AddError::Unfit(format!("{} cannot be added: {message}", file.display()));
        let description = match &plugin.planner {
            Ok(planner) => planner.load().await.map_err(|error: PlannerError| invalid(error.to_string()))?,
            Err(problem) => return Err(invalid(problem.clone())),
        };
        plugin.description.set(description.clone()).ok();
        Ok(PluginCandidate { component, plugin, description })
    }
}

/// Turns what a plugin did into a sentence about it: "it panicked" becomes "plugin `x` panicked".
pub fn sentence(feature: &str, message: &str) -> String {
    match message.strip_prefix("it ") {
        Some(did) => format!("plugin `{feature}` {did}"),
        None => format!("plugin `{feature}`: {message}"),
    }
}

fn view(feature: &str, source: PluginOrigin, digest: &str, description: Result<Description, String>) -> PluginInfo {
    let (description, problem) = match description {
        Ok(description) => (Some(description), None),
        Err(problem) => (None, Some(problem)),
    };
    let text = |pick: fn(&Description) -> &str| description.as_ref().map(pick).unwrap_or_default().to_owned();
    PluginInfo {
        feature: feature.to_owned(),
        title: text(|description| &description.title),
        version: text(|description| &description.version),
        source,
        digest: digest.to_owned(),
        targets: description.as_ref().map(|description| description.targets.clone()).unwrap_or_default(),
        secret_fields: description.as_ref().map(|description| description.secret_fields.clone()).unwrap_or_default(),
        schema: serde_json::from_str(&text(|description| &description.schema)).unwrap_or_default(),
        problem,
        replaces: None,
    }
}

/// Reads the file of a component.
///
/// # Errors
/// Fails with [`AddError::Unreadable`], and with [`AddError::Unfit`] if it is not a regular file or is too large.
pub fn read_component(path: &Path) -> Result<Vec<u8>, AddError> {
    Ok(read_with_fingerprint(path)?.0)
}

/// Does the same and also returns the file's fingerprint from before it was read: a change in between shows as another
/// fingerprint.
fn read_with_fingerprint(path: &Path) -> Result<(Vec<u8>, Fingerprint), AddError> {
    let read = files::read_regular(path, Links::Follow, COMPONENT_MAX);
    let (component, metadata) = read.map_err(|error| match error.kind() {
        ErrorKind::InvalidInput | ErrorKind::FileTooLarge => AddError::Unfit(format!(
            "{} is not a plugin: it must be a file of at most {} MiB",
            path.display(),
            COMPONENT_MAX >> 20
        )),
        _ => AddError::Unreadable(format!("{} cannot be read: {error}", path.display())),
    })?;
    Ok((component, Fingerprint::from_metadata(&metadata)))
}

fn write_component(dir: &Path, path: &Path, component: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    files::replace(path, component)
}

/// Removes the file of a component. A file that does not exist is no error.
fn remove_component(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};

    use super::*;

    #[test]
    fn a_component_that_cannot_be_removed_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pager.wasm");
        fs::write(&path, "component").unwrap();
        remove_component(&path).unwrap();
        remove_component(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(remove_component(&path).is_err());
    }

    /// A user who names a file can swap it for a FIFO at any moment.
    #[test]
    fn a_file_that_becomes_a_fifo_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let [file, fifo] = ["file", "fifo"].map(|name| dir.path().join(name));
        fs::write(&file, "component").unwrap();
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let (stop, (sender, done)) = (AtomicBool::new(false), mpsc::channel());
        let path = file.clone();
        std::thread::spawn(move || {
            let read: Vec<bool> = (0..20_000).map(|_| read_component(&path).is_ok()).collect();
            let _ = sender.send(read);
        });
        let read = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    renameat_with(CWD, &file, CWD, &fifo, RenameFlags::EXCHANGE).unwrap();
                }
            });
            let read = done.recv_timeout(Duration::from_secs(60));
            stop.store(true, Ordering::Relaxed);
            read
        });
        let read = read.expect("it waits for somebody to write into the FIFO");
        assert!(read.contains(&true) && read.contains(&false), "it met both");
    }
}
