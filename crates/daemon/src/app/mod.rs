//! The services of the daemon: what the API and the console do for their callers, and what each caller may do.
//!
//! Uses the types of the API, and names routes only in messages and for the audit trail. Knows neither the HTTP library
//! nor whether a request came through the API or the console. Knows no SQL, no cryptography and no WebAssembly: the
//! modules it calls do.

pub mod access;
pub mod account;
pub mod audit;
pub mod configuration;
pub mod error;
pub mod identity;
pub mod inline;
pub mod listing;
pub mod plugins;
pub mod secrets;
pub mod serving;
pub mod status;
pub mod templates;
pub mod usage;
use std::future::pending;
use std::panic::resume_unwind;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use self::configuration::Configuration;
use self::error::AppError;
use self::identity::{LookUps, Rules};
use crate::config::Config;
use crate::events::EventBus;
use crate::inventory::{Inventory, InventoryError, InventoryHandle, Panicked};
use crate::resolve::{ResolveError, Resolver};
use crate::sync::SyncState;
use guillemet_api::console::ConsoleLink;
use guillemet_base::files::FileId;
use guillemet_base::names::Millis;
use guillemet_base::permissions::TrustedHome;
use guillemet_base::sys::stack::with_wiped_stack;
use guillemet_plugin::checker::Checker;
use guillemet_plugin::registry::Registry;
use guillemet_vault::usage::Caller;

/// The most work, in bytes of text, of an answer that is made where its request is handled: some 20 microseconds.
const SMALL_WORK: usize = 64 << 10;

/// A request for a link to the console.
pub struct LinkRequest {
    /// The caller that asked for the link.
    pub caller: Caller,
    /// Receives the link, or the reason why there is none.
    pub reply: oneshot::Sender<Result<ConsoleLink, String>>,
}

/// The state of the running daemon that every request uses.
pub struct App {
    /// The runtime of everything but the connections of the API, which have threads of their own.
    pub runtime: Handle,
    /// The home folder, checked for who can write to it.
    pub home: TrustedHome,
    /// The device and inode of the home folder at the start, whatever its path is now.
    pub home_id: FileId,
    /// Held while a check for who can change templates is running.
    pub template_check: Arc<tokio::sync::Mutex<()>>,
    /// Why nobody can connect any more; empty while the socket works.
    pub socket_problem: ArcSwapOption<String>,
    /// The user that this daemon runs as.
    pub own_uid: u32,
    /// The configuration in force.
    pub config: Arc<ArcSwap<Config>>,
    /// The rules in force, with the numbers that their users and groups have.
    pub rules: ArcSwap<Rules>,
    /// The look-ups of those numbers.
    pub lookups: LookUps,
    /// Which configuration is in force, and whether it matches the file.
    pub configuration: Configuration,
    /// Asks the API's server to check open connections against the rules in force. The server answers once the event
    /// streams of callers that lost their right have ended.
    pub gate: mpsc::Sender<oneshot::Sender<()>>,
    /// The secrets and templates.
    pub inventory: InventoryHandle,
    /// Makes the answers that contain values.
    pub resolver: Arc<Resolver>,
    /// The known plugins and their planners.
    pub registry: Registry,
    /// Checks components before they are added.
    pub checker: Checker,
    /// Sync with the account.
    pub sync: Arc<SyncState>,
    /// How the vault is unlocked, for `status`.
    pub unlock: &'static str,
    /// The time at which the daemon started.
    pub started_at: Millis,
    /// Warnings that do not change while the daemon runs, for `status`.
    pub warnings: Vec<String>,
    /// Sends an event for each change to those who listen.
    pub events: Arc<EventBus>,
    /// Limits how many requests re-read their template at the same time.
    pub rechecks: serving::Rechecks,
    /// The turns of users for inline renders.
    pub inline: inline::InlineQueue,
    /// The pinned plugins. Locked while one is added or removed, and while their files are checked.
    pub pins: tokio::sync::Mutex<Vec<guillemet_plugin::registry::Pin>>,
    /// Sends requests for links to the console, which opens with the first one.
    pub links: mpsc::Sender<LinkRequest>,
}

impl App {
    /// Runs something that waits or computes for long on the daemon's own runtime, whichever thread asks for it. It
    /// ends when this future is dropped.
    ///
    /// # Panics
    /// If it panics.
    pub async fn on_daemon<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let mut task = JoinSet::new();
        task.spawn_on(work, &self.runtime);
        match task.join_next().await {
            Some(Ok(result)) => result,
            Some(Err(error)) if error.is_panic() => resume_unwind(error.into_panic()),
            // The runtime ends, and this connection's thread before it.
            _ => pending().await,
        }
    }

    /// Makes an answer that contains values, and wipes what it leaves on the stack. `work` is how much that is, in
    /// bytes of text: a small answer is made on this thread, a large one on a thread for blocking work.
    ///
    /// # Errors
    /// Those of `make`; [`AppError::Internal`] if making a large answer panics.
    async fn make_answer<T: Send + 'static>(
        &self,
        work: usize,
        make: impl FnOnce(&Resolver) -> Result<T, ResolveError> + Send + 'static,
    ) -> Result<T, AppError> {
        if work <= SMALL_WORK {
            return Ok(with_wiped_stack(|| make(&self.resolver))?);
        }
        let resolver = Arc::clone(&self.resolver);
        let making = self.runtime.spawn_blocking(move || with_wiped_stack(|| make(&resolver)));
        making.await.map_or_else(|_| Err(AppError::internal()), |made| Ok(made?))
    }
}

/// Calls the inventory on a thread that may block.
///
/// # Errors
/// [`AppError::Inventory`] as the call returns it; [`AppError::Internal`] if the call panics.
pub async fn blocking<T: Send + 'static>(
    app: &Arc<App>,
    call: impl FnOnce(&Inventory) -> Result<T, InventoryError> + Send + 'static,
) -> Result<T, AppError> {
    match app.inventory.run(call).await {
        Ok(result) => Ok(result?),
        Err(Panicked) => Err(AppError::internal()),
    }
}

/// Returns a link to the console, and opens the console for it.
///
/// # Errors
/// [`AppError::Unavailable`] if the console cannot be opened or the daemon is stopping.
pub async fn console_link(app: &Arc<App>, caller: &Caller) -> Result<ConsoleLink, AppError> {
    let closed = || AppError::Unavailable("the console is not available: the daemon is shutting down".into());
    let (reply, link) = oneshot::channel();
    let request = LinkRequest { caller: caller.clone(), reply };
    app.links.send(request).await.map_err(|_| closed())?;
    link.await.map_err(|_| closed())?.map_err(AppError::Unavailable)
}
