//! The root over all records of an account: 1,024 buckets by the first ten bits of the id, so that one change
//! costs one bucket and the root, however large the account is.
//!
//! Knows ids, revisions and hashes; no key, and nothing of what is in a record.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::wire::{Hash, ObjectId, Sealed};

/// How many buckets there are.
const BUCKETS: usize = 1 << 10;

/// What the root says of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Its revision.
    pub revision: u64,
    /// The epoch it is sealed in.
    pub epoch: u64,
    /// The SHA-256 of its box.
    pub hash: Hash,
}

impl Leaf {
    /// Of a record in this box.
    pub fn of(revision: u64, epoch: u64, sealed: &Sealed) -> Self {
        Self { revision, epoch, hash: Hash::of(&[&sealed.0]) }
    }
}

/// Every record of an account.
#[derive(Clone)]
pub struct Tree {
    buckets: Vec<Bucket>,
    len: usize,
}

#[derive(Clone, Default)]
struct Bucket {
    leaves: BTreeMap<ObjectId, Leaf>,
    /// Empty where the bucket has changed since it was hashed.
    hash: OnceLock<Hash>,
}

impl Default for Tree {
    fn default() -> Self {
        Self { buckets: vec![Bucket::default(); BUCKETS], len: 0 }
    }
}

impl Tree {
    /// Of an account without records.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is known of a record.
    pub fn get(&self, id: &ObjectId) -> Option<&Leaf> {
        self.buckets[bucket(id)].leaves.get(id)
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All records, by id.
    pub fn iter(&self) -> impl Iterator<Item = (&ObjectId, &Leaf)> {
        self.buckets.iter().flat_map(|bucket| &bucket.leaves)
    }

    /// Puts a record in the place of what is known of it, or takes it out. Returns what was known before.
    pub fn set(&mut self, id: ObjectId, leaf: Option<Leaf>) -> Option<Leaf> {
        let bucket = &mut self.buckets[bucket(&id)];
        let before = change(&mut bucket.leaves, id, leaf);
        if before != leaf {
            bucket.hash.take();
        }
        self.len = self.len + usize::from(leaf.is_some()) - usize::from(before.is_some());
        before
    }

    /// The root. Only buckets that changed since it was asked last are hashed anew.
    pub fn root(&self) -> Hash {
        root(self.buckets.iter().enumerate().map(|(number, bucket)| bucket.hash(number)))
    }

    /// The root as it would be after these changes, applied in order, of which nothing stays: so a pull is
    /// verified before anything of it is applied.
    pub fn with(&self, changes: &[(ObjectId, Option<Leaf>)]) -> Hash {
        let mut changed: BTreeMap<usize, BTreeMap<ObjectId, Leaf>> = BTreeMap::new();
        for (id, leaf) in changes {
            let number = bucket(id);
            let leaves = changed.entry(number).or_insert_with(|| self.buckets[number].leaves.clone());
            change(leaves, *id, *leaf);
        }
        root(self.buckets.iter().enumerate().map(|(number, bucket)| match changed.get(&number) {
            Some(leaves) => hash(number, leaves),
            None => bucket.hash(number),
        }))
    }
}

impl Bucket {
    fn hash(&self, number: usize) -> Hash {
        *self.hash.get_or_init(|| hash(number, &self.leaves))
    }
}

/// The bucket of an id: its first ten bits.
fn bucket(id: &ObjectId) -> usize {
    usize::from(u16::from_be_bytes([id.0[0], id.0[1]]) >> 6)
}

fn change(leaves: &mut BTreeMap<ObjectId, Leaf>, id: ObjectId, leaf: Option<Leaf>) -> Option<Leaf> {
    match leaf {
        Some(leaf) => leaves.insert(id, leaf),
        None => leaves.remove(&id),
    }
}

fn hash(number: usize, leaves: &BTreeMap<ObjectId, Leaf>) -> Hash {
    // Ten bits fit sixteen.
    let mut bytes = [b"guillemet bucket 1\0".as_slice(), &(number as u16).to_le_bytes()].concat();
    for (id, leaf) in leaves {
        bytes.extend_from_slice(&id.0);
        bytes.extend_from_slice(&leaf.revision.to_le_bytes());
        bytes.extend_from_slice(&leaf.epoch.to_le_bytes());
        bytes.extend_from_slice(&leaf.hash.0);
    }
    Hash::of(&[&bytes])
}

fn root(hashes: impl Iterator<Item = Hash>) -> Hash {
    let mut bytes = Vec::with_capacity(32 + 32 * BUCKETS);
    bytes.extend_from_slice(b"guillemet root 1\0");
    for hash in hashes {
        bytes.extend_from_slice(&hash.0);
    }
    Hash::of(&[&bytes])
}
