//! The targets of plugin.toml, and its tables for the encoder `escape`.

use super::definition::{Escape, Target};
use super::documents::{self, Names};
use super::fields::Declared;
use super::section::Section;
use guillemet_plan::encode::{CharacterSet, EscapeTable};

/// Reads the list `target`.
pub fn read(root: &Section, fields: &[Declared], escapes: &[Escape]) -> Vec<Target> {
    let sections = root.tables("target");
    if sections.is_empty() {
        root.problem(
            "target",
            "has to declare a target at least",
            Some("[[target]] with `id`, `file_name`, `document`"),
        );
    }
    let fields: Vec<_> = fields.iter().map(|field| &field.field).collect();
    let names = Names { fields: &fields, escapes };
    sections.iter().map(|section| one(section, &names)).collect()
}

fn one(section: &Section, names: &Names) -> Target {
    let id = section.required_text("id").unwrap_or_default().to_owned();
    let file_name = section.required_text("file_name").unwrap_or_default().to_owned();
    let media_type = section.text("media_type").unwrap_or_else(|| media_type(&file_name)).to_owned();
    let json = media_type == "application/json" || media_type.ends_with("+json");
    let line = section.first_line("document") as usize;
    let document = section.required_text("document").map(|text| documents::prepare(section, text, names, json));
    Target {
        title: section.text("title").unwrap_or(&id).to_owned(),
        document: document.unwrap_or_default(),
        id,
        media_type,
        file_name,
        json,
        line,
    }
}

/// Returns the usual media type of a file.
fn media_type(file_name: &str) -> &'static str {
    match file_name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "json" => "application/json",
        "yaml" | "yml" => "application/yaml",
        "toml" => "application/toml",
        "xml" => "application/xml",
        "sh" => "text/x-sh",
        _ => "text/plain",
    }
}

/// Reads the tables `escapes.NAME`.
pub fn escapes(root: &Section) -> Vec<Escape> {
    root.entries("escapes").into_iter().map(|(name, section)| escape(root, name, &section)).collect()
}

fn escape(root: &Section, name: &str, section: &Section) -> Escape {
    let mut replacements = Vec::new();
    for (character, text) in section.texts("replace") {
        let mut characters = character.chars();
        match (characters.next(), characters.next()) {
            (Some(character), None) => replacements.push((character, text.to_owned())),
            _ => section.problem("replace", format!("{character:?} is not one character"), None),
        }
    }
    let mut refused = Vec::new();
    for entry in section.tables("refuse") {
        let characters = entry.required_text("characters");
        let reason = entry.required_text("reason");
        let (Some(characters), Some(reason)) = (characters, reason) else { continue };
        let set = CharacterSet(characters.to_owned());
        if !set.is_valid() {
            entry.problem("characters", "is not a set of characters", Some("write it as `A-Za-z0-9_-`"));
        }
        refused.push((set, reason.to_owned()));
    }
    let opening = section.any_text("opening").unwrap_or_default().to_owned();
    let closing = section.any_text("closing").unwrap_or_default().to_owned();
    let table = EscapeTable { opening, closing, replacements, refused };
    if let Err(rule) = table.check() {
        root.problem(&format!("escapes.{name}"), format!("is a table {rule}"), None);
    }
    Escape {
        name: name.to_owned(),
        opening: table.opening,
        closing: table.closing,
        replacements: table.replacements,
        refused: table.refused.into_iter().map(|(set, reason)| (set.0, reason)).collect(),
    }
}
