//! The `secret` commands.

mod change;
mod last_use;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use hyper::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::client::{self, part};
use super::{Done, output, prompt};
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
pub enum Secret {
    /// Create a secret. Prompts for the value, or reads it from a file or standard input.
    Add(Add),
    /// List secrets: Name, Status, Usage count, Last used.
    List(List),
    /// Show one secret in detail.
    Show(Named),
    /// Rename a secret, or replace its value. Prompts for the value; leave it blank to keep it.
    Edit(change::Edit),
    /// Replace the value of a secret. Shows who uses it first.
    Rotate(change::Rotate),
    /// Restore the value of a former version. Shows who uses the secret first.
    Rollback(change::Rollback),
    /// Print the value of a secret. Recorded like every use.
    Reveal(change::Reveal),
    /// Enable a disabled secret.
    Enable(Name),
    /// Disable a secret. Takes effect immediately.
    Disable(Name),
    /// Delete a secret, unless a template references it.
    Delete(Delete),
}

#[derive(Args)]
#[command(after_help = prompt::VALUES)]
pub struct Add {
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
pub struct List {
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
pub struct Named {
    /// The secret.
    name: String,
    /// Print the API's JSON response.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Name {
    /// The secret.
    name: String,
}

#[derive(Args)]
pub struct Delete {
    /// The secret.
    name: String,
    /// Do not ask for confirmation.
    #[arg(long)]
    yes: bool,
}

impl Secret {
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
    format!("/v1/secrets/{}", part(name))
}

/// Returns the place of a reference as text: template, line, column, field and device.
fn place(reference: &Value) -> String {
    let part = |field: &str| output::text(&reference[field]);
    let field = reference["field"].as_str().map_or_else(String::new, |field| format!(" {field}"));
    let device = reference["device"].as_str().map_or_else(String::new, |device| format!(" on {device}"));
    format!("{}:{}:{}{field}{device}", part("template"), part("line"), part("column"))
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

impl Add {
    fn run(self, home: &Home) -> Done {
        warn_of_generic_name(&self.name);
        let value = prompt::value(&self.name, &self.value)?;
        let body = json!({"name": self.name, "value": *value, "enabled": !self.disabled});
        let secret = client::json(home, Method::POST, "/v1/secrets", Some(&body))?;
        output::note(&format!("created {} ({})", output::text(&secret["name"]), output::text(&secret["status"])));
        Ok(())
    }
}

impl List {
    fn run(self, home: &Home) -> Done {
        let mut query = String::new();
        for (name, value) in [("status", &self.status), ("query", &self.query)] {
            if let Some(value) = value {
                query.push_str(&format!("&{name}={}", part(value)));
            }
        }
        if self.json {
            let secrets: client::Listing<Box<RawValue>> = client::listing(home, "/v1/secrets", &query)?;
            output::json_lines(&secrets.items);
            return Ok(());
        }
        let secrets: client::Listing<Row> = client::listing(home, "/v1/secrets", &query)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let row = |secret: Row| {
            let last_used = secret.last_used(now);
            vec![secret.name, secret.status, secret.usage_count.to_string(), last_used]
        };
        let rows = secrets.items.into_iter().map(row).collect();
        output::table(&["Name", "Status", "Usage count", "Last used"], rows);
        Ok(())
    }
}

/// The fields of a secret that the listing shows.
#[derive(Deserialize)]
struct Row {
    name: String,
    status: String,
    usage_count: u64,
    last_used_at: Option<String>,
    last_used_on: Option<String>,
    usage_complete: Option<bool>,
}

impl Row {
    /// Returns the text of the column "Last used". `now` is in seconds since the epoch.
    fn last_used(&self, now: u64) -> String {
        match (&self.last_used_at, &self.last_used_on) {
            (Some(at), Some(device)) => format!("{} on {device}", output::ago(Some(at), now)),
            (Some(at), None) => output::ago(Some(at), now),
            // A device that has not reported may have used the secret.
            (None, _) if self.usage_complete == Some(false) => "none reported".into(),
            (None, _) => "never".into(),
        }
    }
}

impl Named {
    fn run(self, home: &Home) -> Done {
        let secret = client::json(home, Method::GET, &path(&self.name), None)?;
        if self.json {
            output::json(&secret);
            return Ok(());
        }
        for (title, field) in [
            ("Name", "name"),
            ("Status", "status"),
            ("Version", "version"),
            ("Usage count", "usage_count"),
            ("Uses", "resolution_count"),
            ("Last used", "last_used_at"),
            ("Created", "created_at"),
            ("Updated", "updated_at"),
            ("Id", "id"),
        ] {
            let text = match (field, &secret[field]) {
                ("last_used_at", _) => last_use::short(&secret),
                (_, value) => output::text(value),
            };
            output::line(&format!("{title:<12} {text}"));
        }
        let list = |field: &Value| field.as_array().cloned().unwrap_or_default();
        let former: Vec<String> = list(&secret["former_names"]).iter().map(output::text).collect();
        if !former.is_empty() {
            output::line(&format!("{:<12} {}", "Former names", former.join(", ")));
        }
        let references = list(&secret["references"]);
        output::line("\nReferences");
        if references.is_empty() {
            output::line("  No active references yet");
        }
        for reference in references {
            output::line(&format!("  {}", place(&reference)));
        }
        for (title, rows, fields) in [
            ("Versions", list(&secret["versions"]), &["version", "created_at", "current"][..]),
            (
                "Uses by place",
                list(&secret["usage"]["by_template"]),
                &["count", "template", "field", "target", "last_used_at"],
            ),
            ("Uses by caller", list(&secret["usage"]["by_caller"]), &["count", "uid", "exe", "last_used_at"]),
            (
                "Uses on other devices",
                list(&secret["usage"]["by_device"]),
                &["count", "device", "last_used_at", "told_at"],
            ),
            ("Uses by day", list(&secret["usage"]["by_day"]), &["day", "count"]),
            (
                "Refusals",
                list(&secret["usage"]["refusals"]),
                &["count", "outcome", "template", "field", "target", "uid", "exe", "last_at"],
            ),
        ] {
            if rows.is_empty() {
                continue;
            }
            output::line(&format!("\n{title}"));
            for row in rows {
                let cells: Vec<String> = fields
                    .iter()
                    .map(|field| match (*field, &row[*field]) {
                        ("template", Value::Null) => "by name".into(),
                        ("current", Value::Bool(current)) => {
                            if *current {
                                "current".into()
                            } else {
                                String::new()
                            }
                        }
                        (_, value) => output::text(value),
                    })
                    .collect();
                output::line(format!("  {}", cells.join("  ")).trim_end());
            }
        }
        Ok(())
    }
}

impl Delete {
    fn run(self, home: &Home) -> Done {
        let known = change::show(home, &self.name)?;
        let name = known.name();
        known.tell_last_use();
        let mut last_use = known.last_use();
        prompt::confirm(&format!("Delete {name} and all its versions?"), self.yes)?;
        // A use that happened while the question was open is reported and asked about, because the person who said yes
        // did not know of it.
        loop {
            let now = if self.yes { break } else { change::show(home, &name)? };
            if now.last_use() == last_use {
                break;
            }
            last_use = now.last_use();
            output::note(&format!("{name} was used in the meantime"));
            now.tell_last_use();
            prompt::confirm(&format!("Delete {name} anyway?"), false)?;
        }
        loop {
            let answer = client::call_if(home, Method::DELETE, &path(&name), known.etag(), None)?;
            match wait_for(&answer.json()) {
                // The deletion is blocked only by files that disappeared just now and may come back.
                Some(wait) if answer.status == 409 => std::thread::sleep(wait),
                _ => {
                    answer.good(home)?;
                    output::note(&format!("deleted {name}"));
                    return Ok(());
                }
            }
        }
    }
}

/// Returns how long to wait before a request is repeated, at most about 5 seconds, if waiting can resolve every entry
/// of the error. Returns `None` otherwise.
pub fn wait_for(error: &Value) -> Option<Duration> {
    let waits: Option<Vec<u64>> =
        error["errors"].as_array()?.iter().map(|entry| entry["retry_after_ms"].as_u64()).collect();
    waits?.into_iter().max().map(|wait| Duration::from_millis(wait.min(5_000) + 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_only_where_waiting_is_enough() {
        let vanished = json!({"errors": [{"retry_after_ms": 1500}, {"retry_after_ms": 20}]});
        assert_eq!(wait_for(&vanished), Some(Duration::from_millis(1510)));
        assert_eq!(wait_for(&json!({"errors": [{"retry_after_ms": 1500}, {"reason": "referenced"}]})), None);
        assert_eq!(wait_for(&json!({"errors": []})), None);
        assert_eq!(wait_for(&json!({})), None);
    }
}
