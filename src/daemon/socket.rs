//! The listening socket: who can reach it is settled before it listens, and checked.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::UnixListener;

use super::{DaemonError, file, private_dir};
use crate::home::Home;

/// How many connections wait to be accepted.
const BACKLOG: i32 = 1024;

/// The listening socket, and whether it is ours to remove: ours, or one a service manager made.
///
/// The folder is its owner's alone (0700), and the socket too (0600); with a group, its members can pass the
/// one (0710) and connect to the other (0660).
pub(super) fn listen(home: &Home, group: Option<u32>) -> Result<(UnixListener, bool), DaemonError> {
    let path = home.socket();
    let refused = |problem: String| DaemonError::Socket { path: path.clone(), problem };
    if let Some(listener) = activated().map_err(|error| refused(error.to_string()))? {
        return Ok((listener, false));
    }
    private_dir(home.runtime())?;
    let own = rustix::process::geteuid().as_raw();
    let dir = fs::metadata(home.runtime()).map_err(file(home.runtime()))?;
    if dir.uid() != own || dir.mode() & 0o067 != 0 {
        return Err(refused(format!(
            "its folder has to be yours alone; run `chmod 700 {}` as its owner",
            home.runtime().display()
        )));
    }
    open_to(home.runtime(), group, [0o700, 0o710])?;
    // With --home the folder lies in the home, whose other folders and files stay their owner's.
    if let Some(group) = group.filter(|_| home.runtime().parent() == Some(home.data())) {
        open_to(home.data(), Some(group), [0o700, 0o710])?;
    }
    match fs::symlink_metadata(&path) {
        // The lock says that no daemon lives behind it.
        Ok(old) if old.file_type().is_socket() => fs::remove_file(&path).map_err(file(&path))?,
        Ok(_) => return Err(refused("something else than a socket lies there; move it away".into())),
        Err(_) => {}
    }
    let address = SocketAddrUnix::new(&path).map_err(|error| {
        refused(format!("{error}; a socket's path may have at most 107 bytes: choose a shorter --home"))
    })?;
    let failed = |error: rustix::io::Errno| refused(error.to_string());
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed)?;
    // The umask is 077 since the start: there is no moment in which another user could connect.
    rustix::net::bind(&socket, &address).map_err(failed)?;
    let ready = open_to(&path, group, [0o600, 0o660]).and_then(|()| {
        rustix::net::listen(&socket, BACKLOG).map_err(failed)?;
        UnixListener::from_std(socket.into()).map_err(|error| refused(error.to_string()))
    });
    let listener = ready.inspect_err(|_| {
        let _ = fs::remove_file(&path);
    })?;
    Ok((listener, true))
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
            "the file system does not keep it to its owner, and the group of api.group; choose another --home";
        return Err(DaemonError::Socket { path: path.to_owned(), problem: problem.into() });
    }
    Ok(())
}

/// Why members of a group cannot reach the socket, if they cannot: a folder above that they may not pass.
pub(super) fn unreachable(home: &Home, group: u32) -> Option<String> {
    let ours = |dir: &Path| dir == home.runtime() || dir == home.data();
    let passable = |dir: &Path| {
        fs::metadata(dir).is_ok_and(|dir| dir.mode() & 0o001 != 0 || dir.gid() == group && dir.mode() & 0o010 != 0)
    };
    let closed = home.runtime().ancestors().find(|dir| !ours(dir) && !dir.as_os_str().is_empty() && !passable(dir))?;
    Some(format!(
        "members of api.group cannot reach the socket: they may not pass {}; choose another --home, or allow it",
        closed.display()
    ))
}

/// The socket of systemd's socket activation (sd_listen_fds), if there is one.
fn activated() -> io::Result<Option<UnixListener>> {
    let Some(fd) = sd_notify::listen_fds().ok().and_then(|mut fds| fds.next()) else {
        return Ok(None);
    };
    let listener = std::os::unix::net::UnixListener::from(crate::sys::process::inherited(fd)?);
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener).map(Some)
}
