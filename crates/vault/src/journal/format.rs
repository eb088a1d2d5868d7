//! The layout of the journal file in words: header, areas and the frames of records. Knows nothing of keys, or of the
//! order of areas and records.

use std::sync::atomic::{AtomicU64, Ordering};

use super::CONTENT_MAX;
use super::seal::OVERHEAD;

/// The first word of the file.
const MAGIC: u64 = u64::from_le_bytes(*b"guil-jrn");
/// The format that is written.
const FORMAT: u64 = 2;
/// The earlier format, with records in the clear; it is only read.
const CLEAR_FORMAT: u64 = 1;
/// Words of the header, which fills one page.
const HEADER_WORDS: usize = 512;
/// Words of the header in use; a checksum of them follows.
const HEADER_LEN: usize = 6;
/// The length word and the commit word of a record.
const FRAME_WORDS: usize = 2;

/// The part of the header that a reader needs.
pub(super) struct JournalHeader {
    /// The id of the file.
    pub(super) id: [u8; 16],
    /// The records are in the clear.
    pub(super) is_clear: bool,
}

/// Reads and checks the header. The error is a phrase that says why it is not one of this vault.
pub(super) fn read_header(words: &[AtomicU64], vault_id: [u8; 16]) -> Result<JournalHeader, &'static str> {
    let read = |at: usize| words[at].load(Ordering::Relaxed);
    if read(0) != MAGIC {
        Err("is not a usage journal")
    } else if read(HEADER_LEN) != header_checksum(words) {
        Err("has a damaged header")
    } else if ![FORMAT, CLEAR_FORMAT].contains(&read(1)) {
        Err("was written by another version of Guillemet")
    } else if bytes16(read(2), read(3)) != vault_id {
        Err("belongs to another vault")
    } else {
        Ok(JournalHeader { id: bytes16(read(4), read(5)), is_clear: read(1) == CLEAR_FORMAT })
    }
}

/// Returns one of the two areas.
pub(super) fn area(words: &[AtomicU64], index: usize) -> &[AtomicU64] {
    let words = &words[HEADER_WORDS..];
    let len = words.len() / 2;
    &words[index * len..(index + 1) * len]
}

/// Returns the generation of an area, or `None` if that word is damaged.
pub(super) fn generation(area: &[AtomicU64]) -> Option<u64> {
    let word = area[0].load(Ordering::Acquire);
    let generation = word & u64::from(u32::MAX);
    (word == stamp(generation)).then_some(generation)
}

/// Returns the first word of a record with this many bytes, and how many words the record takes.
pub(super) fn frame(bytes: usize) -> (u64, usize) {
    let words = bytes.div_ceil(8) + FRAME_WORDS;
    ((words as u64) | ((bytes as u64) << 32), words)
}

/// Writes a record at a word of an area that has room for it, and returns the commit word.
pub(super) fn write_record(area: &[AtomicU64], generation: u64, at: usize, bytes: &[u8]) -> u64 {
    let (head, words) = frame(bytes.len());
    let target = &area[at..at + words];
    target[0].store(head, Ordering::Relaxed);
    for (word, bytes) in target[1..].iter().zip(bytes.chunks(8)) {
        let mut padded = [0; 8];
        padded[..bytes.len()].copy_from_slice(bytes);
        word.store(u64::from_le_bytes(padded), Ordering::Relaxed);
    }
    let commit = commit_word(crc32fast::hash(bytes), generation, at, head);
    // Last, and ordered after the other words: from here on the record counts, even if the process is killed.
    target[words - 1].store(commit, Ordering::Release);
    commit
}

/// Reads the record at word `at` into `content` and returns its length in words, or `None` if no committed record is
/// there.
pub(super) fn record(words: &[AtomicU64], generation: u64, at: usize, content: &mut Vec<u8>) -> Option<usize> {
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

/// Returns the word that holds a generation in its area, with a checksum. Generation 0 is 0, because a new file is all
/// zeros.
pub(super) fn stamp(generation: u64) -> u64 {
    match generation {
        0 => 0,
        _ => generation | (u64::from(crc32fast::hash(&generation.to_le_bytes())) << 32),
    }
}

fn commit_word(content: u32, generation: u64, at: usize, head: u64) -> u64 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&generation.to_le_bytes());
    hasher.update(&(at as u64).to_le_bytes());
    hasher.update(&head.to_le_bytes());
    (u64::from(content) << 32) | u64::from(hasher.finalize())
}

/// Writes the header of an empty journal. `generation` is that of its first area and at least 1.
pub(super) fn write_header(words: &[AtomicU64], vault_id: [u8; 16], id: [u8; 16], generation: u64) {
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

fn bytes16(low: u64, high: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&low.to_le_bytes());
    bytes[8..].copy_from_slice(&high.to_le_bytes());
    bytes
}
