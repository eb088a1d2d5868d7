//! The expressions that slots stand for: a secret, or encoders over text that contains secrets.
//!
//! Data only, shared by planner and daemon; holds no value. `encode` implements the operations.

use serde::{Deserialize, Serialize};

use guillemet_template::ValueFilter;

/// An operation on text. Its arguments are `Text`s; most operations take one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// A value filter of the template.
    Filter(ValueFilter),
    /// `encode.url-query`: percent-encodes a value of a URL's query.
    UrlQuery,
    /// `encode.url-path-segment`: percent-encodes a segment of a URL's path; refuses `.` and `..`.
    UrlPathSegment,
    /// `encode.url`: accepts only an absolute http(s) URL.
    Url,
    /// `encode.header-value`: accepts only text that can be the value of an HTTP header.
    HeaderValue,
    /// `encode.base64`: Base64 with padding (RFC 4648, section 4).
    Base64,
    /// `encode.basic-credentials`: user and password, for HTTP Basic (RFC 7617).
    BasicCredentials,
    /// `encode.sip-digest-ha1`: the hash of user, realm and password (RFC 8760).
    SipDigestHa1(DigestAlgorithm),
    /// `encode.json-string`: escapes the content of a JSON string, without its quotes.
    JsonString,
    /// `encode.forbid`: refuses values that contain certain characters.
    Forbid {
        /// The characters that a value may not contain.
        characters: String,
        /// The reason, for the person who has to choose another value.
        reason: String,
    },
    /// `encode.forbid-sequence`: refuses values that complete a certain text.
    ForbidSequence {
        /// The text that a value may not introduce.
        sequence: String,
        /// The reason, for the person who has to choose another value.
        reason: String,
    },
    /// `encode.at-most`: refuses text that is too long.
    AtMost {
        /// The most bytes of the whole text.
        bytes: u32,
        /// The reason, for the person who has to choose another value.
        reason: String,
    },
    /// `encode.xml`: escapes character data and attribute values.
    Xml,
    /// `encode.dotenv`: writes the value of a `NAME=value` line.
    Dotenv,
    /// `encode.asterisk-value`: writes a value of an Asterisk configuration.
    AsteriskValue,
    /// `encode.kamailio-string`: writes a quoted string of a Kamailio configuration.
    KamailioString,
    /// `encode.baresip-parameter`: writes a parameter of a baresip accounts line.
    BaresipParameter,
    /// `encode.curl-config`: writes a quoted value of a `curl --config` file.
    CurlConfig,
}

impl Op {
    /// Reports whether the result can be in a text document as it is (`wit/feature.wit`, terminal encoders).
    pub fn is_terminal(&self) -> bool {
        use Op::{AsteriskValue, BaresipParameter, CurlConfig, Dotenv, KamailioString, Xml};
        matches!(self, Xml | Dotenv | AsteriskValue | KamailioString | BaresipParameter | CurlConfig)
    }

    /// Returns the operation's name as people see it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Filter(filter) => {
                ValueFilter::ALL.iter().find(|(_, known)| known == filter).map_or("filter", |(name, _)| name)
            }
            Self::UrlQuery => "url-query",
            Self::UrlPathSegment => "url-path-segment",
            Self::Url => "url",
            Self::HeaderValue => "header-value",
            Self::Base64 => "base64",
            Self::BasicCredentials => "basic-credentials",
            Self::SipDigestHa1(_) => "sip-digest-ha1",
            Self::JsonString => "json-string",
            Self::Forbid { .. } => "forbid",
            Self::ForbidSequence { .. } => "forbid-sequence",
            Self::AtMost { .. } => "at-most",
            Self::Xml => "xml",
            Self::Dotenv => "dotenv",
            Self::AsteriskValue => "asterisk-value",
            Self::KamailioString => "kamailio-string",
            Self::BaresipParameter => "baresip-parameter",
            Self::CurlConfig => "curl-config",
        }
    }
}

/// A digest algorithm for SIP (RFC 8760).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DigestAlgorithm {
    /// MD5, written `MD5` in the contract.
    #[serde(rename = "MD5")]
    Md5,
    /// SHA-256, written `SHA-256` in the contract.
    #[serde(rename = "SHA-256")]
    Sha256,
    /// SHA-512/256, written `SHA-512-256` in the contract.
    #[serde(rename = "SHA-512-256")]
    Sha512_256,
}

/// The expression that a slot stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expr {
    /// The secret of the emission with this index.
    Secret(u32),
    /// An operation over texts that contain at least one secret.
    Apply {
        /// The operation that is applied.
        op: Op,
        /// Its arguments, in order.
        args: Vec<Text>,
    },
}

impl Expr {
    /// Returns the indices of the emissions whose values it uses, each once.
    pub fn emissions(&self) -> Vec<u32> {
        fn collect(expr: &Expr, into: &mut Vec<u32>) {
            match expr {
                Expr::Secret(emission) if into.contains(emission) => {}
                Expr::Secret(emission) => into.push(*emission),
                Expr::Apply { args, .. } => {
                    for part in args.iter().flatten() {
                        if let Part::Expr(inner) = part {
                            collect(inner, into);
                        }
                    }
                }
            }
        }
        let mut into = Vec::new();
        collect(self, &mut into);
        into
    }
}

/// Text that may contain secrets, as parts in order.
pub type Text = Vec<Part>;

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Literal text of the template or the plugin.
    Literal(String),
    /// The expression that a slot stood for.
    Expr(Expr),
}
