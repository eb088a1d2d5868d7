//! The tables, created step by step. Each step runs once, in its own transaction, by whichever server comes first.

use deadpool_postgres::ClientWrapper;

use crate::storage::StorageError;

/// The advisory lock held while tables are created, so that servers that start at the same time do not create them
/// twice.
const LOCK: i64 = 0x4775_4163;
/// The steps, which are permanent: a step that has run anywhere is never changed, only followed by another one.
///
/// `came` is the seq of the head that brought a row, `ended` the seq of the head at which it is no longer valid. Boxes
/// look random, so compressing them would be useless work (`EXTERNAL`).
const STEPS: [&str; 1] = ["
    CREATE TABLE accounts (
        id BYTEA PRIMARY KEY,
        created_at BIGINT NOT NULL,
        seq BIGINT NOT NULL DEFAULT 0,
        hash BYTEA,
        epoch BIGINT NOT NULL DEFAULT 0,
        pruned BIGINT NOT NULL DEFAULT 0,
        objects BIGINT NOT NULL DEFAULT 0,
        bytes BIGINT NOT NULL DEFAULT 0
    );
    CREATE TABLE heads (
        account BYTEA NOT NULL, seq BIGINT NOT NULL,
        epoch BIGINT NOT NULL, prev BYTEA NOT NULL, hash BYTEA NOT NULL, pushed_at BIGINT NOT NULL, box BYTEA NOT NULL,
        PRIMARY KEY (account, seq)
    );
    CREATE TABLE records (
        account BYTEA NOT NULL, id BYTEA NOT NULL, came BIGINT NOT NULL, ended BIGINT,
        revision BIGINT NOT NULL, epoch BIGINT NOT NULL, box BYTEA,
        PRIMARY KEY (account, id, came)
    );
    CREATE INDEX records_newest ON records (account, came, id) WHERE ended IS NULL;
    CREATE INDEX records_former ON records (account, ended) WHERE ended IS NOT NULL;
    CREATE TABLE wraps (
        account BYTEA NOT NULL, device BYTEA NOT NULL, epoch BIGINT NOT NULL, came BIGINT NOT NULL, ended BIGINT,
        sender BYTEA NOT NULL, box BYTEA NOT NULL,
        PRIMARY KEY (account, device, epoch, came)
    );
    CREATE TABLE links (
        account BYTEA NOT NULL, epoch BIGINT NOT NULL, came BIGINT NOT NULL, box BYTEA NOT NULL,
        PRIMARY KEY (account, epoch, came)
    );
    CREATE TABLE keys (
        id TEXT PRIMARY KEY,
        account BYTEA NOT NULL, hash BYTEA NOT NULL, kind SMALLINT NOT NULL, device BYTEA,
        came BIGINT NOT NULL, ended BIGINT
    );
    CREATE INDEX keys_device ON keys (account, device);
    CREATE TABLE invites (
        account BYTEA NOT NULL, token BYTEA NOT NULL, until BIGINT NOT NULL, device BYTEA,
        PRIMARY KEY (account, token)
    );
    CREATE TABLE enrolments (
        account BYTEA NOT NULL, device BYTEA NOT NULL, at BIGINT NOT NULL,
        key_id TEXT NOT NULL, key_hash BYTEA NOT NULL, public_key BYTEA NOT NULL, mac BYTEA NOT NULL, name BYTEA NOT NULL,
        PRIMARY KEY (account, device)
    );
    CREATE TABLE usage (
        account BYTEA NOT NULL, device BYTEA NOT NULL,
        counter BIGINT NOT NULL, epoch BIGINT NOT NULL, box BYTEA NOT NULL,
        PRIMARY KEY (account, device)
    );
    ALTER TABLE heads ALTER COLUMN box SET STORAGE EXTERNAL;
    ALTER TABLE records ALTER COLUMN box SET STORAGE EXTERNAL;
    ALTER TABLE usage ALTER COLUMN box SET STORAGE EXTERNAL;
"];
/// Every table except `accounts`. Each has a column `account`.
pub(super) const TABLES: [&str; 8] = ["heads", "records", "wraps", "links", "keys", "invites", "enrolments", "usage"];

/// Runs the steps that have not run yet.
pub(super) async fn migrate(client: &mut ClientWrapper) -> Result<(), StorageError> {
    let transaction = client.transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    let exists = transaction.query_one("SELECT to_regclass('guillemet_migrations') IS NOT NULL", &[]).await?;
    if !exists.try_get::<_, bool>(0)? {
        let table = "CREATE TABLE guillemet_migrations
            (number INTEGER PRIMARY KEY, made_at TIMESTAMPTZ NOT NULL DEFAULT now())";
        transaction.batch_execute(table).await?;
    }
    let row = transaction.query_one("SELECT coalesce(max(number), 0) FROM guillemet_migrations", &[]).await?;
    let done = usize::try_from(row.try_get::<_, i32>(0)?).unwrap_or(0);
    if done > STEPS.len() {
        return Err(StorageError::NewerFormat { found: u32::try_from(done).unwrap_or(u32::MAX) });
    }
    for (step, number) in STEPS.iter().zip(1_i32..).skip(done) {
        transaction.batch_execute(step).await?;
        transaction.execute("INSERT INTO guillemet_migrations (number) VALUES ($1)", &[&number]).await?;
    }
    transaction.commit().await?;
    Ok(())
}
