//! The sync engine: what a device knows of its account, what it accepts of a server, and what it pushes.
//!
//! A state machine without I/O, so that a test can be the network and a hostile server. Whoever drives it
//! writes every `Update` down, in one transaction, before anything is acknowledged; where that fails, the engine
//! is made anew from what is written.
//!
//! `holdings` is the content, `head` the authenticated state, `pull` what is accepted, `push` what is sent.
//!
//! Invariants. Promise 6: nothing of an answer is applied unless all of it is what the account's own devices
//! sealed, one head after the other. Promise 9: an intent is pending until a head that was verified carries it,
//! so a crash or a lost answer at any point neither loses it nor applies it twice.

mod head;
mod holdings;
mod object;
mod pull;
mod push;
mod references;
mod rescue;
mod stored;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

pub use self::head::{Device, Head, Refusal};
pub use self::holdings::{Deleted, Holdings, Maker, Notice, is_same};
pub use self::push::{Blocked, Candidate, Unprepared, Wish};
pub use self::references::{Named, References, Words};
pub use self::stored::{Memory, Unreadable};
use super::intent::Intent;
use super::seal::EpochKey;
use super::tree::{Leaf, Tree};
use super::wire::{AccountId, Cursor, DeviceId, Hash, IntentId, Newest, ObjectId, Sealed};
use crate::names::SecretId;
use crate::vault::crypto::DeviceSecret;
use crate::vault::record::Secret;

/// Which device this is.
pub struct Me {
    /// Of which account.
    pub account: AccountId,
    /// Its id.
    pub device: DeviceId,
    /// Its secret key.
    pub secret: DeviceSecret,
}

/// What changed, for whoever writes it down and answers from it.
#[derive(Default)]
pub struct Update {
    /// Secrets as they are from now on, with the next revision of the vault's own.
    pub put: Vec<Arc<Secret>>,
    /// The same as they were, where they were there before.
    pub replaced: Vec<Arc<Secret>>,
    /// Secrets that are gone.
    pub removed: Vec<Arc<Secret>>,
    /// Records of the account, with their boxes.
    pub records: Vec<Written>,
    /// Intents that are in the account now.
    pub settled: Vec<IntentId>,
    /// What a person should know.
    pub notices: Vec<Notice>,
    /// Whether there is a newer head than before.
    pub advanced: bool,
    /// Which device brought the secrets that others changed, as far as the server tells it.
    pub authors: HashMap<SecretId, Author>,
    /// The devices that were admitted to the account or have left it, in order.
    pub devices: Vec<DeviceChange>,
}

/// A device that has changed something, as it was called then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// Its id.
    pub id: DeviceId,
    /// What it was called.
    pub name: String,
}

/// A device that is new in the account, or is none of it any more.
#[derive(Clone, Debug)]
pub struct DeviceChange {
    /// The device.
    pub device: Device,
    /// Whether it is of the account now.
    pub is_admitted: bool,
    /// Which device did that.
    pub by: Author,
}

/// A record that is to be written down, or removed.
pub type Written = (ObjectId, Option<(Leaf, Sealed)>);

/// How many former heads a device remembers: by them it knows a server that was set back from one that lies.
const PAST: usize = 256;

/// See the module.
pub struct Engine {
    me: Me,
    keys: BTreeMap<u64, Arc<EpochKey>>,
    /// The newest that was verified; number 0 before the first.
    head: Head,
    hash: Hash,
    /// Set until the first head has been verified, or when a person has confirmed another.
    anchor: Option<Newest>,
    tree: Tree,
    /// What the account holds, at the head.
    base: Holdings,
    /// The same with what is pending: what this device answers from.
    view: Holdings,
    pending: VecDeque<Arc<Intent>>,
    /// Secrets in which the view may differ from the account.
    differing: BTreeSet<SecretId>,
    /// Heads that this device has sent, or is about to, and that may have been accepted.
    sent: Vec<Newest>,
    /// The heads before the newest.
    past: VecDeque<Newest>,
    /// What a person has been told of intents that are pending.
    told: HashMap<IntentId, String>,
    /// How many former versions of a secret are kept.
    keep: usize,
}

impl Engine {
    /// Of a new account, with a key of its own; the first push brings the first head.
    pub fn found(me: Me, keep: usize) -> Self {
        Self::empty(me, EpochKey::random(1), Hash::default(), None, keep)
    }

    /// Of an account that this device has been admitted to: everything is still to be pulled. `anchor` is the
    /// head that admitted it, and `key` that of its epoch, both from a wrap that was opened.
    pub fn join(me: Me, key: EpochKey, anchor: Newest, keep: usize) -> Self {
        Self::empty(me, key, Hash::default(), Some(anchor), keep)
    }

    fn empty(me: Me, key: EpochKey, hash: Hash, anchor: Option<Newest>, keep: usize) -> Self {
        let head = Head {
            seq: anchor.map_or(0, |anchor| anchor.seq.saturating_sub(1)),
            epoch: key.epoch(),
            ..Head::default()
        };
        Self {
            me,
            keys: BTreeMap::from([(key.epoch(), Arc::new(key))]),
            head,
            hash,
            anchor,
            tree: Tree::new(),
            base: Holdings::default(),
            view: Holdings::default(),
            pending: VecDeque::new(),
            differing: BTreeSet::new(),
            sent: Vec::new(),
            past: VecDeque::new(),
            told: HashMap::new(),
            keep,
        }
    }

    /// Which device this is.
    pub fn me(&self) -> &Me {
        &self.me
    }

    /// The newest head that was verified, with its hash; none before the first pull.
    pub fn head(&self) -> Option<(&Head, Hash)> {
        (self.head.by != DeviceId::default()).then_some((&self.head, self.hash))
    }

    /// What the account holds.
    pub fn base(&self) -> &Holdings {
        &self.base
    }

    /// What this device answers from: the account, and what is pending here.
    pub fn view(&self) -> &Holdings {
        &self.view
    }

    /// What the account does not have yet, oldest first.
    pub fn pending(&self) -> impl ExactSizeIterator<Item = &Arc<Intent>> {
        self.pending.iter()
    }

    /// The key of the newest epoch: for usage.
    pub fn key(&self) -> Option<&Arc<EpochKey>> {
        self.keys.get(&self.head.epoch)
    }

    /// The key of an epoch.
    pub fn key_of(&self, epoch: u64) -> Option<&Arc<EpochKey>> {
        self.keys.get(&epoch)
    }

    /// How many former versions are kept from now on.
    pub fn keep_former_versions(&mut self, number: usize) {
        self.keep = number;
    }

    /// From where to pull.
    pub fn cursor(&self) -> Cursor {
        match self.anchor {
            Some(anchor) => Self::cursor_of(anchor),
            None => Cursor { heads_after: self.head.seq, records_after: self.head.seq, after_id: None },
        }
    }

    /// From where to pull a whole account whose history begins with this head.
    pub fn cursor_of(anchor: Newest) -> Cursor {
        Cursor { heads_after: anchor.seq.saturating_sub(1), records_after: 0, after_id: None }
    }

    /// Whether this is a head that this device has verified, not long ago.
    pub fn knows(&self, newest: Newest) -> bool {
        self.past.contains(&newest) || (newest.seq, newest.hash) == (self.head.seq, self.hash)
    }

    /// A head has been verified.
    fn arrive(&mut self, head: Head, hash: Hash) {
        if self.head().is_some() {
            self.past.push_back(Newest { seq: self.head.seq, hash: self.hash });
        }
        while self.past.len() > PAST {
            self.past.pop_front();
        }
        (self.head, self.hash, self.anchor) = (head, hash, None);
        self.sent.retain(|sent| sent.seq > self.head.seq);
    }

    /// Takes what somebody changed here: `after` is in place already, and the intents are written down. What is
    /// pending is pushed with the next push.
    pub fn edited(&mut self, after: Arc<Secret>, intents: Vec<Intent>) {
        self.differing.insert(after.id);
        self.view.put(after);
        self.view.take_touched();
        self.pending.extend(intents.into_iter().map(Arc::new));
    }

    /// Brings in what this device had before it was in the account: `mine` are its secrets as they are, and the
    /// intents say what is to become of them. One that none is about is gone.
    pub fn bring(&mut self, mine: &[Arc<Secret>], intents: Vec<Intent>) -> Update {
        for secret in mine {
            self.differing.insert(secret.id);
            self.view.put(Arc::clone(secret));
        }
        self.pending.extend(intents.into_iter().map(Arc::new));
        self.settle(self.base.clone(), &HashSet::new())
    }

    /// Remembers a push that is about to be sent; to be written down before it is.
    pub fn sending(&mut self, candidate: &Candidate) {
        self.sent.push(candidate.newest);
    }

    /// Goes over to another state of the account: the view follows, with what is still pending on top.
    fn settle(&mut self, mut base: Holdings, settled: &HashSet<IntentId>) -> Update {
        let mut touched = base.take_touched();
        touched.append(&mut self.differing);
        let (gone, kept): (Vec<_>, Vec<_>) = self.pending.drain(..).partition(|intent| settled.contains(&intent.id));
        self.pending = kept.into();
        let mut notices = self.revived(&base, &touched, &gone);
        let mut view = base.clone();
        let maker = Maker { device: self.me.device, seq: self.head.seq + 1, keep: self.keep };
        for intent in self.pending.clone() {
            notices.extend(view.apply(&intent, maker).and_then(|notice| self.tell(intent.id, notice)));
        }
        for intent in &gone {
            self.told.remove(&intent.id);
        }
        self.differing = view.take_touched();
        touched.extend(&self.differing);
        let mut update = Update { settled: gone.iter().map(|intent| intent.id).collect(), ..Update::default() };
        for id in touched {
            let before = self.view.secret(id).cloned();
            let Some(now) = view.secret(id).cloned() else {
                update.removed.extend(before);
                continue;
            };
            let shared = match &before {
                Some(before) if is_same(before, &now) => Arc::clone(before),
                _ => {
                    let revision = before.as_ref().map_or(1, |before| before.revision + 1);
                    let next = Arc::new(Secret { revision, ..(*now).clone() });
                    update.put.push(Arc::clone(&next));
                    update.replaced.extend(before);
                    next
                }
            };
            if base.secret(id).is_some_and(|base| is_same(base, &shared)) {
                base.share(&shared);
            }
            view.share(&shared);
        }
        (self.base, self.view) = (base, view);
        update.notices = notices;
        update
    }

    /// Goes over to the state a push of this device has made. Where that is the former one with the oldest of what is
    /// pending and nothing else, the view is what it was, and only what was pushed is looked at: a large vault is
    /// pushed in many pieces, and each would cost as much as all that is left.
    fn settle_pushed(&mut self, mut base: Holdings, pushed: &[IntentId]) -> Update {
        let touched = base.take_touched();
        if !self.is_view_of(&base, &touched, pushed) {
            touched.into_iter().for_each(|id| base.touch(id));
            return self.settle(base, &pushed.iter().copied().collect());
        }
        for id in touched {
            if let Some(shared) = same_in_both(&base, &self.view, id).cloned() {
                base.share(&shared);
                self.differing.remove(&id);
            }
        }
        self.view.take_references(&base);
        self.base = base;
        for intent in self.pending.drain(..pushed.len()) {
            self.told.remove(&intent.id);
        }
        Update { settled: pushed.to_vec(), ..Update::default() }
    }

    /// Whether the view is what this state becomes by what is pending behind the oldest, which were `pushed`. What of
    /// it was touched has to be in the view as it is; or something behind changes it further, and once that is
    /// pushed it is looked at again.
    fn is_view_of(&self, base: &Holdings, touched: &BTreeSet<SecretId>, pushed: &[IntentId]) -> bool {
        let is_oldest = pushed.len() < self.pending.len()
            && pushed.iter().eq(self.pending.iter().take(pushed.len()).map(|intent| &intent.id));
        // What is deleted can come back by an edit, or by a reference.
        let has_deleted = [&self.base, base].iter().any(|state| state.all_deleted().next().is_some());
        if !is_oldest || has_deleted {
            return false;
        }
        let open: Vec<_> = touched.iter().filter(|id| same_in_both(base, &self.view, **id).is_none()).collect();
        if open.is_empty() {
            return true;
        }
        let later: HashSet<_> = self.pending.iter().skip(pushed.len()).map(|intent| intent.secret).collect();
        open.into_iter().all(|id| later.contains(id))
    }

    /// What is said of an intent, unless it has been said: it is applied again with every head.
    fn tell(&mut self, intent: IntentId, notice: Notice) -> Option<Notice> {
        let before = self.told.insert(intent, notice.text.clone());
        (before.as_ref() != Some(&notice.text)).then_some(notice)
    }

    /// What is said of deleted secrets that are there again in this state; not where an edit of this device did
    /// that, of which it has been said.
    fn revived(&self, base: &Holdings, touched: &BTreeSet<SecretId>, settled: &[Arc<Intent>]) -> Vec<Notice> {
        let is_back = |id: &&SecretId| self.base.deleted(**id).is_some();
        let by_edit = |id: &SecretId| settled.iter().any(|intent| intent.secret == *id);
        let back = touched.iter().filter(is_back).filter(|id| !by_edit(id)).filter_map(|id| base.secret(*id));
        let who = if self.head.by == self.me.device {
            "a template of this device names"
        } else {
            "another device names or has changed"
        };
        let text = |name| {
            format!(
                "`{name}`, which was deleted, is there again: {who} it. Look at who needs it before it is deleted again"
            )
        };
        back.map(|secret| Notice { at: self.head.made_at, text: text(&secret.name) }).collect()
    }
}

/// The secret as the second state has it, where the first has the same.
fn same_in_both<'a>(one: &Holdings, other: &'a Holdings, id: SecretId) -> Option<&'a Arc<Secret>> {
    other.secret(id).filter(|other| one.secret(id).is_some_and(|one| is_same(one, other)))
}
