//! Old state: a recovery code that was printed long ago, and a machine that was off for longer than the server keeps
//! the account's heads. Nothing of either is lost.

use crate::support::account::{Place, Server};
use crate::support::team::{Machine, Team, in_sync, join};
use guillemet_account::client::AccountClientError;
use guillemet_account::code::{AccountCode, Recovery};
use guillemet_testing::wait::until;
use guillemet_wire::PullCursor;
use serde_json::{Value, json};

/// Returns a recovery code, as it is printed.
fn print(machine: &Machine) -> String {
    machine.post("/v1/account/recovery", &json!({})).json()["code"].as_str().unwrap().to_owned()
}

fn read(code: &str) -> Recovery {
    let Ok(AccountCode::Recovery(read)) = AccountCode::parse(code) else { panic!("{code}") };
    read
}

/// Waits until the server has removed old heads, by asking with the recovery code. A server starts to remove them when
/// it starts.
fn forgets(team: &mut Team, paper: &str) {
    team.arguments = &["--retention", "0", "--keep-heads", "1"];
    team.end_server(false);
    team.start_server();
    is_cleared(&team.servers()[0], paper);
}

fn is_cleared(server: &Server, paper: &str) {
    let paper = read(paper);
    let client = server.client(Some(&paper.api_key));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    until("heads are cleared out", || {
        let asked = runtime.block_on(client.changes(paper.address.account(), &PullCursor::default(), 1));
        matches!(asked, Err(AccountClientError::ContinuityLost)).then_some(())
    });
}

fn comes_back(team: &mut Team, code: &str, values: &[(&str, &str)]) -> Machine {
    let mut machine = team.machine("gamma");
    machine.run();
    let joined = machine.begin(code, json!({}));
    assert_eq!((joined.status, &joined.json()["state"]), (201, &json!("connected")), "{}", joined.text());
    for (name, value) in values {
        assert_eq!(machine.value(name).as_deref(), Some(*value), "{name}");
    }
    machine
}

#[test]
fn a_recovery_code_outlives_the_heads_since_it_was_printed() {
    let (mut team, mut a, mut b) = Team::pair(Place::sqlite());
    a.add("one", "before");
    let code = print(&a);
    in_sync(&[&a, &b]);
    for number in 0..5 {
        b.rotate("one", &format!("value-{number}"));
        in_sync(&[&a, &b]);
    }
    a.kill();
    b.kill();
    forgets(&mut team, &code);
    let c = comes_back(&mut team, &code, &[("one", "value-4")]);
    c.add("two", "of-gamma");
    in_sync(&[&c]);
    // The other machines were off in the meantime, and they catch up.
    for machine in [&mut a, &mut b] {
        machine.run();
        until("it hears", || (machine.account()["state"] != "offline").then_some(()));
        if machine.account()["code"] == "continuity_lost" {
            machine.done(&["account", "repair", "--yes"], "");
        }
    }
    in_sync(&[&a, &b, &c]);
    assert_eq!(b.value("two").as_deref(), Some("of-gamma"));
}

#[test]
fn a_recovery_code_outlives_other_epochs() {
    let (mut team, mut a, mut b) = Team::pair(Place::sqlite());
    a.add("one", "before");
    let code = print(&b);
    let mut d = team.machine("delta");
    d.run();
    join(&a, &d);
    // It was revoked by a device that joined after the code was printed.
    d.done(&["account", "revoke", "beta", "--yes"], "");
    d.rotate("one", "after");
    in_sync(&[&a, &d]);
    a.kill();
    b.kill();
    d.kill();
    let c = comes_back(&mut team, &code, &[("one", "after")]);
    assert_eq!(c.account()["epoch"], 2);
}

#[test]
fn a_recovery_code_outlives_a_repair_by_another_machine() {
    let (mut team, mut a, mut b) = Team::pair(Place::sqlite());
    a.add("one", "before");
    in_sync(&[&a, &b]);
    let code = print(&a);
    in_sync(&[&a, &b]);
    team.end_server(false);
    let backup = tempfile::tempdir().unwrap();
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        let _ = std::fs::remove_dir_all(to);
        assert!(std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
    };
    let kept = backup.path().join("kept");
    copy(team.place.folder.path(), &kept);
    team.start_server();
    in_sync(&[&a, &b]);
    b.rotate("one", "after");
    in_sync(&[&a, &b]);
    team.end_server(false);
    copy(&kept, team.place.folder.path());
    team.start_server();
    b.stands("refused", Some("rollback"));
    let plan = b.post("/v1/account/repair", &json!({})).json();
    let done = b.post("/v1/account/repair", &json!({"confirm": plan["server_words"]}));
    assert_eq!(done.status, 200, "{}", done.text());
    in_sync(&[&a, &b]);
    a.kill();
    b.kill();
    comes_back(&mut team, &code, &[("one", "after")]);
}

/// A state that nobody can verify is not accepted, and the error says so.
#[test]
fn a_recovery_code_of_an_epoch_that_nobody_keeps_says_so() {
    let (mut team, a, _b) = Team::pair(Place::sqlite());
    a.add("one", "before");
    let (old, unused) = (print(&a), print(&a));
    let revoked = a.command(&["account", "revoke", "beta", "--yes"]);
    assert!(revoked.status.success());
    assert!(String::from_utf8_lossy(&revoked.stderr).contains("print a new recovery code"));
    let new = print(&a);
    a.rotate("one", "after");
    in_sync(&[&a]);
    forgets(&mut team, &unused);
    let mut c = team.machine("gamma");
    c.run();
    let refused = c.begin(&old, json!({}));
    assert_eq!((refused.status, &refused.json()["code"]), (409, &json!("conflict")), "{}", refused.text());
    assert!(refused.text().contains("Use a newer code"), "{}", refused.text());
    assert_eq!(c.account()["joined"], false);
    comes_back(&mut team, &new, &[("one", "after")]);
}

#[test]
fn a_machine_that_was_off_for_long_comes_back_with_what_it_typed() {
    let (mut team, a, mut b) = Team::pair(Place::sqlite());
    let code = print(&a);
    a.add("one", "before");
    a.add("two", "before");
    in_sync(&[&a, &b]);
    b.cable.cut();
    b.stands("offline", None);
    b.rotate("one", "of-beta");
    b.add("new", "of-beta");
    b.kill();
    for number in 0..5 {
        a.rotate("two", &format!("value-{number}"));
        in_sync(&[&a]);
    }
    assert!(a.account()["seq"].as_u64().unwrap() > 5);
    forgets(&mut team, &code);
    in_sync(&[&a]);
    b.run();
    b.cable.mend();
    let status = b.stands("refused", Some("continuity_lost"));
    assert!(status["message"].as_str().unwrap().contains("guillemet account repair"), "{status}");
    assert_eq!(b.value("two").as_deref(), Some("before"), "nothing is applied");
    let plan: Value = b.post("/v1/account/repair", &json!({})).json();
    assert_eq!((&plan["action"], &plan["server_words"]), (&json!("adopt"), &a.account()["words"]), "{plan}");
    b.done(&["account", "repair", "--yes"], "");
    in_sync(&[&a, &b]);
    assert_eq!(a.holds(), b.holds());
    for (name, value) in [("one", "of-beta"), ("two", "value-4"), ("new", "of-beta")] {
        assert_eq!(a.value(name).as_deref(), Some(value), "{name}");
    }
}
