//! The `status` command: shows the state of the daemon.

use clap::Args;
use hyper::Method;

use super::{Done, client, output};
use guillemet_api::status::DaemonStatus;
use guillemet_base::home::Home;

#[derive(Args)]
pub struct Status {
    /// Print the API's JSON response.
    #[arg(long)]
    json: bool,
}

impl Status {
    pub fn run(self, home: &Home) -> Done {
        let answer = client::fetch(home, Method::GET, "/v1/status")?;
        if self.json {
            output::json(&answer.json()?);
            return Ok(());
        }
        let status: DaemonStatus = answer.read()?;
        let (secrets, templates, vault) = (status.secrets, status.templates, &status.vault);
        let configuration = &status.configuration;
        let in_force = if configuration.valid {
            format!("loaded {}", configuration.loaded_at)
        } else {
            format!(
                "has {} (see the warnings); the one loaded {} is in effect",
                match configuration.problems.len() {
                    1 => "an error".to_owned(),
                    number => format!("{number} errors"),
                },
                configuration.loaded_at
            )
        };
        for (name, shown) in [
            ("version", status.version.to_string()),
            ("pid", status.pid.to_string()),
            ("started at", status.started_at.clone()),
            ("home", status.home.clone()),
            (
                "secrets",
                format!("{} active, {} disabled, {} missing", secrets.active, secrets.disabled, secrets.missing),
            ),
            ("templates", format!("{} ok, {} broken, {} strays", templates.ok, templates.broken, templates.strays)),
            ("plugins", status.plugins.to_string()),
            ("vault", format!("format {}, unlocked by {}", vault.format, vault.unlock)),
            ("configuration", in_force),
        ] {
            output::line(&format!("{name:<13} {shown}"));
        }
        if !status.warnings.is_empty() {
            output::line(&format!("{:<13} {}", "warnings", status.warnings.join("; ")));
        }
        Ok(())
    }
}
