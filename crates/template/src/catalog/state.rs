//! The state of a file at one reading, and whether its metadata alone can show that it is unchanged. Reads nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use guillemet_base::files::Fingerprint;

/// The state of a file at one reading.
#[derive(Debug)]
pub(super) struct FileState {
    /// The fingerprint, taken after the bytes were read; `None` if the file could not be read.
    fingerprint: Option<Fingerprint>,
    /// The SHA-256 of the bytes; zeros if they were not read.
    digest: [u8; 32],
    started: Instant,
    finished: Instant,
    /// Whether the next change of the file is certain to give it another fingerprint.
    settled: AtomicBool,
}

impl FileState {
    /// Records a reading that has just ended.
    pub fn of(fingerprint: Fingerprint, digest: [u8; 32], started: Instant) -> Self {
        let settled = AtomicBool::new(fingerprint.is_settled());
        Self { fingerprint: Some(fingerprint), digest, started, finished: Instant::now(), settled }
    }

    /// Records a file that could not be read.
    pub fn unread() -> Self {
        let now = Instant::now();
        Self { fingerprint: None, digest: [0; 32], started: now, finished: now, settled: AtomicBool::new(false) }
    }

    pub fn is_unread(&self) -> bool {
        self.fingerprint.is_none()
    }

    /// Returns the SHA-256 of the bytes that were read; zeros if there were none.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Returns the size of the file in bytes; 0 if it could not be read.
    pub fn size(&self) -> u64 {
        self.fingerprint.map_or(0, |fingerprint| fingerprint.size())
    }

    /// Reports whether the metadata alone can show that the file is unchanged.
    pub fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed)
    }

    /// Reports whether a file with the fingerprint that `now` returns is certainly unchanged.
    pub fn is_current(&self, now: impl FnOnce() -> Option<Fingerprint>) -> bool {
        self.is_settled() && self.fingerprint.is_some_and(|fingerprint| now() == Some(fingerprint))
    }

    /// Reports whether both readings found the same bytes and the same fingerprint.
    pub fn is_same(&self, other: &Self) -> bool {
        self.fingerprint.is_some() && (self.fingerprint, self.digest) == (other.fingerprint, other.digest)
    }

    /// Records another reading for which `is_same` is true. Two readings that are further apart than the resolution of
    /// the file system's clock settle the file, whatever its times are: a change after the second reading gets a later
    /// change time than one before the first.
    pub fn confirm(&self, other: &Self) {
        let after = |first: &Self, second: &Self| second.started.saturating_duration_since(first.finished);
        let distance = after(self, other).max(after(other, self));
        if other.is_settled() || self.fingerprint.is_some_and(|fingerprint| distance >= fingerprint.grain()) {
            self.settled.store(true, Ordering::Relaxed);
        }
    }
}
