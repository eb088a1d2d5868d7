//! A web server on loopback with a certificate of its own: what a plugin is downloaded from.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What the server answers at a path.
#[derive(Clone)]
pub enum Page {
    /// 200 with this body.
    Body(Vec<u8>),
    /// 302 to this address.
    Redirect(String),
    /// 404.
    Absent,
    /// 200 and a body without an end.
    Endless,
    /// 200, the beginning of a body, and then nothing.
    Silent,
}

/// A server, which ends with the test program.
pub struct Web {
    pub url: String,
    folder: tempfile::TempDir,
    pages: Arc<Mutex<BTreeMap<String, Page>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Web {
    pub fn start() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let (pages, requests) = (Arc::new(Mutex::new(BTreeMap::new())), Arc::new(Mutex::new(Vec::new())));
        let (config, known, seen) = (Arc::new(config), Arc::clone(&pages), Arc::clone(&requests));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, known, seen) = (Arc::clone(&config), Arc::clone(&known), Arc::clone(&seen));
                // A client that ends early, as most of these tests make it, is an error here.
                std::thread::spawn(move || answer(config, stream, &known, &seen));
            }
        });
        Self { url, folder, pages, requests }
    }

    /// Puts a page at a path that begins with `/`. Returns its URL.
    pub fn put(&self, path: &str, page: Page) -> String {
        self.pages.lock().unwrap().insert(path.to_owned(), page);
        format!("{}{path}", self.url)
    }

    /// Returns the heads of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// Returns the words by which a command trusts this server's certificate.
    pub fn trusted(&self) -> [String; 4] {
        let file: PathBuf = self.folder.path().join("cert.pem");
        ["env".into(), "-u".into(), "SSL_CERT_DIR".into(), format!("SSL_CERT_FILE={}", file.display())]
    }
}

fn answer(
    config: Arc<ServerConfig>,
    stream: TcpStream,
    pages: &Mutex<BTreeMap<String, Page>>,
    requests: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    requests.lock().unwrap().push(head);
    let page = pages.lock().unwrap().get(&path).cloned().unwrap_or(Page::Absent);
    let begin = |status: &str| format!("HTTP/1.1 {status}\r\nconnection: close\r\n");
    match page {
        Page::Body(body) => {
            write!(stream, "{}content-length: {}\r\n\r\n", begin("200 OK"), body.len())?;
            stream.write_all(&body)?;
        }
        Page::Redirect(to) => write!(stream, "{}location: {to}\r\ncontent-length: 0\r\n\r\n", begin("302 Found"))?,
        Page::Absent => write!(stream, "{}content-length: 0\r\n\r\n", begin("404 Not Found"))?,
        Page::Endless => {
            write!(stream, "{}\r\n", begin("200 OK"))?;
            loop {
                stream.write_all(&[0; 1 << 16])?;
            }
        }
        Page::Silent => {
            write!(stream, "{}content-length: 1000\r\n\r\nbegin", begin("200 OK"))?;
            stream.flush()?;
            // Until the client gives up.
            stream.read_exact(&mut [0])?;
        }
    }
    stream.conn.send_close_notify();
    stream.flush()
}
