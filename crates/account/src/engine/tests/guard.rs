//! Deletes of secrets that templates of several devices name.

use super::super::*;
use super::world::{Failed, World};

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

fn blocked(world: &mut World, name: &str) -> Vec<Blocked> {
    match world.delete(A, name) {
        Err(Failed::Unprepared(PushError::Referenced(blocked))) => blocked,
        other => panic!("`{name}` is not guarded: {other:?}"),
    }
}

#[test]
fn a_reference_of_another_device_stands_in_the_way_and_says_where() {
    let mut world = World::of(2, &[("cal-com", "one")]);
    world.devices[B].refer("cal-com/booking", "CAL-com");
    world.sync(B);
    let by = Blocked {
        device: world.devices[B].id(),
        device_name: "B".into(),
        template: "cal-com/booking".into(),
        position: Some((1, 1)),
        name: Some("CAL-com".into()),
        certain: true,
    };
    assert_eq!(blocked(&mut world, "cal-com"), [by]);
    assert_eq!(world.devices[A].values("cal-com"), ["one"]);

    world.devices[B].templates.clear();
    world.sync(B);
    assert!(world.delete(A, "cal-com").unwrap());
    world.quiet();
    assert!(world.devices[B].find("cal-com").is_none());
}

#[test]
fn a_reference_by_a_former_name_stands_in_the_way() {
    let mut world = World::of(2, &[("old", "one")]);
    world.devices[B].refer("sip/trunk", "old");
    world.sync(B);
    let now = world.tick();
    world.sync(A);
    world.devices[A].rename("old", "new", now).unwrap();
    assert_eq!(blocked(&mut world, "new")[0].name.as_deref(), Some("old"));
}

#[test]
fn a_former_name_that_another_device_references_is_not_taken_from_its_secret() {
    let mut world = World::of(2, &[("old", "one"), ("other", "two")]);
    world.devices[B].refer("sip/trunk", "old");
    let now = world.tick();
    world.devices[A].rename("old", "new", now).unwrap();
    world.quiet();
    // The inventory of A sees only the templates of A.
    world.devices[A].rename("other", "old", now).unwrap();
    world.quiet();
    assert_eq!(world.devices[B].values("old"), ["one"]);
    assert_eq!(world.devices[A].values("old-2"), ["two"]);
    assert!(world.devices[A].disk.notices[0].contains("`old-2`"));
    // Nothing references the name any more, so it can be taken.
    world.devices[B].templates.clear();
    world.sync(B);
    world.sync(A);
    world.devices[A].rename("old-2", "old", now).unwrap();
    world.quiet();
    assert_eq!(world.devices[B].values("old"), ["two"]);
}

#[test]
fn a_text_that_cannot_be_taken_apart_and_a_folder_that_cannot_be_read_stand_in_the_way() {
    let mut world = World::of(2, &[("cal-com", "one"), ("sip", "two")]);
    world.devices[B].broken.insert("cal-com/broken".into(), "key: << secret \"cal-com\" ".into());
    world.sync(B);
    let by = blocked(&mut world, "cal-com");
    assert!(!by[0].certain && by[0].template == "cal-com/broken" && by[0].name.as_deref() == Some("cal-com"));
    assert!(world.delete(A, "sip").unwrap());
    world.quiet();

    world.devices[B].broken.clear();
    world.devices[B].unknown.push("templates/custom-action".into());
    world.sync(B);
    let by = blocked(&mut world, "cal-com");
    assert!(!by[0].certain && by[0].template == "templates/custom-action" && by[0].name.is_none());
}

#[test]
fn revoking_a_device_lifts_what_it_blocks() {
    let mut world = World::of(3, &[("cal-com", "one")]);
    world.devices[B].refer("cal-com/booking", "cal-com");
    world.sync(B);
    blocked(&mut world, "cal-com");
    let b = world.devices[B].id();
    world.wish(A, &Proposal::Revoke(b)).unwrap();
    world.devices.remove(B);
    assert!(world.delete(A, "cal-com").unwrap());
    world.quiet();
}

#[test]
fn a_delete_that_a_reference_overtakes_is_not_accepted() {
    let mut world = World::of(2, &[("cal-com", "one")]);
    let (id, now) = (world.devices[A].id_of("cal-com"), world.tick());
    let candidate = world.devices[A].prepare(&Proposal::Delete(id), now).unwrap().unwrap();
    world.devices[B].refer("cal-com/booking", "cal-com");
    world.sync(B);
    assert_eq!(world.send(A, &candidate), Err(super::server::Refused::Behind));
    blocked(&mut world, "cal-com");
    world.quiet();
}

#[test]
fn a_reference_of_a_device_that_was_offline_brings_a_secret_back() {
    let mut world = World::of(3, &[("cal-com", "one")]);
    let now = world.tick();
    world.devices[A].set_value("cal-com", "two", now);
    assert!(world.delete(A, "cal-com").unwrap());
    world.sync(C);
    assert!(world.devices[C].find("cal-com").is_none());
    world.devices[B].refer("cal-com/booking", "cal-com");
    world.sync(B);
    world.quiet();
    assert_eq!(world.devices[C].values("cal-com"), ["one", "two"]);
    let again = "`cal-com` was deleted and is restored: ";
    assert!(world.devices[B].disk.notices[0].starts_with(&format!("{again}a template on this device")));
    for other in [A, C] {
        let notices = &world.devices[other].disk.notices;
        assert!(notices.len() == 1 && notices[0].starts_with(&format!("{again}another device")), "{notices:?}");
    }
    blocked(&mut world, "cal-com");
}

#[test]
fn a_reference_that_appears_while_the_devices_own_delete_is_under_way_brings_the_secret_back() {
    let mut world = World::of(2, &[("cal-com", "one"), ("sip", "two")]);
    let (id, now) = (world.devices[A].id_of("cal-com"), world.tick());
    // The references of A go with the same push.
    world.devices[A].refer("sip/trunk", "sip");
    let candidate = world.devices[A].prepare(&Proposal::Delete(id), now).unwrap().unwrap();
    // Nobody has told A about the delete yet: a template of A comes to name the secret.
    world.devices[A].refer("cal-com/booking", "cal-com");
    world.send(A, &candidate).unwrap();
    world.sync(B);
    world.sync(B);
    world.quiet();
    assert_eq!(world.devices[B].values("cal-com"), ["one"]);
}

#[test]
fn it_comes_back_by_a_former_name_and_under_another_where_its_own_was_taken() {
    let mut world = World::of(2, &[("old", "one")]);
    let now = world.tick();
    world.devices[A].rename("old", "new", now).unwrap();
    world.delete(A, "new").unwrap();
    world.devices[A].create("new", "another", now).unwrap();
    world.sync(A);
    world.devices[B].refer("sip/trunk", "old");
    world.sync(B);
    world.quiet();
    assert_eq!(world.devices[A].values("new"), ["another"]);
    assert_eq!(world.devices[A].values("old"), ["one"]);
    assert_eq!(world.devices[A].find("old").unwrap().name.as_str(), "new-2");
}

#[test]
fn a_name_that_another_secret_has_now_is_that_one() {
    let mut world = World::of(2, &[("cal-com", "one")]);
    let now = world.tick();
    world.delete(A, "cal-com").unwrap();
    world.devices[A].create("cal-com", "two", now).unwrap();
    world.sync(A);
    world.devices[B].refer("cal-com/booking", "cal-com");
    world.sync(B);
    world.quiet();
    assert_eq!(world.devices[B].values("cal-com"), ["two"]);
    assert_eq!(world.devices[B].engine.view().secrets().count(), 1);
}

#[test]
fn what_was_deleted_is_kept_until_every_device_has_published_and_no_longer() {
    let mut world = World::of(3, &[("cal-com", "one")]);
    let recovery = world.join(A, "on paper", true);
    let secret = world.devices[A].id_of("cal-com");
    world.delete(A, "cal-com").unwrap();
    let deleted = |world: &World, index: usize| world.devices[index].engine.base().deleted(secret).is_some();
    world.sync(B);
    world.sync(A);
    assert!(deleted(&world, A), "C has not said anything");
    world.sync(C);
    world.sync(A);
    assert!(!deleted(&world, A), "nobody waits for a recovery code");
    world.devices.remove(recovery);
    world.quiet();
    assert!((0..3).all(|index| !deleted(&world, index)));
    // From now on, a reference to it leads to nothing.
    world.devices[B].refer("cal-com/booking", "cal-com");
    world.quiet();
    assert!(world.devices[B].find("cal-com").is_none());
}

#[test]
fn a_device_that_joins_while_something_is_deleted_is_waited_for() {
    let mut world = World::of(2, &[("cal-com", "one")]);
    let secret = world.devices[A].id_of("cal-com");
    world.delete(A, "cal-com").unwrap();
    let c = world.join(A, "C", false);
    world.sync(B);
    world.sync(A);
    assert!(world.devices[A].engine.base().deleted(secret).is_some());
    world.devices[c].refer("cal-com/booking", "cal-com");
    world.sync(c);
    world.quiet();
    assert_eq!(world.devices[A].values("cal-com"), ["one"]);
}

#[test]
fn much_that_was_deleted_comes_back_in_several_pushes() {
    let names: Vec<_> = (0..10).map(|number| format!("key-{number}")).collect();
    let mut world = World::of(2, &names.iter().map(|name| (name.as_str(), "x")).collect::<Vec<_>>());
    for name in &names {
        for version in 'a'..='k' {
            let now = world.tick();
            world.devices[A].set_value(name, &String::from(version).repeat(60_000), now);
        }
    }
    world.quiet();
    for name in &names {
        world.delete(A, name).unwrap();
        world.devices[B].refer("cal-com/booking", name);
    }
    world.sync(A);
    assert_eq!(world.devices[A].engine.base().all_deleted().count(), 10);
    world.pull(B).unwrap();
    assert!(world.push(B, &Proposal::Edits).unwrap());
    assert!((1..10).contains(&world.devices[B].engine.view().secrets().count()));
    world.quiet();
    assert!(names.iter().all(|name| world.devices[A].values(name).len() == 12));
    assert_eq!(world.devices[A].engine.base().all_deleted().count(), 0);
}

#[test]
fn a_secret_with_edits_that_do_not_fit_into_the_push_is_not_deleted_before_them() {
    let mut world = World::of(2, &[("cal-com", "one")]);
    for number in 0..600 {
        let now = world.tick();
        world.devices[A].enable("cal-com", number % 2 == 0, now);
    }
    let (id, now) = (world.devices[A].id_of("cal-com"), world.tick());
    let result = world.devices[A].prepare(&Proposal::Delete(id), now);
    assert!(matches!(result, Err(PushError::Behind)));
    assert!(world.delete(A, "cal-com").unwrap());
    world.quiet();
    assert!(world.devices[B].find("cal-com").is_none());
}

#[test]
fn edits_that_need_several_pushes_bring_back_what_was_deleted_meanwhile() {
    let mut world = World::of(2, &[("cal-com", "one"), ("other", "x")]);
    for version in 'a'..='t' {
        let now = world.tick();
        world.devices[B].set_value("other", &String::from(version).repeat(60_000), now);
    }
    let now = world.tick();
    world.devices[B].set_value("cal-com", "two", now);
    assert!(world.delete(A, "cal-com").unwrap());
    world.sync(A);
    world.pull(B).unwrap();
    world.push(B, &Proposal::Edits).unwrap();
    assert!(world.devices[B].engine.pending().len() > 1, "it is not in the first push");
    world.quiet();
    assert_eq!(world.devices[A].values("cal-com"), ["one", "two"]);
}
