//! A push in one transaction. Its first statement locks the account's row, so that the next push waits until it knows
//! which head it is pushed onto.

use deadpool_postgres::{GenericClient, Transaction};

use super::{execute, number, query, query_opt, some_bytes, to_i64};
use crate::storage::{CurrentHead, KeyKind, Pushing, StorageError, check_bounds, invalid_field};
use guillemet_wire::{AccountId, DeviceId, DeviceKey, Hash, HeadRef, SealedRecord};

/// Returns the newest head of an account.
pub(super) async fn current_head(client: &impl GenericClient, account: AccountId) -> Result<CurrentHead, StorageError> {
    let text = "SELECT seq, hash, epoch FROM accounts WHERE id = $1";
    let row = query_opt(client, text, &[&account.0.as_slice()]).await?.ok_or(StorageError::NoAccount)?;
    head_from_row(&row)
}

fn head_from_row(row: &tokio_postgres::Row) -> Result<CurrentHead, StorageError> {
    let seq = number(row, 0)?;
    let newest = some_bytes(row, 1)?.map(|hash| HeadRef { seq, hash: Hash(hash) });
    Ok(CurrentHead { newest, epoch: number(row, 2)? })
}

/// Accepts a push. Any failure rolls everything back.
pub(super) async fn push(transaction: &Transaction<'_>, pushing: &Pushing) -> Result<HeadRef, StorageError> {
    let (push, account) = (&pushing.push, pushing.account.0.as_slice());
    let text = "SELECT seq, hash, epoch, objects, bytes FROM accounts WHERE id = $1 FOR UPDATE";
    let account_row = query_opt(transaction, text, &[&account]).await?.ok_or(StorageError::NoAccount)?;
    head_from_row(&account_row)?.check(pushing)?;
    let seq = to_i64(push.head.seq);
    revoke(transaction, account, &push.revoked, seq).await?;
    admit(transaction, account, &push.admitted, seq).await?;
    for (index, key) in push.keys.iter().enumerate() {
        if !put_key(transaction, account, key, KeyKind::Device, seq).await? {
            return Err(invalid_field(
                format!("keys.{index}.key_id"),
                "this key id already exists; generate another one",
            ));
        }
    }
    for wrap in &push.wraps {
        let insert = "INSERT INTO wraps (account, device, epoch, came, sender, box) VALUES ($1, $2, $3, $4, $5, $6)";
        let (device, sender) = (wrap.device.0.as_slice(), wrap.sender.0.as_slice());
        execute(transaction, insert, &[&account, &device, &to_i64(wrap.epoch), &seq, &sender, &wrap.sealed.0]).await?;
    }
    if let Some(link) = &push.link {
        let insert = "INSERT INTO links (account, epoch, came, box) VALUES ($1, $2, $3, $4)";
        execute(transaction, insert, &[&account, &to_i64(link.epoch), &seq, &link.sealed.0]).await?;
    }
    let head = &push.head;
    let ended = put_records(transaction, account, &push.records, seq).await?;
    let objects = push.records.iter().filter(|record| record.sealed.is_some()).count() as u64;
    let objects = (number(&account_row, 3)? + objects).saturating_sub(ended);
    let lengths = push.records.iter().filter_map(|record| record.sealed.as_ref()).map(|sealed| sealed.0.len() as u64);
    let bytes = number(&account_row, 4)? + lengths.sum::<u64>() + head.sealed.0.len() as u64;
    check_bounds(pushing.bounds, objects, bytes)?;
    let (prev, hash) = (head.prev.0.as_slice(), pushing.hash.0.as_slice());
    execute(
        transaction,
        "INSERT INTO heads (account, seq, epoch, prev, hash, pushed_at, box) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        &[&account, &seq, &to_i64(head.epoch), &prev, &hash, &to_i64(pushing.at), &head.sealed.0],
    )
    .await?;
    execute(
        transaction,
        "UPDATE accounts SET seq = $2, hash = $3, epoch = $4, objects = $5, bytes = $6 WHERE id = $1",
        &[&account, &seq, &hash, &to_i64(head.epoch), &to_i64(objects), &to_i64(bytes)],
    )
    .await?;
    Ok(HeadRef { seq: head.seq, hash: pushing.hash })
}

async fn revoke(
    transaction: &Transaction<'_>,
    account: &[u8],
    devices: &[DeviceId],
    seq: i64,
) -> Result<(), StorageError> {
    if devices.is_empty() {
        return Ok(());
    }
    let devices: Vec<&[u8]> = devices.iter().map(|device| device.0.as_slice()).collect();
    for table in ["keys", "wraps"] {
        let end = format!("UPDATE {table} SET ended = $3 WHERE account = $1 AND device = ANY($2) AND ended IS NULL");
        execute(transaction, &end, &[&account, &devices, &seq]).await?;
    }
    for table in ["usage", "enrolments"] {
        execute(
            transaction,
            &format!("DELETE FROM {table} WHERE account = $1 AND device = ANY($2)"),
            &[&account, &devices],
        )
        .await?;
    }
    Ok(())
}

async fn admit(
    transaction: &Transaction<'_>,
    account: &[u8],
    devices: &[DeviceId],
    seq: i64,
) -> Result<(), StorageError> {
    for (index, device) in devices.iter().enumerate() {
        let device = device.0.as_slice();
        let (pending, full) = (i16::from(KeyKind::Pending.to_number()), i16::from(KeyKind::Device.to_number()));
        let admitted = execute(
            transaction,
            "UPDATE keys SET kind = $3, came = $4 WHERE account = $1 AND device = $2 AND kind = $5 AND ended IS NULL",
            &[&account, &device, &full, &seq, &pending],
        )
        .await?;
        if admitted == 0 {
            return Err(invalid_field(format!("admitted.{index}"), "this device is not waiting"));
        }
        execute(transaction, "DELETE FROM enrolments WHERE account = $1 AND device = $2", &[&account, &device]).await?;
    }
    Ok(())
}

/// Stores a key. Returns whether its id was free.
pub(super) async fn put_key(
    transaction: &Transaction<'_>,
    account: &[u8],
    key: &DeviceKey,
    kind: KeyKind,
    came: i64,
) -> Result<bool, StorageError> {
    let insert = "INSERT INTO keys (id, account, hash, kind, device, came) VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (id) DO NOTHING";
    let (hash, device) = (key.key_hash.0.as_slice(), key.device.0.as_slice());
    let values: [super::SqlParameter<'_>; 6] =
        [&key.key_id, &account, &hash, &i16::from(kind.to_number()), &device, &came];
    Ok(execute(transaction, insert, &values).await? == 1)
}

/// Ends the valid forms of these records and inserts the new ones, with two statements for any number of records.
/// Returns how many of the former forms were objects.
async fn put_records(
    transaction: &Transaction<'_>,
    account: &[u8],
    records: &[SealedRecord],
    seq: i64,
) -> Result<u64, StorageError> {
    if records.is_empty() {
        return Ok(0);
    }
    let ids: Vec<&[u8]> = records.iter().map(|record| record.id.0.as_slice()).collect();
    let revisions: Vec<i64> = records.iter().map(|record| to_i64(record.revision)).collect();
    let epochs: Vec<i64> = records.iter().map(|record| to_i64(record.epoch)).collect();
    let boxes: Vec<Option<&[u8]>> =
        records.iter().map(|record| record.sealed.as_ref().map(|sealed| sealed.0.as_slice())).collect();
    let end = "UPDATE records SET ended = $3 WHERE account = $1 AND id = ANY($2) AND ended IS NULL
        RETURNING box IS NOT NULL";
    let mut objects = 0;
    for row in query(transaction, end, &[&account, &ids, &seq]).await? {
        objects += u64::from(row.try_get::<_, bool>(0)?);
    }
    execute(
        transaction,
        "INSERT INTO records (account, id, came, revision, epoch, box)
        SELECT $1, id, $2, revision, epoch, box
        FROM unnest($3::bytea[], $4::bigint[], $5::bigint[], $6::bytea[]) AS new (id, revision, epoch, box)",
        &[&account, &seq, &ids, &revisions, &epochs, &boxes],
    )
    .await?;
    Ok(objects)
}
