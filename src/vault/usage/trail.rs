//! The audit trail: the newest events, answers and refusals apart, so that a flood of one kind cannot push
//! the other out.
//!
//! A fold keeps the newest records of the journal and seals them into chunks in the transaction of its
//! counters; chunks that the bound leaves nothing of are removed. What leaves the trail has been counted.
//! The file shows how many events there are and their running numbers: what happened stands in boxes.

use std::collections::VecDeque;
use std::ops::Range;

use rusqlite::{Connection, OptionalExtension, params};
use zeroize::Zeroizing;

use super::super::crypto::{self, Key};
use super::super::event::{self, Caller, Decoded, Outcome, Subject, UnknownName, Use};
use super::super::store::VaultError;
use super::{RecorderError, Shared};
use crate::names::{Millis, SecretId};

/// How many events of each kind are kept where the configuration says nothing.
pub const EVENTS: usize = 10_000;
/// How many events of each kind can be kept.
pub const EVENTS_MAX: usize = 1_000_000;

/// `id` is the number of the first record in the box.
pub(super) const SCHEMA: &str = "
    CREATE TABLE usage_events (
        id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, last INTEGER NOT NULL, count INTEGER NOT NULL, box BLOB NOT NULL
    ) STRICT;
    CREATE INDEX usage_events_kind ON usage_events (kind, id, last, count);
";

/// A chunk takes no further record when it holds so many events or bytes: each fold seals the newest anew.
const CHUNK_EVENTS: usize = 128;
const CHUNK_BYTES: usize = 64 << 10;
/// Boxes are padded to a multiple of this.
const PADDED: usize = 1024;
/// Number and length of a record in a chunk.
const FRAME: usize = 12;

/// What became of it, in two kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Answers = 0,
    Refusals = 1,
}

/// An event of the trail: one use of one secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrailEvent {
    /// When.
    pub time: Millis,
    /// What became of it.
    pub outcome: Outcome,
    /// Who.
    pub caller: Caller,
    /// The template; `None` for a raw resolve.
    pub template: Option<String>,
    /// The target.
    pub target: Option<String>,
    /// The field of the config; empty for a raw resolve.
    pub field: String,
    /// The secret, where there was one.
    pub secret: Option<SecretId>,
    /// The name that was asked for, where there was no secret and a template had it.
    pub name: Option<String>,
    /// What stands for the name that was asked for, where nothing had it.
    pub unknown: Option<UnknownName>,
}

impl TrailEvent {
    fn of(event: &Decoded<'_>, usage: &Use<'_>) -> Self {
        let (secret, name, unknown) = match usage.subject {
            Subject::Secret(secret) => (Some(secret), None, None),
            Subject::Name(name) => (None, Some(name).filter(|name| !name.is_empty()), None),
            Subject::Unknown(unknown) => (None, None, Some(unknown)),
        };
        Self {
            time: event.time,
            outcome: event.outcome,
            caller: Caller { uid: event.uid, gid: event.gid, pid: event.pid, exe: event.exe.into() },
            template: event.template.map(str::to_owned),
            target: event.target.map(str::to_owned),
            field: usage.field.to_owned(),
            secret,
            name: name.map(str::to_owned),
            unknown,
        }
    }
}

/// The newest records of one kind that a fold has come by, in one buffer.
pub(super) struct Newest {
    limit: usize,
    /// What `dropped` says of it is gone.
    bytes: Vec<u8>,
    dropped: usize,
    records: VecDeque<Record>,
    /// Events in `records`.
    events: usize,
}

struct Record {
    number: u64,
    len: usize,
    events: usize,
}

impl Newest {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, bytes: Vec::new(), dropped: 0, records: VecDeque::new(), events: 0 }
    }

    /// Adds a record with so many events, and drops what the limit leaves nothing of.
    pub(super) fn push(&mut self, number: u64, content: &[u8], events: usize) {
        if self.limit == 0 || events == 0 {
            return;
        }
        self.bytes.extend_from_slice(content);
        self.records.push_back(Record { number, len: content.len(), events });
        self.events += events;
        while let Some(oldest) = self.records.front()
            && self.events - oldest.events >= self.limit
        {
            self.events -= oldest.events;
            self.dropped += oldest.len;
            self.records.pop_front();
        }
        if self.dropped > self.bytes.len() / 2 {
            self.bytes.drain(..self.dropped);
            self.dropped = 0;
        }
    }
}

/// A chunk as the file tells of it.
#[derive(Clone, Copy)]
struct Chunk {
    id: u64,
    last: u64,
    count: usize,
}

/// Seals and opens the chunks of one vault.
pub(super) struct Boxes {
    key: Key,
    vault: [u8; 16],
}

impl Boxes {
    pub(super) fn new(key: &Key, vault: [u8; 16]) -> Self {
        Self { key: key.subkey("events"), vault }
    }

    fn binding(&self, kind: Kind, chunk: Chunk) -> Vec<u8> {
        let mut binding = b"guillemet usage events 1\0".to_vec();
        binding.extend_from_slice(&self.vault);
        binding.push(kind as u8);
        for number in [chunk.id, chunk.last, chunk.count as u64] {
            binding.extend_from_slice(&number.to_le_bytes());
        }
        binding
    }

    fn seal(&self, kind: Kind, chunk: Chunk, frames: &[u8]) -> Vec<u8> {
        let mut plain = Vec::with_capacity((4 + frames.len()).next_multiple_of(PADDED));
        plain.extend_from_slice(&(frames.len() as u32).to_le_bytes());
        plain.extend_from_slice(frames);
        plain.resize(plain.len().next_multiple_of(PADDED), 0);
        crypto::seal(&self.key, &self.binding(kind, chunk), &plain)
    }

    /// The frames in a box; `None` where it is not as it was sealed.
    fn open(&self, kind: Kind, chunk: Chunk, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut plain = crypto::open(&self.key, &self.binding(kind, chunk), sealed).ok()?;
        let len = u32::from_le_bytes(*plain.first_chunk()?) as usize;
        if plain.len() < 4 + len {
            return None;
        }
        plain.truncate(4 + len);
        plain.drain(..4);
        Some(plain)
    }
}

/// The number of each record in the frames of a chunk, and where it lies; oldest first.
fn records(frames: &[u8]) -> Option<Vec<(u64, Range<usize>)>> {
    let mut records = Vec::new();
    let mut at = 0;
    while at < frames.len() {
        let head = frames.get(at..at + FRAME)?;
        let number = u64::from_le_bytes(*head.first_chunk()?);
        let len = u32::from_le_bytes(*head.last_chunk()?) as usize;
        at += FRAME;
        frames.get(at..at + len)?;
        records.push((number, at..at + len));
        at += len;
    }
    Some(records)
}

/// The chunks of a kind, newest first.
fn chunks(database: &Connection, kind: Kind) -> Result<Vec<Chunk>, RecorderError> {
    let query = "SELECT id, last, count FROM usage_events WHERE kind = ?1 ORDER BY id DESC";
    let mut statement = database.prepare_cached(query)?;
    let rows = statement
        .query_map([kind as u8], |row| Ok(Chunk { id: row.get(0)?, last: row.get(1)?, count: row.get(2)? }))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The number of the next record.
pub(super) fn next_number(database: &Connection) -> Result<u64, RecorderError> {
    let query = "SELECT last FROM usage_events WHERE kind = ?1 ORDER BY id DESC LIMIT 1";
    let mut statement = database.prepare_cached(query)?;
    let mut next = 1;
    for kind in [Kind::Answers, Kind::Refusals] {
        let last: Option<u64> = statement.query_row([kind as u8], |row| row.get(0)).optional()?;
        next = last.map_or(next, |last| next.max(last + 1));
    }
    Ok(next)
}

/// How many events of a kind there are, of at most `limit`.
pub(super) fn count(database: &Connection, kind: Kind, limit: usize) -> Result<usize, RecorderError> {
    Ok(chunks(database, kind)?.iter().map(|chunk| chunk.count).sum::<usize>().min(limit))
}

/// Removes the chunks of which `limit` leaves nothing when so many events come on top of them; gives the
/// newest that stays.
pub(super) fn trim(
    database: &Connection,
    kind: Kind,
    limit: usize,
    coming: usize,
) -> Result<Option<u64>, RecorderError> {
    let chunks = chunks(database, kind)?;
    let mut newer = coming;
    let gone = chunks.iter().find(|chunk| {
        let gone = newer >= limit;
        newer += chunk.count;
        gone
    });
    if let Some(gone) = gone {
        database.execute("DELETE FROM usage_events WHERE kind = ?1 AND id <= ?2", params![kind as u8, gone.id])?;
    }
    let stays = |chunk: &&Chunk| gone.is_none_or(|gone| chunk.id > gone.id);
    Ok(chunks.first().filter(stays).map(|chunk| chunk.id))
}

/// Writes what a fold has kept; the number of a record is counted from `base`.
pub(super) fn write(
    database: &Connection,
    boxes: &Boxes,
    kind: Kind,
    newest: &Newest,
    base: u64,
) -> Result<(), RecorderError> {
    if newest.records.is_empty() {
        return Ok(());
    }
    let last = trim(database, kind, newest.limit, newest.events)?;
    let (mut chunk, mut frames) = (None, Zeroizing::new(Vec::new()));
    let last = last.map(|id| open(database, boxes, kind, id)).transpose()?.flatten();
    // One that does not open is left as it is.
    if let Some(Opened { chunk: found, frames: Some(opened) }) = last
        && found.count < CHUNK_EVENTS
        && opened.len() < CHUNK_BYTES
    {
        (chunk, frames) = (Some(found), opened);
    }
    let mut statement = database.prepare_cached(
        "INSERT INTO usage_events (id, kind, last, count, box) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (id) DO UPDATE SET last = ?3, count = ?4, box = ?5",
    )?;
    let mut put = |chunk: Chunk, frames: &[u8]| {
        let sealed = boxes.seal(kind, chunk, frames);
        statement.execute(params![chunk.id, kind as u8, chunk.last, chunk.count as u64, sealed]).map(drop)
    };
    let mut at = newest.dropped;
    for record in &newest.records {
        let number = base + record.number;
        let open = chunk.get_or_insert(Chunk { id: number, last: number, count: 0 });
        open.last = number;
        open.count += record.events;
        frames.extend_from_slice(&number.to_le_bytes());
        frames.extend_from_slice(&(record.len as u32).to_le_bytes());
        frames.extend_from_slice(&newest.bytes[at..at + record.len]);
        at += record.len;
        if open.count >= CHUNK_EVENTS || frames.len() >= CHUNK_BYTES {
            put(*open, &frames)?;
            chunk = None;
            frames.clear();
        }
    }
    if let Some(chunk) = chunk {
        put(chunk, &frames)?;
    }
    Ok(())
}

/// A chunk that was looked into.
struct Opened {
    chunk: Chunk,
    /// `None` where the box is not as it was sealed.
    frames: Option<Zeroizing<Vec<u8>>>,
}

/// A chunk by its id, where there is one.
fn open(database: &Connection, boxes: &Boxes, kind: Kind, id: u64) -> Result<Option<Opened>, RecorderError> {
    let mut statement =
        database.prepare_cached("SELECT last, count, box FROM usage_events WHERE kind = ?1 AND id = ?2")?;
    let found = statement.query_row(params![kind as u8, id], |row| {
        let chunk = Chunk { id, last: row.get(0)?, count: row.get(1)? };
        let frames = boxes.open(kind, chunk, row.get_ref(2)?.as_blob().unwrap_or_default());
        Ok(Opened { chunk, frames })
    });
    Ok(found.optional()?)
}

/// The records of one kind, newest first. The counters are locked for one chunk at a time: a long trail
/// must not hold up a fold.
struct Backwards<'a> {
    shared: &'a Shared,
    kind: Kind,
    /// Not read yet, newest last.
    chunks: Vec<Chunk>,
    frames: Zeroizing<Vec<u8>>,
    records: Vec<(u64, Range<usize>)>,
    /// How many events the bound leaves.
    left: usize,
}

impl<'a> Backwards<'a> {
    fn new(shared: &'a Shared, kind: Kind, limit: usize) -> Result<Self, RecorderError> {
        let mut chunks = chunks(&shared.counters().database, kind)?;
        chunks.reverse();
        Ok(Self { shared, kind, chunks, frames: Zeroizing::default(), records: Vec::new(), left: limit })
    }

    /// The number of the next record.
    fn peek(&mut self) -> Result<Option<u64>, RecorderError> {
        while self.records.is_empty() && self.left > 0 {
            let Some(chunk) = self.chunks.pop() else { break };
            let opened = {
                let counters = self.shared.counters();
                open(&counters.database, &counters.boxes, self.kind, chunk.id)?
            };
            // Gone meanwhile, since newer ones have come.
            let Some(opened) = opened else { continue };
            let damaged = || VaultError::Damaged("a part of its audit trail does not open".into());
            self.frames = opened.frames.ok_or_else(damaged)?;
            self.records = records(&self.frames).ok_or_else(damaged)?;
            // What has come meanwhile is not part of this look.
            self.records.retain(|(number, _)| *number <= chunk.last);
        }
        Ok(self.records.last().filter(|_| self.left > 0).map(|(number, _)| *number))
    }

    /// Calls `each` with the uses of the next record, the last first.
    fn next(&mut self, mut each: impl FnMut(&Decoded<'_>, &Use<'_>)) {
        let Some(event) = self.records.pop().and_then(|(_, range)| event::decode(&self.frames[range])) else { return };
        let entries = event.entries();
        entries.iter().rev().take(self.left).for_each(|usage| each(&event, usage));
        self.left = self.left.saturating_sub(entries.len());
    }
}

/// The events that `picks` picks, newest first: how many there are, and those from `offset` on, at most
/// `limit`.
pub(super) fn list(
    shared: &Shared,
    picks: &dyn Fn(&Decoded<'_>, &Use<'_>) -> bool,
    offset: usize,
    limit: usize,
) -> Result<(usize, Vec<TrailEvent>), RecorderError> {
    let kept = shared.events();
    let mut answers = Backwards::new(shared, Kind::Answers, kept)?;
    let mut refusals = Backwards::new(shared, Kind::Refusals, kept)?;
    let (mut count, mut found) = (0, Vec::new());
    loop {
        let (answer, refusal) = (answers.peek()?, refusals.peek()?);
        let newest = match answer.max(refusal) {
            None => return Ok((count, found)),
            newest if newest == answer => &mut answers,
            _ => &mut refusals,
        };
        newest.next(|event, usage| {
            if picks(event, usage) {
                if count >= offset && found.len() < limit {
                    found.push(TrailEvent::of(event, usage));
                }
                count += 1;
            }
        });
    }
}
