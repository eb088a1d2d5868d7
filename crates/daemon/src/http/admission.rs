//! Who holds the slots for connections, so that no user takes them all from the others, and what each connection is
//! doing, so that only an idle one ends.
//!
//! Knows users and processes by their numbers. Must not know what they may do, nor what they ask.
//!
//! Invariant: at most `limit` connections are served at once, and a quarter of them stays free for the owner
//! ([`Shares`]). Where a newcomer finds no slot, an idle connection ends for it: one of the user that holds most, of that
//! user's process that has most, the one that has been idle for longest. A newcomer whose user and process hold as much
//! as anyone is refused. A connection with a request on it is never ended for another.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use crate::shares::Shares;

/// Who connects: a process of a user, by the kernel's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    /// Its user.
    pub uid: u32,
    /// Its process; 0 where the kernel did not say.
    pub pid: u32,
}

/// Why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Another caller has its slot.
    Taken,
    /// Nothing was asked on it for too long.
    Silent,
    /// Its peer lost the right to it.
    Forbidden,
    /// The daemon stops: requests under way are answered first.
    Stop,
}

/// The slots. `T` is what is known of a connection beside its holder.
pub struct Admission<T> {
    begin: Instant,
    limit: usize,
    table: Mutex<Table<T>>,
    /// Told whenever a slot has been given back.
    given_back: Notify,
}

struct Table<T> {
    next: u64,
    shares: Shares,
    entries: HashMap<u64, Entry<T>>,
    by_process: HashMap<Holder, usize>,
    /// Connections that are there, also those that are just ending.
    open: usize,
}

struct Entry<T> {
    holder: Holder,
    about: T,
    streams: bool,
    state: Arc<ConnectionState>,
}

/// One connection's slot; given back when dropped.
pub struct Slot<T> {
    admission: Arc<Admission<T>>,
    number: u64,
    /// Ends when the connection that had this slot has ended.
    former: Option<oneshot::Receiver<()>>,
    /// What the connection is doing.
    pub state: Arc<ConnectionState>,
}

impl<T> Admission<T> {
    /// Returns so many slots, a quarter of them for this user alone.
    pub fn new(limit: usize, owner: u32) -> Arc<Self> {
        let table = Table {
            next: 0,
            shares: Shares::new(limit, owner),
            entries: HashMap::new(),
            by_process: HashMap::new(),
            open: 0,
        };
        Arc::new(Self { begin: Instant::now(), limit, table: Mutex::new(table), given_back: Notify::new() })
    }

    fn table(&self) -> MutexGuard<'_, Table<T>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a slot for a connection of this holder; `None` when it gets none.
    pub fn take(self: &Arc<Self>, holder: Holder, about: T) -> Option<Slot<T>> {
        let mut table = self.table();
        let former = if table.shares.available(holder.uid) == 0 { Some(table.make_room(holder)?) } else { None };
        table.next += 1;
        let (number, state) = (table.next, Arc::new(ConnectionState::new(self.begin)));
        table.shares.add(holder.uid, 1);
        *table.by_process.entry(holder).or_default() += 1;
        table.open += 1;
        table.entries.insert(number, Entry { holder, about, streams: false, state: Arc::clone(&state) });
        Some(Slot { admission: Arc::clone(self), number, former, state })
    }

    /// Ends connections that have been idle, or have been sending one head, for so long.
    pub fn end_silent(&self, limit: Duration) {
        let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        for entry in self.table().entries.values() {
            entry.state.end_if_silent(limit);
        }
    }

    /// Ends the idle connections and the streams for which this says so: it is given what is known of one, and whether
    /// it is a stream. Returns the numbers of the streams, for `have_ended`.
    pub fn end_forbidden(&self, is_forbidden: impl Fn(&T, bool) -> bool) -> Vec<u64> {
        let mut streams = Vec::new();
        for (number, entry) in &self.table().entries {
            if !is_forbidden(&entry.about, entry.streams) {
                continue;
            }
            if entry.streams {
                entry.state.end(Ended::Forbidden);
                streams.push(*number);
            } else {
                entry.state.end_if_idle(Ended::Forbidden);
            }
        }
        streams
    }

    /// Returns when the connections with these numbers are gone.
    pub async fn have_ended(&self, numbers: &[u64]) {
        loop {
            let given_back = self.given_back.notified();
            if numbers.iter().all(|number| !self.table().entries.contains_key(number)) {
                return;
            }
            given_back.await;
        }
    }

    /// Ends all connections, and returns when they have ended.
    pub async fn stop(&self) {
        for entry in self.table().entries.values() {
            entry.state.end(Ended::Stop);
        }
        loop {
            let given_back = self.given_back.notified();
            if self.table().open == 0 {
                return;
            }
            given_back.await;
        }
    }
}

impl<T> Table<T> {
    /// Ends an idle connection in favour of this holder; gives what ends when that one is gone.
    fn make_room(&mut self, holder: Holder) -> Option<oneshot::Receiver<()>> {
        let shared = |uid| self.shares.shared_by(uid);
        let processes = |holder: &Holder| self.by_process.get(holder).copied().unwrap_or(0);
        let (own, own_process) = (shared(holder.uid), processes(&holder));
        let has_more = |other: &Holder| {
            if other.uid == holder.uid { processes(other) > own_process } else { shared(other.uid) > own }
        };
        loop {
            let idle =
                self.entries.iter().filter_map(|(number, entry)| Some((entry, entry.state.idle_since()?, number)));
            let (entry, _, number) =
                idle.filter(|(entry, ..)| has_more(&entry.holder)).max_by_key(|(entry, since, number)| {
                    (shared(entry.holder.uid), processes(&entry.holder), Reverse(*since), Reverse(**number))
                })?;
            let (gone, former) = oneshot::channel();
            // Where a request has arrived this very moment, another one has to end.
            if entry.state.end_if_idle(Ended::Taken) {
                let _ = entry.state.successor.set(gone);
                let number = *number;
                self.remove(number);
                return Some(former);
            }
        }
    }

    /// Frees a slot, if it is still held.
    fn remove(&mut self, number: u64) {
        let Some(Entry { holder, .. }) = self.entries.remove(&number) else { return };
        self.shares.remove(holder.uid, 1);
        if let Some(count) = self.by_process.get_mut(&holder) {
            *count -= 1;
            if *count == 0 {
                self.by_process.remove(&holder);
            }
        }
    }
}

impl<T> Slot<T> {
    /// Waits until the connection that had this slot has ended, for so long; whether it has.
    pub async fn is_free(&mut self, within: Duration) -> bool {
        match self.former.take() {
            // Nothing is ever sent: this ends with the other connection.
            Some(former) => tokio::time::timeout(within, former).await.is_ok(),
            None => true,
        }
    }

    /// Notes that an answer without an end begins on this connection; whether it may.
    ///
    /// A stream is under way for as long as it lasts, so they are counted: a user has an eighth of all slots for them
    /// (half of what is kept for the owner), and all users but the owner half of what they share.
    pub fn stream(&self) -> bool {
        let mut table = self.admission.table();
        let limit = self.admission.limit;
        let Some(uid) = table.entries.get(&self.number).map(|entry| entry.holder.uid) else { return false };
        let streams = || table.entries.values().filter(|entry| entry.streams).map(|entry| entry.holder.uid);
        let owner = table.shares.owner();
        let own = streams().filter(|other| *other == uid).count();
        let others = streams().filter(|other| *other != owner).count();
        if own >= (limit / 8).max(1) || uid != owner && others >= ((limit - table.shares.reserved()) / 2).max(1) {
            return false;
        }
        if let Some(entry) = table.entries.get_mut(&self.number) {
            entry.streams = true;
        }
        true
    }

    /// Whether an answer without an end is under way on this connection.
    pub fn streams(&self) -> bool {
        self.admission.table().entries.get(&self.number).is_some_and(|entry| entry.streams)
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        let mut table = self.admission.table();
        table.remove(self.number);
        table.open -= 1;
        drop(table);
        self.admission.given_back.notify_waiters();
    }
}

/// What a connection is doing: read by the table of slots, without a lock or a timer for each request.
pub struct ConnectionState {
    begin: Instant,
    /// Milliseconds from `begin` since which it has been idle, or one of those below.
    now: AtomicU64,
    ended: OnceLock<Ended>,
    told: Notify,
    /// Dropped with this: the connection that gets the slot of this one waits for that.
    successor: OnceLock<oneshot::Sender<()>>,
}

/// Set beside the time while a request's head arrives.
const READING: u64 = 1 << 62;
/// A request is being read or answered.
const BUSY: u64 = u64::MAX;
/// The answer is being written.
const ANSWERED: u64 = u64::MAX - 1;
/// It has been ended while it was idle: nothing more is read, but for what had arrived before.
const ENDED: u64 = u64::MAX - 2;

/// What a connection may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It was idle, and is so again where nothing comes ([`ConnectionState::nothing_read`]).
    FromIdle,
    /// It was under way.
    More,
    /// Nothing, but for what the system has of it already.
    Rest,
}

impl ConnectionState {
    fn new(begin: Instant) -> Self {
        let state = Self {
            begin,
            now: AtomicU64::new(0),
            ended: OnceLock::new(),
            told: Notify::new(),
            successor: OnceLock::new(),
        };
        state.now.store(state.elapsed(), Ordering::Relaxed);
        state
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(0).min(READING - 1)
    }

    /// Notes that something is about to be read: from here on it is not idle, so that no request is lost between the
    /// system's buffer and ours.
    pub fn reading(&self) -> Reading {
        let now = self.now.load(Ordering::Acquire);
        let begun =
            now < READING && self.now.compare_exchange(now, now | READING, Ordering::AcqRel, Ordering::Acquire).is_ok();
        match self.now.load(Ordering::Acquire) {
            _ if begun => Reading::FromIdle,
            ENDED => Reading::Rest,
            _ => Reading::More,
        }
    }

    /// Notes that nothing came: it is idle again, since when it was before.
    pub fn nothing_read(&self) {
        let now = self.now.load(Ordering::Acquire);
        if (READING..ENDED).contains(&now) {
            let _ = self.now.compare_exchange(now, now & !READING, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    /// Notes that a request had arrived before its connection was ended: it is answered as the last one.
    pub fn rest_arrived(&self) {
        self.now.store(self.elapsed() | READING, Ordering::Release);
    }

    /// Notes that the head of a request has arrived.
    pub fn asked(&self) {
        self.now.store(BUSY, Ordering::Release);
    }

    /// Notes that the answer is ready to be written.
    pub fn answered(&self) {
        self.now.store(ANSWERED, Ordering::Release);
    }

    /// Notes that all that was to be written has been.
    pub fn flushed(&self) {
        if self.now.load(Ordering::Acquire) == ANSWERED {
            self.now.store(self.elapsed(), Ordering::Release);
        }
    }

    /// Whether a request is being answered on it.
    pub fn is_busy(&self) -> bool {
        self.now.load(Ordering::Acquire) >= ANSWERED
    }

    /// Whether, once ended, it still has to be waited for: a request is under way, or may have arrived unread. A part of
    /// a head is nothing to wait for.
    pub fn has_rest(&self) -> bool {
        let now = self.now.load(Ordering::Acquire);
        let idle = now < READING && self.now.compare_exchange(now, ENDED, Ordering::AcqRel, Ordering::Acquire).is_ok();
        idle || self.now.load(Ordering::Acquire) >= ENDED
    }

    /// Whether it ends, if not at once then with the request that is under way.
    pub fn is_last(&self) -> bool {
        self.ended.get().is_some()
    }

    /// Returns when the connection has to end, with the first reason.
    pub async fn ended(&self) -> Ended {
        loop {
            if let Some(ended) = self.ended.get() {
                return *ended;
            }
            self.told.notified().await;
        }
    }

    fn idle_since(&self) -> Option<u64> {
        let now = self.now.load(Ordering::Acquire);
        (now < READING).then_some(now)
    }

    /// Ends it, whatever it is doing.
    fn end(&self, reason: Ended) {
        let _ = self.ended.set(reason);
        self.told.notify_one();
    }

    /// Ends it where it is idle; whether it was.
    fn end_if_idle(&self, reason: Ended) -> bool {
        let Some(since) = self.idle_since() else { return false };
        let ended = self.now.compare_exchange(since, ENDED, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if ended {
            self.end(reason);
        }
        ended
    }

    /// Ends it where it has been idle, or has been sending one head, for so many milliseconds.
    fn end_if_silent(&self, limit: u64) {
        let now = self.now.load(Ordering::Acquire);
        if now >= ENDED || self.elapsed().saturating_sub(now & !READING) < limit {
            return;
        }
        // What arrives of a head now comes too late; one that has arrived is answered.
        if now < READING {
            self.end_if_idle(Ended::Silent);
        } else {
            self.end(Ended::Silent);
        }
    }
}

#[cfg(test)]
mod tests;
