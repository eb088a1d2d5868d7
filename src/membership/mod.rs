//! A daemon's membership in an account: it stays in contact with the server, carries what the inventory's engine
//! wants sent and what the server answers, and brings machines in and out.
//!
//! `contact` is the task that lives as long as the daemon, `steps` a pull, a push and a delete, `joining` how an account
//! begins and how machines come in, `repair` the way out after the server was set back, `usage` what devices report of
//! their use. Decides nothing about what is true: the engine does.

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
use crate::app::App;
use crate::inventory::{AccountError, AccountState, Inventory, Stopped, rfc3339};
use crate::names::Millis;
use crate::resolve::now;
use crate::template::catalog::Template;

pub use self::contact::run;
pub use self::joining::{Joining, Printed, Wanted, create, invite, join, recover, recovery};
pub use self::repair::{Plan, repair};
pub use self::steps::{delete, leave, revoke};
pub use self::usage::refresh_reports;

/// How long somebody who asks waits for the first contact.
const MOMENT: Duration = Duration::from_secs(10);

/// Why something with the account did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The server, or the way to it.
    #[error(transparent)]
    Server(#[from] ClientError),
    /// What it offers, or what is here.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// There is no contact.
    #[error("there is no contact with the account's server ({0}); `guillemet account status` shows when there is")]
    Offline(String),
    /// Nobody can say what other devices reference.
    #[error(
        "nobody knows now what other devices reference, so nothing was deleted; `guillemet secret disable` works at once. {0}"
    )]
    DeleteOffline(String),
    /// It was sent, and no answer came.
    #[error(
        "the account's server did not answer, so nobody knows whether this was done; look again when `guillemet account status` says connected"
    )]
    Unknown,
    /// Others are always faster.
    #[error("other devices change the account all the time; nothing was done. Try again")]
    Crowded,
    /// Whatever else there is to say.
    #[error("{0}")]
    Other(String),
}

/// How it stands with the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contact {
    /// This vault is in no account.
    None,
    /// Not yet, or not any more; why, where that is known.
    Offline(Option<String>),
    /// What it offers is refused.
    Refused {
        /// For programs.
        code: &'static str,
        /// What is wrong, and what to do.
        message: String,
    },
    /// Everything is told in both directions.
    Connected,
}

/// What the parts of the daemon share of the membership.
pub struct Handle {
    contact: watch::Sender<Contact>,
    /// The same, for every render.
    is_connected: AtomicBool,
    /// When the newest head was made; 0 where there is none.
    made_at: AtomicU64,
    /// When the server was last heard.
    heard_at: AtomicU64,
    client: ArcSwapOption<Client>,
    /// Held by whoever pulls or pushes.
    turn: tokio::sync::Mutex<()>,
    /// The membership began, ended or was mended.
    changed: Notify,
    /// Told when something was published.
    published: Notify,
    /// How reports of other devices were last fetched for somebody; held by whoever does.
    fetched: tokio::sync::Mutex<usage::Fetched>,
    /// A machine that has been let in, and waits for a word about names.
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
    /// Of a daemon that starts: how old the newest head is, it knows before the server has answered.
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

    /// How old the newest head is, in milliseconds; nothing in a vault that is in no account.
    pub fn head_age(&self) -> Option<Millis> {
        match self.made_at.load(Ordering::Relaxed) {
            0 => None,
            made_at => Some(now().saturating_sub(made_at)),
        }
    }

    /// Waits until the other devices know what a template names. Offline nobody waits: it is told on return.
    ///
    /// Returns whether it may be served.
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

    /// Whether there is anything to wait for, at the cost of two loads.
    pub fn is_settled(&self, template: &Template) -> bool {
        !self.is_connected.load(Ordering::Relaxed) || template.is_published()
    }

    /// The way to the server, once there is contact; a daemon that has just started, or joined, gets a moment.
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

/// What there is to see of a membership.
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

/// A device of the account.
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

/// Waits for the first contact, and gives up after a moment.
pub async fn first_contact(app: &App) {
    let _ = app.account.client(&app.inventory).await;
}

/// How it stands.
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

/// For metrics: whether there is contact, and how many changes are pending; nothing without an account.
pub fn gauges(app: &App) -> Option<(bool, usize)> {
    let pending = app.inventory.with_engine(|engine| engine.pending().len()).ok()?;
    Some((app.account.is_connected.load(Ordering::Relaxed), pending))
}

/// The devices of the account.
///
/// # Errors
/// When this vault is in none.
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

/// Calls the inventory, which blocks.
async fn blocking<T: Send + 'static>(
    app: &Arc<App>,
    call: impl FnOnce(&Inventory) -> Result<T, AccountError> + Send + 'static,
) -> Result<T, Trouble> {
    let app = Arc::clone(app);
    let called = tokio::task::spawn_blocking(move || crate::sys::stack::leaving_nothing(|| call(&app.inventory)));
    match called.await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Trouble::Other("a part of the daemon failed; its log says where".into())),
    }
}

/// What a refusal of the server's state means for the contact.
fn refused(trouble: &Trouble) -> Option<(&'static str, String)> {
    match trouble {
        Trouble::Account(AccountError::Refused(refusal)) => Some((refusal.code(), refusal.to_string())),
        Trouble::Server(error @ ClientError::ContinuityLost) => Some(("continuity_lost", error.to_string())),
        Trouble::Server(error @ ClientError::Unauthorized) => Some(("unauthorized", error.to_string())),
        Trouble::Server(error @ ClientError::Untrusted(_)) => Some(("untrusted", error.to_string())),
        _ => None,
    }
}

/// Whether a device stops for good, until a person does something.
fn is_final(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Cloned | Refusal::Revoked)
}
