//! A file that one process holds and that names its holder. Knows neither what the lock is for nor what it guards.
//!
//! The kernel gives the lock back when its process ends, in whatever way. It belongs to the process, not to a
//! descriptor: a child between fork and exec does not keep it, and a process must not open a lock file that it holds
//! a second time, because closing that descriptor would give the lock back.
//!
//! The file stays when the lock is given back. If each holder deleted it, two could hold two files of one name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};
use rustix::process::{Flock, FlockType, Pid};

use crate::files::FileId;

/// How many bytes of a lock file are read, at most.
const TEXT_MAX: u64 = 8 << 10;
/// How often a file that vanishes while it is being locked is made again, before that is an error.
const ATTEMPTS: usize = 16;

/// A lock file that this process holds until it is dropped.
#[derive(Debug)]
pub struct LockFile {
    path: PathBuf,
    id: FileId,
    _file: File,
}

/// Who holds a lock, as far as that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// The process; `None` where it is of another pid namespace.
    pub pid: Option<u32>,
    /// The note it left, empty while it is being written.
    pub note: String,
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("another process holds it")]
    Held(Holder),
    /// The file is not one of this user's.
    #[error("it is no regular file of this user; move it away")]
    NotOurs,
    /// The operating system.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl LockFile {
    /// Takes the lock and notes who holds it: the pid, and `note` for people. Makes the file (0600) where there is none.
    ///
    /// # Errors
    /// `Held` while another process has it; `NotOurs` for a link, anything but a regular file, or a file of another
    /// user; the system's.
    pub fn acquire(path: &Path, note: &str) -> Result<Self, LockError> {
        for _ in 0..ATTEMPTS {
            let mut file = open(path)?;
            match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::ACCESS) => {
                    return Err(LockError::Held(holder(&mut file)));
                }
                locked => locked.map_err(io::Error::from)?,
            }
            let lock = Self { path: path.to_owned(), id: FileId::from_metadata(&file.metadata()?), _file: file };
            // Removed between opening and locking: whoever opens that name now gets another file.
            if lock.is_in_place() {
                // For people; the lock is what counts.
                let mut file = &lock._file;
                let _ = file.set_len(0).and_then(|()| write!(file, "{}\n{note}", std::process::id()));
                return Ok(lock);
            }
        }
        Err(io::Error::other("it keeps vanishing").into())
    }

    /// Whether the file that is held still has its name. If not, another process may hold another file of that name.
    pub fn is_in_place(&self) -> bool {
        FileId::of_name(&self.path).is_ok_and(|id| id == self.id)
    }

    /// Returns who holds a lock file, or `None` if nobody does. Not for a file that this process holds.
    ///
    /// # Errors
    /// The system's, when it cannot be opened for reading.
    pub fn holder(path: &Path) -> io::Result<Option<Holder>> {
        let (mut file, _) = crate::files::open_regular(path, crate::files::Links::Refuse)?;
        let wanted = Flock::from(FlockType::WriteLock);
        match rustix::process::fcntl_getlk(&file, &wanted)? {
            None => Ok(None),
            Some(held) => {
                let pid = held.pid.map(Pid::as_raw_pid).and_then(|pid| u32::try_from(pid).ok());
                let noted = holder(&mut file);
                Ok(Some(Holder { pid: pid.or(noted.pid), ..noted }))
            }
        }
    }
}

/// Opens a lock file of this user without following a link, waiting, or changing it.
fn open(path: &Path) -> Result<File, LockError> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags.bits().cast_signed());
    let file = options.open(path).map_err(|error| match fs::symlink_metadata(path) {
        Ok(there) if !there.is_file() => LockError::NotOurs,
        _ => error.into(),
    })?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(LockError::NotOurs);
    }
    Ok(file)
}

/// Who the file says holds it.
fn holder(file: &mut File) -> Holder {
    let mut bytes = Vec::new();
    let _ = file.take(TEXT_MAX).read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let (pid, note) = text.split_once('\n').unwrap_or((&text, ""));
    Holder { pid: pid.trim().parse().ok(), note: note.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_ours_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (target, path) = (dir.path().join("target"), dir.path().join("it.lock"));
        fs::write(&target, "kept").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        assert!(matches!(LockFile::acquire(&path, ""), Err(LockError::NotOurs)));
        assert_eq!(fs::read_to_string(&target).unwrap(), "kept");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(LockFile::acquire(&path, ""), Err(LockError::NotOurs)));
    }

    #[test]
    fn one_that_is_gone_or_replaced_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("it.lock");
        let lock = LockFile::acquire(&path, "/a home").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n/a home", std::process::id()));
        assert!(lock.is_in_place());
        fs::remove_file(&path).unwrap();
        assert!(!lock.is_in_place());
        let next = LockFile::acquire(&path, "").unwrap();
        assert!(next.is_in_place() && !lock.is_in_place());
    }
}
