//! Reads the file that is adopted, once, into memory that wipes itself.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use super::source::SourceFile;
use crate::cli::Failure;
use guillemet_base::files::Fingerprint;
use guillemet_secret::reader;
use guillemet_template::catalog::TEMPLATE_MAX;

/// Reads a file, or standard input for `-`.
///
/// # Errors
/// When it cannot be read, is larger than a template can be, or is not UTF-8.
pub fn read(path: &Path) -> Result<SourceFile, Failure> {
    let is_stdin = path.as_os_str() == "-";
    let label = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
    let unreadable = |error: io::Error| Failure::new(format!("{label} cannot be read: {error}"));
    let all_of = |from: BorrowedFd<'_>| {
        reader::read(from, TEMPLATE_MAX as usize).map_err(|error| match error.kind() {
            ErrorKind::FileTooLarge => {
                Failure::new(format!("{label} is larger than {} KiB, too large for a config", TEMPLATE_MAX >> 10))
            }
            _ => unreadable(error),
        })
    };
    let (bytes, file) = if is_stdin {
        (all_of(io::stdin().as_fd())?, None)
    } else {
        let file = File::open(path).map_err(unreadable)?;
        let bytes = all_of(file.as_fd())?;
        (bytes, Some((path.to_owned(), Fingerprint::from_metadata(&file.metadata().map_err(unreadable)?))))
    };
    SourceFile::new(label, &bytes, file)
}
