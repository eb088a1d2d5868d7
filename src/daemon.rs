//! Wires the parts together: the only place that knows them all.

mod check;
mod follow;
mod self_check;
mod socket;
pub mod trial;

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, io};

use arc_swap::{ArcSwap, ArcSwapOption};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot, watch};

pub use self::check::{Checked, check_templates};
use self::socket::Socket;
use crate::api::listener::Listener;
use crate::api::metrics::Counts;
use crate::app::configuration::{self, Cause, Configuration};
use crate::app::identity::{self, LookUps, Rules};
use crate::app::{self, App, LinkRequest};
use crate::config::{self, ConfigError};
use crate::events::Events;
use crate::inventory::{self, Inventory, InventoryError, InventoryHandle, StoredSync};
use crate::resolve::Resolver;
use crate::resolve::budget::Budget;
use crate::resolve::refusals::Told;
use crate::resolve::snapshot::{Current, State};
use crate::sync::{SyncHandle, SyncState};
use crate::vault::audit::{Actor, Change};
use crate::vault::keys::{NewUnlock, OpenedBy, UnlockWith};
use crate::vault::lock::DaemonLock;
use crate::vault::store::{USAGE_KEY, Vault, VaultError};
use crate::vault::usage::{self, ChangeKind, Recorder, RecorderError};
use crate::{api, console, sync};
use guillemet_base::files;
use guillemet_base::files::FileId;
use guillemet_base::home::Home;
use guillemet_base::permissions::{TrustedHome, Untrusted};
use guillemet_base::sys::stack::leaving_nothing;
use guillemet_base::time::now;
use guillemet_plugin::cache::CompiledForms;
use guillemet_plugin::client::confinement;
use guillemet_plugin::findings;
use guillemet_plugin::registry::{Pin, Registry};
use guillemet_secret::record::Secret;
use guillemet_template::catalog::{Catalog, WatchError, Watcher};

/// How long after an event the folders are looked at: editors and git change many files at once.
const DEBOUNCE: Duration = Duration::from_millis(10);
/// How often the folders are looked at where the kernel cannot tell of changes, and the files of added plugins.
const POLL: Duration = Duration::from_secs(2);
/// How often the journal is handed to the disk: what a power cut may cost.
const SYNC: Duration = Duration::from_secs(1);
/// How often recorded usage is folded into the vault's counters.
const FOLD: Duration = Duration::from_secs(30);

/// How long a daemon that stops waits for its threads.
const STOP: Duration = Duration::from_secs(5);

/// Descriptors beside those of connections: the vault, the journal, watched folders, three for each planner.
const DESCRIPTORS: u64 = 256;

/// Why the daemon did not start, or could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Others can change the home.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// The vault.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The usage journal.
    #[error(transparent)]
    Usage(#[from] RecorderError),
    /// The inventory.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// A file or folder.
    #[error("{path}: {source}. Check that you own it and that the disk is not full")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The socket.
    #[error("the socket {path} cannot be used: {problem}")]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why, and what to do.
        problem: String,
    },
    /// This machine lacks something without which the daemon would serve nobody.
    #[error("the daemon cannot run here: {0}")]
    CannotWork(String),
    /// No such template.
    #[error("there is no template `{0}` in the templates folder; an id is FEATURE/NAME, without the extension")]
    NoTemplate(String),
    /// The system does not give enough descriptors.
    #[error(
        "limits.connections = {connections} needs {needed} file descriptors, but this process can have {most}; lower \
         it, or raise LimitNOFILE"
    )]
    Descriptors {
        /// The limit of the configuration.
        connections: u64,
        /// What it takes.
        needed: u64,
        /// What there is.
        most: u64,
    },
    /// The operating system.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

fn system(what: &'static str) -> impl Fn(io::Error) -> DaemonError {
    move |source| DaemonError::System { what, source }
}

fn file(path: &Path) -> impl Fn(io::Error) -> DaemonError + '_ {
    move |source| DaemonError::File { path: path.to_owned(), source }
}

/// Makes a home: folders (0700), configuration, key, and last the vault, so that an attempt that broke off can be
/// repeated. What is there already is left as it is. The templates' folder is empty: a template that nobody uses would
/// be secrets that are missing, and in an account it would keep other devices from deleting them.
///
/// # Errors
/// When there is a vault already, or something cannot be written.
pub fn init(home: &TrustedHome, unlock: &NewUnlock) -> Result<(), DaemonError> {
    for dir in [home.config(), home.data(), &home.templates()] {
        private_dir(dir)?;
    }
    Vault::check_none(home)?;
    write_unless_there(&home.config_file(), config::DEFAULT)?;
    Ok(Vault::create(home, unlock)?)
}

/// Takes the folder of the socket back from the group that may write the home: Kubernetes gives a group everything in
/// a volume whenever it is mounted. Where that fails, the socket is refused with the reason.
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
/// Why it did not start; nothing has been changed then.
pub fn run(home: &TrustedHome, unlock: UnlockWith) -> Result<(), DaemonError> {
    guillemet_base::sys::process::hide().map_err(system("cannot disable core dumps"))?;
    guillemet_base::sys::process::close_on_exec_from(3)
        .map_err(system("cannot hide file descriptors from child processes"))?;
    quiet_panics();
    self_check::system()?;
    // Whatever is created from here on, the socket above all, is this user's alone.
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let activated = socket::activated()?;
    let _lock = DaemonLock::acquire(home)?;
    if home.group_may_write() {
        unshare_runtime(home);
    }
    // It tries what this kernel can do while the vault is opened.
    let confinement = confinement::try_confinement().map_err(system("cannot start planners"))?;
    let (config, config_text) = config::load(home)?;
    let home_id = FileId::of(home.data()).map_err(file(home.data()))?;
    let socket = Socket::claim(home, home_id, config.api_group.clone(), activated)?;
    limit_descriptors(config.limits.connections as u64)?;
    let method = unlock.method();
    let (mut vault, secrets) = leaving_nothing(|| Vault::open(home, unlock))?;
    let opened_by = vault.opened_by();
    let mut secrets: Vec<Arc<Secret>> = secrets.into_iter().map(Arc::new).collect();
    let stored_sync = StoredSync::of(&mut vault, &mut secrets, config.former_versions)?;
    let (journal, database, usage_key) = (home.journal_file(), home.vault_file(), vault.subkey(USAGE_KEY));
    let config::Usage { events, changes } = config.usage;
    let options = usage::Options { events, changes, ..usage::Options::default() };
    vault.keep_changes(changes);
    let noted = configuration::note_start(&mut vault, &config_text);
    let recorder = Recorder::open_with(&journal, &database, vault.vault_id(), usage_key, options)?;
    let pins: Vec<Pin> = match vault.document(app::plugins::PINS)? {
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|_| {
            VaultError::Damaged("its list of plugins does not have the format that Guillemet writes".into())
        })?,
        None => Vec::new(),
    };
    let cache = Arc::new(CompiledForms::new(home.cache(), vault.subkey("plugin-cache")));
    let registry = Registry::new(home.plugins(), &pins, Arc::clone(&cache) as _);

    match inventory::finish_rename(&mut vault) {
        // The templates are as they should be; what is noted of them is looked at again at the next start.
        Err(VaultError::Unwritable(_)) => {}
        finished => finished?,
    }
    let mut state = State::default();
    inventory::put_secrets(&mut state, secrets);
    let mut warnings: Vec<String> = recorder.warnings().iter().map(|warning| (*warning).to_owned()).collect();
    let confined = confinement::confinement(confinement);
    warnings.extend(confined.map_err(|error| DaemonError::CannotWork(error.to_string()))?);
    if opened_by == OpenedBy::FormerReading {
        warnings.push(format!(
            "the passphrase contains a carriage return, a byte order mark or several lines, which earlier versions \
             treated as part of it, and this vault only opens with them. Stop the daemon and run `{}` to choose a \
             passphrase without them",
            home.command("vault rekey")
        ));
    }
    let unlocked = Change::new(ChangeKind::VaultUnlocked, &Actor::own(), now()).after(method.name());
    if let Err(error) = recorder.record_changes_in_time(vec![unlocked]) {
        // It has nothing to be taken back, and serving needs the journal alone.
        warnings.push(format!("the daemon's start could not be recorded in the audit trail: {error}"));
    }
    if let Err(error) = noted {
        warnings.push(format!("the configuration this daemon started with could not be recorded: {error}"));
    }
    let resolver = Arc::new(Resolver {
        current: Current::new(state),
        recorder,
        budget: Budget::new(config.limits.in_flight),
        told: Told::default(),
    });
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    warnings.extend(socket.unreachable());
    let former_versions = config.former_versions;
    let events = Arc::new(Events::default());
    let (links, links_wanted) = mpsc::channel(1);
    let catalog = Catalog::new(home.templates());
    let inventory =
        Inventory::new((vault, stored_sync), catalog, Arc::clone(&resolver), Arc::clone(&events), former_versions)
            .map_err(system("cannot start the thread that reads templates"))?;
    inventory.rescan();
    let own_uid = rustix::process::geteuid().as_raw();
    let config = Arc::new(config);
    let (gate, gate_asked) = mpsc::channel(1);
    let handle = SyncHandle::of(&inventory);
    // Nothing calls the inventory directly from here on.
    let inventory = InventoryHandle::new(inventory);
    let in_force = Arc::new(ArcSwap::new(Arc::clone(&config)));
    let sync = Arc::new(SyncState { inventory: inventory.clone(), config: Arc::clone(&in_force), handle });
    let app = Arc::new(App {
        home: home.clone(),
        home_id,
        socket_problem: ArcSwapOption::empty(),
        own_uid,
        config: in_force,
        rules: ArcSwap::from_pointee(Rules::of_numbers(Arc::clone(&config), own_uid)),
        look_ups: LookUps::default(),
        configuration: Configuration::new(config, &config_text),
        gate,
        inventory,
        events,
        resolver,
        registry,
        sync,
        unlock: method.name(),
        started_at: now(),
        warnings,
        rechecks: app::serving::Rechecks::default(),
        inline: app::inline::Turns::default(),
        pins: tokio::sync::Mutex::new(pins),
        template_check: Arc::default(),
        links,
    });
    let workers = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .map_err(system("cannot start the async runtime"))?;
    let ended = runtime.block_on(live(app, socket, links_wanted, gate_asked, cache));
    // Not for ever: a thread may wait for a file system that does not answer.
    runtime.shutdown_timeout(STOP);
    ended
}

/// As many descriptors as the limits of the configuration can need, and no more: a leak shows early.
fn limit_descriptors(connections: u64) -> Result<(), DaemonError> {
    let (needed, inherited) = (connections + DESCRIPTORS, getrlimit(Resource::Nofile));
    if let Some(most) = inherited.maximum.filter(|most| *most < needed) {
        return Err(DaemonError::Descriptors { connections, needed, most });
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum: inherited.maximum })
        .map_err(|error| system("cannot set the file descriptor limit")(error.into()))
}

/// A panic is logged with its place and without its message, which could hold anything.
fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "internal error in the daemon; a request was not answered");
    }));
}

async fn live(
    app: Arc<App>,
    mut socket: Socket,
    links_wanted: mpsc::Receiver<LinkRequest>,
    gate_asked: mpsc::Receiver<oneshot::Sender<()>>,
    cache: Arc<CompiledForms>,
) -> Result<(), DaemonError> {
    let (stop, stopped) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate()).map_err(system("cannot handle SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("cannot handle SIGINT"))?;
    let mut reload = signal(SignalKind::hangup()).map_err(system("cannot handle SIGHUP"))?;
    // Until here only the rules with numbers hold.
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
    let account = tokio::spawn(sync::run(Arc::clone(&app.sync), stopped.clone()));
    let console = tokio::spawn(console::run(Arc::clone(&app), links_wanted, stopped.clone()));
    let counts = Arc::new(Counts::default());
    let serving =
        tokio::spawn(api::serve(Arc::clone(&app), Arc::clone(&counts), listener, gate_asked, stopped.clone()));
    let keeping = {
        let app = Arc::clone(&app);
        tokio::spawn(async move {
            socket.keep(app, counts, replacements, stopped).await;
            socket
        })
    };
    let mut is_told = false;
    let works = tokio::select! {
        works = self_check::run(&app, &address, cache) => works,
        _ = terminate.recv() => { is_told = true; Ok(()) }
        _ = interrupt.recv() => { is_told = true; Ok(()) }
    };
    if works.is_ok() && !is_told {
        tracing::info!(socket = %app.home.socket().display(), "ready");
        notify_manager(sd_notify::NotifyState::Ready);
    }
    while works.is_ok() && !is_told {
        tokio::select! {
            _ = terminate.recv() => is_told = true,
            _ = interrupt.recv() => is_told = true,
            _ = reload.recv() => {
                let app = Arc::clone(&app);
                // What is wrong with it is logged, and shown until it is corrected.
                tokio::spawn(async move { configuration::reload(&app, Cause::Signal).await.map(drop) });
            }
        }
    }
    if works.is_ok() {
        tracing::info!("shutting down; requests in progress are finished first");
        notify_manager(sd_notify::NotifyState::Stopping);
    }
    stop.send_replace(true);
    let (_, _, _, socket) = tokio::join!(serving, console, account, keeping);
    let kept = fold_usage(&app).await;
    if let Ok(socket) = &socket {
        socket.remove();
    }
    works?;
    kept
}

/// Folds what was recorded of use, as the last thing that a daemon does.
async fn fold_usage(app: &App) -> Result<(), DaemonError> {
    let resolver = Arc::clone(&app.resolver);
    match tokio::task::spawn_blocking(move || resolver.recorder.keep(true)).await {
        Ok(Err(error)) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Tells the service manager, where there is one.
fn notify_manager(state: sd_notify::NotifyState<'_>) {
    let _ = sd_notify::notify(&[state]);
}

/// Keeps templates up to date: by events of the kernel, and by scans for what it does not tell of. Edits of what a link
/// leads to, for one, and those made on another machine.
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

/// Works out every template for the targets it is for, so that a first render finds its plan and the
/// inventory its fields.
async fn plan_all(app: &Arc<App>) {
    let templates: Vec<_> = app.resolver.current.load().templates.values().cloned().collect();
    let config = app.config.load_full();
    for prepared in templates {
        let found = findings::found(prepared.plans(&app.registry, &config.variables).await, |_| Vec::new());
        if !found.problems.is_empty() {
            tracing::debug!(template = %prepared.template.id, problems = found.problems.len(), "a template has errors");
        }
    }
}

/// Notices when the file of an added plugin changes.
async fn follow_plugins(app: Arc<App>) {
    let mut look = tokio::time::interval(POLL);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        app::plugins::look_again(&app).await;
    }
}

/// Hands the journal to the disk every second, and folds it now and then.
async fn keep_usage(app: Arc<App>) {
    let mut tick = tokio::time::interval(SYNC);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut folded = Instant::now();
    loop {
        tick.tick().await;
        let resolver = Arc::clone(&app.resolver);
        let fold = folded.elapsed() >= FOLD;
        if fold {
            folded = Instant::now();
        }
        let kept = tokio::task::spawn_blocking(move || resolver.recorder.keep(fold));
        if let Ok(Err(error)) = kept.await {
            tracing::error!(%error, "usage cannot be saved; once the journal is full, no secrets are delivered");
        }
    }
}
