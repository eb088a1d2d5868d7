//! The command line: parses, calls the API, prints. Knows no vault.

mod account;
mod account_server;
mod adopt;
mod client;
mod console;
mod daemon;
mod demo;
mod output;
mod plugin;
mod prompt;
mod render;
mod secret;
mod status;
mod template;
mod temporary;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::home::Home;

/// Secrets for agents: kept in an encrypted vault, filled into their configs through sandboxed plugins.
#[derive(Parser)]
#[command(name = "guillemet", version, arg_required_else_help = true, disable_help_subcommand = true)]
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
    /// Show how the daemon is.
    Status(status::Status),
    /// Create, list, show, rename, rotate, disable and delete secrets.
    #[command(subcommand)]
    Secret(secret::Secret),
    /// Write a first template; list, check and explain templates.
    #[command(subcommand)]
    Template(template::Template),
    /// The audit trail: who used what, and what was refused.
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

/// Why a command ends with 1. What a person should know is in the text.
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

/// Runs the command line.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    if matches!(arguments.command, Command::Planner) {
        return crate::planner::run();
    }
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(text)) => {
            output::error(&text);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Done {
    let serves = match &arguments.command {
        Command::Daemon(_) => true,
        Command::Account(command) => command.serves(),
        _ => false,
    };
    let level = if serves { "info" } else { "warn" };
    log(level);
    if let Command::Completions { shell } = arguments.command {
        clap_complete::generate(shell, &mut Arguments::command(), "guillemet", &mut std::io::stdout());
        return Ok(());
    }
    let home = Home::find(arguments.home, |name| std::env::var_os(name).map(PathBuf::from))?;
    match arguments.command {
        Command::Init(command) => command.run(&home),
        Command::Daemon(command) => command.run(&home),
        Command::Status(command) => command.run(&home),
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

/// Logs to standard error; `RUST_LOG` decides how much.
fn log(level: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    let colour = std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour).try_init();
}
