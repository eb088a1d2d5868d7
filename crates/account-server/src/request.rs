//! The parts of a request: keys, ids, parameters, preconditions and bodies, read within limits.
//!
//! Knows no storage.

use std::str::FromStr;
use std::time::Duration;

use data_encoding::HEXLOWER;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{HeaderMap, IF_MATCH, IF_NONE_MATCH};
use serde::de::DeserializeOwned;

use super::error::{ServerError, ServerErrorCode};
use super::limits::RateLimiter;
use guillemet_http::query::parameters;
use guillemet_wire::api_key::ApiKey;
use guillemet_wire::{BODY_MAX, Hash, PullCursor, RECORDS_MAX};

/// The time limit for a body to arrive.
const BODY_TIME: Duration = Duration::from_secs(120);
/// The most bytes of a body that are read and discarded, and the longest time spent on it.
const HEARD_MAX: usize = 4 * BODY_MAX;
const HEARD_TIME: Duration = Duration::from_secs(10);
/// The length of the part of a parser's message that is sent back, in bytes; it may quote the request.
const TOLD_MAX: usize = 200;

/// Returns the API key of a request; `None` if the header is missing or is not a key.
pub fn api_key(headers: &HeaderMap) -> Option<ApiKey> {
    ApiKey::parse(single_header(headers, "x-api-key")?).ok()
}

/// Returns the hash of the token that a device shows to join; `None` if the header is not 32 bytes in hexadecimal
/// digits.
pub fn token(headers: &HeaderMap) -> Option<Hash> {
    let token =
        HEXLOWER.decode(single_header(headers, "x-enrolment-token")?.as_bytes()).ok().filter(|token| token.len() == 32);
    token.map(|token| Hash::of(&[&token]))
}

/// Returns the value of a header that occurs exactly once and is text.
fn single_header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    if values.next().is_some() { None } else { first.to_str().ok() }
}

/// Parses an id in a path. An invalid id is answered like one that does not exist.
///
/// # Errors
/// [`ServerError::forbidden`], as for a key that does not allow the request.
pub fn id<T: FromStr>(raw: Option<&str>) -> Result<T, ServerError> {
    raw.and_then(|raw| raw.parse().ok()).ok_or_else(ServerError::forbidden)
}

/// Returns the head that a push is made on: `If-Match` with its hash, or `None` for `If-None-Match: *`, the first head.
///
/// # Errors
/// [`ServerErrorCode::BadRequest`] if there is neither header, or both.
pub fn expected_head(headers: &HeaderMap) -> Result<Option<Hash>, ServerError> {
    let malformed = || {
        let message =
            "a push needs `If-Match: \"HASH\"` with the hash of the newest head, or `If-None-Match: *` for the first";
        ServerError::new(ServerErrorCode::BadRequest, message)
    };
    match (single_header(headers, IF_MATCH.as_str()), single_header(headers, IF_NONE_MATCH.as_str())) {
        (None, Some("*")) if !headers.contains_key(IF_MATCH) => Ok(None),
        (Some(tag), None) if !headers.contains_key(IF_NONE_MATCH) => {
            let hash = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).and_then(|tag| tag.parse().ok());
            hash.map(Some).ok_or_else(malformed)
        }
        _ => Err(malformed()),
    }
}

/// Parses the parameters of a pull: its position, and how many records it asks for.
///
/// # Errors
/// [`ServerErrorCode::Validation`] with every parameter that is malformed.
pub fn cursor(raw: Option<&str>) -> Result<(PullCursor, usize), ServerError> {
    let mut errors = Vec::new();
    let names = ["heads_after", "records_after", "after_id", "limit"];
    let [heads_after, records_after, after_id, limit] = parameters(raw, names, &mut errors);
    let mut number = |name: &str, text: Option<String>, least: u64, most: u64, default: u64| {
        let Some(text) = text else { return default };
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        if number.is_none() {
            errors.push((name.to_owned(), format!("must be a whole number from {least} to {most}")));
        }
        number.unwrap_or(default)
    };
    let heads_after = number("heads_after", heads_after, 0, i64::MAX as u64, 0);
    let records_after = number("records_after", records_after, 0, i64::MAX as u64, 0);
    let limit = number("limit", limit, 1, RECORDS_MAX as u64, RECORDS_MAX as u64) as usize;
    let after_id = after_id.and_then(|text| {
        let id = text.parse();
        id.map_err(|invalid| errors.push(("after_id".to_owned(), format!("{invalid}")))).ok()
    });
    if errors.is_empty() {
        Ok((PullCursor { heads_after, records_after, after_id }, limit))
    } else {
        Err(ServerError::fields(errors))
    }
}

/// Checks that there are no parameters.
///
/// # Errors
/// [`ServerErrorCode::Validation`] with every parameter.
pub fn no_query(raw: Option<&str>) -> Result<(), ServerError> {
    let mut errors = Vec::new();
    let [] = parameters(raw, [], &mut errors);
    if errors.is_empty() { Ok(()) } else { Err(ServerError::fields(errors)) }
}

/// Reads a body and decodes it from JSON.
///
/// # Errors
/// [`ServerErrorCode::TooLarge`], [`ServerErrorCode::BadRequest`] if it is too slow, incomplete or not JSON,
/// [`ServerErrorCode::Validation`] if it is JSON of another form.
pub async fn body<T: DeserializeOwned>(limiter: &RateLimiter, body: &mut Incoming) -> Result<T, ServerError> {
    let announced = usize::try_from(body.size_hint().upper().unwrap_or(BODY_MAX as u64)).unwrap_or(usize::MAX);
    let timed_out =
        || ServerError::new(ServerErrorCode::BadRequest, "the body did not arrive in time; send the request again");
    let read = async {
        let memory = limiter.reserve_body(announced).await;
        read(body, announced).await.map(|bytes| (bytes, memory))
    };
    let (bytes, _memory) = tokio::time::timeout(BODY_TIME, read).await.map_err(|_| timed_out())??;
    serde_json::from_slice(&bytes).map_err(|error| {
        let mut text = error.to_string();
        text.truncate(text.floor_char_boundary(TOLD_MAX));
        if error.is_data() {
            ServerError::fields(vec![(String::new(), text)])
        } else {
            ServerError::new(ServerErrorCode::BadRequest, format!("the body is not JSON: {text}"))
        }
    })
}

fn too_large() -> ServerError {
    ServerError::new(
        ServerErrorCode::TooLarge,
        format!("the body can have at most {BODY_MAX} bytes; push fewer records at once"),
    )
}

/// Reads and discards the rest of a body, within limits: a client that is still sending does not read the answer.
pub async fn discard_body(body: &mut Incoming) {
    let drained = async {
        let mut len = 0;
        while len <= HEARD_MAX
            && let Some(Ok(frame)) = body.frame().await
        {
            len += frame.data_ref().map_or(0, |data| data.len());
        }
    };
    let _ = tokio::time::timeout(HEARD_TIME, drained).await;
}

/// Reads a body. Keeps reading for a while if the body is too large, so that the client gets the answer.
async fn read(body: &mut Incoming, announced: usize) -> Result<Vec<u8>, ServerError> {
    let (mut bytes, mut len) = (Vec::with_capacity(announced.min(1 << 20)), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            ServerError::new(ServerErrorCode::BadRequest, "the body was cut off; send the request again")
        })?;
        if let Some(data) = frame.data_ref() {
            len += data.len();
            if len > HEARD_MAX {
                break;
            } else if len > BODY_MAX {
                bytes = Vec::new();
            } else {
                bytes.extend_from_slice(data);
            }
        }
    }
    if len > BODY_MAX { Err(too_large()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn a_push_says_what_it_is_made_on() {
        let headers = |pairs: &[(&'static str, &str)]| -> HeaderMap {
            pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap())).collect()
        };
        let hash = format!("\"{}\"", Hash([7; 32]));
        assert_eq!(expected_head(&headers(&[("if-match", &hash)])).unwrap(), Some(Hash([7; 32])));
        assert_eq!(expected_head(&headers(&[("if-none-match", "*")])).unwrap(), None);
        for invalid in [
            vec![],
            vec![("if-match", "*")],
            vec![("if-match", &*hash), ("if-none-match", "*")],
            vec![("if-none-match", &hash)],
        ] {
            assert!(expected_head(&headers(&invalid)).is_err(), "{invalid:?}");
        }
    }

    #[test]
    fn every_wrong_parameter_is_told() {
        let (from, limit) =
            cursor(Some("heads_after=3&records_after=2&after_id=00112233445566778899aabbccddeeff&limit=5")).unwrap();
        assert_eq!((from.heads_after, from.records_after, limit), (3, 2, 5));
        assert!(from.after_id.is_some());
        let error = cursor(Some("heads_after=-1&limit=0&after_id=x&what=1&limit=2")).unwrap_err();
        let text = format!("{error:?}");
        for field in ["heads_after", "limit", "after_id", "what", "is given twice"] {
            assert!(text.contains(field), "{field}");
        }
    }
}
