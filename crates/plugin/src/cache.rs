//! Keeps compiled forms of plugins between runs: the daemon in its home, commands without a vault in the cache folder
//! of their user.
//!
//! Deserializing a compiled form runs what it says. So each one is kept under a MAC, with a key of the vault or one
//! beside it, in a folder to which nobody else has any right. A file that this user's own Guillemet did not write, or
//! that has changed since, is treated as absent. Losing one costs a compilation.

mod folder;

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sha2::{Digest, Sha256};

use self::folder::PrivateFolder;
use super::client::{CompiledCache, NoCache};
use guillemet_plan::protocol::FORM_MAX;
use guillemet_secret::crypto::Key;

/// The length of the MAC at the beginning of a file, in bytes.
const MAC_LEN: usize = 32;
/// The most bytes of all compiled forms in a folder; the ones unused for the longest time are removed.
const FOLDER_MAX: u64 = 1 << 30;
/// The extension of a compiled form's file.
const ENDING: &str = ".compiled";
/// The name of a key that is kept beside the forms it authenticates.
const KEY: &str = "key";

/// A cache of compiled forms in one folder.
pub struct CompiledForms {
    dir: PathBuf,
    /// The folder, opened on first use; `None` inside if it cannot be used.
    folder: OnceLock<Option<PrivateFolder>>,
    key: Key,
}

impl CompiledForms {
    /// Creates a cache in this folder, which need not exist yet, under this key.
    pub fn new(dir: PathBuf, key: Key) -> Self {
        Self { dir, folder: OnceLock::new(), key }
    }

    /// Opens the cache in this user's cache folder (`$XDG_CACHE_HOME/guillemet`, else `~/.cache/guillemet`), under a
    /// key that is created there: for commands that have no vault. `env` returns the environment's variables.
    ///
    /// # Errors
    /// Fails if no such folder can be used, if others have any right to it, or if its key is damaged.
    pub fn of_user(env: impl Fn(&str) -> Option<PathBuf>) -> io::Result<Self> {
        let set = |name: &str| env(name).filter(|path| path.is_absolute());
        let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
        let base = base.ok_or_else(|| io::Error::other("$XDG_CACHE_HOME and $HOME are both unset"))?;
        // Only the last folder is created: without a home directory, nothing is.
        match std::fs::DirBuilder::new().mode(0o700).create(&base) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let dir = base.join("guillemet");
        let folder = PrivateFolder::open(&dir)?;
        let key = match folder.read(KEY, 32) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match folder.write(KEY, &[Key::random().expose()], false) {
                    // Another command was faster.
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                    _ => folder.read(KEY, 32)?,
                }
            }
            key => key?,
        };
        let mut key: [u8; 32] = key.try_into().map_err(|_| io::Error::other("its key is damaged; remove it"))?;
        Ok(Self { dir, folder: OnceLock::from(Some(folder)), key: Key::from_bytes(&mut key) })
    }

    fn folder(&self) -> Option<&PrivateFolder> {
        let open = || {
            let failed = |error: &io::Error| {
                tracing::warn!(%error, folder = %self.dir.display(), "compiled plugins cannot be cached; they are \
                     compiled again at each start");
            };
            PrivateFolder::open(&self.dir).inspect_err(failed).ok()
        };
        self.folder.get_or_init(open).as_ref()
    }

    fn read_verified(&self, digest: &[u8; 32]) -> Option<Vec<u8>> {
        let mut bytes = self.folder()?.read(&name(digest), (FORM_MAX + MAC_LEN) as u64).ok()?;
        if bytes.len() < MAC_LEN {
            return None;
        }
        let compiled = bytes.split_off(MAC_LEN);
        self.key.verify_mac(&message(digest, &compiled), &bytes).then_some(compiled)
    }

    fn write(&self, digest: &[u8; 32], compiled: &[u8]) -> io::Result<()> {
        let Some(folder) = self.folder() else { return Ok(()) };
        folder.write(&name(digest), &[&self.key.mac(&message(digest, compiled)), compiled], true)?;
        folder.prune(ENDING, FOLDER_MAX)
    }
}

impl CompiledCache for CompiledForms {
    fn get(&self, digest: &[u8; 32]) -> Option<Vec<u8>> {
        self.read_verified(digest)
    }

    fn put(&self, digest: &[u8; 32], compiled: &[u8]) {
        if let Err(error) = self.write(digest, compiled) {
            tracing::warn!(%error, "a compiled plugin could not be cached; it will be compiled again");
        }
    }
}

/// Returns the cache of this user, or [`NoCache`] if it cannot be used.
pub fn of_user() -> Arc<dyn CompiledCache> {
    match CompiledForms::of_user(|name| std::env::var_os(name).map(PathBuf::from)) {
        Ok(forms) => Arc::new(forms),
        Err(error) => {
            tracing::debug!(%error, "compiled plugins are not cached");
            Arc::new(NoCache)
        }
    }
}

/// Reads the first cache, then the second, and writes to both.
pub struct LayeredCache(pub Arc<dyn CompiledCache>, pub Arc<dyn CompiledCache>);

impl CompiledCache for LayeredCache {
    fn get(&self, digest: &[u8; 32]) -> Option<Vec<u8>> {
        self.0.get(digest).or_else(|| self.1.get(digest))
    }

    fn put(&self, digest: &[u8; 32], form: &[u8]) {
        self.0.put(digest, form);
        self.1.put(digest, form);
    }
}

/// Keeps the compiled form of one component, the last, in memory: for components under development, which follow one
/// another and leave nothing behind.
#[derive(Default)]
pub struct LastForm(Mutex<Option<([u8; 32], Vec<u8>)>>);

impl CompiledCache for LastForm {
    fn get(&self, digest: &[u8; 32]) -> Option<Vec<u8>> {
        let cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cached.as_ref().filter(|(key, _)| key == digest).map(|(_, form)| form.clone())
    }

    fn put(&self, digest: &[u8; 32], form: &[u8]) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((*digest, form.to_vec()));
    }
}

/// Writes to a cache but never reads it, so that everything is compiled again: to measure what that takes.
pub struct WriteOnlyCache(pub Arc<dyn CompiledCache>);

impl CompiledCache for WriteOnlyCache {
    fn get(&self, _: &[u8; 32]) -> Option<Vec<u8>> {
        None
    }

    fn put(&self, digest: &[u8; 32], form: &[u8]) {
        self.0.put(digest, form);
    }
}

fn name(digest: &[u8; 32]) -> String {
    data_encoding::HEXLOWER.encode(digest) + ENDING
}

/// Returns the message that is authenticated: the digest of the component and that of its compiled form.
fn message(digest: &[u8; 32], compiled: &[u8]) -> Vec<u8> {
    [b"guillemet compiled plugin 2\0", digest.as_slice(), &Sha256::digest(compiled)].concat()
}

#[cfg(test)]
mod tests;
