use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};

use super::*;

const FEATURE: &str = "pager";

/// A folder with the plugin `old` in force and `older` kept.
fn folder() -> (tempfile::TempDir, PluginFiles) {
    let dir = tempfile::tempdir().unwrap();
    let files = PluginFiles::new(dir.path().to_owned());
    fs::write(files.present(FEATURE), "old").unwrap();
    fs::write(files.former(FEATURE), "older").unwrap();
    (dir, files)
}

fn former(component: Option<&str>) -> Option<FormerPin> {
    Some(FormerPin { digest: component.map(|component| digest_of(component.as_bytes())), version: None })
}

fn pin(present: Option<&str>, former: Option<FormerPin>) -> Pin {
    Pin { feature: FEATURE.into(), digest: present.map(|component| digest_of(component.as_bytes())), former }
}

fn content(path: PathBuf) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn all(files: &PluginFiles) -> [Option<String>; 3] {
    [files.present(FEATURE), files.former(FEATURE), files.staged(FEATURE)].map(content)
}

fn text(content: &str) -> Option<String> {
    Some(content.to_owned())
}

/// A change is interrupted after each of its steps, and the next start goes by the pin.
#[test]
fn an_interrupted_change_is_undone_before_the_pin_and_completed_after_it() {
    let before = pin(Some("old"), former(Some("older")));
    let after = pin(Some("new"), former(Some("old")));
    // Staged, not pinned.
    let (_dir, files) = folder();
    files.stage(FEATURE, b"new").unwrap();
    files.finish(&before);
    assert_eq!(all(&files), [text("old"), text("older"), None]);
    // Pinned, and nothing put in place.
    let (_dir, files) = folder();
    files.stage(FEATURE, b"new").unwrap();
    files.finish(&after);
    assert_eq!(all(&files), [text("new"), text("old"), None]);
    // The former one is kept already.
    let (_dir, files) = folder();
    files.stage(FEATURE, b"new").unwrap();
    fs::write(files.former(FEATURE), "old").unwrap();
    files.finish(&after);
    assert_eq!(all(&files), [text("new"), text("old"), None]);
    // The new one is in place already.
    let (_dir, files) = folder();
    files.stage(FEATURE, b"new").unwrap();
    fs::write(files.former(FEATURE), "old").unwrap();
    fs::write(files.present(FEATURE), "new").unwrap();
    files.finish(&after);
    assert_eq!(all(&files), [text("new"), text("old"), None]);
    // The built-in plugin comes back.
    let (_dir, files) = folder();
    files.finish(&pin(None, former(Some("old"))));
    assert_eq!(all(&files), [None, text("old"), None]);
}

#[test]
fn a_staged_file_is_used_only_if_it_is_the_pinned_one() {
    let (_dir, files) = folder();
    files.stage(FEATURE, b"new").unwrap();
    assert!(files.staged_component(FEATURE, &digest_of(b"new")).is_some());
    assert!(files.staged_component(FEATURE, &digest_of(b"old")).is_none());
}

/// What somebody wrote in place of the plugin in force is not kept as the former one.
#[test]
fn what_is_kept_is_what_was_in_force() {
    let after = pin(Some("new"), former(Some("old")));
    let (_dir, files) = folder();
    fs::write(files.present(FEATURE), "swapped").unwrap();
    files.stage(FEATURE, b"new").unwrap();
    files.settle(&after, Some(b"old")).unwrap();
    assert_eq!(all(&files), [text("new"), text("old"), None]);
    let kept = |files: &PluginFiles| files.former_plugin(FEATURE, after.former.as_ref().unwrap()).problem;
    assert_eq!(kept(&files), None);
    fs::write(files.former(FEATURE), "swapped").unwrap();
    assert!(kept(&files).unwrap().contains("has changed since it was kept"));
    fs::remove_file(files.former(FEATURE)).unwrap();
    assert!(kept(&files).unwrap().contains("cannot be read"));
}

#[test]
fn a_component_that_cannot_be_removed_is_an_error() {
    let (_dir, files) = folder();
    files.remove(FEATURE).unwrap();
    files.remove(FEATURE).unwrap();
    fs::create_dir(files.present(FEATURE)).unwrap();
    fs::write(files.former(FEATURE), "older").unwrap();
    assert_eq!(files.remove(FEATURE).unwrap_err().0, files.present(FEATURE));
    assert_eq!(content(files.former(FEATURE)), None, "the others are removed");
}

/// A user who names a file can swap it for a FIFO at any moment.
#[test]
fn a_file_that_becomes_a_fifo_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let [file, fifo] = ["file", "fifo"].map(|name| dir.path().join(name));
    fs::write(&file, "component").unwrap();
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let (stop, (sender, done)) = (AtomicBool::new(false), mpsc::channel());
    let path = file.clone();
    std::thread::spawn(move || {
        let read: Vec<bool> = (0..20_000).map(|_| read_component(&path).is_ok()).collect();
        let _ = sender.send(read);
    });
    let read = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, &file, CWD, &fifo, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let read = done.recv_timeout(Duration::from_secs(60));
        stop.store(true, Ordering::Relaxed);
        read
    });
    let read = read.expect("it waits for somebody to write into the FIFO");
    assert!(read.contains(&true) && read.contains(&false), "it met both");
}
