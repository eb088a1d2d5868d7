//! A client with little overhead: it sends complete requests and reads complete responses of known length.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Returns a request as bytes, without closing the connection.
pub fn request(method: &str, path: &str, body: &[u8]) -> Vec<u8> {
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    [format!("{method} {path} HTTP/1.1\r\nhost: guillemet\r\n{length}\r\n").as_bytes(), body].concat()
}

/// Returns the length of a response's head, including the empty line.
pub fn head_len(answer: &[u8]) -> usize {
    answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head") + 4
}

/// Sends a request on a new connection, and returns the complete response.
pub fn ask(socket: &Path, request: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket).expect("the server listens");
    answer(&mut stream, request)
}

/// Sends a request on an open connection, and returns the complete response.
pub fn answer(stream: &mut UnixStream, request: &[u8]) -> Vec<u8> {
    stream.write_all(request).expect("the request leaves");
    let mut bytes = Vec::new();
    let mut chunk = [0; 65_536];
    loop {
        let len = stream.read(&mut chunk).expect("an answer");
        assert!(len > 0, "the connection ended");
        bytes.extend_from_slice(&chunk[..len]);
        if bytes.windows(4).any(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..head_len(&bytes)]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            if bytes.len() >= head_len(&bytes) + length.unwrap_or(0) {
                return bytes;
            }
        }
    }
}

/// A process whose work is measured.
pub trait Server {
    fn pid(&self) -> u32;

    /// Returns the time that its threads have run.
    fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it runs");
        let spent = |path: PathBuf| std::fs::read_to_string(path.join("schedstat")).unwrap_or_default();
        let nanoseconds = tasks.flatten().map(|task| {
            let text = spent(task.path());
            text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0)
        });
        Duration::from_nanos(nanoseconds.sum())
    }

    /// Returns its resident bytes: all of them, and those that belong to no file.
    fn memory(&self) -> (u64, u64) {
        (self.status("VmRSS:"), self.status("RssAnon:"))
    }

    /// Returns the most resident bytes that it ever had.
    fn peak(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// Returns a size from its `/proc` status, in bytes.
    fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024
    }
}

/// A child process that is killed on drop.
pub struct Process(Child);

impl Process {
    pub fn new(child: Child) -> Self {
        Self(child)
    }
}

impl Server for Process {
    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The result of one round.
pub struct Round {
    pub per_second: f64,
    pub cpu_per_request: Duration,
    /// How long each request took, in nanoseconds, in no order.
    pub times: Vec<u32>,
}

/// Connections that send the same request again and again.
pub struct Load {
    streams: Vec<UnixStream>,
    request: Vec<u8>,
    answer_len: usize,
}

impl Load {
    pub fn new(socket: &Path, request: &[u8], connections: usize) -> Self {
        let mut streams: Vec<UnixStream> =
            (0..connections).map(|_| UnixStream::connect(socket).expect("the server listens")).collect();
        let lens: Vec<usize> = streams.iter_mut().map(|stream| answer(stream, request).len()).collect();
        assert!(lens.iter().all(|len| *len == lens[0]), "answers of one length");
        Self { streams, request: request.to_owned(), answer_len: lens[0] }
    }

    /// Sends requests for this long, on all connections at once.
    pub fn run(&self, server: &impl Server, time: Duration) -> Round {
        let stop = AtomicBool::new(false);
        let mut times = Vec::new();
        let begin = Barrier::new(self.streams.len() + 1);
        let mut elapsed = Duration::ZERO;
        let mut cpu = Duration::ZERO;
        std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .streams
                .iter()
                .map(|stream| {
                    let (mut stream, begin, stop) = (stream, &begin, &stop);
                    scope.spawn(move || {
                        let mut buffer = vec![0; self.answer_len];
                        // As many as a second can bring, so that it does not grow meanwhile.
                        let mut times: Vec<u32> = Vec::with_capacity(1 << 17);
                        begin.wait();
                        while !stop.load(Ordering::Relaxed) {
                            let began = Instant::now();
                            stream.write_all(&self.request).expect("the request leaves");
                            stream.read_exact(&mut buffer).expect("an answer");
                            assert!(buffer.starts_with(b"HTTP/1.1 200"));
                            times.push(u32::try_from(began.elapsed().as_nanos()).unwrap_or(u32::MAX));
                        }
                        times
                    })
                })
                .collect();
            begin.wait();
            let (began, cpu_before) = (Instant::now(), server.cpu());
            // A sleep, because the round is defined by a span of time.
            std::thread::sleep(time);
            stop.store(true, Ordering::Relaxed);
            for thread in threads {
                times.extend(thread.join().expect("a client that went well"));
            }
            elapsed = began.elapsed();
            cpu = server.cpu() - cpu_before;
        });
        let count = times.len().max(1);
        Round {
            per_second: count as f64 / elapsed.as_secs_f64(),
            cpu_per_request: cpu / u32::try_from(count).unwrap_or(u32::MAX),
            times,
        }
    }
}
