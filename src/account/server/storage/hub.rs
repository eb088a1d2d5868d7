//! Who is told what changes: each account has its listeners, and a change of one wakes no listener of another.
//!
//! Knows neither who listens nor where a change comes from: this process, or another one on the same database.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;

use crate::account::wire::{AccountId, DeviceId};

/// How many changes a slow listener may be behind; one that is further looks at everything.
const KEPT: usize = 32;

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// There is a newer head.
    Head(u64),
    /// A device wants to join, or was turned away.
    Enrolment,
    /// A device has told its usage.
    Usage,
    /// The API keys of a device have ended.
    Revoked(DeviceId),
    /// Anything: it is not known what.
    Look,
}

/// The listeners of all accounts.
#[derive(Debug, Default)]
pub struct Hub(Mutex<Listeners>);

#[derive(Debug, Default)]
struct Listeners {
    closed: bool,
    accounts: HashMap<AccountId, broadcast::Sender<Wake>>,
}

impl Hub {
    /// Everything that changes in an account from now on; `None` when the server stops.
    pub fn listen(&self, account: AccountId) -> Option<broadcast::Receiver<Wake>> {
        let mut listeners = self.listeners();
        if listeners.closed {
            return None;
        }
        Some(listeners.accounts.entry(account).or_insert_with(|| broadcast::channel(KEPT).0).subscribe())
    }

    /// Tells a change.
    pub fn wake(&self, account: AccountId, wake: Wake) {
        let mut listeners = self.listeners();
        // Where nobody listens any more, nothing is kept.
        if listeners.accounts.get(&account).is_some_and(|sender| sender.send(wake).is_err()) {
            listeners.accounts.remove(&account);
        }
    }

    /// Makes everybody look: changes may have been missed.
    pub fn look(&self) {
        self.listeners().accounts.retain(|_, sender| sender.send(Wake::Look).is_ok());
    }

    /// Ends all listening.
    pub fn close(&self) {
        let mut listeners = self.listeners();
        listeners.closed = true;
        listeners.accounts.clear();
    }

    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_reaches_the_listeners_of_its_account_only() {
        let hub = Hub::default();
        let (one, other) = (AccountId([1; 16]), AccountId([2; 16]));
        let (mut first, mut second) = (hub.listen(one).unwrap(), hub.listen(other).unwrap());
        hub.wake(one, Wake::Head(3));
        assert_eq!(first.try_recv(), Ok(Wake::Head(3)));
        assert!(second.try_recv().is_err());
        hub.look();
        assert_eq!(second.try_recv(), Ok(Wake::Look));
        drop(second);
        hub.wake(other, Wake::Usage);
        assert_eq!(hub.listeners().accounts.len(), 1);
        hub.close();
        assert!(hub.listen(one).is_none());
        assert_eq!(first.try_recv(), Ok(Wake::Look));
        assert_eq!(first.try_recv(), Err(broadcast::error::TryRecvError::Closed));
    }
}
