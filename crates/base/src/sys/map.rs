//! A file mapped into memory, as words that are read and written atomically.
//!
//! A stored word is in the kernel's page cache at once, without a system call, so it survives the end of this process
//! in any way. `sync` writes it to the disk. If somebody truncates the file or its disk fails, the mapping is lost and
//! the process goes on (`fault`).

mod fault;

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use rustix::io::Errno;

use self::fault::Guarded;

/// A mapped file of whole words, 8 bytes each.
pub struct MappedFile {
    start: NonNull<AtomicU64>,
    words: usize,
    /// Dropped before the mapping is removed; see `drop`.
    guarded: Option<Guarded>,
    /// Kept open, so that its blocks stay allocated.
    file: File,
}

// SAFETY: the mapping has no thread affinity, and all access goes through atomics.
unsafe impl Send for MappedFile {}
// SAFETY: as above.
unsafe impl Sync for MappedFile {}

impl MappedFile {
    /// Maps a file of exactly `len` bytes, which must be a multiple of 8. With `create` the file must not exist; it is
    /// created with mode 0600 and begins as zeros. All blocks are allocated before the file is mapped, so that a full
    /// disk is an error here and not a loss later; if the file system cannot allocate, they are written instead. An
    /// existing file is mapped even if the disk is full: as a rule it has its blocks.
    ///
    /// # Errors
    /// `InvalidData` if the file has another length or is not a regular file; otherwise the error of the operating
    /// system.
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
        let allocated = match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, len as u64) {
            // NFS before 4.2, 9p, ramfs, many FUSE file systems; a kernel or container without the call.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_all_blocks(&file, len, create),
            allocated => allocated.map_err(io::Error::from),
        };
        match allocated {
            Err(error)
                if !create && matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {}
            allocated => allocated?,
        }
        if create {
            file.sync_all()?;
        }
        // SAFETY: a new shared mapping of an open file touches no memory that exists.
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
        // SAFETY: the mapping is new, `len` bytes long and owned by this value alone. `drop` ends the guard before the
        // mapping, and all access goes through the atomics of `words`.
        let guarded = unsafe { Guarded::new(start.cast(), len) };
        Ok(Self { start, words: len / 8, guarded: Some(guarded), file })
    }

    /// Returns the words of the file.
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping lives as long as `self`, is aligned to a page and `words` words long. Memory of any
        // content is valid for atomics, and every access to it is atomic.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }

    /// Reports whether a part of the file was missing when it was accessed: the file was truncated, or its disk has
    /// failed or is full. From then on stored words reach no file, and words that are read may be zeros.
    pub fn is_lost(&self) -> bool {
        self.guarded.as_ref().is_some_and(Guarded::is_lost)
    }

    /// Returns the present metadata of the open file, whatever its name leads to.
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    /// Waits until the stored words are on disk. Afterwards the pages no longer count as memory of this process until
    /// they are touched again.
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn sync(&self) -> io::Result<()> {
        let (start, len) = (self.start.as_ptr().cast(), self.words * 8);
        // SAFETY: the range is the whole live mapping; its content is not changed.
        if unsafe { libc::msync(start, len, libc::MS_SYNC) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: for a shared file mapping, this drops only the page tables. A word that another thread stores
        // meanwhile is in the page cache and is read from there again. If the call fails, it has changed nothing.
        unsafe { libc::madvise(start, len, libc::MADV_DONTNEED) };
        Ok(())
    }
}

/// Allocates a block for every byte of a file by writing it: zeros into a new file, and the present content into an
/// existing one. If the process is killed meanwhile, the content is unchanged.
///
/// A file system that gives every write a new block can still run out of blocks; nothing more can be done about that.
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
    // A network file system reports only now that its disk is full.
    file.sync_all()
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        self.guarded = None;
        // SAFETY: the mapping is live, this is its only owner, and it is not used afterwards.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.words * 8) };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    /// Without the guard, this test is ended by `SIGBUS`.
    #[test]
    fn a_file_that_is_made_shorter_is_lost_and_its_process_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mapped");
        for kept in [0, 4096, 8192] {
            let _ = std::fs::remove_file(&path);
            let (cut, whole) = (MappedFile::open(&path, 12_288, true).unwrap(), dir.path().join("whole"));
            let whole = MappedFile::open(&whole, 4096, kept == 0).unwrap();
            cut.words().iter().chain(whole.words()).for_each(|word| word.store(7, Ordering::Relaxed));
            std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(kept).unwrap();
            assert!(!cut.is_lost());
            // Stores and loads from several threads at once.
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        cut.words()[1535].store(8, Ordering::Relaxed);
                        assert!(cut.is_lost() && cut.words()[1535].load(Ordering::Relaxed) == 8);
                    });
                }
            });
            assert_eq!(cut.words()[0].load(Ordering::Relaxed), 0);
            cut.sync().unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().len(), kept, "nothing reaches the file");
            assert!(!whole.is_lost() && whole.words()[511].load(Ordering::Relaxed) == 7);
        }
    }

    #[test]
    fn a_new_file_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mapped = MappedFile::open(&dir.path().join("mapped"), 4096, true).unwrap();
        assert_eq!(mapped.metadata().unwrap().mode() & 0o077, 0);
    }

    #[test]
    fn blocks_are_written_and_what_is_there_stays() {
        let file = tempfile::tempfile().unwrap();
        // More than one piece, and not a whole number of pieces.
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
