//! The command line: parses arguments, calls the daemon's API and prints the answers.
//!
//! Only `init`, `demo` and `vault rekey` make or open a vault here; `daemon` hands the key over to `guillemet_daemon`.
//! `account serve` and `account admin` open the account server's database. `adopt`, `template new`, `template check`
//! and the `plugin` commands for authors plan templates and run components without a vault.

mod account;
mod account_server;
mod adopt;
mod client;
mod console;
mod daemon;
mod demo;
mod no_daemon;
mod offline;
mod output;
mod paths;
mod plugin;
mod prompt;
mod reload;
mod render;
mod secret;
mod status;
mod template;
mod temporary;
mod terminal;
mod unlock;
mod usage;
mod vault;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use guillemet_base::home::Home;
use guillemet_base::logging;

const ENVIRONMENT: &str = "\
Environment:
  GUILLEMET_HOME    The folder for data and configuration if --home is not set
  GUILLEMET_SOCKET  The absolute path of the daemon's socket if --home is not set. Commands connect there, whatever home
                    the daemon uses, and `guillemet daemon` listens there";

/// Keeps secrets for agents in an encrypted vault and fills them into their configs.
#[derive(Parser)]
#[command(name = "guillemet", version, arg_required_else_help = true, disable_help_subcommand = true)]
#[command(after_help = ENVIRONMENT)]
struct Arguments {
    /// Keep data and configuration in this folder [default: $GUILLEMET_HOME, or the XDG folders].
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Set up Guillemet: vault, key and configuration.
    Init(daemon::InitArgs),
    /// Run the daemon in the foreground.
    Daemon(daemon::RunArgs),
    /// Change the key or passphrase of the vault.
    #[command(subcommand)]
    Vault(vault::VaultCommand),
    /// Show the daemon's status.
    Status(status::StatusArgs),
    /// Reload the configuration now. The daemon also reloads it when the file changes.
    Reload(reload::ReloadArgs),
    /// Show the paths of the home, configuration, socket and templates.
    Paths(paths::PathsArgs),
    /// Create, list, show, rename, rotate, disable and delete secrets.
    #[command(subcommand)]
    Secret(secret::SecretCommand),
    /// Create, list, check and explain templates.
    #[command(subcommand)]
    Template(template::TemplateCommand),
    /// Show the audit trail: uses, refusals and changes.
    Usage(usage::UsageArgs),
    /// Print a config with its secrets filled in.
    Render(render::RenderArgs),
    /// Turn a config with credentials into a template and secrets. Shows them first.
    Adopt(adopt::AdoptArgs),
    /// Write, check, share, list, show, add, roll back and remove plugins.
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),
    /// Share one vault between several devices, and run the account server.
    #[command(subcommand)]
    Account(account::AccountCommand),
    /// Print a link that opens the console in a browser.
    Console(console::ConsoleArgs),
    /// Show what Guillemet does, in a temporary home.
    Demo(demo::DemoArgs),
    /// Print shell completions.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// The child process that runs plugins.
    #[command(hide = true)]
    Planner,
    /// The child process that checks a component before the daemon adds it, or reads the documents of plans back.
    #[command(hide = true)]
    Checker {
        /// The component, with the cases of its package or those in the folder `cases` beside it. Without, plans are
        /// read from standard input, one a line.
        file: Option<PathBuf>,
    },
}

/// The reason a command exits with status 1. Its text is printed to the user after `error:`.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

type Done = Result<(), Failure>;

/// Runs the command line and returns the exit status: 0 on success, 1 if the command fails, 2 if its arguments are
/// wrong.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let printed = output::usage(&error);
            if !error.use_stderr() {
                output::record_error(printed);
                return exit_code(Ok(()));
            }
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    if matches!(arguments.command, Command::Planner) {
        return guillemet_planner::run();
    }
    exit_code(run(arguments))
}

/// Returns the exit status of a command: success only if everything it printed reached standard output.
fn exit_code(done: Done) -> ExitCode {
    if let Err(Failure(text)) = &done {
        output::error(text);
    }
    let written = output::finish();
    match &written {
        // On a broken pipe, the reader closed it on purpose and needs no message.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            output::error(&format!("standard output cannot be written: {error}"));
        }
        _ => {}
    }
    if done.is_ok() && written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(arguments: Arguments) -> Done {
    let serves = match &arguments.command {
        Command::Daemon(_) => true,
        Command::Account(command) => command.serves(),
        _ => false,
    };
    let level = if serves { "info" } else { "warn" };
    logging::start(level);
    if let Command::Completions { shell } = arguments.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Arguments::command(), "guillemet", &mut script);
        output::bytes(&script);
        return Ok(());
    }
    // It is started without the environment in which a home is found.
    if let Command::Checker { file } = &arguments.command {
        return file.as_deref().map_or_else(plugin::answer_plans, plugin::answer_checks);
    }
    let home = Home::find(arguments.home, |name| std::env::var_os(name).map(PathBuf::from))?;
    match arguments.command {
        Command::Init(command) => command.run(&home),
        Command::Daemon(command) => command.run(&home),
        Command::Vault(command) => command.run(&home),
        Command::Status(command) => command.run(&home),
        Command::Reload(command) => command.run(&home),
        Command::Paths(command) => command.run(&home),
        Command::Secret(command) => command.run(&home),
        Command::Template(command) => command.run(&home),
        Command::Usage(command) => command.run(&home),
        Command::Render(command) => command.run(&home),
        Command::Adopt(command) => command.run(&home),
        Command::Plugin(command) => command.run(&home),
        Command::Account(command) => command.run(&home),
        Command::Console(command) => command.run(&home),
        Command::Demo(command) => command.run(),
        Command::Completions { .. } | Command::Planner | Command::Checker { .. } => Ok(()),
    }
}
