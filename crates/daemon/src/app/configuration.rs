//! The configuration in force, and how a new one replaces it while the daemon runs.
//!
//! Invariant: a configuration that cannot be used changes nothing. It is shown as refused until it can be used or the
//! file is put back. A change is acknowledged only when nothing that was decided under the former configuration can
//! still leave: answers (`resolve::snapshot`) and event streams of callers that lost their right.

mod debounce;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::oneshot;

use self::debounce::{Debouncer, NextStep, QUIET_TIME};
use super::error::{AppError, ErrorCode};
use super::{App, audit, identity};
use crate::config::{self, Config, ConfigDigest, ConfigError, ConfigText, changed_keys, keys_for_restart};
use crate::inventory::Panicked;
use guillemet_api::configuration::{ConfigurationView, Reloaded};
use guillemet_base::files::Fingerprint;
use guillemet_base::names::Millis;
use guillemet_base::problem::Problem;
use guillemet_base::time::{now, rfc3339};
use guillemet_vault::audit::{Actor, AuditChange};
use guillemet_vault::event::{Caller, ChangeKind};
use guillemet_vault::store::{Vault, VaultError, Writes};

/// The label under which the vault keeps the digest of the configuration that was last in force.
const DOCUMENT: &str = "configuration";

/// The configuration in force, and how it compares with the file.
pub struct Configuration {
    /// Held while the file is read and its configuration put in force.
    exclusive: tokio::sync::Mutex<()>,
    loaded: ArcSwap<LoadedConfig>,
    /// Why the file is not in force; empty if it is.
    refusal: ArcSwapOption<ConfigRefusal>,
    /// The fingerprint of the file when it was last read. `None` if a later change might not show in the fingerprint.
    read: Mutex<Option<Fingerprint>>,
    /// The configuration that the daemon started with.
    at_start: Arc<Config>,
}

/// Identifies the configuration in force.
#[derive(Clone, Copy, Debug)]
pub struct LoadedConfig {
    /// The digest of the file's bytes.
    pub digest: ConfigDigest,
    /// The time at which it was loaded.
    pub at: Millis,
}

/// Why the file's configuration is not in force.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigRefusal {
    /// The digest of the file's bytes; `None` if they could not be read.
    pub digest: Option<ConfigDigest>,
    /// Everything that is wrong with the file.
    pub problems: Vec<Problem>,
}

impl ConfigRefusal {
    /// Returns a refusal with one problem that concerns the whole file.
    fn of_whole_file(digest: Option<ConfigDigest>, message: String) -> Self {
        Self { digest, problems: vec![Problem { message, ..Problem::default() }] }
    }
}

/// The reason for reading the file.
#[derive(Clone, Debug)]
pub enum ReloadCause {
    /// The daemon received SIGHUP.
    Signal,
    /// The file changed on the disk.
    Changed,
    /// This caller asked for a reload.
    Asked(Caller),
}

impl ReloadCause {
    /// Returns whom the audit trail names as the one who changed the configuration.
    fn actor(&self) -> Actor {
        match self {
            Self::Signal | Self::Changed => Actor::this_process(),
            Self::Asked(caller) => Actor::caller(caller),
        }
    }
}

impl Configuration {
    /// Starts with the configuration that the daemon started with.
    pub fn new(config: Arc<Config>, text: &ConfigText) -> Self {
        let read = Mutex::new(text.fingerprint.filter(Fingerprint::is_settled));
        let loaded = ArcSwap::from_pointee(LoadedConfig { digest: text.digest(), at: now() });
        Self {
            exclusive: tokio::sync::Mutex::default(),
            loaded,
            refusal: ArcSwapOption::empty(),
            read,
            at_start: config,
        }
    }

    /// Returns which configuration is in force.
    pub fn loaded(&self) -> LoadedConfig {
        **self.loaded.load()
    }

    /// Returns whether the file, as it was last read, is in force.
    pub fn is_valid(&self) -> bool {
        self.refusal.load().is_none()
    }

    fn last_read(&self) -> Option<Fingerprint> {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_last_read(&self, fingerprint: Option<Fingerprint>) {
        let settled = fingerprint.filter(Fingerprint::is_settled);
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = settled;
    }

    fn needs_restart(&self, config: &Config) -> Vec<&'static str> {
        keys_for_restart(&self.at_start, config)
    }
}

impl App {
    /// Returns the configuration as `status` shows it.
    pub fn configuration_view(&self) -> ConfigurationView {
        let LoadedConfig { digest, at } = self.configuration.loaded();
        let refusal = self.configuration.refusal.load();
        ConfigurationView {
            file: self.home.config_file().to_string_lossy().into_owned(),
            digest: digest.to_string(),
            loaded_at: rfc3339(at),
            valid: refusal.is_none(),
            problems: refusal.as_ref().map_or_else(Vec::new, |refusal| refusal.problems.clone()),
            needs_restart: to_strings(self.configuration.needs_restart(&self.config.load())),
        }
    }

    /// Returns why the file is not in force, one line for each problem; empty if it is in force.
    pub fn configuration_problems(&self) -> Vec<String> {
        let file = self.home.config_file();
        let refusal = self.configuration.refusal.load();
        let problems = refusal.iter().flat_map(|refusal| &refusal.problems);
        problems.map(|problem| problem.located(&file)).collect()
    }

    /// Returns the warnings about the configuration, one line for each.
    pub fn configuration_warnings(&self) -> Vec<String> {
        let file = self.home.config_file();
        let mut warnings = self.configuration_problems();
        if !warnings.is_empty() {
            let since = rfc3339(self.configuration.loaded().at);
            warnings.push(format!("the configuration loaded at {since} stays in effect until you fix this"));
        }
        let restart = self.configuration.needs_restart(&self.config.load());
        if !restart.is_empty() {
            warnings.push(format!(
                "{}: {} changed; restart the daemon to apply this",
                file.display(),
                restart.join(", ")
            ));
        }
        warnings.extend(self.rules.load().warnings().iter().map(|warning| warning.located(&file)));
        warnings
    }

    /// Returns a hint for an error that variables may have caused; `None` if the file is in force.
    pub fn configuration_hint(&self) -> Option<String> {
        let problems = self.configuration_problems();
        let first = problems.first()?;
        let since = rfc3339(self.configuration.loaded().at);
        Some(format!(
            "the variables come from the configuration loaded at {since}, because the file has an error: {first}"
        ))
    }
}

/// Reads the file now, for a caller that asked for it, and returns once it is in force.
///
/// # Errors
/// [`AppError::Configuration`] with everything that is wrong with the file.
pub async fn reload_for(app: &Arc<App>, caller: &Caller) -> Result<Reloaded, AppError> {
    let reloaded = reload(app, ReloadCause::Asked(caller.clone())).await;
    reloaded.map_err(|refusal| AppError::Configuration { file: app.home.config_file(), refusal })
}

/// Reads the file now, even if it is still being written, and returns once it is in force.
///
/// # Errors
/// Everything that is wrong with the file. Nothing has changed then.
pub async fn reload(app: &Arc<App>, cause: ReloadCause) -> Result<Reloaded, Arc<ConfigRefusal>> {
    let app = Arc::clone(app);
    // The caller may disconnect: a reload that has begun is finished all the same.
    let reloading = tokio::spawn(async move {
        let _guard = app.configuration.exclusive.lock().await;
        reload_exclusively(&app, cause).await
    });
    reloading.await.unwrap_or_else(|_| Err(Arc::new(ConfigRefusal::of_whole_file(None, Panicked.to_string()))))
}

/// Reads the file again if it changed since it was last read, once it has stopped changing. Tries a refused file again
/// even if it did not change, because the reason may be elsewhere, such as in the permissions of a folder.
pub async fn follow(app: &Arc<App>) {
    let is_current =
        |fingerprint: Option<Fingerprint>| fingerprint == app.configuration.last_read() && fingerprint.is_some();
    let fingerprint = current_fingerprint(app).await;
    if is_current(fingerprint) {
        if !app.configuration.is_valid() {
            retry(app).await;
        }
        return;
    }
    let mut settling = Debouncer::new(fingerprint, Instant::now());
    loop {
        tokio::time::sleep(QUIET_TIME).await;
        let fingerprint = current_fingerprint(app).await;
        if is_current(fingerprint) {
            return;
        }
        match settling.observe(fingerprint, Instant::now()) {
            NextStep::CheckAgain => {}
            NextStep::Read => return retry(app).await,
            NextStep::GiveUp => return,
        }
    }
}

/// Puts the file in force if it changed. Called for a template that cannot be planned, so that a variable that was just
/// added to the file does not fail a render.
pub async fn reload_if_changed(app: &Arc<App>) {
    let fingerprint = current_fingerprint(app).await;
    if fingerprint.is_some() && fingerprint != app.configuration.last_read() {
        follow(app).await;
    }
    // A reload may be under way: wait for it.
    drop(app.configuration.exclusive.lock().await);
}

async fn retry(app: &Arc<App>) {
    // The problems are logged, and shown until they are corrected.
    let _ = reload(app, ReloadCause::Changed).await;
}

/// Returns the file's fingerprint, or `None` if it does not exist.
async fn current_fingerprint(app: &Arc<App>) -> Option<Fingerprint> {
    let file = app.home.config_file();
    tokio::task::spawn_blocking(move || Fingerprint::of(&file).ok()).await.ok().flatten()
}

/// The contents of the file, or what is wrong with them.
struct ConfigReading {
    config: Result<Config, Vec<Problem>>,
    digest: Option<ConfigDigest>,
    fingerprint: Option<Fingerprint>,
}

fn read(app: &App) -> ConfigReading {
    let file = app.home.config_file();
    // Since the start, others may have been given permission to write the file: then it is not even read.
    if let Err(error) = app.home.recheck() {
        let findings = error.findings().iter();
        let problems = findings.map(|finding| Problem { message: finding.to_string(), ..Problem::default() });
        let fingerprint = Fingerprint::of(&file).ok();
        return ConfigReading { config: Err(problems.collect()), digest: None, fingerprint };
    }
    let text = match ConfigText::read(&file) {
        Ok(text) => text,
        Err(error) => {
            return ConfigReading {
                config: Err(error.into_problems()),
                digest: None,
                fingerprint: Fingerprint::of(&file).ok(),
            };
        }
    };
    let config = Config::of(&file, &text, config::environment).map_err(ConfigError::into_problems);
    ConfigReading { config, digest: Some(text.digest()), fingerprint: text.fingerprint }
}

async fn reload_exclusively(app: &Arc<App>, cause: ReloadCause) -> Result<Reloaded, Arc<ConfigRefusal>> {
    let reading = Arc::clone(app);
    let ConfigReading { config, digest, fingerprint } =
        tokio::task::spawn_blocking(move || read(&reading)).await.unwrap_or_else(|error| {
            let message = format!("{} cannot be read: {}", app.home.config_file().display(), io::Error::other(error));
            ConfigReading {
                config: Err(vec![Problem { message, ..Problem::default() }]),
                digest: None,
                fingerprint: None,
            }
        });
    app.configuration.set_last_read(fingerprint);
    let before = app.configuration.loaded().digest;
    match config {
        Ok(config) => {
            let after = digest.unwrap_or(before);
            let was_refused = app.configuration.refusal.swap(None).is_some();
            // A file that was written again with the same contents is no change.
            if after == before && !was_refused && matches!(cause, ReloadCause::Changed) {
                return Ok(reloaded(app, Vec::new()));
            }
            let changed = changed_keys(&app.config.load(), &config);
            if (after != before || !changed.is_empty())
                && let Err(error) = record(app, &cause, before, after).await
            {
                return Err(keep_refusal(
                    app,
                    &cause,
                    ConfigRefusal::of_whole_file(digest, audit::unrecorded_message(&error)),
                )
                .await);
            }
            app.configuration.loaded.store(Arc::new(LoadedConfig { digest: after, at: now() }));
            apply(app, Arc::new(config), &changed).await;
            match changed.is_empty() {
                true => tracing::info!("the configuration was reloaded"),
                false => tracing::info!("the configuration was reloaded; changed: {}", changed.join(", ")),
            }
            Ok(reloaded(app, changed))
        }
        Err(problems) => Err(keep_refusal(app, &cause, ConfigRefusal { digest, problems }).await),
    }
}

/// Keeps the refusal so that it is shown, and logs and records it if it is new.
async fn keep_refusal(app: &Arc<App>, cause: &ReloadCause, refusal: ConfigRefusal) -> Arc<ConfigRefusal> {
    let refusal = Arc::new(refusal);
    let previous = app.configuration.refusal.swap(Some(Arc::clone(&refusal)));
    // The file is tried again and again: report the same refusal only once.
    if previous.as_deref() != Some(&*refusal) || !matches!(cause, ReloadCause::Changed) {
        for problem in app.configuration_problems() {
            tracing::error!("the previous configuration stays in effect: {problem}");
        }
        record_refusal(app, cause, app.configuration.loaded().digest).await;
    }
    refusal
}

fn to_strings(keys: Vec<&'static str>) -> Vec<String> {
    keys.into_iter().map(str::to_owned).collect()
}

fn reloaded(app: &App, changed: Vec<&'static str>) -> Reloaded {
    let LoadedConfig { digest, at } = app.configuration.loaded();
    Reloaded {
        file: app.home.config_file().to_string_lossy().into_owned(),
        digest: digest.to_string(),
        loaded_at: rfc3339(at),
        changed: to_strings(changed),
        needs_restart: to_strings(app.configuration.needs_restart(&app.config.load())),
        warnings: app.rules.load().warnings(),
    }
}

/// Puts a configuration in force, and returns when nothing decided under the former one can still leave.
async fn apply(app: &Arc<App>, config: Arc<Config>, changed: &[&str]) {
    app.inventory.keep_former_versions(config.former_versions);
    app.resolver.budget.set_total(config.limits.in_flight);
    let crate::config::AuditBounds { events, changes } = config.usage;
    // First the configuration and its rules, then the state: whatever answers from the new state must see both.
    identity::put_in_force(app, config).await;
    let keep_events = changed.contains(&"usage.events") || changed.contains(&"usage.changes");
    let plan_again = changed.contains(&"vars") || changed.contains(&"env.allow");
    let resolver = Arc::clone(&app.resolver);
    #[expect(clippy::disallowed_methods, reason = "on a blocking thread")]
    let applied = app.inventory.run(move |inventory| {
        inventory.keep_changes(changes);
        if keep_events && let Err(error) = resolver.recorder.keep_events(events, changes) {
            tracing::error!(%error, "the audit trail keeps its size limit until the next start");
        }
        match plan_again {
            true => inventory.forget_plans(None),
            false => resolver.current.change(|_| {}),
        }
    });
    if let Ok(released) = applied.await {
        released.wait().await;
    }
    if plan_again {
        app.inventory.template_changes().notify_one();
    }
    let (done, finished) = oneshot::channel();
    // An error means that the server has stopped.
    if app.gate.send(done).await.is_ok() {
        let _ = finished.await;
    }
}

/// Records that the configuration changes, before the new one comes into force.
///
/// # Errors
/// The reason as text. The new configuration must then not come into force.
async fn record(app: &Arc<App>, cause: &ReloadCause, before: ConfigDigest, after: ConfigDigest) -> Result<(), String> {
    let change = changed(&cause.actor(), before).after(after.to_string());
    let recorded =
        app.inventory.run(move |inventory| inventory.set_document(DOCUMENT, after.to_string().as_bytes(), &[change]));
    match recorded.await {
        Ok(recorded) => recorded.map_err(|error| error.to_string()),
        Err(panicked) => Err(panicked.to_string()),
    }
}

/// Records that the file was refused.
async fn record_refusal(app: &Arc<App>, cause: &ReloadCause, before: ConfigDigest) {
    let change = changed(&cause.actor(), before).failed(ErrorCode::Validation.name());
    audit::record_failed(app, vec![change]).await;
}

fn changed(actor: &Actor, before: ConfigDigest) -> AuditChange {
    AuditChange::new(ChangeKind::ConfigurationChanged, actor, now()).before(before.to_string())
}

/// Notes in the vault which configuration the daemon starts with. If it is not the one that was last in force, records
/// the change in the audit trail.
///
/// # Errors
/// If the vault cannot be read or written.
pub fn note_start(vault: &mut Vault, text: &ConfigText) -> Result<(), VaultError> {
    let after = text.digest().to_string();
    let before = vault.document(DOCUMENT)?;
    if before.as_ref().is_some_and(|before| before.as_slice() == after.as_bytes()) {
        return Ok(());
    }
    let change = before.map(|before| {
        let before = String::from_utf8_lossy(&before).into_owned();
        AuditChange::new(ChangeKind::ConfigurationChanged, &Actor::this_process(), now())
            .before(before)
            .after(after.clone())
    });
    let documents = vec![(DOCUMENT.into(), Some(after.as_bytes()))];
    vault.write(&Writes { documents, changes: change.as_slice(), ..Writes::default() })
}
