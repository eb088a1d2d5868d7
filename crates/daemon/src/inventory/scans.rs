//! Scans of the templates' folders: one at a time, on their own thread, without the inventory's mutex.
//!
//! A caller that has to know what is in the files asks, and waits for a scan that begins after the request: a scan
//! that is already running may have passed the file that matters. All waiting callers share the next scan, and scans
//! begin at least `PACE` apart, so more callers cost no more. A file system that hangs blocks only this thread. Knows
//! nothing of templates.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::schedule::Schedule;

/// Returns the CPU time that this thread has used.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// The least time between the beginnings of two scans.
const PACE: Duration = Duration::from_millis(250);
/// The time without progress after which a scan counts as hanging.
const STILL: Duration = Duration::from_secs(5);

/// The reasons why a request was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScanError {
    /// A scan is running, and did not end in time.
    Slow,
    /// A scan makes no progress.
    Hanging,
    /// The scan ended with a panic.
    Failed,
}

/// The requests for a scan, and how far they are answered.
#[derive(Debug)]
pub(super) struct Scans {
    state: Mutex<ScanState>,
    /// Notified of a request, and at the end of `serve`.
    requested: Condvar,
    /// Notified when a scan has ended.
    finished: Condvar,
    /// Rises while a scan makes progress.
    progress: AtomicU64,
}

#[derive(Debug)]
struct ScanState {
    /// The number of requests so far.
    requests: u64,
    /// The number of requests that were answered, counted from the first.
    completed: u64,
    /// The number of requests made before the last failed scan.
    failed: u64,
    is_running: bool,
    /// The number of scans that began, and the time when the last one did.
    started: (u64, Option<Instant>),
    /// The beginning of the last scan that was completed.
    completed_start: Option<Instant>,
    /// The progress when it was last seen to rise, and the time when that was.
    last_progress: (u64, Instant),
    is_over: bool,
    schedule: Schedule,
}

impl Scans {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        let state = ScanState {
            requests: 0,
            completed: 0,
            failed: 0,
            is_running: false,
            started: (0, None),
            completed_start: None,
            last_progress: (0, now),
            is_over: false,
            schedule: Schedule::new(now),
        };
        Self {
            state: Mutex::new(state),
            requested: Condvar::new(),
            finished: Condvar::new(),
            progress: AtomicU64::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, ScanState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a scan that began after `since` has ended and its result was applied. `since` is the time when the
    /// caller began, so that several requests for one answer need only one scan.
    ///
    /// # Errors
    /// [`ScanError`] if it takes longer than `timeout`, makes no progress, or fails.
    pub(super) fn wait_for_scan(&self, since: Instant, timeout: Duration) -> Result<(), ScanError> {
        let until = Instant::now() + timeout;
        let mut state = self.state();
        let mut request = None;
        loop {
            if state.completed_start.is_some_and(|started| started > since) {
                return Ok(());
            }
            let request = *request.get_or_insert_with(|| {
                state.requests += 1;
                self.requested.notify_one();
                state.requests
            });
            if state.completed >= request {
                return Ok(());
            }
            if state.failed >= request {
                return Err(ScanError::Failed);
            }
            let (now, progress) = (Instant::now(), self.progress.load(Ordering::Relaxed));
            if state.last_progress.0 != progress || !state.is_running {
                state.last_progress = (progress, now);
            }
            let stalled_at = state.last_progress.1 + STILL;
            if now >= stalled_at {
                return Err(ScanError::Hanging);
            }
            if now >= until {
                return Err(ScanError::Slow);
            }
            let wait = stalled_at.min(until) - now;
            state = self.finished.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Notes that a file changed, so other changes are likely soon.
    pub(super) fn file_changed(&self) {
        self.state().schedule.changed(Instant::now());
    }

    /// Returns the time at which the next scan is due if nobody asks before.
    pub(super) fn due(&self) -> Instant {
        self.state().schedule.due()
    }

    /// Returns the number of scans that began so far.
    pub(super) fn started(&self) -> u64 {
        self.state().started.0
    }

    /// Makes [`Self::run`] return, after a scan that is running.
    pub(super) fn stop(&self) {
        self.state().is_over = true;
        self.requested.notify_one();
    }

    /// Runs scans when callers ask, until [`Self::stop`] is called or `scan` returns `None`.
    pub(super) fn run(&self, mut scan: impl FnMut(&AtomicU64) -> Option<()>) {
        loop {
            let Some(mut state) = self.next() else { return };
            let requests = state.requests;
            let started_at = Instant::now();
            state.started = (state.started.0 + 1, Some(started_at));
            state.is_running = true;
            state.last_progress = (self.progress.load(Ordering::Relaxed), Instant::now());
            drop(state);

            let cpu_time = thread_time();
            // Unwinding is safe: the result of a scan is applied as a whole at its end.
            let scanned = catch_unwind(AssertUnwindSafe(|| scan(&self.progress)));
            let cost = thread_time().saturating_sub(cpu_time);

            let mut state = self.state();
            state.is_running = false;
            state.schedule.scanned(Instant::now(), cost);
            match scanned {
                Ok(Some(())) => (state.completed, state.completed_start) = (requests, Some(started_at)),
                Ok(None) => return,
                Err(_) => state.failed = requests,
            }
            drop(state);
            self.finished.notify_all();
        }
    }

    /// Waits until a caller asks and a scan may begin; `None` at the end.
    fn next(&self) -> Option<MutexGuard<'_, ScanState>> {
        let mut state = self.state();
        while !state.is_over {
            let is_requested = state.requests > state.completed.max(state.failed);
            let pause = state.started.1.map_or(Duration::ZERO, |started| PACE.saturating_sub(started.elapsed()));
            state = match is_requested {
                true if pause.is_zero() => return Some(state),
                true => self.requested.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0,
                false => self.requested.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// A scanner whose scans begin and end when the test says so.
    struct Scanner {
        scans: Arc<Scans>,
        /// Gets a message when a scan begins.
        begun: Receiver<()>,
        /// Ends the scan; `false` makes it fail.
        end: Sender<bool>,
    }

    impl Scanner {
        fn new() -> Self {
            let scans = Arc::new(Scans::new());
            let (begin, begun) = channel();
            let (end, ends) = channel();
            let served = Arc::clone(&scans);
            thread::spawn(move || {
                served.run(|_| {
                    begin.send(()).ok()?;
                    assert!(ends.recv().ok()?, "a scan that fails");
                    Some(())
                });
            });
            Self { scans, begun, end }
        }

        fn ask(&self) -> thread::JoinHandle<Result<(), ScanError>> {
            let before = self.scans.state().requests;
            let scans = Arc::clone(&self.scans);
            let asking = thread::spawn(move || scans.wait_for_scan(Instant::now(), LONG));
            while self.scans.state().requests == before {
                thread::yield_now();
            }
            asking
        }
    }

    #[test]
    fn a_scan_that_runs_already_answers_no_question() {
        let scanner = Scanner::new();
        let first = scanner.ask();
        scanner.begun.recv().unwrap();
        let (second, third) = (scanner.ask(), scanner.ask());
        scanner.end.send(true).unwrap();
        assert_eq!(first.join().unwrap(), Ok(()));
        scanner.begun.recv().unwrap();
        assert!(!second.is_finished() && !third.is_finished());
        scanner.end.send(true).unwrap();
        assert_eq!((second.join().unwrap(), third.join().unwrap()), (Ok(()), Ok(())));
        assert!(scanner.begun.try_recv().is_err(), "both share one");
        scanner.scans.stop();
    }

    #[test]
    fn a_scan_that_fails_is_told_and_the_next_one_is_tried() {
        let scanner = Scanner::new();
        let first = scanner.ask();
        scanner.begun.recv().unwrap();
        scanner.end.send(false).unwrap();
        assert_eq!(first.join().unwrap(), Err(ScanError::Failed));
        let second = scanner.ask();
        scanner.begun.recv().unwrap();
        scanner.end.send(true).unwrap();
        assert_eq!(second.join().unwrap(), Ok(()));
        scanner.scans.stop();
    }

    #[test]
    fn nobody_waits_for_a_scan_that_is_known_to_hang() {
        let scanner = Scanner::new();
        let first = scanner.ask();
        scanner.begun.recv().unwrap();
        assert_eq!(scanner.scans.wait_for_scan(Instant::now(), Duration::ZERO), Err(ScanError::Slow));
        // As if the scan had made no progress for that long.
        scanner.scans.state().last_progress.1 -= STILL;
        assert_eq!(scanner.scans.wait_for_scan(Instant::now(), LONG), Err(ScanError::Hanging));
        // The scan makes progress again.
        scanner.scans.progress.fetch_add(1, Ordering::Relaxed);
        assert_eq!(scanner.scans.wait_for_scan(Instant::now(), Duration::ZERO), Err(ScanError::Slow));
        scanner.end.send(true).unwrap();
        assert_eq!(first.join().unwrap(), Ok(()));
        scanner.begun.recv().unwrap();
        scanner.end.send(true).unwrap();
        scanner.scans.stop();
    }

    #[test]
    fn however_many_ask_scans_begin_a_pace_apart() {
        const SCANS: usize = 4;
        let scans = Arc::new(Scans::new());
        let (served, beginnings) = (Arc::clone(&scans), Arc::new(Mutex::new(Vec::new())));
        let noted = Arc::clone(&beginnings);
        thread::spawn(move || {
            served.run(|_| {
                noted.lock().unwrap().push(Instant::now());
                Some(())
            });
        });
        let is_enough = || beginnings.lock().unwrap().len() >= SCANS;
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    while !is_enough() {
                        scans.wait_for_scan(Instant::now(), LONG).unwrap();
                    }
                });
            }
        });
        let beginnings = beginnings.lock().unwrap();
        for pair in beginnings.windows(2) {
            // The test reads the clock a moment after the scan has begun.
            assert!(pair[1] - pair[0] >= PACE - PACE / 10, "{beginnings:?}");
        }
        assert_eq!(scans.started(), beginnings.len() as u64);
        scans.stop();
    }

    #[test]
    fn a_scan_since_the_question_answers_it() {
        let scanner = Scanner::new();
        let since = Instant::now();
        let first = scanner.ask();
        scanner.begun.recv().unwrap();
        scanner.end.send(true).unwrap();
        assert_eq!(first.join().unwrap(), Ok(()));
        assert_eq!(scanner.scans.wait_for_scan(since, Duration::ZERO), Ok(()));
        assert_eq!(scanner.scans.wait_for_scan(Instant::now(), Duration::ZERO), Err(ScanError::Slow));
        scanner.begun.recv().unwrap();
        scanner.end.send(true).unwrap();
        scanner.scans.stop();
    }
}
