//! What becomes of an access to a mapped page that has no file behind it.
//!
//! When a mapped file is made shorter, its last pages are gone, and a disk can refuse a page: the next access raises
//! `SIGBUS`, which ends the process. A mapping that is guarded here becomes a mapping of zeros instead, all of it at once,
//! and is marked as lost. Any other `SIGBUS` does what it did before.

use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Once, OnceLock};

/// The first of a list that only grows: a handler can neither wait for a lock nor follow what another thread takes away.
static FIRST: Mapping = Mapping::none();
static CATCH: Once = Once::new();
/// What `SIGBUS` did before.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

struct Mapping {
    is_taken: AtomicBool,
    /// The address; 0 while there is none.
    start: AtomicUsize,
    len: AtomicUsize,
    is_lost: AtomicBool,
    next: OnceLock<&'static Mapping>,
}

impl Mapping {
    const fn none() -> Self {
        Self {
            is_taken: AtomicBool::new(false),
            start: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
            is_lost: AtomicBool::new(false),
            next: OnceLock::new(),
        }
    }

    fn holds(&self, address: usize) -> bool {
        let start = self.start.load(Ordering::Acquire);
        start != 0 && address.wrapping_sub(start) < self.len.load(Ordering::Relaxed)
    }

    /// Puts zeros in its place. Called by the handler.
    fn lose(&self) -> bool {
        if self.is_lost.swap(true, Ordering::AcqRel) {
            // Another thread is at it: this one tries its access again until there are zeros.
            return true;
        }
        let (start, len) = (self.start.load(Ordering::Relaxed), self.len.load(Ordering::Relaxed));
        let flags = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: whoever guards it has promised that this is its own mapping, and that it is live and accessed by
        // atomics alone, for which memory of any content is valid.
        let zeros =
            unsafe { libc::mmap(start as *mut libc::c_void, len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        zeros != libc::MAP_FAILED
    }
}

/// A mapping that outlives its file, until this is dropped.
pub(super) struct Guarded(&'static Mapping);

impl Guarded {
    /// Guards a mapping.
    ///
    /// # Safety
    /// `len` bytes from `start` are a mapping that is readable and writable, stays until this is dropped, belongs to the
    /// caller alone and is accessed by atomics alone.
    pub(super) unsafe fn new(start: NonNull<libc::c_void>, len: usize) -> Self {
        CATCH.call_once(catch);
        let mut mapping = &FIRST;
        while mapping.is_taken.swap(true, Ordering::AcqRel) {
            mapping = mapping.next.get_or_init(|| Box::leak(Box::new(Mapping::none())));
        }
        mapping.len.store(len, Ordering::Relaxed);
        mapping.is_lost.store(false, Ordering::Relaxed);
        mapping.start.store(start.as_ptr() as usize, Ordering::Release);
        Self(mapping)
    }

    /// Whether a page was missing: what was stored since then is nowhere, and what is read is zeros.
    pub(super) fn is_lost(&self) -> bool {
        self.0.is_lost.load(Ordering::Acquire)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.0.start.store(0, Ordering::Release);
        self.0.is_taken.store(false, Ordering::Release);
    }
}

/// Has the handler called, on the stack for signals where a thread has one.
fn catch() {
    // SAFETY: zeros are a valid action: no flags, no signal masked.
    let mut action = unsafe { MaybeUninit::<libc::sigaction>::zeroed().assume_init() };
    action.sa_sigaction = on_fault as *const () as libc::sighandler_t;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    let mut before = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action the call only fills in the one it is given; zeros are a valid action too. The new
    // one is whole, and its handler does nothing that a handler must not do.
    unsafe {
        libc::sigaction(libc::SIGBUS, std::ptr::null(), before.as_mut_ptr());
        let _ = BEFORE.set(before.assume_init());
        libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut());
    }
}

/// The handler. The access that raised the signal is tried again when it returns.
extern "C" fn on_fault(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a whole `siginfo_t`; of a fault it holds the address. `errno`'s place may be asked for.
    let (is_missing, address, errno) =
        unsafe { ((*info).si_code == libc::BUS_ADRERR, (*info).si_addr() as usize, libc::__errno_location()) };
    // SAFETY: it is this thread's, and live.
    let before = unsafe { *errno };
    let mut mappings = std::iter::successors(Some(&FIRST), |mapping| mapping.next.get().copied());
    let guarded = mappings.find(|mapping| is_missing && mapping.holds(address));
    if !guarded.is_some_and(Mapping::lose)
        && let Some(before) = BEFORE.get()
    {
        // SAFETY: `sigaction` may be called from a handler, and the action is whole.
        unsafe { libc::sigaction(libc::SIGBUS, before, std::ptr::null_mut()) };
    }
    // SAFETY: as above.
    unsafe { *errno = before };
}
