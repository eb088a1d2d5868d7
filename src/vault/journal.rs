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
//! Appending is serial, behind one short mutex: were places handed out without it, a process killed in
//! the middle of one record could hide committed ones behind the hole.
//!
//! Knows nothing of counters or of what the content means.

mod seal;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use self::seal::{OVERHEAD, Sealer};
use super::crypto::{self, Key};
use crate::files;
use crate::sys::map::MappedFile;

/// "guil-jrn".
const MAGIC: u64 = u64::from_le_bytes(*b"guil-jrn");
/// The format of the file.
const FORMAT: u64 = 2;
/// The format before, with records in the clear.
const CLEAR_FORMAT: u64 = 1;
/// Words of the header: one page.
const HEADER_WORDS: usize = 512;
/// Words of the header that say something; a checksum of them follows.
const HEADER_LEN: usize = 6;
/// The usual length of the file, in bytes.
pub const LEN: usize = 8 << 20;
/// The largest content of a record, in bytes.
pub const CONTENT_MAX: usize = 16 << 10;
/// Length and commit word of a record.
const FRAME_WORDS: usize = 2;

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

/// There is no room until the other area has been folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A place in the journal: everything before it has been folded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The generation; rises with every switch of areas.
    pub generation: u64,
    /// The word within its area.
    pub at: usize,
}

struct Append {
    area: usize,
    generation: u64,
    at: usize,
    /// The other area holds records that have not been folded.
    other_pending: bool,
    /// The number of the next record in this session.
    number: u64,
    /// It, sealed: a buffer that is used again.
    sealed: Vec<u8>,
}

impl Append {
    fn new(area: usize, generation: u64, at: usize, other_pending: bool) -> Self {
        Self { area, generation, at, other_pending, number: 0, sealed: Vec::with_capacity(CONTENT_MAX + OVERHEAD) }
    }
}

/// An open journal.
pub struct Journal {
    file: MappedFile,
    vault_id: [u8; 16],
    id: [u8; 16],
    sealer: Sealer,
    /// The records are in the clear, and no other is added.
    clear: bool,
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
    /// this use.
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
        let file = match MappedFile::open(path, len, false) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(path, len, |words| write_header(words, vault_id, crypto::random(), 1)).map_err(in_file)?
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(JournalError::Foreign { path: path.to_owned(), problem: "has not the length of one" });
            }
            Err(source) => return Err(in_file(source)),
        };
        let foreign = |problem| Err(JournalError::Foreign { path: path.to_owned(), problem });
        let words = file.words();
        let read = |at: usize| words[at].load(Ordering::Relaxed);
        if read(0) != MAGIC {
            return foreign("is not one");
        } else if read(HEADER_LEN) != header_checksum(words) {
            return foreign("has a damaged beginning");
        } else if ![FORMAT, CLEAR_FORMAT].contains(&read(1)) {
            return foreign("was written by another version of guillemet");
        } else if bytes16(read(2), read(3)) != vault_id {
            return foreign("belongs to another vault");
        }
        let id = bytes16(read(4), read(5));
        let clear = read(1) == CLEAR_FORMAT;
        let (sealer, begin) = (Sealer::new(key, vault_id, id), folded(id));
        let append = Mutex::new(Append::new(0, 1, 1, false));
        let mut journal = Self { file, vault_id, id, sealer, clear, begin, warnings: Vec::new(), append };
        let (Some(first), Some(second)) = (journal.generation(0), journal.generation(1)) else {
            return foreign("has a damaged area");
        };
        let (area, generation, other) = if second > first { (1, second, first) } else { (0, first, second) };
        // No number of switches leads to the last one.
        if generation != other + 1 || generation >= u64::from(u32::MAX) {
            return foreign("has impossible areas");
        }
        // Never before what has been folded, even where the file is an older copy: what follows would not count.
        let start = if begin.generation == generation { begin.at.max(1) } else { 1 };
        let Records { end, mut damaged } = journal.read(area, generation, start, usize::MAX, |_| {});
        let mut other_pending = false;
        if begin.generation > generation {
            journal
                .warnings
                .push("the usage journal is older than the vault: what it recorded since then is not counted");
            journal.begin = Position { generation, at: end };
        } else if begin.generation < generation && other > 0 {
            if begin.generation != 0 && begin.generation < other {
                journal
                    .warnings
                    .push("the vault is older than its usage journal: what was folded since then is not counted");
            }
            let from = if begin.generation == other { begin.at.max(1) } else { 1 };
            let records = journal.read(1 - area, other, from, usize::MAX, |_| {});
            // An area that was folded to its end is free.
            other_pending = records.end > from;
            damaged |= records.damaged;
        }
        if damaged {
            journal.warnings.push("the usage journal is damaged: what cannot be read of it is not counted");
        }
        *journal.append() = Append::new(area, generation, end, other_pending);
        Ok(journal)
    }

    /// Whether an earlier version wrote it, with records in the clear: nothing can be appended then.
    pub fn is_clear(&self) -> bool {
        self.clear
    }

    /// Puts a sealed journal in the place of this one, all of which has been folded, and wipes what this one holds.
    /// The new one has its id, and positions in it follow those in this one: a crash before they are noted counts
    /// nothing twice.
    ///
    /// # Errors
    /// `JournalError::File`; this one stays in its place then.
    pub fn into_sealed(self, path: &Path, key: &Key) -> Result<Self, JournalError> {
        let len = self.file.words().len() * 8;
        let generation = self.append().generation + 1;
        let header = |words: &[AtomicU64]| write_header(words, self.vault_id, self.id, generation);
        make(path, len, header).map_err(|source| JournalError::File { path: path.to_owned(), source })?;
        // The file has no name any more; what the disk keeps of it says nothing.
        self.file.words().iter().for_each(|word| word.store(0, Ordering::Relaxed));
        let _ = self.file.sync();
        let begin = Position { generation, at: 1 };
        Self::open(path, self.vault_id, key, len, |_| begin)
    }

    /// Where counting begins: everything before has been folded.
    pub fn begin(&self) -> Position {
        self.begin
    }

    /// What was found that people have to know.
    pub fn warnings(&self) -> &[&'static str] {
        &self.warnings
    }

    /// The generation of an area; `None` where it is damaged.
    fn generation(&self, area: usize) -> Option<u64> {
        let word = self.area(area)[0].load(Ordering::Acquire);
        let generation = word & u64::from(u32::MAX);
        (word == stamp(generation)).then_some(generation)
    }

    /// Names this file: a new one begins its positions anew.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    fn append(&self) -> MutexGuard<'_, Append> {
        // A panic while it was held can have left a record uncommitted, which the next one overwrites.
        self.append.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn area(&self, index: usize) -> &[AtomicU64] {
        let words = &self.file.words()[HEADER_WORDS..];
        let len = words.len() / 2;
        &words[index * len..(index + 1) * len]
    }

    /// Appends a record. Whether the areas were switched is told, as a hint that folding is due.
    ///
    /// `content` has at most `CONTENT_MAX` bytes.
    ///
    /// # Errors
    /// `Full` until the other area has been folded; always, where records are in the clear.
    pub fn append_record(&self, content: &[u8]) -> Result<bool, Full> {
        if self.clear {
            return Err(Full);
        }
        let len = content.len() + OVERHEAD;
        let words = len.div_ceil(8) + FRAME_WORDS;
        let head = (words as u64) | ((len as u64) << 32);
        let append = &mut *self.append();
        let mut switched = false;
        if append.at + words > self.area(append.area).len() {
            if append.other_pending {
                return Err(Full);
            }
            append.area = 1 - append.area;
            append.generation += 1;
            append.at = 1;
            append.other_pending = true;
            self.area(append.area)[0].store(stamp(append.generation), Ordering::Release);
            switched = true;
        }
        let number = append.number;
        append.number += 1;
        let position = Position { generation: append.generation, at: append.at };
        self.sealer.seal(number, position, content, &mut append.sealed);
        let checksum = crc32fast::hash(&append.sealed);
        let place = &self.area(append.area)[append.at..append.at + words];
        place[0].store(head, Ordering::Relaxed);
        for (word, bytes) in place[1..].iter().zip(append.sealed.chunks(8)) {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_le_bytes(padded), Ordering::Relaxed);
        }
        // Last, and ordered after the others: from here on the record counts, whatever becomes of this process.
        place[words - 1].store(commit_word(checksum, append.generation, append.at, head), Ordering::Release);
        append.at += words;
        Ok(switched)
    }

    /// Calls `each` with every record that is committed and not before `folded`, in order; returns the
    /// position behind the last.
    pub fn records(&self, folded: Position, mut each: impl FnMut(&[u8])) -> Position {
        let (area, generation, at, other_pending) = {
            let append = self.append();
            (append.area, append.generation, append.at, append.other_pending)
        };
        let begin = |generation: u64| if folded.generation == generation { folded.at.max(1) } else { 1 };
        let mut pass = |area: usize, generation: u64, end: usize| {
            self.read(area, generation, begin(generation), end, &mut each);
        };
        if other_pending {
            pass(1 - area, generation - 1, usize::MAX);
        }
        pass(area, generation, at);
        Position { generation, at }
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
        let area = self.area(0).len();
        let used = match append.generation.checked_sub(folded.generation) {
            Some(0) => append.at.saturating_sub(folded.at),
            Some(1) => area.saturating_sub(folded.at) + append.at,
            _ if append.other_pending => area + append.at,
            _ => append.at,
        };
        (used * 8, area * 2 * 8)
    }

    /// Calls `each` with the committed records from `at` up to `end`, and passes over what is none.
    fn read(&self, area: usize, generation: u64, at: usize, end: usize, mut each: impl FnMut(&[u8])) -> Records {
        let words = self.area(area);
        let words = &words[..end.min(words.len())];
        let mut records = Records { end: at, damaged: false };
        let mut content = Vec::with_capacity(CONTENT_MAX + OVERHEAD);
        let mut opener = self.sealer.opener();
        let mut here = at;
        while here < words.len() {
            let Some(len) = record(words, generation, here, &mut content) else {
                here += 1;
                continue;
            };
            let place = Position { generation, at: here };
            let opened = if self.clear { Some(content.as_slice()) } else { opener.open(place, &mut content) };
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

    /// Waits until all records are on the disk.
    ///
    /// # Errors
    /// The system's.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

/// Reads the record at a word into `content`: its length in words; `None` where there is none that is
/// committed.
fn record(words: &[AtomicU64], generation: u64, at: usize, content: &mut Vec<u8>) -> Option<usize> {
    let head = words[at].load(Ordering::Acquire);
    let (len, bytes) = ((head & 0xffff_ffff) as usize, (head >> 32) as usize);
    if bytes > CONTENT_MAX + OVERHEAD || len != bytes.div_ceil(8) + FRAME_WORDS || at + len > words.len() {
        return None;
    }
    let committed = words[at + len - 1].load(Ordering::Acquire);
    if committed & u64::from(u32::MAX) != commit_word(0, generation, at, head) {
        return None;
    }
    content.clear();
    for word in &words[at + 1..at + len - 1] {
        content.extend_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
    }
    content.truncate(bytes);
    (committed >> 32 == u64::from(crc32fast::hash(content))).then_some(len)
}

/// A generation as its area holds it: with a checksum. A file begins with zeros.
fn stamp(generation: u64) -> u64 {
    match generation {
        0 => 0,
        _ => generation | (u64::from(crc32fast::hash(&generation.to_le_bytes())) << 32),
    }
}

fn commit_word(content: u32, generation: u64, at: usize, head: u64) -> u64 {
    let mut place = crc32fast::Hasher::new();
    place.update(&generation.to_le_bytes());
    place.update(&(at as u64).to_le_bytes());
    place.update(&head.to_le_bytes());
    (u64::from(content) << 32) | u64::from(place.finalize())
}

/// Writes the header of an empty journal whose records begin with this generation, from 1.
fn write_header(words: &[AtomicU64], vault_id: [u8; 16], id: [u8; 16], generation: u64) {
    let put = |at: usize, bytes: [u8; 16]| {
        let (low, high) = bytes.split_at(8);
        words[at].store(u64::from_le_bytes(low.try_into().unwrap_or_default()), Ordering::Relaxed);
        words[at + 1].store(u64::from_le_bytes(high.try_into().unwrap_or_default()), Ordering::Relaxed);
    };
    words[1].store(FORMAT, Ordering::Relaxed);
    put(2, vault_id);
    put(4, id);
    let second = HEADER_WORDS + (words.len() - HEADER_WORDS) / 2;
    words[HEADER_WORDS].store(stamp(generation), Ordering::Relaxed);
    words[second].store(stamp(generation - 1), Ordering::Relaxed);
    words[0].store(MAGIC, Ordering::Relaxed);
    words[HEADER_LEN].store(header_checksum(words), Ordering::Relaxed);
}

fn header_checksum(words: &[AtomicU64]) -> u64 {
    let mut checksum = crc32fast::Hasher::new();
    for word in &words[..HEADER_LEN] {
        checksum.update(&word.load(Ordering::Relaxed).to_le_bytes());
    }
    checksum.finalize().into()
}

/// Makes a journal, whole or not at all.
fn make(path: &Path, len: usize, write_header: impl FnOnce(&[AtomicU64])) -> io::Result<MappedFile> {
    let temporary = files::beside(path);
    let _ = std::fs::remove_file(&temporary);
    let made = MappedFile::open(&temporary, len, true).and_then(|file| {
        write_header(file.words());
        file.sync()?;
        files::place(&temporary, path)?;
        Ok(file)
    });
    made.inspect_err(|_| {
        let _ = std::fs::remove_file(&temporary);
    })
}

fn bytes16(low: u64, high: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&low.to_le_bytes());
    bytes[8..].copy_from_slice(&high.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VAULT: [u8; 16] = [3; 16];
    const SMALL: usize = 4096 + 2 * 1024;

    fn try_open(path: &Path, vault: [u8; 16], folded: Position) -> Result<Journal, JournalError> {
        Journal::open(path, vault, &Key::from_bytes(&mut [5; 32]), SMALL, |_| folded)
    }

    fn open(path: &Path) -> Journal {
        try_open(path, VAULT, Position::default()).unwrap()
    }

    fn all(journal: &Journal, from: Position) -> (Vec<Vec<u8>>, Position) {
        let mut records = Vec::new();
        let position = journal.records(from, |content| records.push(content.to_vec()));
        (records, position)
    }

    #[test]
    fn a_foreign_or_damaged_file_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        drop(open(&path));
        let good = std::fs::read(&path).unwrap();
        let mut other_format = good.clone();
        other_format[8] = 9;
        let mut no_magic = good.clone();
        no_magic[0] = b'x';
        for bad in [b"short".to_vec(), other_format, no_magic, vec![0xff; SMALL]] {
            std::fs::write(&path, &bad).unwrap();
            let opened = try_open(&path, VAULT, Position::default());
            assert!(matches!(opened, Err(JournalError::Foreign { .. })));
            assert_eq!(std::fs::read(&path).unwrap(), bad);
        }
        std::fs::write(&path, &good).unwrap();
        assert!(try_open(&path, [4; 16], Position::default()).is_err());
        open(&path);
    }

    #[test]
    fn a_full_journal_says_so_until_it_is_folded() {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(&dir.path().join("journal"));
        let mut written = 0;
        while journal.append_record(b"0123456789").is_ok() {
            written += 1;
        }
        let (records, position) = all(&journal, Position::default());
        assert_eq!(records.len(), written);
        assert_eq!(journal.append_record(b"0123456789"), Err(Full));
        journal.folded(position);
        assert_eq!(journal.append_record(b"0123456789"), Ok(true));
        assert_eq!(all(&journal, position).0, [b"0123456789".to_vec()]);
    }

    #[test]
    fn a_record_that_was_cut_off_at_any_word_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let journal = open(&path);
        journal.append_record(b"first record").unwrap();
        let before = std::fs::read(&path).unwrap();
        journal.append_record(b"second record, a longer one").unwrap();
        drop(journal);
        let after = std::fs::read(&path).unwrap();
        let changed: Vec<usize> =
            (0..SMALL / 8).filter(|word| before[word * 8..][..8] != after[word * 8..][..8]).collect();
        for cut in 0..changed.len() {
            let mut torn = before.clone();
            for word in &changed[..cut] {
                torn[word * 8..][..8].copy_from_slice(&after[word * 8..][..8]);
            }
            std::fs::write(&path, torn).unwrap();
            let journal = open(&path);
            assert_eq!(all(&journal, Position::default()).0, [b"first record".to_vec()], "cut after {cut} words");
            // And the next one takes its place.
            journal.append_record(b"third").unwrap();
            assert_eq!(all(&journal, Position::default()).0.len(), 2);
        }
    }

    proptest! {
        /// Appending, folding, closing and opening in any order: every record is seen exactly once.
        #[test]
        fn every_record_is_folded_exactly_once(steps in proptest::collection::vec((0..4u8, 0..60usize), 1..80)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("journal");
            let mut journal = open(&path);
            let (mut position, mut expected, mut seen, mut number) = (Position::default(), Vec::new(), Vec::new(), 0u64);
            for (step, len) in steps {
                match step {
                    0 => {
                        let (records, to) = all(&journal, position);
                        seen.extend(records);
                        position = to;
                        journal.folded(to);
                    }
                    1 => {
                        drop(journal);
                        journal = try_open(&path, VAULT, position).unwrap();
                    }
                    _ => {
                        number += 1;
                        let content = [number.to_le_bytes().as_slice(), &vec![7; len]].concat();
                        if journal.append_record(&content).is_ok() {
                            expected.push(content);
                        }
                    }
                }
            }
            seen.extend(all(&journal, position).0);
            prop_assert_eq!(seen, expected);
        }

        /// A flipped bit never panics, and never makes records that were not there.
        #[test]
        fn a_flipped_bit_invents_nothing(at in 0..SMALL, bit in 0..8u8) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("journal");
            let journal = open(&path);
            let written: Vec<Vec<u8>> = (0..20u8).map(|n| vec![n; 1 + usize::from(n)]).filter(|content| journal.append_record(content).is_ok()).collect();
            drop(journal);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[at] ^= 1 << bit;
            std::fs::write(&path, bytes).unwrap();
            if let Ok(journal) = try_open(&path, VAULT, Position::default()) {
                let (read, _) = all(&journal, Position::default());
                prop_assert!(read.iter().all(|record| written.contains(record)));
            }
        }
    }
}
