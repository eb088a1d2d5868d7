//! Kills the daemon, and makes the disk fail, at every system call that writes. The vault still opens, acknowledged
//! changes are there, others are there completely or not at all, and the daemon goes on (promise Nothing lost).
//!
//! `make test` tries some of the calls, `make soak` each.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::support::daemon::{Guillemet, try_ask};
use crate::support::strace::{self, Attached, Fault};
use crate::support::tier;
use serde_json::{Value, json};

/// The system calls that change files.
const CALLS: [&str; 14] = [
    "openat",
    "write",
    "pwrite64",
    "fsync",
    "fdatasync",
    "msync",
    "ftruncate",
    "fallocate",
    "mkdir",
    "linkat",
    "unlink",
    "unlinkat",
    "renameat",
    "renameat2",
];
/// The calls that a disk may refuse, with the error.
const ERRORS: [(&str, &str); 8] = [
    ("pwrite64", "error=ENOSPC"),
    ("pwrite64", "error=EIO"),
    ("pwrite64", "error=EROFS"),
    ("fsync", "error=EIO"),
    ("fdatasync", "error=EIO"),
    ("msync", "error=EIO"),
    ("ftruncate", "error=EIO"),
    ("unlink", "error=EROFS"),
];
/// More calls of one kind than any thread makes here.
const MOST: u32 = 300;

/// How often each kept secret was resolved.
const RESOLVED: u64 = 5;

/// Makes a home whose daemon was killed: the secrets `on` and `off` exist, resolutions are only in the journal, and the
/// vault's write-ahead log contains changes.
fn killed_home() -> Guillemet {
    let mut guillemet = Guillemet::init();
    guillemet.log_level = "info";
    guillemet.run();
    guillemet.add("on", "value of on");
    guillemet.add("off", "value of off");
    for _ in 0..RESOLVED {
        assert_eq!(guillemet.post("/v1/resolve", &json!({"secrets": ["on", "off"]})).status, 200);
    }
    assert_eq!(guillemet.set_enabled("off", false).status, 200);
    for _ in 0..RESOLVED {
        assert_eq!(guillemet.post("/v1/resolve", &json!({"secrets": ["on"]})).status, 200);
    }
    guillemet.kill();
    guillemet
}

fn rows(guillemet: &Guillemet) -> BTreeMap<String, Value> {
    let listed = guillemet.get("/v1/secrets").json();
    let items = listed["items"].as_array().unwrap_or_else(|| panic!("{listed}")).clone();
    items.into_iter().map(|row| (row["name"].as_str().unwrap().to_owned(), row)).collect()
}

/// Checks what was acknowledged in `killed_home`, plus `more` resolutions of `on`, in whatever state the secret
/// `touched` is.
fn check_kept(guillemet: &Guillemet, touched: &str, more: u64) {
    let rows = rows(guillemet);
    for (name, enabled, count) in [("on", true, 2 * RESOLVED + more), ("off", false, RESOLVED)] {
        if name != touched {
            let row = rows.get(name).unwrap_or_else(|| panic!("{name} is lost"));
            assert_eq!((&row["enabled"], row["resolution_count"].as_u64()), (&json!(enabled), Some(count)), "{row}");
        }
    }
    if touched != "on" {
        let resolved = guillemet.post("/v1/resolve", &json!({"secrets": ["on"]})).json();
        assert_eq!(resolved["secrets"]["on"], "value of on");
    }
}

/// A request that changes something.
struct Change {
    name: &'static str,
    method: &'static str,
    path: &'static str,
    body: &'static str,
    status: u16,
    /// Reports from the secret's row whether the change was made.
    done: fn(Option<&Value>) -> bool,
    /// Reports from the secret's row whether it is as before.
    undone: fn(Option<&Value>) -> bool,
}

const CREATE: Change = Change {
    name: "new",
    method: "POST",
    path: "/v1/secrets",
    body: r#"{"name": "new", "value": "value of new"}"#,
    status: 201,
    done: |row| row.is_some_and(|row| row["enabled"] == true),
    undone: |row| row.is_none(),
};
const DISABLE: Change = Change {
    name: "on",
    method: "PATCH",
    path: "/v1/secrets/on",
    body: r#"{"enabled": false}"#,
    status: 200,
    done: |row| row.is_some_and(|row| row["enabled"] == false),
    undone: |row| row.is_some_and(|row| row["enabled"] == true),
};
const DELETE: Change = Change {
    name: "off",
    method: "DELETE",
    path: "/v1/secrets/off",
    body: "",
    status: 204,
    done: |row| row.is_none(),
    undone: |row| row.is_some_and(|row| row["enabled"] == false),
};
/// Reading the usage folds the journal, but changes nothing visible.
const LOOK: Change =
    Change { name: "", method: "GET", path: "/v1/secrets/on", body: "", status: 200, done: |_| true, undone: |_| true };

impl Change {
    fn ask(&self, guillemet: &Guillemet) -> std::io::Result<(u16, String)> {
        let socket = guillemet.path("run/guillemet.sock");
        let answer = try_ask(&socket, self.method, self.path, &[], self.body.as_bytes())?;
        Ok((answer.status, answer.text()))
    }
}

/// Runs a daemon with usage that has not been folded.
fn running(base: &Guillemet) -> Guillemet {
    let mut guillemet = Guillemet::copy(base.dir.path());
    guillemet.log_level = "info";
    guillemet.run();
    assert_eq!(guillemet.post("/v1/resolve", &json!({"secrets": ["on"]})).status, 200);
    guillemet
}

/// Kills the daemon at each system call. The change is made completely or not at all.
fn killed_at_any_system_call(change: &Change) {
    if !strace::is_there() {
        return;
    }
    let base = killed_home();
    let mut killed = 0;
    for call in CALLS {
        for at in tier::calls(MOST) {
            let mut guillemet = running(&base);
            let fault = Fault { call, what: "signal=KILL", at, lasting: false };
            let attached = Attached::to(guillemet.pid(), &fault);
            let answer = change.ask(&guillemet);
            drop(attached);
            let survived = guillemet.get_if_alive("/v1/health").is_some();
            guillemet.kill();
            guillemet.run();
            check_kept(&guillemet, change.name, 1);
            let row = rows(&guillemet).remove(change.name);
            let as_it_was = (change.undone)(row.as_ref());
            match answer {
                Ok((status, text)) => {
                    assert!(status == change.status && (change.done)(row.as_ref()), "{fault:?}: {text}")
                }
                Err(_) => assert!(as_it_was || (change.done)(row.as_ref()), "{fault:?}: {row:?}"),
            }
            if survived {
                break;
            }
            killed += 1;
            // If nothing has changed, the same request succeeds.
            if as_it_was {
                let (status, text) = change.ask(&guillemet).unwrap();
                assert_eq!(status, change.status, "{fault:?}: {text}");
            }
        }
    }
    println!("{} {}: killed at {killed} calls", change.method, change.path);
    assert!(killed >= tier::rounds(4, 8), "{killed}");
}

/// Makes each system call fail. The failure is reported, and the daemon goes on.
fn refused_by_the_disk(change: &Change) {
    if !strace::is_there() {
        return;
    }
    let base = killed_home();
    let mut refused = 0;
    for (call, what) in ERRORS {
        for (index, at) in tier::calls(MOST).enumerate() {
            let mut failed = false;
            // A lasting and a passing fault, in turn.
            let lasting = index.is_multiple_of(2);
            let mut guillemet = running(&base);
            let fault = Fault { call, what, at, lasting };
            let attached = Attached::to(guillemet.pid(), &fault);
            let (status, text) = change.ask(&guillemet).unwrap();
            drop(attached);
            let row = rows(&guillemet).remove(change.name);
            if status == change.status {
                assert!((change.done)(row.as_ref()), "{fault:?}: {row:?}");
            } else {
                failed = true;
                assert!(status == 503 && text.contains("check the disk"), "{fault:?}: {text}");
                // The fault has gone, so the same request succeeds.
                let again = change.ask(&guillemet).unwrap();
                assert!(again.0 == change.status || (change.done)(row.as_ref()), "{fault:?}: {again:?}");
                let row = rows(&guillemet).remove(change.name);
                assert!((change.done)(row.as_ref()), "{fault:?}: {row:?}");
            }
            check_kept(&guillemet, change.name, 1);
            guillemet.add("later", "v");
            guillemet.kill();
            guillemet.run();
            let rows = rows(&guillemet);
            assert!(rows.contains_key("later") && (change.done)(rows.get(change.name)), "{fault:?}: {rows:?}");
            // If a lasting fault at this call does not matter, later calls do not matter either.
            if lasting && !failed {
                break;
            }
            refused += u32::from(failed);
        }
    }
    println!("{} {}: refused at {refused} calls", change.method, change.path);
    // A read needs no room, so it makes fewer calls that can be refused.
    assert!(refused >= if change.method == "GET" { 1 } else { tier::rounds(2, 3) }, "{refused}");
}

macro_rules! for_each_change {
    ($($name:ident: $check:ident($change:ident);)*) => {
        $(#[test]
        fn $name() {
            $check(&$change);
        })*
    };
}

for_each_change! {
    a_creation_that_is_killed_at_any_system_call_is_whole_or_not_at_all: killed_at_any_system_call(CREATE);
    a_disable_that_is_killed_at_any_system_call_is_whole_or_not_at_all: killed_at_any_system_call(DISABLE);
    a_deletion_that_is_killed_at_any_system_call_is_whole_or_not_at_all: killed_at_any_system_call(DELETE);
    a_look_that_is_killed_at_any_system_call_changes_nothing: killed_at_any_system_call(LOOK);
    a_creation_the_disk_refuses_is_told_and_the_daemon_goes_on: refused_by_the_disk(CREATE);
    a_disable_the_disk_refuses_is_told_and_the_daemon_goes_on: refused_by_the_disk(DISABLE);
    a_deletion_the_disk_refuses_is_told_and_the_daemon_goes_on: refused_by_the_disk(DELETE);
    a_look_the_disk_refuses_is_told_and_the_daemon_goes_on: refused_by_the_disk(LOOK);
}

/// Returns every file below a folder with its bytes.
fn files(of: &Guillemet) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut pending = vec![of.dir.path().to_owned()];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.is_file() {
            let name = path.strip_prefix(of.dir.path()).unwrap().to_owned();
            files.insert(name, std::fs::read(path).unwrap());
        }
    }
    files
}

#[test]
fn an_init_that_breaks_off_anywhere_is_taken_up() {
    if !strace::is_there() {
        return;
    }
    let whole = Guillemet::nowhere();
    assert!(whole.command(&["init"]).status.success());
    let whole = files(&whole);
    let mut broken_off = 0;
    let kills = CALLS.map(|call| (call, "signal=KILL"));
    let errors =
        [("write", "error=ENOSPC"), ("openat", "error=ENOSPC"), ("mkdir", "error=EROFS"), ("renameat2", "error=EIO")];
    for (call, what) in kills.into_iter().chain(errors).chain(ERRORS) {
        for at in tier::calls(MOST) {
            let mut guillemet = Guillemet::nowhere();
            // The message has to be written too, so a fault on `write` is not lasting.
            let fault = Fault { call, what, at, lasting: what != "signal=KILL" && call != "write" };
            let output = guillemet.command_by(&fault.before(), &["init"], b"");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            if !output.status.success() {
                broken_off += 1;
                if what != "signal=KILL" && !said.contains("shared libraries") && !said.contains("failed printing") {
                    assert!(
                        said.contains("guillemet.toml")
                            || said.contains(guillemet.dir.path().to_str().unwrap())
                            || said.contains("check the disk"),
                        "{fault:?}: {said}"
                    );
                }
                let again = guillemet.command(&["init"]);
                let said = String::from_utf8_lossy(&again.stderr).into_owned();
                assert!(again.status.success() || said.contains("there is already a vault"), "{fault:?}: {said}");
            }
            let mut made = files(&guillemet);
            if call == "unlink" {
                // A file that could not be removed is hidden, and the next attempt removes it.
                made.retain(|name, _| !name.to_string_lossy().starts_with(".vault.db.new"));
            }
            assert_eq!(made.keys().collect::<Vec<_>>(), whole.keys().collect::<Vec<_>>(), "{fault:?}");
            for (name, bytes) in &whole {
                let own = name.starts_with("vault.db") || name.starts_with("vault.key");
                assert!(own || *bytes == made[name], "{fault:?}: {name:?}");
            }
            guillemet.run();
            guillemet.add("a", "v");
            if output.status.success() {
                break;
            }
        }
    }
    println!("broken off at {broken_off} calls");
    assert!(broken_off > tier::rounds(15, 50), "{broken_off}");
}

/// Injects the fault `what` at every system call of a start.
fn starts(
    base: &Guillemet,
    faults: impl IntoIterator<Item = (&'static str, &'static str)>,
    check: impl Fn(&Guillemet),
) -> u32 {
    let mut broken_off = 0;
    for (call, what) in faults {
        for at in tier::calls(MOST) {
            let mut guillemet = Guillemet::copy(base.dir.path());
            guillemet.log_level = "info";
            let fault = Fault { call, what, at, lasting: false };
            println!("{fault:?}");
            let started = guillemet.try_run(&fault.before());
            // It starts without those changes of the vault that can wait, and reports that.
            let is_read_only = guillemet.log().contains("read-only: the vault cannot be changed");
            if started {
                let alive = guillemet.get_if_alive("/v1/health").is_some();
                guillemet.kill();
                if alive && guillemet.log().is_empty() {
                    unreachable!("it logs that it is ready");
                }
            } else if what != "signal=KILL" {
                let log = guillemet.log();
                let path = guillemet.dir.path().to_str().unwrap().to_owned();
                assert!(log.contains(&path) || log.contains("disk"), "{fault:?}: {log}");
            }
            guillemet.run();
            check(&guillemet);
            if started && !is_read_only {
                break;
            }
            broken_off += 1;
        }
    }
    broken_off
}

#[test]
fn a_first_start_that_breaks_off_anywhere_is_taken_up() {
    if !strace::is_there() {
        return;
    }
    let base = Guillemet::init();
    let faults =
        CALLS.map(|call| (call, "signal=KILL")).into_iter().chain(ERRORS).chain([("fallocate", "error=ENOSPC")]);
    let broken_off = starts(&base, faults, |guillemet| {
        guillemet.add("a", "v");
        assert_eq!(guillemet.post("/v1/resolve", &json!({"secrets": ["a"]})).json()["secrets"]["a"], "v");
        assert_eq!(rows(guillemet)["a"]["resolution_count"], 1);
    });
    println!("broken off at {broken_off} calls");
    assert!(broken_off > tier::rounds(10, 20), "{broken_off}");
}

/// Reports whether the whole journal has disk blocks, so that a full disk cannot kill the process that writes to it.
fn journal_is_allocated(guillemet: &Guillemet) -> bool {
    let journal = std::fs::metadata(guillemet.path("usage.journal")).unwrap();
    journal.blocks() * 512 >= journal.len()
}

#[test]
fn a_file_system_that_cannot_allocate_is_written_to_instead() {
    if !strace::is_there() {
        return;
    }
    for what in ["error=EOPNOTSUPP", "error=ENOSYS"] {
        let fault = Fault { call: "fallocate", what, at: 1, lasting: true };
        let mut fresh = Guillemet::init();
        assert!(fresh.try_run(&fault.before()), "{}", fresh.log());
        fresh.add("on", "value of on");
        assert_eq!(fresh.post("/v1/resolve", &json!({"secrets": ["on"]})).status, 200);
        assert!(journal_is_allocated(&fresh));
        // The existing journal, now with holes.
        let killed = killed_home();
        let mut copy = Guillemet::nowhere();
        let copied = std::process::Command::new("cp")
            .args(["-a", "--sparse=always"])
            .arg(killed.path("."))
            .arg(copy.dir.path())
            .status();
        assert!(copied.unwrap().success() && !journal_is_allocated(&copy));
        assert!(copy.try_run(&fault.before()), "{}", copy.log());
        assert!(journal_is_allocated(&copy));
        check_kept(&copy, "", 0);
    }
}

#[test]
fn a_home_in_a_ramfs_is_as_good_as_another() {
    if !strace::is_there() {
        return;
    }
    let base = Guillemet::init();
    let mut guillemet = Guillemet::nowhere();
    let [from, to] = [&base, &guillemet].map(|guillemet| guillemet.dir.path().display().to_string());
    let script = format!("mount -t ramfs -o mode=0700 ramfs {to} && cp -a {from}/. {to} && exec \"$@\"");
    assert!(guillemet.try_run(&["unshare", "-m", "sh", "-c", &script, "sh"].map(str::to_owned)), "{}", guillemet.log());
    // The socket is in the daemon's own mount namespace.
    let socket = PathBuf::from(format!("/proc/{}/root{to}/run/guillemet.sock", guillemet.pid()));
    let added = try_ask(&socket, "POST", "/v1/secrets", &[], br#"{"name": "a", "value": "v"}"#).unwrap();
    assert_eq!(added.status, 201, "{}", added.text());
    let resolved = try_ask(&socket, "POST", "/v1/resolve", &[], br#"{"secrets": ["a"]}"#).unwrap();
    assert_eq!(resolved.json()["secrets"]["a"], "v");
    assert!(guillemet.stop(), "{}", guillemet.log());
}

#[test]
fn a_system_without_close_range_keeps_descriptors_from_children_all_the_same() {
    if !strace::is_there() {
        return;
    }
    for what in ["error=ENOSYS", "error=EPERM"] {
        let fault = Fault { call: "close_range", what, at: 1, lasting: true };
        let mut guillemet = Guillemet::init();
        // The parent process leaves a descriptor open.
        let mut by_way_of = ["sh", "-c", "exec 7</etc/passwd && exec \"$@\"", "sh"].map(str::to_owned).to_vec();
        by_way_of.extend(fault.before());
        assert!(guillemet.try_run(&by_way_of), "{}", guillemet.log());
        guillemet.add("token", "v");
        let template = "name = 'a'\nurl = 'https://a.example/'\nheaders.Authorization = '<< secret \"token\" >>'\n";
        guillemet.write("mcp-server/a.toml", template);
        let rendered = guillemet.get("/v1/render/mcp-server/a");
        assert_eq!(rendered.status, 200, "{}", rendered.text());
        let inherited = std::fs::read_to_string(format!("/proc/{}/fdinfo/7", guillemet.pid())).unwrap();
        let flags = inherited.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        assert_ne!(u32::from_str_radix(flags, 8).unwrap() & 0o2_000_000, 0, "it is closed on exec: {flags}");
        let planners = guillemet.planners();
        assert!(!planners.is_empty());
        for planner in planners {
            let open = std::fs::read_dir(format!("/proc/{planner}/fd")).unwrap().map(|entry| entry.unwrap().path());
            let mut numbers: Vec<String> =
                open.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
            numbers.sort();
            assert_eq!(numbers, ["0", "1", "2"], "{planner} has more than its pipes");
        }
    }
}

#[test]
fn a_start_after_a_kill_that_breaks_off_anywhere_is_taken_up() {
    if !strace::is_there() {
        return;
    }
    let base = killed_home();
    let faults = CALLS.map(|call| (call, "signal=KILL")).into_iter().chain(ERRORS);
    let broken_off = starts(&base, faults, |guillemet| check_kept(guillemet, "", 0));
    println!("broken off at {broken_off} calls");
    assert!(broken_off > tier::rounds(10, 20), "{broken_off}");
}
