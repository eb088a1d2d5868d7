//! Memory that keeps no secrets longer than it must: an allocator that wipes what it frees, and a locked
//! page for a key.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, compiler_fence};

use zeroize::Zeroize;

/// The system's allocator, but every block is overwritten before it is given back.
///
/// Values pass through buffers of libraries (HTTP, JSON, SQLite's Rust side) that do not wipe themselves;
/// this leaves nothing of them in freed memory.
pub struct WipingAllocator;

// SAFETY: every call is passed on to `System` with the layout it came with; a block is written to only
// within its size, and before it is given back.
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
        // SAFETY: the block is live and `layout.size()` bytes long. The fence, and that the pointer goes on
        // to a foreign function, keep the compiler from leaving the writes out.
        unsafe { std::ptr::write_bytes(block, 0, layout.size()) };
        compiler_fence(Ordering::SeqCst);
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }

    // `realloc` is the default on purpose: allocate, copy, `dealloc`. The system's own may move a block
    // and leave the old one as it was.
}

/// Bytes of a key.
pub const KEY_LEN: usize = 32;

/// 32 bytes in a page of their own: locked into memory, left out of core dumps, wiped in forked children
/// and when dropped. Where the kernel refuses a lock (a limit), the page is used without.
pub struct KeyPage {
    page: NonNull<u8>,
    len: usize,
}

// SAFETY: the page is owned by this value alone and has no thread affinity.
unsafe impl Send for KeyPage {}
// SAFETY: shared access only reads.
unsafe impl Sync for KeyPage {}

impl KeyPage {
    /// Moves the bytes into a page; the source is wiped.
    ///
    /// # Panics
    /// When the system has no page left.
    pub fn new(source: &mut [u8; KEY_LEN]) -> Self {
        let len = rustix::param::page_size();
        // SAFETY: an anonymous private mapping touches no memory that exists.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        let page = NonNull::new(page.cast::<u8>()).filter(|page| page.as_ptr() as isize != -1);
        let Some(page) = page else { panic!("the system has no memory left for a key") };
        // SAFETY: the mapping is live and `len` bytes long; these calls change how it is treated, not what is in it.
        unsafe {
            libc::mlock(page.as_ptr().cast(), len);
            libc::madvise(page.as_ptr().cast(), len, libc::MADV_DONTDUMP);
            libc::madvise(page.as_ptr().cast(), len, libc::MADV_WIPEONFORK);
        }
        // SAFETY: both are live, `KEY_LEN` bytes at least, and apart.
        unsafe { std::ptr::copy_nonoverlapping(source.as_ptr(), page.as_ptr(), KEY_LEN) };
        source.zeroize();
        Self { page, len }
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8; KEY_LEN] {
        // SAFETY: the page lives as long as `self`, holds `KEY_LEN` initialised bytes, and is not written while shared.
        unsafe { self.page.cast::<[u8; KEY_LEN]>().as_ref() }
    }
}

impl Drop for KeyPage {
    fn drop(&mut self) {
        // SAFETY: the mapping is live, this is its only owner, and it is not used afterwards.
        unsafe {
            std::slice::from_raw_parts_mut(self.page.as_ptr(), KEY_LEN).zeroize();
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
        let page = KeyPage::new(&mut source);
        assert_eq!(source, [0; KEY_LEN]);
        assert_eq!(page.expose(), &[7; KEY_LEN]);
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
