//! The attacks by a server that no device can detect by itself: withholding, and keeping up a fork for ever. People
//! notice both, by the age of the head and by its words. A fork that is joined again is refused.

use super::super::*;
use super::daemon::{Daemon, shown};
use super::scene::{Past, Scene};
use super::world::{World, admit};
use crate::fingerprint_words::fingerprint_words;
use guillemet_wire::ChangesPage;

const A: usize = 0;
const B: usize = 1;

fn forked(honest: &[(usize, usize)]) -> Scene {
    Scene::new(&Past::of(honest))
}

#[test]
fn withholding_is_not_refused_and_shows_in_the_age_of_the_head() {
    let mut world = World::of(2, &[("cal-com", "one")]);
    let old = world.server.clone();
    let before = world.devices[B].state();
    let made_at = world.devices[B].engine.head().unwrap().0.made_at;
    for round in 0..3 {
        let now = world.tick();
        world.devices[A].set_value("cal-com", &format!("round {round}"), now);
        world.sync(A);
        let withheld = old.all_changes(world.devices[B].id(), world.devices[B].engine.cursor()).unwrap();
        world.devices[B].pulled(&withheld).unwrap();
    }
    // Nothing is refused, and nothing is new. The head only grows older, compared to that of a device in sync.
    assert!(world.devices[B].state() == before);
    let age = |world: &World, index: usize| world.clock - world.devices[index].engine.head().unwrap().0.made_at;
    assert_eq!(world.devices[B].engine.head().unwrap().0.made_at, made_at);
    assert!(age(&world, B) >= age(&world, A) + 3000);
    // A beat would have shown that the account is in use; it is withheld as well.
    world.wish(A, &Proposal::Beat).unwrap();
    assert!(age(&world, B) > age(&world, A) + 3000);
    // Once the server stops withholding, the device accepts everything.
    world.quiet();
}

#[test]
fn an_older_answer_that_is_consistent_is_taken_as_far_as_it_goes() {
    let scene = forked(&[(6, 0), (6, 2), (6, 4)]);
    let (seq, _) = scene.victim.engine.head().map(|(head, hash)| (head.seq, hash)).unwrap();
    let part = scene.snapshots.iter().find(|server| server.newest().unwrap().seq == seq + 1).unwrap();
    let mut victim = scene.victim.cloned();
    victim.pulled(&part.all_changes(victim.id(), victim.engine.cursor()).unwrap()).unwrap();
    assert_eq!(victim.engine.head().unwrap().0.seq, seq + 1);
    let rest = scene.world.server.all_changes(victim.id(), victim.engine.cursor()).unwrap();
    victim.pulled(&rest).unwrap();
    assert_eq!(victim.engine.head().unwrap().1, scene.world.server.newest().unwrap().hash);
}

/// Returns the victim, on the other side of the fork.
fn deceived(scene: &Scene) -> Daemon {
    let mut victim = scene.victim.cloned();
    victim.pulled(&scene.fork.all_changes(victim.id(), victim.engine.cursor()).unwrap()).unwrap();
    victim
}

#[test]
fn a_fork_kept_up_for_ever_is_not_refused_and_shows_in_the_words() {
    let scene = forked(&[(6, 0), (6, 2), (6, 4)]);
    let victim = deceived(&scene);
    let (theirs, ours) = (scene.world.devices[A].engine.head().unwrap(), victim.engine.head().unwrap());
    assert_eq!(theirs.0.seq, ours.0.seq, "the numbers do not tell");
    assert_ne!(fingerprint_words(&theirs.1), fingerprint_words(&ours.1), "the words do");
    // Both sides of the fork go on.
    assert_ne!(shown(victim.engine.view().secrets()), shown(scene.world.devices[A].engine.view().secrets()));
}

#[test]
fn a_fork_that_is_joined_again_is_refused() {
    for (heads, expected) in [(1, "rollback"), (3, "fork"), (6, "fork")] {
        let scene = forked(&vec![(6, 0); heads]);
        let mut victim = deceived(&scene);
        let before = victim.state();
        let cursor = victim.engine.cursor();
        let honest = scene.world.server.all_changes(victim.id(), cursor).unwrap();
        let error = victim.pulled(&honest).unwrap_err();
        assert_eq!(error.code(), expected, "{heads}: {error}");
        // The same with the whole history, from the last head that both know.
        let page = scene.world.server.all_changes(victim.id(), scene.victim.engine.cursor()).unwrap();
        let error = victim.pulled(&page).unwrap_err();
        assert!(matches!(error.code(), "rollback" | "fork"), "{heads}: {error}");
        // Both histories in one answer.
        let mut both = scene.fork.all_changes(victim.id(), scene.victim.engine.cursor()).unwrap();
        both.extend(page);
        assert!(scene.victim.cloned().pulled(&both).is_err());
        assert!(victim.state() == before);
        // A push of one side does not fit on the other, because it does not follow its head.
        let mut forged = victim.cloned();
        let candidate = forged.prepare(&Proposal::Beat, 1).unwrap().unwrap();
        let newest = scene.world.server.newest().unwrap();
        assert_ne!(candidate.onto, newest);
    }
}

#[test]
fn a_key_that_was_wrapped_in_another_history_is_refused() {
    let mut world = World::of(3, &[("cal-com", "one")]);
    let c = world.devices[2].id();
    world.devices.remove(2);
    world.wish(A, &Proposal::Revoke(c)).unwrap();
    // On a server that shows A another history, A admits B again, under the same key.
    let (mut fork, mut twin) = (world.server.clone(), world.devices[A].cloned());
    let again = admit(world.devices[B].engine.me(), "B", false);
    let candidate = twin.prepare(&again, 1).unwrap().unwrap();
    fork.push(twin.id(), candidate.onto.hash, &candidate.push).unwrap();
    let mut pages = world.answer(B);
    pages[0].wraps = vec![fork.wrap(world.devices[B].id()).unwrap()];
    let result = world.devices[B].pulled(&pages);
    assert_eq!(result, Err(PullError::Tampered("the key of its epoch belongs to another head")));
    world.pull(B).unwrap();
}

#[test]
fn a_revoked_device_and_the_server_deceive_only_who_has_not_heard_of_it() {
    let mut world = World::of(3, &[("cal-com", "one")]);
    let (split, c) = (world.server.clone(), world.devices[2].id());
    let mut revoked = world.devices.remove(2);
    world.wish(A, &Proposal::Revoke(c)).unwrap();
    // It goes on in the old epoch, on a server that keeps the revocation from B.
    let mut fork = split;
    revoked.set_value("cal-com", "forged", 1);
    let candidate = revoked.prepare(&Proposal::Edits, 1).unwrap().unwrap();
    fork.push(revoked.id(), candidate.onto.hash, &candidate.push).unwrap();
    let changes = |device: &Daemon| fork.all_changes(device.id(), device.engine.cursor()).unwrap();
    let pages = changes(&world.devices[A]);
    assert!(matches!(world.devices[A].pulled(&pages), Err(PullError::Fork { .. } | PullError::Rollback { .. })));
    let mut deceived = world.devices[B].cloned();
    deceived.pulled(&changes(&deceived)).unwrap();
    assert_ne!(
        fingerprint_words(&deceived.engine.head().unwrap().1),
        fingerprint_words(&world.devices[A].engine.head().unwrap().1)
    );
    // A device that knows of the revocation refuses.
    world.pull(B).unwrap();
    let pages = changes(&world.devices[B]);
    assert!(world.devices[B].pulled(&pages).is_err());
}

/// Changes an answer to a device that joins, in every way.
#[test]
fn even_the_first_pull_of_a_device_is_refused_where_anything_is_changed() {
    let mut scene = forked(&[(6, 0), (0, 0), (5, 2)]);
    let index = scene.world.join(A, "F", false);
    let me = &scene.world.devices[index];
    let joined = scene.world.joined(
        A,
        DeviceIdentity {
            account: me.engine.me().account,
            device: me.id(),
            secret: DeviceSecret::from_bytes(&mut me.engine.me().secret.expose()),
        },
        "F",
    );
    let anchor = joined.engine.cursor().heads_after + 1;
    scene.world.wish(A, &Proposal::Beat).unwrap();
    let honest = scene.world.server.all_changes(joined.id(), joined.engine.cursor()).unwrap();
    let page = honest[0].clone();
    assert!(honest.len() == 1 && !page.links.is_empty());
    let mut taken = joined.cloned();
    taken.pulled(std::slice::from_ref(&page)).unwrap();

    let refused = |change: &dyn Fn(&mut ChangesPage)| {
        let mut changed = page.clone();
        change(&mut changed);
        let mut device = joined.cloned();
        let before = device.state();
        let refusal = device.pulled(&[changed]).unwrap_err();
        assert!(device.state() == before);
        device.pulled(&honest).unwrap();
        assert!(device.state() == taken.state());
        refusal
    };
    for index in 0..page.records.len() {
        let is_box = page.records[index].record.sealed.is_some();
        if is_box {
            assert_eq!(refused(&|all| drop(all.records.remove(index))).code(), "tampered");
            let flip = |all: &mut ChangesPage| all.records[index].record.sealed.as_mut().unwrap().0[40] ^= 1;
            assert_eq!(refused(&flip).code(), "tampered");
        }
    }
    assert_eq!(refused(&|all| drop(all.heads.remove(0))), PullError::Fork { seq: anchor + 1 });
    assert_eq!(refused(&|all| all.heads[0].sealed.0[30] ^= 1), PullError::Fork { seq: anchor });
    assert_eq!(refused(&|all| all.heads.clear()).code(), "tampered");
    assert_eq!(refused(&|all| all.newest.as_mut().unwrap().seq = anchor - 1).code(), "rollback");
    assert_eq!(refused(&|all| all.newest = None).code(), "rollback");
    assert_eq!(refused(&|all| drop(all.heads.pop())).code(), "tampered");
    // Without the links, records from before the present epoch cannot be read.
    assert_eq!(refused(&|all| all.links.clear()).code(), "tampered");
}
