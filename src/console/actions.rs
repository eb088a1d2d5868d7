//! What the console asks of the inventory for its table. Changes it makes by the services that the API uses.
//!
//! Knows no page.

use std::sync::Arc;
use std::time::Instant;

use crate::app::error::AppError;
use crate::app::{App, secrets};
use guillemet_api::secrets::{SecretDetail, SecretView};

use super::listing::Listing;

/// How many rows pass the filter, and those of this page, true to the files as they were at `since` or later.
pub async fn list(app: &Arc<App>, listing: &Listing, since: Instant) -> Result<(usize, Vec<SecretView>), AppError> {
    let (count, rows) = secrets::list(app, listing.filter(), since).await?;
    Ok((count, listing.page(rows)))
}

/// How many rows pass the filter, and those of this page with everything known about them.
pub async fn list_whole(app: &Arc<App>, listing: &Listing) -> Result<(usize, Vec<SecretDetail>), AppError> {
    let since = Instant::now();
    let (count, rows) = list(app, listing, since).await?;
    let names = rows.iter().filter_map(|row| row.name.parse().ok()).collect();
    Ok((count, secrets::show_all(app, names, since).await?))
}
