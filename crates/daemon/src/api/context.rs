//! One request of the API: its parts, and who sent it.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::IF_NONE_MATCH;
use hyper::http::request::Parts;

use super::metrics::RequestCounters;
use super::request::{self, BodyFields};
use crate::app::App;
use crate::app::access::{Peer, Principal};
use crate::http::admission::ConnectionSlot;
use crate::http::error::HttpError;
use crate::http::request::{Intake, RequestUrl};
use guillemet_vault::audit::Actor;

/// A request as its endpoint sees it.
pub struct RequestContext<'a> {
    /// The state of the daemon.
    pub app: &'a Arc<App>,
    /// The counters of responses since the start.
    pub counts: &'a Arc<RequestCounters>,
    /// The path and the query.
    pub url: RequestUrl<'a>,
    /// Method, URL and headers, as they were sent.
    pub head: &'a Parts,
    /// The part of the body that has not been read yet.
    pub body: Incoming,
    /// The caller and its rights.
    pub principal: Principal<'a>,
    /// The slot of the connection that the request came on.
    pub slot: &'a ConnectionSlot<Peer>,
}

impl RequestContext<'_> {
    /// Returns the caller as the audit trail records it.
    pub fn actor(&self) -> Actor {
        Actor::caller(self.principal.caller)
    }

    /// Returns the entity tags of the copies that the caller has (`If-None-Match`).
    pub fn if_none_match(&self) -> Option<&str> {
        self.head.headers.get(IF_NONE_MATCH).and_then(|tags| tags.to_str().ok())
    }

    /// Returns the entity tags of the state that the caller wants to change (`If-Match`).
    ///
    /// # Errors
    /// Those of [`request::if_match`].
    pub fn if_match(&self) -> Result<Option<String>, HttpError> {
        request::if_match(&self.head.headers)
    }

    /// Reads the body as a JSON object.
    ///
    /// # Errors
    /// Those of [`request::object`].
    pub async fn fields(&mut self) -> Result<BodyFields, HttpError> {
        let app = self.app;
        let (limit, budget) = (self.principal.config().limits.transfer, &app.resolver.budget);
        let intake = Intake { limit, budget, uid: self.principal.caller.uid };
        request::object(&mut self.body, intake).await
    }

    /// Reads the body of an administrator's request as a JSON object, and checks that the caller still administers once
    /// the body has arrived.
    ///
    /// # Errors
    /// Those of [`Self::fields`]; forbidden, if the caller lost the right meanwhile.
    pub async fn administrators_fields(&mut self) -> Result<BodyFields, HttpError> {
        let fields = self.fields().await?;
        self.principal.recheck_administers(self.app)?;
        Ok(fields)
    }
}
