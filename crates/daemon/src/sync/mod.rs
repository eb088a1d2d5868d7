//! Sync with an account: keeps contact with its server, carries pushes and pulls between the server and the inventory's
//! engine, and adds and removes devices.
//!
//! Knows neither the API nor the console: everything it works on is in [`SyncState`]. The engine, not this module,
//! decides what is accepted as the state of the account.
//!
//! `contact` is the task that runs as long as the daemon. `steps` has pull, push and delete, `joining` creates accounts
//! and admits devices, `repair` recovers from a server that was set back, and `usage` exchanges usage reports.

mod contact;
mod joining;
mod repair;
mod steps;
mod usage;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{Notify, watch};
use zeroize::Zeroizing;

pub use self::contact::run;
pub use self::joining::{JoinRequest, Joining, NewRecoveryCode, create, create_recovery_code, invite, join, recover};
pub use self::repair::repair;
pub use self::steps::{delete, leave, revoke};
pub use self::usage::refresh_reports;
use crate::config::Config;
use crate::inventory::{AccountError, AccountState, Inventory, InventoryHandle, Panicked, StopReason};
use guillemet_account::client::{AccountClient, AccountClientError};
use guillemet_account::engine::PullError;
use guillemet_account::fingerprint_words::fingerprint_words;
use guillemet_api::account::{AccountStatus, AccountView, DeviceView, NoticeView};
use guillemet_base::names::Millis;
use guillemet_base::time::{now, rfc3339};
use guillemet_template::catalog::Template;
use guillemet_wire::Hash;
use guillemet_wire::api_key::ApiKey;

/// The longest time that a request waits for the first contact.
const MOMENT: Duration = Duration::from_secs(10);

/// The reason why a request to the account was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The server refused the request, or could not be reached.
    #[error(transparent)]
    Server(#[from] AccountClientError),
    /// The inventory refused it: the server's offer is not acceptable, or this vault is not in the right state.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// There is no contact with the server. Holds the reason.
    #[error("not connected to the account's server ({0}); run `guillemet account status` to check the connection")]
    Offline(String),
    /// A delete needs to know what other devices reference, and the server cannot be asked. Holds the reason.
    #[error(
        "the references of other devices are unknown while offline, so nothing was deleted; `guillemet secret disable` \
         takes effect immediately. {0}"
    )]
    DeleteOffline(String),
    /// The request was sent, but no answer came: it may have been carried out.
    #[error(
        "the account's server did not respond, so it is unknown whether the change was made; check again when \
         `guillemet account status` shows connected"
    )]
    Unknown,
    /// Other devices pushed first at each of twelve attempts.
    #[error("other devices keep changing the account; nothing was changed. Try again")]
    Crowded,
    /// A call to the inventory panicked.
    #[error(transparent)]
    Panicked(#[from] Panicked),
    /// Any other error, as a message for people.
    #[error("{0}")]
    Other(String),
}

/// The state of the contact with the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contact {
    /// This vault is in no account.
    None,
    /// There is no contact; holds the reason if an attempt has failed.
    Offline(Option<String>),
    /// This device refuses what the server offers, or the server refuses this device.
    Refused {
        /// The code of the refusal, for programs.
        code: &'static str,
        /// What is wrong and what to do about it.
        message: String,
    },
    /// There is contact, and changes are exchanged in both directions.
    Connected,
}

/// Everything that sync works on. Exists in every daemon, in an account or not.
pub struct SyncState {
    /// The secrets and templates, and the account's engine.
    pub inventory: InventoryHandle,
    /// The configuration in force.
    pub config: Arc<ArcSwap<Config>>,
    /// The state of the contact with the server, for other parts of the daemon.
    pub handle: SyncHandle,
}

impl SyncState {
    /// Calls the inventory on a thread that may block.
    ///
    /// # Errors
    /// [`SyncError::Account`] with the error of `call`; [`SyncError::Panicked`] if it panicked.
    async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Inventory) -> Result<T, AccountError> + Send + 'static,
    ) -> Result<T, SyncError> {
        Ok(self.inventory.run(call).await??)
    }

    /// Returns the state of the account; `None` if the vault is in no account.
    async fn account(&self) -> Result<Option<AccountState>, SyncError> {
        Ok(self.inventory.run(Inventory::account).await?)
    }

    /// Returns the client of the account's server once there is contact. Waits up to ten seconds for that if the daemon
    /// has just started or joined.
    ///
    /// # Errors
    /// [`SyncError::Account`] if the vault is in no account; [`SyncError::Offline`] without contact;
    /// [`SyncError::Other`] if this device or the server refuses the other.
    async fn client(&self) -> Result<Arc<AccountClient>, SyncError> {
        self.run(|inventory| inventory.with_engine(|_| ())).await?;
        self.handle.client().await
    }
}

/// The state of the contact with the server, for other parts of the daemon. Reading it never blocks.
pub struct SyncHandle {
    contact: watch::Sender<Contact>,
    /// Whether `contact` is `Connected`. Separate and atomic, because every render reads it.
    is_connected: AtomicBool,
    /// The time at which the newest head was made, in milliseconds since the epoch; 0 if there is none.
    made_at: AtomicU64,
    /// The time at which the server last confirmed the newest head, in milliseconds since the epoch; 0 before that.
    heard_at: AtomicU64,
    client: ArcSwapOption<AccountClient>,
    /// Held during a pull or push.
    exclusive: tokio::sync::Mutex<()>,
    /// Notified when this device joined or left an account, or when its state was repaired.
    changed: Notify,
    /// Notified when templates were published or the contact changed.
    published: Notify,
    /// The last fetch of other devices' reports for a request. Locked during a fetch.
    fetched: tokio::sync::Mutex<usage::LastFetch>,
    /// This device, if the account has admitted it and it waits for a decision about names.
    joining: Mutex<Option<Joining>>,
}

impl Default for SyncHandle {
    fn default() -> Self {
        Self {
            contact: watch::channel(Contact::None).0,
            is_connected: AtomicBool::new(false),
            made_at: AtomicU64::new(0),
            heard_at: AtomicU64::new(0),
            client: ArcSwapOption::empty(),
            exclusive: tokio::sync::Mutex::new(()),
            changed: Notify::new(),
            published: Notify::new(),
            fetched: tokio::sync::Mutex::default(),
            joining: Mutex::new(None),
        }
    }
}

impl SyncHandle {
    /// Makes the handle for a daemon that starts. It knows the age of the newest head before the server has answered.
    pub fn of(inventory: &Inventory) -> Self {
        let head = inventory.account().and_then(|state| state.head);
        Self { made_at: AtomicU64::new(head.map_or(0, |(head, _)| head.made_at)), ..Self::default() }
    }

    fn set_contact(&self, contact: Contact) {
        self.is_connected.store(contact == Contact::Connected, Ordering::Release);
        self.contact.send_if_modified(|current| {
            let is_new = *current != contact;
            *current = contact;
            is_new
        });
        self.published.notify_waiters();
    }

    fn confirm_head(&self, made_at: Option<Millis>) {
        self.heard_at.store(now(), Ordering::Relaxed);
        self.made_at.store(made_at.unwrap_or(0), Ordering::Relaxed);
    }

    /// Returns the age of the newest head in milliseconds; `None` if the vault is in no account.
    pub fn head_age(&self) -> Option<Millis> {
        match self.made_at.load(Ordering::Relaxed) {
            0 => None,
            made_at => Some(now().saturating_sub(made_at)),
        }
    }

    /// Waits until the other devices know what a template references, at most until `until`. Returns whether the
    /// template may be served. Returns at once without contact: the references are published when the contact is back.
    pub async fn wait_until_published(&self, template: &Template, until: Instant) -> bool {
        loop {
            let notified = self.published.notified();
            let mut notified = std::pin::pin!(notified);
            notified.as_mut().enable();
            if template.is_published() || !self.is_connected.load(Ordering::Acquire) {
                return true;
            }
            if tokio::time::timeout_at(until.into(), notified).await.is_err() {
                return false;
            }
        }
    }

    /// Returns whether [`wait_until_published`](Self::wait_until_published) would return at once. Costs two atomic
    /// loads.
    pub fn is_settled(&self, template: &Template) -> bool {
        !self.is_connected.load(Ordering::Relaxed) || template.is_published()
    }

    /// Returns the client once there is contact, like [`SyncState::client`].
    async fn client(&self) -> Result<Arc<AccountClient>, SyncError> {
        let mut contact = self.contact.subscribe();
        let settled = contact.wait_for(|contact| !matches!(contact, Contact::None | Contact::Offline(None)));
        let state = tokio::time::timeout(MOMENT, settled).await.ok().and_then(Result::ok).map(|state| state.clone());
        match (state, self.client.load_full()) {
            (Some(Contact::Connected), Some(client)) => Ok(client),
            (Some(Contact::Refused { message, .. }), _) => Err(SyncError::Other(message)),
            (Some(Contact::Offline(Some(reason))), _) => Err(SyncError::Offline(reason)),
            _ => Err(SyncError::Offline("it has not responded yet".into())),
        }
    }

    fn joining(&self) -> std::sync::MutexGuard<'_, Option<Joining>> {
        self.joining.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the first contact, for ten seconds at most.
pub async fn first_contact(sync: &SyncState) {
    let _ = sync.client().await;
}

/// Returns the state of sync with the account.
///
/// # Errors
/// [`SyncError::Panicked`] if the inventory panics.
pub async fn status(sync: &SyncState) -> Result<AccountStatus, SyncError> {
    let Some(AccountState { facts, head, me, pending, notices, secrets, .. }) = sync.account().await? else {
        return Ok(AccountStatus { joined: false, state: "none".into(), code: None, message: None, account: None });
    };
    let contact = sync.handle.contact.borrow().clone();
    let (state, code, message) = match (facts.stopped, contact) {
        (Some(StopReason { code, message, .. }), _) => ("stopped", Some(code), Some(message)),
        (None, Contact::Refused { code, message }) => ("refused", Some(code.to_owned()), Some(message)),
        (None, Contact::Offline(message)) => ("offline", None, message),
        (None, Contact::Connected) => ("connected", None, None),
        (None, Contact::None) => ("offline", None, None),
    };
    let heard = sync.handle.heard_at.load(Ordering::Relaxed);
    let made_at = head.as_ref().map(|(head, _)| head.made_at);
    let account = AccountView {
        account: me.0.to_string(),
        server: facts.url,
        device: me.1.to_string(),
        device_name: facts.name,
        devices: head.as_ref().map_or(0, |(head, _)| head.devices.len()),
        secrets,
        seq: head.as_ref().map(|(head, _)| head.seq),
        epoch: head.as_ref().map(|(head, _)| head.epoch),
        words: head.as_ref().map(|(_, hash)| fingerprint_words(hash)),
        head_made_at: made_at.map(rfc3339),
        head_age_seconds: made_at.map(|made_at| now().saturating_sub(made_at) / 1000),
        heard_at: (heard > 0).then(|| rfc3339(heard)),
        pending,
        notices: notices
            .into_iter()
            .map(|notice| NoticeView { at: rfc3339(notice.at), message: notice.text })
            .collect(),
    };
    Ok(AccountStatus { joined: true, state: state.into(), code, message, account: Some(account) })
}

/// Returns, for metrics, whether there is contact and how many changes are pending; `None` without an account.
pub fn gauges(handle: &SyncHandle, inventory: &Inventory) -> Option<(bool, usize)> {
    let pending = inventory.with_engine(|engine| engine.pending().len()).ok()?;
    Some((handle.is_connected.load(Ordering::Relaxed), pending))
}

/// Returns the devices of the account, including recovery codes.
///
/// # Errors
/// [`AccountError::None`] if the vault is in no account.
pub async fn devices(sync: &SyncState) -> Result<Vec<DeviceView>, SyncError> {
    let read = |inventory: &Inventory| Ok((inventory.account().ok_or(AccountError::None)?, inventory.reports()));
    let (AccountState { head, me, published, .. }, reports) = sync.run(read).await?;
    let devices = head.map(|(head, _)| head.devices).unwrap_or_default();
    let view = |device: guillemet_account::engine::Device| {
        let published = published.iter().find(|(id, ..)| *id == device.id);
        DeviceView {
            this: device.id == me.1,
            id: device.id.to_string(),
            name: device.name,
            joined_at: rfc3339(device.joined_at),
            recovery: device.paper,
            references: published.map(|(_, _, references)| *references),
            references_at_seq: published.map(|(_, seq, _)| *seq),
            usage_told_at: reports.iter().find(|report| report.device == device.id).map(|report| rfc3339(report.at)),
        }
    };
    Ok(devices.into_iter().map(view).collect())
}

/// Makes a client for a server, with the text of an API key. Runs on a thread that may block, because it reads the
/// machine's certificates.
///
/// # Errors
/// [`SyncError::Server`] if URL, pin or certificates cannot be used; [`SyncError::Other`] if the key is not valid;
/// [`SyncError::Panicked`].
async fn connect(
    url: String,
    pin: Option<Hash>,
    api_key: Option<Zeroizing<String>>,
) -> Result<AccountClient, SyncError> {
    let client = tokio::task::spawn_blocking(move || {
        let key = api_key.map(|key| ApiKey::parse(&key)).transpose();
        let key = key.map_err(|error| SyncError::Other(error.to_string()))?;
        Ok::<_, SyncError>(AccountClient::new(&url, pin, key.as_ref())?)
    });
    client.await.map_err(|_| Panicked)?
}

/// Returns the code and message for the contact, if the error means that one side refuses the other.
fn refusal_of(error: &SyncError) -> Option<(&'static str, String)> {
    match error {
        SyncError::Account(AccountError::Refused(refusal)) => Some((refusal.code(), refusal.to_string())),
        SyncError::Server(error) => Some((refused_by(error)?, error.to_string())),
        _ => None,
    }
}

/// Returns the code of an error that means a refusal, rather than a server that cannot be reached.
fn refused_by(error: &AccountClientError) -> Option<&'static str> {
    match error {
        AccountClientError::ContinuityLost => Some("continuity_lost"),
        AccountClientError::Unauthorized => Some("unauthorized"),
        AccountClientError::Untrusted(_) => Some("untrusted"),
        _ => None,
    }
}

/// Returns whether a refusal stops sync on this device until a person intervenes.
fn is_final(refusal: &PullError) -> bool {
    matches!(refusal, PullError::Cloned | PullError::Revoked)
}
