//! The content of an account: secrets, deleted secrets that may come back, and the references of every device; and how
//! an intent changes it.
//!
//! A clone shares everything that is unchanged, so that the next state can be worked out beside the one in effect.
//! Knows no key, no head and no network.
//!
//! Invariants: no name is in use twice, as present or former name. A value that a user entered is always somewhere in
//! here: as the present value, as a former version, or in a secret under another name.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::references::References;
use crate::intent::{Intent, IntentChange};
use guillemet_base::names::{Millis, NAME_MAX, SecretId, SecretName};
use guillemet_secret::record::Secret;
use guillemet_wire::DeviceId;

type SharedMap<K, V> = imbl::GenericHashMap<K, V, foldhash::fast::RandomState, imbl::shared_ptr::DefaultSharedPtr>;

/// A deleted secret. It is kept until every device has reported that it does not reference it.
#[derive(Clone, Debug)]
pub struct Deleted {
    /// The number of the head that deleted the secret.
    pub seq: u64,
    /// The time of the delete.
    pub at: Millis,
    /// The device that deleted the secret.
    pub by: DeviceId,
    /// The secret as it was.
    pub secret: Arc<Secret>,
}

/// A message for the user.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Notice {
    /// The time at which it happened.
    pub at: Millis,
    /// What happened, and what to do about it.
    pub text: String,
}

/// The head that is being made: its device and number, which are recorded with a change.
#[derive(Clone, Copy, Debug)]
pub struct HeadAuthor {
    /// The device that makes the head.
    pub device: DeviceId,
    /// The number of the head.
    pub seq: u64,
    /// The number of former versions that are kept of a secret.
    pub former_versions: usize,
}

/// The content of an account, without its head; the head of this file describes it.
#[derive(Clone, Default)]
pub struct Replica {
    secrets: SharedMap<SecretId, Arc<Secret>>,
    deleted: SharedMap<SecretId, Arc<Deleted>>,
    /// By the key of the present name.
    names: SharedMap<Box<str>, SecretId>,
    /// By the key of each former name.
    former_names: SharedMap<Box<str>, SecretId>,
    references: SharedMap<DeviceId, Arc<References>>,
    /// The secrets that have changed since the last call of `take_touched`.
    touched: BTreeSet<SecretId>,
}

impl Replica {
    /// Returns the secret with this id.
    pub fn secret(&self, id: SecretId) -> Option<&Arc<Secret>> {
        self.secrets.get(&id)
    }

    /// Iterates over all secrets, in no particular order.
    pub fn secrets(&self) -> impl Iterator<Item = &Arc<Secret>> {
        self.secrets.values()
    }

    /// Returns the number of secrets.
    pub fn len(&self) -> usize {
        self.secrets.len()
    }

    /// Returns whether there are no secrets.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    /// Returns the secret that has this name, or had it formerly.
    pub fn find_by_name(&self, name: &SecretName) -> Option<&Arc<Secret>> {
        let key = name.key();
        let id = self.names.get(key.as_str()).or_else(|| self.former_names.get(key.as_str()))?;
        self.secrets.get(id)
    }

    /// Returns the deleted secret with this id.
    pub fn deleted(&self, id: SecretId) -> Option<&Arc<Deleted>> {
        self.deleted.get(&id)
    }

    /// Iterates over all deleted secrets.
    pub fn all_deleted(&self) -> impl Iterator<Item = (&SecretId, &Arc<Deleted>)> {
        self.deleted.iter()
    }

    /// Returns the references of a device as it last published them.
    pub fn references(&self, device: DeviceId) -> Option<&Arc<References>> {
        self.references.get(&device)
    }

    /// Iterates over the references of all devices.
    pub fn all_references(&self) -> impl Iterator<Item = (&DeviceId, &Arc<References>)> {
        self.references.iter()
    }

    /// Sets the references of a device; `None` removes them.
    pub fn set_references(&mut self, device: DeviceId, references: Option<Arc<References>>) {
        match references {
            Some(references) => self.references.insert(device, references),
            None => self.references.remove(&device),
        };
    }

    /// Copies the references of all devices from another state.
    pub fn take_references(&mut self, from: &Self) {
        self.references = from.references.clone();
    }

    /// Returns the ids of the secrets that were put or removed since the last call.
    pub fn take_touched(&mut self) -> BTreeSet<SecretId> {
        std::mem::take(&mut self.touched)
    }

    /// Marks a secret as touched.
    pub fn touch(&mut self, id: SecretId) {
        self.touched.insert(id);
    }

    /// Puts a secret in place of the one with its id, living or deleted.
    pub fn put(&mut self, secret: Arc<Secret>) {
        self.remove_entry(secret.id);
        self.deleted.remove(&secret.id);
        self.names.insert(secret.name.key().into(), secret.id);
        for former in &secret.former_names {
            self.former_names.insert(former.key().into(), secret.id);
        }
        self.secrets.insert(secret.id, secret);
    }

    /// Puts a deleted secret in place of the one with its id.
    pub fn put_deleted(&mut self, deleted: Arc<Deleted>) {
        let id = deleted.secret.id;
        self.remove_entry(id);
        self.deleted.insert(id, deleted);
    }

    /// Removes the secret with this id, living or deleted.
    pub fn remove(&mut self, id: SecretId) {
        self.remove_entry(id);
        self.deleted.remove(&id);
    }

    /// Replaces the allocation of a secret by another one with the same content, so that both states share it. Does not
    /// mark it as touched.
    pub fn share(&mut self, secret: &Arc<Secret>) {
        self.secrets.insert(secret.id, Arc::clone(secret));
    }

    fn remove_entry(&mut self, id: SecretId) {
        self.touched.insert(id);
        let Some(secret) = self.secrets.remove(&id) else { return };
        let mut forget = |names: fn(&mut Self) -> &mut SharedMap<Box<str>, SecretId>, name: &SecretName| {
            let (key, names) = (name.key(), names(self));
            if names.get(key.as_str()) == Some(&id) {
                names.remove(key.as_str());
            }
        };
        forget(|holdings| &mut holdings.names, &secret.name);
        for former in &secret.former_names {
            forget(|holdings| &mut holdings.former_names, former);
        }
    }

    /// Applies an intent to the present content. Returns a notice if the user should know about the result.
    pub fn apply(&mut self, intent: &Intent, author: HeadAuthor) -> Option<Notice> {
        let notice = |text| Some(Notice { at: intent.at, text });
        if let IntentChange::Create(secret) = &intent.change {
            return self.create(secret, author).and_then(notice);
        }
        if matches!(intent.change, IntentChange::Delete) {
            if let Some(secret) = self.secrets.get(&intent.secret).cloned() {
                let deleted = Deleted { seq: author.seq, at: intent.at, by: author.device, secret };
                self.put_deleted(Arc::new(deleted));
            }
            return None;
        }
        let mut message = None;
        if !self.secrets.contains_key(&intent.secret) {
            let name = self.revive(intent.secret, author)?;
            message = Some(format!(
                "`{name}` was deleted on one device and changed on another: it was kept, with the change"
            ));
        }
        let current = self.secrets.get(&intent.secret)?;
        if let IntentChange::Value(version) = &intent.change
            && current.versions.iter().any(|other| other.id == version.id)
        {
            // The value is already in the account, through a head that this device never saw because the server was
            // restored from a backup.
            return None;
        }
        let mut next = current.next(intent.at);
        match &intent.change {
            IntentChange::Value(version) => next.add_version(version.clone(), author.former_versions),
            IntentChange::Enable(enabled) => next.enabled = *enabled,
            // A template of another device still means this secret by that name.
            IntentChange::Forget(name) if self.is_referenced(name, author) => {}
            IntentChange::Forget(name) => next.forget_name(name),
            IntentChange::Rename(name) => {
                let free = self.reserve_name(name, next.id, author);
                if free.as_str() != name.as_str() {
                    message = Some(format!(
                        "`{}` could not be renamed to `{name}`, because another device uses that name: it is called \
                         `{free}`. Rename one of them, and check the templates that reference it",
                        next.name
                    ));
                }
                next.rename(free);
            }
            IntentChange::Create(_) | IntentChange::Delete => {}
        }
        self.put(Arc::new(next));
        message.and_then(notice)
    }

    /// Adds a new secret. Returns the text of a notice if it got another name.
    fn create(&mut self, secret: &Arc<Secret>, author: HeadAuthor) -> Option<String> {
        if self.secrets.contains_key(&secret.id) {
            return None;
        }
        // It was deleted elsewhere, and created again after the account was restored from a backup.
        self.deleted.remove(&secret.id);
        let free = self.insert(secret, author);
        (free.as_str() != secret.name.as_str()).then(|| {
            format!(
                "a new secret `{}` was created on two devices: this one is called `{free}`. Keep the right one, and \
                 check the templates that reference it",
                secret.name
            )
        })
    }

    /// Puts a secret that was not there, under another name if its own is taken. Former names that are taken stay with
    /// the secret that has them.
    fn insert(&mut self, secret: &Arc<Secret>, author: HeadAuthor) -> SecretName {
        let name = self.reserve_name(&secret.name, secret.id, author);
        let is_free = |former: &SecretName| self.find_by_name(former).is_none() && *former != name;
        if name.as_str() == secret.name.as_str() && secret.former_names.iter().all(is_free) {
            self.put(Arc::clone(secret));
            return name;
        }
        let former_names = secret.former_names.iter().filter(|former| is_free(former)).cloned().collect();
        self.put(Arc::new(Secret { name: name.clone(), former_names, ..(**secret).clone() }));
        name
    }

    /// Brings a deleted secret back. Returns its name, or `None` if it is not among the deleted ones.
    pub fn revive(&mut self, id: SecretId, author: HeadAuthor) -> Option<SecretName> {
        let deleted = self.deleted.remove(&id)?;
        Some(self.insert(&deleted.secret, author))
    }

    /// Returns a name for this secret: the wanted one, or the next free one. A former name of another secret counts as
    /// free if nothing references it, and is taken from that secret.
    fn reserve_name(&mut self, requested: &SecretName, id: SecretId, author: HeadAuthor) -> SecretName {
        let is_free = |name: &SecretName| self.find_by_name(name).is_none_or(|holder| holder.id == id);
        if is_free(requested) {
            return requested.clone();
        }
        let key = requested.key();
        if !self.names.contains_key(key.as_str())
            && !self.is_referenced(requested, author)
            && let Some(holder) = self.former_names.get(key.as_str()).and_then(|id| self.secrets.get(id)).cloned()
        {
            let mut next = (*holder).clone();
            next.forget_name(requested);
            self.put(Arc::new(next));
            return requested.clone();
        }
        let numbered = |number: u32| -> Option<SecretName> {
            let end = format!("-{number}");
            let max_len = NAME_MAX - end.len();
            let text = requested.as_str();
            format!("{}{end}", &text[..text.len().min(max_len)]).parse().ok()
        };
        // There are fewer secrets than numbers.
        (2..).filter_map(numbered).find(is_free).unwrap_or_else(|| {
            debug_assert!(false, "{author:?}: no number is free");
            requested.clone()
        })
    }

    /// Returns whether another device references this name. The maker has already checked its own templates.
    fn is_referenced(&self, name: &SecretName, author: HeadAuthor) -> bool {
        self.references.iter().any(|(device, references)| *device != author.device && references.may_reference(name))
    }

    /// Returns the deleted secrets that these references mean: those whose name no other secret has now. Oldest delete
    /// first.
    pub fn referenced_deleted(&self, references: &References) -> Vec<SecretId> {
        if self.deleted.is_empty() {
            return Vec::new();
        }
        let mut deleted: Vec<_> = self.deleted.iter().collect();
        deleted.sort_unstable_by_key(|(id, deleted)| (deleted.seq, **id));
        let names = |deleted: &Deleted| {
            std::iter::once(&deleted.secret.name)
                .chain(&deleted.secret.former_names)
                .any(|name| references.references(name) && self.find_by_name(name).is_none())
        };
        deleted.into_iter().filter(|(_, deleted)| names(deleted)).map(|(id, _)| *id).collect()
    }
}

/// Returns whether two forms of a secret have the same content, apart from the revision.
pub fn is_same(a: &Secret, b: &Secret) -> bool {
    let exact =
        |a: &[SecretName], b: &[SecretName]| a.iter().map(SecretName::as_str).eq(b.iter().map(SecretName::as_str));
    let version = |secret: &Secret| secret.versions.iter().map(|v| (v.number, v.id, v.created_at)).collect::<Vec<_>>();
    (a.id, a.enabled, a.created_at, a.updated_at) == (b.id, b.enabled, b.created_at, b.updated_at)
        && a.name.as_str() == b.name.as_str()
        && exact(&a.former_names, &b.former_names)
        && version(a) == version(b)
}
