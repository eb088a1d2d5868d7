//! Boxes from one device to another: X25519 and XSalsa20-Poly1305, compatible with libsodium's `crypto_box_easy`.
//!
//! Sender and recipient are both authenticated by their keys. Knows nothing of what it seals, or of who the devices
//! are.

use std::fmt;

use crypto_box::aead::Aead;
use crypto_box::{Nonce, PublicKey, SalsaBox, SecretKey};
use zeroize::{Zeroize, Zeroizing};

use super::{KEY_LEN, NONCE_LEN, Unopened};
use guillemet_base::random::random;
use guillemet_base::sys::memory::SecretPage;

/// The secret key of a device, in a memory page of its own. It cannot be printed, copied or serialized.
pub struct DeviceSecret(SecretPage<SecretKey>);

/// The error of a public key that gives the same shared secret with every other key, so that it protects nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a device's public key gives no protection, and no real device creates such a key: do not continue with that device"
)]
pub struct WeakKey;

impl DeviceSecret {
    /// Returns a new random key.
    pub fn random() -> Self {
        let mut bytes = random::<KEY_LEN>();
        Self::from_bytes(&mut bytes)
    }

    /// Moves the bytes into a key and wipes the original.
    pub fn from_bytes(bytes: &mut [u8; KEY_LEN]) -> Self {
        // `SecretKey` is plain data (the bytes and the scalar made from them), so it can live in a page.
        let page = SecretPage::new(|| SecretKey::from_bytes(*bytes));
        bytes.zeroize();
        Self(page)
    }

    /// Returns the bytes, to seal them or to put them into a code.
    pub fn expose(&self) -> Zeroizing<[u8; KEY_LEN]> {
        Zeroizing::new(self.0.expose().to_bytes())
    }

    /// Returns the public key, which everybody may know.
    pub fn public(&self) -> [u8; KEY_LEN] {
        self.0.expose().public_key().to_bytes()
    }
}

impl fmt::Debug for DeviceSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceSecret(…)")
    }
}

/// Reports whether a public key protects nothing of what is sealed for it.
///
/// A public key of low order gives the shared point zero with every secret key, so any secret key can test for it.
/// `crypto_box` does not show the shared point, but two boxes under the same shared point have the same tag.
pub fn is_weak(public: &[u8; KEY_LEN]) -> bool {
    let probe = SecretKey::from_bytes([1; KEY_LEN]);
    let tag = |public: [u8; KEY_LEN]| SalsaBox::new(&public.into(), &probe).encrypt(&Nonce::default(), &b""[..]);
    tag(*public) == tag([0; KEY_LEN])
}

/// Seals a plaintext for a recipient. The box is 24 bytes of random nonce, then tag and ciphertext.
///
/// # Errors
/// [`WeakKey`] if the recipient's key protects nothing.
pub fn wrap(sender: &DeviceSecret, recipient: &[u8; KEY_LEN], plaintext: &[u8]) -> Result<Vec<u8>, WeakKey> {
    wrap_with(sender, recipient, &random(), plaintext)
}

/// Seals as [`wrap`] does, with this nonce. A nonce must never be used twice with the same two keys.
fn wrap_with(
    sender: &DeviceSecret,
    recipient: &[u8; KEY_LEN],
    nonce: &[u8; NONCE_LEN],
    plaintext: &[u8],
) -> Result<Vec<u8>, WeakKey> {
    if is_weak(recipient) {
        return Err(WeakKey);
    }
    let sealed = SalsaBox::new(&PublicKey::from(*recipient), sender.0.expose())
        .encrypt(Nonce::from_slice(nonce), plaintext)
        // Fails only for a plaintext of more than 256 GiB.
        .expect("the plaintext fits one box");
    Ok([nonce.as_slice(), &sealed].concat())
}

/// Opens a box that [`wrap`] made.
///
/// # Errors
/// [`Unopened`] if the key of either end differs, the sender's key protects nothing, or the box was changed.
pub fn unwrap(recipient: &DeviceSecret, sender: &[u8; KEY_LEN], boxed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unopened> {
    let (nonce, sealed) = boxed.split_at_checked(NONCE_LEN).ok_or(Unopened)?;
    if is_weak(sender) {
        return Err(Unopened);
    }
    SalsaBox::new(&PublicKey::from(*sender), recipient.0.expose())
        .decrypt(Nonce::from_slice(nonce), sealed)
        .map(Zeroizing::new)
        .map_err(|_| Unopened)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
    }

    fn count<const N: usize>(from: u8) -> [u8; N] {
        std::array::from_fn(|index| from + index as u8)
    }

    fn pair() -> (DeviceSecret, DeviceSecret) {
        (DeviceSecret::from_bytes(&mut count(0x01)), DeviceSecret::from_bytes(&mut count(0x61)))
    }

    /// Expected values made with libsodium through PyNaCl 1.6.2, secret keys 01…20 and 61…80, nonce 40…57:
    /// `nacl.bindings.crypto_scalarmult_base(secret)` and `nacl.bindings.crypto_box(text, nonce, public, secret)`.
    #[test]
    fn boxes_are_those_of_libsodium() {
        let (sender, recipient) = pair();
        assert_eq!(sender.public()[..], hex("07a37cbc142093c8b755dc1b10e86cb426374ad16aa853ed0bdfc0b2b86d1c7c"));
        assert_eq!(recipient.public()[..], hex("244fe3b963e899dd295baffce248d3530f3a9a7479ba063002680ebfe7adad49"));
        let cases = [
            ("sk-live-0123456789 «»", "53aa9b2acac808e4c066410e69caf8adac6386f687f8c3dc5113c0b54ae9b403a9e921f5fd3938"),
            ("", "d9a0066fc37647cd0ba32ce0a7f21770"),
        ];
        for (text, expected) in cases {
            let boxed = wrap_with(&sender, &recipient.public(), &count(0x40), text.as_bytes()).unwrap();
            assert_eq!((&boxed[..NONCE_LEN], &boxed[NONCE_LEN..]), (&count::<24>(0x40)[..], hex(expected).as_slice()));
            assert_eq!(unwrap(&recipient, &sender.public(), &boxed).unwrap().as_slice(), text.as_bytes());
        }
    }

    /// Every point of low order in every encoding: the same ones that `nacl.bindings.crypto_box_beforenm` refuses.
    #[test]
    fn keys_that_protect_nothing_are_refused() {
        let (sender, recipient) = pair();
        let middle = |first: &str, last: &str| format!("{first}{}{last}", "ff".repeat(30));
        let forms = [
            "00".repeat(32),
            format!("01{}", "00".repeat(31)),
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800".to_owned(),
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157".to_owned(),
            middle("ec", "7f"),
            middle("ed", "7f"),
            middle("ee", "7f"),
        ];
        for form in &forms {
            let mut public: [u8; 32] = hex(form).try_into().unwrap();
            for high in [0, 0x80] {
                public[31] = public[31] & 0x7f | high;
                assert!(is_weak(&public), "{form}");
                assert_eq!(wrap(&sender, &public, b"text").unwrap_err(), WeakKey);
                // A stranger who knows neither secret key can make this box, because everybody knows the shared point.
                let cipher = SalsaBox::new(&public.into(), &SecretKey::from_bytes([9; 32]));
                let boxed =
                    [&[7; NONCE_LEN][..], &cipher.encrypt(&[7; NONCE_LEN].into(), &b"text"[..]).unwrap()].concat();
                assert_eq!(unwrap(&recipient, &public, &boxed).unwrap_err(), Unopened);
            }
        }
        assert!(!is_weak(&sender.public()) && !is_weak(&count(2)));
    }

    #[test]
    fn a_box_opens_only_between_its_two_devices() {
        let ((sender, recipient), other) = (pair(), DeviceSecret::random());
        let boxed = wrap(&sender, &recipient.public(), b"text").unwrap();
        assert_eq!(unwrap(&recipient, &sender.public(), &boxed).unwrap().as_slice(), b"text");
        assert!(unwrap(&other, &sender.public(), &boxed).is_err());
        assert!(unwrap(&recipient, &other.public(), &boxed).is_err());
        for at in 0..boxed.len() {
            let mut changed = boxed.clone();
            changed[at] ^= 1;
            assert!(unwrap(&recipient, &sender.public(), &changed).is_err());
            assert!(unwrap(&recipient, &sender.public(), &boxed[..at]).is_err());
        }
    }

    #[test]
    fn a_secret_comes_back_is_wiped_where_it_was_and_never_printed() {
        let mut bytes = count(0x01);
        let secret = DeviceSecret::from_bytes(&mut bytes);
        assert_eq!((bytes, *secret.expose()), ([0; 32], count(0x01)));
        assert_eq!(format!("{secret:?}"), "DeviceSecret(…)");
        assert_ne!(DeviceSecret::random().public(), DeviceSecret::random().public());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(public in any::<[u8; 32]>(), bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let (_, recipient) = pair();
            prop_assert!(unwrap(&recipient, &public, &bytes).is_err());
            prop_assert!(!is_weak(&public));
        }
    }
}
