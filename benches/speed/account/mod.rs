//! The account: how long a change takes from one machine to another, how that grows with the vault and the number of
//! devices, and what devices cost the server.
//!
//! Everything is real: a server process, daemons, TLS on loopback, files on the disk that holds `target`. The parts of
//! a change's way are measured separately: a round trip to a bare TLS server, and transactions of SQLite.

mod bare;
mod crowd;
mod place;
mod sync;

pub use self::bare::serve as serve_bare;
use self::place::{AccountServer, Member};
use super::load::Server;
use super::report::Report;

pub fn account(report: &mut Report, quick: bool, wanted: impl Fn(&str) -> bool) {
    if wanted("account-crossing") {
        let known = bare::references(report, quick);
        crossing(report, quick, known);
    }
    if wanted("account-sync") {
        sync::growth(report, if quick { &[100, 1_000] } else { &[100, 10_000, 100_000] });
    }
    if wanted("account-told") {
        crowd::told(report, if quick { 5 } else { 50 });
    }
    if wanted("account-idle") {
        crowd::idle(report, if quick { 20 } else { 200 }, quick);
    }
}

/// Measures from an acknowledged rotation on one machine to the new render on another.
fn crossing(report: &mut Report, quick: bool, known: bare::Parts) {
    let server = AccountServer::start();
    let office = Member::new(1_000);
    office.create(&server.create_account());
    let laptop = Member::new(0);
    laptop.join(&office.invite());
    laptop.wait_until_it_has(1_000);
    let (work_before, rounds) = (server.cpu(), if quick { 20 } else { 100 });
    let (acknowledged, crossed) = sync::rotate(&office, &laptop, rounds);
    let work = (server.cpu() - work_before) / u32::try_from(rounds).unwrap_or(u32::MAX);
    report.spread("rotate until it is acknowledged, 1,000 secrets", &acknowledged);
    report.spread("acknowledged rotate until another machine renders it", &crossed);
    report.time("  of it known: 2 transactions of a vault, 1 of a server, 2 round trips", known.sum());
    report.time("  work of the server for one rotation", work);
}
