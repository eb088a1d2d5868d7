//! `plugin dev`, as an author has it open beside an editor.

use std::io::{BufRead, BufReader, Lines, PipeReader};
use std::path::Path;
use std::process::{Child, Stdio};

use super::authors::Project;
use super::daemon::PROGRAM;
use rustix::process::{Pid, Signal, kill_process};

/// A running `plugin dev`.
pub struct Dev {
    child: Child,
    lines: Lines<BufReader<PipeReader>>,
}

impl Dev {
    /// Starts it in a project's folder. `home` is the home directory of its user, with a folder `tmp`.
    pub fn start(project: &Project, home: &Path, arguments: &[&str]) -> Self {
        Self::start_beside(None, project, home, arguments)
    }

    /// Does the same with the Guillemet home of a daemon.
    pub fn start_beside(daemon: Option<&Path>, project: &Project, home: &Path, arguments: &[&str]) -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = project.command(PROGRAM, &["plugin", "dev"]);
        // A home that would be used if the command used any.
        command.args(arguments).env("HOME", home).env("TMPDIR", home.join("tmp")).env_remove("GUILLEMET_HOME");
        command.env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME").env_remove("XDG_RUNTIME_DIR");
        command.envs(daemon.map(|daemon| ("GUILLEMET_HOME", daemon)));
        command.stdin(Stdio::null()).stdout(writer.try_clone().unwrap()).stderr(writer);
        let child = command.spawn().unwrap();
        Self { child, lines: BufReader::new(reader).lines() }
    }

    /// Returns everything that is printed until it waits for the next change.
    pub fn round(&mut self) -> String {
        self.until("waiting for changes")
    }

    /// Returns everything that is printed before a line that begins like this.
    pub fn until(&mut self, begin: &str) -> String {
        let mut text = String::new();
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            if line.starts_with(begin) {
                return text;
            }
            text += &(line + "\n");
        }
        panic!("it ended: {text}");
    }

    /// Sends it a signal, and returns the exit status; `None` if the signal killed it.
    pub fn ends_by(mut self, signal: Signal) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        self.child.wait().unwrap().code()
    }

    /// Interrupts it as Ctrl-C does, and returns the exit status.
    pub fn interrupt(self) -> Option<i32> {
        self.ends_by(Signal::INT)
    }
}
