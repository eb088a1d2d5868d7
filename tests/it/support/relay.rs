//! A relay between a machine and the account server, with the server's own certificate. It sees every request in plain
//! text, and holds requests or answers that a test chooses.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use guillemet_testing::wait::PATIENCE;

/// A request as the server receives it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The first line and the headers.
    pub head: String,
    pub body: Vec<u8>,
}

impl Seen {
    fn is(&self, method: &str, end: &str) -> bool {
        let mut words = self.head.split(' ');
        let path = |target: &str| target.split('?').next().is_some_and(|path| path.ends_with(end));
        words.next() == Some(method) && words.next().is_some_and(path)
    }
}

/// The point at which a request is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Holds the request, before the server receives it.
    Request,
    /// Holds the answer, after the server has done what was asked.
    Answer,
}

/// A request or an answer that is held until this is dropped.
pub struct Held {
    is_reached: mpsc::Receiver<()>,
    _release: oneshot::Sender<()>,
}

impl Held {
    /// Waits until a request or an answer is held.
    pub fn wait(&self) {
        self.is_reached.recv_timeout(PATIENCE).expect("nothing came that could be held");
    }

    pub fn release(self) {}
}

/// The description of a request to hold, and at which point.
struct Gate {
    point: Point,
    method: &'static str,
    end: &'static str,
    reached: mpsc::Sender<()>,
    released: oneshot::Receiver<()>,
}

impl Gate {
    async fn pass(self) {
        // The test that holds the request may have ended.
        let _ = self.reached.send(());
        let _ = self.released.await;
    }
}

struct Inner {
    to: SocketAddr,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    seen: Mutex<Vec<Seen>>,
    gates: Mutex<Vec<Gate>>,
}

/// The running relay, which ends when it is dropped.
pub struct Relay {
    pub address: SocketAddr,
    inner: Arc<Inner>,
    _end: oneshot::Sender<()>,
}

impl Relay {
    /// Starts a relay to a server whose certificate and key are in this folder.
    pub fn to(to: SocketAddr, folder: &Path) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificate = CertificateDer::from_pem_file(folder.join("account.crt")).unwrap();
        let key = PrivateKeyDer::from_pem_file(folder.join("account.key")).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let server = server.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let server = server.with_single_cert(vec![certificate], key).unwrap();
        let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let client = client.with_root_certificates(roots).with_no_client_auth();
        let inner = Arc::new(Inner {
            to,
            acceptor: TlsAcceptor::from(Arc::new(server)),
            connector: TlsConnector::from(Arc::new(client)),
            seen: Mutex::default(),
            gates: Mutex::default(),
        });
        let (end, mut ended) = oneshot::channel();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let known = Arc::clone(&inner);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                loop {
                    tokio::select! {
                        _ = &mut ended => return,
                        Ok((caller, _)) = listener.accept() => {
                            let inner = Arc::clone(&known);
                            tokio::spawn(async move { inner.pass(caller).await });
                        }
                    }
                }
            });
            runtime.shutdown_background();
        });
        Self { address, inner, _end: end }
    }

    /// Returns every request to the server so far.
    pub fn seen(&self) -> Vec<Seen> {
        locked(&self.inner.seen).clone()
    }

    /// Holds the next request with this method and this end of its path, or the answer to it.
    pub fn hold(&self, point: Point, method: &'static str, end: &'static str) -> Held {
        let ((reached, is_reached), (release, released)) = (mpsc::channel(), oneshot::channel());
        locked(&self.inner.gates).push(Gate { point, method, end, reached, released });
        Held { is_reached, _release: release }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    /// Takes the gate that a request has to pass at this point, if there is one.
    fn gate(&self, request: &Seen, point: Point) -> Option<Gate> {
        let mut gates = locked(&self.gates);
        let at = gates.iter().position(|gate| gate.point == point && request.is(gate.method, gate.end))?;
        Some(gates.remove(at))
    }

    /// Relays one connection. Each request comes after the answer to the one before.
    async fn pass(&self, caller: TcpStream) -> Option<()> {
        let _ = caller.set_nodelay(true);
        let caller = self.acceptor.accept(caller).await.ok()?;
        let called = TcpStream::connect(self.to).await.ok()?;
        let _ = called.set_nodelay(true);
        let called = self.connector.connect(ServerName::try_from("127.0.0.1").unwrap(), called).await.ok()?;
        let (mut from_caller, mut to_caller) = tokio::io::split(caller);
        let (mut from_called, mut to_called) = tokio::io::split(called);
        let before_answer = Mutex::new(None);
        let requests = async {
            let mut buffer = Vec::new();
            while let Some(request) = next(&mut from_caller, &mut buffer).await {
                locked(&self.seen).push(request.clone());
                if let Some(gate) = self.gate(&request, Point::Request) {
                    gate.pass().await;
                }
                *locked(&before_answer) = self.gate(&request, Point::Answer);
                to_called.write_all(request.head.as_bytes()).await.ok()?;
                to_called.write_all(&request.body).await.ok()?;
                to_called.flush().await.ok()?;
            }
            Some(())
        };
        let answers = async {
            let mut buffer = vec![0; 64 << 10];
            loop {
                let len = from_called.read(&mut buffer).await.ok().filter(|len| *len > 0)?;
                let gate: Option<Gate> = locked(&before_answer).take();
                if let Some(gate) = gate {
                    gate.pass().await;
                }
                to_caller.write_all(&buffer[..len]).await.ok()?;
                to_caller.flush().await.ok()?;
            }
        };
        tokio::select! {
            ended = requests => ended,
            ended = answers => ended,
        }
    }
}

/// Reads the next request; `None` at the end of the connection.
async fn next(from: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Option<Seen> {
    const END: &[u8] = b"\r\n\r\n";
    let end = loop {
        if let Some(at) = buffer.windows(END.len()).position(|window| window == END) {
            break at + END.len();
        }
        read_more(from, buffer).await?;
    };
    let head = String::from_utf8(buffer[..end].to_vec()).expect("a head is text");
    let len = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
    });
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "a body has a length: {head}");
    let len = end + len.unwrap_or(0);
    while buffer.len() < len {
        read_more(from, buffer).await?;
    }
    let body = buffer[end..len].to_vec();
    buffer.drain(..len);
    Some(Seen { head, body })
}

async fn read_more(from: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Option<()> {
    let read = from.read_buf(buffer).await.ok()?;
    (read > 0).then_some(())
}
