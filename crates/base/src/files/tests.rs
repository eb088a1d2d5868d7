use std::os::unix::fs::{PermissionsExt, symlink};

use rustix::fs::CWD;

use super::*;
use guillemet_testing::missing;

#[test]
fn only_a_regular_file_is_opened_and_a_link_where_it_may_be_one() {
    let dir = tempfile::tempdir().unwrap();
    let [file, link, fifo] = ["file", "link", "fifo"].map(|name| dir.path().join(name));
    fs::write(&file, "text").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    rustix::fs::mkfifoat(CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
    assert_eq!(open_regular(&file, Links::Refuse).unwrap().1.len(), 4);
    assert_eq!(open_regular(&link, Links::Follow).unwrap().1.len(), 4);
    assert_eq!(open_regular(&link, Links::Refuse).unwrap_err().raw_os_error(), Some(libc::ELOOP));
    for special in [fifo.as_path(), dir.path(), Path::new("/dev/null")] {
        assert_eq!(open_regular(special, Links::Follow).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}

/// A user id that this machine does not use.
const OTHER: u32 = 12_345;

fn is_root() -> bool {
    missing::is_root("give files to another user")
}

fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn chown(path: &Path, user: u32) {
    std::os::unix::fs::lchown(path, Some(user), Some(user)).unwrap();
}

#[test]
fn what_is_there_stays_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    write_new(&path, b"whole").unwrap();
    assert_eq!(write_new(&path, b"other").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!((fs::read(&path).unwrap(), mode(&path)), (b"whole".to_vec(), 0o600));
    replace(&path, b"newer").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"newer");
    // A link to another file is replaced, and its target is not.
    let link = dir.path().join("link");
    symlink(&path, &link).unwrap();
    assert_eq!(write_new(&link, b"other").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    replace(&link, b"other").unwrap();
    assert_eq!((fs::read(&path).unwrap(), fs::read(&link).unwrap()), (b"newer".to_vec(), b"other".to_vec()));
    assert_eq!(names(dir.path()), ["a", "link"]);
    fs::write(beside(&path), "made").unwrap();
    assert_eq!(place(&beside(&path), &path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    fs::remove_file(&path).unwrap();
    place(&beside(&path), &path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"made");
    assert_eq!(names(dir.path()), ["a", "link"]);
}

#[test]
fn a_file_that_is_another_by_now_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let put = |change: &dyn Fn()| {
        let _ = fs::remove_file(&path);
        fs::write(&path, "before").unwrap();
        let destination = Destination::open(&path).unwrap();
        change();
        destination.put(b"after", &Attributes::private()).map_err(|error| error.to_string())
    };
    put(&|| {}).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"after");
    let changes: [&dyn Fn(); 3] = [
        &|| fs::write(&path, "edited by hand").unwrap(),
        &|| fs::rename(dir.path().join("b"), &path).unwrap(),
        &|| {
            fs::remove_file(&path).unwrap();
            symlink("/dev/null", &path).unwrap();
        },
    ];
    fs::write(dir.path().join("b"), "another").unwrap();
    for change in changes {
        assert_eq!(put(change).unwrap_err(), "it changed while it was being read");
        assert_eq!(names(dir.path()).iter().filter(|name| name.starts_with('.')).count(), 0);
    }
    // If there was no file, one that has appeared meanwhile stays.
    fs::remove_file(&path).unwrap();
    let destination = Destination::open(&path).unwrap();
    fs::write(&path, "somebody's").unwrap();
    assert!(destination.put(b"after", &Attributes::private()).is_err());
    assert_eq!(fs::read(&path).unwrap(), b"somebody's");
}

/// Returns an ACL that lets one more user read, as the kernel stores it (linux/posix_acl_xattr.h).
fn acl_for(user: u32) -> Vec<u8> {
    let undefined = u32::MAX;
    let entries = [(1_u16, 6_u16, undefined), (2, 4, user), (4, 0, undefined), (16, 4, undefined), (32, 0, undefined)];
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        acl.extend([tag.to_le_bytes(), rights.to_le_bytes()].concat());
        acl.extend(id.to_le_bytes());
    }
    acl
}

#[test]
fn the_file_in_its_place_is_like_it_but_for_what_was_granted_to_its_bytes() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    fs::write(&path, "before").unwrap();
    chown(&path, OTHER);
    let set = |name: &str, value: &[u8]| {
        rustix::fs::setxattr(&path, name, value, rustix::fs::XattrFlags::empty()).map_err(|error| error.to_string())
    };
    let get = |name: &str| {
        let mut value = Vec::with_capacity(256);
        rustix::fs::getxattr(&path, name, rustix::buffer::spare_capacity(&mut value)).ok().map(|_| value)
    };
    let has_attributes = set("user.note", b"kept").is_ok();
    if !missing::has(has_attributes, "extended attributes", "set TMPDIR to a folder whose file system has them") {
        return;
    }
    set("system.posix_acl_access", &acl_for(OTHER + 1)).unwrap();
    set("user.guillemet", b"f/a").unwrap();
    // `cap_net_raw`, in a version without a root id (linux/capability.h).
    set("security.capability", &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    set_mode(&path, 0o6640);
    let destination = Destination::open(&path).unwrap();
    let attributes = destination.expect().unwrap().attributes().unwrap();
    destination.put(b"after", &attributes).unwrap();
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (OTHER, OTHER, 0o640));
    assert_eq!(get("user.note").as_deref(), Some(&b"kept"[..]));
    assert_eq!(get("system.posix_acl_access"), Some(acl_for(OTHER + 1)));
    assert_eq!((get("user.guillemet"), get("security.capability")), (None, None));

    // A file without an ACL does not get one from its folder.
    let acl = acl_for(OTHER + 1);
    rustix::fs::setxattr(dir.path(), "system.posix_acl_default", &acl, rustix::fs::XattrFlags::empty()).unwrap();
    rustix::fs::removexattr(&path, "system.posix_acl_access").unwrap();
    set_mode(&path, 0o640);
    let destination = Destination::open(&path).unwrap();
    let attributes = destination.expect().unwrap().attributes().unwrap();
    destination.put(b"again", &attributes.with_source("f/b")).unwrap();
    assert_eq!((get("system.posix_acl_access"), mode(&path)), (None, 0o640));
    assert_eq!(source(Destination::open(&path).unwrap().expect().unwrap().file()).unwrap().as_deref(), Some("f/b"));
}

#[test]
fn only_what_an_earlier_write_of_the_same_file_left_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let in_folder = |name: &std::ffi::OsStr| dir.path().join(name);
    let a = std::ffi::OsStr::new("a");
    let leftover = in_folder(&temporary_name(a));
    fs::write(&leftover, "values").unwrap();
    // Files that only look like leftovers.
    let of_another_file = in_folder(&temporary_name(std::ffi::OsStr::new("b")));
    fs::write(&of_another_file, "").unwrap();
    let somebodys = in_folder(std::ffi::OsStr::new(".guillemet-0123456789abcdef-0123456789abcdef"));
    fs::write(&somebodys, "").unwrap();
    let link = in_folder(&temporary_name(a));
    symlink(&somebodys, &link).unwrap();
    let folder = in_folder(&temporary_name(a));
    fs::create_dir(&folder).unwrap();
    let of_two_names = in_folder(&temporary_name(a));
    fs::write(&of_two_names, "").unwrap();
    fs::hard_link(&of_two_names, dir.path().join("other name")).unwrap();
    let being_written = in_folder(&temporary_name(a));
    let open = File::create(&being_written).unwrap();
    temporary::claim(&open);
    let mut stays = vec![of_another_file, somebodys, link, folder, of_two_names, being_written.clone()];
    if is_root() {
        let of_another_user = in_folder(&temporary_name(a));
        fs::write(&of_another_user, "").unwrap();
        chown(&of_another_user, OTHER);
        stays.push(of_another_user);
    }
    replace(&dir.path().join("a"), b"new").unwrap();
    assert!(!leftover.exists());
    for path in stays {
        assert!(fs::symlink_metadata(&path).is_ok(), "{} is gone", path.display());
    }
    drop(open);
    replace(&dir.path().join("a"), b"newer").unwrap();
    assert!(!being_written.exists());
}

#[test]
fn a_link_on_the_way_is_followed_only_where_it_gives_nobody_a_right() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let [ours, theirs] = ["ours", "theirs"].map(|name| dir.path().join(name));
    for folder in [&ours, &theirs] {
        fs::create_dir(folder).unwrap();
    }
    chown(&theirs, OTHER);
    let link = |name: &str, target: &str, owner: u32| {
        let link = dir.path().join(name);
        symlink(target, &link).unwrap();
        chown(&link, owner);
        link
    };
    let open = |path: &Path| Folder::open(path).and_then(|folder| folder.metadata()).map(|metadata| metadata.ino());
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    for followed in [link("a", "ours", 0), link("b", "theirs", 0), link("c", "./ours/../theirs/", OTHER)] {
        assert_eq!(open(&followed).unwrap(), inode(&followed), "{}", followed.display());
    }
    let refused = [link("d", "ours", OTHER), link("e", "/etc", OTHER), link("f", "a", OTHER)];
    for refused in refused {
        assert_eq!(open(&refused).unwrap_err().kind(), io::ErrorKind::PermissionDenied, "{}", refused.display());
        assert!(write_new(&refused.join("new"), b"x").is_err());
    }
    assert_eq!(names(&ours), [""; 0]);
    assert_eq!(open(&link("g", "g", 0)).unwrap_err().raw_os_error(), Some(libc::ELOOP));
    fs::write(dir.path().join("file"), "").unwrap();
    assert_eq!(open(&dir.path().join("file")).unwrap_err().raw_os_error(), Some(libc::ENOTDIR));
    assert_eq!(open(&dir.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn who_can_write_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    fs::write(&path, "").unwrap();
    let check = |path: &Path| only_ours(&fs::metadata(path).unwrap(), None);
    for (mode, says) in [(0o640, None), (0o620, Some("by its group")), (0o602, Some("by everyone"))] {
        set_mode(&path, mode);
        let found = check(&path).err();
        assert_eq!(found.is_some(), says.is_some(), "{found:?}");
        assert!(found.unwrap_or_default().contains(says.unwrap_or_default()));
    }
    set_mode(&path, 0o660);
    let metadata = fs::metadata(&path).unwrap();
    assert!(only_ours(&metadata, Some(metadata.gid())).is_ok());
    assert!(only_ours(&metadata, Some(metadata.gid() + 1)).is_err());
    set_mode(dir.path(), 0o1777);
    assert!(check(dir.path()).unwrap_err().contains("by everyone"));
    if is_root() {
        set_mode(&path, 0o600);
        chown(&path, OTHER);
        assert!(check(&path).unwrap_err().contains("belongs to user 12345"));
    }
}

/// Beneath all checks of who can write: an attacker who can write in the folder puts a link in place of each hidden
/// name and of the file, at any moment. No file outside of the folder may change its content, owner or permissions.
#[test]
fn links_put_in_the_way_lead_nowhere() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    set_mode(dir.path(), 0o755);
    let [folder, victim] = ["folder", "victim"].map(|name| dir.path().join(name));
    fs::create_dir(&folder).unwrap();
    chown(&folder, OTHER);
    fs::write(&victim, "key").unwrap();
    set_mode(&victim, 0o600);
    let inspect = || {
        let metadata = fs::symlink_metadata(&victim).unwrap();
        (metadata.uid(), metadata.gid(), metadata.mode(), metadata.ctime(), metadata.ctime_nsec())
    };
    let before = inspect();
    let target = folder.join("a");
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let (mut put, mut swapped) = (0, 0);
    std::thread::scope(|scope| {
        let attacker = scope.spawn(|| {
            let user = rustix::process::Uid::from_raw(OTHER);
            rustix::thread::set_thread_res_uid(user, user, user).unwrap();
            let mut swapped = 0;
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                for name in names_if_there(&folder) {
                    let link = folder.join("link");
                    let _ = symlink(&victim, &link);
                    swapped += u32::from(fs::rename(&link, folder.join(name)).is_ok());
                }
            }
            swapped
        });
        for round in 0..200 {
            let _ = fs::remove_file(&target);
            let text = format!("round {round}");
            let _ = write_new(&target, text.as_bytes());
            chown(&target, OTHER);
            let Ok(destination) = Destination::open(&target) else { continue };
            let Some(existing) = destination.existing() else { continue };
            let attributes = existing.attributes().unwrap().with_mode(0o666);
            put += u32::from(destination.put(b"new", &attributes).is_ok());
            let staged = temporary_name("a".as_ref());
            let _ = destination.stage(&staged, b"staged", &attributes);
            let _ = destination.put_staged(&staged);
            let _ = destination.folder().remove(&staged);
            let _ = destination.check_creation(&attributes);
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        swapped = attacker.join().unwrap();
    });
    println!("put {put}, swapped {swapped}");
    assert!(swapped > 0);
    assert_eq!(inspect(), before);
    assert_eq!(fs::read(&victim).unwrap(), b"key");
}

/// Returns the names of the files in a folder that changes all the time, without links.
fn names_if_there(folder: &Path) -> Vec<std::ffi::OsString> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    files.map(|entry| entry.file_name()).collect()
}

#[test]
fn no_more_is_read_than_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "text").unwrap();
    assert_eq!(read_regular(&file, Links::Follow, 4).unwrap().0, b"text");
    assert_eq!(read_text(&file, 4).unwrap(), "text");
    assert_eq!(read_text(&file, 3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    // Its metadata has the length 0.
    let endless = Path::new("/proc/self/smaps");
    assert_eq!(read_text(endless, 100).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
}

#[test]
fn a_lock_is_a_file_of_ours_and_nothing_else_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let [lock, other, name, link, fifo, long] =
        ["lock", "other", "name", "link", "fifo", "long"].map(|name| dir.path().join(name));
    assert_eq!(open_lock(&lock).unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    open_lock(&lock).unwrap();
    fs::write(&other, "kept").unwrap();
    fs::hard_link(&other, &name).unwrap();
    std::os::unix::fs::symlink(&other, &link).unwrap();
    std::os::unix::fs::symlink(dir.path().join("none"), dir.path().join("dangling")).unwrap();
    rustix::fs::mkfifoat(CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
    fs::write(&long, vec![b'x'; (8 << 10) + 1]).unwrap();
    for foreign in [&name, &link, &fifo, &long, &dir.path().join("dangling")] {
        assert!(open_lock(foreign).unwrap_err().to_string().contains("move it away"), "{foreign:?}");
    }
    assert!(!dir.path().join("none").exists());
    assert_eq!(fs::read(&other).unwrap(), b"kept");
}
