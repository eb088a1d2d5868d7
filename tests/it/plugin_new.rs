//! From `plugin new` to passing cases, in each language with its real tools: a project as it is made, and one that uses
//! all of its author library. If a tool is missing, the message has the command that installs it.

use std::path::Path;

use crate::support::authors::{self, Language, Project};
use crate::support::daemon::Guillemet;
use crate::support::transcript;

/// A new project builds and passes its cases. Then a plugin with every kind of field is put in its place; the library
/// finds what is wrong in a config, and reports where the author's own code fails.
fn from_nothing_to_cases_that_hold(language: Language, place: &str) {
    let Some(project) = Project::new(language, "call-events") else { return };
    let built = project.guillemet(&["plugin", "build"]);
    assert!(built.status.success() && built.text.contains("built call-events.wasm: "), "{}", built.text);
    let tested = project.guillemet(&["plugin", "test"]);
    assert!(tested.status.success(), "{}", tested.text);
    assert!(tested.text.contains("all 6 cases pass, for every target: json, env"), "{}", tested.text);
    if language != Language::Python {
        the_same_source_makes_the_same_component_elsewhere(language, &project);
    }

    project.use_all_of_the_library();
    let built = project.guillemet(&["plugin", "build"]);
    assert!(built.status.success(), "{}", built.text);
    let tested = project.guillemet(&["plugin", "test"]);
    assert!(
        tested.text.contains("one case of 9 failed") && tested.text.contains("failed  it fails"),
        "{}",
        tested.text
    );
    assert!(tested.text.contains("it panicked: ") && tested.text.contains("asked for"), "{}", tested.text);
    assert!(tested.text.contains(place), "{}", tested.text);
}

/// A digest can be checked against the source: it depends on no folder and no time, and not on chance. componentize-py
/// puts random numbers, times and inodes into the memory that it saves, so Python is left out.
fn the_same_source_makes_the_same_component_elsewhere(language: Language, project: &Project) {
    let Some(other) = Project::new(language, "call-events") else { return };
    assert_ne!(project.path(""), other.path(""));
    let built = other.guillemet(&["plugin", "build"]);
    assert!(built.status.success() && !built.text.contains("warning"), "{}", built.text);
    let component = |project: &Project| std::fs::read(project.path("call-events.wasm")).unwrap();
    assert!(component(project) == component(&other), "two builds made two components");
}

#[test]
fn a_plugin_in_rust() {
    from_nothing_to_cases_that_hold(Language::Rust, "src/lib.rs:2");
}

#[test]
fn a_plugin_in_c() {
    from_nothing_to_cases_that_hold(Language::C, "plugin.c:2");
}

#[test]
fn a_plugin_in_javascript() {
    from_nothing_to_cases_that_hold(Language::JavaScript, "plugin.js:1");
}

#[test]
fn a_plugin_in_python() {
    from_nothing_to_cases_that_hold(Language::Python, "plugin.py:1");
}

/// What the author of a plugin in a language of scripts hears: what it prints, and each mistake with its file and line.
fn every_mistake_is_told_where_it_is(language: Language, plugin: &str, told: &[&str]) {
    let Some(project) = Project::new(language, "mistakes") else { return };
    let write = |file: &str, text: &str| std::fs::write(project.path(file), text).unwrap();
    write(if matches!(language, Language::Python) { "plugin.py" } else { "plugin.js" }, plugin);
    let schema = r#"{"type": "object", "properties": {"mode": {"type": "string"}, "key": {"type": "string"}}}"#;
    write("schema.json", schema);
    for file in ["env.toml", "json.toml", "refusals.toml"] {
        let _ = std::fs::remove_file(project.path(&format!("cases/{file}")));
    }
    let modes = ["print", "throw", "nothing", "object", "clock", "random", "absent"];
    let case = |mode: &&str| format!("[[case]]\nname = \"{mode}\"\nconfig = {{ mode = \"{mode}\", key = \"«k»\" }}\n");
    write("cases/all.toml", &modes.iter().map(case).collect::<Vec<_>>().concat());
    let built = project.guillemet(&["plugin", "build"]);
    assert!(built.status.success(), "{}", built.text);
    let tested = project.guillemet(&["plugin", "test"]);
    for words in told {
        assert!(tested.text.contains(words), "{words} is not in {}", tested.text);
    }
    assert!(!tested.text.contains("it panicked\n"), "{}", tested.text);
}

#[test]
fn every_mistake_in_javascript_is_told_where_it_is() {
    let plugin = r#"import { encode, json } from "./guillemet.js";

export default {
  feature: "mistakes",
  title: "Mistakes",
  secretFields: ["key"],
  targets: [{ id: "json", title: "JSON", mediaType: "application/json", fileName: "a.json" }],

  plan(config) {
    const mode = config.text("mode").text;
    const key = config.text("key").text;
    console.log("the mode is", mode, { key });
    if (mode === "throw") key.missing.field;
    if (mode === "object") return { key };
    if (mode === "clock") new Date();
    if (mode === "random") Math.random();
    if (mode === "absent") encode.headerValue(config.text("absent"));
    if (mode === "print") return json({ key });
  },
};
"#;
    every_mistake_is_told_where_it_is(
        Language::JavaScript,
        plugin,
        &[
            "log: the mode is print {\"key\":\"«secret»\"}",
            "(plugin.js:13)",
            "plan returned nothing; end it with `return json(…)` or `return text(…)` (plugin.js:9)",
            "which is no document; end it with `return json(…)` or `return text(…)` (plugin.js:9)",
            "a plugin has no clock (plugin.js:15)",
            "a plugin has no random numbers (plugin.js:16)",
            "encode.headerValue takes a string, and got undefined; is the field absent? (plugin.js:17)",
        ],
    );
}

#[test]
fn every_mistake_in_python_is_told_where_it_is() {
    let plugin = r#"import random
import time
from datetime import datetime

from guillemet import Feature, Target, encode, json_document


class Plugin(Feature):
    feature = "mistakes"
    title = "Mistakes"
    version = "0.1.0"
    secret_fields = ["key"]
    targets = [Target("json", "JSON", "application/json", "a.json")]

    def write(self, config, target):
        mode, key = config.text("mode"), config.text("key")
        print("the mode is", mode, key)
        if mode == "throw":
            return {}[key]
        if mode == "object":
            return {"key": key}
        if mode == "clock":
            time.time()
        if mode == "random":
            random.random()
        if mode == "absent":
            encode.header_value(config.text("absent"))
        if mode == "print":
            return json_document({"key": key})
"#;
    every_mistake_is_told_where_it_is(
        Language::Python,
        plugin,
        &[
            "log: the mode is print «secret»",
            "KeyError: '«secret»' (plugin.py:19)",
            "write returned NoneType; end it with `return json_document(…)` or `return text_document(…)` (plugin.py:15)",
            "write returned dict; end it with `return json_document(…)`",
            "a plugin has no clock (plugin.py:23)",
            "a plugin has no random numbers (plugin.py:25)",
            "encode.header_value takes str, and got None; is the field absent? (plugin.py:27)",
        ],
    );
}

/// In Rust the cases also run without a component.
#[test]
fn cases_in_rust_run_natively() {
    let Some(project) = Project::new(Language::Rust, "native") else { return };
    // Literal text is written by the same code as in a host.
    let case = r#"
[[case]]
name = "a token with a quote"
target = "env"
config = { url = "https://hooks.example.com/calls", token = "a'b", events = ["call.ended"] }
document = """
WEBHOOK_URL=https://hooks.example.com/calls
WEBHOOK_TOKEN="a'b"
WEBHOOK_EVENTS=call.ended
"""
warnings = ["token: in the clear"]
"#;
    let cases = std::fs::read_to_string(project.path("cases/env.toml")).unwrap() + case;
    std::fs::write(project.path("cases/env.toml"), cases).unwrap();
    let tested = project.run("cargo", &["test", "--quiet", "--locked"]);
    assert!(tested.status.success() && tested.text.contains("1 passed"), "{}", tested.text);
    assert!(project.guillemet(&["plugin", "build"]).status.success());
    let tested = project.guillemet(&["plugin", "test"]);
    assert!(tested.status.success() && tested.text.contains("ok      a token with a quote"), "{}", tested.text);
}

/// Each command of a page for plugin authors prints what the text says. A project of a page takes Python's tools and Zig
/// from `PATH`, so the commands that install them are not run.
fn the_page_goes_as_it_is_written(page: &str, language: Language) {
    if !language.has_tools() {
        return;
    }
    let guillemet = Guillemet::start();
    let tools = authors::tools().join("venv/bin");
    let is_in_path = matches!(language, Language::C | Language::Python);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    transcript::run_with(&page, guillemet.dir.path(), is_in_path.then_some(tools.as_path()));
}

#[test]
fn the_tutorial_goes_as_it_is_written() {
    the_page_goes_as_it_is_written("plugins.md", Language::JavaScript);
}

#[test]
fn the_cookbook_goes_as_it_is_written() {
    the_page_goes_as_it_is_written("plugins/cookbook.md", Language::JavaScript);
}

#[test]
fn the_page_of_rust_goes_as_it_is_written() {
    the_page_goes_as_it_is_written("plugins/rust.md", Language::Rust);
}

#[test]
fn the_page_of_c_goes_as_it_is_written() {
    the_page_goes_as_it_is_written("plugins/c.md", Language::C);
}

#[test]
fn the_page_of_javascript_goes_as_it_is_written() {
    the_page_goes_as_it_is_written("plugins/javascript.md", Language::JavaScript);
}

#[test]
fn the_page_of_python_goes_as_it_is_written() {
    the_page_goes_as_it_is_written("plugins/python.md", Language::Python);
}

#[test]
fn the_page_about_plugins_without_code_goes_as_it_is_written() {
    // It ends with a plugin in JavaScript.
    the_page_goes_as_it_is_written("plugins/without-code.md", Language::JavaScript);
}

#[test]
fn no_page_for_plugin_authors_is_forgotten() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (tests, entry) =
        (include_str!("plugin_new.rs"), std::fs::read_to_string(root.join("docs/plugins.md")).unwrap());
    for page in std::fs::read_dir(root.join("docs/plugins")).unwrap() {
        let page = format!("plugins/{}", page.unwrap().file_name().into_string().unwrap());
        assert!(tests.contains(&format!("written(\"{page}\"")), "{page} has no test");
        assert!(entry.contains(&format!("({page})")), "docs/plugins.md has no link to {page}");
        // Each project of a page is checked as `plugin add` does it.
        let text = std::fs::read_to_string(root.join("docs").join(&page)).unwrap();
        let projects = text.lines().filter_map(|line| line.strip_prefix("$ guillemet plugin build "));
        for project in projects {
            let name = project.rsplit('/').next().unwrap();
            for command in [format!("test {project}"), format!("check {project}/{name}.wasm")] {
                assert!(text.contains(&format!("\n$ guillemet plugin {command}\n")), "{page}: {command}");
            }
        }
    }
}

/// Each language reads the same config, by the same cases.
#[test]
fn the_example_of_each_language_has_the_same_cases() {
    let shared = |page: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/plugins").join(page);
        let text = std::fs::read_to_string(path).unwrap();
        let (_, shared) = text.split_once("<details>").unwrap();
        shared.split_once("</details>").unwrap().0.to_owned()
    };
    let first = shared("rust.md");
    assert!(first.contains("schema.json") && first.contains("cases/fields.toml"), "{first}");
    for page in ["c.md", "javascript.md", "python.md"] {
        assert!(first == shared(page), "{page} has other cases than rust.md");
    }
}

#[test]
fn what_is_missing_is_told_with_the_line_that_installs_it() {
    let install = "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt";
    for (language, told) in [
        (Language::Rust, "https://rustup.rs"),
        (Language::C, install),
        (Language::JavaScript, "https://nodejs.org"),
        (Language::Python, install),
    ] {
        let project = Project::bare(language, "bare");
        let built = project.with_scripts(&[], &["plugin", "build"]);
        assert_eq!(built.status.code(), Some(1));
        assert!(built.text.contains(told), "{}", built.text);
        assert!(!project.path("bare.wasm").exists());
    }
    // A Rust toolchain without a standard library for WebAssembly.
    let project = Project::bare(Language::Rust, "bare");
    let scripts = [("cargo", "exit 1"), ("rustc", "echo /nowhere")];
    let built = project.with_scripts(&scripts, &["plugin", "build"]);
    assert!(built.text.contains("\n    rustup target add wasm32-unknown-unknown\n"), "{}", built.text);
    let Some(project) = Project::new(Language::JavaScript, "uninstalled") else { return };
    std::fs::remove_file(project.path("node_modules")).unwrap();
    let built = project.guillemet(&["plugin", "build"]);
    assert!(built.text.contains("\n    npm install\n"), "{}", built.text);
    let built = project.guillemet_above(&["plugin", "build", "uninstalled"]);
    assert!(built.text.contains("\n    cd uninstalled && npm install\n"), "{}", built.text);
}

#[test]
fn what_a_compiler_says_is_shown_and_the_last_component_stays() {
    let Some(project) = Project::new(Language::C, "broken") else { return };
    assert!(project.guillemet(&["plugin", "build"]).status.success());
    let component = std::fs::read(project.path("broken.wasm")).unwrap();
    project.change("plugin.c", "return text_document(", "return text_dokument(");
    let built = project.guillemet(&["plugin", "build"]);
    assert_eq!(built.status.code(), Some(1));
    assert!(built.text.contains("text_dokument") && built.text.contains("the plugin was not built"), "{}", built.text);
    assert!(component == std::fs::read(project.path("broken.wasm")).unwrap());

    project.change("plugin.c", "return text_dokument(", "printf(\"%s\", target);\n    return text_document(");
    project.change("plugin.c", "#include <string.h>", "#include <stdio.h>\n#include <string.h>");
    let built = project.guillemet(&["plugin", "build"]);
    assert_eq!(built.status.code(), Some(1));
    assert!(built.text.contains("a plugin has no WASI: do not use `printf`"), "{}", built.text);
}

#[test]
fn what_is_there_is_not_touched_and_a_name_follows_the_rule() {
    let project = Project::bare(Language::Python, "hook");
    std::fs::write(project.path("plugin.py"), "mine").unwrap();
    let again = project.guillemet_above(&["plugin", "new", "hook"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(again.text.contains("nothing was changed"), "{}", again.text);
    assert_eq!(std::fs::read_to_string(project.path("plugin.py")).unwrap(), "mine");
    for name in ["Hook", "a/b", "..", "-a", "a_b", &"a".repeat(65)] {
        let refused = project.guillemet_above(&["plugin", "new", "--", name]);
        assert_eq!(refused.status.code(), Some(1), "{name}");
        assert!(refused.text.contains("1 to 64 of `a-z`, `0-9` and `-`"), "{}", refused.text);
    }
    let titled = project.guillemet_above(&["plugin", "new", "pager", "--lang", "js", "--title", "Pager (EU)"]);
    assert!(titled.status.success(), "{}", titled.text);
    let plugin = std::fs::read_to_string(project.path("../pager/plugin.js")).unwrap();
    assert!(plugin.contains("title: \"Pager (EU)\""), "{plugin}");
    for title in ["", " a", "a\"b", "a\\b", "a\nb", "*/", &"a".repeat(101)] {
        let refused = project.guillemet_above(&["plugin", "new", "untitled", "--title", title]);
        assert_eq!(refused.status.code(), Some(1), "{title}");
        assert!(refused.text.contains("choose another --title"), "{}", refused.text);
    }
    let replacing = project.guillemet_above(&["plugin", "new", "cal-com", "--lang", "c"]);
    assert!(replacing.status.success() && replacing.text.contains("built-in feature"), "{}", replacing.text);
    let elsewhere = project.guillemet_above(&["plugin", "build"]);
    assert!(elsewhere.text.contains("guillemet plugin new NAME"), "{}", elsewhere.text);
}
