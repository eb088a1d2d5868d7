//! Refusals: what is recorded of one, and when it is also logged.
//!
//! Knows no rule: the code that refuses calls this. A name that neither a secret nor a template has may be a value sent
//! by mistake, so at most a keyed hash of it is recorded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Resolver;
use super::snapshot::Snapshot;
use guillemet_base::names::{Millis, SecretId, SecretName};
use guillemet_base::time::now;
use guillemet_vault::usage::{Caller, Outcome, RecordedUse, RequestEvent, Subject, Unrecorded};

const MINUTE: Millis = 60 * 1000;
/// The most callers that are logged in one minute: a user can have any number of programs.
const TOLD_MAX: usize = 256;

/// The callers whose refusals were logged in the current minute, by user and program.
#[derive(Default)]
pub struct LoggedCallers(Mutex<Minute>);

#[derive(Default)]
struct Minute {
    /// The minute, counted from the epoch.
    number: u64,
    programs: HashMap<u32, Vec<Arc<str>>>,
}

impl LoggedCallers {
    /// Reports whether a refusal of this caller should be logged now. True once a minute for each caller.
    fn is_due(&self, caller: &Caller, now: Millis) -> bool {
        let mut minute = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back begins another minute too.
        if minute.number != now / MINUTE {
            *minute = Minute { number: now / MINUTE, programs: HashMap::new() };
        }
        let total: usize = minute.programs.values().map(Vec::len).sum();
        let programs = minute.programs.entry(caller.uid).or_default();
        if programs.contains(&caller.exe) || (total >= TOLD_MAX && !programs.is_empty()) {
            return false;
        }
        programs.push(Arc::clone(&caller.exe));
        true
    }
}

impl Resolver {
    /// Returns the subject that a refusal is recorded under: a secret, a known name, or at most a keyed hash of an
    /// unknown one.
    pub(super) fn subject<'a>(
        &self,
        snapshot: &Snapshot,
        caller: &Caller,
        secret: Option<SecretId>,
        name: &'a SecretName,
    ) -> Subject<'a> {
        match secret {
            Some(secret) => Subject::Secret(secret),
            None if snapshot.knows_name(&name.key()) => Subject::Name(name.as_str()),
            None => self.recorder.unknown_subject(caller.uid, name.as_str(), now()),
        }
    }

    /// Records what was refused in one request: one event for each outcome, in the order in which the outcomes occur.
    pub(super) fn refuse(
        &self,
        caller: &Caller,
        template: Option<&str>,
        target: Option<&str>,
        refused: &[(Outcome, RecordedUse<'_>)],
    ) -> Result<(), Unrecorded> {
        let mut outcomes: Vec<Outcome> = Vec::new();
        for (outcome, _) in refused {
            if !outcomes.contains(outcome) {
                outcomes.push(*outcome);
            }
        }
        for outcome in outcomes {
            let uses: Vec<RecordedUse<'_>> =
                refused.iter().filter(|(other, _)| *other == outcome).map(|(_, usage)| *usage).collect();
            self.record_refusal(&RequestEvent {
                time: now(),
                outcome,
                caller,
                template,
                target,
                route: None,
                uses: &uses,
            })?;
        }
        Ok(())
    }

    fn record_refusal(&self, event: &RequestEvent<'_>) -> Result<(), Unrecorded> {
        if self.logged_callers.is_due(event.caller, event.time) {
            let (caller, outcome, secrets) = (event.caller, event.outcome.name(), event.uses.len());
            tracing::warn!(
                ?caller,
                outcome,
                secrets,
                "a caller was refused; run `guillemet usage --class refusal` to see all refusals"
            );
        }
        self.recorder.record(event)
    }

    /// Records that a caller was refused these secrets, each with its field, because of the rules for that caller.
    /// `route` is the route it asked for, without the variable parts of the path.
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
            RecordedUse { subject: self.subject(&snapshot, caller, secret, name), field }
        };
        let uses: Vec<RecordedUse<'_>> = secrets.map(usage).collect();
        self.forbid_uses(caller, route, template, &uses);
    }

    /// Records the refusal of a request for something that does not exist here. What the caller asked for is kept as a
    /// hash.
    pub fn forbid_unknown(&self, caller: &Caller, route: &str, name: &str) {
        let subject = self.recorder.unknown_subject(caller.uid, name, now());
        self.forbid_uses(caller, route, None, &[RecordedUse { subject, field: "" }]);
    }

    fn forbid_uses(&self, caller: &Caller, route: &str, template: Option<&str>, uses: &[RecordedUse<'_>]) {
        let (time, outcome) = (now(), Outcome::Forbidden);
        let event = RequestEvent { time, outcome, caller, template, target: None, route: Some(route), uses };
        // The caller is refused whether this succeeds or not.
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
        let logged = LoggedCallers::default();
        let caller = |uid, exe: &str| Caller { uid, gid: 0, pid: 1, exe: exe.into() };
        let (a, b) = (caller(1, "/bin/a"), caller(1, "/bin/b"));
        assert_eq!([&a, &a, &b, &a].map(|caller| logged.is_due(caller, 59_999)), [true, false, true, false]);
        assert_eq!([&a, &a].map(|caller| logged.is_due(caller, 60_000)), [true, false]);
        assert!(logged.is_due(&a, 1), "the clock was set back");
        // However many programs one user has, other users are still logged.
        let count = (0..1000).filter(|n| logged.is_due(&caller(1, &format!("/bin/{n}")), 2)).count();
        assert_eq!(count, TOLD_MAX - 1);
        assert!(logged.is_due(&caller(2, "/bin/a"), 3));
        assert!(!logged.is_due(&caller(2, "/bin/b"), 3));
    }
}
