//! The sealed data of an account: the boxes under the key of an epoch, the link from one epoch to the one before, and
//! the key of an epoch wrapped for one device. docs/account-protocol.md specifies every byte.
//!
//! Knows keys; nothing about what heads and records say, the vault's file, or the network.

#[cfg(test)]
mod tests;
mod wrap;

use std::fmt;

use zeroize::Zeroizing;

pub use self::wrap::{BadWrap, open_wrap};
use guillemet_base::random::random;
use guillemet_base::sys::memory::KEY_LEN;
use guillemet_secret::crypto::{self, Key, NONCE_LEN, Unopened};
use guillemet_secret::record::padded;
use guillemet_wire::{AccountId, DeviceId, EpochLink, Hash, Sealed};

/// The kinds of boxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoxKind {
    /// The state of the account.
    Head,
    /// One object: a secret, a deleted secret, or the references of a device.
    Record,
    /// The key of the epoch before.
    Link,
    /// The uses on one device.
    Usage,
}

impl BoxKind {
    /// All kinds, in the order of the subkeys in `EpochKey`.
    const ALL: [Self; 4] = [Self::Head, Self::Record, Self::Link, Self::Usage];

    /// Returns the name of this kind, as it is in the bytes that a box is bound to.
    pub fn name(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Record => "record",
            Self::Link => "link",
            Self::Usage => "usage",
        }
    }

    /// Returns the label from which the subkey of this kind is derived.
    pub fn label(self) -> &'static str {
        match self {
            Self::Head => "account-head",
            Self::Record => "account-record",
            Self::Link => "account-link",
            Self::Usage => "account-usage",
        }
    }
}

/// The id in boxes that are not about an object: heads and links.
pub const NO_ID: [u8; 16] = [0; 16];

/// The key of an epoch, with its subkeys. It cannot be printed, copied or serialized.
pub struct EpochKey {
    epoch: u64,
    key: Key,
    subkeys: [Key; 4],
}

impl EpochKey {
    /// Derives the subkeys of this epoch's key.
    pub fn new(epoch: u64, key: Key) -> Self {
        let subkeys = BoxKind::ALL.map(|kind| key.subkey(kind.label()));
        Self { epoch, key, subkeys }
    }

    /// Generates a new random key for this epoch.
    pub fn random(epoch: u64) -> Self {
        Self::new(epoch, Key::random())
    }

    /// Returns the number of the epoch, counted from 1.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Returns the key itself, which the vault keeps sealed.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Seals a plaintext under the subkey of its kind, padded, and bound to the kind, account, id, revision and epoch.
    pub fn seal(&self, kind: BoxKind, account: AccountId, id: [u8; 16], revision: u64, plaintext: &[u8]) -> Sealed {
        self.seal_with(&random(), kind, account, id, revision, plaintext)
    }

    fn seal_with(
        &self,
        nonce: &[u8; NONCE_LEN],
        kind: BoxKind,
        account: AccountId,
        id: [u8; 16],
        revision: u64,
        plaintext: &[u8],
    ) -> Sealed {
        let bound = bound(kind, account, id, revision, self.epoch);
        Sealed(crypto::seal_with(self.subkey(kind), nonce, &bound, &pad(plaintext)))
    }

    /// Opens a box that [`Self::seal`] made.
    ///
    /// # Errors
    /// [`Unopened`] if the box was changed, is of another epoch, or is bound to anything else than these arguments.
    pub fn open(
        &self,
        kind: BoxKind,
        account: AccountId,
        id: [u8; 16],
        revision: u64,
        sealed: &Sealed,
    ) -> Result<Zeroizing<Vec<u8>>, Unopened> {
        let bound = bound(kind, account, id, revision, self.epoch);
        unpad(crypto::open(self.subkey(kind), &bound, &sealed.0)?)
    }

    /// Seals the key of the epoch before under this epoch's key.
    ///
    /// # Panics
    /// If `previous` is not the epoch before: nobody could open that link, and everything sealed in that epoch would be
    /// lost.
    pub fn link(&self, account: AccountId, previous: &EpochKey) -> EpochLink {
        self.link_with(&random(), account, previous)
    }

    fn link_with(&self, nonce: &[u8; NONCE_LEN], account: AccountId, previous: &EpochKey) -> EpochLink {
        assert_eq!(previous.epoch.checked_add(1), Some(self.epoch), "a link leads to the epoch before");
        let sealed = self.seal_with(nonce, BoxKind::Link, account, NO_ID, previous.epoch, previous.key.expose());
        EpochLink { epoch: self.epoch, sealed }
    }

    /// Opens the key of the epoch before.
    ///
    /// # Errors
    /// [`Unopened`] if the link is of another epoch or account, or was changed.
    pub fn open_link(&self, account: AccountId, link: &EpochLink) -> Result<EpochKey, Unopened> {
        let previous = self.epoch.checked_sub(1).filter(|previous| *previous > 0 && link.epoch == self.epoch);
        let previous = previous.ok_or(Unopened)?;
        let bytes = self.open(BoxKind::Link, account, NO_ID, previous, &link.sealed)?;
        let mut bytes: [u8; KEY_LEN] = bytes.as_slice().try_into().map_err(|_| Unopened)?;
        Ok(EpochKey::new(previous, Key::from_bytes(&mut bytes)))
    }

    fn subkey(&self, kind: BoxKind) -> &Key {
        // `BoxKind::ALL` lists the kinds in the order of their declaration.
        &self.subkeys[kind as usize]
    }
}

impl fmt::Debug for EpochKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EpochKey({}, …)", self.epoch)
    }
}

/// Returns the bytes that a box is bound to.
fn bound(kind: BoxKind, account: AccountId, id: [u8; 16], revision: u64, epoch: u64) -> Vec<u8> {
    let (revision, epoch) = (revision.to_le_bytes(), epoch.to_le_bytes());
    [b"guillemet account 1\0", kind.name().as_bytes(), b"\0", &account.0, &id, &revision, &epoch].concat()
}

/// Returns the length, the plaintext, and zeros up to the padded size, so that a box does not reveal the exact length.
pub(super) fn pad(plaintext: &[u8]) -> Zeroizing<Vec<u8>> {
    // A box of more than 4 GiB is refused long before this (`wire::BOX_MAX`).
    let len = u32::try_from(plaintext.len()).unwrap_or(u32::MAX);
    let total = padded(4 + plaintext.len());
    let mut out = Zeroizing::new(Vec::with_capacity(total));
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(plaintext);
    out.resize(total, 0);
    out
}

/// Removes the padding. Refuses anything that [`pad`] does not make.
pub(super) fn unpad(mut bytes: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, Unopened> {
    let (len, rest) = bytes.split_first_chunk::<4>().ok_or(Unopened)?;
    let len = usize::try_from(u32::from_le_bytes(*len)).map_err(|_| Unopened)?;
    let zeros = rest.get(len..).ok_or(Unopened)?;
    if bytes.len() != padded(4 + len) || zeros.iter().any(|byte| *byte != 0) {
        return Err(Unopened);
    }
    bytes.copy_within(4..4 + len, 0);
    bytes.truncate(len);
    Ok(bytes)
}
