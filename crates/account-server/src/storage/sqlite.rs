//! Accounts in one SQLite file, for one server.
//!
//! One connection writes, on its own thread; two others read, each from one state of the file. An acknowledged change
//! is on disk (`synchronous=FULL`). The command line may change the file while the server runs: the writer notices it
//! and makes every listener look.

mod admin;
mod file;
mod join;
mod pull;
mod push;

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use super::{
    AccountRow, Hub, KnownKey, NewAccount, Pushing, Retention, Storage, StorageError, StorageFuture, StorageTotals,
    Wake,
};
use guillemet_base::names::Millis;
use guillemet_wire::{AccountId, ChangesPage, DeviceId, Enrolment, Hash, HeadRef, PullCursor, UsageUpload, Wrap};

pub use self::file::DATABASE;
pub(super) use self::file::{TABLES, open_read_only};

/// The number of connections that read.
const READERS: usize = 2;
/// The interval at which the writer checks whether another process has written.
const LOOK: Duration = Duration::from_secs(1);

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The accounts in one SQLite file.
#[derive(Debug)]
pub struct Sqlite {
    writer: Sender<Job>,
    readers: Sender<Job>,
    hub: Arc<Hub>,
}

impl From<rusqlite::Error> for StorageError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error.to_string())
    }
}

impl Sqlite {
    /// Opens the file `account.db` in a folder. Creates both if they do not exist.
    ///
    /// # Errors
    /// [`StorageError::Database`] if the file cannot be opened, [`StorageError::NewerFormat`] if a newer version wrote
    /// it.
    pub fn open(folder: &Path) -> Result<Self, StorageError> {
        let path = file::prepare(folder)?;
        let hub = Arc::new(Hub::default());
        let (writer, jobs) = channel();
        let (database, writer_hub) = (file::connect(&path)?, Arc::clone(&hub));
        spawn("account-writer", move || run_writer(database, &jobs, &writer_hub))?;
        let (readers, jobs) = channel();
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..READERS {
            let (database, jobs) = (file::connect(&path)?, Arc::clone(&jobs));
            spawn("account-reader", move || run_reader(database, &jobs))?;
        }
        Ok(Self { writer, readers, hub })
    }

    /// Runs a change in one transaction. `notify` reports it to the listeners once it is on disk.
    fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, StorageError> + Send + 'static,
        notify: impl FnOnce(&Hub, &T) + Send + 'static,
    ) -> StorageFuture<'_, T> {
        let hub = Arc::clone(&self.hub);
        submit(&self.writer, move |database| {
            let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = change(&transaction)?;
            transaction.commit()?;
            notify(&hub, &done);
            Ok(done)
        })
    }

    /// Runs queries that all see one state of the file.
    fn query<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Transaction<'_>) -> Result<T, StorageError> + Send + 'static,
    ) -> StorageFuture<'_, T> {
        submit(&self.readers, move |database| read(&database.transaction()?))
    }
}

fn submit<'a, T: Send + 'static>(
    to: &Sender<Job>,
    job: impl FnOnce(&mut Connection) -> Result<T, StorageError> + Send + 'static,
) -> StorageFuture<'a, T> {
    let (reply, response) = oneshot::channel();
    // Sending fails only if nobody waits for the answer any more, which is fine.
    let result = to.send(Box::new(move |database| drop(reply.send(job(database)))));
    Box::pin(async move {
        result.map_err(|_| StorageError::Stopped)?;
        response.await.map_err(|_| StorageError::Stopped)?
    })
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), StorageError> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map(drop).map_err(|error| StorageError::Database(format!("cannot start a thread: {error}")))
}

fn run_writer(mut database: Connection, jobs: &Receiver<Job>, hub: &Hub) {
    let version = |database: &Connection| database.pragma_query_value(None, "data_version", |row| row.get::<_, i64>(0));
    let (mut last_version, mut last_check) = (version(&database).ok(), Instant::now());
    loop {
        match jobs.recv_timeout(LOOK.saturating_sub(last_check.elapsed())) {
            Ok(job) => job(&mut database),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if last_check.elapsed() >= LOOK {
            last_check = Instant::now();
            // `data_version` changes when another connection writes, and in this process only this connection does.
            let now = version(&database).ok();
            if now != last_version {
                last_version = now;
                hub.wake_all();
            }
        }
    }
}

fn run_reader(mut database: Connection, jobs: &Mutex<Receiver<Job>>) {
    loop {
        // The lock is released before the work begins.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        job(&mut database);
    }
}

/// Reports a change to nobody.
fn wake_nobody<T>(_: &Hub, _: &T) {}

impl Storage for Sqlite {
    fn hub(&self) -> &Hub {
        &self.hub
    }

    fn create_account(&self, account: NewAccount) -> StorageFuture<'_, ()> {
        self.change(move |database| admin::create(database, &account), wake_nobody)
    }

    fn accounts(&self) -> StorageFuture<'_, Vec<AccountRow>> {
        self.query(|database| admin::accounts(database))
    }

    fn delete_account(&self, account: AccountId) -> StorageFuture<'_, ()> {
        self.change(move |database| admin::delete(database, account), move |hub, ()| hub.wake(account, Wake::Unknown))
    }

    fn restore_head(&self, account: AccountId, seq: u64) -> StorageFuture<'_, HeadRef> {
        let notify = move |hub: &Hub, _: &HeadRef| hub.wake(account, Wake::Unknown);
        self.change(move |database| admin::restore(database, account, seq), notify)
    }

    fn key<'a>(&'a self, id: &'a str) -> StorageFuture<'a, Option<KnownKey>> {
        let id = id.to_owned();
        self.query(move |database| join::key(database, &id))
    }

    fn newest_head(&self, account: AccountId) -> StorageFuture<'_, Option<HeadRef>> {
        self.query(move |database| Ok(file::current_head(database, account)?.newest))
    }

    fn push(&self, pushing: Pushing) -> StorageFuture<'_, HeadRef> {
        let (account, revoked) = (pushing.account, pushing.push.revoked.clone());
        let notify = move |hub: &Hub, newest: &HeadRef| {
            hub.wake(account, Wake::Head(newest.seq));
            for device in revoked {
                hub.wake(account, Wake::Revoked(device));
            }
        };
        self.change(move |database| push::push(database, &pushing), notify)
    }

    fn changes(
        &self,
        account: AccountId,
        device: DeviceId,
        from: PullCursor,
        limit: usize,
    ) -> StorageFuture<'_, ChangesPage> {
        self.query(move |database| pull::changes(database, account, device, from, limit))
    }

    fn wrap(&self, account: AccountId, device: DeviceId) -> StorageFuture<'_, Option<Wrap>> {
        self.query(move |database| join::wrap(database, account, device))
    }

    fn invite(&self, account: AccountId, token_hash: Hash, until: Millis) -> StorageFuture<'_, ()> {
        self.change(move |database| join::invite(database, account, token_hash, until), wake_nobody)
    }

    fn enrol(&self, account: AccountId, token_hash: Hash, enrolment: Enrolment, at: Millis) -> StorageFuture<'_, ()> {
        let notify = move |hub: &Hub, (): &()| hub.wake(account, Wake::Enrolment);
        self.change(move |database| join::enrol(database, account, token_hash, &enrolment, at), notify)
    }

    fn enrolments(&self, account: AccountId) -> StorageFuture<'_, Vec<Enrolment>> {
        self.query(move |database| join::enrolments(database, account))
    }

    fn reject_enrolment(&self, account: AccountId, device: DeviceId) -> StorageFuture<'_, bool> {
        let notify = move |hub: &Hub, _: &bool| hub.wake(account, Wake::Enrolment);
        self.change(move |database| join::reject_enrolment(database, account, device), notify)
    }

    fn put_usage(&self, account: AccountId, usage: UsageUpload) -> StorageFuture<'_, ()> {
        let notify = move |hub: &Hub, (): &()| hub.wake(account, Wake::Usage);
        self.change(move |database| join::put_usage(database, account, &usage), notify)
    }

    fn usage(&self, account: AccountId) -> StorageFuture<'_, Vec<UsageUpload>> {
        self.query(move |database| join::usage(database, account))
    }

    fn prune(&self, retention: Retention) -> StorageFuture<'_, u64> {
        self.change(move |database| admin::prune(database, retention), wake_nobody)
    }

    fn totals(&self) -> StorageFuture<'_, StorageTotals> {
        self.query(|database| admin::totals(database))
    }
}
