//! Cal.com, API v2: availability and bookings.
//!
//! As documented in 2026-07 [cal.com/docs/api-reference/v2]: a key is sent as `Authorization: Bearer`, and every
//! endpoint needs the header `cal-api-version` with a version of its own. Bookings are also documented with 2026-02-25,
//! which takes another body, so a client selects it with `api_versions`.
//!
//! `dotenv`, formerly called `env` (`x-target-aliases` of schema.json), contains only the credentials. `retell` writes
//! for Retell.

mod retell;

use guillemet_plugin::{
    Document, Feature, Fields, Map, Target, Text, Value, encode, http, json, json_document, present,
};

struct CalCom;

guillemet_plugin::export!(CalCom);

/// The version that each endpoint is documented with.
const API_VERSIONS: [(&str, &str); 4] =
    [("slots", "2024-09-04"), ("bookings", "2024-08-13"), ("event-types", "2024-06-14"), ("me", "2024-06-14")];

/// The areas of the IANA time zone database.
const AREAS: [&str; 11] = [
    "Africa",
    "America",
    "Antarctica",
    "Arctic",
    "Asia",
    "Atlantic",
    "Australia",
    "Europe",
    "Indian",
    "Pacific",
    "Etc",
];

impl Feature for CalCom {
    const FEATURE: &'static str = "cal-com";
    const TITLE: &'static str = "Cal.com";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SCHEMA: &'static str = include_str!("../schema.json");
    const SECRET_FIELDS: &'static [&'static str] = &["api_key", "client_id", "secret_key", "webhook_secret"];
    const TARGETS: &'static [Target] = &[
        Target { id: "json", title: "HTTP client", media_type: "application/json", file_name: "cal-com.json" },
        Target {
            id: "dotenv",
            title: "dotenv file",
            media_type: "text/plain; charset=utf-8",
            file_name: "cal-com.env",
        },
        Target {
            id: "retell",
            title: "Retell: the two built-in tools",
            media_type: "application/json",
            file_name: "retell-tools.json",
        },
        Target {
            id: "retell-connection",
            title: "Retell: the connection to Cal.com",
            media_type: "application/json",
            file_name: "retell-connection.json",
        },
    ];

    fn plan(config: &Fields, target: &str) -> Document {
        let account = Account::read(config);
        match target {
            "dotenv" => account.dotenv(),
            "retell" => json_document(retell::tools(config, &account)),
            "retell-connection" => json_document(retell::connection(config, &account)),
            _ => json_document(account.json()),
        }
    }
}

/// The fields of the config, read once for every target.
struct Account<'a> {
    api_key: Option<Text<'a>>,
    client_id: Option<Text<'a>>,
    secret_key: Option<Text<'a>>,
    webhook_secret: Option<Text<'a>>,
    base_url: Option<Text<'a>>,
    event_type_id: Option<u64>,
    timezone: Option<Text<'a>>,
    api_versions: Map<String, Value>,
}

impl<'a> Account<'a> {
    fn read(config: &Fields<'a>) -> Self {
        let api_key = config.required("api_key").map(|key| key.credential());
        let client_id = config.text("client_id");
        let secret_key = config.text("secret_key").map(|key| key.credential());
        let webhook_secret = config.text("webhook_secret").map(|secret| secret.credential());
        if secret_key.is_some() && client_id.is_none() {
            config.problem("client_id", "is required beside `secret_key`: together they are the OAuth client");
        }
        let base_url = config.text("base_url");
        base_url.as_ref().inspect(|url| http::check_url(url));
        let event_type_id = config.number("event_type_id", 1..=u64::MAX);
        let timezone = config.text("timezone").map(|zone| {
            zone.check(is_time_zone, "must be a time zone of the IANA database, like Europe/Berlin or UTC")
        });
        let api_versions = api_versions(config);
        Self { api_key, client_id, secret_key, webhook_secret, base_url, event_type_id, timezone, api_versions }
    }

    /// Writes the target `dotenv`.
    fn dotenv(&self) -> Document {
        let variables = [
            ("CAL_API_KEY", &self.api_key),
            ("CAL_CLIENT_ID", &self.client_id),
            ("CAL_SECRET_KEY", &self.secret_key),
            ("CAL_WEBHOOK_SECRET", &self.webhook_secret),
        ];
        let line =
            |(name, value): (&str, &Option<Text>)| Some(format!("{name}={}\n", encode::dotenv(value.as_deref()?)));
        Document::Text(variables.into_iter().filter_map(line).collect())
    }

    /// Writes the target `json`: what an HTTP client needs.
    fn json(self) -> Value {
        let authorization = self.api_key.map(|key| encode::header_value(&format!("Bearer {}", &*key)));
        present(json!({
            "base_url": self.base_url.as_deref().unwrap_or("https://api.cal.com/v2").trim_end_matches('/'),
            "headers": { "Authorization": authorization },
            "api_versions": self.api_versions,
            "event_type_id": self.event_type_id,
            "timezone": self.timezone.as_deref(),
            "client_id": self.client_id.as_deref(),
            "secret_key": self.secret_key.as_deref(),
            "webhook_secret": self.webhook_secret.as_deref(),
        }))
    }
}

/// Returns the version of each endpoint: the config's, or else the default.
fn api_versions(config: &Fields) -> Map<String, Value> {
    let table = config.table("api_versions");
    let version = |(endpoint, default): (&'static str, &'static str)| {
        let own = table.as_ref().and_then(|table| table.text(endpoint));
        let own = own.map(|text| text.check(is_date, "must be a date like 2024-09-04"));
        (endpoint.to_owned(), json!(own.as_deref().unwrap_or(default)))
    };
    API_VERSIONS.into_iter().map(version).collect()
}

fn is_date(text: &str) -> bool {
    text.len() == 10
        && text.bytes().enumerate().all(|(i, b)| if matches!(i, 4 | 7) { b == b'-' } else { b.is_ascii_digit() })
}

/// Returns whether a text has the form of a time zone's name: an area and places. Does not check the places, because
/// their list changes every year.
fn is_time_zone(text: &str) -> bool {
    let place = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-+".contains(&b));
    matches!(text, "UTC" | "GMT")
        || text.split_once('/').is_some_and(|(area, places)| AREAS.contains(&area) && places.split('/').all(place))
}
