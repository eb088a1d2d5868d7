//! Reports when templates may have changed. Ignores files that cannot be templates; only a scan finds changes of those.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use notify::event::ModifyKind;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::scan::{format, is_hidden};

/// The error of a watch that could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot watch {path} for changes: {source}. Raise fs.inotify.max_user_watches or max_user_instances")]
pub struct WatchError {
    path: PathBuf,
    source: notify::Error,
}

/// A watch on the templates' folder, which lasts until it is dropped.
pub struct Watcher {
    watcher: RecommendedWatcher,
    dir: PathBuf,
    /// Whether the folder itself was created, moved or removed, so that the current folder is not watched yet.
    replaced: Arc<AtomicBool>,
}

impl Watcher {
    /// Calls `on_change` at once for every event that may concern a template: often too often, never too rarely.
    ///
    /// Also watches the parent folder, so that the templates' folder can be removed and put back.
    ///
    /// # Errors
    /// Fails with [`WatchError`] if the system refuses the watch, as when its limits are exhausted.
    pub fn new(dir: impl Into<PathBuf>, on_change: impl Fn() + Send + 'static) -> Result<Self, WatchError> {
        let dir = dir.into();
        let replaced = Arc::new(AtomicBool::new(true));
        let (watched, flag) = (dir.clone(), Arc::clone(&replaced));
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| match event {
            Ok(event) if !event.need_rescan() && !is_relevant(&watched, &event) => {}
            Ok(event) => {
                if event.need_rescan() || event.paths.contains(&watched) {
                    flag.store(true, Ordering::Release);
                }
                on_change();
            }
            Err(_) => {
                flag.store(true, Ordering::Release);
                on_change();
            }
        });
        let watcher = watcher.map_err(|source| WatchError { path: dir.clone(), source })?;
        let mut this = Self { watcher, dir, replaced };
        if let Some(parent) = this.dir.parent().map(Path::to_owned) {
            this.watch(&parent, RecursiveMode::NonRecursive)?;
        }
        this.renew()?;
        Ok(this)
    }

    /// Watches the current folder. Call it before each rescan, because a folder may have been put back under the same
    /// name.
    ///
    /// # Errors
    /// Fails with [`WatchError`] if the system refuses the watch.
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

/// Reports whether an event may concern a template, or a folder of templates. The parent folder also contains the vault
/// and its log, and editors and git write files of their own all the time.
fn is_relevant(dir: &Path, event: &Event) -> bool {
    let is_data_change = matches!(event.kind, EventKind::Modify(ModifyKind::Data(_)));
    let may_be_template = |path: &PathBuf| {
        let Ok(inside) = path.strip_prefix(dir) else { return false };
        let mut steps = inside.iter().map(OsStrExt::as_bytes);
        match (steps.next(), steps.next(), steps.next()) {
            (None, ..) => true,
            // A folder, or a link to one. A file at this level is not a template.
            (Some(feature), None, _) => !is_hidden(feature) && !is_data_change,
            (Some(feature), Some(file), None) => !is_hidden(feature) && format(file).is_some(),
            _ => false,
        }
    };
    !matches!(event.kind, EventKind::Access(_)) && event.paths.iter().any(may_be_template)
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, DataChange, RemoveKind, RenameMode};

    use super::*;

    #[test]
    fn only_what_may_be_a_template_matters() {
        let created = EventKind::Create(CreateKind::File);
        let written = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let is_reported = |kind, paths: &[&str]| {
            let event = Event { paths: paths.iter().map(PathBuf::from).collect(), ..Event::new(kind) };
            is_relevant(Path::new("/home/templates"), &event)
        };
        for path in ["", "/f", "/f/a.toml", "/f/a.YML", "/linked/a.jsonc"] {
            assert!(is_reported(created, &[&format!("/home/templates{path}")]), "{path}");
        }
        assert!(is_reported(written, &["/home/templates/f/a.toml"]));
        assert!(is_reported(EventKind::Remove(RemoveKind::Folder), &["/home/templates/f"]));
        let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::Both));
        assert!(is_reported(renamed, &["/home/templates/f/a.toml.new", "/home/templates/f/a.toml"]));
        for path in [
            "/home/vault.db",
            "/home/templates/.git",
            "/home/templates/.git/index.toml",
            "/home/templates/f/.a.toml.swp",
            "/home/templates/f/.a.toml",
            "/home/templates/f/a.toml~",
            "/home/templates/f/4913",
            "/home/templates/f/sub/a.toml",
        ] {
            assert!(!is_reported(created, &[path]) && !is_reported(written, &[path]), "{path}");
        }
        assert!(!is_reported(written, &["/home/templates/notes.txt"]));
        assert!(!is_reported(EventKind::Access(notify::event::AccessKind::Any), &["/home/templates/f/a.toml"]));
    }
}
