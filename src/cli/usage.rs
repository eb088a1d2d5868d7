//! The `usage` command: shows the audit trail.

use clap::Args;
use hyper::Method;

use super::client::percent_encode;
use super::{Done, client, output};
use guillemet_api::Listing;
use guillemet_api::usage::EventView;
use guillemet_base::home::Home;

#[derive(Args)]
pub struct UsageArgs {
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

impl UsageArgs {
    pub fn run(self, home: &Home) -> Done {
        let mut path = format!("/v1/usage?limit={}", self.limit);
        let filters =
            [("secret", &self.secret), ("since", &self.since), ("class", &self.class), ("outcome", &self.outcome)];
        for (name, value) in filters {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", percent_encode(value)));
            }
        }
        let response = client::fetch(home, Method::GET, &path)?;
        if self.json {
            output::json(&response.json()?);
            return Ok(());
        }
        let Listing { count, items } = response.read()?;
        let header =
            ["Time", "Outcome", "Subject", "Template", "Field", "Target", "uid", "pid", "Executable", "Details"];
        output::table(&header, items.iter().map(row).collect());
        if count > items.len() {
            output::note(&format!(
                "showing the newest {} of {count}; use --limit, --since, --secret, --class and --outcome to see others",
                items.len()
            ));
        }
        Ok(())
    }
}

fn row(event: &EventView) -> Vec<String> {
    let caller = event.caller.as_ref();
    vec![
        event.time.clone(),
        event.outcome.to_string(),
        // Events from earlier versions name a deleted secret only by its id.
        output::or_dash(event.secret.as_ref().or(event.subject.as_ref()).or(event.secret_id.as_ref())),
        output::or_dash(event.template.as_ref()),
        output::or_dash(event.field.as_ref()),
        output::or_dash(event.target.as_ref()),
        output::or_dash(caller.map(|caller| caller.uid)),
        output::or_dash(caller.map(|caller| caller.pid)),
        output::or_dash(caller.map(|caller| &caller.exe)),
        details(event),
    ]
}

/// Returns the other facts of an event: why it failed, the state before and after, and how else the caller asked.
fn details(event: &EventView) -> String {
    let mut details = Vec::new();
    details.extend(event.error.as_ref().map(|error| format!("failed: {error}")));
    match (&event.before, &event.after) {
        (Some(before), Some(after)) => details.push(format!("{before} -> {after}")),
        (Some(value), None) | (None, Some(value)) => details.push(value.clone()),
        (None, None) => {}
    }
    details.extend((event.uses > 1).then(|| format!("{} uses", event.uses)));
    details.extend(event.route.clone());
    details.extend(event.session.as_ref().map(|session| format!("console session {session}")));
    details.extend(event.device.as_ref().map(|device| format!("by device {}", device.name)));
    if details.is_empty() { "-".into() } else { details.join(", ") }
}
