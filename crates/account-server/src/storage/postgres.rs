//! Accounts in PostgreSQL, for any number of servers: a server keeps no state of its own.
//!
//! Pushes to one account wait for each other (`SELECT … FOR UPDATE` on its row). A page is read from one state of the
//! database. Every change is announced to all servers with `NOTIFY`, in the transaction of the change itself.

mod admin;
mod join;
mod listen;
mod pull;
mod push;
mod schema;
mod tls;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{GenericClient, Manager, ManagerConfig, Pool, PoolError, Runtime};
use tokio::task::AbortHandle;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Config, IsolationLevel, Row};

use self::tls::Tls;
use super::{
    AccountRow, Hub, KnownKey, NewAccount, Pushing, Retention, Storage, StorageError, StorageFuture, StorageTotals,
    Wake,
};
use guillemet_base::names::Millis;
use guillemet_wire::{AccountId, ChangesPage, DeviceId, Enrolment, Hash, HeadRef, PullCursor, UsageUpload, Wrap};

/// The number of connections that one server has to the database, in addition to the one that listens.
const CONNECTIONS: usize = 16;
/// The time limit for a connection to open, and for a request to get one.
const WAIT: Duration = Duration::from_secs(10);
/// The longest time for which the database can leave bytes unacknowledged.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// The accounts in one PostgreSQL database.
#[derive(Debug)]
pub struct Postgres {
    pool: Pool,
    hub: Arc<Hub>,
    listening: AbortHandle,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl From<tokio_postgres::Error> for StorageError {
    fn from(error: tokio_postgres::Error) -> Self {
        // The text of the error does not contain its cause.
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Self::Database(format!("{error}{cause}"))
    }
}

impl From<PoolError> for StorageError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => error.into(),
            error => Self::Database(error.to_string()),
        }
    }
}

impl Postgres {
    /// Opens the database at `postgres://…`, and creates missing tables. Listens for changes by other servers until
    /// this is dropped.
    ///
    /// # Errors
    /// [`StorageError::Database`] if it cannot be reached, [`StorageError::NewerFormat`] if a newer version created the
    /// tables.
    pub async fn open(url: &str) -> Result<Self, StorageError> {
        let config = config(url)?;
        let tls = Tls::new().map_err(|error| StorageError::Database(error.to_string()))?;
        let manager = Manager::from_config(config.clone(), tls.clone(), ManagerConfig::default());
        let pool = Pool::builder(manager)
            .max_size(CONNECTIONS)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(WAIT))
            .create_timeout(Some(WAIT))
            .build()
            .map_err(|error| StorageError::Database(error.to_string()))?;
        schema::migrate(&mut *pool.get().await?).await?;
        let hub = Arc::new(Hub::default());
        let listening = tokio::spawn(listen::listen(config, tls, Arc::clone(&hub))).abort_handle();
        Ok(Self { pool, hub, listening })
    }
}

impl Postgres {
    /// Returns a connection from the pool.
    pub(super) async fn client(&self) -> Result<deadpool_postgres::Client, StorageError> {
        Ok(self.pool.get().await?)
    }
}

fn config(url: &str) -> Result<Config, StorageError> {
    let invalid = |error: tokio_postgres::Error| StorageError::Database(format!("invalid address: {error}"));
    let mut config: Config = url.parse().map_err(invalid)?;
    // If the server has TLS, its certificate is always verified. TLS is not used if the database is on this machine.
    let is_local = |host: &Host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
    };
    let local = config.get_hosts().iter().all(is_local) && config.get_hostaddrs().iter().all(IpAddr::is_loopback);
    if config.get_ssl_mode() == SslMode::Prefer && local {
        config.ssl_mode(SslMode::Disable);
    }
    config.application_name("guillemet").connect_timeout(WAIT);
    config.keepalives_idle(UNACKNOWLEDGED).tcp_user_timeout(UNACKNOWLEDGED);
    Ok(config)
}

/// Converts a number for the database. Larger numbers than it can store have been refused before.
fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn number(row: &Row, column: usize) -> Result<u64, StorageError> {
    let invalid = |_| StorageError::Database("a number below zero".into());
    u64::try_from(row.try_get::<_, i64>(column)?).map_err(invalid)
}

fn bytes<const N: usize>(row: &Row, column: usize) -> Result<[u8; N], StorageError> {
    let invalid = |_| StorageError::Database("an id or hash with the wrong length".into());
    row.try_get::<_, &[u8]>(column)?.try_into().map_err(invalid)
}

/// Reads a column like `bytes`, or returns `None` if it is NULL.
fn some_bytes<const N: usize>(row: &Row, column: usize) -> Result<Option<[u8; N]>, StorageError> {
    row.try_get::<_, Option<&[u8]>>(column)?.map(|_| bytes(row, column)).transpose()
}

type SqlParameter<'a> = &'a (dyn tokio_postgres::types::ToSql + Sync);

/// Runs a statement. Returns the number of rows it changed.
async fn execute(client: &impl GenericClient, text: &str, values: &[SqlParameter<'_>]) -> Result<u64, StorageError> {
    let statement = client.prepare_cached(text).await?;
    Ok(client.execute(&statement, values).await?)
}

/// Runs a query and returns all rows.
async fn query(client: &impl GenericClient, text: &str, values: &[SqlParameter<'_>]) -> Result<Vec<Row>, StorageError> {
    let statement = client.prepare_cached(text).await?;
    Ok(client.query(&statement, values).await?)
}

/// Runs a query that returns at most one row.
async fn query_opt(
    client: &impl GenericClient,
    text: &str,
    values: &[SqlParameter<'_>],
) -> Result<Option<Row>, StorageError> {
    let statement = client.prepare_cached(text).await?;
    Ok(client.query_opt(&statement, values).await?)
}

/// Runs work in a transaction. If the work fails, the transaction is rolled back.
macro_rules! change {
    ($postgres:expr, |$on:ident| $work:expr) => {
        Box::pin(async move {
            let mut client = $postgres.pool.get().await?;
            let transaction = client.transaction().await?;
            let $on = &transaction;
            let done = $work.await?;
            transaction.commit().await?;
            Ok(done)
        })
    };
}

/// Runs a single query without a transaction.
macro_rules! read {
    ($postgres:expr, |$on:ident| $work:expr) => {
        Box::pin(async move {
            let client = $postgres.pool.get().await?;
            let $on = &client;
            $work.await
        })
    };
}

/// Runs queries that all see one state of the database.
macro_rules! look {
    ($postgres:expr, |$on:ident| $work:expr) => {
        Box::pin(async move {
            let mut client = $postgres.pool.get().await?;
            let begun = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
            let transaction = begun.start().await?;
            let $on = &transaction;
            let found = $work.await?;
            transaction.commit().await?;
            Ok(found)
        })
    };
}

impl Storage for Postgres {
    fn hub(&self) -> &Hub {
        &self.hub
    }

    fn create_account(&self, account: NewAccount) -> StorageFuture<'_, ()> {
        change!(self, |on| admin::create(on, &account))
    }

    fn accounts(&self) -> StorageFuture<'_, Vec<AccountRow>> {
        look!(self, |on| admin::accounts(on))
    }

    fn delete_account(&self, account: AccountId) -> StorageFuture<'_, ()> {
        change!(self, |on| async {
            admin::delete(on, account).await?;
            listen::notify(on, account, Wake::Unknown).await
        })
    }

    fn restore_head(&self, account: AccountId, seq: u64) -> StorageFuture<'_, HeadRef> {
        change!(self, |on| async {
            listen::notify(on, account, Wake::Unknown).await?;
            admin::restore(on, account, seq).await
        })
    }

    fn key<'a>(&'a self, id: &'a str) -> StorageFuture<'a, Option<KnownKey>> {
        read!(self, |on| join::key(on, id))
    }

    fn newest_head(&self, account: AccountId) -> StorageFuture<'_, Option<HeadRef>> {
        read!(self, |on| async { Ok(push::current_head(on, account).await?.newest) })
    }

    fn push(&self, pushing: Pushing) -> StorageFuture<'_, HeadRef> {
        change!(self, |on| async {
            let newest = push::push(on, &pushing).await?;
            listen::notify(on, pushing.account, Wake::Head(newest.seq)).await?;
            for device in &pushing.push.revoked {
                listen::notify(on, pushing.account, Wake::Revoked(*device)).await?;
            }
            Ok::<_, StorageError>(newest)
        })
    }

    fn changes(
        &self,
        account: AccountId,
        device: DeviceId,
        from: PullCursor,
        limit: usize,
    ) -> StorageFuture<'_, ChangesPage> {
        look!(self, |on| pull::changes(on, account, device, from, limit))
    }

    fn wrap(&self, account: AccountId, device: DeviceId) -> StorageFuture<'_, Option<Wrap>> {
        read!(self, |on| join::wrap(on, account, device))
    }

    fn invite(&self, account: AccountId, token_hash: Hash, until: Millis) -> StorageFuture<'_, ()> {
        change!(self, |on| join::invite(on, account, token_hash, until))
    }

    fn enrol(&self, account: AccountId, token_hash: Hash, enrolment: Enrolment, at: Millis) -> StorageFuture<'_, ()> {
        change!(self, |on| async {
            join::enrol(on, account, token_hash, &enrolment, at).await?;
            listen::notify(on, account, Wake::Enrolment).await
        })
    }

    fn enrolments(&self, account: AccountId) -> StorageFuture<'_, Vec<Enrolment>> {
        read!(self, |on| join::enrolments(on, account))
    }

    fn reject_enrolment(&self, account: AccountId, device: DeviceId) -> StorageFuture<'_, bool> {
        change!(self, |on| async {
            listen::notify(on, account, Wake::Enrolment).await?;
            join::reject_enrolment(on, account, device).await
        })
    }

    fn put_usage(&self, account: AccountId, usage: UsageUpload) -> StorageFuture<'_, ()> {
        change!(self, |on| async {
            join::put_usage(on, account, &usage).await?;
            listen::notify(on, account, Wake::Usage).await
        })
    }

    fn usage(&self, account: AccountId) -> StorageFuture<'_, Vec<UsageUpload>> {
        read!(self, |on| join::usage(on, account))
    }

    fn prune(&self, retention: Retention) -> StorageFuture<'_, u64> {
        change!(self, |on| admin::prune(on, retention))
    }

    fn totals(&self) -> StorageFuture<'_, StorageTotals> {
        read!(self, |on| admin::totals(on))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_on_this_machine_no_certificate_is_asked_for() {
        let mode = |url: &str| config(url).unwrap().get_ssl_mode();
        for url in ["postgres://u@localhost/d", "postgres://u@[::1]/d", "postgres:///d?host=/run/postgresql"] {
            assert_eq!(mode(url), SslMode::Disable, "{url}");
        }
        for url in
            ["postgres://u@db.example/d", "postgres://u@localhost,db.example/d", "postgres:///d?hostaddr=192.0.2.1"]
        {
            assert_eq!(mode(url), SslMode::Prefer, "{url}");
        }
        assert_eq!(mode("postgres://u@localhost/d?sslmode=require"), SslMode::Require);
        assert!(config("mysql://x").is_err());
    }
}
