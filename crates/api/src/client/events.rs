//! A response that is a stream of events (WHATWG HTML, section 9.2), which lasts as long as its reader.
//!
//! Reads what this program's daemon writes: each event has one line with its name and one with its data.

use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use serde::Serialize;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::{ApiClient, ApiClientError, Sender, json_request, read_response};

/// The most bytes of one event.
const EVENT_MAX: usize = 64 << 10;

/// The events of a response, one after another. Dropping it closes the connection.
pub struct EventReader {
    body: Incoming,
    /// What has arrived of the next event.
    rest: Vec<u8>,
    /// The connection works only while there is somebody who could send requests.
    _sender: Sender,
    _connection: JoinHandle<()>,
    runtime: Runtime,
}

impl ApiClient<'_> {
    /// Posts a body, and returns the events of the answer.
    ///
    /// # Errors
    /// As [`send`](Self::send) and [`error_for_status`](super::ApiResponse::error_for_status).
    pub fn post_for_events(&self, path: &str, body: &impl Serialize) -> Result<EventReader, ApiClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (sender, connection, body) = runtime.block_on(async {
            let (mut sender, connection) = self.open().await?;
            let connection = tokio::spawn(async {
                // A failure shows in the response.
                let _ = connection.await;
            });
            if let Some(refused) = self.refusal(&mut sender).await? {
                refused.error_for_status()?;
            }
            sender.ready().await?;
            let response = sender.send_request(json_request(Method::POST, path, None, Some(body))?).await?;
            if response.status().as_u16() >= 400 {
                read_response(response).await?.error_for_status()?;
                return Err(ApiClientError::Closed);
            }
            Ok((sender, connection, response.into_body()))
        })?;
        Ok(EventReader { body, rest: Vec::new(), _sender: sender, _connection: connection, runtime })
    }
}

impl EventReader {
    /// Waits for the next event and returns its data. Returns `None` once the daemon has ended the stream, or the
    /// connection is lost.
    pub fn next_data(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.rest.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = self.rest.drain(..end + 2).collect();
                match data(&event) {
                    Some(data) => return Some(data),
                    // A comment.
                    None => continue,
                }
            }
            if self.rest.len() > EVENT_MAX {
                return None;
            }
            let frame = self.runtime.block_on(self.body.frame())?.ok()?;
            self.rest.extend_from_slice(&frame.into_data().unwrap_or_default());
        }
    }
}

/// Returns the data of an event; `None` if it is a comment.
fn data(event: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(event).ok()?;
    text.lines().find_map(|line| line.strip_prefix("data: ")).map(str::to_owned)
}
