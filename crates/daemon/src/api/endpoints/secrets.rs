//! The endpoints of secrets: the inventory, changes, and values by name.

use std::time::Instant;

use crate::api::context::RequestContext;
use crate::api::request;
use crate::api::response::{Created, Json, LongJson, NoContent, Raw, Tagged};
use crate::app::error::AppError;
use crate::app::secrets;
use crate::http::error::HttpError;
use crate::inventory::SecretChange;
use guillemet_api::Listing;
use guillemet_api::secrets::{ChangedSecret, SecretDetail, SecretView};

/// The approximate size of one row of the inventory, in bytes of JSON.
const ROW: usize = 384;

/// `GET /v1/secrets`: lists the inventory.
pub async fn list(cx: RequestContext<'_>) -> Result<LongJson<Listing<SecretView>>, HttpError> {
    let (filter, since) = (request::inventory(cx.url.raw_query())?, Instant::now());
    let (count, items) = secrets::list(cx.app, filter, since).await?;
    let expected = 64 + ROW * items.len();
    Ok(LongJson(Listing { count, items }, expected))
}

/// `POST /v1/secrets`: creates a secret.
pub async fn create(mut cx: RequestContext<'_>) -> Result<Tagged<Created<ChangedSecret>>, HttpError> {
    cx.url.query([])?;
    let mut fields = cx.administrators_fields().await?;
    let (name, value) = (fields.name("name"), fields.value("value"));
    let enabled = fields.flag("enabled").unwrap_or(true);
    fields.finish()?;
    let (Some(name), Some(value)) = (name, value) else {
        return Err(AppError::Internal("a field was read twice").into());
    };
    let created = secrets::create(cx.app, &cx.actor(), name, value, enabled).await?;
    let etag = created.etag.clone();
    Ok(Tagged(Created(created), etag))
}

/// `GET /v1/secrets/{name}`: returns one secret with everything known about it.
pub async fn show(cx: RequestContext<'_>) -> Result<Tagged<Json<SecretDetail>>, HttpError> {
    cx.url.query([])?;
    let detail = secrets::show(cx.app, cx.url.secret_name()?).await?;
    let etag = detail.etag.clone();
    Ok(Tagged(Json(detail), etag))
}

/// `PATCH /v1/secrets/{name}`: renames a secret, gives it another value, enables or disables it.
pub async fn update(mut cx: RequestContext<'_>) -> Result<Tagged<Json<ChangedSecret>>, HttpError> {
    cx.url.query([])?;
    let (name, expected) = (cx.url.secret_name()?, cx.if_match()?);
    let mut fields = cx.administrators_fields().await?;
    let change = SecretChange {
        name: fields.optional_name("name"),
        value: fields.optional_value("value"),
        enabled: fields.flag("enabled"),
        rewrite: fields.flag("rewrite").unwrap_or(false),
    };
    fields.finish()?;
    Ok(changed(secrets::update(cx.app, &cx.actor(), name, change, expected).await?))
}

/// `POST /v1/secrets/{name}/rollback`: restores the value of a former version.
pub async fn roll_back(mut cx: RequestContext<'_>) -> Result<Tagged<Json<ChangedSecret>>, HttpError> {
    cx.url.query([])?;
    let (name, expected) = (cx.url.secret_name()?, cx.if_match()?);
    let mut fields = cx.administrators_fields().await?;
    let version = fields.number("version");
    fields.finish()?;
    let version = version.unwrap_or_default();
    Ok(changed(secrets::roll_back(cx.app, &cx.actor(), name, version, expected).await?))
}

/// `DELETE /v1/secrets/{name}`: deletes a secret that nothing references.
pub async fn delete(cx: RequestContext<'_>) -> Result<NoContent, HttpError> {
    cx.url.query([])?;
    let (name, expected) = (cx.url.secret_name()?, cx.if_match()?);
    secrets::delete(cx.app, &cx.actor(), name, expected).await?;
    Ok(NoContent)
}

/// `POST /v1/resolve`: returns values by name.
pub async fn resolve(mut cx: RequestContext<'_>) -> Result<Raw, HttpError> {
    cx.url.query([])?;
    let mut fields = cx.fields().await?;
    let (names, reveal) = (fields.names("secrets"), fields.flag("reveal").unwrap_or(false));
    fields.finish()?;
    Ok(Raw(secrets::resolve(cx.app, cx.principal, &names, reveal).await?, "application/json"))
}

fn changed(changed: ChangedSecret) -> Tagged<Json<ChangedSecret>> {
    let etag = changed.etag.clone();
    Tagged(Json(changed), etag)
}
