//! `guillemet.toml`: read, checked as a whole, and passed on as one value.
//!
//! Knows nothing of what uses it, and asks nobody which users there are.

mod change;
mod clients;
mod read;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use toml::de::DeTable;

pub use self::change::{changed_keys, keys_for_restart};
pub use self::clients::{NameOrNumber, Rule, TemplatePattern, Who};
use self::read::{Entries, Reader};
use crate::files::{self, Fingerprint, Links};
use crate::home::Home;
use crate::template::Problem;
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
const FORMER_VERSIONS_MAX: u64 = 100;
/// How many are kept where the file does not say.
const FORMER_VERSIONS: u64 = 10;

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
    pub api_group: Option<NameOrNumber>,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// How many answers, and how many refusals, the audit trail holds at most.
    pub events: usize,
    /// How many changes it holds at most.
    pub changes: usize,
}

/// What `/metrics` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// A place in the file: line and column, both from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

/// The SHA-256 of a configuration file; shown in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigDigest(pub [u8; 32]);

impl fmt::Display for ConfigDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// The bytes of a configuration file, as they were read.
pub struct ConfigText {
    bytes: Vec<u8>,
    /// How the file looked before it was read; `None` for a text of no file.
    pub fingerprint: Option<Fingerprint>,
}

impl From<&str> for ConfigText {
    fn from(text: &str) -> Self {
        Self { bytes: text.into(), fingerprint: None }
    }
}

impl ConfigText {
    /// Reads the file, links followed.
    ///
    /// # Errors
    /// `ConfigError::Unreadable`.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let read = files::read_regular(path, Links::Follow, FILE_MAX);
        let (bytes, metadata) = read.map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Ok(Self { bytes, fingerprint: Some(Fingerprint::from_metadata(&metadata)) })
    }

    /// Returns the SHA-256 of the bytes.
    pub fn digest(&self) -> ConfigDigest {
        ConfigDigest(Sha256::digest(&self.bytes).into())
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {source}. Run `guillemet init`, or correct the file's permissions")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file says something it cannot say.
    #[error("{}", lines(path, problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong, in the order of the lines. Never a value of the file.
        problems: Vec<Problem>,
    },
}

impl ConfigError {
    /// Returns everything that is wrong.
    pub fn into_problems(self) -> Vec<Problem> {
        match self {
            Self::Invalid { problems, .. } => problems,
            unreadable @ Self::Unreadable { .. } => {
                vec![Problem { message: unreadable.to_string(), ..Problem::default() }]
            }
        }
    }
}

fn lines(path: &Path, problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(|problem| located(path, problem)).collect();
    lines.join("\n")
}

/// Returns a problem of a configuration file in one line, which begins with the file and its line where it has one.
pub fn located(path: &Path, problem: &Problem) -> String {
    if problem.line.is_some() { format!("{}:{}", path.display(), told(problem)) } else { told(problem) }
}

/// Returns a problem in one line, which begins with its place.
fn told(problem: &Problem) -> String {
    let mut text = String::new();
    for number in [problem.line, problem.column].into_iter().flatten() {
        text.push_str(&format!("{number}:"));
    }
    if !text.is_empty() {
        text.push(' ');
    }
    if !problem.path.is_empty() {
        text.push_str(&format!("`{}` ", problem.path));
    }
    text + &problem.message
}

/// Returns a variable of this process's environment.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Reads and checks the configuration of a home, as the daemon does at its start.
///
/// # Errors
/// `ConfigError`, with everything that is wrong.
pub fn load(home: &Home) -> Result<(Config, ConfigText), ConfigError> {
    let file = home.config_file();
    let text = ConfigText::read(&file)?;
    Ok((Config::of(&file, &text, environment)?, text))
}

impl Config {
    /// Reads and checks the file. `env` looks a variable of the environment up.
    ///
    /// # Errors
    /// `ConfigError`, with everything that is wrong.
    pub fn load(path: &Path, env: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        Self::of(path, &ConfigText::read(path)?, env)
    }

    /// Checks what was read of the file.
    ///
    /// # Errors
    /// As `load`.
    pub fn of(path: &Path, text: &ConfigText, env: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        Self::parse(text, env).map_err(|problems| ConfigError::Invalid { path: path.to_owned(), problems })
    }

    fn parse(text: &ConfigText, env: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<Problem>> {
        let text = match std::str::from_utf8(&text.bytes) {
            Ok(text) => text,
            Err(error) => {
                let valid = String::from_utf8_lossy(&text.bytes[..error.valid_up_to()]);
                let mut reader = Reader::new(&valid);
                reader.wrong(String::new(), error.valid_up_to(), "the file must be UTF-8");
                return Err(reader.problems());
            }
        };
        let mut reader = Reader::new(text);
        let (root, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            // What the parser made of the rest is a guess.
            reader.unparsable(&errors);
            return Err(reader.problems());
        }
        let mut root = Entries::new("", root.get_ref());
        let config = Self::read(&mut reader, &mut root, env);
        reader.end(root);
        let problems = reader.problems();
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }

    /// Reads every table; what is wrong is noted.
    fn read<'a>(reader: &mut Reader<'a>, root: &mut Entries<'a>, env: impl Fn(&str) -> Option<String>) -> Self {
        let vars = reader.table(root, "vars");
        let vars = reader.rest(vars);
        let env = allowed(reader, root, env);
        let limits = limits(reader, root);
        let mut secrets = reader.table(root, "secrets");
        let former_versions = reader.number(&mut secrets, "former_versions", 0..=FORMER_VERSIONS_MAX, FORMER_VERSIONS);
        reader.end(secrets);
        let mut usage = reader.table(root, "usage");
        let mut bound = |key| as_size(reader.number(&mut usage, key, 0..=EVENTS_MAX as u64, EVENTS as u64));
        let bounds = Usage { events: bound("events"), changes: bound("changes") };
        reader.end(usage);
        let mut metrics = reader.table(root, "metrics");
        let secret_names = reader.flag(&mut metrics, "secret_names");
        reader.end(metrics);
        Self {
            vars,
            env,
            limits,
            former_versions: as_size(former_versions),
            api_group: clients::api_group(reader, root),
            clients: clients::rules(reader, root),
            usage: bounds,
            metrics: Metrics { secret_names },
            max_head_age: max_head_age(reader, root),
        }
    }
}

fn as_size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// `[env]`: the allowed variables that are set.
fn allowed<'a>(
    reader: &mut Reader<'a>,
    root: &mut Entries<'a>,
    env: impl Fn(&str) -> Option<String>,
) -> BTreeMap<String, String> {
    let mut entries = reader.table(root, "env");
    let mut allowed = BTreeMap::new();
    for (name, offset) in reader.texts(&mut entries, "allow") {
        if name.is_empty() || name.contains(['=', '\0']) {
            let message = "has an entry that cannot name an environment variable";
            reader.wrong(entries.path_of("allow"), offset, message);
        } else if let Some(value) = env(name) {
            allowed.insert(name.to_owned(), value);
        }
    }
    reader.end(entries);
    allowed
}

/// `[account]`: nothing where it is 0. Devices make a new head when half of it has passed, which has to be worth it.
fn max_head_age<'a>(reader: &mut Reader<'a>, root: &mut Entries<'a>) -> Option<Duration> {
    let mut account = reader.table(root, "account");
    let path = account.path_of("max_head_age_seconds");
    let seconds = account.take("max_head_age_seconds").and_then(|value| {
        let seconds = u64::try_from(reader.integer(&path, value)?).ok().filter(|seconds| !(1..60).contains(seconds));
        if seconds.is_none() {
            reader.wrong(path.clone(), value.span().start, "must be 0, or 60 or more");
        }
        seconds
    });
    let seconds = seconds.unwrap_or(0);
    reader.end(account);
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// `[limits]`.
fn limits<'a>(reader: &mut Reader<'a>, root: &mut Entries<'a>) -> Limits {
    let mut entries = reader.table(root, "limits");
    let mut number = |key, range, otherwise| reader.number(&mut entries, key, range, otherwise);
    let limits = Limits {
        connections: as_size(number("connections", 1..=65_536, 256)),
        idle: Duration::from_secs(number("idle_seconds", 1..=86_400, 60)),
        transfer: Duration::from_secs(number("transfer_seconds", 1..=3_600, 10)),
        in_flight: as_size(number("in_flight_mib", IN_FLIGHT_MIB_MIN..=IN_FLIGHT_MIB_MAX, 256) << 20),
    };
    reader.end(entries);
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, Vec<String>> {
        parse_with(text, |_| None)
    }

    fn parse_with(text: &str, env: impl Fn(&str) -> Option<String>) -> Result<Config, Vec<String>> {
        Config::parse(&ConfigText::from(text), env).map_err(|problems| problems.iter().map(told).collect())
    }

    #[test]
    fn the_default_is_valid_and_templates_have_what_they_need() {
        let config = parse(DEFAULT).unwrap();
        assert!(config.vars["mcp_url"].is_string());
        assert!(config.env.is_empty());
        // What is written out there is what holds without it.
        assert_eq!(Config { vars: serde_json::json!({}), ..config }, parse("").unwrap());
    }

    #[test]
    fn only_allowed_variables_are_seen() {
        let text = "[env]\nallow = [\"REGION\", \"UNSET\"]\n[vars]\nwhen = 2026-01-02\nd.e = [1, -0x0, 1.5, true]\n";
        let lookup = |name: &str| matches!(name, "REGION" | "HOME").then(|| name.to_lowercase());
        let config = parse_with(text, lookup);
        assert!(config.is_err(), "a sign before a hexadecimal number is no TOML");
        let config = parse_with(&text.replace("-0x0", "0xff"), lookup).unwrap();
        assert_eq!(config.env.into_iter().collect::<Vec<_>>(), [("REGION".into(), "region".into())]);
        assert_eq!(config.vars, serde_json::json!({"when": "2026-01-02", "d": {"e": [1, 255, 1.5, true]}}));
    }

    #[test]
    fn every_mistake_is_named_with_its_place() {
        let text = "[vars]\na = 1\nb = 9223372036854775808\n[limts]\n[limits]\nconnections = 0\nin_flight_mib = 127\n\
                    idle_seconds = 'x'\n[secrets]\nformer_versions = 101\n[usage]\nevents = 1000001\nchanges = 1000001\n\
                    [metrics]\nsecrets = true\n[account]\nmax_head_age_seconds = 5\n[env]\nallow = ['', 3, 'A=b']\n";
        let problems = parse(text).unwrap_err();
        let begins = [
            "3:5: `vars` is too large",
            "4:2: `limts` is not a key here; the keys are vars, env, limits, secrets, usage, metrics, api, client, account",
            "6:15: `limits.connections` must be between 1 and 65536",
            "7:17: `limits.in_flight_mib` must be between 128 and",
            "8:16: `limits.idle_seconds` must be a whole number, not a string",
            "10:19: `secrets.former_versions` must be between 0 and 100",
            "12:10: `usage.events` must be between 0 and 1000000",
            "13:11: `usage.changes` must be between 0 and 1000000",
            "15:1: `metrics.secrets` is not a key here; the keys are secret_names",
            "17:24: `account.max_head_age_seconds` must be 0, or 60 or more",
            "19:10: `env.allow` has an entry that cannot name",
            "19:14: `env.allow[2]` must be a string",
            "19:17: `env.allow` has an entry that cannot name",
        ];
        assert_eq!(problems.len(), begins.len(), "{problems:#?}");
        for (problem, begin) in problems.iter().zip(begins) {
            assert!(problem.starts_with(begin), "{begin}: {problem}");
        }
        let usage = parse("[usage]\nevents = 0\n").unwrap().usage;
        assert_eq!((usage.events, usage.changes), (0, EVENTS));
        // What is not TOML at all, and what is not text.
        let problems = parse("[vars]\na = 'x\nb =\n").unwrap_err();
        assert!(problems.len() > 1 && problems[0].starts_with("2:"), "{problems:?}");
        let bytes = ConfigText { bytes: b"a = 1\n# \xff\n".into(), fingerprint: None };
        assert_eq!(Config::parse(&bytes, |_| None).unwrap_err()[0].line, Some(2));
    }

    #[test]
    fn no_problem_quotes_a_value_of_the_file() {
        const CANARY: &str = "canary-value";
        for text in [
            "[vars]\nx = canary-value",
            "[vars]\nx = 'canary-value",
            "[vars]\nx = \"canary-value\\q\"",
            "[vars]\nx = 1 canary-value",
            "canary-value",
            "[canary-value",
            "[vars]\na = 1\na = 'canary-value'",
            "[limits]\nconnections = 'canary-value'",
            "[env]\nallow = ['canary-value=1']",
            "[env]\nallow = 'canary-value'",
            "[api]\ngroup = ['canary-value']",
            "[[client]]\nuid = 'a'\nsecrets = ['canary-value/+']\ntemplates = ['canary-value']",
            "[[client]]\nuid = 'a'\nadmin = 'canary-value'",
            "client = 'canary-value'",
            "[[client]]\nuid = 'a'\nadmin = true\n'canary-value =' = 1",
        ] {
            let error = Config::of(Path::new("guillemet.toml"), &ConfigText::from(text), |_| None).unwrap_err();
            let said = format!("{error} {error:?}");
            assert!(!said.contains(CANARY) && said.contains("guillemet.toml:"), "{text}: {said}");
        }
    }
}
