//! The filters a template can put behind a secret.
//!
//! Names only: `encode` gives them their meaning.

use serde::{Deserialize, Serialize};

/// A filter a template may put behind a secret: `<< secret "x" | base64 >>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueFilter {
    /// Base64 with padding (RFC 4648 section 4).
    Base64,
    /// Base64 for URLs, without padding (RFC 4648 section 5).
    Base64url,
    /// Lower-case hexadecimal.
    Hex,
    /// Percent-encoding of all but RFC 3986 unreserved.
    Url,
    /// Without the white space at both ends.
    Trim,
}

impl ValueFilter {
    /// All of them, with the names templates use.
    pub const ALL: [(&'static str, Self); 5] = [
        ("base64", Self::Base64),
        ("base64url", Self::Base64url),
        ("hex", Self::Hex),
        ("url", Self::Url),
        ("trim", Self::Trim),
    ];
}
