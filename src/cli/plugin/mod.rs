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
    /// The plugins and their targets.
    List(list::List),
    /// One plugin.
    Show(list::Show),
    /// Make a plugin's project, which builds and passes its cases as it is.
    New(new::New),
    /// Build the component of a plugin's project.
    Build(build::Build),
    /// Write one: builds on every save, runs the cases, and shows what becomes of a template.
    Dev(dev::Dev),
    /// Run the cases of a plugin's project. Needs neither daemon nor vault.
    Test(test::Test),
    /// Check a component: what it imports and says of itself, its schema, its encoders, and what it takes. Needs neither
    /// daemon nor vault.
    Check(check::Check),
    /// Add a plugin. Whoever wrote it decides where the secrets of its templates go.
    Add(add::Add),
    /// Let an added plugin go.
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
