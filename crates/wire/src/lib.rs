//! The types that travel between a device and the account server, as JSON. docs/account-protocol.md specifies what is
//! in the boxes; openapi-account.yaml describes the requests.
//!
//! Knows no encryption key. The server sees everything in here but API keys, of which it keeps only the hash.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod api_key;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

/// The most records in one push, and in one page of changes.
pub const RECORDS_MAX: usize = 1000;
/// The largest box, in bytes. It fits a secret of the largest size with as many former versions as can be kept.
pub const BOX_MAX: usize = 8 << 20;
/// The largest body of a request, in bytes.
pub const BODY_MAX: usize = 16 << 20;
/// The longest time for which an invitation can be used, in seconds.
pub const INVITE_SECONDS: u64 = 600;

/// The body of every response with an error status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The kind of the error, for programs, such as `not_found`.
    pub code: Cow<'static, str>,
    /// What is wrong and what to do about it, for people.
    pub message: String,
    /// More about it; with `precondition_failed`, the newest head as JSON. Absent if there is nothing to add.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Everything that is wrong with the request; absent if the message says it all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ErrorEntry>,
}

/// One of the things that are wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorEntry {
    /// The field or parameter; empty if there is none.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// Defines a type for a fixed number of bytes that is written as lower-case hexadecimal digits.
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

/// The error for a text that is not an id or hash. Holds the number of digits expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be {0} lower-case hexadecimal digits")]
pub struct NotHexadecimal(usize);

hexadecimal!(
    /// The id of an account: 16 random bytes.
    AccountId,
    16
);
hexadecimal!(
    /// The id of a device: 16 random bytes.
    DeviceId,
    16
);
hexadecimal!(
    /// The id of a record: a secret's own id, or a random one.
    ObjectId,
    16
);
hexadecimal!(
    /// The id of an intent: 16 random bytes.
    IntentId,
    16
);
hexadecimal!(
    /// A SHA-256 hash: 32 bytes.
    Hash,
    32
);
hexadecimal!(
    /// An X25519 public key.
    PublicKey,
    32
);

impl Hash {
    /// Hashes these parts, one after the other, without separators.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }
}

/// A sealed box. Written as padded base64 in JSON.
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
        BASE64.decode(text.as_bytes()).map(Self).map_err(|_| de::Error::custom("must be base64"))
    }
}

/// A head as the server has it: sealed, with the fields that the server needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedHead {
    /// The number of the head, counted from 1.
    pub seq: u64,
    /// The epoch the head is sealed in.
    pub epoch: u64,
    /// The hash of the head before; all zeros for the first.
    pub prev: Hash,
    /// The box with the plaintext of the head (`engine::Head`).
    #[serde(rename = "box")]
    pub sealed: Sealed,
}

impl SealedHead {
    /// Returns the hash that names this head. It covers the account, everything outside the box, and the box.
    pub fn hash(&self, account: AccountId) -> Hash {
        let sealed = Hash::of(&[&self.sealed.0]);
        let (seq, epoch) = (self.seq.to_le_bytes(), self.epoch.to_le_bytes());
        Hash::of(&[b"guillemet head 1\0", &account.0, &seq, &epoch, &self.prev.0, &sealed.0])
    }
}

/// A record as it is pushed. Without a box, the record is removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedRecord {
    /// The id of the object in this record.
    pub id: ObjectId,
    /// The revision of the object, which rises with each change of it.
    pub revision: u64,
    /// The epoch the record is sealed in.
    pub epoch: u64,
    /// The box with the object; `None` if the object has been removed.
    #[serde(rename = "box", default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Sealed>,
}

/// A record as it is pulled, with the head that changed it last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangedRecord {
    /// The `seq` of the head that changed the record last.
    pub seq: u64,
    /// The record itself, in its newest form.
    pub record: SealedRecord,
}

/// The key of an epoch, wrapped for one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wrap {
    /// The device that can open the box.
    pub device: DeviceId,
    /// The epoch whose key is inside.
    pub epoch: u64,
    /// The device that wrapped the key.
    pub sender: DeviceId,
    /// The `crypto_box`, nonce first.
    #[serde(rename = "box")]
    pub sealed: Sealed,
}

/// The key of the epoch before, sealed under the key of this epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochLink {
    /// The epoch whose key seals the box.
    pub epoch: u64,
    /// The box with the key of epoch `epoch - 1`.
    #[serde(rename = "box")]
    pub sealed: Sealed,
}

/// The API key of a device as the server knows it. Only the device itself has the whole key, `sk-{id}.{secret}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceKey {
    /// The device that the key belongs to.
    pub device: DeviceId,
    /// The part of the key between `sk-` and the dot: 8 lower-case letters or digits.
    pub key_id: String,
    /// The SHA-256 of the whole key, `sk-` included.
    pub key_hash: Hash,
}

/// The body of `POST /v1/accounts/{id}/heads`: one transaction, accepted only on the head that `If-Match` names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Push {
    /// The new head of the account.
    pub head: SealedHead,
    /// The records that changed. At most [`RECORDS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<SealedRecord>,
    /// The key of the new head's epoch, wrapped for devices that need it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wraps: Vec<Wrap>,
    /// The key of the former epoch; `None` if this push begins no new epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<EpochLink>,
    /// API keys that are valid from now on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<DeviceKey>,
    /// Devices that asked to join and are now in the account. Their API keys are valid from now on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub admitted: Vec<DeviceId>,
    /// Devices whose API keys end now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revoked: Vec<DeviceId>,
}

/// The newest head. Also the answer to a push.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadRef {
    /// The number of the head.
    pub seq: u64,
    /// The hash of the head ([`SealedHead::hash`]).
    pub hash: Hash,
}

/// The position at which a pull goes on: `GET /v1/accounts/{id}/changes?heads_after&records_after&after_id&limit`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PullCursor {
    /// Asks for heads with a higher `seq` than this.
    pub heads_after: u64,
    /// Asks for records that were changed by a head with a higher `seq` than this.
    pub records_after: u64,
    /// Also asks for records that the head `records_after` itself changed, if their id is higher than this. `None`
    /// leaves those out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_id: Option<ObjectId>,
}

/// A page of changes: every head, and the newest form of each record that changed, ordered by (`seq`, `id`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangesPage {
    /// The newest head at the time the page was read; `None` in an account that has no head yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<HeadRef>,
    /// The heads in order, without a gap.
    pub heads: Vec<SealedHead>,
    /// The records that changed, ordered by (`seq`, `id`).
    pub records: Vec<ChangedRecord>,
    /// The wraps for the device that asks, of the epochs of these heads.
    pub wraps: Vec<Wrap>,
    /// The links of every epoch of the account, in order.
    pub links: Vec<EpochLink>,
    /// The position of the next page; `None` if this is the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<PullCursor>,
}

/// The body of `POST /v1/accounts/{id}/invites`, which registers an invitation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InviteRegistration {
    /// The SHA-256 of the token, which a device can show once within `expires_in` seconds.
    pub token_hash: Hash,
    /// The lifetime of the token in seconds, at most [`INVITE_SECONDS`].
    pub expires_in: u64,
}

/// The body of `POST /v1/accounts/{id}/enrolments`. The token is in the header `X-Enrolment-Token`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// The device that wants to join, and its API key. Until the device is admitted, the key only gets its wrap.
    pub key: DeviceKey,
    /// The X25519 public key of the device.
    pub public_key: PublicKey,
    /// The HMAC under the invitation's secret. docs/account-protocol.md ("Joining") specifies what it covers.
    pub mac: Hash,
    /// The name of the device, sealed under the same secret.
    pub name: Sealed,
}

/// The body of `PUT /v1/accounts/{id}/usage`: the uses on one device. The server keeps the document with the highest
/// counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsageUpload {
    /// The device that reports its uses.
    pub device: DeviceId,
    /// The number of the document, which rises with each one.
    pub counter: u64,
    /// The epoch the document is sealed in.
    pub epoch: u64,
    /// The box with the counts for each secret.
    #[serde(rename = "box")]
    pub sealed: Sealed,
}

/// A listing, in the form that all of the API uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountListing<T> {
    /// The number of items.
    pub count: usize,
    /// The items themselves, all of them.
    pub items: Vec<T>,
}

/// An event in the stream of `GET /v1/accounts/{id}/events`, sent as `event: …` with JSON in `data:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "event")]
pub enum ServerEvent {
    /// There is a newer head. The stream also begins with this event.
    Head {
        /// The number of the newest head; 0 if the account has none.
        seq: u64,
    },
    /// A device asks to join.
    Enrolment,
    /// A device has reported its uses.
    Usage,
}

/// The answer to `GET /v1/accounts/current`: the account and device of the API key that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CurrentDevice {
    /// The account that the API key belongs to.
    pub id: AccountId,
    /// The device that the API key belongs to; `None` for the key that creates an account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// Whether the device has been admitted to the account.
    pub admitted: bool,
}
