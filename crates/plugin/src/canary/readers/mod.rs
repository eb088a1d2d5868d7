//! Reads the leaves of a document: its values, each with its place, and between them what is structure.
//!
//! Each format has a reader of its own, which follows the program that reads the format and is stricter than that
//! program: text that the program would skip, join or expand is structure or an error, never a part of a value. Knows
//! nothing of plans and canaries.

mod asterisk;
mod baresip;
mod curl;
mod docker;
mod dotenv;
pub mod escaped;
mod ini;
mod json;
mod kamailio;
mod netrc;
mod shell;
mod systemd;
mod toml;
mod xml;
mod yaml;

/// A document format that this module can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadableFormat {
    /// JSON (RFC 8259).
    Json,
    /// XML 1.0.
    Xml,
    /// `NAME=value` lines for python-dotenv.
    Dotenv,
    /// A file for `curl --config`.
    Curl,
    /// A configuration of Asterisk.
    Asterisk,
    /// A configuration of Kamailio.
    Kamailio,
    /// An accounts file of baresip.
    Baresip,
    /// YAML that 1.1 and 1.2 read alike.
    Yaml,
    /// TOML 1.0.
    Toml,
    /// INI that Python's configparser and npm's `ini` read alike.
    Ini,
    /// A script of a POSIX shell.
    Shell,
    /// A file for `EnvironmentFile=` of systemd.
    SystemdEnv,
    /// A file for `docker --env-file` and `kubectl --from-env-file`.
    DockerEnv,
    /// A netrc file, as curl and Python read it.
    Netrc,
}

/// A value and its place, or a part of the structure. Two documents of the same structure have the same leaves, except
/// for the texts of their values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The names of members, indices of items, elements and attributes, from the root.
    pub path: Vec<String>,
    /// The text as the format's reader returns it.
    pub text: String,
    /// What this is, if it is not a value: "a comment".
    pub structure: Option<&'static str>,
}

impl Leaf {
    fn value(path: &[&str], text: impl Into<String>) -> Self {
        let path = path.iter().map(|name| (*name).to_owned()).collect();
        Self { path, text: text.into(), structure: None }
    }

    fn structure(what: &'static str, text: impl Into<String>) -> Self {
        Self { path: Vec::new(), text: text.into(), structure: Some(what) }
    }
}

impl ReadableFormat {
    /// Returns the name of the format for people, as in "a JSON document".
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Xml => "XML",
            Self::Dotenv => "dotenv",
            Self::Curl => "curl",
            Self::Asterisk => "Asterisk",
            Self::Kamailio => "Kamailio",
            Self::Baresip => "baresip",
            Self::Yaml => "YAML",
            Self::Toml => "TOML",
            Self::Ini => "INI",
            Self::Shell => "shell",
            Self::SystemdEnv => "systemd environment",
            Self::DockerEnv => "docker environment",
            Self::Netrc => "netrc",
        }
    }

    /// Reports whether quotes around a value are a part of it.
    pub fn keeps_quotes(self) -> bool {
        matches!(self, Self::Asterisk | Self::DockerEnv)
    }

    /// Returns the leaves of a text, in order.
    ///
    /// # Errors
    /// Fails with the reason, and its line if the format has lines, if the text does not have this format.
    pub fn leaves(self, text: &str) -> Result<Vec<Leaf>, String> {
        match self {
            Self::Json => json::read(text),
            Self::Xml => xml::read(text),
            Self::Dotenv => dotenv::read(text),
            Self::Curl => curl::read(text),
            Self::Asterisk => asterisk::read(text),
            Self::Kamailio => kamailio::read(text),
            Self::Baresip => baresip::read(text),
            Self::Yaml => yaml::read(text),
            Self::Toml => toml::read(text),
            Self::Ini => ini::read(text),
            Self::Shell => shell::read(text),
            Self::SystemdEnv => systemd::read(text),
            Self::DockerEnv => docker::read(text),
            Self::Netrc => netrc::read(text),
        }
    }
}

/// Returns an error message for the line that contains a byte offset.
fn error_at(text: &str, at: usize, problem: &str) -> String {
    let line = 1 + text.as_bytes().iter().take(at).filter(|b| **b == b'\n').count();
    format!("line {line}: {problem}")
}

/// Returns the lines of a text, each with its byte offset and without its line feed.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    text.split_inclusive('\n').map(move |line| {
        let start = at;
        at += line.len();
        (start, line.strip_suffix('\n').unwrap_or(line))
    })
}

/// Reports whether C's `isspace` counts a character as a blank.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

#[cfg(test)]
mod tests;
