//! The life of a secret in the real daemon: renamed, rotated and rolled back, by two operators at once and across
//! crashes, while references go on working.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::daemon::{Answer, Guillemet};
use serde_json::{Value, json};

/// Returns a template with a reference in every form, and text that only looks like one.
fn template(name: &str) -> String {
    format!(
        "# {name} is named below\nname = \"calendar\"\nurl = \"https://mcp.example.com/mcp\"\n[headers]\n\
         Authorization = \"Bearer <<-  secret '{name}' -->>\"\nAgain = '<< secret \"{name}\" | base64 >>'\n"
    )
    .replace("-->>", "->>")
}

fn secret(guillemet: &Guillemet, name: &str) -> Value {
    guillemet.get(&format!("/v1/secrets/{name}")).json()
}

fn patch(guillemet: &Guillemet, name: &str, change: &Value) -> Answer {
    guillemet.ask("PATCH", &format!("/v1/secrets/{name}"), &[], change.to_string().as_bytes())
}

fn patch_if(guillemet: &Guillemet, name: &str, etag: &str, change: &Value) -> Answer {
    guillemet.ask("PATCH", &format!("/v1/secrets/{name}"), &[("if-match", etag)], change.to_string().as_bytes())
}

fn roll_back(guillemet: &Guillemet, name: &str, version: u32) -> Answer {
    guillemet.post(&format!("/v1/secrets/{name}/rollback"), &json!({"version": version}))
}

fn bearer(guillemet: &Guillemet) -> String {
    let answer = guillemet.get("/v1/render/mcp-server/calendar");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let text = answer.json()["mcpServers"]["calendar"]["headers"]["Authorization"].as_str().unwrap().to_owned();
    // `<<-` removes the space before it.
    text.strip_prefix("Bearer").unwrap().to_owned()
}

fn names(references: &Value) -> Vec<&str> {
    references.as_array().unwrap().iter().map(|reference| reference["name"].as_str().unwrap()).collect()
}

#[test]
fn a_renamed_secret_goes_on_working_under_its_former_name() {
    let guillemet = Guillemet::start();
    guillemet.write("mcp-server/calendar.toml", &template("first"));
    guillemet.add("first", "value");
    let id = secret(&guillemet, "first")["id"].clone();
    assert_eq!(bearer(&guillemet), "value");

    let renamed = patch(&guillemet, "first", &json!({"name": "Second"}));
    assert_eq!(renamed.status, 200, "{}", renamed.text());
    let row = renamed.json();
    assert_eq!((&row["id"], row["name"].as_str(), row["usage_count"].as_u64()), (&id, Some("Second"), Some(2)));
    assert_eq!(row["former_names"], json!(["first"]));
    assert_eq!(bearer(&guillemet), "value");
    let resolved = guillemet.post("/v1/resolve", &json!({"secrets": ["first", "second"]}));
    assert_eq!(resolved.json(), json!({"secrets": {"first": "value", "second": "value"}}));

    // It is one row, found by either name; the references say which name they use.
    assert_eq!(guillemet.get("/v1/secrets").json()["count"], 1);
    let shown = secret(&guillemet, "FIRST");
    assert_eq!((shown["name"].as_str(), names(&shown["references"])), (Some("Second"), vec!["first", "first"]));
    assert_eq!(shown["resolution_count"], 6);

    // Changes have to use the present name.
    let refused = patch(&guillemet, "first", &json!({"enabled": false}));
    assert_eq!((refused.status, refused.json()["code"].as_str()), (404, Some("not_found")));
    assert!(refused.text().contains("`Second`"), "{}", refused.text());
    assert_eq!(guillemet.set_enabled("second", false).json()["status"], "disabled");
    assert_eq!(guillemet.get("/v1/render/mcp-server/calendar").status, 409);
    assert_eq!(guillemet.set_enabled("second", true).json()["status"], "active");
}

#[test]
fn a_former_name_is_taken_only_when_nothing_references_it() {
    let mut guillemet = Guillemet::start();
    guillemet.write("mcp-server/calendar.toml", &template("first"));
    guillemet.add("first", "value");
    guillemet.add("third", "other");
    assert_eq!(patch(&guillemet, "first", &json!({"name": "second"})).status, 200);

    let create = || guillemet.post("/v1/secrets", &json!({"name": "First", "value": "thief"}));
    for refused in [create(), patch(&guillemet, "third", &json!({"name": "first"}))] {
        assert_eq!((refused.status, refused.json()["code"].as_str()), (409, Some("conflict")), "{}", refused.text());
        let lines = [&refused.json()["errors"][0]["line"], &refused.json()["errors"][1]["line"]].map(Value::as_u64);
        assert_eq!(lines, [Some(5), Some(6)]);
        assert!(refused.text().contains("--rewrite"), "{}", refused.text());
    }
    let taken = patch(&guillemet, "third", &json!({"name": "SECOND"}));
    assert_eq!((taken.status, taken.errors("field")), (409, vec!["name".to_owned()]));
    // A file that cannot be parsed may reference it.
    guillemet.write("mcp-server/calendar.toml", "<< secret first");
    assert_eq!(create().status, 409);
    assert_eq!(bearer_after_restart(&mut guillemet), "value");

    guillemet.write("mcp-server/calendar.toml", &template("second"));
    let created = guillemet.post("/v1/secrets", &json!({"name": "First", "value": "new"}));
    assert_eq!(created.status, 201, "{}", created.text());
    assert_eq!(secret(&guillemet, "second")["former_names"], json!([]));
    let resolved = guillemet.post("/v1/resolve", &json!({"secrets": ["first", "second"]}));
    assert_eq!(resolved.json(), json!({"secrets": {"first": "new", "second": "value"}}));
    assert_eq!(bearer_after_restart(&mut guillemet), "value");
}

/// Returns the header that `mcp-server/calendar` renders after a restart, with references by an earlier name.
fn bearer_after_restart(guillemet: &mut Guillemet) -> String {
    let name = if secret(guillemet, "second")["former_names"] == json!([]) { "second" } else { "first" };
    guillemet.write("mcp-server/calendar.toml", &template(name));
    assert!(guillemet.stop());
    guillemet.run();
    bearer(guillemet)
}

#[test]
fn a_name_comes_back_and_changes_its_case() {
    let guillemet = Guillemet::start();
    guillemet.add("first", "value");
    for (from, to, former) in [
        ("first", "second", json!(["first"])),
        ("second", "FIRST", json!(["second"])),
        ("first", "First", json!(["second"])),
        ("First", "Second", json!(["First"])),
    ] {
        let renamed = patch(&guillemet, from, &json!({"name": to}));
        assert_eq!(renamed.status, 200, "{}", renamed.text());
        assert_eq!((&renamed.json()["former_names"], renamed.json()["name"].as_str()), (&former, Some(to)));
    }
    assert_eq!(guillemet.get("/v1/secrets").json()["count"], 1);
}

#[test]
fn rewriting_changes_the_name_and_nothing_else() {
    let guillemet = Guillemet::start();
    let files = ["mcp-server/calendar.toml", "mcp-server/other.toml"];
    for (file, mode) in files.iter().zip([0o640, 0o400]) {
        guillemet.write(file, &template("first"));
        let path = guillemet.path(&format!("templates/{file}"));
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    guillemet.write("mcp-server/broken.toml", "<< secret first");
    guillemet.add("first", "value");
    let texts = || files.map(|file| std::fs::read_to_string(guillemet.path(&format!("templates/{file}"))).unwrap());

    // If one file cannot be written, neither any file nor the name changes.
    let set_mode = |mode| {
        let path = guillemet.path("templates/mcp-server/other.toml");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set_mode(0o402);
    let refused = patch(&guillemet, "first", &json!({"name": "second", "rewrite": true}));
    assert_eq!((refused.status, refused.errors("template")), (409, vec!["mcp-server/other".to_owned()]));
    assert_eq!(texts(), [template("first"), template("first")]);
    assert_eq!(secret(&guillemet, "first")["former_names"], json!([]));
    set_mode(0o400);

    let renamed = patch(&guillemet, "first", &json!({"name": "second", "rewrite": true}));
    assert_eq!(renamed.status, 200, "{}", renamed.text());
    assert_eq!(renamed.json()["rewritten"], json!(["mcp-server/calendar", "mcp-server/other"]));
    let comment = "# first is named below";
    assert_eq!(texts(), [(); 2].map(|()| template("second").replacen("# second is named below", comment, 1)));
    let mode = |file: &str| {
        std::fs::metadata(guillemet.path(&format!("templates/{file}"))).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(files.map(mode), [0o640, 0o400]);
    assert_eq!(names(&secret(&guillemet, "second")["references"]), ["second"; 4]);
    assert_eq!(bearer(&guillemet), "value");
    let left = std::fs::read_dir(guillemet.path("templates/mcp-server")).unwrap().count();
    assert_eq!(left, 3);
    // The second time there is nothing to do, and nothing is done.
    let version = renamed.headers["etag"].clone();
    let again = patch(&guillemet, "second", &json!({"rewrite": true}));
    assert_eq!((again.status, &again.headers["etag"], &again.json()["rewritten"]), (200, &version, &Value::Null));
}

#[test]
fn rotation_serves_the_new_value_and_keeps_former_ones_to_go_back_to() {
    let mut guillemet = Guillemet::start();
    guillemet.write("mcp-server/calendar.toml", &template("rotated"));
    guillemet.add("rotated", "value-1");
    let mut tags = vec![guillemet.get("/v1/render/mcp-server/calendar").headers["etag"].clone()];
    for version in 2..=13 {
        let rotated = patch(&guillemet, "rotated", &json!({"value": format!("value-{version}")}));
        assert_eq!((rotated.status, rotated.json()["version"].as_u64()), (200, Some(version)), "{}", rotated.text());
        assert_eq!(bearer(&guillemet), format!("value-{version}"));
        tags.push(guillemet.get("/v1/render/mcp-server/calendar").headers["etag"].clone());
    }
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 13);
    // An absent, null or empty value does not replace the value.
    for same in [json!({}), json!({"value": ""}), json!({"value": null, "name": null, "enabled": null})] {
        assert_eq!(patch(&guillemet, "rotated", &same).json()["version"], 13);
    }
    let versions = |guillemet: &Guillemet| -> Vec<u64> {
        let shown = secret(guillemet, "rotated");
        let versions = shown["versions"].as_array().unwrap().iter();
        versions.map(|version| version["version"].as_u64().unwrap()).collect()
    };
    assert_eq!(versions(&guillemet), (3..=13).rev().collect::<Vec<_>>());

    for (wanted, status) in [(2, 422), (14, 422), (13, 422), (3, 200)] {
        let answer = roll_back(&guillemet, "rotated", wanted);
        assert_eq!(answer.status, status, "{}", answer.text());
        if status == 422 {
            assert_eq!(answer.errors("field"), ["version"]);
        }
    }
    assert_eq!((bearer(&guillemet), versions(&guillemet)[0]), ("value-3".to_owned(), 14));
    guillemet.kill();
    guillemet.run();
    assert_eq!((bearer(&guillemet), versions(&guillemet)[0]), ("value-3".to_owned(), 14));
    for wrong in [json!({}), json!({"version": 0}), json!({"version": "3"}), json!({"version": 3.5})] {
        assert_eq!(guillemet.post("/v1/secrets/rotated/rollback", &wrong).status, 422);
    }
    assert_eq!(roll_back(&guillemet, "nobody", 1).status, 404);
}

#[test]
fn how_many_former_versions_are_kept_is_configured() {
    let mut guillemet = Guillemet::init();
    let file = guillemet.path("guillemet.toml");
    let text = std::fs::read_to_string(&file).unwrap().replace("former_versions = 10", "former_versions = 1");
    std::fs::write(file, text).unwrap();
    guillemet.run();
    guillemet.add("rotated", "one");
    for value in ["two", "three"] {
        patch(&guillemet, "rotated", &json!({"value": value}));
    }
    let versions = secret(&guillemet, "rotated")["versions"].clone();
    assert_eq!(versions.as_array().unwrap().len(), 2);
}

#[test]
fn of_two_operators_at_once_the_slower_one_is_told() {
    let guillemet = Guillemet::start();
    guillemet.add("shared", "value");
    let shown = guillemet.get("/v1/secrets/shared");
    let etag = shown.headers["etag"].clone();
    let first = patch_if(&guillemet, "shared", &etag, &json!({"value": "first"}));
    assert_eq!(first.status, 200, "{}", first.text());
    let delete = |etag: &str| guillemet.ask("DELETE", "/v1/secrets/shared", &[("if-match", etag)], b"");
    let body = json!({"version": 1}).to_string();
    let back =
        |etag: &str| guillemet.ask("POST", "/v1/secrets/shared/rollback", &[("if-match", etag)], body.as_bytes());
    for second in [
        patch_if(&guillemet, "shared", &etag, &json!({"value": "second"})),
        patch_if(&guillemet, "shared", "\"other\"", &json!({"name": "renamed"})),
        patch_if(&guillemet, "shared", &format!("W/{etag}"), &json!({"enabled": false})),
        back(&etag),
        delete(&etag),
    ] {
        assert_eq!((second.status, second.json()["code"].as_str()), (409, Some("conflict")), "{}", second.text());
    }
    let resolved = guillemet.post("/v1/resolve", &json!({"secrets": ["shared"]}));
    assert_eq!(resolved.json()["secrets"]["shared"], "first");
    let newest = &first.headers["etag"];
    assert_eq!(back(&format!("\"other\", {newest}")).status, 200);
    assert_eq!(delete("*").status, 204);
}

#[test]
fn no_update_is_lost_under_many_operators() {
    let guillemet = Guillemet::start();
    guillemet.add("shared", "begin");
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for operator in 0..4 {
            let (guillemet, done) = (&guillemet, &done);
            scope.spawn(move || {
                for round in 0..25 {
                    let etag = guillemet.get("/v1/secrets/shared").headers["etag"].clone();
                    let value = format!("{operator}-{round}");
                    let answer = patch_if(guillemet, "shared", &etag, &json!({"value": value}));
                    assert!(matches!(answer.status, 200 | 409), "{}", answer.text());
                    done.fetch_add(usize::from(answer.status == 200), Ordering::Relaxed);
                }
            });
        }
    });
    let done = done.into_inner();
    assert!(done >= 25);
    // Each acknowledged change is a version of its own.
    assert_eq!(secret(&guillemet, "shared")["version"], done + 1);
}

#[test]
fn a_rename_survives_being_cut_off_anywhere() {
    let mut guillemet = Guillemet::start();
    let count = 12;
    for index in 0..count {
        guillemet.write(&format!("mcp-server/calendar-{index}.toml"), &template("name-0"));
    }
    guillemet.write("mcp-server/calendar.toml", &template("name-0"));
    guillemet.add("name-0", "value");
    let mut rng = guillemet_testing::random::Random::new(4);
    let mut name = "name-0".to_owned();
    for round in 1..=20 {
        let next = format!("name-{round}");
        let change = json!({"name": next, "rewrite": true}).to_string();
        let (socket, path) = (guillemet.path("run/guillemet.sock"), format!("/v1/secrets/{name}"));
        let renaming = crate::support::daemon::send(&socket, "PATCH", &path, &[], change.as_bytes()).unwrap();
        std::thread::sleep(std::time::Duration::from_micros(rng.below(60_000)));
        guillemet.kill();
        let acknowledged = crate::support::daemon::receive(renaming).is_ok_and(|answer| answer.status == 200);
        guillemet.run();
        let shown = guillemet.get(&format!("/v1/secrets/{next}"));
        assert!(shown.status == 200 || !acknowledged, "an acknowledged rename is gone");
        if shown.status == 200 {
            name = next;
        }
        assert_eq!(bearer(&guillemet), "value");
        // All of the files or none are changed: an interrupted rename has been completed.
        let references = secret(&guillemet, &name)["references"].clone();
        let mut used = names(&references);
        assert_eq!(used.len(), 2 * (count + 1));
        used.dedup();
        assert_eq!(used, [name.as_str()], "in round {round}");
        let left = std::fs::read_dir(guillemet.path("templates/mcp-server")).unwrap().count();
        assert_eq!(left, count + 1);
    }
}

#[test]
fn the_command_line_tells_and_asks() {
    let guillemet = Guillemet::start();
    guillemet.write("mcp-server/calendar.toml", &template("first"));
    guillemet.add("first", "value-1");
    let run = |arguments: &[&str], input: &str| {
        let output = guillemet.command_with(arguments, input.as_bytes());
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    assert_eq!(run(&["secret", "reveal", "first"], ""), (0, "value-1\n".into(), String::new()));

    // The field of a reference is known once its template is planned.
    assert_eq!(bearer(&guillemet), "value-1");
    let (code, out, told) = run(&["secret", "rotate", "first"], "value-2");
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(told.contains("mcp-server/calendar:5:25 headers.Authorization") && told.contains("--yes"), "{told}");
    assert_eq!(bearer(&guillemet), "value-1");
    let (code, _, told) = run(&["secret", "rotate", "first", "--yes"], "value-2\n");
    assert!(code == 0 && told.contains("version 2"), "{told}");
    assert_eq!(bearer(&guillemet), "value-2");
    assert_eq!(run(&["secret", "rotate", "first", "--yes"], "\n").0, 1);

    let (code, _, told) = run(&["secret", "edit", "first", "--rename", "second"], "not read");
    assert!(code == 0 && told.contains("first is now called second") && told.contains("--rewrite"), "{told}");
    assert!(told.contains("mcp-server/calendar:5:25 headers.Authorization (first)"), "{told}");
    let (code, _, told) = run(&["secret", "edit", "second", "--rewrite"], "");
    assert!(code == 0 && told.contains("rewrote mcp-server/calendar"), "{told}");
    let (code, _, told) = run(&["secret", "edit", "second"], "\n");
    assert!(code == 0 && told.contains("nothing was changed"), "{told}");
    let (code, _, told) = run(&["secret", "edit", "second", "--from-file", "-"], "value-3");
    assert!(code == 0 && told.contains("version 3"), "{told}");

    assert_eq!(run(&["secret", "rollback", "second"], "").0, 1);
    let (code, _, told) = run(&["secret", "rollback", "second", "--yes"], "");
    assert!(code == 0 && told.contains("value of version 2 again, as version 4"), "{told}");
    assert_eq!(bearer(&guillemet), "value-2");
    assert_eq!(run(&["secret", "rollback", "second", "--to", "1", "--yes"], "").0, 0);
    assert_eq!(bearer(&guillemet), "value-1");
    assert_eq!(run(&["secret", "rollback", "second", "--to", "9", "--yes"], "").0, 1);

    let (code, _, told) = run(&["secret", "disable", "second"], "");
    assert!(code == 0 && told.contains("2 references"), "{told}");
    let (code, out, told) = run(&["secret", "reveal", "second"], "");
    assert!(code == 1 && out.is_empty() && told.contains("disabled"), "{told}");
    let (code, _, told) = run(&["secret", "delete", "second", "--yes"], "");
    assert!(code == 1 && told.contains("5 | Authorization"), "{told}");
}
