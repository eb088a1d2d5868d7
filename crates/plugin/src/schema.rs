//! Checks the JSON Schema of a plugin for its author: whether it is one, whether it knows the fields that may contain a
//! secret; and makes configs of its examples.
//!
//! A schema is untrusted text. Nothing is fetched for it: references to other documents fail.

mod example;

use boon::{Compiler, Draft, SchemaIndex, Schemas, UrlLoader, ValidationError};
use serde_json::{Map, Value};

pub use self::example::{Example, SECRET, examples};
use guillemet_plan::schema_fields;

/// The most mistakes of one kind that are reported.
const TOLD_MAX: usize = 10;
/// The name under which a schema is compiled.
const PLACE: &str = "https://plugin.invalid/schema";

/// A compiled schema that configs can be checked against.
pub struct Schema {
    schemas: Schemas,
    index: SchemaIndex,
}

/// A loader that knows no other schema.
struct NoLoader;

impl UrlLoader for NoLoader {
    fn load(&self, _: &str) -> Result<Value, Box<dyn std::error::Error>> {
        Err("a plugin's schema must be complete: references to other documents are not loaded".into())
    }
}

impl Schema {
    /// Compiles a schema, by the metaschema that it names, or that of 2020-12.
    ///
    /// # Errors
    /// Returns its mistakes, one sentence each.
    pub fn new(schema: &Value) -> Result<Self, Vec<String>> {
        let mut compiler = Compiler::new();
        compiler.set_default_draft(Draft::V2020_12);
        compiler.use_loader(Box::new(NoLoader));
        let mut schemas = Schemas::new();
        let messages = |error| match error {
            boon::CompileError::ValidationError { src, .. } => messages(&src),
            other => vec![format!("{other:#}").replace(PLACE, "")],
        };
        compiler.add_resource(PLACE, schema.clone()).map_err(messages)?;
        let index = compiler.compile(PLACE, &mut schemas).map_err(messages)?;
        Ok(Self { schemas, index })
    }

    /// Returns the mistakes that the schema finds in a config, one sentence each.
    pub fn mistakes(&self, config: &Map<String, Value>) -> Vec<String> {
        let config = Value::Object(config.clone());
        self.schemas.validate(&config, self.index).map_or_else(|error| messages(&error), |()| Vec::new())
    }
}

/// Returns the innermost findings of an error, one sentence each.
fn messages(error: &ValidationError<'_, '_>) -> Vec<String> {
    fn walk(error: &ValidationError<'_, '_>, messages: &mut Vec<String>) {
        if error.causes.is_empty() {
            let location = error.instance_location.to_string();
            let location = if location.is_empty() { String::new() } else { format!("`{location}`: ") };
            let sentence = format!("{location}{}", error.kind);
            if messages.len() < TOLD_MAX && !messages.contains(&sentence) {
                messages.push(sentence);
            }
        }
        error.causes.iter().for_each(|cause| walk(cause, messages));
    }
    let mut messages = Vec::new();
    walk(error, &mut messages);
    messages
}

/// Returns everything that is wrong with a schema, one sentence each. It has to be a JSON Schema of an object with
/// properties, and to know every field that may contain a secret.
pub fn rules(schema: &Value, secret_fields: &[String]) -> Vec<String> {
    let mut rules = Schema::new(schema).err().unwrap_or_default();
    let is_object = match &schema["type"] {
        Value::String(kind) => kind == "object",
        Value::Array(kinds) => kinds.iter().any(|kind| kind == "object"),
        _ => false,
    };
    if !is_object {
        rules.push("a config is an object: add `\"type\": \"object\"`".into());
    }
    if schema["properties"].as_object().is_none_or(Map::is_empty) {
        rules.push("it has no `properties`: describe the fields of the config".into());
    } else {
        rules.extend(secret_fields.iter().filter_map(|field| schema_fields::field_problem(schema, field)));
    }
    rules
}

#[cfg(test)]
mod tests;
