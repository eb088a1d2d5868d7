//! `guillemet.toml`: read once at the edge, checked, and passed on as one value.
//!
//! Knows nothing of what uses it.

mod clients;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

pub use self::clients::{Rule, TemplatePattern, Who};
use crate::files;
use crate::vault::usage::{EVENTS, EVENTS_MAX};

/// The least that answers and bodies of requests can have, in MiB: the largest document (`resolve::fill::FILLED_MAX`
/// and a plan's text) has room in what a user other than the daemon's gets, which is three eighths.
const IN_FLIGHT_MIB_MIN: u64 = 128;
/// The most.
const IN_FLIGHT_MIB_MAX: u64 = 1 << 20;

/// What a fresh home is given.
pub const DEFAULT: &str = include_str!("config/default.toml");

/// The largest configuration, in bytes.
const FILE_MAX: u64 = 1 << 20;
/// The most former versions that can be kept: a record is read and written as a whole.
const FORMER_VERSIONS_MAX: usize = 100;

/// The checked configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What templates read as `<< vars.NAME >>`.
    pub vars: serde_json::Value,
    /// What templates read as `<< env.NAME >>`: the allowed variables that are set.
    pub env: BTreeMap<String, String>,
    /// What callers may take.
    pub limits: Limits,
    /// How many former versions of a secret are kept.
    pub former_versions: usize,
    /// The group that may connect to the socket, beside its owner.
    pub api_group: Option<u32>,
    /// Who else may ask, and what.
    pub clients: Vec<Rule>,
    /// What is kept of who used what.
    pub usage: Usage,
    /// What `/metrics` tells.
    pub metrics: Metrics,
    /// How old the account's newest head may be for this device to serve.
    pub max_head_age: Option<Duration>,
}

/// What is kept of who used what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Usage {
    /// How many answers, and how many refusals, the audit trail holds at most.
    pub events: usize,
    /// How many changes it holds at most.
    pub changes: usize,
}

impl Default for Usage {
    fn default() -> Self {
        Self { events: EVENTS, changes: EVENTS }
    }
}

/// What `/metrics` tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Numbers for each secret, with its name as a label.
    pub secret_names: bool,
}

/// What callers may take of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most connections open at once.
    pub connections: usize,
    /// How long a connection may be silent, or take to send the head of a request.
    pub idle: Duration,
    /// How long the body of a request may take to arrive, or an answer to be taken.
    pub transfer: Duration,
    /// How many bytes answers and bodies of requests may take at once.
    pub in_flight: usize,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {source}. Run `guillemet init`, or mend the file's permissions")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file says something it cannot say.
    #[error("{path}{}: {message}", position(*line))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: Option<usize>,
        /// What is wrong and what to do.
        message: String,
    },
}

fn position(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!(":{line}"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    vars: toml::Table,
    #[serde(default)]
    env: RawEnv,
    #[serde(default)]
    limits: RawLimits,
    #[serde(default)]
    secrets: RawSecrets,
    #[serde(default)]
    usage: Usage,
    #[serde(default)]
    metrics: Metrics,
    #[serde(default)]
    account: RawAccount,
    #[serde(default)]
    api: clients::RawApi,
    #[serde(default)]
    client: Vec<clients::RawRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawSecrets {
    former_versions: usize,
}

impl Default for RawSecrets {
    fn default() -> Self {
        Self { former_versions: 10 }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawAccount {
    max_head_age_seconds: u64,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEnv {
    #[serde(default)]
    allow: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawLimits {
    connections: usize,
    idle_seconds: u64,
    transfer_seconds: u64,
    in_flight_mib: u64,
}

impl Default for RawLimits {
    fn default() -> Self {
        Self { connections: 256, idle_seconds: 60, transfer_seconds: 10, in_flight_mib: 256 }
    }
}

impl Config {
    /// Reads and checks the file. `env` looks a variable of the environment up.
    ///
    /// # Errors
    /// `ConfigError`, with the line where there is one.
    pub fn load(path: &Path, env: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let text = files::read_text(path, FILE_MAX)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text, env).map_err(|(line, message)| ConfigError::Invalid { path: path.to_owned(), line, message })
    }

    fn parse(text: &str, env: impl Fn(&str) -> Option<String>) -> Result<Self, (Option<usize>, String)> {
        let raw: Raw = toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            (line, error.message().to_owned())
        })?;
        let limits = limits(&raw.limits).map_err(|message| (None, message))?;
        let former_versions = raw.secrets.former_versions;
        if former_versions > FORMER_VERSIONS_MAX {
            return Err((None, format!("secrets.former_versions can be at most {FORMER_VERSIONS_MAX}")));
        }
        for (key, number) in [("events", raw.usage.events), ("changes", raw.usage.changes)] {
            if number > EVENTS_MAX {
                return Err((None, format!("usage.{key} has to be between 0 and {EVENTS_MAX}")));
            }
        }
        if let Some(name) = raw.env.allow.iter().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
            return Err((None, format!("env.allow names `{name}`, which is no name of an environment variable")));
        }
        let api_group = clients::api_group(&raw.api).map_err(|message| (None, message))?;
        let clients = clients::rules(&raw.client).map_err(|message| (None, message))?;
        let vars = raw.vars.into_iter().map(|(name, value)| (name, json(value))).collect();
        let allowed = raw.env.allow.into_iter().filter_map(|name| env(&name).map(|value| (name, value))).collect();
        Ok(Self {
            vars: serde_json::Value::Object(vars),
            env: allowed,
            limits,
            former_versions,
            usage: raw.usage,
            metrics: raw.metrics,
            max_head_age: max_head_age(&raw.account).map_err(|message| (None, message))?,
            api_group,
            clients,
        })
    }
}

/// Nothing where it is 0. Devices make a new head when half of it has passed, which has to be worth it.
fn max_head_age(raw: &RawAccount) -> Result<Option<Duration>, String> {
    match raw.max_head_age_seconds {
        0 => Ok(None),
        1..60 => Err("account.max_head_age_seconds has to be 0, or 60 or more".into()),
        seconds => Ok(Some(Duration::from_secs(seconds))),
    }
}

fn limits(raw: &RawLimits) -> Result<Limits, String> {
    let within = |name: &str, number: u64, most: u64| {
        let fits = (1..=most).contains(&number);
        fits.then_some(number).ok_or_else(|| format!("limits.{name} has to be between 1 and {most}"))
    };
    within("connections", raw.connections as u64, 65_536)?;
    if !(IN_FLIGHT_MIB_MIN..=IN_FLIGHT_MIB_MAX).contains(&raw.in_flight_mib) {
        return Err(format!("limits.in_flight_mib has to be between {IN_FLIGHT_MIB_MIN} and {IN_FLIGHT_MIB_MAX}"));
    }
    Ok(Limits {
        connections: raw.connections,
        idle: Duration::from_secs(within("idle_seconds", raw.idle_seconds, 86_400)?),
        transfer: Duration::from_secs(within("transfer_seconds", raw.transfer_seconds, 3_600)?),
        in_flight: usize::try_from(raw.in_flight_mib << 20).unwrap_or(usize::MAX),
    })
}

/// A TOML value as templates see it: a date is its text.
fn json(value: toml::Value) -> serde_json::Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(yes) => yes.into(),
        toml::Value::Datetime(when) => when.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(json).collect(),
        toml::Value::Table(table) => {
            serde_json::Value::Object(table.into_iter().map(|(name, value)| (name, json(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_templates_have_what_they_need() {
        let config = Config::parse(DEFAULT, |_| None).unwrap();
        assert!(config.vars["mcp_url"].is_string());
        assert!(config.env.is_empty());
    }

    #[test]
    fn only_allowed_variables_are_seen() {
        let text = "[env]\nallow = [\"REGION\", \"UNSET\"]\n[vars]\nwhen = 2026-01-02\n";
        let lookup = |name: &str| matches!(name, "REGION" | "HOME").then(|| name.to_lowercase());
        let config = Config::parse(text, lookup).unwrap();
        assert_eq!(config.env.into_iter().collect::<Vec<_>>(), [("REGION".into(), "region".into())]);
        assert_eq!(config.vars["when"], "2026-01-02");
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        let (line, message) = Config::parse("[vars]\na = 1\n[limts]\n", |_| None).unwrap_err();
        assert_eq!(line, Some(3));
        assert!(message.contains("limts"), "{message}");
        assert!(Config::parse("[limits]\nconnections = 0\n", |_| None).is_err());
        let (_, message) = Config::parse("[limits]\nin_flight_mib = 127\n", |_| None).unwrap_err();
        assert!(message.contains("limits.in_flight_mib has to be between 128"), "{message}");
        assert!(Config::parse("[secrets]\nformer_versions = 101\n", |_| None).is_err());
        for key in ["events", "changes"] {
            let (_, message) = Config::parse(&format!("[usage]\n{key} = 1000001\n"), |_| None).unwrap_err();
            assert!(message.contains(&format!("usage.{key}")), "{message}");
            Config::parse(&format!("[usage]\n{key} = 1000000\n"), |_| None).unwrap();
        }
        let usage = Config::parse("[usage]\nevents = 0\n", |_| None).unwrap().usage;
        assert_eq!((usage.events, usage.changes), (0, EVENTS));
        assert!(Config::parse("[metrics]\nsecrets = true\n", |_| None).is_err());
        let (_, message) = Config::parse("[account]\nmax_head_age_seconds = 5\n", |_| None).unwrap_err();
        assert!(message.contains("max_head_age"), "{message}");
    }
}
