//! Views of templates and of the other files in their folder, for the API, the console and `template check`.

use std::sync::Arc;
use std::time::Instant;

use super::error::AppError;
use super::{App, blocking};
use crate::config::Config;
use guillemet_api::secrets::ReferenceView;
use guillemet_api::templates::{ExplainedUse, Explanation, StrayView, Strays, TemplateStatus, TemplateView};
use guillemet_plan::plan::Plan;
use guillemet_plan::preview;
use guillemet_plugin::findings::template_findings;
use guillemet_plugin::plans::{Prepared, Targets};
use guillemet_plugin::registry::Registry;
use guillemet_template::catalog::{Stray, TemplateContent};

/// The most files that are shown.
const STRAYS_SHOWN: usize = 100;

/// Returns the view of files that are not templates: their number, and the first 100 of them.
pub fn strays(strays: &[Arc<Stray>]) -> Strays {
    let view = |stray: &Arc<Stray>| StrayView {
        path: stray.path.clone(),
        reason: stray.why.code().into(),
        message: stray.message(),
    };
    Strays { count: strays.len(), items: strays.iter().take(STRAYS_SHOWN).map(view).collect() }
}

/// Returns the files in the templates' folder that are not templates, after a scan of the folder. If the folder does
/// not answer soon, returns what is known.
///
/// # Errors
/// [`AppError::Internal`] if the inventory panics.
pub async fn list_strays(app: &Arc<App>) -> Result<Strays, AppError> {
    let since = Instant::now();
    let all = blocking(app, move |inventory| {
        inventory.refresh(since);
        Ok(inventory.strays())
    });
    Ok(strays(&all.await?))
}

/// Returns every template, by id. Waits for the plans that are not made yet.
pub async fn templates(app: &Arc<App>) -> Vec<TemplateView> {
    let snapshot = app.resolver.current.load();
    let mut templates: Vec<Arc<Prepared>> = snapshot.templates.values().cloned().collect();
    drop(snapshot);
    templates.sort_by(|a, b| a.template.id.cmp(&b.template.id));
    let mut views = Vec::with_capacity(templates.len());
    for prepared in templates {
        views.push(template(app, &prepared).await);
    }
    views
}

/// Returns one template. Waits for its plans if they are not made yet.
pub async fn template(app: &Arc<App>, prepared: &Prepared) -> TemplateView {
    let config = app.config.load_full();
    let template = &prepared.template;
    let findings = template_findings(prepared.plans(&app.registry, &config.variables).await, |_| Vec::new());
    let plan = prepared.any_ready();
    let uses = plan.as_ref().map_or(&[][..], |plan| &plan.uses);
    let references = match &template.content {
        TemplateContent::Lexed(lexed) => lexed.references.as_slice(),
        TemplateContent::Broken { .. } => &[],
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
        format: template.format.extension().into(),
        status: if findings.problems.is_empty() { TemplateStatus::Ok } else { TemplateStatus::Broken },
        references: references.collect(),
        targets: targets(prepared, &app.registry, &config).await,
        warnings: findings.warnings,
        problems: findings.problems,
    }
}

/// Returns whether a template is meant for this target, so that its warnings are among those of the template.
pub async fn is_meant_for(app: &Arc<App>, prepared: &Prepared, target: &str) -> bool {
    let targets = prepared.targets(&app.registry, &app.config.load_full().variables).await;
    targets.is_ok_and(|targets| targets.list.iter().any(|own| own.id == target))
}

/// Explains a plan of a template: its document with names in place of values, and what happens to each value.
/// `requested` is the target as the caller named it.
pub fn explain(prepared: &Prepared, plan: &Plan, requested: Option<&str>) -> Explanation {
    let explained = |(index, encodings): (usize, Vec<&'static str>)| {
        let usage = &plan.uses[index];
        ExplainedUse {
            name: usage.name.to_string(),
            template: prepared.template.id.clone(),
            line: usage.line,
            column: usage.column,
            field: usage.field.clone(),
            encodings: encodings.into_iter().map(Into::into).collect(),
        }
    };
    Explanation {
        template: prepared.template.id.clone(),
        target: plan.target.id.clone(),
        media_type: plan.target.media_type.clone(),
        file_name: plan.target.file_name.clone(),
        document: preview::document(plan),
        secrets: preview::uses(plan).into_iter().map(explained).collect(),
        warnings: preview::warnings(plan, requested),
    }
}

/// Returns the ids of the targets that a template names, or of all targets of its feature; the template's default
/// first.
async fn targets(prepared: &Prepared, registry: &Registry, config: &Config) -> Vec<String> {
    let list = match prepared.targets(registry, &config.variables).await {
        Ok(Targets { list, are_named: true }) => list.to_vec(),
        _ => registry.targets(&prepared.template.feature).await.unwrap_or_default(),
    };
    list.into_iter().map(|target| target.id).collect()
}
