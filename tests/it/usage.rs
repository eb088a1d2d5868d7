//! The records of use are true: the real daemon's audit trail, who was refused what, and the numbers in `/metrics`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::support::daemon::{Guillemet, PROGRAM};
use serde_json::{Value, json};

const MCP: &str = r#"name = "a"
url = "https://h/mcp"
[headers]
One = "<< secret "is-missing" >>"
Two = "<< secret "is-disabled" >>"
Three = "<< secret "does-not-fit" >>"
"#;
const GOOD: &str = r#"name = "b"
url = "https://h/mcp"
[headers]
One = "Bearer << secret "fits" >>"
Two = "<< secret "fits-too" >>"
"#;
const CANARY: &str = "canary-value";

/// Makes a home with a secret of every kind, and with one refused and one answered render.
fn used() -> Guillemet {
    let guillemet = Guillemet::start();
    use_all(&guillemet);
    guillemet
}

fn use_all(guillemet: &Guillemet) {
    guillemet.write("mcp-server/a.toml", MCP);
    guillemet.write("mcp-server/b.toml", GOOD);
    guillemet.add("is-disabled", CANARY);
    guillemet.add("does-not-fit", &format!("{CANARY}\nx"));
    guillemet.add("fits", CANARY);
    guillemet.add("fits-too", CANARY);
    guillemet.set_enabled("is-disabled", false);
    assert_eq!(guillemet.get("/v1/render/mcp-server/a").status, 409);
    assert_eq!(guillemet.get("/v1/render/mcp-server/b").status, 200);
}

fn events(guillemet: &Guillemet, query: &str) -> Vec<Value> {
    let answer = guillemet.get(&format!("/v1/usage?{query}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut events = answer.json()["items"].as_array().unwrap().clone();
    events.retain(|event| event["class"] != "change");
    events
}

fn of(event: &Value, field: &str) -> String {
    event[field].as_str().unwrap_or_default().to_owned()
}

fn resolve(guillemet: &Guillemet, name: &str) -> u16 {
    guillemet.post("/v1/resolve", &json!({"secrets": [name]})).status
}

#[test]
fn answers_and_refusals_are_in_the_trail_with_who_asked() {
    let guillemet = used();
    let etag = guillemet.get("/v1/render/mcp-server/b").headers["etag"].clone();
    let confirmed = guillemet.ask("GET", "/v1/render/mcp-server/b", &[("if-none-match", etag.as_str())], b"");
    assert_eq!(confirmed.status, 304);
    let listed = guillemet.get("/v1/usage");
    assert!(!listed.text().contains(CANARY));
    assert_eq!(guillemet.get("/v1/usage?class=answer").json()["count"], 6);
    assert_eq!(guillemet.get("/v1/usage?class=refusal").json()["count"], 3);
    let items = &events(&guillemet, "");
    let told: Vec<(String, String, String)> =
        items.iter().map(|event| (of(event, "outcome"), of(event, "secret"), of(event, "field"))).collect();
    let expected = [
        ("revalidated", "fits-too", "headers.Two"),
        ("revalidated", "fits", "headers.One"),
        ("answered", "fits-too", "headers.Two"),
        ("answered", "fits", "headers.One"),
        ("answered", "fits-too", "headers.Two"),
        ("answered", "fits", "headers.One"),
        ("unfit", "does-not-fit", "headers.Three"),
        ("disabled", "is-disabled", "headers.Two"),
        ("missing", "is-missing", "headers.One"),
    ];
    let expected = expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));
    assert_eq!(told, expected);
    let exe = std::env::current_exe().unwrap();
    for event in items {
        let caller = json!({
            "uid": rustix::process::getuid().as_raw(),
            "gid": rustix::process::getgid().as_raw(),
            "pid": std::process::id(),
            "exe": exe.to_str().unwrap(),
        });
        assert_eq!(event["caller"], caller);
        assert_eq!(event["target"], "mcp-json");
        let fields: BTreeSet<&str> = event.as_object().unwrap().keys().map(String::as_str).collect();
        let known = [
            "after",
            "before",
            "caller",
            "class",
            "device",
            "error",
            "field",
            "outcome",
            "route",
            "secret",
            "secret_id",
            "session",
            "subject",
            "target",
            "template",
            "time",
            "uses",
        ];
        assert_eq!(fields, BTreeSet::from(known));
        assert!(
            ["after", "before", "device", "error", "route", "session", "subject"].iter().all(|of| event[of].is_null())
        );
        assert_eq!(event["uses"], 1);
    }
    assert_eq!(items[8]["secret_id"], Value::Null);
    assert_eq!(items[7]["secret_id"], guillemet.get("/v1/secrets/is-disabled").json()["id"]);
    assert_eq!((of(&items[0], "template"), of(&items[8], "template")), ("mcp-server/b".into(), "mcp-server/a".into()));

    // A raw resolution has neither a template nor a field.
    assert_eq!(resolve(&guillemet, "fits"), 200);
    let newest = &events(&guillemet, "limit=1")[0];
    assert_eq!((&newest["template"], &newest["field"], &newest["target"]), (&Value::Null, &Value::Null, &Value::Null));
}

#[test]
fn what_is_refused_is_counted_with_its_secret_or_its_name() {
    let guillemet = used();
    guillemet.get("/v1/render/mcp-server/a");
    assert_eq!(resolve(&guillemet, "IS-MISSING"), 409);
    let (uid, exe) = (rustix::process::getuid().as_raw(), std::env::current_exe().unwrap());
    let usage = |name: &str| guillemet.get(&format!("/v1/secrets/{name}")).json()["usage"].clone();
    let missing = usage("is-missing");
    let refusals = missing["refusals"].as_array().unwrap();
    assert_eq!(refusals.len(), 2, "{missing}");
    let last = of(&refusals[0], "last_at");
    assert_eq!(
        refusals[0],
        json!({"outcome": "missing", "template": "mcp-server/a", "field": "headers.One", "target": "mcp-json",
               "uid": uid, "exe": exe.to_str().unwrap(), "count": 2, "last_at": last})
    );
    assert!(last.ends_with('Z'));
    assert_eq!((&refusals[1]["template"], &refusals[1]["count"]), (&Value::Null, &json!(1)));
    assert_eq!((&missing["by_template"], &missing["by_caller"]), (&json!([]), &json!([])));

    assert_eq!(usage("is-disabled")["refusals"][0]["outcome"], "disabled");
    assert_eq!(usage("does-not-fit")["refusals"][0]["outcome"], "unfit");
    assert_eq!(usage("fits")["refusals"], json!([]));
    let caller = &usage("fits")["by_caller"][0];
    assert_eq!((&caller["uid"], &caller["exe"], &caller["count"]), (&json!(uid), &json!(exe.to_str()), &json!(1)));
    assert!(caller["last_used_at"].is_string());

    // The name belongs to a secret now, and the earlier refusals are still shown.
    guillemet.add("is-missing", "there");
    assert_eq!(usage("is-missing")["refusals"].as_array().unwrap().len(), 2);
    assert_eq!(events(&guillemet, "secret=is-missing").len(), 3);

    let shown = guillemet.command(&["secret", "show", "is-missing"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("Refusals\n  2  missing  mcp-server/a  headers.One  mcp-json"), "{shown}");
}

#[test]
fn the_trail_is_filtered_and_paged() {
    let guillemet = used();
    let all = events(&guillemet, "class=refusal");
    let fits = guillemet.get("/v1/usage?secret=FITS&class=answer").json();
    assert_eq!((fits["count"].as_u64(), of(&fits["items"][0], "secret")), (Some(1), "fits".into()));
    assert_eq!(guillemet.get("/v1/usage?secret=never-heard-of").json(), json!({"count": 0, "items": []}));
    let page = guillemet.get("/v1/usage?class=refusal&limit=2&offset=1").json();
    assert_eq!((page["count"].as_u64(), page["items"].as_array().unwrap().as_slice()), (Some(3), &all[1..3]));
    assert_eq!(guillemet.get("/v1/usage?class=refusal&offset=3").json(), json!({"count": 3, "items": []}));
    assert!(events(&guillemet, "class=answer&outcome=missing").is_empty());

    let time = of(&all[0], "time");
    let since = events(&guillemet, &format!("since={time}"));
    assert!(!since.is_empty() && since.iter().all(|event| of(event, "time") >= time));
    assert!(events(&guillemet, "since=2999-01-01T00:00:00%2B02:00").is_empty());
    assert!(events(&guillemet, "since=2999-01-01T00:00:00+02:00").is_empty(), "a plus that was not encoded");
    assert_eq!(events(&guillemet, "since=1969-12-31T23:59:59-11:00").len(), 5);

    for (query, fields) in [
        ("since=yesterday", vec!["since"]),
        ("since=", vec!["since"]),
        ("limit=0&offset=-1&secret=%20&since=1", vec!["limit", "offset", "secret", "since"]),
        ("limit=1001", vec!["limit"]),
        ("colour=red", vec!["colour"]),
    ] {
        let answer = guillemet.get(&format!("/v1/usage?{query}"));
        assert_eq!((answer.status, answer.errors("field")), (422, fields.iter().map(ToString::to_string).collect()));
    }
}

#[test]
fn a_deleted_secret_leaves_its_events_and_the_sums() {
    let guillemet = Guillemet::start();
    guillemet.add("short-lived", CANARY);
    assert_eq!(resolve(&guillemet, "short-lived"), 200);
    let id = guillemet.get("/v1/secrets/short-lived").json()["id"].clone();
    assert_eq!(guillemet.ask("DELETE", "/v1/secrets/short-lived", &[], b"").status, 204);
    let event = &events(&guillemet, "")[0];
    assert_eq!((&event["secret"], &event["secret_id"]), (&json!("short-lived"), &id));
    assert_eq!(sample(&metrics(&guillemet), "guillemet_resolutions_total"), 1.0);
    // Another secret with that name is a different one.
    guillemet.add("short-lived", CANARY);
    let of_both = events(&guillemet, "secret=short-lived");
    assert!(of_both.len() == 1 && of_both[0]["secret_id"] == id, "{of_both:?}");
    assert_eq!(guillemet.get("/v1/secrets/short-lived").json()["resolution_count"], 0);
}

#[test]
fn after_a_kill_every_answer_is_in_the_trail() {
    let mut guillemet = Guillemet::start();
    guillemet.add("fits", CANARY);
    for round in 1..=3 {
        for _ in 0..40 {
            assert_eq!(resolve(&guillemet, "fits"), 200);
            assert_eq!(resolve(&guillemet, "not-there"), 409);
        }
        guillemet.kill();
        guillemet.run();
        let listed = events(&guillemet, "limit=1000");
        assert_eq!(listed.len(), 80 * round);
        let outcomes: Vec<String> = listed.iter().map(|event| of(event, "outcome")).collect();
        assert!(outcomes.chunks(2).all(|pair| pair == ["missing", "answered"]), "{outcomes:?}");
    }
}

#[test]
fn the_bound_holds_and_the_counts_stay_true() {
    let mut guillemet = Guillemet::init();
    let config = guillemet.path("guillemet.toml");
    std::fs::write(&config, "[usage]\nevents = 5\n").unwrap();
    guillemet.run();
    guillemet.add("fits", CANARY);
    guillemet
        .write("mcp-server/m.toml", "name = \"m\"\nurl = \"https://h/mcp\"\n[headers]\nA = \"<< secret \"no\" >>\"\n");
    assert_eq!(resolve(&guillemet, "no"), 409);
    for _ in 0..200 {
        assert_eq!(resolve(&guillemet, "fits"), 200);
    }
    let outcomes =
        |guillemet: &Guillemet| events(guillemet, "").iter().map(|event| of(event, "outcome")).collect::<Vec<_>>();
    let mut expected = vec!["answered".to_owned(); 5];
    expected.push("missing".into());
    assert_eq!(outcomes(&guillemet), expected, "a flood of answers does not push a refusal out");
    for _ in 0..200 {
        assert_eq!(resolve(&guillemet, "no"), 409);
    }
    let newest = outcomes(&guillemet);
    assert_eq!((newest.len(), newest[0].as_str(), newest[9].as_str()), (10, "missing", "answered"));
    assert_eq!(guillemet.get("/v1/secrets/fits").json()["resolution_count"], 200);
    assert_eq!(guillemet.get("/v1/secrets/no").json()["usage"]["refusals"][0]["count"], 201);

    // A lower limit applies after a reload.
    std::fs::write(&config, "[usage]\nevents = 2\n").unwrap();
    guillemet.signal(rustix::process::Signal::HUP);
    let deadline = Instant::now() + Duration::from_secs(60);
    while outcomes(&guillemet) != ["missing", "missing", "answered", "answered"] {
        assert!(Instant::now() < deadline, "{:?}", outcomes(&guillemet));
    }

    // Without a trail, uses are still counted.
    std::fs::write(&config, "[usage]\nevents = 0\n").unwrap();
    assert!(guillemet.stop());
    guillemet.run();
    assert_eq!(resolve(&guillemet, "fits"), 200);
    assert!(outcomes(&guillemet).is_empty());
    assert_eq!(guillemet.get("/v1/secrets/fits").json()["resolution_count"], 201);
}

#[test]
fn the_vault_file_shows_neither_name_nor_place_nor_caller_of_an_event() {
    let mut guillemet = used();
    assert_eq!(resolve(&guillemet, "nobody-has-this-name"), 409);
    assert_eq!(events(&guillemet, "").len(), 6);
    assert!(guillemet.stop());
    let exe = std::env::current_exe().unwrap();
    let exe = exe.file_name().unwrap().to_str().unwrap();
    for file in ["vault.db", "vault.db-wal"] {
        let bytes = std::fs::read(guillemet.path(file)).unwrap_or_default();
        let texts = ["nobody-has-this-name", "is-missing", "fits", "mcp-server", "headers", "mcp-json", exe, CANARY];
        for text in texts {
            assert!(!bytes.windows(text.len()).any(|window| window == text.as_bytes()), "{text} in {file}");
        }
    }
}

#[test]
fn the_command_line_prints_the_trail() {
    let guillemet = used();
    let printed = |arguments: &[&str]| {
        let output = guillemet.command(arguments);
        assert!(output.status.success());
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (table, note) = printed(&["usage", "--class", "refusal"]);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split('\t').collect()).collect();
    let header = ["Time", "Outcome", "Subject", "Template", "Field", "Target", "uid", "pid", "Executable", "Details"];
    assert_eq!(lines[0], header);
    assert_eq!((lines.len(), note.as_str()), (4, ""));
    assert_eq!(lines[3][1..5], ["missing", "is-missing", "mcp-server/a", "headers.One"]);
    let (table, note) = printed(&["usage", "--limit", "2"]);
    assert_eq!(table.lines().count(), 3);
    // A secret of each kind, one that was disabled, and the start of the daemon.
    assert!(note.contains("2 of 11"), "{note}");
    let since = "2000-01-01T00:00:00+01:00";
    let (json, _) = printed(&["usage", "--secret", "fits", "--class", "answer", "--since", since, "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json["count"].as_u64(), of(&json["items"][0], "secret")), (Some(1), "fits".into()));
    let wrong = guillemet.command(&["usage", "--since", "soon"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("since: must be a time such as"));
}

/// The two programs are this process and the command line.
#[test]
fn two_programs_of_one_user_are_two_callers() {
    let guillemet = used();
    let rendered = guillemet.command(&["render", "mcp-server/b"]);
    assert!(rendered.status.success());
    let usage = guillemet.get("/v1/secrets/fits").json()["usage"].clone();
    let callers: Vec<String> = usage["by_caller"].as_array().unwrap().iter().map(|caller| of(caller, "exe")).collect();
    let own = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    assert_eq!(callers.iter().collect::<BTreeSet<_>>(), BTreeSet::from([&own, &PROGRAM.to_owned()]));
    // One place, two callers.
    assert_eq!((usage["by_template"].as_array().unwrap().len(), &usage["by_template"][0]["count"]), (1, &json!(2)));
}

type Samples = BTreeMap<String, f64>;

fn metrics(guillemet: &Guillemet) -> Samples {
    let answer = guillemet.get("/metrics");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.headers["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    parse(&answer.text())
}

fn sample(samples: &Samples, name: &str) -> f64 {
    *samples.get(name).unwrap_or_else(|| panic!("no {name} in {samples:#?}"))
}

/// Parses OpenMetrics 1.0, the part that is used, and strictly: a description before the samples, each family in one
/// piece, the suffix of its type, sorted labels, no sample twice, and the end mark.
fn parse(text: &str) -> Samples {
    let body = text.strip_suffix("# EOF\n").expect("it ends with # EOF");
    let (mut samples, mut families) = (Samples::new(), BTreeMap::new());
    let mut family = String::new();
    let is_name = |name: &str| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    for line in body.lines() {
        if let Some(described) = line.strip_prefix("# ") {
            let mut words = described.splitn(3, ' ');
            let (keyword, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            assert!(is_name(name), "{line}");
            match keyword {
                "HELP" => {
                    assert!(!rest.is_empty() && !families.contains_key(name), "{line}");
                    families.insert(name.to_owned(), String::new());
                    family = name.to_owned();
                }
                "TYPE" => {
                    assert!(["counter", "gauge", "info"].contains(&rest) && family == name, "{line}");
                    families.insert(name.to_owned(), rest.to_owned());
                }
                _ => panic!("{line}"),
            }
            continue;
        }
        let (of, value) = line.rsplit_once(' ').expect("a value");
        let value: f64 = value.parse().expect("a number");
        let (name, labels) = of.split_once('{').map_or((of, ""), |(name, labels)| (name, labels));
        let suffix = match families[&family].as_str() {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        assert!(is_name(name) && name == format!("{family}{suffix}"), "{line}");
        assert!(value >= 0.0 && name.starts_with("guillemet_"), "{line}");
        assert_ne!(labels, "}", "{line}");
        if !labels.is_empty() {
            let mut rest = labels.strip_suffix('}').expect("labels end");
            let mut seen = BTreeSet::new();
            while !rest.is_empty() {
                let (label, after) = rest.split_once("=\"").expect("a label");
                assert!(is_name(label) && seen.insert(label.to_owned()), "{line}");
                let mut escaped = false;
                let end = after.find(|c| {
                    let ends = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    ends
                });
                let end = end.expect("a label's value ends");
                rest = &after[end + 1..];
                rest = rest.strip_prefix(',').unwrap_or(rest);
            }
        }
        assert!(samples.insert(of.to_owned(), value).is_none(), "twice: {line}");
    }
    assert!(families.values().all(|kind| !kind.is_empty()));
    samples
}

#[test]
fn metrics_tell_numbers_and_no_name() {
    let mut guillemet = used();
    guillemet.get("/nowhere");
    // By then both templates have been planned.
    guillemet.get("/v1/templates");
    let text = guillemet.get("/metrics").text();
    for name in ["fits", "is-missing", "is-disabled", CANARY, "mcp-server"] {
        assert!(!text.contains(name), "{name} in {text}");
    }
    let samples = metrics(&guillemet);
    for (name, value) in [
        ("guillemet_resolutions_total", 2.0),
        (r#"guillemet_refusals_total{outcome="missing"}"#, 1.0),
        (r#"guillemet_refusals_total{outcome="disabled"}"#, 1.0),
        (r#"guillemet_refusals_total{outcome="unfit"}"#, 1.0),
        (r#"guillemet_refusals_total{outcome="forbidden"}"#, 0.0),
        (r#"guillemet_secrets{status="active"}"#, 3.0),
        (r#"guillemet_secrets{status="disabled"}"#, 1.0),
        (r#"guillemet_secrets{status="missing"}"#, 1.0),
        (r#"guillemet_templates{status="ok"}"#, 2.0),
        (r#"guillemet_audit_events{kind="answers"}"#, 2.0),
        (r#"guillemet_audit_events{kind="refusals"}"#, 3.0),
        (r#"guillemet_audit_events{kind="changes"}"#, 6.0),
        (r#"guillemet_requests_total{endpoint="/v1/secrets",method="POST",status="201"}"#, 4.0),
        (r#"guillemet_requests_total{endpoint="/v1/render/{feature}/{name}",method="GET",status="409"}"#, 1.0),
        (r#"guillemet_requests_total{endpoint="none",method="none",status="404"}"#, 1.0),
        (r#"guillemet_requests_total{endpoint="/metrics",method="GET",status="200"}"#, 1.0),
        ("guillemet_connections", 1.0),
        (r#"guillemet_journal_bytes{state="used"}"#, 0.0),
    ] {
        assert_eq!(sample(&samples, name), value, "{name}");
    }
    assert_eq!(sample(&samples, &format!(r#"guillemet_build_info{{version="{}"}}"#, env!("CARGO_PKG_VERSION"))), 1.0);
    assert!(sample(&samples, "guillemet_start_time_seconds") > 1.7e9);
    assert!(sample(&samples, "guillemet_plugins") >= 4.0);
    assert!(sample(&samples, "guillemet_planners") >= 1.0);
    assert!(sample(&samples, r#"guillemet_journal_bytes{state="size"}"#) > 1e6);

    // Totals survive a restart; counters since the start begin again at zero.
    guillemet.kill();
    guillemet.run();
    let samples = metrics(&guillemet);
    assert_eq!(sample(&samples, "guillemet_resolutions_total"), 2.0);
    assert!(!samples.contains_key(r#"guillemet_requests_total{endpoint="none",method="none",status="404"}"#));
}

#[test]
fn metrics_tell_names_when_they_are_asked_to() {
    let mut guillemet = Guillemet::init();
    std::fs::write(guillemet.path("guillemet.toml"), "[metrics]\nsecret_names = true\n").unwrap();
    guillemet.run();
    use_all(&guillemet);
    let samples = metrics(&guillemet);
    assert_eq!(sample(&samples, r#"guillemet_secret_resolutions_total{secret="fits"}"#), 1.0);
    assert_eq!(sample(&samples, r#"guillemet_secret_resolutions_total{secret="is-disabled"}"#), 0.0);
    assert!(sample(&samples, r#"guillemet_secret_last_used_seconds{secret="fits"}"#) > 1.7e9);
    assert!(!samples.contains_key(r#"guillemet_secret_last_used_seconds{secret="is-disabled"}"#));
}

/// A value that a caller sent in place of a name.
const MISTAKEN: &str = "sk-live-CanaryOfAMistake0123456789";

/// Returns the bytes of the journal.
fn journal(guillemet: &Guillemet) -> Vec<u8> {
    std::fs::read(guillemet.path("usage.journal")).unwrap()
}

/// Returns the texts of a use in `place.toml` that these bytes show, which must be none.
fn shown(bytes: &[u8]) -> Vec<String> {
    let exe = std::env::current_exe().unwrap();
    let texts = [
        "canary-template",
        "Canary-Field",
        "canary-name",
        MISTAKEN,
        "canaryofamistake",
        "mcp-json",
        exe.file_name().unwrap().to_str().unwrap(),
    ];
    // Most of the file was never written.
    let written = |page: &&[u8]| page.iter().any(|byte| *byte != 0);
    let bytes = bytes.chunks(4096).filter(written).collect::<Vec<_>>().concat();
    let holds = |text: &&str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    texts.into_iter().filter(holds).map(str::to_owned).collect()
}

/// Makes one answer and every kind of refusal in a recognizable place. Returns the number of events.
fn use_a_canary(guillemet: &Guillemet) -> u64 {
    assert_eq!(guillemet.get("/v1/render/mcp-server/canary-template").status, 200);
    assert_eq!(guillemet.get("/v1/render/mcp-server/canary-template-2").status, 409);
    assert_eq!(resolve(guillemet, "canary-name"), 200);
    assert_eq!(resolve(guillemet, MISTAKEN), 409);
    let inline = MCP.replace("is-missing", MISTAKEN).replace("is-disabled", MISTAKEN).replace("does-not-fit", "fits");
    let inline = json!({"feature": "mcp-server", "format": "toml", "template": inline.replace("fits", "canary-name")});
    assert_eq!(guillemet.post("/v1/render", &inline).status, 409);
    // The name that occurs twice in the last request is one event.
    5
}

fn canary_home() -> Guillemet {
    let guillemet = Guillemet::start();
    let template = "name = 'a'\nurl = 'https://h/mcp'\n[headers]\nCanary-Field = \"<< secret 'NAME' >>\"\n";
    guillemet.write("mcp-server/canary-template.toml", &template.replace("NAME", "canary-name"));
    guillemet.write("mcp-server/canary-template-2.toml", &template.replace("NAME", "canary-name-missing"));
    guillemet.add("canary-name", CANARY);
    guillemet
}

#[test]
fn the_journal_shows_nothing_of_a_use_before_and_after_it_is_folded() {
    let mut guillemet = canary_home();
    let empty = journal(&guillemet);
    let of_one = use_a_canary(&guillemet);
    let running = journal(&guillemet);
    assert_ne!(running, empty, "nothing was recorded");
    assert_eq!(shown(&running), Vec::<String>::new(), "while the daemon runs");
    guillemet.kill();
    assert_eq!(shown(&journal(&guillemet)), Vec::<String>::new(), "after kill -9");

    guillemet.run();
    assert_eq!(events(&guillemet, "").len() as u64, of_one, "what was recorded before the kill counts once");
    assert_eq!(guillemet.get("/v1/secrets/canary-name").json()["resolution_count"], 2);
    assert_eq!(shown(&journal(&guillemet)), Vec::<String>::new(), "folded");
    use_a_canary(&guillemet);
    assert!(guillemet.stop());
    assert_eq!(shown(&journal(&guillemet)), Vec::<String>::new(), "after a stop");
    guillemet.run();
    assert_eq!(events(&guillemet, "").len() as u64, 2 * of_one);
}

#[test]
fn a_value_sent_in_place_of_a_name_is_shown_and_kept_as_a_hash_alone() {
    let mut guillemet = canary_home();
    std::fs::write(guillemet.path("guillemet.toml"), "[metrics]\nsecret_names = true\n").unwrap();
    guillemet.signal(rustix::process::Signal::HUP);
    use_a_canary(&guillemet);
    for (method, path) in [("GET", "/v1/secrets/"), ("DELETE", "/v1/secrets/"), ("PATCH", "/v1/secrets/")] {
        assert_ne!(guillemet.ask(method, &format!("{path}{MISTAKEN}"), &[], b"{}").status, 200);
    }
    let all = events(&guillemet, "");
    let unknown: Vec<String> = all.iter().map(|event| of(event, "secret")).filter(|of| of.contains(':')).collect();
    assert_eq!(unknown.len(), 2, "{all:?}");
    let digits = unknown[0].strip_prefix("unknown:").unwrap();
    assert!(digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit()), "{unknown:?}");
    assert!(unknown.iter().all(|of| *of == unknown[0]), "the same hash each time: {unknown:?}");
    // A name that a template references is recorded as it is.
    assert!(all.iter().any(|event| of(event, "secret") == "canary-name-missing"));
    assert_eq!(events(&guillemet, "outcome=missing").len(), 3);
    let found = events(&guillemet, &format!("secret={}", MISTAKEN.to_uppercase()));
    assert_eq!((found.len(), &found[0]["uses"]), (2, &json!(2)), "whoever knows the name finds it");

    for path in ["/v1/usage", "/v1/secrets", "/v1/status", "/metrics"] {
        assert!(!guillemet.get(path).text().contains(MISTAKEN), "{path}");
    }
    let printed = guillemet.command(&["usage"]);
    assert!(String::from_utf8(printed.stdout).unwrap().contains(&unknown[0]));
    assert!(guillemet.stop());
    assert!(guillemet.log().contains("answered"), "the log is written at trace level");
    let mut files = vec![("the log".into(), guillemet.log().into_bytes())];
    for name in ["usage.journal", "vault.db", "vault.db-wal"] {
        files.push((name.to_owned(), std::fs::read(guillemet.path(name)).unwrap_or_default()));
    }
    for (name, bytes) in files {
        let bytes = bytes.to_ascii_lowercase();
        let mistaken = MISTAKEN.to_ascii_lowercase();
        assert!(!bytes.windows(mistaken.len()).any(|window| window == mistaken.as_bytes()), "{name}");
    }

    // The name becomes a secret, and the earlier refusals are shown with it.
    guillemet.run();
    guillemet.add(MISTAKEN, CANARY);
    let told = guillemet.get(&format!("/v1/secrets/{MISTAKEN}")).json()["usage"]["refusals"].clone();
    let counted: u64 = told.as_array().unwrap().iter().map(|refused| refused["count"].as_u64().unwrap()).sum();
    assert_eq!(counted, 3, "{told}");
}

#[test]
fn of_names_that_nothing_has_sixteen_an_hour_are_told_apart() {
    let guillemet = Guillemet::start();
    let names: Vec<String> = (0..40).map(|number| format!("guess-{number}")).collect();
    assert_eq!(guillemet.post("/v1/resolve", &json!({"secrets": names})).status, 409);
    let told = events(&guillemet, "");
    assert!(told.len() == 1 && told[0]["secret"] == "unknown:other" && told[0]["uses"] == 40, "{told:?}");
    let found = names.iter().filter(|name| !events(&guillemet, &format!("secret={name}")).is_empty()).count();
    assert_eq!(found, 16);
    assert_eq!(sample(&metrics(&guillemet), r#"guillemet_refusals_total{outcome="missing"}"#), 40.0);
}

/// Replaces the journal by one of the first format, whose records are not encrypted. Each record is a word with its
/// length in words and bytes, the content in whole words, and a word of two checksums (content; generation, place and
/// first word). The header, which has the same layout, is kept. The records follow what has been folded, and are also
/// before it.
fn in_the_clear(guillemet: &Guillemet, records: &[Vec<u8>]) {
    let database = rusqlite::Connection::open(guillemet.path("vault.db")).unwrap();
    let query = "SELECT generation, at FROM usage_position";
    let position = |row: &rusqlite::Row<'_>| Ok((row.get::<_, u64>(0)?, row.get::<_, usize>(1)?));
    let (generation, mut at) = database.query_row(query, [], position).unwrap();
    drop(database);
    let mut file = journal(guillemet);
    let put = |file: &mut [u8], word: usize, value: u64| file[word * 8..][..8].copy_from_slice(&value.to_le_bytes());
    put(&mut file, 1, 1);
    let checksum = crc32fast::hash(&file[..48]);
    put(&mut file, 6, checksum.into());
    let area = 512 + (usize::from(generation.is_multiple_of(2)) * (file.len() / 8 - 512)) / 2;
    let stamp = generation | (u64::from(crc32fast::hash(&generation.to_le_bytes())) << 32);
    assert_eq!(file[area * 8..][..8], stamp.to_le_bytes(), "the active area");
    // The folded part was not encrypted either.
    assert!(records[0].len() < (at - 1) * 8);
    file[(area + 1) * 8..][..records[0].len()].copy_from_slice(&records[0]);
    for record in records {
        let words = record.len().div_ceil(8) + 2;
        let head = (words as u64) | ((record.len() as u64) << 32);
        let place = [generation, at as u64, head].map(u64::to_le_bytes).concat();
        put(&mut file, area + at, head);
        file[(area + at + 1) * 8..][..record.len()].copy_from_slice(record);
        let commit = (u64::from(crc32fast::hash(record)) << 32) | u64::from(crc32fast::hash(&place));
        put(&mut file, area + at + words - 1, commit);
        at += words;
    }
    std::fs::write(guillemet.path("usage.journal"), file).unwrap();
}

/// Returns a record as the first version wrote it: outcome, time, caller; executable, template and target; and one use
/// of a name that no secret had. Texts have their length in two bytes before them, 65535 if there is none.
fn first_record(outcome: u8, template: Option<&str>, name: &str, field: &str) -> Vec<u8> {
    let text = |text: Option<&str>| match text {
        Some(text) => [&(text.len() as u16).to_le_bytes(), text.as_bytes()].concat(),
        None => u16::MAX.to_le_bytes().to_vec(),
    };
    let mut record = vec![outcome];
    record.extend(1_795_000_000_000u64.to_le_bytes());
    for number in [1000u32, 1000, 77] {
        record.extend(number.to_le_bytes());
    }
    for value in [Some("/usr/bin/canary-template"), template, None] {
        record.extend(text(value));
    }
    record.push(0);
    record.extend(text(Some(name)));
    record.extend(text(Some(field)));
    record
}

#[test]
fn a_journal_in_the_clear_is_counted_once_and_replaced_by_a_sealed_one() {
    let mut guillemet = canary_home();
    let of_one = use_a_canary(&guillemet);
    use_a_canary(&guillemet);
    assert!(guillemet.stop());
    let records = [
        first_record(3, None, MISTAKEN, ""),
        first_record(3, Some("mcp-server/canary-template-2"), "canary-name-missing", "headers.Canary-Field"),
        first_record(6, None, MISTAKEN, ""),
    ];
    in_the_clear(&guillemet, &records);
    assert!(shown(&journal(&guillemet)).contains(&MISTAKEN.to_owned()));
    let earlier = Guillemet::copy(guillemet.dir.path());

    guillemet.run();
    assert_eq!(guillemet.get("/v1/status").json()["warnings"], json!([]));
    let told = events(&guillemet, "");
    assert_eq!(told.len() as u64, 2 * of_one + 3);
    let newest: Vec<(String, bool)> =
        told[..3].iter().map(|event| (of(event, "outcome"), of(event, "secret").starts_with("unknown:"))).collect();
    let expected = [("forbidden", true), ("missing", false), ("missing", true)];
    assert_eq!(newest, expected.map(|(outcome, unknown)| (outcome.to_owned(), unknown)));
    assert_eq!(of(&told[1], "secret"), "canary-name-missing");
    assert_eq!(sample(&metrics(&guillemet), r#"guillemet_journal_bytes{state="used"}"#), 0.0);
    assert_eq!(shown(&journal(&guillemet)), Vec::<String>::new());
    // From here on the journal is like any other.
    use_a_canary(&guillemet);
    guillemet.kill();
    guillemet.run();
    assert_eq!(events(&guillemet, "").len() as u64, 3 * of_one + 3);
    assert_eq!(shown(&journal(&guillemet)), Vec::<String>::new());

    // The journal that replaces it cannot be written. Its records have been counted by then, and are not counted again.
    let mut cut_off = earlier;
    std::fs::create_dir(cut_off.path(".usage.journal.new")).unwrap();
    assert!(!cut_off.try_run(&[]));
    assert!(cut_off.log().contains("usage.journal"), "{}", cut_off.log());
    std::fs::remove_dir(cut_off.path(".usage.journal.new")).unwrap();
    cut_off.run();
    assert_eq!(events(&cut_off, "").len() as u64, 2 * of_one + 3);
    assert_eq!(shown(&journal(&cut_off)), Vec::<String>::new());
}
