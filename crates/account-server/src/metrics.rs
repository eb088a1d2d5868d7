//! `GET /metrics`: numbers for Prometheus, as OpenMetrics text.
//!
//! They contain no id of an account, a device or a key.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::StatusCode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::ServerState;
use super::routes::{Endpoint, ROUTES};
use super::storage::StorageError;
use guillemet_base::logging;

/// The media type of the text that [`text`] returns.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The statuses that the server answers with. Any other one would be counted as the last.
const STATUSES: [u16; 15] = [200, 201, 204, 400, 401, 403, 404, 405, 409, 412, 413, 422, 429, 503, 500];

/// Counts answers by route and status, connections and pushes. The last row of answers is for requests without a route.
#[derive(Debug)]
pub struct ServerCounters {
    answers: [[AtomicU64; STATUSES.len()]; ROUTES.len() + 1],
    connections: AtomicU64,
    heads: AtomicU64,
}

impl Default for ServerCounters {
    fn default() -> Self {
        Self {
            answers: [const { [const { AtomicU64::new(0) }; STATUSES.len()] }; ROUTES.len() + 1],
            connections: AtomicU64::new(0),
            heads: AtomicU64::new(0),
        }
    }
}

/// A connection. It counts until this is dropped.
#[derive(Debug)]
pub struct CountedConnection<'a>(&'a AtomicU64);

impl Drop for CountedConnection<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ServerCounters {
    /// Counts an answer; `endpoint` is `None` if the request has no route.
    pub fn answered(&self, endpoint: Option<Endpoint>, status: StatusCode) {
        let row = endpoint.map_or(ROUTES.len(), |endpoint| endpoint as usize);
        let column = STATUSES.iter().position(|known| *known == status.as_u16()).unwrap_or(STATUSES.len() - 1);
        self.answers[row][column].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a push that was accepted.
    pub fn pushed(&self) {
        self.heads.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection until the result is dropped.
    pub fn connected(&self) -> CountedConnection<'_> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        CountedConnection(&self.connections)
    }
}

type Labels = Vec<(&'static str, String)>;

/// One metric with its samples: name, help, type, samples.
#[derive(Debug)]
struct Metric(&'static str, &'static str, MetricType, Vec<(Labels, f64)>);

#[derive(Debug)]
struct Metrics(Vec<Metric>);

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Metric(name, help, kind, samples) in &self.0 {
            let mut encoder = encoder.encode_descriptor(name, help, None, *kind)?;
            for (labels, value) in samples {
                match kind {
                    MetricType::Info => encoder.encode_info(labels)?,
                    kind if labels.is_empty() => put(&mut encoder, *kind, *value)?,
                    kind => put(&mut encoder.encode_family(labels)?, *kind, *value)?,
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

/// Returns all metrics as text.
///
/// # Errors
/// [`StorageError`] if the database does not answer.
pub async fn text(app: &ServerState) -> Result<String, StorageError> {
    let totals = app.storage.totals().await?;
    let counts = &app.counts;
    let one = |value: u64| vec![(Labels::new(), value as f64)];
    let loaded = |count: &AtomicU64| one(count.load(Ordering::Relaxed));
    let version = vec![(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1.0)];
    let started = vec![(Labels::new(), app.started_at as f64 / 1000.0)];
    let gauge = MetricType::Gauge;
    let all = Metrics(vec![
        Metric("build", "The running version.", MetricType::Info, version),
        Metric("start_time_seconds", "When the server started, since the epoch.", gauge, started),
        Metric("requests", "Requests answered since the start.", MetricType::Counter, requests(counts)),
        Metric("heads", "Pushes accepted since the start.", MetricType::Counter, loaded(&counts.heads)),
        Metric(
            "log_lines_dropped",
            "Log lines that could not be written.",
            MetricType::Counter,
            one(logging::dropped_lines()),
        ),
        Metric("connections", "Open connections.", gauge, loaded(&counts.connections)),
        Metric("streams", "Devices that receive events.", gauge, one(app.rate_limiter.open_streams() as u64)),
        Metric("accounts", "Accounts in the database.", gauge, one(totals.accounts)),
        Metric("objects", "Objects in all accounts.", gauge, one(totals.objects)),
        Metric("stored_bytes", "Bytes in all boxes.", gauge, one(totals.bytes)),
    ]);
    let mut registry = Registry::with_prefix("guillemet_account");
    registry.register_collector(Box::new(all));
    let mut text = String::new();
    // Writing to a `String` cannot fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    Ok(text)
}

fn requests(counts: &ServerCounters) -> Vec<(Labels, f64)> {
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

#[cfg(test)]
mod tests {
    use super::super::error::ServerErrorCode;
    use super::*;

    #[test]
    fn every_route_and_every_status_has_a_counter_of_its_own() {
        for (index, (_, path, endpoint)) in ROUTES.iter().enumerate() {
            assert_eq!(*endpoint as usize, index, "{path}");
        }
        for (_, name, status) in ServerErrorCode::ALL {
            assert!(STATUSES.contains(&status), "{name}");
        }
        let counts = ServerCounters::default();
        counts.answered(Some(Endpoint::Push), StatusCode::CREATED);
        counts.answered(None, StatusCode::NOT_FOUND);
        assert_eq!(requests(&counts).len(), 2);
    }
}
