//! A request within a session: what a page knows of it, and what every page can answer.

use std::sync::Arc;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use minijinja::context;
use minijinja::value::Value;

use super::session::Seen;
use super::{Site, pages};
use crate::http::error::HttpError;
use crate::http::request;
use guillemet_base::names::SecretName;

/// Where a login leads.
pub const SECRETS: &str = "/settings/developers/secrets";

/// An answer, or what a person is told instead.
pub type Answer = Result<Response<Full<Bytes>>, HttpError>;

/// A request within a session.
pub struct Visit<'a> {
    /// Where.
    pub site: &'a Arc<Site>,
    /// Whose.
    pub session: Seen,
    /// What is asked.
    pub parts: &'a Parts,
    /// The parameters of the path, still percent-encoded.
    pub params: matchit::Params<'a, 'a>,
}

impl Visit<'_> {
    /// Returns a parameter of the path, percent-decoded.
    ///
    /// # Errors
    /// Not found: it is not UTF-8.
    pub fn param(&self, name: &str) -> Result<String, HttpError> {
        Ok(request::part(self.params.get(name).unwrap_or_default())?.into_owned())
    }

    /// Returns the secret's name in the path.
    ///
    /// # Errors
    /// Not found: no secret can have it.
    pub fn secret_name(&self) -> Result<SecretName, HttpError> {
        request::name(self.params.get("name").unwrap_or_default())
    }

    /// Reads the parameters of the query.
    ///
    /// # Errors
    /// Invalid fields: one is unknown, or given twice.
    pub fn query<const N: usize>(&self, known: [&str; N]) -> Result<[Option<String>; N], HttpError> {
        request::query(self.parts.uri.query(), known)
    }

    /// Returns a page of this session.
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

    /// Leads to another page, which says this first.
    pub fn go(&self, to: &str, flash: impl Into<String>) -> Response<Full<Bytes>> {
        self.site.sessions().set_flash(self.session.id, flash.into());
        see_other(to)
    }

    /// Returns the page of an error.
    pub fn error(&self, error: &HttpError) -> Response<Full<Bytes>> {
        let data = context! {
            message => error.message(),
            detail => error.detail(),
            errors => pages::data(error.errors()),
        };
        self.page("message.html", error.status(), "This did not work", "", data)
    }
}

/// Leads to another page.
pub fn see_other(to: &str) -> Response<Full<Bytes>> {
    let mut response = plain(StatusCode::SEE_OTHER, "");
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(header::LOCATION, to);
    }
    response
}

/// Returns a text that is no page.
pub fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
