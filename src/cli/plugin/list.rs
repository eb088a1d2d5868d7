//! `plugin list` and `plugin show`: show the plugins that the daemon has.

use clap::Args;
use serde_json::Value;

use super::super::{Done, Failure, client, output};
use guillemet_base::home::Home;

#[derive(Args)]
pub struct List {
    /// Print the API's JSON response.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Show {
    /// The feature.
    feature: String,
    /// Print the JSON Schema of the feature's configs.
    #[arg(long, conflicts_with = "json")]
    schema: bool,
    /// Print the API's JSON response.
    #[arg(long)]
    json: bool,
}

/// Joins the names in a list with commas. `field` is the field of each item that holds its name; `None` if the items
/// are names.
pub fn names(list: &Value, field: Option<&str>) -> String {
    let name = |item: &Value| output::text(field.map_or(item, |field| &item[field]));
    list.as_array().into_iter().flatten().map(name).collect::<Vec<_>>().join(", ")
}

/// Finds the plugin of a feature in a listing.
///
/// # Errors
/// When there is no plugin for it. The message names the features that have one.
pub fn find<'a>(plugins: &'a Value, feature: &str) -> Result<&'a Value, Failure> {
    let found = plugins["items"].as_array().into_iter().flatten().find(|plugin| plugin["feature"] == *feature);
    found.ok_or_else(|| {
        let known = names(&plugins["items"], Some("feature"));
        Failure::new(format!("there is no plugin for `{feature}`; features with a plugin: {known}"))
    })
}

/// Prints the facts of a plugin, through `line`.
pub fn print(plugin: &Value, line: impl Fn(&str)) {
    // A refused plugin was never asked for its title.
    if plugin["title"] != "" {
        line(&format!("{} {}", output::text(&plugin["title"]), output::text(&plugin["version"])));
    }
    line(&format!("Feature        {}", output::text(&plugin["feature"])));
    line(&format!("Source         {}", source(plugin)));
    let target = |target: &Value| format!("{} ({})", output::text(&target["id"]), output::text(&target["title"]));
    let targets: Vec<String> = plugin["targets"].as_array().into_iter().flatten().map(target).collect();
    if !targets.is_empty() {
        line(&format!("Targets        {}", targets.join(", ")));
        line(&format!("Secret fields  {}", names(&plugin["secret_fields"], None)));
    }
    line(&format!("SHA-256        {}", output::text(&plugin["digest"])));
    if let Some(problem) = plugin["problem"].as_str() {
        line(&format!("Refused        {problem}"));
    }
}

/// Returns where a plugin comes from, as text.
fn source(plugin: &Value) -> String {
    let source = output::text(&plugin["source"]);
    let replaces = plugin["replaces"]["source"] == "built-in" && source == "added";
    if replaces { format!("{source}, replaces the built-in one") } else { source }
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
                source(plugin),
                output::text(&plugin["status"]),
                names(&plugin["targets"], Some("id")),
            ]
        };
        let rows = plugins["items"].as_array().into_iter().flatten().map(row).collect();
        output::table(&["Feature", "Version", "Source", "Status", "Targets"], rows);
        for plugin in plugins["items"].as_array().into_iter().flatten() {
            if let Some(problem) = plugin["problem"].as_str() {
                output::note(&format!("{} is refused: {problem}", output::text(&plugin["feature"])));
            }
        }
        Ok(())
    }
}

impl Show {
    pub fn run(self, home: &Home) -> Done {
        let plugins = client::all(home, "/v1/plugins", "")?;
        let plugin = find(&plugins, &self.feature)?;
        match (self.schema, self.json) {
            (true, _) => output::json(&plugin["schema"]),
            (_, true) => output::json(plugin),
            _ => print(plugin, output::line),
        }
        Ok(())
    }
}
