//! Reads a config as the definition says, and makes values for the documents.

use std::collections::BTreeMap;
use std::sync::Arc;

use guillemet_plugin::{Fields, Text, encode, http};
use minijinja::value::{Enumerator, Object, Serde, Value};
use minijinja::{Error, ErrorKind};

use crate::definition::{Field, Kind};

/// A table of the config. A name that the definition does not have is an error, wherever a document uses it.
#[derive(Debug)]
pub struct Table(BTreeMap<&'static str, Value>);

impl Table {
    /// Returns the values by the names of the fields; an absent field is undefined.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, Value)> {
        self.0.iter().map(|(name, value)| (*name, value.clone()))
    }
}

impl Object for Table {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let name = key.as_str()?;
        Some(self.0.get(name).cloned().unwrap_or_else(|| {
            let known: Vec<_> = self.0.keys().map(|known| format!("`{known}`")).collect();
            let message = format!("there is no field `{name}` here, only {}", known.join(", "));
            Value::from(Error::new(ErrorKind::InvalidOperation, message))
        }))
    }

    /// A document cannot go through the fields of a table: it names them.
    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }
}

/// Reads a table of the config. Everything that is wrong with it goes to its notes. Words of a choice count as text of
/// the document if it is not JSON, since the plugin's author wrote them.
pub fn read(config: &Fields, fields: &'static [Field], json: bool) -> Table {
    Table(fields.iter().map(|field| (field.name.as_str(), value(config, field, json))).collect())
}

fn value(config: &Fields, field: &'static Field, json: bool) -> Value {
    let name = field.name.as_str();
    if field.required {
        config.need(name);
    }
    let is_there = |config: &Fields| config.value(name).is_some();
    // A credential that is written in the template itself is warned about.
    let plain = |text: Text| match field.secret {
        true => Value::from(text.credential().get()),
        false => text.get().into(),
    };
    let value = match &field.kind {
        Kind::Text => config.text(name).map(plain),
        Kind::Url => config.text(name).map(|text| {
            http::check_url(&text);
            // The value is looked at when it is filled in.
            if encode::has_secret(text.get()) { encode::url(text.get()).into() } else { text.get().into() }
        }),
        Kind::Number { minimum, maximum } => config.number(name, *minimum..=*maximum).map(Value::from),
        Kind::Bool => config.flag(name).map(Value::from),
        Kind::Choice(words) => {
            let words: Vec<&'static str> = words.iter().map(String::as_str).collect();
            config.choice(name, &words).map(|word| word_value(word, json))
        }
        Kind::List => is_there(config).then(|| config.texts(name).into_iter().map(plain).collect::<Value>()),
        Kind::Map => is_there(config).then(|| {
            let entries = config.entries(name).into_iter();
            Value::from_pairs(entries.map(|(name, text)| (name, Value::from(text.get()))))
        }),
        Kind::Any => config.value(name).map(|value| Value::from(Serde(value))),
        Kind::Table(fields) => config.table(name).map(|table| Value::from_object(read(&table, fields, json))),
        Kind::Tables(fields) => is_there(config).then(|| {
            let tables = config.tables(name);
            tables.iter().map(|table| Value::from_object(read(table, fields, json))).collect::<Vec<_>>().into()
        }),
    };
    let default = || {
        let default = field.default.as_ref()?;
        Some(match (&field.kind, default.as_str()) {
            (Kind::Choice(_), Some(word)) => word_value(word, json),
            _ => Value::from(Serde(default)),
        })
    };
    value.or_else(default).unwrap_or(Value::UNDEFINED)
}

fn word_value(word: &str, json: bool) -> Value {
    if json { word.into() } else { Value::from_safe_string(word.to_owned()) }
}
