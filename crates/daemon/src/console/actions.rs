//! Lists the rows of the table of secrets, through the services that the API uses too. Knows no page.

use std::sync::Arc;
use std::time::Instant;

use crate::app::error::AppError;
use crate::app::{App, secrets};
use guillemet_api::secrets::{SecretDetail, SecretView};

use super::listing::InventoryQuery;

/// Returns how many rows pass the filter, and those of this page, for the files as they were at `since` or later.
pub async fn list(
    app: &Arc<App>,
    listing: &InventoryQuery,
    since: Instant,
) -> Result<(usize, Vec<SecretView>), AppError> {
    let (count, rows) = secrets::list(app, listing.filter(), since).await?;
    Ok((count, listing.page(rows)))
}

/// Returns how many rows pass the filter, and those of this page with everything known about them.
pub async fn list_whole(app: &Arc<App>, listing: &InventoryQuery) -> Result<(usize, Vec<SecretDetail>), AppError> {
    let since = Instant::now();
    let (count, rows) = list(app, listing, since).await?;
    let names = rows.iter().filter_map(|row| row.name.parse().ok()).collect();
    Ok((count, secrets::show_all(app, names, since).await?))
}
