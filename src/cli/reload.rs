//! The `reload` command: makes the daemon read its configuration again.

use clap::Args;
use hyper::Method;
use serde_json::Value;

use super::{Done, client, output};
use guillemet_base::home::Home;
use guillemet_daemon::config::located;
use guillemet_template::Problem;

#[derive(Args)]
pub struct Reload {
    /// Print the API's JSON response.
    #[arg(long)]
    json: bool,
}

impl Reload {
    pub fn run(self, home: &Home) -> Done {
        let reloaded = client::json(home, Method::POST, "/v1/reload", None)?;
        if self.json {
            output::json(&reloaded);
            return Ok(());
        }
        match list(&reloaded["changed"]) {
            changed if changed.is_empty() => output::note("reloaded; nothing changed"),
            changed => output::note(&format!("reloaded; changed: {changed}")),
        }
        let restart = list(&reloaded["needs_restart"]);
        if !restart.is_empty() {
            output::note(&format!("warning: {restart} only takes effect when you restart the daemon"));
        }
        let warnings: Vec<Problem> = serde_json::from_value(reloaded["warnings"].clone()).unwrap_or_default();
        for warning in warnings {
            let file = reloaded["file"].as_str().unwrap_or_default();
            output::note(&format!("warning: {}", located(file.as_ref(), &warning)));
        }
        Ok(())
    }
}

fn list(items: &Value) -> String {
    let items: Vec<String> = items.as_array().into_iter().flatten().map(output::text).collect();
    items.join(", ")
}
