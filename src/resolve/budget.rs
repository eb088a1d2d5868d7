//! What bytes on their way may take of memory: answers that are being made or not yet taken, bodies that arrive.
//!
//! A caller that asks and does not read keeps its answer in memory until it is cut off, and each is large. So all of them
//! together have a bound, which users share ([`Shares`]). Knows numbers of users and of bytes. Must not know the bytes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::shares::Shares;

/// Up to so many bytes are not counted: a connection takes as much with nothing under way, and those are bounded.
pub const SMALL: usize = 16 << 10;

/// What there is, and who has it.
#[derive(Debug)]
pub struct Budget(Mutex<Shares>);

/// There is no room for so many bytes of this user now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

/// A part of the budget; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    uid: u32,
    /// What is counted; 0 for what is small.
    bytes: usize,
}

fn counted(bytes: usize) -> usize {
    if bytes > SMALL { bytes } else { 0 }
}

impl Budget {
    /// Returns a budget of so many bytes, a quarter of them for the user this process runs as alone.
    pub fn new(bytes: usize) -> Arc<Self> {
        let owner = rustix::process::geteuid().as_raw();
        Arc::new(Self(Mutex::new(Shares::new(bytes, owner))))
    }

    fn shares(&self) -> MutexGuard<'_, Shares> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes how many bytes there are.
    pub fn set_total(&self, bytes: usize) {
        self.shares().set_total(bytes);
    }

    /// Returns a reservation of so many bytes for this user.
    ///
    /// # Errors
    /// When there are not so many left for it.
    pub fn take(self: &Arc<Self>, uid: u32, bytes: usize) -> Result<Reservation, Exhausted> {
        let mut reservation = Reservation { budget: Arc::clone(self), uid, bytes: 0 };
        reservation.resize(bytes)?;
        Ok(reservation)
    }

    /// Returns a reservation of bytes that there are already and that have to leave, whether there is room or not.
    pub fn count(self: &Arc<Self>, uid: u32, bytes: usize) -> Reservation {
        let bytes = counted(bytes);
        if bytes > 0 {
            self.shares().add(uid, bytes);
        }
        Reservation { budget: Arc::clone(self), uid, bytes }
    }
}

impl Reservation {
    /// Makes it one of so many bytes.
    ///
    /// # Errors
    /// When there are not so many left; it stays as it was.
    pub fn resize(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let bytes = counted(bytes);
        if bytes > self.bytes {
            let (mut shares, more) = (self.budget.shares(), bytes - self.bytes);
            if more > shares.available(self.uid) {
                return Err(Exhausted);
            }
            shares.add(self.uid, more);
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
        let small = budget.take(stranger, SMALL).unwrap();
        assert_eq!((small.bytes, held(stranger)), (0, 0));
        let mut first = budget.take(stranger, 20 * SMALL).unwrap();
        assert_eq!(budget.take(stranger, 8 * SMALL).unwrap_err(), Exhausted);
        assert_eq!(first.resize(40 * SMALL), Err(Exhausted));
        first.resize(10 * SMALL).unwrap();
        let second = budget.take(stranger, 8 * SMALL).unwrap();
        assert_eq!(held(stranger), 18 * SMALL);
        // What has happened is told, whether there is room or not.
        let forced = budget.count(stranger, 90 * SMALL);
        assert_eq!(held(stranger), 108 * SMALL);
        first.resize(1).unwrap();
        drop((first, second, small, forced));
        assert_eq!(held(stranger), 0);
    }
}
