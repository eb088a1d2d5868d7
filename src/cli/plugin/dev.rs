//! `plugin dev`: builds a plugin's project when its source is saved, runs its cases, and shows the document of a
//! template.
//!
//! Prints plain lines, so that a pipe can follow them. After an error it prints the message and waits for the next
//! save. Invariant: everything happens in a temporary home; the user's home is neither read nor changed, and no daemon
//! is asked. With `--stand-in`, a running daemon gets each good build, and nothing else.

mod preview;
mod sources;
mod stand_in;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use self::preview::Preview;
use self::sources::{FileDigests, Sources, changed};
use self::stand_in::StandIn;
use super::check::{self, ComponentCheck, print_mistakes};
use super::project::Project;
use super::{planner, test};
use crate::cli::temporary::TemporaryHome;
use crate::cli::{Done, Failure, output};
use guillemet_base::home::Home;
use guillemet_plugin::cache::LastForm;
use guillemet_plugin::cases;
use guillemet_plugin::client::Planner;
use guillemet_plugin::registry::read_component;
use guillemet_template::Format;

/// The delay between an event and the look at the files, because editors write several files at once.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// The interval between looks at the files if the kernel cannot report changes.
const POLL: Duration = Duration::from_secs(1);

#[derive(Args)]
pub struct PluginDevArgs {
    /// The project's folder.
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// The template to show [default: the project's template.toml, .json, .jsonc, .yaml or .yml]. `vars` come from a
    /// guillemet.toml in the project.
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    /// The consumer's format [default: the plugin's first target].
    #[arg(long)]
    target: Option<String>,
    /// Let each build whose check has no error stand in for the plugin of its feature in the running daemon, until this
    /// command ends. Asks once, since the component decides where the secrets of its templates go.
    #[arg(long)]
    stand_in: bool,
    /// Do not ask for confirmation.
    #[arg(long, requires = "stand_in")]
    yes: bool,
}

impl PluginDevArgs {
    pub fn run(self, daemons_home: &Home) -> Done {
        // Fails at once if the folder holds no project.
        super::build::language(&self.dir)?;
        let template = self.template.clone().unwrap_or_else(|| own_template(&self.dir));
        let mut sources = Sources::new(&self.dir, &template);
        let seen = sources.scan();
        // Before anything is there that a signal would have to clean up.
        let stand_in = match self.stand_in {
            true => Some(stand_in::ask(daemons_home, &self.dir, self.yes)?),
            false => None,
        };
        let home = TemporaryHome::new("dev")?;
        let forms = Arc::new(LastForm::default());
        let config = within(&self.dir, "guillemet.toml");
        let preview = Preview::new(Home::at(home.path()), config, template, self.target.clone(), Arc::clone(&forms));
        let is_built = stand_in.is_some();
        let mut round = Round { dir: self.dir, forms, preview, home: Home::at(home.path()), is_built, stand_in };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
            tokio::select! {
                result = follow(&mut round, sources, seen) => result,
                _ = interrupt.recv() => Ok(()),
                _ = terminate.recv() => Ok(()),
            }
        })
    }
}

/// Returns the example template of a project.
fn own_template(dir: &Path) -> PathBuf {
    let names = Format::EXTENSIONS.map(|extension| within(dir, &format!("template.{extension}")));
    names.iter().find(|path| path.exists()).unwrap_or(&names[0]).clone()
}

/// Returns the path of a project's file as a person would write it, without a leading `./`.
fn within(dir: &Path, name: &str) -> PathBuf {
    dir.strip_prefix(".").unwrap_or(dir).join(name)
}

/// Runs one round after another, without an end. `seen` are the files that the first round may be about.
async fn follow(round: &mut Round, mut sources: Sources, mut seen: FileDigests) -> Done {
    let mut is_source_changed = !round.is_built;
    loop {
        if let Err(Failure(text)) = round.run(is_source_changed).await {
            output::line(&format!("error: {}", text.trim_end()));
        }
        output::line("waiting for changes; press Ctrl-C to stop");
        let now = next(&mut sources, &seen).await;
        let paths = changed(&seen, &now);
        output::line(&format!("\nchanged: {}", paths.join(", ")));
        is_source_changed = paths.iter().any(|path| sources.is_source(Path::new(path)));
        seen = now;
    }
}

/// Waits until the files differ from `seen`, and returns them.
async fn next(sources: &mut Sources, seen: &FileDigests) -> FileDigests {
    loop {
        let now = wait_until_settled(sources, seen).await;
        if now != *seen {
            return now;
        }
        if sources.reports_changes() {
            sources.event().await;
            tokio::time::sleep(DEBOUNCE).await;
        } else {
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Returns the present files. If they have changed, waits until nobody is in the middle of writing them.
async fn wait_until_settled(sources: &mut Sources, seen: &FileDigests) -> FileDigests {
    let mut now = sources.scan();
    while now != *seen {
        tokio::time::sleep(DEBOUNCE).await;
        let later = sources.scan();
        if later == now {
            break;
        }
        now = later;
    }
    now
}

/// The work that is done after each save.
struct Round {
    dir: PathBuf,
    home: Home,
    forms: Arc<LastForm>,
    preview: Preview,
    /// Whether the component is made of the present source.
    is_built: bool,
    /// Gives good builds to the daemon, if the user wants that.
    stand_in: Option<StandIn>,
}

impl Round {
    /// Builds the component if it has to, and shows what it does.
    async fn run(&mut self, is_source_changed: bool) -> Done {
        self.is_built &= !is_source_changed;
        if !self.is_built {
            self.build().await?;
            self.is_built = true;
        }
        let project = Project::find(&self.dir)?;
        let file = &project.component;
        let planner = Planner::new(planner::shown(file), read_component(file)?, Arc::clone(&self.forms) as _);
        let checked = ComponentCheck::run(file, &project.cases(), &planner).await?;
        let mistakes = print_mistakes(&checked);
        match mistakes {
            0 => output::line("check    ok"),
            1 => output::line("check    1 error"),
            many => output::line(&format!("check    {many} errors")),
        }
        if let Some(unread) = check::unread(&checked) {
            output::line(&format!("         {unread}"));
        }
        if let Some(stand_in) = self.stand_in.as_ref().filter(|_| mistakes > 0) {
            stand_in.note_kept();
        }
        let Some(description) = checked.description() else { return Ok(()) };
        // The preview is shown even if the cases cannot be read.
        let cases = match cases::read(&project.cases()) {
            Ok(files) => {
                let ran = test::run_all(&planner, description, &files).await;
                let failed: usize = files.iter().zip(&ran).map(|(file, ran)| test::print_failures(file, ran)).sum();
                let total: usize = ran.iter().map(Vec::len).sum();
                for gap in cases::gaps(description, &files) {
                    output::line(&gap);
                }
                output::line(&format!("cases    {} of {total} pass", total - failed));
                Ok(())
            }
            Err(error) => Err(error.into()),
        };
        let shown = self.preview.show(file, &description.feature).await;
        let given = match &mut self.stand_in {
            Some(stand_in) if mistakes == 0 => stand_in.give(file, checked.digest(), &description.feature).await,
            _ => Ok(()),
        };
        shown.and(cases).and(given)
    }

    /// Builds the project by running `plugin build` as a child process, which can be stopped together with its tools.
    async fn build(&self) -> Done {
        let mut command = Command::new("/proc/self/exe");
        command.args(["plugin", "build"]).arg(&self.dir).env("GUILLEMET_HOME", self.home.data());
        command.stdin(Stdio::null()).process_group(0);
        let mut building = Building(command.spawn()?);
        if building.0.wait().await?.success() { Ok(()) } else { Err(Failure::new("the build failed; see above")) }
    }
}

/// A running build and the tools it has started: a process group that is ended when this is dropped.
struct Building(Child);

impl Drop for Building {
    fn drop(&mut self) {
        // `id` returns nothing after the process has been waited for.
        let id = self.0.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(id) = id {
            let _ = kill_process_group(id, Signal::TERM);
        }
    }
}
