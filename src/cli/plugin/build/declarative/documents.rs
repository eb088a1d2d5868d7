//! Prepares the documents of plugin.toml, which are written in the language of templates: finds the tags as the lexer
//! of templates does, and what is wrong with them before any config is planned.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind};

use super::definition::{Escape, Field, Kind};
use super::section::{Section, did_you_mean};
use guillemet_plan::encode::{ENCODERS, EncoderDefinition, Placement};
use guillemet_template::lexer::{self, BLOCK, COMMENT, VARIABLE};
use guillemet_template::tokens::{Tag, TagReader, Token};

/// The filters of documents that are not encoders.
const OTHER_FILTERS: [&str; 3] = ["default", "join", "items"];
/// The key of a target with its document.
const KEY: &str = "document";
/// The name of the whole config in documents.
const CONFIG: &str = "config";

/// What a document can name.
pub struct Names<'a> {
    /// The fields of the config.
    pub fields: &'a [&'a Field],
    /// The tables of the encoder `escape`.
    pub escapes: &'a [Escape],
}

/// Returns a document for the component's engine. What is wrong with it goes to `section`.
pub fn prepare(section: &Section, text: &str, names: &Names, json: bool) -> String {
    let lexed = match lexer::lex(text) {
        Ok(lexed) => lexed,
        Err(problems) => {
            for problem in problems {
                section.problem_in(KEY, problem.line.unwrap_or(1), problem.message, problem.help);
            }
            return String::new();
        }
    };
    for reference in &lexed.references {
        let help = "write the name of a field: << token >>; templates put secrets into fields".to_owned();
        section.problem_in(KEY, reference.line, "a plugin's document has no secrets of its own", Some(help));
    }
    let engine_text = lexed.engine_text;
    if !lexed.references.is_empty() || !compiles(section, &engine_text, names) {
        return engine_text;
    }
    let (in_string, escaped) = (false, false);
    let (blocks, out) = (Vec::new(), String::new());
    Walk { section, names, json, text: &engine_text, out, ifs: 0, blocks, in_string, escaped }.run()
}

/// Compiles the document, and compares its names with the fields. Returns `false` if it is no document at all.
fn compiles(section: &Section, text: &str, names: &Names) -> bool {
    let syntax = SyntaxConfig::builder()
        .block_delimiters(BLOCK.0, BLOCK.1)
        .variable_delimiters(VARIABLE.0, VARIABLE.1)
        .comment_delimiters(COMMENT.0, COMMENT.1)
        .build();
    let mut engine = Environment::empty();
    engine.set_syntax(syntax.expect("the delimiters differ"));
    let template = match engine.template_from_str(text) {
        Ok(template) => template,
        Err(error) => {
            let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
            let message =
                if error.kind() == ErrorKind::SyntaxError { format!("syntax error: {detail}") } else { detail };
            section.problem_in(KEY, error.line().unwrap_or(1) as u32, message, None);
            return false;
        }
    };
    let known = |name: &str| name == CONFIG || names.fields.iter().any(|field| field.name == name);
    let mut unknown: Vec<String> =
        template.undeclared_variables(false).into_iter().filter(|name| !known(name)).collect();
    unknown.sort();
    for name in unknown {
        let help = did_you_mean(&name, names.fields.iter().map(|field| field.name.as_str()));
        let help = help.unwrap_or_else(|| format!("declare it: [fields.{name}]"));
        section.problem_in(KEY, line_of(text, &name), format!("there is no field `{name}`"), Some(help));
    }
    let used = template.undeclared_variables(true);
    let is_used = |name: &str| {
        let path = format!("{CONFIG}.{name}");
        let begins = |used: &String, path: &str| {
            used.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        used.iter().any(|used| begins(used, name) || begins(used, &path))
            || text.contains(&format!("config[\"{name}\"]"))
    };
    for field in names.fields.iter().filter(|field| may_be_secret(field) && !is_used(&field.name)) {
        let message = format!("does not use the field `{}`, which may hold a secret", field.name);
        section.problem(KEY, message, Some("every secret of a config has to be in the document of each target"));
    }
    true
}

fn may_be_secret(field: &Field) -> bool {
    match &field.kind {
        Kind::Table(fields) | Kind::Tables(fields) => fields.iter().any(may_be_secret),
        _ => field.secret,
    }
}

/// Returns the line in which a word first occurs, counted from 1.
fn line_of(text: &str, word: &str) -> u32 {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut hits = text.match_indices(word);
    let hit = hits.find(|(at, _)| !text[..*at].ends_with(is_word) && !text[at + word.len()..].starts_with(is_word));
    hit.map_or(1, |(at, _)| line(text, at))
}

fn line(text: &str, at: usize) -> u32 {
    u32::try_from(text[..at].matches('\n').count()).unwrap_or(u32::MAX).saturating_add(1)
}

/// A walk through a document that compiles.
struct Walk<'a> {
    section: &'a Section<'a>,
    names: &'a Names<'a>,
    json: bool,
    text: &'a str,
    out: String,
    /// The number of `if` statements around the place.
    ifs: usize,
    /// For each statement around the place that has an end: whether it begins inside of a JSON string.
    blocks: Vec<bool>,
    /// Whether the place is inside of a JSON string.
    in_string: bool,
    /// Whether the text before the place ends with a `\` that escapes what comes next.
    escaped: bool,
}

impl Walk<'_> {
    fn run(mut self) -> String {
        let mut at = 0;
        let opener = |c: char| BLOCK.0.starts_with(c) || VARIABLE.0.starts_with(c) || COMMENT.0.starts_with(c);
        while let Some(open) = self.text[at..].find(opener).map(|open| at + open) {
            self.literal(&self.text[at..open]);
            if std::mem::take(&mut self.escaped) {
                let message = "a `\\` before a tag would change what is written there";
                let help = "write `\\\\` for the character".to_owned();
                self.section.problem_in(KEY, line(self.text, open), message, Some(help));
            }
            let rest = &self.text[open..];
            let pair = [BLOCK, VARIABLE, COMMENT].into_iter().find(|pair| rest.starts_with(pair.0)).unwrap_or(COMMENT);
            let from = open + pair.0.len();
            at = self.text[from..].find(pair.1).map_or(self.text.len(), |end| from + end + pair.1.len());
            let Some(content) = self.text.get(from..at - pair.1.len()) else { break };
            let mut changed = None;
            if pair != COMMENT
                && let Tag::Closed { tokens, .. } = TagReader::read(self.text, from, pair.1)
            {
                let tokens: Vec<Token> = tokens.into_iter().map(|(_, token)| token).collect();
                self.filters(&tokens, open);
                if pair == BLOCK {
                    self.statement(&tokens, open);
                } else {
                    self.value(&tokens, open);
                    changed = self.in_string.then(|| as_json_text(content));
                }
            }
            self.out.push_str(pair.0);
            self.out.push_str(changed.as_deref().unwrap_or(content));
            self.out.push_str(pair.1);
        }
        self.literal(&self.text[at..]);
        self.out
    }

    /// Goes through text between tags, to know where JSON strings begin and end.
    fn literal(&mut self, text: &str) {
        if self.json {
            for c in text.chars() {
                match c {
                    _ if self.escaped => self.escaped = false,
                    '\\' if self.in_string => self.escaped = true,
                    '"' => self.in_string = !self.in_string,
                    _ => {}
                }
            }
        }
        self.out.push_str(text);
    }

    /// Follows a statement. A JSON string that begins in a branch has to end there, or a tag behind it would be text in
    /// one config and a value in another.
    fn statement(&mut self, tokens: &[Token], at: usize) {
        let Some(Token::Name(name)) = tokens.first() else { return };
        let begun = match *name {
            "if" | "for" | "with" | "macro" | "call" | "filter" => {
                self.ifs += usize::from(*name == "if");
                self.blocks.push(self.in_string);
                return;
            }
            "set" if !tokens.contains(&Token::Operator("=")) => {
                self.blocks.push(self.in_string);
                return;
            }
            "elif" | "else" => self.blocks.last().copied(),
            name if name.starts_with("end") => {
                self.ifs = self.ifs.saturating_sub(usize::from(name == "endif"));
                self.blocks.pop()
            }
            _ => None,
        };
        if let Some(begun) = begun.filter(|begun| *begun != self.in_string) {
            let help = "put both quotes into the same branch".to_owned();
            let message = "a JSON string begins in one branch and ends in another";
            self.section.problem_in(KEY, line(self.text, at), message, Some(help));
            self.in_string = begun;
        }
    }

    /// Checks the names of the filters in a tag, and of the tables for `escape`.
    fn filters(&self, tokens: &[Token], at: usize) {
        let tell = |message: String, help: String| {
            self.section.problem_in(KEY, line(self.text, at), message, Some(help));
        };
        for (index, token) in tokens.iter().enumerate() {
            let (Token::Operator("|"), Some(Token::Name(name))) = (token, tokens.get(index + 1)) else { continue };
            if *name == "escape"
                && let Some(Token::Text { content, .. }) = tokens.get(index + 3)
                && !self.names.escapes.iter().any(|table| table.name == *content)
            {
                tell(format!("there is no table `{content}` for `escape`"), format!("declare it: [escapes.{content}]"));
            }
            if !is_filter(name) {
                let encoders: Vec<String> = encoder_names(|_| true).collect();
                let help = did_you_mean(name, OTHER_FILTERS.into_iter().chain(encoders.iter().map(String::as_str)));
                let help = help.unwrap_or_else(|| "the filters are the encoders, and default, join, items".into());
                tell(format!("there is no filter `{name}`"), help);
            }
        }
    }

    /// Checks a tag that writes a value.
    fn value(&self, tokens: &[Token], at: usize) {
        let (path, rest) = path(tokens);
        let Some((field, optional)) = self.field(&path) else { return };
        let tell = |message: String, help: String| {
            self.section.problem_in(KEY, line(self.text, at), message, Some(help));
        };
        let shown = path.join(".");
        let ends = |name: &str| rest.contains(&Token::Name(name));
        let is_text = !self.json || self.in_string;
        if is_text && optional && self.ifs == 0 && !ends("default") && !ends("if") {
            tell(
                format!("`{shown}` is optional, and text cannot be absent"),
                format!("put this part between <% if {shown} %> and <% endif %>, or give the field a default"),
            );
        }
        if !self.json && rest.is_empty() && matches!(field.kind, Kind::Text | Kind::Url) {
            let terminal = encoder_names(|encoder| encoder.place == Placement::TextDocument);
            let names: Vec<String> = terminal.map(|name| format!("`{name}`")).collect();
            tell(
                format!("`{shown}` needs an encoder: text could be read as syntax of the document"),
                format!("write << {shown} | ENCODER >> with one of {}", names.join(", ")),
            );
        }
    }

    /// Returns the field at a path, and whether it or a table around it may be absent.
    fn field(&self, path: &[&str]) -> Option<(&Field, bool)> {
        let path = if path.first() == Some(&CONFIG) { &path[1..] } else { path };
        let (first, rest) = path.split_first()?;
        let mut field: &Field = self.names.fields.iter().find(|field| field.name == *first)?;
        let mut optional = is_optional(field);
        for name in rest {
            let Kind::Table(fields) = &field.kind else { return None };
            field = fields.iter().find(|field| field.name == *name)?;
            optional |= is_optional(field);
        }
        Some((field, optional))
    }
}

fn is_optional(field: &Field) -> bool {
    !field.required && field.default.is_none()
}

fn is_filter(name: &str) -> bool {
    OTHER_FILTERS.contains(&name) || encoder_names(|_| true).any(|known| known == name)
}

/// Returns the names of encoders as filters.
fn encoder_names(which: impl Fn(&EncoderDefinition) -> bool) -> impl Iterator<Item = String> {
    ENCODERS.iter().filter(move |encoder| which(encoder)).map(|encoder| encoder.name.replace('-', "_"))
}

/// Splits a tag that begins with a name into the path there (`auth.token`) and the rest.
fn path<'a, 'b>(tokens: &'b [Token<'a>]) -> (Vec<&'a str>, &'b [Token<'a>]) {
    let mut path = Vec::new();
    let mut at = 0;
    while let Some(Token::Name(name)) = tokens.get(at) {
        path.push(*name);
        if tokens.get(at + 1) != Some(&Token::Operator(".")) {
            return (path, &tokens[at + 1..]);
        }
        at += 2;
    }
    (Vec::new(), tokens)
}

/// Returns the content of a tag inside of a JSON string: the value as text, with the escapes of JSON.
fn as_json_text(content: &str) -> String {
    let inner = content.strip_prefix('-').unwrap_or(content);
    let inner = inner.strip_suffix('-').unwrap_or(inner);
    let dash = |is_there: bool| if is_there { "-" } else { "" };
    format!("{} ({inner}) | json_text {}", dash(content.starts_with('-')), dash(content.ends_with('-')))
}
