//! The key of an epoch, wrapped by one device for another. Everything that the wrap is about is also inside the box,
//! and is compared after opening.
//!
//! Knows no head but the one named inside. The callers check that it is the right one, and that the sender is a device
//! of the last verified head.

use zeroize::Zeroizing;

use super::{AccountId, DeviceId, EpochKey, Hash, KEY_LEN, Key, Sealed};
use crate::byte_reader::ByteReader;
use guillemet_secret::crypto::{self, DeviceSecret, WeakKey};
use guillemet_wire::{HeadRef, PublicKey, Wrap};

/// The prefix of the plaintext.
const PREFIX: &[u8] = b"guillemet wrap 1\0";
/// The length of the plaintext, in bytes.
const LEN: usize = PREFIX.len() + 16 + 8 + 16 + 16 + 8 + 32 + KEY_LEN;

/// The reasons why a wrapped key is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the account's server sent a key that {}; {ADVICE}", self.reason())]
pub enum BadWrap {
    /// The unsealed field says that it is for another device.
    Misdirected,
    /// It was sealed with other keys, or changed.
    Unopened,
    /// It does not have the layout that this program writes.
    Malformed,
    /// It was sealed for another account.
    Account,
    /// It was sealed for another epoch than the unsealed field says.
    Epoch,
    /// It was sealed by another device than the unsealed field says.
    Sender,
    /// It was sealed for another device than the unsealed field says.
    Recipient,
}

const ADVICE: &str = "nothing was changed: do not trust this server until `guillemet account status` shows the same \
     words here and on another device";

impl BadWrap {
    fn reason(self) -> &'static str {
        match self {
            Self::Misdirected => "is for another device",
            Self::Unopened => "cannot be opened: another device sealed it, or it was changed",
            Self::Malformed => "does not have the format that Guillemet writes",
            Self::Account => "was sealed for another account",
            Self::Epoch => "was sealed for another epoch",
            Self::Sender => "was sealed by a different device than it says",
            Self::Recipient => "was sealed for a different device than it says",
        }
    }
}

impl EpochKey {
    /// Wraps this key for one device, at a head.
    ///
    /// # Errors
    /// [`WeakKey`] if the recipient's public key is of low order, and so protects nothing.
    pub fn wrap_for(
        &self,
        account: AccountId,
        sender: (DeviceId, &DeviceSecret),
        recipient: (DeviceId, PublicKey),
        head: HeadRef,
    ) -> Result<Wrap, WeakKey> {
        let plaintext = self.wrap_content(account, sender.0, recipient.0, head);
        let sealed = crypto::wrap(sender.1, &recipient.1.0, &plaintext)?;
        Ok(Wrap { device: recipient.0, epoch: self.epoch, sender: sender.0, sealed: Sealed(sealed) })
    }

    /// Returns the plaintext of a wrap.
    pub(super) fn wrap_content(
        &self,
        account: AccountId,
        sender: DeviceId,
        recipient: DeviceId,
        head: HeadRef,
    ) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(LEN));
        for part in [PREFIX, &account.0, &self.epoch.to_le_bytes(), &sender.0, &recipient.0] {
            out.extend_from_slice(part);
        }
        for part in [head.seq.to_le_bytes().as_slice(), &head.hash.0, self.key.expose()] {
            out.extend_from_slice(part);
        }
        out
    }
}

/// Opens the key of an epoch that another device wrapped. Returns it with the head at which it was wrapped, which the
/// caller compares with the one it came with. `sender_key` is the public key of the device `wrap.sender` in the last
/// verified head.
///
/// # Errors
/// [`BadWrap`] for the reason why the key is refused.
pub fn open_wrap(
    account: AccountId,
    recipient: (DeviceId, &DeviceSecret),
    sender_key: &PublicKey,
    wrap: &Wrap,
) -> Result<(EpochKey, HeadRef), BadWrap> {
    if wrap.device != recipient.0 {
        return Err(BadWrap::Misdirected);
    }
    let bytes = crypto::unwrap(recipient.1, &sender_key.0, &wrap.sealed.0).map_err(|_| BadWrap::Unopened)?;
    if bytes.len() != LEN {
        return Err(BadWrap::Malformed);
    }
    let inside = WrapContent::read(&bytes).ok_or(BadWrap::Malformed)?;
    if inside.account != account {
        return Err(BadWrap::Account);
    }
    if inside.epoch != wrap.epoch {
        return Err(BadWrap::Epoch);
    }
    if inside.sender != wrap.sender {
        return Err(BadWrap::Sender);
    }
    if inside.recipient != recipient.0 {
        return Err(BadWrap::Recipient);
    }
    Ok((EpochKey::new(inside.epoch, inside.key), inside.head))
}

struct WrapContent {
    account: AccountId,
    epoch: u64,
    sender: DeviceId,
    recipient: DeviceId,
    head: HeadRef,
    key: Key,
}

impl WrapContent {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = ByteReader(bytes);
        reader.take(PREFIX.len()).filter(|prefix| *prefix == PREFIX)?;
        Some(Self {
            account: AccountId(reader.array()?),
            epoch: reader.number().filter(|epoch| *epoch > 0)?,
            sender: DeviceId(reader.array()?),
            recipient: DeviceId(reader.array()?),
            head: HeadRef { seq: reader.number().filter(|seq| *seq > 0)?, hash: Hash(reader.array()?) },
            key: Key::from_bytes(&mut reader.array()?),
        })
    }
}
