//! What the console asks of the inventory for its table. Changes it makes by the API's own functions.
//!
//! Knows no page.

use std::sync::Arc;
use std::time::Instant;

use crate::api::App;
use crate::api::endpoints::{self, blocking};
use crate::api::error::ApiError;
use crate::inventory::{SecretDetail, SecretView};

use super::listing::Listing;

/// How many rows pass the filter, and those of this page, true to the files as they were at `since` or later.
pub async fn list(app: &Arc<App>, listing: &Listing, since: Instant) -> Result<(usize, Vec<SecretView>), ApiError> {
    let filter = listing.filter();
    let (count, rows) = blocking(app, move |inventory| inventory.list(&filter, since)).await?;
    Ok((count, listing.page(rows)))
}

/// How many rows pass the filter, and those of this page with everything known about them.
pub async fn list_whole(app: &Arc<App>, listing: &Listing) -> Result<(usize, Vec<SecretDetail>), ApiError> {
    let since = Instant::now();
    let (count, rows) = list(app, listing, since).await?;
    let names = rows.iter().filter_map(|row| row.name.parse().ok()).collect();
    Ok((count, endpoints::show_all(app, names, since).await?))
}
