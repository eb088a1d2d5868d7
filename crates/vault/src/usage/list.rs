//! Reads the audit trail, newest first.
//!
//! Answers and refusals come in the order in which they were recorded, whatever the clock did. They are numbered when
//! they are folded, which can be after a later change was numbered. So changes, which are in the order in which they
//! were made, are merged with them by time.

use std::ops::Range;

use zeroize::Zeroizing;

use super::super::audit::AuditChange;
use super::super::event::{self, Caller, Class, Decoded, Listed, Outcome, Subject, UnknownName};
use super::super::store::VaultError;
use super::super::trail::{self, Chunk};
use super::{RecorderError, Shared};
use guillemet_base::names::{Millis, SecretId};

/// An event of the trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrailEvent {
    /// A use of a secret, or its refusal.
    Use(UseEvent),
    /// A change, done or attempted.
    Change(AuditChange),
}

/// One use of one secret, or its refusal; or all unknown names of one request together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UseEvent {
    /// The time of the request, in milliseconds since the Unix epoch.
    pub time: Millis,
    /// How the request ended.
    pub outcome: Outcome,
    /// The process that asked.
    pub caller: Caller,
    /// The id of the template; `None` for a raw resolve.
    pub template: Option<String>,
    /// The target; `None` if the request had none.
    pub target: Option<String>,
    /// The field of the config; empty for a raw resolve.
    pub field: String,
    /// Method and path of the route, if the caller lacked the right to it.
    pub route: Option<String>,
    /// The secret; `None` if no secret had the name.
    pub secret: Option<SecretId>,
    /// The name that was asked for, if a template uses it but no secret had it.
    pub name: Option<String>,
    /// The hash that stands for the name, if no secret, former name or template had it.
    pub unknown: Option<UnknownName>,
    /// How many uses this event stands for; more than 1 only for the unknown names of a request.
    pub uses: u32,
}

/// Selects events of the trail.
pub trait TrailFilter {
    /// Reports whether any event of this class is wanted.
    fn has_class(&self, class: Class) -> bool;
    /// Reports whether this use is wanted.
    fn of_use(&self, event: &Decoded<'_>, listed: &Listed<'_>) -> bool;
    /// Reports whether this change is wanted.
    fn of_change(&self, change: &AuditChange) -> bool;
}

impl UseEvent {
    fn of(event: &Decoded<'_>, listed: &Listed<'_>) -> Self {
        let (secret, name, unknown) = match listed.usage.subject {
            Subject::Secret(secret) => (Some(secret), None, None),
            Subject::Name(name) => (None, Some(name).filter(|name| !name.is_empty()), None),
            Subject::Unknown(unknown) => (None, None, Some(unknown)),
        };
        Self {
            time: event.time,
            outcome: event.outcome,
            caller: Caller { uid: event.uid, gid: event.gid, pid: event.pid, exe: event.exe.into() },
            template: event.template.map(str::to_owned),
            target: event.target.map(str::to_owned),
            field: listed.usage.field.to_owned(),
            route: event.route.map(str::to_owned),
            secret,
            name: name.map(str::to_owned),
            unknown,
            uses: listed.uses,
        }
    }
}

/// The records of one class and user, newest first. The counters are locked for one chunk at a time, because reading a
/// long trail must not hold up a fold.
struct Backwards<'a> {
    shared: &'a Shared,
    class: Class,
    /// The chunks that have not been read yet, newest last.
    chunks: Vec<Chunk>,
    frames: Zeroizing<Vec<u8>>,
    records: Vec<(u64, Range<usize>)>,
    /// The number and time of the next record, once they are known. If it is a change, `change` holds it.
    next: Option<(u64, Millis)>,
    change: Option<AuditChange>,
    /// How many more events the bound of the trail allows.
    remaining: usize,
}

impl Backwards<'_> {
    /// Returns the number and time of the next record that can be read. Skips changes of a kind that this version does
    /// not know.
    fn peek(&mut self) -> Result<Option<(u64, Millis)>, RecorderError> {
        while self.remaining > 0 && self.next.is_none() {
            let Some((number, range)) = self.records.last() else {
                if !self.read()? {
                    return Ok(None);
                }
                continue;
            };
            let content = &self.frames[range.clone()];
            let time = match self.class {
                Class::Change => {
                    self.change = AuditChange::decode(content);
                    self.change.as_ref().map(|change| change.time)
                }
                _ => event::decode(content).map(|event| event.time),
            };
            self.next = time.map(|time| (*number, time));
            if self.next.is_none() {
                self.records.pop();
            }
        }
        Ok(self.next)
    }

    /// Reads the next chunk. Returns `false` if there is none.
    fn read(&mut self) -> Result<bool, RecorderError> {
        let Some(chunk) = self.chunks.pop() else { return Ok(false) };
        let block = {
            let counters = self.shared.counters();
            trail::open(&counters.database, &counters.boxes, chunk.id)?
        };
        // The chunk has left the trail meanwhile, because newer ones have come.
        let Some(block) = block else { return Ok(true) };
        let damaged = || VaultError::Damaged("part of its audit trail cannot be decrypted".into());
        self.frames = block.frames.ok_or_else(damaged)?;
        self.records = trail::records(&self.frames).ok_or_else(damaged)?;
        // Records that were added meanwhile are not part of this listing.
        self.records.retain(|(number, _)| *number <= chunk.last);
        Ok(true)
    }

    /// Takes the next record; call it after `peek`. Calls `emit` with each event of the record that `filter` selects,
    /// the last event first.
    fn take(&mut self, filter: &impl TrailFilter, mut emit: impl FnMut(&dyn Fn() -> TrailEvent)) {
        self.next = None;
        let Some((_, range)) = self.records.pop() else { return };
        if let Some(change) = self.change.take() {
            self.remaining -= 1;
            if filter.of_change(&change) {
                emit(&|| TrailEvent::Change(change.clone()));
            }
            return;
        }
        let Some(event) = event::decode(&self.frames[range]) else { return };
        let listed: Vec<Listed<'_>> = event.listed().collect();
        for listed in listed.iter().rev().take(self.remaining) {
            if filter.of_use(&event, listed) {
                emit(&|| TrailEvent::Use(UseEvent::of(&event, listed)));
            }
        }
        self.remaining = self.remaining.saturating_sub(listed.len());
    }
}

/// Finds the stream whose next record has the greatest key; returns its index and the time of that record.
fn newest<K: Ord + Copy>(
    streams: &mut [Backwards<'_>],
    key: impl Fn((u64, Millis)) -> K,
) -> Result<Option<(usize, Millis)>, RecorderError> {
    let mut newest: Option<(K, usize, Millis)> = None;
    for (index, stream) in streams.iter_mut().enumerate() {
        if let Some(next) = stream.peek()?
            && newest.is_none_or(|(best, ..)| key(next) > best)
        {
            newest = Some((key(next), index, next.1));
        }
    }
    Ok(newest.map(|(_, index, time)| (index, time)))
}

/// Lists the events that `filter` selects, newest first: returns how many there are, and of these at most `limit`,
/// after the first `offset`.
pub(super) fn list(
    shared: &Shared,
    filter: &impl TrailFilter,
    offset: usize,
    limit: usize,
) -> Result<(usize, Vec<TrailEvent>), RecorderError> {
    let (mut uses, mut changes) = (Vec::new(), Vec::new());
    for (class, ..) in Class::ALL.into_iter().filter(|(class, ..)| filter.has_class(*class)) {
        let shares = trail::kept_chunks(&shared.counters().database, class, shared.bound(class))?;
        let streams = if class == Class::Change { &mut changes } else { &mut uses };
        streams.extend(shares.into_iter().map(|(chunks, remaining)| Backwards {
            shared,
            class,
            chunks,
            frames: Zeroizing::default(),
            records: Vec::new(),
            next: None,
            change: None,
            remaining,
        }));
    }
    let (mut count, mut events) = (0, Vec::new());
    let mut add = |event: &dyn Fn() -> TrailEvent| {
        if count >= offset && events.len() < limit {
            events.push(event());
        }
        count += 1;
    };
    loop {
        let next_use = newest(&mut uses, |(number, _)| number)?;
        let next_change = newest(&mut changes, |(number, _)| number)?;
        // At the same millisecond the use is the earlier event: the event that a value was shown is recorded after the
        // use.
        if let Some((index, time)) = next_use
            && next_change.is_none_or(|(_, changed)| time > changed)
        {
            uses[index].take(filter, &mut add);
        } else if let Some((index, _)) = next_change {
            changes[index].take(filter, &mut add);
        } else {
            break;
        }
    }
    Ok((count, events))
}
