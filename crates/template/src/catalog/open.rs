//! Opens the file of a template, unless the maker of a link on the way may not choose that file.
//!
//! The daemon can read more than the people who write templates: if it followed links blindly, a template could be any
//! of its files. So it follows a link step by step, and the owners of each link and of the folder that contains it
//! decide where the link may lead. Knows nothing of the content of files.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, open, openat, readlinkat};
use rustix::io::Errno;

/// The most links on the way to one file, which is the kernel's limit.
const LINKS_MAX: usize = 40;

/// The users who could choose where a link leads: the owner of the link, and the owner of the folder it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkOwners {
    link: u32,
    folder: u32,
}

/// The reason why a file is not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A link leads to a file that its maker may not choose.
    #[error("this link points to a file of another user, so the file is not read")]
    Foreign,
    /// The system refused, or the file is not a regular one.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl From<Errno> for OpenError {
    fn from(error: Errno) -> Self {
        Self::System(error.into())
    }
}

/// An open folder of templates.
#[derive(Debug)]
pub struct TemplateFolder {
    fd: OwnedFd,
    /// The path that the folder was opened by.
    pub path: PathBuf,
    /// The makers of the links that led to it.
    makers: Vec<LinkOwners>,
}

impl TemplateFolder {
    /// Opens the templates' folder itself, which the daemon's user has chosen.
    ///
    /// # Errors
    /// Fails when the system cannot open it as a folder.
    pub fn root(path: &Path) -> io::Result<Self> {
        let fd = open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { fd, path: path.to_owned(), makers: Vec::new() })
    }

    /// Opens a folder inside this one. `name` may be a link to a folder.
    ///
    /// # Errors
    /// Fails with `NotADirectory` if `name` is not a folder, and otherwise as the system does.
    pub fn inside(&self, name: &OsStr) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let (fd, makers) = match openat(&self.fd, name, flags | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => (fd, Vec::new()),
            Err(Errno::LOOP | Errno::NOTDIR) => {
                let (found, makers) = follow(self.fd.as_fd(), name)?;
                (openat(&found, c".", flags, Mode::empty())?, makers)
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Self { fd, path: self.path.join(name), makers })
    }

    /// Returns its device and inode; `None` if the system does not report them.
    pub fn id(&self) -> Option<(u64, u64)> {
        fstat(&self.fd).ok().map(|stat| (stat.st_dev, stat.st_ino))
    }

    /// Opens a file in this folder for reading. Never blocks: a FIFO or a device is refused.
    ///
    /// # Errors
    /// Fails with `Foreign` if a link's maker may not choose the file, with `InvalidInput` for anything but a regular
    /// file, and otherwise as the system does.
    pub fn open(&self, name: &OsStr) -> Result<File, OpenError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let (fd, mut makers) = match openat(&self.fd, name, flags | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => (fd, Vec::new()),
            Err(Errno::LOOP) => {
                let (found, makers) = follow(self.fd.as_fd(), name)?;
                // Checked before the real open, which a device would notice.
                regular(&fstat(&found)?)?;
                let path = format!("/proc/self/fd/{}", found.as_raw_fd());
                (open(path, flags, Mode::empty())?, makers)
            }
            Err(error) => return Err(error.into()),
        };
        let stat = fstat(&fd)?;
        regular(&stat)?;
        makers.extend(&self.makers);
        let own_uid = rustix::process::geteuid().as_raw();
        // The folders above are only checked for the makers who need it.
        let can_everyone = || stat.st_mode & 0o004 != 0 && can_everyone_reach(&fd);
        if !makers.iter().all(|maker| maker.may_choose(stat.st_uid, own_uid, can_everyone)) {
            return Err(OpenError::Foreign);
        }
        Ok(File::from(fd))
    }
}

impl AsFd for TemplateFolder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl LinkOwners {
    /// Reports whether a link of this maker may lead to a file of this owner. Root and the daemon's user (`own_uid`)
    /// may choose among their own files. Anyone else may choose a file of their own, and of the files of those two only
    /// what everyone on this machine can read.
    fn may_choose(self, owner: u32, own_uid: u32, can_everyone_read: impl Fn() -> bool) -> bool {
        let is_trusted = |user: u32| user == 0 || user == own_uid;
        if is_trusted(self.link) && is_trusted(self.folder) {
            return is_trusted(owner);
        }
        let is_their_own = owner == self.folder && (self.link == self.folder || is_trusted(self.link));
        is_their_own || (is_trusted(owner) && can_everyone_read())
    }
}

fn regular(stat: &Stat) -> io::Result<()> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
    }
}

/// Reports whether every folder on the way to an open file can be passed by everyone.
fn can_everyone_reach(fd: &OwnedFd) -> bool {
    let Ok(path) = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())) else { return false };
    path.ancestors().skip(1).all(|folder| fs::metadata(folder).is_ok_and(|folder| folder.mode() & 0o001 != 0))
}

/// Follows the links that begin with an entry of a folder. Returns the file they lead to (`O_PATH`) and their makers.
fn follow(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<(OwnedFd, Vec<LinkOwners>)> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let mut at = openat(folder, c".", flags | OFlags::DIRECTORY, Mode::empty())?;
    let mut makers = Vec::new();
    let mut ahead: VecDeque<OsString> = VecDeque::from([name.to_owned()]);
    while let Some(step) = ahead.pop_front() {
        if step == "/" {
            at = open(c"/", flags | OFlags::DIRECTORY, Mode::empty())?;
            continue;
        }
        let next = openat(&at, &step, flags | OFlags::NOFOLLOW, Mode::empty())?;
        let stat = fstat(&next)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            if ahead.is_empty() {
                return Ok((next, makers));
            }
            // Opened once more as a folder, which makes the kernel mount a file system that is mounted on demand.
            at = openat(&at, &step, flags | OFlags::NOFOLLOW | OFlags::DIRECTORY, Mode::empty())?;
            continue;
        }
        if makers.len() == LINKS_MAX {
            return Err(Errno::LOOP.into());
        }
        makers.push(LinkOwners { link: stat.st_uid, folder: fstat(&at)?.st_uid });
        let text = OsString::from_vec(readlinkat(&next, c"", Vec::new())?.into_bytes());
        for component in Path::new(&text).components().rev() {
            match component {
                Component::RootDir | Component::ParentDir | Component::Normal(_) => {
                    ahead.push_front(component.as_os_str().to_owned());
                }
                Component::CurDir | Component::Prefix(_) => {}
            }
        }
    }
    // The link leads to `/` or to `.`.
    Ok((at, makers))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const ROOT: u32 = 0;
    const DAEMON: u32 = 7;
    const AUTHOR: u32 = 8;
    const OTHER: u32 = 9;

    #[test]
    fn a_link_leads_to_what_its_maker_may_choose() {
        let may = |link, folder, owner, public: bool| LinkOwners { link, folder }.may_choose(owner, DAEMON, || public);
        for trusted in [ROOT, DAEMON] {
            // Links of root or the daemon's user in their folders: their files, whoever else can read them.
            for owner in [ROOT, DAEMON] {
                assert!(may(trusted, DAEMON, owner, false) && may(trusted, ROOT, owner, false));
                // Links of an author: only what everyone can read anyway.
                assert!(!may(AUTHOR, AUTHOR, owner, false) && may(AUTHOR, AUTHOR, owner, true));
                assert!(!may(AUTHOR, trusted, owner, false) && may(AUTHOR, trusted, owner, true));
                assert!(!may(trusted, AUTHOR, owner, false) && may(trusted, AUTHOR, owner, true));
            }
            for public in [true, false] {
                assert!(!may(trusted, trusted, OTHER, public) && !may(AUTHOR, trusted, OTHER, public));
                assert!(!may(AUTHOR, AUTHOR, OTHER, public) && !may(trusted, AUTHOR, OTHER, public));
                assert!(may(AUTHOR, AUTHOR, AUTHOR, public) && may(trusted, AUTHOR, AUTHOR, public));
                assert!(!may(OTHER, AUTHOR, AUTHOR, public), "of somebody else who can write the author's folder");
                assert!(!may(AUTHOR, trusted, AUTHOR, public), "the folder is not the author's");
            }
        }
    }

    #[test]
    fn links_are_followed_as_the_kernel_follows_them() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("deep/er")).unwrap();
        fs::write(at("deep/er/file"), "text").unwrap();
        symlink("deep/./er/../er/file", at("relative")).unwrap();
        symlink(at("deep/er/file"), at("absolute")).unwrap();
        symlink("deep/er", at("folder")).unwrap();
        symlink("folder/file", at("through")).unwrap();
        symlink("through", at("chain")).unwrap();
        symlink("loop", at("loop")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        symlink("deep/er/file/more", at("file-as-folder")).unwrap();
        symlink("/dev/null", at("device")).unwrap();
        symlink("deep", at("no-file")).unwrap();
        let folder = TemplateFolder::root(dir.path()).unwrap();
        for name in ["relative", "absolute", "through", "chain"] {
            let mut text = String::new();
            folder.open(name.as_ref()).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "text", "{name}");
        }
        assert_eq!(follow(folder.as_fd(), "chain".as_ref()).unwrap().1.len(), 3);
        for (name, kind) in [
            ("dangling", io::ErrorKind::NotFound),
            ("nowhere", io::ErrorKind::NotFound),
            ("file-as-folder", io::ErrorKind::NotADirectory),
            ("device", io::ErrorKind::InvalidInput),
            ("no-file", io::ErrorKind::InvalidInput),
        ] {
            match folder.open(name.as_ref()) {
                Err(OpenError::System(error)) => assert_eq!(error.kind(), kind, "{name}"),
                other => panic!("{name}: {other:?}"),
            }
        }
        match folder.open("loop".as_ref()) {
            Err(OpenError::System(error)) => assert_eq!(error.raw_os_error(), Some(libc::ELOOP)),
            other => panic!("{other:?}"),
        }
        let inside = folder.inside("folder".as_ref()).unwrap();
        assert!(inside.open("file".as_ref()).is_ok() && inside.makers.len() == 1);
        assert_eq!(folder.inside("through".as_ref()).unwrap_err().kind(), io::ErrorKind::NotADirectory);
    }

    #[test]
    fn everyone_reaches_what_no_folder_hides() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "text").unwrap();
        let fd = OwnedFd::from(File::open(&file).unwrap());
        for (mode, can) in [(0o700, false), (0o711, true)] {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(can_everyone_reach(&fd), can, "{mode:o}");
        }
    }
}
