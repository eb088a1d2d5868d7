//! One daemon for each home.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};

use super::store::VaultError;
use crate::files;
use crate::home::Home;

/// Held while a daemon runs on a home; given back when dropped, or when the process ends in any way.
///
/// It belongs to the process, not to the descriptor: a planner that is being started at the moment when the
/// daemon is killed does not keep the next daemon out. So a process takes it once.
#[derive(Debug)]
pub struct DaemonLock {
    _file: File,
}

impl DaemonLock {
    /// Takes the lock of a home.
    ///
    /// # Errors
    /// `Locked` while another daemon has it, `NoVault` where there is no home.
    pub fn acquire(home: &Home) -> Result<Self, VaultError> {
        let path = home.lock_file();
        let mut file = files::open_lock(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => VaultError::NoVault(home.vault_file()),
            _ => VaultError::File { path: path.clone(), source: error },
        })?;
        match rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::ACCESS) => {
                let mut pid = String::new();
                let _ = file.read_to_string(&mut pid);
                return Err(VaultError::Locked(pid.trim().parse().ok()));
            }
            locked => locked.map_err(|error| VaultError::File { path: path.clone(), source: error.into() })?,
        }
        // The pid is for people; the lock is what counts.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_child_that_has_its_file_does_not_keep_it() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        let lock = DaemonLock::acquire(&home).unwrap();
        // As in a child between fork and exec: the same open file.
        let inherited = Stdio::from(lock._file.try_clone().unwrap());
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(inherited).spawn().unwrap();
        drop(lock);
        let next = DaemonLock::acquire(&home);
        child.kill().unwrap();
        child.wait().unwrap();
        next.unwrap();
    }
}
