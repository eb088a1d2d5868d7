//! Custom actions: one HTTP request that an agent makes as a tool.
//!
//! `json` is the request as a client should make it, and `curl` a file that makes it. `vapi`, `retell` and `elevenlabs`
//! are tools of those platforms; each module names the documentation it follows and when it was read. Texts may contain
//! `{{variable}}`, which the agent platform fills in for each call: the template's own variables stay as they are, and
//! no secret may add one.

mod action;
mod agent;
mod auth;
mod body;
mod curl;
mod elevenlabs;
mod json;
mod retell;
mod vapi;

use action::Action;
use guillemet_plugin::variables::{BRACES, Expansion, LIQUID_TAGS};
use guillemet_plugin::{Document, Feature, Fields, Target, json_document};

struct CustomAction;

guillemet_plugin::export!(CustomAction);

const JSON: &str = "application/json";

impl Feature for CustomAction {
    const FEATURE: &'static str = "custom-action";
    const TITLE: &'static str = "Custom action";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SCHEMA: &'static str = include_str!("../schema.json");
    const SECRET_FIELDS: &'static [&'static str] = &[
        "url",
        "headers.*",
        "query_params.*",
        "body.**",
        "auth.token",
        "auth.username",
        "auth.password",
        "auth.value",
        "auth.key",
    ];
    const TARGETS: &'static [Target] = &[
        Target { id: "json", title: "HTTP request", media_type: JSON, file_name: "action.json" },
        Target {
            id: "curl",
            title: "curl --config",
            media_type: "text/plain; charset=utf-8",
            file_name: "action.curlrc",
        },
        Target { id: "vapi", title: "Vapi API request", media_type: JSON, file_name: "vapi-tool.json" },
        Target { id: "retell", title: "Retell custom function", media_type: JSON, file_name: "retell-tool.json" },
        Target { id: "elevenlabs", title: "ElevenLabs webhook", media_type: JSON, file_name: "elevenlabs-tool.json" },
    ];

    fn plan(config: &Fields, target: &str) -> Document {
        match target {
            "curl" => Document::Text(curl::write(&Action::read(config, &[]))),
            "vapi" => json_document(vapi::write(&Action::read(config, &[BRACES, LIQUID_TAGS]))),
            "retell" => json_document(retell::write(&Action::read(config, PLATFORM))),
            "elevenlabs" => json_document(elevenlabs::write(&Action::read(config, PLATFORM))),
            _ => json_document(json::write(&Action::read(config, PLATFORM))),
        }
    }
}

/// The variables that agent platforms expand.
const PLATFORM: &[Expansion] = &[BRACES];
