//! The account as the vault stores it, read when the daemon starts.

use std::borrow::Cow;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::reports::StoredReport;
use guillemet_account::engine::{Engine, Notice, StoredEngine, Update};
use guillemet_account::intent::Intent;
use guillemet_base::names::Millis;
use guillemet_base::sys::memory::Clear;
use guillemet_secret::record::Secret;
use guillemet_vault::store::{Vault, VaultError, Writes};
use guillemet_wire::{Hash, IntentId};

/// The label of the document with everything of the account but records and intents.
pub(in crate::inventory) const ACCOUNT: &str = "account";
/// The prefix of the labels of pending intents; a number in hexadecimal digits follows.
const INTENT: &str = "account/intent/";
/// The label of the document with the newest usage reports of all devices.
pub(super) const USAGE: &str = "account/usage";

/// What a vault stores of its account besides the engine's state.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountFacts {
    /// The URL of the server.
    pub url: String,
    /// The SHA-256 of the server's certificate, if it is pinned.
    pub pin: Option<Hash>,
    /// The API key of this device. The allocator wipes it when it is freed.
    pub api_key: String,
    /// The name of this device.
    pub name: String,
    /// Why this device has stopped syncing; `None` while it syncs.
    pub stopped: Option<StopReason>,
    /// The invitations from this device that have not been used yet.
    pub invited: Vec<Invited>,
    /// The counter of the last usage report.
    pub usage_counter: u64,
}

/// Why a device has stopped syncing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopReason {
    /// The code of the refusal, for programs.
    pub code: String,
    /// What happened and what to do about it.
    pub message: String,
    /// The time at which it stopped, in milliseconds since the epoch.
    pub at: Millis,
}

/// An invitation that has not been used yet.
#[derive(Clone, Serialize, Deserialize)]
pub struct Invited {
    /// The secret of the invitation, in hexadecimal digits.
    pub secret: String,
    /// The time at which it expires, in milliseconds since the epoch.
    pub until: Millis,
}

/// The form in which the account is stored.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountDocument {
    facts: AccountFacts,
    engine: StoredEngine,
    notices: Vec<Notice>,
}

/// A vault in an account.
pub(in crate::inventory) struct SyncedVault {
    pub(in crate::inventory) engine: Engine,
    pub(in crate::inventory) facts: AccountFacts,
    pub(in crate::inventory) notices: Vec<Notice>,
    /// The number of the next intent's document.
    pub(in crate::inventory) next: u64,
    /// The pending intents that are written down, each with its label, in the order of the engine.
    pub(in crate::inventory) stored: VecDeque<(IntentId, String)>,
    /// The newest usage report of each device.
    pub(super) usage: Vec<StoredReport>,
}

/// Reads the account of a vault; `None` if the vault is in none.
///
/// # Errors
/// [`VaultError::Damaged`] if it cannot be read.
pub(in crate::inventory) fn load(
    vault: &Vault,
    secrets: &[Arc<Secret>],
    former_versions: usize,
) -> Result<Option<(SyncedVault, Update)>, VaultError> {
    let damaged = |message: String| VaultError::Damaged(message);
    let Some(bytes) = vault.document(ACCOUNT)?.filter(|bytes| !bytes.is_empty()) else {
        return Ok(None);
    };
    let document: AccountDocument = serde_json::from_slice(&bytes)
        .map_err(|_| damaged("its account data does not have the format that Guillemet writes".into()))?;
    let (mut intents, mut stored, mut next) = (Vec::new(), VecDeque::new(), 0);
    for (label, bytes) in vault.documents(INTENT)? {
        let intent = Intent::decode(&bytes)
            .map_err(|_| damaged("a change that has not reached the account yet is damaged".into()))?;
        next = u64::from_str_radix(&label[INTENT.len()..], 16).map_or(next, |number| number + 1);
        stored.push_back((intent.id, label));
        intents.push(intent);
    }
    let records = vault.account_records()?.into_iter().filter_map(|record| {
        let sealed = guillemet_wire::Sealed(record.sealed?);
        let leaf = guillemet_account::tree::RecordLeaf::of(record.revision, record.epoch, &sealed);
        Some((guillemet_wire::ObjectId(record.id), leaf, sealed))
    });
    let reports = match vault.document(USAGE)?.map(|bytes| serde_json::from_slice(&bytes)) {
        Some(Ok(reports)) => reports,
        Some(Err(error)) => {
            // The server has them too, and they are fetched again.
            let column = error.column();
            tracing::warn!(column, "the stored usage reports of the account's devices cannot be read");
            Vec::new()
        }
        None => Vec::new(),
    };
    let (engine, update) = Engine::load(document.engine, records.collect(), secrets, intents, former_versions)
        .map_err(|error| damaged(error.to_string()))?;
    let usage = StoredReport::open_all(&engine, reports);
    let synced = SyncedVault { engine, facts: document.facts, notices: document.notices, next, stored, usage };
    Ok(Some((synced, update)))
}

/// An intent as a document of the vault.
pub(in crate::inventory) struct StoredIntent {
    id: IntentId,
    label: String,
    bytes: Clear,
}

impl StoredIntent {
    /// Returns the document with its label, to be written.
    pub(in crate::inventory) fn document(&self) -> (Cow<'_, str>, Option<&[u8]>) {
        (Cow::from(&self.label), Some(&self.bytes))
    }
}

/// The account of a vault that has just been opened; `None` inside if the vault is in none.
pub struct StoredSync(pub(in crate::inventory) Option<SyncedVault>);

impl StoredSync {
    /// Reads the account of a vault, and brings `secrets` to its state.
    ///
    /// # Errors
    /// [`VaultError`] if it is damaged or cannot be written.
    pub fn of(vault: &mut Vault, secrets: &mut Vec<Arc<Secret>>, former_versions: usize) -> Result<Self, VaultError> {
        let Some((synced, update)) = load(vault, secrets, former_versions)? else { return Ok(Self(None)) };
        // Secrets and membership are written in one transaction, so there is nothing to correct, unless this version
        // applies pending intents in another way than the one that wrote them.
        if !update.put.is_empty() || !update.removed.is_empty() {
            vault.write(&Writes {
                secrets: update.put.iter().map(|secret| &**secret).collect(),
                removed: update.removed.iter().map(|secret| secret.id).collect(),
                ..Writes::default()
            })?;
            let old: HashSet<_> = update.replaced.iter().chain(&update.removed).map(|secret| secret.id).collect();
            secrets.retain(|secret| !old.contains(&secret.id));
            secrets.extend(update.put);
        }
        Ok(Self(Some(synced)))
    }
}

impl SyncedVault {
    /// Encodes intents that come after the kept ones, with the next labels. Labels sort in the order of the intents.
    pub(in crate::inventory) fn encode_intents<'a>(
        &self,
        intents: impl Iterator<Item = &'a Intent>,
    ) -> Vec<StoredIntent> {
        let labels = (self.next..).map(|number| format!("{INTENT}{number:016x}"));
        intents
            .zip(labels)
            .map(|(intent, label)| StoredIntent { id: intent.id, label, bytes: intent.encode() })
            .collect()
    }

    /// Adds intents to the kept ones, in the order in which [`Self::encode_intents`] returned them.
    pub(in crate::inventory) fn keep(&mut self, added: &[StoredIntent]) {
        self.next += added.len() as u64;
        self.stored.extend(added.iter().map(|intent| (intent.id, intent.label.clone())));
    }

    pub(in crate::inventory) fn document(&self) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let document = AccountDocument {
            facts: self.facts.clone(),
            engine: self.engine.to_stored(),
            notices: self.notices.clone(),
        };
        serde_json::to_vec(&document).map(Zeroizing::new).map_err(VaultError::Unserializable)
    }
}
