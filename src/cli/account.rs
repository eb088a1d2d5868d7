//! The `account` commands, for a vault that several machines share. Codes are typed at a prompt or come from standard
//! input, never from an argument, which other users of the machine could read.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use clap::{Args, Subcommand, ValueEnum};
use hyper::Method;

use super::client::{ApiResponse, percent_encode};
use super::{Done, Failure, account_server, client, output, prompt};
use guillemet_account::code::{AccountCode, CodeKind, Recovery};
use guillemet_account::fingerprint_words::fingerprint_words;
use guillemet_api::account::{
    AccountStatus, DeviceView, Invitation, JoinAccount, LeftAccount, RepairAccount, RepairAction, RepairPlan,
    RevokedDevice, SameName,
};
use guillemet_api::error::{ErrorBody, ErrorEntry};
use guillemet_api::{Listing, account};
use guillemet_base::home::Home;
use guillemet_base::time::{now, rfc3339};

#[derive(Subcommand)]
pub enum AccountCommand {
    /// Create an account from this vault, with a code from `account admin create-account`.
    Create(AccountCreateArgs),
    /// Create an invitation for one machine, valid for ten minutes.
    Invite(AccountInviteArgs),
    /// Join an account with an invitation, or rejoin with a recovery code.
    Join(AccountJoinArgs),
    /// List the devices in the account.
    Devices(AccountDevicesArgs),
    /// Revoke a device and re-key the account. Lists the secrets the device could read.
    Revoke(AccountRevokeArgs),
    /// Print a recovery code to keep on paper.
    Recovery(AccountRecoveryArgs),
    /// Repair the account after its server was restored from a backup.
    Repair(AccountRepairArgs),
    /// Show sync status: connection, and the newest head with its age and words.
    Status(AccountStatusArgs),
    /// Remove this device from the account. Its secrets stay here.
    Leave(AccountLeaveArgs),
    /// Run an account server in the foreground.
    Serve(account_server::AccountServeArgs),
    /// Manage the accounts on a server. Run this where its database is.
    #[command(subcommand)]
    Admin(account_server::AdminCommand),
}

#[derive(Args)]
pub struct AccountCreateArgs {
    /// The address of the server.
    #[arg(value_name = "https://HOST[:PORT]")]
    url: String,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Args)]
struct DeviceArgs {
    /// The name of this device in the account [default: the machine's name].
    #[arg(long)]
    name: Option<String>,
    /// Print the API's JSON response.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct AccountInviteArgs {
    /// Print the API's JSON response.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct AccountJoinArgs {
    /// The address of the server, if it differs from the one in the code.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// What to do with secrets that are in this vault and in the account. Without this, asks for each.
    #[arg(long, value_name = "WHICH")]
    same_names: Option<SameNames>,
    /// Do not ask to confirm the words of a recovery code.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// What becomes of a secret that is on both sides.
#[derive(Clone, Copy, ValueEnum)]
enum SameNames {
    /// Keep both; rename this vault's to NAME-2.
    Both,
    /// Keep the account's, drop this vault's.
    Account,
    /// Make this vault's value the newest version of the account's.
    Mine,
}

impl From<SameNames> for SameName {
    fn from(choice: SameNames) -> Self {
        match choice {
            SameNames::Both => Self::Both,
            SameNames::Account => Self::Account,
            SameNames::Mine => Self::Mine,
        }
    }
}

#[derive(Args)]
pub struct AccountDevicesArgs {
    /// Print the API's JSON response.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct AccountRevokeArgs {
    /// The id of the device, or its name if that is unique.
    device: String,
    /// Do not ask for confirmation.
    #[arg(long)]
    yes: bool,
    /// Print the API's JSON response.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct AccountRecoveryArgs {
    /// Print the API's JSON response.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct AccountRepairArgs {
    /// Do not ask to confirm the words. Pass this only after you compared them.
    #[arg(long)]
    yes: bool,
    /// Print the API's JSON response.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct AccountStatusArgs {
    /// Print the API's JSON response.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct AccountLeaveArgs {
    /// Do not ask for confirmation.
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

fn print_joined(device: &DeviceArgs, response: &ApiResponse) -> Done {
    if device.json {
        output::json(&response.json()?);
        return Ok(());
    }
    let status: AccountStatus = response.read()?;
    let account = status.account.ok_or_else(not_joined)?;
    output::line(&format!(
        "this vault is now in account {} as `{}`, with {} and {}",
        account.account,
        account.device_name,
        plural(account.secrets, "secret"),
        plural(account.devices, "device"),
    ));
    output::note(&format!("head {}: {}", output::or_dash(account.seq), output::or_dash(account.words)));
    Ok(())
}

fn not_joined() -> Failure {
    Failure::new("this vault is not in an account")
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

impl AccountCreateArgs {
    fn run(self, home: &Home) -> Done {
        let text = prompt::code("Account creation code")?;
        let kind = AccountCode::parse(&text)?.kind();
        if kind != CodeKind::Creation {
            return Err(Failure::new(format!("this is {kind}; use it with `guillemet account join`")));
        }
        let name = self.device.name.clone().unwrap_or_else(host_name);
        let body = JoinAccount::new(&text, &name, Some(&self.url));
        let response = client::send(home, Method::POST, "/v1/account", None, &body)?;
        print_joined(&self.device, &client::error_for_status(home, response)?)
    }
}

impl AccountInviteArgs {
    fn run(self, home: &Home) -> Done {
        let response = client::fetch(home, Method::POST, "/v1/account/invitations")?;
        if self.json {
            output::json(&response.json()?);
            return Ok(());
        }
        let invitation: Invitation = response.read()?;
        output::line(&invitation.code);
        let minutes = invitation.expires_in / 60;
        output::note(&format!(
            "valid for one machine and {minutes} minutes, while this daemon runs. On that machine, run `guillemet \
             account join` and enter it"
        ));
        Ok(())
    }
}

impl AccountJoinArgs {
    fn run(self, home: &Home) -> Done {
        let text = prompt::code("Code")?;
        match AccountCode::parse(&text)? {
            AccountCode::Creation(_) => {
                return Err(Failure::new(format!(
                    "this is {}; use it with `guillemet account create URL`",
                    CodeKind::Creation
                )));
            }
            AccountCode::Recovery(code) => self.confirm(&code)?,
            AccountCode::Invite(_) => {}
        }
        let name = self.device.name.clone().unwrap_or_else(host_name);
        let mut body = JoinAccount::new(&text, &name, self.server.as_deref());
        body.all_same_names = self.same_names.map(Into::into);
        output::note("waiting for the account…");
        let mut response = client::send(home, Method::POST, "/v1/account", None, &body)?;
        let names = response.error().map_or_else(Vec::new, same_names);
        if response.status == 409 && !names.is_empty() && std::io::stdin().is_terminal() {
            body.same_names = ask_for_each(&names)?;
            response = client::send(home, Method::POST, "/v1/account", None, &body)?;
        }
        print_joined(&self.device, &client::error_for_status(home, response)?)
    }

    /// Asks a person whether a recovery code is for the right account, because the state it knows can be old.
    fn confirm(&self, code: &Recovery) -> Done {
        output::note(&format!(
            "this code was created at {}, at head {} of the account: {}",
            rfc3339(code.made_at),
            code.head.seq,
            fingerprint_words(&code.head.hash)
        ));
        output::note("the server could show you a state as old as this, but not an older one");
        prompt::confirm("Do the date and words match those on your paper?", self.yes)
    }
}

/// Returns the names that are in both vaults, if that is what the answer complains about.
fn same_names(error: ErrorBody) -> Vec<String> {
    let is_of_name = |entry: &ErrorEntry| entry.field.as_ref().is_some_and(|field| field.starts_with("same_names."));
    error.errors.into_iter().filter(is_of_name).filter_map(|entry| entry.name).collect()
}

/// Asks for each name what happens to it.
fn ask_for_each(names: &[String]) -> Result<BTreeMap<String, SameName>, Failure> {
    output::note(&format!("{} in this vault and in the account:", plural(names.len(), "name")));
    let mut choices = BTreeMap::new();
    for name in names {
        loop {
            let question = format!(
                "  {name} keep [b]oth (this one as {name}-2), the [a]ccount's, or [m]ine as its newest value? "
            );
            let choice = match prompt::ask(&question)?.trim() {
                "b" | "both" => SameName::Both,
                "a" | "account" => SameName::Account,
                "m" | "mine" => SameName::Mine,
                _ => continue,
            };
            choices.insert(name.clone(), choice);
            break;
        }
    }
    Ok(choices)
}

impl AccountDevicesArgs {
    fn run(self, home: &Home) -> Done {
        let response = client::fetch(home, Method::GET, "/v1/account/devices")?;
        if self.json {
            output::json(&response.json()?);
            return Ok(());
        }
        let devices: Listing<DeviceView> = response.read()?;
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
        output::table(&["Name", "Id", "Joined", "References", "Usage reported", ""], rows);
        Ok(())
    }
}

impl AccountRevokeArgs {
    fn run(self, home: &Home) -> Done {
        let devices: Listing<DeviceView> = client::get(home, "/v1/account/devices")?;
        let is_match = |device: &&DeviceView| [&device.id, &device.name].contains(&&self.device);
        let matching: Vec<&DeviceView> = devices.items.iter().filter(is_match).collect();
        let device = match matching.as_slice() {
            [device] => *device,
            [] => {
                return Err(Failure::new(format!(
                    "there is no device `{}`; run `guillemet account devices` to list them",
                    self.device
                )));
            }
            _ => return Err(Failure::new(format!("several devices are called `{}`; pass the id of one", self.device))),
        };
        let (id, name) = (&device.id, &device.name);
        prompt::confirm(&format!("Revoke `{name}` ({id}) and re-key the account?"), self.yes)?;
        let response = client::fetch(home, Method::DELETE, &format!("/v1/account/devices/{}", percent_encode(id)))?;
        if self.json {
            output::json(&response.json()?);
            return Ok(());
        }
        let RevokedDevice { secrets, .. } = response.read()?;
        output::line(&format!("revoked {name}"));
        if devices.items.iter().any(|other| other.recovery && other.id != *id) {
            output::note(
                "print a new recovery code with `guillemet account recovery`: existing codes stop working when the \
                 server discards the history they were printed at",
            );
        }
        if secrets.is_empty() {
            return Ok(());
        }
        output::note("it could read these secrets until now; rotate them at their providers:");
        for secret in secrets {
            output::line(&format!("  {secret}"));
        }
        Ok(())
    }
}

impl AccountRecoveryArgs {
    fn run(self, home: &Home) -> Done {
        let response = client::fetch(home, Method::POST, "/v1/account/recovery")?;
        if self.json {
            output::json(&response.json()?);
            return Ok(());
        }
        let recovery: account::RecoveryCode = response.read()?;
        output::line(&recovery.code);
        output::note(&format!("created at {}, head {}: {}", recovery.made_at, recovery.seq, recovery.words));
        output::note(
            "keep it on paper, with the date and words: anyone who has it can read the whole account. To use it, run \
             `guillemet account join` on a machine without secrets; to invalidate it, run `guillemet account revoke`",
        );
        Ok(())
    }
}

impl AccountRepairArgs {
    fn run(self, home: &Home) -> Done {
        let ask = |confirm: Option<&str>| {
            let response = client::send(home, Method::POST, "/v1/account/repair", None, &RepairAccount { confirm })?;
            client::error_for_status(home, response)
        };
        let response = ask(None)?;
        let plan: RepairPlan = response.read()?;
        let action = match plan.action {
            RepairAction::Publish => "this device has a newer state than the server: it will publish its state again",
            RepairAction::Adopt => {
                "the server has a different state: this device will adopt it, and keep what exists only here"
            }
            RepairAction::None => {
                if self.json {
                    output::json(&response.json()?);
                } else {
                    output::line("there is nothing to repair");
                }
                return Ok(());
            }
        };
        output::note(&format!("here    head {}: {}", plan.seq, plan.words));
        output::note(&format!("server  head {}: {}", plan.server_seq, plan.server_words));
        output::note(&format!(
            "{action}. First compare the words with `guillemet account status` on your other machines"
        ));
        prompt::confirm("Continue?", self.yes)?;
        let done = ask(Some(&plan.server_words))?;
        if self.json {
            output::json(&done.json()?);
        } else {
            output::line("repaired");
        }
        Ok(())
    }
}

impl AccountStatusArgs {
    fn run(self, home: &Home) -> Done {
        let response = client::fetch(home, Method::GET, "/v1/account")?;
        if self.json {
            output::json(&response.json()?);
            return Ok(());
        }
        let status: AccountStatus = response.read()?;
        let Some(account) = status.account else {
            output::line("this vault is not in an account");
            return Ok(());
        };
        let now = now() / 1000;
        let mut state = status.state.into_owned();
        if let Some(code) = status.code {
            state.push_str(&format!(" ({code})"));
        }
        let head = match account.seq {
            Some(seq) => format!("{seq}, created {}", output::ago(account.head_made_at.as_deref(), now)),
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
            ("Contact", output::ago(account.heard_at.as_deref(), now)),
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

impl AccountLeaveArgs {
    fn run(self, home: &Home) -> Done {
        prompt::confirm("Remove this device from the account? Its secrets stay here unchanged", self.yes)?;
        let left: LeftAccount = client::fetch(home, Method::DELETE, "/v1/account")?.read()?;
        output::line("left the account; the secrets stay in this vault");
        if !left.told {
            output::note("the account could not be notified: revoke this device on another device");
        } else {
            output::note(
                "this device knew the account's keys: to create new keys, revoke any device from another one with \
                 `guillemet account revoke`",
            );
        }
        Ok(())
    }
}
