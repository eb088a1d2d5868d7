//! Changes by other servers on the same database: `NOTIFY` in the transaction of a change, `LISTEN` on a separate
//! connection of every server.
//!
//! Invariant: after an interruption, all listeners look up everything.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Transaction;
use tokio_postgres::{AsyncMessage, Config};

use super::tls::Tls;
use crate::storage::{Hub, StorageError, Wake};
use guillemet_wire::AccountId;

/// The channel of the notifications.
const CHANNEL: &str = "guillemet_account";
/// The time to wait after a lost connection before the next attempt.
const AGAIN: Duration = Duration::from_millis(500);
/// The interval at which the connection is tested.
const ALIVE: Duration = Duration::from_secs(15);
/// The time limit for the answer to such a test.
const WAIT: Duration = Duration::from_secs(10);

/// Announces a change to all servers when the transaction is committed.
pub(super) async fn notify(transaction: &Transaction<'_>, account: AccountId, wake: Wake) -> Result<(), StorageError> {
    let text = format_notification(account, wake);
    super::execute(transaction, "SELECT pg_notify($1, $2)", &[&CHANNEL, &text]).await.map(drop)
}

/// Listens until the task is aborted.
pub(super) async fn listen(config: Config, tls: Tls, hub: Arc<Hub>) {
    loop {
        if let Err(error) = listen_once(&config, &tls, &hub).await {
            tracing::warn!(%error, "changes from other servers are not received for a moment");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn listen_once(config: &Config, tls: &Tls, hub: &Arc<Hub>) -> Result<(), StorageError> {
    let (client, mut connection) = config.connect(tls.clone()).await?;
    let listeners = Arc::clone(hub);
    let notifications = async move {
        while let Some(message) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(notification) = message?
                && let Some((account, wake)) = parse_notification(notification.payload())
            {
                listeners.wake(account, wake);
            }
        }
        Err(StorageError::Database("the listening connection was closed".into()))
    };
    let ping = async {
        client.batch_execute(&format!("LISTEN {CHANNEL}")).await?;
        hub.wake_all();
        loop {
            tokio::time::sleep(ALIVE).await;
            let timed_out = |_| StorageError::Database("the listening connection went silent".into());
            tokio::time::timeout(WAIT, client.batch_execute("SELECT 1")).await.map_err(timed_out)??;
        }
    };
    tokio::select! {
        result = notifications => result,
        result = ping => result,
    }
}

fn format_notification(account: AccountId, wake: Wake) -> String {
    match wake {
        Wake::Head(seq) => format!("{account} head {seq}"),
        Wake::Enrolment => format!("{account} enrolment"),
        Wake::Usage => format!("{account} usage"),
        Wake::Revoked(device) => format!("{account} revoked {device}"),
        Wake::Unknown => format!("{account} look"),
    }
}

/// Parses a notification. A kind that this version does not know becomes [`Wake::Unknown`].
fn parse_notification(text: &str) -> Option<(AccountId, Wake)> {
    let mut words = text.split(' ');
    let account = words.next()?.parse().ok()?;
    let wake = match (words.next()?, words.next()) {
        ("head", Some(seq)) => Wake::Head(seq.parse().ok()?),
        ("enrolment", None) => Wake::Enrolment,
        ("usage", None) => Wake::Usage,
        ("revoked", Some(device)) => Wake::Revoked(device.parse().ok()?),
        _ => Wake::Unknown,
    };
    Some((account, wake))
}

#[cfg(test)]
mod tests {
    use super::*;
    use guillemet_wire::DeviceId;

    #[test]
    fn what_is_told_is_heard() {
        let account = AccountId([1; 16]);
        for wake in [Wake::Head(7), Wake::Enrolment, Wake::Usage, Wake::Revoked(DeviceId([2; 16])), Wake::Unknown] {
            assert_eq!(parse_notification(&format_notification(account, wake)), Some((account, wake)));
        }
        assert_eq!(parse_notification(&format!("{account} something newer")), Some((account, Wake::Unknown)));
        assert_eq!(parse_notification("nothing"), None);
    }
}
