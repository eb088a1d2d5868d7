//! A real daemon in a temporary home, and an HTTP client for its real socket.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant, UNIX_EPOCH};

use guillemet_testing::wait::PATIENCE;
use serde_json::{Value, json};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_guillemet");

pub struct Guillemet {
    pub dir: tempfile::TempDir,
    /// The daemon's log level (`RUST_LOG`).
    pub log_level: &'static str,
    child: Option<Child>,
}

/// An answer to a request, with its whole body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    /// Returns the text of one field in each entry of `errors`.
    pub fn errors(&self, field: &str) -> Vec<String> {
        let errors = self.json()["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| error[field].as_str().unwrap_or_default().to_owned()).collect()
    }
}

impl Guillemet {
    /// Makes a home as `init` does, without templates and without a daemon. It is a copy of one whose daemon has
    /// compiled the built-in plugins, because compiling them takes longer than most tests.
    pub fn init() -> Self {
        Self::copy(prepared())
    }

    /// Makes a home with `init`, with keys of its own: two devices of an account cannot be copies of one home.
    pub fn init_anew() -> Self {
        let guillemet = Self::nowhere();
        assert!(guillemet.command(&["init"]).status.success());
        std::fs::remove_dir(guillemet.path("templates")).unwrap();
        guillemet
    }

    /// Makes an empty folder, without running `init`.
    pub fn nowhere() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), log_level: "trace", child: None }
    }

    /// Makes a home with copies of another home's files.
    pub fn copy(of: &Path) -> Self {
        let guillemet = Self::nowhere();
        copy(&of.join("."), guillemet.dir.path());
        guillemet
    }

    /// Makes a home with a running daemon.
    pub fn start() -> Self {
        let mut guillemet = Self::init();
        guillemet.run();
        guillemet
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs the daemon and waits until it reports that it is ready.
    pub fn run(&mut self) {
        assert!(self.try_run(&[]), "the daemon did not start: {}", self.log());
    }

    /// Runs the daemon, through another program if one is given. Returns whether the daemon reports that it is ready
    /// before it ends.
    pub fn try_run(&mut self, by_way_of: &[String]) -> bool {
        self.launch(by_way_of, &[], Stdio::null(), self.log_end())
    }

    /// Does the same as `try_run`, with more arguments and with standard input.
    pub fn try_run_with(&mut self, by_way_of: &[String], arguments: &[&str], input: Stdio) -> bool {
        self.launch(by_way_of, arguments, input, self.log_end())
    }

    /// Does the same as `try_run`, with standard error going elsewhere than to the file that `log` reads.
    pub fn try_run_logging_to(&mut self, by_way_of: &[String], stderr: Stdio) -> bool {
        self.launch(by_way_of, &[], Stdio::null(), stderr)
    }

    /// Opens the file that `log` reads, for appending.
    fn log_end(&self) -> Stdio {
        std::fs::OpenOptions::new().create(true).append(true).open(self.log_file()).unwrap().into()
    }

    fn launch(&mut self, by_way_of: &[String], arguments: &[&str], input: Stdio, stderr: Stdio) -> bool {
        let notify = self.dir.path().with_extension("notify");
        let _ = std::fs::remove_file(&notify);
        let ready = UnixDatagram::bind(&notify).unwrap();
        // The daemon may run as another user, who has to be able to write here.
        std::fs::set_permissions(&notify, std::fs::Permissions::from_mode(0o666)).unwrap();
        // The timeout is short, so that the end of a daemon is noticed.
        ready.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut words = by_way_of.iter().map(String::as_str).chain([PROGRAM]);
        let mut child = Command::new(words.next().unwrap())
            .args(words)
            .arg("--home")
            .arg(self.dir.path())
            .arg("daemon")
            .args(arguments)
            .env("NOTIFY_SOCKET", &notify)
            .env("RUST_LOG", self.log_level)
            // The cache is shared with `command_by`: modules that the check at the start compiles for one home serve
            // the others.
            .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
            .stdin(input)
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        let started = loop {
            let mut message = [0; 256];
            if let Ok(len) = ready.recv(&mut message) {
                assert!(message[..len].starts_with(b"READY=1"));
                break true;
            } else if child.try_wait().unwrap().is_some() {
                break false;
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                panic!("the daemon neither starts nor ends: {}", self.log());
            }
        };
        let _ = std::fs::remove_file(&notify);
        self.child = started.then_some(child);
        started
    }

    /// Returns the path of the log, which is outside of the home because no file in the home may contain a value.
    fn log_file(&self) -> PathBuf {
        self.dir.path().with_extension("log")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Ends the daemon with SIGKILL and waits for it.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid() as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Sends SIGTERM. Returns whether the daemon ended with status 0.
    pub fn stop(&mut self) -> bool {
        self.signal(rustix::process::Signal::TERM);
        self.child.take().unwrap().wait().unwrap().success()
    }

    /// Waits until the daemon has ended after a signal.
    pub fn ends(&mut self) {
        self.child.take().unwrap().wait().unwrap();
    }

    /// Runs a command of the program on this home.
    pub fn command(&self, arguments: &[&str]) -> Output {
        self.command_with(arguments, b"")
    }

    pub fn command_with(&self, arguments: &[&str], input: &[u8]) -> Output {
        self.command_by(&[], arguments, input)
    }

    /// Runs a command through another program if one is given, with `input` on standard input.
    pub fn command_by(&self, by_way_of: &[String], arguments: &[&str], input: &[u8]) -> Output {
        let mut words = by_way_of.iter().map(String::as_str).chain([PROGRAM]);
        let mut child = Command::new(words.next().unwrap())
            .args(words)
            .arg("--home")
            .arg(self.dir.path())
            .args(arguments)
            .env_remove("RUST_LOG")
            // Checks keep what they compile there, and not in the cache of the user who runs the tests.
            .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The pipe is closed if the command ends without reading.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    pub fn write(&self, template: &str, text: &str) {
        let path = self.path("templates").join(template);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Writes the templates of the demo, one for each built-in feature.
    pub fn write_examples(&self) {
        for template in [
            "cal-com/frontdesk.toml",
            "custom-action/crm-lookup.json",
            "mcp-server/calendar.jsonc",
            "sip-trunk/carrier.yaml",
        ] {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates").join(template);
            self.write(template, &std::fs::read_to_string(file).unwrap());
        }
    }

    pub fn add(&self, name: &str, value: &str) {
        let answer = self.post("/v1/secrets", &json!({"name": name, "value": value}));
        assert_eq!(answer.status, 201, "{}", answer.text());
    }

    pub fn set_enabled(&self, name: &str, enabled: bool) -> Answer {
        self.ask("PATCH", &format!("/v1/secrets/{name}"), &[], json!({"enabled": enabled}).to_string().as_bytes())
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    /// Returns the answer, or `None` if the daemon does not answer.
    pub fn get_if_alive(&self, path: &str) -> Option<Answer> {
        try_ask(&self.path("run/guillemet.sock"), "GET", path, &[], b"").ok()
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, &[], body.to_string().as_bytes())
    }

    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        try_ask(&self.path("run/guillemet.sock"), method, path, headers, body).unwrap()
    }

    /// Returns the process ids of the daemon's children, which are its planners.
    pub fn planners(&self) -> Vec<u32> {
        let pid = self.pid();
        let children = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flat_map(|task| {
            let path = task.unwrap().path().join("children");
            std::fs::read_to_string(path).unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        });
        children.map(|pid| pid.parse().unwrap()).collect()
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// Returns a home as `init` makes it, except that the built-in plugins are compiled in its cache. The first test of a
/// build makes it, and the others wait.
fn prepared() -> &'static Path {
    static PREPARED: OnceLock<PathBuf> = OnceLock::new();
    PREPARED.get_or_init(|| {
        let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let built = std::fs::metadata(PROGRAM).unwrap().modified().unwrap().duration_since(UNIX_EPOCH).unwrap();
        let path = tmp.join(format!("home-{}", built.as_nanos()));
        let lock = std::fs::File::create(tmp.join("home.lock")).unwrap();
        lock.lock().unwrap();
        if !path.exists() {
            let former = std::fs::read_dir(tmp).unwrap().map(|entry| entry.unwrap().path());
            for former in former.filter(|path| path.is_dir() && path.to_string_lossy().contains("/home-")) {
                std::fs::remove_dir_all(former).unwrap();
            }
            let fresh = Guillemet::init_anew();
            // What it records is not in the home that is copied.
            let mut compiling = Guillemet::copy(fresh.dir.path());
            compiling.write_examples();
            compiling.run();
            let listed = compiling.get("/v1/templates").json();
            assert_eq!(listed["count"], 4, "{listed}");
            for template in listed["items"].as_array().unwrap() {
                let shown = compiling.get(&format!("/v1/templates/{}", template["id"].as_str().unwrap()));
                assert_eq!(shown.status, 200, "{}", shown.text());
            }
            assert!(compiling.stop());
            copy(&compiling.path("cache"), fresh.dir.path());
            let draft = path.with_extension("draft");
            let _ = std::fs::remove_dir_all(&draft);
            copy(fresh.dir.path(), &draft);
            std::fs::rename(draft, &path).unwrap();
        }
        path
    })
}

impl Drop for Guillemet {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_file(self.log_file());
    }
}

/// Sends one request on its own connection and reads the answer.
pub fn try_ask(
    socket: &Path,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Answer> {
    receive(send(socket, method, path, headers, body)?)
}

/// Sends a request, which is the first half of `try_ask`.
pub fn send(
    socket: &Path,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut head =
        format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    // If the body is refused half-way, the connection may be closed already. The answer is there all the same.
    let _ = stream.write_all(body);
    Ok(stream)
}

/// Reads an answer, which is the second half of `try_ask`. Fails if the body is not complete.
pub fn receive(stream: impl Read) -> std::io::Result<Answer> {
    let answer = receive_head(stream)?;
    let announced = answer.headers.get("content-length").and_then(|len| len.parse::<usize>().ok()).unwrap_or(0);
    if answer.body.len() < announced {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer)
}

/// Reads an answer whose body may be missing although it is announced.
pub fn receive_head(mut stream: impl Read) -> std::io::Result<Answer> {
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes)
        && bytes.is_empty()
    {
        return Err(error);
    }
    let cut_off = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(cut_off)?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).ok_or_else(cut_off)?;
    let headers: BTreeMap<String, String> =
        lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.into(), value.into())).collect();
    let body = bytes.split_off(end + 4);
    Ok(Answer { status, headers, body })
}
