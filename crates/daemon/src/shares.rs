//! Divides a limited resource, such as connections or memory, between the users of this machine.
//!
//! Knows only the numbers of users and the amounts that they hold. Must not know what the resource is.
//!
//! The amounts that [`Shares::available`] allows never add up to more than the total. A quarter of the total is kept
//! for the owner, and any other user leaves about as much to the next user as it holds itself (Fair, in
//! ARCHITECTURE.md).

use std::collections::HashMap;

/// The amounts that users hold of one resource.
#[derive(Debug)]
pub struct Shares {
    total: usize,
    owner: u32,
    held: HashMap<u32, usize>,
    taken: usize,
}

impl Shares {
    /// Returns shares of `total`, a quarter of which is kept for `owner` alone.
    pub fn new(total: usize, owner: u32) -> Self {
        Self { total, owner, held: HashMap::new(), taken: 0 }
    }

    /// Changes the total. Nothing is taken away: a user who holds more than its share gets no more until it has given
    /// some back.
    pub fn set_total(&mut self, total: usize) {
        self.total = total;
    }

    /// Returns the user for whom a quarter is kept.
    pub fn owner(&self) -> u32 {
        self.owner
    }

    /// Returns the amount that is kept for the owner: a quarter of the total, and at least 1 if the total is 2 or more.
    pub fn reserved(&self) -> usize {
        if self.total < 2 { 0 } else { (self.total / 4).max(1) }
    }

    /// Returns the amount that this user holds.
    pub fn held_by(&self, user: u32) -> usize {
        self.held.get(&user).copied().unwrap_or(0)
    }

    /// Returns the amount that this user holds of the part that all users share. For the owner, this excludes its
    /// reserve.
    pub fn shared_by(&self, user: u32) -> usize {
        let held = self.held_by(user);
        if user == self.owner { held.saturating_sub(self.reserved()) } else { held }
    }

    /// Returns the most that this user may take now.
    ///
    /// The owner may take everything that is free. Any other user must leave the unused part of the owner's reserve
    /// and, of the rest, about as much as it then holds itself: it gets half if it is the only one, a third if there
    /// are two, and so on.
    pub fn available(&self, user: u32) -> usize {
        let free = self.total.saturating_sub(self.taken);
        if user == self.owner {
            return free;
        }
        let unused = self.reserved().saturating_sub(self.held_by(self.owner));
        free.saturating_sub(unused).saturating_sub(self.held_by(user)).div_ceil(2)
    }

    /// Records that this user has taken an amount. Does not check that it was available.
    pub fn add(&mut self, user: u32, amount: usize) {
        *self.held.entry(user).or_default() += amount;
        self.taken += amount;
    }

    /// Records that this user has given back an amount, at most what it holds.
    pub fn remove(&mut self, user: u32, amount: usize) {
        if let Some(held) = self.held.get_mut(&user) {
            let amount = amount.min(*held);
            *held -= amount;
            self.taken -= amount;
            if *held == 0 {
                self.held.remove(&user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OWNER: u32 = 1000;

    /// Takes one unit at a time until nothing is available.
    fn take_all(shares: &mut Shares, user: u32) -> usize {
        let before = shares.held_by(user);
        while shares.available(user) > 0 {
            shares.add(user, 1);
        }
        shares.held_by(user) - before
    }

    #[test]
    fn each_user_leaves_as_much_as_it_takes() {
        // The total, and the amounts for users 1, 2, 3 and 4 who take all they can, one after another; then the
        // owner's.
        for (total, expected) in [
            (256, [96, 48, 24, 12, 76]),
            (16, [6, 3, 2, 1, 4]),
            (8, [3, 2, 1, 0, 2]),
            (4, [2, 1, 0, 0, 1]),
            (2, [1, 0, 0, 0, 1]),
            (1, [1, 0, 0, 0, 0]),
        ] {
            let mut shares = Shares::new(total, OWNER);
            assert_eq!([1, 2, 3, 4, OWNER].map(|user| take_all(&mut shares, user)), expected, "{total}");
        }
    }

    #[test]
    fn the_owner_may_have_everything_and_shares_what_is_beyond_its_reserve() {
        let mut shares = Shares::new(16, OWNER);
        assert_eq!(take_all(&mut shares, OWNER), 16);
        assert_eq!((shares.shared_by(OWNER), shares.available(1)), (12, 0));
        shares.remove(OWNER, 14);
        assert_eq!((shares.shared_by(OWNER), take_all(&mut shares, 1)), (0, 6));
        // A smaller total takes nothing away.
        shares.set_total(4);
        assert_eq!((shares.held_by(1), shares.available(1), shares.available(OWNER)), (6, 0, 0));
    }

    proptest! {
        #[test]
        fn never_more_than_there_is_and_never_of_the_owners_reserve(
            total in 1_usize..60,
            steps in proptest::collection::vec((0_u32..4, 1_usize..8, any::<bool>()), 0..200),
        ) {
            let mut shares = Shares::new(total, OWNER);
            for (user, amount, takes) in steps {
                let user = if user == 0 { OWNER } else { user };
                match takes {
                    true if amount <= shares.available(user) => shares.add(user, amount),
                    true => {}
                    false => shares.remove(user, amount),
                }
                let others: usize = (1..4).map(|user| shares.held_by(user)).sum();
                prop_assert!(others + shares.held_by(OWNER) <= total);
                prop_assert_eq!(others + shares.held_by(OWNER), shares.taken);
                // The unused part of the reserve is available to the owner, whatever the others hold.
                prop_assert!(shares.available(OWNER) >= shares.reserved().saturating_sub(shares.held_by(OWNER)));
            }
        }
    }
}
