//! The rows of the inventory in order, with the references of each: made anew when secrets or templates have
//! changed, and shared by everybody who asks in between.

use std::collections::HashMap;
use std::sync::Arc;

use super::views::{ReferenceView, SecretView, Status, field, rfc3339};
use crate::resolve::snapshot::State;
use crate::template::catalog::{Catalog, Template};
use crate::template::lexer::Reference;
use crate::vault::record::Secret;
use crate::vault::usage::Totals;

/// A reference with the template it stands in.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) template: Arc<Template>,
    index: usize,
}

impl Found {
    pub(super) fn reference(&self) -> &Reference {
        &self.template.references()[self.index]
    }
}

/// A row: a secret, or a name that is referenced and is none.
pub(super) struct Row {
    pub(super) key: Box<str>,
    pub(super) secret: Option<Arc<Secret>>,
    /// References by the name and by former names, in the order of the templates.
    pub(super) references: Vec<Found>,
}

impl Row {
    /// The row of one secret, without a look at all the others.
    pub(super) fn of(state: &State, catalog: &Catalog, secret: Arc<Secret>) -> Self {
        let key: Box<str> = secret.name.key().into();
        let of_it = references(state, catalog).filter(|(found, _)| *found == key);
        Self { references: of_it.map(|(_, reference)| reference).collect(), key, secret: Some(secret) }
    }

    /// Its references, as the API shows them.
    pub(super) fn references(&self, state: &State) -> Vec<ReferenceView> {
        let view = |found: &Found| {
            let (template, reference) = (&found.template.id, found.reference());
            ReferenceView {
                template: template.clone(),
                line: Some(reference.line),
                column: Some(reference.column),
                field: field(state, template, reference.line, reference.column),
                name: Some(reference.name.to_string()),
            }
        };
        self.references.iter().map(view).collect()
    }
}

/// Every reference, in the order of the templates, with the key of what it leads to now.
fn references(state: &State, catalog: &Catalog) -> impl Iterator<Item = (Box<str>, Found)> {
    catalog.files().flat_map(move |template| {
        template.references().iter().enumerate().map(move |(index, reference)| {
            let key = reference.name.key();
            let key = state.former.get(key.as_str()).cloned().unwrap_or_else(|| key.into());
            (key, Found { template: Arc::clone(template), index })
        })
    })
}

/// Every row, by key.
pub(super) struct Index {
    pub(super) rows: Vec<Row>,
}

impl Index {
    pub(super) fn of(state: &State, catalog: &Catalog) -> Self {
        let mut found: HashMap<Box<str>, Vec<Found>> = HashMap::new();
        for (key, reference) in references(state, catalog) {
            found.entry(key).or_default().push(reference);
        }
        let mut rows = Vec::with_capacity(state.secrets.len() + 16);
        for (key, secret) in &state.secrets {
            let references = found.remove(key).unwrap_or_default();
            rows.push(Row { key: key.clone(), secret: Some(Arc::clone(secret)), references });
        }
        rows.extend(found.into_iter().map(|(key, references)| Row { key, secret: None, references }));
        rows.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Self { rows }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Row> {
        self.rows.binary_search_by(|row| (*row.key).cmp(key)).ok().map(|at| &self.rows[at])
    }
}

impl Row {
    pub(super) fn status(&self) -> Status {
        match &self.secret {
            None => Status::Missing,
            Some(secret) if secret.enabled => Status::Active,
            Some(_) => Status::Disabled,
        }
    }

    pub(super) fn view(&self, totals: Option<&Totals>) -> SecretView {
        let (status, usage_count) = (self.status(), self.references.len());
        let Some(secret) = &self.secret else {
            let name = self.references.first().map(|found| found.reference().name.to_string());
            return SecretView {
                id: None,
                name: name.unwrap_or_default(),
                status,
                enabled: None,
                usage_count,
                resolution_count: None,
                last_used_at: None,
                created_at: None,
                updated_at: None,
                version: None,
                former_names: None,
            };
        };
        SecretView {
            id: Some(secret.id.to_string()),
            name: secret.name.to_string(),
            status,
            enabled: Some(secret.enabled),
            usage_count,
            resolution_count: Some(totals.map_or(0, |totals| totals.count)),
            last_used_at: totals.and_then(|totals| totals.last_used).map(rfc3339),
            created_at: Some(rfc3339(secret.created_at)),
            updated_at: Some(rfc3339(secret.updated_at)),
            version: Some(secret.current().number),
            former_names: Some(secret.former_names.iter().map(ToString::to_string).collect()),
        }
    }
}
