//! Compares the result of a case with its expectation, and reports the differences.

use std::fmt;

use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use super::{Case, CaseResult, filled};
use guillemet_base::problem::Problem;
use guillemet_plan::protocol::DocumentKind;

/// The number of equal lines shown around a difference.
const AROUND: usize = 3;

/// One way in which a result differs from the case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What differs, as a sentence for people.
    pub message: String,
    /// The expected and found lines; empty if the sentence says everything.
    pub lines: Vec<DiffLine>,
}

/// A line of a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiffLine {
    /// The line is in both texts.
    Same(String),
    /// The line is only in the case.
    Expected(String),
    /// The line is only in the plugin's result.
    Found(String),
    /// Stands for equal lines that are left out.
    Left,
}

impl fmt::Display for DiffLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same(text) => write!(f, "  {text}"),
            Self::Expected(text) => write!(f, "- {text}"),
            Self::Found(text) => write!(f, "+ {text}"),
            Self::Left => f.write_str("  …"),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.lines.iter().try_for_each(|line| write!(f, "\n{line}"))
    }
}

fn difference(message: impl Into<String>) -> Vec<Difference> {
    vec![Difference { message: message.into(), lines: Vec::new() }]
}

/// Returns every difference between a result and its case; empty if the case holds.
pub fn compare(case: &Case, found: &CaseResult) -> Vec<Difference> {
    let (document, plan) = match found {
        CaseResult::Failed(message) => return difference(message),
        CaseResult::Problems(problems) if case.document.is_none() && case.problems.is_empty() => {
            let message = "the case has neither a `document` nor `problems`; these problems were found:";
            return vec![Difference {
                message: message.into(),
                lines: problems.iter().map(shown).map(DiffLine::Found).collect(),
            }];
        }
        CaseResult::Problems(problems) => return of_problems(&case.problems, problems),
        CaseResult::Planned { document, plan, .. } => (document, plan),
    };
    let mut differences = of_problems(&case.problems, &[]);
    differences.extend(filled::compare(case, plan));
    match &case.document {
        Some(expected) => differences.extend(of_documents(expected, document, plan.kind)),
        None if case.problems.is_empty() && case.secrets.is_empty() => {
            let message = "the case has neither a `document` nor `problems`; this document was found:";
            let lines = document.lines().map(|line| DiffLine::Found(line.into())).collect();
            differences.push(Difference { message: message.into(), lines });
        }
        None => {}
    }
    if case.document.is_some() || case.problems.is_empty() {
        differences.extend(of_warnings(&case.warnings, &plan.warnings));
    }
    differences
}

/// Returns the difference between two documents; `None` if they are equal. JSON is compared as a tree.
pub fn of_documents(expected: &str, found: &str, kind: DocumentKind) -> Option<Difference> {
    let expected = match kind {
        DocumentKind::Text => expected.to_owned(),
        DocumentKind::Json => match serde_json::from_str::<Value>(expected) {
            Ok(tree) => format!("{tree:#}\n"),
            Err(error) => return difference(format!("the case's document is not valid JSON: {error}")).pop(),
        },
    };
    if expected == found {
        return None;
    }
    if expected.trim_end_matches('\n') == found.trim_end_matches('\n') {
        let breaks = |text: &str| text.len() - text.trim_end_matches('\n').len();
        let (expected_breaks, actual_breaks) = (breaks(&expected), breaks(found));
        return difference(format!(
            "the document ends with {actual_breaks} line breaks, the case's document with {expected_breaks}"
        ))
        .pop();
    }
    Some(Difference {
        message: "the document differs; - is the case, + was found:".into(),
        lines: lines(&expected, found),
    })
}

/// Compares two texts by lines. Leaves out equal lines that are far from any difference.
pub fn lines(expected: &str, found: &str) -> Vec<DiffLine> {
    let diff = TextDiff::from_lines(expected, found);
    let mut lines = Vec::new();
    let mut next = 0;
    for group in diff.grouped_ops(AROUND) {
        if group.first().is_some_and(|first| first.old_range().start > next) {
            lines.push(DiffLine::Left);
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let text = change.value().trim_end_matches('\n').to_owned();
            lines.push(match change.tag() {
                ChangeTag::Equal => DiffLine::Same(text),
                ChangeTag::Delete => DiffLine::Expected(text),
                ChangeTag::Insert => DiffLine::Found(text),
            });
        }
        next = group.last().map_or(next, |last| last.old_range().end);
    }
    if next < expected.lines().count() {
        lines.push(DiffLine::Left);
    }
    lines
}

/// Returns a problem as one line: its field and its message.
pub fn format_problem(problem: &Problem) -> String {
    format!("{}: {}", problem.path, problem.message)
}

/// Returns a problem as one line of a difference: with its help, which expectations are compared with too.
fn shown(problem: &Problem) -> String {
    let help = problem.help.as_deref().map(|help| format!(" ({help})")).unwrap_or_default();
    format_problem(problem) + &help
}

/// Reports whether a problem matches an expectation of the form `field: part of the text`.
fn matches_expectation(expected: &str, found: &Problem) -> bool {
    let (path, part) = expected.split_once(": ").unwrap_or((expected, ""));
    let text = format!("{} {}", found.message, found.help.as_deref().unwrap_or_default());
    (path.is_empty() || path == found.path) && text.contains(part)
}

/// Returns the difference between warnings, which have to be in order; `None` if they match.
pub fn of_warnings(expected: &[String], found: &[Problem]) -> Option<Difference> {
    if expected.len() == found.len()
        && expected.iter().zip(found).all(|(expected, found)| matches_expectation(expected, found))
    {
        return None;
    }
    let missing = expected.iter().cloned().map(DiffLine::Expected);
    let lines = missing.chain(found.iter().map(shown).map(DiffLine::Found)).collect();
    Some(Difference { message: "the warnings differ; - are the case's, + were found:".into(), lines })
}

/// Returns the difference between problems. Each expectation with a field matches one problem; one without a field
/// matches one or more.
pub fn of_problems(expected: &[String], found: &[Problem]) -> Vec<Difference> {
    let mut remaining: Vec<&Problem> = found.iter().collect();
    let mut missing: Vec<&String> = Vec::new();
    let of_any_field = |expected: &&String| expected.starts_with(": ");
    for expected in expected.iter().filter(|expected| !of_any_field(expected)) {
        match remaining.iter().position(|found| matches_expectation(expected, found)) {
            Some(at) => drop(remaining.remove(at)),
            None => missing.push(expected),
        }
    }
    let mut covered = vec![false; remaining.len()];
    for expected in expected.iter().filter(of_any_field) {
        let matching: Vec<usize> =
            (0..remaining.len()).filter(|at| matches_expectation(expected, remaining[*at])).collect();
        if matching.is_empty() {
            missing.push(expected);
        }
        matching.into_iter().for_each(|at| covered[at] = true);
    }
    let unexpected = remaining.iter().zip(&covered).filter(|(_, covered)| !**covered).map(|(found, _)| shown(found));
    let absent = missing.into_iter().cloned().map(DiffLine::Expected);
    let lines: Vec<DiffLine> = absent.chain(unexpected.map(DiffLine::Found)).collect();
    if lines.is_empty() {
        return Vec::new();
    }
    vec![Difference { message: "the problems differ; - are the case's, + were found:".into(), lines }]
}
