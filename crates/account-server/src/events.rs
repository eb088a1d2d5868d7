//! `GET /v1/accounts/{id}/events`: changes as server-sent events (WHATWG HTML, section 9.2).
//!
//! Invariant: every listener learns of the newest head. The stream subscribes before it looks up the newest head, and
//! looks again whenever it may have missed something.

use std::sync::Arc;

use hyper::Response;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::ServerState;
use super::error::{ServerError, ServerErrorCode};
use super::limits::Streaming;
use super::storage::{StorageError, Wake};
use crate::handlers::AuthenticatedDevice;
use guillemet_http::event_stream::{self, EventSender, EventStream, RETRY, event_stream};
use guillemet_wire::ServerEvent;

/// The number of events that wait for a listener that does not read.
const WAITING: usize = 4;

/// Streams everything that changes from now on, until the caller disconnects, its key ends, or the server stops.
///
/// # Errors
/// [`ServerErrorCode::Unavailable`] if the server is stopping, [`ServerErrorCode::RateLimited`] if the caller has as
/// many streams as it can have.
pub fn stream(app: &Arc<ServerState>, caller: AuthenticatedDevice) -> Result<Response<EventStream>, ServerError> {
    let too_many =
        || ServerError::rate_limited("this API key has reached its limit of event streams; close one of them", 15);
    let counted = app.rate_limiter.open_stream(&caller.key_id).ok_or_else(too_many)?;
    let stops = || {
        ServerError::new(ServerErrorCode::Unavailable, "the account server is shutting down; try again when it is back")
    };
    let wakes = app.storage.hub().subscribe(caller.account).ok_or_else(stops)?;
    let (sender, response) = event_stream(WAITING);
    let listener = Subscriber { app: Arc::clone(app), caller, sent_seq: 0, _counted: counted };
    tokio::spawn(async move {
        if let Err(error) = listener.forward(wakes, &sender).await {
            tracing::warn!(%error, "an event stream was closed; its device will reconnect");
        }
    });
    Ok(response)
}

struct Subscriber {
    app: Arc<ServerState>,
    caller: AuthenticatedDevice,
    sent_seq: u64,
    _counted: Streaming,
}

impl Subscriber {
    async fn forward(mut self, mut wakes: Receiver<Wake>, to: &EventSender) -> Result<(), StorageError> {
        let Some(mut next) = self.newest_event().await? else { return Ok(()) };
        next.insert_str(0, RETRY);
        loop {
            if !next.is_empty() && to.send(next).await.is_err() {
                return Ok(());
            }
            let Ok(wake) = to.next(&mut wakes).await else { return Ok(()) };
            next = match wake {
                Ok(Wake::Head(seq)) if seq > self.sent_seq => {
                    self.sent_seq = seq;
                    text(ServerEvent::Head { seq })
                }
                Ok(Wake::Head(_)) => String::new(),
                Ok(Wake::Enrolment) => text(ServerEvent::Enrolment),
                Ok(Wake::Usage) => text(ServerEvent::Usage),
                Ok(Wake::Revoked(device)) if self.caller.device == Some(device) => return Ok(()),
                Ok(Wake::Revoked(_)) => String::new(),
                Ok(Wake::Unknown) | Err(RecvError::Lagged(_)) => match self.newest_event().await? {
                    Some(head) => head + &text(ServerEvent::Enrolment) + &text(ServerEvent::Usage),
                    None => return Ok(()),
                },
                Err(RecvError::Closed) => return Ok(()),
            };
        }
    }

    /// Returns the event for the newest head; `None` if the caller's key has ended.
    async fn newest_event(&mut self) -> Result<Option<String>, StorageError> {
        if self.app.storage.key(&self.caller.key_id).await?.is_none_or(|key| key.hash != self.caller.key_hash) {
            return Ok(None);
        }
        let newest = match self.app.storage.newest_head(self.caller.account).await {
            Err(StorageError::NoAccount) => return Ok(None),
            newest => newest?,
        };
        self.sent_seq = newest.map_or(0, |newest| newest.seq);
        Ok(Some(text(ServerEvent::Head { seq: self.sent_seq })))
    }
}

/// Returns an event of the stream, with the JSON of `ServerEvent`. Written by hand, since it cannot fail then.
fn text(event: ServerEvent) -> String {
    match event {
        ServerEvent::Head { seq } => event_stream::event("head", &format!(r#"{{"event":"head","seq":{seq}}}"#)),
        ServerEvent::Enrolment => event_stream::event("enrolment", r#"{"event":"enrolment"}"#),
        ServerEvent::Usage => event_stream::event("usage", r#"{"event":"usage"}"#),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_carry_the_json_of_what_is_told() {
        for (event, name) in [
            (ServerEvent::Head { seq: 7 }, "head"),
            (ServerEvent::Enrolment, "enrolment"),
            (ServerEvent::Usage, "usage"),
        ] {
            let data = serde_json::to_string(&event).unwrap();
            assert_eq!(text(event), format!("event: {name}\ndata: {data}\n\n"));
        }
    }
}
