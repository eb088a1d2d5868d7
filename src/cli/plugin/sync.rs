//! `plugin sync`: adds the plugins that `guillemet.toml` lists, so that every machine with the same file has the same.
//!
//! Compares, shows, asks and refuses as `plugin add` does, for each plugin on its own.

use clap::Args;

use super::super::{Done, Failure, client, output};
use super::candidate::Candidate;
use super::change::Consent;
use super::download::{self, DownloadTime};
use super::listed::{Listed, ListedPlugin};
use guillemet_api::Listing;
use guillemet_api::plugins::PluginView;
use guillemet_base::home::Home;

#[derive(Args)]
pub struct PluginSyncArgs {
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    time: DownloadTime,
}

impl PluginSyncArgs {
    pub fn run(self, home: &Home) -> Done {
        let listed = Listed::read(home)?;
        let present: Listing<PluginView> = client::listing(home, "/v1/plugins", "")?;
        let mut problems = Vec::new();
        let mut candidates = Vec::new();
        // Everything is fetched and compared before the first question.
        for (plugin, deviation) in listed.deviations(&present.items) {
            output::note(&deviation);
            match self.candidate(home, plugin) {
                Ok((candidate, view)) => candidates.push((plugin, candidate, view)),
                Err(Failure(problem)) => problems.push((plugin, problem)),
            }
        }
        for (plugin, candidate, view) in &candidates {
            let added = candidate.show(home, view);
            // A built-in plugin may be replaced, because the file names its feature.
            let added = added.and_then(|()| candidate.put(home, view, Some(&plugin.feature), &self.consent));
            if let Err(Failure(problem)) = added {
                problems.push((plugin, problem));
            }
        }
        if problems.is_empty() {
            output::note(match listed.plugins.len() {
                0 => "guillemet.toml lists no plugins",
                _ => "every plugin that guillemet.toml lists is in force",
            });
            return Ok(());
        }
        let lines: String =
            problems.iter().map(|(plugin, problem)| format!("\n{}: {problem}", plugin.feature)).collect();
        let number = listed.plugins.len();
        Err(Failure::new(format!("{} of {number} listed plugins are not in force:{lines}", problems.len())))
    }

    /// Gets a listed plugin and asks the daemon what it would change.
    fn candidate(&self, home: &Home, plugin: &ListedPlugin) -> Result<(Candidate, PluginView), Failure> {
        let candidate = Candidate::get(&plugin.location, Some(&plugin.digest), &self.time)?;
        let view = candidate.inspect(home)?;
        if view.feature == plugin.feature {
            return Ok((candidate, view));
        }
        let name = download::name(&plugin.location);
        Err(Failure::new(format!("{name} is a plugin for `{}`; nothing was changed", view.feature)))
    }
}
