//! Checks a planner's findings about a component, and decides what of them can be used.

use guillemet_base::display::sanitize;
use guillemet_plan::description;
use guillemet_plan::protocol::{BrokenRule, Description, Import, LOG_MAX, Report, Target};

use super::{MESSAGE_MAX, PlannerError};

/// The most rules that are kept of a report, and the most characters of one.
const RULES_MAX: usize = 200;
const RULE_MAX: usize = 500;
/// The most imports of a component, and the most functions of one, that are kept.
const NAMES_MAX: usize = 200;
/// The most characters of their names.
const NAME_MAX: usize = 100;

/// Returns the description of a usable plugin.
///
/// # Errors
/// Fails with [`PlannerError::Failed`], which lists everything that prevents its use.
pub fn usable(report: &Report) -> Result<Description, PlannerError> {
    match &report.description {
        Some(description) if report.broken.is_empty() => Ok(description.clone()),
        _ => {
            let sentences: Vec<&str> = report.broken.iter().map(|rule| rule.sentence.as_str()).collect();
            Err(PlannerError::Failed { message: sanitize(&sentences.join("; "), MESSAGE_MAX) })
        }
    }
}

/// Returns the targets that a template names according to its planner. Returns `None` if that cannot be true: the
/// plugin must have each of them, and each must be named once.
pub fn named_targets(ids: &[String], description: &Description) -> Option<Vec<Target>> {
    // Checked first, because each id is compared with all the others.
    if ids.len() > description.targets.len() {
        return None;
    }
    let is_once = (1..ids.len()).all(|index| !ids[..index].contains(&ids[index]));
    let of_plugin = |id: &String| description.targets.iter().find(|target| target.id == *id).cloned();
    if is_once { ids.iter().map(of_plugin).collect() } else { None }
}

/// Returns a planner's report, reduced to what can be trusted and shown. Returns `None` if it calls a plugin usable
/// without a description that keeps every rule.
pub fn validated(report: Report) -> Option<Report> {
    let texts = |texts: Vec<String>, count: usize, max: usize| -> Vec<String> {
        texts.iter().take(count).map(|text| sanitize(text, max)).filter(|text| !text.is_empty()).collect()
    };
    let imports = report.imports.into_iter().take(NAMES_MAX).map(|import| Import {
        name: sanitize(&import.name, NAME_MAX),
        functions: texts(import.functions, NAMES_MAX, NAME_MAX),
    });
    let rules = report.broken.into_iter().take(RULES_MAX);
    let rules: Vec<BrokenRule> =
        rules.map(|rule| BrokenRule { sentence: sanitize(&rule.sentence, RULE_MAX), about: rule.about }).collect();
    let description = if rules.is_empty() {
        Some(description::check(report.description?).ok()?)
    } else {
        report.description.map(description::sanitized)
    };
    let log = shown_log(report.log);
    Some(Report { imports: imports.collect(), description, log, broken: rules, ..report })
}

/// Returns what a plugin logged, reduced to what can be shown.
pub fn shown_log(log: Vec<String>) -> Vec<String> {
    log.iter().take(LOG_MAX).map(|line| sanitize(line, RULE_MAX)).collect()
}
