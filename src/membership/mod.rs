//! The membership of a daemon in an account. It stays in contact with the server, carries what the inventory's engine
//! sends and what the server answers, and brings machines in and out.
//!
//! - `contact`: the task that lives as long as the daemon
//! - `steps`: a pull, a push, a delete, and how a device leaves
//! - `joining`: how an account begins, and how machines join
//! - `repair`: the way out after the server was restored from a backup
//! - `usage`: the reports of uses
//!
//! Decides nothing about which state is true: the engine does.

mod contact;
mod joining;
mod repair;
mod steps;
mod usage;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use serde::Serialize;
use tokio::sync::{Notify, watch};

use crate::account::client::{Client, ClientError};
use crate::account::engine::Refusal;
use crate::account::wire::AccountId;
use crate::account::words::words;
use crate::api::App;
use crate::inventory::{AccountError, AccountState, Inventory, Stopped};
use guillemet_base::names::Millis;
use guillemet_base::time::{now, rfc3339};
use guillemet_template::catalog::Template;

pub use self::contact::run;
pub use self::joining::{Joining, Wanted, create, invite, join, recover, recovery};
pub use self::repair::{Plan, repair};
pub use self::steps::{delete, leave, revoke};
pub use self::usage::refresh_reports;

/// The time that a caller waits for the first contact.
const MOMENT: Duration = Duration::from_secs(10);

/// The reasons why an operation on the account failed.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The server refused, or cannot be reached.
    #[error(transparent)]
    Server(#[from] ClientError),
    /// The answer of the server was refused, or the state of this vault does not allow the operation.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// There is no contact with the server. Holds the reason.
    #[error("there is no contact with the account's server ({0}); `guillemet account status` shows when there is")]
    Offline(String),
    /// It is not known what other devices reference, so nothing was deleted.
    #[error(
        "nobody knows now what other devices reference, so nothing was deleted; `guillemet secret disable` works at once. {0}"
    )]
    DeleteOffline(String),
    /// The push was sent, and no answer came.
    #[error(
        "the account's server did not answer, so nobody knows whether this was done; look again when `guillemet account status` says connected"
    )]
    Unknown,
    /// Other devices were faster in every attempt.
    #[error("other devices change the account all the time; nothing was done. Try again")]
    Crowded,
    /// Any other reason, as a message with what to do.
    #[error("{0}")]
    Other(String),
}

/// The state of the contact with the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contact {
    /// This vault is in no account.
    None,
    /// There is no contact yet, or no longer. Holds the reason if it is known.
    Offline(Option<String>),
    /// The state that the server offers is refused.
    Refused {
        /// The code of the refusal, for programs.
        code: &'static str,
        /// The problem, and what to do about it.
        message: String,
    },
    /// There is contact: changes flow in both directions.
    Connected,
}

/// The state of the membership that the parts of the daemon share.
pub struct Handle {
    contact: watch::Sender<Contact>,
    /// Whether the contact is [`Contact::Connected`], which every render checks.
    is_connected: AtomicBool,
    /// The time at which the newest head was made; 0 if there is none.
    made_at: AtomicU64,
    /// The time at which the server last answered.
    heard_at: AtomicU64,
    client: ArcSwapOption<Client>,
    /// Held during a pull or push.
    turn: tokio::sync::Mutex<()>,
    /// Notified when the membership begins, ends or is repaired.
    changed: Notify,
    /// Notified when references were published.
    published: Notify,
    /// The last fetch of other devices' reports for a caller. Held during such a fetch.
    fetched: tokio::sync::Mutex<usage::Fetched>,
    /// A machine that has been admitted, and waits for a decision about names.
    joining: Mutex<Option<Joining>>,
}

impl Default for Handle {
    fn default() -> Self {
        Self {
            contact: watch::channel(Contact::None).0,
            is_connected: AtomicBool::new(false),
            made_at: AtomicU64::new(0),
            heard_at: AtomicU64::new(0),
            client: ArcSwapOption::empty(),
            turn: tokio::sync::Mutex::new(()),
            changed: Notify::new(),
            published: Notify::new(),
            fetched: tokio::sync::Mutex::default(),
            joining: Mutex::new(None),
        }
    }
}

impl Handle {
    /// Starts with what the vault knows, so that the age of the newest head is known before the server has answered.
    pub fn of(inventory: &Inventory) -> Self {
        let head = inventory.account().and_then(|state| state.head);
        Self { made_at: AtomicU64::new(head.map_or(0, |(head, _)| head.made_at)), ..Self::default() }
    }

    fn set(&self, contact: Contact) {
        self.is_connected.store(contact == Contact::Connected, Ordering::Release);
        self.contact.send_if_modified(|known| {
            let is_new = *known != contact;
            *known = contact;
            is_new
        });
        self.published.notify_waiters();
    }

    fn heard(&self, made_at: Option<Millis>) {
        self.heard_at.store(now(), Ordering::Relaxed);
        self.made_at.store(made_at.unwrap_or(0), Ordering::Relaxed);
    }

    /// Returns the age of the newest head in milliseconds; `None` if this vault is in no account.
    pub fn head_age(&self) -> Option<Millis> {
        match self.made_at.load(Ordering::Relaxed) {
            0 => None,
            made_at => Some(now().saturating_sub(made_at)),
        }
    }

    /// Waits until the other devices know the references of a template. Without contact it does not wait: the
    /// references are published when there is contact again.
    ///
    /// Returns whether the template can be served; `false` if `until` has passed.
    pub async fn published(&self, template: &Template, until: Instant) -> bool {
        loop {
            let told = self.published.notified();
            let mut told = std::pin::pin!(told);
            told.as_mut().enable();
            if template.is_published() || !self.is_connected.load(Ordering::Acquire) {
                return true;
            }
            if tokio::time::timeout_at(until.into(), told).await.is_err() {
                return false;
            }
        }
    }

    /// Returns whether [`Self::published`] would not have to wait. Costs two atomic loads.
    pub fn is_settled(&self, template: &Template) -> bool {
        !self.is_connected.load(Ordering::Relaxed) || template.is_published()
    }

    /// Returns the client of the server once there is contact. Waits a moment for a daemon that has just started or
    /// joined.
    async fn client(&self, inventory: &Inventory) -> Result<Arc<Client>, Trouble> {
        inventory.with_engine(|_| ())?;
        let mut contact = self.contact.subscribe();
        let settled = contact.wait_for(|contact| !matches!(contact, Contact::None | Contact::Offline(None)));
        let state = tokio::time::timeout(MOMENT, settled).await.ok().and_then(Result::ok).map(|state| state.clone());
        match (state, self.client.load_full()) {
            (Some(Contact::Connected), Some(client)) => Ok(client),
            (Some(Contact::Refused { message, .. }), _) => Err(Trouble::Other(message)),
            (Some(Contact::Offline(Some(why))), _) => Err(Trouble::Offline(why)),
            _ => Err(Trouble::Offline("it has not answered yet".into())),
        }
    }

    fn joining(&self) -> std::sync::MutexGuard<'_, Option<Joining>> {
        self.joining.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state of a membership, as it is shown.
#[derive(Serialize)]
pub struct Status {
    joined: bool,
    state: &'static str,
    code: Option<String>,
    message: Option<String>,
    #[serde(flatten)]
    account: Option<AccountView>,
}

#[derive(Serialize)]
struct AccountView {
    account: AccountId,
    server: String,
    device: String,
    device_name: String,
    devices: usize,
    secrets: usize,
    seq: Option<u64>,
    epoch: Option<u64>,
    words: Option<String>,
    head_made_at: Option<String>,
    head_age_seconds: Option<u64>,
    heard_at: Option<String>,
    pending: usize,
    notices: Vec<NoticeView>,
}

#[derive(Serialize)]
struct NoticeView {
    at: String,
    message: String,
}

/// A device of the account, as it is shown.
#[derive(Serialize)]
pub struct DeviceView {
    id: String,
    name: String,
    joined_at: String,
    this: bool,
    recovery: bool,
    references: Option<usize>,
    references_at_seq: Option<u64>,
    usage_told_at: Option<String>,
}

/// Waits for the first contact, up to 10 seconds.
pub async fn first_contact(app: &App) {
    let _ = app.account.client(&app.inventory).await;
}

/// Returns the state of the membership.
pub fn status(app: &App) -> Status {
    let Some(AccountState { facts, head, me, pending, notices, secrets, .. }) = app.inventory.account() else {
        return Status { joined: false, state: "none", code: None, message: None, account: None };
    };
    let contact = app.account.contact.borrow().clone();
    let (state, code, message) = match (facts.stopped, contact) {
        (Some(Stopped { code, message, .. }), _) => ("stopped", Some(code), Some(message)),
        (None, Contact::Refused { code, message }) => ("refused", Some(code.to_owned()), Some(message)),
        (None, Contact::Offline(message)) => ("offline", None, message),
        (None, Contact::Connected) => ("connected", None, None),
        (None, Contact::None) => ("offline", None, None),
    };
    let heard = app.account.heard_at.load(Ordering::Relaxed);
    let made_at = head.as_ref().map(|(head, _)| head.made_at);
    let account = AccountView {
        account: me.0,
        server: facts.url,
        device: me.1.to_string(),
        device_name: facts.name,
        devices: head.as_ref().map_or(0, |(head, _)| head.devices.len()),
        secrets,
        seq: head.as_ref().map(|(head, _)| head.seq),
        epoch: head.as_ref().map(|(head, _)| head.epoch),
        words: head.as_ref().map(|(_, hash)| words(hash)),
        head_made_at: made_at.map(rfc3339),
        head_age_seconds: made_at.map(|made_at| now().saturating_sub(made_at) / 1000),
        heard_at: (heard > 0).then(|| rfc3339(heard)),
        pending,
        notices: notices
            .into_iter()
            .map(|notice| NoticeView { at: rfc3339(notice.at), message: notice.text })
            .collect(),
    };
    Status { joined: true, state, code, message, account: Some(account) }
}

/// Returns whether there is contact, and how many intents are pending, for metrics; `None` without an account.
pub fn gauges(app: &App) -> Option<(bool, usize)> {
    let pending = app.inventory.with_engine(|engine| engine.pending().len()).ok()?;
    Some((app.account.is_connected.load(Ordering::Relaxed), pending))
}

/// Returns the devices of the account.
///
/// # Errors
/// [`AccountError::None`] if this vault is in no account.
pub fn devices(app: &App) -> Result<Vec<DeviceView>, AccountError> {
    let AccountState { head, me, seen, .. } = app.inventory.account().ok_or(AccountError::None)?;
    let reports = app.inventory.reports();
    let devices = head.map(|(head, _)| head.devices).unwrap_or_default();
    let view = |device: crate::account::engine::Device| {
        let seen = seen.iter().find(|(id, ..)| *id == device.id);
        DeviceView {
            this: device.id == me.1,
            id: device.id.to_string(),
            name: device.name,
            joined_at: rfc3339(device.joined_at),
            recovery: device.paper,
            references: seen.map(|(_, _, references)| *references),
            references_at_seq: seen.map(|(_, seq, _)| *seq),
            usage_told_at: reports.iter().find(|report| report.device == device.id).map(|report| rfc3339(report.at)),
        }
    };
    Ok(devices.into_iter().map(view).collect())
}

/// Calls the inventory on a blocking thread.
async fn blocking<T: Send + 'static>(
    app: &Arc<App>,
    call: impl FnOnce(&Inventory) -> Result<T, AccountError> + Send + 'static,
) -> Result<T, Trouble> {
    let app = Arc::clone(app);
    let called =
        tokio::task::spawn_blocking(move || guillemet_base::sys::stack::leaving_nothing(|| call(&app.inventory)));
    match called.await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Trouble::Other("a part of the daemon failed; its log says where".into())),
    }
}

/// Returns the code and message if an error means that the server's state is refused.
fn refused(trouble: &Trouble) -> Option<(&'static str, String)> {
    match trouble {
        Trouble::Account(AccountError::Refused(refusal)) => Some((refusal.code(), refusal.to_string())),
        Trouble::Server(error @ ClientError::ContinuityLost) => Some(("continuity_lost", error.to_string())),
        Trouble::Server(error @ ClientError::Unauthorized) => Some(("unauthorized", error.to_string())),
        Trouble::Server(error @ ClientError::Untrusted(_)) => Some(("untrusted", error.to_string())),
        _ => None,
    }
}

/// Returns whether the device stops until a person does something.
fn is_final(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Cloned | Refusal::Revoked)
}
