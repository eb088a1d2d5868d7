//! A disk that is full or read-only, unreadable folders, damaged files: the real daemon reports a clear error or
//! recovers completely (promise Nothing lost).

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use crate::support::daemon::{Answer, Guillemet, PROGRAM};
use crate::support::disk::{fill, home_on_disk};
use serde_json::json;

const MCP: &str =
    "name = \"calendar\"\nurl = \"https://mcp.example.com/mcp\"\n[headers]\nX = \"<< secret \"token\" >>\"\n";

#[test]
fn a_full_disk_refuses_changes_and_goes_on_when_there_is_room() {
    let Some((mut guillemet, _mounted)) = home_on_disk(16) else { return };
    let filler = guillemet.path("filler");
    let fill = |leave| fill(&filler, leave);
    // At the first start there is no room for the journal.
    fill(8192);
    let refused = guillemet.command(&["daemon"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("check the disk") || said.contains("disk is not full"),
        "{said}"
    );
    std::fs::remove_file(&filler).unwrap();
    guillemet.run();
    guillemet.add("token", "kept");
    guillemet.write("mcp-server/a.toml", MCP);
    assert_eq!(guillemet.get("/v1/render/mcp-server/a").status, 200);

    for leave in [0, 8192, 65_536] {
        fill(leave);
        let mut refusals = 0;
        for number in 0..6 {
            let body = json!({"name": format!("new-{leave}-{number}"), "value": "v".repeat(60_000)});
            let answer = guillemet.post("/v1/secrets", &body);
            if answer.status != 201 {
                assert!(answer.status == 503 && answer.text().contains("disk"), "{}", answer.text());
                refusals += 1;
            }
        }
        assert!(refusals > 0);
        // The journal has its space already, so values go out and are recorded.
        assert_eq!(guillemet.get("/v1/render/mcp-server/a").status, 200);
        std::fs::remove_file(&filler).unwrap();
        let body = json!({"name": format!("after-{leave}"), "value": "v"});
        assert_eq!(guillemet.post("/v1/secrets", &body).status, 201);
    }
    let before = guillemet.get("/v1/secrets").text();
    guillemet.kill();
    guillemet.run();
    assert_eq!(guillemet.get("/v1/secrets").text(), before);
    assert_eq!(guillemet.get("/v1/secrets/token").json()["resolution_count"], 4);
    guillemet.kill();
}

/// Returns the warnings of the status.
fn warnings(guillemet: &Guillemet) -> Vec<String> {
    let status = guillemet.get("/v1/status").json();
    let warnings = status["warnings"].as_array().unwrap_or_else(|| panic!("{status}"));
    warnings.iter().map(|warning| warning.as_str().unwrap().to_owned()).collect()
}

/// Waits until the status warns of this.
fn until_warned(guillemet: &Guillemet, of: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !warnings(guillemet).iter().any(|warning| warning.contains(of)) {
        assert!(Instant::now() < deadline, "{:?}", warnings(guillemet));
    }
}

fn resolve(guillemet: &Guillemet, name: &str) -> Answer {
    guillemet.post("/v1/resolve", &json!({"secrets": [name]}))
}

fn count(guillemet: &Guillemet, name: &str) -> u64 {
    let shown = guillemet.get(&format!("/v1/secrets/{name}"));
    shown.json()["resolution_count"].as_u64().unwrap_or_else(|| panic!("{}", shown.text()))
}

#[test]
#[expect(clippy::too_many_lines, reason = "one case after the other")]
fn a_daemon_starts_on_a_full_disk_and_serves_what_its_journal_has_room_to_record() {
    const READ_ONLY: &str = "read-only: the vault cannot be changed";
    // Many places with long names fill the journal soon.
    const PLACES: u64 = 60;
    let Some((mut guillemet, _mounted)) = home_on_disk(24) else { return };
    guillemet.log_level = "info";
    guillemet.run();
    guillemet.add("token", "value-kept");
    guillemet.add("unused", "v");
    guillemet.write("mcp-server/a.toml", MCP);
    let place = |number: u64| format!("X-{number}-{} = '<< secret \"token\" >>'\n", "a".repeat(180));
    let large = MCP.lines().take(3).chain([""]).collect::<Vec<_>>().join("\n");
    guillemet.write("mcp-server/large.toml", &(large + &(0..PLACES).map(place).collect::<String>()));
    assert_eq!(guillemet.get("/v1/render/mcp-server/a").status, 200);
    assert_eq!(count(&guillemet, "token"), 1);
    assert_eq!(guillemet.get("/v1/render/mcp-server/large").status, 200);
    let mut used = 1 + PLACES;
    guillemet.kill();
    let filler = guillemet.path("filler");
    let _ = std::fs::write(&filler, vec![1; 32 << 20]);

    // After a kill with uses that are only in the journal, and after a stop.
    for _ in 0..2 {
        guillemet.run();
        assert!(guillemet.log().contains(READ_ONLY), "{}", guillemet.log());
        let warned = warnings(&guillemet);
        assert!(
            warned.len() == 1 && warned[0].starts_with(READ_ONLY) && warned[0].contains("Free up space"),
            "{warned:?}"
        );
        assert_eq!(guillemet.get("/v1/render/mcp-server/a").status, 200);
        assert_eq!(resolve(&guillemet, "token").status, 200);
        used += 2;
        // The shown count is right up to the last answer.
        assert_eq!(count(&guillemet, "token"), used);
        let listed = guillemet.get("/v1/secrets?query=token").json();
        assert_eq!(listed["items"][0]["resolution_count"], used, "{listed}");
        assert_eq!(guillemet.get("/metrics").status, 200);
        for (method, path, body) in [
            ("POST", "/v1/secrets", r#"{"name": "new", "value": "v"}"#),
            ("PATCH", "/v1/secrets/token", r#"{"enabled": false}"#),
            ("DELETE", "/v1/secrets/unused", ""),
        ] {
            let refused = guillemet.ask(method, path, &[], body.as_bytes());
            assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("service_unavailable")));
            assert!(refused.text().contains("free up space"), "{}", refused.text());
        }
        assert_eq!(resolve(&guillemet, "token").status, 200);
        used += 1;
        assert!(guillemet.stop(), "{}", guillemet.log());
    }

    // Goes on until nothing can be recorded. Then no value leaves.
    guillemet.run();
    // The large ones come first, because a smaller record fits where a large one does not.
    for (template, uses) in [("large", PLACES), ("a", 1)] {
        while guillemet.get(&format!("/v1/render/mcp-server/{template}")).status == 200 {
            used += uses;
            assert!(used < 100_000, "nothing fills the journal");
        }
    }
    while resolve(&guillemet, "token").status == 200 {
        used += 1;
    }
    for refused in [guillemet.get("/v1/render/mcp-server/a"), resolve(&guillemet, "token")] {
        assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("service_unavailable")));
        assert!(
            refused.text().contains("free up space") && !refused.text().contains("value-kept"),
            "{}",
            refused.text()
        );
    }
    assert_eq!(count(&guillemet, "token"), used);

    std::fs::remove_file(&filler).unwrap();
    assert_eq!(warnings(&guillemet), Vec::<String>::new());
    assert_eq!(guillemet.get("/v1/render/mcp-server/large").status, 200);
    used += PLACES;
    guillemet.add("after", "v");
    assert_eq!(count(&guillemet, "token"), used);
    // The start of this daemon is recorded too, now that there is room.
    assert_eq!(guillemet.get("/v1/usage?outcome=vault_unlocked").json()["count"], 2);
    guillemet.kill();
    guillemet.run();
    assert_eq!((count(&guillemet, "token"), warnings(&guillemet)), (used, Vec::new()));
    guillemet.kill();
}

/// Things that log rotation, backups and people do to a journal that is in use. `older` is a copy from before its
/// newest uses. The flag says whether the damage is noticed with the next use. If not, another file or none has the
/// journal's name, which is checked every second.
const MISTREATED: [(&str, bool); 7] = [
    (": > usage.journal", true),
    ("truncate -s 5000000 usage.journal", true),
    ("truncate -s 0 usage.journal; truncate -s 8M usage.journal", true),
    ("cp usage.journal usage.journal.1; : > usage.journal", true),
    ("cp older usage.journal", true),
    ("cp older newer; mv newer usage.journal", false),
    ("rm usage.journal", false),
];

#[test]
fn a_journal_that_is_mistreated_while_the_daemon_runs_costs_no_use() {
    const RENEWED: &str = "usage.journal was truncated, overwritten or removed";
    for (script, is_noticed_at_once) in MISTREATED {
        let mut guillemet = Guillemet::start();
        guillemet.add("token", "kept");
        guillemet.write("mcp-server/a.toml", MCP);
        let use_it = || {
            assert_eq!(guillemet.get("/v1/render/mcp-server/a").status, 200, "{script}");
            assert_eq!(resolve(&guillemet, "token").json()["secrets"]["token"], "kept", "{script}");
        };
        use_it();
        std::fs::copy(guillemet.path("usage.journal"), guillemet.path("older")).unwrap();
        use_it();
        let mistreat = || {
            let done = Command::new("sh").args(["-ec", script]).current_dir(guillemet.dir.path()).status();
            assert!(done.unwrap().success(), "{script}");
        };
        mistreat();
        use_it();
        let shown = guillemet.command(&["secret", "reveal", "token"]);
        assert!(shown.status.success() && shown.stdout.starts_with(b"kept"), "{script}: {shown:?}");
        until_warned(&guillemet, RENEWED);
        assert!(guillemet.log().contains(RENEWED), "{script}");
        assert_eq!(std::fs::metadata(guillemet.path("usage.journal")).unwrap().len(), 8 << 20, "{script}");
        assert_eq!(count(&guillemet, "token"), 7, "{script}");
        // The same again, and the daemon is killed right after the answer.
        if is_noticed_at_once {
            mistreat();
        }
        use_it();
        guillemet.kill();
        guillemet.run();
        assert_eq!((count(&guillemet, "token"), warnings(&guillemet)), (9, Vec::new()), "{script}");
        assert!(guillemet.stop(), "{script}");
        guillemet.run();
        assert_eq!((count(&guillemet, "token"), warnings(&guillemet)), (9, Vec::new()), "{script}");
    }
}

/// The journal is cut off and the daemon stopped before another use. The next start finds a journal all the same.
#[test]
fn a_journal_that_is_cut_off_before_a_stop_is_there_at_the_next_start() {
    let mut guillemet = Guillemet::start();
    guillemet.add("token", "kept");
    assert_eq!(resolve(&guillemet, "token").status, 200);
    std::fs::write(guillemet.path("usage.journal"), b"").unwrap();
    assert!(guillemet.stop());
    guillemet.run();
    assert_eq!((count(&guillemet, "token"), warnings(&guillemet)), (1, Vec::new()));
}

/// The daemon maps no file that somebody could cut off except the journal, so it goes on serving.
#[test]
fn a_vault_file_that_is_cut_off_while_the_daemon_runs_does_not_end_it() {
    for cut in ["vault.db", "vault.db-wal", "vault.db-shm"] {
        let guillemet = Guillemet::start();
        guillemet.add("token", "kept");
        guillemet.write("mcp-server/a.toml", MCP);
        assert_eq!(guillemet.get("/v1/render/mcp-server/a").status, 200);
        let _ = std::fs::OpenOptions::new().write(true).open(guillemet.path(cut)).map(|file| file.set_len(0).unwrap());
        for _ in 0..3 {
            assert_eq!(guillemet.get("/v1/render/mcp-server/a").status, 200, "{cut}");
            let changed = guillemet.post("/v1/secrets", &json!({"name": "another", "value": "v"}));
            assert!(cut != "vault.db" || changed.status == 503, "{cut}: {}", changed.text());
        }
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", guillemet.pid())).unwrap();
        let mapped: Vec<&str> =
            maps.lines().filter(|line| line.contains(guillemet.dir.path().to_str().unwrap())).collect();
        assert!(mapped.iter().all(|line| line.ends_with("usage.journal")), "{mapped:?}");
    }
}

#[test]
fn a_read_only_disk_is_told_and_nothing_changes() {
    let Some((mut guillemet, _mounted)) = home_on_disk(16) else { return };
    guillemet.run();
    guillemet.add("token", "kept");
    assert!(guillemet.stop());
    let path = guillemet.dir.path().to_owned();
    let remount = |how: &str| assert!(Command::new("mount").args(["-o", how]).arg(&path).status().unwrap().success());
    let vault = std::fs::read(guillemet.path("vault.db")).unwrap();
    remount("remount,ro");
    let refused = guillemet.command(&["daemon"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("Read-only") && said.contains(path.to_str().unwrap()), "{said}");
    assert_eq!(std::fs::read(guillemet.path("vault.db")).unwrap(), vault);
    remount("remount,rw");
    guillemet.run();
    assert_eq!(guillemet.post("/v1/resolve", &json!({"secrets": ["token"]})).json()["secrets"]["token"], "kept");
    guillemet.kill();
}

/// A process that is ended when this is dropped.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// If the tests run as root, the daemon runs as a user whom permissions stop.
#[test]
fn an_unreadable_folder_or_file_is_told_and_guards_every_secret() {
    let guillemet = Guillemet::init();
    guillemet.write("mcp-server/a.toml", MCP);
    guillemet.write("cal-com/b.toml", "api_key = '<< secret \"other\" >>'\n");
    let root = rustix::process::geteuid().is_root();
    // Not 65534, which in a user namespace may be the number of everybody whom the kernel cannot name.
    let nobody = 54_321;
    if root {
        // The program is copied to a place that this user can reach.
        std::fs::copy(PROGRAM, guillemet.path("guillemet")).unwrap();
        let all = Command::new("chown").arg("-R").arg(format!("{nobody}:{nobody}")).arg(guillemet.dir.path()).status();
        assert!(all.unwrap().success());
    }
    let program = if root { guillemet.path("guillemet") } else { PROGRAM.into() };
    let mut command = Command::new(program);
    command.arg("--home").arg(guillemet.dir.path()).arg("daemon").stdin(Stdio::null()).stderr(Stdio::null());
    if root {
        command.uid(nobody).gid(nobody);
    }
    let mut daemon = Ended(command.spawn().unwrap());
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let ask = |method: &str, path: &str, body: &str| {
        let socket = guillemet.path("run/guillemet.sock");
        // The daemon answers only its own user, so a thread becomes that user to ask.
        let ask = || {
            if root {
                let user = rustix::process::Uid::from_raw(nobody);
                rustix::thread::set_thread_res_uid(user, user, user).unwrap();
            }
            crate::support::daemon::try_ask(&socket, method, path, &[], body.as_bytes())
        };
        std::thread::scope(|scope| scope.spawn(ask).join().unwrap())
    };
    while ask("GET", "/v1/health", "").is_err() {
        assert!(std::time::Instant::now() < deadline && daemon.0.try_wait().unwrap().is_none(), "it did not start");
        std::thread::yield_now();
    }
    let created = ask("POST", "/v1/secrets", r#"{"name": "token", "value": "v"}"#).unwrap();
    assert_eq!(created.status, 201, "{}", created.text());
    let closed = |path: &str, mode: u32| {
        std::fs::set_permissions(guillemet.path(path), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    assert_eq!(ask("POST", "/v1/secrets", r#"{"name": "unused", "value": "v"}"#).unwrap().status, 201);
    for (path, open) in [("templates/mcp-server", 0o700), ("templates", 0o700), ("templates/cal-com/b.toml", 0o600)] {
        closed(path, 0);
        for name in ["token", "unused"] {
            let deleted = ask("DELETE", &format!("/v1/secrets/{name}"), "").unwrap();
            // For a file that was read before, its references are known.
            let known = path.ends_with("toml") && name == "unused";
            assert_eq!(deleted.status, if known { 204 } else { 409 }, "{path}: {}", deleted.text());
        }
        closed(path, open);
        assert_eq!(ask("GET", "/v1/render/mcp-server/a", "").unwrap().status, 200, "{path}");
        // A listing scans the folders. Each file is readable again before the next one is made unreadable.
        let listed = ask("GET", "/v1/templates", "").unwrap();
        assert!(listed.text().contains("cal-com/b"), "{path}: {}", listed.text());
    }
}

#[test]
fn a_damaged_compiled_form_is_compiled_again() {
    let mut guillemet = Guillemet::start();
    guillemet.add("token", "v");
    guillemet.write("mcp-server/a.toml", MCP);
    assert_eq!(guillemet.get("/v1/render/mcp-server/a").status, 200);
    let forms = || -> Vec<_> {
        let entries = std::fs::read_dir(guillemet.path("cache")).unwrap();
        entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "compiled"))
            .collect()
    };
    let forms = forms();
    assert!(!forms.is_empty());
    for damage in [
        |bytes: &mut Vec<u8>| bytes[40] ^= 1,
        |bytes: &mut Vec<u8>| bytes.truncate(1000),
        |bytes: &mut Vec<u8>| bytes.clear(),
    ] {
        assert!(guillemet.stop());
        for form in &forms {
            let mut bytes = std::fs::read(form).unwrap();
            damage(&mut bytes);
            std::fs::write(form, bytes).unwrap();
        }
        guillemet.run();
        let answer = guillemet.get("/v1/render/mcp-server/a");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

/// A clock that was set back or forward shows in the times of files.
#[test]
fn a_template_of_another_time_is_served_as_it_is_now() {
    let guillemet = Guillemet::start();
    guillemet.add("token", "v");
    let ahead = SystemTime::now() + Duration::from_secs(400 * 24 * 3600);
    let times = [SystemTime::UNIX_EPOCH, ahead, SystemTime::UNIX_EPOCH + Duration::from_secs(1), ahead, ahead];
    for (round, time) in times.into_iter().enumerate() {
        guillemet.write("mcp-server/a.toml", &MCP.replace("calendar", &format!("round-{round}")));
        let file = std::fs::File::options().write(true).open(guillemet.path("templates/mcp-server/a.toml")).unwrap();
        file.set_modified(time).unwrap();
        let answer = guillemet.get("/v1/render/mcp-server/a");
        assert!(answer.text().contains(&format!("round-{round}")), "{}", answer.text());
    }
}

#[test]
fn a_lost_journal_shows_in_the_status() {
    let mut guillemet = Guillemet::start();
    assert_eq!(guillemet.get("/v1/status").json()["warnings"], json!([]));
    guillemet.add("token", "v");
    guillemet.kill();
    std::fs::remove_file(guillemet.path("usage.journal")).unwrap();
    guillemet.run();
    let warnings = guillemet.get("/v1/status").json()["warnings"].clone();
    assert!(warnings[0].as_str().unwrap().contains("journal"), "{warnings}");
    // The vault's write-ahead log is lost too, but no change is only in it.
    guillemet.kill();
    for name in ["vault.db-wal", "vault.db-shm"] {
        let _ = std::fs::remove_file(guillemet.path(name));
    }
    guillemet.run();
    assert_eq!(guillemet.post("/v1/resolve", &json!({"secrets": ["token"]})).json()["secrets"]["token"], "v");
    // A damaged journal is a clear error, and it stays as it is.
    guillemet.kill();
    let mut journal = std::fs::read(guillemet.path("usage.journal")).unwrap();
    journal[20] ^= 1;
    std::fs::write(guillemet.path("usage.journal"), &journal).unwrap();
    let refused = guillemet.command(&["daemon"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("usage.journal") && said.contains("move it away"), "{said}");
    assert!(std::fs::read(guillemet.path("usage.journal")).unwrap() == journal);
}
