//! The listening socket. Who can reach it is set and checked before it listens. Knows nothing of requests.
//!
//! Invariant: only the holder of the lock beside the socket binds, replaces and removes it. Two homes may share a
//! runtime folder, so a lock in the home is not enough. The holder removes only the socket that it bound.

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
use tokio::time::MissedTickBehavior;

use super::self_check::Address;
use super::{DaemonError, file, private_dir};
use crate::api::listener::Replacements;
use crate::api::metrics::RequestCounters;
use crate::app::App;
use crate::config::{CallerMatch, NameOrNumber};
use guillemet_base::files::FileId;
use guillemet_base::home::Home;
use guillemet_base::lock_file::{LockError, LockFile, LockHolder};
use guillemet_http::shutdown::Shutdown;

/// The most connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// How often to check that the socket is still where clients look for it.
const CHECK: Duration = Duration::from_secs(2);

const UNUSABLE: &str = "the socket from the service manager cannot be used";

/// The right to listen on a home's socket, and the socket itself.
pub(super) enum Socket {
    /// A socket of the daemon.
    Own(OwnSocket),
    /// A socket of a service manager, which binds and removes it.
    Activated { listener: StdListener, _lock: Option<LockFile> },
}

/// A socket that the daemon binds, restores and removes.
pub(super) struct OwnSocket {
    home: Home,
    /// The device and inode of the home folder. No socket is bound for a home that was removed.
    home_id: FileId,
    /// The group that may connect, as the configuration names it.
    wanted_group: Option<NameOrNumber>,
    /// The number of that group, once it exists.
    group: Option<u32>,
    lock: LockFile,
    /// The device and inode of the socket that was bound last.
    bound: Option<FileId>,
}

impl Socket {
    /// Takes the right to listen, before anything else is done. Does not listen yet.
    ///
    /// The folder is accessible to its owner only (0700), and so is the socket (0600). With a group, its members can
    /// pass the folder (0710) and connect to the socket (0660).
    ///
    /// # Errors
    /// If another daemon listens there, or other users could reach the socket.
    pub(super) fn claim(
        home: &Home,
        home_id: FileId,
        wanted_group: Option<NameOrNumber>,
        activated: Option<StdListener>,
    ) -> Result<Self, DaemonError> {
        if let Some(listener) = activated {
            let address = listener.local_addr().map_err(super::system(UNUSABLE))?;
            // The folder may belong to the service manager: then no other daemon can replace the socket either.
            let lock = match address.as_pathname().map(|path| lock(path, home)) {
                Some(Err(error @ DaemonError::Socket { .. })) => return Err(error),
                lock => lock.and_then(Result::ok),
            };
            return Ok(Self::Activated { listener, _lock: lock });
        }
        let group = wanted_group.as_ref().and_then(number);
        let is_ours_to_set = check_folder(home)?;
        // Before anything changes, because until here the folder may belong to another daemon.
        let lock = lock(&home.socket(), home)?;
        if is_ours_to_set {
            allow_traversal(home, group)?;
        }
        Ok(Self::Own(OwnSocket { home: home.clone(), home_id, wanted_group, group, lock, bound: None }))
    }

    /// Starts to listen.
    ///
    /// # Errors
    /// The reason why it cannot listen.
    pub(super) fn listen(&mut self) -> Result<UnixListener, DaemonError> {
        match self {
            Self::Own(socket) => socket.bind(),
            Self::Activated { listener, .. } => {
                let cloned = listener.try_clone().and_then(UnixListener::from_std);
                cloned.map_err(super::system(UNUSABLE))
            }
        }
    }

    /// Returns the address that it listens on.
    ///
    /// # Errors
    /// If the path is too long, or the kernel does not report the address.
    pub(super) fn address(&self) -> Result<Address, DaemonError> {
        match self {
            Self::Own(socket) => {
                let path = socket.home.socket();
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
    pub(super) async fn keep_bound(
        &mut self,
        app: Arc<App>,
        counts: Arc<RequestCounters>,
        replacements: Replacements,
        mut stop: Shutdown,
    ) {
        let Self::Own(socket) = self else { return };
        let mut check = tokio::time::interval(CHECK);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.requested() => return,
                _ = check.tick() => {}
            }
            let problem = match tokio::task::block_in_place(|| socket.allow_group().and_then(|()| socket.restore())) {
                Ok(None) => socket.without_group(),
                Ok(Some(listener)) => {
                    let path = socket.home.socket();
                    tracing::warn!(socket = %path.display(), "the socket was removed and created again");
                    counts.rebound();
                    // An error means that nothing accepts connections any more, because the daemon is stopping.
                    let _ = replacements.send(listener).await;
                    socket.without_group()
                }
                Err(error) => Some(format!("clients cannot connect, because the socket was removed: {error}")),
            };
            let previous = app.socket_problem.swap(problem.clone().map(Arc::new));
            if let Some(problem) = problem.filter(|problem| previous.as_deref() != Some(problem)) {
                tracing::error!("{problem}. Trying again every {} s", CHECK.as_secs());
            }
        }
    }

    /// Returns why members of the group that may connect cannot reach the socket; `None` if they can.
    pub(super) fn unreachable(&self) -> Option<String> {
        let Self::Own(socket) = self else { return None };
        socket.group.and_then(|group| unreachable(&socket.home, group))
    }

    /// Removes the socket, if it is the one that was bound.
    pub(super) fn remove(&self) {
        let Self::Own(socket) = self else { return };
        if socket.is_bound() {
            let _ = fs::remove_file(socket.home.socket());
        }
    }
}

impl OwnSocket {
    /// Returns whether the socket's path leads to the socket that was bound.
    fn is_bound(&self) -> bool {
        self.bound.is_some() && FileId::of_name(&self.home.socket()).ok() == self.bound
    }

    /// Gives the configured group access, as soon as a group of that name exists.
    fn allow_group(&mut self) -> Result<(), DaemonError> {
        if self.group.is_some() {
            return Ok(());
        }
        self.group = self.wanted_group.as_ref().and_then(number);
        if self.group.is_none() || !self.is_bound() {
            return Ok(());
        }
        if check_folder(&self.home)? {
            allow_traversal(&self.home, self.group)?;
        }
        set_group_access(&self.home.socket(), self.group, [0o600, 0o660])
    }

    /// Returns the problem that the configured group does not exist; `None` if it does.
    fn without_group(&self) -> Option<String> {
        let requested = self.wanted_group.as_ref().filter(|_| self.group.is_none())?;
        let group = CallerMatch::Group(requested.clone());
        Some(format!("there is no {group} on this machine (api.group), so only the daemon's user can connect"))
    }

    /// Puts the lock and the socket back in place. Returns the socket if it had to be bound again.
    fn restore(&mut self) -> Result<Option<UnixListener>, DaemonError> {
        if self.lock.is_in_place() && self.is_bound() {
            return Ok(None);
        }
        if FileId::of(self.home.data()).ok() != Some(self.home_id) {
            let missing = io::Error::other("the home of this daemon is missing, or another folder has its name");
            return Err(file(self.home.data())(missing));
        }
        let is_ours_to_set = check_folder(&self.home)?;
        if !self.lock.is_in_place() {
            self.lock = lock(&self.home.socket(), &self.home)?;
        }
        if is_ours_to_set {
            allow_traversal(&self.home, self.group)?;
        }
        if self.is_bound() { Ok(None) } else { self.bind().map(Some) }
    }

    fn bind(&mut self) -> Result<UnixListener, DaemonError> {
        let path = self.home.socket();
        let unusable = |problem: String| DaemonError::Socket { path: path.clone(), problem };
        match fs::symlink_metadata(&path) {
            // We hold the lock, so no daemon serves this socket.
            Ok(old) if old.file_type().is_socket() => fs::remove_file(&path).map_err(file(&path))?,
            Ok(_) => return Err(unusable("a file that is not a socket has this name; move it away".into())),
            Err(_) => {}
        }
        let address = SocketAddrUnix::new(&path).map_err(|error| {
            unusable(format!(
                "{error}; a socket path can have at most 107 bytes: choose a shorter --home, or set GUILLEMET_SOCKET"
            ))
        })?;
        let failed = |error: rustix::io::Errno| unusable(error.to_string());
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed)?;
        // The umask is 077 since the start, so at no moment can another user connect.
        rustix::net::bind(&socket, &address).map_err(failed)?;
        self.bound = Some(FileId::of_name(&path).map_err(file(&path))?);
        let ready = set_group_access(&path, self.group, [0o600, 0o660]).and_then(|()| {
            rustix::net::listen(&socket, BACKLOG).map_err(failed)?;
            UnixListener::from_std(socket.into()).map_err(|error| unusable(error.to_string()))
        });
        ready.inspect_err(|_| {
            let _ = fs::remove_file(&path);
        })
    }
}

/// Creates the socket's folder if there is none, and checks that nobody else can put anything into it. Returns whether
/// the daemon may set the folder's permissions: a folder that only happens to contain the socket may hold files for
/// others.
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

/// Lets a group pass the folders above the socket, or only their owner.
fn allow_traversal(home: &Home, group: Option<u32>) -> Result<(), DaemonError> {
    set_group_access(home.runtime(), group, [0o700, 0o710])?;
    // With --home, this folder is in the home, whose other folders and files stay private.
    if let Some(group) = group.filter(|_| home.owns_runtime() && home.runtime().parent() == Some(home.data())) {
        set_group_access(home.data(), Some(group), [0o700, 0o710])?;
    }
    Ok(())
}

/// Takes the lock beside a socket.
fn lock(socket: &Path, home: &Home) -> Result<LockFile, DaemonError> {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    LockFile::acquire(&path, &home.data().to_string_lossy()).map_err(|error| match error {
        LockError::Held(LockHolder { pid, note }) => {
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

/// Gives a folder or socket to its owner only, or to a group too, and checks that the file system did so.
fn set_group_access(path: &Path, group: Option<u32>, [private, shared]: [u32; 2]) -> Result<(), DaemonError> {
    let mode = if group.is_some() { shared } else { private };
    if let Some(group) = group {
        chown(path, None, Some(group)).map_err(file(path))?;
    }
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(file(path))?;
    let metadata = fs::symlink_metadata(path).map_err(file(path))?;
    let is_owners = metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o777 == mode;
    if !is_owners || group.is_some_and(|group| metadata.gid() != group) {
        let problem =
            "its file system does not support the permissions for its owner and api.group; choose another --home";
        return Err(DaemonError::Socket { path: path.to_owned(), problem: problem.into() });
    }
    Ok(())
}

/// Returns the number of a group; `None` if no group has its name.
fn number(group: &NameOrNumber) -> Option<u32> {
    match group {
        NameOrNumber::Number(number) => Some(*number),
        NameOrNumber::Name(name) => uzers::get_group_by_name(name).map(|group| group.gid()),
    }
}

/// Returns why members of a group cannot reach the socket, if a folder above it is closed to them.
fn unreachable(home: &Home, group: u32) -> Option<String> {
    let is_own = |dir: &Path| dir == home.data() || dir == home.runtime() && home.owns_runtime();
    let passable = |dir: &Path| {
        fs::metadata(dir).is_ok_and(|dir| dir.mode() & 0o001 != 0 || dir.gid() == group && dir.mode() & 0o010 != 0)
    };
    let closed =
        home.runtime().ancestors().find(|dir| !is_own(dir) && !dir.as_os_str().is_empty() && !passable(dir))?;
    Some(format!(
        "members of api.group cannot reach the socket: they have no access to {}; choose another --home, or give them \
         access",
        closed.display()
    ))
}

/// Takes the socket of systemd's socket activation (sd_listen_fds), if there is one. Call it before this process opens
/// anything: if a service manager announces a descriptor and passes none, the number must not turn out to be one of
/// ours.
///
/// # Errors
/// [`DaemonError::CannotWork`] if there is no open descriptor under the announced number, if it is not a listening Unix
/// stream socket, or if there is more than one.
pub(super) fn activated() -> Result<Option<StdListener>, DaemonError> {
    let unusable = |problem: String| DaemonError::CannotWork(format!("{UNUSABLE}: {problem}"));
    let mut fds = sd_notify::listen_fds().map_err(|error| unusable(format!("LISTEN_FDS and LISTEN_PID: {error}")))?;
    let Some(fd) = fds.next() else { return Ok(None) };
    if let Some(second) = fds.next() {
        return Err(unusable(format!(
            "it passed more than one (descriptors {fd}, {second}); keep only one ListenStream= in the socket unit"
        )));
    }
    let handed = guillemet_base::sys::process::take_inherited(fd)
        .map_err(|error| unusable(format!("descriptor {fd}: {error}")))?;
    if let Some(kind) = other_than_listener(&handed) {
        return Err(unusable(format!(
            "descriptor {fd} is {kind}, but must be a listening Unix stream socket: use ListenStream= with a path, \
             and Accept=no, in the socket unit"
        )));
    }
    let listener = StdListener::from(handed);
    listener.set_nonblocking(true).map_err(super::system(UNUSABLE))?;
    Ok(Some(listener))
}

/// Describes a descriptor; `None` if it is a listening Unix stream socket.
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
        // A kernel that does not report this: try it.
        _ => None,
    }
}
