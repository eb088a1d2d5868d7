//! What the console asks of the inventory: the same calls as the API's, acknowledged as late.
//!
//! Knows no page. A change returns when no answer of the old state can still leave (promise 8).

use std::sync::Arc;
use std::time::Instant;

use zeroize::Zeroizing;

use crate::api::App;
use crate::api::endpoints::{self, blocking};
use crate::api::error::ApiError;
use crate::inventory::{Changed, SecretChange, SecretDetail, SecretView};
use crate::names::SecretName;
use crate::resolve::snapshot::Released;

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

/// Creates a secret.
pub async fn create(
    app: &Arc<App>,
    name: SecretName,
    value: Zeroizing<String>,
    enabled: bool,
) -> Result<Changed, ApiError> {
    acknowledged(blocking(app, move |inventory| inventory.create(name, &value, enabled)).await?).await
}

/// Changes a secret, if it still is what `expected` says.
pub async fn update(
    app: &Arc<App>,
    name: SecretName,
    change: SecretChange,
    expected: Option<String>,
) -> Result<Changed, ApiError> {
    acknowledged(blocking(app, move |inventory| inventory.update(&name, change, expected.as_deref())).await?).await
}

/// Gives a secret the value of a former version again, if it still is what `expected` says.
pub async fn roll_back(
    app: &Arc<App>,
    name: SecretName,
    version: u32,
    expected: Option<String>,
) -> Result<Changed, ApiError> {
    acknowledged(blocking(app, move |inventory| inventory.rollback(&name, version, expected.as_deref())).await?).await
}

async fn acknowledged((changed, released): (Changed, Released)) -> Result<Changed, ApiError> {
    released.wait().await;
    Ok(changed)
}
