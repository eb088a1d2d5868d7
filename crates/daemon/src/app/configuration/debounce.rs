//! Decides when a changing file has settled, so that it can be read: editors write in steps, and remove a file before
//! they put another one in its place. Reads no clock and no file.

use std::time::{Duration, Instant};

use guillemet_base::files::Fingerprint;

/// How long the file has to look the same before it is read.
pub(super) const QUIET_TIME: Duration = Duration::from_millis(100);
/// How long the file has to be missing before its absence counts.
const GONE: Duration = Duration::from_secs(2);
/// How long a file may go on changing before this attempt ends. The next change or poll starts another.
const BUSY_MAX: Duration = Duration::from_secs(5);

/// The next step after the file was observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextStep {
    /// Look again after [`QUIET_TIME`].
    CheckAgain,
    /// Read the file now.
    Read,
    /// Do nothing for now.
    GiveUp,
}

/// What was observed of the file since it changed.
#[derive(Debug)]
pub(super) struct Debouncer {
    started: Instant,
    fingerprint: Option<Fingerprint>,
    since: Instant,
}

impl Debouncer {
    /// Starts with the first observation; `None` if there is no file.
    pub(super) fn new(fingerprint: Option<Fingerprint>, now: Instant) -> Self {
        Self { started: now, fingerprint, since: now }
    }

    /// Takes in another observation, and returns the next step.
    pub(super) fn observe(&mut self, fingerprint: Option<Fingerprint>, now: Instant) -> NextStep {
        if fingerprint != self.fingerprint {
            (self.fingerprint, self.since) = (fingerprint, now);
            return if now - self.started < BUSY_MAX { NextStep::CheckAgain } else { NextStep::GiveUp };
        }
        let needed = if fingerprint.is_some() { QUIET_TIME } else { GONE };
        if now - self.since < needed { NextStep::CheckAgain } else { NextStep::Read }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the fingerprints of three files that all look different.
    fn observations() -> [Option<Fingerprint>; 3] {
        [1, 2, 3].map(|size| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), "x".repeat(size)).unwrap();
            Some(Fingerprint::of(file.path()).unwrap())
        })
    }

    #[test]
    fn a_file_that_is_being_written_is_not_read() {
        let ([first, second, third], started) = (observations(), Instant::now());
        let mut debouncer = Debouncer::new(first, started);
        let at = |hundreds: u32| started + QUIET_TIME * hundreds;
        assert_eq!(debouncer.observe(second, at(1)), NextStep::CheckAgain);
        assert_eq!(debouncer.observe(third, at(2)), NextStep::CheckAgain);
        assert_eq!(debouncer.observe(third, at(2) + QUIET_TIME / 2), NextStep::CheckAgain);
        assert_eq!(debouncer.observe(third, at(3)), NextStep::Read);
        let mut restless = Debouncer::new(first, started);
        assert_eq!(restless.observe(second, at(49)), NextStep::CheckAgain);
        assert_eq!(restless.observe(third, at(50)), NextStep::GiveUp);
    }

    #[test]
    fn a_file_that_is_gone_may_come_back() {
        let ([first, second, _], started) = (observations(), Instant::now());
        let mut debouncer = Debouncer::new(first, started);
        assert_eq!(debouncer.observe(None, started + QUIET_TIME), NextStep::CheckAgain);
        assert_eq!(debouncer.observe(None, started + GONE), NextStep::CheckAgain);
        assert_eq!(debouncer.observe(None, started + GONE + QUIET_TIME), NextStep::Read);
        assert_eq!(debouncer.observe(second, started + GONE + QUIET_TIME * 2), NextStep::CheckAgain);
        assert_eq!(debouncer.observe(second, started + GONE + QUIET_TIME * 3), NextStep::Read);
    }
}
