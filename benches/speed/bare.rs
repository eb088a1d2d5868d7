//! The reference to compare with: hyper on a Unix socket with default settings, which answers fixed bytes.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use super::home::BenchHome;
use super::load::{Process, Server, head_len};

/// A running bare server.
pub struct Bare {
    pub socket: PathBuf,
    process: Process,
}

impl Server for Bare {
    fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// Starts a server that gives exactly this answer to every request, and computes for `work` before each.
pub fn start(home: &BenchHome, kind: &str, answer: &[u8], work: Duration) -> Bare {
    let socket = home.path().join(format!("bare-{kind}"));
    std::fs::write(home.path().join(format!("bare-{kind}.answer")), answer).expect("the answer is kept");
    let program = std::env::current_exe().expect("this program");
    let child = Command::new(program)
        .arg("bare")
        .arg(&socket)
        .arg(kind)
        .arg(work.as_nanos().to_string())
        .stdin(Stdio::null())
        .spawn();
    let process = Process::new(child.expect("the bare server starts"));
    while std::os::unix::net::UnixStream::connect(&socket).is_err() {
        std::thread::yield_now();
    }
    Bare { socket, process }
}

/// Runs the server itself, until it is killed.
pub fn serve(socket: &Path, kind: &str, work: Duration) {
    let answer = std::fs::read(socket.with_file_name(format!("bare-{kind}.answer"))).expect("an answer to give");
    let head = String::from_utf8_lossy(&answer[..head_len(&answer)]).into_owned();
    let own = ["content-length", "date", "connection"];
    let headers: Vec<(HeaderName, HeaderValue)> = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, _)| !own.contains(name))
        .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")))
        .collect();
    let body = Bytes::copy_from_slice(&answer[head_len(&answer)..]);
    let workers = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    runtime.expect("a runtime").block_on(async move {
        let listener = tokio::net::UnixListener::bind(socket).expect("a socket");
        while let Ok((stream, _)) = listener.accept().await {
            let (headers, body) = (headers.clone(), body.clone());
            tokio::spawn(async move {
                let service = service_fn(|request: Request<Incoming>| {
                    let (headers, body) = (&headers, body.clone());
                    async move {
                        let _ = request.into_body().collect().await;
                        let begin = Instant::now();
                        while begin.elapsed() < work {
                            std::hint::spin_loop();
                        }
                        let mut response = Response::new(Full::new(body));
                        response.headers_mut().extend(headers.iter().cloned());
                        Ok::<_, Infallible>(response)
                    }
                });
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
}
