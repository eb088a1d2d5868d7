//! `GET /metrics`: numbers for Prometheus, as OpenMetrics text.
//!
//! They contain no id of an account, a device or a key.

use std::sync::atomic::{AtomicU64, Ordering};

use super::ServerState;
use super::routes::ROUTES;
use super::storage::StorageError;
use guillemet_base::logging;
use guillemet_http::metrics::{Metrics, ResponseCounters};

/// Counts responses by route and status, open connections, and pushes.
#[derive(Debug)]
pub struct ServerCounters {
    /// The responses and connections.
    pub http: ResponseCounters,
    pushes: AtomicU64,
}

impl Default for ServerCounters {
    fn default() -> Self {
        Self { http: ResponseCounters::new(ROUTES.len()), pushes: AtomicU64::new(0) }
    }
}

impl ServerCounters {
    /// Counts a push that was accepted.
    pub fn pushed(&self) {
        self.pushes.fetch_add(1, Ordering::Relaxed);
    }
}

/// Returns all metrics as text.
///
/// # Errors
/// [`StorageError`] if the database does not answer.
pub async fn text(app: &ServerState) -> Result<String, StorageError> {
    let totals = app.storage.totals().await?;
    let mut metrics = Metrics::default();
    metrics.info("build", "The running version.", "version", env!("CARGO_PKG_VERSION"));
    metrics.gauge("start_time_seconds", "When the server started, since the epoch.", app.started_at as f64 / 1000.0);
    app.counts.http.add_to(&mut metrics, &ROUTES);
    metrics.counter("heads", "Pushes accepted since the start.", app.counts.pushes.load(Ordering::Relaxed));
    metrics.counter("log_lines_dropped", "Log lines that could not be written.", logging::dropped_lines());
    metrics.gauge("streams", "Devices that receive events.", app.rate_limiter.open_streams() as f64);
    metrics.gauge("accounts", "Accounts in the database.", totals.accounts as f64);
    metrics.gauge("objects", "Objects in all accounts.", totals.objects as f64);
    metrics.gauge("stored_bytes", "Bytes in all boxes.", totals.bytes as f64);
    Ok(metrics.into_text("guillemet_account"))
}

#[cfg(test)]
mod tests {
    use guillemet_http::error::ErrorTable as _;
    use guillemet_http::metrics::is_counted;

    use super::super::error::ServerErrorCode;
    use super::*;

    #[test]
    fn every_route_and_every_status_has_a_counter_of_its_own() {
        for (index, (_, path, endpoint)) in ROUTES.iter().enumerate() {
            assert_eq!(*endpoint as usize, index, "{path}");
        }
        for (_, name, status) in ServerErrorCode::ALL {
            assert!(is_counted(*status), "{name}");
        }
    }
}
