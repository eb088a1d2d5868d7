//! `plugin …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use super::client::{self, part};
use super::{Done, Failure, output, prompt};
use crate::home::Home;

#[derive(Subcommand)]
pub enum Plugin {
    /// The plugins and their targets.
    List(List),
    /// One plugin.
    Show(Show),
    /// Add a plugin. Whoever wrote it decides where the secrets of its templates go.
    Add(Add),
    /// Let an added plugin go.
    Remove(Remove),
}

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

#[derive(Args)]
pub struct Add {
    /// A component.
    file: PathBuf,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

#[derive(Args)]
pub struct Remove {
    /// The feature.
    feature: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

impl Plugin {
    pub fn run(self, home: &Home) -> Done {
        match self {
            Self::List(command) => command.run(home),
            Self::Show(command) => command.run(home),
            Self::Add(command) => command.run(home),
            Self::Remove(command) => command.run(home),
        }
    }
}

fn names(list: &Value, field: Option<&str>) -> String {
    let name = |item: &Value| output::text(field.map_or(item, |field| &item[field]));
    list.as_array().into_iter().flatten().map(name).collect::<Vec<_>>().join(", ")
}

fn print(plugin: &Value, line: impl Fn(&str)) {
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
    fn run(self, home: &Home) -> Done {
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
    fn run(self, home: &Home) -> Done {
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

impl Add {
    fn run(self, home: &Home) -> Done {
        let file = std::path::absolute(&self.file)?;
        let ask = |confirm: bool, digest: &Value| json!({"file": file, "confirm": confirm, "digest": digest});
        let plugin = client::json(home, Method::POST, "/v1/plugins", Some(&ask(false, &Value::Null)))?;
        print(&plugin, output::note);
        output::note("Adding it trusts its author with the secrets of its templates: it decides where they go.");
        let feature = output::text(&plugin["feature"]);
        let known = client::all(home, "/v1/plugins", "")?;
        let replaces = known["items"].as_array().into_iter().flatten().any(|known| known["feature"] == *feature);
        let question = if replaces {
            format!("Use it for `{feature}`, in place of the plugin that is there?")
        } else {
            format!("Add it for `{feature}`?")
        };
        prompt::confirm(&question, self.yes)?;
        client::json(home, Method::POST, "/v1/plugins", Some(&ask(true, &plugin["digest"])))?;
        output::note(&format!("added {feature}"));
        Ok(())
    }
}

impl Remove {
    fn run(self, home: &Home) -> Done {
        prompt::confirm(&format!("Remove the plugin of `{}`?", self.feature), self.yes)?;
        client::call(home, Method::DELETE, &format!("/v1/plugins/{}", part(&self.feature)), None)?.good(home)?;
        output::note(&format!("removed {}", self.feature));
        Ok(())
    }
}
