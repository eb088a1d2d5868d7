//! Documents of each format, and texts that are none.

use proptest::prelude::*;

use super::ReadableFormat::{
    self, Asterisk, Baresip, Curl, DockerEnv, Dotenv, Ini, Kamailio, Netrc, Shell, SystemdEnv, Toml, Xml, Yaml,
};
use guillemet_plan::encode::{self, ENCODERS, EncoderOptions};

/// Returns the values, each with its path joined by `/`.
fn values(format: ReadableFormat, text: &str) -> Vec<(String, String)> {
    let leaves = format.leaves(text).unwrap_or_else(|error| panic!("{}: {error}\n{text}", format.name()));
    let values = leaves.into_iter().filter(|leaf| leaf.structure.is_none());
    values.map(|leaf| (leaf.path.join("/"), leaf.text)).collect()
}

/// Returns what is structure, each with its text.
fn structure(format: ReadableFormat, text: &str) -> Vec<(&'static str, String)> {
    let leaves = format.leaves(text).unwrap_or_else(|error| panic!("{}: {error}\n{text}", format.name()));
    leaves.into_iter().filter_map(|leaf| Some((leaf.structure?, leaf.text))).collect()
}

fn assert_values(format: ReadableFormat, text: &str, expected: &[(&str, &str)]) {
    let expected: Vec<_> = expected.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    assert_eq!(values(format, text), expected, "{text}");
}

/// Asserts that each text is an error that begins so.
fn assert_errors(format: ReadableFormat, texts: &[(&str, &str)]) {
    for (text, expected) in texts {
        let error = format.leaves(text).expect_err(text);
        assert!(error.starts_with(expected), "{text:?}: {error}");
    }
}

#[test]
fn dotenv_is_read_as_python_dotenv_reads_it() {
    let text =
        "# a comment\nA='it\\'s #1'\nexport B = \"x\\ty\" # why\nC= bare # comment\nD=a#b\n\nE=''\nF='two\nlines'\n";
    let expected = [("A", "it's #1"), ("B", "x\ty"), ("C", "bare"), ("D", "a#b"), ("E", ""), ("F", "two\nlines")];
    assert_values(Dotenv, text, &expected);
    assert_errors(
        Dotenv,
        &[
            ("A='x", "line 1: "),
            ("A=1\nB", "line 2: `=` is missing"),
            ("A='x' y", "line 1: "),
            ("A=1\n\nB-C=1", "line 3: the text before `=`"),
            ("A=\"${HOME}\"", "line 1: python-dotenv expands"),
        ],
    );
}

#[test]
fn xml_has_comments_and_instructions_as_structure() {
    assert_values(Xml, "<?x y?><a b='1'><!--c-->t<d/></a>", &[("a/@b", "1"), ("a/text 0", "t")]);
    let found = structure(Xml, "<?x y?><a><!--c--><d/></a>");
    let expected = [("a processing instruction", "x y"), ("a comment", "c"), ("an element", "")];
    assert_eq!(found, expected.map(|(what, text)| (what, text.to_owned())));
}

#[test]
fn curl_is_read_as_its_parser_reads_it() {
    let text = "# c\n/ c\nuser = \"a\\\"b\\\\\\n\\t\\r\\v\\x\"  # why\n--url https://h/a=b\nrequest: GET\ndata=\ndata = \"\"\n  globoff\n";
    let expected = [("user", "a\"b\\\n\t\r\u{b}x"), ("--url", "https://h/a=b"), ("request", "GET"), ("data", "")];
    assert_values(Curl, text, &expected);
    let found = structure(Curl, text);
    assert_eq!(found.iter().map(|(what, _)| *what).filter(|what| *what == "a comment").count(), 3, "{found:?}");
    assert!(found.contains(&("an option without a value", "globoff".into())), "{found:?}");
    assert!(structure(Curl, "expand-url = \"{{x}}\"\n")[0].0.contains("curl expands"));
    assert_errors(
        Curl,
        &[
            ("a = 1\nuser = \"\"user:pw\"\"\n", "line 2: text follows the closing quote"),
            ("user = \"a\n", "line 1: a quote is not closed"),
            ("user = \"a\\\n", "line 1: a quote is not closed"),
            ("user = a b\n", "line 1: a second word"),
            ("user = \"a\" b\n", "line 1: a second word"),
            ("user = a\0b\n", "line 1: NUL"),
        ],
    );
}

#[test]
fn asterisk_is_read_as_its_parser_reads_it() {
    let text = "; a comment\n[a](!)\nk = v ; c\nl=>m\nn = \\;x\\;--y\no = 1 ;-- two\nlines = gone --; \np = \\\\;q\nr=\ts = t\n#include x\n";
    let expected = [("a/k", "v"), ("a/l", "m"), ("a/n", ";x;--y"), ("a/o", "1"), ("a/p", "\\;q"), ("a/r", "s = t")];
    assert_values(Asterisk, text, &expected);
    let found = structure(Asterisk, text);
    let expected = [
        ("a comment", "; a comment"),
        ("the name of a section", "[a](!)"),
        ("a comment", "; c"),
        ("a comment", ";-- two"),
        ("a comment", "lines = gone --;"),
        ("a directive", "#include x"),
    ];
    assert_eq!(found, expected.map(|(what, text)| (what, text.to_owned())));
    assert_errors(
        Asterisk,
        &[
            ("[a]\nb\n", "line 2: `=` is missing"),
            ("a = b\n", "line 1: it is before the first section"),
            ("[a\n", "line 1: `]`"),
            ("[a] b\n", "line 1: text follows"),
            ("[a]\n;-- b\n", "line 3: a comment"),
            (&format!("[a]\nb = {}\n", "x".repeat(8_190)), "line 2: it is longer"),
        ],
    );
}

#[test]
fn kamailio_is_read_as_its_lexer_reads_it() {
    let text = "# \"c\"\n#!define X \"y\"\nmodparam(\"a\", 'b\\', \"\\\"\\\\\\n\\x41\\101\\q\" \"!\") /* \"/* */\" */ $x = $(y{s}); // \"z\"\n";
    let expected = [("a string", "a"), ("a string", "b\\"), ("a string", "\"\\\nAA\\q!")];
    assert_values(Kamailio, text, &expected);
    let found = structure(Kamailio, "#!define X\n# c\n/* /* */ */ if");
    let expected = [
        ("a directive", "#!define X"),
        ("a comment", "# c"),
        ("a comment", "/* /* */ */"),
        ("a word outside of strings", "if"),
    ];
    assert_eq!(found, expected.map(|(what, text)| (what, text.to_owned())));
    // What comes after a string that ended too early is structure.
    assert_values(Kamailio, "f(\"\"pw\"\")", &[("a string", ""), ("a string", "")]);
    assert_errors(
        Kamailio,
        &[
            ("\nf(\"a)\n", "line 2: a string is not closed"),
            ("f('a)", "line 1: a string"),
            ("\n/* /* */", "line 2: a comment"),
            ("f(\"\0\")", "line 1: NUL"),
        ],
    );
}

#[test]
fn baresip_is_read_as_libre_reads_it() {
    let text = "# c\n\"A\" <sip:a%20b:c@h:5061;transport=tls>;regint=0 ;auth_pass=\"x;y \\\" z\";a=b\"c d\"e;flag\n";
    let expected = [
        ("address/user", "a%20b"),
        ("address/password", "c"),
        ("regint", "0"),
        ("auth_pass", "x;y \\\" z"),
        ("a", "b\"c d\"e"),
    ];
    assert_values(Baresip, text, &expected);
    let found = structure(Baresip, text);
    assert!(found.contains(&("a parameter without a value", "flag".into())), "{found:?}");
    assert_errors(
        Baresip,
        &[
            ("<sip:h>;a=\"b\n", "line 1: a quote is not closed"),
            ("<sip:h>;a=b c\n", "line 1: text follows"),
            ("\n<sip:h>;a=\"b;c=d\"\n", "line 2: a value contains `;`"),
            ("<sip:h>;a=;b=c\n", "line 1: a parameter is empty"),
            ("<sip:a b@h>\n", "line 1: a part of the address"),
            ("<sip:a>b@h>\n", "line 1: text follows"),
            ("sip:h\n", "line 1: `<`"),
            (&format!("<sip:h>;a={}\n", "x".repeat(502)), "line 1: baresip cuts"),
        ],
    );
}

#[test]
fn yaml_is_read_where_its_versions_agree() {
    let text = "---\na: \"x\\n\\x41\\u0085\" # c\nb: ['y', z, 1, yes, ~, \"\"]\nc:\n  d: |\n    e\n  f: &g text\n  h: *g\ni: !x j\nk: !!str 1\n...\n---\nl: m\n";
    let expected = [
        ("a", "x\nA\u{85}"),
        ("b/0", "y"),
        ("b/1", "z"),
        ("b/5", ""),
        ("c/d", "e\n"),
        ("c/f", "text"),
        ("k", "1"),
        ("l", "m"),
    ];
    assert_values(Yaml, text, &expected);
    let found = structure(Yaml, text);
    for expected in [("a comment", " c"), ("a value that is not text", "yes"), ("an alias", "*g"), ("a key", "a")] {
        assert!(found.iter().any(|(what, text)| (*what, text.as_str()) == expected), "{expected:?}: {found:?}");
    }
    assert_errors(
        Yaml,
        &[
            ("\na: \"\u{85}\"\n", "line 2: U+0085 without an escape"),
            ("a: \"\u{2028}\"\n", "line 1: U+2028"),
            ("a: '\u{2029}'\n", "line 1: U+2029"),
            ("a: b\u{feff}\n", "line 1: U+FEFF"),
            ("a: \"\u{7f}\"\n", "line 1: U+007F"),
            ("a: \"\u{88}\"\n", "line 1: U+0088"),
            ("a: \"\u{ffff}\"\n", "line 1: U+FFFF"),
            ("a: \"\r\"\n", "line 1: U+000D"),
            ("a: \"\\/\"\n", "line 1: an escape"),
            ("a: \"\\ud83d\\ude00\"\n", "line 1: an escape"),
            ("a: \"\"x\"\"\n", "line "),
            ("a: \"x\n", "line "),
            ("a: 1\na: 2\n", "line 2: a key appears twice"),
            ("a: b?\nc: [b?]\n", "line 2: `?` without quotes"),
            ("a: b\tc\n", "line 1: a tab"),
            ("a: =\n", "line 1: `=`"),
            ("a: <<\n", "line 1: `=`"),
        ],
    );
}

#[test]
fn toml_has_texts_as_values() {
    let text = "a = \"x\\n\"\nb = 'y' # c\nc = 1\n[d]\ne = [\"z\", 2.5]\nf = { g = \"\"\"\nh\"\"\" }\n[[i]]\nj = \"\\\\x\"\nk = \"\\x41\"\nl = inf\n";
    assert_values(Toml, text, &[("a", "x\n"), ("b", "y"), ("d/e/0", "z"), ("d/f/g", "h"), ("i/0/j", "\\x")]);
    assert!(structure(Toml, text).iter().any(|(what, text)| what.contains("TOML 1.0") && text == "A"));
    assert_errors(Toml, &[("a = 1\nb = \"\"x\"\"\n", "line 2: "), ("a = x\n", "line 1: "), ("a = \"x\n", "line 1: ")]);
}

#[test]
fn ini_is_read_where_its_readers_agree() {
    let text = "top = 1\n; c\n[a b]\nk = v w\nl=m=n\no = it's\n";
    assert_values(Ini, text, &[("top", "1"), ("a b/k", "v w"), ("a b/l", "m=n"), ("a b/o", "it's")]);
    for different in ["a;b", "a#b", "a\\b", "50%", "$x", "\"a\"", "'a'", "", "true", "null", "a\u{a0}", "a\u{2028}b"] {
        let text = format!("[s]\nk = {different}\n");
        assert_eq!(values(Ini, &text), [], "{different}");
        assert!(structure(Ini, &text)[1].0.contains("differently"), "{different}");
    }
    assert_eq!(values(Ini, "d\n[s]\na:b = c\ne = f\n  g\n"), [("s/e".to_owned(), "f".to_owned())]);
    // Without sections, it is npm's.
    assert_values(Ini, "//registry.npmjs.org/:_authToken=t\n", &[("//registry.npmjs.org/:_authToken", "t")]);
    assert_errors(
        Ini,
        &[
            ("[s]\na = 1\nA = 2\n", "line 3: a key"),
            ("[s\n", "line 1: "),
            ("[s]\na = b\rc\n", "line 2: "),
            ("[s]\na\n", "line 2: `=`"),
        ],
    );
}

#[test]
fn shell_has_what_is_live_as_structure() {
    let text =
        "# c\nA='it'\\''s' B=\"x\\\"y\\n\"; export C=d\\ e\necho \"$A-z\" 'q' plain \"\" >out <<E\n$x 'y\nE\nf\n";
    let expected = [
        ("A", "it's"),
        ("B", "x\"y\\n"),
        ("a word", "export"),
        ("C", "d e"),
        ("a word", "echo"),
        ("a word", "-z"),
        ("a word", "q"),
        ("a word", "plain"),
        ("a word", ""),
        ("a word", "out"),
        ("a word", "f"),
    ];
    assert_values(Shell, text, &expected);
    let found = structure(Shell, text);
    for expected in
        [("a comment", "# c"), ("an expansion", "$A"), ("a here-document", "$x 'y\nE\n"), ("an operator", ">")]
    {
        assert!(found.iter().any(|(what, text)| (*what, text.as_str()) == expected), "{expected:?}: {found:?}");
    }
    for (live, what) in [
        ("$x", "an expansion"),
        ("\"${x:-'}'}\"", "an expansion"),
        ("$(a \"$(b ')')\" )", "an expansion"),
        ("`a`", "an expansion"),
        ("\"`a`\"", "an expansion"),
        ("$'a'", "an expansion"),
        ("*", "a pattern"),
        ("[a]", "a pattern"),
        ("{a,b}", "a pattern"),
        ("~", "a home folder"),
        ("a;b", "an operator"),
        ("a&b", "an operator"),
        ("a #b", "a comment"),
    ] {
        let found = structure(Shell, &format!("A={live}"));
        assert!(found.iter().any(|(found, _)| *found == what), "{live}: {found:?}");
    }
    assert_errors(
        Shell,
        &[
            ("A='x", "line 1: a quote"),
            ("\nA=\"x", "line 2: a quote"),
            ("A=$(x", "line 1: an expansion"),
            ("A=${x", "line 1: an expansion"),
            ("A=`x", "line 1: an expansion"),
            ("A=\\", "line 1: a `\\`"),
            ("cat <<E\nx\n", "line 2: a here-document"),
            ("A=\0", "line 1: NUL"),
        ],
    );
}

#[test]
fn systemd_environments_are_read_as_systemd_reads_them() {
    let text = "# c\n; d\nA=x y \nB=\"a\\\"b\\\\\\$\\`\\n\"\nC='a\\b\nc'\nD=a\\ b\\\nc\nE=\nF=a\"b\n G = \"x\" \n";
    let expected =
        [("A", "x y"), ("B", "a\"b\\$`\\n"), ("C", "a\\b\nc"), ("D", "a bc"), ("E", ""), ("F", "a\"b"), ("G", "x")];
    assert_values(SystemdEnv, text, &expected);
    assert_errors(
        SystemdEnv,
        &[
            ("A=1\nB=\"\"x\"\"\n", "line 2: text follows the closing quote"),
            ("A='x' y\n", "line 1: text follows"),
            ("A=\"x\n", "line 1: a quote"),
            ("A\n", "line 1: `=`"),
            ("A-B=1\n", "line 1: the text before"),
            ("A=\u{fdd0}\n", "line 1: a Unicode noncharacter"),
            ("# c\\\nA=1\n", "line 1: systemd before 254"),
            ("A=\0\n", "line 1: NUL"),
        ],
    );
}

#[test]
fn docker_environments_are_read_as_docker_reads_them() {
    let text = "\u{feff}# c\nA=\"x\" # y \n  B=a=b\r\nC\nD=\n";
    assert_values(DockerEnv, text, &[("A", "\"x\" # y "), ("B", "a=b"), ("D", "")]);
    let found = structure(DockerEnv, text);
    assert!(found.contains(&("a variable that docker takes from its own environment", "C".into())), "{found:?}");
    let long = format!("A={}\n", "x".repeat(64 << 10));
    assert_errors(
        DockerEnv,
        &[("A B=1\n", "line 1: the text"), ("=1\n", "line 1: "), ("A=\0\n", "line 1: "), (&long, "line 1: ")],
    );
}

#[test]
fn netrc_is_read_where_its_readers_agree() {
    let text = "# c\nmachine h login \"a \\\"b\\\\\"\n  password x#y # z\ndefault\n user u account v\nmacdef m\n  machine x\n\nmachine i login j\n";
    let expected = [
        ("machine", "h"),
        ("h/login", "a \"b\\"),
        ("h/password", "x#y"),
        ("default/user", "u"),
        ("default/account", "v"),
        ("machine", "i"),
        ("i/login", "j"),
    ];
    assert_values(Netrc, text, &expected);
    assert_errors(
        Netrc,
        &[
            ("machine h\nlogin \"\"x\"\"\n", "line 2: an empty value"),
            ("machine h login \"x\"y\n", "line 1: text follows"),
            ("machine h login \"x\n", "line 1: a quote"),
            ("machine h login a\\b\n", "line 1: a `\\`"),
            ("machine h login \"a\\n\"\n", "line 1: an escape"),
            ("machine h login #a\n", "line 1: a value begins with `#`"),
            ("machine h login a b\n", "line 1: a word"),
            ("machine h login\n", "line 2: a keyword"),
            ("login a\n", "line 1: a word"),
        ],
    );
}

/// Every format, with a document of one value.
const DOCUMENTS: [(ReadableFormat, &str, &str); 12] = [
    (Xml, "xml", "<a b=\"@\"/>"),
    (Dotenv, "dotenv", "A=@\nB=1\n"),
    (Shell, "dotenv", "A=@\nB=1\n"),
    (SystemdEnv, "dotenv", "A=@\nB=1\n"),
    (Curl, "curl-config", "a = @\nb = 1\n"),
    (Asterisk, "asterisk-value", "[a]\nb = @\nc = 1\n"),
    (Kamailio, "kamailio-string", "a(@, \"b\")"),
    (Baresip, "baresip-parameter", "<sip:h>;a=@;b=1\n"),
    (Yaml, "yaml-string", "a: @\nb: c\n"),
    (Toml, "toml-string", "a = @\nb = 'c'\n"),
    (Netrc, "netrc-token", "machine h login @ password p\n"),
    (DockerEnv, "docker-env", "A=@\nB=1\n"),
];

proptest! {
    /// What an encoder writes is one value for the reader of its format, and nothing else changes.
    #[test]
    fn what_encoders_write_is_one_value(value in "[ -~é'\"\\\\;#$`=\n\t\r]{1,12}|[\\PC\\pC]{1,8}") {
        for (format, encoder, document) in DOCUMENTS {
            let definition = ENCODERS.iter().find(|definition| definition.name == encoder);
            let Some(op) = definition.map(|definition| definition.op(EncoderOptions::default())) else { continue };
            let (Ok(written), Ok(plain)) = (encode::literal(&op, &[&value]), encode::literal(&op, &["x"])) else { continue };
            let text = document.replace('@', &written);
            let leaves = format.leaves(&text);
            prop_assert!(leaves.is_ok(), "{}: {leaves:?}: {text:?}", format.name());
            let mut expected = format.leaves(&document.replace('@', &plain)).unwrap();
            let leaf = expected.iter_mut().find(|leaf| leaf.text == "x").unwrap();
            leaf.text.clone_from(&value);
            prop_assert_eq!(leaves.unwrap(), expected, "{}: {:?}", format.name(), text);
        }
    }

    #[test]
    fn nothing_panics(text in "[ -~\n]{0,40}|[\\PC\\pC]{0,30}|[a1= \n\t\r'\"\\\\$(){}<>;#:/*!\\[\\]@&|%`é\u{85}-]{0,60}") {
        for format in [Xml, Dotenv, Curl, Asterisk, Kamailio, Baresip, Yaml, Toml, Ini, Shell, SystemdEnv, DockerEnv, Netrc] {
            if let Ok(leaves) = format.leaves(&text) {
                prop_assert!(leaves.iter().all(|leaf| leaf.structure != Some("")));
            }
        }
    }
}
