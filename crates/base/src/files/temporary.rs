//! Hidden names that a file can have for a moment, and the removal of files that a `kill -9` left under such a name.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{Dir, FlockOperation, flock};
use sha2::{Digest, Sha256};

use super::folder::Folder;
use crate::random::random;

/// How every hidden name begins. A template's name cannot begin with a dot.
const PREFIX: &str = ".guillemet-";

/// Returns a name that nobody can guess, for a file that will be called `name`: `.guillemet-RANDOM-CHECK`, both parts
/// 16 hexadecimal digits. The second part is a hash of the first and of `name`, so that the name of another file never
/// looks like one by accident.
pub fn temporary_name(name: &OsStr) -> OsString {
    with_random(name, u64::from_ne_bytes(random()))
}

fn with_random(name: &OsStr, random: u64) -> OsString {
    let digest = Sha256::new_with_prefix(b"guillemet temporary file\0")
        .chain_update(random.to_be_bytes())
        .chain_update(name.as_bytes())
        .finalize();
    let check = data_encoding::HEXLOWER.encode(&digest[..8]);
    format!("{PREFIX}{random:016x}-{check}").into()
}

/// Reports whether `candidate` was made by `temporary_name(name)`.
fn is_temporary_name_of(candidate: &OsStr, name: &OsStr) -> bool {
    let random = candidate.to_str().and_then(|text| text.strip_prefix(PREFIX)?.get(..16));
    let random = random.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    random.is_some_and(|random| with_random(name, random) == candidate)
}

/// Locks a file while it is being written, until it is closed in any way, so that nobody removes it as left over.
pub(super) fn claim(file: &std::fs::File) {
    // On a file system without locks, nothing is ever taken for left over.
    let _ = flock(file, FlockOperation::NonBlockingLockExclusive);
}

/// Removes files that interrupted writes of the file `name` have left. Removes only a regular file with a hidden name
/// that was made for this file, without any other name but `name`, that belongs to this user or to `owner` (the file's
/// owner), and that nobody is writing any more. In doubt, a file stays. Only names in this folder are removed, never
/// through a link.
pub(super) fn remove_leftovers(folder: &Folder, name: &OsStr, owner: Option<u32>) {
    let Ok(entries) = Dir::read_from(folder) else { return };
    for entry in entries.flatten() {
        let candidate = OsStr::from_bytes(entry.file_name().to_bytes());
        if is_temporary_name_of(candidate, name) && is_left_over(folder, candidate, name, owner) {
            let _ = folder.remove(candidate);
        }
    }
}

fn is_left_over(folder: &Folder, candidate: &OsStr, name: &OsStr, owner: Option<u32>) -> bool {
    let Ok((file, metadata)) = folder.open_regular(candidate) else { return false };
    let is_ours = metadata.uid() == rustix::process::geteuid().as_raw() || Some(metadata.uid()) == owner;
    // Two names: the process was killed after the file got its own name and before it lost the hidden one
    // (`Folder::rename_new`).
    let has_its_name = || {
        let file = folder.metadata_of(name);
        file.is_ok_and(|file| (file.dev(), file.ino()) == (metadata.dev(), metadata.ino()))
    };
    let has_no_other = metadata.nlink() == 1 || (metadata.nlink() == 2 && has_its_name());
    is_ours && has_no_other && flock(&file, FlockOperation::NonBlockingLockShared).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_name_belongs_to_one_file() {
        for name in ["a", "a.env", &"x".repeat(255)].map(OsStr::new) {
            let temporary = temporary_name(name);
            assert!(temporary.len() < 64 && is_temporary_name_of(&temporary, name));
            assert_ne!(temporary, temporary_name(name));
            assert!(!is_temporary_name_of(&temporary, OsStr::new("b")));
        }
        for other in [".guillemet-", ".guillemet-0000000000000000-0000000000000000", ".guillemet-é", "a"] {
            assert!(!is_temporary_name_of(OsStr::new(other), OsStr::new("a")));
        }
    }
}
