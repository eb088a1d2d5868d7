//! `template new`: writes a first template, and says which secrets it needs.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;

use clap::Args;

use super::starter::Starter;
use crate::cli::{Done, Failure, adopt, offline, output};
use guillemet_base::files;
use guillemet_base::home::Home;
use guillemet_base::names::SecretName;
use guillemet_plan::description::{id_rule, is_id};
use guillemet_template::Format;
use guillemet_template::catalog::files_of;
use guillemet_template::lexer::lex;

#[derive(Args)]
pub struct TemplateNewArgs {
    /// FEATURE/NAME. Run `guillemet plugin list` to see the features.
    #[arg(value_parser = id)]
    id: (String, String),
    /// The format of the file. JSON has no comments.
    #[arg(long, value_parser = ["toml", "json", "jsonc", "yaml"], default_value = "toml")]
    format: String,
}

fn id(text: &str) -> Result<(String, String), String> {
    let (feature, name) = text.split_once('/').ok_or("an id is FEATURE/NAME, such as cal-com/frontdesk")?;
    if !is_id(feature) {
        return Err(id_rule("name of a feature"));
    }
    Ok((feature.to_owned(), adopt::template_name(name)?))
}

impl TemplateNewArgs {
    pub fn run(self, home: &Home) -> Done {
        let Self { id: (feature, name), format } = self;
        let id = format!("{feature}/{name}");
        if !home.data().is_dir() {
            let (home_path, init) = (home.data().display(), home.command("init"));
            return Err(Failure::new(format!("there is no home at {home_path}; run `{init}` to set one up")));
        }
        let folder = home.templates().join(&feature);
        let file = |format: &str| folder.join(format!("{name}.{format}"));
        if let Some(existing) = files_of(&home.templates(), &id).first() {
            return Err(exists_already(&id, existing));
        }
        // An added plugin may have replaced the built-in one, whose starter would not fit then.
        let own =
            Starter::of_feature(&feature, &name).filter(|_| !home.plugins().join(format!("{feature}.wasm")).exists());
        let is_own = own.is_some();
        let starter = match own {
            Some(starter) => starter,
            None => Starter::of_plugin(&offline::compiler(home)?.describe(&feature).map_err(Failure::new)?, &name)?,
        };
        let text = starter.text(Format::from_extension(&format).unwrap_or(Format::Toml));
        let path = file(&format);
        let result = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        result.and_then(|()| files::write_new(&path, text.as_bytes())).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => exists_already(&id, &path),
            _ => Failure::new(format!("cannot write {}: {error}", path.display())),
        })?;
        output::note(&format!("wrote {}", path.display()));
        let add = |name: &SecretName| format!("  {}\n", home.command(&format!("secret add {}", name.as_str())));
        let add: String = secrets(&text).iter().map(add).collect();
        let render = home.command(&format!("render {id}"));
        output::note(&format!("\nNext, with the daemon running:\n{add}  {render}"));
        if !is_own
            && offline::compiler(home)?
                .check(home.templates(), std::slice::from_ref(&id), None)?
                .templates
                .iter()
                .any(|it| it.is_broken())
        {
            output::note(&format!(
                "\nSome fields still need your values: run `guillemet template check {id}` to list them"
            ));
        }
        Ok(())
    }
}

fn exists_already(id: &str, path: &std::path::Path) -> Failure {
    Failure::new(format!("template {id} already exists ({}); nothing was changed. Choose another name", path.display()))
}

/// Returns the secrets that a template references, each once.
fn secrets(text: &str) -> Vec<SecretName> {
    let mut names: Vec<SecretName> = Vec::new();
    for reference in lex(text).map(|lexed| lexed.references).unwrap_or_default() {
        if !names.contains(&reference.name) {
            names.push(reference.name);
        }
    }
    names
}
