//! What the agent passes: the parameters of the tool, and where a platform puts them.
//!
//! The config names them twice: `parameters` says what they are, `{{name}}` where they go. Platforms know
//! fields of a body that the agent fills in, so a text that is one parameter becomes such a field.

use std::cell::RefCell;

use guillemet_plugin::variables::{self, Piece};
use guillemet_plugin::{Fields, Map, Text, Value, json};

use crate::body::{Body, Node};

/// The `parameters` of the config.
pub struct Parameters<'a> {
    schema: Option<&'a Map<String, Value>>,
    placed: RefCell<Vec<&'a str>>,
}

/// A body as the platforms know it.
pub struct Split<'a> {
    /// What the agent fills in: schemas by the names of fields, and those it has to.
    pub passed: Map<String, Value>,
    pub required: Vec<String>,
    /// What is the same for every call.
    pub fixed: Vec<(&'a str, Node<'a>)>,
}

impl<'a> Parameters<'a> {
    /// Reads the JSON Schema.
    pub fn read(config: &Fields<'a>) -> Self {
        let schema = config.value("parameters");
        if schema.is_some_and(|schema| schema.get("type").and_then(Value::as_str) != Some("object")) {
            config.problem("parameters", "must be a JSON Schema whose `type` is \"object\"");
        }
        Self { schema: schema.and_then(Value::as_object), placed: RefCell::default() }
    }

    /// The schema as it stands in the config.
    pub fn schema(&self) -> Option<&'a Map<String, Value>> {
        self.schema
    }

    fn properties(&self) -> Option<&'a Map<String, Value>> {
        self.schema?.get("properties")?.as_object()
    }

    /// The parameter a text consists of, which has its place thereby.
    pub fn place(&self, text: &str) -> Option<(&'a str, &'a Value)> {
        let name = variables::whole(text)?;
        let (name, schema) = self.properties()?.get_key_value(name)?;
        self.placed.borrow_mut().push(name);
        Some((name, schema))
    }

    /// Whether the agent has to pass it.
    pub fn is_required(&self, name: &str) -> bool {
        let required = self.schema.and_then(|schema| schema.get("required")?.as_array());
        required.is_some_and(|names| names.iter().any(|known| known == name))
    }

    /// The parameters that have no place yet.
    pub fn rest(&self) -> Vec<(&'a str, &'a Value)> {
        let placed = self.placed.borrow();
        let all = self.properties().into_iter().flatten().map(|(name, schema)| (name.as_str(), schema));
        all.filter(|(name, _)| !placed.contains(name)).collect()
    }

    /// Fields that are one parameter, and the others; parameters without a place become fields as well.
    pub fn split(&self, body: Option<&Body<'a>>, who: &str) -> Split<'a> {
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

    /// Warns where a text names a parameter that the platform does not fill in there.
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

    /// A JSON Schema of what the agent fills in.
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
