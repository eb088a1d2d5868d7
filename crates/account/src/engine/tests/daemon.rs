//! A device in a test: an engine, what a daemon keeps on disk next to it, and templates.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::*;
use crate::intent::Intent;
use guillemet_base::names::{Millis, SecretId, SecretName};
use guillemet_base::sys::memory::Clear;
use guillemet_secret::record::Secret;
use guillemet_wire::{ChangesPage, ObjectId, Sealed};

/// More versions than any test makes, so that nothing is pruned.
pub const KEEP: usize = 1000;

/// The state that survives a crash. Every method of `Daemon` that changes it is one transaction.
#[derive(Clone, Default)]
pub struct Disk {
    memory: Vec<u8>,
    records: BTreeMap<ObjectId, (RecordLeaf, Sealed)>,
    secrets: BTreeMap<SecretId, Secret>,
    intents: Vec<(IntentId, Vec<u8>)>,
    pub notices: Vec<String>,
}

pub struct Daemon {
    pub name: String,
    pub engine: Engine,
    pub disk: Disk,
    /// The names in each template.
    pub templates: BTreeMap<String, BTreeSet<String>>,
    /// Files that cannot be parsed.
    pub broken: BTreeMap<String, String>,
    /// Files that cannot be read at all.
    pub unknown: Vec<String>,
}

/// The device's inventory refuses a name.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken;

/// Returns a value as text.
pub fn text(version: &guillemet_secret::record::Version) -> String {
    let mut out = Clear::new();
    version.value.open_into(&mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

/// Everything about a secret that devices have to agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub name: String,
    pub former: Vec<String>,
    pub enabled: bool,
    pub values: Vec<(u32, String)>,
    pub updated_at: Millis,
}

impl Shown {
    pub fn of(secret: &Secret) -> Self {
        Self {
            name: secret.name.to_string(),
            former: secret.former_names.iter().map(ToString::to_string).collect(),
            enabled: secret.enabled,
            values: secret.versions.iter().map(|version| (version.number, text(version))).collect(),
            updated_at: secret.updated_at,
        }
    }
}

/// The memory, the view, the account, and the pending intents.
pub type Everything = (Vec<u8>, BTreeMap<SecretId, Shown>, BTreeMap<SecretId, Shown>, Vec<IntentId>);

pub fn shown<'a>(secrets: impl Iterator<Item = &'a Arc<Secret>>) -> BTreeMap<SecretId, Shown> {
    secrets.map(|secret| (secret.id, Shown::of(secret))).collect()
}

impl Daemon {
    pub fn new(name: &str, engine: Engine) -> Self {
        let (templates, broken) = (BTreeMap::new(), BTreeMap::new());
        let mut new = Self { name: name.into(), engine, disk: Disk::default(), templates, broken, unknown: Vec::new() };
        new.remember();
        new
    }

    pub fn id(&self) -> DeviceId {
        self.engine.me().device
    }

    fn remember(&mut self) {
        self.disk.memory = serde_json::to_vec(&self.engine.to_stored()).unwrap();
    }

    /// Writes an update to disk.
    pub fn commit(&mut self, update: Update) {
        let disk = &mut self.disk;
        for secret in update.put {
            let before = disk.secrets.insert(secret.id, (*secret).clone());
            assert!(before.is_none_or(|before| before.revision < secret.revision), "a revision has to rise");
        }
        for secret in update.removed {
            assert!(disk.secrets.remove(&secret.id).is_some(), "only what is there is removed");
        }
        for (id, written) in update.records {
            match written {
                Some(record) => disk.records.insert(id, record),
                None => disk.records.remove(&id),
            };
        }
        disk.intents.retain(|(id, _)| !update.settled.contains(id));
        disk.notices.extend(update.notices.into_iter().map(|notice| notice.text));
        self.remember();
        self.check();
    }

    /// Checks that the served state is the one on disk.
    pub fn check(&self) {
        assert_eq!(self.engine.view().secrets().count(), self.disk.secrets.len(), "{}: the vault", self.name);
        for secret in self.engine.view().secrets() {
            let stored = self.disk.secrets.get(&secret.id).unwrap();
            assert!(is_same(secret, stored) && secret.revision == stored.revision, "{}: `{}`", self.name, secret.name);
        }
        let stored: Vec<_> = self.disk.intents.iter().map(|(id, _)| *id).collect();
        let pending: Vec<_> = self.engine.pending().map(|intent| intent.id).collect();
        assert_eq!(stored, pending, "{}: what is pending and what is kept", self.name);
        assert_unique(self.engine.view());
        assert_unique(self.engine.base());
    }

    /// Ends the daemon as `kill -9` does, and starts it again.
    pub fn crash(&mut self) {
        let memory: StoredEngine = serde_json::from_slice(&self.disk.memory).unwrap();
        let records = self.disk.records.iter().map(|(id, (leaf, sealed))| (*id, *leaf, sealed.clone())).collect();
        let secrets: Vec<_> = self.disk.secrets.values().cloned().map(Arc::new).collect();
        let intents = self.disk.intents.iter().map(|(_, bytes)| Intent::decode(bytes).unwrap()).collect();
        let (engine, update) = Engine::load(memory, records, &secrets, intents, KEEP).unwrap();
        self.engine = engine;
        self.commit(update);
    }

    /// Returns the same machine a second time.
    pub fn cloned(&self) -> Self {
        let me = self.engine.me();
        let mut secret = *me.secret.expose();
        let me =
            DeviceIdentity { account: me.account, device: me.device, secret: DeviceSecret::from_bytes(&mut secret) };
        let mut clone = Self {
            name: format!("{}, cloned", self.name),
            engine: Engine::create(me, KEEP),
            disk: self.disk.clone(),
            templates: self.templates.clone(),
            broken: self.broken.clone(),
            unknown: self.unknown.clone(),
        };
        clone.crash();
        clone
    }

    /// Returns the references of its templates now.
    pub fn references(&self) -> References {
        let named = |(template, names): (&String, &BTreeSet<String>)| {
            let place = |(line, name): (usize, &String)| DeviceReference {
                template: template.clone(),
                line: line as u32 + 1,
                column: 1,
                name: name.clone(),
            };
            names.iter().enumerate().map(place).collect::<Vec<_>>()
        };
        References {
            device: self.id(),
            seen: 0,
            references: self.templates.iter().flat_map(named).collect(),
            texts: self.broken.iter().map(|(template, text)| Words::of(template, text)).collect(),
            unknown: self.unknown.clone(),
        }
    }

    pub fn refer(&mut self, template: &str, name: &str) {
        self.templates.entry(template.into()).or_default().insert(name.into());
    }

    /// Returns the secret with this name.
    pub fn find(&self, name: &str) -> Option<&Arc<Secret>> {
        self.engine.view().find_by_name(&name.parse().unwrap())
    }

    pub fn id_of(&self, name: &str) -> SecretId {
        self.find(name).unwrap_or_else(|| panic!("{}: `{name}` is not there", self.name)).id
    }

    /// Returns all values of a secret, the present one last.
    pub fn values(&self, name: &str) -> Vec<String> {
        self.find(name).map_or_else(Vec::new, |secret| secret.versions.iter().map(text).collect())
    }

    /// Writes an edit to disk, and acknowledges it.
    fn edit(&mut self, before: Option<&Secret>, after: Secret) {
        let after = Arc::new(after);
        let intents = Intent::between(before, &after);
        self.disk.secrets.insert(after.id, (*after).clone());
        self.disk.intents.extend(intents.iter().map(|intent| (intent.id, intent.encode().to_vec())));
        self.engine.record_edit(after, intents);
        self.check();
    }

    /// Adds a secret that was there before the device was in an account.
    pub fn bring(&mut self, secret: Secret) {
        self.edit(None, secret);
    }

    /// Claims a name as the inventory does: a name in use is refused, a former one that nothing here references is
    /// taken.
    fn claim(&mut self, name: &SecretName, to: Option<SecretId>, now: Millis) -> Result<(), Taken> {
        let Some(holder) = self.engine.view().find_by_name(name).filter(|holder| Some(holder.id) != to).cloned() else {
            return Ok(());
        };
        if holder.name == *name || self.references().may_reference(name) {
            return Err(Taken);
        }
        let mut robbed = holder.next(now);
        robbed.forget_name(name);
        self.edit(Some(&holder), robbed);
        Ok(())
    }

    pub fn create(&mut self, name: &str, value: &str, now: Millis) -> Result<SecretId, Taken> {
        let name = name.parse().unwrap();
        self.claim(&name, None, now)?;
        let secret = Secret::new(name, value, true, now).unwrap();
        let id = secret.id;
        self.edit(None, secret);
        Ok(id)
    }

    pub fn change(&mut self, id: SecretId, now: Millis, change: impl FnOnce(&mut Secret)) {
        let before = Arc::clone(self.engine.view().secret(id).unwrap());
        let mut after = before.next(now);
        change(&mut after);
        self.edit(Some(&before), after);
    }

    pub fn set_value(&mut self, name: &str, value: &str, now: Millis) {
        self.change(self.id_of(name), now, |secret| secret.set_value(value, KEEP, now).unwrap());
    }

    pub fn rename(&mut self, name: &str, to: &str, now: Millis) -> Result<(), Taken> {
        let (id, to) = (self.id_of(name), to.parse().unwrap());
        self.claim(&to, Some(id), now)?;
        self.change(id, now, |secret| secret.rename(to));
        Ok(())
    }

    pub fn enable(&mut self, name: &str, enabled: bool, now: Millis) {
        self.change(self.id_of(name), now, |secret| secret.enabled = enabled);
    }

    /// Prepares a push, and records on disk that it is about to be sent.
    pub fn prepare(&mut self, proposal: &Proposal, now: Millis) -> Result<Option<PreparedPush>, PushError> {
        let candidate = self.engine.prepare(proposal, &self.references(), now)?;
        if let Some(candidate) = &candidate {
            self.engine.record_sent(candidate);
            self.remember();
        }
        Ok(candidate)
    }

    pub fn accepted(&mut self, candidate: PreparedPush) {
        let update = self.engine.commit_push(candidate);
        self.commit(update);
    }

    pub fn pulled(&mut self, pages: &[ChangesPage]) -> Result<(), PullError> {
        let update = self.engine.apply_pull(pages)?;
        self.commit(update);
        Ok(())
    }

    pub fn adopt(&mut self, newest: HeadRef, pages: &[ChangesPage]) -> Result<(), PullError> {
        let update = self.engine.adopt(newest, pages)?;
        self.disk.intents = self.engine.pending().map(|intent| (intent.id, intent.encode().to_vec())).collect();
        self.commit(update);
        Ok(())
    }

    pub fn is_due(&self) -> bool {
        self.engine.is_due(&self.references())
    }

    /// Returns everything that a refusal must not change.
    pub fn state(&self) -> Everything {
        let memory = serde_json::to_vec(&self.engine.to_stored()).unwrap();
        let (view, base) = (shown(self.engine.view().secrets()), shown(self.engine.base().secrets()));
        (memory, view, base, self.engine.pending().map(|intent| intent.id).collect())
    }

    pub fn boxes(&self) -> HashMap<ObjectId, Sealed> {
        self.disk.records.iter().map(|(id, (_, sealed))| (*id, sealed.clone())).collect()
    }
}

/// Checks that no name is in use twice, as present or former name.
pub fn assert_unique(holdings: &Replica) {
    let mut names = BTreeSet::new();
    for secret in holdings.secrets() {
        for name in std::iter::once(&secret.name).chain(&secret.former_names) {
            assert!(names.insert(name.key()), "`{name}` is in use twice");
            assert_eq!(holdings.find_by_name(name).map(|holder| holder.id), Some(secret.id), "`{name}` is found");
        }
    }
}
