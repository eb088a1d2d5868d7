//! A pull, a push, and what is done with a push: a secret is deleted, a device goes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Trouble, blocking, is_final};
use crate::account::client::{Client, ClientError};
use crate::account::engine::{Engine, Wish};
use crate::account::wire::{AccountId, Changes, Cursor, DeviceId, Newest, RECORDS_MAX};
use crate::app::App;
use crate::inventory::{AccountError, Outgoing, Stopped};
use crate::names::{SecretId, SecretName};
use crate::resolve::now;
use crate::resolve::snapshot::Released;
use crate::vault::audit::{Actor, Change};
use crate::vault::crypto;
use crate::vault::usage::ChangeKind;

/// How often a push is tried when others are faster.
const TRIES: u32 = 12;
/// How long a server that wants quiet is waited for.
const QUIET: Duration = Duration::from_secs(20);

/// Every page of what changed since.
pub(super) async fn pages(client: &Client, account: AccountId, cursor: Cursor) -> Result<Vec<Changes>, ClientError> {
    let mut pages = Vec::new();
    let (mut next, until) = (Some(cursor), Instant::now() + QUIET);
    while let Some(cursor) = next {
        let page = client.changes(account, &cursor, RECORDS_MAX).await;
        if is_to_be_asked_again(page.as_ref().err(), until).await {
            continue;
        }
        let page = page?;
        next = page.next;
        pages.push(page);
    }
    Ok(pages)
}

/// Which head is the newest.
pub(super) async fn newest(client: &Client, account: AccountId) -> Result<Newest, ClientError> {
    // Past every head: nothing else.
    let past = Cursor { heads_after: i64::MAX as u64, records_after: i64::MAX as u64, after_id: None };
    Ok(client.changes(account, &past, 1).await?.newest.unwrap_or_default())
}

/// Waits where the server wants quiet for a moment, and says whether to ask again: what it refuses with that, it has not
/// taken. What is changed meanwhile goes together then.
async fn is_to_be_asked_again(refused: Option<&ClientError>, until: Instant) -> bool {
    match refused {
        Some(ClientError::Busy { after }) if Instant::now() + *after < until => {
            tokio::time::sleep(*after).await;
            true
        }
        _ => false,
    }
}

fn account(app: &App) -> Result<AccountId, Trouble> {
    Ok(app.inventory.with_engine(|engine| engine.me().account)?)
}

/// Brings this device to the newest head. To be called by whoever has the turn.
pub(super) async fn pull(app: &Arc<App>, client: &Client) -> Result<(), Trouble> {
    let account = account(app)?;
    let cursor = app.inventory.account_cursor()?;
    let pages = pages(client, account, cursor).await?;
    let pulled = blocking(app, move |inventory| inventory.account_pulled(&pages)).await;
    if let Err(Trouble::Account(AccountError::Refused(refusal))) = &pulled {
        tracing::error!(code = refusal.code(), "{refusal}");
        if is_final(refusal) {
            let stopped = Stopped { code: refusal.code().into(), message: refusal.to_string(), at: now() };
            blocking(app, |inventory| inventory.change_facts(&[], |facts| facts.stopped = Some(stopped))).await?;
        }
    }
    // Nobody waits for what others have changed: it was acknowledged where it was changed.
    drop(pulled?);
    heard(app);
    Ok(())
}

/// The newest head was confirmed by the server just now.
pub(super) fn heard(app: &App) {
    let made_at = app.inventory.with_engine(|engine| engine.head().map(|(head, _)| head.made_at));
    app.account.heard(made_at.ok().flatten());
}

/// Pushes what is due, and what `actor` wants with it. Whether there was anything.
///
/// # Errors
/// `Trouble`; what is pending stays so.
pub(super) async fn push(
    app: &Arc<App>,
    client: &Client,
    wish: &Arc<Wish>,
    actor: &Actor,
) -> Result<Option<Newest>, Trouble> {
    let account = account(app)?;
    let mut pushed = None;
    for attempt in 0..TRIES {
        let wanted = Arc::clone(if pushed.is_some() { &EDITS.0 } else { wish });
        let Some(outgoing) = blocking(app, move |inventory| inventory.account_push(&wanted)).await? else {
            app.account.published.notify_waiters();
            return Ok(pushed);
        };
        match send(app, client, account, outgoing, actor).await? {
            Some((newest, released)) => {
                // Edits were acknowledged when they were made.
                drop(released);
                pushed = pushed.or(Some(newest));
                app.account.published.notify_waiters();
                // What was typed meanwhile goes on its own.
                if app.inventory.with_engine(|engine| engine.pending().len())? == 0 {
                    return Ok(pushed);
                }
            }
            None => {
                jitter(attempt).await;
                pull(app, client).await?;
            }
        }
    }
    pushed.map(Some).ok_or(Trouble::Crowded)
}

/// The wish of an edit, made once.
struct Edits(std::sync::LazyLock<Arc<Wish>>);
static EDITS: Edits = Edits(std::sync::LazyLock::new(|| Arc::new(Wish::Edits)));

/// Sends a push; nothing where another head is the newest by now.
async fn send(
    app: &Arc<App>,
    client: &Client,
    account: AccountId,
    outgoing: Outgoing,
    actor: &Actor,
) -> Result<Option<(Newest, Released)>, Trouble> {
    let onto = outgoing.candidate.onto;
    let expected = (onto.seq > 0).then_some(onto.hash);
    let until = Instant::now() + QUIET;
    let mut sent = client.push(account, &outgoing.candidate.push, expected).await;
    while is_to_be_asked_again(sent.as_ref().err(), until).await {
        sent = client.push(account, &outgoing.candidate.push, expected).await;
    }
    match sent {
        Ok(newest) if newest == outgoing.candidate.newest => {
            let actor = actor.clone();
            let released = blocking(app, move |inventory| inventory.account_accepted(outgoing, &actor)).await?;
            heard(app);
            Ok(Some((newest, released)))
        }
        Ok(_) => Err(ClientError::Malformed("it took another head than was sent".into()).into()),
        Err(ClientError::Conflict(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The longer others were faster, the longer it waits, and never as long as another device.
async fn jitter(attempt: u32) {
    let random = u64::from(u32::from_le_bytes(crypto::random()));
    let most = 5u64 << attempt.min(8);
    tokio::time::sleep(Duration::from_millis(random % most)).await;
}

/// Deletes a secret that no template of any device references. Where this vault is in no account, that is the
/// inventory's alone.
///
/// # Errors
/// `Trouble`; nothing was deleted, but for `Unknown`.
pub async fn delete(
    app: &Arc<App>,
    actor: &Actor,
    name: SecretName,
    expected: Option<String>,
) -> Result<(SecretId, Released), Trouble> {
    if app.inventory.account().is_none() {
        let actor = actor.clone();
        return blocking(app, move |inventory| Ok(inventory.delete(&actor, &name, expected.as_deref())?)).await;
    }
    let account = account(app)?;
    let offline = |error: ClientError| {
        if error.passes() { Trouble::DeleteOffline(error.to_string()) } else { error.into() }
    };
    let client =
        app.account.client(&app.inventory).await.map_err(|trouble| Trouble::DeleteOffline(trouble.to_string()))?;
    let _turn = app.account.turn.lock().await;
    for attempt in 0..TRIES {
        pull(app, &client).await.map_err(|trouble| match trouble {
            Trouble::Server(error) => offline(error),
            trouble => trouble,
        })?;
        let (name, expected) = (name.clone(), expected.clone());
        let deleting = blocking(app, move |inventory| inventory.account_delete(&name, expected.as_deref()));
        let (id, outgoing) = deleting.await?;
        let sent = send(app, &client, account, outgoing, actor).await;
        match sent {
            Ok(Some((_, released))) => return Ok((id, released)),
            Ok(None) => jitter(attempt).await,
            Err(Trouble::Server(error)) if error.passes() => return Err(Trouble::Unknown),
            Err(trouble) => return Err(trouble),
        }
    }
    Err(Trouble::Crowded)
}

/// Puts a device out of the account, under a new epoch. The names of the secrets it could read, to be rotated.
///
/// # Errors
/// `Trouble`; without the newest head nothing is done.
pub async fn revoke(app: &Arc<App>, actor: &Actor, device: DeviceId) -> Result<Vec<String>, Trouble> {
    let client = app.account.client(&app.inventory).await?;
    let _turn = app.account.turn.lock().await;
    if app.inventory.with_engine(|engine| engine.me().device == device)? {
        return Err(Trouble::Other("this is the device you are on; `guillemet account leave` takes it out".into()));
    }
    pull(app, &client).await?;
    push(app, &client, &Arc::new(Wish::Revoke(device)), actor).await?;
    let names = |engine: &Engine| {
        let mut names: Vec<String> = engine.base().secrets().map(|secret| secret.name.to_string()).collect();
        names.sort_unstable();
        names
    };
    Ok(app.inventory.with_engine(names)?)
}

/// Ends the membership of this device. Secrets stay as they are. Whether the others have been told: without that,
/// one of them has to revoke this device.
///
/// # Errors
/// When this vault is in no account, or cannot be written.
pub async fn leave(app: &Arc<App>, actor: &Actor) -> Result<bool, Trouble> {
    if app.inventory.account().is_none() {
        return Err(AccountError::None.into());
    }
    let client = app.account.client(&app.inventory).await;
    let _turn = app.account.turn.lock().await;
    let told = match client {
        Ok(client) => {
            let told = async {
                pull(app, &client).await?;
                push(app, &client, &Arc::new(Wish::Leave), actor).await
            };
            told.await
        }
        Err(trouble) => Err(trouble),
    };
    if let Err(trouble) = &told {
        tracing::warn!(%trouble, "the account could not be told that this device leaves it");
    }
    let left = Change::new(ChangeKind::AccountLeft, actor, now());
    blocking(app, |inventory| inventory.account_end(left)).await?;
    app.account.heard(None);
    app.account.changed.notify_one();
    Ok(told.is_ok())
}
