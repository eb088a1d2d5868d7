//! Reads one operation of an OpenAPI 3 document as a custom action.
//!
//! A parameter with one possible value (`const`, an `enum` of one, `default`) is sent with that value. Any other
//! required parameter becomes a `{{variable}}` that the agent passes. The value of a security scheme is not in such a
//! document: a note says so, and the user adds it to the template by hand.

use serde_json::{Map, Value as Json, json};
use zeroize::Zeroizing;

use super::action::{ActionChoices, reading, tool_name};
use super::document::ParsedDocument;
use super::request::{ActionRequest, JsonBody, RequestHeader, RequestText, node};
use crate::cli::adopt::config::{ConfigLeaf, ConfigNode, ConfigTable, Reading};
use crate::cli::adopt::source::Problems;
use crate::cli::adopt::tokens::Tokens;

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// An operation, and its path in the document.
struct ApiOperation<'a> {
    method: &'static str,
    path: &'a str,
    at: String,
    item: &'a Map<String, Json>,
    object: &'a Map<String, Json>,
}

/// Reads the chosen operation, or the only one.
pub fn read(
    document: &ParsedDocument<'_>,
    selection: &ActionChoices<'_>,
    problems: &mut Problems<'_>,
) -> Option<Reading> {
    let version = document.root.get("openapi").and_then(Json::as_str).unwrap_or_default();
    if !version.starts_with("3.") {
        let at = document.at("openapi").or(document.at("swagger"));
        problems.add(at, "", "is not an OpenAPI 3 document", Some("convert it to OpenAPI 3 first"));
        return None;
    }
    let operation = choose(document, selection.operation, problems)?;
    let mut tokens = Tokens::default();
    let mut builder = RequestBuilder {
        document,
        tokens: &mut tokens,
        problems,
        request: ActionRequest::default(),
        variables: Map::new(),
    };
    builder.request.method = operation.method.to_ascii_uppercase();
    builder.url(&operation);
    builder.parameters(&operation);
    builder.body(&operation);
    let notes = builder.security(&operation);
    let request = builder.finish(&operation);
    let mut reading = reading(request, tokens, document.template_format(), selection, false, problems);
    reading.notes.extend(notes);
    Some(reading)
}

fn choose<'a>(
    document: &'a ParsedDocument<'_>,
    requested: Option<&str>,
    problems: &mut Problems<'_>,
) -> Option<ApiOperation<'a>> {
    let mut operations = Vec::new();
    for (path, item) in document.root.get("paths").and_then(Json::as_object).into_iter().flatten() {
        let Some(item) = item.as_object() else { continue };
        for method in METHODS {
            if let Some(object) = item.get(method).and_then(Json::as_object) {
                operations.push(ApiOperation { method, path, at: format!("paths.{path}.{method}"), item, object });
            }
        }
    }
    let id =
        |operation: &ApiOperation<'_>| operation.object.get("operationId").and_then(Json::as_str).map(str::to_owned);
    let label = |operation: &ApiOperation<'_>| format!("{} {}", operation.method.to_ascii_uppercase(), operation.path);
    let names: Vec<String> =
        operations.iter().map(|operation| id(operation).unwrap_or_else(|| label(operation))).collect();
    let count = operations.len();
    let found = match requested {
        None if count == 1 => operations.pop(),
        None => None,
        Some(requested) => {
            let mut operations = operations.into_iter();
            operations.find(|operation| {
                id(operation).as_deref() == Some(requested) || label(operation).eq_ignore_ascii_case(requested)
            })
        }
    };
    if found.is_none() {
        let message = match (requested, count) {
            (_, 0) => "has no operation with GET, POST, PUT, PATCH or DELETE".to_owned(),
            (Some(requested), _) => format!("has no operation `{requested}`"),
            (None, count) => format!("has {count} operations, but a template describes one"),
        };
        let help = (!names.is_empty()).then(|| format!("choose one with --operation: {}", names.join(", ")));
        problems.add(document.at("paths"), "", message, help.as_deref());
    }
    found
}

struct RequestBuilder<'a, 'd, 'p, 's> {
    document: &'a ParsedDocument<'d>,
    tokens: &'a mut Tokens,
    problems: &'p mut Problems<'s>,
    request: ActionRequest,
    /// The variables that the agent passes, by name.
    variables: Map<String, Json>,
}

impl RequestBuilder<'_, '_, '_, '_> {
    /// Follows a local `$ref`. Returns the value and its path in the document.
    fn resolved<'v>(&'v self, value: &'v Json, at: &str) -> (&'v Json, String) {
        let Some(name) = value.get("$ref").and_then(Json::as_str) else { return (value, at.to_owned()) };
        let pointer = name.strip_prefix('#').unwrap_or_default();
        match self
            .document
            .root
            .get("components")
            .and_then(|components| components.pointer(pointer.strip_prefix("/components")?))
        {
            Some(target) => (target, pointer.trim_start_matches('/').replace('/', ".")),
            None => (value, at.to_owned()),
        }
    }

    fn problem(&mut self, at: &str, message: &str, help: Option<&str>) {
        self.problems.add(self.document.at(at), at, message, help);
    }

    fn text(&mut self, at: &str, text: &str) -> RequestText {
        let spot = self.document.spot(at, text, self.tokens);
        RequestText { text: Zeroizing::new(text.to_owned()), spot, at: self.document.at(at) }
    }

    fn url(&mut self, operation: &ApiOperation<'_>) {
        let places = [
            (format!("{}.servers.0", operation.at), operation.object.get("servers")),
            (format!("paths.{}.servers.0", operation.path), operation.item.get("servers")),
            ("servers.0".to_owned(), self.document.root.get("servers")),
        ];
        let server = places.into_iter().find_map(|(at, servers)| Some((at, servers?.get(0)?.clone())));
        let Some((at, server)) = server else {
            return self.problem("servers", "is required: it says where requests are sent", None);
        };
        let mut url = server.get("url").and_then(Json::as_str).unwrap_or_default().trim_end_matches('/').to_owned();
        for (name, variable) in server.get("variables").and_then(Json::as_object).into_iter().flatten() {
            if let Some(value) = variable.get("default").and_then(Json::as_str) {
                url = url.replace(&format!("{{{name}}}"), value);
            }
        }
        let path = operation.path.replace('{', "{{").replace('}', "}}");
        self.request.url =
            RequestText { text: Zeroizing::new(format!("{url}{path}")), spot: None, at: self.document.at(&at) };
    }

    fn parameters(&mut self, operation: &ApiOperation<'_>) {
        let lists = [
            (format!("{}.parameters", operation.at), operation.object.get("parameters")),
            (format!("paths.{}.parameters", operation.path), operation.item.get("parameters")),
        ];
        let mut seen: Vec<(String, String)> = Vec::new();
        for (at, list) in lists {
            for (index, parameter) in list.and_then(Json::as_array).into_iter().flatten().enumerate() {
                let (parameter, at) = self.resolved(parameter, &format!("{at}.{index}"));
                let parameter = parameter.clone();
                let text = |key: &str| parameter.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
                let key = (text("in"), text("name"));
                // A parameter of the operation overrides the one of its path.
                if !seen.contains(&key) {
                    self.parameter(&key.0, &key.1, &parameter, &at);
                    seen.push(key);
                }
            }
        }
    }

    fn parameter(&mut self, location: &str, name: &str, parameter: &Json, at: &str) {
        let (schema, schema_at) = {
            let (schema, at) = self.resolved(parameter.get("schema").unwrap_or(&Json::Null), &format!("{at}.schema"));
            (schema.clone(), at)
        };
        let value = match self.fixed_value(&schema, &schema_at) {
            Some(value) if location != "path" => value,
            _ if location == "path" || parameter.get("required") == Some(&Json::Bool(true)) => {
                self.variable(name, &schema, parameter.get("description"));
                RequestText::plain(&format!("{{{{{name}}}}}"))
            }
            // The agent need not pass it, and the document has no value for it.
            _ => return,
        };
        match location {
            "path" => {}
            "query" => self.request.query.push((name.to_owned(), value)),
            "header" => self.request.headers.push(RequestHeader { name: name.to_owned(), value }),
            _ => self.problem(
                at,
                "is a kind of parameter that custom actions do not support",
                Some("write it as a header"),
            ),
        }
    }

    /// Returns the only value that a schema allows, or its default.
    fn fixed_value(&mut self, schema: &Json, at: &str) -> Option<RequestText> {
        let single = schema.get("enum").and_then(Json::as_array).filter(|values| values.len() == 1);
        let (at, value) = match (schema.get("const"), single, schema.get("default")) {
            (Some(value), ..) => (format!("{at}.const"), value),
            (_, Some(values), _) => (format!("{at}.enum.0"), &values[0]),
            (.., Some(value)) => (format!("{at}.default"), value),
            _ => return None,
        };
        Some(match value {
            Json::String(text) => self.text(&at, text),
            other => RequestText::plain(&other.to_string()),
        })
    }

    fn variable(&mut self, name: &str, schema: &Json, description: Option<&Json>) {
        let mut schema =
            schema.as_object().cloned().unwrap_or_else(|| Map::from_iter([("type".into(), json!("string"))]));
        if let Some(description) = description.filter(|_| !schema.contains_key("description")) {
            schema.insert("description".into(), description.clone());
        }
        self.variables.insert(name.to_owned(), Json::Object(schema));
    }

    /// Sets the body: each field has its fixed value, or is passed by the agent.
    fn body(&mut self, operation: &ApiOperation<'_>) {
        let Some(body) = operation.object.get("requestBody") else { return };
        let (body, at) = self.resolved(body, &format!("{}.requestBody", operation.at));
        let Some(content) = body.pointer("/content/application~1json/schema").cloned() else {
            return self.problem(&at, "is not JSON, and a custom action only sends JSON", None);
        };
        let (schema, at) = self.resolved(&content, &format!("{at}.content.application/json.schema"));
        let schema = schema.clone();
        let required = schema.get("required").and_then(Json::as_array).cloned().unwrap_or_default();
        let (mut tree, mut fields) = (Map::new(), ConfigTable::new());
        for (name, property) in schema.get("properties").and_then(Json::as_object).into_iter().flatten() {
            let (property, at) = self.resolved(property, &format!("{at}.properties.{name}"));
            let property = property.clone();
            let value = match self.fixed_value(&property, &at) {
                Some(value) => value,
                None if required.contains(&json!(name)) => {
                    self.variable(name, &property, None);
                    RequestText::plain(&format!("{{{{{name}}}}}"))
                }
                None => continue,
            };
            tree.insert(name.clone(), json!(*value.text));
            fields.push((name.clone(), ConfigLeaf::new(&value.text, value.spot).into()));
        }
        if !tree.is_empty() {
            self.request.body = Some(JsonBody { tree: Json::Object(tree), node: ConfigNode::Table(fields) });
            self.request
                .headers
                .push(RequestHeader { name: "Content-Type".into(), value: RequestText::plain("application/json") });
        }
    }

    /// Returns a note for each security scheme for which the request has no value.
    fn security(&self, operation: &ApiOperation<'_>) -> Vec<String> {
        let requirements = operation.object.get("security").or_else(|| self.document.root.get("security"));
        let schemes = requirements.and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_object);
        let schemes = schemes.flat_map(Map::keys).filter(|name| {
            let scheme =
                self.document.root.get("components").and_then(|all| all.pointer(&format!("/securitySchemes/{name}")));
            let header = scheme.and_then(|scheme| scheme.get("name")).and_then(Json::as_str).unwrap_or("Authorization");
            let query = self.request.query.iter().any(|(name, _)| name == header);
            self.request.header(header).is_none() && !query
        });
        let notes = schemes.map(|name| {
            format!("the file has no value for the security scheme `{name}`: add `auth` with a secret to the template")
        });
        notes.collect()
    }

    fn finish(mut self, operation: &ApiOperation<'_>) -> ActionRequest {
        let field = |key: &str| operation.object.get(key).and_then(Json::as_str);
        let mut add = |name: &str, value: Json| {
            self.request.fields.push((name.to_owned(), node(&value)));
            self.request.facts.push((name.to_owned(), value));
        };
        if let Some(id) = field("operationId") {
            add("name", json!(tool_name(id)));
        }
        if let Some(text) = field("description").or_else(|| field("summary")) {
            add("description", json!(text));
        }
        if !self.variables.is_empty() {
            let names: Vec<&String> = self.variables.keys().collect();
            add("parameters", json!({"type": "object", "properties": self.variables, "required": names}));
        }
        self.request
    }
}
