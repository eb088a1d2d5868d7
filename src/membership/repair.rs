//! The way out after the server was set back by an honest restore: a person compares words, confirms, and the
//! device that is furthest publishes again; the others go over to that.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;

use super::{Trouble, blocking, steps};
use crate::account::client::Client;
use crate::account::engine::{Engine, Wish};
use crate::account::tree::Leaf;
use crate::account::wire::{AccountId, Cursor, Newest, ObjectId, Sealed};
use crate::account::words::words;
use crate::app::App;
use crate::inventory::AccountError;
use crate::resolve::now;
use crate::vault::audit::{Actor, Change};
use crate::vault::usage::ChangeKind;

/// What a repair would do, or has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// `none`, `publish` (this device is further) or `adopt` (the server has another state).
    pub action: &'static str,
    /// Of the newest head this device has verified.
    pub seq: u64,
    /// Its words.
    pub words: String,
    /// Of the newest head of the server.
    pub server_seq: u64,
    /// Its words: what confirms the repair.
    pub server_words: String,
    /// Whether it was done.
    pub done: bool,
}

/// Says what there is to repair; with the words of the server's head, does it.
///
/// # Errors
/// `Trouble`.
pub async fn repair(app: &Arc<App>, actor: &Actor, confirmed: Option<&str>) -> Result<Plan, Trouble> {
    let _turn = app.account.turn.lock().await;
    let state = app.inventory.account().ok_or(AccountError::None)?;
    let account = state.me.0;
    let facts = state.facts;
    let opened = tokio::task::spawn_blocking(move || {
        let key = crate::account::api_key::ApiKey::parse(&facts.api_key)
            .map_err(|error| Trouble::Other(error.to_string()))?;
        Ok::<_, Trouble>(Client::new(&facts.url, facts.pin, Some(&key))?)
    });
    let client = opened.await.map_err(|_| Trouble::Other("the way to the server could not be worked out".into()))??;
    let newest = steps::newest(&client, account).await?;
    let (known, knows) = app.inventory.with_engine(|engine| {
        let known = engine.head().map_or(Newest::default(), |(head, hash)| Newest { seq: head.seq, hash });
        (known, engine.knows(newest))
    })?;
    let action = match knows {
        _ if newest == known => "none",
        true => "publish",
        false => "adopt",
    };
    let plan = Plan {
        action,
        seq: known.seq,
        words: words(&known.hash),
        server_seq: newest.seq,
        server_words: words(&newest.hash),
        done: false,
    };
    let Some(confirmed) = confirmed else { return Ok(plan) };
    let same = |text: &str| text.split_whitespace().map(str::to_ascii_lowercase).collect::<Vec<_>>();
    if same(confirmed) != same(&plan.server_words) {
        return Err(Trouble::Other("these are not the words of the server's state; nothing was done".into()));
    }
    let repaired = Change::new(ChangeKind::AccountRepaired, actor, now()).after(action);
    match action {
        "publish" => publish(app, actor, &client, account, newest).await?,
        "adopt" => {
            let pages = steps::pages(&client, account, Engine::cursor_of(newest)).await?;
            blocking(app, move |inventory| inventory.account_adopted(newest, &pages)).await?.wait().await;
        }
        _ => {}
    }
    blocking(app, |inventory| inventory.change_facts(&[repaired], |facts| facts.stopped = None)).await?;
    steps::heard(app);
    app.account.changed.notify_one();
    Ok(Plan { done: true, ..plan })
}

/// Publishes the state of this device on top of what the server has.
async fn publish(
    app: &Arc<App>,
    actor: &Actor,
    client: &Client,
    account: AccountId,
    onto: Newest,
) -> Result<(), Trouble> {
    let all = Cursor { heads_after: onto.seq, records_after: 0, after_id: None };
    let pages = steps::pages(client, account, all).await?;
    let has: HashMap<ObjectId, Leaf> = pages
        .iter()
        .flat_map(|page| &page.records)
        .filter_map(|changed| {
            let record = &changed.record;
            let sealed = record.sealed.as_ref()?;
            Some((record.id, Leaf::of(record.revision, record.epoch, sealed)))
        })
        .collect();
    let boxes: HashMap<ObjectId, Sealed> = blocking(app, |inventory| inventory.account_boxes())
        .await?
        .into_iter()
        .filter_map(|record| Some((ObjectId(record.id), Sealed(record.sealed?))))
        .collect();
    steps::push(app, client, &Arc::new(Wish::Repair { onto, has, boxes }), actor).await.map(drop)
}
