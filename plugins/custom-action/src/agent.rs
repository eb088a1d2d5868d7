//! The parameters that the agent passes to the tool, and where a platform puts them.
//!
//! The config mentions each twice: `parameters` describes it, and `{{name}}` says where it goes. On the platforms, the
//! agent fills in fields of the body, so a text that is exactly one parameter becomes such a field.

use std::cell::RefCell;

use guillemet_plugin::variables::{self, Piece};
use guillemet_plugin::{Fields, Map, Text, Value, json};

use crate::body::{Node, RequestBody};

/// The `parameters` of the config, a JSON Schema.
pub struct Parameters<'a> {
    schema: Option<&'a Map<String, Value>>,
    placed: RefCell<Vec<&'a str>>,
}

/// A body in the form that the platforms know.
pub struct Split<'a> {
    /// The fields that the agent fills in: their schemas by name. `required` lists those that it has to.
    pub passed: Map<String, Value>,
    pub required: Vec<String>,
    /// The fields that are the same for every call.
    pub fixed: Vec<(&'a str, Node<'a>)>,
}

impl<'a> Parameters<'a> {
    /// Reads the JSON Schema of the config.
    pub fn read(config: &Fields<'a>) -> Self {
        let schema = config.value("parameters");
        if schema.is_some_and(|schema| schema.get("type").and_then(Value::as_str) != Some("object")) {
            config.problem("parameters", "must be a JSON Schema whose `type` is \"object\"");
        }
        Self { schema: schema.and_then(Value::as_object), placed: RefCell::default() }
    }

    /// Returns the schema as the config has it.
    pub fn schema(&self) -> Option<&'a Map<String, Value>> {
        self.schema
    }

    fn properties(&self) -> Option<&'a Map<String, Value>> {
        self.schema?.get("properties")?.as_object()
    }

    /// Returns the parameter that a text consists of, and marks it as placed.
    pub fn place(&self, text: &str) -> Option<(&'a str, &'a Value)> {
        let name = variables::whole(text)?;
        let (name, schema) = self.properties()?.get_key_value(name)?;
        self.placed.borrow_mut().push(name);
        Some((name, schema))
    }

    /// Returns whether the agent has to pass a parameter.
    pub fn is_required(&self, name: &str) -> bool {
        let required = self.schema.and_then(|schema| schema.get("required")?.as_array());
        required.is_some_and(|names| names.iter().any(|known| known == name))
    }

    /// Returns the parameters that have no place yet.
    pub fn rest(&self) -> Vec<(&'a str, &'a Value)> {
        let placed = self.placed.borrow();
        let all = self.properties().into_iter().flatten().map(|(name, schema)| (name.as_str(), schema));
        all.filter(|(name, _)| !placed.contains(name)).collect()
    }

    /// Splits a body into fields that are exactly one parameter, and all others. Parameters without a place become
    /// fields too.
    pub fn split(&self, body: Option<&RequestBody<'a>>, who: &str) -> Split<'a> {
        let mut split = Split { passed: Map::new(), required: Vec::new(), fixed: Vec::new() };
        for (field, node) in body.map(|body| body.fields(who)).unwrap_or_default() {
            match node.value.as_str().and_then(|text| self.place(text)) {
                Some((name, schema)) => split.pass(field, schema, self.is_required(name)),
                None => split.fixed.push((field, node)),
            }
        }
        for (name, schema) in self.rest() {
            split.pass(name, schema, self.is_required(name));
        }
        split
    }

    /// Warns if a text names a parameter that the platform does not fill in there.
    pub fn warn(&self, text: &Text, who: &str) {
        let Some(properties) = self.properties() else { return };
        for piece in variables::pieces(text) {
            if let Piece::Variable(name) = piece
                && properties.contains_key(name)
            {
                let message =
                    format!("contains `{{{{{name}}}}}`, which the agent passes: {who} sends it as a field of the body");
                text.warning(message);
            }
        }
    }
}

impl Split<'_> {
    fn pass(&mut self, field: &str, schema: &Value, required: bool) {
        self.passed.insert(field.into(), schema.clone());
        if required {
            self.required.push(field.into());
        }
    }

    /// Returns a JSON Schema of the fields that the agent fills in.
    pub fn schema(&self) -> Option<Value> {
        if self.passed.is_empty() {
            return None;
        }
        let mut schema = json!({ "type": "object", "properties": self.passed });
        if !self.required.is_empty() {
            schema["required"] = json!(self.required);
        }
        Some(schema)
    }
}
