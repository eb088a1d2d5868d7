//! `GET /v1/usage`: the audit trail, as the API shows it.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::request::{Events, Page};
use crate::inventory::rfc3339;
use crate::names::SecretId;
use crate::resolve::Resolver;
use crate::vault::usage::{Decoded, RecorderError, TrailEvent, Use};

#[derive(Serialize)]
struct EventView<'a> {
    time: String,
    /// What the secret is called now; for one that never was, what was asked for.
    secret: Option<&'a str>,
    secret_id: Option<String>,
    template: Option<&'a str>,
    field: Option<&'a str>,
    target: Option<&'a str>,
    caller: CallerView<'a>,
    outcome: &'static str,
}

#[derive(Serialize)]
struct CallerView<'a> {
    uid: u32,
    gid: u32,
    pid: u32,
    exe: &'a str,
}

/// The events that are wanted, newest first. Folds, and so blocks.
///
/// # Errors
/// When usage cannot be folded or read.
pub fn events(resolver: &Resolver, page: Page, wanted: &Events) -> Result<Value, RecorderError> {
    let snapshot = resolver.current.load();
    let id = wanted.secret.as_ref().and_then(|name| snapshot.secrets.get(name.key().as_str())).map(|secret| secret.id);
    let of_secret = |usage: &Use<'_>| match (&wanted.secret, usage.secret) {
        (None, _) => true,
        (Some(_), Some(secret)) => Some(secret) == id,
        (Some(name), None) => usage.name.eq_ignore_ascii_case(name.as_str()),
    };
    let picks =
        |event: &Decoded<'_>, usage: &Use<'_>| wanted.since.is_none_or(|since| event.time >= since) && of_secret(usage);
    let (offset, limit) = page.bounds();
    let (count, events) = resolver.recorder.trail(&picks, offset, limit)?;
    let names: HashMap<SecretId, &str> =
        snapshot.secrets.values().map(|secret| (secret.id, secret.name.as_str())).collect();
    let items: Vec<EventView<'_>> = events.iter().map(|event| view(event, &names)).collect();
    Ok(json!({"count": count, "items": items}))
}

fn view<'a>(event: &'a TrailEvent, names: &HashMap<SecretId, &'a str>) -> EventView<'a> {
    let caller = &event.caller;
    EventView {
        time: rfc3339(event.time),
        secret: match event.secret {
            Some(id) => names.get(&id).copied(),
            None => event.name.as_deref(),
        },
        secret_id: event.secret.map(|id| id.to_string()),
        template: event.template.as_deref(),
        field: Some(event.field.as_str()).filter(|field| !field.is_empty()),
        target: event.target.as_deref(),
        caller: CallerView { uid: caller.uid, gid: caller.gid, pid: caller.pid, exe: &caller.exe },
        outcome: event.outcome.name(),
    }
}
