//! The state every answer is made from: immutable, replaced as a whole by a change.
//!
//! Invariant (promise 8): a change is acknowledged when nothing holds an older snapshot any more. An
//! answer holds its snapshot until its last byte has been written, so none of the old state can still
//! leave. No lock is held while waiting, neither by an answer nor by a change.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::plans::Prepared;
use crate::vault::record::Secret;

/// A map that is copied by sharing. Its keys come from operators, not from callers: a fast hash will do.
pub type Map<V> = imbl::GenericHashMap<Box<str>, V, foldhash::fast::RandomState, imbl::shared_ptr::DefaultSharedPtr>;

/// One state of secrets and templates.
#[derive(Clone, Default)]
pub struct State {
    /// The secrets by the key of their name (`SecretName::key`).
    pub secrets: Map<Arc<Secret>>,
    /// For the key of each former name the key of the present one. No key is in both.
    pub former: Map<Box<str>>,
    /// The templates by id.
    pub templates: Map<Arc<Prepared>>,
}

impl State {
    /// The secret that has this key, or had it before it was renamed.
    pub fn secret(&self, key: &str) -> Option<&Arc<Secret>> {
        self.secrets.get(key).or_else(|| self.secrets.get(self.former.get(key)?))
    }

    /// Puts a secret in place of the one that had the key `before`.
    pub fn put(&mut self, before: Option<&str>, secret: Arc<Secret>) {
        if let Some(before) = before {
            self.take(before);
        }
        let key = secret.name.key();
        for former in &secret.former_names {
            self.former.insert(former.key().into(), key.as_str().into());
        }
        self.secrets.insert(key.into(), secret);
    }

    /// Takes the secret with this key out, with its former names.
    pub fn take(&mut self, key: &str) {
        if let Some(secret) = self.secrets.remove(key) {
            for former in &secret.former_names {
                self.former.remove(former.key().as_str());
            }
        }
    }
}

/// A state that someone may hold.
pub struct Snapshot {
    state: State,
    /// The keys of the names that templates have, once somebody has asked.
    named: OnceLock<HashSet<String>>,
    /// Dropped with the last holder, which is what `Released` waits for.
    _held: watch::Sender<()>,
}

impl Snapshot {
    /// Whether a secret has the name with this key, or had it, or a template names it. What does not is a
    /// caller's own word, and may be anything.
    pub fn knows(&self, key: &str) -> bool {
        let names = || {
            let templates = self.state.templates.values();
            templates.flat_map(|prepared| prepared.template.references()).map(|found| found.name.key()).collect()
        };
        self.state.secret(key).is_some() || self.named.get_or_init(names).contains(key)
    }
}

impl std::ops::Deref for Snapshot {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

/// The newest snapshot, and which older ones are still held.
pub struct Current {
    newest: ArcSwap<Snapshot>,
    held: Mutex<Held>,
}

struct Held {
    newest: watch::Receiver<()>,
    older: Vec<watch::Receiver<()>>,
}

/// Waits until no older snapshot is held.
#[must_use = "a change is acknowledged only after this has been awaited"]
pub struct Released(Vec<watch::Receiver<()>>);

impl Released {
    /// Returns when nothing holds a snapshot older than the change.
    pub async fn wait(self) {
        for mut held in self.0 {
            // Nothing is ever sent: this ends with the sender, and the sender with the last holder.
            while held.changed().await.is_ok() {}
        }
    }
}

fn snapshot(state: State) -> (Arc<Snapshot>, watch::Receiver<()>) {
    let (held, released) = watch::channel(());
    (Arc::new(Snapshot { state, named: OnceLock::new(), _held: held }), released)
}

impl Current {
    /// Begins with this state.
    pub fn new(state: State) -> Self {
        let (first, released) = snapshot(state);
        Self { newest: ArcSwap::new(first), held: Mutex::new(Held { newest: released, older: Vec::new() }) }
    }

    /// The newest snapshot. Whoever answers from it keeps it until the answer has been written.
    pub fn load(&self) -> Arc<Snapshot> {
        self.newest.load_full()
    }

    /// Changes the state. Changes come one after another.
    pub fn change(&self, change: impl FnOnce(&mut State)) -> Released {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.newest.load().state.clone();
        change(&mut state);
        let (next, released) = snapshot(state);
        drop(self.newest.swap(next));
        let older = std::mem::replace(&mut held.newest, released);
        held.older.push(older);
        held.older.retain(|held| held.has_changed().is_ok());
        Released(held.older.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_change_waits_for_every_older_holder_and_for_no_newer_one() {
        let current = Current::new(State::default());
        let oldest = current.load();
        let first = current.change(|_| {});
        let newer = current.load();
        let second = current.change(|_| {});
        let newest = current.load();

        let mut first = tokio::spawn(first.wait());
        let mut second = tokio::spawn(second.wait());
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut first).await.is_err());
        drop(oldest);
        first.await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut second).await.is_err());
        drop(newer);
        second.await.unwrap();
        drop(newest);
    }

    #[tokio::test]
    async fn a_change_that_nobody_is_in_the_way_of_is_acknowledged_at_once() {
        let current = Current::new(State::default());
        current.change(|_| {}).wait().await;
        current.change(|_| {}).wait().await;
        assert!(current.held.lock().unwrap().older.len() <= 1);
    }
}
