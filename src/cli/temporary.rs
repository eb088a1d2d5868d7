//! A home that goes away with the command it is for.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::Failure;
use guillemet_base::random::random;

/// A folder that is removed in the end.
pub struct TemporaryHome(PathBuf);

impl TemporaryHome {
    /// A new one, which nobody else can look into; `purpose` stands in its name.
    ///
    /// # Errors
    /// The system's.
    pub fn new(purpose: &str) -> Result<Self, Failure> {
        let name = format!("guillemet-{purpose}-{}", data_encoding::HEXLOWER.encode(&random::<6>()));
        let path = std::env::temp_dir().join(name);
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryHome {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
