//! Another plugin takes the place of one that templates use: what changes is shown, what would break is refused, and
//! the former plugin comes back. With the real binary, a real daemon and real components.

use std::fs;
use std::process::Output;

use crate::support::component::{hostile_in, pager, pager_next};
use crate::support::daemon::{Answer, Guillemet};
use crate::support::terminal::Terminal;
use serde_json::{Value, json};

const TEMPLATE: &str = "url = 'https://pager.example'\ntoken = '<< secret \"pager-key\" >>'\n";
const LABELS: &str = "url = 'https://pager.example'\ntoken = 'open'\nlabels.team = '<< secret \"pager-key\" >>'\n";

/// A daemon with the plugin `pager` 1.2.0 and two templates that it renders.
fn daemon() -> Guillemet {
    let guillemet = Guillemet::start();
    guillemet.add("pager-key", "canary-value");
    guillemet.write("pager/calls.toml", TEMPLATE);
    guillemet.write("pager/labels.toml", LABELS);
    let added = add(&guillemet, pager(), &["--yes"]);
    assert!(added.status.success(), "{}", told(&added));
    guillemet
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn add(guillemet: &Guillemet, component: &[u8], arguments: &[&str]) -> Output {
    let file = guillemet.path("next.wasm");
    fs::write(&file, component).unwrap();
    guillemet.command(&[&["plugin", "add", file.to_str().unwrap()], arguments].concat())
}

/// Asserts that a command failed, changed nothing, and said all of this.
fn refused(output: &Output, words: &[&str]) {
    let text = told(output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for words in words {
        assert!(text.contains(words), "{words}\n{text}");
    }
}

/// Asserts that a command succeeded and said all of this.
fn done(output: &Output, words: &[&str]) {
    let text = told(output);
    assert!(output.status.success(), "{text}");
    for words in words {
        assert!(text.contains(words), "{words}\n{text}");
    }
}

fn roll_back(guillemet: &Guillemet, arguments: &[&str]) -> Output {
    guillemet.command(&[&["plugin", "rollback"], arguments].concat())
}

fn plugin(guillemet: &Guillemet, feature: &str) -> Value {
    let plugins = guillemet.get("/v1/plugins").json();
    let all = plugins["items"].as_array().unwrap();
    all.iter().find(|plugin| plugin["feature"] == *feature).cloned().unwrap_or_default()
}

fn version(guillemet: &Guillemet) -> String {
    plugin(guillemet, "pager")["version"].as_str().unwrap_or_default().to_owned()
}

fn inspect(guillemet: &Guillemet, component: &[u8]) -> Value {
    let file = guillemet.path("next.wasm");
    fs::write(&file, component).unwrap();
    let seen = guillemet.post("/v1/plugins", &json!({"file": file}));
    assert_eq!(seen.status, 200, "{}", seen.text());
    seen.json()
}

/// Confirms what was inspected over the API, with more fields in the body.
fn confirm(guillemet: &Guillemet, seen: &Value, more: &Value) -> Answer {
    let mut body = json!({
        "file": guillemet.path("next.wasm"),
        "confirm": true,
        "digest": seen["digest"],
        "replaces": seen["replaces"]["digest"],
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    guillemet.post("/v1/plugins", &body)
}

fn status(guillemet: &Guillemet, template: &str) -> u16 {
    guillemet.get(&format!("/v1/render/{template}")).status
}

/// Returns a component that does the same and has another digest, as if it had been built again.
fn rebuilt(component: &[u8]) -> Vec<u8> {
    [component, &[0, 2, 1, b'x']].concat()
}

fn built_in() -> Vec<u8> {
    let builtin = guillemet_builtin::ALL.iter().find(|builtin| builtin.feature == "mcp-server").unwrap();
    rebuilt(builtin.component)
}

#[test]
fn a_version_that_drops_a_secret_field_is_refused_until_its_breakage_is_accepted() {
    let guillemet = daemon();
    let output = add(&guillemet, &pager_next("drop-field"), &["--yes"]);
    refused(
        &output,
        &[
            "Version        1.2.0 -> 1.3.0, newer\n",
            "Secret fields  - labels.*\n",
            "pager/labels (target json): breaks\n",
            "error: this breaks what works now; nothing was changed. Fix the plugin or the templates, or pass --break",
            "\n  pager/labels:3:",
            "labels.team",
            "(target `json`)",
        ],
    );
    assert!(!told(&output).contains("pager/calls (target"), "{}", told(&output));
    assert_eq!((version(&guillemet), status(&guillemet, "pager/labels")), ("1.2.0".into(), 200));
    // A client of the API that names the digests and did not look gets the same.
    let seen = inspect(&guillemet, &pager_next("drop-field"));
    let answer = confirm(&guillemet, &seen, &json!({}));
    assert_eq!((answer.status, answer.json()["code"].as_str()), (409, Some("conflict")), "{}", answer.text());
    assert_eq!(answer.errors("template"), ["pager/labels"], "{}", answer.text());
    assert_eq!((version(&guillemet), status(&guillemet, "pager/labels")), ("1.2.0".into(), 200));
    let output = add(&guillemet, &pager_next("drop-field"), &["--yes", "--break"]);
    done(&output, &["This breaks, and you accept it with --break:\n  pager/labels:3:", "added pager\n", "is kept: "]);
    assert_eq!((status(&guillemet, "pager/calls"), status(&guillemet, "pager/labels")), (200, 422));
    done(&roll_back(&guillemet, &["pager", "--yes"]), &["pager/labels (target json): cannot be rendered now"]);
    assert_eq!((version(&guillemet), status(&guillemet, "pager/labels")), ("1.2.0".into(), 200));
}

/// Who agreed to break one template has not agreed to break another.
#[test]
fn what_breaks_after_the_look_is_refused() {
    let guillemet = daemon();
    let seen = inspect(&guillemet, &pager_next("drop-field"));
    let agreed = &seen["comparison"]["digest"];
    guillemet.write("pager/more.toml", LABELS);
    let answer = confirm(&guillemet, &seen, &json!({"break": true, "comparison": agreed}));
    let text = answer.text();
    assert!(answer.status == 409 && text.contains("has changed since you looked"), "{text}");
    assert_eq!(answer.errors("template"), ["pager/labels", "pager/more"], "{text}");
    assert_eq!(version(&guillemet), "1.2.0");
    let seen = inspect(&guillemet, &pager_next("drop-field"));
    let agreed = &seen["comparison"]["digest"];
    let answer = confirm(&guillemet, &seen, &json!({"break": true, "comparison": agreed}));
    assert_eq!((answer.status, version(&guillemet)), (201, "1.3.0".into()), "{}", answer.text());
}

#[test]
fn a_built_in_plugin_is_replaced_by_its_name_alone() {
    let guillemet = Guillemet::start();
    let builtin = plugin(&guillemet, "mcp-server");
    let command = "To replace it, pass --replace mcp-server";
    refused(&add(&guillemet, &built_in(), &["--yes"]), &["is built in; nothing was changed", command]);
    refused(&add(&guillemet, &built_in(), &["--yes", "--break"]), &[command]);
    let other = add(&guillemet, &built_in(), &["--yes", "--replace", "sip-trunk"]);
    refused(&other, &["this is a plugin for `mcp-server`, not for `sip-trunk`; nothing was changed"]);
    let seen = inspect(&guillemet, &built_in());
    for more in [json!({}), json!({"break": true}), json!({"replace": "sip-trunk"})] {
        let answer = confirm(&guillemet, &seen, &more);
        assert_eq!((answer.status, answer.json()["code"].as_str()), (409, Some("conflict")), "{}", answer.text());
    }
    assert_eq!(plugin(&guillemet, "mcp-server"), builtin);
    let output = add(&guillemet, &built_in(), &["--yes", "--replace", "mcp-server"]);
    done(&output, &["is kept: `guillemet plugin rollback mcp-server`\n"]);
    let added = plugin(&guillemet, "mcp-server");
    assert_eq!((added["source"].as_str(), &added["former"]["digest"]), (Some("added"), &builtin["digest"]));
    assert_eq!(added["former"]["source"], "built-in");
    // A new version of the added plugin replaces nothing that is built in.
    done(&add(&guillemet, &rebuilt(&built_in()), &["--yes"]), &["added mcp-server"]);
}

#[test]
fn the_built_in_plugin_comes_back_and_gives_way_again() {
    let mut guillemet = Guillemet::start();
    let builtin = plugin(&guillemet, "mcp-server");
    done(&add(&guillemet, &built_in(), &["--yes", "--replace", "mcp-server"]), &[]);
    let added = plugin(&guillemet, "mcp-server")["digest"].clone();
    done(&roll_back(&guillemet, &["mcp-server", "--yes"]), &["rolled back mcp-server to built-in "]);
    assert!(!guillemet.path("plugins/mcp-server.wasm").exists(), "`template check` would use it");
    assert!(guillemet.stop());
    guillemet.run();
    let present = plugin(&guillemet, "mcp-server");
    assert_eq!((&present["digest"], &present["former"]["digest"]), (&builtin["digest"], &added));
    done(&roll_back(&guillemet, &["mcp-server", "--yes"]), &["rolled back mcp-server to added "]);
    let present = plugin(&guillemet, "mcp-server");
    assert_eq!((&present["digest"], &present["former"]["digest"]), (&added, &builtin["digest"]));
    done(&roll_back(&guillemet, &["mcp-server", "--yes"]), &[]);
    // With the built-in one in force, what is removed is the kept one.
    let removed = guillemet.command(&["plugin", "remove", "mcp-server", "--yes"]);
    done(&removed, &["The built-in plugin is in use; the former plugin that is kept is removed.\n"]);
    assert_eq!(plugin(&guillemet, "mcp-server"), builtin);
    assert!(!guillemet.path("plugins/mcp-server.former").exists());
}

#[test]
fn an_older_version_is_told_as_one() {
    let guillemet = daemon();
    let seen = inspect(&guillemet, &pager_next("older"));
    assert_eq!((&seen["comparison"]["version"], &seen["comparison"]["breaks"]), (&json!("older"), &json!([])));
    let words = "warning: this is an OLDER version: 1.1.9 takes the place of 1.2.0\n";
    refused(&add(&guillemet, &pager_next("older"), &[]), &[words, "nothing was changed. Pass --yes"]);
    let file = guillemet.path("next.wasm");
    let mut terminal = Terminal::run(guillemet.dir.path(), &["plugin", "add", file.to_str().unwrap()]);
    terminal.expect("Replace the added plugin 1.2.0 for `pager` with the older version 1.1.9? [y/N] ");
    drop(terminal);
    assert_eq!(version(&guillemet), "1.2.0");
    done(&add(&guillemet, &pager_next("older"), &["--yes"]), &[words, "No template changes.\n", "added pager\n"]);
    assert_eq!(version(&guillemet), "1.1.9");
    // Going back is going to a newer version.
    done(&roll_back(&guillemet, &["pager", "--yes"]), &["Version        1.1.9 -> 1.2.0, newer\n"]);
    refused(&roll_back(&guillemet, &["pager"]), &[words, "nothing was changed. Pass --yes"]);
}

#[test]
fn a_changed_document_is_shown_with_names_in_place_of_secrets() {
    let guillemet = daemon();
    let output = add(&guillemet, &pager_next("document"), &["--yes"]);
    done(
        &output,
        &[
            "pager/calls (target json): the document changes; - now, + then\n",
            "\n    +  \"priority\": \"high\"",
            "«pager-key»",
        ],
    );
    let text = told(&output);
    assert!(!text.contains("canary-value") && !text.contains("pager/calls (target env)"), "{text}");
}

#[test]
fn a_target_that_is_gone_or_no_longer_the_default_is_refused() {
    let guillemet = daemon();
    let output = add(&guillemet, &pager_next("drop-target"), &["--yes"]);
    let words = "the target `env` is gone: `pager/calls` can be rendered for it now\n";
    refused(&output, &["Targets        - env\n", words]);
    let output = add(&guillemet, &pager_next("reorder"), &["--yes"]);
    let words = "the default target is `env` instead of `json`, for templates that name none\n";
    refused(&output, &["Default target json -> env\n", words]);
    assert_eq!(version(&guillemet), "1.2.0");
    done(&add(&guillemet, &pager_next("add-target"), &["--yes"]), &["Targets        + http\n"]);
}

#[test]
fn a_component_that_fails_its_checks_is_refused() {
    let guillemet = Guillemet::start();
    let component = pager_next("wrong-encoder");
    let output = add(&guillemet, &component, &["--yes"]);
    let words = "a secret in `token`: the secret ";
    refused(&output, &["this breaks what works now; nothing was changed", words, "(target `env`)"]);
    let file = guillemet.path("next.wasm");
    refused(&guillemet.command(&["plugin", "check", file.to_str().unwrap()]), &[words]);
    let seen = inspect(&guillemet, &component);
    assert_eq!(seen["comparison"]["breaks"][0]["about"], "check", "{seen}");
    assert_eq!(confirm(&guillemet, &seen, &json!({})).status, 409);
    // One that was never looked at is checked too.
    let other = guillemet.path("other.wasm");
    fs::write(&other, &component).unwrap();
    let body = json!({"file": other, "confirm": true, "digest": seen["digest"]});
    let answer = guillemet.post("/v1/plugins", &body);
    assert!(answer.status == 409 && answer.text().contains(words), "{}", answer.text());
    assert_eq!(plugin(&guillemet, "pager"), Value::Null);
    done(&add(&guillemet, &component, &["--yes", "--break"]), &["added pager\n"]);
    // The cases beside a component are a part of its checks.
    let cases = guillemet.path("cases");
    fs::create_dir(&cases).unwrap();
    fs::write(cases.join("a.toml"), "[[case]]\nname = 'odd'\nconfig = { url = 3 }\ndocument = '{}'\n").unwrap();
    refused(&add(&guillemet, &pager_next(""), &["--yes"]), &["odd: there is no document"]);
}

const URGENT: &str = "url = 'https://pager.example'\ntoken = '<< secret \"pager-key\" >>'\nlevel = 2\n";
const MISREAD: &str = "the secret \"pager-key\" does not stay one value when it contains ";

/// A wrong encoder in a branch that only a template takes: every check of the component succeeds.
#[test]
fn a_version_that_makes_a_document_that_does_not_read_back_is_refused() {
    let guillemet = daemon();
    guillemet.write("pager/urgent.toml", URGENT);
    let component = pager_next("wrong-branch");
    let output = add(&guillemet, &component, &["--yes"]);
    refused(
        &output,
        &[
            "pager/urgent (target env): the document changes; - now, + then\n",
            "pager/urgent (target env): breaks\n",
            "error: this breaks what works now; nothing was changed. Fix the plugin or the templates, or pass --break",
            "\n  pager/urgent:2:10 token: the secret",
            MISREAD,
        ],
    );
    let text = told(&output);
    assert_eq!((text.matches("(target `env`)").count(), text.matches(MISREAD).count()), (1, 1), "{text}");
    assert!(!text.contains("pager/calls (") && !text.contains("canary-value"), "{text}");
    // The component alone looks right, and a client of the API gets the same refusal.
    let file = guillemet.path("next.wasm");
    done(&guillemet.command(&["plugin", "check", file.to_str().unwrap()]), &[]);
    let seen = inspect(&guillemet, &component);
    let broken = &seen["comparison"]["breaks"];
    assert_eq!(broken.as_array().map(Vec::len), Some(1), "{broken}");
    for (field, expected) in [
        ("about", json!("template")),
        ("template", json!("pager/urgent")),
        ("target", json!("env")),
        ("line", json!(2)),
    ] {
        assert_eq!(broken[0][field], expected, "{broken}");
    }
    let answer = confirm(&guillemet, &seen, &json!({}));
    assert_eq!((answer.status, answer.errors("template")), (409, vec!["pager/urgent".into()]), "{}", answer.text());
    assert_eq!(version(&guillemet), "1.2.0");
    // One that is right is added.
    done(&add(&guillemet, &pager_next(""), &["--yes"]), &["added pager\n"]);
    let accepted = "This breaks, and you accept it with --break:\n  pager/urgent:2:";
    done(&add(&guillemet, &component, &["--yes", "--break"]), &[accepted, "added pager\n"]);
    // What is so already is shown and breaks nothing; going back to it would.
    let known = "pager/urgent (target env): cannot be rendered correctly with it\n    pager/urgent:2:10 token: ";
    done(&add(&guillemet, &rebuilt(&component), &["--yes"]), &[known, MISREAD, "added pager\n"]);
    done(&add(&guillemet, &pager_next(""), &["--yes"]), &["pager/urgent (target env): the document changes"]);
    refused(&roll_back(&guillemet, &["pager", "--yes"]), &["nothing was changed", MISREAD]);
}

/// The first plugin of a feature is refused for a template as it is for one of its cases.
#[test]
fn a_first_plugin_whose_documents_do_not_read_back_is_refused() {
    let guillemet = Guillemet::start();
    guillemet.add("pager-key", "canary-value");
    guillemet.write("pager/urgent.toml", URGENT);
    let component = pager_next("wrong-branch");
    refused(&add(&guillemet, &component, &["--yes"]), &["pager/urgent (target env): breaks\n", MISREAD]);
    assert_eq!(plugin(&guillemet, "pager"), Value::Null);
    done(&add(&guillemet, &component, &["--yes", "--break"]), &["added pager\n"]);
}

#[test]
fn the_former_plugin_is_kept_and_comes_back() {
    let mut guillemet = daemon();
    let none = roll_back(&guillemet, &["pager", "--yes"]);
    refused(&none, &["no former plugin of `pager` is kept"]);
    let first = plugin(&guillemet, "pager")["digest"].clone();
    done(&add(&guillemet, &pager_next(""), &["--yes"]), &["is kept: `guillemet plugin rollback pager`\n"]);
    let second = plugin(&guillemet, "pager")["digest"].clone();
    assert_eq!(fs::read(guillemet.path("plugins/pager.former")).unwrap(), pager());
    let shown = told(&guillemet.command(&["plugin", "show", "pager"]));
    assert!(shown.contains(&format!("Former         added 1.2.0, SHA-256 {}\n", first.as_str().unwrap())), "{shown}");
    let former = json!({"source": "added", "version": "1.2.0", "digest": first, "problem": null});
    assert_eq!(plugin(&guillemet, "pager")["former"], former);
    // A restart keeps it, and going back twice is where one was.
    for (expected, other) in [(&first, &second), (&second, &first)] {
        assert!(guillemet.stop());
        guillemet.run();
        done(&roll_back(&guillemet, &["pager", "--yes"]), &["rolled back pager to added 1."]);
        let present = plugin(&guillemet, "pager");
        assert_eq!((&present["digest"], &present["former"]["digest"]), (expected, other));
        assert_eq!(status(&guillemet, "pager/calls"), 200);
    }
    let events = guillemet.get("/v1/usage?outcome=plugin_rolled_back").json();
    let last = &events["items"][0];
    assert_eq!((&last["before"], &last["after"]), (&first, &second), "{events}");
    done(&guillemet.command(&["plugin", "remove", "pager", "--yes"]), &["removed pager"]);
    let left: Vec<_> = fs::read_dir(guillemet.path("plugins")).unwrap().flatten().map(|entry| entry.path()).collect();
    assert_eq!(left, Vec::<std::path::PathBuf>::new());
}

/// A rollback asks the same questions as an addition: what would break, and over the API both digests.
#[test]
fn a_rollback_that_breaks_something_is_refused() {
    let guillemet = daemon();
    done(&add(&guillemet, &pager_next("add-target"), &["--yes"]), &[]);
    let words = "the target `http` is gone: `pager/calls`, `pager/labels` can be rendered for it now\n";
    refused(&roll_back(&guillemet, &["pager", "--yes"]), &["nothing was changed", words]);
    let path = "/v1/plugins/pager/rollback";
    let seen = guillemet.post(path, &json!({})).json();
    let mut body = json!({"confirm": true, "digest": seen["digest"], "replaces": seen["replaces"]["digest"]});
    assert_eq!(guillemet.post(path, &body).errors("message").len(), 1);
    assert_eq!(version(&guillemet), "1.3.0");
    body["break"] = true.into();
    for (field, status) in [("digest", 409), ("replaces", 409), ("", 200)] {
        let mut body = body.clone();
        if !field.is_empty() {
            body[field] = "0".repeat(64).into();
        }
        let answer = guillemet.post(path, &body);
        assert_eq!(answer.status, status, "{field}: {}", answer.text());
    }
    assert_eq!(version(&guillemet), "1.2.0");
    assert_eq!(guillemet.post("/v1/plugins/nothing/rollback", &json!({})).status, 404);
}

#[test]
fn a_former_file_that_was_swapped_does_not_come_back() {
    let mut guillemet = daemon();
    done(&add(&guillemet, &pager_next(""), &["--yes"]), &[]);
    let kept = guillemet.path("plugins/pager.former");
    fs::write(&kept, hostile_in("feature-taken")).unwrap();
    let words = format!("{} has changed since it was kept (SHA-256 ", kept.display());
    for _ in 0..2 {
        refused(&roll_back(&guillemet, &["pager", "--yes"]), &["cannot be brought back", &words]);
        let shown = told(&guillemet.command(&["plugin", "show", "pager"]));
        assert!(shown.contains("cannot be brought back: ") && shown.contains(&words), "{shown}");
        assert_eq!((version(&guillemet), status(&guillemet, "pager/calls")), ("1.3.0".into(), 200));
        assert!(guillemet.stop());
        guillemet.run();
    }
    fs::remove_file(&kept).unwrap();
    refused(&roll_back(&guillemet, &["pager", "--yes"]), &["cannot be brought back", "cannot be read"]);
    fs::write(&kept, pager()).unwrap();
    done(&roll_back(&guillemet, &["pager", "--yes"]), &["rolled back pager to added 1.2.0"]);
}

/// The folder as a crash leaves it: the pin in the vault says which plugin is in force.
#[test]
fn a_crash_between_file_and_pin_leaves_the_old_plugin_and_one_after_the_pin_the_new_one() {
    let mut guillemet = daemon();
    let [present, former, staged] =
        ["wasm", "former", "next"].map(|end| guillemet.path(&format!("plugins/pager.{end}")));
    assert!(guillemet.stop());
    fs::write(&staged, pager_next("")).unwrap();
    guillemet.run();
    assert_eq!((version(&guillemet), status(&guillemet, "pager/calls")), ("1.2.0".into(), 200));
    assert!(!staged.exists() && !former.exists());
    done(&add(&guillemet, &pager_next(""), &["--yes"]), &[]);
    // Pinned, with the files as they were before.
    assert!(guillemet.stop());
    fs::write(&staged, pager_next("")).unwrap();
    fs::write(&present, pager()).unwrap();
    fs::remove_file(&former).unwrap();
    guillemet.run();
    assert_eq!((version(&guillemet), status(&guillemet, "pager/calls")), ("1.3.0".into(), 200));
    assert_eq!((fs::read(&present).unwrap(), fs::read(&former).unwrap()), (pager_next(""), pager().to_vec()));
    assert!(!staged.exists());
    done(&roll_back(&guillemet, &["pager", "--yes"]), &["rolled back pager to added 1.2.0"]);
}
