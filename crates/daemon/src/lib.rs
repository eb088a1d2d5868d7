//! The daemon: the services (`app`), what they work on (`inventory`, `resolve`, `sync`), how they are reached (`api`,
//! `console`), and this module, which wires them together.
//!
//! Runs no template engine and no plugin, and knows nothing of the command line.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod api;
pub mod app;
pub mod config;
pub mod console;
pub mod events;
mod follow;
pub mod http;
pub mod inventory;
pub mod pattern;
pub mod resolve;
mod self_check;
pub mod shares;
mod socket;
pub mod sync;
pub mod user_namespace;

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, io};

use arc_swap::{ArcSwap, ArcSwapOption};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot};

use self::socket::Socket;
use crate::api::listener::Listener;
use crate::api::metrics::RequestCounters;
use crate::api::workers::Workers;
use crate::app::configuration::{self, Configuration, ReloadCause};
use crate::app::identity::{self, LookUps, Rules};
use crate::app::{App, LinkRequest};
use crate::config::{Config, ConfigError, ConfigText};
use crate::events::EventBus;
use crate::inventory::{Inventory, InventoryError, InventoryHandle, StoredSync};
use crate::resolve::Resolver;
use crate::resolve::budget::Budget;
use crate::resolve::refusals::LoggedCallers;
use crate::resolve::snapshot::{CurrentSnapshot, SnapshotState};
use crate::sync::{SyncHandle, SyncState};
use guillemet_base::files::{self, FileId};
use guillemet_base::home::Home;
use guillemet_base::permissions::{TrustedHome, Untrusted};
use guillemet_base::sys::stack::with_wiped_stack;
use guillemet_base::time::now;
use guillemet_http::shutdown::shutdown;
use guillemet_plugin::cache::CompiledForms;
use guillemet_plugin::checker::Checker;
use guillemet_plugin::client::confinement;
use guillemet_plugin::findings;
use guillemet_plugin::registry::{Pin, Registry};
use guillemet_secret::record::Secret;
use guillemet_template::catalog::{Catalog, WatchError, Watcher};
use guillemet_vault::audit::{Actor, AuditChange};
use guillemet_vault::keys::{NewUnlock, OpenedBy, UnlockWith};
use guillemet_vault::lock::DaemonLock;
use guillemet_vault::store::{USAGE_KEY, Vault, VaultError};
use guillemet_vault::usage::{self, ChangeKind, Recorder, RecorderError};

/// How long to wait after an event before scanning the folders, because editors and git change many files at once.
const DEBOUNCE: Duration = Duration::from_millis(10);
/// How often to scan the folders if the kernel cannot report changes, and to check the files of added plugins.
const POLL: Duration = Duration::from_secs(2);
/// How often the journal is synced to the disk: what a power cut can cost.
const SYNC: Duration = Duration::from_secs(1);
/// How often recorded usage is folded into the vault's counters.
const FOLD: Duration = Duration::from_secs(30);

/// The longest time that a stopping daemon waits for its threads.
const STOP: Duration = Duration::from_secs(5);

/// The descriptors needed besides those of connections: the vault, the journal, watched folders, three for each
/// planner.
const DESCRIPTORS: u64 = 256;

/// The error of a daemon that did not start, or of a home that could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Other users can change the home.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// The vault cannot be opened or written.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The usage journal cannot be opened or written.
    #[error(transparent)]
    Usage(#[from] RecorderError),
    /// The inventory cannot be set up.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// A file or folder cannot be created or read.
    #[error("{path}: {source}. Check that you own it and that the disk is not full")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The socket cannot be used.
    #[error("the socket {path} cannot be used: {problem}")]
    Socket {
        /// The path of the socket.
        path: PathBuf,
        /// What is wrong and what to do about it.
        problem: String,
    },
    /// This machine lacks something that the daemon needs to serve anyone. Holds what it is.
    #[error("the daemon cannot run here: {0}")]
    CannotWork(String),
    /// The system does not allow enough descriptors.
    #[error(
        "limits.connections = {connections} needs {needed} file descriptors, but this process can have {maximum}; \
         lower it, or raise LimitNOFILE"
    )]
    Descriptors {
        /// `limits.connections` of the configuration.
        connections: u64,
        /// The number of descriptors that this needs.
        needed: u64,
        /// The most that this process may have.
        maximum: u64,
    },
    /// A call to the operating system failed.
    #[error("{action}: {source}")]
    System {
        /// What could not be done.
        action: &'static str,
        /// The error of the system.
        source: io::Error,
    },
}

fn system(action: &'static str) -> impl Fn(io::Error) -> DaemonError {
    move |source| DaemonError::System { action, source }
}

fn file(path: &Path) -> impl Fn(io::Error) -> DaemonError + '_ {
    move |source| DaemonError::File { path: path.to_owned(), source }
}

/// Sets up a home: folders (0700), configuration, key, and the vault last, so that an interrupted attempt can be
/// repeated. Existing files are left as they are. The templates' folder stays empty: a template that nobody uses would
/// list secrets as missing, and in an account it would keep other devices from deleting them.
///
/// # Errors
/// If there is a vault already, or something cannot be written.
pub fn init(home: &TrustedHome, unlock: &NewUnlock) -> Result<(), DaemonError> {
    for dir in [home.config(), home.data(), &home.templates()] {
        private_dir(dir)?;
    }
    Vault::check_absent(home)?;
    write_unless_there(&home.config_file(), config::DEFAULT)?;
    Ok(Vault::create(home, unlock)?)
}

/// Makes the socket's folder private again in a home that a group may write: Kubernetes gives a group everything in a
/// volume whenever it is mounted. If this fails, the socket is refused later with the reason.
fn unshare_runtime(home: &Home) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let _ = rustix::fs::open(home.runtime(), flags, Mode::empty()).and_then(|dir| rustix::fs::fchmod(dir, Mode::RWXU));
}

fn private_dir(dir: &Path) -> Result<(), DaemonError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(file(dir))
}

fn write_unless_there(path: &Path, text: &str) -> Result<(), DaemonError> {
    match files::write_new(path, text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(file(path)(error)),
        _ => Ok(()),
    }
}

/// Runs the daemon until SIGTERM or SIGINT.
///
/// # Errors
/// The reason why it did not start, or what could not be stored when it stopped.
pub fn run(home: &TrustedHome, unlock: UnlockWith) -> Result<(), DaemonError> {
    confine_process()?;
    let activated = socket::activated()?;
    let _lock = DaemonLock::acquire(home)?;
    if home.group_may_write() {
        unshare_runtime(home);
    }
    // Tests what this kernel supports, while the vault is opened.
    let confinement = confinement::try_confinement().map_err(system("cannot start planners"))?;
    let (config, config_text) = config::load(home)?;
    let home_id = FileId::of(home.data()).map_err(file(home.data()))?;
    let socket = Socket::claim(home, home_id, config.api_group.clone(), activated)?;
    limit_descriptors(config.limits.connections as u64)?;
    let method = unlock.method();
    let opened = OpenedVault::open(home, unlock, &config, &config_text)?;
    let confined = confinement::confinement(confinement).map_err(|error| DaemonError::CannotWork(error.to_string()))?;
    let mut warnings = opened.record_start(home, method.name(), confined);
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    warnings.extend(socket.unreachable());
    let cache = Arc::clone(&opened.cache);
    let (links, link_requests) = mpsc::channel(1);
    let (gate, gate_requests) = mpsc::channel(1);
    let start =
        StartFacts { home, home_id, config, config_text: &config_text, unlock: method.name(), warnings, gate, links };
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(system("cannot start the async runtime"))?;
    let app = opened.into_app(start, runtime.handle().clone())?;
    let result = runtime.block_on(serve(app, socket, link_requests, gate_requests, cache));
    // With a limit, because a thread may be waiting for a file system that does not answer.
    runtime.shutdown_timeout(STOP);
    result
}

/// Keeps this process and its children small, and from leaking: no core dumps, no inherited descriptors, and files that
/// are accessible to this user only, above all the socket.
fn confine_process() -> Result<(), DaemonError> {
    guillemet_base::sys::memory::limit_free();
    guillemet_base::sys::process::make_undumpable().map_err(system("cannot disable core dumps"))?;
    guillemet_base::sys::process::close_on_exec_from(3)
        .map_err(system("cannot hide file descriptors from child processes"))?;
    quiet_panics();
    self_check::check_system()?;
    rustix::process::umask(Mode::from_raw_mode(0o077));
    Ok(())
}

/// The facts about a start that are not in the vault.
struct StartFacts<'a> {
    home: &'a TrustedHome,
    home_id: FileId,
    config: Config,
    config_text: &'a ConfigText,
    unlock: &'static str,
    warnings: Vec<String>,
    gate: mpsc::Sender<oneshot::Sender<()>>,
    links: mpsc::Sender<LinkRequest>,
}

/// An open vault with everything that is read from it at a start.
struct OpenedVault {
    vault: Vault,
    opened_by: OpenedBy,
    secrets: Vec<Arc<Secret>>,
    stored_sync: StoredSync,
    recorder: Recorder,
    pins: Vec<Pin>,
    cache: Arc<CompiledForms>,
    /// Whether the configuration of this start was recorded.
    config_recorded: Result<(), VaultError>,
}

impl OpenedVault {
    fn open(
        home: &TrustedHome,
        unlock: UnlockWith,
        config: &Config,
        config_text: &ConfigText,
    ) -> Result<Self, DaemonError> {
        let (mut vault, secrets) = with_wiped_stack(|| Vault::open(home, unlock))?;
        let opened_by = vault.opened_by();
        let mut secrets: Vec<Arc<Secret>> = secrets.into_iter().map(Arc::new).collect();
        let stored_sync = StoredSync::of(&mut vault, &mut secrets, config.former_versions)?;
        let (journal, database, usage_key) = (home.journal_file(), home.vault_file(), vault.subkey(USAGE_KEY));
        let config::AuditBounds { events, changes } = config.usage;
        let options = usage::RecorderOptions { events, changes, ..usage::RecorderOptions::default() };
        vault.keep_changes(changes);
        let config_recorded = configuration::note_start(&mut vault, config_text);
        let recorder = Recorder::open_with(&journal, &database, vault.vault_id(), usage_key, options)?;
        let pins: Vec<Pin> = match vault.document(app::plugins::PINS)? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|_| {
                VaultError::Damaged("its list of plugins does not have the format that Guillemet writes".into())
            })?,
            None => Vec::new(),
        };
        let cache = Arc::new(CompiledForms::new(home.cache(), vault.subkey("plugin-cache")));
        match inventory::finish_rename(&mut vault) {
            // The templates themselves are as they should be; the note about the rename is read again at the next
            // start.
            Err(VaultError::Unwritable(_)) => {}
            finished => finished?,
        }
        Ok(Self { vault, opened_by, secrets, stored_sync, recorder, pins, cache, config_recorded })
    }

    /// Records the start, and returns the warnings about it. `confined` are those about the confinement of planners.
    fn record_start(&self, home: &TrustedHome, unlock: &str, confined: Vec<String>) -> Vec<String> {
        let mut warnings: Vec<String> = self.recorder.warnings().iter().map(|warning| (*warning).to_owned()).collect();
        warnings.extend(confined);
        if self.opened_by == OpenedBy::FormerReading {
            warnings.push(format!(
                "the passphrase contains a carriage return, a byte order mark or several lines, which earlier versions \
                 treated as part of it, and this vault only opens with them. Stop the daemon and run `{}` to choose a \
                 passphrase without them",
                home.command("vault rekey")
            ));
        }
        let unlocked = AuditChange::new(ChangeKind::VaultUnlocked, &Actor::this_process(), now()).after(unlock);
        if let Err(error) = self.recorder.record_changes_in_time(vec![unlocked]) {
            // The start has no change to take back, and serving needs only the journal.
            warnings.push(format!("the daemon's start could not be recorded in the audit trail: {error}"));
        }
        if let Err(error) = &self.config_recorded {
            warnings.push(format!("the configuration this daemon started with could not be recorded: {error}"));
        }
        warnings
    }

    /// Builds the state that requests use.
    fn into_app(self, start: StartFacts<'_>, runtime: Handle) -> Result<Arc<App>, DaemonError> {
        let StartFacts { home, home_id, config, config_text, unlock, warnings, gate, links } = start;
        let registry = Registry::new(home.plugins(), &self.pins, self.cache as _);
        let mut state = SnapshotState::default();
        inventory::put_secrets(&mut state, self.secrets);
        let resolver = Arc::new(Resolver {
            current: CurrentSnapshot::new(state),
            recorder: self.recorder,
            budget: Budget::new(config.limits.in_flight),
            logged_callers: LoggedCallers::default(),
        });
        let events = Arc::new(EventBus::default());
        let stored = (self.vault, self.stored_sync);
        let catalog = Catalog::new(home.templates());
        #[expect(clippy::disallowed_methods, reason = "nothing is served yet; below, it becomes an InventoryHandle")]
        let inventory =
            Inventory::new(stored, catalog, Arc::clone(&resolver), Arc::clone(&events), config.former_versions)
                .map_err(system("cannot start the thread that reads templates"))?;
        inventory.rescan();
        let own_uid = rustix::process::geteuid().as_raw();
        let config = Arc::new(config);
        let handle = SyncHandle::of(&inventory);
        // From here on nothing calls the inventory directly, because its calls block.
        let inventory = InventoryHandle::new(inventory);
        let active_config = Arc::new(ArcSwap::new(Arc::clone(&config)));
        let sync = Arc::new(SyncState { inventory: inventory.clone(), config: Arc::clone(&active_config), handle });
        Ok(Arc::new(App {
            runtime,
            home: home.clone(),
            home_id,
            socket_problem: ArcSwapOption::empty(),
            own_uid,
            config: active_config,
            rules: ArcSwap::from_pointee(Rules::of_numbers(Arc::clone(&config), own_uid)),
            lookups: LookUps::default(),
            configuration: Configuration::new(config, config_text),
            gate,
            inventory,
            events,
            resolver,
            registry,
            checker: Checker::default(),
            sync,
            unlock,
            started_at: now(),
            warnings,
            rechecks: app::serving::Rechecks::default(),
            inline: app::inline::InlineQueue::default(),
            pins: tokio::sync::Mutex::new(self.pins),
            template_check: Arc::default(),
            links,
        }))
    }
}

/// Limits descriptors to as many as the configuration can need, so that a leak shows early.
fn limit_descriptors(connections: u64) -> Result<(), DaemonError> {
    let (needed, inherited) = (connections + DESCRIPTORS, getrlimit(Resource::Nofile));
    if let Some(maximum) = inherited.maximum.filter(|maximum| *maximum < needed) {
        return Err(DaemonError::Descriptors { connections, needed, maximum });
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum: inherited.maximum })
        .map_err(|error| system("cannot set the file descriptor limit")(error.into()))
}

/// Logs a panic with its place but without its message, which could contain anything.
fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "internal error in the daemon; a request was not answered");
    }));
}

async fn serve(
    app: Arc<App>,
    mut socket: Socket,
    link_requests: mpsc::Receiver<LinkRequest>,
    gate_requests: mpsc::Receiver<oneshot::Sender<()>>,
    cache: Arc<CompiledForms>,
) -> Result<(), DaemonError> {
    let (trigger, stop) = shutdown();
    let mut terminate = signal(SignalKind::terminate()).map_err(system("cannot handle SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("cannot handle SIGINT"))?;
    let mut reload = signal(SignalKind::hangup()).map_err(system("cannot handle SIGHUP"))?;
    // Until here only rules with numbers apply.
    identity::put_in_force(&app, app.config.load_full()).await;
    let (listener, replacements) = Listener::new(socket.listen()?);
    let address = socket.address()?;

    let changed = Arc::new(Notify::new());
    let watcher = {
        let changed = Arc::clone(&changed);
        Watcher::new(app.home.templates(), move || changed.notify_one())
    };
    tokio::spawn(follow_templates(Arc::clone(&app), changed, watcher));
    tokio::spawn(follow::configuration(Arc::clone(&app)));
    tokio::spawn(keep_plans(Arc::clone(&app)));
    tokio::spawn(follow_plugins(Arc::clone(&app)));
    tokio::spawn(keep_usage(Arc::clone(&app)));
    let account = tokio::spawn(sync::run(Arc::clone(&app.sync), stop.clone()));
    let console = tokio::spawn(console::run(Arc::clone(&app), link_requests, stop.clone()));
    let counts = Arc::new(RequestCounters::default());
    let connections = Workers::start().map_err(system("cannot start the threads that serve connections"))?;
    let api_task =
        api::serve(Arc::clone(&app), Arc::clone(&counts), connections, listener, gate_requests, stop.clone());
    let api_task = tokio::spawn(api_task);
    let socket_task = {
        let app = Arc::clone(&app);
        tokio::spawn(async move {
            socket.keep_bound(app, counts, replacements, stop).await;
            socket
        })
    };
    let mut is_signaled = false;
    let works = tokio::select! {
        works = self_check::run(&app, &address, cache) => works,
        _ = terminate.recv() => { is_signaled = true; Ok(()) }
        _ = interrupt.recv() => { is_signaled = true; Ok(()) }
    };
    if works.is_ok() && !is_signaled {
        tracing::info!(socket = %app.home.socket().display(), "ready");
        notify_manager(sd_notify::NotifyState::Ready);
    }
    while works.is_ok() && !is_signaled {
        tokio::select! {
            _ = terminate.recv() => is_signaled = true,
            _ = interrupt.recv() => is_signaled = true,
            _ = reload.recv() => {
                let app = Arc::clone(&app);
                // What is wrong with it is logged, and shown until it is corrected.
                tokio::spawn(async move { configuration::reload(&app, ReloadCause::Signal).await.map(drop) });
            }
        }
    }
    if works.is_ok() {
        tracing::info!("shutting down; requests in progress are finished first");
        notify_manager(sd_notify::NotifyState::Stopping);
    }
    trigger.stop();
    let (_, _, _, socket) = tokio::join!(api_task, console, account, socket_task);
    let result = fold_usage(&app).await;
    if let Ok(socket) = &socket {
        socket.remove();
    }
    works?;
    result
}

/// Folds the recorded usage, as the last thing that a daemon does.
async fn fold_usage(app: &App) -> Result<(), DaemonError> {
    let resolver = Arc::clone(&app.resolver);
    #[expect(clippy::disallowed_methods, reason = "on a blocking thread")]
    let fold = move || resolver.recorder.maintain(true);
    match tokio::task::spawn_blocking(fold).await {
        Ok(Err(error)) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Notifies the service manager, if there is one.
fn notify_manager(state: sd_notify::NotifyState<'_>) {
    let _ = sd_notify::notify(&[state]);
}

/// Keeps templates up to date: by events of the kernel, and by scans for changes that it does not report, such as edits
/// of a file behind a link, or on another machine.
async fn follow_templates(app: Arc<App>, changed: Arc<Notify>, mut watcher: Result<Watcher, WatchError>) {
    if let Err(error) = &watcher {
        tracing::warn!(%error, "scanning templates every {} s instead", POLL.as_secs());
    }
    loop {
        let scan_due = tokio::time::sleep_until(app.inventory.scan_due().into());
        match watcher {
            Ok(_) => tokio::select! {
                () = changed.notified() => tokio::time::sleep(DEBOUNCE).await,
                () = scan_due => {}
            },
            Err(_) => tokio::time::sleep(POLL).await,
        }
        if let Ok(Err(error)) = watcher.as_mut().map(Watcher::renew) {
            tracing::warn!(%error, "scanning templates every {} s instead", POLL.as_secs());
            watcher = Err(error);
        }
        if app.inventory.run(Inventory::rescan).await.is_err() {
            tracing::error!("the templates could not be scanned");
        }
    }
}

/// Keeps plans up to date with the templates.
async fn keep_plans(app: Arc<App>) {
    loop {
        plan_all(&app).await;
        app.inventory.template_changes().notified().await;
    }
}

/// Plans every template for its targets, so that a first render finds its plan and the inventory its fields.
async fn plan_all(app: &Arc<App>) {
    let templates: Vec<_> = app.resolver.current.load().templates.values().cloned().collect();
    let config = app.config.load_full();
    for prepared in templates {
        let findings =
            findings::template_findings(prepared.plans(&app.registry, &config.variables).await, |_| Vec::new());
        if !findings.problems.is_empty() {
            let problems = findings.problems.len();
            tracing::debug!(template = %prepared.template.id, problems, "a template has errors");
        }
    }
}

/// Notices when the file of an added plugin changes.
async fn follow_plugins(app: Arc<App>) {
    let mut interval = tokio::time::interval(POLL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        app::plugins::recheck(&app).await;
    }
}

/// Syncs the journal to the disk every second, and folds it from time to time.
async fn keep_usage(app: Arc<App>) {
    let mut tick = tokio::time::interval(SYNC);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last_fold = Instant::now();
    loop {
        tick.tick().await;
        let resolver = Arc::clone(&app.resolver);
        let fold = last_fold.elapsed() >= FOLD;
        if fold {
            last_fold = Instant::now();
        }
        #[expect(clippy::disallowed_methods, reason = "on a blocking thread")]
        let keep = move || resolver.recorder.maintain(fold);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(keep).await {
            tracing::error!(%error, "usage cannot be saved; once the journal is full, no secrets are delivered");
        }
    }
}
