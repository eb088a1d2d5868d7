//! Pages of listings.

use guillemet_api::Listing;

/// Which part of a listing is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// How many, at most.
    pub limit: usize,
    /// From which on, counted from 0.
    pub offset: usize,
}

impl Page {
    /// This page of all there are.
    pub fn of<T>(self, all: Vec<T>) -> Listing<T> {
        Listing { count: all.len(), items: all.into_iter().skip(self.offset).take(self.limit).collect() }
    }
}
