//! A small disk, which a test can fill.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use super::missing;

/// A disk in memory below a folder, until dropped.
pub struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    /// Mounts it with these options of tmpfs; `None` without the right to, and then the test is reported as skipped. An
    /// injected ENOSPC and EROFS stand in for it (`faults.rs`).
    pub fn on(path: &'a Path, options: &str) -> Option<Self> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(path).status();
        let is_mounted = mounted.is_ok_and(|status| status.success());
        let remedy = "run the tests as root, and not in a container without it";
        missing::supports(is_mounted, "CAP_SYS_ADMIN, to mount a small disk", remedy).then_some(Self(path))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

/// Fills the disk with a file of this path, but for so many bytes.
pub fn fill(filler: &Path, leave: usize) {
    let mut file = File::create(filler).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    let len = file.metadata().unwrap().len();
    file.set_len(len - leave as u64).unwrap();
}
