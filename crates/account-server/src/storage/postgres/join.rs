//! Keys, invitations, devices that wait to be admitted, wraps, and usage documents.

use deadpool_postgres::{GenericClient, Transaction};

use super::push::put_key;
use super::{bytes, execute, number, query, query_opt, some_bytes, to_i64};
use crate::storage::{ENROLMENTS_MAX, KeyKind, KnownKey, StorageError, invalid_field};
use guillemet_base::names::Millis;
use guillemet_wire::{AccountId, DeviceId, DeviceKey, Enrolment, Hash, PublicKey, Sealed, UsageUpload, Wrap};

pub(super) async fn key(client: &impl GenericClient, id: &str) -> Result<Option<KnownKey>, StorageError> {
    let text = "SELECT account, hash, kind, device FROM keys WHERE id = $1 AND ended IS NULL";
    let Some(row) = query_opt(client, text, &[&id]).await? else { return Ok(None) };
    let kind = u8::try_from(row.try_get::<_, i16>(2)?).ok().and_then(KeyKind::from_number);
    let (account, hash) = (AccountId(bytes(&row, 0)?), Hash(bytes(&row, 1)?));
    let device = some_bytes(&row, 3)?.map(DeviceId);
    Ok(kind.map(|kind| KnownKey { account, hash, kind, device }))
}

pub(super) async fn wrap(
    client: &impl GenericClient,
    account: AccountId,
    device: DeviceId,
) -> Result<Option<Wrap>, StorageError> {
    let text = "SELECT epoch, sender, box FROM wraps WHERE account = $1 AND device = $2 AND ended IS NULL
        ORDER BY epoch DESC, came DESC LIMIT 1";
    let found = query_opt(client, text, &[&account.0.as_slice(), &device.0.as_slice()]).await?;
    let Some(row) = found else { return Ok(None) };
    let (epoch, sender) = (number(&row, 0)?, DeviceId(bytes(&row, 1)?));
    Ok(Some(Wrap { device, epoch, sender, sealed: Sealed(row.try_get(2)?) }))
}

/// Locks the account's row, so that the rest of the transaction runs alone for this account.
async fn lock_account(transaction: &Transaction<'_>, account: AccountId) -> Result<(), StorageError> {
    let text = "SELECT 1 FROM accounts WHERE id = $1 FOR UPDATE";
    query_opt(transaction, text, &[&account.0.as_slice()]).await?.map(drop).ok_or(StorageError::NoAccount)
}

pub(super) async fn invite(
    transaction: &Transaction<'_>,
    account: AccountId,
    token_hash: Hash,
    until: Millis,
) -> Result<(), StorageError> {
    lock_account(transaction, account).await?;
    let insert = "INSERT INTO invites (account, token, until) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    execute(transaction, insert, &[&account.0.as_slice(), &token_hash.0.as_slice(), &to_i64(until)]).await?;
    Ok(())
}

pub(super) async fn enrol(
    transaction: &Transaction<'_>,
    account: AccountId,
    token_hash: Hash,
    enrolment: &Enrolment,
    at: Millis,
) -> Result<(), StorageError> {
    // An account that does not exist has no invitations.
    if let Err(error) = lock_account(transaction, account).await {
        return Err(if matches!(error, StorageError::NoAccount) { StorageError::Token } else { error });
    }
    let (id, token, device) = (account.0.as_slice(), token_hash.0.as_slice(), enrolment.key.device);
    let text = "SELECT until, device FROM invites WHERE account = $1 AND token = $2";
    let invited = query_opt(transaction, text, &[&id, &token]).await?.ok_or(StorageError::Token)?;
    let (until, by) = (number(&invited, 0)?, some_bytes(&invited, 1)?.map(DeviceId));
    // The device repeats the call after a lost answer. Nothing is left to do.
    let existing = key(transaction, &enrolment.key.key_id).await?;
    let is_same = |key: KnownKey| key.account == account && key.hash == enrolment.key.key_hash && key.device == by;
    if by == Some(device) && existing.is_some_and(is_same) {
        return Ok(());
    }
    if until <= at || by.is_some_and(|by| by != device) {
        return Err(StorageError::Token);
    }
    let waiting = query_opt(transaction, "SELECT count(*) FROM enrolments WHERE account = $1", &[&id]).await?;
    if waiting.map_or(Ok(0), |row| number(&row, 0))? >= ENROLMENTS_MAX {
        return Err(invalid_field("key.device".into(), "too many devices are waiting; reject some of them"));
    }
    let (name, pending) = (device.0.as_slice(), i16::from(KeyKind::Pending.to_number()));
    let text = "SELECT 1 FROM keys WHERE account = $1 AND device = $2 AND kind <> $3 AND ended IS NULL LIMIT 1";
    if query_opt(transaction, text, &[&id, &name, &pending]).await?.is_some() {
        return Err(invalid_field("key.device".into(), "this device is already in the account"));
    }
    remove_enrolment(transaction, account, device).await?;
    if !put_key(transaction, id, &enrolment.key, KeyKind::Pending, 0).await? {
        return Err(invalid_field("key.key_id".into(), "this key id already exists; generate another one"));
    }
    let used = "UPDATE invites SET device = $3 WHERE account = $1 AND token = $2";
    execute(transaction, used, &[&id, &token, &name]).await?;
    let (hash, public_key, mac) =
        (enrolment.key.key_hash.0.as_slice(), enrolment.public_key.0.as_slice(), enrolment.mac.0.as_slice());
    execute(
        transaction,
        "INSERT INTO enrolments (account, device, at, key_id, key_hash, public_key, mac, name)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        &[&id, &name, &to_i64(at), &enrolment.key.key_id, &hash, &public_key, &mac, &enrolment.name.0],
    )
    .await?;
    Ok(())
}

/// Removes a device that waits, with its key. Returns whether there was one.
async fn remove_enrolment(
    transaction: &Transaction<'_>,
    account: AccountId,
    device: DeviceId,
) -> Result<bool, StorageError> {
    let (account, device) = (account.0.as_slice(), device.0.as_slice());
    let text = "DELETE FROM keys WHERE account = $1 AND device = $2 AND kind = $3 AND ended IS NULL";
    execute(transaction, text, &[&account, &device, &i16::from(KeyKind::Pending.to_number())]).await?;
    Ok(execute(transaction, "DELETE FROM enrolments WHERE account = $1 AND device = $2", &[&account, &device]).await?
        == 1)
}

pub(super) async fn reject_enrolment(
    transaction: &Transaction<'_>,
    account: AccountId,
    device: DeviceId,
) -> Result<bool, StorageError> {
    lock_account(transaction, account).await?;
    remove_enrolment(transaction, account, device).await
}

pub(super) async fn enrolments(
    client: &impl GenericClient,
    account: AccountId,
) -> Result<Vec<Enrolment>, StorageError> {
    let text = "SELECT device, key_id, key_hash, public_key, mac, name FROM enrolments
        WHERE account = $1 ORDER BY at, device";
    let mut enrolments = Vec::new();
    for row in query(client, text, &[&account.0.as_slice()]).await? {
        let device = DeviceId(bytes(&row, 0)?);
        enrolments.push(Enrolment {
            key: DeviceKey { device, key_id: row.try_get(1)?, key_hash: Hash(bytes(&row, 2)?) },
            public_key: PublicKey(bytes(&row, 3)?),
            mac: Hash(bytes(&row, 4)?),
            name: Sealed(row.try_get(5)?),
        });
    }
    Ok(enrolments)
}

pub(super) async fn put_usage(
    transaction: &Transaction<'_>,
    account: AccountId,
    usage: &UsageUpload,
) -> Result<(), StorageError> {
    let (account, device) = (account.0.as_slice(), usage.device.0.as_slice());
    // The device may have been revoked since its key was checked. From here on, a push that revokes it waits.
    let text =
        "SELECT 1 FROM keys WHERE account = $1 AND device = $2 AND kind = $3 AND ended IS NULL LIMIT 1 FOR SHARE";
    if query_opt(transaction, text, &[&account, &device, &i16::from(KeyKind::Device.to_number())]).await?.is_none() {
        return Err(StorageError::Ended);
    }
    let (counter, epoch) = (to_i64(usage.counter), to_i64(usage.epoch));
    let put = execute(
        transaction,
        "INSERT INTO usage (account, device, counter, epoch, box) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (account, device) DO UPDATE SET counter = excluded.counter, epoch = excluded.epoch, box = excluded.box
        WHERE usage.counter < excluded.counter",
        &[&account, &device, &counter, &epoch, &usage.sealed.0],
    )
    .await?;
    if put == 1 {
        return Ok(());
    }
    let stored =
        query_opt(transaction, "SELECT counter FROM usage WHERE account = $1 AND device = $2", &[&account, &device])
            .await?;
    Err(StorageError::NotHigher { stored: stored.map_or(Ok(0), |row| number(&row, 0))? })
}

pub(super) async fn usage(client: &impl GenericClient, account: AccountId) -> Result<Vec<UsageUpload>, StorageError> {
    let text = "SELECT device, counter, epoch, box FROM usage WHERE account = $1 ORDER BY device";
    let mut usage = Vec::new();
    for row in query(client, text, &[&account.0.as_slice()]).await? {
        let (device, counter, epoch) = (DeviceId(bytes(&row, 0)?), number(&row, 1)?, number(&row, 2)?);
        usage.push(UsageUpload { device, counter, epoch, sealed: Sealed(row.try_get(3)?) });
    }
    Ok(usage)
}
