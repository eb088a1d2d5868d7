//! Usage: every use goes to the journal before its answer leaves (promise Recorded), and is folded into counters and
//! the audit trail in `vault.db` later.
//!
//! A fold is one SQLite transaction. It holds the counters, the newest events, and the position up to which the journal
//! has been folded, so a crash in between counts nothing twice and loses nothing. Counts are in the clear in the
//! vault's file; which secret was used where and by whom is in sealed boxes. No value is ever recorded.

mod counters;
mod fold;
mod list;
mod shared;
mod unknown;

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::OptionalExtension;

use self::counters::Counters;
use self::shared::Shared;
use self::unknown::UnknownNames;
use super::audit::AuditChange;
use super::journal::{self, CONTENT_MAX, Journal, JournalError, Pending, Position, Unappended};
use super::store::{self, VaultError};
use super::{event, trail};
use guillemet_base::names::{Millis, SecretId};
use guillemet_secret::crypto::Key;

pub use self::counters::Sums;
pub(super) use self::counters::prepare;
pub use self::list::{TrailEvent, TrailFilter, UseEvent};
pub use super::event::{
    Caller, ChangeKind, Class, Decoded, EVENT_KINDS, EventKind, Listed, Outcome, RecordedUse, RequestEvent, Subject,
    UnknownName,
};
pub use super::trail::{EVENTS, EVENTS_MAX};

/// Why usage cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// The journal cannot be opened or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The vault's file cannot be read or written.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The journal could not be synced to the disk, or the thread that folds could not be started.
    #[error("the usage journal cannot be written to disk: {0}. Check the disk")]
    Sync(std::io::Error),
}

impl From<rusqlite::Error> for RecorderError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Vault(error.into())
    }
}

impl RecorderError {
    /// Reports whether the vault's file takes no change at present. Records stay in the journal then.
    pub fn is_read_only(&self) -> bool {
        matches!(self, Self::Vault(VaultError::Unwritable(_)))
    }
}

/// Turns an error that can wait until the vault's file takes changes again into `Ok`.
fn unless_read_only(done: Result<(), RecorderError>) -> Result<(), RecorderError> {
    done.or_else(|error| if error.is_read_only() { Ok(()) } else { Err(error) })
}

/// The most bytes of records to keep in memory until the next regular fold, once a load has ended.
const UNFOLDED_MAX: usize = 128 << 10;
/// How often recording an event replaces a lost journal before it gives up.
const RENEWALS: usize = 2;

/// The error of an event that cannot be recorded, so its answer must not leave: the journal is full and cannot be
/// folded, or is lost and cannot be replaced.
#[derive(Debug, thiserror::Error)]
#[error("uses cannot be recorded, so no secrets are delivered: {0}")]
pub struct Unrecorded(String);

/// The total usage of one secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// The number of resolutions.
    pub count: u64,
    /// The time of the latest use; `None` if there was none.
    pub last_used: Option<Millis>,
}

/// The totals of every secret that was ever used. Ids are random, so their hash need not withstand attacks; it is a
/// fast one, because a listing looks up every secret.
pub type AllTotals = HashMap<SecretId, Totals, foldhash::fast::RandomState>;

/// Where and when a secret was used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretUsage {
    /// The totals on this device.
    pub(crate) totals: Totals,
    /// By place, busiest first.
    pub by_template: Vec<UsageByPlace>,
    /// By caller, busiest first.
    pub by_caller: Vec<UsageByCaller>,
    /// By day (UTC), newest first; days without a use are left out.
    pub by_day: Vec<UsageByDay>,
}

/// The resolutions in one place, for all callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageByPlace {
    /// The id of the template; `None` for a raw resolve.
    pub template: Option<String>,
    /// The field of the config; empty for a raw resolve.
    pub field: String,
    /// The target; `None` if the requests had none.
    pub target: Option<String>,
    /// The number of resolutions.
    pub count: u64,
    /// The time of the latest use; `None` if it is not known.
    pub last_used: Option<Millis>,
}

/// The resolutions of one secret on one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageByDay {
    /// The day as `YYYY-MM-DD` in UTC.
    pub day: String,
    /// The number of resolutions.
    pub count: u64,
}

/// The resolutions by one program of one user, in all places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageByCaller {
    /// The numeric id of the user.
    pub uid: u32,
    /// The path of the executable; empty if it is not known.
    pub exe: String,
    /// The number of resolutions.
    pub count: u64,
    /// The time of the latest use.
    pub last_used: Millis,
}

/// The refusals with one outcome, in one place, to one caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusals {
    /// Why they were refused.
    pub outcome: Outcome,
    /// The id of the template; `None` for a raw resolve.
    pub template: Option<String>,
    /// The field of the config; empty for a raw resolve.
    pub field: String,
    /// The target; `None` if the requests had none.
    pub target: Option<String>,
    /// The numeric id of the user.
    pub uid: u32,
    /// The path of the executable; empty if it is not known.
    pub exe: String,
    /// The number of refusals.
    pub count: u64,
    /// The time of the latest refusal.
    pub last: Millis,
}

/// The limits that usage is kept within.
#[derive(Clone, Copy, Debug)]
pub struct RecorderOptions {
    /// The length of the journal in bytes.
    pub journal_len: usize,
    /// The largest number of answers in the trail, and also of refusals.
    pub events: usize,
    /// The largest number of changes in the trail.
    pub changes: usize,
}

impl Default for RecorderOptions {
    fn default() -> Self {
        Self { journal_len: journal::LEN, events: EVENTS, changes: EVENTS }
    }
}

/// Records uses and counts them.
pub struct Recorder {
    shared: Arc<Shared>,
    unknown: UnknownNames,
    /// The problems found when the recorder was opened.
    warnings: Vec<&'static str>,
    /// How many bytes were waiting to be folded when that was last looked at.
    unfolded: AtomicUsize,
    folder: FoldThread,
}

/// The thread that folds. It holds the vault's file open, and has ended when this has been dropped.
struct FoldThread {
    /// Wakes the thread. Dropping it ends the thread.
    due: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Opens the journal beside the vault's file, and folds the records that an earlier run left in it. If the file
    /// takes no change at present, the records stay in the journal.
    ///
    /// # Errors
    /// [`RecorderError`] if the journal or the file cannot be used.
    pub fn open(journal: &Path, database: &Path, vault_id: [u8; 16], key: Key) -> Result<Self, RecorderError> {
        Self::open_with(journal, database, vault_id, key, RecorderOptions::default())
    }

    /// Opens the journal as [`Self::open`] does, with other limits than the usual ones.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(
        journal: &Path,
        database: &Path,
        vault_id: [u8; 16],
        key: Key,
        options: RecorderOptions,
    ) -> Result<Self, RecorderError> {
        let path_of_database = database;
        let mut database = store::connect(database)?;
        // On a full disk, uses are counted in a transaction that must stay in memory (`Counters::with_unfolded`).
        database.pragma_update(None, "cache_spill", "OFF")?;
        let boxes = trail::TrailSealer::new(&key, vault_id);
        if counters::missing(&database)?.is_some() {
            store::change(&mut database, |database| counters::prepare(database, &boxes))?;
        }
        let query = "SELECT journal, generation, at FROM usage_position";
        let stored: Option<([u8; 16], Position)> = database
            .query_row(query, [], |row| Ok((row.get(0)?, Position { generation: row.get(1)?, at: row.get(2)? })))
            .optional()?;
        let folded_position = |id: [u8; 16]| match stored {
            Some((stored_id, position)) if stored_id == id => position,
            _ => Position::default(),
        };
        let journal = Journal::open(journal, vault_id, &key.subkey("journal"), options.journal_len, folded_position)?;
        let mut warnings = journal.warnings().to_vec();
        if stored.is_some_and(|(stored_id, _)| stored_id != journal.id()) {
            warnings.push(
                "the usage journal is not the one this vault used before: uses recorded only there are not counted",
            );
        }
        let folded = journal.begin();
        if stored != Some((journal.id(), folded)) {
            // From now on a lost journal is noticed.
            store::change(&mut database, |database| counters::set_position(database, journal.id(), folded))?;
        }
        let (totals, unknown) = (Arc::new(counters::totals(&database)?), UnknownNames::new(&key));
        let (unfolded, unwritten) = (Pending::default(), Vec::new());
        let counters = Counters { database, key, boxes, folded, totals, unfolded, unwritten };
        let limits = [options.events, options.events, options.changes];
        let shared = Arc::new(Shared::new(journal, counters, limits, path_of_database.to_owned()));
        if shared.journal.is_clear() {
            shared.renew()?;
        }
        unless_read_only(shared.fold())?;
        unless_read_only(shared.counters().trim(|class| shared.bound(class)))?;
        unless_read_only(shared.retry())?;
        let folder = FoldThread::start(Arc::clone(&shared)).map_err(RecorderError::Sync)?;
        Ok(Self { shared, unknown, warnings, unfolded: AtomicUsize::new(0), folder })
    }

    /// Returns what to record when this user asks for a name that no secret, former name or template has.
    pub fn unknown_subject(&self, uid: u32, name: &str, now: Millis) -> Subject<'static> {
        Subject::Unknown(self.unknown.hash_for_user(uid, name, now))
    }

    /// Returns what such a name is recorded as, to find its events later.
    pub fn hash_name(&self, name: &str) -> UnknownName {
        UnknownName::Hash(self.unknown.hash(name))
    }

    /// Returns what opening the recorder found that the operator should know.
    pub fn warnings(&self) -> &[&'static str] {
        &self.warnings
    }

    /// Returns the present problems that the operator should know: the vault's file takes no change, or the journal was
    /// lost. Blocks.
    pub fn problems(&self) -> Vec<String> {
        self.shared.problems()
    }

    /// Records an event. Makes no system call, except when the journal is full, so that it folds first, or lost, so
    /// that it makes another one.
    ///
    /// A very large event is recorded in parts. A crash in between counts some of them, which is never more than was
    /// asked for.
    ///
    /// # Errors
    /// [`Unrecorded`]: the answer must not leave.
    pub fn record(&self, event: &RequestEvent<'_>) -> Result<(), Unrecorded> {
        thread_local! {
            static BUFFER: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(CONTENT_MAX));
        }
        BUFFER.with_borrow_mut(|buffer| {
            let mut uses = event.uses;
            loop {
                buffer.clear();
                let written = event::encode(event, uses, CONTENT_MAX, buffer);
                self.append(buffer)?;
                uses = &uses[written..];
                if uses.is_empty() {
                    return Ok(());
                }
            }
        })
    }

    /// Records events of changes that alter nothing in the vault's own records, in a transaction of their own. They are
    /// on disk when this returns. Blocks.
    ///
    /// # Errors
    /// Any error means that the change must not be made, or not be acknowledged.
    pub fn record_changes(&self, changes: &[AuditChange]) -> Result<(), RecorderError> {
        self.shared.record_changes(changes)
    }

    /// Records changes that have happened already. If the vault's file takes no change at present, they are recorded as
    /// soon as it does; otherwise this is [`Self::record_changes`].
    ///
    /// # Errors
    /// Any error but that one.
    pub fn record_changes_in_time(&self, changes: Vec<AuditChange>) -> Result<(), RecorderError> {
        self.shared.record_changes_in_time(changes)
    }

    fn append(&self, content: &[u8]) -> Result<(), Unrecorded> {
        let failed = |error: RecorderError| Unrecorded(error.to_string());
        let mut renewals = 0;
        loop {
            match self.shared.journal.append_record(content) {
                Ok(is_switched) => {
                    if is_switched {
                        self.folder.wake();
                    }
                    return Ok(());
                }
                Err(Unappended::Full) => self.shared.fold().map_err(failed)?,
                Err(Unappended::Lost) if renewals == RENEWALS => {
                    return Err(Unrecorded("usage.journal disappears as soon as it is created. Check its disk".into()));
                }
                Err(Unappended::Lost) => {
                    renewals += 1;
                    self.shared.renew().map_err(failed)?;
                }
            }
        }
    }

    /// Folds the recorded events into the counters.
    ///
    /// # Errors
    /// [`RecorderError`]; the records stay in the journal then, so nothing is lost.
    pub fn fold(&self) -> Result<(), RecorderError> {
        self.shared.fold()
    }

    /// Waits until everything recorded is on disk. Replaces a journal that was lost.
    ///
    /// # Errors
    /// [`RecorderError::Sync`], and the errors of [`Self::fold`].
    pub fn sync(&self) -> Result<(), RecorderError> {
        if !self.shared.journal.check() {
            self.shared.renew()?;
        }
        self.shared.journal.sync().map_err(RecorderError::Sync)
    }

    /// Does the regular work; the daemon calls it about every second. Syncs the journal, and folds it if `is_fold_due`,
    /// or if a load has ended and left many records. While the vault's file takes no change, tries instead whether it
    /// does again.
    ///
    /// # Errors
    /// As [`Self::sync`] and [`Self::fold`], except that a file that takes no change is not an error here:
    /// [`Self::problems`] reports it.
    pub fn maintain(&self, is_fold_due: bool) -> Result<(), RecorderError> {
        self.sync()?;
        if self.shared.is_read_only() {
            unless_read_only(self.shared.retry())
        } else if self.is_quiet() || is_fold_due {
            unless_read_only(self.fold())?;
            self.shared.release_memory();
            Ok(())
        } else {
            Ok(())
        }
    }

    /// Reports whether many records are waiting to be folded, and nothing was recorded since this was called before.
    fn is_quiet(&self) -> bool {
        let (unfolded, _) = self.journal_fill();
        self.unfolded.swap(unfolded, Ordering::Relaxed) == unfolded && unfolded > UNFOLDED_MAX
    }

    /// Returns the totals of every secret that was ever used on this device, up to the last answer. To report usage to
    /// people or programs, call `Inventory::uses`, which includes the account's other devices.
    ///
    /// # Errors
    /// An error if usage cannot be folded.
    pub fn totals(&self) -> Result<Arc<AllTotals>, RecorderError> {
        self.shared.with_counters(Counters::totals)
    }

    /// Returns the usage of one secret on this device, up to the last answer.
    ///
    /// # Errors
    /// An error if usage cannot be folded or read.
    pub fn usage_of(&self, secret: SecretId) -> Result<SecretUsage, RecorderError> {
        self.shared.with_counters(|counters| counters.usage_of(secret))
    }

    /// Returns the refusals of a secret, and those of a name while no secret had it, up to the last refusal; most
    /// frequent first.
    ///
    /// # Errors
    /// An error if usage cannot be folded or read.
    pub fn refusals(&self, secret: Option<SecretId>, name: &str) -> Result<Vec<Refusals>, RecorderError> {
        self.shared.with_counters(|counters| counters.refusals(secret, name, self.hash_name(name)))
    }

    /// Returns the sums over all secrets, up to the last answer.
    ///
    /// # Errors
    /// An error if usage cannot be folded or read.
    pub fn sums(&self) -> Result<Sums, RecorderError> {
        self.shared.with_counters(|counters| counters.sums(|class| self.shared.bound(class)))
    }

    /// Lists the events of the audit trail that `filter` selects, newest first, up to the last answer. Returns how many
    /// there are, and of these at most `limit`, after the first `offset`.
    ///
    /// # Errors
    /// An error if usage cannot be folded or read.
    pub fn trail(
        &self,
        filter: &impl TrailFilter,
        offset: usize,
        limit: usize,
    ) -> Result<(usize, Vec<TrailEvent>), RecorderError> {
        self.shared.fold()?;
        list::list(&self.shared, filter, offset, limit)
    }

    /// Sets new bounds for the audit trail: `events` for answers and for refusals each, `changes` for changes.
    ///
    /// # Errors
    /// An error if the trail cannot be written.
    pub fn keep_events(&self, events: usize, changes: usize) -> Result<(), RecorderError> {
        self.shared.set_bounds([events, events, changes])
    }

    /// Returns how many bytes of the journal have not been folded yet, and how many bytes it has for records.
    pub fn journal_fill(&self) -> (usize, usize) {
        let folded = self.shared.counters().folded;
        self.shared.journal.fill(folded)
    }

    /// Removes the counters of a secret that has been deleted. Its events stay in the audit trail, and its counts in
    /// the sums.
    ///
    /// # Errors
    /// An error if usage cannot be folded or written.
    pub fn forget(&self, secret: SecretId) -> Result<(), RecorderError> {
        self.shared.fold()?;
        self.shared.counters().forget(secret)
    }
}

impl FoldThread {
    fn start(shared: Arc<Shared>) -> std::io::Result<Self> {
        let (due, woken) = sync_channel::<()>(1);
        let fold = move || {
            while woken.recv().is_ok() {
                if let Err(error) = shared.fold() {
                    tracing::error!(%error, "usage could not be folded into the vault");
                }
            }
        };
        let thread = std::thread::Builder::new().name("usage-fold".into()).spawn(fold)?;
        Ok(Self { due: Some(due), thread: Some(thread) })
    }

    /// Makes the thread fold soon. A full channel means that a fold is already due.
    fn wake(&self) {
        let _ = self.due.as_ref().map(|due| due.try_send(()));
    }
}

impl Drop for FoldThread {
    fn drop(&mut self) {
        self.due = None;
        // A thread that panicked has reported that itself.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // Best effort: records that are not folded now stay in the journal and are folded at the next start.
        let _ = self.shared.fold();
        let _ = self.shared.journal.sync();
    }
}

#[cfg(test)]
mod tests;
