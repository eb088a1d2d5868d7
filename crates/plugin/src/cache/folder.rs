//! A folder that belongs to this user alone, with files that nobody else can have put there.
//!
//! All access goes through the folder's descriptor, so the folder that was checked when it was opened is the one that
//! is used.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, openat, renameat_with, unlinkat};

use guillemet_base::random::random;

/// The permission bits of everyone but the owner.
const OTHERS: u32 = 0o077;

/// An open folder that nobody else has any right to.
pub struct PrivateFolder(OwnedFd);

impl PrivateFolder {
    /// Opens a folder. Creates it if it does not exist.
    ///
    /// # Errors
    /// Fails if it is a link, belongs to another user, or gives others any right.
    pub fn open(path: &Path) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        check_private(&folder)?;
        Ok(Self(folder.into()))
    }

    /// Reads a whole file.
    ///
    /// # Errors
    /// Fails if it does not exist, is larger than `max` bytes, or does not belong to this user alone.
    pub fn read(&self, name: &str, max: u64) -> io::Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = File::from(openat(&self.0, name, flags, Mode::empty())?);
        check_private(&file)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() > max {
            return Err(io::Error::other("it is not a regular file, or it is too large"));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1);
        Read::by_ref(&mut file).take(max).read_to_end(&mut bytes)?;
        // Marks it as used now, because the least recently used files are removed first.
        let _ = file.set_modified(SystemTime::now());
        Ok(bytes)
    }

    /// Writes a file from these pieces, as a whole. With `replaces`, it replaces a file of the same name; without, it
    /// leaves that file.
    ///
    /// # Errors
    /// Fails as the system does, and with `AlreadyExists` if a file was left. The file is unchanged in either case.
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

    /// Removes files with this ending until the rest has at most `max` bytes, least recently used first. Also removes
    /// what interrupted writes have left behind.
    ///
    /// # Errors
    /// Fails if the folder cannot be read.
    pub fn prune(&self, suffix: &str, max: u64) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.0)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let stat = rustix::fs::statat(&self.0, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            let age = age.saturating_sub(u64::try_from(stat.st_mtime).unwrap_or(0));
            if name.ends_with(suffix) {
                files.push((age, u64::try_from(stat.st_size).unwrap_or(0), name));
            } else if name.starts_with('.') && name.contains(suffix) && age > LEFT_BEHIND {
                let _ = unlinkat(&self.0, &name, AtFlags::empty());
            }
        }
        files.sort();
        let mut sum = 0;
        for (_, size, name) in files {
            sum += size;
            if sum > max {
                let _ = unlinkat(&self.0, &name, AtFlags::empty());
            }
        }
        Ok(())
    }
}

/// The age in seconds at which an unfinished file counts as abandoned.
const LEFT_BEHIND: u64 = 3_600;

/// Fails unless the file or folder belongs to this user and nobody else has any right to it.
fn check_private(file: &File) -> io::Result<()> {
    let metadata = file.metadata()?;
    let is_private = metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & OTHERS == 0;
    if is_private { Ok(()) } else { Err(io::Error::other("other users can access it, or it belongs to another user")) }
}
