//! A pseudo-terminal with a program at one end and a person at the other.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, tcgetattr, tcsetattr,
};

use super::daemon::PROGRAM;
use guillemet_testing::wait::PATIENCE;

/// The modes of a terminal: how it treats input and output.
#[derive(Debug, PartialEq, Eq)]
pub struct Modes {
    input: InputModes,
    output: OutputModes,
    control: ControlModes,
    pub local: LocalModes,
}

pub struct Terminal {
    person: File,
    program: File,
    printed: Vec<u8>,
    child: Option<Child>,
}

impl Terminal {
    /// Makes a terminal in its initial state, which no program uses yet.
    pub fn new() -> Self {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let name = ptsname(&person, Vec::new()).unwrap();
        let program = open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        Self { person: person.into(), program: program.into(), printed: Vec::new(), child: None }
    }

    /// Runs the program with this terminal as its standard input, output and error, and as its controlling terminal.
    pub fn run(home: &Path, arguments: &[&str]) -> Self {
        Self::run_other(home, PROGRAM, arguments)
    }

    /// Runs another program, which gets the home from its environment.
    pub fn run_other(home: &Path, program: &str, arguments: &[&str]) -> Self {
        let mut terminal = Self::new();
        let child = Command::new("setsid")
            .args(["--ctty", program])
            .args(arguments)
            .env("GUILLEMET_HOME", home)
            .env("TERM", "xterm")
            .env("NO_COLOR", "1")
            .env_remove("RUST_LOG")
            .stdin(terminal.stdio())
            .stdout(terminal.stdio())
            .stderr(terminal.stdio())
            .spawn();
        terminal.child = Some(child.unwrap());
        terminal
    }

    /// Returns the program's end, for a process.
    pub fn stdio(&self) -> Stdio {
        self.program.try_clone().unwrap().into()
    }

    /// Sends keys to the program, as if typed or pasted.
    pub fn types(&mut self, keys: impl AsRef<[u8]>) {
        self.person.write_all(keys.as_ref()).unwrap();
    }

    /// Waits until a text is printed after the one that was last waited for. Returns the output between the two.
    pub fn expect(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.printed.windows(text.len()).position(|part| part == text.as_bytes()) {
                let rest = self.printed.split_off(at + text.len());
                let before = std::mem::replace(&mut self.printed, rest);
                return String::from_utf8_lossy(&before[..at]).into_owned();
            }
            assert!(Instant::now() < deadline, "{text:?} was not printed: {:?}", self.printed());
            self.look(Duration::from_millis(50));
        }
    }

    /// Returns the output after the text that was last waited for.
    pub fn printed(&mut self) -> String {
        self.look(Duration::ZERO);
        String::from_utf8_lossy(&self.printed).into_owned()
    }

    fn look(&mut self, patience: Duration) {
        let patience = Timespec::try_from(patience).unwrap();
        let mut ready = [PollFd::new(&self.person, PollFlags::IN)];
        if poll(&mut ready, Some(&patience)).unwrap() > 0 {
            let mut part = [0; 4096];
            let count = self.person.read(&mut part).unwrap_or(0);
            self.printed.extend_from_slice(&part[..count]);
            self.look(Duration::ZERO);
        }
    }

    pub fn modes(&self) -> Modes {
        let modes = tcgetattr(&self.program).unwrap();
        Modes {
            input: modes.input_modes,
            output: modes.output_modes,
            control: modes.control_modes,
            local: modes.local_modes,
        }
    }

    pub fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().unwrap().id();
        kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
    }

    /// Waits until the program ends.
    pub fn ends(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            // A program blocks if nobody reads its output.
            self.look(Duration::from_millis(5));
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                panic!("it does not end: {:?}", self.printed());
            }
        }
    }

    /// Returns the input that nobody has read, which a shell would run.
    pub fn left_for_the_shell(&mut self) -> String {
        // A line without its line break counts too.
        let mut modes = tcgetattr(&self.program).unwrap();
        modes.local_modes -= LocalModes::ICANON;
        modes.special_codes[SpecialCodeIndex::VMIN] = 0;
        modes.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(self.program.as_fd(), OptionalActions::Now, &modes).unwrap();
        let mut left = Vec::new();
        self.program.read_to_end(&mut left).unwrap();
        String::from_utf8_lossy(&left).into_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
