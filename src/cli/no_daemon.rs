//! Explains why a command cannot reach a daemon, or reached the daemon of another home, and what to do about it. Looks
//! at files only: opens no vault and sends nothing.

use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Access, access};

use super::Failure;
use guillemet_api::client::OtherDaemon;
use guillemet_base::home::Home;
use guillemet_base::lock_file::LockFile;

/// The longest path of a socket, in bytes: the size of `sun_path` without its terminating zero.
const PATH_MAX: usize = 107;

/// Returns the reason that a connection to the daemon failed.
pub fn connection_failure(home: &Home, error: &io::Error) -> Failure {
    let socket = home.socket();
    let length = socket.as_os_str().as_bytes().len();
    if length > PATH_MAX {
        return Failure::new(format!(
            "the socket path {} has {length} bytes, but can have at most {PATH_MAX}; {}",
            socket.display(),
            if home.is_socket_chosen() {
                "set GUILLEMET_SOCKET to a shorter path"
            } else {
                "choose a shorter --home, or set GUILLEMET_SOCKET, also for the daemon"
            }
        ));
    }
    match error.kind() {
        ErrorKind::PermissionDenied => denied(&socket),
        ErrorKind::NotFound | ErrorKind::ConnectionRefused if home.is_socket_chosen() => Failure::new(format!(
            "no daemon is listening at {} (from GUILLEMET_SOCKET); start one there with `{}`, or unset \
             GUILLEMET_SOCKET to use the daemon of {}",
            socket.display(),
            home.command("daemon"),
            home.data().display()
        )),
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            no_home(home).unwrap_or_else(|| not_listening(home, &socket))
        }
        _ => Failure::new(format!("cannot connect to the daemon at {}: {error}", socket.display())),
    }
}

/// Returns a failure that says how to make a home if none exists. Returns `None` if one exists, or if that cannot be
/// determined.
pub fn no_home(home: &Home) -> Option<Failure> {
    match home.vault_file().symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => Some(Failure::new(format!(
            "there is no vault in {}; create one with `{}`",
            home.data().display(),
            home.command("init")
        ))),
        _ => None,
    }
}

/// Explains that a home exists but no daemon listens at its socket.
fn not_listening(home: &Home, socket: &Path) -> Failure {
    let data = home.data().display();
    match LockFile::holder(&home.lock_file()) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Failure::new(format!(
            "no daemon is listening at {}; the owner of {data} can start one with `{}`",
            socket.display(),
            home.command("daemon")
        )),
        Ok(Some(holder)) => {
            let pid = holder.pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
            Failure::new(format!(
                "the daemon of {data}{pid} is running, but not listening at {}. If it is starting, or its socket was \
                 removed, try again in a few seconds. If it was started with another XDG_RUNTIME_DIR or \
                 GUILLEMET_SOCKET, set that here too; its log shows where it listens",
                socket.display()
            ))
        }
        _ => Failure::new(format!("no daemon is running for {data}; start it with `{}`", home.command("daemon"))),
    }
}

/// Explains that this user may not open the socket or a folder on the way to it.
fn denied(socket: &Path) -> Failure {
    let folders: Vec<&Path> = socket.ancestors().skip(1).collect();
    let closed = folders.into_iter().rev().find(|folder| access(*folder, Access::EXEC_OK).is_err());
    let path = closed.unwrap_or(socket);
    let mut text = format!("you cannot connect to {}: you have no access to {}", socket.display(), path.display());
    if let Ok(metadata) = path.metadata() {
        let user = uzers::get_user_by_uid(metadata.uid())
            .map_or_else(|| metadata.uid().to_string(), |user| user.name().to_string_lossy().into_owned());
        let group = uzers::get_group_by_gid(metadata.gid())
            .map_or_else(|| metadata.gid().to_string(), |group| group.name().to_string_lossy().into_owned());
        let _ = write!(text, " (owner {user}, group {group}, mode {:04o})", metadata.mode() & 0o7777);
    }
    text.push_str(
        ". Only the daemon's user and members of `[api] group` in guillemet.toml can connect; new members of the group \
         must log in again",
    );
    Failure::new(text)
}

/// Returns a failure for a daemon at this home's socket that serves another home. `daemon` is what that daemon
/// reports of itself.
pub fn of_another_home(home: &Home, daemon: &OtherDaemon) -> Failure {
    let (socket, data) = (home.socket(), home.data());
    let pid = daemon.pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
    let head = format!("the daemon at {}{pid}", socket.display());
    let other = daemon.home.as_deref();
    if other == Some(&data.to_string_lossy()) {
        return Failure::new(format!(
            "{head} serves {}, but the folder was replaced since it started, or it is an older version. Nothing was \
             sent to it; restart it",
            data.display()
        ));
    }
    let other = other.map_or_else(String::new, |other| format!(", {other}"));
    Failure::new(format!(
        "{head} serves another home{other}. Nothing was sent to it. To use that daemon, set GUILLEMET_SOCKET={}. {} \
         needs its own socket: pass --home, or set XDG_RUNTIME_DIR or GUILLEMET_SOCKET, for its daemon and its \
         commands",
        socket.display(),
        data.display()
    ))
}
