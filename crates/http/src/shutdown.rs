//! Stops a server: one trigger, and any number of tasks that wait for it.

use std::io;
use std::time::Duration;

use tokio::sync::watch;

/// Stops everything that waits for the [`Shutdown`]. Dropping it stops them too.
#[derive(Debug)]
pub struct ShutdownTrigger(watch::Sender<bool>);

/// Tells a task when the server stops.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

/// Makes a trigger, and what tasks wait for.
pub fn shutdown() -> (ShutdownTrigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (ShutdownTrigger(sender), Shutdown(receiver))
}

impl ShutdownTrigger {
    /// Stops the server.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Returns when the server stops. Can be cancelled and called again.
    pub async fn requested(&mut self) {
        // An error means that the trigger is gone, and the server with it.
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

/// Logs that a connection could not be accepted, and waits a moment. Most likely the process is out of descriptors:
/// waiting gives connections time to end, and accepting again at once would spin.
pub async fn accept_failed(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_task_learns_of_the_stop_and_of_a_lost_trigger() {
        let (trigger, mut first) = shutdown();
        let mut second = first.clone();
        assert!(tokio::time::timeout(Duration::ZERO, first.requested()).await.is_err());
        trigger.stop();
        first.requested().await;
        first.requested().await;
        second.requested().await;
        let (trigger, mut lost) = shutdown();
        drop(trigger);
        lost.requested().await;
    }
}
