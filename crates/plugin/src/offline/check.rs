//! Checks templates: compiles them as the daemon does, and fills nothing but canaries.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use guillemet_base::problem::Problem;

use super::{OfflineCompiler, OfflineError};
use crate::canary;
use crate::findings::{self, TemplateFindings};
use crate::plans::{Prepared, Targets};
use guillemet_plan::preview;
use guillemet_template::catalog::{Catalog, Stray};

/// The results of a check.
#[derive(Debug)]
pub struct CheckReport {
    /// Each template with its problems, as JSON.
    pub templates: Vec<CheckedTemplate>,
    /// Files that are not templates; none if ids were given.
    pub strays: Vec<Arc<Stray>>,
    /// The folders that cannot be read, with the reason and what to do.
    pub unreadable: Vec<String>,
}

/// A template that was checked.
#[derive(Debug, Serialize)]
pub struct CheckedTemplate {
    /// The id, `FEATURE/NAME`.
    pub id: String,
    /// The feature whose plugin compiled it.
    pub feature: String,
    /// The format of the file, as its extension.
    pub format: &'static str,
    /// `ok`, or `broken` if there is a problem.
    pub status: &'static str,
    /// Everything that is wrong with it.
    pub problems: Vec<Problem>,
    /// What may be wrong with it, but prevents no render.
    pub warnings: Vec<Problem>,
    /// The targets that a broken template can be rendered for, if it names none itself.
    pub good_for: Vec<String>,
}

impl CheckedTemplate {
    /// Reports whether the template has a problem.
    pub fn is_broken(&self) -> bool {
        !self.problems.is_empty()
    }
}

impl OfflineCompiler {
    /// Checks the templates of a folder, or those with these ids if there are any, for the targets they are meant for,
    /// or for this target.
    ///
    /// # Errors
    /// Fails with [`OfflineError::NoTemplate`] if an id has no template.
    pub fn check(&self, folder: PathBuf, ids: &[String], target: Option<&str>) -> Result<CheckReport, OfflineError> {
        let mut catalog = Catalog::new(folder);
        catalog.rescan(Instant::now());
        if let Some(unknown) = ids.iter().find(|id| catalog.get(id).is_none()) {
            return Err(OfflineError::NoTemplate(unknown.clone()));
        }
        let templates = catalog.templates().filter(|template| ids.is_empty() || ids.contains(&template.id));
        let templates = self.runtime.block_on(async {
            let mut checked = Vec::new();
            for template in templates {
                checked.push(self.check_template(&Prepared::new(Arc::clone(template)), target).await);
            }
            checked
        });
        let strays: Vec<_> = catalog.strays().filter(|_| ids.is_empty()).cloned().collect();
        Ok(CheckReport { templates, strays, unreadable: catalog.unreadable().collect() })
    }

    /// Returns a template with all its problems, as JSON.
    async fn check_template(&self, prepared: &Prepared, target: Option<&str>) -> CheckedTemplate {
        let found = match target {
            Some(id) => match prepared.plan(Some(id), &self.registry, &self.variables).await {
                Ok(plan) => {
                    let warnings = preview::warnings(&plan, target);
                    TemplateFindings { problems: canary::check(&plan), warnings }
                }
                Err(error) => TemplateFindings { problems: findings::problems(error), warnings: Vec::new() },
            },
            None => findings::template_findings(prepared.plans(&self.registry, &self.variables).await, canary::check),
        };
        let is_good = found.problems.is_empty();
        let good_for = match target {
            None if !is_good => self.other_valid_targets(prepared).await,
            _ => Vec::new(),
        };
        CheckedTemplate {
            id: prepared.template.id.clone(),
            feature: prepared.template.feature.clone(),
            format: prepared.template.format.extension(),
            status: if is_good { "ok" } else { "broken" },
            problems: found.problems,
            warnings: found.warnings,
            good_for,
        }
    }

    /// Returns the other targets that a template is good for, if it names none and is not good for the default.
    async fn other_valid_targets(&self, prepared: &Prepared) -> Vec<String> {
        let Ok(Targets { are_named: false, .. }) = prepared.targets(&self.registry, &self.variables).await else {
            return Vec::new();
        };
        let mut good = Vec::new();
        for target in self.registry.targets(&prepared.template.feature).await.unwrap_or_default() {
            if let Ok(plan) = prepared.plan(Some(&target.id), &self.registry, &self.variables).await
                && canary::check(&plan).is_empty()
            {
                good.push(target.id);
            }
        }
        good
    }
}
