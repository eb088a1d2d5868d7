//! Checks a plugin's description of itself against the contract.
//!
//! Pure: the planner and its client in the daemon both use it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::protocol::{About, BrokenRule, Description};
use crate::schema_fields::has_field;
use guillemet_base::display::{is_unprintable, sanitize};
use guillemet_base::problem::Problem;

/// The most bytes of an identifier: a feature, a target, a segment of a field.
pub const ID_MAX: usize = 64;
/// The most characters of a text for people.
const TEXT_MAX: usize = 200;
/// The most bytes of the schema.
const SCHEMA_MAX: usize = 256 << 10;
/// The most targets, aliases and secret fields, each.
const ENTRIES_MAX: usize = 64;
/// The member of a schema that lists former names of targets: `{"former": "present"}`. The record of a target in the
/// contract is frozen for all of 1.x; a host that does not know the member ignores it, as JSON Schema says of unknown
/// keywords.
const ALIASES: &str = "x-target-aliases";
/// The reserved field of a template that names its targets. No plugin may have a field of this name at the top of its
/// schema.
pub const TARGETS_FIELD: &str = "targets";
/// The most segments of a secret field.
const SEGMENTS_MAX: usize = 16;

/// Checks a description against the contract, and strips characters that could drive a terminal.
///
/// # Errors
/// Returns every rule that it breaks, for the plugin's author.
pub fn check(description: Description) -> Result<Description, Vec<BrokenRule>> {
    let rules = rules(&description);
    if rules.is_empty() { Ok(with_aliases(sanitized(description))) } else { Err(rules) }
}

/// Sets each target's former names to those in the schema. Discards any that the description already had.
fn with_aliases(mut description: Description) -> Description {
    let aliases = aliases(&description.schema).unwrap_or_default();
    for target in &mut description.targets {
        let former = aliases.iter().filter(|(_, present)| **present == target.id);
        target.aliases = former.map(|(alias, _)| alias.clone()).collect();
    }
    description
}

/// Returns the former names of targets in a schema, each with the present name; `None` if the member is not such a
/// table.
fn aliases(schema: &str) -> Option<BTreeMap<String, String>> {
    let schema: Value = serde_json::from_str(schema).ok()?;
    schema.get(ALIASES).map_or_else(|| Some(BTreeMap::new()), |aliases| BTreeMap::deserialize(aliases).ok())
}

/// Returns the rules that a description breaks.
fn rules(description: &Description) -> Vec<BrokenRule> {
    let rule = |about| move |sentence| BrokenRule { about, sentence };
    let schema = schema_rule(&description.schema);
    let aliases = if schema.is_some() { Vec::new() } else { alias_rules(description) };
    let of_schema = schema.into_iter().chain(aliases).map(rule(About::Schema));
    sentences(description).into_iter().map(rule(About::Description)).chain(of_schema).collect()
}

/// Returns the rules that its former names of targets break.
fn alias_rules(description: &Description) -> Vec<String> {
    let Some(aliases) = aliases(&description.schema) else {
        return vec![format!("`{ALIASES}` must be an object that maps former target names to current ones")];
    };
    if aliases.len() > ENTRIES_MAX {
        return vec![format!("`{ALIASES}` has more than {ENTRIES_MAX} entries")];
    }
    let is_target = |id: &String| description.targets.iter().any(|target| target.id == *id);
    let mut rules = Vec::new();
    for (alias, present) in &aliases {
        let (shown, target) = (sanitize(alias, ID_MAX), sanitize(present, ID_MAX));
        if !is_id(alias) {
            rules.push(id_rule(&format!("alias `{shown}` of a target")));
        } else if is_target(alias) {
            rules.push(format!("`{ALIASES}` contains `{shown}`, which is itself a target"));
        }
        if !is_target(present) {
            rules.push(format!("`{ALIASES}` maps `{shown}` to `{target}`, which is not a target"));
        }
    }
    rules
}

/// Returns the rules that a description breaks apart from its schema.
fn sentences(description: &Description) -> Vec<String> {
    let mut rules = Vec::new();
    if !is_id(&description.feature) {
        rules.push(id_rule("feature"));
    }
    if description.targets.is_empty() || description.targets.len() > ENTRIES_MAX {
        rules.push(format!("`targets` must have 1 to {ENTRIES_MAX} entries"));
    }
    let mut seen = Vec::new();
    for target in description.targets.iter().take(ENTRIES_MAX) {
        let id = sanitize(&target.id, ID_MAX);
        if !is_id(&target.id) {
            rules.push(id_rule("id of a target"));
        } else if seen.iter().filter(|other| **other == &target.id).count() == 1 {
            rules.push(format!("the target `{id}` is listed twice"));
        }
        seen.push(&target.id);
        if !is_media_type(&target.media_type) {
            rules.push(format!("`media-type` of the target `{id}` is not a media type"));
        }
        if !is_file_name(&target.file_name) {
            rules.push(format!("`file-name` of the target `{id}` is not a plain file name"));
        }
    }
    rules.extend(SecretFields::new(&description.secret_fields).err().unwrap_or_default());
    rules
}

fn schema_rule(schema: &str) -> Option<String> {
    if schema.len() > SCHEMA_MAX {
        return Some(format!("`schema` is larger than {} KiB", SCHEMA_MAX >> 10));
    }
    match serde_json::from_str::<Value>(schema) {
        Ok(schema @ Value::Object(_)) if !texts_are_printable(&schema) => {
            Some("`schema` contains control characters".into())
        }
        Ok(schema @ Value::Object(_)) => has_field(&schema, TARGETS_FIELD).then(|| {
            format!(
                "`schema` has a top-level field `{0}`, which is reserved for a template's targets: rename the field",
                TARGETS_FIELD
            )
        }),
        _ => Some("`schema` is not a JSON object".into()),
    }
}

/// Returns a description as it can be shown to the plugin's author, whatever rules it breaks.
pub fn sanitized(mut description: Description) -> Description {
    description.feature = sanitize(&description.feature, ID_MAX);
    description.title = sanitize(&description.title, TEXT_MAX);
    description.version = sanitize(&description.version, ID_MAX);
    if schema_rule(&description.schema).is_some() {
        description.schema.clear();
    }
    description.targets.truncate(ENTRIES_MAX);
    for target in &mut description.targets {
        target.id = sanitize(&target.id, ID_MAX);
        target.title = sanitize(&target.title, TEXT_MAX);
        target.media_type = sanitize(&target.media_type, TEXT_MAX);
        target.file_name = sanitize(&target.file_name, TEXT_MAX);
        target.aliases.clear();
    }
    description.secret_fields.truncate(ENTRIES_MAX);
    description.secret_fields.iter_mut().for_each(|field| *field = sanitize(field, TEXT_MAX));
    description
}

/// Returns the problem of a target that the plugin does not have; `None` if it has it.
pub fn unknown_target(description: &Description, target: &str) -> Option<Problem> {
    if description.targets.iter().any(|other| other.id == target) {
        return None;
    }
    let ids: Vec<&str> = description.targets.iter().map(|target| target.id.as_str()).collect();
    Some(Problem {
        message: format!("the feature {} has no target \"{}\"", description.feature, sanitize(target, ID_MAX)),
        help: Some(format!("choose one of: {}", ids.join(", "))),
        ..Problem::default()
    })
}

/// Reports whether no text in a schema could drive a terminal. Line breaks are usual in descriptions.
fn texts_are_printable(schema: &Value) -> bool {
    let is_printable = |text: &str| !text.contains(|c| is_unprintable(c) && !matches!(c, '\n' | '\t'));
    match schema {
        Value::String(text) => is_printable(text),
        Value::Array(items) => items.iter().all(texts_are_printable),
        Value::Object(map) => map.iter().all(|(key, item)| is_printable(key) && texts_are_printable(item)),
        _ => true,
    }
}

/// Reports whether a text can be the id of a feature or a target.
pub fn is_id(text: &str) -> bool {
    let first = text.as_bytes().first().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    first && text.len() <= ID_MAX && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Returns the rule for such ids, as a sentence for the person who broke it.
pub fn id_rule(subject: &str) -> String {
    format!("the {subject} must be 1 to {ID_MAX} of `a-z`, `0-9` and `-`, starting with a letter or digit")
}

/// Reports whether a text is `type/subtype` with optional parameters, in characters that a header can contain.
fn is_media_type(text: &str) -> bool {
    let token =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b));
    let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
    text.len() <= 2 * ID_MAX
        && essence.trim_end_matches(' ').split_once('/').is_some_and(|(kind, subtype)| token(kind) && token(subtype))
        && parameters.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
}

fn is_file_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=ID_MAX).contains(&text.len()) && text.bytes().all(plain) && !matches!(text, "." | "..")
}

/// The fields of a config that may contain a secret.
pub struct SecretFields(Vec<Vec<Segment>>);

enum Segment {
    Name(String),
    /// `*`: one level with any name or index.
    One,
    /// `**`: everything beneath; only at the end of a pattern.
    All,
}

impl SecretFields {
    /// Reads the patterns of a description: `auth.token`, `headers.*`, `body.**`.
    ///
    /// # Errors
    /// Returns the rules that the patterns break.
    pub fn new(patterns: &[String]) -> Result<Self, Vec<String>> {
        if patterns.len() > ENTRIES_MAX {
            return Err(vec![format!("`secret-fields` has more than {ENTRIES_MAX} entries")]);
        }
        let (mut read, mut errors) = (Vec::new(), Vec::new());
        for pattern in patterns {
            match Self::pattern(pattern) {
                Ok(segments) => read.push(segments),
                Err(rule) => errors.push(rule),
            }
        }
        if errors.is_empty() { Ok(Self(read)) } else { Err(errors) }
    }

    fn pattern(pattern: &str) -> Result<Vec<Segment>, String> {
        let invalid = || {
            format!(
                "`secret-fields` contains \"{}\": use names joined by `.`, `*` for one level, `**` at the end for any \
                 depth",
                sanitize(pattern, ID_MAX)
            )
        };
        let count = pattern.split('.').count();
        if count > SEGMENTS_MAX {
            return Err(invalid());
        }
        let segment = |(index, text): (usize, &str)| match text {
            "*" => Ok(Segment::One),
            "**" if index + 1 == count => Ok(Segment::All),
            name if !name.is_empty()
                && name.len() <= ID_MAX
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')) =>
            {
                Ok(Segment::Name(name.to_owned()))
            }
            _ => Err(invalid()),
        };
        pattern.split('.').enumerate().map(segment).collect()
    }

    /// Reports whether a secret may be in the field at this path.
    pub fn allow(&self, path: &[String]) -> bool {
        self.0.iter().any(|pattern| {
            let any_depth = matches!(pattern.last(), Some(Segment::All));
            let levels = if any_depth { pattern.len() - 1 } else { pattern.len() };
            let has_length = if any_depth { path.len() > levels } else { path.len() == levels };
            let matches = |(segment, name): (&Segment, &String)| match segment {
                Segment::Name(expected) => expected == name,
                Segment::One | Segment::All => true,
            };
            has_length && pattern[..levels].iter().zip(path).all(matches)
        })
    }

    /// Returns the allowed places as advice for people.
    pub fn help(&self) -> String {
        let written = |pattern: &Vec<Segment>| {
            let segments = pattern.iter().map(|segment| match segment {
                Segment::Name(name) => name.as_str(),
                Segment::One => "*",
                Segment::All => "**",
            });
            format!("`{}`", segments.collect::<Vec<_>>().join("."))
        };
        match self.0.as_slice() {
            [] => "this feature takes no secrets".to_owned(),
            patterns => {
                format!("a secret is allowed in {}", patterns.iter().map(written).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::protocol::Target;
    use super::*;

    fn description() -> Description {
        let target = |id: &str| Target {
            id: id.into(),
            title: "A \u{1b}target".into(),
            media_type: "application/json; charset=utf-8".into(),
            file_name: "a.json".into(),
            aliases: vec!["forged".into()],
        };
        Description {
            feature: "cal-com".into(),
            title: "Cal".into(),
            version: "1".into(),
            schema: "{}".into(),
            secret_fields: vec!["headers.*".into(), "auth.token".into(), "body.**".into()],
            targets: vec![target("json"), target("env")],
        }
    }

    #[test]
    fn a_sound_description_passes_and_loses_its_control_characters() {
        let checked = check(description()).unwrap();
        assert_eq!(checked.targets[0].title, "A target");
        assert!(checked.targets.iter().all(|target| target.aliases.is_empty()), "{checked:?}");
    }

    #[test]
    fn former_names_of_targets_are_those_of_the_schema() {
        let schema = r#"{"x-target-aliases": {"dotenv": "env", "old": "env"}}"#;
        let checked = check(Description { schema: schema.into(), ..description() }).unwrap();
        let [json, env] = &checked.targets[..] else { panic!("{checked:?}") };
        assert_eq!(json.names().collect::<Vec<_>>(), ["json"]);
        assert_eq!(env.names().collect::<Vec<_>>(), ["env", "dotenv", "old"]);
        assert_eq!(
            (env.rename_notice(None), env.rename_notice(Some("env")), json.rename_notice(Some("old"))),
            (None, None, None)
        );
        assert!(env.rename_notice(Some("old")).unwrap().starts_with("the target `old` is now called `env`"));
    }

    #[test]
    fn each_rule_is_told() {
        type Breakage = (fn(&mut Description), &'static str);
        let broken: [Breakage; 21] = [
            (|d| d.feature = "Cal".into(), "feature"),
            (|d| d.feature = "-a".into(), "feature"),
            (|d| d.feature = "a/../b".into(), "feature"),
            (|d| d.schema = "[]".into(), "schema"),
            (|d| d.schema = " ".repeat(SCHEMA_MAX + 1), "schema"),
            (|d| d.schema = r#"{"a":["\u009b2J"]}"#.into(), "schema"),
            (|d| d.schema = r#"{"properties":{"targets":{}}}"#.into(), "field `targets`"),
            (|d| d.schema = r#"{"required":["targets"]}"#.into(), "field `targets`"),
            (
                |d| {
                    d.schema =
                        r##"{"allOf":[{"$ref":"#/$defs/a"}],"$defs":{"a":{"properties":{"targets":{}}}}}"##.into();
                },
                "field `targets`",
            ),
            (|d| d.targets.clear(), "targets"),
            (|d| d.targets[1].id = "json".into(), "twice"),
            (|d| d.targets[1].media_type = "text/x\r\nSet-Cookie: a".into(), "media-type"),
            (|d| d.targets[1].media_type = "text/x\n; a=b".into(), "media-type"),
            (|d| d.targets[1].media_type = "text/x\u{2003}; a=b".into(), "media-type"),
            (|d| d.targets[1].file_name = "../a".into(), "file-name"),
            (|d| d.secret_fields.push("a.**.b".into()), "secret-fields"),
            (|d| d.secret_fields.push("a..b".into()), "secret-fields"),
            (|d| d.schema = r#"{"x-target-aliases": ["env"]}"#.into(), "must be an object"),
            (|d| d.schema = r#"{"x-target-aliases": {"a/b": "env"}}"#.into(), "alias `a/b`"),
            (|d| d.schema = r#"{"x-target-aliases": {"json": "env"}}"#.into(), "`json`, which is itself a target"),
            (|d| d.schema = r#"{"x-target-aliases": {"old": "new"}}"#.into(), "`new`, which is not a target"),
        ];
        for (breakage, word) in broken {
            let mut description = description();
            breakage(&mut description);
            let rules = check(description).unwrap_err();
            assert!(rules.len() == 1 && rules[0].sentence.contains(word), "{rules:?}");
        }
    }

    #[test]
    fn a_field_beneath_the_top_and_any_field_may_be_called_targets() {
        for schema in [
            r#"{"properties":{"a":{"properties":{"targets":{}}}}}"#,
            r#"{"additionalProperties":true,"properties":{"target":{}}}"#,
        ] {
            assert!(check(Description { schema: schema.into(), ..description() }).is_ok(), "{schema}");
        }
    }

    #[test]
    fn all_rules_are_told_at_once_and_what_is_shown_stays_small() {
        let mut description = description();
        description.feature = "\u{1b}[2J".repeat(100);
        description.schema = "[]".into();
        description.targets[1] = description.targets[0].clone();
        description.targets[1].file_name = "../a".into();
        description.secret_fields = vec!["a..b".into(), "good".into(), "**.c".into()];
        let rules = check(description.clone()).unwrap_err();
        let words = ["feature", "twice", "file-name", "a..b", "**.c", "schema"];
        assert_eq!(rules.len(), words.len(), "{rules:?}");
        assert!(rules.iter().zip(words).all(|(rule, word)| rule.sentence.contains(word)), "{rules:?}");
        let shown = sanitized(description);
        assert!(shown.feature.starts_with("[2J[2J") && shown.feature.len() < 100 && shown.schema.is_empty());
    }

    #[test]
    fn patterns_mean_one_level_or_any_depth() {
        let fields = SecretFields::new(&description().secret_fields).unwrap();
        let allow = |path: &str| fields.allow(&path.split('.').map(str::to_owned).collect::<Vec<_>>());
        for good in ["headers.Authorization", "headers.0", "auth.token", "body.a", "body.a.0.b"] {
            assert!(allow(good), "{good}");
        }
        for bad in ["headers", "headers.a.b", "auth", "auth.tokens", "token", "body", "url"] {
            assert!(!allow(bad), "{bad}");
        }
        assert!(!fields.allow(&["headers".into(), "a".into(), "b".into()]));
        assert!(fields.allow(&["headers".into(), "a.b".into()]), "a dot in a key is no level");
        assert!(fields.help().contains("`headers.*`, `auth.token`, `body.**`"));
    }

    #[test]
    fn an_unknown_target_lists_the_known_ones() {
        assert!(unknown_target(&description(), "env").is_none());
        let problem = unknown_target(&description(), "pjsip").unwrap();
        assert_eq!(problem.help.as_deref(), Some("choose one of: json, env"));
    }
}
