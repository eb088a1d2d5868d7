//! Homes of a given size, and daemons in them.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use guillemet_base::home::Home;
use guillemet_base::permissions::TrustedHome;
use guillemet_secret::record::Secret;
use guillemet_vault::keys::UnlockWith;
use guillemet_vault::store::Vault;

use super::load::{self, Process, request};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_guillemet");

/// The path and text of each example template.
const EXAMPLES: [(&str, &str); 4] = [
    ("cal-com/frontdesk.toml", include_str!("../../templates/cal-com/frontdesk.toml")),
    ("custom-action/crm-lookup.json", include_str!("../../templates/custom-action/crm-lookup.json")),
    ("mcp-server/calendar.jsonc", include_str!("../../templates/mcp-server/calendar.jsonc")),
    ("sip-trunk/carrier.yaml", include_str!("../../templates/sip-trunk/carrier.yaml")),
];
/// The secrets that the rendered example references.
const NAMED: [&str; 3] = ["calendar-token-production", "calendar-tenant-production", "calendar-workspace-production"];

/// A home with secrets and templates, which is removed on drop.
pub struct BenchHome(tempfile::TempDir);

impl BenchHome {
    /// Makes a home with this many secrets, and this many templates besides the examples.
    pub fn new(secrets: usize, templates: usize) -> Self {
        // In memory if possible, because the load of other programs on the disk would be measured too.
        let shared = Path::new("/dev/shm");
        let dir = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() };
        let bench = Self::at(dir.expect("a folder"), secrets.max(NAMED.len()));
        for number in 0..templates {
            bench.write_template(&format!("template-{number}"), number);
        }
        bench
    }

    /// Makes a home with this many secrets in a given folder. The first secrets are those in `NAMED`.
    pub fn at(folder: tempfile::TempDir, secrets: usize) -> Self {
        let bench = Self(folder);
        let home = Home::at(bench.path());
        let key = || UnlockWith::KeyFile(home.key_file());
        let new_key = key().for_new().expect("a key file");
        guillemet_daemon::init(&TrustedHome::check(&home, false).expect("a home of ours"), &new_key).expect("a home");
        for (name, text) in EXAMPLES {
            let path = home.templates().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("a template");
        }
        let (mut vault, _) = Vault::open(&home, key()).expect("a vault");
        let others = (0..).map(|number| format!("provider-{number}-production"));
        let names = NAMED.into_iter().map(str::to_owned).chain(others).take(secrets);
        let made = names.map(|name| {
            let value = format!("sk_live_{:032x}", name.len() * 7919);
            let secret = Secret::new(name.parse().expect("a name"), &value, true, 1_700_000_000_000);
            secret.expect("a secret")
        });
        let made: Vec<Secret> = made.collect();
        for some in made.chunks(1_000) {
            vault.put_all(&some.iter().collect::<Vec<_>>(), None).expect("kept");
        }
        bench
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn socket(&self) -> PathBuf {
        Home::at(self.path()).socket()
    }

    /// Writes templates that together reference ten times as many secrets, each once.
    pub fn write_references(&self, templates: usize) {
        for number in 0..templates {
            let headers = (0..10).map(|header| {
                format!("X-{header} = \"<< secret \"provider-{}-production\" >>\"\n", number * 10 + header)
            });
            let text = format!(
                "name = \"calendar-{number}\"\nurl = \"https://mcp.example.com/mcp\"\n[headers]\n{}",
                headers.collect::<String>()
            );
            let path = self.path().join(format!("templates/mcp-server/references-{number}.toml"));
            std::fs::write(path, text).expect("a template");
        }
    }

    /// Writes a template with one secret. A different `number` gives a different text.
    pub fn write_template(&self, name: &str, number: usize) {
        let text = format!(
            "name = \"calendar-{number}\"\nurl = \"https://mcp.example.com/mcp/{number}\"\n\n[headers]\n\
             Authorization = \"Bearer << secret \"calendar-token-production\" >>\"\n"
        );
        let path = self.path().join(format!("templates/mcp-server/{name}.toml"));
        // Complete or not at all, because the daemon may read it at any moment.
        let draft = path.with_extension("draft");
        std::fs::write(&draft, text).and_then(|()| std::fs::rename(draft, path)).expect("a template");
    }

    /// Starts the daemon without waiting for it.
    pub fn spawn(&self) -> Process {
        let mut command = Command::new(PROGRAM);
        command.arg("--home").arg(self.path()).arg("daemon").stdin(Stdio::null()).stderr(Stdio::null());
        Process::new(command.spawn().expect("the daemon starts"))
    }

    /// Starts the daemon and waits until it has rendered once.
    pub fn start(&self) -> Process {
        let daemon = self.spawn();
        self.wait_for(&request("GET", super::RENDER, b""));
        daemon
    }

    /// Waits for the socket, and for a response with status 200.
    pub fn wait_for(&self, request: &[u8]) {
        // A planner of a daemon that was just killed can hold its socket for another moment.
        while !self.answers().unwrap_or(false) {
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
        let answer = load::ask(&self.socket(), request);
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }

    /// Returns whether a daemon answers.
    fn answers(&self) -> std::io::Result<bool> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.write_all(&request("GET", "/healthz", b""))?;
        Ok(stream.read(&mut [0; 1024])? > 0)
    }
}
