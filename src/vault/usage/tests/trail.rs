//! The bounds: of the trail, and of what callers could make of the counters.

use super::*;

fn all(recorder: &Recorder) -> Vec<(Outcome, Millis)> {
    let (count, events) = recorder.trail(&|_, _| true, 0, usize::MAX).unwrap();
    assert_eq!(count, events.len());
    events.into_iter().map(|event| (event.outcome, event.time)).collect()
}

/// How many events the file holds, and in how many boxes.
fn in_file(files: &Files) -> (u64, u64) {
    let database = rusqlite::Connection::open(files.dir.path().join("db")).unwrap();
    let query = "SELECT IFNULL(SUM(count), 0), COUNT(*) FROM usage_events";
    database.query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
}

fn kept(files: &Files) -> u64 {
    in_file(files).0
}

fn with(files: &Files, events: usize) -> Recorder {
    files.try_open(Options { journal_len: 64 << 10, events }).unwrap()
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
        assert_eq!((sums.resolutions, sums.answers_kept, sums.refusals_kept), (2 * records, 300, 1));
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
    recorder.keep_events(10).unwrap();
    assert_eq!(all(&recorder).len(), 10);
    assert!(kept(&files) < 10 + 129);
    drop(recorder);
    drop(with(&files, 0));
    assert_eq!(kept(&files), 0);
    let recorder = with(&files, 5);
    record(&recorder, 7, Outcome::Answered, &[1], "f");
    assert_eq!(all(&recorder), [(Outcome::Answered, 7)]);
    assert_eq!(recorder.of(id(1)).unwrap().totals.count, 601);
}

#[test]
fn a_page_is_cut_out_of_what_is_picked() {
    let files = Files::new();
    let recorder = with(&files, 1000);
    for n in 0..400 {
        let outcome = if n % 2 == 0 { Outcome::Answered } else { Outcome::Missing };
        record(&recorder, n, outcome, &[1], "f");
    }
    let even = |event: &Decoded<'_>, _: &Use<'_>| event.outcome == Outcome::Answered && event.time < 300;
    let (count, events) = recorder.trail(&even, 10, 3).unwrap();
    assert_eq!(count, 150);
    assert_eq!(events.iter().map(|event| event.time).collect::<Vec<_>>(), [278, 276, 274]);
    assert_eq!(recorder.trail(&even, 149, 3).unwrap().1.len(), 1);
    assert_eq!(recorder.trail(&even, 150, 3).unwrap(), (150, Vec::new()));
}

fn refuse(recorder: &Recorder, name: &str, field: &str, exe: &str) {
    let caller = Caller { exe: exe.into(), ..caller() };
    let uses = [Use { subject: Subject::Name(name), field }];
    let event =
        Event { time: 1, outcome: Outcome::Missing, caller: &caller, template: Some("t"), target: None, uses: &uses };
    recorder.record(&event).unwrap();
}

/// Names and fields can be a caller's own: beyond a number of them they are counted together.
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
        let uses = [Use { subject: Subject::Secret(id(1)), field: &field }];
        let event = Event {
            time: 1,
            outcome: Outcome::Answered,
            caller: &caller,
            template: Some("t"),
            target: None,
            uses: &uses,
        };
        recorder.record(&event).unwrap();
    }
    let usage = recorder.of(id(1)).unwrap();
    let places: Vec<_> =
        usage.by_template.iter().map(|place| (place.template.as_deref(), place.field.as_str(), place.count)).collect();
    assert_eq!(places, [(Some("t"), "", 5)]);
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
