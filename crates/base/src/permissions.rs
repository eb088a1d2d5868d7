//! Checks who can change the files that Guillemet trusts: the folders and files of a home, and the folders above them.
//!
//! Anyone who can write one of them controls every secret, so nothing is started then, as OpenSSH does under
//! `StrictModes`. When the check has passed, nobody but the user and root (and an allowed group) can exchange a file of
//! the home between two uses of its name.
//!
//! Knows where files are, and nothing of their content.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use crate::home::Home;
use crate::sys;

/// Permission bits: write access of the group, write access of everyone, and the bit that allows only the owner of a
/// file to remove it from a folder.
const GROUP: u32 = 0o020;
const EVERYONE: u32 = 0o002;
const STICKY: u32 = 0o1000;
/// The largest number of links that are followed, as in Linux.
const LINKS_MAX: u32 = 40;
/// The largest number of templates that a warning names.
const NAMED_MAX: usize = 3;

/// A home that nobody but its user, root and perhaps a group can change. A value of this type proves that this was
/// checked.
#[derive(Clone, Debug)]
pub struct TrustedHome {
    home: Home,
    policy: Policy,
}

impl Deref for TrustedHome {
    type Target = Home;

    fn deref(&self) -> &Home {
        &self.home
    }
}

impl TrustedHome {
    /// Checks a home, as far as it exists. `group_may_write` allows write access for groups.
    ///
    /// # Errors
    /// [`Untrusted`], with everything in the home that somebody else can change.
    pub fn check(home: &Home, group_may_write: bool) -> Result<Self, Untrusted> {
        let checked = Self { home: home.clone(), policy: Policy::of_process(group_may_write) };
        checked.recheck()?;
        Ok(checked)
    }

    /// Checks the home again, because permissions can change.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn recheck(&self) -> Result<(), Untrusted> {
        let mut walk = PermissionCheck::new(self.policy);
        for folder in [self.home.config(), self.home.data(), &self.home.plugins()] {
            walk.visit(folder, Requirement::Own);
        }
        walk.visit(&self.home.config_file(), Requirement::Own);
        let vault = self.home.vault_file();
        // The folder of a chosen socket may be used for other purposes too.
        walk.visit(self.home.runtime(), if self.home.owns_runtime() { Requirement::Private } else { Requirement::Own });
        let private = [self.home.key_file(), self.home.journal_file(), self.home.lock_file()];
        for path in database_files(&vault).into_iter().chain(private) {
            walk.visit(&path, Requirement::Private);
        }
        for plugin in fs::read_dir(self.home.plugins()).into_iter().flatten().flatten() {
            walk.visit(&plugin.path(), Requirement::Own);
        }
        walk.finish()
    }

    /// Reports whether groups may write the home.
    pub fn group_may_write(&self) -> bool {
        self.policy.group_may_write
    }

    /// Returns a warning if others can change templates, or the files that templates are links to. Reads the metadata
    /// of every file.
    pub fn template_warning<'a>(&self, templates: impl IntoIterator<Item = &'a Path>) -> Option<String> {
        let mut walk = PermissionCheck::new(self.policy);
        let files: BTreeSet<&Path> = templates.into_iter().collect();
        let folders: BTreeSet<&Path> = files.iter().filter_map(|file| file.parent()).collect();
        walk.visit(&self.home.templates(), Requirement::Template);
        for path in folders.into_iter().chain(files) {
            walk.visit(path, Requirement::Template);
        }
        let findings = walk.findings;
        let listed: Vec<String> = findings.iter().take(NAMED_MAX).map(ToString::to_string).collect();
        let more = match findings.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        (!findings.is_empty()).then(|| format!("other users can change templates: {}{more}", listed.join("; ")))
    }
}

/// Checks a folder of the account server and these of its files, as far as they exist. `group_may_write` allows write
/// access for groups.
///
/// # Errors
/// [`Untrusted`], with everything that somebody else can change.
pub fn check_folder(folder: &Path, files: &[PathBuf], group_may_write: bool) -> Result<(), Untrusted> {
    let mut walk = PermissionCheck::new(Policy::of_process(group_may_write));
    walk.visit(folder, Requirement::Own);
    for file in files {
        walk.visit(file, Requirement::Private);
    }
    walk.finish()
}

/// Returns the paths of the files of an SQLite database: the file itself, its log and the index of the log.
pub fn database_files(path: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|end| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        name.into()
    })
}

/// Checks which user listens on a socket, before anything is sent to it. Root (a service manager), this user, and the
/// owner of the socket's folder are trusted; the owner only if nobody else can change that folder.
///
/// # Errors
/// A message for people that says why the listener is not trusted.
pub fn check_listener(socket: &Path, listener: u32) -> Result<(), String> {
    let own_uid = rustix::process::geteuid().as_raw();
    if listener == 0 || listener == own_uid {
        return Ok(());
    }
    let folder = socket.parent().unwrap_or(Path::new("/"));
    let owner = fs::metadata(folder).map_err(|error| format!("{}: {error}", folder.display()))?.uid();
    let user = user_name(listener);
    if listener != owner {
        return Err(format!(
            "{user} is listening at {}, but is neither you nor the owner of that folder ({}); nothing was sent. Find \
             out why, or restart your daemon",
            socket.display(),
            user_name(owner)
        ));
    }
    // Which groups that user admits is not our concern; a user who replaces the folder becomes its owner.
    let mut walk = PermissionCheck::new(Policy { user: owner, private_group: None, group_may_write: true });
    walk.visit(folder, Requirement::Own);
    walk.finish()
        .map_err(|untrusted| format!("{user} is listening at {}; nothing was sent. {untrusted}", socket.display()))
}

/// A file or folder that others can change, with the problem and the command that fixes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermissionProblem {
    path: PathBuf,
    problem: String,
    fix: String,
}

impl fmt::Display for PermissionProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}; run `{} {}`", self.path.display(), self.problem, self.fix, quoted(&self.path))
    }
}

/// Returns a path quoted as a shell needs it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+@%=:,".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// The error of files or folders that others can change although they are trusted.
#[derive(Debug, thiserror::Error)]
#[error("other users can change files that Guillemet trusts with every secret; nothing was changed:{}", lines(.0))]
pub struct Untrusted(Vec<PermissionProblem>);

impl Untrusted {
    /// Returns every file and folder that somebody else can change.
    pub fn findings(&self) -> &[PermissionProblem] {
        &self.0
    }
}

fn lines(findings: &[PermissionProblem]) -> String {
    findings.iter().map(|finding| format!("\n  {finding}")).collect()
}

/// The users and groups that may write.
#[derive(Clone, Copy, Debug)]
struct Policy {
    /// The user who may write, besides root.
    user: u32,
    /// A group that nobody but this user is in.
    private_group: Option<u32>,
    group_may_write: bool,
}

impl Policy {
    /// Returns the policy for the user of this process. Reads the databases of users and groups.
    fn of_process(group_may_write: bool) -> Self {
        let user = rustix::process::geteuid().as_raw();
        Self { user, private_group: private_group(user), group_may_write }
    }
}

/// Returns the group that only the user of this process is in, if a file or folder is writable by its group. Returns
/// `None` if an access control list may let others write too.
pub fn own_group(path: &Path, metadata: &fs::Metadata) -> Option<u32> {
    if metadata.mode() & GROUP == 0 || has_acl(path) {
        return None;
    }
    private_group(rustix::process::geteuid().as_raw())
}

/// Returns the primary group of a user if it has no other member. Many systems give each user such a group, and a umask
/// that lets it write.
fn private_group(uid: u32) -> Option<u32> {
    use uzers::os::unix::GroupExt;
    let user = uzers::get_user_by_uid(uid)?;
    let gid = user.primary_group_id();
    let group = uzers::get_group_by_gid(gid)?;
    let is_only_member = group.members().iter().all(|member| member == user.name())
        && sys::users::all().iter().all(|other| other.uid() == uid || other.primary_group_id() != gid);
    is_only_member.then_some(gid)
}

fn user_name(uid: u32) -> String {
    match uzers::get_user_by_uid(uid) {
        Some(user) => format!("user `{}`", user.name().to_string_lossy()),
        None => format!("user {uid}"),
    }
}

fn group_name(gid: u32) -> String {
    match uzers::get_group_by_gid(gid) {
        Some(group) => format!("group `{}`", group.name().to_string_lossy()),
        None => format!("group {gid}"),
    }
}

/// The requirement that a file or folder has to meet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Requirement {
    /// It belongs to this user or root, and nobody else can write it.
    Own,
    /// As `Own`, and nobody else needs to read it either, so the suggested fix removes that permission too.
    Private,
    /// A folder above: not everyone can rename its entries. Its owner and its group can, but the files that they could
    /// put in place of ours do not belong to this user and are refused.
    Above,
    /// Nobody else can write it.
    Template,
    /// The folder of a file that a template is a link to.
    TargetFolder,
}

/// Checks paths and every folder on the way to them, each once.
struct PermissionCheck {
    policy: Policy,
    passed: BTreeSet<PathBuf>,
    /// Device, inode and requirement of everything checked so far: a link can lead to the same file by another path.
    judged: BTreeSet<(u64, u64, Requirement)>,
    findings: Vec<PermissionProblem>,
}

impl PermissionCheck {
    fn new(policy: Policy) -> Self {
        Self { policy, passed: BTreeSet::new(), judged: BTreeSet::new(), findings: Vec::new() }
    }

    /// Checks a path and the folders above it, and the same for the target if it is a link. A missing file is skipped,
    /// because it cannot be used either.
    fn visit(&mut self, path: &Path, kind: Requirement) {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        self.check_parents(&path, 0);
        self.step(&path, kind, 0);
    }

    fn check_parents(&mut self, path: &Path, links: u32) {
        let Some(folder) = path.parent() else { return };
        if self.passed.insert(folder.to_owned()) {
            self.check_parents(folder, links);
            self.step(folder, Requirement::Above, links);
        }
    }

    fn step(&mut self, path: &Path, kind: Requirement, links: u32) {
        let Ok(metadata) = fs::symlink_metadata(path) else { return };
        if !metadata.is_symlink() {
            return self.check_mode(path, &metadata, kind);
        }
        self.check_owner(path, &metadata, kind);
        if let (Ok(target), true) = (fs::read_link(path), links < LINKS_MAX) {
            // The kernel resolves `..`, because it follows the links before it.
            let target = path.parent().unwrap_or(Path::new("/")).join(target);
            self.check_parents(&target, links + 1);
            if kind == Requirement::Template
                && let Some(folder) = target.parent()
            {
                self.step(folder, Requirement::TargetFolder, links + 1);
            }
            self.step(&target, kind, links + 1);
        }
    }

    fn check_owner(&mut self, path: &Path, metadata: &fs::Metadata, kind: Requirement) {
        let user = self.policy.user;
        if matches!(kind, Requirement::Own | Requirement::Private) && ![0, user].contains(&metadata.uid()) {
            let problem = format!("belongs to {}, not to {}", user_name(metadata.uid()), user_name(user));
            self.add(path, problem, &format!("chown -h {user}"));
        }
    }

    fn check_mode(&mut self, path: &Path, metadata: &fs::Metadata, kind: Requirement) {
        if !self.judged.insert((metadata.dev(), metadata.ino(), kind)) {
            return;
        }
        let mode = metadata.mode();
        self.check_owner(path, metadata, kind);
        // In a sticky folder, only the owner of a file can replace it.
        let sticky =
            matches!(kind, Requirement::Above | Requirement::TargetFolder) && metadata.is_dir() && mode & STICKY != 0;
        let everyone = mode & EVERYONE != 0 && !sticky;
        let group = if mode & GROUP != 0 && kind != Requirement::Above && !sticky {
            self.group_problem(path, metadata)
        } else {
            None
        };
        if (!everyone && group.is_none()) || is_read_only(path) {
            return;
        }
        let fix = match (kind, metadata.is_dir()) {
            (Requirement::Private, true) => "chmod 700",
            (Requirement::Private, false) => "chmod 600",
            _ if everyone && group.is_some() => "chmod go-w",
            _ if everyone => "chmod o-w",
            _ => "chmod g-w",
        };
        match group {
            _ if everyone => self.add(path, "is writable by everyone".into(), fix),
            Some(writer) => {
                let flag = if kind == Requirement::Own || kind == Requirement::Private {
                    ", or pass --group-may-write"
                } else {
                    ""
                };
                self.add(path, format!("is writable by {writer}{flag}"), fix);
            }
            None => {}
        }
    }

    /// Returns who can write through the group bits, if that is not allowed. With an access control list these bits are
    /// the most that the users and groups named in it can have.
    fn group_problem(&self, path: &Path, metadata: &fs::Metadata) -> Option<String> {
        if self.policy.group_may_write {
            None
        } else if has_acl(path) {
            Some("users or groups in its access control list (run `getfacl` to see them)".into())
        } else if self.policy.private_group == Some(metadata.gid()) {
            None
        } else {
            Some(group_name(metadata.gid()))
        }
    }

    fn add(&mut self, path: &Path, problem: String, fix: &str) {
        let finding = PermissionProblem { path: path.to_owned(), problem, fix: fix.to_owned() };
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    fn finish(self) -> Result<(), Untrusted> {
        if self.findings.is_empty() { Ok(()) } else { Err(Untrusted(self.findings)) }
    }
}

/// Reports whether the path has an access control list, with more entries than the mode shows.
fn has_acl(path: &Path) -> bool {
    rustix::fs::lgetxattr_query(path, "system.posix_acl_access").is_ok_and(|len| len > 0)
}

/// Reports whether the file system is mounted read-only, so that nothing can be written there despite the mode: a
/// ConfigMap mounted by Kubernetes has mode 0777.
fn is_read_only(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|system| system.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const USER: Policy = Policy { user: 1000, private_group: Some(1000), group_may_write: false };

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Returns the findings for a path under a policy.
    fn said(policy: Policy, path: &Path, kind: Requirement) -> Vec<String> {
        let mut walk = PermissionCheck::new(policy);
        walk.visit(path, kind);
        walk.findings.iter().map(ToString::to_string).collect()
    }

    fn own(private: bool) -> Policy {
        let user = rustix::process::geteuid().as_raw();
        let group = rustix::process::getegid().as_raw();
        Policy { user, private_group: private.then_some(group), group_may_write: false }
    }

    #[test]
    fn write_access_counts_by_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        // Mode, whether the group is private, and the expected problem.
        let cases = [
            (0o600, false, ""),
            (0o644, false, ""),
            (0o711, false, ""),
            (0o660, true, ""),
            (0o660, false, "is writable by group"),
            (0o662, true, "chmod o-w"),
            (0o666, true, "chmod o-w"),
            (0o666, false, "chmod go-w"),
        ];
        for (mode, private, expected) in cases {
            set(&file, mode);
            let findings = said(own(private), &file, Requirement::Own).join("\n");
            assert!(
                findings.is_empty() == expected.is_empty() && findings.contains(expected),
                "{mode:o} {private}: {findings}"
            );
        }
        let allowed = Policy { group_may_write: true, ..own(false) };
        set(&file, 0o660);
        assert!(said(allowed, &file, Requirement::Own).is_empty());
        set(&file, 0o606);
        assert_eq!(said(allowed, &file, Requirement::Private).len(), 1);
    }

    #[test]
    fn a_folder_above_has_to_keep_what_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let above = dir.path().join("above");
        let home = above.join("home");
        fs::create_dir_all(&home).unwrap();
        for (mode, is_fine) in [(0o755, true), (0o775, true), (0o1777, true), (0o777, false)] {
            set(&above, mode);
            let findings = said(own(false), &home, Requirement::Own);
            assert_eq!(findings.is_empty(), is_fine, "{mode:o}: {findings:?}");
        }
        // The home itself must not be writable by others at all.
        set(&above, 0o755);
        set(&home, 0o1777);
        assert_eq!(said(own(false), &home, Requirement::Own).len(), 1);
    }

    #[test]
    fn a_link_leads_to_what_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (shared, link, file) = (dir.path().join("shared"), dir.path().join("link"), dir.path().join("shared/file"));
        fs::create_dir(&shared).unwrap();
        fs::write(&file, "").unwrap();
        // By way of a second link and `..`.
        symlink("shared/../second", &link).unwrap();
        symlink("shared/file", dir.path().join("second")).unwrap();
        assert!(said(own(false), &link, Requirement::Own).is_empty());
        set(&file, 0o666);
        let found = said(own(false), &link, Requirement::Own);
        assert!(found.len() == 1 && found[0].contains("file is writable"), "{found:?}");
        set(&file, 0o600);
        set(&shared, 0o777);
        let found = said(own(false), &link, Requirement::Own);
        assert!(found.len() == 1 && found[0].contains("shared is writable"), "{found:?}");
        // A group can replace the file that a template leads to.
        set(&shared, 0o770);
        assert!(said(own(false), &link, Requirement::Own).is_empty());
        assert_eq!(said(own(false), &link, Requirement::Template).len(), 1);
        // A circle of links ends.
        let circle = dir.path().join("circle");
        symlink(&circle, &circle).unwrap();
        assert!(said(own(false), &circle, Requirement::Own).is_empty());
    }

    #[test]
    fn another_users_file_is_told_and_paths_are_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("it's");
        fs::write(&file, "").unwrap();
        if guillemet_testing::missing::is_root("give a file to another user") {
            // Files of root are trusted by every user.
            assert!(said(USER, &file, Requirement::Own).is_empty());
            std::os::unix::fs::chown(&file, Some(61_003), None).unwrap();
        }
        let found = said(USER, &file, Requirement::Own);
        let expected = format!("run `chown -h 1000 '{}/it'\\''s'`", dir.path().display());
        assert!(found.len() == 1 && found[0].ends_with(&expected), "{found:?}");
        assert!(said(USER, &file, Requirement::Template).is_empty());
    }
}
