//! Writes what HTTP takes: percent-encoded text, URLs and header values.
//!
//! The library for plugins in Rust has the same file (a link), for cases without a host.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::text::breaks_line;
use super::{Clear, Refusal, refuse};

/// The characters that are percent-encoded: all but the unreserved ones of RFC 3986, section 2.3.
const RESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Appends the text percent-encoded.
pub fn percent(text: &[u8], out: &mut Clear) -> Result<(), Refusal> {
    for piece in percent_encode(text, &RESERVED) {
        out.extend_from_slice(piece.as_bytes());
    }
    Ok(())
}

/// Returns a text percent-encoded, as `url-query` writes it.
pub fn percent_encoded(text: &str) -> String {
    percent_encode(text.as_bytes(), &RESERVED).to_string()
}

/// Appends the text percent-encoded; refuses `.` and `..`.
pub fn path_segment(text: &[u8], out: &mut Clear) -> Result<(), Refusal> {
    if matches!(text, b"." | b"..") {
        return refuse("a path segment cannot be `.` or `..`, which would lead to another path");
    }
    percent(text, out)
}

/// Checks a field value of RFC 9110, section 5.5, without obs-text: what every client and server accepts.
pub fn check_header_value(text: &[u8]) -> Result<(), Refusal> {
    let blank = |b: Option<&u8>| b.is_some_and(|b| matches!(b, b' ' | b'\t'));
    if text.iter().all(|b| matches!(b, b' '..=b'~' | b'\t')) && !blank(text.first()) && !blank(text.last()) {
        Ok(())
    } else if breaks_line(text) {
        refuse("a header value cannot contain a line break or NUL")
    } else if !text.is_ascii() {
        refuse("a header value can only contain ASCII characters")
    } else if text.iter().any(|b| b.is_ascii_control() && *b != b'\t') {
        refuse("a header value cannot contain control characters")
    } else {
        refuse("a header value cannot start or end with a space or tab; use `| trim` if it is not part of the value")
    }
}

/// The characters that a URL may contain.
const URL: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0x21;
    while b < 0x7f {
        table[b] = !matches!(b as u8, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'|');
        b += 1;
    }
    table
};

/// Checks an absolute http(s) URL of RFC 3986. Braces pass, for the variables of platforms that expand them.
pub fn check_url(text: &[u8]) -> Result<(), Refusal> {
    let rest = [&b"https://"[..], b"http://"]
        .iter()
        .find(|scheme| text.len() >= scheme.len() && text[..scheme.len()].eq_ignore_ascii_case(scheme))
        .map(|scheme| &text[scheme.len()..]);
    let Some(rest) = rest else {
        return refuse("not an absolute URL: it must start with https:// or http://");
    };
    if !text.iter().all(|b| URL[usize::from(*b)]) {
        return refuse(
            "a URL cannot contain spaces, control characters, non-ASCII characters or any of \" < > \\ ^ ` |",
        );
    }
    let bad_escape = |digits: &[u8]| !digits.get(..2).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    if text.split(|b| *b == b'%').skip(1).any(bad_escape) {
        return refuse("a URL can contain `%` only before two hexadecimal digits");
    }
    let authority_end = rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(authority_end);
    let host = authority.rsplit(|b| *b == b'@').next().unwrap_or_default();
    if host.is_empty() || host.starts_with(b":") {
        return refuse("the URL has no host");
    }
    let path = tail.split(|b| matches!(b, b'?' | b'#')).next().unwrap_or_default();
    // A dot may be written as `%2e`, in either case.
    let dots = |mut segment: &[u8]| {
        let mut count = 0;
        while let Some(first) = segment.first() {
            let len = match segment.get(..3) {
                _ if *first == b'.' => 1,
                Some(escape) if escape.eq_ignore_ascii_case(b"%2e") => 3,
                _ => return false,
            };
            segment = &segment[len..];
            count += 1;
        }
        matches!(count, 1 | 2)
    };
    if path.split(|b| *b == b'/').any(dots) {
        return refuse("a path segment of a URL cannot be `.` or `..`, which would lead to another path");
    }
    Ok(())
}
