//! The body: a JSON tree whose texts may contain variables and secrets.

use guillemet_plugin::variables::{self, Expansion};
use guillemet_plugin::{Fields, Map, Notes, Text, Value};

/// The body of a request.
pub struct RequestBody<'a> {
    tree: &'a Value,
    notes: &'a Notes,
    expansions: &'static [Expansion],
}

/// A value of the tree, with its path in the config.
#[derive(Clone)]
pub struct Node<'a> {
    pub value: &'a Value,
    pub path: String,
}

impl<'a> RequestBody<'a> {
    /// Reads the body; a GET has none.
    pub fn read(config: &Fields<'a>, method: Option<&str>, expansions: &'static [Expansion]) -> Option<Self> {
        let tree = config.value("body")?;
        if !tree.is_object() && !tree.is_array() {
            config.problem("body", "must be a table or a list: it is sent as JSON");
            return None;
        }
        if method == Some("GET") {
            config.problem("body", "cannot be used with GET: use `query_params`, or another method");
            return None;
        }
        Some(Self { tree, notes: config.notes(), expansions })
    }

    /// Returns the root of the tree.
    pub fn root(&self) -> Node<'a> {
        Node { value: self.tree, path: "body".into() }
    }

    /// Returns the fields of the body, for targets that support only fields. A body that is not a table is noted.
    pub fn fields(&self, who: &str) -> Vec<(&'a str, Node<'a>)> {
        match self.tree {
            Value::Object(object) => self.root().members(object),
            _ => {
                self.notes.problem("body", format!("must be a table: {who} expects the body as fields"), None);
                Vec::new()
            }
        }
    }

    /// Returns the text of a node; `None` if it is not text or empty.
    pub fn text(&self, node: &Node<'a>) -> Option<Text<'a>> {
        let given = node.value.as_str().is_some_and(|text| !text.is_empty());
        given.then(|| Text::read(node.value, node.path.clone(), self.notes)).flatten()
    }

    /// Returns the tree below a node, with its texts in a form that is safe for the target.
    pub fn written(&self, node: &Node<'a>) -> Value {
        self.mapped(node, &|text| variables::kept(text, self.expansions).into())
    }

    /// Calls `look` with every text below a node.
    pub fn each(&self, node: &Node<'a>, look: &dyn Fn(&Text)) {
        self.mapped(node, &|text| {
            look(text);
            Value::Null
        });
    }

    /// Returns the tree below a node, with each text replaced by the result of `each`.
    pub fn mapped(&self, node: &Node<'a>, each: &dyn Fn(&Text) -> Value) -> Value {
        if let Some(text) = self.text(node) {
            return each(&text);
        }
        match node.value {
            Value::Array(list) => node.items(list).iter().map(|item| self.mapped(item, each)).collect(),
            Value::Object(object) => {
                let member = |(name, member): (&str, Node<'a>)| (name.to_owned(), self.mapped(&member, each));
                node.members(object).into_iter().map(member).collect()
            }
            other => other.clone(),
        }
    }
}

impl<'a> Node<'a> {
    /// Returns the members of the object at this node.
    pub fn members(&self, object: &'a Map<String, Value>) -> Vec<(&'a str, Self)> {
        let member = |(name, value): (&'a String, &'a Value)| {
            (name.as_str(), Self { value, path: format!("{}.{name}", self.path) })
        };
        object.iter().map(member).collect()
    }

    /// Returns the items of the list at this node.
    pub fn items(&self, list: &'a [Value]) -> Vec<Self> {
        let item = |(index, value)| Self { value, path: format!("{}.{index}", self.path) };
        list.iter().enumerate().map(item).collect()
    }
}
