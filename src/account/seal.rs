//! What of an account is sealed and bound: the boxes under the key of an epoch, the link from one epoch to the
//! one before, and the key of an epoch wrapped for one device. docs/account-protocol.md has every byte.
//!
//! Knows keys, and nothing of what heads and records say, of the vault's file, or of the network.

#[cfg(test)]
mod tests;
mod wrap;

use std::fmt;

use zeroize::Zeroizing;

pub use self::wrap::{BadWrap, open_wrap};
use super::wire::{AccountId, DeviceId, Hash, Link, Sealed};
use crate::random::random;
use crate::sys::memory::KEY_LEN;
use crate::vault::crypto::{self, Key, NONCE_LEN, Unopened};
use crate::vault::record::padded;

/// What a box is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The state of the account.
    Head,
    /// One object.
    Record,
    /// The key of the epoch before.
    Link,
    /// What was resolved on one device.
    Usage,
}

impl Kind {
    /// All there are, in the order of `EpochKey`'s subkeys.
    const ALL: [Self; 4] = [Self::Head, Self::Record, Self::Link, Self::Usage];

    /// As it stands in what is bound.
    pub fn name(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Record => "record",
            Self::Link => "link",
            Self::Usage => "usage",
        }
    }

    /// Of its subkey.
    pub fn label(self) -> &'static str {
        match self {
            Self::Head => "account-head",
            Self::Record => "account-record",
            Self::Link => "account-link",
            Self::Usage => "account-usage",
        }
    }
}

/// The id of boxes that are about no object: heads and links.
pub const NO_ID: [u8; 16] = [0; 16];

/// The key of an epoch, with its subkeys. Cannot be printed, copied or serialized.
pub struct EpochKey {
    epoch: u64,
    key: Key,
    subkeys: [Key; 4],
}

impl EpochKey {
    /// The key of this epoch.
    pub fn new(epoch: u64, key: Key) -> Self {
        let subkeys = Kind::ALL.map(|kind| key.subkey(kind.label()));
        Self { epoch, key, subkeys }
    }

    /// A fresh key for this epoch.
    pub fn random(epoch: u64) -> Self {
        Self::new(epoch, Key::random())
    }

    /// Which epoch it is, from 1.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The key itself, to be kept sealed in the vault.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Seals something of this epoch.
    pub fn seal(&self, kind: Kind, account: AccountId, id: [u8; 16], revision: u64, plaintext: &[u8]) -> Sealed {
        self.seal_with(&random(), kind, account, id, revision, plaintext)
    }

    fn seal_with(
        &self,
        nonce: &[u8; NONCE_LEN],
        kind: Kind,
        account: AccountId,
        id: [u8; 16],
        revision: u64,
        plaintext: &[u8],
    ) -> Sealed {
        let bound = bound(kind, account, id, revision, self.epoch);
        Sealed(crypto::seal_with(self.subkey(kind), nonce, &bound, &pad(plaintext)))
    }

    /// Opens what `seal` made.
    ///
    /// # Errors
    /// `Unopened` with the key of another epoch, where anything bound is another, or with a changed box.
    pub fn open(
        &self,
        kind: Kind,
        account: AccountId,
        id: [u8; 16],
        revision: u64,
        sealed: &Sealed,
    ) -> Result<Zeroizing<Vec<u8>>, Unopened> {
        let bound = bound(kind, account, id, revision, self.epoch);
        unpad(crypto::open(self.subkey(kind), &bound, &sealed.0)?)
    }

    /// The key of the epoch before, sealed in this one.
    ///
    /// # Panics
    /// When `former` is another epoch's: nobody could open that link, and what is sealed in that epoch were lost.
    pub fn link(&self, account: AccountId, former: &EpochKey) -> Link {
        self.link_with(&random(), account, former)
    }

    fn link_with(&self, nonce: &[u8; NONCE_LEN], account: AccountId, former: &EpochKey) -> Link {
        assert_eq!(former.epoch.checked_add(1), Some(self.epoch), "a link leads to the epoch before");
        let sealed = self.seal_with(nonce, Kind::Link, account, NO_ID, former.epoch, former.key.expose());
        Link { epoch: self.epoch, sealed }
    }

    /// The key of the epoch before.
    ///
    /// # Errors
    /// `Unopened` with a link of another epoch or account, or a changed one.
    pub fn open_link(&self, account: AccountId, link: &Link) -> Result<EpochKey, Unopened> {
        let former = self.epoch.checked_sub(1).filter(|former| *former > 0 && link.epoch == self.epoch);
        let former = former.ok_or(Unopened)?;
        let bytes = self.open(Kind::Link, account, NO_ID, former, &link.sealed)?;
        let mut bytes: [u8; KEY_LEN] = bytes.as_slice().try_into().map_err(|_| Unopened)?;
        Ok(EpochKey::new(former, Key::from_bytes(&mut bytes)))
    }

    fn subkey(&self, kind: Kind) -> &Key {
        // `Kind::ALL` has them in the order of their declaration.
        &self.subkeys[kind as usize]
    }
}

impl fmt::Debug for EpochKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EpochKey({}, …)", self.epoch)
    }
}

/// What a box is bound to.
fn bound(kind: Kind, account: AccountId, id: [u8; 16], revision: u64, epoch: u64) -> Vec<u8> {
    let (revision, epoch) = (revision.to_le_bytes(), epoch.to_le_bytes());
    [b"guillemet account 1\0", kind.name().as_bytes(), b"\0", &account.0, &id, &revision, &epoch].concat()
}

/// The length, the plaintext, and zeros: so that a box does not tell how long it is.
pub(super) fn pad(plaintext: &[u8]) -> Zeroizing<Vec<u8>> {
    // A box of more than 4 GiB is refused long before (`wire::BOX_MAX`).
    let len = u32::try_from(plaintext.len()).unwrap_or(u32::MAX);
    let whole = padded(4 + plaintext.len());
    let mut out = Zeroizing::new(Vec::with_capacity(whole));
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(plaintext);
    out.resize(whole, 0);
    out
}

/// Takes the padding off, if it is exactly what `pad` makes.
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
