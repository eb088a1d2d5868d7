//! A ledger of what was acknowledged on any device, and what became of it. It is kept next to the engines, and compared
//! with them at the end. A witness, a paper device that never pushes, sees every head.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::super::*;
use super::daemon::{Daemon, text};
use super::server::Server;
use super::world::World;
use crate::intent::IntentChange;
use guillemet_base::names::{SecretId, SecretName};
use guillemet_secret::record::Secret;

pub struct Ledger {
    witness: Daemon,
    /// The secrets before anything happened.
    first: BTreeMap<SecretId, Arc<Secret>>,
    acknowledged: HashMap<IntentId, Arc<Intent>>,
    /// Every intent of every head, in order.
    settled: Vec<(u64, IntentId)>,
    deletes: Vec<(u64, SecretId)>,
    /// Every secret, as it was last seen.
    last: BTreeMap<SecretId, Arc<Secret>>,
    /// For each reference that was added: the newest head up to which its device had published references at that time,
    /// whether or not it had heard that they arrived.
    added: HashMap<(DeviceId, String, String), u64>,
}

fn names(secret: &Secret) -> impl Iterator<Item = &SecretName> {
    std::iter::once(&secret.name).chain(&secret.former_names)
}

/// The state that a secret must have, by the intents in the order of their heads.
#[derive(Default)]
struct Expected {
    values: Vec<String>,
    enabled: bool,
    name: String,
    /// The number of the newest head with an intent for it.
    seq: u64,
}

impl Expected {
    fn of(secret: &Secret) -> Self {
        let values = secret.versions.iter().map(text).collect();
        Self { values, enabled: secret.enabled, name: secret.name.to_string(), seq: 0 }
    }
}

impl Ledger {
    pub fn new(mut witness: Daemon, world: &World) -> Self {
        let pages = world.server.all_changes(witness.id(), witness.engine.cursor()).unwrap();
        witness.pulled(&pages).unwrap();
        let first: BTreeMap<_, _> =
            witness.engine.base().secrets().map(|secret| (secret.id, Arc::clone(secret))).collect();
        let (acknowledged, added) = (HashMap::new(), HashMap::new());
        let (settled, deletes) = (Vec::new(), Vec::new());
        Self { witness, last: first.clone(), first, acknowledged, settled, deletes, added }
    }

    /// Notes that an edit was acknowledged on this device.
    pub fn acknowledge(&mut self, device: &Daemon) {
        for intent in device.engine.pending() {
            self.acknowledged.entry(intent.id).or_insert_with(|| Arc::clone(intent));
        }
    }

    pub fn refer(&mut self, device: &mut Daemon, template: &str, name: &str) {
        device.refer(template, name);
        let seen = self.published(device);
        self.added.entry((device.id(), template.into(), name.into())).or_insert(seen);
    }

    /// Returns the newest head up to which a device has published its references, by what the server has.
    pub fn published(&self, device: &Daemon) -> u64 {
        self.witness.engine.base().references(device.id()).map_or(0, |references| references.seen)
    }

    pub fn unrefer(&mut self, device: &mut Daemon, template: &str) {
        device.templates.remove(template);
        self.added.retain(|(id, other, _), _| *id != device.id() || other != template);
    }

    /// Notes that a push of this device was accepted, possibly with a delete.
    pub fn witness(&mut self, server: &Server, by: DeviceId, delete: Option<SecretId>) {
        let pages = server.all_changes(self.witness.id(), self.witness.engine.cursor()).unwrap();
        self.witness.pulled(&pages).unwrap();
        let (head, _) = self.witness.engine.head().unwrap();
        let base = self.witness.engine.base();
        self.settled.extend(head.intents.iter().map(|intent| (head.seq, *intent)));
        self.last.extend(base.secrets().map(|secret| (secret.id, Arc::clone(secret))));
        self.last.extend(base.all_deleted().map(|(id, deleted)| (*id, Arc::clone(&deleted.secret))));
        let Some(id) = delete else { return };
        // The secret may live on, because a template of the device itself came to name it in the meantime.
        assert!(base.deleted(id).is_some() || base.secret(id).is_some(), "it is forgotten with its delete");
        if let Some(deleted) = base.deleted(id) {
            self.deletes.push((head.seq, id));
            for (device, references) in base.all_references().filter(|(device, _)| **device != by) {
                for name in names(&deleted.secret) {
                    assert!(
                        !references.may_reference(name),
                        "`{name}` was deleted while {device} was known to name it"
                    );
                }
            }
        }
    }

    /// Checks everything that has to be true at the end.
    pub fn audit(&self, world: &World) {
        let base = world.devices[0].engine.base();
        let order: HashSet<_> = self.settled.iter().map(|(_, intent)| *intent).collect();
        assert_eq!(order.len(), self.settled.len(), "an intent was applied twice");
        for intent in self.acknowledged.values() {
            assert!(order.contains(&intent.id), "{intent:?} was acknowledged and is nowhere");
        }
        let expected = self.expected();
        for (id, expected) in &expected {
            self.audit_secret(base, *id, expected);
        }
        assert!(base.secrets().all(|secret| expected.contains_key(&secret.id)), "a secret comes from nowhere");
        assert_eq!(base.all_deleted().count(), 0, "everybody has said what they reference since");
        for device in &world.devices {
            self.audit_references(base, device);
        }
    }

    /// Applies the intents in the order of their heads.
    fn expected(&self) -> BTreeMap<SecretId, Expected> {
        let mut expected: BTreeMap<_, _> = self.first.iter().map(|(id, secret)| (*id, Expected::of(secret))).collect();
        for (seq, intent) in &self.settled {
            // A delete is not an acknowledged edit.
            let Some(intent) = self.acknowledged.get(intent) else { continue };
            let entry: &mut Expected = expected.entry(intent.secret).or_default();
            entry.seq = *seq;
            match &intent.change {
                IntentChange::Create(secret) => *entry = Expected { seq: *seq, ..Expected::of(secret) },
                IntentChange::Value(version) => entry.values.push(text(version)),
                IntentChange::Rename(name) => entry.name = name.to_string(),
                IntentChange::Enable(enabled) => entry.enabled = *enabled,
                IntentChange::Forget(_) | IntentChange::Delete => {}
            }
        }
        expected
    }

    fn audit_secret(&self, base: &Replica, id: SecretId, expected: &Expected) {
        let last = &self.last[&id];
        let deleted = self.deletes.iter().filter(|(_, deleted)| *deleted == id).map(|(seq, _)| *seq).max();
        if base.secret(id).is_none() {
            let deleted = deleted.expect("what nobody deleted is there");
            assert!(deleted >= expected.seq, "`{}` was changed after it was deleted, and is not there", last.name);
        }
        let values: Vec<_> = last.versions.iter().map(text).collect();
        assert_eq!(values, expected.values, "`{}`: its values, in the order of their heads", last.name);
        let numbers: Vec<_> = last.versions.iter().map(|version| version.number as usize).collect();
        assert_eq!(numbers, (1..=values.len()).collect::<Vec<_>>(), "`{}`: its versions", last.name);
        assert_eq!(last.enabled, expected.enabled, "`{}`: enabled", last.name);
        let end = last.name.as_str().strip_prefix(expected.name.as_str());
        let is_number = |end: &str| end.chars().all(|c| c == '-' || c.is_ascii_digit());
        assert!(end.is_some_and(is_number), "`{}` was to be called `{}`", last.name, expected.name);
    }

    /// Checks that each reference to nothing was added after its device had learned of the delete and published that.
    fn audit_references(&self, base: &Replica, device: &Daemon) {
        for ((id, _, name), seen) in self.added.iter().filter(|((id, ..), _)| *id == device.id()) {
            let name: SecretName = name.parse().unwrap();
            assert!(
                base.references(*id).is_some_and(|references| references.may_reference(&name)),
                "`{name}` is published"
            );
            if base.find_by_name(&name).is_some() {
                continue;
            }
            for (seq, deleted) in &self.deletes {
                let is_it = names(&self.last[deleted]).any(|other| *other == name);
                assert!(!is_it || seq <= seen, "{} names `{name}`, and it is deleted", device.name);
            }
        }
    }
}
