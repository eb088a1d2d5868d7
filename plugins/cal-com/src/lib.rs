//! Cal.com, API v2: availability and bookings.
//!
//! As documented in 2026-07: a key goes out as `Authorization: Bearer`, and every endpoint wants the
//! header `cal-api-version` with a version of its own.

use guillemet_plugin::{Document, Feature, Fields, Map, Target, encode, http, json, json_document, present};

struct CalCom;

guillemet_plugin::export!(CalCom);

/// The version each endpoint is documented with.
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
            id: "env",
            title: "Environment file",
            media_type: "text/plain; charset=utf-8",
            file_name: "cal-com.env",
        },
    ];

    fn plan(config: &Fields, target: &str) -> Document {
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
        let timezone = config.text("timezone");
        let timezone = timezone.map(|zone| {
            zone.check(is_time_zone, "must be a time zone of the IANA database, like Europe/Berlin or UTC")
        });
        let api_versions = api_versions(config);

        if target == "env" {
            let variables = [
                ("CAL_API_KEY", api_key),
                ("CAL_CLIENT_ID", client_id),
                ("CAL_SECRET_KEY", secret_key),
                ("CAL_WEBHOOK_SECRET", webhook_secret),
            ];
            let line =
                |(name, value): (&str, _)| Some(format!("{name}={}\n", encode::dotenv(Option::as_deref(&value)?)));
            return Document::Text(variables.into_iter().filter_map(line).collect());
        }
        json_document(present(json!({
            "base_url": base_url.as_deref().unwrap_or("https://api.cal.com/v2").trim_end_matches('/'),
            "headers": { "Authorization": api_key.map(|key| encode::header_value(&format!("Bearer {}", &*key))) },
            "api_versions": api_versions,
            "event_type_id": event_type_id,
            "timezone": timezone.as_deref(),
            "client_id": client_id.as_deref(),
            "secret_key": secret_key.as_deref(),
            "webhook_secret": webhook_secret.as_deref(),
        })))
    }
}

/// The version of each endpoint, with those the config sets.
fn api_versions(config: &Fields) -> Map<String, guillemet_plugin::Value> {
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

/// The form of a zone's name: an area and places. Which places there are changes every year.
fn is_time_zone(text: &str) -> bool {
    let place = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-+".contains(&b));
    matches!(text, "UTC" | "GMT")
        || text.split_once('/').is_some_and(|(area, places)| AREAS.contains(&area) && places.split('/').all(place))
}
