//! Runs the cases of a plugin: each is a config, and the document, problems or warnings that it should lead to.
//!
//! A file `cases/*.toml` holds `[[case]]` tables:
//! ```toml
//! [[case]]
//! name = "a bearer token"
//! target = "vscode" # the default target if left out
//! config = { url = "https://example.com", headers = { Authorization = "Bearer «token»" } }
//! document = '{"headers": {"Authorization": "«header-value(Bearer «token»)»"}}'
//! warnings = ["url: not encrypted"] # `field: part of the text`, all of them, in order
//! problems = [] # instead of a document, in any order
//! ```
//! In the config, `«name»` is a secret. In the document it is that secret as it is, and `«operation(argument; …)»` is
//! the result of that function of `encode`; the reasons of `forbid` and `forbid-sequence` are left out. JSON documents
//! are compared as trees, including the order of their members. `": part of the text"` stands for one or more problems
//! of any field. If `encode` refuses literal text, only a host knows the field: `guillemet plugin test` compares it, while
//! here the text alone is compared. What becomes of the values in `secrets`
//! is compared by `guillemet plugin test` only.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;

use crate::bindings::exports::guillemet::feature::plugin::Guest;
use crate::{Document, Feature, Problem, encode};

#[derive(Deserialize)]
struct File {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    target: Option<String>,
    config: toml::Table,
    document: Option<String>,
    #[serde(default)]
    warnings: Vec<String>,
    #[serde(default)]
    problems: Vec<String>,
    /// Values to fill the document with. Only a host has the encoders for that, so `guillemet plugin test` compares
    /// `rendered`, `read` and `refused`.
    secrets: Option<toml::Table>,
    rendered: Option<String>,
    read: Option<toml::Table>,
    #[serde(rename = "refused")]
    _refused: Option<Vec<String>>,
}

/// Runs every case of a folder.
///
/// # Panics
/// If a case fails, a file cannot be read, or a target has no case. The message lists every difference.
pub fn run<F: Feature>(folder: &str) {
    let schema: Value = serde_json::from_str(F::SCHEMA).expect("the schema is JSON");
    let mut untried: Vec<&str> = F::TARGETS.iter().map(|target| target.id).collect();
    let mut report = String::new();
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{folder}: {error}"))
        .map(|entry| entry.expect("a folder's entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    paths.sort();
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let file: File = toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for case in file.case {
            let target = case.target.clone().unwrap_or_else(|| F::TARGETS[0].id.into());
            let is_read = case.read.as_ref().is_some_and(|read| !read.is_empty());
            if case.document.is_some() || case.rendered.is_some() || is_read {
                untried.retain(|id| *id != target);
                for field in case.config.keys().filter(|field| schema["properties"].get(field).is_none()) {
                    let _ = writeln!(report, "the schema does not know the field `{field}`");
                }
            }
            if let Err(difference) = run_case::<F>(&case, target) {
                let _ = writeln!(report, "{}: {}\n{difference}", path.display(), case.name);
            }
        }
    }
    assert!(untried.is_empty(), "targets without a document in any case: {untried:?}");
    assert!(report.is_empty(), "\n{report}");
}

fn run_case<F: Feature>(case: &Case, target: String) -> Result<(), String> {
    encode::reset();
    let mut config = serde_json::to_value(&case.config).map_err(|error| error.to_string())?;
    let mut secrets = 0;
    place_secrets(&mut config, "", &mut secrets, &|path| admits(F::SECRET_FIELDS, path))?;
    let planned = <F as Guest>::plan(config.to_string(), target);
    let state = encode::reset();
    let (document, warnings, problems) = match planned {
        Ok(planned) => (Some(planned.document), planned.warnings, Vec::new()),
        Err(found) => (None, Vec::new(), found.iter().map(format_problem).collect()),
    };
    compare_problems(&case.problems, &problems, &state.problems)?;
    let Some(expected) = &case.document else {
        let is_lost = case.secrets.is_some() && document.is_none();
        return if is_lost { Err("there is no document".into()) } else { Ok(()) };
    };
    compare_warnings(&case.warnings, &warnings.iter().map(format_problem).collect::<Vec<_>>())?;
    let document = document.ok_or("there is no document")?;
    let (text, is_text) = match &document {
        Document::Json(text) => (text, false),
        Document::Text(text) => (text, true),
    };
    contract(&state, text, is_text, secrets)?;
    let (expected, found) = match &document {
        Document::Json(text) => (format!("{:#}", parsed(expected)?), format!("{:#}", written(&state, parsed(text)?))),
        Document::Text(text) => (expected.clone(), encode::written(&state, text)),
    };
    if expected == found { Ok(()) } else { Err(format!("--- expected\n{expected}\n--- found\n{found}\n")) }
}

/// Checks a document for what a host requires of every document.
fn contract(state: &encode::State, text: &str, is_text: bool, secrets: usize) -> Result<(), String> {
    let mut placed: Vec<usize> = encode::slots(text).into_iter().map(|(_, slot)| slot).collect();
    placed.sort_unstable();
    if placed.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("a slot stands twice: encode it again to use it twice".into());
    }
    let slots: Vec<_> = placed.iter().filter_map(|&slot| state.slots.get(slot)).collect();
    if is_text && let Some(slot) = slots.iter().find(|slot| !slot.terminal) {
        return Err(format!("{} needs a terminal encoder", slot.notation));
    }
    let reached = |secret: &usize| slots.iter().any(|slot| slot.secrets.contains(secret));
    match (0..secrets).find(|secret| !reached(secret)) {
        Some(lost) => Err(format!("{} does not reach the document", state.slots[lost].notation)),
        None => Ok(()),
    }
}

/// Replaces each `«name»` by a slot.
fn place_secrets(
    value: &mut Value,
    path: &str,
    count: &mut usize,
    admitted: &dyn Fn(&str) -> bool,
) -> Result<(), String> {
    let below = |name: &str| if path.is_empty() { name.into() } else { format!("{path}.{name}") };
    match value {
        Value::String(text) => {
            while let Some((before, rest)) = text.split_once('«') {
                let (name, after) = rest.split_once('»').ok_or("`«` without `»`")?;
                if !admitted(path) {
                    return Err(format!("a secret in `{path}`, which no secret-field admits"));
                }
                *text = format!("{before}{}{after}", encode::secret(name));
                *count += 1;
            }
            Ok(())
        }
        Value::Array(list) => list
            .iter_mut()
            .enumerate()
            .try_for_each(|(index, value)| place_secrets(value, &below(&index.to_string()), count, admitted)),
        Value::Object(object) => {
            object.iter_mut().try_for_each(|(key, value)| place_secrets(value, &below(key), count, admitted))
        }
        _ => Ok(()),
    }
}

fn admits(fields: &[&str], path: &str) -> bool {
    let matches = |field: &&str| {
        let (mut pattern, mut path) = (field.split('.'), path.split('.'));
        loop {
            match (pattern.next(), path.next()) {
                (None, None) => return true,
                (Some("**"), Some(_)) => return true,
                (Some("*"), Some(_)) => {}
                (Some(name), Some(found)) if name == found => {}
                _ => return false,
            }
        }
    };
    fields.iter().any(matches)
}

fn format_problem(problem: &Problem) -> String {
    format!("{}: {} {}", problem.path, problem.message, problem.help.as_deref().unwrap_or_default())
}

/// Returns whether a problem matches `field: part of the text`.
fn matches_expectation(expected: &str, found: &str) -> bool {
    let (path, part) = expected.split_once(": ").unwrap_or((expected, ""));
    let of_field = || found.strip_prefix(path)?.strip_prefix(": ");
    if path.is_empty() { found.contains(part) } else { of_field().is_some_and(|text| text.contains(part)) }
}

fn compare_warnings(expected: &[String], found: &[String]) -> Result<(), String> {
    if expected.len() == found.len()
        && expected.iter().zip(found).all(|(expected, found)| matches_expectation(expected, found))
    {
        return Ok(());
    }
    Err(differs("warnings", expected, found))
}

/// Checks that every problem is expected and every expectation is met. Only a host knows the place of a text that an
/// encoder refuses, so of those problems the text alone is compared.
fn compare_problems(expected: &[String], own: &[String], encoders: &[String]) -> Result<(), String> {
    let (mut own_left, mut encoders_left) = (own.to_vec(), encoders.to_vec());
    let (of_any_field, of_one): (Vec<&String>, _) = expected.iter().partition(|expected| expected.starts_with(": "));
    let part = |expected: &str| expected.split_once(": ").map_or("", |(_, part)| part).to_owned();
    let mut is_met = true;
    for expected in of_one {
        let own_at = own_left.iter().position(|found| matches_expectation(expected, found));
        let encoder_at = encoders_left.iter().position(|found| found.contains(&part(expected)));
        match (own_at, encoder_at) {
            (Some(at), _) => drop(own_left.remove(at)),
            (None, Some(at)) => drop(encoders_left.remove(at)),
            (None, None) => is_met = false,
        }
    }
    let left: Vec<String> = own_left.into_iter().chain(encoders_left).collect();
    is_met &= of_any_field.iter().all(|expected| left.iter().any(|found| found.contains(&part(expected))));
    let is_expected = |found: &String| of_any_field.iter().any(|expected| found.contains(&part(expected)));
    if is_met && left.iter().all(is_expected) {
        return Ok(());
    }
    Err(differs("problems", expected, &[own, encoders].concat()))
}

fn differs(what: &str, expected: &[String], found: &[String]) -> String {
    format!("{what}\n--- expected\n{}\n--- found\n{}\n", expected.join("\n"), found.join("\n"))
}

fn parsed(json: &str) -> Result<Value, String> {
    serde_json::from_str(json).map_err(|error| format!("not JSON: {error}\n{json}"))
}

fn written(state: &encode::State, tree: Value) -> Value {
    match tree {
        Value::String(text) => Value::String(encode::written(state, &text)),
        Value::Array(list) => list.into_iter().map(|value| written(state, value)).collect(),
        Value::Object(object) => object.into_iter().map(|(key, value)| (key, written(state, value))).collect(),
        other => other,
    }
}
