//! What a slot stands for: a secret, or encoders over text that holds secrets.
//!
//! Data only, shared by planner and daemon; holds no value. `encode` gives the operations their meaning.

use serde::{Deserialize, Serialize};

use crate::template::ValueFilter;

/// An operation on text. Its arguments are `Text`s; most take one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// A value filter of the template.
    Filter(ValueFilter),
    /// `encode.url-query`
    UrlQuery,
    /// `encode.url-path-segment`
    UrlPathSegment,
    /// `encode.url`
    Url,
    /// `encode.header-value`
    HeaderValue,
    /// `encode.base64`
    Base64,
    /// `encode.basic-credentials`: user, password
    BasicCredentials,
    /// `encode.sip-digest-ha1`: user, realm, password
    SipDigestHa1(DigestAlgorithm),
    /// `encode.json-string`
    JsonString,
    /// `encode.forbid`
    Forbid {
        /// The characters a value may not hold.
        characters: String,
        /// Why, for the person who has to choose another value.
        reason: String,
    },
    /// `encode.forbid-sequence`
    ForbidSequence {
        /// The text a value may not bring in.
        sequence: String,
        /// Why.
        reason: String,
    },
    /// `encode.at-most`
    AtMost {
        /// The most bytes the text may come to.
        bytes: u32,
        /// Why.
        reason: String,
    },
    /// `encode.xml`
    Xml,
    /// `encode.dotenv`
    Dotenv,
    /// `encode.asterisk-value`
    AsteriskValue,
    /// `encode.kamailio-string`
    KamailioString,
    /// `encode.baresip-parameter`
    BaresipParameter,
    /// `encode.curl-config`
    CurlConfig,
}

impl Op {
    /// Whether what comes out can stand in a text document as it is (`wit/feature.wit`, terminal encoders).
    pub fn is_terminal(&self) -> bool {
        use Op::{AsteriskValue, BaresipParameter, CurlConfig, Dotenv, KamailioString, Xml};
        matches!(self, Xml | Dotenv | AsteriskValue | KamailioString | BaresipParameter | CurlConfig)
    }

    /// The name people see.
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

/// A digest of RFC 8760.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DigestAlgorithm {
    /// `MD5`
    #[serde(rename = "MD5")]
    Md5,
    /// `SHA-256`
    #[serde(rename = "SHA-256")]
    Sha256,
    /// `SHA-512-256`
    #[serde(rename = "SHA-512-256")]
    Sha512_256,
}

/// What a slot stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expr {
    /// The secret of this emission.
    Secret(u32),
    /// An operation over texts that hold at least one secret.
    Apply {
        /// What is done.
        op: Op,
        /// To what.
        args: Vec<Text>,
    },
}

impl Expr {
    /// Which emissions it takes a value from, each once.
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

/// Text that may hold secrets: pieces in order.
pub type Text = Vec<Part>;

/// A piece of text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Text of the template or the plugin.
    Literal(String),
    /// What a slot stood for.
    Expr(Expr),
}
