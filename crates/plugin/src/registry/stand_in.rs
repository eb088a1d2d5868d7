//! Stand-ins: components under development, each of which is used in the place of a feature's plugin while its author
//! works on it.
//!
//! Invariant: a stand-in exists in memory only. There is no pin and no file of it, so nothing of it survives the daemon,
//! and the plugin whose place it takes stays as it is: it is checked against its pin, and used again when the stand-in
//! ends.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    AddError, PluginCandidate, PluginOrigin, RegisteredPlugin, Registry, ReplacedInfo, change, hex, read_component,
};
use crate::cache::LastForm;
use crate::client::Planner;
use guillemet_base::names::Millis;
use guillemet_base::time::rfc3339;

/// The number of the last stand-in that began.
static LAST: AtomicU64 = AtomicU64::new(0);

/// A component that stands in for a feature's plugin.
pub(super) struct StandIn {
    pub(super) plugin: Arc<RegisteredPlugin>,
    number: u64,
    since: Millis,
}

impl Registry {
    /// Reads a file that may stand in for the plugin of a feature, and asks it to describe itself. This compiles it,
    /// which can take seconds. `confirmed` is the digest of the component that was built.
    ///
    /// # Errors
    /// Fails with [`AddError::Unreadable`], [`AddError::Changed`] or [`AddError::Unfit`].
    pub async fn read_stand_in(
        &self,
        feature: &str,
        file: &Path,
        confirmed: &str,
    ) -> Result<PluginCandidate, AddError> {
        let path = file.to_owned();
        // The caller chooses the path, which can be on a disk that does not answer.
        let read = tokio::task::spawn_blocking(move || read_component(&path));
        let component = read.await.map_err(|error| AddError::Unreadable(error.to_string()))??;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        // Its compiled form is kept in memory, because nothing of it is meant to stay.
        let planner = Planner::new(name, component, Arc::new(LastForm::default()));
        let digest = hex(planner.digest());
        if digest != confirmed {
            return Err(AddError::Changed(digest));
        }
        let unfit = |reason: String| AddError::Unfit(format!("{} cannot stand in: {reason}", file.display()));
        let candidate = change::candidate(RegisteredPlugin::new(PluginOrigin::StandIn, digest, Ok(planner)));
        let candidate = candidate.await.map_err(unfit)?;
        match candidate.feature() {
            own if own == feature => Ok(candidate),
            other => Err(unfit(format!("it is a plugin for `{other}`, not for `{feature}`"))),
        }
    }

    /// Uses a component in the place of its feature's plugin, or of the component that stands in for that now. Returns
    /// the number with which it ends.
    pub fn begin_stand_in(&self, candidate: &PluginCandidate, since: Millis) -> u64 {
        let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        let stand_in = StandIn { plugin: Arc::new(candidate.plugin()), number, since };
        self.stand_ins.send_modify(|all| {
            all.insert(candidate.feature().to_owned(), stand_in);
        });
        number
    }

    /// Uses the plugin of a feature again. Returns `false`, and changes nothing, if the stand-in with this number has
    /// ended or another one has taken its place.
    pub fn end_stand_in(&self, feature: &str, number: u64) -> bool {
        self.stand_ins.send_if_modified(|all| {
            let is_current = all.get(feature).is_some_and(|current| current.number == number);
            if is_current {
                all.remove(feature);
            }
            is_current
        })
    }

    /// Waits until the stand-in with this number has ended or another one has taken its place.
    pub async fn stand_in_ended(&self, feature: &str, number: u64) {
        let mut changes = self.stand_ins.subscribe();
        let is_other = |all: &BTreeMap<String, StandIn>| all.get(feature).is_none_or(|now| now.number != number);
        // The channel is closed when the registry is gone.
        let _ = changes.wait_for(is_other).await;
    }

    /// Returns the time since which a component stands in for the plugin of a feature; `None` if none does.
    pub fn stands_in_since(&self, feature: &str) -> Option<Millis> {
        self.stand_ins.borrow().get(feature).map(|stand_in| stand_in.since)
    }

    /// Checks that no component stands in for the plugin of a feature, so that the plugin can be changed: the change
    /// would be compared with a component that is gone in a moment, and would not be seen to take effect.
    ///
    /// # Errors
    /// Fails with [`AddError::StoodIn`].
    pub fn check_no_stand_in(&self, feature: &str) -> Result<(), AddError> {
        let Some(since) = self.stands_in_since(feature) else { return Ok(()) };
        Err(AddError::StoodIn(format!(
            "a component under development stands in for the plugin of `{feature}` since {}, so the plugin cannot be \
             changed; stop `guillemet plugin dev --stand-in` first",
            rfc3339(since)
        )))
    }

    /// Returns a sentence for people about each component that stands in for a plugin.
    pub fn stand_in_notices(&self) -> Vec<String> {
        let notice = |(feature, stand_in): (&String, &StandIn)| {
            format!(
                "a component under development (SHA-256 {}) stands in for the plugin of `{feature}` since {}; it ends \
                 with the `guillemet plugin dev --stand-in` that gave it",
                stand_in.plugin.digest,
                rfc3339(stand_in.since)
            )
        };
        self.stand_ins.borrow().iter().map(notice).collect()
    }

    /// Returns what is used for a feature: the component that stands in for its plugin, else the plugin.
    pub(super) fn find(&self, feature: &str) -> Option<Arc<RegisteredPlugin>> {
        let stand_in = self.stand_ins.borrow().get(feature).map(|stand_in| Arc::clone(&stand_in.plugin));
        stand_in.or_else(|| self.plugins.load().get(feature).cloned())
    }

    /// Returns what is used for each feature.
    pub(super) fn in_use(&self) -> Arc<BTreeMap<String, Arc<RegisteredPlugin>>> {
        let mut plugins = self.plugins.load_full();
        let stand_ins = self.stand_ins.borrow();
        if !stand_ins.is_empty() {
            let all = stand_ins.iter().map(|(feature, stand_in)| (feature.clone(), Arc::clone(&stand_in.plugin)));
            Arc::make_mut(&mut plugins).extend(all);
        }
        plugins
    }

    /// Returns the plugin of a feature for which a component stands in; `None` if there is none.
    pub(super) fn stood_in_for(&self, feature: &str) -> Option<ReplacedInfo> {
        let plugin = self.plugins.load().get(feature).cloned()?;
        let version = plugin.description.get().map(|description| description.version.clone());
        Some(ReplacedInfo { source: plugin.source, version, digest: plugin.digest.clone() })
    }
}
