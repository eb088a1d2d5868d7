//! Files put in place whole or not at all, and whether one has changed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chacha20poly1305::aead::OsRng;
use chacha20poly1305::aead::rand_core::RngCore;
use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};

/// A file that changed this shortly before it was looked at may change again without looking different.
const RACY: Duration = Duration::from_millis(100);

/// How a file looks from outside: another content has another fingerprint, once it is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Fingerprint {
    /// Of the file behind a path.
    ///
    /// # Errors
    /// The system's.
    pub fn of(path: &Path) -> io::Result<Self> {
        Ok(Self::from_metadata(&fs::metadata(path)?))
    }

    /// Of what the system says of a file.
    pub fn from_metadata(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether it had not changed for a while: then the next change looks different.
    pub fn is_settled(&self) -> bool {
        let (Ok(seconds), Ok(nanoseconds)) = (u64::try_from(self.modified.0), u32::try_from(self.modified.1)) else {
            // A time before 1970.
            return true;
        };
        let modified = UNIX_EPOCH + Duration::new(seconds, nanoseconds);
        SystemTime::now().duration_since(modified).is_ok_and(|age| age >= RACY)
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

/// Writes a new file (0600), on disk when this returns. A crash leaves at most a hidden file beside it, which
/// the next attempt replaces.
///
/// # Errors
/// `AlreadyExists`, and the system's. The file is not there then, or as it was.
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    write(&beside(path), path, bytes, RenameFlags::NOREPLACE, |_| Ok(()))
}

/// As `write_new`, in place of what has the name.
///
/// # Errors
/// The system's. The file is as it was then.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(&beside(path), path, bytes, RenameFlags::empty(), |_| Ok(()))
}

/// As `replace`, in a folder that may not be ours: the hidden file has a name that nobody can have taken, and several
/// may write at once. `prepare` gives it its owner and its permissions; until then it is 0600.
///
/// # Errors
/// The system's, and those of `prepare`. The file is as it was then.
pub fn replace_prepared(path: &Path, bytes: &[u8], prepare: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::other("it names no file"))?;
    let temporary = path.with_file_name(format!(".{}.{:016x}", name.to_string_lossy(), OsRng.next_u64()));
    write(&temporary, path, bytes, RenameFlags::empty(), prepare)
}

fn write(
    temporary: &Path,
    path: &Path,
    bytes: &[u8],
    how: RenameFlags,
    prepare: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    let _ = fs::remove_file(temporary);
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        prepare(&file)?;
        file.sync_all()
    });
    written.and_then(|()| rename(temporary, path, how)).inspect_err(|_| {
        let _ = fs::remove_file(temporary);
    })
}

/// Gives a file the owner and the permissions of another.
///
/// # Errors
/// The system's.
pub fn like(file: &File, metadata: &fs::Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (metadata.uid(), metadata.gid()) {
        std::os::unix::fs::fchown(file, Some(metadata.uid()), Some(metadata.gid()))?;
    }
    // After the owner: a change of that takes bits away.
    file.set_permissions(fs::Permissions::from_mode(metadata.mode() & 0o7777))
}

/// Gives a file that is on disk already its name, unless something has it.
///
/// # Errors
/// `AlreadyExists`, and the system's.
pub fn place(temporary: &Path, path: &Path) -> io::Result<()> {
    rename(temporary, path, RenameFlags::NOREPLACE)
}

fn rename(temporary: &Path, path: &Path, how: RenameFlags) -> io::Result<()> {
    renameat_with(CWD, temporary, CWD, path, how)?;
    sync_folder(path)
}

/// Has the system write down which names the folder of a file holds.
///
/// # Errors
/// The system's.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        None => Path::new("/"),
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
    };
    File::open(folder)?.sync_all()
}

/// The hidden name under which a file is made.
pub fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_settled_when_its_last_change_is_past() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let is_settled = |time: SystemTime| {
            file.as_file().set_modified(time).unwrap();
            Fingerprint::of(file.path()).unwrap().is_settled()
        };
        let second = Duration::from_secs(1);
        for past in [SystemTime::now() - second, UNIX_EPOCH, UNIX_EPOCH - second / 2, UNIX_EPOCH - 9 * second] {
            assert!(is_settled(past), "{past:?}");
        }
        for other in [SystemTime::now(), SystemTime::now() + 9 * second] {
            assert!(!is_settled(other), "{other:?}");
        }
    }

    #[test]
    fn only_a_regular_file_is_opened_and_a_link_where_it_may_be_one() {
        let dir = tempfile::tempdir().unwrap();
        let [file, link, fifo] = ["file", "link", "fifo"].map(|name| dir.path().join(name));
        fs::write(&file, "text").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        rustix::fs::mkfifoat(CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
        assert_eq!(open_regular(&file, Links::Refuse).unwrap().1.len(), 4);
        assert_eq!(open_regular(&link, Links::Follow).unwrap().1.len(), 4);
        assert_eq!(open_regular(&link, Links::Refuse).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        for special in [fifo.as_path(), dir.path(), Path::new("/dev/null")] {
            assert_eq!(open_regular(special, Links::Follow).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn no_more_is_read_than_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "text").unwrap();
        assert_eq!(read_regular(&file, Links::Follow, 4).unwrap().0, b"text");
        assert_eq!(read_text(&file, 4).unwrap(), "text");
        assert_eq!(read_text(&file, 3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        // Its metadata says 0.
        let endless = Path::new("/proc/self/smaps");
        assert_eq!(read_text(endless, 100).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_lock_is_a_file_of_ours_and_nothing_else_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let [lock, other, name, link, fifo, long] =
            ["lock", "other", "name", "link", "fifo", "long"].map(|name| dir.path().join(name));
        assert_eq!(open_lock(&lock).unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        open_lock(&lock).unwrap();
        fs::write(&other, "kept").unwrap();
        fs::hard_link(&other, &name).unwrap();
        std::os::unix::fs::symlink(&other, &link).unwrap();
        std::os::unix::fs::symlink(dir.path().join("none"), dir.path().join("dangling")).unwrap();
        rustix::fs::mkfifoat(CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
        fs::write(&long, [b'x'; 33]).unwrap();
        for foreign in [&name, &link, &fifo, &long, &dir.path().join("dangling")] {
            assert!(open_lock(foreign).unwrap_err().to_string().contains("move it away"), "{foreign:?}");
        }
        assert!(!dir.path().join("none").exists());
        assert_eq!(fs::read(&other).unwrap(), b"kept");
    }

    #[test]
    fn what_is_there_stays_and_what_broke_off_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(beside(&path), "half").unwrap();
        write_new(&path, b"whole").unwrap();
        assert_eq!(write_new(&path, b"other").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        replace(&path, b"newer").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"newer");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
