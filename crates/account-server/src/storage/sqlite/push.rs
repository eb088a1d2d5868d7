//! A push in one transaction.

use rusqlite::{Connection, OptionalExtension, params};

use super::file;
use crate::storage::{KeyKind, Pushing, StorageError, check_bounds, invalid_field};
use guillemet_wire::{AccountId, DeviceKey, HeadRef, SealedRecord};

/// Accepts a push. Any failure rolls everything back.
pub(super) fn push(database: &Connection, pushing: &Pushing) -> Result<HeadRef, StorageError> {
    let (account, push) = (pushing.account, &pushing.push);
    file::current_head(database, account)?.check(pushing)?;
    let seq = push.head.seq;
    for device in &push.revoked {
        let ended = params![account.0, device.0, seq];
        execute(database, "UPDATE keys SET ended = ?3 WHERE account = ?1 AND device = ?2 AND ended IS NULL", ended)?;
        execute(database, "UPDATE wraps SET ended = ?3 WHERE account = ?1 AND device = ?2 AND ended IS NULL", ended)?;
        let gone = params![account.0, device.0];
        execute(database, "DELETE FROM usage WHERE account = ?1 AND device = ?2", gone)?;
        execute(database, "DELETE FROM enrolments WHERE account = ?1 AND device = ?2", gone)?;
    }
    for (index, device) in push.admitted.iter().enumerate() {
        let admitted = execute(
            database,
            "UPDATE keys SET kind = ?3, came = ?4 WHERE account = ?1 AND device = ?2 AND kind = ?5 AND ended IS NULL",
            params![account.0, device.0, KeyKind::Device.to_number(), seq, KeyKind::Pending.to_number()],
        )?;
        if admitted == 0 {
            return Err(invalid_field(format!("admitted.{index}"), "this device is not waiting"));
        }
        execute(database, "DELETE FROM enrolments WHERE account = ?1 AND device = ?2", params![account.0, device.0])?;
    }
    for (index, key) in push.keys.iter().enumerate() {
        if !put_key(database, account, key, KeyKind::Device, seq)? {
            return Err(invalid_field(
                format!("keys.{index}.key_id"),
                "this key id already exists; generate another one",
            ));
        }
    }
    for wrap in &push.wraps {
        let values = params![account.0, wrap.device.0, wrap.epoch, seq, wrap.sender.0, wrap.sealed.0];
        let insert = "INSERT INTO wraps (account, device, epoch, came, sender, box) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        execute(database, insert, values)?;
    }
    if let Some(link) = &push.link {
        let values = params![account.0, link.epoch, seq, link.sealed.0];
        execute(database, "INSERT INTO links (account, epoch, came, box) VALUES (?1, ?2, ?3, ?4)", values)?;
    }
    let (mut objects, mut bytes) = stored_size(database, account)?;
    for record in &push.records {
        objects -= u64::from(replace_record(database, account, record, seq)?);
        objects += u64::from(record.sealed.is_some());
        bytes += record.sealed.as_ref().map_or(0, |sealed| sealed.0.len() as u64);
    }
    bytes += push.head.sealed.0.len() as u64;
    check_bounds(pushing.bounds, objects, bytes)?;
    let head = &push.head;
    execute(
        database,
        "INSERT INTO heads (account, seq, epoch, prev, hash, pushed_at, box) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![account.0, seq, head.epoch, head.prev.0, pushing.hash.0, pushing.at, head.sealed.0],
    )?;
    execute(
        database,
        "UPDATE accounts SET seq = ?2, hash = ?3, epoch = ?4, objects = ?5, bytes = ?6 WHERE id = ?1",
        params![account.0, seq, pushing.hash.0, head.epoch, objects, bytes],
    )?;
    Ok(HeadRef { seq, hash: pushing.hash })
}

/// Stores a key. Returns whether its id was free.
pub(super) fn put_key(
    database: &Connection,
    account: AccountId,
    key: &DeviceKey,
    kind: KeyKind,
    came: u64,
) -> Result<bool, StorageError> {
    let insert = "INSERT INTO keys (id, account, hash, kind, device, came) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
        ON CONFLICT (id) DO NOTHING";
    let values = params![key.key_id, account.0, key.key_hash.0, kind.to_number(), key.device.0, came];
    Ok(execute(database, insert, values)? == 1)
}

/// Returns the number of objects of an account, and the bytes of its boxes.
fn stored_size(database: &Connection, account: AccountId) -> Result<(u64, u64), StorageError> {
    let mut query = database.prepare_cached("SELECT objects, bytes FROM accounts WHERE id = ?1")?;
    Ok(query.query_row([account.0], |row| Ok((row.get(0)?, row.get(1)?)))?)
}

/// Ends the valid form of a record and inserts the new one. Returns whether the former form was an object.
fn replace_record(
    database: &Connection,
    account: AccountId,
    record: &SealedRecord,
    seq: u64,
) -> Result<bool, StorageError> {
    let end =
        "UPDATE records SET ended = ?3 WHERE account = ?1 AND id = ?2 AND ended IS NULL RETURNING box IS NOT NULL";
    let mut end = database.prepare_cached(end)?;
    let was = end.query_row(params![account.0, record.id.0, seq], |row| row.get(0)).optional()?;
    execute(
        database,
        "INSERT INTO records (account, id, came, revision, epoch, box) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            account.0,
            record.id.0,
            seq,
            record.revision,
            record.epoch,
            record.sealed.as_ref().map(|sealed| sealed.0.as_slice())
        ],
    )?;
    Ok(was.unwrap_or(false))
}

/// Runs a statement. Returns the number of rows it changed.
pub(super) fn execute(database: &Connection, text: &str, values: impl rusqlite::Params) -> Result<usize, StorageError> {
    Ok(database.prepare_cached(text)?.execute(values)?)
}
