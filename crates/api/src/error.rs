//! The body of an answer with an error status.

use std::borrow::Cow;

use serde::de::Error as _;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::Problem;
use crate::secrets::ReferenceView;

/// The body of an answer with an error status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The kind of the error, for programs, such as `not_found`.
    pub code: Cow<'static, str>,
    /// What is wrong and what to do about it, for people.
    pub message: String,
    /// More for people; absent if there is nothing to add.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Everything that is wrong; absent if the message says it all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ErrorEntry>,
}

/// One of the things that are wrong. Which fields an entry has depends on what it is about. One that was read is
/// written again in the same form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(remote = "Self")]
pub struct ErrorEntry {
    /// The field of the request or of the config; `None` if it is not known.
    #[serde(default)]
    pub field: Option<String>,
    /// What is wrong.
    pub message: String,
    /// The reason, for programs, such as `missing` or `referenced`.
    #[serde(default)]
    pub reason: Option<Cow<'static, str>>,
    /// The name of the secret.
    #[serde(default)]
    pub name: Option<String>,
    /// The name of the device that has the template; `None` for this device.
    #[serde(default)]
    pub device: Option<String>,
    /// The id of the template, the path of a file that is not a template, inside the templates' folder, or the path of
    /// a folder that cannot be read.
    #[serde(default)]
    pub template: Option<String>,
    /// The path of the configuration file.
    #[serde(default)]
    pub file: Option<String>,
    /// The line in the file.
    #[serde(default)]
    pub line: Option<u32>,
    /// The column in that line.
    #[serde(default)]
    pub column: Option<u32>,
    /// What to do about it.
    #[serde(default)]
    pub help: Option<String>,
    /// The time after which to try again, in milliseconds, if waiting is enough.
    #[serde(default)]
    pub retry_after_ms: Option<u64>,
    #[serde(skip)]
    layout: Layout,
}

/// What an entry is about, which decides its fields in the JSON, and their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Layout {
    #[default]
    Field,
    Secret,
    Reference,
    Problem,
}

impl Layout {
    /// Returns what an entry with these fields is about.
    fn of(fields: &Map<String, Value>) -> Self {
        let has = |key| fields.contains_key(key);
        let mut keys = fields.keys().map(String::as_str);
        let first = keys.next().unwrap_or_default();
        if has("path") {
            Self::Problem
        } else if matches!(first, "device" | "template") || has("device") || has("retry_after_ms") {
            Self::Reference
        } else if has("line") || (first, keys.next(), keys.next().is_some()) == ("field", Some("message"), true) {
            Self::Secret
        } else {
            Self::Field
        }
    }
}

impl<'de> Deserialize<'de> for ErrorEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = Map::deserialize(deserializer)?;
        let layout = Layout::of(&fields);
        // The inherent function, which `remote` derives.
        let entry = Self::deserialize(Value::Object(fields)).map_err(D::Error::custom)?;
        Ok(Self { layout, ..entry })
    }
}

impl ErrorEntry {
    /// Describes a field of the request, or with `None` something that has no field.
    pub fn of_field(field: Option<impl Into<String>>, message: impl Into<String>) -> Self {
        Self { field: field.map(Into::into), message: message.into(), ..Self::default() }
    }

    /// Describes a secret that a field of the request or of a config needs.
    pub fn of_secret(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { layout: Layout::Secret, ..Self::of_field(Some(field), message) }
    }

    /// Describes a reference, or another place that may name a secret.
    pub fn of_reference(reference: ReferenceView, message: impl Into<String>) -> Self {
        let ReferenceView { device, template, line, column, field, name } = reference;
        let (message, template, layout) = (message.into(), Some(template), Layout::Reference);
        Self { device, template, line, column, field, name, message, layout, ..Self::default() }
    }

    /// Describes a problem of a template or of the configuration file. Its field is the problem's path, which may be
    /// empty.
    pub fn of_problem(problem: &Problem) -> Self {
        let Problem { path, line, column, message, help } = problem.clone();
        Self { field: Some(path), line, column, message, help, layout: Layout::Problem, ..Self::default() }
    }
}

impl Serialize for ErrorEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.layout {
            Layout::Field => {
                map.serialize_entry("field", &self.field)?;
                serialize_some(&mut map, "name", &self.name)?;
                serialize_some(&mut map, "template", &self.template)?;
                serialize_some(&mut map, "reason", &self.reason)?;
                map.serialize_entry("message", &self.message)?;
            }
            Layout::Secret => {
                map.serialize_entry("field", &self.field)?;
                map.serialize_entry("message", &self.message)?;
                serialize_some(&mut map, "name", &self.name)?;
                serialize_some(&mut map, "reason", &self.reason)?;
                serialize_some(&mut map, "template", &self.template)?;
                serialize_some(&mut map, "line", &self.line)?;
                serialize_some(&mut map, "column", &self.column)?;
            }
            Layout::Reference => {
                serialize_some(&mut map, "device", &self.device)?;
                map.serialize_entry("template", &self.template)?;
                map.serialize_entry("line", &self.line)?;
                map.serialize_entry("column", &self.column)?;
                map.serialize_entry("field", &self.field)?;
                map.serialize_entry("name", &self.name)?;
                map.serialize_entry("message", &self.message)?;
                serialize_some(&mut map, "reason", &self.reason)?;
                serialize_some(&mut map, "retry_after_ms", &self.retry_after_ms)?;
            }
            Layout::Problem => {
                map.serialize_entry("path", &self.field)?;
                map.serialize_entry("line", &self.line)?;
                map.serialize_entry("column", &self.column)?;
                map.serialize_entry("message", &self.message)?;
                map.serialize_entry("help", &self.help)?;
                map.serialize_entry("field", &self.field)?;
                serialize_some(&mut map, "template", &self.template)?;
                serialize_some(&mut map, "file", &self.file)?;
            }
        }
        map.end()
    }
}

/// Writes a field unless it is `None`.
fn serialize_some<M: SerializeMap, T: Serialize>(
    map: &mut M,
    key: &'static str,
    value: &Option<T>,
) -> Result<(), M::Error> {
    value.as_ref().map_or(Ok(()), |value| map.serialize_entry(key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(entry: &ErrorEntry) -> String {
        serde_json::to_string(entry).unwrap()
    }

    #[test]
    fn an_entry_has_the_fields_of_what_it_is_about() {
        assert_eq!(written(&ErrorEntry::of_field(Some("value"), "m")), r#"{"field":"value","message":"m"}"#);
        let whole = ErrorEntry { reason: Some("fork".into()), ..ErrorEntry::of_field(None::<String>, "m") };
        assert_eq!(written(&whole), r#"{"field":null,"reason":"fork","message":"m"}"#);
        let secret = ErrorEntry { name: Some("n".into()), line: Some(2), ..ErrorEntry::of_secret("secrets.0", "m") };
        assert_eq!(written(&secret), r#"{"field":"secrets.0","message":"m","name":"n","line":2}"#);
        let view = ReferenceView {
            device: None,
            template: "f/a".into(),
            line: Some(1),
            column: None,
            field: None,
            name: Some("n".into()),
        };
        let blocker = ErrorEntry { retry_after_ms: Some(7), ..ErrorEntry::of_reference(view, "m") };
        let text =
            r#"{"template":"f/a","line":1,"column":null,"field":null,"name":"n","message":"m","retry_after_ms":7}"#;
        assert_eq!(written(&blocker), text);
        let problem = Problem { path: "url".into(), line: Some(3), message: "m".into(), ..Problem::default() };
        let problem = ErrorEntry { file: Some("c.toml".into()), ..ErrorEntry::of_problem(&problem) };
        let text = r#"{"path":"url","line":3,"column":null,"message":"m","help":null,"field":"url","file":"c.toml"}"#;
        assert_eq!(written(&problem), text);
    }

    #[test]
    fn an_entry_is_written_again_as_it_was_read() {
        let full = ErrorEntry {
            field: Some("f".into()),
            message: "m".into(),
            reason: Some("missing".into()),
            name: Some("n".into()),
            device: Some("d".into()),
            template: Some("f/a".into()),
            file: Some("c.toml".into()),
            line: Some(1),
            column: Some(2),
            help: Some("h".into()),
            retry_after_ms: Some(3),
            layout: Layout::Field,
        };
        for layout in [Layout::Field, Layout::Secret, Layout::Reference, Layout::Problem] {
            for without in 0..1_u32 << 10 {
                let keep = |index: u32| without & (1 << index) == 0;
                let entry = ErrorEntry {
                    field: full.field.clone().filter(|_| keep(0)),
                    message: full.message.clone(),
                    reason: full.reason.clone().filter(|_| keep(1)),
                    name: full.name.clone().filter(|_| keep(2)),
                    device: full.device.clone().filter(|_| keep(3)),
                    template: full.template.clone().filter(|_| keep(4)),
                    file: full.file.clone().filter(|_| keep(5)),
                    line: full.line.filter(|_| keep(6)),
                    column: full.column.filter(|_| keep(7)),
                    help: full.help.clone().filter(|_| keep(8)),
                    retry_after_ms: full.retry_after_ms.filter(|_| keep(9)),
                    layout,
                };
                let text = written(&entry);
                assert_eq!(written(&serde_json::from_str(&text).unwrap()), text, "{layout:?}");
            }
        }
    }

    #[test]
    fn an_entry_is_read_whatever_it_is_about() {
        let body = r#"{"code":"conflict","message":"m","errors":[{"template":"f/a","line":1,"column":null,"field":null,
            "name":null,"message":"e","reason":"newer than this","other":[1]}]}"#;
        let body: ErrorBody = serde_json::from_str(body).unwrap();
        assert_eq!((body.code.as_ref(), body.detail), ("conflict", None));
        let entry = &body.errors[0];
        assert_eq!(
            (entry.template.as_deref(), entry.line, entry.reason.as_deref()),
            (Some("f/a"), Some(1), Some("newer than this"))
        );
    }
}
