//! A plan as people read it: the document with `«name»` where a secret will stand. Knows no value.

use guillemet_plan::encode;
use guillemet_plan::expr::{Expr, Op, Part};
use guillemet_plan::plan::{Piece, Plan};
use guillemet_plan::protocol::DocumentKind;
use guillemet_template::Problem;

/// The document of a plan, as people read it.
#[derive(Debug)]
pub struct Preview {
    /// The document, with `«name»` in place of each value.
    pub document: String,
    /// The uses in the order of the document: each its index in [`Plan::uses`], and its encodings, the first applied
    /// first.
    pub uses: Vec<(u32, Vec<&'static str>)>,
}

/// Makes the preview of a plan.
pub fn preview(plan: &Plan) -> Preview {
    let mut document = String::with_capacity(plan.literal_len + 64);
    let mut all = Vec::new();
    for piece in &plan.pieces {
        match piece {
            Piece::Text(text) => document.push_str(text),
            Piece::Slot { expr, uses } => {
                document.push_str(&shown(expr, plan));
                for index in uses {
                    let mut encodings = Vec::new();
                    collect_encodings(expr, *index, &mut encodings);
                    if plan.kind == DocumentKind::Json {
                        encodings.push("json");
                    }
                    all.push((*index, encodings));
                }
            }
        }
    }
    Preview { document, uses: all }
}

/// The warnings of a plan. `asked` is the target as the caller named it: a former name is one more.
pub fn warnings(plan: &Plan, asked: Option<&str>) -> Vec<Problem> {
    plan.warnings.iter().cloned().chain(renamed(plan, asked)).collect()
}

/// The warning for whoever asked for a target by a former name.
fn renamed(plan: &Plan, asked: Option<&str>) -> Option<Problem> {
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
