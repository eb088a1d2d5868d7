//! A server that lies. Every change it makes to an honest answer is refused with the name of what it did and without
//! any effect, or the result is exactly that of the honest answer.

use proptest::prelude::*;

use super::super::*;
use super::daemon::Daemon;
use super::scene::{Past, Scene, past};
use crate::seal::{BoxKind, NO_ID};
use guillemet_base::random::random;
use guillemet_wire::{ChangesPage, Hash, Sealed, SealedHead};

/// The expected result of an answer.
#[derive(Clone, Debug, PartialEq)]
enum Expect {
    /// The same as for the honest answer.
    Honest,
    /// No change: the answer says that there is nothing new.
    Unchanged,
    /// Exactly this refusal and no other.
    Refused(PullError),
    /// A refusal as `tampered`, whichever problem is found first.
    Tampered,
}

use Expect::{Honest, Tampered, Unchanged};

const CONTINUITY: fn(u64, u64) -> Expect =
    |known, offered| Expect::Refused(PullError::ContinuityLost { known, offered });
const ROLLBACK: fn(u64, u64) -> Expect = |known, offered| Expect::Refused(PullError::Rollback { known, offered });
const FORK: fn(u64) -> Expect = |seq| Expect::Refused(PullError::Fork { seq });

type Attack = (&'static str, Vec<ChangesPage>, Expect);

/// An honest answer that is about to be changed.
struct Lies<'a> {
    scene: &'a Scene,
    whole: ChangesPage,
    /// The head that the victim knows.
    known: u64,
    epoch: u64,
    pick: usize,
    attacks: Vec<Attack>,
}

impl Lies<'_> {
    fn lie(&mut self, name: &'static str, expect: Expect, change: impl FnOnce(&mut ChangesPage)) {
        let mut changed = self.whole.clone();
        change(&mut changed);
        self.attacks.push((name, vec![changed], expect));
    }

    fn account(&self) -> AccountId {
        self.scene.world.server.account
    }

    /// Returns the number and epoch of the head before this one, in the victim's walk.
    fn before(&self, index: usize) -> (u64, u64) {
        index
            .checked_sub(1)
            .map_or((self.known, self.epoch), |before| (self.whole.heads[before].seq, self.whole.heads[before].epoch))
    }

    fn has_new_epoch(&self) -> bool {
        self.whole.heads.last().unwrap().epoch > self.epoch
    }

    fn of_heads(&mut self) {
        let (count, account) = (self.whole.heads.len(), self.account());
        let (at, bit) = (self.pick % count, self.pick);
        let (head, before) = (self.whole.heads[at].clone(), self.before(at));
        let seq = head.seq;
        let dropped = if at + 1 == count { Tampered } else { CONTINUITY(before.0, seq + 1) };
        self.lie("a head is dropped", dropped, |all| drop(all.heads.remove(at)));
        self.lie("all heads are dropped", Tampered, |all| all.heads.clear());
        self.lie("a head is there twice", ROLLBACK(seq, seq), |all| all.heads.insert(at, head.clone()));
        if at + 1 < count {
            self.lie("two heads change places", CONTINUITY(before.0, seq + 1), |all| all.heads.swap(at, at + 1));
            self.lie("two heads change boxes", Tampered, |all| {
                let other = all.heads[at + 1].sealed.clone();
                all.heads[at + 1].sealed = std::mem::replace(&mut all.heads[at].sealed, other);
            });
        }
        self.lie("a bit of a head is another", Tampered, |all| flip(&mut all.heads[at].sealed, bit));
        self.lie("a head is cut", Tampered, |all| all.heads[at].sealed.0.truncate(bit % 290));
        self.lie("a head follows another", FORK(seq), |all| all.heads[at].prev.0[bit % 32] ^= 1);
        self.lie("a head has a higher number", Tampered, |all| all.heads[at].seq += 1);
        // The key of an epoch that does not exist may be missing because this device was revoked.
        let raised = if self.whole.wraps.iter().any(|wrap| wrap.epoch == head.epoch + 1) {
            Tampered
        } else {
            Expect::Refused(PullError::Revoked)
        };
        self.lie("a head has a higher epoch", raised, |all| all.heads[at].epoch += 1);
        let lowered = if head.epoch > before.1 { Tampered } else { Expect::Refused(PullError::OldEpoch) };
        self.lie("a head has a lower epoch", lowered, |all| all.heads[at].epoch -= 1);
        self.lie("a head is made up", Tampered, |all| {
            let box_of_nothing = Sealed((0..600).flat_map(|_| random::<1>()).collect());
            all.heads[count - 1].sealed = box_of_nothing;
            all.newest.as_mut().unwrap().hash = all.heads[count - 1].hash(account);
        });
        let old = self.scene.snapshots[0].heads[self.pick % self.scene.snapshots[0].heads.len()].clone();
        let (first, epoch) = (self.whole.heads[0].clone(), self.epoch);
        self.lie("an old head has a new number", Tampered, |all| {
            let head = SealedHead { seq: first.seq, prev: first.prev, epoch, sealed: old.sealed };
            let newest = HeadRef { seq: head.seq, hash: head.hash(account) };
            (all.heads, all.newest) = (vec![head], Some(newest));
        });
        let revoked = self.by_a_revoked_device(first.prev);
        let expected = if self.epoch > 1 { Expect::Refused(PullError::OldEpoch) } else { Tampered };
        self.lie("a revoked device makes a head", expected, |all| {
            (all.newest, all.heads) = (Some(HeadRef { seq: revoked.seq, hash: revoked.hash(account) }), vec![revoked]);
        });
    }

    /// Returns a head such as a device can make that has the key of the first epoch. Its root is that of no records.
    fn by_a_revoked_device(&self, prev: Hash) -> SealedHead {
        let seq = self.known + 1;
        let (known, _) = self.scene.victim.engine.head().unwrap();
        let by = known.devices.iter().find(|device| device.id != self.scene.victim.id()).unwrap().id;
        let head = Head { seq, epoch: 1, prev, by, ..known.clone() };
        let head = Head { root: RecordTree::new().root(), ..head };
        let key = &self.scene.first_key;
        let sealed = key.seal(BoxKind::Head, self.account(), NO_ID, seq, &serde_json::to_vec(&head).unwrap());
        SealedHead { seq, epoch: 1, prev, sealed }
    }

    fn of_records(&mut self) {
        let with_box = |(index, changed): (usize, &guillemet_wire::ChangedRecord)| {
            changed.record.sealed.is_some().then_some(index)
        };
        let boxes: Vec<_> = self.whole.records.iter().enumerate().filter_map(with_box).collect();
        if boxes.is_empty() {
            return;
        }
        let (at, bit) = (boxes[self.pick % boxes.len()], self.pick);
        let changed = self.whole.records[at].clone();
        let (id, epoch) = (changed.record.id, changed.record.epoch);
        self.lie("a record is dropped", Tampered, |all| drop(all.records.remove(at)));
        self.lie("all records are dropped", Tampered, |all| all.records.clear());
        self.lie("a record is said to be removed", Tampered, |all| all.records[at].record.sealed = None);
        self.lie("a record is there twice", Honest, |all| all.records.insert(at, changed.clone()));
        self.lie("a bit of a record is another", Tampered, |all| {
            flip(all.records[at].record.sealed.as_mut().unwrap(), bit);
        });
        self.lie("a record is cut", Tampered, |all| {
            all.records[at].record.sealed.as_mut().unwrap().0.truncate(bit % 290);
        });
        self.lie("a record has a higher revision", Tampered, |all| all.records[at].record.revision += 1);
        self.lie("a record has a lower revision", Tampered, |all| all.records[at].record.revision -= 1);
        self.lie("a record has a higher epoch", Tampered, |all| all.records[at].record.epoch += 1);
        let old = if epoch > self.epoch { Tampered } else { Expect::Refused(PullError::OldEpoch) };
        self.lie("a record has an older epoch", old, |all| all.records[at].record.epoch -= 1);
        self.lie("a record is another's", Tampered, |all| all.records[at].record.id.0[15] ^= 1);
        self.lie("a record is a head", Tampered, |all| {
            all.records[at].record.sealed = Some(all.heads[0].sealed.clone());
        });
        if let Some(other) = boxes.iter().find(|other| **other != at).copied() {
            self.lie("two records change boxes", Tampered, |all| {
                let taken = all.records[at].record.sealed.take();
                all.records[at].record.sealed = std::mem::replace(&mut all.records[other].record.sealed, taken);
            });
        }
        let former = self.scene.snapshots[0].newest_records().find(|record| record.id == id).cloned();
        if let Some(former) = former.filter(|former| former.sealed.is_some()) {
            self.lie("a record has an older revision", Tampered, |all| all.records[at].record = former);
        }
        // A revoked device has the key and knows the ids: the box opens, and still has no effect.
        let revision = changed.record.revision;
        let forged = self.scene.first_key.seal(BoxKind::Record, self.account(), id.0, revision, b"\x01");
        let expect = if self.epoch > 1 { Expect::Refused(PullError::OldEpoch) } else { Tampered };
        self.lie("a revoked device makes a record", expect, |all| {
            (all.records[at].record.sealed, all.records[at].record.epoch) = (Some(forged), 1);
        });
    }

    fn of_keys(&mut self) {
        let (bit, is_new) = (self.pick, self.has_new_epoch());
        let expect = |refused: Expect| if is_new { refused } else { Honest };
        self.lie("keys are dropped", expect(Expect::Refused(PullError::Revoked)), |all| all.wraps.clear());
        self.lie("a bit of a key is another", expect(Tampered), |all| {
            all.wraps.iter_mut().for_each(|wrap| flip(&mut wrap.sealed, bit));
        });
        self.lie("a key comes from nobody", expect(Tampered), |all| {
            all.wraps.iter_mut().for_each(|wrap| wrap.sender.0[0] ^= 1);
        });
        let (me, other) = (self.scene.victim.id(), self.scene.world.devices[0].id());
        self.lie("a key comes from another device", expect(Tampered), |all| {
            all.wraps.iter_mut().for_each(|wrap| wrap.sender = if wrap.sender == other { me } else { other });
        });
        self.lie("a key is another's", expect(Expect::Refused(PullError::Revoked)), |all| {
            all.wraps.iter_mut().for_each(|wrap| wrap.device.0[0] ^= 1);
        });
        let theirs = self.scene.world.server.wrap(other);
        self.lie("a key was wrapped for another", expect(Tampered), |all| {
            let boxed = theirs.map(|theirs| theirs.sealed).unwrap_or_default();
            all.wraps.iter_mut().for_each(|wrap| wrap.sealed = boxed.clone());
        });
        // A device that continues from what it knows needs no links.
        self.lie("links are dropped", Honest, |all| all.links.clear());
        self.lie("links are changed", Honest, |all| all.links.iter_mut().for_each(|link| flip(&mut link.sealed, bit)));
    }

    fn of_the_newest(&mut self) {
        let (known, bit) = (self.known, self.pick);
        let hash = self.scene.victim.engine.head().unwrap().1;
        self.lie("the newest is another", Tampered, |all| all.newest.as_mut().unwrap().hash.0[bit % 32] ^= 1);
        self.lie("the newest is higher", Tampered, |all| all.newest.as_mut().unwrap().seq += 1);
        self.lie("the newest is at the end of numbers", Tampered, |all| all.newest.as_mut().unwrap().seq = u64::MAX);
        self.lie("there is no head", ROLLBACK(known, 0), |all| all.newest = None);
        self.lie("the newest is older", ROLLBACK(known, known - 1), |all| all.newest.as_mut().unwrap().seq = known - 1);
        self.lie("it is another head", FORK(known), |all| all.newest.as_mut().unwrap().seq = known);
        self.lie("nothing is new", Unchanged, |all| all.newest = Some(HeadRef { seq: known, hash }));
        let mut pages = self.scene.honest.clone();
        let twice = pages[self.pick % pages.len()].clone();
        let offered = twice.heads.first().map(|head| head.seq);
        pages.push(twice.clone());
        let last = self.whole.heads.last().unwrap().seq;
        pages.last_mut().unwrap().newest = self.whole.newest;
        // Records that come twice are the same.
        let expect = offered.map_or(Honest, |offered| ROLLBACK(last, offered));
        self.attacks.push(("a page is there twice", pages, expect));
    }

    fn of_time(&mut self) {
        let (scene, known) = (self.scene, self.known);
        let at = self.pick % scene.snapshots.len();
        let old = &scene.snapshots[at];
        let newest = old.newest().unwrap();
        let me = scene.victim.id();
        if newest.seq <= known {
            let expect = if newest.seq < known { ROLLBACK(known, newest.seq) } else { Unchanged };
            let replayed = old.all_changes(me, PullCursor::default()).unwrap();
            self.attacks.push(("an older answer is replayed", replayed, expect.clone()));
            let set_back = old.all_changes(me, scene.victim.engine.cursor()).unwrap();
            self.attacks.push(("the server was set back", set_back, expect));
        }
        let other = Scene::new(&Past::default());
        let theirs = other.world.server.all_changes(other.victim.id(), scene.victim.engine.cursor()).unwrap();
        let newest = other.world.server.newest().unwrap().seq;
        let expect = match newest.cmp(&known) {
            std::cmp::Ordering::Less => ROLLBACK(known, newest),
            std::cmp::Ordering::Equal => FORK(known),
            std::cmp::Ordering::Greater => FORK(known + 1),
        };
        self.attacks.push(("it is another account's", theirs, expect));
    }
}

fn flip(sealed: &mut Sealed, bit: usize) {
    if !sealed.0.is_empty() {
        let at = (bit * 7919) % sealed.0.len();
        sealed.0[at] ^= 1 << (bit % 8);
    }
}

fn attacks(scene: &Scene, pick: usize) -> Vec<Attack> {
    let (head, _) = scene.victim.engine.head().unwrap();
    let (known, epoch) = (head.seq, head.epoch);
    let mut lies = Lies { scene, whole: scene.whole(), known, epoch, pick, attacks: Vec::new() };
    lies.of_heads();
    lies.of_records();
    lies.of_keys();
    lies.of_the_newest();
    lies.of_time();
    lies.attacks
}

/// Shows an answer to a device. The result has to be the expected one, and the honest answer has to be accepted
/// afterwards.
fn show(scene: &Scene, honest: &Daemon, (name, pages, expect): Attack) {
    let mut victim = scene.victim.cloned();
    let before = victim.state();
    let result = victim.pulled(&pages);
    let expected = match &expect {
        Honest => result.is_ok() && victim.state() == honest.state(),
        Unchanged => result.is_ok() && victim.state() == before,
        Tampered => matches!(result, Err(PullError::Tampered(_))),
        Expect::Refused(refusal) => result.as_ref() == Err(refusal),
    };
    assert!(expected, "{name}: {result:?}, and {expect:?} is expected");
    if result.is_err() {
        assert!(victim.state() == before, "{name}: something stays of what was refused");
    }
    if expect != Honest {
        victim.pulled(&scene.honest).unwrap_or_else(|refusal| panic!("after {name}: {refusal}"));
        assert!(victim.state() == honest.state(), "{name}: the honest answer afterwards");
    }
}

proptest! {
    #![proptest_config(super::cases(24))]

    #[test]
    fn every_lie_is_refused_by_its_name_and_changes_nothing(past in past(), picks in proptest::array::uniform2(0..10_000_usize)) {
        let scene = Scene::new(&past);
        let mut honest = scene.victim.cloned();
        honest.pulled(&scene.honest).unwrap();
        for pick in picks {
            for attack in attacks(&scene, pick) {
                show(&scene, &honest, attack);
            }
        }
    }
}
