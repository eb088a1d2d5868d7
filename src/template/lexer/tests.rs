//! Ours is what the rule says, and nothing else.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Value};
use proptest::prelude::*;

use super::*;

/// The real engine, as planners set it up.
fn render(lexed: &Lexed) -> String {
    let syntax = SyntaxConfig::builder()
        .block_delimiters(BLOCK.0, BLOCK.1)
        .variable_delimiters(VARIABLE.0, VARIABLE.1)
        .comment_delimiters(COMMENT.0, COMMENT.1)
        .keep_trailing_newline(true)
        .build()
        .unwrap();
    let mut engine = Environment::empty();
    engine.set_syntax(syntax);
    engine.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    for index in 0..lexed.references.len() {
        engine.add_function(format!("{}{index}", lexed.call_prefix), move || Value::from(format!("[{index}]")));
    }
    engine.render_str(&lexed.engine_text, minijinja::context! { x => "X", yes => true }).unwrap()
}

fn reference(name: &str, line: u32, column: u32) -> Reference {
    Reference { name: name.parse().unwrap(), line, column, filters: Vec::new() }
}

fn problems(text: &str) -> Vec<(u32, u32, String)> {
    let problems = lex(text).unwrap_err();
    assert!(problems.iter().all(|problem| problem.help.is_some()));
    problems.into_iter().map(|p| (p.line.unwrap(), p.column.unwrap(), p.message)).collect()
}

#[test]
fn what_is_not_ours_is_text() {
    for text in [
        "cat <<EOF\nx\nEOF\n",
        "cat <<-EOF\n",
        "<<< x >>>",
        "base: &b {}\nx:\n  <<: *b\n",
        "{{ secret }} {% if %} {# #} ${HOME} $${x}",
        "a << ",
        "<<",
        "<%",
        "<#",
        "<<-",
        "<%= erb %> <%# x %>",
        "1<2 <a> <<a>>",
    ] {
        if text == "a << " {
            assert!(lex(text).is_err(), "an open tag at the end is one that is not closed");
            continue;
        }
        let lexed = lex(text).unwrap();
        assert!(lexed.references.is_empty() && lexed.roots.is_empty());
        assert_eq!(render(&lexed), text);
    }
}

#[test]
fn references_have_their_places_and_filters() {
    let text = "a = \"<< secret \"one\" >>\"\nä = '<<- secret 'two' | trim | base64 ->>'\n<% if x %><< secret \"three\" >><% endif %>";
    let lexed = lex(text).unwrap();
    let mut two = reference("two", 2, 6);
    two.filters = vec![ValueFilter::Trim, ValueFilter::Base64];
    assert_eq!(lexed.references, [reference("one", 1, 6), two, reference("three", 3, 11)]);
    assert_eq!(render(&lexed), "a = \"[0]\"\nä = '[1]'\n[2]");
}

#[test]
fn comments_and_raw_text_name_nothing() {
    let text = "<# << secret \"a\" >> #>x<% raw %><< secret \"b\" >> <% if <%- endraw -%>  y";
    let lexed = lex(text).unwrap();
    assert!(lexed.references.is_empty());
    assert_eq!(render(&lexed), "x<< secret \"b\" >> <% ify");
}

#[test]
fn a_dash_trims_its_own_side_only() {
    for (text, expected) in
        [("a <# x -#> b", "a b"), ("a <#- x #> b", "a b"), ("a <#- x -#> b", "ab"), ("a <# #> b", "a  b")]
    {
        assert_eq!(render(&lex(text).unwrap()), expected, "{text}");
    }
}

#[test]
fn a_closer_in_a_string_does_not_close() {
    let lexed = lex("<< x ~ '>>' >><% set a = \"%>\" %><< a >>").unwrap();
    assert_eq!(render(&lexed), "X>>%>");
}

#[test]
fn secret_stands_nowhere_else() {
    for (text, line, column) in [
        ("<% if secret %>", 1, 7),
        ("<% set a = secret \"b\" %>", 1, 12),
        ("\n<< f(secret) >>", 2, 6),
        ("<< x ~ secret \"a\" >>", 1, 8),
        ("<< secret(\"a\") >>", 1, 10),
        ("<< secret a >>", 1, 11),
        ("<< secret >>", 1, 1),
        ("<< secret \"a\" ~ x >>", 1, 15),
        ("<< secret \"a\\n\" >>", 1, 11),
        ("<< secret \"a b\" >>", 1, 11),
        ("<< secret \"a\" | upper >>", 1, 17),
        ("<< f(secret=1) >>", 1, 6),
        ("<% for secret in x %>", 1, 8),
    ] {
        let found = problems(text);
        assert_eq!((found[0].0, found[0].1), (line, column), "{text}: {found:?}");
    }
    let lexed = lex("<< x.secret ~ 'secret' >>").unwrap();
    assert!(lexed.references.is_empty());
}

#[test]
fn foreign_text_behind_a_blank_is_named_with_help() {
    for text in [
        "cat << EOF > x\n$a\nEOF\n",
        "<< a $ b >>",
        "<% include 'x' %>",
        "<% nonsense %>",
        "<< >>",
        "<< x",
        "<# x",
        "<% raw %> x",
        "<% endraw %>",
        "<< 'x >>",
    ] {
        assert!(lex(text).is_err(), "{text}");
    }
    let found = problems("<< secret(1) >>\n<% extends 'x' %>\n<<\u{a0}secret \"x\" >>");
    assert_eq!(found.iter().map(|(line, ..)| *line).collect::<Vec<_>>(), [1, 2, 3, 3], "{found:?}");
}

#[test]
fn reserved_characters_are_refused_with_their_place() {
    assert_eq!(problems("a\nb\u{e003}")[0].0, 2);
}

#[test]
fn a_forgotten_blank_is_warned_about() {
    let lexed = lex("a: <<secret \"x\">>\nb: <<-secret 'y' >>\nc: <<secrets>>").unwrap();
    let places: Vec<_> =
        lexed.warnings.iter().map(|warning| (warning.line.unwrap(), warning.column.unwrap())).collect();
    assert_eq!(places, [(1, 4), (2, 4)]);
    assert!(lexed.references.is_empty());
}

#[test]
fn lines_stay_where_they_are() {
    let text = "<#\n\n#>a\n<<\n secret\n \"x\"\n>>\n<%\nraw\n%>\n<%\nendraw\n%>b\n<< y >>";
    let lexed = lex(text).unwrap();
    assert_eq!(lexed.engine_text.matches('\n').count(), text.matches('\n').count());
    assert_eq!(lexed.roots[0].line, 14);
}

#[test]
fn names_are_found_in_text_that_is_broken() {
    let name: SecretName = "cal-key".parse().unwrap();
    assert_eq!(names_in_text("x\n<< secrt \"CAL-KEY\" >> my-cal-keys", &name), [(2, 11), (2, 26)]);
}

/// Text without an opener, rich in what looks like one.
fn foreign() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("<<EOF\n".to_owned()),
        Just("<<-EOF\r\n".to_owned()),
        Just("<<: *base".to_owned()),
        Just("<<<".to_owned()),
        Just("{{ secret }}".to_owned()),
        Just("{% raw %}{# x #}".to_owned()),
        Just("${A}".to_owned()),
        Just("%>".to_owned()),
        Just(">>".to_owned()),
        "[a-zé\"'\\\\ \n\t|-]{0,6}",
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat()).prop_filter("has no opener", |text| {
        let openers = ["<<", "<%", "<#"];
        !openers.iter().any(|open| {
            text.match_indices(open).any(|(at, _)| {
                let rest = &text[at + 2..];
                rest.strip_prefix('-').unwrap_or(rest).starts_with(char::is_whitespace)
            })
        })
    })
}

#[derive(Clone, Debug)]
enum PieceOf {
    Text(String),
    Secret(String, usize),
    Comment(String),
    Raw(String),
}

fn pieces() -> impl Strategy<Value = Vec<PieceOf>> {
    proptest::collection::vec(
        prop_oneof![
            "[a-zé\n .:\"{}-]{0,8}".prop_map(PieceOf::Text),
            ("[a-z][a-z0-9._-]{0,8}", 0..4usize).prop_map(|(name, form)| PieceOf::Secret(name, form)),
            "[a-z<%\n ]{0,8}".prop_map(PieceOf::Comment),
            "[a-z< \n]{0,8}".prop_map(PieceOf::Raw),
        ],
        0..14,
    )
}

proptest! {
    #[test]
    fn foreign_text_goes_through_byte_for_byte(text in foreign()) {
        let lexed = lex(&text).unwrap();
        prop_assert!(lexed.references.is_empty());
        prop_assert_eq!(render(&lexed), text);
    }

    #[test]
    fn every_reference_is_found_where_it_stands(pieces in pieces()) {
        let (mut text, mut expected, mut rendered) = (String::new(), Vec::new(), String::new());
        for piece in &pieces {
            match piece {
                PieceOf::Text(piece) => {
                    text.push_str(piece);
                    rendered.push_str(piece);
                }
                PieceOf::Secret(name, form) => {
                    let line = text.matches('\n').count() as u32 + 1;
                    let column = text.rsplit('\n').next().unwrap_or_default().chars().count() as u32 + 1;
                    rendered.push_str(&format!("[{}]", expected.len()));
                    expected.push(reference(name, line, column));
                    text.push_str(&match form {
                        0 => format!("<< secret \"{name}\" >>"),
                        1 => format!("<< secret '{name}'>>"),
                        2 => format!("<<\nsecret\t\"{name}\"\n>>"),
                        _ => format!("<<  secret   '{name}'   >>"),
                    });
                }
                PieceOf::Comment(piece) => text.push_str(&format!("<# {piece} #>")),
                PieceOf::Raw(piece) => {
                    text.push_str(&format!("<% raw %>{piece}<% endraw %>"));
                    rendered.push_str(piece);
                }
            }
        }
        let lexed = lex(&text).unwrap();
        prop_assert_eq!(&lexed.references, &expected);
        prop_assert_eq!(render(&lexed), rendered);
    }

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>(), pieces in proptest::collection::vec("<<|<%|<#|>>|%>|#>|-| |\n|secret|raw|endraw|\"|'|\\||x", 0..30)) {
        let _ = lex(&text);
        let _ = lex(&pieces.concat());
    }
}
