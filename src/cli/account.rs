//! The `account` commands, for a vault that several machines share. Codes are typed at a prompt or come from standard
//! input, never from an argument, which other users of the machine could read.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use clap::{Args, Subcommand, ValueEnum};
use hyper::Method;

use super::client::{self, Answer, part};
use super::{Done, Failure, account_server, output, prompt};
use crate::account::code::{Code, CodeKind, Recovery};
use crate::account::words::words;
use guillemet_api::Listing;
use guillemet_api::account::{
    self, AccountStatus, DeviceView, InvitationCode, JoinAccount, LeftAccount, RepairAccount, RepairAction, RepairPlan,
    RevokedDevice, SameName,
};
use guillemet_api::error::{ErrorBody, ErrorEntry};
use guillemet_base::home::Home;
use guillemet_base::time::{now, rfc3339};

#[derive(Subcommand)]
pub enum AccountCommand {
    /// Make a new account of this vault, with the code of `account admin create-account`.
    Create(Create),
    /// Make an invitation, for one machine and ten minutes.
    Invite(Invite),
    /// Join the account of an invitation, or come back with a recovery code.
    Join(Join),
    /// The devices of the account.
    Devices(Devices),
    /// Put a device out, under new keys, and say which secrets it could read.
    Revoke(Revoke),
    /// Print a recovery code: a device on paper.
    Recovery(RecoveryCode),
    /// The way out after the server was restored from a backup.
    Repair(Repair),
    /// How it stands: contact, the newest head, its age and words.
    Status(Status),
    /// Take this device out of the account; its secrets stay.
    Leave(Leave),
    /// Run the server between the machines of an account, in the foreground.
    Serve(account_server::Serve),
    /// Look after the accounts of a server: where its database is.
    #[command(subcommand)]
    Admin(account_server::Admin),
}

#[derive(Args)]
pub struct Create {
    /// The address of the server.
    #[arg(value_name = "https://HOST[:PORT]")]
    url: String,
    #[command(flatten)]
    device: Device,
}

#[derive(Args)]
struct Device {
    /// What this device is called in the account; else what the machine is called.
    #[arg(long)]
    name: Option<String>,
    /// Print what the API says.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Invite {
    /// Print what the API says.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Join {
    /// The address of the server, if not the one in the code.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// What becomes of secrets that are in this vault and in the account; else it asks.
    #[arg(long, value_name = "WHICH")]
    same_names: Option<SameNames>,
    /// Do not ask whether the words of a recovery code are right.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    device: Device,
}

/// What becomes of a secret that is on both sides.
#[derive(Clone, Copy, ValueEnum)]
enum SameNames {
    /// Both stay; this vault's is called NAME-2.
    Both,
    /// The account's stays, this vault's goes.
    Account,
    /// This vault's value becomes the newest version of the account's.
    Mine,
}

impl From<SameNames> for SameName {
    fn from(which: SameNames) -> Self {
        match which {
            SameNames::Both => Self::Both,
            SameNames::Account => Self::Account,
            SameNames::Mine => Self::Mine,
        }
    }
}

#[derive(Args)]
pub struct Devices {
    /// Print what the API says.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Revoke {
    /// Its id, or its name where no other has it.
    device: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Print what the API says.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct RecoveryCode {
    /// Print what the API says.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Repair {
    /// Do not ask whether the words are right. To be used by whoever has compared them.
    #[arg(long)]
    yes: bool,
    /// Print what the API says.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Status {
    /// Print what the API says.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Leave {
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

impl AccountCommand {
    /// Reports whether the command is a server, which runs until it is stopped.
    pub fn serves(&self) -> bool {
        matches!(self, Self::Serve(_))
    }

    pub fn run(self, home: &Home) -> Done {
        match self {
            Self::Create(command) => command.run(home),
            Self::Invite(command) => command.run(home),
            Self::Join(command) => command.run(home),
            Self::Devices(command) => command.run(home),
            Self::Revoke(command) => command.run(home),
            Self::Recovery(command) => command.run(home),
            Self::Repair(command) => command.run(home),
            Self::Status(command) => command.run(home),
            Self::Leave(command) => command.run(home),
            Self::Serve(command) => command.run(home),
            Self::Admin(command) => command.run(home),
        }
    }
}

/// Returns the machine's host name, cut at 60 characters, or `unnamed` if it has none.
fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "unnamed".into() } else { name.chars().take(60).collect() }
}

fn joined(device: &Device, answer: &Answer) -> Done {
    if device.json {
        output::json(&answer.json());
        return Ok(());
    }
    let status: AccountStatus = answer.read()?;
    let account = status.account.ok_or_else(not_joined)?;
    output::line(&format!(
        "this vault is part of account {} as `{}`, with {} and {}",
        account.account,
        account.device_name,
        several(account.secrets, "secret"),
        several(account.devices, "device"),
    ));
    output::note(&format!("head {}: {}", output::or_dash(account.seq), output::or_dash(account.words)));
    Ok(())
}

fn not_joined() -> Failure {
    Failure::new("this vault is in no account")
}

fn several(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Returns the body of a request that makes this vault part of an account.
fn join_body<'a>(code: &'a str, name: &'a str, server: Option<&'a str>) -> JoinAccount<'a> {
    JoinAccount { code, name, server, same_names: BTreeMap::new(), all_same_names: None }
}

impl Create {
    fn run(self, home: &Home) -> Done {
        let text = prompt::code("The code of the new account")?;
        let found = Code::parse(&text)?.kind();
        if found != CodeKind::Creation {
            return Err(Failure::new(format!("this is {found}; `guillemet account join` takes it")));
        }
        let name = self.device.name.clone().unwrap_or_else(host_name);
        let body = join_body(&text, &name, Some(&self.url));
        let answer = client::send(home, Method::POST, "/v1/account", None, &body)?;
        joined(&self.device, &client::good(home, answer)?)
    }
}

impl Invite {
    fn run(self, home: &Home) -> Done {
        let answer = client::fetch(home, Method::POST, "/v1/account/invitations")?;
        if self.json {
            output::json(&answer.json());
            return Ok(());
        }
        let made: InvitationCode = answer.read()?;
        output::line(&made.code);
        let minutes = made.expires_in / 60;
        output::note(&format!(
            "good for one machine and {minutes} minutes, while this daemon runs: type it into `guillemet account join` there"
        ));
        Ok(())
    }
}

impl Join {
    fn run(self, home: &Home) -> Done {
        let text = prompt::code("The code")?;
        match Code::parse(&text)? {
            Code::Creation(_) => {
                return Err(Failure::new(format!(
                    "this is {}; `guillemet account create URL` takes it",
                    CodeKind::Creation
                )));
            }
            Code::Recovery(code) => self.confirm(&code)?,
            Code::Invite(_) => {}
        }
        let name = self.device.name.clone().unwrap_or_else(host_name);
        let mut body = join_body(&text, &name, self.server.as_deref());
        body.all_same_names = self.same_names.map(Into::into);
        output::note("waiting for the account…");
        let mut answer = client::send(home, Method::POST, "/v1/account", None, &body)?;
        let names = answer.error().map_or_else(Vec::new, same_names);
        if answer.status == 409 && !names.is_empty() && std::io::stdin().is_terminal() {
            body.same_names = ask_of_each(&names)?;
            answer = client::send(home, Method::POST, "/v1/account", None, &body)?;
        }
        joined(&self.device, &client::good(home, answer)?)
    }

    /// Asks a person whether a recovery code is for the right account, because the state it knows can be old.
    fn confirm(&self, code: &Recovery) -> Done {
        output::note(&format!(
            "this code was printed at {}, at head {} of the account: {}",
            rfc3339(code.made_at),
            code.head.seq,
            words(&code.head.hash)
        ));
        output::note("a server could show it a state as old as that, and nothing older");
        prompt::confirm("Are date and words those on your paper?", self.yes)
    }
}

/// Returns the names that are in both vaults, if that is what the answer complains about.
fn same_names(error: ErrorBody) -> Vec<String> {
    let is_of_name = |entry: &ErrorEntry| entry.field.as_ref().is_some_and(|field| field.starts_with("same_names."));
    error.errors.into_iter().filter(is_of_name).filter_map(|entry| entry.name).collect()
}

/// Asks for each name what happens to it.
fn ask_of_each(names: &[String]) -> Result<BTreeMap<String, SameName>, Failure> {
    output::note(&format!("{} in this vault and in the account:", several(names.len(), "name")));
    let mut decided = BTreeMap::new();
    for name in names {
        loop {
            let question =
                format!("  {name} [b]oth (this one as {name}-2), the [a]ccount's, or [m]ine as its newest value? ");
            let which = match prompt::answer(&question)?.trim() {
                "b" | "both" => SameName::Both,
                "a" | "account" => SameName::Account,
                "m" | "mine" => SameName::Mine,
                _ => continue,
            };
            decided.insert(name.clone(), which);
            break;
        }
    }
    Ok(decided)
}

impl Devices {
    fn run(self, home: &Home) -> Done {
        let answer = client::fetch(home, Method::GET, "/v1/account/devices")?;
        if self.json {
            output::json(&answer.json());
            return Ok(());
        }
        let devices: Listing<DeviceView> = answer.read()?;
        let now = now() / 1000;
        let row = |device: DeviceView| {
            let kind = match (device.this, device.recovery) {
                (true, _) => "this one",
                (_, true) => "recovery code",
                _ => "",
            };
            vec![
                device.name,
                device.id,
                output::ago(Some(&device.joined_at), now),
                output::or_dash(device.references),
                output::ago(device.usage_told_at.as_deref(), now),
                kind.to_owned(),
            ]
        };
        let rows = devices.items.into_iter().map(row).collect();
        output::table(&["Name", "Id", "Joined", "References", "Usage told", ""], rows);
        Ok(())
    }
}

impl Revoke {
    fn run(self, home: &Home) -> Done {
        let devices: Listing<DeviceView> = client::get(home, "/v1/account/devices")?;
        let is_meant = |device: &&DeviceView| [&device.id, &device.name].contains(&&self.device);
        let found: Vec<&DeviceView> = devices.items.iter().filter(is_meant).collect();
        let device = match found.as_slice() {
            [device] => *device,
            [] => {
                return Err(Failure::new(format!(
                    "there is no device `{}`; `guillemet account devices` shows which there are",
                    self.device
                )));
            }
            _ => return Err(Failure::new(format!("several devices are called `{}`; give the id of one", self.device))),
        };
        let (id, name) = (&device.id, &device.name);
        prompt::confirm(&format!("Put `{name}` ({id}) out of the account, under new keys?"), self.yes)?;
        let answer = client::fetch(home, Method::DELETE, &format!("/v1/account/devices/{}", part(id)))?;
        if self.json {
            output::json(&answer.json());
            return Ok(());
        }
        let RevokedDevice { secrets, .. } = answer.read()?;
        output::line(&format!("revoked {name}"));
        if devices.items.iter().any(|other| other.recovery && other.id != *id) {
            output::note(
                "recovery codes that were printed before work no longer than the server keeps the account's heads: print a new one with `guillemet account recovery`",
            );
        }
        if secrets.is_empty() {
            return Ok(());
        }
        output::note("it could read these until now; rotate them at their providers:");
        for secret in secrets {
            output::line(&format!("  {secret}"));
        }
        Ok(())
    }
}

impl RecoveryCode {
    fn run(self, home: &Home) -> Done {
        let answer = client::fetch(home, Method::POST, "/v1/account/recovery")?;
        if self.json {
            output::json(&answer.json());
            return Ok(());
        }
        let made: account::RecoveryCode = answer.read()?;
        output::line(&made.code);
        output::note(&format!("made at {}, head {}: {}", made.made_at, made.seq, made.words));
        output::note(
            "keep it on paper, with date and words: whoever has it can read the whole account. `guillemet account join` takes it on an empty machine; `guillemet account revoke` ends it",
        );
        Ok(())
    }
}

impl Repair {
    fn run(self, home: &Home) -> Done {
        let ask = |confirm: Option<&str>| {
            let answer = client::send(home, Method::POST, "/v1/account/repair", None, &RepairAccount { confirm })?;
            client::good(home, answer)
        };
        let answer = ask(None)?;
        let plan: RepairPlan = answer.read()?;
        let what = match plan.action {
            RepairAction::Publish => "this device is further than the server: its state would be published again",
            RepairAction::Adopt => {
                "the server has another state: this device would go over to that, and keep what is only here"
            }
            RepairAction::None => {
                if self.json {
                    output::json(&answer.json());
                } else {
                    output::line("there is nothing to repair");
                }
                return Ok(());
            }
        };
        output::note(&format!("here    head {}: {}", plan.seq, plan.words));
        output::note(&format!("server  head {}: {}", plan.server_seq, plan.server_words));
        output::note(&format!(
            "{what}. Compare the words with `guillemet account status` on your other machines first"
        ));
        prompt::confirm("Go on?", self.yes)?;
        let done = ask(Some(&plan.server_words))?;
        if self.json {
            output::json(&done.json());
        } else {
            output::line("repaired");
        }
        Ok(())
    }
}

impl Status {
    fn run(self, home: &Home) -> Done {
        let answer = client::fetch(home, Method::GET, "/v1/account")?;
        if self.json {
            output::json(&answer.json());
            return Ok(());
        }
        let status: AccountStatus = answer.read()?;
        let Some(account) = status.account else {
            output::line("this vault is in no account");
            return Ok(());
        };
        let now = now() / 1000;
        let mut state = status.state.into_owned();
        if let Some(code) = status.code {
            state.push_str(&format!(" ({code})"));
        }
        let head = match account.seq {
            Some(seq) => format!("{seq}, made {}", output::ago(account.head_made_at.as_deref(), now)),
            None => "none yet".into(),
        };
        for (name, value) in [
            ("State", state),
            ("Account", account.account),
            ("Server", account.server),
            ("Device", format!("{} ({})", account.device_name, account.device)),
            ("Devices", account.devices.to_string()),
            ("Secrets", account.secrets.to_string()),
            ("Head", head),
            ("Words", output::or_dash(account.words)),
            ("Heard", output::ago(account.heard_at.as_deref(), now)),
            ("Pending", account.pending.to_string()),
        ] {
            output::line(&format!("{name:<8} {value}"));
        }
        if let Some(message) = status.message {
            output::note(&message);
        }
        for notice in account.notices {
            output::line(&format!("{}  {}", notice.at, notice.message));
        }
        Ok(())
    }
}

impl Leave {
    fn run(self, home: &Home) -> Done {
        prompt::confirm("Take this device out of the account? Its secrets stay here as they are", self.yes)?;
        let left: LeftAccount = client::fetch(home, Method::DELETE, "/v1/account")?.read()?;
        output::line("left the account; the secrets stay in this vault");
        if !left.told {
            output::note("the account could not be told: revoke this device from another one");
        } else {
            output::note(
                "it knew the account's keys: `guillemet account revoke` of any device on another one makes new ones",
            );
        }
        Ok(())
    }
}
