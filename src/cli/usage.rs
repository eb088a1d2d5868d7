//! The `usage` command: shows the audit trail.

use clap::Args;
use hyper::Method;
use serde_json::Value;

use super::client::{self, part};
use super::{Done, output};
use guillemet_base::home::Home;

#[derive(Args)]
pub struct Usage {
    /// Show only this secret, including under its former names.
    #[arg(long, value_name = "NAME")]
    secret: Option<String>,
    /// Show only events since this time, such as 2026-01-31T09:30:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Show only this class: answer, refusal or change.
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// Show only this outcome: answered, revalidated, missing, disabled, unfit or forbidden; or a change such as
    /// secret_deleted. See docs/usage.md for the full list.
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<String>,
    /// Show the newest N events.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Print the API's JSON response.
    #[arg(long)]
    json: bool,
}

impl Usage {
    pub fn run(self, home: &Home) -> Done {
        let mut path = format!("/v1/usage?limit={}", self.limit);
        let filters =
            [("secret", &self.secret), ("since", &self.since), ("class", &self.class), ("outcome", &self.outcome)];
        for (name, value) in filters {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", part(value)));
            }
        }
        let events = client::json(home, Method::GET, &path, None)?;
        if self.json {
            output::json(&events);
            return Ok(());
        }
        let items = events["items"].as_array().map_or(&[][..], Vec::as_slice);
        let header =
            ["Time", "Outcome", "Subject", "Template", "Field", "Target", "uid", "pid", "Executable", "Details"];
        output::table(&header, items.iter().map(row).collect());
        let count = events["count"].as_u64().unwrap_or(0);
        if count > items.len() as u64 {
            output::note(&format!(
                "showing the newest {} of {count}; use --limit, --since, --secret, --class and --outcome to see others",
                items.len()
            ));
        }
        Ok(())
    }
}

fn row(event: &Value) -> Vec<String> {
    // Events from earlier versions name a deleted secret only by its id.
    let of = ["secret", "subject", "secret_id"].into_iter().map(|field| &event[field]).find(|of| !of.is_null());
    let caller = &event["caller"];
    let mut cells = [
        &event["time"],
        &event["outcome"],
        of.unwrap_or(&Value::Null),
        &event["template"],
        &event["field"],
        &event["target"],
        &caller["uid"],
        &caller["pid"],
        &caller["exe"],
    ]
    .map(output::text)
    .to_vec();
    cells.push(details(event));
    cells
}

/// Returns the other facts of an event: why it failed, the state before and after, and how else the caller asked.
fn details(event: &Value) -> String {
    let text = |field: &str| event[field].as_str();
    let mut details = Vec::new();
    details.extend(text("error").map(|error| format!("failed: {error}")));
    match (text("before"), text("after")) {
        (Some(before), Some(after)) => details.push(format!("{before} -> {after}")),
        (Some(one), None) | (None, Some(one)) => details.push(one.to_owned()),
        (None, None) => {}
    }
    details.extend(event["uses"].as_u64().filter(|uses| *uses > 1).map(|uses| format!("{uses} uses")));
    details.extend(text("route").map(str::to_owned));
    details.extend(text("session").map(|session| format!("console session {session}")));
    details.extend(event["device"]["name"].as_str().map(|device| format!("by device {device}")));
    if details.is_empty() { "-".into() } else { details.join(", ") }
}
