//! What callers may take: requests by key, by account and by address; streams of events; memory for bodies.
//!
//! Knows no request. Several servers on one database each count for themselves.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::storage::Bounds;
use crate::account::wire::{AccountId, BODY_MAX};

/// How many bodies of the largest size are read at once.
const BODIES: usize = 16;
/// A piece of the memory for bodies, in bytes.
const PIECE: usize = 64 << 10;
/// How many requests may come at once, in seconds' worth.
const BURST: f64 = 4.0;
/// How much more an account may ask than one of its keys.
const ACCOUNT: f64 = 10.0;
/// How much less is heard from one address without a good key.
const STRANGER: f64 = 0.4;
/// How many buckets there may be before full ones are let go.
const BUCKETS: usize = 4096;

/// What may be set.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// What one account may hold.
    pub bounds: Bounds,
    /// Requests of one API key a second, on average.
    pub requests: u32,
    /// Streams of events of one API key.
    pub streams: usize,
    /// Connections.
    pub connections: usize,
    /// How long former heads and forms are kept…
    pub retention: Duration,
    /// …and how many heads in any case.
    pub keep_heads: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bounds: Bounds { objects: 200_000, bytes: 16 << 30 },
            requests: 50,
            streams: 8,
            connections: 4096,
            retention: Duration::from_secs(90 * 24 * 3600),
            keep_heads: 1000,
        }
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// By the id of its key.
    Key(String),
    /// All keys of an account.
    Account(AccountId),
    /// Without a good key.
    Stranger(IpAddr),
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// Counts what callers take.
#[derive(Debug)]
pub struct Turns {
    requests: f64,
    buckets: Mutex<HashMap<Who, Bucket>>,
    streams: Mutex<HashMap<String, usize>>,
    most_streams: usize,
    bodies: Semaphore,
}

/// A stream that is counted until this is dropped.
#[derive(Debug)]
pub struct Streaming(Arc<Turns>, String);

impl Drop for Streaming {
    fn drop(&mut self) {
        let mut streams = locked(&self.0.streams);
        if let Some(count) = streams.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                streams.remove(&self.1);
            }
        }
    }
}

impl Turns {
    /// Within these limits.
    pub fn new(limits: &Limits) -> Self {
        Self {
            requests: f64::from(limits.requests),
            buckets: Mutex::default(),
            streams: Mutex::default(),
            most_streams: limits.streams,
            bodies: Semaphore::new(BODIES * BODY_MAX / PIECE),
        }
    }

    /// Takes a request of a caller.
    ///
    /// # Errors
    /// When it has had its share: for how many seconds it should wait.
    pub fn take(&self, who: Who, now: Instant) -> Result<(), u64> {
        let rate = self.rate(&who);
        let mut buckets = locked(&self.buckets);
        if buckets.len() >= BUCKETS && !buckets.contains_key(&who) {
            buckets.retain(|who, bucket| bucket.filled(self.rate(who), now) < self.rate(who) * BURST);
        }
        let bucket = buckets.entry(who).or_insert(Bucket { tokens: rate * BURST, at: now });
        bucket.tokens = bucket.filled(rate, now);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            return Err(((1.0 - bucket.tokens) / rate).ceil() as u64);
        }
        bucket.tokens -= 1.0;
        Ok(())
    }

    /// Whether this caller has asked a while ago: only keys that were good do.
    pub fn knows(&self, who: &Who) -> bool {
        locked(&self.buckets).contains_key(who)
    }

    /// Whether a caller has something left, without taking it.
    ///
    /// # Errors
    /// As `take`.
    pub fn may(&self, who: &Who, now: Instant) -> Result<(), u64> {
        let rate = self.rate(who);
        let left = locked(&self.buckets).get(who).map_or(1.0, |bucket| bucket.filled(rate, now));
        if left < 1.0 { Err(((1.0 - left) / rate).ceil() as u64) } else { Ok(()) }
    }

    fn rate(&self, who: &Who) -> f64 {
        match who {
            Who::Key(_) => self.requests,
            Who::Account(_) => self.requests * ACCOUNT,
            Who::Stranger(_) => self.requests * STRANGER,
        }
    }

    /// Another stream of a key; `None` when it has as many as it gets.
    pub fn stream(self: &Arc<Self>, key: &str) -> Option<Streaming> {
        let mut streams = locked(&self.streams);
        let count = streams.entry(key.to_owned()).or_default();
        if *count >= self.most_streams {
            return None;
        }
        *count += 1;
        Some(Streaming(Arc::clone(self), key.to_owned()))
    }

    /// How many streams there are.
    pub fn streams(&self) -> usize {
        locked(&self.streams).values().sum()
    }

    /// Waits for memory for a body of this length.
    pub async fn body(&self, len: usize) -> Option<SemaphorePermit<'_>> {
        let pieces = u32::try_from(len.min(BODY_MAX).div_ceil(PIECE).max(1)).ok()?;
        self.bodies.acquire_many(pieces).await.ok()
    }
}

impl Bucket {
    fn filled(&self, rate: f64, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        (self.tokens + since * rate).min(rate * BURST)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_gets_its_share_and_no_more() {
        let turns = Turns::new(&Limits { requests: 2, ..Limits::default() });
        let (key, now) = (Who::Key("abcdefgh".into()), Instant::now());
        for _ in 0..8 {
            turns.take(key.clone(), now).unwrap();
        }
        assert_eq!(turns.take(key.clone(), now), Err(1));
        assert_eq!(turns.may(&key, now), Err(1));
        turns.take(Who::Key("other234".into()), now).unwrap();
        turns.take(key.clone(), now + Duration::from_millis(500)).unwrap();
        assert!(turns.take(key, now + Duration::from_millis(500)).is_err());
    }

    /// A stranger gets two fifths of what a key gets, at each address.
    #[test]
    fn a_stranger_gets_less_and_takes_nothing_from_others() {
        let turns = Turns::new(&Limits { requests: 5, ..Limits::default() });
        let now = Instant::now();
        let stranger = |last: u8| Who::Stranger(IpAddr::from([192, 0, 2, last]));
        for _ in 0..8 {
            turns.take(stranger(1), now).unwrap();
        }
        assert_eq!((turns.may(&stranger(1), now), turns.take(stranger(1), now)), (Err(1), Err(1)));
        turns.take(stranger(2), now).unwrap();
        for _ in 0..20 {
            turns.take(Who::Key("abcdefgh".into()), now).unwrap();
        }
        assert!(turns.take(Who::Key("abcdefgh".into()), now).is_err());
        assert!(turns.knows(&Who::Key("abcdefgh".into())) && !turns.knows(&Who::Key("hgfedcba".into())));
        let later = now + Duration::from_millis(500);
        turns.take(stranger(1), later).unwrap();
        assert!(turns.take(stranger(1), later).is_err());
    }

    #[test]
    fn full_buckets_are_let_go() {
        let turns = Turns::new(&Limits::default());
        let now = Instant::now();
        for number in 0..BUCKETS * 2 {
            let later = now + Duration::from_millis(number as u64);
            turns.take(Who::Key(number.to_string()), later).unwrap();
        }
        assert!(locked(&turns.buckets).len() <= BUCKETS);
    }

    #[test]
    fn streams_are_counted() {
        let turns = Arc::new(Turns::new(&Limits { streams: 2, ..Limits::default() }));
        let (first, second) = (turns.stream("a"), turns.stream("a"));
        assert!(first.is_some() && second.is_some() && turns.stream("a").is_none() && turns.stream("b").is_some());
        drop(first);
        assert!(turns.stream("a").is_some());
        assert_eq!(turns.streams(), 1);
        drop(second);
        assert_eq!(turns.streams(), 0);
    }
}
