//! A request of the API on its way to its endpoint, and who asks.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::IF_NONE_MATCH;
use hyper::http::request::Parts;

use super::metrics::Counts;
use super::request::{self, Fields};
use crate::app::App;
use crate::app::access::{Peer, Principal};
use crate::http::admission::Slot;
use crate::http::error::HttpError;
use crate::http::request::{Intake, name, part, query};
use guillemet_base::names::SecretName;
use guillemet_vault::audit::Actor;

/// What an endpoint knows of its request.
pub struct RequestContext<'a> {
    /// What requests are answered from.
    pub app: &'a Arc<App>,
    /// What was answered since the start.
    pub counts: &'a Arc<Counts>,
    /// The parameters of the path, still percent-encoded.
    pub params: matchit::Params<'a, 'a>,
    /// Method, path, query and headers.
    pub head: &'a Parts,
    /// What has not been read yet of the body.
    pub body: Incoming,
    /// Who asks, and what it may do.
    pub principal: Principal<'a>,
    /// The slot of its connection.
    pub slot: &'a Slot<Peer>,
}

impl RequestContext<'_> {
    /// Returns the caller as the audit trail keeps it.
    pub fn actor(&self) -> Actor {
        Actor::caller(self.principal.caller)
    }

    /// Reads the parameters of the query.
    ///
    /// # Errors
    /// Invalid fields: one is unknown, or given twice.
    pub fn query<const N: usize>(&self, known: [&str; N]) -> Result<[Option<String>; N], HttpError> {
        query(self.raw_query(), known)
    }

    /// Returns the query as it was sent.
    pub fn raw_query(&self) -> Option<&str> {
        self.head.uri.query()
    }

    /// Returns a parameter of the path, percent-decoded.
    ///
    /// # Errors
    /// Not found: it is not UTF-8.
    pub fn param(&self, name: &str) -> Result<String, HttpError> {
        Ok(part(self.params.get(name).unwrap_or_default())?.into_owned())
    }

    /// Returns the secret's name in the path.
    ///
    /// # Errors
    /// Not found: no secret can have it.
    pub fn secret_name(&self) -> Result<SecretName, HttpError> {
        name(self.params.get("name").unwrap_or_default())
    }

    /// Returns the id of the template in the path.
    ///
    /// # Errors
    /// Not found: it is not UTF-8.
    pub fn template_id(&self) -> Result<String, HttpError> {
        Ok([&*self.param("feature")?, "/", &*self.param("name")?].concat())
    }

    /// Returns the entity tags of the copies that the caller has.
    pub fn if_none_match(&self) -> Option<&str> {
        self.head.headers.get(IF_NONE_MATCH).and_then(|tags| tags.to_str().ok())
    }

    /// Returns the entity tags of the state that a change is made for.
    ///
    /// # Errors
    /// As `request::if_match`.
    pub fn if_match(&self) -> Result<Option<String>, HttpError> {
        request::if_match(&self.head.headers)
    }

    /// Reads the body as a JSON object.
    ///
    /// # Errors
    /// As `request::object`.
    pub async fn fields(&mut self) -> Result<Fields, HttpError> {
        let app = self.app;
        let (limit, budget) = (self.principal.config().limits.transfer, &app.resolver.budget);
        let intake = Intake { limit, budget, uid: self.principal.caller.uid };
        request::object(&mut self.body, intake).await
    }

    /// Reads the body of an administrator's request as a JSON object. The caller must still administer when it has
    /// arrived.
    ///
    /// # Errors
    /// As `fields`; forbidden, when the caller lost the right meanwhile.
    pub async fn administrators_fields(&mut self) -> Result<Fields, HttpError> {
        let fields = self.fields().await?;
        self.principal.recheck_administers(self.app)?;
        Ok(fields)
    }
}
