//! Reads the leaves of a document: its values, each with its place.
//!
//! Of a plan it reads the kind and the target only, to choose the format. Knows nothing of canaries. The parsers are
//! libraries, except for dotenv.

use serde_json::Value;

use guillemet_plan::dotenv;
use guillemet_plan::plan::Plan;
use guillemet_plan::protocol::DocumentKind;
use guillemet_template::tokens::PositionCursor;

/// A document format that this module can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadableFormat {
    Json,
    Xml,
    Dotenv,
}

/// A value and its place. Two documents of the same structure have the same places.
#[derive(Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The names of members, indices of items, elements and attributes, from the root.
    pub path: Vec<String>,
    /// The value as the parser returns it.
    pub text: String,
}

impl ReadableFormat {
    /// Returns the format of a plan's document, by its kind, media type and file name; `None` if it cannot be read
    /// here.
    pub fn of(plan: &Plan) -> Option<Self> {
        if plan.kind == DocumentKind::Json {
            return Some(Self::Json);
        }
        let media_type = plan.target.media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let is = |name: &str| {
            media_type
                .strip_prefix("application/")
                .or(media_type.strip_prefix("text/"))
                .is_some_and(|kind| kind == name)
                || media_type.strip_suffix(name).is_some_and(|rest| rest.ends_with('+'))
        };
        let file_name = plan.target.file_name.as_str();
        if is("json") {
            Some(Self::Json)
        } else if is("xml") {
            Some(Self::Xml)
        } else if file_name == ".env" || file_name.starts_with(".env.") || file_name.ends_with(".env") {
            Some(Self::Dotenv)
        } else {
            None
        }
    }

    /// Returns the name of the format for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Xml => "XML",
            Self::Dotenv => "dotenv",
        }
    }

    /// Returns the leaves of a text, in order.
    ///
    /// # Errors
    /// Fails with the reason if the text does not have this format.
    pub fn leaves(self, text: &str) -> Result<Vec<Leaf>, String> {
        let mut leaves = Vec::new();
        match self {
            Self::Json => {
                let value = serde_json::from_str(text).map_err(|error| error.to_string())?;
                of_json(&value, &mut Vec::new(), &mut leaves);
            }
            Self::Xml => {
                let document = roxmltree::Document::parse(text).map_err(|error| error.to_string())?;
                of_xml(document.root_element(), &mut Vec::new(), &mut leaves);
            }
            Self::Dotenv => {
                for found in dotenv::read(text) {
                    leaves.push(of_dotenv(text, found)?);
                }
            }
        }
        Ok(leaves)
    }
}

/// Returns the leaf of a variable that is set. Text that python-dotenv would expand (its variables.py) is an error,
/// because no value should be expanded.
fn of_dotenv(text: &str, found: Result<dotenv::Variable, usize>) -> Result<Leaf, String> {
    let error = |at: usize, problem: &str| format!("line {}: {problem}", PositionCursor::new(text).position(at).0);
    let variable = found.map_err(|at| error(at, "it is not a line of a dotenv file"))?;
    let start = variable.range.start;
    let Some(value) = variable.value else { return Err(error(start, "`=` is missing")) };
    if !variable.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(error(start, "the text before `=` is not a variable name"));
    }
    if value.contains("${") {
        return Err(error(start, "python-dotenv expands `${`"));
    }
    Ok(Leaf { path: vec![variable.name], text: (*value).clone() })
}

fn of_json(value: &Value, path: &mut Vec<String>, leaves: &mut Vec<Leaf>) {
    let mut visit = |name: String, value: &Value, path: &mut Vec<String>| {
        path.push(name);
        of_json(value, path, leaves);
        path.pop();
    };
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| visit(index.to_string(), item, path));
        }
        Value::Object(members) => members.iter().for_each(|(name, member)| visit(name.clone(), member, path)),
        Value::String(text) => leaves.push(Leaf { path: path.clone(), text: text.clone() }),
        // Not text, but part of the structure.
        other => leaves.push(Leaf { path: [path.as_slice(), &["=".into()]].concat(), text: other.to_string() }),
    }
}

fn of_xml(element: roxmltree::Node<'_, '_>, path: &mut Vec<String>, leaves: &mut Vec<Leaf>) {
    path.push(element.tag_name().name().to_owned());
    for attribute in element.attributes() {
        let leaf_path = [path.as_slice(), &[format!("@{}", attribute.name())]].concat();
        leaves.push(Leaf { path: leaf_path, text: attribute.value().to_owned() });
    }
    let mut children = 0;
    for child in element.children() {
        if child.is_element() {
            path.push(children.to_string());
            of_xml(child, path, leaves);
            path.pop();
            children += 1;
        } else if child.is_text() {
            let leaf_path = [path.as_slice(), &[format!("text {children}")]].concat();
            leaves.push(Leaf { path: leaf_path, text: child.text().unwrap_or_default().to_owned() });
        }
    }
    path.pop();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String)>, String> {
        let leaves = ReadableFormat::Dotenv.leaves(text)?;
        Ok(leaves.into_iter().map(|leaf| (leaf.path.concat(), leaf.text)).collect())
    }

    #[test]
    fn lines_are_read_as_python_dotenv_reads_them() {
        let file = "# a comment\nA='it\\'s #1'\nexport B = \"x\\ty\" # why\nC= bare # comment\nD=a#b\n\nE=''\nF='two\nlines'\n";
        let expected = [("A", "it's #1"), ("B", "x\ty"), ("C", "bare"), ("D", "a#b"), ("E", ""), ("F", "two\nlines")];
        assert_eq!(read(file).unwrap(), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        for (invalid, line) in [("A='x", 1), ("A=1\nB", 2), ("A='x' y", 1), ("A=1\n\nB-C=1", 3), ("A=\"${HOME}\"", 1)] {
            assert!(read(invalid).unwrap_err().starts_with(&format!("line {line}: ")), "{invalid}");
        }
    }
}
