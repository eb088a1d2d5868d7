//! Writes `plugin.js`.

use super::super::fields::{Field, Kind, Place, WHOLE_MAX};
use super::{Plugin, below, list, quoted};

/// Writes the plugin.
pub fn write(plugin: &Plugin<'_>) -> String {
    let Plugin { name, title, .. } = plugin;
    let most = if plugin.has_kind(|kind| matches!(kind, Kind::Whole { .. })) {
        format!(
            "\n// The largest whole number that every language keeps; give each field bounds of its own.\nconst MOST = {WHOLE_MAX};\n"
        )
    } else {
        String::new()
    };
    let encoders = plugin.encoders();
    let imports = if encoders.is_empty() { "json" } else { "encode, json" };
    let mut text = format!(
        r#"// {title}: a config becomes JSON with the same fields.
import {{ {imports} }} from "./guillemet.js";
{most}
export default {{
  feature: "{name}",
  title: "{title}",
  secretFields: [{}],
  targets: [{{ id: "json", title: "JSON", mediaType: "application/json", fileName: "{name}.json" }}],

  plan(config) {{
    return json({{
{}    }});
  }},
}};
"#,
        list(&plugin.secret_fields),
        members(plugin, plugin.fields, "", "config", 6)
    );
    for place in encoders {
        let name = encoder(place);
        text.push_str(&format!(
            "\nconst {name} = (text) => text && encode.{}(text.text);\n",
            name.trim_end_matches("Of")
        ));
    }
    for table in plugin.tables.iter().rev() {
        let function = camel(&table.words);
        let members = members(plugin, table.fields, &table.path, "fields", 4);
        text.push_str(&format!("\nfunction {function}(fields) {{\n  return fields && {{\n{members}  }};\n}}\n"));
    }
    text
}

fn members(plugin: &Plugin<'_>, fields: &[Field], above: &str, from: &str, indent: usize) -> String {
    let member =
        |field: &Field| format!("{}{}: {},\n", " ".repeat(indent), key(&field.name), value(plugin, field, above, from));
    fields.iter().map(member).collect()
}

fn value(plugin: &Plugin<'_>, field: &Field, above: &str, from: &str) -> String {
    let name = quoted(&field.name);
    let need = if field.is_required { format!("{from}.need({name})") } else { from.to_owned() };
    let write = || camel(plugin.function(&below(above, &field.name)));
    match &field.kind {
        Kind::Text { secret, .. } => {
            let reader = if field.is_required { "required" } else { "text" };
            let read = format!("{from}.{reader}({name})");
            match secret {
                None => format!("{read}?.text"),
                Some(Place::Plain) => format!("{read}?.credential().text"),
                Some(place) => format!("{}({read}?.credential())", encoder(*place)),
            }
        }
        Kind::Texts { secret: Some(Place::Plain), .. } => {
            format!("{need}.texts({name}).map((text) => text.credential().text)")
        }
        Kind::Texts { secret: Some(place), .. } => {
            format!("{need}.texts({name}).map((text) => {}(text.credential()))", encoder(*place))
        }
        Kind::Texts { .. } => format!("{need}.texts({name}).map(String)"),
        Kind::Flag { .. } => format!("{need}.flag({name})"),
        Kind::Whole { .. } => format!("{need}.number({name}, 0, MOST)"),
        Kind::Number { .. } | Kind::Values { .. } => format!("{need}.value({name})"),
        Kind::Table(_) => format!("{}({need}.table({name}))", write()),
        Kind::Tables(_) => format!("{need}.tables({name}).map({})", write()),
    }
}

/// Returns the function that encodes a text for a place.
fn encoder(place: Place) -> &'static str {
    if place == Place::Url { "urlOf" } else { "headerValue" }
}

/// Returns `writeAuthToken`.
fn camel(words: &[String]) -> String {
    let capital = |word: &String| {
        let (first, rest) = word.split_at(1);
        first.to_ascii_uppercase() + rest
    };
    format!("write{}", words.iter().map(capital).collect::<String>())
}

fn key(name: &str) -> String {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '$');
    let is_bare = begins && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$');
    if is_bare { name.to_owned() } else { quoted(name) }
}
