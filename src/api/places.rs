//! Who holds the places for connections, so that one caller cannot take them all from the others.
//!
//! Invariant: at most `limit` connections are served at once. When all places are taken, a caller that has
//! fewer than another gets one of the other's: its longest silent connection ends. A caller that has as
//! many as anyone is refused.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A process, by the kernel's word; 0 where the kernel did not say.
type Pid = u32;

/// The places.
pub struct Places {
    limit: usize,
    /// Counts what happens, for an order of events that no clock can disturb.
    moment: AtomicU64,
    held: Mutex<Held>,
    /// Told whenever a place is given back.
    given_back: Notify,
}

#[derive(Default)]
struct Held {
    places: HashMap<u64, (Pid, Arc<State>)>,
    by_caller: HashMap<Pid, usize>,
}

/// What a connection and the table of places both know.
struct State {
    /// When a request was last begun on it.
    active: AtomicU64,
    end: Notify,
}

/// One connection's place; given back when dropped.
pub struct Place {
    places: Arc<Places>,
    number: u64,
    state: Arc<State>,
}

impl Places {
    /// So many.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, moment: AtomicU64::new(0), held: Mutex::default(), given_back: Notify::new() })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection of this caller; `None` when it gets none.
    pub fn take(self: &Arc<Self>, caller: Pid) -> Option<Place> {
        let mut held = self.held();
        if held.places.len() >= self.limit && !held.make_room(caller) {
            return None;
        }
        let number = self.moment.fetch_add(1, Ordering::Relaxed);
        let state = Arc::new(State { active: AtomicU64::new(number), end: Notify::new() });
        held.places.insert(number, (caller, Arc::clone(&state)));
        *held.by_caller.entry(caller).or_default() += 1;
        Some(Place { places: Arc::clone(self), number, state })
    }

    /// Returns when no place is held.
    pub async fn empty(&self) {
        loop {
            let given_back = self.given_back.notified();
            if self.held().places.is_empty() {
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
        let theirs = self.places.iter().filter(|(_, (caller, _))| *caller == greediest);
        let longest = theirs.min_by_key(|(_, (_, state))| state.active.load(Ordering::Relaxed));
        let Some(number) = longest.map(|(number, _)| *number) else { return false };
        self.remove(number);
        true
    }

    /// Takes a place away from its connection, if it still has it.
    fn remove(&mut self, number: u64) {
        let Some((caller, state)) = self.places.remove(&number) else { return };
        state.end.notify_one();
        if let Some(count) = self.by_caller.get_mut(&caller) {
            *count -= 1;
            if *count == 0 {
                self.by_caller.remove(&caller);
            }
        }
    }
}

impl Place {
    /// A request has begun.
    pub fn active(&self) {
        self.state.active.store(self.places.moment.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Returns when somebody else has got the place: the connection has to end.
    pub async fn taken_away(&self) {
        self.state.end.notified().await;
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
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::pin!(place.taken_away()).poll(&mut context).is_ready()
    }

    #[test]
    fn a_caller_that_has_less_gets_the_longest_silent_place_of_the_one_that_has_most() {
        let places = Places::new(4);
        let greedy: Vec<Place> = (0..4).filter_map(|_| places.take(1)).collect();
        assert_eq!(greedy.len(), 4);
        assert!(places.take(1).is_none());
        greedy[0].active();
        let second = places.take(2).unwrap();
        assert_eq!(greedy.iter().map(is_taken_away).collect::<Vec<_>>(), [false, true, false, false]);
        let third = places.take(2).unwrap();
        // Two and two: nobody has more than its share.
        assert!(places.take(2).is_none());
        assert!(places.take(1).is_none());
        // A third caller still gets one.
        let fourth = places.take(3).unwrap();
        assert_ne!(is_taken_away(&greedy[3]), is_taken_away(&second));
        assert_eq!(places.held().places.len(), 4);
        drop((second, third, fourth));
        assert!(places.held().by_caller.keys().eq([&1]));
        drop(greedy);
        assert!(places.held().places.is_empty() && places.held().by_caller.is_empty());
    }
}
