//! Follows changes of `guillemet.toml`: by events of the kernel, and by polling for changes that it does not report,
//! such as those of a file behind a link, or made on another machine.

use std::path::Path;
use std::sync::Arc;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use super::POLL;
use crate::app::{App, configuration};

/// Puts the file's configuration in force whenever the file changes.
pub(super) async fn configuration(app: Arc<App>) {
    let changed = Arc::new(Notify::new());
    let watcher = watch(&app.home.config_file(), Arc::clone(&changed));
    if let Err(error) = &watcher {
        tracing::warn!(%error, "checking the configuration for changes every {} s instead", POLL.as_secs());
    }
    loop {
        // Whatever the kernel reports, look at the file from time to time.
        let _ = tokio::time::timeout(POLL, changed.notified()).await;
        configuration::follow(&app).await;
    }
}

/// Notifies `changed` of events of a file, until the watcher is dropped. Watches its folder, because editors put
/// another file in its place.
fn watch(file: &Path, changed: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let watched = file.to_owned();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| match event {
        Ok(event) if matches!(event.kind, EventKind::Access(_)) => {}
        // The folder may contain the vault too, which is written all the time.
        Ok(event) if !event.need_rescan() && !event.paths.contains(&watched) => {}
        _ => changed.notify_one(),
    })?;
    watcher.watch(file.parent().unwrap_or(Path::new("/")), RecursiveMode::NonRecursive)?;
    Ok(watcher)
}
