//! A real PostgreSQL from Debian's packages, in a temporary folder, for the time of a test.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use guillemet_testing::missing;
use guillemet_testing::wait::PATIENCE;

/// A server with one database, on a socket in its own folder.
pub struct Postgres {
    folder: tempfile::TempDir,
    child: Option<Child>,
    /// The port for TLS connections; `None` if it only listens on its socket.
    port: Option<u16>,
}

/// Returns the folder of the newest installed version's programs.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let number = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let newest = versions.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| number(path).is_some());
    newest.max_by_key(number).map(|path| path.join("bin")).filter(|path| path.join("initdb").exists())
}

/// Returns the user and group that PostgreSQL runs as if the tests run as root, because it refuses to run as root.
fn user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let fields: Vec<&str> = passwd.lines().find(|line| line.starts_with("postgres:")).unwrap().split(':').collect();
    Some((fields[2].parse().unwrap(), fields[3].parse().unwrap()))
}

impl Postgres {
    /// Starts a server. Returns `None` if PostgreSQL is not installed, and the test is then reported as skipped.
    pub fn start() -> Option<Self> {
        let programs = programs();
        if !missing::has(programs.is_some(), "PostgreSQL", "`sudo apt-get install postgresql`") {
            return None;
        }
        let programs = programs?;
        let folder = tempfile::tempdir().unwrap();
        if let Some((uid, gid)) = user() {
            std::os::unix::fs::chown(folder.path(), Some(uid), Some(gid)).unwrap();
        }
        let mut initdb = command(&programs.join("initdb"));
        initdb.args(["--auth=trust", "--username=guillemet", "--encoding=UTF8", "--locale=C", "--no-sync", "--pgdata"]);
        let made = initdb.arg(folder.path().join("data")).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut postgres = Self { folder, child: None, port: None };
        postgres.run();
        Some(postgres)
    }

    /// Runs the server and waits until it answers.
    pub fn run(&mut self) {
        let programs = programs().unwrap();
        let folder = self.folder.path();
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let mut postgres = command(&programs.join("postgres"));
        postgres.arg("-D").arg(folder.join("data")).arg("-k").arg(folder);
        match self.port {
            Some(port) => {
                postgres.args(["-c", "listen_addresses=127.0.0.1", "-c", "ssl=on", "-p"]).arg(port.to_string())
            }
            None => postgres.args(["-c", "listen_addresses="]),
        };
        self.child = Some(postgres.stdin(Stdio::null()).stderr(log).spawn().unwrap());
        let begun = Instant::now();
        loop {
            let mut ready = Command::new(programs.join("pg_isready"));
            ready.arg("-q").arg("-h").arg(folder).args(["-U", "guillemet", "-p"]);
            if ready.arg(self.port.unwrap_or(5432).to_string()).status().unwrap().success() {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{}", std::fs::read_to_string(folder.join("log")).unwrap());
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// Restarts the server with TLS. Returns its address and the path of its certificate.
    pub fn with_tls(&mut self) -> (String, PathBuf) {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let data = self.folder.path().join("data");
        for (name, text) in [("server.crt", made.cert.pem()), ("server.key", made.signing_key.serialize_pem())] {
            let path = data.join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            if let Some((uid, gid)) = user() {
                std::os::unix::fs::chown(&path, Some(uid), Some(gid)).unwrap();
            }
        }
        // PostgreSQL cannot choose a free port itself, so it gets one that was free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        self.port = Some(port);
        self.restart();
        (format!("postgres://guillemet@127.0.0.1:{port}/postgres?sslmode=require"), data.join("server.crt"))
    }

    /// Stops the server at once, without notice to its clients, and runs it again.
    pub fn restart(&mut self) {
        self.end();
        self.run();
    }

    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            // On SIGQUIT its children end too, and recovery finds everything that was committed in the write-ahead log.
            let _ = kill_process(Pid::from_child(&child), Signal::QUIT);
            let _ = child.wait();
        }
    }

    /// Dumps the whole database, as for a move to another server.
    pub fn dump(&self) -> Vec<u8> {
        let dumped = command(&programs().unwrap().join("pg_dump")).arg("--dbname").arg(self.url()).output().unwrap();
        assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
        dumped.stdout
    }

    /// Returns the address of the database on the socket.
    pub fn url(&self) -> String {
        let host = percent_encoding::utf8_percent_encode(
            self.folder.path().to_str().unwrap(),
            percent_encoding::NON_ALPHANUMERIC,
        );
        format!("postgres://guillemet@{host}/postgres")
    }

    /// Returns the folder with all of its files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.end();
    }
}

fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some((uid, gid)) = user() {
        command.uid(uid).gid(gid);
    }
    // PostgreSQL's user may not be able to read the current folder.
    command.current_dir("/");
    command
}
