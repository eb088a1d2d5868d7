//! The `secret` commands.

mod change;
mod last_use;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::value::RawValue;

use super::client::percent_encode;
use super::{Done, client, output, prompt};
use guillemet_api::Listing;
use guillemet_api::error::ErrorBody;
use guillemet_api::secrets::{ChangedSecret, CreateSecret, ReferenceView, SecretDetail, SecretView};
use guillemet_base::home::Home;

/// Names that do not say whose secret it is.
const GENERIC: [&str; 14] = [
    "api-key",
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "pass",
    "password",
    "pwd",
    "secret",
    "test",
    "token",
    "user",
    "value",
];

#[derive(Subcommand)]
pub enum SecretCommand {
    /// Create a secret. Prompts for the value, or reads it from a file or standard input.
    Add(SecretAddArgs),
    /// List secrets: Name, Status, Usage count, Last used.
    List(SecretListArgs),
    /// Show one secret in detail.
    Show(SecretShowArgs),
    /// Rename a secret, or replace its value. Prompts for the value; leave it blank to keep it.
    Edit(change::SecretEditArgs),
    /// Replace the value of a secret. Shows who uses it first.
    Rotate(change::SecretRotateArgs),
    /// Restore the value of a former version. Shows who uses the secret first.
    Rollback(change::SecretRollbackArgs),
    /// Print the value of a secret. Recorded like every use.
    Reveal(change::SecretRevealArgs),
    /// Enable a disabled secret.
    Enable(SecretNameArgs),
    /// Disable a secret. Takes effect immediately.
    Disable(SecretNameArgs),
    /// Delete a secret, unless a template references it.
    Delete(SecretDeleteArgs),
}

#[derive(Args)]
#[command(after_help = prompt::VALUES)]
pub struct SecretAddArgs {
    /// 1 to 128 letters, digits, `.`, `_`, `-`.
    name: String,
    /// Create the secret disabled; it cannot be used until you enable it.
    #[arg(long)]
    disabled: bool,
    #[command(flatten)]
    value: prompt::ValueFrom,
}

/// Explains two columns of the inventory.
const COLUMNS: &str = "\
Usage count is the number of references: places in templates that name the secret, on every device in the account. Last
used is the last time any of them got its value. `guillemet secret show NAME` lists references and uses.";

#[derive(Args)]
#[command(after_help = COLUMNS)]
pub struct SecretListArgs {
    /// Show only secrets with this status.
    #[arg(long, value_parser = ["active", "disabled", "missing"])]
    status: Option<String>,
    /// Show only secrets whose name contains this text.
    #[arg(long)]
    query: Option<String>,
    /// Print the API's JSON response.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct SecretShowArgs {
    /// The secret.
    name: String,
    /// Print the API's JSON response.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct SecretNameArgs {
    /// The secret.
    name: String,
}

#[derive(Args)]
pub struct SecretDeleteArgs {
    /// The secret.
    name: String,
    /// Do not ask for confirmation.
    #[arg(long)]
    yes: bool,
}

impl SecretCommand {
    pub fn run(self, home: &Home) -> Done {
        match self {
            Self::Add(command) => command.run(home),
            Self::List(command) => command.run(home),
            Self::Show(command) => command.run(home),
            Self::Edit(command) => command.run(home),
            Self::Rotate(command) => command.run(home),
            Self::Rollback(command) => command.run(home),
            Self::Reveal(command) => change::reveal(home, &command),
            Self::Enable(command) => change::enable(home, &command.name, true),
            Self::Disable(command) => change::enable(home, &command.name, false),
            Self::Delete(command) => command.run(home),
        }
    }
}

fn path(name: &str) -> String {
    format!("/v1/secrets/{}", percent_encode(name))
}

/// Returns the place of a reference as text: template, line, column, field and device.
fn place(reference: &ReferenceView) -> String {
    let field = reference.field.as_ref().map_or_else(String::new, |field| format!(" {field}"));
    let device = reference.device.as_ref().map_or_else(String::new, |device| format!(" on {device}"));
    let (line, column) = (output::or_dash(reference.line), output::or_dash(reference.column));
    format!("{}:{line}:{column}{field}{device}", reference.template)
}

/// Prints a warning about a name that does not say whose secret it is.
pub fn warn_of_generic_name(name: &str) {
    if GENERIC.contains(&name.to_lowercase().replace('_', "-").as_str()) {
        output::note(&format!(
            "warning: `{name}` does not say what it is for; a better name is provider-purpose-environment, such as \
             calcom-api-key-prod"
        ));
    }
}

impl SecretAddArgs {
    fn run(self, home: &Home) -> Done {
        warn_of_generic_name(&self.name);
        let value = prompt::value(&self.name, &self.value)?;
        let body = CreateSecret { name: &self.name, value: &value, enabled: !self.disabled };
        let ChangedSecret { secret, .. } = client::post(home, "/v1/secrets", &body)?;
        output::note(&format!("created {} ({})", secret.name, secret.status.name()));
        Ok(())
    }
}

impl SecretListArgs {
    fn run(self, home: &Home) -> Done {
        let mut query = String::new();
        for (name, value) in [("status", &self.status), ("query", &self.query)] {
            if let Some(value) = value {
                query.push_str(&format!("&{name}={}", percent_encode(value)));
            }
        }
        if self.json {
            let secrets: Listing<Box<RawValue>> = client::listing(home, "/v1/secrets", &query)?;
            output::json_lines(&secrets.items);
            return Ok(());
        }
        let secrets: Listing<SecretView> = client::listing(home, "/v1/secrets", &query)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let row = |secret: SecretView| {
            let last_used = last_used(&secret, now);
            vec![secret.name, secret.status.name().to_owned(), secret.usage_count.to_string(), last_used]
        };
        let rows = secrets.items.into_iter().map(row).collect();
        output::table(&["Name", "Status", "Usage count", "Last used"], rows);
        Ok(())
    }
}

/// Returns the text of the column "Last used". `now` is in seconds since the epoch.
fn last_used(secret: &SecretView, now: u64) -> String {
    match (&secret.last_used_at, &secret.last_used_on) {
        (Some(at), Some(device)) => format!("{} on {device}", output::ago(Some(at), now)),
        (Some(at), None) => output::ago(Some(at), now),
        // A device that has not reported may have used the secret.
        (None, _) if secret.usage_complete == Some(false) => "none reported".into(),
        (None, _) => "never".into(),
    }
}

impl SecretShowArgs {
    fn run(self, home: &Home) -> Done {
        let response = client::fetch(home, Method::GET, &path(&self.name))?;
        if self.json {
            output::json(&response.json()?);
            return Ok(());
        }
        let detail: SecretDetail = response.read()?;
        let secret = &detail.secret;
        for (title, text) in [
            ("Name", secret.name.clone()),
            ("Status", secret.status.name().to_owned()),
            ("Version", output::or_dash(secret.version)),
            ("Usage count", secret.usage_count.to_string()),
            ("Uses", output::or_dash(secret.resolution_count)),
            ("Last used", last_use::short(&detail)),
            ("Created", output::or_dash(secret.created_at.as_ref())),
            ("Updated", output::or_dash(secret.updated_at.as_ref())),
            ("Id", output::or_dash(secret.id.as_ref())),
        ] {
            output::line(&format!("{title:<12} {text}"));
        }
        if let Some(former) = secret.former_names.as_ref().filter(|former| !former.is_empty()) {
            output::line(&format!("{:<12} {}", "Former names", former.join(", ")));
        }
        output::line("\nReferences");
        if detail.references.is_empty() {
            output::line("  No active references yet");
        }
        for reference in &detail.references {
            output::line(&format!("  {}", place(reference)));
        }
        show_versions_and_usage(&detail);
        Ok(())
    }
}

/// Prints the versions of a secret, its uses and its refusals. What there is none of is left out.
fn show_versions_and_usage(secret: &SecretDetail) {
    let optional = |text: &Option<String>| output::or_dash(text.as_ref());
    let template = |template: &Option<String>| template.clone().unwrap_or_else(|| "by name".into());
    rows("Versions", &secret.versions, |version| {
        let current = if version.current { "current" } else { "" };
        vec![version.version.to_string(), version.created_at.clone(), current.into()]
    });
    let usage = &secret.usage;
    rows("Uses by place", &usage.by_template, |place| {
        let (field, target) = (optional(&place.field), optional(&place.target));
        vec![place.count.to_string(), template(&place.template), field, target, optional(&place.last_used_at)]
    });
    rows("Uses by caller", &usage.by_caller, |caller| {
        vec![caller.count.to_string(), caller.uid.to_string(), caller.exe.clone(), caller.last_used_at.clone()]
    });
    rows("Uses on other devices", &usage.by_device, |device| {
        let (last_used, reported) = (optional(&device.last_used_at), optional(&device.told_at));
        vec![output::or_dash(device.count), device.device.clone(), last_used, reported]
    });
    rows("Uses by day", &usage.by_day, |day| vec![day.day.clone(), day.count.to_string()]);
    rows("Refusals", &usage.refusals, |refusal| {
        vec![
            refusal.count.to_string(),
            refusal.outcome.to_string(),
            template(&refusal.template),
            optional(&refusal.field),
            optional(&refusal.target),
            refusal.uid.to_string(),
            refusal.exe.clone(),
            refusal.last_at.clone(),
        ]
    });
}

/// Prints a title and a line of cells for each item, or nothing if there are no items.
fn rows<T>(title: &str, items: &[T], cells: impl Fn(&T) -> Vec<String>) {
    if items.is_empty() {
        return;
    }
    output::line(&format!("\n{title}"));
    for item in items {
        output::line(format!("  {}", cells(item).join("  ")).trim_end());
    }
}

impl SecretDeleteArgs {
    fn run(self, home: &Home) -> Done {
        let existing = change::show(home, &self.name)?;
        let name = existing.name();
        existing.print_last_use();
        let mut last_use = existing.last_use().map(str::to_owned);
        prompt::confirm(&format!("Delete {name} and all its versions?"), self.yes)?;
        // A use that happened while the question was open is reported and asked about, because the person who said yes
        // did not know of it.
        loop {
            let now = if self.yes { break } else { change::show(home, name)? };
            if now.last_use() == last_use.as_deref() {
                break;
            }
            last_use = now.last_use().map(str::to_owned);
            output::note(&format!("{name} was used in the meantime"));
            now.print_last_use();
            prompt::confirm(&format!("Delete {name} anyway?"), false)?;
        }
        loop {
            let response = client::delete(home, &path(name), existing.etag())?;
            match response.error().as_ref().and_then(wait_for) {
                // The deletion is blocked only by files that disappeared just now and may come back.
                Some(wait) if response.status == 409 => std::thread::sleep(wait),
                _ => {
                    client::error_for_status(home, response)?;
                    output::note(&format!("deleted {name}"));
                    return Ok(());
                }
            }
        }
    }
}

/// Returns how long to wait before a request is repeated, at most about 5 seconds, if waiting can resolve every entry
/// of the error. Returns `None` otherwise.
pub fn wait_for(error: &ErrorBody) -> Option<Duration> {
    let waits: Option<Vec<u64>> = error.errors.iter().map(|entry| entry.retry_after_ms).collect();
    waits?.into_iter().max().map(|wait| Duration::from_millis(wait.min(5_000) + 10))
}

#[cfg(test)]
mod tests {
    use guillemet_api::error::ErrorEntry;

    use super::*;

    #[test]
    fn it_waits_only_where_waiting_is_enough() {
        let waits = |waits: &[Option<u64>]| {
            let entry = |wait: &Option<u64>| {
                let mut entry = ErrorEntry::of_field(None::<String>, "");
                entry.retry_after_ms = *wait;
                entry
            };
            let errors = waits.iter().map(entry).collect();
            wait_for(&ErrorBody { code: "conflict".into(), message: String::new(), detail: None, errors })
        };
        assert_eq!(waits(&[Some(1500), Some(20)]), Some(Duration::from_millis(1510)));
        assert_eq!(waits(&[Some(1500), None]), None);
        assert_eq!(waits(&[]), None);
    }
}
