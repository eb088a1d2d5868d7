//! Works out what to push again after the account has lost it: its server was restored from a backup, and another
//! device has repaired it.
//!
//! Knows no key and no head.

use std::sync::Arc;

use super::state::Replica;
use crate::intent::{Intent, IntentChange};
use guillemet_base::random::random;
use guillemet_secret::record::{Secret, Version};

/// Returns intents for everything that `before` has and `now`, a state confirmed by a person, lacks: secrets and
/// values, and also the name and the enabled state if `before` changed them later by its clock. Deletes are left out: a
/// person can delete again.
pub(super) fn reconcile(before: &Replica, now: &Replica) -> Vec<Arc<Intent>> {
    let mut recovered = Vec::new();
    for secret in before.secrets() {
        let want = |change| Intent::new(secret.id, secret.updated_at, change);
        match now.secret(secret.id) {
            Some(current) => recovered.extend(of_living(secret, current).into_iter().map(want)),
            None => match now.deleted(secret.id) {
                Some(deleted) => recovered.extend(new_values(secret, &deleted.secret).into_iter().map(want)),
                None => recovered.push(want(IntentChange::Create(Arc::clone(secret)))),
            },
        }
    }
    recovered.sort_by_key(|intent| (intent.at, intent.secret));
    recovered.into_iter().map(Arc::new).collect()
}

fn of_living(secret: &Secret, current: &Secret) -> Vec<IntentChange> {
    let mut changes = new_values(secret, current);
    if is_later(secret, current) {
        if secret.name.as_str() != current.name.as_str() {
            changes.push(IntentChange::Rename(secret.name.clone()));
        }
        if secret.enabled != current.enabled {
            changes.push(IntentChange::Enable(secret.enabled));
        }
    } else if !changes.is_empty() && secret.versions.iter().all(|version| version.id != current.current().id) {
        // The account's value was set after those that it lost. It stays the present value, and the lost ones become
        // former versions.
        changes.push(IntentChange::Value(Version { id: random(), ..current.current().clone() }));
    }
    changes
}

/// Returns the versions after the last one that both have. A missing version before that was pruned. If there is no
/// common version, returns the present one if `secret` is later, and nothing otherwise.
fn new_values(secret: &Secret, current: &Secret) -> Vec<IntentChange> {
    let is_known = |version: &Version| current.versions.iter().any(|other| other.id == version.id);
    let lost = match secret.versions.iter().rposition(is_known) {
        Some(common) => common + 1,
        None if is_later(secret, current) => secret.versions.len() - 1,
        None => secret.versions.len(),
    };
    secret.versions[lost..].iter().cloned().map(IntentChange::Value).collect()
}

fn is_later(secret: &Secret, current: &Secret) -> bool {
    secret.updated_at > current.updated_at
}
