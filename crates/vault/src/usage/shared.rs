//! The state that the recorder shares with its thread: the journal and the counters, and what happens when one of them
//! cannot be written.
//!
//! If the vault's file takes no change, for example because its disk is full, records stay in the journal, and reads
//! are answered from a transaction that is rolled back. If the journal is lost, its records are moved from memory to
//! the vault, and another journal takes its place. Neither loses or repeats a record.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::audit::AuditChange;
use super::super::event::Class;
use super::super::journal::Journal;
use super::super::store::{self, VaultError};
use super::super::trail;
use super::RecorderError;
use super::counters::{self, Counters};
use guillemet_base::sys::memory;

/// Free space on the disk, in bytes. With less than this, `retry` tests whether a change still fits.
const SCARCE: u64 = 1 << 20;
/// The message about a journal that was lost.
const RENEWED: &str = "usage.journal was truncated, overwritten or removed while the daemon was running. No use was \
     lost: all of them were still in memory, and a new journal replaces it. Exclude this file from log rotation, and \
     stop the daemon before you restore a backup";

pub(super) struct Shared {
    pub(super) journal: Journal,
    counters: Mutex<Counters>,
    /// The largest number of events of each class in the trail, in the order of `Class::ALL`.
    limits: [AtomicUsize; 3],
    /// The path of the vault's file.
    database: PathBuf,
    /// Why the file takes no change; `None` while it does.
    read_only: Mutex<Option<String>>,
    was_lost: AtomicBool,
}

impl Shared {
    pub(super) fn new(journal: Journal, counters: Counters, limits: [usize; 3], database: PathBuf) -> Self {
        let (counters, limits) = (Mutex::new(counters), limits.map(AtomicUsize::new));
        Self { journal, counters, limits, database, read_only: Mutex::default(), was_lost: AtomicBool::new(false) }
    }

    pub(super) fn counters(&self) -> MutexGuard<'_, Counters> {
        // A panic while it was held has rolled its transaction back.
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the largest number of events of a class that the trail keeps.
    pub(super) fn bound(&self, class: Class) -> usize {
        self.limits[class as usize].load(Ordering::Relaxed)
    }

    /// Sets new bounds for the trail, in the order of `Class::ALL`.
    pub(super) fn set_bounds(&self, numbers: [usize; 3]) -> Result<(), RecorderError> {
        for (limit, number) in self.limits.iter().zip(numbers) {
            limit.store(number, Ordering::Relaxed);
        }
        self.counters().trim(|class| self.bound(class))
    }

    /// Records changes, in a transaction of their own.
    pub(super) fn record_changes(&self, changes: &[AuditChange]) -> Result<(), RecorderError> {
        self.note_read_only(self.counters().record_changes(self.bound(Class::Change), changes))
    }

    /// Records changes now, or as soon as the vault's file takes changes again.
    pub(super) fn record_changes_in_time(&self, changes: Vec<AuditChange>) -> Result<(), RecorderError> {
        match self.record_changes(&changes) {
            Err(error) if error.is_read_only() => self.counters().unwritten.extend(changes),
            recorded => recorded?,
        }
        Ok(())
    }

    /// Moves the recorded events into the counters. If that fails, they stay where they are.
    pub(super) fn fold(&self) -> Result<(), RecorderError> {
        self.fold_into(&mut self.counters())
    }

    fn fold_into(&self, counters: &mut Counters) -> Result<(), RecorderError> {
        let position = self.journal.take(&mut counters.unfolded);
        if !counters.unfolded.is_empty() {
            let folding = counters.add_up(self.bound(Class::Refusal));
            self.note_read_only(counters.write(self.journal.id(), position, folding))?;
            counters.unfolded.clear();
        }
        self.journal.folded(position);
        Ok(())
    }

    /// Releases the memory that a fold used: cached pages of the file, and free blocks.
    pub(super) fn release_memory(&self) {
        if let Err(error) = self.counters().database.execute_batch("PRAGMA shrink_memory") {
            tracing::debug!(%error, "the vault's pages stay in memory");
        }
        memory::release_free();
    }

    /// Calls `read` on counters that include everything up to the last answer.
    pub(super) fn with_counters<T>(
        &self,
        read: impl FnOnce(&Counters) -> Result<T, RecorderError>,
    ) -> Result<T, RecorderError> {
        let mut counters = self.counters();
        match self.fold_into(&mut counters) {
            Err(error) if error.is_read_only() => counters.with_unfolded(self.bound(Class::Refusal), read),
            folded => folded.and_then(|()| read(&counters)),
        }
    }

    /// Folds the journal, then replaces it if it was lost or is of an earlier version.
    pub(super) fn renew(&self) -> Result<(), RecorderError> {
        let mut counters = self.counters();
        self.fold_into(&mut counters)?;
        let is_clear = self.journal.is_clear();
        let Some(start) = self.journal.renew()? else { return Ok(()) };
        if !is_clear {
            tracing::error!("{RENEWED}");
            self.was_lost.store(true, Ordering::Relaxed);
        }
        counters.folded = start;
        let id = self.journal.id();
        let result = store::change(&mut counters.database, |database| counters::set_position(database, id, start));
        // Until the new position is stored, which the next fold does too, the old one leads to the same counts.
        let _ = self.note_read_only(result);
        Ok(())
    }

    /// Remembers whether the vault's file takes changes, and logs when that has changed.
    fn note_read_only<T>(&self, written: Result<T, RecorderError>) -> Result<T, RecorderError> {
        let mut last_error = self.read_only.lock().unwrap_or_else(PoisonError::into_inner);
        match &written {
            Err(RecorderError::Vault(VaultError::Unwritable(error))) => {
                let is_new = last_error.replace(error.to_string()).is_none();
                if is_new {
                    tracing::error!(%error, "read-only: the vault cannot be changed. Free up space on its disk");
                }
            }
            Ok(_) if last_error.take().is_some() => tracing::info!("the vault can be changed again"),
            _ => {}
        }
        written
    }

    /// Reports whether the last attempt to change the vault's file failed.
    pub(super) fn is_read_only(&self) -> bool {
        self.read_only.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Tests whether the vault's file takes a change, if the last one failed or the disk is nearly full. Folds if it
    /// does.
    pub(super) fn retry(&self) -> Result<(), RecorderError> {
        if !self.is_read_only() && !self.is_scarce() {
            return Ok(());
        }
        let mut counters = self.counters();
        let Counters { database, boxes, folded, unwritten, .. } = &mut *counters;
        let written = store::change(database, |database| {
            // SQLite does not write a page whose content stays the same, so the row is removed and written again.
            database.execute("DELETE FROM usage_position", [])?;
            counters::set_position(database, self.journal.id(), *folded)?;
            Ok::<_, RecorderError>(trail::write_changes(database, boxes, self.bound(Class::Change), unwritten)?)
        });
        self.note_read_only(written)?;
        unwritten.clear();
        self.fold_into(&mut counters)
    }

    fn is_scarce(&self) -> bool {
        rustix::fs::statvfs(&self.database).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < SCARCE)
    }

    /// Returns the present problems that the operator should know.
    pub(super) fn problems(&self) -> Vec<String> {
        // The outcome is in `read_only`.
        let _ = self.retry();
        let read_only = self.read_only.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut problems = Vec::new();
        if let Some(error) = read_only {
            let (used, size) = self.journal.fill(self.counters().folded);
            problems.push(format!(
                "read-only: the vault cannot be changed ({error}). Free up space on the disk of {}; changes work again \
                 within a second. Until then, secrets are delivered as long as usage.journal has room to record it: {} \
                 of {} KiB are free",
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
