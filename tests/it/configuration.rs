//! `guillemet.toml` while the daemon runs: it is followed like templates, and a file that cannot be used changes
//! nothing and is reported until it can.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::process::Output;

use crate::support::browser::{Browser, SECRETS};
use crate::support::daemon::{Guillemet, receive};
use crate::support::listening::Listening;
use guillemet_testing::wait::{PATIENCE, until};
use serde_json::{Value, json};

/// A template that shows a variable.
const TEMPLATE: &str = "name = \"calendar\"\nurl = \"https://<< vars.host >>/mcp\"\n";
const RENDER: &str = "/v1/render/mcp-server/calendar";

fn write(guillemet: &Guillemet, text: &str) {
    fs::write(guillemet.path("guillemet.toml"), text).unwrap();
}

/// Replaces the file by another one, as editors do.
fn replace(guillemet: &Guillemet, text: &str) {
    let other = guillemet.path("guillemet.toml~");
    fs::write(&other, text).unwrap();
    fs::rename(other, guillemet.path("guillemet.toml")).unwrap();
}

fn status(guillemet: &Guillemet) -> Value {
    guillemet.get("/v1/status").json()
}

/// Reports whether the daemon says that the file is in force.
fn is_valid(guillemet: &Guillemet) -> bool {
    let metrics = guillemet.get("/metrics").text();
    let of_metrics = metrics.contains("\nguillemet_config_valid 1.0\n");
    assert!(of_metrics || metrics.contains("\nguillemet_config_valid 0.0\n"), "{metrics}");
    of_metrics
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Makes a home with the template and a host for it.
fn home() -> Guillemet {
    let guillemet = Guillemet::init();
    write(&guillemet, "[vars]\nhost = 'first.example'\n");
    guillemet.write("mcp-server/calendar.toml", TEMPLATE);
    guillemet
}

fn running() -> Guillemet {
    let mut guillemet = home();
    guillemet.run();
    guillemet
}

/// Waits until a render shows this host.
fn shows(guillemet: &Guillemet, host: &str) {
    until(host, || guillemet.get(RENDER).text().contains(host).then_some(()));
}

#[test]
fn a_variable_that_was_just_added_is_there_for_check_and_render_alike() {
    let guillemet = running();
    write(&guillemet, "[vars]\n");
    until("without the variable", || (guillemet.get(RENDER).status == 422).then_some(()));
    for round in 0..5 {
        replace(&guillemet, "[vars]\n");
        assert!(guillemet.command(&["reload"]).status.success());
        assert_eq!(guillemet.get(RENDER).status, 422);
        // No command is called, and nothing is waited for.
        replace(&guillemet, &format!("[vars]\nhost = 'host-{round}.example'\n"));
        let checked = guillemet.command(&["template", "check", "mcp-server/calendar"]);
        assert!(checked.status.success(), "{}", told(&checked));
        let rendered = guillemet.get(RENDER);
        assert_eq!(rendered.status, 200, "{}", rendered.text());
        assert!(rendered.text().contains(&format!("host-{round}.example")), "{}", rendered.text());
    }
}

#[test]
fn every_way_to_change_the_file_is_followed() {
    let guillemet = running();
    shows(&guillemet, "first.example");
    let host = |host: &str| format!("[vars]\nhost = '{host}.example'\n");
    write(&guillemet, &host("in-place"));
    shows(&guillemet, "in-place.example");
    replace(&guillemet, &host("renamed"));
    shows(&guillemet, "renamed.example");
    // Kubernetes mounts a ConfigMap like this: the file is a link through a folder that is a link.
    let file = guillemet.path("guillemet.toml");
    for version in ["one", "two"] {
        fs::create_dir(guillemet.path(version)).unwrap();
        fs::write(guillemet.path(version).join("guillemet.toml"), host(version)).unwrap();
    }
    symlink("one", guillemet.path("..data")).unwrap();
    fs::remove_file(&file).unwrap();
    symlink("..data/guillemet.toml", &file).unwrap();
    shows(&guillemet, "one.example");
    symlink("two", guillemet.path("..next")).unwrap();
    fs::rename(guillemet.path("..next"), guillemet.path("..data")).unwrap();
    shows(&guillemet, "two.example");
    // The file is edited behind the link, where the kernel reports no event.
    fs::write(guillemet.path("two/guillemet.toml"), host("edited")).unwrap();
    shows(&guillemet, "edited.example");
    assert!(is_valid(&guillemet));
}

#[test]
fn a_mistake_changes_nothing_and_is_shown_with_its_line_until_it_is_corrected() {
    const BROKEN: &str = "[vars]\nhost = 'second.example'\ntoken = canary-value\n";
    let guillemet = running();
    shows(&guillemet, "first.example");
    let before = status(&guillemet)["configuration"].clone();
    assert_eq!((&before["valid"], &before["problems"]), (&json!(true), &json!([])));
    assert!(is_valid(&guillemet));
    let browser = Browser::open(&guillemet);
    assert!(!browser.get(SECRETS).text().contains("The configuration has a mistake"));

    write(&guillemet, BROKEN);
    let after = until("the mistake is not shown", || {
        Some(status(&guillemet)).filter(|status| status["configuration"]["valid"] == false)
    });
    assert_eq!(after["configuration"]["problems"][0]["line"], 3, "{after}");
    assert!(after["configuration"]["problems"][0]["column"].is_u64(), "{after}");
    for same in ["digest", "loaded_at"] {
        assert_eq!(after["configuration"][same], before[same]);
    }
    let place = format!("{}:3:", guillemet.path("guillemet.toml").display());
    assert!(after["warnings"].to_string().contains(&place), "{after}");
    assert!(!is_valid(&guillemet));
    let page = browser.get(SECRETS).text();
    assert!(page.contains("The configuration has a mistake") && page.contains(&place), "{page}");
    assert!(guillemet.get(RENDER).text().contains("first.example"));

    // Both commands that read the file report it.
    let checked = guillemet.command(&["template", "check"]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(told(&checked).contains(&place) && told(&checked).contains("keeps using"), "{}", told(&checked));
    guillemet.write("mcp-server/other.toml", &TEMPLATE.replace("vars.host", "vars.other"));
    let refused = guillemet.command(&["render", "mcp-server/other"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(told(&refused).contains(&place), "{}", told(&refused));
    let reloaded = guillemet.command(&["reload"]);
    assert_eq!(reloaded.status.code(), Some(1));
    assert!(told(&reloaded).contains(&place), "{}", told(&reloaded));
    let shown = told(&guillemet.command(&["status"]));
    assert!(shown.contains(&place) && shown.contains("configuration"), "{shown}");
    // No value of the file is shown anywhere.
    let all = [after.to_string(), page, told(&checked), told(&refused), told(&reloaded), shown, guillemet.log()];
    assert!(!all.iter().any(|text| text.contains("canary-value")), "{all:#?}");
    assert!(guillemet.log().contains(&place), "{}", guillemet.log());
    // After a restart the daemon reads the same file and reports the same.
    replace(&guillemet, "[vars]\nhost = 'third.example'\n");
    shows(&guillemet, "third.example");
    let after = status(&guillemet);
    assert_eq!((&after["configuration"]["valid"], &after["warnings"]), (&json!(true), &json!([])));
    assert_ne!(after["configuration"]["digest"], before["digest"]);
    assert!(is_valid(&guillemet));
    assert!(!browser.get(SECRETS).text().contains("The configuration has a mistake"));
}

#[test]
fn every_mistake_is_told_at_once() {
    let guillemet = running();
    write(&guillemet, "[limits]\nconnections = 0\nidle_seconds = 'x'\n[[client]]\ntemplates = ['x']\n[vras]\n");
    let refused = guillemet.post("/v1/reload", &json!({}));
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert_eq!(refused.json()["code"], "validation_error");
    let places: Vec<(u64, String)> = refused.json()["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| (error["line"].as_u64().unwrap(), error["field"].as_str().unwrap().to_owned()))
        .collect();
    let expected = [
        (2, "limits.connections"),
        (3, "limits.idle_seconds"),
        (4, "client[1].uid"),
        (5, "client[1].templates"),
        (6, "vras"),
    ];
    assert_eq!(places, expected.map(|(line, field)| (line, field.to_owned())));
    let reloaded = guillemet.command(&["reload"]);
    let file = guillemet.path("guillemet.toml").display().to_string();
    for (line, field) in expected {
        let begin = format!("{file}:{line}:");
        let told = told(&reloaded);
        assert!(told.lines().any(|line| line.contains(&begin) && line.contains(field)), "{begin} {field}: {told}");
    }
    // A daemon that starts with the file reports the same.
    let mut guillemet = guillemet;
    assert!(guillemet.stop());
    assert!(!guillemet.try_run(&[]));
    for (line, _) in expected {
        assert!(guillemet.log().contains(&format!("{file}:{line}:")), "{}", guillemet.log());
    }
}

#[test]
fn a_reload_is_acknowledged_when_it_is_in_force() {
    let guillemet = running();
    for round in 0..10 {
        let host = format!("round-{round}.example");
        write(&guillemet, &format!("[vars]\nhost = '{host}'\n[limits]\nidle_seconds = {}\n", round + 1));
        let reloaded = guillemet.post("/v1/reload", &json!({}));
        assert_eq!(reloaded.status, 200, "{}", reloaded.text());
        let changed = reloaded.json()["changed"].clone();
        // The daemon follows the file too, and may have loaded it first.
        assert!(changed == json!(["vars", "limits.idle_seconds"]) || changed == json!([]), "{changed}");
        let rendered = guillemet.get(RENDER).text();
        assert!(rendered.contains(&host), "{rendered}");
    }
    let said = told(&guillemet.command(&["reload"]));
    assert_eq!(said, "reloaded; nothing changed\n");
}

#[test]
fn a_key_that_is_read_at_the_start_is_said_to_need_a_restart() {
    let mut guillemet = running();
    write(&guillemet, "[vars]\nhost = 'second.example'\n[limits]\nconnections = 100\n[api]\ngroup = 4294967\n");
    let said = told(&guillemet.command(&["reload"]));
    assert!(said.contains("limits.connections, api.group") && said.contains("restart"), "{said}");
    let shown = status(&guillemet);
    assert_eq!(shown["configuration"]["needs_restart"], json!(["limits.connections", "api.group"]));
    assert!(shown["warnings"].to_string().contains("limits.connections, api.group changed"), "{shown}");
    // Settings that need no restart are in force.
    assert!(guillemet.get(RENDER).text().contains("second.example"));
    // After the file is restored, no restart is needed.
    write(&guillemet, "[vars]\nhost = 'second.example'\n");
    assert!(guillemet.command(&["reload"]).status.success());
    assert_eq!(status(&guillemet)["configuration"]["needs_restart"], json!([]));
    write(&guillemet, "[vars]\nhost = 'second.example'\n[limits]\nconnections = 100\n");
    assert!(guillemet.stop());
    guillemet.run();
    assert_eq!(status(&guillemet)["configuration"]["needs_restart"], json!([]));
}

#[test]
fn what_others_can_write_or_nobody_can_read_is_not_loaded() {
    let guillemet = running();
    let file = guillemet.path("guillemet.toml");
    let set = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    let problems = || Some(status(&guillemet)["configuration"]["problems"].to_string()).filter(|text| text != "[]");
    set(0o666);
    write(&guillemet, "[vars]\nhost = 'of-somebody.example'\n");
    let told = until("it is not refused", problems);
    assert!(told.contains("is writable by everyone"), "{told}");
    assert!(!is_valid(&guillemet));
    assert_eq!(guillemet.post("/v1/reload", &json!({})).status, 422);
    assert!(guillemet.get(RENDER).text().contains("first.example"));
    // A corrected file is loaded without any command.
    set(0o600);
    shows(&guillemet, "of-somebody.example");
    until("still refused", || is_valid(&guillemet).then_some(()));
    // The folder's mode counts too, and it changes without the file.
    let folder = guillemet.dir.path().to_owned();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o707)).unwrap();
    write(&guillemet, "[vars]\nhost = 'third.example'\n");
    let told = until("it is not refused", problems);
    assert!(told.contains("is writable by everyone"), "{told}");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    shows(&guillemet, "third.example");
    // The file is removed, and replaced by something that is not a file.
    fs::remove_file(&file).unwrap();
    let told = until("its absence is not told", problems);
    assert!(told.contains("cannot be read"), "{told}");
    fs::create_dir(&file).unwrap();
    until("a folder is taken", || problems().filter(|told| told.contains("not a regular file")));
    assert!(guillemet.get(RENDER).text().contains("third.example"));
    fs::remove_dir(&file).unwrap();
    write(&guillemet, "[vars]\nhost = 'back.example'\n");
    shows(&guillemet, "back.example");
    // A problem that is found repeatedly is logged once.
    assert_eq!(guillemet.log().matches("not a regular file").count(), 1, "{}", guillemet.log());
}

#[test]
fn when_a_reload_is_acknowledged_nobody_keeps_a_right_that_is_gone() {
    let guillemet = running();
    guillemet.add("token", "value");
    let own = rustix::process::geteuid().as_raw();
    let socket = guillemet.path("run/guillemet.sock");
    let connect = || {
        let stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let mut listening = Listening::to(&guillemet);
    // Half of two requests: to resolve a value, and to create a secret.
    let half = |path: &str, body: &str, sent: usize| {
        let mut stream = connect();
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&body.as_bytes()[..sent]).unwrap();
        stream
    };
    let (resolve, create) = (r#"{"secrets":["token"]}"#, r#"{"name":"new","value":"v"}"#);
    let (mut resolving, mut creating) = (half("/v1/resolve", resolve, 5), half("/v1/secrets", create, 5));
    // They have been admitted, because a later connection gets an answer.
    assert_eq!(guillemet.get("/healthz").status, 200);
    write(&guillemet, &format!("[[client]]\nuid = {own}\nsecrets = ['other']\n"));
    assert_eq!(guillemet.post("/v1/reload", &json!({})).status, 200);
    // From now on the rules apply to this caller too.
    assert_eq!(guillemet.get("/v1/secrets").status, 403);
    resolving.write_all(&resolve.as_bytes()[5..]).unwrap();
    let answer = receive(resolving).unwrap();
    assert_eq!(answer.status, 403, "{}", answer.text());
    creating.write_all(&create.as_bytes()[5..]).unwrap();
    assert_eq!(receive(creating).unwrap().status, 403);
    while listening.line().is_some() {}
    // Nobody may reload any more, but the daemon follows the file.
    assert_eq!(guillemet.post("/v1/reload", &json!({})).status, 403);
    write(&guillemet, "");
    until("the rules are still in force", || (guillemet.get("/v1/secrets").status == 200).then_some(()));
    assert_eq!(guillemet.get("/v1/secrets/new").status, 404);
}

#[test]
fn a_rule_for_nobody_is_told_and_the_rest_is_loaded() {
    let mut guillemet = home();
    let rules = "[vars]\nhost = 'first.example'\n[[client]]\nuid = 'no-such-user-here'\nadmin = true\n\
                 [[client]]\ngroup = 'no-such-group-here'\nsecrets = ['*']\n[api]\ngroup = 'no-such-group-here'\n";
    write(&guillemet, rules);
    guillemet.run();
    let file = guillemet.path("guillemet.toml").display().to_string();
    let warned = |guillemet: &Guillemet| {
        let warnings = status(guillemet)["warnings"].to_string();
        for part in
            [format!("{file}:4:7: "), format!("{file}:7:9: "), "no-such-user-here".into(), "no-such-group-here".into()]
        {
            assert!(warnings.contains(&part), "{part}: {warnings}");
        }
    };
    warned(&guillemet);
    let socket = fs::metadata(guillemet.path("run/guillemet.sock")).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    until("the missing group is not told", || {
        status(&guillemet)["warnings"].to_string().contains("api.group").then_some(())
    });
    assert!(guillemet.get(RENDER).text().contains("first.example"));
    write(&guillemet, &rules.replace("first", "second"));
    let said = told(&guillemet.command(&["reload"]));
    assert!(said.contains("changed: vars") || said.contains("nothing changed"), "{said}");
    assert!(said.contains(&format!("{file}:4:7: ")), "{said}");
    assert!(guillemet.get(RENDER).text().contains("second.example"));
    warned(&guillemet);
    assert!(is_valid(&guillemet), "it is no mistake of the file");
    assert!(guillemet.log().contains("there is no user `no-such-user-here`"), "{}", guillemet.log());
}

/// Returns the changes of the configuration from the audit trail, oldest first: who, both digests, and the error.
fn recorded(guillemet: &Guillemet) -> Vec<[Value; 4]> {
    let trail = guillemet.get("/v1/usage?limit=1000&outcome=configuration_changed").json();
    let event = |event: &Value| {
        assert_eq!(event["caller"]["uid"], rustix::process::geteuid().as_raw());
        [&event["caller"]["pid"], &event["before"], &event["after"], &event["error"]].map(Value::clone)
    };
    trail["items"].as_array().unwrap().iter().rev().map(event).collect()
}

#[test]
fn every_change_of_the_configuration_leaves_an_event_with_its_digests() {
    let mut guillemet = running();
    let digest = |guillemet: &Guillemet| status(guillemet)["configuration"]["digest"].clone();
    let (daemon, own) = (json!(guillemet.pid()), json!(std::process::id()));
    let first = digest(&guillemet);
    assert_eq!(recorded(&guillemet), Vec::<[Value; 4]>::new());
    // The daemon loads it by itself.
    replace(&guillemet, "[vars]\nhost = 'second.example'\n");
    shows(&guillemet, "second.example");
    let second = digest(&guillemet);
    let mut expected = vec![[daemon.clone(), first, second.clone(), Value::Null]];
    assert_eq!(recorded(&guillemet), expected);
    // A reload records its caller, and nothing if nothing changes.
    assert_eq!(guillemet.post("/v1/reload", &json!({})).status, 200);
    assert_eq!(recorded(&guillemet), expected);
    fs::set_permissions(guillemet.path("guillemet.toml"), fs::Permissions::from_mode(0o666)).unwrap();
    until("it is not refused", || (!is_valid(&guillemet)).then_some(()));
    let refused = json!("validation_error");
    expected.push([daemon.clone(), second.clone(), Value::Null, refused.clone()]);
    assert_eq!(recorded(&guillemet), expected);
    assert_eq!(guillemet.post("/v1/reload", &json!({})).status, 422);
    expected.push([own, second.clone(), Value::Null, refused]);
    assert_eq!(recorded(&guillemet), expected);
    // The file changes while no daemon runs.
    assert!(guillemet.stop());
    fs::set_permissions(guillemet.path("guillemet.toml"), fs::Permissions::from_mode(0o600)).unwrap();
    guillemet.run();
    assert_eq!(recorded(&guillemet), expected, "it is as it was");
    assert!(guillemet.stop());
    write(&guillemet, "[vars]\nhost = 'third.example'\n");
    guillemet.run();
    expected.push([json!(guillemet.pid()), second, digest(&guillemet), Value::Null]);
    assert_eq!(recorded(&guillemet), expected);
}

/// Sends one request on a connection that stays open. Returns the status of the answer.
fn ask_on(stream: &mut BufReader<UnixStream>) -> u16 {
    stream.get_mut().write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_connection_that_may_stay_open_does() {
    let guillemet = running();
    let stream = UnixStream::connect(guillemet.path("run/guillemet.sock")).unwrap();
    let mut stream = BufReader::new(stream);
    write(&guillemet, "[vars]\nhost = 'second.example'\n");
    assert_eq!(guillemet.post("/v1/reload", &json!({})).status, 200);
    assert_eq!(ask_on(&mut stream), 200);
}
