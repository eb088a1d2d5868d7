//! The inventory: which secrets there are, who uses them, and whether one may be deleted.
//!
//! Owns the vault and the catalog behind one mutex: whatever changes either is one critical section, and
//! the snapshot that answers are made from is replaced inside it. All of it blocks; callers come from a
//! blocking thread and await the returned `Released` before they acknowledge a change (promise 8).
//!
//! Invariant (promise 7): `delete` rescans the templates in the same critical section in which it removes.

mod usage;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::names::{Millis, SecretId, SecretName};
use crate::resolve::plans::Prepared;
use crate::resolve::snapshot::{Map, Released, State};
use crate::resolve::{Resolver, now};
use crate::template::catalog::{Blocker, Catalog, Changes};
use crate::vault::record::{InvalidValue, Secret};
use crate::vault::store::{Vault, VaultError};
use crate::vault::usage::{RecorderError, SecretUsage, Totals};

pub use self::usage::UsageView;

/// Whether a secret can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Enabled, and has a value.
    Active,
    /// Kept, and refused to every resolution.
    Disabled,
    /// A reference names it and there is no value to be had.
    Missing,
}

impl Status {
    /// All of them, with the names the API uses.
    pub const ALL: [(&'static str, Self); 3] =
        [("active", Self::Active), ("disabled", Self::Disabled), ("missing", Self::Missing)];
}

/// A row of the inventory, as the API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct SecretView {
    /// The id; null for a missing row, as is everything that is kept with a secret.
    pub id: Option<String>,
    /// The name, as it was typed; for a missing row as its first reference spells it.
    pub name: String,
    /// Whether it can be used.
    pub status: Status,
    /// Whether it is enabled.
    pub enabled: Option<bool>,
    /// The number of active references.
    pub usage_count: usize,
    /// How often a value left the vault.
    pub resolution_count: Option<u64>,
    /// When one last did.
    pub last_used_at: Option<String>,
    /// When it was created.
    pub created_at: Option<String>,
    /// When it last changed.
    pub updated_at: Option<String>,
    /// The number of its current version.
    pub version: Option<u32>,
    /// Names it had before.
    pub former_names: Option<Vec<String>>,
}

/// A reference, as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReferenceView {
    /// The template's id.
    pub template: String,
    /// Line in its file, from 1.
    pub line: Option<u32>,
    /// Column in characters, from 1.
    pub column: Option<u32>,
    /// The field of the config; null while it is not known (a branch not taken, a broken template).
    pub field: Option<String>,
    /// The name, as the template spells it.
    pub name: Option<String>,
}

/// A version, as the API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct VersionView {
    /// Its number, from 1.
    pub version: u32,
    /// When it was created.
    pub created_at: String,
    /// Whether it is the one that is served.
    pub current: bool,
}

/// A secret with everything known about it.
#[derive(Clone, Debug, Serialize)]
pub struct SecretDetail {
    /// The row.
    #[serde(flatten)]
    pub secret: SecretView,
    /// Who names it.
    pub references: Vec<ReferenceView>,
    /// Newest first.
    pub versions: Vec<VersionView>,
    /// What was resolved.
    pub usage: UsageView,
}

/// What stands in the way of a deletion.
#[derive(Clone, Debug, Serialize)]
pub struct BlockerView {
    /// The reference, as far as it is known.
    #[serde(flatten)]
    pub reference: ReferenceView,
    /// What it is and how to lift it.
    pub message: String,
    /// Its kind.
    pub reason: String,
    /// When to try again, where waiting is enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// Why a change was refused.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// No secret of this name.
    #[error("there is no secret `{0}`; `guillemet secret list` shows which there are")]
    NotFound(String),
    /// The name is taken.
    #[error("there is a secret `{0}` already; choose another name, or change that one")]
    Taken(String),
    /// The value cannot be kept.
    #[error(transparent)]
    Value(#[from] InvalidValue),
    /// References stand in the way.
    #[error("secret `{name}` is still referenced; nothing was deleted")]
    Referenced {
        /// The secret.
        name: String,
        /// All of them.
        blockers: Vec<BlockerView>,
    },
    /// The vault.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The usage journal.
    #[error(transparent)]
    Usage(#[from] RecorderError),
}

/// What `list` picks.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Text that the name has to hold, without regard to case.
    pub query: Option<String>,
    /// The status.
    pub status: Option<Status>,
}

struct Owned {
    vault: Vault,
    catalog: Catalog,
}

/// See the module.
pub struct Inventory {
    owned: Mutex<Owned>,
    resolver: Arc<Resolver>,
}

impl Inventory {
    /// Of this vault, these templates and what answers from them.
    pub fn new(vault: Vault, catalog: Catalog, resolver: Arc<Resolver>) -> Self {
        Self { owned: Mutex::new(Owned { vault, catalog }), resolver }
    }

    fn owned(&self) -> MutexGuard<'_, Owned> {
        // A panic while it was held left the vault as it was: each change is one transaction.
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the templates' folders again; answers are made from what is found from now on.
    pub fn rescan(&self) -> Changes {
        self.rescan_owned(&mut self.owned())
    }

    fn rescan_owned(&self, owned: &mut Owned) -> Changes {
        let changes = owned.catalog.rescan(Instant::now());
        if !changes.is_empty() {
            // Nobody is told of a rescan: there is nothing to wait for.
            drop(self.resolver.current.change(|state| update_templates(state, &owned.catalog, &changes)));
        }
        changes
    }

    /// Drops every plan: variables or plugins have changed.
    pub fn forget_plans(&self, feature: Option<&str>) -> Released {
        let _owned = self.owned();
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

    /// A document kept sealed in the vault.
    ///
    /// # Errors
    /// The vault's.
    pub fn set_document(&self, label: &str, bytes: &[u8]) -> Result<(), InventoryError> {
        Ok(self.owned().vault.set_document(label, bytes)?)
    }

    /// Creates a secret.
    ///
    /// # Errors
    /// `Taken`, `Value`, `Vault`.
    pub fn create(
        &self,
        name: SecretName,
        value: &str,
        enabled: bool,
    ) -> Result<(SecretView, Released), InventoryError> {
        let mut owned = self.owned();
        let key = name.key();
        let state = self.resolver.current.load();
        if let Some(taken) = state.secrets.get(key.as_str()) {
            return Err(InventoryError::Taken(taken.name.to_string()));
        }
        drop(state);
        let secret = Arc::new(Secret::new(name, value, enabled, now())?);
        owned.vault.put(&secret)?;
        let released = self.resolver.current.change(|state| {
            state.secrets.insert(key.into(), Arc::clone(&secret));
        });
        let references = References::of(&owned.catalog);
        Ok((references.row(&secret, None), released))
    }

    /// Enables or disables a secret. Nothing changes when it is so already.
    ///
    /// # Errors
    /// `NotFound`, `Vault`.
    pub fn set_enabled(&self, name: &SecretName, enabled: bool) -> Result<(SecretView, Released), InventoryError> {
        let (secret, references, released) = {
            let mut owned = self.owned();
            let state = self.resolver.current.load();
            let secret = state.secrets.get(name.key().as_str()).cloned();
            drop(state);
            let secret = secret.ok_or_else(|| InventoryError::NotFound(name.to_string()))?;
            let changed = if secret.enabled == enabled {
                secret
            } else {
                let mut changed = Secret::clone(&secret);
                changed.enabled = enabled;
                changed.revision += 1;
                changed.updated_at = now().max(changed.updated_at);
                owned.vault.put(&changed)?;
                Arc::new(changed)
            };
            let released = self.resolver.current.change(|state| {
                state.secrets.insert(name.key().into(), Arc::clone(&changed));
            });
            (changed, References::of(&owned.catalog), released)
        };
        let totals = self.resolver.recorder.totals()?;
        Ok((references.row(&secret, totals.get(&secret.id)), released))
    }

    /// Deletes a secret that nothing references.
    ///
    /// # Errors
    /// `NotFound`, `Referenced`, `Vault`.
    pub fn delete(&self, name: &SecretName) -> Result<(SecretId, Released), InventoryError> {
        let mut owned = self.owned();
        self.rescan_owned(&mut owned);
        let state = self.resolver.current.load();
        let secret = state.secrets.get(name.key().as_str()).cloned();
        let secret = secret.ok_or_else(|| InventoryError::NotFound(name.to_string()))?;
        let names: Vec<&SecretName> = std::iter::once(&secret.name).chain(&secret.former_names).collect();
        let blockers = owned.catalog.blockers(&names, Instant::now());
        if !blockers.is_empty() {
            let blockers = blockers.into_iter().map(|blocker| blocker_view(blocker, &state)).collect();
            return Err(InventoryError::Referenced { name: secret.name.to_string(), blockers });
        }
        drop(state);
        owned.vault.remove(secret.id)?;
        let released = self.resolver.current.change(|state| {
            state.secrets.remove(name.key().as_str());
        });
        Ok((secret.id, released))
    }

    /// Forgets what was resolved of a secret that has been deleted.
    ///
    /// # Errors
    /// `Usage`.
    pub fn forget_usage(&self, id: SecretId) -> Result<(), InventoryError> {
        Ok(self.resolver.recorder.forget(id)?)
    }

    /// Every reference there is now: what is listed is true to the files, not to the last event of them.
    fn references(&self) -> References {
        let mut owned = self.owned();
        self.rescan_owned(&mut owned);
        References::of(&owned.catalog)
    }

    /// Every row that passes the filter, by name.
    ///
    /// # Errors
    /// `Usage`.
    pub fn list(&self, filter: &Filter) -> Result<Vec<SecretView>, InventoryError> {
        let references = self.references();
        let totals = self.resolver.recorder.totals()?;
        let state = self.resolver.current.load();
        let mut rows: Vec<(String, SecretView)> = Vec::with_capacity(state.secrets.len());
        for (key, secret) in &state.secrets {
            rows.push((key.to_string(), references.row(secret, totals.get(&secret.id))));
        }
        for (key, found) in &references.by_key {
            if !state.secrets.contains_key(key.as_str()) {
                rows.push((key.clone(), missing(found)));
            }
        }
        let query = filter.query.as_ref().map(|query| query.to_lowercase());
        rows.retain(|(key, row)| {
            query.as_ref().is_none_or(|query| key.contains(query.as_str()))
                && filter.status.is_none_or(|status| row.status == status)
        });
        rows.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }

    /// One secret, or the row of a missing one, with everything known about it.
    ///
    /// # Errors
    /// `NotFound`, `Usage`.
    pub fn show(&self, name: &SecretName) -> Result<SecretDetail, InventoryError> {
        let references = self.references();
        let state = self.resolver.current.load();
        let key = name.key();
        let found = references.by_key.get(&key).map_or(&[][..], Vec::as_slice);
        let views = found.iter().map(|(template, reference)| ReferenceView {
            template: template.clone(),
            line: Some(reference.line),
            column: Some(reference.column),
            field: field(&state, template, reference.line, reference.column),
            name: Some(reference.name.to_string()),
        });
        let views: Vec<ReferenceView> = views.collect();
        let Some(secret) = state.secrets.get(key.as_str()) else {
            if found.is_empty() {
                return Err(InventoryError::NotFound(name.to_string()));
            }
            let refusals = self.resolver.recorder.refusals(None, name.as_str())?;
            return Ok(SecretDetail {
                secret: missing(found),
                references: views,
                versions: Vec::new(),
                usage: UsageView::of(SecretUsage::default(), refusals),
            });
        };
        let usage = self.resolver.recorder.of(secret.id)?;
        let refusals = self.resolver.recorder.refusals(Some(secret.id), name.as_str())?;
        let versions = secret.versions.iter().rev().map(|version| VersionView {
            version: version.number,
            created_at: rfc3339(version.created_at),
            current: version.number == secret.current().number,
        });
        Ok(SecretDetail {
            secret: references.row(secret, Some(&usage.totals)),
            references: views,
            versions: versions.collect(),
            usage: UsageView::of(usage, refusals),
        })
    }
}

/// Brings the templates of a state to what the catalog found.
pub fn update_templates(state: &mut State, catalog: &Catalog, changes: &Changes) {
    for id in changes.removed.iter() {
        state.templates.remove(id.as_str());
    }
    for id in changes.added.iter().chain(&changes.changed) {
        if let Some(template) = catalog.get(id) {
            state.templates.insert(id.as_str().into(), Arc::new(Prepared::new(Arc::clone(template))));
        }
    }
}

/// A reference with the place it stands in.
struct Found {
    name: SecretName,
    line: u32,
    column: u32,
}

/// All references by the key of the name.
struct References {
    by_key: BTreeMap<String, Vec<(String, Found)>>,
}

impl References {
    fn of(catalog: &Catalog) -> Self {
        let mut by_key: BTreeMap<String, Vec<(String, Found)>> = BTreeMap::new();
        for (template, reference) in catalog.references() {
            let found = Found { name: reference.name.clone(), line: reference.line, column: reference.column };
            by_key.entry(reference.name.key()).or_default().push((template.to_owned(), found));
        }
        Self { by_key }
    }

    fn row(&self, secret: &Secret, totals: Option<&Totals>) -> SecretView {
        let count = |name: &SecretName| self.by_key.get(&name.key()).map_or(0, Vec::len);
        SecretView {
            id: Some(secret.id.to_string()),
            name: secret.name.to_string(),
            status: if secret.enabled { Status::Active } else { Status::Disabled },
            enabled: Some(secret.enabled),
            usage_count: count(&secret.name),
            resolution_count: Some(totals.map_or(0, |totals| totals.count)),
            last_used_at: totals.and_then(|totals| totals.last_used).map(rfc3339),
            created_at: Some(rfc3339(secret.created_at)),
            updated_at: Some(rfc3339(secret.updated_at)),
            version: Some(secret.current().number),
            former_names: Some(secret.former_names.iter().map(ToString::to_string).collect()),
        }
    }
}

fn missing(found: &[(String, Found)]) -> SecretView {
    SecretView {
        id: None,
        name: found.first().map(|(_, found)| found.name.to_string()).unwrap_or_default(),
        status: Status::Missing,
        enabled: None,
        usage_count: found.len(),
        resolution_count: None,
        last_used_at: None,
        created_at: None,
        updated_at: None,
        version: None,
        former_names: None,
    }
}

/// The field a reference stands in, where a plan has told.
fn field(state: &State, template: &str, line: u32, column: u32) -> Option<String> {
    let plan = state.templates.get(template)?.ready(None)?.ok()?;
    let here = plan.uses.iter().find(|usage| (usage.line, usage.column) == (line, column))?;
    Some(here.field.clone())
}

fn blocker_view(blocker: Blocker, state: &State) -> BlockerView {
    let place = blocker.line.zip(blocker.column);
    BlockerView {
        message: blocker.message(),
        reason: blocker.reason.code().to_owned(),
        retry_after_ms: blocker.retry_after().map(|wait| wait.as_millis() as u64),
        reference: ReferenceView {
            field: place.and_then(|(line, column)| field(state, &blocker.template, line, column)),
            template: blocker.template,
            line: blocker.line,
            column: blocker.column,
            name: blocker.name,
        },
    }
}

/// A time as the API writes it: RFC 3339 in UTC with milliseconds.
pub fn rfc3339(at: Millis) -> String {
    const FORMAT: &[BorrowedFormatItem<'_>] =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    let nanos = i128::from(at) * 1_000_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(FORMAT).unwrap_or_default()
}

/// The secrets of a vault, as a state begins with them.
pub fn secrets(all: Vec<Secret>) -> Map<Arc<Secret>> {
    all.into_iter().map(|secret| (secret.name.key().into(), Arc::new(secret))).collect()
}
