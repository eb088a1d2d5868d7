//! Reads the requests of the API: filters of listings, and JSON bodies field by field. Reports everything that is wrong
//! at once.

use std::collections::BTreeMap;

use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue, IF_MATCH};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use crate::app::error::AppError;
use crate::app::listing::Page;
use crate::app::usage::EventQuery;
use crate::http::error::{HttpError, HttpErrorCode};
use crate::http::request::{Intake, bytes, query};
use crate::inventory::Filter;
use crate::resolve::budget::Reservation;
use guillemet_api::account::SameName;
use guillemet_api::secrets::SecretStatus;
use guillemet_base::names::{InvalidName, Millis, SecretName};
use guillemet_base::sys::stack::with_wiped_stack;
use guillemet_secret::record::VALUE_MAX;
use guillemet_vault::usage::{Class, EVENT_KINDS, EventKind};

/// The most names that one request may resolve.
const RESOLVE_MAX: usize = 1000;

/// Reads `limit` (1–1000, default 100) and `offset` (default 0). Adds what is wrong to `errors`.
fn read_page(limit: Option<&str>, offset: Option<&str>, errors: &mut Vec<(String, String)>) -> Page {
    let limit = match limit.map(str::parse) {
        None => 100,
        Some(Ok(limit @ 1..=1000)) => limit,
        Some(_) => {
            errors.push(("limit".into(), "must be a number from 1 to 1000".into()));
            100
        }
    };
    let offset = match offset.map(str::parse) {
        None => 0,
        Some(Ok(offset)) => offset,
        Some(Err(_)) => {
            errors.push(("offset".into(), "must be a number, 0 or more".into()));
            0
        }
    };
    Page { limit, offset }
}

/// Reads the query of a listing without filters.
///
/// # Errors
/// A validation error that lists every parameter that is wrong.
pub fn page(raw: Option<&str>) -> Result<Page, HttpError> {
    let [limit, offset] = query(raw, ["limit", "offset"])?;
    let mut errors = Vec::new();
    let page = read_page(limit.as_deref(), offset.as_deref(), &mut errors);
    if errors.is_empty() { Ok(page) } else { Err(AppError::Invalid(errors).into()) }
}

/// Reads the query of the inventory.
///
/// # Errors
/// A validation error that lists every parameter that is wrong.
pub fn inventory(raw: Option<&str>) -> Result<Filter, HttpError> {
    let [limit, offset, text, status] = query(raw, ["limit", "offset", "query", "status"])?;
    let mut errors = Vec::new();
    let page = read_page(limit.as_deref(), offset.as_deref(), &mut errors);
    let status = status.and_then(|requested| {
        let entry = SecretStatus::ALL.iter().find(|(name, _)| *name == requested);
        if entry.is_none() {
            errors.push((
                "status".into(),
                format!("must be one of {}", SecretStatus::ALL.map(|(name, _)| name).join(", ")),
            ));
        }
        entry.map(|(_, status)| *status)
    });
    if errors.is_empty() {
        Ok(Filter { query: text, status, offset: page.offset, limit: Some(page.limit) })
    } else {
        Err(AppError::Invalid(errors).into())
    }
}

/// Returns the entity tags in `If-Match` (RFC 9110, section 13.1.1); `None` if there is no such header.
///
/// # Errors
/// A bad request, if the header is not text or there are several.
pub fn if_match(headers: &HeaderMap) -> Result<Option<String>, HttpError> {
    let mut tags = headers.get_all(IF_MATCH).iter();
    match (tags.next().map(HeaderValue::to_str), tags.next()) {
        (None, _) => Ok(None),
        (Some(Ok(tags)), None) => Ok(Some(tags.to_owned())),
        _ => Err(HttpError::new(HttpErrorCode::BadRequest, "If-Match must be a single header with entity tags")),
    }
}

/// Reads the query of the audit trail.
///
/// # Errors
/// A validation error that lists every parameter that is wrong.
pub fn events(raw: Option<&str>) -> Result<(Page, EventQuery), HttpError> {
    let [limit, offset, secret, since, class, outcome] =
        query(raw, ["limit", "offset", "secret", "since", "class", "outcome"])?;
    let mut errors = Vec::new();
    let page = read_page(limit.as_deref(), offset.as_deref(), &mut errors);
    let secret = secret.and_then(|name| {
        let name = name.parse().map_err(|invalid: InvalidName| errors.push(("secret".into(), invalid.to_string())));
        name.ok()
    });
    let since = since.and_then(|time| {
        // A `+` that was not percent-encoded has become a space, and no valid time contains one.
        let time = OffsetDateTime::parse(&time.replace(' ', "+"), &Rfc3339);
        let malformed = |_| errors.push(("since".into(), "must be a time such as 2026-01-31T09:30:00Z".into()));
        time.map_err(malformed).ok().map(|time| Millis::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(0))
    });
    let class = class.and_then(|name| {
        let class = Class::from_name(&name);
        if class.is_none() {
            let names = Class::ALL.map(|(_, name, _)| name).join(", ");
            errors.push(("class".into(), format!("must be one of {names}")));
        }
        class
    });
    let outcome = outcome.and_then(|name| {
        let outcome = EventKind::from_name(&name);
        if outcome.is_none() {
            let names = EVENT_KINDS.map(|kind| kind.name).join(", ");
            errors.push(("outcome".into(), format!("must be one of {names}")));
        }
        outcome
    });
    if errors.is_empty() {
        Ok((page, EventQuery { secret, since, class, outcome }))
    } else {
        Err(AppError::Invalid(errors).into())
    }
}

/// Reads a body as a JSON object.
///
/// # Errors
/// Those of [`bytes()`]; a bad request, if the body is not a JSON object.
pub async fn object(body: &mut Incoming, intake: Intake<'_>) -> Result<BodyFields, HttpError> {
    let received = bytes(body, intake).await?;
    let mut fields = BodyFields::read(&received)?;
    fields.reservation = Some(received.into_reservation());
    Ok(fields)
}

/// The fields of a JSON object, read one by one. [`Self::finish`] reports everything that is wrong.
///
/// A value that passes through here leaves nothing behind, because the allocator wipes freed memory (`sys::memory`).
pub struct BodyFields {
    fields: Map<String, Value>,
    errors: Vec<(String, String)>,
    reservation: Option<Reservation>,
}

impl BodyFields {
    /// Parses a body.
    ///
    /// # Errors
    /// A bad request, if the body is not a JSON object.
    pub fn read(body: &[u8]) -> Result<Self, HttpError> {
        // serde_json's own message can quote the body, which may contain a value: report only the place.
        match with_wiped_stack(|| serde_json::from_slice(body)) {
            Ok(Value::Object(fields)) => Ok(Self { fields, errors: Vec::new(), reservation: None }),
            Ok(_) => Err(HttpError::new(HttpErrorCode::BadRequest, "the body must be a JSON object")),
            Err(error) => Err(HttpError::new(
                HttpErrorCode::BadRequest,
                format!("the body is not valid JSON: line {}, column {}", error.line(), error.column()),
            )),
        }
    }

    /// Returns a required string. `None` means that it is missing or wrong, which `finish` reports.
    pub fn text(&mut self, field: &str) -> Option<String> {
        let text = self.optional_text(field);
        if text.is_none() && !self.errors.iter().any(|(name, _)| name == field) {
            self.add_error(field, "missing");
        }
        text
    }

    /// Returns an optional string; `None` if it is absent, null or wrong.
    pub fn optional_text(&mut self, field: &str) -> Option<String> {
        match self.fields.remove(field) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text),
            Some(_) => {
                self.add_error(field, "must be a string");
                None
            }
        }
    }

    /// Returns a required string that has to be one of `allowed`.
    pub fn one_of(&mut self, field: &str, allowed: &[&str]) -> Option<String> {
        let text = self.text(field)?;
        if allowed.contains(&text.as_str()) {
            return Some(text);
        }
        self.add_error(field, format!("must be one of {}", allowed.join(", ")));
        None
    }

    /// Returns an optional boolean; `None` if it is absent, null or wrong.
    pub fn flag(&mut self, field: &str) -> Option<bool> {
        match self.fields.remove(field) {
            None | Some(Value::Null) => None,
            Some(Value::Bool(flag)) => Some(flag),
            Some(_) => {
                self.add_error(field, "must be true or false");
                None
            }
        }
    }

    /// Returns the required name of a secret.
    pub fn name(&mut self, field: &str) -> Option<SecretName> {
        let text = self.text(field)?;
        text.parse().map_err(|invalid: InvalidName| self.add_error(field, invalid.to_string())).ok()
    }

    /// Returns the name of a secret; `None` if it is absent, null or wrong.
    pub fn optional_name(&mut self, field: &str) -> Option<SecretName> {
        let text = self.optional_text(field)?;
        text.parse()
            .map_err(|invalid: guillemet_base::names::InvalidName| self.add_error(field, invalid.to_string()))
            .ok()
    }

    /// Returns a required value that can be stored: not empty, and at most `VALUE_MAX` bytes.
    pub fn value(&mut self, field: &str) -> Option<Zeroizing<String>> {
        let text = Zeroizing::new(self.text(field)?);
        if text.is_empty() {
            self.add_error(field, "a value cannot be empty");
            return None;
        }
        self.check_length(field, text)
    }

    /// Returns a value that can be stored; `None` if it is absent, null or empty, which keeps the present value.
    pub fn optional_value(&mut self, field: &str) -> Option<Zeroizing<String>> {
        let text = self.optional_text(field).map(Zeroizing::new).filter(|text| !text.is_empty())?;
        self.check_length(field, text)
    }

    fn check_length(&mut self, field: &str, text: Zeroizing<String>) -> Option<Zeroizing<String>> {
        if text.len() > VALUE_MAX {
            self.add_error(field, format!("a value can have at most {VALUE_MAX} bytes"));
            return None;
        }
        Some(text)
    }

    /// Returns a required whole number from 1.
    pub fn number(&mut self, field: &str) -> Option<u32> {
        let number =
            self.fields.remove(field).map(|value| value.as_u64().and_then(|number| u32::try_from(number).ok()));
        match number {
            Some(Some(number @ 1..)) => return Some(number),
            Some(_) => self.add_error(field, "must be a whole number, 1 or more"),
            None => self.add_error(field, "missing"),
        }
        None
    }

    /// Returns a list of 1 to `RESOLVE_MAX` names of secrets in order, without duplicates.
    pub fn names(&mut self, field: &str) -> Vec<SecretName> {
        let items = match self.fields.remove(field) {
            Some(Value::Array(items)) if !items.is_empty() && items.len() <= RESOLVE_MAX => items,
            None => {
                self.add_error(field, "missing");
                return Vec::new();
            }
            Some(_) => {
                self.add_error(field, format!("must be a list of 1 to {RESOLVE_MAX} names"));
                return Vec::new();
            }
        };
        let mut names: Vec<SecretName> = Vec::with_capacity(items.len());
        let mut seen = std::collections::HashSet::new();
        for (index, item) in items.iter().enumerate() {
            match item.as_str().map(str::parse::<SecretName>) {
                Some(Ok(name)) if seen.insert(name.key()) => names.push(name),
                Some(Ok(_)) => {}
                Some(Err(invalid)) => self.add_error(format!("{field}.{index}"), invalid.to_string()),
                None => self.add_error(format!("{field}.{index}"), "must be a string"),
            }
        }
        names
    }

    /// Returns the decisions about secrets that exist both here and in the account, by name; empty if the field is
    /// absent.
    pub fn same_names(&mut self, field: &str) -> BTreeMap<String, SameName> {
        let value = match self.fields.remove(field) {
            None | Some(Value::Null) => return BTreeMap::new(),
            Some(value) => value,
        };
        serde_json::from_value(value).unwrap_or_else(|_| {
            self.add_error(field, "must be an object with `both`, `account` or `mine` for each name");
            BTreeMap::new()
        })
    }

    /// Returns the decision that applies to all such secrets; `None` if it is absent, null or wrong.
    pub fn same_name(&mut self, field: &str) -> Option<SameName> {
        let text = self.optional_text(field)?;
        let choice = serde_json::from_value(Value::String(text)).ok();
        if choice.is_none() {
            self.add_error(field, "must be both, account or mine");
        }
        choice
    }

    /// Returns the memory reserved for the body, for a caller that keeps a large part of it.
    pub fn reservation(&mut self) -> Option<Reservation> {
        self.reservation.take()
    }

    /// Notes what is wrong with a field.
    pub fn add_error(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.errors.push((field.into(), message.into()));
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// A validation error with everything that was wrong, and every field that was not read.
    pub fn finish(mut self) -> Result<(), HttpError> {
        for field in self.fields.keys() {
            self.errors.push((field.clone(), "unknown field".into()));
        }
        if self.errors.is_empty() { Ok(()) } else { Err(AppError::Invalid(self.errors).into()) }
    }
}
