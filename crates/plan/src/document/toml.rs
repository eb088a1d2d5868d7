//! Reads TOML 1. A date or time becomes text, because the tree of a plugin has no such type.

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Tree, TreeBuilder, TreeError, not_finite, too_large};

/// The most mistakes that are reported at once.
const ERRORS_MAX: usize = 20;

pub fn parse(text: &str) -> Result<Tree, Vec<TreeError>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let first_errors = errors.iter().take(ERRORS_MAX).map(|error| {
            TreeError::new(format!("not valid TOML: {}", error.message()), error.span().map(|span| span.start))
        });
        return Err(first_errors.collect());
    }
    let mut builder = TreeBuilder::default();
    let root = self::table(&mut builder, table.into_inner()).map_err(|error| vec![error])?;
    Ok(Tree { root: Value::Object(root), places: builder.places })
}

fn table(builder: &mut TreeBuilder, table: DeTable<'_>) -> Result<Map<String, Value>, TreeError> {
    // The parser sorts keys; a config keeps the order it was written in.
    let mut entries: Vec<_> = table.into_iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let mut map = Map::new();
    for (key, value) in entries {
        let key = key.into_inner().into_owned();
        builder.path.push(key.clone());
        map.insert(key, convert(builder, value)?);
        builder.path.pop();
    }
    Ok(map)
}

fn convert(builder: &mut TreeBuilder, value: Spanned<DeValue<'_>>) -> Result<Value, TreeError> {
    let at = value.span().start;
    builder.enter(at)?;
    Ok(match value.into_inner() {
        DeValue::String(text) => Value::String(text.into_owned()),
        DeValue::Boolean(boolean) => Value::Bool(boolean),
        DeValue::Integer(integer) => {
            i64::from_str_radix(integer.as_str(), integer.radix()).map_err(|_| too_large(at))?.into()
        }
        DeValue::Float(float) => {
            let float = float.as_str().parse().ok().and_then(Number::from_f64);
            Value::Number(float.ok_or_else(|| not_finite(at))?)
        }
        DeValue::Datetime(datetime) => Value::String(datetime.to_string()),
        DeValue::Array(array) => {
            let mut items = Vec::with_capacity(array.len());
            for (index, item) in array.into_iter().enumerate() {
                builder.path.push(index.to_string());
                items.push(convert(builder, item)?);
                builder.path.pop();
            }
            Value::Array(items)
        }
        DeValue::Table(inner) => Value::Object(table(builder, inner)?),
    })
}
