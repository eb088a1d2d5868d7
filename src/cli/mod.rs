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
use guillemet_daemon::config;
use guillemet_plugin::offline::OfflineCompiler;

const ENVIRONMENT: &str = "\
Environment:
  GUILLEMET_HOME    The folder of everything, where no --home is given
  GUILLEMET_SOCKET  The absolute path of the daemon's socket, where no --home is given: commands ask the daemon there,
                    whatever home it serves, and `guillemet daemon` listens there";

/// Secrets for agents: kept in an encrypted vault, filled into their configs through sandboxed plugins.
#[derive(Parser)]
#[command(name = "guillemet", version, arg_required_else_help = true, disable_help_subcommand = true)]
#[command(after_help = ENVIRONMENT)]
struct Arguments {
    /// The folder of everything; else $GUILLEMET_HOME, else the XDG folders.
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Set up a home: vault, key, configuration.
    Init(daemon::Init),
    /// Run the daemon in the foreground.
    Daemon(daemon::Run),
    /// Change what opens the vault.
    #[command(subcommand)]
    Vault(vault::Vault),
    /// Show how the daemon is.
    Status(status::Status),
    /// Read the configuration again now. The daemon also follows the file by itself.
    Reload(reload::Reload),
    /// Show where the home, its configuration, socket and templates are.
    Paths(paths::Paths),
    /// Create, list, show, rename, rotate, disable and delete secrets.
    #[command(subcommand)]
    Secret(secret::Secret),
    /// Write a first template; list, check and explain templates.
    #[command(subcommand)]
    Template(template::Template),
    /// The audit trail: who used what, what was refused, and what was changed.
    Usage(usage::Usage),
    /// Print a config with its secrets filled in.
    Render(render::Render),
    /// Make a template and secrets out of a config with plain values. Shows them first.
    Adopt(adopt::Adopt),
    /// Write, check, list, show, add and remove plugins.
    #[command(subcommand)]
    Plugin(plugin::Plugin),
    /// The account: what several machines share, and the server between them.
    #[command(subcommand)]
    Account(account::AccountCommand),
    /// Print a link to the console, the page in a browser.
    Console(console::Console),
    /// Show everything at once, in a throw-away home.
    Demo(demo::Demo),
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// The child process that runs plugins.
    #[command(hide = true)]
    Planner,
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

/// Returns a compiler with the plugins of a home and the variables of its configuration.
///
/// # Errors
/// Fails if the configuration cannot be used.
fn offline_compiler(home: &Home) -> Result<OfflineCompiler, Failure> {
    let (config, _) = config::load(home)?;
    Ok(OfflineCompiler::new(home.plugins(), config.variables)?)
}

/// Runs the command line and returns the exit status: 0 on success, 1 if the command fails, 2 if its arguments are
/// wrong.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let printed = output::usage(&error);
            if !error.use_stderr() {
                output::wrote(printed);
                return ended(Ok(()));
            }
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    if matches!(arguments.command, Command::Planner) {
        return guillemet_planner::run();
    }
    ended(run(arguments))
}

/// Returns the exit status of a command: success only if everything it printed reached standard output.
fn ended(done: Done) -> ExitCode {
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
        Command::Completions { .. } | Command::Planner => Ok(()),
    }
}
