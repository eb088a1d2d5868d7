//! What travels between a device and the account's server, as JSON. docs/account-protocol.md says what is in
//! the boxes; openapi-account.yaml describes the requests.
//!
//! Knows no key: everything in here is known to the server.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

/// Most records of one push, and of one page of changes.
pub const RECORDS_MAX: usize = 1000;
/// The largest box, in bytes: a secret with as many former versions as can be kept, each as large as can be.
pub const BOX_MAX: usize = 8 << 20;
/// The largest body of a request, in bytes.
pub const BODY_MAX: usize = 16 << 20;
/// How long an invitation is good, in seconds.
pub const INVITE_SECONDS: u64 = 600;

/// Bytes written as hexadecimal digits.
macro_rules! hexadecimal {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name(pub [u8; $len]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = NotHexadecimal;

            fn from_str(text: &str) -> Result<Self, NotHexadecimal> {
                let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| NotHexadecimal($len * 2))?;
                bytes.try_into().map(Self).map_err(|_| NotHexadecimal($len * 2))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

/// Why a text is no id or hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} hexadecimal digits in lower case are expected")]
pub struct NotHexadecimal(usize);

hexadecimal!(
    /// Names an account.
    AccountId,
    16
);
hexadecimal!(
    /// Names a device.
    DeviceId,
    16
);
hexadecimal!(
    /// Names a record: a secret's own id, or a random one.
    ObjectId,
    16
);
hexadecimal!(
    /// Names an intent.
    IntentId,
    16
);
hexadecimal!(
    /// A SHA-256.
    Hash,
    32
);
hexadecimal!(
    /// An X25519 public key.
    PublicKey,
    32
);

impl Hash {
    /// Of these parts, one after the other.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }
}

/// A sealed box, written as base64.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Sealed(pub Vec<u8>);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

impl Serialize for Sealed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        BASE64.decode(text.as_bytes()).map(Self).map_err(|_| de::Error::custom("base64 is expected"))
    }
}

/// A head as the server has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedHead {
    /// Its number, from 1.
    pub seq: u64,
    /// The epoch it is sealed in.
    pub epoch: u64,
    /// The hash of the head before; zeros for the first.
    pub prev: Hash,
    /// The box.
    #[serde(rename = "box")]
    pub sealed: Sealed,
}

impl SealedHead {
    /// What names this head: everything the server can see of it, and the box.
    pub fn hash(&self, account: AccountId) -> Hash {
        let sealed = Hash::of(&[&self.sealed.0]);
        let (seq, epoch) = (self.seq.to_le_bytes(), self.epoch.to_le_bytes());
        Hash::of(&[b"guillemet head 1\0", &account.0, &seq, &epoch, &self.prev.0, &sealed.0])
    }
}

/// A record as it is pushed. Without a box it is removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedRecord {
    /// Which object.
    pub id: ObjectId,
    /// Rises with each change of it.
    pub revision: u64,
    /// The epoch it is sealed in.
    pub epoch: u64,
    /// The box; `None` for an object that is no more.
    #[serde(rename = "box", default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Sealed>,
}

/// A record as it is pulled: with the head that changed it last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangedRecord {
    /// The seq of that head.
    pub seq: u64,
    /// The record.
    pub record: SealedRecord,
}

/// The key of an epoch for one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wrap {
    /// For whom.
    pub device: DeviceId,
    /// Of which epoch.
    pub epoch: u64,
    /// By whom.
    pub sender: DeviceId,
    /// The crypto_box.
    #[serde(rename = "box")]
    pub sealed: Sealed,
}

/// The key of the epoch before, sealed in this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// In which it is sealed.
    pub epoch: u64,
    /// The box.
    #[serde(rename = "box")]
    pub sealed: Sealed,
}

/// The API key of a device, as the server knows it: `sk-{id}.{secret}` is shown to nobody but its device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceKey {
    /// Whose.
    pub device: DeviceId,
    /// What stands before the dot, without `sk-`: 8 lower-case letters or digits.
    pub key_id: String,
    /// The SHA-256 of the whole key, `sk-…` included.
    pub key_hash: Hash,
}

/// `POST /v1/accounts/{id}/heads`: one transaction, accepted only on the head that `If-Match` names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Push {
    /// The new head.
    pub head: SealedHead,
    /// What changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<SealedRecord>,
    /// Keys of the new head's epoch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wraps: Vec<Wrap>,
    /// The former epoch's key, where the epoch is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<Link>,
    /// API keys that are good from now on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<DeviceKey>,
    /// Devices that had asked to join and are in the account now: their API keys are good from now on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub admitted: Vec<DeviceId>,
    /// Devices whose API keys end now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revoked: Vec<DeviceId>,
}

/// The answer to a push: which head is the newest now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Newest {
    /// Its number.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
}

/// Where a pull goes on: `GET /v1/accounts/{id}/changes?heads_after&records_after&after_id&limit`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// Heads with a higher seq are wanted.
    pub heads_after: u64,
    /// Records that were changed by a head with a higher seq are wanted…
    pub records_after: u64,
    /// …or by the next one, with a higher id than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_id: Option<ObjectId>,
}

/// A page of changes: the newest form of each record that changed, by (seq, id), and every head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changes {
    /// The newest head when the page was read; absent in an account without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Newest>,
    /// In order, without a gap.
    pub heads: Vec<SealedHead>,
    /// In order of (seq, id).
    pub records: Vec<ChangedRecord>,
    /// Those for the device that asks, of the epochs of these heads.
    pub wraps: Vec<Wrap>,
    /// Of every epoch of the account, in order.
    pub links: Vec<Link>,
    /// Where the next page begins; absent when this is the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Cursor>,
}

/// `POST /v1/accounts/{id}/invites`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invite {
    /// The SHA-256 of the token that a device shows once, within `expires_in` seconds.
    pub token_hash: Hash,
    /// At most `INVITE_SECONDS`.
    pub expires_in: u64,
}

/// `POST /v1/accounts/{id}/enrolments`, with the token in `X-Enrolment-Token`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// Who wants to join, and with which API key: good for nothing but its wrap until it is admitted.
    pub key: DeviceKey,
    /// Its public key.
    pub public_key: PublicKey,
    /// The HMAC under the invitation's secret.
    pub mac: Hash,
    /// Its name, sealed under the same secret.
    pub name: Sealed,
}

/// `PUT /v1/accounts/{id}/usage`: what was resolved on one device. The server keeps the highest counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Whose.
    pub device: DeviceId,
    /// Rises with each document.
    pub counter: u64,
    /// The epoch it is sealed in.
    pub epoch: u64,
    /// The box.
    #[serde(rename = "box")]
    pub sealed: Sealed,
}

/// A listing, as everywhere in the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listing<T> {
    /// How many there are.
    pub count: usize,
    /// Some of them.
    pub items: Vec<T>,
}

/// What a stream of `GET /v1/accounts/{id}/events` tells, as `event: …` with JSON in `data:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "event")]
pub enum Told {
    /// There is a newer head. Also told first, when the stream begins.
    Head {
        /// Its seq; 0 where there is none.
        seq: u64,
    },
    /// A device wants to join.
    Enrolment,
    /// A device has told its usage.
    Usage,
}

/// What a device asks first: `GET /v1/accounts/current`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Current {
    /// The account of the API key.
    pub id: AccountId,
    /// Its device; absent for the key an account is created with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// Whether the device has been admitted.
    pub admitted: bool,
}
