//! Documents that keep their values as values, and documents that do not.

use super::*;
use guillemet_plan::encode::{CharacterSet, EscapeTable};
use guillemet_plan::expr::Op;
use guillemet_plan::plan::Plan;
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
    assert_eq!(text("[s]\na = @\n", "text/plain", "a.conf", Op::AsteriskValue), [""; 0]);
    assert_eq!(text("modparam(\"a\", \"b\", @)\n", "text/plain", "a.cfg", Op::KamailioString), [""; 0]);
    assert_eq!(text("<sip:h>;regint=0;auth_pass=@\n", "text/plain", "accounts", Op::BaresipParameter), [""; 0]);
    assert_eq!(text("# c\nuser = @\ngloboff\n", "text/plain", "a.conf", Op::CurlConfig), [""; 0]);
    // What `dotenv` writes is read by systemd and by shells too.
    assert_eq!(text("export A=@; B=1\n", "text/plain", "a.sh", Op::Dotenv), [""; 0]);
}

#[test]
fn a_value_that_would_be_syntax_is_told() {
    for (found, words) in [
        (json(r#"{"headers": {"A": "@"}}"#, Expr::Secret(0)), "a line break"),
        (json(r#"{"url": "https://h/@/x"}"#, Expr::Secret(0)), "`\\`"),
        (text("<a b=\"@\"/>", "text/xml", "a.xml", Op::AsteriskValue), "an encoder for an XML document; use `xml`"),
        (text("A=@\n", "text/plain", "x.env", Op::AsteriskValue), "not an encoder for a dotenv document; use `dotenv`"),
        (text("A='@'\n", "text/plain", "x.env", Op::Dotenv), "contains"),
        (text("{\"a\": \"@\"}", "application/json", "x.json", Op::Xml), "return the document as JSON instead of text"),
        (
            text("<a><!--@--></a>", "text/xml", "a.xml", Op::Xml),
            "is not inside a value of the XML document, but in a comment",
        ),
        (text("<@/>", "text/xml", "a.xml", Op::Xml), "is not inside a value"),
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

/// Wrong quoting: the encoder writes quotes of its own, or the format keeps them.
#[test]
fn quotes_around_an_encoder_are_told() {
    for (found, words) in [
        (text("user = \"@\"\n", "text/plain", "a.conf", Op::CurlConfig), "text follows the closing quote"),
        (text("user = '@'\n", "text/plain", "a.conf", Op::CurlConfig), "does not stay one value"),
        (text("a(\"@\")\n", "text/plain", "a.cfg", Op::KamailioString), "but in a word outside of strings"),
        (text("a('@')\n", "text/plain", "a.cfg", Op::KamailioString), "does not stay one value"),
        (text("[a]\nb = \"@\"\n", "text/plain", "a.conf", Op::AsteriskValue), "is inside quotes, which are a part of"),
        (text("<sip:h>;auth_pass=\"@\"\n", "text/plain", "accounts", Op::BaresipParameter), "does not stay one value"),
        (text("A='@'\n", "text/plain", "a.sh", Op::Dotenv), "does not stay one value"),
    ] {
        assert_eq!(found.len(), 1, "{words}: {found:?}");
        assert!(found[0].contains(words), "{words}: {found:?}");
    }
}

/// A bare token hides that the encoder is another format's.
#[test]
fn an_encoder_of_another_format_is_told() {
    let through = |op: Op| {
        let inner = Expr::Apply { op: Op::UrlQuery, args: vec![vec![Part::Expr(Expr::Secret(0))]] };
        Expr::Apply { op, args: vec![vec![Part::Expr(inner)]] }
    };
    let found = |document: &str, file_name: &str, expr: Expr| {
        found(document, DocumentKind::Text, "text/plain", file_name, expr)
    };
    for (found, words) in [
        (
            found("token: @\n", "a.txt", through(Op::Xml)),
            "writes values with `xml` into a document that is not valid XML",
        ),
        (
            found("token: @\n", "a.yaml", through(Op::Xml)),
            "`xml` is not an encoder for a YAML document; use `yaml-string`",
        ),
        (found("a: @\n", "a.yml", self::through(Op::KamailioString)), "`kamailio-string` is not an encoder for a YAML"),
        (found("a: @\n", "a.yaml", self::through(Op::CurlConfig)), "`curl-config` is not an encoder for a YAML"),
        (found("a = @\n", "a.toml", self::through(Op::CurlConfig)), "a TOML document; use `toml-string`"),
    ] {
        assert_eq!(found.len(), 1, "{words}: {found:?}");
        assert!(found[0].contains(words), "{words}: {found:?}");
    }
}

fn two_slots(document: &str, file_name: &str, ops: [Op; 2]) -> Plan {
    const OTHER: &str = "Z000000000000000000000000000000000000008";
    let slots = [SLOT, OTHER].into_iter().zip(ops);
    let slots = slots.map(|(slot, op)| {
        let emission = u32::from(slot == OTHER);
        let args = vec![vec![Part::Expr(Expr::Secret(emission))]];
        PlannedSlot { slot: slot.into(), expr: Expr::Apply { op, args } }
    });
    let planned = Planned {
        document: document.replacen('@', SLOT, 1).replacen('@', OTHER, 1),
        kind: DocumentKind::Text,
        slots: slots.collect(),
        emissions: (0..2).map(|reference| Emission { reference, field: format!("f{reference}") }).collect(),
        warnings: Vec::new(),
        cost: Default::default(),
    };
    let reference = |line| Reference { name: format!("key{line}").parse().unwrap(), line, column: 1, filters: vec![] };
    let target = Target {
        id: "t".into(),
        title: "T".into(),
        media_type: "text/plain".into(),
        file_name: file_name.into(),
        aliases: Vec::new(),
    };
    guillemet_plan::plan::verify(planned, &[reference(1), reference(2)], target).unwrap()
}

#[test]
fn the_encoders_of_a_document_belong_to_one_format() {
    let mixed = two_slots("a = @\nb = @\n", "a.conf", [Op::CurlConfig, Op::Xml]);
    let problems = check(&mixed);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(can_read(&mixed));
    let message = &problems[0].message;
    assert!(message.contains("\"key2\": `xml` is an encoder for an XML document, and `curl-config` in"), "{message}");
    assert_eq!((problems[0].line, problems[0].path.as_str()), (Some(2), "f1"));
    assert_eq!(check(&two_slots("a = @\nb = @\n", "a.conf", [Op::CurlConfig, Op::CurlConfig])), []);
}

fn table(closing: &str, replacements: &[(char, &str)]) -> Op {
    Op::Escape(EscapeTable {
        opening: closing.into(),
        closing: closing.into(),
        replacements: replacements.iter().map(|(c, text)| (*c, (*text).into())).collect(),
        refused: vec![(CharacterSet("\n\r".into()), "a line break".into())],
    })
}

#[test]
fn what_a_table_writes_is_read_back_by_the_format_or_else_by_the_table() {
    let sound = || table("\"", &[('"', "\\\""), ('\\', "\\\\")]);
    let forgets = || table("\"", &[('"', "\\\"")]);
    let unquoted = || table("", &[]);
    for (document, file_name) in [("a(@)\n", "a.conf"), ("a: @\nb: c\n", "a.txt")] {
        assert_eq!(text(document, "text/plain", file_name, sound()), [""; 0]);
        let found = text(document, "text/plain", file_name, forgets());
        assert!(found.len() == 1 && found[0].contains("does not stay one value when it contains `\\`"), "{found:?}");
    }
    let found = text("a = @; b\n", "text/plain", "a.conf", unquoted());
    assert!(found.len() == 1 && found[0].contains("`;`, `;--` (target"), "{found:?}");
    // A declared format knows more: what a bare scalar of YAML is, or that TOML has no `\a`.
    let found = text("a: @\n", "text/plain", "a.yaml", unquoted());
    assert!(found.len() == 1 && found[0].contains("`#`, `:`"), "{found:?}");
    let found = text("a = @\n", "text/plain", "a.toml", table("\"", &[('"', "\\a"), ('\\', "\\\\")]));
    assert!(found.len() == 1 && found[0].contains("when it contains `\"`"), "{found:?}");
    let plan = two_slots("a(@, @)\n", "a.conf", [sound(), sound()]);
    assert_eq!((check(&plan), can_read(&plan)), (Vec::new(), false));
    // An encoder beside it tells the format.
    let plan = two_slots("a = @\nb = @\n", "a.conf", [sound(), Op::CurlConfig]);
    assert!(can_read(&plan));
}

#[test]
fn every_new_encoder_fits_its_document_and_no_other() {
    for (document, file_name, op) in [
        ("a: @\nb: [x]\n", "a.yaml", Op::YamlString),
        ("a = @\n[b]\nc = 1\n", "a.toml", Op::TomlString),
        ("[a]\nb = @\n", "a.ini", Op::IniValue),
        ("A=@ cmd x\n", "a.sh", Op::ShellWord),
        ("A=@\n", "a.env", Op::SystemdEnv),
        ("A=@\n", "a.env", Op::DockerEnv),
        ("machine h login @ password x\n", ".netrc", Op::NetrcToken),
    ] {
        assert_eq!(text(document, "text/plain", file_name, op.clone()), [""; 0], "{document}");
        assert_eq!(text(document, "text/plain", "a.conf", op.clone()), [""; 0], "{document}");
        let quoted = document.replace('@', "\"@\"");
        assert_eq!(text(&quoted, "text/plain", file_name, op.clone()).len(), 1, "{quoted}");
        let found = text(document, "text/plain", "a.xml", op);
        assert!(found.len() == 1 && found[0].contains("is not an encoder for an XML document"), "{found:?}");
    }
}
