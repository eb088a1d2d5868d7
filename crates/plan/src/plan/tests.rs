//! A planner that lies is not believed.

use proptest::prelude::*;

use super::*;
use crate::protocol::{Emission, PlannedSlot};
use guillemet_template::ValueFilter;

fn slot(n: u32) -> String {
    format!("Z{n:039}")
}

fn reference(filters: Vec<ValueFilter>) -> Reference {
    Reference { name: "key".parse().unwrap(), line: 1, column: 1, filters }
}

fn target() -> Target {
    Target {
        id: "t".into(),
        title: "T".into(),
        media_type: "text/plain".into(),
        file_name: "t".into(),
        aliases: Vec::new(),
    }
}

fn planned(document: String, kind: DocumentKind, exprs: Vec<Expr>) -> Planned {
    let emissions = (0..exprs.len()).map(|i| Emission { reference: i as u32, field: format!("f.{i}") }).collect();
    let slots = exprs.into_iter().enumerate().map(|(i, expr)| PlannedSlot { slot: slot(i as u32), expr }).collect();
    Planned { document, kind, slots, emissions, warnings: Vec::new(), cost: Default::default() }
}

fn one(document: &str, kind: DocumentKind, expr: Expr) -> Result<Plan, ContractViolation> {
    verify(planned(document.replace('@', &slot(0)), kind, vec![expr]), &[reference(vec![])], target())
}

fn apply(op: Op, args: Vec<TextParts>) -> Expr {
    Expr::Apply { op, args }
}

fn secret() -> Expr {
    Expr::Secret(0)
}

fn wrapped(op: Op) -> Expr {
    apply(op, vec![vec![Part::Expr(secret())]])
}

#[test]
fn an_honest_plan_is_taken_apart() {
    let plan = one(r#"{"a": "x @ y"}"#, DocumentKind::Json, secret()).unwrap();
    assert_eq!(plan.pieces.len(), 3);
    assert!(matches!(&plan.pieces[0], PlanPiece::Text(text) if text == r#"{"a": "x "#));
    assert_eq!((plan.uses[0].field.as_str(), plan.uses[0].count), ("f.0", 1));
    let same = one(r#"{"a": "x @ y"}"#, DocumentKind::Json, secret()).unwrap();
    assert_eq!(plan.digest, same.digest);
    let other = one(r#"{"a": "x @ z"}"#, DocumentKind::Json, secret()).unwrap();
    assert_ne!(plan.digest, other.digest);
}

#[test]
fn a_slot_stands_once_in_a_string_that_is_a_value() {
    for bad in [
        r#"{"@": 1}"#,
        r#"{"@" : 1}"#,
        r#"{"a": @}"#,
        r#"{"a": "@", "b": "@"}"#,
        r#"{"a": ""}"#,
        r#"{"a": "@""#,
        "@",
        r#"{"a": "\"@", "b": @}"#,
    ] {
        assert!(one(bad, DocumentKind::Json, secret()).is_err(), "{bad}");
    }
    let forged = r#"{"a": "@", "b": "Z999999999999999999999999999999999999999"}"#;
    assert!(one(forged, DocumentKind::Json, secret()).is_err());
    assert!(one(r#"{"a": ["\\", "\"@\""]}"#, DocumentKind::Json, secret()).is_ok());
}

#[test]
fn a_document_nests_as_deep_as_readers_follow() {
    let nested = |depth: usize| format!("{}\"@[[\"{}", "[".repeat(depth), "]".repeat(depth));
    assert!(one(&nested(JSON_DEPTH_MAX), DocumentKind::Json, secret()).is_ok());
    assert!(one(&nested(JSON_DEPTH_MAX + 1), DocumentKind::Json, secret()).is_err());
}

#[test]
fn warnings_cannot_drive_a_terminal() {
    let mut noisy = planned(format!(r#"{{"a": "{}"}}"#, slot(0)), DocumentKind::Json, vec![secret()]);
    noisy.warnings = vec![Problem { message: "\u{1b}[2Jgone".into(), ..Problem::default() }; 1000];
    let plan = verify(noisy, &[reference(vec![])], target()).unwrap();
    assert!(plan.warnings.len() <= 100 && plan.warnings.iter().all(|warning| warning.message == "[2Jgone"));
}

#[test]
fn a_text_document_wants_a_terminal_encoder_outermost() {
    assert!(one("k = @\n", DocumentKind::Text, secret()).is_err());
    for op in [Op::HeaderValue, Op::Url, Op::Base64, Op::Forbid { characters: "x".into(), reason: "r".into() }] {
        assert!(one("k = @\n", DocumentKind::Text, wrapped(op)).is_err());
    }
    for op in [Op::Xml, Op::Dotenv, Op::AsteriskValue] {
        assert!(one("k = @\n", DocumentKind::Text, wrapped(op)).is_ok());
    }
}

#[test]
fn expressions_are_what_the_contract_says() {
    let json = r#"{"a": "@"}"#;
    let no_secret = apply(Op::Base64, vec![vec![Part::Literal("x".into())]]);
    let both = apply(Op::Base64, vec![vec![Part::Expr(no_secret), Part::Expr(secret())]]);
    let arity = apply(Op::BasicCredentials, vec![vec![Part::Expr(secret())]]);
    let hidden = apply(Op::Base64, vec![vec![Part::Expr(secret()), Part::Literal(slot(7))]]);
    let raw_in_url = apply(Op::Url, vec![vec![Part::Literal("https://h/".into()), Part::Expr(secret())]]);
    let mut deep = secret();
    for _ in 0..=EXPR_DEPTH_MAX {
        deep = apply(Op::Base64, vec![vec![Part::Expr(deep)]]);
    }
    let empty = Op::Forbid { characters: String::new(), reason: "r".into() };
    let empty_sequence = Op::ForbidSequence { sequence: String::new(), reason: "r".into() };
    for bad in [both, arity, hidden, raw_in_url, deep, wrapped(empty), wrapped(empty_sequence)] {
        assert!(one(json, DocumentKind::Json, bad).is_err());
    }
    // A reason is shown to people: nothing in it drives a terminal or reorders the text.
    for (reason, fits) in [("no colon", true), ("\u{1b}[2J", false), ("a\u{202e}b", false), ("a\u{200f}b", false)] {
        let forbid = Op::Forbid { characters: "x".into(), reason: reason.into() };
        let sequence = Op::ForbidSequence { sequence: "x".into(), reason: reason.into() };
        for op in [forbid, sequence, Op::AtMost { bytes: 1, reason: reason.into() }] {
            assert_eq!(one(json, DocumentKind::Json, wrapped(op)).is_ok(), fits, "{reason:?}");
        }
    }
    assert!(one(json, DocumentKind::Json, Expr::Secret(1)).is_err());
    assert!(one(r#"{"a": "x@"}"#, DocumentKind::Json, wrapped(Op::Url)).is_err());
    assert!(one(json, DocumentKind::Json, wrapped(Op::Url)).is_ok());
}

#[test]
fn the_filters_of_the_template_cannot_be_left_out_or_added() {
    let references = [reference(vec![ValueFilter::Trim, ValueFilter::Base64])];
    let run = |expr| {
        let document = format!(r#"{{"a": "{}"}}"#, slot(0));
        verify(planned(document, DocumentKind::Json, vec![expr]), &references, target()).is_ok()
    };
    let filter = |filter, inner| apply(Op::Filter(filter), vec![vec![Part::Expr(inner)]]);
    assert!(run(filter(ValueFilter::Base64, filter(ValueFilter::Trim, secret()))));
    assert!(!run(filter(ValueFilter::Trim, filter(ValueFilter::Base64, secret()))));
    assert!(!run(filter(ValueFilter::Base64, secret())));
    assert!(!run(secret()));
}

#[test]
fn an_emission_must_reach_the_document_and_the_template() {
    let mut dropped = planned(format!(r#"{{"a": "{}"}}"#, slot(0)), DocumentKind::Json, vec![secret()]);
    dropped.emissions.push(Emission { reference: 0, field: "b".into() });
    assert!(verify(dropped, &[reference(vec![])], target()).is_err());
    let mut foreign = planned(format!(r#"{{"a": "{}"}}"#, slot(0)), DocumentKind::Json, vec![secret()]);
    foreign.emissions[0].reference = 9;
    assert!(verify(foreign, &[reference(vec![])], target()).is_err());
}

proptest! {
    #[test]
    fn slots_are_found_where_they_stand(pieces in proptest::collection::vec("[Zz0-9a]{0,60}", 0..6)) {
        let text = pieces.join(&slot(5));
        let found: Vec<usize> = find_slots(&text).collect();
        for at in &found {
            prop_assert!(is_slot(&text[*at..*at + SLOT_LEN]));
        }
        for pair in found.windows(2) {
            prop_assert!(pair[0] + SLOT_LEN <= pair[1]);
        }
        prop_assert!(found.len() + 1 >= pieces.len() || pieces.iter().any(|piece| piece.contains(['Z', 'z'])));
    }

    #[test]
    fn arbitrary_documents_never_panic(document in "[\"\\\\{}:,\\[\\]@a-z é]{0,60}", text in any::<bool>()) {
        let kind = if text { DocumentKind::Text } else { DocumentKind::Json };
        let _ = one(&document, kind, secret());
    }
}
