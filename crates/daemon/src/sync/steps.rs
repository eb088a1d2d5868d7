//! The steps of a sync: pull and push, and the operations that need a push: deleting a secret, revoking a device,
//! leaving.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{SyncError, SyncState, is_final};
use crate::inventory::{AccountError, Inventory, Outgoing, StopReason};
use crate::resolve::snapshot::Released;
use guillemet_account::client::{AccountClient, AccountClientError};
use guillemet_account::engine::{Engine, Proposal};
use guillemet_base::names::Millis;
use guillemet_base::names::{SecretId, SecretName};
use guillemet_base::time::now;
use guillemet_secret::crypto;
use guillemet_vault::audit::{Actor, AuditChange};
use guillemet_vault::usage::ChangeKind;
use guillemet_wire::{AccountId, ChangesPage, DeviceId, HeadRef, PullCursor, RECORDS_MAX};

/// How often a push is tried if other devices push first.
const TRIES: u32 = 12;
/// The longest time that a request waits for a server that limits its rate.
const QUIET: Duration = Duration::from_secs(20);

/// Returns every page of changes since `cursor`.
pub(super) async fn fetch_pages(
    client: &AccountClient,
    account: AccountId,
    cursor: PullCursor,
) -> Result<Vec<ChangesPage>, AccountClientError> {
    let mut pages = Vec::new();
    let (mut next, until) = (Some(cursor), Instant::now() + QUIET);
    while let Some(cursor) = next {
        let page = client.changes(account, &cursor, RECORDS_MAX).await;
        if wait_for_retry(page.as_ref().err(), until).await {
            continue;
        }
        let page = page?;
        next = page.next;
        pages.push(page);
    }
    Ok(pages)
}

/// Returns the newest head of the server.
pub(super) async fn fetch_newest_head(
    client: &AccountClient,
    account: AccountId,
) -> Result<HeadRef, AccountClientError> {
    // A cursor past every head and record, so that the answer contains nothing else.
    let cursor = PullCursor { heads_after: i64::MAX as u64, records_after: i64::MAX as u64, after_id: None };
    Ok(client.changes(account, &cursor, 1).await?.newest.unwrap_or_default())
}

/// If the server limits the rate, waits as long as it asks for, and returns whether to send the request again. A push
/// that was refused for this reason has not been accepted.
async fn wait_for_retry(error: Option<&AccountClientError>, until: Instant) -> bool {
    match error {
        Some(AccountClientError::Busy { after }) if Instant::now() + *after < until => {
            tokio::time::sleep(*after).await;
            true
        }
        _ => false,
    }
}

async fn account_id(sync: &SyncState) -> Result<AccountId, SyncError> {
    sync.run(|inventory| inventory.with_engine(|engine| engine.me().account)).await
}

/// Brings this device to the newest head. The caller holds the lock `exclusive`.
pub(super) async fn pull(sync: &Arc<SyncState>, client: &AccountClient) -> Result<(), SyncError> {
    let read = |inventory: &Inventory| inventory.with_engine(|engine| (engine.me().account, engine.cursor()));
    let (account, cursor) = sync.run(read).await?;
    let pages = fetch_pages(client, account, cursor).await?;
    let pulled = sync.run(move |inventory| inventory.account_pulled(&pages)).await;
    if let Err(SyncError::Account(AccountError::Refused(refusal))) = &pulled {
        tracing::error!(code = refusal.code(), "{refusal}");
        if is_final(refusal) {
            let stopped = StopReason { code: refusal.code().into(), message: refusal.to_string(), at: now() };
            sync.run(|inventory| inventory.change_facts(&[], |facts| facts.stopped = Some(stopped))).await?;
        }
    }
    // No caller waits for changes of other devices: they were acknowledged on those devices.
    drop(pulled?);
    confirm_head(sync).await;
    Ok(())
}

/// Notes that the server has just confirmed the newest head.
pub(super) async fn confirm_head(sync: &SyncState) {
    let made_at = sync.run(|inventory| inventory.with_engine(head_time)).await;
    sync.handle.confirm_head(made_at.ok().flatten());
}

/// Returns the time at which the newest head was made; `None` without a head.
pub(super) fn head_time(engine: &Engine) -> Option<Millis> {
    engine.head().map(|(head, _)| head.made_at)
}

/// Pushes everything that is pending together with `proposal`, until nothing is pending. Returns the head of the first
/// push, or `None` if there was nothing to push. The caller holds the lock `exclusive`.
///
/// # Errors
/// Any [`SyncError`]. Edits that are pending stay pending.
pub(super) async fn push(
    sync: &Arc<SyncState>,
    client: &AccountClient,
    proposal: &Arc<Proposal>,
    actor: &Actor,
) -> Result<Option<HeadRef>, SyncError> {
    let account = account_id(sync).await?;
    let mut pushed = None;
    for attempt in 0..TRIES {
        let next = if pushed.is_some() { Arc::new(Proposal::Edits) } else { Arc::clone(proposal) };
        let Some(outgoing) = sync.run(move |inventory| inventory.account_push(&next)).await? else {
            sync.handle.published.notify_waiters();
            return Ok(pushed);
        };
        match send(sync, client, account, outgoing, actor).await? {
            Some((newest, released)) => {
                // The edits were acknowledged when they were made.
                drop(released);
                pushed = pushed.or(Some(newest));
                sync.handle.published.notify_waiters();
                // Edits that were made meanwhile go in a push without the wish.
                let pending = |inventory: &Inventory| inventory.with_engine(|engine| engine.pending().len());
                if sync.run(pending).await? == 0 {
                    return Ok(pushed);
                }
            }
            None => {
                jitter(attempt).await;
                pull(sync, client).await?;
            }
        }
    }
    pushed.map(Some).ok_or(SyncError::Crowded)
}

/// Sends a push. Returns `None` if another device pushed first.
async fn send(
    sync: &Arc<SyncState>,
    client: &AccountClient,
    account: AccountId,
    outgoing: Outgoing,
    actor: &Actor,
) -> Result<Option<(HeadRef, Released)>, SyncError> {
    let onto = outgoing.candidate.onto;
    let expected = (onto.seq > 0).then_some(onto.hash);
    let until = Instant::now() + QUIET;
    let mut result = client.push(account, &outgoing.candidate.push, expected).await;
    while wait_for_retry(result.as_ref().err(), until).await {
        result = client.push(account, &outgoing.candidate.push, expected).await;
    }
    match result {
        Ok(newest) if newest == outgoing.candidate.newest => {
            let actor = actor.clone();
            let released = sync.run(move |inventory| inventory.account_accepted(outgoing, &actor)).await?;
            confirm_head(sync).await;
            Ok(Some((newest, released)))
        }
        Ok(_) => Err(AccountClientError::Malformed("it stored a different head than was sent".into()).into()),
        Err(AccountClientError::Conflict(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Waits for a random time, longer with each attempt, so that devices that push at the same time drift apart.
async fn jitter(attempt: u32) {
    let random = u64::from(u32::from_le_bytes(crypto::random()));
    let max_delay = 5u64 << attempt.min(8);
    tokio::time::sleep(Duration::from_millis(random % max_delay)).await;
}

/// Deletes a secret that no template of any device references (promise Guarded). In a vault that is in no account, only
/// this device counts.
///
/// # Errors
/// Any [`SyncError`]. Nothing was deleted, except perhaps after [`SyncError::Unknown`].
pub async fn delete(
    sync: &Arc<SyncState>,
    actor: &Actor,
    name: SecretName,
    expected: Option<String>,
) -> Result<(SecretId, Released), SyncError> {
    if sync.account().await?.is_none() {
        let actor = actor.clone();
        return sync.run(move |inventory| Ok(inventory.delete(&actor, &name, expected.as_deref())?)).await;
    }
    let account = account_id(sync).await?;
    let offline = |error: AccountClientError| {
        if error.is_transient() { SyncError::DeleteOffline(error.to_string()) } else { error.into() }
    };
    let client = sync.client().await.map_err(|error| SyncError::DeleteOffline(error.to_string()))?;
    let _guard = sync.handle.exclusive.lock().await;
    for attempt in 0..TRIES {
        pull(sync, &client).await.map_err(|error| match error {
            SyncError::Server(error) => offline(error),
            error => error,
        })?;
        let (name, expected) = (name.clone(), expected.clone());
        let deleting = sync.run(move |inventory| inventory.account_delete(&name, expected.as_deref()));
        let (id, outgoing) = deleting.await?;
        let result = send(sync, &client, account, outgoing, actor).await;
        match result {
            Ok(Some((_, released))) => return Ok((id, released)),
            Ok(None) => jitter(attempt).await,
            Err(SyncError::Server(error)) if error.is_transient() => return Err(SyncError::Unknown),
            Err(error) => return Err(error),
        }
    }
    Err(SyncError::Crowded)
}

/// Revokes a device, and encrypts the account under a new key. Returns the names of the secrets that the device could
/// read, which should be rotated.
///
/// # Errors
/// Any [`SyncError`]. Does nothing without the newest head.
pub async fn revoke(sync: &Arc<SyncState>, actor: &Actor, device: DeviceId) -> Result<Vec<String>, SyncError> {
    let client = sync.client().await?;
    let _guard = sync.handle.exclusive.lock().await;
    if sync.run(move |inventory| inventory.with_engine(|engine| engine.me().device == device)).await? {
        return Err(SyncError::Other(
            "this is the device you are using; run `guillemet account leave` to remove it".into(),
        ));
    }
    pull(sync, &client).await?;
    push(sync, &client, &Arc::new(Proposal::Revoke(device)), actor).await?;
    let names = |engine: &Engine| {
        let mut names: Vec<String> = engine.base().secrets().map(|secret| secret.name.to_string()).collect();
        names.sort_unstable();
        names
    };
    sync.run(move |inventory| inventory.with_engine(names)).await
}

/// Removes this device from its account. The secrets stay in the vault. Returns whether the other devices know; if not,
/// one of them has to revoke this device.
///
/// # Errors
/// [`SyncError::Account`] if the vault is in no account or cannot be written.
pub async fn leave(sync: &Arc<SyncState>, actor: &Actor) -> Result<bool, SyncError> {
    if sync.account().await?.is_none() {
        return Err(AccountError::None.into());
    }
    let client = sync.client().await;
    let _guard = sync.handle.exclusive.lock().await;
    let result = match client {
        Ok(client) => {
            let notify = async {
                pull(sync, &client).await?;
                push(sync, &client, &Arc::new(Proposal::Leave), actor).await
            };
            notify.await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = &result {
        tracing::warn!(trouble = %error, "could not tell the account that this device is leaving");
    }
    let change = AuditChange::new(ChangeKind::AccountLeft, actor, now());
    let state = Arc::clone(sync);
    // The steps that follow run in the same call, because the caller may disconnect before they are done.
    sync.run(move |inventory| {
        inventory.account_end(change)?;
        state.handle.confirm_head(None);
        state.handle.changed.notify_one();
        Ok(())
    })
    .await?;
    Ok(result.is_ok())
}
