//! What several people do to one account, and the result.

use super::super::*;
use super::daemon::{Taken, shown};
use super::world::{World, admit, me};
use crate::intent::Intent;

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

fn notices(world: &World, index: usize) -> String {
    world.devices[index].disk.notices.join("\n")
}

#[test]
fn a_vault_is_brought_into_a_new_account_and_another_device_has_it() {
    let mut world = World::founded(&[("cal-com", "one"), ("sip", "two")]);
    assert_eq!(world.devices[A].engine.pending().len(), 0);
    assert_eq!(world.devices[A].engine.head().unwrap().0.seq, 1);
    let b = world.join(A, "B", false);
    assert_eq!(world.devices[b].values("cal-com"), ["one"]);
    assert_eq!(world.devices[b].values("SIP"), ["two"]);
    world.quiet();
}

#[test]
fn a_vault_larger_than_one_push_comes_in_several() {
    let existing: Vec<_> = (0..1100).map(|number| (format!("key-{number}"), format!("value-{number}"))).collect();
    let mut world = World::founded(&[]);
    for (name, value) in &existing {
        let now = world.tick();
        world.devices[A].create(name, value, now).unwrap();
    }
    world.sync(A);
    assert!(world.devices[A].engine.head().unwrap().0.seq >= 3);
    world.server.pages.records = 100;
    let b = world.join(A, "B", false);
    assert_eq!(world.devices[b].engine.view().secrets().count(), 1100);
    world.quiet();
}

#[test]
fn what_goes_in_pieces_is_seen_as_before_after_each() {
    let mut world = World::of(2, &[("old", "one"), ("gone", "one")]);
    world.devices[B].refer("cal-com/booking", "old");
    world.sync(B);
    for number in 0..1300 {
        let now = world.tick();
        let device = &mut world.devices[A];
        let name = format!("key-{}", number / 2);
        match number % 7 {
            0 => drop(device.create(&format!("key-{number}"), "x", now)),
            1 if device.find(&name).is_some() => device.set_value(&name, "y", now),
            2 if device.find(&name).is_some() => drop(device.rename(&name, &format!("other-{number}"), now)),
            // Takes a former name from the secret that had it.
            3 => drop(device.create(&name, "z", now)),
            4 if device.find(&name).is_some() => device.enable(&name, false, now),
            _ => device.set_value("old", &format!("{number}"), now),
        }
        if number == 900 {
            let now = world.tick();
            world.devices[B].create("key-7", "of B", now).unwrap();
            world.devices[B].rename("gone", "other-100", now).unwrap();
            world.sync(B);
        }
    }
    world.pull(A).unwrap();
    let (mut pieces, mut quick) = (0, 0);
    while world.devices[A].is_due() {
        let before = shown(world.devices[A].engine.view().secrets());
        let now = world.tick();
        let candidate = world.devices[A].prepare(&Proposal::Edits, now).unwrap().unwrap();
        world.send(A, &candidate).unwrap();
        // These edits are made while the push is on its way.
        world.devices[A].set_value("old", "typed meanwhile", now);
        world.devices[A].create(&format!("meanwhile-{pieces}"), "x", now).unwrap();
        let typed = shown(world.devices[A].engine.view().secrets());
        world.devices[A].accepted(candidate);
        assert_eq!(shown(world.devices[A].engine.view().secrets()), typed);
        assert_eq!(before.len() + 1, typed.len());
        quick += usize::from(!world.devices[A].engine.pending.is_empty());
        // Made again from what is on disk, the engine is the same.
        let again = world.devices[A].cloned();
        assert_eq!(shown(again.engine.view().secrets()), typed);
        assert_eq!(shown(again.engine.base().secrets()), shown(world.devices[A].engine.base().secrets()));
        again.check();
        pieces += 1;
        if pieces > 3 && world.devices[A].engine.pending().len() < 5 {
            break;
        }
    }
    assert!(pieces > 2 && quick > 1, "{pieces} pieces, {quick} with more behind");
    world.quiet();
}

#[test]
fn a_vault_is_merged_into_the_account_that_it_joins() {
    let mut world = World::founded(&[("cal-com", "theirs"), ("theirs-too", "t")]);
    let me = me(world.server.account);
    world.wish(A, &admit(&me, "B", false)).unwrap();
    let mut joined = world.joined(A, me, "B");
    joined.create("cal-com", "mine", 1).unwrap();
    joined.create("sip", "mine too", 2).unwrap();
    let former = ["theirs-too", "free"].map(|name| name.parse().unwrap());
    let renamed = Secret::new("renamed".parse().unwrap(), "long ago", true, 3).unwrap();
    joined.bring(Secret { former_names: former.to_vec(), ..renamed });
    joined.crash();
    world.devices.push(joined);
    world.quiet();
    assert_eq!(world.devices[A].values("cal-com"), ["theirs"]);
    assert_eq!(world.devices[A].values("cal-com-2"), ["mine"]);
    assert_eq!(world.devices[A].values("sip"), ["mine too"]);
    assert_eq!(world.devices[A].values("theirs-too"), ["t"]);
    assert_eq!(world.devices[A].values("free"), ["long ago"], "a former name that is not taken goes on");
    assert!(notices(&world, B).contains("`cal-com-2`"), "{}", notices(&world, B));
}

#[test]
fn a_rotation_crosses() {
    let mut world = World::of(2, &[("cal-com", "one")]);
    let now = world.tick();
    world.devices[A].set_value("cal-com", "two", now);
    assert_eq!(world.devices[A].values("cal-com"), ["one", "two"]);
    world.sync(A);
    world.pull(B).unwrap();
    assert_eq!(world.devices[B].values("cal-com"), ["one", "two"]);
    world.agree();
}

#[test]
fn of_two_values_the_later_to_arrive_wins_and_the_earlier_is_a_version() {
    let mut world = World::of(2, &[("cal-com", "one")]);
    let now = world.tick();
    world.devices[A].set_value("cal-com", "from A", now);
    world.devices[B].set_value("cal-com", "from B", now + 1);
    world.sync(B);
    world.sync(A);
    assert_eq!(world.devices[A].values("cal-com"), ["one", "from B", "from A"]);
    world.quiet();
    assert_eq!(world.devices[B].values("cal-com"), ["one", "from B", "from A"]);
    let numbers: Vec<_> =
        world.devices[B].find("cal-com").unwrap().versions.iter().map(|version| version.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
}

#[test]
fn a_rename_onto_a_name_that_was_taken_meanwhile_is_kept_as_another_and_told_once() {
    let mut world = World::of(2, &[("one", "1"), ("two", "2")]);
    let now = world.tick();
    world.devices[A].rename("one", "three", now).unwrap();
    world.devices[B].rename("two", "Three", now).unwrap();
    assert_eq!(world.devices[B].rename("one", "THREE", now), Err(Taken));
    world.sync(A);
    world.sync(B);
    world.devices[B].crash();
    world.quiet();
    assert_eq!(world.devices[A].values("three"), ["1"]);
    assert_eq!(world.devices[A].values("Three-2"), ["2"]);
    assert_eq!(world.devices[A].find("two").unwrap().name.as_str(), "Three-2", "the former name goes on");
    let shown = notices(&world, B);
    assert_eq!(shown.matches("it is called `Three-2`").count(), 1, "{shown}");
    assert!(world.devices[A].disk.notices.is_empty());
}

#[test]
fn a_new_secret_with_a_name_that_was_taken_meanwhile_is_kept_as_another() {
    let mut world = World::of(2, &[]);
    let now = world.tick();
    world.devices[A].create("key", "from A", now).unwrap();
    world.devices[B].create("KEY", "from B", now).unwrap();
    world.devices[B].set_value("key", "from B again", now);
    world.sync(A);
    world.sync(B);
    world.quiet();
    assert_eq!(world.devices[A].values("key"), ["from A"]);
    assert_eq!(world.devices[A].values("KEY-2"), ["from B", "from B again"]);
    assert!(notices(&world, B).contains("`KEY-2`"));
}

#[test]
fn a_name_that_has_no_room_for_a_number_is_cut() {
    let mut world = World::of(2, &[]);
    let (now, long) = (world.tick(), "x".repeat(guillemet_base::names::NAME_MAX));
    world.devices[A].create(&long, "from A", now).unwrap();
    world.devices[B].create(&long, "from B", now).unwrap();
    world.sync(A);
    world.quiet();
    assert_eq!(world.devices[A].values(&format!("{}-2", &long[2..])), ["from B"]);
}

#[test]
fn an_edit_after_a_delete_lives() {
    let mut world = World::of(2, &[("cal-com", "one")]);
    let now = world.tick();
    world.devices[B].set_value("cal-com", "two", now);
    assert!(world.delete(A, "cal-com").unwrap());
    assert!(world.devices[A].find("cal-com").is_none());
    world.sync(B);
    world.quiet();
    assert_eq!(world.devices[A].values("cal-com"), ["one", "two"]);
    assert_eq!(notices(&world, B).matches("`cal-com` was deleted on one device and changed on another").count(), 1);
    assert!(notices(&world, A).contains("`cal-com` was deleted and is restored: another device"));
}

#[test]
fn an_edit_after_a_delete_lives_under_another_name_where_its_own_was_taken() {
    let mut world = World::of(2, &[("cal-com", "one")]);
    let now = world.tick();
    world.devices[B].enable("cal-com", false, now);
    world.delete(A, "cal-com").unwrap();
    world.devices[A].create("cal-com", "new", now).unwrap();
    world.sync(A);
    world.quiet();
    assert_eq!(world.devices[B].values("cal-com"), ["new"]);
    assert_eq!(world.devices[A].values("cal-com-2"), ["one"]);
    assert!(!world.devices[A].find("cal-com-2").unwrap().enabled);
}

#[test]
fn of_enable_and_disable_the_later_wins() {
    let mut world = World::of(2, &[("cal-com", "one")]);
    let now = world.tick();
    world.devices[A].enable("cal-com", false, now);
    world.devices[B].enable("cal-com", false, now);
    world.devices[B].enable("cal-com", true, now);
    world.sync(A);
    world.quiet();
    assert!(world.devices[A].find("cal-com").unwrap().enabled);
    world.devices[A].enable("cal-com", false, now);
    world.quiet();
    assert!(!world.devices[B].find("cal-com").unwrap().enabled);
}

#[test]
fn two_renames_leave_both_former_names() {
    let mut world = World::of(2, &[("one", "1")]);
    let now = world.tick();
    world.devices[A].rename("one", "two", now).unwrap();
    world.devices[B].rename("one", "three", now).unwrap();
    world.sync(A);
    world.quiet();
    for name in ["one", "two", "three"] {
        assert_eq!(world.devices[A].find(name).unwrap().name.as_str(), "three");
    }
}

#[test]
fn intents_are_read_as_they_were_written() {
    let mut world = World::founded(&[]);
    let device = &mut world.devices[A];
    let id = device.create("one", "1", 1).unwrap();
    device.set_value("one", "2", 2);
    device.rename("one", "two", 3).unwrap();
    device.enable("two", false, 4);
    device.change(id, 5, |secret| secret.forget_name(&"one".parse().unwrap()));
    let before: Vec<_> = device.engine.pending().cloned().collect();
    assert_eq!(before.len(), 5);
    for intent in &before {
        let again = Intent::decode(&intent.encode()).unwrap();
        assert_eq!(format!("{again:?}"), format!("{intent:?}"));
    }
    device.crash();
    world.sync(A);
    world.agree();
    assert_eq!(world.devices[A].values("two"), ["1", "2"]);
}

#[test]
fn a_device_that_is_admitted_twice_is_there_once() {
    let mut world = World::of(2, &[("cal-com", "one")]);
    let b = world.devices[B].engine.me();
    let again = DeviceIdentity {
        account: b.account,
        device: b.device,
        secret: DeviceSecret::from_bytes(&mut b.secret.expose()),
    };
    let mut twin = world.devices[B].cloned();
    world.wish(A, &admit(&again, "B", false)).unwrap();
    assert_eq!(world.devices[A].engine.head().unwrap().0.devices.len(), 2);
    world.quiet();
    // The answer to its first enrolment was lost, so it begins with the second wrap.
    let mut joined = world.joined(A, again, "B");
    joined.pulled(&world.server.all_changes(joined.id(), joined.engine.cursor()).unwrap()).unwrap();
    assert_eq!(joined.values("cal-com"), ["one"]);
    twin.pulled(&world.server.all_changes(twin.id(), twin.engine.cursor()).unwrap()).unwrap();
}

#[test]
fn a_revoked_device_is_told_and_the_others_go_on_in_a_new_epoch() {
    let mut world = World::of(3, &[("cal-com", "one")]);
    let (b, now) = (world.devices[B].id(), world.tick());
    let stale = world.answer(C);
    world.devices[A].set_value("cal-com", "two", now);
    assert!(world.wish(A, &Proposal::Revoke(b)).unwrap());
    assert_eq!(world.devices[A].engine.head().unwrap().0.epoch, 2);
    let after = world.server.newest().unwrap().seq;
    assert!(!world.server.knows(b));
    let pages = world.answer(B);
    assert_eq!(world.devices[B].pulled(&pages), Err(PullError::Revoked));
    assert_eq!(world.devices[B].values("cal-com"), ["one"], "its vault stays as it is");

    let mut removed = world.devices.remove(B);
    world.quiet();
    let now = world.tick();
    world.devices[1].set_value("cal-com", "three", now);
    world.quiet();
    assert_eq!(world.devices[A].values("cal-com"), ["one", "two", "three"]);
    world.devices[A].crash();
    world.devices[1].crash();

    // A device that joins now reads what was sealed before, through the link.
    let d = world.join(1, "D", false);
    assert_eq!(world.devices[d].values("cal-com"), ["one", "two", "three"]);
    world.quiet();

    // With the key that it has, the revoked device can make nothing that counts.
    let candidate = removed.prepare(&Proposal::Beat, 5).unwrap().unwrap();
    let mut forged = stale[0].clone();
    forged.heads = vec![candidate.push.head.clone()];
    forged.newest = Some(candidate.newest);
    assert!(candidate.newest.seq <= after);
    let result = world.devices[1].pulled(&[forged]);
    assert!(matches!(result, Err(PullError::Rollback { .. })), "{result:?}");
}

#[test]
fn a_device_that_goes_is_gone() {
    let mut world = World::of(3, &[("cal-com", "one")]);
    world.devices[B].refer("sip/trunk", "cal-com");
    let now = world.tick();
    world.devices[B].set_value("cal-com", "two", now);
    assert!(world.wish(B, &Proposal::Leave).unwrap());
    let removed = world.devices.remove(B);
    assert_eq!(removed.values("cal-com"), ["one", "two"], "its vault stays as it is");
    assert!(!world.server.knows(removed.id()));
    world.quiet();
    let behind = world.devices[A].cloned();
    let (head, _) = world.devices[A].engine.head().unwrap();
    assert_eq!(head.devices.len(), 2);
    assert!(world.devices[A].engine.base().references(removed.id()).is_none());
    assert_eq!(world.devices[A].values("cal-com"), ["one", "two"]);
    assert!(world.delete(A, "cal-com").unwrap(), "its references went with it");

    // It still has the key, and a server that takes its side: its heads are from no device of the account.
    let mut removed = removed;
    removed.set_value("cal-com", "three", now);
    let candidate = removed.prepare(&Proposal::Edits, now).unwrap().unwrap();
    let mut forged = world.answer(C - 1)[0].clone();
    forged.newest = Some(candidate.newest);
    forged.heads = vec![candidate.push.head];
    let mut behind = behind;
    assert_eq!(behind.pulled(&[forged]), Err(PullError::Tampered("a head does not come from a device of the account")));
}
