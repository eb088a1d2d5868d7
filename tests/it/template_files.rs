//! The files of templates: no edit is missed, whatever the kernel reports about it, and a file system that hangs blocks
//! nothing except the templates on it.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use crate::support::daemon::{Guillemet, receive, send};
use crate::support::listening::Listening;
use guillemet_testing::missing;
use guillemet_testing::wait::until;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

fn text(secret: &str) -> String {
    format!("name = \"a\"\nurl = \"https://example.com/\"\n[headers]\nKey = \"<< secret '{secret}' >>\"\n")
}

#[test]
fn edits_behind_links_are_noticed_though_nobody_asks() {
    let mut guillemet = Guillemet::init();
    let repository = tempfile::tempdir().unwrap();
    std::fs::create_dir(repository.path().join("folder")).unwrap();
    let (file, inside) = (repository.path().join("a.toml"), repository.path().join("folder/b.toml"));
    for path in [&file, &inside] {
        std::fs::write(path, text("first")).unwrap();
    }
    std::fs::create_dir_all(guillemet.path("templates/mcp-server")).unwrap();
    symlink(&file, guillemet.path("templates/mcp-server/a.toml")).unwrap();
    // A chain of links, and a folder that is a link.
    symlink("a.toml", guillemet.path("templates/mcp-server/chain.toml")).unwrap();
    symlink(repository.path().join("folder"), guillemet.path("templates/linked")).unwrap();
    guillemet.run();
    let mut listening = Listening::to(&guillemet);
    std::fs::write(&file, text("second")).unwrap();
    let mut told = [listening.next_of("references"), listening.next_of("references")];
    told.sort_by_key(|told| told["template"].to_string());
    assert_eq!(
        told,
        ["a", "chain"].map(|name| json!({"template": format!("mcp-server/{name}"), "secrets": ["second"]}))
    );
    std::fs::write(&inside, text("third")).unwrap();
    assert_eq!(listening.next_of("references"), json!({"template": "linked/b", "secrets": ["third"]}));
}

#[test]
fn a_delete_sees_what_was_written_before_it_was_asked_for() {
    let mut guillemet = Guillemet::init();
    let repository = tempfile::tempdir().unwrap();
    let file = repository.path().join("a.toml");
    std::fs::write(&file, text("first")).unwrap();
    std::fs::create_dir_all(guillemet.path("templates/mcp-server")).unwrap();
    symlink(&file, guillemet.path("templates/mcp-server/a.toml")).unwrap();
    guillemet.run();
    for round in 0..10 {
        let name = format!("secret-{round}");
        guillemet.add(&name, "value");
        std::fs::write(&file, text(&name)).unwrap();
        let refused = guillemet.ask("DELETE", &format!("/v1/secrets/{name}"), &[], b"");
        assert_eq!((refused.status, refused.errors("template")), (409, vec!["mcp-server/a".to_owned()]));
        std::fs::write(&file, text("first")).unwrap();
        assert_eq!(guillemet.ask("DELETE", &format!("/v1/secrets/{name}"), &[], b"").status, 204);
    }
}

/// A folder provided by a process that can be stopped, like a file server that does not respond.
struct Remote {
    process: Child,
    mounted: PathBuf,
}

impl Remote {
    /// Mounts the folder. Returns `None` if that is not possible, and the test is then reported as skipped.
    fn mount(from: PathBuf, mounted: PathBuf) -> Option<Self> {
        let started = Command::new("bindfs").arg("-f").arg(&from).arg(&mounted).stderr(Stdio::null()).spawn();
        let is_mounted = || {
            let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
            mounts.contains(mounted.to_str().unwrap())
        };
        if let Ok(mut process) = started {
            let ended = until("it is mounted, or cannot be", || match process.try_wait().unwrap() {
                Some(_) => Some(true),
                None => is_mounted().then_some(false),
            });
            if !ended {
                return Some(Self { process, mounted });
            }
        }
        missing::has(false, "/dev/fuse and bindfs", "`sudo apt-get install bindfs`").then(|| unreachable!())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.process.id() as i32).unwrap(), signal).unwrap();
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.signal(Signal::CONT);
        let _ = Command::new("umount").arg("--lazy").arg(&self.mounted).status();
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_file_system_that_hangs_holds_up_only_what_lies_on_it() {
    let mut guillemet = Guillemet::init();
    let folder = tempfile::tempdir().unwrap();
    let [from, mounted] = ["from", "mounted"].map(|name| folder.path().join(name));
    for path in [&from, &mounted] {
        std::fs::create_dir(path).unwrap();
    }
    let Some(remote) = Remote::mount(from.clone(), mounted.clone()) else { return };
    std::fs::create_dir_all(guillemet.path("templates/mcp-server")).unwrap();
    for number in 0..20 {
        std::fs::write(from.join(format!("{number}.toml")), text("used")).unwrap();
        let link = guillemet.path(&format!("templates/mcp-server/remote-{number}.toml"));
        symlink(mounted.join(format!("{number}.toml")), link).unwrap();
    }
    guillemet.write("mcp-server/here.toml", &text("used"));
    guillemet.run();
    for name in ["used", "other"] {
        guillemet.add(name, "value");
    }
    assert_eq!(guillemet.get("/v1/render/mcp-server/remote-0").status, 200);

    remote.signal(Signal::STOP);
    // More requests than there are threads that answer.
    let path = guillemet.path("run/guillemet.sock");
    let waiting: Vec<_> = (0..20)
        .map(|number| send(&path, "GET", &format!("/v1/render/mcp-server/remote-{number}"), &[], b"").unwrap())
        .collect();
    let delete = send(&path, "DELETE", "/v1/secrets/other", &[], b"").unwrap();
    for round in 0..3 {
        assert_eq!(guillemet.post("/v1/resolve", &json!({"secrets": ["used"]})).status, 200);
        let here = guillemet.get("/v1/render/mcp-server/here");
        assert_eq!(here.status, 200, "{}", here.text());
        guillemet.write("mcp-server/here.toml", &text("used").replace("example.com", &format!("example.com/{round}")));
        assert!(guillemet.get("/v1/render/mcp-server/here").text().contains(&format!("example.com/{round}")));
        guillemet.add(&format!("new-{round}"), "value");
        for enabled in [false, true] {
            assert_eq!(guillemet.set_enabled("other", enabled).status, 200);
        }
        assert_eq!(guillemet.get("/v1/secrets").json()["count"], 3 + round);
    }
    let refused = receive(delete).unwrap();
    assert_eq!((refused.status, refused.errors("reason")), (409, vec!["unknown".to_owned()]), "{}", refused.text());
    let status = guillemet.get("/v1/status").text();
    assert!(status.contains("the file system does not respond"), "{status}");

    remote.signal(Signal::CONT);
    for stream in waiting {
        let answer = receive(stream).unwrap();
        assert!(matches!(answer.status, 200 | 503), "{}", answer.text());
    }
    until("it is known again", || (guillemet.ask("DELETE", "/v1/secrets/other", &[], b"").status == 204).then_some(()));
    assert!(!guillemet.get("/v1/status").text().contains("does not respond"));
    assert_eq!(guillemet.get("/v1/render/mcp-server/remote-0").status, 200);
    assert!(guillemet.stop());
}

/// Returns how many scans were started, and how many files were read.
fn scans_and_reads(guillemet: &Guillemet) -> (u64, u64) {
    let metrics = guillemet.get("/metrics").text();
    let count = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.trim().parse().unwrap()
    };
    (count("guillemet_template_scans_total"), count("guillemet_template_reads_total"))
}

#[test]
fn renders_of_a_template_from_the_future_read_it_no_more_than_others() {
    let guillemet = Guillemet::start();
    guillemet.add("used", "value");
    guillemet.write("mcp-server/a.toml", &text("used"));
    let file = std::fs::File::options().write(true).open(guillemet.path("templates/mcp-server/a.toml")).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(86_400)).unwrap();
    let render = || assert_eq!(guillemet.get("/v1/render/mcp-server/a").status, 200);
    until("it is known by its metadata", || {
        let (_, before) = scans_and_reads(&guillemet);
        render();
        (scans_and_reads(&guillemet).1 == before).then_some(())
    });
    let (begun, before) = (Instant::now(), scans_and_reads(&guillemet));
    for _ in 0..200 {
        render();
    }
    let after = scans_and_reads(&guillemet);
    assert_eq!(after.1, before.1, "it was read again");
    // Only the regular scans.
    assert!(after.0 - before.0 <= begun.elapsed().as_secs() / 2 + 1, "{before:?} {after:?}");
}

#[test]
fn however_many_ask_for_what_is_not_there_scans_are_few() {
    let guillemet = Guillemet::start();
    guillemet.write("mcp-server/a.toml", &text("used"));
    guillemet.add("used", "value");
    let path = guillemet.path("run/guillemet.sock");
    // Unknown names of secrets and templates, which a rule with a pattern may allow, cause no scan.
    let (begun, (before, _)) = (Instant::now(), scans_and_reads(&guillemet));
    let asked: Vec<_> = (0..50)
        .flat_map(|number| {
            let resolve = json!({"secrets": [format!("none-{number}")]}).to_string();
            [
                send(&path, "POST", "/v1/resolve", &[], resolve.as_bytes()).unwrap(),
                send(&path, "GET", &format!("/v1/render/mcp-server/none-{number}"), &[], b"").unwrap(),
            ]
        })
        .collect();
    assert_eq!(guillemet.set_enabled("used", false).status, 200);
    for stream in asked {
        assert!(matches!(receive(stream).unwrap().status, 404 | 409));
    }
    let (after, _) = scans_and_reads(&guillemet);
    assert!(after - before <= begun.elapsed().as_secs() / 2 + 3, "{} scans", after - before);

    // A request that needs a scan waits for one, together with all others.
    let (begun, (before, _)) = (Instant::now(), scans_and_reads(&guillemet));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..4 {
                    assert_eq!(guillemet.get("/v1/secrets/none").status, 404);
                }
            });
        }
    });
    let (after, _) = scans_and_reads(&guillemet);
    let most = begun.elapsed().as_millis() / 250 + 2;
    assert!(u128::from(after - before) <= most, "{} scans, {most} at most", after - before);
}

#[test]
fn files_that_cannot_be_templates_cause_no_scan() {
    let guillemet = Guillemet::start();
    guillemet.write("mcp-server/a.toml", &text("used"));
    guillemet.write(".git/index", "");
    assert_eq!(guillemet.get("/v1/templates").status, 200);
    let (begun, (before, _)) = (Instant::now(), scans_and_reads(&guillemet));
    // Goes on long enough for several scans, if these changes caused any.
    for round in 0.. {
        for file in [".git/index", "mcp-server/.a.toml.swp", "mcp-server/a.toml~", "mcp-server/notes.txt"] {
            guillemet.write(file, &format!("{round}"));
        }
        if begun.elapsed() > Duration::from_secs(3) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let (after, _) = scans_and_reads(&guillemet);
    // Only the regular scans, every two seconds while templates change.
    assert!(after - before <= begun.elapsed().as_secs() / 2 + 2, "{} scans", after - before);
    // A changed template is noticed as usual.
    let mut listening = Listening::to(&guillemet);
    std::fs::rename(guillemet.path("templates/mcp-server/a.toml"), guillemet.path("templates/mcp-server/b.toml"))
        .unwrap();
    assert_eq!(listening.next_of("template")["id"], "mcp-server/b");
}

/// Encodes a text in UTF-16, little or big endian, with or without a byte order mark.
fn utf16(text: &str, big_endian: bool, mark: bool) -> Vec<u8> {
    let units = mark.then_some(0xfeff).into_iter().chain(text.encode_utf16());
    units.flat_map(|unit| if big_endian { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
}

#[test]
fn a_delete_sees_every_file_in_the_folder() {
    let guillemet = Guillemet::start();
    std::fs::create_dir_all(guillemet.path("templates/mcp-server/old")).unwrap();
    let plain = text("used").into_bytes();
    let mut cases = vec![
        ("mcp-server/a.TOML", plain.clone(), "mcp-server/a", "referenced"),
        ("mcp-server/a.yml", b"a: << secret 'used' >>\n".to_vec(), "mcp-server/a", "referenced"),
        ("mcp-server/a.txt", plain.clone(), "mcp-server/a.txt", "in_stray"),
        ("mcp-server/a.toml.disabled", plain.clone(), "mcp-server/a.toml.disabled", "in_stray"),
        ("mcp-server/.a.toml", plain.clone(), "mcp-server/.a.toml", "in_stray"),
        ("mcp-server/old/a.toml", plain.clone(), "mcp-server/old/a.toml", "in_stray"),
        ("a.toml", plain, "a.toml", "in_stray"),
    ];
    for big_endian in [false, true] {
        for mark in [false, true] {
            let wide = utf16(&text("used"), big_endian, mark);
            cases.push(("mcp-server/a.toml", wide.clone(), "mcp-server/a", "in_broken_text"));
            cases.push(("mcp-server/a.TXT", wide, "mcp-server/a.TXT", "in_stray"));
        }
    }
    guillemet.add("used", "value");
    for (file, bytes, told, reason) in cases {
        let path = guillemet.path("templates").join(file);
        std::fs::write(&path, bytes).unwrap();
        let refused = guillemet.ask("DELETE", "/v1/secrets/used", &[], b"");
        assert_eq!(refused.status, 409, "{file}: {}", refused.text());
        let found: Vec<_> = refused.errors("template").into_iter().zip(refused.errors("reason")).collect();
        // A file that vanished before may come back.
        assert!(found.contains(&(told.to_owned(), reason.to_owned())), "{file}: {}", refused.text());
        let line = refused.json()["errors"].as_array().unwrap().iter().find(|error| error["reason"] == reason).unwrap()
            ["line"]
            .as_u64();
        assert_eq!(line, Some(if file.ends_with("yml") { 1 } else { 4 }), "{file}");
        std::fs::remove_file(&path).unwrap();
    }
    until("nothing may come back", || {
        (guillemet.ask("DELETE", "/v1/secrets/used", &[], b"").status == 204).then_some(())
    });
}

#[test]
fn what_is_no_template_is_told_everywhere() {
    let guillemet = Guillemet::start();
    guillemet.add("used", "value");
    guillemet.write("mcp-server/a.toml", &text("used"));
    assert_eq!(guillemet.get("/v1/templates").json()["strays"], json!({"count": 0, "items": []}));
    assert_eq!(guillemet.get("/v1/status").json()["warnings"], json!([]));
    // These files need no warning.
    guillemet.write("mcp-server/a.toml~", "");
    guillemet.write(".gitignore", "");
    assert_eq!(guillemet.get("/v1/status").json()["warnings"], json!([]));
    guillemet.write("mcp-server/b.tml", &text("used"));
    guillemet.write("README.md", "");

    let listed = guillemet.get("/v1/templates").json();
    assert_eq!((&listed["count"], &listed["strays"]["count"]), (&json!(1), &json!(4)));
    let strays: Vec<_> =
        listed["strays"]["items"].as_array().unwrap().iter().map(|stray| (&stray["path"], &stray["reason"])).collect();
    let expected = [
        (json!(".gitignore"), json!("hidden")),
        (json!("README.md"), json!("place")),
        (json!("mcp-server/a.toml~"), json!("backup")),
        (json!("mcp-server/b.tml"), json!("extension")),
    ];
    assert_eq!(strays, expected.iter().map(|(path, reason)| (path, reason)).collect::<Vec<_>>());
    let status = guillemet.get("/v1/status").json();
    assert_eq!(status["templates"], json!({"ok": 1, "broken": 0, "strays": 4}));
    let warning = "2 files in the templates folder are not templates: README.md, mcp-server/b.tml; run `guillemet template list` to see why";
    assert_eq!(status["warnings"], json!([warning]));

    for command in ["list", "check"] {
        let output = guillemet.command(&["template", command]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{told}");
        assert!(told.contains("mcp-server/b.tml: not a template: its name does not end in .toml"), "{command}: {told}");
        let json = guillemet.command(&["template", command, "--json"]).stdout;
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["strays"], listed["strays"], "{command}");
    }
    let one = guillemet.command(&["template", "check", "mcp-server/a"]);
    assert!(!String::from_utf8(one.stderr).unwrap().contains("not a template"));
    let refused = guillemet.command(&["secret", "delete", "used", "--yes"]);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(
        told.contains("mcp-server/b.tml:4:19: the name appears in `mcp-server/b.tml`, which is not a template"),
        "{told}"
    );
    assert!(told.contains("4 | Key = \"<< secret 'used' >>\""), "{told}");
}
