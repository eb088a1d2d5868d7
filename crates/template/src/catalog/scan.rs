//! Walks the folders and reads the files that changed. Takes no lock, and may take long: a file system may be slow, or
//! hang.

use std::collections::{BTreeMap, HashSet};
use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs;
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::ops::Bound;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, FileType, RawDir, StatxFlags, statx};
use rustix::path::Arg;

use super::open::TemplateFolder;
use super::read::read_template;
use super::state::FileState;
use super::stray::{STRAYS_MAX, Stray, TEXT_MAX, depth, is_ignored, name, read_stray};
use super::{ReadingBasis, Template};
use crate::Format;
use guillemet_base::files::Fingerprint;

/// The size of the buffer for a folder's entries, in bytes.
const ENTRIES: usize = 64 << 10;
/// The deepest nesting of folders inside the templates' folder that is walked.
const DEPTH_MAX: usize = 8;

/// Templates by the path of their file inside the templates' folder.
pub type Files = BTreeMap<OsString, Arc<Template>>;
/// Files that are not templates, by their path inside the templates' folder.
pub type StrayFiles = BTreeMap<OsString, Arc<Stray>>;

/// The result of a scan.
pub struct ScanResult {
    /// The templates; an unchanged one is the same object as before. `None` if all are unchanged.
    pub files: Option<Files>,
    /// Files that are not templates; an unchanged one is the same object as before.
    pub strays: StrayFiles,
    /// Folders that could not be read, each with the system's message.
    pub unreadable: Vec<(PathBuf, String)>,
}

/// Scans everything below the folder. Increases `progress` with each file, so that others can distinguish a slow file
/// system from one that hangs.
pub(super) fn scan(basis: &ReadingBasis, progress: &AtomicU64) -> ScanResult {
    let mut scan = Scan {
        basis,
        unchanged: Vec::with_capacity(basis.files.len()),
        read: Vec::new(),
        strays: StrayFiles::new(),
        room: TEXT_MAX,
        is_full: false,
        walked: HashSet::new(),
        unreadable: Vec::new(),
        progress,
    };
    match TemplateFolder::root(&basis.dir) {
        Ok(root) => scan.root(&root),
        Err(error) => scan.unreadable(&basis.dir, &error),
    }
    let Scan { unchanged, read, strays, unreadable, .. } = scan;
    let is_same = read.is_empty() && unchanged.len() == basis.files.len();
    let files =
        || unchanged.into_iter().map(|(key, template)| (key.clone(), Arc::clone(template))).chain(read).collect();
    ScanResult { files: (!is_same).then(files), strays, unreadable }
}

struct Scan<'a> {
    basis: &'a ReadingBasis,
    /// The templates that are unchanged.
    unchanged: Vec<(&'a OsString, &'a Arc<Template>)>,
    /// The new and changed templates.
    read: Vec<(OsString, Arc<Template>)>,
    strays: StrayFiles,
    /// The room left for the text of further strays, in bytes.
    room: u64,
    /// Whether more strays exist than are examined.
    is_full: bool,
    /// The folders walked so far, by device and inode, because a link may lead back to one.
    walked: HashSet<(u64, u64)>,
    unreadable: Vec<(PathBuf, String)>,
    progress: &'a AtomicU64,
}

impl Scan<'_> {
    fn root(&mut self, root: &TemplateFolder) {
        let mut features: Vec<(CString, FileType)> = Vec::new();
        let mut others: Vec<(CString, FileType)> = Vec::new();
        let listed = entries(root, |name, kind| {
            // For a link, or if the kernel does not report the type, opening it decides.
            let may_be_folder = matches!(kind, FileType::Directory | FileType::Symlink | FileType::Unknown);
            let may_be_feature = may_be_folder && !is_hidden(name.to_bytes());
            let list = if may_be_feature { &mut features } else { &mut others };
            list.push((name.to_owned(), kind));
        });
        if let Err(error) = listed {
            self.unreadable(&root.path, &error);
        }
        self.walked.extend(root.id());
        for (feature, kind) in features {
            let feature = OsStr::from_bytes(feature.to_bytes());
            match root.inside(feature) {
                Ok(folder) => self.feature(&folder, feature),
                Err(error) if matches!(error.kind(), ErrorKind::NotADirectory | ErrorKind::NotFound) => {
                    self.file(root, feature, kind);
                }
                Err(error) => self.unreadable(&root.path.join(feature), &error),
            }
        }
        for (other, kind) in others {
            self.other(root, OsStr::from_bytes(other.to_bytes()), kind);
        }
    }

    fn feature(&mut self, folder: &TemplateFolder, feature: &OsStr) {
        self.walked.extend(folder.id());
        self.each(folder, feature, |scan, key, name, kind| match format(name.to_bytes()) {
            Some(format) => scan.template(folder, key, name, format),
            None => scan.other(folder, key, kind),
        });
    }

    /// Calls `visit` for every entry of a folder, with the entry's path inside the templates' folder.
    fn each(&mut self, folder: &TemplateFolder, at: &OsStr, mut visit: impl FnMut(&mut Self, &OsStr, &CStr, FileType)) {
        let mut key = [at.as_bytes(), b"/"].concat();
        let prefix = key.len();
        let listed = entries(folder, |name, kind| {
            key.truncate(prefix);
            key.extend_from_slice(name.to_bytes());
            visit(self, OsStr::from_bytes(&key), name, kind);
        });
        if let Err(error) = listed {
            self.unreadable(&folder.path, &error);
        }
    }

    fn template(&mut self, folder: &TemplateFolder, key: &OsStr, name: &CStr, format: Format) {
        let previous = self.basis.files.get_key_value(key);
        match previous {
            Some(previous) if is_current(folder, name, &previous.1.state) => self.unchanged.push(previous),
            _ => {
                let known_template = previous.map(|(_, template)| template);
                let template = read_template(folder, key, format, known_template, &self.basis.reads);
                match previous {
                    Some(previous) if Arc::ptr_eq(previous.1, &template) => self.unchanged.push(previous),
                    _ => self.read.push((key.to_owned(), template)),
                }
            }
        }
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Handles an entry that is not a template: reads the text of a file, and walks a folder.
    fn other(&mut self, folder: &TemplateFolder, key: &OsStr, kind: FileType) {
        if is_ignored(name(key).as_bytes()) || self.is_full {
            return;
        }
        match kind {
            FileType::Directory | FileType::Symlink | FileType::Unknown => match folder.inside(name(key)) {
                Ok(inside) => self.nested(&inside, key),
                Err(error) if kind == FileType::Directory => self.unreadable(&folder.path.join(name(key)), &error),
                Err(_) => self.file(folder, key, kind),
            },
            FileType::RegularFile => self.file(folder, key, kind),
            _ => self.put(key, Stray::without_text(key)),
        }
    }

    fn nested(&mut self, folder: &TemplateFolder, key: &OsStr) {
        let Some(id) = folder.id() else { return };
        if !self.walked.insert(id) {
            return;
        }
        if depth(key) >= DEPTH_MAX {
            return self.put(key, Stray::unexamined(key));
        }
        self.each(folder, key, |scan, key, _, kind| scan.other(folder, key, kind));
    }

    fn file(&mut self, folder: &TemplateFolder, key: &OsStr, kind: FileType) {
        self.progress.fetch_add(1, Ordering::Relaxed);
        let previous = self.basis.strays.get(key);
        let current = previous
            .filter(|previous| previous.is_settled_with(self.room) && is_current(folder, name(key), &previous.state))
            .cloned();
        let read = || read_stray(folder, key, kind, previous, self.room, &self.basis.reads);
        if let Some(stray) = current.or_else(read) {
            self.put(key, stray);
        }
    }

    fn put(&mut self, key: &OsStr, stray: Arc<Stray>) {
        self.room = self.room.saturating_sub(stray.text().map_or(0, |text| text.len() as u64));
        let (key, stray) = if self.strays.len() < STRAYS_MAX {
            (key.to_owned(), stray)
        } else if !self.is_full {
            self.is_full = true;
            let folder = Path::new(key).parent().unwrap_or(Path::new("")).as_os_str();
            (folder.to_owned(), Stray::unexamined(folder))
        } else {
            return;
        };
        // A stray that says the same as before is not a change.
        let previous = self.basis.strays.get(&key).filter(|previous| previous.is_same(&stray)).cloned();
        self.strays.insert(key, previous.unwrap_or(stray));
    }

    fn unreadable(&mut self, folder: &Path, error: &io::Error) {
        if error.kind() != ErrorKind::NotFound {
            self.unreadable.push((folder.to_owned(), error.to_string()));
        }
    }
}

/// Reads the files again that may claim one id. Returns the template of each, by its path inside the folder; `None` if
/// the file does not exist. Does not find an unknown file with an unusual mix of case in its extension: only a scan
/// does.
pub(super) fn recheck(basis: &ReadingBasis, id: &str) -> Vec<(OsString, Option<Arc<Template>>)> {
    let existing = known_of(&basis.files, id).map(|(key, _)| key.clone());
    let mut keys: Vec<OsString> = existing.collect();
    keys.extend(Format::EXTENSIONS.iter().flat_map(|extension| {
        let upper = extension.to_ascii_uppercase();
        let title = [&upper[..1], &extension[1..]].concat();
        [format!("{id}.{extension}"), format!("{id}.{upper}"), format!("{id}.{title}")].map(OsString::from)
    }));
    keys.sort_unstable();
    keys.dedup();
    let Ok(root) = TemplateFolder::root(&basis.dir) else { return keys.into_iter().map(|key| (key, None)).collect() };
    let open = |feature: &OsStr| if is_hidden(feature.as_bytes()) { None } else { root.inside(feature).ok() };
    // All of them are in one folder, except for names that cannot be shown.
    let first = keys.first().and_then(|key| split(key)).map(|(feature, _)| (feature.to_owned(), open(feature)));
    let check = |key: &OsString| {
        let (feature, file) = split(key)?;
        let format = format(file.as_bytes())?;
        let other;
        let folder = match &first {
            Some((first, folder)) if first == feature => folder.as_ref()?,
            _ => {
                other = open(feature)?;
                &other
            }
        };
        // A missing entry means that there is no template; any failure to read an existing one is reported as a
        // problem.
        statx(folder, file, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE).ok()?;
        let previous = basis.files.get(key);
        let current = previous.filter(|previous| is_current(folder, file, &previous.state)).cloned();
        Some(current.unwrap_or_else(|| read_template(folder, key, format, previous, &basis.reads)))
    };
    keys.into_iter().map(|key| (check(&key), key)).map(|(template, key)| (key, template)).collect()
}

/// Returns the known files with this id. They are adjacent in the map.
fn known_of<'a>(files: &'a Files, id: &'a str) -> impl Iterator<Item = (&'a OsString, &'a Arc<Template>)> {
    // A name that cannot be shown as it is appears in the id in another form.
    let from = if id.contains('\u{fffd}') { "" } else { id };
    files
        .range::<OsStr, _>((Bound::Included(OsStr::new(from)), Bound::<&OsStr>::Unbounded))
        .take_while(move |(key, _)| key.as_bytes().starts_with(from.as_bytes()))
        .filter(move |(_, template)| template.id == id)
}

/// Returns the files in a templates' folder that have this id, with extensions in any case.
pub fn files_of(templates: &Path, id: &str) -> Vec<PathBuf> {
    let Some((feature, expected)) = id.split_once('/') else { return Vec::new() };
    let entries = fs::read_dir(templates.join(feature)).into_iter().flatten().flatten();
    let is_match = |path: &PathBuf| {
        let has_format = path.file_name().is_some_and(|name| format(name.as_bytes()).is_some());
        has_format && path.file_stem().is_some_and(|stem| stem == expected)
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_match).collect();
    files.sort_unstable();
    files
}

/// Splits a path inside the templates' folder into folder and file; `None` if it has more or fewer parts.
fn split(key: &OsStr) -> Option<(&OsStr, &OsStr)> {
    let bytes = key.as_bytes();
    let at = bytes.iter().position(|byte| *byte == b'/')?;
    let (feature, file) = (&bytes[..at], &bytes[at + 1..]);
    let is_plain = !feature.is_empty() && !file.contains(&b'/');
    is_plain.then(|| (OsStr::from_bytes(feature), OsStr::from_bytes(file)))
}

/// Calls `visit` for every entry of a folder.
fn entries(folder: &TemplateFolder, mut visit: impl FnMut(&CStr, FileType)) -> io::Result<()> {
    let mut buffer = vec![MaybeUninit::uninit(); ENTRIES];
    let mut listing = RawDir::new(folder.as_fd(), &mut buffer);
    while let Some(entry) = listing.next() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            visit(entry.file_name(), entry.file_type());
        }
    }
    Ok(())
}

pub(super) fn is_hidden(name: &[u8]) -> bool {
    name.starts_with(b".")
}

/// Returns the format of a file that may be a template, by its name; `None` for any other file.
pub(super) fn format(name: &[u8]) -> Option<Format> {
    if is_hidden(name) {
        return None;
    }
    Format::from_extension(Path::new(OsStr::from_bytes(name)).extension()?.to_str()?)
}

/// Reports whether the file of an entry is certainly unchanged since it was read, by its metadata alone. Asks the file
/// system itself, not this machine's cache of it.
fn is_current(folder: &TemplateFolder, name: impl Arg, state: &FileState) -> bool {
    state.is_current(|| {
        let stat = statx(folder, name, AtFlags::STATX_FORCE_SYNC, StatxFlags::BASIC_STATS).ok()?;
        Some(Fingerprint::from_statx(&stat))
    })
}
