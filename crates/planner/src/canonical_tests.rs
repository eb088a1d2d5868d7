//! A document from a plugin keeps every slot, once, where it can be filled.

use super::*;
use guillemet_plan::expr::Op;
use guillemet_plan::slots::random_slot;

fn emission() -> Emission {
    Emission { reference: 0, field: "token".into() }
}

fn reference() -> PlanReference {
    PlanReference { name: "api".into(), line: 4, column: 9, filters: Vec::new() }
}

fn encoder() -> (Encoder, String) {
    let slot = random_slot();
    let encoder = Encoder::new([(slot.clone(), 0)].into(), &[emission()], &[reference()], Default::default());
    (encoder, slot)
}

fn checked(encoder: &Encoder, kind: DocumentKind, text: String) -> Result<CanonicalDocument, String> {
    check(text, kind, "json", encoder, &[emission()], &[reference()]).map_err(|PluginError(rule)| rule)
}

#[test]
fn json_is_written_anew_in_the_order_of_the_plugin() {
    let (encoder, slot) = encoder();
    let lower = slot.to_lowercase();
    let text = format!("{{\"b\":\"\\u003c{lower}\",\"a\":[1,1.5,null,true,{{}}]}}");
    let document = checked(&encoder, DocumentKind::Json, text).unwrap();
    let expected =
        format!("{{\n  \"b\": \"<{slot}\",\n  \"a\": [\n    1,\n    1.5,\n    null,\n    true,\n    {{}}\n  ]\n}}\n");
    assert_eq!(document.text, expected);
    assert_eq!(document.slots[0].slot, slot);
}

#[test]
fn each_rule_is_held() {
    let (mut encoder, slot) = encoder();
    let url = encoder.apply(Op::Url, &[&slot]).unwrap();
    let wrapped = encoder.apply(Op::Forbid { characters: "x".into(), reason: "r".into() }, &[&url]).unwrap();
    let header = encoder.apply(Op::HeaderValue, &[&slot]).unwrap();
    let xml = encoder.apply(Op::Xml, &[&slot]).unwrap();
    let forged = random_slot();
    use DocumentKind::{Json, Text};
    for (kind, text, rule) in [
        (Json, "{}".to_owned(), "(line 4, column 9) of the field `token` (dropped)"),
        (Json, format!("[\"{slot}\",\"{slot}\"]"), "doubled"),
        (Json, format!("[\"{slot}\",\"{}\"]", slot.to_lowercase()), "doubled"),
        (Json, format!("[\"{slot}\",\"{forged}\"]"), "forged"),
        (Json, format!("{{\"{slot}\":1}}"), "key"),
        (Json, format!("[\"{url} \"]"), "around the result of `url`"),
        (Json, format!("[\"a{wrapped}\"]"), "around the result of `url`"),
        (Json, format!("{{\"a\":\"{slot}\",\"a\":1}}"), "twice"),
        (Json, format!("[\"{slot}\"] x"), "not valid JSON"),
        (Json, format!("{}\"{slot}\"{}", "[".repeat(80), "]".repeat(80)), "deeper"),
        (Json, format!("[\"{slot}\",1e999]"), "not valid JSON"),
        (Text, format!("a={slot}"), "bare"),
        (Text, format!("a={header}"), "bare"),
        (Text, format!("a={url}"), "bare"),
        (Text, format!("a={xml}\0"), "NUL"),
        (Text, "a".to_owned(), "dropped"),
    ] {
        let error = checked(&encoder, kind, text.clone()).expect_err(&text);
        assert!(error.contains(rule), "{text}: {error}");
    }
    for (kind, text) in
        [(Json, format!("\"{wrapped}\"")), (Json, format!("[\"a{header}b\"]")), (Text, format!("<a>{xml}</a>"))]
    {
        checked(&encoder, kind, text).unwrap();
    }
}

#[test]
fn a_broken_rule_names_the_secret_and_its_place() {
    let (mut encoder, slot) = encoder();
    let header = encoder.apply(Op::HeaderValue, &[&slot]).unwrap();
    let secret = "the secret \"api\" (line 4, column 9) of the field `token`";
    for (kind, text, rule) in [
        (
            DocumentKind::Json,
            format!("{{\"a\":[{{\"b\":\"{slot}\"}}],\"c\":\"{slot}\"}}"),
            format!(
                "for the target `json`, it wrote {secret} twice, the second time into `c` of the document (doubled)"
            ),
        ),
        (
            DocumentKind::Json,
            format!("{{\"a\":[{{\"{slot}\":1}}]}}"),
            format!("wrote {secret} into a key of `a.0` of the document; a secret can only be in a value"),
        ),
        (
            DocumentKind::Text,
            format!("x\ny = {header}\n"),
            format!("wrote {secret} into line 2 of the document without a terminal encoder (bare); use one of `xml`, "),
        ),
    ] {
        let error = checked(&encoder, kind, text).unwrap_err();
        assert!(error.contains(&rule), "{error}");
        assert!(slots::find(&error).is_empty(), "{error}");
    }
}

#[test]
fn everything_broken_is_told_at_once() {
    let (encoder, slot) = encoder();
    let error = checked(&encoder, DocumentKind::Json, format!("{{\"{slot}\":\"{}\"}}", random_slot())).unwrap_err();
    for rule in ["key", "forged", "dropped"] {
        assert!(error.contains(rule), "{error}");
    }
}
