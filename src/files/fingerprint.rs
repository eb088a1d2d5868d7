//! Whether a file has changed, by its metadata alone. Reads no content.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A file that changed this shortly before it was looked at may change again without looking different.
const RACY: Duration = Duration::from_millis(100);

/// How a file looks from outside: another content has another fingerprint, once it is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Fingerprint {
    /// Of the file behind a path.
    ///
    /// # Errors
    /// The system's.
    pub fn of(path: &Path) -> io::Result<Self> {
        Ok(Self::from_metadata(&fs::metadata(path)?))
    }

    /// Returns the one of a file that was looked up in a folder that is open.
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

    /// Of what the system says of a file.
    pub fn from_metadata(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether it had not changed for a while: then the next change looks different.
    pub fn is_settled(&self) -> bool {
        let (Ok(seconds), Ok(nanoseconds)) = (u64::try_from(self.modified.0), u32::try_from(self.modified.1)) else {
            // A time before 1970.
            return true;
        };
        let modified = UNIX_EPOCH + Duration::new(seconds, nanoseconds);
        SystemTime::now().duration_since(modified).is_ok_and(|age| age >= RACY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_settled_when_its_last_change_is_past() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let is_settled = |time: SystemTime| {
            file.as_file().set_modified(time).unwrap();
            Fingerprint::of(file.path()).unwrap().is_settled()
        };
        let second = Duration::from_secs(1);
        for past in [SystemTime::now() - second, UNIX_EPOCH, UNIX_EPOCH - second / 2, UNIX_EPOCH - 9 * second] {
            assert!(is_settled(past), "{past:?}");
        }
        for other in [SystemTime::now(), SystemTime::now() + 9 * second] {
            assert!(!is_settled(other), "{other:?}");
        }
    }
}
