//! The listeners of all accounts. A change of one account wakes no listener of another.
//!
//! Knows neither who listens nor where a change comes from: this process, or another one on the same database.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;

use guillemet_wire::{AccountId, DeviceId};

/// The number of changes that a slow listener can be behind. One that is further behind looks up everything.
const KEPT: usize = 32;

/// The kinds of changes that a listener is woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// There is a newer head, with this number.
    Head(u64),
    /// A device asks to join, or was turned away.
    Enrolment,
    /// A device has reported its uses.
    Usage,
    /// The API keys of this device have ended.
    Revoked(DeviceId),
    /// Something has changed, and it is not known what.
    Unknown,
}

/// The listeners of all accounts, each with a channel.
#[derive(Debug, Default)]
pub struct Hub(Mutex<Subscribers>);

#[derive(Debug, Default)]
struct Subscribers {
    closed: bool,
    accounts: HashMap<AccountId, broadcast::Sender<Wake>>,
}

impl Hub {
    /// Subscribes to the changes of an account. Returns `None` if the server is stopping.
    pub fn subscribe(&self, account: AccountId) -> Option<broadcast::Receiver<Wake>> {
        let mut listeners = self.listeners();
        if listeners.closed {
            return None;
        }
        Some(listeners.accounts.entry(account).or_insert_with(|| broadcast::channel(KEPT).0).subscribe())
    }

    /// Reports a change to the listeners of an account.
    pub fn wake(&self, account: AccountId, wake: Wake) {
        let mut listeners = self.listeners();
        // The channel is removed if nobody listens any more.
        if listeners.accounts.get(&account).is_some_and(|sender| sender.send(wake).is_err()) {
            listeners.accounts.remove(&account);
        }
    }

    /// Makes all listeners look up everything, because changes may have been missed.
    pub fn wake_all(&self) {
        self.listeners().accounts.retain(|_, sender| sender.send(Wake::Unknown).is_ok());
    }

    /// Ends all subscriptions, and refuses new ones.
    pub fn close(&self) {
        let mut listeners = self.listeners();
        listeners.closed = true;
        listeners.accounts.clear();
    }

    fn listeners(&self) -> MutexGuard<'_, Subscribers> {
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
        let (mut first, mut second) = (hub.subscribe(one).unwrap(), hub.subscribe(other).unwrap());
        hub.wake(one, Wake::Head(3));
        assert_eq!(first.try_recv(), Ok(Wake::Head(3)));
        assert!(second.try_recv().is_err());
        hub.wake_all();
        assert_eq!(second.try_recv(), Ok(Wake::Unknown));
        drop(second);
        hub.wake(other, Wake::Usage);
        assert_eq!(hub.listeners().accounts.len(), 1);
        hub.close();
        assert!(hub.subscribe(one).is_none());
        assert_eq!(first.try_recv(), Ok(Wake::Unknown));
        assert_eq!(first.try_recv(), Err(broadcast::error::TryRecvError::Closed));
    }
}
