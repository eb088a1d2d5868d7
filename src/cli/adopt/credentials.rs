//! Finds the credentials of a config, and applies the user's choices.
//!
//! Only fields in which the plugin allows a secret are considered, and then names and values decide. Nothing here is
//! final: each finding is shown, and the user can name it or keep it in the clear.

use std::collections::BTreeMap;
use std::ops::Range;

use zeroize::Zeroizing;

use super::config::{ConfigLeaf, ConfigTable, leaves};
use super::detect;
use super::naming::Namer;
use super::source::Problems;
use super::tokens::{Spot, Tokens};
use guillemet_base::names::SecretName;
use guillemet_plan::description::SecretFields;
use guillemet_secret::record::VALUE_MAX;
use guillemet_template::ValueFilter;

const NAMED: &str = "named with --secret";

/// The user's choices about fields.
#[derive(Default)]
pub struct Choices {
    /// The fields that become secrets (`--secret`), with the names of these.
    pub secrets: Vec<(String, SecretName)>,
    /// The fields that stay in the clear (`--keep`).
    pub keep: Vec<String>,
}

impl Choices {
    /// Reports whether the user wants a field to stay in the clear.
    pub fn keeps(&self, field: &str) -> bool {
        self.keep.iter().any(|name| name == field)
    }

    /// Returns the name that the user chose for a field's secret, or `None` if the user chose none.
    pub fn names(&self, field: &str) -> Option<&SecretName> {
        self.secrets.iter().find(|(other, _)| other == field).map(|(_, name)| name)
    }
}

/// A credential that was found in the config.
pub struct Finding {
    /// The path of the field, joined by dots as in options and messages.
    pub field: String,
    /// The bytes of the field's text that the placeholder replaces.
    pub range: Range<usize>,
    /// The filter that makes this text from the value; `None` if it is the value itself.
    pub filter: Option<ValueFilter>,
    /// The plain value, which becomes the secret's value.
    pub value: Zeroizing<String>,
    /// The name of the secret that holds the value.
    pub name: SecretName,
    /// Whether that secret exists already.
    pub exists: bool,
    /// The reason it counts as a credential, for the user.
    pub reason: &'static str,
    /// The place of the value in the file; `None` if it has none that can be replaced.
    pub spot: Option<Spot>,
}

/// The findings by the path of their field, in the order of its text.
pub type FindingsByField = BTreeMap<Vec<String>, Vec<Finding>>;

/// A credential that has no name yet. The fields are those of [`Finding`].
pub struct UnnamedCredential {
    pub range: Range<usize>,
    pub filter: Option<ValueFilter>,
    pub value: Zeroizing<String>,
    /// The purpose, in the words of a secret's name, such as `token`.
    pub purpose: String,
    pub reason: &'static str,
    spot: Option<Spot>,
}

/// Finds the credentials in every text of a config and names them. Adds everything that is wrong to `problems`.
pub fn find(
    config: &ConfigTable,
    fields: &SecretFields,
    choices: &Choices,
    namer: &mut Namer,
    tokens: &Tokens,
    problems: &mut Problems<'_>,
) -> FindingsByField {
    let mut findings = FindingsByField::new();
    let leaves = leaves(config);
    add_unknown_fields(&leaves, choices, problems);
    for (path, leaf) in &leaves {
        let field = path.join(".");
        let at = leaf.spot.as_ref().map(|spot| tokens.offset(spot));
        if holds_placeholder(&leaf.text) {
            let help = "its value is already in the vault; adopt the file that still contains the value";
            problems.add(at, &field, "contains a Guillemet placeholder", Some(help));
            continue;
        }
        if choices.keeps(&field) {
            continue;
        }
        let chosen = choices.names(&field);
        if chosen.is_some() && !fields.allow(path) {
            problems.add(at, &field, "cannot be a secret", Some(&fields.help()));
            continue;
        }
        let candidates = if fields.allow(path) { candidates(path, leaf, chosen.is_some()) } else { Vec::new() };
        if chosen.is_some() && candidates.len() > 1 {
            let help =
                "let adopt choose their names; to change them later, run `guillemet secret edit NAME --rename NEW`";
            problems.add(at, &field, format!("contains {} credentials, not one", candidates.len()), Some(help));
            continue;
        }
        let mut field_findings = Vec::new();
        for candidate in candidates {
            if candidate.value.len() > VALUE_MAX {
                let message = format!("is larger than {VALUE_MAX} bytes, the maximum for a secret");
                problems.add(at, &field, message, Some("leave it in the clear with --keep"));
                continue;
            }
            let (name, exists) = namer.name(chosen, &candidate.purpose, &candidate.value);
            let UnnamedCredential { range, filter, value, reason, spot, .. } = candidate;
            field_findings.push(Finding { field: field.clone(), range, filter, value, name, exists, reason, spot });
        }
        if !field_findings.is_empty() {
            findings.insert(path.clone(), field_findings);
        }
    }
    for problem in namer.problems() {
        problems.add(None, "", problem, Some("choose another name"));
    }
    if findings.is_empty() && problems.is_empty() {
        let field_names: Vec<String> =
            leaves.iter().filter(|(path, _)| fields.allow(path)).map(|(path, _)| path.join(".")).collect();
        let help = match field_names.as_slice() {
            [] => fields.help(),
            _ => format!("choose a field with --secret FIELD=NAME; fields: {}", field_names.join(", ")),
        };
        problems.add(None, "", "nothing in it looks like a credential", Some(&help));
    }
    findings
}

/// Reports whether a text contains a placeholder of a template, or a mark that `adopt --replace` leaves in place of a
/// value.
fn holds_placeholder(text: &str) -> bool {
    let mut placeholders = text.split('«').skip(1).filter_map(|after| after.split_once('»'));
    text.contains("<< secret ") || placeholders.any(|(name, _)| name.parse::<SecretName>().is_ok())
}

/// Adds a problem for each choice about a field that the config does not have, and for each field that is chosen both
/// ways.
fn add_unknown_fields(leaves: &[(Vec<String>, &ConfigLeaf)], choices: &Choices, problems: &mut Problems<'_>) {
    let fields: Vec<String> = leaves.iter().map(|(path, _)| path.join(".")).collect();
    let options = choices.secrets.iter().map(|(field, _)| ("--secret", field));
    for (option, field) in options.chain(choices.keep.iter().map(|field| ("--keep", field))) {
        if !fields.contains(field) {
            let help = format!("fields: {}", fields.join(", "));
            problems.add(None, "", format!("{option} names the field `{field}`, which has no text"), Some(&help));
        }
    }
    for (field, _) in &choices.secrets {
        if choices.keeps(field) {
            problems.add(None, "", format!("`{field}` is in both --secret and --keep"), Some("remove one of them"));
        }
    }
}

/// Returns the credentials in a text: those that its hints name, or else the text itself if its field's name or its look
/// say that it is one. `is_named` says that the user wants it to be one.
pub fn candidates(path: &[String], leaf: &ConfigLeaf, is_named: bool) -> Vec<UnnamedCredential> {
    let full = 0..leaf.text.len();
    let name = path.last().map_or("", String::as_str);
    let spot = |range: &Range<usize>| leaf.spot.as_ref().map(|spot| spot.part(range));
    let of_text = |reason| UnnamedCredential {
        range: full.clone(),
        filter: None,
        value: leaf.text.clone(),
        purpose: detect::words(name).join("-"),
        reason,
        spot: leaf.spot.clone(),
    };
    if leaf.text.is_empty() {
        return Vec::new();
    }
    if leaf.hints.is_empty() {
        let reason = if is_named { Some(NAMED) } else { detect::credential_reason(name, &leaf.text) };
        return reason.map(of_text).into_iter().collect();
    }
    let hinted = leaf.hints.iter().map(|hint| UnnamedCredential {
        range: hint.range.clone(),
        filter: hint.filter,
        value: hint.value.clone().unwrap_or_else(|| Zeroizing::new(leaf.text[hint.range.clone()].to_owned())),
        purpose: hint.purpose.clone(),
        reason: hint.reason,
        spot: hint.spot.clone().or_else(|| spot(&hint.range)),
    });
    let mut candidates: Vec<UnnamedCredential> = hinted.collect();
    candidates.sort_by_key(|candidate| candidate.range.start);
    candidates
}
