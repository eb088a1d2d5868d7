//! `GET /metrics`: counters and gauges for Prometheus, as OpenMetrics text.
//!
//! The text contains no name of a secret unless the configuration asks for it. Counting a request takes no lock and no
//! memory; everything else is collected when the metrics are requested.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::StatusCode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::routes::{Endpoint, ROUTES};
use crate::app::App;
use crate::inventory::Inventory;
use crate::resolve::snapshot::State;
use crate::sync;
use guillemet_base::logging;
use guillemet_template::catalog::Content;
use guillemet_vault::usage::{Class, RecorderError};

/// The media type of what [`text`] returns.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Every status of the API's responses. Any other status would be counted as the last one.
const STATUSES: [u16; 15] = [200, 201, 204, 304, 400, 403, 404, 405, 409, 413, 422, 429, 502, 503, 500];

/// The numbers of responses by route and status, of open connections and of socket rebinds. The last row of responses
/// is for requests that no route took.
pub struct RequestCounters {
    answers: [[AtomicU64; STATUSES.len()]; ROUTES.len() + 1],
    connections: AtomicU64,
    socket_rebinds: AtomicU64,
}

impl Default for RequestCounters {
    fn default() -> Self {
        Self {
            answers: [const { [const { AtomicU64::new(0) }; STATUSES.len()] }; ROUTES.len() + 1],
            connections: AtomicU64::new(0),
            socket_rebinds: AtomicU64::new(0),
        }
    }
}

/// An open connection, which is counted until this is dropped.
pub struct Connected<'a>(&'a AtomicU64);

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl RequestCounters {
    /// Counts a response by its route and status.
    pub fn answered(&self, endpoint: Option<Endpoint>, status: StatusCode) {
        let row = endpoint.map_or(ROUTES.len(), |endpoint| endpoint as usize);
        let column = STATUSES.iter().position(|known| *known == status.as_u16()).unwrap_or(STATUSES.len() - 1);
        self.answers[row][column].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts that the socket was bound again.
    pub fn rebound(&self) {
        self.socket_rebinds.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection as open until the result is dropped.
    pub fn connected(&self) -> Connected<'_> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Connected(&self.connections)
    }
}

type Labels = Vec<(&'static str, String)>;

/// A metric and its samples.
#[derive(Debug)]
struct Metric {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    samples: Vec<(Labels, f64)>,
}

#[derive(Debug, Default)]
struct Metrics(Vec<Metric>);

impl Metrics {
    fn add(&mut self, name: &'static str, help: &'static str, kind: MetricType, samples: Vec<(Labels, f64)>) {
        self.0.push(Metric { name, help, kind, samples });
    }

    fn gauge(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.add(name, help, MetricType::Gauge, vec![(Labels::new(), value)]);
    }

    fn gauges<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: [(&str, f64); N],
    ) {
        let samples = values.map(|(of, value)| (vec![(label, of.to_owned())], value));
        self.add(name, help, MetricType::Gauge, samples.into());
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in &self.0 {
            let mut encoder = encoder.encode_descriptor(metric.name, metric.help, None, metric.kind)?;
            for (labels, value) in &metric.samples {
                match metric.kind {
                    MetricType::Info => encoder.encode_info(labels)?,
                    kind if labels.is_empty() => put(&mut encoder, kind, *value)?,
                    kind => put(&mut encoder.encode_family(labels)?, kind, *value)?,
                }
            }
        }
        Ok(())
    }
}

fn put(encoder: &mut MetricEncoder<'_>, kind: MetricType, value: f64) -> fmt::Result {
    match kind {
        MetricType::Counter => encoder.encode_counter::<NoLabelSet, u64, f64>(&(value as u64), None),
        _ => encoder.encode_gauge(&value),
    }
}

/// Returns all metrics, including the latest uses. Folds the journal, so it blocks.
///
/// # Errors
/// If usage cannot be folded or read.
#[expect(clippy::disallowed_methods, reason = "whoever has an `&Inventory` is on a blocking thread")]
pub fn text(app: &App, inventory: &Inventory, answered: &RequestCounters) -> Result<String, RecorderError> {
    let recorder = &app.resolver.recorder;
    // Read before `sums` folds the journal.
    let (used, size) = recorder.journal_fill();
    let sums = recorder.sums()?;
    let state = app.resolver.current.load();
    let mut all = Metrics::default();
    let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    all.add("build", "The running version.", MetricType::Info, vec![(version, 1.0)]);
    all.gauge("start_time_seconds", "When the daemon started, since the epoch.", app.started_at as f64 / 1000.0);
    let valid = f64::from(app.configuration.is_valid());
    all.gauge("config_valid", "Whether the configuration file is in effect.", valid);
    let loaded = app.configuration.loaded().at as f64 / 1000.0;
    all.gauge("config_loaded_seconds", "When the configuration in effect was loaded, since the epoch.", loaded);
    all.add("requests", "Requests answered since the start.", MetricType::Counter, requests(answered));
    if let Some((connected, pending)) = sync::gauges(&app.sync.handle, inventory) {
        all.gauge(
            "account_connected",
            "Whether the daemon is connected to the account's server.",
            f64::from(connected),
        );
        all.gauge("account_pending_changes", "Changes that have not reached the account yet.", pending as f64);
        let age = app.sync.handle.head_age().unwrap_or(0) as f64 / 1000.0;
        all.gauge("account_head_age_seconds", "How old the newest head of the account is.", age);
    }
    let resolutions = vec![(Labels::new(), sums.resolutions as f64)];
    all.add("resolutions", "Values delivered from the vault, in total.", MetricType::Counter, resolutions);
    let refusals = sums.refusals.iter().map(|(outcome, count)| {
        let labels = vec![("outcome", outcome.name().to_owned())];
        (labels, *count as f64)
    });
    all.add("refusals", "Refused uses of secrets, in total.", MetricType::Counter, refusals.collect());
    all.gauges("secrets", "Secrets, and missing secrets that are only referenced.", "status", secrets(&state));
    all.gauges("templates", "Templates, by state.", "status", templates(&state));
    let (scans, reads) = inventory.scans_and_reads();
    let help = "Scans of the template folders since the start.";
    all.add("template_scans", help, MetricType::Counter, vec![(Labels::new(), scans as f64)]);
    let help = "Template files read since the start, in scans and for requests.";
    all.add("template_reads", help, MetricType::Counter, vec![(Labels::new(), reads as f64)]);
    all.gauge("plugins", "Plugins.", app.registry.count() as f64);
    all.gauge("planners", "Child processes that run plugins.", app.registry.running() as f64);
    let connections = answered.connections.load(Ordering::Relaxed);
    all.gauge("connections", "Open connections.", connections as f64);
    let rebinds = vec![(Labels::new(), answered.socket_rebinds.load(Ordering::Relaxed) as f64)];
    let help = "How often the socket was removed and recreated since the start.";
    all.add("socket_rebinds", help, MetricType::Counter, rebinds);
    let journal = [("used", used as f64), ("size", size as f64)];
    all.gauges(
        "journal_bytes",
        "The usage journal: records not yet folded into the vault, and its capacity.",
        "state",
        journal,
    );
    let dropped = vec![(Labels::new(), logging::dropped_lines() as f64)];
    all.add("log_lines_dropped", "Log lines that could not be written.", MetricType::Counter, dropped);
    let events = Class::ALL.map(|(class, _, kind)| (kind, sums.kept[class as usize] as f64));
    all.gauges("audit_events", "Events in the audit trail.", "kind", events);
    if app.config.load().metrics.secret_names {
        by_secret(&mut all, inventory, &state)?;
    }
    let mut registry = Registry::with_prefix("guillemet");
    registry.register_collector(Box::new(all));
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    Ok(text)
}

fn requests(counts: &RequestCounters) -> Vec<(Labels, f64)> {
    let mut samples = Vec::new();
    let routes = ROUTES.iter().map(|(method, path, _)| (*method, *path)).chain([("none", "none")]);
    for ((method, path), row) in routes.zip(&counts.answers) {
        for (status, count) in STATUSES.iter().zip(row) {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                let labels =
                    vec![("endpoint", path.to_owned()), ("method", method.to_owned()), ("status", status.to_string())];
                samples.push((labels, count as f64));
            }
        }
    }
    samples
}

/// Counts secrets by status, as the last scan of the templates found them.
fn secrets(state: &State) -> [(&'static str, f64); 3] {
    let active = state.secrets.values().filter(|secret| secret.enabled).count();
    let mut missing = HashSet::new();
    for prepared in state.templates.values() {
        if let Content::Lexed(lexed) = &prepared.template.content {
            let keys = lexed.references.iter().map(|reference| reference.name.key());
            missing.extend(keys.filter(|key| !state.secrets.contains_key(key.as_str())));
        }
    }
    let disabled = state.secrets.len() - active;
    [("active", active as f64), ("disabled", disabled as f64), ("missing", missing.len() as f64)]
}

/// Counts templates by status. Does not wait for plans: templates without one count as `pending`.
fn templates(state: &State) -> [(&'static str, f64); 3] {
    let (mut ok, mut broken, mut pending) = (0.0, 0.0, 0.0);
    for prepared in state.templates.values() {
        match (&prepared.template.content, prepared.is_good()) {
            (Content::Broken { .. }, _) | (_, Some(false)) => broken += 1.0,
            (_, Some(true)) => ok += 1.0,
            (_, None) => pending += 1.0,
        }
    }
    [("ok", ok), ("broken", broken), ("pending", pending)]
}

fn by_secret(all: &mut Metrics, inventory: &Inventory, state: &State) -> Result<(), RecorderError> {
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
    all.add(
        "secret_resolutions",
        "How often this device delivered the value of a secret.",
        MetricType::Counter,
        counts,
    );
    let help = "When a secret was last used on any device in the account, since the epoch.";
    all.add("secret_last_used_seconds", help, MetricType::Gauge, used);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::error::HttpErrorCode;

    #[test]
    fn every_route_and_every_status_has_a_counter_of_its_own() {
        for (index, (_, path, endpoint)) in ROUTES.iter().enumerate() {
            assert_eq!(*endpoint as usize, index, "{path}");
        }
        for (_, name, status) in HttpErrorCode::ALL {
            assert!(STATUSES.contains(&status), "{name}");
        }
        let counts = RequestCounters::default();
        counts.answered(Some(Endpoint::Metrics), StatusCode::OK);
        counts.answered(None, StatusCode::NOT_FOUND);
        let samples = requests(&counts);
        let label = |index: usize, name: &str| {
            let (labels, count): &(Labels, f64) = &samples[index];
            assert_eq!(*count, 1.0);
            labels.iter().find(|(known, _)| *known == name).unwrap().1.clone()
        };
        assert_eq!((label(0, "endpoint"), label(0, "status")), ("/metrics".into(), "200".into()));
        assert_eq!((label(1, "endpoint"), label(1, "status")), ("none".into(), "404".into()));
        assert_eq!(samples.len(), 2);
    }
}
