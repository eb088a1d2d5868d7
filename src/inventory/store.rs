//! The write path: each change of secrets is one transaction of the vault, in an account with the intents that tell the
//! other devices of it, and an update from the account is applied the same way. Also what guards a deletion.
//!
//! Knows no server and no template file: the catalog is asked for blockers, and nothing is read here.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::references::blocked_view;
use super::sync::{ACCOUNT, AccountError, NOTICES, label, load};
use super::views::{BlockerView, blocker_view};
use super::{Inventory, InventoryError, Owned};
use crate::account::engine::{Update, Written};
use crate::account::intent::Intent;
use crate::account::wire;
use crate::events::{Change, Event};
use crate::resolve::snapshot::{Released, State};
use crate::vault::audit::{Actor, Change as AuditChange};
use crate::vault::event::ChangeKind;
use crate::vault::store::{AccountRecord, AccountWrites, VaultError, Writes};
use guillemet_base::names::{SecretId, SecretName};
use guillemet_base::time::now;
use guillemet_secret::record::Secret;

impl Inventory {
    /// Writes changed secrets, each with what it was before, a document with them, and the events of the audit trail, in
    /// one transaction. In an account they become intents in the same transaction.
    ///
    /// # Errors
    /// `Vault`: nothing has changed.
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
        let Some(joined) = &mut owned.sync else {
            return Ok(owned.vault.write(&writes)?);
        };
        let intents: Vec<Vec<Intent>> = changed.iter().map(|(before, after)| Intent::between(*before, after)).collect();
        let encoded: Vec<_> = intents.iter().flatten().map(|intent| (intent.id, intent.encode())).collect();
        let labels: Vec<_> = (joined.next..).map(label).take(encoded.len()).collect();
        for (label, (_, bytes)) in labels.iter().zip(&encoded) {
            writes.documents.push((Cow::from(label.as_str()), Some(bytes)));
        }
        owned.vault.write(&writes)?;
        joined.next += labels.len() as u64;
        joined.kept.extend(encoded.iter().map(|(id, _)| *id).zip(labels));
        for ((_, after), intents) in changed.iter().zip(intents) {
            joined.engine.edited(Arc::clone(after), intents);
        }
        self.due.notify_one();
        Ok(())
    }

    /// Returns the secret to delete: it is what the caller expects, and nothing references it, neither a template of this
    /// device nor, in an account, one of another device as of the newest head.
    ///
    /// # Errors
    /// `NotFound`, `Missing`, `Renamed`, `Conflict`; `Referenced` with everything that stands in the way.
    pub(super) fn guard(
        &self,
        owned: &mut Owned,
        name: &SecretName,
        expected: Option<&str>,
    ) -> Result<Arc<Secret>, InventoryError> {
        let state = self.resolver.current.load();
        let secret = self.expect(owned, &state, name, expected)?;
        let mut blockers = local_blockers(owned, &secret, &state);
        if let Some(joined) = &owned.sync {
            blockers.extend(joined.engine.blocked(&secret).into_iter().map(blocked_view));
        }
        match blockers.is_empty() {
            true => Ok(secret),
            false => Err(InventoryError::Referenced { name: secret.name.to_string(), blockers }),
        }
    }

    /// Writes an update of the account and the events of the audit trail in one transaction, then answers from it.
    ///
    /// # Errors
    /// The vault's. The engine is loaded again from what is written then.
    pub(super) fn apply(
        &self,
        owned: &mut Owned,
        update: Update,
        audit: Vec<AuditChange>,
    ) -> Result<Released, AccountError> {
        let written = Self::write_update(owned, &update, &audit);
        if let Err(error) = written {
            // The engine is ahead of what is written: it is made again from that.
            self.reload(owned);
            return Err(error.into());
        }
        owned.index = None;
        for notice in &update.notices {
            tracing::warn!("{}", notice.text);
        }
        let released = self.resolver.current.change(|state| {
            for secret in update.replaced.iter().chain(&update.removed) {
                state.take(&secret.name.key());
            }
            for secret in &update.put {
                state.put(None, Arc::clone(secret));
            }
        });
        let replaced: HashSet<_> = update.replaced.iter().map(|secret| secret.id).collect();
        for secret in &update.put {
            let change = if replaced.contains(&secret.id) { Change::Changed } else { Change::Created };
            self.events.tell(Event::of_secret(secret.id, &secret.name, change));
        }
        for secret in &update.removed {
            self.events.tell(Event::of_secret(secret.id, &secret.name, Change::Deleted));
        }
        let joined = owned.sync.as_ref();
        if update.advanced && joined.is_some_and(|joined| joined.engine.base().all_deleted().next().is_some()) {
            // Others wait for a word from this device that it does not mean what was deleted.
            self.due.notify_one();
        }
        Ok(released)
    }

    fn write_update(owned: &mut Owned, update: &Update, audit: &[AuditChange]) -> Result<(), VaultError> {
        let Some(joined) = &mut owned.sync else { return Ok(()) };
        joined.notices.extend(update.notices.iter().cloned());
        let surplus = joined.notices.len().saturating_sub(NOTICES);
        joined.notices.drain(..surplus);
        let mut writes = Writes {
            secrets: update.put.iter().map(|secret| &**secret).collect(),
            removed: update.removed.iter().map(|secret| secret.id).collect(),
            changes: audit,
            ..Writes::default()
        };
        let mut kept = std::mem::take(&mut joined.kept);
        let settled: HashSet<_> = update.settled.iter().collect();
        let gone = |(id, _): &(wire::IntentId, String)| settled.contains(id);
        let mut forgotten = Vec::new();
        // What is settled is the oldest, nearly always; and there may be very many behind.
        while let Some(oldest) = kept.pop_front_if(|kept| gone(kept)) {
            forgotten.push(oldest.1);
        }
        if forgotten.len() < settled.len() {
            forgotten.extend(kept.iter().filter(|kept| gone(kept)).map(|(_, label)| label.clone()));
            kept.retain(|kept| !gone(kept));
        }
        // Labels are in the order of the intents: what comes before others is written again with them. What is kept
        // is pending in the same order, so that nothing is between as soon as the last of both is the same.
        let is_last = |(id, _): &(wire::IntentId, String)| {
            joined.engine.pending().nth(kept.len() - 1).is_some_and(|pending| pending.id == *id)
        };
        if !kept.back().is_none_or(is_last) {
            forgotten.extend(kept.drain(..).map(|(_, label)| label));
        }
        let added: Vec<Arc<Intent>> = joined.engine.pending().skip(kept.len()).cloned().collect();
        let encoded: Vec<_> = added.iter().map(|intent| intent.encode()).collect();
        let labels: Vec<_> = (joined.next..).map(label).take(added.len()).collect();
        writes.documents.extend(forgotten.into_iter().map(|label| (Cow::from(label), None)));
        for (label, bytes) in labels.iter().zip(&encoded) {
            writes.documents.push((Cow::from(label.clone()), Some(bytes)));
        }
        joined.next += labels.len() as u64;
        kept.extend(added.iter().map(|intent| intent.id).zip(labels));
        joined.kept = kept;
        let document = joined.document()?;
        writes.documents.push((Cow::from(ACCOUNT), Some(&document)));
        let records: Vec<AccountRecord> = update.records.iter().map(account_record).collect();
        writes.account = AccountWrites::These(&records);
        owned.vault.write(&writes)
    }

    /// Loads the engine again from what is written, after a write has failed.
    fn reload(&self, owned: &mut Owned) {
        let state = self.resolver.current.load();
        let secrets: Vec<Arc<Secret>> = state.secrets.values().cloned().collect();
        match load(&owned.vault, &secrets, self.former_versions.load(Ordering::Relaxed)) {
            Ok(loaded) => owned.sync = loaded.map(|(joined, _)| joined),
            Err(error) => {
                tracing::error!(%error, "the account is not used until the next start");
                owned.sync = None;
            }
        }
    }
}

/// Returns what stands in the way of deleting a secret on this device.
fn local_blockers(owned: &Owned, secret: &Secret, state: &State) -> Vec<BlockerView> {
    let names: Vec<&SecretName> = std::iter::once(&secret.name).chain(&secret.former_names).collect();
    let blockers = owned.catalog.blockers(&names, Instant::now());
    blockers.into_iter().map(|blocker| blocker_view(blocker, &secret.name, state)).collect()
}

/// Returns the events of the audit trail for the secrets of an update; `who` says who changed each.
pub(super) fn of_secrets(update: &Update, who: impl Fn(SecretId) -> Actor) -> Vec<AuditChange> {
    let time = now();
    let replaced: HashMap<SecretId, &Secret> = update.replaced.iter().map(|before| (before.id, &**before)).collect();
    let put = update
        .put
        .iter()
        .flat_map(|after| AuditChange::between(replaced.get(&after.id).copied(), after, &who(after.id), time));
    let removed = update.removed.iter().map(|secret| {
        AuditChange::new(ChangeKind::SecretDeleted, &who(secret.id), time).of_secret(secret.id, &secret.name)
    });
    put.chain(removed).collect()
}

fn account_record((id, written): &Written) -> AccountRecord {
    match written {
        Some((leaf, sealed)) => {
            AccountRecord { id: id.0, revision: leaf.revision, epoch: leaf.epoch, sealed: Some(sealed.0.clone()) }
        }
        None => AccountRecord { id: id.0, revision: 0, epoch: 0, sealed: None },
    }
}
