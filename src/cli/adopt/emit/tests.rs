//! Checks that each format gives back the content of any config.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use guillemet_plan::document;
use guillemet_template::lexer::lex;

fn node(value: &Value) -> ConfigNode {
    match value {
        Value::String(text) => ConfigNode::Text(ConfigLeaf::new(text, None)),
        Value::Array(items) => ConfigNode::List(items.iter().map(node).collect()),
        Value::Object(map) => ConfigNode::Table(map.iter().map(|(name, value)| (name.clone(), node(value))).collect()),
        other => ConfigNode::Other(other.clone()),
    }
}

fn finding(name: &str, range: std::ops::Range<usize>, filter: Option<ValueFilter>) -> Finding {
    let value = zeroize::Zeroizing::new(String::new());
    let name = name.parse().unwrap();
    Finding { field: String::new(), range, filter, value, name, exists: false, reason: "", spot: None }
}

fn config() -> (ConfigTable, FindingsByField) {
    let value = json!({"name": "a", "n": 1, "headers": {"A": "Bearer tok", "X.Y": "<< z"}, "l": [{"k": 0.5}, [], {}]});
    let ConfigNode::Table(config) = node(&value) else { unreachable!() };
    let findings = [(vec!["headers".to_owned(), "A".to_owned()], vec![finding("n", 7..10, Some(ValueFilter::Url))])];
    (config, findings.into())
}

#[test]
fn each_format_holds_the_same() {
    let (config, findings) = config();
    let (toml, _) = write(&config, &findings, Format::Toml);
    assert_eq!(
        toml,
        "name = \"a\"\nn = 1\nl = [{ k = 0.5 }, [], {}]\n\n[headers]\nA = \"Bearer << secret 'n' | url >>\"\n\"X.Y\" = \
         \"<% raw %><< z<% endraw %>\"\n"
    );
    let (yaml, _) = write(&config, &findings, Format::Yaml);
    assert_eq!(
        yaml,
        "name: \"a\"\n\"n\": 1\nheaders:\n  A: \"Bearer << secret 'n' | url >>\"\n  \"X.Y\": \"<% raw %><< z<% endraw %>\"\nl:\n  -\n    \
         k: 0.5\n  - []\n  - {}\n"
    );
    let (json, _) = write(&config, &findings, Format::Json);
    assert!(json.contains("\n    \"A\": \"Bearer << secret 'n' | url >>\",\n"), "{json}");
}

#[test]
fn what_toml_cannot_hold_is_written_as_json() {
    for value in [json!({"a": [null]}), json!({"a": {"b": u64::MAX}})] {
        let ConfigNode::Table(config) = node(&value) else { unreachable!() };
        assert_eq!(write(&config, &FindingsByField::new(), Format::Toml).1, Format::Json);
    }
}

/// Returns the engine's text without the tags around raw text.
fn expand(engine_text: &str) -> String {
    let mut out = String::new();
    let mut rest = engine_text;
    while let Some((plain, behind)) = rest.split_once('\u{e000}') {
        let (tag, after) = behind.split_once('\u{e001}').unwrap();
        assert!(matches!(tag.trim(), "raw" | "endraw"), "{tag}");
        out.push_str(plain);
        rest = after;
    }
    out + rest
}

#[test]
fn what_looks_like_ours_is_raw_and_comes_back() {
    for (text, expected) in [
        ("<<secret \"x\">>", "<% raw %><<secret \\\"x\\\">><% endraw %>"),
        ("« secret 'x' »", "<% raw %>« secret 'x' »<% endraw %>"),
        ("Di «hola» al cliente", "Di «hola» al cliente"),
        (
            "<% raw %>a<% endraw %>",
            "<% raw %><<% endraw %><% raw %>% raw %>a<<% endraw %><% raw %>% endraw %><% endraw %>",
        ),
        ("a < b > c", "a < b > c"),
    ] {
        let mut out = String::new();
        append(&mut out, text, false);
        assert_eq!(out, expected);
        assert_eq!(expand(&lex(&out).unwrap().engine_text), escaped(text));
    }
}

proptest! {
    /// Any text in a config comes back from the template's text, in every format.
    #[test]
    fn text_stays_text(texts in prop::collection::vec("(<{0,3}[%#$]?[ a\"'\\\\>-]?|<{1,3} ?secret[ '\"]|«secret 'a'»|vars\\.x>>|endraw ?%>|raw %>|\\PC|[\n\r\t\u{1}\u{7f}\u{85}\u{e000}\u{e00f}\u{202e}]){0,6}", 3)) {
        let value = json!({"t": texts[0], "o": {texts[1].clone(): texts[2], "list": [texts[0], {"x": texts[1]}]}, "b": true});
        let ConfigNode::Table(config) = node(&value) else { unreachable!() };
        for format in [Format::Json, Format::Jsonc, Format::Toml, Format::Yaml] {
            let (text, used) = write(&config, &FindingsByField::new(), format);
            let lexed = lex(&text).map_err(|problems| TestCaseError::fail(format!("{text}: {problems:?}")))?;
            let tree = document::parse(used, &expand(&lexed.engine_text));
            let tree = tree.map_err(|errors| TestCaseError::fail(format!("{text}: {errors:?}")))?;
            // TOML moves fields before sections, but equality ignores the order.
            prop_assert_eq!(&tree.root, &value, "{}", text);
        }
    }
}
