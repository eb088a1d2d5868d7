//! What one machine of an account shows about the others' uses: wherever it shows uses at all, and before a delete.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::account::{Place, Server};
use crate::support::browser::{Browser, Page, SECRETS};
use crate::support::relay::Relay;
use crate::support::team::{Machine, Team, in_sync, join};
use crate::support::terminal::Terminal;
use data_encoding::HEXLOWER;
use guillemet_account::client::AccountClient;
use guillemet_account::seal::{BoxKind, EpochKey};
use guillemet_base::home::Home;
use guillemet_secret::crypto::Key;
use guillemet_testing::wait::until;
use guillemet_vault::keys::UnlockWith;
use guillemet_vault::store::Vault;
use guillemet_wire::api_key::ApiKey;
use guillemet_wire::{AccountId, DeviceId, UsageUpload};
use serde_json::{Value, json};

/// Returns the row with this name from a listing of the API.
fn row(machine: &Machine, name: &str) -> Value {
    let listed = machine.get("/v1/secrets").json();
    listed["items"].as_array().unwrap().iter().find(|row| row["name"] == name).cloned().expect("the row")
}

/// Returns the column "Last used" of `secret list` in a pipe.
fn listed(machine: &Machine, name: &str) -> String {
    let text = machine.done(&["secret", "list"], "");
    let line = text.lines().find(|line| line.split('\t').next() == Some(name)).expect("the line");
    line.split('\t').next_back().unwrap().to_owned()
}

/// Returns the text before the confirmation of a delete, without a terminal to answer it.
fn question(machine: &Machine, name: &str) -> String {
    let asked = machine.command(&["secret", "delete", name]);
    assert!(!asked.status.success());
    let told = String::from_utf8(asked.stderr).unwrap();
    told.lines().next().unwrap().to_owned()
}

#[test]
fn what_another_machine_uses_is_told_everywhere() {
    let mut team = Team::at(Place::sqlite());
    let (mut a, mut b) = (team.machine("alpha"), team.machine("beta"));
    let config = std::fs::read_to_string(a.path("guillemet.toml")).unwrap();
    assert!(config.contains("secret_names = false"));
    std::fs::write(a.path("guillemet.toml"), config.replace("secret_names = false", "secret_names = true")).unwrap();
    a.run();
    b.run();
    team.found(&a);
    join(&a, &b);
    a.add("one", "value");
    a.add("unused", "value");
    in_sync(&[&a, &b]);
    b.write_template("one", "one");
    for _ in 0..3 {
        assert_eq!(b.render("one").status, 200);
    }
    let by_device = |name: &str| a.show(name)["usage"]["by_device"][0].clone();
    let told = until("what beta has used", || Some(by_device("one")).filter(|told| told["count"] == 3));
    assert_eq!((&told["device"], &told["recent"]), (&json!("beta"), &json!(true)), "{told}");
    assert!(told["last_used_at"].is_string() && told["told_at"].is_string(), "{told}");
    let unused = by_device("unused");
    assert_eq!((&unused["count"], &unused["last_used_at"]), (&json!(0), &Value::Null), "{unused}");

    // The API: one secret, the listing, a change.
    let last = told["last_used_at"].as_str().unwrap();
    let enabled = a.ask("PATCH", "/v1/secrets/one", &[], br#"{"enabled": true}"#).json();
    for shown in [a.show("one"), row(&a, "one"), enabled] {
        let fields = ["resolution_count", "last_used_at", "last_used_on", "usage_complete"].map(|field| &shown[field]);
        assert_eq!(fields, [&json!(3), &json!(last), &json!("beta"), &json!(true)], "{shown}");
    }
    let shown = row(&a, "unused");
    let fields = ["resolution_count", "last_used_at", "last_used_on", "usage_complete"].map(|field| &shown[field]);
    assert_eq!(fields, [&json!(0), &Value::Null, &Value::Null, &json!(true)], "{shown}");
    // The command line.
    assert_eq!((listed(&a, "one"), listed(&a, "unused")), (format!("{last} on beta"), "never".to_owned()));
    let text = a.done(&["secret", "show", "one"], "");
    assert!(text.contains(&format!("Uses         3\nLast used    {last} on beta\n")), "{text}");
    assert!(text.contains("Uses on other devices\n  3  beta  "), "{text}");
    assert_eq!(question(&a, "one"), format!("last used {last} on beta"));
    assert_eq!(question(&a, "unused"), "never used on any device");
    let rotated = a.command_with(&["secret", "rotate", "one", "--yes"], b"another");
    let rotated = String::from_utf8(rotated.stderr).unwrap();
    assert!(rotated.contains(&format!("last used {last} on beta")), "{rotated}");
    // The console.
    let browser = Browser::open(&a);
    let table = browser.get(SECRETS).text();
    assert!(table.contains(&format!("datetime=\"{last}\"")) && table.contains("on beta"), "{table}");
    for page in ["delete", "rotate"] {
        let page = browser.page(&format!("{SECRETS}/one/{page}"));
        assert!(page.says("was last used: just now on beta.") || page.says("min ago on beta."), "{}", page.text);
    }
    let live: Value = serde_json::from_str(&browser.get(&format!("{SECRETS}/live")).text()).unwrap();
    assert_eq!(live["secrets"]["one"]["last_used_on"], "beta", "{live}");
    let query = "?sort=last_used&direction=desc";
    let sorted = browser.get(&format!("{SECRETS}{query}")).text();
    assert!(sorted.find("id=\"secret-one\"").unwrap() < sorted.find("id=\"secret-unused\"").unwrap());
    // Metrics have the time of the last use anywhere, but each device counts only its own uses.
    let metrics = a.get("/metrics").text();
    assert!(metrics.contains("guillemet_secret_last_used_seconds{secret=\"one\"}"), "{metrics}");
    assert!(!metrics.contains("guillemet_secret_last_used_seconds{secret=\"unused\"}"), "{metrics}");
    assert!(metrics.contains("guillemet_secret_resolutions_total{secret=\"one\"} 0"), "{metrics}");

    // After a later use here, the last use was here.
    assert_eq!(a.value("one").as_deref(), Some("another"));
    let shown = a.show("one");
    assert_eq!((&shown["resolution_count"], &shown["last_used_on"]), (&json!(4), &Value::Null), "{shown}");
    // It is not counted twice.
    assert_eq!(
        until("what alpha has used", || Some(b.show("one")).filter(|shown| shown["last_used_on"] == "alpha"))["resolution_count"],
        4
    );

    let devices = a.get("/v1/account/devices").json();
    let beta = devices["items"].as_array().unwrap().iter().find(|item| item["name"] == "beta").unwrap();
    assert_eq!((&beta["this"], &beta["references"]), (&json!(false), &json!(1)), "{beta}");
    assert!(beta["usage_told_at"].as_str() >= told["told_at"].as_str());
    let table = a.done(&["account", "devices"], "");
    assert!(table.contains("beta") && table.contains("this one"), "{table}");
}

/// A caller that looks at one secret sees the newest reports of the others, not those that were fetched earlier.
#[test]
fn reports_are_fetched_for_whoever_looks() {
    let (team, a, b) = Team::pair(Place::sqlite());
    let of_a = team.relay(&a);
    a.add("one", "value");
    until("it", || b.value("one"));
    in_sync(&[&a, &b]);
    let fetched = |relay: &Relay| {
        let is_fetch = |head: &str| head.starts_with("GET ") && head.split(' ').nth(1).unwrap().ends_with("/usage");
        relay.seen().iter().filter(|request| is_fetch(&request.head)).count()
    };
    let before = fetched(&of_a);
    // By itself it fetches reports at most every 15 seconds, and only if something was reported.
    until("it is fetched again and again", || {
        assert_eq!(a.show("one")["status"], "active");
        (fetched(&of_a) >= before + 6).then_some(())
    });
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// Reports uses as a machine whose daemon does not run, `minutes` ago. `secrets` has the count and the time of the last
/// use by the secret's id.
fn report_as(machine: &Machine, server: &Server, minutes: u64, secrets: Value) {
    let home = Home::at(machine.path(""));
    let (vault, _) = Vault::open(&home, UnlockWith::KeyFile(home.key_file())).unwrap();
    let document: Value = serde_json::from_slice(&vault.document("account").unwrap().unwrap()).unwrap();
    let (engine, facts) = (&document["engine"], &document["facts"]);
    let account: AccountId = engine["account"].as_str().unwrap().parse().unwrap();
    let device: DeviceId = engine["device"].as_str().unwrap().parse().unwrap();
    let (epoch, key) = engine["keys"].as_object().unwrap().iter().next_back().unwrap();
    let mut key: [u8; 32] = HEXLOWER.decode(key.as_str().unwrap().as_bytes()).unwrap().try_into().unwrap();
    let key = EpochKey::new(epoch.parse().unwrap(), Key::from_bytes(&mut key));
    let client = AccountClient::new(
        &server.url,
        Some(server.pin),
        Some(&ApiKey::parse(facts["api_key"].as_str().unwrap()).unwrap()),
    );
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = client.unwrap();
        let known = client.usage(account).await.unwrap();
        let counter = known.iter().find(|usage| usage.device == device).map_or(1, |usage| usage.counter + 1);
        let report = json!({"at": now() - minutes * 60_000, "secrets": secrets}).to_string();
        let sealed = key.seal(BoxKind::Usage, account, device.0, counter, report.as_bytes());
        client.put_usage(account, &UsageUpload { device, counter, epoch: key.epoch(), sealed }).await.unwrap();
    });
}

#[test]
fn what_nobody_can_know_is_not_told_as_never() {
    let (team, a, mut b) = Team::pair(Place::sqlite());
    a.add("one", "value");
    in_sync(&[&a, &b]);
    assert!(b.stop());
    report_as(&b, &team.servers()[0], 60, json!({}));
    let shown = until("the old report", || Some(a.show("one")).filter(|shown| shown["usage_complete"] == false));
    let told = &shown["usage"]["by_device"][0];
    assert_eq!((&shown["last_used_at"], &told["recent"]), (&Value::Null, &json!(false)), "{shown}");
    let silent = format!("beta has not reported since {}", told["told_at"].as_str().unwrap());
    assert_eq!(listed(&a, "one"), "none reported");
    let text = a.done(&["secret", "show", "one"], "");
    assert!(text.contains(&format!("Last used    not on this device; {silent}\n")), "{text}");
    assert_eq!(question(&a, "one"), format!("not used on this device; {silent}"));
    let browser = Browser::open(&a);
    assert!(browser.page(SECRETS).says("None reported"));
    let page = browser.page(&format!("{SECRETS}/one/delete"));
    assert!(
        page.says("was last used: not on this device. beta has not reported its use since 1 h ago."),
        "{}",
        page.text
    );

    // The use here is shown, with a note that there may be others.
    assert!(a.value("one").is_some());
    let last = a.show("one")["last_used_at"].as_str().unwrap().to_owned();
    assert_eq!(question(&a, "one"), format!("last used {last}; {silent}"));
    // A use does not prevent a delete once it was shown.
    assert!(a.command(&["secret", "delete", "one", "--yes"]).status.success());
}

/// The person who says yes did not know of a use between the question and the answer, so it is asked about.
#[test]
fn a_use_that_comes_after_the_question_is_asked_about() {
    let (team, a, mut b) = Team::pair(Place::sqlite());
    for name in ["one", "two"] {
        a.add(name, "value");
    }
    in_sync(&[&a, &b]);
    until("its first report", || (a.show("one")["usage_complete"] == true).then_some(()));
    assert!(b.stop());
    let id = |name: &str| a.show(name)["id"].as_str().unwrap().to_owned();
    let (one, two) = (id("one"), id("two"));

    let mut terminal = Terminal::run(a.dir.path(), &["secret", "delete", "one"]);
    terminal.expect("never used on any device");
    terminal.expect("Delete one and all its versions?");
    report_as(&b, &team.servers()[0], 0, json!({one.as_str(): [1, now()]}));
    terminal.types("y\r");
    terminal.expect("one was used in the meantime");
    terminal.expect("on beta");
    terminal.expect("Delete one anyway?");
    terminal.types("n\r");
    assert!(!terminal.ends().success());
    assert_eq!(a.value("one").as_deref(), Some("value"));

    let browser = Browser::open(&a);
    let path = format!("{SECRETS}/two/delete");
    let page = browser.page(&path);
    assert!(page.says("was last used: never."), "{}", page.text);
    let fields = [("etag", page.value("etag").to_owned()), ("last_used", page.value("last_used").to_owned())];
    let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
    report_as(&b, &team.servers()[0], 0, json!({one.as_str(): [1, now()], two.as_str(): [1, now()]}));
    let refused = browser.post(&path, &fields);
    let page = Page::parse(&refused.text());
    assert!(refused.status == 409 && page.says("was used while this page was open"), "{}", page.text);
    assert!(page.says("on beta"), "{}", page.text);
    let fields = [("etag", page.value("etag").to_owned()), ("last_used", page.value("last_used").to_owned())];
    let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert!(browser.done(&path, &fields).says("two was deleted."));
}
