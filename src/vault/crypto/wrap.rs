//! Boxes from one device to another: X25519 and XSalsa20-Poly1305, as libsodium's `crypto_box_easy`.
//!
//! Both ends are authenticated by their keys. Knows nothing of what it seals, nor who the devices are.

use std::fmt;

use crypto_box::aead::Aead;
use crypto_box::{Nonce, PublicKey, SalsaBox, SecretKey};
use zeroize::{Zeroize, Zeroizing};

use super::{KEY_LEN, NONCE_LEN, Unopened, random};
use crate::sys::memory::SecretPage;

/// The secret key of a device in a page of its own. Cannot be printed, copied or serialized.
pub struct DeviceSecret(SecretPage<SecretKey>);

/// A public key that leads to the same shared secret whatever the other key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a device's public key is one that protects nothing, which no device makes: do not go on with that device")]
pub struct WeakKey;

impl DeviceSecret {
    /// A fresh key.
    pub fn random() -> Self {
        let mut bytes = random::<KEY_LEN>();
        Self::from_bytes(&mut bytes)
    }

    /// Takes the bytes, which are wiped.
    pub fn from_bytes(bytes: &mut [u8; KEY_LEN]) -> Self {
        // `SecretKey` is plain data: the bytes and the scalar they make.
        let page = SecretPage::new(|| SecretKey::from_bytes(*bytes));
        bytes.zeroize();
        Self(page)
    }

    /// The bytes, to be sealed or put into a code.
    pub fn expose(&self) -> Zeroizing<[u8; KEY_LEN]> {
        Zeroizing::new(self.0.expose().to_bytes())
    }

    /// What everybody may know.
    pub fn public(&self) -> [u8; KEY_LEN] {
        self.0.expose().public_key().to_bytes()
    }
}

impl fmt::Debug for DeviceSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceSecret(…)")
    }
}

/// Whether a public key protects what is sealed for it.
///
/// One of low order leads to the shared point zero with every secret key, so any will do to see it; `crypto_box`
/// does not show the point, but two boxes of one key have one tag.
pub fn is_weak(public: &[u8; KEY_LEN]) -> bool {
    let probe = SecretKey::from_bytes([1; KEY_LEN]);
    let tag = |public: [u8; KEY_LEN]| SalsaBox::new(&public.into(), &probe).encrypt(&Nonce::default(), &b""[..]);
    tag(*public) == tag([0; KEY_LEN])
}

/// Seals for a recipient: 24 bytes of random nonce, then tag and ciphertext.
///
/// # Errors
/// `WeakKey` where the recipient's key protects nothing.
pub fn wrap(sender: &DeviceSecret, recipient: &[u8; KEY_LEN], plaintext: &[u8]) -> Result<Vec<u8>, WeakKey> {
    wrap_with(sender, recipient, &random(), plaintext)
}

pub(crate) fn wrap_with(
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

/// Opens what `wrap` made.
///
/// # Errors
/// `Unopened` with another key of either end, a sender's key that protects nothing, or a changed box.
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
