//! The endpoints of plugins: list, inspect, add, roll back, stand in for, and remove.

use std::path::PathBuf;

use http_body_util::Either;
use hyper::Response;

use super::daemon;
use crate::api::context::RequestContext;
use crate::api::request::{self, BodyFields};
use crate::api::response::{Created, Json, NoContent};
use crate::api::stand_in;
use crate::app::error::AppError;
use crate::app::plugins::{self, Confirmed};
use crate::http::error::HttpError;
use guillemet_api::Listing;
use guillemet_api::plugins::PluginView;
use guillemet_http::event_stream::EventStream;

/// `GET /v1/plugins`: lists the plugins.
pub async fn list(cx: RequestContext<'_>) -> Result<Json<Listing<PluginView>>, HttpError> {
    let page = request::page(cx.url.raw_query())?;
    Ok(Json(page.of(plugins::list(cx.app).await)))
}

/// `POST /v1/plugins`: inspects a plugin, or adds it once a person has confirmed what was inspected.
pub async fn add(mut cx: RequestContext<'_>) -> Result<Either<Json<PluginView>, Created<PluginView>>, HttpError> {
    cx.url.query([])?;
    let mut fields = cx.administrators_fields().await?;
    let (file, replace) = (fields.text("file"), fields.optional_text("replace"));
    let confirmed = confirmed(&mut fields);
    fields.finish()?;
    let file = absolute(file.unwrap_or_default())?;
    match confirmed? {
        None => Ok(Either::Left(Json(plugins::inspect(cx.app, &file).await?))),
        Some(confirmed) => {
            let added = plugins::add(cx.app, &cx.actor(), &file, replace.as_deref(), confirmed).await?;
            Ok(Either::Right(Created(added)))
        }
    }
}

/// Returns the path of a component, which the daemon reads, whatever its working directory is.
fn absolute(file: String) -> Result<PathBuf, AppError> {
    match PathBuf::from(file) {
        file if file.is_absolute() => Ok(file),
        _ => Err(AppError::invalid("file", "must be an absolute path")),
    }
}

/// `POST /v1/plugins/{feature}/rollback`: inspects the former plugin of a feature, or brings it back once a person has
/// confirmed what was inspected.
pub async fn roll_back(mut cx: RequestContext<'_>) -> Result<Json<PluginView>, HttpError> {
    cx.url.query([])?;
    let feature = cx.url.param("feature")?;
    let mut fields = cx.administrators_fields().await?;
    let confirmed = confirmed(&mut fields);
    fields.finish()?;
    Ok(Json(match confirmed? {
        None => plugins::inspect_former(cx.app, &feature).await?,
        Some(confirmed) => plugins::roll_back(cx.app, &cx.actor(), &feature, confirmed).await?,
    }))
}

/// `POST /v1/plugins/{feature}/stand-in`: lets a component stand in for the plugin of a feature, for as long as the caller
/// stays connected.
pub async fn stand_in(mut cx: RequestContext<'_>) -> Result<Response<EventStream>, HttpError> {
    cx.url.query([])?;
    let feature = cx.url.param("feature")?;
    let mut fields = cx.administrators_fields().await?;
    let (file, digest) = (fields.text("file"), fields.text("digest"));
    fields.finish()?;
    let file = absolute(file.unwrap_or_default())?;
    let (actor, digest) = (cx.actor(), digest.unwrap_or_default());
    let candidate = plugins::stand_in::read(cx.app, &actor, &feature, &file, &digest).await?;
    daemon::begin_stream(&cx)?;
    stand_in::stream(cx.app, actor, candidate).await
}

/// Reads what a person confirms; `None` inside if the request only inspects.
fn confirmed(fields: &mut BodyFields) -> Result<Option<Confirmed>, AppError> {
    let confirm = fields.flag("confirm").unwrap_or(false);
    let breaks = fields.flag("break").unwrap_or(false);
    let (digest, replaces) = (fields.optional_text("digest"), fields.optional_text("replaces"));
    let comparison = fields.optional_text("comparison");
    match (confirm, digest) {
        (false, _) => Ok(None),
        (true, Some(digest)) => Ok(Some(Confirmed { digest, replaces, breaks, comparison })),
        (true, None) => Err(AppError::invalid("digest", "must be the SHA-256 of the confirmed plugin")),
    }
}

/// `DELETE /v1/plugins/{feature}`: removes an added plugin.
pub async fn remove(cx: RequestContext<'_>) -> Result<NoContent, HttpError> {
    cx.url.query([])?;
    plugins::remove(cx.app, &cx.actor(), &cx.url.param("feature")?).await?;
    Ok(NoContent)
}
