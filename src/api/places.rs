//! Who holds the places for connections, so that one caller cannot take them all from the others, and what
//! each connection is doing, so that a silent one ends.
//!
//! Invariant: at most `limit` connections are served at once. When all places are taken, a caller that has
//! fewer than another gets one of the other's: its longest silent connection ends. A caller that has as
//! many as anyone is refused.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// A process, by the kernel's word; 0 where the kernel did not say.
type Pid = u32;

/// The places.
pub struct Places {
    limit: usize,
    begin: Instant,
    held: Mutex<Held>,
    /// Told whenever a place is given back.
    given_back: Notify,
}

#[derive(Default)]
struct Held {
    next: u64,
    lines: HashMap<u64, (Pid, Arc<Line>)>,
    by_caller: HashMap<Pid, usize>,
}

/// Why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Somebody else has got its place.
    Taken,
    /// Nothing was asked on it for too long.
    Silent,
    /// The daemon stops: what is under way is answered first.
    Stop,
}

/// What a connection is doing: read by the table of places, without a lock or a timer for each request.
pub struct Line {
    begin: Instant,
    /// Milliseconds from `begin` on which it has been silent since, or one of the two below.
    since: AtomicU64,
    ended: OnceLock<Ended>,
    told: Notify,
}

/// A request is being read or answered.
const BUSY: u64 = u64::MAX;
/// The answer is being written.
const ANSWERED: u64 = u64::MAX - 1;

impl Line {
    fn new(begin: Instant) -> Self {
        let line = Self { begin, since: AtomicU64::new(0), ended: OnceLock::new(), told: Notify::new() };
        line.since.store(line.now(), Ordering::Relaxed);
        line
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(0)
    }

    /// The head of a request has arrived.
    pub fn asked(&self) {
        self.since.store(BUSY, Ordering::Relaxed);
    }

    /// The answer is ready to be written.
    pub fn answered(&self) {
        self.since.store(ANSWERED, Ordering::Relaxed);
    }

    /// All that was to be written has been.
    pub fn flushed(&self) {
        if self.since.load(Ordering::Relaxed) == ANSWERED {
            self.since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// Whether nothing is under way on it.
    pub fn is_silent(&self) -> bool {
        self.since.load(Ordering::Relaxed) < ANSWERED
    }

    /// Returns when the connection has to end, with the first reason.
    pub async fn ended(&self) -> Ended {
        loop {
            self.told.notified().await;
            if let Some(ended) = self.ended.get() {
                return *ended;
            }
        }
    }

    fn end(&self, reason: Ended) {
        let _ = self.ended.set(reason);
        self.told.notify_one();
    }
}

/// One connection's place; given back when dropped.
pub struct Place {
    places: Arc<Places>,
    number: u64,
    /// What the connection is doing.
    pub line: Arc<Line>,
}

impl Places {
    /// So many.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, begin: Instant::now(), held: Mutex::default(), given_back: Notify::new() })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection of this caller; `None` when it gets none.
    pub fn take(self: &Arc<Self>, caller: Pid) -> Option<Place> {
        let mut held = self.held();
        if held.lines.len() >= self.limit && !held.make_room(caller) {
            return None;
        }
        held.next += 1;
        let (number, line) = (held.next, Arc::new(Line::new(self.begin)));
        held.lines.insert(number, (caller, Arc::clone(&line)));
        *held.by_caller.entry(caller).or_default() += 1;
        Some(Place { places: Arc::clone(self), number, line })
    }

    /// Ends connections that have been silent for so long.
    pub fn end_silent(&self, limit: Duration) {
        let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        for (_, line) in self.held().lines.values().filter(|(_, line)| line.is_silent()) {
            if line.now().saturating_sub(line.since.load(Ordering::Relaxed)) >= limit {
                line.end(Ended::Silent);
            }
        }
    }

    /// Ends all connections, and returns when they have ended.
    pub async fn stop(&self) {
        for (_, line) in self.held().lines.values() {
            line.end(Ended::Stop);
        }
        loop {
            let given_back = self.given_back.notified();
            if self.held().lines.is_empty() {
                return;
            }
            given_back.await;
        }
    }
}

impl Held {
    /// Takes a place from the caller that has most, unless this one has as many.
    fn make_room(&mut self, caller: Pid) -> bool {
        let own = self.by_caller.get(&caller).copied().unwrap_or(0);
        let Some((&greediest, &most)) = self.by_caller.iter().max_by_key(|(_, count)| **count) else { return false };
        if most <= own + 1 {
            return false;
        }
        let theirs = self.lines.iter().filter(|(_, (caller, _))| *caller == greediest);
        let longest = theirs.min_by_key(|(number, (_, line))| (line.since.load(Ordering::Relaxed), **number));
        let Some((number, line)) = longest.map(|(number, (_, line))| (*number, Arc::clone(line))) else { return false };
        line.end(Ended::Taken);
        self.remove(number);
        true
    }

    /// Frees a place, if it is still held.
    fn remove(&mut self, number: u64) {
        let Some((caller, _)) = self.lines.remove(&number) else { return };
        if let Some(count) = self.by_caller.get_mut(&caller) {
            *count -= 1;
            if *count == 0 {
                self.by_caller.remove(&caller);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.held().remove(self.number);
        self.places.given_back.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_taken_away(place: &Place) -> bool {
        place.line.ended.get() == Some(&Ended::Taken)
    }

    #[test]
    fn a_caller_that_has_less_gets_the_longest_silent_place_of_the_one_that_has_most() {
        let places = Places::new(4);
        let greedy: Vec<Place> = (0..4).filter_map(|_| places.take(1)).collect();
        assert_eq!(greedy.len(), 4);
        assert!(places.take(1).is_none());
        greedy[0].line.asked();
        let second = places.take(2).unwrap();
        assert_eq!(greedy.iter().map(is_taken_away).collect::<Vec<_>>(), [false, true, false, false]);
        let third = places.take(2).unwrap();
        // Two and two: nobody has more than its share.
        assert!(places.take(2).is_none());
        assert!(places.take(1).is_none());
        // A third caller still gets one.
        let fourth = places.take(3).unwrap();
        assert_ne!(is_taken_away(&greedy[3]), is_taken_away(&second));
        assert_eq!(places.held().lines.len(), 4);
        drop((second, third, fourth));
        assert!(places.held().by_caller.keys().eq([&1]));
        drop(greedy);
        assert!(places.held().lines.is_empty() && places.held().by_caller.is_empty());
    }

    #[test]
    fn only_silence_ends_a_connection() {
        let places = Places::new(2);
        let (busy, silent) = (places.take(1).unwrap(), places.take(1).unwrap());
        busy.line.asked();
        places.end_silent(Duration::ZERO);
        assert_eq!((busy.line.ended.get(), silent.line.ended.get()), (None, Some(&Ended::Silent)));
        busy.line.answered();
        assert!(!busy.line.is_silent());
        busy.line.flushed();
        assert!(busy.line.is_silent());
        places.end_silent(Duration::from_secs(60));
        assert_eq!(busy.line.ended.get(), None);
    }

    #[tokio::test]
    async fn a_stop_waits_for_the_last_place() {
        let places = Places::new(1);
        let place = places.take(1).unwrap();
        let stopping = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.stop().await }
        });
        assert_eq!(place.line.ended().await, Ended::Stop);
        assert!(!stopping.is_finished());
        drop(place);
        stopping.await.unwrap();
    }
}
