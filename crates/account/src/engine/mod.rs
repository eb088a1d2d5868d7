//! The sync engine: what a device knows of its account, what it accepts from the server, and what it pushes.
//!
//! A state machine without I/O, so that a test can play the network and a hostile server. The caller writes every
//! [`Update`] to disk in one transaction before it acknowledges anything. If that fails, the caller makes the engine
//! again from what is on disk.
//!
//! - `state`: the content of the account
//! - `head`: the authenticated state, and the reasons to refuse another
//! - `pull`: what is accepted
//! - `push`: what is sent
//! - `object`: what is in the box of a record
//! - `references`: what the templates of a device name
//! - `reconcile`: what is pushed again after the account has lost it
//! - `stored`: the form on disk
//!
//! Invariants:
//!
//! - Promise Zero knowledge: nothing of an answer is applied unless all of it is what the account's own devices sealed,
//!   one head after the other.
//! - Promise Nothing lost: an intent is pending until a verified head carries it. So a crash or a lost answer at any
//!   point neither loses it nor applies it twice.

mod head;
mod object;
mod pull;
mod push;
mod reconcile;
mod references;
mod state;
mod stored;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

pub use self::head::{Device, Head, PullError};
pub use self::push::{Blocked, PreparedPush, Proposal, PushError};
pub use self::references::{DeviceReference, References, Words};
pub use self::state::{Deleted, HeadAuthor, Notice, Replica, is_same};
pub use self::stored::{StoredEngine, StoredStateError};
use super::intent::Intent;
use super::seal::EpochKey;
use super::tree::{RecordLeaf, RecordTree};
use guillemet_base::names::SecretId;
use guillemet_secret::crypto::DeviceSecret;
use guillemet_secret::record::Secret;
use guillemet_wire::{AccountId, DeviceId, Hash, HeadRef, IntentId, ObjectId, PullCursor, Sealed};

/// The identity of this device.
pub struct DeviceIdentity {
    /// The account that this device belongs to.
    pub account: AccountId,
    /// The id of this device.
    pub device: DeviceId,
    /// The secret key of this device.
    pub secret: DeviceSecret,
}

/// The changes that the caller has to write to disk and serve from.
#[derive(Default)]
pub struct Update {
    /// The secrets that are new or changed, with the vault's next revision.
    pub put: Vec<Arc<Secret>>,
    /// The former states of the secrets in `put`; nothing for a secret that is new.
    pub replaced: Vec<Arc<Secret>>,
    /// The secrets that no longer exist, as they were.
    pub removed: Vec<Arc<Secret>>,
    /// The records of the account that changed, with their boxes.
    pub records: Vec<RecordWrite>,
    /// The intents that are now in the account.
    pub settled: Vec<IntentId>,
    /// Messages for the user.
    pub notices: Vec<Notice>,
    /// Whether there is a newer head than before.
    pub advanced: bool,
    /// The devices that changed the secrets of a pull, as far as the server reports it.
    pub authors: HashMap<SecretId, Author>,
    /// The devices that were admitted to the account or have left it, in order.
    pub devices: Vec<DeviceChange>,
}

/// A device that made a change, with the name it had then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// The id of the device.
    pub id: DeviceId,
    /// The name of the device at that time.
    pub name: String,
}

/// A device that joined the account, or left it.
#[derive(Clone, Debug)]
pub struct DeviceChange {
    /// The device that joined or left.
    pub device: Device,
    /// Whether the device is in the account now.
    pub is_admitted: bool,
    /// The device that admitted or removed it.
    pub by: Author,
}

/// A record to write to disk; `None` if it is to be removed.
pub type RecordWrite = (ObjectId, Option<(RecordLeaf, Sealed)>);

/// The number of former heads that a device remembers. They let it distinguish a server that was restored from a backup
/// from one that lies.
const PAST: usize = 256;

/// The state of one device in its account. The [module](self) describes it.
pub struct Engine {
    me: DeviceIdentity,
    keys: BTreeMap<u64, Arc<EpochKey>>,
    /// The newest verified head; `seq` 0 before the first.
    head: Head,
    hash: Hash,
    /// The head that a pull has to begin with: set until the first head is verified, or when a person has confirmed
    /// another one.
    anchor: Option<HeadRef>,
    tree: RecordTree,
    /// The content of the account at the head.
    base: Replica,
    /// The same with the pending intents applied. This device serves from it.
    view: Replica,
    pending: VecDeque<Arc<Intent>>,
    /// The secrets that may differ between `view` and `base`.
    differing: BTreeSet<SecretId>,
    /// Heads that this device has sent, or is about to send, and that the server may have accepted.
    sent: Vec<HeadRef>,
    /// The heads before the newest one, oldest first.
    past: VecDeque<HeadRef>,
    /// The messages that the user has seen about pending intents.
    reported: HashMap<IntentId, String>,
    /// The number of former versions that are kept of a secret.
    former_versions: usize,
}

impl Engine {
    /// Starts a new account with a new key. The first push creates the first head.
    pub fn create(me: DeviceIdentity, former_versions: usize) -> Self {
        Self::empty(me, EpochKey::random(1), Hash::default(), None, former_versions)
    }

    /// Starts with an account that this device has been admitted to, of which everything is still to be pulled.
    /// `anchor` is the head that admitted it and `key` the key of its epoch, both from a wrap that was opened.
    pub fn join(me: DeviceIdentity, key: EpochKey, anchor: HeadRef, former_versions: usize) -> Self {
        Self::empty(me, key, Hash::default(), Some(anchor), former_versions)
    }

    fn empty(me: DeviceIdentity, key: EpochKey, hash: Hash, anchor: Option<HeadRef>, former_versions: usize) -> Self {
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
            tree: RecordTree::new(),
            base: Replica::default(),
            view: Replica::default(),
            pending: VecDeque::new(),
            differing: BTreeSet::new(),
            sent: Vec::new(),
            past: VecDeque::new(),
            reported: HashMap::new(),
            former_versions,
        }
    }

    /// Returns the identity of this device.
    pub fn me(&self) -> &DeviceIdentity {
        &self.me
    }

    /// Returns the newest verified head with its hash; `None` before the first.
    pub fn head(&self) -> Option<(&Head, Hash)> {
        (self.head.by != DeviceId::default()).then_some((&self.head, self.hash))
    }

    /// Returns the content of the account at the newest head.
    pub fn base(&self) -> &Replica {
        &self.base
    }

    /// Returns the content that this device serves from: the account with the pending intents applied.
    pub fn view(&self) -> &Replica {
        &self.view
    }

    /// Iterates over the intents that the account does not have yet, oldest first.
    pub fn pending(&self) -> impl ExactSizeIterator<Item = &Arc<Intent>> {
        self.pending.iter()
    }

    /// Returns the key of the newest epoch. The usage report is sealed with it.
    pub fn key(&self) -> Option<&Arc<EpochKey>> {
        self.keys.get(&self.head.epoch)
    }

    /// Returns the key of an epoch; `None` if this device does not have it.
    pub fn key_of(&self, epoch: u64) -> Option<&Arc<EpochKey>> {
        self.keys.get(&epoch)
    }

    /// Sets the number of former versions that are kept from now on.
    pub fn keep_former_versions(&mut self, number: usize) {
        self.former_versions = number;
    }

    /// Returns the position from which to pull.
    pub fn cursor(&self) -> PullCursor {
        match self.anchor {
            Some(anchor) => Self::cursor_of(anchor),
            None => PullCursor { heads_after: self.head.seq, records_after: self.head.seq, after_id: None },
        }
    }

    /// Returns the position from which to pull a whole account whose history begins with this head.
    pub fn cursor_of(anchor: HeadRef) -> PullCursor {
        PullCursor { heads_after: anchor.seq.saturating_sub(1), records_after: 0, after_id: None }
    }

    /// Returns whether this head is one of the last ones that this device has verified.
    pub fn has_verified(&self, newest: HeadRef) -> bool {
        self.past.contains(&newest) || (newest.seq, newest.hash) == (self.head.seq, self.hash)
    }

    /// Makes a verified head the newest one.
    fn set_head(&mut self, head: Head, hash: Hash) {
        if self.head().is_some() {
            self.past.push_back(HeadRef { seq: self.head.seq, hash: self.hash });
        }
        while self.past.len() > PAST {
            self.past.pop_front();
        }
        (self.head, self.hash, self.anchor) = (head, hash, None);
        self.sent.retain(|sent| sent.seq > self.head.seq);
    }

    /// Records an edit of this device. `after` is in effect already, and the intents are on disk. They are sent with
    /// the next push.
    pub fn record_edit(&mut self, after: Arc<Secret>, intents: Vec<Intent>) {
        self.differing.insert(after.id);
        self.view.put(after);
        self.view.take_touched();
        self.pending.extend(intents.into_iter().map(Arc::new));
    }

    /// Brings in the secrets that this device had before it joined the account. `local` are these secrets, and the
    /// intents say what becomes of each. A secret that no intent is about is gone.
    pub fn add_own_secrets(&mut self, local: &[Arc<Secret>], intents: Vec<Intent>) -> Update {
        for secret in local {
            self.differing.insert(secret.id);
            self.view.put(Arc::clone(secret));
        }
        self.pending.extend(intents.into_iter().map(Arc::new));
        self.replace_base(self.base.clone(), &HashSet::new())
    }

    /// Remembers a push that is about to be sent. The caller has to write this to disk before it sends the push.
    pub fn record_sent(&mut self, candidate: &PreparedPush) {
        self.sent.push(candidate.newest);
    }

    /// Replaces the state of the account. The view follows, with the intents that are still pending applied on top.
    fn replace_base(&mut self, mut base: Replica, settled: &HashSet<IntentId>) -> Update {
        let mut touched = base.take_touched();
        touched.append(&mut self.differing);
        let (done, remaining): (Vec<_>, Vec<_>) =
            self.pending.drain(..).partition(|intent| settled.contains(&intent.id));
        self.pending = remaining.into();
        let mut notices = self.revived_notices(&base, &touched, &done);
        let mut view = base.clone();
        let author =
            HeadAuthor { device: self.me.device, seq: self.head.seq + 1, former_versions: self.former_versions };
        for intent in self.pending.clone() {
            notices.extend(view.apply(&intent, author).and_then(|notice| self.unseen_notice(intent.id, notice)));
        }
        for intent in &done {
            self.reported.remove(&intent.id);
        }
        self.differing = view.take_touched();
        touched.extend(&self.differing);
        let mut update = Update { settled: done.iter().map(|intent| intent.id).collect(), ..Update::default() };
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

    /// Replaces the state of the account after this device's own push. If the push contained only the oldest pending
    /// intents and nothing else, the view does not change, so only the secrets that were pushed are compared. A large
    /// vault is pushed in many pieces, and otherwise each piece would cost as much as everything that remains.
    fn settle_pushed(&mut self, mut base: Replica, pushed: &[IntentId]) -> Update {
        let touched = base.take_touched();
        if !self.is_view_of(&base, &touched, pushed) {
            touched.into_iter().for_each(|id| base.touch(id));
            return self.replace_base(base, &pushed.iter().copied().collect());
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
            self.reported.remove(&intent.id);
        }
        Update { settled: pushed.to_vec(), ..Update::default() }
    }

    /// Returns whether the view is `base` with those intents applied that are pending after `pushed`, the oldest ones.
    /// Each touched secret must either be the same in the view, or have a later pending intent; it is compared again
    /// when that intent is pushed.
    fn is_view_of(&self, base: &Replica, touched: &BTreeSet<SecretId>, pushed: &[IntentId]) -> bool {
        let is_oldest = pushed.len() < self.pending.len()
            && pushed.iter().eq(self.pending.iter().take(pushed.len()).map(|intent| &intent.id));
        // A deleted secret can come back through an edit or a reference.
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

    /// Returns a notice unless the user has seen it: an intent is applied again with every head.
    fn unseen_notice(&mut self, intent: IntentId, notice: Notice) -> Option<Notice> {
        let before = self.reported.insert(intent, notice.text.clone());
        (before.as_ref() != Some(&notice.text)).then_some(notice)
    }

    /// Returns notices for deleted secrets that exist again in this state. Leaves out those that an edit of this device
    /// brought back, because that edit has its own notice.
    fn revived_notices(&self, base: &Replica, touched: &BTreeSet<SecretId>, settled: &[Arc<Intent>]) -> Vec<Notice> {
        let is_back = |id: &&SecretId| self.base.deleted(**id).is_some();
        let by_edit = |id: &SecretId| settled.iter().any(|intent| intent.secret == *id);
        let restored = touched.iter().filter(is_back).filter(|id| !by_edit(id)).filter_map(|id| base.secret(*id));
        let cause = if self.head.by == self.me.device {
            "a template on this device references"
        } else {
            "another device references or has changed"
        };
        let text = |name| {
            format!("`{name}` was deleted and is restored: {cause} it. Check who needs it before you delete it again")
        };
        restored.map(|secret| Notice { at: self.head.made_at, text: text(&secret.name) }).collect()
    }
}

/// Returns the secret from the second state if it is the same in the first.
fn same_in_both<'a>(one: &Replica, other: &'a Replica, id: SecretId) -> Option<&'a Arc<Secret>> {
    other.secret(id).filter(|other| one.secret(id).is_some_and(|one| is_same(one, other)))
}
