//! Writes `plugin.py`.

use super::super::fields::{Field, Kind, Place, WHOLE_MAX};
use super::{Plugin, below, list, quoted, snake};

/// Writes the plugin.
pub fn write(plugin: &Plugin<'_>) -> String {
    let Plugin { name, title, .. } = plugin;
    let has_secrets = plugin.has_kind(|kind| kind.secret().is_some());
    let encoders = plugin.encoders();
    let imports = [
        "Document, Feature, Fields, Target, ",
        if has_secrets { "Text, " } else { "" },
        if encoders.is_empty() { "" } else { "encode, " },
        "json_document",
    ]
    .concat();
    let most = if plugin.has_kind(|kind| matches!(kind, Kind::Whole { .. })) {
        format!(
            "\n# The largest whole number that every language keeps; give each field bounds of its own.\nMOST = {WHOLE_MAX}\n"
        )
    } else {
        String::new()
    };
    let mut text = format!(
        r#""""{title}: a config becomes JSON with the same fields."""

from typing import Any

from guillemet import {imports}
{most}

class Plugin(Feature):
    feature = "{name}"
    title = "{title}"
    version = "0.1.0"
    secret_fields = [{}]
    targets = [Target("json", "JSON", "application/json", "{name}.json")]

    def write(self, config: Fields, target: str) -> Document:
        document = {{
{}        }}
        return json_document(present(document))
"#,
        list(&plugin.secret_fields),
        members(plugin, plugin.fields, "", "config", 12)
    );
    for table in plugin.tables.iter().rev() {
        let members = members(plugin, table.fields, &table.path, "fields", 8);
        text.push_str(&format!(
            "\n\ndef {}(fields: Fields | None) -> dict[str, Any] | None:\n    return None if fields is None else present(\n        {{\n{}        }}\n    )\n",
            snake(&table.words),
            members.lines().map(|line| format!("    {line}\n")).collect::<String>()
        ));
    }
    if has_secrets {
        text.push_str(
            r#"

def credential(text: Text | None) -> Text | None:
    """Warns where it is written into the template in the clear."""
    if text:
        text.credential()
    return text
"#,
        );
    }
    for place in encoders {
        let name = encoder(place);
        text.push_str(&format!(
            "\n\ndef {name}(text: str | None) -> str | None:\n    return text and encode.{}(text)\n",
            name.trim_end_matches("_of")
        ));
    }
    text.push_str(
        r#"

def present(fields: dict[str, Any]) -> dict[str, Any]:
    """Without the fields that are absent."""
    return {name: value for name, value in fields.items() if value is not None}
"#,
    );
    text
}

fn members(plugin: &Plugin<'_>, fields: &[Field], above: &str, from: &str, indent: usize) -> String {
    let member = |field: &Field| {
        format!("{}{}: {},\n", " ".repeat(indent), quoted(&field.name), value(plugin, field, above, from))
    };
    fields.iter().map(member).collect()
}

fn value(plugin: &Plugin<'_>, field: &Field, above: &str, from: &str) -> String {
    let name = quoted(&field.name);
    let need = if field.is_required { format!("{from}.need({name})") } else { from.to_owned() };
    let write = || snake(plugin.function(&below(above, &field.name)));
    match &field.kind {
        Kind::Text { secret, .. } => {
            let reader = if field.is_required { "required" } else { "text" };
            let read = format!("{from}.{reader}({name})");
            secret.map_or(read.clone(), |place| credential(place, &read))
        }
        Kind::Texts { secret: Some(place), .. } => {
            format!("[{} for text in {need}.texts({name})]", credential(*place, "text"))
        }
        Kind::Texts { .. } => format!("{need}.texts({name})"),
        Kind::Flag { .. } => format!("{need}.flag({name})"),
        Kind::Whole { .. } => format!("{need}.number({name}, 0, MOST)"),
        Kind::Number { .. } | Kind::Values { .. } => format!("{need}.value({name})"),
        Kind::Table(_) => format!("{}({need}.table({name}))", write()),
        Kind::Tables(_) => format!("[{}(fields) for fields in {need}.tables({name})]", write()),
    }
}

/// Returns the expression that places a credential.
fn credential(place: Place, text: &str) -> String {
    match place {
        Place::Plain => format!("credential({text})"),
        place => format!("{}(credential({text}))", encoder(place)),
    }
}

/// Returns the function that encodes a text for a place.
fn encoder(place: Place) -> &'static str {
    if place == Place::Url { "url_of" } else { "header_value" }
}
