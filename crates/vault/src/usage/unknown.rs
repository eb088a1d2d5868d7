//! What is recorded for a name that nothing here has. The caller may have sent a value in place of a name.
//!
//! Only a keyed hash is recorded, and for each user only a limited number of different hashes per hour. Names beyond it
//! are recorded without a hash, so that nobody can learn about a value by asking for many candidates. Does not know
//! which names exist.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::super::event::UnknownName;
use guillemet_base::names::Millis;
use guillemet_secret::crypto::Key;

/// How many different names of a user are told apart in one hour.
pub(super) const TOLD_APART: usize = 16;
pub(super) const HOUR: Millis = 60 * 60 * 1000;

/// Hashes names, and counts how many different ones each user has asked for.
pub(super) struct UnknownNames {
    key: Key,
    by_uid: Mutex<HashMap<u32, HourlyNames>>,
}

/// The unknown names that a user has asked for in one hour.
struct HourlyNames {
    /// The hour, counted from the Unix epoch.
    hour: u64,
    hashes: Vec<[u8; 8]>,
}

impl UnknownNames {
    /// Returns a hasher whose key is a subkey of `key`.
    pub(super) fn new(key: &Key) -> Self {
        Self { key: key.subkey("unknown-names"), by_uid: Mutex::default() }
    }

    /// Returns the hash of a name; it is the same in upper and lower case.
    pub(super) fn hash(&self, name: &str) -> [u8; 8] {
        let mac = self.key.mac(name.to_ascii_lowercase().as_bytes());
        let mut hash = [0; 8];
        hash.copy_from_slice(&mac[..8]);
        hash
    }

    /// Returns what to record when a user asks for this name.
    pub(super) fn hash_for_user(&self, uid: u32, name: &str, now: Millis) -> UnknownName {
        let (hash, hour) = (self.hash(name), now / HOUR);
        // Nothing panics while the lock is held.
        let mut by_uid = self.by_uid.lock().unwrap_or_else(PoisonError::into_inner);
        if by_uid.get(&uid).is_none_or(|entry| entry.hour != hour) {
            // A clock that was set back begins another hour too.
            by_uid.retain(|_, entry| entry.hour == hour);
            by_uid.insert(uid, HourlyNames { hour, hashes: Vec::with_capacity(TOLD_APART) });
        }
        let Some(entry) = by_uid.get_mut(&uid) else { return UnknownName::Other };
        if entry.hashes.contains(&hash) {
            return UnknownName::Hash(hash);
        }
        if entry.hashes.len() >= TOLD_APART {
            return UnknownName::Other;
        }
        entry.hashes.push(hash);
        UnknownName::Hash(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> UnknownNames {
        UnknownNames::new(&Key::from_bytes(&mut [5; 32]))
    }

    #[test]
    fn a_hash_needs_the_key_and_disregards_case() {
        let hash = names().hash("Sk-Live-1");
        assert_eq!(hash, names().hash("sk-live-1"));
        assert_ne!(hash, names().hash("sk-live-2"));
        assert_ne!(hash, UnknownNames::new(&Key::from_bytes(&mut [6; 32])).hash("sk-live-1"));
        assert_eq!(UnknownName::Hash(hash).to_string().len(), "unknown:".len() + 16);
    }

    #[test]
    fn each_user_has_sixteen_an_hour() {
        let names = names();
        let asked = |uid, number: usize, now| names.hash_for_user(uid, &format!("name-{number}"), now);
        for number in 0..TOLD_APART {
            assert_ne!(asked(1, number, 5), UnknownName::Other);
        }
        assert_eq!(asked(1, TOLD_APART, 6), UnknownName::Other);
        assert_ne!(asked(1, 3, 7), UnknownName::Other, "the same again is no other one");
        assert_ne!(asked(2, TOLD_APART, 8), UnknownName::Other, "of another user");
        assert_ne!(asked(1, TOLD_APART, HOUR), UnknownName::Other, "the next hour");
        assert_eq!(names.by_uid.lock().unwrap().len(), 1, "what is over is forgotten");
    }
}
