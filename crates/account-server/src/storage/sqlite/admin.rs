//! Administration: accounts, restoring a former head, pruning.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::file::TABLES;
use super::push::execute;
use crate::storage::{AccountRow, KeyKind, NewAccount, Retention, StorageError, StorageTotals};
use guillemet_wire::{AccountId, Hash, HeadRef};

pub(super) fn create(database: &Connection, account: &NewAccount) -> Result<(), StorageError> {
    let insert = "INSERT INTO accounts (id, created_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    if execute(database, insert, params![account.id.0, account.at])? == 0 {
        return Err(StorageError::Taken);
    }
    let key = params![account.key_id, account.id.0, account.key_hash.0, KeyKind::Creation.to_number()];
    execute(database, "INSERT INTO keys (id, account, hash, kind, came) VALUES (?1, ?2, ?3, ?4, 0)", key)?;
    Ok(())
}

pub(super) fn accounts(database: &Connection) -> Result<Vec<AccountRow>, StorageError> {
    let mut query = database.prepare_cached(
        "SELECT id, created_at, seq, hash, objects, bytes, pruned,
            (SELECT pushed_at FROM heads WHERE account = accounts.id AND heads.seq = accounts.seq),
            (SELECT count(DISTINCT device) FROM keys WHERE account = accounts.id AND kind = ?1 AND ended IS NULL)
        FROM accounts ORDER BY created_at, id",
    )?;
    let read = |row: &Row<'_>| {
        let (seq, hash): (u64, Option<[u8; 32]>) = (row.get(2)?, row.get(3)?);
        Ok(AccountRow {
            id: AccountId(row.get(0)?),
            created_at: row.get(1)?,
            newest: hash.map(|hash| HeadRef { seq, hash: Hash(hash) }),
            objects: row.get(4)?,
            bytes: row.get(5)?,
            kept_from: row.get::<_, u64>(6)? + 1,
            pushed_at: row.get(7)?,
            devices: row.get(8)?,
        })
    };
    Ok(query.query_map([KeyKind::Device.to_number()], read)?.collect::<Result<_, _>>()?)
}

pub(super) fn delete(database: &Connection, account: AccountId) -> Result<(), StorageError> {
    if execute(database, "DELETE FROM accounts WHERE id = ?1", [account.0])? == 0 {
        return Err(StorageError::NoAccount);
    }
    for table in TABLES {
        execute(database, &format!("DELETE FROM {table} WHERE account = ?1"), [account.0])?;
    }
    Ok(())
}

pub(super) fn restore(database: &Connection, account: AccountId, seq: u64) -> Result<HeadRef, StorageError> {
    super::file::current_head(database, account)?;
    let text = "SELECT hash, epoch FROM heads WHERE account = ?1 AND seq = ?2";
    let head = database.prepare_cached(text)?.query_row(params![account.0, seq], |row| Ok((row.get(0)?, row.get(1)?)));
    let (hash, epoch): ([u8; 32], u64) = head.optional()?.ok_or(StorageError::NoHead(seq))?;
    let at = params![account.0, seq];
    execute(database, "DELETE FROM heads WHERE account = ?1 AND seq > ?2", at)?;
    for table in ["records", "wraps", "links", "keys"] {
        execute(database, &format!("DELETE FROM {table} WHERE account = ?1 AND came > ?2"), at)?;
    }
    for table in ["records", "wraps", "keys"] {
        execute(database, &format!("UPDATE {table} SET ended = NULL WHERE account = ?1 AND ended > ?2"), at)?;
    }
    let values = params![account.0, seq, hash, epoch];
    execute(database, "UPDATE accounts SET seq = ?2, hash = ?3, epoch = ?4 WHERE id = ?1", values)?;
    recount(database, account)?;
    Ok(HeadRef { seq, hash: Hash(hash) })
}

/// Counts again what an account stores.
fn recount(database: &Connection, account: AccountId) -> Result<(), StorageError> {
    execute(
        database,
        "UPDATE accounts SET
            objects = (SELECT count(*) FROM records WHERE account = ?1 AND ended IS NULL AND box IS NOT NULL),
            bytes = (SELECT coalesce(sum(length(box)), 0) FROM records WHERE account = ?1)
                + (SELECT coalesce(sum(length(box)), 0) FROM heads WHERE account = ?1)
        WHERE id = ?1",
        [account.0],
    )?;
    Ok(())
}

pub(super) fn prune(database: &Connection, retention: Retention) -> Result<u64, StorageError> {
    execute(database, "DELETE FROM invites WHERE until < ?1", [retention.before])?;
    // Selects for each account the head that is `keep` back, or the newest before it that is old enough.
    let mut query = database.prepare_cached(
        "SELECT id, (SELECT max(seq) FROM heads WHERE account = id AND pushed_at < ?1 AND seq <=
            (SELECT seq FROM heads WHERE account = id ORDER BY seq DESC LIMIT 1 OFFSET ?2)) FROM accounts",
    )?;
    // The newest head always stays.
    let keep = retention.keep.max(1);
    let read = |row: &Row<'_>| Ok((AccountId(row.get(0)?), row.get::<_, Option<u64>>(1)?));
    let accounts: Vec<_> = query.query_map(params![retention.before, keep], read)?.collect::<Result<_, _>>()?;
    let mut pruned = 0;
    for (account, last) in accounts {
        let Some(last) = last else { continue };
        let until = params![account.0, last];
        pruned += execute(database, "DELETE FROM heads WHERE account = ?1 AND seq <= ?2", until)? as u64;
        for table in ["records", "wraps", "keys"] {
            execute(database, &format!("DELETE FROM {table} WHERE account = ?1 AND ended <= ?2"), until)?;
        }
        execute(database, "UPDATE accounts SET pruned = ?2 WHERE id = ?1", until)?;
        recount(database, account)?;
    }
    Ok(pruned)
}

pub(super) fn totals(database: &Connection) -> Result<StorageTotals, StorageError> {
    let text = "SELECT count(*), coalesce(sum(objects), 0), coalesce(sum(bytes), 0) FROM accounts";
    let read = |row: &Row<'_>| Ok(StorageTotals { accounts: row.get(0)?, objects: row.get(1)?, bytes: row.get(2)? });
    Ok(database.prepare_cached(text)?.query_row([], read)?)
}
