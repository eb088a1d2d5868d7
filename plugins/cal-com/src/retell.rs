//! The targets for Retell, which stores the key itself.
//!
//! `retell` is the pair of tools that an agent's `general_tools` had [retell-sdk 5.66.1, 2026-09-11]. Retell has not
//! accepted them since 2026-09-30, and converted existing ones to its Cal.com integration on 2026-10-31
//! [docs.retellai.com/deprecation-notice/2026/10-31_legacy_calcom_tools].
//!
//! `retell-connection` is for that integration: the body of `PATCH /update-app/{app_id}`, which gives a connection its
//! key [retell-sdk 6.2.13, 2026-10-26]. The connection contains the key once, and its tools name the connection. The
//! name of a connection to Cal.com's own hosts is not public, so the connection has to be created in the dashboard.

use guillemet_plugin::variables::{self, BRACES};
use guillemet_plugin::{Fields, Value, encode, json, present};

use crate::Account;

/// Writes the target `retell`: the `general_tools` of an agent.
pub fn tools(config: &Fields, account: &Account) -> Value {
    config.notes().warning(
        "",
        "Retell no longer accepts these tools (since 2026-09-30)",
        Some("connect Cal.com in Retell, and render the target `retell-connection` for its key".into()),
    );
    if account.event_type_id.is_none() && config.value("event_type_id").is_none() {
        config.problem("event_type_id", "is required for Retell's tools");
    }
    keeps_to_itself(config, account);
    let tool = |kind: &str, name: &str, description: &str| {
        present(json!({
            "type": kind,
            "name": name,
            "description": description,
            // Each tool has a separate key, so the secret is placed twice.
            "cal_api_key": account.api_key.as_ref().map(|key| variables::kept(key, &[BRACES])),
            "event_type_id": account.event_type_id,
            "timezone": account.timezone.as_deref(),
        }))
    };
    json!([
        tool("check_availability_cal", "check_availability", "Find free times before you offer one"),
        tool("book_appointment_cal", "book_appointment", "Book the time that was agreed on"),
    ])
}

/// Writes the target `retell-connection`: the key of a connection.
pub fn connection(config: &Fields, account: &Account) -> Value {
    keeps_to_itself(config, account);
    for (name, given) in [("event_type_id", account.event_type_id.is_some()), ("timezone", account.timezone.is_some())]
    {
        if given {
            config.warning(name, "is left out: it belongs to the agent's tools, not to the connection");
        }
    }
    json!({ "auth_config": { "type": "api_key", "api_key": account.api_key.as_deref() } })
}

/// Notes the fields that Retell has no place for. A secret among them is a problem, because it must not get lost.
fn keeps_to_itself(config: &Fields, account: &Account) {
    let credentials = [&account.client_id, &account.secret_key, &account.webhook_secret];
    for text in credentials.into_iter().flatten() {
        if encode::has_secret(text) {
            text.problem("cannot be used with Retell, and a secret must not get lost: keep it in a separate template");
        } else {
            text.warning("is left out: Retell has no such field");
        }
    }
    if let Some(url) = &account.base_url {
        url.warning("is left out: Retell knows the hosts of Cal.com");
    }
    if config.value("api_versions").is_some() {
        config.warning("api_versions", "is left out: Retell chooses the versions itself");
    }
}
