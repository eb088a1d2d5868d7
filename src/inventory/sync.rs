//! The vault in an account: pulls and pushes of the sync engine, and how a vault joins and leaves.
//!
//! Holds the engine behind the inventory's mutex; `store` writes what it says. Knows no server: `crate::sync` carries
//! what goes in and out.

mod joined;
mod reports;

use std::borrow::Cow;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use self::joined::USAGE;
pub(super) use self::joined::{ACCOUNT, Joined, label, load};
pub use self::joined::{Facts, Invited, Stopped, StoredSync};
pub use self::reports::Report;
use super::references::local_references;
use super::store::of_secrets;
use super::{Inventory, InventoryError, Owned};
use crate::account::engine::{
    Candidate, DeviceChange, Engine, Head, Notice, References, Refusal, Unprepared, Update, Wish, Written,
};
use crate::account::intent::{Change as IntentChange, Intent};
use crate::account::wire::{self, Changes, Cursor, DeviceId, Hash, Newest};
use crate::resolve::snapshot::Released;
use crate::vault::audit::{About, Actor, Change as AuditChange, DeviceRef};
use crate::vault::event::ChangeKind;
use crate::vault::store::{AccountRecord, AccountWrites, VaultError, Writes};
use guillemet_api::account::SameName;
use guillemet_base::names::{SecretId, SecretName};
use guillemet_base::time::now;
use guillemet_secret::crypto;
use guillemet_secret::record::Secret;
use guillemet_template::catalog::Template;

/// How many notices are kept.
pub(super) const NOTICES: usize = 100;

/// A push that is written down and about to be sent.
pub struct Outgoing {
    /// The push, and the state it leads to.
    pub candidate: Candidate,
    /// The references of this device's templates that it publishes, and those templates.
    local: References,
    told: Vec<Arc<Template>>,
}

/// Why a step of a sync was not done.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// What the server offers is not accepted.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The push cannot be prepared.
    #[error(transparent)]
    Unprepared(#[from] Unprepared),
    /// The inventory refused it.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// This vault is in no account.
    #[error("this vault is in no account; `guillemet account join` makes it part of one")]
    None,
    /// This vault is in an account already.
    #[error("this vault is in an account already; `guillemet account leave` ends that first")]
    Already,
    /// These names are on both sides, and it is undecided what to do with each.
    #[error("secrets of this vault and of the account have the same name; say what is to become of each")]
    SameNames(Vec<String>),
}

impl From<VaultError> for AccountError {
    fn from(error: VaultError) -> Self {
        Self::Inventory(error.into())
    }
}

/// The state of a vault in an account.
pub struct AccountState {
    /// The server, and this device as the server knows it.
    pub facts: Facts,
    /// The newest head, with its hash.
    pub head: Option<(Head, Hash)>,
    /// The account, and the id of this device in it.
    pub me: (wire::AccountId, DeviceId),
    /// How many intents the account does not have yet.
    pub pending: usize,
    /// What a person should know, newest last.
    pub notices: Vec<Notice>,
    /// The devices that have published references, each with the number of the head it had seen and how many they are.
    pub seen: Vec<(DeviceId, u64, usize)>,
    /// How many secrets the account holds.
    pub secrets: usize,
}

impl Inventory {
    /// Returns after what time a template that vanished no longer counts, so that the others can be told; `None` where none
    /// vanished just now.
    pub fn vanishing(&self) -> Option<Duration> {
        self.owned().catalog.vanishing(Instant::now())
    }

    /// Returns the state of the account; `None` in a vault that is in no account.
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

    /// Changes the facts of the account, and writes them with the events of the audit trail.
    ///
    /// # Errors
    /// `None`, and the vault's.
    pub fn change_facts(&self, audit: &[AuditChange], change: impl FnOnce(&mut Facts)) -> Result<(), AccountError> {
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
    /// `None`.
    pub fn with_engine<T>(&self, look: impl FnOnce(&Engine) -> T) -> Result<T, AccountError> {
        Ok(look(&self.owned().sync.as_ref().ok_or(AccountError::None)?.engine))
    }

    /// Returns from where to pull.
    ///
    /// # Errors
    /// `None`.
    pub fn account_cursor(&self) -> Result<Cursor, AccountError> {
        self.with_engine(Engine::cursor)
    }

    /// Applies what the server answered. On return it is on disk and new answers use it; await what is returned before you
    /// acknowledge it.
    ///
    /// # Errors
    /// `Refused`: nothing was applied. `None`, and the vault's.
    pub fn account_pulled(&self, pages: &[Changes]) -> Result<Released, AccountError> {
        let mut owned = self.owned();
        let joined = owned.sync.as_mut().ok_or(AccountError::None)?;
        let update = joined.engine.pulled(pages)?;
        let audit = by_devices(&joined.engine, &update);
        self.apply(&mut owned, update, audit)
    }

    /// Adopts the state of the server, whose fingerprint words a person has compared.
    ///
    /// # Errors
    /// As `account_pulled`.
    pub fn account_adopted(&self, newest: Newest, pages: &[Changes]) -> Result<Released, AccountError> {
        let mut owned = self.owned();
        let joined = owned.sync.as_mut().ok_or(AccountError::None)?;
        let update = joined.engine.adopt(newest, pages)?;
        joined.facts.stopped = None;
        let audit = by_devices(&joined.engine, &update);
        self.apply(&mut owned, update, audit)
    }

    /// Prepares a push, and writes down that it is about to be sent. Returns `None` where there is nothing to push.
    ///
    /// # Errors
    /// `Unprepared`, `None`, and the vault's.
    pub fn account_push(&self, wish: &Wish) -> Result<Option<Outgoing>, AccountError> {
        // What is told of templates, and what is told to be without references to something deleted, is so after the
        // question.
        self.rescan();
        let mut owned = self.owned();
        let prepared = self.prepare(&mut owned, wish)?;
        if prepared.is_none() {
            // Others know everything that is named here.
            for template in owned.catalog.templates() {
                template.publish();
            }
        }
        Ok(prepared)
    }

    fn prepare(&self, owned: &mut Owned, wish: &Wish) -> Result<Option<Outgoing>, AccountError> {
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

    /// Prepares the push that deletes a secret, which no template of this device references and, at the head that the push
    /// is made on, none of another device. Returns its id and the push.
    ///
    /// # Errors
    /// As [`Inventory::delete`] and [`Inventory::account_push`].
    pub fn account_delete(
        &self,
        name: &SecretName,
        expected: Option<&str>,
    ) -> Result<(SecretId, Outgoing), AccountError> {
        self.rescan();
        let mut owned = self.owned();
        let secret = self.guard(&mut owned, name, expected)?;
        let prepared = self.prepare(&mut owned, &Wish::Delete(secret.id))?;
        Ok((secret.id, prepared.ok_or(Unprepared::NoSecret)?))
    }

    /// Applies a push of `actor` that the server has accepted.
    ///
    /// # Errors
    /// `None`, and the vault's. The server has the push in any case, and the next pull brings it.
    pub fn account_accepted(&self, prepared: Outgoing, actor: &Actor) -> Result<Released, AccountError> {
        let mut owned = self.owned();
        let joined = owned.sync.as_mut().ok_or(AccountError::None)?;
        let update = joined.engine.accepted(prepared.candidate);
        let mut audit = of_secrets(&update, |_| actor.clone());
        // Who leaves says so itself.
        let others = update.devices.iter().filter(|change| change.device.id != joined.engine.me().device);
        audit.extend(others.map(|change| of_device(change, actor)));
        let released = self.apply(&mut owned, update, audit)?;
        // A push with much that is pending carries no references yet.
        let is_told = owned.sync.as_ref().is_some_and(|joined| {
            let known = joined.engine.base().references(joined.engine.me().device);
            known.is_some_and(|known| known.is_same(&prepared.local))
        });
        for template in prepared.told.iter().filter(|_| is_told) {
            template.publish();
        }
        Ok(released)
    }

    /// Brings this vault into an account. The engine has pulled everything, or is that of a new account; it is taken out of
    /// `engine` when nothing is undecided.
    ///
    /// # Errors
    /// `Already`; `SameNames` with the names that are on both sides and that `decide` does not know; and the vault's.
    pub fn account_begin(
        &self,
        engine: &mut Option<Engine>,
        facts: &Facts,
        records: &[Written],
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
        // Everything the account brings is new to this vault.
        let known: HashSet<_> = update.put.iter().map(|secret| secret.id).collect();
        let brought = engine.view().secrets().filter(|secret| !known.contains(&secret.id));
        let is_mine: HashSet<_> = mine.iter().map(|secret| secret.id).collect();
        let brought = brought.filter(|secret| !is_mine.contains(&secret.id));
        update.put.extend(brought.cloned());
        update.records = records.to_vec();
        drop(state);
        let joined = Joined {
            engine,
            facts: facts.clone(),
            notices: Vec::new(),
            next: 0,
            kept: VecDeque::new(),
            usage: Vec::new(),
        };
        // What the account brings is told of as a whole; what becomes of the vault's own, each by itself.
        let own = |change: &AuditChange| matches!(&change.about, About::Secret(id, _) if is_mine.contains(id));
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
    /// The vault's.
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
    /// The vault's.
    pub fn account_boxes(&self) -> Result<Vec<AccountRecord>, AccountError> {
        Ok(self.owned().vault.account_records()?)
    }
}

/// Returns what to do with the secrets of a vault that joins an account, as intents. A secret without an intent goes.
///
/// # Errors
/// `SameNames` with the names that `decide` does not know.
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
            // This vault was part of the account before, and knows nothing that the account does not have.
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
    let about = About::Device(DeviceRef { id: device.id.to_string(), name: device.name.clone() });
    AuditChange::new(kind, actor, now()).about(about)
}

/// Returns the events of the audit trail for an update that other devices made. What an earlier push of this device did,
/// whose answer was lost, is its own.
fn by_devices(engine: &Engine, update: &Update) -> Vec<AuditChange> {
    let actor = |id: DeviceId, name: &str| match id == engine.me().device {
        true => Actor::own(),
        false => Actor::device(&id.to_string(), name),
    };
    let who = |secret| match (engine.base().deleted(secret), engine.head()) {
        // Who deletes says so in the record; of anything else the server says which head brought it.
        (Some(deleted), Some((head, _))) => actor(deleted.by, &head.name_of(deleted.by)),
        _ => update.authors.get(&secret).map_or_else(Actor::own, |author| actor(author.id, &author.name)),
    };
    let mut audit = of_secrets(update, who);
    audit.extend(update.devices.iter().map(|change| of_device(change, &actor(change.by.id, &change.by.name))));
    audit
}

/// Returns whether a secret of the account has the current value and the name of the one in this vault.
fn has_all_of(theirs: &Secret, mine: &Secret) -> bool {
    let has_value = theirs.versions.iter().any(|version| version.id == mine.current().id);
    let mut names = std::iter::once(&theirs.name).chain(&theirs.former_names);
    has_value && names.any(|name| name.key() == mine.name.key())
}
