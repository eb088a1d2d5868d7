use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use guillemet_testing::missing;

fn file(dir: &Path, digest: &[u8; 32]) -> PathBuf {
    dir.join(name(digest))
}

fn of_user(dir: &Path) -> io::Result<CompiledForms> {
    CompiledForms::of_user(|name| (name == "XDG_CACHE_HOME").then(|| dir.to_owned()))
}

#[test]
fn only_what_was_put_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("cache");
    let cache = CompiledForms::new(dir.clone(), Key::random());
    cache.put(&[1; 32], b"compiled");
    assert_eq!(cache.get(&[1; 32]).unwrap(), b"compiled");
    assert!(cache.get(&[2; 32]).is_none());

    // Another component's compiled form under this one's name, and a changed one.
    fs::copy(file(&dir, &[1; 32]), file(&dir, &[2; 32])).unwrap();
    assert!(cache.get(&[2; 32]).is_none());
    let mut bytes = fs::read(file(&dir, &[1; 32])).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(file(&dir, &[1; 32]), bytes).unwrap();
    assert!(cache.get(&[1; 32]).is_none());

    let other = CompiledForms::new(dir, Key::random());
    cache.put(&[1; 32], b"compiled");
    assert!(other.get(&[1; 32]).is_none());
}

#[test]
fn the_users_own_is_found_again_by_the_next_command() {
    let dir = tempfile::tempdir().unwrap();
    of_user(dir.path()).unwrap().put(&[1; 32], b"compiled");
    assert_eq!(of_user(dir.path()).unwrap().get(&[1; 32]).unwrap(), b"compiled");
    let rights = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = dir.path().join("guillemet");
    assert_eq!((rights(&folder), rights(&folder.join(KEY)), rights(&file(&folder, &[1; 32]))), (0o700, 0o600, 0o600));
}

#[test]
fn what_others_can_have_touched_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("guillemet");
    let put = || of_user(dir.path()).unwrap().put(&[1; 32], b"compiled");
    let get = || of_user(dir.path()).ok().and_then(|forms| forms.get(&[1; 32]));
    put();
    for (path, open, closed) in
        [(folder.clone(), 0o750, 0o700), (folder.join(KEY), 0o640, 0o600), (file(&folder, &[1; 32]), 0o606, 0o600)]
    {
        fs::set_permissions(&path, Permissions::from_mode(open)).unwrap();
        assert!(get().is_none(), "{}", path.display());
        fs::set_permissions(&path, Permissions::from_mode(closed)).unwrap();
        assert!(get().is_some(), "{}", path.display());
    }
    // Links are refused, wherever they lead.
    let aside = dir.path().join("aside");
    for path in [file(&folder, &[1; 32]), folder.join(KEY), folder.clone()] {
        fs::rename(&path, &aside).unwrap();
        std::os::unix::fs::symlink(&aside, &path).unwrap();
        assert!(get().is_none(), "{}", path.display());
        fs::remove_file(&path).unwrap();
        fs::rename(&aside, &path).unwrap();
        assert!(get().is_some(), "{}", path.display());
    }
    // A FIFO does not block, and a truncated key is not used.
    fs::remove_file(file(&folder, &[1; 32])).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, file(&folder, &[1; 32]), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(get().is_none());
    fs::write(folder.join(KEY), "short").unwrap();
    assert!(of_user(dir.path()).is_err());
    // There is no place to keep anything.
    assert!(CompiledForms::of_user(|_| None).is_err());
    let absent = dir.path().join("nobody/home");
    assert!(CompiledForms::of_user(|name| (name == "HOME").then(|| absent.clone())).is_err());
    assert!(!absent.parent().unwrap().exists());
    assert!(of_user(Path::new("relative")).is_err());
}

#[test]
fn a_folder_of_somebody_else_is_not_used() {
    if !missing::is_root("give a folder away") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    of_user(dir.path()).unwrap();
    std::os::unix::fs::chown(dir.path().join("guillemet"), Some(65_534), None).unwrap();
    assert!(of_user(dir.path()).is_err());
}

#[test]
fn what_was_not_used_for_the_longest_time_goes_first() {
    let dir = tempfile::tempdir().unwrap();
    let folder = PrivateFolder::open(&dir.path().join("f")).unwrap();
    for (index, name) in ["a.compiled", "b.compiled", "c.compiled", "key", ".d.compiled.0"].iter().enumerate() {
        folder.write(name, &[&[0; 100]], true).unwrap();
        let file = fs::File::options().write(true).open(dir.path().join("f").join(name)).unwrap();
        file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(10_000 - 1_000 * index as u64))
            .unwrap();
    }
    folder.read("a.compiled", 100).unwrap();
    folder.prune(ENDING, 200).unwrap();
    let mut left: Vec<_> =
        fs::read_dir(dir.path().join("f")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["a.compiled", "c.compiled", "key"]);
}
