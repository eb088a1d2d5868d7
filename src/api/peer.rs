//! Who is on the other end of a connection, by the kernel's word, and what it may do.
//!
//! Invariant: a look-up that fails means no.

use std::sync::Arc;

use tokio::net::UnixStream;

use crate::vault::usage::Caller;

/// What Linux shows in place of a user it cannot map (a user of another namespace).
const OVERFLOW_UID: u32 = 65_534;

/// The peer of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Who, for the record; `None` when the kernel did not say.
    pub caller: Option<Caller>,
}

impl Peer {
    /// Asks the kernel (`SO_PEERCRED`).
    pub fn of(stream: &UnixStream) -> Self {
        let caller = stream.peer_cred().ok().map(|peer| {
            let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
            Caller { uid: peer.uid(), gid: peer.gid(), pid, exe: executable(pid) }
        });
        Self { caller }
    }

    /// The caller, if it may: without rules that is the daemon's own user, and no one else.
    pub fn authorised(&self, own_uid: u32) -> Option<&Caller> {
        self.caller.as_ref().filter(|caller| caller.uid == own_uid && caller.uid != OVERFLOW_UID)
    }
}

/// The executable of a process, for the audit trail only: it proves nothing.
fn executable(pid: u32) -> Arc<str> {
    let link = std::fs::read_link(format!("/proc/{pid}/exe"));
    link.map_or_else(|_| Arc::from(""), |path| path.to_string_lossy().replace(char::is_control, "\u{fffd}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_daemons_own_user_may() {
        let (stream, _other) = UnixStream::pair().unwrap();
        let own = rustix::process::getuid().as_raw();
        let peer = Peer::of(&stream);
        let caller = peer.authorised(own).unwrap();
        assert_eq!(caller.pid, std::process::id());
        assert!(!caller.exe.is_empty());
        assert!(peer.authorised(own + 1).is_none());
        assert!(Peer { caller: None }.authorised(own).is_none());
        let stranger = Peer { caller: Some(Caller { uid: OVERFLOW_UID, ..caller.clone() }) };
        assert!(stranger.authorised(OVERFLOW_UID).is_none());
    }
}
