//! The task that keeps a daemon in contact with its account server. It listens for events, polls if there are none, and
//! retries with growing delays if the server does not answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::{Contact, Trouble, joining, refused, steps, usage};
use crate::account::api_key::ApiKey;
use crate::account::client::{Client, Events};
use crate::account::engine::Wish;
use crate::account::wire::Told;
use crate::api::App;
use crate::inventory::AccountState;
use crate::vault::audit::Actor;
use guillemet_base::random::random;

/// The delay after a failure: the first one, and the longest one.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// The longest first delay if there was contact before: a server that restarts is back soon.
const RETURN: Duration = Duration::from_secs(2);
/// The polling interval if the server sends no events.
const POLL: Duration = Duration::from_secs(5);
/// The interval at which new uses are reported and the age of the head is checked.
const TICK: Duration = Duration::from_secs(15);
/// The time after which the daemon pulls even if no head was announced. The server sends something every 15 seconds.
const SILENCE: Duration = Duration::from_secs(60);

/// Runs until the daemon stops.
pub async fn run(app: Arc<App>, stop: watch::Receiver<bool>) {
    let contact = || {
        let (app, mut stop) = (Arc::clone(&app), stop.clone());
        async move {
            let begun = Instant::now();
            let trouble = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return None,
                ended = session(&app) => ended,
            };
            let was_in_contact = app.account.client.swap(None).is_some();
            if let Some(trouble) = &trouble {
                tracing::info!(%trouble, "no contact with the account's server");
                app.account.set(match refused(trouble) {
                    Some((code, message)) => Contact::Refused { code, message },
                    None => Contact::Offline(Some(trouble.to_string())),
                });
            }
            Some(Ended { is_trouble: trouble.is_some(), was_in_contact, after: begun.elapsed() })
        }
    };
    let wait = |patience| {
        let (app, mut stop) = (Arc::clone(&app), stop.clone());
        async move {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => Woken::Stop,
                () = app.account.changed.notified() => Woken::Changed,
                () = tokio::time::sleep(patience) => Woken::InTime,
            }
        }
    };
    keep_in_contact(contact, wait).await;
}

/// The end of a session.
struct Ended {
    /// Whether something went wrong. If not, the membership changed.
    is_trouble: bool,
    was_in_contact: bool,
    /// The duration of the session.
    after: Duration,
}

/// The reasons why a wait ended.
enum Woken {
    InTime,
    /// The membership began, ended or was repaired.
    Changed,
    Stop,
}

/// Runs one session after another, with a growing delay after each failure, until a session or a wait says to stop.
/// Knows no clock: each session reports its duration, and `wait` does the waiting.
async fn keep_in_contact<S, W>(mut contact: impl FnMut() -> S, mut wait: impl FnMut(Duration) -> W)
where
    S: Future<Output = Option<Ended>>,
    W: Future<Output = Woken>,
{
    let mut patience = PATIENCE.0;
    while let Some(ended) = contact().await {
        if ended.was_in_contact {
            patience = patience.min(RETURN);
        }
        if !ended.is_trouble || ended.after > PATIENCE.1 {
            patience = PATIENCE.0;
        }
        if !ended.is_trouble {
            continue;
        }
        // A random part of the delay, so that many daemons do not all come back to a server at the same moment.
        let part = f64::from(u32::from_le_bytes(random())) / f64::from(u32::MAX);
        match wait(patience.mul_f64(0.5 + part / 2.0)).await {
            Woken::InTime => patience = (patience * 2).min(PATIENCE.1),
            Woken::Changed => patience = PATIENCE.0,
            Woken::Stop => return,
        }
    }
}

/// Runs a session until contact is lost. Returns the reason, or `None` if the membership changed.
async fn session(app: &Arc<App>) -> Option<Trouble> {
    let Some(AccountState { facts, me, head, .. }) = app.inventory.account() else {
        app.account.set(Contact::None);
        app.account.changed.notified().await;
        return None;
    };
    app.account.made_at.store(head.map_or(0, |(head, _)| head.made_at), Ordering::Relaxed);
    if let Some(stopped) = facts.stopped {
        app.account.set(Contact::Offline(Some(stopped.message)));
        app.account.changed.notified().await;
        return None;
    }
    if app.account.contact.borrow().clone() == Contact::None {
        app.account.set(Contact::Offline(None));
    }
    let opened = tokio::task::spawn_blocking(move || {
        let key = ApiKey::parse(&facts.api_key).map_err(|error| Trouble::Other(error.to_string()))?;
        Ok::<_, Trouble>(Client::new(&facts.url, facts.pin, Some(&key))?)
    });
    let client = match opened.await {
        Ok(Ok(client)) => Arc::new(client),
        Ok(Err(trouble)) => return Some(trouble),
        Err(_) => return Some(Trouble::Other("the way to the server could not be worked out".into())),
    };
    tokio::select! {
        trouble = talk(app, &client, me.0) => Some(trouble),
        () = app.account.changed.notified() => None,
    }
}

async fn talk(app: &Arc<App>, client: &Arc<Client>, account: crate::account::wire::AccountId) -> Trouble {
    let events = match client.events(account).await {
        Ok(events) => Some(events),
        // A proxy in between may not let events through.
        Err(error) if !error.passes() && refused(&Trouble::Server(clone(&error))).is_none() => None,
        Err(error) => return error.into(),
    };
    match exchange(app, client, events).await {
        Ok(()) => Trouble::Other("the account's server ended the connection".into()),
        Err(trouble) => trouble,
    }
}

/// Copies an error as far as `refused` distinguishes it, because it is used twice: for the decision, and for the
/// report.
fn clone(error: &crate::account::client::ClientError) -> crate::account::client::ClientError {
    use crate::account::client::ClientError;
    match error {
        ClientError::Unauthorized => ClientError::Unauthorized,
        ClientError::Untrusted(why) => ClientError::Untrusted(why.clone()),
        ClientError::ContinuityLost => ClientError::ContinuityLost,
        other => ClientError::Malformed(other.to_string()),
    }
}

async fn exchange(app: &Arc<App>, client: &Arc<Client>, mut events: Option<Events>) -> Result<(), Trouble> {
    let edits = Arc::new(Wish::Edits);
    {
        let _turn = app.account.turn.lock().await;
        steps::pull(app, client).await?;
        steps::push(app, client, &edits, &Actor::own()).await?;
    }
    // From here on, other tasks can wait for what this device does.
    app.account.client.store(Some(Arc::clone(client)));
    app.account.set(Contact::Connected);
    tracing::info!("in contact with the account's server");
    joining::admit(app, client).await?;
    usage::report(app, client).await?;
    usage::fetch(app, client).await?;
    let mut heard = Heard { at: Instant::now(), is_told: false };
    let mut tick = tokio::time::interval_at(heard.at + TICK, TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let wait = if events.is_some() { SILENCE } else { POLL };
    // The time of the next pull, whatever else happens in the meantime.
    let mut look = Instant::now() + wait;
    loop {
        let vanishing = app.inventory.vanishing();
        tokio::select! {
            told = next(&mut events) => match told? {
                Some(Told::Head { seq }) => {
                    let _turn = app.account.turn.lock().await;
                    // A lower number may be late, or the server was restored from a backup. A pull shows which.
                    if app.inventory.account_cursor()?.heads_after == seq {
                        steps::heard(app);
                    } else {
                        steps::pull(app, client).await?;
                    }
                    look = Instant::now() + wait;
                }
                Some(Told::Enrolment) => joining::admit(app, client).await?,
                Some(Told::Usage) if heard.at.elapsed() < TICK => heard.is_told = true,
                Some(Told::Usage) => heard.fetch(app, client).await?,
                None => return Ok(()),
            },
            () = app.inventory.due().notified() => {
                let _turn = app.account.turn.lock().await;
                steps::push(app, client, &edits, &Actor::own()).await?;
            }
            // References of a template that is gone for good no longer block anything, so this is published.
            () = tokio::time::sleep(vanishing.unwrap_or_default()), if vanishing.is_some() => {
                let _turn = app.account.turn.lock().await;
                steps::push(app, client, &edits, &Actor::own()).await?;
            }
            _ = tick.tick() => {
                usage::report(app, client).await?;
                if heard.is_told || events.is_none() {
                    heard.fetch(app, client).await?;
                }
                beat(app, client).await?;
            }
            () = tokio::time::sleep_until(look) => {
                {
                    let _turn = app.account.turn.lock().await;
                    steps::pull(app, client).await?;
                }
                if events.is_none() {
                    joining::admit(app, client).await?;
                }
                look = Instant::now() + wait;
            }
        }
    }
}

/// The state of fetching reports. When many devices report, they are fetched together instead of once for each.
struct Heard {
    at: Instant,
    /// Whether there are newer reports.
    is_told: bool,
}

impl Heard {
    async fn fetch(&mut self, app: &Arc<App>, client: &Arc<Client>) -> Result<(), Trouble> {
        *self = Self { at: Instant::now(), is_told: false };
        usage::fetch(app, client).await
    }
}

/// Waits for the next event; forever if there is no stream of events.
async fn next(events: &mut Option<Events>) -> Result<Option<Told>, Trouble> {
    match events {
        Some(events) => Ok(Some(events.next().await?)),
        None => std::future::pending().await,
    }
}

/// Makes a new head when half of `account.max_head_age_seconds` has passed, so that this device can continue to serve.
async fn beat(app: &Arc<App>, client: &Arc<Client>) -> Result<(), Trouble> {
    let Some(most) = app.config.load().max_head_age else { return Ok(()) };
    let is_old = app.account.head_age().is_some_and(|age| u128::from(age) > most.as_millis() / 2);
    if is_old {
        let _turn = app.account.turn.lock().await;
        steps::push(app, client, &Arc::new(Wish::Beat), &Actor::own()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const AT_ONCE: Ended = Ended { is_trouble: true, was_in_contact: false, after: Duration::ZERO };

    /// Returns the delays after these sessions, if each wait ends as given.
    async fn waits(sessions: Vec<(Ended, Woken)>) -> Vec<Duration> {
        let (mut sessions, mut ends) = sessions.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
        sessions.reverse();
        ends.reverse();
        let (ends, waits) = (RefCell::new(ends), RefCell::new(Vec::new()));
        let contact = || {
            let ended = sessions.pop();
            if ended.as_ref().is_some_and(|ended| !ended.is_trouble) {
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
    fn assert_near(waits: &[Duration], wanted: &[u64]) {
        assert_eq!(waits.len(), wanted.len(), "{waits:?}");
        for (wait, most) in waits.iter().zip(wanted) {
            let most = Duration::from_millis(*most);
            assert!((most / 2..=most).contains(wait), "{waits:?}, where {wanted:?} are the longest");
        }
    }

    #[tokio::test]
    async fn patience_grows_to_its_bound() {
        let sessions = (0..12).map(|_| (AT_ONCE, Woken::InTime)).collect();
        let grown = [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000, 30_000, 30_000];
        assert_near(&waits(sessions).await, &grown);
    }

    #[tokio::test]
    async fn contact_and_changes_make_it_impatient_again() {
        let tries = |number: usize| (0..number).map(|_| (AT_ONCE, Woken::InTime));
        let lost = |after| (Ended { was_in_contact: true, after, ..AT_ONCE }, Woken::InTime);
        // A server that restarts is back soon.
        let restarts = tries(7).chain([lost(Duration::from_secs(5))]).chain(tries(1)).collect();
        assert_near(&waits(restarts).await, &[200, 400, 800, 1600, 3200, 6400, 12_800, 2000, 4000]);
        // After long contact, the delays start again.
        let long = tries(4).chain([lost(Duration::from_secs(31))]).chain(tries(1)).collect();
        assert_near(&waits(long).await, &[200, 400, 800, 1600, 200, 400]);
        // The same happens when the membership changes, in contact and while it waits.
        let changed = (Ended { is_trouble: false, ..AT_ONCE }, Woken::InTime);
        assert_near(&waits(tries(3).chain([changed]).chain(tries(1)).collect()).await, &[200, 400, 800, 200]);
        let mended = (AT_ONCE, Woken::Changed);
        assert_near(&waits(tries(2).chain([mended]).chain(tries(2)).collect()).await, &[200, 400, 800, 200, 400]);
    }

    #[tokio::test]
    async fn it_stops_where_it_waits() {
        assert_eq!(waits(vec![(AT_ONCE, Woken::Stop), (AT_ONCE, Woken::InTime)]).await.len(), 1);
    }
}
