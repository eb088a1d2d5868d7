//! The `demo` command: shows the main use from beginning to end, in a temporary home, with real parts.
//!
//! Each step says what it does and checks the result. The first failed check ends the demo with exit status 1.

mod account;
mod parts;
mod templates;
use std::path::PathBuf;

use clap::Args;
use hyper::Method;
use serde_json::{Value, json};

use self::parts::{Daemon, Mcp};
use super::client::percent_encode;
use super::temporary::TemporaryHome;
use super::{Done, Failure, client, output};
use guillemet_api::error::{ErrorBody, ErrorEntry};
use guillemet_api::secrets::{ChangedSecret, CreateSecret, SecretView, UpdateSecret};
use guillemet_api::templates::Explanation;
use guillemet_base::home::Home;

/// Values that break careless code, with quotes and with syntax of shells, INI files, XML and templates. Every place
/// that the demo's templates fill accepts the first; only places that allow non-ASCII characters accept the second.
const NASTY: &str = "p\"a'ss;$w&rd <<x>> %>{ \\ #:=|";
const NASTY_UNICODE: &str = "ß→\"';$&<<🔑\\ #";

/// Each rendered config: its template, its target, and how the demo reads it back.
const RENDERED: [(&str, &str, DocumentSyntax); 7] = [
    ("cal-com/frontdesk", "json", DocumentSyntax::Json),
    ("cal-com/frontdesk", "dotenv", DocumentSyntax::Text),
    ("custom-action/crm-lookup", "json", DocumentSyntax::Json),
    ("mcp-server/calendar", "mcp-json", DocumentSyntax::Json),
    ("mcp-server/calendar", "vscode", DocumentSyntax::Json),
    ("sip-trunk/carrier", "livekit", DocumentSyntax::Json),
    ("sip-trunk/carrier", "pjsip", DocumentSyntax::Text),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum DocumentSyntax {
    Json,
    Text,
}

#[derive(Args)]
pub struct DemoArgs {
    /// Show values unmasked.
    #[arg(long)]
    reveal: bool,
    /// The example program `mcp`, a real MCP server and client.
    #[arg(long, value_name = "PROGRAM")]
    mcp: Option<PathBuf>,
}

/// Returns a failure with the text `message` unless a check of the demo holds.
fn ensure(condition: bool, message: &str) -> Done {
    if condition { Ok(()) } else { Err(Failure::new(format!("the demo failed: {message}"))) }
}

fn step(number: usize, text: &str) {
    output::line(&format!("\n{number}. {text}"));
}

/// Returns the rows of the inventory. `query` is empty or begins with `&`.
fn secrets(home: &Home, query: &str) -> Result<Vec<SecretView>, Failure> {
    Ok(client::listing(home, "/v1/secrets", query)?.items)
}

impl DemoArgs {
    pub fn run(self) -> Done {
        let temporary = TemporaryHome::new("demo")?;
        let home = Home::at(temporary.path());
        step(1, "Set up: vault, key, configuration and four templates");
        guillemet_daemon::init(
            &guillemet_base::permissions::TrustedHome::check(&home, false)?,
            &guillemet_vault::keys::UnlockWith::KeyFile(home.key_file()).for_new()?,
        )?;
        templates::write(&home)?;
        let values = values();
        let mcp = match &self.mcp {
            Some(program) => Some(Mcp::start(program, &demanded(&values))?),
            None => None,
        };
        if let Some(mcp) = &mcp {
            parts::set_mcp_url(&home, mcp.url())?;
        }
        let daemon = Daemon::start(&home)?;
        output::line(&format!("   a daemon (pid {}) is running at {}", daemon.pid(), home.socket().display()));

        self.secrets(&home, &values)?;
        self.renders(&home, &values)?;
        step(4, "A real MCP client uses the rendered config against a server that demands its headers and query");
        match &mcp {
            Some(mcp) => {
                let config = render(&home, "mcp-server/calendar", "mcp-json")?;
                let response = mcp.call(&config)?;
                ensure(response.contains("check_availability"), "the MCP server did not accept the credentials")?;
                output::line(&format!("   the server answered: {response}"));
            }
            None => {
                output::line("   skipped: pass --mcp PROGRAM (build it with `cargo build -p guillemet-mcp-example`)")
            }
        }
        self.refusals(&home)?;
        step(7, "The inventory");
        let inventory = secrets(&home, "")?;
        let row = |secret: &SecretView| {
            vec![
                secret.name.clone(),
                secret.status.name().to_owned(),
                secret.usage_count.to_string(),
                output::or_dash(secret.resolution_count),
                output::or_dash(secret.last_used_at.as_ref()),
            ]
        };
        let rows: Vec<Vec<String>> = inventory.iter().map(row).collect();
        output::table(&["Name", "Status", "Usage count", "Uses", "Last used"], rows);
        for secret in inventory {
            ensure(secret.resolution_count > Some(0), "a use was not counted")?;
        }
        step(8, "An account: a server that knows nothing, a second machine, and a rotation that syncs");
        account::show(&home)?;
        drop(daemon);
        output::line(
            "\nEvery step succeeded. The home of this demo was deleted; run `guillemet init` to set up yours.",
        );
        Ok(())
    }

    fn secrets(&self, home: &Home, values: &[(&str, String)]) -> Done {
        let missing = secrets(home, "&status=missing")?;
        step(
            2,
            &format!(
                "{} secrets that the templates reference, with values full of quotes, `;`, `$`, `&` and `<<`",
                missing.len()
            ),
        );
        ensure(missing.len() == values.len(), "the templates reference other secrets than the demo expects")?;
        for (name, value) in values {
            let _: ChangedSecret = client::post(home, "/v1/secrets", &CreateSecret { name, value, enabled: true })?;
            output::line(&format!("   {name}{}", if self.reveal { format!(" = {value}") } else { String::new() }));
        }
        Ok(())
    }

    fn renders(&self, home: &Home, values: &[(&str, String)]) -> Done {
        step(3, "Every template for every target, over the socket, by plugins that never saw a value");
        for (template, target, read) in RENDERED {
            let config = render(home, template, target)?;
            let text = String::from_utf8_lossy(&config).into_owned();
            ensure(!text.contains("<< secret"), "a placeholder was left unfilled")?;
            if read == DocumentSyntax::Json {
                ensure(serde_json::from_slice::<Value>(&config).is_ok(), "a config cannot be parsed")?;
            }
            let explain =
                format!("/v1/templates/{}/explain?target={}", client::template_path(template)?, percent_encode(target));
            let explained: Explanation = client::get(home, &explain)?;
            output::line(&format!("\n   {template} for {target}, {} bytes:", config.len()));
            let document = if self.reveal { text } else { explained.document };
            for line in document.lines() {
                output::line(&format!("   | {line}"));
            }
            for secret in explained.secrets {
                let is_known = values.iter().any(|(name, _)| secret.name == *name);
                ensure(is_known, "a template references a secret that the demo did not create")?;
            }
        }
        let config: Value = serde_json::from_slice(&render(home, "sip-trunk/carrier", "livekit")?)?;
        ensure(config["trunk"]["auth_password"] == *value(values, PASSWORD), "a value was changed on the way")
    }

    fn refusals(&self, home: &Home) -> Done {
        step(5, "A disabled secret refuses the whole config");
        let name = "hubspot-crm-production";
        let enable = |enabled: bool| -> Result<ChangedSecret, Failure> {
            let body = UpdateSecret { enabled: Some(enabled), ..UpdateSecret::default() };
            client::patch(home, &format!("/v1/secrets/{name}"), &body)
        };
        enable(false)?;
        let path = "/v1/render/custom-action/crm-lookup";
        let response = client::call(home, Method::GET, path)?;
        ensure(response.status == 409, "a disabled secret was delivered")?;
        show_refusal(home, &response.read()?);
        enable(true)?;

        step(6, "A secret that a template references is not deleted");
        let response = client::call(home, Method::DELETE, "/v1/secrets/calendar-token-production")?;
        let body: ErrorBody = response.read()?;
        ensure(
            response.status == 409 && first(&body).template.as_deref() == Some("mcp-server/calendar"),
            "a referenced secret was deleted",
        )?;
        show_refusal(home, &body);
        Ok(())
    }
}

/// Returns the first of the things that are wrong.
fn first(body: &ErrorBody) -> ErrorEntry {
    body.errors.first().cloned().unwrap_or_default()
}

fn show_refusal(home: &Home, body: &ErrorBody) {
    output::line(&format!("   {}: {}", body.code, body.message));
    for entry in &body.errors {
        output::line(
            &client::entry_text(Some(&home.templates()), entry).trim_start_matches('\n').replace('\n', "\n  "),
        );
    }
}

fn render(home: &Home, template: &str, target: &str) -> Result<zeroize::Zeroizing<Vec<u8>>, Failure> {
    let path = format!("/v1/render/{}?target={}", client::template_path(template)?, percent_encode(target));
    Ok(client::fetch(home, Method::GET, &path)?.body)
}

/// Returns the name of every secret in the templates, with a value that the places it is used in accept.
fn values() -> Vec<(&'static str, String)> {
    vec![
        // dotenv has no quoting that allows `'` together with these characters, and this template is rendered for
        // dotenv too.
        ("cal-com-booking-production", "cal_\"live\";$w&rd <<x>> %>".into()),
        ("cal-com-webhook-production", "wh'sec;w&rd<<é\n".into()),
        ("calendar-tenant-production", NASTY_UNICODE.into()),
        ("calendar-token-production", NASTY.into()),
        ("calendar-workspace-production", format!("ws {NASTY}")),
        ("gateway-egress-production", format!("{NASTY}\n{NASTY_UNICODE}")),
        ("hubspot-crm-production", format!("pat-{NASTY}")),
        (PASSWORD, format!("{NASTY};--{NASTY_UNICODE}")),
        ("telnyx-user-production", "agent;7@carrier".into()),
    ]
}

/// The name of the secret whose value is read back from a rendered config.
const PASSWORD: &str = "telnyx-password-production";

fn value<'a>(values: &'a [(&str, String)], name: &str) -> &'a str {
    values.iter().find(|(other, _)| *other == name).map_or("", |(_, value)| value.as_str())
}

/// Returns what the MCP server requires in every request.
fn demanded(values: &[(&str, String)]) -> Value {
    json!({
        "headers": {
            "Authorization": format!("Bearer {}", value(values, "calendar-token-production")),
            "X-Workspace-Key": value(values, "calendar-workspace-production"),
        },
        "query": {
            "tenant": value(values, "calendar-tenant-production"),
            "calendar": "frontdesk-berlin",
            "timezone": "Europe/Berlin",
        },
    })
}
