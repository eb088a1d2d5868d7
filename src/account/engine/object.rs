//! What stands in the box of a record: a secret, a deleted one, or the references of a device.

use std::sync::Arc;

use super::holdings::Deleted;
use super::references::References;
use crate::account::wire::DeviceId;
use crate::sys::memory::Clear;
use crate::vault::record::{Malformed, Reader, Secret};

const SECRET: u8 = 1;
const DELETED: u8 = 2;
const REFERENCES: u8 = 3;

/// One object.
pub enum Object {
    /// A secret.
    Secret(Arc<Secret>),
    /// A secret that was deleted, with what it takes to bring it back.
    Deleted(Arc<Deleted>),
    /// What a device references.
    References(Arc<References>),
}

impl Object {
    /// Returns the bytes that are sealed.
    ///
    /// # Errors
    /// When references cannot be serialized.
    pub fn encode(&self) -> Result<Clear, serde_json::Error> {
        let mut out = Clear::with_capacity(2048);
        match self {
            Self::Secret(secret) => {
                out.push(SECRET);
                out.extend_from_slice(&secret.encode());
            }
            Self::Deleted(deleted) => {
                out.push(DELETED);
                out.extend_from_slice(&deleted.seq.to_le_bytes());
                out.extend_from_slice(&deleted.at.to_le_bytes());
                out.extend_from_slice(&deleted.by.0);
                out.extend_from_slice(&deleted.secret.encode());
            }
            Self::References(references) => {
                out.push(REFERENCES);
                out.extend_from_slice(&serde_json::to_vec(&**references)?);
            }
        }
        Ok(out)
    }

    /// Reads what `encode` wrote.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        match reader.array::<1>()? {
            [SECRET] => Ok(Self::Secret(Arc::new(Secret::decode(reader.take_rest(), 1)?))),
            [DELETED] => {
                let (seq, at, by) = (reader.number()?, reader.number()?, DeviceId(reader.array()?));
                let secret = Arc::new(Secret::decode(reader.take_rest(), 1)?);
                Ok(Self::Deleted(Arc::new(Deleted { seq, at, by, secret })))
            }
            [REFERENCES] => {
                let references = serde_json::from_slice(reader.take_rest()).map_err(|_| Malformed::Damaged)?;
                Ok(Self::References(Arc::new(references)))
            }
            [0] => Err(Malformed::Damaged),
            _ => Err(Malformed::Newer),
        }
    }
}
