//! The `status` command: shows the state of the daemon.

use clap::Args;
use hyper::Method;
use serde_json::Value;

use super::{Done, client, output};
use guillemet_base::home::Home;

#[derive(Args)]
pub struct Status {
    /// Print the API's JSON response.
    #[arg(long)]
    json: bool,
}

impl Status {
    pub fn run(self, home: &Home) -> Done {
        let status = client::json(home, Method::GET, "/v1/status", None)?;
        if self.json {
            output::json(&status);
            return Ok(());
        }
        for (name, value) in status.as_object().into_iter().flatten() {
            let shown = match value {
                Value::Object(fields) => {
                    let field = |(name, value): (&String, &Value)| format!("{} {name}", output::text(value));
                    match name.as_str() {
                        "vault" => {
                            format!("format {}, unlocked by {}", value["format"], output::text(&value["unlock"]))
                        }
                        "configuration" if value["valid"] == true => {
                            format!("loaded {}", output::text(&value["loaded_at"]))
                        }
                        "configuration" => format!(
                            "has {} (see the warnings); the one loaded {} is in effect",
                            match value["problems"].as_array().map_or(0, Vec::len) {
                                1 => "a mistake".to_owned(),
                                number => format!("{number} errors"),
                            },
                            output::text(&value["loaded_at"])
                        ),
                        _ => fields.iter().map(field).collect::<Vec<_>>().join(", "),
                    }
                }
                Value::Array(items) if items.is_empty() => continue,
                Value::Array(items) => items.iter().map(output::text).collect::<Vec<_>>().join("; "),
                other => output::text(other),
            };
            output::line(&format!("{:<13} {shown}", name.replace('_', " ")));
        }
        Ok(())
    }
}
