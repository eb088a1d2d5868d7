//! Writes results into a file of cases. Keeps comments, order and everything else.

use std::io;

use toml_edit::{DocumentMut, Item, Table, Value};

use super::judge::{format_problem, of_documents, of_problems, of_warnings};
use super::{Case, CaseFile, CaseResult, filled};
use guillemet_base::files::Destination;
use guillemet_base::problem::Problem;
use guillemet_plan::plan::Plan;

/// Writes the results of the cases at these places. Returns the names of the cases that were written.
///
/// # Errors
/// Fails if the file cannot be written, or if it was changed since it was read.
pub fn bless(file: &CaseFile, results: &[(usize, &CaseResult)]) -> io::Result<Vec<String>> {
    // Resolves a link, so that the file behind it is written.
    let destination = Destination::open(&file.path.canonicalize()?)?;
    let existing = destination.expect()?;
    if !destination.has_content(file.text.as_bytes())? {
        return Err(io::Error::other("it changed while the cases ran; run them again"));
    }
    let mut document: DocumentMut = file.text.parse().map_err(io::Error::other)?;
    let mut blessed = Vec::new();
    for (index, result) in results {
        let table = document.get_mut("case").and_then(|cases| cases.as_array_of_tables_mut()?.get_mut(*index));
        if let Some(table) = table
            && write(table, &file.cases[*index], result)
        {
            blessed.push(file.cases[*index].name.clone());
        }
    }
    if !blessed.is_empty() {
        destination.put(document.to_string().as_bytes(), &existing.attributes()?)?;
    }
    Ok(blessed)
}

/// Writes the result of a case, and returns `false` if there is none because the plugin failed. An expectation that
/// holds stays as it is written.
fn write(table: &mut Table, case: &Case, found: &CaseResult) -> bool {
    let texts = |problems: &[Problem]| problems.iter().map(format_problem).collect::<Vec<_>>();
    match found {
        CaseResult::Failed(_) => return false,
        CaseResult::Problems(problems) => {
            table.remove("document");
            table.remove("warnings");
            if !of_problems(&case.problems, problems).is_empty() {
                set(table, "problems", text_list(&texts(problems)));
            }
        }
        CaseResult::Planned { document, plan, .. } => {
            table.remove("problems");
            if !case.secrets.is_empty() {
                write_filled(table, case, plan);
            }
            let expected = case.document.as_deref();
            let is_wanted = expected.is_some() || case.secrets.is_empty();
            if is_wanted && expected.is_none_or(|expected| of_documents(expected, document, plan.kind).is_some()) {
                set(table, "document", text(document));
            }
            if of_warnings(&case.warnings, &plan.warnings).is_some() {
                match texts(&plan.warnings) {
                    texts if texts.is_empty() => drop(table.remove("warnings")),
                    some => set(table, "warnings", text_list(&some)),
                }
            }
        }
    }
    true
}

/// Writes what became of the values of a case.
fn write_filled(table: &mut Table, case: &Case, plan: &Plan) {
    match filled::render(case, plan) {
        Ok(rendered) => {
            table.remove("refused");
            let expected = case.rendered.as_deref();
            if expected.is_none_or(|expected| of_documents(expected, &rendered, plan.kind).is_some()) {
                set(table, "rendered", text(&rendered));
            }
        }
        Err(problems) => {
            table.remove("rendered");
            table.remove("read");
            if !of_problems(&case.refused, &problems).is_empty() {
                set(table, "refused", text_list(&problems.iter().map(format_problem).collect::<Vec<_>>()));
            }
        }
    }
}

/// Sets a value. Keeps the comment behind the previous one.
fn set(table: &mut Table, key: &str, mut value: Value) {
    match table.get_mut(key) {
        Some(Item::Value(old)) => {
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        _ => drop(table.insert(key, Item::Value(value))),
    }
}

/// Formats text as a person would write it: several lines between `'''`, if they can be written that way.
fn text(text: &str) -> Value {
    let literal = if text.contains('\n') { format!("'''\n{text}'''") } else { format!("'{text}'") };
    match literal.parse::<Value>() {
        Ok(value) if value.as_str() == Some(text) => value,
        _ => text.into(),
    }
}

/// Formats several texts as a list, one on each line.
fn text_list(texts: &[String]) -> Value {
    let quoted = |text: &String| Value::from(text.as_str()).to_string();
    let lines = match texts {
        [single] => format!("[{}]", quoted(single)),
        texts => format!("[\n{}]", texts.iter().map(|text| format!("  {},\n", quoted(text))).collect::<String>()),
    };
    lines.parse().unwrap_or_else(|_| texts.iter().collect())
}
