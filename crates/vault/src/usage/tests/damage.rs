//! A damaged, lost or older journal, and a clock that jumps.

use super::*;
use crate::trail;

/// Returns files whose journal has this many records after one that was folded.
fn killed(records: u64) -> Files {
    let files = Files::new();
    let recorder = files.open(SMALL);
    record(&recorder, 1, Outcome::Answered, &[1], "f");
    recorder.fold().unwrap();
    for _ in 1..records {
        record(&recorder, 1, Outcome::Answered, &[1], "f");
    }
    // As a kill leaves it: nothing is folded at the end.
    std::fs::copy(files.dir.path().join("journal"), files.dir.path().join("killed")).unwrap();
    for end in ["", "-wal"] {
        let _ =
            std::fs::copy(files.dir.path().join(format!("db{end}")), files.dir.path().join(format!("killed-db{end}")));
    }
    drop(recorder);
    files
}

impl Files {
    fn put_back(&self, journal: &[u8]) {
        let path = |name: &str| self.dir.path().join(name);
        std::fs::write(path("journal"), journal).unwrap();
        for end in ["", "-wal"] {
            let _ = std::fs::remove_file(path(&format!("db{end}")));
            let _ = std::fs::copy(path(&format!("killed-db{end}")), path(&format!("db{end}")));
        }
    }
}

fn small(files: &Files) -> Result<Recorder, RecorderError> {
    files.try_open(RecorderOptions { journal_len: SMALL, ..RecorderOptions::default() })
}

fn count(recorder: &Recorder) -> u64 {
    recorder.usage_of(id(1)).unwrap().totals.count
}

#[test]
fn damage_of_the_journal_is_told_and_counts_nothing_twice() {
    let files = killed(8);
    let good = std::fs::read(files.dir.path().join("killed")).unwrap();
    let (mut refused, mut warned) = (0, 0);
    for at in (0..64).chain((4096..good.len()).step_by(5)) {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        files.put_back(&bytes);
        match small(&files) {
            Err(error) => {
                assert!(error.to_string().contains("journal"), "{error}");
                assert_eq!(std::fs::read(files.dir.path().join("journal")).unwrap(), bytes);
                refused += 1;
            }
            Ok(recorder) => {
                let counted = count(&recorder);
                // Damage to the last record looks like a record that a crash cut off.
                let all = counted == 8 || counted == 7;
                assert!(all, "byte {at}: {counted}");
                warned += usize::from(!recorder.warnings().is_empty());
                record(&recorder, 2, Outcome::Answered, &[1], "f");
                assert_eq!(count(&recorder), counted + 1, "byte {at}");
            }
        }
    }
    assert!(refused >= 56 && warned > 20, "{refused} refused, {warned} warned");
    for len in [0, 8, 4096, good.len() - 8, good.len() + 8] {
        let mut bytes = good.clone();
        bytes.resize(len, 0);
        files.put_back(&bytes);
        assert!(small(&files).is_err(), "{len}");
        assert_eq!(std::fs::read(files.dir.path().join("journal")).unwrap(), bytes);
    }
}

#[test]
fn a_lost_journal_is_told() {
    let files = killed(8);
    std::fs::remove_file(files.dir.path().join("journal")).unwrap();
    assert_eq!(small(&files).unwrap().warnings().len(), 1);
    assert_eq!(small(&files).unwrap().warnings().len(), 0, "once");

    let files = Files::new();
    drop(files.open(SMALL));
    std::fs::remove_file(files.dir.path().join("journal")).unwrap();
    assert_eq!(small(&files).unwrap().warnings().len(), 1, "before anything was folded, too");
}

#[test]
fn an_older_copy_of_the_journal_counts_nothing_twice_and_everything_after() {
    let files = Files::new();
    let recorder = files.open(SMALL);
    let mut true_count = 0;
    let mut use_once = |recorder: &Recorder| {
        record(recorder, 1, Outcome::Answered, &[1], "f");
        true_count += 1;
        true_count
    };
    for _ in 0..3 {
        use_once(&recorder);
    }
    let copy = std::fs::read(files.dir.path().join("journal")).unwrap();
    // First within the same area, then areas later.
    for more in [5, 200] {
        let mut last = 0;
        let recorder = small(&files).unwrap();
        (0..more).for_each(|_| last = use_once(&recorder));
        assert_eq!(count(&recorder), last);
        drop(recorder);
        std::fs::write(files.dir.path().join("journal"), &copy).unwrap();
        let recorder = small(&files).unwrap();
        assert_eq!(count(&recorder), last);
        let last = use_once(&recorder);
        assert_eq!(count(&recorder), last);
        drop(recorder);
        assert_eq!(count(&small(&files).unwrap()), last);
    }
}

/// The clock jumps both ways, over restarts: every resolution counts once, and the time of the latest use does not go
/// back.
#[test]
fn a_clock_that_jumps_counts_the_same() {
    let files = Files::new();
    let year = 365 * DAY;
    let times = [56 * year, 0, 300 * year, 56 * year + 1, 1, 8000 * year, 55 * year];
    for (index, time) in times.iter().enumerate() {
        let recorder = files.open(SMALL);
        for _ in 0..30 {
            record(&recorder, *time, Outcome::Answered, &[1], "f");
        }
        let usage = recorder.usage_of(id(1)).unwrap();
        assert_eq!(usage.totals.count, 30 * (index as u64 + 1));
        assert_eq!(usage.totals.last_used, times[..=index].iter().copied().max());
        assert_eq!(usage.by_day.iter().map(|day| day.count).sum::<u64>(), usage.totals.count);
    }
}

/// A vault of an earlier version lacks the trail; any other missing table is damage.
#[test]
fn a_vault_without_a_trail_gets_one_and_another_missing_table_is_damage() {
    let files = Files::new();
    record(&files.open(SMALL), 1, Outcome::Answered, &[1], "f");
    files.sql("DROP TABLE audit_events; DROP TABLE usage_refusals");
    let recorder = files.open(SMALL);
    record(&recorder, 2, Outcome::Disabled, &[1], "f");
    assert_eq!((count(&recorder), recorder.refusals(Some(id(1)), "").unwrap().len()), (1, 1));
    drop(recorder);
    for table in ["audit_events", "usage_refusals", "usage_counters", "usage_days", "usage_places", "usage_position"] {
        let damaged = files.copy();
        damaged.sql(&format!("DROP TABLE {table}"));
        let before = std::fs::read(damaged.dir.path().join("db")).unwrap();
        let error = small(&damaged).err().unwrap().to_string();
        assert!(error.contains("a table of its usage is missing"), "{table}: {error}");
        assert_eq!(std::fs::read(damaged.dir.path().join("db")).unwrap(), before);
    }
    assert_eq!(count(&files.open(SMALL)), 1);
}

/// A part of the trail that cannot be read is reported and kept, and counting goes on.
#[test]
fn a_damaged_part_of_the_trail_is_told_of_and_not_written_over() {
    let files = Files::new();
    record(&files.open(SMALL), 1, Outcome::Answered, &[1], "f");
    for column in ["last = last + 0, count = count + 1", "box = CAST(box || x'00' AS BLOB)"] {
        let damaged = files.copy();
        damaged.sql(&format!("UPDATE audit_events SET {column}"));
        let recorder = damaged.open(SMALL);
        record(&recorder, 2, Outcome::Answered, &[1], "f");
        assert_eq!(count(&recorder), 2);
        let error = recorder.trail(&Where(|_: &Decoded<'_>| true), 0, 10).unwrap_err().to_string();
        assert!(error.contains("audit trail cannot be decrypted"), "{error}");
        drop(recorder);
        let database = rusqlite::Connection::open(damaged.dir.path().join("db")).unwrap();
        let chunks: u64 = database.query_row("SELECT COUNT(*) FROM audit_events", [], |row| row.get(0)).unwrap();
        assert_eq!(chunks, 2);
    }
}

/// Puts the trail into the one table that earlier versions had: chunks of all users, sealed in their format.
fn as_before(files: &Files) -> u64 {
    let key = Key::from_bytes(&mut [5; 32]);
    let boxes = trail::TrailSealer::new(&key, VAULT);
    let database = rusqlite::Connection::open(files.dir.path().join("db")).unwrap();
    database
        .execute_batch(
            "CREATE TABLE usage_events (
                id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, last INTEGER NOT NULL, count INTEGER NOT NULL,
                box BLOB NOT NULL
            ) STRICT;
            CREATE INDEX usage_events_kind ON usage_events (kind, id, last, count);",
        )
        .unwrap();
    let mut written = 0;
    for (kind, class) in [(0u8, Class::Answer), (1, Class::Refusal)] {
        let mut all = Vec::new();
        for (chunks, _) in trail::kept_chunks(&database, class, usize::MAX).unwrap() {
            for chunk in chunks {
                let frames = trail::open(&database, &boxes, chunk.id).unwrap().unwrap().frames.unwrap();
                let records = trail::records(&frames).unwrap();
                all.extend(records.into_iter().map(|(number, range)| (number, frames[range].to_vec())));
            }
        }
        all.sort();
        for records in all.chunks(7) {
            let (id, last, count) = (records[0].0, records[records.len() - 1].0, records.len() as u64);
            let mut frames = Vec::new();
            for (number, content) in records {
                frames.extend_from_slice(&number.to_le_bytes());
                frames.extend_from_slice(&(content.len() as u32).to_le_bytes());
                frames.extend_from_slice(content);
            }
            let mut plain = [&(frames.len() as u32).to_le_bytes(), frames.as_slice()].concat();
            plain.resize(plain.len().next_multiple_of(1024), 0);
            let binding = [b"guillemet usage events 1\0".as_slice(), &VAULT, &[kind]].concat();
            let binding = [binding, [id, last, count].map(u64::to_le_bytes).concat()].concat();
            let sealed = guillemet_secret::crypto::seal(&key.subkey("events"), &binding, &plain);
            let row = rusqlite::params![id, kind, last, count, sealed];
            database.execute("INSERT INTO usage_events VALUES (?1, ?2, ?3, ?4, ?5)", row).unwrap();
            written += count;
        }
    }
    database.execute_batch("DROP TABLE audit_events").unwrap();
    written
}

#[test]
fn the_trail_of_an_earlier_version_is_taken_over_once_and_whole() {
    let files = Files::new();
    let recorder = files.open(SMALL);
    for n in 0..60u64 {
        let caller = Caller { uid: 1000 + (n % 3) as u32, ..caller() };
        let uses = [RecordedUse { subject: Subject::Secret(id(1)), field: "f" }];
        let outcome = if n % 5 == 0 { Outcome::Forbidden } else { Outcome::Answered };
        recorder.record(&event(n, outcome, &caller, &uses)).unwrap();
    }
    let expected = everything(&recorder);
    drop(recorder);
    assert_eq!(as_before(&files), 60);
    let damaged = files.copy();
    for _ in 0..2 {
        let recorder = files.open(SMALL);
        assert_eq!(everything(&recorder), expected);
        assert_eq!((count(&recorder), recorder.sums().unwrap().stored), (48, [48, 12, 0]));
    }
    let tables = "SELECT COUNT(*) FROM sqlite_schema WHERE name LIKE 'usage_events%'";
    let database = rusqlite::Connection::open(files.dir.path().join("db")).unwrap();
    assert_eq!(database.query_row::<u64, _, _>(tables, [], |row| row.get(0)).unwrap(), 0);

    // A part that does not open stays, and is reported.
    damaged
        .sql("UPDATE usage_events SET box = CAST(box || x'00' AS BLOB) WHERE id = (SELECT MIN(id) FROM usage_events)");
    let recorder = damaged.open(SMALL);
    record(&recorder, 2, Outcome::Answered, &[1], "f");
    assert_eq!(count(&recorder), 49);
    let error = recorder.trail(&Where(|_: &Decoded<'_>| true), 0, 100).unwrap_err().to_string();
    assert!(error.contains("audit trail cannot be decrypted"), "{error}");
}
