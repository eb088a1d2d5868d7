//! The demo's templates: one for each built-in feature, each in a different format. The documentation pages of the
//! features show them too.

use std::fs;

use crate::cli::Done;
use guillemet_base::files;
use guillemet_base::home::Home;

/// The path of each template under `templates/`, and its text.
const TEMPLATES: [(&str, &str); 4] = [
    ("cal-com/frontdesk.toml", include_str!("../../../templates/cal-com/frontdesk.toml")),
    ("sip-trunk/carrier.yaml", include_str!("../../../templates/sip-trunk/carrier.yaml")),
    ("mcp-server/calendar.jsonc", include_str!("../../../templates/mcp-server/calendar.jsonc")),
    ("custom-action/crm-lookup.json", include_str!("../../../templates/custom-action/crm-lookup.json")),
];

/// Writes the demo's templates into a home.
///
/// # Errors
/// When a file cannot be written, or exists already.
pub fn write(home: &Home) -> Done {
    for (name, text) in TEMPLATES {
        let path = home.templates().join(name);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        files::write_new(&path, text.as_bytes())?;
    }
    Ok(())
}
