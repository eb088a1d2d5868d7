//! Two machines: the first push, the first sync, and one further change, at several sizes of the vault.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::super::RENDER;
use super::super::load::Server;
use super::super::report::{AccountGrowth, Report};
use super::place::{AccountServer, Line, Member};

/// The secret that is rotated, and rendered on the other machine.
pub const ROTATED: &str = "calendar-token-production";
/// The time between two checks for whether a change has arrived.
const LOOK: Duration = Duration::from_micros(200);
/// The time between two changes, so that the effects of one have ended when the next begins: the other machine scans
/// its templates after each, and scans begin at least 250 ms apart.
const PAUSE: Duration = Duration::from_millis(600);

pub fn value(number: usize) -> String {
    format!("sk_live_{number:032x}")
}

pub fn set(line: &mut Line, secret: &str, value: &str) {
    line.json("PATCH", &format!("/v1/secrets/{secret}"), &json!({"value": value}));
}

/// Returns whether the value is rendered.
pub fn renders(line: &mut Line, value: &str) -> bool {
    line.ask("GET", RENDER, b"").windows(value.len()).any(|window| window == value.as_bytes())
}

/// Returns how long each rotation took until it was acknowledged, and from then until the other machine rendered it.
pub fn rotate(office: &Member, laptop: &Member, rounds: usize) -> (Vec<Duration>, Vec<Duration>) {
    let (mut here, mut there) = (office.line(), laptop.line());
    let (mut acknowledged, mut crossed) = (Vec::new(), Vec::new());
    // The first render in a home compiles the plugins.
    there.ask("GET", RENDER, b"");
    for number in 0..rounds {
        let value = value(number);
        // Vary the moment relative to whatever else happens periodically.
        std::thread::sleep(PAUSE + Duration::from_micros((number as u64 * 7_919) % 5_000));
        let begin = Instant::now();
        set(&mut here, ROTATED, &value);
        acknowledged.push(begin.elapsed());
        let begin = Instant::now();
        while !renders(&mut there, &value) {
            std::thread::sleep(LOOK);
        }
        crossed.push(begin.elapsed());
    }
    acknowledged.sort();
    crossed.sort();
    (acknowledged, crossed)
}

/// The measurements during a piece of work.
struct Beside {
    time: Duration,
    /// The longest time that a resolve took during the work.
    resolve: Duration,
    /// The longest time that a change took during the work.
    change: Duration,
}

/// Does the work, and resolves and changes a secret of the machine at the same time.
fn beside(member: &Member, secret: &str, work: impl FnOnce()) -> Beside {
    let stop = AtomicBool::new(false);
    let longest = |act: &mut dyn FnMut(usize)| {
        let mut longest = Duration::ZERO;
        for number in 1.. {
            let begin = Instant::now();
            act(number);
            longest = longest.max(begin.elapsed());
            if stop.load(Ordering::Relaxed) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        longest
    };
    std::thread::scope(|scope| {
        let resolve = scope.spawn(|| {
            let (mut line, body) = (member.line(), json!({"secrets": [secret]}).to_string());
            longest(&mut |_| drop(line.ask("POST", "/v1/resolve", body.as_bytes())))
        });
        let change = scope.spawn(|| {
            let mut line = member.line();
            longest(&mut |number| set(&mut line, secret, &value(number)))
        });
        let begin = Instant::now();
        work();
        let time = begin.elapsed();
        stop.store(true, Ordering::Relaxed);
        let (resolve, change) = (resolve.join().expect("it resolves"), change.join().expect("it changes"));
        Beside { time, resolve, change }
    })
}

pub fn growth(report: &mut Report, sizes: &[usize]) {
    let mut rows = Vec::new();
    for &size in sizes {
        let server = AccountServer::start();
        let office = Member::new(size);
        let code = server.create_account();
        let push = beside(&office, ROTATED, || {
            office.create(&code);
            office.wait_until_it_has(size);
        });

        // It has one secret, so that there is something to change while it joins.
        let laptop = Member::new(0);
        let own = "laptop-production";
        laptop.line().json("POST", "/v1/secrets", &json!({"name": own, "value": value(0)}));
        let invitation = office.invite();
        let sync = beside(&laptop, own, || {
            laptop.join(&invitation);
            laptop.wait_until_it_has(size);
        });
        let (acknowledged, crossed) = rotate(&office, &laptop, if sizes.len() < 3 { 10 } else { 40 });
        let (laptop_peak, office_peak, server_peak) = (laptop.daemon.peak(), office.daemon.peak(), server.peak());
        rows.push(AccountGrowth {
            size,
            push: [push.time, push.resolve, push.change],
            sync: [sync.time, sync.resolve, sync.change],
            acknowledged: acknowledged[acknowledged.len() / 2],
            crossed: crossed[crossed.len() / 2],
            start: restart(laptop),
            laptop_peak,
            office_peak,
            server_peak,
        });
    }
    report.account_growth(rows);
}

/// Measures from the start of the process to the first render, in the account.
fn restart(member: Member) -> Duration {
    let Member { home, daemon } = member;
    drop(daemon);
    let begin = Instant::now();
    let _daemon = home.start();
    begin.elapsed()
}
