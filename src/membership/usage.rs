//! Carries what devices report of their use: this device's to the others, and theirs to here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Trouble, blocking};
use crate::account::client::{Client, ClientError};
use crate::account::seal::Kind;
use crate::account::wire::Usage;
use crate::app::App;
use crate::inventory::{AccountError, Report};
use crate::names::Millis;
use crate::resolve::now;

/// A device that has used nothing new reports again after this, in milliseconds: who hears nothing for longer knows that
/// it is out of contact.
const AGAIN: Millis = 10 * 60 * 1000;
/// How long somebody who asks waits for the reports of others. Then what is known is shown, with its age.
const WAIT: Duration = Duration::from_secs(2);
/// The time between two fetches for somebody who asks: less than what one device may ask of the server.
const PACE: Duration = Duration::from_millis(50);
/// How long nobody asks again after the server did not answer in time.
const PAUSE: Duration = Duration::from_secs(10);

/// Reports what was used here, where that is new or the last report is old.
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
        // The server has a higher one: what it has is heard next, and the one after that is higher still.
        Err(ClientError::Refused { status: 409, .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether a report says something that the last one does not.
fn is_due(last: &Report, report: &Report) -> bool {
    // Also where the clock was set back.
    !last.counts_the_same(report) || !(last.at..last.at.saturating_add(AGAIN)).contains(&report.at)
}

/// Fetches what others report.
pub(super) async fn fetch(app: &Arc<App>, client: &Arc<Client>) -> Result<(), Trouble> {
    let Some(state) = app.inventory.account() else { return Ok(()) };
    let told = client.usage(state.me.0).await?;
    blocking(app, move |inventory| inventory.keep_reports(told)).await
}

/// The last fetch for somebody who asked.
#[derive(Default)]
pub(super) struct Fetched {
    began: Option<Instant>,
    /// Nobody asks again before this: the server did not answer in time.
    not_before: Option<Instant>,
}

/// Brings what others report up to date for somebody who decides by it: what is known then is what the server had when
/// they asked, or later. Out of contact, and where the server does not answer in time, it stays as it is: the age of
/// each report says so.
pub async fn refresh_reports(app: &Arc<App>) {
    let Some(client) = app.account.client.load_full() else { return };
    let since = Instant::now();
    let refreshed = async {
        let mut fetched = app.account.fetched.lock().await;
        // What was fetched for others meanwhile will do.
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
    use crate::names::SecretId;
    use crate::vault::usage::{AllTotals, Totals};

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
