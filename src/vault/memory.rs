//! Values in memory: sealed under a key of this process, opened for one fill.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Key as AeadKey, Nonce, Tag};
use zeroize::Zeroizing;

use super::crypto::Key;

/// Bytes of the authentication tag.
const TAG_LEN: usize = 16;

/// The key of this process; never written anywhere.
fn process_key() -> &'static Key {
    static KEY: OnceLock<Key> = OnceLock::new();
    KEY.get_or_init(Key::random)
}

/// A nonce that this process has not used: a counter, under a key that lives as long as it does.
fn next_nonce() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Nonce::from(bytes)
}

/// A value, sealed. Clones share it.
#[derive(Clone)]
pub struct SealedValue(Arc<Sealed>);

struct Sealed {
    nonce: u64,
    tag: [u8; TAG_LEN],
    ciphertext: Box<[u8]>,
}

impl SealedValue {
    /// Seals a value; the caller wipes its own copy.
    pub fn seal(value: &str) -> Self {
        let number = next_nonce();
        let mut ciphertext: Box<[u8]> = value.as_bytes().into();
        let cipher = ChaCha20Poly1305::new(AeadKey::from_slice(process_key().expose()));
        let tag = cipher
            .encrypt_in_place_detached(&nonce(number), b"", &mut ciphertext)
            // Fails only for a text of more than 256 GiB.
            .expect("a value fits one box");
        Self(Arc::new(Sealed { nonce: number, tag: tag.into(), ciphertext }))
    }

    /// Appends the value to a buffer that wipes itself.
    ///
    /// # Panics
    /// When the process's memory has been changed from outside.
    pub fn open_into(&self, out: &mut Zeroizing<Vec<u8>>) {
        let begin = out.len();
        out.extend_from_slice(&self.0.ciphertext);
        let cipher = ChaCha20Poly1305::new(AeadKey::from_slice(process_key().expose()));
        cipher
            .decrypt_in_place_detached(&nonce(self.0.nonce), b"", &mut out[begin..], Tag::from_slice(&self.0.tag))
            .expect("this process sealed it");
    }

    /// The value's length in bytes.
    pub fn len(&self) -> usize {
        self.0.ciphertext.len()
    }

    /// Whether the value is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for SealedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealedValue(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_comes_back_and_is_never_printed() {
        let sealed = SealedValue::seal("geheim-Ü\n");
        let mut out = Zeroizing::new(b"x".to_vec());
        sealed.clone().open_into(&mut out);
        assert_eq!(out.as_slice(), "xgeheim-Ü\n".as_bytes());
        assert_eq!(sealed.len(), "geheim-Ü\n".len());
        assert_eq!(format!("{sealed:?}"), "SealedValue(…)");
        assert!(!sealed.0.ciphertext.windows(4).any(|w| w == b"gehe"));
    }
}
