//! `vault rekey`: the old key no longer opens the vault, the new one does, and nothing else has changed, even if the
//! command is killed at any system call.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Output, Stdio};

use crate::support::daemon::Guillemet;
use crate::support::strace::{self, Fault};
use crate::support::terminal::Terminal;
use crate::support::tier;
use guillemet_base::home::Home;
use guillemet_vault::keys::{METHODS, UnlockWith};
use guillemet_vault::store::Vault;
use serde_json::json;

const OLD: &str = "correct horse battery staple nine";
const NEW: &str = "nine purple elephants jump slowly";
/// The name of a new key file until the vault is sealed under its key.
const PENDING: &str = ".vault.key.new";

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The way a vault is unlocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    KeyFile,
    Passphrase(&'static str),
}

impl By {
    fn unlock(self, home: &Home) -> UnlockWith {
        match self {
            Self::KeyFile => UnlockWith::KeyFile(home.key_file()),
            Self::Passphrase(text) => UnlockWith::Passphrase(text.to_owned().into()),
        }
    }

    fn method(self) -> &'static str {
        match self {
            Self::KeyFile => "keyfile",
            Self::Passphrase(_) => "passphrase",
        }
    }
}

/// Returns the words that redirect descriptors 3 and 4 to files with the two passphrases.
fn handing_over(folder: &Path) -> Vec<String> {
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, format!("{text}\n")).unwrap();
        path.display().to_string()
    };
    let redirect = format!("exec \"$@\" 3<'{}' 4<'{}'", file("old", OLD), file("new", NEW));
    ["sh", "-c", &redirect, "sh"].map(str::to_owned).to_vec()
}

/// Runs `vault rekey`, through another program if one is given.
fn rekey(guillemet: &Guillemet, by_way_of: &[String], from: By, to: By) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut arguments = vec!["vault", "rekey"];
    if from != By::KeyFile {
        arguments.extend(["--passphrase-fd", "3"]);
    }
    if from.method() != to.method() {
        arguments.extend(["--unlock", to.method()]);
    }
    if to != By::KeyFile {
        arguments.extend(["--new-passphrase-fd", "4"]);
    }
    guillemet.command_by(&[&handing_over(folder.path()), by_way_of].concat(), &arguments, b"")
}

/// Runs the daemon on a home that is unlocked in this way. Returns whether it starts.
fn starts(guillemet: &mut Guillemet, by: By) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let (descriptor, arguments) = match by {
        By::KeyFile => ("", &[][..]),
        By::Passphrase(OLD) => ("3", &["--passphrase-fd", "3"][..]),
        By::Passphrase(_) => ("4", &["--passphrase-fd", "4"][..]),
    };
    let by_way_of = if descriptor.is_empty() { Vec::new() } else { handing_over(folder.path()) };
    guillemet.try_run_with(&by_way_of, arguments, Stdio::null())
}

const TEMPLATE: &str = "name = 'a'\nurl = 'https://a.example/'\nheaders.Authorization = '<< secret \"on\" >>'\n";

/// Makes a home with secrets, versions, usage and a plugin's compiled form, whose daemon has ended.
fn home(by: By) -> Guillemet {
    let mut guillemet = Guillemet::nowhere();
    guillemet.log_level = "info";
    let init = ["init", "--unlock", by.method(), "--passphrase-fd", "0"];
    let made = guillemet.command_with(&init, OLD.as_bytes());
    assert!(made.status.success(), "{}", said(&made));
    assert!(starts(&mut guillemet, by), "{}", guillemet.log());
    guillemet.write("mcp-server/a.toml", TEMPLATE);
    for name in ["on", "off"] {
        guillemet.add(name, &format!("value of {name}"));
        assert_eq!(guillemet.post("/v1/resolve", &json!({"secrets": [name]})).status, 200);
    }
    guillemet.ask("PATCH", "/v1/secrets/on", &[], br#"{"value": "newer value of on"}"#);
    assert_eq!(guillemet.get("/v1/render/mcp-server/a").status, 200);
    assert_eq!(guillemet.set_enabled("off", false).status, 200);
    assert_eq!(guillemet.post("/v1/resolve", &json!({"secrets": ["off"]})).status, 409);
    // The newest resolutions are only in the journal.
    guillemet.kill();
    guillemet
}

/// Checks with a daemon that everything from `home` is there.
fn check(guillemet: &mut Guillemet, by: By, rekeyed: usize) {
    assert!(starts(guillemet, by), "{}", guillemet.log());
    let told = guillemet.get("/v1/usage?class=change&limit=100").text();
    assert_eq!(told.matches("vault_rekeyed").count(), rekeyed, "{told}");
    let shown = |name: &str| guillemet.get(&format!("/v1/secrets/{name}")).json();
    let (on, off) = (shown("on"), shown("off"));
    assert_eq!((&on["version"], &on["resolution_count"]), (&json!(2), &json!(2)), "{on}");
    assert_eq!((&off["enabled"], &off["resolution_count"]), (&json!(false), &json!(1)), "{off}");
    let outcomes = guillemet.get("/v1/usage").text();
    assert_eq!(outcomes.matches("\"answered\"").count(), 3, "{outcomes}");
    assert!(outcomes.contains("\"disabled\""), "{outcomes}");
    assert!(guillemet.get("/v1/render/mcp-server/a").text().contains("newer value of on"));
    let rolled_back = guillemet.post("/v1/secrets/on/rollback", &json!({"version": 1}));
    assert_eq!(rolled_back.status, 200, "{}", rolled_back.text());
    let resolved = guillemet.post("/v1/resolve", &json!({"secrets": ["on"]})).json();
    assert_eq!(resolved["secrets"]["on"], "value of on");
    let log = guillemet.log();
    assert!(!log.contains("ERROR") && !log.contains("damaged"), "{log}");
    assert!(guillemet.stop());
}

/// Reports whether a copy of the home can be opened in this way, with this key file if it uses one.
fn opens(of: &Guillemet, by: By, key: &[u8]) -> bool {
    let copy = Guillemet::copy(of.dir.path());
    let home = Home::at(copy.dir.path());
    let _ = std::fs::remove_file(copy.path(PENDING));
    if by == By::KeyFile {
        let _ = std::fs::remove_file(home.key_file());
        guillemet_base::files::write_new(&home.key_file(), key).unwrap();
    }
    Vault::open(&home, by.unlock(&home)).is_ok()
}

/// Returns the new key file under either of its names: the one that differs from the old one.
fn new_key(guillemet: &Guillemet, old: &[u8]) -> Option<Vec<u8>> {
    ["vault.key", PENDING].iter().filter_map(|name| std::fs::read(guillemet.path(name)).ok()).find(|key| key != old)
}

const CHANGES: [(By, By); 4] = [
    (By::KeyFile, By::KeyFile),
    (By::KeyFile, By::Passphrase(NEW)),
    (By::Passphrase(OLD), By::KeyFile),
    (By::Passphrase(OLD), By::Passphrase(NEW)),
];

fn changes_what_opens_the_vault((from, to): (By, By)) {
    let mut guillemet = home(from);
    let copy = Guillemet::copy(guillemet.dir.path());
    let old_key = std::fs::read(guillemet.path("vault.key")).unwrap_or_default();
    let rekeyed = rekey(&guillemet, &[], from, to);
    let told = said(&rekeyed);
    assert!(rekeyed.status.success(), "{from:?} to {to:?}: {told}");
    assert!(told.contains("earlier copies of vault.db still open with the old"), "{told}");
    assert_eq!(told.contains("keep a copy of"), to == By::KeyFile, "{told}");
    let new_key = new_key(&guillemet, &old_key).unwrap_or_default();
    assert!(!opens(&guillemet, from, &old_key) && opens(&guillemet, to, &new_key), "{from:?} to {to:?}");
    check(&mut guillemet, to, 1);
    // The warning about copies is true.
    assert!(opens(&copy, from, &old_key) && !opens(&copy, to, &new_key));
    // The key file is readable only by its owner, and no other file is left.
    let names: BTreeSet<String> = std::fs::read_dir(guillemet.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert!(!names.contains(PENDING), "{names:?}");
    if to == By::KeyFile {
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(guillemet.path("vault.key")).unwrap());
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn a_new_key_file_opens_the_vault_and_the_old_one_does_not() {
    changes_what_opens_the_vault(CHANGES[0]);
}

#[test]
fn a_passphrase_opens_the_vault_and_its_key_file_does_not() {
    changes_what_opens_the_vault(CHANGES[1]);
}

#[test]
fn a_key_file_opens_the_vault_and_its_passphrase_does_not() {
    changes_what_opens_the_vault(CHANGES[2]);
}

#[test]
fn a_new_passphrase_opens_the_vault_and_the_old_one_does_not() {
    changes_what_opens_the_vault(CHANGES[3]);
}

#[test]
fn a_vault_is_rekeyed_again_and_again() {
    let mut guillemet = home(By::KeyFile);
    for (from, to) in [CHANGES[0], CHANGES[1]] {
        let rekeyed = rekey(&guillemet, &[], from, to);
        assert!(rekeyed.status.success(), "{}", said(&rekeyed));
    }
    check(&mut guillemet, By::Passphrase(NEW), 2);
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let mut guillemet = home(By::Passphrase(OLD));
    let folder = tempfile::tempdir().unwrap();
    let redirect = handing_over(folder.path());
    let key = guillemet.path("vault.key");
    let run = |guillemet: &Guillemet, arguments: &[&str], input: &[u8]| {
        let output = guillemet.command_by(&redirect, &[&["vault", "rekey"], arguments].concat(), input);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", said(&output));
        said(&output)
    };
    for (arguments, input, refusal) in [
        (&["--passphrase-fd", "4", "--new-passphrase-fd", "3"][..], "", "the passphrase does not open this vault"),
        (&["--passphrase-fd", "3", "--new-passphrase-fd", "0"], "x", "too easy to guess; nothing was changed"),
        (&["--passphrase-fd", "3", "--new-passphrase-fd", "0"], "password1", "is a common password"),
        (&["--passphrase-fd", "3", "--new-passphrase-fd", "0"], "", "the passphrase is empty"),
        (&["--passphrase-fd", "3", "--new-passphrase-fd", "0"], "one\ntwo\n", "more than one line"),
        (&["--passphrase-fd", "3", "--new-passphrase-fd", "3"], "", "both passphrases cannot come from descriptor 3"),
        (&["--passphrase-fd", "3"], "", "pass it with --new-passphrase-fd N"),
        (&["--new-passphrase-fd", "4"], "", "pass it with --passphrase-fd N"),
        (&["--unlock", "keyfile", "--passphrase-fd", "3", "--new-passphrase-fd", "4"], "", "add --unlock passphrase"),
    ] {
        let told = run(&guillemet, arguments, input.as_bytes());
        assert!(told.contains(refusal), "{arguments:?}: {told}");
        assert!(!told.contains("password1") && !told.contains(OLD) && !told.contains(NEW), "{told}");
    }
    assert!(!key.exists() && !guillemet.path(PENDING).exists());
    // While a daemon has the vault open.
    assert!(starts(&mut guillemet, By::Passphrase(OLD)));
    let told = run(&guillemet, &["--passphrase-fd", "3", "--new-passphrase-fd", "4"], b"");
    assert!(told.contains(&format!("the daemon (pid {}) is using this vault", guillemet.pid())), "{told}");
    assert!(told.contains("Stop the daemon, run `guillemet --home"), "{told}");
    // Rekeys that failed after the vault was opened are in the trail; those that could not open it cannot be.
    let told = guillemet.get("/v1/usage?class=change&limit=100").json();
    let rekeys: Vec<_> =
        told["items"].as_array().unwrap().iter().filter(|event| event["outcome"] == "vault_rekeyed").collect();
    assert_eq!(rekeys.len(), 5, "{told}");
    for event in rekeys {
        let fields = [&event["before"], &event["after"], &event["error"]];
        assert_eq!(fields, ["passphrase", "passphrase", "validation_error"], "{event}");
    }
    assert!(guillemet.stop());
    check_opens(&guillemet, By::Passphrase(OLD));

    let by_key = home(By::KeyFile);
    let told = run(&by_key, &["--unlock", "passphrase", "--passphrase-fd", "4"], b"");
    assert!(told.contains("pass the new passphrase with --new-passphrase-fd"), "{told}");
    let nowhere = Guillemet::nowhere();
    assert!(run(&nowhere, &[], b"").contains("there is no vault in"));
}

fn check_opens(guillemet: &Guillemet, by: By) {
    let home = Home::at(guillemet.dir.path());
    assert_eq!(Vault::open(&home, by.unlock(&home)).unwrap().1.len(), 2);
}

#[test]
fn a_new_passphrase_is_typed_twice_behind_the_present_one() {
    let guillemet = home(By::Passphrase(OLD));
    let mut terminal = Terminal::run(guillemet.dir.path(), &["vault", "rekey"]);
    terminal.expect("Passphrase: ");
    terminal.types(format!("{OLD}\r"));
    terminal.expect("New passphrase: ");
    terminal.types(format!("{NEW}\r"));
    terminal.expect("Repeat: ");
    terminal.types(format!("{NEW}\r"));
    terminal.expect("earlier copies of vault.db still open with the old passphrase");
    assert!(terminal.ends().success());
    check_opens(&guillemet, By::Passphrase(NEW));
    // A wrong passphrase is reported before a new one is asked for, and a weak one before anything is changed.
    let mut terminal = Terminal::run(guillemet.dir.path(), &["vault", "rekey"]);
    terminal.expect("Passphrase: ");
    terminal.types(format!("{OLD}\r"));
    let before = terminal.expect("the passphrase does not open this vault");
    assert!(!before.contains("New passphrase"), "{before}");
    assert_eq!(terminal.ends().code(), Some(1));
    let init = Guillemet::nowhere();
    let mut terminal = Terminal::run(init.dir.path(), &["init", "--unlock", "passphrase"]);
    for question in ["Passphrase: ", "Repeat: "] {
        terminal.expect(question);
        terminal.types("x\r");
    }
    terminal.expect("too easy to guess; nothing was changed");
    assert_eq!(terminal.ends().code(), Some(1));
    assert_eq!(std::fs::read_dir(init.dir.path()).unwrap().count(), 0, "nothing was made");
}

/// The system calls that change what is on the disk.
const CALLS: [&str; 8] = ["pwrite64", "fsync", "fdatasync", "ftruncate", "linkat", "unlink", "renameat", "renameat2"];
/// More calls of one kind than a rekey makes.
const MOST: u32 = 400;

/// Kills the change at each of its system calls. After each kill, exactly one of the two keys opens the vault, and the
/// next start finishes the change or undoes it.
fn killed_anywhere((from, to): (By, By)) {
    if !strace::is_there() {
        return;
    }
    let base = home(from);
    let old_key = std::fs::read(base.path("vault.key")).unwrap_or_default();
    let (mut killed, mut seen) = (0, BTreeSet::new());
    for call in CALLS {
        for at in tier::calls(MOST) {
            let mut guillemet = Guillemet::copy(base.dir.path());
            guillemet.log_level = "info";
            let fault = Fault { call, what: "signal=KILL", at, lasting: false };
            let output = rekey(&guillemet, &fault.before(), from, to);
            let ended = output.status.signal() != Some(9);
            assert!(!ended || output.status.success(), "{fault:?}: {}", said(&output));
            let new_key = new_key(&guillemet, &old_key);
            let old_opens = opens(&guillemet, from, &old_key);
            let new_opens =
                (to != By::KeyFile || new_key.is_some()) && opens(&guillemet, to, &new_key.unwrap_or_default());
            assert_ne!(old_opens, new_opens, "{fault:?}: exactly one opens the vault");
            let now = if new_opens { to } else { from };
            let pending = guillemet.path(PENDING).exists();
            // Starts the next daemon once for each state, because a start takes time.
            if seen.insert((new_opens, pending)) {
                check(&mut guillemet, now, usize::from(new_opens));
            } else {
                check_opens(&guillemet, now);
            }
            assert!(!guillemet.path(PENDING).exists(), "{fault:?}: the next start ends it");
            if now == By::KeyFile {
                let key = std::fs::read(guillemet.path("vault.key")).unwrap();
                assert_eq!(key != old_key, new_opens, "{fault:?}");
            }
            if ended {
                break;
            }
            killed += 1;
        }
    }
    println!("{from:?} to {to:?}: killed at {killed} calls, in the states {seen:?}");
    assert!(killed > tier::rounds(6, 12), "{killed}");
    // The states before and after, and the one in between with a new key file that has no name yet.
    assert!(seen.contains(&(false, false)) && seen.contains(&(true, false)), "{seen:?}");
    if to == By::KeyFile {
        assert!(seen.contains(&(false, true)) && seen.contains(&(true, true)), "{seen:?}");
    }
}

#[test]
fn killed_anywhere_from_one_key_file_to_another() {
    killed_anywhere(CHANGES[0]);
}

#[test]
fn killed_anywhere_from_a_key_file_to_a_passphrase() {
    killed_anywhere(CHANGES[1]);
}

#[test]
fn killed_anywhere_from_a_passphrase_to_a_key_file() {
    killed_anywhere(CHANGES[2]);
}

#[test]
fn killed_anywhere_from_one_passphrase_to_another() {
    killed_anywhere(CHANGES[3]);
}

/// If the disk refuses a write, that is reported, and one of the two keys opens the vault.
#[test]
fn a_disk_that_fails_loses_neither_the_vault_nor_its_key() {
    if !strace::is_there() {
        return;
    }
    let base = home(By::KeyFile);
    let old_key = std::fs::read(base.path("vault.key")).unwrap();
    let mut refused = 0;
    for (call, what) in [
        ("pwrite64", "error=ENOSPC"),
        ("fsync", "error=EIO"),
        ("fdatasync", "error=EIO"),
        ("linkat", "error=EIO"),
        ("renameat2", "error=EIO"),
        ("renameat", "error=EIO"),
    ] {
        for at in [1, 2, 3, 5, 8, 13, 21, 34] {
            let guillemet = Guillemet::copy(base.dir.path());
            let fault = Fault { call, what, at, lasting: true };
            let output = rekey(&guillemet, &fault.before(), By::KeyFile, By::KeyFile);
            let new_key = new_key(&guillemet, &old_key);
            let new_opens = new_key.is_some_and(|key| opens(&guillemet, By::KeyFile, &key));
            assert_ne!(opens(&guillemet, By::KeyFile, &old_key), new_opens, "{fault:?}: {}", said(&output));
            if !output.status.success() {
                refused += 1;
                let path = guillemet.dir.path().to_str().unwrap();
                assert!(said(&output).contains(path) || said(&output).contains("check the disk"), "{}", said(&output));
            }
            check_opens(&guillemet, By::KeyFile);
            assert!(!guillemet.path(PENDING).exists());
        }
    }
    println!("refused {refused} times");
    assert!(refused > 10, "{refused}");
}

#[test]
fn every_method_can_be_changed_to() {
    let named: BTreeSet<&str> = CHANGES.iter().flat_map(|(from, to)| [from.method(), to.method()]).collect();
    assert_eq!(named, METHODS.iter().map(|row| row.name).collect(), "a method that no rekey is tried with");
}
