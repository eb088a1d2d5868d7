//! What a machine lacks is reported at the start: a daemon that says it is ready can serve, and one that could not
//! serve stops and names what is missing.

use std::fs;
use std::process::{Command, Stdio};

use crate::support::daemon::{Guillemet, PROGRAM};
use crate::support::strace::{self, Fault};
use guillemet_testing::missing;
use serde_json::json;

const TEMPLATE: &str = "name = 'a'\nurl = 'https://example.com'\n";

/// Reports whether something that a test needs works here, by running a program. If not, the test is reported as
/// skipped with the remedy.
fn can(what: &str, remedy: &str, program: &[String], arguments: &[&str]) -> bool {
    let mut command = Command::new(&program[0]);
    command.args(&program[1..]).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let works = command.status().is_ok_and(|status| status.success());
    // Usually this depends on the kernel.
    missing::supports(works, what, remedy)
}

/// Checks that the daemon does not start, and that its log contains these words.
fn refuses(guillemet: &mut Guillemet, by_way_of: &[String], words: &[&str]) {
    let before = guillemet.log().len();
    assert!(!guillemet.try_run(by_way_of), "it says that it is ready");
    let log = guillemet.log().split_off(before);
    for words in words {
        assert!(log.contains(words), "{words}: {log}");
    }
    assert!(!log.contains(" ready"), "{log}");
    assert!(!guillemet.path("run/guillemet.sock").exists());
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

#[test]
fn memory_that_cannot_be_written_and_then_run_is_named() {
    // systemd's MemoryDenyWriteExecute= does the same: prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN).
    const DENY: &str = "import ctypes, os, sys\n\
        if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0): sys.exit(77)\n\
        os.execvp(sys.argv[1], sys.argv[1:])";
    let deny = words(["python3", "-c", DENY]);
    if !can("python3, and Linux 6.3 for PR_SET_MDWE", "`sudo apt-get install python3`", &deny, &["true"]) {
        return;
    }
    let mut guillemet = Guillemet::init();
    guillemet.write("mcp-server/a.toml", TEMPLATE);
    let said = ["the daemon cannot run here: the system forbids memory", "set MemoryDenyWriteExecute=no"];
    refuses(&mut guillemet, &deny, &said);
    // Commands that run a planner themselves do not blame the plugin either.
    let checked = guillemet.command_by(&deny, &["template", "check"], b"");
    let text = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(text.contains("cannot work here: the system forbids memory") && !text.contains("author"), "{text}");
}

#[test]
fn a_missing_proc_is_named() {
    let without = words(["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /proc && exec \"$0\" \"$@\""]);
    if can("root, to mount something over /proc", "run the tests as root", &without, &["true"]) {
        refuses(&mut Guillemet::init(), &without, &["/proc does not show this process", "mount -t proc proc /proc"]);
    }
}

/// Opens what the first argument names (a file, a folder, a pipe or a socket) as descriptor 3, and becomes the program
/// in the other arguments.
const HAND_OVER: &str = "import os, socket, sys
def unix(kind):
    made = socket.socket(socket.AF_UNIX, kind)
    made.bind('\\0guillemet-test-%d' % os.getpid())
    return made
def tcp():
    made = socket.socket()
    made.bind(('127.0.0.1', 0))
    made.listen()
    return made
makers = {
    'file': lambda: os.open('/etc/passwd', os.O_RDONLY),
    'folder': lambda: os.open('/', os.O_RDONLY),
    'pipe': lambda: os.pipe()[0],
    'tcp': tcp,
    'udp': lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    'datagram': lambda: unix(socket.SOCK_DGRAM),
    'silent': lambda: unix(socket.SOCK_STREAM),
    'connection': lambda: socket.socketpair()[0],
    'two': lambda: unix(socket.SOCK_STREAM),
    'none': lambda: None,
}
made = makers[sys.argv[1]]()
if made is not None:
    made = os.dup(made if isinstance(made, int) else made.fileno())
os.closerange(3, made or 100)
if made is not None:
    for number in 3, 4:
        os.dup2(made, number)
        os.set_inheritable(number, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='2' if sys.argv[1] == 'two' else '1')
os.execvp(sys.argv[2], sys.argv[2:])";

#[test]
fn what_a_service_manager_hands_over_has_to_be_a_socket_that_listens() {
    if !can("python3", "`sudo apt-get install python3`", &words(["python3", "-c", "0"]), &[]) {
        return;
    }
    let mut guillemet = Guillemet::init();
    for (kind, what) in [
        ("file", "descriptor 3 is a file, but must be a listening Unix stream socket"),
        ("folder", "descriptor 3 is a folder"),
        ("pipe", "descriptor 3 is a pipe"),
        ("tcp", "descriptor 3 is a TCP socket"),
        ("udp", "descriptor 3 is a UDP socket"),
        ("datagram", "descriptor 3 is a Unix datagram socket"),
        ("silent", "descriptor 3 is a Unix stream socket that does not listen"),
        ("connection", "descriptor 3 is a Unix stream socket that does not listen"),
        ("two", "it passed more than one (descriptors 3, 4)"),
        ("none", "LISTEN_FDS and LISTEN_PID: Bad file descriptor"),
    ] {
        refuses(&mut guillemet, &words(["python3", "-c", HAND_OVER, kind]), &[what]);
    }
}

#[test]
fn a_daemon_that_nobody_can_connect_to_is_not_ready() {
    if !strace::is_there() {
        return;
    }
    let mut guillemet = Guillemet::init();
    let fault = Fault { call: "connect", what: "error=ECONNREFUSED", at: 1, lasting: true };
    refuses(
        &mut guillemet,
        &fault.before(),
        &["cannot connect to the socket", "run/guillemet.sock: Connection refused"],
    );
    // A planner needs three pipes, and the checks before it need fewer.
    let fault = Fault { call: "pipe2", what: "error=EMFILE", at: 3, lasting: true };
    refuses(&mut guillemet, &fault.before(), &["templates cannot be compiled: ", "Too many open files"]);
    guillemet.run();
    assert_eq!(guillemet.planners(), Vec::<u32>::new(), "the planner of the check is gone");
}

#[test]
fn user_65534_is_one_like_any_other_where_every_user_has_a_name() {
    let nobody = words(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
    if !can("root and setpriv", "run the tests as root, with util-linux", &nobody, &["true"]) {
        return;
    }
    let mut guillemet = Guillemet::init();
    guillemet.write("mcp-server/a.toml", TEMPLATE);
    let program = guillemet.path("guillemet");
    fs::copy(PROGRAM, &program).unwrap();
    let owned = Command::new("chown").args(["-R", "65534:65534"]).arg(guillemet.dir.path()).status();
    assert!(owned.unwrap().success());
    assert!(guillemet.try_run(&nobody), "{}", guillemet.log());
    // The command is served as the daemon's own user. Root is a caller without a rule.
    let status = Command::new(&nobody[0])
        .args(&nobody[1..])
        .arg(&program)
        .arg("--home")
        .arg(guillemet.dir.path())
        .args(["render", "mcp-server/a"])
        .output()
        .unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    assert_eq!(guillemet.get("/v1/status").status, 403);
}

#[test]
fn user_65534_is_refused_where_it_stands_for_everybody_without_a_name() {
    let unshared = words(["unshare", "--user", "--map-user=65534", "--map-group=65534"]);
    if !can("a user namespace", "allow unprivileged user namespaces, or run the tests as root", &unshared, &["true"]) {
        return;
    }
    let mut guillemet = Guillemet::init();
    let said = ["it runs as user 65534", "for every user without a mapping", "run it as another user"];
    refuses(&mut guillemet, &unshared, &said);
    // As another user, the daemon works in such a namespace, where it sees itself as that user.
    let root = words(["unshare", "--user", "--map-root-user"]);
    guillemet.write("mcp-server/a.toml", TEMPLATE);
    assert!(guillemet.try_run(&root), "{}", guillemet.log());
    let rendered = guillemet.get("/v1/render/mcp-server/a");
    assert_eq!(rendered.json()["mcpServers"]["a"]["url"], json!("https://example.com"));
}
