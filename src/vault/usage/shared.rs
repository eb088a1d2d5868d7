//! What the recorder shares with its thread: the journal and the counters, and what to do when one of them takes nothing.
//!
//! Where the vault's file takes no change, because its disk is full, say, records stay in the journal, and what is asked
//! for is counted in a transaction that is taken back. Where the journal is lost, what it held is moved to the vault from
//! memory, and another one takes its place. Neither loses or repeats a record.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::audit::Change;
use super::super::event::Class;
use super::super::journal::Journal;
use super::super::store::{self, VaultError};
use super::super::trail;
use super::RecorderError;
use super::counters::{self, Counters};

/// With less room on the disk than that, in bytes, it is tried whether it is enough for a change.
const SCARCE: u64 = 1 << 20;
/// What people are told of a journal that was lost.
const RENEWED: &str = "usage.journal was cut off, overwritten or removed while the daemon ran. No use was lost: all of them were \
     still in memory, and a new journal is in its place. Keep log rotation away from this file, and stop the daemon before you put \
     a backup back";

pub(super) struct Shared {
    pub(super) journal: Journal,
    counters: Mutex<Counters>,
    /// How many events of each class the trail holds at most, in the order of `Class::ALL`.
    kept: [AtomicUsize; 3],
    /// The vault's file.
    database: PathBuf,
    /// Why it takes no change, while that is so.
    read_only: Mutex<Option<String>>,
    was_lost: AtomicBool,
}

impl Shared {
    pub(super) fn new(journal: Journal, counters: Counters, kept: [usize; 3], database: PathBuf) -> Self {
        let (counters, kept) = (Mutex::new(counters), kept.map(AtomicUsize::new));
        Self { journal, counters, kept, database, read_only: Mutex::default(), was_lost: AtomicBool::new(false) }
    }

    pub(super) fn counters(&self) -> MutexGuard<'_, Counters> {
        // A panic while it was held has rolled its transaction back.
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many events of a class the trail holds, at most.
    pub(super) fn kept(&self, class: Class) -> usize {
        self.kept[class as usize].load(Ordering::Relaxed)
    }

    /// Bounds the trail anew, in the order of `Class::ALL`.
    pub(super) fn keep(&self, numbers: [usize; 3]) -> Result<(), RecorderError> {
        for (kept, number) in self.kept.iter().zip(numbers) {
            kept.store(number, Ordering::Relaxed);
        }
        self.counters().trim(|class| self.kept(class))
    }

    /// Records changes, in a transaction of their own.
    pub(super) fn record_changes(&self, changes: &[Change]) -> Result<(), RecorderError> {
        self.note(self.counters().record_changes(self.kept(Class::Change), changes))
    }

    /// As `record_changes`; where the vault's file takes no change, they are recorded as soon as it does.
    pub(super) fn record_changes_in_time(&self, changes: Vec<Change>) -> Result<(), RecorderError> {
        match self.record_changes(&changes) {
            Err(error) if error.is_read_only() => self.counters().owed.extend(changes),
            recorded => recorded?,
        }
        Ok(())
    }

    /// Moves what has been recorded into the counters. Where that fails, it stays where it is.
    pub(super) fn fold(&self) -> Result<(), RecorderError> {
        self.fold_into(&mut self.counters())
    }

    fn fold_into(&self, counters: &mut Counters) -> Result<(), RecorderError> {
        let position = self.journal.take(&mut counters.unfolded);
        if !counters.unfolded.is_empty() {
            let folding = counters.add_up(self.kept(Class::Refusal));
            self.note(counters.write(self.journal.id(), position, folding))?;
            counters.unfolded.clear();
        }
        self.journal.folded(position);
        Ok(())
    }

    /// Reads counters that are true up to the last answer.
    pub(super) fn look<T>(&self, read: impl FnOnce(&Counters) -> Result<T, RecorderError>) -> Result<T, RecorderError> {
        let mut counters = self.counters();
        match self.fold_into(&mut counters) {
            Err(error) if error.is_read_only() => counters.as_if_folded(self.kept(Class::Refusal), read),
            folded => folded.and_then(|()| read(&counters)),
        }
    }

    /// Puts a new journal in the place of one that was lost, or that an earlier version wrote, after what it held has been
    /// folded.
    pub(super) fn renew(&self) -> Result<(), RecorderError> {
        let mut counters = self.counters();
        self.fold_into(&mut counters)?;
        let is_clear = self.journal.is_clear();
        let Some(begin) = self.journal.renew()? else { return Ok(()) };
        if !is_clear {
            tracing::error!("{RENEWED}");
            self.was_lost.store(true, Ordering::Relaxed);
        }
        counters.folded = begin;
        let id = self.journal.id();
        let noted = store::change(&mut counters.database, |database| counters::set_position(database, id, begin));
        // Until it is noted, which the next fold does too, positions in the former journal lead to the same.
        let _ = self.note(noted);
        Ok(())
    }

    /// Keeps in mind whether the vault's file takes changes, and tells of it when that has changed.
    fn note<T>(&self, written: Result<T, RecorderError>) -> Result<T, RecorderError> {
        let mut known = self.read_only.lock().unwrap_or_else(PoisonError::into_inner);
        match &written {
            Err(RecorderError::Vault(VaultError::Unwritable(error))) => {
                let is_new = known.replace(error.to_string()).is_none();
                if is_new {
                    tracing::error!(%error, "read-only: the vault cannot be changed. Make room on its disk");
                }
            }
            Ok(_) if known.take().is_some() => tracing::info!("the vault can be changed again"),
            _ => {}
        }
        written
    }

    /// Whether the last attempt to change the vault's file failed.
    pub(super) fn is_read_only(&self) -> bool {
        self.read_only.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Tries whether the vault's file takes a change, where the last one failed or little room is left; folds then.
    pub(super) fn try_out(&self) -> Result<(), RecorderError> {
        if !self.is_read_only() && !self.is_scarce() {
            return Ok(());
        }
        let mut counters = self.counters();
        let Counters { database, boxes, folded, owed, .. } = &mut *counters;
        let written = store::change(database, |database| {
            // SQLite writes no page whose content stays the same.
            database.execute("DELETE FROM usage_position", [])?;
            counters::set_position(database, self.journal.id(), *folded)?;
            Ok::<_, RecorderError>(trail::write_changes(database, boxes, self.kept(Class::Change), owed)?)
        });
        self.note(written)?;
        owed.clear();
        self.fold_into(&mut counters)
    }

    fn is_scarce(&self) -> bool {
        rustix::fs::statvfs(&self.database).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < SCARCE)
    }

    /// What is wrong now and people have to know.
    pub(super) fn problems(&self) -> Vec<String> {
        // What it finds is in `read_only`.
        let _ = self.try_out();
        let read_only = self.read_only.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut problems = Vec::new();
        if let Some(why) = read_only {
            let (used, size) = self.journal.fill(self.counters().folded);
            problems.push(format!(
                "read-only: the vault cannot be changed ({why}). Make room on the disk of {}; changes work again within a second. \
                 Until then secrets are served while usage.journal has room to record it: {} of {} KiB",
                self.database.display(),
                size.saturating_sub(used) >> 10,
                size >> 10,
            ));
        }
        if self.was_lost.load(Ordering::Relaxed) {
            problems.push(RENEWED.into());
        }
        problems
    }
}
