//! Finds out from its metadata alone whether a file has changed. Reads no content.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A file that changed less than this before it was looked at may change again without looking different.
const GRAIN: Duration = Duration::from_millis(100);
/// The same for a file system that keeps whole seconds, or every second one (FAT).
const COARSE_GRAIN: Duration = Duration::from_millis(2100);

/// The outside appearance of a file. Once it is settled, changed content always has another fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Fingerprint {
    /// Returns the fingerprint of the file that a path leads to.
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn of(path: &Path) -> io::Result<Self> {
        Ok(Self::from_metadata(&fs::metadata(path)?))
    }

    /// Returns the fingerprint of a file that was looked up in an open folder.
    pub fn from_statx(statx: &rustix::fs::Statx) -> Self {
        let time = |time: rustix::fs::StatxTimestamp| (time.tv_sec, i64::from(time.tv_nsec));
        Self {
            device: rustix::fs::makedev(statx.stx_dev_major, statx.stx_dev_minor),
            inode: statx.stx_ino,
            size: statx.stx_size,
            modified: time(statx.stx_mtime),
            changed: time(statx.stx_ctime),
        }
    }

    /// Returns the fingerprint of the file that this metadata describes.
    pub fn from_metadata(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Returns the size of the file in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the time that must be between two changes for them to have different times, with a margin.
    pub fn grain(&self) -> Duration {
        if self.modified.1 == 0 && self.changed.1 == 0 { COARSE_GRAIN } else { GRAIN }
    }

    /// Reports whether the last change is long enough ago that the next one is sure to look different. A time in the
    /// future proves nothing. Both times count, because the modification time can be set by hand.
    pub fn is_settled(&self) -> bool {
        let now = SystemTime::now();
        let is_past = |(seconds, nanoseconds): (i64, i64)| {
            let (Ok(seconds), Ok(nanoseconds)) = (u64::try_from(seconds), u32::try_from(nanoseconds)) else {
                // A time before 1970.
                return true;
            };
            let time = UNIX_EPOCH + Duration::new(seconds, nanoseconds);
            now.duration_since(time).is_ok_and(|age| age >= self.grain())
        };
        is_past(self.modified) && is_past(self.changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_settled_when_its_last_change_is_past() {
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
        let now = seconds(SystemTime::now());
        let is_settled = |modified, changed| {
            let other = Fingerprint { device: 1, inode: 1, size: 1, modified, changed };
            other.is_settled()
        };
        for past in [(now - 1, 1), (0, 1), (-1, 500_000_000), (-9, 1)] {
            assert!(is_settled(past, past), "{past:?}");
            // The modification time can be set, which is a change too.
            assert!(!is_settled(past, (now + 1, 1)), "{past:?}");
        }
        assert!(!is_settled((now + 9, 1), (now - 1, 1)));
        // Whole seconds: the file may have changed at any time within the last one.
        assert!(!is_settled((now - 1, 0), (now - 1, 0)));
        assert!(is_settled((now - 4, 0), (now - 4, 0)));
    }
}
