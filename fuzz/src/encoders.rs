//! Encoders: a consumer reads back exactly the value, or the value is refused.
//!
//! Every reader here is independent of the encoder: another implementation, or one written from the consumer's
//! documentation.

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use guillemet_base::sys::memory::Clear;
use guillemet_plan::encode::{
    BytesEncoding, CharacterSet, ENCODERS, EncoderDefinition, EncoderOptions, EscapeTable, FILTERS, HmacAlgorithm,
    Refusal, ValueSource, eval, literal,
};
use guillemet_plan::expr::{DigestAlgorithm, Expr, Op, Part, TextParts};
use guillemet_plugin::canary::readers::escaped::read_escaped;
use guillemet_template::ValueFilter;
use sha2::Digest;

/// The first byte selects the encoder. The second says where literal text ends and the value begins. The rest are
/// texts, separated by a byte that no text contains.
pub fn holds(data: &[u8]) {
    let [which, cut, texts @ ..] = data else { return };
    let texts = texts.split(|b| *b == 0xff).map(|text| std::str::from_utf8(text).ok());
    let Some(mut texts) = texts.collect::<Option<Vec<&str>>>() else { return };
    texts.resize(3, "");
    let (definition, op) = op(*which, &texts);
    let args = &texts[..definition.texts()];

    let whole = literal(&op, args);
    let (text, value) = cut_up(args[0], *cut);
    let mut parts = vec![text.clone()];
    parts.extend(args[1..].iter().enumerate().map(|(index, _)| vec![secret(index + 1)]));
    let values = Values([vec![value], args[1..].to_vec()].concat());
    let mut out = {
        let mut begun = Clear::new();
        begun.extend_from_slice(b"before");
        begun
    };
    let outcome = eval(&Expr::Apply { op: op.clone(), args: parts }, &values, &mut out);
    let placed = outcome.map(|()| {
        let behind = out.strip_prefix(b"before").expect("what stands there is left alone");
        String::from_utf8(behind.to_vec()).expect("text gives text")
    });
    match &op {
        Op::Forbid { characters, reason } => {
            forbidden(&whole, args[0], args[0].contains(|c| characters.contains(c)), reason);
            forbidden(&placed, args[0], value.contains(|c| characters.contains(c)), reason);
        }
        Op::ForbidSequence { sequence, reason } => {
            forbidden(&whole, args[0], sequence.is_empty(), reason);
            forbidden(&placed, args[0], sequence.is_empty() || brings_in(&text, value, sequence), reason);
        }
        Op::Allow { characters, reason } => {
            let is_refused = |text: &str| text.chars().any(|c| !characters.contains(c));
            forbidden(&whole, args[0], is_refused(args[0]), reason);
            forbidden(&placed, args[0], is_refused(value), reason);
        }
        Op::AtMost { bytes, reason } => {
            let refused = args[0].len() > *bytes as usize;
            forbidden(&whole, args[0], refused, reason);
            forbidden(&placed, args[0], refused, reason);
        }
        _ => {
            assert_eq!(whole, placed, "literal text and a value are encoded in one way");
            match &placed {
                Ok(written) => read_back(&op, args, written),
                // Messages of refusals are ASCII, so part of a value that is not ASCII cannot be in them by chance.
                Err(Refusal { reason }) => assert!(reason.is_ascii() && !reason.is_empty()),
            }
        }
    }
}

struct Values<'a>(Vec<&'a str>);

impl ValueSource for Values<'_> {
    fn append(&self, emission: u32, out: &mut Clear) {
        out.extend_from_slice(self.0[emission as usize].as_bytes());
    }
}

fn secret(emission: usize) -> Part {
    Part::Expr(Expr::Secret(u32::try_from(emission).unwrap()))
}

/// The definition of an encoder or filter, and the operation with an option of the texts.
fn op(which: u8, texts: &[&str]) -> (&'static EncoderDefinition, Op) {
    let which = usize::from(which);
    let count = FILTERS.len() + ENCODERS.len();
    let definition = FILTERS.iter().chain(ENCODERS).nth(which % count).expect("it is below the count");
    let number = which / count;
    let options = EncoderOptions {
        option: texts[1].to_owned(),
        algorithm: DigestAlgorithm::ALL[number % DigestAlgorithm::ALL.len()].1,
        hmac: HmacAlgorithm::ALL[number % HmacAlgorithm::ALL.len()].1,
        encoding: BytesEncoding::ALL[number % BytesEncoding::ALL.len()].1,
        table: table(number),
        number: u32::try_from(number).expect("it is below 256"),
        reason: "that cannot stand here".into(),
    };
    (definition, definition.op(options))
}

/// Two tables for `escape`: a quoted string, and a bare value up to the end of the line.
fn table(number: usize) -> EscapeTable {
    let replacements = |pairs: &[(char, &str)]| pairs.iter().map(|(c, text)| (*c, (*text).to_owned())).collect();
    let refused = |set: &str| vec![(CharacterSet(set.into()), "that cannot stand here".to_owned())];
    if number.is_multiple_of(2) {
        let replacements = replacements(&[('"', "\\\""), ('\\', "\\\\"), ('\n', "\\n")]);
        EscapeTable { opening: "\"".into(), closing: "\"".into(), replacements, refused: refused("\0-\u{8}") }
    } else {
        let replacements = replacements(&[('%', "%%"), (' ', "% ")]);
        EscapeTable { replacements, refused: refused("\n\r"), ..EscapeTable::default() }
    }
}

/// Splits a text into literal text, a value and literal text. Returns it with the value.
fn cut_up(text: &str, cut: u8) -> (TextParts, &str) {
    let from = text.floor_char_boundary(text.len() * usize::from(cut & 15) / 15);
    let to = text.floor_char_boundary(from + (text.len() - from) * usize::from(cut >> 4) / 15);
    let literal = |text: &str| Part::Literal(text.to_owned());
    (vec![literal(&text[..from]), secret(0), literal(&text[to..])], &text[from..to])
}

fn forbidden(outcome: &Result<String, Refusal>, text: &str, refused: bool, reason: &str) {
    match outcome {
        Ok(written) => assert!(!refused && written == text),
        Err(refusal) => assert!(refused && refusal.reason == reason),
    }
}

/// Returns whether the sequence occurs in the text other than inside one of its literals.
fn brings_in(text: &TextParts, value: &str, sequence: &str) -> bool {
    let [Part::Literal(before), _, Part::Literal(behind)] = text.as_slice() else { unreachable!() };
    let all = [before.as_str(), value, behind].concat();
    let ours = |at: usize| at + sequence.len() <= before.len() || at >= before.len() + value.len();
    (0..all.len()).any(|at| all.as_bytes()[at..].starts_with(sequence.as_bytes()) && !ours(at))
}

#[expect(clippy::too_many_lines, reason = "one case after the other")]
fn read_back(op: &Op, args: &[&str], written: &str) {
    let text = args[0];
    match op {
        Op::Filter(ValueFilter::Base64) | Op::Base64 => {
            assert_eq!(BASE64_STANDARD.decode(written).unwrap(), text.as_bytes());
        }
        Op::Filter(ValueFilter::Base64url) => {
            assert_eq!(BASE64_URL_SAFE_NO_PAD.decode(written).unwrap(), text.as_bytes());
        }
        Op::Filter(ValueFilter::Hex) => {
            assert_eq!(written, text.bytes().map(|b| format!("{b:02x}")).collect::<String>());
        }
        Op::Filter(ValueFilter::Trim) => {
            assert_eq!(written, text.trim_matches(char::is_whitespace));
            assert!(!written.is_empty());
        }
        Op::Filter(ValueFilter::Url) | Op::UrlQuery => {
            let url = url::Url::parse(&format!("https://h/p?a=1&k={written}&z=2#f")).unwrap();
            let pairs: Vec<_> = url.query_pairs().collect();
            assert_eq!((pairs.len(), pairs[1].1.as_ref()), (3, text));
            assert_eq!((url.path(), url.fragment()), ("/p", Some("f")));
        }
        Op::UrlPathSegment => {
            let url = url::Url::parse(&format!("https://h/a/{written}/z")).unwrap();
            let segments: Vec<_> = url.path_segments().unwrap().collect();
            assert_eq!(segments, ["a", written, "z"], "one segment, and no other path");
            let decoded = url::form_urlencoded::parse(written.as_bytes()).next();
            assert_eq!(decoded.map_or(String::new(), |(text, _)| text.into_owned()), text);
        }
        Op::Url => absolute(text, written),
        Op::HeaderValue => {
            let message = format!("GET / HTTP/1.1\r\nA: 1\r\nK: {written}\r\nZ: 2\r\n\r\nbody");
            let lines: Vec<&str> = message.split(['\r', '\n', '\0']).filter(|line| !line.is_empty()).collect();
            assert_eq!(lines.len(), 5, "one line, one field");
            assert_eq!(lines[2].split_once(':').unwrap().1.trim_matches([' ', '\t']), text);
            assert!(text.bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b)));
        }
        Op::BasicCredentials => {
            let pair = String::from_utf8(BASE64_STANDARD.decode(written).unwrap()).unwrap();
            assert_eq!(pair.split_once(':').unwrap(), (text, args[1]));
        }
        Op::SipDigestHa1(algorithm) => {
            assert!(!text.contains(':') && !args[1].contains(':'), "no two users share a digest");
            let text = args.join(":");
            let digest = match algorithm {
                DigestAlgorithm::Md5 => md5::Md5::digest(text).to_vec(),
                DigestAlgorithm::Sha256 => sha2::Sha256::digest(text).to_vec(),
                DigestAlgorithm::Sha512_256 => sha2::Sha512_256::digest(text).to_vec(),
            };
            assert_eq!(written, digest.iter().map(|b| format!("{b:02x}")).collect::<String>());
        }
        Op::Xml => {
            assert!(!written.contains('$'), "FreeSWITCH would expand it");
            assert!(!written.to_ascii_lowercase().contains("x-pre-process"), "FreeSWITCH would drop the line");
            let document = format!("<r><x a=\"{written}\" b='{written}'>{written}</x><y/></r>");
            let document = roxmltree::Document::parse(&document).expect("well-formed");
            let x = document.root_element().first_element_child().unwrap();
            assert_eq!((x.attribute("a"), x.attribute("b")), (Some(text), Some(text)));
            assert_eq!((x.text().unwrap_or_default(), x.attributes().len()), (text, 2));
            assert_eq!(x.next_sibling_element().unwrap().tag_name().name(), "y");
        }
        Op::Dotenv => {
            let file = format!("A='1'\nK={written}\nZ='2'\n");
            let expected = [("A", "1"), ("K", text), ("Z", "2")].map(|(key, value)| (key.into(), value.into()));
            assert_eq!(python_dotenv(&file), expected, "python-dotenv");
            assert_eq!(node_dotenv(&file), expected, "Node");
            assert_eq!(systemd_environment(&file), expected, "systemd");
            assert_eq!(shell(&file), expected, "a shell");
            if !written.starts_with(['\'', '"']) {
                assert_eq!(written, text, "docker and kubectl take the line as it is");
            }
        }
        Op::AsteriskValue => {
            assert!(!written.contains('\n'));
            let line = format!("k = {written}\n");
            assert!(line.len() < 8192, "Asterisk skips a longer line");
            assert_eq!(asterisk(line.into_bytes()), text.as_bytes());
        }
        Op::JsonString => {
            let string: String = serde_json::from_str(&format!("\"{written}\"")).expect("a JSON string");
            assert_eq!(string, text);
        }
        Op::KamailioString => {
            assert!(!written.contains(['\r', '\n', '\0']), "one line");
            assert_eq!(between_quotes(written, |escaped| escaped), text);
        }
        Op::BaresipParameter => {
            assert!(!written.contains(['\r', '\n', '\0']), "one line");
            assert!(written.len() <= 128, "a line of 511 bytes has room for it");
            let line = format!(";auth_user={written};auth_pass={written}");
            assert_eq!(baresip(&line), [("auth_user", text), ("auth_pass", text)]);
        }
        Op::CurlConfig => {
            assert!(!written.contains(['\r', '\n', '\0']), "one line");
            let control = |escaped| match escaped {
                't' => '\t',
                'n' => '\n',
                'r' => '\r',
                'v' => '\u{b}',
                other => other,
            };
            assert_eq!(between_quotes(written, control), text);
        }
        Op::Hex => assert_eq!(written, text.bytes().map(|b| format!("{b:02x}")).collect::<String>()),
        Op::Base64url => assert_eq!(BASE64_URL_SAFE_NO_PAD.decode(written).unwrap(), text.as_bytes()),
        Op::Sha256Hex => {
            let digest = sha2::Sha256::digest(text);
            assert_eq!(written, digest.iter().map(|b| format!("{b:02x}")).collect::<String>());
        }
        Op::DockerEnv => assert!(written == text && !text.contains(['\n', '\r', '\0'])),
        Op::IniValue => assert!(written == text && text.trim() == text && !text.contains(['\n', '\r', '\0', ';', '#'])),
        Op::ShellWord => {
            let file = format!("A='1'\nK={written}\nZ='2'\n");
            // The reader does not know a `'` outside of quotes, so it sees only values without one.
            if !text.contains('\'') {
                let expected = [("A", "1"), ("K", text), ("Z", "2")].map(|(key, value)| (key.into(), value.into()));
                assert_eq!(shell(&file), expected);
            }
        }
        Op::SystemdEnv => {
            let file = format!("A='1'\nK={written}\nZ='2'\n");
            let expected = [("A", "1"), ("K", text), ("Z", "2")].map(|(key, value)| (key.into(), value.into()));
            assert_eq!(systemd_environment(&file), expected);
        }
        Op::NetrcToken => {
            let read = if written.starts_with('"') { between_quotes(written, |c| c) } else { written.to_owned() };
            assert_eq!(read, text);
            assert!(written.starts_with('"') || !written.contains([' ', '\t', '\n']));
        }
        Op::Escape(table) => {
            let document = format!("{written}\nrest");
            assert_eq!(read_escaped(table, Some('\n'), &document), Ok((text.to_owned(), "\nrest")));
        }
        // Of an encoder without a reader here, `holds` checks that literal text and values are encoded in one way.
        _ => {}
    }
}

/// Reads the text between two double quotes, the second of which has to be the end: like curl's `unslashquote`, and
/// like Kamailio's lexer in a string as far as `\"` and `\\` are concerned. `meant` returns what a character behind `\`
/// stands for.
fn between_quotes(written: &str, meant: impl Fn(char) -> char) -> String {
    let mut chars = written.strip_prefix('"').expect("a quote").chars();
    let mut text = String::new();
    loop {
        match chars.next().expect("a closing quote") {
            '"' => break,
            '\\' => text.push(meant(chars.next().expect("something behind a backslash"))),
            c => text.push(c),
        }
    }
    assert_eq!(chars.as_str(), "", "nothing behind the quotes");
    text
}

/// Reads the parameters of an accounts line (libre: msg_param_decode). A name is recognized after any `;`, even inside
/// a value.
fn baresip(line: &str) -> Vec<(&str, &str)> {
    let blank = [' ', '\t', '\r', '\n'];
    let mut found = Vec::new();
    for (at, _) in line.match_indices(';') {
        let behind = line[at + 1..].trim_start_matches(blank);
        let Some((name, value)) = behind.split_once('=') else { continue };
        let name = name.trim_end_matches(blank);
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
            continue;
        }
        let value = value.trim_start_matches(blank);
        let (mut quoted, mut kept) = (false, false);
        let end = value.find(|c: char| {
            let ends = !kept && !quoted && (c == ';' || blank.contains(&c));
            quoted ^= !kept && c == '"';
            kept = !kept && c == '\\';
            ends
        });
        let value = &value[..end.unwrap_or(value.len())];
        let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        found.push((name, inner.unwrap_or(value)));
    }
    found
}

/// Checks that a URL is kept as it is and, if browsers can read it, that they see the path that is written.
fn absolute(text: &str, written: &str) {
    assert_eq!(written, text);
    let Ok(url) = url::Url::parse(text) else { return };
    assert!(matches!(url.scheme(), "http" | "https") && url.has_host());
    let behind = text.split_once("://").unwrap().1;
    let path = behind.split(['?', '#']).next().unwrap().split_once('/').map_or("", |(_, path)| path);
    assert_eq!(url.path().matches('/').count(), 1 + path.matches('/').count(), "no segment leads elsewhere");
    assert_eq!(url.as_str().contains('#'), text.contains('#'));
    assert!(!text.contains(|c: char| c.is_whitespace() || c.is_control() || "\"<>\\^`|".contains(c)));
}

/// Reads like python-dotenv 1.x (parser.py and variables.py), with its regular expressions written out by hand.
fn python_dotenv(file: &str) -> Vec<(String, String)> {
    // In Python, `\s` also matches the separators U+001C to U+001F.
    let blank = |c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
    let inner = |c: char| blank(c) && !matches!(c, '\r' | '\n');
    let (mut rest, mut pairs) = (file, Vec::new());
    loop {
        rest = rest.trim_start_matches(blank);
        if rest.is_empty() {
            return pairs;
        }
        let (key, behind) = rest.split_once('=').expect("a key");
        rest = behind.trim_start_matches(inner);
        let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"'));
        let value = match quote {
            Some(quote) => {
                let escape = format!("\\{quote}");
                let mut end = 1;
                while !rest[end..].starts_with(quote) {
                    let next = rest[end..].chars().next().expect("the quote is closed");
                    end += if rest[end..].starts_with(&escape) { 2 } else { next.len_utf8() };
                }
                let content = &rest[1..end];
                rest = &rest[end + 1..];
                unescape(content, if quote == '"' { "\\'\"abfnrtv" } else { "\\'" })
            }
            None => {
                let end = rest.find(['\r', '\n']).unwrap_or(rest.len());
                let line = &rest[..end];
                rest = &rest[end..];
                let mut comments = line.match_indices('#').filter(|(at, _)| line[..*at].ends_with(blank));
                let value = comments.next().map_or(line, |(at, _)| &line[..at]);
                value.trim_end_matches(blank).to_owned()
            }
        };
        assert!(!value.contains("${"), "python-dotenv would expand it");
        pairs.push((key.to_owned(), value));
        rest = rest.trim_start_matches(inner);
        assert!(rest.is_empty() || rest.starts_with(['\r', '\n']), "a line ends where it should");
    }
}

/// Removes each `\` before one of the `known` characters. The letters among them stand for control characters.
fn unescape(text: &str, known: &str) -> String {
    let (mut out, mut chars) = (String::new(), text.chars().peekable());
    while let Some(c) = chars.next() {
        match chars.peek().filter(|next| c == '\\' && known.contains(**next)) {
            Some(next) if next.is_ascii_alphabetic() => {
                out.push('\u{fffd}');
                chars.next();
            }
            Some(next) => {
                out.push(*next);
                chars.next();
            }
            None => out.push(c),
        }
    }
    out
}

/// Reads like Node's `--env-file` (src/node_dotenv.cc).
fn node_dotenv(file: &str) -> Vec<(String, String)> {
    const BLANKS: [char; 3] = [' ', '\t', '\n'];
    let file = file.replace('\r', "");
    let (mut rest, mut pairs) = (file.trim_matches(BLANKS), Vec::new());
    while !rest.is_empty() {
        if rest.starts_with(['\n', '#']) {
            rest = rest.split_once('\n').map_or("", |(_, behind)| behind);
            continue;
        }
        let (key, behind) = rest.split_once('=').expect("a key");
        rest = behind;
        let closed = rest.chars().next().filter(|c| matches!(c, '\'' | '"' | '`')).and_then(|quote| {
            let end = rest[1..].find(quote)?;
            Some((quote, &rest[1..=end], &rest[end + 2..]))
        });
        let value = match closed {
            Some((quote, content, behind)) => {
                rest = behind.split_once('\n').map_or("", |(_, behind)| behind);
                if quote == '"' { content.replace("\\n", "\n") } else { content.to_owned() }
            }
            None => {
                let (line, behind) = rest.split_once('\n').unwrap_or((rest, ""));
                rest = behind;
                line.split('#').next().unwrap_or_default().trim_matches(BLANKS).to_owned()
            }
        };
        pairs.push((key.trim_matches(BLANKS).to_owned(), value));
        rest = rest.trim_start_matches(BLANKS);
    }
    pairs
}

/// Reads like systemd's `EnvironmentFile=` (`parse_env_file_internal` of src/basic/env-file.c), but without comments
/// and without the keys that it would refuse.
fn systemd_environment(file: &str) -> Vec<(String, String)> {
    const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];
    let mut pairs = Vec::new();
    let mut chars = file.chars().peekable();
    while chars.peek().is_some() {
        let key: String = chars.by_ref().take_while(|c| *c != '=').collect();
        let (mut value, mut blanks, mut bare) = (String::new(), 0, false);
        loop {
            match chars.next() {
                None | Some('\n') => break,
                Some(quote @ ('\'' | '"')) if !bare => loop {
                    match chars.next().expect("the quote is closed") {
                        c if c == quote => break,
                        '\\' if quote == '"' => match chars.next().expect("it escapes something") {
                            '\n' => {}
                            c if "\"\\`$".contains(c) => value.push(c),
                            c => value.extend(['\\', c]),
                        },
                        c => value.push(c),
                    }
                },
                Some('\\') => {
                    bare = true;
                    value.extend(chars.next().filter(|c| *c != '\n'));
                }
                Some(c) if BLANKS.contains(&c) => {
                    blanks += usize::from(bare);
                    value.extend(bare.then_some(c));
                    continue;
                }
                Some(c) => {
                    bare = true;
                    value.push(c);
                }
            }
            blanks = 0;
        }
        value.truncate(value.len() - blanks);
        let is_noncharacter = |c: char| matches!(u32::from(c), 0xfdd0..=0xfdef) || u32::from(c) & 0xfffe == 0xfffe;
        assert!(!value.contains(is_noncharacter), "systemd would refuse the file");
        pairs.push((key, value));
    }
    pairs
}

/// Reads like a POSIX shell that sources the file, and fails if anything in it would be executed or expanded.
fn shell(file: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut chars = file.chars().peekable();
    while chars.peek().is_some() {
        let key: String = chars.by_ref().take_while(|c| *c != '=').collect();
        let mut value = String::new();
        loop {
            match chars.next() {
                None | Some('\n') => break,
                Some('\'') => value.extend(chars.by_ref().take_while(|c| *c != '\'')),
                Some('"') => loop {
                    match chars.next().expect("the quote is closed") {
                        '"' => break,
                        '\\' => match chars.next().expect("it escapes something") {
                            '\n' => {}
                            c if "\"\\`$".contains(c) => value.push(c),
                            c => value.extend(['\\', c]),
                        },
                        c => {
                            assert!(!"$`".contains(c), "it would be expanded");
                            value.push(c);
                        }
                    }
                },
                Some(c) => {
                    assert!(
                        c.is_ascii_alphanumeric() || "_./+=:@%,-".contains(c),
                        "it means something to a shell: {c}"
                    );
                    value.push(c);
                }
            }
        }
        assert!(!value.contains('\0'), "no environment holds it");
        pairs.push((key, value));
    }
    pairs
}

/// Returns the value of a line as Asterisk reads it (main/config.c, `config_text_file_load` and `process_text_line`):
/// removes comments first, in place, as Asterisk does.
fn asterisk(mut line: Vec<u8>) -> Vec<u8> {
    let mut from = 0;
    while let Some(at) = line[from..].iter().position(|b| *b == b';').map(|found| from + found) {
        if at > from && line[at - 1] == b'\\' {
            line.remove(at - 1);
            from = at;
        } else {
            line.truncate(at);
        }
    }
    let equals = line.iter().position(|b| *b == b'=').unwrap();
    let value = &line[equals + 1..];
    let value = value.strip_prefix(b">").unwrap_or(value);
    let stripped = |b: &u8| *b < 33;
    let begin = value.iter().position(|b| !stripped(b)).unwrap_or(value.len());
    let end = value.iter().rposition(|b| !stripped(b)).map_or(begin, |last| last + 1);
    value[begin..end].to_vec()
}
