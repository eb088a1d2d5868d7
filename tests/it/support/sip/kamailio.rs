//! Debian's kamailio in two roles: as a registrar that knows the HA1 of every account, and as the program that reads
//! the rendered configs. Both run in one process, on two ports of the loopback interface.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use guillemet_testing::wait::PATIENCE;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// A configuration of kamailio, in its own folder.
pub struct Kamailio {
    folder: tempfile::TempDir,
    /// The port on which requests are relayed to the carrier, with the credentials of the rendered config.
    pub client: u16,
    /// The port of the registrar, which is the carrier.
    pub registrar: u16,
    /// The HA1 of each account, by the account's word.
    accounts: Vec<(String, String)>,
    /// The names of files that the configuration includes.
    trunks: Vec<String>,
    /// Statements that run once after the start.
    begin: String,
}

/// A running kamailio, which ends when dropped.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    /// The lines it has logged so far.
    pub log: Vec<String>,
}

impl Kamailio {
    /// Makes a new configuration, or returns `None` if kamailio is not installed.
    pub fn new() -> Option<Self> {
        if !super::installed("kamailio", "kamailio") {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        // These are tables of db_text: uac takes registrations from its memory only if it has a database too.
        std::fs::create_dir(folder.path().join("db")).unwrap();
        std::fs::write(folder.path().join("db/version"), "table_name(string) table_version(int)\nuacreg:5\n").unwrap();
        std::fs::write(
            folder.path().join("db/uacreg"),
            "id(int,auto) l_uuid(string) l_username(string) l_domain(string) r_username(string) r_domain(string) \
             realm(string) auth_username(string) auth_password(string) auth_ha1(string) auth_proxy(string) \
             expires(int) flags(int) reg_delay(int) contact_addr(string) socket(string)\n",
        )
        .unwrap();
        // Both sockets are open at the same time, so that their ports differ.
        let sockets = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let [client, registrar] = sockets.map(|socket| socket.local_addr().unwrap().port());
        Some(Self { folder, client, registrar, accounts: vec![], trunks: vec![], begin: String::new() })
    }

    /// Lets an account register. Its word is the user of its address as it is written there, or its realm.
    pub fn knows(&mut self, word: &str, ha1: String) {
        self.accounts.push((word.into(), ha1));
    }

    /// Includes a file with this text.
    pub fn includes(&mut self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
        self.trunks.push(name.into());
    }

    /// Adds statements that run once after the start.
    pub fn begins_with(&mut self, statements: &str) {
        self.begin.push_str(statements);
    }

    fn write(&self) -> PathBuf {
        let folder = self.folder.path();
        let mut text = format!(
            include_str!("kamailio.cfg.txt"),
            client = self.client,
            registrar = self.registrar,
            folder = folder.display(),
            begin = self.begin,
            trunks = self.trunks.iter().map(|name| format!("include_file \"{name}\"\n")).collect::<String>(),
        );
        text.push_str("event_route[htable:mod-init] {\n    $var(key) = 0;\n");
        for (word, ha1) in &self.accounts {
            // The key is a digest, so that kamailio's own parser reads nothing of the word.
            let key = data_encoding::HEXLOWER.encode(&<md5::Md5 as md5::Digest>::digest(word));
            writeln!(text, "    $sht(ha1=>{key}) = \"{ha1}\";").unwrap();
        }
        text.push_str("}\n");
        let path = folder.join("kamailio.cfg");
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Runs kamailio's own check of the configuration.
    ///
    /// # Errors
    /// With the check's message.
    pub fn check(&self) -> Result<(), String> {
        let output = command(&self.write()).arg("-c").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    }

    /// Runs kamailio and waits until it accepts requests.
    pub fn run(&self) -> Running {
        let mut command = command(&self.write());
        command.args(["-DD", "-E", "-Y"]).arg(self.folder.path()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            // A line need not be UTF-8.
            for line in stderr.split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        let mut running = Running { child, lines, log: vec![] };
        running.until("it takes requests", |line| line.contains("guillemet: ready").then_some(()));
        running
    }
}

fn command(file: &Path) -> Command {
    let mut command = Command::new("/usr/sbin/kamailio");
    command.arg("-f").arg(file).current_dir(file.parent().unwrap());
    command.args(["-m", "64", "-M", "16"]).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

impl Running {
    /// Reads log lines until `found` returns something.
    pub fn until<T>(&mut self, what: &str, mut found: impl FnMut(&str) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE.saturating_sub(begun.elapsed())) else {
                let tail = &self.log[self.log.len().saturating_sub(40)..];
                panic!("kamailio ended, or this did not come: {what}\n{}", tail.join("\n"));
            };
            let answer = found(&line);
            self.log.push(line);
            if let Some(answer) = answer {
                return answer;
            }
        }
    }

    /// Returns the registrar's decisions since its start about accounts whose word begins with `prefix`. Waits until
    /// there are `count` of them.
    pub fn decisions(&mut self, prefix: &str, count: usize) -> BTreeMap<String, bool> {
        let mut decided = BTreeMap::new();
        let mut decide = |line: &str| {
            let (_, told) = line.split_once("guillemet: ")?;
            let (word, accepted) = match told.split_once(' ')? {
                ("accepted", word) => (word, true),
                ("refused", word) => (word, false),
                _ => return None,
            };
            // An account that is refused tries again, so one acceptance counts.
            if word.starts_with(prefix) {
                *decided.entry(word.to_owned()).or_insert(false) |= accepted;
            }
            (decided.len() == count).then_some(())
        };
        // Registrations begin during the start, so the earlier lines count too.
        if self.log.iter().find_map(|line| decide(line)).is_none() {
            self.until(&format!("{count} decisions about {prefix}"), decide);
        }
        decided
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.child.id() as i32).unwrap();
        let _ = kill_process(pid, Signal::TERM);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) {
            // Its log ends when its last process ends.
            if self.lines.recv_timeout(Duration::from_millis(100))
                == Err(std::sync::mpsc::RecvTimeoutError::Disconnected)
            {
                break;
            }
        }
        let _ = kill_process_group(pid, Signal::KILL);
        let _ = self.child.wait();
    }
}
