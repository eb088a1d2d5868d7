//! `template check`: what is wrong with templates, found without daemon and vault.
//!
//! Plans as the daemon does, in planners of its own, and fills nothing.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use super::DaemonError;
use super::trial::Trial;
use crate::app::preview;
use crate::app::templates;
use crate::config::Config;
use guillemet_api::templates::{Strays, TemplateStatus};
use guillemet_base::home::Home;
use guillemet_plugin::findings::Found;
use guillemet_plugin::plans::{Prepared, Targets};
use guillemet_plugin::registry::Registry;
use guillemet_plugin::{canary, findings};
use guillemet_template::Problem;
use guillemet_template::catalog::Catalog;

/// What a check found.
#[derive(Debug)]
pub struct Checked {
    /// Each template with its problems.
    pub templates: Vec<CheckedTemplate>,
    /// Files that are no templates; none where ids were given.
    pub strays: Strays,
    /// Folders in which nobody can look, with why and what to do.
    pub unreadable: Vec<String>,
}

/// A template that was checked.
#[derive(Debug, Serialize)]
pub struct CheckedTemplate {
    /// The id, `FEATURE/NAME`.
    pub id: String,
    /// The feature whose plugin planned it.
    pub feature: String,
    /// The format of the file.
    pub format: &'static str,
    /// Whether it has no problem.
    pub status: TemplateStatus,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
    /// What may be wrong with it, but prevents no render.
    pub warnings: Vec<Problem>,
    /// The targets that a broken template can be rendered for, where it names none.
    pub good_for: Vec<String>,
}

/// Checks templates for the targets they are for, or for one that is named.
///
/// # Errors
/// When the configuration cannot be read, or an id names no template.
pub fn check_templates(home: &Home, ids: &[String], target: Option<&str>) -> Result<Checked, DaemonError> {
    let Trial { registry, config, runtime } = Trial::new(home)?;
    let mut catalog = Catalog::new(home.templates());
    catalog.rescan(Instant::now());
    if let Some(unknown) = ids.iter().find(|id| catalog.get(id).is_none()) {
        return Err(DaemonError::NoTemplate(unknown.clone()));
    }
    let templates = catalog.templates().filter(|template| ids.is_empty() || ids.contains(&template.id));
    let templates = runtime.block_on(async {
        let mut checked = Vec::new();
        for template in templates {
            checked.push(check_template(&Prepared::new(Arc::clone(template)), target, &registry, &config).await);
        }
        checked
    });
    let strays: Vec<_> = catalog.strays().filter(|_| ids.is_empty()).cloned().collect();
    Ok(Checked { templates, strays: templates::strays(&strays), unreadable: catalog.unreadable().collect() })
}

/// One template with everything wrong with it.
async fn check_template(
    prepared: &Prepared,
    target: Option<&str>,
    registry: &Registry,
    config: &Config,
) -> CheckedTemplate {
    let found = match target {
        Some(id) => match prepared.plan(Some(id), registry, &config.variables).await {
            Ok(plan) => Found { problems: canary::check(&plan), warnings: preview::warnings(&plan, target) },
            Err(unplanned) => Found { problems: findings::problems(unplanned), warnings: Vec::new() },
        },
        None => findings::found(prepared.plans(registry, &config.variables).await, canary::check),
    };
    let is_good = found.problems.is_empty();
    let elsewhere = match target {
        None if !is_good => good_elsewhere(prepared, registry, config).await,
        _ => Vec::new(),
    };
    CheckedTemplate {
        id: prepared.template.id.clone(),
        feature: prepared.template.feature.clone(),
        format: prepared.template.format.extension(),
        status: if is_good { TemplateStatus::Ok } else { TemplateStatus::Broken },
        problems: found.problems,
        warnings: found.warnings,
        good_for: elsewhere,
    }
}

/// The targets that a template is good for, where it names none and is not good for the default.
async fn good_elsewhere(prepared: &Prepared, registry: &Registry, config: &Config) -> Vec<String> {
    let Ok(Targets { are_named: false, .. }) = prepared.targets(registry, &config.variables).await else {
        return Vec::new();
    };
    let mut good = Vec::new();
    for target in registry.targets(&prepared.template.feature).await.unwrap_or_default() {
        if let Ok(plan) = prepared.plan(Some(&target.id), registry, &config.variables).await
            && canary::check(&plan).is_empty()
        {
            good.push(target.id);
        }
    }
    good
}
