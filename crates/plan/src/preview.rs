//! A plan as people read it: the document with `«name»` in place of each secret. Holds no value.

use crate::encode;
use crate::expr::{Expr, Part};
use crate::plan::{Plan, PlanPiece};
use crate::protocol::DocumentKind;
use guillemet_base::problem::Problem;

/// Returns the document with `«name»` in place of each secret.
pub fn document(plan: &Plan) -> String {
    let mut document = String::with_capacity(plan.literal_len + 64);
    for piece in &plan.pieces {
        match piece {
            PlanPiece::Text(text) => document.push_str(text),
            PlanPiece::Slot { expr, .. } => push(expr, plan, &mut document),
        }
    }
    document
}

/// Returns the uses of a plan in the order of its document: for each its index in [`Plan::uses`] and its encodings, the
/// first applied first.
pub fn uses(plan: &Plan) -> Vec<(usize, Vec<&'static str>)> {
    let mut all = Vec::new();
    for piece in &plan.pieces {
        let PlanPiece::Slot { expr, uses } = piece else { continue };
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

/// Returns the warnings of a plan. `target` is the target as the caller named it; a former name is one more warning.
pub fn warnings(plan: &Plan, target: Option<&str>) -> Vec<Problem> {
    let renamed = plan.target.rename_notice(target).map(|message| Problem { message, ..Problem::default() });
    plan.warnings.iter().cloned().chain(renamed).collect()
}

/// Appends an expression with names in place of values. Text beside them is shown as it will be written if its encoding
/// does not depend on its neighbors, and left out if it does.
fn push(expr: &Expr, plan: &Plan, out: &mut String) {
    match expr {
        Expr::Secret(index) => *out += &format!("«{}»", plan.uses[*index as usize].name),
        Expr::Apply { op, args } => {
            let (opening, closing) = op.quotes();
            out.push_str(opening);
            for part in args.iter().flatten() {
                match part {
                    Part::Expr(inner) => push(inner, plan, out),
                    Part::Literal(text) => out.push_str(&encode::literal_beside(op, text)),
                }
            }
            out.push_str(closing);
        }
    }
}

/// Appends the operations on one use, in the order in which they are applied.
fn collect_encodings(expr: &Expr, index: u32, out: &mut Vec<&'static str>) {
    if let Expr::Apply { op, args } = expr
        && expr.emissions().contains(&index)
    {
        for part in args.iter().flatten() {
            if let Part::Expr(inner) = part {
                collect_encodings(inner, index, out);
            }
        }
        out.push(op.name());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::{ENCODERS, EncoderOptions, EscapeTable};
    use crate::plan::Use;
    use crate::protocol::Target;

    /// Returns a plan whose only piece is an encoder of literal text and a secret.
    fn plan(expr: Expr) -> Plan {
        let usage = Use {
            reference: 0,
            name: "key".parse().unwrap(),
            key: "key".into(),
            line: 1,
            column: 1,
            field: "f".into(),
            count: 1,
        };
        let target = Target {
            id: "t".into(),
            title: "T".into(),
            media_type: "text/plain".into(),
            file_name: "t".into(),
            aliases: Vec::new(),
        };
        Plan {
            digest: [0; 16],
            target,
            kind: DocumentKind::Text,
            pieces: vec![PlanPiece::Slot { expr, uses: vec![0] }],
            uses: vec![usage],
            literal_len: 0,
            warnings: Vec::new(),
        }
    }

    #[test]
    fn literal_text_beside_a_secret_is_shown_as_its_encoder_writes_it() {
        let options = EncoderOptions {
            option: "x".into(),
            number: 100,
            reason: "for a reason".into(),
            table: EscapeTable {
                opening: "<".into(),
                closing: ">".into(),
                replacements: vec![(';', "%3B".into())],
                ..EscapeTable::default()
            },
            ..EncoderOptions::default()
        };
        for (name, expected) in [
            ("url", "a;\"&\n «key»"),
            ("forbid", "a;\"&\n «key»"),
            ("url-query", "a%3B%22%26%0A%20«key»"),
            ("url-path-segment", "a%3B%22%26%0A%20«key»"),
            ("json-string", "a;\\\"&\\n «key»"),
            ("xml", "a;&quot;&amp;&#10; «key»"),
            ("asterisk-value", "a\\;\"&\n «key»"),
            ("kamailio-string", "\"a;\\\"&\n «key»\""),
            ("curl-config", "\"a;\\\"&\\n «key»\""),
            ("yaml-string", "\"a;\\\"&\\n «key»\""),
            ("shell-word", "'a;\"&\n «key»'"),
            ("docker-env", "a;\"&\n «key»"),
            ("escape", "<a%3B\"&\n «key»>"),
            ("dotenv", "a;\"&\n «key»"),
            ("baresip-parameter", "a;\"&\n «key»"),
            // The encoding of each character depends on its neighbors.
            ("base64", "«key»"),
            ("basic-credentials", "«key»"),
            ("sip-digest-ha1", "«key»"),
        ] {
            let definition = ENCODERS.iter().find(|definition| definition.name == name).unwrap();
            let text = vec![Part::Literal("a;\"&\n ".into()), Part::Expr(Expr::Secret(0))];
            let mut args = vec![text];
            args.resize(definition.texts(), Vec::new());
            let op = definition.op(options.clone());
            let shown = document(&plan(Expr::Apply { op, args }));
            assert_eq!(shown, expected, "{name}");
        }
    }
}
