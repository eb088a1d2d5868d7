//! Usage: every resolution goes to the journal before its answer leaves, and is folded into counters and
//! the audit trail in `vault.db` later.
//!
//! A fold is one SQLite transaction that holds the counters, the newest events and the position up to which
//! the journal has been folded: a crash in between counts nothing twice and loses nothing. The vault file
//! shows counts; what was resolved where and by whom stands in sealed boxes. Never a value.

mod counters;
mod fold;
mod list;
mod shared;
mod unknown;

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::OptionalExtension;

use self::counters::Counters;
use self::shared::Shared;
use self::unknown::UnknownNames;
use super::audit::Change;
use super::crypto::Key;
use super::event;
use super::journal::{self, CONTENT_MAX, Journal, JournalError, Pending, Position, Unappended};
use super::store::{self, VaultError};
use super::trail;
use crate::names::{Millis, SecretId};

pub use self::counters::Sums;
pub(super) use self::counters::prepare;
pub use self::list::{Picks, TrailEvent, UseEvent};
pub use super::event::{
    Caller, ChangeKind, Class, Decoded, EVENT_KINDS, Event, Kind, Listed, Outcome, Subject, UnknownName, Use,
};
pub use super::trail::{EVENTS, EVENTS_MAX};

/// Why usage cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The vault's file.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The journal could not be handed to the disk.
    #[error("the usage journal cannot be written to the disk: {0}. Check the disk")]
    Sync(std::io::Error),
}

impl From<rusqlite::Error> for RecorderError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Vault(error.into())
    }
}

impl RecorderError {
    /// Whether the vault's file takes no change. Records stay in the journal then.
    pub fn is_read_only(&self) -> bool {
        matches!(self, Self::Vault(VaultError::Unwritable(_)))
    }
}

/// `Ok` where a step failed that can wait until the vault's file takes changes again.
fn unless_read_only(done: Result<(), RecorderError>) -> Result<(), RecorderError> {
    done.or_else(|error| if error.is_read_only() { Ok(()) } else { Err(error) })
}

/// How often a record makes a new journal in place of one that is lost, before it is given up.
const RENEWALS: usize = 2;

/// The journal is full and could not be folded, or lost and could not be made anew: nothing may be resolved.
#[derive(Debug, thiserror::Error)]
#[error("usage cannot be recorded, so nothing is resolved: {0}")]
pub struct Unrecorded(String);

/// What was resolved of one secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many resolutions.
    pub count: u64,
    /// The latest use.
    pub last_used: Option<Millis>,
}

/// The same of every secret. Ids are random: their hash need not withstand attacks, and a listing asks for each.
pub type AllTotals = HashMap<SecretId, Totals, foldhash::fast::RandomState>;

/// Where and when a secret was resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretUsage {
    /// All in all, on this device.
    pub(in crate::vault) totals: Totals,
    /// By place, busiest first.
    pub by_template: Vec<PlaceUsage>,
    /// By caller, busiest first.
    pub by_caller: Vec<CallerUsage>,
    /// By day (UTC), newest first.
    pub by_day: Vec<DayUsage>,
}

/// Resolutions in one place, of all callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceUsage {
    /// The template; `None` for a raw resolve.
    pub template: Option<String>,
    /// The field of the config.
    pub field: String,
    /// The target.
    pub target: Option<String>,
    /// How many.
    pub count: u64,
    /// When last.
    pub last_used: Option<Millis>,
}

/// Resolutions of one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DayUsage {
    /// `YYYY-MM-DD`, UTC.
    pub day: String,
    /// How many.
    pub count: u64,
}

/// Resolutions by one program of one user, in all places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerUsage {
    /// User.
    pub uid: u32,
    /// Executable; empty where it is not known.
    pub exe: String,
    /// How many.
    pub count: u64,
    /// When last.
    pub last_used: Millis,
}

/// What was refused in one place to one caller, in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusals {
    /// Why.
    pub outcome: Outcome,
    /// The template; `None` for a raw resolve.
    pub template: Option<String>,
    /// The field of the config.
    pub field: String,
    /// The target.
    pub target: Option<String>,
    /// User.
    pub uid: u32,
    /// Executable; empty where it is not known.
    pub exe: String,
    /// How often.
    pub count: u64,
    /// When last.
    pub last: Millis,
}

/// How usage is kept.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The journal's length in bytes.
    pub journal_len: usize,
    /// How many answers, and how many refusals, the trail holds at most.
    pub events: usize,
    /// How many changes it holds at most.
    pub changes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { journal_len: journal::LEN, events: EVENTS, changes: EVENTS }
    }
}

/// Records resolutions and counts them.
pub struct Recorder {
    shared: Arc<Shared>,
    unknown: UnknownNames,
    /// What was found at the start that people have to know.
    warnings: Vec<&'static str>,
    folder: Folder,
}

/// The thread that folds. It holds the vault's file open, and has ended when this has been dropped.
struct Folder {
    /// Wakes it; without this, it ends.
    due: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Opens the journal beside the vault's file and folds what an earlier run left in it. Where that file takes no change,
    /// what is in the journal stays there.
    ///
    /// # Errors
    /// `RecorderError`.
    pub fn open(journal: &Path, database: &Path, vault_id: [u8; 16], key: Key) -> Result<Self, RecorderError> {
        Self::open_with(journal, database, vault_id, key, Options::default())
    }

    /// As `open`, kept in another way than the usual.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_with(
        journal: &Path,
        database: &Path,
        vault_id: [u8; 16],
        key: Key,
        options: Options,
    ) -> Result<Self, RecorderError> {
        let path_of_database = database;
        let mut database = store::connect(database)?;
        // What is counted on a full disk stays in memory (`Counters::as_if_folded`).
        database.pragma_update(None, "cache_spill", "OFF")?;
        let boxes = trail::Boxes::new(&key, vault_id);
        if counters::missing(&database)?.is_some() {
            store::change(&mut database, |database| counters::prepare(database, &boxes))?;
        }
        let query = "SELECT journal, generation, at FROM usage_position";
        let stored: Option<([u8; 16], Position)> = database
            .query_row(query, [], |row| Ok((row.get(0)?, Position { generation: row.get(1)?, at: row.get(2)? })))
            .optional()?;
        let folded = |id: [u8; 16]| match stored {
            Some((known, position)) if known == id => position,
            _ => Position::default(),
        };
        let journal = Journal::open(journal, vault_id, &key.subkey("journal"), options.journal_len, folded)?;
        let mut warnings = journal.warnings().to_vec();
        if stored.is_some_and(|(known, _)| known != journal.id()) {
            warnings.push("the usage journal is not the one the vault knew: what only that one held is not counted");
        }
        let folded = journal.begin();
        if stored != Some((journal.id(), folded)) {
            // From now on a lost journal is noticed.
            store::change(&mut database, |database| counters::set_position(database, journal.id(), folded))?;
        }
        let (totals, unknown) = (Arc::new(counters::totals(&database)?), UnknownNames::new(&key));
        let (unfolded, owed) = (Pending::default(), Vec::new());
        let counters = Counters { database, key, boxes, folded, totals, unfolded, owed };
        let kept = [options.events, options.events, options.changes];
        let shared = Arc::new(Shared::new(journal, counters, kept, path_of_database.to_owned()));
        if shared.journal.is_clear() {
            shared.renew()?;
        }
        unless_read_only(shared.fold())?;
        unless_read_only(shared.counters().trim(|class| shared.kept(class)))?;
        unless_read_only(shared.try_out())?;
        let folder = Folder::start(Arc::clone(&shared)).map_err(RecorderError::Sync)?;
        Ok(Self { shared, unknown, warnings, folder })
    }

    /// Returns what to record of a name that neither a secret, nor a former name, nor a template has, when this
    /// user asks for it at this time.
    pub fn unknown(&self, uid: u32, name: &str, now: Millis) -> Subject<'static> {
        Subject::Unknown(self.unknown.asked(uid, name, now))
    }

    /// Returns what stands for a name in what was recorded while nothing had it.
    pub fn hashed(&self, name: &str) -> UnknownName {
        UnknownName::Hash(self.unknown.hash(name))
    }

    /// What was found at the start that people have to know.
    pub fn warnings(&self) -> &[&'static str] {
        &self.warnings
    }

    /// What is wrong now and people have to know: the vault's file takes no change, the journal was lost. Blocks.
    pub fn problems(&self) -> Vec<String> {
        self.shared.problems()
    }

    /// Records an event. Makes no system call, unless the journal is full, when it folds first, or lost, when it makes
    /// another.
    ///
    /// A very large event is recorded in parts; a crash in between counts a part, which is not more than was
    /// asked for.
    ///
    /// # Errors
    /// `Unrecorded`: the answer must not leave.
    pub fn record(&self, event: &Event<'_>) -> Result<(), Unrecorded> {
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

    /// Records changes that change nothing in the vault's own records, in a transaction of their own: what the
    /// trail tells of is on disk when this returns. Blocks.
    ///
    /// # Errors
    /// The change must not be made then, or must not be acknowledged.
    pub fn record_changes(&self, changes: &[Change]) -> Result<(), RecorderError> {
        self.shared.record_changes(changes)
    }

    /// As `record_changes`, for what has happened already: where the vault's file takes no change, it is recorded as soon
    /// as it does.
    ///
    /// # Errors
    /// Any other than that.
    pub fn record_changes_in_time(&self, changes: Vec<Change>) -> Result<(), RecorderError> {
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
                    return Err(Unrecorded("usage.journal is lost as soon as it has been made. Check its disk".into()));
                }
                Err(Unappended::Lost) => {
                    renewals += 1;
                    self.shared.renew().map_err(failed)?;
                }
            }
        }
    }

    /// Folds what has been recorded into the counters.
    ///
    /// # Errors
    /// Nothing is lost then: it stays in the journal.
    pub fn fold(&self) -> Result<(), RecorderError> {
        self.shared.fold()
    }

    /// Waits until everything recorded is on the disk; a journal that was lost is replaced.
    ///
    /// # Errors
    /// The system's, and those of `fold`.
    pub fn sync(&self) -> Result<(), RecorderError> {
        if !self.shared.journal.check() {
            self.shared.renew()?;
        }
        self.shared.journal.sync().map_err(RecorderError::Sync)
    }

    /// To be called every second or so: `sync`, and `fold` where that is due, or where it is time to see whether the
    /// vault's file takes changes again.
    ///
    /// # Errors
    /// As `sync` and `fold`, but for a vault that takes no change, which `problems` tells.
    pub fn keep(&self, is_fold_due: bool) -> Result<(), RecorderError> {
        self.sync()?;
        if self.shared.is_read_only() {
            unless_read_only(self.shared.try_out())
        } else if is_fold_due {
            unless_read_only(self.fold())
        } else {
            Ok(())
        }
    }

    /// Of every secret that was ever used on this device, up to the last answer. What people and programs are told of
    /// is `Inventory::uses`, which knows the account's other devices too.
    ///
    /// # Errors
    /// When usage cannot be folded.
    pub fn totals(&self) -> Result<Arc<AllTotals>, RecorderError> {
        self.shared.look(Counters::totals)
    }

    /// Of one secret, up to the last answer.
    ///
    /// # Errors
    /// When usage cannot be folded or read.
    pub fn of(&self, secret: SecretId) -> Result<SecretUsage, RecorderError> {
        self.shared.look(|counters| counters.of(secret))
    }

    /// What was refused of a secret, and of a name while no secret had it, up to the last refusal; most
    /// often first.
    ///
    /// # Errors
    /// As `of`.
    pub fn refusals(&self, secret: Option<SecretId>, name: &str) -> Result<Vec<Refusals>, RecorderError> {
        self.shared.look(|counters| counters.refusals(secret, name, self.hashed(name)))
    }

    /// All in all, up to the last answer.
    ///
    /// # Errors
    /// As `of`.
    pub fn sums(&self) -> Result<Sums, RecorderError> {
        self.shared.look(|counters| counters.sums(|class| self.shared.kept(class)))
    }

    /// The events of the audit trail that `picks` picks, newest first, up to the last answer: how many there
    /// are, and those from `offset` on, at most `limit`.
    ///
    /// # Errors
    /// As `of`.
    pub fn trail(
        &self,
        picks: &impl Picks,
        offset: usize,
        limit: usize,
    ) -> Result<(usize, Vec<TrailEvent>), RecorderError> {
        self.shared.fold()?;
        list::list(&self.shared, picks, offset, limit)
    }

    /// Bounds the audit trail anew: so many answers and so many refusals, and so many changes.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_events(&self, events: usize, changes: usize) -> Result<(), RecorderError> {
        self.shared.keep([events, events, changes])
    }

    /// How many bytes of the journal have not been folded, and how many there is room for.
    pub fn journal_fill(&self) -> (usize, usize) {
        let folded = self.shared.counters().folded;
        self.shared.journal.fill(folded)
    }

    /// Drops what is known of a secret that has been deleted. The audit trail and the sums keep it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn forget(&self, secret: SecretId) -> Result<(), RecorderError> {
        self.shared.fold()?;
        self.shared.counters().forget(secret)
    }
}

impl Folder {
    fn start(shared: Arc<Shared>) -> std::io::Result<Self> {
        let (due, woken) = sync_channel::<()>(1);
        let fold = move || {
            while woken.recv().is_ok() {
                if let Err(error) = shared.fold() {
                    tracing::error!(%error, "usage could not be folded");
                }
            }
        };
        let thread = std::thread::Builder::new().name("usage-fold".into()).spawn(fold)?;
        Ok(Self { due: Some(due), thread: Some(thread) })
    }

    /// Has it fold soon. A full channel means that a fold is due already.
    fn wake(&self) {
        let _ = self.due.as_ref().map(|due| due.try_send(()));
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.due = None;
        // One that panicked has said so itself.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // Best effort: what is not folded now is in the journal, and folded at the next start.
        let _ = self.shared.fold();
        let _ = self.shared.journal.sync();
    }
}

#[cfg(test)]
mod tests;
