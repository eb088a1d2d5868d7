//! The `status` command: shows the state of the daemon.

use clap::Args;
use hyper::Method;

use super::{Done, client, output};
use guillemet_api::status::{DaemonStatus, MemoryView};
use guillemet_base::home::Home;

#[derive(Args)]
pub struct StatusArgs {
    /// Print the API's JSON response.
    #[arg(long)]
    json: bool,
}

fn memory(memory: MemoryView) -> String {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    format!("{:.1} MiB of its own, {:.1} MiB of files", mib(memory.own_bytes), mib(memory.file_bytes))
}

impl StatusArgs {
    pub fn run(self, home: &Home) -> Done {
        let response = client::fetch(home, Method::GET, "/v1/status")?;
        if self.json {
            output::json(&response.json()?);
            return Ok(());
        }
        let status: DaemonStatus = response.read()?;
        let (secrets, templates, vault) = (status.secrets, status.templates, &status.vault);
        let configuration = &status.configuration;
        let loaded = if configuration.valid {
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
        for (name, value) in [
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
            ("memory", status.memory.map_or_else(|| "unknown".to_owned(), memory)),
            ("configuration", loaded),
        ] {
            output::line(&format!("{name:<13} {value}"));
        }
        if !status.warnings.is_empty() {
            output::line(&format!("{:<13} {}", "warnings", status.warnings.join("; ")));
        }
        Ok(())
    }
}
