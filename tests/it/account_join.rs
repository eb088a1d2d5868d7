//! How machines join an account: a person decides about every name that exists on both sides, and a code works for one
//! machine and only in its own place.

use crate::support::account::Place;
use crate::support::team::{Machine, Team, in_sync, join};
use guillemet_account::code::{AccountCode, InvitationCode};
use guillemet_base::random::random;
use guillemet_testing::wait::until;
use serde_json::{Value, json};

fn names_of(refused: &crate::support::daemon::Answer) -> Vec<String> {
    assert_eq!((refused.status, &refused.json()["code"]), (409, &json!("conflict")), "{}", refused.text());
    refused.errors("name")
}

#[test]
fn two_vaults_become_one_and_every_name_is_decided() {
    let mut team = Team::at(Place::sqlite());
    let (mut a, mut b) = (team.machine("alpha"), team.machine("beta"));
    a.run();
    b.run();
    for name in ["both", "theirs", "mine"] {
        a.add(name, "of-alpha");
        b.add(name, "of-beta");
    }
    a.add("only-alpha", "of-alpha");
    b.add("only-beta", "of-beta");
    b.write_template("both", "both");
    team.found(&a);
    let (of_a, of_b) = (a.holds(), b.holds());

    let code = a.invite();
    assert_eq!(names_of(&b.begin(&code, json!({}))), ["both", "mine", "theirs"]);
    assert_eq!(names_of(&b.begin(&code, json!({"same_names": {"BOTH": "both"}}))), ["mine", "theirs"]);
    let wrong = b.begin(&code, json!({"same_names": {"both": "whatever"}, "all_same_names": "no"}));
    assert_eq!(wrong.status, 422, "{}", wrong.text());
    // Nothing changed on either side.
    assert_eq!((a.holds(), b.holds()), (of_a, of_b));
    assert_eq!(b.account()["joined"], false);

    let decided = json!({"same_names": {"both": "both", "theirs": "account"}, "all_same_names": "mine"});
    let joined = b.begin(&code, decided);
    assert_eq!((joined.status, &joined.json()["state"]), (201, &json!("connected")), "{}", joined.text());
    in_sync(&[&a, &b]);
    assert_eq!(a.holds(), b.holds());
    let values: Vec<_> = a.holds().into_iter().map(|(name, held)| (name, held.value.unwrap(), held.version)).collect();
    let row = |name: &str, value: &str, version| (name.to_owned(), value.to_owned(), version);
    assert_eq!(
        values,
        [
            row("both", "of-alpha", 1),
            row("both-2", "of-beta", 1),
            row("mine", "of-beta", 2),
            row("only-alpha", "of-alpha", 1),
            row("only-beta", "of-beta", 1),
            row("theirs", "of-alpha", 1),
        ]
    );
    assert!(b.notices().iter().any(|text| text.contains("`both-2`")), "{:?}", b.notices());
    // The template uses the secret that has the name now.
    assert!(b.renders("both", "of-alpha"));
    a.roll_back("mine", 1);
    until("what was overtaken", || (b.value("mine")? == "of-alpha").then_some(()));
    // A restarted daemon has the same state.
    b.kill();
    b.run();
    in_sync(&[&a, &b]);
    assert_eq!(a.holds(), b.holds());
}

#[test]
fn a_code_is_good_for_one_machine() {
    let mut team = Team::at(Place::sqlite());
    let mut machines: Vec<Machine> = ["alpha", "beta", "gamma", "delta"].map(|name| team.machine(name)).into();
    machines.iter_mut().for_each(|machine| machine.run());
    let [a, b, c, d] = &machines[..] else { unreachable!() };
    let creation = team.code();
    let begun = a.begin(&creation, json!({}));
    assert_eq!(begun.status, 201, "{}", begun.text());
    let refused = b.begin(&creation, json!({}));
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(refused.text().contains("was already used"), "{}", refused.text());
    // A machine that is in an account cannot join another.
    assert_eq!(a.begin(&team.code(), json!({})).status, 409);
    assert_eq!(a.account()["seq"], begun.json()["seq"]);

    // Of two machines that join at once with one code, one succeeds.
    let code = a.invite();
    let statuses = std::thread::scope(|scope| {
        let joining = [b, c].map(|machine| scope.spawn(|| machine.begin(&code, json!({})).status));
        joining.map(|joining| joining.join().unwrap())
    });
    assert!(statuses == [201, 409] || statuses == [409, 201], "{statuses:?}");
    let (second, other) = if statuses[0] == 201 { (b, c) } else { (c, b) };
    let refused = other.begin(&code, json!({}));
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(refused.text().contains("was already used, or is older than ten minutes"), "{}", refused.text());

    // Two codes from two machines work at the same time.
    in_sync(&[a, second]);
    let codes = [a.invite(), second.invite()];
    std::thread::scope(|scope| {
        for (machine, code) in [other, d].into_iter().zip(&codes) {
            scope.spawn(move || {
                let joined = machine.begin(code, json!({}));
                assert_eq!(joined.status, 201, "{}", joined.text());
            });
        }
    });
    in_sync(&[a, b, c, d]);
    a.add("one", "value");
    for machine in [b, c, d] {
        until("it", || (machine.value("one")? == "value").then_some(()));
    }
}

#[test]
fn a_code_that_is_none_changes_nothing() {
    let mut team = Team::at(Place::sqlite());
    let (mut a, mut b) = (team.machine("alpha"), team.machine("beta"));
    a.run();
    b.run();
    team.found(&a);
    let code = a.invite();
    let Ok(AccountCode::Invite(invited)) = AccountCode::parse(&code) else { panic!("{code}") };
    // The same answer as for an expired code, or one that the server does not know.
    let unknown = AccountCode::Invite(InvitationCode { token: zeroize::Zeroizing::new(random()), ..invited }).to_text();
    let refused = b.begin(&unknown, json!({}));
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(refused.text().contains("invitation was already used, or is older"), "{}", refused.text());
    for wrong in ["", "gi1-", "gi1-aaaa", &code[..code.len() - 1], &code.replace("gi1-", "gc1-"), "words"] {
        let refused = b.begin(wrong, json!({}));
        assert_eq!(
            (refused.status, refused.errors("field")),
            (422, vec!["code".into()]),
            "{wrong}: {}",
            refused.text()
        );
    }
    for name in [json!(""), json!("  "), json!("x".repeat(65)), Value::Null] {
        let refused = b.post("/v1/account", &json!({"code": code, "name": name}));
        assert_eq!((refused.status, refused.errors("field")), (422, vec!["name".into()]), "{}", refused.text());
    }
    // Nothing is sent to another server than the one in the code.
    let mut other = Team::at(Place::sqlite());
    let stranger = other.machine("stranger");
    let refused = b.post(
        "/v1/account",
        &json!({"code": code, "name": "beta", "server": format!("https://{}", stranger.cable.address)}),
    );
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("service_unavailable")), "{}", refused.text());
    assert!(refused.text().contains("has an unexpected certificate"), "{}", refused.text());

    // The command line reads codes from standard input, never from an argument.
    let run = |arguments: &[&str], input: &str| {
        let output = b.command_with(&[&["account"], arguments].concat(), input.as_bytes());
        assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let url = format!("https://{}", b.cable.address);
    let refusals = [
        (run(&["join", &code], ""), 2, "unexpected argument"),
        (run(&["create", &url, &code], ""), 2, "unexpected argument"),
        (run(&["join"], ""), 1, "standard input contains no code"),
        (run(&["create", &url], &code), 1, "this is an invitation; use it with `guillemet account join`"),
        (run(&["join"], &team.code()), 1, "this is an account creation code"),
        (run(&["join"], "gi1-aaaa"), 1, "code"),
    ];
    for ((status, text), wanted, words) in refusals {
        assert_eq!(status, Some(wanted), "{text}");
        assert!(text.contains(words), "{text}");
        assert!(!text.contains(&code) || wanted == 2, "a code is repeated: {text}");
    }
    assert_eq!(b.account()["joined"], false);
    let server = format!("https://{}", b.cable.address);
    let joined =
        b.done(&["account", "join", "--name", "beta", "--server", &server], &format!(" {}\n", code.to_uppercase()));
    assert!(joined.contains("as `beta`") && joined.contains("2 devices"), "{joined}");
    in_sync(&[&a, &b]);
}

#[test]
fn a_recovery_code_brings_an_account_back() {
    let mut team = Team::at(Place::sqlite());
    let (mut a, mut c) = (team.machine("alpha"), team.machine("gamma"));
    a.run();
    c.run();
    team.found(&a);
    a.add("before", "value-1");
    let printed: Value = serde_json::from_str(&a.done(&["account", "recovery", "--json"], "")).unwrap();
    let words = printed["words"].as_str().unwrap();
    assert_eq!(a.account()["words"], words);
    let code = printed["code"].as_str().unwrap();
    let devices = a.get("/v1/account/devices").json();
    assert_eq!(devices["items"][1]["recovery"], true, "{devices}");
    a.add("after", "value-2");
    in_sync(&[&a]);
    // The machine is lost for good.
    a.kill();

    let server = format!("https://{}", c.cable.address);
    let join = ["account", "join", "--name", "gamma", "--server", &server];
    let unconfirmed = c.command_with(&join, code.as_bytes());
    let told = String::from_utf8_lossy(&unconfirmed.stderr).into_owned();
    assert_eq!(unconfirmed.status.code(), Some(1), "{told}");
    assert!(told.contains(words) && told.contains(printed["made_at"].as_str().unwrap()), "{told}");
    assert_eq!(c.account()["joined"], false);
    // The code is typed as it is printed on paper, in lines.
    let lines: Vec<String> = code.split(' ').map(|word| format!("{word}\n")).collect();
    c.done(&[&join[..], &["--yes"]].concat(), &lines.concat());
    assert_eq!(c.value("before").as_deref(), Some("value-1"));
    assert_eq!(c.value("after").as_deref(), Some("value-2"));
    c.rotate("before", "value-3");
    in_sync(&[&c]);

    // The machine was not lost after all.
    a.run();
    in_sync(&[&a, &c]);
    assert_eq!(a.value("before").as_deref(), Some("value-3"));
    assert_eq!(a.holds(), c.holds());
    a.add("both-ways", "value-4");
    until("it", || c.value("both-ways"));

    // A paper that is found again is useless once it is revoked.
    c.done(&["account", "revoke", "recovery code", "--yes"], "");
    let mut d = team.machine("delta");
    d.run();
    let refused = d.begin(code, json!({}));
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(d.account()["joined"], false);
    in_sync(&[&a, &c]);
}

#[test]
fn a_machine_that_left_and_comes_back_loses_nothing_it_typed() {
    let (_team, a, b) = Team::pair(Place::sqlite());
    for name in ["same", "typed", "renamed", "deleted", "off"] {
        a.add(name, "before");
    }
    in_sync(&[&a, &b]);
    b.done(&["account", "leave", "--yes"], "");
    assert_eq!(b.account()["state"], "none");
    until("that the other has left", || (a.get("/v1/account/devices").json()["count"] == 1).then_some(()));
    b.rotate("typed", "of-beta");
    b.change("renamed", json!({"name": "other"}));
    b.change("off", json!({"enabled": false}));
    a.rotate("same", "after");
    assert_eq!(a.delete("deleted").status, 204);

    let code = a.invite();
    assert_eq!(names_of(&b.begin(&code, json!({}))), ["other", "typed"]);
    let joined = b.begin(&code, json!({"same_names": {"typed": "mine"}, "all_same_names": "both"}));
    assert_eq!(joined.status, 201, "{}", joined.text());
    in_sync(&[&a, &b]);
    assert_eq!(a.holds(), b.holds());
    for (name, value) in
        [("typed", "of-beta"), ("same", "after"), ("other", "before"), ("renamed", "before"), ("deleted", "before")]
    {
        assert_eq!(a.value(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(a.show("off")["enabled"], false);
    // The last machine that leaves loses nothing.
    b.done(&["account", "leave", "--yes"], "");
    a.done(&["account", "leave", "--yes"], "");
    assert_eq!(a.value("typed").as_deref(), Some("of-beta"));
    team_is_left(&a, &b);
}

fn team_is_left(a: &Machine, b: &Machine) {
    for machine in [a, b] {
        assert_eq!(machine.account()["joined"], false);
        machine.add("later", "value");
        assert_eq!(machine.delete("later").status, 204);
    }
}

#[test]
fn a_machine_is_let_in_when_the_one_that_invited_it_is_there() {
    let mut team = Team::at(Place::sqlite());
    let (mut a, mut b, mut c) = (team.machine("alpha"), team.machine("beta"), team.machine("gamma"));
    for machine in [&mut a, &mut b, &mut c] {
        machine.run();
    }
    assert_eq!(a.account(), json!({"joined": false, "state": "none", "code": null, "message": null}));
    assert_eq!(a.post("/v1/account/invitations", &json!({})).status, 409);
    assert_eq!(a.ask("DELETE", "/v1/account", &[], b"").status, 409);
    team.found(&a);
    let code = a.invite();
    assert!(a.stop());
    let joined = std::thread::scope(|scope| {
        let joining = scope.spawn(|| b.begin(&code, json!({})));
        a.run();
        joining.join().unwrap()
    });
    assert_eq!(joined.status, 201, "{}", joined.text());
    join(&b, &c);
    in_sync(&[&a, &b, &c]);
}
