//! Scans of the templates' folders: one at a time, on a thread of their own, and without the inventory's mutex.
//!
//! Whoever has to know what is in the files asks, and waits for a scan that begins after the question: one that runs
//! already may be past the file that matters. All who wait share the next scan, and scans begin `PACE` apart, so however
//! many ask, it costs no more. A file system that hangs holds up the thread and nobody else. Knows nothing of templates.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::schedule::Schedule;

/// Returns for how long this thread has kept a processor busy.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// How long after the beginning of a scan the next one may begin.
const PACE: Duration = Duration::from_millis(250);
/// How long a scan may stand still before it is taken to hang.
const STILL: Duration = Duration::from_secs(5);

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// A scan is under way, and has not come to its end.
    Slow,
    /// It stands still.
    Hanging,
    /// It failed.
    Failed,
}

/// The questions, and how far they are answered.
#[derive(Debug)]
pub(super) struct Scans {
    state: Mutex<State>,
    /// Told of a question, and when it is over.
    asked: Condvar,
    /// Told when a scan has ended.
    ended: Condvar,
    /// Rises while a scan goes on.
    progress: AtomicU64,
}

#[derive(Debug)]
struct State {
    /// How many questions there were.
    asked: u64,
    /// How many of them, from the first on, were answered.
    answered: u64,
    /// How many of them were asked before the last scan that failed.
    failed: u64,
    is_running: bool,
    /// How many scans began, and when the last one did.
    begun: (u64, Option<Instant>),
    /// When the last scan began that came to its end.
    known_at: Option<Instant>,
    /// The progress when somebody last saw it rise, and when that was.
    seen: (u64, Instant),
    is_over: bool,
    schedule: Schedule,
}

impl Scans {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        let state = State {
            asked: 0,
            answered: 0,
            failed: 0,
            is_running: false,
            begun: (0, None),
            known_at: None,
            seen: (0, now),
            is_over: false,
            schedule: Schedule::new(now),
        };
        Self { state: Mutex::new(state), asked: Condvar::new(), ended: Condvar::new(), progress: AtomicU64::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when a scan that began after `since` has ended, and what it found was applied. `since` is when whoever
    /// asks began: several questions for one answer need one scan.
    ///
    /// # Errors
    /// `Unanswered`: it takes longer than `patience`, or does not get on.
    pub(super) fn ask(&self, since: Instant, patience: Duration) -> Result<(), Unanswered> {
        let until = Instant::now() + patience;
        let mut state = self.state();
        let mut question = None;
        loop {
            if state.known_at.is_some_and(|begun| begun > since) {
                return Ok(());
            }
            let question = *question.get_or_insert_with(|| {
                state.asked += 1;
                self.asked.notify_one();
                state.asked
            });
            if state.answered >= question {
                return Ok(());
            }
            if state.failed >= question {
                return Err(Unanswered::Failed);
            }
            let (now, progress) = (Instant::now(), self.progress.load(Ordering::Relaxed));
            if state.seen.0 != progress || !state.is_running {
                state.seen = (progress, now);
            }
            let hangs_at = state.seen.1 + STILL;
            if now >= hangs_at {
                return Err(Unanswered::Hanging);
            }
            if now >= until {
                return Err(Unanswered::Slow);
            }
            let wait = hangs_at.min(until) - now;
            state = self.ended.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Notes that a file changed: the next ones may soon.
    pub(super) fn changed(&self) {
        self.state().schedule.changed(Instant::now());
    }

    /// Returns when the next scan is due, where nobody asks before.
    pub(super) fn due(&self) -> Instant {
        self.state().schedule.due()
    }

    /// Returns how many scans began so far.
    pub(super) fn begun(&self) -> u64 {
        self.state().begun.0
    }

    /// Ends `serve`.
    pub(super) fn end(&self) {
        self.state().is_over = true;
        self.asked.notify_one();
    }

    /// Scans whenever somebody asks, until it is over, or there is nothing to scan any more.
    pub(super) fn serve(&self, mut scan: impl FnMut(&AtomicU64) -> Option<()>) {
        loop {
            let Some(mut state) = self.next() else { return };
            let questions = state.asked;
            let begun_at = Instant::now();
            state.begun = (state.begun.0 + 1, Some(begun_at));
            state.is_running = true;
            state.seen = (self.progress.load(Ordering::Relaxed), Instant::now());
            drop(state);

            let begun = thread_time();
            // What it changes is applied as a whole at its end.
            let scanned = catch_unwind(AssertUnwindSafe(|| scan(&self.progress)));
            let cost = thread_time().saturating_sub(begun);

            let mut state = self.state();
            state.is_running = false;
            state.schedule.scanned(Instant::now(), cost);
            match scanned {
                Ok(Some(())) => (state.answered, state.known_at) = (questions, Some(begun_at)),
                Ok(None) => return,
                Err(_) => state.failed = questions,
            }
            drop(state);
            self.ended.notify_all();
        }
    }

    /// Waits until somebody asks and a scan may begin; `None` when it is over.
    fn next(&self) -> Option<MutexGuard<'_, State>> {
        let mut state = self.state();
        while !state.is_over {
            let is_asked = state.asked > state.answered.max(state.failed);
            let rest = state.begun.1.map_or(Duration::ZERO, |begun| PACE.saturating_sub(begun.elapsed()));
            state = match is_asked {
                true if rest.is_zero() => return Some(state),
                true => self.asked.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0,
                false => self.asked.wait(state).unwrap_or_else(PoisonError::into_inner),
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
        /// Told when a scan begins.
        begun: Receiver<()>,
        /// Ends it: whether it is good.
        end: Sender<bool>,
    }

    impl Scanner {
        fn new() -> Self {
            let scans = Arc::new(Scans::new());
            let (begin, begun) = channel();
            let (end, ends) = channel();
            let served = Arc::clone(&scans);
            thread::spawn(move || {
                served.serve(|_| {
                    begin.send(()).ok()?;
                    assert!(ends.recv().ok()?, "a scan that fails");
                    Some(())
                });
            });
            Self { scans, begun, end }
        }

        fn ask(&self) -> thread::JoinHandle<Result<(), Unanswered>> {
            let before = self.scans.state().asked;
            let scans = Arc::clone(&self.scans);
            let asking = thread::spawn(move || scans.ask(Instant::now(), LONG));
            while self.scans.state().asked == before {
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
        scanner.scans.end();
    }

    #[test]
    fn a_scan_that_fails_is_told_and_the_next_one_is_tried() {
        let scanner = Scanner::new();
        let first = scanner.ask();
        scanner.begun.recv().unwrap();
        scanner.end.send(false).unwrap();
        assert_eq!(first.join().unwrap(), Err(Unanswered::Failed));
        let second = scanner.ask();
        scanner.begun.recv().unwrap();
        scanner.end.send(true).unwrap();
        assert_eq!(second.join().unwrap(), Ok(()));
        scanner.scans.end();
    }

    #[test]
    fn nobody_waits_for_a_scan_that_is_known_to_hang() {
        let scanner = Scanner::new();
        let first = scanner.ask();
        scanner.begun.recv().unwrap();
        assert_eq!(scanner.scans.ask(Instant::now(), Duration::ZERO), Err(Unanswered::Slow));
        // As if somebody had seen it stand still for that long.
        scanner.scans.state().seen.1 -= STILL;
        assert_eq!(scanner.scans.ask(Instant::now(), LONG), Err(Unanswered::Hanging));
        // It gets on again.
        scanner.scans.progress.fetch_add(1, Ordering::Relaxed);
        assert_eq!(scanner.scans.ask(Instant::now(), Duration::ZERO), Err(Unanswered::Slow));
        scanner.end.send(true).unwrap();
        assert_eq!(first.join().unwrap(), Ok(()));
        scanner.begun.recv().unwrap();
        scanner.end.send(true).unwrap();
        scanner.scans.end();
    }

    #[test]
    fn however_many_ask_scans_begin_a_pace_apart() {
        const SCANS: usize = 4;
        let scans = Arc::new(Scans::new());
        let (served, beginnings) = (Arc::clone(&scans), Arc::new(Mutex::new(Vec::new())));
        let noted = Arc::clone(&beginnings);
        thread::spawn(move || {
            served.serve(|_| {
                noted.lock().unwrap().push(Instant::now());
                Some(())
            });
        });
        let is_enough = || beginnings.lock().unwrap().len() >= SCANS;
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    while !is_enough() {
                        scans.ask(Instant::now(), LONG).unwrap();
                    }
                });
            }
        });
        let beginnings = beginnings.lock().unwrap();
        for pair in beginnings.windows(2) {
            // The clock is read a moment after the scan has begun.
            assert!(pair[1] - pair[0] >= PACE - PACE / 10, "{beginnings:?}");
        }
        assert_eq!(scans.begun(), beginnings.len() as u64);
        scans.end();
    }

    #[test]
    fn a_scan_since_the_question_answers_it() {
        let scanner = Scanner::new();
        let since = Instant::now();
        let first = scanner.ask();
        scanner.begun.recv().unwrap();
        scanner.end.send(true).unwrap();
        assert_eq!(first.join().unwrap(), Ok(()));
        assert_eq!(scanner.scans.ask(since, Duration::ZERO), Ok(()));
        assert_eq!(scanner.scans.ask(Instant::now(), Duration::ZERO), Err(Unanswered::Slow));
        scanner.begun.recv().unwrap();
        scanner.end.send(true).unwrap();
        scanner.scans.end();
    }
}
