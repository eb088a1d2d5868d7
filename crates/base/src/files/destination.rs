//! Replaces or creates a file, whole or not at all.
//!
//! The content is written to a file without a name. A new file gets its name in one step. To replace an existing one,
//! the new file needs a hidden name for a moment. Signals are held back from then until the rename, so an interrupted
//! command leaves nothing behind; the file that a `kill -9` can leave is removed by the next write of the same file.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use super::attributes::Attributes;
use super::folder::Folder;
use super::temporary::{claim, remove_leftovers, temporary_name};
use crate::sys::process::hold_signals;

/// A name in a folder that is held open, and the file that had the name when it was opened.
#[derive(Debug)]
pub struct Destination {
    folder: Folder,
    name: OsString,
    existing: Option<Existing>,
}

/// The file that has the name. Content, owner and permissions are all read from the same open file.
#[derive(Debug)]
pub struct Existing {
    file: File,
    metadata: fs::Metadata,
}

/// Which file may have the name when a new one is put in place.
#[derive(Clone, Copy)]
pub(super) enum Replaces<'a> {
    Nothing,
    This(&'a Existing),
    Anything,
}

impl Destination {
    /// Opens the folder of a path, and the file if it exists.
    ///
    /// # Errors
    /// `InvalidInput` for anything but a regular file, including a symbolic link; the errors of [`Folder::open`];
    /// otherwise the error of the operating system.
    pub fn open(path: &Path) -> io::Result<Self> {
        let (folder, name) = Folder::of(path)?;
        let existing = match folder.open_regular(name) {
            Ok((file, metadata)) => Some(Existing { file, metadata }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self { folder, name: name.to_owned(), existing })
    }

    /// Returns the folder of the file.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Returns the file that had the name when this was opened, or `None` if there was none.
    pub fn existing(&self) -> Option<&Existing> {
        self.existing.as_ref()
    }

    /// Returns the file that had the name when this was opened.
    ///
    /// # Errors
    /// `NotFound` if there was none.
    pub fn expect(&self) -> io::Result<&Existing> {
        self.existing.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Tests whether a file with these attributes can be made here. Also removes files that interrupted writes have
    /// left.
    ///
    /// # Errors
    /// The error of the operating system, for example if this user may not set an owner.
    pub fn check_creation(&self, attributes: &Attributes) -> io::Result<()> {
        self.remove_leftovers();
        if let Some(file) = self.folder.create_unnamed(attributes.creation_mode())? {
            return attributes.apply(&file);
        }
        let name = temporary_name(&self.name);
        let _held = hold_signals();
        let file = self.folder.create(&name, attributes.creation_mode())?;
        let _named = TemporaryName { folder: &self.folder, name: &name };
        attributes.apply(&file)
    }

    /// Puts a file in place. It is on disk when this returns. If a file was opened, the name must still be that file's,
    /// and the file must not have changed since.
    ///
    /// # Errors
    /// `AlreadyExists` if no file was opened and there is one now; otherwise the error of the operating system. The
    /// former file is unchanged then.
    pub fn put(&self, bytes: &[u8], attributes: &Attributes) -> io::Result<()> {
        self.remove_leftovers();
        let replaces = self.existing.as_ref().map_or(Replaces::Nothing, Replaces::This);
        put(&self.folder, &self.name, replaces, bytes, attributes)
    }

    /// Writes a file under a hidden name made by [`temporary_name`], for [`Self::put_staged`]. It stays there after a
    /// crash.
    ///
    /// # Errors
    /// The error of the operating system; the hidden file does not exist then.
    pub fn stage(&self, staged: &OsStr, bytes: &[u8], attributes: &Attributes) -> io::Result<()> {
        if let Some(file) = self.folder.create_unnamed(attributes.creation_mode())? {
            fill(&file, bytes, attributes)?;
            if self.folder.link(&file, staged).is_ok() {
                return Ok(());
            }
        }
        let file = self.folder.create(staged, attributes.creation_mode())?;
        fill(&file, bytes, attributes).inspect_err(|_| {
            let _ = self.folder.remove(staged);
        })
    }

    /// Puts a staged file in place of the one that was opened, unless that has changed.
    ///
    /// # Errors
    /// `NotFound` if no file was opened; otherwise the error of the operating system. The former file is unchanged
    /// then.
    pub fn put_staged(&self, staged: &OsStr) -> io::Result<()> {
        self.expect()?.check_unchanged(&self.folder, &self.name)?;
        self.folder.rename(staged, &self.name)?;
        self.folder.sync()
    }

    /// Reports whether the file exists and has exactly these bytes.
    ///
    /// # Errors
    /// An error if it has changed since it was opened; otherwise the error of the operating system.
    pub fn has_content(&self, bytes: &[u8]) -> io::Result<bool> {
        let Some(existing) = &self.existing else { return Ok(false) };
        existing.check_unchanged(&self.folder, &self.name)?;
        let len = bytes.len() as u64;
        Ok(existing.metadata.len() == len && existing.read(len)?[..] == *bytes)
    }

    fn remove_leftovers(&self) {
        remove_leftovers(&self.folder, &self.name, self.existing.as_ref().map(|existing| existing.metadata.uid()));
    }
}

impl Existing {
    /// Returns the metadata from when the file was opened.
    pub fn metadata(&self) -> &fs::Metadata {
        &self.metadata
    }

    /// Returns the open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns owner, permissions and extended attributes, for the file that replaces this one.
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn attributes(&self) -> io::Result<Attributes> {
        Attributes::of(&self.file)
    }

    /// Reads the whole file.
    ///
    /// # Errors
    /// `InvalidData` if it is longer than `max` bytes; otherwise the error of the operating system.
    pub fn read(&self, max: u64) -> io::Result<Zeroizing<Vec<u8>>> {
        let len = self.file.metadata()?.len();
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(len.min(max)).unwrap_or(0) + 1));
        FromStart { file: &self.file, at: 0 }.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > max {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is longer than {max} bytes")));
        }
        Ok(bytes)
    }

    /// Changes the permissions and nothing else; only the nine permission bits of `mode` count.
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.file.set_permissions(fs::Permissions::from_mode(mode & 0o777))
    }

    /// Checks that the name is still this file's, and the file unchanged. The change time does not count, because NFS
    /// and FUSE file systems can report it late.
    fn check_unchanged(&self, folder: &Folder, name: &OsStr) -> io::Result<()> {
        let identity = |metadata: &fs::Metadata| {
            (metadata.dev(), metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec())
        };
        if identity(&folder.metadata_of(name)?) == identity(&self.metadata) {
            Ok(())
        } else {
            Err(io::Error::other("it changed while it was being read"))
        }
    }
}

/// Reads a file from its start, independent of the position of its descriptor.
struct FromStart<'a> {
    file: &'a File,
    at: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.file.read_at(buffer, self.at)?;
        self.at += len as u64;
        Ok(len)
    }
}

/// Removes a hidden name when dropped. After the rename nothing has that name any more.
struct TemporaryName<'a> {
    folder: &'a Folder,
    name: &'a OsStr,
}

impl Drop for TemporaryName<'_> {
    fn drop(&mut self) {
        let _ = self.folder.remove(self.name);
    }
}

/// Puts a file in place. It is on disk when this returns.
pub(super) fn put(
    folder: &Folder,
    name: &OsStr,
    replaces: Replaces<'_>,
    bytes: &[u8],
    attributes: &Attributes,
) -> io::Result<()> {
    if !put_unnamed(folder, name, replaces, bytes, attributes)? {
        put_named(folder, name, replaces, bytes, attributes)?;
    }
    folder.sync()
}

/// Puts a file in place by way of a file without a name. Returns `false` if that is not possible here.
fn put_unnamed(
    folder: &Folder,
    name: &OsStr,
    replaces: Replaces<'_>,
    bytes: &[u8],
    attributes: &Attributes,
) -> io::Result<bool> {
    let Some(file) = folder.create_unnamed(attributes.creation_mode())? else { return Ok(false) };
    fill(&file, bytes, attributes)?;
    if let Replaces::Nothing = replaces {
        return match folder.link(&file, name) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
            Err(_) => Ok(false),
        };
    }
    let temporary = temporary_name(name);
    let _held = hold_signals();
    if folder.link(&file, &temporary).is_err() {
        return Ok(false);
    }
    let _named = TemporaryName { folder, name: &temporary };
    swap(folder, &temporary, name, replaces)?;
    Ok(true)
}

/// Puts a file in place by way of a hidden name, for file systems without unnamed files.
fn put_named(
    folder: &Folder,
    name: &OsStr,
    replaces: Replaces<'_>,
    bytes: &[u8],
    attributes: &Attributes,
) -> io::Result<()> {
    let temporary = temporary_name(name);
    let _held = hold_signals();
    let file = folder.create(&temporary, attributes.creation_mode())?;
    let _named = TemporaryName { folder, name: &temporary };
    fill(&file, bytes, attributes)?;
    swap(folder, &temporary, name, replaces)
}

fn fill(mut file: &File, bytes: &[u8], attributes: &Attributes) -> io::Result<()> {
    claim(file);
    file.write_all(bytes)?;
    attributes.apply(file)?;
    file.sync_all()
}

fn swap(folder: &Folder, temporary: &OsStr, name: &OsStr, replaces: Replaces<'_>) -> io::Result<()> {
    match replaces {
        Replaces::Nothing => return folder.rename_new(temporary, name),
        Replaces::This(existing) => existing.check_unchanged(folder, name)?,
        Replaces::Anything => {}
    }
    folder.rename(temporary, name)
}
