//! The endpoints of the daemon itself: events, audit trail, console, configuration, status, health and metrics.

use std::sync::Arc;

use hyper::Response;

use crate::api::context::RequestContext;
use crate::api::response::{Json, Raw};
use crate::api::{events, metrics, request};
use crate::app::{blocking, configuration, console_link};
use crate::http::error::{HttpError, HttpErrorCode};
use guillemet_api::Listing;
use guillemet_api::configuration::Reloaded;
use guillemet_api::console::ConsoleLink;
use guillemet_api::health::Health;
use guillemet_api::status::DaemonStatus;
use guillemet_api::usage::EventView;
use guillemet_http::event_stream::EventStream;
use guillemet_http::metrics::MEDIA_TYPE;

/// `GET /v1/events`: what changes from now on.
pub async fn events(cx: RequestContext<'_>) -> Result<Response<EventStream>, HttpError> {
    cx.url.query([])?;
    begin_stream(&cx)?;
    events::stream(&cx.app.events)
}

/// Notes that an endless response begins. It ends when its caller loses the right.
///
/// # Errors
/// If the caller has too many of them, or lost the right meanwhile.
pub fn begin_stream(cx: &RequestContext<'_>) -> Result<(), HttpError> {
    if !cx.slot.begin_stream() {
        let message = "this user has reached its limit of event streams; close one, or raise limits.connections";
        return Err(HttpError::new(HttpErrorCode::RateLimited, message));
    }
    // From here on, the stream ends when its caller loses the right. A change of the rules before that did not see it
    // yet.
    Ok(cx.principal.recheck_administers(cx.app)?)
}

/// `GET /v1/usage`: lists events of the audit trail.
pub async fn usage(cx: RequestContext<'_>) -> Result<Json<Listing<EventView>>, HttpError> {
    let (page, filter) = request::events(cx.url.raw_query())?;
    Ok(Json(crate::app::usage::list(cx.app, page, filter).await?))
}

/// `POST /v1/console`: returns a link to the console.
pub async fn console(cx: RequestContext<'_>) -> Result<Json<ConsoleLink>, HttpError> {
    cx.url.query([])?;
    Ok(Json(console_link(cx.app, cx.principal.caller).await?))
}

/// `POST /v1/reload`: reads the configuration again, and responds once it is in force.
pub async fn reload(cx: RequestContext<'_>) -> Result<Json<Reloaded>, HttpError> {
    cx.url.query([])?;
    Ok(Json(configuration::reload_for(cx.app, cx.principal.caller).await?))
}

/// `GET /v1/status`: returns the state of the daemon.
pub async fn status(cx: RequestContext<'_>) -> Result<Json<DaemonStatus>, HttpError> {
    cx.url.query([])?;
    Ok(Json(crate::app::status::status(cx.app).await?))
}

/// `GET /healthz`: confirms that the daemon answers requests.
pub async fn health(cx: RequestContext<'_>) -> Result<Json<Health>, HttpError> {
    Ok(Json(Health { status: "ok".into(), home: cx.app.home_id.to_string() }))
}

/// `GET /metrics`: returns the metrics for Prometheus.
pub async fn metrics(cx: RequestContext<'_>) -> Result<Raw, HttpError> {
    cx.url.query([])?;
    let (app, counts) = (Arc::clone(cx.app), Arc::clone(cx.counts));
    let text = blocking(cx.app, move |inventory| Ok(metrics::text(&app, inventory, &counts)?)).await?;
    Ok(Raw(text.into(), MEDIA_TYPE))
}
