//! Maps ids to templates. An id that several files claim maps to a broken template that reports this, because it is not
//! clear which of them is meant.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::scan::Files;
use super::state::FileState;
use super::{Names, Template, TemplateContent};
use guillemet_base::problem::Problem;

/// Reports whether both are the same reading of the same file. Templates that share an id are created again at every
/// scan, so those are compared.
pub(super) fn same(a: &Arc<Template>, b: &Arc<Template>) -> bool {
    Arc::ptr_eq(a, b)
        || (a.path == b.path
            && a.state.is_unread()
            && b.state.is_unread()
            && matches!(
                (&a.content, &b.content),
                (
                    TemplateContent::Broken { problems: a, names: Names::References(_), .. },
                    TemplateContent::Broken { problems: b, names: Names::References(_), .. },
                ) if a == b
            ))
}

/// Returns every template by its id.
pub(super) fn by_id(files: &Files) -> BTreeMap<String, Arc<Template>> {
    let mut grouped: BTreeMap<String, Vec<&Arc<Template>>> = BTreeMap::new();
    for template in files.values() {
        grouped.entry(template.id.clone()).or_default().push(template);
    }
    let resolve = |(id, group): (String, Vec<&Arc<Template>>)| match group.as_slice() {
        [template] => (id, Arc::clone(template)),
        several => {
            let names: Vec<String> = several.iter().map(|template| file_name(&template.path)).collect();
            let problem = Problem {
                message: format!("{} files have the id `{id}`: {}", names.len(), names.join(", ")),
                help: Some("rename or remove all but one".into()),
                ..Problem::default()
            };
            let first = several[0];
            let references = several.iter().flat_map(|template| template.references().iter().cloned()).collect();
            let claimed = Template {
                id: id.clone(),
                feature: first.feature.clone(),
                name: first.name.clone(),
                format: first.format,
                path: first.path.clone(),
                state: FileState::unread(),
                is_local: several.iter().all(|template| template.is_local),
                published: AtomicBool::new(false),
                content: TemplateContent::of_file(problem, Names::References(references)),
            };
            (id, Arc::new(claimed))
        }
    };
    grouped.into_iter().map(resolve).collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
