//! `vault.db`: one SQLite file, one sealed box per secret, names inside.
//!
//! The vault's key is random and sealed in the file under what unlocks it (`keys`). Every box is bound to
//! the vault, its kind, its id and its revision; a sealed manifest binds the set, so that a row that was
//! taken out or put back is noticed.
//!
//! Invariant (promise 9): a change is one committed transaction, on disk before it is acknowledged.
//! Opening writes nothing before the key has proven right.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};
use zeroize::Zeroizing;

use super::crypto::{self, Key, PassphraseCost};
use super::keys::{self, Method, PassphraseHeader, UnlockWith};
use super::record::{Malformed, Secret};
use crate::home::Home;
use crate::names::SecretId;

/// The format this program writes; SQLite's `user_version`.
pub const FORMAT: u32 = 1;
/// "Guil": SQLite's `application_id`.
const APPLICATION_ID: u32 = 0x4775_696c;
/// How long a statement waits for the other connection of this process.
const BUSY: Duration = Duration::from_secs(5);
/// The label of the manifest.
const MANIFEST: &str = "manifest";

const SCHEMA: &str = "
    CREATE TABLE meta (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        vault_id BLOB NOT NULL,
        unlock TEXT NOT NULL,
        salt BLOB NOT NULL,
        memory_kib INTEGER NOT NULL,
        passes INTEGER NOT NULL,
        sealed_key BLOB NOT NULL
    ) STRICT;
    CREATE TABLE records (id BLOB PRIMARY KEY, revision INTEGER NOT NULL, box BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE documents (label TEXT PRIMARY KEY, revision INTEGER NOT NULL, box BLOB NOT NULL) STRICT, WITHOUT ROWID;
";

/// Why a vault cannot be made, opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// None there.
    #[error("there is no vault at {0}; `guillemet init` makes one")]
    NoVault(PathBuf),
    /// One there already.
    #[error("there is a vault at {0} already; nothing was changed. Use another --home, or move it away")]
    AlreadyExists(PathBuf),
    /// The key does not open it.
    #[error("the {} does not open this vault; nothing was changed. {}", .0.name(), wrong_key_help(*.0))]
    WrongKey(Method),
    /// Another kind of key is needed.
    #[error("this vault is unlocked by {0}; give that (`guillemet daemon --help` shows how)", .needed.name())]
    OtherMethod {
        /// What it is unlocked by.
        needed: Method,
    },
    /// The passphrase is empty.
    #[error("the passphrase is empty; type one, or pass it with --passphrase-fd")]
    EmptyPassphrase,
    /// The key file.
    #[error("the key file {path} {problem}")]
    KeyFile {
        /// Where.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Something in it is not as it was written.
    #[error("the vault is damaged: {0}. Nothing was changed; put vault.db back from your backup")]
    Damaged(String),
    /// Made by a later version.
    #[error(
        "the vault has format {found}, this guillemet knows formats up to {FORMAT}; use a newer guillemet. Nothing was changed"
    )]
    NewerFormat {
        /// Its format.
        found: u32,
    },
    /// A daemon runs already.
    #[error("another daemon{} runs on this home; stop it first, or use another --home", pid_text(*.0))]
    Locked(Option<u32>),
    /// Somebody else changed the record.
    #[error("the secret was changed meanwhile; look at it again and repeat the change")]
    Stale,
    /// A file cannot be read or written.
    #[error("{path}: {source}. Check that it is yours and that the disk has room")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// SQLite.
    #[error("the vault cannot be written or read: {0}. Nothing was changed; check the disk")]
    Database(rusqlite::Error),
}

fn wrong_key_help(method: Method) -> &'static str {
    match method {
        Method::KeyFile => "Put back the vault.key that belongs to this vault.db",
        Method::Passphrase => "Try again",
    }
}

fn pid_text(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

impl From<rusqlite::Error> for VaultError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                Self::Damaged("SQLite cannot read it".into())
            }
            _ => Self::Database(error),
        }
    }
}

fn file_error(path: &Path) -> impl Fn(io::Error) -> VaultError + '_ {
    move |source| VaultError::File { path: path.to_owned(), source }
}

/// What the manifest says: how many records there are, and a tag over all of their ids and revisions.
///
/// The tag is the XOR of one MAC per record, so that a change costs the same in a large vault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Manifest {
    count: u64,
    tag: [u8; 32],
}

impl Manifest {
    fn toggle(&mut self, key: &Key, id: SecretId, revision: u64) {
        let mac = key.mac(&[id.0.as_slice(), &revision.to_le_bytes()].concat());
        for (tag, mac) in self.tag.iter_mut().zip(mac) {
            *tag ^= mac;
        }
    }

    fn to_bytes(self) -> Vec<u8> {
        [self.count.to_le_bytes().as_slice(), &self.tag].concat()
    }
}

/// An open vault.
pub struct Vault {
    database: Connection,
    id: [u8; 16],
    key: Key,
    record_key: Key,
    document_key: Key,
    manifest_key: Key,
    manifest: Manifest,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault")
    }
}

/// What can be read without the key.
struct Header {
    id: [u8; 16],
    method: Method,
    passphrase: PassphraseHeader,
    sealed_key: Vec<u8>,
}

impl Vault {
    /// Makes an empty vault. What is there is never written over; an attempt that breaks off leaves at most
    /// a key file, which the next one uses.
    ///
    /// # Errors
    /// When there is one already, or something cannot be written.
    pub fn create(home: &Home, unlock: UnlockWith) -> Result<(), VaultError> {
        let path = home.vault_file();
        if fs::symlink_metadata(&path).is_ok() {
            return Err(VaultError::AlreadyExists(path));
        }
        if let UnlockWith::KeyFile(key_file) = &unlock {
            keys::make_key_file(key_file)?;
        }
        let passphrase = PassphraseHeader { salt: crypto::random(), cost: PassphraseCost::default() };
        let unlock_key = unlock.key(&passphrase)?;
        let temporary = path.with_extension("db.new");
        let _ = fs::remove_file(&temporary);
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
        made.map_err(file_error(&temporary))?;
        let written = write_empty(&temporary, unlock.method(), passphrase, &unlock_key);
        let placed = written.and_then(|()| {
            File::open(&temporary).and_then(|file| file.sync_all()).map_err(file_error(&temporary))?;
            rustix::fs::renameat_with(
                rustix::fs::CWD,
                &temporary,
                rustix::fs::CWD,
                &path,
                rustix::fs::RenameFlags::NOREPLACE,
            )
            .map_err(|error| match error {
                rustix::io::Errno::EXIST => VaultError::AlreadyExists(path.clone()),
                error => VaultError::File { path: path.clone(), source: error.into() },
            })?;
            let dir = home.data();
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(file_error(dir))
        });
        if placed.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        placed
    }

    /// How the vault is unlocked.
    ///
    /// # Errors
    /// As `open`, as far as the key is not needed.
    pub fn method(home: &Home) -> Result<Method, VaultError> {
        Ok(read_header(&home.vault_file())?.method)
    }

    /// Opens the vault and reads every secret in it.
    ///
    /// # Errors
    /// `VaultError`; nothing has been written then.
    pub fn open(home: &Home, unlock: UnlockWith) -> Result<(Self, Vec<Secret>), VaultError> {
        let path = home.vault_file();
        let header = read_header(&path)?;
        if unlock.method() != header.method {
            return Err(VaultError::OtherMethod { needed: header.method });
        }
        let unlock_key = unlock.key(&header.passphrase)?;
        let key = crypto::open_key(&unlock_key, &key_binding(&header.id), &header.sealed_key)
            .map_err(|_| VaultError::WrongKey(header.method))?;
        let database = connect(&path)?;
        let mut vault = Self {
            record_key: key.subkey("record"),
            document_key: key.subkey("document"),
            manifest_key: key.subkey("manifest"),
            database,
            id: header.id,
            key,
            manifest: Manifest::default(),
        };
        let secrets = vault.read_all()?;
        Ok((vault, secrets))
    }

    fn read_all(&mut self) -> Result<Vec<Secret>, VaultError> {
        let mut secrets = Vec::new();
        let mut damaged = Vec::new();
        let mut manifest = Manifest::default();
        {
            let mut statement = self.database.prepare("SELECT id, revision, box FROM records ORDER BY id")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let id = row.get_ref(0)?.as_blob().ok().and_then(|id| id.try_into().ok()).map(SecretId);
                let revision: u64 = row.get(1)?;
                let Some(id) = id else {
                    return Err(VaultError::Damaged("a record has no id".into()));
                };
                let sealed = row.get_ref(2)?.as_blob().unwrap_or_default();
                let opened = crypto::open(&self.record_key, &self.binding("record", &id.0, revision), sealed);
                match opened.map_err(|_| Malformed::Damaged).and_then(|bytes| Secret::decode(&bytes, revision)) {
                    Ok(secret) if secret.id == id => secrets.push(secret),
                    Err(Malformed::Newer) => return Err(VaultError::NewerFormat { found: FORMAT + 1 }),
                    _ => damaged.push(id.to_string()),
                }
                manifest.count += 1;
                manifest.toggle(&self.manifest_key, id, revision);
            }
        }
        if !damaged.is_empty() {
            let some = damaged.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
            return Err(VaultError::Damaged(format!("{} of its records do not open ({some})", damaged.len())));
        }
        let expected = self.document(MANIFEST)?;
        if expected.as_ref().map(|bytes| bytes.as_slice()) != Some(manifest.to_bytes().as_slice()) {
            return Err(VaultError::Damaged("records were taken out of it or put back".into()));
        }
        let mut names: Vec<String> = secrets.iter().map(|secret| secret.name.key()).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(VaultError::Damaged("two secrets have the same name".into()));
        }
        self.manifest = manifest;
        Ok(secrets)
    }

    /// Writes a new secret, or a new revision of one.
    ///
    /// # Errors
    /// `Stale` when the stored revision is not older; otherwise nothing has changed either.
    pub fn put(&mut self, secret: &Secret) -> Result<(), VaultError> {
        let plaintext = secret.encode();
        let binding = self.binding("record", &secret.id.0, secret.revision);
        let sealed = crypto::seal(&self.record_key, &binding, &plaintext);
        let mut manifest = self.manifest;
        let transaction = begin(&mut self.database)?;
        match stored_revision(&transaction, secret.id)? {
            Some(stored) if stored >= secret.revision => return Err(VaultError::Stale),
            Some(stored) => manifest.toggle(&self.manifest_key, secret.id, stored),
            None => manifest.count += 1,
        }
        manifest.toggle(&self.manifest_key, secret.id, secret.revision);
        transaction.execute(
            "INSERT INTO records (id, revision, box) VALUES (?1, ?2, ?3)
             ON CONFLICT (id) DO UPDATE SET revision = ?2, box = ?3",
            params![secret.id.0, secret.revision, sealed],
        )?;
        put_document(&transaction, &self.document_key, &self.id, MANIFEST, &manifest.to_bytes())?;
        transaction.commit()?;
        self.manifest = manifest;
        Ok(())
    }

    /// Removes a secret.
    ///
    /// # Errors
    /// Nothing has changed then.
    pub fn remove(&mut self, id: SecretId) -> Result<(), VaultError> {
        let mut manifest = self.manifest;
        let transaction = begin(&mut self.database)?;
        let Some(stored) = stored_revision(&transaction, id)? else {
            return Ok(());
        };
        manifest.count -= 1;
        manifest.toggle(&self.manifest_key, id, stored);
        transaction.execute("DELETE FROM records WHERE id = ?1", [id.0])?;
        put_document(&transaction, &self.document_key, &self.id, MANIFEST, &manifest.to_bytes())?;
        transaction.commit()?;
        self.manifest = manifest;
        Ok(())
    }

    /// A small document kept sealed beside the secrets.
    ///
    /// # Errors
    /// When it cannot be read or does not open.
    pub fn document(&self, label: &str) -> Result<Option<Zeroizing<Vec<u8>>>, VaultError> {
        let row: Option<(u64, Vec<u8>)> = self
            .database
            .query_row("SELECT revision, box FROM documents WHERE label = ?1", [label], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let Some((revision, sealed)) = row else {
            return Ok(None);
        };
        let binding = binding(&self.id, "document", label.as_bytes(), revision);
        let opened = crypto::open(&self.document_key, &binding, &sealed);
        opened.map(Some).map_err(|_| VaultError::Damaged(format!("its document `{label}` does not open")))
    }

    /// Writes a document.
    ///
    /// # Errors
    /// Nothing has changed then.
    pub fn set_document(&mut self, label: &str, bytes: &[u8]) -> Result<(), VaultError> {
        let transaction = begin(&mut self.database)?;
        put_document(&transaction, &self.document_key, &self.id, label, bytes)?;
        transaction.commit()?;
        Ok(())
    }

    /// A key for another part of the program, by its label.
    pub fn subkey(&self, label: &str) -> Key {
        self.key.subkey(label)
    }

    /// Names this vault.
    pub fn vault_id(&self) -> [u8; 16] {
        self.id
    }

    fn binding(&self, kind: &str, id: &[u8], revision: u64) -> Vec<u8> {
        binding(&self.id, kind, id, revision)
    }
}

/// What a box is bound to. Kinds hold no NUL, and everything but the id has a fixed length.
fn binding(vault: &[u8; 16], kind: &str, id: &[u8], revision: u64) -> Vec<u8> {
    [b"guillemet vault 1\0", vault.as_slice(), kind.as_bytes(), b"\0", &revision.to_le_bytes(), id].concat()
}

fn key_binding(vault: &[u8; 16]) -> Vec<u8> {
    binding(vault, "key", b"", 0)
}

fn stored_revision(transaction: &Transaction<'_>, id: SecretId) -> Result<Option<u64>, VaultError> {
    let query = "SELECT revision FROM records WHERE id = ?1";
    Ok(transaction.query_row(query, [id.0], |row| row.get(0)).optional()?)
}

fn put_document(
    database: &Connection,
    key: &Key,
    vault: &[u8; 16],
    label: &str,
    bytes: &[u8],
) -> Result<(), VaultError> {
    let query = "SELECT revision FROM documents WHERE label = ?1";
    let stored: Option<u64> = database.query_row(query, [label], |row| row.get(0)).optional()?;
    let revision = stored.unwrap_or(0) + 1;
    let sealed = crypto::seal(key, &binding(vault, "document", label.as_bytes(), revision), bytes);
    database.execute(
        "INSERT INTO documents (label, revision, box) VALUES (?1, ?2, ?3)
         ON CONFLICT (label) DO UPDATE SET revision = ?2, box = ?3",
        params![label, revision, sealed],
    )?;
    Ok(())
}

fn write_empty(path: &Path, method: Method, passphrase: PassphraseHeader, unlock_key: &Key) -> Result<(), VaultError> {
    let id: [u8; 16] = crypto::random();
    let key = Key::random();
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    database.pragma_update(None, "journal_mode", "WAL")?;
    database.pragma_update(None, "synchronous", "FULL")?;
    database.pragma_update(None, "application_id", APPLICATION_ID)?;
    database.pragma_update(None, "user_version", FORMAT)?;
    database.execute_batch(SCHEMA)?;
    let sealed_key = crypto::seal(unlock_key, &key_binding(&id), key.expose());
    let cost = passphrase.cost;
    database.execute(
        "INSERT INTO meta (one, vault_id, unlock, salt, memory_kib, passes, sealed_key) VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6)",
        params![id, method.name(), passphrase.salt, cost.memory_kib, cost.passes, sealed_key],
    )?;
    put_document(&database, &key.subkey("document"), &id, MANIFEST, &Manifest::default().to_bytes())?;
    // Closing moves everything from the write-ahead log into the file.
    database.close().map_err(|(_, error)| error.into())
}

/// Opens a second connection of this process to the same file, or the first.
///
/// # Errors
/// SQLite's.
pub fn connect(path: &Path) -> Result<Connection, VaultError> {
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    database.busy_timeout(BUSY)?;
    database.pragma_update(None, "synchronous", "FULL")?;
    // A removed box is overwritten, not only unlinked.
    database.pragma_update(None, "secure_delete", "ON")?;
    Ok(database)
}

/// Begins a change. It locks at once: one that reads first and locks later fails when the other connection
/// of this process has written in between, and no waiting helps.
///
/// # Errors
/// SQLite's.
pub fn begin(database: &mut Connection) -> Result<Transaction<'_>, VaultError> {
    Ok(database.transaction_with_behavior(TransactionBehavior::Immediate)?)
}

/// Reads what needs no key, without writing: SQLite's own header by hand, then the file as it lies there.
fn read_header(path: &Path) -> Result<Header, VaultError> {
    let mut first = [0; 100];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut first));
    read.map_err(|error| match error.kind() {
        ErrorKind::NotFound => VaultError::NoVault(path.to_owned()),
        ErrorKind::UnexpectedEof => VaultError::Damaged("it is cut off".into()),
        _ => VaultError::File { path: path.to_owned(), source: error },
    })?;
    // https://www.sqlite.org/fileformat2.html, section 1.3.
    let number = |at: usize| u32::from_be_bytes([first[at], first[at + 1], first[at + 2], first[at + 3]]);
    if &first[..16] != b"SQLite format 3\0" || number(68) != APPLICATION_ID {
        return Err(VaultError::Damaged(format!("{} is not a vault", path.display())));
    }
    match number(60) {
        FORMAT => {}
        0 => return Err(VaultError::Damaged("it has no format".into())),
        found => return Err(VaultError::NewerFormat { found }),
    }
    // `immutable`: no lock, no log, no shared memory. What is read here is written once, at the beginning.
    let path = path.to_str().ok_or_else(|| VaultError::File {
        path: path.to_owned(),
        source: io::Error::new(ErrorKind::InvalidInput, "the path is not UTF-8"),
    })?;
    let encoded = percent_encoding::utf8_percent_encode(path, percent_encoding::NON_ALPHANUMERIC).to_string();
    let uri = format!("file:{}?immutable=1", encoded.replace("%2F", "/"));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let database = Connection::open_with_flags(uri, flags)?;
    let query = "SELECT vault_id, unlock, salt, memory_kib, passes, sealed_key FROM meta";
    let header = database.query_row(query, [], |row| {
        let unlock: String = row.get(1)?;
        let cost = PassphraseCost { memory_kib: row.get(3)?, passes: row.get(4)? };
        Ok((row.get(0)?, unlock, PassphraseHeader { salt: row.get(2)?, cost }, row.get(5)?))
    });
    let (id, unlock, passphrase, sealed_key) = header.map_err(|error| match VaultError::from(error) {
        VaultError::Database(_) => VaultError::Damaged("its description cannot be read".into()),
        damaged => damaged,
    })?;
    let method = Method::named(&unlock)
        .ok_or_else(|| VaultError::Damaged("it is unlocked in a way this guillemet does not know".into()))?;
    Ok(Header { id, method, passphrase, sealed_key })
}

/// Held while a daemon runs on a home; given back when dropped, or when the process ends in any way.
#[derive(Debug)]
pub struct DaemonLock {
    _file: File,
}

impl DaemonLock {
    /// Takes the lock of a home.
    ///
    /// # Errors
    /// `Locked` while another daemon has it, `NoVault` where there is no home.
    pub fn acquire(home: &Home) -> Result<Self, VaultError> {
        let path = home.lock_file();
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = opened.map_err(|error| match error.kind() {
            ErrorKind::NotFound => VaultError::NoVault(home.vault_file()),
            _ => VaultError::File { path: path.clone(), source: error },
        })?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                let _ = file.read_to_string(&mut pid);
                return Err(VaultError::Locked(pid.trim().parse().ok()));
            }
            locked => locked.map_err(|error| VaultError::File { path: path.clone(), source: error.into() })?,
        }
        // The pid is for people; the lock is what counts.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests;
