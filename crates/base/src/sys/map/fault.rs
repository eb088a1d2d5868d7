//! Handles an access to a mapped page that has no file behind it.
//!
//! When a mapped file is truncated, its last pages are gone, and a disk can fail to read a page. The next access then
//! raises `SIGBUS`, which ends the process. A mapping that is guarded here is instead replaced by zeros, all of it at
//! once, and marked as lost. Any other `SIGBUS` has the effect it had before.

use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Once, OnceLock};

/// The first entry of a list that only grows: a signal handler can neither wait for a lock nor follow a pointer to an
/// entry that another thread removes.
static FIRST: Mapping = Mapping::empty();
static CATCH: Once = Once::new();
/// The action for `SIGBUS` before this module set its own.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

struct Mapping {
    is_taken: AtomicBool,
    /// The address of the mapping; 0 if the entry has none.
    start: AtomicUsize,
    len: AtomicUsize,
    is_lost: AtomicBool,
    next: OnceLock<&'static Mapping>,
}

impl Mapping {
    const fn empty() -> Self {
        Self {
            is_taken: AtomicBool::new(false),
            start: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
            is_lost: AtomicBool::new(false),
            next: OnceLock::new(),
        }
    }

    fn contains(&self, address: usize) -> bool {
        let start = self.start.load(Ordering::Acquire);
        start != 0 && address.wrapping_sub(start) < self.len.load(Ordering::Relaxed)
    }

    /// Replaces the mapping by zeros. Called by the signal handler. Returns `false` if that fails.
    fn replace_with_zeros(&self) -> bool {
        if self.is_lost.swap(true, Ordering::AcqRel) {
            // Another thread is doing this. The access of this thread is tried again until the zeros are there.
            return true;
        }
        let (start, len) = (self.start.load(Ordering::Relaxed), self.len.load(Ordering::Relaxed));
        let flags = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: the caller of `Guarded::new` has promised that this is its own mapping, that it is live, and that it
        // is accessed only by atomics, for which memory of any content is valid.
        let zeros =
            unsafe { libc::mmap(start as *mut libc::c_void, len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        zeros != libc::MAP_FAILED
    }
}

/// A mapping that outlives its file. The guard ends when this is dropped.
pub(super) struct Guarded(&'static Mapping);

impl Guarded {
    /// Guards a mapping.
    ///
    /// # Safety
    /// `len` bytes from `start` are a mapping that is readable and writable, stays until this is dropped, belongs to
    /// the caller alone and is accessed only by atomics.
    pub(super) unsafe fn new(start: NonNull<libc::c_void>, len: usize) -> Self {
        CATCH.call_once(catch);
        let mut mapping = &FIRST;
        while mapping.is_taken.swap(true, Ordering::AcqRel) {
            mapping = mapping.next.get_or_init(|| Box::leak(Box::new(Mapping::empty())));
        }
        mapping.len.store(len, Ordering::Relaxed);
        mapping.is_lost.store(false, Ordering::Relaxed);
        mapping.start.store(start.as_ptr() as usize, Ordering::Release);
        Self(mapping)
    }

    /// Reports whether a page was missing. Words stored since then are lost, and words that are read are zeros.
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

/// Installs the handler. It runs on the signal stack of a thread that has one.
fn catch() {
    // SAFETY: zeros are a valid action: no flags, no signal masked.
    let mut action = unsafe { MaybeUninit::<libc::sigaction>::zeroed().assume_init() };
    action.sa_sigaction = on_fault as *const () as libc::sighandler_t;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    let mut before = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action the call only fills in the one it is given, for which zeros are valid too. The new
    // action is complete, and its handler is async-signal-safe.
    unsafe {
        libc::sigaction(libc::SIGBUS, std::ptr::null(), before.as_mut_ptr());
        let _ = BEFORE.set(before.assume_init());
        libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut());
    }
}

/// The signal handler. The access that raised the signal is tried again when it returns.
extern "C" fn on_fault(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a complete `siginfo_t`, which holds the address for a fault. The location of `errno`
    // may be read in a handler.
    let (is_missing, address, errno) =
        unsafe { ((*info).si_code == libc::BUS_ADRERR, (*info).si_addr() as usize, libc::__errno_location()) };
    // SAFETY: this is the location of this thread's `errno`, which is live.
    let before = unsafe { *errno };
    let mut mappings = std::iter::successors(Some(&FIRST), |mapping| mapping.next.get().copied());
    let guarded = mappings.find(|mapping| is_missing && mapping.contains(address));
    if !guarded.is_some_and(Mapping::replace_with_zeros)
        && let Some(before) = BEFORE.get()
    {
        // SAFETY: `sigaction` may be called from a handler, and the action is complete.
        unsafe { libc::sigaction(libc::SIGBUS, before, std::ptr::null_mut()) };
    }
    // SAFETY: as above.
    unsafe { *errno = before };
}
