//! The plaintext of a record: a secret, a deleted secret, or the references of a device.
//!
//! Knows no key and no head.

use std::sync::Arc;

use super::references::References;
use super::state::Deleted;
use guillemet_base::sys::memory::Clear;
use guillemet_secret::record::{Malformed, RecordReader, Secret};
use guillemet_wire::DeviceId;

const SECRET: u8 = 1;
const DELETED: u8 = 2;
const REFERENCES: u8 = 3;

/// The content of one record.
pub enum Object {
    /// A secret that exists.
    Secret(Arc<Secret>),
    /// A deleted secret, complete, so that it can come back.
    Deleted(Arc<Deleted>),
    /// The references of a device's templates.
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

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`Malformed::Newer`] for a kind that this version does not know, [`Malformed::Damaged`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = RecordReader::new(bytes);
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
