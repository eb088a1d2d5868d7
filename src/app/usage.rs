//! The audit trail, as it is shown.

use std::collections::HashMap;
use std::sync::Arc;

use super::App;
use super::error::AppError;
use super::listing::Page;
use crate::resolve::Resolver;
use crate::resolve::snapshot::Snapshot;
use crate::vault::audit::{About, Change};
use crate::vault::usage::{
    Caller, ChangeKind, Class, Decoded, Kind, Listed, Picks, RecorderError, Subject, TrailEvent, UnknownName, UseEvent,
};
use guillemet_api::Listing;
use guillemet_api::usage::{EventCaller, EventDevice, EventView};
use guillemet_base::names::{Millis, SecretId, SecretName};
use guillemet_base::time::rfc3339;

/// Which events of the audit trail are wanted.
#[derive(Clone, Debug, Default)]
pub struct Events {
    /// Of this secret.
    pub secret: Option<SecretName>,
    /// From then on.
    pub since: Option<Millis>,
    /// Of this class.
    pub class: Option<Class>,
    /// With this outcome.
    pub outcome: Option<Kind>,
}

/// The deletions in the trail.
struct Deletions;

impl Picks for Deletions {
    fn class(&self, class: Class) -> bool {
        class == Class::Change
    }

    fn of_use(&self, _: &Decoded<'_>, _: &Listed<'_>) -> bool {
        false
    }

    fn of_change(&self, change: &Change) -> bool {
        change.kind == ChangeKind::SecretDeleted && change.error.is_none()
    }
}

/// What a query picks.
struct Wanted<'a> {
    query: &'a Events,
    /// The secrets that are called so, or were until they were deleted.
    ids: Vec<SecretId>,
    /// What stands for the name while nothing has it.
    unknown: Option<UnknownName>,
}

impl Wanted<'_> {
    fn of_name(&self, name: &str) -> bool {
        self.query.secret.as_ref().is_some_and(|wanted| name.eq_ignore_ascii_case(wanted.as_str()))
    }
}

impl Picks for Wanted<'_> {
    fn class(&self, class: Class) -> bool {
        self.query.class.is_none_or(|wanted| wanted == class)
            && self.query.outcome.is_none_or(|wanted| wanted.row().class == class)
    }

    fn of_use(&self, event: &Decoded<'_>, listed: &Listed<'_>) -> bool {
        let of_secret = match listed.usage.subject {
            _ if self.query.secret.is_none() => true,
            Subject::Secret(used) => self.ids.contains(&used),
            Subject::Name(used) => self.of_name(used),
            Subject::Unknown(_) if listed.uses > 1 => event.unknown_names().any(|name| Some(name) == self.unknown),
            Subject::Unknown(name) => Some(name) == self.unknown,
        };
        of_secret
            && self.query.since.is_none_or(|since| event.time >= since)
            && self.query.outcome.is_none_or(|wanted| wanted == Kind::Use(event.outcome))
    }

    fn of_change(&self, change: &Change) -> bool {
        let of_secret = match &change.about {
            _ if self.query.secret.is_none() => true,
            About::Secret(id, _) => self.ids.contains(id),
            About::Name(name) => self.of_name(name),
            About::Unknown(name) => Some(*name) == self.unknown,
            About::Whole | About::Plugin(_) | About::Device(_) => false,
        };
        of_secret
            && self.query.since.is_none_or(|since| change.time >= since)
            && self.query.outcome.is_none_or(|wanted| wanted == Kind::Change(change.kind))
    }
}

/// Returns the events that are wanted, newest first.
///
/// # Errors
/// `Inventory`, when usage cannot be folded or read.
pub async fn list(app: &Arc<App>, page: Page, query: Events) -> Result<Listing<EventView>, AppError> {
    let resolver = Arc::clone(&app.resolver);
    super::blocking(app, move |_| Ok(events(&resolver, page, &query)?)).await
}

/// Returns the events that are wanted, newest first. Folds, and so blocks.
///
/// # Errors
/// When usage cannot be folded or read.
fn events(resolver: &Resolver, page: Page, query: &Events) -> Result<Listing<EventView>, RecorderError> {
    let recorder = &resolver.recorder;
    let (_, deletions) = recorder.trail(&Deletions, 0, usize::MAX)?;
    let state = resolver.current.load();
    let mut names: HashMap<SecretId, String> = HashMap::new();
    for deletion in deletions.into_iter().rev() {
        if let TrailEvent::Change(Change { about: About::Secret(id, name), .. }) = deletion {
            names.insert(id, name);
        }
    }
    let mut ids = Vec::new();
    if let Some(wanted) = &query.secret {
        ids.extend(names.iter().filter(|(_, name)| name.eq_ignore_ascii_case(wanted.as_str())).map(|(id, _)| *id));
        ids.extend(state.secret(&wanted.key()).map(|secret| secret.id));
    }
    names.extend(state.secrets.values().map(|secret| (secret.id, secret.name.to_string())));
    let unknown = query.secret.as_ref().map(|name| recorder.hashed(name.as_str()));
    let (count, events) = recorder.trail(&Wanted { query, ids, unknown }, page.offset, page.limit)?;
    let view = |event| match event {
        TrailEvent::Use(event) => of_use(event, &names, &state, resolver),
        TrailEvent::Change(change) => of_change(change, &names),
    };
    Ok(Listing { count, items: events.into_iter().map(view).collect() })
}

fn of_use(event: UseEvent, names: &HashMap<SecretId, String>, state: &Snapshot, resolver: &Resolver) -> EventView {
    // A name is shown while something has it: earlier versions recorded whatever was asked for.
    let name = event.name.map(|name| match state.knows(&name.to_ascii_lowercase()) {
        true => name,
        false => resolver.recorder.hashed(&name).to_string(),
    });
    EventView {
        time: rfc3339(event.time),
        class: event.outcome.class().name().into(),
        outcome: event.outcome.name().into(),
        secret: match event.secret {
            Some(id) => names.get(&id).cloned(),
            None => name.or_else(|| event.unknown.map(|unknown| unknown.to_string())),
        },
        secret_id: event.secret.map(|id| id.to_string()),
        uses: event.uses,
        template: event.template,
        field: Some(event.field).filter(|field| !field.is_empty()),
        target: event.target,
        route: event.route,
        caller: Some(caller_view(event.caller)),
        ..EventView::default()
    }
}

fn of_change(change: Change, names: &HashMap<SecretId, String>) -> EventView {
    let (mut secret, mut secret_id, mut subject) = (None, None, None);
    match change.about {
        About::Whole => {}
        About::Secret(id, name) => {
            (secret, secret_id) = (Some(names.get(&id).cloned().unwrap_or(name)), Some(id.to_string()));
        }
        About::Name(name) => secret = Some(name),
        About::Unknown(unknown) => secret = Some(unknown.to_string()),
        About::Plugin(feature) => subject = Some(feature),
        About::Device(device) => subject = Some(device.name),
    }
    EventView {
        time: rfc3339(change.time),
        class: Class::Change.name().into(),
        outcome: change.kind.name().into(),
        error: change.error,
        secret,
        secret_id,
        subject,
        before: change.before,
        after: change.after,
        caller: change.actor.caller.map(caller_view),
        session: change.actor.session,
        device: change.actor.device.map(|device| EventDevice { id: device.id, name: device.name }),
        ..EventView::default()
    }
}

fn caller_view(caller: Caller) -> EventCaller {
    EventCaller { uid: caller.uid, gid: caller.gid, pid: caller.pid, exe: caller.exe.to_string() }
}
