//! Settings → Developers → Secrets: the table and its forms.
//!
//! Invariant (promise Blind): no response contains a value. What was typed into the field of a value is never sent
//! back, whatever was wrong with it.

use std::time::Instant;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use minijinja::context;
use minijinja::value::Value;
use serde::Serialize;
use time::{Duration, OffsetDateTime};

use super::actions;
use super::form::Form;
use super::listing::InventoryQuery;
use super::pages::{data, percent_encode};
use super::visit::{PageResult, SECRETS, Visit};
use crate::app::error::AppError;
use crate::app::secrets as service;
use crate::http::error::{HttpError, HttpErrorCode};
use crate::inventory::SecretChange;
use guillemet_api::secrets::{ChangedSecret, DayUsage, SecretDetail, SecretStatus};
use guillemet_base::names::SecretName;
use guillemet_base::time::{ago, now, seconds};

const SECTION: &str = "secrets";

/// The number of days in a chart.
const DAYS: u32 = 30;
/// The height of the highest bar. `STEP` is the distance between bars.
const HEIGHT: u64 = 48;
const STEP: u32 = 10;

/// A row of the table with everything known about the secret.
#[derive(Serialize)]
struct SecretRow {
    #[serde(flatten)]
    detail: SecretDetail,
    /// `None` if the secret was not resolved in the days of the chart.
    chart: Option<Chart>,
}

/// A bar chart of the resolutions per day.
#[derive(Debug, Serialize)]
struct Chart {
    from: String,
    to: String,
    total: u64,
    most: u64,
    bars: Vec<Bar>,
}

#[derive(Debug, Serialize)]
struct Bar {
    day: String,
    count: u64,
    x: u32,
    y: u64,
    height: u64,
}

impl Chart {
    /// Draws the chart for the days up to today. Returns `None` if the secret was not resolved in them.
    fn new(by_day: &[DayUsage], today: OffsetDateTime) -> Option<Self> {
        let days = (0..DAYS).map(|index| {
            let date = (today - Duration::days(i64::from(DAYS - 1 - index))).date();
            let day = format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day());
            let count = by_day.iter().find(|usage| usage.day == day).map_or(0, |usage| usage.count);
            (index, day, count)
        });
        let days: Vec<(u32, String, u64)> = days.collect();
        let most = days.iter().map(|(_, _, count)| *count).max().filter(|most| *most > 0)?;
        let bars: Vec<Bar> = days
            .into_iter()
            .map(|(index, day, count)| {
                // Round up, so that a day with any use is visible.
                let height = (u128::from(count) * u128::from(HEIGHT)).div_ceil(u128::from(most)) as u64;
                Bar { day, count, x: index * STEP, y: HEIGHT - height, height }
            })
            .collect();
        let edge = |bar: Option<&Bar>| bar.map(|bar| bar.day.clone()).unwrap_or_default();
        let total = bars.iter().map(|bar| bar.count).sum();
        Some(Self { from: edge(bars.first()), to: edge(bars.last()), total, most, bars })
    }
}

impl SecretRow {
    fn new(detail: SecretDetail) -> Self {
        let chart = Chart::new(&detail.usage.by_day, OffsetDateTime::now_utc());
        Self { detail, chart }
    }
}

/// Shows the table of secrets.
pub async fn table(visit: &Visit<'_>) -> PageResult {
    let listing = InventoryQuery::read(visit.url.raw_query())?;
    let (count, rows) = actions::list_whole(&visit.site.app, &listing).await?;
    let (before, next) = listing.neighbours(count);
    let last = listing.first() + rows.len() - usize::from(!rows.is_empty());
    let context = context! {
        count, before, behind => next, last,
        first => listing.first(),
        listing => data(&listing),
        columns => data(listing.columns()),
        here => listing.to_query(),
        statuses => SecretStatus::ALL.map(|(name, _)| name).to_vec(),
        rows => data(rows.into_iter().map(SecretRow::new).collect::<Vec<_>>()),
    };
    Ok(visit.page("secrets.html", StatusCode::OK, "Secrets", SECTION, context))
}

/// Returns, as JSON, the cells of the table that change while it is open.
pub async fn live(visit: &Visit<'_>) -> PageResult {
    #[derive(Serialize)]
    struct Live {
        status: SecretStatus,
        usage_count: usize,
        last_used_at: Option<String>,
        last_used_on: Option<String>,
        last_used: Option<String>,
    }
    let listing = InventoryQuery::read(visit.url.raw_query())?;
    let (count, rows) = actions::list(&visit.site.app, &listing, Instant::now()).await?;
    let names = rows.into_iter().map(|row| {
        let last_used = row.last_used_at.as_deref().and_then(seconds).map(|at| ago(at, now() / 1000));
        let live = Live {
            status: row.status,
            usage_count: row.usage_count,
            last_used_at: row.last_used_at,
            last_used_on: row.last_used_on,
            last_used,
        };
        Ok((row.name, serde_json::to_value(live)?))
    });
    let secrets = names.collect::<Result<serde_json::Map<_, _>, serde_json::Error>>();
    let secrets = secrets.map_err(|error| {
        tracing::error!(%error, "the table of secrets could not be written as JSON");
        AppError::internal()
    })?;
    let body = serde_json::json!({"count": count, "secrets": secrets}).to_string();
    let mut response: Response<Full<Bytes>> = Response::new(Full::new(body.into()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// The contents of a secret's form, except for its value.
struct Entered {
    name: String,
    enabled: bool,
    etag: String,
}

/// Returns the form of a new secret (`of` is `None`) or of an existing one.
fn form_page(
    visit: &Visit<'_>,
    of: Option<&str>,
    entered: &Entered,
    error: Option<&HttpError>,
) -> Response<Full<Bytes>> {
    let title = of.map_or_else(|| "New Secret".to_owned(), |name| format!("Edit {name}"));
    let context = context! {
        of, name => entered.name.as_str(), enabled => entered.enabled, etag => entered.etag.as_str(),
        action => of.map_or_else(|| SECRETS.to_owned(), |name| format!("{SECRETS}/{}/edit", percent_encode(name))),
        ..form_errors(error, &["name", "value"])
    };
    visit.page("secret.html", error.map_or(StatusCode::OK, HttpError::status), &title, SECTION, context)
}

/// Returns the errors of a form for its page: those of each field, and those that belong to no field.
fn form_errors(error: Option<&HttpError>, fields: &[&str]) -> Value {
    let mut at: std::collections::BTreeMap<&str, String> = fields.iter().map(|name| (*name, String::new())).collect();
    let mut others = Vec::new();
    if let Some(error) = error {
        for entry in error.errors() {
            let (message, field) = (entry.message.clone(), entry.field.as_deref().unwrap_or_default());
            // A problem in a template has a field of the config, not of this form.
            match (&entry.template, at.get_mut(field)) {
                (Some(template), _) => others.push(format!("{template}: {message}")),
                (None, Some(slot)) => *slot = message,
                (None, None) => others.push(message),
            }
        }
        if error.errors().is_empty() || error.errors().iter().any(|entry| entry.template.is_some()) {
            others.insert(0, error.message().to_owned());
        }
        others.extend(error.detail().map(str::to_owned));
    }
    context! { wrong => data(at), others, failed => error.is_some() }
}

/// Shows the form of a new secret. The query may give the name, as it does for a missing secret.
pub fn new(visit: &Visit<'_>) -> PageResult {
    let [name] = visit.url.query(["name"])?;
    Ok(form_page(visit, None, &Entered { name: name.unwrap_or_default(), enabled: true, etag: String::new() }, None))
}

/// Creates a secret from its form.
pub async fn create(visit: &Visit<'_>, mut sent: Form) -> PageResult {
    let (name, value) = (sent.take("name"), sent.value("value"));
    let enabled = sent.is_ticked("enabled");
    let mut errors = Vec::new();
    let parsed = name.trim().parse::<SecretName>().map_err(|invalid| errors.push(("name".into(), invalid.to_string())));
    if value.is_empty() {
        errors.push(("value".into(), "a value cannot be empty".into()));
    }
    let created = match parsed {
        Ok(name) if errors.is_empty() => {
            service::create(&visit.site.app, &visit.session.actor, name, value, enabled).await
        }
        _ => Err(AppError::Invalid(errors)),
    };
    match created.map_err(HttpError::from) {
        Ok(created) => Ok(visit.redirect(SECRETS, format!("{} was created.", created.secret.name))),
        Err(error) => {
            let entered = Entered { name: name.to_string(), enabled, etag: String::new() };
            Ok(form_page(visit, None, &entered, Some(&error)))
        }
    }
}

/// Returns the stored secret that the path names. A missing one is an error, because it has to be created first.
async fn stored_secret(visit: &Visit<'_>) -> Result<SecretDetail, HttpError> {
    let detail = service::show(&visit.site.app, visit.url.secret_name()?).await?;
    if detail.secret.id.is_some() {
        return Ok(detail);
    }
    let message = format!(
        "`{}` is missing: templates reference it, but there is no such secret. Create it first",
        detail.secret.name
    );
    Err(AppError::NotFound(message).into())
}

/// Shows the form of an existing secret.
pub async fn edit(visit: &Visit<'_>) -> PageResult {
    let detail = stored_secret(visit).await?;
    let entered = Entered {
        name: detail.secret.name.clone(),
        enabled: detail.secret.enabled == Some(true),
        etag: detail.etag.clone().unwrap_or_default(),
    };
    Ok(form_page(visit, Some(&detail.secret.name), &entered, None))
}

/// Saves the form of an existing secret. A blank value keeps the current one.
pub async fn save(visit: &Visit<'_>, mut sent: Form) -> PageResult {
    let detail = stored_secret(visit).await?;
    let (name, value, etag) = (sent.take("name"), sent.value("value"), sent.take("etag"));
    let (enabled, rewrite) = (sent.is_ticked("enabled"), sent.is_ticked("rewrite"));
    let old: SecretName = visit.url.secret_name()?;
    let saved = match name.trim().parse::<SecretName>() {
        Err(invalid) => Err(AppError::Invalid(vec![("name".into(), invalid.to_string())])),
        Ok(new) => {
            // Only the differences. `Key` and `key` are the same name but not the same spelling, so that is one.
            let change = SecretChange {
                name: Some(new).filter(|new| new.as_str() != detail.secret.name),
                value: Some(value).filter(|value| !value.is_empty()),
                enabled: Some(enabled).filter(|enabled| Some(*enabled) != detail.secret.enabled),
                rewrite,
            };
            service::update(&visit.site.app, &visit.session.actor, old, change, expected(&etag)).await
        }
    };
    match saved.map_err(HttpError::from) {
        Ok(saved) => Ok(visit.redirect(SECRETS, saved_message(&saved, &detail))),
        Err(error) => {
            let entered = Entered { name: name.to_string(), enabled, etag: etag.to_string() };
            Ok(form_page(visit, Some(&detail.secret.name), &entered, Some(&error)))
        }
    }
}

/// Returns the message about a secret that was saved, which after a rename lists what still uses a former name.
fn saved_message(saved: &ChangedSecret, before: &SecretDetail) -> String {
    let (name, previous) = (&saved.secret.name, &before.secret.name);
    let templates = saved.rewritten.len();
    if templates > 0 {
        let noun = if templates == 1 { "template names" } else { "templates name" };
        return format!("{name} was saved. {templates} {noun} it by its new name: {}.", saved.rewritten.join(", "));
    }
    let references = before.references.len();
    if name.eq_ignore_ascii_case(previous) || references == 0 {
        return format!("{name} was saved.");
    }
    format!(
        "{name} was saved. To update: {references} reference{} by a former name; {} on working until then.",
        if references == 1 { "" } else { "s" },
        if references == 1 { "it goes" } else { "they go" },
    )
}

fn expected(etag: &str) -> Option<String> {
    Some(etag.to_owned()).filter(|etag| !etag.is_empty())
}

/// Shows the templates that a new value affects, then the field for it.
pub async fn rotate(visit: &Visit<'_>) -> PageResult {
    let detail = stored_secret(visit).await?;
    let etag = detail.etag.clone().unwrap_or_default();
    Ok(rotation_page(visit, detail, &etag, None))
}

/// Shows the templates that are affected if the value of a former version is served again.
pub async fn roll_back(visit: &Visit<'_>) -> PageResult {
    let [version] = visit.url.query(["version"])?;
    let detail = stored_secret(visit).await?;
    let etag = detail.etag.clone().unwrap_or_default();
    let version = version.and_then(|version| version.parse().ok());
    let is_former = |version: &u32| detail.versions.iter().any(|other| !other.current && other.version == *version);
    let Some(version) = version.filter(is_former) else {
        return Err(AppError::NotFound(format!("`{}` has no such former version", detail.secret.name)).into());
    };
    Ok(rollback_page(visit, detail, &etag, version, None))
}

fn rollback_page(
    visit: &Visit<'_>,
    detail: SecretDetail,
    etag: &str,
    version: u32,
    error: Option<&HttpError>,
) -> Response<Full<Bytes>> {
    let title = format!("Go back to version {version} of {}", detail.secret.name);
    let status = error.map_or(StatusCode::OK, HttpError::status);
    let context = context! { etag, version, row => data(SecretRow::new(detail)), ..form_errors(error, &[]) };
    visit.page("rollback.html", status, &title, SECTION, context)
}

/// Restores the value of a former version.
pub async fn restore(visit: &Visit<'_>, mut sent: Form) -> PageResult {
    let detail = stored_secret(visit).await?;
    let (version, etag) = (sent.take("version"), sent.take("etag"));
    let version: u32 =
        version.parse().map_err(|_| HttpError::new(HttpErrorCode::BadRequest, "`version` must be a number"))?;
    let name = visit.url.secret_name()?;
    match service::roll_back(&visit.site.app, &visit.session.actor, name, version, expected(&etag)).await {
        Ok(ChangedSecret { secret, .. }) => {
            let now = secret.version.unwrap_or_default();
            let message = format!("{} has the value of its version {version} again, as version {now}.", secret.name);
            Ok(visit.redirect(SECRETS, message))
        }
        Err(error) => Ok(rollback_page(visit, detail, &etag, version, Some(&error.into()))),
    }
}

fn rotation_page(
    visit: &Visit<'_>,
    detail: SecretDetail,
    etag: &str,
    error: Option<&HttpError>,
) -> Response<Full<Bytes>> {
    let title = format!("Rotate {}", detail.secret.name);
    let status = error.map_or(StatusCode::OK, HttpError::status);
    let context = context! { etag, row => data(SecretRow::new(detail)), ..form_errors(error, &["value"]) };
    visit.page("rotate.html", status, &title, SECTION, context)
}

/// Stores the new value.
pub async fn replace(visit: &Visit<'_>, mut sent: Form) -> PageResult {
    let detail = stored_secret(visit).await?;
    let (value, etag) = (sent.value("value"), sent.take("etag"));
    let replaced = if value.is_empty() {
        Err(AppError::Invalid(vec![("value".into(), "a value cannot be empty".into())]))
    } else {
        let name = visit.url.secret_name()?;
        let change = SecretChange { value: Some(value), ..SecretChange::default() };
        service::update(&visit.site.app, &visit.session.actor, name, change, expected(&etag)).await
    };
    match replaced.map_err(HttpError::from) {
        Ok(ChangedSecret { secret, .. }) => {
            let version = secret.version.unwrap_or_default();
            Ok(visit.redirect(SECRETS, format!("{} was rotated; its version is {version} now.", secret.name)))
        }
        Err(error) => Ok(rotation_page(visit, detail, &etag, Some(&error))),
    }
}

/// Asks for confirmation, and shows the references.
pub async fn delete(visit: &Visit<'_>) -> PageResult {
    let detail = stored_secret(visit).await?;
    Ok(deletion_page(visit, detail, Deletion::Asked))
}

/// The reason why the page of a deletion is shown.
enum Deletion<'a> {
    /// The operator asked for the page.
    Asked,
    /// The secret was used after the page that was confirmed had been made.
    UsedMeanwhile,
    /// The delete was refused with this error.
    Refused(&'a HttpError),
}

fn deletion_page(visit: &Visit<'_>, detail: SecretDetail, reason: Deletion<'_>) -> Response<Full<Bytes>> {
    let (error, status) = match reason {
        Deletion::Asked => (None, StatusCode::OK),
        Deletion::UsedMeanwhile => (None, StatusCode::CONFLICT),
        Deletion::Refused(error) => (Some(error), error.status()),
    };
    let title = format!("Delete {}", detail.secret.name);
    let context = context! {
        etag => detail.etag.clone().unwrap_or_default(),
        row => data(SecretRow::new(detail)),
        refused => error.map(HttpError::message),
        detail => error.and_then(HttpError::detail),
        blockers => data(error.map(HttpError::errors).unwrap_or_default()),
        meanwhile => matches!(reason, Deletion::UsedMeanwhile),
    };
    visit.page("delete.html", status, &title, SECTION, context)
}

/// Deletes the secret, or shows everything that has to be updated first.
pub async fn remove(visit: &Visit<'_>, mut sent: Form) -> PageResult {
    let detail = stored_secret(visit).await?;
    let (etag, last_used) = (sent.take("etag"), sent.take("last_used"));
    // The operator who confirmed did not know of a use that came after the page was made.
    if !last_used.is_empty() && detail.secret.last_used_at.as_deref().unwrap_or("never") != last_used.as_str() {
        return Ok(deletion_page(
            visit,
            SecretDetail { etag: Some(etag.to_string()), ..detail },
            Deletion::UsedMeanwhile,
        ));
    }
    let expected = expected(&etag);
    match service::delete(&visit.site.app, &visit.session.actor, visit.url.secret_name()?, expected).await {
        Ok(()) => Ok(visit.redirect(SECRETS, format!("{} was deleted.", detail.secret.name))),
        Err(error) => Ok(deletion_page(visit, detail, Deletion::Refused(&error.into()))),
    }
}

/// Enables or disables the secret, and returns to the same rows.
pub async fn set_enabled(visit: &Visit<'_>, mut sent: Form, enabled: bool) -> PageResult {
    let back = InventoryQuery::read(Some(&sent.take("back")))?.to_query();
    let name = visit.url.secret_name()?;
    let change = SecretChange { enabled: Some(enabled), ..SecretChange::default() };
    let ChangedSecret { secret, .. } =
        service::update(&visit.site.app, &visit.session.actor, name, change, None).await?;
    let done = if enabled { "enabled" } else { "disabled" };
    let to = if back.is_empty() { SECRETS.to_owned() } else { format!("{SECRETS}?{back}") };
    Ok(visit.redirect(&to, format!("{} is {done}.", secret.name)))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_chart_shows_every_day_with_use() {
        let today = datetime!(2026-03-01 12:00 UTC);
        let day = |day: &str, count| DayUsage { day: day.into(), count };
        let chart = Chart::new(&[day("2026-03-01", 1), day("2026-02-28", 4000), day("2025-01-01", 9)], today).unwrap();
        assert_eq!((chart.from.as_str(), chart.to.as_str(), chart.total), ("2026-01-31", "2026-03-01", 4001));
        assert_eq!(chart.bars.len(), DAYS as usize);
        let heights: Vec<u64> = chart.bars.iter().map(|bar| bar.height).filter(|height| *height > 0).collect();
        assert_eq!(heights, [HEIGHT, 1]);
        assert!(chart.bars.iter().all(|bar| bar.y + bar.height == HEIGHT));
        assert!(Chart::new(&[day("2025-01-01", 9)], today).is_none());
    }
}
