//! The threads that serve connections: one for each processor, each with a runtime of its own.
//!
//! A request that is answered from memory is read, answered and written on one thread, so it wakes no other and shares
//! nothing but the snapshot and the journal. Whatever takes longer (a disk, a planner, a large answer) belongs on the
//! daemon's own runtime ([`App::on_daemon`](crate::app::App::on_daemon)) or on a thread for blocking work: on these
//! threads it would hold up the other connections. Knows nothing of requests.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};

use guillemet_http::shutdown::{ShutdownTrigger, shutdown};

/// The most threads: beyond this, a machine has processors to spare for other work.
const THREADS_MAX: usize = 8;

/// The threads that serve connections. They end when this is dropped, and with them what still runs on them.
pub struct Workers(Vec<Worker>);

struct Worker {
    runtime: Handle,
    /// Its references, less one, are the connections on this thread.
    connections: Arc<()>,
    /// `None` once the thread has been told to stop.
    stop: Option<ShutdownTrigger>,
    thread: Option<JoinHandle<()>>,
}

impl Workers {
    /// Starts one thread for each processor, up to eight.
    ///
    /// # Errors
    /// The system's error, if a thread or its runtime cannot be made.
    pub fn start() -> io::Result<Self> {
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        (0..count).map(Worker::start).collect::<io::Result<_>>().map(Self)
    }

    /// Serves a connection on the thread that has the fewest.
    pub fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let idlest = self.0.iter().min_by_key(|worker| Arc::strong_count(&worker.connections));
        let Some(Worker { runtime, connections, .. }) = idlest else { return };
        let counted = Arc::clone(connections);
        runtime.spawn(async move {
            connection.await;
            drop(counted);
        });
    }
}

impl Worker {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (handle, (trigger, mut stop)) = (runtime.handle().clone(), shutdown());
        let thread = std::thread::Builder::new().name(format!("connections-{number}"));
        let thread = thread.spawn(move || {
            runtime.block_on(stop.requested());
            // Not with a plain drop, which waits for blocking calls.
            runtime.shutdown_background();
        })?;
        Ok(Self { runtime: handle, connections: Arc::default(), stop: Some(trigger), thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic has been logged where it happened.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn connections_go_where_the_fewest_are_and_end_with_the_threads() {
        let workers = Workers((0..3).map(Worker::start).collect::<io::Result<_>>().unwrap());
        let mut open = Vec::new();
        for _ in 0..6 {
            let (close, closed) = oneshot::channel::<()>();
            workers.spawn(async { drop(closed.await) });
            open.push(close);
        }
        let counts = || workers.0.iter().map(|worker| Arc::strong_count(&worker.connections) - 1).collect::<Vec<_>>();
        assert_eq!(counts(), [2, 2, 2]);
        // The first and the fourth are on the same thread.
        drop((open.remove(3), open.remove(0)));
        while counts() != [0, 2, 2] {
            tokio::task::yield_now().await;
        }
        let (mut close, closed) = oneshot::channel::<()>();
        workers.spawn(async { drop(closed.await) });
        assert_eq!(counts(), [1, 2, 2]);
        drop(workers);
        close.closed().await;
        for mut close in open {
            close.closed().await;
        }
    }
}
