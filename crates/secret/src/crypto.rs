//! All cryptography of the vault, as one fixed suite.
//!
//! Boxes are XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03). Subkeys and tags are HMAC-SHA-256 (RFC 2104). Passphrases
//! go through Argon2id (RFC 9106). `wrap` has the boxes from one device to another. Knows nothing of what it seals.

mod wrap;

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key as AeadKey, XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

pub use self::wrap::{DeviceSecret, WeakKey, is_weak, unwrap, wrap};
pub use guillemet_base::random::random;
use guillemet_base::sys::memory::{KEY_LEN, SecretPage};

/// Length of the nonce at the beginning of a box, in bytes.
pub const NONCE_LEN: usize = 24;

/// A key of 32 bytes in a memory page of its own. It cannot be printed, copied or serialized.
pub struct Key(SecretPage<[u8; KEY_LEN]>);

/// The error of a box that does not open: the key is wrong, or the box was changed since it was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sealed box cannot be opened: the key is wrong, or the box was changed")]
pub struct Unopened;

impl Key {
    /// Returns a new random key.
    pub fn random() -> Self {
        let mut bytes = random::<KEY_LEN>();
        Self::from_bytes(&mut bytes)
    }

    /// Moves the bytes into a key and wipes the original.
    pub fn from_bytes(bytes: &mut [u8; KEY_LEN]) -> Self {
        Self(SecretPage::take(bytes))
    }

    /// Derives the key from a passphrase with Argon2id.
    ///
    /// # Errors
    /// [`Unopened`] if the cost is out of bounds, which happens with a vault that was tampered with.
    pub fn from_passphrase(passphrase: &str, salt: &[u8; 16], cost: PassphraseCost) -> Result<Self, Unopened> {
        if cost.memory_kib > PassphraseCost::MOST.memory_kib || cost.passes > PassphraseCost::MOST.passes {
            return Err(Unopened);
        }
        let params = Params::new(cost.memory_kib, cost.passes, 1, Some(KEY_LEN)).map_err(|_| Unopened)?;
        let mut bytes = [0; KEY_LEN];
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon.hash_password_into(passphrase.as_bytes(), salt, &mut bytes).map_err(|_| Unopened)?;
        Ok(Self::from_bytes(&mut bytes))
    }

    /// Returns the bytes, to write them to a key file or to seal them. The caller wipes every copy it makes.
    pub fn expose(&self) -> &[u8; KEY_LEN] {
        self.0.expose()
    }

    /// Derives the key for one purpose, which `label` names.
    pub fn subkey(&self, label: &str) -> Self {
        let mut bytes = self.mac(&[b"guillemet subkey 1\0", label.as_bytes()].concat());
        Self::from_bytes(&mut bytes)
    }

    /// Returns the HMAC-SHA-256 of the data.
    pub fn mac(&self, data: &[u8]) -> [u8; 32] {
        self.hmac(data).finalize().into_bytes().into()
    }

    /// Checks in constant time that `mac` is the HMAC-SHA-256 of the data.
    pub fn verify_mac(&self, data: &[u8], mac: &[u8]) -> bool {
        self.hmac(data).verify_slice(mac).is_ok()
    }

    fn hmac(&self, data: &[u8]) -> Hmac<Sha256> {
        // HMAC takes keys of any length (RFC 2104), so this cannot fail.
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(self.expose()).expect("HMAC takes a key of 32 bytes");
        mac.update(data);
        mac
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// The work that one guess at a passphrase costs: parameters of Argon2id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassphraseCost {
    /// Memory in KiB, all of which every pass goes over.
    pub memory_kib: u32,
    /// Number of passes over the memory.
    pub passes: u32,
}

impl PassphraseCost {
    /// The highest cost that is accepted: a vault that was tampered with can ask for any.
    const MOST: Self = Self { memory_kib: 4 << 20, passes: 64 };
}

impl Default for PassphraseCost {
    /// The second recommendation of RFC 9106: 64 MiB of memory and three passes.
    fn default() -> Self {
        Self { memory_kib: 64 << 10, passes: 3 }
    }
}

/// Seals a plaintext, bound to `associated`. The box is 24 bytes of random nonce, then ciphertext and tag.
pub fn seal(key: &Key, associated: &[u8], plaintext: &[u8]) -> Vec<u8> {
    seal_with(key, &random(), associated, plaintext)
}

/// Seals as [`seal`] does, with a nonce of the caller's choice, which must never be used twice with the same key.
pub fn seal_with(key: &Key, nonce: &[u8; NONCE_LEN], associated: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let cipher = XChaCha20Poly1305::new(AeadKey::from_slice(key.expose()));
    let payload = Payload { msg: plaintext, aad: associated };
    // Fails only for a plaintext of more than 256 GiB.
    let sealed = cipher.encrypt(XNonce::from_slice(nonce), payload).expect("the plaintext fits one box");
    [nonce.as_slice(), &sealed].concat()
}

/// Opens a box that [`seal`] made.
///
/// # Errors
/// [`Unopened`] if the key or the associated data differ, or the box was changed.
pub fn open(key: &Key, associated: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unopened> {
    let (nonce, ciphertext) = sealed.split_at_checked(NONCE_LEN).ok_or(Unopened)?;
    let cipher = XChaCha20Poly1305::new(AeadKey::from_slice(key.expose()));
    let payload = Payload { msg: ciphertext, aad: associated };
    cipher.decrypt(XNonce::from_slice(nonce), payload).map(Zeroizing::new).map_err(|_| Unopened)
}

/// Opens a box that holds a key.
///
/// # Errors
/// [`Unopened`] as for [`open`], and if the plaintext does not have the length of a key.
pub fn open_key(key: &Key, associated: &[u8], sealed: &[u8]) -> Result<Key, Unopened> {
    let bytes = open(key, associated, sealed)?;
    let mut bytes: [u8; KEY_LEN] = bytes.as_slice().try_into().map_err(|_| Unopened)?;
    Ok(Key::from_bytes(&mut bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        data_encoding::HEXLOWER.decode(text.replace(char::is_whitespace, "").as_bytes()).unwrap()
    }

    fn key(text: &str) -> Key {
        Key::from_bytes(&mut hex(text).try_into().unwrap())
    }

    const KEY: &str = "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f";
    const NONCE: &str = "404142434445464748494a4b4c4d4e4f5051525354555657";

    #[test]
    fn boxes_are_those_of_the_draft() {
        // The example of draft-irtf-cfrg-xchacha-03, appendix A.3.1.
        let text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
        let sealed = seal_with(&key(KEY), &hex(NONCE).try_into().unwrap(), &hex("50515253c0c1c2c3c4c5c6c7"), text);
        let expected = hex(
            "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39ae64c670
             8c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff921f9664c97637da9
             768812f615c68b13b52ec0875924c1c7987947deafd8780acf49",
        );
        assert_eq!(sealed[NONCE_LEN..], expected);
        assert_eq!(open(&key(KEY), &hex("50515253c0c1c2c3c4c5c6c7"), &sealed).unwrap().as_slice(), text);
    }

    /// Expected values made with libsodium through PyNaCl 1.6.2, key 80…9f, nonce 40…57:
    /// `nacl.bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(text, associated, nonce, key)`.
    #[test]
    fn boxes_are_those_of_libsodium() {
        let cases = [
            (
                "sk-live-0123456789 «»",
                "guillemet",
                "82675e9832869177cb2345e0c29bab620a7e52acae862733ce552fc87dfba985ede15f885968b6",
            ),
            ("", "", "1dac8f73146d1e9da796cb7f7221a5df"),
        ];
        for (text, associated, expected) in cases {
            let nonce = hex(NONCE).try_into().unwrap();
            let sealed = seal_with(&key(KEY), &nonce, associated.as_bytes(), text.as_bytes());
            assert_eq!(sealed[NONCE_LEN..], hex(expected));
            assert_eq!(open(&key(KEY), associated.as_bytes(), &sealed).unwrap().as_slice(), text.as_bytes());
        }
    }

    /// Expected value made with libsodium through PyNaCl 1.6.2, salt 00…0f: `nacl.pwhash.argon2id.kdf(32, b"correct
    /// horse", salt, opslimit=3, memlimit=64 << 20)`.
    #[test]
    fn passphrases_are_stretched_as_by_libsodium() {
        let salt = std::array::from_fn(|index| index as u8);
        let key = Key::from_passphrase("correct horse", &salt, PassphraseCost::default()).unwrap();
        assert_eq!(key.expose()[..], hex("e3c889ca40ed01e6b6771fc8a5bf16e35ad60b41c9bd5d7e6d63adf51e50b0fd"));
    }

    #[test]
    fn subkeys_and_tags_are_hmac_sha_256() {
        // First RFC 4231, test case 1, whose shorter key HMAC itself pads with zeros; then HMAC computed by its
        // definition.
        let mut padded = [0; 32];
        padded[..20].fill(0x0b);
        let expected = hex("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
        assert_eq!(Key::from_bytes(&mut padded).mac(b"Hi There")[..], expected);
        use sha2::Digest;
        let pad =
            |byte: u8| hex(KEY).iter().map(|b| b ^ byte).chain(std::iter::repeat_n(byte, 32)).collect::<Vec<u8>>();
        let inner = Sha256::digest([pad(0x36), b"data".to_vec()].concat());
        let outer: [u8; 32] = Sha256::digest([pad(0x5c), inner.to_vec()].concat()).into();
        assert_eq!(key(KEY).mac(b"data"), outer);
        assert!(key(KEY).verify_mac(b"data", &outer));
        assert!(!key(KEY).verify_mac(b"dato", &outer));
        assert_ne!(key(KEY).subkey("a").expose(), key(KEY).subkey("b").expose());
    }

    #[test]
    fn a_box_opens_only_as_it_was_sealed() {
        let key = Key::random();
        let sealed = seal(&key, b"place", b"text");
        assert_eq!(open(&key, b"place", &sealed).unwrap().as_slice(), b"text");
        assert!(open(&key, b"other", &sealed).is_err());
        assert!(open(&Key::random(), b"place", &sealed).is_err());
        assert!(open(&key, b"place", &sealed[..10]).is_err());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(open(&key, b"place", &changed).is_err());
        }
    }

    #[test]
    fn a_key_is_never_printed() {
        assert_eq!(format!("{:?}", key(KEY)), "Key(…)");
    }

    #[test]
    fn absurd_costs_are_refused_before_they_are_paid() {
        for (memory_kib, passes) in [(0, 0), (u32::MAX, 1), (64, u32::MAX)] {
            assert!(Key::from_passphrase("p", &[0; 16], PassphraseCost { memory_kib, passes }).is_err());
        }
    }
}
