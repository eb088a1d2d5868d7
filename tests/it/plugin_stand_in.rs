//! A component under development stands in for a plugin of a running daemon, for as long as its author's `plugin dev` is
//! connected and no longer. With the real binary, a real daemon, and a project that is edited.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use crate::support::authors::{Language, Project, environment};
use crate::support::component::{hostile_in, pager, pager_next};
use crate::support::daemon::{Answer, Guillemet, PROGRAM, send, try_ask};
use crate::support::dev::Dev;
use crate::support::listening::Listening;
use crate::support::terminal::Terminal;
use guillemet_testing::wait::{until, until_holds};
use rustix::process::Signal;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const HOOK: &str = "url = 'https://hooks.example'\ntoken = '<< secret \"hook-key\" >>'\n";
const PAGER: &str = "url = 'https://pager.example'\ntoken = '<< secret \"pager-key\" >>'\n";

/// A project in C, a daemon with its first build as the added plugin, and the home directory of an author.
fn project() -> Option<(Project, Guillemet, tempfile::TempDir)> {
    let project = Project::new(Language::C, "call-events")?;
    let built = project.guillemet(&["plugin", "build"]);
    assert!(built.status.success(), "{}", built.text);
    let guillemet = Guillemet::start();
    guillemet.add("hook-key", "canary-value");
    guillemet.write("call-events/hook.toml", HOOK);
    let component = project.path("call-events.wasm");
    let added = guillemet.command(&["plugin", "add", component.to_str().unwrap(), "--yes"]);
    assert!(added.status.success(), "{added:?}");
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("tmp")).unwrap();
    Some((project, guillemet, home))
}

fn stand_in(project: &Project, guillemet: &Guillemet, home: &tempfile::TempDir) -> Dev {
    Dev::start_beside(Some(&guillemet.path("")), project, home.path(), &["--stand-in", "--yes"])
}

fn hook(guillemet: &Guillemet) -> String {
    guillemet.get("/v1/render/call-events/hook").text()
}

fn told(guillemet: &Guillemet, arguments: &[&str]) -> String {
    let output = guillemet.command(arguments);
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The changes of plugins in the audit trail, the oldest first: the outcome, and whether there was something before and
/// after it.
fn trail(guillemet: &Guillemet) -> Vec<Value> {
    let mut items = guillemet.get("/v1/usage?class=change").json()["items"].as_array().unwrap().clone();
    items.retain(|item| item["outcome"].as_str().unwrap().starts_with("plugin_"));
    items.reverse();
    items
}

fn outcomes(guillemet: &Guillemet) -> Vec<String> {
    trail(guillemet).iter().map(|event| event["outcome"].as_str().unwrap().to_owned()).collect()
}

/// The files of added plugins, with their bytes.
fn kept(guillemet: &Guillemet) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(guillemet.path("plugins")).into_iter().flatten().flatten();
    let mut files: Vec<_> =
        entries.map(|entry| entry.path()).map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    files.sort();
    files
}

#[test]
fn each_good_build_is_rendered_until_dev_ends() {
    let Some((project, guillemet, home)) = project() else { return };
    let (before, files) = (guillemet.get("/v1/render/call-events/hook"), kept(&guillemet));
    assert!(before.text().contains("\"POST\""), "{}", before.text());
    let broken_call = "json_text(*target == 'j' ? GIVE_UP(\"not yet\"), \"\" : \"\")";
    for signal in [Signal::INT, Signal::KILL] {
        let mut dev = stand_in(&project, &guillemet, &home);
        let first = dev.round();
        for line in [
            "Feature        call-events\n",
            "Stands in for  the added plugin 0.1.0\n",
            "Templates      call-events/hook\n",
            "The component decides where their secrets go.",
            "daemon   uses this build for `call-events`\n",
        ] {
            assert!(first.contains(line), "{line}: {first}");
        }
        assert_eq!(first.matches("built call-events.wasm").count(), 1, "{first}");

        let mut events = Listening::to(&guillemet);
        project.change("plugin.c", "json_text(\"POST\")", "json_text(\"PUT\")");
        let second = dev.round();
        assert!(second.contains("daemon   uses this build for `call-events`\n"), "{second}");
        assert_eq!(events.next(), ("template".into(), json!({"id": "call-events/hook", "change": "changed"})));
        let changed = guillemet.get("/v1/render/call-events/hook");
        assert!(changed.text().contains("\"PUT\"") && changed.text().contains("canary-value"), "{}", changed.text());
        assert_ne!(changed.headers["etag"], before.headers["etag"]);

        // A build that fails is not given, and neither is a component whose check has an error.
        project.change("plugin.c", "json_text(\"PUT\")", "json_text(\"PUT\"");
        assert!(dev.round().contains("error: the build failed; see above"));
        assert!(hook(&guillemet).contains("\"PUT\""));
        project.change("plugin.c", "json_text(\"PUT\"", broken_call);
        let broken = dev.round();
        assert!(broken.contains("daemon   still uses the last good build for `call-events`\n"), "{broken}");
        assert!(hook(&guillemet).contains("\"PUT\""));

        dev.ends_by(signal);
        until_holds("the added plugin renders again", || hook(&guillemet) == before.text());
        assert_eq!(guillemet.get("/v1/render/call-events/hook").headers["etag"], before.headers["etag"]);
        assert_eq!(kept(&guillemet), files);
        project.change("plugin.c", broken_call, "json_text(\"POST\")");
    }
    let all = ["plugin_added", "plugin_stand_in_started", "plugin_stand_in_started", "plugin_stand_in_ended"];
    let all = [&all[..], &all[1..]].concat();
    until_holds("both ends are recorded", || outcomes(&guillemet).len() == all.len());
    let trail = trail(&guillemet);
    assert_eq!(outcomes(&guillemet), all);
    assert_eq!((&trail[2]["before"], &trail[2]["after"]), (&trail[1]["after"], &trail[3]["before"]));
    assert_eq!((&trail[3]["after"], &trail[3]["subject"]), (&trail[0]["after"], &json!("call-events")), "{trail:?}");
}

#[test]
fn everybody_sees_it_and_the_plugin_cannot_be_changed_meanwhile() {
    let Some((project, mut guillemet, home)) = project() else { return };
    let before = hook(&guillemet);
    project.change("plugin.c", "json_text(\"POST\")", "json_text(\"PUT\")");
    let mut dev = stand_in(&project, &guillemet, &home);
    assert!(dev.round().contains("daemon   uses this build for `call-events`\n"));
    let status = told(&guillemet, &["status"]);
    assert!(status.contains("stands in for the plugin of `call-events` since 20"), "{status}");
    let listed = told(&guillemet, &["plugin", "list"]);
    assert!(listed.contains("stand-in for the added one since 20"), "{listed}");
    assert!(listed.contains("a component under development stands in for the plugin of call-events\n"), "{listed}");
    let shown = told(&guillemet, &["plugin", "show", "call-events"]);
    assert!(shown.contains("Source         stand-in for the added one since 20"), "{shown}");

    let component = project.path("call-events.wasm");
    for change in [
        &["plugin", "add", component.to_str().unwrap(), "--yes"][..],
        &["plugin", "rollback", "call-events", "--yes"],
        &["plugin", "remove", "call-events", "--yes"],
    ] {
        let refused = guillemet.command(change);
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{change:?}: {text}");
        assert!(text.contains("stop `guillemet plugin dev --stand-in` first"), "{change:?}: {text}");
    }
    assert_eq!(guillemet.ask("DELETE", "/v1/plugins/call-events", &[], b"").status, 409);

    // Nothing of it survives the daemon, and `dev` says so; the next save gives the build again.
    assert!(guillemet.stop());
    dev.until("daemon   no longer uses this build for `call-events`: the daemon stopped");
    guillemet.run();
    assert_eq!(hook(&guillemet), before);
    assert!(!told(&guillemet, &["status"]).contains("stands in"));
    project.change("template.toml", "events", "evnts");
    assert!(dev.round().contains("daemon   uses this build for `call-events`\n"));
    assert!(hook(&guillemet).contains("\"PUT\""));
    // Not even if the daemon is killed.
    guillemet.kill();
    guillemet.run();
    assert_eq!(hook(&guillemet), before);
    assert_eq!(dev.interrupt(), Some(0));
}

#[test]
fn it_asks_once_and_nothing_happens_without_a_yes() {
    let Some((project, guillemet, _home)) = project() else { return };
    let folder = project.path("");
    let arguments = ["plugin", "dev", folder.to_str().unwrap(), "--stand-in"];
    // Compilers keep what they have made where the other tests do.
    let environment = environment().into_iter().map(|(name, value)| format!("{name}={}", value.display()));
    let program = environment.chain([PROGRAM.to_owned()]).collect::<Vec<_>>();
    let words: Vec<&str> = program.iter().map(String::as_str).chain(arguments).collect();
    let without = guillemet.command(&arguments);
    let text = String::from_utf8_lossy(&without.stderr).into_owned();
    assert!(text.contains("there is no terminal") && text.contains("--yes"), "{text}");
    let mut terminal = Terminal::run_other(&guillemet.path(""), "env", &words);
    terminal.expect("Let this project stand in for `call-events`? [y/N] ");
    terminal.types("n\r");
    assert_eq!(terminal.ends().code(), Some(1));
    assert_eq!(outcomes(&guillemet), ["plugin_added"]);
    let mut terminal = Terminal::run_other(&guillemet.path(""), "env", &words);
    terminal.expect("[y/N] ");
    terminal.types("y\r");
    terminal.expect("daemon   uses this build for `call-events`");
    project.change("plugin.c", "json_text(\"POST\")", "json_text(\"PUT\")");
    terminal.expect("daemon   uses this build for `call-events`");
    assert!(hook(&guillemet).contains("\"PUT\""));
    terminal.types("\x03");
    assert_eq!(terminal.ends().code(), Some(0));
}

/// The stand-in of a component over the API.
struct Lease(BufReader<UnixStream>);

impl Lease {
    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        while self.0.read_line(&mut line).unwrap() > 0 {
            if let Some(data) = line.strip_prefix("data: ") {
                return Some(serde_json::from_str(data).unwrap());
            }
            line.clear();
        }
        None
    }
}

fn body(guillemet: &Guillemet, name: &str, component: &[u8]) -> Value {
    let file = guillemet.path(name);
    fs::write(&file, component).unwrap();
    json!({"file": file, "digest": data_encoding::HEXLOWER.encode(&Sha256::digest(component))})
}

fn path(feature: &str) -> String {
    format!("/v1/plugins/{feature}/stand-in")
}

fn lease(guillemet: &Guillemet, body: &Value) -> Lease {
    let socket = guillemet.path("run/guillemet.sock");
    let stream = send(&socket, "POST", &path("pager"), &[], body.to_string().as_bytes()).unwrap();
    let mut lease = Lease(BufReader::new(stream));
    let started = lease.next().expect("it starts");
    assert_eq!(started, json!({"state": "started", "feature": "pager", "digest": body["digest"]}));
    lease
}

fn render(guillemet: &Guillemet) -> Answer {
    guillemet.get("/v1/render/pager/calls")
}

#[test]
fn the_connection_is_the_lease_and_the_next_one_takes_its_place() {
    let guillemet = Guillemet::start();
    guillemet.add("pager-key", "canary-value");
    guillemet.write("pager/calls.toml", PAGER);
    // A feature without a plugin gets one for as long as the connection lasts.
    assert_eq!(render(&guillemet).status, 502, "{}", render(&guillemet).text());
    let first = body(&guillemet, "first.wasm", pager());
    let mut former = lease(&guillemet, &first);
    assert_eq!(render(&guillemet).status, 200, "{}", render(&guillemet).text());
    let second = body(&guillemet, "second.wasm", &pager_next(""));
    let mut present = lease(&guillemet, &second);
    assert_eq!(former.next(), Some(json!({"state": "ended", "reason": "replaced"})));
    assert_eq!(former.next(), None);
    let plugin = || {
        let plugins = guillemet.get("/v1/plugins").json();
        plugins["items"].as_array().unwrap().iter().find(|plugin| plugin["feature"] == "pager").cloned()
    };
    let seen = plugin().unwrap();
    assert_eq!(
        (&seen["digest"], &seen["source"], &seen["replaces"]),
        (&second["digest"], &json!("stand-in"), &Value::Null)
    );
    assert!(seen["stands_in_since"].is_string(), "{seen}");
    // A refusal changes nothing: not the contract's, not one of another feature, not one of other bytes.
    for (body, status, words) in [
        (body(&guillemet, "bad.wasm", b"not a component"), 422, "cannot stand in"),
        (body(&guillemet, "other.wasm", &hostile_in("")), 422, "not for `pager`"),
        (json!({"file": first["file"], "digest": "0".repeat(64)}), 409, "changed after it was confirmed"),
        (json!({"file": "first.wasm", "digest": "0"}), 422, "absolute path"),
        (json!({"file": "/nowhere/x.wasm", "digest": "0"}), 404, "/nowhere/x.wasm"),
    ] {
        let socket = guillemet.path("run/guillemet.sock");
        let answer = try_ask(&socket, "POST", &path("pager"), &[], body.to_string().as_bytes()).unwrap();
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.text().contains(words), "{words}: {}", answer.text());
    }
    assert_eq!(plugin().unwrap()["digest"], second["digest"]);
    drop(former);
    assert_eq!(render(&guillemet).status, 200);
    let stopped = present.0.get_ref().shutdown(std::net::Shutdown::Both);
    stopped.unwrap();
    until("there is no plugin again", || plugin().is_none().then_some(()));
    until_holds("nothing renders", || render(&guillemet).status == 502);
    assert_eq!(present.next(), None);
    assert_eq!(kept(&guillemet), []);
    // A built-in plugin is stood in for under its own name only.
    let built_in = guillemet.post(&path("mcp-server"), &first);
    assert_eq!(built_in.status, 422, "{}", built_in.text());
}

#[test]
fn a_caller_that_goes_away_while_its_component_compiles_leaves_nothing_behind() {
    let guillemet = Guillemet::start();
    guillemet.write("pager/calls.toml", PAGER);
    let socket = guillemet.path("run/guillemet.sock");
    let first = body(&guillemet, "first.wasm", pager());
    for _ in 0..3 {
        drop(send(&socket, "POST", &path("pager"), &[], first.to_string().as_bytes()).unwrap());
    }
    // One that stays comes after them, and is the only one whose end is awaited.
    drop(lease(&guillemet, &first));
    until_holds("no component stands in", || {
        !guillemet.get("/v1/status").json()["warnings"].to_string().contains("stands in")
    });
}
