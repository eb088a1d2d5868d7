//! Templates, and the other files in their folder, as the API shows them.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use super::error::AppError;
use super::listing::Listing;
use super::{App, blocking};
use crate::config::Config;
use crate::inventory::ReferenceView;
use guillemet_plugin::findings::found;
use guillemet_plugin::plans::{Prepared, Targets};
use guillemet_plugin::registry::Registry;
use guillemet_template::Problem;
use guillemet_template::catalog::{Content, StrayListing};

/// A template as the API shows it.
#[derive(Debug, Serialize)]
pub struct TemplateView {
    id: String,
    feature: String,
    format: &'static str,
    status: &'static str,
    references: Vec<ReferenceView>,
    targets: Vec<String>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl TemplateView {
    /// Returns whether the template cannot be rendered for one of its targets.
    pub fn is_broken(&self) -> bool {
        self.status == "broken"
    }
}

/// One page of the templates, and the files in their folder that are not templates.
#[derive(Debug, Serialize)]
pub struct Templates {
    /// The templates of this page.
    #[serde(flatten)]
    pub page: Listing<TemplateView>,
    /// The files of the whole folder that are not templates.
    pub strays: StrayListing,
}

/// Returns the files in the templates' folder that are not templates, after a scan of the folder. If the folder does
/// not answer soon, returns what is known.
///
/// # Errors
/// [`AppError::Internal`] if the inventory panics.
pub async fn list_strays(app: &Arc<App>) -> Result<StrayListing, AppError> {
    let since = Instant::now();
    let all = blocking(app, move |inventory| {
        inventory.refresh(since);
        Ok(inventory.strays())
    });
    Ok(StrayListing::of(&all.await?))
}

/// Returns every template, by id. Waits for the plans that are not made yet.
pub async fn templates(app: &Arc<App>) -> Vec<TemplateView> {
    let snapshot = app.resolver.current.load();
    let mut all: Vec<Arc<Prepared>> = snapshot.templates.values().cloned().collect();
    drop(snapshot);
    all.sort_by(|a, b| a.template.id.cmp(&b.template.id));
    let mut views = Vec::with_capacity(all.len());
    for prepared in all {
        views.push(template(app, &prepared).await);
    }
    views
}

/// Returns one template. Waits for its plans if they are not made yet.
pub async fn template(app: &Arc<App>, prepared: &Prepared) -> TemplateView {
    let config = app.config.load_full();
    let template = &prepared.template;
    let found = found(prepared.plans(&app.registry, &config.variables).await, |_| Vec::new());
    let plan = prepared.any_ready();
    let uses = plan.as_ref().map_or(&[][..], |plan| &plan.uses);
    let references = match &template.content {
        Content::Lexed(lexed) => lexed.references.as_slice(),
        Content::Broken { .. } => &[],
    };
    let references = references.iter().enumerate().map(|(index, reference)| ReferenceView {
        device: None,
        template: template.id.clone(),
        line: Some(reference.line),
        column: Some(reference.column),
        field: uses.iter().find(|usage| usage.reference == index).map(|usage| usage.field.clone()),
        name: Some(reference.name.to_string()),
    });
    TemplateView {
        id: template.id.clone(),
        feature: template.feature.clone(),
        format: template.format.extension(),
        status: if found.problems.is_empty() { "ok" } else { "broken" },
        references: references.collect(),
        targets: targets(prepared, &app.registry, &config).await,
        warnings: found.warnings,
        problems: found.problems,
    }
}

/// Returns the ids of the targets that a template names, or else of all targets of its feature. The template's default
/// is the first.
async fn targets(prepared: &Prepared, registry: &Registry, config: &Config) -> Vec<String> {
    let list = match prepared.targets(registry, &config.variables).await {
        Ok(Targets { list, are_named: true }) => list.to_vec(),
        _ => registry.targets(&prepared.template.feature).await.unwrap_or_default(),
    };
    list.into_iter().map(|target| target.id).collect()
}
