//! The listening socket: who can reach it is settled before it listens, and checked. Knows nothing of requests.
//!
//! Invariant: whoever holds the lock beside the socket, and nobody else, binds it, replaces it and removes it. Two
//! homes may share a runtime folder, so a lock in the home is not enough. The holder removes only the socket it bound.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{SocketAddr, UnixListener as StdListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::FileType;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::self_check::Address;
use super::{DaemonError, file, private_dir};
use crate::api::listener::Replacements;
use crate::api::metrics::Counts;
use crate::app::App;
use crate::config::{NameOrNumber, Who};
use guillemet_base::files::FileId;
use guillemet_base::home::Home;
use guillemet_base::lock_file::{Holder, LockError, LockFile};

/// How many connections wait to be accepted.
const BACKLOG: i32 = 1024;
/// How often it is checked whether the socket is still where clients look for it.
const CHECK: Duration = Duration::from_secs(2);

const UNUSABLE: &str = "the socket from the service manager cannot be used";

/// The right to listen at a home's socket, and the socket.
pub(super) enum Socket {
    /// The daemon's own.
    Own(OwnSocket),
    /// One of a service manager, which binds and removes it.
    Activated { listener: StdListener, _lock: Option<LockFile> },
}

/// A socket that the daemon binds, looks after and removes.
pub(super) struct OwnSocket {
    home: Home,
    /// Which folder the home is; a socket is not bound for one that was removed.
    home_id: FileId,
    /// The group that may connect, as the configuration names it.
    wanted_group: Option<NameOrNumber>,
    /// Its number, once there is such a group.
    group: Option<u32>,
    lock: LockFile,
    /// What was bound last.
    bound: Option<FileId>,
}

impl Socket {
    /// Takes the right to listen, before anything else is done. Does not listen yet.
    ///
    /// The folder is its owner's alone (0700), and the socket too (0600); with a group, its members can pass the one
    /// (0710) and connect to the other (0660).
    ///
    /// # Errors
    /// When another daemon listens there, or others could reach it.
    pub(super) fn claim(
        home: &Home,
        home_id: FileId,
        wanted_group: Option<NameOrNumber>,
        activated: Option<StdListener>,
    ) -> Result<Self, DaemonError> {
        if let Some(listener) = activated {
            let address = listener.local_addr().map_err(super::system(UNUSABLE))?;
            // The folder may be the service manager's, where no other daemon can take the socket's place either.
            let lock = match address.as_pathname().map(|path| lock(path, home)) {
                Some(Err(error @ DaemonError::Socket { .. })) => return Err(error),
                lock => lock.and_then(Result::ok),
            };
            return Ok(Self::Activated { listener, _lock: lock });
        }
        let group = wanted_group.as_ref().and_then(number);
        let is_ours_to_set = check_folder(home)?;
        // Before anything changes: until here the folder may be another daemon's.
        let lock = lock(&home.socket(), home)?;
        if is_ours_to_set {
            open_folders(home, group)?;
        }
        Ok(Self::Own(OwnSocket { home: home.clone(), home_id, wanted_group, group, lock, bound: None }))
    }

    /// Listens.
    ///
    /// # Errors
    /// Why it cannot.
    pub(super) fn listen(&mut self) -> Result<UnixListener, DaemonError> {
        match self {
            Self::Own(own) => own.bind(),
            Self::Activated { listener, .. } => {
                let cloned = listener.try_clone().and_then(UnixListener::from_std);
                cloned.map_err(super::system(UNUSABLE))
            }
        }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn address(&self) -> Result<Address, DaemonError> {
        match self {
            Self::Own(own) => {
                let path = own.home.socket();
                let address = SocketAddr::from_pathname(&path).map_err(file(&path))?;
                Ok(Address { address, is_activated: false })
            }
            Self::Activated { listener, .. } => {
                let address = listener.local_addr().map_err(super::system(UNUSABLE))?;
                Ok(Address { address, is_activated: true })
            }
        }
    }

    /// Binds the socket again whenever it is gone, until the daemon stops.
    pub(super) async fn keep(
        &mut self,
        app: Arc<App>,
        counts: Arc<Counts>,
        replacements: Replacements,
        mut stop: watch::Receiver<bool>,
    ) {
        let Self::Own(own) = self else { return };
        let mut check = tokio::time::interval(CHECK);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // An error says that the daemon is gone.
                _ = stop.wait_for(|stop| *stop) => return,
                _ = check.tick() => {}
            }
            let problem = match tokio::task::block_in_place(|| own.let_group_in().and_then(|()| own.restore())) {
                Ok(None) => own.without_group(),
                Ok(Some(listener)) => {
                    tracing::warn!(socket = %own.home.socket().display(), "the socket was removed and created again");
                    counts.rebound();
                    // An error says that nobody accepts any more: the daemon stops.
                    let _ = replacements.send(listener).await;
                    own.without_group()
                }
                Err(error) => Some(format!("clients cannot connect, because the socket was removed: {error}")),
            };
            let told = app.socket_problem.swap(problem.clone().map(Arc::new));
            if let Some(problem) = problem.filter(|problem| told.as_deref() != Some(problem)) {
                tracing::error!("{problem}. Trying again every {} s", CHECK.as_secs());
            }
        }
    }

    /// Returns why members of the group that may connect cannot reach the socket, if they cannot.
    pub(super) fn unreachable(&self) -> Option<String> {
        let Self::Own(own) = self else { return None };
        own.group.and_then(|group| unreachable(&own.home, group))
    }

    /// Removes the socket, if it is the one that was bound.
    pub(super) fn remove(&self) {
        let Self::Own(own) = self else { return };
        if own.is_bound() {
            let _ = fs::remove_file(own.home.socket());
        }
    }
}

impl OwnSocket {
    /// Whether the socket's name leads to what was bound.
    fn is_bound(&self) -> bool {
        self.bound.is_some() && FileId::of_name(&self.home.socket()).ok() == self.bound
    }

    /// Lets the group in that may connect, as soon as there is one of its name.
    fn let_group_in(&mut self) -> Result<(), DaemonError> {
        if self.group.is_some() {
            return Ok(());
        }
        self.group = self.wanted_group.as_ref().and_then(number);
        if self.group.is_none() || !self.is_bound() {
            return Ok(());
        }
        if check_folder(&self.home)? {
            open_folders(&self.home, self.group)?;
        }
        open_to(&self.home.socket(), self.group, [0o600, 0o660])
    }

    /// Returns that the group that may connect does not exist.
    fn without_group(&self) -> Option<String> {
        let wanted = self.wanted_group.as_ref().filter(|_| self.group.is_none())?;
        let group = Who::Group(wanted.clone());
        Some(format!("there is no {group} on this machine (api.group), so only the daemon's user can connect"))
    }

    /// Sees to it that lock and socket are in place; a socket that had to be bound again.
    fn restore(&mut self) -> Result<Option<UnixListener>, DaemonError> {
        if self.lock.is_in_place() && self.is_bound() {
            return Ok(None);
        }
        if FileId::of(self.home.data()).ok() != Some(self.home_id) {
            let gone = io::Error::other("the home of this daemon is missing, or another folder has its name");
            return Err(file(self.home.data())(gone));
        }
        let is_ours_to_set = check_folder(&self.home)?;
        if !self.lock.is_in_place() {
            self.lock = lock(&self.home.socket(), &self.home)?;
        }
        if is_ours_to_set {
            open_folders(&self.home, self.group)?;
        }
        if self.is_bound() { Ok(None) } else { self.bind().map(Some) }
    }

    fn bind(&mut self) -> Result<UnixListener, DaemonError> {
        let path = self.home.socket();
        let refused = |problem: String| DaemonError::Socket { path: path.clone(), problem };
        match fs::symlink_metadata(&path) {
            // The lock says that no daemon lives behind it.
            Ok(old) if old.file_type().is_socket() => fs::remove_file(&path).map_err(file(&path))?,
            Ok(_) => return Err(refused("a file that is not a socket has this name; move it away".into())),
            Err(_) => {}
        }
        let address = SocketAddrUnix::new(&path).map_err(|error| {
            refused(format!(
                "{error}; a socket path can have at most 107 bytes: choose a shorter --home, or set GUILLEMET_SOCKET"
            ))
        })?;
        let failed = |error: rustix::io::Errno| refused(error.to_string());
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed)?;
        // The umask is 077 since the start: there is no moment in which another user could connect.
        rustix::net::bind(&socket, &address).map_err(failed)?;
        self.bound = Some(FileId::of_name(&path).map_err(file(&path))?);
        let ready = open_to(&path, self.group, [0o600, 0o660]).and_then(|()| {
            rustix::net::listen(&socket, BACKLOG).map_err(failed)?;
            UnixListener::from_std(socket.into()).map_err(|error| refused(error.to_string()))
        });
        ready.inspect_err(|_| {
            let _ = fs::remove_file(&path);
        })
    }
}

/// Makes the socket's folder where there is none, and sees to it that nobody else can put anything there. Whether its
/// rights are the daemon's to set: a folder that the socket was only put into may hold files for others.
fn check_folder(home: &Home) -> Result<bool, DaemonError> {
    let folder = home.runtime();
    let is_ours_to_set = home.owns_runtime() || fs::symlink_metadata(folder).is_err();
    private_dir(folder)?;
    let metadata = fs::metadata(folder).map_err(file(folder))?;
    let (forbidden, change) = if is_ours_to_set { (0o067, "700") } else { (0o022, "go-w") };
    if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & forbidden != 0 {
        let problem = format!(
            "only you should have access to its folder; run `chmod {change} {}` as its owner",
            folder.display()
        );
        return Err(DaemonError::Socket { path: home.socket(), problem });
    }
    Ok(is_ours_to_set)
}

/// Lets a group pass the folders above the socket, or nobody else.
fn open_folders(home: &Home, group: Option<u32>) -> Result<(), DaemonError> {
    open_to(home.runtime(), group, [0o700, 0o710])?;
    // With --home the folder lies in the home, whose other folders and files stay their owner's.
    if let Some(group) = group.filter(|_| home.owns_runtime() && home.runtime().parent() == Some(home.data())) {
        open_to(home.data(), Some(group), [0o700, 0o710])?;
    }
    Ok(())
}

/// Takes the lock beside a socket.
fn lock(socket: &Path, home: &Home) -> Result<LockFile, DaemonError> {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    LockFile::acquire(&path, &home.data().to_string_lossy()).map_err(|error| match error {
        LockError::Held(Holder { pid, note }) => {
            let pid = pid.map_or_else(String::new, |pid| format!("pid {pid}, "));
            let problem = format!(
                "another daemon is listening there ({pid}home {}). Stop it, or use another socket for this one: pass \
                 --home DIR, or set GUILLEMET_SOCKET or XDG_RUNTIME_DIR, for the daemon and for all commands",
                if note.is_empty() { "unknown" } else { &note }
            );
            DaemonError::Socket { path: socket.to_owned(), problem }
        }
        LockError::Io(source) => DaemonError::File { path, source },
    })
}

/// Gives a folder or socket to its owner alone, or to a group too, and checks that the file system did so.
fn open_to(path: &Path, group: Option<u32>, [own, shared]: [u32; 2]) -> Result<(), DaemonError> {
    let mode = if group.is_some() { shared } else { own };
    if let Some(group) = group {
        chown(path, None, Some(group)).map_err(file(path))?;
    }
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(file(path))?;
    let made = fs::symlink_metadata(path).map_err(file(path))?;
    let is_owners = made.uid() == rustix::process::geteuid().as_raw() && made.mode() & 0o777 == mode;
    if !is_owners || group.is_some_and(|group| made.gid() != group) {
        let problem =
            "its file system does not support the permissions for its owner and api.group; choose another --home";
        return Err(DaemonError::Socket { path: path.to_owned(), problem: problem.into() });
    }
    Ok(())
}

/// Returns the number of a group; `None` where there is none of its name.
fn number(group: &NameOrNumber) -> Option<u32> {
    match group {
        NameOrNumber::Number(number) => Some(*number),
        NameOrNumber::Name(name) => uzers::get_group_by_name(name).map(|group| group.gid()),
    }
}

/// Why members of a group cannot reach the socket, if they cannot: a folder above that they may not pass.
fn unreachable(home: &Home, group: u32) -> Option<String> {
    let ours = |dir: &Path| dir == home.data() || dir == home.runtime() && home.owns_runtime();
    let passable = |dir: &Path| {
        fs::metadata(dir).is_ok_and(|dir| dir.mode() & 0o001 != 0 || dir.gid() == group && dir.mode() & 0o010 != 0)
    };
    let closed = home.runtime().ancestors().find(|dir| !ours(dir) && !dir.as_os_str().is_empty() && !passable(dir))?;
    Some(format!(
        "members of api.group cannot reach the socket: they have no access to {}; choose another --home, or give them \
         access",
        closed.display()
    ))
}

/// Takes the socket of systemd's socket activation (sd_listen_fds), if there is one. Before this process opens anything:
/// a service manager that promises a descriptor and hands over none must not get at one of ours.
///
/// # Errors
/// When there is none under the number that was promised, when it is something else than a Unix stream socket that
/// listens, and when there is more than one.
pub(super) fn activated() -> Result<Option<StdListener>, DaemonError> {
    let wrong = |problem: String| DaemonError::CannotWork(format!("{UNUSABLE}: {problem}"));
    let mut fds = sd_notify::listen_fds().map_err(|error| wrong(format!("LISTEN_FDS and LISTEN_PID: {error}")))?;
    let Some(fd) = fds.next() else { return Ok(None) };
    if let Some(second) = fds.next() {
        return Err(wrong(format!(
            "it passed more than one (descriptors {fd}, {second}); keep only one ListenStream= in the socket unit"
        )));
    }
    let handed =
        guillemet_base::sys::process::inherited(fd).map_err(|error| wrong(format!("descriptor {fd}: {error}")))?;
    if let Some(what) = other_than_listener(&handed) {
        return Err(wrong(format!(
            "descriptor {fd} is {what}, but must be a listening Unix stream socket: use ListenStream= with a path, \
             and Accept=no, in the socket unit"
        )));
    }
    let listener = StdListener::from(handed);
    listener.set_nonblocking(true).map_err(super::system(UNUSABLE))?;
    Ok(Some(listener))
}

/// What a descriptor is, unless it is a Unix stream socket that listens.
fn other_than_listener(fd: impl AsFd) -> Option<String> {
    let Ok(family) = sockopt::socket_domain(&fd) else {
        let kind = rustix::fs::fstat(&fd).map(|stat| FileType::from_raw_mode(stat.st_mode));
        return Some(match kind {
            Ok(FileType::RegularFile) => "a file".into(),
            Ok(FileType::Directory) => "a folder".into(),
            Ok(FileType::Fifo) => "a pipe".into(),
            Ok(FileType::CharacterDevice | FileType::BlockDevice) => "a device".into(),
            _ => "not a socket".into(),
        });
    };
    let kind = sockopt::socket_type(&fd).ok();
    match (family, kind) {
        (AddressFamily::UNIX, Some(SocketType::STREAM)) => {}
        (AddressFamily::UNIX, Some(SocketType::DGRAM)) => return Some("a Unix datagram socket".into()),
        (AddressFamily::UNIX, Some(SocketType::SEQPACKET)) => return Some("a Unix seqpacket socket".into()),
        (AddressFamily::INET | AddressFamily::INET6, Some(SocketType::STREAM)) => return Some("a TCP socket".into()),
        (AddressFamily::INET | AddressFamily::INET6, Some(SocketType::DGRAM)) => return Some("a UDP socket".into()),
        _ => return Some("another kind of socket".into()),
    }
    match sockopt::socket_acceptconn(&fd) {
        Ok(false) => Some("a Unix stream socket that does not listen, such as a connection (Accept=yes)".into()),
        // A kernel that does not say lets it be tried.
        _ => None,
    }
}
