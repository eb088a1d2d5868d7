//! The form of errors: a table of codes, and a JSON body with the headers that belong to it.
//!
//! Knows neither the codes of a server nor the fields of its body.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::Serialize;

/// The codes of a server's errors, as one table.
pub trait ErrorTable: Copy + PartialEq + 'static {
    /// Every code, with its name in the body and its HTTP status. The last row is the internal error, which stands for
    /// a code that is missing here.
    const ALL: &'static [(Self, &'static str, u16)];

    /// Returns the name of the code in the body.
    fn name(self) -> &'static str {
        row(self).map_or("internal_error", |(name, _)| name)
    }

    /// Returns the HTTP status of the response.
    fn status(self) -> StatusCode {
        let status = row(self).and_then(|(_, status)| StatusCode::from_u16(status).ok());
        status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

fn row<C: ErrorTable>(code: C) -> Option<(&'static str, u16)> {
    C::ALL.iter().find(|(other, ..)| *other == code).map(|(_, name, status)| (*name, *status))
}

/// A header that belongs to an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorHeader {
    /// The number of seconds after which the caller can try again (RFC 9110, section 10.2.3).
    RetryAfter(u64),
    /// The methods that the path supports, separated by commas (RFC 9110, section 10.2.1).
    Allow(Box<str>),
}

impl ErrorHeader {
    fn to_header(&self) -> Option<(HeaderName, HeaderValue)> {
        match self {
            Self::RetryAfter(seconds) => Some((RETRY_AFTER, (*seconds).into())),
            Self::Allow(methods) => HeaderValue::from_str(methods).ok().map(|methods| (ALLOW, methods)),
        }
    }
}

/// Returns a response with an error: its body as JSON, and its header.
pub fn response(status: StatusCode, body: &impl Serialize, header: Option<&ErrorHeader>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(bytes(body).into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().extend(header.and_then(ErrorHeader::to_header));
    response
}

/// Returns the body of that response: JSON and a newline.
pub fn bytes(body: &impl Serialize) -> Vec<u8> {
    /// The body of an error that cannot be written, which no error is.
    const UNWRITABLE: &[u8] = br#"{"code":"internal_error","message":"internal error; see the server's log"}"#;
    let mut bytes = serde_json::to_vec(body).unwrap_or_else(|error| {
        tracing::error!(%error, "an error could not be written as JSON");
        UNWRITABLE.into()
    });
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, PartialEq)]
    enum Code {
        Busy,
        Unlisted,
    }

    impl ErrorTable for Code {
        const ALL: &'static [(Self, &'static str, u16)] = &[(Self::Busy, "busy", 429)];
    }

    #[test]
    fn a_code_has_its_row_and_one_without_a_row_is_an_internal_error() {
        assert_eq!((Code::Busy.name(), Code::Busy.status()), ("busy", StatusCode::TOO_MANY_REQUESTS));
        let unlisted = (Code::Unlisted.name(), Code::Unlisted.status());
        assert_eq!(unlisted, ("internal_error", StatusCode::INTERNAL_SERVER_ERROR));
    }

    #[test]
    fn an_error_carries_the_header_that_belongs_to_it() {
        let busy = response(Code::Busy.status(), &"wait", Some(&ErrorHeader::RetryAfter(7)));
        assert_eq!(
            (busy.status(), &busy.headers()[RETRY_AFTER]),
            (StatusCode::TOO_MANY_REQUESTS, &HeaderValue::from(7))
        );
        let other = response(StatusCode::METHOD_NOT_ALLOWED, &"no", Some(&ErrorHeader::Allow("GET, PUT".into())));
        assert_eq!(other.headers()[ALLOW], "GET, PUT");
        assert_eq!(bytes(&"no"), b"\"no\"\n");
    }

    #[test]
    fn an_error_that_cannot_be_written_is_an_internal_error() {
        let unwritable = std::collections::BTreeMap::from([(vec![1], 2)]);
        let text = String::from_utf8(bytes(&unwritable)).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["code"], "internal_error");
    }
}
