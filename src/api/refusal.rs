//! Answers to callers that get no connection: who has no right at all, and who has as many as it gets.
//!
//! Knows nothing of what they want to ask. Must hold no slot for them, and bound what they cost: so many are answered
//! at once with patience, for so long each; the others get what can be written at once.

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

/// How many are waited for at once.
const AT_ONCE: usize = 32;
/// How long the head of a request is waited for, and how long for the caller to take the answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// The most that is read of a request that is not answered, in bytes.
const DRAINED: usize = 2 << 20;

/// One kind of refusal.
pub struct Refusal {
    answer: Bytes,
    under_way: Arc<Semaphore>,
}

impl Refusal {
    /// Returns the refusal that says this.
    pub fn new(error: &HttpError) -> Self {
        let (status, body) = (error.status(), error.body());
        let reason = status.canonical_reason().unwrap_or_default();
        let head = format!(
            "HTTP/1.1 {} {reason}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            status.as_u16(),
            body.len()
        );
        Self { answer: [head.as_bytes(), &body].concat().into(), under_way: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Answers a caller and ends its connection.
    pub fn send(&self, stream: UnixStream) {
        match Arc::clone(&self.under_way).try_acquire_owned() {
            Ok(permit) => {
                let answer = self.answer.clone();
                tokio::spawn(async move {
                    if let Err(error) = deliver(stream, &answer).await {
                        tracing::debug!(%error, "a refusal could not be sent");
                    }
                    drop(permit);
                });
            }
            Err(_) => send_at_once(&stream, &self.answer),
        }
    }
}

/// Lets a caller send its request before it is answered, since not all look for an answer before; then lets it take the
/// answer, since what is unread when a connection is closed may cost the peer what it has not read yet.
async fn deliver(mut stream: UnixStream, answer: &[u8]) -> io::Result<()> {
    let _ = timeout(PATIENCE, read_head(&mut stream)).await;
    timeout(PATIENCE, async {
        stream.write_all(answer).await?;
        stream.shutdown().await?;
        let (mut buffer, mut left) = ([0; 4096], DRAINED);
        loop {
            match stream.read(&mut buffer).await? {
                0 => return Ok(()),
                read => left = left.checked_sub(read).ok_or(io::ErrorKind::FileTooLarge)?,
            }
        }
    })
    .await?
}

/// Reads until an empty line, or as much as a head may have.
async fn read_head(stream: &mut UnixStream) -> io::Result<()> {
    let (mut head, mut len) = ([0; 4096], 0);
    while !head[..len].windows(4).any(|end| end == b"\r\n\r\n") {
        // Of a head that is longer the last bytes are kept: they may be a part of its end.
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

/// The same without waiting: with what the system takes and has. By its own calls, since the runtime does not know yet
/// whether it would have to wait.
fn send_at_once(stream: &UnixStream, answer: &[u8]) {
    let _ = send(stream, answer, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
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
    use crate::http::error::Code;

    fn refusal() -> Refusal {
        Refusal::new(&HttpError::new(Code::App(ErrorCode::Forbidden), "no"))
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
        assert_eq!(refusal.under_way.available_permits(), 0, "they are waited for");
        // Nobody waits for another one: it has the answer when this returns, also one that has sent something.
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
        while refusal.under_way.available_permits() < AT_ONCE {
            tokio::task::yield_now().await;
        }
    }
}
