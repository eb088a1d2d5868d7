//! Gives out the slots for connections, so that no user takes them all, and knows what each connection is doing, so
//! that only an idle one is ended.
//!
//! Knows users and processes by their numbers. Must not know their rights or what they ask for.
//!
//! Invariant (Fair): at most `limit` connections are served at once, and a quarter of them is reserved for the owner
//! ([`Shares`]). If no slot is free for a new connection, an idle one is ended: of the user with the most connections,
//! of that user's process with the most, the one that was idle longest. A new connection is refused if no other user or
//! process has more connections than its own. A connection with a request on it is never ended for another one.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use crate::shares::Shares;

/// The holder of a slot: a process of a user, as reported by the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotHolder {
    /// The user id of the peer.
    pub uid: u32,
    /// The process id of the peer; 0 if the kernel did not report it.
    pub pid: u32,
}

/// The reason why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// Another connection gets its slot.
    Taken,
    /// No request has arrived on it for too long.
    Silent,
    /// The peer lost the right to it.
    Forbidden,
    /// The daemon stops. Requests in progress are answered first.
    Stop,
}

/// The slots for connections. `T` is what is known of a connection besides its holder.
pub struct Admission<T> {
    started: Instant,
    limit: usize,
    table: Mutex<Table<T>>,
    /// Notified whenever a slot is given back.
    released: Notify,
}

struct Table<T> {
    next: u64,
    shares: Shares,
    entries: HashMap<u64, Entry<T>>,
    by_process: HashMap<SlotHolder, usize>,
    /// The number of open connections, including those that are just ending.
    open: usize,
}

struct Entry<T> {
    holder: SlotHolder,
    info: T,
    streams: bool,
    state: Arc<ConnectionState>,
}

/// The slot of one connection, which is given back on drop.
pub struct ConnectionSlot<T> {
    admission: Arc<Admission<T>>,
    number: u64,
    /// Resolves when the connection that had this slot before has ended.
    predecessor: Option<oneshot::Receiver<()>>,
    /// What the connection is doing at the moment.
    pub state: Arc<ConnectionState>,
}

impl<T> Admission<T> {
    /// Makes `limit` slots, a quarter of them reserved for the user `owner`.
    pub fn new(limit: usize, owner: u32) -> Arc<Self> {
        let table = Table {
            next: 0,
            shares: Shares::new(limit, owner),
            entries: HashMap::new(),
            by_process: HashMap::new(),
            open: 0,
        };
        Arc::new(Self { started: Instant::now(), limit, table: Mutex::new(table), released: Notify::new() })
    }

    fn table(&self) -> MutexGuard<'_, Table<T>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a slot for a connection of this holder, or `None` if it gets none.
    pub fn admit(self: &Arc<Self>, holder: SlotHolder, info: T) -> Option<ConnectionSlot<T>> {
        let mut table = self.table();
        let predecessor = if table.shares.available(holder.uid) == 0 { Some(table.make_room(holder)?) } else { None };
        table.next += 1;
        let (number, state) = (table.next, Arc::new(ConnectionState::new(self.started)));
        table.shares.add(holder.uid, 1);
        *table.by_process.entry(holder).or_default() += 1;
        table.open += 1;
        table.entries.insert(number, Entry { holder, info, streams: false, state: Arc::clone(&state) });
        Some(ConnectionSlot { admission: Arc::clone(self), number, predecessor, state })
    }

    /// Ends connections that have been idle, or have been sending one head, for `limit`.
    pub fn end_silent(&self, limit: Duration) {
        let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        for entry in self.table().entries.values() {
            entry.state.end_if_silent(limit);
        }
    }

    /// Ends the idle connections and the streams for which `is_forbidden` returns true. It gets what is known of a
    /// connection, and whether the connection is a stream. Returns the numbers of the ended streams, for
    /// [`Self::have_ended`].
    pub fn end_forbidden(&self, is_forbidden: impl Fn(&T, bool) -> bool) -> Vec<u64> {
        let mut streams = Vec::new();
        for (number, entry) in &self.table().entries {
            if !is_forbidden(&entry.info, entry.streams) {
                continue;
            }
            if entry.streams {
                entry.state.end(EndReason::Forbidden);
                streams.push(*number);
            } else {
                entry.state.end_if_idle(EndReason::Forbidden);
            }
        }
        streams
    }

    /// Returns when the connections with these numbers are gone.
    pub async fn have_ended(&self, numbers: &[u64]) {
        loop {
            let released = self.released.notified();
            if numbers.iter().all(|number| !self.table().entries.contains_key(number)) {
                return;
            }
            released.await;
        }
    }

    /// Ends all connections, and returns when they are gone.
    pub async fn stop(&self) {
        for entry in self.table().entries.values() {
            entry.state.end(EndReason::Stop);
        }
        loop {
            let released = self.released.notified();
            if self.table().open == 0 {
                return;
            }
            released.await;
        }
    }
}

impl<T> Table<T> {
    /// Ends an idle connection to make room for this holder. Returns a receiver that resolves when that connection is
    /// gone.
    fn make_room(&mut self, holder: SlotHolder) -> Option<oneshot::Receiver<()>> {
        let shared = |uid| self.shares.shared_by(uid);
        let processes = |holder: &SlotHolder| self.by_process.get(holder).copied().unwrap_or(0);
        let (own_count, own_process) = (shared(holder.uid), processes(&holder));
        let has_more = |other: &SlotHolder| {
            if other.uid == holder.uid { processes(other) > own_process } else { shared(other.uid) > own_count }
        };
        loop {
            let idle =
                self.entries.iter().filter_map(|(number, entry)| Some((entry, entry.state.idle_since()?, number)));
            let (entry, _, number) =
                idle.filter(|(entry, ..)| has_more(&entry.holder)).max_by_key(|(entry, since, number)| {
                    (shared(entry.holder.uid), processes(&entry.holder), Reverse(*since), Reverse(**number))
                })?;
            let (done, predecessor) = oneshot::channel();
            // If a request has arrived on it at this very moment, another connection has to end.
            if entry.state.end_if_idle(EndReason::Taken) {
                let _ = entry.state.successor.set(done);
                let number = *number;
                self.remove(number);
                return Some(predecessor);
            }
        }
    }

    /// Frees a slot if it is still in use.
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

impl<T> ConnectionSlot<T> {
    /// Waits until the connection that had this slot before has ended. Returns whether it did so in time.
    pub async fn is_free(&mut self, within: Duration) -> bool {
        match self.predecessor.take() {
            // Nothing is ever sent: the channel closes when the other connection ends.
            Some(predecessor) => tokio::time::timeout(within, predecessor).await.is_ok(),
            None => true,
        }
    }

    /// Notes that an endless response begins on this connection. Returns whether that is allowed.
    ///
    /// A stream keeps its slot busy for as long as it lasts, so streams are limited: each user may use an eighth of all
    /// slots for them (half of what is reserved for the owner), and all users but the owner together half of the slots
    /// that they share.
    pub fn begin_stream(&self) -> bool {
        let mut table = self.admission.table();
        let limit = self.admission.limit;
        let Some(uid) = table.entries.get(&self.number).map(|entry| entry.holder.uid) else { return false };
        let streams = || table.entries.values().filter(|entry| entry.streams).map(|entry| entry.holder.uid);
        let owner = table.shares.owner();
        let own_count = streams().filter(|other| *other == uid).count();
        let other_count = streams().filter(|other| *other != owner).count();
        if own_count >= (limit / 8).max(1)
            || uid != owner && other_count >= ((limit - table.shares.reserved()) / 2).max(1)
        {
            return false;
        }
        if let Some(entry) = table.entries.get_mut(&self.number) {
            entry.streams = true;
        }
        true
    }

    /// Returns whether an endless response is in progress on this connection.
    pub fn is_streaming(&self) -> bool {
        self.admission.table().entries.get(&self.number).is_some_and(|entry| entry.streams)
    }
}

impl<T> Drop for ConnectionSlot<T> {
    fn drop(&mut self) {
        let mut table = self.admission.table();
        table.remove(self.number);
        table.open -= 1;
        drop(table);
        self.admission.released.notify_waiters();
    }
}

/// The state of a connection. The table of slots reads it; updating it takes no lock and no timer for a request.
pub struct ConnectionState {
    started: Instant,
    /// Milliseconds from `started` to when the connection became idle, or one of the constants below.
    now: AtomicU64,
    end_reason: OnceLock<EndReason>,
    end_requested: Notify,
    /// Dropped together with this state: the connection that gets this one's slot waits for that.
    successor: OnceLock<oneshot::Sender<()>>,
}

/// Set in addition to the time while the head of a request arrives.
const READING: u64 = 1 << 62;
/// A request is being read or answered.
const BUSY: u64 = u64::MAX;
/// The response is being written.
const ANSWERED: u64 = u64::MAX - 1;
/// The connection was ended while idle. Nothing more is read except data that had arrived before.
const ENDED: u64 = u64::MAX - 2;

/// How much a connection may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadAllowance {
    /// It was idle, and is idle again if nothing arrives ([`ConnectionState::nothing_read`]).
    FromIdle,
    /// A request is in progress, so it may read more.
    More,
    /// It may read only what had arrived before it was ended.
    Rest,
}

impl ConnectionState {
    fn new(started: Instant) -> Self {
        let state = Self {
            started,
            now: AtomicU64::new(0),
            end_reason: OnceLock::new(),
            end_requested: Notify::new(),
            successor: OnceLock::new(),
        };
        state.now.store(state.elapsed(), Ordering::Relaxed);
        state
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(0).min(READING - 1)
    }

    /// Notes that a read begins. From here on the connection is not idle, so that no request is lost between the
    /// system's buffer and ours.
    pub fn begin_read(&self) -> ReadAllowance {
        let now = self.now.load(Ordering::Acquire);
        let has_started =
            now < READING && self.now.compare_exchange(now, now | READING, Ordering::AcqRel, Ordering::Acquire).is_ok();
        match self.now.load(Ordering::Acquire) {
            _ if has_started => ReadAllowance::FromIdle,
            ENDED => ReadAllowance::Rest,
            _ => ReadAllowance::More,
        }
    }

    /// Notes that nothing arrived: the connection is idle again, since the same time as before.
    pub fn nothing_read(&self) {
        let now = self.now.load(Ordering::Acquire);
        if (READING..ENDED).contains(&now) {
            let _ = self.now.compare_exchange(now, now & !READING, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    /// Notes that a request had arrived before its connection was ended. It is answered as the last one.
    pub fn rest_arrived(&self) {
        self.now.store(self.elapsed() | READING, Ordering::Release);
    }

    /// Notes that the head of a request has arrived.
    pub fn request_arrived(&self) {
        self.now.store(BUSY, Ordering::Release);
    }

    /// Notes that the response is ready to be written.
    pub fn response_ready(&self) {
        self.now.store(ANSWERED, Ordering::Release);
    }

    /// Notes that everything has been written, which makes the connection idle after a response.
    pub fn all_written(&self) {
        if self.now.load(Ordering::Acquire) == ANSWERED {
            self.now.store(self.elapsed(), Ordering::Release);
        }
    }

    /// Returns whether a request is being answered.
    pub fn is_busy(&self) -> bool {
        self.now.load(Ordering::Acquire) >= ANSWERED
    }

    /// Returns whether an ended connection still has to be waited for: a request is in progress, or may have arrived
    /// unread. A part of a head is not worth waiting for.
    pub fn has_rest(&self) -> bool {
        let now = self.now.load(Ordering::Acquire);
        let idle = now < READING && self.now.compare_exchange(now, ENDED, Ordering::AcqRel, Ordering::Acquire).is_ok();
        idle || self.now.load(Ordering::Acquire) >= ENDED
    }

    /// Returns whether the connection ends, at once or after the request in progress.
    pub fn is_last(&self) -> bool {
        self.end_reason.get().is_some()
    }

    /// Returns when the connection has to end, with the first reason for it.
    pub async fn wait_for_end(&self) -> EndReason {
        loop {
            if let Some(reason) = self.end_reason.get() {
                return *reason;
            }
            self.end_requested.notified().await;
        }
    }

    fn idle_since(&self) -> Option<u64> {
        let now = self.now.load(Ordering::Acquire);
        (now < READING).then_some(now)
    }

    /// Ends the connection, whatever it is doing.
    fn end(&self, reason: EndReason) {
        let _ = self.end_reason.set(reason);
        self.end_requested.notify_one();
    }

    /// Ends the connection if it is idle. Returns whether it was.
    fn end_if_idle(&self, reason: EndReason) -> bool {
        let Some(since) = self.idle_since() else { return false };
        let has_ended = self.now.compare_exchange(since, ENDED, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if has_ended {
            self.end(reason);
        }
        has_ended
    }

    /// Ends the connection if it has been idle, or has been sending one head, for `limit` milliseconds.
    fn end_if_silent(&self, limit: u64) {
        let now = self.now.load(Ordering::Acquire);
        if now >= ENDED || self.elapsed().saturating_sub(now & !READING) < limit {
            return;
        }
        // A head that is incomplete now comes too late; a complete one is answered.
        if now < READING {
            self.end_if_idle(EndReason::Silent);
        } else {
            self.end(EndReason::Silent);
        }
    }
}

#[cfg(test)]
mod tests;
