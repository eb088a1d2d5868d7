//! How a daemon and its commands find each other: homes that share a runtime folder, sockets that vanish while the
//! daemon runs, `GUILLEMET_SOCKET`, and a command's message if it finds no daemon.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use crate::support::daemon::{Guillemet, PROGRAM, receive, try_ask};
use guillemet_testing::wait::{PATIENCE, until_holds};
use rustix::fs::{CWD, FlockOperation, RenameFlags, fcntl_lock, renameat_with};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Users of one machine whose sessions share a runtime folder. Each has a folder under `HOME`.
struct Machine(tempfile::TempDir);

/// The output and exit status of a command.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

/// A running daemon and its log.
struct Daemon {
    child: Child,
    log: mpsc::Receiver<String>,
}

impl Machine {
    fn new(users: &[&str]) -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        fs::create_dir(machine.path("run")).unwrap();
        for user in users {
            fs::create_dir(machine.path(user)).unwrap();
            assert_eq!(machine.run(user, None, &["init"], "").code, Some(0));
        }
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn data(&self, user: &str) -> PathBuf {
        self.path(user).join(".local/share/guillemet")
    }

    fn socket(&self) -> PathBuf {
        self.path("run/guillemet/guillemet.sock")
    }

    fn command(&self, user: &str, socket: Option<&Path>, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        // No variable of the user who runs the tests is passed on.
        command.args(arguments).env_clear().env("HOME", self.path(user)).env("XDG_RUNTIME_DIR", self.path("run"));
        if let Some(socket) = socket {
            command.env("GUILLEMET_SOCKET", socket);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, user: &str, socket: Option<&Path>, arguments: &[&str], input: &str) -> Ran {
        let mut child = self.command(user, socket, arguments).spawn().unwrap();
        // A command that ends without reading closes the pipe.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Starts a daemon that is expected to fail.
    fn refused_daemon(&self, user: &str, socket: Option<&Path>, arguments: &[&str]) -> Ran {
        let mut child = self.command(user, socket, arguments).arg("daemon").stdin(Stdio::null()).spawn().unwrap();
        let mut err = String::new();
        for line in BufReader::new(child.stderr.take().unwrap()).lines() {
            err += &(line.unwrap() + "\n");
            if err.contains("ready") {
                child.kill().unwrap();
            }
        }
        Ran { code: child.wait().unwrap().code(), out: String::new(), err }
    }

    /// Starts a daemon, and returns when it reports that it is ready.
    fn daemon(&self, user: &str, socket: Option<&Path>) -> Daemon {
        let mut child = self.command(user, socket, &["daemon"]).spawn().unwrap();
        let (lines, log) = mpsc::channel();
        let reader = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in reader.lines() {
                let _ = lines.send(line.unwrap());
            }
        });
        let daemon = Daemon { child, log };
        daemon.says("ready");
        daemon
    }
}

impl Daemon {
    /// Waits until the log contains a text, and returns that line.
    fn says(&self, text: &str) -> String {
        loop {
            let line = self.log.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("it does not say `{text}`"));
            if line.contains(text) {
                return line;
            }
        }
    }

    fn stop(mut self) -> Vec<String> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
        self.log.iter().collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection that stays open, as agents keep one.
struct Kept(UnixStream);

impl Kept {
    fn to(socket: &Path) -> Self {
        let kept = UnixStream::connect(socket).unwrap();
        kept.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(kept)
    }

    fn get(&mut self, path: &str) -> String {
        self.0.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).unwrap();
        let mut bytes = Vec::new();
        loop {
            let mut piece = [0; 4096];
            let len = self.0.read(&mut piece).unwrap();
            assert!(len > 0, "the daemon closed the connection");
            bytes.extend_from_slice(&piece[..len]);
            if let Ok(answer) = receive(bytes.as_slice()) {
                return answer.text();
            }
        }
    }

    fn warnings(&mut self) -> Vec<String> {
        let status: Value = serde_json::from_str(&self.get("/v1/status")).unwrap();
        let warnings = status["warnings"].as_array().unwrap().iter();
        warnings.map(|warning| warning.as_str().unwrap().to_owned()).filter(|text| text.contains("socket")).collect()
    }
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o777
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn two_homes_with_one_runtime_folder_never_take_each_others_socket() {
    let machine = Machine::new(&["ann", "ben"]);
    let of_ann = machine.daemon("ann", None);
    assert_eq!(machine.run("ann", None, &["secret", "add", "only-anns"], "value").code, Some(0));
    let bound = inode(&machine.socket());

    let refused = machine.refused_daemon("ben", None, &[]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let (pid, data) = (format!("pid {}", of_ann.child.id()), machine.data("ann"));
    for word in [pid.as_str(), text(&data), "--home", "GUILLEMET_SOCKET", "XDG_RUNTIME_DIR"] {
        assert!(refused.err.contains(word), "{word}: {}", refused.err);
    }
    // Values meant for another home are not even sent.
    for (arguments, input) in
        [(&["secret", "add", "meant-for-ben"][..], "value"), (&["secret", "list"], ""), (&["status"], "")]
    {
        let refused = machine.run("ben", None, arguments, input);
        assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""), "{refused:?}");
        for word in ["another home", pid.as_str(), text(&data), "Nothing was sent"] {
            assert!(refused.err.contains(word), "{word}: {}", refused.err);
        }
    }
    // The same holds for a user who never made a home here.
    fs::create_dir(machine.path("new")).unwrap();
    assert!(machine.run("new", None, &["status"], "").err.contains("another home"));
    let listed = machine.run("ann", None, &["secret", "list"], "");
    assert!(listed.out.contains("only-anns") && !listed.out.contains("meant-for-ben"), "{listed:?}");
    assert_eq!(inode(&machine.socket()), bound);

    // The same home through another path.
    symlink(machine.path("ann"), machine.path("link")).unwrap();
    assert_eq!(machine.run("link", None, &["secret", "show", "only-anns"], "").code, Some(0));

    assert!(of_ann.stop().iter().all(|line| !line.contains("WARN")));
    assert!(!machine.socket().exists());
    let of_ben = machine.daemon("ben", None);
    assert_eq!(machine.run("ben", None, &["secret", "add", "meant-for-ben"], "value").code, Some(0));
    assert!(machine.run("ann", None, &["status"], "").err.contains("another home"));
    of_ben.stop();
}

#[test]
fn a_chosen_socket_is_asked_whatever_home_it_serves() {
    let machine = Machine::new(&["ann", "ben"]);
    let own = machine.path("own/of-ben.sock");
    let (of_ann, of_ben) = (machine.daemon("ann", None), machine.daemon("ben", Some(&own)));
    assert_eq!((mode(&machine.path("own")), mode(&own)), (0o700, 0o600));
    let home = |user: &str, socket: Option<&Path>| {
        let status = machine.run(user, socket, &["status", "--json"], "");
        let status: Value = serde_json::from_str(&status.out).unwrap_or_else(|_| panic!("{status:?}"));
        PathBuf::from(status["home"].as_str().unwrap())
    };
    assert_eq!(home("ann", None), machine.data("ann"));
    assert_eq!(home("ann", Some(&own)), machine.data("ben"));
    assert_eq!(home("ben", Some(&own)), machine.data("ben"));
    assert_eq!(home("ben", Some(&machine.socket())), machine.data("ann"));
    // A flag overrides the variable.
    let flag = machine.run("ann", Some(&own), &["--home", text(&machine.data("ann")), "status"], "");
    assert!(flag.err.contains("is running, but not listening at"), "{flag:?}");

    // Lines of templates are not read from another home, and no template is written into one.
    let write = |user: &str, name: &str, text: &str| {
        let folder = machine.data(user).join("templates/mcp-server");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), text).unwrap();
    };
    for user in ["ann", "ben"] {
        write(user, "x.toml", "name = \"x\"\nurl = \"<< secret 'absent' >>\"\n");
        write(user, "y.toml", "name = \"<< secret 5 >>\"\n");
    }
    let render = |user: &str, socket: &Path| machine.run(user, Some(socket), &["render", "mcp-server/x"], "").err;
    let (near, far) = (render("ben", &own), render("ann", &own));
    assert!(near.contains("mcp-server/x:2:") && near.contains("2 | url"), "{near}");
    assert!(far.contains("mcp-server/x:2:") && !far.contains("2 | url"), "{far}");
    let listed = |user: &str| machine.run(user, Some(&own), &["template", "list"], "").err;
    let (near, far) = (listed("ben"), listed("ann"));
    assert!(near.contains("mcp-server/y:1:") && near.contains("1 | name"), "{near}");
    assert!(far.contains("mcp-server/y:1:") && !far.contains("1 | name"), "{far}");
    let adopt = ["adopt", "--feature", "cal-com", "--name", "desk", "-", "--yes"];
    let refused = machine.run("ann", Some(&own), &adopt, "CAL_API_KEY=cal_live_0123456789abcdef\n");
    assert!(refused.code == Some(1) && refused.err.contains("GUILLEMET_SOCKET"), "{refused:?}");

    // Each daemon removes only its own files.
    of_ben.stop();
    assert!(!own.exists() && machine.socket().exists());
    let absent = machine.run("ann", Some(&own), &["status"], "");
    assert!(absent.err.contains(text(&own)) && absent.err.contains("(from GUILLEMET_SOCKET)"), "{absent:?}");
    of_ann.stop();

    for (socket, code) in [("", 0), ("own/of-ben.sock", 1)] {
        let ran = machine.run("ann", Some(Path::new(socket)), &["paths"], "");
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert_eq!(ran.err.contains("absolute path"), code == 1, "{ran:?}");
    }
    // A folder that has other uses keeps its mode.
    let shared = machine.path("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, Permissions::from_mode(0o755)).unwrap();
    machine.daemon("ann", Some(&shared.join("x.sock"))).stop();
    assert_eq!(mode(&shared), 0o755);
    fs::set_permissions(&shared, Permissions::from_mode(0o757)).unwrap();
    let refused = machine.refused_daemon("ann", Some(&shared.join("x.sock")), &[]);
    assert!(refused.code == Some(1) && refused.err.contains("chmod o-w"), "{refused:?}");
}

#[test]
fn a_socket_that_was_removed_is_bound_again() {
    let mut guillemet = Guillemet::start();
    let (run, socket) = (guillemet.path("run"), guillemet.path("run/guillemet.sock"));
    let lock = guillemet.path("run/guillemet.sock.lock");
    let mut kept = Kept::to(&socket);
    guillemet.add("kept", "value");
    let answers = || guillemet.get_if_alive("/v1/secrets/kept").is_some_and(|answer| answer.status == 200);
    for (round, remove) in [&run, &socket, &lock].into_iter().enumerate() {
        if remove.is_dir() {
            fs::remove_dir_all(remove).unwrap()
        } else {
            fs::remove_file(remove).unwrap()
        }
        // While the socket is missing, no second daemon starts in its place.
        let second = guillemet.command(&["daemon"]);
        let said = String::from_utf8_lossy(&second.stderr).into_owned();
        assert!(!second.status.success() && said.contains(&guillemet.pid().to_string()), "{said}");
        until_holds("the socket is bound again", || lock.exists() && answers());
        assert_eq!([mode(&run), mode(&socket), mode(&lock)], [0o700, 0o600, 0o600]);
        // Existing connections stay. A missing lock alone is made again without a new socket.
        let rebinds = format!("guillemet_socket_rebinds_total {}", (round + 1).min(2));
        let metrics = kept.get("/metrics");
        assert!(metrics.lines().any(|line| line == rebinds), "{rebinds}: {metrics}");
    }
    assert_eq!(guillemet.log().matches("the socket was removed and created again").count(), 2);
    assert!(guillemet.stop());
    assert!(!socket.exists());
    guillemet.run();
    assert_eq!(guillemet.get("/v1/secrets/kept").status, 200);
}

#[test]
fn a_socket_that_cannot_be_bound_again_is_told_once_and_tried_again() {
    let guillemet = Guillemet::start();
    let run = guillemet.path("run");
    let mut kept = Kept::to(&guillemet.path("run/guillemet.sock"));
    assert!(kept.warnings().is_empty());
    // In one step the folder is replaced by one that others can write, and the daemon does not use it.
    let other = guillemet.path("other");
    fs::create_dir(&other).unwrap();
    fs::set_permissions(&other, Permissions::from_mode(0o777)).unwrap();
    renameat_with(CWD, &run, CWD, &other, RenameFlags::EXCHANGE).unwrap();
    until_holds("status warns", || !kept.warnings().is_empty());
    let [warning] = kept.warnings().try_into().unwrap();
    assert!(warning.contains("chmod 700") && warning.contains(text(&run)), "{warning}");
    let status = guillemet.command(&["status"]);
    let said = String::from_utf8_lossy(&status.stderr).into_owned();
    let expected = format!("(pid {}) is running, but not listening at", guillemet.pid());
    assert!(!status.status.success() && said.contains(&expected), "{said}");

    fs::set_permissions(&run, Permissions::from_mode(0o700)).unwrap();
    until_holds("the socket is bound again", || guillemet.get_if_alive("/healthz").is_some());
    until_holds("the warning is gone", || kept.warnings().is_empty());
    assert_eq!(guillemet.log().matches("clients cannot connect").count(), 1, "{}", guillemet.log());
}

#[test]
fn a_socket_behind_which_another_daemon_may_live_is_left_alone() {
    let guillemet = Guillemet::start();
    let (socket, lock) = (guillemet.path("run/guillemet.sock"), guillemet.path("run/guillemet.sock.lock"));
    let mut kept = Kept::to(&socket);
    // As another daemon would do in a folder whose files a cleaner removed. It takes the lock first, because its holder
    // may bind.
    let foreign_lock = |path: &Path| {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).unwrap();
        fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        (&file).write_all(b"17\n/a/foreign/home").unwrap();
        file
    };
    let prepared = guillemet.path("run/prepared");
    let held: File = foreign_lock(&prepared);
    fs::rename(&prepared, &lock).unwrap();
    let bind = |name: &str| {
        let listener = UnixListener::bind(guillemet.path(name)).unwrap();
        fs::rename(guillemet.path(name), &socket).unwrap();
        listener
    };
    let _foreign = bind("run/foreign.sock");
    let bound = inode(&socket);
    until_holds("status warns", || !kept.warnings().is_empty());
    let [warning] = kept.warnings().try_into().unwrap();
    assert!(warning.contains("pid 17, home /a/foreign/home"), "{warning}");
    assert_eq!(inode(&socket), bound);

    // The lock is released, so the socket is now a leftover.
    drop(held);
    until_holds("the socket is bound again", || {
        // For a moment there is none: the leftover is removed first.
        let is_new = fs::metadata(&socket).is_ok_and(|metadata| metadata.ino() != bound);
        is_new && try_ask(&socket, "GET", "/healthz", &[], b"").is_ok()
    });
    until_holds("the warning is gone", || kept.warnings().is_empty());

    // At its end, the daemon does not remove a socket that is not its own.
    let _held: File = foreign_lock(&prepared);
    fs::rename(&prepared, &lock).unwrap();
    let _foreign = bind("run/foreign.sock");
    let bound = inode(&socket);
    let mut guillemet = guillemet;
    assert!(guillemet.stop());
    assert_eq!(inode(&guillemet.path("run/guillemet.sock")), bound);
}

/// Binds a socket, and becomes another program with it, as systemd does.
const ACTIVATE: &str = "import os, socket, sys
listening = socket.socket(socket.AF_UNIX)
listening.bind(sys.argv[1])
listening.listen()
os.dup2(listening.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')
os.execv(sys.argv[2], sys.argv[2:])";

#[test]
fn a_socket_of_a_service_manager_is_used_and_left() {
    let (mut first, mut second) = (Guillemet::init(), Guillemet::init());
    fs::create_dir(first.path("run")).unwrap();
    fs::set_permissions(first.path("run"), Permissions::from_mode(0o700)).unwrap();
    symlink(first.path("run"), second.path("run")).unwrap();
    let socket = first.path("run/guillemet.sock");
    let activate = ["python3", "-c", ACTIVATE, text(&socket)].map(str::to_owned);
    assert!(first.try_run(&activate), "{}", first.log());
    let bound = inode(&socket);
    assert_eq!(first.get("/v1/status").json()["home"], text(first.dir.path()));
    assert!(first.command(&["status"]).status.success());

    // A daemon of another home does not replace it.
    assert!(!second.try_run(&[]));
    assert!(
        second.log().contains(&format!("pid {}, home {}", first.pid(), text(first.dir.path()))),
        "{}",
        second.log()
    );
    let refused = second.command_with(&["secret", "add", "name"], b"value");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("serves another home"), "{said}");
    assert!(first.stop());
    assert_eq!(inode(&socket), bound);
}

#[test]
fn a_command_without_a_daemon_says_what_is_true_for_this_home() {
    let machine = Machine::new(&["ann"]);
    let data = machine.data("ann");
    let status = machine.run("ann", None, &["status"], "");
    let expected = format!("error: no daemon is running for {}; start it with `guillemet daemon`\n", text(&data));
    assert_eq!((status.code, status.err), (Some(1), expected));

    // The files of a killed daemon do not count as a daemon.
    let mut daemon = machine.daemon("ann", None);
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    assert!(machine.socket().exists());
    let status = machine.run("ann", None, &["status"], "");
    assert!(status.err.contains("no daemon is running for") && status.err.contains("`guillemet daemon`"), "{status:?}");

    // The daemon runs, but listens where this command does not look.
    let elsewhere = machine.daemon("ann", Some(&machine.path("run/other.sock")));
    let status = machine.run("ann", None, &["status"], "");
    let expected = format!("(pid {}) is running, but not listening at", elsewhere.child.id());
    assert!(status.err.contains(&expected), "{status:?}");
    elsewhere.stop();

    let home = machine.path("it's new");
    let none = machine.run("ann", None, &["--home", text(&home), "secret", "list"], "");
    let expected = format!("`guillemet --home '{}' init`", text(&home).replace('\'', r"'\''"));
    assert!(none.err.contains("there is no vault in") && none.err.contains(&expected), "{none:?}");
    assert_eq!(machine.refused_daemon("ann", None, &["--home", text(&home)]).err, none.err);

    let long = machine.path(&"long".repeat(30));
    for (arguments, socket, word) in [
        (&["--home", text(&long), "status"][..], None, "choose a shorter --home"),
        (&["status"], Some(long.as_path()), "set GUILLEMET_SOCKET to a shorter path"),
    ] {
        let refused = machine.run("ann", socket, arguments, "");
        assert!(refused.err.contains("107") && refused.err.contains(word), "{refused:?}");
    }
    assert_eq!(machine.run("ann", None, &["--home", text(&long), "init"], "").code, Some(0));
    let refused = machine.refused_daemon("ann", None, &["--home", text(&long)]);
    assert!(refused.err.contains("107") && refused.err.contains("choose a shorter --home"), "{refused:?}");
}

#[test]
fn paths_are_those_that_are_used() {
    let machine = Machine::new(&["ann"]);
    let daemon = machine.daemon("ann", None);
    let named = |name: &str| machine.run("ann", None, &["paths", name], "").out;
    let socket = named("socket");
    assert_eq!(socket, format!("{}\n", text(&machine.socket())));
    assert!(UnixStream::connect(socket.trim_end()).is_ok());
    assert!(Path::new(named("home").trim_end()).join("vault.db").exists());
    assert!(Path::new(named("configuration").trim_end()).is_file());
    assert!(Path::new(named("templates").trim_end()).is_dir());
    let other = machine.path("other.sock");
    assert_eq!(machine.run("ann", Some(&other), &["paths", "socket"], "").out, format!("{}\n", text(&other)));
    daemon.stop();
}
