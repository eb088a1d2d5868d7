//! `GET /metrics`: counters and gauges for Prometheus, as OpenMetrics text.
//!
//! The text contains no name of a secret unless the configuration asks for it. Everything but the counters of responses
//! is collected when the metrics are requested.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::StatusCode;

use super::routes::{Endpoint, ROUTES};
use crate::app::App;
use crate::inventory::Inventory;
use crate::resolve::snapshot::SnapshotState;
use crate::sync;
use guillemet_base::logging;
use guillemet_http::metrics::{Metrics, OpenConnection, ResponseCounters, labelled};
use guillemet_template::catalog::TemplateContent;
use guillemet_vault::usage::{Class, RecorderError};

/// Counts responses by route and status, open connections, and how often the socket was bound again.
pub struct RequestCounters {
    http: ResponseCounters,
    socket_rebinds: AtomicU64,
}

impl Default for RequestCounters {
    fn default() -> Self {
        Self { http: ResponseCounters::new(ROUTES.len()), socket_rebinds: AtomicU64::new(0) }
    }
}

impl RequestCounters {
    /// Counts a response by its endpoint and status; `None` if no route took the request.
    pub fn answered(&self, endpoint: Option<Endpoint>, status: StatusCode) {
        self.http.count(endpoint.map(|endpoint| endpoint as usize), status);
    }

    /// Counts that the socket was bound again.
    pub fn rebound(&self) {
        self.socket_rebinds.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection as open until the result is dropped.
    pub fn connected(&self) -> OpenConnection<'_> {
        self.http.connected()
    }
}

/// Returns all metrics, including the latest uses. Folds the journal, so it blocks.
///
/// # Errors
/// If usage cannot be folded or read.
#[expect(clippy::disallowed_methods, reason = "whoever has an `&Inventory` is on a blocking thread")]
pub fn text(app: &App, inventory: &Inventory, counters: &RequestCounters) -> Result<String, RecorderError> {
    let recorder = &app.resolver.recorder;
    // Read before `sums` folds the journal.
    let (used, size) = recorder.journal_fill();
    let sums = recorder.sums()?;
    let state = app.resolver.current.load();
    let mut metrics = Metrics::default();
    metrics.info("build", "The running version.", "version", env!("CARGO_PKG_VERSION"));
    metrics.gauge("start_time_seconds", "When the daemon started, since the epoch.", app.started_at as f64 / 1000.0);
    let valid = f64::from(app.configuration.is_valid());
    metrics.gauge("config_valid", "Whether the configuration file is in effect.", valid);
    let loaded = app.configuration.loaded().at as f64 / 1000.0;
    metrics.gauge("config_loaded_seconds", "When the configuration in effect was loaded, since the epoch.", loaded);
    counters.http.add_to(&mut metrics, &ROUTES);
    if let Some((connected, pending)) = sync::gauges(&app.sync.handle, inventory) {
        metrics.gauge(
            "account_connected",
            "Whether the daemon is connected to the account's server.",
            f64::from(connected),
        );
        metrics.gauge("account_pending_changes", "Changes that have not reached the account yet.", pending as f64);
        let age = app.sync.handle.head_age().unwrap_or(0) as f64 / 1000.0;
        metrics.gauge("account_head_age_seconds", "How old the newest head of the account is.", age);
    }
    metrics.counter("resolutions", "Values delivered from the vault, in total.", sums.resolutions);
    let refusals = sums.refusals.iter().map(|(outcome, count)| (outcome.name(), *count as f64));
    metrics.counters("refusals", "Refused uses of secrets, in total.", labelled("outcome", refusals));
    let help = "Secrets, and missing secrets that are only referenced.";
    metrics.gauges("secrets", help, labelled("status", secrets(&state)));
    metrics.gauges("templates", "Templates, by state.", labelled("status", templates(&state)));
    let (scans, reads) = inventory.scans_and_reads();
    metrics.counter("template_scans", "Scans of the template folders since the start.", scans);
    metrics.counter("template_reads", "Template files read since the start, in scans and for requests.", reads);
    metrics.gauge("plugins", "Plugins.", app.registry.count() as f64);
    metrics.gauge("planners", "Child processes that run plugins.", app.registry.running() as f64);
    let rebinds = counters.socket_rebinds.load(Ordering::Relaxed);
    metrics.counter("socket_rebinds", "How often the socket was removed and recreated since the start.", rebinds);
    let journal = [("used", used as f64), ("size", size as f64)];
    let help = "The usage journal: records not yet folded into the vault, and its capacity.";
    metrics.gauges("journal_bytes", help, labelled("state", journal));
    metrics.counter("log_lines_dropped", "Log lines that could not be written.", logging::dropped_lines());
    let events = Class::ALL.map(|(class, _, kind)| (kind, sums.stored[class as usize] as f64));
    metrics.gauges("audit_events", "Events in the audit trail.", labelled("kind", events));
    if app.config.load().metrics.secret_names {
        by_secret(&mut metrics, inventory, &state)?;
    }
    Ok(metrics.into_text("guillemet"))
}

/// Counts secrets by status, as the last scan of the templates found them.
fn secrets(state: &SnapshotState) -> [(&'static str, f64); 3] {
    let active = state.secrets.values().filter(|secret| secret.enabled).count();
    let mut missing = HashSet::new();
    for prepared in state.templates.values() {
        if let TemplateContent::Lexed(lexed) = &prepared.template.content {
            let keys = lexed.references.iter().map(|reference| reference.name.key());
            missing.extend(keys.filter(|key| !state.secrets.contains_key(key.as_str())));
        }
    }
    let disabled = state.secrets.len() - active;
    [("active", active as f64), ("disabled", disabled as f64), ("missing", missing.len() as f64)]
}

/// Counts templates by status. Does not wait for plans: templates without one count as `pending`.
fn templates(state: &SnapshotState) -> [(&'static str, f64); 3] {
    let (mut ok, mut broken, mut pending) = (0.0, 0.0, 0.0);
    for prepared in state.templates.values() {
        match (&prepared.template.content, prepared.is_good()) {
            (TemplateContent::Broken { .. }, _) | (_, Some(false)) => broken += 1.0,
            (_, Some(true)) => ok += 1.0,
            (_, None) => pending += 1.0,
        }
    }
    [("ok", ok), ("broken", broken), ("pending", pending)]
}

fn by_secret(metrics: &mut Metrics, inventory: &Inventory, state: &SnapshotState) -> Result<(), RecorderError> {
    let uses = inventory.uses()?;
    let (mut counts, mut used) = (Vec::new(), Vec::new());
    let mut secrets: Vec<_> = state.secrets.values().collect();
    secrets.sort_by_key(|secret| secret.name.key());
    for secret in secrets {
        let labels = || vec![("secret", secret.name.to_string())];
        // Only the uses on this device: a collector that reads the metrics of every device adds them up.
        counts.push((labels(), uses.on_this_device(secret.id).count as f64));
        if let Some((last, _)) = uses.of(secret.id).last {
            used.push((labels(), last as f64 / 1000.0));
        }
    }
    metrics.counters("secret_resolutions", "How often this device delivered the value of a secret.", counts);
    let help = "When a secret was last used on any device in the account, since the epoch.";
    metrics.gauges("secret_last_used_seconds", help, used);
    Ok(())
}

#[cfg(test)]
mod tests {
    use guillemet_http::error::ErrorTable as _;
    use guillemet_http::metrics::is_counted;

    use super::*;
    use crate::http::error::HttpErrorCode;

    #[test]
    fn every_route_and_every_status_has_a_counter_of_its_own() {
        for (index, (_, path, endpoint)) in ROUTES.iter().enumerate() {
            assert_eq!(*endpoint as usize, index, "{path}");
        }
        for (_, name, status) in HttpErrorCode::ALL {
            assert!(is_counted(*status), "{name}");
        }
    }
}
