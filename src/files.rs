//! Files put in place whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// Writes a new file (0600), on disk when this returns. A crash leaves at most a hidden file beside it, which
/// the next attempt replaces.
///
/// # Errors
/// `AlreadyExists`, and the system's. The file is not there then, or as it was.
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    write(path, bytes, RenameFlags::NOREPLACE)
}

/// As `write_new`, in place of what has the name.
///
/// # Errors
/// The system's. The file is as it was then.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, RenameFlags::empty())
}

fn write(path: &Path, bytes: &[u8], how: RenameFlags) -> io::Result<()> {
    let temporary = beside(path);
    let _ = fs::remove_file(&temporary);
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.and_then(|()| rename(&temporary, path, how)).inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
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
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
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
