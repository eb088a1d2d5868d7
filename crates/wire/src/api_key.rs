//! The API key of a device, `sk-ID.SECRET`. The server keeps only its hash; the device alone has the whole key.
//!
//! Knows no request and no storage.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use zeroize::{Zeroize, Zeroizing};

use crate::{DeviceId, DeviceKey, Hash};
use guillemet_base::random::random;

/// The prefix of every key.
const PREFIX: &str = "sk-";
/// The length of the id, in characters.
pub(super) const ID_LEN: usize = 8;
/// The length of the secret, in bytes.
pub(super) const SECRET_LEN: usize = 32;
/// The characters an id consists of.
const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// An API key. It is wiped when dropped, and cannot be printed, copied or serialized.
pub struct ApiKey(Zeroizing<String>);

/// The error for a text that is not an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an API key is sk-, 8 lower-case letters or digits, a dot and 43 characters; copy the whole key again")]
pub struct NotAnApiKey;

impl ApiKey {
    /// Generates a new random key.
    pub fn random() -> Self {
        let mut secret = random::<SECRET_LEN>();
        let key = Self::assemble(&random_id(), &secret);
        secret.zeroize();
        key
    }

    /// Reads a key from its text form.
    ///
    /// # Errors
    /// [`NotAnApiKey`] if the text is anything else.
    pub fn parse(text: &str) -> Result<Self, NotAnApiKey> {
        let (id, secret) = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('.')).ok_or(NotAnApiKey)?;
        let bytes = BASE64URL_NOPAD.decode(secret.as_bytes()).map(Zeroizing::new).map_err(|_| NotAnApiKey)?;
        if !is_id(id) || bytes.len() != SECRET_LEN {
            return Err(NotAnApiKey);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// Assembles a key from its two parts. Returns `None` if the first is not a valid id.
    pub fn from_parts(id: &[u8; ID_LEN], secret: &[u8; SECRET_LEN]) -> Option<Self> {
        std::str::from_utf8(id).ok().filter(|id| is_id(id)).map(|id| Self::assemble(id, secret))
    }

    fn assemble(id: &str, secret: &[u8; SECRET_LEN]) -> Self {
        let secret = Zeroizing::new(BASE64URL_NOPAD.encode(secret));
        Self(Zeroizing::new(format!("{PREFIX}{id}.{}", *secret)))
    }

    /// Returns the whole key, to be sent as `X-API-Key`.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns the id of the key, by which the server finds it.
    pub fn id(&self) -> &str {
        &self.0[PREFIX.len()..PREFIX.len() + ID_LEN]
    }

    /// Returns the bytes of the secret.
    pub fn secret(&self) -> Zeroizing<Vec<u8>> {
        let text = &self.0.as_bytes()[PREFIX.len() + ID_LEN + 1..];
        // The text was valid base64url when the key was made.
        Zeroizing::new(BASE64URL_NOPAD.decode(text).unwrap_or_default())
    }

    /// Returns the SHA-256 of the whole key, which is all that the server keeps.
    pub fn hash(&self) -> Hash {
        Hash::of(&[self.0.as_bytes()])
    }

    /// Returns the form of this key that the server is given.
    pub fn device_key(&self, device: DeviceId) -> DeviceKey {
        DeviceKey { device, key_id: self.id().to_owned(), key_hash: self.hash() }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// Returns whether a text can be the id of a key.
pub fn is_id(text: &str) -> bool {
    text.len() == ID_LEN && text.bytes().all(|byte| LETTERS.contains(&byte))
}

/// Generates a random id in which every character is equally likely: bytes from the last multiple of 36 upwards are
/// drawn again.
fn random_id() -> String {
    let mut id = String::with_capacity(ID_LEN);
    while id.len() < ID_LEN {
        let [byte] = random::<1>();
        if usize::from(byte) < 256 / LETTERS.len() * LETTERS.len() {
            id.push(char::from(LETTERS[usize::from(byte) % LETTERS.len()]));
        }
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "sk-ab12cd34.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

    /// The hash is what `hashlib.sha256(TEXT).hexdigest()` returns in Python.
    #[test]
    fn a_key_is_known_by_its_id_and_hash() {
        let key = ApiKey::parse(TEXT).unwrap();
        assert_eq!((key.expose(), key.id()), (TEXT, "ab12cd34"));
        assert_eq!(key.secret()[..], std::array::from_fn::<u8, 32, _>(|index| index as u8));
        assert_eq!(key.hash().to_string(), "70bbe665bd3d2badb5782ca0c04e7fe40527a59d156e025bd123cf80aabc00d0");
        let device_key = key.device_key(DeviceId([7; 16]));
        assert_eq!(
            (device_key.device, device_key.key_id.as_str(), device_key.key_hash),
            (DeviceId([7; 16]), "ab12cd34", key.hash())
        );
    }

    #[test]
    fn random_keys_are_keys_and_differ() {
        let (one, other) = (ApiKey::random(), ApiKey::random());
        assert!(one.expose() != other.expose() && one.id() != other.id());
        assert_eq!(ApiKey::parse(one.expose()).unwrap().expose(), one.expose());
        let id = one.id().as_bytes().try_into().unwrap();
        let secret = one.secret();
        assert_eq!(ApiKey::from_parts(id, secret.as_slice().try_into().unwrap()).unwrap().expose(), one.expose());
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "sk-",
            &TEXT[3..],
            &TEXT[..TEXT.len() - 1],
            &format!("{TEXT}A"),
            &format!("{TEXT}="),
            &format!(" {TEXT}"),
            &TEXT.replace("ab12", "aB12"),
            &TEXT.replace("ab12", "ä12"),
            &TEXT.replace("ab12", "ab1"),
            &TEXT.replace('.', "-"),
            &TEXT.replace("Hh8", "Hh9"),
            &TEXT.replace("AAEC", "AA+C"),
        ] {
            assert_eq!(ApiKey::parse(text).unwrap_err(), NotAnApiKey, "{text}");
        }
    }

    #[test]
    fn a_key_is_never_printed() {
        assert_eq!(format!("{:?}", ApiKey::parse(TEXT).unwrap()), "ApiKey(…)");
    }
}
