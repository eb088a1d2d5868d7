//! `vault.db`: a SQLite file with one sealed box per secret. Names are inside the boxes.
//!
//! The vault's key is random. It is stored in the file, sealed under the credential that unlocks the vault (`keys`).
//! Every box is bound to the vault and to its own kind, id and revision. A sealed manifest binds the set of boxes, so a
//! row that was taken out or put back is noticed.
//!
//! Promise Nothing lost: a change is one committed transaction, which is on disk before it is acknowledged. Opening a
//! vault checks everything before it writes anything.

mod file;
mod rekey;
mod sync;

use std::borrow::Cow;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, params};
use zeroize::Zeroizing;

use super::audit::AuditChange;
use super::keys::{self, Method, NewUnlock, OpenedBy, PassphraseHeader, UnlockWith};
use super::passphrase::BadPassphrase;
use super::trail;
use guillemet_base::files;
use guillemet_base::home::Home;
use guillemet_base::names::SecretId;
use guillemet_secret::crypto::{self, Key};
use guillemet_secret::record::{Malformed, Secret};

pub use self::file::{FORMAT, change, connect};
use self::file::{checkpoint, open_read_only, read_header, wipe, write_empty};
pub use self::sync::AccountRecord;

/// The label of the document that holds the manifest.
const MANIFEST: &str = "manifest";

/// Why a vault cannot be created, opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// There is no vault in this home.
    #[error("there is no vault at {0}; run `guillemet init` to create one")]
    NoVault(PathBuf),
    /// There is a vault in this home already.
    #[error("there is already a vault at {0}; nothing was changed. Use another --home, or move the vault away")]
    AlreadyExists(PathBuf),
    /// SQLite's log of a vault whose file is missing.
    #[error(
        "{0} belongs to a vault that is missing, and would get mixed into a new one. Nothing was changed; restore that \
         vault, or move the file away"
    )]
    Leftover(PathBuf),
    /// The key or passphrase does not open the vault.
    #[error("the {} does not open this vault; nothing was changed. {}", .0.name(), .0.row().wrong_key)]
    WrongKey(Method),
    /// The vault is unlocked by another method than the one given.
    #[error("this vault is unlocked by a {0}; pass that instead (see `guillemet daemon --help`)", .needed.name())]
    OtherMethod {
        /// The method that unlocks it.
        needed: Method,
    },
    /// The passphrase is malformed, or too weak for a new one.
    #[error(transparent)]
    Passphrase(#[from] BadPassphrase),
    /// The key file is missing, unreadable, malformed or open to others, or cannot be written.
    #[error("the key file {path} {problem}")]
    KeyFile {
        /// The path of the key file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A part of the file is not as it was written.
    #[error(
        "the vault is damaged: {0}. Nothing was changed; restore vault.db from your backup, and remove vault.db-wal"
    )]
    Damaged(String),
    /// The file was written by a later version.
    #[error(
        "the vault has format {found}, but this version of Guillemet supports formats up to {FORMAT}; update \
         Guillemet. Nothing was changed"
    )]
    NewerFormat {
        /// The format of the file.
        found: u32,
    },
    /// A daemon or a rekey holds the lock on this home, with its process id if that is known.
    #[error("another daemon or `vault rekey`{} is using this home; stop it, or use another --home", pid_text(*.0))]
    Locked(Option<u32>),
    /// The secret was changed by another request in the meantime.
    #[error("the secret was changed in the meantime; check it and repeat the change")]
    Stale,
    /// A file cannot be read or written.
    #[error("{path}: {source}. Check that you own it and that the disk is not full")]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The disk takes no change: it is full, a quota is used up, or it fails.
    #[error("the vault cannot be changed: {0}. Nothing was changed; check the disk, and free up space if it is full")]
    Unwritable(rusqlite::Error),
    /// Any other error of SQLite.
    #[error("the vault cannot be read or written: {0}. Nothing was changed; check the disk")]
    Database(rusqlite::Error),
    /// Something that the vault keeps as JSON cannot be written as JSON.
    #[error("the vault cannot be changed: {0}. Nothing was changed; report this as a bug")]
    Unserializable(serde_json::Error),
}

fn pid_text(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

impl From<rusqlite::Error> for VaultError {
    fn from(error: rusqlite::Error) -> Self {
        let extended = error.sqlite_error().map(|error| error.extended_code);
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                Self::Damaged("SQLite cannot read it".into())
            }
            // A quota that is used up appears as a write error.
            Some(rusqlite::ErrorCode::DiskFull) => Self::Unwritable(error),
            _ if extended == Some(rusqlite::ffi::SQLITE_IOERR_WRITE) => Self::Unwritable(error),
            // A missing table or column, or a value of another type: the statements are ours, so the file is wrong.
            Some(rusqlite::ErrorCode::Unknown) | None => {
                Self::Damaged("its tables do not have the expected structure".into())
            }
            _ => Self::Database(error),
        }
    }
}

fn file_error(path: &Path) -> impl Fn(io::Error) -> VaultError + '_ {
    move |source| VaultError::File { path: path.to_owned(), source }
}

/// The manifest: how many records and documents the vault has, and a tag over all of their ids and revisions.
///
/// The tag is the XOR of one MAC for each of them, so that the cost of a change does not grow with the vault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Manifest {
    count: u64,
    tag: [u8; 32],
}

impl Manifest {
    fn toggle(&mut self, key: &Key, kind: &str, id: &[u8], revision: u64) {
        let mac = key.mac(&[&revision.to_le_bytes(), kind.as_bytes(), b"\0", id].concat());
        for (tag, mac) in self.tag.iter_mut().zip(mac) {
            *tag ^= mac;
        }
    }

    fn to_bytes(self) -> Vec<u8> {
        [self.count.to_le_bytes().as_slice(), &self.tag].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (count, tag) = bytes.split_first_chunk()?;
        Some(Self { count: u64::from_le_bytes(*count), tag: tag.try_into().ok()? })
    }
}

/// The changes that one transaction makes.
#[derive(Default)]
pub struct Writes<'a> {
    /// New secrets, and new revisions of existing ones.
    pub secrets: Vec<&'a Secret>,
    /// Secrets to remove, with all of their versions.
    pub removed: Vec<SecretId>,
    /// Documents to write, by label; `None` removes the document.
    pub documents: Vec<(Cow<'a, str>, Option<&'a [u8]>)>,
    /// Changes of the account's records.
    pub account: AccountWrites<'a>,
    /// The events of this change for the audit trail.
    pub changes: &'a [AuditChange],
}

/// A document with its label.
pub type LabelledDocument = (String, Zeroizing<Vec<u8>>);

/// Changes of the account's records.
#[derive(Clone, Copy, Default)]
pub enum AccountWrites<'a> {
    /// The records stay as they are.
    #[default]
    Nothing,
    /// Writes these records; one without a box is removed.
    These(&'a [AccountRecord]),
    /// Removes all records, because the vault is no longer in an account.
    Forget,
}

/// The label of the subkey for usage and the audit trail.
pub const USAGE_KEY: &str = "usage";

const RECORD: &str = "record";
const DOCUMENT: &str = "document";
/// The label of the document that holds `Vault::root`, once that is no longer the vault's key.
const ROOT: &str = "root";

/// An open vault: a connection to its file, and the keys that its boxes are sealed under.
pub struct Vault {
    database: Connection,
    boxes: VaultSealer,
    /// The key that subkeys are derived from: the first key the vault had. The data beside the vault (the usage
    /// journal, the audit trail, compiled forms) is sealed for good, so this key outlives a rekey.
    root: Key,
    opened_by: OpenedBy,
    trail: trail::TrailSealer,
    /// The largest number of changes that the audit trail keeps.
    changes_kept: usize,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault")
    }
}

impl Vault {
    /// Creates an empty vault. An existing one is never overwritten. An attempt that breaks off leaves at most a key
    /// file, which the next attempt uses.
    ///
    /// # Errors
    /// [`VaultError::AlreadyExists`] or [`VaultError::Leftover`] as for [`Self::check_absent`], and an error if
    /// something cannot be written.
    pub fn create(home: &Home, unlock: &NewUnlock) -> Result<(), VaultError> {
        let path = home.vault_file();
        Self::check_absent(home)?;
        let passphrase = PassphraseHeader::random();
        let unlock_key = unlock.first_key(&passphrase)?;
        let temporary = files::beside(&path);
        let remove_temporary = || {
            for name in
                [temporary.clone(), file::companion_path(&temporary, "-wal"), file::companion_path(&temporary, "-shm")]
            {
                let _ = fs::remove_file(name);
            }
        };
        remove_temporary();
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
        let file = file.map_err(file_error(&temporary))?;
        let written = write_empty(&temporary, unlock.method(), passphrase, &unlock_key);
        let placed = written.and_then(|()| {
            file.sync_all().map_err(file_error(&temporary))?;
            files::place(&temporary, &path).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => VaultError::AlreadyExists(path.clone()),
                _ => VaultError::File { path: path.clone(), source: error },
            })
        });
        if placed.is_err() {
            remove_temporary();
        }
        placed
    }

    /// Checks that the home holds neither a vault nor the log of one.
    ///
    /// # Errors
    /// [`VaultError::AlreadyExists`], [`VaultError::Leftover`], or [`VaultError::File`] if that cannot be determined.
    pub fn check_absent(home: &Home) -> Result<(), VaultError> {
        let path = home.vault_file();
        if fs::symlink_metadata(&path).is_ok() {
            return Err(VaultError::AlreadyExists(path));
        }
        match file::log_len(&path)? {
            0 => Ok(()),
            _ => Err(VaultError::Leftover(file::companion_path(&path, "-wal"))),
        }
    }

    /// Returns the method that unlocks the vault. Needs no key.
    ///
    /// # Errors
    /// The errors of [`Self::open`] that do not depend on the key.
    pub fn method(home: &Home) -> Result<Method, VaultError> {
        Ok(read_header(&home.vault_file())?.method)
    }

    /// Opens the vault and reads every secret in it.
    ///
    /// # Errors
    /// [`VaultError`]; nothing has been written then.
    pub fn open(home: &Home, unlock: UnlockWith) -> Result<(Self, Vec<Secret>), VaultError> {
        let path = home.vault_file();
        let header = read_header(&path)?;
        if unlock.method() != header.method {
            return Err(VaultError::OtherMethod { needed: header.method });
        }
        let (key, opened_by) = unlock.open(&header.passphrase, |unlock_key| {
            crypto::open_key(unlock_key, &key_binding(&header.id), &header.sealed_key).ok()
        })?;
        let boxes = VaultSealer::new(header.id, &key);
        let (secrets, root) = {
            let database = open_read_only(&path)?;
            (boxes.read_all(&database)?, boxes.root(&database)?.unwrap_or(key))
        };
        let database = connect(&path)?;
        checkpoint(&database);
        keys::finish_rekey(&home.key_file(), opened_by);
        let trail = trail::TrailSealer::new(&root.subkey(USAGE_KEY), header.id);
        // The bound is known only after the configuration has been read; until then nothing leaves the trail.
        let changes_kept = trail::EVENTS_MAX;
        Ok((Self { database, boxes, root, opened_by, trail, changes_kept }, secrets))
    }

    /// Returns which credential opened the vault.
    pub fn opened_by(&self) -> OpenedBy {
        self.opened_by
    }

    /// Writes a new secret, or a new revision of one.
    ///
    /// # Errors
    /// [`VaultError::Stale`] if the stored revision is not older than this one. Nothing has changed after any error.
    pub fn put(&mut self, secret: &Secret) -> Result<(), VaultError> {
        self.put_all(&[secret], None)
    }

    /// Writes several secrets, and a document with them, in one transaction.
    ///
    /// # Errors
    /// As [`Self::put`]; none of them has changed then.
    pub fn put_all(&mut self, secrets: &[&Secret], document: Option<(&str, &[u8])>) -> Result<(), VaultError> {
        let documents = document.into_iter().map(|(label, bytes)| (label.into(), Some(bytes))).collect();
        self.write(&Writes { secrets: secrets.to_vec(), documents, ..Writes::default() })
    }

    /// Removes a secret with all of its versions. No part of its boxes stays in the file.
    ///
    /// # Errors
    /// Any error of the file; nothing has changed then.
    pub fn remove(&mut self, id: SecretId) -> Result<(), VaultError> {
        self.write(&Writes { removed: vec![id], ..Writes::default() })
    }

    /// Makes all of these changes in one transaction. No part of the boxes of removed secrets stays in the file.
    ///
    /// # Errors
    /// [`VaultError::Stale`] if the stored revision of a secret is not older than the one to write. Nothing has changed
    /// after any error.
    pub fn write(&mut self, writes: &Writes<'_>) -> Result<(), VaultError> {
        let (boxes, trail, changes_kept) = (&self.boxes, &self.trail, self.changes_kept);
        change(&mut self.database, |database| {
            let mut manifest = boxes.manifest(database)?;
            for id in &writes.removed {
                boxes.remove_record(database, &mut manifest, *id)?;
            }
            for secret in &writes.secrets {
                boxes.put_record(database, &mut manifest, secret)?;
            }
            for (label, bytes) in &writes.documents {
                match bytes {
                    Some(bytes) => boxes.put_counted(database, &mut manifest, label, bytes)?,
                    None => boxes.remove_counted(database, &mut manifest, label)?,
                }
            }
            sync::write(database, writes.account)?;
            trail::write_changes(database, trail, changes_kept, writes.changes)?;
            boxes.put_document(database, MANIFEST, &manifest.to_bytes()).map(drop)
        })?;
        if !writes.removed.is_empty() {
            wipe(&self.database);
        }
        Ok(())
    }

    /// Records events of changes that alter nothing else in the vault, in one transaction.
    ///
    /// # Errors
    /// Any error of the file. Nothing has been recorded then, so the change must not be made.
    pub fn record(&mut self, changes: &[AuditChange]) -> Result<(), VaultError> {
        let (trail, changes_kept) = (&self.trail, self.changes_kept);
        change(&mut self.database, |database| trail::write_changes(database, trail, changes_kept, changes))
    }

    /// Sets the largest number of changes that the audit trail keeps from now on.
    pub fn keep_changes(&mut self, number: usize) {
        self.changes_kept = number;
    }

    /// Returns the documents whose label begins with `prefix`, in the order of their labels.
    ///
    /// # Errors
    /// An error if one of them cannot be read or does not open.
    pub fn documents(&self, prefix: &str) -> Result<Vec<LabelledDocument>, VaultError> {
        let query = "SELECT label FROM documents WHERE substr(label, 1, length(?1)) = ?1 ORDER BY label";
        let mut statement = self.database.prepare(query)?;
        let labels = statement.query_map([prefix], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
        let mut documents = Vec::with_capacity(labels.len());
        for label in labels {
            if let Some(bytes) = self.document(&label)? {
                documents.push((label, bytes));
            }
        }
        Ok(documents)
    }

    /// Returns the sealed records of the account, as its server has them.
    ///
    /// # Errors
    /// An error if they cannot be read.
    pub fn account_records(&self) -> Result<Vec<AccountRecord>, VaultError> {
        sync::read(&self.database)
    }

    /// Returns the document with this label, or `None` if there is none. Documents are small and sealed like secrets.
    ///
    /// # Errors
    /// An error if it cannot be read or does not open.
    pub fn document(&self, label: &str) -> Result<Option<Zeroizing<Vec<u8>>>, VaultError> {
        self.boxes.document(&self.database, label)
    }

    /// Writes a document, in place of an earlier one with the same label.
    ///
    /// # Errors
    /// Any error of the file; nothing has changed then.
    pub fn set_document(&mut self, label: &str, bytes: &[u8]) -> Result<(), VaultError> {
        self.put_all(&[], Some((label, bytes)))
    }

    /// Derives the key for another part of the program, which `label` names. It stays the same when the vault is
    /// rekeyed.
    pub fn subkey(&self, label: &str) -> Key {
        self.root.subkey(label)
    }

    /// Returns the id of this vault, which is random.
    pub fn vault_id(&self) -> [u8; 16] {
        self.boxes.vault
    }
}

/// Seals and opens the boxes in the file.
struct VaultSealer {
    vault: [u8; 16],
    record_key: Key,
    document_key: Key,
    manifest_key: Key,
}

impl VaultSealer {
    fn new(vault: [u8; 16], key: &Key) -> Self {
        let (record_key, document_key) = (key.subkey(RECORD), key.subkey(DOCUMENT));
        Self { vault, record_key, document_key, manifest_key: key.subkey(MANIFEST) }
    }

    fn key(&self, kind: &str) -> &Key {
        if kind == RECORD { &self.record_key } else { &self.document_key }
    }

    fn seal(&self, kind: &str, id: &[u8], revision: u64, bytes: &[u8]) -> Vec<u8> {
        crypto::seal(self.key(kind), &binding(&self.vault, kind, id, revision), bytes)
    }

    fn open(&self, kind: &str, id: &[u8], revision: u64, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        crypto::open(self.key(kind), &binding(&self.vault, kind, id, revision), sealed).ok()
    }

    /// Opens every box, and checks that the set is the one in the manifest.
    fn read_all(&self, database: &Connection) -> Result<Vec<Secret>, VaultError> {
        // If the list of free pages is wrong, the next change overwrites a page in use. So every page is checked.
        let checked: String = database.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        if checked != "ok" {
            return Err(VaultError::Damaged("its pages are inconsistent".into()));
        }
        let mut secrets = Vec::new();
        let mut damaged = Vec::new();
        let mut manifest = Manifest::default();
        let mut statement = database.prepare("SELECT id, revision, box FROM records ORDER BY id")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let id = row.get_ref(0)?.as_blob().ok().and_then(|id| id.try_into().ok()).map(SecretId);
            let revision: u64 = row.get(1)?;
            let Some(id) = id else {
                return Err(VaultError::Damaged("a record has no id".into()));
            };
            let sealed = row.get_ref(2)?.as_blob().unwrap_or_default();
            let plaintext = self.open(RECORD, &id.0, revision, sealed).ok_or(Malformed::Damaged);
            match plaintext.and_then(|bytes| Secret::decode(&bytes, revision)) {
                Ok(secret) if secret.id == id => secrets.push(secret),
                Err(Malformed::Newer) => return Err(VaultError::NewerFormat { found: FORMAT + 1 }),
                _ => damaged.push(id.to_string()),
            }
            manifest.count += 1;
            manifest.toggle(&self.manifest_key, RECORD, &id.0, revision);
        }
        if !damaged.is_empty() {
            let some = damaged.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
            return Err(VaultError::Damaged(format!("{} of its records cannot be decrypted ({some})", damaged.len())));
        }
        let mut statement = database.prepare("SELECT label, revision FROM documents WHERE label != ?1")?;
        let mut rows = statement.query([MANIFEST])?;
        while let Some(row) = rows.next()? {
            let (label, revision): (String, u64) = (row.get(0)?, row.get(1)?);
            self.document(database, &label)?;
            manifest.count += 1;
            manifest.toggle(&self.manifest_key, DOCUMENT, label.as_bytes(), revision);
        }
        if self.manifest(database)? != manifest {
            return Err(VaultError::Damaged("records were removed from it or restored".into()));
        }
        let mut names: Vec<String> = secrets.iter().map(|secret| secret.name.key()).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(VaultError::Damaged("two secrets have the same name".into()));
        }
        Ok(secrets)
    }

    fn document(&self, database: &Connection, label: &str) -> Result<Option<Zeroizing<Vec<u8>>>, VaultError> {
        let query = "SELECT revision, box FROM documents WHERE label = ?1";
        let row = database.query_row(query, [label], |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?))).optional()?;
        let Some((revision, sealed)) = row else {
            return Ok(None);
        };
        let plaintext = self.open(DOCUMENT, label.as_bytes(), revision, &sealed);
        plaintext.map(Some).ok_or_else(|| VaultError::Damaged(format!("its document `{label}` cannot be decrypted")))
    }

    fn put_record(&self, database: &Connection, manifest: &mut Manifest, secret: &Secret) -> Result<(), VaultError> {
        match stored_revision(database, secret.id)? {
            Some(stored) if stored >= secret.revision => return Err(VaultError::Stale),
            Some(stored) => manifest.toggle(&self.manifest_key, RECORD, &secret.id.0, stored),
            None => manifest.count += 1,
        }
        manifest.toggle(&self.manifest_key, RECORD, &secret.id.0, secret.revision);
        let sealed = self.seal(RECORD, &secret.id.0, secret.revision, &secret.encode());
        let put = "INSERT INTO records (id, revision, box) VALUES (?1, ?2, ?3)
             ON CONFLICT (id) DO UPDATE SET revision = ?2, box = ?3";
        database.prepare_cached(put)?.execute(params![secret.id.0, secret.revision, sealed])?;
        Ok(())
    }

    fn remove_record(&self, database: &Connection, manifest: &mut Manifest, id: SecretId) -> Result<(), VaultError> {
        if let Some(stored) = stored_revision(database, id)? {
            manifest.count -= 1;
            manifest.toggle(&self.manifest_key, RECORD, &id.0, stored);
            database.prepare_cached("DELETE FROM records WHERE id = ?1")?.execute([id.0])?;
        }
        Ok(())
    }

    fn remove_counted(&self, database: &Connection, manifest: &mut Manifest, label: &str) -> Result<(), VaultError> {
        let query = "DELETE FROM documents WHERE label = ?1 RETURNING revision";
        let mut delete = database.prepare_cached(query)?;
        let stored: Option<u64> = delete.query_row([label], |row| row.get(0)).optional()?;
        if let Some(stored) = stored {
            manifest.count -= 1;
            manifest.toggle(&self.manifest_key, DOCUMENT, label.as_bytes(), stored);
        }
        Ok(())
    }

    /// Writes a document that the manifest counts: any but the manifest itself.
    fn put_counted(
        &self,
        database: &Connection,
        manifest: &mut Manifest,
        label: &str,
        bytes: &[u8],
    ) -> Result<(), VaultError> {
        let revision = self.put_document(database, label, bytes)?;
        match revision - 1 {
            0 => manifest.count += 1,
            replaced => manifest.toggle(&self.manifest_key, DOCUMENT, label.as_bytes(), replaced),
        }
        manifest.toggle(&self.manifest_key, DOCUMENT, label.as_bytes(), revision);
        Ok(())
    }

    /// Writes a document and returns its new revision, which is 1 for a new one.
    fn put_document(&self, database: &Connection, label: &str, bytes: &[u8]) -> Result<u64, VaultError> {
        let query = "SELECT revision FROM documents WHERE label = ?1";
        let stored: Option<u64> = database.prepare_cached(query)?.query_row([label], |row| row.get(0)).optional()?;
        let revision = stored.unwrap_or(0) + 1;
        let sealed = self.seal(DOCUMENT, label.as_bytes(), revision, bytes);
        let put = "INSERT INTO documents (label, revision, box) VALUES (?1, ?2, ?3)
             ON CONFLICT (label) DO UPDATE SET revision = ?2, box = ?3";
        database.prepare_cached(put)?.execute(params![label, revision, sealed])?;
        Ok(revision)
    }

    /// Reads the manifest. It is read for each change instead of being kept, so that nothing has to be put right after
    /// a change that failed.
    fn manifest(&self, database: &Connection) -> Result<Manifest, VaultError> {
        let bytes = self.document(database, MANIFEST)?;
        let manifest = bytes.and_then(|bytes| Manifest::from_bytes(&bytes));
        manifest.ok_or_else(|| VaultError::Damaged("it has no manifest".into()))
    }
}

/// Returns the associated data that binds a box to its place. It is unambiguous: kinds hold no NUL, and everything else
/// but the id has a fixed length.
fn binding(vault: &[u8; 16], kind: &str, id: &[u8], revision: u64) -> Vec<u8> {
    [b"guillemet vault 1\0", vault.as_slice(), kind.as_bytes(), b"\0", &revision.to_le_bytes(), id].concat()
}

fn key_binding(vault: &[u8; 16]) -> Vec<u8> {
    binding(vault, "key", b"", 0)
}

fn stored_revision(database: &Connection, id: SecretId) -> Result<Option<u64>, VaultError> {
    let query = "SELECT revision FROM records WHERE id = ?1";
    Ok(database.prepare_cached(query)?.query_row([id.0], |row| row.get(0)).optional()?)
}

#[cfg(test)]
mod tests;
