//! The rule decides which tags are ours, and nothing else.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Value};
use proptest::prelude::*;

use super::*;

/// Renders with the real engine, configured as in a planner.
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

/// Foreign text passes byte for byte.
#[test]
fn what_is_not_ours_is_text() {
    for text in [
        "cat <<EOF\nx\nEOF\n",
        "cat <<-EOF\n",
        "cat << EOF",
        "cat << EOF\n$a {\nEOF\n",
        "cat << 'EOF' | grep x\n",
        "cat << EOF > x\n$a\nEOF\n",
        "cat << EOF | tee x\nkey=1 >> 2\nEOF\n",
        "cat << \"EOF\"\n",
        "cat << \\\"EOF\\\"\\nx\\nEOF",
        "\"cat << EOF\\nfoo >> bar\\nEOF\"",
        "cat <<~'EOF'\n",
        "cat << ~EOF\n",
        "cat <<\\EOF\n",
        "cat <<SECRETS\\nA=1\\nSECRETS",
        "cat <<ENV >.env\n",
        "cat <<secret_file\n",
        "<<< x >>>",
        "cat <<< \"$x\"",
        "base: &b {}\nx:\n  <<: *b\n  <<: [*env, *vars]\n",
        "std::cout << x << \"y\" << std::endl;",
        "cout <<x<<endl; y = 1 << 4; y <<= 2; 1<<4",
        "{{ secret }} {% if %} {# #} ${HOME} $${x} ${secret \"x\"} {{secret \"x\"}}",
        "a << ",
        "<<",
        "<%",
        "<#",
        "<<-",
        "<%= erb %> <%# x %> <%iffy%>",
        "<#if x>y</#if><#-- x -->",
        "1<2 <a> <<a>> <<your name>> <secret>x</secret> < secret",
        "Di «hola», «secret», « secrets » y «vars»",
        "a &lt;&lt; b, C:\\users\\x3c \\u003cb\\u003e",
    ] {
        let lexed = lex(text).unwrap_or_else(|problems| panic!("{text}: {problems:?}"));
        assert!(lexed.references.is_empty());
        assert_eq!(lexed.engine_text, text, "there is no tag");
        assert_eq!(render(&lexed), text);
    }
}

#[test]
fn what_was_meant_for_us_is_never_text() {
    for (text, column, meant) in [
        ("a <<secret \"x\">>", 3, "<< secret \"x\" >>"),
        ("a <<-secret 'x' >>", 3, "<< secret \"x\" >>"),
        ("a <<< secret \"x\" >>>", 3, "<< secret \"x\" >>"),
        ("a << secrets \"x\" >>", 3, "<< secret \"x\" >>"),
        ("a << Secret 'x' >>", 3, "<< secret \"x\" >>"),
        ("a <<sercet \"x\">>", 3, "<< secret \"x\" >>"),
        ("a <<secret x>>", 3, "<< secret \"x\" >>"),
        ("a <<secret(\"x\")>>", 3, "<< secret \"x\" >>"),
        ("a <<secret>>", 3, "<< secret \"name\" >>"),
        ("a <<\u{200b}secret \"x\">>", 3, "<< secret \"x\" >>"),
        ("a < secret \"x\" >>", 3, "<< secret \"x\" >>"),
        ("a < < secret \"x\" > >", 5, "<< secret \"x\" >>"),
        ("a << secret x >>", 13, "<< secret \"x\" >>"),
        ("a << secret(\"x\") >>", 12, "<< secret \"x\" >>"),
        ("a << secret \\\"x\\\" >>", 13, "<< secret \"x\" >>"),
        ("a << secret “x” >>", 13, "<< secret \"x\" >>"),
        ("a << secret \"x\" >", 3, "<< secret \"x\" >>"),
        ("a << secret \"x\" > >", 3, "<< secret \"x\" >>"),
        ("a «secret \"x\"»", 3, "<< secret \"x\" >>"),
        ("a ≪ secret “x” ≫", 3, "<< secret \"x\" >>"),
        ("a &lt;&lt; secret &quot;x&quot; &gt;&gt;", 3, "<< secret \"x\" >>"),
        ("a \\u003c\\u003c secret \\\"x\\\" \\u003e\\u003e", 3, "<< secret \"x\" >>"),
        ("a <<vars.x>>", 3, "<< vars.x >>"),
        ("a <<< env.X >>>", 3, "<< env.X >>"),
        ("a <<var.x>>", 3, "<< vars.x >>"),
        ("a «vars.x»", 3, "<< vars.x >>"),
        ("a <<raw>>", 3, "<% raw %>"),
        ("a <%raw%>", 3, "<% raw %>"),
        ("a <%-if x %>", 3, "<% if … %>"),
        ("a <%ENDIF%>", 3, "<% endif %>"),
        ("a <#x#>", 3, "<# … #>"),
        ("<% for n in vars.l %><<n>><% endfor %>", 22, "<< n >>"),
        ("<<<loop.index>>><% for n in vars.l %><% endfor %>", 1, "<< loop.index >>"),
    ] {
        let problems = lex(text).expect_err(text);
        let [problem] = &problems[..] else { panic!("{text}: {problems:?}") };
        assert_eq!(problem.column, Some(column), "{text}");
        let help = problem.help.as_deref().unwrap();
        assert!(help.starts_with(&format!("did you mean `{meant}`? ")) && help.contains("<% raw %>"), "{text}: {help}");
        // Between `raw` and `endraw` it is text as well.
        if !text.contains("raw") {
            let lexed = lex(&format!("<% raw %>{text}<% endraw %>")).unwrap();
            assert_eq!(render(&lexed), text);
        }
    }
}

/// A tag that is not closed does not hide what follows it.
#[test]
fn what_is_not_closed_is_told_at_its_own_line() {
    let text = "<< vars.x\n<< secret \"a\"\n<# one\n<% if x\n<# two #>\n<< secret \"b\" >>\n<<secret \"c\">>\n";
    let found: Vec<_> = problems(text).into_iter().map(|(line, column, _)| (line, column)).collect();
    assert_eq!(found, [(1, 1), (2, 1), (3, 1), (4, 1), (7, 1)]);
    let bound = "<% set n = 1 %>\n<< n\n<< m\n";
    assert_eq!(problems(bound), [(2, 1, "the tag is not closed: `>>` is missing".to_owned())]);
}

#[test]
fn an_expression_may_go_on_behind_its_line() {
    for text in ["<< x\n>>", "<<\nx\n| upper\n>>", "<< 'y'\nif yes else 'z' >>", "<< [x]\n|join >>", "<<- x ->>"] {
        let lexed = lex(text).unwrap();
        assert!(lexed.engine_text.starts_with(VARIABLE.0), "{text}");
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
        "<< a $ b >>",
        "<% include 'x' %>",
        "<% nonsense %>",
        "<< >>",
        "<< vars.x",
        "cat << secret\n",
        "cat << 'env'\n",
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
fn lines_stay_where_they_are() {
    let text = "<#\n\n#>a\n<<\n secret\n \"x\"\n>>\n<%\nraw\n%>\n<%\nendraw\n%>b\n<< y >>";
    let lexed = lex(text).unwrap();
    assert_eq!(lexed.engine_text.matches('\n').count(), text.matches('\n').count());
    assert!(lexed.engine_text.lines().nth(13).unwrap().contains(" y "));
}

#[test]
fn names_are_found_in_text_that_is_broken() {
    let name: SecretName = "cal-key".parse().unwrap();
    let found = names_in_text("x\n<< secrt \"CAL-KEY\" >> my-cal-keys", &[&name]);
    assert_eq!(found, [(&name, 2, 11), (&name, 2, 26)]);
}

/// Generates text without an opener, but with many sequences that look like one.
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
        // No letters that form one of our words.
        "[a-dé\"'\\\\ \n\t|-]{0,6}",
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

/// Lines with their outcome: text for the config, or an error.
const LINES: [(&str, Option<&str>); 23] = [
    ("plain > text", Some("plain > text")),
    ("x = << x >>", Some("x = X")),
    ("k: << secret \"a\" >>", Some("k: []")),
    ("<# << secret \"a\" >> #>c", Some("c")),
    ("<% raw %><<secret 'a'>><% endraw %>", Some("<<secret 'a'>>")),
    ("cat << EOF", Some("cat << EOF")),
    ("cat <<-'END'", Some("cat <<-'END'")),
    ("<<: *base", Some("<<: *base")),
    ("cout << x << y;", Some("cout << x << y;")),
    ("echo >> log", Some("echo >> log")),
    ("{{ x }} ${x} %>", Some("{{ x }} ${x} %>")),
    ("<<a>> <b> «c»", Some("<<a>> <b> «c»")),
    ("<<secret \"a\">>", None),
    ("<< secrets 'a' >>", None),
    ("<<< secret \"a\" >>>", None),
    ("<< secret a >>", None),
    ("<< secret \"a\" >", None),
    ("<<vars.x>>", None),
    ("<< env.X", None),
    ("«secret 'a'»", None),
    ("<%if x%>", None),
    ("<#x#>", None),
    ("<< x $ >>", None),
];

proptest! {
    /// The meaning of a line does not depend on the lines around it.
    #[test]
    fn what_a_line_is_does_not_depend_on_others(chosen in proptest::collection::vec(0..LINES.len(), 0..10)) {
        let lines: Vec<_> = chosen.iter().map(|index| LINES[*index]).collect();
        let text: String = lines.iter().map(|(line, _)| format!("{line}\n")).collect();
        match lex(&text) {
            Ok(lexed) => {
                let expected: Option<Vec<&str>> = lines.iter().map(|(_, rendered)| *rendered).collect();
                prop_assert!(expected.is_some(), "{}", text);
                let rendered = render(&lexed).replace(|c: char| c.is_ascii_digit(), "");
                prop_assert_eq!(rendered, expected.unwrap().join("\n") + if lines.is_empty() { "" } else { "\n" });
            }
            Err(problems) => {
                let mut wrong: Vec<_> = problems.iter().map(|problem| problem.line.unwrap() as usize - 1).collect();
                wrong.dedup();
                let expected: Vec<_> = (0..lines.len()).filter(|index| lines[*index].1.is_none()).collect();
                prop_assert_eq!(wrong, expected, "{}", text);
            }
        }
    }

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
