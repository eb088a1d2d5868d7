//! What callers may take of the daemon, and what the daemon keeps of itself: connections, time,
//! descriptors, memory.

mod support;

use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use support::daemon::{Guillemet, PROGRAM, try_ask};
use support::strace::{self, Fault};

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";

fn with_limits(limits: &str) -> Guillemet {
    let mut guillemet = Guillemet::init();
    std::fs::write(guillemet.path("guillemet.toml"), format!("[limits]\n{limits}\n")).unwrap();
    guillemet.run();
    guillemet
}

fn connect(guillemet: &Guillemet) -> UnixStream {
    let stream = UnixStream::connect(guillemet.path("run/guillemet.sock")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// Asks and reads one answer; the connection stays.
fn healthy(stream: &mut UnixStream) -> bool {
    let mut answer = [0; 4096];
    stream.write_all(HEALTH).is_ok()
        && stream.read(&mut answer).is_ok_and(|len| answer[..len].starts_with(b"HTTP/1.1 200"))
}

/// Everything until the daemon ends the connection.
fn rest(mut stream: UnixStream) -> String {
    let mut text = Vec::new();
    // The daemon may end it while something of ours is still unread there.
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn slow_and_silent_callers_are_cut_off() {
    let guillemet = with_limits("idle_seconds = 1\ntransfer_seconds = 1");
    // Each of these would wait for ever if the daemon did.
    let silent = connect(&guillemet);
    let mut kept = connect(&guillemet);
    assert!(healthy(&mut kept));
    let mut head = connect(&guillemet);
    head.write_all(&HEALTH[..20]).unwrap();
    let mut body = connect(&guillemet);
    body.write_all(b"POST /v1/secrets HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{\"name\":").unwrap();
    assert_eq!(rest(silent), "");
    assert_eq!(rest(kept), "");
    assert!(!rest(head).contains("200 OK"));
    let told = rest(body);
    assert!(told.starts_with("HTTP/1.1 400") && told.contains("did not arrive in time"), "{told}");

    // One that asks on and on and takes no answer; the buffers of the system are full at some time.
    let mut deaf = connect(&guillemet);
    while deaf.write_all(HEALTH).is_ok() {}
    assert!(healthy(&mut connect(&guillemet)));
}

#[test]
fn one_caller_cannot_take_all_connections() {
    let guillemet = with_limits("connections = 8");
    let mut greedy: Vec<UnixStream> = (0..8).map(|_| connect(&guillemet)).collect();
    assert!(greedy.iter_mut().all(healthy));
    let refused = rest(connect(&guillemet));
    assert!(refused.starts_with("HTTP/1.1 429") && refused.contains("\"rate_limit_exceeded\""), "{refused}");
    // The first has been silent for longest.
    assert!(greedy[1..].iter_mut().all(healthy));
    // Another process gets its place.
    let other = guillemet.command(&["secret", "list"]);
    assert!(other.status.success(), "{}", String::from_utf8_lossy(&other.stderr));
    // It is cut off a moment after its place has been given away.
    while healthy(&mut greedy[0]) {}
    assert!(greedy[1..].iter_mut().all(healthy));
    // And what it gave back can be had again.
    greedy[0] = connect(&guillemet);
    while !healthy(&mut greedy[0]) {
        greedy[0] = connect(&guillemet);
    }
}

#[test]
fn a_caller_that_never_pauses_does_not_starve_others() {
    let guillemet = with_limits("connections = 16");
    guillemet.add("a", "value");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let body = json!({"secrets": ["a"]}).to_string();
                while !over.load(Ordering::Relaxed) {
                    // Some are refused or cut off, for the sake of the other caller.
                    let _ = try_ask(&guillemet.path("run/guillemet.sock"), "POST", "/v1/resolve", &[], body.as_bytes());
                }
            });
        }
        for _ in 0..20 {
            let other = guillemet.command(&["secret", "show", "a"]);
            let went = other.status.success();
            if !went {
                over.store(true, Ordering::Relaxed);
            }
            assert!(went, "{}", String::from_utf8_lossy(&other.stderr));
        }
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn the_daemon_keeps_its_memory_and_its_limits() {
    let guillemet = with_limits("connections = 40");
    let read = |what: &str| std::fs::read_to_string(format!("/proc/{}/{what}", guillemet.pid())).unwrap();
    let limits = read("limits");
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(limit("Max core file size"), "0");
    assert_eq!(limit("Max open files"), "296");
    let status = read("status");
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
    let locked: u64 = locked.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(locked > 0, "no page is locked");
}

#[test]
fn more_connections_than_descriptors_is_no_start() {
    let guillemet = Guillemet::init();
    std::fs::write(guillemet.path("guillemet.toml"), "[limits]\nconnections = 65536\n").unwrap();
    let line = format!("ulimit -Hn 1000; exec {PROGRAM} --home {} daemon", guillemet.dir.path().display());
    let output = Command::new("/bin/sh").args(["-c", &line]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("65792 descriptors") && said.contains("LimitNOFILE"), "{said}");
}

/// The kernel gives what belongs to a process that cannot be dumped to root.
#[test]
fn another_process_of_its_user_cannot_look_into_it() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can start the daemon as another user");
        return;
    }
    const USER: u32 = 54_321;
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(dir.path(), Some(USER), Some(USER)).unwrap();
    let as_user = |arguments: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.arg("--home").arg(dir.path()).args(arguments).uid(USER).gid(USER).stdin(Stdio::null());
        command
    };
    let made = as_user(&["init"]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut daemon = as_user(&["daemon"]).stderr(Stdio::null()).spawn().unwrap();
    let socket = dir.path().join("run/guillemet.sock");
    while UnixStream::connect(&socket).is_err() {
        assert!(daemon.try_wait().unwrap().is_none(), "the daemon ended");
        std::thread::yield_now();
    }
    for file in ["mem", "environ", "maps"] {
        assert_eq!(std::fs::metadata(format!("/proc/{}/{file}", daemon.id())).unwrap().uid(), 0, "{file}");
    }
    let peek = Command::new("/bin/cat").arg(format!("/proc/{}/environ", daemon.id())).uid(USER).gid(USER).output();
    assert!(!peek.unwrap().status.success());
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

#[test]
fn a_kernel_that_lacks_a_layer_of_the_confinement_is_told() {
    if !strace::is_there() {
        return;
    }
    for (call, layer) in [("landlock_create_ruleset", "Landlock"), ("seccomp", "seccomp")] {
        let mut guillemet = Guillemet::init();
        let fault = Fault { call, what: "error=ENOSYS", at: 1, lasting: true };
        assert!(guillemet.try_run(&fault.before()), "{}", guillemet.log());
        let warnings = guillemet.get("/v1/status").json()["warnings"].to_string();
        assert!(warnings.contains(&format!("this kernel has no {layer}")), "{warnings}");
        assert!(guillemet.log().contains(&format!("this kernel has no {layer}")));
        // The other layers hold, and planners work.
        guillemet.write("mcp-server/a.toml", "name = \"a\"\nurl = \"https://example.com\"\n");
        assert_eq!(guillemet.get("/v1/render/mcp-server/a").status, 200);
    }
    let guillemet = Guillemet::start();
    assert_eq!(guillemet.get("/v1/status").json()["warnings"], json!([]));
}
