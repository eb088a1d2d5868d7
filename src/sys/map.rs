//! A file mapped into memory, seen as words that are read and written atomically.
//!
//! What is stored is in the kernel's page cache at once: it survives the end of this process in any way,
//! without a system call. `sync` hands it to the disk.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// A mapped file of whole words.
pub struct MappedFile {
    start: NonNull<AtomicU64>,
    words: usize,
    /// Keeps the file open, so that its blocks stay allocated.
    _file: File,
}

// SAFETY: the mapping has no thread affinity, and all access goes through atomics.
unsafe impl Send for MappedFile {}
// SAFETY: as above.
unsafe impl Sync for MappedFile {}

impl MappedFile {
    /// Maps a file of exactly `len` bytes (a multiple of 8). With `create` it must not exist and begins with
    /// zeros. All of its blocks are allocated before it is mapped, so that a full disk is an error here and
    /// never a signal later.
    ///
    /// # Errors
    /// The system's; `InvalidData` when the file has another length or is no regular file.
    pub fn open(path: &Path, len: usize, create: bool) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(create)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK)
            .open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || len == 0 || !len.is_multiple_of(8) || (!create && metadata.size() != len as u64) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, len as u64)?;
        if create {
            file.sync_all()?;
        }
        // SAFETY: a new shared mapping of an open file touches no memory that exists. The file is this
        // user's alone and nothing of this program makes it shorter while it is mapped.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        let start = NonNull::new(start.cast::<AtomicU64>()).filter(|start| start.as_ptr() as isize != -1);
        let start = start.ok_or_else(io::Error::last_os_error)?;
        Ok(Self { start, words: len / 8, _file: file })
    }

    /// Its words.
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is live as long as `self`, aligned to a page, `words` words long; memory of any
        // content is valid for atomics, and every access to it is atomic.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }

    /// Waits until what was stored is on the disk. The pages then count as memory of this process no more,
    /// until they are touched again.
    ///
    /// # Errors
    /// The system's.
    pub fn sync(&self) -> io::Result<()> {
        let (start, len) = (self.start.as_ptr().cast(), self.words * 8);
        // SAFETY: the range is the whole live mapping; its content is not changed.
        if unsafe { libc::msync(start, len, libc::MS_SYNC) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: of a shared mapping of a file this drops the page tables only: what another thread stores
        // meanwhile is in the page cache, and read from there again. Refused, it would change nothing.
        unsafe { libc::madvise(start, len, libc::MADV_DONTNEED) };
        Ok(())
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        // SAFETY: the mapping is live, this is its only owner, and it is not used afterwards.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.words * 8) };
    }
}
