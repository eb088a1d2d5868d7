//! An honest server in memory: it does what docs/account-protocol.md says, and knows nothing about keys.

use std::collections::{BTreeMap, HashSet};

use guillemet_wire::{
    AccountId, BODY_MAX, ChangedRecord, ChangesPage, DeviceId, EpochLink, Hash, HeadRef, ObjectId, PullCursor, Push,
    RECORDS_MAX, SealedHead, SealedRecord, Wrap,
};

/// The reasons why a push is refused.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is not on the newest head (412).
    Behind,
    /// The device has no key (401).
    Unknown,
    /// It is not what a push may be (422).
    Wrong(&'static str),
}

/// Heads after the cursor are no longer kept (409).
#[derive(Debug, PartialEq, Eq)]
pub struct ContinuityLost;

/// The most heads and records in one page.
#[derive(Clone, Copy, Debug)]
pub struct Pages {
    pub heads: usize,
    pub records: usize,
}

#[derive(Clone)]
pub struct Server {
    pub account: AccountId,
    pub heads: Vec<SealedHead>,
    /// Every form of each record, with the seq of the head it came with.
    records: BTreeMap<ObjectId, Vec<(u64, SealedRecord)>>,
    wraps: Vec<(u64, Wrap)>,
    links: Vec<(u64, EpochLink)>,
    /// The devices with a key, each with the seq of the head that admitted it.
    devices: BTreeMap<DeviceId, u64>,
    revoked: Vec<(u64, DeviceId, u64)>,
    pruned: u64,
    pub pages: Pages,
}

impl Server {
    pub fn new(account: AccountId, founder: DeviceId) -> Self {
        Self {
            account,
            heads: Vec::new(),
            records: BTreeMap::new(),
            wraps: Vec::new(),
            links: Vec::new(),
            devices: BTreeMap::from([(founder, 0)]),
            revoked: Vec::new(),
            pruned: 0,
            pages: Pages { heads: 1000, records: 1000 },
        }
    }

    pub fn newest(&self) -> Option<HeadRef> {
        self.heads.last().map(|head| HeadRef { seq: head.seq, hash: head.hash(self.account) })
    }

    pub fn knows(&self, device: DeviceId) -> bool {
        self.devices.contains_key(&device)
    }

    /// Accepts or refuses a push with `If-Match: onto`.
    pub fn push(&mut self, by: DeviceId, onto: Hash, push: &Push) -> Result<HeadRef, Refused> {
        // The push is encoded and decoded, as if it travelled.
        let body = serde_json::to_vec(push).unwrap();
        if body.len() > BODY_MAX {
            return Err(Refused::Wrong("it is too large"));
        }
        let push: Push = serde_json::from_slice(&body).unwrap();
        if !self.knows(by) {
            return Err(Refused::Unknown);
        }
        if self.newest().map_or(Hash::default(), |newest| newest.hash) != onto {
            return Err(Refused::Behind);
        }
        let (seq, epoch) = (push.head.seq, push.head.epoch);
        let last = self.heads.last().map_or((0, 1), |head| (head.seq, head.epoch));
        if seq <= last.0 || epoch < last.1 {
            return Err(Refused::Wrong("the head goes back"));
        }
        let ids: HashSet<_> = push.records.iter().map(|record| record.id).collect();
        if push.records.len() > RECORDS_MAX || ids.len() < push.records.len() {
            return Err(Refused::Wrong("too many records, or one twice"));
        }
        if push.records.iter().any(|record| record.epoch == 0 || record.revision == 0) {
            return Err(Refused::Wrong("an epoch and a revision are needed"));
        }
        if push.wraps.iter().any(|wrap| wrap.epoch != epoch) || push.link.iter().any(|link| link.epoch != epoch) {
            return Err(Refused::Wrong("must be the epoch of the head"));
        }
        for device in push.revoked {
            if let Some(came) = self.devices.remove(&device) {
                self.revoked.push((seq, device, came));
            }
        }
        for device in push.admitted {
            self.devices.insert(device, seq);
        }
        self.wraps.extend(push.wraps.into_iter().map(|wrap| (seq, wrap)));
        self.links.extend(push.link.map(|link| (seq, link)));
        for record in push.records {
            self.records.entry(record.id).or_default().push((seq, record));
        }
        self.heads.push(push.head);
        Ok(self.newest().unwrap())
    }

    /// Returns a page of changes.
    pub fn changes(&self, device: DeviceId, from: PullCursor) -> Result<ChangesPage, ContinuityLost> {
        if from.heads_after < self.pruned {
            return Err(ContinuityLost);
        }
        let heads = self.heads.iter().filter(|head| head.seq > from.heads_after).take(self.pages.heads);
        let heads: Vec<_> = heads.cloned().collect();
        let reached = heads.last().map_or(from.heads_after, |head| head.seq);
        let behind = (from.records_after, from.after_id.unwrap_or(ObjectId([0xff; 16])));
        let newest_forms = self.records.values().filter_map(|forms| forms.last());
        let selected = newest_forms.filter(|(seq, record)| (*seq, record.id) > behind && *seq <= reached);
        let mut records: Vec<_> =
            selected.map(|(seq, record)| ChangedRecord { seq: *seq, record: record.clone() }).collect();
        records.sort_by_key(|changed| (changed.seq, changed.record.id));
        let is_cut = records.len() > self.pages.records;
        records.truncate(self.pages.records);
        let newest = self.newest();
        let after = |records_after, after_id| Some(PullCursor { heads_after: reached, records_after, after_id });
        let next = match records.last() {
            Some(last) if is_cut => after(last.seq, Some(last.record.id)),
            _ if newest.is_none_or(|newest| reached >= newest.seq) => None,
            _ if from.records_after < reached => after(reached, None),
            _ => after(from.records_after, from.after_id),
        };
        let wraps = heads.first().zip(heads.last()).map_or_else(Vec::new, |(first, last)| {
            let mut newest = BTreeMap::new();
            let mine = self.wraps.iter().map(|(_, wrap)| wrap).filter(|wrap| wrap.device == device);
            for wrap in mine.filter(|wrap| (first.epoch..=last.epoch).contains(&wrap.epoch)) {
                newest.insert(wrap.epoch, wrap.clone());
            }
            newest.into_values().collect()
        });
        let links: BTreeMap<_, _> = self.links.iter().map(|(_, link)| (link.epoch, link.clone())).collect();
        let changes = ChangesPage { newest, heads, records, wraps, links: links.into_values().collect(), next };
        Ok(serde_json::from_slice(&serde_json::to_vec(&changes).unwrap()).unwrap())
    }

    /// Returns all pages from one state.
    pub fn all_changes(&self, device: DeviceId, from: PullCursor) -> Result<Vec<ChangesPage>, ContinuityLost> {
        let mut pages = vec![self.changes(device, from)?];
        while let Some(next) = pages.last().and_then(|page| page.next) {
            pages.push(self.changes(device, next)?);
        }
        Ok(pages)
    }

    /// Returns the newest wrap for a device.
    pub fn wrap(&self, device: DeviceId) -> Option<Wrap> {
        self.wraps.iter().rev().map(|(_, wrap)| wrap).find(|wrap| wrap.device == device).cloned()
    }

    /// Returns the newest form of every record.
    pub fn newest_records(&self) -> impl Iterator<Item = &SealedRecord> {
        self.records.values().filter_map(|forms| forms.last()).map(|(_, record)| record)
    }

    /// Restores a backup that was made at this head.
    pub fn set_back(&mut self, seq: u64) {
        self.heads.retain(|head| head.seq <= seq);
        self.wraps.retain(|(came, _)| *came <= seq);
        self.links.retain(|(came, _)| *came <= seq);
        for forms in self.records.values_mut() {
            forms.retain(|(came, _)| *came <= seq);
        }
        self.devices.retain(|_, came| *came <= seq);
        let (back, gone): (Vec<_>, Vec<_>) = self.revoked.drain(..).partition(|(ended, ..)| *ended > seq);
        self.revoked = gone;
        self.devices.extend(back.into_iter().filter(|(.., came)| *came <= seq).map(|(_, device, came)| (device, came)));
    }

    /// Drops the heads up to this one.
    pub fn prune(&mut self, seq: u64) {
        self.heads.retain(|head| head.seq > seq);
        self.pruned = seq;
    }
}
