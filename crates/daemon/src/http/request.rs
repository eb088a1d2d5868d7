//! Reads requests: paths, queries and bodies, within limits. Reports everything that is wrong at once.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use super::error::{HttpError, HttpErrorCode};
use crate::app::error::AppError;
use crate::resolve::budget::{Budget, Reservation};
use guillemet_base::names::SecretName;
use guillemet_http::query::parameters;
use guillemet_http::router::Params;

/// The largest body, in bytes.
pub const BODY_MAX: usize = 1 << 20;

/// The URL of a request that a route has taken.
pub struct RequestUrl<'a> {
    params: Params<'a, 'a>,
    query: Option<&'a str>,
}

impl<'a> RequestUrl<'a> {
    /// Takes the parameters of the path, still percent-encoded, and the query.
    pub fn new(params: Params<'a, 'a>, query: Option<&'a str>) -> Self {
        Self { params, query }
    }

    /// Returns a parameter of the path, percent-decoded; empty if the route has none of this name.
    ///
    /// # Errors
    /// Not found, because nothing has a name that is not UTF-8.
    pub fn param(&self, name: &str) -> Result<String, HttpError> {
        let decoded = percent_decode_str(self.params.get(name).unwrap_or_default()).decode_utf8();
        decoded.map(Cow::into_owned).map_err(|_| AppError::NotFound("the path is not UTF-8".into()).into())
    }

    /// Returns a parameter of the path, percent-decoded as far as it is UTF-8; `None` if the route has none of this
    /// name.
    pub fn lossy_param(&self, name: &str) -> Option<Cow<'a, str>> {
        self.params.get(name).map(|raw| percent_decode_str(raw).decode_utf8().unwrap_or(raw.into()))
    }

    /// Returns the name of the secret in the path.
    ///
    /// # Errors
    /// Not found, if no secret can have that name.
    pub fn secret_name(&self) -> Result<SecretName, HttpError> {
        let not_found = |invalid| AppError::NotFound(format!("there is no such secret: {invalid}"));
        Ok(self.param("name")?.parse().map_err(not_found)?)
    }

    /// Returns the id of the template in the path, `feature/name`.
    ///
    /// # Errors
    /// Not found, if it is not UTF-8.
    pub fn template_id(&self) -> Result<String, HttpError> {
        Ok([&*self.param("feature")?, "/", &*self.param("name")?].concat())
    }

    /// Reads the query: each parameter of `names` at most once, and no others.
    ///
    /// # Errors
    /// A validation error that lists every parameter that is wrong.
    pub fn query<const N: usize>(&self, names: [&str; N]) -> Result<[Option<String>; N], HttpError> {
        query(self.query, names)
    }

    /// Returns the query as it was sent, still percent-encoded.
    pub fn raw_query(&self) -> Option<&'a str> {
        self.query
    }
}

/// Reads the query of a URL: each parameter of `names` at most once, and no others.
///
/// # Errors
/// A validation error that lists every parameter that is wrong.
pub fn query<const N: usize>(raw: Option<&str>, names: [&str; N]) -> Result<[Option<String>; N], HttpError> {
    let mut errors = Vec::new();
    let values = parameters(raw, names, &mut errors);
    if errors.is_empty() { Ok(values) } else { Err(AppError::Invalid(errors).into()) }
}

/// The limits that apply while a request body is read.
#[derive(Clone, Copy, Debug)]
pub struct Intake<'a> {
    /// The time within which the whole body has to arrive.
    pub limit: Duration,
    /// The budget that its memory is reserved from.
    pub budget: &'a Arc<Budget>,
    /// The user whose share of the budget it takes.
    pub uid: u32,
}

/// A body that has been read. Its bytes are wiped on drop.
pub struct Received {
    bytes: Zeroizing<Vec<u8>>,
    reservation: Reservation,
}

impl Received {
    /// Returns the memory reserved for the body, for a caller that keeps a large part of it.
    pub fn into_reservation(self) -> Reservation {
        self.reservation
    }
}

impl std::ops::Deref for Received {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads a body.
///
/// # Errors
/// [`HttpErrorCode::TooLarge`] after `BODY_MAX` bytes have been read; [`HttpErrorCode::BadRequest`] if the body breaks
/// off or is too slow; exhausted, if there is no memory left for it.
pub async fn bytes(body: &mut Incoming, intake: Intake<'_>) -> Result<Received, HttpError> {
    tokio::time::timeout(intake.limit, read(body, intake))
        .await
        .map_err(|_| HttpError::new(HttpErrorCode::BadRequest, "the request body did not arrive in time"))?
}

async fn read(body: &mut Incoming, intake: Intake<'_>) -> Result<Received, HttpError> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX).min(BODY_MAX);
    let mut reservation = intake.budget.reserve(intake.uid, announced)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(announced));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| HttpError::new(HttpErrorCode::BadRequest, "the request body was cut off"))?;
        if let Some(data) = frame.data_ref() {
            if bytes.len() + data.len() > BODY_MAX {
                return Err(HttpError::new(
                    HttpErrorCode::TooLarge,
                    format!("the request body can have at most {BODY_MAX} bytes"),
                ));
            }
            bytes.extend_from_slice(data);
            reservation.resize(bytes.capacity())?;
        }
    }
    Ok(Received { bytes, reservation })
}
