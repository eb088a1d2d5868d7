//! The write path: each change of secrets is one transaction of the vault. In an account, the transaction also contains
//! the intents that carry the change to the other devices. Updates from the account are applied in the same way. Also
//! guards deletions (promise Guarded).
//!
//! Knows no server and reads no template file: it asks the catalog for blockers.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::references::blocked_view;
use super::sync::{ACCOUNT, AccountError, NOTICES, StoredIntent, load};
use super::views::{BlockerView, blocker_view};
use super::{Inventory, InventoryError, Owned};
use crate::events::{Change, Event};
use crate::resolve::snapshot::{Released, SnapshotState};
use guillemet_account::engine::{RecordWrite, Update};
use guillemet_account::intent::Intent;
use guillemet_base::names::{SecretId, SecretName};
use guillemet_base::time::now;
use guillemet_secret::record::Secret;
use guillemet_vault::audit::{Actor, AuditChange};
use guillemet_vault::event::ChangeKind;
use guillemet_vault::store::{AccountRecord, AccountWrites, VaultError, Writes};

impl Inventory {
    /// Writes changed secrets (each with its former state), a document and the events of the audit trail in one
    /// transaction. In an account, the changes become intents in the same transaction.
    ///
    /// # Errors
    /// [`InventoryError::Vault`] if the vault cannot be written. Nothing has changed then.
    pub(super) fn write(
        &self,
        owned: &mut Owned,
        changed: &[(Option<&Secret>, Arc<Secret>)],
        document: Option<(&str, &[u8])>,
        audit: &[AuditChange],
    ) -> Result<(), InventoryError> {
        let secrets = changed.iter().map(|(_, after)| &**after).collect();
        let mut writes = Writes { secrets, changes: audit, ..Writes::default() };
        writes.documents.extend(document.map(|(label, bytes)| (Cow::from(label), Some(bytes))));
        let Some(synced) = &mut owned.sync else {
            return Ok(owned.vault.write(&writes)?);
        };
        let intents: Vec<Vec<Intent>> = changed.iter().map(|(before, after)| Intent::between(*before, after)).collect();
        let added = synced.encode_intents(intents.iter().flatten());
        writes.documents.extend(added.iter().map(StoredIntent::document));
        owned.vault.write(&writes)?;
        synced.keep(&added);
        for ((_, after), intents) in changed.iter().zip(intents) {
            synced.engine.record_edit(Arc::clone(after), intents);
        }
        self.due.notify_one();
        Ok(())
    }

    /// Returns the secret to delete, after checking that it is in the expected state and that nothing references it: no
    /// template of this device nor, in an account, of another device as of the newest head.
    ///
    /// # Errors
    /// [`InventoryError::NotFound`], [`InventoryError::Missing`], [`InventoryError::Renamed`],
    /// [`InventoryError::Conflict`]; [`InventoryError::Referenced`] with everything that blocks the delete.
    pub(super) fn guard(
        &self,
        owned: &mut Owned,
        name: &SecretName,
        expected: Option<&str>,
    ) -> Result<Arc<Secret>, InventoryError> {
        let state = self.resolver.current.load();
        let secret = self.secret_to_change(owned, &state, name, expected)?;
        let mut blockers = local_blockers(owned, &secret, &state);
        if let Some(synced) = &owned.sync {
            blockers.extend(synced.engine.delete_blockers(&secret).into_iter().map(blocked_view));
        }
        match blockers.is_empty() {
            true => Ok(secret),
            false => Err(InventoryError::Referenced { name: secret.name.to_string(), blockers }),
        }
    }

    /// Writes an update of the account and the events of the audit trail in one transaction, then answers from the new
    /// state.
    ///
    /// # Errors
    /// If the vault cannot be written. The engine is then loaded again from the vault.
    pub(super) fn apply(
        &self,
        owned: &mut Owned,
        update: Update,
        audit: Vec<AuditChange>,
    ) -> Result<Released, AccountError> {
        let written = Self::write_update(owned, &update, &audit);
        if let Err(error) = written {
            // The engine is ahead of the vault, so load it again from there.
            self.reload(owned);
            return Err(error.into());
        }
        owned.index = None;
        for notice in &update.notices {
            tracing::warn!("{}", notice.text);
        }
        let released = self.resolver.current.change(|state| {
            for secret in update.replaced.iter().chain(&update.removed) {
                state.remove(&secret.name.key());
            }
            for secret in &update.put {
                state.put(None, Arc::clone(secret));
            }
        });
        let replaced: HashSet<_> = update.replaced.iter().map(|secret| secret.id).collect();
        for secret in &update.put {
            let change = if replaced.contains(&secret.id) { Change::Changed } else { Change::Created };
            self.events.publish(Event::of_secret(secret.id, &secret.name, change));
        }
        for secret in &update.removed {
            self.events.publish(Event::of_secret(secret.id, &secret.name, Change::Deleted));
        }
        let synced = owned.sync.as_ref();
        if update.advanced && synced.is_some_and(|synced| synced.engine.base().all_deleted().next().is_some()) {
            // Other devices wait for this device to confirm that none of its templates means what was deleted.
            self.due.notify_one();
        }
        Ok(released)
    }

    fn write_update(owned: &mut Owned, update: &Update, audit: &[AuditChange]) -> Result<(), VaultError> {
        let Some(synced) = &mut owned.sync else { return Ok(()) };
        synced.notices.extend(update.notices.iter().cloned());
        let excess = synced.notices.len().saturating_sub(NOTICES);
        synced.notices.drain(..excess);
        let mut writes = Writes {
            secrets: update.put.iter().map(|secret| &**secret).collect(),
            removed: update.removed.iter().map(|secret| secret.id).collect(),
            changes: audit,
            ..Writes::default()
        };
        let mut stored = std::mem::take(&mut synced.stored);
        let settled: HashSet<_> = update.settled.iter().collect();
        let is_settled = |(id, _): &(guillemet_wire::IntentId, String)| settled.contains(id);
        let mut removed = Vec::new();
        // Almost always the settled intents are the oldest, and there may be very many behind them.
        while let Some(oldest) = stored.pop_front_if(|entry| is_settled(entry)) {
            removed.push(oldest.1);
        }
        if removed.len() < settled.len() {
            removed.extend(stored.iter().filter(|entry| is_settled(entry)).map(|(_, label)| label.clone()));
            stored.retain(|entry| !is_settled(entry));
        }
        // Labels are in the order of the intents, so intents behind an inserted one are written again. The kept ones
        // are pending in the same order: if the last kept one is at its place, nothing was inserted between them.
        let is_last = |(id, _): &(guillemet_wire::IntentId, String)| {
            synced.engine.pending().nth(stored.len() - 1).is_some_and(|pending| pending.id == *id)
        };
        if !stored.back().is_none_or(is_last) {
            removed.extend(stored.drain(..).map(|(_, label)| label));
        }
        let added = synced.encode_intents(synced.engine.pending().skip(stored.len()).map(|intent| &**intent));
        writes.documents.extend(removed.into_iter().map(|label| (Cow::from(label), None)));
        writes.documents.extend(added.iter().map(StoredIntent::document));
        synced.stored = stored;
        synced.keep(&added);
        let document = synced.document()?;
        writes.documents.push((Cow::from(ACCOUNT), Some(&document)));
        let records: Vec<AccountRecord> = update.records.iter().map(account_record).collect();
        writes.account = AccountWrites::These(&records);
        owned.vault.write(&writes)
    }

    /// Loads the engine again from the vault, after a write has failed.
    fn reload(&self, owned: &mut Owned) {
        let state = self.resolver.current.load();
        let secrets: Vec<Arc<Secret>> = state.secrets.values().cloned().collect();
        match load(&owned.vault, &secrets, self.former_versions.load(Ordering::Relaxed)) {
            Ok(loaded) => owned.sync = loaded.map(|(synced, _)| synced),
            Err(error) => {
                tracing::error!(%error, "the account is not used until the next start");
                owned.sync = None;
            }
        }
    }
}

/// Returns everything on this device that blocks the deletion of a secret.
fn local_blockers(owned: &Owned, secret: &Secret, state: &SnapshotState) -> Vec<BlockerView> {
    let names: Vec<&SecretName> = std::iter::once(&secret.name).chain(&secret.former_names).collect();
    let blockers = owned.catalog.blockers(&names, Instant::now());
    blockers.into_iter().map(|blocker| blocker_view(blocker, &secret.name, state)).collect()
}

/// Returns the events of the audit trail for the secrets of an update. `actor_of` returns who changed each secret.
pub(super) fn of_secrets(update: &Update, actor_of: impl Fn(SecretId) -> Actor) -> Vec<AuditChange> {
    let time = now();
    let replaced: HashMap<SecretId, &Secret> = update.replaced.iter().map(|before| (before.id, &**before)).collect();
    let put = update
        .put
        .iter()
        .flat_map(|after| AuditChange::between(replaced.get(&after.id).copied(), after, &actor_of(after.id), time));
    let removed = update.removed.iter().map(|secret| {
        AuditChange::new(ChangeKind::SecretDeleted, &actor_of(secret.id), time).of_secret(secret.id, &secret.name)
    });
    put.chain(removed).collect()
}

fn account_record((id, written): &RecordWrite) -> AccountRecord {
    match written {
        Some((leaf, sealed)) => {
            AccountRecord { id: id.0, revision: leaf.revision, epoch: leaf.epoch, sealed: Some(sealed.0.clone()) }
        }
        None => AccountRecord { id: id.0, revision: 0, epoch: 0, sealed: None },
    }
}
