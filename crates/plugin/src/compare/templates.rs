//! The templates of a feature under two plugins: what each makes of them, and whether that reads back.
//!
//! Knows nothing of values and parses no document. Everything together ends in time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::difference::{self, Differences};
use super::{Break, BreakSubject, Comparison, Side, TemplateChange, TemplateEffect};
use crate::checker::plans::PlanChecker;
use crate::findings;
use crate::plans::{PlanError, Prepared, Targets, Variables};
use guillemet_base::problem::Problem;
use guillemet_plan::plan::Plan;
use guillemet_plan::protocol::Target;
use guillemet_template::catalog::Template;

/// How long all templates of a feature may take together. What is not compared by then counts as broken.
const COMPARE_TIME: Duration = Duration::from_secs(60);
/// The time from which a failure is a slow one: a plugin that runs out of its time does so every time.
const SLOW: Duration = Duration::from_secs(1);
/// The number of slow failures that ends the comparison. What is not compared by then counts as broken.
const SLOW_MAX: usize = 3;
/// The most templates that are named in one message.
const NAMED_MAX: usize = 5;

pub(super) struct Comparing<'a> {
    before: Option<&'a Side>,
    after: &'a Side,
    variables: &'a Variables,
    differences: Differences,
    checker: PlanChecker,
    /// The number of plans that took long and failed, or did not read back.
    slow: usize,
}

impl<'a> Comparing<'a> {
    /// Starts a comparison. Without `before`, there is nothing to compare with.
    pub(super) fn new(before: Option<&'a Side>, after: &'a Side, variables: &'a Variables) -> Self {
        let (differences, checker) = (Differences::default(), PlanChecker::default());
        Self { before, after, variables, differences, checker, slow: 0 }
    }

    /// Compares every template, and records what is gone.
    pub(super) async fn templates(&mut self, templates: Vec<Arc<Template>>, comparison: &mut Comparison) {
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

    /// Compares one template for every target. Adds to `lost` each target that the new plugin does not have although the
    /// template can be rendered for it, with the template.
    async fn template(&mut self, template: Arc<Template>, lost: &mut Vec<(String, String)>) -> Vec<TemplateChange> {
        let id = template.id.clone();
        let change = |target: Option<&str>, effect| TemplateChange {
            template: id.clone(),
            target: target.map(str::to_owned),
            effect,
        };
        let new = Prepared::new(Arc::clone(&template));
        let meant_after = new.targets(&self.after.registry, self.variables).await;
        let mut changes = Vec::new();
        let Some(before) = self.before else {
            if let Some((target, problems)) = self.first_failure(&new, &meant_after).await {
                changes.push(change(target.as_deref(), TemplateEffect::Failing(problems)));
            }
            let targets: Vec<&Target> = self.after.description.targets.iter().collect();
            let unread = self.unread(&new, &targets).await;
            changes.extend(unread.into_iter().map(|(target, effect)| change(Some(target), effect)));
            return changes;
        };
        let old = Prepared::new(template);
        let meant_before = old.targets(&before.registry, self.variables).await;
        let is_meant = |meant: &Result<Targets, PlanError>, target: &Target| {
            meant.as_ref().map_or(true, |meant| meant.list.iter().any(|own| own.id == target.id))
        };
        let mut compared = Vec::new();
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
            compared.push(&successor.id);
            let replanned = self.plan(&new, self.after, successor).await;
            let matters = is_meant(&meant_before, target) || is_meant(&meant_after, successor);
            let effects = match (planned, replanned) {
                (Ok(before), Ok(after)) => {
                    let unread = self.read_back(Some(&before), &after).await;
                    [self.document(before, after).await.map(TemplateEffect::Changed), unread]
                }
                (Ok(_), Err(error)) => [Some(TemplateEffect::Broken(findings::problems(error))), None],
                (Err(_), Ok(after)) => match self.read_back(None, &after).await {
                    None => [matters.then_some(TemplateEffect::Fixed), None],
                    unread => [unread, None],
                },
                (Err(_), Err(error)) => [matters.then(|| TemplateEffect::Failing(findings::problems(error))), None],
            };
            changes.extend(effects.into_iter().flatten().map(|effect| change(Some(&target.id), effect)));
        }
        let is_new = |target: &&Target| !compared.contains(&&target.id);
        let added: Vec<&Target> = self.after.description.targets.iter().filter(is_new).collect();
        let unread = self.unread(&new, &added).await;
        changes.extend(unread.into_iter().map(|(target, effect)| change(Some(target), effect)));
        let is_broken = |change: &TemplateChange| matches!(change.effect, TemplateEffect::Broken(_));
        if let (Ok(_), Err(error)) = (&meant_before, meant_after)
            && !changes.iter().any(is_broken)
        {
            changes.push(change(None, TemplateEffect::Broken(findings::problems(error))));
        }
        changes
    }

    /// Returns those of these targets, which only the new plugin has, whose document is made and does not read back.
    async fn unread<'t>(&mut self, new: &Prepared, targets: &[&'t Target]) -> Vec<(&'t str, TemplateEffect)> {
        let mut found = Vec::new();
        for target in targets {
            if self.has_given_up() {
                break;
            }
            if let Ok(plan) = self.plan(new, self.after, target).await
                && let Some(effect) = self.read_back(None, &plan).await
            {
                found.push((&*target.id, effect));
            }
        }
        found
    }

    /// Has the document of the new plugin read back. What does not read back breaks, unless it is the same with the
    /// plan of the present plugin.
    async fn read_back(&mut self, before: Option<&Arc<Plan>>, after: &Arc<Plan>) -> Option<TemplateEffect> {
        let found = self.check(after).await;
        if found.is_empty() {
            return None;
        }
        let known = match before {
            Some(before) if is_same(before, after) => found.clone(),
            Some(before) => renamed(self.check(before).await, &before.target.id, &after.target.id),
            None => Vec::new(),
        };
        let new: Vec<Problem> = found.iter().filter(|problem| !known.contains(problem)).cloned().collect();
        Some(if new.is_empty() { TemplateEffect::Failing(found) } else { TemplateEffect::Broken(new) })
    }

    async fn check(&mut self, plan: &Arc<Plan>) -> Vec<Problem> {
        let begun = Instant::now();
        let found = self.checker.check(plan).await;
        if !found.is_empty() && begun.elapsed() > SLOW {
            self.slow += 1;
        }
        found
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

/// Reports whether two plans of one template make the same document, and say the same of it.
fn is_same(before: &Plan, after: &Plan) -> bool {
    before.digest == after.digest && before.kind == after.kind && before.target == after.target
}

/// Returns what was found for a target as it is said of its successor, which may have another id.
fn renamed(mut problems: Vec<Problem>, target: &str, successor: &str) -> Vec<Problem> {
    for problem in &mut problems {
        problem.message = problem.message.replace(&format!("target `{target}`"), &format!("target `{successor}`"));
    }
    problems
}
