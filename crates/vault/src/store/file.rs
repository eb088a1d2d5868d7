//! The vault's file: its layout, and how it is created, read without writing, and changed.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};

use super::{MANIFEST, Manifest, VaultError, VaultSealer, key_binding};
use crate::keys::{Method, PassphraseHeader};
use guillemet_base::files::{self, Links};
use guillemet_base::random::random;
use guillemet_secret::crypto::{self, Key, PassphraseCost};

/// The format that this program writes; SQLite's `user_version`.
pub const FORMAT: u32 = 1;
/// Marks the file as a vault: "Guil", SQLite's `application_id`.
const APPLICATION_ID: u32 = 0x4775_696c;
/// How long a statement waits for the other connection of this process.
const BUSY: Duration = Duration::from_secs(5);
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

/// The part of the file that can be read without the key.
pub(super) struct VaultHeader {
    pub(super) id: [u8; 16],
    pub(super) method: Method,
    pub(super) passphrase: PassphraseHeader,
    pub(super) sealed_key: Vec<u8>,
}

/// Writes an empty vault into an empty file.
pub(super) fn write_empty(
    path: &Path,
    method: Method,
    passphrase: PassphraseHeader,
    unlock_key: &Key,
) -> Result<(), VaultError> {
    let id: [u8; 16] = random();
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
    VaultSealer::new(id, &key).put_document(&database, MANIFEST, &Manifest::default().to_bytes())?;
    // The caller moves only the main file to its place, so everything has to leave the log first. Closing would try the
    // same, and not report a failure.
    database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    database.close().map_err(|(_, error)| error.into())
}

/// Replaces the seal of the vault's key: the method that unlocks the vault, and the sealed key.
pub(super) fn write_seal(
    database: &Connection,
    method: Method,
    passphrase: PassphraseHeader,
    sealed_key: &[u8],
) -> Result<(), VaultError> {
    let cost = passphrase.cost;
    let update = "UPDATE meta SET unlock = ?1, salt = ?2, memory_kib = ?3, passes = ?4, sealed_key = ?5";
    database.execute(update, params![method.name(), passphrase.salt, cost.memory_kib, cost.passes, sealed_key])?;
    Ok(())
}

/// Opens a connection to the vault's file, the first or a second one of this process. While one is open, no other
/// process can use the file, and SQLite keeps the index of the log in memory. In a mapped file, that index would need
/// room on the disk, and would end the process if somebody truncated the file.
///
/// # Errors
/// The errors of SQLite, as [`VaultError`].
pub fn connect(path: &Path) -> Result<Connection, VaultError> {
    let database = Connection::open_with_flags_and_vfs(path, OpenFlags::SQLITE_OPEN_READ_WRITE, c"unix-excl")?;
    database.busy_timeout(BUSY)?;
    database.pragma_update(None, "synchronous", "FULL")?;
    // Overwrites a removed box instead of only unlinking it; `wipe` handles the rest.
    database.pragma_update(None, "secure_delete", "ON")?;
    // Without this, `wipe` would put temporary files elsewhere.
    database.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(database)
}

/// Runs `change` in one transaction. When this returns, either all of the change is on disk or nothing of it.
///
/// The transaction takes the write lock at once. One that reads first and locks later fails if the other connection of
/// this process has written in between, and waiting does not help.
///
/// # Errors
/// The errors of `change`, and those of SQLite. Nothing has changed then.
pub fn change<T, E: From<VaultError>>(
    database: &mut Connection,
    change: impl FnOnce(&Connection) -> Result<T, E>,
) -> Result<T, E> {
    check_len(database)?;
    let result = database.transaction_with_behavior(TransactionBehavior::Immediate);
    let transaction = result.map_err(VaultError::from)?;
    let done = change(&transaction)?;
    transaction.commit().map_err(VaultError::from)?;
    checkpoint(database);
    Ok(done)
}

/// Checks that nobody has truncated the file. SQLite keeps the first page in memory and does not notice, but could not
/// read again what it writes to the rest of the file.
fn check_len(database: &Connection) -> Result<(), VaultError> {
    let Some(path) = database.path().map(Path::new) else { return Ok(()) };
    // While the log holds something, the file can rightly be shorter.
    if log_len(path)? > 0 {
        return Ok(());
    }
    let number = |pragma: &str| database.query_row(pragma, [], |row| row.get::<_, u64>(0));
    let expected = number("PRAGMA page_count")? * number("PRAGMA page_size")?;
    let metadata = fs::metadata(path).map_err(|source| VaultError::File { path: path.to_owned(), source })?;
    if metadata.len() < expected {
        return Err(VaultError::Damaged("vault.db was truncated while it was in use".into()));
    }
    Ok(())
}

/// Moves committed changes from the log into the file, and empties the log. SQLite takes a damaged or lost log for the
/// end of the changes, so nothing acknowledged may be in the log alone.
///
/// If this fails, the log keeps the change, and the next change tries again.
pub(super) fn checkpoint(database: &Connection) {
    let result = database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
    if !matches!(result, Ok(false)) {
        tracing::warn!("a vault change is only in vault.db-wal for now; check the disk");
    }
}

/// Rewrites the file without the removed boxes. `secure_delete` overwrites a box where it is, but if SQLite has moved
/// it to another page before, parts of it stay in unused space of the former page.
///
/// If this fails, the next removal does it.
pub(super) fn wipe(database: &Connection) {
    match database.execute_batch("VACUUM") {
        Ok(()) => checkpoint(database),
        Err(error) => {
            tracing::warn!(%error, "encrypted parts of a deleted secret may remain in vault.db; check the disk")
        }
    }
}

/// Returns the path of a file that SQLite keeps beside another.
pub(super) fn companion_path(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Returns the length of the log in bytes; 0 if there is no log.
pub(super) fn log_len(path: &Path) -> Result<u64, VaultError> {
    let log = companion_path(path, "-wal");
    match fs::metadata(&log) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(source) => Err(VaultError::File { path: log, source }),
    }
}

/// Opens a connection that reads the file and its log and writes nothing, neither now nor when it is closed.
pub(super) fn open_read_only(path: &Path) -> Result<Connection, VaultError> {
    if log_len(path)? == 0 {
        return immutable(path);
    }
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    database.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // In exclusive mode SQLite keeps the index of the log in memory, not in a file.
    database.execute_batch("PRAGMA locking_mode = EXCLUSIVE; PRAGMA query_only = ON")?;
    Ok(database)
}

/// Opens the file exactly as it is on disk: without lock, log or shared memory.
fn immutable(path: &Path) -> Result<Connection, VaultError> {
    let path = path.to_str().ok_or_else(|| VaultError::File {
        path: path.to_owned(),
        source: io::Error::new(ErrorKind::InvalidInput, "the path is not UTF-8"),
    })?;
    let encoded = percent_encoding::utf8_percent_encode(path, percent_encoding::NON_ALPHANUMERIC).to_string();
    let uri = format!("file:{}?immutable=1", encoded.replace("%2F", "/"));
    Ok(Connection::open_with_flags(uri, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI)?)
}

/// Reads the part that needs no key, without writing: first SQLite's own header by hand, then the row that describes
/// the key.
pub(super) fn read_header(path: &Path) -> Result<VaultHeader, VaultError> {
    let mut first = [0; 100];
    let read = files::open_regular(path, Links::Follow).and_then(|(mut file, _)| file.read_exact(&mut first));
    read.map_err(|error| match error.kind() {
        ErrorKind::NotFound => VaultError::NoVault(path.to_owned()),
        ErrorKind::UnexpectedEof => VaultError::Damaged("it is truncated".into()),
        _ => VaultError::File { path: path.to_owned(), source: error },
    })?;
    // See <https://www.sqlite.org/fileformat2.html>, section 1.3.
    let number = |at: usize| u32::from_be_bytes([first[at], first[at + 1], first[at + 2], first[at + 3]]);
    if &first[..16] != b"SQLite format 3\0" || number(68) != APPLICATION_ID {
        return Err(VaultError::Damaged(format!("{} is not a vault", path.display())));
    }
    match number(60) {
        FORMAT => {}
        0 => return Err(VaultError::Damaged("it has no format".into())),
        found => return Err(VaultError::NewerFormat { found }),
    }
    // The log counts too: after a crash the file alone can be half-way between two states.
    let database = open_read_only(path)?;
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
    let method = Method::from_name(&unlock).ok_or_else(|| {
        VaultError::Damaged("it uses an unlock method that this version of Guillemet does not know".into())
    })?;
    Ok(VaultHeader { id, method, passphrase, sealed_key })
}
