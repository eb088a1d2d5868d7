//! What devices tell each other of their use: one sealed document each, of which the newest counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Trouble, blocking};
use crate::account::client::{Client, ClientError};
use crate::account::seal::Kind;
use crate::account::wire::{DeviceId, Usage};
use crate::api::App;
use crate::inventory::{AccountError, DeviceUsage, SecretDetail, rfc3339};
use crate::names::Millis;
use crate::resolve::now;

/// Of so many secrets the usage is told, of those that were used last: those of all devices come in one answer.
const SECRETS_MAX: usize = 10_000;

/// What one device tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    /// Whose; not in the box, which is bound to it.
    #[serde(skip)]
    pub(super) device: DeviceId,
    /// When it was told.
    pub(super) at: Millis,
    /// How often and when last, by secret.
    secrets: BTreeMap<String, (u64, Option<Millis>)>,
}

/// What the other devices told, opened.
pub(super) fn told(app: &App) -> Vec<Told> {
    let told = app.inventory.told_usage();
    let open = |told: &Usage| {
        app.inventory.with_engine(|engine| {
            let key = engine.key_of(told.epoch)?;
            let opened = key.open(Kind::Usage, engine.me().account, told.device.0, told.counter, &told.sealed).ok()?;
            let read: Told = serde_json::from_slice(&opened).ok()?;
            Some(Told { device: told.device, ..read })
        })
    };
    told.iter().filter_map(|told| open(told).ok().flatten()).collect()
}

/// Adds to secrets what the account's other devices told of them.
pub fn add_others(app: &App, secrets: &mut [SecretDetail]) {
    let Some(state) = app.inventory.account() else { return };
    let Some((head, _)) = state.head else { return };
    let named = |told: Told| Some((head.device(told.device)?.name.clone(), told));
    let mut others: Vec<_> = told(app).into_iter().filter(|told| told.device != state.me.1).filter_map(named).collect();
    others.sort_by(|a, b| a.0.cmp(&b.0));
    for secret in secrets {
        let Some(id) = &secret.secret.id else { continue };
        let of = |(device, told): &(String, Told)| {
            let (count, last) = told.secrets.get(id).copied().unwrap_or_default();
            let (device, last_used_at) = (device.clone(), last.map(rfc3339));
            DeviceUsage { device, count, last_used_at, told_at: rfc3339(told.at) }
        };
        secret.usage.by_device = others.iter().map(of).collect();
    }
}

/// Tells what was used here, where that is new.
pub(super) async fn tell(app: &Arc<App>, client: &Arc<Client>) -> Result<(), Trouble> {
    let resolver = Arc::clone(&app.resolver);
    let totals = tokio::task::spawn_blocking(move || resolver.recorder.totals()).await;
    let Ok(Ok(totals)) = totals else { return Ok(()) };
    let Some(state) = app.inventory.account() else { return Ok(()) };
    let (account, me) = state.me;
    let mut used: Vec<_> = totals.iter().collect();
    if used.len() > SECRETS_MAX {
        used.sort_unstable_by_key(|(_, totals)| std::cmp::Reverse(totals.last_used));
        used.truncate(SECRETS_MAX);
    }
    let secrets = used.iter().map(|(id, totals)| (id.to_string(), (totals.count, totals.last_used))).collect();
    let document = Told { device: me, at: now(), secrets };
    let last = told(app).into_iter().find(|told| told.device == me);
    if last.is_some_and(|last| last.secrets == document.secrets) {
        return Ok(());
    }
    let known = app.inventory.told_usage().iter().find(|told| told.device == me).map_or(0, |told| told.counter);
    let counter = state.facts.usage_counter.max(known) + 1;
    blocking(app, move |inventory| inventory.change_facts(&[], |facts| facts.usage_counter = counter)).await?;
    // Strings and numbers: there is nothing in it that JSON cannot hold.
    let plain = serde_json::to_vec(&document).unwrap_or_default();
    let sealed = app.inventory.with_engine(|engine| {
        engine.key().map(|key| (key.epoch(), key.seal(Kind::Usage, account, me.0, counter, &plain)))
    })?;
    let (epoch, sealed) = sealed.ok_or(AccountError::None)?;
    let usage = Usage { device: me, counter, epoch, sealed };
    match client.put_usage(account, &usage).await {
        // The server has a higher one: what it has is heard next, and the one after that is higher still.
        Ok(()) | Err(ClientError::Refused { status: 409, .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Hears what others tell.
pub(super) async fn fetch(app: &Arc<App>, client: &Arc<Client>) -> Result<(), Trouble> {
    let Some(state) = app.inventory.account() else { return Ok(()) };
    let told = client.usage(state.me.0).await?;
    // Only what opens: a server can say anything.
    let opens = |told: &Usage| {
        app.inventory.with_engine(|engine| {
            let key = engine.key_of(told.epoch)?;
            key.open(Kind::Usage, engine.me().account, told.device.0, told.counter, &told.sealed).ok()
        })
    };
    let told: Vec<Usage> = told.into_iter().filter(|told| matches!(opens(told), Ok(Some(_)))).collect();
    blocking(app, move |inventory| inventory.keep_told_usage(told)).await
}
