//! Runs the template engine: variables, conditions, loops; and slots in place of the secrets.
//!
//! Errors never contain text of the template or the value of a variable, only names and their places.

use std::sync::{Arc, Mutex, PoisonError};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};

use crate::source_map::{Origins, of_source};
use guillemet_base::problem::Problem;
use guillemet_plan::protocol::PlanRequest;
use guillemet_plan::slots;

/// The most instructions that the engine may run for one template.
const FUEL: u64 = 500_000;
/// The deepest nesting of macros and loops.
const RECURSION: usize = 64;
/// The most slots that one template may emit.
const EMISSIONS_MAX: usize = 10_000;
/// The most bytes of a rendered text.
const RENDERED_MAX: usize = 4 << 20;
/// The most undefined variables that are collected before the template is refused.
const UNDEFINED_MAX: usize = 32;
/// The most value filters on one secret.
const FILTERS_MAX: usize = 8;

/// Advice for text that may belong to another language.
const RAW: &str = "if this text is not for Guillemet, put it between `<% raw %>` and `<% endraw %>`";

/// A slot that a call returned.
pub struct Issued {
    /// The slot in its canonical form.
    pub slot: String,
    /// The index of the reference in the request.
    pub reference: u32,
}

/// The output of the template engine.
pub struct RenderedText {
    /// The rendered text, with slots.
    pub text: String,
    /// The mapping back to the template.
    pub origins: Origins,
    /// Every slot issued, whether or not it reached the text.
    pub issued: Vec<Issued>,
}

/// Renders the engine's text of a request.
///
/// # Errors
/// Returns every problem that could be found in it.
pub fn render(request: &PlanRequest) -> Result<RenderedText, Vec<Problem>> {
    let too_long = request.references.iter().filter(|reference| reference.filters.len() > FILTERS_MAX);
    let too_long: Vec<_> = too_long
        .map(|reference| Problem {
            line: Some(reference.line),
            column: Some(reference.column),
            message: format!("more than {FILTERS_MAX} filters after the secret \"{}\"", reference.name),
            help: Some("remove some of them".into()),
            ..Problem::default()
        })
        .collect();
    if !too_long.is_empty() {
        return Err(too_long);
    }

    // The engine reports undefined variables one at a time. Each one found gets a stand-in and the template is rendered
    // again, so that a person learns of all of them at once; the text made with stand-ins is discarded.
    let mut vars = request.vars.clone();
    let mut env = serde_json::json!(request.env);
    let mut problems = Vec::new();
    let mut unknown = Vec::new();
    loop {
        match attempt(request, &vars, &env, &unknown) {
            Ok(rendered) if problems.is_empty() => return Ok(rendered),
            Ok(_) => return Err(problems),
            Err(RenderError::Problems(more)) => {
                problems.extend(more);
                return Err(problems);
            }
            Err(RenderError::Unknown(names)) => {
                problems.extend(names.iter().map(|(_, problem)| problem.clone()));
                unknown = names.into_iter().map(|(name, _)| name).collect();
            }
            Err(RenderError::Engine(error)) => {
                let name = undefined_name(&error, &request.text, &vars, &env);
                if name.is_none() && !unknown.is_empty() {
                    // More likely caused by a stand-in than by the author.
                    return Err(problems);
                }
                problems.push(explain(&error, &request.text, name.as_deref()));
                let filled = name.is_some_and(|name| fill_in(&name, &mut vars, &mut env));
                if !filled || problems.len() >= UNDEFINED_MAX {
                    return Err(problems);
                }
            }
        }
    }
}

enum RenderError {
    Problems(Vec<Problem>),
    /// Names that nothing defines, each with its problem.
    Unknown(Vec<(String, Problem)>),
    Engine(Error),
}

/// Renders once; `stand_ins` are unknown names that have already been reported.
fn attempt(
    request: &PlanRequest,
    vars: &serde_json::Value,
    env: &serde_json::Value,
    stand_ins: &[String],
) -> Result<RenderedText, RenderError> {
    let issued = Arc::new(Mutex::new(Vec::new()));
    let mut engine = engine(request, vars, env, &issued).map_err(RenderError::Engine)?;
    for name in stand_ins {
        engine.add_global(name.clone(), Value::from(""));
    }
    let template = engine.template_from_str(&request.text).map_err(RenderError::Engine)?;
    let unknown = unknown_names(&engine, request, template.undeclared_variables(false));
    if !unknown.is_empty() {
        return Err(RenderError::Unknown(unknown));
    }
    let (text, spans) = template.render_with_spans(()).map_err(RenderError::Engine)?;
    if text.len() > RENDERED_MAX {
        let message = format!("the rendered text is larger than {} MiB", RENDERED_MAX >> 20);
        let help = Some("split the template, or shorten its loops".into());
        return Err(RenderError::Problems(vec![Problem { message, help, ..Problem::default() }]));
    }
    let issued = std::mem::take(&mut *issued.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(RenderedText { text, origins: Origins::new(request, &spans), issued })
}

/// Creates an engine with minijinja's built-in filters, tests and functions and nothing else: no loader, nothing that
/// reads the time or draws random numbers, and no `debug`, which prints variables.
fn engine<'a>(
    request: &PlanRequest,
    vars: &serde_json::Value,
    env: &serde_json::Value,
    issued: &Arc<Mutex<Vec<Issued>>>,
) -> Result<Environment<'a>, Error> {
    let mut engine = Environment::new();
    let syntax = SyntaxConfig::builder()
        .block_delimiters("\u{e000}", "\u{e001}")
        .variable_delimiters("\u{e002}", "\u{e003}")
        .comment_delimiters("\u{e004}", "\u{e005}")
        .keep_trailing_newline(true)
        .build()?;
    engine.set_syntax(syntax);
    engine.set_auto_escape_callback(|_| AutoEscape::None);
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_fuel(Some(FUEL));
    engine.set_recursion_limit(RECURSION);
    engine.remove_global("debug");
    engine.add_global("vars", Value::from(Serde(vars)));
    engine.add_global("env", Value::from(Serde(env)));
    for index in 0..u32::try_from(request.references.len()).unwrap_or(u32::MAX) {
        let issued = Arc::clone(issued);
        engine.add_function(format!("{}{index}", request.call_prefix), move || {
            let mut issued = issued.lock().unwrap_or_else(PoisonError::into_inner);
            if issued.len() >= EMISSIONS_MAX {
                return Err(Error::from(ErrorKind::OutOfFuel));
            }
            let slot = slots::random_slot();
            issued.push(Issued { slot: slot.clone(), reference: index });
            Ok(slot)
        });
    }
    Ok(engine)
}

/// Returns all names at the beginning of an expression that nothing defines.
fn unknown_names(
    engine: &Environment<'_>,
    request: &PlanRequest,
    used: impl IntoIterator<Item = String>,
) -> Vec<(String, Problem)> {
    let names: Vec<&str> = engine.globals().map(|(name, _)| name).collect();
    let mut unknown: Vec<String> = used.into_iter().filter(|name| !names.contains(&name.as_str())).collect();
    unknown.sort_by_key(|name| (identifier(&request.text, name), name.clone()));
    let problem = |name: String| {
        let position = identifier(&request.text, &name).map(|at| of_source(&request.text, at)).unwrap_or_default();
        let visible = names.iter().filter(|names| !names.starts_with(&request.call_prefix));
        let help = if visible.clone().any(|names| names.eq_ignore_ascii_case(&name)) {
            "names are case-sensitive".to_owned()
        } else {
            format!(
                "write `vars.{name}` for a variable from the configuration, or `env.{name}` for an environment \
                 variable; {RAW}"
            )
        };
        let problem = Problem {
            path: String::new(),
            line: position.line,
            column: position.column,
            message: format!("unknown name `{name}`"),
            help: Some(help),
        };
        (name, problem)
    };
    unknown.into_iter().map(problem).collect()
}

/// Returns where an identifier first occurs inside a tag. This is precise enough to guide a person: the tags of the
/// engine's text are unmistakable, and at worst it finds the name in a string of a tag, on the wrong line.
fn identifier(text: &str, name: &str) -> Option<usize> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut rest = 0;
    while let Some(open) = text[rest..].find(['\u{e000}', '\u{e002}']).map(|at| rest + at) {
        let close = text[open..].find(['\u{e001}', '\u{e003}']).map_or(text.len(), |at| open + at);
        let tag = &text[open..close];
        let hit = tag.match_indices(name).find(|(at, _)| {
            !tag[..*at].ends_with(|c| word(c) || c == '.') && !tag[at + name.len()..].starts_with(word)
        });
        if let Some((at, _)) = hit {
            return Some(open + at);
        }
        rest = close;
    }
    None
}

/// Returns the variable that an undefined value came from: `vars.region`.
fn undefined_name(error: &Error, text: &str, vars: &serde_json::Value, env: &serde_json::Value) -> Option<String> {
    if error.kind() != ErrorKind::UndefinedError {
        return None;
    }
    let range = error.range()?;
    // The span may cover only the filter that received the value; in that case the whole tag is searched.
    let open = text.get(..range.start)?.rfind(['\u{e000}', '\u{e002}']).unwrap_or(range.start);
    let close = text.get(range.end..)?.find(['\u{e001}', '\u{e003}']).map_or(range.end, |at| range.end + at);
    leads_nowhere(text.get(range)?, vars, env).or_else(|| leads_nowhere(text.get(open..close)?, vars, env))
}

/// Returns the first path of an expression that does not exist in the variables.
fn leads_nowhere(source: &str, vars: &serde_json::Value, env: &serde_json::Value) -> Option<String> {
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    source.split(|c| !word(c)).map(|path| path.trim_matches('.')).find_map(|path| {
        let mut segments = path.split('.');
        let mut at = match segments.next()? {
            "vars" => vars,
            "env" => env,
            _ => return None,
        };
        let mut walked = path.split('.').next()?.to_owned();
        for segment in segments {
            walked = format!("{walked}.{segment}");
            let next = match at {
                serde_json::Value::Array(items) => segment.parse::<usize>().ok().and_then(|index| items.get(index)),
                other => other.get(segment),
            };
            match next {
                Some(next) => at = next,
                None => return Some(walked),
            }
        }
        None
    })
}

/// Sets an undefined variable to an empty text. Returns `false` if its parent does not exist.
fn fill_in(name: &str, vars: &mut serde_json::Value, env: &mut serde_json::Value) -> bool {
    let mut segments: Vec<&str> = name.split('.').collect();
    let last = segments.pop();
    let mut segments = segments.into_iter();
    let root = if segments.next() == Some("env") { env } else { vars };
    let parent = segments.try_fold(root, |at, segment| at.get_mut(segment));
    match (parent, last) {
        (Some(serde_json::Value::Object(parent)), Some(last)) => {
            parent.insert(last.to_owned(), serde_json::Value::String(String::new()));
            true
        }
        _ => false,
    }
}

/// Explains an error in our own words. minijinja's details may quote values; the ones kept here contain at most names
/// of the template.
fn explain(error: &Error, text: &str, name: Option<&str>) -> Problem {
    let position = match error.range() {
        Some(range) if !range.is_empty() => of_source(text, range.start),
        _ => crate::source_map::SourcePosition {
            line: error.line().and_then(|line| u32::try_from(line).ok()),
            column: None,
        },
    };
    let detail = || error.detail().unwrap_or("it cannot be read").to_owned();
    let (message, help) = match error.kind() {
        ErrorKind::UndefinedError => match name {
            Some(name) if name.starts_with("env.") => (
                format!("`{name}` is not set, or templates are not allowed to read it"),
                "set it, allow it in the configuration, or give it a value with `| default(\"…\")`",
            ),
            Some(name) => (
                format!("`{name}` is not defined"),
                "add it to `[vars]` in the configuration, or give it a value with `| default(\"…\")`",
            ),
            None => ("an undefined value is used".to_owned(), "check the names in this tag"),
        },
        ErrorKind::SyntaxError => (format!("syntax error: {}", delimiters(&detail())), RAW),
        ErrorKind::UnknownFilter | ErrorKind::UnknownTest | ErrorKind::UnknownFunction => {
            (delimiters(&detail()), "use a built-in minijinja filter, test or function")
        }
        ErrorKind::UnknownMethod => {
            ("this value has no such method".to_owned(), "use a filter: `<< vars.x | upper >>`")
        }
        ErrorKind::OutOfFuel => ("the template takes too long".to_owned(), "shorten its loops, or split the template"),
        ErrorKind::InvalidOperation => (
            "this operation is not possible with these values".to_owned(),
            "check the types of the variables in this tag",
        ),
        ErrorKind::TooManyArguments | ErrorKind::MissingArgument => {
            ("the call has the wrong number of arguments".to_owned(), "check the filter or function in this tag")
        }
        ErrorKind::BadEscape => ("a string has an invalid escape".to_owned(), RAW),
        ErrorKind::CannotUnpack => {
            ("the value does not have one part for each name".to_owned(), "check the names before `in`")
        }
        ErrorKind::NonPrimitive | ErrorKind::NonKey => {
            ("a list or a table is used where a simple value is needed".to_owned(), "use one of its fields")
        }
        other => (format!("the template engine stopped: {other}"), "check this tag"),
    };
    Problem { path: String::new(), line: position.line, column: position.column, message, help: Some(help.to_owned()) }
}

/// Replaces the engine's delimiters in a text by those that a person writes.
fn delimiters(text: &str) -> String {
    const PAIRS: [(&str, &str); 6] = [
        ("\u{e000}", "<%"),
        ("\u{e001}", "%>"),
        ("\u{e002}", "<<"),
        ("\u{e003}", ">>"),
        ("\u{e004}", "<#"),
        ("\u{e005}", "#>"),
    ];
    PAIRS.iter().fold(text.to_owned(), |text, (private, public)| text.replace(private, public))
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
