//! Administration: accounts, restoring a former head, pruning.

use deadpool_postgres::{GenericClient, Transaction};

use super::schema::TABLES;
use super::{bytes, execute, number, query, query_opt, some_bytes, to_i64};
use crate::storage::{AccountRow, KeyKind, NewAccount, Retention, StorageError, StorageTotals};
use guillemet_wire::{AccountId, Hash, HeadRef};

pub(super) async fn create(transaction: &Transaction<'_>, account: &NewAccount) -> Result<(), StorageError> {
    let id = account.id.0.as_slice();
    let insert = "INSERT INTO accounts (id, created_at) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    if execute(transaction, insert, &[&id, &to_i64(account.at)]).await? == 0 {
        return Err(StorageError::Taken);
    }
    let (hash, kind) = (account.key_hash.0.as_slice(), i16::from(KeyKind::Creation.to_number()));
    let insert = "INSERT INTO keys (id, account, hash, kind, came) VALUES ($1, $2, $3, $4, 0)";
    execute(transaction, insert, &[&account.key_id, &id, &hash, &kind]).await?;
    Ok(())
}

pub(super) async fn accounts(transaction: &Transaction<'_>) -> Result<Vec<AccountRow>, StorageError> {
    let text = "SELECT id, created_at, seq, hash, objects, bytes, pruned,
            (SELECT pushed_at FROM heads WHERE account = accounts.id AND heads.seq = accounts.seq),
            (SELECT count(DISTINCT device) FROM keys WHERE account = accounts.id AND kind = $1 AND ended IS NULL)
        FROM accounts ORDER BY created_at, id";
    let mut accounts = Vec::new();
    for row in query(transaction, text, &[&i16::from(KeyKind::Device.to_number())]).await? {
        let seq = number(&row, 2)?;
        accounts.push(AccountRow {
            id: AccountId(bytes(&row, 0)?),
            created_at: number(&row, 1)?,
            newest: some_bytes(&row, 3)?.map(|hash| HeadRef { seq, hash: Hash(hash) }),
            objects: number(&row, 4)?,
            bytes: number(&row, 5)?,
            kept_from: number(&row, 6)? + 1,
            pushed_at: row.try_get::<_, Option<i64>>(7)?.and_then(|at| u64::try_from(at).ok()),
            devices: number(&row, 8)?,
        });
    }
    Ok(accounts)
}

pub(super) async fn delete(transaction: &Transaction<'_>, account: AccountId) -> Result<(), StorageError> {
    let id = account.0.as_slice();
    if execute(transaction, "DELETE FROM accounts WHERE id = $1", &[&id]).await? == 0 {
        return Err(StorageError::NoAccount);
    }
    for table in TABLES {
        execute(transaction, &format!("DELETE FROM {table} WHERE account = $1"), &[&id]).await?;
    }
    Ok(())
}

pub(super) async fn restore(
    transaction: &Transaction<'_>,
    account: AccountId,
    seq: u64,
) -> Result<HeadRef, StorageError> {
    let (id, at) = (account.0.as_slice(), to_i64(seq));
    query_opt(transaction, "SELECT 1 FROM accounts WHERE id = $1 FOR UPDATE", &[&id])
        .await?
        .ok_or(StorageError::NoAccount)?;
    let head =
        query_opt(transaction, "SELECT hash, epoch FROM heads WHERE account = $1 AND seq = $2", &[&id, &at]).await?;
    let head = head.ok_or(StorageError::NoHead(seq))?;
    let (hash, epoch) = (bytes::<32>(&head, 0)?, to_i64(number(&head, 1)?));
    execute(transaction, "DELETE FROM heads WHERE account = $1 AND seq > $2", &[&id, &at]).await?;
    for table in ["records", "wraps", "links", "keys"] {
        execute(transaction, &format!("DELETE FROM {table} WHERE account = $1 AND came > $2"), &[&id, &at]).await?;
    }
    for table in ["records", "wraps", "keys"] {
        let text = format!("UPDATE {table} SET ended = NULL WHERE account = $1 AND ended > $2");
        execute(transaction, &text, &[&id, &at]).await?;
    }
    let text = "UPDATE accounts SET seq = $2, hash = $3, epoch = $4 WHERE id = $1";
    execute(transaction, text, &[&id, &at, &hash.as_slice(), &epoch]).await?;
    recount(transaction, id).await?;
    Ok(HeadRef { seq, hash: Hash(hash) })
}

/// Counts again what an account stores.
async fn recount(transaction: &Transaction<'_>, account: &[u8]) -> Result<(), StorageError> {
    execute(
        transaction,
        "UPDATE accounts SET
            objects = (SELECT count(*) FROM records WHERE account = $1 AND ended IS NULL AND box IS NOT NULL),
            bytes = (SELECT coalesce(sum(length(box)), 0) FROM records WHERE account = $1)
                + (SELECT coalesce(sum(length(box)), 0) FROM heads WHERE account = $1)
        WHERE id = $1",
        &[&account],
    )
    .await?;
    Ok(())
}

pub(super) async fn prune(transaction: &Transaction<'_>, retention: Retention) -> Result<u64, StorageError> {
    let before = to_i64(retention.before);
    execute(transaction, "DELETE FROM invites WHERE until < $1", &[&before]).await?;
    // The newest head always stays.
    let keep = to_i64(retention.keep.max(1));
    // Selects for each account the head that is `keep` back, or the newest before it that is old enough. Pushes wait
    // meanwhile.
    let text = "SELECT id, (SELECT max(seq) FROM heads WHERE account = id AND pushed_at < $1 AND seq <=
            (SELECT seq FROM heads WHERE account = id ORDER BY seq DESC LIMIT 1 OFFSET $2))
        FROM accounts ORDER BY id FOR UPDATE OF accounts";
    let mut pruned = 0;
    for row in query(transaction, text, &[&before, &keep]).await? {
        let (id, Some(last)) = (bytes::<16>(&row, 0)?, row.try_get::<_, Option<i64>>(1)?) else { continue };
        let id = id.as_slice();
        pruned += execute(transaction, "DELETE FROM heads WHERE account = $1 AND seq <= $2", &[&id, &last]).await?;
        for table in ["records", "wraps", "keys"] {
            execute(transaction, &format!("DELETE FROM {table} WHERE account = $1 AND ended <= $2"), &[&id, &last])
                .await?;
        }
        execute(transaction, "UPDATE accounts SET pruned = $2 WHERE id = $1", &[&id, &last]).await?;
        recount(transaction, id).await?;
    }
    Ok(pruned)
}

pub(super) async fn totals(client: &impl GenericClient) -> Result<StorageTotals, StorageError> {
    let text = "SELECT count(*), coalesce(sum(objects), 0)::bigint, coalesce(sum(bytes), 0)::bigint FROM accounts";
    let Some(row) = query_opt(client, text, &[]).await? else { return Ok(StorageTotals::default()) };
    Ok(StorageTotals { accounts: number(&row, 0)?, objects: number(&row, 1)?, bytes: number(&row, 2)? })
}
