//! Walks the folders and reads what changed. Locks nothing and may take long: a file system may be slow, or hang.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::io::{self, ErrorKind, Read};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{AtFlags, FileType, FsWord, RawDir, StatxFlags, fstatfs, statx};
use rustix::path::Arg;
use sha2::{Digest, Sha256};

use super::open::{Folder, OpenError};
use super::{Content, Names, Template};
use crate::files::Fingerprint;
use crate::template::lexer::lex;
use crate::template::{Format, Problem};

/// The largest template, in bytes.
pub const TEMPLATE_MAX: u64 = 256 << 10;
/// How much of a larger file is searched for names before a secret is deleted.
const SEARCH_MAX: u64 = 8 << 20;
/// How many bytes of a folder's entries the kernel gives at once.
const ENTRIES: usize = 64 << 10;
/// The extensions of templates.
const EXTENSIONS: [&str; 4] = ["toml", "json", "jsonc", "yaml"];

/// File systems of this machine, which answer at once (`statfs(2)`): ext, XFS, Btrfs, F2FS, Bcachefs, ZFS, tmpfs,
/// ramfs, overlayfs, SquashFS, EROFS, FAT, exFAT. Of every other it is assumed that it may hang.
const LOCAL: [FsWord; 13] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0xf2f5_2010,
    0xca45_1a4e,
    0x2fc1_2fc1,
    0x0102_1994,
    0x8584_58f6,
    0x794c_7630,
    0x7371_7368,
    0xe0f5_e1e2,
    0x4d44,
    0x2011_bab0,
];

/// Templates by the path of their file inside the templates' folder.
pub type Files = BTreeMap<OsString, Arc<Template>>;

/// What a scan found.
pub struct Found {
    /// The templates; an unchanged one is the object it was. `None` where all of them are.
    pub files: Option<Files>,
    /// Folders that could not be read.
    pub unreadable: Vec<(PathBuf, String)>,
}

/// Checks every candidate below `dir`. `progress` rises with each, so that others can tell a slow file system from one
/// that hangs.
pub fn scan(dir: &Path, known: &Files, progress: &AtomicU64) -> Found {
    let mut scan =
        Scan { known, kept: Vec::with_capacity(known.len()), read: Vec::new(), unreadable: Vec::new(), progress };
    match Folder::root(dir) {
        Ok(root) => scan.root(&root),
        Err(error) => scan.unreadable(dir, &error),
    }
    let Scan { kept, read, unreadable, .. } = scan;
    let is_same = read.is_empty() && kept.len() == known.len();
    let files = || kept.into_iter().map(|(key, template)| (key.clone(), Arc::clone(template))).chain(read).collect();
    Found { files: (!is_same).then(files), unreadable }
}

struct Scan<'a> {
    known: &'a Files,
    /// Those that are as they were.
    kept: Vec<(&'a OsString, &'a Arc<Template>)>,
    /// Those that are not.
    read: Vec<(OsString, Arc<Template>)>,
    unreadable: Vec<(PathBuf, String)>,
    progress: &'a AtomicU64,
}

impl Scan<'_> {
    fn root(&mut self, root: &Folder) {
        let mut features: Vec<CString> = Vec::new();
        let listed = entries(root, |name, kind| {
            // Of a link, or where the kernel does not say, it shows when it is opened.
            let may_be_folder = matches!(kind, FileType::Directory | FileType::Symlink | FileType::Unknown);
            if may_be_folder && !is_hidden(name.to_bytes()) {
                features.push(name.to_owned());
            }
        });
        if let Err(error) = listed {
            self.unreadable(&root.path, &error);
        }
        for feature in features {
            let feature = OsStr::from_bytes(feature.to_bytes());
            match root.inside(feature) {
                Ok(folder) => self.feature(&folder, feature),
                Err(error) if error.kind() == ErrorKind::NotADirectory => {}
                Err(error) => self.unreadable(&root.path.join(feature), &error),
            }
        }
    }

    fn feature(&mut self, folder: &Folder, feature: &OsStr) {
        let mut key = [feature.as_bytes(), b"/"].concat();
        let prefix = key.len();
        let listed = entries(folder, |name, _| {
            let Some(format) = format(name.to_bytes()) else { return };
            key.truncate(prefix);
            key.extend_from_slice(name.to_bytes());
            let key = OsStr::from_bytes(&key);
            let known = self.known.get_key_value(key);
            match known {
                Some(known) if is_current(folder, name, known.1) => self.kept.push(known),
                _ => {
                    let template = read_template(folder, key, format, known.map(|(_, template)| template));
                    match known {
                        Some(known) if Arc::ptr_eq(known.1, &template) => self.kept.push(known),
                        _ => self.read.push((key.to_owned(), template)),
                    }
                }
            }
            self.progress.fetch_add(1, Ordering::Relaxed);
        });
        if let Err(error) = listed {
            self.unreadable(&folder.path, &error);
        }
    }

    fn unreadable(&mut self, folder: &Path, error: &io::Error) {
        if error.kind() != ErrorKind::NotFound {
            self.unreadable.push((folder.to_owned(), error.to_string()));
        }
    }
}

/// Reads the files that may claim one id again: what has become of each, by its path inside `dir`.
pub fn recheck(dir: &Path, known: &Files, id: &str) -> Vec<(OsString, Option<Arc<Template>>)> {
    let mut keys: Vec<OsString> =
        known.iter().filter(|(_, template)| template.id == id).map(|(key, _)| key.clone()).collect();
    keys.extend(EXTENSIONS.map(|extension| format!("{id}.{extension}").into()));
    keys.sort_unstable();
    keys.dedup();
    let root = Folder::root(dir);
    let one = |key: &OsString| {
        let (feature, file) = split(key)?;
        let format = format(file.as_bytes()).filter(|_| !is_hidden(feature.as_bytes()))?;
        let folder = root.as_ref().ok()?.inside(feature).ok()?;
        // What is in the way of reading it is told as a problem; that there is no such entry is none.
        statx(&folder, file, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE).ok()?;
        let known = known.get(key);
        let current = known.filter(|known| is_current(&folder, file, known)).cloned();
        Some(current.unwrap_or_else(|| read_template(&folder, key, format, known)))
    };
    keys.into_iter().map(|key| (one(&key), key)).map(|(template, key)| (key, template)).collect()
}

/// The folder and the file that a path inside the templates' folder has.
fn split(key: &OsStr) -> Option<(&OsStr, &OsStr)> {
    let bytes = key.as_bytes();
    let at = bytes.iter().position(|byte| *byte == b'/')?;
    let (feature, file) = (&bytes[..at], &bytes[at + 1..]);
    let is_plain = !feature.is_empty() && !file.contains(&b'/');
    is_plain.then(|| (OsStr::from_bytes(feature), OsStr::from_bytes(file)))
}

/// Calls back for each entry of a folder.
fn entries(folder: &Folder, mut each: impl FnMut(&CStr, FileType)) -> io::Result<()> {
    let mut buffer = vec![MaybeUninit::uninit(); ENTRIES];
    let mut listing = RawDir::new(folder.as_fd(), &mut buffer);
    while let Some(entry) = listing.next() {
        let entry = entry?;
        each(entry.file_name(), entry.file_type());
    }
    Ok(())
}

fn is_hidden(name: &[u8]) -> bool {
    name.starts_with(b".")
}

/// The format of what may be a template, by its file's name.
fn format(name: &[u8]) -> Option<Format> {
    if is_hidden(name) {
        return None;
    }
    Format::from_extension(Path::new(OsStr::from_bytes(name)).extension()?.to_str()?)
}

/// A name as it is shown: what is not UTF-8 or a control character is replaced.
fn clean(name: Option<&OsStr>) -> String {
    let name = name.map(|name| name.to_string_lossy()).unwrap_or_default();
    name.replace(char::is_control, "\u{fffd}")
}

/// Whether the file of an entry is sure to be as it was read, by its metadata alone. The file system is asked, not
/// what this machine remembers of it.
fn is_current(folder: &Folder, name: impl Arg, known: &Template) -> bool {
    known.settled.load(Ordering::Relaxed)
        && known.fingerprint.is_some_and(|fingerprint| {
            statx(folder, name, AtFlags::STATX_FORCE_SYNC, StatxFlags::BASIC_STATS)
                .is_ok_and(|found| Fingerprint::from_statx(&found) == fingerprint)
        })
}

fn read_template(folder: &Folder, key: &OsStr, format: Format, known: Option<&Arc<Template>>) -> Arc<Template> {
    let path = Path::new(key);
    let (feature, file) = (clean(path.parent().and_then(Path::file_name)), path.file_name().unwrap_or_default());
    let name = clean(path.file_stem());
    let path = folder.path.join(file);
    let mut is_settled = true;
    let mut is_local = true;
    let (fingerprint, digest, content) = match read(folder, file) {
        Ok(read) => {
            if let Some(known) = known
                && (known.fingerprint, known.digest) == (Some(read.fingerprint), read.digest)
            {
                known.settled.store(read.is_settled, Ordering::Relaxed);
                return Arc::clone(known);
            }
            (is_settled, is_local) = (read.is_settled, read.is_local);
            (Some(read.fingerprint), read.digest, content(&path, read.bytes))
        }
        Err(error) => {
            let names = known.map_or(Names::Unknown, |known| match &known.content {
                Content::Lexed(lexed) => Names::References(lexed.references.clone()),
                Content::Broken { names: Names::References(references), .. } => Names::References(references.clone()),
                Content::Broken { names: Names::Text(text), .. } => Names::Text(text.clone()),
                Content::Broken { names: Names::Unknown, .. } => Names::Unknown,
            });
            let problem = match error {
                OpenError::Foreign => problem(
                    error.to_string(),
                    "link to a file of whoever owns the folder that the link is in, or copy the file into that folder",
                ),
                OpenError::System(error) => {
                    problem(format!("the file cannot be read: {error}"), "make it a readable file, or remove it")
                }
            };
            // Nothing changed for the worse: the same object, so that it does not count as a change.
            if let Some(known) = known
                && known.fingerprint.is_none()
                && matches!(&known.content, Content::Broken { problems, .. } if problems[..] == [problem.clone()])
            {
                return Arc::clone(known);
            }
            (None, [0; 32], Content::of_file(problem, names))
        }
    };
    Arc::new(Template {
        id: format!("{feature}/{name}"),
        feature,
        name,
        format,
        path,
        fingerprint,
        digest,
        is_local,
        settled: AtomicBool::new(is_settled),
        published: AtomicBool::new(false),
        content,
    })
}

/// A file that was read.
struct FileRead {
    fingerprint: Fingerprint,
    digest: [u8; 32],
    /// It had not changed for a while: its next change will look different.
    is_settled: bool,
    /// It lies on a file system that answers at once.
    is_local: bool,
    bytes: Vec<u8>,
}

fn read(folder: &Folder, name: &OsStr) -> Result<FileRead, OpenError> {
    let mut file = folder.open(name)?;
    let size = file.metadata()?.len().min(SEARCH_MAX);
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    Read::by_ref(&mut file).take(SEARCH_MAX + 1).read_to_end(&mut bytes)?;
    // Asked for after reading, so that a change in between shows as another fingerprint.
    let fingerprint = Fingerprint::from_metadata(&file.metadata()?);
    let is_local = fstatfs(&file).is_ok_and(|system| LOCAL.contains(&system.f_type));
    let digest = Sha256::digest(&bytes).into();
    Ok(FileRead { fingerprint, digest, is_settled: fingerprint.is_settled(), is_local, bytes })
}

/// Returns the text of a template, read again, where its file is still what the template was made from.
pub fn text(template: &Template) -> Option<String> {
    let folder = template.path.parent()?;
    let root = Folder::root(folder.parent()?).ok()?;
    let read = read(&root.inside(folder.file_name()?).ok()?, template.path.file_name()?).ok()?;
    (read.digest == template.digest).then(|| String::from_utf8(read.bytes).ok()).flatten()
}

fn content(path: &Path, bytes: Vec<u8>) -> Content {
    let size = bytes.len() as u64;
    if size > SEARCH_MAX {
        let problem = problem("the file is far too large for a template", "move it out of the templates' folder");
        return Content::of_file(problem, Names::Unknown);
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            let line = error.as_bytes()[..valid].iter().filter(|b| **b == b'\n').count() + 1;
            let mut problem = problem("the file is not UTF-8", "save it as UTF-8");
            problem.line = u32::try_from(line).ok();
            problem.column = Some(1);
            return Content::of_file(problem, Names::Text(text));
        }
    };
    if size > TEMPLATE_MAX {
        let message = format!("a template may have at most {} KiB", TEMPLATE_MAX >> 10);
        return Content::of_file(problem(message, "divide it"), Names::Text(text));
    }
    let named = path.to_str().is_some_and(|path| !path.contains(char::is_control));
    if !named {
        let problem = problem("the name of the file or its folder is not plain UTF-8", "rename it");
        return Content::of_file(problem, Names::Text(text));
    }
    match lex(&text) {
        Ok(lexed) => Content::Lexed(lexed),
        Err(problems) => Content::Broken { problems, names: Names::Text(text), is_of_text: true },
    }
}

fn problem(message: impl Into<String>, help: &str) -> Problem {
    Problem { message: message.into(), help: Some(help.into()), ..Problem::default() }
}
