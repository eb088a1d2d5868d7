//! Fills in a document. In JSON a tag is a value, or text if it stands between quotes; elsewhere, text has to go through
//! a terminal encoder.

use guillemet_plugin::Document;
use jsonc_parser::ast::Value as Ast;
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, Output, UndefinedBehavior};
use serde_json::{Map, Value as Json};

use crate::config::Table;
use crate::definition::{Definition, Target};
use crate::encoders;

/// The name in the table that stands for a value which a JSON document leaves out. Templates cannot contain it.
const ABSENT: &str = "\u{e00f}";

/// Writes the document of a target. The values are those of a config without problems.
///
/// # Errors
/// Returns the mistake of the document's author, with its line in plugin.toml.
pub fn write(plugin: &'static Definition, target: &'static Target, values: Table) -> Result<Document, String> {
    let text = render(plugin, target, values).map_err(|error| {
        let line = target.line + error.line().unwrap_or(1) - 1;
        let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
        format!("{detail} (plugin.toml, line {line})")
    })?;
    if !target.json {
        return Ok(Document::Text(text));
    }
    let json = parse(&text).map_err(|(message, at)| {
        // The lines of what was written need not be those of the document: name the text around it.
        let line = text[..at].matches('\n').count();
        let around = text.lines().nth(line).unwrap_or_default().trim();
        format!("the document of the target `{}` is not JSON: {message}, in: {around}", target.id)
    })?;
    Ok(Document::Json(json.to_string()))
}

fn render(plugin: &'static Definition, target: &'static Target, values: Table) -> Result<String, Error> {
    let mut engine = Environment::empty();
    let syntax = SyntaxConfig::builder()
        .block_delimiters("\u{e000}", "\u{e001}")
        .variable_delimiters("\u{e002}", "\u{e003}")
        .comment_delimiters("\u{e004}", "\u{e005}")
        .keep_trailing_newline(true)
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()?;
    engine.set_syntax(syntax);
    engine.set_auto_escape_callback(|_| AutoEscape::None);
    engine.set_undefined_behavior(UndefinedBehavior::Chainable);
    encoders::add(&mut engine, plugin, target.json);
    engine.add_filter("json_text", |value: Value| {
        let quoted = Json::from(encoders::text(&value)?).to_string();
        Ok::<_, Error>(Value::from_safe_string(quoted[1..quoted.len() - 1].to_owned()))
    });
    let is_json = target.json;
    engine.set_formatter(move |out, _, value| if is_json { json_value(out, value) } else { safe_text(out, value) });
    let mut context: Vec<(&str, Value)> = values.fields().collect();
    context.push(("config", Value::from_object(values)));
    engine.template_from_str(&target.document)?.render(Value::from_pairs(context))
}

/// Writes a value as JSON, unless it already is.
fn json_value(out: &mut Output, value: &Value) -> Result<(), Error> {
    let text = match value.kind() {
        ValueKind::Undefined => format!("{{\"{ABSENT}\": 0}}"),
        ValueKind::Invalid => return Err(invalid(value)),
        _ if value.is_safe() => value.to_string(),
        _ => serde_json::to_string(value).map_err(|error| encoders::wrong(error.to_string()))?,
    };
    out.write_str(&text).map_err(Error::from)
}

/// Writes what cannot be read as syntax: a number, true or false, and what a terminal encoder wrote.
fn safe_text(out: &mut Output, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Invalid => return Err(invalid(value)),
        ValueKind::String if !value.is_safe() => {
            return Err(encoders::wrong(
                "text has to go through an encoder of this format, as the last filter of its tag: `<< FIELD | ENCODER >>`",
            ));
        }
        _ => {}
    }
    out.write_str(&encoders::text(value)?).map_err(Error::from)
}

fn invalid(value: &Value) -> Error {
    encoders::wrong(value.to_string())
}

/// Reads the JSON that was written. Lists and tables may end with a comma, because loops write one behind each item.
fn parse(text: &str) -> Result<Json, (String, usize)> {
    let options = ParseOptions {
        allow_comments: false,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    let parsed = parse_to_ast(text, &CollectOptions::default(), &options)
        .map_err(|error| (error.kind().to_string(), error.range().start))?;
    let root = parsed.value.ok_or_else(|| ("it is empty".to_owned(), 0))?;
    Ok(convert(root)?.unwrap_or(Json::Null))
}

/// Converts JSON, without what is absent.
fn convert(ast: Ast) -> Result<Option<Json>, (String, usize)> {
    let at = ast.range().start;
    Ok(Some(match ast {
        Ast::NullKeyword(_) => Json::Null,
        Ast::BooleanLit(literal) => literal.value.into(),
        Ast::StringLit(literal) => literal.value.into_owned().into(),
        Ast::NumberLit(literal) => {
            serde_json::from_str(literal.value).map_err(|_| (format!("`{}` is not a number", literal.value), at))?
        }
        Ast::Array(array) => {
            let items = array.elements.into_iter().filter_map(|item| convert(item).transpose());
            Json::Array(items.collect::<Result<_, _>>()?)
        }
        Ast::Object(object) => {
            let mut members = Map::new();
            for member in object.properties {
                let name = member.name.into_string();
                if name == ABSENT {
                    return Ok(None);
                }
                if members.contains_key(&name) {
                    return Err((format!("the name `{name}` is there twice"), member.range.start));
                }
                if let Some(value) = convert(member.value)? {
                    members.insert(name, value);
                }
            }
            Json::Object(members)
        }
    }))
}
