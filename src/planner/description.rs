//! What a plugin says of itself, and whether that can be believed.
//!
//! Pure: the planner and its client both ask it.

use super::protocol::Description;
use super::text::{is_unfit, tidy};
use crate::template::Problem;

/// Most characters of an identifier: a feature, a target, a segment of a field.
const ID_MAX: usize = 64;
/// Most characters of a text for people.
const TEXT_MAX: usize = 200;
/// Most bytes of the schema.
const SCHEMA_MAX: usize = 256 << 10;
/// Most targets, and most secret fields.
const ENTRIES_MAX: usize = 64;
/// Most segments of a secret field.
const SEGMENTS_MAX: usize = 16;

/// Holds a description to the contract and strips what could drive a terminal.
///
/// # Errors
/// The rule that it breaks, for the plugin's author.
pub fn check(mut description: Description) -> Result<Description, String> {
    if !is_id(&description.feature) {
        return Err(id_rule("feature"));
    }
    description.title = tidy(&description.title, TEXT_MAX);
    description.version = tidy(&description.version, ID_MAX);
    if description.schema.len() > SCHEMA_MAX {
        return Err(format!("`schema` is larger than {} KiB", SCHEMA_MAX >> 10));
    }
    match serde_json::from_str::<serde_json::Value>(&description.schema) {
        Ok(schema @ serde_json::Value::Object(_)) => {
            if !texts_are_fit(&schema) {
                return Err("`schema` holds control characters".into());
            }
        }
        _ => return Err("`schema` is not a JSON object".into()),
    }
    if description.targets.is_empty() || description.targets.len() > ENTRIES_MAX {
        return Err(format!("`targets` must have 1 to {ENTRIES_MAX} entries"));
    }
    let mut seen = Vec::new();
    for target in &mut description.targets {
        if !is_id(&target.id) {
            return Err(id_rule("id of a target"));
        }
        if seen.contains(&target.id) {
            return Err(format!("the target `{}` is there twice", target.id));
        }
        seen.push(target.id.clone());
        target.title = tidy(&target.title, TEXT_MAX);
        if !is_media_type(&target.media_type) {
            return Err(format!("`media-type` of the target `{}` is not a media type", target.id));
        }
        if !is_file_name(&target.file_name) {
            return Err(format!("`file-name` of the target `{}` is not a plain file name", target.id));
        }
    }
    SecretFields::new(&description.secret_fields)?;
    Ok(description)
}

/// The problem of a target that the plugin does not have.
pub fn unknown_target(description: &Description, target: &str) -> Option<Problem> {
    if description.targets.iter().any(|known| known.id == target) {
        return None;
    }
    let known: Vec<&str> = description.targets.iter().map(|target| target.id.as_str()).collect();
    Some(Problem {
        message: format!("the feature {} has no target \"{}\"", description.feature, tidy(target, ID_MAX)),
        help: Some(format!("choose one of: {}", known.join(", "))),
        ..Problem::default()
    })
}

/// Whether no text in it could drive a terminal. Line breaks are usual in descriptions.
fn texts_are_fit(schema: &serde_json::Value) -> bool {
    let fit = |text: &str| !text.contains(|c| is_unfit(c) && !matches!(c, '\n' | '\t'));
    match schema {
        serde_json::Value::String(text) => fit(text),
        serde_json::Value::Array(items) => items.iter().all(texts_are_fit),
        serde_json::Value::Object(map) => map.iter().all(|(key, item)| fit(key) && texts_are_fit(item)),
        _ => true,
    }
}

/// Whether a text can name a feature or a target.
pub fn is_id(text: &str) -> bool {
    let first = text.as_bytes().first().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    first && text.len() <= ID_MAX && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// The rule of such names, for whoever broke it.
pub fn id_rule(what: &str) -> String {
    format!("the {what} must be 1 to {ID_MAX} of `a-z`, `0-9` and `-`, beginning with a letter or a digit")
}

/// `type/subtype` with optional parameters, in characters that can stand in a header.
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

/// The fields of a config that may hold a secret.
pub struct SecretFields(Vec<Vec<Segment>>);

enum Segment {
    Name(String),
    /// `*`: any name or index, one level.
    One,
    /// `**`: everything beneath; last only.
    All,
}

impl SecretFields {
    /// Reads the patterns of a description: `auth.token`, `headers.*`, `body.**`.
    ///
    /// # Errors
    /// The rule that one of them breaks.
    pub fn new(patterns: &[String]) -> Result<Self, String> {
        if patterns.len() > ENTRIES_MAX {
            return Err(format!("`secret-fields` has more than {ENTRIES_MAX} entries"));
        }
        patterns.iter().map(|pattern| Self::pattern(pattern)).collect::<Result<_, _>>().map(Self)
    }

    fn pattern(pattern: &str) -> Result<Vec<Segment>, String> {
        let wrong = || {
            format!(
                "`secret-fields` holds \"{}\": use names joined by `.`, `*` for one level, `**` at the end for any depth",
                tidy(pattern, ID_MAX)
            )
        };
        let count = pattern.split('.').count();
        if count > SEGMENTS_MAX {
            return Err(wrong());
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
            _ => Err(wrong()),
        };
        pattern.split('.').enumerate().map(segment).collect()
    }

    /// Whether a secret may stand in the field at this path.
    pub fn allow(&self, path: &[String]) -> bool {
        self.0.iter().any(|pattern| {
            let deep = matches!(pattern.last(), Some(Segment::All));
            let levels = if deep { pattern.len() - 1 } else { pattern.len() };
            let fits = if deep { path.len() > levels } else { path.len() == levels };
            let matches = |(segment, name): (&Segment, &String)| match segment {
                Segment::Name(wanted) => wanted == name,
                Segment::One | Segment::All => true,
            };
            fits && pattern[..levels].iter().zip(path).all(matches)
        })
    }

    /// Where a secret may stand, for a person.
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
                format!("a secret may stand in {}", patterns.iter().map(written).collect::<Vec<_>>().join(", "))
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
    }

    #[test]
    fn each_rule_is_told() {
        type Breakage = (fn(&mut Description), &'static str);
        let broken: [Breakage; 14] = [
            (|d| d.feature = "Cal".into(), "feature"),
            (|d| d.feature = "-a".into(), "feature"),
            (|d| d.feature = "a/../b".into(), "feature"),
            (|d| d.schema = "[]".into(), "schema"),
            (|d| d.schema = " ".repeat(SCHEMA_MAX + 1), "schema"),
            (|d| d.schema = r#"{"a":["\u009b2J"]}"#.into(), "schema"),
            (|d| d.targets.clear(), "targets"),
            (|d| d.targets[1].id = "json".into(), "twice"),
            (|d| d.targets[1].media_type = "text/x\r\nSet-Cookie: a".into(), "media-type"),
            (|d| d.targets[1].media_type = "text/x\n; a=b".into(), "media-type"),
            (|d| d.targets[1].media_type = "text/x\u{2003}; a=b".into(), "media-type"),
            (|d| d.targets[1].file_name = "../a".into(), "file-name"),
            (|d| d.secret_fields.push("a.**.b".into()), "secret-fields"),
            (|d| d.secret_fields.push("a..b".into()), "secret-fields"),
        ];
        for (breakage, word) in broken {
            let mut description = description();
            breakage(&mut description);
            let error = check(description).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
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
