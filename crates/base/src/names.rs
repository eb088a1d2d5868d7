//! Names and identifiers that every part of the program shares.
//!
//! Knows nothing of where a name is used.

use std::fmt;
use std::str::FromStr;

/// A time in milliseconds since the Unix epoch.
pub type Millis = u64;

/// The largest number of characters in a secret's name.
pub const NAME_MAX: usize = 128;

/// The name of a secret: 1 to 128 ASCII letters, digits, `.`, `_` or `-`, beginning with a letter or a digit. It keeps
/// the case that was typed, but two names that differ only in case are equal.
#[derive(Clone, Debug)]
pub struct SecretName(Box<str>);

/// The error of a text that is not a valid name for a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a valid secret name: use 1 to {NAME_MAX} letters, digits, `.`, `_` or `-`, starting with a letter or digit"
)]
pub struct InvalidName;

impl SecretName {
    /// Returns the name in the case that was typed.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the form in which names are compared, which is lower case.
    pub fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl FromStr for SecretName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let begins = text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if begins && text.len() <= NAME_MAX && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidName)
        }
    }
}

impl PartialEq for SecretName {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for SecretName {}

impl std::hash::Hash for SecretName {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for SecretName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for SecretName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The id of a secret: 16 random bytes, written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretId(pub [u8; 16]);

impl fmt::Display for SecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for SecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule_and_ignore_case() {
        for good in ["a", "0", "cal.com_key-1", &"x".repeat(NAME_MAX)] {
            assert!(good.parse::<SecretName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", ".a", "_a", "a b", "ä", "a/b", &"x".repeat(NAME_MAX + 1)] {
            assert!(bad.parse::<SecretName>().is_err(), "{bad}");
        }
        assert_eq!("Key".parse::<SecretName>(), "kEY".parse::<SecretName>());
    }
}
