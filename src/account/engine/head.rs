//! The account's authenticated state, and why one that is offered is refused.

use serde::{Deserialize, Serialize};

use super::{Author, DeviceChange};

use crate::account::wire::{DeviceId, Hash, IntentId, ObjectId, PublicKey};
use crate::names::Millis;

/// What is sealed in a head.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Its number, from 1.
    pub seq: u64,
    /// The epoch it is sealed in.
    pub epoch: u64,
    /// The hash of the head before; zeros for the first.
    pub prev: Hash,
    /// Over every record.
    pub root: Hash,
    /// When its device made it.
    pub made_at: Millis,
    /// Which device that was.
    pub by: DeviceId,
    /// The devices of the account.
    pub devices: Vec<Device>,
    /// The intents it carries.
    pub intents: Vec<IntentId>,
}

/// A device of the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Names it.
    pub id: DeviceId,
    /// What keys are wrapped for.
    pub key: PublicKey,
    /// For people.
    pub name: String,
    /// When it was admitted.
    pub joined_at: Millis,
    /// Whether it is a recovery code: it has no templates, so nobody waits for its references.
    pub paper: bool,
    /// Under which id its references are kept.
    pub references: ObjectId,
}

impl Head {
    /// A device by its id.
    pub fn device(&self, id: DeviceId) -> Option<&Device> {
        self.devices.iter().find(|device| device.id == id)
    }

    /// Who has made this head, which follows `before`.
    pub fn author(&self, before: &Self) -> Author {
        let known = self.device(self.by).or_else(|| before.device(self.by));
        let name = known.map_or_else(|| self.by.to_string(), |device| device.name.clone());
        Author { id: self.by, name }
    }

    /// Which devices this head admits, and which are none of the account any more since the one before.
    pub fn device_changes(&self, before: &Self) -> Vec<DeviceChange> {
        let changes = |of: &Self, other: &Self, is_admitted| {
            let by = self.author(before);
            let changed = of.devices.iter().filter(|device| other.device(device.id).is_none());
            changed
                .map(|device| DeviceChange { device: device.clone(), is_admitted, by: by.clone() })
                .collect::<Vec<_>>()
        };
        [changes(before, self, false), changes(self, before, true)].concat()
    }

    /// What a device is called; its id where it is none of the account.
    pub fn name_of(&self, id: DeviceId) -> String {
        self.device(id).map_or_else(|| id.to_string(), |device| device.name.clone())
    }
}

/// Why what the server offers is refused. Nothing of it has been applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It goes back.
    #[error(
        "the server offers an older state of the account (head {offered}, and this device knows {known}). If it was restored from a backup, run `guillemet account repair` on the device that is furthest; if not, do not trust it"
    )]
    Rollback {
        /// What this device knows.
        known: u64,
        /// What is offered.
        offered: u64,
    },
    /// It is another history.
    #[error(
        "the server offers another history of the account (at head {seq}): it shows different devices different states. Compare the words of `guillemet account status` between your machines, and do not trust this server"
    )]
    Fork {
        /// Where it parts.
        seq: u64,
    },
    /// Heads are missing in between.
    #[error(
        "the server does not have every head since this device's last ({known}; it offers {offered}). Compare the words of `guillemet account status` with a machine that is in sync, then run `guillemet account repair`"
    )]
    ContinuityLost {
        /// What this device knows.
        known: u64,
        /// What is offered next.
        offered: u64,
    },
    /// Something does not open, or is not what the head says.
    #[error("what the server offers was changed: {0}. Nothing of it was applied; do not trust this server")]
    Tampered(&'static str),
    /// Something is sealed in an epoch that has ended.
    #[error(
        "what the server offers is sealed with a key that a revoked device may have. Nothing of it was applied; do not trust this server"
    )]
    OldEpoch,
    /// Somebody else acts as this device.
    #[error(
        "another machine acts as this device: it was cloned, or brought back from an image. Run `guillemet account leave` on one of the two, and join it again"
    )]
    Cloned,
    /// This device is none of the account any more, as far as it can see.
    #[error(
        "this device was revoked, or the server keeps the account's new key from it: `guillemet account devices` on another device tells. Its vault stays as it is; where it was revoked, `guillemet account leave` ends its membership here, and an invitation brings it back"
    )]
    Revoked,
}

impl Refusal {
    /// For programs.
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
