//! What it costs to miss no edit of a template: scans, and a daemon without requests.

use std::time::{Duration, Instant};

use guillemet_base::home::Home;
use guillemet_template::catalog::Catalog;

use super::home::BenchHome;
use super::load::{self, Server, request};
use super::report::{self, Report};

/// How long the idle daemon is watched, which is several scans.
const IDLE: Duration = Duration::from_secs(20);

pub fn templates(report: &mut Report, quick: bool) {
    let many = if quick { 1_000 } else { 10_000 };
    let bench = BenchHome::new(100, many);
    let mut catalog = Catalog::new(Home::at(bench.path()).templates());
    let first = report::median(1, || drop(catalog.rescan(Instant::now())));
    report.time(&format!("the first scan of {many} templates, which reads them"), first);
    // Files that were just written are read once more.
    catalog.rescan(Instant::now());
    let again = report::median(11, || assert!(catalog.rescan(Instant::now()).is_empty()));
    report.time(&format!("a scan of {many} templates in which nothing changed"), again);

    let daemon = bench.start();
    // This request makes the daemon plan every template first.
    load::ask(&bench.socket(), &request("GET", "/v1/status", b""));
    let (cpu, begin) = (daemon.cpu(), Instant::now());
    std::thread::sleep(if quick { IDLE / 4 } else { IDLE });
    let share = (daemon.cpu() - cpu).as_secs_f64() / begin.elapsed().as_secs_f64();
    report.share(&format!("idle processor time with {many} templates, within a minute of a change"), share);
}
