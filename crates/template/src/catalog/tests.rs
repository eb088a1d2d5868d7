//! The catalog reports what is on the disk, and an unknown content prevents every deletion.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::mpsc::channel;
use std::time::Duration;

use super::*;

struct Folder {
    dir: tempfile::TempDir,
    catalog: Catalog,
}

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::new(dir.path().join("templates"));
        Self { dir, catalog }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("templates").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn rescan(&mut self) -> (Vec<String>, Vec<String>, Vec<String>) {
        let changes = self.catalog.rescan(Instant::now());
        (changes.added, changes.changed, changes.removed)
    }

    /// Returns template and name of every reference.
    fn references(&self) -> Vec<(String, String)> {
        let of = |template: &Arc<Template>| {
            let id = template.id.clone();
            template.references().iter().map(|reference| (id.clone(), reference.name.to_string())).collect::<Vec<_>>()
        };
        self.catalog.files().flat_map(of).collect()
    }

    fn blockers(&self, name: &str) -> Vec<(String, &'static str)> {
        let name: SecretName = name.parse().unwrap();
        let blockers = self.catalog.blockers(&[&name], Instant::now());
        assert!(blockers.iter().all(|blocker| !blocker.message(&"key".parse().unwrap()).is_empty()));
        blockers.into_iter().map(|blocker| (blocker.template, blocker.reason.code())).collect()
    }
}

use guillemet_base::names::SecretName;

fn ids(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

#[test]
fn templates_are_found_changed_and_gone() {
    let mut folder = Folder::new();
    assert_eq!(folder.rescan(), (vec![], vec![], vec![]));
    folder.write("mcp-server/a.toml", "x = '<< secret \"one\" >>'");
    folder.write("mcp-server/b.jsonc", "{}");
    for not_one in ["mcp-server/.hidden.toml", "mcp-server/readme.md", "mcp-server/sub/c.toml", ".git/a.toml", "a.toml"]
    {
        folder.write(not_one, "<< secret");
    }
    assert_eq!(folder.rescan(), (ids(&["mcp-server/a", "mcp-server/b"]), vec![], vec![]));
    assert_eq!(folder.rescan(), (vec![], vec![], vec![]));
    assert_eq!(folder.references(), [("mcp-server/a".to_owned(), "one".to_owned())]);

    // As an editor does it: another file of the same length replaces the first one at once.
    folder.write("mcp-server/a.toml.new", "x = '<< secret \"two\" >>'");
    let before = Arc::clone(folder.catalog.get("mcp-server/a").unwrap());
    fs::rename(folder.path("mcp-server/a.toml.new"), folder.path("mcp-server/a.toml")).unwrap();
    assert!(!before.is_current());
    assert_eq!(folder.rescan(), (vec![], ids(&["mcp-server/a"]), vec![]));
    fs::remove_file(folder.path("mcp-server/b.jsonc")).unwrap();
    assert_eq!(folder.rescan(), (vec![], vec![], ids(&["mcp-server/b"])));
    fs::rename(folder.path("mcp-server"), folder.path("other")).unwrap();
    assert_eq!(folder.rescan(), (ids(&["other/a"]), vec![], ids(&["mcp-server/a"])));
}

#[test]
fn an_edit_of_the_same_size_right_after_reading_is_seen() {
    let mut folder = Folder::new();
    for round in 0..20 {
        let name = ["one", "two"][round % 2];
        folder.write("f/a.toml", &format!("x = '<< secret \"{name}\" >>'"));
        folder.rescan();
        assert_eq!(folder.references(), [("f/a".to_owned(), name.to_owned())]);
    }
}

#[test]
fn a_file_that_is_read_again_unchanged_keeps_its_plans() {
    let mut folder = Folder::new();
    folder.write("f/a.toml", "x = 1");
    folder.rescan();
    let before = Arc::clone(folder.catalog.get("f/a").unwrap());
    assert!(!before.is_current(), "it was written just now");
    folder.rescan();
    assert!(Arc::ptr_eq(&before, folder.catalog.get("f/a").unwrap()));
}

#[test]
fn what_blocks_a_deletion() {
    let mut folder = Folder::new();
    folder.write("f/plain.toml", "x = '<< secret \"Key\" >>'");
    folder.write("f/broken.toml", "x = << vars.KEY-2");
    folder.write("f/gone.toml", "x = '<< secret \"gone\" >>'");
    folder.rescan();
    assert_eq!(folder.blockers("key"), [("f/broken".into(), "in_broken_text"), ("f/plain".into(), "referenced")]);
    assert_eq!(folder.blockers("other"), []);

    fs::remove_file(folder.path("f/gone.toml")).unwrap();
    folder.rescan();
    assert_eq!(folder.blockers("gone"), [("f/gone".into(), "vanished")]);
    let gone: SecretName = "gone".parse().unwrap();
    assert!(folder.catalog.blockers(&[&gone], Instant::now() + Duration::from_secs(3)).is_empty());

    // A file that becomes unreadable keeps its references; one that was never readable could name anything.
    fs::remove_file(folder.path("f/plain.toml")).unwrap();
    fs::create_dir(folder.path("f/plain.toml")).unwrap();
    folder.rescan();
    assert!(folder.blockers("key").contains(&("f/plain".into(), "last_known")));
    symlink("loop.toml", folder.path("f/loop.toml")).unwrap();
    assert_eq!(folder.rescan().0, ids(&["f/loop"]));
    assert_eq!(folder.blockers("anything"), [("f/loop".into(), "unknown")]);
    assert_eq!(folder.rescan(), (vec![], vec![], vec![]), "still unreadable is no change");
}

#[test]
fn the_same_id_twice_is_broken_and_both_count() {
    let mut folder = Folder::new();
    folder.write("f/a.toml", "x = '<< secret \"one\" >>'");
    folder.write("f/a.yaml", "x: << secret \"two\" >>");
    folder.rescan();
    let template = folder.catalog.get("f/a").unwrap();
    let TemplateContent::Broken { problems, .. } = &template.content else { panic!("not broken") };
    assert!(problems[0].message.contains("a.toml") && problems[0].message.contains("a.yaml"));
    assert_eq!(folder.blockers("one").len(), 1);
    assert_eq!(folder.blockers("two").len(), 1);
    assert_eq!(folder.rescan(), (vec![], vec![], vec![]));
    fs::remove_file(folder.path("f/a.yaml")).unwrap();
    assert_eq!(folder.rescan().1, ids(&["f/a"]));
    assert!(matches!(folder.catalog.get("f/a").unwrap().content, TemplateContent::Lexed(_)));
}

#[test]
fn a_pipe_does_not_hang_and_links_are_followed() {
    let mut folder = Folder::new();
    folder.write("f/real.txt", "x = '<< secret \"one\" >>'");
    symlink("real.txt", folder.path("f/link.toml")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        folder.path("f/pipe.toml"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    folder.write("f/large.toml", &"x".repeat(300 << 10));
    fs::write(folder.path("f/latin.toml"), b"x = '\xe9 one'").unwrap();
    folder.rescan();
    assert!(matches!(folder.catalog.get("f/link").unwrap().content, TemplateContent::Lexed(_)));
    for broken in ["f/pipe", "f/large", "f/latin"] {
        assert!(matches!(folder.catalog.get(broken).unwrap().content, TemplateContent::Broken { .. }), "{broken}");
    }
    fs::remove_file(folder.path("f/pipe.toml")).unwrap();
    folder.rescan();
    assert!(folder.blockers("one").contains(&("f/latin".into(), "in_broken_text")));
}

#[test]
fn the_watcher_tells_of_everything_that_matters() {
    let folder = Folder::new();
    fs::create_dir_all(folder.path("f")).unwrap();
    let (tell, notified) = channel();
    let mut watcher = Watcher::new(folder.path(""), move || tell.send(()).unwrap()).unwrap();
    let mut noticed = |what: &str| {
        notified.recv_timeout(Duration::from_secs(10)).unwrap_or_else(|_| panic!("{what} was not noticed"));
        // One change causes several events.
        while notified.recv_timeout(Duration::from_millis(100)).is_ok() {}
        watcher.renew().unwrap();
    };
    folder.write("f/a.toml", "x = 1");
    noticed("a new file");
    folder.write("f/a.toml", "x = 2");
    noticed("a changed file");
    fs::rename(folder.path("f/a.toml"), folder.path("f/b.toml")).unwrap();
    noticed("a renamed file");
    fs::create_dir(folder.path("g")).unwrap();
    noticed("a new folder");
    folder.write("g/a.toml", "x = 1");
    noticed("a file in a new folder");
    fs::remove_dir_all(folder.path("")).unwrap();
    noticed("the folder gone");
    fs::create_dir_all(folder.path("h")).unwrap();
    noticed("the folder put back");
    folder.write("h/a.toml", "x = 1");
    noticed("a file in the folder that was put back");
}

#[test]
fn of_two_readings_the_one_that_began_later_counts() {
    let mut folder = Folder::new();
    let (one, two) = ("x = '<< secret \"one\" >>'", "x = '<< secret \"two\" >>'");
    let names = |folder: &Folder| folder.references().into_iter().map(|(_, name)| name).collect::<Vec<_>>();
    let progress = AtomicU64::new(0);
    // A reading that began after a scan overrides it, and one that began before does not.
    for is_scan_first in [true, false] {
        folder.write("f/a.toml", one);
        folder.write("f/b.toml", "x = 1");
        folder.rescan();
        let (first, second) = (folder.catalog.begin(), folder.catalog.begin());
        let read =
            |basis: ReadingBasis, is_scan: bool| if is_scan { basis.scan(&progress) } else { basis.recheck(["f/a"]) };
        let first = read(first, is_scan_first);
        folder.write("f/a.toml", two);
        fs::remove_file(folder.path("f/b.toml")).unwrap();
        let second = read(second, !is_scan_first);
        // Applied in the wrong order.
        folder.catalog.apply(second, Instant::now());
        folder.catalog.apply(first, Instant::now());
        assert_eq!(names(&folder), ["two"], "{is_scan_first}");
        folder.rescan();
        assert_eq!(names(&folder), ["two"]);
        assert_eq!(folder.catalog.files().count(), 1);
    }
}

#[test]
fn a_recheck_finds_what_is_new_changed_and_gone_of_one_id() {
    let mut folder = Folder::new();
    let recheck = |folder: &mut Folder| {
        let reading = folder.catalog.begin().recheck(["f/a"]);
        let changes = folder.catalog.apply(reading, Instant::now());
        (changes.added, changes.changed, changes.removed)
    };
    folder.write("f/b.toml", "x = 1");
    assert_eq!(recheck(&mut folder), (vec![], vec![], vec![]));
    folder.write("f/a.toml", "x = '<< secret \"one\" >>'");
    assert_eq!(recheck(&mut folder), (ids(&["f/a"]), vec![], vec![]));
    folder.write("f/a.json", "{}");
    assert_eq!(recheck(&mut folder), (vec![], ids(&["f/a"]), vec![]), "two claim it now");
    fs::remove_file(folder.path("f/a.toml")).unwrap();
    assert_eq!(recheck(&mut folder), (vec![], ids(&["f/a"]), vec![]));
    assert_eq!(folder.blockers("one"), [("f/a".into(), "vanished")]);
    fs::remove_file(folder.path("f/a.json")).unwrap();
    assert_eq!(recheck(&mut folder), (vec![], vec![], ids(&["f/a"])));
    assert_eq!(folder.rescan(), (ids(&["f/b"]), vec![], vec![]));
    for strange in ["", "f", "/f/a", "f/../f/a", "../templates/f/a", "f/", ".f/a", "f/.a", "f/a\0b"] {
        folder.write(".f/a.toml", "x = 1");
        folder.write("f/.a.toml", "x = 1");
        let reading = folder.catalog.begin().recheck([strange]);
        assert!(folder.catalog.apply(reading, Instant::now()).is_empty(), "{strange}");
    }
}

#[test]
fn until_a_scan_ends_an_unanswered_one_counts_as_naming_everything() {
    let mut folder = Folder::new();
    folder.write("f/a.toml", "x = 1");
    folder.rescan();
    assert_eq!(folder.blockers("anything"), []);
    for _ in 0..2 {
        folder.catalog.note_unanswered();
    }
    assert_eq!(folder.blockers("anything").len(), 1);
    assert!(folder.catalog.unreadable().all(|why| why.contains("does not respond")));
    let before = folder.catalog.generation();
    assert_eq!(folder.rescan(), (vec![], vec![], vec![]));
    assert_eq!(folder.blockers("anything"), []);
    assert_ne!(folder.catalog.generation(), before, "whoever was told so is told otherwise");
}

/// Scans until the metadata alone shows that a file is unchanged.
fn settle(folder: &mut Folder, id: &str) {
    for _ in 0..1000 {
        folder.rescan();
        if folder.catalog.get(id).unwrap().is_current() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{id} is read again at every look");
}

#[test]
fn a_file_from_the_future_is_settled_by_two_looks() {
    let mut folder = Folder::new();
    let future = std::time::SystemTime::now() + Duration::from_secs(86_400);
    let write = |folder: &Folder, name: &str| {
        folder.write("f/a.toml", &format!("x = '<< secret \"{name}\" >>'"));
        let file = fs::File::options().write(true).open(folder.path("f/a.toml")).unwrap();
        file.set_modified(future).unwrap();
    };
    for name in ["one", "two"] {
        // The same size and the same time as before.
        write(&folder, name);
        settle(&mut folder, "f/a");
        assert_eq!(folder.references(), [("f/a".to_owned(), name.to_owned())]);
        let reads = folder.catalog.reads().load(Ordering::Relaxed);
        for _ in 0..10 {
            folder.rescan();
            folder.catalog.begin().recheck(["f/a"]);
        }
        assert_eq!(folder.catalog.reads().load(Ordering::Relaxed), reads);
    }
    let before = Arc::clone(folder.catalog.get("f/a").unwrap());
    write(&folder, "six");
    assert!(!before.is_current());
}

#[test]
fn an_extension_is_one_in_whatever_case() {
    let mut folder = Folder::new();
    for (file, id) in [("f/a.yml", "f/a"), ("f/b.TOML", "f/b"), ("f/c.Json", "f/c"), ("f/d.tOmL", "f/d")] {
        folder.write(file, "x: << secret \"one\" >>");
        folder.rescan();
        assert!(folder.catalog.get(id).is_some(), "{file}");
        assert!(folder.blockers("one").contains(&(id.to_owned(), "referenced")), "{file}");
    }
    assert_eq!(folder.catalog.get("f/a").unwrap().format, Format::Yaml);
    assert_eq!(folder.catalog.strays().count(), 0);
    // The case of ids matters.
    folder.write("f/A.toml", "x = 1");
    assert_eq!(folder.rescan().0, ids(&["f/A"]));
    // All of these have one id.
    for file in ["f/a.yaml", "f/a.TOML", "f/a.toml"] {
        folder.write(file, "x = 1");
    }
    folder.rescan();
    let TemplateContent::Broken { problems, .. } = &folder.catalog.get("f/a").unwrap().content else {
        panic!("not broken")
    };
    assert_eq!(problems[0].message, "4 files have the id `f/a`: a.TOML, a.toml, a.yaml, a.yml");
    let files = ["a.TOML", "a.toml", "a.yaml", "a.yml"].map(|name| folder.path("f").join(name));
    assert_eq!(files_of(&folder.path(""), "f/a"), files);
    assert_eq!(files_of(&folder.path(""), "f/none"), Vec::<PathBuf>::new());
    // The recheck of one id finds them too.
    for (extension, id) in [("YAML", "f/x"), ("Yml", "f/y"), ("yml", "f/z")] {
        folder.write(&format!("{id}.{extension}"), "x: 1");
        let reading = folder.catalog.begin().recheck([id]);
        assert_eq!(folder.catalog.apply(reading, Instant::now()).added, [id]);
    }
}

impl Folder {
    /// Returns path and reason of each file that is not a template.
    fn strays(&self) -> Vec<(&str, &'static str)> {
        self.catalog.strays().map(|stray| (stray.path.as_str(), stray.why.code())).collect()
    }
}

#[test]
fn what_is_no_template_is_listed_and_guards() {
    let mut folder = Folder::new();
    let text = "x = '<< secret \"Key\" >>'\n";
    folder.write("f/good.toml", "x = 1");
    for file in
        ["README.md", "a.toml", "f/a.toml.bak", "f/.a.toml", "f/notes.txt", "f/sub/deep/b.toml", ".drafts/c.toml"]
    {
        folder.write(file, text);
    }
    for left_alone in [".git/config", "f/.git/a.toml", ".DS_Store", "f/.#a.toml"] {
        folder.write(left_alone, text);
    }
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    fs::write(folder.path("f/wide"), utf16).unwrap();
    symlink("nothing", folder.path("f/nowhere")).unwrap();
    symlink("..", folder.path("f/back")).unwrap();
    assert_eq!(folder.rescan().0, ids(&["f/good"]));
    let strays = [
        (".drafts/c.toml", "hidden"),
        ("README.md", "place"),
        ("a.toml", "place"),
        ("f/.a.toml", "hidden"),
        ("f/a.toml.bak", "backup"),
        ("f/notes.txt", "extension"),
        ("f/nowhere", "extension"),
        ("f/sub/deep/b.toml", "too_deep"),
        ("f/wide", "extension"),
    ];
    assert_eq!(folder.strays(), strays);
    let guards: Vec<_> = strays.iter().filter(|(path, _)| *path != "f/nowhere").collect();
    let blocked: Vec<_> = guards.iter().map(|(path, _)| ((*path).to_owned(), "in_stray")).collect();
    assert_eq!(folder.blockers("key"), blocked);
    assert_eq!(folder.blockers("other"), []);
    let key: SecretName = "key".parse().unwrap();
    let found = folder.catalog.blockers(&[&key], Instant::now());
    assert!(found.iter().all(|blocker| (blocker.line, blocker.column) == (Some(1), Some(17))), "{found:?}");

    // Nothing is read again and nothing new is reported until something changes.
    for _ in 0..1000 {
        if folder.catalog.strays().all(|stray| stray.state.is_settled() || stray.state.is_unread()) {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
        folder.rescan();
    }
    let (generation, reads) = (folder.catalog.generation(), folder.catalog.reads().load(Ordering::Relaxed));
    folder.rescan();
    assert_eq!(folder.catalog.generation(), generation);
    // A link that leads nowhere is looked up each time.
    assert_eq!(folder.catalog.reads().load(Ordering::Relaxed), reads + 1);
    folder.write("f/notes.txt", "x = '<< secret \"new\" >>'\n");
    folder.rescan();
    assert_ne!(folder.catalog.generation(), generation);
    assert_eq!(folder.blockers("new"), [("f/notes.txt".into(), "in_stray")]);
    // It may come back, as a template or as it was.
    fs::remove_file(folder.path("f/notes.txt")).unwrap();
    folder.rescan();
    assert_eq!(folder.blockers("new"), [("f/notes.txt".into(), "vanished")]);
    let new: SecretName = "new".parse().unwrap();
    assert_eq!(folder.catalog.blockers(&[&new], Instant::now() + Duration::from_secs(3)), []);
}

#[test]
fn what_cannot_be_searched_may_name_anything() {
    let mut folder = Folder::new();
    folder.write("f/good.toml", "x = 1");
    let large = fs::File::create(folder.path("f/film.mkv")).unwrap();
    large.set_len(2 << 30).unwrap();
    folder.rescan();
    assert_eq!(folder.blockers("any"), [("f/film.mkv".into(), "unknown")]);
    let message = folder.catalog.strays().next().unwrap().message();
    assert!(message.contains("larger than 8 MiB") && message.contains("no secret can be deleted"), "{message}");
    fs::remove_file(folder.path("f/film.mkv")).unwrap();

    // Together they must not fill the memory; files that fit again are read.
    for number in 0..5 {
        fs::write(folder.path(&format!("f/{number}.log")), vec![b'x'; 7 << 20]).unwrap();
    }
    folder.rescan();
    let unsearched = |folder: &Folder| folder.catalog.strays().filter(|stray| stray.text().is_err()).count();
    assert_eq!((folder.strays().len(), unsearched(&folder)), (5, 1));
    let kept = folder.catalog.strays().find(|stray| stray.text().is_ok()).unwrap().path.clone();
    fs::remove_file(folder.path(&kept)).unwrap();
    folder.rescan();
    assert_eq!((folder.strays().len(), unsearched(&folder)), (4, 0));
}

#[test]
fn only_so_many_that_are_no_templates_are_looked_at() {
    let mut folder = Folder::new();
    folder.write("f/good.toml", "x = '<< secret \"one\" >>'");
    for number in 0..1010 {
        folder.write(&format!("f/modules/{number}.js"), "x");
    }
    let mut path = "f".to_owned();
    for _ in 0..12 {
        path.push_str("/in");
    }
    folder.write(&format!("{path}/a.toml"), "x = 1");
    assert_eq!(folder.rescan().0, ids(&["f/good"]));
    assert_eq!(folder.catalog.strays().count(), 1001);
    let rest = folder.catalog.strays().find(|stray| stray.why == StrayReason::TooMany).unwrap();
    assert!(rest.message().contains("no secret can be deleted"), "{}", rest.message());
    let generation = folder.catalog.generation();
    for _ in 0..2 {
        folder.rescan();
    }
    assert_eq!(folder.catalog.generation(), generation);
    assert!(folder.blockers("any").iter().all(|(_, reason)| *reason == "unknown"));

    fs::remove_dir_all(folder.path("f/modules")).unwrap();
    folder.rescan();
    assert_eq!(folder.strays(), [("f/in/in/in/in/in/in/in/in", "too_many")]);
}

#[test]
fn a_template_in_utf_16_is_broken_and_guards() {
    let mut folder = Folder::new();
    let text = "\u{feff}# é\nx = '<< secret \"cal-key\" >>'\n";
    for (file, text, swap) in [
        ("f/le-mark.toml", text, false),
        ("f/be-mark.toml", text, true),
        ("f/le.TOML", &text[3..], false),
        ("f/be.yml", &text[3..], true),
    ] {
        let bytes = |unit: u16| if swap { unit.to_be_bytes() } else { unit.to_le_bytes() };
        fs::create_dir_all(folder.path("f")).unwrap();
        fs::write(folder.path(file), text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>()).unwrap();
        folder.rescan();
        let id = file.split('.').next().unwrap();
        let TemplateContent::Broken { problems, .. } = &folder.catalog.get(id).unwrap().content else {
            panic!("{file}")
        };
        assert_eq!(
            (problems[0].message.as_str(), problems[0].help.as_deref()),
            ("the file is UTF-16", Some("save it as UTF-8"))
        );
        assert_eq!(folder.blockers("cal-key"), [(id.to_owned(), "in_broken_text")]);
        let key: SecretName = "cal-key".parse().unwrap();
        assert_eq!(folder.catalog.blockers(&[&key], Instant::now())[0].line, Some(2));
        fs::remove_file(folder.path(file)).unwrap();
        folder.rescan();
        folder.catalog.vanished.clear();
    }
}
