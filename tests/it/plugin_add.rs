//! `plugin add`, `list`, `show` and `remove`, which decide who is trusted with the secrets of a feature's templates.
//! With the real binary and a real daemon.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::component::{hostile_in, pager};
use crate::support::daemon::{Guillemet, PROGRAM};
use guillemet_testing::missing;
use serde_json::{Value, json};

const TEMPLATE: &str = "url = 'https://pager.example'\ntoken = '<< secret \"pager-key\" >>'\n";

fn daemon() -> Guillemet {
    let guillemet = Guillemet::start();
    guillemet.add("pager-key", "canary-value");
    guillemet.write("pager/calls.toml", TEMPLATE);
    fs::write(guillemet.path("pager.wasm"), pager()).unwrap();
    guillemet
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn add(guillemet: &Guillemet, arguments: &[&str]) -> Output {
    let file = guillemet.path("pager.wasm");
    guillemet.command(&[&["plugin", "add", file.to_str().unwrap()], arguments].concat())
}

fn plugin(guillemet: &Guillemet, feature: &str) -> Value {
    let plugins = guillemet.get("/v1/plugins").json();
    plugins["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|plugin| plugin["feature"] == *feature)
        .cloned()
        .unwrap_or_default()
}

/// Returns the same component with one more section, as if it had been built again.
fn changed(component: &[u8]) -> Vec<u8> {
    [component, &[0, 2, 1, b'x']].concat()
}

#[test]
fn a_plugin_is_shown_then_trusted_then_used() {
    let guillemet = daemon();
    let output = add(&guillemet, &[]);
    let text = told(&output);
    assert_eq!(output.status.code(), Some(1), "nobody said yes");
    for words in [
        "Pager 1.2.0\n",
        "Feature        pager\n",
        "Targets        json (HTTP), env (Environment)\n",
        "Secret fields  url, token, labels.*\n",
        "SHA-256        ",
        "you trust its author with the secrets of its templates (pager/calls): the plugin decides where they go",
        "nothing was changed. Pass --yes",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    assert_eq!(plugin(&guillemet, "pager"), Value::Null);
    assert!(add(&guillemet, &["--yes"]).status.success());
    assert!(guillemet.get("/v1/render/pager/calls").text().contains("canary-value"));
    let shown = told(&guillemet.command(&["plugin", "show", "pager"]));
    assert!(shown.contains("Source         added\n"), "{shown}");
    let schema: Value =
        serde_json::from_slice(&guillemet.command(&["plugin", "show", "pager", "--schema"]).stdout).unwrap();
    assert_eq!(schema["properties"]["token"]["type"], "string");
    assert_eq!(schema["properties"]["targets"]["items"]["enum"], serde_json::json!(["json", "env"]));
    // Adding the same file again changes and replaces nothing.
    let again = add(&guillemet, &["--yes"]);
    assert!(again.status.success() && !told(&again).contains("It replaces"), "{}", told(&again));
}

#[test]
fn a_path_is_taken_from_where_the_command_runs() {
    let guillemet = daemon();
    let output = Command::new(PROGRAM)
        .arg("--home")
        .arg(guillemet.dir.path())
        .args(["plugin", "add", "../pager.wasm", "--yes"])
        .current_dir(guillemet.path("templates"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", told(&output));
    let absent = guillemet.command(&["plugin", "add", "absent.wasm"]);
    assert!(told(&absent).contains("absent.wasm cannot be read: No such file"), "{}", told(&absent));
    let folder = guillemet.command(&["plugin", "add", guillemet.dir.path().to_str().unwrap()]);
    assert!(told(&folder).contains("is not a plugin: it must be a file of at most"), "{}", told(&folder));
}

#[test]
fn another_plugin_is_replaced_only_by_a_yes_that_names_it() {
    let guillemet = daemon();
    assert!(add(&guillemet, &["--yes"]).status.success());
    let former = plugin(&guillemet, "pager")["digest"].as_str().unwrap().to_owned();
    fs::write(guillemet.path("pager.wasm"), changed(pager())).unwrap();
    let output = add(&guillemet, &[]);
    let place = format!("It replaces the added plugin 1.2.0, SHA-256 {former}.\n");
    assert!(output.status.code() == Some(1) && told(&output).contains(&place), "{}", told(&output));

    // Over the API, a confirmation has to name exactly what was looked at and what it replaces.
    let file = guillemet.path("pager.wasm");
    let seen = guillemet.post("/v1/plugins", &json!({"file": file})).json();
    assert_eq!(seen["replaces"], json!({"source": "added", "version": "1.2.0", "digest": former}));
    let other = "0".repeat(64);
    for replaces in [Value::Null, other.into(), seen["digest"].clone()] {
        let body = json!({"file": file, "confirm": true, "digest": seen["digest"], "replaces": replaces});
        let answer = guillemet.post("/v1/plugins", &body);
        assert_eq!((answer.status, answer.json()["code"].as_str()), (409, Some("conflict")), "{}", answer.text());
        assert!(answer.text().contains(&former), "{}", answer.text());
    }
    assert_eq!(plugin(&guillemet, "pager")["digest"], former.as_str());
    assert!(add(&guillemet, &["--yes"]).status.success());
    assert_ne!(plugin(&guillemet, "pager")["digest"], former.as_str());
}

/// Between the look and the confirmation, anybody who can write the file can replace the plugin.
#[test]
fn a_yes_to_another_digest_than_that_of_the_file_adds_nothing() {
    let guillemet = daemon();
    let file = guillemet.path("pager.wasm");
    let seen = guillemet.post("/v1/plugins", &json!({"file": file})).json();
    let swapped = changed(pager());
    fs::write(&file, &swapped).unwrap();
    let now = guillemet.post("/v1/plugins", &json!({"file": file})).json()["digest"].clone();
    assert_ne!(seen["digest"], now);
    let body = |digest: &Value| json!({"file": file, "confirm": true, "digest": digest});
    for other in [&seen["digest"], &Value::from("0".repeat(64)), &Value::from("")] {
        let answer = guillemet.post("/v1/plugins", &body(other));
        assert_eq!((answer.status, answer.json()["code"].as_str()), (409, Some("conflict")), "{}", answer.text());
        let words = format!("the file changed after it was confirmed: its SHA-256 is now {}", now.as_str().unwrap());
        assert!(answer.text().contains(&words), "{}", answer.text());
        assert_eq!(plugin(&guillemet, "pager"), Value::Null);
        assert!(!guillemet.path("plugins/pager.wasm").exists());
    }
    assert_eq!(guillemet.post("/v1/plugins", &json!({"file": file, "confirm": true})).status, 422);
    assert_eq!(guillemet.post("/v1/plugins", &body(&now)).status, 201);
    assert_eq!(fs::read(guillemet.path("plugins/pager.wasm")).unwrap(), swapped);
}

#[test]
fn a_built_in_plugin_can_be_replaced_and_comes_back() {
    let guillemet = daemon();
    let builtin = plugin(&guillemet, "mcp-server");
    fs::write(guillemet.path("pager.wasm"), hostile_in("feature-taken")).unwrap();
    let text = told(&add(&guillemet, &[]));
    let version = builtin["version"].as_str().unwrap();
    let place =
        format!("It replaces the built-in plugin {version}, SHA-256 {}.\n", builtin["digest"].as_str().unwrap());
    assert!(text.contains(&place), "{text}");
    assert!(!add(&guillemet, &["--yes", "--break"]).status.success(), "it was not named");
    let replaced = add(&guillemet, &["--yes", "--replace", "mcp-server", "--break"]);
    assert!(replaced.status.success(), "{}", told(&replaced));
    let listed = told(&guillemet.command(&["plugin", "list"]));
    assert!(listed.contains("mcp-server\t1.0.0\tadded, replaces the built-in one\tok\t"), "{listed}");
    let removed = guillemet.command(&["plugin", "remove", "mcp-server", "--yes"]);
    assert!(told(&removed).contains("The built-in plugin is used again.\n"), "{}", told(&removed));
    assert_eq!(plugin(&guillemet, "mcp-server"), builtin);
    let nothing = guillemet.command(&["plugin", "remove", "mcp-server", "--yes"]);
    assert!(nothing.status.code() == Some(1) && told(&nothing).contains("is built in"), "{}", told(&nothing));
}

#[test]
fn what_is_removed_is_named_with_the_templates_that_need_it() {
    let guillemet = daemon();
    assert!(add(&guillemet, &["--yes"]).status.success());
    let output = guillemet.command(&["plugin", "remove", "pager"]);
    let text = told(&output);
    assert!(
        output.status.code() == Some(1)
            && text.contains("Without it, these templates cannot be rendered: pager/calls."),
        "{text}"
    );
    assert_eq!(guillemet.get("/v1/render/pager/calls").status, 200);
    assert!(guillemet.command(&["plugin", "remove", "pager", "--yes"]).status.success());
    assert_eq!(guillemet.get("/v1/render/pager/calls").status, 502);
    assert!(!guillemet.path("plugins/pager.wasm").exists());
    let again = guillemet.command(&["plugin", "remove", "pager", "--yes"]);
    assert!(
        again.status.code() == Some(1) && told(&again).contains("there is no plugin for `pager`"),
        "{}",
        told(&again)
    );
}

/// Waits until a render answers with this status, and returns the text of the answer.
fn comes(guillemet: &Guillemet, status: u16) -> String {
    let begun = Instant::now();
    loop {
        let answer = guillemet.get("/v1/render/pager/calls");
        if answer.status == status {
            return answer.text();
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", answer.text());
    }
}

#[test]
fn a_file_that_has_changed_is_refused_until_it_is_added_again() {
    let mut guillemet = daemon();
    assert!(add(&guillemet, &["--yes"]).status.success());
    assert_eq!(guillemet.get("/v1/render/pager/calls").status, 200);
    assert_eq!(guillemet.get("/v1/status").json()["warnings"], json!([]));
    let place = guillemet.path("plugins/pager.wasm");
    fs::write(&place, changed(pager())).unwrap();
    let words = format!("{} has changed since it was added (SHA-256 ", place.display());
    let command = format!("run `guillemet plugin add {}`", place.display());
    let refused = comes(&guillemet, 502);
    assert!(refused.contains(&words) && refused.contains(&command), "{refused}");
    let warnings = guillemet.get("/v1/status").json()["warnings"].to_string();
    assert!(warnings.contains("plugin `pager`: ") && warnings.contains(&words), "{warnings}");
    // A daemon that starts later reports the same, and earlier additions need no new confirmation.
    assert!(guillemet.stop());
    guillemet.run();
    assert_eq!(comes(&guillemet, 502), refused);
    fs::write(&place, pager()).unwrap();
    comes(&guillemet, 200);
    fs::write(&place, changed(pager())).unwrap();
    // A listing checks the file at once.
    for arguments in [&["plugin", "list"][..], &["plugin", "show", "pager"]] {
        let text = told(&guillemet.command(arguments));
        assert!(text.to_lowercase().contains("refused") && text.contains(&words), "{text}");
    }
    assert_eq!(guillemet.get("/v1/render/pager/calls").status, 502);
    assert!(guillemet.command(&["plugin", "add", place.to_str().unwrap(), "--yes"]).status.success());
    assert_eq!(guillemet.get("/v1/render/pager/calls").status, 200);
    assert_eq!(plugin(&guillemet, "pager")["status"], "ok");
    // The file is removed.
    fs::remove_file(&place).unwrap();
    let text = comes(&guillemet, 502);
    assert!(text.contains("add it again, or remove it with `guillemet plugin remove pager`"), "{text}");
    assert!(guillemet.stop());
    guillemet.run();
    assert_eq!(comes(&guillemet, 502), text);
}

/// If the reason was not the file itself, nothing about the file changes once the reason has gone.
#[test]
fn a_file_that_could_not_be_read_for_a_while_is_used_again() {
    let guillemet = daemon();
    assert!(add(&guillemet, &["--yes"]).status.success());
    let pid = guillemet.pid().to_string();
    let limit = |files: &str| {
        let set = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={files}:")]).status().unwrap();
        assert!(set.success());
    };
    let files = Command::new("prlimit").args(["--pid", &pid, "--nofile", "--output=SOFT", "--noheadings"]).output();
    let files = String::from_utf8(files.unwrap().stdout).unwrap();
    limit("0");
    // The daemon looks at it because it was written again, and cannot read it.
    fs::write(guillemet.path("plugins/pager.wasm"), pager()).unwrap();
    let begun = Instant::now();
    while !guillemet.log().contains("a plugin is refused") {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", guillemet.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    limit(files.trim());
    comes(&guillemet, 200);
}

/// The daemon runs as another user than the command, and the message says who cannot read the file.
#[test]
fn a_file_that_the_daemon_cannot_read_is_told_as_that() {
    if !missing::is_root("run the daemon as another user") {
        return;
    }
    let mut guillemet = Guillemet::init();
    let owned = Command::new("chown").arg("-R").arg("nobody:nogroup").arg(guillemet.dir.path()).status().unwrap();
    assert!(owned.success());
    let config = fs::read_to_string(guillemet.path("guillemet.toml")).unwrap();
    fs::write(guillemet.path("guillemet.toml"), config + "\n[[client]]\nuid = \"root\"\nadmin = true\n").unwrap();
    let nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"].map(String::from);
    let started = guillemet.try_run(&nobody);
    assert!(started, "{}", guillemet.log());
    let file = guillemet.path("private.wasm");
    fs::write(&file, pager()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let output = guillemet.command(&["plugin", "add", file.to_str().unwrap(), "--yes"]);
    let text = told(&output);
    let words =
        "you can read this file, but the daemon, which runs as nobody, cannot: copy it to a place the daemon can read";
    assert!(output.status.code() == Some(1) && text.contains(words) && text.contains("Permission denied"), "{text}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let output = guillemet.command(&["plugin", "add", file.to_str().unwrap(), "--yes"]);
    assert!(output.status.success(), "{}", told(&output));
}
