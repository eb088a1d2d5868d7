//! `guillemet.toml`: read, checked as a whole, and passed on as one value.
//!
//! Knows nothing of the code that uses it, and does not look up users or groups.

mod change;
mod clients;
mod plugins;
mod read;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use toml::de::DeTable;

pub use self::change::{changed_keys, keys_for_restart};
pub use self::clients::{CallerMatch, ClientRule, NameOrNumber, TemplatePattern};
pub use self::plugins::ListedPlugin;
use self::read::{ConfigReader, Entries};
use guillemet_base::files::{self, Fingerprint, Links};
use guillemet_base::home::Home;
use guillemet_base::problem::Problem;
use guillemet_plugin::location::Location;
use guillemet_plugin::plans::Variables;
use guillemet_vault::usage::{EVENTS, EVENTS_MAX};

/// The least memory that answers and request bodies can have, in MiB. The largest document (`resolve::fill::FILLED_MAX`
/// and the text of a plan) has to fit into the share of a user other than the daemon's, which is three eighths.
const IN_FLIGHT_MIB_MIN: u64 = 128;
/// The most memory that can be set, in MiB.
const IN_FLIGHT_MIB_MAX: u64 = 1 << 20;

/// The configuration that a new home starts with.
pub const DEFAULT: &str = include_str!("config/default.toml");

/// The largest configuration file, in bytes.
const FILE_MAX: u64 = 1 << 20;
/// The most former versions that can be kept. The bound exists because a record is read and written as a whole.
const FORMER_VERSIONS_MAX: u64 = 100;
/// The number of former versions that are kept by default.
const FORMER_VERSIONS: u64 = 10;

/// The configuration after all checks.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The variables that templates can read, from `[vars]` and `[env]`.
    pub variables: Variables,
    /// The limits for callers of the daemon.
    pub limits: CallerLimits,
    /// The number of former versions that are kept of a secret.
    pub former_versions: usize,
    /// The group that can connect to the socket in addition to its owner; `None` for no group.
    pub api_group: Option<NameOrNumber>,
    /// The rules for other callers, in the order of the file.
    pub clients: Vec<ClientRule>,
    /// The bounds of the audit trail.
    pub usage: AuditBounds,
    /// The settings of `/metrics`.
    pub metrics: MetricsSettings,
    /// The oldest that the account's newest head can be for this device to serve; `None` for no limit.
    pub max_head_age: Option<Duration>,
    /// The plugins that this home is meant to have, ordered by feature. The daemon only compares them with what is in
    /// force.
    pub plugins: Vec<ListedPlugin>,
    /// The index that `plugin outdated` compares with.
    pub plugin_index: Option<Location>,
}

/// The bounds of the audit trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditBounds {
    /// The most answers, and the most refusals, in the audit trail.
    pub events: usize,
    /// The most changes in the audit trail.
    pub changes: usize,
}

/// The settings of `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricsSettings {
    /// Whether there are numbers for each secret, with its name as a label.
    pub secret_names: bool,
}

/// The limits for callers of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallerLimits {
    /// The most connections that are open at the same time.
    pub connections: usize,
    /// The longest silence of a connection, and the time limit for the head of a request.
    pub idle: Duration,
    /// The time limit for the body of a request to arrive, and for an answer to be read.
    pub transfer: Duration,
    /// The memory for answers and request bodies, in bytes.
    pub in_flight: usize,
}

/// A place in the configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigPlace {
    /// The line, counted from 1.
    pub line: u32,
    /// The column in characters, counted from 1.
    pub column: u32,
}

/// The SHA-256 of a configuration file. Displayed in hexadecimal digits.
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
    /// The fingerprint of the file from before it was read; `None` for a text that is not from a file.
    pub fingerprint: Option<Fingerprint>,
}

impl From<&str> for ConfigText {
    fn from(text: &str) -> Self {
        Self { bytes: text.into(), fingerprint: None }
    }
}

impl ConfigText {
    /// Reads the file. Follows links.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`] if it cannot be read, is not a regular file, or is too large.
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

/// The reasons why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {source}. Run `guillemet init`, or fix the file's permissions")]
    Unreadable {
        /// The path of the file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The file has invalid content.
    #[error("{}", lines(path, problems))]
    Invalid {
        /// The path of the file.
        path: PathBuf,
        /// All problems, ordered by line. They never contain a value of the file.
        problems: Vec<Problem>,
    },
}

impl ConfigError {
    /// Returns all problems. A file that cannot be read is one problem without a line.
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
    let lines: Vec<String> = problems.iter().map(|problem| problem.located(path)).collect();
    lines.join("\n")
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
    /// Reads and checks the file. `env` looks up an environment variable.
    ///
    /// # Errors
    /// [`ConfigError`] with all problems.
    pub fn load(path: &Path, env: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        Self::of(path, &ConfigText::read(path)?, env)
    }

    /// Checks the content of the file. `env` looks up an environment variable.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with all problems.
    pub fn of(path: &Path, text: &ConfigText, env: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        Self::parse(text, env).map_err(|problems| ConfigError::Invalid { path: path.to_owned(), problems })
    }

    fn parse(text: &ConfigText, env: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<Problem>> {
        let text = match std::str::from_utf8(&text.bytes) {
            Ok(text) => text,
            Err(error) => {
                let valid = String::from_utf8_lossy(&text.bytes[..error.valid_up_to()]);
                let mut reader = ConfigReader::new(&valid);
                reader.add_problem(String::new(), error.valid_up_to(), "the file must be UTF-8");
                return Err(reader.problems());
            }
        };
        let mut reader = ConfigReader::new(text);
        let (root, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            // The parser only guesses the rest of a file that it cannot parse.
            reader.add_syntax_errors(&errors);
            return Err(reader.problems());
        }
        let mut root = Entries::new("", root.get_ref());
        let config = Self::read(&mut reader, &mut root, env);
        reader.reject_unknown(root);
        let problems = reader.problems();
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }

    /// Reads all tables, and notes every problem.
    fn read<'a>(reader: &mut ConfigReader<'a>, root: &mut Entries<'a>, env: impl Fn(&str) -> Option<String>) -> Self {
        let vars = reader.table(root, "vars");
        let vars = reader.rest_as_json(vars);
        let env = read_environment(reader, root, env);
        let limits = limits(reader, root);
        let mut secrets = reader.table(root, "secrets");
        let former_versions = reader.number(&mut secrets, "former_versions", 0..=FORMER_VERSIONS_MAX, FORMER_VERSIONS);
        reader.reject_unknown(secrets);
        let mut usage = reader.table(root, "usage");
        let mut bound = |key| as_size(reader.number(&mut usage, key, 0..=EVENTS_MAX as u64, EVENTS as u64));
        let bounds = AuditBounds { events: bound("events"), changes: bound("changes") };
        reader.reject_unknown(usage);
        let mut metrics = reader.table(root, "metrics");
        let secret_names = reader.flag(&mut metrics, "secret_names");
        reader.reject_unknown(metrics);
        Self {
            variables: Variables { vars, env },
            limits,
            former_versions: as_size(former_versions),
            api_group: clients::api_group(reader, root),
            clients: clients::rules(reader, root),
            usage: bounds,
            metrics: MetricsSettings { secret_names },
            max_head_age: max_head_age(reader, root),
            plugins: plugins::listed(reader, root),
            plugin_index: plugins::index(reader, root),
        }
    }
}

fn as_size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Reads `[env]`: the allowed variables that are set.
fn read_environment<'a>(
    reader: &mut ConfigReader<'a>,
    root: &mut Entries<'a>,
    env: impl Fn(&str) -> Option<String>,
) -> BTreeMap<String, String> {
    let mut entries = reader.table(root, "env");
    let mut allowed = BTreeMap::new();
    for (name, offset) in reader.texts(&mut entries, "allow") {
        if name.is_empty() || name.contains(['=', '\0']) {
            let message = "contains an entry that is not a valid environment variable name";
            reader.add_problem(entries.path_of("allow"), offset, message);
        } else if let Some(value) = env(name) {
            allowed.insert(name.to_owned(), value);
        }
    }
    reader.reject_unknown(entries);
    allowed
}

/// Reads `[account]`. Returns `None` if the value is 0. The minimum exists because devices make a new head when half of
/// this time has passed.
fn max_head_age<'a>(reader: &mut ConfigReader<'a>, root: &mut Entries<'a>) -> Option<Duration> {
    let mut account = reader.table(root, "account");
    let path = account.path_of("max_head_age_seconds");
    let seconds = account.take("max_head_age_seconds").and_then(|value| {
        let seconds = u64::try_from(reader.integer(&path, value)?).ok().filter(|seconds| !(1..60).contains(seconds));
        if seconds.is_none() {
            reader.add_problem(path.clone(), value.span().start, "must be 0, or 60 or more");
        }
        seconds
    });
    let seconds = seconds.unwrap_or(0);
    reader.reject_unknown(account);
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// Reads `[limits]`, with the default for each missing key.
fn limits<'a>(reader: &mut ConfigReader<'a>, root: &mut Entries<'a>) -> CallerLimits {
    let mut entries = reader.table(root, "limits");
    let mut number = |key, range, default| reader.number(&mut entries, key, range, default);
    let limits = CallerLimits {
        connections: as_size(number("connections", 1..=65_536, 256)),
        idle: Duration::from_secs(number("idle_seconds", 1..=86_400, 60)),
        transfer: Duration::from_secs(number("transfer_seconds", 1..=3_600, 10)),
        in_flight: as_size(number("in_flight_mib", IN_FLIGHT_MIB_MIN..=IN_FLIGHT_MIB_MAX, 256) << 20),
    };
    reader.reject_unknown(entries);
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, Vec<String>> {
        parse_with(text, |_| None)
    }

    fn parse_with(text: &str, env: impl Fn(&str) -> Option<String>) -> Result<Config, Vec<String>> {
        Config::parse(&ConfigText::from(text), env)
            .map_err(|problems| problems.iter().map(Problem::to_string).collect())
    }

    #[test]
    fn the_default_is_valid_and_templates_have_what_they_need() {
        let config = parse(DEFAULT).unwrap();
        assert!(config.variables.vars["mcp_url"].is_string());
        assert!(config.variables.env.is_empty());
        // The values in the default file are the defaults without a file.
        let variables = Variables { vars: serde_json::json!({}), ..Variables::default() };
        assert_eq!(Config { variables, ..config }, parse("").unwrap());
    }

    #[test]
    fn only_allowed_variables_are_seen() {
        let text = "[env]\nallow = [\"REGION\", \"UNSET\"]\n[vars]\nwhen = 2026-01-02\nd.e = [1, -0x0, 1.5, true]\n";
        let lookup = |name: &str| matches!(name, "REGION" | "HOME").then(|| name.to_lowercase());
        let config = parse_with(text, lookup);
        assert!(config.is_err(), "a sign before a hexadecimal number is no TOML");
        let config = parse_with(&text.replace("-0x0", "0xff"), lookup).unwrap();
        assert_eq!(config.variables.env.into_iter().collect::<Vec<_>>(), [("REGION".into(), "region".into())]);
        assert_eq!(config.variables.vars, serde_json::json!({"when": "2026-01-02", "d": {"e": [1, 255, 1.5, true]}}));
    }

    #[test]
    fn every_mistake_is_named_with_its_place() {
        let text = "[vars]\na = 1\nb = 9223372036854775808\n[limts]\n[limits]\nconnections = 0\nin_flight_mib = 127\n\
                    idle_seconds = 'x'\n[secrets]\nformer_versions = 101\n[usage]\nevents = 1000001\nchanges = 1000001\n\
                    [metrics]\nsecrets = true\n[account]\nmax_head_age_seconds = 5\n[env]\nallow = ['', 3, 'A=b']\n";
        let problems = parse(text).unwrap_err();
        let begins = [
            "3:5: `vars` does not fit",
            "4:2: `limts` is not a known key; use one of: vars, env, limits, secrets, usage, metrics, api, client, \
             account, plugins, plugin_index",
            "6:15: `limits.connections` must be between 1 and 65536",
            "7:17: `limits.in_flight_mib` must be between 128 and",
            "8:16: `limits.idle_seconds` must be a whole number, not a string",
            "10:19: `secrets.former_versions` must be between 0 and 100",
            "12:10: `usage.events` must be between 0 and 1000000",
            "13:11: `usage.changes` must be between 0 and 1000000",
            "15:1: `metrics.secrets` is not a known key; use one of: secret_names",
            "17:24: `account.max_head_age_seconds` must be 0, or 60 or more",
            "19:10: `env.allow` contains an entry that is not",
            "19:14: `env.allow[2]` must be a string",
            "19:17: `env.allow` contains an entry that is not",
        ];
        assert_eq!(problems.len(), begins.len(), "{problems:#?}");
        for (problem, begin) in problems.iter().zip(begins) {
            assert!(problem.starts_with(begin), "{begin}: {problem}");
        }
        let usage = parse("[usage]\nevents = 0\n").unwrap().usage;
        assert_eq!((usage.events, usage.changes), (0, EVENTS));
        // Text that is not TOML at all, and bytes that are not text.
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
            "plugins = 'canary-value'",
            "[plugins]\na = 'canary-value'",
            "[plugins.'canary-value =']\nurl = 'canary-value'\nsha256 = 'canary-value'",
            "[plugins.a]\nfile = ['canary-value']\nsha256 = 'canary-value'\n'canary-value =' = 1",
            "[plugin_index]\nurl = 'canary-value'",
        ] {
            let error = Config::of(Path::new("guillemet.toml"), &ConfigText::from(text), |_| None).unwrap_err();
            let message = format!("{error} {error:?}");
            assert!(!message.contains(CANARY) && message.contains("guillemet.toml:"), "{text}: {message}");
        }
    }
}
