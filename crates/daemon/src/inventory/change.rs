//! The changes of a secret: name, value, state, a former version. Each one is one critical section and one transaction
//! of the vault, and leaves every reference working.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use zeroize::Zeroizing;

use super::index::IndexRow;
use super::sync::SyncedVault;
use super::views::{blocker_view, etag};
use super::{Inventory, InventoryError, Owned};
use crate::resolve::snapshot::{Released, SnapshotState};
use guillemet_api::events::{Change, Event};
use guillemet_api::secrets::ChangedSecret;
use guillemet_base::names::SecretName;
use guillemet_base::time::now;
use guillemet_secret::record::Secret;
use guillemet_template::catalog::{Blocker, Rewrite, Unwritable, finish};
use guillemet_vault::audit::{Actor, AuditChange};
use guillemet_vault::event::ChangeKind;
use guillemet_vault::store::{Vault, VaultError, Writes};

/// The label of the document that lists the files which a rename is about to rewrite.
const RENAME: &str = "rename";
/// The content of that document if no rename is in progress.
const NOTHING: &[u8] = b"{}";
/// The most former names that a secret keeps, apart from those that are referenced.
const FORMER_NAMES: usize = 100;

/// A change of a secret. Whatever is `None` stays as it is.
#[derive(Clone, Default)]
pub struct SecretChange {
    /// The new name of the secret.
    pub name: Option<SecretName>,
    /// The new value. The present value becomes a former version.
    pub value: Option<Zeroizing<String>>,
    /// Whether the secret can be resolved.
    pub enabled: Option<bool>,
    /// Whether references by former names are rewritten in the templates' files, all or none.
    pub rewrite: bool,
}

/// Completes or undoes a rename that a crash interrupted. Has to run before the templates are read.
///
/// # Errors
/// [`VaultError`] if the vault cannot be read or written.
pub fn finish_rename(vault: &mut Vault) -> Result<(), VaultError> {
    match vault.document(RENAME)? {
        Some(note) if note.as_slice() != NOTHING => {
            finish(&note);
            vault.set_document(RENAME, NOTHING)
        }
        _ => Ok(()),
    }
}

impl Inventory {
    /// Creates a secret.
    ///
    /// # Errors
    /// [`InventoryError::Taken`], [`InventoryError::Formerly`], [`InventoryError::Conflict`],
    /// [`InventoryError::Value`], [`InventoryError::Vault`].
    pub fn create(
        &self,
        actor: &Actor,
        name: SecretName,
        value: &str,
        enabled: bool,
    ) -> Result<(ChangedSecret, Released), InventoryError> {
        let is_scanned = self.scan_for(&name);
        let mut owned = self.lock();
        let state = self.resolver.current.load();
        let transfer = self.reserve_name(&owned, &state, &name, None, is_scanned)?;
        drop(state);
        let secret = Arc::new(Secret::new(name, value, enabled, now())?);
        let audit = AuditChange::between(None, &secret, actor, secret.created_at);
        self.write(&mut owned, &with_robbed(transfer.as_ref(), None, &secret), None, &audit)?;
        let released = self.replace(&mut owned, None, transfer.map(|(_, holder)| holder), Arc::clone(&secret));
        Ok((self.changed_secret(&owned, &secret, Vec::new())?, released))
    }

    /// Changes a secret. `expected` is the entity tag of the state that the change was made for; any other state is a
    /// conflict. `None` accepts any state.
    ///
    /// # Errors
    /// [`InventoryError::NotFound`], [`InventoryError::Missing`], [`InventoryError::Renamed`],
    /// [`InventoryError::Conflict`], [`InventoryError::Taken`], [`InventoryError::Formerly`],
    /// [`InventoryError::Value`], [`InventoryError::Unwritable`], [`InventoryError::Vault`]. Nothing has changed then,
    /// except for [`InventoryError::NotRewritten`].
    pub fn update(
        &self,
        actor: &Actor,
        name: &SecretName,
        change: SecretChange,
        expected: Option<&str>,
    ) -> Result<(ChangedSecret, Released), InventoryError> {
        let mut is_scanned = change.name.as_ref().is_some_and(|name| self.scan_for(name));
        if change.rewrite {
            if !self.rescan() {
                // Files are rewritten under the lock, so a file that hangs would block all callers.
                let unknown = self.lock().catalog.blockers(&[], Instant::now());
                let unwritable =
                    |unknown: Blocker| Unwritable { message: unknown.message(name), template: unknown.template };
                let files = unknown.into_iter().map(unwritable).collect();
                return Err(InventoryError::Unwritable { name: name.to_string(), files });
            }
            is_scanned = true;
        }
        let mut owned = self.lock();
        let state = self.resolver.current.load();
        let secret = self.secret_to_change(&mut owned, &state, name, expected)?;
        let mut next = secret.next(now());
        let mut transfer = None;
        let mut is_same = true;
        if let Some(name) = change.name.filter(|name| name.as_str() != secret.name.as_str()) {
            transfer = self.reserve_name(&owned, &state, &name, Some(&secret), is_scanned)?;
            next.rename(name);
            forget_names(&mut owned, &mut next);
            is_same = false;
        }
        if let Some(value) = &change.value {
            next.set_value(value, self.former_versions.load(Ordering::Relaxed), next.updated_at)?;
            is_same = false;
        }
        if let Some(enabled) = change.enabled.filter(|enabled| *enabled != secret.enabled) {
            next.enabled = enabled;
            is_same = false;
        }
        drop(state);
        let rewrite = if change.rewrite { self.stage_rewrite(&mut owned, &next)? } else { Rewrite::default() };
        if is_same && rewrite.is_empty() {
            // This is acknowledged like a change, because answers from before an earlier change to the same state may
            // still be on their way.
            let released = self.resolver.current.change(|_| {});
            return Ok((self.changed_secret(&owned, &secret, Vec::new())?, released));
        }
        let next = Arc::new(next);
        let note =
            rewrite.note(true).map_err(|files| InventoryError::Unwritable { name: next.name.to_string(), files })?;
        let document = (!rewrite.is_empty()).then_some((RENAME, note.as_slice()));
        let audit = AuditChange::between(Some(&secret), &next, actor, next.updated_at);
        self.write(&mut owned, &with_robbed(transfer.as_ref(), Some(&secret), &next), document, &audit)?;
        let released = self.replace(&mut owned, Some(&secret), transfer.map(|(_, holder)| holder), Arc::clone(&next));
        let rewritten = self.rewrite(&mut owned, actor, &next, rewrite)?;
        Ok((self.changed_secret(&owned, &next, rewritten)?, released))
    }

    /// Gives a secret the value of a former version again, as a new version.
    ///
    /// # Errors
    /// [`InventoryError::NotFound`], [`InventoryError::Missing`], [`InventoryError::Renamed`],
    /// [`InventoryError::Conflict`], [`InventoryError::Version`], [`InventoryError::Vault`].
    pub fn rollback(
        &self,
        actor: &Actor,
        name: &SecretName,
        version: u32,
        expected: Option<&str>,
    ) -> Result<(ChangedSecret, Released), InventoryError> {
        let mut owned = self.lock();
        let secret = self.secret_to_change(&mut owned, &self.resolver.current.load(), name, expected)?;
        let mut next = secret.next(now());
        next.roll_back(version, self.former_versions.load(Ordering::Relaxed), next.updated_at)?;
        let next = Arc::new(next);
        let audit = rolled_back(actor, &next, version);
        self.write(&mut owned, &[(Some(&secret), Arc::clone(&next))], None, &[audit])?;
        let released = self.replace(&mut owned, Some(&secret), None, Arc::clone(&next));
        Ok((self.changed_secret(&owned, &next, Vec::new())?, released))
    }

    /// Returns the secret to change, in the expected state. If it is missing, the error contains its references.
    pub(super) fn secret_to_change(
        &self,
        owned: &mut Owned,
        state: &SnapshotState,
        name: &SecretName,
        expected: Option<&str>,
    ) -> Result<Arc<Secret>, InventoryError> {
        secret_in_state(state, name, expected).map_err(|error| self.not_found(owned, state, name, error))
    }

    /// Scans the templates if it has to be known whether they reference this name, which is if it is a former name.
    /// Returns whether that was needed.
    fn scan_for(&self, name: &SecretName) -> bool {
        let is_former = self.resolver.current.load().former.contains_key(name.key().as_str());
        if is_former {
            self.rescan();
        }
        is_former
    }

    /// Checks that a name can be given to the secret `to`, or to a new one. If it is a former name of another secret
    /// and nothing references it any more, returns that secret without the name. `is_scanned` means that the templates
    /// were scanned for this.
    fn reserve_name(
        &self,
        owned: &Owned,
        state: &SnapshotState,
        name: &SecretName,
        to: Option<&Secret>,
        is_scanned: bool,
    ) -> Result<Option<NameTransfer>, InventoryError> {
        let key = name.key();
        let is_other = |holder: &&Arc<Secret>| to.is_none_or(|to| to.id != holder.id);
        if let Some(holder) = state.secrets.get(key.as_str()).filter(is_other) {
            return Err(InventoryError::Taken(holder.name.to_string()));
        }
        let Some(holder) = state.secret(&key).filter(is_other) else { return Ok(None) };
        if !is_scanned {
            // It has become a former name since the scan was decided.
            return Err(InventoryError::Conflict(holder.name.to_string()));
        }
        let blockers = owned.catalog.blockers(&[name], Instant::now());
        let mut blockers: Vec<_> =
            blockers.into_iter().map(|blocker| blocker_view(blocker, &holder.name, state)).collect();
        blockers.extend(owned.sync.iter().flat_map(|synced| synced.references(name)));
        if !blockers.is_empty() {
            let (name, holder) = (name.to_string(), holder.name.to_string());
            return Err(InventoryError::Formerly { name, holder, blockers });
        }
        let mut next = holder.next(now());
        next.forget_name(name);
        Ok(Some((Arc::clone(holder), Arc::new(next))))
    }

    /// Puts a changed secret into the state in place of its former state, together with the secret whose former name it
    /// took.
    fn replace(
        &self,
        owned: &mut Owned,
        before: Option<&Secret>,
        holder: Option<Arc<Secret>>,
        secret: Arc<Secret>,
    ) -> Released {
        owned.index = None;
        let (change, id, name) =
            (if before.is_some() { Change::Changed } else { Change::Created }, secret.id, secret.name.clone());
        let released = self.resolver.current.change(|state| {
            if let Some(holder) = &holder {
                state.put(Some(&holder.name.key()), Arc::clone(holder));
            }
            state.put(before.map(|before| before.name.key()).as_deref(), secret);
        });
        if let Some(holder) = holder {
            self.events.publish(Event::of_secret(holder.id, &holder.name, Change::Changed));
        }
        self.events.publish(Event::of_secret(id, &name, change));
        released
    }

    /// Writes the rewritten templates next to the original files. In them, references use the present name of the
    /// secret.
    fn stage_rewrite(&self, owned: &mut Owned, secret: &Secret) -> Result<Rewrite, InventoryError> {
        let names: Vec<&SecretName> = secret.former_names.iter().chain([&secret.name]).collect();
        let unwritable = |files| InventoryError::Unwritable { name: secret.name.to_string(), files };
        let rewrite = owned.catalog.rewrite(&names, &secret.name).map_err(unwritable)?;
        if !rewrite.is_empty() {
            let note = rewrite.note(false).map_err(unwritable)?;
            owned.vault.set_document(RENAME, &note)?;
            rewrite.write().map_err(unwritable)?;
        }
        Ok(rewrite)
    }

    /// Puts the rewritten templates in place. The vault has the new name already, and references by the former one
    /// work.
    fn rewrite(
        &self,
        owned: &mut Owned,
        actor: &Actor,
        secret: &Secret,
        rewrite: Rewrite,
    ) -> Result<Vec<String>, InventoryError> {
        if rewrite.is_empty() {
            return Ok(Vec::new());
        }
        let templates: Vec<String> = rewrite.templates().map(str::to_owned).collect();
        let result = rewrite.place();
        let audit = AuditChange::new(ChangeKind::ReferencesRewritten, actor, now()).of_secret(secret.id, &secret.name);
        let audit = audit.after(templates.join(", "));
        // If this fails, the files that were already put in place stay.
        let audit = if result.is_ok() { audit } else { audit.failed("conflict") };
        owned.vault.write(&Writes {
            documents: vec![(RENAME.into(), Some(NOTHING))],
            changes: &[audit],
            ..Writes::default()
        })?;
        // No scan is needed: these files have just been read and written under the same lock.
        let reading = owned.catalog.begin().recheck(templates.iter().map(String::as_str));
        self.apply_reading(owned, reading);
        match result {
            Ok(()) => Ok(templates),
            Err(error) => {
                Err(InventoryError::NotRewritten { name: secret.name.to_string(), problem: error.to_string() })
            }
        }
    }

    fn changed_secret(
        &self,
        owned: &Owned,
        secret: &Secret,
        rewritten: Vec<String>,
    ) -> Result<ChangedSecret, InventoryError> {
        let uses = self.uses_under_lock(owned)?;
        let others = owned.sync.as_ref().map(SyncedVault::references_of_others).unwrap_or_default();
        let row = IndexRow::of(&self.resolver.current.load(), &owned.catalog, &others, Arc::new(secret.clone()));
        Ok(ChangedSecret { secret: row.view(&uses), etag: Some(etag(secret)), rewritten })
    }
}

/// Returns the audit event for a former version that is the current one again.
fn rolled_back(actor: &Actor, after: &Secret, version: u32) -> AuditChange {
    let change = AuditChange::new(ChangeKind::SecretRolledBack, actor, after.updated_at);
    change.of_secret(after.id, &after.name).before(version.to_string()).after(after.current().number.to_string())
}

/// A secret that loses a former name to another one: its former state, and its state without the name.
type NameTransfer = (Arc<Secret>, Arc<Secret>);

/// Returns the secrets that are written together. The one that loses its name comes first.
fn with_robbed<'a>(
    transfer: Option<&'a NameTransfer>,
    before: Option<&'a Secret>,
    secret: &Arc<Secret>,
) -> Vec<(Option<&'a Secret>, Arc<Secret>)> {
    let transfer = transfer.map(|(before, after)| (Some(&**before), Arc::clone(after)));
    transfer.into_iter().chain([(before, Arc::clone(secret))]).collect()
}

/// Returns the secret to change, in the expected state.
fn secret_in_state(
    state: &SnapshotState,
    name: &SecretName,
    expected: Option<&str>,
) -> Result<Arc<Secret>, InventoryError> {
    let key = name.key();
    let Some(secret) = state.secrets.get(key.as_str()) else {
        return Err(match state.secret(&key) {
            Some(renamed) => InventoryError::Renamed { former: name.to_string(), name: renamed.name.to_string() },
            None => InventoryError::NotFound(name.to_string()),
        });
    };
    // RFC 9110, section 13.1.1: any of the tags can match, compared strongly; `*` matches any state.
    let meets = |expected: &str| expected.split(',').any(|tag| matches!(tag.trim(), "*") || tag.trim() == etag(secret));
    match expected {
        Some(expected) if !meets(expected) => Err(InventoryError::Conflict(secret.name.to_string())),
        _ => Ok(Arc::clone(secret)),
    }
}

/// Drops the oldest former names that nothing references, if there are too many.
fn forget_names(owned: &mut Owned, secret: &mut Secret) {
    let now = Instant::now();
    let mut excess = secret.former_names.len().saturating_sub(FORMER_NAMES);
    secret.former_names.retain(|name| {
        let is_named_elsewhere = || owned.sync.iter().any(|synced| !synced.references(name).is_empty());
        let is_dropped = excess > 0 && owned.catalog.blockers(&[name], now).is_empty() && !is_named_elsewhere();
        excess -= usize::from(is_dropped);
        !is_dropped
    });
}
