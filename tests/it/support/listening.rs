//! A client that listens to `/v1/events`.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

use super::daemon::Guillemet;

pub struct Listening(BufReader<UnixStream>);

impl Listening {
    /// Starts to listen, and waits until every later event is certain to be reported.
    pub fn to(guillemet: &Guillemet) -> Self {
        let mut stream = UnixStream::connect(guillemet.path("run/guillemet.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut listening = Self(BufReader::new(stream));
        while listening.line().expect("it listens") != ": ready" {}
        listening
    }

    /// Returns the next line, or `None` at the end of the stream.
    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        (self.0.read_line(&mut line).unwrap() > 0).then(|| line.trim_end().to_owned())
    }

    /// Returns the kind and the data of the next event.
    pub fn next(&mut self) -> (String, Value) {
        let mut kind = None;
        loop {
            let line = self.line().expect("an event");
            if let Some(name) = line.strip_prefix("event: ") {
                kind = Some(name.to_owned());
            } else if let Some(data) = line.strip_prefix("data: ") {
                return (kind.unwrap(), serde_json::from_str(data).unwrap());
            }
        }
    }

    /// Returns the data of the next event of this kind.
    pub fn next_of(&mut self, wanted: &str) -> Value {
        loop {
            let (kind, data) = self.next();
            if kind == wanted {
                return data;
            }
        }
    }
}
