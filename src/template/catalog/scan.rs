//! Walks the folders and reads what changed.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};

use super::{Content, Names, Template};
use crate::files::Fingerprint;
use crate::template::lexer::lex;
use crate::template::{Format, Problem};

/// The largest template, in bytes.
pub const TEMPLATE_MAX: u64 = 256 << 10;
/// How much of a larger file is searched for names before a secret is deleted.
const SEARCH_MAX: u64 = 8 << 20;

/// What a scan found.
pub struct Found {
    /// The templates by path; an unchanged one is the object it was.
    pub files: BTreeMap<PathBuf, Arc<Template>>,
    /// Folders that could not be read.
    pub unreadable: Vec<(PathBuf, String)>,
}

/// Looks at every candidate below `dir`.
pub fn scan(dir: &Path, known: &BTreeMap<PathBuf, Arc<Template>>) -> Found {
    let mut found = Found { files: BTreeMap::new(), unreadable: Vec::new() };
    for feature in entries(dir, &mut found.unreadable) {
        // Whether it is a folder is decided by reading it; a file among the features is none.
        if hidden(&feature) || fs::metadata(&feature).is_ok_and(|metadata| !metadata.is_dir()) {
            continue;
        }
        for path in entries(&feature, &mut found.unreadable) {
            if let Some((format, id)) = candidate(&feature, &path) {
                let template = look(&feature, &path, format, id, known.get(&path));
                found.files.insert(path, template);
            }
        }
    }
    found
}

/// The entries of a folder; none where there is no folder.
fn entries(dir: &Path, unreadable: &mut Vec<(PathBuf, String)>) -> Vec<PathBuf> {
    let listed = fs::read_dir(dir).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    match listed {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            unreadable.push((dir.to_owned(), error.to_string()));
            Vec::new()
        }
    }
}

fn hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// Format and id of what may be a template.
fn candidate(feature: &Path, path: &Path) -> Option<(Format, String)> {
    if hidden(path) {
        return None;
    }
    let format = Format::from_extension(path.extension()?.to_str()?)?;
    Some((format, format!("{}/{}", clean(feature.file_name()), clean(path.file_stem()))))
}

/// A name as it is shown: what is not UTF-8 or a control character is replaced.
fn clean(name: Option<&std::ffi::OsStr>) -> String {
    let name = name.map(|name| name.to_string_lossy()).unwrap_or_default();
    name.replace(char::is_control, "\u{fffd}")
}

fn look(feature: &Path, path: &Path, format: Format, id: String, known: Option<&Arc<Template>>) -> Arc<Template> {
    if let Some(known) = known
        && known.is_current()
    {
        return Arc::clone(known);
    }
    let mut settled = true;
    let (fingerprint, digest, content) = match read(path) {
        Ok(file) => {
            if let Some(known) = known
                && (known.fingerprint, known.digest) == (Some(file.fingerprint), file.digest)
            {
                known.settled.store(file.settled, Ordering::Relaxed);
                return Arc::clone(known);
            }
            settled = file.settled;
            (Some(file.fingerprint), file.digest, content(path, file.bytes))
        }
        Err(error) => {
            let names = known.map_or(Names::Unknown, |known| match &known.content {
                Content::Lexed(lexed) => Names::References(lexed.references.clone()),
                Content::Broken { names: Names::References(references), .. } => Names::References(references.clone()),
                Content::Broken { names: Names::Text(text), .. } => Names::Text(text.clone()),
                Content::Broken { names: Names::Unknown, .. } => Names::Unknown,
            });
            let problem = problem(format!("the file cannot be read: {error}"), "make it a readable file, or remove it");
            // Nothing changed for the worse: the same object, so that it does not count as a change.
            if let Some(known) = known
                && known.fingerprint.is_none()
                && matches!(&known.content, Content::Broken { problems, .. } if problems[..] == [problem.clone()])
            {
                return Arc::clone(known);
            }
            (None, [0; 32], Content::Broken { problems: vec![problem], names })
        }
    };
    Arc::new(Template {
        id,
        feature: clean(feature.file_name()),
        name: clean(path.file_stem()),
        format,
        path: path.to_owned(),
        fingerprint,
        digest,
        settled: AtomicBool::new(settled),
        published: AtomicBool::new(false),
        content,
    })
}

/// A file that was read.
struct FileRead {
    fingerprint: Fingerprint,
    digest: [u8; 32],
    /// It had not changed for a while: its next change will look different.
    settled: bool,
    bytes: Vec<u8>,
}

/// Reads a regular file; a pipe or device is refused without waiting for it.
fn read(path: &Path) -> io::Result<FileRead> {
    let mut file: File =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.size().min(SEARCH_MAX)).unwrap_or(0));
    Read::by_ref(&mut file).take(SEARCH_MAX + 1).read_to_end(&mut bytes)?;
    // Looked at after reading, so that a change in between shows as another fingerprint.
    let fingerprint = Fingerprint::from_metadata(&file.metadata()?);
    Ok(FileRead { fingerprint, digest: Sha256::digest(&bytes).into(), settled: fingerprint.is_settled(), bytes })
}

fn content(path: &Path, bytes: Vec<u8>) -> Content {
    let size = bytes.len() as u64;
    if size > SEARCH_MAX {
        let problem = problem("the file is far too large for a template", "move it out of the templates' folder");
        return Content::Broken { problems: vec![problem], names: Names::Unknown };
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
            return Content::Broken { problems: vec![problem], names: Names::Text(text) };
        }
    };
    if size > TEMPLATE_MAX {
        let message = format!("a template may have at most {} KiB", TEMPLATE_MAX >> 10);
        return Content::Broken { problems: vec![problem(message, "divide it")], names: Names::Text(text) };
    }
    let named = path.to_str().is_some_and(|path| !path.contains(char::is_control));
    if !named {
        let problem = problem("the name of the file or its folder is not plain UTF-8", "rename it");
        return Content::Broken { problems: vec![problem], names: Names::Text(text) };
    }
    match lex(&text) {
        Ok(lexed) => Content::Lexed(lexed),
        Err(problems) => Content::Broken { problems, names: Names::Text(text) },
    }
}

fn problem(message: impl Into<String>, help: &str) -> Problem {
    Problem { message: message.into(), help: Some(help.into()), ..Problem::default() }
}
