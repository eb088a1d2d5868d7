//! The templates that `guillemet init` writes: one for each built-in feature, each in another format.

/// The path under `templates/`, and the text.
pub const EXAMPLES: [(&str, &str); 4] = [
    ("cal-com/frontdesk.toml", include_str!("../templates/cal-com/frontdesk.toml")),
    ("sip-trunk/carrier.yaml", include_str!("../templates/sip-trunk/carrier.yaml")),
    ("mcp-server/calendar.jsonc", include_str!("../templates/mcp-server/calendar.jsonc")),
    ("custom-action/crm-lookup.json", include_str!("../templates/custom-action/crm-lookup.json")),
];
