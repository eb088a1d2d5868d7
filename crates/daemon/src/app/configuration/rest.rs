//! Whether the file rests, by what looks at it show: editors write in steps, and take a file away before they put
//! another one there. Reads no clock and no file.

use std::time::{Duration, Instant};

use guillemet_base::files::Fingerprint;

/// For how long the file has to look the same before it is read.
pub(super) const REST: Duration = Duration::from_millis(100);
/// For how long it may be gone.
const GONE: Duration = Duration::from_secs(2);
/// For how long it is waited for to rest, before somebody else has to begin again.
const RESTLESS: Duration = Duration::from_secs(5);

/// What is to be done after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Look again, after `REST`.
    Look,
    /// Read it.
    Read,
    /// Nothing for now.
    GiveUp,
}

/// What looks have shown since the file changed.
#[derive(Debug)]
pub(super) struct Rest {
    begun: Instant,
    seen: Option<Fingerprint>,
    since: Instant,
}

impl Rest {
    /// Begins with a first look; `None` where there is no file.
    pub(super) fn new(seen: Option<Fingerprint>, now: Instant) -> Self {
        Self { begun: now, seen, since: now }
    }

    /// Takes another look in.
    pub(super) fn look(&mut self, seen: Option<Fingerprint>, now: Instant) -> Next {
        if seen != self.seen {
            (self.seen, self.since) = (seen, now);
            return if now - self.begun < RESTLESS { Next::Look } else { Next::GiveUp };
        }
        let needed = if seen.is_some() { REST } else { GONE };
        if now - self.since < needed { Next::Look } else { Next::Read }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fingerprints of files that look different.
    fn looks() -> [Option<Fingerprint>; 3] {
        [1, 2, 3].map(|size| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), "x".repeat(size)).unwrap();
            Some(Fingerprint::of(file.path()).unwrap())
        })
    }

    #[test]
    fn a_file_that_is_being_written_is_not_read() {
        let ([first, second, third], begun) = (looks(), Instant::now());
        let mut rest = Rest::new(first, begun);
        let at = |hundreds: u32| begun + REST * hundreds;
        assert_eq!(rest.look(second, at(1)), Next::Look);
        assert_eq!(rest.look(third, at(2)), Next::Look);
        assert_eq!(rest.look(third, at(2) + REST / 2), Next::Look);
        assert_eq!(rest.look(third, at(3)), Next::Read);
        let mut restless = Rest::new(first, begun);
        assert_eq!(restless.look(second, at(49)), Next::Look);
        assert_eq!(restless.look(third, at(50)), Next::GiveUp);
    }

    #[test]
    fn a_file_that_is_gone_may_come_back() {
        let ([first, second, _], begun) = (looks(), Instant::now());
        let mut rest = Rest::new(first, begun);
        assert_eq!(rest.look(None, begun + REST), Next::Look);
        assert_eq!(rest.look(None, begun + GONE), Next::Look);
        assert_eq!(rest.look(None, begun + GONE + REST), Next::Read);
        assert_eq!(rest.look(second, begun + GONE + REST * 2), Next::Look);
        assert_eq!(rest.look(second, begun + GONE + REST * 3), Next::Read);
    }
}
