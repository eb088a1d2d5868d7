//! Plugins without code: a `plugin.toml` becomes a component that is tested, checked, added and rendered like any
//! other.

use std::fs;

use crate::support::authors::{Language, Project};
use crate::support::daemon::Guillemet;
use guillemet_plan::contract;

/// What a new project needs is the program: there is nothing in PATH. Its component is used by a real daemon, and a
/// value with quotes and line breaks stays a value.
#[test]
fn a_plugin_without_code() {
    let project = Project::bare(Language::Toml, "call-events");
    let built = project.with_scripts(&[], &["plugin", "build"]);
    assert!(built.status.success() && built.text.contains("built call-events.wasm: "), "{}", built.text);
    let tested = project.guillemet(&["plugin", "test"]);
    assert!(tested.status.success(), "{}", tested.text);
    assert!(tested.text.contains("all 6 cases pass, for every target: json, env"), "{}", tested.text);
    let checked = project.guillemet(&["plugin", "check", "call-events.wasm"]);
    assert!(checked.status.success(), "{}", checked.text);
    assert!(checked.text.contains("secret fields  url, token"), "{}", checked.text);
    assert!(!checked.text.contains("not read back"), "{}", checked.text);

    let guillemet = Guillemet::start();
    let component = project.path("call-events.wasm");
    let added = guillemet.command(&["plugin", "add", component.to_str().unwrap(), "--yes"]);
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let value = "k\"0\\' x";
    guillemet.add("hooks-token-production", value);
    guillemet.write("call-events/production.toml", &fs::read_to_string(project.path("template.toml")).unwrap());
    let rendered = guillemet.get("/v1/render/call-events/production").json();
    assert_eq!(rendered["headers"]["Authorization"], format!("Bearer {value}"));
    assert_eq!(rendered["events"][1], "call.ended");
    let lines = guillemet.get("/v1/render/call-events/production?target=env");
    assert_eq!(lines.status, 422, "{}", lines.text());
    assert!(!lines.text().contains(value), "{}", lines.text());
    let shown = guillemet.command(&["plugin", "show", "call-events", "--schema"]).stdout;
    let shown: serde_json::Value = serde_json::from_slice(&shown).unwrap();
    let written = fs::read_to_string(project.path("schema.json")).unwrap();
    let written: serde_json::Value = serde_json::from_str(&written).unwrap();
    for field in ["url", "token", "events"] {
        assert!(written["properties"][field].is_object(), "{written}");
        assert_eq!(shown["properties"][field], written["properties"][field]);
    }
}

/// Every kind of field, every way to write it into JSON and lines, and an encoder of the plugin's own.
#[test]
fn everything_that_a_plugin_toml_can_say() {
    let project = Project::bare(Language::Toml, "everything");
    project.use_all_of_the_library();
    let built = project.guillemet(&["plugin", "build"]);
    assert!(built.status.success(), "{}", built.text);
    let tested = project.guillemet(&["plugin", "test"]);
    assert!(tested.status.success(), "{}", tested.text);
    assert!(tested.text.contains("all 10 cases pass, for every target: json, env, hcl"), "{}", tested.text);
    let checked = project.guillemet(&["plugin", "check", "everything.wasm"]);
    assert!(checked.status.success(), "{}", checked.text);
}

/// Whoever writes documents can use every encoder of the contract.
#[test]
fn every_encoder_is_a_filter() {
    let project = Project::bare(Language::Toml, "call-events");
    assert!(project.guillemet(&["plugin", "build"]).status.success());
    let checked = project.guillemet(&["plugin", "check", "call-events.wasm"]);
    let imports = checked.text.lines().find_map(|line| line.trim().strip_prefix("guillemet:feature/encode@")).unwrap();
    let imports: Vec<&str> = imports.split_once(": ").unwrap().1.split(", ").collect();
    let functions: Vec<&str> = contract::functions().collect();
    assert!(functions.len() > 30, "{functions:?}");
    // What a plugin asks about a text, and what it logs, is for code.
    for function in functions.into_iter().filter(|function| !["whole-secret", "log"].contains(function)) {
        assert!(imports.contains(&function), "{function} is not used by {imports:?}");
        // A component imports what its code can reach: each but these is a filter.
        if ["has-secret", "panic"].contains(&function) {
            continue;
        }
        let filter = function.replace('-', "_");
        let (before, with) = ("<% if events %>", format!("<% if events %><% set x = url | {filter} %>"));
        project.change("plugin.toml", before, &with);
        let built = project.guillemet(&["plugin", "build"]);
        assert!(built.status.success(), "{}", built.text);
        project.change("plugin.toml", &with, before);
    }
}

/// The component depends on plugin.toml and on nothing else, so its digest can be checked against it.
#[test]
fn the_same_file_makes_the_same_component() {
    let build = || {
        let project = Project::bare(Language::Toml, "call-events");
        assert!(project.guillemet(&["plugin", "build"]).status.success());
        (fs::read(project.path("call-events.wasm")).unwrap(), project)
    };
    let (first, _) = build();
    let (second, project) = build();
    assert!(first == second);
    project.change("plugin.toml", "version = \"0.1.0\"", "version = \"0.1.1\"");
    assert!(project.guillemet(&["plugin", "build"]).status.success());
    assert!(fs::read(project.path("call-events.wasm")).unwrap() != first);
}

/// Everything that is wrong with plugin.toml is told at once, with lines, and the last component stays.
#[test]
fn a_plugin_toml_with_mistakes_is_not_built() {
    let project = Project::bare(Language::Toml, "call-events");
    assert!(project.guillemet(&["plugin", "build"]).status.success());
    let before = fs::read(project.path("call-events.wasm")).unwrap();
    project.change("plugin.toml", "title = \"Call", "tilte = \"Call");
    project.change("plugin.toml", "\"<< url >>\"", "<< ulr >>");
    project.change("plugin.toml", "WEBHOOK_TOKEN=<< token | dotenv >>", "WEBHOOK_TOKEN=<< token >>");
    let built = project.guillemet(&["plugin", "build"]);
    assert_eq!(built.status.code(), Some(1), "{}", built.text);
    let expected = "error: the plugin was not built; plugin.toml needs changes:
  ./plugin.toml:7: `tilte` is not a key that can be here
    help: did you mean `title`?";
    assert!(built.text.starts_with(expected), "{}", built.text);
    for words in
        ["`title` is missing", "there is no field `ulr`\n    help: did you mean `url`?", "`token` needs an encoder"]
    {
        assert!(built.text.contains(words), "{words}\n{}", built.text);
    }
    assert!(fs::read(project.path("call-events.wasm")).unwrap() == before);
}

/// What only a config shows is told when a case has one, with the line of plugin.toml.
#[test]
fn mistakes_that_a_config_shows_are_told_with_their_line() {
    let project = Project::bare(Language::Toml, "hook");
    for file in ["env.toml", "json.toml", "refusals.toml"] {
        fs::remove_file(project.path(&format!("cases/{file}"))).unwrap();
    }
    fs::write(
        project.path("plugin.toml"),
        r#"feature = "hook"
title = "Hook"
version = "0.1.0"
[fields.list]
type = "tables"
[fields.list.fields.name]
secret = true
[[target]]
id = "typo"
file_name = "hook.json"
document = '''
[ <% for item in list %> << item.nmae >>, << item.name >>, <% endfor %> ]
'''
[[target]]
id = "bare"
file_name = "hook.env"
document = '''
<% for item in list %>
NAME=<< item.name >>
<% endfor %>
'''
[[target]]
id = "absent"
file_name = "hook2.env"
document = '''
<% for item in list %>
NAME=<< item.name | dotenv >>
<% endfor %>
'''
[[target]]
id = "comma"
file_name = "hook2.json"
document = '''
[ <% for item in list %> "<< item.name >>" <% endfor %> ]
'''
[[target]]
id = "twice"
file_name = "hook3.json"
document = '''
{ <% for item in list %> "a": "<< item.name >>", <% endfor %> }
'''
"#,
    )
    .unwrap();
    let case = |target: &str, list: &str| {
        format!(
            "[[case]]\nname = \"{target}\"\ntarget = \"{target}\"\nconfig = {{ list = {list} }}\nproblems = [\"x\"]\n"
        )
    };
    let two = "[{ name = \"«a»\" }, { name = \"«b»\" }]";
    let cases = [case("typo", two), case("bare", two), case("absent", "[{}]"), case("comma", two), case("twice", two)];
    fs::write(project.path("cases/all.toml"), cases.concat()).unwrap();
    let built = project.guillemet(&["plugin", "build"]);
    assert!(built.status.success(), "{}", built.text);
    let tested = project.guillemet(&["plugin", "test"]);
    assert_eq!(tested.status.code(), Some(1), "{}", tested.text);
    for words in [
        "there is no field `nmae` here, only `name` (plugin.toml, line 12)",
        "text has to go through an encoder of this format, as the last filter of its tag: `<< FIELD | ENCODER >>` (plugin.toml, line 19)",
        "a field is used that this config does not have",
        "the document of the target `comma` is not JSON",
        "the name `a` is there twice",
    ] {
        assert!(tested.text.contains(words), "{words}\n{}", tested.text);
    }
    assert!(!tested.text.contains('\u{e00f}'), "{}", tested.text);
}
