//! Repairs an account whose server was restored from a backup: a person compares the fingerprint words and confirms,
//! the device with the newest state publishes it again, and the others adopt that state.

use std::collections::HashMap;
use std::sync::Arc;

use super::{SyncError, SyncState, connect, steps};
use zeroize::Zeroizing;

use crate::inventory::AccountError;
use guillemet_account::client::AccountClient;
use guillemet_account::engine::{Engine, Proposal};
use guillemet_account::fingerprint_words::fingerprint_words;
use guillemet_account::tree::RecordLeaf;
use guillemet_api::account::{RepairAction, RepairPlan};
use guillemet_base::time::now;
use guillemet_vault::audit::{Actor, AuditChange};
use guillemet_vault::usage::ChangeKind;
use guillemet_wire::{AccountId, HeadRef, ObjectId, PullCursor, Sealed};

/// Returns what there is to repair. With the fingerprint words of the server's head in `confirmed`, repairs it.
///
/// # Errors
/// Any [`SyncError`]; [`SyncError::Other`] if the words are not those of the server's head.
pub async fn repair(sync: &Arc<SyncState>, actor: &Actor, confirmed: Option<&str>) -> Result<RepairPlan, SyncError> {
    let _guard = sync.handle.exclusive.lock().await;
    let state = sync.account().await?.ok_or(AccountError::None)?;
    let account = state.me.0;
    let facts = state.facts;
    let client = connect(facts.url, facts.pin, Some(Zeroizing::new(facts.api_key))).await?;
    let newest = steps::fetch_newest_head(&client, account).await?;
    let compare = move |engine: &Engine| {
        let local = engine.head().map_or(HeadRef::default(), |(head, hash)| HeadRef { seq: head.seq, hash });
        (local, engine.has_verified(newest))
    };
    let (local, is_known) = sync.run(move |inventory| inventory.with_engine(compare)).await?;
    let action = match is_known {
        _ if newest == local => RepairAction::None,
        true => RepairAction::Publish,
        false => RepairAction::Adopt,
    };
    let plan = RepairPlan {
        action,
        seq: local.seq,
        words: fingerprint_words(&local.hash),
        server_seq: newest.seq,
        server_words: fingerprint_words(&newest.hash),
        done: false,
    };
    let Some(confirmed) = confirmed else { return Ok(plan) };
    let normalized = |text: &str| text.split_whitespace().map(str::to_ascii_lowercase).collect::<Vec<_>>();
    if normalized(confirmed) != normalized(&plan.server_words) {
        return Err(SyncError::Other("the words do not match the server's state; nothing was changed".into()));
    }
    let repaired = AuditChange::new(ChangeKind::AccountRepaired, actor, now()).after(action.name());
    match action {
        RepairAction::Publish => publish_onto(sync, actor, &client, account, newest).await?,
        RepairAction::Adopt => {
            let pages = steps::fetch_pages(&client, account, Engine::cursor_of(newest)).await?;
            sync.run(move |inventory| inventory.account_adopted(newest, &pages)).await?.wait().await;
        }
        RepairAction::None => {}
    }
    let state = Arc::clone(sync);
    // The steps that follow run in the same call, because the caller may disconnect before they are done.
    sync.run(move |inventory| {
        inventory.change_facts(&[repaired], |facts| facts.stopped = None)?;
        state.handle.confirm_head(inventory.with_engine(steps::head_time)?);
        state.handle.changed.notify_one();
        Ok(())
    })
    .await?;
    Ok(RepairPlan { done: true, ..plan })
}

/// Publishes the state of this device on top of the server's head.
async fn publish_onto(
    sync: &Arc<SyncState>,
    actor: &Actor,
    client: &AccountClient,
    account: AccountId,
    onto: HeadRef,
) -> Result<(), SyncError> {
    let cursor = PullCursor { heads_after: onto.seq, records_after: 0, after_id: None };
    let pages = steps::fetch_pages(client, account, cursor).await?;
    let has: HashMap<ObjectId, RecordLeaf> = pages
        .iter()
        .flat_map(|page| &page.records)
        .filter_map(|changed| {
            let record = &changed.record;
            let sealed = record.sealed.as_ref()?;
            Some((record.id, RecordLeaf::of(record.revision, record.epoch, sealed)))
        })
        .collect();
    let boxes: HashMap<ObjectId, Sealed> = sync
        .run(|inventory| inventory.account_boxes())
        .await?
        .into_iter()
        .filter_map(|record| Some((ObjectId(record.id), Sealed(record.sealed?))))
        .collect();
    steps::push(sync, client, &Arc::new(Proposal::Repair { onto, stored: has, boxes }), actor).await.map(drop)
}
