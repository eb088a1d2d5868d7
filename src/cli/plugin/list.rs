//! `plugin list` and `plugin show`: which there are.

use clap::Args;
use serde_json::Value;

use super::super::client;
use super::super::{Done, Failure, output};
use crate::home::Home;

#[derive(Args)]
pub struct List {
    /// Print what the API says.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Show {
    /// The feature.
    feature: String,
    /// Print the JSON Schema of its configs.
    #[arg(long, conflicts_with = "json")]
    schema: bool,
    /// Print what the API says.
    #[arg(long)]
    json: bool,
}

/// The names in a list, for a line.
pub fn names(list: &Value, field: Option<&str>) -> String {
    let name = |item: &Value| output::text(field.map_or(item, |field| &item[field]));
    list.as_array().into_iter().flatten().map(name).collect::<Vec<_>>().join(", ")
}

/// Prints what is known of a plugin, by way of `line`.
pub fn print(plugin: &Value, line: impl Fn(&str)) {
    line(&format!("{} {}", output::text(&plugin["title"]), output::text(&plugin["version"])));
    line(&format!("Feature        {}", output::text(&plugin["feature"])));
    line(&format!("Source         {}", output::text(&plugin["source"])));
    line(&format!("Targets        {}", names(&plugin["targets"], Some("id"))));
    line(&format!("Secret fields  {}", names(&plugin["secret_fields"], None)));
    line(&format!("SHA-256        {}", output::text(&plugin["digest"])));
    if let Some(problem) = plugin["problem"].as_str() {
        line(&format!("Refused        {problem}"));
    }
}

impl List {
    pub fn run(self, home: &Home) -> Done {
        let plugins = client::all(home, "/v1/plugins", "")?;
        if self.json {
            output::json(&plugins);
            return Ok(());
        }
        let row = |plugin: &Value| {
            vec![
                output::text(&plugin["feature"]),
                output::text(&plugin["version"]),
                output::text(&plugin["source"]),
                output::text(&plugin["status"]),
                names(&plugin["targets"], Some("id")),
            ]
        };
        let rows = plugins["items"].as_array().into_iter().flatten().map(row).collect();
        output::table(&["Feature", "Version", "Source", "Status", "Targets"], rows);
        Ok(())
    }
}

impl Show {
    pub fn run(self, home: &Home) -> Done {
        let plugins = client::all(home, "/v1/plugins", "")?;
        let plugin =
            plugins["items"].as_array().into_iter().flatten().find(|plugin| plugin["feature"] == *self.feature);
        let Some(plugin) = plugin else {
            let known = names(&plugins["items"], Some("feature"));
            return Err(Failure::new(format!("there is no plugin for `{}`; there are {known}", self.feature)));
        };
        match (self.schema, self.json) {
            (true, _) => output::json(&plugin["schema"]),
            (_, true) => output::json(plugin),
            _ => print(plugin, output::line),
        }
        Ok(())
    }
}
