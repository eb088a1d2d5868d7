//! An HTTP server on the loopback interface that keeps every request byte for byte.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// The target in the first line: path and query.
    pub target: String,
    /// The headers in order. A value is everything after `: `.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Returns the decoded query, in which a space is `%20` and `+` is a plus sign.
    pub fn query(&self) -> Vec<(String, String)> {
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned();
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| pair.split_once('=').expect("a pair")).map(|(k, v)| (decoded(k), decoded(v))).collect()
    }
}

/// The running server, which lives as long as the process.
pub struct Recorder {
    pub url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Recorder {
    /// Starts to listen. `judge` chooses the status of each answer.
    pub fn start(judge: impl Fn(&Request) -> u16 + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Some(request) = read(&stream) else { continue };
                let status = judge(&request);
                kept.lock().unwrap().push(request);
                let answer = format!("HTTP/1.1 {status} OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                let _ = (&stream).write_all(answer.as_bytes());
            }
        });
        Self { url, requests }
    }

    /// Returns the requests since the last call.
    pub fn take(&self) -> Vec<Request> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

/// Reads one request, or returns `None` if it is not a valid one.
fn read(mut stream: &TcpStream) -> Option<Request> {
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        receive(&mut stream, &mut bytes)?;
    };
    let text = String::from_utf8(bytes[..head].to_vec()).ok()?;
    let mut lines = text.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers = lines.map(|line| line.split_once(": ").map(|(k, v)| (k.to_owned(), v.to_owned())));
    let mut request = Request { method, target, headers: headers.collect::<Option<_>>()?, body: Vec::new() };
    let len = request.header("content-length").map_or(Some(0), |len| len.parse::<usize>().ok())?;
    while bytes.len() < head + 4 + len {
        receive(&mut stream, &mut bytes)?;
    }
    request.body = bytes.split_off(head + 4);
    Some(request)
}

fn receive(stream: &mut &TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    let mut buffer = [0; 4096];
    let len = stream.read(&mut buffer).ok().filter(|len| *len > 0)?;
    bytes.extend_from_slice(&buffer[..len]);
    Some(())
}
