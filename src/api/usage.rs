//! `GET /v1/usage`: the audit trail, as the API shows it.

use std::collections::HashMap;

use super::request::{Events, Listing, Page};
use crate::inventory::rfc3339;
use crate::names::SecretId;
use crate::resolve::Resolver;
use crate::resolve::snapshot::Snapshot;
use crate::vault::usage::{Decoded, Recorder, RecorderError, Subject, TrailEvent, Use};
use serde::Serialize;

/// One use of a secret, or its refusal.
#[derive(Debug, Serialize)]
pub struct EventView {
    time: String,
    /// What the secret is called now; where there was none, the name that was asked for, or what stands for it.
    secret: Option<String>,
    secret_id: Option<String>,
    template: Option<String>,
    field: Option<String>,
    target: Option<String>,
    caller: CallerView,
    outcome: &'static str,
}

#[derive(Debug, Serialize)]
struct CallerView {
    uid: u32,
    gid: u32,
    pid: u32,
    exe: String,
}

/// The events that are wanted, newest first. Folds, and so blocks.
///
/// # Errors
/// When usage cannot be folded or read.
pub fn events(resolver: &Resolver, page: Page, wanted: &Events) -> Result<Listing<EventView>, RecorderError> {
    let state = resolver.current.load();
    let secret = wanted.secret.as_ref().and_then(|name| state.secret(&name.key()));
    let unknown = wanted.secret.as_ref().map(|name| resolver.recorder.hashed(name.as_str()));
    let of_secret = |usage: &Use<'_>| match (&wanted.secret, usage.subject) {
        (None, _) => true,
        (Some(_), Subject::Secret(used)) => secret.is_some_and(|secret| secret.id == used),
        (Some(name), Subject::Name(used)) => used.eq_ignore_ascii_case(name.as_str()),
        (Some(_), Subject::Unknown(used)) => unknown == Some(used),
    };
    let picks = |event: &Decoded<'_>, usage: &Use<'_>| {
        wanted.since.is_none_or(|since| event.time >= since)
            && wanted.outcome.is_none_or(|outcome| event.outcome == outcome)
            && of_secret(usage)
    };
    let (count, events) = resolver.recorder.trail(&picks, page.offset, page.limit)?;
    let names: HashMap<SecretId, &str> =
        state.secrets.values().map(|secret| (secret.id, secret.name.as_str())).collect();
    Ok(Listing {
        count,
        items: events.into_iter().map(|event| view(event, &names, &state, &resolver.recorder)).collect(),
    })
}

fn view(event: TrailEvent, names: &HashMap<SecretId, &str>, state: &Snapshot, recorder: &Recorder) -> EventView {
    let caller = event.caller;
    // A name is shown while something has it: earlier versions recorded whatever was asked for.
    let name = event.name.map(|name| match state.knows(&name.to_ascii_lowercase()) {
        true => name,
        false => recorder.hashed(&name).to_string(),
    });
    EventView {
        time: rfc3339(event.time),
        secret: match event.secret {
            Some(id) => names.get(&id).map(|name| (*name).to_owned()),
            None => name.or_else(|| event.unknown.map(|unknown| unknown.to_string())),
        },
        secret_id: event.secret.map(|id| id.to_string()),
        template: event.template,
        field: Some(event.field).filter(|field| !field.is_empty()),
        target: event.target,
        caller: CallerView { uid: caller.uid, gid: caller.gid, pid: caller.pid, exe: caller.exe.to_string() },
        outcome: event.outcome.name(),
    }
}
