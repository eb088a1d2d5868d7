//! What a process asks of the kernel about itself: descriptors, core dumps, signals, sockets it was handed.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::process::{DumpableBehavior, Resource, Rlimit};

/// Closes every descriptor from `first` on.
///
/// For a process that has just started and has opened nothing itself: no safe object owns one of these
/// descriptors yet.
///
/// # Errors
/// The kernel's, when it does not know `close_range` (before Linux 5.9).
pub fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: called first thing in `main` of a child, when nothing in this process owns a descriptor
    // from `first` on, so none is closed under its owner.
    let result = unsafe { libc::close_range(first.unsigned_abs(), u32::MAX, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sees to it that no descriptor from `first` on reaches a child: those a careless parent left open, and
/// those a service manager handed over.
///
/// # Errors
/// The kernel's, when it does not know `CLOSE_RANGE_CLOEXEC` (before Linux 5.11).
pub fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: libc::c_int = 4;
    // SAFETY: sets a flag on descriptors; closes and invalidates none.
    let result = unsafe { libc::close_range(first.unsigned_abs(), u32::MAX, CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes a descriptor that whoever started this process handed over by number.
///
/// # Errors
/// When nothing is open under that number, or it is one of the standard three.
pub fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    if fd <= 2 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a descriptor number from 3 on is needed"));
    }
    // SAFETY: F_GETFD reads a flag and works on any number; the result says whether it is open.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, it came from outside by agreement, and each such number is taken once, at start.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Signals are held back from this thread until it is dropped; then those that came are delivered.
#[derive(Debug)]
pub struct HeldSignals {
    before: libc::sigset_t,
    /// The mask is the thread's: this stays in it.
    _thread: PhantomData<*const ()>,
}

/// Holds back every signal that a person, a terminal or a service manager ends a process with (SIGINT, SIGTERM, SIGHUP,
/// SIGQUIT and the like). What a fault of the program raises comes through, and so does SIGKILL. In a process of several
/// threads another one may still get them.
pub fn hold_signals() -> HeldSignals {
    const FAULTS: [libc::c_int; 7] =
        [libc::SIGABRT, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGSEGV, libc::SIGSYS, libc::SIGTRAP];
    // SAFETY: a set of signals is plain integers, for which zeros are a value, and `sigfillset` fills all of it.
    let (mut all, mut before) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    // SAFETY: every pointer is to a set on this stack that outlives its call; the signals exist; changing the mask of
    // the calling thread touches no memory. None of the calls can fail with these arguments.
    unsafe {
        libc::sigfillset(&raw mut all);
        for fault in FAULTS {
            libc::sigdelset(&raw mut all, fault);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, &raw mut before);
    }
    HeldSignals { before, _thread: PhantomData }
}

impl Drop for HeldSignals {
    fn drop(&mut self) {
        // SAFETY: `before` was filled in by the same call in this thread.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}

/// No core dumps, and no other process of this user may read this one's memory or trace it.
///
/// # Errors
/// The kernel's.
pub fn hide() -> io::Result<()> {
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Tries to trace a process and lets it go again.
///
/// # Errors
/// The kernel's.
#[cfg(test)]
pub fn trace(pid: i32) -> io::Result<()> {
    // SAFETY: PTRACE_SEIZE takes no pointers that it follows; it does not stop the other process.
    let result = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above. It fails where the other is running; it is let go when this process ends.
    unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, 0, 0) };
    Ok(())
}

/// Tries to map a page that can be written and run.
///
/// # Errors
/// The kernel's.
#[cfg(test)]
pub fn map_writable_code() -> io::Result<()> {
    let both = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    // SAFETY: a new anonymous mapping touches no memory that exists; it stays until the process ends.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, both, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) };
    if page == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}
