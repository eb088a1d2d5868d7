//! The filters a template can put behind a secret.
//!
//! Names only: `encode` gives them their meaning.

use serde::{Deserialize, Serialize};

/// A filter that a template may apply to a secret: `<< secret "x" | base64 >>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueFilter {
    /// Base64 with padding (RFC 4648, section 4).
    Base64,
    /// Base64 for URLs, without padding (RFC 4648, section 5).
    Base64url,
    /// Hexadecimal in lower case.
    Hex,
    /// Percent-encoding of every byte that is not unreserved in RFC 3986.
    Url,
    /// Removes the white space at both ends; refuses a value of white space alone.
    Trim,
}

impl ValueFilter {
    /// Every filter, with its name in templates.
    pub const ALL: [(&'static str, Self); 5] = [
        ("base64", Self::Base64),
        ("base64url", Self::Base64url),
        ("hex", Self::Hex),
        ("url", Self::Url),
        ("trim", Self::Trim),
    ];
}
