//! Each format reads the same config; each mistake is reported at its place, without the text around it.

use serde_json::json;

use super::*;

fn tree(format: Format, text: &str) -> Tree {
    parse(format, text).unwrap_or_else(|errors| panic!("{format:?}: {errors:?}"))
}

fn error(format: Format, text: &str) -> TreeError {
    parse(format, text).expect_err(text).remove(0)
}

#[test]
fn the_formats_agree_and_keep_the_order_of_keys() {
    let expected = json!({"b": "x", "a": {"n": 1, "f": 1.5, "t": true}, "l": ["p", {"q": "r"}]});
    let texts = [
        (Format::Json, r#"{"b":"x","a":{"n":1,"f":1.5,"t":true},"l":["p",{"q":"r"}]}"#),
        (
            Format::Jsonc,
            "{\"b\":\"x\", // c\n\"a\":{\"n\":1,\"f\":1.5,\"t\":true,},/* d */\"l\":[\"p\",{\"q\":\"r\"}]}",
        ),
        (Format::Toml, "b = 'x'\na = {n = 1, f = 1.5, t = true}\nl = ['p', {q = 'r'}]\n"),
        (Format::Yaml, "b: x\na: {n: 1, f: 1.5, t: true}\nl:\n- p\n- q: r\n"),
    ];
    for (format, text) in texts {
        let tree = tree(format, text);
        assert_eq!(tree.root.to_string(), expected.to_string(), "{format:?}");
        for (path, value) in [("b", "x"), ("a.n", "1"), ("l.1.q", "r")] {
            let at = tree.places[path];
            assert!(text[at..].trim_start_matches(['"', '\'']).starts_with(value), "{format:?} {path} {at}");
        }
    }
}

#[test]
fn keys_that_stand_twice_are_errors_in_every_format() {
    for (format, text) in [
        (Format::Json, "{\"a\": 1, \"a\": \"hidden\"}"),
        (Format::Jsonc, "{\"o\": {\"a\": 1, \"a\": \"hidden\"}}"),
        (Format::Toml, "a = 1\na = 'hidden'\n"),
        (Format::Yaml, "a: 1\na: hidden\n"),
    ] {
        let error = error(format, text);
        assert!(error.at.is_some(), "{error:?}");
        assert!(error.message.contains("twice") || error.message.contains("duplicate"), "{error:?}");
        assert!(!format!("{error:?}").contains("hidden"), "{error:?}");
    }
}

#[test]
fn unquoted_placeholders_are_told_to_take_quotes() {
    let slot = slots::random_slot();
    for (format, text) in [
        (Format::Toml, format!("a = 1\ntoken = {slot}\n")),
        (Format::Json, format!("{{\"token\": {slot}}}")),
        (Format::Jsonc, format!("{{\"token\": Bearer{slot}}}")),
        (Format::Jsonc, format!("{{\"token\": {slot},}}")),
    ] {
        let error = error(format, &text);
        assert_eq!(error.message, "a placeholder is not in quotes", "{format:?}: {error:?}");
        assert!(error.help.unwrap().contains("quotes"));
    }
    let tree = tree(Format::Yaml, &format!("token: {slot}\nheader: Bearer {slot}x\n"));
    assert_eq!(tree.root["token"], json!(slot));
}

#[test]
fn toml_tells_every_mistake_and_dates_become_text() {
    let errors = parse(Format::Toml, "a = \nb = 'x'\nc = [1\nd = 2").unwrap_err();
    assert!(errors.len() > 1, "{errors:?}");
    assert_eq!(tree(Format::Toml, "d = 1979-05-27T07:32:00Z").root, json!({"d": "1979-05-27T07:32:00Z"}));
}

#[test]
fn numbers_that_would_change_are_refused() {
    for (format, text) in [
        (Format::Json, "{\"a\": 123456789012345678901234567890}"),
        (Format::Json, "{\"a\": 1e999}"),
        (Format::Toml, "a = nan"),
        (Format::Toml, "a = inf"),
        (Format::Yaml, "a: .nan"),
        (Format::Yaml, "a: -.inf"),
        (Format::Yaml, "a: 123456789012345678901234567890"),
    ] {
        assert!(parse(format, text).is_err(), "{format:?} {text}: {:?}", parse(format, text));
    }
    assert_eq!(tree(Format::Json, "{\"a\": -0, \"b\": 18446744073709551615}").root["b"], json!(u64::MAX));
}

#[test]
fn json_is_strict_and_jsonc_knows_comments_only() {
    for bad in [
        "{\"a\": 1,}",
        "{'a': 1}",
        "{a: 1}",
        "{\"a\": 1 \"b\": 2}",
        "{\"a\": [1 2]}",
        "// c\n{}",
        "{\"a\": 01}",
        "{\"a\": \"\n\"}",
        "{} {}",
        "",
    ] {
        assert!(parse(Format::Json, bad).is_err(), "{bad}");
    }
    for bad in ["{'a': 1}", "{a: 1}", "{\"a\": [{} {}]}", "{\"a\": 0x1}", "{\"a\": NaN}", "{\"a\": +1}", "/* "] {
        assert!(parse(Format::Jsonc, bad).is_err(), "{bad}");
    }
}

#[test]
fn yaml_is_one_document_with_text_keys_and_bounded_aliases() {
    assert!(error(Format::Yaml, "a: 1\n---\nb: 2\n").message.contains("more than one"));
    for key in ["1: a", "true: a", "null: a", "[a]: b", "{a: b}: c"] {
        assert!(parse(Format::Yaml, key).is_err(), "{key}");
    }
    assert_eq!(tree(Format::Yaml, "\"1\": a\nyes: no\n").root, json!({"1": "a", "yes": "no"}));
    let merged = tree(Format::Yaml, "base: &b {x: 1, y: 2}\nmine: {<<: *b, y: 3}\n");
    assert_eq!(merged.root["mine"], json!({"x": 1, "y": 3}));
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let previous = format!("*a{}", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", vec![previous; 9].join(", "));
    }
    assert!(error(Format::Yaml, &bomb).message.contains("too large"));
    assert!(parse(Format::Yaml, "a: !!python/object x\n").is_err());
    assert!(parse(Format::Yaml, "a: *nowhere\n").is_err());
}

#[test]
fn depth_and_shape_are_bounded() {
    let deep = |n: usize| format!("{{\"a\": {}{}}}", "[".repeat(n), "]".repeat(n));
    tree(Format::Json, &deep(60));
    assert!(error(Format::Json, &deep(70)).message.contains("deeper"));
    assert!(parse(Format::Toml, &format!("a = {}{}", "[".repeat(70), "]".repeat(70))).is_err());
    assert!(parse(Format::Yaml, &format!("a: {}{}", "[".repeat(70), "]".repeat(70))).is_err());
    assert!(parse(Format::Yaml, &"[".repeat(5_000)).is_err());
    for (format, text) in [(Format::Json, "[1]"), (Format::Yaml, "text"), (Format::Yaml, ""), (Format::Jsonc, "null")] {
        assert!(parse(format, text).is_err(), "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_brings_a_parser_down(text in "[\\PC\n]{0,80}") {
        for format in [Format::Toml, Format::Json, Format::Jsonc, Format::Yaml] {
            let _ = parse(format, &text);
        }
    }
}
