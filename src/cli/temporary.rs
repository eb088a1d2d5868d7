//! A temporary home that is removed when the command that made it ends.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::Failure;
use guillemet_base::random::random;

/// A temporary folder that is removed when this is dropped.
pub struct TemporaryHome(PathBuf);

impl TemporaryHome {
    /// Creates a new folder with mode 0700. `purpose` becomes part of its name.
    ///
    /// # Errors
    /// When the system cannot create the folder.
    pub fn new(purpose: &str) -> Result<Self, Failure> {
        let name = format!("guillemet-{purpose}-{}", data_encoding::HEXLOWER.encode(&random::<6>()));
        let path = std::env::temp_dir().join(name);
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryHome {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
