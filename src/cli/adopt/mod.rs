//! The `adopt` command: turns a config with plain values into a template and secrets.
//!
//! Works everything out first and shows it: what was found, the template, and how the rendered config differs in
//! meaning from the file. This takes a planner and no value of the vault. Nothing is changed until the user says yes
//! ([`store`]).

pub(super) mod config;
pub(super) mod credentials;
mod detect;
pub(super) mod emit;
mod equivalence;
pub(super) mod file;
mod naming;
mod proposal;
mod read;
pub(super) mod sample;
pub(super) mod source;
mod store;
mod tokens;
use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use config::Reading;
use credentials::{Choices, FindingsByField};
use equivalence::Comparison;
use naming::{NameStatus, Namer};
use proposal::AdoptProposal;
use read::{action, cal_com, livekit, mcp, pjsip, url};
use source::{Problems, SourceFile};

use super::offline::compiler;
use super::{Done, Failure, client, output, prompt, secret};
use guillemet_api::Listing;
use guillemet_api::secrets::{SecretStatus, SecretView};
use guillemet_base::home::Home;
use guillemet_base::names::SecretName;
use guillemet_base::problem::Problem;
use guillemet_base::sys::memory::Clear;
use guillemet_plan::description::SecretFields;
use guillemet_plan::plan::Plan;
use guillemet_plan::preview;
use guillemet_plan::protocol::Description;
use guillemet_plugin::offline::{self, OfflineCompiler};
use guillemet_template::Format;

/// The longest name of a template, in bytes.
const NAME_MAX: usize = 100;

#[derive(Args)]
#[command(after_help = "\
Reads mcp.json files (mcp-server); pjsip.conf sections and LiveKit trunks (sip-trunk); curl commands, OpenAPI
operations and actions in the format of the json target (custom-action); dotenv files and the format of the json target
(cal-com).

The file is not changed. With --replace, «NAME» replaces each value and the rest stays byte for byte: the file no longer
contains any value, and no consumer mistakes it for a working config.")]
pub struct AdoptArgs {
    /// The config with credentials, or `-` for standard input.
    file: PathBuf,
    /// The kind of integration: cal-com, custom-action, mcp-server or sip-trunk.
    #[arg(long, value_name = "F")]
    feature: String,
    /// The name of the template, which becomes F/NAME.
    #[arg(long, value_name = "NAME", value_parser = template_name)]
    name: String,
    /// The server, if the file has several.
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// The endpoint, if pjsip.conf has several.
    #[arg(long, value_name = "NAME")]
    section: Option<String>,
    /// The operation of an OpenAPI document: its id, or 'METHOD /path'.
    #[arg(long, value_name = "ID")]
    operation: Option<String>,
    /// Use NAME for the secret in FIELD: to choose the name of a detected secret, or to add a field that was not
    /// detected. An existing secret is used if it has the same value.
    #[arg(long, value_name = "FIELD=NAME", value_parser = field_and_name)]
    secret: Vec<(String, SecretName)>,
    /// Leave this field in the clear.
    #[arg(long, value_name = "FIELD")]
    keep: Vec<String>,
    /// The format of the template [default: chosen to suit the file].
    #[arg(long, value_parser = ["toml", "json", "jsonc", "yaml"])]
    format: Option<String>,
    /// Replace the values in the file with «NAME».
    #[arg(long)]
    replace: bool,
    /// Do not ask for confirmation.
    #[arg(long)]
    yes: bool,
}

/// Checks the name of a template that does not exist yet.
pub(super) fn template_name(text: &str) -> Result<String, String> {
    let begins = text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if begins && plain && text.len() <= NAME_MAX {
        return Ok(text.to_owned());
    }
    Err(format!("use 1 to {NAME_MAX} letters, digits, `.`, `_` or `-`, beginning with a letter or a digit"))
}

fn field_and_name(text: &str) -> Result<(String, SecretName), String> {
    // The last `=` separates them, because a secret's name cannot contain `=`, but a field can.
    let (field, name) = text.rsplit_once('=').ok_or("must be FIELD=NAME, such as headers.X-Key=acme-key-prod")?;
    Ok((field.to_owned(), name.parse().map_err(|invalid: guillemet_base::names::InvalidName| invalid.to_string())?))
}

impl AdoptArgs {
    pub fn run(self, home: &Home) -> Done {
        guard()?;
        let (replace, yes) = (self.replace, self.yes);
        if replace && self.file.as_os_str() == "-" {
            return Err(Failure::new("standard input cannot be replaced; remove --replace. Nothing was changed"));
        }
        store::check_free(home, &self.feature, &self.name)?;
        if !client::daemon_serves_home(home)? {
            return Err(Failure::new(format!(
                "the daemon at {} (from GUILLEMET_SOCKET) does not use the templates in {}; unset GUILLEMET_SOCKET, or \
                 set GUILLEMET_HOME to that daemon's home. Nothing was changed",
                home.socket().display(),
                home.templates().display()
            )));
        }
        let proposal = self.propose(home)?;
        let rewritten = if replace { Some(store::rewritten(&proposal)?) } else { None };
        proposal.show();
        let secrets = proposal.findings.values().flatten().map(|finding| finding.name.key());
        let count = secrets.collect::<std::collections::BTreeSet<_>>().len();
        let question =
            format!("Create {count} secret{} and write {}", if count == 1 { "" } else { "s" }, proposal.id());
        let replacement =
            if replace { format!(", and remove the values from {}", proposal.source.label) } else { String::new() };
        let differences = match proposal.comparison.changes() {
            0 => String::new(),
            1 => ", although 1 setting differs".into(),
            changes => format!(", although {changes} settings differ"),
        };
        prompt::confirm(&format!("{question}{replacement}{differences}?"), yes)?;
        store::store(home, &proposal, rewritten)
    }

    /// Works out the proposal. Changes nothing.
    fn propose(self, home: &Home) -> Result<AdoptProposal, Failure> {
        let source = file::read(&self.file)?;
        let compiler = compiler(home)?;
        let description = compiler.describe(&self.feature).map_err(Failure::new)?;
        let fields = SecretFields::new(&description.secret_fields).map_err(|rules| Failure::new(rules.join("\n")))?;
        let choices = Choices { secrets: self.secret.clone(), keep: self.keep.clone() };
        let message = format!("{} cannot be adopted", source.label);
        let mut problems = Problems::new(&source);
        let reading = self.read(&source, &choices, &mut problems)?;
        let Some(reading) = reading else {
            problems.check(&message)?;
            return Err(Failure::new(format!("{message}; nothing was changed")));
        };
        let reserved: Vec<SecretName> = self.secret.iter().map(|(_, name)| name.clone()).collect();
        reserved.iter().for_each(|name| secret::warn_of_generic_name(name.as_str()));
        let host = reading.host.as_deref();
        let mut namer = Namer::new((&self.feature, &self.name), host, known_names(home)?, reserved);
        let findings =
            credentials::find(&reading.config, &fields, &choices, &mut namer, &reading.tokens, &mut problems);
        problems.check(&message)?;

        let format = self.format.as_deref().and_then(Format::from_extension).unwrap_or(reading.format);
        let (template, format) = emit::write(&reading.config, &findings, format);
        let plan = compiler.compile(&self.feature, format, &template, reading.target);
        let plan = plan.map_err(|errors| of_template(&source, &reading, &message, errors))?;
        let values = values(&findings);
        let rendered =
            offline::fill(&plan, &values).map_err(|errors| of_template(&source, &reading, &message, errors))?;
        let comparison = compare(&reading, &findings, &plan, &rendered)
            .map_err(|reason| Failure::new(format!("{message}: {reason}")))?;
        let mut notes = reading.notes.clone();
        notes.extend(plan.warnings.iter().map(|warning| warning_line(&warning.path, &warning.message)));
        notes.extend(other_targets(&compiler, &description, (format, &template), reading.target));
        if self.format.as_deref().is_some_and(|requested| requested != format.extension()) {
            notes.push(format!("written as {}, because TOML cannot represent everything in it", format.extension()));
        }
        let target = reading.target;
        let Self { feature, name, .. } = self;
        Ok(AdoptProposal {
            feature,
            name,
            target,
            source,
            reading,
            findings,
            template,
            format,
            rendered,
            comparison,
            notes,
        })
    }

    /// Reads the file with the reader of its feature. Returns `None` if the reader added problems and made no config.
    fn read(
        &self,
        source: &SourceFile,
        choices: &Choices,
        problems: &mut Problems<'_>,
    ) -> Result<Option<Reading>, Failure> {
        let url = match (choices.names("url"), choices.keeps("url")) {
            (Some(_), _) => url::UrlChoice::Whole,
            (None, true) => url::UrlChoice::Plain,
            (None, false) => url::UrlChoice::Any,
        };
        Ok(match self.feature.as_str() {
            "mcp-server" => mcp::read(source, self.server.as_deref(), url, problems),
            "sip-trunk" if source.text.trim_start().starts_with('{') => livekit::read(source, &self.name, problems),
            "sip-trunk" => pjsip::read(source, self.section.as_deref(), problems),
            "custom-action" => {
                let selection = action::ActionChoices { name: &self.name, operation: self.operation.as_deref(), url };
                action::read(source, &selection, problems)
            }
            "cal-com" => cal_com::read(source, problems),
            other => {
                return Err(Failure::new(format!(
                    "adopt does not read configs of `{other}`, only of cal-com, custom-action, mcp-server and \
                     sip-trunk. Write the template by hand"
                )));
            }
        })
    }
}

/// Keeps the content of a file with credentials out of core dumps and of messages about panics.
pub(super) fn guard() -> Done {
    quiet_panics();
    Ok(guillemet_base::sys::process::make_undumpable()?)
}

/// Reports a panic with its place but without its message, which could contain anything from the file.
fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        output::error(&format!("internal error at {location}"));
    }));
}

/// Returns the names that the inventory knows, by their key in lower case.
fn known_names(home: &Home) -> Result<BTreeMap<String, NameStatus>, Failure> {
    let rows: Listing<SecretView> = client::listing(home, "/v1/secrets", "")?;
    let mut names = BTreeMap::new();
    for row in rows.items {
        for former in row.former_names.unwrap_or_default() {
            names.entry(former.to_ascii_lowercase()).or_insert(NameStatus::Former);
        }
        let status = if row.status == SecretStatus::Missing { NameStatus::Missing } else { NameStatus::Secret };
        names.insert(row.name.to_ascii_lowercase(), status);
    }
    Ok(names)
}

/// Returns the values that were found, by the key of their secret's name.
fn values(findings: &FindingsByField) -> BTreeMap<String, &str> {
    findings.values().flatten().map(|finding| (finding.name.key(), finding.value.as_str())).collect()
}

/// Returns the problems of a template that is not written yet, each at the place in the file that its field came from.
fn of_template(source: &SourceFile, reading: &Reading, message: &str, errors: Vec<Problem>) -> Failure {
    let mut problems = Problems::new(source);
    let leaves = config::leaves(&reading.config);
    for problem in errors {
        let leaf = leaves.iter().find(|(path, _)| path.join(".") == problem.path);
        let at = leaf.and_then(|(_, leaf)| leaf.spot.as_ref()).map(|spot| reading.tokens.offset(spot));
        problems.add(at, &problem.path, problem.message, problem.help.as_deref());
    }
    problems.check(message).err().unwrap_or_else(|| Failure::new(format!("{message}; nothing was changed")))
}

fn compare(reading: &Reading, findings: &FindingsByField, plan: &Plan, rendered: &Clear) -> Result<Comparison, String> {
    let unreadable =
        |reason: String| format!("the consumer cannot read the rendered config: {reason}; nothing was changed");
    let text = std::str::from_utf8(rendered).map_err(|_| unreadable("it is not UTF-8".into()))?;
    let after = (reading.read)(text).map_err(unreadable)?;
    let marked = (reading.read)(&preview::document(plan)).map_err(unreadable)?;
    let values: Vec<&str> = findings.values().flatten().map(|finding| finding.value.as_str()).collect();
    equivalence::compare(&reading.facts, &after, &marked, &values)
        .map_err(|paths| format!("the rendered config would differ in {}; nothing was changed", paths.join(", ")))
}

fn warning_line(path: &str, message: &str) -> String {
    format!("warning: {path}: {message}")
}

/// Returns a note for each other target of the feature that cannot render the template.
fn other_targets(
    compiler: &OfflineCompiler,
    description: &Description,
    (format, text): (Format, &str),
    target: &str,
) -> Vec<String> {
    let mut sentences = Vec::new();
    for other in description.targets.iter().filter(|other| other.id != target) {
        let Err(problems) = compiler.compile(&description.feature, format, text, &other.id) else { continue };
        let first = problems.first().map(|problem| format!("{} {}", problem.path, problem.message)).unwrap_or_default();
        let more = match problems.len() {
            0 | 1 => String::new(),
            count => format!(" (and {} more; run `guillemet template check` to list them)", count - 1),
        };
        sentences.push(format!("the target {} cannot be rendered: {}{more}", other.id, first.trim()));
    }
    sentences
}
