//! A push in one transaction. Its first statement locks the account's row, so that the next push waits until it knows
//! which head it is pushed onto.

use deadpool_postgres::{GenericClient, Transaction};

use super::{big, number, row, rows, run, some_bytes};
use crate::storage::{CurrentHead, KeyKind, Pushing, StorageError, refused, within};
use guillemet_wire::{AccountId, DeviceId, DeviceKey, Hash, HeadRef, SealedRecord};

/// Returns the newest head of an account.
pub(super) async fn found(on: &impl GenericClient, account: AccountId) -> Result<CurrentHead, StorageError> {
    let text = "SELECT seq, hash, epoch FROM accounts WHERE id = $1";
    let row = row(on, text, &[&account.0.as_slice()]).await?.ok_or(StorageError::NoAccount)?;
    as_found(&row)
}

fn as_found(row: &tokio_postgres::Row) -> Result<CurrentHead, StorageError> {
    let seq = number(row, 0)?;
    let newest = some_bytes(row, 1)?.map(|hash| HeadRef { seq, hash: Hash(hash) });
    Ok(CurrentHead { newest, epoch: number(row, 2)? })
}

/// Accepts a push. Any failure rolls everything back.
pub(super) async fn push(on: &Transaction<'_>, pushing: &Pushing) -> Result<HeadRef, StorageError> {
    let (push, account) = (&pushing.push, pushing.account.0.as_slice());
    let text = "SELECT seq, hash, epoch, objects, bytes FROM accounts WHERE id = $1 FOR UPDATE";
    let held = row(on, text, &[&account]).await?.ok_or(StorageError::NoAccount)?;
    as_found(&held)?.admits(pushing)?;
    let seq = big(push.head.seq);
    revoke(on, account, &push.revoked, seq).await?;
    admit(on, account, &push.admitted, seq).await?;
    for (index, key) in push.keys.iter().enumerate() {
        if !put_key(on, account, key, KeyKind::Device, seq).await? {
            return Err(refused(format!("keys.{index}.key_id"), "this key id already exists; generate another one"));
        }
    }
    for wrap in &push.wraps {
        let insert = "INSERT INTO wraps (account, device, epoch, came, sender, box) VALUES ($1, $2, $3, $4, $5, $6)";
        let (device, sender) = (wrap.device.0.as_slice(), wrap.sender.0.as_slice());
        run(on, insert, &[&account, &device, &big(wrap.epoch), &seq, &sender, &wrap.sealed.0]).await?;
    }
    if let Some(link) = &push.link {
        let insert = "INSERT INTO links (account, epoch, came, box) VALUES ($1, $2, $3, $4)";
        run(on, insert, &[&account, &big(link.epoch), &seq, &link.sealed.0]).await?;
    }
    let head = &push.head;
    let ended = put_records(on, account, &push.records, seq).await?;
    let objects = push.records.iter().filter(|record| record.sealed.is_some()).count() as u64;
    let objects = (number(&held, 3)? + objects).saturating_sub(ended);
    let lengths = push.records.iter().filter_map(|record| record.sealed.as_ref()).map(|sealed| sealed.0.len() as u64);
    let bytes = number(&held, 4)? + lengths.sum::<u64>() + head.sealed.0.len() as u64;
    within(pushing.bounds, objects, bytes)?;
    let (prev, hash) = (head.prev.0.as_slice(), pushing.hash.0.as_slice());
    run(
        on,
        "INSERT INTO heads (account, seq, epoch, prev, hash, pushed_at, box) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        &[&account, &seq, &big(head.epoch), &prev, &hash, &big(pushing.at), &head.sealed.0],
    )
    .await?;
    run(
        on,
        "UPDATE accounts SET seq = $2, hash = $3, epoch = $4, objects = $5, bytes = $6 WHERE id = $1",
        &[&account, &seq, &hash, &big(head.epoch), &big(objects), &big(bytes)],
    )
    .await?;
    Ok(HeadRef { seq: head.seq, hash: pushing.hash })
}

async fn revoke(on: &Transaction<'_>, account: &[u8], devices: &[DeviceId], seq: i64) -> Result<(), StorageError> {
    if devices.is_empty() {
        return Ok(());
    }
    let devices: Vec<&[u8]> = devices.iter().map(|device| device.0.as_slice()).collect();
    for table in ["keys", "wraps"] {
        let end = format!("UPDATE {table} SET ended = $3 WHERE account = $1 AND device = ANY($2) AND ended IS NULL");
        run(on, &end, &[&account, &devices, &seq]).await?;
    }
    for table in ["usage", "enrolments"] {
        run(on, &format!("DELETE FROM {table} WHERE account = $1 AND device = ANY($2)"), &[&account, &devices]).await?;
    }
    Ok(())
}

async fn admit(on: &Transaction<'_>, account: &[u8], devices: &[DeviceId], seq: i64) -> Result<(), StorageError> {
    for (index, device) in devices.iter().enumerate() {
        let device = device.0.as_slice();
        let (pending, full) = (i16::from(KeyKind::Pending.number()), i16::from(KeyKind::Device.number()));
        let admitted = run(
            on,
            "UPDATE keys SET kind = $3, came = $4 WHERE account = $1 AND device = $2 AND kind = $5 AND ended IS NULL",
            &[&account, &device, &full, &seq, &pending],
        )
        .await?;
        if admitted == 0 {
            return Err(refused(format!("admitted.{index}"), "this device is not waiting"));
        }
        run(on, "DELETE FROM enrolments WHERE account = $1 AND device = $2", &[&account, &device]).await?;
    }
    Ok(())
}

/// Stores a key. Returns whether its id was free.
pub(super) async fn put_key(
    on: &Transaction<'_>,
    account: &[u8],
    key: &DeviceKey,
    kind: KeyKind,
    came: i64,
) -> Result<bool, StorageError> {
    let insert = "INSERT INTO keys (id, account, hash, kind, device, came) VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (id) DO NOTHING";
    let (hash, device) = (key.key_hash.0.as_slice(), key.device.0.as_slice());
    let values: [super::SqlParameter<'_>; 6] =
        [&key.key_id, &account, &hash, &i16::from(kind.number()), &device, &came];
    Ok(run(on, insert, &values).await? == 1)
}

/// Ends the valid forms of these records and inserts the new ones, with two statements for any number of records.
/// Returns how many of the former forms were objects.
async fn put_records(
    on: &Transaction<'_>,
    account: &[u8],
    records: &[SealedRecord],
    seq: i64,
) -> Result<u64, StorageError> {
    if records.is_empty() {
        return Ok(0);
    }
    let ids: Vec<&[u8]> = records.iter().map(|record| record.id.0.as_slice()).collect();
    let revisions: Vec<i64> = records.iter().map(|record| big(record.revision)).collect();
    let epochs: Vec<i64> = records.iter().map(|record| big(record.epoch)).collect();
    let boxes: Vec<Option<&[u8]>> =
        records.iter().map(|record| record.sealed.as_ref().map(|sealed| sealed.0.as_slice())).collect();
    let end = "UPDATE records SET ended = $3 WHERE account = $1 AND id = ANY($2) AND ended IS NULL
        RETURNING box IS NOT NULL";
    let mut objects = 0;
    for row in rows(on, end, &[&account, &ids, &seq]).await? {
        objects += u64::from(row.try_get::<_, bool>(0)?);
    }
    run(
        on,
        "INSERT INTO records (account, id, came, revision, epoch, box)
        SELECT $1, id, $2, revision, epoch, box
        FROM unnest($3::bytea[], $4::bigint[], $5::bigint[], $6::bytea[]) AS new (id, revision, epoch, box)",
        &[&account, &seq, &ids, &revisions, &epochs, &boxes],
    )
    .await?;
    Ok(objects)
}
