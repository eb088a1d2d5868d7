//! Keys, invitations, devices that wait to be admitted, wraps, and usage documents.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::push::{execute, put_key};
use crate::storage::{ENROLMENTS_MAX, KeyKind, KnownKey, StorageError, invalid_field};
use guillemet_base::names::Millis;
use guillemet_wire::{AccountId, DeviceId, DeviceKey, Enrolment, Hash, PublicKey, Sealed, UsageUpload, Wrap};

pub(super) fn key(database: &Connection, id: &str) -> Result<Option<KnownKey>, StorageError> {
    let text = "SELECT account, hash, kind, device FROM keys WHERE id = ?1 AND ended IS NULL";
    let row = database.prepare_cached(text)?.query_row([id], |row| {
        let device = row.get::<_, Option<[u8; 16]>>(3)?.map(DeviceId);
        Ok((AccountId(row.get(0)?), Hash(row.get(1)?), row.get::<_, u8>(2)?, device))
    });
    let found = row.optional()?;
    Ok(found.and_then(|(account, hash, kind, device)| {
        Some(KnownKey { account, hash, kind: KeyKind::from_number(kind)?, device })
    }))
}

pub(super) fn wrap(database: &Connection, account: AccountId, device: DeviceId) -> Result<Option<Wrap>, StorageError> {
    let mut query = database.prepare_cached(
        "SELECT epoch, sender, box FROM wraps WHERE account = ?1 AND device = ?2 AND ended IS NULL
        ORDER BY epoch DESC, came DESC LIMIT 1",
    )?;
    let row = query.query_row(params![account.0, device.0], |row| {
        Ok(Wrap { device, epoch: row.get(0)?, sender: DeviceId(row.get(1)?), sealed: Sealed(row.get(2)?) })
    });
    Ok(row.optional()?)
}

pub(super) fn invite(
    database: &Connection,
    account: AccountId,
    token_hash: Hash,
    until: Millis,
) -> Result<(), StorageError> {
    super::file::current_head(database, account)?;
    let insert = "INSERT INTO invites (account, token, until) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
    execute(database, insert, params![account.0, token_hash.0, until])?;
    Ok(())
}

pub(super) fn enrol(
    database: &Connection,
    account: AccountId,
    token_hash: Hash,
    enrolment: &Enrolment,
    at: Millis,
) -> Result<(), StorageError> {
    let device = enrolment.key.device;
    let text = "SELECT until, device FROM invites WHERE account = ?1 AND token = ?2";
    let invited = database.prepare_cached(text)?.query_row(params![account.0, token_hash.0], |row| {
        Ok((row.get::<_, Millis>(0)?, row.get::<_, Option<[u8; 16]>>(1)?.map(DeviceId)))
    });
    let (until, by) = invited.optional()?.ok_or(StorageError::Token)?;
    // The device repeats the call after a lost answer. Nothing is left to do.
    let existing = key(database, &enrolment.key.key_id)?;
    let is_same = |key: KnownKey| key.account == account && key.hash == enrolment.key.key_hash && key.device == by;
    if by == Some(device) && existing.is_some_and(is_same) {
        return Ok(());
    }
    if until <= at || by.is_some_and(|by| by != device) {
        return Err(StorageError::Token);
    }
    let mut count = database.prepare_cached("SELECT count(*) FROM enrolments WHERE account = ?1")?;
    if count.query_row([account.0], |row| row.get::<_, u64>(0))? >= ENROLMENTS_MAX {
        return Err(invalid_field("key.device".into(), "too many devices are waiting; reject some of them"));
    }
    let mut taken = database.prepare_cached(
        "SELECT count(*) FROM keys WHERE account = ?1 AND device = ?2 AND kind <> ?3 AND ended IS NULL",
    )?;
    let taken: u64 = taken.query_row(params![account.0, device.0, KeyKind::Pending.to_number()], |row| row.get(0))?;
    if taken > 0 {
        return Err(invalid_field("key.device".into(), "this device is already in the account"));
    }
    remove_enrolment(database, account, device)?;
    if !put_key(database, account, &enrolment.key, KeyKind::Pending, 0)? {
        return Err(invalid_field("key.key_id".into(), "this key id already exists; generate another one"));
    }
    let used = "UPDATE invites SET device = ?3 WHERE account = ?1 AND token = ?2";
    execute(database, used, params![account.0, token_hash.0, device.0])?;
    execute(
        database,
        "INSERT INTO enrolments (account, device, at, key_id, key_hash, public_key, mac, name)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            account.0,
            device.0,
            at,
            enrolment.key.key_id,
            enrolment.key.key_hash.0,
            enrolment.public_key.0,
            enrolment.mac.0,
            enrolment.name.0
        ],
    )?;
    Ok(())
}

/// Removes a device that waits, with its key. Returns whether there was one.
fn remove_enrolment(database: &Connection, account: AccountId, device: DeviceId) -> Result<bool, StorageError> {
    let pending = params![account.0, device.0, KeyKind::Pending.to_number()];
    execute(database, "DELETE FROM keys WHERE account = ?1 AND device = ?2 AND kind = ?3 AND ended IS NULL", pending)?;
    let waiting = params![account.0, device.0];
    Ok(execute(database, "DELETE FROM enrolments WHERE account = ?1 AND device = ?2", waiting)? == 1)
}

pub(super) fn reject_enrolment(
    database: &Connection,
    account: AccountId,
    device: DeviceId,
) -> Result<bool, StorageError> {
    remove_enrolment(database, account, device)
}

pub(super) fn enrolments(database: &Connection, account: AccountId) -> Result<Vec<Enrolment>, StorageError> {
    let mut query = database.prepare_cached(
        "SELECT device, key_id, key_hash, public_key, mac, name FROM enrolments WHERE account = ?1 ORDER BY at, device",
    )?;
    let read = |row: &Row<'_>| {
        Ok(Enrolment {
            key: DeviceKey { device: DeviceId(row.get(0)?), key_id: row.get(1)?, key_hash: Hash(row.get(2)?) },
            public_key: PublicKey(row.get(3)?),
            mac: Hash(row.get(4)?),
            name: Sealed(row.get(5)?),
        })
    };
    Ok(query.query_map([account.0], read)?.collect::<Result<_, _>>()?)
}

pub(super) fn put_usage(database: &Connection, account: AccountId, usage: &UsageUpload) -> Result<(), StorageError> {
    // The device may have been revoked since its key was checked.
    let text = "SELECT count(*) FROM keys WHERE account = ?1 AND device = ?2 AND kind = ?3 AND ended IS NULL";
    let values = params![account.0, usage.device.0, KeyKind::Device.to_number()];
    if database.prepare_cached(text)?.query_row(values, |row| row.get::<_, u64>(0))? == 0 {
        return Err(StorageError::Ended);
    }
    let text = "SELECT counter FROM usage WHERE account = ?1 AND device = ?2";
    let stored =
        database.prepare_cached(text)?.query_row(params![account.0, usage.device.0], |row| row.get(0)).optional()?;
    if let Some(stored) = stored.filter(|stored| *stored >= usage.counter) {
        return Err(StorageError::NotHigher { stored });
    }
    execute(
        database,
        "INSERT OR REPLACE INTO usage (account, device, counter, epoch, box) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![account.0, usage.device.0, usage.counter, usage.epoch, usage.sealed.0],
    )?;
    Ok(())
}

pub(super) fn usage(database: &Connection, account: AccountId) -> Result<Vec<UsageUpload>, StorageError> {
    let text = "SELECT device, counter, epoch, box FROM usage WHERE account = ?1 ORDER BY device";
    let mut query = database.prepare_cached(text)?;
    let read = |row: &Row<'_>| {
        Ok(UsageUpload {
            device: DeviceId(row.get(0)?),
            counter: row.get(1)?,
            epoch: row.get(2)?,
            sealed: Sealed(row.get(3)?),
        })
    };
    Ok(query.query_map([account.0], read)?.collect::<Result<_, _>>()?)
}
