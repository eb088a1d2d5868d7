//! Writes `plugin.c`.

use super::super::fields::{Field, Kind, Place, WHOLE_MAX};
use super::{Plugin, below, list, quoted, snake};

/// Functions that are written where a field needs them.
const TEXT: &str = "
static Json *text_of(Text text) {
  return json_text(text.text);
}
";
const CREDENTIAL: &str = "
// Each of these warns where it is written into the template in the clear.
static Json *credential_of(Text text) {
  check_credential(text);
  return json_text(text.text);
}
";
const HEADER: &str = "
static Json *header_of(Text text) {
  check_credential(text);
  return text.text ? json_text(encode_header_value(text.text)) : NULL;
}
";
const URL: &str = "
static Json *url_of(Text text) {
  check_credential(text);
  return text.text ? json_text(encode_url(text.text)) : NULL;
}
";
const TEXTS: &str = "
static Json *texts_of(List texts, Json *(*write)(Text)) {
  Json *list = json_array();
  for (size_t i = 0; i < texts.count; i++) json_push(list, write(texts.items[i]));
  return list;
}
";
const TABLES: &str = "
static Json *tables_of(Fields **tables, Json *(*write)(Fields *)) {
  Json *list = json_array();
  for (; *tables; tables++) json_push(list, write(*tables));
  return list;
}
";

/// Writes the plugin.
pub fn write(plugin: &Plugin<'_>) -> String {
    let Plugin { name, title, .. } = plugin;
    let has_place = |place| plugin.has_kind(|kind| kind.secret() == Some(place));
    let is_text = |kind: &Kind| matches!(kind, Kind::Text { .. } | Kind::Texts { .. });
    let helpers = [
        (plugin.has_kind(|kind| is_text(kind) && kind.secret().is_none()), TEXT),
        (has_place(Place::Plain), CREDENTIAL),
        (has_place(Place::Header), HEADER),
        (has_place(Place::Url), URL),
        (plugin.has_kind(|kind| matches!(kind, Kind::Texts { .. })), TEXTS),
        (plugin.has_kind(|kind| matches!(kind, Kind::Tables(_))), TABLES),
    ];
    let helpers: String = helpers.iter().filter(|(is_needed, _)| *is_needed).map(|(_, text)| *text).collect();
    let most = if plugin.has_kind(|kind| matches!(kind, Kind::Whole { .. })) {
        format!(
            "\n// The largest whole number that every language keeps; give each field bounds of its own.\nstatic const int64_t MOST = {WHOLE_MAX};\n"
        )
    } else {
        String::new()
    };
    let functions: String = plugin
        .tables
        .iter()
        .map(|table| {
            let members = members(plugin, table.fields, &table.path, "fields");
            format!(
                "\nstatic Json *{}(Fields *fields) {{\n  if (!fields) return NULL;\n  Json *object = json_object();\n{members}  return object;\n}}\n",
                snake(&table.words)
            )
        })
        .collect();
    format!(
        r#"// {title}: a config becomes JSON with the same fields.
#include "guillemet.h"

static const char schema[] = {{
#embed "schema.json"
    , '\0'}};

const Feature feature = {{
    .feature = "{name}",
    .title = "{title}",
    .version = "0.1.0",
    .schema = schema,
    .secret_fields = {{{}}},
    .targets = {{{{"json", "JSON", "application/json", "{name}.json"}}}},
}};
{most}{helpers}{functions}
Document feature_write(Fields *config, const char *target) {{
  (void)target;
  Json *object = json_object();
{}  return json_document(object);
}}
"#,
        list(&plugin.secret_fields),
        members(plugin, plugin.fields, "", "config")
    )
}

fn members(plugin: &Plugin<'_>, fields: &[Field], above: &str, from: &str) -> String {
    let member = |field: &Field| {
        format!("  json_set(object, {}, {});\n", quoted(&field.name), value(plugin, field, above, from))
    };
    fields.iter().map(member).collect()
}

fn value(plugin: &Plugin<'_>, field: &Field, above: &str, from: &str) -> String {
    let name = quoted(&field.name);
    let need = if field.is_required { format!("field_need({from}, {name})") } else { from.to_owned() };
    // A value that has to be there in any case would be written for an absent field too.
    let present = |written: String| match field.is_required {
        true => written,
        false => format!("field_value({from}, {name}) ? {written} : NULL"),
    };
    let write = || snake(plugin.function(&below(above, &field.name)));
    match &field.kind {
        Kind::Text { secret, .. } => {
            let reader = if field.is_required { "field_required" } else { "field_text" };
            format!("{}({reader}({from}, {name}))", writer(*secret))
        }
        Kind::Texts { secret, .. } => format!("texts_of(field_texts({need}, {name}), {})", writer(*secret)),
        Kind::Flag { .. } => present(format!("json_flag(field_flag({need}, {name}, false))")),
        Kind::Whole { .. } => present(format!("json_number(field_number({need}, {name}, 0, MOST, 0))")),
        Kind::Number { .. } | Kind::Values { .. } => format!("(Json *)field_value({need}, {name})"),
        Kind::Table(_) => format!("{}(field_table({need}, {name}))", write()),
        Kind::Tables(_) => format!("tables_of(field_tables({need}, {name}), {})", write()),
    }
}

/// Returns the function that writes a text.
fn writer(secret: Option<Place>) -> &'static str {
    match secret {
        None => "text_of",
        Some(Place::Plain) => "credential_of",
        Some(Place::Header) => "header_of",
        Some(Place::Url) => "url_of",
    }
}
