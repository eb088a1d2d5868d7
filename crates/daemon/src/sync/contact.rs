//! The task that keeps the daemon in contact with its account's server. It listens to events, polls if the server sends
//! none, and retries with growing delays if the server does not answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use zeroize::Zeroizing;

use super::{Contact, SyncError, SyncState, connect, joining, refusal_of, refused_by, steps, usage};
use crate::inventory::{AccountState, Inventory};
use guillemet_account::client::{AccountClient, HeadEvents};
use guillemet_account::engine::Proposal;
use guillemet_base::random::random;
use guillemet_http::shutdown::Shutdown;
use guillemet_vault::audit::Actor;
use guillemet_wire::ServerEvent;

/// The delay after a failed session: the first, and the longest.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// The longest delay after a session that had contact: a server that restarts is back soon.
const RETURN: Duration = Duration::from_secs(2);
/// How often the server is polled if it sends no events.
const POLL: Duration = Duration::from_secs(5);
/// How often new usage is reported and the age of the head checked.
const TICK: Duration = Duration::from_secs(15);
/// How long a silent event stream is trusted. The server normally sends something every few seconds.
const SILENCE: Duration = Duration::from_secs(60);

/// Keeps the daemon in contact with its account's server until the daemon stops.
pub async fn run(sync: Arc<SyncState>, stop: Shutdown) {
    let connect = || {
        let (sync, mut stop) = (Arc::clone(&sync), stop.clone());
        async move {
            let started = Instant::now();
            let error = tokio::select! {
                () = stop.requested() => return None,
                result = session(&sync) => result,
            };
            let was_connected = sync.handle.client.swap(None).is_some();
            if let Some(error) = &error {
                tracing::info!(trouble = %error, "not connected to the account's server");
                sync.handle.set_contact(match refusal_of(error) {
                    Some((code, message)) => Contact::Refused { code, message },
                    None => Contact::Offline(Some(error.to_string())),
                });
            }
            Some(SessionEnd { is_error: error.is_some(), was_connected, after: started.elapsed() })
        }
    };
    let wait = |delay| {
        let (sync, mut stop) = (Arc::clone(&sync), stop.clone());
        async move {
            tokio::select! {
                () = stop.requested() => WakeReason::Stop,
                () = sync.handle.changed.notified() => WakeReason::Changed,
                () = tokio::time::sleep(delay) => WakeReason::InTime,
            }
        }
    };
    keep_in_contact(connect, wait).await;
}

/// How a session ended.
struct SessionEnd {
    /// Whether something went wrong; otherwise this device joined, left or was repaired.
    is_error: bool,
    was_connected: bool,
    /// The duration of the session.
    after: Duration,
}

/// The reasons why a wait ended.
enum WakeReason {
    InTime,
    /// This device joined or left an account, or was repaired.
    Changed,
    Stop,
}

/// Runs one session after another, with a growing delay after each failed one, until either closure says to stop. Reads
/// no clock: a session reports how long it lasted, and `wait` waits.
async fn keep_in_contact<S, W>(mut connect: impl FnMut() -> S, mut wait: impl FnMut(Duration) -> W)
where
    S: Future<Output = Option<SessionEnd>>,
    W: Future<Output = WakeReason>,
{
    let mut delay = PATIENCE.0;
    while let Some(session) = connect().await {
        if session.was_connected {
            delay = delay.min(RETURN);
        }
        if !session.is_error || session.after > PATIENCE.1 {
            delay = PATIENCE.0;
        }
        if !session.is_error {
            continue;
        }
        // A random part of the delay, so that many daemons do not all come back to a server at the same moment.
        let part = f64::from(u32::from_le_bytes(random())) / f64::from(u32::MAX);
        match wait(delay.mul_f64(0.5 + part / 2.0)).await {
            WakeReason::InTime => delay = (delay * 2).min(PATIENCE.1),
            WakeReason::Changed => delay = PATIENCE.0,
            WakeReason::Stop => return,
        }
    }
}

/// Runs one session: connects, and returns when contact ends. Returns the reason, or `None` if this device joined, left
/// or was repaired.
async fn session(sync: &Arc<SyncState>) -> Option<SyncError> {
    let account = match sync.account().await {
        Ok(account) => account,
        Err(error) => return Some(error),
    };
    let Some(AccountState { facts, me, head, .. }) = account else {
        sync.handle.set_contact(Contact::None);
        sync.handle.changed.notified().await;
        return None;
    };
    sync.handle.made_at.store(head.map_or(0, |(head, _)| head.made_at), Ordering::Relaxed);
    if let Some(stopped) = facts.stopped {
        sync.handle.set_contact(Contact::Offline(Some(stopped.message)));
        sync.handle.changed.notified().await;
        return None;
    }
    if sync.handle.contact.borrow().clone() == Contact::None {
        sync.handle.set_contact(Contact::Offline(None));
    }
    let client = match connect(facts.url, facts.pin, Some(Zeroizing::new(facts.api_key))).await {
        Ok(client) => Arc::new(client),
        Err(error) => return Some(error),
    };
    tokio::select! {
        trouble = sync_until_error(sync, &client, me.0) => Some(trouble),
        () = sync.handle.changed.notified() => None,
    }
}

async fn sync_until_error(
    sync: &Arc<SyncState>,
    client: &Arc<AccountClient>,
    account: guillemet_wire::AccountId,
) -> SyncError {
    let events = match client.events(account).await {
        Ok(events) => Some(events),
        // A proxy in between may not let events through.
        Err(error) if !error.is_transient() && refused_by(&error).is_none() => None,
        Err(error) => return error.into(),
    };
    match exchange(sync, client, events).await {
        Ok(()) => SyncError::Other("the account's server closed the connection".into()),
        Err(error) => error,
    }
}

async fn exchange(
    sync: &Arc<SyncState>,
    client: &Arc<AccountClient>,
    mut events: Option<HeadEvents>,
) -> Result<(), SyncError> {
    let edits = Arc::new(Proposal::Edits);
    {
        let _guard = sync.handle.exclusive.lock().await;
        steps::pull(sync, client).await?;
        steps::push(sync, client, &edits, &Actor::this_process()).await?;
    }
    // From here on, other parts of the daemon can wait for what this device exchanges.
    sync.handle.client.store(Some(Arc::clone(client)));
    sync.handle.set_contact(Contact::Connected);
    tracing::info!("connected to the account's server");
    joining::admit(sync, client).await?;
    usage::send_report(sync, client).await?;
    usage::fetch_reports(sync, client).await?;
    let mut last_fetch = ReportFetch { at: Instant::now(), is_stale: false };
    let mut tick = tokio::time::interval_at(last_fetch.at + TICK, TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let wait = if events.is_some() { SILENCE } else { POLL };
    // The time of the next pull, whatever else happens in the meantime.
    let mut next_pull = Instant::now() + wait;
    loop {
        let vanishing = sync.inventory.run(Inventory::vanishing).await?;
        tokio::select! {
            event = next_event(&mut events) => match event? {
                Some(ServerEvent::Head { seq }) => {
                    let _guard = sync.handle.exclusive.lock().await;
                    // A lower number may be a late event, or the server was set back: a pull shows which.
                    if sync.run(Inventory::account_cursor).await?.heads_after == seq {
                        steps::confirm_head(sync).await;
                    } else {
                        steps::pull(sync, client).await?;
                    }
                    next_pull = Instant::now() + wait;
                }
                Some(ServerEvent::Enrolment) => joining::admit(sync, client).await?,
                Some(ServerEvent::Usage) if last_fetch.at.elapsed() < TICK => last_fetch.is_stale = true,
                Some(ServerEvent::Usage) => last_fetch.fetch(sync, client).await?,
                None => return Ok(()),
            },
            () = sync.inventory.push_due().notified() => {
                let _guard = sync.handle.exclusive.lock().await;
                steps::push(sync, client, &edits, &Actor::this_process()).await?;
            }
            // The references of a template that is gone for good no longer block anything, so publish that.
            () = tokio::time::sleep(vanishing.unwrap_or_default()), if vanishing.is_some() => {
                let _guard = sync.handle.exclusive.lock().await;
                steps::push(sync, client, &edits, &Actor::this_process()).await?;
            }
            _ = tick.tick() => {
                usage::send_report(sync, client).await?;
                if last_fetch.is_stale || events.is_none() {
                    last_fetch.fetch(sync, client).await?;
                }
                refresh_head(sync, client).await?;
            }
            () = tokio::time::sleep_until(next_pull) => {
                {
                    let _guard = sync.handle.exclusive.lock().await;
                    steps::pull(sync, client).await?;
                }
                if events.is_none() {
                    joining::admit(sync, client).await?;
                }
                next_pull = Instant::now() + wait;
            }
        }
    }
}

/// The last fetch of other devices' usage. Events only mark that there is more, so that many devices cost one fetch.
struct ReportFetch {
    at: Instant,
    /// Whether an event has reported new usage since the last fetch.
    is_stale: bool,
}

impl ReportFetch {
    async fn fetch(&mut self, sync: &Arc<SyncState>, client: &Arc<AccountClient>) -> Result<(), SyncError> {
        *self = Self { at: Instant::now(), is_stale: false };
        usage::fetch_reports(sync, client).await
    }
}

/// Returns the next event. Never returns without an event stream.
async fn next_event(events: &mut Option<HeadEvents>) -> Result<Option<ServerEvent>, SyncError> {
    match events {
        Some(events) => Ok(Some(events.next().await?)),
        None => std::future::pending().await,
    }
}

/// Pushes a new head if `max_head_age_seconds` is set and the newest head is older than half of that.
async fn refresh_head(sync: &Arc<SyncState>, client: &Arc<AccountClient>) -> Result<(), SyncError> {
    let Some(max_age) = sync.config.load().max_head_age else { return Ok(()) };
    let is_old = sync.handle.head_age().is_some_and(|age| u128::from(age) > max_age.as_millis() / 2);
    if is_old {
        let _guard = sync.handle.exclusive.lock().await;
        steps::push(sync, client, &Arc::new(Proposal::Beat), &Actor::this_process()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const AT_ONCE: SessionEnd = SessionEnd { is_error: true, was_connected: false, after: Duration::ZERO };

    /// Returns the delays after these sessions, if each wait ends as given.
    async fn waits(sessions: Vec<(SessionEnd, WakeReason)>) -> Vec<Duration> {
        let (mut sessions, mut ends) = sessions.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
        sessions.reverse();
        ends.reverse();
        let (ends, waits) = (RefCell::new(ends), RefCell::new(Vec::new()));
        let contact = || {
            let ended = sessions.pop();
            if ended.as_ref().is_some_and(|ended| !ended.is_error) {
                // There is no wait after such a session.
                ends.borrow_mut().pop();
            }
            std::future::ready(ended)
        };
        let wait = |patience| {
            waits.borrow_mut().push(patience);
            std::future::ready(ends.borrow_mut().pop().unwrap())
        };
        keep_in_contact(contact, wait).await;
        waits.into_inner()
    }

    /// Checks that each wait has this length in milliseconds, or is up to half shorter.
    #[track_caller]
    fn assert_near(waits: &[Duration], expected: &[u64]) {
        assert_eq!(waits.len(), expected.len(), "{waits:?}");
        for (wait, most) in waits.iter().zip(expected) {
            let most = Duration::from_millis(*most);
            assert!((most / 2..=most).contains(wait), "{waits:?}, where {expected:?} are the longest");
        }
    }

    #[tokio::test]
    async fn patience_grows_to_its_bound() {
        let sessions = (0..12).map(|_| (AT_ONCE, WakeReason::InTime)).collect();
        let grown = [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000, 30_000, 30_000];
        assert_near(&waits(sessions).await, &grown);
    }

    #[tokio::test]
    async fn contact_and_changes_make_it_impatient_again() {
        let tries = |number: usize| (0..number).map(|_| (AT_ONCE, WakeReason::InTime));
        let lost = |after| (SessionEnd { was_connected: true, after, ..AT_ONCE }, WakeReason::InTime);
        // A server that restarts is back soon.
        let restarts = tries(7).chain([lost(Duration::from_secs(5))]).chain(tries(1)).collect();
        assert_near(&waits(restarts).await, &[200, 400, 800, 1600, 3200, 6400, 12_800, 2000, 4000]);
        // After long contact, the delays start again.
        let long = tries(4).chain([lost(Duration::from_secs(31))]).chain(tries(1)).collect();
        assert_near(&waits(long).await, &[200, 400, 800, 1600, 200, 400]);
        // The same happens if this device joined, left or was repaired, both in contact and while it waits.
        let changed = (SessionEnd { is_error: false, ..AT_ONCE }, WakeReason::InTime);
        assert_near(&waits(tries(3).chain([changed]).chain(tries(1)).collect()).await, &[200, 400, 800, 200]);
        let mended = (AT_ONCE, WakeReason::Changed);
        assert_near(&waits(tries(2).chain([mended]).chain(tries(2)).collect()).await, &[200, 400, 800, 200, 400]);
    }

    #[tokio::test]
    async fn it_stops_where_it_waits() {
        assert_eq!(waits(vec![(AT_ONCE, WakeReason::Stop), (AT_ONCE, WakeReason::InTime)]).await.len(), 1);
    }
}
