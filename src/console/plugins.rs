//! The page of plugins. It shows; nothing is changed here.

use hyper::StatusCode;
use minijinja::context;

use super::pages::data;
use super::visit::{Answer, Visit};
use crate::app::plugins;

/// The plugins.
pub async fn list(visit: &Visit<'_>) -> Answer {
    visit.query([])?;
    let shown = context! { plugins => data(plugins::known(&visit.site.app).await) };
    Ok(visit.page("plugins.html", StatusCode::OK, "Plugins", "plugins", shown))
}
