//! Random edits on several devices, with a network that loses, delays and reorders, and with crashes at every step. At
//! the end all devices agree, and everything that was acknowledged is there once.

use proptest::prelude::*;

use super::super::*;
use super::daemon::Daemon;
use super::ledger::Ledger;
use super::server::{Pages, Refused};
use super::world::{World, admit, me};
use guillemet_base::names::SecretId;
use guillemet_wire::{ChangesPage, Hash, PullCursor, Push};

const NAMES: [&str; 6] = ["cal", "sip", "CAL", "mcp", "bot", "Sip-2"];
const TEMPLATES: [&str; 2] = ["cal-com/a", "sip-trunk/b"];

/// One event. A device is a number modulo the number of devices, a secret a number modulo the number of secrets that
/// the device shows.
#[derive(Clone, Copy, Debug)]
enum Step {
    Create(usize, usize),
    Value(usize, usize),
    Rename(usize, usize, usize),
    Enable(usize, usize),
    Want(usize, usize),
    Revoke(usize),
    Refer(usize, usize, usize),
    Unrefer(usize, usize),
    /// The next exchange between a device and the server.
    Net(usize),
    /// The exchange in progress is given up; its request may arrive later.
    Lose(usize),
    /// A request that was given up arrives.
    Late(usize),
    Crash(usize),
    /// The device misses this many network events.
    Away(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (device, any) = (0..5_usize, 0..30_usize);
    prop_oneof![
        3 => (device.clone(), any.clone()).prop_map(|(d, n)| Step::Create(d, n)),
        4 => (device.clone(), any.clone()).prop_map(|(d, s)| Step::Value(d, s)),
        3 => (device.clone(), any.clone(), any.clone()).prop_map(|(d, s, n)| Step::Rename(d, s, n)),
        2 => (device.clone(), any.clone()).prop_map(|(d, s)| Step::Enable(d, s)),
        4 => (device.clone(), any.clone()).prop_map(|(d, s)| Step::Want(d, s)),
        1 => device.clone().prop_map(Step::Revoke),
        2 => (device.clone(), any.clone(), any.clone()).prop_map(|(d, t, n)| Step::Refer(d, t, n)),
        2 => (device.clone(), any.clone()).prop_map(|(d, t)| Step::Unrefer(d, t)),
        30 => device.clone().prop_map(Step::Net),
        2 => device.clone().prop_map(Step::Lose),
        2 => any.prop_map(Step::Late),
        2 => device.clone().prop_map(Step::Crash),
        1 => (device, 3..12_usize).prop_map(|(d, n)| Step::Away(d, n)),
    ]
}

/// The exchange in progress between a device and the server.
enum Flight {
    Push { candidate: Box<PreparedPush>, delete: Option<SecretId>, answer: Option<Result<HeadRef, Refused>> },
    Pull { pages: Vec<ChangesPage>, next: Option<PullCursor> },
}

/// A request that was given up.
struct Late {
    by: DeviceId,
    onto: Hash,
    push: Push,
    delete: Option<SecretId>,
}

#[derive(Default)]
struct Line {
    flight: Option<Flight>,
    /// The wish that a caller waits for.
    want: Option<Proposal>,
    is_behind: bool,
    away: usize,
}

struct Run {
    world: World,
    /// The last of the devices, which only gets revoked.
    spare: DeviceId,
    lines: Vec<Line>,
    late: Vec<Late>,
    ledger: Ledger,
    number: usize,
}

impl Run {
    fn new(devices: usize, pages: Pages) -> Self {
        let mut world = World::of(devices, &[("cal", "first"), ("sip", "second")]);
        world.server.pages = pages;
        let spare = me(world.server.account);
        let id = spare.device;
        world.wish(0, &admit(&spare, "spare", false)).unwrap();
        let witness = me(world.server.account);
        world.wish(0, &admit(&witness, "witness", true)).unwrap();
        let witness = world.joined(0, witness, "witness");
        let lines = (0..devices).map(|_| Line::default()).collect();
        let ledger = Ledger::new(witness, &world);
        Self { world, spare: id, lines, late: Vec::new(), ledger, number: 0 }
    }

    fn secret(&self, device: usize, pick: usize) -> Option<(SecretId, String)> {
        let view = self.world.devices[device].engine.view();
        let mut names: Vec<_> = view.secrets().map(|secret| (secret.name.to_string(), secret.id)).collect();
        names.sort();
        let count = names.len();
        (count > 0).then(|| names.swap_remove(pick % count)).map(|(name, id)| (id, name))
    }

    fn happen(&mut self, step: Step) {
        let now = self.world.tick();
        let count = self.world.devices.len();
        match step {
            Step::Create(device, name) => {
                let (device, value) = (device % count, self.value());
                let _ = self.world.devices[device].create(NAMES[name % NAMES.len()], &value, now);
                self.ledger.acknowledge(&self.world.devices[device]);
            }
            Step::Value(device, pick) | Step::Rename(device, pick, _) | Step::Enable(device, pick) => {
                let device = device % count;
                let Some((_, name)) = self.secret(device, pick) else { return };
                let value = self.value();
                let edited = &mut self.world.devices[device];
                match step {
                    Step::Value(..) => edited.set_value(&name, &value, now),
                    Step::Rename(_, _, to) => drop(edited.rename(&name, NAMES[to % NAMES.len()], now)),
                    _ => edited.enable(&name, !edited.find(&name).unwrap().enabled, now),
                }
                self.ledger.acknowledge(edited);
            }
            Step::Want(device, pick) => {
                let device = device % count;
                if let Some((id, _)) = self.secret(device, pick) {
                    self.lines[device].want = Some(Proposal::Delete(id));
                }
            }
            Step::Revoke(device) => self.lines[device % count].want = Some(Proposal::Revoke(self.spare)),
            Step::Refer(device, template, name) => {
                let (device, name) = (&mut self.world.devices[device % count], NAMES[name % NAMES.len()]);
                self.ledger.refer(device, TEMPLATES[template % TEMPLATES.len()], name);
            }
            Step::Unrefer(device, template) => {
                let template = TEMPLATES[template % TEMPLATES.len()];
                self.ledger.unrefer(&mut self.world.devices[device % count], template);
            }
            Step::Net(device) => self.net(device % count),
            Step::Lose(device) => self.lose(device % count),
            Step::Late(which) => {
                if !self.late.is_empty() {
                    let late = self.late.swap_remove(which % self.late.len());
                    let _ = self.deliver(late);
                }
            }
            Step::Crash(device) => {
                self.lose(device % count);
                self.world.devices[device % count].crash();
            }
            Step::Away(device, steps) => {
                self.lose(device % count);
                self.lines[device % count].away = steps;
            }
        }
    }

    /// Returns a value that occurs only once.
    fn value(&mut self) -> String {
        self.number += 1;
        format!("value {}", self.number)
    }

    fn lose(&mut self, device: usize) {
        if let Some(Flight::Push { candidate, delete, answer: None }) = self.lines[device].flight.take() {
            let by = self.world.devices[device].id();
            self.late.push(Late { by, onto: candidate.onto.hash, push: candidate.push, delete });
        }
    }

    fn deliver(&mut self, sent: Late) -> Result<HeadRef, Refused> {
        let newest = self.world.server.push(sent.by, sent.onto, &sent.push)?;
        self.ledger.witness(&self.world.server, sent.by, sent.delete);
        Ok(newest)
    }

    fn net(&mut self, index: usize) {
        let line = &mut self.lines[index];
        if line.away > 0 {
            line.away -= 1;
            return;
        }
        let (id, now) = (self.world.devices[index].id(), self.world.clock);
        let device = &mut self.world.devices[index];
        let flight = match line.flight.take() {
            None => Self::take_off(device, line, now),
            Some(Flight::Push { candidate, delete, answer: None }) => {
                let (onto, push) = (candidate.onto.hash, candidate.push.clone());
                let answer = Some(self.deliver(Late { by: id, onto, push, delete }));
                Some(Flight::Push { candidate, delete, answer })
            }
            Some(Flight::Push { candidate, answer: Some(answer), .. }) => {
                match answer {
                    Ok(_) => device.accepted(*candidate),
                    Err(Refused::Behind) => line.is_behind = true,
                    Err(refused) => panic!("{}: {refused:?}", device.name),
                }
                None
            }
            Some(Flight::Pull { pages, next: None }) => {
                device.pulled(&pages).unwrap_or_else(|refusal| panic!("{}: {refusal}", device.name));
                line.is_behind = false;
                None
            }
            Some(Flight::Pull { mut pages, next: Some(next) }) => {
                let page = self.world.server.changes(id, next).unwrap();
                let next = page.next;
                pages.push(page);
                Some(Flight::Pull { pages, next })
            }
        };
        self.lines[index].flight = flight;
    }

    /// Returns what a device does next: it pulls if it is behind, or has nothing to push.
    fn take_off(device: &mut Daemon, line: &mut Line, now: u64) -> Option<Flight> {
        let pull = Flight::Pull { pages: Vec::new(), next: Some(device.engine.cursor()) };
        if line.is_behind {
            return Some(pull);
        }
        let proposal = line.want.take().unwrap_or(Proposal::Edits);
        let delete = match proposal {
            Proposal::Delete(id) => Some(id),
            _ => None,
        };
        // The device's inventory checks its own templates.
        let secret = delete.and_then(|id| device.engine.view().secret(id));
        let is_named = |name| device.references().may_reference(name);
        if secret.is_some_and(|secret| std::iter::once(&secret.name).chain(&secret.former_names).any(is_named)) {
            return None;
        }
        match device.prepare(&proposal, now) {
            Ok(Some(candidate)) => Some(Flight::Push { candidate: Box::new(candidate), delete, answer: None }),
            Ok(None) => Some(pull),
            Err(PushError::Referenced(_) | PushError::NoSecret | PushError::NoDevice) => Some(pull),
            Err(other) => panic!("{}: {other}", device.name),
        }
    }

    /// Brings all devices online. Some requests that were given up arrive before that, the others never.
    fn end(mut self) {
        for device in 0..self.world.devices.len() {
            self.lose(device);
        }
        while self.late.len() > 1 {
            let late = self.late.remove(self.late.len() / 2);
            let _ = self.deliver(late);
            self.late.pop();
        }
        for _ in 0..10 {
            let before = self.world.server.newest();
            // A device that never publishes its references would be waited for, so it is revoked.
            self.online(0);
            self.lines[0].want = Some(Proposal::Revoke(self.spare));
            (0..self.lines.len()).for_each(|device| self.online(device));
            if self.world.server.newest() == before {
                self.world.agree();
                return self.ledger.audit(&self.world);
            }
        }
        panic!("it never becomes quiet");
    }

    /// Runs until a device has everything, and the server has everything from it.
    fn online(&mut self, device: usize) {
        self.lines[device].away = 0;
        for _ in 0..2000 {
            let (line, engine) = (&self.lines[device], &self.world.devices[device].engine);
            let is_newest = engine.head().map(|(_, hash)| hash) == self.world.server.newest().map(|newest| newest.hash);
            let is_idle = line.flight.is_none() && line.want.is_none() && is_newest;
            if is_idle && !self.world.devices[device].is_due() {
                return;
            }
            self.net(device);
        }
        panic!("{} does not come to rest", self.world.devices[device].name);
    }
}

/// What a device says about its references is published when the server has it, also before the device gets its
/// answer. A template that comes to name a deleted secret after that names nothing.
#[test]
fn references_are_published_before_their_answer_is_there() {
    let mut run = Run::new(3, Pages { heads: 1000, records: 1000 });
    let own = |run: &Run| {
        let device = &run.world.devices[2];
        device.engine.base().references(device.id()).map_or(0, |references| references.seen)
    };
    // The device joins, deletes a secret, hears of that, and tells what it references since: nothing.
    (0..20).for_each(|_| run.happen(Step::Net(2)));
    run.happen(Step::Want(2, 1));
    let deleted = run.world.server.newest().unwrap().seq + 1;
    let mut steps = 0;
    while run.ledger.published(&run.world.devices[2]) < deleted {
        run.happen(Step::Net(2));
        steps += 1;
        assert!(steps < 40, "it never tells");
    }
    assert!(own(&run) < deleted, "its answer is still under way");
    assert!(run.world.devices[2].engine.base().find_by_name(&"sip".parse().unwrap()).is_none());
    run.happen(Step::Refer(2, 0, 1));
    run.end();
}

proptest! {
    #![proptest_config(super::cases(96))]

    #[test]
    fn whatever_happens_all_agree_in_the_end_and_everything_acknowledged_is_there_once(
        devices in 3..=5_usize,
        pages in prop_oneof![
            Just(Pages { heads: 1000, records: 1000 }),
            Just(Pages { heads: 2, records: 2 }),
            Just(Pages { heads: 1, records: 1 }),
        ],
        steps in proptest::collection::vec(step(), 20..160),
    ) {
        let mut run = Run::new(devices, pages);
        for step in steps {
            run.happen(step);
        }
        run.end();
    }
}
