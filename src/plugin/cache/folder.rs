//! A folder that is this user's alone, and files in it that nobody else can have put there.
//!
//! Everything goes through the folder's descriptor: what was looked at when it was opened stays what is used.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, openat, renameat_with, unlinkat};

use crate::random::random;

/// Rights of anyone but the owner.
const OTHERS: u32 = 0o077;

/// An open folder.
pub struct Folder(OwnedFd);

impl Folder {
    /// Opens a folder, which is made if need be.
    ///
    /// # Errors
    /// Where it is a link, belongs to somebody else, or others have any right to it.
    pub fn open(path: &Path) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        own(&folder)?;
        Ok(Self(folder.into()))
    }

    /// The whole of a file.
    ///
    /// # Errors
    /// Where there is none, it is larger than `most` bytes, or it is not this user's alone.
    pub fn read(&self, name: &str, most: u64) -> io::Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = File::from(openat(&self.0, name, flags, Mode::empty())?);
        own(&file)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() > most {
            return Err(io::Error::other("it is not a file of such a size"));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1);
        Read::by_ref(&mut file).take(most).read_to_end(&mut bytes)?;
        // Used now: the one that was not for the longest time goes first.
        let _ = file.set_modified(SystemTime::now());
        Ok(bytes)
    }

    /// Writes a file as a whole, of these pieces; `replaces` one of its name, or leaves that.
    ///
    /// # Errors
    /// The system's; `AlreadyExists` where it was to be left. The file is as it was then.
    pub fn write(&self, name: &str, pieces: &[&[u8]], replaces: bool) -> io::Result<()> {
        let unique = data_encoding::HEXLOWER.encode(&random::<8>());
        let temporary = format!(".{name}.{unique}");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(&self.0, &temporary, flags, Mode::RUSR | Mode::WUSR)?);
        let how = if replaces { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        pieces
            .iter()
            .try_for_each(|piece| file.write_all(piece))
            .and_then(|()| Ok(renameat_with(&self.0, &temporary, &self.0, name, how)?))
            .inspect_err(|_| {
                let _ = unlinkat(&self.0, &temporary, AtFlags::empty());
            })
    }

    /// Takes out files with this ending until what is left has at most so many bytes, and what a write that broke off
    /// left behind. Those that were used last stay.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn prune(&self, ending: &str, most: u64) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.0)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let stat = rustix::fs::statat(&self.0, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            let age = age.saturating_sub(u64::try_from(stat.st_mtime).unwrap_or(0));
            if name.ends_with(ending) {
                files.push((age, u64::try_from(stat.st_size).unwrap_or(0), name));
            } else if name.starts_with('.') && name.contains(ending) && age > LEFT_BEHIND {
                let _ = unlinkat(&self.0, &name, AtFlags::empty());
            }
        }
        files.sort();
        let mut sum = 0;
        for (_, size, name) in files {
            sum += size;
            if sum > most {
                let _ = unlinkat(&self.0, &name, AtFlags::empty());
            }
        }
        Ok(())
    }
}

/// After how many seconds a file that is being written is one that nobody writes any more.
const LEFT_BEHIND: u64 = 3_600;

/// Wants a file or folder that belongs to this user and to which nobody else has any right.
fn own(file: &File) -> io::Result<()> {
    let metadata = file.metadata()?;
    let alone = metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & OTHERS == 0;
    if alone { Ok(()) } else { Err(io::Error::other("others have a right to it, or it belongs to somebody else")) }
}
