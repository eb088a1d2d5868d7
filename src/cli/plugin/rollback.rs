//! `plugin rollback`: brings the former plugin of a feature back. A second rollback undoes the first.

use clap::Args;

use super::super::client::percent_encode;
use super::super::{Done, client, output};
use super::change::{self, Consent};
use super::list::print;
use guillemet_api::plugins::{PluginView, RollBackPlugin};
use guillemet_base::home::Home;

#[derive(Args)]
pub struct PluginRollbackArgs {
    /// The feature.
    feature: String,
    #[command(flatten)]
    consent: Consent,
}

impl PluginRollbackArgs {
    pub fn run(self, home: &Home) -> Done {
        let path = format!("/v1/plugins/{}/rollback", percent_encode(&self.feature));
        let plugin: PluginView = client::post(home, &path, &RollBackPlugin { confirmed: None })?;
        print(&PluginView { former: None, ..plugin.clone() }, output::note);
        let question = match &plugin.replaces {
            Some(replaced) => {
                output::note(&format!("It replaces {}, SHA-256 {}.", change::name(replaced), replaced.digest));
                change::print(home, &plugin);
                change::question("Roll back", &plugin, replaced)
            }
            None => format!("Bring it back for `{}`?", self.feature),
        };
        self.consent.ask(home, &plugin, &question)?;
        let body = RollBackPlugin { confirmed: Some(self.consent.confirmation(&plugin)) };
        client::post::<PluginView>(home, &path, &body)?;
        output::note(&format!("rolled back {} to {} {}", self.feature, plugin.source.name(), plugin.version));
        change::note_former(&plugin);
        Ok(())
    }
}
