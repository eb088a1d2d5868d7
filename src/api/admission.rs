//! Who holds the admission for connections, so that one caller cannot take them all from the others, and what
//! each connection is doing, so that a silent one ends.
//!
//! Invariant: at most `limit` connections are served at once. When all admission are taken, a caller that has
//! fewer than another gets one of the other's: its longest silent connection ends. A caller that has as
//! many as anyone is refused.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// A process, by the kernel's word; 0 where the kernel did not say.
type Pid = u32;

/// The admission.
pub struct Admission {
    limit: usize,
    begin: Instant,
    held: Mutex<Held>,
    /// Told whenever a slot is given back.
    given_back: Notify,
}

#[derive(Default)]
struct Held {
    next: u64,
    open: HashMap<u64, (Pid, Arc<ConnectionState>)>,
    by_caller: HashMap<Pid, usize>,
}

/// Why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Somebody else has got its slot.
    Taken,
    /// Nothing was asked on it for too long.
    Silent,
    /// The daemon stops: what is under way is answered first.
    Stop,
}

/// What a connection is doing: read by the table of admission, without a lock or a timer for each request.
pub struct ConnectionState {
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

impl ConnectionState {
    fn new(begin: Instant) -> Self {
        let state = Self { begin, since: AtomicU64::new(0), ended: OnceLock::new(), told: Notify::new() };
        state.since.store(state.now(), Ordering::Relaxed);
        state
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

/// One connection's slot; given back when dropped.
pub struct Slot {
    admission: Arc<Admission>,
    number: u64,
    /// What the connection is doing.
    pub state: Arc<ConnectionState>,
}

impl Admission {
    /// So many.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, begin: Instant::now(), held: Mutex::default(), given_back: Notify::new() })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A slot for a connection of this caller; `None` when it gets none.
    pub fn take(self: &Arc<Self>, caller: Pid) -> Option<Slot> {
        let mut held = self.held();
        if held.open.len() >= self.limit && !held.make_room(caller) {
            return None;
        }
        held.next += 1;
        let (number, state) = (held.next, Arc::new(ConnectionState::new(self.begin)));
        held.open.insert(number, (caller, Arc::clone(&state)));
        *held.by_caller.entry(caller).or_default() += 1;
        Some(Slot { admission: Arc::clone(self), number, state })
    }

    /// Ends connections that have been silent for so long.
    pub fn end_silent(&self, limit: Duration) {
        let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        for (_, state) in self.held().open.values().filter(|(_, state)| state.is_silent()) {
            if state.now().saturating_sub(state.since.load(Ordering::Relaxed)) >= limit {
                state.end(Ended::Silent);
            }
        }
    }

    /// Ends all connections, and returns when they have ended.
    pub async fn stop(&self) {
        for (_, state) in self.held().open.values() {
            state.end(Ended::Stop);
        }
        loop {
            let given_back = self.given_back.notified();
            if self.held().open.is_empty() {
                return;
            }
            given_back.await;
        }
    }
}

impl Held {
    /// Takes a slot from the caller that has most, unless this one has as many.
    fn make_room(&mut self, caller: Pid) -> bool {
        let own = self.by_caller.get(&caller).copied().unwrap_or(0);
        let Some((&greediest, &most)) = self.by_caller.iter().max_by_key(|(_, count)| **count) else { return false };
        if most <= own + 1 {
            return false;
        }
        let theirs = self.open.iter().filter(|(_, (caller, _))| *caller == greediest);
        let longest = theirs.min_by_key(|(number, (_, state))| (state.since.load(Ordering::Relaxed), **number));
        let Some((number, state)) = longest.map(|(number, (_, state))| (*number, Arc::clone(state))) else {
            return false;
        };
        state.end(Ended::Taken);
        self.remove(number);
        true
    }

    /// Frees a slot, if it is still held.
    fn remove(&mut self, number: u64) {
        let Some((caller, _)) = self.open.remove(&number) else { return };
        if let Some(count) = self.by_caller.get_mut(&caller) {
            *count -= 1;
            if *count == 0 {
                self.by_caller.remove(&caller);
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.admission.held().remove(self.number);
        self.admission.given_back.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_taken_away(slot: &Slot) -> bool {
        slot.state.ended.get() == Some(&Ended::Taken)
    }

    #[test]
    fn a_caller_that_has_less_gets_the_longest_silent_place_of_the_one_that_has_most() {
        let admission = Admission::new(4);
        let greedy: Vec<Slot> = (0..4).filter_map(|_| admission.take(1)).collect();
        assert_eq!(greedy.len(), 4);
        assert!(admission.take(1).is_none());
        greedy[0].state.asked();
        let second = admission.take(2).unwrap();
        assert_eq!(greedy.iter().map(is_taken_away).collect::<Vec<_>>(), [false, true, false, false]);
        let third = admission.take(2).unwrap();
        // Two and two: nobody has more than its share.
        assert!(admission.take(2).is_none());
        assert!(admission.take(1).is_none());
        // A third caller still gets one.
        let fourth = admission.take(3).unwrap();
        assert_ne!(is_taken_away(&greedy[3]), is_taken_away(&second));
        assert_eq!(admission.held().open.len(), 4);
        drop((second, third, fourth));
        assert!(admission.held().by_caller.keys().eq([&1]));
        drop(greedy);
        assert!(admission.held().open.is_empty() && admission.held().by_caller.is_empty());
    }

    #[test]
    fn only_silence_ends_a_connection() {
        let admission = Admission::new(2);
        let (busy, silent) = (admission.take(1).unwrap(), admission.take(1).unwrap());
        busy.state.asked();
        admission.end_silent(Duration::ZERO);
        assert_eq!((busy.state.ended.get(), silent.state.ended.get()), (None, Some(&Ended::Silent)));
        busy.state.answered();
        assert!(!busy.state.is_silent());
        busy.state.flushed();
        assert!(busy.state.is_silent());
        admission.end_silent(Duration::from_secs(60));
        assert_eq!(busy.state.ended.get(), None);
    }

    #[tokio::test]
    async fn a_stop_waits_for_the_last_place() {
        let admission = Admission::new(1);
        let slot = admission.take(1).unwrap();
        let stopping = tokio::spawn({
            let admission = Arc::clone(&admission);
            async move { admission.stop().await }
        });
        assert_eq!(slot.state.ended().await, Ended::Stop);
        assert!(!stopping.is_finished());
        drop(slot);
        stopping.await.unwrap();
    }
}
