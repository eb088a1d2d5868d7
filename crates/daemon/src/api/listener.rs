//! A listening socket that can be replaced while connections are accepted from it. Knows neither its path nor why it is
//! replaced.

use std::io;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

/// Accepts connections from the socket in use.
pub struct Listener {
    current: UnixListener,
    next: mpsc::Receiver<UnixListener>,
}

/// Replaces the socket of a [`Listener`]. Connections accepted from the former one stay open.
pub type Replacements = mpsc::Sender<UnixListener>;

impl Listener {
    /// Starts with a socket. Returns the listener and the sender that replaces its socket.
    pub fn new(first: UnixListener) -> (Self, Replacements) {
        let (sender, next) = mpsc::channel(1);
        (Self { current: first, next }, sender)
    }

    /// Returns the next connection. Can be cancelled without losing one.
    ///
    /// # Errors
    /// The system's error.
    pub async fn accept(&mut self) -> io::Result<UnixStream> {
        loop {
            tokio::select! {
                // Connections that wait on the former socket go first: dropping it would end them.
                biased;
                accepted = self.current.accept() => return accepted.map(|(stream, _)| stream),
                Some(next) = self.next.recv() => self.current = next,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_at_the_former_socket_is_accepted_too() {
        let dir = tempfile::tempdir().unwrap();
        let [former, latter] = ["former", "latter"].map(|name| dir.path().join(name));
        let (mut listener, replacements) = Listener::new(UnixListener::bind(&former).unwrap());
        let _first = UnixStream::connect(&former).await.unwrap();
        replacements.send(UnixListener::bind(&latter).unwrap()).await.unwrap();
        listener.accept().await.unwrap();
        let _second = UnixStream::connect(&latter).await.unwrap();
        listener.accept().await.unwrap();
        assert!(UnixStream::connect(&former).await.is_err(), "nobody listens there any more");
    }
}
