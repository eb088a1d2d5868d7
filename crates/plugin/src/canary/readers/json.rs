//! Reads JSON. Values that are not text are structure.

use serde_json::Value;

use super::Leaf;

pub fn read(text: &str) -> Result<Vec<Leaf>, String> {
    let value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut leaves = Vec::new();
    visit(&value, &mut Vec::new(), &mut leaves);
    Ok(leaves)
}

fn visit(value: &Value, path: &mut Vec<String>, leaves: &mut Vec<Leaf>) {
    let mut child = |name: String, value: &Value, path: &mut Vec<String>| {
        path.push(name);
        visit(value, path, leaves);
        path.pop();
    };
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| child(index.to_string(), item, path));
        }
        Value::Object(members) => members.iter().for_each(|(name, member)| child(name.clone(), member, path)),
        Value::String(text) => leaves.push(Leaf { path: path.clone(), text: text.clone(), structure: None }),
        other => leaves.push(Leaf { path: path.clone(), text: other.to_string(), structure: Some("not text") }),
    }
}
