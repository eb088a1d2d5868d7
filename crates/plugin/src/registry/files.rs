//! The files of the plugins that users added, and the steps in which one takes the place of another.
//!
//! A feature has up to three files: the plugin in force (`.wasm`), the one before it (`.former`), and, for the moment
//! of a change, the next one (`.next`). The pin in the vault alone decides which of them is used: a change first stages
//! the next file, then pins it, then puts the files in their places. Interrupted before the pin, the old plugin stays
//! in force; interrupted after it, the next start completes the change. Knows nothing of planners.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{AddError, COMPONENT_MAX, FormerPin, FormerPlugin, Pin, hex};
use guillemet_base::files::{self, Fingerprint, Links};

/// The folder of the added plugins.
#[derive(Clone)]
pub(super) struct PluginFiles {
    dir: PathBuf,
}

impl PluginFiles {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Returns the file of the plugin that is in force.
    pub(super) fn present(&self, feature: &str) -> PathBuf {
        self.dir.join(format!("{feature}.wasm"))
    }

    /// Returns the file of the plugin that was in force before. Its extension keeps `template check` from using it.
    pub(super) fn former(&self, feature: &str) -> PathBuf {
        self.dir.join(format!("{feature}.former"))
    }

    /// Returns the file of a plugin that is about to be pinned.
    fn staged(&self, feature: &str) -> PathBuf {
        self.dir.join(format!("{feature}.next"))
    }

    /// Writes the file of a plugin that is about to be pinned. Creates the folder if there is none.
    ///
    /// # Errors
    /// The error of the operating system.
    pub(super) fn stage(&self, feature: &str, component: &[u8]) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        files::replace(&self.staged(feature), component)
    }

    /// Removes the file of a plugin that was not pinned after all. One that cannot be removed is never used.
    pub(super) fn discard_staged(&self, feature: &str) {
        if let Err(error) = remove_file(&self.staged(feature)) {
            tracing::debug!(feature, "a staged plugin cannot be removed: {error}");
        }
    }

    /// Returns the staged component, if it has this digest.
    pub(super) fn staged_component(&self, feature: &str, digest: &str) -> Option<Vec<u8>> {
        read_component(&self.staged(feature)).ok().filter(|component| digest_of(component) == digest)
    }

    /// Puts the files of a feature in the places that its pin says. `replaced` is the component that was in force until
    /// now, for when its file no longer holds it.
    ///
    /// # Errors
    /// The error of the operating system. The files can be completed by another call then.
    pub(super) fn settle(&self, pin: &Pin, replaced: Option<&[u8]>) -> io::Result<()> {
        let (present, former) = (self.present(&pin.feature), self.former(&pin.feature));
        let kept = pin.former.as_ref().and_then(|former| former.digest.as_deref());
        match kept {
            // The replaced plugin is kept before its file is overwritten.
            Some(digest) if !has_digest(&former, digest) => {
                let in_place = || read_component(&present).ok().filter(|component| digest_of(component) == digest);
                let replaced = replaced.filter(|component| digest_of(component) == digest).map(<[u8]>::to_vec);
                if let Some(component) = replaced.or_else(in_place) {
                    files::replace(&former, &component)?;
                }
            }
            Some(_) => {}
            None => remove_file(&former)?,
        }
        match &pin.digest {
            Some(digest) => {
                if let Some(component) = self.staged_component(&pin.feature, digest) {
                    files::replace(&present, &component)?;
                }
            }
            None => remove_file(&present)?,
        }
        remove_file(&self.staged(&pin.feature))
    }

    /// Completes a change that was interrupted. If that fails, the log says so, and the plugin that is pinned is used
    /// from where it is.
    pub(super) fn finish(&self, pin: &Pin) {
        let is_interrupted =
            self.staged(&pin.feature).exists() || (pin.digest.is_none() && self.present(&pin.feature).exists());
        if is_interrupted && let Err(error) = self.settle(pin, None) {
            tracing::warn!(feature = pin.feature, "the files of a plugin cannot be put in place: {error}");
        }
    }

    /// Returns the former plugin of a feature, with the reason why its file cannot be used if it does not match its
    /// pin.
    pub(super) fn former_plugin(&self, feature: &str, pin: &FormerPin) -> FormerPlugin {
        let Some(digest) = &pin.digest else {
            return FormerPlugin { pin: pin.clone(), problem: None, fingerprint: None };
        };
        let (problem, fingerprint) = match read_with_fingerprint(&self.former(feature)) {
            Err(error) => (Some(error.to_string()), None),
            Ok((component, fingerprint)) => {
                let problem = self.former_mismatch(feature, digest, &component);
                (problem, Some(fingerprint).filter(Fingerprint::is_settled))
            }
        };
        FormerPlugin { pin: pin.clone(), problem, fingerprint }
    }

    /// Returns the reason why these bytes are not the former plugin; `None` if they are.
    pub(super) fn former_mismatch(&self, feature: &str, pinned: &str, component: &[u8]) -> Option<String> {
        let digest = digest_of(component);
        let changed = || {
            let file = self.former(feature);
            format!("{} has changed since it was kept (SHA-256 {pinned}, now {digest}) and is not used", file.display())
        };
        (digest != pinned).then(changed)
    }

    /// Removes every file of a feature. Returns the first error, with its file, after trying all.
    ///
    /// # Errors
    /// The file and the error of the operating system.
    pub(super) fn remove(&self, feature: &str) -> Result<(), (PathBuf, io::Error)> {
        let files = [self.present(feature), self.former(feature), self.staged(feature)];
        let failed = files.map(|file| remove_file(&file).map_err(|error| (file, error)));
        failed.into_iter().collect()
    }
}

fn digest_of(component: &[u8]) -> String {
    hex(&Sha256::digest(component))
}

fn has_digest(path: &Path, digest: &str) -> bool {
    read_component(path).is_ok_and(|component| digest_of(&component) == digest)
}

/// Reads the file of a component.
///
/// # Errors
/// Fails with [`AddError::Unreadable`], and with [`AddError::Unfit`] if it is not a regular file or is too large.
pub fn read_component(path: &Path) -> Result<Vec<u8>, AddError> {
    Ok(read_with_fingerprint(path)?.0)
}

/// Does the same and also returns the file's fingerprint from before it was read: a change in between shows as another
/// fingerprint.
pub(super) fn read_with_fingerprint(path: &Path) -> Result<(Vec<u8>, Fingerprint), AddError> {
    let read = files::read_regular(path, Links::Follow, COMPONENT_MAX);
    let (component, metadata) = read.map_err(|error| match error.kind() {
        ErrorKind::InvalidInput | ErrorKind::FileTooLarge => AddError::Unfit(format!(
            "{} is not a plugin: it must be a file of at most {} MiB",
            path.display(),
            COMPONENT_MAX >> 20
        )),
        _ => AddError::Unreadable(format!("{} cannot be read: {error}", path.display())),
    })?;
    Ok((component, Fingerprint::from_metadata(&metadata)))
}

/// Removes a file. One that does not exist is no error.
fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
