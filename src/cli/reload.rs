//! The `reload` command: makes the daemon read its configuration again.

use clap::Args;
use hyper::Method;

use super::{Done, client, output};
use guillemet_api::configuration::Reloaded;
use guillemet_base::home::Home;

#[derive(Args)]
pub struct ReloadArgs {
    /// Print the API's JSON response.
    #[arg(long)]
    json: bool,
}

impl ReloadArgs {
    pub fn run(self, home: &Home) -> Done {
        let response = client::fetch(home, Method::POST, "/v1/reload")?;
        if self.json {
            output::json(&response.json()?);
            return Ok(());
        }
        let reloaded: Reloaded = response.read()?;
        match reloaded.changed.join(", ") {
            changed if changed.is_empty() => output::note("reloaded; nothing changed"),
            changed => output::note(&format!("reloaded; changed: {changed}")),
        }
        let restart = reloaded.needs_restart.join(", ");
        if !restart.is_empty() {
            output::note(&format!("warning: {restart} takes effect only after a restart of the daemon"));
        }
        for warning in &reloaded.warnings {
            output::note(&format!("warning: {}", warning.located(reloaded.file.as_ref())));
        }
        Ok(())
    }
}
