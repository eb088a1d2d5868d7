//! The `plugin` commands.

mod add;
mod build;
mod check;
mod dev;
mod list;
mod new;
mod planner;
mod project;
mod scaffold;
mod test;

use clap::Subcommand;

use super::Done;
use guillemet_base::home::Home;

#[derive(Subcommand)]
pub enum Plugin {
    /// List the plugins and their targets.
    List(list::List),
    /// Show one plugin.
    Show(list::Show),
    /// Create a plugin project that builds and passes its cases.
    New(new::New),
    /// Build the component of a plugin project.
    Build(build::Build),
    /// Develop a plugin: on every save, build it, run its cases and render a template.
    Dev(dev::Dev),
    /// Run the cases of a plugin project. Needs no daemon or vault.
    Test(test::Test),
    /// Check a component: imports, description, schema, encoders, and the time and memory it needs. Needs no daemon or
    /// vault.
    Check(check::Check),
    /// Add a plugin. Its author decides where the secrets of its templates go.
    Add(add::Add),
    /// Remove a plugin.
    Remove(add::Remove),
}

impl Plugin {
    pub fn run(self, home: &Home) -> Done {
        match self {
            Self::List(command) => command.run(home),
            Self::Show(command) => command.run(home),
            Self::New(command) => command.run(),
            Self::Build(command) => command.run(),
            Self::Dev(command) => command.run(),
            Self::Test(command) => command.run(),
            Self::Check(command) => command.run(),
            Self::Add(command) => command.run(home),
            Self::Remove(command) => command.run(home),
        }
    }
}
