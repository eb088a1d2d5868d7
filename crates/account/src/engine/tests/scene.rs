//! An account with a past, a device that is behind, and the answer of an honest server to it: the starting point for
//! the attacks of a hostile one.

use proptest::prelude::*;

use super::super::*;
use super::daemon::Daemon;
use super::server::{Pages, Server};
use super::world::{Failed, World};
use guillemet_wire::ChangesPage;

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;
const D: usize = 3;

/// The events that made an account what it is.
#[derive(Clone, Debug, Default)]
pub struct Past {
    before: Vec<(usize, usize)>,
    after: Vec<(usize, usize)>,
    revoked_before: bool,
    revoked_after: bool,
    is_pending: bool,
    pages: usize,
}

pub fn past() -> impl Strategy<Value = Past> {
    let edits = |least: usize| proptest::collection::vec((0..7_usize, 0..20_usize), least..8);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (edits(0), edits(1), flags, 1..6_usize).prop_map(|(before, after, flags, pages)| {
        let (revoked_before, revoked_after, is_pending) = flags;
        Past { before, after, revoked_before, revoked_after, is_pending, pages }
    })
}

impl Past {
    /// Only these edits after the victim was in sync; another device was revoked before.
    pub fn of(after: &[(usize, usize)]) -> Self {
        Self { after: after.to_vec(), revoked_before: true, pages: 1000, ..Self::default() }
    }
}

pub struct Scene {
    /// The account, and all devices that are not behind.
    pub world: World,
    /// The device that is behind. It is cloned for every attack.
    pub victim: Daemon,
    /// The server as it was at every head.
    pub snapshots: Vec<Server>,
    /// The server of a fork with other edits, from the head that the victim knows.
    pub fork: Server,
    /// The answer of an honest server.
    pub honest: Vec<ChangesPage>,
    /// The key of the first epoch, which a revoked device has.
    pub first_key: Arc<EpochKey>,
}

impl Scene {
    pub fn new(past: &Past) -> Self {
        let mut world = World::of(4, &[("one", "1"), ("two", "2"), ("three", "3"), ("four", "4")]);
        let mut snapshots = vec![world.server.clone()];
        let first_key = Arc::clone(world.devices[D].engine.key().unwrap());
        let revoke = |world: &mut World, snapshots: &mut Vec<Server>| {
            if world.devices.len() > D {
                let id = world.devices[D].id();
                world.devices.remove(D);
                world.wish(C, &Proposal::Revoke(id)).unwrap();
                snapshots.push(world.server.clone());
            }
        };
        for (edit, pick) in &past.before {
            happen(&mut world, *edit, *pick);
            snapshots.push(world.server.clone());
        }
        if past.revoked_before {
            revoke(&mut world, &mut snapshots);
        }
        world.sync(B);
        let now = world.tick();
        if past.is_pending {
            let name = world.devices[B].engine.view().secrets().next().unwrap().name.to_string();
            world.devices[B].set_value(&name, "not pushed", now);
        }
        let fork = fork(&world);
        for (edit, pick) in &past.after {
            happen(&mut world, *edit, *pick);
            snapshots.push(world.server.clone());
        }
        if past.revoked_after {
            revoke(&mut world, &mut snapshots);
        }
        world.server.pages = Pages { heads: past.pages, records: past.pages };
        let honest = world.answer(B);
        let victim = world.devices.remove(B);
        Self { world, victim, snapshots, fork, honest, first_key }
    }

    /// Returns the honest answer in one page.
    pub fn whole(&self) -> ChangesPage {
        let mut complete = self.honest.last().unwrap().clone();
        complete.heads = self.honest.iter().flat_map(|page| page.heads.clone()).collect();
        complete.records = self.honest.iter().flat_map(|page| page.records.clone()).collect();
        complete.wraps = self.honest.iter().flat_map(|page| page.wraps.clone()).collect();
        complete
    }
}

/// Makes an edit on A or C, and pushes it.
fn happen(world: &mut World, edit: usize, pick: usize) {
    let (who, now) = (if pick.is_multiple_of(2) { A } else { C }, world.tick());
    world.sync(who);
    let (before, value) = (world.server.newest(), format!("at {now}"));
    let mut names: Vec<_> = world.devices[who].engine.view().secrets().map(|secret| secret.name.to_string()).collect();
    names.sort();
    let name = names[pick % names.len()].clone();
    let device = &mut world.devices[who];
    match edit {
        0 => drop(device.create(&format!("made-at-{now}"), &value, now).unwrap()),
        1 => drop(device.rename(&name, &format!("called-at-{now}"), now)),
        2 => device.enable(&name, pick.is_multiple_of(3), now),
        3 => device.refer("cal-com/a", &name),
        4 => device.templates.clear(),
        5 if names.len() > 2 => match world.delete(who, &name) {
            Ok(_) | Err(Failed::Unprepared(PushError::Referenced(_))) => {}
            Err(failed) => panic!("{failed:?}"),
        },
        _ => device.set_value(&name, &value, now),
    }
    world.sync(who);
    if world.server.newest() == before {
        // The edit was refused.
        world.push(who, &Proposal::Beat).unwrap();
    }
}

/// Makes another history from here on, as a server does that shows different devices different states.
fn fork(world: &World) -> Server {
    let mut server = world.server.clone();
    let mut twin = world.devices[C].cloned();
    twin.pulled(&server.all_changes(twin.id(), twin.engine.cursor()).unwrap()).unwrap();
    for round in 0..3 {
        let name = twin.engine.view().secrets().next().unwrap().name.to_string();
        twin.set_value(&name, &format!("in another history, {round}"), 1);
        let candidate = twin.prepare(&Proposal::Edits, 1).unwrap().unwrap();
        server.push(twin.id(), candidate.onto.hash, &candidate.push).unwrap();
        twin.accepted(candidate);
    }
    server
}
