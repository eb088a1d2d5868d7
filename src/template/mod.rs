//! Templates: what is a tag in them (`lexer`), which files there are and which secrets they name
//! (`catalog`).
//!
//! Runs in the process that holds keys, so it reads text and nothing more: it never runs a template
//! and never parses a config tree.

pub mod catalog;
pub mod filter;
pub mod lexer;
pub mod problem;
pub mod rename;
pub mod tokens;

use serde::{Deserialize, Serialize};

pub use self::filter::ValueFilter;
pub use self::problem::Problem;

/// How a template's text is written. Chosen by the extension of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// TOML 1.
    Toml,
    /// JSON, RFC 8259.
    Json,
    /// JSON with comments and trailing commas.
    Jsonc,
    /// YAML 1.2, one document.
    Yaml,
}

impl Format {
    /// Every extension of a template's file, without the dot and in lower case.
    pub const EXTENSIONS: [&str; 5] = ["toml", "json", "jsonc", "yaml", "yml"];

    /// Returns the format that an extension (without the dot, in whatever case) stands for.
    pub fn from_extension(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            "toml" => Some(Self::Toml),
            "json" => Some(Self::Json),
            "jsonc" => Some(Self::Jsonc),
            "yaml" | "yml" => Some(Self::Yaml),
            _ => None,
        }
    }

    /// The extension of its files, without the dot; also its name in the API.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Toml => "toml",
            Self::Json => "json",
            Self::Jsonc => "jsonc",
            Self::Yaml => "yaml",
        }
    }
}
