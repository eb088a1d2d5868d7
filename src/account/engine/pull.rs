//! What a device accepts of a server: every head since its last, each linked to the one before, and exactly
//! the records that the newest one's root says. All of it or nothing.

use std::collections::HashSet;

use super::head::{Head, Refusal};
use super::holdings::Holdings;
use super::object::Object;
use super::*;
use crate::account::intent::Change;
use crate::account::seal::{Kind, NO_ID, open_wrap};
use crate::account::wire::{ChangedRecord, Changes, Link, SealedHead, Wrap};

/// What a walk over the heads has come to.
struct Walk {
    head: Head,
    hash: Hash,
    keys: BTreeMap<u64, Arc<EpochKey>>,
    intents: HashSet<IntentId>,
    anchor: Option<Newest>,
    /// The oldest epoch in which a changed record may be sealed.
    oldest: u64,
}

impl Engine {
    /// Takes the answer of a server, all its pages.
    ///
    /// # Errors
    /// `Refusal`: nothing has been applied.
    pub fn pulled(&mut self, pages: &[Changes]) -> Result<Update, Refusal> {
        let newest = pages.iter().rev().find_map(|page| page.newest);
        let newest = newest.unwrap_or(Newest { seq: 0, hash: Hash::default() });
        let known = self.cursor().heads_after;
        if newest.seq < known || (newest.seq == known && self.anchor.is_some()) {
            return Err(Refusal::Rollback { known, offered: newest.seq });
        }
        if newest.seq == known {
            let is_same = newest.hash == self.hash;
            return if is_same { Ok(Update::default()) } else { Err(Refusal::Fork { seq: known }) };
        }
        let walk = self.walk(pages)?;
        if (walk.head.seq, walk.hash) != (newest.seq, newest.hash) {
            return Err(Refusal::Tampered("heads that it names are missing"));
        }
        let (base, records) = self.records(pages, &walk)?;
        let leaves: Vec<_> = records.iter().map(|(id, record)| (*id, record.as_ref().map(|(leaf, _)| *leaf))).collect();
        let root = if self.anchor.is_some() { Tree::new().with(&leaves) } else { self.tree.with(&leaves) };
        if root != walk.head.root {
            return Err(Refusal::Tampered("its records are not those of its head"));
        }
        // From here on nothing fails.
        if self.anchor.is_some() {
            self.tree = Tree::new();
        }
        for (id, leaf) in leaves {
            self.tree.set(id, leaf);
        }
        self.keys = walk.keys;
        self.arrive(walk.head, walk.hash);
        let mut update = self.settle(base, &walk.intents);
        update.records = records;
        update.advanced = true;
        Ok(update)
    }

    /// Goes over to the state the server has, whose words a person has compared: after a repair by another device.
    /// What this device knew and the account does not have any more is pending afterwards, as if it had just been typed.
    ///
    /// # Errors
    /// As `pulled`.
    pub fn adopt(&mut self, newest: Newest, pages: &[Changes]) -> Result<(Update, Vec<Arc<Intent>>), Refusal> {
        let before = self.base.clone();
        self.anchor = Some(newest);
        let adopted = self.pulled(pages);
        self.anchor = None;
        let mut update = adopted?;
        let rescued = rescue(&before, &self.base);
        if !rescued.is_empty() {
            self.pending.extend(rescued.iter().cloned());
            let base = self.base.clone();
            let again = self.settle(base, &HashSet::new());
            update.put.extend(again.put);
            update.notices.extend(again.notices);
        }
        Ok((update, rescued))
    }

    fn walk(&self, pages: &[Changes]) -> Result<Walk, Refusal> {
        let mut walk = Walk {
            head: Head { seq: self.cursor().heads_after, ..self.head.clone() },
            hash: self.hash,
            keys: self.keys.clone(),
            intents: HashSet::new(),
            anchor: self.anchor,
            oldest: self.head.epoch,
        };
        if let Some(links) = pages.first().map(|page| &page.links)
            && walk.anchor.is_some()
        {
            // Records of a device's first sync can be sealed in any epoch there was.
            walk.oldest = 0;
            self.open_links(&mut walk.keys, links);
        }
        let wraps: Vec<&Wrap> = pages.iter().flat_map(|page| &page.wraps).collect();
        for sealed in pages.iter().flat_map(|page| &page.heads) {
            self.step(&mut walk, sealed, &wraps)?;
        }
        Ok(walk)
    }

    /// From one head to the next.
    fn step(&self, walk: &mut Walk, sealed: &SealedHead, wraps: &[&Wrap]) -> Result<(), Refusal> {
        let hash = sealed.hash(self.me.account);
        let known = walk.head.seq;
        if sealed.seq <= known {
            return Err(Refusal::Rollback { known, offered: sealed.seq });
        }
        match walk.anchor.take() {
            Some(anchor) if (sealed.seq, hash) == (anchor.seq, anchor.hash) => {}
            Some(_) => return Err(Refusal::Fork { seq: sealed.seq }),
            // After a repair a number may be left out; what counts is that it follows the head that is known.
            None if sealed.prev == walk.hash => {}
            None if sealed.seq > known + 1 => return Err(Refusal::ContinuityLost { known, offered: sealed.seq }),
            None => return Err(Refusal::Fork { seq: sealed.seq }),
        }
        let epoch = walk.head.epoch;
        if sealed.epoch < epoch {
            return Err(Refusal::OldEpoch);
        }
        if sealed.epoch > epoch {
            let key = self.new_epoch(walk, sealed, hash, wraps)?;
            walk.keys.insert(sealed.epoch, Arc::new(key));
        }
        let key = walk.keys.get(&sealed.epoch).ok_or(Refusal::Tampered("the key of its epoch is missing"))?;
        let opened = key.open(Kind::Head, self.me.account, NO_ID, sealed.seq, &sealed.sealed);
        let opened = opened.map_err(|_| Refusal::Tampered("a head does not open"))?;
        let head: Head = serde_json::from_slice(&opened).map_err(|_| Refusal::Tampered("a head cannot be read"))?;
        if (head.seq, head.epoch, head.prev) != (sealed.seq, sealed.epoch, sealed.prev) {
            return Err(Refusal::Tampered("a head is not what it says it is"));
        }
        if head.device(self.me.device).is_none() {
            return Err(Refusal::Revoked);
        }
        let is_ours = self.sent.iter().any(|sent| (sent.seq, sent.hash) == (head.seq, hash));
        if head.by == self.me.device && !is_ours {
            return Err(Refusal::Cloned);
        }
        walk.intents.extend(&head.intents);
        (walk.head, walk.hash) = (head, hash);
        Ok(())
    }

    /// The key of the next epoch, from the wrap for this device that came with its first head.
    fn new_epoch(&self, walk: &Walk, sealed: &SealedHead, hash: Hash, wraps: &[&Wrap]) -> Result<EpochKey, Refusal> {
        let mine = wraps.iter().find(|wrap| wrap.epoch == sealed.epoch && wrap.device == self.me.device);
        // Without one, this device has been left out of the new epoch.
        let wrap = mine.ok_or(Refusal::Revoked)?;
        let sender =
            walk.head.device(wrap.sender).ok_or(Refusal::Tampered("a key comes from no device of the account"))?;
        let opened = open_wrap(self.me.account, (self.me.device, &self.me.secret), &sender.key, wrap);
        let (key, pinned) = opened.map_err(|_| Refusal::Tampered("the key of its epoch does not open"))?;
        if (pinned.seq, pinned.hash) != (sealed.seq, hash) || key.epoch() != walk.head.epoch + 1 {
            return Err(Refusal::Tampered("the key of its epoch belongs to another head"));
        }
        Ok(key)
    }

    /// The keys of former epochs, from the newest down, as far as they open.
    fn open_links(&self, keys: &mut BTreeMap<u64, Arc<EpochKey>>, links: &[Link]) {
        for link in links.iter().rev() {
            if let Some(key) = keys.get(&link.epoch).cloned()
                && !keys.contains_key(&(link.epoch - 1))
                && let Ok(former) = key.open_link(self.me.account, link)
            {
                keys.insert(former.epoch(), Arc::new(former));
            }
        }
    }

    /// What the account holds with these records, and the records that are new.
    fn records(&self, pages: &[Changes], walk: &Walk) -> Result<(Holdings, Vec<Written>), Refusal> {
        let anew = self.anchor.is_some();
        let mut base = if anew { Holdings::default() } else { self.base.clone() };
        let mut found: HashMap<ObjectId, Option<(Leaf, Sealed)>> = HashMap::new();
        for ChangedRecord { record, .. } in pages.iter().flat_map(|page| &page.records) {
            let known = match found.get(&record.id) {
                Some(found) => found.as_ref().map(|(leaf, _)| *leaf),
                None if anew => None,
                None => self.tree.get(&record.id).copied(),
            };
            let Some(sealed) = &record.sealed else {
                if known.is_some() {
                    base.remove(SecretId(record.id.0));
                    found.insert(record.id, None);
                }
                continue;
            };
            let leaf = Leaf::of(record.revision, record.epoch, sealed);
            if known == Some(leaf) {
                continue;
            }
            if known.is_some_and(|known| known.revision >= record.revision) {
                return Err(Refusal::Tampered("a record goes back"));
            }
            if record.epoch < walk.oldest || record.epoch > walk.head.epoch {
                return Err(Refusal::OldEpoch);
            }
            let key =
                walk.keys.get(&record.epoch).ok_or(Refusal::Tampered("the key of a record's epoch is missing"))?;
            let opened = key.open(Kind::Record, self.me.account, record.id.0, record.revision, sealed);
            let opened = opened.map_err(|_| Refusal::Tampered("a record does not open"))?;
            let object = Object::decode(&opened).map_err(|_| Refusal::Tampered("a record cannot be read"))?;
            place(&mut base, &walk.head, record.id, object)?;
            found.insert(record.id, Some((leaf, sealed.clone())));
        }
        if anew {
            // What was known and is not there any more is gone.
            for (id, _) in self.tree.iter() {
                found.entry(*id).or_insert(None);
            }
            for secret in self.base.secrets() {
                base.touch(secret.id);
            }
        }
        let known: Vec<_> = base.all_references().map(|(device, _)| *device).collect();
        for device in known.into_iter().filter(|device| walk.head.device(*device).is_none()) {
            base.set_references(device, None);
        }
        Ok((base, found.into_iter().collect()))
    }
}

/// What one state has that another, newer one, lacks: secrets, and values that were set later.
fn rescue(before: &Holdings, now: &Holdings) -> Vec<Arc<Intent>> {
    let mut rescued = Vec::new();
    for secret in before.secrets() {
        let (id, at) = (secret.id, secret.updated_at);
        match now.secret(id) {
            None if now.deleted(id).is_none() => {
                rescued.push(Arc::new(Intent::new(id, at, Change::Create(Arc::clone(secret)))));
            }
            Some(known)
                if known.updated_at < at && known.versions.iter().all(|version| version.id != secret.current().id) =>
            {
                rescued.push(Arc::new(Intent::new(id, at, Change::Value(secret.current().clone()))));
            }
            _ => {}
        }
    }
    rescued.sort_by_key(|intent| intent.at);
    rescued
}

/// Puts an object where it belongs: it says itself which it is, and that has to be true.
pub(super) fn place(base: &mut Holdings, head: &Head, id: ObjectId, object: Object) -> Result<(), Refusal> {
    let is_own = |secret: &Secret| secret.id.0 == id.0;
    match object {
        Object::Secret(secret) if is_own(&secret) => base.put(secret),
        Object::Deleted(deleted) if is_own(&deleted.secret) => base.bury(deleted),
        Object::References(references)
            if head.device(references.device).is_some_and(|device| device.references == id) =>
        {
            base.set_references(references.device, Some(references));
        }
        _ => return Err(Refusal::Tampered("a record is another than it says")),
    }
    Ok(())
}
