//! Compares the recorder with a plain model. Events are recorded at any time, folded, lost in a crash, forgotten or
//! pushed out of the trail; every query must give what a few maps and a list give.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Stands for a name that no secret has.
const NAME: u8 = 3;

#[derive(Clone, Debug)]
enum Step {
    Record {
        time: Millis,
        outcome: Outcome,
        subjects: Vec<u8>,
        place: u8,
        caller: u8,
        times: usize,
    },
    Fold,
    Forget(u8),
    /// Copies the files as they are, and opens the copy.
    Crash,
    /// Closes the recorder properly and opens it again, with a bound on the trail that is lower by this much.
    Reopen(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let time = prop_oneof![
        8 => (0..200u64, 0..3u64).prop_map(|(day, rest)| day * DAY + rest),
        1 => Just(0),
        1 => (0..3u64).prop_map(|day| (400_000 + day) * DAY),
    ];
    let outcome = (0..8u8).prop_map(|code| Outcome::from_code(code).unwrap_or(Outcome::Answered));
    let subjects = proptest::collection::vec(0..=NAME, 0..4);
    let record = (time, outcome, subjects, 0..3u8, 0..3u8, 1..40usize).prop_map(
        |(time, outcome, subjects, place, caller, times)| Step::Record {
            time,
            outcome,
            subjects,
            place,
            caller,
            times,
        },
    );
    prop_oneof![
        12 => record,
        2 => Just(Step::Fold),
        1 => (0..NAME).prop_map(Step::Forget),
        2 => Just(Step::Crash),
        1 => (0..60usize).prop_map(Step::Reopen),
    ]
}

fn caller_of(number: u8) -> Caller {
    let exe = if number == 2 { "" } else { "/usr/bin/agent" };
    Caller { uid: 1000 + u32::from(number % 2), gid: 7, pid: 40 + u32::from(number), exe: exe.into() }
}

/// Returns the template, target and field that a number stands for.
fn place_of(number: u8) -> (Option<&'static str>, Option<&'static str>, &'static str) {
    [(Some("mcp-server/a"), Some("mcp-json"), "headers.A"), (Some("mcp-server/a"), None, "headers.B"), (None, None, "")]
        [usize::from(number)]
}

fn wanted_of(number: u8) -> RecordedUse<'static> {
    match number {
        NAME => RecordedUse { subject: Subject::Name("Wanted-Name"), field: "" },
        number => RecordedUse { subject: Subject::Secret(id(number)), field: "" },
    }
}

/// For each key, the count and the time of the latest event.
type Counts<K> = BTreeMap<K, (u64, Millis)>;

fn add<K: Ord>(counts: &mut Counts<K>, key: K, count: u64, time: Millis) {
    let entry = counts.entry(key).or_default();
    *entry = (entry.0 + count, entry.1.max(time));
}

#[derive(Default)]
struct Model {
    resolutions: u64,
    refused: BTreeMap<u8, u64>,
    /// Keys are secret, place and caller.
    answers: Counts<(u8, u8, u8)>,
    days: BTreeMap<u8, BTreeMap<u64, u64>>,
    /// Keys are the wanted secret or name, outcome, place and caller. 255 stands for a refusal that names neither.
    refusals: Counts<(u8, u8, u8, u8)>,
    trail: Vec<UseEvent>,
}

impl Model {
    fn record(&mut self, time: Millis, outcome: Outcome, subjects: &[u8], place: u8, caller: u8) {
        let subjects = if subjects.is_empty() && outcome.is_refusal() { &[255] } else { subjects };
        for number in subjects {
            let (template, target, field) = place_of(place);
            let usage = if *number == 255 { None } else { Some(wanted_of(*number)) };
            self.trail.push(UseEvent {
                time,
                outcome,
                caller: caller_of(caller),
                template: template.map(str::to_owned),
                target: target.map(str::to_owned),
                field: if usage.is_some() { field.to_owned() } else { String::new() },
                secret: (*number < NAME).then(|| id(*number)),
                name: (*number == NAME).then(|| "Wanted-Name".to_owned()),
                unknown: None,
                route: None,
                uses: 1,
            });
            if outcome.is_refusal() {
                add(&mut self.refusals, (*number, outcome as u8, place, caller), 1, time);
                *self.refused.entry(outcome as u8).or_default() += 1;
            } else {
                let count = u64::from(outcome == Outcome::Answered);
                add(&mut self.answers, (*number, place, caller), count, time);
                self.resolutions += count;
                if count > 0 {
                    *self.days.entry(*number).or_default().entry(time / DAY).or_default() += 1;
                }
            }
        }
    }

    fn forget(&mut self, secret: u8) {
        self.answers.retain(|(of, ..), _| *of != secret);
        self.refusals.retain(|(of, ..), _| *of != secret);
        self.days.remove(&secret);
    }

    fn check(&self, recorder: &Recorder, bound: usize) {
        let mut totals: Counts<SecretId> = Counts::new();
        for ((secret, ..), (count, last)) in &self.answers {
            add(&mut totals, id(*secret), *count, *last);
        }
        let recorded = recorder.totals().unwrap();
        let counts: Counts<SecretId> =
            recorded.iter().map(|(id, totals)| (*id, (totals.count, totals.last_used.unwrap()))).collect();
        assert_eq!(counts, totals);
        for secret in 0..NAME {
            self.check_secret(secret, recorder);
        }
        self.check_refusals(recorder);

        let sums = recorder.sums().unwrap();
        assert_eq!(sums.resolutions, self.resolutions);
        for (outcome, count) in sums.refusals {
            assert_eq!(count, self.refused.get(&(outcome as u8)).copied().unwrap_or(0));
        }
        let mut expected = [self.kept(false, bound), self.kept(true, bound)].concat();
        expected.sort_unstable_by_key(|index| std::cmp::Reverse(*index));
        let expected: Vec<&UseEvent> = expected.into_iter().map(|index| &self.trail[index]).collect();
        assert_eq!(uses(recorder).iter().collect::<Vec<_>>(), expected);
    }

    /// Returns the indexes of the answers or refusals that are kept. One by one, the oldest event of the user with the
    /// most events leaves; if several users have the most, it is the one whose newest event is the oldest.
    fn kept(&self, refusals: bool, bound: usize) -> Vec<usize> {
        let mut by_user: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (index, event) in self.trail.iter().enumerate().filter(|(_, event)| event.outcome.is_refusal() == refusals)
        {
            by_user.entry(event.caller.uid).or_default().push(index);
        }
        while by_user.values().map(Vec::len).sum::<usize>() > bound {
            let most = by_user.values_mut().max_by_key(|held| (held.len(), std::cmp::Reverse(held.last().copied())));
            most.unwrap().remove(0);
        }
        by_user.into_values().flatten().collect()
    }

    fn check_secret(&self, secret: u8, recorder: &Recorder) {
        let usage = recorder.usage_of(id(secret)).unwrap();
        let (mut places, mut callers) = (Counts::new(), Counts::new());
        for ((_, place, caller), (count, last)) in self.answers.iter().filter(|((of, ..), _)| *of == secret) {
            add(&mut places, place_of(*place), *count, *last);
            let caller = caller_of(*caller);
            add(&mut callers, (caller.uid, caller.exe.to_string()), *count, *last);
        }
        let by_place = usage.by_template.iter().map(|place| {
            let key = (place.template.as_deref(), place.target.as_deref(), place.field.as_str());
            (key, (place.count, place.last_used.unwrap()))
        });
        assert_eq!(by_place.collect::<BTreeMap<_, _>>(), places);
        assert!(usage.by_template.is_sorted_by_key(|place| std::cmp::Reverse(place.count)));
        let counts =
            usage.by_caller.iter().map(|caller| ((caller.uid, caller.exe.clone()), (caller.count, caller.last_used)));
        assert_eq!(counts.collect::<BTreeMap<_, _>>(), callers);
        let days = self.days.get(&secret).into_iter().flatten().rev().take(90);
        let days: Vec<(String, u64)> = days.map(|(day, count)| (super::counters::day_text(*day), *count)).collect();
        assert_eq!(usage.by_day.into_iter().map(|day| (day.day, day.count)).collect::<Vec<_>>(), days);
    }

    fn check_refusals(&self, recorder: &Recorder) {
        // For a secret alone, a name alone, both, and neither.
        for (secret, name) in
            [(Some(0), ""), (Some(1), "other"), (None, "wanted-NAME"), (Some(2), "Wanted-Name"), (None, "")]
        {
            let mut subjects: BTreeSet<u8> = secret.into_iter().collect();
            subjects.insert(if name.eq_ignore_ascii_case("wanted-name") {
                NAME
            } else if name.is_empty() {
                255
            } else {
                254
            });
            let mut expected = Counts::new();
            for ((of, outcome, place, caller), (count, last)) in &self.refusals {
                if subjects.contains(of) {
                    let caller = caller_of(*caller);
                    let (template, target, field) = place_of(*place);
                    let field = if *of == 255 { "" } else { field };
                    let key = (*outcome, template, target, field, caller.uid, caller.exe.to_string());
                    add(&mut expected, key, *count, *last);
                }
            }
            let refusals = recorder.refusals(secret.map(id), name).unwrap();
            assert_eq!(refusals.len(), expected.len());
            let mut expected: Vec<_> =
                expected.into_iter().map(|((a, b, c, d, e, f), count)| (a, b, c, d, e, f, count)).collect();
            let mut counts: Vec<_> = refusals
                .iter()
                .map(|refusal| {
                    let (template, target) = (refusal.template.as_deref(), refusal.target.as_deref());
                    (
                        refusal.outcome as u8,
                        template,
                        target,
                        refusal.field.as_str(),
                        refusal.uid,
                        refusal.exe.clone(),
                        (refusal.count, refusal.last),
                    )
                })
                .collect();
            expected.sort();
            counts.sort();
            assert_eq!(counts, expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn everything_told_is_what_a_plain_model_says(
        steps in proptest::collection::vec(step(), 1..60),
        bound in prop_oneof![0..20usize, 100..400usize],
    ) {
        let mut files = Files::new();
        let mut bound = bound;
        let open = |files: &Files, events| {
            files.try_open(RecorderOptions { journal_len: SMALL, events, changes: events }).unwrap()
        };
        let mut recorder = open(&files, bound);
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Record { time, outcome, subjects, place, caller, times } => {
                    // Without a secret there is no answer.
                    let subjects: Vec<u8> = subjects.into_iter().filter(|of| outcome.is_refusal() || *of != NAME).collect();
                    let (template, target, field) = place_of(place);
                    let uses: Vec<RecordedUse<'_>> = subjects.iter().map(|of| RecordedUse { field, ..wanted_of(*of) }).collect();
                    let by = caller_of(caller);
                    let event = RequestEvent { template, target, ..event(time, outcome, &by, &uses) };
                    for _ in 0..times {
                        recorder.record(&event).unwrap();
                        model.record(time, outcome, &subjects, place, caller);
                    }
                }
                Step::Fold => recorder.fold().unwrap(),
                Step::Forget(secret) => {
                    recorder.forget(id(secret)).unwrap();
                    model.forget(secret);
                }
                Step::Crash => {
                    let copy = files.crashed(&recorder);
                    #[expect(clippy::disallowed_methods, reason = "a crash: nothing is folded")]
                    std::mem::forget(recorder);
                    files = copy;
                    recorder = open(&files, bound);
                }
                Step::Reopen(lower) => {
                    drop(recorder);
                    bound = bound.saturating_sub(lower);
                    recorder = open(&files, bound);
                }
            }
        }
        model.check(&recorder, bound);
        // The file holds the same as the memory did.
        drop(recorder);
        model.check(&open(&files, bound), bound);
    }
}
