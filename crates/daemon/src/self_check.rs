//! Tries once at each start what has to work before the daemon reports that it is ready: it plans a template in a real
//! planner, and sends itself a request over its socket.
//!
//! Knows what a machine can lack, and says what to do about it. Must not know how any of it works.

use std::io;
use std::os::unix::net::{SocketAddr, UnixStream as StdStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::DaemonError;
use crate::app::App;
use crate::user_namespace::OverflowIds;
use guillemet_plugin::cache::LayeredCache;
use guillemet_plugin::client::{CompiledCache, NoCache};
use guillemet_plugin::plans::{PlanError, TemplateSource, plan_once};
use guillemet_plugin::registry::Registry;
use guillemet_plugin::{cache, findings};
use guillemet_template::Format;
use guillemet_template::lexer::lex;

/// The feature and text of a template with a secret. Of the built-in features, this one has the smallest plugin: if no
/// compiled form is stored yet, it has to be compiled.
const TEMPLATE: (&str, &str) = ("cal-com", "api_key = '<< secret \"check\" >>'\n");
/// How often the check is tried: a planner may be too slow on a machine that is just starting.
const ATTEMPTS: usize = 3;
/// The longest time to wait for a response over the socket.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// The most bytes to read of a response.
const ANSWER_MAX: u64 = 16 << 10;

/// Checks that the system shows what the daemon has to know about itself and about others.
///
/// # Errors
/// [`DaemonError::CannotWork`] with what is missing and what to do.
pub(super) fn check_system() -> Result<(), DaemonError> {
    std::fs::metadata("/proc/self/exe").map_err(|error| {
        DaemonError::CannotWork(format!(
            "/proc does not show this process ({error}), but planners are started from /proc/self/exe: mount /proc, \
             for example with `mount -t proc proc /proc` or MountAPIVFS=yes in the unit"
        ))
    })?;
    let uid = rustix::process::geteuid().as_raw();
    if OverflowIds::of_this_process().is_user(uid) {
        return Err(DaemonError::CannotWork(format!(
            "it runs as user {uid}, which this user namespace also shows for every user without a mapping, so callers \
             cannot be told apart: run it as another user (User=, runAsUser:), or outside the user namespace"
        )));
    }
    Ok(())
}

/// Checks that a template can be planned and a request answered.
///
/// # Errors
/// [`DaemonError::CannotWork`] with what does not work and why.
pub(super) async fn run(app: &Arc<App>, address: &Address, cache: Arc<dyn CompiledCache>) -> Result<(), DaemonError> {
    let (planned, answered) = tokio::join!(check_planning(app, cache), check_response(app, address));
    let failed: Vec<String> = [planned, answered].into_iter().filter_map(Result::err).collect();
    if failed.is_empty() { Ok(()) } else { Err(DaemonError::CannotWork(failed.join("; "))) }
}

/// Plans the template in a separate planner, with the built-in plugins.
async fn check_planning(app: &App, cache: Arc<dyn CompiledCache>) -> Result<(), String> {
    let (feature, text) = TEMPLATE;
    let lexed = lex(text).map_err(|_| "its own template cannot be read; report this as a bug".to_owned())?;
    let source = TemplateSource { feature, format: Format::Toml, lexed: &lexed };
    let config = app.config.load_full();
    // A new home has no compiled plugins yet. No value is involved here, so those that other homes and commands of this
    // user have compiled will do.
    let of_user = tokio::task::spawn_blocking(cache::of_user).await.unwrap_or_else(|_| Arc::new(NoCache));
    let cache: Arc<dyn CompiledCache> = Arc::new(LayeredCache(cache, of_user));
    let mut reason = String::new();
    for _ in 0..ATTEMPTS {
        let registry = Registry::new(PathBuf::new(), &[], Arc::clone(&cache));
        let planned = plan_once(source, None, &registry, &config.variables).await;
        registry.end().await;
        match planned {
            Ok(_) => return Ok(()),
            Err(PlanError::Plugin(message)) => reason = message,
            Err(error) => {
                let problems = findings::problems(error).into_iter().map(|problem| problem.message);
                reason = problems.collect::<Vec<_>>().join(", ");
            }
        }
    }
    Err(format!("templates cannot be compiled: {reason}"))
}

/// The address at which the daemon itself can connect to its socket.
pub(super) struct Address {
    /// The address of the socket; unnamed for some sockets of a service manager.
    pub(super) address: SocketAddr,
    /// Whether the socket belongs to a service manager. Its path may then be one that the daemon cannot see or reach.
    pub(super) is_activated: bool,
}

/// Sends a request over the socket, as the daemon's own user.
async fn check_response(app: &App, address: &Address) -> Result<(), String> {
    let socket = match address.address.as_pathname() {
        Some(path) => format!("the socket {}", path.display()),
        None => "the socket".to_owned(),
    };
    let stream = match connect(address.address.clone()).await {
        Ok(stream) => stream,
        Err(error) if address.is_activated && is_out_of_reach(&error) => {
            tracing::warn!(%error, "{socket} is not reachable for the daemon, nor for commands of its user");
            return Ok(());
        }
        Err(error) => return Err(format!("cannot connect to {socket}: {error}")),
    };
    let response = tokio::time::timeout(ANSWER_TIME, send_request(stream)).await;
    let response = match response {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(format!("no response at {socket}: {error}")),
        Err(_) => return Err(format!("no response at {socket} within {} s", ANSWER_TIME.as_secs())),
    };
    let status = response.split(' ').nth(1).unwrap_or_default();
    match status {
        "200" if response.contains(&app.home_id.to_string()) => Ok(()),
        "200" => Err(format!("another daemon responds at {socket}")),
        // Other callers were faster and have taken all connections.
        "429" => Ok(()),
        status => Err(format!("the daemon's own user gets status {status} at {socket}")),
    }
}

/// Returns whether an error of a connection may concern only this process.
fn is_out_of_reach(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
}

async fn connect(address: SocketAddr) -> io::Result<UnixStream> {
    // Blocks if many others are connecting.
    let connecting = tokio::task::spawn_blocking(move || {
        let stream = StdStream::connect_addr(&address)?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    });
    let stream: io::Result<StdStream> = match tokio::time::timeout(ANSWER_TIME, connecting).await {
        Ok(connected) => connected.map_err(io::Error::other)?,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    UnixStream::from_std(stream?)
}

async fn send_request(mut stream: UnixStream) -> io::Result<String> {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: guillemet\r\nconnection: close\r\n\r\n").await?;
    let mut response = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut response).await?;
    if !response.starts_with(b"HTTP/1.1 ") {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(String::from_utf8_lossy(&response).into_owned())
}
