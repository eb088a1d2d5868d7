//! The files of templates: no edit is missed, whatever the kernel tells of it, and a file system that hangs holds up
//! nothing but what lies on it.

mod support;

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use support::daemon::{Guillemet, receive, send};
use support::listening::Listening;
use support::missing;
use support::team::until;

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
    // A chain of links, and a folder that is one.
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

/// A folder by way of a process, which can be stopped: a server of files that does not answer.
struct Remote {
    process: Child,
    mounted: PathBuf,
}

impl Remote {
    /// `None` where it cannot be mounted: the test is skipped.
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
    // More than there are threads that answer.
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
        assert_eq!(guillemet.get("/v1/secrets").json()["count"], 3 + round);
    }
    let refused = receive(delete).unwrap();
    assert_eq!((refused.status, refused.errors("reason")), (409, vec!["unknown".to_owned()]), "{}", refused.text());
    let status = guillemet.get("/v1/status").text();
    assert!(status.contains("the file system does not answer"), "{status}");

    remote.signal(Signal::CONT);
    for stream in waiting {
        let answer = receive(stream).unwrap();
        assert!(matches!(answer.status, 200 | 503), "{}", answer.text());
    }
    until("it is known again", || (guillemet.ask("DELETE", "/v1/secrets/other", &[], b"").status == 204).then_some(()));
    assert!(!guillemet.get("/v1/status").text().contains("does not answer"));
    assert_eq!(guillemet.get("/v1/render/mcp-server/remote-0").status, 200);
    assert!(guillemet.stop());
}
