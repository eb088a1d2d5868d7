//! Files that the real program writes. `render --out` asks before it replaces a foreign file, keeps a file's
//! attributes, and leaves nothing when interrupted. A rename that rewrites templates gives no file to another user.
//! File systems without some features work too.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::daemon::{Guillemet, PROGRAM};
use crate::support::strace;
use crate::support::tier;
use guillemet_testing::missing;
use guillemet_testing::random::Random;
use rustix::fs::{XattrFlags, removexattr, setxattr};
use rustix::process::{Signal, Uid};
use serde_json::json;

/// The number of another user, who does not exist on this machine.
const OTHER: u32 = 12_345;

const ID: &str = "mcp-server/calendar";

fn is_root() -> bool {
    missing::is_root("be two users")
}

/// Reports whether a file system has extended attributes that users can set.
fn has_attributes(folder: &Path) -> bool {
    let file = folder.join("attributes");
    fs::write(&file, "").unwrap();
    let has = setxattr(&file, "user.note", b"x", XattrFlags::empty()).is_ok();
    fs::remove_file(file).unwrap();
    missing::has(has, "extended attributes", "set TMPDIR to a folder whose file system has them")
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn chown(path: &Path, user: u32) {
    std::os::unix::fs::lchown(path, Some(user), Some(user)).unwrap();
}

fn names(folder: &Path) -> Vec<OsString> {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn template(secret: &str) -> String {
    format!("name = 'a'\nurl = 'https://h.example/mcp'\nheaders.X = '<< secret \"{secret}\" >>'\n")
}

/// A daemon with one secret, one template that references it, and a folder for rendered files.
struct Rendering {
    guillemet: Guillemet,
    folder: PathBuf,
    out: PathBuf,
}

impl Rendering {
    fn start() -> Self {
        let guillemet = Guillemet::start();
        guillemet.write("mcp-server/calendar.toml", &template("key"));
        guillemet.write("mcp-server/other.toml", &template("key"));
        guillemet.add("key", "value-0");
        let folder = guillemet.path("rendered");
        fs::create_dir(&folder).unwrap();
        let out = folder.join("out");
        Self { guillemet, folder, out }
    }

    fn render(&self, arguments: &[&str]) -> Output {
        self.render_by(&[], arguments)
    }

    fn render_by(&self, by_way_of: &[&str], arguments: &[&str]) -> Output {
        let all = [&["render", ID, "--out", self.out.to_str().unwrap()], arguments].concat();
        let by_way_of: Vec<String> = by_way_of.iter().map(|word| (*word).to_owned()).collect();
        self.guillemet.command_by(&by_way_of, &all, b"")
    }

    fn refused(&self, arguments: &[&str]) -> String {
        let (before, uses) = (fs::read(&self.out).ok(), self.uses());
        let output = self.render(arguments);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert_eq!((fs::read(&self.out).ok(), self.uses()), (before, uses), "nothing is written, and nothing used");
        said(&output)
    }

    fn written(&self, arguments: &[&str]) {
        let output = self.render(arguments);
        assert!(output.status.success(), "{}", said(&output));
    }

    fn uses(&self) -> u64 {
        self.guillemet.get("/v1/secrets/key").json()["resolution_count"].as_u64().unwrap()
    }

    fn set_value(&self, value: &str) {
        let body = json!({"value": value}).to_string();
        assert_eq!(self.guillemet.ask("PATCH", "/v1/secrets/key", &[], body.as_bytes()).status, 200);
    }

    fn holds(&self, value: &str) -> bool {
        fs::read_to_string(&self.out).is_ok_and(|text| text.contains(value))
    }
}

#[test]
fn a_file_of_somebody_else_is_replaced_only_by_force_and_stays_theirs() {
    if !is_root() {
        return;
    }
    let rendering = Rendering::start();
    let out = &rendering.out;
    fs::write(out, "of another program").unwrap();
    chown(out, OTHER);
    set_mode(out, 0o640);
    let has_attributes = has_attributes(&rendering.folder);
    if has_attributes {
        setxattr(out, "user.note", b"kept", XattrFlags::empty()).unwrap();
    }
    let why = rendering.refused(&[]);
    assert!(why.contains("--force") && why.contains("nothing was rendered"), "{why}");
    assert_eq!(fs::read(out).unwrap(), b"of another program");

    rendering.written(&["--force"]);
    assert!(rendering.holds("value-0"));
    let metadata = fs::metadata(out).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), mode(out)), (OTHER, OTHER, 0o640));
    if has_attributes {
        removexattr(out, "user.note").expect("it is kept");
        // By now the file belongs to this template.
        rendering.set_value("value-1");
        rendering.written(&[]);
        assert!(rendering.holds("value-1"));
    }
}

#[test]
fn a_file_is_its_templates_and_its_targets_and_written_when_its_bytes_differ() {
    let rendering = Rendering::start();
    let out = &rendering.out;
    if !has_attributes(&rendering.folder) {
        return;
    }
    rendering.written(&[]);
    assert_eq!(mode(out), 0o600);
    let look = || {
        let metadata = fs::metadata(out).unwrap();
        (metadata.ino(), metadata.mtime(), metadata.mtime_nsec())
    };
    let first = look();
    rendering.written(&[]);
    assert_eq!(look(), first, "the same bytes are not written again");
    rendering.written(&["--mode", "0640"]);
    assert_eq!((look(), mode(out)), (first, 0o640));
    rendering.set_value("value-1");
    rendering.written(&[]);
    assert!(rendering.holds("value-1"));
    assert_eq!(mode(out), 0o640, "it keeps its permissions");

    let why = rendering.refused(&["--target", "mcp-json"]);
    assert!(why.contains("it was rendered from `mcp-server/calendar`, not from `mcp-server/calendar?target="), "{why}");
    let other = ["render", "mcp-server/other", "--out", out.to_str().unwrap()];
    let output = rendering.guillemet.command(&other);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("--force"), "{}", said(&output));
    let forced = rendering.guillemet.command(&[&other[..], &["--force"]].concat());
    assert!(forced.status.success(), "{}", said(&forced));
    assert!(rendering.refused(&[]).contains("it was rendered from `mcp-server/other`"));

    // With --force the file becomes this template's even if the bytes are the same.
    rendering.written(&["--force"]);
    rendering.written(&[]);
}

#[test]
fn a_former_name_of_a_target_is_the_same_source_and_the_present_one_is_noted() {
    let rendering = Rendering::start();
    if !has_attributes(&rendering.folder) {
        return;
    }
    let Rendering { guillemet, out, .. } = &rendering;
    guillemet.write("cal-com/desk.toml", "api_key = '<< secret \"key\" >>'\n");
    let render = |target: &str| {
        guillemet.command(&["render", "cal-com/desk", "--target", target, "--out", out.to_str().unwrap()])
    };
    let note = || {
        let mut value = [0; 100];
        let len = rustix::fs::getxattr(out, "user.guillemet", &mut value[..]).unwrap();
        String::from_utf8(value[..len].to_vec()).unwrap()
    };
    let warning = "warning: the target `env` is now called `dotenv`; the old name still works\n";
    for (number, target) in ["env", "env", "dotenv", "env", "dotenv"].into_iter().enumerate() {
        // In every other round the bytes are the same.
        rendering.set_value(&format!("value-{}", number / 2));
        let output = render(target);
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(said(&output), if target == "env" { warning } else { "" });
        assert_eq!(note(), "cal-com/desk?target=dotenv");
    }
    // The file was written by a version that knew the target only by its former name.
    for (written, target) in [("cal-com/desk?target=env", "dotenv"), ("cal-com/desk?target=env", "env")] {
        setxattr(out, "user.guillemet", written.as_bytes(), XattrFlags::empty()).unwrap();
        assert!(render(target).status.success());
        assert_eq!(note(), "cal-com/desk?target=dotenv");
    }
    // Another target is another source, and no secret is used to find that out.
    let before = (fs::read(out).unwrap(), rendering.uses());
    for target in ["json", "retell-connection"] {
        let output = render(target);
        assert_eq!(output.status.code(), Some(1));
        let why = format!("it was rendered from `cal-com/desk?target=dotenv`, not from `cal-com/desk?target={target}`");
        assert!(said(&output).contains("nothing was rendered") && said(&output).contains(&why), "{}", said(&output));
    }
    assert_eq!((fs::read(out).unwrap(), rendering.uses()), before);
}

#[test]
fn a_file_that_everyone_can_read_needs_its_mode_said() {
    let rendering = Rendering::start();
    rendering.written(&["--mode", "0644"]);
    let why = rendering.refused(&["--force"]);
    assert!(why.contains("everyone can read it (mode 0644)") && why.contains("--mode 0600"), "{why}");
    rendering.written(&["--force", "--mode", "0644"]);
    assert_eq!(mode(&rendering.out), 0o644);
    rendering.written(&["--force", "--mode", "0600"]);
    assert_eq!(mode(&rendering.out), 0o600);
    // All reasons are reported at once.
    fs::remove_file(&rendering.out).unwrap();
    fs::write(&rendering.out, "of another program").unwrap();
    set_mode(&rendering.out, 0o644);
    let why = rendering.refused(&[]);
    assert!(why.contains("--force") && why.contains("--mode"), "{why}");
}

#[test]
fn an_owner_that_cannot_be_kept_is_told_before_anything_is_rendered() {
    if !is_root() {
        return;
    }
    let rendering = Rendering::start();
    set_mode(rendering.guillemet.dir.path(), 0o755);
    chown(&rendering.folder, OTHER);
    fs::write(&rendering.out, "of root").unwrap();
    set_mode(&rendering.out, 0o644);
    let (user, group) = (format!("--reuid={OTHER}"), format!("--regid={OTHER}"));
    // The program may be in a place that only its owner can reach.
    let program = rendering.guillemet.path("guillemet");
    fs::copy(PROGRAM, &program).unwrap();
    set_mode(&program, 0o755);
    let home = rendering.guillemet.dir.path().to_str().unwrap();
    let output = Command::new("setpriv")
        .args([&user, &group, "--clear-groups", program.to_str().unwrap(), "--home", home, "render", ID, "--out"])
        .args([rendering.out.to_str().unwrap(), "--force", "--mode", "0600"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("cannot be preserved (it belongs to user 0)"), "{}", said(&output));
    assert_eq!(rendering.uses(), 0);
    assert_eq!(names(&rendering.folder), ["out"]);
    assert_eq!(fs::read(&rendering.out).unwrap(), b"of root");
}

/// Runs `render --out` over a file with other bytes, and ends it by a signal at each of its system calls in turn.
/// Returns the number of calls.
fn interrupt_at_every_call(rendering: &Rendering, signal: &str, check: impl Fn(&Rendering, bool)) -> u32 {
    let mut ended = 0;
    for call in ["write", "fsync", "fchmod", "linkat", "rename", "renameat", "renameat2", "unlinkat"] {
        for at in 1.. {
            rendering.set_value(&format!("value-{call}-{at}"));
            let inject = format!("inject={call}:signal={signal}:when={at}");
            let before = ["strace", "-f", "-qqq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject];
            let was_cut = !rendering.render_by(&before, &["--force"]).status.success();
            check(rendering, was_cut);
            if !was_cut {
                break;
            }
            ended += 1;
        }
    }
    ended
}

#[test]
fn a_render_that_is_interrupted_at_any_call_leaves_nothing() {
    if !strace::is_there() {
        return;
    }
    let rendering = Rendering::start();
    rendering.written(&[]);
    let ended = interrupt_at_every_call(&rendering, "TERM", |rendering, _| {
        assert_eq!(names(&rendering.folder), ["out"]);
        assert!(rendering.holds("value-"));
    });
    assert!(ended > 5, "{ended}");
}

#[test]
fn what_a_killed_render_leaves_is_gone_with_the_next() {
    if !strace::is_there() {
        return;
    }
    let rendering = Rendering::start();
    rendering.written(&[]);
    let left = std::cell::Cell::new(0);
    let ended = interrupt_at_every_call(&rendering, "KILL", |rendering, was_cut| {
        assert!(rendering.holds("value-"));
        if was_cut {
            left.set(left.get() + names(&rendering.folder).len() - 1);
            rendering.written(&["--force"]);
        }
        assert_eq!(names(&rendering.folder), ["out"]);
    });
    println!("left at {} of {ended} calls", left.get());
    assert!(ended > 5 && left.get() > 0);
}

#[test]
fn a_render_that_is_interrupted_at_any_moment_leaves_nothing() {
    let rendering = Rendering::start();
    rendering.written(&[]);
    let started = std::time::Instant::now();
    rendering.written(&["--force"]);
    let usual = started.elapsed().as_micros() as u64;
    let mut random = Random::new(17);
    let mut ended = 0;
    for round in 0..tier::rounds(60, 400) {
        rendering.set_value(&format!("value-{round}"));
        let mut child = Command::new(PROGRAM)
            .args(["--home", rendering.guillemet.dir.path().to_str().unwrap(), "render", ID, "--force", "--out"])
            .arg(&rendering.out)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // A random moment, at which nothing is waited for.
        std::thread::sleep(std::time::Duration::from_micros(random.below(usual * 6 / 5)));
        let signal = [Signal::INT, Signal::TERM, Signal::HUP][round as usize % 3];
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal);
        ended += u32::from(!child.wait().unwrap().success());
        assert_eq!(names(&rendering.folder), ["out"], "in round {round}");
        assert!(rendering.holds("value-"));
    }
    println!("{ended} were interrupted");
}

/// A home whose template is in a folder that another user can write, with that user attacking: every name that appears
/// in the folder is replaced by a link to a file of the daemon's user.
struct Attacked {
    guillemet: Guillemet,
    folder: PathBuf,
    victim: PathBuf,
}

impl Attacked {
    fn start() -> Self {
        let guillemet = Guillemet::start();
        // The other user can pass through the folder.
        set_mode(guillemet.dir.path(), 0o711);
        let [folder, victim] = ["their-folder", "victim"].map(|name| guillemet.path(name));
        fs::create_dir(&folder).unwrap();
        chown(&folder, OTHER);
        fs::write(&victim, "key").unwrap();
        set_mode(&victim, 0o600);
        guillemet.add("name-0", "value");
        Self { guillemet, folder, victim }
    }

    fn victim(&self) -> (u32, u32, u32, Vec<u8>) {
        let metadata = fs::symlink_metadata(&self.victim).unwrap();
        (metadata.uid(), metadata.gid(), metadata.mode(), fs::read(&self.victim).unwrap())
    }

    /// Replaces names by links until `is_over`.
    fn attack(&self, is_over: &AtomicBool) {
        let user = Uid::from_raw(OTHER);
        rustix::thread::set_thread_res_uid(user, user, user).unwrap();
        let link = self.folder.join("link");
        while !is_over.load(Ordering::Relaxed) {
            for entry in fs::read_dir(&self.folder).unwrap().flatten() {
                if entry.file_name().as_encoded_bytes().starts_with(b".") {
                    let _ = symlink(&self.victim, &link);
                    let _ = fs::rename(&link, entry.path());
                }
            }
        }
    }

    fn rename(&self, round: u32) -> crate::support::daemon::Answer {
        let body = json!({"name": format!("name-{}", round + 1), "rewrite": true}).to_string();
        self.guillemet.ask("PATCH", &format!("/v1/secrets/name-{round}"), &[], body.as_bytes())
    }
}

#[test]
fn a_rewrite_where_others_can_write_is_refused_and_gives_nobody_a_file() {
    if !is_root() {
        return;
    }
    let attacked = Attacked::start();
    // A template in their folder, through a link in a folder of the daemon's user.
    let template_file = attacked.folder.join("calendar.toml");
    fs::write(&template_file, template("name-0")).unwrap();
    fs::create_dir_all(attacked.guillemet.path("templates/mcp-server")).unwrap();
    symlink(&template_file, attacked.guillemet.path("templates/mcp-server/calendar.toml")).unwrap();
    let before = attacked.victim();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let attacker = scope.spawn(|| attacked.attack(&is_over));
        let refused = (0..tier::rounds(30, 200)).all(|_| {
            let answer = attacked.rename(0);
            answer.status == 409 && answer.errors("template") == [ID] && attacked.victim() == before
        });
        is_over.store(true, Ordering::Relaxed);
        attacker.join().unwrap();
        assert!(refused, "{:?}, {}", attacked.victim(), attacked.rename(0).text());
    });
    assert_eq!(attacked.victim(), before);
    assert_eq!(fs::read_to_string(&template_file).unwrap(), template("name-0"));
    let why = attacked.rename(0).errors("message").concat();
    assert!(why.contains("their-folder belongs to user 12345"), "{why}");
}

#[test]
fn a_rewrite_names_every_template_that_others_can_write() {
    let guillemet = Guillemet::start();
    guillemet.add("old", "value");
    for (id, file_mode) in [("a", 0o644), ("b", 0o666), ("c", 0o664)] {
        let file = format!("mcp-server/{id}.toml");
        guillemet.write(&file, &template("old"));
        set_mode(&guillemet.path(&format!("templates/{file}")), file_mode);
    }
    // A group with only the daemon's user in it may write; this group is a different one.
    let is_root = rustix::process::geteuid().is_root();
    let others: &[&str] = if is_root { &["mcp-server/b", "mcp-server/c"] } else { &["mcp-server/b"] };
    if is_root {
        let (path, group) = (guillemet.path("templates/mcp-server/c.toml"), Some(61_100));
        std::os::unix::fs::chown(path, None, group).unwrap();
    }
    let rename = || {
        let body = json!({"name": "new", "rewrite": true}).to_string();
        guillemet.ask("PATCH", "/v1/secrets/old", &[], body.as_bytes())
    };
    let refused = rename();
    assert_eq!((refused.status, refused.errors("template")), (409, others.iter().map(|id| (*id).into()).collect()));
    let why = refused.errors("message").concat();
    assert!(why.contains("by everyone (mode 0666); run `chmod o-w`"), "{why}");
    assert_eq!(why.contains("by its group"), is_root, "{why}");
    for id in ["b", "c"] {
        set_mode(&guillemet.path(&format!("templates/mcp-server/{id}.toml")), 0o600);
    }
    // Others can write in a sticky folder.
    for folder in ["templates/mcp-server", "templates"] {
        set_mode(&guillemet.path(folder), 0o1777);
        let refused = rename();
        assert_eq!((refused.status, refused.errors("template").len()), (409, 3), "{}", refused.text());
        set_mode(&guillemet.path(folder), 0o755);
    }
    assert_eq!(rename().status, 200);
    assert_eq!(mode(&guillemet.path("templates/mcp-server/a.toml")), 0o644);
    assert_eq!(names(&guillemet.path("templates/mcp-server")), ["a.toml", "b.toml", "c.toml"]);
}

/// Runs `init` at this place twice. The second run finds the vault, and no hidden file is left.
fn makes_a_home(home: &Path, by_way_of: &[&str]) {
    let init = |by_way_of: &[&str]| {
        let mut words = by_way_of.iter().copied().chain([PROGRAM, "--home", home.to_str().unwrap(), "init"]);
        Command::new(words.next().unwrap()).args(words).output().unwrap()
    };
    let output = init(by_way_of);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&init(&[])).contains("there is already a vault"));
    let mut hidden = names(home);
    hidden.retain(|name| name.as_encoded_bytes().starts_with(b"."));
    assert_eq!(hidden, [""; 0]);
    assert_eq!(fs::read(home.join("vault.key")).unwrap().len(), 65);
    assert!(fs::metadata(home.join("vault.db")).unwrap().len() > 0);
}

#[test]
fn a_file_system_without_a_rename_that_replaces_nothing_will_do() {
    let can_mount = Path::new("/dev/fuse").exists() && rustix::process::geteuid().is_root();
    let installed = Command::new("bindfs").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !missing::has(can_mount && installed, "bindfs, root and /dev/fuse", "`sudo apt-get install bindfs`") {
        return;
    }
    let mounted = Mounted::new();
    makes_a_home(&mounted.path(), &[]);
    let mut rendering = Rendering::start();
    rendering.folder = mounted.path().join("rendered");
    fs::create_dir(&rendering.folder).unwrap();
    rendering.out = rendering.folder.join("out");
    rendering.written(&[]);
    rendering.set_value("value-1");
    rendering.written(&["--force"]);
    assert!(rendering.holds("value-1"));
    assert_eq!((names(&rendering.folder), mode(&rendering.out)), (vec!["out".into()], 0o600));
}

#[test]
fn a_file_system_without_links_will_do_too() {
    if !strace::is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let refuse = |call: &str, error: &str| format!("inject={call}:error={error}");
    for (index, links) in ["EPERM", "EOPNOTSUPP"].iter().enumerate() {
        for rename in ["EINVAL", "ENOSYS"] {
            let (rename_2, linkat) = (refuse("renameat2", rename), refuse("linkat", links));
            let home = dir.path().join(format!("{index}-{rename}"));
            let by_way_of = [
                "strace",
                "-f",
                "-qqq",
                "-o",
                "/dev/null",
                "-e",
                "trace=renameat2,linkat",
                "-e",
                &rename_2,
                "-e",
                &linkat,
            ];
            makes_a_home(&home, &by_way_of);
        }
    }
}

/// A folder mounted through bindfs, which does not support `RENAME_NOREPLACE`.
struct Mounted {
    dir: tempfile::TempDir,
}

impl Mounted {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (below, at) = (dir.path().join("below"), dir.path().join("at"));
        fs::create_dir(&below).unwrap();
        fs::create_dir(&at).unwrap();
        // bindfs returns once the folder is mounted.
        let mounted = Command::new("bindfs").arg(&below).arg(&at).output().unwrap();
        assert!(mounted.status.success(), "{}", said(&mounted));
        Self { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("at/home")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.dir.path().join("at")).status();
    }
}
