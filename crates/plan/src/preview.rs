//! A plan as people read it: the document with `«name»` in place of each secret. Holds no value.

use crate::encode;
use crate::expr::{Expr, Part};
use crate::plan::{Piece, Plan};
use crate::protocol::DocumentKind;
use guillemet_template::Problem;

/// Returns the document with `«name»` in place of each secret.
pub fn document(plan: &Plan) -> String {
    let mut document = String::with_capacity(plan.literal_len + 64);
    for piece in &plan.pieces {
        match piece {
            Piece::Text(text) => document.push_str(text),
            Piece::Slot { expr, .. } => push(expr, plan, &mut document),
        }
    }
    document
}

/// Returns the uses of a plan in the order of its document: for each its index in [`Plan::uses`] and its encodings, the
/// first applied first.
pub fn uses(plan: &Plan) -> Vec<(usize, Vec<&'static str>)> {
    let mut all = Vec::new();
    for piece in &plan.pieces {
        let Piece::Slot { expr, uses } = piece else { continue };
        for index in uses {
            let mut encodings = Vec::new();
            collect_encodings(expr, *index, &mut encodings);
            if plan.kind == DocumentKind::Json {
                encodings.push("json");
            }
            all.push((*index as usize, encodings));
        }
    }
    all
}

/// Returns the warning for a caller that named the target by a former name.
pub fn renamed(plan: &Plan, target: Option<&str>) -> Option<Problem> {
    plan.target.renamed(target).map(|message| Problem { message, ..Problem::default() })
}

/// Appends an expression with names in place of values. Text beside them is shown as it will be written if its encoding
/// does not depend on its neighbors, and left out if it does.
fn push(expr: &Expr, plan: &Plan, out: &mut String) {
    match expr {
        Expr::Secret(index) => *out += &format!("«{}»", plan.uses[*index as usize].name),
        Expr::Apply { op, args } => {
            let quote = op.definition().quote();
            out.push_str(quote);
            for part in args.iter().flatten() {
                match part {
                    Part::Expr(inner) => push(inner, plan, out),
                    Part::Literal(text) => out.push_str(&encode::literal_beside(op, text)),
                }
            }
            out.push_str(quote);
        }
    }
}

/// Appends the operations on one use, in the order in which they are applied.
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
