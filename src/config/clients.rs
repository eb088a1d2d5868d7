//! `[api]` and `[[client]]`: who else may ask, and what.
//!
//! Names of users and groups become numbers here, once, when the configuration is read.

use serde::Deserialize;

use crate::pattern::Pattern;

/// Whom a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Processes of this user.
    User(u32),
    /// Processes that are in this group.
    Group(u32),
}

/// What some callers may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Who.
    pub who: Who,
    /// The templates it may render; a template without a target stands for all of its targets.
    pub templates: Vec<TemplatePattern>,
    /// The secrets it may resolve by name.
    pub secrets: Vec<Pattern>,
    /// Whether it may do everything.
    pub admin: bool,
}

/// `feature/name[:target]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplatePattern {
    /// `feature/name`.
    pub id: Pattern,
    /// The target; `None` for all of them.
    pub target: Option<Pattern>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawApi {
    group: Option<NameOrNumber>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRule {
    uid: Option<NameOrNumber>,
    group: Option<NameOrNumber>,
    #[serde(default)]
    templates: Vec<String>,
    #[serde(default)]
    secrets: Vec<String>,
    #[serde(default, alias = "administer")]
    admin: bool,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a name or a number is needed")]
enum NameOrNumber {
    Number(u32),
    Name(String),
}

impl NameOrNumber {
    fn uid(&self) -> Result<u32, String> {
        match self {
            Self::Number(number) => Ok(*number),
            Self::Name(name) => uzers::get_user_by_name(name)
                .map(|user| user.uid())
                .ok_or_else(|| format!("there is no user `{name}` on this machine")),
        }
    }

    fn gid(&self) -> Result<u32, String> {
        match self {
            Self::Number(number) => Ok(*number),
            Self::Name(name) => uzers::get_group_by_name(name)
                .map(|group| group.gid())
                .ok_or_else(|| format!("there is no group `{name}` on this machine")),
        }
    }
}

/// The group that may connect, if there is one.
pub(super) fn api_group(raw: &RawApi) -> Result<Option<u32>, String> {
    raw.group.as_ref().map(NameOrNumber::gid).transpose().map_err(|problem| format!("api.group: {problem}"))
}

/// The rules; everything wrong with all of them at once.
pub(super) fn rules(raw: &[RawRule]) -> Result<Vec<Rule>, String> {
    let mut rules = Vec::with_capacity(raw.len());
    let mut problems = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        let mut wrong = Vec::new();
        let who = match (&raw.uid, &raw.group) {
            (Some(uid), None) => uid.uid().map(Who::User),
            (None, Some(group)) => group.gid().map(Who::Group),
            _ => Err("it needs either uid or group".into()),
        };
        let templates: Vec<_> = raw.templates.iter().map(|text| template(text)).collect();
        let secrets: Vec<_> = raw.secrets.iter().map(|text| secret(text)).collect();
        if raw.templates.is_empty() && raw.secrets.is_empty() && !raw.admin {
            wrong.push("it allows nothing; give it templates, secrets or admin".to_owned());
        }
        wrong.extend(who.as_ref().err().cloned());
        wrong.extend(templates.iter().filter_map(|parsed| parsed.as_ref().err()).cloned());
        wrong.extend(secrets.iter().filter_map(|parsed| parsed.as_ref().err()).cloned());
        problems.extend(wrong.into_iter().map(|problem| format!("[[client]] number {}: {problem}", index + 1)));
        if let Ok(who) = who {
            rules.push(Rule {
                who,
                templates: templates.into_iter().flatten().collect(),
                secrets: secrets.into_iter().flatten().collect(),
                admin: raw.admin,
            });
        }
    }
    if problems.is_empty() { Ok(rules) } else { Err(problems.join("; ")) }
}

fn template(text: &str) -> Result<TemplatePattern, String> {
    let (id, target) = text.split_once(':').map_or((text, None), |(id, target)| (id, Some(target)));
    let parts = |text: &str, number: usize| {
        let parts: Vec<&str> = text.split('/').collect();
        parts.len() == number && parts.iter().all(|part| !part.is_empty()) && !text.contains(char::is_whitespace)
    };
    if !parts(id, 2) || target.is_some_and(|target| !parts(target, 1) || target.contains(':')) {
        return Err(format!("`{text}` is no template; it has to be feature/name or feature/name:target"));
    }
    Ok(TemplatePattern { id: Pattern::exact(id), target: target.map(Pattern::exact) })
}

fn secret(text: &str) -> Result<Pattern, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-*?".contains(c);
    if text.is_empty() || !text.chars().all(allowed) {
        return Err(format!("`{text}` is no name of a secret, and no pattern of one"));
    }
    Ok(Pattern::ignoring_case(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Raw {
        client: Vec<RawRule>,
    }

    fn parse(text: &str) -> Result<Vec<Rule>, String> {
        let raw: Raw = toml::from_str(text).map_err(|error| error.to_string())?;
        rules(&raw.client)
    }

    #[test]
    fn names_and_numbers_are_the_same_rule() {
        let rules = parse(
            "[[client]]\nuid = 0\ntemplates = ['mcp-server/*', 'sip-trunk/office:livekit']\n\
             [[client]]\nuid = 'root'\nsecrets = ['calcom-*']\n[[client]]\ngroup = 'root'\nadminister = true\n",
        );
        let rules = rules.unwrap();
        assert_eq!([rules[0].who, rules[1].who, rules[2].who], [Who::User(0), Who::User(0), Who::Group(0)]);
        assert_eq!(rules[0].templates[1].target, Some(Pattern::exact("livekit")));
        assert!(rules[2].admin && rules[1].secrets[0].matches("CalCom-key"));
        assert!(!rules[0].templates[1].id.matches("sip-trunk/Office"));
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let problems = parse(
            "[[client]]\nuid = 'nobody-of-that-name'\ntemplates = ['mcp-server', 'a/b:c:d', '/', 'a/b:']\nsecrets = ['a/b']\n\
             [[client]]\nuid = 1\ngroup = 1\nadmin = true\n[[client]]\nuid = 1\n",
        );
        let problems = problems.unwrap_err();
        for word in [
            "nobody-of-that-name",
            "`mcp-server`",
            "`a/b:c:d`",
            "`/`",
            "`a/b:`",
            "`a/b` is no name",
            "number 2",
            "number 3: it allows nothing",
        ] {
            assert!(problems.contains(word), "{word}: {problems}");
        }
        for bad in ["[[client]]\nuid = -1\nadmin = true", "[[client]]\nuid = 1\nadmin = true\nmore = 1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
