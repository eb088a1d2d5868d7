//! Catches the signals that would end or stop this process, until some state has been restored.
//!
//! Knows nothing of the state that has to be restored.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::fs::{OFlags, fcntl_setfl};

/// Signals from outside that end or stop a process, and `SIGCONT`, after which the state may have been changed by
/// others.
const SIGNALS: [libc::c_int; 9] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGTSTP,
    libc::SIGCONT,
    libc::SIGALRM,
    libc::SIGUSR1,
    libc::SIGUSR2,
];

/// The pipe that the handler writes the signals to. Its descriptors stay open as long as the process.
static PIPE: OnceLock<(OwnedFd, OwnedFd)> = OnceLock::new();
/// The write end of the pipe, where the handler can read it.
static WRITER: AtomicI32 = AtomicI32::new(-1);
/// Signal actions apply to the whole process, so only one `CaughtSignals` exists at a time.
static LOCK: Mutex<()> = Mutex::new(());

/// A guard that catches signals. It becomes readable (`poll`) when a signal has arrived, and stays so.
///
/// When it is dropped, each signal gets its former action back, and the signals that have arrived take effect: a
/// process that a signal was to end is then ended by it. A signal that was ignored before stays ignored.
pub struct CaughtSignals {
    before: Vec<(libc::c_int, libc::sigaction)>,
    _guard: MutexGuard<'static, ()>,
}

impl CaughtSignals {
    /// Catches the signals from now on, in every thread.
    ///
    /// # Errors
    /// The error of the operating system if no pipe can be created.
    pub fn catch() -> io::Result<Self> {
        let guard = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        if PIPE.get().is_none() {
            let (reader, writer) = io::pipe()?;
            let (reader, writer) = (OwnedFd::from(reader), OwnedFd::from(writer));
            fcntl_setfl(&reader, OFlags::NONBLOCK)?;
            fcntl_setfl(&writer, OFlags::NONBLOCK)?;
            WRITER.store(writer.as_raw_fd(), Ordering::SeqCst);
            let _ = PIPE.set((reader, writer));
        }
        let mut caught = Self { before: Vec::with_capacity(SIGNALS.len()), _guard: guard };
        for signal in SIGNALS {
            let Some(before) = action_of(signal) else { continue };
            if before.sa_sigaction != libc::SIG_IGN && catch(signal) {
                caught.before.push((signal, before));
            }
        }
        Ok(caught)
    }
}

/// Returns the present action for a signal, or `None` if it cannot be read.
fn action_of(signal: libc::c_int) -> Option<libc::sigaction> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action the call only fills in the one it is given, which is live and of its type.
    let result = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: zeros are a valid action, and on success the call has written a complete one.
    (result == 0).then(|| unsafe { action.assume_init() })
}

/// Installs the handler and returns whether that succeeded. System calls that wait are interrupted (no `SA_RESTART`).
fn catch(signal: libc::c_int) -> bool {
    // SAFETY: zeros are a valid action: no flags, no signal masked.
    let mut action = unsafe { MaybeUninit::<libc::sigaction>::zeroed().assume_init() };
    action.sa_sigaction = note as *const () as libc::sighandler_t;
    // SAFETY: the action is complete, and its handler is async-signal-safe.
    unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) == 0 }
}

/// The signal handler: writes the number of the signal to the pipe.
extern "C" fn note(signal: libc::c_int) {
    // Signal numbers are below 65, so the low byte is enough.
    let byte = signal.to_le_bytes()[0];
    // SAFETY: `write` may be called from a handler, and the location of `errno` may be read there. The byte is live,
    // and the descriptor is open as long as the process. A full pipe refuses the byte, but is readable then anyway.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        libc::write(WRITER.load(Ordering::SeqCst), (&raw const byte).cast(), 1);
        *errno = before;
    }
}

impl AsFd for CaughtSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match PIPE.get() {
            Some((reader, _)) => reader.as_fd(),
            None => unreachable!("`catch` has made it"),
        }
    }
}

impl Drop for CaughtSignals {
    fn drop(&mut self) {
        for (signal, before) in &self.before {
            // SAFETY: the action is the one that was in force before.
            unsafe { libc::sigaction(*signal, before, std::ptr::null_mut()) };
        }
        let mut come = [0; 64];
        while let Ok(count @ 1..) = rustix::io::read(&*self, &mut come) {
            for signal in &come[..count] {
                // SAFETY: sends this process a signal that it has already received; no memory is touched.
                unsafe { libc::kill(libc::getpid(), libc::c_int::from(*signal)) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    static SEEN: AtomicUsize = AtomicUsize::new(0);

    extern "C" fn count(_: libc::c_int) {
        SEEN.fetch_add(1, Ordering::SeqCst);
    }

    fn on(signal: libc::c_int, handler: libc::sighandler_t) {
        // SAFETY: as in `catch`; the handler only counts.
        unsafe {
            let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
            action.sa_sigaction = handler;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }

    fn send(signal: libc::c_int) {
        // SAFETY: sends this process a signal; no memory is touched.
        unsafe { libc::kill(libc::getpid(), signal) };
    }

    /// Waits until this many were counted, because another thread may be the one that receives a signal.
    fn seen(count: usize) {
        while SEEN.load(Ordering::SeqCst) < count {
            std::thread::yield_now();
        }
        assert_eq!(SEEN.load(Ordering::SeqCst), count);
    }

    /// A single test, because signal actions apply to the whole process.
    #[test]
    fn a_caught_signal_takes_effect_afterwards_and_an_ignored_one_never() {
        on(libc::SIGUSR1, count as *const () as libc::sighandler_t);
        on(libc::SIGUSR2, libc::SIG_IGN);
        let caught = CaughtSignals::catch().unwrap();
        send(libc::SIGUSR2);
        send(libc::SIGUSR1);
        assert_eq!(SEEN.load(Ordering::SeqCst), 0);
        drop(caught);
        seen(1);
        send(libc::SIGUSR1);
        seen(2);
        drop(CaughtSignals::catch().unwrap());
        assert_eq!(SEEN.load(Ordering::SeqCst), 2, "it is not sent twice");
    }
}
