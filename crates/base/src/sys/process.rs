//! What a process can change or learn about itself: descriptors, core dumps, signals, inherited sockets.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::process::{DumpableBehavior, Resource, Rlimit};

/// Closes every descriptor from `first` on.
///
/// Call this only in a process that has just started and has opened nothing itself, so that no safe object owns one of
/// these descriptors yet.
///
/// # Errors
/// The error of the kernel, if it neither has `close_range` (Linux 5.9; missing in some containers) nor allows the
/// descriptors to be closed one by one.
pub fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: called first thing in `main` of a child, when nothing in this process owns a descriptor from `first` on,
    // so none is closed under its owner.
    if unsafe { libc::close_range(first.unsigned_abs(), u32::MAX, 0) } == 0 {
        return Ok(());
    }
    each_from(first, |fd| {
        // Whatever it says, the descriptor is closed.
        // SAFETY: as above.
        unsafe { libc::close(fd) };
        0
    })
}

/// Marks every descriptor from `first` on so that no child process inherits it: those that a careless parent left open,
/// and those that a service manager passed in.
///
/// # Errors
/// The error of the kernel, if it neither has `CLOSE_RANGE_CLOEXEC` (Linux 5.11; missing in some containers) nor allows
/// the descriptors to be marked one by one.
pub fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: libc::c_int = 4;
    // SAFETY: sets a flag on descriptors; closes and invalidates none.
    if unsafe { libc::close_range(first.unsigned_abs(), u32::MAX, CLOSE_RANGE_CLOEXEC) } == 0 {
        return Ok(());
    }
    // CLOEXEC is the only descriptor flag, so setting it overwrites no other.
    // SAFETY: as above; a number that is not open is only an error.
    each_from(first, |fd| unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })
}

/// Calls `visit` for every open descriptor from `first` on. This replaces `close_range` on a system that does not have
/// it or forbids it. `visit` returns -1 and sets `errno` if it fails.
///
/// The open descriptors are those in `/proc/self/fd`. Without `/proc`, every number that this process can have been
/// given is tried.
fn each_from(first: RawFd, visit: impl Fn(RawFd) -> libc::c_int) -> io::Result<()> {
    // The list is read completely before `visit` is called: reading it takes a descriptor too, which is closed by then.
    let listed: io::Result<Vec<Option<RawFd>>> = std::fs::read_dir("/proc/self/fd").and_then(|entries| {
        entries.map(|entry| Ok(entry?.file_name().to_str().and_then(|name| name.parse().ok()))).collect()
    });
    let open: Box<dyn Iterator<Item = RawFd>> = match listed {
        Ok(numbers) => Box::new(numbers.into_iter().flatten()),
        Err(_) => {
            let limit = rustix::process::getrlimit(Resource::Nofile).current;
            Box::new(0..limit.and_then(|limit| RawFd::try_from(limit).ok()).unwrap_or(RawFd::MAX))
        }
    };
    for fd in open.filter(|fd| *fd >= first) {
        if visit(fd) < 0 {
            let error = io::Error::last_os_error();
            // The descriptor was closed meanwhile, or was never open.
            if error.raw_os_error() != Some(libc::EBADF) {
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Takes ownership of a descriptor that the parent process passed in by number.
///
/// # Errors
/// `InvalidInput` for one of the standard three; the error of the kernel if nothing is open under that number.
pub fn take_inherited(fd: RawFd) -> io::Result<OwnedFd> {
    if fd <= 2 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a descriptor number from 3 on is needed"));
    }
    // SAFETY: `F_GETFD` only reads a flag and works on any number; the result says whether the descriptor is open.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, it came from outside by agreement, and each such number is taken once, at start.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A guard that holds signals back from this thread. When it is dropped, the signals that have arrived are delivered.
#[derive(Debug)]
pub struct HeldSignals {
    before: libc::sigset_t,
    /// The signal mask belongs to the thread, so this must not leave it.
    _thread: PhantomData<*const ()>,
}

/// Holds back every signal with which a person, a terminal or a service manager ends a process (SIGINT, SIGTERM,
/// SIGHUP, SIGQUIT and the like). Signals of program faults are not held back, and neither is SIGKILL. In a process
/// with several threads, another thread can still receive them.
pub fn hold_signals() -> HeldSignals {
    const FAULTS: [libc::c_int; 7] =
        [libc::SIGABRT, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGSEGV, libc::SIGSYS, libc::SIGTRAP];
    // SAFETY: a signal set is plain integers, for which zeros are a value, and `sigfillset` fills all of it.
    let (mut mask, mut before) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    // SAFETY: every pointer is to a set on this stack that outlives its call. The signals exist. Changing the mask of
    // the calling thread touches no memory. None of the calls can fail with these arguments.
    unsafe {
        libc::sigfillset(&raw mut mask);
        for signal in FAULTS {
            libc::sigdelset(&raw mut mask, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const mask, &raw mut before);
    }
    HeldSignals { before, _thread: PhantomData }
}

impl Drop for HeldSignals {
    fn drop(&mut self) {
        // SAFETY: `before` was filled in by the same call in this thread.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}

/// Disables core dumps, and keeps other processes of this user from reading this one's memory or tracing it.
///
/// # Errors
/// The error of the kernel.
pub fn make_undumpable() -> io::Result<()> {
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Tests what the compiled code of a plugin needs: memory that is first written and then made executable.
///
/// # Errors
/// The error of the kernel: EACCES or EPERM if the system forbids it (`PR_SET_MDWE`, a seccomp filter, SELinux).
pub fn try_written_code() -> io::Result<()> {
    let len = rustix::param::page_size();
    let written = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new anonymous mapping touches no memory that exists.
    let page =
        unsafe { libc::mmap(std::ptr::null_mut(), len, written, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: this function owns the page, there is no reference into it, and nothing in it is ever run.
    let allowed = match unsafe { libc::mprotect(page, len, libc::PROT_READ | libc::PROT_EXEC) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    // SAFETY: as above; the page is not used afterwards.
    unsafe { libc::munmap(page, len) };
    allowed
}

/// Tries to trace a process, and lets it go again.
///
/// # Errors
/// The error of the kernel.
pub fn try_trace(pid: i32) -> io::Result<()> {
    // SAFETY: `PTRACE_SEIZE` follows no pointers and does not stop the other process.
    let result = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above. This fails if the other process is running; it is released when this process ends.
    unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, 0, 0) };
    Ok(())
}

/// Tries to map a page that is writable and executable.
///
/// # Errors
/// The error of the kernel.
pub fn map_writable_code() -> io::Result<()> {
    let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    // SAFETY: a new anonymous mapping touches no memory that exists; it stays until the process ends.
    let page =
        unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) };
    if page == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn every_descriptor_is_found_one_by_one() {
        let files = [(); 3].map(|()| std::fs::File::open("/dev/null").unwrap());
        let expected: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
        let found = std::cell::RefCell::new(Vec::new());
        each_from(expected[0], |fd| {
            found.borrow_mut().push(fd);
            0
        })
        .unwrap();
        let found = found.into_inner();
        assert!(expected.iter().all(|fd| found.contains(fd)), "{expected:?} {found:?}");
        assert!(found.iter().all(|fd| *fd >= expected[0]), "{found:?}");
    }
}
