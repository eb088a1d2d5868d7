//! `usage`.

use clap::Args;
use hyper::Method;
use serde_json::Value;

use super::client::{self, part};
use super::{Done, output};
use crate::home::Home;

#[derive(Args)]
pub struct Usage {
    /// Only of this secret, whatever it was called then.
    #[arg(long, value_name = "NAME")]
    secret: Option<String>,
    /// Only from this time on, such as 2026-01-31T09:30:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only with this outcome: answered, revalidated, missing, disabled, unfit or forbidden.
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<String>,
    /// The newest so many.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Print what the API says.
    #[arg(long)]
    json: bool,
}

impl Usage {
    pub fn run(self, home: &Home) -> Done {
        let mut path = format!("/v1/usage?limit={}", self.limit);
        for (name, value) in [("secret", &self.secret), ("since", &self.since), ("outcome", &self.outcome)] {
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
        let header = ["Time", "Outcome", "Secret", "Template", "Field", "Target", "uid", "pid", "Executable"];
        output::table(&header, items.iter().map(row).collect());
        let count = events["count"].as_u64().unwrap_or(0);
        if count > items.len() as u64 {
            output::note(&format!(
                "the newest {} of {count}; --limit, --since, --secret and --outcome show others",
                items.len()
            ));
        }
        Ok(())
    }
}

fn row(event: &Value) -> Vec<String> {
    // One that was deleted has no name any more, and what it was is known by its id.
    let secret = if event["secret"].is_null() { &event["secret_id"] } else { &event["secret"] };
    let caller = &event["caller"];
    let cells = [
        &event["time"],
        &event["outcome"],
        secret,
        &event["template"],
        &event["field"],
        &event["target"],
        &caller["uid"],
        &caller["pid"],
        &caller["exe"],
    ];
    cells.map(output::text).to_vec()
}
