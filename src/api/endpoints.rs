//! What each endpoint does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

use super::error::{ApiError, Code};
use super::routes::Endpoint;
use super::{App, Link, request, view};
use crate::inventory::{Inventory, InventoryError};
use crate::plugin::plan::Plan;
use crate::plugin::registry::Pin;
use crate::resolve::plans::{Prepared, Unplanned};
use crate::resolve::snapshot::Snapshot;
use crate::sys::stack::leaving_nothing;
use crate::vault::usage::Caller;

/// How long a request waits for a plan.
const PLAN_TIME: Duration = Duration::from_secs(10);
/// Under which the vault keeps the pinned plugins.
pub const PINS: &str = "plugins";

type Answer = Result<Response<Full<Bytes>>, ApiError>;

/// Answers one request of an authorised caller.
///
/// # Errors
/// What the caller is told instead.
pub async fn answer(
    app: &Arc<App>,
    endpoint: Endpoint,
    params: &matchit::Params<'_, '_>,
    parts: &Parts,
    body: Incoming,
    caller: &Caller,
) -> Answer {
    let query = parts.uri.query();
    let param = |name: &str| params.get(name).unwrap_or_default();
    let transfer = app.config.load().limits.transfer;
    match endpoint {
        Endpoint::Render => {
            let [target] = request::query(query, ["target"])?;
            let id = template_id(params)?;
            let known = parts.headers.get(IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
            render(app, &id, target.as_deref(), known, caller).await
        }
        Endpoint::Resolve => {
            request::query(query, [])?;
            let mut fields = request::object(body, transfer).await?;
            let names = fields.names("secrets");
            fields.finish()?;
            let body = leaving_nothing(|| app.resolver.resolve(&names, caller))?;
            Ok(with_body(body, "application/json"))
        }
        Endpoint::ListSecrets => {
            let (page, filter) = request::inventory(query)?;
            let rows = blocking(app, move |inventory| inventory.list(&filter)).await?;
            Ok(json_answer(StatusCode::OK, &page.of(rows)))
        }
        Endpoint::CreateSecret => {
            request::query(query, [])?;
            let mut fields = request::object(body, transfer).await?;
            let (name, value) = (fields.name("name"), fields.value("value"));
            let enabled = fields.flag("enabled").unwrap_or(true);
            fields.finish()?;
            let (Some(name), Some(value)) = (name, value) else {
                return Err(ApiError::new(Code::Internal, "a field was read twice"));
            };
            let (row, released) = blocking(app, move |inventory| inventory.create(name, &value, enabled)).await?;
            released.wait().await;
            Ok(json_answer(StatusCode::CREATED, &row))
        }
        Endpoint::ShowSecret => {
            request::query(query, [])?;
            let name = request::name(param("name"))?;
            Ok(json_answer(StatusCode::OK, &blocking(app, move |inventory| inventory.show(&name)).await?))
        }
        Endpoint::ChangeSecret => {
            request::query(query, [])?;
            let name = request::name(param("name"))?;
            let mut fields = request::object(body, transfer).await?;
            let enabled = fields.flag("enabled");
            fields.finish()?;
            let Some(enabled) = enabled else {
                return Err(ApiError::fields(vec![("enabled".into(), "missing".into())]));
            };
            let (row, released) = blocking(app, move |inventory| inventory.set_enabled(&name, enabled)).await?;
            released.wait().await;
            Ok(json_answer(StatusCode::OK, &row))
        }
        Endpoint::DeleteSecret => {
            request::query(query, [])?;
            let name = request::name(param("name"))?;
            let (id, released) = blocking(app, move |inventory| inventory.delete(&name)).await?;
            released.wait().await;
            // After the last answer that could still have recorded one.
            blocking(app, move |inventory| inventory.forget_usage(id)).await?;
            Ok(empty(StatusCode::NO_CONTENT))
        }
        Endpoint::ListTemplates => {
            let page = request::page(query)?;
            blocking(app, |inventory| Ok(inventory.rescan())).await?;
            Ok(json_answer(StatusCode::OK, &page.of(view::templates(app).await)))
        }
        Endpoint::ShowTemplate => {
            request::query(query, [])?;
            let (_, prepared) = current(app, &template_id(params)?, Instant::now() + PLAN_TIME).await?;
            Ok(json_answer(StatusCode::OK, &view::template(app, &prepared).await))
        }
        Endpoint::Explain => {
            let [target] = request::query(query, ["target"])?;
            let id = template_id(params)?;
            let (_, prepared, plan) = planned(app, &id, target.as_deref()).await?;
            Ok(json_answer(StatusCode::OK, &view::explain(&prepared, &plan)))
        }
        Endpoint::ListPlugins => {
            let page = request::page(query)?;
            Ok(json_answer(StatusCode::OK, &page.of(app.registry.list().await)))
        }
        Endpoint::AddPlugin => {
            request::query(query, [])?;
            add_plugin(app, request::object(body, transfer).await?).await
        }
        Endpoint::RemovePlugin => {
            request::query(query, [])?;
            remove_plugin(app, &request::part(param("feature"))?).await
        }
        Endpoint::Console => {
            request::query(query, [])?;
            Ok(json_answer(StatusCode::OK, &link(app).await?))
        }
        Endpoint::Status => {
            request::query(query, [])?;
            Ok(json_answer(StatusCode::OK, &view::status(app).await?))
        }
        Endpoint::Health => Ok(json_answer(StatusCode::OK, &json!({"status": "ok"}))),
    }
}

async fn link(app: &Arc<App>) -> Result<Link, ApiError> {
    let closed = || ApiError::new(Code::Unavailable, "the console is not to be had: the daemon is stopping");
    let (wanted, link) = tokio::sync::oneshot::channel();
    app.links.send(wanted).await.map_err(|_| closed())?;
    link.await.map_err(|_| closed())?.map_err(|why| ApiError::new(Code::Unavailable, why))
}

/// Calls a part that blocks.
///
/// # Errors
/// The part's.
pub async fn blocking<T: Send + 'static>(
    app: &Arc<App>,
    call: impl FnOnce(&Inventory) -> Result<T, InventoryError> + Send + 'static,
) -> Result<T, ApiError> {
    let app = Arc::clone(app);
    match tokio::task::spawn_blocking(move || leaving_nothing(|| call(&app.inventory))).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(ApiError::new(Code::Internal, "the request failed inside; the daemon's log says where")),
    }
}

/// The newest form of a template: what is served is what is in the file now.
///
/// # Errors
/// There is none, or it does not rest.
pub async fn current(app: &Arc<App>, id: &str, until: Instant) -> Result<(Arc<Snapshot>, Arc<Prepared>), ApiError> {
    let mut read: Option<Arc<Prepared>> = None;
    let mut rescanned = false;
    loop {
        let snapshot = app.resolver.current.load();
        let found = snapshot.templates.get(id).cloned();
        match found {
            Some(prepared) if prepared.template.is_current() => return Ok((snapshot, prepared)),
            // Not sure by its looks, but a rescan since then has read it and found it as it was.
            Some(prepared) if read.as_ref().is_some_and(|read| Arc::ptr_eq(read, &prepared)) => {
                return Ok((snapshot, prepared));
            }
            None if rescanned => {
                let message = format!("there is no template `{id}`; `guillemet template list` shows which there are");
                return Err(ApiError::new(Code::NotFound, message));
            }
            _ if Instant::now() >= until => {
                let message = format!("template `{id}` keeps changing; try again when it rests");
                return Err(ApiError::new(Code::Unavailable, message));
            }
            // Changed, gone or new since the catalog last looked.
            found => {
                read = found;
                drop(snapshot);
                blocking(app, |inventory| Ok(inventory.rescan())).await?;
                rescanned = true;
            }
        }
    }
}

/// The newest form of a template with its plan for a target, and the snapshot both belong to.
///
/// # Errors
/// As `current`, or why there is no plan.
pub async fn planned(
    app: &Arc<App>,
    id: &str,
    target: Option<&str>,
) -> Result<(Arc<Snapshot>, Arc<Prepared>, Arc<Plan>), ApiError> {
    let until = Instant::now() + PLAN_TIME;
    loop {
        let (snapshot, prepared) = current(app, id, until).await?;
        if let Some(ready) = prepared.ready(target) {
            let plan = ready.map_err(|unplanned| ApiError::unplanned(id, &unplanned))?;
            return Ok((snapshot, prepared, plan));
        }
        // Nothing of the old state is held while waiting, so that no change has to wait for this plan.
        drop(snapshot);
        let config = app.config.load_full();
        let making = prepared.plan(target, &app.registry, &config);
        match tokio::time::timeout_at(until.into(), making).await {
            Err(_) => {
                let message = format!("template `{id}` is still being worked out; try again");
                return Err(ApiError::new(Code::Unavailable, message));
            }
            Ok(Err(unplanned @ (Unplanned::NoTarget(_) | Unplanned::Plugin(_)))) => {
                return Err(ApiError::unplanned(id, &unplanned));
            }
            Ok(_) => {}
        }
    }
}

async fn render(app: &Arc<App>, id: &str, target: Option<&str>, known: Option<&str>, caller: &Caller) -> Answer {
    let (snapshot, prepared, plan) = planned(app, id, target).await?;
    let rendered = leaving_nothing(|| app.resolver.render(snapshot, &prepared, &plan, caller, known))?;
    let mut response = match rendered.body {
        Some(body) => with_body(body, &rendered.media_type),
        None => empty(StatusCode::NOT_MODIFIED),
    };
    if let Ok(etag) = HeaderValue::from_str(&rendered.etag) {
        response.headers_mut().insert(ETAG, etag);
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn add_plugin(app: &Arc<App>, mut fields: request::Fields) -> Answer {
    let file = fields.text("file");
    let confirm = fields.flag("confirm").unwrap_or(false);
    let digest = fields.optional_text("digest");
    fields.finish()?;
    let file = std::path::PathBuf::from(file.unwrap_or_default());
    if !file.is_absolute() {
        return Err(ApiError::fields(vec![("file".into(), "an absolute path is needed".into())]));
    }
    if !confirm {
        return Ok(json_answer(StatusCode::OK, &app.registry.look(&file).await?));
    }
    let Some(digest) = digest else {
        return Err(ApiError::fields(vec![("digest".into(), "the SHA-256 that was looked at is needed".into())]));
    };
    let mut pins = app.pins.lock().await;
    let mut next = pins.clone();
    let pin = async |pin: Pin| {
        next.retain(|known| known.feature != pin.feature);
        next.push(pin);
        store_pins(app, &next).await
    };
    let added = app.registry.add(&file, &digest, pin).await?;
    *pins = next;
    forget_plans(app, &added.feature).await;
    Ok(json_answer(StatusCode::CREATED, &added))
}

async fn remove_plugin(app: &Arc<App>, feature: &str) -> Answer {
    let mut pins = app.pins.lock().await;
    let mut next = pins.clone();
    next.retain(|pin| pin.feature != feature);
    if next.len() == pins.len() {
        let message = format!("no plugin was added for the feature `{feature}`; built-in ones cannot be removed");
        return Err(ApiError::new(Code::NotFound, message));
    }
    store_pins(app, &next).await.map_err(|error| ApiError::new(Code::Unavailable, error))?;
    app.registry.remove(feature);
    *pins = next;
    forget_plans(app, feature).await;
    Ok(empty(StatusCode::NO_CONTENT))
}

async fn store_pins(app: &Arc<App>, pins: &[Pin]) -> Result<(), String> {
    let bytes = serde_json::to_vec(pins).map_err(|error| error.to_string())?;
    let app = Arc::clone(app);
    let stored = tokio::task::spawn_blocking(move || app.inventory.set_document(PINS, &bytes)).await;
    stored.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

async fn forget_plans(app: &Arc<App>, feature: &str) {
    app.inventory.forget_plans(Some(feature)).wait().await;
}

fn template_id(params: &matchit::Params<'_, '_>) -> Result<String, ApiError> {
    let part = |name| request::part(params.get(name).unwrap_or_default());
    Ok([&*part("feature")?, "/", &*part("name")?].concat())
}

fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

fn with_body(body: Bytes, media_type: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    let media_type = HeaderValue::from_str(media_type).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}

fn json_answer<T: Serialize + ?Sized>(status: StatusCode, body: &T) -> Response<Full<Bytes>> {
    let value = serde_json::to_value(body).unwrap_or(Value::Null);
    let mut bytes = value.to_string().into_bytes();
    bytes.push(b'\n');
    let mut response = with_body(bytes.into(), "application/json");
    *response.status_mut() = status;
    response
}
