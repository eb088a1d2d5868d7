//! The bounds of the trail, and of the counters that callers can create.

use super::*;
use crate::audit::Actor;

fn all(recorder: &Recorder) -> Vec<(Outcome, Millis)> {
    uses(recorder).into_iter().map(|event| (event.outcome, event.time)).collect()
}

/// Returns how many events the file holds, and in how many boxes.
fn in_file(files: &Files) -> (u64, u64) {
    let database = rusqlite::Connection::open(files.dir.path().join("db")).unwrap();
    let query = "SELECT IFNULL(SUM(count), 0), COUNT(*) FROM audit_events";
    database.query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
}

fn kept(files: &Files) -> u64 {
    in_file(files).0
}

fn with(files: &Files, events: usize) -> Recorder {
    files.try_open(RecorderOptions { journal_len: 64 << 10, events, changes: events }).unwrap()
}

#[test]
fn each_kind_has_a_bound_of_its_own_in_one_fold_and_in_many() {
    for (records, fold_each) in [(2000, 2000), (2000, 45), (500, 1)] {
        let files = Files::new();
        let recorder = with(&files, 300);
        record(&recorder, 0, Outcome::Forbidden, &[1], "f");
        for n in 1..=records {
            record(&recorder, n, Outcome::Answered, &[1, 2], "f");
            if n % fold_each == 0 {
                recorder.fold().unwrap();
            }
        }
        let listed = all(&recorder);
        assert_eq!(listed.len(), 301);
        assert_eq!((listed[0], listed[299]), ((Outcome::Answered, records), (Outcome::Answered, records - 149)));
        assert_eq!(listed[300], (Outcome::Forbidden, 0));
        let (events, boxes) = in_file(&files);
        assert!(events < 300 + 129 + 2 && boxes <= 5, "{events} in {boxes}");
        let sums = recorder.sums().unwrap();
        assert_eq!((sums.resolutions, sums.stored), (2 * records, [300, 1, 0]));
        assert_eq!(sums.refusals.iter().map(|(_, count)| count).sum::<u64>(), 1);
    }
}

#[test]
fn a_bound_that_was_lowered_holds_at_once_and_after_the_next_start() {
    let files = Files::new();
    let recorder = with(&files, 1000);
    for n in 0..600 {
        record(&recorder, n, Outcome::Answered, &[1], "f");
    }
    assert_eq!(all(&recorder).len(), 600);
    recorder.keep_events(10, 10).unwrap();
    assert_eq!(all(&recorder).len(), 10);
    assert!(kept(&files) < 10 + 129);
    drop(recorder);
    drop(with(&files, 0));
    assert_eq!(kept(&files), 0);
    let recorder = with(&files, 5);
    record(&recorder, 7, Outcome::Answered, &[1], "f");
    assert_eq!(all(&recorder), [(Outcome::Answered, 7)]);
    assert_eq!(recorder.usage_of(id(1)).unwrap().totals.count, 601);
}

#[test]
fn a_page_is_cut_out_of_what_is_picked() {
    let files = Files::new();
    let recorder = with(&files, 1000);
    for n in 0..400 {
        let outcome = if n % 2 == 0 { Outcome::Answered } else { Outcome::Missing };
        record(&recorder, n, outcome, &[1], "f");
    }
    let even = Where(|event: &Decoded<'_>| event.outcome == Outcome::Answered && event.time < 300);
    let (count, events) = recorder.trail(&even, 10, 3).unwrap();
    assert_eq!(count, 150);
    let time = |event: &TrailEvent| match event {
        TrailEvent::Use(event) => event.time,
        TrailEvent::Change(change) => change.time,
    };
    assert_eq!(events.iter().map(time).collect::<Vec<_>>(), [278, 276, 274]);
    assert_eq!(recorder.trail(&even, 149, 3).unwrap().1.len(), 1);
    assert_eq!(recorder.trail(&even, 150, 3).unwrap(), (150, Vec::new()));
}

fn refuse(recorder: &Recorder, name: &str, field: &str, exe: &str) {
    let caller = Caller { exe: exe.into(), ..caller() };
    let uses = [RecordedUse { subject: Subject::Name(name), field }];
    let event = RequestEvent { template: Some("t"), ..event(1, Outcome::Missing, &caller, &uses) };
    recorder.record(&event).unwrap();
}

/// Callers can make up names and fields, so beyond a number of them they are counted together.
#[test]
fn callers_cannot_fill_the_vault_with_names_and_places() {
    let files = Files::new();
    let recorder = files.open(SMALL);
    refuse(&recorder, "known", "f", "/bin/a");
    recorder.fold().unwrap();
    files.sql(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
         INSERT INTO usage_refusals SELECT randomblob(32), 1, 3, 1, 1 FROM n",
    );
    for _ in 0..3 {
        refuse(&recorder, "known", "f", "/bin/a");
        refuse(&recorder, "new", "f", "/bin/a");
    }
    let count = |name: &str| recorder.refusals(None, name).unwrap().iter().map(|refused| refused.count).sum::<u64>();
    assert_eq!((count("Known"), count("new")), (4, 0));
    assert_eq!(recorder.sums().unwrap().refusals[0], (Outcome::Missing, 10_000 + 7));

    files.sql(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)
         INSERT INTO usage_places (tag, box) SELECT randomblob(32), x'00' FROM n",
    );
    for n in 0..5 {
        let caller = Caller { exe: format!("/bin/{n}").into(), ..caller() };
        let field = format!("headers.{n}");
        let uses = [RecordedUse { subject: Subject::Secret(id(1)), field: &field }];
        let event = RequestEvent { template: Some("t"), ..event(1, Outcome::Answered, &caller, &uses) };
        recorder.record(&event).unwrap();
    }
    let usage = recorder.usage_of(id(1)).unwrap();
    let places: Vec<_> =
        usage.by_template.iter().map(|place| (place.template.as_deref(), place.field.as_str(), place.count)).collect();
    assert_eq!(places, [(Some("t"), "", 5)]);
}

/// A template may reference a name only after it was first asked for.
#[test]
fn a_name_that_becomes_known_keeps_what_was_refused_before() {
    let files = Files::new();
    let recorder = files.open(SMALL);
    let caller = caller();
    for (time, subject) in [(7, recorder.unknown_subject(1000, "Some-Name", 7)), (8, Subject::Name("some-name"))] {
        let uses = [RecordedUse { subject, field: "f" }];
        recorder.record(&event(time, Outcome::Missing, &caller, &uses)).unwrap();
    }
    let refusals = recorder.refusals(None, "SOME-NAME").unwrap();
    assert_eq!(refusals.iter().map(|refused| (refused.count, refused.last)).collect::<Vec<_>>(), [(2, 8)]);
    let events = uses(&recorder);
    assert_eq!(
        (events[0].name.as_deref(), events[1].unknown),
        (Some("some-name"), Some(recorder.hash_name("some-name")))
    );
}

#[test]
fn totals_are_shared_until_something_is_used() {
    let files = Files::new();
    let recorder = files.open(SMALL);
    record(&recorder, 1, Outcome::Answered, &[1], "f");
    let first = recorder.totals().unwrap();
    record(&recorder, 1, Outcome::Disabled, &[1], "f");
    assert_eq!(first, recorder.totals().unwrap());
    assert!(Arc::ptr_eq(&recorder.totals().unwrap(), &recorder.totals().unwrap()));
    record(&recorder, 1, Outcome::Answered, &[1], "f");
    assert_eq!((first[&id(1)].count, recorder.totals().unwrap()[&id(1)].count), (1, 2));
}

fn change(uid: u32, time: Millis) -> AuditChange {
    let caller = Caller { uid, ..caller() };
    AuditChange::new(ChangeKind::SecretRotated, &Actor::caller(&caller), time).before("1").after("2")
}

/// A busy user pushes out its own events and those of nobody else, for changes as for refusals.
#[test]
fn in_each_ring_every_user_has_a_share() {
    let files = Files::new();
    let recorder = with(&files, 200);
    let used = [RecordedUse { subject: Subject::Secret(id(1)), field: "f" }];
    let by = |uid| Caller { uid, ..caller() };
    for n in 0..5 {
        recorder.record(&event(n, Outcome::Forbidden, &by(1), &used)).unwrap();
        recorder.record_changes(&[change(1, n)]).unwrap();
    }
    for round in 0..10 {
        for n in 0..100 {
            recorder.record(&event(100 + n, Outcome::Forbidden, &by(2), &used)).unwrap();
        }
        recorder.record_changes(&vec![change(2, 300 + round); 100]).unwrap();
        recorder.fold().unwrap();
    }
    let of = |events: &[TrailEvent], uid: u32| {
        let is_change = |event: &TrailEvent| matches!(event, TrailEvent::Change(_));
        let caller = |event: &TrailEvent| match event {
            TrailEvent::Use(event) => event.caller.uid,
            TrailEvent::Change(change) => change.actor.caller.as_ref().unwrap().uid,
        };
        let (changes, uses): (Vec<_>, Vec<_>) =
            events.iter().filter(|event| caller(event) == uid).partition(|e| is_change(e));
        (uses.len(), changes.len())
    };
    let events = everything(&recorder);
    assert_eq!((of(&events, 1), of(&events, 2)), ((5, 5), (195, 195)));
    assert_eq!(recorder.sums().unwrap().stored, [0, 200, 200]);
    // Two busy users keep the same number.
    for _ in 0..1000 {
        recorder.record(&event(500, Outcome::Forbidden, &by(3), &used)).unwrap();
    }
    let events = everything(&recorder);
    assert_eq!([of(&events, 1), of(&events, 2), of(&events, 3)], [(5, 5), (97, 195), (98, 0)]);
    drop(recorder);
    assert_eq!(everything(&with(&files, 200)), events);
}

/// A use is numbered when it is folded, and a change when it is made.
#[test]
fn changes_stand_among_uses_by_their_time() {
    let files = Files::new();
    let recorder = files.open(SMALL);
    record(&recorder, 10, Outcome::Answered, &[1], "f");
    recorder.record_changes(&[change(1, 20), change(1, 20).failed("conflict")]).unwrap();
    record(&recorder, 30, Outcome::Disabled, &[1], "f");
    recorder.record_changes(&[change(1, 40)]).unwrap();
    let events: Vec<(Millis, bool)> = everything(&recorder)
        .into_iter()
        .map(|event| match event {
            TrailEvent::Use(event) => (event.time, false),
            TrailEvent::Change(change) => (change.time, change.error.is_some()),
        })
        .collect();
    assert_eq!(events, [(40, false), (30, false), (20, true), (20, false), (10, false)]);
}

/// A change that cannot be recorded is an error.
#[test]
fn a_change_that_cannot_be_recorded_fails() {
    let files = Files::new();
    let recorder = files.open(SMALL);
    recorder.shared.counters().database.busy_timeout(std::time::Duration::ZERO).unwrap();
    let blocker = rusqlite::Connection::open(files.dir.path().join("db")).unwrap();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(recorder.record_changes(&[change(1, 1)]).is_err());
    blocker.execute_batch("ROLLBACK").unwrap();
    assert_eq!(everything(&recorder), []);
    recorder.record_changes(&[change(1, 1)]).unwrap();
    assert_eq!(everything(&recorder), [TrailEvent::Change(change(1, 1))]);
}
