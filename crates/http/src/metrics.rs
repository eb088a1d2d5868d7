//! Metrics for Prometheus, as OpenMetrics text, and the counters of responses and connections. Counting takes no lock
//! and no memory.
//!
//! Knows no metric of a server.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::StatusCode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::router::Route;

/// The media type of what [`Metrics::into_text`] returns.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Every status that is counted separately. Any other status is counted as the last one.
const STATUSES: [u16; 17] = [200, 201, 204, 304, 400, 401, 403, 404, 405, 409, 412, 413, 422, 429, 502, 503, 500];

/// The labels of a sample, each with its value.
pub type Labels = Vec<(&'static str, String)>;

/// A metric and its samples.
#[derive(Debug)]
struct Metric {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    samples: Vec<(Labels, f64)>,
}

/// Metrics of one server, collected to be written.
#[derive(Debug, Default)]
pub struct Metrics(Vec<Metric>);

impl Metrics {
    fn add(&mut self, name: &'static str, help: &'static str, kind: MetricType, samples: Vec<(Labels, f64)>) {
        self.0.push(Metric { name, help, kind, samples });
    }

    /// Adds an information: a sample of 1 with one label.
    pub fn info(&mut self, name: &'static str, help: &'static str, label: &'static str, value: &str) {
        self.add(name, help, MetricType::Info, vec![(vec![(label, value.to_owned())], 1.0)]);
    }

    /// Adds a value that can rise and fall.
    pub fn gauge(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.add(name, help, MetricType::Gauge, vec![(Labels::new(), value)]);
    }

    /// Adds a value that only rises.
    pub fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.add(name, help, MetricType::Counter, vec![(Labels::new(), value as f64)]);
    }

    /// Adds several values that can rise and fall, each with its labels.
    pub fn gauges(&mut self, name: &'static str, help: &'static str, samples: Vec<(Labels, f64)>) {
        self.add(name, help, MetricType::Gauge, samples);
    }

    /// Adds several values that only rise, each with its labels.
    pub fn counters(&mut self, name: &'static str, help: &'static str, samples: Vec<(Labels, f64)>) {
        self.add(name, help, MetricType::Counter, samples);
    }

    /// Returns all metrics as text, each name with this prefix and an underscore before it.
    pub fn into_text(self, prefix: &'static str) -> String {
        let mut registry = Registry::with_prefix(prefix);
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
        text
    }
}

/// Returns samples that differ in one label.
pub fn labelled<'a>(label: &'static str, values: impl IntoIterator<Item = (&'a str, f64)>) -> Vec<(Labels, f64)> {
    values.into_iter().map(|(of, value)| (vec![(label, of.to_owned())], value)).collect()
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

/// The numbers of responses by route and status, and of open connections.
#[derive(Debug)]
pub struct ResponseCounters {
    /// One row for each route, and a last one for requests that no route took.
    responses: Box<[[AtomicU64; STATUSES.len()]]>,
    connections: AtomicU64,
}

/// An open connection, which is counted until this is dropped.
#[derive(Debug)]
pub struct OpenConnection<'a>(&'a AtomicU64);

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ResponseCounters {
    /// Starts at zero, for a table of this many routes.
    pub fn new(routes: usize) -> Self {
        let row = || [const { AtomicU64::new(0) }; STATUSES.len()];
        Self { responses: (0..=routes).map(|_| row()).collect(), connections: AtomicU64::new(0) }
    }

    /// Counts a response by its status and the index of its route; `None` if no route took the request.
    pub fn count(&self, route: Option<usize>, status: StatusCode) {
        let last = self.responses.len() - 1;
        let column = STATUSES.iter().position(|listed| *listed == status.as_u16()).unwrap_or(STATUSES.len() - 1);
        self.responses[route.unwrap_or(last).min(last)][column].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection as open until the result is dropped.
    pub fn connected(&self) -> OpenConnection<'_> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        OpenConnection(&self.connections)
    }

    /// Adds the responses and the open connections to the metrics. `routes` is the table that responses were counted
    /// by.
    pub fn add_to<E>(&self, metrics: &mut Metrics, routes: &[Route<E>]) {
        metrics.counters("requests", "Requests answered since the start.", self.samples(routes));
        let connections = self.connections.load(Ordering::Relaxed);
        metrics.gauge("connections", "Open connections.", connections as f64);
    }

    fn samples<E>(&self, routes: &[Route<E>]) -> Vec<(Labels, f64)> {
        let mut samples = Vec::new();
        let routes = routes.iter().map(|(method, path, _)| (*method, *path)).chain([("none", "none")]);
        for ((method, path), row) in routes.zip(&self.responses) {
            for (status, count) in STATUSES.iter().zip(row) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let labels = [("endpoint", path.into()), ("method", method.into()), ("status", status.to_string())];
                    samples.push((labels.into(), count as f64));
                }
            }
        }
        samples
    }
}

/// Returns whether responses with this status are counted separately.
pub fn is_counted(status: u16) -> bool {
    STATUSES.contains(&status)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: [Route<()>; 2] = [("GET", "/a", ()), ("PUT", "/a", ())];

    #[test]
    fn responses_are_counted_by_route_and_status_and_connections_while_they_are_open() {
        let counters = ResponseCounters::new(ROUTES.len());
        counters.count(Some(1), StatusCode::OK);
        counters.count(Some(1), StatusCode::OK);
        counters.count(None, StatusCode::NOT_FOUND);
        counters.count(None, StatusCode::IM_A_TEAPOT);
        drop(counters.connected());
        let _open = counters.connected();
        let mut metrics = Metrics::default();
        counters.add_to(&mut metrics, &ROUTES);
        let text = metrics.into_text("test");
        for line in [
            "test_requests_total{endpoint=\"/a\",method=\"PUT\",status=\"200\"} 2",
            "test_requests_total{endpoint=\"none\",method=\"none\",status=\"404\"} 1",
            "test_requests_total{endpoint=\"none\",method=\"none\",status=\"500\"} 1",
            "test_connections 1.0",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
        }
        assert_eq!(text.matches("test_requests_total{").count(), 3);
    }

    #[test]
    fn each_kind_of_metric_is_written_as_openmetrics() {
        let mut metrics = Metrics::default();
        metrics.info("build", "The version.", "version", "1");
        metrics.gauge("size", "How large.", 1.5);
        metrics.counter("seen", "How many.", 2);
        metrics.gauges("state", "Which.", labelled("status", [("ok", 1.0), ("broken", 0.0)]));
        let text = metrics.into_text("t");
        for line in [
            "t_build_info{version=\"1\"} 1",
            "t_size 1.5",
            "t_seen_total 2",
            "t_state{status=\"ok\"} 1.0",
            "t_state{status=\"broken\"} 0.0",
            "# EOF",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
        }
    }
}
