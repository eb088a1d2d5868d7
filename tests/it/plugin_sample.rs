//! `plugin new --from`: a project made of an example config builds, and its cases and checks hold at once, in each
//! language. No value of a secret is in it.

use std::path::Path;

use crate::support::authors::{Language, Project};

const KEY: &str = "K7fhwQ92LmNz81xPq0Rt";
const PASSWORD: &str = "hunter-22";

/// Every kind of field, names that are no identifiers, and secrets by their names, by their looks and by placeholders.
const SAMPLE: &str = r#"
base-url = "https://api.acme.com/v2"
api_key = "K7fhwQ92LmNz81xPq0Rt"
region = "eu"
retries = 3
offset = -2
ratio = 1.5
whole = 2.0
loud = true
since = 2024-05-01
note = ""
tags = ["a", "b"]
none = []
ports = [1, 2.5]
flags = [true, false]
keys = ["<< secret 'hook-first' >>", "in the clear"]
"odd.name \"x\"" = "c:\\d \"é\""
class = "a keyword"

[auth]
user = "me"
password = "hunter-22"

[auth.headers]
Authorization = "Bearer << secret 'hook-token' >>"

[[routes]]
to = "north"
weight = 70
url = "https://user:hunter-22@routes.acme.com/"
hook = "https://hooks.acme.com/<< secret 'hook-path' | url >>/x"

[[routes]]
to = "south"
loud = false
tags = ["z"]
inner = { deep = { name = "x" } }
"#;

fn texts(folder: &Path, into: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            texts(&entry.path(), into);
        } else if kind.is_file() {
            let text = String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()).into_owned();
            into.push((entry.path().display().to_string(), text));
        }
    }
}

fn a_sample_becomes_a_plugin(language: Language) {
    let Some(project) = Project::from(language, "acme-hook", Some(("acme.toml", SAMPLE))) else { return };
    let mut files = Vec::new();
    texts(&project.path(""), &mut files);
    assert!(files.len() > 6, "{files:?}");
    for (path, text) in &files {
        assert!(!text.contains(KEY) && !text.contains(PASSWORD), "{path} contains the value of a secret");
    }
    let template = std::fs::read_to_string(project.path("template.toml")).unwrap();
    for placeholder in
        ["<< secret 'acme-api-key-prod' >>", "<< secret 'acme-password-prod' >>", "Bearer << secret 'hook-token' >>"]
    {
        assert!(template.contains(placeholder), "{template}");
    }

    let built = project.guillemet(&["plugin", "build"]);
    assert!(built.status.success() && !built.text.contains("warning"), "{}", built.text);
    let tested = project.guillemet(&["plugin", "test"]);
    assert!(tested.status.success() && tested.text.contains("all 2 cases pass"), "{}", tested.text);
    let checked = project.guillemet(&["plugin", "check", "acme-hook.wasm"]);
    assert!(checked.status.success(), "{}", checked.text);
    for words in ["describes every secret field; valid", "ok       the sample (target `json`)"] {
        assert!(checked.text.contains(words), "{}", checked.text);
    }
}

#[test]
fn a_sample_becomes_a_plugin_in_rust() {
    a_sample_becomes_a_plugin(Language::Rust);
}

#[test]
fn a_sample_becomes_a_plugin_in_c() {
    a_sample_becomes_a_plugin(Language::C);
}

#[test]
fn a_sample_becomes_a_plugin_in_javascript() {
    a_sample_becomes_a_plugin(Language::JavaScript);
}

#[test]
fn a_sample_becomes_a_plugin_in_python() {
    a_sample_becomes_a_plugin(Language::Python);
}

#[test]
fn a_sample_becomes_a_plugin_without_code() {
    a_sample_becomes_a_plugin(Language::Toml);
}

/// The schema and the cases say what the sample has.
#[test]
fn the_schema_has_types_examples_and_what_is_required() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        std::process::Command::new(crate::support::daemon::PROGRAM)
            .args(arguments)
            .current_dir(folder.path())
            .output()
            .unwrap()
    };
    for (end, text) in [
        ("json", r#"{"name": "x", "token": "abc", "when": "2024-05-01", "list": [{"a": 1}, {"a": 2, "b": ""}]}"#),
        (
            "jsonc",
            "{\"name\": \"x\", // why\n\"token\": \"abc\", \"when\": \"2024-05-01\", \"list\": [{\"a\": 1}, {\"a\": 2, \"b\": \"\"}],}",
        ),
        (
            "yaml",
            "name: x\ntoken: << secret \"crm-token\" >>\nwhen: 2024-05-01\nlist:\n  - a: 1\n  - a: 2\n    b: ''\n",
        ),
        ("toml", "name = 'x'\ntoken = 'abc'\nwhen = 2024-05-01\nlist = [{ a = 1 }, { a = 2, b = '' }]\n"),
    ] {
        let sample = format!("sample.{end}");
        std::fs::write(folder.path().join(&sample), text).unwrap();
        let made = run(&["plugin", "new", end, "--lang", "c", "--title", "A title", "--from", &sample]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let schema = std::fs::read_to_string(folder.path().join(end).join("schema.json")).unwrap();
        let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
        let item = serde_json::json!({
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "a": { "type": "integer", "minimum": 0, "examples": [1] },
                "b": { "type": "string", "minLength": 1 },
            },
            "required": ["a"],
        });
        let expected = serde_json::json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "A title",
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "name": { "type": "string", "minLength": 1, "examples": ["x"] },
                "token": { "type": "string", "minLength": 1, "description": "A secret" },
                "when": { "type": "string", "minLength": 1, "examples": ["2024-05-01"] },
                "list": { "type": "array", "items": item },
            },
            "required": ["name", "token", "when", "list"],
        });
        assert_eq!(schema, expected, "{end}");
    }
}

/// What cannot be a sample is refused with the line and the reason, all at once and without a value; nothing is made.
#[test]
fn what_cannot_be_a_sample_is_told_with_line_and_reason() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = "a: null\nb: [1, x]\nc: {}\nd: [[1]]\ntargets: x\n'12': y\ne: [{f: 1}, {f: x}]\ng: 9007199254740992\n\
                 'se.cret': {password: hidden-value}\nh: ['']\n";
    let large = format!("a = \"{}\"\n", "x".repeat(2 << 20));
    let many: String = (0..201).map(|number| format!("field-{number} = 1\n")).collect();
    let cases: [(&str, &[u8], &[&str]); 8] = [
        (
            "wrong.yaml",
            wrong.as_bytes(),
            &[
                "wrong.yaml:1:4 a: has no value",
                "wrong.yaml:2:8 b.1: is a text in a list whose first item is a number",
                "wrong.yaml:3:4 c: is an empty table",
                "wrong.yaml:4:5 d.0: is a list in a list",
                "wrong.yaml:5:10 targets: is reserved",
                "wrong.yaml:6:7 12: has a name of digits only",
                "e.1.f: is a text here and a number elsewhere",
                "wrong.yaml:8:4 g: is a whole number beyond 9007199254740991",
                "se.cret.password: is secret, but a plugin cannot declare a secret under this name",
                "h.0: is an empty text in a list",
            ],
        ),
        ("syntax.toml", b"a = 1\nb = \n", &["syntax.toml:2:"]),
        ("list.json", b"[1]", &["the config is not a table of fields"]),
        ("empty.toml", b"", &["it has no field"]),
        ("large.toml", large.as_bytes(), &["is larger than"]),
        ("bytes.toml", b"a = \"\xff\"", &["bytes.toml:1 is not UTF-8"]),
        ("many.toml", many.as_bytes(), &["many.toml:201:", "more than 200 fields"]),
        ("config.ini", b"a = 1", &["use one of .toml, .json, .jsonc, .yaml, .yml"]),
    ];
    for (file, text, told) in cases {
        std::fs::write(folder.path().join(file), text).unwrap();
        let refused = std::process::Command::new(crate::support::daemon::PROGRAM)
            .args(["plugin", "new", "hook", "--from", file])
            .current_dir(folder.path())
            .output()
            .unwrap();
        let message = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{message}");
        for words in told {
            assert!(message.contains(words), "{words} is not in {message}");
        }
        assert!(!message.contains("hidden-value"), "{message}");
        assert!(!folder.path().join("hook").exists());
    }
    let refused = std::process::Command::new(crate::support::daemon::PROGRAM)
        .args(["plugin", "new", "hook", "--from", "absent.toml"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("absent.toml cannot be read"));
}
