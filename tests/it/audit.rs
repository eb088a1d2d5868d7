//! What changes leave in the audit trail of the real daemon: who wanted what, and how it ended. Also that nobody can
//! push the events of others out of it.

use std::collections::BTreeSet;
use std::fs;

use crate::support::account::Place;
use crate::support::browser::{Browser, SECRETS};
use crate::support::component::pager;
use crate::support::daemon::Guillemet;
use crate::support::disk::{fill, home_on_disk};
use crate::support::team::{Machine, Team, join};
use guillemet_daemon::api::routes::{Endpoint, ROUTES};
use guillemet_testing::wait::until;
use serde_json::{Value, json};

const CANARY: &str = "canary-value";
/// A value that a caller sent in place of a name.
const MISTAKEN: &str = "sk-live-CanaryOfAMistake0123456789";
const TEMPLATE: &str = "name = \"a\"\nurl = \"https://h/mcp\"\n[headers]\nAuthorization = \"<< secret 'cal-key' >>\"\n";

fn events(guillemet: &Guillemet, query: &str) -> Vec<Value> {
    let answer = guillemet.get(&format!("/v1/usage?limit=1000&{query}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(!answer.text().contains(CANARY) && !answer.text().to_lowercase().contains(&MISTAKEN.to_lowercase()));
    answer.json()["items"].as_array().unwrap().clone()
}

/// Returns the changes, oldest first, without the starts of the daemon.
fn changes(guillemet: &Guillemet) -> Vec<Value> {
    let mut changes = events(guillemet, "class=change");
    changes.retain(|change| change["outcome"] != "vault_unlocked");
    changes.reverse();
    changes
}

/// Returns outcome, secret or subject, before, after and error of a change.
fn told(change: &Value) -> [String; 5] {
    let of = if change["secret"].is_null() { &change["subject"] } else { &change["secret"] };
    [&change["outcome"], of, &change["before"], &change["after"], &change["error"]]
        .map(|value| value.as_str().unwrap_or("-").to_owned())
}

fn patch(guillemet: &Guillemet, name: &str, change: &Value) -> u16 {
    guillemet.ask("PATCH", &format!("/v1/secrets/{name}"), &[], change.to_string().as_bytes()).status
}

fn delete(guillemet: &Guillemet, name: &str) -> u16 {
    guillemet.ask("DELETE", &format!("/v1/secrets/{name}"), &[], b"").status
}

fn assert_told(changes: &[Value], expected: &[[&str; 5]]) {
    let expected: Vec<[String; 5]> = expected.iter().map(|row| row.map(str::to_owned)).collect();
    assert_eq!(changes.iter().map(told).collect::<Vec<_>>(), expected);
}

#[test]
fn every_change_of_a_secret_leaves_an_event_that_outlives_it_and_a_kill() {
    let mut guillemet = Guillemet::start();
    guillemet.add("cal-key", CANARY);
    let id = guillemet.get("/v1/secrets/cal-key").json()["id"].clone();
    assert_eq!(patch(&guillemet, "cal-key", &json!({"value": format!("{CANARY}-2")})), 200);
    assert_eq!(patch(&guillemet, "cal-key", &json!({"enabled": false})), 200);
    assert_eq!(patch(&guillemet, "cal-key", &json!({"enabled": false})), 200, "as it is: no change");
    assert_eq!(patch(&guillemet, "cal-key", &json!({"enabled": true})), 200);
    assert_eq!(guillemet.post("/v1/secrets/cal-key/rollback", &json!({"version": 1})).status, 200);
    let all = json!({"name": "cal-key-prod", "value": format!("{CANARY}-3"), "enabled": false});
    assert_eq!(patch(&guillemet, "cal-key", &all), 200);
    guillemet.write("mcp-server/a.toml", TEMPLATE);
    assert_eq!(patch(&guillemet, "cal-key-prod", &json!({"enabled": true, "rewrite": true})), 200);
    let shown = guillemet.command(&["secret", "reveal", "cal-key-prod"]);
    assert!(shown.status.success());
    // A secret that is resolved by name leaves only a use.
    assert_eq!(guillemet.post("/v1/resolve", &json!({"secrets": ["cal-key-prod"]})).status, 200);
    fs::remove_file(guillemet.path("templates/mcp-server/a.toml")).unwrap();
    until("the delete", || (delete(&guillemet, "cal-key-prod") == 204).then_some(()));
    guillemet.kill();
    guillemet.run();

    let mut left = changes(&guillemet);
    // A delete may have been refused while its template had just vanished.
    left.retain(|change| change["error"].is_null());
    let name = "cal-key-prod";
    assert_told(
        &left,
        &[
            ["secret_created", name, "-", "-", "-"],
            ["secret_rotated", name, "1", "2", "-"],
            ["secret_disabled", name, "-", "-", "-"],
            ["secret_enabled", name, "-", "-", "-"],
            ["secret_rolled_back", name, "1", "3", "-"],
            ["secret_rotated", name, "3", "4", "-"],
            ["secret_disabled", name, "-", "-", "-"],
            ["secret_renamed", name, "cal-key", name, "-"],
            ["secret_enabled", name, "-", "-", "-"],
            ["references_rewritten", name, "-", "mcp-server/a", "-"],
            ["secret_revealed", name, "-", "-", "-"],
            ["secret_deleted", name, "-", "-", "-"],
        ],
    );
    let exe = std::env::current_exe().unwrap();
    for change in &left {
        assert_eq!(change["secret_id"], id);
        let is_command = change["outcome"] == "secret_revealed";
        assert_eq!(change["caller"]["uid"], rustix::process::getuid().as_raw());
        assert_eq!(change["caller"]["exe"] == exe.to_str().unwrap(), !is_command, "{change}");
        assert_eq!((&change["session"], &change["device"]), (&Value::Null, &Value::Null));
    }
    // Uses keep the name too, and a query by the name finds all of them. A new secret with that name is a different
    // one.
    let used = events(&guillemet, "outcome=answered");
    assert!(used.len() == 2 && used.iter().all(|event| event["secret"] == name), "{used:?}");
    let of_name = events(&guillemet, &format!("secret={name}&class=change"));
    assert!(of_name.len() >= left.len(), "{of_name:?}");
    assert_eq!(events(&guillemet, &format!("secret={name}&class=answer")).len(), 2);
    guillemet.add(name, CANARY);
    let again = events(&guillemet, &format!("secret={name}&class=change"));
    assert_eq!((again.len(), &again[0]["outcome"]), (of_name.len() + 1, &json!("secret_created")));
    assert_ne!(again[0]["secret_id"], id);
}

#[test]
fn a_change_that_fails_leaves_an_event_with_the_reason() {
    let guillemet = Guillemet::start();
    guillemet.add("cal-key", CANARY);
    guillemet.add("other-key", CANARY);
    guillemet.write("mcp-server/a.toml", TEMPLATE);
    let post = |body: Value| guillemet.post("/v1/secrets", &body).status;
    assert_eq!(post(json!({"name": "CAL-KEY", "value": CANARY})), 409);
    assert_eq!(patch(&guillemet, "cal-key", &json!({"name": "other-key", "value": CANARY})), 409);
    assert_eq!(guillemet.post("/v1/secrets/cal-key/rollback", &json!({"version": 9})).status, 422);
    assert_eq!(delete(&guillemet, "cal-key"), 409);
    assert_eq!(delete(&guillemet, MISTAKEN), 404);
    let stale = [("if-match", "\"0\"")];
    assert_eq!(guillemet.ask("PATCH", "/v1/secrets/cal-key", &stale, br#"{"enabled": false}"#).status, 409);
    assert_eq!(guillemet.ask("DELETE", &format!("/v1/plugins/{MISTAKEN}"), &[], b"").status, 404);
    assert_eq!(guillemet.post("/v1/account/invitations", &json!({})).status, 409);
    assert_eq!(guillemet.ask("DELETE", "/v1/account/devices/ff", &[], b"").status, 404);
    let reveal = json!({"secrets": ["cal-key", "not-there"], "reveal": true});
    assert_eq!(guillemet.post("/v1/resolve", &reveal).status, 409);

    let mut left = changes(&guillemet).split_off(2);
    for change in &mut left {
        if let Some(secret) = change["secret"].as_str().filter(|secret| secret.starts_with("unknown:")) {
            assert_eq!(secret.len(), "unknown:".len() + 16);
            change["secret"] = "unknown".into();
        }
    }
    assert_told(
        &left,
        &[
            ["secret_created", "cal-key", "-", "-", "conflict"],
            ["secret_rotated", "cal-key", "-", "-", "conflict"],
            ["secret_renamed", "cal-key", "-", "-", "conflict"],
            ["secret_rolled_back", "cal-key", "-", "-", "validation_error"],
            ["secret_deleted", "cal-key", "-", "-", "conflict"],
            ["secret_deleted", "unknown", "-", "-", "not_found"],
            ["secret_disabled", "cal-key", "-", "-", "conflict"],
            ["plugin_removed", "unknown", "-", "-", "not_found"],
            ["device_invited", "-", "-", "-", "conflict"],
            ["device_revoked", "unknown", "-", "-", "not_found"],
            ["secret_revealed", "cal-key", "-", "-", "secret_unavailable"],
            ["secret_revealed", "unknown", "-", "-", "secret_unavailable"],
        ],
    );
    let listed = guillemet.command(&["usage", "--class", "change", "--outcome", "secret_deleted"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("secret_deleted\tcal-key\t") && listed.contains("\tfailed: conflict\n"), "{listed}");
}

/// On a full disk nothing can be recorded, and so nothing is changed or shown.
#[test]
fn what_cannot_be_recorded_is_not_done() {
    let Some((mut guillemet, _mounted)) = home_on_disk(24) else { return };
    guillemet.run();
    guillemet.add("cal-key", CANARY);
    let browser = Browser::open(&guillemet);
    let link = crate::support::browser::link(&guillemet);
    let filler = guillemet.path("filler");
    fill(&filler, 0);
    let revealed = guillemet.post("/v1/resolve", &json!({"secrets": ["cal-key"], "reveal": true}));
    assert_eq!((revealed.status, revealed.json()["code"].as_str()), (503, Some("service_unavailable")));
    assert!(!revealed.text().contains(CANARY) && revealed.text().contains("audit trail"), "{}", revealed.text());
    let refused = Browser::at(&link).follow(&link);
    assert_eq!((refused.status, refused.headers.get("set-cookie")), (503, None));
    std::fs::remove_file(filler).unwrap();
    assert_eq!(browser.get(SECRETS).status, 200);
    let told: Vec<String> = changes(&guillemet).iter().map(|change| told(change)[0].clone()).collect();
    assert_eq!(told, ["secret_created", "console_opened"]);
    guillemet.kill();
}

#[test]
fn the_console_records_its_sessions_and_what_they_change() {
    let guillemet = Guillemet::start();
    let browser = Browser::open(&guillemet);
    let created = browser.post(SECRETS, &[("name", "cal-key"), ("value", CANARY), ("enabled", "on")]);
    assert_eq!(created.status, 303);
    let taken = browser.post(SECRETS, &[("name", "cal-key"), ("value", CANARY)]);
    assert_eq!(taken.status, 409);
    // A form of another session is refused, and the refusal is recorded with its page.
    let other = Browser::open(&guillemet);
    let mut forged = Browser::at(&crate::support::browser::link(&guillemet));
    forged.cookie = browser.cookie.clone();
    let body = crate::support::browser::encode(&[("csrf", &other.csrf())]);
    let delete = format!("{SECRETS}/cal-key/delete");
    let form = [("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(forged.ask("POST", &delete, &form, body.as_bytes()).status, 403);
    let page = browser.page("/settings/developers/audit?class=change");
    for label in ["A secret was created", "A console session started"] {
        assert!(page.all("td").any(|cell| cell.get("title") == Some(label)), "{label}: {}", page.text);
    }
    assert!(page.says("failed: conflict"));
    assert_eq!(browser.post("/logout", &[]).status, 200);

    let left = changes(&guillemet);
    assert_told(
        &left,
        &[
            ["console_opened", "-", "-", "-", "-"],
            ["secret_created", "cal-key", "-", "-", "-"],
            ["secret_created", "cal-key", "-", "-", "conflict"],
            ["console_opened", "-", "-", "-", "-"],
            ["console_closed", "-", "-", "-", "-"],
        ],
    );
    let sessions: BTreeSet<&str> = left.iter().map(|change| change["session"].as_str().unwrap()).collect();
    assert_eq!(sessions.len(), 2);
    let first = left[0]["session"].as_str().unwrap();
    assert!([1, 2, 4].iter().all(|at| left[*at]["session"] == first), "{left:?}");
    assert!(!browser.cookie.as_ref().unwrap().contains(first), "it is not what lets somebody in");
    assert!(left.iter().all(|change| change["caller"]["uid"] == rustix::process::getuid().as_raw()));
    let refused = &events(&guillemet, "class=refusal")[0];
    assert_eq!(refused["route"], "POST /settings/developers/secrets/{name}/delete", "{refused}");
    // The end of the daemon ends the other session.
    let mut guillemet = guillemet;
    assert!(guillemet.stop());
    guillemet.run();
    let left = changes(&guillemet);
    assert_eq!(told(left.last().unwrap())[0], "console_closed");
    assert_eq!(left.last().unwrap()["session"], left[3]["session"]);
}

#[test]
fn plugins_starts_and_what_makes_an_account_are_recorded() {
    let mut guillemet = Guillemet::start();
    let file = guillemet.path("pager.wasm");
    fs::write(&file, pager()).unwrap();
    let digest = guillemet.post("/v1/plugins", &json!({"file": file})).json()["digest"].clone();
    let add = |digest: &Value| guillemet.post("/v1/plugins", &json!({"file": file, "confirm": true, "digest": digest}));
    assert_eq!(add(&"0".repeat(64).into()).status, 409);
    assert_eq!(add(&digest).status, 201);
    assert_eq!(guillemet.ask("DELETE", "/v1/plugins/pager", &[], b"").status, 204);
    let digest = digest.as_str().unwrap();
    let absent = json!({"file": "/absent.wasm", "confirm": true, "digest": digest});
    assert_eq!(guillemet.post("/v1/plugins", &absent).status, 404);
    assert_told(
        &changes(&guillemet),
        &[
            ["plugin_added", "pager", "-", "-", "conflict"],
            ["plugin_added", "pager", "-", digest, "-"],
            ["plugin_removed", "pager", digest, "-", "-"],
            ["plugin_added", "-", "-", "-", "not_found"],
        ],
    );
    let pids = [guillemet.pid(), {
        guillemet.kill();
        guillemet.run();
        guillemet.pid()
    }];
    let unlocked = events(&guillemet, "outcome=vault_unlocked");
    let starts: Vec<(u64, String)> = unlocked
        .iter()
        .rev()
        .map(|event| (event["caller"]["pid"].as_u64().unwrap(), event["after"].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(starts, pids.map(|pid| (u64::from(pid), "keyfile".to_owned())));
}

#[test]
fn in_an_account_a_change_is_recorded_with_the_device_it_came_from() {
    let mut team = Team::at(Place::sqlite());
    let (mut desk, mut laptop) = (team.machine("desk"), team.machine("laptop"));
    desk.run();
    laptop.run();
    desk.guillemet.add("cal-key", CANARY);
    team.found(&desk);
    join(&desk, &laptop);
    laptop.rotate("cal-key", "another");
    until("the new value", || (desk.value("cal-key").as_deref() == Some("another")).then_some(()));
    desk.delete_in_time("cal-key");
    until("the delete", || laptop.value("cal-key").is_none().then_some(()));
    let devices = desk.guillemet.get("/v1/account/devices").json()["items"].clone();
    let id = |name: &str| {
        let found = devices.as_array().unwrap().iter().find(|device| device["name"] == *name);
        found.unwrap()["id"].as_str().unwrap().to_owned()
    };
    let answer = desk.guillemet.ask("DELETE", &format!("/v1/account/devices/{}", id("laptop")), &[], b"");
    assert_eq!(answer.status, 200, "{}", answer.text());

    let by = |change: &Value| change["device"]["name"].as_str().unwrap_or("-").to_owned();
    let of = |machine: &Machine| {
        let mut left = changes(&machine.guillemet);
        left.retain(|change| change["error"].is_null());
        left.iter().map(|change| (told(change)[0].clone(), told(change)[1].clone(), by(change))).collect::<Vec<_>>()
    };
    let rows = |rows: &[(&str, &str, &str)]| {
        rows.iter().map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), (*c).to_owned())).collect::<Vec<_>>()
    };
    let expected = [
        ("secret_created", "cal-key", "-"),
        ("account_created", "-", "-"),
        ("device_invited", "-", "-"),
        ("device_joined", "laptop", "-"),
        ("secret_rotated", "cal-key", "laptop"),
        ("secret_deleted", "cal-key", "-"),
        ("device_revoked", "laptop", "-"),
    ];
    assert_eq!(of(&desk), rows(&expected));
    let expected =
        [("account_joined", "-", "-"), ("secret_rotated", "cal-key", "-"), ("secret_deleted", "cal-key", "desk")];
    assert_eq!(of(&laptop), rows(&expected));
    let rotated = &events(&desk.guillemet, "outcome=secret_rotated")[0];
    assert_eq!((&rotated["caller"], &rotated["device"]["id"]), (&Value::Null, &json!(id("laptop"))));
    // The caller of a delete and of a revocation is known only where it was made.
    for outcome in ["secret_deleted", "device_revoked"] {
        let caller = &events(&desk.guillemet, &format!("outcome={outcome}"))[0]["caller"];
        assert_eq!(caller["pid"], std::process::id(), "{outcome}");
    }
}

/// A caller without rights is refused on every route. Each refusal is in the trail with its route, and with a name only
/// if something has that name.
#[test]
fn a_refusal_by_a_rule_is_recorded_on_every_route() {
    let mut guillemet = Guillemet::start();
    guillemet.add("cal-key", CANARY);
    guillemet.write("mcp-server/a.toml", TEMPLATE);
    assert!(guillemet.stop());
    let file = guillemet.path("guillemet.toml");
    let open = fs::read_to_string(&file).unwrap();
    let uid = rustix::process::getuid().as_raw();
    fs::write(&file, format!("{open}\n[[client]]\nuid = {uid}\nsecrets = ['allowed']\n")).unwrap();
    guillemet.run();
    let mut asked = 0;
    for (method, path, endpoint) in ROUTES {
        if endpoint == Endpoint::Health {
            continue;
        }
        for (name, feature) in [("cal-key", "mcp-server"), (MISTAKEN, MISTAKEN)] {
            let template = if name == "cal-key" { "a" } else { MISTAKEN };
            let is_template = path.contains("{feature}/{name}");
            let path = path
                .replace("{name}", if is_template { template } else { name })
                .replace("{feature}", feature)
                .replace("{device}", name);
            let body = match endpoint {
                Endpoint::Resolve => json!({"secrets": [name]}).to_string(),
                Endpoint::RenderInline => {
                    let text = TEMPLATE.replace("cal-key", name);
                    json!({"feature": "mcp-server", "format": "toml", "template": text}).to_string()
                }
                _ => String::new(),
            };
            let answer = guillemet.ask(method, &path, &[], body.as_bytes());
            assert_eq!(answer.status, 403, "{method} {path}: {}", answer.text());
            assert!(!answer.text().contains("not_found"), "{}", answer.text());
            asked += 1;
        }
    }
    assert!(guillemet.stop());
    fs::write(&file, open).unwrap();
    guillemet.run();

    let refused = events(&guillemet, "class=refusal");
    assert_eq!(refused.len(), asked, "one event for each");
    for (method, path, endpoint) in ROUTES {
        if endpoint == Endpoint::Health {
            continue;
        }
        let route = format!("{method} {path}");
        let mut of: Vec<&Value> = refused.iter().filter(|event| event["route"] == route.as_str()).collect();
        of.reverse();
        assert!(of.len() == 2 && of.iter().all(|event| event["outcome"] == "forbidden"), "{route}: {of:?}");
        let is_known = |event: &Value| event["secret"] == "cal-key" || event["template"] == "mcp-server/a";
        let is_unknown = |event: &Value| event["secret"].as_str().is_some_and(|secret| secret.starts_with("unknown:"));
        let of_something = path.contains("{name}") || [Endpoint::Resolve, Endpoint::RenderInline].contains(&endpoint);
        assert_eq!((is_known(of[0]), is_unknown(of[1])), (of_something, of_something), "{route}: {of:?}");
    }
    // Refused changes were not made, so none of them is in the list; the rules were changed twice.
    let made: Vec<String> = changes(&guillemet).iter().map(|change| told(change)[0].clone()).collect();
    assert_eq!(made, ["secret_created", "configuration_changed", "configuration_changed"]);
    let counted = guillemet.get("/metrics").text();
    assert!(counted.contains(&format!("guillemet_refusals_total{{outcome=\"forbidden\"}} {asked}\n")), "{counted}");
}

/// Ten requests with a thousand invented names leave ten events, and ten thousand refusals in the counters.
#[test]
fn invented_names_push_no_refusal_out() {
    let guillemet = Guillemet::start();
    let resolve = |names: &[String]| guillemet.post("/v1/resolve", &json!({"secrets": names})).status;
    guillemet.write("mcp-server/a.toml", TEMPLATE);
    assert_eq!(guillemet.get("/v1/render/mcp-server/a").status, 409);
    for round in 0..10 {
        let names: Vec<String> = (0..1000).map(|number| format!("invented-{round}-{number}")).collect();
        assert_eq!(resolve(&names), 409);
    }
    let refused = events(&guillemet, "class=refusal");
    assert_eq!(refused.len(), 11);
    for event in &refused[..10] {
        assert_eq!((&event["secret"], &event["uses"]), (&json!("unknown:other"), &json!(1000)));
    }
    assert_eq!((&refused[10]["secret"], &refused[10]["uses"]), (&json!("cal-key"), &json!(1)));
    // Of the first names only a hash is kept. A query by such a name finds the request it was in.
    assert_eq!(events(&guillemet, "secret=invented-0-3").len(), 1);
    let counted = guillemet.get("/metrics").text();
    assert!(counted.contains("guillemet_refusals_total{outcome=\"missing\"} 10001\n"), "{counted}");
    guillemet.add("invented-0-3", CANARY);
    let usage = guillemet.get("/v1/secrets/invented-0-3").json()["usage"].clone();
    assert_eq!(usage["refusals"][0]["count"], 1, "{usage}");
    // The log mentions the caller once a minute, and the test may run into the next minute.
    let told = guillemet.log().matches("a caller was refused").count();
    assert!((1..=3).contains(&told), "{told}");
}

#[test]
fn the_bound_of_changes_is_their_own() {
    let mut guillemet = Guillemet::init();
    let file = guillemet.path("guillemet.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("changes = 10000", "changes = 20")).unwrap();
    guillemet.run();
    guillemet.add("cal-key", CANARY);
    assert_eq!(guillemet.post("/v1/resolve", &json!({"secrets": ["cal-key"]})).status, 200);
    for round in 0..30 {
        assert_eq!(patch(&guillemet, "cal-key", &json!({"enabled": round % 2 == 1})), 200);
    }
    let left = events(&guillemet, "class=change");
    assert_eq!(left.len(), 20);
    assert_eq!((&left[0]["outcome"], &left[19]["outcome"]), (&json!("secret_enabled"), &json!("secret_disabled")));
    assert_eq!(events(&guillemet, "class=answer").len(), 1);
    let metrics = guillemet.get("/metrics").text();
    for (kind, count) in [("answers", 1), ("refusals", 0), ("changes", 20)] {
        assert!(metrics.contains(&format!("guillemet_audit_events{{kind=\"{kind}\"}} {count}.0\n")), "{metrics}");
    }
    for query in ["class=none", "outcome=secret_eaten"] {
        assert_eq!(guillemet.get(&format!("/v1/usage?{query}")).status, 422, "{query}");
    }
    // The file contains no names, neither of changed secrets nor of callers.
    assert!(guillemet.stop());
    let vault = fs::read(guillemet.path("vault.db")).unwrap();
    let exe = std::env::current_exe().unwrap();
    for text in ["cal-key", "secret_enabled", exe.file_name().unwrap().to_str().unwrap()] {
        assert!(!vault.windows(text.len()).any(|window| window == text.as_bytes()), "{text}");
    }
}
