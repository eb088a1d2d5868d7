//! The page of plugins, which only shows and changes nothing.

use hyper::StatusCode;
use minijinja::context;

use super::pages::data;
use super::visit::{PageResult, Visit};
use crate::app::plugins;

/// Lists the plugins with their targets.
pub async fn list(visit: &Visit<'_>) -> PageResult {
    visit.url.query([])?;
    let context = context! { plugins => data(plugins::list_cached(&visit.site.app).await) };
    Ok(visit.page("plugins.html", StatusCode::OK, "Plugins", "plugins", context))
}
