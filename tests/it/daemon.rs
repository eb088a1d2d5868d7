//! The promises Blind, Once, Recorded, Whole, Isolated, Guarded, At once and Nothing lost, checked with the real daemon
//! over its real socket.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::support::component::hostile;
use crate::support::daemon::{Guillemet, try_ask};
use serde_json::{Value, json};

const MCP: &str = r#"
name = "calendar"
url = "https://mcp.example.com/mcp"
[headers]
Authorization = "Bearer << secret "calendar-token" >>"
"#;

fn secret(guillemet: &Guillemet, name: &str) -> Value {
    guillemet.get(&format!("/v1/secrets/{name}")).json()
}

#[test]
fn a_config_comes_out_filled_and_the_resolution_is_counted() {
    let guillemet = Guillemet::start();
    guillemet.write("mcp-server/calendar.toml", MCP);
    let row = guillemet.get("/v1/secrets?status=missing").json();
    assert_eq!((row["count"].as_u64(), row["items"][0]["name"].as_str()), (Some(1), Some("calendar-token")));
    assert_eq!(row["items"][0]["id"], Value::Null);

    let value = "\"quotes\" ; $x & << secret \"other\" >> {{ x }} \\";
    guillemet.add("Calendar-Token", value);
    let answer = guillemet.get("/v1/render/mcp-server/calendar");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.json()["mcpServers"]["calendar"]["headers"]["Authorization"], format!("Bearer {value}"));

    let shown = secret(&guillemet, "calendar-token");
    assert_eq!((shown["usage_count"].as_u64(), shown["resolution_count"].as_u64()), (Some(1), Some(1)));
    assert_eq!(shown["status"], "active");
    let reference = &shown["references"][0];
    assert_eq!((reference["line"].as_u64(), reference["column"].as_u64()), (Some(5), Some(25)));
    assert_eq!(reference["field"], "headers.Authorization");
    assert_eq!(shown["usage"]["by_template"][0]["target"], "mcp-json");
    assert_eq!(shown["usage"]["by_day"][0]["count"], 1);
    assert_eq!(shown["versions"], json!([{"version": 1, "created_at": shown["created_at"], "current": true}]));

    // The copy is unchanged, so it is confirmed. That is a use, but no resolution.
    let etag = answer.headers["etag"].as_str();
    let again = guillemet.ask("GET", "/v1/render/mcp-server/calendar", &[("if-none-match", etag)], b"");
    assert_eq!((again.status, again.body.len()), (304, 0));
    let later = secret(&guillemet, "calendar-token");
    assert_eq!(later["resolution_count"], 1);
    assert!(later["last_used_at"].as_str() > shown["last_used_at"].as_str());
}

#[test]
fn everything_that_is_wrong_is_named_and_no_value_is_shown() {
    let guillemet = Guillemet::start();
    guillemet.write(
        "mcp-server/a.toml",
        r#"name = "a"
url = "https://h/mcp"
[headers]
One = "<< secret "is-missing" >>"
Two = "<< secret "is-disabled" >>"
Three = "<< secret "does-not-fit" >>"
Four = "<< secret "fits" >>"
"#,
    );
    guillemet.add("is-disabled", "canary-disabled");
    guillemet.add("does-not-fit", "canary\nunfit");
    guillemet.add("fits", "canary-fits");
    assert_eq!(guillemet.set_enabled("is-disabled", false).json()["status"], "disabled");
    let answer = guillemet.get("/v1/render/mcp-server/a");
    assert_eq!((answer.status, answer.json()["code"].as_str()), (409, Some("secret_unavailable")));
    assert_eq!(answer.errors("name"), ["is-missing", "is-disabled", "does-not-fit"]);
    assert_eq!(answer.errors("reason"), ["missing", "disabled", "unfit"]);
    assert_eq!(answer.errors("field"), ["headers.One", "headers.Two", "headers.Three"]);
    assert!(!answer.text().contains("canary"));
    assert_eq!(secret(&guillemet, "fits")["resolution_count"], 0, "nothing of a refused config was resolved");

    guillemet.add("is-missing", "there");
    guillemet.set_enabled("is-disabled", true);
    let answer = guillemet.get("/v1/render/mcp-server/a");
    assert_eq!((answer.status, answer.json()["code"].as_str()), (422, Some("validation_error")));
}

#[test]
fn values_are_given_by_name_all_or_none() {
    let guillemet = Guillemet::start();
    guillemet.add("a", "one \"1\"\n");
    guillemet.add("b", "zwei ü");
    let both = guillemet.post("/v1/resolve", &json!({"secrets": ["A", "b", "a"]}));
    assert_eq!(both.json(), json!({"secrets": {"A": "one \"1\"\n", "b": "zwei ü"}}));
    let some = guillemet.post("/v1/resolve", &json!({"secrets": ["a", "c", "d"]}));
    assert_eq!((some.status, some.errors("name")), (409, vec!["c".into(), "d".into()]));
    assert_eq!(secret(&guillemet, "a")["resolution_count"], 1);
    assert_eq!(secret(&guillemet, "a")["usage"]["by_template"][0]["template"], Value::Null);
}

#[test]
fn what_cannot_be_is_refused_with_everything_named() {
    let guillemet = Guillemet::start();
    let refused = |body: Value| {
        let answer = guillemet.post("/v1/secrets", &body);
        (answer.status, answer.errors("field"))
    };
    assert_eq!(refused(json!({})), (422, vec!["name".into(), "value".into()]));
    assert_eq!(
        refused(json!({"name": "-x", "value": "", "more": 1})),
        (422, vec!["name".into(), "value".into(), "more".into()])
    );
    assert_eq!(refused(json!({"name": "x", "value": "x".repeat(65_537)})), (422, vec!["value".into()]));
    assert_eq!(refused(json!({"name": "x", "value": "x".repeat(65_536)})).0, 201);
    assert_eq!(refused(json!({"name": "X", "value": "y"})), (409, vec!["name".into()]));
    for (method, path, body, status) in [
        ("POST", "/v1/secrets", "not json canary", 400),
        ("POST", "/v1/secrets", "[]", 400),
        ("GET", "/v1/secrets?limit=0", "", 422),
        ("GET", "/v1/secrets?limit=1001", "", 422),
        ("GET", "/v1/secrets?colour=red", "", 422),
        ("GET", "/v1/secrets/nope", "", 404),
        ("GET", "/v1/nope", "", 404),
        ("PUT", "/v1/secrets", "", 405),
        ("GET", "/v1/render/mcp-server/nope", "", 404),
    ] {
        let answer = guillemet.ask(method, path, &[], body.as_bytes());
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        assert!(!answer.text().contains("canary"));
        assert!(answer.json()["message"].is_string());
    }
    let large = vec![b' '; (1 << 20) + 10];
    let answer = guillemet.ask("POST", "/v1/secrets", &[], &large);
    assert_eq!((answer.status, answer.json()["code"].as_str()), (413, Some("bad_request")));
}

#[test]
fn an_edited_template_is_never_served_in_its_old_form() {
    let guillemet = Guillemet::start();
    guillemet.add("calendar-token", "t");
    for round in 0..60 {
        guillemet
            .write("mcp-server/calendar.toml", &MCP.replace("calendar\"\nurl", &format!("name-{round:02}\"\nurl")));
        let answer = guillemet.get("/v1/render/mcp-server/calendar");
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.text().contains(&format!("name-{round:02}")), "round {round}");
    }
    std::fs::remove_file(guillemet.path("templates/mcp-server/calendar.toml")).unwrap();
    assert_eq!(guillemet.get("/v1/render/mcp-server/calendar").status, 404);
}

#[test]
fn a_broken_template_is_told_with_its_line_and_drops_no_other() {
    let guillemet = Guillemet::start();
    guillemet.add("calendar-token", "t");
    guillemet.write("mcp-server/calendar.toml", MCP);
    guillemet.write("mcp-server/lexer.toml", "name = 'x'\n<% if secret %>");
    guillemet.write("mcp-server/tree.toml", "name = 'x'\nurl = << secret \"calendar-token\" >>\n");
    guillemet.write("mcp-server/names.toml", "name = '<< vars.nope >>'\nurl = '<< nope >>'\n");
    guillemet.write("mcp-server/key.toml", "name = 'x'\nurl = 'https://h'\n[headers]\n\"<< secret \"a\" >>\" = 'x'\n");
    guillemet.write("mcp-server/place.toml", "name = '<< secret \"a\" >>'\nurl = 'https://h'\n");
    guillemet.write("unknown/feature.toml", "x = 1");
    for (id, status, line, word) in [
        ("mcp-server/lexer", 422, Some(2), "secret"),
        ("mcp-server/tree", 422, Some(2), "quotes"),
        ("mcp-server/names", 422, Some(1), "vars.nope"),
        ("mcp-server/key", 422, Some(4), "key"),
        ("mcp-server/place", 422, Some(1), "name"),
        ("unknown/feature", 502, None, "plugin"),
    ] {
        let answer = guillemet.get(&format!("/v1/render/{id}"));
        assert_eq!(answer.status, status, "{id}: {}", answer.text());
        assert_eq!(answer.json()["errors"][0]["line"].as_u64(), line, "{id}: {}", answer.text());
        assert!(answer.text().contains(word), "{id}: {}", answer.text());
    }
    assert_eq!(guillemet.get("/v1/render/mcp-server/calendar").status, 200);
    let list = guillemet.get("/v1/templates").json();
    let broken = |item: &&Value| item["status"] == "broken" && !item["problems"].as_array().unwrap().is_empty();
    assert_eq!(list["items"].as_array().unwrap().iter().filter(broken).count(), 6);
}

#[test]
fn a_referenced_secret_is_not_deleted_in_any_disguise() {
    let guillemet = Guillemet::start();
    guillemet.add("calendar-token", "t");
    guillemet.add("free", "t");
    let delete = |name: &str| guillemet.ask("DELETE", &format!("/v1/secrets/{name}"), &[], b"");
    assert_eq!(delete("free").status, 204);
    assert_eq!(delete("free").status, 404);

    guillemet.write("mcp-server/calendar.toml", MCP);
    let refused = delete("CALENDAR-TOKEN");
    assert_eq!((refused.status, refused.errors("reason")), (409, vec!["referenced".into()]));
    let entry = &refused.json()["errors"][0];
    assert_eq!((entry["template"].as_str(), entry["line"].as_u64()), (Some("mcp-server/calendar"), Some(5)));
    // References count in a branch that is not taken, and in a file that cannot be parsed.
    guillemet.write("mcp-server/calendar.toml", "<% if false %><< secret 'calendar-token' >><% endif %>");
    assert_eq!(delete("calendar-token").errors("reason"), ["referenced"]);
    guillemet.write("mcp-server/calendar.toml", "<< secret calendar-token");
    assert_eq!(delete("calendar-token").errors("reason"), ["in_broken_text"]);
    // They do not count in a template comment. But a file that vanished just now may come back.
    std::fs::remove_file(guillemet.path("templates/mcp-server/calendar.toml")).unwrap();
    let vanished = delete("calendar-token");
    assert_eq!(vanished.errors("reason"), ["vanished"]);
    assert!(vanished.json()["errors"][0]["retry_after_ms"].as_u64() <= Some(2000));
    guillemet.write("mcp-server/calendar.toml", "<# << secret 'calendar-token' >> #>");
    // The command line waits until the file no longer counts.
    let output = guillemet.command(&["secret", "delete", "calendar-token", "--yes"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(guillemet.get("/v1/secrets/calendar-token").status, 404);
}

#[test]
fn a_deletion_and_a_new_reference_never_both_win() {
    let guillemet = Guillemet::start();
    for round in 0..20 {
        let name = format!("secret-{round}");
        guillemet.add(&name, "value");
        let text = MCP.replace("calendar-token", &name);
        let file = format!("mcp-server/t{round}.toml");
        let deleted = std::thread::scope(|scope| {
            let delete = scope.spawn(|| guillemet.ask("DELETE", &format!("/v1/secrets/{name}"), &[], b"").status);
            guillemet.write(&file, &text);
            delete.join().unwrap()
        });
        let rendered = guillemet.get(&format!("/v1/render/mcp-server/t{round}")).status;
        match deleted {
            204 => assert_eq!(rendered, 409, "a deleted secret was rendered"),
            409 => assert_eq!(rendered, 200, "a kept secret was not rendered"),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_disabled_secret_is_refused_from_the_acknowledgement_on() {
    let guillemet = Guillemet::start();
    guillemet.add("calendar-token", "t");
    guillemet.write("mcp-server/calendar.toml", MCP);
    assert_eq!(guillemet.get("/v1/render/mcp-server/calendar").status, 200);
    let socket = guillemet.path("run/guillemet.sock");
    for _ in 0..10 {
        let (disabled, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !stop.load(Ordering::SeqCst) {
                        let before = disabled.load(Ordering::SeqCst);
                        let answer = try_ask(&socket, "GET", "/v1/render/mcp-server/calendar", &[], b"").unwrap();
                        assert!(!before || answer.status == 409, "answered after the acknowledgement");
                    }
                });
            }
            assert_eq!(guillemet.set_enabled("calendar-token", false).status, 200);
            disabled.store(true, Ordering::SeqCst);
            for _ in 0..20 {
                assert_eq!(guillemet.get("/v1/render/mcp-server/calendar").status, 409);
            }
            stop.store(true, Ordering::SeqCst);
        });
        guillemet.set_enabled("calendar-token", true);
    }
}

#[test]
fn after_kill_9_answers_are_counted_and_changes_are_there() {
    let mut guillemet = Guillemet::start();
    guillemet.add("calendar-token", "t");
    guillemet.write("mcp-server/calendar.toml", MCP);
    assert_eq!(guillemet.get("/v1/render/mcp-server/calendar").status, 200);
    let mut counted = 1;
    for round in 0..8 {
        let socket = guillemet.path("run/guillemet.sock");
        let (asked, answered, failed) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let enough = 20 + 40 * round;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    loop {
                        asked.fetch_add(1, Ordering::SeqCst);
                        match try_ask(&socket, "GET", "/v1/render/mcp-server/calendar", &[], b"") {
                            Ok(answer) if answer.status == 200 => answered.fetch_add(1, Ordering::SeqCst),
                            _ => break failed.fetch_add(1, Ordering::SeqCst),
                        };
                    }
                });
            }
            let name = format!("kept-{round}");
            guillemet.add(&name, "v");
            // A client stops at a wrong answer, so after four failures nobody asks any more.
            while answered.load(Ordering::SeqCst) < enough && failed.load(Ordering::SeqCst) < 4 {
                std::thread::yield_now();
            }
            guillemet.kill();
        });
        guillemet.run();
        let count = secret(&guillemet, "calendar-token")["resolution_count"].as_u64().unwrap() - counted;
        let (asked, answered) = (asked.into_inner(), answered.into_inner());
        assert!(enough <= answered && answered <= count && count <= asked, "{answered} <= {count} <= {asked}");
        counted += count;
        assert_eq!(secret(&guillemet, &format!("kept-{round}"))["status"], "active");
    }
}

#[test]
fn a_hostile_plugin_harms_its_own_templates_only() {
    let guillemet = Guillemet::start();
    guillemet.add("calendar-token", "canary-value");
    guillemet.write("mcp-server/calendar.toml", MCP);
    let file = guillemet.path("hostile-plugin.wasm");
    std::fs::write(&file, hostile()).unwrap();
    let output = guillemet.command(&["plugin", "add", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "nobody said yes");
    assert_eq!(guillemet.get("/v1/plugins").json()["count"], 4);
    let output = guillemet.command(&["plugin", "add", file.to_str().unwrap(), "--yes"]);
    assert_eq!(output.status.code(), Some(1), "it fails its checks");
    assert_eq!(guillemet.get("/v1/plugins").json()["count"], 4);
    let output = guillemet.command(&["plugin", "add", file.to_str().unwrap(), "--yes", "--break"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    guillemet.write("hostile/a.toml", "token = '<< secret \"calendar-token\" >>'\n");
    guillemet.write("hostile/outside.toml", "other = '<< secret \"calendar-token\" >>'\n");
    assert_eq!(guillemet.get("/v1/render/hostile/a?target=ok").status, 200);

    let socket = guillemet.path("run/guillemet.sock");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let others = scope.spawn(|| {
            let mut rendered = 0;
            while !stop.load(Ordering::SeqCst) {
                let answer = try_ask(&socket, "GET", "/v1/render/mcp-server/calendar", &[], b"").unwrap();
                assert_eq!(answer.status, 200, "{}", answer.text());
                rendered += 1;
            }
            rendered
        });
        for target in
            ["loop", "panic", "memory", "recurse", "forge", "drop", "double", "key", "bare", "huge", "garbage-json"]
        {
            let answer = guillemet.get(&format!("/v1/render/hostile/a?target={target}"));
            assert_eq!(answer.status, 502, "{target}: {}", answer.text());
            let message = answer.json()["message"].as_str().unwrap().to_owned();
            assert!(message.contains("hostile"), "{target}: {message}");
            assert!(!answer.text().contains("canary"));
        }
        let outside = guillemet.get("/v1/render/hostile/outside?target=ok");
        assert_eq!((outside.status, outside.errors("path")), (422, vec!["other".into()]), "{}", outside.text());
        assert_eq!(guillemet.get("/v1/render/hostile/a?target=ok").status, 200, "the plugin is used again");
        stop.store(true, Ordering::SeqCst);
        assert!(others.join().unwrap() > 10);
    });

    // A file that differs from the added one is refused, after a restart too.
    let mut guillemet = guillemet;
    assert!(guillemet.stop());
    let added = guillemet.path("plugins/hostile.wasm");
    let mut bytes = std::fs::read(&added).unwrap();
    bytes.extend_from_slice(&[0, 1, 0]);
    std::fs::write(&added, bytes).unwrap();
    guillemet.run();
    let answer = guillemet.get("/v1/render/hostile/a?target=ok");
    assert!(answer.status == 502 && answer.text().contains("plugin add"), "{}", answer.text());
    assert!(guillemet.command(&["plugin", "remove", "hostile", "--yes"]).status.success());
    assert_eq!(guillemet.get("/v1/plugins").json()["count"], 4);
}

#[test]
fn a_planner_has_nothing_but_its_pipe() {
    let guillemet = Guillemet::start();
    guillemet.add("calendar-token", "t");
    guillemet.write("mcp-server/calendar.toml", MCP);
    assert_eq!(guillemet.get("/v1/render/mcp-server/calendar").status, 200);
    let planners = guillemet.planners();
    assert!(!planners.is_empty());
    for pid in planners {
        let mut open: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        open.sort();
        assert_eq!(open, ["0", "1", "2"]);
        assert_eq!(std::fs::read(format!("/proc/{pid}/environ")).unwrap(), b"");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        // Every thread has a seccomp filter.
        for thread in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
            let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
            assert!(status.contains("Seccomp:\t2"), "{status}");
        }
    }
}

#[test]
fn no_value_is_in_a_log_or_a_file() {
    let mut guillemet = Guillemet::start();
    let canary = "Canary/Value+9=";
    guillemet.add("calendar-token", canary);
    guillemet.write("mcp-server/calendar.toml", MCP);
    guillemet.write("mcp-server/bad.toml", &MCP.replace("Bearer ", "\\nBearer "));
    for path in ["/v1/render/mcp-server/calendar", "/v1/render/mcp-server/bad", "/v1/status", "/v1/templates"] {
        guillemet.get(path);
    }
    guillemet.get("/v1/templates/mcp-server/calendar/explain");
    guillemet.post("/v1/secrets", &json!({"name": "calendar-token", "value": canary}));
    guillemet.ask("POST", "/v1/secrets", &[], format!("{{\"value\": \"{canary}\", ").as_bytes());
    guillemet.post("/v1/secrets", &json!({"name": canary, "value": canary, "extra": canary}));
    assert!(guillemet.stop());
    let forms: Vec<String> = vec![
        canary.into(),
        data_encoding::BASE64.encode(canary.as_bytes()),
        data_encoding::HEXLOWER.encode(canary.as_bytes()),
        "Canary%2FValue%2B9%3D".into(),
    ];
    let log = guillemet.log();
    assert!(log.contains("ready"));
    let mut files = vec![("the log".to_owned(), log.into_bytes())];
    let mut pending = vec![guillemet.dir.path().to_owned()];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.is_file() {
            files.push((path.display().to_string(), std::fs::read(path).unwrap()));
        }
    }
    assert!(files.iter().any(|(name, _)| name.ends_with("usage.journal")));
    for (name, bytes) in files {
        for form in &forms {
            assert!(!bytes.windows(form.len()).any(|window| window == form.as_bytes()), "{form} in {name}");
        }
    }
}

#[test]
fn it_stops_with_grace_and_starts_where_it_was() {
    let mut guillemet = Guillemet::start();
    guillemet.add("a", "one");
    let second = guillemet.command(&["daemon"]);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && said.contains(&guillemet.pid().to_string()), "{said}");
    assert!(guillemet.stop());
    assert!(!guillemet.path("run/guillemet.sock").exists());
    let output = guillemet.command(&["secret", "list"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no daemon is running for") && said.contains(" daemon`"), "{said}");
    guillemet.run();
    assert_eq!(guillemet.post("/v1/resolve", &json!({"secrets": ["a"]})).json()["secrets"]["a"], "one");
    // A wrong key neither opens nor changes anything.
    assert!(guillemet.stop());
    let vault = std::fs::read(guillemet.path("vault.db")).unwrap();
    std::fs::write(guillemet.path("vault.key"), format!("{}\n", "00".repeat(32))).unwrap();
    let refused = guillemet.command(&["daemon"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("does not open this vault"));
    assert_eq!(std::fs::read(guillemet.path("vault.db")).unwrap(), vault);
}

#[test]
fn variables_are_read_again_on_sighup() {
    let guillemet = Guillemet::start();
    guillemet.add("calendar-token", "t");
    guillemet.write("mcp-server/calendar.toml", &MCP.replace("https://mcp.example.com/mcp", "<< vars.mcp_url >>"));
    assert!(guillemet.get("/v1/render/mcp-server/calendar").text().contains("mcp.example.com"));
    std::fs::write(guillemet.path("guillemet.toml"), "[vars]\nmcp_url = 'https://other.example.com/'\n").unwrap();
    guillemet.signal(rustix::process::Signal::HUP);
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !guillemet.get("/v1/render/mcp-server/calendar").text().contains("other.example.com") {
        assert!(std::time::Instant::now() < deadline, "the new variable was not taken");
    }
}

#[test]
fn a_vault_with_a_passphrase_opens_with_it_alone() {
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str], passphrase: &str| {
        use std::io::Write;
        let mut child = std::process::Command::new(crate::support::daemon::PROGRAM)
            .arg("--home")
            .arg(dir.path())
            .args(arguments)
            .args(["--passphrase-fd", "0"])
            .stdin(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(passphrase.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    assert!(run(&["init", "--unlock", "passphrase"], "correct horse battery staple nine\n").status.success());
    assert!(!dir.path().join("vault.key").exists());
    let refused = run(&["daemon"], "wrong horse\n");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("passphrase does not open"), "{refused:?}");
}
