//! The state that every answer is made from: immutable, and replaced as a whole by a change.
//!
//! Invariant (promise At once): a change is acknowledged when nothing holds an older snapshot any more. An answer holds
//! its snapshot until its last byte has been written, so no answer of the old state can still leave. Neither an answer
//! nor a change holds a lock while it waits.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use guillemet_plugin::plans::Prepared;
use guillemet_secret::record::Secret;

/// A map whose copies share their content. Its keys come from operators, not from callers, so a fast hash is enough.
pub type NameMap<V> =
    imbl::GenericHashMap<Box<str>, V, foldhash::fast::RandomState, imbl::shared_ptr::DefaultSharedPtr>;

/// One state of all secrets and templates.
#[derive(Clone, Default)]
pub struct SnapshotState {
    /// The secrets by the key of their name (`SecretName::key`).
    pub secrets: NameMap<Arc<Secret>>,
    /// The key of the current name, by the key of each former name. No key is in both maps.
    pub former: NameMap<Box<str>>,
    /// The templates with their plans, by template id.
    pub templates: NameMap<Arc<Prepared>>,
}

impl SnapshotState {
    /// Returns the secret whose current or former name has this key.
    pub fn secret(&self, key: &str) -> Option<&Arc<Secret>> {
        self.secrets.get(key).or_else(|| self.secrets.get(self.former.get(key)?))
    }

    /// Inserts a secret in place of the one whose name had the key `before`.
    pub fn put(&mut self, before: Option<&str>, secret: Arc<Secret>) {
        if let Some(before) = before {
            self.remove(before);
        }
        let key = secret.name.key();
        for former in &secret.former_names {
            self.former.insert(former.key().into(), key.as_str().into());
        }
        self.secrets.insert(key.into(), secret);
    }

    /// Removes the secret with this key, together with its former names.
    pub fn remove(&mut self, key: &str) {
        if let Some(secret) = self.secrets.remove(key) {
            for former in &secret.former_names {
                self.former.remove(former.key().as_str());
            }
        }
    }
}

/// A state that answers can hold on to.
pub struct Snapshot {
    state: SnapshotState,
    /// The keys of all names in templates, collected on first use.
    names: OnceLock<HashSet<String>>,
    /// Dropped with the last holder, which `Released` waits for.
    _held: watch::Sender<()>,
}

impl Snapshot {
    /// Reports whether the name with this key is or was the name of a secret, or occurs in a template. Any other name
    /// comes from the caller alone and may be anything, even a value.
    pub fn knows_name(&self, key: &str) -> bool {
        let names = || {
            let templates = self.state.templates.values();
            templates
                .flat_map(|prepared| prepared.template.references())
                .map(|reference| reference.name.key())
                .collect()
        };
        self.state.secret(key).is_some() || self.names.get_or_init(names).contains(key)
    }
}

impl std::ops::Deref for Snapshot {
    type Target = SnapshotState;

    fn deref(&self) -> &SnapshotState {
        &self.state
    }
}

/// The newest snapshot, and the older ones that are still held.
pub struct CurrentSnapshot {
    newest: ArcSwap<Snapshot>,
    held: Mutex<HeldSnapshot>,
}

struct HeldSnapshot {
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
            // Nothing is ever sent: the loop ends when the sender is dropped, with the last holder.
            while held.changed().await.is_ok() {}
        }
    }
}

fn snapshot(state: SnapshotState) -> (Arc<Snapshot>, watch::Receiver<()>) {
    let (held, released) = watch::channel(());
    (Arc::new(Snapshot { state, names: OnceLock::new(), _held: held }), released)
}

impl CurrentSnapshot {
    /// Starts with this state as the newest snapshot.
    pub fn new(state: SnapshotState) -> Self {
        let (first, released) = snapshot(state);
        Self { newest: ArcSwap::new(first), held: Mutex::new(HeldSnapshot { newest: released, older: Vec::new() }) }
    }

    /// Returns the newest snapshot. A caller that answers from it keeps it until the answer has been written.
    pub fn load(&self) -> Arc<Snapshot> {
        self.newest.load_full()
    }

    /// Changes the state. Concurrent changes are applied one after another.
    pub fn change(&self, change: impl FnOnce(&mut SnapshotState)) -> Released {
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
        let current = CurrentSnapshot::new(SnapshotState::default());
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
        let current = CurrentSnapshot::new(SnapshotState::default());
        current.change(|_| {}).wait().await;
        current.change(|_| {}).wait().await;
        assert!(current.held.lock().unwrap().older.len() <= 1);
    }
}
