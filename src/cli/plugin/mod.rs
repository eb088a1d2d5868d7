//! `plugin …`.

mod add;
mod check;
mod list;
mod planner;
mod project;
mod test;

use clap::Subcommand;

use super::Done;
use crate::home::Home;

#[derive(Subcommand)]
pub enum Plugin {
    /// The plugins and their targets.
    List(list::List),
    /// One plugin.
    Show(list::Show),
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
            Self::Test(command) => command.run(),
            Self::Check(command) => command.run(),
            Self::Add(command) => command.run(home),
            Self::Remove(command) => command.run(home),
        }
    }
}
