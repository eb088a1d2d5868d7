//! Memory that does not keep secrets longer than necessary: an allocator that wipes freed blocks, and pages of their
//! own for keys.

use std::alloc::{GlobalAlloc, Layout, System};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, compiler_fence};

use zeroize::Zeroize;

/// The system's allocator, except that every block is overwritten before it is freed.
///
/// Values pass through buffers of libraries (HTTP, JSON, SQLite's Rust side) that do not wipe themselves. With this
/// allocator, freed memory holds nothing of them.
pub struct WipingAllocator;

// SAFETY: every call is passed on to `System` with the layout it came with. A block is written to only within its size,
// and before it is freed.
unsafe impl GlobalAlloc for WipingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps `GlobalAlloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block is live and `layout.size()` bytes long. The fence, and passing the pointer to a foreign
        // function, keep the compiler from removing the writes.
        unsafe { std::ptr::write_bytes(block, 0, layout.size()) };
        compiler_fence(Ordering::SeqCst);
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }

    // `realloc` is deliberately the default: allocate, copy, `dealloc`. The system's own may move a block and leave the
    // old one unwiped.
}

/// The size in bytes from which a block gets pages of its own, which are returned when it is freed; and the most free
/// memory at the end of each of the allocator's arenas.
#[cfg(target_env = "gnu")]
const FREE_MAX: libc::c_int = 256 << 10;

/// Limits how much free memory the allocator keeps. Without this, one large block that is freed makes it keep up to
/// twice as much in each arena from then on (mallopt(3), `M_MMAP_THRESHOLD`). For the start of a process that serves.
pub fn limit_free() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets parameters of the allocator, and touches no block.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, FREE_MAX);
        libc::mallopt(libc::M_TRIM_THRESHOLD, FREE_MAX);
    }
}

/// Releases free memory of the allocator to the system, as far as that is possible. Costs up to a few milliseconds,
/// during which other threads may wait to allocate.
pub fn release_free() {
    #[cfg(target_env = "gnu")]
    // SAFETY: touches no block that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Bytes that hold a value in the clear. They are never printed, and are wiped when dropped or outgrown, by
/// [`WipingAllocator`]. A `Zeroizing<Vec<u8>>` would wipe them a second time and byte by byte, which is too slow while
/// a request waits.
#[derive(Default)]
pub struct Clear(Vec<u8>);

impl Clear {
    /// Returns an empty buffer without capacity.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns an empty buffer with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }
}

impl std::ops::Deref for Clear {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl std::ops::DerefMut for Clear {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl std::fmt::Debug for Clear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clear(…)")
    }
}

/// The length of a key, in bytes.
pub const KEY_LEN: usize = 32;

/// A secret value in a memory page of its own.
///
/// If the kernel has `memfd_secret` (Linux 5.14), the page is removed from the kernel's own view of memory: no other
/// process can read it, not even root's, and no core dump or hibernation image contains it. Otherwise the page is
/// locked into memory and left out of core dumps; if a limit forbids the lock, it is used unlocked. Child processes do
/// not get the page, and it is wiped when dropped. `T` must be plain data: it is moved here byte by byte, and anything
/// it points to would stay where it is.
pub struct SecretPage<T> {
    page: NonNull<T>,
    len: usize,
}

// SAFETY: the page is owned by this value alone and has no thread affinity.
unsafe impl<T: Send> Send for SecretPage<T> {}
// SAFETY: shared access only reads.
unsafe impl<T: Sync> Sync for SecretPage<T> {}

impl SecretPage<[u8; KEY_LEN]> {
    /// Moves the bytes into a page and wipes the source.
    ///
    /// # Panics
    /// If the system has no memory left for a page.
    pub fn take(source: &mut [u8; KEY_LEN]) -> Self {
        let page = Self::empty();
        // SAFETY: both are live and at least `KEY_LEN` bytes long. The page is new, so they do not overlap.
        unsafe { page.page.as_ptr().copy_from_nonoverlapping(source, 1) };
        source.zeroize();
        page
    }
}

impl<T> SecretPage<T> {
    /// Moves the result of `init` into a page.
    ///
    /// # Panics
    /// If the system has no memory left for a page, or `T` does not fit into one.
    pub fn new(init: impl FnOnce() -> T) -> Self {
        let page = Self::empty();
        let mut value = std::mem::ManuallyDrop::new(init());
        let source = std::ptr::from_mut(&mut *value);
        // SAFETY: both are live and large enough for a `T`. The page is new, so they do not overlap. The source is
        // moved out of, overwritten, and neither used nor dropped again.
        unsafe {
            page.page.as_ptr().copy_from_nonoverlapping(source, 1);
            std::slice::from_raw_parts_mut(source.cast::<u8>(), size_of::<T>()).zeroize();
        }
        page
    }

    /// Returns a page of zeros, which is not a valid `T` yet.
    fn empty() -> Self {
        let len = rustix::param::page_size();
        assert!(size_of::<T>() <= len && align_of::<T>() <= len, "a secret fits one page");
        let page = secret_page(len).or_else(|| locked_page(len));
        let Some(page) = page else { panic!("the system has no memory left for a key") };
        // SAFETY: the mapping is live and `len` bytes long. This changes how it is treated, not its content.
        unsafe { libc::madvise(page.as_ptr().cast(), len, libc::MADV_DONTFORK) };
        Self { page: page.cast(), len }
    }

    /// Returns the value in the page.
    pub fn expose(&self) -> &T {
        // SAFETY: the page lives as long as `self`, has held a `T` since it was made, and is not written while shared.
        unsafe { self.page.as_ref() }
    }
}

/// Maps memory that only this process can see. Returns `None` if the kernel does not have it.
fn secret_page(len: usize) -> Option<NonNull<u8>> {
    // SAFETY: creates a descriptor; no memory is touched.
    let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the kernel has just created it, and nothing else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    rustix::fs::ftruncate(&fd, len as u64).ok()?;
    map(len, libc::MAP_SHARED, fd.as_raw_fd())
}

fn locked_page(len: usize) -> Option<NonNull<u8>> {
    let page = map(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)?;
    // SAFETY: the mapping is live and `len` bytes long. These calls change how it is treated, not its content.
    unsafe {
        libc::mlock(page.as_ptr().cast(), len);
        libc::madvise(page.as_ptr().cast(), len, libc::MADV_DONTDUMP);
    }
    Some(page)
}

fn map(len: usize, flags: libc::c_int, fd: i32) -> Option<NonNull<u8>> {
    // SAFETY: a new mapping touches no memory that exists.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0) };
    NonNull::new(page.cast::<u8>()).filter(|page| page.as_ptr().cast() != libc::MAP_FAILED)
}

impl<T> Drop for SecretPage<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is live, this is its only owner, and it is not used afterwards. `T` is plain data.
        unsafe {
            std::slice::from_raw_parts_mut(self.page.as_ptr().cast::<u8>(), size_of::<T>()).zeroize();
            libc::munmap(self.page.as_ptr().cast(), self.len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_moves_into_its_page() {
        let mut source = [7; KEY_LEN];
        let page = SecretPage::take(&mut source);
        assert_eq!(source, [0; KEY_LEN]);
        assert_eq!(page.expose(), &[7; KEY_LEN]);
    }

    /// Both kinds of page behave the same.
    #[test]
    fn pages_are_of_either_kind() {
        for page in [secret_page(4096), locked_page(4096)].into_iter().flatten() {
            // SAFETY: the mapping is live, `4096` bytes long, and no one else's.
            unsafe {
                assert_eq!(std::slice::from_raw_parts(page.as_ptr(), 4096), [0; 4096]);
                page.as_ptr().write_bytes(7, 4096);
                libc::munmap(page.as_ptr().cast(), 4096);
            }
        }
    }

    #[test]
    fn what_is_in_the_clear_is_not_printed() {
        let mut clear = Clear::with_capacity(2);
        clear.extend_from_slice(b"value");
        assert_eq!((clear.as_slice(), format!("{clear:?}")), (&b"value"[..], "Clear(…)".to_owned()));
    }

    #[test]
    fn freed_memory_holds_nothing() {
        let layout = Layout::from_size_align(4096, 8).unwrap();
        // SAFETY: allocated and freed with the same layout. The block is read after it was freed through the
        // wiping allocator only in the part that the system's allocator does not use for its own lists.
        unsafe {
            let block = WipingAllocator.alloc(layout);
            std::ptr::write_bytes(block, 0xa5, 4096);
            let grown = WipingAllocator.realloc(block, layout, 1 << 20);
            assert_eq!(*grown.add(4095), 0xa5);
            let grown_layout = Layout::from_size_align(1 << 20, 8).unwrap();
            WipingAllocator.dealloc(grown, grown_layout);
            let again = System.alloc(layout);
            let left = std::slice::from_raw_parts(again, 4096).iter().filter(|b| **b == 0xa5).count();
            System.dealloc(again, layout);
            assert!(left < 64, "{left} bytes were left");
        }
    }
}
