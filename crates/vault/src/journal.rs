//! The usage journal: records every use before its answer leaves, without a system call (promise Recorded).
//!
//! The journal is one preallocated, memory-mapped file. A header is followed by two areas, each with a generation
//! number. Records are appended to the active area. When it is full, the journal switches to the other one, provided
//! that its records have been folded into counters (`usage`).
//!
//! A record consists of whole words of 8 bytes: first its length, then its content, and last the word that commits it.
//! The commit word holds a checksum of the content and one of the place (generation and offset). So a record that was
//! cut off does not count, and neither does one that an earlier generation left behind. Damaged records are skipped and
//! reported; the records after them count. The content is sealed (`seal`), so the file shows only how many records it
//! holds and how long they are. Earlier versions wrote the content in the clear; such a file is read and replaced,
//! never continued. Folded records are not wiped: if an older copy of the vault is put back, counting starts again from
//! the position in that copy.
//!
//! The file is for the next run of the daemon. The current run keeps what it has appended in memory until it is folded
//! (`pending`), so nothing is lost if somebody truncates, overwrites or removes the file meanwhile. The next append
//! notices that before its answer leaves, and [`Journal::check`] notices it when there is no append. [`Journal::renew`]
//! then makes another file.
//!
//! Appending is serial, behind one mutex that is held briefly. If places were handed out without it, a process killed
//! in the middle of one record could hide committed records behind the gap.
//!
//! Knows nothing of counters or of the meaning of the content.

mod format;
mod pending;
mod seal;

use std::hint::black_box;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::format::{JournalHeader, area, frame, generation, read_header, record, stamp, write_header, write_record};
pub use self::pending::Pending;
use self::seal::{JournalSealer, OVERHEAD};
use guillemet_base::files::{self, FileId};
use guillemet_base::random::random;
use guillemet_base::sys::map::MappedFile;
use guillemet_secret::crypto::Key;

/// The usual length of the file, in bytes.
pub const LEN: usize = 8 << 20;
/// The largest content of a record, in bytes.
pub const CONTENT_MAX: usize = 16 << 10;

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be opened, created or written.
    #[error("the usage journal {path}: {source}. Check that you own it and that the disk is not full")]
    File {
        /// The path of the journal.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file is not a journal of this vault, or not of a known format.
    #[error(
        "the usage journal {path} {problem}; nothing was changed. Restore it from your backup, or move it away: you \
         then lose the usage that is not in the vault yet"
    )]
    Foreign {
        /// The path of the journal.
        path: PathBuf,
        /// A phrase that says what is wrong, for the message.
        problem: &'static str,
    },
}

/// Why a record was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unappended {
    /// The active area is full and the other one has not been folded yet.
    Full,
    /// The file no longer holds what was written to it. Nothing can be appended until it has been renewed.
    Lost,
}

/// A position in the journal. A fold stores one: every record before it has been counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The generation; it rises with every switch of areas.
    pub generation: u64,
    /// The offset within the area, in words of 8 bytes.
    pub at: usize,
}

struct Append {
    file: Arc<MappedFile>,
    /// The file is of an earlier version, with records in the clear; none can be added to it.
    is_clear: bool,
    is_lost: bool,
    area: usize,
    generation: u64,
    at: usize,
    /// The word before `at`, as it was written. If the file has another one there, it was changed by somebody else.
    before: u64,
    /// The other area holds records that have not been folded yet.
    other_pending: bool,
    /// The records appended since [`Journal::take`] was last called.
    pending: Pending,
    /// The number of the next record in this session.
    number: u64,
    /// The sealed record; a buffer that is reused.
    sealed: Vec<u8>,
}

impl Append {
    /// Reports whether the file still has its length and the last word that was written to it.
    fn is_whole(&self) -> bool {
        let words = self.file.words();
        // If the file was truncated, its last page is gone: reading it is how that is noticed.
        black_box(words[words.len() - 1].load(Ordering::Relaxed));
        let before = area(words, self.area)[self.at - 1].load(Ordering::Relaxed);
        // The check for a missing page has to come after the accesses of this thread.
        compiler_fence(Ordering::SeqCst);
        before == self.before && !self.file.is_lost()
    }
}

/// An open journal: the mapped file, and the records in memory that have not been folded yet.
pub struct Journal {
    path: PathBuf,
    /// The folder that the journal was opened in; `None` if it could not be determined.
    folder: Option<FileId>,
    vault_id: [u8; 16],
    id: [u8; 16],
    sealer: JournalSealer,
    start: Position,
    warnings: Vec<&'static str>,
    append: Mutex<Append>,
}

/// The result of reading a part of an area.
struct Records {
    /// The offset of the word after the last record.
    end: usize,
    /// Some words between the records belong to no record.
    damaged: bool,
}

impl Journal {
    /// Opens the journal of a vault, or creates it. `len` is the length of the file in bytes, and `key` is the vault's
    /// key for the journal. `folded_position` returns the position up to which a journal with this id has been folded;
    /// the records after it are available from [`Self::take`].
    ///
    /// # Errors
    /// [`JournalError`]; an existing file is unchanged then.
    pub fn open(
        path: &Path,
        vault_id: [u8; 16],
        key: &Key,
        len: usize,
        folded_position: impl Fn([u8; 16]) -> Position,
    ) -> Result<Self, JournalError> {
        let in_file = |source| JournalError::File { path: path.to_owned(), source };
        let foreign = |problem| JournalError::Foreign { path: path.to_owned(), problem };
        let file = match MappedFile::open(path, len, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let header = |words: &[AtomicU64]| write_header(words, vault_id, random(), 1);
                make(path, len, header, files::place).map_err(in_file)?
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(foreign("has the wrong size"));
            }
            opened => opened.map_err(in_file)?,
        };
        let words = file.words();
        let JournalHeader { id, is_clear } = read_header(words, vault_id).map_err(foreign)?;
        let (sealer, mut position, mut warnings) =
            (JournalSealer::new(key, vault_id, id), folded_position(id), Vec::new());
        let (Some(first), Some(second)) = (generation(area(words, 0)), generation(area(words, 1))) else {
            return Err(foreign("has a damaged segment"));
        };
        let (active, generation, other) = if second > first { (1, second, first) } else { (0, first, second) };
        // The areas are one generation apart, and no number of switches reaches the last generation.
        if generation != other + 1 || generation >= u64::from(u32::MAX) {
            return Err(foreign("has inconsistent segments"));
        }
        let opener = (!is_clear).then_some(&sealer);
        let (mut pending, mut newest) = (Pending::default(), Pending::default());
        // Never start before the folded position, even if the file is an older copy: records appended before it would
        // not count.
        let start = if position.generation == generation { position.at.clamp(1, area(words, active).len()) } else { 1 };
        let Records { end, mut damaged } =
            read(area(words, active), opener, generation, start, |content| newest.push(content));
        let mut other_pending = false;
        if position.generation > generation {
            warnings.push("the usage journal is older than the vault: uses recorded in between are not counted");
            position = Position { generation, at: end };
            newest = Pending::default();
        } else if position.generation < generation && other > 0 {
            if position.generation != 0 && position.generation < other {
                warnings.push(
                    "the vault is older than its usage journal: uses folded into the vault in between are not counted",
                );
            }
            let from = if position.generation == other { position.at.max(1) } else { 1 };
            let records = read(area(words, 1 - active), opener, other, from, |content| pending.push(content));
            // An area that was folded to its end is free.
            other_pending = records.end > from;
            damaged |= records.damaged;
        }
        if damaged {
            warnings.push("the usage journal is damaged: uses that cannot be read are not counted");
        }
        pending.append(&mut newest);
        let before = area(words, active)[end - 1].load(Ordering::Relaxed);
        if file.is_lost() {
            return Err(in_file(io::Error::other("part of it cannot be read")));
        }
        let append = Append {
            file: Arc::new(file),
            is_clear,
            is_lost: false,
            area: active,
            generation,
            at: end,
            before,
            other_pending,
            pending,
            number: 0,
            sealed: Vec::with_capacity(CONTENT_MAX + OVERHEAD),
        };
        let (path, folder) = (path.to_owned(), folder_of(path));
        Ok(Self { path, folder, vault_id, id, sealer, start: position, warnings, append: Mutex::new(append) })
    }

    /// Reports whether an earlier version wrote the file, with records in the clear. Nothing can be appended to it.
    pub fn is_clear(&self) -> bool {
        self.append().is_clear
    }

    /// Returns the position where counting begins: everything before it has been folded.
    pub fn begin(&self) -> Position {
        self.start
    }

    /// Returns what opening the journal found that the operator should know.
    pub fn warnings(&self) -> &[&'static str] {
        &self.warnings
    }

    /// Returns the id of this file, which positions belong to: in a file with another id they start from the beginning.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    fn append(&self) -> MutexGuard<'_, Append> {
        // A panic while it was held can have left a record uncommitted, which the next one overwrites.
        self.append.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a record of at most [`CONTENT_MAX`] bytes. Returns `true` if this switched the areas, as a hint that a
    /// fold is due.
    ///
    /// # Errors
    /// [`Unappended::Full`] until the other area has been folded, and always for a file with records in the clear.
    /// [`Unappended::Lost`] until the file has been renewed. In both cases the record does not count.
    pub fn append_record(&self, content: &[u8]) -> Result<bool, Unappended> {
        let append = &mut *self.append();
        if append.is_clear {
            return Err(Unappended::Full);
        } else if append.is_lost {
            return Err(Unappended::Lost);
        }
        let (_, words) = frame(content.len() + OVERHEAD);
        let mut switched = false;
        if append.at + words > area(append.file.words(), append.area).len() {
            if append.other_pending {
                return Err(Unappended::Full);
            }
            append.area = 1 - append.area;
            append.generation += 1;
            append.at = 1;
            append.before = stamp(append.generation);
            append.other_pending = true;
            area(append.file.words(), append.area)[0].store(append.before, Ordering::Release);
            switched = true;
        }
        let number = append.number;
        append.number += 1;
        let position = Position { generation: append.generation, at: append.at };
        self.sealer.seal(number, position, content, &mut append.sealed);
        let area = area(append.file.words(), append.area);
        let committed = write_record(area, position.generation, position.at, &append.sealed);
        if !append.is_whole() {
            append.is_lost = true;
            return Err(Unappended::Lost);
        }
        append.at += words;
        append.before = committed;
        append.pending.push(content);
        Ok(switched)
    }

    /// Moves into `pending`, in order, the records that were appended, or found when the journal was opened, since the
    /// last call. Returns the position after them.
    pub fn take(&self, pending: &mut Pending) -> Position {
        let mut append = self.append();
        pending.append(&mut append.pending);
        Position { generation: append.generation, at: append.at }
    }

    /// Notes that everything before a position has been folded, permanently.
    pub fn folded(&self, position: Position) {
        let mut append = self.append();
        if position.generation == append.generation {
            append.other_pending = false;
        }
    }

    /// Returns how many bytes the records after `folded` take, and how many bytes the journal has for records.
    pub fn fill(&self, folded: Position) -> (usize, usize) {
        let append = self.append();
        let area = area(append.file.words(), 0).len();
        let used = match append.generation.checked_sub(folded.generation) {
            Some(0) => append.at.saturating_sub(folded.at),
            Some(1) => area.saturating_sub(folded.at) + append.at,
            _ if append.other_pending => area + append.at,
            _ => append.at,
        };
        (used * 8, area * 2 * 8)
    }

    /// Waits until all records are on disk.
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn sync(&self) -> io::Result<()> {
        let file = Arc::clone(&self.append().file);
        file.sync()
    }

    /// Checks that the file is still in place: same length, same name, and the last word that was written to it. If
    /// not, nothing can be appended until [`Self::renew`]. Returns `true` if the file is good.
    pub fn check(&self) -> bool {
        let file = Arc::clone(&self.append().file);
        // Done without the lock, because a file system can make this wait.
        let is_in_place = self.is_in_place(&file);
        let mut append = self.append();
        if Arc::ptr_eq(&file, &append.file) && !is_in_place || !append.is_whole() {
            append.is_lost = true;
        }
        !append.is_lost
    }

    fn is_in_place(&self, file: &MappedFile) -> bool {
        let Ok(metadata) = file.metadata() else { return true };
        let is_named = || FileId::of_name(&self.path).ok() == Some(FileId::from_metadata(&metadata));
        // A home that was moved took its journal along, so a file under the old path is not this journal.
        metadata.len() == (file.words().len() * 8) as u64 && (!self.is_in_its_folder() || is_named())
    }

    fn is_in_its_folder(&self) -> bool {
        self.folder.is_some() && folder_of(&self.path) == self.folder
    }

    /// Replaces a file that is lost, or whose records are in the clear, with a new one. The caller has folded
    /// everything in it. Records in the clear are wiped. Returns the position at which the new file begins, or `None`
    /// if the present file is good.
    ///
    /// The new file has the same id, and its positions come after those of the old one, so a crash before they are
    /// stored counts nothing twice.
    ///
    /// # Errors
    /// [`JournalError::File`]; nothing has changed then.
    pub fn renew(&self) -> Result<Option<Position>, JournalError> {
        let append = &mut *self.append();
        if !append.is_lost && !append.is_clear {
            return Ok(None);
        }
        let in_file = |source| JournalError::File { path: self.path.clone(), source };
        if !self.is_in_its_folder() {
            return Err(in_file(io::Error::other("its folder is missing, or another folder has its name")));
        }
        let (len, generation) = (append.file.words().len() * 8, append.generation + 1);
        let header = |words: &[AtomicU64]| write_header(words, self.vault_id, self.id, generation);
        let replacement = make(&self.path, len, header, files::place_over).map_err(in_file)?;
        let previous = std::mem::replace(&mut append.file, Arc::new(replacement));
        if append.is_clear {
            // The file has no name any more, and zeros in it reveal nothing if the disk keeps the blocks.
            previous.words().iter().for_each(|word| word.store(0, Ordering::Relaxed));
            let _ = previous.sync();
        }
        (append.is_clear, append.is_lost, append.other_pending) = (false, false, false);
        (append.area, append.generation, append.at, append.before) = (0, generation, 1, stamp(generation));
        Ok(Some(Position { generation, at: 1 }))
    }
}

fn folder_of(path: &Path) -> Option<FileId> {
    FileId::of(path.parent()?).ok()
}

/// Calls `visit` with the committed records of an area from `at` on, and skips words that belong to none. Without a
/// sealer the records are in the clear.
fn read(
    words: &[AtomicU64],
    sealer: Option<&JournalSealer>,
    generation: u64,
    at: usize,
    mut visit: impl FnMut(&[u8]),
) -> Records {
    let mut records = Records { end: at, damaged: false };
    let mut content = Vec::with_capacity(CONTENT_MAX + OVERHEAD);
    let mut opener = sealer.map(JournalSealer::opener);
    let mut offset = at;
    while offset < words.len() {
        let Some(len) = record(words, generation, offset, &mut content) else {
            offset += 1;
            continue;
        };
        let position = Position { generation, at: offset };
        let plaintext = match &mut opener {
            Some(opener) => opener.open(position, &mut content),
            None => Some(content.as_slice()),
        };
        let Some(plaintext) = plaintext else {
            offset += 1;
            continue;
        };
        visit(plaintext);
        records.damaged |= offset > records.end;
        offset += len;
        records.end = offset;
    }
    records
}

/// Creates a journal file, whole or not at all.
fn make(
    path: &Path,
    len: usize,
    write_header: impl FnOnce(&[AtomicU64]),
    install: impl FnOnce(&Path, &Path) -> io::Result<()>,
) -> io::Result<MappedFile> {
    let temporary = files::beside(path);
    let _ = std::fs::remove_file(&temporary);
    let result = MappedFile::open(&temporary, len, true).and_then(|file| {
        write_header(file.words());
        file.sync()?;
        if file.is_lost() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        install(&temporary, path)?;
        Ok(file)
    });
    result.inspect_err(|_| {
        let _ = std::fs::remove_file(&temporary);
    })
}

#[cfg(test)]
mod tests;
