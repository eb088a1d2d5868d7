//! Finds out which user owns a TCP connection of this machine, as reported by the kernel (sock_diag, Linux 3.3).
//!
//! Anyone on the machine can connect to a loopback port. A TCP socket has no `SO_PEERCRED`, but the other end is a
//! socket of this machine too, and belongs to a user. Does not know which users may connect.
//!
//! Invariant: a failed look-up grants nothing. Neither does a user that the kernel cannot name in this namespace.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::{fs, io};

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

use crate::user_namespace::OverflowIds;
use guillemet_vault::usage::Caller;

/// The `loginuid` of a process that descends from no login.
const NOBODY: u32 = u32::MAX;
/// The `SocketId::cookie` that matches any socket.
const ANY: [u8; 8] = [0xff; 8];

/// A netlink socket that asks the kernel for the owners of sockets.
pub struct Owners(OwnedFd);

impl Owners {
    /// Opens the netlink socket.
    ///
    /// # Errors
    /// The kernel's error, if it cannot be asked.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(Self(socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG))?))
    }

    /// Returns the user whose socket at `local` is connected to `remote`. Does not block, because the kernel answers at
    /// once.
    ///
    /// # Errors
    /// If there is no such connection (any more), or the kernel does not report its owner.
    pub fn of(&self, local: SocketAddr, remote: SocketAddr) -> io::Result<u32> {
        let family = if local.is_ipv4() { AF_INET } else { AF_INET6 };
        let request = InetRequest {
            family,
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::empty(),
            states: StateFlags::all(),
            socket_id: SocketId {
                source_port: local.port(),
                destination_port: remote.port(),
                source_address: local.ip(),
                destination_address: remote.ip(),
                interface_id: 0,
                cookie: ANY,
            },
        };
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST;
        let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        // Discard what is left from an earlier request that failed.
        let mut buffer = [0; 4096];
        while recv(&self.0, &mut buffer, RecvFlags::DONTWAIT).is_ok() {}
        send(&self.0, &bytes, SendFlags::empty())?;
        let (_, len) = recv(&self.0, &mut buffer, RecvFlags::DONTWAIT)?;
        let response = buffer.get(..len).ok_or(io::ErrorKind::InvalidData)?;
        let response = NetlinkMessage::<SockDiagMessage>::deserialize(response).map_err(io::Error::other)?;
        match response.payload {
            // If there is no such connection, the kernel reports the socket that listens at the address. A socket that
            // was closed has no inode and no owner any more; the kernel reports root for it.
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(socket))
                if socket.header.socket_id.destination_port == remote.port()
                    && socket.header.inode != 0
                    && !OverflowIds::of_this_process().is_user(socket.header.uid) =>
            {
                Ok(socket.header.uid)
            }
            NetlinkPayload::Error(error) => Err(error.to_io()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// Returns the users whose browser may follow a link that this caller requested: the caller, and if the kernel knows
/// it, the user who logged in and then became the caller (`sudo`).
pub fn visitors(caller: &Caller) -> HashSet<u32> {
    let login = fs::read_to_string(format!("/proc/{}/loginuid", caller.pid)).ok();
    let login = login.and_then(|uid| uid.trim().parse().ok());
    let login = login.filter(|uid| *uid != NOBODY && !OverflowIds::of_this_process().is_user(*uid));
    [Some(caller.uid), login].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};

    use rustix::net::sockopt::set_ipv6_v6only;
    use rustix::net::{SocketAddrV6, connect, socket};

    use super::*;

    fn own() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    #[test]
    fn a_connection_is_its_users_and_one_that_is_not_there_nobodys() {
        let owners = Owners::open().unwrap();
        let addresses: [std::net::IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        for address in addresses {
            let Ok(listener) = TcpListener::bind((address, 0)) else { continue };
            let server = listener.local_addr().unwrap();
            let stream = TcpStream::connect(server).unwrap();
            let client = stream.local_addr().unwrap();
            assert_eq!(owners.of(client, server).unwrap(), own());
            // A connection that nobody has accepted yet has no owner at that end, and there is none to another port.
            assert!(owners.of(server, client).is_err());
            assert!(owners.of(SocketAddr::new(address, 1), server).is_err());
            assert!(owners.of(server, SocketAddr::new(address, 1)).is_err());
            // A connection that was closed at this end has no owner.
            let accepted = listener.accept().unwrap().0;
            drop(stream);
            assert!(owners.of(client, server).is_err());
            drop(accepted);
        }
    }

    #[test]
    fn an_ipv6_socket_with_an_ipv4_address_is_found_too() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let server = listener.local_addr().unwrap();
        let Ok(client) = socket(AddressFamily::INET6, SocketType::STREAM, None) else { return };
        if set_ipv6_v6only(&client, false).is_err() {
            return;
        }
        let mapped = SocketAddrV6::new(Ipv4Addr::LOCALHOST.to_ipv6_mapped(), server.port(), 0, 0);
        connect(&client, &mapped).unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(Owners::open().unwrap().of(peer, server).unwrap(), own());
    }

    #[test]
    fn who_asked_for_a_link_may_follow_it() {
        let caller = Caller { uid: own(), gid: 0, pid: std::process::id(), exe: "".into() };
        let visitors = visitors(&caller);
        assert!(visitors.contains(&own()) && !visitors.contains(&NOBODY));
    }
}
