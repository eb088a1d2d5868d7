//! The audit trail as the API and the console show it.

use std::collections::HashMap;
use std::sync::Arc;

use super::App;
use super::error::AppError;
use super::listing::Page;
use crate::resolve::Resolver;
use crate::resolve::snapshot::Snapshot;
use guillemet_api::Listing;
use guillemet_api::usage::{EventCaller, EventDevice, EventView};
use guillemet_base::names::{Millis, SecretId, SecretName};
use guillemet_base::time::rfc3339;
use guillemet_vault::audit::{AuditChange, ChangeSubject};
use guillemet_vault::usage::{
    Caller, ChangeKind, Class, Decoded, EventKind, Listed, RecorderError, Subject, TrailEvent, TrailFilter,
    UnknownName, UseEvent,
};

/// The filter for events of the audit trail.
#[derive(Clone, Debug, Default)]
pub struct EventQuery {
    /// Only events of this secret; `None` for any.
    pub secret: Option<SecretName>,
    /// Only events from this time on, in milliseconds since the epoch; `None` for any.
    pub since: Option<Millis>,
    /// Only events of this class; `None` for any.
    pub class: Option<Class>,
    /// Only events with this outcome; `None` for any.
    pub outcome: Option<EventKind>,
}

/// The deletions in the trail.
struct Deletions;

impl TrailFilter for Deletions {
    fn has_class(&self, class: Class) -> bool {
        class == Class::Change
    }

    fn of_use(&self, _: &Decoded<'_>, _: &Listed<'_>) -> bool {
        false
    }

    fn of_change(&self, change: &AuditChange) -> bool {
        change.kind == ChangeKind::SecretDeleted && change.error.is_none()
    }
}

/// Picks the events that a query asks for.
struct EventFilter<'a> {
    query: &'a EventQuery,
    /// The secrets that have this name, or had it when they were deleted.
    ids: Vec<SecretId>,
    /// The keyed hash of the name, for events of a time when nothing had it.
    unknown: Option<UnknownName>,
}

impl EventFilter<'_> {
    fn of_name(&self, name: &str) -> bool {
        self.query.secret.as_ref().is_some_and(|requested| name.eq_ignore_ascii_case(requested.as_str()))
    }
}

impl TrailFilter for EventFilter<'_> {
    fn has_class(&self, class: Class) -> bool {
        self.query.class.is_none_or(|requested| requested == class)
            && self.query.outcome.is_none_or(|requested| requested.row().class == class)
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
            && self.query.outcome.is_none_or(|requested| requested == EventKind::Use(event.outcome))
    }

    fn of_change(&self, change: &AuditChange) -> bool {
        let of_secret = match &change.about {
            _ if self.query.secret.is_none() => true,
            ChangeSubject::Secret(id, _) => self.ids.contains(id),
            ChangeSubject::Name(name) => self.of_name(name),
            ChangeSubject::Unknown(name) => Some(*name) == self.unknown,
            ChangeSubject::Whole | ChangeSubject::Plugin(_) | ChangeSubject::Device(_) => false,
        };
        of_secret
            && self.query.since.is_none_or(|since| change.time >= since)
            && self.query.outcome.is_none_or(|requested| requested == EventKind::Change(change.kind))
    }
}

/// Returns the events that match a query, newest first.
///
/// # Errors
/// [`AppError::Inventory`] if usage cannot be folded or read.
pub async fn list(app: &Arc<App>, page: Page, query: EventQuery) -> Result<Listing<EventView>, AppError> {
    let resolver = Arc::clone(&app.resolver);
    super::blocking(app, move |_| Ok(events(&resolver, page, &query)?)).await
}

/// Returns the events that match a query, newest first. Folds the journal, so it blocks.
///
/// # Errors
/// If usage cannot be folded or read.
#[expect(clippy::disallowed_methods, reason = "`list` calls it on a blocking thread")]
fn events(resolver: &Resolver, page: Page, query: &EventQuery) -> Result<Listing<EventView>, RecorderError> {
    let recorder = &resolver.recorder;
    let (_, deletions) = recorder.trail(&Deletions, 0, usize::MAX)?;
    let state = resolver.current.load();
    let mut names: HashMap<SecretId, String> = HashMap::new();
    for deletion in deletions.into_iter().rev() {
        if let TrailEvent::Change(AuditChange { about: ChangeSubject::Secret(id, name), .. }) = deletion {
            names.insert(id, name);
        }
    }
    let mut ids = Vec::new();
    if let Some(requested) = &query.secret {
        ids.extend(names.iter().filter(|(_, name)| name.eq_ignore_ascii_case(requested.as_str())).map(|(id, _)| *id));
        ids.extend(state.secret(&requested.key()).map(|secret| secret.id));
    }
    names.extend(state.secrets.values().map(|secret| (secret.id, secret.name.to_string())));
    let unknown = query.secret.as_ref().map(|name| recorder.hash_name(name.as_str()));
    let (count, events) = recorder.trail(&EventFilter { query, ids, unknown }, page.offset, page.limit)?;
    let view = |event| match event {
        TrailEvent::Use(event) => of_use(event, &names, &state, resolver),
        TrailEvent::Change(change) => of_change(change, &names),
    };
    Ok(Listing { count, items: events.into_iter().map(view).collect() })
}

fn of_use(event: UseEvent, names: &HashMap<SecretId, String>, state: &Snapshot, resolver: &Resolver) -> EventView {
    // A name is shown only while something has it: earlier versions recorded whatever name was asked for.
    let name = event.name.map(|name| match state.knows_name(&name.to_ascii_lowercase()) {
        true => name,
        false => resolver.recorder.hash_name(&name).to_string(),
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

fn of_change(change: AuditChange, names: &HashMap<SecretId, String>) -> EventView {
    let (mut secret, mut secret_id, mut subject) = (None, None, None);
    match change.about {
        ChangeSubject::Whole => {}
        ChangeSubject::Secret(id, name) => {
            (secret, secret_id) = (Some(names.get(&id).cloned().unwrap_or(name)), Some(id.to_string()));
        }
        ChangeSubject::Name(name) => secret = Some(name),
        ChangeSubject::Unknown(unknown) => secret = Some(unknown.to_string()),
        ChangeSubject::Plugin(feature) => subject = Some(feature),
        ChangeSubject::Device(device) => subject = Some(device.name),
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
