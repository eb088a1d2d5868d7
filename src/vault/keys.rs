//! How a vault is unlocked: what opens the box that holds the vault's key.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::crypto::{Key, PassphraseCost};
use super::store::VaultError;
use crate::files::{self, Links};
use crate::secret_reader::{Until, read};

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
    Passphrase(SecretString),
}

/// What a vault keeps of a passphrase: how to get the key from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassphraseHeader {
    /// Random, so that equal passphrases give different keys.
    pub salt: [u8; 16],
    /// The work.
    pub cost: PassphraseCost,
}

impl UnlockWith {
    /// The method this serves.
    pub fn method(&self) -> Method {
        match self {
            Self::KeyFile(_) | Self::SharedKeyFile(_) => Method::KeyFile,
            Self::Passphrase(_) => Method::Passphrase,
        }
    }

    /// The key that opens the box of the vault's key.
    ///
    /// # Errors
    /// When the file is missing, malformed or open to others, or the passphrase is empty.
    pub fn key(&self, header: &PassphraseHeader) -> Result<Key, VaultError> {
        match self {
            Self::KeyFile(path) => read_key_file(path, OTHERS),
            Self::SharedKeyFile(path) => read_key_file(path, OTHERS & !GROUP),
            Self::Passphrase(passphrase) => {
                let passphrase = passphrase.expose_secret();
                if passphrase.is_empty() {
                    return Err(VaultError::EmptyPassphrase);
                }
                Key::from_passphrase(passphrase, &header.salt, header.cost)
                    .map_err(|_| VaultError::Damaged("the parameters of its passphrase are out of bounds".into()))
            }
        }
    }
}

/// Rights of anyone but the owner, and of the group among them.
const OTHERS: u32 = 0o077;
const GROUP: u32 = 0o070;

fn key_file_error(path: &Path, problem: impl Into<String>) -> VaultError {
    VaultError::KeyFile { path: path.to_owned(), problem: problem.into() }
}

/// Makes a key file, or takes the one that is there: of an earlier attempt that broke off. One that exists
/// is never written over.
///
/// # Errors
/// When it cannot be written, or what is there is no key.
pub fn make_key_file(path: &Path) -> Result<(), VaultError> {
    let text = Zeroizing::new(data_encoding::HEXLOWER.encode(Key::random().expose()) + "\n");
    match files::write_new(path, text.as_bytes()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => read_key_file(path, OTHERS).map(drop),
        Err(error) => Err(key_file_error(path, format!("cannot be made: {error}. Check that the disk has room"))),
    }
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
    let malformed =
        || key_file_error(path, "does not hold a key (64 hexadecimal digits); put it back from your backup");
    let text = read(file, 1024, Until::End).map_err(|error| match error.kind() {
        ErrorKind::InvalidData => malformed(),
        _ => key_file_error(path, format!("cannot be read: {error}")),
    })?;
    let digits = text.strip_suffix(b"\n").unwrap_or(&text);
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
