//! The built-in plugins as they are embedded: every case of `plugins/*/cases` goes through the real
//! component in a real planner (promises 1, 2 and 4). `plugins/guillemet-plugin/src/cases.rs` tells how
//! a case is written.

use std::path::Path;
use std::sync::Arc;

use guillemet::planner::protocol::{DocumentKind, PlanReference, PlanRequest, Planned};
use guillemet::plugin::builtin::{self, Builtin};
use guillemet::plugin::client::{NoCache, PlanFailure, Planner};
use guillemet::plugin::expr::{Expr, Op, Part};
use guillemet::template::{Format, Problem};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_guillemet");

#[derive(serde::Deserialize)]
struct File {
    case: Vec<Case>,
}

#[derive(serde::Deserialize)]
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
}

#[tokio::test]
async fn every_case_holds_in_the_embedded_component() {
    let mut report = String::new();
    for builtin in &builtin::ALL {
        let planner = Planner::new(builtin.feature, builtin.component, Arc::new(NoCache)).with_program(PROGRAM);
        let description = planner.load().await.expect("a description");
        assert_eq!(description.feature, builtin.feature);
        for (file, case) in cases(builtin) {
            let target = case.target.clone().unwrap_or_else(|| description.targets[0].id.clone());
            let request = request(&case.config, target);
            let references = request.references.clone();
            if let Err(difference) = judge(&case, &references, planner.plan(request).await) {
                report += &format!("{} {file}: {}\n{difference}\n\n", builtin.feature, case.name);
            }
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

/// The cases of a plugin, with the names of their files.
fn cases(builtin: &Builtin) -> Vec<(String, Case)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins").join(builtin.feature).join("cases");
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder of cases") {
        let path = entry.expect("an entry").path();
        let file: File = toml::from_str(&std::fs::read_to_string(&path).expect("text")).expect("cases");
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        cases.extend(file.case.into_iter().map(|case| (name.clone(), case)));
    }
    cases
}

/// The config as a JSON template whose `«name»` are secrets, the way the daemon's lexer hands it on.
fn request(config: &toml::Table, target: String) -> PlanRequest {
    let text = serde_json::to_string_pretty(config).expect("JSON");
    let mut references = Vec::new();
    let mut pieces = text.split('«');
    let mut engine = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (name, rest) = piece.split_once('»').expect("`»` behind `«`");
        let line = engine.matches('\n').count() as u32 + 1;
        engine += &format!("\u{e002} secret_{}() \u{e003}{rest}", references.len());
        references.push(PlanReference { name: name.into(), line, column: 1, filters: Vec::new() });
    }
    let (vars, env) = (serde_json::json!({}), Default::default());
    PlanRequest { text: engine, format: Format::Json, call_prefix: "secret_".into(), references, vars, env, target }
}

fn judge(case: &Case, references: &[PlanReference], planned: Result<Planned, PlanFailure>) -> Result<(), String> {
    let planned = match planned {
        Ok(planned) => planned,
        Err(PlanFailure::Problems(problems)) => return compare("problems", &case.problems, &problems),
        Err(other) => return Err(format!("{other:?}")),
    };
    compare("problems", &case.problems, &[])?;
    compare("warnings", &case.warnings, &planned.warnings)?;
    let written = |text: &str| {
        planned
            .slots
            .iter()
            .fold(text.to_owned(), |text, slot| text.replace(&slot.slot, &notation(&slot.expr, &planned, references)))
    };
    let expected = case.document.as_deref().ok_or("a document, and the case wants problems")?;
    let (same, found) = match planned.kind {
        DocumentKind::Text => (expected == written(&planned.document), written(&planned.document)),
        DocumentKind::Json => {
            let parsed = |text: &str| serde_json::from_str::<Value>(text).map_err(|error| error.to_string());
            let found = each_text(parsed(&planned.document)?, &written);
            (parsed(expected)? == found, format!("{found:#}"))
        }
    };
    if same { Ok(()) } else { Err(format!("--- expected\n{expected}\n--- found\n{found}")) }
}

/// `«name»` for a secret, `«operation(argument; …)»` for what is done to it.
fn notation(expr: &Expr, planned: &Planned, references: &[PlanReference]) -> String {
    let (op, args) = match expr {
        Expr::Secret(emission) => {
            let reference = planned.emissions[*emission as usize].reference as usize;
            return format!("«{}»", references[reference].name);
        }
        Expr::Apply { op, args } => (op, args),
    };
    let shown = match op {
        Op::Forbid { characters, .. } => Some(characters.clone()),
        Op::ForbidSequence { sequence, .. } => Some(sequence.clone()),
        Op::SipDigestHa1(algorithm) => serde_json::to_value(algorithm).ok().and_then(|v| Some(v.as_str()?.to_owned())),
        _ => None,
    };
    let text = |parts: &Vec<Part>| {
        let part = |part: &Part| match part {
            Part::Literal(text) => text.clone(),
            Part::Expr(expr) => notation(expr, planned, references),
        };
        parts.iter().map(part).collect::<String>()
    };
    let arguments: Vec<String> = shown.into_iter().chain(args.iter().map(text)).collect();
    format!("«{}({})»", op.name(), arguments.join("; "))
}

fn each_text(tree: Value, written: &dyn Fn(&str) -> String) -> Value {
    match tree {
        Value::String(text) => Value::String(written(&text)),
        Value::Array(list) => list.into_iter().map(|value| each_text(value, written)).collect(),
        Value::Object(object) => object.into_iter().map(|(key, value)| (key, each_text(value, written))).collect(),
        other => other,
    }
}

/// Every expectation `field: part of the text` has its problem, and there is none besides. What the
/// encoders find is placed and worded by the host: `: …` stands for one or more of those.
fn compare(what: &str, expected: &[String], found: &[Problem]) -> Result<(), String> {
    let told = |p: &Problem| format!("{}: {} {}", p.path, p.message, p.help.as_deref().unwrap_or_default());
    let found: Vec<String> = found.iter().map(told).collect();
    let same = |expected: &str, found: &str| {
        let (path, part) = expected.split_once(": ").unwrap_or((expected, ""));
        found.strip_prefix(path).and_then(|rest| rest.strip_prefix(": ")).is_some_and(|text| text.contains(part))
    };
    let of_host = expected.iter().any(|expected| expected.starts_with(": "));
    let missing = |expected: &&String| !expected.starts_with(": ") && !found.iter().any(|found| same(expected, found));
    let enough = if of_host { found.len() >= expected.len() } else { found.len() == expected.len() };
    if enough && expected.iter().find(missing).is_none() {
        return Ok(());
    }
    Err(format!("{what}\n--- expected\n{}\n--- found\n{}", expected.join("\n"), found.join("\n")))
}
