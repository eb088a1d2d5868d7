//! A folder that is held open. Everything in it is done relative to its descriptor, so a link that is put in the path
//! later leads nowhere else. Knows nothing of the content of its files.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, RenameFlags, linkat, openat, readlinkat, renameat, renameat_with, unlinkat,
};
use rustix::io::Errno;

/// How many links a path to a folder may contain; the same limit as the kernel's.
const LINKS_MAX: u32 = 40;

/// Flags to open a step of a path: only its place matters, so no read permission is needed.
const STEP: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A folder, held by its descriptor.
#[derive(Debug)]
pub struct Folder {
    file: File,
}

impl Folder {
    /// Opens a folder. A symbolic link in the path is followed if it belongs to root, to the user of this process, or
    /// to the owner of the folder it leads to.
    ///
    /// The path is walked step by step, each relative to the one before. `openat2` can only refuse every link or none.
    /// But links that root or this user made are part of ordinary machines (`/var/run`, a home on another disk), while
    /// a link that somebody else made could lead this process to a folder they cannot write themselves.
    ///
    /// # Errors
    /// `PermissionDenied` for a link of somebody else; otherwise the error of the operating system.
    pub fn open(path: &Path) -> io::Result<Self> {
        let start = openat(CWD, ".", STEP | OFlags::DIRECTORY, Mode::empty())?;
        let end = follow(start, path, &mut LINKS_MAX.clone())?;
        let file = openat(end, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { file: File::from(file) })
    }

    /// Opens the folder of a file and returns it with the file's name.
    ///
    /// # Errors
    /// `InvalidInput` if the path names no file; otherwise as [`Self::open`].
    pub fn of(path: &Path) -> io::Result<(Self, &OsStr)> {
        let name = path.file_name();
        let name = name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path does not name a file"))?;
        Ok((Self::open(path.parent().unwrap_or(Path::new("/")))?, name))
    }

    /// Returns the metadata of the folder itself.
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn metadata(&self) -> io::Result<fs::Metadata> {
        self.file.metadata()
    }

    /// Returns the metadata of an entry of the folder. A link is not followed.
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn metadata_of(&self, name: &OsStr) -> io::Result<fs::Metadata> {
        File::from(openat(self, name, STEP, Mode::empty())?).metadata()
    }

    /// Opens a regular file in the folder for reading, without waiting and without following a link. Returns it with
    /// its metadata, both of the same file.
    ///
    /// # Errors
    /// `InvalidInput` for anything but a regular file; otherwise the error of the operating system.
    pub fn open_regular(&self, name: &OsStr) -> io::Result<(File, fs::Metadata)> {
        // Opening a FIFO or a device can have effects of its own, so the type is checked before anything is opened.
        regular(&self.metadata_of(name)?)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(openat(self, name, flags, Mode::empty())?);
        let metadata = file.metadata()?;
        regular(&metadata)?;
        Ok((file, metadata))
    }

    /// Creates a file without a name, which disappears with its descriptor. Returns `None` if the file system does not
    /// support that.
    ///
    /// # Errors
    /// The error of the operating system.
    pub(super) fn create_unnamed(&self, mode: Mode) -> io::Result<Option<File>> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        match openat(self, ".", flags, mode) {
            Ok(file) => Ok(Some(File::from(file))),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOSYS | Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Creates a file under a name that nothing has yet.
    ///
    /// # Errors
    /// `AlreadyExists`; otherwise the error of the operating system.
    pub(super) fn create(&self, name: &OsStr, mode: Mode) -> io::Result<File> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(openat(self, name, flags, mode)?))
    }

    /// Gives a file without a name one that nothing has yet.
    ///
    /// # Errors
    /// `AlreadyExists`; otherwise the error of the operating system, also if it cannot do this for lack of permission
    /// or of `/proc`.
    pub(super) fn link(&self, file: &File, name: &OsStr) -> io::Result<()> {
        match linkat(file, "", self, name, AtFlags::EMPTY_PATH) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => return Err(Errno::EXIST.into()),
            // This needs CAP_DAC_READ_SEARCH before Linux 6.10.
            Err(_) => {}
        }
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
        Ok(linkat(CWD, path, self, name, AtFlags::SYMLINK_FOLLOW)?)
    }

    /// Renames a file in the folder, in place of any file with the other name.
    ///
    /// # Errors
    /// The error of the operating system.
    pub(super) fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(renameat(self, from, self, to)?)
    }

    /// Renames a file in the folder to a name that nothing has yet.
    ///
    /// # Errors
    /// `AlreadyExists`; otherwise the error of the operating system.
    pub(super) fn rename_new(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        match renameat_with(self, from, self, to, RenameFlags::NOREPLACE) {
            // NFS, OpenZFS before 2.2, many FUSE file systems; kernels and sandboxes without `renameat2`.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {}
            done => return Ok(done?),
        }
        match linkat(self, from, self, to, AtFlags::empty()) {
            // A crash before this leaves two names of one whole file.
            Ok(()) => return Ok(unlinkat(self, from, AtFlags::empty())?),
            // FAT, some FUSE file systems.
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK | Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
        // An empty file reserves the name, and the whole file then replaces it. Checking and then renaming would
        // replace a file that appears in between. A crash in between leaves an empty file and never a part of one: an
        // empty key, vault or journal is refused by name when it is read, and nothing overwrites it.
        let reserved = self.create(to, Mode::RUSR | Mode::WUSR)?;
        self.rename(from, to).inspect_err(|_| {
            let (Ok(own), Ok(existing)) = (reserved.metadata(), self.metadata_of(to)) else { return };
            if (own.dev(), own.ino()) == (existing.dev(), existing.ino()) {
                let _ = self.remove(to);
            }
        })
    }

    /// Removes an entry of the folder. For a link, the link is removed and not its target.
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        Ok(unlinkat(self, name, AtFlags::empty())?)
    }

    /// Waits until the names in the folder are on disk.
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Checks that this is the metadata of a regular file; the error says what it is instead.
fn regular(metadata: &fs::Metadata) -> io::Result<()> {
    let problem = if metadata.is_symlink() {
        "it is a symbolic link; pass the path of the file itself"
    } else if !metadata.is_file() {
        "it is not a regular file"
    } else {
        return Ok(());
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
}

/// Walks a path that begins at the folder `start` and returns the folder at its end. `links` counts down the links that
/// may still be followed.
fn follow(start: OwnedFd, path: &Path, links: &mut u32) -> io::Result<OwnedFd> {
    let mut at = start;
    for component in path.components() {
        at = match component {
            Component::RootDir => openat(CWD, "/", STEP | OFlags::DIRECTORY, Mode::empty())?,
            Component::ParentDir => openat(at, "..", STEP | OFlags::DIRECTORY, Mode::empty())?,
            Component::Normal(name) => step(at, name, links)?,
            Component::CurDir | Component::Prefix(_) => at,
        };
    }
    Ok(at)
}

fn step(at: OwnedFd, name: &OsStr, links: &mut u32) -> io::Result<OwnedFd> {
    match openat(&at, name, STEP | OFlags::DIRECTORY, Mode::empty()) {
        Ok(folder) => return Ok(folder),
        Err(Errno::NOTDIR | Errno::LOOP) => {}
        Err(error) => return Err(error.into()),
    }
    let link = File::from(openat(&at, name, STEP, Mode::empty())?);
    let owner = link.metadata()?.uid();
    let target = match readlinkat(&link, "", Vec::new()) {
        Ok(target) => target,
        // It is not a link.
        Err(Errno::INVAL | Errno::NOENT) => return Err(Errno::NOTDIR.into()),
        Err(error) => return Err(error.into()),
    };
    *links = links.checked_sub(1).ok_or(Errno::LOOP)?;
    let end = File::from(follow(at, Path::new(OsStr::from_bytes(target.as_bytes())), links)?);
    if super::is_trusted(owner) || owner == end.metadata()?.uid() {
        return Ok(end.into());
    }
    let name = name.display();
    let message = format!(
        "the symbolic link `{name}` in this path belongs to user {owner} and points to a folder that another user owns"
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
}
