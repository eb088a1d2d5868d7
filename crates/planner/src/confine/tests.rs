//! A process that is confined as a planner tries everything that a planner must not be able to do.

use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::{fs, io};

use rustix::process::{Pid, Signal};

use super::{confine, seal};
use guillemet_base::sys::process::try_trace;
use guillemet_testing::missing;

/// Returns everything that was tried, with the result.
fn attempts() -> Vec<(&'static str, io::Result<()>)> {
    let setup = std::env::var("GUILLEMET_CONFINE_TEST").expect("what the test has set up");
    let mut setup = setup.splitn(3, ' ');
    let parent: i32 = setup.next().and_then(|pid| pid.parse().ok()).expect("its pid");
    let port: u16 = setup.next().and_then(|port| port.parse().ok()).expect("a port");
    let place = Path::new(setup.next().expect("a folder"));
    let parent_pid = Pid::from_raw(parent).expect("a pid");
    let to_abstract = || UnixStream::connect_addr(&abstract_name(parent)?);
    vec![
        ("read a file", fs::read(place.join("old")).map(drop)),
        ("read its own program", fs::read("/proc/self/exe").map(drop)),
        ("list a folder", fs::read_dir("/").map(drop)),
        ("look at a file", fs::metadata(place.join("old")).map(drop)),
        ("write a file", fs::write(place.join("file"), "x")),
        ("make a folder", fs::create_dir(place.join("folder"))),
        ("remove a file", fs::remove_file(place.join("old"))),
        ("read its parent's memory", fs::File::open(format!("/proc/{parent}/mem")).map(drop)),
        ("connect to a port", TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map(drop)),
        ("listen on a port", TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map(drop)),
        ("open a datagram socket", UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map(drop)),
        ("make a socket", UnixListener::bind(place.join("socket")).map(drop)),
        ("reach an abstract socket", to_abstract().map(drop)),
        ("make a pair of sockets", UnixStream::pair().map(drop)),
        ("make a pipe", io::pipe().map(drop)),
        ("copy a descriptor", rustix::io::dup(io::stdin()).map(drop).map_err(Into::into)),
        ("start a program", Command::new("/bin/true").stdin(Stdio::null()).status().map(drop)),
        ("start a thread", std::thread::Builder::new().spawn(|| {}).map(drop)),
        ("signal its parent", rustix::process::kill_process(parent_pid, Signal::CONT).map_err(Into::into)),
        ("look for its parent", rustix::process::test_kill_process(parent_pid).map_err(Into::into)),
        ("trace its parent", try_trace(parent)),
        ("raise its limits", {
            use rustix::process::{Resource, Rlimit, setrlimit};
            setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: Some(64) }).map_err(Into::into)
        }),
        ("become dumpable", {
            use rustix::process::{DumpableBehavior, set_dumpable_behavior};
            set_dumpable_behavior(DumpableBehavior::Dumpable).map_err(Into::into)
        }),
        ("map memory that is writable and executable", guillemet_base::sys::process::map_writable_code()),
    ]
}

/// Runs in a separate process, started by the tests below.
#[test]
#[ignore = "confines the whole process; started by the other tests"]
fn inside() {
    let layers = std::env::var("GUILLEMET_CONFINE").expect("which layers");
    let mut missing = Vec::new();
    if layers.contains("landlock") {
        missing.extend(confine().unwrap());
    }
    if layers.contains("seccomp") {
        missing.extend(seal().unwrap());
    }
    for layer in missing {
        println!("\nmissing: {layer}");
    }
    for (what, went) in attempts() {
        println!("\n{}: {what}", if went.is_ok() { "done" } else { "refused" });
    }
    println!("\nover");
    // The test harness would start threads and open files.
    std::process::exit(0);
}

fn abstract_name(pid: i32) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("guillemet-confine-{pid}"))
}

fn run(layers: &str) -> Vec<String> {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("old"), "x").unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let _listener = UnixListener::bind_addr(&abstract_name(std::process::id() as i32).unwrap()).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "confine::tests::inside", "--ignored", "--nocapture", "--test-threads=1"])
        .env("GUILLEMET_CONFINE", layers)
        .env("GUILLEMET_CONFINE_TEST", format!("{} {port} {}", std::process::id(), place.path().display()))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("\nover\n"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let is_report = |line: &&str| ["missing: ", "done: ", "refused: "].iter().any(|word| line.starts_with(word));
    text.lines().filter(is_report).map(str::to_owned).collect()
}

#[test]
fn a_confined_process_can_do_nothing_of_all_that() {
    let output = run("landlock seccomp");
    assert!(output.iter().all(|line| line.starts_with("refused: ")), "{output:#?}");
    assert_eq!(output.len(), 24);
}

/// Makes sure that the test above does not pass merely because nothing works on this machine.
#[test]
fn without_layers_it_can() {
    let output = run("none");
    // Yama may keep a user's own processes from each other, but not root.
    let others = ["refused: trace its parent", "refused: read its parent's memory"];
    let excused = |line: &str| !rustix::process::geteuid().is_root() && others.contains(&line);
    assert!(output.iter().all(|line| line.starts_with("done: ") || excused(line)), "{output:#?}");
    assert_eq!(output.len(), 24);
}

/// Either layer alone keeps it away from files.
#[test]
fn landlock_alone_keeps_files_away() {
    let output = run("landlock");
    if !missing::has(!output.iter().any(|line| line.starts_with("missing: ")), "Landlock", "run a kernel with it") {
        return;
    }
    for what in ["read a file", "read its own program", "list a folder", "write a file", "signal its parent"] {
        assert!(output.contains(&format!("refused: {what}")), "{output:#?}");
    }
}
