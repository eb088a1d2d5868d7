//! The lock that allows one daemon (or rekey) per home.

use std::io::ErrorKind;

use super::store::VaultError;
use guillemet_base::home::Home;
use guillemet_base::lock_file::{LockError, LockFile};

/// The lock on a home. It is released when this is dropped, and when the process ends in any way. A process takes it
/// only once.
#[derive(Debug)]
pub struct DaemonLock {
    _lock: LockFile,
}

impl DaemonLock {
    /// Takes the lock of a home without waiting.
    ///
    /// # Errors
    /// [`VaultError::Locked`] if another daemon holds the lock, [`VaultError::NoVault`] if the home does not exist.
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
