//! Reads XML 1.0: attributes and text are values; comments and processing instructions are structure.

use super::Leaf;

pub fn read(text: &str) -> Result<Vec<Leaf>, String> {
    let document = roxmltree::Document::parse(text).map_err(|error| error.to_string())?;
    let mut leaves = Vec::new();
    for node in document.root().children() {
        if node.is_element() {
            visit(node, &mut Vec::new(), &mut leaves);
        } else {
            leaves.extend(beside(node));
        }
    }
    Ok(leaves)
}

/// Returns what is neither an element nor text.
fn beside(node: roxmltree::Node<'_, '_>) -> Option<Leaf> {
    if let Some(instruction) = node.pi() {
        let text = format!("{} {}", instruction.target, instruction.value.unwrap_or_default());
        return Some(Leaf::structure("a processing instruction", text));
    }
    node.is_comment().then(|| Leaf::structure("a comment", node.text().unwrap_or_default()))
}

fn visit(element: roxmltree::Node<'_, '_>, path: &mut Vec<String>, leaves: &mut Vec<Leaf>) {
    path.push(element.tag_name().name().to_owned());
    let mut leaf = |path: &[String], name: String, text: &str| {
        let path = [path, &[name]].concat();
        leaves.push(Leaf { path, text: text.to_owned(), structure: None });
    };
    for attribute in element.attributes() {
        leaf(path, format!("@{}", attribute.name()), attribute.value());
    }
    let mut children = 0;
    for child in element.children() {
        if child.is_element() {
            path.push(children.to_string());
            visit(child, path, leaves);
            path.pop();
            children += 1;
        } else if child.is_text() {
            let path = [path.as_slice(), &[format!("text {children}")]].concat();
            leaves.push(Leaf { path, text: child.text().unwrap_or_default().to_owned(), structure: None });
        } else {
            leaves.extend(beside(child));
        }
    }
    if children == 0 {
        // An element without values is a part of the structure too.
        leaves.push(Leaf { path: path.clone(), text: String::new(), structure: Some("an element") });
    }
    path.pop();
}
