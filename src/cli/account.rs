//! `account …`: the command group.

use clap::Subcommand;

use super::{Done, account_server};
use crate::home::Home;

#[derive(Subcommand)]
pub enum AccountCommand {
    /// Run the server between the machines of an account, in the foreground.
    Serve(account_server::Serve),
    /// Look after the accounts of a server: where its database is.
    #[command(subcommand)]
    Admin(account_server::Admin),
}

impl AccountCommand {
    /// Whether it runs until it is stopped.
    pub fn serves(&self) -> bool {
        matches!(self, Self::Serve(_))
    }

    pub fn run(self, home: &Home) -> Done {
        match self {
            Self::Serve(command) => command.run(home),
            Self::Admin(command) => command.run(home),
        }
    }
}
