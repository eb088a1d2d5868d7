//! What a planner says of a component, and how far that is believed.

use crate::planner::description;
use crate::planner::protocol::{Description, Import, Report, Rule, Target};
use crate::planner::text::tidy;

use super::{MESSAGE_MAX, PlannerError};

/// Most sentences on what stands against a plugin, and most characters of one.
const RULES_MAX: usize = 200;
const RULE_MAX: usize = 500;
/// Most imports of a component, and most functions of one, that are believed.
const NAMES_MAX: usize = 200;
/// Most characters of their names.
const NAME_MAX: usize = 100;

/// What a usable plugin says of itself.
///
/// # Errors
/// Everything that stands against using it.
pub fn usable(report: &Report) -> Result<Description, PlannerError> {
    match &report.description {
        Some(description) if report.broken.is_empty() => Ok(description.clone()),
        _ => {
            let broken: Vec<&str> = report.broken.iter().map(|rule| rule.sentence.as_str()).collect();
            Err(PlannerError::Failed { message: tidy(&broken.join("; "), MESSAGE_MAX) })
        }
    }
}

/// The targets that a planner says a template names, if that can be believed: the plugin has each of them, and each is
/// named once.
pub fn named(ids: &[String], description: &Description) -> Option<Vec<Target>> {
    // First of all: each is compared with all the others.
    if ids.len() > description.targets.len() {
        return None;
    }
    let is_once = (1..ids.len()).all(|index| !ids[..index].contains(&ids[index]));
    let of_plugin = |id: &String| description.targets.iter().find(|target| target.id == *id).cloned();
    if is_once { ids.iter().map(of_plugin).collect() } else { None }
}

/// A planner's report, as far as it can be believed and shown: a plugin that is said to be usable has a description
/// that keeps every rule.
pub fn believed(report: Report) -> Option<Report> {
    let texts = |texts: Vec<String>, count: usize, max: usize| -> Vec<String> {
        texts.iter().take(count).map(|text| tidy(text, max)).filter(|text| !text.is_empty()).collect()
    };
    let imports = report.imports.into_iter().take(NAMES_MAX).map(|import| Import {
        name: tidy(&import.name, NAME_MAX),
        functions: texts(import.functions, NAMES_MAX, NAME_MAX),
    });
    let broken = report.broken.into_iter().take(RULES_MAX);
    let broken: Vec<Rule> =
        broken.map(|rule| Rule { sentence: tidy(&rule.sentence, RULE_MAX), about: rule.about }).collect();
    let description = if broken.is_empty() {
        Some(description::check(report.description?).ok()?)
    } else {
        report.description.map(description::shown)
    };
    Some(Report { imports: imports.collect(), description, broken, ..report })
}
