//! The limits for callers: requests by key, by account and by address; streams of events; memory for bodies.
//!
//! Knows no request. If several servers share one database, each counts separately.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::storage::Bounds;
use guillemet_wire::{AccountId, BODY_MAX};

/// The number of bodies of the largest size that are read at the same time.
const BODIES: usize = 16;
/// The unit of the memory for bodies, in bytes.
const PIECE: usize = 64 << 10;
/// The number of requests that can come at once, in seconds of the average rate.
const BURST: f64 = 4.0;
/// The rate of an account, as a multiple of the rate of one key.
const ACCOUNT: f64 = 10.0;
/// The rate of an address without a valid key, as a multiple of the rate of one key.
const STRANGER: f64 = 0.4;
/// The number of buckets from which on full ones are dropped.
const BUCKETS: usize = 4096;

/// The limits that the operator can set.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// The limits for what one account can store.
    pub bounds: Bounds,
    /// The average number of requests per second for one API key.
    pub requests: u32,
    /// The number of event streams that one API key can have at the same time.
    pub streams: usize,
    /// The number of connections that are open at the same time.
    pub connections: usize,
    /// The age up to which former heads and forms are kept.
    pub retention: Duration,
    /// The number of heads that are kept whatever their age.
    pub keep_heads: u64,
}

impl Default for ServerLimits {
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

/// The caller that a request counts for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LimitKey {
    /// An API key, by its id.
    Key(String),
    /// All API keys of an account together.
    Account(AccountId),
    /// A caller without a valid key, by its address.
    Stranger(IpAddr),
}

#[derive(Debug)]
struct TokenBucket {
    tokens: f64,
    at: Instant,
}

/// Counts the requests, streams and body memory that callers use.
#[derive(Debug)]
pub struct RateLimiter {
    requests: f64,
    buckets: Mutex<HashMap<LimitKey, TokenBucket>>,
    streams: Mutex<HashMap<String, usize>>,
    most_streams: usize,
    bodies: Semaphore,
}

/// A stream of events. It counts until this is dropped.
#[derive(Debug)]
pub struct Streaming(Arc<RateLimiter>, String);

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

impl RateLimiter {
    /// Starts with nothing used, under these limits.
    pub fn new(limits: &ServerLimits) -> Self {
        Self {
            requests: f64::from(limits.requests),
            buckets: Mutex::default(),
            streams: Mutex::default(),
            most_streams: limits.streams,
            bodies: Semaphore::new(BODIES * BODY_MAX / PIECE),
        }
    }

    /// Counts a request for a caller.
    ///
    /// # Errors
    /// The seconds to wait, if the caller has reached its limit.
    pub fn acquire(&self, key: LimitKey, now: Instant) -> Result<(), u64> {
        let rate = self.rate(&key);
        let mut buckets = locked(&self.buckets);
        if buckets.len() >= BUCKETS && !buckets.contains_key(&key) {
            buckets.retain(|key, bucket| bucket.tokens_at(self.rate(key), now) < self.rate(key) * BURST);
        }
        let bucket = buckets.entry(key).or_insert(TokenBucket { tokens: rate * BURST, at: now });
        bucket.tokens = bucket.tokens_at(rate, now);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            return Err(((1.0 - bucket.tokens) / rate).ceil() as u64);
        }
        bucket.tokens -= 1.0;
        Ok(())
    }

    /// Returns whether this caller has made requests recently. Only valid keys are counted, so a known key was valid
    /// then.
    pub fn has_seen(&self, key: &LimitKey) -> bool {
        locked(&self.buckets).contains_key(key)
    }

    /// Checks whether a caller can make a request, without counting one.
    ///
    /// # Errors
    /// The seconds to wait, as for [`Self::acquire`].
    pub fn check(&self, key: &LimitKey, now: Instant) -> Result<(), u64> {
        let rate = self.rate(key);
        let tokens = locked(&self.buckets).get(key).map_or(1.0, |bucket| bucket.tokens_at(rate, now));
        if tokens < 1.0 { Err(((1.0 - tokens) / rate).ceil() as u64) } else { Ok(()) }
    }

    fn rate(&self, key: &LimitKey) -> f64 {
        match key {
            LimitKey::Key(_) => self.requests,
            LimitKey::Account(_) => self.requests * ACCOUNT,
            LimitKey::Stranger(_) => self.requests * STRANGER,
        }
    }

    /// Counts another stream of a key. Returns `None` if the key has as many as it can have.
    pub fn open_stream(self: &Arc<Self>, key: &str) -> Option<Streaming> {
        let mut streams = locked(&self.streams);
        let count = streams.entry(key.to_owned()).or_default();
        if *count >= self.most_streams {
            return None;
        }
        *count += 1;
        Some(Streaming(Arc::clone(self), key.to_owned()))
    }

    /// Returns the number of open streams.
    pub fn open_streams(&self) -> usize {
        locked(&self.streams).values().sum()
    }

    /// Waits until there is memory for a body of `len` bytes, and reserves it.
    pub async fn reserve_body(&self, len: usize) -> Option<SemaphorePermit<'_>> {
        let pieces = u32::try_from(len.min(BODY_MAX).div_ceil(PIECE).max(1)).ok()?;
        self.bodies.acquire_many(pieces).await.ok()
    }
}

impl TokenBucket {
    fn tokens_at(&self, rate: f64, now: Instant) -> f64 {
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
        let limiter = RateLimiter::new(&ServerLimits { requests: 2, ..ServerLimits::default() });
        let (key, now) = (LimitKey::Key("abcdefgh".into()), Instant::now());
        for _ in 0..8 {
            limiter.acquire(key.clone(), now).unwrap();
        }
        assert_eq!(limiter.acquire(key.clone(), now), Err(1));
        assert_eq!(limiter.check(&key, now), Err(1));
        limiter.acquire(LimitKey::Key("other234".into()), now).unwrap();
        limiter.acquire(key.clone(), now + Duration::from_millis(500)).unwrap();
        assert!(limiter.acquire(key, now + Duration::from_millis(500)).is_err());
    }

    /// A stranger gets two fifths of a key's rate, at each address.
    #[test]
    fn a_stranger_gets_less_and_takes_nothing_from_others() {
        let limiter = RateLimiter::new(&ServerLimits { requests: 5, ..ServerLimits::default() });
        let now = Instant::now();
        let stranger = |last: u8| LimitKey::Stranger(IpAddr::from([192, 0, 2, last]));
        for _ in 0..8 {
            limiter.acquire(stranger(1), now).unwrap();
        }
        assert_eq!((limiter.check(&stranger(1), now), limiter.acquire(stranger(1), now)), (Err(1), Err(1)));
        limiter.acquire(stranger(2), now).unwrap();
        for _ in 0..20 {
            limiter.acquire(LimitKey::Key("abcdefgh".into()), now).unwrap();
        }
        assert!(limiter.acquire(LimitKey::Key("abcdefgh".into()), now).is_err());
        assert!(
            limiter.has_seen(&LimitKey::Key("abcdefgh".into())) && !limiter.has_seen(&LimitKey::Key("hgfedcba".into()))
        );
        let later = now + Duration::from_millis(500);
        limiter.acquire(stranger(1), later).unwrap();
        assert!(limiter.acquire(stranger(1), later).is_err());
    }

    #[test]
    fn full_buckets_are_let_go() {
        let limiter = RateLimiter::new(&ServerLimits::default());
        let now = Instant::now();
        for number in 0..BUCKETS * 2 {
            let later = now + Duration::from_millis(number as u64);
            limiter.acquire(LimitKey::Key(number.to_string()), later).unwrap();
        }
        assert!(locked(&limiter.buckets).len() <= BUCKETS);
    }

    #[test]
    fn streams_are_counted() {
        let limiter = Arc::new(RateLimiter::new(&ServerLimits { streams: 2, ..ServerLimits::default() }));
        let (first, second) = (limiter.open_stream("a"), limiter.open_stream("a"));
        assert!(
            first.is_some()
                && second.is_some()
                && limiter.open_stream("a").is_none()
                && limiter.open_stream("b").is_some()
        );
        drop(first);
        assert!(limiter.open_stream("a").is_some());
        assert_eq!(limiter.open_streams(), 1);
        drop(second);
        assert_eq!(limiter.open_streams(), 0);
    }
}
