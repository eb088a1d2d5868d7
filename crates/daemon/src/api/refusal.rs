//! Responses to callers that get no connection: those without any right, and those that have as many as they may have.
//!
//! Knows nothing of their requests. Must not hold a slot for them, and bounds what they cost: a limited number get a
//! patient response, each for a limited time; the others get only what can be written at once.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::http::error::HttpError;

/// The number of callers that get a patient response at the same time.
const AT_ONCE: usize = 32;
/// How long to wait for the head of a request, and again for the caller to take the response.
const PATIENCE: Duration = Duration::from_secs(1);
/// The most bytes to read of a request that is refused.
const DRAINED: usize = 2 << 20;

/// A response that refuses a connection.
pub struct ConnectionRefusal {
    response: Bytes,
    permits: Arc<Semaphore>,
}

impl ConnectionRefusal {
    /// Makes a refusal that sends this error.
    pub fn new(error: &HttpError) -> Self {
        let (status, body) = (error.status(), error.body());
        let reason = status.canonical_reason().unwrap_or_default();
        let head = format!(
            "HTTP/1.1 {} {reason}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            status.as_u16(),
            body.len()
        );
        Self { response: [head.as_bytes(), &body].concat().into(), permits: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Sends the refusal to a caller and ends its connection.
    pub fn send(&self, stream: UnixStream) {
        match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => {
                let response = self.response.clone();
                tokio::spawn(async move {
                    if let Err(error) = deliver(stream, &response).await {
                        tracing::debug!(%error, "a refusal could not be sent");
                    }
                    drop(permit);
                });
            }
            Err(_) => send_at_once(&stream, &self.response),
        }
    }
}

/// Reads the head of the request before sending the response, because some clients look for a response only after they
/// have sent it. Then waits until the caller has taken the response: closing a connection with unread data can destroy
/// what the peer has not read yet.
async fn deliver(mut stream: UnixStream, response: &[u8]) -> io::Result<()> {
    let _ = timeout(PATIENCE, read_head(&mut stream)).await;
    timeout(PATIENCE, async {
        stream.write_all(response).await?;
        stream.shutdown().await?;
        let (mut buffer, mut remaining) = ([0; 4096], DRAINED);
        loop {
            match stream.read(&mut buffer).await? {
                0 => return Ok(()),
                read => remaining = remaining.checked_sub(read).ok_or(io::ErrorKind::FileTooLarge)?,
            }
        }
    })
    .await?
}

/// Reads until an empty line or the end of the stream.
async fn read_head(stream: &mut UnixStream) -> io::Result<()> {
    let (mut head, mut len) = ([0; 4096], 0);
    while !head[..len].windows(4).any(|end| end == b"\r\n\r\n") {
        // Of a longer head, keep the last bytes: they may be part of its end.
        if len == head.len() {
            head.copy_within(len - 3.., 0);
            len = 3;
        }
        match stream.read(&mut head[len..]).await? {
            0 => break,
            read => len += read,
        }
    }
    Ok(())
}

/// Does the same without waiting, as far as the system can take and give data at once. Uses system calls directly,
/// because the runtime does not know yet whether the socket is ready.
fn send_at_once(stream: &UnixStream, response: &[u8]) {
    let _ = send(stream, response, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    let _ = shutdown(stream, Shutdown::Write);
    let mut buffer = [0; 4096];
    for _ in 0..16 {
        if !recv(stream, &mut buffer, RecvFlags::DONTWAIT).is_ok_and(|(read, _)| read > 0) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::error::ErrorCode;
    use crate::http::error::HttpErrorCode;

    fn refusal() -> ConnectionRefusal {
        ConnectionRefusal::new(&HttpError::new(HttpErrorCode::App(ErrorCode::Forbidden), "no"))
    }

    const EXPECTED: &str = "HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\nconnection: close\r\n\
                            content-length: 36\r\n\r\n{\"code\":\"forbidden\",\"message\":\"no\"}\n";

    async fn told(mut stream: UnixStream) -> io::Result<String> {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.map(|_| text)
    }

    #[tokio::test]
    async fn a_refusal_arrives_whenever_the_request_does_and_however_large_it_is() {
        let refusal = refusal();
        for before in [true, false] {
            for request in
                ["GET / HTTP/1.1\r\n\r\n".to_owned(), format!("POST / HTTP/1.1\r\n\r\n{}", "x".repeat(1 << 20))]
            {
                let (ours, mut theirs) = UnixStream::pair().unwrap();
                if before {
                    let (begin, rest) = request.split_at(10);
                    theirs.write_all(begin.as_bytes()).await.unwrap();
                    refusal.send(ours);
                    theirs.write_all(rest.as_bytes()).await.unwrap();
                } else {
                    refusal.send(ours);
                    theirs.write_all(request.as_bytes()).await.unwrap();
                }
                assert_eq!(told(theirs).await.unwrap(), EXPECTED);
            }
        }
    }

    #[tokio::test]
    async fn callers_that_say_nothing_hold_up_neither_others_nor_the_daemon() {
        let refusal = refusal();
        let silent: Vec<UnixStream> = (0..AT_ONCE)
            .map(|_| {
                let (ours, theirs) = UnixStream::pair().unwrap();
                refusal.send(ours);
                theirs
            })
            .collect();
        assert_eq!(refusal.permits.available_permits(), 0, "they are waited for");
        // The next caller is not waited for: it has its response when this returns, even if it has sent something.
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        refusal.send(ours);
        let mut read = [0; 4096];
        let (len, _) = recv(&theirs, &mut read, RecvFlags::DONTWAIT).unwrap();
        assert_eq!(std::str::from_utf8(&read[..len]).unwrap(), EXPECTED);
        assert_eq!(told(theirs).await.unwrap(), "");
        for stream in silent {
            assert_eq!(told(stream).await.unwrap(), EXPECTED);
        }
        while refusal.permits.available_permits() < AT_ONCE {
            tokio::task::yield_now().await;
        }
    }
}
