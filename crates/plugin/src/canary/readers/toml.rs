//! Reads TOML. Values that are not text are structure, and so are escapes that only TOML 1.1 knows.

use toml_edit::{DocumentMut, Item, TableLike, Value};

use super::{Leaf, error_at};

pub fn read(text: &str) -> Result<Vec<Leaf>, String> {
    let document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
        let at = error.span().map_or(0, |span| span.start);
        error_at(text, at, error.message())
    })?;
    let mut leaves = Vec::new();
    table(document.as_table(), &mut Vec::new(), &mut leaves);
    Ok(leaves)
}

fn table(table: &dyn TableLike, path: &mut Vec<String>, leaves: &mut Vec<Leaf>) {
    leaves.push(Leaf { path: path.clone(), text: String::new(), structure: Some("a table") });
    for (key, entry) in table.iter() {
        path.push(key.to_owned());
        match entry {
            Item::Value(entry) => value(entry, path, leaves),
            Item::Table(entry) => self::table(entry, path, leaves),
            Item::ArrayOfTables(entries) => {
                for (index, entry) in entries.iter().enumerate() {
                    path.push(index.to_string());
                    self::table(entry, path, leaves);
                    path.pop();
                }
            }
            Item::None => {}
        }
        path.pop();
    }
}

fn value(value: &Value, path: &mut Vec<String>, leaves: &mut Vec<Leaf>) {
    let structure = match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push(index.to_string());
                self::value(item, path, leaves);
                path.pop();
            }
            return;
        }
        Value::InlineTable(entries) => return table(entries, path, leaves),
        Value::String(text) => {
            let written = text.display_repr();
            has_new_escape(&written).then_some("a text with an escape that TOML 1.0 does not have")
        }
        _ => Some("not text"),
    };
    let text = value.as_str().map_or_else(|| value.to_string().trim().to_owned(), str::to_owned);
    leaves.push(Leaf { path: path.clone(), text, structure });
}

/// Reports whether a text in double quotes contains `\e` or `\x`.
fn has_new_escape(written: &str) -> bool {
    let mut chars = written.chars();
    while let Some(c) = chars.next().filter(|_| written.starts_with('"')) {
        if c == '\\' && matches!(chars.next(), Some('e' | 'x')) {
            return true;
        }
    }
    false
}
