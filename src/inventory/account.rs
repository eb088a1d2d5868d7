//! The vault as a part of an account. An edit becomes an intent in the same transaction, changes of the account replace
//! what was here, and a delete is checked against every device.
//!
//! Holds the sync engine behind the inventory's mutex. Knows no server: `membership` carries what goes in and out.

mod joined;
mod reports;
mod told;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::Deserialize;

pub(super) use self::joined::Joined;
use self::joined::{ACCOUNT, USAGE, label, load};
pub use self::joined::{Facts, Invited, Membership, Stopped};
pub use self::reports::Report;
use self::told::{blocked_view, local_references};
use super::views::{BlockerView, blocker_view};
use super::{Inventory, InventoryError, Owned};
use crate::account::engine::{
    Candidate, DeviceChange, Engine, Head, Notice, References, Refusal, Unprepared, Update, Wish, Written,
};
use crate::account::intent::{Change as IntentChange, Intent};
use crate::account::wire::{self, Changes, Cursor, DeviceId, Hash, Newest};
use crate::events::{Change, Event};
use crate::resolve::snapshot::{Released, State};
use crate::vault::audit::{About, Actor, Change as AuditChange, DeviceRef};
use crate::vault::event::ChangeKind;
use crate::vault::store::{AccountRecord, AccountWrites, VaultError, Writes};
use guillemet_base::names::{SecretId, SecretName};
use guillemet_base::random::random;
use guillemet_base::time::now;
use guillemet_secret::record::Secret;
use guillemet_template::catalog::Template;

/// The number of notices that are kept.
const NOTICES: usize = 100;

/// The decision for a secret of this vault whose name is also in the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SameName {
    /// Keep both. The secret of this vault is renamed to `NAME-2`.
    Both,
    /// Keep the account's secret, and remove the one of this vault.
    Account,
    /// Add the value of this vault's secret to the account's, as the newest version.
    Mine,
}

/// A push that is about to be sent, and the templates whose references it publishes.
pub struct Outgoing {
    /// The push, and the state it leads to.
    pub candidate: Candidate,
    /// The references of this device when the push was prepared, and the templates they come from.
    local: References,
    told: Vec<Arc<Template>>,
}

/// The reasons why a step of the account failed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The state that the server offers is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A push cannot be prepared.
    #[error(transparent)]
    Unprepared(#[from] Unprepared),
    /// The inventory refused or failed.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// This vault is in no account.
    #[error("this vault is in no account; `guillemet account join` makes it part of one")]
    None,
    /// This vault is already in an account.
    #[error("this vault is in an account already; `guillemet account leave` ends that first")]
    Already,
    /// Secrets of this vault and of the account have the same names, and there is no decision about them. Holds the
    /// names.
    #[error("secrets of this vault and of the account have the same name; say what is to become of each")]
    SameNames(Vec<String>),
}

impl From<VaultError> for AccountError {
    fn from(error: VaultError) -> Self {
        Self::Inventory(error.into())
    }
}

/// The state of a membership, as it is shown.
pub struct AccountState {
    /// The address of the server, and other facts about the membership.
    pub facts: Facts,
    /// The newest head with its hash; `None` before the first pull.
    pub head: Option<(Head, Hash)>,
    /// The id of the account, and the id of this device.
    pub me: (wire::AccountId, DeviceId),
    /// The number of intents that the account does not have yet.
    pub pending: usize,
    /// Messages for the user, the newest last.
    pub notices: Vec<Notice>,
    /// For each device: its id, the number of the head at which it last published references, and how many.
    pub seen: Vec<(DeviceId, u64, usize)>,
    /// The number of secrets in the account.
    pub secrets: usize,
}

impl Inventory {
    /// Writes changed secrets, each with its former state, together with a document and events for the audit trail. In
    /// an account, also stores them as intents.
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
        let Some(joined) = &mut owned.account else {
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

    /// Returns the notification for something that may have to be pushed.
    pub fn due(&self) -> &tokio::sync::Notify {
        &self.due
    }

    /// Returns the time until a vanished template no longer counts, so that its references can be withdrawn; `None` if
    /// there is none.
    pub fn vanishing(&self) -> Option<Duration> {
        self.owned().catalog.vanishing(Instant::now())
    }

    /// Returns the state of the membership; `None` if this vault is in no account.
    pub fn account(&self) -> Option<AccountState> {
        let owned = self.owned();
        let joined = owned.account.as_ref()?;
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

    /// Changes the facts of the membership, together with events for the audit trail.
    ///
    /// # Errors
    /// [`AccountError::None`] without an account, [`AccountError::Inventory`] if the vault cannot be written.
    pub fn change_facts(&self, audit: &[AuditChange], change: impl FnOnce(&mut Facts)) -> Result<(), AccountError> {
        let mut owned = self.owned();
        let joined = owned.account.as_mut().ok_or(AccountError::None)?;
        change(&mut joined.facts);
        let document = joined.document();
        let documents = vec![(Cow::from(ACCOUNT), Some(document.as_slice()))];
        Ok(owned.vault.write(&Writes { documents, changes: audit, ..Writes::default() })?)
    }

    /// Reads from the engine.
    ///
    /// # Errors
    /// [`AccountError::None`] without an account.
    pub fn with_engine<T>(&self, look: impl FnOnce(&Engine) -> T) -> Result<T, AccountError> {
        Ok(look(&self.owned().account.as_ref().ok_or(AccountError::None)?.engine))
    }

    /// Returns the position from which to pull.
    ///
    /// # Errors
    /// [`AccountError::None`] without an account.
    pub fn account_cursor(&self) -> Result<Cursor, AccountError> {
        self.with_engine(Engine::cursor)
    }

    /// Applies the answer to a pull. On return, the changes are on disk and in new answers. They can be acknowledged
    /// when the result has been awaited.
    ///
    /// # Errors
    /// [`AccountError::Refused`], when nothing has been applied; [`AccountError::None`] without an account;
    /// [`AccountError::Inventory`] if the vault cannot be written.
    pub fn account_pulled(&self, pages: &[Changes]) -> Result<Released, AccountError> {
        let mut owned = self.owned();
        let joined = owned.account.as_mut().ok_or(AccountError::None)?;
        let update = joined.engine.pulled(pages)?;
        let audit = by_devices(&joined.engine, &update);
        self.apply(&mut owned, update, audit)
    }

    /// Replaces the state by the server's, after a person has compared the words.
    ///
    /// # Errors
    /// As for [`Self::account_pulled`].
    pub fn account_adopted(&self, newest: Newest, pages: &[Changes]) -> Result<Released, AccountError> {
        let mut owned = self.owned();
        let joined = owned.account.as_mut().ok_or(AccountError::None)?;
        let update = joined.engine.adopt(newest, pages)?;
        joined.facts.stopped = None;
        let audit = by_devices(&joined.engine, &update);
        self.apply(&mut owned, update, audit)
    }

    /// Prepares a push and records on disk that it is about to be sent. Returns `None` if there is nothing to push.
    ///
    /// # Errors
    /// [`AccountError::Unprepared`], [`AccountError::None`] without an account, [`AccountError::Inventory`] if the
    /// vault cannot be written.
    pub fn account_push(&self, wish: &Wish) -> Result<Option<Outgoing>, AccountError> {
        // What the push says about references, also that something deleted is not referenced, has to come from a scan
        // after the head was pulled.
        self.rescan();
        let mut owned = self.owned();
        let prepared = self.prepare(&mut owned, wish)?;
        if prepared.is_none() {
            // The other devices know all references of this device.
            for template in owned.catalog.templates() {
                template.publish();
            }
        }
        Ok(prepared)
    }

    fn prepare(&self, owned: &mut Owned, wish: &Wish) -> Result<Option<Outgoing>, AccountError> {
        let local = local_references(&owned.catalog, Instant::now());
        let joined = owned.account.as_mut().ok_or(AccountError::None)?;
        joined.engine.keep_former_versions(self.former_versions.load(Ordering::Relaxed));
        let Some(candidate) = joined.engine.prepare(wish, &local, now())? else {
            return Ok(None);
        };
        joined.engine.sending(&candidate);
        let document = joined.document();
        owned.vault.set_document(ACCOUNT, &document)?;
        Ok(Some(Outgoing { candidate, local, told: owned.catalog.templates().cloned().collect() }))
    }

    /// Prepares the push that deletes a secret. The secret is checked against the templates of this device, and of all
    /// others as the account knows them at the head that the push is made on.
    ///
    /// # Errors
    /// As for [`Inventory::delete`] and [`Self::account_push`].
    pub fn account_delete(
        &self,
        name: &SecretName,
        expected: Option<&str>,
    ) -> Result<(SecretId, Outgoing), AccountError> {
        self.rescan();
        let mut owned = self.owned();
        let state = self.resolver.current.load();
        let secret = self.expect(&mut owned, &state, name, expected)?;
        let mut blockers = self.blockers(&owned, &secret, &state);
        if let Some(joined) = &owned.account {
            blockers.extend(joined.engine.blocked(&secret).into_iter().map(blocked_view));
        }
        if !blockers.is_empty() {
            return Err(InventoryError::Referenced { name: secret.name.to_string(), blockers }.into());
        }
        let prepared = self.prepare(&mut owned, &Wish::Delete(secret.id))?;
        Ok((secret.id, prepared.ok_or(Unprepared::NoSecret)?))
    }

    /// Applies a push that the server has accepted. `actor` is the caller who wanted it.
    ///
    /// # Errors
    /// [`AccountError::None`] without an account. [`AccountError::Inventory`] if the vault cannot be written: the
    /// server has the push then, and the next pull brings it.
    pub fn account_accepted(&self, prepared: Outgoing, actor: &Actor) -> Result<Released, AccountError> {
        let mut owned = self.owned();
        let joined = owned.account.as_mut().ok_or(AccountError::None)?;
        let update = joined.engine.accepted(prepared.candidate);
        let mut audit = of_secrets(&update, |_| actor.clone());
        // A device that leaves records that itself.
        let others = update.devices.iter().filter(|change| change.device.id != joined.engine.me().device);
        audit.extend(others.map(|change| of_device(change, actor)));
        let released = self.apply(&mut owned, update, audit)?;
        // A push with many pending intents may not contain the references yet.
        let is_told = owned.account.as_ref().is_some_and(|joined| {
            let known = joined.engine.base().references(joined.engine.me().device);
            known.is_some_and(|known| known.is_same(&prepared.local))
        });
        for template in prepared.told.iter().filter(|_| is_told) {
            template.publish();
        }
        Ok(released)
    }

    /// Makes this vault part of an account. The engine has pulled everything, or belongs to a new account.
    ///
    /// # Errors
    /// [`AccountError::Already`] if the vault is in an account. [`AccountError::SameNames`] if a name is on both sides
    /// and `decide` returns `None` for it; `engine` can be used again then.
    pub fn account_begin(
        &self,
        engine: &mut Option<Engine>,
        facts: &Facts,
        records: &[Written],
        begun: AuditChange,
        decide: impl Fn(&SecretName) -> Option<SameName>,
    ) -> Result<Released, AccountError> {
        let mut owned = self.owned();
        if owned.account.is_some() {
            return Err(AccountError::Already);
        }
        let known = engine.as_ref().ok_or(AccountError::None)?;
        let state = self.resolver.current.load();
        let mut mine: Vec<Arc<Secret>> = state.secrets.values().cloned().collect();
        mine.sort_by_key(|secret| secret.name.key());
        let (mut intents, mut undecided) = (Vec::new(), Vec::new());
        for secret in &mine {
            let there = known.view().secret(secret.id).or_else(|| known.view().named(&secret.name));
            let want = |id, change| Intent::new(id, now(), change);
            match there {
                None => intents.push(want(secret.id, IntentChange::Create(Arc::clone(secret)))),
                // This vault was part of the account before, and has nothing that the account does not have.
                Some(same) if same.id == secret.id && has_all_of(same, secret) => {
                    if same.enabled != secret.enabled && secret.updated_at > same.updated_at {
                        intents.push(want(same.id, IntentChange::Enable(secret.enabled)));
                    }
                }
                Some(theirs) => match decide(&secret.name) {
                    None => undecided.push(secret.name.to_string()),
                    Some(SameName::Both) => {
                        let is_own = theirs.id != secret.id;
                        let id = if is_own { secret.id } else { SecretId(random()) };
                        intents.push(want(id, IntentChange::Create(Arc::new(Secret { id, ..(**secret).clone() }))));
                    }
                    Some(SameName::Account) => {}
                    Some(SameName::Mine) => {
                        intents.push(want(theirs.id, IntentChange::Value(secret.current().clone())))
                    }
                },
            }
        }
        if !undecided.is_empty() {
            return Err(AccountError::SameNames(undecided));
        }
        let Some(mut engine) = engine.take() else { return Err(AccountError::None) };
        let mut update = engine.bring(&mine, intents);
        // Everything that comes from the account is new to this vault.
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
        // The audit trail gets one event for all secrets from the account, and one for each change of the vault's own.
        let own = |change: &AuditChange| matches!(&change.about, About::Secret(id, _) if is_mine.contains(id));
        let mut audit = of_secrets(&update, |_| begun.actor.clone());
        audit.retain(own);
        audit.push(begun.after(format!("{} secrets", joined.engine.view().secrets().count())));
        owned.account = Some(joined);
        let applied = self.apply(&mut owned, update, audit);
        if applied.is_err() {
            owned.account = None;
        }
        self.due.notify_one();
        applied
    }

    /// Ends the membership. The secrets stay as they are.
    ///
    /// # Errors
    /// [`AccountError::None`] without an account, [`AccountError::Inventory`] if the vault cannot be written.
    pub fn account_end(&self, left: AuditChange) -> Result<(), AccountError> {
        let mut owned = self.owned();
        let Some(joined) = &owned.account else { return Err(AccountError::None) };
        let labels: Vec<String> = joined.kept.iter().map(|(_, label)| label.clone()).collect();
        let audit = [left];
        let mut writes = Writes { account: AccountWrites::Forget, changes: &audit, ..Writes::default() };
        writes.documents.extend([(Cow::from(ACCOUNT), None), (Cow::from(USAGE), None)]);
        writes.documents.extend(labels.iter().map(|label| (Cow::from(label.as_str()), None)));
        owned.vault.write(&writes)?;
        owned.account = None;
        owned.index = None;
        Ok(())
    }

    /// Writes an update to disk, with its events for the audit trail, and answers from it.
    fn apply(&self, owned: &mut Owned, update: Update, audit: Vec<AuditChange>) -> Result<Released, AccountError> {
        let written = Self::write_update(owned, &update, &audit);
        if let Err(error) = written {
            // The engine is ahead of the disk, so it is made again from the disk.
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
        let joined = owned.account.as_ref();
        if update.advanced && joined.is_some_and(|joined| joined.engine.base().all_deleted().next().is_some()) {
            // The other devices wait until this device publishes that it does not reference what was deleted.
            self.due.notify_one();
        }
        Ok(released)
    }

    fn write_update(owned: &mut Owned, update: &Update, audit: &[AuditChange]) -> Result<(), VaultError> {
        let Some(joined) = &mut owned.account else { return Ok(()) };
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
        // Settled intents are nearly always the oldest, and there may be very many after them.
        while let Some(oldest) = kept.pop_front_if(|kept| gone(kept)) {
            forgotten.push(oldest.1);
        }
        if forgotten.len() < settled.len() {
            forgotten.extend(kept.iter().filter(|kept| gone(kept)).map(|(_, label)| label.clone()));
            kept.retain(|kept| !gone(kept));
        }
        // Labels have the order of the intents, so if an intent comes before others, those are written again with new
        // labels. The stored intents are pending in the same order, so nothing comes between them if the last of both
        // is the same.
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
        let document = joined.document();
        writes.documents.push((Cow::from(ACCOUNT), Some(&document)));
        let records: Vec<AccountRecord> = update.records.iter().map(account_record).collect();
        writes.account = AccountWrites::These(&records);
        owned.vault.write(&writes)
    }

    /// Makes the engine again from the disk, after a write has failed.
    fn reload(&self, owned: &mut Owned) {
        let state = self.resolver.current.load();
        let secrets: Vec<Arc<Secret>> = state.secrets.values().cloned().collect();
        match load(&owned.vault, &secrets, self.former_versions.load(Ordering::Relaxed)) {
            Ok(loaded) => owned.account = loaded.map(|(joined, _)| joined),
            Err(error) => {
                tracing::error!(%error, "the account is left alone until the next start");
                owned.account = None;
            }
        }
    }

    /// Returns the places on this device that block the delete of a secret.
    pub(super) fn blockers(&self, owned: &Owned, secret: &Secret, state: &State) -> Vec<BlockerView> {
        let names: Vec<&SecretName> = std::iter::once(&secret.name).chain(&secret.former_names).collect();
        let blockers = owned.catalog.blockers(&names, Instant::now());
        blockers.into_iter().map(|blocker| blocker_view(blocker, &secret.name, state)).collect()
    }

    /// Returns the boxes of all records, for a repair.
    ///
    /// # Errors
    /// [`AccountError::Inventory`] if the vault cannot be read.
    pub fn account_boxes(&self) -> Result<Vec<AccountRecord>, AccountError> {
        Ok(self.owned().vault.account_records()?)
    }
}

/// Returns the audit events for the secrets of an update. `who` returns the actor for each secret.
fn of_secrets(update: &Update, who: impl Fn(SecretId) -> Actor) -> Vec<AuditChange> {
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

/// Returns the audit event for a device that was admitted or removed.
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

/// Returns the audit events for an update that other devices made. Changes by an earlier push of this device, whose
/// answer was lost, are attributed to this device.
fn by_devices(engine: &Engine, update: &Update) -> Vec<AuditChange> {
    let actor = |id: DeviceId, name: &str| match id == engine.me().device {
        true => Actor::own(),
        false => Actor::device(&id.to_string(), name),
    };
    let who = |secret| match (engine.base().deleted(secret), engine.head()) {
        // A delete is sealed with the device that made it. For anything else, the server reports which head brought it.
        (Some(deleted), Some((head, _))) => actor(deleted.by, &head.name_of(deleted.by)),
        _ => update.authors.get(&secret).map_or_else(Actor::own, |author| actor(author.id, &author.name)),
    };
    let mut audit = of_secrets(update, who);
    audit.extend(update.devices.iter().map(|change| of_device(change, &actor(change.by.id, &change.by.name))));
    audit
}

/// Returns whether a secret of the account has the value and the name that this vault has.
fn has_all_of(theirs: &Secret, mine: &Secret) -> bool {
    let has_value = theirs.versions.iter().any(|version| version.id == mine.current().id);
    let mut names = std::iter::once(&theirs.name).chain(&theirs.former_names);
    has_value && names.any(|name| name.key() == mine.name.key())
}

fn account_record((id, written): &Written) -> AccountRecord {
    match written {
        Some((leaf, sealed)) => {
            AccountRecord { id: id.0, revision: leaf.revision, epoch: leaf.epoch, sealed: Some(sealed.0.clone()) }
        }
        None => AccountRecord { id: id.0, revision: 0, epoch: 0, sealed: None },
    }
}
