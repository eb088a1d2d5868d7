//! Who can change a home: a daemon starts only if nobody else can, and values are sent only to a daemon that may have
//! them. With the real binary and real modes, users, groups and sockets.

use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::daemon::{Guillemet, PROGRAM};
use guillemet_testing::missing;
use rustix::process::{Signal, Uid};

/// Numbers of users and of a group that no package uses.
const AGENT: u32 = 61_001;
const OTHER: u32 = 61_002;
const GROUP: u32 = 61_100;

const VALUE: &str = "canary-value";
const TEMPLATE: &str = "name = \"calendar\"\nurl = \"https://mcp.example.com/mcp\"\n[headers]\n\
                        Authorization = \"Bearer << secret \"calendar-token\" >>\"\n";

/// Reports whether these programs are installed and the tests run as root, who can change owners. If not, the test is
/// reported as skipped.
fn can(programs: &[&str]) -> bool {
    missing::is_root("change owners") && programs.iter().all(|program| missing::has_program(program, "acl util-linux"))
}

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Returns the words to put before a program so that it gets one more argument at the end.
fn with_argument(argument: &str) -> Vec<String> {
    ["sh", "-c", &format!("exec \"$@\" {argument}"), "sh"].map(str::to_owned).to_vec()
}

/// Returns the commands that a text says to run.
fn commands(text: &str) -> Vec<&str> {
    text.split("run `").skip(1).map(|rest| rest.split('`').next().unwrap()).collect()
}

/// Returns the status warning about templates that others can change.
fn warning(guillemet: &Guillemet) -> Option<String> {
    let status = guillemet.get("/v1/status").json();
    let mut warnings =
        status["warnings"].as_array().unwrap().iter().map(|warning| warning.as_str().unwrap().to_owned());
    warnings.find(|warning| warning.contains("can change templates"))
}

#[test]
fn a_home_that_everyone_can_write_is_not_started_and_every_problem_is_told_with_its_remedy() {
    let mut guillemet = Guillemet::init();
    fs::create_dir(guillemet.path("plugins")).unwrap();
    fs::create_dir(guillemet.path("run")).unwrap();
    fs::write(guillemet.path("plugins/pager.wasm"), "").unwrap();
    let opened = [
        ("", 0o777, "chmod o-w"),
        ("run", 0o702, "chmod 700"),
        ("guillemet.toml", 0o666, "chmod o-w"),
        ("vault.db", 0o606, "chmod 600"),
        ("plugins", 0o703, "chmod o-w"),
        ("plugins/pager.wasm", 0o602, "chmod o-w"),
    ];
    // The group of the test's own user may have other members or not, so its right to write is left out.
    let opened = opened.map(|(name, mode, fix)| (guillemet.dir.path().join(name), mode & !0o020, fix));
    for (path, mode, _) in &opened {
        set(path, *mode);
    }
    assert!(!guillemet.try_run(&[]));
    let log = guillemet.log();
    for (path, _, fix) in &opened {
        let path = path.to_str().unwrap().trim_end_matches('/');
        let line = format!("{path} is writable by everyone; run `{fix} {path}`");
        assert!(log.contains(&line), "{line}\n{log}");
    }
    assert!(!guillemet.path("daemon.lock").exists() && !guillemet.path("usage.journal").exists(), "it changed nothing");
    // Allowing groups does not allow everyone.
    assert!(!guillemet.try_run(&with_argument("--group-may-write")));
    for command in commands(&log) {
        assert!(Command::new("sh").args(["-c", command]).status().unwrap().success(), "{command}");
    }
    guillemet.run();
    guillemet.add("a", "v");
}

/// Returns the files, folders and sockets below a folder, with their permissions.
fn modes(folder: &Path) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(path) = pending.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
        found.push((name, metadata.mode() & 0o7777));
    }
    found
}

#[test]
fn what_is_made_is_its_owners_alone_whatever_the_umask() {
    let group = can(&[]).then(|| format!("[api]\ngroup = {GROUP}\n"));
    for config in [None, group] {
        let careless = ["sh", "-c", "umask 0; exec \"$@\"", "sh"].map(str::to_owned);
        let mut guillemet = Guillemet::nowhere();
        assert!(guillemet.command_by(&careless, &["init"], b"").status.success());
        let shared = config.is_some();
        if let Some(config) = config {
            fs::write(guillemet.path("guillemet.toml"), config).unwrap();
        }
        assert!(guillemet.try_run(&careless), "{}", guillemet.log());
        guillemet.add("calendar-token", VALUE);
        guillemet.write("mcp-server/calendar.toml", TEMPLATE);
        assert_eq!(guillemet.get("/v1/render/mcp-server/calendar").status, 200);
        let found = modes(guillemet.dir.path());
        for (name, mode) in &found {
            let expected = match name.as_str() {
                // A path made by this test.
                name if name.starts_with("templates/") || name.is_empty() && !shared => continue,
                "run/guillemet.sock" if shared => 0o660,
                "" | "run" if shared => 0o710,
                _ if guillemet.path(name).is_dir() => 0o700,
                _ => 0o600,
            };
            assert_eq!(*mode, expected, "{name}: {mode:o}");
        }
        for name in ["vault.db", "vault.key", "usage.journal", "guillemet.toml", "daemon.lock", "run/guillemet.sock"] {
            assert!(found.iter().any(|(found, _)| found == name), "{name} is not there: {found:?}");
        }
        assert!(guillemet.stop());
    }
}

#[test]
fn what_is_opened_later_is_not_read_again() {
    let guillemet = Guillemet::start();
    let config = guillemet.path("guillemet.toml");
    fs::write(&config, "[vars]\nx = 'not-this-one'\n[limits]\nconnections = 0\n").unwrap();
    set(&config, 0o666);
    guillemet.signal(Signal::HUP);
    let deadline = Instant::now() + Duration::from_secs(30);
    while !guillemet.log().contains("the previous configuration stays in effect") {
        assert!(Instant::now() < deadline, "{}", guillemet.log());
        guillemet.get("/healthz");
    }
    let log = guillemet.log();
    assert!(log.contains("guillemet.toml is writable by everyone") && !log.contains("limits.connections"), "{log}");
}

#[test]
fn a_folder_above_that_everyone_can_write_is_refused_unless_its_files_are_their_owners() {
    let dir = tempfile::tempdir().unwrap();
    let above = dir.path().join("above");
    fs::create_dir(&above).unwrap();
    let init = || Command::new(PROGRAM).arg("--home").arg(above.join("home")).arg("init").output().unwrap();
    set(&above, 0o777);
    let output = init();
    let line = format!("{0} is writable by everyone; run `chmod o-w {0}`", above.display());
    assert!(output.status.code() == Some(1) && told(&output).contains(&line), "{}", told(&output));
    assert_eq!(fs::read_dir(&above).unwrap().count(), 0, "nothing was made");
    set(&above, 0o1777);
    assert!(init().status.success());
}

#[test]
fn init_and_the_accounts_server_use_no_folder_of_others() {
    let serve = ["account", "serve", "--listen", "127.0.0.1:0", "--data"];
    for arguments in [&["init"][..], &serve] {
        let dir = tempfile::tempdir().unwrap();
        set(dir.path(), 0o777);
        // A server that starts does not end by itself.
        let mut command = Command::new("timeout");
        command.args(["20", PROGRAM, "--home"]).arg(dir.path()).args(arguments);
        command.args((arguments.len() > 1).then_some(dir.path()));
        let output = command.output().unwrap();
        assert!(output.status.code() == Some(1) && told(&output).contains("chmod"), "{arguments:?}: {}", told(&output));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was made by {arguments:?}");
    }
}

#[test]
fn a_group_may_write_where_it_was_said_so() {
    if !can(&[]) {
        return;
    }
    let mut guillemet = Guillemet::init();
    guillemet.write("mcp-server/calendar.toml", TEMPLATE);
    // Kubernetes leaves a volume with `fsGroup` like this: the group owns everything.
    let script = format!("chgrp -R {GROUP} {0} && chmod -R g+rwX {0}", guillemet.dir.path().display());
    assert!(Command::new("sh").arg("-c").arg(script).status().unwrap().success());
    assert!(!guillemet.try_run(&[]));
    let log = guillemet.log();
    let line = format!("guillemet.toml is writable by group {GROUP}, or pass --group-may-write; run `chmod g-w ");
    assert!(log.contains(&line), "{log}");
    let flag = with_argument("--group-may-write");
    assert!(guillemet.try_run(&flag), "{}", guillemet.log());
    guillemet.add("calendar-token", "v");
    assert_eq!(guillemet.get("/v1/render/mcp-server/calendar").status, 200);
    assert_eq!(warning(&guillemet), None);
    // The socket stays private; other users get access through `[api] group`.
    let mode = |name: &str| fs::metadata(guillemet.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!([mode("run"), mode("run/guillemet.sock")], [0o700, 0o600]);
}

/// Starts a daemon as a user of these databases, with a home that its group may write. Returns the log if it does not
/// start.
fn starts_with(passwd: &str, group: &str) -> Result<(), String> {
    let mut guillemet = Guillemet::init();
    let databases = tempfile::tempdir().unwrap();
    fs::write(databases.path().join("passwd"), format!("root:x:0:0::/root:/bin/sh\n{passwd}")).unwrap();
    fs::write(databases.path().join("group"), format!("root:x:0:\n{group}")).unwrap();
    set(databases.path(), 0o755);
    let owned = Command::new("chown").arg("-R").arg(format!("{AGENT}:{AGENT}")).arg(guillemet.dir.path()).status();
    assert!(owned.unwrap().success());
    set(guillemet.dir.path(), 0o770);
    set(&guillemet.path("guillemet.toml"), 0o660);
    let script = format!(
        "mount --bind {0}/passwd /etc/passwd && mount --bind {0}/group /etc/group && \
         exec setpriv --reuid={AGENT} --regid={AGENT} --clear-groups \"$@\"",
        databases.path().display()
    );
    let by_way_of = ["unshare", "-m", "sh", "-c", &script, "sh"].map(str::to_owned);
    if guillemet.try_run(&by_way_of) { Ok(()) } else { Err(guillemet.log()) }
}

#[test]
fn the_own_group_may_write_where_nobody_else_is_in_it() {
    if !can(&["unshare", "setpriv"]) {
        return;
    }
    let agent = format!("agent:x:{AGENT}:{AGENT}::/:/bin/sh\n");
    let other = |gid: u32| format!("{agent}other:x:{OTHER}:{gid}::/:/bin/sh\n");
    let group = |members: &str| format!("agent:x:{AGENT}:{members}\nother:x:{OTHER}:\n");
    starts_with(&agent, &group("")).unwrap();
    starts_with(&other(OTHER), &group("agent")).unwrap();
    for (passwd, group) in [(other(OTHER), group("agent,other")), (other(AGENT), group("")), (String::new(), group(""))]
    {
        let log = starts_with(&passwd, &group).unwrap_err();
        assert!(log.contains("guillemet.toml is writable by group `agent`"), "{passwd}{group}: {log}");
    }
}

#[test]
fn an_access_control_list_counts() {
    if !can(&["setfacl"]) {
        return;
    }
    let mut guillemet = Guillemet::init();
    let file = guillemet.path("guillemet.toml");
    let added = Command::new("setfacl").arg("-m").arg(format!("u:{OTHER}:rw")).arg(&file).output().unwrap();
    let has_lists = !String::from_utf8_lossy(&added.stderr).contains("not supported");
    if !missing::supports(has_lists, "access control lists", "set TMPDIR to a folder whose file system has them") {
        return;
    }
    assert!(added.status.success());
    assert!(!guillemet.try_run(&[]));
    assert!(guillemet.log().contains("guillemet.toml is writable by users or groups in its access control list"));
    set(&file, 0o600);
    guillemet.run();
}

#[test]
fn another_users_files_are_not_used() {
    if !can(&[]) {
        return;
    }
    let mut guillemet = Guillemet::init();
    chown(guillemet.path("guillemet.toml"), Some(OTHER), None).unwrap();
    assert!(!guillemet.try_run(&[]));
    let log = guillemet.log();
    assert!(log.contains(&format!("guillemet.toml belongs to user {OTHER}, not to user `root`")), "{log}");
    for command in commands(&log) {
        assert!(Command::new("sh").args(["-c", command]).status().unwrap().success(), "{command}");
    }
    guillemet.run();
}

#[test]
fn templates_that_others_can_change_are_a_warning_until_they_cannot() {
    let guillemet = Guillemet::start();
    guillemet.add("calendar-token", "v");
    guillemet.write("mcp-server/calendar.toml", TEMPLATE);
    let elsewhere = guillemet.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("linked.toml"), TEMPLATE).unwrap();
    symlink(elsewhere.join("linked.toml"), guillemet.path("templates/mcp-server/linked.toml")).unwrap();
    for id in ["calendar", "linked"] {
        assert_eq!(guillemet.get(&format!("/v1/render/mcp-server/{id}")).status, 200);
    }
    assert_eq!(warning(&guillemet), None);
    let opened = [
        (guillemet.path("templates"), 0o777, 0o700),
        (guillemet.path("templates/mcp-server"), 0o1777, 0o700),
        (guillemet.path("templates/mcp-server/calendar.toml"), 0o666, 0o644),
        (elsewhere.clone(), 0o777, 0o700),
        (elsewhere.join("linked.toml"), 0o606, 0o600),
    ];
    for (path, mode, closed) in &opened {
        set(path, *mode & !0o020);
        let told = warning(&guillemet).unwrap();
        assert!(told.contains(&format!("other users can change templates: {} is writable", path.display())), "{told}");
        assert!(told.contains(&format!("chmod o-w {}`", path.display())), "{told}");
        set(path, *closed);
        assert_eq!(warning(&guillemet), None);
    }
    // A few are named, and the others are counted.
    for number in 0..9 {
        let name = format!("mcp-server/more-{number}.toml");
        guillemet.write(&name, TEMPLATE);
        set(&guillemet.path("templates").join(&name), 0o602);
        assert_eq!(guillemet.get(&format!("/v1/render/mcp-server/more-{number}")).status, 200);
    }
    let told = warning(&guillemet).unwrap();
    assert!(told.contains("more-0.toml") && told.contains("; and 6 more") && !told.contains("more-3"), "{told}");
}

#[test]
fn a_lock_that_is_a_link_leads_nowhere() {
    let mut guillemet = Guillemet::init();
    let elsewhere = tempfile::tempdir().unwrap();
    let victim = elsewhere.path().join("victim");
    fs::write(&victim, "kept\n").unwrap();
    for make in [|from: &Path, to: &Path| symlink(from, to), |from: &Path, to: &Path| fs::hard_link(from, to)] {
        make(&victim, &guillemet.path("daemon.lock")).unwrap();
        assert!(!guillemet.try_run(&[]));
        assert!(guillemet.log().contains("not a Guillemet lock file; move it away"), "{}", guillemet.log());
        assert_eq!(fs::read_to_string(&victim).unwrap(), "kept\n");
        fs::remove_file(guillemet.path("daemon.lock")).unwrap();
    }
    guillemet.run();
}

/// Listens on the home's socket as the user with this id. The thread returns the bytes that one connection sent.
fn listening(guillemet: &Guillemet, uid: u32) -> thread::JoinHandle<String> {
    let place = tempfile::tempdir().unwrap();
    chown(place.path(), Some(uid), None).unwrap();
    let socket = place.path().join("socket");
    let listener = thread::scope(|scope| {
        let bind = || {
            // Only this thread changes its user. The kernel records the listener's user when it begins to listen.
            let uid = Uid::from_raw(uid);
            rustix::thread::set_thread_res_uid(None::<Uid>, uid, None::<Uid>).unwrap();
            UnixListener::bind(&socket).unwrap()
        };
        scope.spawn(bind).join().unwrap()
    });
    fs::rename(&socket, guillemet.path("run/guillemet.sock")).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let (mut sent, mut piece) = (String::new(), [0; 4096]);
        // The command first asks which home the daemon serves.
        while !sent.contains("\r\n\r\n") {
            match stream.read(&mut piece).unwrap() {
                0 => break,
                len => sent.push_str(&String::from_utf8_lossy(&piece[..len])),
            }
        }
        sent
    })
}

#[test]
fn a_value_is_sent_to_nobody_who_took_the_sockets_place() {
    if !can(&[]) {
        return;
    }
    let guillemet = Guillemet::init();
    fs::create_dir(guillemet.path("run")).unwrap();
    let add = || guillemet.command_with(&["secret", "add", "a", "--from-file", "-"], VALUE.as_bytes());
    let sent = listening(&guillemet, OTHER);
    let output = add();
    let text = told(&output);
    assert!(output.status.code() == Some(1) && text.contains(&format!("user {OTHER} is listening at")), "{text}");
    assert!(text.contains("nothing was sent") && sent.join().unwrap().is_empty(), "{text}");
    // A daemon of another user, in that user's folder: one of an operator whom a rule names.
    chown(guillemet.path("run"), Some(OTHER), None).unwrap();
    let sent = listening(&guillemet, OTHER);
    add();
    assert!(sent.join().unwrap().contains("/healthz"));
    // The same in a place where anyone could have put it.
    for name in ["run", ""] {
        set(&guillemet.dir.path().join(name), 0o777);
        let sent = listening(&guillemet, OTHER);
        let output = add();
        assert!(told(&output).contains("is writable by everyone"), "{}", told(&output));
        assert!(sent.join().unwrap().is_empty());
        set(&guillemet.dir.path().join(name), 0o711);
    }
}
