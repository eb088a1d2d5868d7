//! Kills the daemon at random points, a thousand times. Afterwards every acknowledged change is there, a change under
//! way is there completely or not at all, and uses are counted (promises Recorded and Nothing lost).
//!
//! A point is a number of requests: the thread that sends that request kills the daemon. The requests of each thread
//! come from a seed, which is printed on failure. `CRASH_SEED` repeats it, as far as the timing of threads allows.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::support::daemon::{Answer, Guillemet, receive, send};
use crate::support::tier;
use guillemet_testing::random::Random;
use rustix::process::Signal;
use serde_json::{Value, json};

const WORKERS: usize = 3;
const SLOTS: usize = 4;
/// The most requests between a start and a kill.
const REQUESTS: u64 = 24;
/// A secret that a template of every worker references twice, and that never changes.
const SHARED: &str = "shared";

/// Kills the daemon at a number of requests.
struct Killer<'a> {
    guillemet: &'a Guillemet,
    socket: PathBuf,
    sent: AtomicU64,
    at: u64,
    killed: AtomicBool,
}

impl<'a> Killer<'a> {
    fn new(guillemet: &'a Guillemet, at: u64) -> Self {
        let socket = guillemet.path("run/guillemet.sock");
        Self { guillemet, socket, sent: AtomicU64::new(0), at, killed: AtomicBool::new(false) }
    }

    fn kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
        self.guillemet.signal(Signal::KILL);
    }

    /// Sends a request. Returns `None` if no answer came because of the kill, and panics for any other reason.
    fn ask(
        &self,
        random: &mut Random,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Option<Answer> {
        let number = self.sent.fetch_add(1, Ordering::SeqCst);
        if number > self.at {
            return None;
        }
        let sent = send(&self.socket, method, path, headers, body.as_bytes());
        if number == self.at {
            // The delay ends between "not read yet" and "answered", somewhere in the middle of the request.
            (0..random.below(200_000)).for_each(|_| std::hint::spin_loop());
            self.kill();
        }
        match sent.and_then(receive) {
            Ok(answer) => Some(answer),
            Err(error) => {
                assert!(self.killed.load(Ordering::SeqCst), "no answer without a kill: {error}");
                None
            }
        }
    }
}

/// The expected state of a secret.
#[derive(Clone, Debug, PartialEq)]
struct Held {
    enabled: bool,
    value: String,
}

/// A name that one worker changes.
struct Slot {
    name: String,
    held: Option<Held>,
    /// The other possible state, if a change was sent and no answer came.
    pending: Option<Option<Held>>,
    /// The resolutions of the secret with this name: how many were requested, and how many were answered.
    asked: u64,
    answered: u64,
}

impl Slot {
    fn new(name: String) -> Self {
        Self { name, held: None, pending: None, asked: 0, answered: 0 }
    }

    fn path(&self) -> String {
        format!("/v1/secrets/{}", self.name)
    }

    fn becomes(&mut self, held: Option<Held>) {
        if self.held.is_some() != held.is_some() {
            (self.asked, self.answered) = (0, 0);
        }
        (self.held, self.pending) = (held, None);
    }

    fn check_count(&self, row: &Value) {
        let count = row["resolution_count"].as_u64().unwrap();
        assert!(self.answered <= count && count <= self.asked, "{row}: {} to {}", self.answered, self.asked);
    }
}

/// A client with its own names and its own template.
struct Worker {
    random: Random,
    slots: Vec<Slot>,
    template: String,
    /// The number that its template contains now, which shows how old a render is.
    edition: u64,
    etag: Option<String>,
}

impl Worker {
    fn new(number: usize, seed: u64) -> Self {
        let slots = (0..SLOTS).map(|slot| Slot::new(format!("worker-{number}-{slot}"))).collect();
        let random = Random::new(seed.wrapping_add(number as u64));
        Self { random, slots, template: format!("mcp-server/worker-{number}"), edition: 0, etag: None }
    }

    /// Writes a template that references the worker's first secret, either as editors write files or in place.
    fn edit(&mut self, guillemet: &Guillemet) {
        self.edition += 1;
        let (edition, name) = (self.edition, &self.slots[0].name);
        let text = format!(
            "name = \"edition-{edition}\"\nurl = \"https://mcp.example.com/\"\n[headers]\nX = \"<< secret \"{name}\" >>\"\n"
        );
        if self.random.below(2) == 0 {
            guillemet.write(&format!("{}.toml", self.template), &text);
        } else {
            guillemet.write(&format!("{}.toml~", self.template), &text);
            let path = |end: &str| guillemet.path("templates").join(format!("{}{end}", self.template));
            std::fs::rename(path(".toml~"), path(".toml")).unwrap();
        }
    }

    /// Sends requests until the daemon has gone.
    fn work(&mut self, killer: &Killer<'_>, shared: &Shared) {
        while self.step(killer, shared).is_some() {}
    }

    fn step(&mut self, killer: &Killer<'_>, shared: &Shared) -> Option<()> {
        let index = self.random.below(SLOTS as u64) as usize;
        match self.random.below(12) {
            0..4 => self.change(killer, index),
            4 | 5 => self.resolve(killer, index),
            6 | 7 => self.render(killer),
            8 => {
                self.edit(killer.guillemet);
                self.render(killer)
            }
            9 => shared.render(killer, &mut self.random),
            10 => {
                let slot = &self.slots[index];
                let shown = killer.ask(&mut self.random, "GET", &slot.path(), &[], "")?;
                assert_eq!(shown.status, if slot.held.is_some() || index == 0 { 200 } else { 404 });
                if slot.held.is_some() {
                    slot.check_count(&shown.json());
                }
                Some(())
            }
            _ => {
                let rows = killer.ask(&mut self.random, "GET", "/v1/secrets?limit=1000", &[], "")?.json();
                for slot in self.slots.iter().filter(|slot| slot.held.is_some()) {
                    slot.check_count(&row(&rows, &slot.name));
                }
                Some(())
            }
        }
    }

    /// Creates, enables, disables or deletes a secret.
    fn change(&mut self, killer: &Killer<'_>, index: usize) -> Option<()> {
        let (slot, random) = (&mut self.slots[index], &mut self.random);
        let (method, path, body, to) = match &slot.held {
            None => {
                // The value takes up to a few pages of the file.
                let value = format!("value {} {}", random.next(), "v".repeat(random.below(9_000) as usize));
                let held = Held { enabled: random.below(4) > 0, value };
                let body = json!({"name": slot.name, "value": held.value, "enabled": held.enabled}).to_string();
                ("POST", "/v1/secrets".to_owned(), body, Some(held))
            }
            // A template references the first secret of each worker, which is never deleted.
            Some(_) if index > 0 && random.below(3) == 0 => ("DELETE", slot.path(), String::new(), None),
            Some(held) => {
                let held = Held { enabled: !held.enabled, ..held.clone() };
                ("PATCH", slot.path(), json!({"enabled": held.enabled}).to_string(), Some(held))
            }
        };
        slot.pending = Some(to.clone());
        let answer = killer.ask(random, method, &path, &[], &body)?;
        let expected = match method {
            "POST" => 201,
            "PATCH" => 200,
            _ => 204,
        };
        assert_eq!(answer.status, expected, "{method} {path}: {}", answer.text());
        slot.becomes(to);
        Some(())
    }

    fn resolve(&mut self, killer: &Killer<'_>, index: usize) -> Option<()> {
        let slot = &mut self.slots[index];
        let ready = slot.held.clone().filter(|held| held.enabled);
        slot.asked += u64::from(ready.is_some());
        let body = json!({"secrets": [slot.name]}).to_string();
        let answer = killer.ask(&mut self.random, "POST", "/v1/resolve", &[], &body)?;
        match ready {
            Some(held) => {
                assert_eq!(answer.json()["secrets"][&slot.name], held.value.as_str());
                slot.answered += 1;
            }
            None => assert_eq!(answer.status, 409, "{}", answer.text()),
        }
        Some(())
    }

    fn render(&mut self, killer: &Killer<'_>) -> Option<()> {
        let slot = &mut self.slots[0];
        let ready = slot.held.clone().filter(|held| held.enabled);
        let known = self.etag.take().filter(|_| self.random.below(2) == 0);
        let headers: Vec<(&str, &str)> = known.iter().map(|etag| ("if-none-match", etag.as_str())).collect();
        slot.asked += u64::from(ready.is_some());
        let path = format!("/v1/render/{}", self.template);
        let answer = killer.ask(&mut self.random, "GET", &path, &headers, "")?;
        match (ready, answer.status) {
            (Some(held), 200) => {
                let server = &answer.json()["mcpServers"][format!("edition-{}", self.edition)];
                assert_eq!(server["headers"]["X"], held.value.as_str(), "{}", answer.text());
                slot.answered += 1;
                self.etag = answer.headers.get("etag").cloned();
            }
            (Some(_), 304) if known.is_some() => slot.asked -= 1,
            (None, 409) => {}
            (ready, status) => panic!("{status} for {ready:?}: {}", answer.text()),
        }
        Some(())
    }
}

/// The state that all workers use together.
#[derive(Default)]
struct Shared {
    asked: AtomicU64,
    answered: AtomicU64,
}

impl Shared {
    fn render(&self, killer: &Killer<'_>, random: &mut Random) -> Option<()> {
        self.asked.fetch_add(2, Ordering::SeqCst);
        let answer = killer.ask(random, "GET", "/v1/render/mcp-server/shared", &[], "")?;
        assert_eq!(answer.status, 200, "{}", answer.text());
        self.answered.fetch_add(2, Ordering::SeqCst);
        Some(())
    }
}

fn row(rows: &Value, name: &str) -> Value {
    let items = rows["items"].as_array().unwrap();
    items.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name} is not listed")).clone()
}

/// Compares the state of a daemon that has just started with the possible ones, and takes it as the new expected state.
fn check(guillemet: &Guillemet, workers: &mut [Worker], shared: &Shared) {
    let listed = guillemet.get("/v1/secrets?limit=1000").json();
    let mut rows: BTreeMap<String, Value> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["status"] != "missing")
        .map(|row| (row["name"].as_str().unwrap().to_owned(), row.clone()))
        .collect();
    let count = rows.remove(SHARED).unwrap()["resolution_count"].as_u64().unwrap();
    let (asked, answered) = (shared.asked.load(Ordering::SeqCst), shared.answered.load(Ordering::SeqCst));
    assert!(answered <= count && count <= asked && count.is_multiple_of(2), "{answered} <= {count} <= {asked}");

    let mut slots: Vec<&mut Slot> = workers.iter_mut().flat_map(|worker| &mut worker.slots).collect();
    let ready: Vec<&str> =
        rows.values().filter(|row| row["enabled"] == true).filter_map(|row| row["name"].as_str()).collect();
    let resolved = guillemet.post("/v1/resolve", &json!({"secrets": ready})).json();
    for slot in &mut slots {
        let row = rows.remove(&slot.name);
        // The value of a disabled secret shows when it is enabled again.
        let fits = |held: &Option<Held>| match (held, &row) {
            (Some(held), Some(row)) => {
                let value = &resolved["secrets"][&slot.name];
                row["enabled"] == held.enabled && (!held.enabled || *value == held.value.as_str())
            }
            (held, row) => held.is_none() && row.is_none(),
        };
        let before = slot.held.clone();
        let now = [Some(before.clone()), slot.pending.take()].into_iter().flatten().find(fits);
        let Some(now) = now else { panic!("{} was {before:?} and is {row:?}", slot.name) };
        slot.becomes(now);
        if let Some(row) = row {
            slot.check_count(&row);
            if row["enabled"] == true {
                slot.asked += 1;
                slot.answered += 1;
            }
        }
    }
    assert!(rows.is_empty(), "nobody created {rows:?}");
}

/// Repeats cycles of start, work, kill, start and check.
fn cycles(seed: u64, cycles: u32) {
    let mut guillemet = Guillemet::init();
    guillemet.log_level = "warn";
    guillemet.run();
    guillemet.add(SHARED, "shared value");
    let header = |name: &str| format!("{name} = \"<< secret \"{SHARED}\" >>\"\n");
    let text = format!("name = \"s\"\nurl = \"https://mcp.example.com/\"\n[headers]\n{}{}", header("A"), header("B"));
    guillemet.write("mcp-server/shared.toml", &text);
    let mut random = Random::new(seed);
    let mut workers: Vec<Worker> = (1..=WORKERS).map(|number| Worker::new(number, seed)).collect();
    for worker in &mut workers {
        worker.edit(&guillemet);
    }
    let shared = Shared::default();
    for cycle in 0..cycles {
        let killer = Killer::new(&guillemet, random.below(REQUESTS));
        std::thread::scope(|scope| {
            for worker in &mut workers {
                scope.spawn(|| worker.work(&killer, &shared));
            }
        });
        assert!(killer.killed.into_inner());
        guillemet.kill();
        guillemet.run();
        println!("cycle {cycle}");
        check(&guillemet, &mut workers, &shared);
    }
    let log = guillemet.log();
    assert!(!log.contains("ERROR"), "{log}");
    assert!(guillemet.stop());
}

#[test]
fn killed_at_any_point_nothing_acknowledged_is_lost() {
    for seed in tier::seeds(1) {
        cycles(seed, tier::rounds(60, 250));
    }
}
