//! `[plugins]` and `[plugin_index]`: the plugins that a home is meant to have, and where newer ones are listed.
//!
//! Nothing is fetched or added here: `guillemet plugin sync` does that, and the daemon only says what differs.

use std::path::PathBuf;

use super::read::{ConfigReader, Entries};
use guillemet_plan::description::{id_rule, is_id};
use guillemet_plugin::location::{DIGEST_RULE, Location, URL_RULE, digest, https_url};

/// A plugin that a home is meant to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedPlugin {
    /// The feature.
    pub feature: String,
    /// Where the plugin is. A relative path begins at the folder of `guillemet.toml`.
    pub location: Location,
    /// The SHA-256 that it has to have, in lower-case hexadecimal.
    pub digest: String,
}

impl ListedPlugin {
    /// Returns what differs from the plugin that is in force, which has the digest `present`; `None` if nothing does.
    pub fn deviation(&self, present: Option<&str>) -> Option<String> {
        let Self { feature, digest, .. } = self;
        let sync = "run `guillemet plugin sync`";
        match present {
            Some(present) if present == digest => None,
            Some(present) => Some(format!(
                "plugin `{feature}`: SHA-256 {present} is in force, but guillemet.toml lists {digest}; {sync}"
            )),
            None => Some(format!("plugin `{feature}`: guillemet.toml lists it, but it was not added; {sync}")),
        }
    }
}

/// Reads `[plugins]`, ordered by feature.
pub(super) fn listed<'a>(reader: &mut ConfigReader<'a>, root: &mut Entries<'a>) -> Vec<ListedPlugin> {
    let plugins = reader.table(root, "plugins");
    let tables = reader.named_tables(plugins);
    let mut listed: Vec<ListedPlugin> =
        tables.into_iter().filter_map(|(feature, entries, offset)| plugin(reader, feature, entries, offset)).collect();
    listed.sort_by(|a, b| a.feature.cmp(&b.feature));
    listed
}

fn plugin<'a>(
    reader: &mut ConfigReader<'a>,
    feature: &str,
    mut entries: Entries<'a>,
    offset: usize,
) -> Option<ListedPlugin> {
    if !is_id(feature) {
        reader.add_problem("plugins".into(), offset, id_rule("feature"));
    }
    let location = location(reader, &mut entries, offset);
    let path = entries.path_of("sha256");
    let is_given = entries.has("sha256");
    let text = reader.text(&mut entries, "sha256");
    if !is_given {
        reader.add_problem(path.clone(), offset, "is required; `guillemet plugin pack` and `sha256sum` print it");
    }
    let digest = text.and_then(|(text, offset)| {
        let digest = digest(text);
        if digest.is_none() {
            reader.add_problem(path, offset, DIGEST_RULE);
        }
        digest
    });
    reader.reject_unknown(entries);
    Some(ListedPlugin { feature: feature.to_owned(), location: location?, digest: digest? })
}

/// Reads `[plugin_index]`.
pub(super) fn index<'a>(reader: &mut ConfigReader<'a>, root: &mut Entries<'a>) -> Option<Location> {
    let offset = root.offset("plugin_index");
    let mut entries = reader.table(root, "plugin_index");
    let location = location(reader, &mut entries, offset?);
    reader.reject_unknown(entries);
    location
}

/// Reads `url` or `file`, of which a table has to have one.
fn location<'a>(reader: &mut ConfigReader<'a>, entries: &mut Entries<'a>, offset: usize) -> Option<Location> {
    let given = (entries.has("url"), entries.has("file"));
    let (url, file) = (reader.text(entries, "url"), reader.text(entries, "file"));
    if given.0 == given.1 {
        reader.add_problem(entries.path_of("url"), offset, "or `file` is required: set exactly one of them");
        return None;
    }
    if let Some((file, offset)) = file {
        if file.is_empty() || file.contains('\0') {
            reader.add_problem(entries.path_of("file"), offset, "must be a path");
            return None;
        }
        return Some(Location::File(PathBuf::from(file)));
    }
    let (url, offset) = url?;
    if https_url(url).is_none() {
        reader.add_problem(entries.path_of("url"), offset, URL_RULE);
        return None;
    }
    Some(Location::Url(url.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::{Config, ConfigText};
    use super::*;

    fn parse(text: &str) -> Result<Config, Vec<String>> {
        Config::parse(&ConfigText::from(text), |_| None)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn listed_plugins_have_one_place_and_a_digest() {
        let digest = "Ab".repeat(32);
        let text = format!(
            "[plugins.url]\nurl = 'https://a.example/x'\nsha256 = '{digest}'\n[plugins.a-b]\nfile = 'x/y.wasm'\n\
             sha256 = '{digest}'\n[plugin_index]\nurl = 'https://a.example/index.json'\n"
        );
        let config = parse(&text).unwrap();
        let listed =
            |feature: &str, location| ListedPlugin { feature: feature.into(), location, digest: digest.to_lowercase() };
        let file = Location::File("x/y.wasm".into());
        let url = |url: &str| Location::Url(url.into());
        assert_eq!(config.plugins, [listed("a-b", file), listed("url", url("https://a.example/x"))]);
        assert_eq!(config.plugin_index, Some(url("https://a.example/index.json")));
        assert_eq!(parse("").unwrap().plugin_index, None);
        let plugin = &config.plugins[0];
        assert_eq!(plugin.deviation(Some(&plugin.digest)), None);
        assert!(plugin.deviation(None).unwrap().contains("was not added"));
        assert!(plugin.deviation(Some("12")).unwrap().contains("SHA-256 12 is in force"));
    }

    #[test]
    fn every_mistake_in_them_is_told_with_its_line() {
        let text = "[plugins]\nplain = 1\n[plugins.Bad]\nurl = 'https://a.example'\nfile = 'x'\nsha256 = 'x'\n\
                    [plugins.b]\nsha = 1\n[plugins.c]\nurl = 'http://a.example'\nsha256 = 1\n[plugins.d]\nfile = ''\n\
                    sha256 = ''\n[plugin_index]\nsha256 = ''\n";
        let problems = parse(text).unwrap_err();
        let begins = [
            "2:9: `plugins.plain` must be a table, not a whole number",
            "3:10: `plugins` the feature must be",
            "3:10: `plugins.Bad.url` or `file` is required: set exactly one",
            "6:10: `plugins.Bad.sha256` must be a SHA-256",
            "7:10: `plugins.b.url` or `file` is required: set exactly one",
            "7:10: `plugins.b.sha256` is required",
            "8:1: `plugins.b.sha` is not a known key; use one of: url, file, sha256",
            "10:7: `plugins.c.url` must be an https URL",
            "11:10: `plugins.c.sha256` must be a string",
            "13:8: `plugins.d.file` must be a path",
            "14:10: `plugins.d.sha256` must be a SHA-256",
            "15:2: `plugin_index.url` or `file` is required: set exactly one",
            "16:1: `plugin_index.sha256` is not a known key; use one of: url, file",
        ];
        assert_eq!(problems.len(), begins.len(), "{problems:#?}");
        for (problem, begin) in problems.iter().zip(begins) {
            assert!(problem.starts_with(begin), "{begin}: {problem}");
        }
    }
}
