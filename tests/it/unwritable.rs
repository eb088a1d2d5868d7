//! Logs and output that nobody reads: a full disk, a pipe whose reader has left, a closed terminal. The servers go on;
//! a command whose requested output cannot be written fails.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use crate::support::daemon::{Guillemet, PROGRAM};
use guillemet_testing::wait::PATIENCE;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

/// Opens a device that is always full.
fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

/// Returns the number of log lines that the daemon could not write.
fn dropped(guillemet: &Guillemet) -> u64 {
    let metrics = guillemet.get("/metrics").text();
    let line = metrics.lines().find_map(|line| line.strip_prefix("guillemet_log_lines_dropped_total "));
    line.expect("dropped lines are counted").parse().unwrap()
}

/// Waits until more lines are dropped than `known`.
fn drops_more_than(guillemet: &Guillemet, known: u64) {
    let deadline = Instant::now() + PATIENCE;
    while dropped(guillemet) <= known {
        assert!(Instant::now() < deadline, "no line was dropped");
    }
}

/// Checks every kind of answer, and sends a SIGHUP, which is logged.
fn serves(guillemet: &Guillemet) {
    guillemet.add("token", "v");
    guillemet.signal(Signal::HUP);
    assert_eq!(guillemet.post("/v1/resolve", &json!({"secrets": ["token"]})).json()["secrets"]["token"], "v");
    assert_eq!(guillemet.post("/v1/resolve", &json!({"secrets": ["other"]})).status, 409);
}

#[test]
fn a_daemon_whose_log_is_on_a_full_disk_serves_and_says_so() {
    let mut guillemet = Guillemet::init();
    assert!(guillemet.try_run_logging_to(&[], full().into()), "it does not start");
    serves(&guillemet);
    assert!(dropped(&guillemet) > 0);
    let warnings = guillemet.get("/v1/status").json()["warnings"].clone();
    assert!(warnings[0].as_str().unwrap().contains("log lines that could not be written"), "{warnings}");
    assert!(guillemet.stop());
}

#[test]
fn a_daemon_whose_reader_left_serves_and_tells_the_next_reader_what_it_missed() {
    let mut guillemet = Guillemet::init();
    let fifo = guillemet.dir.path().with_extension("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let reader = || {
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        File::options().read(true).custom_flags(flags).open(&fifo).unwrap()
    };
    let first = reader();
    let writer = File::options().write(true).open(&fifo).unwrap();
    // Few enough lines to fit into the pipe.
    guillemet.log_level = "info";
    assert!(guillemet.try_run_logging_to(&[], writer.into()));
    assert_eq!(dropped(&guillemet), 0);
    drop(first);
    serves(&guillemet);
    drops_more_than(&guillemet, 0);
    serve_again(&guillemet);

    let mut second = reader();
    guillemet.signal(Signal::HUP);
    let (mut read, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    while !String::from_utf8_lossy(&read).contains("reloaded") {
        assert!(Instant::now() < deadline, "{}", String::from_utf8_lossy(&read));
        let mut chunk = [0; 4096];
        // In this mode, reading an empty pipe is an error.
        if let Ok(count) = second.read(&mut chunk) {
            read.extend_from_slice(&chunk[..count]);
        }
    }
    let read = String::from_utf8(read).unwrap();
    let lines: Vec<&str> = read.lines().collect();
    let gap = lines.iter().position(|line| line.ends_with("could not be written here"));
    assert!(gap.is_some_and(|gap| lines[gap + 1].ends_with("the configuration was reloaded")), "{read}");
    assert!(guillemet.stop());
    std::fs::remove_file(fifo).unwrap();
}

fn serve_again(guillemet: &Guillemet) {
    assert_eq!(guillemet.post("/v1/resolve", &json!({"secrets": ["token"]})).status, 200);
}

/// A Python program makes the terminal, which goes away with that program.
#[test]
fn a_daemon_whose_terminal_was_closed_serves() {
    const TERMINAL: &str = "
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
while os.read(terminal, 65536): pass";
    let mut guillemet = Guillemet::init();
    let in_terminal = ["python3", "-c", TERMINAL].map(str::to_owned);
    assert!(guillemet.try_run_logging_to(&in_terminal, Stdio::null()));
    let pid = guillemet.get("/v1/status").json()["pid"].as_i64().unwrap();
    let daemon = Killed(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap());
    let known = dropped(&guillemet);
    guillemet.kill();
    guillemet.add("token", "v");
    drops_more_than(&guillemet, known);
    serve_again(&guillemet);
    assert_eq!(guillemet.get("/v1/status").json()["pid"], pid);
    drop(daemon);
}

/// A process that is ended when this is dropped.
struct Killed(Pid);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
    }
}

/// An account server that is ended when this is dropped.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The task that accepts connections logs a warning when all are taken. It must not fail when the line cannot be
/// written.
#[test]
fn an_account_server_whose_log_is_on_a_full_disk_goes_on_accepting() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["account", "serve", "--listen", "127.0.0.1:0", "--connections", "1", "--data"]).arg(folder.path());
    command.env_remove("RUST_LOG").env("GUILLEMET_HOME", folder.path());
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(full()).spawn().unwrap();
    let mut serving = Serving(child);
    let mut said = String::new();
    BufReader::new(serving.0.stdout.take().unwrap()).read_line(&mut said).unwrap();
    let address = said.split("https://").nth(1).and_then(|rest| rest.split(',').next()).expect("an address").to_owned();

    let held = TcpStream::connect(&address).unwrap();
    // A second connection is closed at once, and the log mentions it.
    let mut refused = TcpStream::connect(&address).unwrap();
    refused.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(refused.read(&mut [0; 1]).unwrap_or(0), 0);
    drop(held);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let url = format!("https://{address}/metrics");
        let answer = Command::new("curl").args(["-sk", "--max-time", "20", &url]).output().unwrap();
        let text = String::from_utf8(answer.stdout).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("guillemet_account_log_lines_dropped_total "));
        if let Some(count) = line {
            assert_ne!(count, "0");
            break;
        }
        assert!(Instant::now() < deadline, "it accepts no more: {}", answer.status);
    }
}

/// Runs a command of the program with this standard output.
fn printing(guillemet: &Guillemet, arguments: &[&str], stdout: Stdio) -> Output {
    let mut command = Command::new(PROGRAM);
    command.arg("--home").arg(guillemet.dir.path()).args(arguments).stdin(Stdio::null());
    command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap()
}

#[test]
fn output_that_was_asked_for_and_could_not_be_written_is_a_failure() {
    let guillemet = Guillemet::start();
    guillemet.add("token", "v");
    guillemet.write("mcp-server/a.toml", "name = 'a'\nurl = 'https://h/mcp'\nheaders.A = \"<< secret 'token' >>\"\n");
    let commands: [&[&str]; 16] = [
        &["--help"],
        &["--version"],
        &["secret", "add", "--help"],
        &["completions", "bash"],
        &["completions", "zsh"],
        &["secret", "list"],
        &["secret", "list", "--json"],
        &["secret", "show", "token"],
        &["secret", "show", "token", "--json"],
        &["secret", "reveal", "token"],
        &["status"],
        &["status", "--json"],
        &["usage"],
        &["render", "mcp-server/a"],
        &["template", "list"],
        &["template", "explain", "mcp-server/a"],
    ];
    for arguments in commands {
        let wrote = printing(&guillemet, arguments, Stdio::piped());
        assert!(wrote.status.success() && !wrote.stdout.is_empty(), "{arguments:?}");

        let unwritten = printing(&guillemet, arguments, full().into());
        let said = String::from_utf8(unwritten.stderr).unwrap();
        assert_eq!(unwritten.status.code(), Some(1), "{arguments:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
        assert!(said.starts_with("error: standard output cannot be written: No space left"), "{arguments:?}: {said}");

        // The reader has closed the pipe on purpose and needs no message.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let unread = printing(&guillemet, arguments, writer.into());
        assert_eq!((unread.status.code(), unread.stderr.as_slice()), (Some(1), b"".as_slice()), "{arguments:?}");
    }
}

#[test]
fn an_error_that_cannot_be_written_is_still_that_error() {
    let guillemet = Guillemet::init();
    for (arguments, code) in [(["secret", "list"], 1), (["secret", "no-such-command"], 2)] {
        let mut command = Command::new(PROGRAM);
        command.arg("--home").arg(guillemet.dir.path()).args(arguments).env("RUST_LOG", "trace");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(full()).spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(b"");
        assert_eq!(child.wait().unwrap().code(), Some(code), "{arguments:?}");
    }
}
