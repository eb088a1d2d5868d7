//! Templates: decides what a tag is (`lexer`), finds the template files and the secrets they reference (`catalog`), and
//! rewrites a name in a text (`rename`).
//!
//! Runs in the process that holds keys, so it only reads text: it never evaluates a template and never parses a config
//! tree.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod catalog;
pub mod filter;
pub mod lexer;
pub mod rename;
pub mod tokens;

use serde::{Deserialize, Serialize};

pub use self::filter::ValueFilter;

/// The syntax of a template's text, chosen by the extension of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// TOML 1, from files that end in `.toml`.
    Toml,
    /// JSON as in RFC 8259 (`.json`).
    Json,
    /// JSON with comments and trailing commas (`.jsonc`).
    Jsonc,
    /// YAML 1.2, one document (`.yaml` or `.yml`).
    Yaml,
}

impl Format {
    /// Every extension a template file can have, in lower case and without the dot.
    pub const EXTENSIONS: [&str; 5] = ["toml", "json", "jsonc", "yaml", "yml"];

    /// Returns the format of an extension, given without the dot and in any case; `None` if no template has this
    /// extension.
    pub fn from_extension(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            "toml" => Some(Self::Toml),
            "json" => Some(Self::Json),
            "jsonc" => Some(Self::Jsonc),
            "yaml" | "yml" => Some(Self::Yaml),
            _ => None,
        }
    }

    /// Returns the extension without the dot, which is also the format's name in the API.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Toml => "toml",
            Self::Json => "json",
            Self::Jsonc => "jsonc",
            Self::Yaml => "yaml",
        }
    }
}
