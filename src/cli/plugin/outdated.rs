//! `plugin outdated`: compares the plugins in force with an index of newer ones. Changes nothing.
//!
//! The index is a stranger's text: it decides nothing, and what it says is shown so that none of it can pass for a line
//! of ours, on a terminal or in a shell.

use std::path::PathBuf;

use clap::Args;

use super::super::{Done, Failure, client, output};
use super::about::{changelog_lines, needed_contract};
use super::download::{self, DownloadTime};
use super::listed::Listed;
use guillemet_api::Listing;
use guillemet_api::plugins::{PluginSource, PluginView};
use guillemet_base::home::{Home, shell_word};
use guillemet_plugin::compare::{VersionOrder, order};
use guillemet_plugin::index::{INDEX_MAX, IndexEntry, PluginIndex};

#[derive(Args)]
pub struct PluginOutdatedArgs {
    /// The index, as a file or at an https URL [default: `plugin_index` in guillemet.toml].
    #[arg(long, value_name = "URL|FILE")]
    index: Option<PathBuf>,
    #[command(flatten)]
    time: DownloadTime,
}

/// How the newest plugin of an index relates to the one in force.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Current,
    Newer,
    Older,
    OtherContent,
    OtherVersion,
    Absent,
}

impl Standing {
    fn new(plugin: &PluginView, entry: Option<&IndexEntry>) -> Self {
        let Some(entry) = entry else { return Self::Absent };
        if entry.sha256 == plugin.digest {
            return Self::Current;
        }
        match order(&plugin.version, &entry.version) {
            VersionOrder::Newer => Self::Newer,
            VersionOrder::Older => Self::Older,
            VersionOrder::Same => Self::OtherContent,
            VersionOrder::First | VersionOrder::Unordered => Self::OtherVersion,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Newer => "the index has a newer one",
            Self::Older => "the index has an older one",
            Self::OtherContent => "the index has other content of this version",
            Self::OtherVersion => "the index has another version",
            Self::Absent => "not in the index",
        }
    }

    /// Reports whether the index offers something else that may be wanted.
    fn is_outdated(self) -> bool {
        matches!(self, Self::Newer | Self::OtherContent | Self::OtherVersion)
    }
}

impl PluginOutdatedArgs {
    pub fn run(self, home: &Home) -> Done {
        let index = match &self.index {
            Some(index) => download::location(index)?,
            None => Listed::read(home)?.index.ok_or_else(|| {
                Failure::new("there is no index; pass --index URL, or set `url` under [plugin_index] in guillemet.toml")
            })?,
        };
        let text = self.time.fetch(&index, INDEX_MAX)?;
        let index = PluginIndex::parse(&text)
            .map_err(|error| Failure::new(format!("{} cannot be used:\n{error}", download::name(&index))))?;
        let plugins: Listing<PluginView> = client::listing(home, "/v1/plugins", "")?;
        let (mut rows, mut outdated) = (Vec::new(), Vec::new());
        for plugin in &plugins.items {
            let entry = index.newest(&plugin.feature);
            // A built-in plugin is as new as the program, so an index need not know it.
            if entry.is_none() && plugin.source == PluginSource::BuiltIn {
                continue;
            }
            let standing = Standing::new(plugin, entry);
            let offered = entry.map_or_else(|| "-".to_owned(), |entry| entry.version.clone());
            rows.push(vec![plugin.feature.clone(), plugin.version.clone(), offered, standing.words().to_owned()]);
            outdated.extend(entry.filter(|_| standing.is_outdated()));
        }
        output::table(&["Feature", "In force", "Index", "Status"], rows);
        outdated.iter().for_each(|entry| print(home, entry));
        match outdated.len() {
            0 => Ok(()),
            1 => Err(Failure::new("one plugin differs from the newest in the index")),
            many => Err(Failure::new(format!("{many} plugins differ from the newest in the index"))),
        }
    }
}

/// Prints what the index says about a plugin, and the command that adds it.
fn print(home: &Home, entry: &IndexEntry) {
    output::line(&format!("\n{} {}", entry.feature, entry.version));
    output::line(&format!("Contract       {}", needed_contract(&entry.contract)));
    let changelog = entry.changelog.as_deref().map(changelog_lines).unwrap_or_default();
    if !changelog.is_empty() {
        output::line("Changelog");
        changelog.iter().for_each(|line| output::line(line));
    }
    let words = format!("plugin add {} --sha256 {}", shell_word(&entry.url), entry.sha256);
    output::line(&format!("Add it with    {}", home.command(&words)));
}
