//! Documents that keep their values as values, and documents that do not.

use super::*;
use guillemet_plan::expr::Op;
use guillemet_plan::protocol::{Emission, Planned, PlannedSlot, Target};
use guillemet_template::lexer::Reference;

const SLOT: &str = "Z000000000000000000000000000000000000007";

fn found(document: &str, kind: DocumentKind, media_type: &str, file_name: &str, expr: Expr) -> Vec<String> {
    let planned = Planned {
        document: document.replace('@', SLOT),
        kind,
        slots: vec![PlannedSlot { slot: SLOT.into(), expr }],
        emissions: vec![Emission { reference: 0, field: "token".into() }],
        warnings: Vec::new(),
        cost: Default::default(),
    };
    let reference = Reference { name: "key".parse().unwrap(), line: 3, column: 9, filters: vec![] };
    let target = Target {
        id: "t".into(),
        title: "T".into(),
        media_type: media_type.into(),
        file_name: file_name.into(),
        aliases: Vec::new(),
    };
    let plan = guillemet_plan::plan::verify(planned, &[reference], target).unwrap();
    check(&plan).into_iter().map(|problem| problem.message).collect()
}

fn through(op: Op) -> Expr {
    Expr::Apply { op, args: vec![vec![Part::Literal("a ".into()), Part::Expr(Expr::Secret(0))]] }
}

fn json(document: &str, expr: Expr) -> Vec<String> {
    found(document, DocumentKind::Json, "application/json", "a.json", expr)
}

fn text(document: &str, media_type: &str, file_name: &str, op: Op) -> Vec<String> {
    found(document, DocumentKind::Text, media_type, file_name, through(op))
}

#[test]
fn values_that_stay_one_leaf_are_fine() {
    let secret = || Expr::Secret(0);
    assert_eq!(json(r#"{"a": ["x @ y", 1, null], "b": "@b"}"#.replace("@b", "c").as_str(), secret()), [""; 0]);
    assert_eq!(json(r#"{"headers": {"A": "@"}}"#, through(Op::HeaderValue)), [""; 0]);
    assert_eq!(json(r#"{"url": "https://h/?k=@"}"#, through(Op::UrlQuery)), [""; 0]);
    assert_eq!(json(r#"{"url": "@"}"#, Expr::Apply { op: Op::Url, args: vec![vec![Part::Expr(secret())]] }), [""; 0]);
    assert_eq!(json(r#"{"a": "@"}"#, through(Op::Base64)), [""; 0]);
    assert_eq!(text("<a b='@'>x</a>", "text/xml; charset=utf-8", "a.xml", Op::Xml), [""; 0]);
    assert_eq!(text("<a>@ x</a>", "application/soap+xml", "a", Op::Xml), [""; 0]);
    assert_eq!(text("A=@\nB=1\n", "text/plain", ".env", Op::Dotenv), [""; 0]);
    // There is no parser for this format.
    assert_eq!(text("a = @\n", "text/plain", "a.conf", Op::AsteriskValue), [""; 0]);
}

#[test]
fn a_value_that_would_be_syntax_is_told() {
    for (found, words) in [
        (json(r#"{"headers": {"A": "@"}}"#, Expr::Secret(0)), "a line break"),
        (json(r#"{"url": "https://h/@/x"}"#, Expr::Secret(0)), "`\\`"),
        (text("<a b=\"@\"/>", "text/xml", "a.xml", Op::AsteriskValue), "`\"`"),
        (text("A=@\n", "text/plain", "x.env", Op::AsteriskValue), "`#`"),
        (text("A='@'\n", "text/plain", "x.env", Op::Dotenv), "contains"),
        (text("{\"a\": \"@\"}", "application/json", "x.json", Op::Xml), "`\\`"),
        (text("<a><!--@--></a>", "text/xml", "a.xml", Op::Xml), "not inside a value"),
        (text("<a b='@'", "text/xml", "a.xml", Op::Xml), "not valid XML"),
        (text("A=1 # @\n", "text/plain", "a.env", Op::Dotenv), "not inside a value"),
        (
            json(
                r#"{"a": "@"}"#,
                through(Op::Forbid { characters: "0123456789kx".into(), reason: "for a reason".into() }),
            ),
            "does not accept any value: for a reason",
        ),
    ] {
        assert_eq!(found.len(), 1, "{words}: {found:?}");
        assert!(found[0].contains(words), "{words}: {found:?}");
    }
}
