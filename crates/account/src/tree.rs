//! The root over all records of an account: 1,024 buckets by the first ten bits of the id, so that a change costs the
//! hash of one bucket and of the root, however large the account is.
//!
//! Knows ids, revisions and hashes; no key, and nothing about what is in a record.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use guillemet_wire::{Hash, ObjectId, Sealed};

/// The number of buckets.
const BUCKETS: usize = 1 << 10;

/// The facts about one record that the root covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLeaf {
    /// The revision of the record.
    pub revision: u64,
    /// The epoch the record is sealed in.
    pub epoch: u64,
    /// The SHA-256 of the record's box.
    pub hash: Hash,
}

impl RecordLeaf {
    /// Returns the leaf of a record that is sealed in this box.
    pub fn of(revision: u64, epoch: u64, sealed: &Sealed) -> Self {
        Self { revision, epoch, hash: Hash::of(&[&sealed.0]) }
    }
}

/// All records of an account, as the root covers them.
#[derive(Clone)]
pub struct RecordTree {
    buckets: Vec<TreeBucket>,
    len: usize,
}

#[derive(Clone, Default)]
struct TreeBucket {
    leaves: BTreeMap<ObjectId, RecordLeaf>,
    /// Empty if the bucket has changed since it was last hashed.
    hash: OnceLock<Hash>,
}

impl Default for RecordTree {
    fn default() -> Self {
        Self { buckets: vec![TreeBucket::default(); BUCKETS], len: 0 }
    }
}

impl RecordTree {
    /// Returns the tree of an account without records.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the leaf of a record; `None` if there is no such record.
    pub fn get(&self, id: &ObjectId) -> Option<&RecordLeaf> {
        self.buckets[bucket(id)].leaves.get(id)
    }

    /// Returns the number of records.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Iterates over all records, ordered by id.
    pub fn iter(&self) -> impl Iterator<Item = (&ObjectId, &RecordLeaf)> {
        self.buckets.iter().flat_map(|bucket| &bucket.leaves)
    }

    /// Sets the leaf of a record, or removes it if `leaf` is `None`. Returns the leaf from before.
    pub fn set(&mut self, id: ObjectId, leaf: Option<RecordLeaf>) -> Option<RecordLeaf> {
        let bucket = &mut self.buckets[bucket(&id)];
        let before = change(&mut bucket.leaves, id, leaf);
        if before != leaf {
            bucket.hash.take();
        }
        self.len = self.len + usize::from(leaf.is_some()) - usize::from(before.is_some());
        before
    }

    /// Returns the root. Hashes only those buckets that have changed since the last call.
    pub fn root(&self) -> Hash {
        root(self.buckets.iter().enumerate().map(|(number, bucket)| bucket.hash(number)))
    }

    /// Returns the root as it would be after these changes, applied in order, and leaves the tree as it is. So a pull
    /// is verified before anything of it is applied.
    pub fn with(&self, changes: &[(ObjectId, Option<RecordLeaf>)]) -> Hash {
        let mut changed: BTreeMap<usize, BTreeMap<ObjectId, RecordLeaf>> = BTreeMap::new();
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

impl TreeBucket {
    fn hash(&self, number: usize) -> Hash {
        *self.hash.get_or_init(|| hash(number, &self.leaves))
    }
}

/// Returns the number of the bucket of an id: its first ten bits.
fn bucket(id: &ObjectId) -> usize {
    usize::from(u16::from_be_bytes([id.0[0], id.0[1]]) >> 6)
}

fn change(leaves: &mut BTreeMap<ObjectId, RecordLeaf>, id: ObjectId, leaf: Option<RecordLeaf>) -> Option<RecordLeaf> {
    match leaf {
        Some(leaf) => leaves.insert(id, leaf),
        None => leaves.remove(&id),
    }
}

fn hash(number: usize, leaves: &BTreeMap<ObjectId, RecordLeaf>) -> Hash {
    // A bucket number has ten bits, so it fits into sixteen.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaf(revision: u64, epoch: u64, of: &[u8]) -> RecordLeaf {
        RecordLeaf { revision, epoch, hash: Hash::of(&[of]) }
    }

    /// The roots were computed in Python, with `hashlib.sha256` over `struct.pack("<H", bucket)` and, for each leaf in
    /// `sorted(leaves.items())` with `int.from_bytes(id[:2], "big") >> 6 == bucket`, `id + struct.pack("<QQ", revision,
    /// epoch) + hash`.
    #[test]
    fn roots_are_those_of_another_implementation() {
        let mut tree = RecordTree::new();
        let empty = "8c1bd3c0f7ab49d9efa36cd6218b264dca4f710779e8897e66f585d1e5a10e1f";
        assert_eq!(tree.root().to_string(), empty);
        for i in 0..5_u8 {
            let id = ObjectId(Hash::of(&[&[i]]).0[..16].try_into().unwrap());
            tree.set(id, Some(leaf(u64::from(i) + 1, u64::from(i) % 3 + 1, &[i, i])));
        }
        let id = |first: [u8; 2], rest: u8, last: u8| {
            let mut id = [rest; 16];
            (id[0], id[1], id[15]) = (first[0], first[1], last);
            ObjectId(id)
        };
        // Two in the last bucket, and one on each side of the first boundary between buckets.
        tree.set(id([0xff, 0xff], 0xff, 0xff), Some(leaf(1 << 40, 9, b"")));
        tree.set(id([0xff, 0xff], 0xff, 0x00), Some(leaf(1, 1, b"")));
        tree.set(id([0x00, 0x3f], 0x01, 0x01), Some(leaf(1, 1, b"a")));
        tree.set(id([0x00, 0x40], 0x01, 0x01), Some(leaf(1, 1, b"a")));
        assert_eq!(tree.root().to_string(), "48619706465f07651300b8b8201cd223d638aa33f1cd832e8a6736b024e45922");
        assert_eq!(tree.len(), 9);
        let ids: Vec<ObjectId> = tree.iter().map(|(id, _)| *id).collect();
        for id in ids {
            assert!(tree.get(&id).is_some() && tree.set(id, None).is_some() && tree.set(id, None).is_none());
        }
        assert!(tree.is_empty() && tree.root().to_string() == empty);
    }

    #[test]
    fn only_buckets_that_changed_are_hashed_anew() {
        let mut tree = RecordTree::new();
        for first in 0..=255 {
            tree.set(ObjectId([first; 16]), Some(leaf(1, 1, b"")));
        }
        tree.root();
        let unknown = |tree: &RecordTree| tree.buckets.iter().filter(|bucket| bucket.hash.get().is_none()).count();
        assert_eq!(unknown(&tree), 0);
        tree.set(ObjectId([7; 16]), Some(leaf(1, 1, b"")));
        assert_eq!(unknown(&tree), 0, "what is as it was costs nothing");
        tree.set(ObjectId([7; 16]), Some(leaf(2, 1, b"")));
        tree.set(ObjectId([8; 16]), None);
        assert_eq!(unknown(&tree), 2);
    }

    #[test]
    fn a_leaf_is_about_its_box() {
        assert_eq!(RecordLeaf::of(2, 3, &Sealed(b"box".to_vec())), leaf(2, 3, b"box"));
    }

    /// Computes the root from scratch, without the cache.
    fn naive(leaves: &BTreeMap<ObjectId, RecordLeaf>) -> Hash {
        let mut all = b"guillemet root 1\0".to_vec();
        for number in 0..1024_u16 {
            let mut bytes = b"guillemet bucket 1\0".to_vec();
            bytes.extend(number.to_le_bytes());
            for (id, leaf) in leaves {
                if u16::from(id.0[0]) * 4 + u16::from(id.0[1] / 64) == number {
                    bytes.extend(id.0.iter().chain(&leaf.revision.to_le_bytes()).chain(&leaf.epoch.to_le_bytes()));
                    bytes.extend(leaf.hash.0);
                }
            }
            all.extend(Hash::of(&[&bytes]).0);
        }
        Hash::of(&[&all])
    }

    /// Generates changes of few ids, so that they share buckets and affect each other.
    fn changes() -> impl Strategy<Value = Vec<(ObjectId, Option<RecordLeaf>)>> {
        let id = (0..4_u8, 0..4_u8, 0..2_u8).prop_map(|(first, second, last)| {
            let mut id = [0; 16];
            (id[0], id[1], id[15]) = (first, second << 6, last);
            ObjectId(id)
        });
        let leaf = (1..4_u64, 1..3_u64, any::<u8>()).prop_map(|(revision, epoch, of)| leaf(revision, epoch, &[of]));
        proptest::collection::vec((id, proptest::option::weighted(0.7, leaf)), 0..20)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_root_is_that_of_a_naive_computation(steps in proptest::collection::vec(changes(), 1..4)) {
            let (mut tree, mut plain) = (RecordTree::new(), BTreeMap::new());
            for step in steps {
                let before = (tree.root(), tree.len());
                let foreseen = tree.with(&step);
                prop_assert_eq!((tree.root(), tree.len()), before);
                for (id, leaf) in step {
                    prop_assert_eq!(tree.set(id, leaf), change(&mut plain, id, leaf));
                    prop_assert_eq!(tree.get(&id), plain.get(&id));
                }
                // This also covers buckets that are not hashed yet.
                prop_assert_eq!(tree.with(&[]), foreseen);
                prop_assert_eq!((tree.root(), tree.len()), (naive(&plain), plain.len()));
                prop_assert_eq!(foreseen, tree.root());
                prop_assert!(tree.iter().eq(&plain));
            }
        }
    }
}
