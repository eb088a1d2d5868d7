//! The inventory: which secrets exist, who uses them, and whether one can be deleted.
//!
//! Owns the vault and the catalog behind one mutex: every change of either is one critical section, which also replaces
//! the snapshot that answers are made from. Template files are read without the mutex, and the result is applied under
//! it. All calls block: async code uses an [`InventoryHandle`], which calls the inventory on a blocking thread, and
//! awaits the returned [`Released`] before it acknowledges a change (promise At once).
//!
//! `views` has the forms in which it is shown, `uses` the number of uses on all devices, `index` the rows in order,
//! `change` the changes of a secret, `store` the way they are written, `sync` the vault in an account, `references` the
//! references that devices publish to each other, and `scans` the scans of the files.
//!
//! Invariant (promise Guarded): before `delete` removes a secret, it waits for a scan that began after the request. The
//! result of that scan, or a later one, is checked in the same critical section in which the secret is removed.

mod change;
mod handle;
mod index;
mod references;
mod scans;
mod schedule;
mod store;
mod sync;
mod usage;
mod uses;
mod views;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

pub use self::change::{SecretChange, finish_rename};
pub use self::handle::{InventoryHandle, Panicked};
use self::index::Index;
use self::scans::{ScanError, Scans};
use self::sync::SyncedVault;
pub use self::sync::{
    AccountError, AccountFacts, AccountState, Invited, Outgoing, StopReason, StoredSync, UsageReport,
};
use self::usage::usage_view;
pub use self::uses::{AllUses, Uses};
pub use self::views::BlockerView;
use self::views::{etag, versions};
use crate::events::EventBus;
use crate::resolve::Resolver;
use crate::resolve::snapshot::{Released, SnapshotState};
use guillemet_api::events::{Change, Event};
use guillemet_api::secrets::{ReferenceView, SecretDetail, SecretStatus, SecretView};
use guillemet_base::names::{SecretId, SecretName};
use guillemet_base::time::now;
use guillemet_plugin::plans::Prepared;
use guillemet_secret::record::{InvalidValue, NoVersion, Secret};
use guillemet_template::catalog::{BlockReason, Catalog, CatalogChanges, CatalogReading, Stray, Template, Unwritable};
use guillemet_vault::audit::{Actor, AuditChange};
use guillemet_vault::event::ChangeKind;
use guillemet_vault::store::{Vault, VaultError, Writes};
use guillemet_vault::usage::{RecorderError, SecretUsage};

/// The longest time that a change which depends on references waits for a scan.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest time that a caller who only reads waits for a scan.
const GLANCE: Duration = Duration::from_secs(2);

/// The reasons why a call to the inventory was refused.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// No secret has this name.
    #[error("there is no secret `{0}`; run `guillemet secret list` to see all secrets")]
    NotFound(String),
    /// No secret has this name, but templates reference it.
    #[error(
        "there is no secret `{name}` yet, but templates reference it; run `guillemet secret add {name}` to create it"
    )]
    Missing {
        /// The name that was asked for.
        name: String,
        /// The places that reference the name.
        references: Vec<ReferenceView>,
    },
    /// The name belongs to another secret. Holds that secret's name.
    #[error("there is already a secret `{0}`; choose another name, or change that secret")]
    Taken(String),
    /// The secret had this name formerly.
    #[error("`{former}` is now called `{name}`; use that name")]
    Renamed {
        /// The name that was asked for.
        former: String,
        /// The present name of the secret.
        name: String,
    },
    /// The name is a former name of another secret, and is still referenced.
    #[error("`{name}` is a former name of `{holder}` and still referenced, so you cannot use it; nothing was changed")]
    Formerly {
        /// The name that was asked for.
        name: String,
        /// The present name of the secret that had it.
        holder: String,
        /// The places that reference the name, or may do so.
        blockers: Vec<BlockerView>,
    },
    /// The secret was changed since the caller looked at it. Holds its name.
    #[error(
        "secret `{0}` was changed in the meantime; your change was not made. Check the secret and repeat the change"
    )]
    Conflict(String),
    /// The secret has no such version.
    #[error(transparent)]
    Version(#[from] NoVersion),
    /// Some templates cannot be rewritten, so nothing was changed.
    #[error("some templates that reference `{name}` cannot be rewritten; nothing was changed")]
    Unwritable {
        /// The name that the templates should get.
        name: String,
        /// All files that cannot be rewritten.
        files: Vec<Unwritable>,
    },
    /// The secret was renamed, but the rewritten templates could not be put in place.
    #[error(
        "the secret is now called `{name}`, but the templates are unchanged ({problem}); references by its former name \
         continue to work"
    )]
    NotRewritten {
        /// The new name of the secret.
        name: String,
        /// The error, as text.
        problem: String,
    },
    /// The value cannot be stored.
    #[error(transparent)]
    Value(#[from] InvalidValue),
    /// References block the delete.
    #[error("secret `{name}` {} referenced; nothing was deleted", is_or_may_be(.blockers))]
    Referenced {
        /// The name of the secret.
        name: String,
        /// Everything that blocks the delete: references, and files that may contain some.
        blockers: Vec<BlockerView>,
    },
    /// The vault failed to read or write.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The usage journal failed to read or write.
    #[error(transparent)]
    Usage(#[from] RecorderError),
}

fn is_or_may_be(blockers: &[BlockerView]) -> &'static str {
    match blockers.iter().any(|blocker| blocker.reason == BlockReason::Referenced) {
        true => "is still",
        false => "may still be",
    }
}

/// The selection of rows that [`Inventory::list`] returns.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Text that the name has to contain, ignoring case; `None` for any name.
    pub query: Option<String>,
    /// The status that a row has to have; `None` for any.
    pub status: Option<SecretStatus>,
    /// The number of rows to skip at the beginning.
    pub offset: usize,
    /// The most rows to return; `None` for all.
    pub limit: Option<usize>,
}

struct Owned {
    vault: Vault,
    catalog: Catalog,
    /// The account; `None` if the vault is in none.
    sync: Option<SyncedVault>,
    /// The rows, kept until something changes.
    index: Option<Arc<Index>>,
}

/// The secrets and templates of one daemon. The [module](self) describes it.
pub struct Inventory {
    owned: Mutex<Owned>,
    resolver: Arc<Resolver>,
    /// Gets an event for every change.
    events: Arc<EventBus>,
    /// The number of former versions that are kept of a secret.
    former_versions: AtomicUsize,
    /// Notified when something may have to be pushed to the account.
    due: Notify,
    /// Notified when templates have changed.
    changed: Notify,
    scans: Arc<Scans>,
    /// The number of template files that were read.
    reads: Arc<AtomicU64>,
}

impl Inventory {
    /// Makes the inventory of this vault and these templates, with the resolver that answers from them. Starts the
    /// thread that scans, which ends when the inventory is dropped.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn new(
        (vault, sync): (Vault, StoredSync),
        catalog: Catalog,
        resolver: Arc<Resolver>,
        events: Arc<EventBus>,
        former_versions: usize,
    ) -> io::Result<Arc<Self>> {
        let reads = catalog.reads();
        let owned = Mutex::new(Owned { vault, catalog, sync: sync.0, index: None });
        let inventory = Arc::new(Self {
            owned,
            resolver,
            events,
            former_versions: AtomicUsize::new(former_versions),
            due: Notify::new(),
            changed: Notify::new(),
            scans: Arc::new(Scans::new()),
            reads,
        });
        let (scans, scanned) = (Arc::clone(&inventory.scans), Arc::downgrade(&inventory));
        let scan = move |progress: &AtomicU64| scanned.upgrade().map(|inventory| inventory.scan(progress));
        std::thread::Builder::new().name("templates".into()).spawn(move || scans.run(scan))?;
        Ok(inventory)
    }

    pub(crate) fn keep_former_versions(&self, number: usize) {
        self.former_versions.store(number, Ordering::Relaxed);
    }

    /// Sets the number of changes in the audit trail that are kept from now on.
    pub fn keep_changes(&self, number: usize) {
        self.lock().vault.keep_changes(number);
    }

    fn lock(&self) -> MutexGuard<'_, Owned> {
        // A panic under the lock left the vault consistent, because each change is one transaction.
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Scans the templates' folders, and answers from the result from now on. Returns when a scan that began after the
    /// call has ended. If none ends in time, all references count as unknown until one does. Returns whether one did.
    pub fn rescan(&self) -> bool {
        let scanned = self.scans.wait_for_scan(Instant::now(), PATIENCE);
        if let Err(unanswered) = scanned {
            self.note_unanswered(unanswered);
        }
        scanned.is_ok()
    }

    /// Scans like [`Self::rescan`], for a caller who only reads and prefers the known state to a long wait. After a
    /// scan, the state is that of the files at `since`, the time of the call, or later.
    pub fn refresh(&self, since: Instant) {
        if let Err(unanswered @ (ScanError::Hanging | ScanError::Failed)) = self.scans.wait_for_scan(since, GLANCE) {
            self.note_unanswered(unanswered);
        }
    }

    fn note_unanswered(&self, unanswered: ScanError) {
        let mut owned = self.lock();
        let before = owned.catalog.generation();
        owned.catalog.note_unanswered();
        if owned.catalog.generation() != before {
            tracing::error!(
                ?unanswered,
                "the template folders could not be scanned; no secret can be deleted until they can"
            );
            self.templates_changed(&mut owned);
        }
    }

    /// Runs one scan, on the thread for scans.
    fn scan(&self, progress: &AtomicU64) {
        let basis = self.lock().catalog.begin();
        let reading = basis.scan(progress);
        self.apply_reading(&mut self.lock(), reading);
    }

    /// Reads the file of one template again, and answers from the result from now on.
    pub fn recheck(&self, id: &str) {
        let basis = self.lock().catalog.begin();
        let reading = basis.recheck([id]);
        self.apply_reading(&mut self.lock(), reading);
    }

    /// Returns how many scans of the templates' folders have begun, and how many files were read by them and for
    /// requests.
    pub fn scans_and_reads(&self) -> (u64, u64) {
        (self.scans.started(), self.reads.load(Ordering::Relaxed))
    }

    fn apply_reading(&self, owned: &mut Owned, reading: CatalogReading) {
        let before = owned.catalog.generation();
        let previous = self.resolver.current.load();
        let changes = owned.catalog.apply(reading, Instant::now());
        if owned.catalog.generation() != before {
            self.templates_changed(owned);
        }
        if !changes.is_empty() {
            // Nobody waits for this, because a reading is not acknowledged to anyone.
            drop(self.resolver.current.change(|state| update_templates(state, &owned.catalog, &changes)));
            self.publish_templates(&previous, &owned.catalog, &changes);
            self.scans.file_changed();
            self.changed.notify_one();
        }
    }

    /// Reacts to a change of what templates reference, or of how much is known about it.
    fn templates_changed(&self, owned: &mut Owned) {
        owned.index = None;
        if owned.sync.is_some() {
            self.due.notify_one();
        }
    }

    /// Sends events for the templates that changed, and for their references if those changed too.
    fn publish_templates(&self, previous: &SnapshotState, catalog: &Catalog, changes: &CatalogChanges) {
        for (ids, change) in [
            (&changes.added, Change::Created),
            (&changes.changed, Change::Changed),
            (&changes.removed, Change::Deleted),
        ] {
            for id in ids {
                self.events.publish(Event::Template { id: id.clone(), change });
                let before =
                    previous.templates.get(id.as_str()).map_or_else(Vec::new, |prepared| names(&prepared.template));
                let after = catalog.get(id).map_or_else(Vec::new, |template| names(template));
                if before != after {
                    self.events.publish(Event::References { template: id.clone(), secrets: after });
                }
            }
        }
    }

    /// Drops the plans of a feature's templates, or of all, after variables or plugins have changed.
    pub fn forget_plans(&self, feature: Option<&str>) -> Released {
        let _owned = self.lock();
        self.resolver.current.change(|state| {
            let renewed = state
                .templates
                .iter()
                .filter(|(_, prepared)| feature.is_none_or(|feature| prepared.template.feature == feature));
            let renewed: Vec<_> = renewed
                .map(|(id, prepared)| (id.clone(), Arc::new(Prepared::new(Arc::clone(&prepared.template)))))
                .collect();
            state.templates.extend(renewed);
        })
    }

    /// Writes a document that the vault keeps sealed, together with events for the audit trail.
    ///
    /// # Errors
    /// [`InventoryError::Vault`] if the vault cannot be written.
    pub fn set_document(&self, label: &str, bytes: &[u8], audit: &[AuditChange]) -> Result<(), InventoryError> {
        let documents = vec![(label.into(), Some(bytes))];
        Ok(self.lock().vault.write(&Writes { documents, changes: audit, ..Writes::default() })?)
    }

    /// Deletes a secret that nothing references.
    ///
    /// # Errors
    /// [`InventoryError::NotFound`], [`InventoryError::Missing`], [`InventoryError::Renamed`],
    /// [`InventoryError::Conflict`] if the secret is not in the state `expected`, [`InventoryError::Referenced`],
    /// [`InventoryError::Vault`].
    pub fn delete(
        &self,
        actor: &Actor,
        name: &SecretName,
        expected: Option<&str>,
    ) -> Result<(SecretId, Released), InventoryError> {
        self.rescan();
        let mut owned = self.lock();
        let secret = self.guard(&mut owned, name, expected)?;
        let audit = AuditChange::new(ChangeKind::SecretDeleted, actor, now()).of_secret(secret.id, &secret.name);
        owned.vault.write(&Writes { removed: vec![secret.id], changes: &[audit], ..Writes::default() })?;
        owned.index = None;
        let released = self.resolver.current.change(|state| state.remove(&name.key()));
        self.events.publish(Event::of_secret(secret.id, &secret.name, Change::Deleted));
        Ok((secret.id, released))
    }

    /// Removes the usage counters of a secret that has been deleted.
    ///
    /// # Errors
    /// [`InventoryError::Usage`] if the journal fails.
    #[expect(clippy::disallowed_methods, reason = "the inventory is used on blocking threads")]
    pub fn forget_usage(&self, id: SecretId) -> Result<(), InventoryError> {
        Ok(self.resolver.recorder.forget(id)?)
    }

    /// Returns the rows as they are known, whatever the files contain by now.
    fn index(&self, owned: &mut Owned) -> Arc<Index> {
        let others = owned.sync.as_ref().map(SyncedVault::references_of_others).unwrap_or_default();
        let build = || Arc::new(Index::of(&self.resolver.current.load(), &owned.catalog, &others));
        Arc::clone(owned.index.get_or_insert_with(build))
    }

    /// Returns the rows after a scan, so that they match the files and not only the last event about them.
    fn scanned_index(&self, since: Instant) -> Arc<Index> {
        self.refresh(since);
        self.index(&mut self.lock())
    }

    /// Returns the number of rows that pass the filter, and a part of them, ordered by name. The first part matches the
    /// files as they were at `since` or later; the following parts do not scan again.
    ///
    /// # Errors
    /// [`InventoryError::Usage`] if the journal fails.
    pub fn list(&self, filter: &Filter, since: Instant) -> Result<(usize, Vec<SecretView>), InventoryError> {
        let index = if filter.offset == 0 { self.scanned_index(since) } else { self.index(&mut self.lock()) };
        let uses = self.uses()?;
        let query = filter.query.as_ref().map(|query| query.to_lowercase());
        let matching = index.rows.iter().filter(|row| {
            query.as_ref().is_none_or(|query| row.key.contains(query.as_str()))
                && filter.status.is_none_or(|status| row.status() == status)
        });
        let mut count = 0;
        let mut views = Vec::new();
        let end = filter.limit.map_or(usize::MAX, |limit| filter.offset.saturating_add(limit));
        for row in matching {
            if (filter.offset..end).contains(&count) {
                views.push(row.view(&uses));
            }
            count += 1;
        }
        Ok((count, views))
    }

    /// Returns how many rows have each status, in the order of [`SecretStatus::ALL`].
    pub fn counts(&self, since: Instant) -> [usize; 3] {
        let index = self.scanned_index(since);
        SecretStatus::ALL.map(|(_, status)| index.rows.iter().filter(|row| row.status() == status).count())
    }

    /// Returns everything known about one secret, or about a missing one that is referenced. Also finds a secret by a
    /// former name.
    ///
    /// # Errors
    /// [`InventoryError::NotFound`] if there is no such row, [`InventoryError::Usage`] if the journal fails.
    #[expect(clippy::disallowed_methods, reason = "the inventory is used on blocking threads")]
    pub fn show(&self, name: &SecretName, since: Instant) -> Result<SecretDetail, InventoryError> {
        let index = self.scanned_index(since);
        let state = self.resolver.current.load();
        let key = state.secret(&name.key()).map_or_else(|| name.key(), |secret| secret.name.key());
        let row = index.get(&key).ok_or_else(|| InventoryError::NotFound(name.to_string()))?;
        let (references, uses) = (row.references(&state), self.uses()?);
        let Some(secret) = &row.secret else {
            let refusals = self.resolver.recorder.refusals(None, name.as_str())?;
            return Ok(SecretDetail {
                secret: row.view(&uses),
                references,
                versions: Vec::new(),
                usage: usage_view(SecretUsage::default(), Vec::new(), refusals),
                etag: None,
            });
        };
        let usage = self.resolver.recorder.usage_of(secret.id)?;
        let refusals = self.resolver.recorder.refusals(Some(secret.id), name.as_str())?;
        Ok(SecretDetail {
            secret: row.view(&uses),
            references,
            versions: versions(secret),
            usage: usage_view(usage, uses.by_device(secret.id), refusals),
            etag: Some(etag(secret)),
        })
    }
}

impl Inventory {
    /// Adds the references of a missing secret to a "not found" error.
    fn not_found(
        &self,
        owned: &mut Owned,
        state: &SnapshotState,
        name: &SecretName,
        error: InventoryError,
    ) -> InventoryError {
        if !matches!(error, InventoryError::NotFound(_)) {
            return error;
        }
        match self.index(owned).get(&name.key()) {
            Some(row) => InventoryError::Missing { name: name.to_string(), references: row.references(state) },
            None => error,
        }
    }

    /// Returns the folders of templates that could not be read at the last scan, with the reason. Nothing in them
    /// renders, and no secret can be deleted until they can be read.
    pub fn unreadable(&self) -> Vec<String> {
        self.lock().catalog.unreadable().collect()
    }

    /// Returns the files in the templates' folder that are not templates, as the last scan found them.
    pub fn strays(&self) -> Vec<Arc<Stray>> {
        self.lock().catalog.strays().cloned().collect()
    }
}

impl Drop for Inventory {
    fn drop(&mut self) {
        self.scans.stop();
    }
}

/// Returns the names in a template, sorted and without duplicates.
fn names(template: &Template) -> Vec<String> {
    let mut names: Vec<String> = template.references().iter().map(|reference| reference.name.to_string()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Updates the templates of a state to those of the catalog.
pub fn update_templates(state: &mut SnapshotState, catalog: &Catalog, changes: &CatalogChanges) {
    for id in changes.removed.iter() {
        state.templates.remove(id.as_str());
    }
    for id in changes.added.iter().chain(&changes.changed) {
        if let Some(template) = catalog.get(id) {
            state.templates.insert(id.as_str().into(), Arc::new(Prepared::new(Arc::clone(template))));
        }
    }
}

/// Adds all secrets of a vault to a state.
pub fn put_secrets(state: &mut SnapshotState, secrets: Vec<Arc<Secret>>) {
    for secret in secrets {
        state.put(None, secret);
    }
}
