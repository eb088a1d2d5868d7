//! A file mapped into memory, seen as words that are read and written atomically.
//!
//! What is stored is in the kernel's page cache at once: it survives the end of this process in any way,
//! without a system call. `sync` hands it to the disk.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use rustix::io::Errno;

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
    /// never a signal later; where a file system cannot allocate, they are written.
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
        match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, len as u64) {
            // NFS before 4.2, 9p, ramfs, many of FUSE; a kernel or container without the call.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_all_blocks(&file, len, create)?,
            allocated => allocated?,
        }
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

/// Has a block for every byte of a file by writing each: zeros into a new one, and what it holds into one that is there,
/// whose content stays. A process that is killed meanwhile leaves it as it was.
///
/// A file system that gives every write a new block can run out of them all the same; there is nothing more to be done.
fn write_all_blocks(file: &File, len: usize, is_new: bool) -> io::Result<()> {
    const PIECE: usize = 64 << 10;
    let mut piece = vec![0; PIECE.min(len)];
    for at in (0..len).step_by(PIECE) {
        let piece = &mut piece[..PIECE.min(len - at)];
        if !is_new {
            file.read_exact_at(piece, at as u64)?;
        }
        file.write_all_at(piece, at as u64)?;
    }
    // A network file system says only now that its disk is full.
    file.sync_all()
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        // SAFETY: the mapping is live, this is its only owner, and it is not used afterwards.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.words * 8) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_written_and_what_is_there_stays() {
        let file = tempfile::tempfile().unwrap();
        // More than one piece, and not a whole number of them.
        let len = (150 << 10) + 8;
        write_all_blocks(&file, len, true).unwrap();
        let metadata = file.metadata().unwrap();
        assert_eq!(metadata.size(), len as u64);
        let content = |at: u64| {
            let mut bytes = vec![0; len];
            file.read_exact_at(&mut bytes, at).unwrap();
            bytes
        };
        assert_eq!(content(0), vec![0; len]);
        // A hole between two texts.
        file.set_len(0).unwrap();
        file.set_len(len as u64).unwrap();
        file.write_all_at(b"begin", 0).unwrap();
        file.write_all_at(b"end", len as u64 - 3).unwrap();
        let before = content(0);
        let blocks = file.metadata().unwrap().blocks();
        write_all_blocks(&file, len, false).unwrap();
        assert_eq!(content(0), before);
        assert!(file.metadata().unwrap().blocks() > blocks, "the hole has blocks now");
    }
}
