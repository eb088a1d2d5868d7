//! Counts are exact, whatever happens between recording and folding.

#![allow(clippy::disallowed_methods, reason = "these are the totals of one device")]

use super::fold::DAY;
use super::*;

const VAULT: [u8; 16] = [1; 16];
const SMALL: usize = 4096 + 2 * 2048;

struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        rusqlite::Connection::open(dir.path().join("db")).unwrap().pragma_update(None, "journal_mode", "WAL").unwrap();
        Self { dir }
    }

    fn open(&self, len: usize) -> Recorder {
        self.try_open(RecorderOptions { journal_len: len, ..RecorderOptions::default() }).unwrap()
    }

    fn try_open(&self, options: RecorderOptions) -> Result<Recorder, RecorderError> {
        let (journal, database) = (self.dir.path().join("journal"), self.dir.path().join("db"));
        Recorder::open_with(&journal, &database, VAULT, Key::from_bytes(&mut [5; 32]), options)
    }

    /// Copies the files as they are now, between two folds. If a fold went on during the copy, the result would be a
    /// state that no crash leaves.
    fn crashed(&self, recorder: &Recorder) -> Self {
        let _no_fold = recorder.shared.counters();
        self.copy()
    }

    fn copy(&self) -> Self {
        let copy = Self { dir: tempfile::tempdir().unwrap() };
        for entry in std::fs::read_dir(self.dir.path()).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, copy.dir.path().join(path.file_name().unwrap())).unwrap();
        }
        copy
    }

    /// Changes the database while the recorder does not know of it.
    fn sql(&self, statements: &str) {
        rusqlite::Connection::open(self.dir.path().join("db")).unwrap().execute_batch(statements).unwrap();
    }
}

fn caller() -> Caller {
    Caller { uid: 1000, gid: 1000, pid: 7, exe: "/usr/bin/agent".into() }
}

fn id(n: u8) -> SecretId {
    SecretId([n; 16])
}

fn record(recorder: &Recorder, time: Millis, outcome: Outcome, secrets: &[u8], field: &str) {
    let uses: Vec<RecordedUse<'_>> =
        secrets.iter().map(|n| RecordedUse { subject: Subject::Secret(id(*n)), field }).collect();
    let caller = caller();
    let event = RequestEvent {
        template: Some("mcp-server/a"),
        target: Some("mcp-json"),
        ..event(time, outcome, &caller, &uses)
    };
    recorder.record(&event).unwrap();
}

/// Returns an event that belongs to no template.
fn event<'a>(time: Millis, outcome: Outcome, caller: &'a Caller, uses: &'a [RecordedUse<'a>]) -> RequestEvent<'a> {
    RequestEvent { time, outcome, caller, template: None, target: None, route: None, uses }
}

/// Picks the uses that the function accepts, and all changes.
struct Where<F>(F);

impl<F: Fn(&Decoded<'_>) -> bool> TrailFilter for Where<F> {
    fn has_class(&self, _: Class) -> bool {
        true
    }

    fn of_use(&self, event: &Decoded<'_>, _: &Listed<'_>) -> bool {
        self.0(event)
    }

    fn of_change(&self, _: &AuditChange) -> bool {
        true
    }
}

/// Returns every event in the trail, newest first.
fn everything(recorder: &Recorder) -> Vec<TrailEvent> {
    let (count, events) = recorder.trail(&Where(|_: &Decoded<'_>| true), 0, usize::MAX).unwrap();
    assert_eq!(count, events.len());
    events
}

/// Returns every use in the trail, newest first.
fn uses(recorder: &Recorder) -> Vec<UseEvent> {
    let used = |event| match event {
        TrailEvent::Use(event) => Some(event),
        TrailEvent::Change(_) => None,
    };
    everything(recorder).into_iter().filter_map(used).collect()
}

#[test]
fn places_days_and_totals_are_told() {
    let files = Files::new();
    let recorder = files.open(SMALL);
    record(&recorder, 5 * DAY + 3, Outcome::Answered, &[1, 2], "headers.A");
    record(&recorder, 6 * DAY, Outcome::Answered, &[1], "headers.B");
    record(&recorder, 6 * DAY + 9, Outcome::Revalidated, &[1], "headers.B");
    record(&recorder, 7 * DAY, Outcome::Disabled, &[1], "headers.B");
    let usage = recorder.usage_of(id(1)).unwrap();
    assert_eq!(usage.totals, Totals { count: 2, last_used: Some(6 * DAY + 9) });
    let places: Vec<_> = usage.by_template.iter().map(|place| (place.field.as_str(), place.count)).collect();
    assert_eq!(places, [("headers.A", 1), ("headers.B", 1)]);
    let days: Vec<_> = usage.by_day.iter().map(|day| (day.day.as_str(), day.count)).collect();
    assert_eq!(days, [("1970-01-07", 1), ("1970-01-06", 1)]);
    recorder.forget(id(1)).unwrap();
    assert_eq!(recorder.usage_of(id(1)).unwrap(), SecretUsage::default());
    assert_eq!(recorder.totals().unwrap().len(), 1);
}

#[test]
fn the_file_shows_counts_only() {
    let files = Files::new();
    record(&files.open(SMALL), 1, Outcome::Answered, &[1], "headers.Authorization");
    for name in ["db", "db-wal"] {
        let bytes = std::fs::read(files.dir.path().join(name)).unwrap_or_default();
        for text in ["mcp-server", "Authorization", "/usr/bin/agent"] {
            assert!(!bytes.windows(text.len()).any(|window| window == text.as_bytes()), "{text} in {name}");
        }
    }
}

#[test]
fn a_lost_journal_begins_anew_without_confusion() {
    let files = Files::new();
    let recorder = files.open(SMALL);
    for _ in 0..100 {
        record(&recorder, 1, Outcome::Answered, &[1], "f");
    }
    drop(recorder);
    std::fs::remove_file(files.dir.path().join("journal")).unwrap();
    let recorder = files.open(SMALL);
    record(&recorder, 2, Outcome::Answered, &[1], "f");
    assert_eq!(recorder.usage_of(id(1)).unwrap().totals.count, 101);
}

#[test]
fn a_fold_that_fails_loses_nothing_and_a_full_journal_refuses() {
    let files = Files::new();
    let recorder = files.open(SMALL);
    recorder.shared.counters().database.busy_timeout(std::time::Duration::ZERO).unwrap();
    let blocker = rusqlite::Connection::open(files.dir.path().join("db")).unwrap();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let caller = caller();
    let uses = [RecordedUse { subject: Subject::Secret(id(1)), field: "f" }];
    let event = event(1, Outcome::Answered, &caller, &uses);
    let recorded = (0..1000).take_while(|_| recorder.record(&event).is_ok()).count();
    assert!((10..1000).contains(&recorded), "{recorded}");
    assert!(recorder.totals().is_err());
    blocker.execute_batch("ROLLBACK").unwrap();
    assert_eq!(recorder.usage_of(id(1)).unwrap().totals.count as usize, recorded);
    recorder.record(&event).unwrap();
}

#[test]
fn eight_threads_and_folds_count_exactly() {
    let files = Files::new();
    let recorder = files.open(64 << 10);
    std::thread::scope(|scope| {
        for thread in 0..8u8 {
            let recorder = &recorder;
            scope.spawn(move || {
                for n in 0..500 {
                    record(recorder, n, Outcome::Answered, &[thread, 9], "headers.Authorization");
                }
            });
        }
        for _ in 0..20 {
            recorder.fold().unwrap();
        }
    });
    let totals = recorder.totals().unwrap();
    assert_eq!(totals[&id(9)].count, 4000);
    assert!((0..8).all(|thread| totals[&id(thread)].count == 500));
}

#[test]
fn the_newest_ninety_days_are_kept_and_the_totals_whole() {
    let files = Files::new();
    let recorder = files.open(SMALL);
    for day in 0..120 {
        record(&recorder, day * DAY, Outcome::Answered, &[1], "f");
    }
    let usage = recorder.usage_of(id(1)).unwrap();
    assert_eq!((usage.by_day.len(), usage.totals.count), (90, 120));
}

/// Promise Recorded: a process that is killed while it records has counted everything it acknowledged, and not more
/// than it tried. This test runs itself again as that process.
#[test]
fn what_was_acknowledged_before_a_kill_is_counted() {
    use std::io::{BufRead, BufReader, Write};
    const CHILD: &str = "GUILLEMET_TEST_RECORDER";
    if let Some(dir) = std::env::var_os(CHILD) {
        let (journal, database) = (Path::new(&dir).join("journal"), Path::new(&dir).join("db"));
        let options = RecorderOptions { journal_len: 64 << 10, ..RecorderOptions::default() };
        let recorder = Recorder::open_with(&journal, &database, VAULT, Key::from_bytes(&mut [5; 32]), options).unwrap();
        let mut out = std::io::stderr();
        loop {
            let _ = out.write_all(b"try\n");
            record(&recorder, 1, Outcome::Answered, &[1], "headers.Authorization");
            let _ = out.write_all(b"done\n");
        }
    }
    let files = Files::new();
    drop(files.open(64 << 10));
    let mut counted = 0;
    for round in 1..=10 {
        let name = "vault::usage::tests::what_was_acknowledged_before_a_kill_is_counted";
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, files.dir.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (mut tried, mut done) = (0u64, 0u64);
        let mut count = |line: std::io::Result<String>| match line.as_deref() {
            Ok("try") => tried += 1,
            Ok("done") => done += 1,
            _ => {}
        };
        lines.by_ref().take(100 + 97 * round).for_each(&mut count);
        child.kill().unwrap();
        lines.for_each(&mut count);
        child.wait().unwrap();
        let now = files.open(64 << 10).usage_of(id(1)).unwrap().totals.count;
        assert!(done <= now - counted && now - counted <= tried, "{done} <= {} <= {tried}", now - counted);
        counted = now;
    }
}

/// Prints what a record costs: `cargo test --release -- --ignored --nocapture what_a_record_costs`.
#[test]
#[ignore = "a measurement"]
fn what_a_record_costs() {
    let files = Files::new();
    let recorder = files.open(journal::LEN);
    for threads in [1, 8] {
        let begin = std::time::Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    for n in 0..200_000 {
                        record(&recorder, n, Outcome::Answered, &[1, 2, 3], "headers.X-Some-Header-Name");
                    }
                });
            }
        });
        println!("{threads} threads: {} ns a record", begin.elapsed().as_nanos() / (threads * 200_000));
    }
}

mod damage;
mod model;
mod trail;

/// The thread that folds has the file open too, and SQLite removes its log only when nobody else has it open.
#[test]
fn what_was_dropped_has_let_the_file_go() {
    let files = Files::new();
    for _ in 0..20 {
        let recorder = files.open(SMALL);
        for time in 0..100 {
            record(&recorder, time, Outcome::Answered, &[1], "api_key");
        }
        recorder.folder.wake();
        drop(recorder);
        let database = rusqlite::Connection::open(files.dir.path().join("db")).unwrap();
        for mode in ["delete", "wal"] {
            let now: String = database
                .pragma_update_and_check(None, "journal_mode", mode, |row| row.get(0))
                .unwrap_or_else(|error| error.to_string());
            assert_eq!(now, mode);
        }
    }
}
