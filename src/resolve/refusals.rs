//! Refusals: what is recorded of one, and when the log tells of it.
//!
//! Knows no rule: whoever refuses says so. A name that nothing here has may be a value that was sent in its place, and is
//! not recorded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Resolver;
use super::snapshot::Snapshot;
use crate::names::{Millis, SecretId, SecretName};
use crate::vault::usage::{Caller, Event, Outcome, Subject, Unrecorded, Use};
use crate::when::now;

const MINUTE: Millis = 60 * 1000;
/// Of how many callers the log tells in a minute, at most: a user has as many programs as it likes.
const TOLD_MAX: usize = 256;

/// Of whom the log told in this minute: who was refused, by user and program.
#[derive(Default)]
pub struct Told(Mutex<Minute>);

#[derive(Default)]
struct Minute {
    /// Which, counted from the epoch.
    number: u64,
    programs: HashMap<u32, Vec<Arc<str>>>,
}

impl Told {
    /// Whether the log is to tell of this caller now: once a minute.
    fn is_due(&self, caller: &Caller, now: Millis) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back begins another minute too.
        if told.number != now / MINUTE {
            *told = Minute { number: now / MINUTE, programs: HashMap::new() };
        }
        let all: usize = told.programs.values().map(Vec::len).sum();
        let programs = told.programs.entry(caller.uid).or_default();
        if programs.contains(&caller.exe) || (all >= TOLD_MAX && !programs.is_empty()) {
            return false;
        }
        programs.push(Arc::clone(&caller.exe));
        true
    }
}

impl Resolver {
    /// Returns what a refusal is recorded of: a secret, or a name.
    pub(super) fn subject<'a>(
        &self,
        snapshot: &Snapshot,
        caller: &Caller,
        secret: Option<SecretId>,
        name: &'a SecretName,
    ) -> Subject<'a> {
        match secret {
            Some(secret) => Subject::Secret(secret),
            None if snapshot.knows(&name.key()) => Subject::Name(name.as_str()),
            None => self.recorder.unknown(caller.uid, name.as_str(), now()),
        }
    }

    /// Records what was refused in one request: one event for each outcome, in the order in which they are found.
    pub(super) fn refuse(
        &self,
        caller: &Caller,
        template: Option<&str>,
        target: Option<&str>,
        refused: &[(Outcome, Use<'_>)],
    ) -> Result<(), Unrecorded> {
        let mut outcomes: Vec<Outcome> = Vec::new();
        for (outcome, _) in refused {
            if !outcomes.contains(outcome) {
                outcomes.push(*outcome);
            }
        }
        for outcome in outcomes {
            let uses: Vec<Use<'_>> = refused.iter().filter(|(of, _)| *of == outcome).map(|(_, usage)| *usage).collect();
            self.record_refusal(&Event { time: now(), outcome, caller, template, target, route: None, uses: &uses })?;
        }
        Ok(())
    }

    fn record_refusal(&self, event: &Event<'_>) -> Result<(), Unrecorded> {
        if self.told.is_due(event.caller, event.time) {
            let (caller, outcome, secrets) = (event.caller, event.outcome.name(), event.uses.len());
            tracing::warn!(
                ?caller,
                outcome,
                secrets,
                "a caller was refused; `guillemet usage --class refusal` shows all"
            );
        }
        self.recorder.record(event)
    }

    /// Notes that a caller was refused these secrets, each with the field it stands in, because of who it is.
    /// `route` is what it asked for, without what stood in its path.
    pub fn forbid<'a>(
        &self,
        caller: &Caller,
        route: &str,
        template: Option<&str>,
        secrets: impl Iterator<Item = (&'a SecretName, &'a str)>,
    ) {
        let snapshot = self.current.load();
        let usage = |(name, field): (&'a SecretName, &'a str)| {
            let secret = snapshot.secret(&name.key()).map(|secret| secret.id);
            Use { subject: self.subject(&snapshot, caller, secret, name), field }
        };
        let uses: Vec<Use<'_>> = secrets.map(usage).collect();
        self.forbid_uses(caller, route, template, &uses);
    }

    /// The same where it asked for something that is not here: what it typed is kept as a hash.
    pub fn forbid_unknown(&self, caller: &Caller, route: &str, asked: &str) {
        let subject = self.recorder.unknown(caller.uid, asked, now());
        self.forbid_uses(caller, route, None, &[Use { subject, field: "" }]);
    }

    fn forbid_uses(&self, caller: &Caller, route: &str, template: Option<&str>, uses: &[Use<'_>]) {
        let (time, outcome) = (now(), Outcome::Forbidden);
        let event = Event { time, outcome, caller, template, target: None, route: Some(route), uses };
        // It is a refusal in any case.
        if let Err(error) = self.record_refusal(&event) {
            tracing::error!(%error, "a refusal could not be recorded");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_tells_of_each_caller_once_a_minute() {
        let told = Told::default();
        let caller = |uid, exe: &str| Caller { uid, gid: 0, pid: 1, exe: exe.into() };
        let (a, b) = (caller(1, "/bin/a"), caller(1, "/bin/b"));
        assert_eq!([&a, &a, &b, &a].map(|caller| told.is_due(caller, 59_999)), [true, false, true, false]);
        assert_eq!([&a, &a].map(|caller| told.is_due(caller, 60_000)), [true, false]);
        assert!(told.is_due(&a, 1), "the clock was set back");
        // However many programs a user has: others are told of.
        let many = (0..1000).filter(|n| told.is_due(&caller(1, &format!("/bin/{n}")), 2)).count();
        assert_eq!(many, TOLD_MAX - 1);
        assert!(told.is_due(&caller(2, "/bin/a"), 3));
        assert!(!told.is_due(&caller(2, "/bin/b"), 3));
    }
}
