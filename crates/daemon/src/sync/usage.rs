//! Exchanges usage reports with the other devices of the account.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{SyncError, SyncState};
use crate::inventory::{AccountError, Inventory, UsageReport};
use guillemet_account::client::{AccountClient, AccountClientError};
use guillemet_account::seal::BoxKind;
use guillemet_base::names::Millis;
use guillemet_base::time::now;
use guillemet_wire::UsageUpload;

/// Milliseconds after which a device reports again even without new usage. A device that is silent for longer is out of
/// contact.
const AGAIN: Millis = 10 * 60 * 1000;
/// The longest time that a request waits for the reports of other devices. After that, the known ones are shown with
/// their age.
const WAIT: Duration = Duration::from_secs(2);
/// The shortest time between two fetches for requests, well within the server's rate limit for a device.
const PACE: Duration = Duration::from_millis(50);
/// The time without fetches for requests after the server did not answer in time.
const PAUSE: Duration = Duration::from_secs(10);

/// Reports the usage of this device, if it is new or the last report is old.
pub(super) async fn send_report(sync: &Arc<SyncState>, client: &Arc<AccountClient>) -> Result<(), SyncError> {
    let read = |inventory: &Inventory| (inventory.account(), inventory.uses(), inventory.reports());
    let Ok((Some(state), Ok(uses), reports)) = sync.inventory.run(read).await else { return Ok(()) };
    let (account, me) = state.me;
    let last = reports.into_iter().find(|report| report.device == me);
    let last_counter = last.as_ref().map_or(0, |last| last.counter);
    let report = UsageReport::of_device(me, state.facts.usage_counter.max(last_counter) + 1, now(), uses.this_device());
    if last.is_some_and(|last| !is_due(&last, &report)) {
        return Ok(());
    }
    let counter = report.counter;
    sync.run(move |inventory| inventory.change_facts(&[], |facts| facts.usage_counter = counter)).await?;
    let plain = report.to_bytes().map_err(AccountError::from)?;
    let sealed = sync
        .run(move |inventory| {
            inventory.with_engine(|engine| {
                engine.key().map(|key| (key.epoch(), key.seal(BoxKind::Usage, account, me.0, counter, &plain)))
            })
        })
        .await?;
    let (epoch, sealed) = sealed.ok_or(AccountError::None)?;
    let usage = UsageUpload { device: me, counter, epoch, sealed };
    match client.put_usage(account, &usage).await {
        Ok(()) => sync.run(move |inventory| inventory.keep_reports(vec![usage])).await,
        // The server has a higher counter. The next fetch brings it, and the next report counts on from there.
        Err(AccountClientError::Refused { status: 409, .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Returns whether a new report is due: it counts other uses than the last one, or that one is ten minutes old.
fn is_due(last: &UsageReport, report: &UsageReport) -> bool {
    // The lower bound handles a clock that was set back.
    !last.has_same_counts(report) || !(last.at..last.at.saturating_add(AGAIN)).contains(&report.at)
}

/// Fetches the reports of other devices.
pub(super) async fn fetch_reports(sync: &Arc<SyncState>, client: &Arc<AccountClient>) -> Result<(), SyncError> {
    let Some(state) = sync.account().await? else { return Ok(()) };
    let uploads = client.usage(state.me.0).await?;
    sync.run(move |inventory| inventory.keep_reports(uploads)).await
}

/// The last fetch for a request.
#[derive(Default)]
pub(super) struct LastFetch {
    started: Option<Instant>,
    /// No request fetches before this time, because the server did not answer in time.
    not_before: Option<Instant>,
}

/// Updates the reports of other devices for a request that bases a decision on them: afterwards they are at least as
/// new as those that the server had when the request was made. Without contact, or if the server does not answer within
/// two seconds, they stay as they are, and the age of each report shows that.
pub async fn refresh_reports(sync: &Arc<SyncState>) {
    let Some(client) = sync.handle.client.load_full() else { return };
    let since = Instant::now();
    let refreshed = async {
        let mut fetched = sync.handle.fetched.lock().await;
        // A fetch that began for another request meanwhile is recent enough.
        if fetched.started.is_some_and(|started| started > since)
            || fetched.not_before.is_some_and(|until| since < until)
        {
            return;
        }
        if let Some(started) = fetched.started {
            tokio::time::sleep_until((started + PACE).into()).await;
        }
        let started = Instant::now();
        *fetched = LastFetch { started: Some(started), not_before: Some(started + PAUSE) };
        match fetch_reports(sync, &client).await {
            Ok(()) => fetched.not_before = None,
            Err(error) => tracing::debug!(trouble = %error, "cannot fetch the usage reports of other devices"),
        }
    };
    let _ = tokio::time::timeout(WAIT, refreshed).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use guillemet_base::names::SecretId;
    use guillemet_vault::usage::{AllTotals, Totals};
    use guillemet_wire::DeviceId;

    #[test]
    fn a_report_is_due_when_it_is_new_and_again_after_a_while() {
        let report = |at, count| {
            let totals = AllTotals::from_iter([(SecretId([1; 16]), Totals { count, last_used: Some(5) })]);
            UsageReport::of_device(DeviceId([1; 16]), 1, at, &totals)
        };
        let last = report(1_000_000, 1);
        assert!(!is_due(&last, &report(1_000_000 + AGAIN - 1, 1)));
        assert!(is_due(&last, &report(1_000_000 + AGAIN, 1)), "the others wait for a sign of life");
        assert!(is_due(&last, &report(1_000_001, 2)), "it is news");
        assert!(is_due(&last, &report(999_999, 1)), "the clock was set back");
    }
}
