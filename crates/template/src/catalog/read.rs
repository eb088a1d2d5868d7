//! Reads one file: into a template, or into searchable text if it is not one. Takes no lock.

use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use rustix::fs::{FsWord, fstatfs};
use sha2::{Digest, Sha256};

use super::open::{OpenError, TemplateFolder};
use super::state::FileState;
use super::{Names, Template, TemplateContent};
use crate::Format;
use crate::lexer::lex;
use guillemet_base::files::Fingerprint;
use guillemet_base::problem::Problem;

/// The largest size of a template, in bytes.
pub const TEMPLATE_MAX: u64 = 256 << 10;
/// The largest size of a file that is searched for names before a secret is deleted, in bytes.
pub const SEARCH_MAX: u64 = 8 << 20;

/// Types of file systems on this machine, which answer at once (`statfs(2)`): ext, XFS, Btrfs, F2FS, Bcachefs, ZFS,
/// tmpfs, ramfs, overlayfs, SquashFS, EROFS, FAT, exFAT. Every other one is assumed to be able to hang.
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

/// The result of reading a file.
pub(super) struct FileRead {
    pub state: FileState,
    /// Whether the file is on a file system that answers at once.
    pub is_local: bool,
    /// The content; `None` if it is larger than the limit.
    pub bytes: Option<Vec<u8>>,
}

/// Reads a file of at most `max` bytes; of a larger one, only its metadata.
pub(super) fn read(folder: &TemplateFolder, name: &OsStr, max: u64) -> Result<FileRead, OpenError> {
    let started = Instant::now();
    let mut file = folder.open(name)?;
    let size = file.metadata()?.len();
    let mut bytes = None;
    if size <= max {
        let mut read = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
        Read::by_ref(&mut file).take(max + 1).read_to_end(&mut read)?;
        bytes = Some(read).filter(|read| read.len() as u64 <= max);
    }
    // Taken after reading, so that a change in between shows as another fingerprint.
    let fingerprint = Fingerprint::from_metadata(&file.metadata()?);
    let is_local = fstatfs(&file).is_ok_and(|system| LOCAL.contains(&system.f_type));
    let digest = bytes.as_ref().map_or([0; 32], |bytes| Sha256::digest(bytes).into());
    Ok(FileRead { state: FileState::of(fingerprint, digest, started), is_local, bytes })
}

/// Reads a template. Returns `previous`, its earlier reading, if nothing changed. Increases `reads`.
pub(super) fn read_template(
    folder: &TemplateFolder,
    key: &OsStr,
    format: Format,
    previous: Option<&Arc<Template>>,
    reads: &AtomicU64,
) -> Arc<Template> {
    reads.fetch_add(1, Ordering::Relaxed);
    let path = Path::new(key);
    let (feature, file) = (display_name(path.parent().and_then(Path::file_name)), path.file_name().unwrap_or_default());
    let name = display_name(path.file_stem());
    let path = folder.path.join(file);
    let mut is_local = true;
    let (state, content) = match read(folder, file, SEARCH_MAX) {
        Ok(read) => {
            if let Some(previous) = previous
                && previous.state.is_same(&read.state)
            {
                previous.state.confirm(&read.state);
                return Arc::clone(previous);
            }
            is_local = read.is_local;
            (read.state, content(&path, read.bytes))
        }
        Err(error) => {
            let names = previous.map_or(Names::Unknown, |previous| match &previous.content {
                TemplateContent::Lexed(lexed) => Names::References(lexed.references.clone()),
                TemplateContent::Broken { names: Names::References(references), .. } => {
                    Names::References(references.clone())
                }
                TemplateContent::Broken { names: Names::Text(text), .. } => Names::Text(text.clone()),
                TemplateContent::Broken { names: Names::Unknown, .. } => Names::Unknown,
            });
            let problem = match error {
                OpenError::Foreign => problem(
                    error.to_string(),
                    "link to a file that belongs to the owner of the link's folder, or copy the file into that folder",
                ),
                OpenError::System(error) => {
                    problem(format!("the file cannot be read: {error}"), "make it readable, or remove it")
                }
            };
            // The problem is the same as before: the same object is returned, so that it does not count as a change.
            if let Some(previous) = previous
                && previous.state.is_unread()
                && let TemplateContent::Broken { problems, .. } = &previous.content
                && problems[..] == [problem.clone()]
            {
                return Arc::clone(previous);
            }
            (FileState::unread(), TemplateContent::of_file(problem, names))
        }
    };
    let id = format!("{feature}/{name}");
    Arc::new(Template { id, feature, name, format, path, state, is_local, published: AtomicBool::new(false), content })
}

/// Reads the text of a template again. Returns `None` if its file has changed since the template was made.
pub(super) fn text(template: &Template) -> Option<String> {
    let folder = template.path.parent()?;
    let root = TemplateFolder::root(folder.parent()?).ok()?;
    let read = read(&root.inside(folder.file_name()?).ok()?, template.path.file_name()?, SEARCH_MAX).ok()?;
    (read.state.digest() == template.state.digest()).then(|| String::from_utf8(read.bytes?).ok()).flatten()
}

/// Returns a name as it can be shown: control characters and anything that is not UTF-8 become U+FFFD.
pub(super) fn display_name(name: Option<&OsStr>) -> String {
    let name = name.map(|name| name.to_string_lossy()).unwrap_or_default();
    name.replace(char::is_control, "\u{fffd}")
}

fn content(path: &Path, bytes: Option<Vec<u8>>) -> TemplateContent {
    let Some(bytes) = bytes else {
        let problem = problem("the file is much too large for a template", "move it out of the templates folder");
        return TemplateContent::of_file(problem, Names::Unknown);
    };
    let size = bytes.len() as u64;
    if let Some(problem) = not_text(&bytes) {
        return TemplateContent::of_file(problem, Names::Text(searchable(bytes)));
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..valid].iter().filter(|b| **b == b'\n').count() + 1;
            let mut problem = problem("the file is not UTF-8", "save it as UTF-8");
            problem.line = u32::try_from(line).ok();
            problem.column = Some(1);
            return TemplateContent::of_file(problem, Names::Text(searchable(error.into_bytes())));
        }
    };
    if size > TEMPLATE_MAX {
        let message = format!("a template can have at most {} KiB", TEMPLATE_MAX >> 10);
        return TemplateContent::of_file(problem(message, "split it"), Names::Text(text));
    }
    let is_printable = path.to_str().is_some_and(|path| !path.contains(char::is_control));
    if !is_printable {
        let problem = problem("the name of the file or its folder is not plain UTF-8", "rename it");
        return TemplateContent::of_file(problem, Names::Text(text));
    }
    match lex(&text) {
        Ok(lexed) => TemplateContent::Lexed(lexed),
        Err(problems) => TemplateContent::Broken { problems, names: Names::Text(text), is_of_text: true },
    }
}

/// Returns the problem with bytes that are UTF-16 or not text at all. UTF-16 without its mark can be valid UTF-8: a NUL
/// is a character in UTF-8, and every other byte is a NUL.
fn not_text(bytes: &[u8]) -> Option<Problem> {
    let has_mark = UTF16_MARKS.iter().any(|mark| bytes.starts_with(mark));
    let nuls = |from: usize| bytes.iter().skip(from).step_by(2).filter(|byte| **byte == 0).count();
    let (even, odd) = (nuls(0), nuls(1));
    let is_utf16 = has_mark || (even.max(odd) * 4 >= bytes.len() && even.min(odd) * 4 <= even.max(odd));
    match even + odd {
        0 if !has_mark => None,
        _ if is_utf16 => Some(problem("the file is UTF-16", "save it as UTF-8")),
        _ => Some(problem("the file contains NUL characters, so it is not text", "save it as UTF-8 text")),
    }
}

/// The byte order marks of UTF-16, little and big endian.
const UTF16_MARKS: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];

/// Returns the text that is searched for names. Names are ASCII, so UTF-16 and UTF-32 of either byte order, with or
/// without a mark, read like UTF-8 once their NULs are left out; so does a file of which only a part is UTF-16. The
/// rest that is not UTF-8 becomes `?`.
pub(super) fn searchable(mut bytes: Vec<u8>) -> String {
    if bytes.contains(&0) {
        bytes.retain(|byte| *byte != 0);
    }
    if UTF16_MARKS.iter().any(|mark| bytes.starts_with(mark)) {
        bytes.drain(..2);
    }
    String::from_utf8(bytes).unwrap_or_else(|error| {
        let mut text = String::with_capacity(error.as_bytes().len());
        for chunk in error.as_bytes().utf8_chunks() {
            text.push_str(chunk.valid());
            text.extend((!chunk.invalid().is_empty()).then_some('?'));
        }
        text
    })
}

fn problem(message: impl Into<String>, help: &str) -> Problem {
    Problem { message: message.into(), help: Some(help.into()), ..Problem::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_every_encoding() {
        let text = "é = 1\nkey = \"<< secret 'cal-key' >>\"\n";
        let ascii = text.replace('é', "e");
        let utf16 = |swap: bool, mark: bool, text: &str| -> Vec<u8> {
            let units = mark.then_some(0xfeff).into_iter().chain(text.encode_utf16());
            units.flat_map(|unit| if swap { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
        };
        for (swap, mark) in [(false, false), (false, true), (true, false), (true, true)] {
            for text in [text, &ascii] {
                let bytes = utf16(swap, mark, text);
                assert_eq!(not_text(&bytes).unwrap().message, "the file is UTF-16");
                let found = searchable(bytes);
                assert_eq!(found.lines().nth(1), Some("key = \"<< secret 'cal-key' >>\""), "{swap} {mark}");
            }
        }
        // A Windows shell appends UTF-16 like this to a UTF-8 file.
        let mixed = [text.as_bytes(), &utf16(false, false, "x = 'other-key'\n")].concat();
        assert!(not_text(&mixed).unwrap().message.contains("NUL"));
        assert_eq!(searchable(mixed), format!("{text}x = 'other-key'\n"));
        let utf32: Vec<u8> = text.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect();
        assert!(searchable(utf32).contains("'cal-key'"));
        assert_eq!(searchable(b"caf\xe9 cal-key".to_vec()), "caf? cal-key");
        assert_eq!(not_text(text.as_bytes()), None);
        assert_eq!(not_text(b""), None);
    }
}
