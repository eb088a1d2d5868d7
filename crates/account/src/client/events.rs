//! The stream of server-sent events, decoded one by one.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::{AccountClientError, malformed};
use guillemet_wire::ServerEvent;

/// The longest silence in a stream. The server sends something every 15 seconds.
const SILENT: Duration = Duration::from_secs(45);
/// The longest event, in bytes.
const EVENT_MAX: usize = 4 << 10;

/// The changes that the server reports. A stream always ends with an error; a new stream begins with the newest head.
#[derive(Debug)]
pub struct HeadEvents {
    body: Incoming,
    unread: EventLines,
}

impl HeadEvents {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, unread: EventLines::default() }
    }

    /// Waits for the next event.
    ///
    /// # Errors
    /// [`AccountClientError::Unreachable`] if the stream ended or was silent for too long,
    /// [`AccountClientError::Malformed`] if it is not in the expected form.
    pub async fn next(&mut self) -> Result<ServerEvent, AccountClientError> {
        let closed = |reason: &str| AccountClientError::Unreachable(format!("the event stream {reason}"));
        loop {
            if let Some(data) = self.unread.next_event()? {
                return serde_json::from_str(&data).map_err(|error| malformed(&error.to_string()));
            }
            let frame = tokio::time::timeout(SILENT, self.body.frame()).await.map_err(|_| closed("went silent"))?;
            let frame = frame
                .ok_or_else(|| closed("was closed"))?
                .map_err(|error| closed(&format!("was interrupted: {error}")))?;
            if let Some(data) = frame.data_ref() {
                self.unread.bytes.extend_from_slice(data);
            }
        }
    }
}

/// The part of a stream that has arrived and not been read yet.
#[derive(Debug, Default)]
struct EventLines {
    bytes: Vec<u8>,
}

impl EventLines {
    /// Returns the data of the next complete event. Skips comments and events without data.
    fn next_event(&mut self) -> Result<Option<String>, AccountClientError> {
        while let Some(end) = self.bytes.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = self.bytes.drain(..end + 2).collect();
            let event = String::from_utf8(event).map_err(|_| malformed("an event that is not text"))?;
            if let Some(data) = event.lines().find_map(|line| line.strip_prefix("data: ")) {
                return Ok(Some(data.to_owned()));
            }
        }
        if self.bytes.len() > EVENT_MAX { Err(malformed("an incomplete event")) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_they_arrive() {
        let stream = b"retry: 1000\nevent: head\ndata: {\"event\":\"head\",\"seq\":3}\n\n: alive\n\nevent: usage\ndata: {\"event\":\"usage\"}\n\n";
        let mut lines = EventLines::default();
        let mut received = Vec::new();
        for byte in stream {
            lines.bytes.push(*byte);
            while let Some(data) = lines.next_event().unwrap() {
                received.push(serde_json::from_str::<ServerEvent>(&data).unwrap());
            }
        }
        assert_eq!(received, [ServerEvent::Head { seq: 3 }, ServerEvent::Usage]);
        lines.bytes = vec![b'a'; EVENT_MAX + 1];
        assert!(lines.next_event().is_err());
    }
}
