//! The configuration in force, and how another one takes its place while the daemon runs.
//!
//! Invariant: one that cannot be used changes nothing, and is shown until it can be, or is gone again. A change is
//! acknowledged when nothing that was decided under the former one can still leave: answers (`resolve::snapshot`) and
//! streams of callers that lost their right.

mod rest;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::oneshot;

use self::rest::{Next, REST, Rest};
use super::error::{AppError, ErrorCode};
use super::{App, audit, identity};
use crate::config::{self, Config, ConfigDigest, ConfigError, ConfigText, changed_keys, keys_for_restart, located};
use crate::vault::audit::{Actor, Change};
use crate::vault::event::{Caller, ChangeKind};
use crate::vault::store::{Vault, VaultError, Writes};
use guillemet_api::configuration::{ConfigurationView, Reloaded};
use guillemet_base::files::Fingerprint;
use guillemet_base::names::Millis;
use guillemet_base::time::{now, rfc3339};
use guillemet_template::Problem;

/// Under which the vault keeps the digest of the configuration that was last in force.
const DOCUMENT: &str = "configuration";

/// The configuration in force, and the file.
pub struct Configuration {
    /// Held by who reads the file and puts what is in it in force.
    turn: tokio::sync::Mutex<()>,
    loaded: ArcSwap<Loaded>,
    /// Why the file is not what is in force.
    refused: ArcSwapOption<Refused>,
    /// How the file looked when it was last read, where the next change will look different.
    read: Mutex<Option<Fingerprint>>,
    /// What was in force at the start.
    at_start: Arc<Config>,
}

/// Which configuration is in force.
#[derive(Clone, Copy, Debug)]
pub struct Loaded {
    /// Of the file's bytes.
    pub digest: ConfigDigest,
    /// When it was loaded.
    pub at: Millis,
}

/// Why what is in the file is not in force.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// Of the file's bytes, where they were read.
    pub digest: Option<ConfigDigest>,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
}

impl Refused {
    /// With one problem of the file as a whole.
    fn whole(digest: Option<ConfigDigest>, message: String) -> Self {
        Self { digest, problems: vec![Problem { message, ..Problem::default() }] }
    }
}

/// Why the file is read.
#[derive(Clone, Debug)]
pub enum Cause {
    /// SIGHUP.
    Signal,
    /// It changed.
    Changed,
    /// A caller asked for it.
    Asked(Caller),
}

impl Cause {
    /// Who makes the daemon read it.
    fn actor(&self) -> Actor {
        match self {
            Self::Signal | Self::Changed => Actor::own(),
            Self::Asked(caller) => Actor::caller(caller),
        }
    }
}

impl Configuration {
    /// Begins with what the daemon started with.
    pub fn new(config: Arc<Config>, text: &ConfigText) -> Self {
        let read = Mutex::new(text.fingerprint.filter(Fingerprint::is_settled));
        let loaded = ArcSwap::from_pointee(Loaded { digest: text.digest(), at: now() });
        Self { turn: tokio::sync::Mutex::default(), loaded, refused: ArcSwapOption::empty(), read, at_start: config }
    }

    /// Which one is in force.
    pub fn loaded(&self) -> Loaded {
        **self.loaded.load()
    }

    /// Whether the file is what is in force, or was when it was last read.
    pub fn is_valid(&self) -> bool {
        self.refused.load().is_none()
    }

    fn last_read(&self) -> Option<Fingerprint> {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_read(&self, fingerprint: Option<Fingerprint>) {
        let settled = fingerprint.filter(Fingerprint::is_settled);
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = settled;
    }

    fn needs_restart(&self, config: &Config) -> Vec<&'static str> {
        keys_for_restart(&self.at_start, config)
    }
}

impl App {
    /// What `status` shows of the configuration.
    pub fn configuration_view(&self) -> ConfigurationView {
        let Loaded { digest, at } = self.configuration.loaded();
        let refused = self.configuration.refused.load();
        ConfigurationView {
            file: self.home.config_file().to_string_lossy().into_owned(),
            digest: digest.to_string(),
            loaded_at: rfc3339(at),
            valid: refused.is_none(),
            problems: refused.as_ref().map_or_else(Vec::new, |refused| refused.problems.clone()),
            needs_restart: owned(self.configuration.needs_restart(&self.config.load())),
        }
    }

    /// Returns why the file is not in force, a line for each problem; nothing where it is.
    pub fn configuration_problems(&self) -> Vec<String> {
        let file = self.home.config_file();
        let refused = self.configuration.refused.load();
        let problems = refused.iter().flat_map(|refused| &refused.problems);
        problems.map(|problem| located(&file, problem)).collect()
    }

    /// Returns what a person should know of the configuration, a line each.
    pub fn configuration_warnings(&self) -> Vec<String> {
        let file = self.home.config_file();
        let mut warnings = self.configuration_problems();
        if !warnings.is_empty() {
            let since = rfc3339(self.configuration.loaded().at);
            warnings
                .push(format!("the configuration that was loaded at {since} stays in force until this is corrected"));
        }
        let restart = self.configuration.needs_restart(&self.config.load());
        if !restart.is_empty() {
            warnings.push(format!(
                "{}: {} changed, and the daemon reads that when it starts: restart it",
                file.display(),
                restart.join(", ")
            ));
        }
        warnings.extend(self.rules.load().warnings().iter().map(|warning| located(&file, warning)));
        warnings
    }

    /// Returns what to add to an error that variables may have caused, where the file is not in force.
    pub fn configuration_hint(&self) -> Option<String> {
        let problems = self.configuration_problems();
        let first = problems.first()?;
        let since = rfc3339(self.configuration.loaded().at);
        Some(format!(
            "the variables are those of the configuration loaded at {since}, because the file has a mistake: {first}"
        ))
    }
}

/// Reads the file now, for a caller that asked for it, and returns when it is in force.
///
/// # Errors
/// `Configuration`, with everything that is wrong with it.
pub async fn reload_for(app: &Arc<App>, caller: &Caller) -> Result<Reloaded, AppError> {
    let reloaded = reload(app, Cause::Asked(caller.clone())).await;
    reloaded.map_err(|refused| AppError::Configuration { file: app.home.config_file(), refused })
}

/// Reads the file now, as it is, and returns when it is in force.
///
/// # Errors
/// Everything that is wrong with it; nothing has changed then.
pub async fn reload(app: &Arc<App>, cause: Cause) -> Result<Reloaded, Arc<Refused>> {
    let app = Arc::clone(app);
    // Whoever asked may leave: what is begun is brought to its end all the same.
    let reloading = tokio::spawn(async move {
        let _turn = app.configuration.turn.lock().await;
        reload_in_turn(&app, cause).await
    });
    reloading.await.unwrap_or_else(|_| {
        let message = "the daemon failed inside; its log says where".to_owned();
        Err(Arc::new(Refused::whole(None, message)))
    })
}

/// Reads the file again where it changed since it was last read, once it rests. What was refused is tried again too: the
/// reason may lie elsewhere, such as in the rights of a folder.
pub async fn follow(app: &Arc<App>) {
    let settled = |seen: Option<Fingerprint>| seen == app.configuration.last_read() && seen.is_some();
    let seen = look(app).await;
    if settled(seen) {
        if !app.configuration.is_valid() {
            retry(app).await;
        }
        return;
    }
    let mut rest = Rest::new(seen, Instant::now());
    loop {
        tokio::time::sleep(REST).await;
        let seen = look(app).await;
        if settled(seen) {
            return;
        }
        match rest.look(seen, Instant::now()) {
            Next::Look => {}
            Next::Read => return retry(app).await,
            Next::GiveUp => return,
        }
    }
}

/// Returns when the file is in force as it is now, if it can be: for a caller whose template cannot be worked out. A
/// variable that was just added is no reason to refuse.
pub async fn catch_up(app: &Arc<App>) {
    let seen = look(app).await;
    if seen.is_some() && seen != app.configuration.last_read() {
        follow(app).await;
    }
    // What is being put in force is waited for.
    drop(app.configuration.turn.lock().await);
}

async fn retry(app: &Arc<App>) {
    // What is wrong with it is logged, and shown until it is corrected.
    let _ = reload(app, Cause::Changed).await;
}

/// How the file looks, if it is there.
async fn look(app: &Arc<App>) -> Option<Fingerprint> {
    let file = app.home.config_file();
    tokio::task::spawn_blocking(move || Fingerprint::of(&file).ok()).await.ok().flatten()
}

/// The file, checked in every way.
struct Read {
    config: Result<Config, Vec<Problem>>,
    digest: Option<ConfigDigest>,
    fingerprint: Option<Fingerprint>,
}

fn read(app: &App) -> Read {
    let file = app.home.config_file();
    // Others may have been allowed to write it since the start: then it is not even read.
    if let Err(untrusted) = app.home.again() {
        let findings = untrusted.findings().iter();
        let problems = findings.map(|finding| Problem { message: finding.to_string(), ..Problem::default() });
        let fingerprint = Fingerprint::of(&file).ok();
        return Read { config: Err(problems.collect()), digest: None, fingerprint };
    }
    let text = match ConfigText::read(&file) {
        Ok(text) => text,
        Err(error) => {
            return Read { config: Err(error.into_problems()), digest: None, fingerprint: Fingerprint::of(&file).ok() };
        }
    };
    let config = Config::of(&file, &text, config::environment).map_err(ConfigError::into_problems);
    Read { config, digest: Some(text.digest()), fingerprint: text.fingerprint }
}

async fn reload_in_turn(app: &Arc<App>, cause: Cause) -> Result<Reloaded, Arc<Refused>> {
    let reading = Arc::clone(app);
    let Read { config, digest, fingerprint } =
        tokio::task::spawn_blocking(move || read(&reading)).await.unwrap_or_else(|error| {
            let message = format!("{} cannot be read: {}", app.home.config_file().display(), io::Error::other(error));
            Read { config: Err(vec![Problem { message, ..Problem::default() }]), digest: None, fingerprint: None }
        });
    app.configuration.note_read(fingerprint);
    let before = app.configuration.loaded().digest;
    match config {
        Ok(config) => {
            let after = digest.unwrap_or(before);
            let was_refused = app.configuration.refused.swap(None).is_some();
            // A file that was written again with the same in it is no change.
            if after == before && !was_refused && matches!(cause, Cause::Changed) {
                return Ok(reloaded(app, Vec::new()));
            }
            let changed = changed_keys(&app.config.load(), &config);
            if (after != before || !changed.is_empty())
                && let Err(error) = record(app, &cause, before, after).await
            {
                return Err(refuse(app, &cause, Refused::whole(digest, audit::unrecorded(&error))).await);
            }
            app.configuration.loaded.store(Arc::new(Loaded { digest: after, at: now() }));
            apply(app, Arc::new(config), &changed).await;
            match changed.is_empty() {
                true => tracing::info!("the configuration was read again"),
                false => tracing::info!("the configuration was read again; changed: {}", changed.join(", ")),
            }
            Ok(reloaded(app, changed))
        }
        Err(problems) => Err(refuse(app, &cause, Refused { digest, problems }).await),
    }
}

/// Shows why the file is not in force, and tells where that is news.
async fn refuse(app: &Arc<App>, cause: &Cause, refused: Refused) -> Arc<Refused> {
    let refused = Arc::new(refused);
    let known = app.configuration.refused.swap(Some(Arc::clone(&refused)));
    // What is tried again and again is told once.
    if known.as_deref() != Some(&*refused) || !matches!(cause, Cause::Changed) {
        for problem in app.configuration_problems() {
            tracing::error!("the configuration stays as it was: {problem}");
        }
        record_refusal(app, cause, app.configuration.loaded().digest).await;
    }
    refused
}

fn owned(keys: Vec<&'static str>) -> Vec<String> {
    keys.into_iter().map(str::to_owned).collect()
}

fn reloaded(app: &App, changed: Vec<&'static str>) -> Reloaded {
    let Loaded { digest, at } = app.configuration.loaded();
    Reloaded {
        file: app.home.config_file().to_string_lossy().into_owned(),
        digest: digest.to_string(),
        loaded_at: rfc3339(at),
        changed: owned(changed),
        needs_restart: owned(app.configuration.needs_restart(&app.config.load())),
        warnings: app.rules.load().warnings(),
    }
}

/// Puts a configuration in force, and returns when nothing of the former one can still leave.
async fn apply(app: &Arc<App>, config: Arc<Config>, changed: &[&str]) {
    app.inventory.keep_former_versions(config.former_versions);
    app.resolver.budget.set_total(config.limits.in_flight);
    let crate::config::Usage { events, changes } = config.usage;
    // First the configuration and its rules, then the state: whoever answers from the new state finds both.
    identity::put_in_force(app, config).await;
    let keep_events = changed.contains(&"usage.events") || changed.contains(&"usage.changes");
    let plan_again = changed.contains(&"vars") || changed.contains(&"env.allow");
    let resolver = Arc::clone(&app.resolver);
    let applied = app.inventory.run(move |inventory| {
        inventory.keep_changes(changes);
        if keep_events && let Err(error) = resolver.recorder.keep_events(events, changes) {
            tracing::error!(%error, "the audit trail keeps its bound until the next start");
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
    let (held, answered) = oneshot::channel();
    // An error says that nobody is served any more.
    if app.gate.send(held).await.is_ok() {
        let _ = answered.await;
    }
}

/// Records that another configuration comes into force, and which one, before it does.
///
/// # Errors
/// Why not: then it must not.
async fn record(app: &Arc<App>, cause: &Cause, before: ConfigDigest, after: ConfigDigest) -> Result<(), String> {
    let change = changed(&cause.actor(), before).after(after.to_string());
    let recorded =
        app.inventory.run(move |inventory| inventory.set_document(DOCUMENT, after.to_string().as_bytes(), &[change]));
    match recorded.await {
        Ok(recorded) => recorded.map_err(|error| error.to_string()),
        Err(_) => Err("the daemon failed inside".into()),
    }
}

/// Records that the file was not put in force.
async fn record_refusal(app: &Arc<App>, cause: &Cause, before: ConfigDigest) {
    let refused = changed(&cause.actor(), before).failed(ErrorCode::Validation.name());
    audit::record_failed(app, vec![refused]).await;
}

fn changed(actor: &Actor, before: ConfigDigest) -> Change {
    Change::new(ChangeKind::ConfigurationChanged, actor, now()).before(before.to_string())
}

/// Notes in the vault which configuration a daemon starts with. Where it is another one than that which was last in force,
/// the audit trail tells.
///
/// # Errors
/// When it cannot be written.
pub fn note_start(vault: &mut Vault, text: &ConfigText) -> Result<(), VaultError> {
    let after = text.digest().to_string();
    let before = vault.document(DOCUMENT)?;
    if before.as_ref().is_some_and(|before| before.as_slice() == after.as_bytes()) {
        return Ok(());
    }
    let change = before.map(|before| {
        let before = String::from_utf8_lossy(&before).into_owned();
        Change::new(ChangeKind::ConfigurationChanged, &Actor::own(), now()).before(before).after(after.clone())
    });
    let documents = vec![(DOCUMENT.into(), Some(after.as_bytes()))];
    vault.write(&Writes { documents, changes: change.as_slice(), ..Writes::default() })
}
