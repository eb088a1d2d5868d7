//! `make bench`: measures how fast Guillemet is, next to a bare reference in the same run.
//!
//! Prints a table and writes `target/bench.json`. Passes no judgment: machines differ, so it reports ratios. `QUICK=1`
//! takes only a few seconds and is less precise.

mod account;
mod authors;
mod bare;
mod core;
mod home;
mod load;
mod plugins;
mod report;
mod templates;

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use home::{BenchHome, PROGRAM};
use load::{Load, Round, Server, request};
use report::Report;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    // The daemon's parts in this process start their planners from this program.
    if arguments.get(1).is_some_and(|mode| mode == "planner") {
        return guillemet_planner::run();
    }
    if let [_, mode, socket, kind, work] = arguments.as_slice()
        && mode == "bare"
    {
        bare::serve(Path::new(socket), kind, Duration::from_nanos(work.parse().expect("a number")));
        return ExitCode::SUCCESS;
    }
    if let [_, mode, folder] = arguments.as_slice()
        && mode == "bare-tls"
    {
        account::serve_bare(Path::new(folder));
        return ExitCode::SUCCESS;
    }
    let quick = std::env::var_os("QUICK").is_some_and(|quick| !quick.is_empty());
    let only = std::env::var("ONLY").unwrap_or_default();
    let mut report = Report::new(quick);
    let wanted = |part: &str| only.is_empty() || only.split(',').any(|wanted| wanted == part);
    if wanted("serving") {
        serving(&mut report, quick);
    }
    if wanted("work") {
        work(&mut report, quick);
    }
    if wanted("core") {
        core::core(&mut report, quick);
    }
    if wanted("planning") {
        planning(&mut report, quick);
    }
    if wanted("templates") {
        templates::templates(&mut report, quick);
    }
    if wanted("plugins") {
        plugins::plugins(&mut report, quick);
    }
    if wanted("authors") {
        authors::authors(&mut report, quick);
    }
    if wanted("start") {
        start(&mut report, quick);
    }
    if wanted("processes") {
        processes(&mut report, quick);
    }
    if wanted("growth") {
        growth(&mut report, if quick { &[100, 1_000] } else { &[100, 1_000, 10_000, 100_000] });
    }
    account::account(&mut report, quick, |part| wanted("account") || wanted(part));
    report.finish();
    ExitCode::SUCCESS
}

const RESOLVE: &[u8] = br#"{"secrets":["calendar-token-production"]}"#;
const RENDER: &str = "/v1/render/mcp-server/calendar";

/// Compares resolve and render with a bare server that answers the same bytes, in turns.
fn serving(report: &mut Report, quick: bool) {
    let (rounds, time) = if quick { (3, Duration::from_millis(200)) } else { (11, Duration::from_secs(1)) };
    let home = BenchHome::new(1_000, 0);
    let daemon = home.start();
    let answer = load::ask(&home.socket(), &request("GET", RENDER, b""));
    report.fact("rendered bytes", answer.len() - load::head_len(&answer));
    for (name, kind, request) in [
        ("resolve of one secret", "resolve", request("POST", "/v1/resolve", RESOLVE)),
        ("render, three secrets", "render", request("GET", RENDER, b"")),
    ] {
        let bare = bare::start(&home, kind, &load::ask(&home.socket(), &request), Duration::ZERO);
        for connections in [1, 8] {
            let ours = Load::new(&home.socket(), &request, connections);
            let theirs = Load::new(&bare.socket, &request, connections);
            let results = in_turns((&theirs, &bare), (&ours, &daemon), rounds, time);
            report.serving(&format!("{name}, {connections} connections"), &results);
        }
    }
}

/// Measures what a known amount of work costs such a server if its clients share its cores. This shows how to read
/// `serving`.
fn work(report: &mut Report, quick: bool) {
    let (rounds, time) = if quick { (3, Duration::from_millis(200)) } else { (11, Duration::from_secs(1)) };
    let home = BenchHome::new(10, 0);
    let daemon = home.start();
    let request = request("GET", RENDER, b"");
    let answer = load::ask(&home.socket(), &request);
    drop(daemon);
    let bare = bare::start(&home, "idle", &answer, Duration::ZERO);
    let theirs = Load::new(&bare.socket, &request, 8);
    for micros in [2, 4, 8] {
        let busy = bare::start(&home, &format!("busy-{micros}"), &answer, Duration::from_micros(micros));
        let ours = Load::new(&busy.socket, &request, 8);
        let results = in_turns((&theirs, &bare), (&ours, &busy), rounds, time);
        report.serving(&format!("a bare hyper that computes {micros} µs for each answer, 8 connections"), &results);
    }
}

/// Runs rounds of both, one after the other in alternating order. The first round warms up and does not count.
fn in_turns(
    (theirs, bare): (&Load, &impl Server),
    (ours, server): (&Load, &impl Server),
    rounds: usize,
    time: Duration,
) -> Vec<(Round, Round)> {
    let mut results = Vec::new();
    for round in 0..=rounds {
        let both = if round % 2 == 0 {
            let first = theirs.run(bare, time);
            (first, ours.run(server, time))
        } else {
            let first = ours.run(server, time);
            (theirs.run(bare, time), first)
        };
        if round > 0 {
            results.push(both);
        }
    }
    results
}

/// Measures from a new or changed template to its first render.
fn planning(report: &mut Report, quick: bool) {
    let many = if quick { 100 } else { 1_000 };
    let home = BenchHome::new(100, 0);
    let _daemon = home.start();
    let bare_request = request("GET", RENDER, b"");
    let reference = report::median(50, || drop(load::ask(&home.socket(), &bare_request)));
    report.time("an asked render of a planned template, one connection each", reference);
    let mut number = 0;
    let once = report::median(30, || {
        number += 1;
        home.write_template("one", number);
        load::ask(&home.socket(), &request("GET", "/v1/render/mcp-server/one", b""));
    });
    report.ratio("an edited template until it is rendered", once, "of a planned one", reference);
    let begin = Instant::now();
    for number in 0..many {
        home.write_template(&format!("many-{number}"), number);
    }
    for number in 0..many {
        load::ask(&home.socket(), &request("GET", &format!("/v1/render/mcp-server/many-{number}"), b""));
    }
    report.time(&format!("{many} new templates until each is rendered"), begin.elapsed());
}

/// Measures from the start of the process to the first render, and the memory that it takes.
fn start(report: &mut Report, quick: bool) {
    let (secrets, templates) = if quick { (1_000, 100) } else { (10_000, 1_000) };
    let home = BenchHome::new(secrets, templates);
    // The first start compiles the plugins.
    drop(home.start());
    let first_render = report::median(5, || {
        let daemon = home.spawn();
        home.wait_for(&request("GET", RENDER, b""));
        drop(daemon);
    });
    report.time(&format!("start until the first render: {secrets} secrets, {templates} templates"), first_render);
    for secrets in if quick { vec![3] } else { vec![3, 1_000, 10_000] } {
        let home = BenchHome::new(secrets, 0);
        let daemon = home.start();
        report.resident(&format!("resident memory with {secrets} secrets"), daemon.memory());
        let load = Load::new(&home.socket(), &request("GET", RENDER, b""), 8);
        load.run(&daemon, if quick { Duration::from_millis(500) } else { Duration::from_secs(4) });
        report.resident("  right after a load of renders over 8 connections", daemon.memory());
        // Longer than what a load leaves behind is kept.
        std::thread::sleep(Duration::from_secs(4));
        report.resident("  four seconds later", daemon.memory());
    }
}

/// Measures commands, compared with a process that does nothing.
fn processes(report: &mut Report, quick: bool) {
    let secrets = if quick { 1_000 } else { 10_000 };
    let home = BenchHome::new(secrets, 0);
    home.write_references(secrets / 10);
    let _daemon = home.start();
    let run = |program: &str, arguments: &[&str]| {
        let status = Command::new(program).args(arguments).stdout(Stdio::null()).status();
        assert!(status.expect("it starts").success());
    };
    let at = home.path().display().to_string();
    let rounds = if quick { 10 } else { 200 };
    let bare = report::median(rounds, || run("/bin/true", &[]));
    report.time("a process that does nothing", bare);
    let version = report::median(rounds, || run(PROGRAM, &["--version"]));
    report.difference("guillemet --version", version, bare);
    let render = report::median(rounds, || run(PROGRAM, &["--home", &at, "render", "mcp-server/calendar"]));
    report.difference("guillemet render", render, bare);
    // The first listing reads what has just been written. Every secret is used once, so that each has a count.
    let wanted = request("GET", "/v1/templates?limit=1", b"");
    load::ask(&home.socket(), &wanted);
    for number in 0..secrets / 10 {
        let path = format!("/v1/render/mcp-server/references-{number}");
        load::ask(&home.socket(), &request("GET", &path, b""));
    }
    for (how, arguments) in [("", &["secret", "list"][..]), (" --json", &["secret", "list", "--json"])] {
        let arguments = [&["--home", &at], arguments].concat();
        let list = report::median_apart(rounds.min(20), || run(PROGRAM, &arguments));
        report.difference(&format!("guillemet secret list{how}, {secrets} secrets and references"), list, bare);
    }
}

/// Measures what grows with the number of secrets.
fn growth(report: &mut Report, sizes: &[usize]) {
    let mut rows = Vec::new();
    for &size in sizes {
        let home = BenchHome::new(size, 0);
        drop(home.start());
        let first_render = report::median(3, || {
            let daemon = home.spawn();
            home.wait_for(&request("GET", RENDER, b""));
            drop(daemon);
        });
        let daemon = home.start();
        let cpu = |request: &[u8]| {
            let load = Load::new(&home.socket(), request, 8);
            load.run(&daemon, Duration::from_millis(200));
            load.run(&daemon, Duration::from_secs(1)).cpu_per_request
        };
        let resolve = cpu(&request("POST", "/v1/resolve", RESOLVE));
        let render = cpu(&request("GET", RENDER, b""));
        let mut number = 0;
        let edit = report::median(10, || {
            number += 1;
            home.write_template("one", number);
            load::ask(&home.socket(), &request("GET", "/v1/render/mcp-server/one", b""));
        });
        let create = report::median(20, || {
            number += 1;
            let body = format!(r#"{{"name":"fresh-{number}","value":"v"}}"#);
            let answer = load::ask(&home.socket(), &request("POST", "/v1/secrets", body.as_bytes()));
            assert!(answer.starts_with(b"HTTP/1.1 201"));
        });
        let delete = report::median_apart(5, || {
            let path = format!("/v1/secrets/fresh-{number}");
            number -= 1;
            assert!(load::ask(&home.socket(), &request("DELETE", &path, b"")).starts_with(b"HTTP/1.1 204"));
        });
        let list =
            report::median_apart(5, || drop(load::ask(&home.socket(), &request("GET", "/v1/secrets?limit=100", b""))));
        rows.push(report::Growth {
            size,
            first_render,
            resolve,
            render,
            edit,
            create,
            delete,
            list,
            memory: daemon.memory().0,
        });
    }
    report.growth(rows);
}
