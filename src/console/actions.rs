//! What the console asks of the inventory: the same calls as the API's, acknowledged as late.
//!
//! Knows no page. A change returns when no answer of the old state can still leave (promise 8).

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::api::App;
use crate::api::endpoints::blocking;
use crate::api::error::{ApiError, Code};
use crate::inventory::{SecretDetail, SecretView};
use crate::names::SecretName;

use super::listing::Listing;

/// What is to change of a secret; what is `None` stays.
#[derive(Default)]
pub struct Change {
    pub name: Option<SecretName>,
    pub value: Option<Zeroizing<String>>,
    pub enabled: Option<bool>,
}

/// How many rows pass the filter, and those of this page.
pub async fn list(app: &Arc<App>, listing: &Listing) -> Result<(usize, Vec<SecretView>), ApiError> {
    let filter = listing.filter();
    let rows = blocking(app, move |inventory| inventory.list(&filter)).await?;
    Ok((rows.len(), listing.page(rows)))
}

/// How many rows pass the filter, and those of this page with everything known about them.
pub async fn list_whole(app: &Arc<App>, listing: &Listing) -> Result<(usize, Vec<SecretDetail>), ApiError> {
    let (count, rows) = list(app, listing).await?;
    let whole = blocking(app, move |inventory| {
        // One that went away between the two is left out.
        let names = rows.iter().filter_map(|row| row.name.parse::<SecretName>().ok());
        Ok(names.filter_map(|name| inventory.show(&name).ok()).collect())
    });
    Ok((count, whole.await?))
}

/// One secret, or the row of a missing one.
pub async fn show(app: &Arc<App>, name: &SecretName) -> Result<SecretDetail, ApiError> {
    let name = name.clone();
    blocking(app, move |inventory| inventory.show(&name)).await
}

/// What a form carries, so that a change of somebody else in between is a conflict and not a loss.
pub fn etag(_detail: &SecretDetail) -> Option<&str> {
    None
}

/// Creates a secret.
pub async fn create(
    app: &Arc<App>,
    name: SecretName,
    value: Zeroizing<String>,
    enabled: bool,
) -> Result<SecretView, ApiError> {
    let (row, released) = blocking(app, move |inventory| inventory.create(name, &value, enabled)).await?;
    released.wait().await;
    Ok(row)
}

/// Changes a secret, if it still is what `expected` says.
pub async fn change(
    app: &Arc<App>,
    name: SecretName,
    change: Change,
    _expected: Option<String>,
) -> Result<SecretView, ApiError> {
    if change.name.is_some() || change.value.is_some() {
        return Err(ApiError::new(Code::Unavailable, "a name or a value cannot be changed yet"));
    }
    let (row, released) = blocking(app, move |inventory| match change.enabled {
        Some(enabled) => inventory.set_enabled(&name, enabled).map(|(row, released)| (row, Some(released))),
        None => Ok((inventory.show(&name)?.secret, None)),
    })
    .await?;
    if let Some(released) = released {
        released.wait().await;
    }
    Ok(row)
}

/// Deletes a secret that nothing references.
pub async fn delete(app: &Arc<App>, name: SecretName) -> Result<(), ApiError> {
    let (id, released) = blocking(app, move |inventory| inventory.delete(&name)).await?;
    released.wait().await;
    // After the last answer that could still have recorded one.
    blocking(app, move |inventory| inventory.forget_usage(id)).await
}
