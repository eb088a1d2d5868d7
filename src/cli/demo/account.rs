//! The demo's account: a server, a second machine, and a rotation that reaches the other machine.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::Value;

use super::parts::Daemon;
use super::{ensure, first, render, secrets, show_refusal};
use crate::cli::temporary::TemporaryHome;
use crate::cli::{Done, Failure, client, output};
use guillemet_api::account::{AccountStatus, Invitation, JoinAccount};
use guillemet_api::error::ErrorBody;
use guillemet_api::secrets::{ChangedSecret, UpdateSecret};
use guillemet_base::home::Home;

/// The longest time the other machine may take to receive a new value.
const CROSSING: Duration = Duration::from_secs(10);
const ROTATED: &str = "calendar-token-production";
const FRESH: &str = "rotated 'while' \"both\" $run<< >>";

/// An account server, run by this same program.
struct AccountServerProcess {
    child: Child,
    url: String,
}

impl AccountServerProcess {
    fn start(data: &Path) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["account", "serve", "--listen", "127.0.0.1:0", "--data"]).arg(data);
        if std::env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", "warn");
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let url = line.strip_prefix("listening on ").and_then(|rest| rest.split(',').next()).unwrap_or_default();
        let server = Self { child, url: url.trim().to_owned() };
        ensure(!server.url.is_empty(), "the account's server did not start")?;
        Ok(server)
    }

    /// Makes an account and returns the code for its first device.
    fn create_account(&self, data: &Path) -> Result<String, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["account", "admin", "create-account", "--url", &self.url, "--data"]).arg(data);
        let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output()?;
        ensure(output.status.success(), "no account was created")?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

impl Drop for AccountServerProcess {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

/// Puts the demo's vault into an account, adds a second machine, and shows a rotation, a refused deletion, and the
/// server's files.
pub fn show(office: &Home) -> Done {
    let (folder, second) = (TemporaryHome::new("demo")?, TemporaryHome::new("demo")?);
    let server = AccountServerProcess::start(folder.path())?;
    let code = server.create_account(folder.path())?;
    join(office, &code, "office")?;

    let laptop = Home::at(second.path());
    guillemet_daemon::init(
        &guillemet_base::permissions::TrustedHome::check(&laptop, false)?,
        &guillemet_vault::keys::UnlockWith::KeyFile(laptop.key_file()).for_new()?,
    )?;
    super::templates::write(&laptop)?;
    let _daemon = Daemon::start(&laptop)?;
    let invited: Invitation = client::fetch(office, Method::POST, "/v1/account/invitations")?.read()?;
    join(&laptop, &invited.code, "laptop")?;
    let count = secrets(&laptop, "&status=active")?.len();
    ensure(count == super::values().len(), "the second machine does not have every secret")?;
    output::line(&format!(
        "   an account server at {}, and a second machine, `laptop`: it has all {count} secrets",
        server.url
    ));

    let crossed = rotate(office, &laptop)?;
    output::line(&format!(
        "   {ROTATED} was rotated on `office`, and `laptop` rendered the new value {:.1} ms after that was \
         acknowledged",
        crossed.as_secs_f64() * 1e3
    ));
    for home in [office, &laptop] {
        let status: AccountStatus = client::get(home, "/v1/account")?;
        let account = status.account.ok_or_else(|| Failure::new("the demo failed: a machine is in no account"))?;
        let (seq, words) = (output::or_dash(account.seq), output::or_dash(account.words));
        output::line(&format!("   {}: {}, head {seq}: {words}", account.device_name, status.state));
    }
    check_guarded(office)?;
    check_server_is_blind(folder.path())
}

/// Makes a machine part of the account of a code.
fn join(home: &Home, code: &str, name: &str) -> Result<AccountStatus, Failure> {
    client::post(home, "/v1/account", &JoinAccount::new(code, name, None))
}

/// Rotates a secret on one machine. Returns the time from the acknowledgment to the other machine's first render of the
/// new value.
fn rotate(office: &Home, laptop: &Home) -> Result<Duration, Failure> {
    let rendered = || -> Result<bool, Failure> {
        let config: Value = serde_json::from_slice(&render(laptop, "mcp-server/calendar", "mcp-json")?)?;
        let header = config["mcpServers"].as_object().and_then(|servers| servers.values().next());
        Ok(header.is_some_and(|server| server["headers"]["Authorization"] == format!("Bearer {FRESH}")))
    };
    ensure(!rendered()?, "the new value was there before it was set")?;
    let path = format!("/v1/secrets/{ROTATED}");
    let _: ChangedSecret =
        client::patch(office, &path, &UpdateSecret { value: Some(FRESH), ..UpdateSecret::default() })?;
    let acknowledged = Instant::now();
    while !rendered()? {
        ensure(acknowledged.elapsed() < CROSSING, "the rotation did not sync")?;
    }
    Ok(acknowledged.elapsed())
}

/// Checks that `office`, with its own template removed, still cannot delete a secret that `laptop` references.
fn check_guarded(office: &Home) -> Done {
    let template = office.templates().join("mcp-server/calendar.jsonc");
    std::fs::remove_file(&template)?;
    let response = loop {
        let response = client::call(office, Method::DELETE, &format!("/v1/secrets/{ROTATED}"))?;
        // A template that has just disappeared may come back; the daemon's answer says when to ask again.
        let error = response.error().into_iter().flat_map(|error| error.errors);
        match error.filter_map(|entry| entry.retry_after_ms).next() {
            Some(wait) => std::thread::sleep(Duration::from_millis(wait)),
            None => break response,
        }
    };
    let body: ErrorBody = response.read()?;
    ensure(
        response.status == 409 && first(&body).device.as_deref() == Some("laptop"),
        "a secret that another machine references was deleted",
    )?;
    show_refusal(office, &body);
    Ok(())
}

/// Checks that the server's files contain no name, value or template.
fn check_server_is_blind(folder: &Path) -> Done {
    for entry in std::fs::read_dir(folder)? {
        let bytes = std::fs::read(entry?.path())?;
        for text in [ROTATED, FRESH, "mcp-server/calendar", "laptop"] {
            let found = bytes.windows(text.len()).any(|window| window == text.as_bytes());
            ensure(!found, "the account's server knows a name, value or template")?;
        }
    }
    output::line("   the server's files contain no name, no value, no template");
    Ok(())
}
