//! How a file was when it was read, and whether its metadata alone tells that it is so still. Reads nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::files::Fingerprint;

/// One reading of a file.
#[derive(Debug)]
pub(super) struct FileState {
    /// Asked for after the bytes were read; `None` where the file could not be read.
    fingerprint: Option<Fingerprint>,
    /// The SHA-256 of the bytes; zeros where they were not read.
    digest: [u8; 32],
    begun: Instant,
    ended: Instant,
    /// Whether the next change of the file is sure to give it another fingerprint.
    settled: AtomicBool,
}

impl FileState {
    /// Of a reading that has just come to its end.
    pub fn of(fingerprint: Fingerprint, digest: [u8; 32], begun: Instant) -> Self {
        let settled = AtomicBool::new(fingerprint.is_settled());
        Self { fingerprint: Some(fingerprint), digest, begun, ended: Instant::now(), settled }
    }

    /// Of a file that could not be read.
    pub fn unread() -> Self {
        let now = Instant::now();
        Self { fingerprint: None, digest: [0; 32], begun: now, ended: now, settled: AtomicBool::new(false) }
    }

    pub fn is_unread(&self) -> bool {
        self.fingerprint.is_none()
    }

    /// Returns the SHA-256 of what was read.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Returns the size of the file in bytes; 0 where it could not be read.
    pub fn size(&self) -> u64 {
        self.fingerprint.map_or(0, |fingerprint| fingerprint.size())
    }

    /// Whether the metadata alone can tell that the file is what it was.
    pub fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed)
    }

    /// Whether a file that looks like this now is sure to be what it was.
    pub fn is_current(&self, now: impl FnOnce() -> Option<Fingerprint>) -> bool {
        self.is_settled() && self.fingerprint.is_some_and(|fingerprint| now() == Some(fingerprint))
    }

    /// Whether both found the same bytes in a file that looked the same.
    pub fn is_same(&self, other: &Self) -> bool {
        self.fingerprint.is_some() && (self.fingerprint, self.digest) == (other.fingerprint, other.digest)
    }

    /// Takes note of another reading that `is_same`. Two readings that lie further apart than the grain of the file
    /// system's clock settle the file, whatever its times say: a change after the second has a later change time
    /// than one before the first.
    pub fn confirm(&self, other: &Self) {
        let after = |first: &Self, second: &Self| second.begun.saturating_duration_since(first.ended);
        let apart = after(self, other).max(after(other, self));
        if other.is_settled() || self.fingerprint.is_some_and(|fingerprint| apart >= fingerprint.grain()) {
            self.settled.store(true, Ordering::Relaxed);
        }
    }
}
