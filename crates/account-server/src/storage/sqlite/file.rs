//! The database file: its tables, its format, and how it is opened.

use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};

use crate::storage::{CurrentHead, StorageError};
use guillemet_wire::{AccountId, Hash, HeadRef};

/// The name of the database file.
pub const DATABASE: &str = "account.db";
/// The format that this version writes, stored as SQLite's `user_version`.
const FORMAT: u32 = 1;
/// SQLite's `application_id` of the file: "GuAc".
const APPLICATION_ID: u32 = 0x4775_4163;
/// The time that a statement waits for another process.
const BUSY: Duration = Duration::from_secs(10);
/// `came` is the seq of the head that brought a row, `ended` the seq of the head at which it is no longer valid.
const SCHEMA: &str = "
    CREATE TABLE accounts (
        id BLOB PRIMARY KEY,
        created_at INTEGER NOT NULL,
        seq INTEGER NOT NULL DEFAULT 0,
        hash BLOB,
        epoch INTEGER NOT NULL DEFAULT 0,
        pruned INTEGER NOT NULL DEFAULT 0,
        objects INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE heads (
        account BLOB NOT NULL, seq INTEGER NOT NULL,
        epoch INTEGER NOT NULL, prev BLOB NOT NULL, hash BLOB NOT NULL, pushed_at INTEGER NOT NULL, box BLOB NOT NULL,
        PRIMARY KEY (account, seq)
    ) STRICT;
    CREATE TABLE records (
        account BLOB NOT NULL, id BLOB NOT NULL, came INTEGER NOT NULL, ended INTEGER,
        revision INTEGER NOT NULL, epoch INTEGER NOT NULL, box BLOB,
        PRIMARY KEY (account, id, came)
    ) STRICT;
    CREATE INDEX records_newest ON records (account, came, id) WHERE ended IS NULL;
    CREATE INDEX records_former ON records (account, ended) WHERE ended IS NOT NULL;
    CREATE TABLE wraps (
        account BLOB NOT NULL, device BLOB NOT NULL, epoch INTEGER NOT NULL, came INTEGER NOT NULL, ended INTEGER,
        sender BLOB NOT NULL, box BLOB NOT NULL,
        PRIMARY KEY (account, device, epoch, came)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE links (
        account BLOB NOT NULL, epoch INTEGER NOT NULL, came INTEGER NOT NULL, box BLOB NOT NULL,
        PRIMARY KEY (account, epoch, came)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE keys (
        id TEXT PRIMARY KEY,
        account BLOB NOT NULL, hash BLOB NOT NULL, kind INTEGER NOT NULL, device BLOB,
        came INTEGER NOT NULL, ended INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX keys_device ON keys (account, device);
    CREATE TABLE invites (
        account BLOB NOT NULL, token BLOB NOT NULL, until INTEGER NOT NULL, device BLOB,
        PRIMARY KEY (account, token)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE enrolments (
        account BLOB NOT NULL, device BLOB NOT NULL, at INTEGER NOT NULL,
        key_id TEXT NOT NULL, key_hash BLOB NOT NULL, public_key BLOB NOT NULL, mac BLOB NOT NULL, name BLOB NOT NULL,
        PRIMARY KEY (account, device)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE usage (
        account BLOB NOT NULL, device BLOB NOT NULL,
        counter INTEGER NOT NULL, epoch INTEGER NOT NULL, box BLOB NOT NULL,
        PRIMARY KEY (account, device)
    ) STRICT;
";
/// Every table except `accounts`. Each has a column `account`.
pub(in crate::storage) const TABLES: [&str; 8] =
    ["heads", "records", "wraps", "links", "keys", "invites", "enrolments", "usage"];

/// Creates the file if it does not exist (folder 0700, file 0600), and checks that it can be used.
pub(super) fn prepare(folder: &Path) -> Result<PathBuf, StorageError> {
    let failed = |error| StorageError::Database(format!("{}: {error}", folder.display()));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let path = folder.join(DATABASE);
    // SQLite would create it with the permissions that the umask leaves.
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    let mut database = connect(&path)?;
    database.pragma_update(None, "journal_mode", "WAL")?;
    // If two processes start at the same time, the second finds the tables that the first has created.
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    match transaction.pragma_query_value(None, "user_version", |row| row.get(0))? {
        0 => {
            transaction.execute_batch(SCHEMA)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", FORMAT)?;
            transaction.commit()?;
        }
        FORMAT => {}
        found => return Err(StorageError::NewerFormat { found }),
    }
    Ok(path)
}

/// Opens the file in a folder for reading only.
pub(in crate::storage) fn open_read_only(folder: &Path) -> Result<Connection, StorageError> {
    let path = folder.join(DATABASE);
    if !path.exists() {
        return Err(StorageError::Database(format!("there is no database in {}", folder.display())));
    }
    let database = connect(&path)?;
    database.pragma_update(None, "query_only", "ON")?;
    match database.pragma_query_value(None, "user_version", |row| row.get(0))? {
        FORMAT => Ok(database),
        found => Err(StorageError::NewerFormat { found }),
    }
}

/// Opens a connection to the file.
pub(super) fn connect(path: &Path) -> Result<Connection, StorageError> {
    // Only `prepare` creates the file.
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    database.busy_timeout(BUSY)?;
    database.pragma_update(None, "synchronous", "FULL")?;
    database.set_prepared_statement_cache_capacity(64);
    Ok(database)
}

/// Returns the newest head of an account.
pub(super) fn current_head(database: &Connection, account: AccountId) -> Result<CurrentHead, StorageError> {
    let mut query = database.prepare_cached("SELECT seq, hash, epoch FROM accounts WHERE id = ?1")?;
    let row = query.query_row([account.0], |row| {
        let (seq, hash): (u64, Option<[u8; 32]>) = (row.get(0)?, row.get(1)?);
        Ok(CurrentHead { newest: hash.map(|hash| HeadRef { seq, hash: Hash(hash) }), epoch: row.get(2)? })
    });
    row.optional()?.ok_or(StorageError::NoAccount)
}
