//! Compiled forms of plugins, kept between runs.
//!
//! Deserializing a compiled form runs what it says, so each is kept under a MAC with a key of the vault:
//! a file that this daemon did not write, or that changed since, does not exist. Losing one costs a
//! compilation.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use super::client::CompiledCache;
use crate::vault::crypto::Key;

/// Bytes of the MAC at the beginning of a file.
const MAC_LEN: usize = 32;

/// The folder of compiled forms.
pub struct CompiledForms {
    dir: PathBuf,
    key: Key,
}

impl CompiledForms {
    /// In this folder, which need not exist, under this key.
    pub fn new(dir: PathBuf, key: Key) -> Self {
        Self { dir, key }
    }

    fn genuine(&self, digest: &[u8; 32]) -> Option<Vec<u8>> {
        let mut bytes = fs::read(self.file(digest)).ok()?;
        if bytes.len() < MAC_LEN {
            return None;
        }
        let compiled = bytes.split_off(MAC_LEN);
        let genuine = self.key.verify_mac(&message(digest, &compiled), &bytes);
        genuine.then_some(compiled)
    }

    fn write(&self, digest: &[u8; 32], compiled: &[u8]) -> std::io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let path = self.file(digest);
        let temporary = path.with_extension("new");
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(&self.key.mac(&message(digest, compiled)))?;
        file.write_all(compiled)?;
        fs::rename(temporary, path)
    }

    fn file(&self, digest: &[u8; 32]) -> PathBuf {
        self.dir.join(data_encoding::HEXLOWER.encode(digest)).with_extension("compiled")
    }
}

impl CompiledCache for CompiledForms {
    fn get(&self, digest: &[u8; 32]) -> Option<Vec<u8>> {
        self.genuine(digest)
    }

    fn put(&self, digest: &[u8; 32], compiled: &[u8]) {
        if let Err(error) = self.write(digest, compiled) {
            tracing::warn!(%error, "a compiled plugin could not be kept; it will be compiled again");
        }
    }
}

/// What is authenticated: which component, and its compiled form.
fn message(digest: &[u8; 32], compiled: &[u8]) -> Vec<u8> {
    [b"guillemet compiled plugin 1\0", digest.as_slice(), compiled].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_put_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let cache = CompiledForms::new(dir.path().join("cache"), Key::random());
        cache.put(&[1; 32], b"compiled");
        assert_eq!(cache.get(&[1; 32]).unwrap(), b"compiled");
        assert!(cache.get(&[2; 32]).is_none());

        // Another component's compiled form under this one's name, and a changed one.
        fs::copy(cache.file(&[1; 32]), cache.file(&[2; 32])).unwrap();
        assert!(cache.get(&[2; 32]).is_none());
        let mut bytes = fs::read(cache.file(&[1; 32])).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(cache.file(&[1; 32]), bytes).unwrap();
        assert!(cache.get(&[1; 32]).is_none());

        let other = CompiledForms::new(dir.path().join("cache"), Key::random());
        cache.put(&[1; 32], b"compiled");
        assert!(other.get(&[1; 32]).is_none());
    }
}
