//! A listening socket that can be replaced while it is accepted from. Knows neither where it listens nor why it is
//! replaced.

use std::io;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

/// Where connections come from.
pub struct Listener {
    current: UnixListener,
    next: mpsc::Receiver<UnixListener>,
}

/// Puts another socket in a listener's place. Connections of the former one go on.
pub type Replacements = mpsc::Sender<UnixListener>;

impl Listener {
    /// Begins with a socket, and returns what replaces it.
    pub fn new(first: UnixListener) -> (Self, Replacements) {
        let (sender, next) = mpsc::channel(1);
        (Self { current: first, next }, sender)
    }

    /// Returns the next connection. Nothing is lost when it is given up early.
    ///
    /// # Errors
    /// The system's.
    pub async fn accept(&mut self) -> io::Result<UnixStream> {
        loop {
            tokio::select! {
                // First who waits already: dropping the former socket ends those.
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
