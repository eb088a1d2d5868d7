//! Where accounts are kept: one small trait, with SQLite and PostgreSQL behind it.
//!
//! Knows no HTTP. Everything it is given is sealed; what it compares is numbers and hashes.
//!
//! Everything an account holds is written with the seq of the head that brought it, and marked with the seq
//! of the head that ended it. So a pull, a way back and a clearing out are the same everywhere: what counts
//! at head `n` came at `n` or before and was not ended at `n` or before.

mod hub;
mod page;
pub mod postgres;
pub mod sqlite;
pub mod transfer;

use std::future::Future;
use std::pin::Pin;

use serde::Serialize;

pub use self::hub::{Hub, Wake};
use crate::account::wire::{AccountId, Changes, Cursor, DeviceId, Enrolment, Hash, Newest, Push, Usage, Wrap};
use crate::names::Millis;

/// An answer that is being worked out.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StorageError>> + Send + 'a>>;

/// What went wrong, or was refused.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// No such account.
    #[error("there is no such account; `guillemet account admin list` shows those there are")]
    NoAccount,
    /// The account is there already.
    #[error("there is such an account already; choose another id")]
    Taken,
    /// A push was made on another head.
    #[error("another head is the newest; pull, apply the change again, and push again")]
    Behind(Option<Newest>),
    /// Heads after the one that is asked from are no longer kept.
    #[error("heads up to {pruned} are no longer kept; compare with another device and repair the account")]
    ContinuityLost {
        /// The newest of those that are gone.
        pruned: u64,
    },
    /// Fields that hold what they cannot hold: (field, message).
    #[error("the request holds what it cannot hold")]
    Refused(Vec<(String, String)>),
    /// An invitation's token is unknown, used or too old.
    #[error(
        "this invitation is unknown, used by another device, or too old; make a new one with `guillemet account invite`"
    )]
    Token,
    /// The counter of a usage document is not higher.
    #[error("usage with counter {kept} is kept already; send a higher one")]
    NotHigher {
        /// The highest.
        kept: u64,
    },
    /// The device's key has ended meanwhile.
    #[error("this device is no longer in the account; join it again")]
    Ended,
    /// The head to go back to is not kept.
    #[error("head {0} is not kept; `guillemet account admin list` shows the newest")]
    NoHead(u64),
    /// The database was written by a newer program.
    #[error("the database has format {found}, which this guillemet does not know; use a newer one")]
    NewerFormat {
        /// What it has.
        found: u32,
    },
    /// The database.
    #[error("the account's database: {0}. Check the disk, or the database server, and its log")]
    Database(String),
    /// Another server has the folder.
    #[error("another account server runs on {0}; end it first, or use PostgreSQL for several")]
    Locked(String),
    /// The storage has stopped.
    #[error("the account server is stopping; try again when it is back")]
    Stopped,
}

/// What an API key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// Make the first push of its account.
    Creation,
    /// Ask for its wrap.
    Pending,
    /// Everything.
    Device,
}

impl KeyKind {
    fn number(self) -> u8 {
        match self {
            Self::Creation => 0,
            Self::Pending => 1,
            Self::Device => 2,
        }
    }

    fn numbered(number: u8) -> Option<Self> {
        [Self::Creation, Self::Pending, Self::Device].into_iter().find(|kind| kind.number() == number)
    }
}

/// An API key, as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownKey {
    /// The account it is for.
    pub account: AccountId,
    /// The SHA-256 of the whole key.
    pub hash: Hash,
    /// What it may.
    pub kind: KeyKind,
    /// Whose it is; the key an account is made with is nobody's.
    pub device: Option<DeviceId>,
}

/// A new account, with the key that makes its first push.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// Its id.
    pub id: AccountId,
    /// The id of the key.
    pub key_id: String,
    /// Its hash.
    pub key_hash: Hash,
    /// Now.
    pub at: Millis,
}

/// What an administrator sees of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccountRow {
    /// Its id.
    pub id: AccountId,
    /// When it was made.
    pub created_at: Millis,
    /// The newest head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<Newest>,
    /// When that was pushed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pushed_at: Option<Millis>,
    /// From which head on the server can go back.
    pub kept_from: u64,
    /// Devices with an API key.
    pub devices: u64,
    /// Records that are not removed.
    pub objects: u64,
    /// Bytes of all boxes that are kept.
    pub bytes: u64,
}

/// What an account may hold.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Records that are not removed.
    pub objects: u64,
    /// Bytes of all boxes that are kept, former ones too.
    pub bytes: u64,
}

/// Most devices of an account that wait at once.
const ENROLMENTS_MAX: u64 = 100;

/// A push that has been looked at.
#[derive(Clone, Debug)]
pub struct Pushing {
    /// Into which account.
    pub account: AccountId,
    /// What is pushed.
    pub push: Push,
    /// The hash of its head.
    pub hash: Hash,
    /// The newest head it was made on; `None` for the first.
    pub expected: Option<Hash>,
    /// Now.
    pub at: Millis,
    /// What the account may hold.
    pub bounds: Bounds,
}

/// What is cleared out.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Heads from before this time…
    pub before: Millis,
    /// …that are further back than this many.
    pub keep: u64,
}

/// How much there is, of all accounts together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Accounts.
    pub accounts: u64,
    /// Records that are not removed.
    pub objects: u64,
    /// Bytes of all boxes.
    pub bytes: u64,
}

/// Where accounts are kept.
///
/// Invariant: what changes, changes in one transaction, on disk when the answer is there.
pub trait Storage: Send + Sync {
    /// Who wants to be told what changes.
    fn hub(&self) -> &Hub;

    /// Makes an account without a head.
    fn create_account(&self, account: NewAccount) -> Answer<'_, ()>;

    /// Every account, the oldest first.
    fn accounts(&self) -> Answer<'_, Vec<AccountRow>>;

    /// Removes an account and everything in it.
    fn delete_account(&self, account: AccountId) -> Answer<'_, ()>;

    /// Makes a former head the newest again, with everything as it was then.
    fn restore_head(&self, account: AccountId, seq: u64) -> Answer<'_, Newest>;

    /// An API key that has not ended, by its id.
    fn key<'a>(&'a self, id: &'a str) -> Answer<'a, Option<KnownKey>>;

    /// The newest head.
    fn newest(&self, account: AccountId) -> Answer<'_, Option<Newest>>;

    /// Takes a push whole, or nothing of it; only on the head it was made on.
    fn push(&self, pushing: Pushing) -> Answer<'_, Newest>;

    /// A page of what changed, with the wraps for `device`.
    fn changes(&self, account: AccountId, device: DeviceId, from: Cursor, limit: usize) -> Answer<'_, Changes>;

    /// The newest wrap for a device.
    fn wrap(&self, account: AccountId, device: DeviceId) -> Answer<'_, Option<Wrap>>;

    /// Keeps an invitation until it is used or too old.
    fn invite(&self, account: AccountId, token_hash: Hash, until: Millis) -> Answer<'_, ()>;

    /// Lets a device wait that has a token. The same device may say the same again.
    fn enrol(&self, account: AccountId, token_hash: Hash, enrolment: Enrolment, at: Millis) -> Answer<'_, ()>;

    /// The devices that wait.
    fn enrolments(&self, account: AccountId) -> Answer<'_, Vec<Enrolment>>;

    /// Turns a device away that waits; whether there was one.
    fn turn_away(&self, account: AccountId, device: DeviceId) -> Answer<'_, bool>;

    /// Keeps a usage document, if its counter is higher.
    fn put_usage(&self, account: AccountId, usage: Usage) -> Answer<'_, ()>;

    /// The usage documents of all devices.
    fn usage(&self, account: AccountId) -> Answer<'_, Vec<Usage>>;

    /// Clears out what is older; how many heads.
    fn prune(&self, retention: Retention) -> Answer<'_, u64>;

    /// How much there is.
    fn totals(&self) -> Answer<'_, Totals>;
}

/// The newest head as a transaction finds it, before it takes a push.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    newest: Option<Newest>,
    epoch: u64,
}

impl Found {
    /// Whether a push may follow. Both storages ask this inside of their transaction.
    fn admits(&self, pushing: &Pushing) -> Result<(), StorageError> {
        if self.newest.map(|newest| newest.hash) != pushing.expected {
            return Err(StorageError::Behind(self.newest));
        }
        let head = &pushing.push.head;
        let mut wrong = Vec::new();
        let seq = self.newest.map_or(0, |newest| newest.seq);
        if head.seq <= seq {
            wrong.push(("head.seq".to_owned(), format!("higher than {seq} is needed")));
        }
        if head.epoch < self.epoch {
            wrong.push((
                "head.epoch".to_owned(),
                format!("an epoch does not go back; {} at least is needed", self.epoch),
            ));
        }
        if wrong.is_empty() { Ok(()) } else { Err(StorageError::Refused(wrong)) }
    }
}

/// Whether an account may hold this much.
fn within(bounds: Bounds, objects: u64, bytes: u64) -> Result<(), StorageError> {
    let mut wrong = Vec::new();
    if objects > bounds.objects {
        wrong.push(("records".to_owned(), format!("an account may hold {} objects on this server", bounds.objects)));
    }
    if bytes > bounds.bytes {
        wrong.push(("records".to_owned(), format!("an account may hold {} bytes on this server", bounds.bytes)));
    }
    if wrong.is_empty() { Ok(()) } else { Err(StorageError::Refused(wrong)) }
}

/// Fields of one kind that are wrong.
fn refused(field: String, message: &str) -> StorageError {
    StorageError::Refused(vec![(field, message.to_owned())])
}
