//! The exchange of reports about uses: this device's to the others, and theirs to this one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Trouble, blocking};
use crate::account::client::{Client, ClientError};
use crate::account::seal::Kind;
use crate::account::wire::Usage;
use crate::api::App;
use crate::inventory::{AccountError, Report};
use guillemet_base::names::Millis;
use guillemet_base::time::now;

/// The time after which a device reports again although it has used nothing new, in milliseconds. A device that is
/// silent for longer is out of contact.
const AGAIN: Millis = 10 * 60 * 1000;
/// The time that a caller waits for the reports of others. After that, the known reports are shown with their age.
const WAIT: Duration = Duration::from_secs(2);
/// The time between two fetches for callers, within the rate that one device can ask the server.
const PACE: Duration = Duration::from_millis(50);
/// The pause after the server did not answer in time.
const PAUSE: Duration = Duration::from_secs(10);

/// Reports the uses on this device, if there are new ones or the last report is old.
pub(super) async fn report(app: &Arc<App>, client: &Arc<Client>) -> Result<(), Trouble> {
    let Some(state) = app.inventory.account() else { return Ok(()) };
    let (account, me) = state.me;
    let inventory = Arc::clone(&app.inventory);
    let uses = tokio::task::spawn_blocking(move || inventory.uses()).await;
    let Ok(Ok(uses)) = uses else { return Ok(()) };
    let last = app.inventory.reports().into_iter().find(|report| report.device == me);
    let known = last.as_ref().map_or(0, |last| last.counter);
    let report = Report::of_device(me, state.facts.usage_counter.max(known) + 1, now(), uses.here());
    if last.is_some_and(|last| !is_due(&last, &report)) {
        return Ok(());
    }
    let counter = report.counter;
    blocking(app, move |inventory| inventory.change_facts(&[], |facts| facts.usage_counter = counter)).await?;
    let plain = report.to_bytes();
    let sealed = app.inventory.with_engine(|engine| {
        engine.key().map(|key| (key.epoch(), key.seal(Kind::Usage, account, me.0, counter, &plain)))
    })?;
    let (epoch, sealed) = sealed.ok_or(AccountError::None)?;
    let usage = Usage { device: me, counter, epoch, sealed };
    match client.put_usage(account, &usage).await {
        Ok(()) => blocking(app, move |inventory| inventory.keep_reports(vec![usage])).await,
        // The server has a higher counter. This device learns it with the next fetch, and counts from there.
        Err(ClientError::Refused { status: 409, .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Returns whether a report has to be sent: it has new counts, or the last one is old.
fn is_due(last: &Report, report: &Report) -> bool {
    // The lower bound covers a clock that was set back.
    !last.counts_the_same(report) || !(last.at..last.at.saturating_add(AGAIN)).contains(&report.at)
}

/// Fetches the reports of all devices.
pub(super) async fn fetch(app: &Arc<App>, client: &Arc<Client>) -> Result<(), Trouble> {
    let Some(state) = app.inventory.account() else { return Ok(()) };
    let told = client.usage(state.me.0).await?;
    blocking(app, move |inventory| inventory.keep_reports(told)).await
}

/// The last fetch for a caller.
#[derive(Default)]
pub(super) struct Fetched {
    began: Option<Instant>,
    /// There is no fetch before this, because the server did not answer in time.
    not_before: Option<Instant>,
}

/// Updates the reports of other devices for a caller that decides by them. They are then as new as the server's at the
/// time of the call, or newer. If there is no contact, or the server does not answer in time, they stay as they are:
/// each report shows its age.
pub async fn refresh_reports(app: &Arc<App>) {
    let Some(client) = app.account.client.load_full() else { return };
    let since = Instant::now();
    let refreshed = async {
        let mut fetched = app.account.fetched.lock().await;
        // A fetch that began for another caller in the meantime is recent enough.
        if fetched.began.is_some_and(|began| began > since) || fetched.not_before.is_some_and(|until| since < until) {
            return;
        }
        if let Some(began) = fetched.began {
            tokio::time::sleep_until((began + PACE).into()).await;
        }
        let began = Instant::now();
        *fetched = Fetched { began: Some(began), not_before: Some(began + PAUSE) };
        match fetch(app, &client).await {
            Ok(()) => fetched.not_before = None,
            Err(trouble) => tracing::debug!(%trouble, "the reports of other devices could not be fetched"),
        }
    };
    let _ = tokio::time::timeout(WAIT, refreshed).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::wire::DeviceId;
    use crate::vault::usage::{AllTotals, Totals};
    use guillemet_base::names::SecretId;

    #[test]
    fn a_report_is_due_when_it_is_new_and_again_after_a_while() {
        let report = |at, count| {
            let totals = AllTotals::from_iter([(SecretId([1; 16]), Totals { count, last_used: Some(5) })]);
            Report::of_device(DeviceId([1; 16]), 1, at, &totals)
        };
        let last = report(1_000_000, 1);
        assert!(!is_due(&last, &report(1_000_000 + AGAIN - 1, 1)));
        assert!(is_due(&last, &report(1_000_000 + AGAIN, 1)), "the others wait for a sign of life");
        assert!(is_due(&last, &report(1_000_001, 2)), "it is news");
        assert!(is_due(&last, &report(999_999, 1)), "the clock was set back");
    }
}
