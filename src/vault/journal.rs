//! The usage journal: what was resolved, recorded before the answer leaves, without a system call.
//!
//! One preallocated file, mapped. After a header come two areas, each with a generation number; records
//! are appended to the active one, and when it is full, to the other, once that has been folded into
//! counters (`usage`). A record is whole words: its length first, its content, and last the word that
//! commits it, which holds a checksum of the content and one of the place (generation and offset). So a
//! record that was cut off does not count, and neither does one that an earlier generation left. What is
//! damaged is skipped and told of; the records behind it count. The content is sealed (`seal`): the file shows
//! how many records there are, of what length. Earlier versions wrote it in the clear; such a file is read and
//! replaced, never continued. What has been folded is not wiped: where an older copy of the vault is put back, it
//! counts again from there.
//!
//! The file is for the next run: this one keeps what it has appended in memory until it has been folded (`pending`).
//! So nothing is lost with a file that somebody cuts off, overwrites or removes meanwhile. That is noticed with the next
//! record, before its answer leaves, and `check` notices it where none comes; `renew` makes another file then.
//!
//! Appending is serial, behind one short mutex: were places handed out without it, a process killed in
//! the middle of one record could hide committed ones behind the hole.
//!
//! Knows nothing of counters or of what the content means.

mod format;
mod pending;
mod seal;

use std::hint::black_box;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::format::{Header, area, frame, generation, read_header, record, stamp, write_header, write_record};
pub use self::pending::Pending;
use self::seal::{OVERHEAD, Sealer};
use super::crypto::Key;
use crate::files::{self, FileId};
use crate::random::random;
use crate::sys::map::MappedFile;

/// The usual length of the file, in bytes.
pub const LEN: usize = 8 << 20;
/// The largest content of a record, in bytes.
pub const CONTENT_MAX: usize = 16 << 10;

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be opened, made or written.
    #[error("the usage journal {path}: {source}. Check that it is yours and that the disk has room")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not a journal of this vault and format.
    #[error(
        "the usage journal {path} {problem}; nothing was changed. Put it back from your backup, or move it away: \
             usage that was not folded into the vault is lost then"
    )]
    Foreign {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
}

/// Why a record was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unappended {
    /// There is no room until the other area has been folded.
    Full,
    /// The file is not what was written to it any more, and takes nothing until it has been renewed.
    Lost,
}

/// A place in the journal: everything before it has been folded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The generation; rises with every switch of areas.
    pub generation: u64,
    /// The word within its area.
    pub at: usize,
}

struct Append {
    file: Arc<MappedFile>,
    /// The records of the file are in the clear, and no other is added.
    is_clear: bool,
    is_lost: bool,
    area: usize,
    generation: u64,
    at: usize,
    /// The word before `at`, as it was written: another one there is another file's.
    before: u64,
    /// The other area holds records that have not been folded.
    other_pending: bool,
    /// Since they were taken last.
    pending: Pending,
    /// The number of the next record in this session.
    number: u64,
    /// It, sealed: a buffer that is used again.
    sealed: Vec<u8>,
}

impl Append {
    /// Whether the file is as long as it was, and holds what was written to it last.
    fn is_whole(&self) -> bool {
        let words = self.file.words();
        // Where the file was made shorter, there is no last page: to read it is to find out.
        black_box(words[words.len() - 1].load(Ordering::Relaxed));
        let before = area(words, self.area)[self.at - 1].load(Ordering::Relaxed);
        // Whether a page was missing is asked after each access of this thread.
        compiler_fence(Ordering::SeqCst);
        before == self.before && !self.file.is_lost()
    }
}

/// An open journal.
pub struct Journal {
    path: PathBuf,
    /// Which folder it was opened in.
    folder: Option<FileId>,
    vault_id: [u8; 16],
    id: [u8; 16],
    sealer: Sealer,
    begin: Position,
    warnings: Vec<&'static str>,
    append: Mutex<Append>,
}

/// What a part of an area holds.
struct Records {
    /// The word behind the last one.
    end: usize,
    /// Something between them is none.
    damaged: bool,
}

impl Journal {
    /// Opens the journal of a vault, or makes one. `len` is the file's length in bytes; `key` is the vault's for
    /// this use. The records in it that are not before what `folded` says of its id are there to be taken.
    ///
    /// # Errors
    /// `JournalError`; what is there is not changed then.
    pub fn open(
        path: &Path,
        vault_id: [u8; 16],
        key: &Key,
        len: usize,
        folded: impl Fn([u8; 16]) -> Position,
    ) -> Result<Self, JournalError> {
        let in_file = |source| JournalError::File { path: path.to_owned(), source };
        let foreign = |problem| JournalError::Foreign { path: path.to_owned(), problem };
        let file = match MappedFile::open(path, len, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let header = |words: &[AtomicU64]| write_header(words, vault_id, random(), 1);
                make(path, len, header, files::place).map_err(in_file)?
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(foreign("has not the length of one"));
            }
            opened => opened.map_err(in_file)?,
        };
        let words = file.words();
        let Header { id, is_clear } = read_header(words, vault_id).map_err(foreign)?;
        let (sealer, mut begin, mut warnings) = (Sealer::new(key, vault_id, id), folded(id), Vec::new());
        let (Some(first), Some(second)) = (generation(area(words, 0)), generation(area(words, 1))) else {
            return Err(foreign("has a damaged area"));
        };
        let (active, generation, other) = if second > first { (1, second, first) } else { (0, first, second) };
        // No number of switches leads to the last one.
        if generation != other + 1 || generation >= u64::from(u32::MAX) {
            return Err(foreign("has impossible areas"));
        }
        let opener = (!is_clear).then_some(&sealer);
        let (mut pending, mut newest) = (Pending::default(), Pending::default());
        // Never before what has been folded, even where the file is an older copy: what follows would not count.
        let start = if begin.generation == generation { begin.at.clamp(1, area(words, active).len()) } else { 1 };
        let Records { end, mut damaged } =
            read(area(words, active), opener, generation, start, |content| newest.push(content));
        let mut other_pending = false;
        if begin.generation > generation {
            warnings.push("the usage journal is older than the vault: what it recorded since then is not counted");
            begin = Position { generation, at: end };
            newest = Pending::default();
        } else if begin.generation < generation && other > 0 {
            if begin.generation != 0 && begin.generation < other {
                warnings.push("the vault is older than its usage journal: what was folded since then is not counted");
            }
            let from = if begin.generation == other { begin.at.max(1) } else { 1 };
            let records = read(area(words, 1 - active), opener, other, from, |content| pending.push(content));
            // An area that was folded to its end is free.
            other_pending = records.end > from;
            damaged |= records.damaged;
        }
        if damaged {
            warnings.push("the usage journal is damaged: what cannot be read of it is not counted");
        }
        pending.append(&mut newest);
        let before = area(words, active)[end - 1].load(Ordering::Relaxed);
        if file.is_lost() {
            return Err(in_file(io::Error::other("a part of it cannot be read")));
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
        Ok(Self { path, folder, vault_id, id, sealer, begin, warnings, append: Mutex::new(append) })
    }

    /// Whether an earlier version wrote it, with records in the clear: nothing can be appended then.
    pub fn is_clear(&self) -> bool {
        self.append().is_clear
    }

    /// Where counting begins: everything before has been folded.
    pub fn begin(&self) -> Position {
        self.begin
    }

    /// What was found that people have to know.
    pub fn warnings(&self) -> &[&'static str] {
        &self.warnings
    }

    /// Names this file: a new one begins its positions anew.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    fn append(&self) -> MutexGuard<'_, Append> {
        // A panic while it was held can have left a record uncommitted, which the next one overwrites.
        self.append.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a record. Whether the areas were switched is told, as a hint that folding is due.
    ///
    /// `content` has at most `CONTENT_MAX` bytes.
    ///
    /// # Errors
    /// `Full` until the other area has been folded; always, where records are in the clear. `Lost` until the file has
    /// been renewed. The record does not count then.
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
        let place = Position { generation: append.generation, at: append.at };
        self.sealer.seal(number, place, content, &mut append.sealed);
        let area = area(append.file.words(), append.area);
        let committed = write_record(area, place.generation, place.at, &append.sealed);
        if !append.is_whole() {
            append.is_lost = true;
            return Err(Unappended::Lost);
        }
        append.at += words;
        append.before = committed;
        append.pending.push(content);
        Ok(switched)
    }

    /// Adds to `into` what has been appended, or found at the opening, since this was called last, in order. Returns
    /// the position behind it.
    pub fn take(&self, into: &mut Pending) -> Position {
        let mut append = self.append();
        into.append(&mut append.pending);
        Position { generation: append.generation, at: append.at }
    }

    /// Says that everything before a position has been folded, for good.
    pub fn folded(&self, position: Position) {
        let mut append = self.append();
        if position.generation == append.generation {
            append.other_pending = false;
        }
    }

    /// How many bytes hold what is not before `folded`, and how many there are for records.
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

    /// Waits until all records are on the disk.
    ///
    /// # Errors
    /// The system's.
    pub fn sync(&self) -> io::Result<()> {
        let file = Arc::clone(&self.append().file);
        file.sync()
    }

    /// Looks whether the file is still there: of its length, under its name, with what was written to it last. Where it
    /// is not, nothing is appended until `renew`. Returns whether it is.
    pub fn check(&self) -> bool {
        let file = Arc::clone(&self.append().file);
        // Not under the lock: a file system may let it wait.
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
        // A home that was moved took its journal along: what lies under the path is not this one's.
        metadata.len() == (file.words().len() * 8) as u64 && (!self.is_in_its_folder() || is_named())
    }

    fn is_in_its_folder(&self) -> bool {
        self.folder.is_some() && folder_of(&self.path) == self.folder
    }

    /// Puts a new file in the place of one that is lost, or in the clear, all of which has been folded; what is in the
    /// clear is wiped. Returns the position it begins at; `None` where the file is good.
    ///
    /// The new one has the id of this one, and positions in it follow: a crash before they are noted counts nothing
    /// twice.
    ///
    /// # Errors
    /// `JournalError::File`; nothing has changed then.
    pub fn renew(&self) -> Result<Option<Position>, JournalError> {
        let append = &mut *self.append();
        if !append.is_lost && !append.is_clear {
            return Ok(None);
        }
        let in_file = |source| JournalError::File { path: self.path.clone(), source };
        if !self.is_in_its_folder() {
            return Err(in_file(io::Error::other("its folder is gone, or another one lies there")));
        }
        let (len, generation) = (append.file.words().len() * 8, append.generation + 1);
        let header = |words: &[AtomicU64]| write_header(words, self.vault_id, self.id, generation);
        let made = make(&self.path, len, header, files::place_over).map_err(in_file)?;
        let former = std::mem::replace(&mut append.file, Arc::new(made));
        if append.is_clear {
            // The file has no name any more; what the disk keeps of it says nothing.
            former.words().iter().for_each(|word| word.store(0, Ordering::Relaxed));
            let _ = former.sync();
        }
        (append.is_clear, append.is_lost, append.other_pending) = (false, false, false);
        (append.area, append.generation, append.at, append.before) = (0, generation, 1, stamp(generation));
        Ok(Some(Position { generation, at: 1 }))
    }
}

fn folder_of(path: &Path) -> Option<FileId> {
    FileId::of(path.parent()?).ok()
}

/// Calls `each` with the committed records of an area from `at` on, and passes over what is none. Without a sealer they
/// are in the clear.
fn read(
    words: &[AtomicU64],
    sealer: Option<&Sealer>,
    generation: u64,
    at: usize,
    mut each: impl FnMut(&[u8]),
) -> Records {
    let mut records = Records { end: at, damaged: false };
    let mut content = Vec::with_capacity(CONTENT_MAX + OVERHEAD);
    let mut opener = sealer.map(Sealer::opener);
    let mut here = at;
    while here < words.len() {
        let Some(len) = record(words, generation, here, &mut content) else {
            here += 1;
            continue;
        };
        let place = Position { generation, at: here };
        let opened = match &mut opener {
            Some(opener) => opener.open(place, &mut content),
            None => Some(content.as_slice()),
        };
        let Some(opened) = opened else {
            here += 1;
            continue;
        };
        each(opened);
        records.damaged |= here > records.end;
        here += len;
        records.end = here;
    }
    records
}

/// Makes a journal, whole or not at all.
fn make(
    path: &Path,
    len: usize,
    write_header: impl FnOnce(&[AtomicU64]),
    place: impl FnOnce(&Path, &Path) -> io::Result<()>,
) -> io::Result<MappedFile> {
    let temporary = files::beside(path);
    let _ = std::fs::remove_file(&temporary);
    let made = MappedFile::open(&temporary, len, true).and_then(|file| {
        write_header(file.words());
        file.sync()?;
        if file.is_lost() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        place(&temporary, path)?;
        Ok(file)
    });
    made.inspect_err(|_| {
        let _ = std::fs::remove_file(&temporary);
    })
}

#[cfg(test)]
mod tests;
