//! Intents: changes that a user wants. An intent is derived from a secret before and after an edit, kept until the
//! account has it, and applied to the account as it is by then.
//!
//! Layout of a stored intent, integers little-endian: version of the layout (1 byte), id (16), secret (16), time (8),
//! kind (1), then the fields of that kind, then zeros up to the padded length.
//!
//! Knows no key and no head.

use std::sync::Arc;

use guillemet_base::names::{Millis, SecretId, SecretName};
use guillemet_base::random::random;
use guillemet_base::sys::memory::Clear;
use guillemet_secret::record::{Malformed, RecordReader, Secret, Version, pad, put_text};
use guillemet_wire::IntentId;

const LAYOUT: u8 = 1;

/// One change of one secret.
#[derive(Clone, Debug)]
pub struct Intent {
    /// The id of the intent. It makes sure that the intent is applied only once.
    pub id: IntentId,
    /// The secret to change.
    pub secret: SecretId,
    /// The time at which the user made the change.
    pub at: Millis,
    /// The change to make.
    pub change: IntentChange,
}

/// The kinds of changes.
#[derive(Clone, Debug)]
pub enum IntentChange {
    /// Creates this secret, which is new.
    Create(Arc<Secret>),
    /// Sets a new value. Its version number is determined when the intent is applied.
    Value(Version),
    /// Renames the secret; its present name becomes a former name.
    Rename(SecretName),
    /// Sets whether the secret can be resolved.
    Enable(bool),
    /// Removes a former name.
    Forget(SecretName),
    /// Deletes the secret. Never stored: it is made together with the push that carries it.
    Delete,
}

impl Intent {
    /// Makes an intent with a new random id.
    pub fn new(secret: SecretId, at: Millis, change: IntentChange) -> Self {
        Self { id: IntentId(random()), secret, at, change }
    }

    /// Returns the intents that lead from one form of a secret to the next; `before` is `None` for a new secret.
    /// Changes of names come first, because another secret may be waiting for a name that is let go.
    pub fn between(before: Option<&Secret>, after: &Arc<Secret>) -> Vec<Self> {
        let intent = |change| Self::new(after.id, after.updated_at, change);
        let Some(before) = before else {
            return vec![intent(IntentChange::Create(Arc::clone(after)))];
        };
        let mut changes = Vec::new();
        if before.name.as_str() != after.name.as_str() {
            changes.push(IntentChange::Rename(after.name.clone()));
        }
        let forgotten = before.former_names.iter().filter(|name| !after.former_names.contains(name));
        changes.extend(forgotten.filter(|name| **name != after.name).cloned().map(IntentChange::Forget));
        if before.current().id != after.current().id {
            changes.push(IntentChange::Value(after.current().clone()));
        }
        if before.enabled != after.enabled {
            changes.push(IntentChange::Enable(after.enabled));
        }
        changes.into_iter().map(intent).collect()
    }

    /// Encodes the intent for storage. The caller seals the result.
    pub fn encode(&self) -> Clear {
        let mut out = Clear::with_capacity(1024);
        out.push(LAYOUT);
        out.extend_from_slice(&self.id.0);
        out.extend_from_slice(&self.secret.0);
        out.extend_from_slice(&self.at.to_le_bytes());
        match &self.change {
            IntentChange::Create(secret) => {
                out.push(1);
                out.extend_from_slice(&secret.encode());
            }
            IntentChange::Value(version) => {
                out.push(2);
                version.encode(&mut out);
            }
            IntentChange::Rename(name) => {
                out.push(3);
                put_text(&mut out, name.as_str());
            }
            IntentChange::Enable(enabled) => out.extend_from_slice(&[4, u8::from(*enabled)]),
            IntentChange::Forget(name) => {
                out.push(5);
                put_text(&mut out, name.as_str());
            }
            IntentChange::Delete => out.push(6),
        }
        pad(&mut out);
        out
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`Malformed::Newer`] if a newer version wrote it, [`Malformed::Damaged`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = RecordReader::new(bytes);
        match reader.array::<1>()? {
            [LAYOUT] => {}
            [0] => return Err(Malformed::Damaged),
            _ => return Err(Malformed::Newer),
        }
        let (id, secret, at) = (IntentId(reader.array()?), SecretId(reader.array()?), reader.number()?);
        let change = match reader.array::<1>()? {
            [1] => {
                let created = Secret::decode(reader.take_rest(), 1)?;
                if created.id != secret {
                    return Err(Malformed::Damaged);
                }
                IntentChange::Create(Arc::new(created))
            }
            [2] => IntentChange::Value(Version::decode(&mut reader)?),
            [3] => IntentChange::Rename(reader.name()?),
            [4] => match reader.array::<1>()? {
                [0] => IntentChange::Enable(false),
                [1] => IntentChange::Enable(true),
                _ => return Err(Malformed::Damaged),
            },
            [5] => IntentChange::Forget(reader.name()?),
            [6] => IntentChange::Delete,
            _ => return Err(Malformed::Damaged),
        };
        reader.expect_end()?;
        Ok(Self { id, secret, at, change })
    }
}
