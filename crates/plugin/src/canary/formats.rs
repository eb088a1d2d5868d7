//! Decides which format a plan's document has: the one that its target declares, else the one that its encoders write.
//!
//! An encoder of another format is a problem, even if the document could be read: it escapes other characters than the
//! document's format needs. Knows the names of encoders, and nothing of how they write.

use super::readers::ReadableFormat;
use guillemet_plan::encode::Placement;
use guillemet_plan::expr::Expr;
use guillemet_plan::plan::Plan;
use guillemet_plan::protocol::{DocumentKind, Target};

/// The terminal encoders, each with the formats whose readers read back what it writes. The first is its own. The generic
/// `escape` has no row: its table may write values of any format.
#[rustfmt::skip]
const ENCODERS: [(&str, &[ReadableFormat]); 13] = [
    ("xml", &[ReadableFormat::Xml]),
    // Every reader of such lines except docker's, which knows no quotes.
    ("dotenv", &[ReadableFormat::Dotenv, ReadableFormat::SystemdEnv, ReadableFormat::Shell]),
    ("asterisk-value", &[ReadableFormat::Asterisk]),
    ("kamailio-string", &[ReadableFormat::Kamailio]),
    ("baresip-parameter", &[ReadableFormat::Baresip]),
    ("curl-config", &[ReadableFormat::Curl]),
    ("yaml-string", &[ReadableFormat::Yaml]),
    ("toml-string", &[ReadableFormat::Toml]),
    ("ini-value", &[ReadableFormat::Ini]),
    ("shell-word", &[ReadableFormat::Shell]),
    ("systemd-env", &[ReadableFormat::SystemdEnv]),
    ("docker-env", &[ReadableFormat::DockerEnv]),
    ("netrc-token", &[ReadableFormat::Netrc]),
];

/// The media types of formats, without `application/`, `text/` and a `+`.
const MEDIA_TYPES: [(&str, ReadableFormat); 8] = [
    ("json", ReadableFormat::Json),
    ("xml", ReadableFormat::Xml),
    ("yaml", ReadableFormat::Yaml),
    ("x-yaml", ReadableFormat::Yaml),
    ("toml", ReadableFormat::Toml),
    ("x-ini", ReadableFormat::Ini),
    ("x-sh", ReadableFormat::Shell),
    ("x-shellscript", ReadableFormat::Shell),
];

/// The extensions of file names. A name that is nothing but a dot and the extension counts too. Programs with different
/// formats read `.env` files, so the encoders decide between these.
#[rustfmt::skip]
const EXTENSIONS: [(&str, &[ReadableFormat]); 12] = [
    ("json", &[ReadableFormat::Json]),
    ("xml", &[ReadableFormat::Xml]),
    ("yaml", &[ReadableFormat::Yaml]),
    ("yml", &[ReadableFormat::Yaml]),
    ("toml", &[ReadableFormat::Toml]),
    ("ini", &[ReadableFormat::Ini]),
    ("npmrc", &[ReadableFormat::Ini]),
    ("sh", &[ReadableFormat::Shell]),
    ("bash", &[ReadableFormat::Shell]),
    ("netrc", &[ReadableFormat::Netrc]),
    ("curlrc", &[ReadableFormat::Curl]),
    ("env", &[ReadableFormat::Dotenv, ReadableFormat::SystemdEnv, ReadableFormat::DockerEnv, ReadableFormat::Shell]),
];

/// The format of a document, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DocumentFormat {
    /// The format; `None` if nothing tells it.
    pub format: Option<ReadableFormat>,
    /// The encoder that the format was told by; `None` if the target declares the format.
    pub by: Option<&'static str>,
}

/// An encoder of another format than the document's: the number of its slot, and what is wrong.
#[derive(Debug)]
pub struct Mismatch {
    /// The number of the slot, counted from 0.
    pub slot: usize,
    /// What is wrong and what to use instead, as a part of a sentence.
    pub message: String,
}

/// Returns the format of a plan's document with these expressions in its slots.
///
/// # Errors
/// Returns every slot whose encoder does not belong to the format of the document.
pub fn of(plan: &Plan, slots: &[&Expr]) -> Result<DocumentFormat, Vec<Mismatch>> {
    if plan.kind == DocumentKind::Json {
        return Ok(DocumentFormat { format: Some(ReadableFormat::Json), by: None });
    }
    let declared = declared(&plan.target);
    let mut candidates: Option<Vec<ReadableFormat>> = (!declared.is_empty()).then(|| declared.clone());
    let mut by = None;
    let mut mismatches = Vec::new();
    for (slot, expr) in slots.iter().enumerate() {
        let Some((name, formats)) = encoder(expr) else { continue };
        let Some(remaining) = &mut candidates else {
            candidates = Some(formats.to_vec());
            by = Some(name);
            continue;
        };
        let wanted = remaining.first().copied();
        if remaining.iter().any(|format| formats.contains(format)) {
            remaining.retain(|format| formats.contains(format));
        } else if let Some(wanted) = wanted {
            mismatches.push(Mismatch { slot, message: message(name, formats[0], wanted, by) });
        }
    }
    if mismatches.is_empty() {
        let format = candidates.and_then(|candidates| candidates.first().copied());
        Ok(DocumentFormat { format, by })
    } else {
        Err(mismatches)
    }
}

/// Returns the name and the formats of a terminal encoder; `None` for the generic one.
fn encoder(expr: &Expr) -> Option<(&'static str, &'static [ReadableFormat])> {
    let Expr::Apply { op, .. } = expr else { return None };
    if expr.place() != Some(Placement::TextDocument) {
        return None;
    }
    ENCODERS.iter().find(|(name, _)| *name == op.name()).copied()
}

fn message(name: &str, own: ReadableFormat, wanted: ReadableFormat, by: Option<&str>) -> String {
    let (own, wanted_name) = (own.name(), wanted.name());
    match (by, ENCODERS.iter().find(|(_, formats)| formats[0] == wanted)) {
        (Some(by), _) => format!(
            "`{name}` is an encoder for {} {own} document, and `{by}` in the same document is for {} {wanted_name} \
             document",
            article(own),
            article(wanted_name)
        ),
        (None, Some((right, _))) => {
            format!("`{name}` is not an encoder for {} {wanted_name} document; use `{right}`", article(wanted_name))
        }
        (None, None) => format!(
            "`{name}` is not an encoder for {} {wanted_name} document; return the document as {wanted_name} instead of \
             text",
            article(wanted_name)
        ),
    }
}

/// Returns the article of a format's name.
pub fn article(name: &str) -> &'static str {
    if name.starts_with(['A', 'I', 'X']) { "an" } else { "a" }
}

/// Returns the formats that a target declares by its media type or else by its file name; none if neither is known.
fn declared(target: &Target) -> Vec<ReadableFormat> {
    let media_type = target.media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is = |name: &str| {
        let plain = media_type.strip_prefix("application/").or(media_type.strip_prefix("text/"));
        plain == Some(name) || media_type.strip_suffix(name).is_some_and(|rest| rest.ends_with('+'))
    };
    if let Some((_, format)) = MEDIA_TYPES.iter().find(|(name, _)| is(name)) {
        return vec![*format];
    }
    let file_name = target.file_name.to_ascii_lowercase();
    // `.env.production` is such a file too.
    let file_name = if file_name.starts_with(".env.") { ".env" } else { &file_name };
    let extension = file_name.rsplit_once('.').map(|(_, extension)| extension);
    let found = EXTENSIONS.iter().find(|(name, _)| extension == Some(name));
    found.map(|(_, formats)| formats.to_vec()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use guillemet_plan::encode::ENCODERS as ALL;

    #[test]
    fn every_terminal_encoder_has_its_formats() {
        for definition in ALL.iter().filter(|definition| definition.place == Placement::TextDocument) {
            let known = ENCODERS.iter().any(|(name, _)| *name == definition.name) || definition.name == "escape";
            assert!(known, "`{}` needs a row, so that what it writes is read back", definition.name);
        }
    }

    #[test]
    fn a_target_declares_its_format() {
        use ReadableFormat::{Curl, Dotenv, Ini, Json, Netrc, Shell, Toml, Xml, Yaml};
        for (media_type, file_name, expected) in [
            ("application/soap+xml", "a", Some(Xml)),
            ("text/xml; charset=utf-8", "a.txt", Some(Xml)),
            ("application/vnd.x+json", "a", Some(Json)),
            ("application/yaml", "a", Some(Yaml)),
            ("text/plain", "Config.YML", Some(Yaml)),
            ("application/toml", "a", Some(Toml)),
            ("text/plain", "a.toml", Some(Toml)),
            ("text/plain", "a.ini", Some(Ini)),
            ("text/plain", ".npmrc", Some(Ini)),
            ("text/plain", "start.sh", Some(Shell)),
            ("text/plain", ".netrc", Some(Netrc)),
            ("text/plain", "a.curlrc", Some(Curl)),
            ("text/plain", ".env", Some(Dotenv)),
            ("text/plain", ".env.production", Some(Dotenv)),
            ("text/plain", "a.env", Some(Dotenv)),
            ("text/plain", "accounts", None),
            ("text/plain", "pjsip.conf", None),
            ("text/plain", "json", None),
        ] {
            let target = Target {
                id: "t".into(),
                title: "T".into(),
                media_type: media_type.into(),
                file_name: file_name.into(),
                aliases: Vec::new(),
            };
            assert_eq!(declared(&target).first().copied(), expected, "{media_type} {file_name}");
        }
    }
}
