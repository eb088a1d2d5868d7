//! The page of the audit trail, which only shows and changes nothing.

use hyper::StatusCode;
use minijinja::context;

use super::listing::ROWS;
use super::pages::{data, percent_encode};
use super::visit::{PageResult, Visit};
use crate::app::listing::Page;
use crate::app::usage::{self, EventQuery};
use guillemet_base::names::SecretName;
use guillemet_vault::usage::Class;

/// Shows the audit trail, of one secret or all, and of one class or all.
pub async fn list(visit: &Visit<'_>) -> PageResult {
    let [name_filter, class, offset] = visit.url.query(["secret", "class", "offset"])?;
    let (name_filter, class) = (name_filter.unwrap_or_default(), class.as_deref().and_then(Class::from_name));
    // A text that is not a valid name was never the name of a secret.
    let (secret, invalid_name) = match name_filter.trim().parse::<SecretName>() {
        Ok(name) => (Some(name), None),
        Err(_) if name_filter.trim().is_empty() => (None, None),
        Err(invalid) => (None, Some(invalid.to_string())),
    };
    let offset: usize = offset.filter(|_| invalid_name.is_none()).and_then(|offset| offset.parse().ok()).unwrap_or(0);
    let (page, filter) = (Page { limit: ROWS, offset }, EventQuery { secret, class, ..EventQuery::default() });
    let trail = usage::list(&visit.site.app, page, filter).await?;
    let class = class.map_or("", Class::name);
    let (previous, next) = neighbours(&name_filter, class, offset, trail.count);
    let data = context! {
        of => name_filter, wrong => invalid_name, before => previous, behind => next, class,
        classes => Class::ALL.map(|(_, name, _)| name).to_vec(),
        count => trail.count,
        first => offset + 1,
        last => offset + trail.items.len(),
        events => data(&trail.items),
    };
    Ok(visit.page("audit.html", StatusCode::OK, "Audit trail", "audit", data))
}

/// Returns the queries of the previous and the next page, if there are such pages.
fn neighbours(name: &str, class: &str, offset: usize, count: usize) -> (Option<String>, Option<String>) {
    let at = |offset: usize| format!("secret={}&class={class}&offset={offset}", percent_encode(name));
    let next = offset.saturating_add(ROWS);
    ((offset > 0).then(|| at(offset.saturating_sub(ROWS))), (next < count).then(|| at(next)))
}
