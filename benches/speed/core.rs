//! The core without HTTP, in this process and on one thread: what a resolve and a render cost by themselves.

use std::sync::Arc;
use std::time::Instant;

use guillemet_base::home::Home;
use guillemet_daemon::config::Config;
use guillemet_daemon::inventory;
use guillemet_daemon::resolve::Resolver;
use guillemet_daemon::resolve::budget::Budget;
use guillemet_daemon::resolve::snapshot::{CurrentSnapshot, SnapshotState};
use guillemet_plugin::registry::Registry;
use guillemet_template::catalog::Catalog;
use guillemet_vault::keys::UnlockWith;
use guillemet_vault::store::Vault;
use guillemet_vault::usage::{Caller, Recorder};

use super::home::BenchHome;
use super::report::Report;

pub fn core(report: &mut Report, quick: bool) {
    let rounds: u32 = if quick { 10_000 } else { 300_000 };
    let bench = BenchHome::new(1_000, 0);
    let home = Home::at(bench.path());
    let (vault, secrets) = Vault::open(&home, UnlockWith::KeyFile(home.key_file())).expect("a vault");
    let recorder = Recorder::open(&home.journal_file(), &home.vault_file(), vault.vault_id(), vault.subkey("usage"));
    let mut catalog = Catalog::new(home.templates());
    let found = catalog.rescan(Instant::now());
    // The metadata of a file that was just written is not trusted until some time has passed.
    while !catalog.get("mcp-server/calendar").is_some_and(|template| template.is_current()) {
        catalog.rescan(Instant::now());
    }
    let mut state = SnapshotState::default();
    inventory::put_secrets(&mut state, secrets.into_iter().map(Arc::new).collect());
    inventory::update_templates(&mut state, &catalog, &found);
    let budget = Budget::new(256 << 20);
    let resolver = Resolver {
        current: CurrentSnapshot::new(state),
        recorder: recorder.expect("a journal"),
        budget,
        logged_callers: Default::default(),
    };
    let config = Config::load(&home.config_file(), |_| None).expect("a configuration");
    let registry = Registry::unpinned(home.plugins());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let prepared = resolver.current.load().templates.get("mcp-server/calendar").cloned().expect("the example");
    let plan = runtime.block_on(prepared.plan(None, &registry, &config.variables)).expect("a plan");
    let caller = Caller { uid: 0, gid: 0, pid: 1, exe: Arc::from("/usr/bin/agent") };
    let name = "calendar-token-production".parse().expect("a name");
    let mut per_call = |what: &str, call: &dyn Fn()| {
        for _ in 0..rounds / 10 {
            call();
        }
        let begin = Instant::now();
        for _ in 0..rounds {
            call();
        }
        report.time_us(what, begin.elapsed() / rounds);
    };
    per_call("core: a resolve, recorded, without HTTP", &|| {
        drop(resolver.resolve(resolver.current.load(), std::slice::from_ref(&name), &caller).expect("a value"));
    });
    per_call("core: a render of three secrets, recorded, without HTTP", &|| {
        drop(
            resolver
                .render(resolver.current.load(), Some(&prepared.template.id), &plan, &caller, None)
                .expect("a config"),
        );
    });
    per_call("core: a look whether the template has changed", &|| assert!(prepared.template.is_current()));
}
