//! What an account holds: secrets, deleted secrets that may come back, and what every device references; and
//! what an intent makes of it.
//!
//! A copy shares everything that is not changed, so that a state can be worked out beside the one in force.
//! Knows no key, no head and nothing of the network.
//!
//! Invariants: no name is in use twice, as present or former one. What somebody typed is in here, or in a
//! former version, or under another name; never nowhere.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::references::References;
use crate::account::intent::{Change, Intent};
use crate::account::wire::DeviceId;
use crate::names::{Millis, NAME_MAX, SecretId, SecretName};
use crate::vault::record::Secret;

type Map<K, V> = imbl::GenericHashMap<K, V, foldhash::fast::RandomState, imbl::shared_ptr::DefaultSharedPtr>;

/// A secret that was deleted and is kept until every device has said that it does not reference it.
#[derive(Clone, Debug)]
pub struct Deleted {
    /// By which head.
    pub seq: u64,
    /// When.
    pub at: Millis,
    /// By which device.
    pub by: DeviceId,
    /// As it was.
    pub secret: Arc<Secret>,
}

/// Something a person should know.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Notice {
    /// When it happened.
    pub at: Millis,
    /// What, and what to do.
    pub text: String,
}

/// Who makes a head, and which: for what is written down with a change.
#[derive(Clone, Copy, Debug)]
pub struct Maker {
    /// The device.
    pub device: DeviceId,
    /// The head's number.
    pub seq: u64,
    /// How many former versions are kept.
    pub keep: usize,
}

/// See the module.
#[derive(Clone, Default)]
pub struct Holdings {
    secrets: Map<SecretId, Arc<Secret>>,
    deleted: Map<SecretId, Arc<Deleted>>,
    /// By the key of the present name.
    names: Map<Box<str>, SecretId>,
    /// By the key of each former name.
    former: Map<Box<str>, SecretId>,
    references: Map<DeviceId, Arc<References>>,
    /// What has changed since somebody last asked.
    touched: BTreeSet<SecretId>,
}

impl Holdings {
    /// A secret by its id.
    pub fn secret(&self, id: SecretId) -> Option<&Arc<Secret>> {
        self.secrets.get(&id)
    }

    /// Every secret.
    pub fn secrets(&self) -> impl Iterator<Item = &Arc<Secret>> {
        self.secrets.values()
    }

    /// How many secrets there are.
    pub fn len(&self) -> usize {
        self.secrets.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    /// The secret that has this name, or had it.
    pub fn named(&self, name: &SecretName) -> Option<&Arc<Secret>> {
        let key = name.key();
        let id = self.names.get(key.as_str()).or_else(|| self.former.get(key.as_str()))?;
        self.secrets.get(id)
    }

    /// A deleted one by its id.
    pub fn deleted(&self, id: SecretId) -> Option<&Arc<Deleted>> {
        self.deleted.get(&id)
    }

    /// Every deleted one.
    pub fn all_deleted(&self) -> impl Iterator<Item = (&SecretId, &Arc<Deleted>)> {
        self.deleted.iter()
    }

    /// What a device references, as it last said.
    pub fn references(&self, device: DeviceId) -> Option<&Arc<References>> {
        self.references.get(&device)
    }

    /// What every device references.
    pub fn all_references(&self) -> impl Iterator<Item = (&DeviceId, &Arc<References>)> {
        self.references.iter()
    }

    /// What a device references from now on; nothing where it is gone.
    pub fn set_references(&mut self, device: DeviceId, references: Option<Arc<References>>) {
        match references {
            Some(references) => self.references.insert(device, references),
            None => self.references.remove(&device),
        };
    }

    /// Takes over what every device references in another state.
    pub fn take_references(&mut self, from: &Self) {
        self.references = from.references.clone();
    }

    /// The secrets that were put or taken since this was last asked.
    pub fn take_touched(&mut self) -> BTreeSet<SecretId> {
        std::mem::take(&mut self.touched)
    }

    /// Counts a secret as touched.
    pub fn touch(&mut self, id: SecretId) {
        self.touched.insert(id);
    }

    /// Puts a secret in place of what has its id, living or deleted.
    pub fn put(&mut self, secret: Arc<Secret>) {
        self.take(secret.id);
        self.deleted.remove(&secret.id);
        self.names.insert(secret.name.key().into(), secret.id);
        for former in &secret.former_names {
            self.former.insert(former.key().into(), secret.id);
        }
        self.secrets.insert(secret.id, secret);
    }

    /// Puts a deleted one in place of what has its id.
    pub fn bury(&mut self, deleted: Arc<Deleted>) {
        let id = deleted.secret.id;
        self.take(id);
        self.deleted.insert(id, deleted);
    }

    /// Takes what has this id away, living or deleted.
    pub fn remove(&mut self, id: SecretId) {
        self.take(id);
        self.deleted.remove(&id);
    }

    /// Puts another object in the place of the same secret: nothing of it differs.
    pub fn share(&mut self, secret: &Arc<Secret>) {
        self.secrets.insert(secret.id, Arc::clone(secret));
    }

    fn take(&mut self, id: SecretId) {
        self.touched.insert(id);
        let Some(secret) = self.secrets.remove(&id) else { return };
        let mut forget = |names: fn(&mut Self) -> &mut Map<Box<str>, SecretId>, name: &SecretName| {
            let (key, names) = (name.key(), names(self));
            if names.get(key.as_str()) == Some(&id) {
                names.remove(key.as_str());
            }
        };
        forget(|holdings| &mut holdings.names, &secret.name);
        for former in &secret.former_names {
            forget(|holdings| &mut holdings.former, former);
        }
    }

    /// Applies what somebody wanted to what there is now, and says what a person should know of it.
    pub fn apply(&mut self, intent: &Intent, maker: Maker) -> Option<Notice> {
        let notice = |text| Some(Notice { at: intent.at, text });
        if let Change::Create(secret) = &intent.change {
            return self.create(secret, maker).and_then(notice);
        }
        if matches!(intent.change, Change::Delete) {
            if let Some(secret) = self.secrets.get(&intent.secret).cloned() {
                let deleted = Deleted { seq: maker.seq, at: intent.at, by: maker.device, secret };
                self.bury(Arc::new(deleted));
            }
            return None;
        }
        let mut told = None;
        if !self.secrets.contains_key(&intent.secret) {
            let name = self.revive(intent.secret, maker)?;
            told = Some(format!(
                "`{name}` was deleted on one device and changed on another: it is there, as it was changed"
            ));
        }
        let known = self.secrets.get(&intent.secret)?;
        if let Change::Value(version) = &intent.change
            && known.versions.iter().any(|known| known.id == version.id)
        {
            // It is in the account: by a head that this device never saw, for its server was set back.
            return None;
        }
        let mut next = known.next(intent.at);
        match &intent.change {
            Change::Value(version) => next.add_version(version.clone(), maker.keep),
            Change::Enable(enabled) => next.enabled = *enabled,
            // A template of another device still means this secret by it.
            Change::Forget(name) if self.is_referenced(name, maker) => {}
            Change::Forget(name) => next.forget_name(name),
            Change::Rename(name) => {
                let free = self.claim(name, next.id, maker);
                if free.as_str() != name.as_str() {
                    told = Some(format!(
                        "`{}` was to be called `{name}`, which was taken on another device: it is called `{free}`. Rename one of them, and look at the templates that mean it",
                        next.name
                    ));
                }
                next.rename(free);
            }
            Change::Create(_) | Change::Delete => {}
        }
        self.put(Arc::new(next));
        told.and_then(notice)
    }

    /// A new secret; what is said of it.
    fn create(&mut self, secret: &Arc<Secret>, maker: Maker) -> Option<String> {
        if self.secrets.contains_key(&secret.id) {
            return None;
        }
        // Deleted elsewhere, and typed anew where the account was set back.
        self.deleted.remove(&secret.id);
        let free = self.enter(secret, maker);
        (free.as_str() != secret.name.as_str()).then(|| {
            format!(
                "a new secret `{}` was made on two devices: this one is called `{free}`. Keep the one that is right, and look at the templates that mean it",
                secret.name
            )
        })
    }

    /// Puts a secret that was not there, under another name where its own is taken. Former names that are taken
    /// stay with who has them.
    fn enter(&mut self, secret: &Arc<Secret>, maker: Maker) -> SecretName {
        let name = self.claim(&secret.name, secret.id, maker);
        let is_free = |former: &SecretName| self.named(former).is_none() && *former != name;
        if name.as_str() == secret.name.as_str() && secret.former_names.iter().all(is_free) {
            self.put(Arc::clone(secret));
            return name;
        }
        let former_names = secret.former_names.iter().filter(|former| is_free(former)).cloned().collect();
        self.put(Arc::new(Secret { name: name.clone(), former_names, ..(**secret).clone() }));
        name
    }

    /// Brings a deleted secret back.
    pub fn revive(&mut self, id: SecretId, maker: Maker) -> Option<SecretName> {
        let deleted = self.deleted.remove(&id)?;
        Some(self.enter(&deleted.secret, maker))
    }

    /// A name for this secret: the one that is wanted, or the next that is free. A former name of another
    /// that nothing references is free, and taken from it.
    fn claim(&mut self, wanted: &SecretName, id: SecretId, maker: Maker) -> SecretName {
        let is_free = |name: &SecretName| self.named(name).is_none_or(|holder| holder.id == id);
        if is_free(wanted) {
            return wanted.clone();
        }
        let key = wanted.key();
        if !self.names.contains_key(key.as_str())
            && !self.is_referenced(wanted, maker)
            && let Some(holder) = self.former.get(key.as_str()).and_then(|id| self.secrets.get(id)).cloned()
        {
            let mut robbed = (*holder).clone();
            robbed.forget_name(wanted);
            self.put(Arc::new(robbed));
            return wanted.clone();
        }
        let numbered = |number: u32| -> Option<SecretName> {
            let end = format!("-{number}");
            let room = NAME_MAX - end.len();
            let text = wanted.as_str();
            format!("{}{end}", &text[..text.len().min(room)]).parse().ok()
        };
        // There are fewer secrets than numbers.
        (2..).filter_map(numbered).find(is_free).unwrap_or_else(|| {
            debug_assert!(false, "{maker:?}: no number is free");
            wanted.clone()
        })
    }

    /// Whether another device references this name: what the maker's own templates name, it has seen to itself.
    fn is_referenced(&self, name: &SecretName, maker: Maker) -> bool {
        self.references.iter().any(|(device, references)| *device != maker.device && references.names(name))
    }

    /// The deleted secrets that these references mean: those whose name no other has now.
    pub fn meant(&self, references: &References) -> Vec<SecretId> {
        if self.deleted.is_empty() {
            return Vec::new();
        }
        let mut deleted: Vec<_> = self.deleted.iter().collect();
        deleted.sort_unstable_by_key(|(id, deleted)| (deleted.seq, **id));
        let names = |deleted: &Deleted| {
            std::iter::once(&deleted.secret.name)
                .chain(&deleted.secret.former_names)
                .any(|name| references.means(name) && self.named(name).is_none())
        };
        deleted.into_iter().filter(|(_, deleted)| names(deleted)).map(|(id, _)| *id).collect()
    }
}

/// Whether two forms of a secret say the same.
pub fn is_same(a: &Secret, b: &Secret) -> bool {
    let exact =
        |a: &[SecretName], b: &[SecretName]| a.iter().map(SecretName::as_str).eq(b.iter().map(SecretName::as_str));
    let version = |of: &Secret| of.versions.iter().map(|v| (v.number, v.id, v.created_at)).collect::<Vec<_>>();
    (a.id, a.enabled, a.created_at, a.updated_at) == (b.id, b.enabled, b.created_at, b.updated_at)
        && a.name.as_str() == b.name.as_str()
        && exact(&a.former_names, &b.former_names)
        && version(a) == version(b)
}
