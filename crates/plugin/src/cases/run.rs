//! Runs a case: its config goes to the planner as a template would, and the answer passes the daemon's check.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Case;
use crate::client::{CompileError, Planner};
use guillemet_base::names::SecretName;
use guillemet_base::problem::Problem;
use guillemet_plan::expr::{Expr, Part};
use guillemet_plan::plan::{self, Plan, PlanPiece};
use guillemet_plan::protocol::{Cost, Description, DocumentKind, PlanReference, PlanRequest};
use guillemet_template::Format;
use guillemet_template::lexer::{Reference, VARIABLE};

/// The prefix of the calls that stand for secrets. A config is data, so it contains no other call.
const CALL: &str = "secret_";

/// The result of running a case.
#[derive(Debug)]
pub enum CaseResult {
    /// The plugin wrote a document that keeps the contract.
    Planned {
        /// The document in the notation of cases: JSON formatted again, and `«…»` in place of each slot.
        document: String,
        /// The plan that the daemon would fill.
        plan: Box<Plan>,
        /// The cost of the plugin's call.
        cost: Cost,
    },
    /// The plugin refused the config with these problems.
    Problems(Vec<Problem>),
    /// The plugin failed, for this reason.
    Failed(String),
}

/// Runs a case in the planner of its plugin.
pub async fn run(planner: &Planner, description: &Description, case: &Case) -> CaseResult {
    let id = case.target(description);
    let (request, references) = match request(case, id) {
        Ok(request) => request,
        Err(message) => return CaseResult::Failed(message),
    };
    let planned = match planner.plan(request).await {
        Ok(planned) => planned,
        Err(CompileError::Problems(problems)) => return CaseResult::Problems(problems),
        Err(CompileError::Broken { rule: message } | CompileError::Failed { message }) => {
            return CaseResult::Failed(message);
        }
    };
    let Some(target) = description.targets.iter().find(|target| target.id == id) else {
        return CaseResult::Failed(format!("its plan is for the target `{id}`, which it does not have"));
    };
    let cost = planned.cost;
    match plan::verify(planned, &references, target.clone()) {
        Ok(plan) => CaseResult::Planned { document: document(&plan), plan: Box::new(plan), cost },
        Err(violation) => CaseResult::Failed(violation.to_string()),
    }
}

/// Writes the config as a JSON template in which each `«name»` is a secret, in the form that the daemon's lexer
/// produces.
fn request(case: &Case, target: &str) -> Result<(PlanRequest, Vec<Reference>), String> {
    let config = serde_json::to_string_pretty(&case.config).map_err(|error| error.to_string())?;
    // The delimiters of tags are plain text here.
    let config = config.replace(|c| ('\u{e000}'..='\u{e00f}').contains(&c), "\\ue000");
    let mut references: Vec<Reference> = Vec::new();
    let mut pieces = config.split('«');
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (name, rest) = piece.split_once('»').ok_or("`«` without `»` in its config")?;
        let name: SecretName = name.parse().map_err(|error| format!("`«{name}»`: {error}"))?;
        let line = u32::try_from(text.matches('\n').count() + 1).unwrap_or(u32::MAX);
        text += &format!("{} {CALL}{}() {}{rest}", VARIABLE.0, references.len(), VARIABLE.1);
        references.push(Reference { name, line, column: 1, filters: Vec::new() });
    }
    let of_planner = |reference: &Reference| PlanReference {
        name: reference.name.to_string(),
        line: reference.line,
        column: reference.column,
        filters: Vec::new(),
    };
    let request = PlanRequest {
        text,
        format: Format::Json,
        call_prefix: CALL.into(),
        references: references.iter().map(of_planner).collect(),
        vars: json!({}),
        env: BTreeMap::new(),
        target: target.to_owned(),
    };
    Ok((request, references))
}

/// Returns the document in the notation of cases.
fn document(plan: &Plan) -> String {
    let json = plan.kind == DocumentKind::Json;
    let piece = |piece: &PlanPiece| match piece {
        PlanPiece::Text(text) => text.clone(),
        PlanPiece::Slot { expr, .. } if json => {
            let quoted = Value::String(notation(expr, plan)).to_string();
            quoted[1..quoted.len() - 1].to_owned()
        }
        PlanPiece::Slot { expr, .. } => notation(expr, plan),
    };
    let text: String = plan.pieces.iter().map(piece).collect();
    match serde_json::from_str::<Value>(&text) {
        Ok(tree) if json => format!("{tree:#}\n"),
        _ => text,
    }
}

/// Returns an expression in the notation of cases: `«name»` for a secret, `«operation(argument; …)»` for an operation
/// on it.
fn notation(expr: &Expr, plan: &Plan) -> String {
    let (op, args) = match expr {
        Expr::Secret(emission) => {
            let name = plan.uses.get(*emission as usize).map_or_else(String::new, |usage| usage.name.to_string());
            return format!("«{name}»");
        }
        Expr::Apply { op, args } => (op, args),
    };
    let text = |parts: &Vec<Part>| {
        let part = |part: &Part| match part {
            Part::Literal(text) => text.clone(),
            Part::Expr(expr) => notation(expr, plan),
        };
        parts.iter().map(part).collect::<String>()
    };
    let option = op.option().map(Into::into);
    let arguments: Vec<String> = option.into_iter().chain(args.iter().map(text)).collect();
    format!("«{}({})»", op.name(), arguments.join("; "))
}
