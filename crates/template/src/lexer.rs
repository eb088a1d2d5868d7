//! Finds the tags of a template and the secrets that they reference.
//!
//! The lexer alone decides what is a tag (promise Once). It hands the template engine a text in which each tag it found
//! has private-use delimiters, so the two can never disagree, and in which a call of a random name replaces each
//! secret. Nothing is evaluated here: the references are exact without running the template.
//!
//! A tag opens only before white space, or before `-` and white space: `<<` opens an expression, `<%` a statement, `<#`
//! a comment. Heredocs, shifts, the YAML merge key and other template languages are text. Text that was probably meant
//! as a tag but is not one is an error, never text: docs/templates.md has the rule as a table.

mod near_miss;

use self::near_miss::TagOpening;
use crate::ValueFilter;
use crate::tokens::{PositionCursor, Tag, TagReader, Token};
use guillemet_base::names::SecretName;
use guillemet_base::problem::Problem;
use guillemet_base::random::random;

/// The delimiters of statements in the text for the engine.
pub const BLOCK: (&str, &str) = ("\u{e000}", "\u{e001}");
/// The delimiters of expressions in the text for the engine.
pub const VARIABLE: (&str, &str) = ("\u{e002}", "\u{e003}");
/// The delimiters of comments in the text for the engine.
pub const COMMENT: (&str, &str) = ("\u{e004}", "\u{e005}");
/// Characters that no template may contain, because the delimiters above are among them.
const RESERVED: std::ops::RangeInclusive<char> = '\u{e000}'..='\u{e00f}';

const RAW_HELP: &str = "if this text is not for Guillemet, put it between <% raw %> and <% endraw %>";
const FORM_HELP: &str =
    "write a secret alone in its tag: << secret \"name\" >>, or with value filters: << secret \"name\" | base64 >>";

/// The statements that templates can use.
const STATEMENTS: [&str; 19] = [
    "if",
    "elif",
    "else",
    "endif",
    "for",
    "endfor",
    "break",
    "continue",
    "set",
    "endset",
    "with",
    "endwith",
    "macro",
    "endmacro",
    "call",
    "endcall",
    "filter",
    "endfilter",
    "do",
];
/// Statements of the engine that templates cannot use, because references would no longer be exact.
const WITHHELD: [&str; 7] = ["include", "extends", "import", "from", "block", "endblock", "autoescape"];

/// A template split into the text for the engine and its references.
#[derive(Clone, Debug, Default)]
pub struct Lexed {
    /// The text for the template engine. Each line has the same number as in the template.
    pub engine_text: String,
    /// The prefix of the calls that replace secrets: reference `i` became `{call_prefix}{i}()`. Random for each lexing.
    pub call_prefix: String,
    /// The references to secrets, in the order of the text.
    pub references: Vec<Reference>,
}

/// A place in a template that names a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The name of the secret, in the template's own spelling.
    pub name: SecretName,
    /// The line of the tag, counted from 1.
    pub line: u32,
    /// The column of the tag, in characters and counted from 1.
    pub column: u32,
    /// The filters applied to the value, first to last.
    pub filters: Vec<ValueFilter>,
}

/// Splits a template into the text for the engine and its references.
///
/// # Errors
/// Returns every problem of the text, in its order.
pub fn lex(text: &str) -> Result<Lexed, Vec<Problem>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let id: [u8; 16] = random();
    let mut lexer = Lexer {
        text,
        cursor: PositionCursor::new(text),
        problems: Vec::new(),
        bound: Vec::new(),
        passed: Vec::new(),
        lexed: Lexed {
            call_prefix: format!("s{}_", data_encoding::HEXLOWER.encode(&id)),
            engine_text: String::with_capacity(text.len() + text.len() / 8),
            ..Lexed::default()
        },
    };
    for (at, c) in text.char_indices().filter(|(_, c)| RESERVED.contains(c)) {
        let message = format!("the character U+{:04X} is reserved", u32::from(c));
        lexer.problem(at, message, "remove it from the template");
    }
    if lexer.problems.is_empty() {
        lexer.run();
        lexer.judge_passed();
    }
    if lexer.problems.is_empty() {
        return Ok(lexer.lexed);
    }
    lexer.problems.sort_by_key(|problem| (problem.line, problem.column));
    Err(lexer.problems)
}

/// Searches a text that could not be lexed for these names. Returns the name, line and column (both counted from 1) of
/// every occurrence, name by name. Ignores case and also matches inside longer words, so that no possible reference is
/// missed.
pub fn names_in_text<'a>(text: &str, names: &[&'a SecretName]) -> Vec<(&'a SecretName, u32, u32)> {
    let haystack = text.to_ascii_lowercase();
    let mut found = Vec::new();
    for name in names {
        let mut cursor = PositionCursor::new(text);
        found.extend(haystack.match_indices(&name.key()).map(|(at, _)| {
            let (line, column) = cursor.position(at);
            (*name, line, column)
        }));
    }
    found
}

struct Lexer<'a> {
    text: &'a str,
    cursor: PositionCursor<'a>,
    problems: Vec<Problem>,
    /// Names that statements of this template assign a value.
    bound: Vec<&'a str>,
    /// Names after `<<` that were passed over as text so far.
    passed: Vec<PassedOver<'a>>,
    lexed: Lexed,
}

/// `<<number>>`, or `<< number` that is not closed. It is text, unless the template itself assigns the name a value.
struct PassedOver<'a> {
    at: usize,
    name: &'a str,
    /// Everything between the name's start and `>>`; empty if it is not closed.
    content: &'a str,
}

/// The kind of a tag, by the characters that open it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TagKind {
    Variable,
    Block,
    Comment,
}

impl TagKind {
    fn closer(self) -> &'static str {
        match self {
            Self::Variable => ">>",
            Self::Block => "%>",
            Self::Comment => "#>",
        }
    }

    fn delimiters(self) -> (&'static str, &'static str) {
        match self {
            Self::Variable => VARIABLE,
            Self::Block => BLOCK,
            Self::Comment => COMMENT,
        }
    }
}

impl<'a> Lexer<'a> {
    fn run(&mut self) {
        let mut at = 0;
        while let Some(found) = self.text[at..].find(['<', '«', '≪', '‹', '＜', '&', '\\']).map(|found| at + found)
        {
            self.lexed.engine_text.push_str(&self.text[at..found]);
            at = if self.text[found..].starts_with('<') { self.angle(found) } else { self.lookalike(found) };
        }
        self.lexed.engine_text.push_str(&self.text[at..]);
    }

    /// Handles a run of `<` at `at`; returns where to continue.
    fn angle(&mut self, at: usize) -> usize {
        let run = self.text[at..].bytes().take_while(|b| *b == b'<').count();
        let after = at + run;
        match self.text.as_bytes().get(after) {
            Some(b'%') => self.block(at, after - 1),
            Some(b'#') => self.number_sign(at, after - 1),
            _ if run == 2 && self.opens(after).is_some() => self.variable(at),
            _ => {
                let opener = if run == 1 { TagOpening::Lookalike } else { TagOpening::Almost };
                // One `<` and a variable is a comparison.
                match near_miss::intended_tag(&self.text[after..], opener)
                    .filter(|suggestion| run > 1 || is_secret(suggestion))
                {
                    Some(suggestion) => self.near_miss(at, &suggestion),
                    None if run > 1 => self.pass_over(at, after, opener),
                    None => {}
                }
                self.plain(at, after)
            }
        }
    }

    /// Handles a character that may be meant as `<<`; returns where to continue.
    fn lookalike(&mut self, at: usize) -> usize {
        let rest = &self.text[at..];
        if let Some(len) = near_miss::lookalike(rest)
            && let Some(suggestion) = near_miss::intended_tag(&rest[len..], TagOpening::Lookalike)
        {
            self.near_miss(at, &suggestion);
        }
        self.plain(at, at + rest.chars().next().map_or(1, char::len_utf8))
    }

    /// Reports whether a tag opens just before `inner`: whether a `-` follows, and which white space character.
    fn opens(&self, inner: usize) -> Option<(bool, char)> {
        let rest = &self.text[inner..];
        let (dash, after) = rest.strip_prefix('-').map_or((false, rest), |after| (true, after));
        after.chars().next().filter(|blank| blank.is_whitespace()).map(|blank| (dash, blank))
    }

    /// Handles `<<` followed by white space.
    fn variable(&mut self, at: usize) -> usize {
        let inner = at + 2;
        let after = &self.text[inner..];
        if !near_miss::begins_tag(after) {
            if let Some(suggestion) = near_miss::intended_tag(after, TagOpening::Exact) {
                self.near_miss(at, &suggestion);
                return self.plain(at, inner);
            }
            if self.is_text(inner) {
                self.pass_over(at, inner, TagOpening::Exact);
                return self.plain(at, inner);
            }
        }
        self.open(at, at, TagKind::Variable)
    }

    /// Handles `<%` at `start`; other `<` may precede it from `at` on.
    fn block(&mut self, at: usize, start: usize) -> usize {
        if self.opens(start + 2).is_some() {
            return self.open(at, start, TagKind::Block);
        }
        let after = self.text[start + 2..].trim_start_matches(['-', '+', '~', '\u{200b}']);
        let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
        let word = after[..end].to_ascii_lowercase();
        if ["raw", "endraw"].iter().chain(&STATEMENTS).chain(&WITHHELD).any(|statement| *statement == word) {
            let is_complete = word.starts_with("end") || matches!(word.as_str(), "raw" | "else" | "break" | "continue");
            self.near_miss(start, &if is_complete { format!("<% {word} %>") } else { format!("<% {word} … %>") });
        }
        self.plain(at, start + 2)
    }

    /// Handles `<#` at `start`; other `<` may precede it from `at` on.
    fn number_sign(&mut self, at: usize, start: usize) -> usize {
        if self.opens(start + 2).is_some() {
            return self.open(at, start, TagKind::Comment);
        }
        let after = &self.text[start + 2..];
        let until = after.find("<#").unwrap_or(after.len());
        if after[..until].contains("#>") {
            self.near_miss(start, "<# … #>");
        }
        self.plain(at, start + 2)
    }

    /// Opens a tag at `start`; the characters from `at` up to it are text.
    fn open(&mut self, at: usize, start: usize, kind: TagKind) -> usize {
        let (dash, blank) = self.opens(start + 2).unwrap_or_default();
        let inner = start + 2 + usize::from(dash);
        self.lexed.engine_text.push_str(&self.text[at..start]);
        if !matches!(blank, ' ' | '\t' | '\r' | '\n') {
            let message = format!("an unusual space (U+{:04X}) follows the opening of the tag", u32::from(blank));
            self.problem(inner, message, "use an ordinary space there");
        }
        self.tag(start, inner, dash, kind)
    }

    /// Reports whether the content after `<<` and white space is text, such as a heredoc or a shift. The content does
    /// not begin with a word of ours. It is a tag if `>>` closes it on the same line, or on a later line with content
    /// that can be one expression.
    fn is_text(&self, inner: usize) -> bool {
        let dash = usize::from(self.text[inner..].starts_with('-'));
        match TagReader::read(self.text, inner + dash, ">>") {
            Tag::Closed { tokens, end, .. } => self.text[inner..end].contains('\n') && self.is_broken_by_line(&tokens),
            Tag::Foreign { .. } | Tag::Unclosed => !self.line(inner).contains(">>"),
        }
    }

    /// Reports whether a line ends between two tokens that cannot be adjacent in an expression.
    fn is_broken_by_line(&self, tokens: &[(usize, Token<'_>)]) -> bool {
        let is_operand = |token: &Token<'_>| match token {
            Token::Operator(_) => false,
            Token::Name(name) => !matches!(*name, "and" | "else" | "if" | "in" | "is" | "not" | "or"),
            Token::Text { .. } | Token::Number => true,
        };
        tokens.windows(2).any(|pair| {
            let [(from, first), (to, second)] = pair else { return false };
            is_operand(first) && is_operand(second) && self.text[*from..*to].contains('\n')
        })
    }

    /// Returns the rest of the line from `from`: up to its end, an escaped line break, or the opening of the next tag.
    fn line(&self, from: usize) -> &'a str {
        let rest = &self.text[from..];
        let ends = |(at, _): &(usize, &str)| ["\n", "\\n", "\\r", "<<"].iter().any(|end| rest[*at..].starts_with(end));
        let end = rest.match_indices(['\n', '\\', '<']).find(ends);
        &rest[..end.map_or(rest.len(), |(at, _)| at)]
    }

    /// Records a name after `<<` that is passed over as text for now.
    fn pass_over(&mut self, at: usize, inner: usize, opener: TagOpening) {
        let after = &self.text[inner..];
        let after = after.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '-' | '~'));
        let from = self.text.len() - after.len();
        let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
        let name = &after[..end];
        let content = match TagReader::read(self.text, from, ">>") {
            Tag::Closed { content_end, .. } if self.line(from).contains(">>") => self.text[from..content_end].trim(),
            _ if opener == TagOpening::Exact => "",
            _ => return,
        };
        if !name.is_empty() {
            self.passed.push(PassedOver { at, name, content });
        }
    }

    /// Reports passed-over names to which the template assigns a value: they were not meant as text.
    fn judge_passed(&mut self) {
        for PassedOver { at, name, content } in std::mem::take(&mut self.passed) {
            let is_path =
                content.len() <= 64 && content.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.".contains(&b));
            match content {
                _ if !self.bound.contains(&name) => {}
                "" => self.problem(at, "the tag is not closed: `>>` is missing", RAW_HELP),
                _ if is_path => self.near_miss(at, &format!("<< {content} >>")),
                _ => self.near_miss(at, &format!("<< {name} … >>")),
            }
        }
    }

    fn near_miss(&mut self, at: usize, suggestion: &str) {
        self.problem(at, "this looks like a Guillemet tag, but is not one", did_you_mean(suggestion));
    }

    fn plain(&mut self, from: usize, to: usize) -> usize {
        self.lexed.engine_text.push_str(&self.text[from..to]);
        to
    }

    /// Reads a tag whose content begins at `inner`; returns where to continue.
    fn tag(&mut self, start: usize, inner: usize, dash: bool, kind: TagKind) -> usize {
        if kind == TagKind::Comment {
            return self.comment(start, inner, dash);
        }
        match self.tokens(inner, kind) {
            Tag::Closed { tokens, content_end, closing_dash, end } => {
                let content = &self.text[inner..content_end];
                let is_raw = kind == TagKind::Block && matches!(tokens.as_slice(), [(_, Token::Name("raw"))]);
                if is_raw {
                    let lines = newlines(content);
                    self.emit(TagKind::Block, dash, &format!(" raw {lines}"), closing_dash);
                    return self.raw(start, end);
                }
                match kind {
                    TagKind::Variable if matches!(tokens.first(), Some((_, Token::Name("secret")))) => {
                        self.secret(start, &tokens, content, (dash, closing_dash));
                    }
                    _ => {
                        if kind == TagKind::Block {
                            self.statement(start, &tokens);
                            self.bind(&tokens);
                        } else if tokens.is_empty() {
                            self.problem(start, "the tag is empty", RAW_HELP);
                        }
                        self.refuse_secret(&tokens);
                        self.emit(kind, dash, content, closing_dash);
                    }
                }
                end
            }
            Tag::Foreign { at, message } => {
                self.problem(at, message, self.help(inner, kind));
                let closer = kind.closer();
                self.text[at..].find(closer).map_or(inner, |found| at + found + closer.len())
            }
            Tag::Unclosed => {
                let message = format!("the tag is not closed: `{}` is missing", kind.closer());
                self.problem(start, message, self.help(inner, kind));
                inner
            }
        }
    }

    /// Returns the tokens of a tag. An expression counts as unclosed if it could only be closed by taking in the text
    /// of another line.
    fn tokens(&self, inner: usize, kind: TagKind) -> Tag<'a> {
        let tag = TagReader::read(self.text, inner, kind.closer());
        let unclosed = match &tag {
            Tag::Closed { tokens, .. } => {
                // The name may be on the line after `secret`.
                let is_secret = matches!(tokens.first(), Some((_, Token::Name("secret"))));
                self.is_broken_by_line(&tokens[usize::from(is_secret)..])
            }
            Tag::Foreign { at, .. } => self.text[inner..*at].trim_start().contains('\n'),
            Tag::Unclosed => false,
        };
        if kind == TagKind::Variable && unclosed { Tag::Unclosed } else { tag }
    }

    /// Returns the advice for a tag that cannot be read.
    fn help(&self, inner: usize, kind: TagKind) -> String {
        let secret = self.text[inner..].trim_start().strip_prefix("secret").filter(|_| kind == TagKind::Variable);
        secret.map_or_else(|| RAW_HELP.to_owned(), |rest| did_you_mean(&near_miss::secret(rest)))
    }

    fn comment(&mut self, start: usize, inner: usize, dash: bool) -> usize {
        let rest = &self.text[inner..];
        // A comment that opens inside another would be lost with everything before it.
        let opens = |(at, _): (usize, &str)| self.opens(inner + at + 2).map(|_| at);
        let next = rest.match_indices("<#").find_map(opens).unwrap_or(rest.len());
        let Some(len) = rest[..next].find("#>") else {
            self.problem(start, "the comment is not closed: `#>` is missing", RAW_HELP);
            return inner;
        };
        let content = &self.text[inner..inner + len];
        let closing_dash = content.ends_with('-');
        // The engine does not get the comment's text, only its line breaks. The blank keeps the two dashes apart.
        let lines = newlines(content);
        self.emit(TagKind::Comment, dash, &format!(" {lines}"), closing_dash);
        inner + len + 2
    }

    /// Copies everything between `<% raw %>` and `<% endraw %>` as text.
    fn raw(&mut self, start: usize, content: usize) -> usize {
        let mut from = content;
        while let Some(at) = self.text[from..].find("<%").map(|found| from + found) {
            let inner = &self.text[at + 2..];
            let (end_dash, after) = inner.strip_prefix('-').map_or((false, inner), |after| (true, after));
            if let Some((closing_dash, len)) = endraw(after) {
                self.lexed.engine_text.push_str(&self.text[content..at]);
                let lines = newlines(&after[..len]);
                self.emit(TagKind::Block, end_dash, &format!(" endraw {lines}"), closing_dash);
                return at + 2 + usize::from(end_dash) + len;
            }
            from = at + 2;
        }
        self.problem(start, "`raw` is not closed: <% endraw %> is missing", "add it where your literal text ends");
        self.text.len()
    }

    /// Handles a tag that begins with `secret`.
    fn secret(&mut self, start: usize, tokens: &[(usize, Token<'a>)], content: &str, dashes: (bool, bool)) {
        let (line, column) = self.cursor.position(start);
        let mut is_valid = true;
        let mut name = None;
        match tokens.get(1) {
            Some((at, Token::Text { content, escaped: false })) => match content.parse::<SecretName>() {
                Ok(parsed) => name = Some(parsed),
                Err(invalid) => {
                    self.problem(*at, format!("this is {invalid}"), "choose another name");
                    is_valid = false;
                }
            },
            Some((at, Token::Text { .. })) => {
                self.problem(*at, "the name of a secret cannot contain escapes", FORM_HELP);
                is_valid = false;
            }
            other => {
                let at = other.map_or(start, |(at, _)| *at);
                let rest = content.trim_start().trim_start_matches("secret");
                let help = match other {
                    Some(_) => did_you_mean(&near_miss::secret(rest)),
                    None => FORM_HELP.to_owned(),
                };
                self.problem(at, "`secret` needs a name in quotes after it", help);
                is_valid = false;
            }
        }
        let mut filters = Vec::new();
        let mut rest = tokens.get(2..).unwrap_or_default();
        while is_valid && !rest.is_empty() {
            match rest {
                [(_, Token::Operator("|")), (at, Token::Name(filter)), ..] => {
                    match ValueFilter::ALL.iter().find(|(filter_name, _)| filter_name == filter) {
                        Some((_, filter)) => filters.push(*filter),
                        None => {
                            let allowed = ValueFilter::ALL.map(|(filter_name, _)| filter_name).join(", ");
                            self.problem(
                                *at,
                                format!("unknown value filter `{filter}`"),
                                format!("use one of: {allowed}"),
                            );
                            is_valid = false;
                        }
                    }
                    rest = &rest[2..];
                }
                [(at, _), ..] => {
                    self.problem(*at, "only value filters can follow the name of a secret", FORM_HELP);
                    is_valid = false;
                }
                [] => {}
            }
        }
        if let (true, Some(name)) = (is_valid, name) {
            let index = self.lexed.references.len();
            self.lexed.references.push(Reference { name, line, column, filters });
            let lines = newlines(content);
            let call = format!(" {}{index}() {lines}", self.lexed.call_prefix);
            self.emit(TagKind::Variable, dashes.0, &call, dashes.1);
        }
    }

    fn statement(&mut self, start: usize, tokens: &[(usize, Token<'a>)]) {
        match tokens.first() {
            Some((_, Token::Name(name))) if STATEMENTS.contains(name) => {}
            Some((at, Token::Name(name))) if WITHHELD.contains(name) => {
                let message = format!("`{name}` is not available in templates: a template cannot use other files");
                self.problem(
                    *at,
                    message,
                    "put the content into this file; use `macro` and `set` to reuse text within it",
                );
            }
            Some((at, Token::Name("endraw"))) => {
                self.problem(*at, "`endraw` without <% raw %> before it", "add it where your literal text begins");
            }
            Some((at, Token::Name(name))) => {
                self.problem(*at, format!("unknown statement `{name}`"), RAW_HELP);
            }
            Some((at, _)) => self.problem(*at, "a statement must start with a word", RAW_HELP),
            None => self.problem(start, "the tag is empty", RAW_HELP),
        }
    }

    /// Records the names to which a statement may assign a value.
    fn bind(&mut self, tokens: &[(usize, Token<'a>)]) {
        let Some(((_, Token::Name(statement @ ("for" | "set" | "with" | "macro" | "call"))), rest)) =
            tokens.split_first()
        else {
            return;
        };
        if *statement == "for" {
            self.bound.push("loop");
        }
        let mut before = None;
        for (_, token) in rest {
            if let Token::Name(name) = token
                && before != Some(&Token::Operator("."))
                && !["and", "else", "if", "in", "is", "not", "or", "recursive", "vars", "env"].contains(name)
            {
                self.bound.push(name);
            }
            before = Some(token);
        }
    }

    /// Reports each `secret` in a tag that does not begin with it.
    fn refuse_secret(&mut self, tokens: &[(usize, Token<'a>)]) {
        let mut before = None;
        for (at, token) in tokens {
            if *token == Token::Name("secret") && before != Some(&Token::Operator(".")) {
                self.problem(*at, "`secret` cannot be used here", FORM_HELP);
            }
            before = Some(token);
        }
    }

    fn emit(&mut self, kind: TagKind, dash: bool, content: &str, closing_dash: bool) {
        let (open, close) = kind.delimiters();
        let out = &mut self.lexed.engine_text;
        out.push_str(open);
        out.push_str(if dash { "-" } else { "" });
        out.push_str(content);
        out.push_str(if closing_dash { "-" } else { "" });
        out.push_str(close);
    }

    fn problem(&mut self, at: usize, message: impl Into<String>, help: impl Into<String>) {
        let (line, column) = self.cursor.position(at);
        self.problems.push(Problem {
            path: String::new(),
            line: Some(line),
            column: Some(column),
            message: message.into(),
            help: Some(help.into()),
        });
    }
}

fn did_you_mean(suggestion: &str) -> String {
    format!("did you mean `{suggestion}`? {}", RAW_HELP.replacen('i', "I", 1))
}

fn is_secret(suggestion: &str) -> bool {
    suggestion.starts_with("<< secret")
}

/// Returns only the line breaks of a text. They replace text that the engine does not get, so that every line keeps its
/// number.
fn newlines(text: &str) -> String {
    text.chars().filter(|c| *c == '\n').collect()
}

/// Parses the rest of `<% endraw %>` after `<%` and an optional `-`. Returns whether it closes with `-`, and its
/// length.
fn endraw(text: &str) -> Option<(bool, usize)> {
    let blank = |c: char| c.is_ascii_whitespace();
    let rest = text.trim_start_matches(blank);
    let rest = (rest.len() < text.len()).then_some(rest)?.strip_prefix("endraw")?.trim_start_matches(blank);
    let (dash, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    Some((dash, text.len() - rest.strip_prefix("%>")?.len()))
}

#[cfg(test)]
mod tests;
