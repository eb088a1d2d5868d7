//! The demo's templates: one for each built-in feature, each in another format. The pages of the features show them too.

use std::fs;

use crate::cli::Done;
use guillemet_base::files;
use guillemet_base::home::Home;

/// The path under `templates/`, and the text.
const TEMPLATES: [(&str, &str); 4] = [
    ("cal-com/frontdesk.toml", include_str!("../../../templates/cal-com/frontdesk.toml")),
    ("sip-trunk/carrier.yaml", include_str!("../../../templates/sip-trunk/carrier.yaml")),
    ("mcp-server/calendar.jsonc", include_str!("../../../templates/mcp-server/calendar.jsonc")),
    ("custom-action/crm-lookup.json", include_str!("../../../templates/custom-action/crm-lookup.json")),
];

/// Writes them into a home.
///
/// # Errors
/// The system's; and when one is there already.
pub fn write(home: &Home) -> Done {
    for (name, text) in TEMPLATES {
        let path = home.templates().join(name);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        files::write_new(&path, text.as_bytes())?;
    }
    Ok(())
}
