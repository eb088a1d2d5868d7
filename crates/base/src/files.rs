//! Files: opening them safely, writing them whole or not at all, and finding out whether one has changed. Knows nothing
//! of their content.
//!
//! ARCHITECTURE.md says which helper to use for what.

mod attributes;
mod destination;
mod fingerprint;
mod folder;
mod temporary;

use std::ffi::OsStr;
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

/// The identity of a file or folder, independent of its path: symbolic links and bind mounts lead to the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// Returns the id of the file that a path leads to, following links.
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn of(path: &Path) -> io::Result<Self> {
        Ok(Self::from_metadata(&fs::metadata(path)?))
    }

    /// Returns the id of the path's last step itself: for a symbolic link, that of the link.
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn of_name(path: &Path) -> io::Result<Self> {
        Ok(Self::from_metadata(&fs::symlink_metadata(path)?))
    }

    /// Returns the id of the file that this metadata describes.
    pub fn from_metadata(metadata: &fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// Writes `DEVICE:INODE`, in decimal.
impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.device, self.inode)
    }
}

/// Whether the last step of a path may be a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// A link is followed to the file it names.
    Follow,
    /// A link is an error (`ELOOP`).
    Refuse,
}

/// Opens a regular file for reading and returns it with its metadata, both of the same file. Never waits: it opens
/// without blocking and refuses a FIFO or a device.
///
/// # Errors
/// `InvalidInput` for anything but a regular file; otherwise the error of the operating system.
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

/// Reads the whole of a file that [`open_regular`] has opened, if it has at most `max` bytes.
///
/// # Errors
/// `FileTooLarge`, also if the file grows meanwhile; otherwise the error of the operating system.
pub fn read_opened(file: File, metadata: &fs::Metadata, max: u64) -> io::Result<Vec<u8>> {
    if metadata.len() > max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    // Room for all of it from the start: a buffer that grows leaves copies behind.
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1);
    file.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

/// Reads a regular file of at most `max` bytes. Returns its content, and its metadata from before it was read.
///
/// # Errors
/// As [`open_regular`] and [`read_opened`].
pub fn read_regular(path: &Path, links: Links, max: u64) -> io::Result<(Vec<u8>, fs::Metadata)> {
    let (file, metadata) = open_regular(path, links)?;
    Ok((read_opened(file, &metadata, max)?, metadata))
}

/// Reads a text: a regular UTF-8 file of at most `max` bytes. Follows links.
///
/// # Errors
/// As [`read_regular`], and `InvalidData` if the content is not UTF-8.
pub fn read_text(path: &Path, max: u64) -> io::Result<String> {
    let (bytes, _) = read_regular(path, Links::Follow, max)?;
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// The longest content of a lock file, in bytes: a process id and a note for people.
const LOCK_MAX: u64 = 8 << 10;

/// Opens a lock file without changing its content, and creates it (0600) if it is missing. Never waits. Refuses files
/// that somebody else can have put there: a link, a second name of another file, and a file of another user.
///
/// # Errors
/// An error with advice if the file is not a lock of this program; otherwise the error of the operating system.
pub fn open_lock(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags.bits().cast_signed());
    let foreign = |kind: &str| Err(io::Error::other(format!("it is {kind}, not a Guillemet lock file; move it away")));
    let file = match options.open(path) {
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return foreign("a symbolic link"),
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => return foreign("a folder"),
        opened => opened?,
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return foreign("not a regular file");
    } else if metadata.uid() != rustix::process::geteuid().as_raw() {
        return foreign("another user's file");
    } else if metadata.nlink() > 1 || metadata.len() > LOCK_MAX {
        return foreign("another file");
    }
    Ok(file)
}

/// Writes a new file that only this user may read (0600). It is on disk when this returns.
///
/// # Errors
/// `AlreadyExists` if anything has the name; otherwise the error of the operating system.
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (folder, name) = Folder::of(path)?;
    if folder.metadata_of(name).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    temporary::remove_leftovers(&folder, name, None);
    destination::put(&folder, name, Replaces::Nothing, bytes, &Attributes::private())
}

/// Writes a file (0600) in place of any file or link with the name. It is on disk when this returns. Nothing of the
/// former file is kept, so this is only for files that belong to this program alone.
///
/// # Errors
/// The error of the operating system; the former file is unchanged then.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    put(path, bytes, &Attributes::private())
}

/// Writes a file as [`replace`] does, with the permissions that the umask leaves. For files without secrets.
///
/// # Errors
/// The error of the operating system; the former file is unchanged then.
pub fn replace_ordinary(path: &Path, bytes: &[u8]) -> io::Result<()> {
    put(path, bytes, &Attributes::ordinary())
}

fn put(path: &Path, bytes: &[u8], attributes: &Attributes) -> io::Result<()> {
    let (folder, name) = Folder::of(path)?;
    temporary::remove_leftovers(&folder, name, None);
    destination::put(&folder, name, Replaces::Anything, bytes, attributes)
}

/// Renames a file that was made at `beside(path)` and is on disk already to its final name.
///
/// # Errors
/// `AlreadyExists` if anything has the name; otherwise the error of the operating system.
pub fn place(temporary: &Path, path: &Path) -> io::Result<()> {
    give_name(temporary, path, Folder::rename_new)
}

/// Renames a file as [`place`] does, in place of any file with the name.
///
/// # Errors
/// The error of the operating system.
pub fn place_over(temporary: &Path, path: &Path) -> io::Result<()> {
    give_name(temporary, path, Folder::rename)
}

fn give_name(
    temporary: &Path,
    path: &Path,
    rename: impl FnOnce(&Folder, &OsStr, &OsStr) -> io::Result<()>,
) -> io::Result<()> {
    let (folder, name) = Folder::of(path)?;
    let from = temporary.file_name().filter(|_| temporary.parent() == path.parent());
    let from = from.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it is in a different folder"))?;
    rename(&folder, from, name)?;
    folder.sync()
}

/// Returns the hidden name under which to make a file that needs a path while it is made, as SQLite and mapped files
/// do. The name can be guessed, so use it only in folders that nobody else can write.
pub fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

/// Reports whether a user is as trusted as this process: root, or the user of this process.
fn is_trusted(user: u32) -> bool {
    user == 0 || user == rustix::process::geteuid().as_raw()
}

/// Checks that nobody but root and the user of this process can write a file, or write in a folder. A sticky folder
/// such as `/tmp` counts as writable by others. `private_group` is a group that only this user is in, so it may have
/// write permission.
///
/// # Errors
/// A phrase that says who can write and what to do, such as "belongs to user 1000 …".
pub fn only_ours(metadata: &fs::Metadata, private_group: Option<u32>) -> Result<(), String> {
    let mode = metadata.mode() & 0o7777;
    // The group bits are also the most that an ACL can grant.
    if !is_trusted(metadata.uid()) {
        Err(format!("belongs to user {}, who can write to it; run `chown` on it", metadata.uid()))
    } else if mode & 0o002 != 0 {
        Err(format!("is writable by everyone (mode {mode:04o}); run `chmod o-w` on it"))
    } else if mode & 0o020 != 0 && private_group != Some(metadata.gid()) {
        Err(format!("is writable by its group (mode {mode:04o}); run `chmod g-w` on it"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
