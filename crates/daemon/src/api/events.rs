//! `GET /v1/events`: sends changes as server-sent events (WHATWG HTML, section 9.2).

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Response;
use hyper::body::{Body, Bytes, Frame};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::mpsc;

use crate::app::error::AppError;
use crate::events::EventBus;
use crate::http::error::HttpError;

/// How often a comment is sent when nothing happens, so that each end notices when the other is gone.
const ALIVE: Duration = Duration::from_secs(15);
/// The number of events that wait for a listener that does not read.
const WAITING: usize = 16;
/// Tells a listener that it did not get everything, so that it reads the state anew.
const MISSED: &[u8] = b"event: missed\ndata: {}\n\n";

/// The body of the response: a stream of events.
pub struct Stream(mpsc::Receiver<Bytes>);

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Returns a stream of everything that changes from now on, until the caller disconnects or the daemon stops.
///
/// # Errors
/// Unavailable, if the daemon is stopping already.
pub fn stream(events: &EventBus) -> Result<Response<Stream>, HttpError> {
    let stops = || AppError::Unavailable("the daemon is shutting down; try again when it is back".into());
    let listening = events.listen().ok_or_else(stops)?;
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(forward(listening, sender));
    let mut response = Response::new(Stream(receiver));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn forward(mut listening: Receiver<crate::events::Event>, sender: mpsc::Sender<Bytes>) {
    // Once the caller has read this line, it gets every later event.
    let mut next = Bytes::from_static(b"retry: 1000\n: ready\n\n");
    loop {
        if sender.send(next).await.is_err() {
            return;
        }
        next = tokio::select! {
            () = sender.closed() => return,
            () = tokio::time::sleep(ALIVE) => Bytes::from_static(b": alive\n\n"),
            event = listening.recv() => match event {
                Ok(event) => match serde_json::to_string(&event) {
                    Ok(data) => format!("event: {}\ndata: {data}\n\n", event.kind()).into(),
                    Err(error) => {
                        tracing::error!(%error, "an event could not be written as JSON");
                        Bytes::from_static(MISSED)
                    }
                },
                Err(RecvError::Lagged(_)) => Bytes::from_static(MISSED),
                Err(RecvError::Closed) => return,
            },
        };
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::events::{Change, Event};

    async fn next(stream: &mut Stream) -> Option<String> {
        let frame = stream.frame().await?.unwrap();
        Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_listener_that_is_too_slow_is_told_that_it_missed_something() {
        let events = EventBus::default();
        let mut stream = stream(&events).unwrap().into_body();
        assert!(next(&mut stream).await.unwrap().ends_with(": ready\n\n"));
        for number in 0..5_000 {
            events.tell(Event::Template { id: format!("f/{number}"), change: Change::Changed });
        }
        events.close();
        let mut told = Vec::new();
        while let Some(text) = next(&mut stream).await {
            told.push(text);
        }
        assert!(told.iter().any(|text| text.starts_with("event: missed\n")));
        assert_eq!(told.last().unwrap(), "event: template\ndata: {\"id\":\"f/4999\",\"change\":\"changed\"}\n\n");
        assert!(super::stream(&events).is_err());
    }
}
