//! One daemon for each home.

use std::io::ErrorKind;

use super::store::VaultError;
use crate::home::Home;
use crate::lock_file::{LockError, LockFile};

/// Held while a daemon runs on a home; given back when dropped, or when the process ends in any way. A process takes it
/// once.
#[derive(Debug)]
pub struct DaemonLock {
    _lock: LockFile,
}

impl DaemonLock {
    /// Takes the lock of a home.
    ///
    /// # Errors
    /// `Locked` while another daemon has it, `NoVault` where there is no home.
    pub fn acquire(home: &Home) -> Result<Self, VaultError> {
        let path = home.lock_file();
        match LockFile::acquire(&path, "") {
            Ok(lock) => Ok(Self { _lock: lock }),
            Err(LockError::Held(holder)) => Err(VaultError::Locked(holder.pid)),
            Err(LockError::Io(error)) if error.kind() == ErrorKind::NotFound => {
                Err(VaultError::NoVault(home.vault_file()))
            }
            Err(LockError::Io(source)) => Err(VaultError::File { path, source }),
        }
    }
}
