//! The form of the engine on disk, and the way back from it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::object::Object;
use super::pull::insert_object;
use super::*;
use crate::seal::BoxKind;
use guillemet_secret::crypto::Key;

/// Everything of an engine except records, secrets and intents. It contains keys, so the caller has to seal it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredEngine {
    account: AccountId,
    device: DeviceId,
    secret: KeyBytes,
    keys: BTreeMap<u64, KeyBytes>,
    head: Head,
    hash: Hash,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    anchor: Option<HeadRef>,
    sent: Vec<HeadRef>,
    past: VecDeque<HeadRef>,
}

/// A key in its form on disk. The allocator wipes what is freed.
#[derive(Clone)]
struct KeyBytes(Zeroizing<[u8; 32]>);

impl Serialize for KeyBytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(data_encoding::HEXLOWER.encode(&*self.0)))
    }
}

impl<'de> Deserialize<'de> for KeyBytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok().map(Zeroizing::new);
        let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok());
        bytes.map(|bytes| Self(Zeroizing::new(bytes))).ok_or_else(|| serde::de::Error::custom("no key"))
    }
}

/// The error for an engine on disk whose parts do not belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this device's account data is damaged: {0}")]
pub struct StoredStateError(&'static str);

impl Engine {
    /// Returns the state that has to be written to disk with every update, and before a push is sent.
    pub fn to_stored(&self) -> StoredEngine {
        let bytes = |key: &[u8; 32]| KeyBytes(Zeroizing::new(*key));
        StoredEngine {
            account: self.me.account,
            device: self.me.device,
            secret: bytes(&self.me.secret.expose()),
            keys: self.keys.iter().map(|(epoch, key)| (*epoch, bytes(key.key().expose()))).collect(),
            head: self.head.clone(),
            hash: self.hash,
            anchor: self.anchor,
            sent: self.sent.clone(),
            past: self.past.clone(),
        }
    }

    /// Makes the engine again from its memory, its records, the secrets of the vault, and the stored intents, oldest
    /// first. The update contains the corrections that the vault needs.
    ///
    /// # Errors
    /// [`StoredStateError`] if records are missing, changed, or cannot be opened.
    pub fn load(
        memory: StoredEngine,
        records: Vec<(ObjectId, RecordLeaf, Sealed)>,
        secrets: &[Arc<Secret>],
        intents: Vec<Intent>,
        former_versions: usize,
    ) -> Result<(Self, Update), StoredStateError> {
        let mut keys = BTreeMap::new();
        for (epoch, mut bytes) in memory.keys {
            keys.insert(epoch, Arc::new(EpochKey::new(epoch, Key::from_bytes(&mut bytes.0))));
        }
        let mut secret = memory.secret;
        let secret = DeviceSecret::from_bytes(&mut secret.0);
        let (mut tree, mut base, mut view) = (RecordTree::new(), Replica::default(), Replica::default());
        for (id, leaf, sealed) in records {
            if leaf != RecordLeaf::of(leaf.revision, leaf.epoch, &sealed) {
                return Err(StoredStateError("a record was changed"));
            }
            let key = keys.get(&leaf.epoch).ok_or(StoredStateError("a key is missing"))?;
            let plaintext = key.open(BoxKind::Record, memory.account, id.0, leaf.revision, &sealed);
            let plaintext = plaintext.map_err(|_| StoredStateError("a record cannot be decrypted"))?;
            let object = Object::decode(&plaintext).map_err(|_| StoredStateError("a record cannot be read"))?;
            insert_object(&mut base, &memory.head, id, object)
                .map_err(|_| StoredStateError("a record does not match its description"))?;
            tree.set(id, Some(leaf));
        }
        let is_known = memory.head.by != DeviceId::default();
        if is_known && tree.root() != memory.head.root {
            return Err(StoredStateError("records were removed from it or restored"));
        }
        for secret in secrets {
            view.put(Arc::clone(secret));
        }
        let mut engine = Self {
            me: DeviceIdentity { account: memory.account, device: memory.device, secret },
            keys,
            head: memory.head,
            hash: memory.hash,
            anchor: memory.anchor,
            tree,
            base: Replica::default(),
            differing: secrets.iter().map(|secret| secret.id).collect::<BTreeSet<_>>(),
            view,
            pending: intents.into_iter().map(Arc::new).collect(),
            sent: memory.sent,
            past: memory.past,
            reported: HashMap::new(),
            former_versions,
        };
        let update = engine.replace_base(base, &HashSet::new());
        Ok((engine, update))
    }
}
