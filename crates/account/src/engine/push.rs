//! What a device pushes: a new head over the pending intents, and over what the caller wants to change in the account.
//!
//! A candidate is worked out beside the state in effect, and becomes the state when the server has accepted it.

use super::object::Object;
use super::pull::leaves;
use super::*;
use crate::intent::IntentChange;
use crate::seal::{BoxKind, NO_ID};
use guillemet_base::names::Millis;
use guillemet_base::random::random;
use guillemet_secret::crypto;
use guillemet_wire::{DeviceKey, PublicKey, Push, RECORDS_MAX, SealedHead, SealedRecord, Wrap};

/// The approximate limit for the boxes of one push, in bytes.
const BYTES_MAX: usize = 6 << 20;
/// The limit for the boxes of a repair, in bytes. As base64, they fit into the body of a request.
const REPAIR_MAX: usize = 11 << 20;
/// The number of records that a change can touch: a secret, and another one that had its name.
const TOUCHED: usize = 2;

/// A change of the account itself, in addition to the pending intents.
pub enum Proposal {
    /// No change beyond the pending intents.
    Edits,
    /// A new head even if nothing has changed, so that an account without changes does not look like one that is
    /// withheld.
    Beat,
    /// The first head, with this device in it.
    Found {
        /// The name of this device.
        name: String,
    },
    /// Deletes a secret, if nobody references it.
    Delete(SecretId),
    /// Admits a device to the account.
    Admit {
        /// The id of the device.
        id: DeviceId,
        /// The public key of the device.
        key: PublicKey,
        /// The name of the device.
        name: String,
        /// Whether the device is a recovery code.
        is_recovery: bool,
        /// The API key of the device; `None` if the server has it already.
        api_key: Option<DeviceKey>,
    },
    /// Removes a device, and begins a new epoch.
    Revoke(DeviceId),
    /// Removes this device from the account.
    Leave,
    /// Publishes this device's state again, after the server was restored from a backup.
    Repair {
        /// The newest head that the server has.
        onto: HeadRef,
        /// The records that the server has.
        stored: HashMap<ObjectId, RecordLeaf>,
        /// The boxes that this device has.
        boxes: HashMap<ObjectId, Sealed>,
    },
}

/// A place on another device that blocks a delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// The device with the template.
    pub device: DeviceId,
    /// The name of that device.
    pub device_name: String,
    /// The id of the template, or the path of a file or folder that cannot be read.
    pub template: String,
    /// The line and column, counted from 1; `None` if they are not known.
    pub position: Option<(u32, u32)>,
    /// The name as it is spelled there; `None` if it is not known what the file names.
    pub name: Option<String>,
    /// Whether the file certainly references the secret.
    pub certain: bool,
}

/// The reasons why a push cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// Other devices reference the secret. Holds the places.
    #[error("other devices in the account reference it")]
    Referenced(Vec<Blocked>),
    /// The secret is not in the account.
    #[error("the secret is no longer in the account")]
    NoSecret,
    /// This device has more to push than one push can hold.
    #[error("changes from this device have not reached the account yet; try again in a moment")]
    Behind,
    /// The device is not in the account.
    #[error("there is no such device in the account; run `guillemet account devices` to list them")]
    NoDevice,
    /// A public key is of low order, and so protects nothing.
    #[error(transparent)]
    WeakKey(#[from] crypto::WeakKey),
    /// The repair does not fit into one push.
    #[error(
        "the account and the server differ in too many records to repair at once; restore the server from a newer \
         backup"
    )]
    TooLarge,
    /// A part of it cannot be written as JSON.
    #[error("the change cannot be written for the account: {0}; report this as a bug")]
    Unserializable(#[from] serde_json::Error),
}

/// A push that is not sealed yet.
struct Draft {
    /// On which head it is made.
    onto: HeadRef,
    /// The number of the head it makes.
    seq: u64,
    /// What the account holds then.
    next: Replica,
    /// The devices of the account then.
    devices: Vec<Device>,
    /// The intents it carries.
    intents: Vec<IntentId>,
    /// What a person is told once it is accepted.
    notices: Vec<(IntentId, Notice)>,
    /// The key of the new epoch, where it begins one.
    epoch_key: Option<Arc<EpochKey>>,
}

/// The space that is left in a push.
struct PushBudget {
    records: usize,
    bytes: usize,
}

impl PushBudget {
    /// Returns the space of an empty push. Keeps room for a deleted secret, and for the references of this device and
    /// of one that leaves.
    fn of_push() -> Self {
        Self { records: RECORDS_MAX - 4, bytes: BYTES_MAX }
    }

    /// Reserves space for a change of this secret. Returns whether it fits; the first change always does.
    fn reserve(&mut self, secret: Option<&Secret>) -> bool {
        let bytes = secret.map_or(512, |secret| secret.versions.iter().map(|version| version.value.len() + 512).sum());
        let fits = self.bytes == BYTES_MAX || (self.records >= TOUCHED && self.bytes >= bytes);
        if fits {
            self.records = self.records.saturating_sub(TOUCHED);
            self.bytes = self.bytes.saturating_sub(bytes);
        }
        fits
    }
}

/// A push, and the state that it leads to.
pub struct PreparedPush {
    /// The request body that is sent.
    pub push: Push,
    /// The head on which the push is made.
    pub onto: HeadRef,
    /// The head that the push creates.
    pub newest: HeadRef,
    head: Head,
    base: Replica,
    records: Vec<RecordWrite>,
    notices: Vec<(IntentId, Notice)>,
    key: Option<Arc<EpochKey>>,
}

impl Engine {
    /// Returns the places on other devices that block the delete of a secret.
    pub fn delete_blockers(&self, secret: &Secret) -> Vec<Blocked> {
        let names: Vec<_> = std::iter::once(&secret.name).chain(&secret.former_names).collect();
        let mut blocked = Vec::new();
        for (device, references) in self.base.all_references().filter(|(device, _)| **device != self.me.device) {
            let by = |template: &str| Blocked {
                device: *device,
                device_name: self.head.name_of(*device),
                template: template.to_owned(),
                position: None,
                name: None,
                certain: false,
            };
            for reference in
                references.references.iter().filter(|reference| names.iter().any(|name| reference.matches(name)))
            {
                let (position, name) = (Some((reference.line, reference.column)), Some(reference.name.clone()));
                blocked.push(Blocked { position, name, certain: true, ..by(&reference.template) });
            }
            for text in &references.texts {
                for name in names.iter().filter(|name| text.may_contain(name)) {
                    blocked.push(Blocked { name: Some(name.to_string()), ..by(&text.template) });
                }
            }
            blocked.extend(references.unknown.iter().map(|unknown| by(unknown)));
        }
        blocked
            .sort_by(|a, b| (&a.device_name, &a.template, a.position).cmp(&(&b.device_name, &b.template, b.position)));
        blocked
    }

    /// Returns whether there is anything to push without a wish: pending intents, or references that are not published.
    pub fn is_due(&self, local: &References) -> bool {
        self.head().is_some() && (!self.pending.is_empty() || self.has_new_references(local))
    }

    /// Returns whether these references have to be published: they have changed, or something was deleted since they
    /// were published.
    fn has_new_references(&self, local: &References) -> bool {
        let Some(published) = self.base.references(self.me.device) else { return true };
        !published.is_same(local) || self.base.all_deleted().any(|(_, deleted)| deleted.seq > published.seen)
    }

    /// Works a push out. `local` is what the templates of this device name now. Returns `None` where there is nothing
    /// to push.
    ///
    /// # Errors
    /// [`PushError`] for the reason. The state does not change in any case.
    pub fn prepare(
        &self,
        proposal: &Proposal,
        local: &References,
        now: Millis,
    ) -> Result<Option<PreparedPush>, PushError> {
        let mut draft = self.draft(proposal, local, now)?;
        let key = draft.epoch_key.clone().or_else(|| self.keys.get(&self.head.epoch).cloned());
        // The key of the head in force is there as long as the engine is.
        let key = key.ok_or(PushError::NoDevice)?;
        let records = self.seal_changed(&mut draft.next, &draft.devices, &key)?;
        if records.is_empty() && draft.intents.is_empty() && matches!(proposal, Proposal::Edits) {
            return Ok(None);
        }
        let Draft { onto, seq, next, devices, intents, notices, epoch_key } = draft;
        let head = Head {
            seq,
            epoch: key.epoch(),
            prev: self.hash,
            root: self.tree.with(&leaves(&records)),
            made_at: now.max(self.head.made_at),
            by: self.me.device,
            devices,
            intents,
        };
        let (push, newest, records) = self.seal_push(proposal, &head, records, &key)?;
        Ok(Some(PreparedPush { push, onto, newest, head, base: next, records, notices, key: epoch_key }))
    }

    /// Works out what the account becomes: with what is pending, with what is wanted, and with the references of this
    /// device.
    fn draft(&self, proposal: &Proposal, local: &References, now: Millis) -> Result<Draft, PushError> {
        let onto = match proposal {
            Proposal::Repair { onto, .. } => *onto,
            _ => HeadRef { seq: self.head.seq, hash: self.hash },
        };
        let seq = self.head.seq.max(onto.seq) + 1;
        let author = HeadAuthor { device: self.me.device, seq, former_versions: self.former_versions };
        let (mut next, mut notices, mut room) = (self.base.clone(), Vec::new(), PushBudget::of_push());
        let intents = self.apply_intents(&mut next, author, &mut room, &mut notices);
        let is_all = intents.len() == self.pending.len();
        if !is_all && matches!(proposal, Proposal::Delete(_) | Proposal::Leave) {
            // The intents that are left over would bring the secret back, or never arrive.
            return Err(PushError::Behind);
        }
        let devices = self.head.devices.clone();
        let mut draft = Draft { onto, seq, next, devices, intents, notices, epoch_key: None };
        self.apply_proposal(proposal, &mut draft, author, now)?;
        if !matches!(proposal, Proposal::Leave) && is_all && self.has_new_references(local) {
            self.publish_references(&mut draft.next, local, author, &mut room);
        }
        forget_deleted(&mut draft.next, &draft.devices, room.records);
        Ok(draft)
    }

    /// Adds what is wanted beside what is pending to a draft.
    fn apply_proposal(
        &self,
        proposal: &Proposal,
        draft: &mut Draft,
        author: HeadAuthor,
        now: Millis,
    ) -> Result<(), PushError> {
        let Draft { next, devices, intents, .. } = draft;
        match proposal {
            Proposal::Edits | Proposal::Beat | Proposal::Repair { .. } => {}
            Proposal::Found { name } => {
                let public = PublicKey(self.me.secret.public());
                devices.push(device(self.me.device, public, name, now, false));
            }
            Proposal::Delete(id) => {
                let secret = next.secret(*id).ok_or(PushError::NoSecret)?;
                let blocked = self.delete_blockers(secret);
                if !blocked.is_empty() {
                    return Err(PushError::Referenced(blocked));
                }
                let intent = Intent::new(*id, now, IntentChange::Delete);
                next.apply(&intent, author);
                intents.push(intent.id);
            }
            Proposal::Admit { id, key, name, is_recovery, .. } => {
                // A device that is already in the account asks again because the answer was lost.
                if self.head.device(*id).is_none() {
                    devices.push(device(*id, *key, name, now, *is_recovery));
                }
            }
            Proposal::Revoke(id) => {
                self.head.device(*id).ok_or(PushError::NoDevice)?;
                devices.retain(|device| device.id != *id);
                next.set_references(*id, None);
                draft.epoch_key = Some(Arc::new(EpochKey::random(self.head.epoch + 1)));
            }
            Proposal::Leave => {
                devices.retain(|device| device.id != self.me.device);
                next.set_references(self.me.device, None);
            }
        }
        Ok(())
    }

    /// Seals a head and its records, with the keys that devices need for it. Returns what is sent, the head it makes,
    /// and the records in it: for a repair, everything that the server does not have.
    fn seal_push(
        &self,
        proposal: &Proposal,
        head: &Head,
        mut records: Vec<RecordWrite>,
        key: &EpochKey,
    ) -> Result<(Push, HeadRef, Vec<RecordWrite>), PushError> {
        let plain = serde_json::to_vec(head)?;
        let sealed = key.seal(BoxKind::Head, self.me.account, NO_ID, head.seq, &plain);
        let sealed = SealedHead { seq: head.seq, epoch: head.epoch, prev: head.prev, sealed };
        let newest = HeadRef { seq: head.seq, hash: sealed.hash(self.me.account) };
        let mut push = Push { head: sealed, ..empty_push() };
        let mut on_server = None;
        if let Proposal::Repair { stored, boxes, .. } = proposal {
            records = self.differing_from(stored, boxes, records)?;
            on_server = Some(stored);
        }
        let existing = |id| self.tree.get(id).or_else(|| on_server?.get(id)).copied();
        push.records = records.iter().map(|(id, written)| record(*id, written.as_ref(), existing(id))).collect();
        self.add_keys(&mut push, proposal, head, newest, key)?;
        Ok((push, newest, records))
    }

    /// Publishes the references of this device, and brings back the deleted secrets that they mean. If that does not
    /// fit into one push, a later one publishes them.
    fn publish_references(&self, next: &mut Replica, local: &References, author: HeadAuthor, room: &mut PushBudget) {
        for id in next.referenced_deleted(local) {
            if !room.reserve(next.deleted(id).map(|deleted| &*deleted.secret)) {
                return;
            }
            next.revive(id, author);
        }
        // `seen` is the head before this one: templates may come to name what this push deletes while it is on its way.
        let published = References { device: self.me.device, seen: self.head.seq, ..local.clone() };
        next.set_references(self.me.device, Some(Arc::new(published)));
    }

    /// Applies as many pending intents as fit into one push. Returns their ids.
    fn apply_intents(
        &self,
        next: &mut Replica,
        author: HeadAuthor,
        room: &mut PushBudget,
        notices: &mut Vec<(IntentId, Notice)>,
    ) -> Vec<IntentId> {
        let mut intents = Vec::new();
        for intent in &self.pending {
            let changed = match &intent.change {
                IntentChange::Create(secret) => Some(secret),
                _ => next.secret(intent.secret),
            };
            if !room.reserve(changed.map(|secret| &**secret)) {
                break;
            }
            notices.extend(next.apply(intent, author).map(|notice| (intent.id, notice)));
            intents.push(intent.id);
        }
        intents
    }

    /// The boxes of what differs from the account.
    fn seal_changed(
        &self,
        next: &mut Replica,
        devices: &[Device],
        key: &EpochKey,
    ) -> Result<Vec<RecordWrite>, serde_json::Error> {
        let mut records = Vec::new();
        let mut seal = |id: ObjectId, object: Option<Object>| {
            let existing = self.tree.get(&id);
            let Some(object) = object else {
                if existing.is_some() {
                    records.push((id, None));
                }
                return Ok(());
            };
            let revision = existing.map_or(1, |existing| existing.revision + 1);
            let sealed = key.seal(BoxKind::Record, self.me.account, id.0, revision, &object.encode()?);
            records.push((id, Some((RecordLeaf::of(revision, key.epoch(), &sealed), sealed))));
            Ok::<_, serde_json::Error>(())
        };
        let touched = next.take_touched();
        for id in &touched {
            next.touch(*id);
            let object = match (next.secret(*id), next.deleted(*id)) {
                (Some(now), _) if self.base.secret(*id).is_some_and(|before| is_same(before, now)) => continue,
                (Some(now), _) => Some(Object::Secret(Arc::clone(now))),
                (None, Some(now)) if self.base.deleted(*id).is_some_and(|before| Arc::ptr_eq(before, now)) => continue,
                (None, Some(now)) => Some(Object::Deleted(Arc::clone(now))),
                (None, None) => None,
            };
            seal(ObjectId(id.0), object)?;
        }
        for removed in self.head.devices.iter().filter(|removed| devices.iter().all(|device| device.id != removed.id)) {
            seal(removed.references, None)?;
        }
        let published = next.references(self.me.device);
        let before = self.base.references(self.me.device);
        if let Some(published) = published
            && before.is_none_or(|before| !Arc::ptr_eq(before, published))
            && let Some(me) = devices.iter().find(|device| device.id == self.me.device)
        {
            seal(me.references, Some(Object::References(Arc::clone(published))))?;
        }
        Ok(records)
    }

    /// Returns the records of the whole state that the server does not have, or has in another form.
    fn differing_from(
        &self,
        stored: &HashMap<ObjectId, RecordLeaf>,
        boxes: &HashMap<ObjectId, Sealed>,
        records: Vec<RecordWrite>,
    ) -> Result<Vec<RecordWrite>, PushError> {
        let mut written: HashMap<_, _> = records.into_iter().collect();
        for (id, leaf) in self.tree.iter().filter(|(id, leaf)| stored.get(*id) != Some(*leaf)) {
            if let Some(sealed) = boxes.get(id) {
                written.entry(*id).or_insert_with(|| Some((*leaf, sealed.clone())));
            }
        }
        for id in stored.keys().filter(|id| self.tree.get(id).is_none()) {
            written.entry(*id).or_insert(None);
        }
        let bytes: usize = written.values().flatten().map(|(_, sealed)| sealed.0.len() + 200).sum();
        if written.len() > RECORDS_MAX || bytes > REPAIR_MAX {
            return Err(PushError::TooLarge);
        }
        Ok(written.into_iter().collect())
    }

    /// Adds keys to a push: the epoch's key for devices that do not have it yet, and the API keys of devices that join
    /// or leave.
    fn add_keys(
        &self,
        push: &mut Push,
        proposal: &Proposal,
        head: &Head,
        newest: HeadRef,
        key: &EpochKey,
    ) -> Result<(), PushError> {
        let wrap = |device: &Device| -> Result<Wrap, crypto::WeakKey> {
            key.wrap_for(self.me.account, (self.me.device, &self.me.secret), (device.id, device.key), newest)
        };
        match proposal {
            Proposal::Admit { id, api_key, .. } => {
                if let Some(device) = head.device(*id) {
                    push.wraps.push(wrap(device)?);
                }
                match api_key {
                    Some(api_key) => push.keys.push(api_key.clone()),
                    None => push.admitted.push(*id),
                }
            }
            Proposal::Revoke(id) => push.revoked.push(*id),
            Proposal::Leave => push.revoked.push(self.me.device),
            _ => {}
        }
        if head.epoch > self.head.epoch || matches!(proposal, Proposal::Repair { .. }) {
            // This device gets a wrap too: the answer may be lost, and the new key with it. After a repair, the server
            // may not know the newest epoch at all.
            push.wraps = head.devices.iter().map(wrap).collect::<Result<_, _>>()?;
            push.link = self.keys.get(&(head.epoch - 1)).map(|previous| key.link(self.me.account, previous));
        }
        Ok(())
    }

    /// Makes the state of an accepted push the one in effect. Does nothing if a pull has already brought that head.
    pub fn commit_push(&mut self, candidate: PreparedPush) -> Update {
        if candidate.head.prev != self.hash {
            return Update::default();
        }
        for (id, leaf) in leaves(&candidate.records) {
            self.tree.set(id, leaf);
        }
        let mut notices: Vec<_> =
            candidate.notices.into_iter().filter_map(|(intent, notice)| self.unseen_notice(intent, notice)).collect();
        let pushed = candidate.head.intents.clone();
        let devices = candidate.head.device_changes(&self.head);
        self.set_head(candidate.head, candidate.newest.hash);
        let update = match candidate.key {
            None => self.settle_pushed(candidate.base, &pushed),
            // The references of a removed device no longer hold any name, so more can change than what was pushed.
            Some(key) => {
                self.keys.insert(key.epoch(), key);
                self.replace_base(candidate.base, &pushed.into_iter().collect())
            }
        };
        notices.extend(update.notices);
        Update { records: candidate.records, notices, devices, advanced: true, ..update }
    }
}

fn device(id: DeviceId, key: PublicKey, name: &str, now: Millis, is_recovery: bool) -> Device {
    Device { id, key, name: name.to_owned(), joined_at: now, paper: is_recovery, references: ObjectId(random()) }
}

/// Forgets deleted secrets once every device has published, since the delete, that it does not mean them. Forgets
/// `limit` at most.
fn forget_deleted(next: &mut Replica, devices: &[Device], limit: usize) {
    let seen = |device: &Device| next.references(device.id).map_or(0, |references| references.seen);
    let seen = devices.iter().filter(|device| !device.paper).map(seen).min().unwrap_or(0);
    let expired = next.all_deleted().filter(|(_, deleted)| deleted.seq <= seen).map(|(id, _)| *id);
    let expired: Vec<_> = expired.take(limit).collect();
    for id in expired {
        next.remove(id);
    }
}

fn record(id: ObjectId, written: Option<&(RecordLeaf, Sealed)>, existing: Option<RecordLeaf>) -> SealedRecord {
    match written {
        Some((leaf, sealed)) => {
            SealedRecord { id, revision: leaf.revision, epoch: leaf.epoch, sealed: Some(sealed.clone()) }
        }
        None => {
            let revision = existing.map_or(1, |existing| existing.revision + 1);
            SealedRecord { id, revision, epoch: existing.map_or(1, |existing| existing.epoch), sealed: None }
        }
    }
}

fn empty_push() -> Push {
    Push {
        head: SealedHead { seq: 0, epoch: 0, prev: Hash::default(), sealed: Sealed::default() },
        records: Vec::new(),
        wraps: Vec::new(),
        link: None,
        keys: Vec::new(),
        admitted: Vec::new(),
        revoked: Vec::new(),
    }
}
