//! Tells when the folders may have changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

/// Why the kernel cannot tell of changes.
#[derive(Debug, thiserror::Error)]
#[error("changes of {path} cannot be watched: {source}. Raise fs.inotify.max_user_watches or max_user_instances")]
pub struct WatchError {
    path: PathBuf,
    source: notify::Error,
}

/// Watches until dropped.
pub struct Watcher {
    watcher: RecommendedWatcher,
    dir: PathBuf,
    /// The folder itself was made, moved or removed: what is there now is not watched yet.
    replaced: Arc<AtomicBool>,
}

impl Watcher {
    /// Calls back at once on whatever may matter: often too often, never too seldom.
    ///
    /// The folder above is watched too, so that the templates' folder may be taken away and put back.
    ///
    /// # Errors
    /// `WatchError`.
    pub fn new(dir: impl Into<PathBuf>, on_change: impl Fn() + Send + 'static) -> Result<Self, WatchError> {
        let dir = dir.into();
        let replaced = Arc::new(AtomicBool::new(true));
        let (watched, noted) = (dir.clone(), Arc::clone(&replaced));
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| match event {
            Ok(event) if matches!(event.kind, EventKind::Access(_)) => {}
            // The folder above holds the vault and its log too: those are written all the time.
            Ok(event) if !event.need_rescan() && event.paths.iter().all(|path| !path.starts_with(&watched)) => {}
            Ok(event) => {
                if event.need_rescan() || event.paths.contains(&watched) {
                    noted.store(true, Ordering::Release);
                }
                on_change();
            }
            Err(_) => {
                noted.store(true, Ordering::Release);
                on_change();
            }
        });
        let watcher = watcher.map_err(|source| WatchError { path: dir.clone(), source })?;
        let mut this = Self { watcher, dir, replaced };
        if let Some(above) = this.dir.parent().map(Path::to_owned) {
            this.watch(&above, RecursiveMode::NonRecursive)?;
        }
        this.renew()?;
        Ok(this)
    }

    /// Watches the folder that is there now. To be called before each rescan: a folder may have been put
    /// back under the same name.
    ///
    /// # Errors
    /// `WatchError`.
    pub fn renew(&mut self) -> Result<(), WatchError> {
        if self.replaced.swap(false, Ordering::AcqRel) && self.dir.exists() {
            let dir = self.dir.clone();
            self.watch(&dir, RecursiveMode::Recursive)?;
        }
        Ok(())
    }

    fn watch(&mut self, path: &Path, mode: RecursiveMode) -> Result<(), WatchError> {
        self.watcher.watch(path, mode).map_err(|source| WatchError { path: path.to_owned(), source })
    }
}
