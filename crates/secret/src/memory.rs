//! Values in memory: each is sealed under a key that only this process has, and opened for one fill at a time.
//!
//! Promise Blind: [`SealedValue`] is the only type that holds a value for longer than a request. Knows nothing of the
//! file that values come from.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use aes_gcm::aead::{AeadInPlace, KeyInit};
use aes_gcm::{Aes256Gcm, Key, Nonce, Tag};
use zeroize::Zeroize;

use guillemet_base::random::random;
use guillemet_base::sys::memory::{Clear, SecretPage};

/// Length of the authentication tag, in bytes.
const TAG_LEN: usize = 16;

/// Returns the cipher for values: AES-256-GCM (NIST SP 800-38D) under a random key of this process, which is never
/// written anywhere. AES-GCM rather than the cipher of the file, because processors have instructions for it and a fill
/// opens every value again. The cipher's state is plain data, so it can live in a [`SecretPage`].
fn cipher() -> &'static Aes256Gcm {
    static CIPHER: OnceLock<SecretPage<Aes256Gcm>> = OnceLock::new();
    let init = || {
        let mut key = random::<32>();
        let cipher = Aes256Gcm::new(Key::<Aes256Gcm>::from_slice(&key));
        key.zeroize();
        cipher
    };
    CIPHER.get_or_init(|| SecretPage::new(init)).expose()
}

/// Returns a nonce number that this process has not used yet. A counter is enough, because the key lives only as long
/// as the process does.
fn next_nonce() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn nonce(number: u64) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// A sealed value. Clones share the same ciphertext.
#[derive(Clone)]
pub struct SealedValue(Arc<SealedBytes>);

struct SealedBytes {
    nonce: u64,
    tag: [u8; TAG_LEN],
    ciphertext: Box<[u8]>,
}

impl SealedValue {
    /// Seals a value. The caller wipes its own copy.
    pub fn seal(value: &str) -> Self {
        let number = next_nonce();
        let mut ciphertext: Box<[u8]> = value.as_bytes().into();
        let tag = cipher()
            .encrypt_in_place_detached(Nonce::from_slice(&nonce(number)), b"", &mut ciphertext)
            // Fails only for a plaintext of more than 64 GiB.
            .expect("a value fits one box");
        Self(Arc::new(SealedBytes { nonce: number, tag: tag.into(), ciphertext }))
    }

    /// Opens the value and appends it to a buffer that wipes itself.
    ///
    /// # Panics
    /// If the memory of the process was changed from outside.
    pub fn open_into(&self, out: &mut Clear) {
        let start = out.len();
        out.extend_from_slice(&self.0.ciphertext);
        let (nonce, tag) = (nonce(self.0.nonce), Tag::from_slice(&self.0.tag));
        cipher()
            .decrypt_in_place_detached(Nonce::from_slice(&nonce), b"", &mut out[start..], tag)
            .expect("this process sealed it");
    }

    /// Returns the length of the value in bytes.
    pub fn len(&self) -> usize {
        self.0.ciphertext.len()
    }

    /// Reports whether the value is empty.
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
        let mut out = Clear::new();
        out.extend_from_slice(b"x");
        sealed.clone().open_into(&mut out);
        assert_eq!(out.as_slice(), "xgeheim-Ü\n".as_bytes());
        assert_eq!(sealed.len(), "geheim-Ü\n".len());
        assert_eq!(format!("{sealed:?}"), "SealedValue(…)");
        assert!(!sealed.0.ciphertext.windows(4).any(|w| w == b"gehe"));
    }
}
