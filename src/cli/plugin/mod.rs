//! The `plugin` commands.

mod about;
mod add;
mod build;
mod candidate;
mod change;
mod check;
mod dev;
mod download;
mod list;
mod listed;
mod new;
mod outdated;
mod pack;
mod planner;
mod project;
mod rollback;
mod scaffold;
mod sync;
mod test;

use clap::Subcommand;

pub use self::check::{answer_checks, answer_plans};
use super::Done;
use guillemet_base::home::Home;

#[derive(Subcommand)]
pub enum PluginCommand {
    /// List the plugins and their targets.
    List(list::PluginListArgs),
    /// Show one plugin.
    Show(list::PluginShowArgs),
    /// Create a plugin project that builds and passes its cases.
    New(new::PluginNewArgs),
    /// Build the component of a plugin project.
    Build(build::PluginBuildArgs),
    /// Develop a plugin: on every save, build it, run its cases and render a template.
    Dev(dev::PluginDevArgs),
    /// Run the cases of a plugin project. Needs no daemon or vault.
    Test(test::PluginTestArgs),
    /// Check a component: imports, description, schema, encoders, and the time and memory it needs. Needs no daemon or
    /// vault.
    Check(check::PluginCheckArgs),
    /// Make the file that a plugin is shared as: the component of a project with its cases, author and changelog. Needs no
    /// daemon or vault.
    Pack(pack::PluginPackArgs),
    /// Add a plugin. Its author decides where the secrets of its templates go.
    Add(add::PluginAddArgs),
    /// Add the plugins that guillemet.toml lists, where others are in force. Fails if any is left.
    Sync(sync::PluginSyncArgs),
    /// Compare the plugins in force with an index of newer ones. Fails if any is outdated.
    Outdated(outdated::PluginOutdatedArgs),
    /// Bring back the plugin that was in force before the present one.
    Rollback(rollback::PluginRollbackArgs),
    /// Remove a plugin, and the former one that is kept.
    Remove(add::PluginRemoveArgs),
}

impl PluginCommand {
    pub fn run(self, home: &Home) -> Done {
        match self {
            Self::List(command) => command.run(home),
            Self::Show(command) => command.run(home),
            Self::New(command) => command.run(),
            Self::Build(command) => command.run(),
            Self::Dev(command) => command.run(home),
            Self::Test(command) => command.run(),
            Self::Check(command) => command.run(),
            Self::Pack(command) => command.run(),
            Self::Add(command) => command.run(home),
            Self::Sync(command) => command.run(home),
            Self::Outdated(command) => command.run(home),
            Self::Rollback(command) => command.run(home),
            Self::Remove(command) => command.run(home),
        }
    }
}
