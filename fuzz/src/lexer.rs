//! Template text: the lexer splits it without losing or inventing anything, the template engine sees the same tags, and
//! the guard misses no name.

use std::collections::BTreeSet;

use guillemet_base::names::SecretName;
use guillemet_base::problem::Problem;
use guillemet_template::ValueFilter;
use guillemet_template::lexer::{BLOCK, COMMENT, Lexed, Reference, VARIABLE, lex, names_in_text};
use guillemet_template::tokens::{Tag, TagReader, Token};
use minijinja::Environment;
use minijinja::syntax::SyntaxConfig;

/// Lexes any text and checks the result.
pub fn holds(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match lex(text) {
        Ok(lexed) => {
            let source = text.strip_prefix('\u{feff}').unwrap_or(text);
            let calls = reassemble(source, &lexed);
            assert_eq!(calls, lexed.references.len(), "every reference is one call");
            engine_agrees(&lexed);
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "a refusal says why");
            inside(text, &problems);
        }
    }
    guard_misses_nothing(text);
}

/// Checks that every problem is at a place in the text.
fn inside(text: &str, problems: &[Problem]) {
    for problem in problems {
        let (line, column) = (problem.line.unwrap() as usize, problem.column.unwrap() as usize);
        let at = text.split('\n').nth(line.checked_sub(1).unwrap()).expect("a line of the text");
        assert!((1..=at.chars().count() + 1).contains(&column), "{line}:{column} is outside");
    }
}

/// Walks through the engine's text and the source side by side: text has to be text, tags have to be tags, and each
/// reference what its tag says. Returns the number of references.
fn reassemble(source: &str, lexed: &Lexed) -> usize {
    let (mut at, mut met, mut raw) = (0, 0, false);
    let mut engine = lexed.engine_text.as_str();
    while let Some(open) = engine.find([BLOCK.0, VARIABLE.0, COMMENT.0].map(first)) {
        at = plain(source, at, &engine[..open], raw);
        let (delimiters, opener, closer) = match first(&engine[open..]) {
            c if c == first(BLOCK.0) => (BLOCK, "<%", "%>"),
            c if c == first(VARIABLE.0) => (VARIABLE, "<<", ">>"),
            _ => (COMMENT, "<#", "#>"),
        };
        let content = open + delimiters.0.len();
        let close = content + engine[content..].find(delimiters.1).expect("a tag is closed");
        let tag = &engine[content..close];
        engine = &engine[close + delimiters.1.len()..];

        assert!(source[at..].starts_with(opener));
        let from = at + opener.len();
        let behind = source[from..].strip_prefix('-').unwrap_or(&source[from..]);
        assert!(behind.starts_with(char::is_whitespace), "a tag opens before a blank");
        let word = tag.trim_matches(|c: char| c == '-' || c.is_ascii_whitespace());
        let call = word.strip_prefix(&lexed.call_prefix);
        let verbatim = delimiters != COMMENT && call.is_none() && !matches!(word, "raw" | "endraw");
        let to = if verbatim {
            assert!(source[from..].starts_with(tag), "what the engine evaluates is what was written");
            from + tag.len()
        } else {
            // A name, a filter and `raw` cannot contain the closing delimiter, and a comment ends at the first one.
            from + source[from..].find(closer).expect("a tag is closed")
        };
        let written = &source[from..to];
        assert_eq!(tag.starts_with('-'), written.starts_with('-'));
        assert_eq!(tag.ends_with('-'), written.ends_with('-'));
        assert_eq!(tag.matches('\n').count(), written.matches('\n').count(), "every line stays the line it was");
        if let Some(call) = call {
            assert_eq!(call, format!("{met}()"));
            let reference = &lexed.references[met];
            assert_eq!(super::position(source, at), (reference.line, reference.column));
            says(written, reference);
            met += 1;
        } else if !verbatim && delimiters == BLOCK {
            raw = word == "raw";
            assert_eq!(written.trim_matches(|c: char| c == '-' || c.is_ascii_whitespace()), word);
        } else if delimiters == COMMENT {
            assert!(word.is_empty(), "the engine is told nothing of a comment");
        }
        at = to + closer.len();
    }
    at = plain(source, at, engine, raw);
    assert_eq!(at, source.len(), "nothing is lost at the end");
    met
}

/// Checks text that is not a tag: it is the same in both, and nothing in it opens a tag or was meant to.
fn plain(source: &str, at: usize, text: &str, raw: bool) -> usize {
    assert!(source[at..].starts_with(text), "text stays as it is");
    if !raw {
        for (begin, _) in text.match_indices('<').filter(|(begin, _)| !text[..*begin].ends_with('<')) {
            // Use the source, of which this text is only a part: a tag may follow directly.
            not_meant(&source[at + begin..], &text[begin..]);
        }
    }
    at + text.len()
}

/// Checks that a run of `<` is not followed by anything that opens a tag or looks as if it should.
fn not_meant(source: &str, text: &str) {
    let run = text.bytes().take_while(|b| *b == b'<').count();
    let rest = &text[run..];
    let opens = |rest: &str| rest.strip_prefix('-').unwrap_or(rest).starts_with(char::is_whitespace);
    if let Some(rest) = rest.strip_prefix(['%', '#']) {
        assert!(!opens(rest), "a tag was taken for text");
        return;
    }
    let word_of = |text: &str| text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().map(str::len);
    let inner = rest.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '-' | '~'));
    let (word, behind) = inner.split_at(word_of(inner).unwrap_or(0));
    let name = behind.trim_start().strip_prefix(['"', '\'']);
    let quoted = name.is_some_and(|name| name.starts_with(|c: char| c.is_ascii_alphanumeric()));
    assert!(
        !(quoted && matches!(word.to_ascii_lowercase().as_str(), "secret" | "secrets")),
        "a secret was taken for text"
    );
    if run > 1 {
        assert!(!matches!(word, "secret" | "vars" | "env" | "raw" | "endraw"), "one of our words was taken for text");
    }
    if run == 2 && opens(rest) {
        assert!(!is_closed(&source[run..]), "a tag was taken for text: {text}");
    }
}

/// Returns whether the text behind `<<` is an expression without strings and signs that is closed on its line.
fn is_closed(inner: &str) -> bool {
    let line = inner.split('\n').next().unwrap_or_default();
    let Some((content, _)) = line.split_once(">>") else { return false };
    content.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b' ' | b'.' | b'_' | b'|'))
}

/// Checks the tag of a reference, which is read here without the lexer.
fn says(written: &str, reference: &Reference) {
    let inner = written.strip_prefix('-').unwrap_or(written);
    let inner = inner.strip_suffix('-').unwrap_or(inner).trim();
    let quoted = inner.strip_prefix("secret").expect("a reference begins with `secret`").trim_start();
    let quote = first(quoted);
    assert!(matches!(quote, '"' | '\''));
    let (name, filters) = quoted[1..].split_once(quote).expect("a name in quotes");
    assert_eq!(name, reference.name.as_str(), "spelled as it was written");
    let filters: Vec<&str> = filters.split('|').map(str::trim).collect();
    assert_eq!(filters[0], "");
    let known = |filter: &ValueFilter| ValueFilter::ALL.iter().find(|(_, known)| known == filter).unwrap().0;
    assert_eq!(filters[1..], reference.filters.iter().map(known).collect::<Vec<_>>());
}

fn first(text: &str) -> char {
    text.chars().next().unwrap()
}

/// Checks that, if the engine can parse its text, it has the same calls and no name that the lexer does not see.
fn engine_agrees(lexed: &Lexed) {
    let mut engine = Environment::new();
    let syntax = SyntaxConfig::builder()
        .block_delimiters(BLOCK.0, BLOCK.1)
        .variable_delimiters(VARIABLE.0, VARIABLE.1)
        .comment_delimiters(COMMENT.0, COMMENT.1)
        .build();
    engine.set_syntax(syntax.unwrap());
    let Ok(template) = engine.template_from_str(&lexed.engine_text) else { return };
    let used: BTreeSet<String> = template.undeclared_variables(false).into_iter().collect();
    let calls: BTreeSet<String> =
        (0..lexed.references.len()).map(|index| format!("{}{index}", lexed.call_prefix)).collect();
    let (called, named): (BTreeSet<_>, BTreeSet<_>) =
        used.into_iter().partition(|name| name.starts_with(&lexed.call_prefix));
    assert_eq!(called, calls, "the engine sees the references of the lexer");
    let known = names(&lexed.engine_text);
    let unknown: Vec<_> = named.iter().filter(|name| !known.contains(name.as_str())).collect();
    assert!(unknown.is_empty(), "the engine sees names that the lexer does not: {unknown:?}, {known:?}");
}

/// Returns the names in the tags of an engine's text, without those after a dot, as the lexer reads tags.
fn names(engine_text: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for (open, close) in [BLOCK, VARIABLE] {
        for (at, _) in engine_text.match_indices(open) {
            let Tag::Closed { tokens, .. } = TagReader::read(engine_text, at + open.len(), close) else {
                panic!("the lexer can read every tag");
            };
            let mut before = None;
            for (_, token) in &tokens {
                if let Token::Name(name) = token
                    && before != Some(&Token::Operator("."))
                {
                    names.insert(*name);
                }
                before = Some(token);
            }
        }
    }
    names
}

/// Checks that everything that looks like a reference is found by its name, whether the text can be lexed or not.
fn guard_misses_nothing(text: &str) {
    for (at, word) in text.match_indices("secret").take(64) {
        let behind = &text[at + word.len()..];
        let quoted = behind.trim_start();
        let Some(quote) = quoted.chars().next().filter(|c| matches!(c, '"' | '\'')) else { continue };
        let Some((name, _)) = quoted[1..].split_once(quote) else { continue };
        let Ok(other_case) = name.to_ascii_uppercase().parse::<SecretName>() else { continue };
        let (line, column) = super::position(text, text.len() - quoted.len() + 1);
        let found = names_in_text(text, &[&other_case]);
        assert!(found.contains(&(&other_case, line, column)), "`{name}` is missed");
    }
}
