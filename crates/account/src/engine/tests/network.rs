//! Crashes, lost requests and lost answers at every step of a push and a pull.

use super::super::*;
use super::server::Refused;
use super::world::{World, admit, me};
use guillemet_wire::ChangesPage;

const A: usize = 0;
const B: usize = 1;

/// Makes an edit of each kind on A. Returns its candidate without sending it.
fn edited(world: &mut World) -> PreparedPush {
    let now = world.tick();
    world.devices[A].set_value("cal-com", "two", now);
    world.devices[A].rename("cal-com", "cal", now).unwrap();
    world.devices[A].create("new", "n", now).unwrap();
    world.devices[A].prepare(&Proposal::Edits, now).unwrap().unwrap()
}

fn applied_once(world: &mut World) {
    world.quiet();
    for device in &world.devices {
        assert_eq!(device.values("cal"), ["one", "two"], "{}", device.name);
        assert_eq!(device.values("new"), ["n"], "{}", device.name);
        assert_eq!(device.engine.view().secrets().count(), 2, "{}", device.name);
        assert!(device.disk.notices.is_empty(), "{}: {:?}", device.name, device.disk.notices);
    }
}

#[test]
fn a_crash_before_a_push_is_sent_loses_nothing() {
    let mut world = World::of(2, &[("cal-com", "one")]);
    edited(&mut world);
    world.devices[A].crash();
    assert_eq!(world.devices[A].engine.pending().len(), 3);
    applied_once(&mut world);
}

#[test]
fn a_lost_request_and_a_lost_answer_lose_nothing_and_double_nothing() {
    for crashes in [false, true] {
        let mut world = World::of(2, &[("cal-com", "one")]);
        let lost = edited(&mut world);
        let again = edited_again(&mut world);
        world.send(A, &again).unwrap();
        if crashes {
            world.devices[A].crash();
        }
        // The first request arrives after all.
        assert_eq!(world.send(A, &lost), Err(Refused::Behind));
        world.pull(A).unwrap();
        assert_eq!(world.devices[A].engine.pending().len(), 0);
        applied_once(&mut world);
    }
}

fn edited_again(world: &mut World) -> PreparedPush {
    let now = world.tick();
    world.devices[A].prepare(&Proposal::Edits, now).unwrap().unwrap()
}

#[test]
fn a_request_that_was_given_up_and_arrives_late_is_known_again() {
    let mut world = World::of(2, &[("cal-com", "one")]);
    let late = edited(&mut world);
    world.devices[A].crash();
    let again = edited_again(&mut world);
    world.send(A, &late).unwrap();
    assert_eq!(world.send(A, &again), Err(Refused::Behind));
    world.pull(A).unwrap();
    applied_once(&mut world);
}

#[test]
fn an_answer_that_comes_after_a_pull_has_brought_its_head_changes_nothing() {
    let mut world = World::of(2, &[("cal-com", "one")]);
    let candidate = edited(&mut world);
    world.send(A, &candidate).unwrap();
    let now = world.tick();
    world.pull(B).unwrap();
    world.devices[B].enable("new", false, now);
    world.sync(B);
    world.pull(A).unwrap();
    let before = world.devices[A].state();
    world.devices[A].accepted(candidate);
    assert!(world.devices[A].state() == before);
    applied_once(&mut world);
}

#[test]
fn an_edit_while_a_push_is_under_way_goes_with_the_next() {
    let mut world = World::of(2, &[("cal-com", "one")]);
    let candidate = edited(&mut world);
    let now = world.tick();
    world.send(A, &candidate).unwrap();
    world.devices[A].set_value("cal", "three", now);
    world.devices[A].accepted(candidate);
    assert_eq!(world.devices[A].engine.pending().len(), 1);
    assert_eq!(world.devices[A].values("cal"), ["one", "two", "three"]);
    world.devices[A].crash();
    world.quiet();
    assert_eq!(world.devices[B].values("cal"), ["one", "two", "three"]);
}

#[test]
fn a_crash_before_the_first_pull_of_a_device_that_joins_loses_nothing() {
    let mut world = World::of(2, &[("cal-com", "one")]);
    let me = me(world.server.account);
    world.wish(A, &admit(&me, "C", false)).unwrap();
    let mut joined = world.joined(A, me, "C");
    joined.crash();
    // A server that knows less than the inviter's head is still refused.
    let mut before = world.server.clone();
    let seq = before.newest().unwrap().seq;
    before.set_back(seq - 1);
    let old = before.all_changes(joined.id(), joined.engine.cursor()).unwrap();
    assert_eq!(joined.pulled(&old), Err(PullError::Rollback { known: seq, offered: seq - 1 }));
    world.devices.push(joined);
    world.quiet();
    assert_eq!(world.devices[2].values("cal-com"), ["one"]);
}

#[test]
fn the_device_that_revokes_goes_on_when_the_answer_is_lost() {
    for crashes in [false, true] {
        let mut world = World::of(3, &[("cal-com", "one")]);
        let (b, now) = (world.devices[B].id(), world.tick());
        let candidate = world.devices[A].prepare(&Proposal::Revoke(b), now).unwrap().unwrap();
        world.send(A, &candidate).unwrap();
        if crashes {
            world.devices[A].crash();
        }
        world.devices.remove(B);
        world.devices[A].set_value("cal-com", "two", now);
        world.quiet();
        assert_eq!(world.devices[1].values("cal-com"), ["one", "two"]);
        assert_eq!(world.devices[1].engine.head().unwrap().0.epoch, 2);
    }
}

#[test]
fn a_lost_answer_to_a_delete_tells_by_the_next_pull() {
    let mut world = World::of(2, &[("cal-com", "one")]);
    let (id, now) = (world.devices[A].id_of("cal-com"), world.tick());
    let candidate = world.devices[A].prepare(&Proposal::Delete(id), now).unwrap().unwrap();
    world.send(A, &candidate).unwrap();
    world.devices[A].crash();
    assert_eq!(world.devices[A].values("cal-com"), ["one"], "it is not acknowledged");
    world.quiet();
    assert!(world.devices[A].find("cal-com").is_none() && world.devices[B].find("cal-com").is_none());
}

#[test]
fn pages_that_others_push_between_make_one_state() {
    let mut world = World::of(3, &[("one", "1"), ("two", "2"), ("three", "3"), ("four", "4")]);
    world.server.pages = super::server::Pages { heads: 2, records: 1 };
    for round in 0..4 {
        let now = world.tick();
        world.devices[A].set_value("one", &format!("1 in round {round}"), now);
        world.devices[A].set_value("three", &format!("3 in round {round}"), now);
        world.sync(A);
    }
    let b = world.devices[B].id();
    let c = world.devices[2].engine.head().unwrap().0.device(world.devices[2].id()).unwrap().clone();
    let mut pages: Vec<ChangesPage> = Vec::new();
    let mut cursor = Some(world.devices[B].engine.cursor());
    let mut is_revoked = false;
    while let Some(from) = cursor {
        let page = world.server.changes(b, from).unwrap();
        cursor = page.next;
        pages.push(page);
        if pages.len() == 2 {
            // References of a device, and a record after them.
            world.devices[2].refer("sip/trunk", "four");
            world.sync(2);
            let now = world.tick();
            world.sync(A);
            world.devices[A].set_value("three", "3 once more", now);
            world.sync(A);
        }
        let are_read = pages.iter().flat_map(|page| &page.records).any(|changed| changed.record.id == c.references);
        if are_read && !is_revoked {
            // The references are on a page that was read, and disappear. A secret disappears too, another one changes
            // again, and an epoch begins.
            let now = world.tick();
            world.devices[A].set_value("one", "1 at last", now);
            world.wish(A, &Proposal::Revoke(c.id)).unwrap();
            world.delete(A, "two").unwrap();
            is_revoked = true;
            assert!(cursor.is_some());
        }
    }
    assert!(is_revoked);
    assert!(pages.len() > 5, "{} pages", pages.len());
    world.devices[B].pulled(&pages).unwrap();
    world.devices.remove(2);
    world.quiet();
    assert_eq!(world.devices[B].values("one").last().unwrap(), "1 at last");
    assert!(world.devices[B].find("two").is_none());
}

#[test]
fn of_two_clones_the_one_that_comes_second_stops() {
    let mut world = World::of(2, &[("cal-com", "one")]);
    let mut clone = world.devices[A].cloned();
    let now = world.tick();
    world.devices[A].set_value("cal-com", "two", now);
    world.sync(A);
    let pages = world.server.all_changes(clone.id(), clone.engine.cursor()).unwrap();
    let before = clone.state();
    assert_eq!(clone.pulled(&pages), Err(PullError::Cloned));
    assert!(clone.state() == before);
    // The other way round: the clone pushes first.
    let mut clone = world.devices[A].cloned();
    clone.set_value("cal-com", "three", now);
    let candidate = clone.prepare(&Proposal::Edits, now).unwrap().unwrap();
    world.server.push(clone.id(), candidate.onto.hash, &candidate.push).unwrap();
    clone.accepted(candidate);
    assert_eq!(world.pull(A), Err(PullError::Cloned));
    // A device that is not a clone goes on.
    world.pull(B).unwrap();
    assert_eq!(world.devices[B].values("cal-com"), ["one", "two", "three"]);
}

#[test]
fn a_device_that_slept_longer_than_heads_are_kept_is_told() {
    let mut world = World::of(2, &[("cal-com", "one")]);
    for _ in 0..3 {
        world.wish(A, &Proposal::Beat).unwrap();
    }
    let newest = world.server.newest().unwrap();
    world.server.prune(newest.seq - 1);
    let b = &world.devices[B];
    assert!(world.server.all_changes(b.id(), b.engine.cursor()).is_err());
    // It continues from the newest head after a person has compared the words.
    let pages = world.server.all_changes(b.id(), Engine::cursor_of(newest)).unwrap();
    world.devices[B].adopt(newest, &pages).unwrap();
    world.quiet();
}
