//! The real parts of the demo: a daemon and an MCP server. Each process is stopped when its value is dropped, however
//! the demo ends.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::Value;

use crate::cli::{Failure, client};
use guillemet_base::home::Home;

/// The longest time the daemon may take to answer its first request.
const START_TIME: Duration = Duration::from_secs(10);

/// Sets the variable in the configuration that tells the template where the MCP server is.
pub fn set_mcp_url(home: &Home, url: &str) -> Result<(), Failure> {
    let path = home.config_file();
    let set =
        |line: &str| if line.starts_with("mcp_url") { format!("mcp_url = \"{url}\"\n") } else { format!("{line}\n") };
    let text: String = fs::read_to_string(&path)?.lines().map(set).collect();
    Ok(fs::write(path, text)?)
}

/// A daemon, run by this same program.
pub struct Daemon(Child);

impl Daemon {
    pub fn start(home: &Home) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--home").arg(home.data()).arg("daemon").stdin(Stdio::null()).stdout(Stdio::null());
        if std::env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", "warn");
        }
        let mut daemon = Self(command.spawn()?);
        let started = Instant::now();
        while client::call(home, Method::GET, "/healthz").is_err() {
            if daemon.0.try_wait()?.is_some() || started.elapsed() > START_TIME {
                return Err(Failure::new("the daemon of the demo did not start"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(daemon)
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

/// A running MCP server, and the program that is its client too.
pub struct Mcp {
    program: PathBuf,
    server: Child,
    url: String,
}

impl Mcp {
    /// Starts a server that requires the headers and the query in `auth`.
    pub fn start(program: &Path, auth: &Value) -> Result<Self, Failure> {
        let started = Command::new(program).arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut server =
            started.map_err(|error| Failure::new(format!("{} cannot be started: {error}", program.display())))?;
        let ended = || Failure::new("the MCP server ended early");
        // Standard input stays open, because the server ends when it is closed.
        writeln!(server.stdin.as_mut().ok_or_else(ended)?, "{auth}")?;
        let mut url = String::new();
        BufReader::new(server.stdout.take().ok_or_else(ended)?).read_line(&mut url)?;
        Ok(Self { program: program.to_owned(), server, url: url.trim().to_owned() })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Makes the client use a config. Returns the server's answer.
    pub fn call(&self, config: &[u8]) -> Result<String, Failure> {
        let mut client =
            Command::new(&self.program).arg("call").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = client.stdin.take() {
            stdin.write_all(config)?;
        }
        let mut response = String::new();
        if let Some(stdout) = client.stdout.as_mut() {
            stdout.read_to_string(&mut response)?;
        }
        match client.wait()?.success() {
            true => Ok(response.trim().to_owned()),
            false => Err(Failure::new("the MCP client could not use the rendered config")),
        }
    }
}

impl Drop for Mcp {
    fn drop(&mut self) {
        drop(self.server.stdin.take());
        let _ = self.server.wait();
    }
}
