//! What somebody wants changed: made from a secret before and after, kept until the account has it, applied to
//! whatever the account has become meanwhile.
//!
//! Layout of a kept one, integers little-endian: version of the layout (1 byte), id (16), secret (16), when
//! (8), kind (1), then what the kind needs; zeros up to the padded length.

use std::sync::Arc;

use super::wire::IntentId;
use crate::names::{Millis, SecretId, SecretName};
use crate::random::random;
use crate::sys::memory::Clear;
use crate::vault::record::{Malformed, Reader, Secret, Version, pad, put_text};

const LAYOUT: u8 = 1;

/// One change of one secret.
#[derive(Clone, Debug)]
pub struct Intent {
    /// Names it, so that it is applied once.
    pub id: IntentId,
    /// Which secret.
    pub secret: SecretId,
    /// When it was wanted.
    pub at: Millis,
    /// What.
    pub change: Change,
}

/// What is to be different.
#[derive(Clone, Debug)]
pub enum Change {
    /// The secret is new.
    Create(Arc<Secret>),
    /// A new value; its number is worked out anew.
    Value(Version),
    /// Another name; the one it had becomes a former one.
    Rename(SecretName),
    /// Whether it may be resolved.
    Enable(bool),
    /// A former name is let go.
    Forget(SecretName),
    /// It is deleted. Never kept: it is made with the push that carries it.
    Delete,
}

impl Intent {
    /// A fresh one.
    pub fn new(secret: SecretId, at: Millis, change: Change) -> Self {
        Self { id: IntentId(random()), secret, at, change }
    }

    /// What leads from one form of a secret to the next. Names are let go first: another may be waiting for one.
    pub fn between(before: Option<&Secret>, after: &Arc<Secret>) -> Vec<Self> {
        let intent = |change| Self::new(after.id, after.updated_at, change);
        let Some(before) = before else {
            return vec![intent(Change::Create(Arc::clone(after)))];
        };
        let mut changes = Vec::new();
        if before.name.as_str() != after.name.as_str() {
            changes.push(Change::Rename(after.name.clone()));
        }
        let forgotten = before.former_names.iter().filter(|name| !after.former_names.contains(name));
        changes.extend(forgotten.filter(|name| **name != after.name).cloned().map(Change::Forget));
        if before.current().id != after.current().id {
            changes.push(Change::Value(after.current().clone()));
        }
        if before.enabled != after.enabled {
            changes.push(Change::Enable(after.enabled));
        }
        changes.into_iter().map(intent).collect()
    }

    /// As it is kept; the caller seals it.
    pub fn encode(&self) -> Clear {
        let mut out = Clear::with_capacity(1024);
        out.push(LAYOUT);
        out.extend_from_slice(&self.id.0);
        out.extend_from_slice(&self.secret.0);
        out.extend_from_slice(&self.at.to_le_bytes());
        match &self.change {
            Change::Create(secret) => {
                out.push(1);
                out.extend_from_slice(&secret.encode());
            }
            Change::Value(version) => {
                out.push(2);
                version.encode(&mut out);
            }
            Change::Rename(name) => {
                out.push(3);
                put_text(&mut out, name.as_str());
            }
            Change::Enable(enabled) => out.extend_from_slice(&[4, u8::from(*enabled)]),
            Change::Forget(name) => {
                out.push(5);
                put_text(&mut out, name.as_str());
            }
            Change::Delete => out.push(6),
        }
        pad(&mut out);
        out
    }

    /// Reads what `encode` wrote.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        match reader.array::<1>()? {
            [LAYOUT] => {}
            [0] => return Err(Malformed::Damaged),
            _ => return Err(Malformed::Newer),
        }
        let (id, secret, at) = (IntentId(reader.array()?), SecretId(reader.array()?), reader.number()?);
        let change = match reader.array::<1>()? {
            [1] => {
                let made = Secret::decode(reader.take_rest(), 1)?;
                if made.id != secret {
                    return Err(Malformed::Damaged);
                }
                Change::Create(Arc::new(made))
            }
            [2] => Change::Value(Version::decode(&mut reader)?),
            [3] => Change::Rename(reader.name()?),
            [4] => match reader.array::<1>()? {
                [0] => Change::Enable(false),
                [1] => Change::Enable(true),
                _ => return Err(Malformed::Damaged),
            },
            [5] => Change::Forget(reader.name()?),
            [6] => Change::Delete,
            _ => return Err(Malformed::Damaged),
        };
        reader.ends()?;
        Ok(Self { id, secret, at, change })
    }
}
