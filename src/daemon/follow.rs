//! Follows `guillemet.toml`: by events of the kernel, and by looks for what it does not report. A file behind a link,
//! for one, or one that was replaced on another machine.

use std::path::Path;
use std::sync::Arc;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use super::POLL;
use crate::app::{App, configuration};

/// Puts what is in the file in force whenever it changes.
pub(super) async fn configuration(app: Arc<App>) {
    let changed = Arc::new(Notify::new());
    let watcher = watch(&app.home.config_file(), Arc::clone(&changed));
    if let Err(error) = &watcher {
        tracing::warn!(%error, "checking the configuration for changes every {} s instead", POLL.as_secs());
    }
    loop {
        // Whatever the kernel says, it is looked at now and then.
        let _ = tokio::time::timeout(POLL, changed.notified()).await;
        configuration::follow(&app).await;
    }
}

/// Tells of events of a file, until dropped. Its folder is watched: editors put another file in its place.
fn watch(file: &Path, changed: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let watched = file.to_owned();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| match event {
        Ok(event) if matches!(event.kind, EventKind::Access(_)) => {}
        // The folder may hold the vault too, which is written all the time.
        Ok(event) if !event.need_rescan() && !event.paths.contains(&watched) => {}
        _ => changed.notify_one(),
    })?;
    watcher.watch(file.parent().unwrap_or(Path::new("/")), RecursiveMode::NonRecursive)?;
    Ok(watcher)
}
