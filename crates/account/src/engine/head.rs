//! The authenticated state of the account, and the reasons why a state that the server offers is refused.
//!
//! Knows no key, and does not verify anything itself.

use serde::{Deserialize, Serialize};

use super::{Author, DeviceChange};

use guillemet_base::names::Millis;
use guillemet_wire::{DeviceId, Hash, IntentId, ObjectId, PublicKey};

/// The plaintext of a head.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The number of the head, counted from 1.
    pub seq: u64,
    /// The epoch the head is sealed in.
    pub epoch: u64,
    /// The hash of the head before; all zeros for the first.
    pub prev: Hash,
    /// The root over all records ([`RecordTree::root`](crate::tree::RecordTree::root)).
    pub root: Hash,
    /// The time at which the head was made, by its device's clock.
    pub made_at: Millis,
    /// The device that made the head.
    pub by: DeviceId,
    /// The devices of the account.
    pub devices: Vec<Device>,
    /// The intents that this head brings into the account.
    pub intents: Vec<IntentId>,
}

/// A device of the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// The id of the device.
    pub id: DeviceId,
    /// The public key for which keys are wrapped.
    pub key: PublicKey,
    /// The name that people see.
    pub name: String,
    /// The time at which the device was admitted.
    pub joined_at: Millis,
    /// Whether the device is a recovery code. It has no templates, so nobody waits for its references.
    pub paper: bool,
    /// The id of the record with the device's references.
    pub references: ObjectId,
}

impl Head {
    /// Returns the device with this id.
    pub fn device(&self, id: DeviceId) -> Option<&Device> {
        self.devices.iter().find(|device| device.id == id)
    }

    /// Returns the device that made this head. `before` is the head that this one follows.
    pub fn author(&self, before: &Self) -> Author {
        let author = self.device(self.by).or_else(|| before.device(self.by));
        let name = author.map_or_else(|| self.by.to_string(), |device| device.name.clone());
        Author { id: self.by, name }
    }

    /// Returns the devices that this head removes and those that it admits, compared to the head before.
    pub fn device_changes(&self, before: &Self) -> Vec<DeviceChange> {
        let changes = |head: &Self, other: &Self, is_admitted| {
            let by = self.author(before);
            let changed = head.devices.iter().filter(|device| other.device(device.id).is_none());
            changed
                .map(|device| DeviceChange { device: device.clone(), is_admitted, by: by.clone() })
                .collect::<Vec<_>>()
        };
        [changes(before, self, false), changes(self, before, true)].concat()
    }

    /// Returns the name of a device, or its id if it is not in the account.
    pub fn name_of(&self, id: DeviceId) -> String {
        self.device(id).map_or_else(|| id.to_string(), |device| device.name.clone())
    }
}

/// The reasons why an answer of the server is refused. Nothing of a refused answer has been applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PullError {
    /// The server offers an older state.
    #[error(
        "the server has an older state of the account than this device (head {offered}, not {known}). If the server \
         was restored from a backup, run `guillemet account repair` on the device with the newest state; if not, do \
         not trust the server"
    )]
    Rollback {
        /// The number of the newest head that this device knows.
        known: u64,
        /// The number of the newest head that the server offers.
        offered: u64,
    },
    /// The server offers another history.
    #[error(
        "the server has a different history of the account (at head {seq}): it shows different states to different \
         devices. Compare the words in `guillemet account status` on your machines, and do not trust this server"
    )]
    Fork {
        /// The number of the head at which the histories differ.
        seq: u64,
    },
    /// Heads are missing between the known one and the offered ones.
    #[error(
        "the server does not have every head since this device's last one ({known}; the server's next is {offered}). \
         Compare the words in `guillemet account status` with a machine that is in sync, then run `guillemet account \
         repair`"
    )]
    ContinuityLost {
        /// The number of the newest head that this device knows.
        known: u64,
        /// The number of the next head that the server offers.
        offered: u64,
    },
    /// Something does not open, is missing, or does not match the head.
    #[error("the server changed the account's data: {0}. None of it was applied; do not trust this server")]
    Tampered(&'static str),
    /// An epoch goes back, or a changed record is sealed in one that has ended.
    #[error(
        "the server sent data sealed with a key that a revoked device may have. None of it was applied; do not trust \
         this server"
    )]
    OldEpoch,
    /// Another machine acts as this device.
    #[error(
        "another machine acts as this device: it was cloned, or restored from an image. Run `guillemet account leave` \
         on one of the two machines, then join the account again"
    )]
    Cloned,
    /// This device is no longer in the account, or the server withholds the new key from it.
    #[error(
        "this device was revoked, or the server withholds the account's new key from it: run `guillemet account \
         devices` on another device to find out. This vault is unchanged; if the device was revoked, run `guillemet \
         account leave` here, and rejoin with an invitation"
    )]
    Revoked,
}

impl PullError {
    /// Returns the code of the refusal, as in docs/account-protocol.md.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Rollback { .. } => "rollback",
            Self::Fork { .. } => "fork",
            Self::ContinuityLost { .. } => "continuity_lost",
            Self::Tampered(_) => "tampered",
            Self::OldEpoch => "old_epoch",
            Self::Cloned => "cloned",
            Self::Revoked => "revoked",
        }
    }
}
