//! The records of the account, stored beside the vault's own: sealed boxes, kept as the server has them. Knows nothing
//! of their content: the code that opens them checks them against the root in the account's head.

use rusqlite::{Connection, params};

use super::{AccountWrites, VaultError};

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS account_records (
    id BLOB PRIMARY KEY, revision INTEGER NOT NULL, epoch INTEGER NOT NULL, box BLOB NOT NULL
) STRICT, WITHOUT ROWID";

/// A sealed record of the account.
#[derive(Clone)]
pub struct AccountRecord {
    /// The id of the object that the record is about.
    pub id: [u8; 16],
    /// The record's revision in the account.
    pub revision: u64,
    /// The epoch whose key seals it.
    pub epoch: u64,
    /// The sealed box; `None` to remove the record.
    pub sealed: Option<Vec<u8>>,
}

fn exists(database: &Connection) -> Result<bool, VaultError> {
    let query = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'account_records')";
    Ok(database.query_row(query, [], |row| row.get(0))?)
}

pub(super) fn write(database: &Connection, writes: AccountWrites<'_>) -> Result<(), VaultError> {
    match writes {
        AccountWrites::Nothing | AccountWrites::These([]) => {}
        AccountWrites::Forget => database.execute_batch("DROP TABLE IF EXISTS account_records")?,
        AccountWrites::These(records) => {
            database.execute_batch(SCHEMA)?;
            let mut put = database.prepare_cached(
                "INSERT INTO account_records (id, revision, epoch, box) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (id) DO UPDATE SET revision = ?2, epoch = ?3, box = ?4",
            )?;
            let mut remove = database.prepare_cached("DELETE FROM account_records WHERE id = ?1")?;
            for record in records {
                match &record.sealed {
                    Some(sealed) => put.execute(params![record.id, record.revision, record.epoch, sealed])?,
                    None => remove.execute([record.id])?,
                };
            }
        }
    }
    Ok(())
}

pub(super) fn read(database: &Connection) -> Result<Vec<AccountRecord>, VaultError> {
    if !exists(database)? {
        return Ok(Vec::new());
    }
    let mut statement = database.prepare("SELECT id, revision, epoch, box FROM account_records ORDER BY id")?;
    let rows = statement.query_map([], |row| {
        Ok(AccountRecord { id: row.get(0)?, revision: row.get(1)?, epoch: row.get(2)?, sealed: Some(row.get(3)?) })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
