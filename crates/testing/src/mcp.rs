//! Runs the MCP example (`examples/mcp`) as a server that demands credentials, and as a client.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use crate::missing;

/// Returns the path of the example, which cargo puts beside the program under test. If it is missing, reports the
/// calling test as skipped.
///
/// # Panics
/// As [`missing::has`].
#[must_use]
#[track_caller]
pub fn program(under_test: &str) -> Option<PathBuf> {
    let program = Path::new(under_test).parent()?.join("mcp-example");
    missing::has(program.exists(), "mcp-example", "`cargo build -p guillemet-mcp-example`").then_some(program)
}

/// A running server. It ends when this is dropped.
#[derive(Debug)]
pub struct McpServer {
    child: Child,
    url: String,
}

impl McpServer {
    /// Starts a server. `demands` is the line of JSON that it reads: the headers and the query of every request, or a
    /// list of these.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(program: &Path, demands: &str) -> Self {
        let mut child =
            Command::new(program).arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a server");
        writeln!(child.stdin.as_mut().expect("its input"), "{demands}").expect("it reads what to demand");
        let mut url = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut url).expect("its URL");
        Self { child, url: url.trim().to_owned() }
    }

    /// Returns its URL, without a query.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Closes its standard input, which ends it.
    ///
    /// # Panics
    /// If it cannot be waited for.
    pub fn end(&mut self) -> ExitStatus {
        drop(self.child.stdin.take());
        self.child.wait().expect("it ends")
    }
}

impl Drop for McpServer {
    fn drop(&mut self) {
        self.end();
    }
}

/// Runs the client with one or more configs, one after the other. It prints a line of JSON for each.
///
/// # Panics
/// If it does not start.
pub fn call(program: &Path, configs: &[u8]) -> Output {
    let mut client = Command::new(program)
        .arg("call")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a client");
    client.stdin.take().expect("its input").write_all(configs).expect("it reads its configs");
    client.wait_with_output().expect("it ends")
}
