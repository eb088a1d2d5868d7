//! The `account` commands, for a vault that several machines share. Codes are typed at a prompt or come from standard
//! input, never from an argument, which other users of the machine could read.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use clap::{Args, Subcommand, ValueEnum};
use hyper::Method;
use serde_json::{Value, json};

use super::client::{self, part};
use super::{Done, Failure, account_server, output, prompt};
use guillemet_account::code::{AccountCode, CodeKind, Recovery};
use guillemet_account::fingerprint_words::fingerprint_words;
use guillemet_base::home::Home;
use guillemet_base::time::{now, rfc3339};

#[derive(Subcommand)]
pub enum AccountCommand {
    /// Create an account from this vault, with a code from `account admin create-account`.
    Create(Create),
    /// Create an invitation for one machine, valid for ten minutes.
    Invite(Invite),
    /// Join an account with an invitation, or rejoin with a recovery code.
    Join(Join),
    /// List the devices in the account.
    Devices(Devices),
    /// Revoke a device and re-key the account. Lists the secrets the device could read.
    Revoke(Revoke),
    /// Print a recovery code to keep on paper.
    Recovery(RecoveryCode),
    /// Repair the account after its server was restored from a backup.
    Repair(Repair),
    /// Show sync status: connection, and the newest head with its age and words.
    Status(Status),
    /// Remove this device from the account. Its secrets stay here.
    Leave(Leave),
    /// Run an account server in the foreground.
    Serve(account_server::Serve),
    /// Manage the accounts on a server. Run this where its database is.
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
    /// The name of this device in the account [default: the machine's name].
    #[arg(long)]
    name: Option<String>,
    /// Print the API's JSON response.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Invite {
    /// Print the API's JSON response.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Join {
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
    device: Device,
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

impl SameNames {
    fn name(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Account => "account",
            Self::Mine => "mine",
        }
    }
}

#[derive(Args)]
pub struct Devices {
    /// Print the API's JSON response.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Revoke {
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
pub struct RecoveryCode {
    /// Print the API's JSON response.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Repair {
    /// Do not ask to confirm the words. Pass this only after you compared them.
    #[arg(long)]
    yes: bool,
    /// Print the API's JSON response.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Status {
    /// Print the API's JSON response.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Leave {
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

fn joined(device: &Device, status: &Value) {
    if device.json {
        output::json(status);
        return;
    }
    output::line(&format!(
        "this vault is now in account {} as `{}`, with {} and {}",
        output::text(&status["account"]),
        output::text(&status["device_name"]),
        several(&status["secrets"], "secret"),
        several(&status["devices"], "device"),
    ));
    output::note(&format!("head {}: {}", output::text(&status["seq"]), output::text(&status["words"])));
}

fn several(count: &Value, what: &str) -> String {
    match count.as_u64() {
        Some(1) => format!("1 {what}"),
        _ => format!("{} {what}s", output::text(count)),
    }
}

impl Create {
    fn run(self, home: &Home) -> Done {
        let text = prompt::code("Account creation code")?;
        let found = AccountCode::parse(&text)?.kind();
        if found != CodeKind::Creation {
            return Err(Failure::new(format!("this is {found}; use it with `guillemet account join`")));
        }
        let name = self.device.name.clone().unwrap_or_else(host_name);
        let body = json!({"code": *text, "name": name, "server": self.url});
        joined(&self.device, &client::json(home, Method::POST, "/v1/account", Some(&body))?);
        Ok(())
    }
}

impl Invite {
    fn run(self, home: &Home) -> Done {
        let made = client::json(home, Method::POST, "/v1/account/invitations", None)?;
        if self.json {
            output::json(&made);
            return Ok(());
        }
        output::line(&output::text(&made["code"]));
        let minutes = made["expires_in"].as_u64().unwrap_or_default() / 60;
        output::note(&format!(
            "valid for one machine and {minutes} minutes, while this daemon runs. On that machine, run `guillemet \
             account join` and enter it"
        ));
        Ok(())
    }
}

impl Join {
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
        let mut body = json!({"code": *text, "name": name, "server": self.server});
        if let Some(which) = self.same_names {
            body["all_same_names"] = which.name().into();
        }
        output::note("waiting for the account…");
        let mut answer = client::call(home, Method::POST, "/v1/account", Some(&body))?;
        let names = same_names(&answer.json());
        if answer.status == 409 && !names.is_empty() && std::io::stdin().is_terminal() {
            body["same_names"] = json!(ask_of_each(&names)?);
            answer = client::call(home, Method::POST, "/v1/account", Some(&body))?;
        }
        joined(&self.device, &answer.good(home)?.json());
        Ok(())
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
fn same_names(answer: &Value) -> Vec<String> {
    let entries = answer["errors"].as_array().into_iter().flatten();
    let of_name = |entry: &&Value| entry["field"].as_str().is_some_and(|field| field.starts_with("same_names."));
    entries.filter(of_name).filter_map(|entry| entry["name"].as_str().map(str::to_owned)).collect()
}

/// Asks for each name what happens to it. Returns the API's name of each decision.
fn ask_of_each(names: &[String]) -> Result<BTreeMap<String, &'static str>, Failure> {
    output::note(&format!("{} in this vault and in the account:", several(&names.len().into(), "name")));
    let mut decided = BTreeMap::new();
    for name in names {
        loop {
            let question = format!(
                "  {name} keep [b]oth (this one as {name}-2), the [a]ccount's, or [m]ine as its newest value? "
            );
            let which = match prompt::answer(&question)?.trim() {
                "b" | "both" => SameNames::Both,
                "a" | "account" => SameNames::Account,
                "m" | "mine" => SameNames::Mine,
                _ => continue,
            };
            decided.insert(name.clone(), which.name());
            break;
        }
    }
    Ok(decided)
}

impl Devices {
    fn run(self, home: &Home) -> Done {
        let devices = client::json(home, Method::GET, "/v1/account/devices", None)?;
        if self.json {
            output::json(&devices);
            return Ok(());
        }
        let now = now() / 1000;
        let row = |device: &Value| {
            let kind = match (device["this"] == true, device["recovery"] == true) {
                (true, _) => "this one",
                (_, true) => "recovery code",
                _ => "",
            };
            vec![
                output::text(&device["name"]),
                output::text(&device["id"]),
                output::ago(device["joined_at"].as_str(), now),
                output::text(&device["references"]),
                output::ago(device["usage_told_at"].as_str(), now),
                kind.to_owned(),
            ]
        };
        let rows = devices["items"].as_array().into_iter().flatten().map(row).collect();
        output::table(&["Name", "Id", "Joined", "References", "Usage reported", ""], rows);
        Ok(())
    }
}

impl Revoke {
    fn run(self, home: &Home) -> Done {
        let devices = client::json(home, Method::GET, "/v1/account/devices", None)?;
        let found: Vec<&Value> = devices["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|device| device["id"] == self.device.as_str() || device["name"] == self.device.as_str())
            .collect();
        let device = match found.as_slice() {
            [device] => *device,
            [] => {
                return Err(Failure::new(format!(
                    "there is no device `{}`; run `guillemet account devices` to list them",
                    self.device
                )));
            }
            _ => return Err(Failure::new(format!("several devices are called `{}`; pass the id of one", self.device))),
        };
        let (id, name) = (output::text(&device["id"]), output::text(&device["name"]));
        prompt::confirm(&format!("Revoke `{name}` ({id}) and re-key the account?"), self.yes)?;
        let revoked = client::json(home, Method::DELETE, &format!("/v1/account/devices/{}", part(&id)), None)?;
        if self.json {
            output::json(&revoked);
            return Ok(());
        }
        let secrets: Vec<String> = revoked["secrets"].as_array().into_iter().flatten().map(output::text).collect();
        output::line(&format!("revoked {name}"));
        if devices["items"].as_array().into_iter().flatten().any(|other| other["recovery"] == true && other["id"] != id)
        {
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

impl RecoveryCode {
    fn run(self, home: &Home) -> Done {
        let made = client::json(home, Method::POST, "/v1/account/recovery", None)?;
        if self.json {
            output::json(&made);
            return Ok(());
        }
        output::line(&output::text(&made["code"]));
        output::note(&format!(
            "created at {}, head {}: {}",
            output::text(&made["made_at"]),
            output::text(&made["seq"]),
            output::text(&made["words"])
        ));
        output::note(
            "keep it on paper, with the date and words: anyone who has it can read the whole account. To use it, run \
             `guillemet account join` on a machine without secrets; to invalidate it, run `guillemet account revoke`",
        );
        Ok(())
    }
}

impl Repair {
    fn run(self, home: &Home) -> Done {
        let ask = |confirm: Option<&Value>| {
            client::json(home, Method::POST, "/v1/account/repair", Some(&json!({"confirm": confirm})))
        };
        let plan = ask(None)?;
        let what = match plan["action"].as_str() {
            Some("publish") => "this device has a newer state than the server: it will publish its state again",
            Some("adopt") => {
                "the server has a different state: this device will adopt it, and keep what exists only here"
            }
            _ => {
                if self.json {
                    output::json(&plan);
                } else {
                    output::line("there is nothing to repair");
                }
                return Ok(());
            }
        };
        output::note(&format!("here    head {}: {}", output::text(&plan["seq"]), output::text(&plan["words"])));
        output::note(&format!(
            "server  head {}: {}",
            output::text(&plan["server_seq"]),
            output::text(&plan["server_words"])
        ));
        output::note(&format!(
            "{what}. First compare the words with `guillemet account status` on your other machines"
        ));
        prompt::confirm("Continue?", self.yes)?;
        let done = ask(Some(&plan["server_words"]))?;
        if self.json {
            output::json(&done);
        } else {
            output::line("repaired");
        }
        Ok(())
    }
}

impl Status {
    fn run(self, home: &Home) -> Done {
        let status = client::json(home, Method::GET, "/v1/account", None)?;
        if self.json {
            output::json(&status);
            return Ok(());
        }
        if status["joined"] != true {
            output::line("this vault is not in an account");
            return Ok(());
        }
        let now = now() / 1000;
        let mut state = output::text(&status["state"]);
        if let Some(code) = status["code"].as_str() {
            state.push_str(&format!(" ({code})"));
        }
        let head = match status["seq"].as_u64() {
            Some(seq) => format!("{seq}, created {}", output::ago(status["head_made_at"].as_str(), now)),
            None => "none yet".into(),
        };
        for (name, value) in [
            ("State", state),
            ("Account", output::text(&status["account"])),
            ("Server", output::text(&status["server"])),
            ("Device", format!("{} ({})", output::text(&status["device_name"]), output::text(&status["device"]))),
            ("Devices", output::text(&status["devices"])),
            ("Secrets", output::text(&status["secrets"])),
            ("Head", head),
            ("Words", output::text(&status["words"])),
            ("Contact", output::ago(status["heard_at"].as_str(), now)),
            ("Pending", output::text(&status["pending"])),
        ] {
            output::line(&format!("{name:<8} {value}"));
        }
        if let Some(message) = status["message"].as_str() {
            output::note(message);
        }
        for notice in status["notices"].as_array().into_iter().flatten() {
            output::line(&format!("{}  {}", output::text(&notice["at"]), output::text(&notice["message"])));
        }
        Ok(())
    }
}

impl Leave {
    fn run(self, home: &Home) -> Done {
        prompt::confirm("Remove this device from the account? Its secrets stay here unchanged", self.yes)?;
        let left = client::json(home, Method::DELETE, "/v1/account", None)?;
        output::line("left the account; the secrets stay in this vault");
        if left["told"] != true {
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
