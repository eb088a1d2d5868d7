//! How a vault is unlocked: what opens the box that holds the vault's key.

use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::crypto::{Key, PassphraseCost};
use super::passphrase::Passphrase;
use super::store::VaultError;
use crate::files::{self, Links};
use crate::random::random;
use crate::secret_reader::{NotASecret, line_in, read_file};

/// How a vault is unlocked; kept in it. `METHODS` says everything else about each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A file with a key, readable by its owner alone.
    KeyFile,
    /// A passphrase, through Argon2id.
    Passphrase,
}

/// What a method needs before the vault can be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// The key file of the home.
    KeyFile,
    /// Somebody who types a passphrase, or a descriptor that it is read from.
    Passphrase,
}

/// A row of the table of methods.
#[derive(Debug)]
pub struct MethodRow {
    /// Which it is.
    pub method: Method,
    /// As the vault keeps it, and as the command line and the API name it.
    pub name: &'static str,
    /// What it is, for help.
    pub summary: &'static str,
    /// What it needs at every start.
    pub needs: Needs,
    /// What to do when it does not open the vault.
    pub wrong_key: &'static str,
}

/// Every method there is, in the order of `Method`. Names are stored in vaults: one that is here stays.
pub const METHODS: [MethodRow; 2] = [
    MethodRow {
        method: Method::KeyFile,
        name: "keyfile",
        summary: "A key file, readable by its owner alone",
        needs: Needs::KeyFile,
        wrong_key: "Put back the vault.key that belongs to this vault.db",
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
    /// Returns its row of the table.
    pub fn row(self) -> &'static MethodRow {
        &METHODS[self as usize]
    }

    /// Returns its name.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Returns the method of this name.
    pub fn named(name: &str) -> Option<Self> {
        METHODS.iter().find(|row| row.name == name).map(|row| row.method)
    }
}

/// What is at hand to open a vault with.
#[derive(Debug)]
pub enum UnlockWith {
    /// The key in this file, which its owner alone may read.
    KeyFile(PathBuf),
    /// The key in this file, which a group may read too: of a home that the group may write.
    SharedKeyFile(PathBuf),
    /// This passphrase.
    Passphrase(Passphrase),
}

/// What is to open a vault from now on: a key file that will be made, or a passphrase that is hard to guess.
#[derive(Debug)]
pub struct NewUnlock(UnlockWith);

/// What opened a vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenedBy {
    /// The key file, or the passphrase.
    Key,
    /// The passphrase as earlier versions read it (`Passphrase::former_reading`).
    FormerReading,
    /// The key file that a rekey had not given its name yet when it was killed.
    PendingKeyFile,
}

/// What a vault keeps of a passphrase: how to get the key from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassphraseHeader {
    /// Random, so that equal passphrases give different keys.
    pub salt: [u8; 16],
    /// The work.
    pub cost: PassphraseCost,
}

impl PassphraseHeader {
    /// Returns the header of a new passphrase.
    pub fn random() -> Self {
        Self { salt: random(), cost: PassphraseCost::default() }
    }

    fn key(&self, passphrase: &str) -> Result<Key, VaultError> {
        Key::from_passphrase(passphrase, &self.salt, self.cost)
            .map_err(|_| VaultError::Damaged("the parameters of its passphrase are out of bounds".into()))
    }
}

impl UnlockWith {
    /// The method this serves.
    pub fn method(&self) -> Method {
        match self {
            Self::KeyFile(_) | Self::SharedKeyFile(_) => Method::KeyFile,
            Self::Passphrase(_) => Method::Passphrase,
        }
    }

    /// Opens the box of the vault's key by `open`, which returns nothing for a key that does not open it. Writes
    /// nothing; `settle_key_file` comes afterwards.
    ///
    /// # Errors
    /// When the file is missing, malformed or open to others, or the passphrase is none; `WrongKey`.
    pub(super) fn open<T>(
        &self,
        header: &PassphraseHeader,
        open: impl Fn(&Key) -> Option<T>,
    ) -> Result<(T, OpenedBy), VaultError> {
        let opened = |key: Key| open(&key).ok_or(VaultError::WrongKey(self.method()));
        match self {
            Self::KeyFile(path) | Self::SharedKeyFile(path) => {
                let others = if matches!(self, Self::KeyFile(_)) { OTHERS } else { OTHERS & !GROUP };
                let pending = || Some(read_key_file(&pending_key_file(path), others).and_then(opened));
                either(read_key_file(path, others).and_then(opened), pending, OpenedBy::PendingKeyFile)
            }
            Self::Passphrase(passphrase) => {
                let text = passphrase.text().map_err(VaultError::from);
                let former = || passphrase.former_reading().map(|text| header.key(text).and_then(opened));
                either(text.and_then(|text| header.key(text)).and_then(opened), former, OpenedBy::FormerReading)
            }
        }
    }

    /// Takes this for a vault that is made or rekeyed.
    ///
    /// # Errors
    /// When it is a passphrase that is easy to guess, or none.
    pub fn for_new(self) -> Result<NewUnlock, VaultError> {
        if let Self::Passphrase(passphrase) = &self {
            passphrase.judge()?;
        }
        Ok(NewUnlock(self))
    }
}

impl NewUnlock {
    /// The method this serves.
    pub fn method(&self) -> Method {
        self.0.method()
    }

    /// Returns the key of a vault that is being made. A key file is made, or the one that is there taken: of an earlier
    /// attempt that broke off. One that exists is never written over.
    ///
    /// # Errors
    /// When it cannot be written, or what is there is no key.
    pub(super) fn first_key(&self, header: &PassphraseHeader) -> Result<Key, VaultError> {
        self.key(header, |path| {
            match make_key_file(path) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(unmade(path, &error)),
                _ => {}
            }
            read_key_file(path, OTHERS)
        })
    }

    /// Returns the key of a vault that is being rekeyed. A new key file is on disk then, under the name of
    /// `pending_key_file`; the present one is as it was. `settle_key_file` gives it its name.
    ///
    /// # Errors
    /// When the key file cannot be written.
    pub(super) fn next_key(&self, header: &PassphraseHeader) -> Result<Key, VaultError> {
        self.key(header, |path| {
            let pending = pending_key_file(path);
            make_key_file(&pending).map_err(|error| unmade(&pending, &error))?;
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

/// The first, or else the second, if there is one. Where neither is right, what was given first has to be put right.
fn either<T>(
    first: Result<T, VaultError>,
    second: impl FnOnce() -> Option<Result<T, VaultError>>,
    by_second: OpenedBy,
) -> Result<(T, OpenedBy), VaultError> {
    match first {
        Ok(opened) => Ok((opened, OpenedBy::Key)),
        Err(error) => match second() {
            Some(Ok(opened)) => Ok((opened, by_second)),
            _ => Err(error),
        },
    }
}

/// Where the key file is: what a link leads to, which may be another disk. A new key goes to the same place.
fn place_of(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Where a new key file lies until the vault is sealed under its key.
fn pending_key_file(path: &Path) -> PathBuf {
    files::beside(&place_of(path))
}

/// Gives the pending key file its name, in place of the former key file.
///
/// # Errors
/// When it cannot be renamed.
pub(super) fn name_key_file(path: &Path) -> Result<(), VaultError> {
    let pending = pending_key_file(path);
    files::place_over(&pending, &place_of(path)).map_err(|error| {
        let problem = format!(
            "holds the key of this vault now, and cannot be renamed to {}: {error}. Keep it: without it the vault cannot \
             be opened. The next start of the daemon tries again",
            path.display()
        );
        key_file_error(&pending, problem)
    })
}

/// Ends a rekey that was killed: gives the pending key file its name where its key opened the vault, and removes it where
/// that was something else. Where that fails, the next start does it.
pub(super) fn settle_key_file(path: &Path, opened_by: OpenedBy) {
    if opened_by == OpenedBy::PendingKeyFile {
        match name_key_file(path) {
            Ok(()) => tracing::warn!("a rekey that was interrupted is done now: the key is in {}", path.display()),
            Err(error) => tracing::warn!("{error}"),
        }
        return;
    }
    let pending = pending_key_file(path);
    match std::fs::remove_file(&pending) {
        Ok(()) => tracing::warn!("a rekey that was interrupted is undone: what opened the vault before opens it"),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => tracing::warn!("{} opens nothing and cannot be removed: {error}", pending.display()),
    }
}

/// Rights of anyone but the owner, and of the group among them.
const OTHERS: u32 = 0o077;
const GROUP: u32 = 0o070;

fn key_file_error(path: &Path, problem: impl Into<String>) -> VaultError {
    VaultError::KeyFile { path: path.to_owned(), problem: problem.into() }
}

fn unmade(path: &Path, error: &io::Error) -> VaultError {
    key_file_error(path, format!("cannot be made: {error}. Check that the disk has room"))
}

/// Writes a new key into a new file; on disk when this returns.
pub(super) fn make_key_file(path: &Path) -> io::Result<()> {
    let text = Zeroizing::new(data_encoding::HEXLOWER.encode(Key::random().expose()) + "\n");
    files::write_new(path, text.as_bytes())
}

/// `others` are the rights that nobody but the owner may have.
fn read_key_file(path: &Path, others: u32) -> Result<Key, VaultError> {
    // What is looked at is what is read: the same open file.
    let (file, metadata) = files::open_regular(path, Links::Follow).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            key_file_error(path, "is missing; put it back from your backup: without it the vault cannot be opened")
        }
        _ => key_file_error(path, format!("cannot be read: {error}")),
    })?;
    if metadata.mode() & others != 0 {
        return Err(key_file_error(path, format!("can be read by others; run `chmod 600 {}`", path.display())));
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(key_file_error(path, "belongs to another user; run guillemet as that user, or `chown` it"));
    }
    let malformed = || {
        key_file_error(path, "does not hold a key (one line of 64 hexadecimal digits); put it back from your backup")
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

    /// What is written by hand names the methods that there are.
    #[test]
    fn the_documents_name_every_method() {
        let names: Vec<&str> = METHODS.iter().map(|row| row.name).collect();
        let api = include_str!("../../openapi.yaml");
        assert!(api.contains(&format!("unlock: {{ enum: [{}] }}", names.join(", "))), "openapi.yaml: {names:?}");
        for name in names {
            assert_eq!(Method::named(name).map(Method::name), Some(name));
        }
        assert_eq!(Method::named("else"), None);
    }
}
