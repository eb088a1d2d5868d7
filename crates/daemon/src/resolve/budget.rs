//! Limits the memory for bytes in transit: answers that are being made or not yet taken, and request bodies that
//! arrive.
//!
//! A caller that asks but does not read keeps its answer in memory until it is cut off, and an answer can be large. So
//! all of them together have a limit, which users share ([`Shares`]). Knows user ids and byte counts, but not the bytes
//! themselves.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::shares::Shares;

/// Reservations up to this many bytes are not counted: a connection takes as much even when idle, and connections are
/// limited.
pub const SMALL: usize = 16 << 10;

/// The total, and what each user holds of it.
#[derive(Debug)]
pub struct Budget(Mutex<Shares>);

/// The error of a user for whom this many bytes are not available now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

/// A part of the budget, given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    uid: u32,
    /// The number of bytes counted; 0 for a small reservation.
    bytes: usize,
}

fn counted_bytes(bytes: usize) -> usize {
    if bytes > SMALL { bytes } else { 0 }
}

impl Budget {
    /// Creates a budget of this many bytes. A quarter of it is for the user that this process runs as alone.
    pub fn new(bytes: usize) -> Arc<Self> {
        let owner = rustix::process::geteuid().as_raw();
        Arc::new(Self(Mutex::new(Shares::new(bytes, owner))))
    }

    fn shares(&self) -> MutexGuard<'_, Shares> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the total to this many bytes.
    pub fn set_total(&self, bytes: usize) {
        self.shares().set_total(bytes);
    }

    /// Reserves this many bytes for a user.
    ///
    /// # Errors
    /// Fails with [`Exhausted`] if the user cannot have that many now.
    pub fn reserve(self: &Arc<Self>, uid: u32, bytes: usize) -> Result<Reservation, Exhausted> {
        let mut reservation = Reservation { budget: Arc::clone(self), uid, bytes: 0 };
        reservation.resize(bytes)?;
        Ok(reservation)
    }

    /// Counts bytes that already exist and have to leave, whether they are within the limit or not.
    pub fn count(self: &Arc<Self>, uid: u32, bytes: usize) -> Reservation {
        let bytes = counted_bytes(bytes);
        if bytes > 0 {
            self.shares().add(uid, bytes);
        }
        Reservation { budget: Arc::clone(self), uid, bytes }
    }
}

impl Reservation {
    /// Changes the size of the reservation to this many bytes.
    ///
    /// # Errors
    /// Fails with [`Exhausted`] if the user cannot have that many now; the reservation stays as it was.
    pub fn resize(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let bytes = counted_bytes(bytes);
        if bytes > self.bytes {
            let (mut shares, additional) = (self.budget.shares(), bytes - self.bytes);
            if additional > shares.available(self.uid) {
                return Err(Exhausted);
            }
            shares.add(self.uid, additional);
        } else if bytes < self.bytes {
            self.budget.shares().remove(self.uid, self.bytes - bytes);
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.shares().remove(self.uid, self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_given_back() {
        let budget = Budget::new(64 * SMALL);
        let stranger = rustix::process::geteuid().as_raw() + 1;
        let held = |uid| budget.shares().held_by(uid);
        let small = budget.reserve(stranger, SMALL).unwrap();
        assert_eq!((small.bytes, held(stranger)), (0, 0));
        let mut first = budget.reserve(stranger, 20 * SMALL).unwrap();
        assert_eq!(budget.reserve(stranger, 8 * SMALL).unwrap_err(), Exhausted);
        assert_eq!(first.resize(40 * SMALL), Err(Exhausted));
        first.resize(10 * SMALL).unwrap();
        let second = budget.reserve(stranger, 8 * SMALL).unwrap();
        assert_eq!(held(stranger), 18 * SMALL);
        // What already exists is counted, whether it is within the limit or not.
        let forced = budget.count(stranger, 90 * SMALL);
        assert_eq!(held(stranger), 108 * SMALL);
        first.resize(1).unwrap();
        drop((first, second, small, forced));
        assert_eq!(held(stranger), 0);
    }
}
