//! The storage of accounts: one small trait, implemented for SQLite and for PostgreSQL.
//!
//! Knows no HTTP. Everything it gets is sealed; it compares only numbers and hashes.
//!
//! Each row is stored with the `seq` of the head that brought it, and marked with the `seq` of the head that ended it.
//! So pulling, restoring a head and pruning work the same everywhere: a row is valid at head `n` if it came at `n` or
//! before, and had not ended at `n`.

mod hub;
mod page;
pub mod postgres;
pub mod sqlite;
pub mod transfer;

use std::future::Future;
use std::pin::Pin;

use serde::Serialize;

pub use self::hub::{Hub, Wake};
use guillemet_base::names::Millis;
use guillemet_wire::{AccountId, ChangesPage, DeviceId, Enrolment, Hash, HeadRef, PullCursor, Push, UsageUpload, Wrap};

/// The future of a storage call.
pub type StorageFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StorageError>> + Send + 'a>>;

/// The reasons why a storage call failed or was refused.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The account does not exist.
    #[error("there is no such account; run `guillemet account admin list` to list all")]
    NoAccount,
    /// There already is an account with this id.
    #[error("the account already exists; choose another id")]
    Taken,
    /// The push was made on another head than the newest. Holds the newest head.
    #[error("there is a newer head; pull, apply the change again, and push again")]
    Behind(Option<HeadRef>),
    /// The heads after the position of the pull are no longer kept.
    #[error("heads up to {pruned} are no longer kept; compare with another device, then repair the account")]
    ContinuityLost {
        /// The number of the newest head that is gone.
        pruned: u64,
    },
    /// Fields of the request have a value that is not allowed, as (field, message).
    #[error("invalid fields")]
    Refused(Vec<(String, String)>),
    /// The token of an invitation is unknown, used or too old.
    #[error(
        "this invitation is unknown, expired, or used by another device; create a new one with `guillemet account \
         invite`"
    )]
    Token,
    /// The counter of a usage document is not higher than the one that is stored.
    #[error("usage with counter {stored} is already stored; send a higher counter")]
    NotHigher {
        /// The highest counter that is stored.
        stored: u64,
    },
    /// The device's key has ended since the request began.
    #[error("this device is no longer in the account; join again")]
    Ended,
    /// The head to restore is not kept.
    #[error("head {0} is not stored; run `guillemet account admin list` to see the newest head")]
    NoHead(u64),
    /// A newer version of the program wrote the database.
    #[error("the database has format {found}, which this version of Guillemet does not support; update Guillemet")]
    NewerFormat {
        /// The format of the database.
        found: u32,
    },
    /// The database failed, or cannot be reached.
    #[error("the account's database: {0}. Check the disk, or the database server, and its log")]
    Database(String),
    /// Another server uses the folder.
    #[error("another account server is using {0}; stop it, or use PostgreSQL to run several servers")]
    Locked(String),
    /// The storage has stopped, so the server is stopping.
    #[error("the account server is shutting down; try again when it is back")]
    Stopped,
}

/// The kinds of API keys, which decide what a key allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// The key can make the first push of its account.
    Creation,
    /// The key can ask for its device's wrap.
    Pending,
    /// The key can do everything in its account.
    Device,
}

impl KeyKind {
    fn to_number(self) -> u8 {
        match self {
            Self::Creation => 0,
            Self::Pending => 1,
            Self::Device => 2,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        [Self::Creation, Self::Pending, Self::Device].into_iter().find(|kind| kind.to_number() == number)
    }
}

/// An API key as it is stored: without the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownKey {
    /// The account that the key belongs to.
    pub account: AccountId,
    /// The SHA-256 of the whole key.
    pub hash: Hash,
    /// The kind of the key, which decides what it allows.
    pub kind: KeyKind,
    /// The device that the key belongs to; `None` for a key that creates an account.
    pub device: Option<DeviceId>,
}

/// A new account, and the key for its first push.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// The id of the account.
    pub id: AccountId,
    /// The id of the key.
    pub key_id: String,
    /// The SHA-256 of the whole key.
    pub key_hash: Hash,
    /// The present time, which becomes the time of creation.
    pub at: Millis,
}

/// The facts about an account that an administrator can see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccountRow {
    /// The id of the account.
    pub id: AccountId,
    /// The time at which the account was created.
    pub created_at: Millis,
    /// The newest head; `None` before the first push.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<HeadRef>,
    /// The time of the newest push; `None` before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pushed_at: Option<Millis>,
    /// The number of the oldest head that can be restored.
    pub kept_from: u64,
    /// The number of devices with an API key.
    pub devices: u64,
    /// The number of records, without removed ones.
    pub objects: u64,
    /// The size of all boxes that are stored, in bytes.
    pub bytes: u64,
}

/// The limits for what one account can store.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The most records, without removed ones.
    pub objects: u64,
    /// The most bytes in boxes, former ones included.
    pub bytes: u64,
}

/// The most devices of an account that can wait to be admitted at the same time.
const ENROLMENTS_MAX: u64 = 100;

/// A push that has passed all checks that need no stored data.
#[derive(Clone, Debug)]
pub struct Pushing {
    /// The account to push to.
    pub account: AccountId,
    /// The request body of the push.
    pub push: Push,
    /// The hash of the new head.
    pub hash: Hash,
    /// The hash of the head that the push was made on; `None` for the first push.
    pub expected: Option<Hash>,
    /// The present time, which becomes the time of the push.
    pub at: Millis,
    /// The limits for what the account can store.
    pub bounds: Bounds,
}

/// The rule by which old heads are removed. Both conditions have to hold.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Heads from before this time are removed…
    pub before: Millis,
    /// …if there are at least this many newer ones.
    pub keep: u64,
}

/// The totals over all accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StorageTotals {
    /// The number of accounts.
    pub accounts: u64,
    /// The number of records, without removed ones.
    pub objects: u64,
    /// The size of all boxes, in bytes.
    pub bytes: u64,
}

/// A storage of accounts.
///
/// Invariant: each change is one transaction, and it is on disk when the call returns.
pub trait Storage: Send + Sync {
    /// Returns the listeners for changes.
    fn hub(&self) -> &Hub;

    /// Creates an account that has no head yet.
    ///
    /// Fails with [`StorageError::Taken`] if the id is in use.
    fn create_account(&self, account: NewAccount) -> StorageFuture<'_, ()>;

    /// Returns all accounts, the oldest first.
    fn accounts(&self) -> StorageFuture<'_, Vec<AccountRow>>;

    /// Removes an account and everything in it.
    fn delete_account(&self, account: AccountId) -> StorageFuture<'_, ()>;

    /// Makes a former head the newest again, with all records, wraps and keys as they were then.
    ///
    /// Fails with [`StorageError::NoHead`] if that head is not kept.
    fn restore_head(&self, account: AccountId, seq: u64) -> StorageFuture<'_, HeadRef>;

    /// Returns the API key with this id, unless it has ended.
    fn key<'a>(&'a self, id: &'a str) -> StorageFuture<'a, Option<KnownKey>>;

    /// Returns the newest head; `None` before the first push.
    fn newest_head(&self, account: AccountId) -> StorageFuture<'_, Option<HeadRef>>;

    /// Accepts a push completely or not at all, and only on the head it was made on.
    ///
    /// Fails with [`StorageError::Behind`] if another head is the newest.
    fn push(&self, pushing: Pushing) -> StorageFuture<'_, HeadRef>;

    /// Returns a page of changes, with the wraps for `device`.
    ///
    /// Fails with [`StorageError::ContinuityLost`] if heads after `from` are no longer kept.
    fn changes(
        &self,
        account: AccountId,
        device: DeviceId,
        from: PullCursor,
        limit: usize,
    ) -> StorageFuture<'_, ChangesPage>;

    /// Returns the newest wrap for a device; `None` if there is none.
    fn wrap(&self, account: AccountId, device: DeviceId) -> StorageFuture<'_, Option<Wrap>>;

    /// Stores an invitation until it is used or too old.
    fn invite(&self, account: AccountId, token_hash: Hash, until: Millis) -> StorageFuture<'_, ()>;

    /// Adds a device with a token to those that wait. The same device can repeat the call.
    ///
    /// Fails with [`StorageError::Token`] if the token is unknown, used or too old.
    fn enrol(&self, account: AccountId, token_hash: Hash, enrolment: Enrolment, at: Millis) -> StorageFuture<'_, ()>;

    /// Returns the devices that wait to be admitted.
    fn enrolments(&self, account: AccountId) -> StorageFuture<'_, Vec<Enrolment>>;

    /// Rejects the request of a device to join. Returns whether there was one.
    fn reject_enrolment(&self, account: AccountId, device: DeviceId) -> StorageFuture<'_, bool>;

    /// Stores a usage document.
    ///
    /// Fails with [`StorageError::NotHigher`] if its counter is not higher than the stored one.
    fn put_usage(&self, account: AccountId, usage: UsageUpload) -> StorageFuture<'_, ()>;

    /// Returns the usage documents of all devices.
    fn usage(&self, account: AccountId) -> StorageFuture<'_, Vec<UsageUpload>>;

    /// Removes old heads, and what had ended by then. Returns the number of heads removed.
    fn prune(&self, retention: Retention) -> StorageFuture<'_, u64>;

    /// Returns the totals over all accounts.
    fn totals(&self) -> StorageFuture<'_, StorageTotals>;
}

/// The newest head as a transaction finds it, before it accepts a push.
#[derive(Clone, Copy, Debug, Default)]
struct CurrentHead {
    newest: Option<HeadRef>,
    epoch: u64,
}

impl CurrentHead {
    /// Checks that a push may follow this head. Both storages call this inside their transaction.
    fn check(&self, pushing: &Pushing) -> Result<(), StorageError> {
        if self.newest.map(|newest| newest.hash) != pushing.expected {
            return Err(StorageError::Behind(self.newest));
        }
        let head = &pushing.push.head;
        let mut errors = Vec::new();
        let seq = self.newest.map_or(0, |newest| newest.seq);
        if head.seq <= seq {
            errors.push(("head.seq".to_owned(), format!("must be higher than {seq}")));
        }
        if head.epoch < self.epoch {
            errors
                .push(("head.epoch".to_owned(), format!("must be at least {}: an epoch never goes back", self.epoch)));
        }
        if errors.is_empty() { Ok(()) } else { Err(StorageError::Refused(errors)) }
    }
}

/// Checks that an account stays within its limits.
fn check_bounds(bounds: Bounds, objects: u64, bytes: u64) -> Result<(), StorageError> {
    let mut errors = Vec::new();
    if objects > bounds.objects {
        errors.push((
            "records".to_owned(),
            format!("an account can have at most {} objects on this server", bounds.objects),
        ));
    }
    if bytes > bounds.bytes {
        errors
            .push(("records".to_owned(), format!("an account can have at most {} bytes on this server", bounds.bytes)));
    }
    if errors.is_empty() { Ok(()) } else { Err(StorageError::Refused(errors)) }
}

/// Makes the error for one field with a value that is not allowed.
fn invalid_field(field: String, message: &str) -> StorageError {
    StorageError::Refused(vec![(field, message.to_owned())])
}
