//! The task that keeps a daemon in contact with its account's server: told by events, polling where there are
//! none, and trying again with growing patience where nobody answers.

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
use crate::app::App;
use crate::inventory::AccountState;
use crate::vault::audit::Actor;
use crate::vault::crypto;

/// How long it waits after a failure: the first time, and at most.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// How long at most where there was contact until then: a server that restarts is back soon.
const RETURN: Duration = Duration::from_secs(2);
/// How often the server is asked where it tells no events.
const POLL: Duration = Duration::from_secs(5);
/// How often usage is told, where there is anything new, and the age of the head is looked at.
const TICK: Duration = Duration::from_secs(15);
/// How long a connection without a word is believed: the server says something every few seconds.
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

/// How a session ended.
struct Ended {
    /// Whether something went wrong; otherwise the membership changed.
    is_trouble: bool,
    was_in_contact: bool,
    /// How long it lasted.
    after: Duration,
}

/// Why a wait ended.
enum Woken {
    InTime,
    /// The membership began, ended or was mended.
    Changed,
    Stop,
}

/// One session after the other, and a wait with growing patience after each that failed, until either says to stop.
/// Knows no clock: how long a session lasted it is told, and who waits is `wait`.
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
        // Not all at once, where a server comes back that many wait for.
        let part = f64::from(u32::from_le_bytes(crypto::random())) / f64::from(u32::MAX);
        match wait(patience.mul_f64(0.5 + part / 2.0)).await {
            Woken::InTime => patience = (patience * 2).min(PATIENCE.1),
            Woken::Changed => patience = PATIENCE.0,
            Woken::Stop => return,
        }
    }
}

/// From no contact to no contact: why it ended, or nothing where the membership changed.
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
        // A proxy in between may not let them through.
        Err(error) if !error.passes() && refused(&Trouble::Server(clone(&error))).is_none() => None,
        Err(error) => return error.into(),
    };
    match exchange(app, client, events).await {
        Ok(()) => Trouble::Other("the account's server ended the connection".into()),
        Err(trouble) => trouble,
    }
}

/// Errors are told once and looked at twice.
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
    // From here on others can wait for what this device does.
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
    // Whatever else happens meanwhile.
    let mut look = Instant::now() + wait;
    loop {
        let vanishing = app.inventory.vanishing();
        tokio::select! {
            told = next(&mut events) => match told? {
                Some(Told::Head { seq }) => {
                    let _turn = app.account.turn.lock().await;
                    // A lower one may be late, or the server was set back: what it has now says which.
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
            // What a template named that is gone for good blocks nothing any more.
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

/// What was heard of the usage of others. Of many devices that tell theirs, none is asked for each of them.
struct Heard {
    at: Instant,
    /// Whether there is more by now.
    is_told: bool,
}

impl Heard {
    async fn fetch(&mut self, app: &Arc<App>, client: &Arc<Client>) -> Result<(), Trouble> {
        *self = Self { at: Instant::now(), is_told: false };
        usage::fetch(app, client).await
    }
}

/// The next thing that is told; never, where nothing is.
async fn next(events: &mut Option<Events>) -> Result<Option<Told>, Trouble> {
    match events {
        Some(events) => Ok(Some(events.next().await?)),
        None => std::future::pending().await,
    }
}

/// Where this device does not serve on an old head, it sees to it that there is a newer one.
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

    /// How long it waits after each of these sessions, and is woken like this.
    async fn waits(sessions: Vec<(Ended, Woken)>) -> Vec<Duration> {
        let (mut sessions, mut ends) = sessions.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
        sessions.reverse();
        ends.reverse();
        let (ends, waits) = (RefCell::new(ends), RefCell::new(Vec::new()));
        let contact = || {
            let ended = sessions.pop();
            if ended.as_ref().is_some_and(|ended| !ended.is_trouble) {
                // Nobody waits then.
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

    /// The wait is this long, in milliseconds, or up to a half shorter.
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
        // After long contact everything is as at the start.
        let long = tries(4).chain([lost(Duration::from_secs(31))]).chain(tries(1)).collect();
        assert_near(&waits(long).await, &[200, 400, 800, 1600, 200, 400]);
        // So it is where the membership changed, in contact and while it waits.
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
