//! The vault in an account: pulls and pushes of the sync engine, and how a vault joins and leaves.
//!
//! Keeps the engine behind the inventory's mutex; `store` writes the engine's updates. Knows no server: `crate::sync`
//! carries the data in and out.

mod joined;
mod reports;
use std::borrow::Cow;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use self::joined::USAGE;
pub(super) use self::joined::{ACCOUNT, StoredIntent, SyncedVault, load};
pub use self::joined::{AccountFacts, Invited, StopReason, StoredSync};
pub use self::reports::UsageReport;
use super::references::local_references;
use super::store::of_secrets;
use super::{Inventory, InventoryError, Owned};
use crate::resolve::snapshot::Released;
use guillemet_account::engine::{
    DeviceChange, Engine, Head, Notice, PreparedPush, Proposal, PullError, PushError, RecordWrite, References, Update,
};
use guillemet_account::intent::{Intent, IntentChange};
use guillemet_api::account::SameName;
use guillemet_base::names::{SecretId, SecretName};
use guillemet_base::time::now;
use guillemet_secret::crypto;
use guillemet_secret::record::Secret;
use guillemet_template::catalog::Template;
use guillemet_vault::audit::{Actor, AuditChange, ChangeSubject, DeviceRef};
use guillemet_vault::event::ChangeKind;
use guillemet_vault::store::{AccountRecord, AccountWrites, VaultError, Writes};
use guillemet_wire::{ChangesPage, DeviceId, Hash, HeadRef, PullCursor};

/// The most notices that are kept.
pub(super) const NOTICES: usize = 100;

/// A push that is written down and about to be sent.
pub struct Outgoing {
    /// The push, and the state it leads to.
    pub candidate: PreparedPush,
    /// The references that it publishes, and the templates they are from.
    local: References,
    templates: Vec<Arc<Template>>,
}

/// The reason why a step of a sync was not done.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The device refuses what the server offers.
    #[error(transparent)]
    Refused(#[from] PullError),
    /// The push cannot be prepared.
    #[error(transparent)]
    Unprepared(#[from] PushError),
    /// The inventory refused the step.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// The vault is in no account.
    #[error("this vault is not in an account; run `guillemet account join` to join one")]
    None,
    /// The vault is in an account already.
    #[error("this vault is already in an account; run `guillemet account leave` first")]
    Already,
    /// These names exist both in this vault and in the account, and it is undecided what to do with each.
    #[error("some secrets in this vault and in the account have the same name; choose what to do with each")]
    SameNames(Vec<String>),
}

impl From<VaultError> for AccountError {
    fn from(error: VaultError) -> Self {
        Self::Inventory(error.into())
    }
}

/// The state of a vault in an account.
pub struct AccountState {
    /// The facts about the server, and about this device as the server knows it.
    pub facts: AccountFacts,
    /// The newest head, with its hash.
    pub head: Option<(Head, Hash)>,
    /// The id of the account, and of this device in it.
    pub me: (guillemet_wire::AccountId, DeviceId),
    /// The number of intents that the account does not have yet.
    pub pending: usize,
    /// The notices for people, the newest last.
    pub notices: Vec<Notice>,
    /// The devices that have published references, each with the number of the head it had seen and the number of its
    /// references.
    pub published: Vec<(DeviceId, u64, usize)>,
    /// The number of secrets in the account.
    pub secrets: usize,
}

impl Inventory {
    /// Returns the time after which a template that has just vanished no longer counts, so that this can be published;
    /// `None` if no template has just vanished.
    pub fn vanishing(&self) -> Option<Duration> {
        self.lock().catalog.vanishing(Instant::now())
    }

    /// Returns the state of the account; `None` if the vault is in no account.
    pub fn account(&self) -> Option<AccountState> {
        let owned = self.lock();
        let synced = owned.sync.as_ref()?;
        let engine = &synced.engine;
        let published = engine
            .base()
            .all_references()
            .map(|(device, references)| (*device, references.seen, references.references.len()));
        Some(AccountState {
            facts: synced.facts.clone(),
            head: engine.head().map(|(head, hash)| (head.clone(), hash)),
            me: (engine.me().account, engine.me().device),
            pending: engine.pending().len(),
            notices: synced.notices.clone(),
            published: published.collect(),
            secrets: engine.base().len(),
        })
    }

    /// Changes the facts of the account, and writes them together with the events of the audit trail.
    ///
    /// # Errors
    /// [`AccountError::None`] without an account; [`AccountError::Inventory`] if the vault cannot be written.
    pub fn change_facts(
        &self,
        audit: &[AuditChange],
        change: impl FnOnce(&mut AccountFacts),
    ) -> Result<(), AccountError> {
        let mut owned = self.lock();
        let synced = owned.sync.as_mut().ok_or(AccountError::None)?;
        change(&mut synced.facts);
        let document = synced.document()?;
        let documents = vec![(Cow::from(ACCOUNT), Some(document.as_slice()))];
        Ok(owned.vault.write(&Writes { documents, changes: audit, ..Writes::default() })?)
    }

    /// Calls `read` with the engine, under the lock.
    ///
    /// # Errors
    /// [`AccountError::None`] without an account.
    pub fn with_engine<T>(&self, read: impl FnOnce(&Engine) -> T) -> Result<T, AccountError> {
        Ok(read(&self.lock().sync.as_ref().ok_or(AccountError::None)?.engine))
    }

    /// Returns the cursor to pull from.
    ///
    /// # Errors
    /// [`AccountError::None`] without an account.
    pub fn account_cursor(&self) -> Result<PullCursor, AccountError> {
        self.with_engine(Engine::cursor)
    }

    /// Applies pages that the server sent. On return the update is on disk and new answers use it. Await the result
    /// before you acknowledge the update.
    ///
    /// # Errors
    /// [`AccountError::Refused`] if nothing was applied; [`AccountError::None`] without an account;
    /// [`AccountError::Inventory`] if the vault cannot be written.
    pub fn account_pulled(&self, pages: &[ChangesPage]) -> Result<Released, AccountError> {
        let mut owned = self.lock();
        let synced = owned.sync.as_mut().ok_or(AccountError::None)?;
        let update = synced.engine.apply_pull(pages)?;
        let audit = by_devices(&synced.engine, &update);
        self.apply(&mut owned, update, audit)
    }

    /// Adopts the state of the server, after a person has compared its fingerprint words.
    ///
    /// # Errors
    /// Those of [`Self::account_pulled`].
    pub fn account_adopted(&self, newest: HeadRef, pages: &[ChangesPage]) -> Result<Released, AccountError> {
        let mut owned = self.lock();
        let synced = owned.sync.as_mut().ok_or(AccountError::None)?;
        let update = synced.engine.adopt(newest, pages)?;
        synced.facts.stopped = None;
        let audit = by_devices(&synced.engine, &update);
        self.apply(&mut owned, update, audit)
    }

    /// Prepares a push, and writes down that it is about to be sent. Returns `None` if there is nothing to push.
    ///
    /// # Errors
    /// [`AccountError::Unprepared`] if the push cannot be prepared; [`AccountError::None`] without an account;
    /// [`AccountError::Inventory`] if the vault cannot be written.
    pub fn account_push(&self, proposal: &Proposal) -> Result<Option<Outgoing>, AccountError> {
        // A scan that begins now: published references, and the confirmation that nothing references a deleted secret,
        // must be newer than the question.
        self.rescan();
        let mut owned = self.lock();
        let prepared = self.prepare(&mut owned, proposal)?;
        if prepared.is_none() {
            // Nothing to push means that the other devices know all references of these templates.
            for template in owned.catalog.templates() {
                template.publish();
            }
        }
        Ok(prepared)
    }

    fn prepare(&self, owned: &mut Owned, proposal: &Proposal) -> Result<Option<Outgoing>, AccountError> {
        let local = local_references(&owned.catalog, Instant::now());
        let synced = owned.sync.as_mut().ok_or(AccountError::None)?;
        synced.engine.keep_former_versions(self.former_versions.load(Ordering::Relaxed));
        let Some(candidate) = synced.engine.prepare(proposal, &local, now())? else {
            return Ok(None);
        };
        synced.engine.record_sent(&candidate);
        let document = synced.document()?;
        owned.vault.set_document(ACCOUNT, &document)?;
        Ok(Some(Outgoing { candidate, local, templates: owned.catalog.templates().cloned().collect() }))
    }

    /// Prepares the push that deletes a secret. No template of this device may reference the secret and, at the head
    /// that the push is based on, none of another device. Returns the secret's id and the push.
    ///
    /// # Errors
    /// Those of [`Inventory::delete`] and [`Inventory::account_push`].
    pub fn account_delete(
        &self,
        name: &SecretName,
        expected: Option<&str>,
    ) -> Result<(SecretId, Outgoing), AccountError> {
        self.rescan();
        let mut owned = self.lock();
        let secret = self.guard(&mut owned, name, expected)?;
        let prepared = self.prepare(&mut owned, &Proposal::Delete(secret.id))?;
        Ok((secret.id, prepared.ok_or(PushError::NoSecret)?))
    }

    /// Applies a push of `actor` that the server has accepted.
    ///
    /// # Errors
    /// [`AccountError::None`] without an account; [`AccountError::Inventory`] if the vault cannot be written. The
    /// server has the push in any case, and the next pull brings it.
    pub fn account_accepted(&self, prepared: Outgoing, actor: &Actor) -> Result<Released, AccountError> {
        let mut owned = self.lock();
        let synced = owned.sync.as_mut().ok_or(AccountError::None)?;
        let update = synced.engine.commit_push(prepared.candidate);
        let mut audit = of_secrets(&update, |_| actor.clone());
        // A device that leaves records that itself.
        let others = update.devices.iter().filter(|change| change.device.id != synced.engine.me().device);
        audit.extend(others.map(|change| of_device(change, actor)));
        let released = self.apply(&mut owned, update, audit)?;
        // A push with many pending intents does not contain the references yet.
        let is_published = owned.sync.as_ref().is_some_and(|synced| {
            let published = synced.engine.base().references(synced.engine.me().device);
            published.is_some_and(|published| published.is_same(&prepared.local))
        });
        for template in prepared.templates.iter().filter(|_| is_published) {
            template.publish();
        }
        Ok(released)
    }

    /// Brings this vault into an account. The engine has pulled everything, or belongs to a new account. It is taken
    /// out of `engine` once nothing is undecided.
    ///
    /// # Errors
    /// [`AccountError::Already`] if the vault is in an account; [`AccountError::SameNames`] with the names that exist
    /// on both sides and that `decide` does not decide; [`AccountError::Inventory`] if the vault cannot be written.
    pub fn account_begin(
        &self,
        engine: &mut Option<Engine>,
        facts: &AccountFacts,
        records: &[RecordWrite],
        change: AuditChange,
        decide: impl Fn(&SecretName) -> Option<SameName>,
    ) -> Result<Released, AccountError> {
        let mut owned = self.lock();
        if owned.sync.is_some() {
            return Err(AccountError::Already);
        }
        let account = engine.as_ref().ok_or(AccountError::None)?;
        let state = self.resolver.current.load();
        let mut local: Vec<Arc<Secret>> = state.secrets.values().cloned().collect();
        local.sort_by_key(|secret| secret.name.key());
        let intents = intents_of(account, &local, decide)?;
        let Some(mut engine) = engine.take() else { return Err(AccountError::None) };
        let mut update = engine.add_own_secrets(&local, intents);
        // Everything that the account contains is new to this vault.
        let added: HashSet<_> = update.put.iter().map(|secret| secret.id).collect();
        let received = engine.view().secrets().filter(|secret| !added.contains(&secret.id));
        let local_ids: HashSet<_> = local.iter().map(|secret| secret.id).collect();
        let received = received.filter(|secret| !local_ids.contains(&secret.id));
        update.put.extend(received.cloned());
        update.records = records.to_vec();
        drop(state);
        let synced = SyncedVault {
            engine,
            facts: facts.clone(),
            notices: Vec::new(),
            next: 0,
            stored: VecDeque::new(),
            usage: Vec::new(),
        };
        // What the account brings is recorded as one event; each change of the vault's own secrets has its own event.
        let is_local =
            |change: &AuditChange| matches!(&change.about, ChangeSubject::Secret(id, _) if local_ids.contains(id));
        let mut audit = of_secrets(&update, |_| change.actor.clone());
        audit.retain(is_local);
        audit.push(change.after(format!("{} secrets", synced.engine.view().secrets().count())));
        owned.sync = Some(synced);
        let applied = self.apply(&mut owned, update, audit);
        if applied.is_err() {
            owned.sync = None;
        }
        self.due.notify_one();
        applied
    }

    /// Takes the vault out of its account. The secrets stay as they are.
    ///
    /// # Errors
    /// [`AccountError::None`] without an account; [`AccountError::Inventory`] if the vault cannot be written.
    pub fn account_end(&self, change: AuditChange) -> Result<(), AccountError> {
        let mut owned = self.lock();
        let Some(synced) = &owned.sync else { return Err(AccountError::None) };
        let labels: Vec<String> = synced.stored.iter().map(|(_, label)| label.clone()).collect();
        let audit = [change];
        let mut writes = Writes { account: AccountWrites::Forget, changes: &audit, ..Writes::default() };
        writes.documents.extend([(Cow::from(ACCOUNT), None), (Cow::from(USAGE), None)]);
        writes.documents.extend(labels.iter().map(|label| (Cow::from(label.as_str()), None)));
        owned.vault.write(&writes)?;
        owned.sync = None;
        owned.index = None;
        Ok(())
    }

    /// Returns all records of the account with their boxes, for a repair.
    ///
    /// # Errors
    /// [`AccountError::Inventory`] if the vault cannot be read.
    pub fn account_boxes(&self) -> Result<Vec<AccountRecord>, AccountError> {
        Ok(self.lock().vault.account_records()?)
    }
}

/// Returns what to do with the secrets of a vault that joins an account, as intents. A secret without an intent is
/// dropped.
///
/// # Errors
/// [`AccountError::SameNames`] with the names that `decide` does not decide.
fn intents_of(
    account: &Engine,
    local: &[Arc<Secret>],
    decide: impl Fn(&SecretName) -> Option<SameName>,
) -> Result<Vec<Intent>, AccountError> {
    let (mut intents, mut undecided) = (Vec::new(), Vec::new());
    for secret in local {
        let existing = account.view().secret(secret.id).or_else(|| account.view().find_by_name(&secret.name));
        let want = |id, change| Intent::new(id, now(), change);
        match existing {
            None => intents.push(want(secret.id, IntentChange::Create(Arc::clone(secret)))),
            // This vault was in the account before, and has nothing that the account does not have.
            Some(remote) if remote.id == secret.id && covers(remote, secret) => {
                if remote.enabled != secret.enabled && secret.updated_at > remote.updated_at {
                    intents.push(want(remote.id, IntentChange::Enable(secret.enabled)));
                }
            }
            Some(remote) => match decide(&secret.name) {
                None => undecided.push(secret.name.to_string()),
                Some(SameName::Both) => {
                    let is_own = remote.id != secret.id;
                    let id = if is_own { secret.id } else { SecretId(crypto::random()) };
                    intents.push(want(id, IntentChange::Create(Arc::new(Secret { id, ..(**secret).clone() }))));
                }
                Some(SameName::Account) => {}
                Some(SameName::Mine) => intents.push(want(remote.id, IntentChange::Value(secret.current().clone()))),
            },
        }
    }
    if undecided.is_empty() { Ok(intents) } else { Err(AccountError::SameNames(undecided)) }
}

/// Returns the event of the audit trail for a device that was admitted or has left.
fn of_device(change: &DeviceChange, actor: &Actor) -> AuditChange {
    let device = &change.device;
    let kind = match (change.is_admitted, device.paper) {
        (true, true) => ChangeKind::RecoveryCodeMade,
        (true, false) => ChangeKind::DeviceJoined,
        (false, _) => ChangeKind::DeviceRevoked,
    };
    let subject = ChangeSubject::Device(DeviceRef { id: device.id.to_string(), name: device.name.clone() });
    AuditChange::new(kind, actor, now()).about(subject)
}

/// Returns the events of the audit trail for an update. Changes of other devices name those devices. Changes of an
/// earlier push of this device, whose response was lost, name this device.
fn by_devices(engine: &Engine, update: &Update) -> Vec<AuditChange> {
    let actor = |id: DeviceId, name: &str| match id == engine.me().device {
        true => Actor::this_process(),
        false => Actor::device(&id.to_string(), name),
    };
    let actor_of = |secret| match (engine.base().deleted(secret), engine.head()) {
        // The record of a deleted secret says who deleted it. For anything else, the server reports which head brought
        // it.
        (Some(deleted), Some((head, _))) => actor(deleted.by, &head.name_of(deleted.by)),
        _ => update.authors.get(&secret).map_or_else(Actor::this_process, |author| actor(author.id, &author.name)),
    };
    let mut audit = of_secrets(update, actor_of);
    audit.extend(update.devices.iter().map(|change| of_device(change, &actor(change.by.id, &change.by.name))));
    audit
}

/// Returns whether the account's secret has the current value and the name of this vault's secret.
fn covers(remote: &Secret, local: &Secret) -> bool {
    let has_value = remote.versions.iter().any(|version| version.id == local.current().id);
    let mut names = std::iter::once(&remote.name).chain(&remote.former_names);
    has_value && names.any(|name| name.key() == local.name.key())
}
