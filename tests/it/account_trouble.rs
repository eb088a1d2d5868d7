//! Trouble with an account: a machine is revoked, a machine is cloned, the server is restored from an old backup. Each
//! case is reported by name, and nothing that was typed is lost (promises Zero knowledge and Nothing lost).

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::support::account::{Place, change, object, record};
use crate::support::daemon::Guillemet;
use crate::support::team::{Machine, Team, in_sync, join};
use guillemet_account::code::AccountCode;
use guillemet_testing::wait::until;
use guillemet_wire::PullCursor;
use serde_json::{Value, json};

#[test]
fn a_machine_that_is_put_out_hears_no_more() {
    let (mut team, mut a, b) = Team::pair(Place::sqlite());
    let mut c = team.machine("gamma");
    c.run();
    join(&b, &c);
    for name in ["one", "two", "three"] {
        a.add(name, "before");
    }
    in_sync(&[&a, &b, &c]);
    assert_eq!(a.account()["epoch"], 1);

    let devices = a.get("/v1/account/devices").json();
    let id_of = |name: &str| {
        let items = devices["items"].as_array().unwrap();
        items.iter().find(|item| item["name"] == name).unwrap()["id"].as_str().unwrap().to_owned()
    };
    let revoke = |machine: &Machine, id: &str| machine.ask("DELETE", &format!("/v1/account/devices/{id}"), &[], b"");
    assert_eq!(revoke(&a, "nonsense").status, 404);
    assert_eq!(revoke(&a, &"0".repeat(32)).status, 404);
    assert_eq!(revoke(&a, &id_of("alpha")).status, 409, "it leaves instead");
    // Without contact no device is revoked.
    a.cable.cut();
    a.stands("offline", None);
    assert_eq!(revoke(&a, &id_of("beta")).status, 503);
    a.cable.mend();
    in_sync(&[&a, &b, &c]);
    let revoked = revoke(&a, &id_of("beta"));
    assert_eq!(
        (revoked.status, &revoked.json()["secrets"]),
        (200, &json!(["one", "three", "two"])),
        "{}",
        revoked.text()
    );

    let status = b.stands("refused", Some("unauthorized"));
    assert!(status["message"].as_str().unwrap().contains("revoked"), "{status}");
    a.rotate("one", "after");
    until("the new value", || (c.value("one")? == "after").then_some(()));
    in_sync(&[&a, &c]);
    assert_eq!((a.account()["epoch"].as_u64(), a.account()["devices"].as_u64()), (Some(2), Some(2)));
    // It keeps what it had and works on its own.
    b.rotate("two", "of-beta");
    assert_eq!((b.value("one").as_deref(), b.value("two").as_deref()), (Some("before"), Some("of-beta")));
    assert_eq!(b.delete("three").status, 503);
    assert_eq!(b.post("/v1/account/invitations", &json!({})).status, 409);

    // The remaining devices, and one that joins, can read what was sealed before, also after a restart.
    a.kill();
    a.run();
    in_sync(&[&a, &c]);
    let mut d = team.machine("delta");
    d.run();
    join(&a, &d);
    in_sync(&[&a, &c, &d]);
    assert_eq!(a.holds(), c.holds());
    assert_eq!(a.holds(), d.holds());
    assert_eq!(d.value("three").as_deref(), Some("before"));

    // It comes back with an invitation, and brings the changes it made in the meantime.
    let left = b.command(&["account", "leave", "--yes"]);
    assert!(left.status.success());
    assert!(String::from_utf8_lossy(&left.stderr).contains("could not be notified"));
    let code = d.invite();
    assert_eq!(b.begin(&code, json!({})).errors("name"), ["two"]);
    assert_eq!(b.begin(&code, json!({"all_same_names": "mine"})).status, 201);
    in_sync(&[&a, &b, &c, &d]);
    assert_eq!(a.holds(), b.holds());
    assert_eq!(a.value("two").as_deref(), Some("of-beta"));
}

#[test]
fn a_machine_that_was_cloned_stops() {
    let (_team, a, mut b) = Team::pair(Place::sqlite());
    for name in ["one", "two"] {
        a.add(name, "before");
    }
    in_sync(&[&a, &b]);
    assert!(b.stop());
    let mut clone =
        Machine { guillemet: Guillemet::copy(b.path("").as_path()), cable: Arc::clone(&b.cable), name: "clone" };
    b.run();
    clone.run();
    b.rotate("one", "of-beta");
    clone.rotate("two", "of-clone");
    let stopped = until("one of them stops", || {
        let is_stopped = |machine: &Machine| machine.account()["state"] == "stopped";
        [is_stopped(&b), is_stopped(&clone)].iter().position(|stopped| *stopped)
    });
    let (goes_on, stops) = if stopped == 0 { (&clone, &mut b) } else { (&b, &mut clone) };
    let status = stops.stands("stopped", Some("cloned"));
    assert!(status["message"].as_str().unwrap().contains("was cloned"), "{status}");
    assert!(stops.log().contains("another machine acts as this device"), "its log says so");
    let text = stops.done(&["account", "status"], "");
    assert!(text.contains("stopped (cloned)"), "{text}");
    in_sync(&[&a, goes_on]);
    assert_eq!(a.holds(), goes_on.holds());

    // It stays in this state, and goes on serving what it has.
    stops.kill();
    stops.run();
    stops.stands("stopped", Some("cloned"));
    assert_eq!(stops.account()["pending"], 1);
    let (name, value) = if stopped == 0 { ("one", "of-beta") } else { ("two", "of-clone") };
    assert_eq!(stops.value(name).as_deref(), Some(value));
    assert_eq!(stops.delete(name).status, 503);
    // As another device it brings the changes it made.
    stops.done(&["account", "leave", "--yes"], "");
    let code = a.invite();
    assert_eq!(stops.begin(&code, json!({})).errors("name"), [name]);
    assert_eq!(stops.begin(&code, json!({"all_same_names": "mine"})).status, 201);
    in_sync(&[&a, goes_on, stops]);
    assert_eq!(a.value("one").as_deref(), Some("of-beta"));
    assert_eq!(a.value("two").as_deref(), Some("of-clone"));
}

fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).unwrap();
    assert!(Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap().success());
}

/// A server that was restored to an old state, and two machines that know newer ones, one of them the newest.
struct SetBack {
    team: Team,
    a: Machine,
    b: Machine,
    /// The values that have to exist in the end.
    values: BTreeMap<&'static str, &'static str>,
}

fn set_back() -> SetBack {
    let (mut team, a, b) = Team::pair(Place::sqlite());
    for name in ["of-alpha", "of-beta", "of-both", "deleted", "untouched"] {
        a.add(name, "before");
    }
    in_sync(&[&a, &b]);
    team.end_server(false);
    let backup = tempfile::tempdir().unwrap();
    copy(team.place.folder.path(), backup.path());
    team.start_server();
    in_sync(&[&a, &b]);
    b.rotate("of-beta", "after the backup");
    b.add("new", "after the backup");
    a.rotate("of-both", "after the backup");
    in_sync(&[&a, &b]);
    b.cable.cut();
    b.stands("offline", None);
    a.rotate("of-alpha", "known to alpha only");
    a.add("new-of-alpha", "known to alpha only");
    assert_eq!(a.delete("deleted").status, 204);
    in_sync(&[&a]);
    b.add("offline", "typed without contact");
    team.end_server(false);
    copy(backup.path(), team.place.folder.path());
    team.start_server();
    b.cable.mend();
    let values = BTreeMap::from([
        ("of-alpha", "known to alpha only"),
        ("new-of-alpha", "known to alpha only"),
        ("of-beta", "after the backup"),
        ("new", "after the backup"),
        ("of-both", "after the backup"),
        ("offline", "typed without contact"),
        ("untouched", "before"),
    ]);
    let (of_a, of_b) = (a.holds(), b.holds());
    for machine in [&a, &b] {
        let status = machine.stands("refused", Some("rollback"));
        assert!(status["message"].as_str().unwrap().contains("guillemet account repair"), "{status}");
    }
    // Nothing of it is applied, and everything goes on.
    assert_eq!((a.holds(), b.holds()), (of_a, of_b));
    for machine in [&a, &b] {
        let refused = machine.delete("untouched");
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert!(refused.text().contains("older state"), "{}", refused.text());
    }
    SetBack { team, a, b, values }
}

fn repair(machine: &Machine, confirm: Value) -> crate::support::daemon::Answer {
    machine.post("/v1/account/repair", &json!({"confirm": confirm}))
}

#[test]
fn a_server_that_was_set_back_is_repaired_by_the_machine_that_is_furthest() {
    let SetBack { team, a, b, values } = set_back();
    let plan = repair(&a, Value::Null).json();
    let status = a.account();
    assert_eq!((&plan["action"], &plan["done"]), (&json!("publish"), &json!(false)), "{plan}");
    assert_eq!((&plan["seq"], &plan["words"]), (&status["seq"], &status["words"]), "{plan}");
    assert!(plan["server_seq"].as_u64() < plan["seq"].as_u64(), "{plan}");
    let refused = repair(&a, plan["words"].clone());
    assert_eq!(refused.status, 409, "these are its own words: {}", refused.text());
    assert_eq!(repair(&a, json!("one two three four")).status, 409);
    a.stands("refused", Some("rollback"));
    let unconfirmed = a.command(&["account", "repair"]);
    assert_eq!(unconfirmed.status.code(), Some(1));
    let told = String::from_utf8_lossy(&unconfirmed.stderr).into_owned();
    assert!(told.contains(plan["server_words"].as_str().unwrap()), "{told}");
    let done = repair(&a, plan["server_words"].clone());
    assert_eq!((done.status, &done.json()["done"]), (200, &json!(true)), "{}", done.text());
    in_sync(&[&a]);
    assert_eq!(repair(&a, Value::Null).json()["action"], "none");

    // The other machine lacks what the server never had, and reports that.
    let status = b.stands("refused", Some("continuity_lost"));
    assert!(status["message"].as_str().unwrap().contains("guillemet account repair"), "{status}");
    let plan = repair(&b, Value::Null).json();
    assert_eq!((&plan["action"], &plan["server_words"]), (&json!("adopt"), &a.account()["words"]), "{plan}");
    assert_eq!(b.done(&["account", "repair", "--yes"], "").trim(), "repaired");
    all_is_there(&team, &a, &b, &values);
    assert_eq!(a.value("deleted"), None, "what was deleted stays so");
}

#[test]
fn a_server_that_was_set_back_is_repaired_by_another_machine_and_nothing_is_lost() {
    let SetBack { team, a, b, values } = set_back();
    let plan = repair(&b, Value::Null).json();
    assert_eq!(plan["action"], "publish", "{plan}");
    let done = repair(&b, plan["server_words"].clone());
    assert_eq!(done.status, 200, "{}", done.text());
    in_sync(&[&b]);
    // This state differs from the one that the newest machine knows.
    let code = until("it is refused", || {
        let status = a.account();
        let code = status["code"].as_str().unwrap_or_default().to_owned();
        matches!(&*code, "rollback" | "fork" | "continuity_lost").then_some(code)
    });
    eprintln!("the furthest says {code}");
    // It keeps its state until a person has compared the words.
    assert_eq!(a.value("of-alpha").as_deref(), Some("known to alpha only"));
    let plan = repair(&a, Value::Null).json();
    assert_eq!((&plan["action"], &plan["server_words"]), (&json!("adopt"), &b.account()["words"]), "{plan}");
    let done = repair(&a, plan["server_words"].clone());
    assert_eq!(done.status, 200, "{}", done.text());
    all_is_there(&team, &a, &b, &values);
}

fn all_is_there(_team: &Team, a: &Machine, b: &Machine, values: &BTreeMap<&str, &str>) {
    in_sync(&[a, b]);
    assert_eq!(a.holds(), b.holds());
    for machine in [a, b] {
        for (name, value) in values {
            assert_eq!(machine.value(name).as_deref(), Some(*value), "{name} on {}", machine.name);
        }
    }
    // Afterwards it works as before.
    a.rotate("untouched", "at last");
    until("it", || (b.value("untouched")? == "at last").then_some(()));
    b.rotate("untouched", "and back");
    until("it", || (a.value("untouched")? == "and back").then_some(()));
}

#[test]
fn what_a_stolen_key_has_pushed_is_undone() {
    let (team, a, b) = Team::pair(Place::sqlite());
    a.add("one", "before");
    let code = a.post("/v1/account/recovery", &json!({})).json()["code"].as_str().unwrap().to_owned();
    in_sync(&[&a, &b]);
    let Ok(AccountCode::Recovery(stolen)) = AccountCode::parse(&code) else { panic!("{code}") };
    let (account, client) = (stolen.address.account(), team.servers()[0].client(Some(&stolen.api_key)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let at = runtime.block_on(async {
        let at = client.changes(account, &PullCursor::default(), 1000).await.unwrap().newest.unwrap();
        let garbage = change(at, vec![record(object(), 1)]);
        client.push(account, &garbage, Some(at.hash)).await.unwrap();
        at
    });
    for machine in [&a, &b] {
        machine.stands("refused", Some("tampered"));
        assert_eq!(machine.account()["seq"], at.seq, "nothing of it is applied");
    }
    a.rotate("one", "of-alpha");
    b.add("two", "of-beta");
    let restored = team.place.admin(&["restore-head", &account.to_string(), &at.seq.to_string(), "--yes"]);
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    // The machines go on by themselves.
    in_sync(&[&a, &b]);
    assert_eq!(a.holds(), b.holds());
    assert_eq!((a.value("two").as_deref(), b.value("one").as_deref()), (Some("of-beta"), Some("of-alpha")));

    // A state older than the one they know is noticed at once on an open connection.
    let restored = team.place.admin(&["restore-head", &account.to_string(), &at.seq.to_string(), "--yes"]);
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    for machine in [&a, &b] {
        machine.stands("refused", Some("rollback"));
    }
    a.done(&["account", "repair", "--yes"], "");
    in_sync(&[&a, &b]);
    assert_eq!(b.value("one").as_deref(), Some("of-alpha"));
}
