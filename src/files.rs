//! Files: opened, put in place whole or not at all, and whether one has changed. Knows nothing of what they hold.
//!
//! ARCHITECTURE.md says which helper is for what.

mod attributes;
mod destination;
mod fingerprint;
mod folder;
mod temporary;

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

pub use self::attributes::{Attributes, set_source, source};
use self::destination::Replaces;
pub use self::destination::{Destination, Existing};
pub use self::fingerprint::Fingerprint;
pub use self::folder::Folder;
pub use self::temporary::temporary_name;

/// Which file or folder something is, whatever its path: symbolic links and bind mounts lead to the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// Returns the id of what a path leads to.
    ///
    /// # Errors
    /// The system's.
    pub fn of(path: &Path) -> io::Result<Self> {
        Ok(Self::from_metadata(&fs::metadata(path)?))
    }

    /// Returns the id of what has this name itself, be it a link.
    ///
    /// # Errors
    /// The system's.
    pub fn of_name(path: &Path) -> io::Result<Self> {
        Ok(Self::from_metadata(&fs::symlink_metadata(path)?))
    }

    /// Returns the id of the file that the metadata is of.
    pub fn from_metadata(metadata: &fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// `DEVICE:INODE`, in decimal.
impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.device, self.inode)
    }
}

/// Whether the last step of a path may be a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// A link leads to what it names.
    Follow,
    /// A link is an error (`ELOOP`).
    Refuse,
}

/// Opens a regular file for reading and returns it with its metadata, both of the same file. Never waits: a FIFO or
/// a device is refused instead of opened in earnest.
///
/// # Errors
/// `InvalidInput` for anything but a regular file; the system's.
pub fn open_regular(path: &Path, links: Links) -> io::Result<(File, fs::Metadata)> {
    let mut flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    if links == Links::Refuse {
        flags |= OFlags::NOFOLLOW;
    }
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok((file, metadata))
}

/// Reads the whole of a file that `open_regular` opened, `most` bytes at most.
///
/// # Errors
/// `FileTooLarge`, also where it grows meanwhile; the system's.
pub fn read_opened(file: File, metadata: &fs::Metadata, most: u64) -> io::Result<Vec<u8>> {
    if metadata.len() > most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    // Room for all of it from the start: a buffer that grows leaves copies.
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1);
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

/// Reads a regular file of at most `most` bytes and returns it with its metadata from before it was read.
///
/// # Errors
/// As `open_regular` and `read_opened`.
pub fn read_regular(path: &Path, links: Links, most: u64) -> io::Result<(Vec<u8>, fs::Metadata)> {
    let (file, metadata) = open_regular(path, links)?;
    Ok((read_opened(file, &metadata, most)?, metadata))
}

/// Reads a text: a regular file of at most `most` bytes, links followed.
///
/// # Errors
/// As `read_regular`; `InvalidData` where it is not UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    let (bytes, _) = read_regular(path, Links::Follow, most)?;
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// The longest content of a lock file: the number of a process.
const LOCK_MAX: u64 = 32;

/// Opens a lock file, made (0600) where there is none, and changes nothing in it. Never waits, and takes no file
/// for one that somebody else can have put there: a link, another name of another file, or one of another user.
///
/// # Errors
/// Where it is none of ours, with what to do; the system's.
pub fn open_lock(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags.bits().cast_signed());
    let foreign = |what: &str| Err(io::Error::other(format!("it is {what}, not a lock of guillemet; move it away")));
    let file = match options.open(path) {
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return foreign("a symbolic link"),
        opened => opened?,
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return foreign("no regular file");
    } else if metadata.uid() != rustix::process::geteuid().as_raw() {
        return foreign("another user's file");
    } else if metadata.nlink() != 1 || metadata.len() > LOCK_MAX {
        return foreign("another file");
    }
    Ok(file)
}

/// Writes a new file that only this user may read (0600); on disk when this returns.
///
/// # Errors
/// `AlreadyExists` when anything has the name, and the system's.
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (folder, name) = Folder::of(path)?;
    if folder.metadata_of(name).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    temporary::remove_leftovers(&folder, name, None);
    destination::put(&folder, name, Replaces::Nothing, bytes, &Attributes::private())
}

/// As `write_new`, in place of whatever file or link has the name. Nothing of that is kept: for files that are this
/// program's alone.
///
/// # Errors
/// The system's. The file is as it was then.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    put(path, bytes, &Attributes::private())
}

/// As `replace`, with the permissions that the umask leaves: for files that are nobody's secret.
///
/// # Errors
/// The system's. The file is as it was then.
pub fn replace_ordinary(path: &Path, bytes: &[u8]) -> io::Result<()> {
    put(path, bytes, &Attributes::ordinary())
}

fn put(path: &Path, bytes: &[u8], attributes: &Attributes) -> io::Result<()> {
    let (folder, name) = Folder::of(path)?;
    temporary::remove_leftovers(&folder, name, None);
    destination::put(&folder, name, Replaces::Anything, bytes, attributes)
}

/// Gives a file that was made at `beside(path)`, and is on disk already, its name.
///
/// # Errors
/// `AlreadyExists` when anything has the name, and the system's.
pub fn place(temporary: &Path, path: &Path) -> io::Result<()> {
    let (folder, name) = Folder::of(path)?;
    let from = temporary.file_name().filter(|_| temporary.parent() == path.parent());
    let from = from.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it lies in another folder"))?;
    folder.rename_new(from, name)?;
    folder.sync()
}

/// Returns the hidden name under which a file is made that cannot be made without one: SQLite and mapped files want a
/// path. Everybody can guess it: only for folders that nobody else can write.
pub fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

/// Whether what a user does to a file is as good as what this process does: root and the user of this process.
fn is_trusted(user: u32) -> bool {
    user == 0 || user == rustix::process::geteuid().as_raw()
}

/// Checks that nobody but root and the user of this process can write a file, or in a folder. A sticky folder such as
/// `/tmp` is one that others can write in.
///
/// # Errors
/// Who can, and what to do: "belongs to user 1000 …".
pub fn only_ours(metadata: &fs::Metadata) -> Result<(), String> {
    let mode = metadata.mode() & 0o7777;
    // The group's bits are also the most that an ACL grants.
    if !is_trusted(metadata.uid()) {
        Err(format!("belongs to user {}, who can write it; `chown` it", metadata.uid()))
    } else if mode & 0o002 != 0 {
        Err(format!("can be written by everybody (mode {mode:04o}); run `chmod o-w` on it"))
    } else if mode & 0o020 != 0 {
        Err(format!("can be written by its group (mode {mode:04o}); run `chmod g-w` on it"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
