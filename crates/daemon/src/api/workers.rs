//! The threads that serve connections: one for each processor, each with a runtime of its own.
//!
//! A request that is answered from memory is read, answered and written on one thread, so it wakes no other and shares
//! nothing but the snapshot and the journal. Whatever takes longer (a disk, a planner, a large answer) belongs on the
//! daemon's own runtime ([`App::on_daemon`](crate::app::App::on_daemon)) or on a thread for blocking work: on these
//! threads it would hold up the other connections. Knows nothing of requests.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};

use crate::STOP;
use guillemet_http::shutdown::{ShutdownTrigger, shutdown};

/// The most threads: beyond this, a machine has processors to spare for other work.
const THREADS_MAX: usize = 8;

/// The threads that serve connections. They end when this is dropped, and with them what still runs on them.
pub struct Workers {
    workers: Vec<Worker>,
    /// Disconnected once every thread has ended. Behind a mutex only to be shared between threads.
    ended: Mutex<Receiver<Infallible>>,
}

struct Worker {
    runtime: Handle,
    /// Its references, less one, are the connections on this thread.
    connections: Arc<()>,
    /// Tells the thread to stop when it is dropped.
    stop: ShutdownTrigger,
    thread: JoinHandle<()>,
}

impl Workers {
    /// Starts one thread for each processor, up to eight.
    ///
    /// # Errors
    /// The system's error, if a thread or its runtime cannot be made.
    pub fn start() -> io::Result<Self> {
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        Self::start_count(count)
    }

    fn start_count(count: usize) -> io::Result<Self> {
        let (running, ended) = channel();
        let workers = (0..count).map(|number| Worker::start(number, running.clone())).collect::<io::Result<_>>()?;
        Ok(Self { workers, ended: Mutex::new(ended) })
    }

    /// Serves a connection on the thread that has the fewest.
    pub fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let idlest = self.workers.iter().min_by_key(|worker| Arc::strong_count(&worker.connections));
        let Some(Worker { runtime, connections, .. }) = idlest else { return };
        let counted = Arc::clone(connections);
        runtime.spawn(async move {
            connection.await;
            drop(counted);
        });
    }

    /// Tells the threads to stop, and waits until they have ended, but no longer than `limit`: one of them may be waiting
    /// for a file system that does not answer. Returns whether all have ended.
    fn end(&mut self, limit: Duration) -> bool {
        let stopped = self.workers.drain(..).map(|Worker { stop, thread, .. }| {
            drop(stop);
            thread
        });
        let threads: Vec<_> = stopped.collect();
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        let has_ended = ended.recv_timeout(limit) == Err(RecvTimeoutError::Disconnected);
        if has_ended {
            for thread in threads {
                // A panic has been logged where it happened.
                let _ = thread.join();
            }
        }
        has_ended
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        if !self.end(STOP) {
            tracing::warn!("a thread that serves connections does not end; the daemon stops without it");
        }
    }
}

impl Worker {
    /// Starts a thread, which drops `running` at its end.
    fn start(number: usize, running: Sender<Infallible>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (handle, (trigger, mut stop)) = (runtime.handle().clone(), shutdown());
        let thread = std::thread::Builder::new().name(format!("connections-{number}"));
        let thread = thread.spawn(move || {
            runtime.block_on(stop.requested());
            // Not with a plain drop, which waits for blocking calls.
            runtime.shutdown_background();
            drop(running);
        })?;
        Ok(Self { runtime: handle, connections: Arc::default(), stop: trigger, thread })
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn connections_go_where_the_fewest_are_and_end_with_the_threads() {
        let workers = Workers::start_count(3).unwrap();
        let mut open = Vec::new();
        for _ in 0..6 {
            let (close, closed) = oneshot::channel::<()>();
            workers.spawn(async { drop(closed.await) });
            open.push(close);
        }
        let counts =
            || workers.workers.iter().map(|worker| Arc::strong_count(&worker.connections) - 1).collect::<Vec<_>>();
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

    #[test]
    fn a_thread_that_does_not_end_is_not_waited_for_longer_than_the_limit() {
        let mut workers = Workers::start_count(2).unwrap();
        let (release, blocked) = channel::<Infallible>();
        let (begun, begin) = channel();
        workers.spawn(async move {
            begun.send(()).unwrap();
            let _ = blocked.recv();
        });
        begin.recv().unwrap();
        assert!(!workers.end(Duration::from_millis(1)));
        drop(release);
        let ended = workers.ended.get_mut().unwrap();
        assert_eq!(ended.recv(), Err(std::sync::mpsc::RecvError));
    }
}
