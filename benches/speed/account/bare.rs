//! The references to compare with: a bare TLS server on loopback, and transactions of SQLite that are on disk when they
//! end.

use std::convert::Infallible;
use std::io::BufReader;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use guillemet_account::client::AccountClient;
use guillemet_account_server::tls::Certificate;
use guillemet_vault::store::{VaultError, change, connect};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rusqlite::Connection;
use tokio_rustls::TlsAcceptor;

use super::super::load::Process;
use super::super::report::{self, Report};
use super::place;
use guillemet_testing::server::listening;

/// An answer that any account's server could give. The client parses it like any other.
const ANSWER: &[u8] = br#"{"id":"00112233445566778899aabbccddeeff","admitted":true}"#;

/// A running bare server.
pub struct Bare {
    pub process: Process,
    url: String,
    pin: String,
    _folder: tempfile::TempDir,
}

/// Starts the server: hyper over rustls, with default settings.
pub fn start() -> Bare {
    let folder = place::folder();
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg("bare-tls").arg(folder.path()).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the bare server starts");
    let output = &mut BufReader::new(child.stdout.take().expect("its output"));
    let (url, pin) = listening(output).expect("its output").expect("the server listens");
    Bare { process: Process::new(child), url, pin, _folder: folder }
}

impl Bare {
    pub fn client(&self) -> AccountClient {
        AccountClient::new(&self.url, Some(self.pin.parse().expect("a hash")), None).expect("an address")
    }
}

/// Runs the server itself, until it is killed.
pub fn serve(folder: &Path) {
    let certificate = Certificate::self_signed(folder, vec!["127.0.0.1".into()]).expect("a certificate");
    let certificate = Arc::new(certificate);
    let acceptor = TlsAcceptor::from(certificate.config().expect("TLS"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        println!("listening on https://{address}, pin sha256:{}", certificate.pin());
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                stream.set_nodelay(true).expect("a socket");
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(|request: Request<Incoming>| async move {
                    let _ = request.into_body().collect().await;
                    let mut response = Response::new(Full::new(Bytes::from_static(ANSWER)));
                    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                    Ok::<_, Infallible>(response)
                });
                let served = hyper::server::conn::http1::Builder::new();
                let _ = served.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
}

/// The times of the steps that a change goes through in any implementation.
#[derive(Clone, Copy)]
pub struct Parts {
    round_trip: Duration,
    server: Duration,
    vault: Duration,
}

impl Parts {
    /// Returns the time of the whole way: a push is written down before it is sent, accepted by the server, announced,
    /// pulled, and written down again.
    pub fn sum(self) -> Duration {
        self.round_trip * 2 + self.server + self.vault * 2
    }
}

pub fn references(report: &mut Report, quick: bool) -> Parts {
    let rounds = if quick { 100 } else { 1_000 };
    let bare = start();
    let runtime = place::runtime();
    let client = bare.client();
    let ask = |client: &AccountClient| {
        runtime.block_on(client.current()).expect("an answer");
    };
    ask(&client);
    let round_trip = report::times(rounds, || ask(&client));
    report.spread("a round trip to a bare TLS server on loopback", &round_trip);
    let new = report::times(rounds / 10, || ask(&bare.client()));
    report.spread("  on a new connection", &new);

    let folder = place::folder();
    let mut database = connect_new(&folder.path().join("server.db"));
    let server = report::times(rounds, || {
        let transaction = database.transaction().expect("a transaction");
        transaction.execute("INSERT INTO kept (box) VALUES (?1)", [[7_u8; 1024]]).expect("a row");
        transaction.commit().expect("on disk");
    });
    report.spread("a transaction of SQLite, 1 KiB, on disk", &server);
    let path = folder.path().join("vault.db");
    drop(connect_new(&path));
    let mut database = connect(&path).expect("a database");
    let vault = report::times(rounds, || {
        let insert = "INSERT INTO kept (box) VALUES (?1)";
        let put = |database: &Connection| database.execute(insert, [[7_u8; 1024]]).map_err(VaultError::from);
        change(&mut database, put).expect("on disk");
    });
    report.spread("  and moved out of the log, as a vault's is", &vault);
    let [round_trip, server, vault] = [round_trip, server, vault].map(|times| times[times.len() / 2]);
    Parts { round_trip, server, vault }
}

/// Opens a database with the settings of the account's server.
fn connect_new(path: &Path) -> Connection {
    let database = Connection::open(path).expect("a database");
    database.pragma_update(None, "journal_mode", "WAL").expect("a log");
    database.pragma_update(None, "synchronous", "FULL").expect("on disk");
    database.execute_batch("CREATE TABLE kept (id INTEGER PRIMARY KEY, box BLOB NOT NULL) STRICT").expect("a table");
    database
}
