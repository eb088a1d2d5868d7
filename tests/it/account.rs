//! Two machines with one vault: real daemons, and the account server over real TLS. A change on one reaches the other,
//! both go on without the server, and no delete gets past a template of the other machine (promise Guarded).

use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::support::account::Place;
use crate::support::daemon::Answer;
use crate::support::listening::Listening;
use crate::support::relay::{Point, Relay};
use crate::support::team::{Machine, Team, in_sync};
use guillemet_testing::wait::until;
use serde_json::{Value, json};

#[test]
fn what_changes_on_one_machine_is_rendered_by_the_other() {
    main_story(Place::sqlite());
}

/// The same with PostgreSQL, where each machine uses another of two servers.
#[test]
fn two_servers_on_postgresql_are_one() {
    let Some(place) = Place::postgres() else { return };
    main_story(place);
}

#[test]
fn two_servers_on_postgresql_go_and_come_back() {
    let Some(place) = Place::postgres() else { return };
    let (mut team, a, mut b) = Team::pair(place);
    without_the_server(&mut team, &a, &mut b, true);
    race(&a, &b, 20);
}

fn main_story(place: Place) {
    let (team, a, b) = Team::pair(place);
    let mut told = Listening::to(&b);
    a.add("one", "first");
    let created = told.next_of("secret");
    assert_eq!((&created["name"], &created["change"]), (&json!("one"), &json!("created")));
    b.write_template("one", "one");
    assert!(b.renders("one", "first"), "{}", b.render("one").text());
    // Once the change has arrived, the next render uses it.
    a.rotate("one", "second");
    assert_eq!(told.next_of("secret")["change"], "changed");
    assert!(b.renders("one", "second"));

    b.rotate("one", "third");
    until("the value", || (a.value("one")? == "third").then_some(()));
    b.change("one", json!({"name": "uno"}));
    until("the name", || (a.show("one")["name"] == "uno").then_some(()));
    assert!(b.renders("one", "third"), "a former name goes on resolving");
    assert_eq!(a.show("uno")["former_names"], json!(["one"]));
    a.change("uno", json!({"enabled": false}));
    until("it is disabled", || (b.render("one").status == 409).then_some(()));
    a.change("uno", json!({"enabled": true}));
    until("it is enabled", || b.renders("one", "third").then_some(()));
    b.roll_back("uno", 1);
    until("the former value", || (a.value("uno")? == "first").then_some(()));
    let versions = a.show("uno")["versions"].clone();
    assert_eq!(versions.as_array().unwrap().len(), 4, "{versions}");
    assert_eq!(versions, b.show("uno")["versions"]);

    // A reference on the other machine is shown with that machine's name.
    let references =
        until("the reference", || a.show("uno")["references"].as_array().filter(|r| !r.is_empty()).cloned());
    assert_eq!((&references[0]["device"], &references[0]["template"]), (&json!("beta"), &json!("cal-com/one")));
    b.remove_template("one");
    a.delete_in_time("uno");
    until("it is gone", || (b.show("uno")["code"] == "not_found").then_some(()));
    a.add("uno", "anew");
    until("another of this name", || (b.value("uno")? == "anew").then_some(()));

    in_sync(&[&a, &b]);
    assert_eq!(a.holds(), b.holds());
    let status = |machine: &Machine| -> Value {
        serde_json::from_str(&machine.done(&["account", "status", "--json"], "")).unwrap()
    };
    // Each machine still reports that it does not reference the deleted secrets, which adds a head.
    let (of_a, of_b) = until("both say the same", || {
        let (of_a, of_b) = (status(&a), status(&b));
        let is_same = ["account", "seq", "words", "epoch"].iter().all(|field| of_a[field] == of_b[field]);
        is_same.then_some((of_a, of_b))
    });
    for (status, name) in [(&of_a, "alpha"), (&of_b, "beta")] {
        assert_eq!(status["state"], "connected");
        assert_eq!(
            (&status["device_name"], &status["devices"], &status["secrets"]),
            (&json!(name), &json!(2), &json!(1))
        );
        assert_eq!(status["words"].as_str().unwrap().split(' ').count(), 4);
    }
    let text = a.done(&["account", "status"], "");
    assert!(text.contains("connected") && text.contains(of_a["words"].as_str().unwrap()), "{text}");
    let devices: Value = serde_json::from_str(&b.done(&["account", "devices", "--json"], "")).unwrap();
    assert_eq!(devices["count"], 2, "{devices}");
    drop(team);
}

#[test]
fn both_go_on_without_the_server_and_come_together_when_it_is_back() {
    let (mut team, a, mut b) = Team::pair(Place::sqlite());
    for at_once in [false, true] {
        without_the_server(&mut team, &a, &mut b, at_once);
    }
}

fn without_the_server(team: &mut Team, a: &Machine, b: &mut Machine, at_once: bool) {
    let name = |name: &str| format!("{name}-{}", if at_once { "killed" } else { "stopped" });
    let (shared, twin, toggled, kept) = (name("shared"), name("twin"), name("toggled"), name("kept"));
    for name in [&shared, &toggled, &kept] {
        a.add(name, "before");
    }
    in_sync(&[a, b]);
    b.write_template(&shared, &shared);
    assert!(b.renders(&shared, "before"));

    team.end_server(at_once);
    for machine in [a, &*b] {
        machine.stands("offline", None);
        let refused = machine.delete(&kept);
        assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("service_unavailable")));
        assert!(refused.json()["message"].as_str().unwrap().contains("nothing was deleted"), "{}", refused.text());
        assert_eq!(machine.value(&kept).as_deref(), Some("before"));
    }
    a.rotate(&shared, "of-alpha");
    b.rotate(&shared, "of-beta");
    a.add(&twin, "of-alpha");
    b.add(&twin, "of-beta");
    a.change(&toggled, json!({"enabled": false}));
    b.change(&toggled, json!({"enabled": false}));
    b.change(&toggled, json!({"enabled": true}));
    assert!(b.renders(&shared, "of-beta"));
    // A template is served even if the other machine could not be told of it.
    b.write_template(&twin, &twin);
    assert!(b.renders(&twin, "of-beta"), "{}", b.render(&twin).text());
    // A report that was not sent yet survives a kill of the daemon.
    b.kill();
    b.run();
    assert_eq!(b.account()["pending"], 4, "{}", b.account());
    assert!(b.renders(&shared, "of-beta"));

    // One machine's edits arrive before the other's.
    b.cable.cut();
    team.start_server();
    in_sync(&[a]);
    b.cable.mend();
    in_sync(&[a, b]);
    assert_eq!(a.holds(), b.holds());
    for machine in [a, &*b] {
        assert_eq!(machine.value(&shared).as_deref(), Some("of-beta"));
        assert_eq!(machine.show(&shared)["version"], 3);
        assert_eq!(machine.value(&twin).as_deref(), Some("of-alpha"));
        assert_eq!(machine.value(&format!("{twin}-2")).as_deref(), Some("of-beta"));
        assert_eq!(machine.value(&toggled).as_deref(), Some("before"), "the later one has enabled it");
    }
    let notices = b.notices();
    assert_eq!(notices.iter().filter(|text| text.contains(&format!("`{twin}-2`"))).count(), 1, "{notices:?}");
    // The overtaken value is the version before.
    a.roll_back(&shared, 2);
    until("the value of the other", || (b.value(&shared)? == "of-alpha").then_some(()));
}

#[test]
fn a_secret_that_was_changed_elsewhere_lives() {
    let (_team, a, b) = Team::pair(Place::sqlite());
    a.add("one", "before");
    in_sync(&[&a, &b]);
    b.cable.cut();
    b.stands("offline", None);
    b.rotate("one", "typed");
    assert_eq!(a.delete("one").status, 204);
    assert_eq!(a.value("one"), None);
    b.cable.mend();
    in_sync(&[&a, &b]);
    for machine in [&a, &b] {
        assert_eq!(machine.value("one").as_deref(), Some("typed"));
        let notices = machine.notices();
        assert!(notices.iter().any(|text| text.contains("`one`") && text.contains("deleted")), "{notices:?}");
    }
}

/// Returns device, template and reason of everything that blocks a delete.
fn blockers(machine: &Machine, name: &str) -> Vec<[String; 3]> {
    let refused = machine.delete(name);
    assert_eq!((refused.status, &refused.json()["code"]), (409, &json!("conflict")), "{}", refused.text());
    let fields = ["device", "template", "reason"].map(|field| refused.errors(field));
    (0..fields[0].len()).map(|index| fields.each_ref().map(|texts| texts[index].clone())).collect()
}

fn entry(device: &str, template: &str, reason: &str) -> [String; 3] {
    [device, template, reason].map(str::to_owned)
}

#[test]
fn no_delete_slips_past_a_template_of_another_machine() {
    let (team, a, mut b) = Team::pair(Place::sqlite());
    for name in ["one", "two", "three", "four", "five"] {
        a.add(name, "value");
    }
    in_sync(&[&a, &b]);
    b.write_template("one", "one");
    assert!(b.renders("one", "value"));
    let refused = a.delete("one");
    assert_eq!(refused.status, 409);
    let error = &refused.json()["errors"][0];
    let wanted = json!({"device": "beta", "template": "cal-com/one", "line": 1, "name": "one", "reason": "referenced"});
    for (field, value) in wanted.as_object().unwrap() {
        assert_eq!(&error[field], value, "{error}");
    }
    let told = a.command(&["secret", "delete", "one", "--yes"]);
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.contains("beta") && told.contains("cal-com/one"), "{told}");

    // A reference by a former name counts too.
    a.change("one", json!({"name": "uno"}));
    assert_eq!(blockers(&a, "uno"), [entry("beta", "cal-com/one", "referenced")]);
    let refused = a.post("/v1/secrets", &json!({"name": "one", "value": "another"}));
    assert_eq!((refused.status, refused.errors("device")), (409, vec!["beta".to_owned()]), "{}", refused.text());
    // A name that only the other machine's template references is missing here too.
    b.write_template("missing", "nowhere");
    assert_eq!(b.render("missing").status, 409);
    let missing = until("the missing one", || Some(a.show("nowhere")).filter(|shown| shown["status"] == "missing"));
    assert_eq!(missing["references"][0]["device"], "beta", "{missing}");
    // In a file that cannot be parsed, every word counts as a reference.
    b.write("cal-com/broken.toml", "api_key = \"<< secret 'two' \"\n");
    until("the broken one", || (a.delete("two").status == 409).then_some(()));
    assert_eq!(blockers(&a, "two"), [entry("beta", "cal-com/broken", "in_broken_text")]);
    assert_eq!(a.delete("three").status, 204, "nobody names it");
    // The same holds for a file that is not a template, once a scan has seen it.
    b.write("cal-com/notes.txt", "five is for the frontdesk\n");
    until("the notes", || (a.delete("five").status == 409).then_some(()));
    assert_eq!(blockers(&a, "five"), [entry("beta", "cal-com/notes.txt", "in_broken_text")]);
    std::fs::remove_file(b.path("templates/cal-com/notes.txt")).unwrap();

    // For a device that is off, its last report counts.
    assert!(b.stop());
    b.remove_template("broken");
    assert_eq!(blockers(&a, "uno"), [entry("beta", "cal-com/one", "referenced")]);
    assert_eq!(blockers(&a, "two"), [entry("beta", "cal-com/broken", "in_broken_text")]);
    b.run();
    until("what it says now", || (a.delete("two").status == 204).then_some(()));
    b.remove_template("one");
    a.delete_in_time("uno");

    // A device that has been revoked no longer counts.
    b.write_template("four", "four");
    assert!(b.renders("four", "value"));
    assert!(b.stop());
    assert_eq!(blockers(&a, "four"), [entry("beta", "cal-com/four", "referenced")]);
    let revoked = a.done(&["account", "revoke", "beta", "--yes"], "");
    assert!(revoked.contains("beta") && revoked.contains("  four"), "{revoked}");
    assert_eq!(a.delete("four").status, 204);
    // It keeps what it had, and is told that it was revoked.
    b.run();
    b.stands("refused", Some("unauthorized"));
    assert!(b.renders("four", "value"));
    drop(team);
}

/// A template that is a link into a repository is edited there, and the kernel does not report it.
#[test]
fn an_edit_behind_a_link_on_another_machine_is_told() {
    let (_team, a, b) = Team::pair(Place::sqlite());
    for name in ["one", "two"] {
        a.add(name, "value");
    }
    in_sync(&[&a, &b]);
    let repository = tempfile::tempdir().unwrap();
    let file = repository.path().join("linked.toml");
    std::fs::write(&file, "api_key = \"<< secret 'one' >>\"\n").unwrap();
    std::fs::create_dir_all(b.path("templates/cal-com")).unwrap();
    std::os::unix::fs::symlink(&file, b.path("templates/cal-com/linked.toml")).unwrap();
    let named_by_beta = |name: &str| {
        let shown = a.show(name);
        let references = shown["references"].as_array().cloned().unwrap_or_default();
        references.iter().any(|reference| reference["device"] == "beta").then_some(())
    };
    until("the link", || named_by_beta("one"));
    std::fs::write(&file, "api_key = \"<< secret 'two' >>\"\n").unwrap();
    // Nobody sends a request to the other machine.
    until("the edit behind it", || named_by_beta("two"));
    assert_eq!(blockers(&a, "two"), [entry("beta", "cal-com/linked", "referenced")]);
    assert_eq!(a.delete("one").status, 204);
    assert_eq!(a.value("two").as_deref(), Some("value"));
}

/// Git and editors remove a file for a moment before they put the new one in its place.
#[test]
fn a_template_that_another_machine_replaces_counts() {
    let (_team, a, b) = Team::pair(Place::sqlite());
    a.add("one", "value");
    in_sync(&[&a, &b]);
    b.write_template("one", "one");
    assert!(b.renders("one", "value"));
    let gone = Instant::now();
    b.remove_template("one");
    assert_eq!(b.render("one").status, 404, "it knows");
    // On a busy machine, an answer can come after the two seconds for which a vanished file counts.
    let answer = loop {
        let answer = a.delete("one");
        if answer.status != 409 || gone.elapsed() > Duration::from_millis(1500) {
            break answer;
        }
    };
    if answer.status == 204 {
        assert!(gone.elapsed() >= Duration::from_secs(2), "deleted after {:?}", gone.elapsed());
        a.add("one", "value");
        in_sync(&[&a, &b]);
    } else {
        assert_eq!(answer.status, 409, "{}", answer.text());
    }
    b.write_template("one", "one");
    assert!(b.renders("one", "value"));
    assert_eq!(blockers(&a, "one"), [entry("beta", "cal-com/one", "referenced")]);
    b.remove_template("one");
    a.delete_in_time("one");
}

#[test]
fn what_a_machine_that_was_away_still_names_comes_back() {
    let (_team, a, mut b) = Team::pair(Place::sqlite());
    a.add("one", "value");
    a.change("one", json!({"name": "uno"}));
    in_sync(&[&a, &b]);
    b.cable.cut();
    b.stands("offline", None);
    // This works by a former name, and after the daemon was off for a while.
    b.write_template("one", "one");
    assert!(b.renders("one", "value"));
    b.kill();
    assert_eq!(a.delete("uno").status, 204);
    assert_eq!(a.value("uno"), None);
    b.cable.mend();
    b.run();
    until("it is there again", || (a.value("uno")? == "value").then_some(()));
    in_sync(&[&a, &b]);
    assert_eq!(a.holds(), b.holds());
    assert!(b.renders("one", "value"));
    for machine in [&a, &b] {
        let notices = machine.notices();
        assert!(notices.iter().any(|text| text.contains("`uno` was deleted and is restored")), "{notices:?}");
    }
    assert_eq!(blockers(&a, "uno"), [entry("beta", "cal-com/one", "referenced")]);
    b.remove_template("one");
    a.delete_in_time("uno");
    until("it is gone", || (b.show("uno")["code"] == "not_found").then_some(()));
}

/// The outcome of a render on one machine and a delete on another.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    rendered: u16,
    deleted: u16,
    /// Whether the secret exists in the end.
    is_there: bool,
}

/// Checks what has to hold in any order of events: a template is served only if every delete knows of it. The delete is
/// refused, or the render reports the secret as missing, or the secret exists again.
fn judge(a: &Machine, b: &Machine, name: &str, rendered: &Answer, deleted: &Answer) -> Outcome {
    assert!(matches!(rendered.status, 200 | 409), "{}", rendered.text());
    assert!(matches!(deleted.status, 204 | 409), "{}", deleted.text());
    in_sync(&[a, b]);
    let is_there = a.value(name).is_some();
    assert_eq!(is_there, b.value(name).is_some());
    let outcome = Outcome { rendered: rendered.status, deleted: deleted.status, is_there };
    assert!(is_there || (rendered.status == 409 && deleted.status == 204), "{outcome:?}");
    // In either case the next render agrees.
    assert_eq!(b.render("race").status == 200, is_there);
    outcome
}

/// A render on one machine and a delete on another can reach the server in several orders. The test forces each of
/// them.
#[test]
#[expect(clippy::too_many_lines, reason = "one case after the other")]
fn nothing_is_rendered_of_what_another_machine_deletes_at_that_moment() {
    const PUSH: (&str, &str) = ("POST", "/heads");
    const NAME: &str = "one";
    let kept = |rendered, deleted| Outcome { rendered, deleted, is_there: true };
    type Meet = fn(&Machine, &Relay, &Machine, &Relay) -> (Answer, Answer);
    fn render(b: &Machine) -> Answer {
        b.write_template("race", NAME);
        b.render("race")
    }
    /// Renders on `b` while the push of a delete on `a` is held at this point.
    fn while_deleting(at: Point, a: &Machine, of_a: &Relay, b: &Machine) -> (Answer, Answer) {
        std::thread::scope(|scope| {
            let push = of_a.hold(at, PUSH.0, PUSH.1);
            let deleting = scope.spawn(|| a.delete(NAME));
            push.wait();
            let rendered = render(b);
            push.release();
            (rendered, deleting.join().unwrap())
        })
    }
    /// Deletes on `a` while the push of a render on `b` is held at this point.
    fn while_telling(at: Point, a: &Machine, b: &Machine, of_b: &Relay) -> (Answer, Answer) {
        std::thread::scope(|scope| {
            let push = of_b.hold(at, PUSH.0, PUSH.1);
            let rendering = scope.spawn(|| render(b));
            push.wait();
            let deleted = a.delete(NAME);
            let is_early = rendering.is_finished();
            push.release();
            let rendered = rendering.join().unwrap();
            // Once the server has processed the push, the machine may also learn of it from the head, before it gets
            // its answer.
            let told = || format!("{} {}", rendered.text(), b.account());
            assert!(at == Point::Answer || !is_early, "it is served before the others know: {}", told());
            (rendered, deleted)
        })
    }
    let meetings: [(&str, Meet, Outcome); 5] = [
        ("it is told before the delete begins", |a, _, b, _| (render(b), a.delete(NAME)), kept(200, 409)),
        (
            "it is told between the delete's look and its push",
            |a, of_a, b, _| while_deleting(Point::Request, a, of_a, b),
            kept(200, 409),
        ),
        (
            "it is told, and the machine does not know that yet",
            |a, _, b, of_b| while_telling(Point::Answer, a, b, of_b),
            kept(200, 409),
        ),
        (
            "the delete comes before it is told",
            |a, _, b, of_b| while_telling(Point::Request, a, b, of_b),
            // A template references it again, so it is brought back.
            kept(200, 204),
        ),
        (
            "the delete is done, and the machine that wanted it does not know that yet",
            |a, of_a, b, _| while_deleting(Point::Answer, a, of_a, b),
            kept(200, 204),
        ),
    ];
    for (order, meet, wanted) in meetings {
        let (team, a, b) = Team::pair(Place::sqlite());
        let (of_a, of_b) = (team.relay(&a), team.relay(&b));
        a.add(NAME, "value");
        until("it", || b.value(NAME));
        in_sync(&[&a, &b]);
        let (rendered, deleted) = meet(&a, &of_a, &b, &of_b);
        assert_eq!(judge(&a, &b, NAME, &rendered, &deleted), wanted, "{order}");
    }
    // It was deleted, and every machine has reported that it does not reference it, so it is missing.
    let (_team, a, b) = Team::pair(Place::sqlite());
    a.add(NAME, "value");
    until("it", || b.value(NAME));
    in_sync(&[&a, &b]);
    let deleted = a.delete(NAME);
    let seq = a.account()["seq"].as_u64().unwrap();
    until("every machine has said so", || {
        let devices = b.get("/v1/account/devices").json();
        let said = devices["items"].as_array().unwrap().iter().map(|device| device["references_at_seq"].as_u64());
        said.into_iter().all(|said| said >= Some(seq)).then_some(())
    });
    let rendered = render(&b);
    let gone = Outcome { rendered: 409, deleted: 204, is_there: false };
    assert_eq!(judge(&a, &b, NAME, &rendered, &deleted), gone);
}

/// The same in any order that happens by itself.
#[test]
fn nothing_is_rendered_of_what_another_machine_deletes_in_any_order() {
    let (_team, a, b) = Team::pair(Place::sqlite());
    race(&a, &b, 20);
}

/// Renders and deletes at the same time, `rounds` times.
fn race(a: &Machine, b: &Machine, rounds: u64) {
    for round in 0..rounds {
        let name = format!("race-{round}");
        a.add(&name, "value");
        until("it", || b.value(&name));
        let barrier = Barrier::new(2);
        let (rendered, deleted) = std::thread::scope(|scope| {
            let rendering = scope.spawn(|| {
                barrier.wait();
                b.write_template("race", &name);
                b.render("race")
            });
            barrier.wait();
            let deleted = a.delete(&name);
            (rendering.join().unwrap(), deleted)
        });
        judge(a, b, &name, &rendered, &deleted);
        b.remove_template("race");
    }
}
