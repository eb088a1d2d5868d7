//! A file that is put in place: where, in place of what, whole or not at all.
//!
//! The bytes are written to a file without a name. A new file gets its name in one step. To replace one, the new file
//! needs a hidden name for a moment; signals are held back from there to the rename, so that what interrupts a command
//! leaves nothing, and what a `kill -9` leaves is removed by the next write of the same file.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use super::attributes::Attributes;
use super::fingerprint::Fingerprint;
use super::folder::Folder;
use super::temporary::{claim, remove_leftovers, temporary_name};
use crate::sys::process::hold_signals;

/// A name in a folder that is held open, and the file that has it.
#[derive(Debug)]
pub struct Destination {
    folder: Folder,
    name: OsString,
    existing: Option<Existing>,
}

/// The file that has the name: what is read of it, its owner and its permissions are of one and the same file.
#[derive(Debug)]
pub struct Existing {
    file: File,
    metadata: fs::Metadata,
}

/// What may have the name when a file is put in place.
#[derive(Clone, Copy)]
pub(super) enum Replaces<'a> {
    Nothing,
    This(&'a Existing),
    Anything,
}

impl Destination {
    /// Opens the folder of a path, and the file if there is one.
    ///
    /// # Errors
    /// `InvalidInput` for anything but a regular file, a symbolic link too; `Folder::open`'s; the system's.
    pub fn open(path: &Path) -> io::Result<Self> {
        let (folder, name) = Folder::of(path)?;
        let existing = match folder.open_regular(name) {
            Ok((file, metadata)) => Some(Existing { file, metadata }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self { folder, name: name.to_owned(), existing })
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Returns the file that has the name.
    pub fn existing(&self) -> Option<&Existing> {
        self.existing.as_ref()
    }

    /// Returns the file that has the name.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    pub fn expect(&self) -> io::Result<&Existing> {
        self.existing.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Tries whether a file with these attributes can be made here, and removes what an earlier write left.
    ///
    /// # Errors
    /// The system's, such as for an owner that this user cannot give.
    pub fn try_out(&self, attributes: &Attributes) -> io::Result<()> {
        self.remove_leftovers();
        if let Some(file) = self.folder.create_unnamed(attributes.creation_mode())? {
            return attributes.apply(&file);
        }
        let name = temporary_name(&self.name);
        let _held = hold_signals();
        let file = self.folder.create(&name, attributes.creation_mode())?;
        let _named = Named { folder: &self.folder, name: &name };
        attributes.apply(&file)
    }

    /// Puts a file in place; on disk when this returns. Where there was one, the name must still be that file's, and
    /// it must not have changed since it was opened.
    ///
    /// # Errors
    /// `AlreadyExists` where one has come up; the system's. The file is as it was then.
    pub fn put(&self, bytes: &[u8], attributes: &Attributes) -> io::Result<()> {
        self.remove_leftovers();
        let replaces = self.existing.as_ref().map_or(Replaces::Nothing, Replaces::This);
        put(&self.folder, &self.name, replaces, bytes, attributes)
    }

    /// Writes a file under a hidden name of `temporary_name`, to be put in place by `put_staged`; it stays after a
    /// crash.
    ///
    /// # Errors
    /// The system's. There is no such file then.
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
    /// The system's. The file is as it was then.
    pub fn put_staged(&self, staged: &OsStr) -> io::Result<()> {
        self.expect()?.check_unchanged(&self.folder, &self.name)?;
        self.folder.rename(staged, &self.name)?;
        self.folder.sync()
    }

    /// Whether there is a file with these bytes.
    ///
    /// # Errors
    /// When it has changed since it was opened; the system's.
    pub fn holds(&self, bytes: &[u8]) -> io::Result<bool> {
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
    /// Returns the metadata, of when it was opened.
    pub fn metadata(&self) -> &fs::Metadata {
        &self.metadata
    }

    /// Returns the open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns owner, permissions and extended attributes, for the file that takes its place.
    ///
    /// # Errors
    /// The system's.
    pub fn attributes(&self) -> io::Result<Attributes> {
        Attributes::of(&self.file)
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// `InvalidData` when it is longer than `most` bytes; the system's.
    pub fn read(&self, most: u64) -> io::Result<Zeroizing<Vec<u8>>> {
        let len = self.file.metadata()?.len();
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(len.min(most)).unwrap_or(0) + 1));
        FromStart { file: &self.file, at: 0 }.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > most {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is longer than {most} bytes")));
        }
        Ok(bytes)
    }

    /// Changes the permissions, and nothing else.
    ///
    /// # Errors
    /// The system's.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.file.set_permissions(fs::Permissions::from_mode(mode & 0o777))
    }

    /// Whether the name is still this file's, unchanged.
    fn check_unchanged(&self, folder: &Folder, name: &OsStr) -> io::Result<()> {
        let there = folder.metadata_of(name)?;
        if Fingerprint::from_metadata(&there) == Fingerprint::from_metadata(&self.metadata) {
            Ok(())
        } else {
            Err(io::Error::other("it was changed meanwhile"))
        }
    }
}

/// Reads a file from its start, wherever its position is.
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

/// A hidden name that is removed with this. After the rename nothing has it.
struct Named<'a> {
    folder: &'a Folder,
    name: &'a OsStr,
}

impl Drop for Named<'_> {
    fn drop(&mut self) {
        let _ = self.folder.remove(self.name);
    }
}

/// Puts a file in place; on disk when this returns.
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

/// By way of a file without a name; whether that can be done here.
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
    let _named = Named { folder, name: &temporary };
    swap(folder, &temporary, name, replaces)?;
    Ok(true)
}

/// By way of a file with a hidden name, where there are no files without one.
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
    let _named = Named { folder, name: &temporary };
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
