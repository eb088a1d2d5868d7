//! The endpoints of plugins: list, inspect, add and remove.

use std::path::PathBuf;

use http_body_util::Either;

use crate::api::context::RequestContext;
use crate::api::request;
use crate::api::response::{Created, Json, NoContent};
use crate::app::error::AppError;
use crate::app::plugins;
use crate::http::error::HttpError;
use guillemet_api::Listing;
use guillemet_api::plugins::PluginView;

/// `GET /v1/plugins`: lists the plugins.
pub async fn list(cx: RequestContext<'_>) -> Result<Json<Listing<PluginView>>, HttpError> {
    let page = request::page(cx.url.raw_query())?;
    Ok(Json(page.of(plugins::list(cx.app).await)))
}

/// `POST /v1/plugins`: inspects a plugin, or adds it once a person has confirmed what was inspected.
pub async fn add(mut cx: RequestContext<'_>) -> Result<Either<Json<PluginView>, Created<PluginView>>, HttpError> {
    cx.url.query([])?;
    let mut fields = cx.administrators_fields().await?;
    let file = fields.text("file");
    let confirm = fields.flag("confirm").unwrap_or(false);
    let digest = fields.optional_text("digest");
    let replaces = fields.optional_text("replaces");
    fields.finish()?;
    let file = PathBuf::from(file.unwrap_or_default());
    if !file.is_absolute() {
        return Err(AppError::invalid("file", "must be an absolute path").into());
    }
    if !confirm {
        return Ok(Either::Left(Json(plugins::inspect(cx.app, &file).await?)));
    }
    let digest = digest.ok_or_else(|| AppError::invalid("digest", "must be the SHA-256 of the confirmed file"))?;
    let added = plugins::add(cx.app, &cx.actor(), &file, &digest, replaces.as_deref()).await?;
    Ok(Either::Right(Created(added)))
}

/// `DELETE /v1/plugins/{feature}`: removes an added plugin.
pub async fn remove(cx: RequestContext<'_>) -> Result<NoContent, HttpError> {
    cx.url.query([])?;
    plugins::remove(cx.app, &cx.actor(), &cx.url.param("feature")?).await?;
    Ok(NoContent)
}
