//! The audit trail in `vault.db`: the newest events, in three rings, one for each class. So a flood of one class pushes
//! out no event of another. Within a ring each user has a share: the oldest event of the user with the most events
//! leaves first, so a flood of one user pushes out no event of another either.
//!
//! Events are stored in chunks, each of one class and one user. The file shows how many events there are, their running
//! numbers, and which chunks belong to the same user. What happened, and who the user is, is in sealed boxes. Handles
//! frames of bytes and not their meaning; `usage::list` reads them.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use rusqlite::{Connection, OptionalExtension, params};
use zeroize::Zeroizing;

use super::audit::{AuditChange, holder_of};
use super::event::{self, Class};
use super::store::VaultError;
use super::usage;
use guillemet_secret::crypto::{self, Key};

/// How many events of each class are kept if the configuration does not say.
pub const EVENTS: usize = 10_000;
/// The largest number of events of each class that can be configured.
pub const EVENTS_MAX: usize = 1_000_000;

/// `id` is the number of the first record in the box, and `holder` stands for its user.
const SCHEMA: &str = "
    CREATE TABLE audit_events (
        id INTEGER PRIMARY KEY, class INTEGER NOT NULL, holder BLOB NOT NULL,
        last INTEGER NOT NULL, count INTEGER NOT NULL, box BLOB NOT NULL
    ) STRICT;
    CREATE INDEX audit_events_class ON audit_events (class, holder, id, last, count);
";
/// The table in which earlier versions kept answers and refusals, of all users together.
const FORMER: &str = "usage_events";

/// A chunk takes no further record once it holds this many events, by class, or `CHUNK_BYTES` bytes: each write seals
/// the newest chunk again. Changes come one by one, so their chunks are smaller.
const CHUNK_EVENTS: [usize; 3] = [128, 128, 16];
const CHUNK_BYTES: usize = 64 << 10;
/// Boxes are padded to a multiple of this many bytes.
const PADDED: usize = 1024;
/// Bytes of the number and the length before each record in a chunk.
const FRAME: usize = 12;

/// Stands for a user in the file: the first 8 bytes of a keyed hash.
pub(super) type Holder = [u8; 8];
/// The holder of a chunk whose user is not known.
const NOBODY: Holder = [0; 8];

/// The newest records of one class that are to be written, by user.
pub(super) struct NewestRecords {
    class: Class,
    limit: usize,
    by_holder: BTreeMap<Vec<u8>, Recent>,
}

/// The newest records of one user, in one buffer.
#[derive(Default)]
struct Recent {
    /// The contents of the records. The first `dropped` bytes belong to none.
    bytes: Vec<u8>,
    dropped: usize,
    records: VecDeque<Record>,
    /// The number of events in `records`.
    events: usize,
}

struct Record {
    number: u64,
    len: usize,
    events: usize,
}

impl NewestRecords {
    /// Returns an empty list that keeps at most `limit` events of each user.
    pub(super) fn new(class: Class, limit: usize) -> Self {
        Self { class, limit, by_holder: BTreeMap::new() }
    }

    /// Adds a record of a user that stands for this many events.
    pub(super) fn push_use(&mut self, number: u64, uid: u32, content: &[u8], events: usize) {
        self.push(number, holder_of(uid), content, events);
    }

    /// Changes, oldest first.
    ///
    /// # Errors
    /// `Unserializable`.
    fn of_changes(limit: usize, changes: &[AuditChange]) -> Result<Self, VaultError> {
        let mut newest = Self::new(Class::Change, limit);
        for (number, change) in (0..).zip(changes) {
            let encoded = change.encode().map_err(VaultError::Unserializable)?;
            newest.push(number, change.actor.holder(), &encoded, 1);
        }
        Ok(newest)
    }

    fn push(&mut self, number: u64, holder: Vec<u8>, content: &[u8], events: usize) {
        if self.limit == 0 || events == 0 {
            return;
        }
        let recent = self.by_holder.entry(holder).or_default();
        recent.bytes.extend_from_slice(content);
        recent.records.push_back(Record { number, len: content.len(), events });
        recent.events += events;
        while let Some(oldest) = recent.records.front()
            && recent.events - oldest.events >= self.limit
        {
            recent.events -= oldest.events;
            recent.dropped += oldest.len;
            recent.records.pop_front();
        }
        if recent.dropped > recent.bytes.len() / 2 {
            recent.bytes.drain(..recent.dropped);
            recent.dropped = 0;
        }
    }
}

/// A chunk, without its box.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    pub(super) id: u64,
    class: Class,
    holder: Holder,
    pub(super) last: u64,
    pub(super) count: usize,
}

/// Seals and opens the chunks of one vault.
pub(super) struct TrailSealer {
    key: Key,
    holders: Key,
    vault: [u8; 16],
}

impl TrailSealer {
    /// Derives the keys as subkeys of `key`, the vault's key for usage.
    pub(super) fn new(key: &Key, vault: [u8; 16]) -> Self {
        Self { key: key.subkey("events"), holders: key.subkey("event-holders"), vault }
    }

    fn holder(&self, identity: &[u8]) -> Holder {
        let mut holder = NOBODY;
        holder.copy_from_slice(&self.holders.mac(identity)[..8]);
        holder
    }

    fn binding(&self, chunk: Chunk) -> Vec<u8> {
        let mut binding = b"guillemet audit events 2\0".to_vec();
        binding.extend_from_slice(&self.vault);
        binding.push(chunk.class as u8);
        binding.extend_from_slice(&chunk.holder);
        for number in [chunk.id, chunk.last, chunk.count as u64] {
            binding.extend_from_slice(&number.to_le_bytes());
        }
        binding
    }

    fn seal(&self, chunk: Chunk, frames: &[u8]) -> Vec<u8> {
        let mut plain = Vec::with_capacity((4 + frames.len()).next_multiple_of(PADDED));
        plain.extend_from_slice(&(frames.len() as u32).to_le_bytes());
        plain.extend_from_slice(frames);
        plain.resize(plain.len().next_multiple_of(PADDED), 0);
        crypto::seal(&self.key, &self.binding(chunk), &plain)
    }

    /// Opens a box and returns its frames, or `None` if it was changed or sealed for another place.
    fn open(&self, binding: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut plain = crypto::open(&self.key, binding, sealed).ok()?;
        let len = u32::from_le_bytes(*plain.first_chunk()?) as usize;
        if plain.len() < 4 + len {
            return None;
        }
        plain.truncate(4 + len);
        plain.drain(..4);
        Some(plain)
    }
}

/// Returns the number of each record in the frames of a chunk and its range of bytes, oldest first; `None` if they are
/// malformed.
pub(super) fn records(frames: &[u8]) -> Option<Vec<(u64, Range<usize>)>> {
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

/// Creates the trail. The events that an earlier version kept in chunks of all users are moved into it, in the caller's
/// transaction. A chunk that does not open is kept as it is, and reported when it is read.
pub(super) fn prepare(database: &Connection, boxes: &TrailSealer) -> Result<(), VaultError> {
    database.execute_batch(SCHEMA)?;
    let query = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1)";
    if !database.query_row(query, [FORMER], |row| row.get::<_, bool>(0))? {
        return Ok(());
    }
    let mut statement = database.prepare("SELECT id, kind, last, count, box FROM usage_events ORDER BY id")?;
    let mut rows = statement.query([])?;
    let mut rings = [Class::Answer, Class::Refusal].map(|class| NewestRecords::new(class, EVENTS_MAX));
    while let Some(row) = rows.next()? {
        let (id, kind, last, count): (u64, u8, u64, u64) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        let sealed = row.get_ref(4)?.as_blob().unwrap_or_default();
        let binding = [b"guillemet usage events 1\0".as_slice(), &boxes.vault, &[kind]].concat();
        let binding = [binding, [id, last, count].map(u64::to_le_bytes).concat()].concat();
        let class = if kind == 0 { Class::Answer } else { Class::Refusal };
        let plaintext = boxes.open(&binding, sealed);
        let plaintext = plaintext.and_then(|frames| records(&frames).map(|records| (records, frames)));
        let Some((records, frames)) = plaintext else {
            insert(database, Chunk { id, class, holder: NOBODY, last, count: count as usize }, sealed)?;
            continue;
        };
        for (number, range) in records {
            let content = &frames[range];
            if let Some(event) = event::decode(content) {
                rings[class as usize].push_use(number, event.uid, content, event.listed_count());
            }
        }
    }
    drop(rows);
    drop(statement);
    for ring in &rings {
        append(database, boxes, ring, 0)?;
    }
    Ok(database.execute_batch("DROP TABLE usage_events")?)
}

/// Returns the chunks of a class by user, the oldest of each first.
fn chunks(database: &Connection, class: Class) -> Result<BTreeMap<Holder, Vec<Chunk>>, VaultError> {
    let query = "SELECT holder, id, last, count FROM audit_events WHERE class = ?1 ORDER BY holder, id";
    let mut statement = database.prepare_cached(query)?;
    let mut rows = statement.query([class as u8])?;
    let mut chunks: BTreeMap<Holder, Vec<Chunk>> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let holder: Holder = row.get(0)?;
        let chunk = Chunk { id: row.get(1)?, class, holder, last: row.get(2)?, count: row.get(3)? };
        chunks.entry(holder).or_default().push(chunk);
    }
    Ok(chunks)
}

/// Returns how many of its newest events each user keeps. `held` has, for each user, the number of its events and the
/// number of the last one. A user keeps all of its events, or as many as any other user that does not keep all.
fn shares(held: &[(usize, u64)], limit: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..held.len()).collect();
    order.sort_by_key(|index| held[*index].0);
    let (mut shares, mut remaining) = (vec![0; held.len()], limit);
    for at in 0..order.len() {
        let (rest, share) = (&order[at..], remaining / (order.len() - at));
        if held[order[at]].0 <= share {
            shares[order[at]] = held[order[at]].0;
            remaining -= held[order[at]].0;
            continue;
        }
        // The remainder goes to the users with the newest events.
        let mut rest = rest.to_vec();
        rest.sort_by_key(|index| std::cmp::Reverse(held[*index].1));
        let extra = remaining - share * rest.len();
        for (rank, index) in rest.into_iter().enumerate() {
            shares[index] = (share + usize::from(rank < extra)).min(held[index].0);
        }
        break;
    }
    shares
}

/// Returns the chunks of each user of a class, oldest first, and how many of its newest events the bound allows.
pub(super) fn kept_chunks(
    database: &Connection,
    class: Class,
    limit: usize,
) -> Result<Vec<(Vec<Chunk>, usize)>, VaultError> {
    let chunks: Vec<Vec<Chunk>> = chunks(database, class)?.into_values().collect();
    let held = |chunks: &Vec<Chunk>| {
        (chunks.iter().map(|chunk| chunk.count).sum(), chunks.last().map_or(0, |chunk| chunk.last))
    };
    let shares = shares(&chunks.iter().map(held).collect::<Vec<_>>(), limit);
    Ok(chunks.into_iter().zip(shares).collect())
}

/// Appends changes to the trail, within the bound. Creates the tables if they are missing, because a change of the
/// vault can be the first thing that is ever recorded.
pub(super) fn write_changes(
    database: &Connection,
    boxes: &TrailSealer,
    limit: usize,
    changes: &[AuditChange],
) -> Result<(), VaultError> {
    if changes.is_empty() {
        return Ok(());
    }
    usage::prepare(database, boxes)?;
    write(database, boxes, &NewestRecords::of_changes(limit, changes)?, next_number(database)?)
}

/// Returns how many events of a class there are, but at most `limit`.
pub(super) fn count(database: &Connection, class: Class, limit: usize) -> Result<usize, VaultError> {
    Ok(kept_chunks(database, class, limit)?.iter().map(|(_, share)| share).sum())
}

/// Removes the chunks all of whose events exceed the bound.
pub(super) fn trim(database: &Connection, class: Class, limit: usize) -> Result<(), VaultError> {
    let mut delete = database.prepare_cached("DELETE FROM audit_events WHERE id = ?1")?;
    for (chunks, share) in kept_chunks(database, class, limit)? {
        let mut newer = 0;
        for chunk in chunks.iter().rev() {
            if newer >= share {
                delete.execute([chunk.id])?;
            }
            newer += chunk.count;
        }
    }
    Ok(())
}

/// Appends the newest records to the trail, within the bound. Their numbers are counted from `base`.
pub(super) fn write(
    database: &Connection,
    boxes: &TrailSealer,
    newest: &NewestRecords,
    base: u64,
) -> Result<(), VaultError> {
    if newest.by_holder.is_empty() {
        return Ok(());
    }
    append(database, boxes, newest, base)?;
    trim(database, newest.class, newest.limit)
}

/// Returns the number of the next record.
pub(super) fn next_number(database: &Connection) -> Result<u64, VaultError> {
    let last: Option<u64> =
        database.prepare_cached("SELECT MAX(last) FROM audit_events")?.query_row([], |row| row.get(0))?;
    Ok(last.map_or(1, |last| last + 1))
}

/// Adds records to the newest chunk of their user, and to new chunks. Their numbers are counted from `base`.
fn append(database: &Connection, boxes: &TrailSealer, newest: &NewestRecords, base: u64) -> Result<(), VaultError> {
    let class = newest.class;
    let is_full = |count: usize, bytes: usize| count >= CHUNK_EVENTS[class as usize] || bytes >= CHUNK_BYTES;
    for (holder, recent) in &newest.by_holder {
        let holder = boxes.holder(holder);
        let (mut chunk, mut frames) = (None, Zeroizing::new(Vec::new()));
        // A chunk that does not open is left as it is.
        if let Some(OpenedChunk { chunk: found, frames: Some(opened) }) = last(database, boxes, class, holder)?
            && !is_full(found.count, opened.len())
        {
            (chunk, frames) = (Some(found), opened);
        }
        let mut at = recent.dropped;
        for record in &recent.records {
            let number = base + record.number;
            let open = chunk.get_or_insert(Chunk { id: number, class, holder, last: number, count: 0 });
            open.last = number;
            open.count += record.events;
            frames.extend_from_slice(&number.to_le_bytes());
            frames.extend_from_slice(&(record.len as u32).to_le_bytes());
            frames.extend_from_slice(&recent.bytes[at..at + record.len]);
            at += record.len;
            if is_full(open.count, frames.len()) {
                insert(database, *open, &boxes.seal(*open, &frames))?;
                chunk = None;
                frames.clear();
            }
        }
        if let Some(chunk) = chunk {
            insert(database, chunk, &boxes.seal(chunk, &frames))?;
        }
    }
    Ok(())
}

fn insert(database: &Connection, chunk: Chunk, sealed: &[u8]) -> Result<(), VaultError> {
    let mut statement = database.prepare_cached(
        "INSERT INTO audit_events (id, class, holder, last, count, box) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (id) DO UPDATE SET last = ?4, count = ?5, box = ?6",
    )?;
    statement.execute(params![chunk.id, chunk.class as u8, chunk.holder, chunk.last, chunk.count as u64, sealed])?;
    Ok(())
}

/// A chunk that was read.
pub(super) struct OpenedChunk {
    pub(super) chunk: Chunk,
    /// The frames; `None` if the box does not open.
    pub(super) frames: Option<Zeroizing<Vec<u8>>>,
}

/// Opens the newest chunk of a user, or returns `None` if the user has none.
fn last(
    database: &Connection,
    boxes: &TrailSealer,
    class: Class,
    holder: Holder,
) -> Result<Option<OpenedChunk>, VaultError> {
    let query = "SELECT id FROM audit_events WHERE class = ?1 AND holder = ?2 ORDER BY id DESC LIMIT 1";
    let mut statement = database.prepare_cached(query)?;
    let id: Option<u64> = statement.query_row(params![class as u8, holder], |row| row.get(0)).optional()?;
    match id {
        Some(id) => open(database, boxes, id),
        None => Ok(None),
    }
}

/// Opens a chunk by its id, or returns `None` if it does not exist.
pub(super) fn open(database: &Connection, boxes: &TrailSealer, id: u64) -> Result<Option<OpenedChunk>, VaultError> {
    let query = "SELECT class, holder, last, count, box FROM audit_events WHERE id = ?1";
    let mut statement = database.prepare_cached(query)?;
    let mut rows = statement.query([id])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let class: u8 = row.get(0)?;
    let damaged = || VaultError::Damaged("part of its audit trail has no class".into());
    let (class, ..) = Class::ALL.get(usize::from(class)).ok_or_else(damaged)?;
    let chunk = Chunk { id, class: *class, holder: row.get(1)?, last: row.get(2)?, count: row.get(3)? };
    let frames = boxes.open(&boxes.binding(chunk), row.get_ref(4)?.as_blob().unwrap_or_default());
    Ok(Some(OpenedChunk { chunk, frames }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::shares;

    #[test]
    fn what_leaves_is_of_who_holds_most() {
        for (held, limit, expected) in [
            (vec![], 5, vec![]),
            (vec![(9, 1)], 5, vec![5]),
            (vec![(9, 1)], 0, vec![0]),
            (vec![(1, 1), (90, 2)], 10, vec![1, 9]),
            (vec![(90, 2), (2, 1), (50, 3)], 12, vec![5, 2, 5]),
            (vec![(90, 2), (2, 1), (50, 3)], 13, vec![5, 2, 6]),
            (vec![(1, 1), (1, 2), (1, 3)], 2, vec![0, 1, 1]),
            (vec![(3, 1), (3, 2)], 100, vec![3, 3]),
        ] {
            assert_eq!(shares(&held, limit), expected, "{held:?} {limit}");
        }
    }

    proptest! {
        #[test]
        fn all_that_fits_is_kept_and_nobody_has_more_than_who_lost_some(
            held in proptest::collection::vec(1..200usize, 0..8), limit in 0..500usize,
        ) {
            let held: Vec<(usize, u64)> = held.into_iter().zip(0..).collect();
            let shares = shares(&held, limit);
            prop_assert_eq!(shares.iter().sum::<usize>(), limit.min(held.iter().map(|(count, _)| count).sum()));
            for (share, (count, _)) in shares.iter().zip(&held) {
                prop_assert!(share <= count);
                if share < count {
                    prop_assert!(shares.iter().all(|other| *other <= share + 1));
                }
            }
        }
    }
}
