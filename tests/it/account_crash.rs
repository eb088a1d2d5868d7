//! Kills the daemons and the server of an account at random points, and cuts their cables, while both machines are
//! edited. Afterwards every acknowledged change is on both machines, and none is there twice (promise Nothing lost).
//!
//! The requests come from a seed, which is printed on failure. `CRASH_SEED` repeats it, as far as the timing of threads
//! allows.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::account::Place;
use crate::support::team::{Machine, Team, in_sync};
use crate::support::tier;
use guillemet_testing::random::Random;
use rustix::process::Signal;
use serde_json::{Value, json};

/// The number of kills between two checks of everything.
const KILLS: u64 = 5;
/// The most secrets of one machine between two checks.
const SECRETS: usize = 30;
/// The most values that one machine gives one secret. A former value can be checked only as long as it is kept.
const VALUES: usize = 20;

/// The requests that one machine has sent about one secret.
#[derive(Default)]
struct Sent {
    /// The values in order, each with whether it was acknowledged.
    values: Vec<(String, bool)>,
    /// Whether a delete was acknowledged; `None` if none was sent.
    deleted: Option<bool>,
}

/// A client that edits one machine.
struct Editor {
    random: Random,
    name: &'static str,
    count: u64,
    sent: BTreeMap<String, Sent>,
}

impl Editor {
    /// Edits until told to stop, or until the daemon does not answer.
    fn edit(&mut self, machine: &Machine, shared: &str, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let is_answered = match self.random.below(8) {
                0 | 1 => self.create(machine),
                2 => self.delete(machine),
                3..6 => self.rotate(machine, shared),
                _ => match self.own() {
                    Some(name) => self.rotate(machine, &name),
                    None => self.create(machine),
                },
            };
            if !is_answered {
                return;
            }
        }
    }

    /// Returns one of the client's own secrets that exists.
    fn own(&mut self) -> Option<String> {
        let own: Vec<_> = self.sent.iter().filter(|(name, sent)| name.starts_with("own") && sent.is_there()).collect();
        let index = self.random.below(own.len().max(1) as u64) as usize;
        own.get(index).map(|(name, _)| (*name).clone())
    }

    fn value(&mut self) -> String {
        self.count += 1;
        format!("value-{}-{}", self.name, self.count)
    }

    /// Creates a secret. Returns whether an answer came.
    fn create(&mut self, machine: &Machine) -> bool {
        if self.sent.len() >= SECRETS {
            return true;
        }
        let value = self.value();
        let name = format!("own-{}-{}-", self.name, self.count);
        let answer = machine.try_ask("POST", "/v1/secrets", &json!({"name": name, "value": value}));
        if let Some(answer) = &answer {
            assert_eq!(answer.status, 201, "{}", answer.text());
        }
        self.sent.insert(name, Sent { values: vec![(value, answer.is_some())], deleted: None });
        answer.is_some()
    }

    fn rotate(&mut self, machine: &Machine, name: &str) -> bool {
        let value = self.value();
        let sent = self.sent.entry(name.to_owned()).or_default();
        if sent.values.len() >= VALUES {
            return true;
        }
        let answer = machine.try_ask("PATCH", &format!("/v1/secrets/{name}"), &json!({"value": value}));
        if let Some(answer) = &answer {
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        sent.values.push((value, answer.is_some()));
        answer.is_some()
    }

    fn delete(&mut self, machine: &Machine) -> bool {
        let Some(name) = self.own() else { return true };
        let answer = machine.try_ask("DELETE", &format!("/v1/secrets/{name}"), &Value::Null);
        let sent = self.sent.get_mut(&name).unwrap();
        match answer.as_ref().map(|answer| answer.status) {
            Some(204) => sent.deleted = Some(true),
            // Without contact the delete was not even tried, unless the answer says that the outcome is unknown.
            Some(503) if answer.as_ref().is_some_and(|answer| answer.text().contains("nothing was deleted")) => {}
            Some(503) | None => sent.deleted = Some(false),
            Some(_) => panic!("{}", answer.unwrap().text()),
        }
        answer.is_some()
    }
}

impl Sent {
    fn is_there(&self) -> bool {
        self.deleted.is_none() && self.values[0].1
    }

    /// Checks that these values contain everything that was acknowledged, in order, and nothing twice.
    fn check(&self, name: &str, held: &[String]) {
        let mut left = self.values.iter();
        for value in held {
            let found = left.by_ref().find(|(sent, is_acknowledged)| {
                assert!(sent == value || !is_acknowledged, "{name}: {sent} is missing before {value} in {held:?}");
                sent == value
            });
            assert!(found.is_some(), "{name}: {value} is there twice, or in the wrong place: {held:?}");
        }
        for (missing, is_acknowledged) in left {
            assert!(!is_acknowledged, "{name}: {missing} is missing in {held:?}");
        }
    }
}

#[test]
fn what_was_acknowledged_is_on_both_once_whoever_was_killed() {
    for seed in tier::seeds(std::process::id().into()) {
        kill(Place::sqlite(), seed, tier::rounds(6, 20));
    }
}

/// The same with two servers, where each machine uses another one.
#[test]
#[ignore = "a long form: make soak"]
fn what_was_acknowledged_is_on_both_once_on_postgresql() {
    let Some(place) = Place::postgres() else { return };
    kill(place, std::process::id().into(), tier::rounds(3, 20));
}

fn kill(place: Place, seed: u64, looks: u32) {
    let mut random = Random::new(seed);
    let mut team = Team::at(place);
    let (mut a, mut b) = (team.machine("alpha"), team.machine("beta"));
    for machine in [&mut a, &mut b] {
        // At trace level a daemon spends most of its time on the log.
        machine.log_level = "info";
        let file = machine.path("guillemet.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("former_versions = 10", "former_versions = 100")).unwrap();
        machine.run();
    }
    team.found(&a);
    crate::support::team::join(&a, &b);
    let mut editors = [("alpha", &a), ("beta", &b)].map(|(name, _)| {
        let random = Random::new(random.next());
        Editor { random, name, count: 0, sent: BTreeMap::new() }
    });
    for look in 0..looks {
        let shared = format!("shared-{look}");
        a.add(&shared, "first");
        in_sync(&[&a, &b]);
        editors.iter_mut().for_each(|editor| editor.sent.clear());
        for _ in 0..KILLS {
            kill_somebody(&mut random, &mut team, [&mut a, &mut b], &mut editors, &shared);
        }
        in_sync(&[&a, &b]);
        all_is_there(&a, &b, &editors, &shared);
    }
}

/// The parts that are hit, as bits from the lowest: each machine is killed, the server is killed, each machine's cable
/// is cut, and the database is restarted if it runs separately.
const WHO: [u64; 12] = [
    0b000001, 0b000010, 0b000100, 0b000100, 0b000101, 0b000110, 0b000011, 0b001000, 0b010000, 0b011000, 0b100000,
    0b110001,
];

fn kill_somebody(
    random: &mut Random,
    team: &mut Team,
    [a, b]: [&mut Machine; 2],
    editors: &mut [Editor; 2],
    shared: &str,
) {
    let who = WHO[random.below(WHO.len() as u64) as usize];
    let (before, after) = (Duration::from_micros(random.below(120_000)), Duration::from_micros(random.below(40_000)));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (machine, editor) in [&*a, &*b].into_iter().zip(editors) {
            scope.spawn(|| editor.edit(machine, shared, &stop));
        }
        // This delay chooses the point; nothing else is waited for.
        std::thread::sleep(before);
        for (index, machine) in [&*a, &*b].into_iter().enumerate() {
            if who >> index & 1 == 1 {
                machine.signal(Signal::KILL);
            }
            if who >> (3 + index) & 1 == 1 {
                machine.cable.cut();
            }
        }
        if who & 0b100 != 0 {
            team.end_server(true);
        }
        if let Some(postgres) = &mut team.place.postgres
            && who & 0b10_0000 != 0
        {
            postgres.restart();
        }
        std::thread::sleep(after);
        stop.store(true, Ordering::Relaxed);
    });
    for (index, machine) in [a, b].into_iter().enumerate() {
        machine.cable.mend();
        if who >> index & 1 == 1 {
            machine.kill();
            machine.run();
        }
    }
    if who & 0b100 != 0 {
        team.start_server();
    }
}

fn all_is_there(a: &Machine, b: &Machine, editors: &[Editor; 2], shared: &str) {
    let (of_a, of_b) = (a.holds(), b.holds());
    assert_eq!(of_a, of_b);
    for machine in [a, b] {
        assert_eq!(machine.notices(), [""; 0], "nobody did the same twice");
    }
    let of_shared = values(a, shared, of_a[shared].version);
    for editor in editors {
        for (name, sent) in editor.sent.iter().filter(|(name, _)| *name != shared) {
            let Some(held) = of_a.get(name) else {
                assert!(sent.deleted.is_some() || !sent.values[0].1, "{name} is missing");
                continue;
            };
            assert!(sent.deleted != Some(true), "{name} was deleted");
            let values = values(a, name, held.version);
            sent.check(name, &values);
            assert_eq!(Some(values.last().unwrap()), held.value.as_ref());
        }
        let of_editor = |value: &&String| value.starts_with(&format!("value-{}-", editor.name));
        let values: Vec<String> = of_shared.iter().filter(|value| of_editor(value)).cloned().collect();
        if let Some(sent) = editor.sent.get(shared) {
            sent.check(shared, &values);
        }
    }
    assert!(of_a.keys().all(|name| name.starts_with("shared-") || name.ends_with('-')), "{:?}", of_a.keys());
    eprintln!(
        "{} secrets; sent of {shared}: {:?}",
        of_a.len(),
        editors.each_ref().map(|editor| editor.sent.get(shared).map_or(0, |sent| sent.values.len()))
    );
}

/// Returns every value that a secret has had, up to this version.
fn values(machine: &Machine, name: &str, version: u64) -> Vec<String> {
    let current = machine.value(name).unwrap();
    let mut values = Vec::new();
    for version in 1..version {
        machine.roll_back(name, version);
        values.push(machine.value(name).unwrap());
    }
    values.push(current);
    values
}
