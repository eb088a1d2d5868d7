//! The results that endpoints return, and how each is written as a response.

use std::sync::Arc;

use http_body_util::{Either, Full};
use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, WARNING};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::app::error::AppError;
use crate::http::error::HttpError;
use crate::resolve::RenderedConfig;
use guillemet_api::render::TARGET;
use guillemet_http::event_stream::EventStream;
use guillemet_plan::plan::Plan;

/// How many bytes of JSON are expected where nothing more is known.
const EXPECTED: usize = 512;

/// The body of a response: bytes that are complete in memory, or a stream of events.
pub type Body = Either<Full<Bytes>, EventStream>;

/// A result that can be sent as a response.
pub trait IntoResponse {
    /// Makes the response for this result.
    fn into_response(self) -> Response<Body>;
}

/// A 200 response with JSON.
pub struct Json<T>(pub T);

/// A 200 response with JSON of about this many bytes, for which one buffer is allocated in advance.
pub struct LongJson<T>(pub T, pub usize);

/// A 201 response with JSON.
pub struct Created<T>(pub T);

/// A 204 response without a body.
pub struct NoContent;

/// A 200 response with a body of this media type.
pub struct Raw(pub Bytes, pub &'static str);

/// A response with the entity tag of what it shows; `None` if that has no tag.
pub struct Tagged<R>(pub R, pub Option<String>);

/// A rendered config, or a 304 response if the caller has a copy of it.
pub struct RenderResponse {
    /// The rendered config and its entity tag.
    pub rendered: RenderedConfig,
    /// The plan that it was rendered with.
    pub plan: Arc<Plan>,
    /// The target as the caller named it; `None` if it named none.
    pub requested: Option<String>,
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response<Body> {
        json(StatusCode::OK, EXPECTED, &self.0)
    }
}

impl<T: Serialize> IntoResponse for LongJson<T> {
    fn into_response(self) -> Response<Body> {
        json(StatusCode::OK, self.1, &self.0)
    }
}

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response<Body> {
        json(StatusCode::CREATED, EXPECTED, &self.0)
    }
}

impl IntoResponse for NoContent {
    fn into_response(self) -> Response<Body> {
        empty(StatusCode::NO_CONTENT)
    }
}

impl IntoResponse for Raw {
    fn into_response(self) -> Response<Body> {
        with_body(self.0, self.1)
    }
}

impl<R: IntoResponse> IntoResponse for Tagged<R> {
    fn into_response(self) -> Response<Body> {
        let response = self.0.into_response();
        match &self.1 {
            Some(etag) => tagged(response, etag),
            None => response,
        }
    }
}

impl<A: IntoResponse, B: IntoResponse> IntoResponse for Either<A, B> {
    fn into_response(self) -> Response<Body> {
        match self {
            Self::Left(response) => response.into_response(),
            Self::Right(response) => response.into_response(),
        }
    }
}

impl IntoResponse for Response<EventStream> {
    fn into_response(self) -> Response<Body> {
        self.map(Either::Right)
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response<Body> {
        self.response().map(Either::Left)
    }
}

impl IntoResponse for RenderResponse {
    fn into_response(self) -> Response<Body> {
        let Self { rendered, plan, requested } = self;
        let response = match rendered.body {
            Some(body) => with_body(body, &rendered.media_type),
            None => empty(StatusCode::NOT_MODIFIED),
        };
        let mut response = tagged(response, &rendered.etag);
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // Both values are ids and a sentence made of ids: ASCII without quotes.
        headers.extend(HeaderValue::from_str(&plan.target.id).ok().map(|id| (TARGET, id)));
        // RFC 7234, section 5.5: 299 is a persistent warning, and `-` stands for an unnamed agent.
        let renamed = plan.target.rename_notice(requested.as_deref());
        let renamed = renamed.and_then(|text| HeaderValue::from_str(&format!("299 - \"{text}\"")).ok());
        headers.extend(renamed.map(|warning| (WARNING, warning)));
        response
    }
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = status;
    response
}

fn with_body(body: Bytes, media_type: &str) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(body)));
    let media_type = HeaderValue::from_str(media_type).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}

fn tagged(mut response: Response<Body>, etag: &str) -> Response<Body> {
    if let Ok(etag) = HeaderValue::from_str(etag) {
        response.headers_mut().insert(ETAG, etag);
    }
    response
}

fn json<T: Serialize>(status: StatusCode, expected: usize, body: &T) -> Response<Body> {
    let mut bytes = Vec::with_capacity(expected);
    if let Err(error) = serde_json::to_writer(&mut bytes, body) {
        tracing::error!(%error, "a response could not be written as JSON");
        return HttpError::from(AppError::internal()).into_response();
    }
    bytes.push(b'\n');
    let mut response = with_body(bytes.into(), "application/json");
    *response.status_mut() = status;
    response
}
