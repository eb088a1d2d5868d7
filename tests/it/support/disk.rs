//! A small disk that a test can fill.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::daemon::Guillemet;
use guillemet_testing::missing;

/// A disk in memory, mounted on a folder until this is dropped.
pub struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Makes a home with `init` on its own disk of `mib` MiB. Returns `None` without the right to mount one, and the test
/// is then reported as skipped. In that case `faults.rs` covers it with injected ENOSPC and EROFS.
pub fn home_on_disk(mib: u32) -> Option<(Guillemet, Mounted)> {
    let guillemet = Guillemet::nowhere();
    let path = guillemet.dir.path().to_owned();
    let options = format!("size={mib}m,mode=0700");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&path).status();
    let is_mounted = mounted.is_ok_and(|status| status.success());
    let remedy = "run the tests as root, and not in a container without it";
    if !missing::supports(is_mounted, "CAP_SYS_ADMIN, to mount a small disk", remedy) {
        return None;
    }
    let mounted = Mounted(path);
    assert!(guillemet.command(&["init"]).status.success());
    Some((guillemet, mounted))
}

/// Fills the disk with a file at this path, except for `leave` bytes.
pub fn fill(filler: &Path, leave: usize) {
    let mut file = File::create(filler).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    let len = file.metadata().unwrap().len();
    file.set_len(len - leave as u64).unwrap();
}
