//! Canaries: `template check` fills a plugin's document with hostile values and reads it back, without a daemon and
//! without a vault.

use crate::support::component::{componentize, module};
use crate::support::daemon::Guillemet;
use serde_json::Value;

/// Each target of `tests/plugins/forgetful`, with a part of the resulting problem's message. It is `None` if the target
/// forgets no encoder.
const FORGOTTEN: [(&str, Option<&str>); 18] = [
    ("json", None),
    ("xml", None),
    ("env", None),
    ("json-url", Some("does not stay one value when it contains")),
    ("json-header", Some("a line break")),
    ("text-json", Some("`asterisk-value` is not an encoder for a JSON document; return the document as JSON")),
    ("xml-with-another", Some("`asterisk-value` is not an encoder for an XML document; use `xml`")),
    ("xml-comment", Some("is not inside a value of the XML document")),
    ("env-with-another", Some("`xml` is not an encoder for a dotenv document; use `dotenv`")),
    ("env-quoted-twice", Some("does not stay one value when it contains")),
    ("curl", None),
    ("curl-quoted-twice", Some("is not valid curl: line 1: text follows the closing quote")),
    ("token-with-xml", Some("writes values with `xml` into a document that is not valid XML")),
    ("yaml-with-kamailio", Some("`kamailio-string` is not an encoder for a YAML document; use `yaml-string`")),
    ("yaml-with-curl", Some("`curl-config` is not an encoder for a YAML document; use `yaml-string`")),
    ("two-formats", Some("`xml` is an encoder for an XML document, and `curl-config` in the same document")),
    ("table", None),
    ("table-without-escape", Some("does not stay one value when it contains `\\`")),
];

#[test]
fn a_plugin_that_forgot_an_encoder_is_found() {
    let guillemet = Guillemet::init();
    std::fs::remove_file(guillemet.path("vault.db")).unwrap();
    std::fs::create_dir_all(guillemet.path("plugins")).unwrap();
    std::fs::write(guillemet.path("plugins/forgetful.wasm"), componentize(&module("forgetful"))).unwrap();
    // Repeats this for every target.
    let targets: Vec<String> = FORGOTTEN.iter().map(|(target, _)| format!("\"{target}\"")).collect();
    let template = format!("targets = [{}]\ntoken = '<< secret \"the-token\" >>'\n", targets.join(", "));
    guillemet.write("forgetful/a.toml", &template);
    let output = guillemet.command(&["template", "check", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let problems = said["items"][0]["problems"].as_array().unwrap();
    for (target, words) in FORGOTTEN {
        let told = problems
            .iter()
            .filter(|problem| problem["message"].as_str().unwrap().ends_with(&format!("(target `{target}`)")));
        let told: Vec<&Value> = told.collect();
        match words {
            None => assert!(told.is_empty(), "{target}: {told:?}"),
            Some(words) => {
                assert_eq!(told.len(), 1, "{target}: {problems:?}");
                assert!(told[0]["message"].as_str().unwrap().contains(words), "{target}: {told:?}");
                // What is wrong with the document as a whole is about no reference.
                if !words.contains("not valid") {
                    assert_eq!((&told[0]["line"], &told[0]["path"]), (&2.into(), &"token".into()));
                    assert!(told[0]["help"].as_str().unwrap().contains("encoder"));
                }
            }
        }
    }
    assert_eq!(problems.len(), FORGOTTEN.iter().filter(|(_, words)| words.is_some()).count(), "{problems:#?}");
    // The command made no vault for it.
    assert!(!guillemet.path("vault.db").exists());
}

/// Every target of the built-in plugins, with the demo's templates.
#[test]
fn the_built_in_plugins_forgot_none() {
    let guillemet = Guillemet::init();
    guillemet.write_examples();
    let output = guillemet.command(&["template", "check"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap().matches(" ok\n").count(), 4);
}
