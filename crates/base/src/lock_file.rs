//! A file that one process at a time can hold and that names its holder. Does not know what the lock is for or what it
//! guards.
//!
//! The kernel releases the lock when its process ends in any way. The lock belongs to the process and not to a
//! descriptor. So a child between fork and exec does not keep it, and a process must not open a lock file that it holds
//! a second time, because closing that descriptor would release the lock.
//!
//! The file stays when the lock is released. If each holder deleted it, two processes could hold two files of the same
//! name.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::process::{Flock, FlockType, Pid};

use crate::files::{self, FileId, Links};

/// The most bytes that are read of a lock file.
const TEXT_MAX: u64 = 8 << 10;
/// How often a file that vanishes while it is being locked is created again before that is an error.
const ATTEMPTS: usize = 16;

/// A lock file that this process holds. The lock is released when this is dropped.
#[derive(Debug)]
pub struct LockFile {
    path: PathBuf,
    id: FileId,
    _file: File,
}

/// The holder of a lock, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockHolder {
    /// The process id; `None` if the process is in another pid namespace.
    pub pid: Option<u32>,
    /// The note that the holder left in the file; empty while it is being written.
    pub note: String,
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds the lock.
    #[error("another process has locked it")]
    Held(LockHolder),
    /// The lock file cannot be opened or locked.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl LockFile {
    /// Takes the lock without waiting, and writes the process id and `note` into the file, for people. Creates the file
    /// (0600) if it is missing.
    ///
    /// # Errors
    /// [`LockError::Held`] while another process holds it; otherwise [`LockError::Io`] with an error of
    /// [`files::open_lock`].
    pub fn acquire(path: &Path, note: &str) -> Result<Self, LockError> {
        for _ in 0..ATTEMPTS {
            let mut file = files::open_lock(path)?;
            match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::ACCESS) => {
                    return Err(LockError::Held(holder(&mut file)));
                }
                locked => locked.map_err(io::Error::from)?,
            }
            let lock = Self { path: path.to_owned(), id: FileId::from_metadata(&file.metadata()?), _file: file };
            // The file was removed between opening and locking, so the next process to open that name gets another
            // file.
            if lock.is_in_place() {
                // For people only, so failing to write it is ignored: the lock itself is what counts.
                let mut file = &lock._file;
                let _ = file.set_len(0).and_then(|()| write!(file, "{}\n{note}", std::process::id()));
                return Ok(lock);
            }
        }
        Err(io::Error::other("it keeps disappearing").into())
    }

    /// Reports whether the held file still has its name. If not, another process may hold another file of that name.
    pub fn is_in_place(&self) -> bool {
        FileId::of_name(&self.path).is_ok_and(|id| id == self.id)
    }

    /// Returns the holder of a lock file, or `None` if it is not held. Must not be called for a file that this process
    /// holds.
    ///
    /// # Errors
    /// The error of the operating system if the file cannot be opened for reading.
    pub fn holder(path: &Path) -> io::Result<Option<LockHolder>> {
        let (mut file, _) = files::open_regular(path, Links::Refuse)?;
        let query = Flock::from(FlockType::WriteLock);
        match rustix::process::fcntl_getlk(&file, &query)? {
            None => Ok(None),
            Some(lock) => {
                let pid = lock.pid.map(Pid::as_raw_pid).and_then(|pid| u32::try_from(pid).ok());
                let recorded = holder(&mut file);
                Ok(Some(LockHolder { pid: pid.or(recorded.pid), ..recorded }))
            }
        }
    }
}

/// Reads the holder from the content of the file.
fn holder(file: &mut File) -> LockHolder {
    let mut bytes = Vec::new();
    let _ = file.take(TEXT_MAX).read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let (pid, note) = text.split_once('\n').unwrap_or((&text, ""));
    LockHolder { pid: pid.trim().parse().ok(), note: note.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_child_that_has_its_file_does_not_keep_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("it.lock");
        let lock = LockFile::acquire(&path, "").unwrap();
        // The same open file, as a child has it between fork and exec.
        let inherited = Stdio::from(lock._file.try_clone().unwrap());
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(inherited).spawn().unwrap();
        drop(lock);
        let next = LockFile::acquire(&path, "");
        child.kill().unwrap();
        child.wait().unwrap();
        next.unwrap();
    }

    #[test]
    fn a_file_that_is_not_ours_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (target, path) = (dir.path().join("target"), dir.path().join("it.lock"));
        fs::write(&target, "kept").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        assert!(matches!(LockFile::acquire(&path, ""), Err(LockError::Io(_))));
        assert_eq!(fs::read_to_string(&target).unwrap(), "kept");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(LockFile::acquire(&path, ""), Err(LockError::Io(_))));
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
