//! `GET /v1/events`: sends changes as server-sent events (WHATWG HTML, section 9.2).

use hyper::Response;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::app::error::AppError;
use crate::events::{Event, EventBus};
use crate::http::error::HttpError;
use guillemet_http::event_stream::{self, EventSender, EventStream, RETRY, event_stream};

/// The number of events that wait for a listener that does not read.
const WAITING: usize = 16;

/// Returns a stream of everything that changes from now on, until the caller disconnects or the daemon stops.
///
/// # Errors
/// Unavailable, if the daemon is stopping already.
pub fn stream(events: &EventBus) -> Result<Response<EventStream>, HttpError> {
    let stops = || AppError::Unavailable("the daemon is shutting down; try again when it is back".into());
    let listening = events.subscribe().ok_or_else(stops)?;
    let (sender, response) = event_stream(WAITING);
    tokio::spawn(forward(listening, sender));
    Ok(response)
}

/// Sends every event to a listener, until it disconnects or the daemon stops.
async fn forward(mut events: Receiver<Event>, to: EventSender) {
    // Once the caller has read this line, it gets every later event.
    let mut next = format!("{RETRY}: ready\n\n");
    loop {
        if to.send(next).await.is_err() {
            return;
        }
        let Ok(received) = to.next(&mut events).await else { return };
        next = match received {
            Ok(event) => text(&event),
            Err(RecvError::Lagged(_)) => missed(),
            Err(RecvError::Closed) => return,
        };
    }
}

fn text(event: &Event) -> String {
    match serde_json::to_string(event) {
        Ok(data) => event_stream::event(event.kind(), &data),
        Err(error) => {
            tracing::error!(%error, "an event could not be written as JSON");
            missed()
        }
    }
}

/// Returns the event that tells a listener that it did not get everything, so that it reads the state again.
fn missed() -> String {
    event_stream::event("missed", "{}")
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::events::Change;

    async fn next(stream: &mut EventStream) -> Option<String> {
        let frame = stream.frame().await?.unwrap();
        Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_listener_that_is_too_slow_is_told_that_it_missed_something() {
        let events = EventBus::default();
        let mut stream = stream(&events).unwrap().into_body();
        assert!(next(&mut stream).await.unwrap().ends_with(": ready\n\n"));
        for number in 0..5_000 {
            events.publish(Event::Template { id: format!("f/{number}"), change: Change::Changed });
        }
        events.close();
        let mut received = Vec::new();
        while let Some(text) = next(&mut stream).await {
            received.push(text);
        }
        assert!(received.iter().any(|text| text.starts_with("event: missed\n")));
        assert_eq!(received.last().unwrap(), "event: template\ndata: {\"id\":\"f/4999\",\"change\":\"changed\"}\n\n");
        assert!(super::stream(&events).is_err());
    }
}
