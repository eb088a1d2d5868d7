//! The services of the daemon: what the API and the console do for their callers, and what may be done for whom.
//!
//! Knows neither who carries a request here nor how its answer is written down. Knows no SQL, no crypto, no plugin: the
//! parts below do that.

pub mod access;
pub mod account;
pub mod audit;
pub mod configuration;
pub mod error;
pub mod identity;
pub mod inline;
pub mod listing;
pub mod plugins;
pub mod preview;
pub mod secrets;
pub mod serving;
pub mod status;
pub mod templates;
pub mod usage;

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{mpsc, oneshot};

use self::configuration::Configuration;
use self::error::AppError;
use self::identity::{LookUps, Rules};
use crate::config::Config;
use crate::events::Events;
use crate::inventory::{Inventory, InventoryError, InventoryHandle, Panicked};
use crate::resolve::Resolver;
use crate::sync::SyncState;
use crate::vault::usage::Caller;
use guillemet_api::console::ConsoleLink;
use guillemet_base::files::FileId;
use guillemet_base::names::Millis;
use guillemet_base::permissions::TrustedHome;
use guillemet_plugin::registry::Registry;

/// A request for a link to the console.
#[derive(Debug)]
pub struct LinkRequest {
    /// Whose it is.
    pub caller: Caller,
    /// Gets the link, or why there is none.
    pub answer: oneshot::Sender<Result<ConsoleLink, String>>,
}

/// What requests are answered from.
pub struct App {
    /// Where everything lies.
    pub home: TrustedHome,
    /// Which folder the home was at the start, whatever its path.
    pub home_id: FileId,
    /// Held while somebody looks at who can change templates.
    pub template_check: Arc<tokio::sync::Mutex<()>>,
    /// Why nobody can connect any more, while that is so.
    pub socket_problem: ArcSwapOption<String>,
    /// The user this daemon runs as.
    pub own_uid: u32,
    /// The configuration in force.
    pub config: Arc<ArcSwap<Config>>,
    /// Its rules, with the numbers that their users and groups have.
    pub rules: ArcSwap<Rules>,
    /// Who looks those numbers up.
    pub look_ups: LookUps,
    /// Which configuration is in force, and how it stands with the file.
    pub configuration: Configuration,
    /// To whoever serves connections: it holds open ones against the rules in force at once, and answers when that is
    /// done.
    pub gate: mpsc::Sender<oneshot::Sender<()>>,
    /// Secrets and templates.
    pub inventory: InventoryHandle,
    /// Answers with values.
    pub resolver: Arc<Resolver>,
    /// The plugins.
    pub registry: Registry,
    /// Sync with the account.
    pub sync: Arc<SyncState>,
    /// How the vault is unlocked, for `status`.
    pub unlock: &'static str,
    /// When the daemon started.
    pub started_at: Millis,
    /// What a person should know, for `status`.
    pub warnings: Vec<String>,
    /// What has changed, for those who listen.
    pub events: Arc<Events>,
    /// Who reads templates again for a request.
    pub rechecks: serving::Rechecks,
    /// Who has an inline render under way.
    pub inline: inline::Turns,
    /// The pinned plugins; held while one is added or removed, or their files are looked at.
    pub pins: tokio::sync::Mutex<Vec<guillemet_plugin::registry::Pin>>,
    /// To the console, which opens with the first request.
    pub links: mpsc::Sender<LinkRequest>,
}

/// Calls the inventory on a thread that may block.
///
/// # Errors
/// `Inventory`, as the call returns it; `Internal` when the call panics.
pub async fn blocking<T: Send + 'static>(
    app: &Arc<App>,
    call: impl FnOnce(&Inventory) -> Result<T, InventoryError> + Send + 'static,
) -> Result<T, AppError> {
    match app.inventory.run(call).await {
        Ok(result) => Ok(result?),
        Err(Panicked) => Err(AppError::internal()),
    }
}

/// Returns a link to the console, which opens for it.
///
/// # Errors
/// `Unavailable`: the console cannot be opened, or the daemon is stopping.
pub async fn console_link(app: &Arc<App>, caller: &Caller) -> Result<ConsoleLink, AppError> {
    let closed = || AppError::Unavailable("the console is not to be had: the daemon is stopping".into());
    let (answer, link) = oneshot::channel();
    let request = LinkRequest { caller: caller.clone(), answer };
    app.links.send(request).await.map_err(|_| closed())?;
    link.await.map_err(|_| closed())?.map_err(AppError::Unavailable)
}
