//! Finds the files of a project that people write, and reports when they change.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use crate::cli::plugin::build::by_products;
use crate::cli::plugin::project::is_leftover;
use guillemet_base::files::{self, Links};

/// The number of levels of subfolders to look into.
const DEPTH_MAX: usize = 8;
/// The largest number of files to look at. A folder with more is not a plugin's project.
const FILES_MAX: usize = 5_000;
/// The largest file to read, in bytes. A larger one is compared by its size and modification time.
const FILE_MAX: u64 = 4 << 20;

/// The files by their path in the project, each with a digest of its content.
pub type FileDigests = BTreeMap<PathBuf, [u8; 32]>;

/// The files of a project, and a template that may be outside of it.
pub struct Sources {
    dir: PathBuf,
    template: PathBuf,
    /// Reports changes in the watched folders; `None` if the kernel cannot.
    watcher: Option<RecommendedWatcher>,
    watched: Vec<PathBuf>,
    signal: Arc<Notify>,
}

impl Sources {
    /// Prepares to look at the files of a folder and at a template.
    pub fn new(dir: &Path, template: &Path) -> Self {
        let signal = Arc::new(Notify::new());
        let notified = Arc::clone(&signal);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // Reading a file is an event too, but changes nothing.
            if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                notified.notify_one();
            }
        });
        let (dir, template) = (dir.to_owned(), template.to_owned());
        Self { dir, template, watcher: watcher.ok(), watched: Vec::new(), signal }
    }

    /// Returns the present files. Changes after this call are reported by [`Self::event`].
    pub fn scan(&mut self) -> FileDigests {
        let mut folders = vec![self.dir.clone()];
        let parent = self.template.parent().filter(|parent| !parent.as_os_str().is_empty());
        folders.push(parent.unwrap_or(Path::new(".")).to_owned());
        // Each folder is watched before it is read, so that no change in between is missed.
        let mut seen = FileDigests::new();
        folders.iter().for_each(|folder| self.watch(folder));
        self.walk(&self.dir.clone(), DEPTH_MAX, &mut seen);
        if let Some(digest) = digest(&self.template) {
            seen.insert(self.named(&self.template), digest);
        }
        for made in by_products(&self.dir) {
            seen.remove(Path::new(made));
        }
        self.watched.retain(|folder| folder.is_dir());
        seen
    }

    /// Reports whether the kernel reports changes. If not, the caller has to look again at intervals.
    pub fn reports_changes(&self) -> bool {
        self.watcher.is_some()
    }

    /// Waits until something happens in a watched folder.
    pub async fn event(&self) {
        self.signal.notified().await;
    }

    /// Reports whether the component is made of a file, given by its path as [`Self::scan`] returns it. It is not made of
    /// the template, the cases, `vars` and pages for people.
    pub fn is_source(&self, path: &Path) -> bool {
        let is_template = path == self.named(&self.template) || path.file_stem().is_some_and(|stem| stem == "template");
        let is_page = path.extension().is_some_and(|extension| extension == "md");
        !(is_template || is_page || path.starts_with("cases") || path == Path::new("guillemet.toml"))
    }

    fn walk(&mut self, folder: &Path, depth: usize, seen: &mut FileDigests) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                if depth > 0 && !is_leftover(&path) {
                    self.watch(&path);
                    self.walk(&path, depth - 1, seen);
                }
            } else if is_written(&path)
                && seen.len() < FILES_MAX
                && let Some(digest) = digest(&path)
            {
                seen.insert(self.named(&path), digest);
            }
        }
    }

    fn watch(&mut self, folder: &Path) {
        if self.watched.iter().any(|watched| watched == folder) {
            return;
        }
        if let Some(watcher) = &mut self.watcher {
            match watcher.watch(folder, RecursiveMode::NonRecursive) {
                Ok(()) => self.watched.push(folder.to_owned()),
                // The kernel allows no more watches, so the files are looked at in fixed intervals instead.
                Err(_) if folder.is_dir() => self.watcher = None,
                Err(_) => {}
            }
        }
    }

    fn named(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.dir).unwrap_or(path).to_owned()
    }
}

/// Reports whether a person writes such a file, and not a build, or an editor for its own use.
fn is_written(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let ends = |end: &str| path.extension().is_some_and(|extension| extension == end);
    !(is_leftover(path) || name.ends_with('~') || ends("wasm") || ends("lock"))
}

fn digest(path: &Path) -> Option<[u8; 32]> {
    let (file, metadata) = files::open_regular(path, Links::Follow).ok()?;
    match files::read_opened(file, &metadata, FILE_MAX) {
        Ok(bytes) => Some(Sha256::digest(bytes).into()),
        Err(error) if error.kind() == ErrorKind::FileTooLarge => {
            Some(Sha256::digest(format!("{} {:?}", metadata.len(), metadata.modified())).into())
        }
        Err(_) => None,
    }
}

/// Returns the paths of the files that differ, sorted.
pub fn changed(before: &FileDigests, after: &FileDigests) -> Vec<String> {
    let removed = before.keys().filter(|path| !after.contains_key(*path));
    let other = after.iter().filter(|(path, digest)| before.get(*path) != Some(digest)).map(|(path, _)| path);
    let mut changed: Vec<String> = removed.chain(other).map(|path| path.display().to_string()).collect();
    changed.sort();
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_writes_is_seen_and_what_builds_leave_behind_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let mut sources = Sources::new(dir.path(), &dir.path().join("template.toml"));
        write("src/lib.rs", "a");
        let before = sources.scan();
        for other in ["a.wasm", "Cargo.lock", "target/x.rs", "node_modules/a.js", ".a.swp", "a.c~", "v/pyvenv.cfg"] {
            write(other, "b");
        }
        assert_eq!(changed(&before, &sources.scan()), Vec::<String>::new());
        write("src/lib.rs", "a");
        assert_eq!(changed(&before, &sources.scan()), Vec::<String>::new(), "saved as it was");
        write("src/lib.rs", "b");
        write("cases/a.toml", "");
        write("template.toml", "");
        assert_eq!(changed(&before, &sources.scan()), ["cases/a.toml", "src/lib.rs", "template.toml"]);
        for (path, is_source) in [
            ("src/lib.rs", true),
            ("schema.json", true),
            ("wit/feature.wit", true),
            ("cases/a.toml", false),
            ("template.toml", false),
            ("template.yaml", false),
            ("guillemet.toml", false),
            ("README.md", false),
        ] {
            assert_eq!(sources.is_source(Path::new(path)), is_source, "{path}");
        }
        let before = sources.scan();
        write("plugin.toml", "");
        write("schema.json", "made of it");
        assert_eq!(changed(&before, &sources.scan()), ["plugin.toml"]);
        fs::remove_file(dir.path().join("src/lib.rs")).unwrap();
        assert!(changed(&before, &sources.scan()).contains(&"src/lib.rs".to_owned()));
    }
}
