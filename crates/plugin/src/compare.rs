//! What changes when another plugin takes the place of the present one: compiles every template of the feature with
//! both, and compares.
//!
//! Knows nothing of values, nor of who decides. Runs each plugin in a planner of its own, so that it holds up no
//! render. The documents are compared as text and never parsed.

mod difference;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use semver::Version;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout_at};

use self::difference::Differences;
use crate::findings;
use crate::plans::{PlanError, Prepared, Targets, Variables};
use crate::registry::{PluginCandidate, Registry};
use guillemet_base::problem::Problem;
use guillemet_plan::plan::Plan;
use guillemet_plan::protocol::{Description, Target};
use guillemet_template::catalog::Template;

/// How long all templates of a feature may take together. What is not compared by then counts as broken.
const COMPARE_TIME: Duration = Duration::from_secs(60);
/// The time from which a failure is a slow one: a plugin that runs out of its time does so every time.
const SLOW: Duration = Duration::from_secs(1);
/// The number of slow failures that ends the comparison. What is not compared by then counts as broken.
const SLOW_MAX: usize = 3;
/// The most templates that are named in one message.
const NAMED_MAX: usize = 5;

/// How the version of a plugin relates to that of the one it replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionOrder {
    /// There is no other plugin to compare with.
    First,
    /// It is newer.
    Newer,
    /// It is older.
    Older,
    /// It has the same version.
    Same,
    /// It has another version, and at least one of them is not a semantic version.
    Unordered,
}

/// Everything that differs between the present plugin of a feature and another one.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// How the versions relate.
    pub version: VersionOrder,
    /// The present default target and the new one, if they differ.
    pub default_target: Option<(String, String)>,
    /// The names of targets, aliases included, that only the new plugin has.
    pub targets_added: Vec<String>,
    /// The names of targets, aliases included, that only the present plugin has.
    pub targets_removed: Vec<String>,
    /// The patterns of secret fields that only the new plugin has.
    pub secret_fields_added: Vec<String>,
    /// The patterns of secret fields that only the present plugin has.
    pub secret_fields_removed: Vec<String>,
    /// The templates that change, each for one target.
    pub templates: Vec<TemplateChange>,
    /// What would break.
    pub breaks: Vec<Break>,
}

/// What happens to one template, for one target.
#[derive(Clone, Debug)]
pub struct TemplateChange {
    /// The id of the template.
    pub template: String,
    /// The id of the target; `None` if the plugin cannot tell the targets of the template.
    pub target: Option<String>,
    /// What happens.
    pub effect: TemplateEffect,
}

/// What happens to a template.
#[derive(Clone, Debug)]
pub enum TemplateEffect {
    /// It gives another document. Holds the difference, as a unified diff with `«name»` in place of secrets.
    Changed(String),
    /// It can be rendered now, and cannot be with the new plugin. Holds the problems.
    Broken(Vec<Problem>),
    /// It cannot be rendered now, and can be with the new plugin.
    Fixed,
    /// It cannot be rendered with the new plugin, nor now. Holds the problems.
    Failing(Vec<Problem>),
}

/// Something that works now and would not work any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Break {
    /// What it is about.
    pub about: BreakSubject,
    /// The id of the template; `None` if it is about the plugin.
    pub template: Option<String>,
    /// The id of the target; `None` if it is about no particular one.
    pub target: Option<String>,
    /// What is wrong.
    pub problem: Problem,
}

/// What a [`Break`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum BreakSubject {
    /// A template.
    Template,
    /// A target that is gone, or is no longer the default.
    Target,
    /// A check of the component.
    Check,
}

impl Break {
    /// Makes what a failed check of the component breaks.
    pub fn of_check(problem: Problem) -> Self {
        Self { about: BreakSubject::Check, template: None, target: None, problem }
    }

    fn of_target(target: &str, message: String) -> Self {
        let problem = Problem { message, ..Problem::default() };
        Self { about: BreakSubject::Target, template: None, target: Some(target.to_owned()), problem }
    }
}

impl Comparison {
    /// Returns a digest of everything that would break, in hexadecimal: who agreed to break one thing has not agreed
    /// to break another.
    pub fn digest(&self) -> String {
        // Every field is a text, a number or absent.
        let breaks = serde_json::to_vec(&self.breaks).unwrap_or_default();
        data_encoding::HEXLOWER.encode(&Sha256::digest(breaks))
    }
}

/// Compares a candidate with the plugin of its feature that is in force. A candidate that is in force already changes
/// nothing. `templates` are those of the feature.
pub async fn compare(
    registry: &Registry,
    candidate: &PluginCandidate,
    templates: Vec<Arc<Template>>,
    variables: &Variables,
) -> Comparison {
    let feature = candidate.feature();
    if registry.digest(feature).as_deref() == Some(candidate.digest()) {
        return of_descriptions(Some(candidate.description()), candidate.description());
    }
    let after = Side { registry: registry.with_only(candidate), description: candidate.description().clone() };
    let before = match registry.with_own_planner(feature).await {
        Ok(isolated) => {
            registry.describe(feature).await.ok().map(|description| Side { registry: isolated, description })
        }
        // A plugin that is refused renders nothing, so nothing can break.
        Err(_) => None,
    };
    let mut comparison = of_descriptions(before.as_ref().map(|side| &side.description), &after.description);
    let differences = Differences::default();
    let mut comparing = Comparing { before: before.as_ref(), after: &after, variables, differences, slow: 0 };
    comparing.templates(templates, &mut comparison).await;
    if let Some(before) = before {
        before.registry.end().await;
    }
    comparison
}

/// One of the two plugins, alone in a registry.
struct Side {
    registry: Registry,
    description: Description,
}

impl Side {
    /// Returns the target with this name, which may be a former one.
    fn target(&self, name: &str) -> Option<&Target> {
        find(&self.description, name)
    }
}

fn find<'a>(description: &'a Description, name: &str) -> Option<&'a Target> {
    description.targets.iter().find(|target| target.names().any(|own| own == name))
}

/// Compares what two plugins say of themselves.
fn of_descriptions(before: Option<&Description>, after: &Description) -> Comparison {
    let mut comparison = Comparison {
        version: before.map_or(VersionOrder::First, |before| order(&before.version, &after.version)),
        default_target: None,
        targets_added: Vec::new(),
        targets_removed: Vec::new(),
        secret_fields_added: Vec::new(),
        secret_fields_removed: Vec::new(),
        templates: Vec::new(),
        breaks: Vec::new(),
    };
    let Some(before) = before else { return comparison };
    let names = |description: &Description| -> BTreeSet<String> {
        description.targets.iter().flat_map(|target| target.names().map(str::to_owned)).collect()
    };
    let fields =
        |description: &Description| -> BTreeSet<String> { description.secret_fields.iter().cloned().collect() };
    comparison.targets_added = only(&names(after), &names(before));
    comparison.targets_removed = only(&names(before), &names(after));
    comparison.secret_fields_added = only(&fields(after), &fields(before));
    comparison.secret_fields_removed = only(&fields(before), &fields(after));
    if let (Some(old), Some(new)) = (before.targets.first(), after.targets.first())
        && !new.names().any(|name| name == old.id)
    {
        comparison.default_target = Some((old.id.clone(), new.id.clone()));
        if find(after, &old.id).is_some() {
            let message =
                format!("the default target is `{}` instead of `{}`, for templates that name none", new.id, old.id);
            comparison.breaks.push(Break::of_target(&old.id, message));
        }
    }
    comparison
}

fn only(these: &BTreeSet<String>, others: &BTreeSet<String>) -> Vec<String> {
    these.difference(others).cloned().collect()
}

/// Returns how the version `after` relates to `before`. Without an order, they are no semantic versions.
pub fn order(before: &str, after: &str) -> VersionOrder {
    if before == after {
        return VersionOrder::Same;
    }
    match (Version::parse(before), Version::parse(after)) {
        (Ok(before), Ok(after)) if after.cmp_precedence(&before).is_lt() => VersionOrder::Older,
        (Ok(before), Ok(after)) if after.cmp_precedence(&before).is_gt() => VersionOrder::Newer,
        _ => VersionOrder::Unordered,
    }
}

struct Comparing<'a> {
    before: Option<&'a Side>,
    after: &'a Side,
    variables: &'a Variables,
    differences: Differences,
    /// The number of plans that took long and failed.
    slow: usize,
}

impl Comparing<'_> {
    /// Compares every template, and records what is gone.
    async fn templates(&mut self, templates: Vec<Arc<Template>>, comparison: &mut Comparison) {
        let until = Instant::now() + COMPARE_TIME;
        let (mut uncompared, mut lost) = (Vec::new(), Vec::new());
        for template in templates {
            let id = template.id.clone();
            match timeout_at(until, self.template(template, &mut lost)).await {
                Ok(changes) => {
                    comparison.templates.extend(changes);
                    // The last template is compared for some targets only.
                    if self.has_given_up() {
                        uncompared.push(id);
                    }
                }
                Err(_) => uncompared.push(id),
            }
        }
        self.record_lost_targets(&lost, comparison);
        let broken = comparison.templates.iter().filter_map(|change| match &change.effect {
            TemplateEffect::Broken(problems) => Some((change, problems)),
            _ => None,
        });
        let broken = broken.flat_map(|(change, problems)| problems.iter().map(move |problem| (change, problem)));
        comparison.breaks.extend(broken.map(|(change, problem)| Break {
            about: BreakSubject::Template,
            template: Some(change.template.clone()),
            target: change.target.clone(),
            problem: problem.clone(),
        }));
        if !uncompared.is_empty() {
            let message = format!(
                "{} could not be compared: plans take too long (at most {} s for all)",
                named(&uncompared),
                COMPARE_TIME.as_secs()
            );
            comparison.breaks.push(Break {
                about: BreakSubject::Template,
                template: None,
                target: None,
                problem: Problem { message, ..Problem::default() },
            });
        }
    }

    /// Records each name of a target that the new plugin does not know, with the templates that are rendered for it.
    fn record_lost_targets(&self, lost: &[(String, String)], comparison: &mut Comparison) {
        let breaks = comparison.targets_removed.iter().map(|name| {
            let of_target = lost.iter().filter(|(target, _)| target == name);
            let templates: Vec<String> = of_target.map(|(_, template)| template.clone()).collect();
            let message = match templates.is_empty() {
                true => format!("the target `{name}` is gone"),
                false => format!("the target `{name}` is gone: {} can be rendered for it now", named(&templates)),
            };
            Break::of_target(name, message)
        });
        let breaks: Vec<Break> = breaks.collect();
        comparison.breaks.extend(breaks);
    }

    /// Compares one template for every target of the present plugin. Adds to `lost` each target that the new plugin
    /// does not have although the template can be rendered for it, with the template.
    async fn template(&mut self, template: Arc<Template>, lost: &mut Vec<(String, String)>) -> Vec<TemplateChange> {
        let id = template.id.clone();
        let change = |target: Option<&str>, effect| TemplateChange {
            template: id.clone(),
            target: target.map(str::to_owned),
            effect,
        };
        let new = Prepared::new(Arc::clone(&template));
        let meant_after = new.targets(&self.after.registry, self.variables).await;
        let Some(before) = self.before else {
            return match self.first_failure(&new, &meant_after).await {
                Some((target, problems)) => vec![change(target.as_deref(), TemplateEffect::Failing(problems))],
                None => Vec::new(),
            };
        };
        let old = Prepared::new(template);
        let meant_before = old.targets(&before.registry, self.variables).await;
        let is_meant = |meant: &Result<Targets, PlanError>, target: &Target| {
            meant.as_ref().map_or(true, |meant| meant.list.iter().any(|own| own.id == target.id))
        };
        let mut changes = Vec::new();
        for target in &before.description.targets {
            if self.has_given_up() {
                break;
            }
            let planned = self.plan(&old, before, target).await;
            let Some(successor) = self.after.target(&target.id) else {
                if planned.is_ok() {
                    lost.push((target.id.clone(), id.clone()));
                }
                continue;
            };
            let replanned = self.plan(&new, self.after, successor).await;
            let matters = is_meant(&meant_before, target) || is_meant(&meant_after, successor);
            let effect = match (planned, replanned) {
                (Ok(before), Ok(after)) => self.document(before, after).await.map(TemplateEffect::Changed),
                (Ok(_), Err(error)) => Some(TemplateEffect::Broken(findings::problems(error))),
                (Err(_), Ok(_)) => matters.then_some(TemplateEffect::Fixed),
                (Err(_), Err(error)) => matters.then(|| TemplateEffect::Failing(findings::problems(error))),
            };
            changes.extend(effect.map(|effect| change(Some(&target.id), effect)));
        }
        let is_broken = |change: &TemplateChange| matches!(change.effect, TemplateEffect::Broken(_));
        if let (Ok(_), Err(error)) = (&meant_before, meant_after)
            && !changes.iter().any(is_broken)
        {
            changes.push(change(None, TemplateEffect::Broken(findings::problems(error))));
        }
        changes
    }

    fn has_given_up(&self) -> bool {
        self.slow >= SLOW_MAX
    }

    /// Makes the plan of a template for a target with one of the plugins.
    async fn plan(&mut self, template: &Prepared, side: &Side, target: &Target) -> Result<Arc<Plan>, PlanError> {
        let begun = Instant::now();
        let planned = template.plan(Some(&target.id), &side.registry, self.variables).await;
        if planned.is_err() && begun.elapsed() > SLOW {
            self.slow += 1;
        }
        planned
    }

    /// Returns the first target that a template is meant for and cannot be rendered for, with the problems.
    async fn first_failure(
        &self,
        new: &Prepared,
        meant: &Result<Targets, PlanError>,
    ) -> Option<(Option<String>, Vec<Problem>)> {
        let meant = match meant {
            Ok(meant) => meant,
            Err(error) => return Some((None, findings::problems(error.clone()))),
        };
        for target in meant.list.iter() {
            if let Err(error) = new.plan(Some(&target.id), &self.after.registry, self.variables).await {
                return Some((Some(target.id.clone()), findings::problems(error)));
            }
        }
        None
    }

    /// Returns the difference between two plans as people read them; `None` if there is none.
    async fn document(&mut self, before: Arc<Plan>, after: Arc<Plan>) -> Option<String> {
        // Large documents take a while.
        let found = tokio::task::spawn_blocking(move || difference::of_plans(&before, &after)).await;
        let found = found.unwrap_or_else(|_| Some("the documents cannot be compared".into()))?;
        Some(self.differences.admit(found))
    }
}

/// Names the first few of some templates.
fn named(templates: &[String]) -> String {
    let first = templates.iter().take(NAMED_MAX).map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ");
    match templates.len().saturating_sub(NAMED_MAX) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
mod tests;
