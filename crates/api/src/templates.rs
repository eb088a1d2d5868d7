//! Templates, the files beside them that are not templates, and previews of their documents.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::secrets::ReferenceView;
use crate::{Listing, Problem};

/// Whether a template can be rendered for every target that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TemplateStatus {
    /// It can be rendered for all of them.
    Ok,
    /// For some of them it cannot.
    Broken,
}

impl TemplateStatus {
    /// Returns the name of the status in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Broken => "broken",
        }
    }
}

/// A template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateView {
    /// The id, `FEATURE/NAME`.
    pub id: String,
    /// The feature whose plugin plans the template.
    pub feature: String,
    /// The format of the file: `toml`, `json`, `jsonc` or `yaml`.
    pub format: Cow<'static, str>,
    /// Whether it can be rendered.
    pub status: TemplateStatus,
    /// The references in it, in the order of the file.
    pub references: Vec<ReferenceView>,
    /// The ids of the targets that the template names, or of all targets of its feature; the default first.
    pub targets: Vec<String>,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
    /// What may be wrong with it, but prevents no render.
    pub warnings: Vec<Problem>,
}

/// A page of templates, and the files that are not templates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateListing<T = TemplateView> {
    /// The templates of the page, by id.
    #[serde(flatten)]
    pub page: Listing<T>,
    /// The files in the whole folder that are not templates, the same on every page.
    pub strays: Strays,
}

/// Files in the templates' folder that are not templates. None of them is rendered, and a secret whose name occurs in
/// one is not deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strays {
    /// The number of such files.
    pub count: usize,
    /// The first 100 of them.
    pub items: Vec<StrayView>,
}

/// A file that is not a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrayView {
    /// The path inside the templates' folder.
    pub path: String,
    /// The reason why it is not a template, for programs: `place`, `extension`, `too_deep`, `hidden`, `backup` or
    /// `too_many`.
    pub reason: Cow<'static, str>,
    /// The same for people, and what to do about it.
    pub message: String,
}

/// The document of a template for one target, with the names of the secrets in place of their values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The id of the template.
    pub template: String,
    /// The id of the target.
    pub target: String,
    /// The media type of the rendered config.
    pub media_type: String,
    /// The usual file name of the rendered config.
    pub file_name: String,
    /// The document, with `«name»` in place of each value.
    pub document: String,
    /// What happens to each value, in the order of the document.
    pub secrets: Vec<ExplainedUse>,
    /// What may be wrong with the template, but prevents no render.
    pub warnings: Vec<Problem>,
}

/// A place of the document that gets a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedUse {
    /// The name of the secret, as the template spells it.
    pub name: String,
    /// The id of the template.
    pub template: String,
    /// The line of the reference.
    pub line: u32,
    /// The column of the reference.
    pub column: u32,
    /// The field of the config.
    pub field: String,
    /// The encodings of the value, the first applied first.
    pub encodings: Vec<Cow<'static, str>>,
}
