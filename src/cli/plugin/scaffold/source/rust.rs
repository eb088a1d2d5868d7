//! Writes `src/lib.rs`.

use super::super::fields::{Field, Kind, Place, WHOLE_MAX};
use super::{Plugin, below, list, quoted, snake};

/// The most fields in one table that the macro `json!` takes without a higher limit.
const SMALL: usize = 30;

/// Writes the plugin.
pub fn write(plugin: &Plugin<'_>) -> String {
    let Plugin { name, title, .. } = plugin;
    let has_texts = plugin.has_kind(|kind| matches!(kind, Kind::Text { secret: Some(_), .. }));
    let imports = [
        "Document, Feature, Fields, Target, ",
        if has_texts { "Text, " } else { "" },
        if plugin.tables.is_empty() { "" } else { "Value, " },
        if plugin.encoders().is_empty() { "" } else { "encode, " },
        "json, json_document, present",
    ]
    .concat();
    let most = if plugin.has_kind(|kind| matches!(kind, Kind::Whole { .. })) {
        format!(
            "\n/// The largest whole number that every language keeps; give each field bounds of its own.\nconst MOST: u64 = {WHOLE_MAX};\n"
        )
    } else {
        String::new()
    };
    let is_large =
        plugin.tables.iter().map(|table| table.fields.len()).chain([plugin.fields.len()]).any(|len| len > SMALL);
    let limit = if is_large { "#![recursion_limit = \"1024\"]\n\n" } else { "" };
    let mut text = format!(
        r#"//! {title}: a config becomes JSON with the same fields.

{limit}use guillemet_plugin::{{{imports}}};
{most}
struct Plugin;

guillemet_plugin::export!(Plugin);

impl Feature for Plugin {{
    const FEATURE: &'static str = "{name}";
    const TITLE: &'static str = "{title}";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SCHEMA: &'static str = include_str!("../schema.json");
    const SECRET_FIELDS: &'static [&'static str] = &[{}];
    const TARGETS: &'static [Target] =
        &[Target {{ id: "json", title: "JSON", media_type: "application/json", file_name: "{name}.json" }}];

    fn plan(config: &Fields, _: &str) -> Document {{
        json_document(present(json!({{
{}        }})))
    }}
}}
"#,
        list(&plugin.secret_fields),
        members(plugin, plugin.fields, "", "config", 12)
    );
    for table in plugin.tables.iter().rev() {
        let members = members(plugin, table.fields, &table.path, "fields", 8);
        text.push_str(&format!(
            "\nfn {}(fields: &Fields) -> Value {{\n    present(json!({{\n{members}    }}))\n}}\n",
            snake(&table.words)
        ));
    }
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
            match secret.map(|place| (place, encoder(place))) {
                None => format!("{read}.as_deref()"),
                Some((Place::Plain, _)) => format!("{read}.map(Text::credential).as_deref()"),
                Some((_, encoder)) => format!("{read}.map(Text::credential).map(|text| {encoder}(&text))"),
            }
        }
        Kind::Texts { secret, .. } => {
            let write = match secret.map(|place| (place, encoder(place))) {
                None => "text.get().to_owned()".to_owned(),
                Some((Place::Plain, _)) => "text.credential().get().to_owned()".to_owned(),
                Some((_, encoder)) => format!("{encoder}(&text.credential())"),
            };
            format!("{need}.texts({name}).into_iter().map(|text| {write}).collect::<Vec<_>>()")
        }
        Kind::Flag { .. } => format!("{need}.flag({name})"),
        Kind::Whole { .. } => format!("{need}.number({name}, 0..=MOST)"),
        Kind::Number { .. } | Kind::Values { .. } => format!("{need}.value({name})"),
        Kind::Table(_) => format!("{need}.table({name}).as_ref().map({})", write()),
        Kind::Tables(_) => format!("{need}.tables({name}).iter().map({}).collect::<Vec<_>>()", write()),
    }
}

/// Returns the function that encodes a text for a place.
fn encoder(place: Place) -> &'static str {
    if place == Place::Url { "encode::url" } else { "encode::header_value" }
}
