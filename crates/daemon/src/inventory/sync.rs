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
pub use self::joined::{AccountFacts, Invited, Stopped, StoredSync};
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
use guillemet_wire::{ChangesPage, DeviceId, Hash, Newest, PullCursor};

/// The most notices that are kept.
pub(super) const NOTICES: usize = 100;

/// A push that is written down and about to be sent.
pub struct Outgoing {
    /// The push, and the state it leads to.
    pub candidate: PreparedPush,
    /// The references that it publishes, and the templates they are from (`told`).
    local: References,
    told: Vec<Arc<Template>>,
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
    pub seen: Vec<(DeviceId, u64, usize)>,
    /// The number of secrets in the account.
    pub secrets: usize,
}

impl Inventory {
    /// Returns the time after which a template that has just vanished no longer counts, so that this can be published;
    /// `None` if no template has just vanished.
    pub fn vanishing(&self) -> Option<Duration> {
        self.owned().catalog.vanishing(Instant::now())
    }

    /// Returns the state of the account; `None` if the vault is in no account.
    pub fn account(&self) -> Option<AccountState> {
        let owned = self.owned();
        let joined = owned.sync.as_ref()?;
        let engine = &joined.engine;
        let seen = engine.base().all_references().map(|(device, told)| (*device, told.seen, told.references.len()));
        Some(AccountState {
            facts: joined.facts.clone(),
            head: engine.head().map(|(head, hash)| (head.clone(), hash)),
            me: (engine.me().account, engine.me().device),
            pending: engine.pending().len(),
            notices: joined.notices.clone(),
            seen: seen.collect(),
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
        let mut owned = self.owned();
        let joined = owned.sync.as_mut().ok_or(AccountError::None)?;
        change(&mut joined.facts);
        let document = joined.document()?;
        let documents = vec![(Cow::from(ACCOUNT), Some(document.as_slice()))];
        Ok(owned.vault.write(&Writes { documents, changes: audit, ..Writes::default() })?)
    }

    /// Calls `look` with the engine, under the lock.
    ///
    /// # Errors
    /// [`AccountError::None`] without an account.
    pub fn with_engine<T>(&self, look: impl FnOnce(&Engine) -> T) -> Result<T, AccountError> {
        Ok(look(&self.owned().sync.as_ref().ok_or(AccountError::None)?.engine))
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
        let mut owned = self.owned();
        let joined = owned.sync.as_mut().ok_or(AccountError::None)?;
        let update = joined.engine.pulled(pages)?;
        let audit = by_devices(&joined.engine, &update);
        self.apply(&mut owned, update, audit)
    }

    /// Adopts the state of the server, after a person has compared its fingerprint words.
    ///
    /// # Errors
    /// Those of [`Self::account_pulled`].
    pub fn account_adopted(&self, newest: Newest, pages: &[ChangesPage]) -> Result<Released, AccountError> {
        let mut owned = self.owned();
        let joined = owned.sync.as_mut().ok_or(AccountError::None)?;
        let update = joined.engine.adopt(newest, pages)?;
        joined.facts.stopped = None;
        let audit = by_devices(&joined.engine, &update);
        self.apply(&mut owned, update, audit)
    }

    /// Prepares a push, and writes down that it is about to be sent. Returns `None` if there is nothing to push.
    ///
    /// # Errors
    /// [`AccountError::Unprepared`] if the push cannot be prepared; [`AccountError::None`] without an account;
    /// [`AccountError::Inventory`] if the vault cannot be written.
    pub fn account_push(&self, wish: &Proposal) -> Result<Option<Outgoing>, AccountError> {
        // A scan that begins now: published references, and the confirmation that nothing references a deleted secret,
        // must be newer than the question.
        self.rescan();
        let mut owned = self.owned();
        let prepared = self.prepare(&mut owned, wish)?;
        if prepared.is_none() {
            // Nothing to push means that the other devices know all references of these templates.
            for template in owned.catalog.templates() {
                template.publish();
            }
        }
        Ok(prepared)
    }

    fn prepare(&self, owned: &mut Owned, wish: &Proposal) -> Result<Option<Outgoing>, AccountError> {
        let local = local_references(&owned.catalog, Instant::now());
        let joined = owned.sync.as_mut().ok_or(AccountError::None)?;
        joined.engine.keep_former_versions(self.former_versions.load(Ordering::Relaxed));
        let Some(candidate) = joined.engine.prepare(wish, &local, now())? else {
            return Ok(None);
        };
        joined.engine.sending(&candidate);
        let document = joined.document()?;
        owned.vault.set_document(ACCOUNT, &document)?;
        Ok(Some(Outgoing { candidate, local, told: owned.catalog.templates().cloned().collect() }))
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
        let mut owned = self.owned();
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
        let mut owned = self.owned();
        let joined = owned.sync.as_mut().ok_or(AccountError::None)?;
        let update = joined.engine.accepted(prepared.candidate);
        let mut audit = of_secrets(&update, |_| actor.clone());
        // A device that leaves records that itself.
        let others = update.devices.iter().filter(|change| change.device.id != joined.engine.me().device);
        audit.extend(others.map(|change| of_device(change, actor)));
        let released = self.apply(&mut owned, update, audit)?;
        // A push with many pending intents does not contain the references yet.
        let is_told = owned.sync.as_ref().is_some_and(|joined| {
            let known = joined.engine.base().references(joined.engine.me().device);
            known.is_some_and(|known| known.is_same(&prepared.local))
        });
        for template in prepared.told.iter().filter(|_| is_told) {
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
        begun: AuditChange,
        decide: impl Fn(&SecretName) -> Option<SameName>,
    ) -> Result<Released, AccountError> {
        let mut owned = self.owned();
        if owned.sync.is_some() {
            return Err(AccountError::Already);
        }
        let known = engine.as_ref().ok_or(AccountError::None)?;
        let state = self.resolver.current.load();
        let mut mine: Vec<Arc<Secret>> = state.secrets.values().cloned().collect();
        mine.sort_by_key(|secret| secret.name.key());
        let intents = intents_of(known, &mine, decide)?;
        let Some(mut engine) = engine.take() else { return Err(AccountError::None) };
        let mut update = engine.bring(&mine, intents);
        // Everything that the account contains is new to this vault.
        let known: HashSet<_> = update.put.iter().map(|secret| secret.id).collect();
        let brought = engine.view().secrets().filter(|secret| !known.contains(&secret.id));
        let is_mine: HashSet<_> = mine.iter().map(|secret| secret.id).collect();
        let brought = brought.filter(|secret| !is_mine.contains(&secret.id));
        update.put.extend(brought.cloned());
        update.records = records.to_vec();
        drop(state);
        let joined = SyncedVault {
            engine,
            facts: facts.clone(),
            notices: Vec::new(),
            next: 0,
            kept: VecDeque::new(),
            usage: Vec::new(),
        };
        // What the account brings is recorded as one event; each change of the vault's own secrets has its own event.
        let own = |change: &AuditChange| matches!(&change.about, ChangeSubject::Secret(id, _) if is_mine.contains(id));
        let mut audit = of_secrets(&update, |_| begun.actor.clone());
        audit.retain(own);
        audit.push(begun.after(format!("{} secrets", joined.engine.view().secrets().count())));
        owned.sync = Some(joined);
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
    pub fn account_end(&self, left: AuditChange) -> Result<(), AccountError> {
        let mut owned = self.owned();
        let Some(joined) = &owned.sync else { return Err(AccountError::None) };
        let labels: Vec<String> = joined.kept.iter().map(|(_, label)| label.clone()).collect();
        let audit = [left];
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
        Ok(self.owned().vault.account_records()?)
    }
}

/// Returns what to do with the secrets of a vault that joins an account, as intents. A secret without an intent is
/// dropped.
///
/// # Errors
/// [`AccountError::SameNames`] with the names that `decide` does not decide.
fn intents_of(
    account: &Engine,
    mine: &[Arc<Secret>],
    decide: impl Fn(&SecretName) -> Option<SameName>,
) -> Result<Vec<Intent>, AccountError> {
    let (mut intents, mut undecided) = (Vec::new(), Vec::new());
    for secret in mine {
        let there = account.view().secret(secret.id).or_else(|| account.view().named(&secret.name));
        let want = |id, change| Intent::new(id, now(), change);
        match there {
            None => intents.push(want(secret.id, IntentChange::Create(Arc::clone(secret)))),
            // This vault was in the account before, and has nothing that the account does not have.
            Some(same) if same.id == secret.id && has_all_of(same, secret) => {
                if same.enabled != secret.enabled && secret.updated_at > same.updated_at {
                    intents.push(want(same.id, IntentChange::Enable(secret.enabled)));
                }
            }
            Some(theirs) => match decide(&secret.name) {
                None => undecided.push(secret.name.to_string()),
                Some(SameName::Both) => {
                    let is_own = theirs.id != secret.id;
                    let id = if is_own { secret.id } else { SecretId(crypto::random()) };
                    intents.push(want(id, IntentChange::Create(Arc::new(Secret { id, ..(**secret).clone() }))));
                }
                Some(SameName::Account) => {}
                Some(SameName::Mine) => intents.push(want(theirs.id, IntentChange::Value(secret.current().clone()))),
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
    let about = ChangeSubject::Device(DeviceRef { id: device.id.to_string(), name: device.name.clone() });
    AuditChange::new(kind, actor, now()).about(about)
}

/// Returns the events of the audit trail for an update. Changes of other devices name those devices. Changes of an
/// earlier push of this device, whose response was lost, name this device.
fn by_devices(engine: &Engine, update: &Update) -> Vec<AuditChange> {
    let actor = |id: DeviceId, name: &str| match id == engine.me().device {
        true => Actor::own(),
        false => Actor::device(&id.to_string(), name),
    };
    let who = |secret| match (engine.base().deleted(secret), engine.head()) {
        // The record of a deleted secret says who deleted it. For anything else, the server reports which head brought
        // it.
        (Some(deleted), Some((head, _))) => actor(deleted.by, &head.name_of(deleted.by)),
        _ => update.authors.get(&secret).map_or_else(Actor::own, |author| actor(author.id, &author.name)),
    };
    let mut audit = of_secrets(update, who);
    audit.extend(update.devices.iter().map(|change| of_device(change, &actor(change.by.id, &change.by.name))));
    audit
}

/// Returns whether the account's secret has the current value and the name of this vault's secret.
fn has_all_of(theirs: &Secret, mine: &Secret) -> bool {
    let has_value = theirs.versions.iter().any(|version| version.id == mine.current().id);
    let mut names = std::iter::once(&theirs.name).chain(&theirs.former_names);
    has_value && names.any(|name| name.key() == mine.name.key())
}
