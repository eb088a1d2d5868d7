//! A request within a session: what a page knows of it, and the responses that every page can give.

use std::sync::Arc;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use minijinja::context;
use minijinja::value::Value;

use super::session::SessionView;
use super::{Site, pages};
use crate::http::error::HttpError;
use crate::http::request::RequestUrl;

/// The path that a login leads to.
pub const SECRETS: &str = "/settings/developers/secrets";

/// A response, or the error that is shown instead.
pub type PageResult = Result<Response<Full<Bytes>>, HttpError>;

/// A request within a session.
pub struct Visit<'a> {
    /// The console that the request was made to.
    pub site: &'a Arc<Site>,
    /// The session of the request.
    pub session: SessionView,
    /// Method, URL and headers, as they were sent.
    pub parts: &'a Parts,
    /// The path and the query.
    pub url: RequestUrl<'a>,
}

impl Visit<'_> {
    /// Renders a page of this session.
    pub fn page(
        &self,
        page: &str,
        status: StatusCode,
        title: &str,
        section: &str,
        data: Value,
    ) -> Response<Full<Bytes>> {
        let flash = self.site.sessions().take_flash(self.session.id);
        let configuration = self.site.app.configuration_problems();
        let data = context! { title, section, flash, configuration, session => true, refresh => false, csrf => self.session.csrf.as_str(), ..data };
        self.site.pages.render(page, status, data)
    }

    /// Redirects to another page, which shows this message at its top.
    pub fn redirect(&self, to: &str, flash: impl Into<String>) -> Response<Full<Bytes>> {
        self.site.sessions().set_flash(self.session.id, flash.into());
        see_other(to)
    }

    /// Renders the page of an error.
    pub fn error(&self, error: &HttpError) -> Response<Full<Bytes>> {
        let data = context! {
            message => error.message(),
            detail => error.detail(),
            errors => pages::data(error.errors()),
        };
        self.page("message.html", error.status(), "This did not work", "", data)
    }
}

/// Redirects to another page (303).
pub fn see_other(to: &str) -> Response<Full<Bytes>> {
    let mut response = plain(StatusCode::SEE_OTHER, "");
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(header::LOCATION, to);
    }
    response
}

/// Returns a response of plain text.
pub fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
