//! How a vault is unlocked: key files, passphrases, and opening the box that holds the vault's key.

use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::passphrase::Passphrase;
use super::store::VaultError;
use guillemet_base::files::{self, Links};
use guillemet_base::random::random;
use guillemet_secret::crypto::{Key, PassphraseCost};
use guillemet_secret::reader::{NotASecret, line_in, read_file};

/// How a vault is unlocked; stored in the vault. [`METHODS`] describes each method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A file that holds a key and that only its owner can read.
    KeyFile,
    /// A passphrase, stretched by Argon2id.
    Passphrase,
}

/// What must be available before the vault can be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// The key file in the home.
    KeyFile,
    /// A passphrase: typed at a terminal, or read from a descriptor.
    Passphrase,
}

/// A row of the table of methods, [`METHODS`].
#[derive(Debug)]
pub struct MethodRow {
    /// The method that this row describes.
    pub method: Method,
    /// The name in the vault file, on the command line and in the API.
    pub name: &'static str,
    /// A short description, for help texts.
    pub summary: &'static str,
    /// What the daemon needs at every start.
    pub needs: Needs,
    /// What the operator can do when the key does not open the vault.
    pub wrong_key: &'static str,
}

/// All methods, in the order of [`Method`]. The names are stored in vaults, so an existing one must never change.
pub const METHODS: [MethodRow; 2] = [
    MethodRow {
        method: Method::KeyFile,
        name: "keyfile",
        summary: "A key file that only its owner can read",
        needs: Needs::KeyFile,
        wrong_key: "Restore the vault.key that belongs to this vault.db",
    },
    MethodRow {
        method: Method::Passphrase,
        name: "passphrase",
        summary: "A passphrase",
        needs: Needs::Passphrase,
        wrong_key: "Try again",
    },
];

const _: () = {
    let mut at = 0;
    while at < METHODS.len() {
        assert!(METHODS[at].method as usize == at, "the table has the order of `Method`");
        at += 1;
    }
};

impl Method {
    /// Returns the row of the table that describes this method.
    pub fn row(self) -> &'static MethodRow {
        &METHODS[self as usize]
    }

    /// Returns the name, as the vault stores it.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Returns the method with this name, or `None` if no method has it.
    pub fn from_name(name: &str) -> Option<Self> {
        METHODS.iter().find(|row| row.name == name).map(|row| row.method)
    }
}

/// The credential that is at hand to open a vault.
#[derive(Debug)]
pub enum UnlockWith {
    /// The key in this file, which only its owner may read.
    KeyFile(PathBuf),
    /// The key in this file, which a group may read too, because the home may be written by that group.
    SharedKeyFile(PathBuf),
    /// A passphrase, as it was typed or read.
    Passphrase(Passphrase),
}

/// The credential that will open a vault from now on: a key file that is still to be made, or a passphrase that was
/// found hard to guess.
#[derive(Debug)]
pub struct NewUnlock(UnlockWith);

/// Which credential opened a vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenedBy {
    /// The key file under its own name, or the passphrase as it is read today.
    Key,
    /// The passphrase as earlier versions read it ([`Passphrase::former_reading`]).
    FormerReading,
    /// The key file under its hidden name: a rekey was killed before it could rename the file.
    PendingKeyFile,
}

/// What the vault stores about a passphrase: the inputs of Argon2id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassphraseHeader {
    /// A random salt, so that equal passphrases give different keys.
    pub salt: [u8; 16],
    /// The cost of deriving the key once.
    pub cost: PassphraseCost,
}

impl PassphraseHeader {
    /// Returns a header for a new passphrase, with a random salt and the default cost.
    pub fn random() -> Self {
        Self { salt: random(), cost: PassphraseCost::default() }
    }

    fn key(&self, passphrase: &str) -> Result<Key, VaultError> {
        Key::from_passphrase(passphrase, &self.salt, self.cost)
            .map_err(|_| VaultError::Damaged("its passphrase parameters are out of range".into()))
    }
}

impl UnlockWith {
    /// Returns the method that this credential belongs to.
    pub fn method(&self) -> Method {
        match self {
            Self::KeyFile(_) | Self::SharedKeyFile(_) => Method::KeyFile,
            Self::Passphrase(_) => Method::Passphrase,
        }
    }

    /// Opens the box that holds the vault's key. `open` tries one key and returns `None` if that key does not open the
    /// box. Writes nothing; call [`finish_rekey`] afterwards.
    ///
    /// # Errors
    /// [`VaultError::KeyFile`] if the file is missing, malformed or readable by others, [`VaultError::Passphrase`] if
    /// the text is not a passphrase, [`VaultError::Damaged`] if the cost in the header is out of bounds, and
    /// [`VaultError::WrongKey`].
    pub(super) fn open<T>(
        &self,
        header: &PassphraseHeader,
        open: impl Fn(&Key) -> Option<T>,
    ) -> Result<(T, OpenedBy), VaultError> {
        let try_open = |key: Key| open(&key).ok_or(VaultError::WrongKey(self.method()));
        match self {
            Self::KeyFile(path) | Self::SharedKeyFile(path) => {
                let forbidden = if matches!(self, Self::KeyFile(_)) { OTHERS } else { OTHERS & !GROUP };
                let pending = || Some(read_key_file(&pending_key_file(path), forbidden).and_then(try_open));
                either(read_key_file(path, forbidden).and_then(try_open), pending, OpenedBy::PendingKeyFile)
            }
            Self::Passphrase(passphrase) => {
                let text = passphrase.text().map_err(VaultError::from);
                let earlier = || passphrase.former_reading().map(|text| header.key(text).and_then(try_open));
                either(text.and_then(|text| header.key(text)).and_then(try_open), earlier, OpenedBy::FormerReading)
            }
        }
    }

    /// Accepts this credential for a vault that is created or rekeyed.
    ///
    /// # Errors
    /// [`VaultError::Passphrase`] if the passphrase is easy to guess, or the text is not one.
    pub fn for_new(self) -> Result<NewUnlock, VaultError> {
        if let Self::Passphrase(passphrase) = &self {
            passphrase.check_strength()?;
        }
        Ok(NewUnlock(self))
    }
}

impl NewUnlock {
    /// Returns the method that this credential belongs to.
    pub fn method(&self) -> Method {
        self.0.method()
    }

    /// Returns the key of a vault that is being created. Makes a key file, or takes an existing one, which an earlier
    /// attempt that broke off has left. An existing key file is never overwritten.
    ///
    /// # Errors
    /// [`VaultError::KeyFile`] if the file cannot be written, or if the existing file does not hold a key.
    pub(super) fn first_key(&self, header: &PassphraseHeader) -> Result<Key, VaultError> {
        self.key(header, |path| {
            match make_key_file(path) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(key_file_not_created(path, &error));
                }
                _ => {}
            }
            read_key_file(path, OTHERS)
        })
    }

    /// Returns the key of a vault that is being rekeyed. When this returns, a new key file is on disk under the name
    /// that `pending_key_file` returns, and the present key file is unchanged. [`name_key_file`] gives the new one its
    /// name.
    ///
    /// # Errors
    /// [`VaultError::KeyFile`] if the key file cannot be written.
    pub(super) fn next_key(&self, header: &PassphraseHeader) -> Result<Key, VaultError> {
        self.key(header, |path| {
            let pending = pending_key_file(path);
            make_key_file(&pending).map_err(|error| key_file_not_created(&pending, &error))?;
            read_key_file(&pending, OTHERS)
        })
    }

    fn key(
        &self,
        header: &PassphraseHeader,
        of_file: impl FnOnce(&Path) -> Result<Key, VaultError>,
    ) -> Result<Key, VaultError> {
        match &self.0 {
            UnlockWith::KeyFile(path) | UnlockWith::SharedKeyFile(path) => of_file(path),
            UnlockWith::Passphrase(passphrase) => header.key(passphrase.text()?),
        }
    }
}

/// Returns the first result, or the second if the first is an error and there is a second. If both fail, returns the
/// error of the first: that credential is the one the operator has to put right.
fn either<T>(
    first: Result<T, VaultError>,
    second: impl FnOnce() -> Option<Result<T, VaultError>>,
    by_second: OpenedBy,
) -> Result<(T, OpenedBy), VaultError> {
    match first {
        Ok(value) => Ok((value, OpenedBy::Key)),
        Err(error) => match second() {
            Some(Ok(value)) => Ok((value, by_second)),
            _ => Err(error),
        },
    }
}

/// Returns where the key file really is. The path may be a link to another disk, and a new key must go to the same
/// place.
fn resolve_links(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Returns the path of a new key file until the vault is sealed under its key.
fn pending_key_file(path: &Path) -> PathBuf {
    files::beside(&resolve_links(path))
}

/// Renames the pending key file to its final name, in place of the former key file.
///
/// # Errors
/// [`VaultError::KeyFile`] if it cannot be renamed.
pub(super) fn name_key_file(path: &Path) -> Result<(), VaultError> {
    let pending = pending_key_file(path);
    files::place_over(&pending, &resolve_links(path)).map_err(|error| {
        let problem = format!(
            "now contains the key of this vault, but cannot be renamed to {}: {error}. Keep it: without it the vault \
             cannot be opened. The daemon tries again at its next start",
            path.display()
        );
        key_file_error(&pending, problem)
    })
}

/// Completes or undoes a rekey that was killed: renames the pending key file if its key opened the vault, and removes
/// it if another credential did. If that fails, it is logged and the next start tries again.
pub(super) fn finish_rekey(path: &Path, opened_by: OpenedBy) {
    if opened_by == OpenedBy::PendingKeyFile {
        match name_key_file(path) {
            Ok(()) => tracing::warn!("an interrupted rekey was completed: the key is in {}", path.display()),
            Err(error) => tracing::warn!("{error}"),
        }
        return;
    }
    let pending = pending_key_file(path);
    match std::fs::remove_file(&pending) {
        Ok(()) => tracing::warn!("an interrupted rekey was undone: the previous key or passphrase opens the vault"),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => tracing::warn!("{} is a leftover key file that cannot be removed: {error}", pending.display()),
    }
}

/// The permission bits of everybody but the owner; `GROUP` is the group's part of them.
const OTHERS: u32 = 0o077;
const GROUP: u32 = 0o070;

fn key_file_error(path: &Path, problem: impl Into<String>) -> VaultError {
    VaultError::KeyFile { path: path.to_owned(), problem: problem.into() }
}

fn key_file_not_created(path: &Path, error: &io::Error) -> VaultError {
    key_file_error(path, format!("cannot be created: {error}. Check that the disk is not full"))
}

/// Writes a new random key into a new file, which is on disk when this returns.
pub(super) fn make_key_file(path: &Path) -> io::Result<()> {
    let text = Zeroizing::new(data_encoding::HEXLOWER.encode(Key::random().expose()) + "\n");
    files::write_new(path, text.as_bytes())
}

/// Reads a key file. `forbidden` are the permission bits that the file must not have.
fn read_key_file(path: &Path, forbidden: u32) -> Result<Key, VaultError> {
    // Permissions and content come from the same open file, so what is checked is what is read.
    let (file, metadata) = files::open_regular(path, Links::Follow).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            key_file_error(path, "is missing; restore it from your backup: without it the vault cannot be opened")
        }
        _ => key_file_error(path, format!("cannot be read: {error}")),
    })?;
    if metadata.mode() & forbidden != 0 {
        return Err(key_file_error(path, format!("is readable by other users; run `chmod 600 {}`", path.display())));
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(key_file_error(
            path,
            "belongs to another user; run guillemet as that user, or run `chown` on the file",
        ));
    }
    let malformed = || {
        key_file_error(path, "does not contain a key (one line of 64 hexadecimal digits); restore it from your backup")
    };
    let text = read_file(file).map_err(|error| match error {
        NotASecret::Io(error) => key_file_error(path, format!("cannot be read: {error}")),
        NotASecret::TooLong | NotASecret::Lines => malformed(),
    })?;
    let digits = line_in(&text).map_err(|_| malformed())?;
    let bytes = Zeroizing::new(data_encoding::HEXLOWER_PERMISSIVE.decode(digits).map_err(|_| malformed())?);
    let mut bytes: [u8; 32] = bytes.as_slice().try_into().map_err(|_| malformed())?;
    Ok(Key::from_bytes(&mut bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hand-written documents name exactly the methods of the table.
    #[test]
    fn the_documents_name_every_method() {
        let names: Vec<&str> = METHODS.iter().map(|row| row.name).collect();
        let api = include_str!("../../../openapi.yaml");
        assert!(api.contains(&format!("unlock: {{ enum: [{}] }}", names.join(", "))), "openapi.yaml: {names:?}");
        for name in names {
            assert_eq!(Method::from_name(name).map(Method::name), Some(name));
        }
        assert_eq!(Method::from_name("else"), None);
    }
}
