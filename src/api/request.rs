//! Reading requests of the API: filters of listings, and JSON bodies field by field. Everything wrong is reported at
//! once.

use std::collections::BTreeMap;

use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue, IF_MATCH};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use crate::app::error::AppError;
use crate::app::listing::Page;
use crate::app::usage::Events;
use crate::http::error::{Code, HttpError};
use crate::http::request::{Intake, bytes, query};
use crate::inventory::Filter;
use crate::resolve::budget::Reservation;
use crate::vault::usage::{Class, EVENT_KINDS, Kind};
use guillemet_api::account::SameName;
use guillemet_api::secrets::SecretStatus;
use guillemet_base::names::{InvalidName, Millis, SecretName};
use guillemet_base::sys::stack::leaving_nothing;
use guillemet_secret::record::VALUE_MAX;

/// The most names in one resolve.
const RESOLVE_MAX: usize = 1000;

/// From `limit` (1–1000, default 100) and `offset`; what is wrong is added to `errors`.
fn read_page(limit: Option<&str>, offset: Option<&str>, errors: &mut Vec<(String, String)>) -> Page {
    let limit = match limit.map(str::parse) {
        None => 100,
        Some(Ok(limit @ 1..=1000)) => limit,
        Some(_) => {
            errors.push(("limit".into(), "a number from 1 to 1000 is needed".into()));
            100
        }
    };
    let offset = match offset.map(str::parse) {
        None => 0,
        Some(Ok(offset)) => offset,
        Some(Err(_)) => {
            errors.push(("offset".into(), "a number from 0 is needed".into()));
            0
        }
    };
    Page { limit, offset }
}

/// The query of a listing without filters.
///
/// # Errors
/// As `query`.
pub fn page(raw: Option<&str>) -> Result<Page, HttpError> {
    let [limit, offset] = query(raw, ["limit", "offset"])?;
    let mut errors = Vec::new();
    let page = read_page(limit.as_deref(), offset.as_deref(), &mut errors);
    if errors.is_empty() { Ok(page) } else { Err(AppError::Invalid(errors).into()) }
}

/// The query of the inventory.
///
/// # Errors
/// As `query`.
pub fn inventory(raw: Option<&str>) -> Result<Filter, HttpError> {
    let [limit, offset, text, status] = query(raw, ["limit", "offset", "query", "status"])?;
    let mut errors = Vec::new();
    let page = read_page(limit.as_deref(), offset.as_deref(), &mut errors);
    let status = status.and_then(|wanted| {
        let known = SecretStatus::ALL.iter().find(|(name, _)| *name == wanted);
        if known.is_none() {
            errors.push((
                "status".into(),
                format!("one of {} is needed", SecretStatus::ALL.map(|(name, _)| name).join(", ")),
            ));
        }
        known.map(|(_, status)| *status)
    });
    if errors.is_empty() {
        Ok(Filter { query: text, status, offset: page.offset, limit: Some(page.limit) })
    } else {
        Err(AppError::Invalid(errors).into())
    }
}

/// The state that a change was made for (RFC 9110, section 13.1.1).
///
/// # Errors
/// A bad request when it is no text, or there are several.
pub fn if_match(headers: &HeaderMap) -> Result<Option<String>, HttpError> {
    let mut tags = headers.get_all(IF_MATCH).iter();
    match (tags.next().map(HeaderValue::to_str), tags.next()) {
        (None, _) => Ok(None),
        (Some(Ok(tags)), None) => Ok(Some(tags.to_owned())),
        _ => Err(HttpError::new(Code::BadRequest, "If-Match has to be one header of entity tags")),
    }
}

/// The query of the audit trail.
///
/// # Errors
/// As `query`.
pub fn events(raw: Option<&str>) -> Result<(Page, Events), HttpError> {
    let [limit, offset, secret, since, class, outcome] =
        query(raw, ["limit", "offset", "secret", "since", "class", "outcome"])?;
    let mut errors = Vec::new();
    let page = read_page(limit.as_deref(), offset.as_deref(), &mut errors);
    let secret = secret.and_then(|name| {
        let name = name.parse().map_err(|invalid: InvalidName| errors.push(("secret".into(), invalid.to_string())));
        name.ok()
    });
    let since = since.and_then(|time| {
        // A `+` that was not percent-encoded has become a blank, and no such time holds one.
        let time = OffsetDateTime::parse(&time.replace(' ', "+"), &Rfc3339);
        let wrong = |_| errors.push(("since".into(), "a time such as 2026-01-31T09:30:00Z is needed".into()));
        time.map_err(wrong).ok().map(|time| Millis::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(0))
    });
    let class = class.and_then(|name| {
        let class = Class::named(&name);
        if class.is_none() {
            let names = Class::ALL.map(|(_, name, _)| name).join(", ");
            errors.push(("class".into(), format!("one of {names} is needed")));
        }
        class
    });
    let outcome = outcome.and_then(|name| {
        let outcome = Kind::named(&name);
        if outcome.is_none() {
            let names = EVENT_KINDS.map(|kind| kind.name).join(", ");
            errors.push(("outcome".into(), format!("one of {names} is needed")));
        }
        outcome
    });
    if errors.is_empty() {
        Ok((page, Events { secret, since, class, outcome }))
    } else {
        Err(AppError::Invalid(errors).into())
    }
}

/// The body as a JSON object.
///
/// # Errors
/// As `bytes`, or not a JSON object.
pub async fn object(body: &mut Incoming, intake: Intake<'_>) -> Result<Fields, HttpError> {
    let received = bytes(body, intake).await?;
    let mut fields = Fields::read(&received)?;
    fields.reservation = Some(received.into_reservation());
    Ok(fields)
}

/// The fields of a JSON object, read one by one; everything wrong is reported by `finish`.
///
/// Freed memory is wiped (`sys::memory`), so a value that passes through here leaves nothing behind.
pub struct Fields {
    fields: Map<String, Value>,
    errors: Vec<(String, String)>,
    reservation: Option<Reservation>,
}

impl Fields {
    /// Of a body.
    ///
    /// # Errors
    /// Not a JSON object.
    pub fn read(body: &[u8]) -> Result<Self, HttpError> {
        // serde_json's own message can quote the body, and the body can hold a value: only the place is told.
        match leaving_nothing(|| serde_json::from_slice(body)) {
            Ok(Value::Object(fields)) => Ok(Self { fields, errors: Vec::new(), reservation: None }),
            Ok(_) => Err(HttpError::new(Code::BadRequest, "the body has to be a JSON object")),
            Err(error) => Err(HttpError::new(
                Code::BadRequest,
                format!("the body is not JSON: line {}, column {}", error.line(), error.column()),
            )),
        }
    }

    /// A text that has to be there.
    pub fn text(&mut self, field: &str) -> Option<String> {
        let found = self.optional_text(field);
        if found.is_none() && !self.errors.iter().any(|(known, _)| known == field) {
            self.wrong(field, "missing");
        }
        found
    }

    /// A text that may be absent or null.
    pub fn optional_text(&mut self, field: &str) -> Option<String> {
        match self.fields.remove(field) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text),
            Some(_) => {
                self.wrong(field, "a string is needed");
                None
            }
        }
    }

    /// A text out of a list.
    pub fn one_of(&mut self, field: &str, known: &[&str]) -> Option<String> {
        let text = self.text(field)?;
        if known.contains(&text.as_str()) {
            return Some(text);
        }
        self.wrong(field, format!("one of {} is needed", known.join(", ")));
        None
    }

    /// A yes or no that may be absent or null.
    pub fn flag(&mut self, field: &str) -> Option<bool> {
        match self.fields.remove(field) {
            None | Some(Value::Null) => None,
            Some(Value::Bool(flag)) => Some(flag),
            Some(_) => {
                self.wrong(field, "true or false is needed");
                None
            }
        }
    }

    /// The name of a secret.
    pub fn name(&mut self, field: &str) -> Option<SecretName> {
        let text = self.text(field)?;
        text.parse().map_err(|invalid: InvalidName| self.wrong(field, invalid.to_string())).ok()
    }

    /// The name of a secret that may be absent or null.
    pub fn optional_name(&mut self, field: &str) -> Option<SecretName> {
        let text = self.optional_text(field)?;
        text.parse().map_err(|invalid: guillemet_base::names::InvalidName| self.wrong(field, invalid.to_string())).ok()
    }

    /// A value that can be kept.
    pub fn value(&mut self, field: &str) -> Option<Zeroizing<String>> {
        let text = Zeroizing::new(self.text(field)?);
        if text.is_empty() {
            self.wrong(field, "a value cannot be empty");
            return None;
        }
        self.fitting(field, text)
    }

    /// A value that can be kept; absent, null or empty where the present one stays.
    pub fn optional_value(&mut self, field: &str) -> Option<Zeroizing<String>> {
        let text = self.optional_text(field).map(Zeroizing::new).filter(|text| !text.is_empty())?;
        self.fitting(field, text)
    }

    fn fitting(&mut self, field: &str, text: Zeroizing<String>) -> Option<Zeroizing<String>> {
        if text.len() > VALUE_MAX {
            self.wrong(field, format!("a value may have at most {VALUE_MAX} bytes"));
            return None;
        }
        Some(text)
    }

    /// A whole number from 1 that has to be there.
    pub fn number(&mut self, field: &str) -> Option<u32> {
        let number =
            self.fields.remove(field).map(|value| value.as_u64().and_then(|number| u32::try_from(number).ok()));
        match number {
            Some(Some(number @ 1..)) => return Some(number),
            Some(_) => self.wrong(field, "a whole number from 1 is needed"),
            None => self.wrong(field, "missing"),
        }
        None
    }

    /// Names of secrets, each once, in order.
    pub fn names(&mut self, field: &str) -> Vec<SecretName> {
        let items = match self.fields.remove(field) {
            Some(Value::Array(items)) if !items.is_empty() && items.len() <= RESOLVE_MAX => items,
            None => {
                self.wrong(field, "missing");
                return Vec::new();
            }
            Some(_) => {
                self.wrong(field, format!("a list of 1 to {RESOLVE_MAX} names is needed"));
                return Vec::new();
            }
        };
        let mut names: Vec<SecretName> = Vec::with_capacity(items.len());
        let mut known = std::collections::HashSet::new();
        for (index, item) in items.iter().enumerate() {
            match item.as_str().map(str::parse::<SecretName>) {
                Some(Ok(name)) if known.insert(name.key()) => names.push(name),
                Some(Ok(_)) => {}
                Some(Err(invalid)) => self.wrong(format!("{field}.{index}"), invalid.to_string()),
                None => self.wrong(format!("{field}.{index}"), "a string is needed"),
            }
        }
        names
    }

    /// What becomes of secrets that are on both sides, by name: an object, or absent.
    pub fn same_names(&mut self, field: &str) -> BTreeMap<String, SameName> {
        let decided = match self.fields.remove(field) {
            None | Some(Value::Null) => return BTreeMap::new(),
            Some(decided) => decided,
        };
        serde_json::from_value(decided).unwrap_or_else(|_| {
            self.wrong(field, "an object is needed: for each name `both`, `account` or `mine`");
            BTreeMap::new()
        })
    }

    /// The same of all of them.
    pub fn same_name(&mut self, field: &str) -> Option<SameName> {
        let text = self.optional_text(field)?;
        let known = serde_json::from_value(Value::String(text)).ok();
        if known.is_none() {
            self.wrong(field, "one of both, account, mine is needed");
        }
        known
    }

    /// Returns what was reserved for the body, for whoever keeps a large part of it.
    pub fn reservation(&mut self) -> Option<Reservation> {
        self.reservation.take()
    }

    /// Notes what is wrong with a field.
    pub fn wrong(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.errors.push((field.into(), message.into()));
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Everything that was wrong, and every field nobody asked for.
    pub fn finish(mut self) -> Result<(), HttpError> {
        for field in self.fields.keys() {
            self.errors.push((field.clone(), "there is no such field here".into()));
        }
        if self.errors.is_empty() { Ok(()) } else { Err(AppError::Invalid(self.errors).into()) }
    }
}
