//! Decides when a changing file is at rest, so that it can be read: editors write in steps, and remove a file before
//! they put another one in its place. Reads no clock and no file.

use std::time::{Duration, Instant};

use guillemet_base::files::Fingerprint;

/// How long the file has to look the same before it is read.
pub(super) const REST: Duration = Duration::from_millis(100);
/// How long the file has to be missing before its absence counts.
const GONE: Duration = Duration::from_secs(2);
/// How long a file may go on changing before this attempt ends. The next change or poll starts another.
const RESTLESS: Duration = Duration::from_secs(5);

/// The next step after a look at the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Look again after [`REST`].
    Look,
    /// Read the file now.
    Read,
    /// Do nothing for now.
    GiveUp,
}

/// The looks at the file since it changed.
#[derive(Debug)]
pub(super) struct Rest {
    started: Instant,
    fingerprint: Option<Fingerprint>,
    since: Instant,
}

impl Rest {
    /// Starts with the first look; `None` if there is no file.
    pub(super) fn new(fingerprint: Option<Fingerprint>, now: Instant) -> Self {
        Self { started: now, fingerprint, since: now }
    }

    /// Takes in another look, and returns the next step.
    pub(super) fn look(&mut self, fingerprint: Option<Fingerprint>, now: Instant) -> Next {
        if fingerprint != self.fingerprint {
            (self.fingerprint, self.since) = (fingerprint, now);
            return if now - self.started < RESTLESS { Next::Look } else { Next::GiveUp };
        }
        let needed = if fingerprint.is_some() { REST } else { GONE };
        if now - self.since < needed { Next::Look } else { Next::Read }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the fingerprints of three files that all look different.
    fn looks() -> [Option<Fingerprint>; 3] {
        [1, 2, 3].map(|size| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), "x".repeat(size)).unwrap();
            Some(Fingerprint::of(file.path()).unwrap())
        })
    }

    #[test]
    fn a_file_that_is_being_written_is_not_read() {
        let ([first, second, third], started) = (looks(), Instant::now());
        let mut rest = Rest::new(first, started);
        let at = |hundreds: u32| started + REST * hundreds;
        assert_eq!(rest.look(second, at(1)), Next::Look);
        assert_eq!(rest.look(third, at(2)), Next::Look);
        assert_eq!(rest.look(third, at(2) + REST / 2), Next::Look);
        assert_eq!(rest.look(third, at(3)), Next::Read);
        let mut restless = Rest::new(first, started);
        assert_eq!(restless.look(second, at(49)), Next::Look);
        assert_eq!(restless.look(third, at(50)), Next::GiveUp);
    }

    #[test]
    fn a_file_that_is_gone_may_come_back() {
        let ([first, second, _], started) = (looks(), Instant::now());
        let mut rest = Rest::new(first, started);
        assert_eq!(rest.look(None, started + REST), Next::Look);
        assert_eq!(rest.look(None, started + GONE), Next::Look);
        assert_eq!(rest.look(None, started + GONE + REST), Next::Read);
        assert_eq!(rest.look(second, started + GONE + REST * 2), Next::Look);
        assert_eq!(rest.look(second, started + GONE + REST * 3), Next::Read);
    }
}
