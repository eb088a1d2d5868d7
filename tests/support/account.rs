//! A real account server, and devices that push boxes nobody could open.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use guillemet::account::api_key::ApiKey;
use guillemet::account::client::{Client, ClientError, Events};
use guillemet::account::code::Creation;
use guillemet::account::server::storage::Storage;
use guillemet::account::server::storage::postgres::Postgres as PostgresStorage;
use guillemet::account::server::storage::sqlite::Sqlite;
use guillemet::account::wire::{
    AccountId, ChangedRecord, Cursor, DeviceId, DeviceKey, Enrolment, Hash, Newest, ObjectId, PublicKey, Push, Sealed,
    SealedHead, SealedRecord, Told, Wrap,
};
use guillemet_base::random::random;
use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::daemon::{Answer, PROGRAM, receive};
use super::postgres::Postgres;

/// The longest anything in a test may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Where accounts are kept.
pub struct Place {
    pub folder: tempfile::TempDir,
    pub postgres: Option<Postgres>,
}

impl Place {
    pub fn sqlite() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), postgres: None }
    }

    /// `None` where there is no PostgreSQL.
    pub fn postgres() -> Option<Self> {
        let postgres = Postgres::start()?;
        Some(Self { folder: tempfile::tempdir().unwrap(), postgres: Some(postgres) })
    }

    /// What tells the program where that is.
    fn arguments(&self) -> Vec<String> {
        self.arguments_in(&self.folder.path().display().to_string())
    }

    /// The same with another folder.
    fn arguments_in(&self, folder: &str) -> Vec<String> {
        let mut arguments = vec!["--data".into(), folder.to_owned()];
        if let Some(postgres) = &self.postgres {
            arguments.extend(["--database".into(), postgres.url()]);
        }
        arguments
    }

    /// The storage itself, beside the server.
    pub async fn storage(&self) -> Arc<dyn Storage> {
        match &self.postgres {
            Some(postgres) => Arc::new(PostgresStorage::open(&postgres.url()).await.unwrap()),
            None => Arc::new(Sqlite::open(self.folder.path()).unwrap()),
        }
    }

    fn kept_in(&self) -> &Path {
        self.postgres.as_ref().map_or(self.folder.path(), Postgres::folder)
    }

    /// All files in which something is kept.
    pub fn files(&self) -> Vec<PathBuf> {
        let (mut folders, mut files) = (vec![self.kept_in().to_owned()], Vec::new());
        while let Some(folder) = folders.pop() {
            // A database removes files of its own meanwhile.
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                    Ok(kind) if kind.is_file() => files.push(entry.path()),
                    _ => {}
                }
            }
        }
        files
    }

    /// The files among all in which something is kept that hold this text.
    pub fn files_with(&self, text: &str) -> String {
        let folder = self.kept_in();
        let found = Command::new("grep").args(["-rlaF", "-D", "skip", "-e", text]).arg(folder).output().unwrap();
        assert!(found.stderr.is_empty(), "{}", String::from_utf8_lossy(&found.stderr));
        String::from_utf8(found.stdout).unwrap()
    }

    /// Tries to run another server, which is to fail.
    pub fn try_serve(&self) -> Output {
        command(self, &self.arguments()).output().unwrap()
    }

    pub fn admin(&self, arguments: &[&str]) -> Output {
        let (command, rest) = arguments.split_first().unwrap();
        Command::new(PROGRAM)
            .args(["account", "admin", command])
            .args(self.arguments())
            .args(rest)
            .env_remove("RUST_LOG")
            .env_remove("GUILLEMET_SOCKET")
            .env("GUILLEMET_HOME", self.folder.path().join("home"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

fn command(place: &Place, folder: &[String]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["account", "serve", "--listen", "127.0.0.1:0"]).args(folder);
    command.env_remove("GUILLEMET_SOCKET").env("GUILLEMET_HOME", place.folder.path().join("home"));
    command.stdin(Stdio::null());
    command
}

/// A server that runs.
pub struct Server {
    pub url: String,
    pub pin: Hash,
    child: Child,
}

impl Server {
    pub fn start(place: &Place) -> Self {
        Self::start_with(place, &[])
    }

    pub fn start_with(place: &Place, arguments: &[&str]) -> Self {
        Self::run(place, &place.arguments(), arguments)
    }

    /// Another one in another folder, on the same database.
    pub fn second(place: &Place) -> Self {
        let folder = place.folder.path().join("second").display().to_string();
        Self::run(place, &place.arguments_in(&folder), &[])
    }

    /// One that tells here when it is ready, as it tells a service manager.
    pub fn start_notifying(place: &Place, socket: &Path) -> Self {
        Self::spawn(command(place, &place.arguments()).env("NOTIFY_SOCKET", socket))
    }

    /// One that runs as another user, with files of its own, and logs to a file. The place is that user's.
    pub fn start_as(uid: u32, place: &Place, files: &[(&str, &Path)], log: &Path) -> Self {
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={uid}"), format!("--regid={uid}"), "--clear-groups".into(), PROGRAM.into()]);
        command.args(["account", "serve", "--listen", "127.0.0.1:0"]).args(place.arguments());
        for (flag, file) in files {
            command.arg(flag).arg(file);
        }
        command.env("GUILLEMET_HOME", place.folder.path().join("home")).env_remove("RUST_LOG").stdin(Stdio::null());
        Self::spawn(command.stderr(std::fs::File::create(log).unwrap()))
    }

    fn run(place: &Place, folder: &[String], arguments: &[&str]) -> Self {
        Self::spawn(command(place, folder).args(arguments))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told = line.trim().strip_prefix("listening on ").and_then(|rest| rest.split_once(", pin sha256:"));
        let Some((url, pin)) = told else {
            let _ = child.kill();
            panic!("the server did not start: {line:?}");
        };
        Self { url: url.to_owned(), pin: pin.parse().unwrap(), child }
    }

    pub fn client(&self, key: Option<&ApiKey>) -> Client {
        Client::new(&self.url, Some(self.pin), key).unwrap()
    }

    pub fn create_account(&self, place: &Place) -> (AccountId, ApiKey) {
        let made = place.admin(&["create-account", "--url", &self.url]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let code = String::from_utf8(made.stdout).unwrap();
        let code = Creation::parse(&code).unwrap();
        assert_eq!((code.place.url(), code.place.pin()), (&*self.url, Some(&self.pin.0)));
        (code.place.account(), code.api_key)
    }

    /// A connection of somebody who trusts the certificate the server has made, for the address it is at.
    pub async fn plain(&self, place: &Place) -> Plain {
        let certificate = CertificateDer::from_pem_file(place.folder.path().join("account.crt")).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(self.address()).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        Plain(TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap())
    }

    pub fn address(&self) -> &str {
        self.url.strip_prefix("https://").unwrap()
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
    }

    /// SIGTERM; whether it ended with 0.
    pub fn stop(mut self) -> bool {
        self.terminate();
        self.child.wait().unwrap().success()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request, written by hand.
pub struct Plain(tokio_rustls::client::TlsStream<TcpStream>);

impl Plain {
    pub async fn ask(mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.send(method, path, headers, body, body.len()).await;
        self.finish(b"").await
    }

    /// The head, and so many bytes of the body.
    pub async fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8], bytes: usize) {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        self.0.write_all(head.as_bytes()).await.unwrap();
        self.0.write_all(&body[..bytes]).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// The rest of the body, and the answer.
    pub async fn finish(mut self, rest: &[u8]) -> Answer {
        self.0.write_all(rest).await.unwrap();
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).await.unwrap();
        receive(&*bytes).unwrap()
    }
}

/// A device of an account, as far as the server can tell.
pub struct Device {
    pub id: DeviceId,
    pub key: ApiKey,
    pub account: AccountId,
    pub client: Client,
}

impl Device {
    pub fn new(server: &Server, account: AccountId) -> Self {
        let key = ApiKey::random();
        Self { id: DeviceId(random()), client: server.client(Some(&key)), key, account }
    }

    /// The first device of a new account, with head 1.
    pub async fn first(server: &Server, place: &Place) -> (Self, Newest) {
        let (account, creation) = server.create_account(place);
        let device = Self::new(server, account);
        let push = Push { keys: vec![device.device_key()], wraps: vec![device.wrap(1)], ..head(1, Hash::default()) };
        let newest = server.client(Some(&creation)).push(account, &push, None).await.unwrap();
        (device, newest)
    }

    pub fn device_key(&self) -> DeviceKey {
        self.key.device_key(self.id)
    }

    pub fn wrap(&self, epoch: u64) -> Wrap {
        Wrap { device: self.id, epoch, sender: self.id, sealed: sealed(104) }
    }

    pub fn enrolment(&self) -> Enrolment {
        let (public_key, mac) = (PublicKey(random()), Hash(random()));
        Enrolment { key: self.device_key(), public_key, mac, name: sealed(60) }
    }

    /// Pushes onto this head.
    pub async fn push(&self, on: Newest, push: &Push) -> Result<Newest, ClientError> {
        self.client.push(self.account, push, Some(on.hash)).await
    }

    /// Another server, or the same at another port.
    pub fn at(&self, server: &Server) -> Self {
        let client = server.client(Some(&self.key));
        Self { id: self.id, key: ApiKey::parse(self.key.expose()).unwrap(), account: self.account, client }
    }

    pub async fn events(&self) -> Events {
        self.client.events(self.account).await.unwrap()
    }

    /// Every page of a pull, by pages of this many records.
    pub async fn pull(&self, from: Cursor, limit: usize) -> Result<Pulled, ClientError> {
        let mut pulled = Pulled::default();
        let mut next = Some(from);
        while let Some(from) = next {
            let page = self.client.changes(self.account, &from, limit).await?;
            assert!(page.records.len() <= limit);
            let known = page.heads.last().map_or(from.heads_after, |head| head.seq);
            assert!(page.records.iter().all(|record| record.seq <= known), "a record is ahead of the heads");
            pulled.newest = page.newest;
            pulled.heads.extend(page.heads);
            pulled.wraps.extend(page.wraps);
            for changed in page.records {
                pulled.records.retain(|known| known.record.id != changed.record.id);
                pulled.records.push(changed);
            }
            pulled.links = page.links.len();
            pulled.pages += 1;
            next = page.next;
        }
        Ok(pulled)
    }
}

/// What a pull brought.
#[derive(Default, Debug)]
pub struct Pulled {
    pub newest: Option<Newest>,
    pub heads: Vec<SealedHead>,
    pub records: Vec<ChangedRecord>,
    pub wraps: Vec<Wrap>,
    pub links: usize,
    pub pages: usize,
}

pub fn sealed(len: usize) -> Sealed {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        bytes.extend(random::<32>());
    }
    bytes.truncate(len);
    Sealed(bytes)
}

/// A push of nothing but a head.
pub fn head(seq: u64, prev: Hash) -> Push {
    Push {
        head: SealedHead { seq, epoch: 1, prev, sealed: sealed(400) },
        records: Vec::new(),
        wraps: Vec::new(),
        link: None,
        keys: Vec::new(),
        admitted: Vec::new(),
        revoked: Vec::new(),
    }
}

/// A push of these records onto a head.
pub fn change(on: Newest, records: Vec<SealedRecord>) -> Push {
    Push { records, ..head(on.seq + 1, on.hash) }
}

pub fn record(id: ObjectId, revision: u64) -> SealedRecord {
    SealedRecord { id, revision, epoch: 1, sealed: Some(sealed(300)) }
}

pub fn object() -> ObjectId {
    ObjectId(random())
}

/// The next event, which has to come.
pub async fn told(events: &mut Events) -> Told {
    tokio::time::timeout(PATIENCE, events.next()).await.expect("an event is missing").unwrap()
}

/// That the stream ends, whatever is told before.
pub async fn ends(events: &mut Events) {
    let ended = async { while events.next().await.is_ok() {} };
    tokio::time::timeout(PATIENCE, ended).await.expect("the stream does not end");
}

/// The status of a refusal.
pub fn status<T: std::fmt::Debug>(result: Result<T, ClientError>) -> u16 {
    match result {
        Err(ClientError::Refused { status, .. }) => status,
        Err(ClientError::Unauthorized) => 401,
        Err(ClientError::Conflict(_)) => 412,
        Err(ClientError::ContinuityLost) => 409,
        Err(ClientError::Busy { .. }) => 429,
        other => panic!("it was not refused: {other:?}"),
    }
}

/// Asks again until the answer is the one that is waited for.
pub async fn until<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "it does not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
