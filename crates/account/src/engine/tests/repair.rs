//! The server was restored from a backup: which devices notice, which one repairs the account, and what the others do.

use super::super::*;
use super::world::World;

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

/// Does what `guillemet account repair` does on the device that is furthest.
fn repair(world: &mut World, index: usize) {
    let device = &world.devices[index];
    let pages = world.server.all_changes(device.id(), PullCursor::default()).unwrap();
    let onto = pages.last().unwrap().newest.unwrap();
    assert!(device.engine.has_verified(onto), "this device has seen that head");
    let records = pages.iter().flat_map(|page| &page.records).map(|changed| &changed.record);
    let has = records.filter_map(|record| {
        let sealed = record.sealed.as_ref()?;
        Some((record.id, RecordLeaf::of(record.revision, record.epoch, sealed)))
    });
    let proposal = Proposal::Repair { onto, stored: has.collect(), boxes: device.boxes() };
    assert!(world.push(index, &proposal).unwrap());
}

fn adopt(world: &mut World, index: usize) -> Result<(), PullError> {
    let newest = world.server.newest().unwrap();
    let pages = world.server.all_changes(world.devices[index].id(), Engine::cursor_of(newest)).unwrap();
    world.devices[index].adopt(newest, &pages)
}

/// Restores a backup such that A is furthest, B is one head behind, and C was last in sync at the backup.
fn set_back(world: &mut World) {
    let backup = world.server.newest().unwrap().seq;
    let now = world.tick();
    world.devices[A].create("new", "n", now).unwrap();
    world.devices[A].set_value("cal-com", "two", now);
    world.sync(A);
    world.pull(B).unwrap();
    world.devices[A].set_value("cal-com", "three", now);
    world.delete(A, "sip").unwrap();
    world.server.set_back(backup);
}

#[test]
fn a_server_that_was_set_back_is_refused_and_the_furthest_device_repairs_it() {
    let mut world = World::of(3, &[("cal-com", "one"), ("sip", "s"), ("still", "x")]);
    set_back(&mut world);
    let before = world.devices[A].state();
    let seq = world.devices[A].engine.head().unwrap().0.seq;
    let offered = world.server.newest().unwrap().seq;
    assert_eq!(world.pull(A), Err(PullError::Rollback { known: seq, offered }));
    assert!(world.devices[A].state() == before);
    assert!(matches!(world.pull(B), Err(PullError::Rollback { .. })));
    world.pull(C).unwrap();

    repair(&mut world, A);
    world.sync(A);
    // B was between the backup and A's head, C before that: both see that heads are missing, and a person confirms.
    for index in [B, C] {
        let before = world.devices[index].state();
        assert!(matches!(world.pull(index), Err(PullError::ContinuityLost { .. })), "{index}");
        assert!(world.devices[index].state() == before);
        adopt(&mut world, index).unwrap();
    }
    world.quiet();
    assert_eq!(world.devices[C].values("cal-com"), ["one", "two", "three"]);
    assert_eq!(world.devices[C].values("new"), ["n"]);
    assert!(world.devices[C].find("sip").is_none());
    assert!(world.devices.iter().all(|device| device.engine.pending().len() == 0));
    let d = world.join(C, "D", false);
    assert_eq!(world.devices[d].values("cal-com"), ["one", "two", "three"]);
}

#[test]
fn a_device_in_sync_with_the_furthest_goes_on_by_itself() {
    let mut world = World::of(2, &[("cal-com", "one"), ("sip", "s")]);
    let backup = world.server.newest().unwrap().seq;
    let now = world.tick();
    world.devices[A].set_value("cal-com", "two", now);
    world.quiet();
    world.server.set_back(backup);
    repair(&mut world, A);
    world.pull(B).unwrap();
    world.agree();
}

#[test]
fn the_answer_to_a_repair_may_be_lost() {
    let mut world = World::of(2, &[("cal-com", "one"), ("sip", "s"), ("x", "y")]);
    set_back_and_send(&mut world);
    world.devices[A].crash();
    world.quiet();
    assert_eq!(world.devices[B].values("cal-com"), ["one", "two"]);
}

fn set_back_and_send(world: &mut World) {
    let backup = world.server.newest().unwrap().seq;
    let now = world.tick();
    world.devices[A].set_value("cal-com", "two", now);
    world.quiet();
    world.server.set_back(backup);
    let onto = world.server.newest().unwrap();
    let has = world.server.newest_records().filter_map(|record| {
        let sealed = record.sealed.as_ref()?;
        Some((record.id, RecordLeaf::of(record.revision, record.epoch, sealed)))
    });
    let proposal = Proposal::Repair { onto, stored: has.collect(), boxes: world.devices[A].boxes() };
    let candidate = world.devices[A].prepare(&proposal, now).unwrap().unwrap();
    world.send(A, &candidate).unwrap();
}

#[test]
fn an_epoch_that_was_lost_with_the_backup_comes_back_with_its_keys() {
    let mut world = World::of(4, &[("cal-com", "one"), ("sip", "s")]);
    let (backup, d, now) = (world.server.newest().unwrap().seq, world.devices[3].id(), world.tick());
    world.wish(A, &Proposal::Revoke(d)).unwrap();
    world.devices[A].set_value("cal-com", "two", now);
    world.sync(A);
    world.pull(B).unwrap();
    world.devices.remove(3);
    world.server.set_back(backup);
    repair(&mut world, A);
    world.pull(B).unwrap();
    assert!(matches!(world.pull(C), Err(PullError::ContinuityLost { .. })));
    adopt(&mut world, C).unwrap();
    world.quiet();
    assert_eq!(world.devices[C].engine.head().unwrap().0.epoch, 2);
    let e = world.join(C, "E", false);
    assert_eq!((world.devices[e].values("cal-com").len(), world.devices[e].values("sip").len()), (2, 1));
    // A person may confirm a later head than the one of the repair.
    let late = world.join(A, "F", false);
    world.quiet();
    assert_eq!(world.devices[late].values("sip"), ["s"]);
}

#[test]
fn what_a_device_knew_and_the_repaired_account_does_not_is_typed_anew() {
    let mut world = World::of(3, &[("cal-com", "one"), ("sip", "s"), ("switch", "x")]);
    let backup = world.server.newest().unwrap().seq;
    // B goes further than A in three pushes, which nobody sees before the server is restored.
    for (value, other) in [("two", "b"), ("three", "c"), ("four", "d")] {
        let now = world.tick();
        world.devices[B].set_value("cal-com", value, now);
        world.devices[B].create(other, "new", now).unwrap();
        world.sync(B);
    }
    let now = world.tick();
    world.devices[B].rename("sip", "sip-trunk", now).unwrap();
    world.devices[B].enable("switch", false, now);
    world.sync(B);
    world.devices[B].set_value("cal-com", "five, not pushed", now);
    world.server.set_back(backup);

    // B notices only after A and C have gone on: it can neither continue nor repair.
    let now = world.tick();
    world.devices[C].set_value("cal-com", "from C", now);
    for _ in 0..6 {
        world.wish(C, &Proposal::Beat).unwrap();
    }
    world.sync(C);
    assert!(matches!(world.pull(B), Err(PullError::Fork { .. } | PullError::ContinuityLost { .. })));
    let before = world.devices[B].state();
    let mut unknown = world.server.newest().unwrap();
    unknown.hash.0[0] ^= 1;
    let pages = world.server.all_changes(world.devices[B].id(), Engine::cursor_of(unknown)).unwrap();
    assert!(matches!(world.devices[B].adopt(unknown, &pages), Err(PullError::Fork { .. })));
    assert!(world.devices[B].state() == before);

    adopt(&mut world, B).unwrap();
    world.devices[B].crash();
    world.quiet();
    let values = world.devices[A].values("cal-com");
    for value in ["one", "two", "three", "four", "five, not pushed", "from C"] {
        assert_eq!(
            values.iter().filter(|known| *known == value).count(),
            usize::from(value == "from C") + 1,
            "{value}"
        );
    }
    assert_eq!(values.last().unwrap(), "five, not pushed", "it was typed last");
    for name in ["b", "c", "d"] {
        assert_eq!(world.devices[A].values(name), ["new"]);
    }
    assert_eq!(world.devices[A].find("sip").unwrap().name.as_str(), "sip-trunk");
    assert!(!world.devices[A].find("switch").unwrap().enabled);
}

#[test]
fn an_intent_that_came_into_the_account_by_a_head_that_was_never_seen_is_not_applied_again() {
    let mut world = World::of(3, &[("cal-com", "one")]);
    let backup = world.server.newest().unwrap().seq;
    let now = world.tick();
    world.devices[B].set_value("cal-com", "two", now);
    world.devices[B].create("new", "n", now).unwrap();
    world.devices[B].rename("cal-com", "cal", now).unwrap();
    let candidate = world.devices[B].prepare(&Proposal::Edits, now).unwrap().unwrap();
    world.send(B, &candidate).unwrap();
    // The answer is lost. A has pulled the push, and the server loses it.
    world.wish(A, &Proposal::Beat).unwrap();
    world.server.set_back(backup);
    repair(&mut world, A);
    adopt(&mut world, B).unwrap();
    assert_eq!(world.devices[B].engine.pending().len(), 3);
    adopt(&mut world, C).unwrap();
    world.quiet();
    assert_eq!(world.devices[A].values("cal"), ["one", "two"]);
    assert_eq!(world.devices[A].values("new"), ["n"]);
    assert!(world.devices[B].disk.notices.is_empty());
}

#[test]
fn a_backup_that_nobody_repairs_is_gone_back_to_when_a_person_says_so() {
    let mut world = World::of(2, &[("cal-com", "one")]);
    let now = world.tick();
    world.devices[A].set_value("cal-com", "two", now);
    world.quiet();
    let backup = world.server.newest().unwrap().seq;
    world.devices[A].set_value("cal-com", "three", now);
    world.quiet();
    world.server.set_back(backup);
    for index in [A, B] {
        assert!(matches!(world.pull(index), Err(PullError::Rollback { .. })));
        adopt(&mut world, index).unwrap();
    }
    world.quiet();
    assert_eq!(world.devices[B].values("cal-com"), ["one", "two", "three"]);
}
