//! An account server that is slow to answer, asks for less traffic, or has a lot to store; and machines that are killed
//! while they join. In every case a request waits only if it has to, and everything arrives.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::account::Place;
use crate::support::daemon::Guillemet;
use crate::support::team::{Team, in_sync, join};
use guillemet_testing::random::Random;
use guillemet_testing::wait::until;
use rustix::process::Signal;
use serde_json::json;

#[test]
fn nobody_waits_for_a_server_that_does_not_answer() {
    let (team, a, mut b) = Team::pair(Place::sqlite());
    a.add("one", "before");
    a.add("two", "value");
    in_sync(&[&a, &b]);
    b.write_template("one", "one");
    assert!(b.renders("one", "before"));
    team.signal_servers(Signal::STOP);
    let begun = Instant::now();
    b.rotate("one", "after");
    assert!(b.renders("one", "after"));
    b.add("three", "value");
    assert_eq!(b.account()["pending"], 2);
    a.rotate("one", "of-alpha");
    // A request that waited for the server would have taken at least ten seconds.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    // A template that the other machines cannot be told of waits for a while, and is served once they know.
    b.write_template("two", "two");
    let (rendered, elapsed) = std::thread::scope(|scope| {
        let rendering = scope.spawn(|| {
            let begun = Instant::now();
            (b.render("two"), begun.elapsed())
        });
        std::thread::sleep(Duration::from_millis(500));
        assert!(!rendering.is_finished(), "nobody could be told");
        team.signal_servers(Signal::CONT);
        rendering.join().unwrap()
    });
    assert_eq!(rendered.status, 200, "{}", rendered.text());
    assert!(elapsed >= Duration::from_millis(500));
    in_sync(&[&a, &b]);
    assert_eq!(a.holds(), b.holds());
    assert_eq!(a.show("one")["version"], 3);
    assert_eq!(a.delete("two").status, 409);

    // If that lasts longer, the template is not served, and the error says why.
    team.signal_servers(Signal::STOP);
    b.write_template("three", "three");
    let refused = b.render("three");
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("service_unavailable")), "{}", refused.text());
    assert!(refused.text().contains("could not be told"), "{}", refused.text());
    assert!(b.renders("two", "value"), "what they know is served");
    // Waiting does not keep the daemon from stopping.
    std::thread::scope(|scope| {
        let deleting = scope.spawn(|| b.try_ask("DELETE", "/v1/secrets/three", &json!(null)));
        b.signal(Signal::TERM);
        let answer = deleting.join().unwrap();
        assert!(answer.is_none_or(|answer| answer.status != 204), "nobody could be asked");
    });
    b.ends();
    team.signal_servers(Signal::CONT);
    b.run();
    in_sync(&[&a, &b]);
    assert!(b.renders("three", "value"));
}

#[test]
fn a_server_that_wants_quiet_gets_it_and_everything_arrives() {
    const SECRETS: usize = 60;
    let (mut team, a, b) = Team::pair(Place::sqlite());
    team.arguments = &["--requests", "3"];
    team.end_server(false);
    team.start_server();
    in_sync(&[&a, &b]);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..SECRETS {
                a.add(&format!("secret-{number}"), "value");
            }
            in_sync(&[&a, &b]);
            is_done.store(true, Ordering::Relaxed);
        });
        while !is_done.load(Ordering::Relaxed) {
            assert_eq!(a.account()["state"], "connected", "{}", a.account());
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    assert_eq!(b.holds().len(), SECRETS);
}

#[test]
fn a_large_vault_comes_in_pieces() {
    // More secrets than fit into one push or one page.
    const SECRETS: usize = 1200;
    let mut team = Team::at(Place::sqlite());
    let (mut a, mut b) = (team.machine("alpha"), team.machine("beta"));
    for machine in [&mut a, &mut b] {
        machine.log_level = "info";
        machine.run();
    }
    std::thread::scope(|scope| {
        for machine in [&a, &b] {
            scope.spawn(|| (0..SECRETS).for_each(|number| machine.add(&format!("{}-{number}", machine.name), "value")));
        }
    });
    b.write_template("last", "beta-1199");
    team.found(&a);
    in_sync(&[&a]);
    join(&a, &b);
    assert!(b.renders("last", "value"));
    in_sync(&[&a, &b]);
    for machine in [&a, &b] {
        assert_eq!(machine.get("/v1/secrets?limit=1").json()["count"], 2 * SECRETS);
        assert_eq!(machine.account()["secrets"], 2 * SECRETS);
    }
    // The reference was sent in the last part.
    assert_eq!(a.delete("beta-1199").status, 409);
    assert_eq!(a.delete("beta-1198").status, 204);
    until("it is gone", || (b.show("beta-1198")["code"] == "not_found").then_some(()));
    b.kill();
    b.run();
    in_sync(&[&a, &b]);
}

/// Afterwards the machine still has its own secrets, and either is in the account or is not.
#[test]
fn a_machine_that_is_killed_while_it_joins_is_whole() {
    const ROUNDS: u64 = 16;
    let mut team = Team::at(Place::sqlite());
    let mut a = team.machine("alpha");
    a.run();
    a.add("of-alpha", "value");
    team.found(&a);
    let mut random = Random::new(5);
    let (mut in_at_once, mut names) = (0, Vec::new());
    for round in 0..ROUNDS {
        let mut b = team.machine_of("beta", Guillemet::init_anew());
        b.run();
        let name = format!("of-beta-{round}");
        b.add(&name, "value");
        let code = a.invite();
        let body = json!({"code": code, "name": "beta", "server": format!("https://{}", b.cable.address)});
        std::thread::scope(|scope| {
            let joining = scope.spawn(|| b.try_ask("POST", "/v1/account", &body));
            std::thread::sleep(Duration::from_micros(random.below(100_000)));
            b.signal(Signal::KILL);
            let _ = joining.join().unwrap();
        });
        b.kill();
        b.run();
        assert_eq!(b.value(&name).as_deref(), Some("value"));
        if b.account()["joined"] == true {
            in_at_once += 1;
        } else {
            assert_eq!(b.holds().len(), 1);
            join(&a, &b);
        }
        in_sync(&[&a, &b]);
        names.push(name);
        for machine in [&a, &b] {
            let holds = machine.holds();
            assert_eq!(holds.len(), names.len() + 1, "{:?}", holds.keys());
            assert!(names.iter().all(|name| holds.contains_key(name)));
        }
    }
    eprintln!("{in_at_once} of {ROUNDS} were in");
}
