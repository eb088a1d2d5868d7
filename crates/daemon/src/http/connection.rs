//! A connection that cannot be held up and loses no request: it ends when a response is not taken in time, and if it is
//! ended while idle, what had arrived is still answered.
//!
//! A change waits for the answers that were made before it (promise At once), so a caller that does not read must not
//! be able to delay it forever.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::ioctl_fionread;
use rustix::net::{Shutdown, shutdown};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::admission::{ConnectionState, ReadAllowance};

/// A stream that reports reads and writes to a [`ConnectionState`], and whose writes have a deadline. The deadline runs
/// from when the peer first leaves no room until everything has been written.
pub struct Timed<S> {
    stream: S,
    state: Arc<ConnectionState>,
    limit: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> Timed<S> {
    /// Wraps a stream. `limit` is how long its peer may take to make room for a response.
    pub fn new(stream: S, state: Arc<ConnectionState>, limit: Duration) -> Self {
        Self { stream, state, limit, deadline: None }
    }

    fn bounded<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_pending() {
            let until = || Box::pin(tokio::time::sleep_until(Instant::now() + self.limit));
            if self.deadline.get_or_insert_with(until).as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        result
    }
}

impl<S: AsFd> Timed<S> {
    /// Stops receiving. Returns whether something had arrived. From here on the peer's writes fail, so it knows which
    /// of its requests get no response.
    fn has_rest(&self) -> bool {
        let _ = shutdown(&self.stream, Shutdown::Read);
        ioctl_fionread(&self.stream).is_ok_and(|unread| unread > 0)
    }
}

impl<S: AsyncRead + AsFd + Unpin> AsyncRead for Timed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let reading = self.state.begin_read();
        if reading == ReadAllowance::Rest {
            if !self.has_rest() {
                return Poll::Ready(Ok(()));
            }
            self.state.rest_arrived();
        }
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        let has_data = buf.filled().len() > before;
        if reading == ReadAllowance::FromIdle && !has_data {
            self.state.nothing_read();
        }
        // Nothing more arrives because receiving was stopped, which is no reason to abort the response.
        if matches!(result, Poll::Ready(Ok(()))) && !has_data && self.state.is_last() && self.state.is_busy() {
            return Poll::Pending;
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.bounded(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.bounded(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes when everything has been written.
        self.deadline = None;
        self.state.all_written();
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::*;
    use crate::http::admission::{Admission, SlotHolder};

    /// Returns a connection that has just been ended for another one, and the peer's end of it.
    async fn ended(before: &[u8]) -> (Timed<UnixStream>, UnixStream) {
        let admission = Admission::new(1, 0);
        let slot = admission.admit(SlotHolder { uid: 1, pid: 1 }, ()).unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(before).await.unwrap();
        let timed = Timed::new(ours, Arc::clone(&slot.state), Duration::from_secs(60));
        assert!(admission.admit(SlotHolder { uid: 1, pid: 2 }, ()).is_some() && slot.state.is_last());
        (timed, theirs)
    }

    #[tokio::test]
    async fn what_arrived_before_the_end_is_read_and_nothing_after_it() {
        let (mut timed, mut theirs) = ended(b"GET /").await;
        let mut read = [0; 16];
        assert_eq!(timed.read(&mut read).await.unwrap(), 5);
        assert_eq!(theirs.write_all(b" HTTP/1.1").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        // While the request is being answered, the reader is not told of the end.
        timed.state.request_arrived();
        assert!(tokio::time::timeout(Duration::from_millis(1), timed.read(&mut read)).await.is_err());
        timed.state.response_ready();
        timed.state.all_written();
        assert_eq!(timed.read(&mut read).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn an_idle_connection_that_is_ended_is_at_its_end() {
        let (mut timed, mut theirs) = ended(b"").await;
        assert_eq!(timed.read(&mut [0; 16]).await.unwrap(), 0);
        assert_eq!(theirs.write_all(b"GET /").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}
