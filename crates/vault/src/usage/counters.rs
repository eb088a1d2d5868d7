//! The counters in `vault.db`: adding the result of a fold to them, and reading them.
//!
//! Counts are in the clear. Where and by whom a secret was used is in sealed boxes, and a name that no secret has
//! appears only as a keyed tag.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use time::OffsetDateTime;

use super::super::audit::AuditChange;
use super::super::event::{self, Class, Outcome, UnknownName};
use super::super::journal::{Pending, Position};
use super::super::store::{self, VaultError};
use super::super::trail;
use super::fold::{CounterIncrement, CounterPlace, CounterSubject, Folding};
use super::{AllTotals, RecorderError, Refusals, SecretUsage, Totals, UsageByCaller, UsageByDay, UsageByPlace};
use guillemet_base::names::{Millis, SecretId};
use guillemet_secret::crypto::{self, Key};

/// How many daily counts are kept for each secret.
const DAYS_KEPT: u32 = 90;
/// How many places are told apart, and (`NAMES_KEPT`) how many refusals of names that no secret has. There has to be a
/// limit, because callers can make up fields and names. Beyond it, uses are counted by template, target and user, and
/// refusals by outcome alone.
const PLACES_KEPT: u64 = 50_000;
const NAMES_KEPT: u64 = 10_000;
/// Takes the place of a secret's id in the sums of deleted secrets and of names without a counter of their own.
const NOBODY: &[u8] = &[];
/// The place of the counts of `NOBODY`. Real places begin with 1.
const NOWHERE: i64 = 0;

/// The tables of the first vaults.
const FIRST: [&str; 4] = ["usage_counters", "usage_days", "usage_places", "usage_position"];
const FIRST_SCHEMA: &str = "
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
/// The table that a vault of the first version gets when it is opened. `wanted` is the id of a secret, or the tag of a
/// name.
const REFUSALS: &str = "usage_refusals";
const REFUSALS_SCHEMA: &str = "
    CREATE TABLE usage_refusals (
        wanted BLOB NOT NULL, place INTEGER NOT NULL, outcome INTEGER NOT NULL,
        count INTEGER NOT NULL, last INTEGER NOT NULL,
        PRIMARY KEY (wanted, place, outcome)
    ) STRICT, WITHOUT ROWID;
";
/// The audit trail, and the table that an earlier version had in its place.
const TRAILS: [&str; 2] = ["audit_events", "usage_events"];

/// Returns the SQL for the tables that a new vault, or one of an earlier version, still needs. It is empty if only the
/// trail is missing; `None` means that nothing is.
///
/// # Errors
/// [`VaultError::Damaged`] if tables are missing that no version has left out.
pub(super) fn missing(database: &Connection) -> Result<Option<String>, VaultError> {
    let existing: Vec<String> = {
        let mut statement = database.prepare_cached("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
        statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?
    };
    let count = |tables: &[&str]| tables.iter().filter(|table| existing.iter().any(|name| name == *table)).count();
    let [trail, former] = TRAILS.map(|table| count(&[table]) == 1);
    match (count(&FIRST), count(&[REFUSALS]), trail, former) {
        (4, 1, true, false) => Ok(None),
        (4, 1, false, true) => Ok(Some(String::new())),
        (4, 0, false, false) => Ok(Some(REFUSALS_SCHEMA.to_owned())),
        (0, 0, false, false) => Ok(Some([FIRST_SCHEMA, REFUSALS_SCHEMA].concat())),
        _ => Err(VaultError::Damaged("a table of its usage is missing".into())),
    }
}

/// Creates the missing tables, within the caller's transaction.
///
/// # Errors
/// As `missing`, and the errors of SQLite.
pub(crate) fn prepare(database: &Connection, boxes: &trail::TrailSealer) -> Result<(), VaultError> {
    match missing(database)? {
        Some(schema) => {
            database.execute_batch(&schema)?;
            trail::prepare(database, boxes)
        }
        None => Ok(()),
    }
}

/// The counters of one vault.
pub(super) struct Counters {
    pub(super) database: Connection,
    pub(super) key: Key,
    pub(super) boxes: trail::TrailSealer,
    pub(super) folded: Position,
    /// Records that are not in a committed transaction yet.
    pub(super) unfolded: Pending,
    /// Changes to record as soon as the file takes them.
    pub(super) unwritten: Vec<AuditChange>,
    /// The totals in the table, so that a listing need not add them up. Updated when a transaction has been committed.
    pub(super) totals: Arc<AllTotals>,
}

/// The sums over all secrets, deleted ones included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums {
    /// How often a value was resolved.
    pub resolutions: u64,
    /// How often a request was refused, by outcome.
    pub refusals: Vec<(Outcome, u64)>,
    /// The events of each class in the trail, in the order of [`Class::ALL`].
    pub stored: [usize; 3],
}

/// Computes the totals from the table.
pub(super) fn totals(database: &Connection) -> Result<AllTotals, RecorderError> {
    let query = "SELECT secret, SUM(count), MAX(last_used) FROM usage_counters WHERE secret <> ?1 GROUP BY secret";
    let mut statement = database.prepare(query)?;
    let rows = statement.query_map([NOBODY], |row| {
        Ok((SecretId(row.get(0)?), Totals { count: row.get(1)?, last_used: Some(row.get(2)?) }))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

impl Counters {
    /// Adds up the records that have not been folded, keeping at most `events` events of each user for the trail.
    pub(super) fn add_up(&self, events: usize) -> Folding {
        let mut folding = Folding::new(events);
        for content in self.unfolded.iter() {
            if let Some(decoded) = event::decode(content) {
                folding.add(content, &decoded);
            }
        }
        folding
    }

    /// Calls `read` on the counters as they would be if everything had been folded. This is for a file that takes no
    /// change: nothing is committed or written anywhere.
    pub(super) fn with_unfolded<T>(
        &self,
        events: usize,
        read: impl FnOnce(&Self) -> Result<T, RecorderError>,
    ) -> Result<T, RecorderError> {
        let transaction = Transaction::new_unchecked(&self.database, TransactionBehavior::Immediate)?;
        add(&transaction, &self.key, &self.boxes, &self.add_up(events))?;
        // Dropping the transaction rolls it back.
        read(self)
    }

    /// Returns the totals of every secret that was ever used.
    pub(super) fn totals(&self) -> Result<Arc<AllTotals>, RecorderError> {
        // The copy has only what was committed.
        if self.unfolded.is_empty() { Ok(Arc::clone(&self.totals)) } else { totals(&self.database).map(Arc::new) }
    }

    /// Adds the result of a fold and stores its position, in one transaction.
    pub(super) fn write(
        &mut self,
        journal: [u8; 16],
        position: Position,
        folding: Folding,
    ) -> Result<(), RecorderError> {
        let (key, boxes) = (&self.key, &self.boxes);
        store::change(&mut self.database, |transaction| {
            add(transaction, key, boxes, &folding)?;
            set_position(transaction, journal, position)
        })?;
        self.folded = position;
        let totals = Arc::make_mut(&mut self.totals);
        for counted in &folding.counted {
            if let (CounterSubject::Secret(secret), None) = (&counted.subject, counted.refusal) {
                let total = totals.entry(*secret).or_default();
                total.count += counted.count;
                total.last_used = total.last_used.max(Some(counted.last));
            }
        }
        Ok(())
    }

    /// Removes the events of the trail that exceed `limit`.
    pub(super) fn trim(&mut self, limit: impl Fn(Class) -> usize) -> Result<(), RecorderError> {
        store::change(&mut self.database, |database| {
            for (class, ..) in Class::ALL {
                trail::trim(database, class, limit(class))?;
            }
            Ok(())
        })
    }

    /// Records changes, in a transaction of their own.
    pub(super) fn record_changes(&mut self, limit: usize, changes: &[AuditChange]) -> Result<(), RecorderError> {
        let boxes = &self.boxes;
        store::change(&mut self.database, |database| Ok(trail::write_changes(database, boxes, limit, changes)?))
    }

    /// Returns where and when a secret was used.
    pub(super) fn usage_of(&self, secret: SecretId) -> Result<SecretUsage, RecorderError> {
        let mut usage = SecretUsage::default();
        let query = "SELECT places.tag, places.box, counters.count, counters.last_used
                     FROM usage_counters AS counters JOIN usage_places AS places ON places.id = counters.place
                     WHERE counters.secret = ?1";
        let mut statement = self.database.prepare_cached(query)?;
        let mut rows = statement.query([secret.0])?;
        while let Some(row) = rows.next()? {
            let place = self.open_place(
                row.get_ref(0)?.as_blob().unwrap_or_default(),
                row.get_ref(1)?.as_blob().unwrap_or_default(),
            )?;
            let (count, last_used): (u64, Millis) = (row.get(2)?, row.get(3)?);
            usage.totals.count += count;
            usage.totals.last_used = usage.totals.last_used.max(Some(last_used));
            let caller = |existing: &&mut UsageByCaller| (existing.uid, &existing.exe) == (place.uid, &place.exe);
            match usage.by_caller.iter_mut().find(caller) {
                Some(existing) => {
                    existing.count += count;
                    existing.last_used = existing.last_used.max(last_used);
                }
                None => {
                    usage.by_caller.push(UsageByCaller { uid: place.uid, exe: place.exe, count, last_used });
                }
            }
            let is_same = |existing: &&mut UsageByPlace| {
                (&existing.template, &existing.field, &existing.target)
                    == (&place.template, &place.field, &place.target)
            };
            match usage.by_template.iter_mut().find(is_same) {
                Some(existing) => {
                    existing.count += count;
                    existing.last_used = existing.last_used.max(Some(last_used));
                }
                None => usage.by_template.push(UsageByPlace {
                    template: place.template,
                    field: place.field,
                    target: place.target,
                    count,
                    last_used: Some(last_used),
                }),
            }
        }
        usage.by_template.sort_by(|a, b| (b.count, &a.template, &a.field).cmp(&(a.count, &b.template, &b.field)));
        usage.by_caller.sort_by(|a, b| (b.count, a.uid, &a.exe).cmp(&(a.count, b.uid, &b.exe)));
        let mut statement =
            self.database.prepare_cached("SELECT day, count FROM usage_days WHERE secret = ?1 ORDER BY day DESC")?;
        let days =
            statement.query_map([secret.0], |row| Ok(UsageByDay { day: day_text(row.get(0)?), count: row.get(1)? }))?;
        usage.by_day = days.collect::<Result<_, _>>()?;
        Ok(usage)
    }

    /// Returns the refusals of a secret, and those of a name while no secret had it, most frequent first. `unknown` is
    /// what the name was recorded as while nothing had it.
    pub(super) fn refusals(
        &self,
        secret: Option<SecretId>,
        name: &str,
        unknown: UnknownName,
    ) -> Result<Vec<Refusals>, RecorderError> {
        let query = "SELECT places.tag, places.box, refusals.outcome, refusals.count, refusals.last
                     FROM usage_refusals AS refusals JOIN usage_places AS places ON places.id = refusals.place
                     WHERE refusals.wanted IN (?1, ?2, ?3)";
        let mut statement = self.database.prepare_cached(query)?;
        let name = tag(&self.key, &CounterSubject::Name(name.to_ascii_lowercase()));
        let secret = secret.map_or_else(|| name.clone(), |secret| secret.0.to_vec());
        let unknown = tag(&self.key, &CounterSubject::Unknown(unknown));
        let mut rows = statement.query([secret, name, unknown])?;
        let mut entries: Vec<Refusals> = Vec::new();
        while let Some(row) = rows.next()? {
            let place = self.open_place(
                row.get_ref(0)?.as_blob().unwrap_or_default(),
                row.get_ref(1)?.as_blob().unwrap_or_default(),
            )?;
            let outcome = Outcome::from_code(row.get(2)?)
                .ok_or_else(|| VaultError::Damaged("its usage contains an invalid refusal".into()))?;
            let (count, last): (u64, Millis) = (row.get(3)?, row.get(4)?);
            let is_same = |existing: &&mut Refusals| {
                (existing.outcome, &existing.template, &existing.field, &existing.target, existing.uid, &existing.exe)
                    == (outcome, &place.template, &place.field, &place.target, place.uid, &place.exe)
            };
            // The same refusal can be counted for the secret, for its name before the secret existed, and as an unknown
            // name.
            if let Some(existing) = entries.iter_mut().find(is_same) {
                existing.count += count;
                existing.last = existing.last.max(last);
                continue;
            }
            entries.push(Refusals {
                outcome,
                template: place.template,
                field: place.field,
                target: place.target,
                uid: place.uid,
                exe: place.exe,
                count,
                last,
            });
        }
        entries.sort_by(|a, b| (b.count, b.last, &a.template, &a.field).cmp(&(a.count, a.last, &b.template, &b.field)));
        Ok(entries)
    }

    /// Returns the sums; `limit` is how many events of a class the trail may hold.
    pub(super) fn sums(&self, limit: impl Fn(Class) -> usize) -> Result<Sums, RecorderError> {
        let database = &self.database;
        let resolutions =
            database.query_row("SELECT IFNULL(SUM(count), 0) FROM usage_counters", [], |row| row.get(0))?;
        let mut statement =
            database.prepare_cached("SELECT IFNULL(SUM(count), 0) FROM usage_refusals WHERE outcome = ?1")?;
        let mut refusals = Vec::new();
        for outcome in Outcome::refusals() {
            refusals.push((outcome, statement.query_row([outcome as u8], |row| row.get(0))?));
        }
        let mut stored = [0; 3];
        for (count, (class, ..)) in stored.iter_mut().zip(Class::ALL) {
            *count = trail::count(database, class, limit(class))?;
        }
        Ok(Sums { resolutions, refusals, stored })
    }

    /// Removes the counters of a secret and adds them to those of `NOBODY`, so that the sums never go down.
    pub(super) fn forget(&mut self, secret: SecretId) -> Result<(), RecorderError> {
        store::change(&mut self.database, |database| {
            database.execute(
                "INSERT INTO usage_counters (secret, place, count, last_used)
                 SELECT ?2, ?3, SUM(count), MAX(last_used) FROM usage_counters WHERE secret = ?1 GROUP BY secret
                 ON CONFLICT (secret, place) DO UPDATE SET
                     count = count + excluded.count, last_used = MAX(last_used, excluded.last_used)",
                params![secret.0, NOBODY, NOWHERE],
            )?;
            database.execute(
                "INSERT INTO usage_refusals (wanted, place, outcome, count, last)
                 SELECT ?2, ?3, outcome, SUM(count), MAX(last) FROM usage_refusals WHERE wanted = ?1 GROUP BY outcome
                 ON CONFLICT (wanted, place, outcome) DO UPDATE SET
                     count = count + excluded.count, last = MAX(last, excluded.last)",
                params![secret.0, NOBODY, NOWHERE],
            )?;
            database.execute("DELETE FROM usage_counters WHERE secret = ?1", [secret.0])?;
            database.execute("DELETE FROM usage_refusals WHERE wanted = ?1", [secret.0])?;
            database.execute("DELETE FROM usage_days WHERE secret = ?1", [secret.0])?;
            Ok::<_, RecorderError>(())
        })?;
        Arc::make_mut(&mut self.totals).remove(&secret);
        Ok(())
    }

    fn open_place(&self, tag: &[u8], sealed: &[u8]) -> Result<CounterPlace, RecorderError> {
        let damaged = || VaultError::Damaged("part of its usage cannot be decrypted".into());
        let opened = crypto::open(&self.key, tag, sealed).map_err(|_| damaged())?;
        Ok(serde_json::from_slice(&opened).map_err(|_| damaged())?)
    }
}

/// Adds the result of a fold to the tables.
fn add(
    transaction: &Connection,
    key: &Key,
    boxes: &trail::TrailSealer,
    folding: &Folding,
) -> Result<(), RecorderError> {
    let mut names = None;
    for counted in &folding.counted {
        match counted.refusal {
            None => add_answers(transaction, key, counted)?,
            Some(outcome) => add_refusals(transaction, key, counted, outcome, &mut names)?,
        }
    }
    add_days(transaction, &folding.by_day)?;
    let base = trail::next_number(transaction)?;
    for newest in &folding.newest {
        trail::write(transaction, boxes, newest, base)?;
    }
    Ok(())
}

fn add_answers(transaction: &Connection, key: &Key, counted: &CounterIncrement) -> Result<(), RecorderError> {
    let place = place_id(transaction, key, &counted.place)?;
    let mut statement = transaction.prepare_cached(
        "INSERT INTO usage_counters (secret, place, count, last_used) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (secret, place) DO UPDATE SET count = count + ?3, last_used = MAX(last_used, ?4)",
    )?;
    statement.execute(params![tag(key, &counted.subject), place, counted.count, counted.last])?;
    Ok(())
}

/// Adds to the refusals. `names` caches how many names without a secret have counters.
fn add_refusals(
    transaction: &Connection,
    key: &Key,
    counted: &CounterIncrement,
    outcome: Outcome,
    names: &mut Option<u64>,
) -> Result<(), RecorderError> {
    let mut subject = tag(key, &counted.subject);
    let mut place = place_id(transaction, key, &counted.place)?;
    let mut statement = transaction.prepare_cached(
        "UPDATE usage_refusals SET count = count + ?4, last = MAX(last, ?5)
         WHERE wanted = ?1 AND place = ?2 AND outcome = ?3",
    )?;
    if statement.execute(params![subject, place, outcome as u8, counted.count, counted.last])? > 0 {
        return Ok(());
    }
    if !matches!(counted.subject, CounterSubject::Secret(_)) {
        let count = match *names {
            Some(count) => count,
            None => {
                let query = "SELECT COUNT(*) FROM usage_refusals WHERE LENGTH(wanted) = 32";
                transaction.query_row(query, [], |row| row.get(0))?
            }
        };
        *names = Some(count + 1);
        if count >= NAMES_KEPT {
            (subject, place) = (NOBODY.to_vec(), NOWHERE);
        }
    }
    let mut statement = transaction.prepare_cached(
        "INSERT INTO usage_refusals (wanted, place, outcome, count, last) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (wanted, place, outcome) DO UPDATE SET count = count + ?4, last = MAX(last, ?5)",
    )?;
    statement.execute(params![subject, place, outcome as u8, counted.count, counted.last])?;
    Ok(())
}

fn add_days(transaction: &Connection, by_day: &HashMap<(SecretId, u64), u64>) -> Result<(), RecorderError> {
    let mut add = transaction.prepare_cached(
        "INSERT INTO usage_days (secret, day, count) VALUES (?1, ?2, ?3)
         ON CONFLICT (secret, day) DO UPDATE SET count = count + ?3",
    )?;
    // By number, not by age: a clock that jumped ahead must not remove all other days.
    let mut bound = transaction.prepare_cached(
        "DELETE FROM usage_days WHERE secret = ?1 AND day NOT IN
         (SELECT day FROM usage_days WHERE secret = ?1 ORDER BY day DESC LIMIT ?2)",
    )?;
    for ((secret, day), count) in by_day {
        add.execute(params![secret.0, day, count])?;
        bound.execute(params![secret.0, DAYS_KEPT])?;
    }
    Ok(())
}

/// Stores the position up to which a journal has been folded.
pub(super) fn set_position(database: &Connection, journal: [u8; 16], position: Position) -> Result<(), RecorderError> {
    let mut statement = database.prepare_cached(
        "INSERT INTO usage_position (one, journal, generation, at) VALUES (1, ?1, ?2, ?3)
         ON CONFLICT (one) DO UPDATE SET journal = ?1, generation = ?2, at = ?3",
    )?;
    statement.execute(params![journal, position.generation, position.at])?;
    Ok(())
}

/// Returns the key of a counter in a table: the id of a secret, or the tag of a name.
fn tag(key: &Key, subject: &CounterSubject) -> Vec<u8> {
    match subject {
        CounterSubject::Secret(secret) => secret.0.to_vec(),
        CounterSubject::Name(name) => key.mac(&[b"name\0", name.as_bytes()].concat()).to_vec(),
        CounterSubject::Unknown(unknown) => key.mac(unknown.to_string().as_bytes()).to_vec(),
    }
}

/// Returns the row of a place, which is created if it is new.
fn place_id(transaction: &Connection, key: &Key, place: &CounterPlace) -> Result<i64, RecorderError> {
    let text = serde_json::to_vec(place).map_err(VaultError::Unserializable)?;
    let tag = key.mac(&text);
    let mut statement = transaction.prepare_cached("SELECT id FROM usage_places WHERE tag = ?1")?;
    if let Some(id) = statement.query_row([tag], |row| row.get(0)).optional()? {
        return Ok(id);
    }
    // Places are never removed, so the highest id is their number.
    let count: Option<u64> = transaction.query_row("SELECT MAX(id) FROM usage_places", [], |row| row.get(0))?;
    if count >= Some(PLACES_KEPT) && !(place.field.is_empty() && place.exe.is_empty()) {
        return place_id(transaction, key, &CounterPlace { field: String::new(), exe: String::new(), ..place.clone() });
    }
    // Padded, so that the file does not show how long a template's id is.
    let mut padded = text;
    padded.resize(padded.len().next_multiple_of(128), b' ');
    let sealed = crypto::seal(key, &tag, &padded);
    let mut statement = transaction.prepare_cached("INSERT INTO usage_places (tag, box) VALUES (?1, ?2)")?;
    Ok(statement.insert(params![tag, sealed])?)
}

pub(super) fn day_text(day: u64) -> String {
    let seconds = i64::try_from(day).unwrap_or(0).saturating_mul(24 * 60 * 60);
    let date = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH).date();
    format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day())
}
