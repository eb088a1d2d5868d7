//! `POST /v1/plugins/{feature}/stand-in`: lets a component stand in for a plugin for as long as the caller stays
//! connected.
//!
//! The response is the lease: an event stream that lasts as long as the stand-in. However the connection ends, with it
//! ends the stand-in. So the work is a task of the daemon's own, which no connection's end can stop half-way.

use std::sync::Arc;

use hyper::Response;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::oneshot;

use crate::app::App;
use crate::app::error::AppError;
use crate::app::plugins::stand_in::{self, StandIn};
use crate::events::Event;
use crate::http::error::HttpError;
use guillemet_api::plugins::{StandInEnd, StandInEvent};
use guillemet_http::event_stream::{EventSender, EventStream, event, event_stream};
use guillemet_plugin::registry::PluginCandidate;
use guillemet_vault::audit::Actor;

/// The number of events that wait for a caller that does not read: one when it starts, one when it ends.
const WAITING: usize = 2;

/// Lets a component stand in, and returns the stream that lasts as long as it does.
///
/// # Errors
/// Unavailable, if the daemon is stopping already or cannot record it.
pub async fn stream(
    app: &Arc<App>,
    actor: Actor,
    candidate: PluginCandidate,
) -> Result<Response<EventStream>, HttpError> {
    let stops = || AppError::Unavailable("the daemon is shutting down; try again when it is back".into());
    let running = app.events.subscribe().ok_or_else(stops)?;
    let (sender, response) = event_stream(WAITING);
    let (begun, has_begun) = oneshot::channel();
    app.runtime.spawn(hold(Arc::clone(app), actor, candidate, (running, sender), begun));
    has_begun.await.map_err(|_| AppError::internal())??;
    Ok(response)
}

/// Begins the stand-in, says so, and ends it as soon as the caller is gone.
async fn hold(
    app: Arc<App>,
    actor: Actor,
    candidate: PluginCandidate,
    (running, caller): (Receiver<Event>, EventSender),
    begun: oneshot::Sender<Result<(), AppError>>,
) {
    let stand_in = match stand_in::begin(&app, &actor, candidate).await {
        Ok(stand_in) => stand_in,
        Err(error) => {
            // A caller that is gone does not hear of it.
            let _ = begun.send(Err(error));
            return;
        }
    };
    // If the caller is gone already, so is the listener of the stream.
    let _ = begun.send(Ok(()));
    let started =
        StandInEvent::Started { feature: stand_in.feature().to_owned(), digest: stand_in.digest().to_owned() };
    let reason = match caller.send(text(&started)).await {
        Ok(()) => wait(&stand_in, running, &caller).await,
        Err(_) => None,
    };
    stand_in.end().await;
    if let Some(reason) = reason {
        let _ = caller.send(text(&StandInEvent::Ended { reason })).await;
    }
}

/// Waits until the stand-in has to end. Returns the reason, or `None` if the caller is gone.
async fn wait(stand_in: &StandIn, mut running: Receiver<Event>, caller: &EventSender) -> Option<StandInEnd> {
    let disconnected_or_stopping = async {
        loop {
            match caller.next(&mut running).await {
                Err(_) => return None,
                Ok(Err(RecvError::Closed)) => return Some(StandInEnd::Stopping),
                Ok(_) => {}
            }
        }
    };
    tokio::select! {
        () = stand_in.replaced() => Some(StandInEnd::Replaced),
        reason = disconnected_or_stopping => reason,
    }
}

fn text(told: &StandInEvent) -> String {
    match serde_json::to_string(told) {
        Ok(data) => event(told.kind(), &data),
        Err(error) => {
            tracing::error!(%error, "an event could not be written as JSON");
            event(told.kind(), "{}")
        }
    }
}
