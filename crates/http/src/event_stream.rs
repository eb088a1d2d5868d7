//! Server-sent events (WHATWG HTML, section 9.2): the body of an endless response, and the loop that feeds it.
//!
//! Knows no event.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Response;
use hyper::body::{Body, Bytes, Frame};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::mpsc;

/// How often a comment is sent when nothing happens, so that each end notices when the other is gone.
const ALIVE: Duration = Duration::from_secs(15);

/// The line that tells a client to reconnect after a second. Sent once, before the first event.
pub const RETRY: &str = "retry: 1000\n";

/// The body of the response: events as they occur.
#[derive(Debug)]
pub struct EventStream(mpsc::Receiver<Bytes>);

impl Body for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Sends events to one listener. Dropping it ends the response.
#[derive(Debug)]
pub struct EventSender(mpsc::Sender<Bytes>);

/// The listener of a stream has disconnected.
#[derive(Debug)]
pub struct Disconnected;

/// Starts a stream. `waiting` is the number of events that wait for a listener that does not read.
pub fn event_stream(waiting: usize) -> (EventSender, Response<EventStream>) {
    let (sender, receiver) = mpsc::channel(waiting);
    let mut response = Response::new(EventStream(receiver));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    (EventSender(sender), response)
}

impl EventSender {
    /// Sends text of one or more events, made by [`event`]. Waits until there is room for it.
    ///
    /// # Errors
    /// [`Disconnected`], if the listener is gone.
    pub async fn send(&self, text: impl Into<Bytes>) -> Result<(), Disconnected> {
        self.0.send(text.into()).await.map_err(|_| Disconnected)
    }

    /// Returns the next signal of a channel, or the channel's error. Sends a comment whenever nothing happens for 15
    /// seconds.
    ///
    /// # Errors
    /// [`Disconnected`], if the listener is gone.
    pub async fn next<T: Clone>(&self, signals: &mut Receiver<T>) -> Result<Result<T, RecvError>, Disconnected> {
        self.next_or_comment(signals, ALIVE).await
    }

    async fn next_or_comment<T: Clone>(
        &self,
        signals: &mut Receiver<T>,
        interval: Duration,
    ) -> Result<Result<T, RecvError>, Disconnected> {
        loop {
            tokio::select! {
                () = self.0.closed() => return Err(Disconnected),
                () = tokio::time::sleep(interval) => self.send(Bytes::from_static(b": alive\n\n")).await?,
                signal = signals.recv() => return Ok(signal),
            }
        }
    }
}

/// Returns the text of an event. `data` is JSON in one line, as serde_json writes it.
pub fn event(name: &str, data: &str) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::sync::broadcast;

    use super::*;

    #[tokio::test]
    async fn silence_is_filled_with_comments() {
        let (signals, mut receiver) = broadcast::channel::<u8>(1);
        let (sender, response) = event_stream(1);
        let next = tokio::spawn(async move {
            let interval = Duration::from_millis(1);
            sender.next_or_comment(&mut receiver, interval).await
        });
        let mut stream = response.into_body();
        for _ in 0..3 {
            assert_eq!(stream.frame().await.unwrap().unwrap().into_data().unwrap(), ": alive\n\n");
        }
        signals.send(7).unwrap();
        // Comments that were sent before the signal arrived.
        while stream.frame().await.is_some() {}
        assert!(matches!(next.await.unwrap(), Ok(Ok(7))));
    }

    #[tokio::test]
    async fn a_listener_that_disconnects_ends_the_loop() {
        let (_signals, mut receiver) = broadcast::channel::<u8>(1);
        let (sender, response) = event_stream(1);
        drop(response);
        assert!(matches!(sender.next(&mut receiver).await, Err(Disconnected)));
        assert!(matches!(sender.send("event: late\n\n").await, Err(Disconnected)));
    }

    #[test]
    fn an_event_is_one_line_of_json() {
        assert_eq!(event("head", "\"a\\nb\""), "event: head\ndata: \"a\\nb\"\n\n");
    }
}
