//! `plugin list` and `plugin show`: show the plugins that the daemon has.

use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::{Done, Failure, client, output};
use super::listed::Listed;
use guillemet_api::Listing;
use guillemet_api::plugins::{PluginSource, PluginTarget, PluginView};
use guillemet_base::home::Home;

#[derive(Args)]
pub struct PluginListArgs {
    /// Print the API's JSON response.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct PluginShowArgs {
    /// The feature.
    feature: String,
    /// Print the JSON Schema of the feature's templates, for editors.
    #[arg(long, conflicts_with = "json")]
    schema: bool,
    /// Print the API's JSON response.
    #[arg(long)]
    json: bool,
}

/// Finds the plugin of a feature in a listing.
///
/// # Errors
/// When there is no plugin for it. The message names the features that have one.
pub fn find<'a>(plugins: &'a [PluginView], feature: &str) -> Result<&'a PluginView, Failure> {
    plugins.iter().find(|plugin| plugin.feature == feature).ok_or_else(|| {
        let features = plugins.iter().map(|plugin| plugin.feature.as_str()).collect::<Vec<_>>().join(", ");
        Failure::new(format!("there is no plugin for `{feature}`; features with a plugin: {features}"))
    })
}

/// Prints the facts of a plugin, through `line`.
pub fn print(plugin: &PluginView, line: impl Fn(&str)) {
    // A refused plugin was never asked for its title.
    if !plugin.title.is_empty() {
        line(&format!("{} {}", plugin.title, plugin.version));
    }
    line(&format!("Feature        {}", plugin.feature));
    line(&format!("Source         {}", source(plugin)));
    let targets: Vec<String> =
        plugin.targets.iter().map(|target| format!("{} ({})", target.id, target.title)).collect();
    if !targets.is_empty() {
        line(&format!("Targets        {}", targets.join(", ")));
        line(&format!("Secret fields  {}", plugin.secret_fields.join(", ")));
    }
    line(&format!("SHA-256        {}", plugin.digest));
    if let Some(problem) = &plugin.problem {
        line(&format!("Refused        {problem}"));
    }
    if let Some(former) = &plugin.former {
        let version = former.version.as_ref().map_or_else(String::new, |version| format!(" {version}"));
        line(&format!("Former         {}{version}, SHA-256 {}", former.source.name(), former.digest));
        if let Some(problem) = &former.problem {
            line(&format!("               cannot be brought back: {problem}"));
        }
    }
}

/// Returns where a plugin comes from, as text.
fn source(plugin: &PluginView) -> String {
    let source = plugin.source.name();
    if let Some(since) = &plugin.stands_in_since {
        let instead = plugin.replaces.as_ref().map(|replaced| format!(" for the {} one", replaced.source.name()));
        return format!("{source}{} since {since}", instead.unwrap_or_default());
    }
    let is_in_place = plugin.replaces.as_ref().is_some_and(|replaced| replaced.source == PluginSource::BuiltIn);
    if is_in_place && plugin.source == PluginSource::Added {
        format!("{source}, replaces the built-in one")
    } else {
        source.to_owned()
    }
}

/// Returns the schema of a feature's templates: that of its configs, and the field `targets`, which the plugin never sees.
fn template_schema(plugin: &PluginView) -> Value {
    let mut schema = plugin.schema.clone();
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        let names = |target: &PluginTarget| [std::slice::from_ref(&target.id), &target.aliases].concat();
        let field = json!({
            "type": "array",
            "items": { "enum": plugin.targets.iter().flat_map(names).collect::<Vec<_>>() },
            "minItems": 1,
            "description": "The targets that this template is for; the first is its default",
        });
        properties.insert("targets".to_owned(), field);
    }
    schema
}

impl PluginListArgs {
    pub fn run(self, home: &Home) -> Done {
        if self.json {
            let plugins: Listing<Value> = client::listing(home, "/v1/plugins", "")?;
            output::json(&serde_json::to_value(plugins)?);
            return Ok(());
        }
        let plugins: Listing<PluginView> = client::listing(home, "/v1/plugins", "")?;
        let row = |plugin: &PluginView| {
            vec![
                plugin.feature.clone(),
                plugin.version.clone(),
                source(plugin),
                plugin.status.name().to_owned(),
                plugin.targets.iter().map(|target| target.id.as_str()).collect::<Vec<_>>().join(", "),
            ]
        };
        let rows = plugins.items.iter().map(row).collect();
        output::table(&["Feature", "Version", "Source", "Status", "Targets"], rows);
        for plugin in &plugins.items {
            if let Some(problem) = &plugin.problem {
                output::note(&format!("{} is refused: {problem}", plugin.feature));
            }
            if plugin.stands_in_since.is_some() {
                let feature = &plugin.feature;
                output::note(&format!("a component under development stands in for the plugin of {feature}"));
            }
        }
        // `guillemet status` says what is wrong with a configuration that cannot be used.
        if let Ok(listed) = Listed::read(home) {
            let refused = |feature: &str| plugins.items.iter().any(|p| p.feature == feature && p.problem.is_some());
            let deviations = listed.deviations(&plugins.items);
            deviations.filter(|(plugin, _)| !refused(&plugin.feature)).for_each(|(_, words)| output::note(&words));
        }
        Ok(())
    }
}

impl PluginShowArgs {
    pub fn run(self, home: &Home) -> Done {
        let raw: Listing<Value> = client::listing(home, "/v1/plugins", "")?;
        let plugins = raw.items.iter().map(PluginView::deserialize).collect::<Result<Vec<_>, _>>()?;
        let plugin = find(&plugins, &self.feature)?;
        if self.schema {
            output::json(&template_schema(plugin));
        } else if self.json {
            let as_sent = raw.items.iter().zip(&plugins).filter(|(_, plugin)| plugin.feature == self.feature);
            as_sent.take(1).for_each(|(item, _)| output::json(item));
        } else {
            print(plugin, output::line);
        }
        Ok(())
    }
}
