//! Reads JSON (RFC 8259), and JSON with comments and trailing commas.

use jsonc_parser::ast::Value as Ast;
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use serde_json::{Map, Number, Value};

use super::{Tree, TreeBuilder, TreeError, duplicate, not_finite, too_large};

/// A dialect of JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Strictly what RFC 8259 allows.
    Strict,
    /// Also allows comments and trailing commas.
    Comments,
}

pub fn parse(text: &str, dialect: Dialect) -> Result<Tree, Vec<TreeError>> {
    let lenient = dialect == Dialect::Comments;
    let options = ParseOptions {
        allow_comments: lenient,
        allow_trailing_commas: lenient,
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
        .map_err(|error| vec![syntax(&error.kind().to_string(), error.range().start)])?;
    if !lenient {
        check_strict(text).map_err(|error| vec![error])?;
    }
    let Some(root) = parsed.value else {
        return Err(vec![TreeError::new("the text is empty", None)]);
    };
    let mut builder = TreeBuilder::default();
    let root = convert(&mut builder, root).map_err(|error| vec![error])?;
    Ok(Tree { root, places: builder.places })
}

/// Rejects what the lenient parser accepts: control characters in strings, leading zeros.
fn check_strict(text: &str) -> Result<(), TreeError> {
    let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) else { return Ok(()) };
    let line_start = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
    let mut message = error.to_string();
    if let Some(end) = message.rfind(" at line ") {
        message.truncate(end);
    }
    Err(syntax(&message, line_start + error.column().saturating_sub(1)))
}

fn syntax(message: &str, at: usize) -> TreeError {
    let mut message = message.to_owned();
    if let Some(first) = message.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    TreeError::new(format!("not valid JSON: {message}"), Some(at))
}

fn convert(builder: &mut TreeBuilder, ast: Ast<'_>) -> Result<Value, TreeError> {
    let at = ast.range().start;
    builder.enter(at)?;
    Ok(match ast {
        Ast::NullKeyword(_) => Value::Null,
        Ast::BooleanLit(literal) => Value::Bool(literal.value),
        Ast::StringLit(literal) => Value::String(literal.value.into_owned()),
        Ast::NumberLit(literal) => Value::Number(number(literal.value, at)?),
        Ast::Array(array) => {
            let mut items = Vec::with_capacity(array.elements.len());
            for (index, element) in array.elements.into_iter().enumerate() {
                builder.path.push(index.to_string());
                items.push(convert(builder, element)?);
                builder.path.pop();
            }
            Value::Array(items)
        }
        Ast::Object(object) => {
            let mut map = Map::new();
            for property in object.properties {
                let at = property.range.start;
                let key = property.name.into_string();
                if map.contains_key(&key) {
                    return Err(duplicate(&key, Some(at)));
                }
                builder.path.push(key.clone());
                map.insert(key, convert(builder, property.value)?);
                builder.path.pop();
            }
            Value::Object(map)
        }
    })
}

fn number(text: &str, at: usize) -> Result<Number, TreeError> {
    let number: Number = serde_json::from_str(text).map_err(|_| not_finite(at))?;
    let is_integer = !text.contains(['.', 'e', 'E']);
    // serde_json would continue with the nearest double.
    if is_integer && number.is_f64() && text != "-0" { Err(too_large(at)) } else { Ok(number) }
}
