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

/// The largest body, in bytes.
pub const BODY_MAX: usize = 1 << 20;

/// Returns a part of the path, percent-decoded.
///
/// # Errors
/// Not found, because nothing has a name that is not UTF-8.
pub fn part(raw: &str) -> Result<Cow<'_, str>, HttpError> {
    percent_decode_str(raw).decode_utf8().map_err(|_| AppError::NotFound("the path is not UTF-8".into()).into())
}

/// Returns the name of a secret in the path.
///
/// # Errors
/// Not found, if no secret can have that name.
pub fn name(raw: &str) -> Result<SecretName, HttpError> {
    let text = part(raw)?;
    text.parse().map_err(|invalid| AppError::NotFound(format!("there is no such secret: {invalid}")).into())
}

/// Reads the query of a URL: each parameter of `known` at most once, and no others.
///
/// # Errors
/// A validation error that lists every parameter that is wrong.
pub fn query<const N: usize>(raw: Option<&str>, known: [&str; N]) -> Result<[Option<String>; N], HttpError> {
    let mut found = [const { None }; N];
    let mut errors = Vec::new();
    for pair in raw.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decode =
            |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8().map(|text| text.into_owned());
        let (Ok(key), Ok(value)) = (decode(key), decode(value)) else {
            errors.push((String::new(), "a parameter is not UTF-8".to_owned()));
            continue;
        };
        match known.iter().position(|name| *name == key) {
            None => errors.push((key, format!("unknown parameter; use one of: {}", known.join(", ")))),
            Some(index) if found[index].is_some() => errors.push((key, "is given twice".to_owned())),
            Some(index) => found[index] = Some(value),
        }
    }
    if errors.is_empty() { Ok(found) } else { Err(AppError::Invalid(errors).into()) }
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
/// [`HttpErrorCode::TooLarge`] after `BODY_MAX` bytes have been read; [`HttpErrorCode::BadRequest`] if the body breaks off or is too
/// slow; exhausted, if there is no memory left for it.
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
