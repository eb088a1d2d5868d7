//! The rows of the inventory in order, with the references of each. They are made again after secrets or templates have
//! changed, and shared by all callers in between.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::uses::AllUses;
use super::views::{field, remote_reference};
use crate::resolve::snapshot::SnapshotState;
use guillemet_account::engine::{DeviceReference, References};
use guillemet_api::secrets::{ReferenceView, SecretStatus, SecretView};
use guillemet_base::time::rfc3339;
use guillemet_secret::record::Secret;
use guillemet_template::catalog::{Catalog, Template};
use guillemet_template::lexer::Reference;

/// A reference, and the template it is in.
#[derive(Clone)]
pub(super) struct TemplateReference {
    pub(super) template: Arc<Template>,
    index: usize,
}

impl TemplateReference {
    pub(super) fn reference(&self) -> &Reference {
        &self.template.references()[self.index]
    }
}

/// The name of another device, and its references.
pub(super) type DeviceReferences = (Arc<str>, Arc<References>);

/// A reference on another device.
pub(super) struct RemoteReference {
    device: Arc<str>,
    references: Arc<References>,
    index: usize,
}

impl RemoteReference {
    fn get(&self) -> &DeviceReference {
        &self.references.references[self.index]
    }
}

/// A row: a secret, or a name that is referenced without being a secret.
pub(super) struct IndexRow {
    pub(super) key: Box<str>,
    pub(super) secret: Option<Arc<Secret>>,
    /// References by the name and by former names, in the order of the templates.
    pub(super) references: Vec<TemplateReference>,
    /// References on the account's other devices.
    pub(super) remote: Vec<RemoteReference>,
}

impl IndexRow {
    /// Makes the row of one secret, without building the whole index.
    pub(super) fn of(
        state: &SnapshotState,
        catalog: &Catalog,
        others: &[DeviceReferences],
        secret: Arc<Secret>,
    ) -> Self {
        let key: Box<str> = secret.name.key().into();
        let references = references(state, catalog).filter(|(name, _)| *name == key);
        let remote = remote_references(state, others).filter(|(name, _)| *name == key);
        Self {
            references: references.map(|(_, reference)| reference).collect(),
            remote: remote.map(|(_, reference)| reference).collect(),
            key,
            secret: Some(secret),
        }
    }

    /// Returns the references, as the API shows them.
    pub(super) fn references(&self, state: &SnapshotState) -> Vec<ReferenceView> {
        let view = |found: &TemplateReference| {
            let (template, reference) = (&found.template.id, found.reference());
            ReferenceView {
                device: None,
                template: template.clone(),
                line: Some(reference.line),
                column: Some(reference.column),
                field: field(state, template, reference.line, reference.column),
                name: Some(reference.name.to_string()),
            }
        };
        let remote = self.remote.iter().map(|remote| remote_reference(&remote.device, remote.get()));
        self.references.iter().map(view).chain(remote).collect()
    }
}

/// Iterates over all references in the order of the templates, each with the key of the secret it leads to now.
fn references(state: &SnapshotState, catalog: &Catalog) -> impl Iterator<Item = (Box<str>, TemplateReference)> {
    catalog.files().flat_map(move |template| {
        template.references().iter().enumerate().map(move |(index, reference)| {
            (leads_to(state, reference.name.key()), TemplateReference { template: Arc::clone(template), index })
        })
    })
}

/// Returns the key of the secret that a key leads to: the one it is a former name of, or itself.
fn leads_to(state: &SnapshotState, key: String) -> Box<str> {
    state.former.get(key.as_str()).cloned().unwrap_or_else(|| key.into())
}

/// Iterates over the references on the account's other devices in the same way.
fn remote_references(
    state: &SnapshotState,
    others: &[DeviceReferences],
) -> impl Iterator<Item = (Box<str>, RemoteReference)> {
    others.iter().flat_map(move |(device, references)| {
        references.references.iter().enumerate().map(move |(index, reference)| {
            let remote = RemoteReference { device: Arc::clone(device), references: Arc::clone(references), index };
            (leads_to(state, reference.name.to_ascii_lowercase()), remote)
        })
    })
}

/// All rows, ordered by key.
pub(super) struct Index {
    pub(super) rows: Vec<IndexRow>,
}

impl Index {
    /// Builds the rows. `others` are the references of the account's other devices, with the name of each.
    pub(super) fn of(state: &SnapshotState, catalog: &Catalog, others: &[DeviceReferences]) -> Self {
        let mut remote: HashMap<Box<str>, Vec<RemoteReference>> = HashMap::new();
        for (key, reference) in remote_references(state, others) {
            remote.entry(key).or_default().push(reference);
        }
        let mut local: HashMap<Box<str>, Vec<TemplateReference>> = HashMap::new();
        for (key, reference) in references(state, catalog) {
            local.entry(key).or_default().push(reference);
        }
        let mut rows = Vec::with_capacity(state.secrets.len() + 16);
        for (key, secret) in &state.secrets {
            let references = local.remove(key).unwrap_or_default();
            let remote = remote.remove(key).unwrap_or_default();
            rows.push(IndexRow { key: key.clone(), secret: Some(Arc::clone(secret)), references, remote });
        }
        let missing: BTreeSet<Box<str>> = local.keys().chain(remote.keys()).cloned().collect();
        rows.extend(missing.into_iter().map(|key| {
            let (references, remote) =
                (local.remove(&key).unwrap_or_default(), remote.remove(&key).unwrap_or_default());
            IndexRow { key, secret: None, references, remote }
        }));
        rows.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Self { rows }
    }

    pub(super) fn get(&self, key: &str) -> Option<&IndexRow> {
        self.rows.binary_search_by(|row| (*row.key).cmp(key)).ok().map(|at| &self.rows[at])
    }
}

impl IndexRow {
    pub(super) fn status(&self) -> SecretStatus {
        match &self.secret {
            None => SecretStatus::Missing,
            Some(secret) if secret.enabled => SecretStatus::Active,
            Some(_) => SecretStatus::Disabled,
        }
    }

    pub(super) fn view(&self, uses: &AllUses) -> SecretView {
        let (status, usage_count) = (self.status(), self.references.len() + self.remote.len());
        let Some(secret) = &self.secret else {
            let name = self.references.first().map(|found| found.reference().name.to_string());
            let name = name.or_else(|| self.remote.first().map(|remote| remote.get().name.clone()));
            return SecretView {
                id: None,
                name: name.unwrap_or_default(),
                status,
                enabled: None,
                usage_count,
                resolution_count: None,
                last_used_at: None,
                last_used_on: None,
                usage_complete: None,
                created_at: None,
                updated_at: None,
                version: None,
                former_names: None,
            };
        };
        let uses = uses.of(secret.id);
        let (last_used_at, last_used_on) = uses.last.unzip();
        SecretView {
            id: Some(secret.id.to_string()),
            name: secret.name.to_string(),
            status,
            enabled: Some(secret.enabled),
            usage_count,
            resolution_count: Some(uses.count),
            last_used_at: last_used_at.map(rfc3339),
            last_used_on: last_used_on.flatten().map(|device| device.to_string()),
            usage_complete: Some(uses.is_complete),
            created_at: Some(rfc3339(secret.created_at)),
            updated_at: Some(rfc3339(secret.updated_at)),
            version: Some(secret.current().number),
            former_names: Some(secret.former_names.iter().map(ToString::to_string).collect()),
        }
    }
}
