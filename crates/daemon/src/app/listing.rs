//! The pages of a listing.

use guillemet_api::Listing;

/// The part of a listing that a caller asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The most items to return.
    pub limit: usize,
    /// The number of items to skip at the beginning.
    pub offset: usize,
}

impl Page {
    /// Returns this page of all items.
    pub fn of<T>(self, items: Vec<T>) -> Listing<T> {
        Listing { count: items.len(), items: items.into_iter().skip(self.offset).take(self.limit).collect() }
    }
}
