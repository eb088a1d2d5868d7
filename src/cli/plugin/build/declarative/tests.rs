//! What is wrong with a plugin.toml is told all at once, each with its line.

use super::*;

const GOOD: &str = r#"feature = "hook"
title = "Hook"
version = "1.0.0"

[fields.url]
type = "url"
required = true

[fields.token]
required = true
secret = true

[fields.retries]
type = "number"
maximum = 10

[[target]]
id = "json"
file_name = "hook.json"
document = '''
{ "url": << url >>, "key": "<< token >>", "retries": << retries >> }
'''
"#;

/// Returns the lines and messages of what is wrong with a changed [`GOOD`].
fn problems(from: &str, to: &str) -> Vec<(u32, String)> {
    assert!(GOOD.contains(from), "{from}");
    let found = read(&GOOD.replace(from, to)).err().expect("something is wrong");
    let told = |problem: Problem| {
        let help = problem.help.map_or_else(String::new, |help| format!(" | {help}"));
        (problem.line.unwrap_or_default(), format!("{} {}{help}", problem.path, problem.message))
    };
    found.into_iter().map(told).collect()
}

#[track_caller]
fn one(from: &str, to: &str, line: u32, message: &str) {
    let found = problems(from, to);
    assert!(found.iter().any(|(at, text)| *at == line && text.contains(message)), "{found:#?}");
    assert_eq!(found.len(), 1, "{found:#?}");
}

#[test]
fn fields_become_a_schema_and_the_places_of_secrets() {
    let definition = read(GOOD).unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert_eq!(definition.secret_fields, ["token"]);
    let schema: serde_json::Value = serde_json::from_str(&definition.schema).unwrap();
    assert_eq!(schema["required"], serde_json::json!(["url", "token"]));
    assert_eq!(schema["properties"]["retries"]["maximum"], 10);
    assert_eq!((definition.targets[0].line, definition.targets[0].json), (21, true));

    let nested = GOOD.replace(
        "[[target]]",
        "[fields.servers]\ntype = \"tables\"\n[fields.servers.fields.key]\nsecret = true\n\
         [fields.headers]\ntype = \"map\"\nsecret = true\n[fields.body]\ntype = \"any\"\nsecret = true\n[[target]]",
    );
    let nested =
        nested.replace("<< retries >> }", "<< retries >>, \"rest\": [<< servers >>, << headers >>, << body >>] }");
    let definition = read(&nested).unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert_eq!(definition.secret_fields, ["token", "servers.*.key", "headers.*", "body.**"]);
}

#[test]
fn each_mistake_is_told_in_its_line() {
    one("title = \"Hook\"\n", "", 0, "title is missing");
    one("title =", "tilte = 1\ntitle =", 2, "tilte is not a key that can be here | did you mean `title`?");
    one("type = \"url\"", "type = \"uri\"", 6, "must be one of `text`, `url`");
    one("maximum = 10", "maximum = 10\nsecret = true", 16, "cannot hold a secret");
    one("maximum = 10", "maximum = \"10\"", 15, "must be a whole number");
    one("maximum = 10", "maximum = 10\ndefault = 11", 16, "not a value that the field can have");
    let found = problems("[fields.token]", "[fields.\"a b\"]\nsecret = true\n[fields.token]");
    let told = |(at, text): &(u32, String)| *at == 9 && text.contains("cannot be part of the path of a secret");
    assert!(found.iter().any(told), "{found:?}");
    one("<< url >>", "<< uri >>", 21, "there is no field `uri` | did you mean `url`?");
    one(
        "<< token >>",
        "<< token | hedaer_value >>",
        21,
        "there is no filter `hedaer_value` | did you mean `header_value`?",
    );
    one("<< token >>", "<< token | escape(\"hcl\") >>", 21, "there is no table `hcl`");
    one("<< url >>", "<< url | >>", 21, "syntax error");
    let found = problems("<< url >>", "\"<% if retries %>a\"<% endif %>");
    let told = |(at, text): &(u32, String)| *at == 21 && text.contains("a JSON string begins in one branch");
    assert!(found.iter().any(told), "{found:?}");
    one("<< url >>", r#""a\<< url >>""#, 21, r"a `\` before a tag would change what is written there");
    one("<< token >>", "<< secret \"x\" >>", 21, "no secrets of its own");
    one("<< token >>", "<<secret \"x\">>", 21, "<<");
    one("\"<< token >>\"", "1", 20, "does not use the field `token`");
    one("<< retries >> }", "\"<< retries >>\" }", 21, "`retries` is optional");
    one("<< retries >> }\n", "<% if retries %>1<% else %>2\n}", 21, "syntax error");
    one("[[target]]", "[escapes.hcl]\nopening = '\"'\nclosing = '\"'\n\n[[target]]", 17, "which ends the text");
    let found = problems("hook.json", "hook.env");
    for (line, words) in
        [(21, "`url` needs an encoder"), (21, "`token` needs an encoder"), (21, "`retries` is optional")]
    {
        assert!(found.iter().any(|(at, text)| *at == line && text.contains(words)), "{words} {found:#?}");
    }
}

#[test]
fn mistakes_are_told_all_at_once() {
    let found = problems("version = \"1.0.0\"", "versoin = 1");
    assert_eq!(found.len(), 2, "{found:#?}");
    let broken =
        GOOD.replace("feature", "faeture").replace("type = \"url\"", "type = 1").replace("<< token >>", "<< tokn >>");
    let found = read(&broken).err().unwrap();
    assert!(found.len() >= 4, "{found:#?}");
    assert_eq!(read("a = ").err().unwrap()[0].line, Some(1));
}

#[test]
fn a_tag_between_quotes_of_json_is_text() {
    let document = |text: &str| {
        let definition = read(&GOOD.replace("<< url >>", text)).unwrap_or_else(|problems| panic!("{problems:#?}"));
        definition.targets[0].document.replace(['\u{e002}', '\u{e003}'], "|")
    };
    assert!(document("<< url >>").contains(": | url |,"));
    assert!(document(r#""a\"<< url >>" "#).contains(r#""a\"| ( url ) | json_text |""#));
    assert!(document(r#""x\\", "y": << url >>"#).contains(r#""y": | url |"#));
    assert!(document(r#""<<- url ->>""#).contains(r#""|- ( url ) | json_text -|""#));
}

/// Editors mark what `plugin build` refuses, as far as a schema can say it, and nothing else.
#[test]
fn the_schema_for_editors_knows_what_can_be_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let schema = serde_json::from_str(&file("plugins/scaffolds/toml/plugin.schema.json")).unwrap();
    let schema = guillemet_plugin::schema::Schema::new(&schema).unwrap();
    let mistakes = |text: &str| {
        let tree = guillemet_plan::document::parse(guillemet_template::Format::Toml, text).unwrap();
        schema.mistakes(tree.root.as_object().unwrap())
    };
    let scaffold = file("plugins/scaffolds/toml/plugin.toml").replace("@name@", "hook");
    for good in [GOOD, &file("tests/authors/toml/plugin.toml"), &scaffold] {
        assert_eq!(mistakes(good), [""; 0]);
        assert!(read(good).is_ok());
    }
    for (from, to) in [
        ("title =", "tilte ="),
        ("type = \"url\"", "type = \"uri\""),
        ("maximum = 10", "maximum = 10\nsecret = true"),
        ("maximum = 10", "maximum = \"10\""),
        ("file_name", "filename"),
        ("required = true", "required = 1"),
    ] {
        assert!(!mistakes(&GOOD.replacen(from, to, 1)).is_empty(), "{to}");
        assert!(read(&GOOD.replacen(from, to, 1)).is_err(), "{to}");
    }
}
