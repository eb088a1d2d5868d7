//! A real account server, and machines whose daemons are in its account.

use std::io::BufReader;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use guillemet_account::client::AccountClient;
use guillemet_account::code::Creation;
use guillemet_wire::Hash;
use guillemet_wire::api_key::ApiKey;
use serde_json::{Value, json};

use super::super::home::{BenchHome, PROGRAM};
use super::super::load::{self, Process, Server, request};
use guillemet_testing::server::listening;

/// The longest time that anything may take.
const PATIENCE: Duration = Duration::from_secs(900);

/// Makes a folder on the disk that holds `target`.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder")
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

/// A running `guillemet account serve`, with default settings.
pub struct AccountServer {
    process: Process,
    url: String,
    pin: Hash,
    folder: tempfile::TempDir,
}

impl Server for AccountServer {
    fn pid(&self) -> u32 {
        self.process.pid()
    }
}

impl AccountServer {
    pub fn start() -> Self {
        let folder = folder();
        let mut command = Command::new(PROGRAM);
        command.args(["account", "serve", "--listen", "127.0.0.1:0", "--data"]).arg(folder.path());
        command.env("RUST_LOG", "error").stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the server starts");
        let output = &mut BufReader::new(child.stdout.take().expect("its output"));
        let (url, pin) = listening(output).expect("its output").expect("the server listens");
        Self { process: Process::new(child), url, pin: pin.parse().expect("a hash"), folder }
    }

    /// Returns a code for a new account.
    pub fn create_account(&self) -> String {
        let mut command = Command::new(PROGRAM);
        command.args(["account", "admin", "create-account", "--url", &self.url, "--data"]).arg(self.folder.path());
        let made = command.stdin(Stdio::null()).stderr(Stdio::null()).output().expect("it starts");
        assert!(made.status.success(), "no account was created");
        String::from_utf8_lossy(&made.stdout).trim().to_owned()
    }

    /// Returns a code for a new account, parsed.
    pub fn creation(&self) -> Creation {
        Creation::parse(&self.create_account()).expect("a code")
    }

    pub fn client(&self, key: &ApiKey) -> AccountClient {
        AccountClient::new(&self.url, Some(self.pin), Some(key)).expect("an address")
    }
}

/// A machine with a vault and a daemon.
pub struct Member {
    pub home: BenchHome,
    pub daemon: Process,
}

/// An open connection to a daemon.
pub struct Line(UnixStream);

impl Line {
    /// Sends a request, and returns the body of the response, whose status has to be 2xx.
    pub fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
        let answer = load::answer(&mut self.0, &request(method, path, body));
        let text = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(b"HTTP/1.1 2"), "{method} {path}: {text}");
        answer[load::head_len(&answer)..].to_vec()
    }

    pub fn json(&mut self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        serde_json::from_slice(&self.ask(method, path, &body)).expect("JSON")
    }
}

impl Member {
    /// Starts a machine with this many secrets. With none, it can still join an account.
    pub fn new(secrets: usize) -> Self {
        let home = BenchHome::at(folder(), secrets);
        let daemon = home.spawn();
        while UnixStream::connect(home.socket()).is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
        Self { home, daemon }
    }

    pub fn line(&self) -> Line {
        Line(UnixStream::connect(self.home.socket()).expect("the daemon listens"))
    }

    /// Brings the vault into a new account.
    pub fn create(&self, code: &str) {
        self.line().json("POST", "/v1/account", &json!({"code": code, "name": "office"}));
    }

    pub fn invite(&self) -> String {
        let invited = self.line().json("POST", "/v1/account/invitations", &Value::Null);
        invited["code"].as_str().expect("a code").to_owned()
    }

    /// Brings the vault into the account that the code is for.
    pub fn join(&self, code: &str) {
        self.line().json("POST", "/v1/account", &json!({"code": code, "name": "laptop"}));
    }

    /// Waits until the daemon is connected and knows an account with this many secrets.
    pub fn wait_until_it_has(&self, secrets: usize) {
        let (mut line, begin) = (self.line(), Instant::now());
        loop {
            let status = line.json("GET", "/v1/account", &Value::Null);
            let has = status["secrets"].as_u64().is_some_and(|has| has >= secrets as u64);
            if has && status["state"] == "connected" {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "it does not come: {status}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
