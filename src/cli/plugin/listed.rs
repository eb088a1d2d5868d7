//! The plugins that `guillemet.toml` lists, beside those that are in force.
//!
//! Reads the file as it is now: a command does not wait until the daemon has loaded it.

use std::path::{Path, PathBuf};

use super::super::{Failure, client, offline};
use super::download;
use guillemet_api::plugins::{PluginSource, PluginStatus, PluginView};
use guillemet_base::home::Home;
use guillemet_plugin::location::Location;

pub use offline::ListedPlugin;

/// What the configuration of a home says about plugins.
pub struct Listed {
    /// The plugins that the home is meant to have, with absolute paths.
    pub plugins: Vec<ListedPlugin>,
    /// The index of newer ones, if there is one.
    pub index: Option<Location>,
}

impl Listed {
    /// Reads the configuration of a home.
    ///
    /// # Errors
    /// If it cannot be used, or the daemon that answers is that of another home.
    pub fn read(home: &Home) -> Result<Self, Failure> {
        if home.is_socket_chosen() && !client::daemon_serves_home(home)? {
            return Err(Failure::new(
                "the daemon at $GUILLEMET_SOCKET serves another home; pass that home with --home DIR",
            ));
        }
        let config = offline::configuration(home)?;
        let file: PathBuf = std::path::absolute(home.config_file())?;
        let folder = file.parent().unwrap_or(Path::new("/"));
        let place = |location: &Location| download::within(folder, location);
        let plugin = |plugin: ListedPlugin| ListedPlugin { location: place(&plugin.location), ..plugin };
        let index = config.plugin_index.as_ref().map(place);
        Ok(Self { plugins: config.plugins.into_iter().map(plugin).collect(), index })
    }

    /// Returns the listed plugins that are not in force, each with what differs.
    pub fn deviations<'a>(&'a self, present: &'a [PluginView]) -> impl Iterator<Item = (&'a ListedPlugin, String)> {
        self.plugins.iter().filter_map(|plugin| {
            let found = present.iter().find(|found| found.feature == plugin.feature);
            // The plugin itself cannot be changed, nor seen, while a component stands in for it.
            if found.is_some_and(|found| found.source == PluginSource::StandIn) {
                return None;
            }
            match found.filter(|found| found.status == PluginStatus::Refused && found.digest == plugin.digest) {
                Some(refused) => {
                    let problem = refused.problem.clone().unwrap_or_default();
                    Some((plugin, format!("plugin `{}`: it is refused: {problem}", plugin.feature)))
                }
                None => Some((plugin, plugin.deviation(found.map(|found| found.digest.as_str()))?)),
            }
        })
    }
}
