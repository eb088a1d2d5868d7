//! What was found about one template over the targets it is for: turns outcomes and failures into problems, and reports
//! each problem once.
//!
//! Knows nothing of who shows them.

use crate::plans::{Outcomes, PlanError};
use guillemet_base::problem::Problem;
use guillemet_plan::plan::Plan;

/// Problems or warnings, in the order in which they were found.
#[derive(Debug)]
pub struct Findings {
    targets: usize,
    entries: Vec<(Problem, Vec<String>)>,
}

impl Findings {
    /// Starts without findings, for this number of targets.
    pub fn new(targets: usize) -> Self {
        Self { targets, entries: Vec::new() }
    }

    /// Adds what was found for one target.
    pub fn add(&mut self, target: &str, problems: impl IntoIterator<Item = Problem>) {
        for problem in problems {
            match self.entries.iter_mut().find(|(existing, _)| *existing == problem) {
                Some((_, targets)) if targets.iter().any(|other| other == target) => {}
                Some((_, targets)) => targets.push(target.to_owned()),
                None => self.entries.push((problem, vec![target.to_owned()])),
            }
        }
    }

    /// Returns each finding once. A finding that does not apply to every target names those it applies to.
    pub fn into_problems(self) -> Vec<Problem> {
        let problems = self.entries.into_iter().map(|(mut problem, targets)| {
            if targets.len() < self.targets {
                let word = if targets.len() == 1 { "target" } else { "targets" };
                let suffix = format!(" ({word} `{}`)", targets.join("`, `"));
                // Some findings name their target themselves.
                if !problem.message.ends_with(&suffix) {
                    problem.message += &suffix;
                }
            }
            problem
        });
        problems.collect()
    }
}

/// What was found about a template over the targets it is for.
pub struct TemplateFindings {
    /// What is wrong with it.
    pub problems: Vec<Problem>,
    /// Worth telling, not an error.
    pub warnings: Vec<Problem>,
}

/// Says everything that was found about a template; `also` looks for more in a plan.
pub fn template_findings(
    outcomes: Result<Outcomes, PlanError>,
    also: impl Fn(&Plan) -> Vec<Problem>,
) -> TemplateFindings {
    let outcomes = match outcomes {
        Ok(outcomes) => outcomes,
        Err(error) => return TemplateFindings { problems: problems(error), warnings: Vec::new() },
    };
    let (mut errors, mut warnings) = (Findings::new(outcomes.len()), Findings::new(outcomes.len()));
    for (target, outcome) in outcomes {
        match outcome {
            Ok(plan) => {
                warnings.add(&target.id, plan.warnings.clone());
                errors.add(&target.id, also(&plan));
            }
            Err(error) => errors.add(&target.id, problems(error)),
        }
    }
    TemplateFindings { problems: errors.into_problems(), warnings: warnings.into_problems() }
}

/// Why there is no plan, as problems.
pub fn problems(error: PlanError) -> Vec<Problem> {
    match error {
        PlanError::Problems(problems) | PlanError::File(problems) => problems,
        PlanError::Plugin(message) => vec![Problem { message, ..Problem::default() }],
        PlanError::NoTarget(targets) => {
            vec![Problem {
                message: format!("no such target; use one of: {}", targets.join(", ")),
                ..Problem::default()
            }]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_some_targets_only_says_which() {
        let problem = |message: &str| Problem { message: message.into(), ..Problem::default() };
        let mut findings = Findings::new(3);
        findings.add("a", [problem("all"), problem("two"), problem("two")]);
        findings.add("b", [problem("all")]);
        findings.add("c", [problem("one"), problem("two"), problem("all"), problem("own (target `c`)")]);
        let messages: Vec<String> = findings.into_problems().into_iter().map(|problem| problem.message).collect();
        assert_eq!(messages, ["all", "two (targets `a`, `c`)", "one (target `c`)", "own (target `c`)"]);
    }
}
