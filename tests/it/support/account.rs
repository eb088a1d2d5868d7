//! A real account server, and devices that push random bytes as sealed boxes, which nobody can open.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use guillemet_account::client::{AccountClient, AccountClientError, HeadEvents};
use guillemet_account::code::Creation;
use guillemet_account_server::storage::Storage;
use guillemet_account_server::storage::postgres::Postgres as PostgresStorage;
use guillemet_account_server::storage::sqlite::Sqlite;
use guillemet_base::random::random;
use guillemet_wire::api_key::ApiKey;
use guillemet_wire::{
    AccountId, ChangedRecord, DeviceId, DeviceKey, Enrolment, Hash, HeadRef, ObjectId, PublicKey, PullCursor, Push,
    Sealed, SealedHead, SealedRecord, ServerEvent, Wrap,
};
use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::daemon::{Answer, PROGRAM, receive};
use super::postgres::Postgres;
use guillemet_testing::server::listening;
use guillemet_testing::wait::PATIENCE;

/// The place where a server keeps its accounts: a folder, and PostgreSQL if the test uses it.
pub struct Place {
    pub folder: tempfile::TempDir,
    pub postgres: Option<Postgres>,
}

impl Place {
    pub fn sqlite() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), postgres: None }
    }

    /// Returns a place on PostgreSQL, or `None` if that is not installed.
    pub fn postgres() -> Option<Self> {
        let postgres = Postgres::start()?;
        Some(Self { folder: tempfile::tempdir().unwrap(), postgres: Some(postgres) })
    }

    /// Returns the arguments that give the program this place.
    fn arguments(&self) -> Vec<String> {
        self.arguments_in(&self.folder.path().display().to_string())
    }

    /// Returns the same arguments with another folder.
    fn arguments_in(&self, folder: &str) -> Vec<String> {
        let mut arguments = vec!["--data".into(), folder.to_owned()];
        if let Some(postgres) = &self.postgres {
            arguments.extend(["--database".into(), postgres.url()]);
        }
        arguments
    }

    /// Opens the storage directly, beside the running server.
    pub async fn storage(&self) -> Arc<dyn Storage> {
        match &self.postgres {
            Some(postgres) => Arc::new(PostgresStorage::open(&postgres.url()).await.unwrap()),
            None => Arc::new(Sqlite::open(self.folder.path()).unwrap()),
        }
    }

    fn kept_in(&self) -> &Path {
        self.postgres.as_ref().map_or(self.folder.path(), Postgres::folder)
    }

    /// Returns every file that accounts are kept in.
    pub fn files(&self) -> Vec<PathBuf> {
        let (mut folders, mut files) = (vec![self.kept_in().to_owned()], Vec::new());
        while let Some(folder) = folders.pop() {
            // A database may remove files of its own while the folder is read.
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

    /// Returns the names of those files that contain a text, one per line.
    pub fn files_with(&self, text: &str) -> String {
        let folder = self.kept_in();
        let found = Command::new("grep").args(["-rlaF", "-D", "skip", "-e", text]).arg(folder).output().unwrap();
        assert!(found.stderr.is_empty(), "{}", String::from_utf8_lossy(&found.stderr));
        String::from_utf8(found.stdout).unwrap()
    }

    /// Runs another server on this place, which is expected to fail.
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

/// A running account server, which is killed when dropped.
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

    /// Starts a second server in another folder, on the same database.
    pub fn second(place: &Place) -> Self {
        let folder = place.folder.path().join("second").display().to_string();
        Self::run(place, &place.arguments_in(&folder), &[])
    }

    /// Starts a server that reports on a socket when it is ready, as to a service manager.
    pub fn start_notifying(place: &Place, socket: &Path) -> Self {
        Self::spawn(command(place, &place.arguments()).env("NOTIFY_SOCKET", socket))
    }

    /// Starts a server as another user, with its own certificate files and a log file. The place has to belong to that
    /// user.
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
        let (url, pin) = match listening(&mut BufReader::new(child.stdout.take().unwrap())).unwrap() {
            Ok(parts) => parts,
            Err(line) => {
                let _ = child.kill();
                panic!("the server did not start: {line:?}");
            }
        };
        Self { url, pin: pin.parse().unwrap(), child }
    }

    pub fn client(&self, key: Option<&ApiKey>) -> AccountClient {
        AccountClient::new(&self.url, Some(self.pin), key).unwrap()
    }

    pub fn create_account(&self, place: &Place) -> (AccountId, ApiKey) {
        let made = place.admin(&["create-account", "--url", &self.url]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let code = String::from_utf8(made.stdout).unwrap();
        let code = Creation::parse(&code).unwrap();
        assert_eq!((code.address.url(), code.address.pin()), (&*self.url, Some(&self.pin.0)));
        (code.address.account(), code.api_key)
    }

    /// Opens a connection of a client that trusts the certificate the server made, for the server's address.
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

    /// Ends the server with SIGKILL and waits for it.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends the server SIGTERM without waiting.
    pub fn terminate(&self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
    }

    /// Sends the server SIGTERM. Returns whether it ended with status 0.
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

/// A connection for one request that the test writes itself.
pub struct Plain(tokio_rustls::client::TlsStream<TcpStream>);

impl Plain {
    pub async fn ask(mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.send(method, path, headers, body, body.len()).await;
        self.finish(b"").await
    }

    /// Sends the head and the first `bytes` bytes of the body.
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

    /// Sends the rest of the body and reads the answer.
    pub async fn finish(mut self, rest: &[u8]) -> Answer {
        self.0.write_all(rest).await.unwrap();
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).await.unwrap();
        receive(&*bytes).unwrap()
    }
}

/// A device of an account, as far as the server can see.
pub struct Device {
    pub id: DeviceId,
    pub key: ApiKey,
    pub account: AccountId,
    pub client: AccountClient,
}

impl Device {
    pub fn new(server: &Server, account: AccountId) -> Self {
        let key = ApiKey::random();
        Self { id: DeviceId(random()), client: server.client(Some(&key)), key, account }
    }

    /// Creates an account with its first device, at head 1.
    pub async fn first(server: &Server, place: &Place) -> (Self, HeadRef) {
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

    /// Pushes a change onto the head `on`.
    pub async fn push(&self, on: HeadRef, push: &Push) -> Result<HeadRef, AccountClientError> {
        self.client.push(self.account, push, Some(on.hash)).await
    }

    /// Returns the same device as a client of another server, or of the same one at another port.
    pub fn at(&self, server: &Server) -> Self {
        let client = server.client(Some(&self.key));
        Self { id: self.id, key: ApiKey::parse(self.key.expose()).unwrap(), account: self.account, client }
    }

    pub async fn events(&self) -> HeadEvents {
        self.client.events(self.account).await.unwrap()
    }

    /// Pulls every page, with at most `limit` records in each.
    pub async fn pull(&self, from: PullCursor, limit: usize) -> Result<Pulled, AccountClientError> {
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

/// The result of a pull over all of its pages.
#[derive(Default, Debug)]
pub struct Pulled {
    pub newest: Option<HeadRef>,
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

/// Returns a push that contains only a head.
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

/// Returns a push of these records onto a head.
pub fn change(on: HeadRef, records: Vec<SealedRecord>) -> Push {
    Push { records, ..head(on.seq + 1, on.hash) }
}

pub fn record(id: ObjectId, revision: u64) -> SealedRecord {
    SealedRecord { id, revision, epoch: 1, sealed: Some(sealed(300)) }
}

pub fn object() -> ObjectId {
    ObjectId(random())
}

/// Returns the next event. Panics if none comes.
pub async fn told(events: &mut HeadEvents) -> ServerEvent {
    tokio::time::timeout(PATIENCE, events.next()).await.expect("an event is missing").unwrap()
}

/// Waits until the stream ends, after any number of events.
pub async fn ends(events: &mut HeadEvents) {
    let ended = async { while events.next().await.is_ok() {} };
    tokio::time::timeout(PATIENCE, ended).await.expect("the stream does not end");
}

/// Returns the HTTP status of a refusal. Panics if the result is anything else.
pub fn status<T: std::fmt::Debug>(result: Result<T, AccountClientError>) -> u16 {
    match result {
        Err(AccountClientError::Refused { status, .. }) => status,
        Err(AccountClientError::Unauthorized) => 401,
        Err(AccountClientError::Conflict(_)) => 412,
        Err(AccountClientError::ContinuityLost) => 409,
        Err(AccountClientError::Busy { .. }) => 429,
        other => panic!("it was not refused: {other:?}"),
    }
}
