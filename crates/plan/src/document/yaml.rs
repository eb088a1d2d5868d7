//! Reads YAML 1.2: one document, with anchors and merge keys, whose expansion is limited.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Error, Location, Spanned};

use super::{DEPTH_MAX, NODES_MAX, Tree, TreeBuilder, TreeError, duplicate, not_finite, too_large};

/// The most parser events that aliases may repeat.
const REPLAYED_MAX: usize = 20_000;

pub fn parse(text: &str) -> Result<Tree, Vec<TreeError>> {
    let parsed = serde_saphyr::from_str_with_options::<Spanned<YamlNode>>(text, options());
    let root = parsed.map_err(|error| vec![explain(text, &error)])?;
    let mut builder = TreeBuilder::default();
    let root = convert(text, &mut builder, root).map_err(|error| vec![error])?;
    Ok(Tree { root, places: builder.places })
}

fn options() -> serde_saphyr::Options {
    let mut budget = serde_saphyr::Budget::default();
    budget.max_events = NODES_MAX * 4;
    budget.max_nodes = NODES_MAX;
    budget.max_depth = DEPTH_MAX;
    budget.flow_nesting_limit = DEPTH_MAX;
    let mut options = serde_saphyr::Options::default();
    options.budget = Some(budget);
    options.duplicate_keys = DuplicateKeyPolicy::Error;
    options.merge_keys = MergeKeyPolicy::Merge;
    options.alias_limits.max_total_replayed_events = REPLAYED_MAX;
    options.strict_booleans = true;
    options.reject_unsupported_tags = true;
    options.non_finite_float_policy = NonFiniteFloatPolicy::Reject;
    options.with_snippet = false;
    options
}

/// A value as the parser returns it.
#[derive(Debug)]
enum YamlNode {
    Leaf(Value),
    /// A number that the tree cannot represent.
    TooLarge,
    List(Vec<Spanned<YamlNode>>),
    Table(Vec<(MapKey, Spanned<YamlNode>)>),
}

#[derive(Debug)]
struct MapKey(String);

fn convert(text: &str, builder: &mut TreeBuilder, node: Spanned<YamlNode>) -> Result<Value, TreeError> {
    let at = offset(text, node.referenced).unwrap_or(0);
    builder.enter(at)?;
    Ok(match node.value {
        // The parser would continue with the nearest double.
        YamlNode::Leaf(Value::Number(number)) if number.is_f64() && is_whole_number(text, node.defined) => {
            return Err(too_large(at));
        }
        YamlNode::Leaf(value) => value,
        YamlNode::TooLarge => return Err(too_large(at)),
        YamlNode::List(list) => {
            let mut items = Vec::with_capacity(list.len());
            for (index, item) in list.into_iter().enumerate() {
                builder.path.push(index.to_string());
                items.push(convert(text, builder, item)?);
                builder.path.pop();
            }
            Value::Array(items)
        }
        YamlNode::Table(table) => {
            let mut map = Map::new();
            for (MapKey(key), value) in table {
                if map.contains_key(&key) {
                    return Err(duplicate(&key, Some(at)));
                }
                builder.path.push(key.clone());
                map.insert(key, convert(text, builder, value)?);
                builder.path.pop();
            }
            Value::Object(map)
        }
    })
}

/// Reports whether the number at this location has no fraction and no exponent.
fn is_whole_number(text: &str, location: Location) -> bool {
    let written = offset(text, location).map_or("", |at| text[at..].trim_start_matches(['+', '-']));
    let digits = written.trim_start_matches(|c: char| c.is_ascii_digit());
    digits.len() < written.len() && !digits.starts_with(['.', 'e', 'E', '_', 'o', 'x'])
}

/// Returns the byte offset of a location from the parser.
fn offset(text: &str, location: Location) -> Option<usize> {
    if let Some(at) = location.span().byte_offset() {
        return usize::try_from(at).ok().map(|at| at.min(text.len()));
    }
    let line = usize::try_from(location.line()).ok()?.checked_sub(1)?;
    let column = usize::try_from(location.column()).ok()?.saturating_sub(1);
    let mut lines = text.split_inclusive('\n');
    let start: usize = lines.by_ref().take(line).map(str::len).sum();
    let rest = lines.next().unwrap_or("");
    Some(start + rest.char_indices().nth(column).map_or(rest.trim_end().len(), |(at, _)| at))
}

/// Explains an error in our own words where the parser's could contain a value.
fn explain(text: &str, error: &Error) -> TreeError {
    let at = error.location().and_then(|location| offset(text, location));
    match error.without_snippet() {
        Error::AliasError { error, .. } => explain(text, error),
        Error::Message { msg, .. } => TreeError::new(format!("not valid YAML: {}", brief(msg)), at),
        Error::ExternalMessage { msg, .. } => TreeError::new(format!("not valid YAML: {}", brief(msg)), at),
        Error::DuplicateMappingKey { key, .. } => duplicate(key.as_deref().unwrap_or("?"), at),
        Error::MultipleDocuments { .. } => TreeError::new("the file contains more than one YAML document", at)
            .help("keep one of them, and remove the `---` after it"),
        // Only keys are required to be text.
        Error::SerdeInvalidType { .. } => {
            TreeError::new("a key is not a string", at).help("put the key in quotes, or add a name before the colon")
        }
        Error::NonFiniteFloat { .. } => not_finite(at.unwrap_or(0)),
        Error::UnknownAnchor { .. } => TreeError::new("an alias refers to an anchor that does not exist", at)
            .help("define the anchor before it, with `&name`"),
        Error::MergeValueNotMapOrSeqOfMaps { .. } => TreeError::new("the value of `<<` is not a table", at),
        Error::UnsupportedTag { .. } => TreeError::new("unknown tag (`!…`)", at).help("remove the tag"),
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::Budget { .. } => {
            TreeError::new("the config is too large, too deep, or repeats its anchors too often", at)
        }
        Error::Eof { .. } => TreeError::new("the text is empty", None),
        _ => TreeError::new("not valid YAML: a value does not fit its place or its tag", at),
    }
}

fn brief(message: &str) -> String {
    guillemet_base::display::sanitize(message.lines().next().unwrap_or(""), 160)
}

impl<'de> Deserialize<'de> for YamlNode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = YamlNode;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, boolean: bool) -> Result<YamlNode, E> {
        Ok(YamlNode::Leaf(Value::Bool(boolean)))
    }

    fn visit_i64<E>(self, number: i64) -> Result<YamlNode, E> {
        Ok(YamlNode::Leaf(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<YamlNode, E> {
        Ok(YamlNode::Leaf(number.into()))
    }

    fn visit_i128<E>(self, _: i128) -> Result<YamlNode, E> {
        Ok(YamlNode::TooLarge)
    }

    fn visit_u128<E>(self, _: u128) -> Result<YamlNode, E> {
        Ok(YamlNode::TooLarge)
    }

    fn visit_f64<E>(self, number: f64) -> Result<YamlNode, E> {
        Ok(Number::from_f64(number).map_or(YamlNode::TooLarge, |number| YamlNode::Leaf(Value::Number(number))))
    }

    fn visit_str<E>(self, text: &str) -> Result<YamlNode, E> {
        Ok(YamlNode::Leaf(Value::String(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<YamlNode, E> {
        Ok(YamlNode::Leaf(Value::String(text)))
    }

    fn visit_unit<E>(self) -> Result<YamlNode, E> {
        Ok(YamlNode::Leaf(Value::Null))
    }

    fn visit_none<E>(self) -> Result<YamlNode, E> {
        Ok(YamlNode::Leaf(Value::Null))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<YamlNode, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(YamlNode::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<YamlNode, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(YamlNode::Table(entries))
    }
}

impl<'de> Deserialize<'de> for MapKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl Visitor<'_> for KeyVisitor {
            type Value = MapKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_str<E>(self, text: &str) -> Result<MapKey, E> {
                Ok(MapKey(text.to_owned()))
            }
        }

        deserializer.deserialize_any(KeyVisitor)
    }
}
