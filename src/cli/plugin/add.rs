//! `plugin add` and `plugin remove`: decide which plugin gets the templates of a feature, and so who is trusted with
//! their secrets.

use std::path::PathBuf;

use clap::Args;
use hyper::Method;

use super::super::client::percent_encode;
use super::super::{Done, Failure, client, output, prompt};
use super::candidate::{Candidate, parse_digest, templates};
use super::change::Consent;
use super::download::{self, DownloadTime};
use super::list::{find, print};
use guillemet_api::Listing;
use guillemet_api::plugins::{PluginSource, PluginView};
use guillemet_base::home::Home;
use guillemet_plugin::location::Location;

#[derive(Args)]
pub struct PluginAddArgs {
    /// The component, as a file or at an https URL.
    #[arg(value_name = "FILE|URL")]
    file: PathBuf,
    /// The digest that the component must have. Required with a URL.
    #[arg(long, value_name = "HEX", value_parser = parse_digest)]
    sha256: Option<String>,
    /// Replace the built-in plugin of this feature.
    #[arg(long, value_name = "FEATURE")]
    replace: Option<String>,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    time: DownloadTime,
}

#[derive(Args)]
pub struct PluginRemoveArgs {
    /// The feature.
    feature: String,
    /// Do not ask for confirmation.
    #[arg(long)]
    yes: bool,
}

impl PluginAddArgs {
    pub fn run(self, home: &Home) -> Done {
        let location = download::location(&self.file)?;
        if matches!(location, Location::Url(_)) && self.sha256.is_none() {
            return Err(Failure::new(
                "a URL needs the digest of what it must lead to: pass --sha256 HEX, which the author of the plugin \
                 tells you in another way",
            ));
        }
        let candidate = Candidate::get(&location, self.sha256.as_deref(), &self.time)?;
        let plugin = candidate.inspect(home)?;
        candidate.show(home, &plugin)?;
        self.check_named(&plugin)?;
        candidate.put(home, &plugin, self.replace.as_deref(), &self.consent)
    }

    /// Checks that a built-in plugin is replaced only by its name. The daemon checks it too.
    fn check_named(&self, plugin: &PluginView) -> Result<(), Failure> {
        let is_built_in = plugin.replaces.as_ref().is_some_and(|replaced| replaced.source == PluginSource::BuiltIn);
        let feature = &plugin.feature;
        match &self.replace {
            None if is_built_in => Err(Failure::new(format!(
                "the plugin of `{feature}` is built in; nothing was changed. To replace it, pass --replace {feature}"
            ))),
            Some(named) if named != feature => {
                Err(Failure::new(format!("this is a plugin for `{feature}`, not for `{named}`; nothing was changed")))
            }
            _ => Ok(()),
        }
    }
}

impl PluginRemoveArgs {
    pub fn run(self, home: &Home) -> Done {
        let plugins: Listing<PluginView> = client::listing(home, "/v1/plugins", "")?;
        let plugin = find(&plugins.items, &self.feature)?;
        if plugin.source == PluginSource::BuiltIn && plugin.former.is_none() {
            return Err(Failure::new(format!(
                "the plugin of `{}` is built in and cannot be removed, but you can add another one to replace it",
                self.feature
            )));
        }
        if plugin.source == PluginSource::StandIn {
            return Err(Failure::new(format!(
                "a component under development stands in for the plugin of `{}`; stop `guillemet plugin dev --stand-in` first",
                self.feature
            )));
        }
        print(plugin, output::note);
        let templates = templates(home, &self.feature)?;
        if plugin.source == PluginSource::BuiltIn {
            output::note("The built-in plugin is in use; the former plugin that is kept is removed.");
        } else if plugin.replaces.is_some() {
            output::note("The built-in plugin is used again.");
        } else if !templates.is_empty() {
            output::note(&format!("Without it, these templates cannot be rendered: {}.", templates.join(", ")));
        }
        prompt::confirm(&format!("Remove the plugin of `{}`?", self.feature), self.yes)?;
        client::fetch(home, Method::DELETE, &format!("/v1/plugins/{}", percent_encode(&self.feature)))?;
        output::note(&format!("removed {}", self.feature));
        Ok(())
    }
}
