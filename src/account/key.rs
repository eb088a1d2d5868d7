//! The API key of a device: `sk-ID.SECRET`. The server knows its id and its hash; the rest is its device's.
//!
//! Knows neither HTTP nor who has which key.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use zeroize::Zeroizing;

use super::wire::Hash;
use crate::vault::crypto;

/// How long the id is, in characters.
pub const KEY_ID_LEN: usize = 8;
/// The longest key that is looked at.
const KEY_MAX: usize = 256;
/// What an id is written with; 32 of them, so that five random bits are one.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// An API key. It is wiped, and not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(Zeroizing<String>);

/// Why a text is no API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an API key is `sk-`, eight lower-case letters or digits, a dot and a secret; copy it whole")]
pub struct NoApiKey;

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey(sk-{}.…)", self.id())
    }
}

impl FromStr for ApiKey {
    type Err = NoApiKey;

    fn from_str(text: &str) -> Result<Self, NoApiKey> {
        let (id, secret) = text.strip_prefix("sk-").and_then(|rest| rest.split_once('.')).ok_or(NoApiKey)?;
        let fits =
            text.len() <= KEY_MAX && is_id(id) && secret.len() >= 16 && secret.bytes().all(|b| b.is_ascii_graphic());
        if fits { Ok(Self(Zeroizing::new(text.to_owned()))) } else { Err(NoApiKey) }
    }
}

impl ApiKey {
    /// A new one, with 256 random bits.
    pub fn random() -> Self {
        let id: String =
            crypto::random::<KEY_ID_LEN>().iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect();
        let bytes = Zeroizing::new(crypto::random::<32>());
        let secret = Zeroizing::new(BASE64URL_NOPAD.encode(&*bytes));
        Self(Zeroizing::new(format!("sk-{id}.{}", *secret)))
    }

    /// What stands before the dot, without `sk-`.
    pub fn id(&self) -> &str {
        self.0.get("sk-".len().."sk-".len() + KEY_ID_LEN).unwrap_or_default()
    }

    /// The SHA-256 of the whole key: what the server keeps.
    pub fn hash(&self) -> Hash {
        Hash::of(&[self.0.as_bytes()])
    }

    /// The key itself, for the header or the code it goes into.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Whether a text can be the id of a key.
pub fn is_id(text: &str) -> bool {
    text.len() == KEY_ID_LEN && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_made_and_not_printed() {
        let key = ApiKey::random();
        assert_eq!(key.expose().parse::<ApiKey>().unwrap(), key);
        assert!(is_id(key.id()));
        let secret = key.expose().split_once('.').unwrap().1;
        assert!(!format!("{key:?}").contains(secret));
        assert_ne!(ApiKey::random(), key);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in
            ["", "sk-", "sk-abcdefgh", "sk-abcdefgh.short", "sk-ABCDEFGH.0123456789abcdef", "abcdefgh.0123456789abcdef"]
        {
            assert_eq!(text.parse::<ApiKey>(), Err(NoApiKey), "{text}");
        }
        assert!("sk-abcdefgh.0123456789abcde f".parse::<ApiKey>().is_err());
    }
}
