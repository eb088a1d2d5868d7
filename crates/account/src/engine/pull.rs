//! What a device accepts from the server: every head since its last one, each linked to the one before, and exactly the
//! records that the root of the newest head covers. All of it or nothing.

use std::collections::HashSet;

use super::head::{Head, PullError};
use super::object::Object;
use super::reconcile::reconcile;
use super::state::Replica;
use super::*;
use crate::seal::{BoxKind, NO_ID, open_wrap};
use guillemet_wire::{ChangedRecord, ChangesPage, EpochLink, SealedHead, SealedRecord, Wrap};

const GOES_BACK: &str = "a record has an older revision";

/// The state of a walk over the offered heads.
struct HeadWalk {
    head: Head,
    hash: Hash,
    keys: BTreeMap<u64, Arc<EpochKey>>,
    intents: HashSet<IntentId>,
    /// The head that the walk has to begin with, if it does not begin at the known one.
    anchor: Option<HeadRef>,
    /// The oldest epoch in which a changed record may be sealed.
    oldest: u64,
    /// All heads that are offered. The head at which a key was wrapped has to be among them.
    offered: HashSet<(u64, Hash)>,
    /// The device that made each head, by the head's `seq`.
    authors: HashMap<u64, Author>,
    devices: Vec<DeviceChange>,
}

/// An answer that is verified completely and not applied yet.
struct Verified {
    walk: HeadWalk,
    base: Replica,
    records: Vec<RecordWrite>,
    authors: HashMap<SecretId, Author>,
    /// Whether the known state is discarded.
    is_full: bool,
}

impl Engine {
    /// Applies the answer of the server to a pull from [`Self::cursor`]: all its pages. No push may have been accepted
    /// in the meantime.
    ///
    /// # Errors
    /// [`PullError`] for the reason; nothing has been applied.
    pub fn apply_pull(&mut self, pages: &[ChangesPage]) -> Result<Update, PullError> {
        let verified = self.verify(pages, self.anchor)?;
        Ok(verified.map_or_else(Update::default, |verified| self.commit(verified)))
    }

    /// Replaces the state by the server's, after another device has repaired the account and a person has compared the
    /// words. Whatever this device knew and the account no longer has becomes pending again, as if it had just been
    /// entered, before everything that was pending already.
    ///
    /// # Errors
    /// [`PullError`] for the reason; nothing has been applied.
    pub fn adopt(&mut self, newest: HeadRef, pages: &[ChangesPage]) -> Result<Update, PullError> {
        let Some(verified) = self.verify(pages, Some(newest))? else { return Ok(Update::default()) };
        let mut pending: VecDeque<_> = reconcile(&self.base, &verified.base).into();
        pending.append(&mut self.pending);
        self.pending = pending;
        Ok(self.commit(verified))
    }

    /// Verifies an answer. Returns `None` if it brings nothing new. `anchor` is the head that it has to begin with, for
    /// a device that does not continue from what it knows.
    fn verify(&self, pages: &[ChangesPage], anchor: Option<HeadRef>) -> Result<Option<Verified>, PullError> {
        let newest = pages.iter().rev().find_map(|page| page.newest);
        let newest = newest.unwrap_or(HeadRef { seq: 0, hash: Hash::default() });
        let known = anchor.map_or(self.head.seq, |anchor| anchor.seq);
        if newest.seq < known {
            return Err(PullError::Rollback { known, offered: newest.seq });
        }
        if newest.seq == known && anchor.is_none() {
            let is_same = newest.hash == self.hash;
            return if is_same { Ok(None) } else { Err(PullError::Fork { seq: known }) };
        }
        let walk = self.walk(pages, anchor)?;
        if (walk.head.seq, walk.hash) != (newest.seq, newest.hash) {
            return Err(PullError::Tampered("some of its heads are missing"));
        }
        let is_full = anchor.is_some();
        let (base, records) = self.records(pages, &walk, is_full)?;
        let leaves = leaves(&records);
        let root = if is_full { RecordTree::new().with(&leaves) } else { self.tree.with(&leaves) };
        if root != walk.head.root {
            return Err(PullError::Tampered("its records do not match its head"));
        }
        let author =
            |changed: &ChangedRecord| Some((SecretId(changed.record.id.0), walk.authors.get(&changed.seq)?.clone()));
        let authors = pages.iter().flat_map(|page| &page.records).filter_map(author).collect();
        Ok(Some(Verified { walk, base, records, authors, is_full }))
    }

    /// Makes a verified answer the state in effect. Nothing in it can fail.
    fn commit(&mut self, verified: Verified) -> Update {
        let Verified { walk, base, records, authors, is_full } = verified;
        if is_full {
            self.tree = RecordTree::new();
        }
        for (id, leaf) in leaves(&records) {
            self.tree.set(id, leaf);
        }
        self.keys = walk.keys;
        self.set_head(walk.head, walk.hash);
        let update = self.replace_base(base, &walk.intents);
        Update { records, authors, devices: walk.devices, advanced: true, ..update }
    }

    fn walk(&self, pages: &[ChangesPage], anchor: Option<HeadRef>) -> Result<HeadWalk, PullError> {
        let seq = anchor.map_or(self.head.seq, |anchor| Self::cursor_of(anchor).heads_after);
        let heads = || pages.iter().flat_map(|page| &page.heads);
        let mut walk = HeadWalk {
            head: Head { seq, ..self.head.clone() },
            hash: self.hash,
            keys: self.keys.clone(),
            intents: HashSet::new(),
            anchor,
            // In a device's first sync, records can be sealed in any epoch so far.
            oldest: if anchor.is_some() { 0 } else { self.head.epoch },
            offered: heads().map(|head| (head.seq, head.hash(self.me.account))).collect(),
            authors: HashMap::new(),
            devices: Vec::new(),
        };
        let wraps: Vec<&Wrap> = pages.iter().flat_map(|page| &page.wraps).collect();
        for sealed in heads() {
            self.step(&mut walk, sealed, &wraps)?;
        }
        if let Some(page) = pages.last()
            && anchor.is_some()
        {
            self.open_links(&mut walk.keys, &page.links);
        }
        Ok(walk)
    }

    /// Verifies the next head of the walk.
    fn step(&self, walk: &mut HeadWalk, sealed: &SealedHead, wraps: &[&Wrap]) -> Result<(), PullError> {
        let hash = sealed.hash(self.me.account);
        let known = walk.head.seq;
        if sealed.seq <= known {
            return Err(PullError::Rollback { known, offered: sealed.seq });
        }
        let anchor = walk.anchor.take();
        match anchor {
            Some(anchor) if (sealed.seq, hash) == (anchor.seq, anchor.hash) => {}
            Some(_) => return Err(PullError::Fork { seq: sealed.seq }),
            // A repair may leave out a number. The link to the known head is what counts.
            None if sealed.prev == walk.hash => {}
            None if sealed.seq > known + 1 => return Err(PullError::ContinuityLost { known, offered: sealed.seq }),
            None => return Err(PullError::Fork { seq: sealed.seq }),
        }
        let epoch = walk.head.epoch;
        if sealed.epoch < epoch {
            return Err(PullError::OldEpoch);
        }
        if sealed.epoch > epoch {
            let key = self.new_epoch(walk, sealed, anchor.is_some(), wraps)?;
            walk.keys.insert(sealed.epoch, Arc::new(key));
        }
        let key = walk.keys.get(&sealed.epoch).ok_or(PullError::Tampered("the key of its epoch is missing"))?;
        let plaintext = key.open(BoxKind::Head, self.me.account, NO_ID, sealed.seq, &sealed.sealed);
        let plaintext = plaintext.map_err(|_| PullError::Tampered("a head cannot be decrypted"))?;
        let head: Head =
            serde_json::from_slice(&plaintext).map_err(|_| PullError::Tampered("a head cannot be read"))?;
        if (head.seq, head.epoch, head.prev) != (sealed.seq, sealed.epoch, sealed.prev) {
            return Err(PullError::Tampered("a head does not match its description"));
        }
        let is_followed = anchor.is_none() && walk.head.by != DeviceId::default();
        if is_followed && walk.head.device(head.by).is_none() {
            return Err(PullError::Tampered("a head does not come from a device of the account"));
        }
        if head.device(self.me.device).is_none() {
            return Err(PullError::Revoked);
        }
        // A head that a person has confirmed may be one that this device made long ago.
        let is_ours = anchor.is_some() || self.sent.iter().any(|sent| (sent.seq, sent.hash) == (head.seq, hash));
        if head.by == self.me.device && !is_ours {
            return Err(PullError::Cloned);
        }
        walk.intents.extend(&head.intents);
        walk.authors.insert(head.seq, head.author(&walk.head));
        if is_followed {
            walk.devices.extend(head.device_changes(&walk.head));
        }
        (walk.head, walk.hash) = (head, hash);
        Ok(())
    }

    /// Returns the key of the next epoch, from the newest wrap for this device. The wrap was made at the first head of
    /// that epoch, or at a later one of those that are offered. If a person has confirmed the head, the key may have
    /// been wrapped before it, and epochs may have passed.
    fn new_epoch(
        &self,
        walk: &HeadWalk,
        sealed: &SealedHead,
        is_confirmed: bool,
        wraps: &[&Wrap],
    ) -> Result<EpochKey, PullError> {
        let own_wrap = wraps.iter().rev().find(|wrap| wrap.epoch == sealed.epoch && wrap.device == self.me.device);
        // Without a wrap, this device has been left out of the new epoch.
        let wrap = own_wrap.ok_or(PullError::Revoked)?;
        let sender = walk
            .head
            .device(wrap.sender)
            .ok_or(PullError::Tampered("a key does not come from a device of the account"))?;
        let unwrapped = open_wrap(self.me.account, (self.me.device, &self.me.secret), &sender.key, wrap);
        let (key, pinned) = unwrapped.map_err(|_| PullError::Tampered("the key of its epoch cannot be decrypted"))?;
        let is_next = key.epoch() == walk.head.epoch + 1 && pinned.seq >= sealed.seq;
        let is_there = walk.offered.contains(&(pinned.seq, pinned.hash));
        if is_confirmed || (is_next && is_there) {
            return Ok(key);
        }
        Err(PullError::Tampered("the key of its epoch belongs to another head"))
    }

    /// Opens the keys of former epochs, from the newest down, as far as possible.
    fn open_links(&self, keys: &mut BTreeMap<u64, Arc<EpochKey>>, links: &[EpochLink]) {
        for link in links.iter().rev() {
            if let Some(key) = keys.get(&link.epoch).cloned()
                && !keys.contains_key(&(link.epoch - 1))
                && let Ok(previous) = key.open_link(self.me.account, link)
            {
                keys.insert(previous.epoch(), Arc::new(previous));
            }
        }
    }

    /// Returns the content of the account with these records, and the records that changed. With `is_full`, starts from
    /// nothing instead of the known content.
    fn records(
        &self,
        pages: &[ChangesPage],
        walk: &HeadWalk,
        is_full: bool,
    ) -> Result<(Replica, Vec<RecordWrite>), PullError> {
        let mut base = if is_full { Replica::default() } else { self.base.clone() };
        let mut changed = Vec::new();
        for (id, record) in newest_forms(pages)? {
            let existing = self.tree.get(&id).filter(|_| !is_full).copied();
            let Some(sealed) = &record.sealed else {
                if existing.is_some() {
                    base.remove(SecretId(id.0));
                    changed.push((id, None));
                }
                continue;
            };
            let leaf = RecordLeaf::of(record.revision, record.epoch, sealed);
            if existing == Some(leaf) {
                continue;
            }
            if existing.is_some_and(|existing| existing.revision >= record.revision) {
                return Err(PullError::Tampered(GOES_BACK));
            }
            if record.epoch < walk.oldest {
                return Err(PullError::OldEpoch);
            }
            let key =
                walk.keys.get(&record.epoch).ok_or(PullError::Tampered("the key of a record's epoch is missing"))?;
            let plaintext = key.open(BoxKind::Record, self.me.account, id.0, record.revision, sealed);
            let plaintext = plaintext.map_err(|_| PullError::Tampered("a record cannot be decrypted"))?;
            let object = Object::decode(&plaintext).map_err(|_| PullError::Tampered("a record cannot be read"))?;
            insert_object(&mut base, &walk.head, id, object)?;
            changed.push((id, Some((leaf, sealed.clone()))));
        }
        if is_full {
            // A record that was known and is not in the answer no longer exists.
            let present: HashSet<_> = changed.iter().map(|(id, _)| *id).collect();
            changed.extend(self.tree.iter().filter(|(id, _)| !present.contains(id)).map(|(id, _)| (*id, None)));
            for secret in self.base.secrets() {
                base.touch(secret.id);
            }
        }
        let devices: Vec<_> = base.all_references().map(|(device, _)| *device).collect();
        for device in devices.into_iter().filter(|device| walk.head.device(*device).is_none()) {
            base.set_references(device, None);
        }
        Ok((base, changed))
    }
}

/// Returns the leaves of these records, as the root covers them.
pub(super) fn leaves(records: &[RecordWrite]) -> Vec<(ObjectId, Option<RecordLeaf>)> {
    records.iter().map(|(id, written)| (*id, written.as_ref().map(|(leaf, _)| *leaf))).collect()
}

/// Returns the last form of every record. Other devices may push between the pages, so a record can occur twice.
fn newest_forms(pages: &[ChangesPage]) -> Result<BTreeMap<ObjectId, &SealedRecord>, PullError> {
    let mut forms: BTreeMap<ObjectId, &SealedRecord> = BTreeMap::new();
    for ChangedRecord { record, .. } in pages.iter().flat_map(|page| &page.records) {
        let before = forms.insert(record.id, record);
        if before.is_some_and(|before| before.revision > record.revision && record.sealed.is_some()) {
            return Err(PullError::Tampered(GOES_BACK));
        }
    }
    Ok(forms)
}

/// Puts an object into the content. What the object says about its id has to match the id of its record.
pub(super) fn insert_object(base: &mut Replica, head: &Head, id: ObjectId, object: Object) -> Result<(), PullError> {
    let is_own = |secret: &Secret| secret.id.0 == id.0;
    match object {
        Object::Secret(secret) if is_own(&secret) => base.put(secret),
        Object::Deleted(deleted) if is_own(&deleted.secret) => base.put_deleted(deleted),
        Object::References(references)
            if head.device(references.device).is_some_and(|device| device.references == id) =>
        {
            base.set_references(references.device, Some(references));
        }
        _ => return Err(PullError::Tampered("a record does not match its description")),
    }
    Ok(())
}
