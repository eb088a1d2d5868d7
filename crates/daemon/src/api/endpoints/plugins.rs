//! The endpoints of plugins: list, inspect, add, roll back and remove.

use std::path::PathBuf;

use http_body_util::Either;

use crate::api::context::RequestContext;
use crate::api::request::{self, BodyFields};
use crate::api::response::{Created, Json, NoContent};
use crate::app::error::AppError;
use crate::app::plugins::{self, Confirmed};
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
    let (file, replace) = (fields.text("file"), fields.optional_text("replace"));
    let confirmed = confirmed(&mut fields);
    fields.finish()?;
    let file = PathBuf::from(file.unwrap_or_default());
    if !file.is_absolute() {
        return Err(AppError::invalid("file", "must be an absolute path").into());
    }
    match confirmed? {
        None => Ok(Either::Left(Json(plugins::inspect(cx.app, &file).await?))),
        Some(confirmed) => {
            let added = plugins::add(cx.app, &cx.actor(), &file, replace.as_deref(), confirmed).await?;
            Ok(Either::Right(Created(added)))
        }
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
