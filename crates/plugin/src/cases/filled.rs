//! Fills the document of a case with the values that the case gives, and compares what is rendered, refused or read back.
//!
//! The values are texts of a case file, never secrets.

use std::collections::BTreeMap;

use super::judge::{of_documents, of_problems};
use super::{Case, DiffLine, Difference};
use crate::{canary, offline};
use guillemet_base::names::SecretName;
use guillemet_base::problem::Problem;
use guillemet_plan::plan::Plan;

/// Returns every way in which the filled document differs from the case; empty if the case gives no values.
pub fn compare(case: &Case, plan: &Plan) -> Vec<Difference> {
    if case.secrets.is_empty() {
        return Vec::new();
    }
    match render(case, plan) {
        Err(problems) => of_refusals(case, &problems),
        Ok(rendered) => of_rendered(case, plan, &rendered),
    }
}

/// Fills the document with the values of the case.
///
/// # Errors
/// Fails with a problem for each value that its place cannot hold.
pub fn render(case: &Case, plan: &Plan) -> Result<String, Vec<Problem>> {
    let key = |name: &String| name.parse::<SecretName>().map_or_else(|_| name.clone(), |name| name.key());
    let values: BTreeMap<String, &str> = case.secrets.iter().map(|(name, value)| (key(name), value.as_str())).collect();
    Ok(String::from_utf8_lossy(&offline::fill(plan, &values)?).into_owned())
}

fn of_refusals(case: &Case, problems: &[Problem]) -> Vec<Difference> {
    let mut differences = of_problems(&case.refused, problems);
    differences.iter_mut().for_each(|difference| {
        difference.message = "the refusals differ; - are the case's, + were found:".into();
    });
    differences
}

fn of_rendered(case: &Case, plan: &Plan, rendered: &str) -> Vec<Difference> {
    let mut differences = of_refusals(case, &[]);
    if let Some(expected) = &case.rendered
        && let Some(mut difference) = of_documents(expected, rendered, plan.kind)
    {
        difference.message = difference.message.replace("the document", "the rendered document");
        differences.push(difference);
    }
    if !case.read.is_empty() {
        match canary::read(plan, rendered) {
            Ok(leaves) => differences.extend(case.read.iter().filter_map(|expected| of_leaf(expected, &leaves))),
            Err(reason) => differences.push(Difference {
                message: format!("the rendered document cannot be read back: {reason}"),
                lines: Vec::new(),
            }),
        }
    }
    differences
}

/// Compares a value that should be read back with the leaf at its path.
fn of_leaf((path, expected): &(String, String), leaves: &[(String, String)]) -> Option<Difference> {
    let found = leaves.iter().find(|(leaf, _)| leaf == path);
    match found {
        Some((_, text)) if text == expected => None,
        Some((_, text)) => Some(Difference {
            message: format!("another value is read back from `{path}`; - is the case's, + was found:"),
            lines: vec![DiffLine::Expected(expected.clone()), DiffLine::Found(text.clone())],
        }),
        None => Some(Difference {
            message: format!("nothing is read back from `{path}`; these paths have a value:"),
            lines: leaves.iter().map(|(path, _)| DiffLine::Found(path.clone())).collect(),
        }),
    }
}
