//! A plan as people read it: the document with `«name»` where a secret will stand. Knows no value.

use serde_json::{Value, json};

use guillemet_plan::encode;
use guillemet_plan::expr::{Expr, Op, Part};
use guillemet_plan::plan::{Piece, Plan};
use guillemet_plan::protocol::DocumentKind;
use guillemet_plugin::plans::Prepared;
use guillemet_template::Problem;

/// The document with `«name»` where a secret will stand, and what happens to each. `asked` is the target as the caller
/// named it: a former name is a warning.
pub fn explain(prepared: &Prepared, plan: &Plan, asked: Option<&str>) -> Value {
    let mut warnings = plan.warnings.clone();
    warnings.extend(renamed(plan, asked));
    let mut document = String::with_capacity(plan.literal_len + 64);
    let mut secrets = Vec::new();
    for piece in &plan.pieces {
        match piece {
            Piece::Text(text) => document.push_str(text),
            Piece::Slot { expr, uses } => {
                document.push_str(&shown(expr, plan));
                for index in uses {
                    let usage = &plan.uses[*index as usize];
                    let mut encodings = Vec::new();
                    collect_encodings(expr, *index, &mut encodings);
                    if plan.kind == DocumentKind::Json {
                        encodings.push("json");
                    }
                    secrets.push(json!({
                        "name": usage.name,
                        "template": prepared.template.id,
                        "line": usage.line,
                        "column": usage.column,
                        "field": usage.field,
                        "encodings": encodings,
                    }));
                }
            }
        }
    }
    json!({
        "template": prepared.template.id,
        "target": plan.target.id,
        "media_type": plan.target.media_type,
        "file_name": plan.target.file_name,
        "document": document,
        "secrets": secrets,
        "warnings": warnings,
    })
}

/// The warning for whoever asked for a target by a former name.
pub fn renamed(plan: &Plan, asked: Option<&str>) -> Option<Problem> {
    plan.target.renamed(asked).map(|message| Problem { message, ..Problem::default() })
}

/// An expression with names in place of values. Text beside them is shown as it will stand where its
/// encoding does not depend on its neighbours, and left out where it does (base64, digests).
pub fn shown(expr: &Expr, plan: &Plan) -> String {
    match expr {
        Expr::Secret(index) => format!("«{}»", plan.uses[*index as usize].name),
        Expr::Apply { op, args } => {
            let mut out = String::new();
            for part in args.iter().flatten() {
                match part {
                    Part::Expr(inner) => out.push_str(&shown(inner, plan)),
                    Part::Literal(text) => match op {
                        Op::HeaderValue
                        | Op::Url
                        | Op::Forbid { .. }
                        | Op::ForbidSequence { .. }
                        | Op::AtMost { .. } => {
                            out.push_str(text);
                        }
                        Op::UrlQuery | Op::UrlPathSegment | Op::Xml | Op::JsonString => {
                            out.push_str(&encode::literal(op, &[text]).unwrap_or_default());
                        }
                        Op::AsteriskValue => out.push_str(&text.replace(';', "\\;")),
                        Op::KamailioString => out.push_str(&text.replace('\\', "\\\\").replace('"', "\\\"")),
                        Op::CurlConfig => {
                            let quoted = encode::literal(op, &[text]).unwrap_or_default();
                            out.push_str(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default());
                        }
                        Op::Dotenv | Op::BaresipParameter => out.push_str(text),
                        Op::Filter(_) | Op::Base64 | Op::BasicCredentials | Op::SipDigestHa1(_) => {}
                    },
                }
            }
            // These always write quotes; others do where they have to.
            if matches!(op, Op::KamailioString | Op::CurlConfig) { format!("\"{out}\"") } else { out }
        }
    }
}

/// The operations around one use, the first applied first.
fn collect_encodings(expr: &Expr, index: u32, into: &mut Vec<&'static str>) {
    if let Expr::Apply { op, args } = expr
        && expr.emissions().contains(&index)
    {
        for part in args.iter().flatten() {
            if let Part::Expr(inner) = part {
                collect_encodings(inner, index, into);
            }
        }
        into.push(op.name());
    }
}
