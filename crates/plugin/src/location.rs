//! Where a plugin or an index of plugins is, and the digest that it has to have.
//!
//! Knows no file and no network: it only decides which texts may name them.

use std::path::PathBuf;

use url::Url;

/// The most bytes of a URL.
const URL_MAX: usize = 2048;

/// The rule for URLs, as the end of a sentence about one.
pub const URL_RULE: &str = "must be an https URL of printable ASCII, without a user, a password or a fragment";
/// The rule for digests, as the end of a sentence about one.
pub const DIGEST_RULE: &str = "must be a SHA-256 as 64 hexadecimal digits";

/// Where a plugin or an index is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// At an https URL.
    Url(String),
    /// In a file.
    File(PathBuf),
}

/// Returns the URL that a text is, if a plugin or an index may be fetched from it: https, with a host and without
/// credentials.
pub fn https_url(text: &str) -> Option<Url> {
    // The parser drops blanks and line breaks, so what it reads is not always what a person sees.
    if text.len() > URL_MAX || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return None;
    }
    let url = Url::parse(text).ok()?;
    let is_plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    (url.scheme() == "https" && url.has_host() && is_plain).then_some(url)
}

/// Returns the digest that a text is, in lower case.
pub fn digest(text: &str) -> Option<String> {
    (text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())).then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_without_credentials_is_fetched() {
        for good in ["https://a.example/x.wasm", "https://127.0.0.1:8443/a?b=c", "https://[::1]/x", "HTTPS://a.example"]
        {
            assert!(https_url(good).is_some(), "{good}");
        }
        let long = format!("https://a.example/{}", "x".repeat(URL_MAX));
        for bad in [
            "http://a.example/x",
            "file:///etc/passwd",
            "https://user@a.example/",
            "https://:p@a.example/",
            "https://a.example/#x",
            "https://",
            "a.example/x",
            " https://a.example/",
            "https://a.example/\n",
            "https://ä.example/",
            "",
            &long,
        ] {
            assert!(https_url(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_digest_is_64_digits_in_any_case() {
        assert_eq!(digest(&"aB".repeat(32)), Some("ab".repeat(32)));
        for bad in [String::new(), "a".repeat(63), "g".repeat(64), "ä".repeat(32)] {
            assert_eq!(digest(&bad), None);
        }
    }
}
