//! The `account serve` and `account admin` commands. No other command opens the account server's database.

use std::fs::{DirBuilder, File};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use hyper::Uri;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::{Done, Failure, output, prompt};
use guillemet_account::code::{AccountAddress as CodePlace, AccountCode, Creation};
use guillemet_account_server::ServerState;
use guillemet_account_server::limits::ServerLimits;
use guillemet_account_server::storage::postgres::Postgres;
use guillemet_account_server::storage::sqlite::{DATABASE, Sqlite};
use guillemet_account_server::storage::{AccountRow, Bounds, NewAccount, Storage, StorageError, transfer};
use guillemet_account_server::tls::{Certificate, self_signed_files, self_signed_pin};
use guillemet_base::home::Home;
use guillemet_base::random::random;
use guillemet_base::time::{now, rfc3339};
use guillemet_base::{files, permissions};
use guillemet_http::shutdown::shutdown;
use guillemet_wire::api_key::ApiKey;
use guillemet_wire::{AccountId, Hash};

/// The name of the file in the server's folder that is locked while a server or a copy uses the folder.
const LOCK: &str = "account.lock";
/// The number of descriptors needed besides those of the connections.
const DESCRIPTORS: u64 = 64;

#[derive(Args)]
pub struct StorageArgs {
    /// The server's folder, with its database and its self-signed certificate.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Keep accounts in PostgreSQL instead; several servers can share one database. Use $GUILLEMET_DATABASE to
    /// hide a password from other users.
    #[arg(long, value_name = "postgres://…")]
    database: Option<String>,
    /// Allow groups write access to the folder. Their members can change every account.
    #[arg(long)]
    group_may_write: bool,
}

#[derive(Args)]
pub struct AccountServeArgs {
    #[command(flatten)]
    location: StorageArgs,
    /// The address to listen on. With port 0, the system chooses a port.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7443")]
    listen: SocketAddr,
    /// The certificate and its intermediate certificates, in PEM. Without this, the server makes its own.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The private key of the certificate, in PEM. Both files are reloaded when they change.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// The address devices use for the server, for its self-signed certificate.
    #[arg(long, value_name = "https://HOST[:PORT]")]
    url: Option<Uri>,
    #[command(flatten)]
    limits: LimitArgs,
}

#[derive(Args)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Objects per account.
    #[arg(long, value_name = "N", default_value_t = ServerLimits::default().bounds.objects)]
    objects: u64,
    /// Bytes of all boxes per account, including former ones.
    #[arg(long, value_name = "N", default_value_t = ServerLimits::default().bounds.bytes)]
    bytes: u64,
    /// Requests per second and API key; ten times as many per account.
    #[arg(long, value_name = "N", default_value_t = ServerLimits::default().requests, value_parser = clap::value_parser!(u32).range(1..))]
    requests: u32,
    /// Concurrent connections.
    #[arg(long, value_name = "N", default_value_t = ServerLimits::default().connections)]
    connections: usize,
    /// Days to keep former heads and records.
    #[arg(long, value_name = "DAYS", default_value_t = 90)]
    retention: u64,
    /// Heads to keep, regardless of age.
    #[arg(long, value_name = "N", default_value_t = ServerLimits::default().keep_heads)]
    keep_heads: u64,
}

impl LimitArgs {
    fn limits(&self) -> ServerLimits {
        ServerLimits {
            bounds: Bounds { objects: self.objects, bytes: self.bytes },
            requests: self.requests,
            connections: self.connections,
            retention: Duration::from_secs(self.retention.saturating_mul(24 * 3600)),
            keep_heads: self.keep_heads,
            ..ServerLimits::default()
        }
    }
}

#[derive(Subcommand)]
pub enum AdminCommand {
    /// Create an account, and print the code for its first device.
    CreateAccount(CreateAccountArgs),
    /// List the accounts with their newest heads.
    List(ListAccountsArgs),
    /// Delete an account and everything in it.
    DeleteAccount(DeleteAccountArgs),
    /// Restore the state of an account at a former head.
    RestoreHead(RestoreHeadArgs),
    /// Copy all accounts from the folder into an empty PostgreSQL database. Stop the server first.
    Copy(CopyAccountsArgs),
}

#[derive(Args)]
pub struct CreateAccountArgs {
    #[command(flatten)]
    location: StorageArgs,
    /// The address devices use for the server.
    #[arg(long, value_name = "https://HOST[:PORT]")]
    url: Uri,
    /// The certificate pin that devices check, as printed by `account serve`; `none` to use each machine's certificate
    /// authorities [default: the pin of the server's self-signed certificate, if any].
    #[arg(long, value_name = "sha256:HASH")]
    pin: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct ListAccountsArgs {
    #[command(flatten)]
    location: StorageArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct DeleteAccountArgs {
    /// The id of the account.
    account: AccountId,
    #[command(flatten)]
    location: StorageArgs,
    /// Do not ask for confirmation.
    #[arg(long)]
    yes: bool,
}

#[derive(Args)]
pub struct RestoreHeadArgs {
    /// The id of the account.
    account: AccountId,
    /// The number of the head.
    seq: u64,
    #[command(flatten)]
    location: StorageArgs,
    /// Do not ask for confirmation.
    #[arg(long)]
    yes: bool,
}

#[derive(Args)]
pub struct CopyAccountsArgs {
    #[command(flatten)]
    location: StorageArgs,
}

impl StorageArgs {
    /// Returns the server's folder, after checking that nobody else can change it.
    fn folder(&self, home: &Home) -> Result<PathBuf, Failure> {
        let folder = self.data.clone().unwrap_or_else(|| home.data().join("account-server"));
        let files = permissions::database_files(&folder.join(DATABASE));
        let files = files.into_iter().chain(self_signed_files(&folder)).chain([folder.join(LOCK)]);
        permissions::check_folder(&folder, &files.collect::<Vec<_>>(), self.group_may_write)?;
        Ok(folder)
    }

    /// Opens the database of the accounts: PostgreSQL if an address is given, else SQLite in the folder.
    async fn open(&self, home: &Home) -> Result<Arc<dyn Storage>, Failure> {
        Ok(match self.database() {
            Some(url) => Arc::new(Postgres::open(&url).await?),
            None => Arc::new(Sqlite::open(&self.folder(home)?)?),
        })
    }

    fn database(&self) -> Option<String> {
        self.database.clone().or_else(|| std::env::var("GUILLEMET_DATABASE").ok().filter(|url| !url.is_empty()))
    }
}

impl AccountServeArgs {
    pub fn run(self, home: &Home) -> Done {
        guillemet_base::sys::memory::limit_free();
        let _ = guillemet_base::sys::process::make_undumpable();
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        raise_descriptors(self.limits.connections as u64);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(self.serve(home))
    }

    async fn serve(self, home: &Home) -> Done {
        let folder = self.location.folder(home)?;
        let storage = self.location.open(home).await?;
        // The lock protects what is in the folder: the database, and the certificate that the server makes there.
        let _lock = match (self.location.database(), &self.cert) {
            (Some(_), Some(_)) => None,
            _ => Some(lock(&folder)?),
        };
        let certificate = match (&self.cert, &self.key) {
            (Some(certificate), Some(key)) => Certificate::read(certificate, key)?,
            _ => Certificate::self_signed(&folder, names(self.url.as_ref(), self.listen))?,
        };
        let certificate = Arc::new(certificate);
        let (trigger, stop) = shutdown();
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let listener = TcpListener::bind(self.listen).await.map_err(|error| {
            Failure::new(format!("cannot listen on {}: {error}; choose another address with --listen", self.listen))
        })?;
        let address = listener.local_addr()?;
        let app = Arc::new(ServerState::new(storage, self.limits.limits()));
        let serving = tokio::spawn(guillemet_account_server::serve(app, listener, Arc::clone(&certificate), stop));
        output::notice(&format!("listening on https://{address}, pin sha256:{}", certificate.pin()));
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("shutting down; requests in progress are finished first");
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        trigger.stop();
        serving.await??;
        Ok(())
    }
}

/// Makes the folder if needed and locks it, so that only one server uses it. The lock ends with the process, however
/// that ends.
fn lock(folder: &Path) -> Result<File, Failure> {
    let failed = |path: &Path, error| Failure::new(format!("{}: {error}", path.display()));
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| failed(folder, error))?;
    let path = folder.join(LOCK);
    let file = files::open_lock(&path).map_err(|error| failed(&path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => Err(StorageError::Locked(folder.display().to_string()).into()),
    }
}

/// Raises the limit of open descriptors to what the connections need, as far as the system allows.
fn raise_descriptors(connections: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let needed = connections.saturating_add(DESCRIPTORS);
    if limit.current.is_some_and(|current| current < needed) {
        let most = limit.maximum.map_or(needed, |most| most.min(needed));
        if most < needed {
            tracing::warn!(needed, most, "too few file descriptors for --connections; raise LimitNOFILE");
        }
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(most), ..limit });
    }
}

/// Returns the names and addresses that the server's self-signed certificate is valid for.
fn names(url: Option<&Uri>, listen: SocketAddr) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let host = url.and_then(Uri::host).map(|host| host.trim_matches(['[', ']']).to_owned());
    let address = (!listen.ip().is_unspecified()).then(|| listen.ip().to_string());
    for name in [host, address].into_iter().flatten() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

impl AdminCommand {
    pub fn run(self, home: &Home) -> Done {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            match self {
                Self::CreateAccount(command) => command.run(home).await,
                Self::List(command) => command.run(home).await,
                Self::DeleteAccount(command) => command.run(home).await,
                Self::RestoreHead(command) => command.run(home).await,
                Self::Copy(command) => command.run(home).await,
            }
        })
    }
}

impl CreateAccountArgs {
    async fn run(self, home: &Home) -> Done {
        if self.url.scheme_str() != Some("https") || self.url.host().is_none() {
            return Err(Failure::new("--url must be the address of the server: https://HOST[:PORT]"));
        }
        let pin = match self.pin.as_deref() {
            Some("none") => None,
            Some(text) => {
                let invalid = |_| {
                    Failure::new("--pin must be the pin that `account serve` prints: sha256: and 64 hexadecimal digits")
                };
                Some(text.strip_prefix("sha256:").unwrap_or(text).parse().map_err(invalid)?)
            }
            None => self_signed_pin(&self.location.folder(home)?)?,
        };
        let (id, api_key) = (AccountId(random()), ApiKey::random());
        let url = self.url.to_string();
        let address = CodePlace::new(id, url.trim_end_matches('/'), pin.map(|pin: Hash| pin.0))?;
        let account = NewAccount { id, key_id: api_key.id().to_owned(), key_hash: api_key.hash(), at: now() };
        self.location.open(home).await?.create_account(account).await?;
        let code = AccountCode::Creation(Creation { address, api_key }).to_text();
        output::note(&format!(
            "created account {id}; its code works for one `guillemet account create` and is shown only once"
        ));
        if self.json {
            output::json(&json!({"account": id, "code": *code}));
        } else {
            output::line(&code);
        }
        Ok(())
    }
}

impl ListAccountsArgs {
    async fn run(self, home: &Home) -> Done {
        let accounts = self.location.open(home).await?.accounts().await?;
        if self.json {
            let items: Vec<_> = accounts.iter().map(as_json).collect();
            output::json(&json!({"count": items.len(), "items": items}));
            return Ok(());
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let rows = accounts.into_iter().map(|row| {
            let pushed = row.pushed_at.map(rfc3339);
            vec![
                row.id.to_string(),
                row.newest.map_or("-".to_owned(), |newest| newest.seq.to_string()),
                row.kept_from.to_string(),
                output::ago(pushed.as_deref(), now),
                row.devices.to_string(),
                row.objects.to_string(),
                row.bytes.to_string(),
                output::ago(Some(&rfc3339(row.created_at)), now),
            ]
        });
        let header = ["Account", "Head", "Kept from", "Pushed", "Devices", "Objects", "Bytes", "Made"];
        output::table(&header, rows.collect());
        Ok(())
    }
}

fn as_json(row: &AccountRow) -> serde_json::Value {
    json!({
        "id": row.id,
        "created_at": rfc3339(row.created_at),
        "newest": row.newest,
        "kept_from": row.kept_from,
        "pushed_at": row.pushed_at.map(rfc3339),
        "devices": row.devices,
        "objects": row.objects,
        "bytes": row.bytes,
    })
}

impl DeleteAccountArgs {
    async fn run(self, home: &Home) -> Done {
        let storage = self.location.open(home).await?;
        let account = self.account;
        let row = storage.accounts().await?.into_iter().find(|row| row.id == account).ok_or(StorageError::NoAccount)?;
        output::note(&format!("account {account} has {} objects and {} devices", row.objects, row.devices));
        prompt::confirm("Delete it from this server? Its devices keep their secrets.", self.yes)?;
        storage.delete_account(account).await?;
        output::note(&format!("deleted account {account}"));
        Ok(())
    }
}

impl RestoreHeadArgs {
    async fn run(self, home: &Home) -> Done {
        let storage = self.location.open(home).await?;
        let (account, seq) = (self.account, self.seq);
        let row = storage.accounts().await?.into_iter().find(|row| row.id == account).ok_or(StorageError::NoAccount)?;
        let newest = row.newest.map_or(0, |newest| newest.seq);
        output::note(&format!(
            "heads {} to {newest} of account {account} and their changes are deleted permanently; devices revoked \
             since then and their API keys become valid again",
            seq.saturating_add(1)
        ));
        prompt::confirm(&format!("Restore head {seq}?"), self.yes)?;
        let newest = storage.restore_head(account, seq).await?;
        output::note(&format!("head {} with hash {} is now the newest", newest.seq, newest.hash));
        Ok(())
    }
}

impl CopyAccountsArgs {
    async fn run(self, home: &Home) -> Done {
        let missing = || Failure::new("pass --database (or set $GUILLEMET_DATABASE) to say where to copy the accounts");
        let to = Postgres::open(&self.location.database().ok_or_else(missing)?).await?;
        let folder = self.location.folder(home)?;
        // The lock keeps a server from changing the accounts during the copy.
        let _lock = lock(&folder)?;
        let accounts = transfer::copy(&folder, &to).await?;
        output::note(&format!("copied {accounts} accounts; from now on, run the server with --database"));
        Ok(())
    }
}
