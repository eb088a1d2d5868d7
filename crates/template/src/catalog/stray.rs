//! Files in the templates' folder that are not templates. They are never served, but the person who put one there may
//! take it for a template. So it is listed with the reason, and its text guards names as a broken template's does.
//!
//! Does not walk folders: `scan` does.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::FileType;

use super::open::{OpenError, TemplateFolder};
use super::read::{SEARCH_MAX, display_name, read, searchable};
use super::state::FileState;

/// The most such files that are examined.
pub const STRAYS_MAX: usize = 1000;
/// The most text of such files that is kept, in bytes.
pub const TEXT_MAX: u64 = 32 << 20;

/// Names that version control and desktops keep in a folder and that are never a config: ignored.
const LEFT_ALONE: [&str; 8] = [".git", ".hg", ".svn", ".jj", ".DS_Store", "Thumbs.db", "desktop.ini", ".directory"];
/// Prefixes of temporary names: Emacs locks, files that NFS removes later, and our own.
const PASSING: [&str; 3] = [".#", ".nfs", ".guillemet-"];
/// Suffixes of the copies that editors and version control keep of a file.
const BACKUPS: [&str; 9] = ["~", ".bak", ".orig", ".rej", ".swp", ".swo", ".swn", ".swx", ".tmp"];

/// The reason why a file is not a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StrayReason {
    /// It is not in the folder of a feature.
    Place,
    /// Its name does not have a template's extension.
    Extension,
    /// It is in a folder inside the folder of a feature.
    TooDeep,
    /// Its name, or the name of a folder on its path, begins with a dot.
    Hidden,
    /// It looks like an editor's backup or swap file.
    Backup,
    /// There are too many files to examine each. Stands for the remaining ones.
    TooMany,
}

impl StrayReason {
    /// Returns the reason why the file at this path is not a template.
    fn of(key: &OsStr) -> Self {
        let (bytes, name) = (key.as_bytes(), name(key).as_bytes());
        let is_hidden = bytes.split(|byte| *byte == b'/').any(|part| part.starts_with(b"."));
        match depth(key) {
            _ if BACKUPS.iter().any(|end| name.ends_with(end.as_bytes())) => Self::Backup,
            _ if name.len() > 1 && name.starts_with(b"#") && name.ends_with(b"#") => Self::Backup,
            _ if is_hidden => Self::Hidden,
            0 => Self::Place,
            1 => Self::Extension,
            _ => Self::TooDeep,
        }
    }

    /// Returns the reason's code in the API.
    pub fn code(self) -> &'static str {
        match self {
            Self::Place => "place",
            Self::Extension => "extension",
            Self::TooDeep => "too_deep",
            Self::Hidden => "hidden",
            Self::Backup => "backup",
            Self::TooMany => "too_many",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Place => {
                "a template belongs in the folder of its feature, as FEATURE/NAME.toml; move it there, or out of the \
                 templates folder"
            }
            Self::Extension => {
                "its name does not end in .toml, .json, .jsonc, .yaml or .yml; rename it, or move it out of the \
                 templates folder"
            }
            Self::TooDeep => {
                "a template belongs directly in the folder of its feature; move it there, or out of the templates \
                 folder"
            }
            Self::Hidden => {
                "a file whose name starts with a dot is not read as a template; rename it, or move it out of the \
                 templates folder"
            }
            Self::Backup => "it looks like an editor's backup or swap file; remove it if you do not need it",
            Self::TooMany => "too many files here are not templates; move them out of the templates folder",
        }
    }
}

/// The reason why a file is not searched for names. Such a file may name any secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsearched {
    /// It is larger than 8 MiB.
    TooLarge,
    /// All of these files together are larger than 32 MiB.
    NoRoom,
    /// There are too many files, or folders are nested too deep.
    TooMany,
    /// It is a link to a file that its maker may not choose.
    Foreign,
    /// The system could not read it, for this reason.
    Unreadable(ErrorKind),
}

impl std::fmt::Display for Unsearched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLarge => write!(f, "it is larger than {} MiB", SEARCH_MAX >> 20),
            Self::NoRoom => write!(f, "these files are larger than {} MiB in total", TEXT_MAX >> 20),
            Self::TooMany => write!(f, "there are more than {STRAYS_MAX} files, or folders are nested too deeply"),
            Self::Foreign => f.write_str("it is a link to another user's file"),
            Self::Unreadable(kind) => write!(f, "{kind}"),
        }
    }
}

/// A file in the templates' folder that is not a template.
#[derive(Debug)]
pub struct Stray {
    /// Its path inside the templates' folder, as it can be shown.
    pub path: String,
    /// The reason why it is not a template.
    pub why: StrayReason,
    pub(super) state: FileState,
    /// The text that is searched for names; empty for anything but a regular file.
    pub(super) text: Result<String, Unsearched>,
}

impl Stray {
    fn new(key: &OsStr, why: StrayReason, state: FileState, text: Result<String, Unsearched>) -> Arc<Self> {
        Arc::new(Self { path: display_name(Some(key)), why, state, text })
    }

    /// Describes something without text: a socket, a pipe, a device.
    pub(super) fn without_text(key: &OsStr) -> Arc<Self> {
        Self::new(key, StrayReason::of(key), FileState::unread(), Ok(String::new()))
    }

    /// Stands for the files in a folder that were not examined.
    pub(super) fn unexamined(key: &OsStr) -> Arc<Self> {
        let key = if key.is_empty() { OsStr::new(".") } else { key };
        Self::new(key, StrayReason::TooMany, FileState::unread(), Err(Unsearched::TooMany))
    }

    /// Returns its text, or the reason why it could not be read.
    pub fn text(&self) -> Result<&str, Unsearched> {
        self.text.as_deref().map_err(|why| *why)
    }

    /// Explains why it is not a template and what to do, and whether it prevents every deletion.
    pub fn message(&self) -> String {
        let why = self.why.text();
        match self.text {
            Ok(_) => format!("not a template: {why}"),
            Err(unsearched) => {
                format!(
                    "not a template: {why}. It cannot be searched for names ({unsearched}), so no secret can be \
                     deleted until you remove it"
                )
            }
        }
    }

    /// Reports whether it is a file that an editor leaves behind, which need not be listed. A file that prevents every
    /// deletion is always listed.
    pub fn is_editor_leftover(&self) -> bool {
        matches!(self.why, StrayReason::Hidden | StrayReason::Backup) && self.text.is_ok()
    }

    /// Reports whether both say the same about a file that could not be read.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.why == other.why && self.text == other.text && self.state.is_unread() && other.state.is_unread()
    }

    /// Reports whether it need not be read again with this much room for its text, in bytes, as long as its file is
    /// unchanged.
    pub(super) fn is_settled_with(&self, room: u64) -> bool {
        match &self.text {
            Ok(text) => text.len() as u64 <= room,
            Err(Unsearched::NoRoom) => self.state.size() > room,
            Err(_) => true,
        }
    }
}

/// Returns how many folders inside the templates' folder a path leads through.
pub(super) fn depth(key: &OsStr) -> usize {
    key.as_bytes().iter().filter(|byte| **byte == b'/').count()
}

/// Returns the last component of a path.
pub(super) fn name(key: &OsStr) -> &OsStr {
    OsStr::from_bytes(key.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default())
}

/// Reports whether a file of this name is ignored altogether.
pub(super) fn is_ignored(name: &[u8]) -> bool {
    LEFT_ALONE.iter().any(|other| name == other.as_bytes())
        || PASSING.iter().any(|prefix| name.starts_with(prefix.as_bytes()))
}

/// Reads a file, keeping at most `room` bytes of text. Returns `previous`, its earlier reading, if nothing changed, and
/// `None` if the file has just vanished. Increases `reads`.
pub(super) fn read_stray(
    folder: &TemplateFolder,
    key: &OsStr,
    kind: FileType,
    previous: Option<&Arc<Stray>>,
    room: u64,
    reads: &AtomicU64,
) -> Option<Arc<Stray>> {
    reads.fetch_add(1, Ordering::Relaxed);
    let (state, text) = match read(folder, name(key), SEARCH_MAX.min(room)) {
        Ok(read) => {
            if let Some(previous) = previous
                && previous.state.is_same(&read.state)
                && previous.text.is_ok() == read.bytes.is_some()
            {
                previous.state.confirm(&read.state);
                return Some(Arc::clone(previous));
            }
            let text = match read.bytes {
                Some(bytes) => Ok(searchable(bytes)),
                None if read.state.size() > SEARCH_MAX => Err(Unsearched::TooLarge),
                None => Err(Unsearched::NoRoom),
            };
            (read.state, text)
        }
        Err(OpenError::Foreign) => (FileState::unread(), Err(Unsearched::Foreign)),
        Err(OpenError::System(error)) => {
            let is_dangling = error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ELOOP);
            let text = match error.kind() {
                _ if is_dangling && kind == FileType::Symlink => Ok(String::new()),
                ErrorKind::NotFound => return None,
                // Not a regular file.
                ErrorKind::InvalidInput => Ok(String::new()),
                kind => Err(Unsearched::Unreadable(kind)),
            };
            (FileState::unread(), text)
        }
    };
    let stray = Stray::new(key, StrayReason::of(key), state, text);
    Some(previous.filter(|previous| previous.is_same(&stray)).cloned().unwrap_or(stray))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_reason() {
        for (path, why) in [
            ("README.md", StrayReason::Place),
            ("a.toml", StrayReason::Place),
            ("f/notes.txt", StrayReason::Extension),
            ("f/a.toml.disabled", StrayReason::Extension),
            ("f/a", StrayReason::Extension),
            ("f/sub/a.toml", StrayReason::TooDeep),
            ("f/.a.toml", StrayReason::Hidden),
            (".drafts/a.toml", StrayReason::Hidden),
            ("f/.sub/a.toml", StrayReason::Hidden),
            ("f/a.toml~", StrayReason::Backup),
            ("f/a.toml.bak", StrayReason::Backup),
            ("f/.a.toml.swp", StrayReason::Backup),
            ("f/#a.toml#", StrayReason::Backup),
        ] {
            assert_eq!(StrayReason::of(OsStr::new(path)), why, "{path}");
        }
        for name in [".git", ".DS_Store", ".#a.toml", ".guillemet-0123", "Thumbs.db"] {
            assert!(is_ignored(name.as_bytes()), "{name}");
        }
        for name in [".gitignore", "a.toml", ".a.toml.swp", "#a.toml#"] {
            assert!(!is_ignored(name.as_bytes()), "{name}");
        }
    }
}
