//! `[api]` and `[[client]]`: the rules for other callers.
//!
//! Names of users and groups stay names here, because the number behind a name can change while the file does not.

use std::fmt;

use toml::Spanned;
use toml::de::DeValue;

use super::ConfigPlace;
use super::read::{ConfigReader, Entries, TextAt};
use crate::pattern::Pattern;

/// A user or group, as the file names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NameOrNumber {
    /// The user or group with this number.
    Number(u32),
    /// The user or group that has this name at the time of a request.
    Name(String),
}

/// The callers that a rule is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CallerMatch {
    /// The processes of this user.
    User(NameOrNumber),
    /// The processes that are in this group.
    Group(NameOrNumber),
}

/// Formats the callers as errors name them: "user `agent`".
impl fmt::Display for CallerMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match self {
            Self::User(name) => ("user", name),
            Self::Group(name) => ("group", name),
        };
        match name {
            NameOrNumber::Number(number) => write!(f, "{kind} {number}"),
            NameOrNumber::Name(name) => write!(f, "{kind} `{name}`"),
        }
    }
}

/// A rule: some callers, and what they are allowed to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRule {
    /// The callers that the rule is about.
    pub caller: CallerMatch,
    /// The templates they can render. A template without a target means all of its targets.
    pub templates: Vec<TemplatePattern>,
    /// The secrets they can resolve by name.
    pub secrets: Vec<Pattern>,
    /// Whether they can do everything.
    pub admin: bool,
    /// The place of the `uid` or `group` in the file.
    pub place: ConfigPlace,
}

impl ClientRule {
    /// Returns whether another rule allows the same to the same callers, wherever it is in the file.
    pub fn is_same(&self, other: &Self) -> bool {
        Self { place: other.place, ..self.clone() } == *other
    }
}

/// A pattern of the form `feature/name[:target]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplatePattern {
    /// The pattern for `feature/name`. Case matters.
    pub id: Pattern,
    /// The target; `None` means all targets.
    pub target: Option<Pattern>,
}

/// Reads `[api]`. Returns the group that can connect, if the file names one.
pub(super) fn api_group<'a>(reader: &mut ConfigReader<'a>, root: &mut Entries<'a>) -> Option<NameOrNumber> {
    let mut api = reader.table(root, "api");
    let group = api.take("group").and_then(|group| name_or_number(reader, &api, "group", group));
    reader.reject_unknown(api);
    group
}

/// Reads every `[[client]]` table.
pub(super) fn rules<'a>(reader: &mut ConfigReader<'a>, root: &mut Entries<'a>) -> Vec<ClientRule> {
    let tables = reader.tables(root, "client");
    tables.into_iter().filter_map(|(entries, offset)| rule(reader, entries, offset)).collect()
}

fn rule<'a>(reader: &mut ConfigReader<'a>, mut entries: Entries<'a>, offset: usize) -> Option<ClientRule> {
    let (uid, group) = (entries.take("uid"), entries.take("group"));
    let matched = match (uid, group) {
        (Some(uid), None) => {
            let caller = name_or_number(reader, &entries, "uid", uid).map(CallerMatch::User);
            caller.map(|caller| (caller, uid.span().start))
        }
        (None, Some(group)) => {
            let caller = name_or_number(reader, &entries, "group", group).map(CallerMatch::Group);
            caller.map(|caller| (caller, group.span().start))
        }
        _ => {
            reader.add_problem(entries.path_of("uid"), offset, "or `group` is required: set exactly one of them");
            None
        }
    };
    let templates = reader.texts(&mut entries, "templates");
    let secrets = reader.texts(&mut entries, "secrets");
    let admin = {
        let admin = reader.flag(&mut entries, "admin");
        reader.flag(&mut entries, "administer") || admin
    };
    if templates.is_empty() && secrets.is_empty() && !admin {
        let message = "is empty, so the rule allows nothing; add templates, `secrets` or `admin = true`";
        reader.add_problem(entries.path_of("templates"), offset, message);
    }
    let templates = templates.into_iter().filter_map(|text| template(reader, &entries, text)).collect();
    let secrets = secrets.into_iter().filter_map(|text| secret(reader, &entries, text)).collect();
    reader.reject_unknown(entries);
    let (caller, offset) = matched?;
    Some(ClientRule { caller, templates, secrets, admin, place: reader.place(offset) })
}

fn name_or_number(
    reader: &mut ConfigReader<'_>,
    entries: &Entries<'_>,
    key: &str,
    value: &Spanned<DeValue<'_>>,
) -> Option<NameOrNumber> {
    let parsed = match value.get_ref() {
        DeValue::Integer(number) => u32::from_str_radix(number.as_str(), number.radix()).ok().map(NameOrNumber::Number),
        DeValue::String(name) if !name.is_empty() && !name.contains('\0') => Some(NameOrNumber::Name(name.to_string())),
        _ => None,
    };
    if parsed.is_none() {
        let message = format!("must be a name, or a number between 0 and {}", u32::MAX);
        reader.add_problem(entries.path_of(key), value.span().start, message);
    }
    parsed
}

fn template(
    reader: &mut ConfigReader<'_>,
    entries: &Entries<'_>,
    (text, offset): TextAt<'_>,
) -> Option<TemplatePattern> {
    let (id, target) = text.split_once(':').map_or((text, None), |(id, target)| (id, Some(target)));
    let parts = |text: &str, number: usize| {
        let parts: Vec<&str> = text.split('/').collect();
        parts.len() == number && parts.iter().all(|part| !part.is_empty()) && !text.contains(char::is_whitespace)
    };
    if !parts(id, 2) || target.is_some_and(|target| !parts(target, 1) || target.contains(':')) {
        let message = "is not a template here; use feature/name or feature/name:target";
        reader.add_problem(entries.path_of("templates"), offset, message);
        return None;
    }
    Some(TemplatePattern { id: Pattern::exact(id), target: target.map(Pattern::exact) })
}

fn secret(reader: &mut ConfigReader<'_>, entries: &Entries<'_>, (text, offset): TextAt<'_>) -> Option<Pattern> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-*?".contains(c);
    if text.is_empty() || !text.chars().all(allowed) {
        let message = "contains an entry that is not a secret name or pattern; use letters, digits and ._-*?";
        reader.add_problem(entries.path_of("secrets"), offset, message);
        return None;
    }
    Some(Pattern::ignoring_case(text))
}

#[cfg(test)]
mod tests {
    use super::super::{Config, ConfigText};
    use super::*;
    use guillemet_base::problem::Problem;

    fn parse(text: &str) -> Result<Vec<ClientRule>, Vec<String>> {
        let parsed = Config::parse(&ConfigText::from(text), |_| None);
        parsed.map(|config| config.clients).map_err(|problems| problems.iter().map(Problem::to_string).collect())
    }

    #[test]
    fn names_stay_names_and_numbers_numbers() {
        let rules = parse(
            "[[client]]\nuid = 0\ntemplates = ['mcp-server/*', 'sip-trunk/office:livekit']\n\
             [[client]]\nuid = 'root'\nsecrets = ['calcom-*']\n[[client]]\ngroup = 'root'\nadminister = true\n",
        );
        let rules = rules.unwrap();
        let root = || NameOrNumber::Name("root".into());
        let who = [CallerMatch::User(NameOrNumber::Number(0)), CallerMatch::User(root()), CallerMatch::Group(root())];
        assert_eq!([&rules[0].caller, &rules[1].caller, &rules[2].caller], who.each_ref());
        assert_eq!(rules[0].templates[1].target, Some(Pattern::exact("livekit")));
        assert!(rules[2].admin && rules[1].secrets[0].matches("CalCom-key"));
        assert!(!rules[0].templates[1].id.matches("sip-trunk/Office"));
        assert_eq!(rules[1].place, ConfigPlace { line: 5, column: 7 });
        // An unknown name is not a mistake in the file.
        assert_eq!(parse("[[client]]\nuid = 'nobody-of-that-name'\nadmin = true\n").unwrap().len(), 1);
    }

    #[test]
    fn everything_wrong_is_told_at_once_with_its_place() {
        let problems = parse(
            "[[client]]\nuid = 1.5\ntemplates = ['mcp-server', 'a/b', 'a/b:c:d']\nsecrets = ['a/b']\n\
             [[client]]\nuid = 1\ngroup = 1\nadmin = true\n[[client]]\nuid = 1\n[[client]]\nuid = -1\nadmin = 'yes'\nmore = 1\n",
        );
        let problems = problems.unwrap_err();
        for expected in [
            "2:7: `client[1].uid` must be a name",
            "3:14: `client[1].templates` is not a template",
            "3:35: `client[1].templates` is not a template",
            "4:12: `client[1].secrets` contains an entry",
            "5:1: `client[2].uid` or `group`",
            "9:1: `client[3].templates` is empty",
            "12:7: `client[4].uid` must be a name",
            "13:9: `client[4].admin` must be true or false, not a string",
            "14:1: `client[4].more` is not a known key",
        ] {
            assert!(problems.iter().any(|problem| problem.starts_with(expected)), "{expected}: {problems:#?}");
        }
    }
}
