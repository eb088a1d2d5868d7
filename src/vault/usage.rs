//! Usage: every resolution goes to the journal before its answer leaves, and is folded into counters in
//! `vault.db` later.
//!
//! A fold is one SQLite transaction that holds the counters and the position up to which the journal has
//! been folded: a crash in between counts nothing twice and loses nothing. The vault file shows counts;
//! what was resolved where stands in sealed boxes. Never a value.
//!
//! The audit trail of newest events, refusals included, will be folded out of the same records; they are
//! in the journal already.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::crypto::{self, Key};
use super::event::{self, Decoded};
use super::journal::{self, CONTENT_MAX, Journal, JournalError, Position};
use super::store::{self, VaultError};
use crate::names::{Millis, SecretId};

pub use super::event::{Caller, Event, Outcome, Use};

/// How many daily buckets of a secret are kept.
const DAYS_KEPT: u32 = 90;
const DAY: Millis = 24 * 60 * 60 * 1000;

const SCHEMA: &str = "
    CREATE TABLE usage_position (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        journal BLOB NOT NULL, generation INTEGER NOT NULL, at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE usage_places (id INTEGER PRIMARY KEY, tag BLOB NOT NULL UNIQUE, box BLOB NOT NULL) STRICT;
    CREATE TABLE usage_counters (
        secret BLOB NOT NULL, place INTEGER NOT NULL, count INTEGER NOT NULL, last_used INTEGER NOT NULL,
        PRIMARY KEY (secret, place)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE usage_days (
        secret BLOB NOT NULL, day INTEGER NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (secret, day)
    ) STRICT, WITHOUT ROWID;
";

/// How many tables those are.
const TABLES: u32 = 4;

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

/// The journal is full and could not be folded: nothing may be resolved.
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

/// Where and when a secret was resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretUsage {
    /// All in all.
    pub totals: Totals,
    /// By place, busiest first.
    pub by_template: Vec<PlaceUsage>,
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

/// Where a counter counts; sealed in the file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Place {
    template: Option<String>,
    target: Option<String>,
    field: String,
    uid: u32,
    exe: String,
}

/// Records resolutions and counts them.
pub struct Recorder {
    shared: Arc<Shared>,
    /// What was found at the start that people have to know.
    warnings: Vec<&'static str>,
    /// Wakes the thread that folds; it ends when this is dropped.
    fold_due: SyncSender<()>,
}

struct Shared {
    journal: Journal,
    counters: Mutex<Counters>,
}

struct Counters {
    database: Connection,
    key: Key,
    folded: Position,
}

impl Recorder {
    /// Opens the journal beside the vault's file and folds what an earlier run left in it.
    ///
    /// # Errors
    /// `RecorderError`.
    pub fn open(journal: &Path, database: &Path, vault_id: [u8; 16], key: Key) -> Result<Self, RecorderError> {
        Self::open_sized(journal, database, vault_id, key, journal::LEN)
    }

    /// As `open`, with the journal's length in bytes.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_sized(
        journal: &Path,
        database: &Path,
        vault_id: [u8; 16],
        key: Key,
        len: usize,
    ) -> Result<Self, RecorderError> {
        let mut database = store::connect(database)?;
        let query = "SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name LIKE 'usage_%'";
        match database.query_row(query, [], |row| row.get(0))? {
            0 => store::change(&mut database, |database| Ok::<_, RecorderError>(database.execute_batch(SCHEMA)?))?,
            TABLES => {}
            _ => return Err(VaultError::Damaged("a table of its usage is missing".into()).into()),
        }
        let query = "SELECT journal, generation, at FROM usage_position";
        let stored: Option<([u8; 16], Position)> = database
            .query_row(query, [], |row| Ok((row.get(0)?, Position { generation: row.get(1)?, at: row.get(2)? })))
            .optional()?;
        let folded = |id: [u8; 16]| match stored {
            Some((known, position)) if known == id => position,
            _ => Position::default(),
        };
        let journal = Journal::open(journal, vault_id, len, folded)?;
        let mut warnings = journal.warnings().to_vec();
        if stored.is_some_and(|(known, _)| known != journal.id()) {
            warnings.push("the usage journal is not the one the vault knew: what only that one held is not counted");
        }
        let folded = journal.begin();
        if stored != Some((journal.id(), folded)) {
            // From now on a lost journal is noticed.
            store::change(&mut database, |database| set_position(database, journal.id(), folded))?;
        }
        let counters = Mutex::new(Counters { database, key, folded });
        let shared = Arc::new(Shared { journal, counters });
        shared.fold()?;
        let (fold_due, due) = sync_channel::<()>(1);
        let folding = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("usage-fold".into())
            .spawn(move || {
                while due.recv().is_ok() {
                    if let Err(error) = folding.fold() {
                        tracing::error!(%error, "usage could not be folded");
                    }
                }
            })
            .map_err(RecorderError::Sync)?;
        Ok(Self { shared, warnings, fold_due })
    }

    /// What was found at the start that people have to know.
    pub fn warnings(&self) -> &[&'static str] {
        &self.warnings
    }

    /// Records an event. Does not allocate and makes no system call, unless the journal is full: then it
    /// folds first.
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

    fn append(&self, content: &[u8]) -> Result<(), Unrecorded> {
        loop {
            match self.shared.journal.append_record(content) {
                Ok(false) => return Ok(()),
                Ok(true) => {
                    // A full channel means that a fold is due already.
                    let _ = self.fold_due.try_send(());
                    return Ok(());
                }
                Err(journal::Full) => self.shared.fold().map_err(|error| Unrecorded(error.to_string()))?,
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

    /// Waits until everything recorded is on the disk.
    ///
    /// # Errors
    /// The system's.
    pub fn sync(&self) -> Result<(), RecorderError> {
        self.shared.journal.sync().map_err(RecorderError::Sync)
    }

    /// Of every secret ever resolved, up to the last answer.
    ///
    /// # Errors
    /// When usage cannot be folded or read.
    pub fn totals(&self) -> Result<HashMap<SecretId, Totals>, RecorderError> {
        self.shared.fold()?;
        let counters = self.shared.counters();
        let mut statement = counters
            .database
            .prepare_cached("SELECT secret, SUM(count), MAX(last_used) FROM usage_counters GROUP BY secret")?;
        let rows = statement.query_map([], |row| {
            Ok((SecretId(row.get(0)?), Totals { count: row.get(1)?, last_used: Some(row.get(2)?) }))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Of one secret, up to the last answer.
    ///
    /// # Errors
    /// As `totals`.
    pub fn of(&self, secret: SecretId) -> Result<SecretUsage, RecorderError> {
        self.shared.fold()?;
        let counters = self.shared.counters();
        let mut places: Vec<PlaceUsage> = Vec::new();
        let mut totals = Totals::default();
        let query = "SELECT places.tag, places.box, counters.count, counters.last_used
                     FROM usage_counters AS counters JOIN usage_places AS places ON places.id = counters.place
                     WHERE counters.secret = ?1";
        let mut statement = counters.database.prepare_cached(query)?;
        let mut rows = statement.query([secret.0])?;
        while let Some(row) = rows.next()? {
            let place = counters.open_place(
                row.get_ref(0)?.as_blob().unwrap_or_default(),
                row.get_ref(1)?.as_blob().unwrap_or_default(),
            )?;
            let (count, last_used): (u64, Millis) = (row.get(2)?, row.get(3)?);
            totals.count += count;
            totals.last_used = totals.last_used.max(Some(last_used));
            let same = |known: &&mut PlaceUsage| {
                (&known.template, &known.field, &known.target) == (&place.template, &place.field, &place.target)
            };
            match places.iter_mut().find(same) {
                Some(known) => {
                    known.count += count;
                    known.last_used = known.last_used.max(Some(last_used));
                }
                None => places.push(PlaceUsage {
                    template: place.template,
                    field: place.field,
                    target: place.target,
                    count,
                    last_used: Some(last_used),
                }),
            }
        }
        places.sort_by(|a, b| (b.count, &a.template, &a.field).cmp(&(a.count, &b.template, &b.field)));
        let mut statement = counters
            .database
            .prepare_cached("SELECT day, count FROM usage_days WHERE secret = ?1 ORDER BY day DESC")?;
        let days =
            statement.query_map([secret.0], |row| Ok(DayUsage { day: day_text(row.get(0)?), count: row.get(1)? }))?;
        Ok(SecretUsage { totals, by_template: places, by_day: days.collect::<Result<_, _>>()? })
    }

    /// Drops what is known of a secret that has been deleted.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn forget(&self, secret: SecretId) -> Result<(), RecorderError> {
        self.shared.fold()?;
        let mut counters = self.shared.counters();
        store::change(&mut counters.database, |database| {
            database.execute("DELETE FROM usage_counters WHERE secret = ?1", [secret.0])?;
            database.execute("DELETE FROM usage_days WHERE secret = ?1", [secret.0])?;
            Ok(())
        })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // Best effort: what is not folded now is in the journal, and folded at the next start.
        let _ = self.shared.fold();
        let _ = self.shared.journal.sync();
    }
}

/// What a fold adds to one counter.
#[derive(Default)]
struct Added {
    count: u64,
    last_used: Millis,
}

impl Shared {
    fn counters(&self) -> MutexGuard<'_, Counters> {
        // A panic while it was held has rolled its transaction back.
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fold(&self) -> Result<(), RecorderError> {
        let mut counters = self.counters();
        let mut folding = Folding::default();
        let mut any = false;
        let position = self.journal.records(counters.folded, |content| {
            any = true;
            if let Some(decoded) = event::decode(content) {
                folding.add(&decoded);
            }
        });
        if !any {
            self.journal.folded(position);
            return Ok(());
        }
        counters.write(self.journal.id(), position, folding)?;
        counters.folded = position;
        self.journal.folded(position);
        Ok(())
    }
}

/// What a fold adds up: a busy daemon's millions of records are few places.
#[derive(Default)]
struct Folding {
    /// Where a place and a secret stand in `added`, by their bytes, which are put together in `key`: nothing
    /// is allocated for what was seen before.
    known: HashMap<Box<[u8]>, usize>,
    key: Vec<u8>,
    added: Vec<(Place, SecretId, Added)>,
    by_day: HashMap<(SecretId, u64), u64>,
}

impl Folding {
    fn add(&mut self, event: &Decoded<'_>) {
        let counted = match event.outcome {
            Outcome::Answered => 1,
            Outcome::Revalidated => 0,
            Outcome::Missing | Outcome::Disabled | Outcome::Unfit | Outcome::Forbidden => return,
        };
        self.key.clear();
        self.key.extend_from_slice(&event.uid.to_le_bytes());
        for text in [Some(event.exe), event.template, event.target] {
            self.key.extend_from_slice(&text.map_or(u32::MAX, |text| text.len() as u32).to_le_bytes());
            self.key.extend_from_slice(text.unwrap_or_default().as_bytes());
        }
        let of_event = self.key.len();
        for usage in &event.uses {
            let Some(secret) = usage.secret else { continue };
            self.key.truncate(of_event);
            self.key.extend_from_slice(&secret.0);
            self.key.extend_from_slice(usage.field.as_bytes());
            let index = match self.known.get(self.key.as_slice()) {
                Some(index) => *index,
                None => {
                    let place = Place {
                        template: event.template.map(str::to_owned),
                        target: event.target.map(str::to_owned),
                        field: usage.field.to_owned(),
                        uid: event.uid,
                        exe: event.exe.to_owned(),
                    };
                    self.known.insert(self.key.as_slice().into(), self.added.len());
                    self.added.push((place, secret, Added::default()));
                    self.added.len() - 1
                }
            };
            let added = &mut self.added[index].2;
            added.count += counted;
            added.last_used = added.last_used.max(event.time);
            if counted > 0 {
                *self.by_day.entry((secret, event.time / DAY)).or_default() += counted;
            }
        }
    }
}

impl Counters {
    fn write(&mut self, journal: [u8; 16], position: Position, folding: Folding) -> Result<(), RecorderError> {
        let key = &self.key;
        store::change(&mut self.database, |transaction| {
            for (place, secret, added) in folding.added {
                let place = place_id(transaction, key, &place)?;
                let mut statement = transaction.prepare_cached(
                    "INSERT INTO usage_counters (secret, place, count, last_used) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (secret, place) DO UPDATE SET
                     count = count + ?3, last_used = MAX(last_used, ?4)",
                )?;
                statement.execute(params![secret.0, place, added.count, added.last_used])?;
            }
            for ((secret, day), count) in folding.by_day {
                let mut statement = transaction.prepare_cached(
                    "INSERT INTO usage_days (secret, day, count) VALUES (?1, ?2, ?3)
                 ON CONFLICT (secret, day) DO UPDATE SET count = count + ?3",
                )?;
                statement.execute(params![secret.0, day, count])?;
                // By number, not by age: a clock that jumped ahead must not sweep everything else away.
                let mut statement = transaction.prepare_cached(
                    "DELETE FROM usage_days WHERE secret = ?1 AND day NOT IN
                     (SELECT day FROM usage_days WHERE secret = ?1 ORDER BY day DESC LIMIT ?2)",
                )?;
                statement.execute(params![secret.0, DAYS_KEPT])?;
            }
            set_position(transaction, journal, position)
        })
    }

    fn open_place(&self, tag: &[u8], sealed: &[u8]) -> Result<Place, RecorderError> {
        let damaged = || VaultError::Damaged("a place of its usage does not open".into());
        let opened = crypto::open(&self.key, tag, sealed).map_err(|_| damaged())?;
        Ok(serde_json::from_slice(&opened).map_err(|_| damaged())?)
    }
}

/// Notes up to where a journal has been folded.
fn set_position(database: &Connection, journal: [u8; 16], position: Position) -> Result<(), RecorderError> {
    let mut statement = database.prepare_cached(
        "INSERT INTO usage_position (one, journal, generation, at) VALUES (1, ?1, ?2, ?3)
         ON CONFLICT (one) DO UPDATE SET journal = ?1, generation = ?2, at = ?3",
    )?;
    statement.execute(params![journal, position.generation, position.at])?;
    Ok(())
}

/// The row of a place, made when it is new.
fn place_id(transaction: &Connection, key: &Key, place: &Place) -> Result<i64, RecorderError> {
    let text = serde_json::to_vec(place).unwrap_or_default();
    let tag = key.mac(&text);
    let mut statement = transaction.prepare_cached("SELECT id FROM usage_places WHERE tag = ?1")?;
    if let Some(id) = statement.query_row([tag], |row| row.get(0)).optional()? {
        return Ok(id);
    }
    // Padded, so that the file does not show how long a template's id is.
    let mut padded = text;
    padded.resize(padded.len().next_multiple_of(128), b' ');
    let sealed = crypto::seal(key, &tag, &padded);
    let mut statement = transaction.prepare_cached("INSERT INTO usage_places (tag, box) VALUES (?1, ?2)")?;
    Ok(statement.insert(params![tag, sealed])?)
}

fn day_text(day: u64) -> String {
    let seconds = i64::try_from(day).unwrap_or(0).saturating_mul(24 * 60 * 60);
    let date = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH).date();
    format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day())
}

#[cfg(test)]
mod tests;
