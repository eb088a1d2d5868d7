//! Handles what comes before every page: the host, the session, the token of forms, and the headers of responses.
//!
//! Invariant: nothing is processed before the host is found to be ours, nothing is shown before the cookie is found to
//! be that of a session, and nothing is changed before the form is found to carry that session's token. Knows no page's
//! content.

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use minijinja::context;
use minijinja::value::Value;
use tokio::time::Instant;

use super::form::Form;
use super::visit::{PageResult, SECRETS, Visit, plain, see_other};
use super::{Site, audit, plugins, secrets, session, templates};
use crate::app;
use crate::app::error::{AppError, ErrorCode};
use crate::http::error::{HttpError, HttpErrorCode};
use crate::http::request::{self, RequestUrl};
use guillemet_base::sys::stack::with_wiped_stack;
use guillemet_base::time::now;
use guillemet_http::router::Params;
use guillemet_vault::audit::AuditChange;
use guillemet_vault::usage::ChangeKind;

const COOKIE: &str = "guillemet_session";
/// The action or page that a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    Root,
    LogIn,
    LogOut,
    Asset,
    Secrets,
    Live,
    New,
    Edit,
    Rotate,
    RollBack,
    Delete,
    Enable,
    Disable,
    Templates,
    Template,
    Plugins,
    Audit,
}

/// The path of each route, the route, and the fields of its form if it takes one.
pub const ROUTES: [(&str, Route, &[&str]); 17] = [
    ("/", Route::Root, &[]),
    ("/login", Route::LogIn, &[]),
    ("/logout", Route::LogOut, &["csrf"]),
    ("/assets/{digest}/{file}", Route::Asset, &[]),
    ("/settings/developers/secrets", Route::Secrets, &["csrf", "name", "value", "enabled"]),
    ("/settings/developers/secrets/live", Route::Live, &[]),
    ("/settings/developers/secrets/new", Route::New, &[]),
    ("/settings/developers/secrets/{name}/edit", Route::Edit, &["csrf", "etag", "name", "value", "enabled", "rewrite"]),
    ("/settings/developers/secrets/{name}/rotate", Route::Rotate, &["csrf", "etag", "value"]),
    ("/settings/developers/secrets/{name}/rollback", Route::RollBack, &["csrf", "etag", "version"]),
    ("/settings/developers/secrets/{name}/delete", Route::Delete, &["csrf", "etag", "last_used"]),
    ("/settings/developers/secrets/{name}/enable", Route::Enable, &["csrf", "back"]),
    ("/settings/developers/secrets/{name}/disable", Route::Disable, &["csrf", "back"]),
    ("/settings/developers/templates", Route::Templates, &[]),
    ("/settings/developers/templates/{feature}/{name}", Route::Template, &[]),
    ("/settings/developers/plugins", Route::Plugins, &[]),
    ("/settings/developers/audit", Route::Audit, &[]),
];

impl Route {
    /// Returns the methods that the route supports, separated by commas. `fields` are those of its form.
    pub fn methods(self, fields: &[&str]) -> &'static str {
        match self {
            // No HEAD: a program that only looks at a link must not use it up.
            Self::LogIn => "GET",
            Self::LogOut | Self::Enable | Self::Disable => "POST",
            _ if fields.is_empty() => "GET, HEAD",
            _ => "GET, HEAD, POST",
        }
    }
}

/// Handles one request, and adds the headers that every response has.
pub async fn handle(site: &Arc<Site>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let mut response = respond(site, &parts, body).await;
    let headers = response.headers_mut();
    for (name, value) in SEAL {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The headers on every response.
const SEAL: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), clipboard-read=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
];

async fn respond(site: &Arc<Site>, parts: &Parts, body: Incoming) -> Response<Full<Bytes>> {
    if !is_for(&site.host, parts) {
        // A page under another name that leads here (DNS rebinding). The response tells it nothing.
        tracing::warn!("a request to the console for another host was refused");
        return plain(StatusCode::MISDIRECTED_REQUEST, "this is another host");
    }
    let routes = router();
    let matched = routes.at(parts.uri.path()).ok();
    let route = matched.as_ref().map(|matched| matched.value.0);
    match (route, &matched) {
        (Some(Route::LogIn), _) if parts.method == Method::GET => return log_in(site, parts).await,
        (Some(Route::LogIn), _) => {
            return not_allowed(plain(StatusCode::METHOD_NOT_ALLOWED, "a link is followed"), "GET");
        }
        (Some(Route::Asset), Some(matched)) if parts.method == Method::GET || parts.method == Method::HEAD => {
            let param = |name| matched.params.get(name).unwrap_or_default();
            let asset = site.pages.asset(param("digest"), param("file"));
            return asset.unwrap_or_else(|| plain(StatusCode::NOT_FOUND, "there is no such file"));
        }
        _ => {}
    }
    // Requests that a page makes by itself do not keep the session alive.
    let active = route != Some(Route::Live);
    let session = cookie(&parts.headers).and_then(|cookie| site.sessions().find(cookie, active, Instant::now()));
    let Some(session) = session else { return page_without_session(site, parts, route) };
    let url = |params| RequestUrl::new(params, parts.uri.query());
    let Some(matched) = matched else {
        let visit = Visit { site, session, parts, url: url(Params::default()) };
        return visit.error(&AppError::NotFound("there is no such page".into()).into());
    };
    let (route, fields) = *matched.value;
    let visit = Visit { site, session, parts, url: url(matched.params) };
    let methods = route.methods(fields);
    if !methods.split(", ").any(|allowed| parts.method == *allowed) {
        let error = HttpError::new(HttpErrorCode::MethodNotAllowed, format!("this page only supports {methods}"));
        return not_allowed(visit.error(&error), methods);
    }
    let result =
        if parts.method == Method::POST { post(&visit, route, fields, body).await } else { get(&visit, route).await };
    let response = result.unwrap_or_else(|error| visit.error(&error));
    tracing::debug!(?route, method = %parts.method, status = response.status().as_u16(), "answered in the console");
    response
}

async fn get(visit: &Visit<'_>, route: Route) -> PageResult {
    match route {
        Route::Secrets => secrets::table(visit).await,
        Route::Live => secrets::live(visit).await,
        Route::New => secrets::new(visit),
        Route::Edit => secrets::edit(visit).await,
        Route::Rotate => secrets::rotate(visit).await,
        Route::RollBack => secrets::roll_back(visit).await,
        Route::Delete => secrets::delete(visit).await,
        Route::Templates => templates::list(visit).await,
        Route::Template => templates::show(visit).await,
        Route::Plugins => plugins::list(visit).await,
        Route::Audit => audit::list(visit).await,
        Route::Root | Route::LogIn | Route::LogOut | Route::Asset | Route::Enable | Route::Disable => {
            Ok(see_other(SECRETS))
        }
    }
}

async fn post(visit: &Visit<'_>, route: Route, fields: &[&str], mut body: Incoming) -> PageResult {
    let headers = &visit.parts.headers;
    if !is_from(&visit.site.host, headers) {
        forbidden(visit, route);
        return Err(HttpError::new(
            HttpErrorCode::App(ErrorCode::Forbidden),
            "this form was not sent by the console; nothing was changed",
        ));
    }
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(HttpError::new(
            HttpErrorCode::BadRequest,
            "the body must be a form (application/x-www-form-urlencoded)",
        ));
    }
    let (limit, budget) = (visit.site.app.config.load().limits.transfer, &visit.site.app.resolver.budget);
    let received = request::bytes(&mut body, request::Intake { limit, budget, uid: visit.site.own_uid }).await?;
    let mut form = with_wiped_stack(|| Form::read(&received, fields))?;
    drop((received, body));
    if !session::constant_time_eq(&form.take("csrf"), &visit.session.csrf) {
        forbidden(visit, route);
        let message = "this form is not of this session; nothing was changed. Go back, reload the page and try again";
        return Err(HttpError::new(HttpErrorCode::App(ErrorCode::Forbidden), message));
    }
    match route {
        Route::Secrets => secrets::create(visit, form).await,
        Route::Edit => secrets::save(visit, form).await,
        Route::Rotate => secrets::replace(visit, form).await,
        Route::RollBack => secrets::restore(visit, form).await,
        Route::Delete => secrets::remove(visit, form).await,
        Route::Enable => secrets::set_enabled(visit, form, true).await,
        Route::Disable => secrets::set_enabled(visit, form, false).await,
        Route::LogOut => Ok(log_out(visit).await),
        // `methods` lets none of these through.
        _ => Err(HttpError::new(HttpErrorCode::MethodNotAllowed, "this page does not accept a form")),
    }
}

/// Records that a form was refused because it did not come from a page of this session.
fn forbidden(visit: &Visit<'_>, route: Route) {
    let path = ROUTES.iter().find(|(_, listed, _)| *listed == route).map_or("", |(path, ..)| *path);
    if let Some(caller) = &visit.session.actor.caller {
        visit.site.app.resolver.forbid(caller, &format!("POST {path}"), None, std::iter::empty());
    }
}

fn router() -> &'static matchit::Router<(Route, &'static [&'static str])> {
    static ROUTER: std::sync::OnceLock<matchit::Router<(Route, &'static [&'static str])>> = std::sync::OnceLock::new();
    ROUTER.get_or_init(|| {
        let mut router = matchit::Router::new();
        for (path, route, fields) in ROUTES {
            let inserted = router.insert(path, (route, fields));
            debug_assert!(inserted.is_ok(), "the paths of ROUTES do not conflict");
        }
        router
    })
}

/// Returns whether a request is for this host: in its only `Host` header, and in its target if that contains a host.
fn is_for(host: &str, parts: &Parts) -> bool {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let is_only_host = hosts.next().is_some_and(|value| value.as_bytes() == host.as_bytes()) && hosts.next().is_none();
    is_only_host && parts.uri.authority().is_none_or(|authority| authority.as_str() == host)
}

/// Returns whether a form comes from a page of this host, as far as the browser reports that.
fn is_from(host: &str, headers: &HeaderMap) -> bool {
    let single = |name: HeaderName| -> Result<Option<&[u8]>, ()> {
        let mut values = headers.get_all(name).iter();
        let first = values.next().map(HeaderValue::as_bytes);
        if values.next().is_none() { Ok(first) } else { Err(()) }
    };
    let (Ok(origin), Ok(site)) = (single(header::ORIGIN), single(HeaderName::from_static("sec-fetch-site"))) else {
        return false;
    };
    let same_site = site.map(|site| site == b"same-origin");
    match origin {
        // Pages that send no referrer send no origin either: it is `null` then, and the other header decides.
        Some(b"null") => same_site == Some(true),
        Some(origin) => origin == format!("http://{host}").as_bytes() && same_site != Some(false),
        None => same_site != Some(false),
    }
}

/// Returns the session's cookie. Returns `None` if there are several, because then another page must have set one.
fn cookie(headers: &HeaderMap) -> Option<&str> {
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut cookies = pairs
        .flat_map(|value| value.split("; "))
        .filter_map(|pair| pair.split_once('='))
        .filter(|(name, _)| *name == COOKIE);
    let (_, first) = cookies.next()?;
    cookies.next().is_none().then_some(first)
}

async fn log_in(site: &Arc<Site>, parts: &Parts) -> Response<Full<Bytes>> {
    // A browser that prefetches has not followed the link.
    let ahead = parts.headers.contains_key("sec-purpose");
    let token = parts.uri.query().and_then(|query| query.strip_prefix("token="));
    let login = token.filter(|_| !ahead).and_then(|token| site.sessions().log_in(token, Instant::now()));
    let Some((cookie, actor)) = login else {
        tracing::warn!("a link to the console was refused: used, expired or unknown");
        let message = "This link is no longer good: each works once, for a minute.";
        return public_page(site, StatusCode::FORBIDDEN, "Not logged in", message, false);
    };
    let change = AuditChange::new(ChangeKind::ConsoleOpened, &actor, now());
    if let Err(error) = app::audit::record(&site.app, vec![change]).await.map_err(HttpError::from) {
        site.sessions().forget(&cookie);
        return public_page(site, error.status(), "Not logged in", error.message(), false);
    }
    let mut response = see_other(SECRETS);
    // Not `Secure`, because this is plain HTTP, which never leaves the machine. Without `Domain`, the cookie is limited
    // to this host.
    let cookie = format!("{COOKIE}={cookie}; HttpOnly; SameSite=Strict; Path=/");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

async fn log_out(visit: &Visit<'_>) -> Response<Full<Bytes>> {
    visit.site.sessions().log_out(visit.session.id);
    visit.site.record_ended().await;
    let mut response = public_page(visit.site, StatusCode::OK, "Logged out", "You are logged out.", false);
    let expired = HeaderValue::from_static("guillemet_session=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0");
    response.headers_mut().insert(header::SET_COOKIE, expired);
    response
}

/// Returns the page for a browser without a session.
fn page_without_session(site: &Arc<Site>, parts: &Parts, route: Option<Route>) -> Response<Full<Bytes>> {
    // The link was followed from a page of another site: the browser withholds the strict cookie from the page that the
    // login leads to, and sends it with requests that this page itself makes. So let the page reload itself.
    let is_cross_site = parts.headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site");
    let reload = is_cross_site && route == Some(Route::Secrets) && parts.method == Method::GET;
    let message = "There is no session here, or it has ended.";
    public_page(site, StatusCode::FORBIDDEN, "Not logged in", message, reload)
}

fn public_page(site: &Site, status: StatusCode, title: &str, message: &str, refresh: bool) -> Response<Full<Bytes>> {
    let data = context! {
        title, message, refresh,
        section => "", session => false, flash => (), csrf => "", configuration => Vec::<String>::new(),
        detail => "Run `guillemet console` for a new link.",
        errors => Vec::<Value>::new(),
    };
    site.pages.render("message.html", status, data)
}

fn not_allowed(mut response: Response<Full<Bytes>>, methods: &'static str) -> Response<Full<Bytes>> {
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}
