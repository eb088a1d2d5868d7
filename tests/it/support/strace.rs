//! Makes a chosen system call of a program fail, or kills the program at it (`strace`).

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};

use guillemet_testing::missing;

/// A fault to inject into a system call.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The name of the system call.
    pub call: &'static str,
    /// The effect in strace's syntax: `signal=KILL` or `error=EIO`, for example.
    pub what: &'static str,
    /// The number of the call within its thread, from 1. With `lasting`, all later calls fail too.
    pub at: u32,
    pub lasting: bool,
}

impl Fault {
    fn arguments(&self) -> Vec<String> {
        let Self { call, what, at, .. } = self;
        let lasting = if self.lasting { "+" } else { "" };
        let inject = format!("inject={call}:{what}:when={at}{lasting}");
        ["-f", "-qqq", "-E", "LD_LIBRARY_PATH", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject]
            .map(str::to_owned)
            .to_vec()
    }

    /// Returns the words to put before a program, so that it runs with this fault and stays a direct child.
    pub fn before(&self) -> Vec<String> {
        let mut all = vec!["strace".to_owned(), "-D".to_owned()];
        all.extend(self.arguments());
        all
    }
}

/// Reports whether strace is installed and can attach itself. If not, the test is reported as skipped.
pub fn is_there() -> bool {
    let installed = Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok();
    // The daemon's own user cannot trace it, so this needs root.
    let there = installed && rustix::process::geteuid().is_root();
    missing::has(there, "strace, and root to attach it", "`sudo apt-get install strace`")
}

/// A fault in a running process, until this is dropped.
pub struct Attached {
    strace: Child,
    /// Kept open, because strace goes on writing to it.
    _stderr: BufReader<ChildStderr>,
}

impl Attached {
    pub fn to(pid: u32, fault: &Fault) -> Self {
        let mut arguments = fault.arguments();
        // Without these arguments, strace reports when it is attached.
        arguments.retain(|argument| !["-qqq", "-E", "LD_LIBRARY_PATH"].contains(&argument.as_str()));
        let mut strace = Command::new("strace")
            .args(arguments)
            .args(["-p", &pid.to_string()])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut stderr = BufReader::new(strace.stderr.take().unwrap());
        while stderr.read_line(&mut said).unwrap() > 0 {
            if said.contains("attached") {
                return Self { strace, _stderr: stderr };
            }
        }
        let status = strace.wait();
        panic!("strace did not attach itself: {status:?}: {said}");
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // After SIGTERM, strace could wait forever for a process that it has killed.
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}
