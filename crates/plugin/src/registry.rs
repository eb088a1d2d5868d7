//! The plugins of this daemon: the built-in ones, and those that a user added and pinned.
//!
//! Knows nothing of templates or secrets. A plugin's bytes are read when it is added, when the daemon starts, and when
//! its file has changed. A plugin that no longer matches its pin is refused until it is added again.

mod change;
mod files;
mod stand_in;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

pub use self::change::PluginCandidate;
use self::files::PluginFiles;
pub use self::files::read_component;
use self::files::read_with_fingerprint;
use self::stand_in::StandIn;
use super::client::{CompileError, CompiledCache, Planner};
use super::compare::Break;
use guillemet_base::files::Fingerprint;
use guillemet_base::names::Millis;
use guillemet_builtin as builtin;
use guillemet_plan::protocol::{Description, PlanRequest, Planned, Target};

/// The largest component, in bytes.
pub const COMPONENT_MAX: u64 = 32 << 20;

/// What the vault stores about a feature for which a user added a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The feature that the plugin implements.
    pub feature: String,
    /// The SHA-256 of its component, in hexadecimal. `None` if the built-in plugin is in force, and only a former one
    /// is kept.
    pub digest: Option<String>,
    /// The plugin that was in force before; `None` if there was none, or it could not be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former: Option<FormerPin>,
}

/// What the vault stores about the plugin that was in force before the present one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerPin {
    /// The SHA-256 of its component, in hexadecimal; `None` if it is the built-in plugin.
    pub digest: Option<String>,
    /// Its version; `None` for the built-in plugin, whose version is that of this program's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// The origin of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PluginOrigin {
    /// It is part of this program.
    BuiltIn,
    /// A user has added it.
    Added,
    /// It is under development, and stands in for the feature's plugin while its author works on it.
    StandIn,
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
    /// The time since which it stands in for the feature's plugin; `None` if it does not.
    pub stands_in_since: Option<Millis>,
    /// The plugin that was in force before it, and can be brought back.
    pub former: Option<FormerInfo>,
}

/// A plugin that is kept, so that it can be brought back.
#[derive(Clone, Debug)]
pub struct FormerInfo {
    /// The origin of the plugin.
    pub source: PluginOrigin,
    /// The version of the plugin; `None` if that is not known.
    pub version: Option<String>,
    /// The SHA-256 of its component, in hexadecimal.
    pub digest: String,
    /// The reason why it cannot be brought back; `None` if it can.
    pub problem: Option<String>,
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
    /// A component under development stands in for the feature's plugin.
    #[error("{0}")]
    StoodIn(String),
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
    /// It would break what works now, and the caller did not agree to that.
    #[error("it would break what works now, so nothing was changed; pass `break` to accept that")]
    Breaks(Vec<Break>),
    /// It would break other things than those that the caller agreed to.
    #[error("what it would break has changed since you looked, so nothing was changed. Check it again")]
    BreaksOther(Vec<Break>),
    /// No former plugin of the feature is kept.
    #[error("{0}")]
    NoFormer(String),
    /// The file of the former plugin no longer matches its pin.
    #[error("{0}")]
    FormerChanged(String),
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

/// The plugin that was in force before the present one of its feature.
struct FormerPlugin {
    pin: FormerPin,
    /// The reason why it cannot be brought back; `None` if it can.
    problem: Option<String>,
    /// The fingerprint of the file when it was read; `None` if the next change might leave the same one.
    fingerprint: Option<Fingerprint>,
}

/// The plugins of this daemon.
pub struct Registry {
    plugins: ArcSwap<BTreeMap<String, Arc<RegisteredPlugin>>>,
    formers: ArcSwap<BTreeMap<String, Arc<FormerPlugin>>>,
    /// The components that stand in for plugins. While one does, the plugin is kept up to date and not used.
    stand_ins: watch::Sender<BTreeMap<String, StandIn>>,
    files: PluginFiles,
    cache: Arc<dyn CompiledCache>,
}

/// Returns the built-in plugin of a feature.
fn built_in(feature: &str) -> Option<&'static builtin::Builtin> {
    builtin::ALL.iter().find(|builtin| builtin.feature == feature)
}

fn hex(digest: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(digest)
}

impl Registry {
    /// Creates a registry of the built-in plugins and the pinned ones in `dir`. Reads their files, and completes a
    /// change that was pinned and then interrupted.
    pub fn new(dir: PathBuf, pins: &[Pin], cache: Arc<dyn CompiledCache>) -> Self {
        let files = PluginFiles::new(dir.clone());
        pins.iter().for_each(|pin| files.finish(pin));
        Self::of_files(dir, pins, cache)
    }

    /// Creates the same registry and changes no file.
    fn of_files(dir: PathBuf, pins: &[Pin], cache: Arc<dyn CompiledCache>) -> Self {
        let registry = Self {
            plugins: ArcSwap::default(),
            formers: ArcSwap::default(),
            stand_ins: watch::Sender::default(),
            files: PluginFiles::new(dir),
            cache,
        };
        let (mut plugins, mut formers) = (BTreeMap::new(), BTreeMap::new());
        for builtin in &builtin::ALL {
            plugins.insert(builtin.feature.to_owned(), Arc::new(registry.built_in(builtin)));
        }
        for pin in pins {
            if let Some(digest) = &pin.digest {
                plugins.insert(pin.feature.clone(), Arc::new(registry.pinned(&pin.feature, digest)));
            }
            if let Some(former) = &pin.former {
                formers.insert(pin.feature.clone(), Arc::new(registry.files.former_plugin(&pin.feature, former)));
            }
        }
        registry.plugins.store(Arc::new(plugins));
        registry.formers.store(Arc::new(formers));
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
                let digest = Some(hex(&Sha256::digest(read_component(&path).ok()?)));
                Some(Pin { feature, digest, former: None })
            })
            .collect();
        Self::of_files(dir, &pins, cache)
    }

    fn built_in(&self, builtin: &builtin::Builtin) -> RegisteredPlugin {
        self.plugin(PluginOrigin::BuiltIn, builtin.feature, builtin.component.into())
    }

    fn plugin(&self, source: PluginOrigin, name: &str, component: Arc<[u8]>) -> RegisteredPlugin {
        let planner = Planner::new(name, component, Arc::clone(&self.cache));
        let digest = hex(planner.digest());
        RegisteredPlugin::new(source, digest, Ok(planner))
    }

    /// Returns the plugin that a user added for a feature, refused if its file does not have this digest.
    fn pinned(&self, feature: &str, pinned: &str) -> RegisteredPlugin {
        let path = self.files.present(feature);
        let unusable = |problem| RegisteredPlugin::new(PluginOrigin::Added, pinned.to_owned(), Err(problem));
        // A file that cannot be read is tried again each time: the cause may end without a trace on the file.
        let mut last_read = None;
        let plugin = match read_with_fingerprint(&path) {
            Err(error) => {
                unusable(format!("{error}; add it again, or remove it with `guillemet plugin remove {feature}`"))
            }
            Ok((component, fingerprint)) => {
                last_read = Some(fingerprint);
                let digest = hex(&Sha256::digest(&component));
                if digest == pinned {
                    self.plugin(PluginOrigin::Added, feature, component.into())
                } else {
                    unusable(format!(
                        "{path} has changed since it was added (SHA-256 {pinned}, now {digest}) and is not used; if \
                         you expect this change, run `guillemet plugin add {path}`",
                        path = path.display(),
                    ))
                }
            }
        };
        if plugin.planner.is_err()
            && let Some(component) = self.files.staged_component(feature, pinned)
        {
            // It is in force, but its file could not be put in place yet.
            return self.plugin(PluginOrigin::Added, feature, component.into());
        }
        plugin.set_fingerprint(last_read.filter(Fingerprint::is_settled));
        plugin
    }

    /// Checks the files of pinned plugins against their pins, if their fingerprint has changed. Returns the features
    /// whose plugin is now refused, is used again, or is refused for another reason. Reads files.
    pub fn recheck(&self, pins: &[Pin]) -> Vec<String> {
        let mut changed = Vec::new();
        for pin in pins {
            if let Some(former) = &pin.former {
                self.recheck_former(&pin.feature, former);
            }
            let Some(digest) = &pin.digest else { continue };
            let Some(existing) = self.plugins.load().get(&pin.feature).cloned() else { continue };
            let fingerprint = Fingerprint::of(&self.files.present(&pin.feature)).ok();
            if fingerprint.is_some() && fingerprint == existing.fingerprint() {
                continue;
            }
            let now = self.pinned(&pin.feature, digest);
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

    /// Checks the file of a former plugin against its pin, if its fingerprint has changed.
    fn recheck_former(&self, feature: &str, pin: &FormerPin) {
        let fingerprint = Fingerprint::of(&self.files.former(feature)).ok();
        let is_unchanged = |former: &Arc<FormerPlugin>| fingerprint.is_some() && former.fingerprint == fingerprint;
        if pin.digest.is_some() && !self.formers.load().get(feature).is_some_and(is_unchanged) {
            self.set_former(feature, Some(self.files.former_plugin(feature, pin)));
        }
    }

    /// Returns why plugins are refused, one sentence for each, for people.
    pub fn refusals(&self) -> Vec<String> {
        let plugins = self.plugins.load();
        plugins.iter().filter_map(|(feature, plugin)| Some(sentence(feature, plugin.planner.as_ref().err()?))).collect()
    }

    fn get(&self, feature: &str) -> Result<Arc<RegisteredPlugin>, String> {
        self.find(feature).ok_or_else(|| {
            let features: Vec<String> = self.in_use().keys().cloned().collect();
            format!(
                "there is no plugin for the feature `{feature}`; features with a plugin: {}. Rename the folder, or add \
                 a plugin with `guillemet plugin add FILE`",
                features.join(", ")
            )
        })
    }

    /// Reports whether a feature has a plugin, even if that is refused.
    pub fn has_plugin(&self, feature: &str) -> bool {
        self.find(feature).is_some()
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
        Ok(self.only(feature, isolated))
    }

    /// Returns a registry with only this plugin.
    fn only(&self, feature: &str, plugin: RegisteredPlugin) -> Self {
        let plugins = BTreeMap::from([(feature.to_owned(), Arc::new(plugin))]);
        Self {
            plugins: ArcSwap::from_pointee(plugins),
            formers: ArcSwap::default(),
            stand_ins: watch::Sender::default(),
            files: self.files.clone(),
            cache: Arc::clone(&self.cache),
        }
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
        let plugins = self.in_use();
        let mut views = Vec::with_capacity(plugins.len());
        for (feature, plugin) in plugins.iter() {
            let described = self.describe(feature).await;
            let replaces = match plugin.source {
                PluginOrigin::BuiltIn => None,
                PluginOrigin::Added => built_in(feature).map(|builtin| ReplacedInfo {
                    source: PluginOrigin::BuiltIn,
                    version: None,
                    digest: hex(&Sha256::digest(builtin.component)),
                }),
                PluginOrigin::StandIn => self.stood_in_for(feature),
            };
            let (former, stands_in_since) = (self.former_info(feature), self.stands_in_since(feature));
            let seen = view(feature, plugin.source, &plugin.digest, described);
            views.push(PluginInfo { replaces, former, stands_in_since, ..seen });
        }
        views
    }

    /// Returns the SHA-256 of a feature's plugin, in hexadecimal.
    pub fn digest(&self, feature: &str) -> Option<String> {
        self.find(feature).map(|plugin| plugin.digest.clone())
    }

    /// Returns the number of plugins.
    pub fn count(&self) -> usize {
        self.in_use().len()
    }

    /// Returns the number of planners that are running now.
    pub fn running(&self) -> usize {
        let plugins = self.plugins.load();
        let stand_ins = self.stand_ins.borrow();
        let all = plugins.values().chain(stand_ins.values().map(|stand_in| &stand_in.plugin));
        all.filter_map(|plugin| plugin.planner.as_ref().ok()).filter(|planner| planner.is_running()).count()
    }

    /// Returns the plugin of a feature that was in force before, as listings show it.
    fn former_info(&self, feature: &str) -> Option<FormerInfo> {
        let former = self.formers.load().get(feature).cloned()?;
        let (source, digest) = match &former.pin.digest {
            Some(digest) => (PluginOrigin::Added, digest.clone()),
            None => (PluginOrigin::BuiltIn, hex(&Sha256::digest(built_in(feature)?.component))),
        };
        let (version, problem) = (former.pin.version.clone(), former.problem.clone());
        Some(FormerInfo { source, version, digest, problem })
    }

    fn set_former(&self, feature: &str, former: Option<FormerPlugin>) {
        let mut formers = BTreeMap::clone(&self.formers.load());
        match former {
            Some(former) => formers.insert(feature.to_owned(), Arc::new(former)),
            None => formers.remove(feature),
        };
        self.formers.store(Arc::new(formers));
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Arc<RegisteredPlugin>>)) {
        let mut plugins = BTreeMap::clone(&self.plugins.load());
        change(&mut plugins);
        self.plugins.store(Arc::new(plugins));
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
        stands_in_since: None,
        former: None,
    }
}
