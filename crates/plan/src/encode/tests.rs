//! Checks the encoders against the documentation of their consumers, and against their inverses.

use proptest::prelude::*;

use super::*;
use crate::contract::WIT;
use guillemet_template::ValueFilter;

struct Values(Vec<&'static str>);

impl ValueSource for Values {
    fn append(&self, emission: u32, out: &mut Clear) {
        out.extend_from_slice(self.0[emission as usize].as_bytes());
    }
}

fn op(op: Op, args: Vec<TextParts>) -> Expr {
    Expr::Apply { op, args }
}

fn options(number: u32) -> EncoderOptions {
    EncoderOptions { option: "x".into(), number, reason: "for a reason".into(), ..EncoderOptions::default() }
}

fn secret(emission: u32) -> Part {
    Part::Expr(Expr::Secret(emission))
}

fn text(literal: &str) -> Part {
    Part::Literal(literal.into())
}

fn run(expr: &Expr, values: Vec<&'static str>) -> Result<String, String> {
    let mut out = Clear::new();
    eval(expr, &Values(values), &mut out).map_err(|refusal| refusal.reason)?;
    Ok(String::from_utf8(out.to_vec()).unwrap())
}

#[test]
fn basic_credentials_are_those_of_rfc_7617() {
    assert_eq!(literal(&Op::BasicCredentials, &["Aladdin", "open sesame"]).unwrap(), "QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    assert!(literal(&Op::BasicCredentials, &["a:b", "c"]).is_err());
    assert!(literal(&Op::BasicCredentials, &["a", "b\n"]).is_err());
    let both = op(Op::BasicCredentials, vec![vec![secret(0)], vec![secret(1)]]);
    assert_eq!(run(&both, vec!["Aladdin", "open sesame"]).unwrap(), "QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
}

#[test]
fn digests_are_those_of_rfc_7616() {
    // RFC 7616, section 3.9.1: A1 for Mufasa, http-auth@example.org, "Circle of Life".
    let args = ["Mufasa", "http-auth@example.org", "Circle of Life"];
    assert_eq!(literal(&Op::SipDigestHa1(DigestAlgorithm::Md5), &args).unwrap(), "3d78807defe7de2157e2b0b6573a855f");
    assert_eq!(
        literal(&Op::SipDigestHa1(DigestAlgorithm::Sha256), &args).unwrap(),
        "7987c64c30e25f1b74be53f966b49b90f2808aa92faf9a00262392d7b4794232"
    );
    assert!(literal(&Op::SipDigestHa1(DigestAlgorithm::Md5), &["a", "b:c", "d"]).is_err());
    assert!(literal(&Op::SipDigestHa1(DigestAlgorithm::Md5), &["a:", "b", "d"]).is_err());
}

#[test]
fn a_header_value_is_checked_as_a_whole() {
    let bearer = op(Op::HeaderValue, vec![vec![text("Bearer "), secret(0)]]);
    assert_eq!(run(&bearer, vec!["k;\"'$&<<"]).unwrap(), "Bearer k;\"'$&<<");
    for bad in ["a\nb", "a\rb", "a\0b", "é", "a ", "a\t", "\u{7f}"] {
        assert!(run(&bearer, vec![bad]).is_err(), "{bad:?}");
    }
}

#[test]
fn a_value_cannot_leave_its_place_in_a_url() {
    let url = op(Op::Url, vec![vec![text("https://h/"), Part::Expr(op(Op::UrlPathSegment, vec![vec![secret(0)]]))]]);
    assert_eq!(run(&url, vec!["a/b?c&d"]).unwrap(), "https://h/a%2Fb%3Fc%26d");
    assert!(run(&url, vec![".."]).is_err());
    let whole = op(Op::Url, vec![vec![secret(0)]]);
    assert!(run(&whole, vec!["https://mcp.example.com/s/a%20b?k=v"]).is_ok());
    for bad in [
        "ftp://h/",
        "https://",
        "https://:80/",
        "https:///p",
        "//h/",
        "https://h/a b",
        "https://h/\n",
        "https://h/%zz",
        "https://h/../x",
        "https://h/a/%2E%2e",
        "https://ü/",
        "javascript:alert(1)",
    ] {
        assert!(run(&whole, vec![bad]).is_err(), "{bad}");
    }
}

#[test]
fn forbidding_looks_at_values_and_at_seams() {
    let characters = Op::Forbid { characters: ":".into(), reason: "no colon".into() };
    assert_eq!(literal(&characters, &["a:b"]).unwrap_err().reason, "no colon");
    let around = op(characters, vec![vec![text("x"), secret(0)]]);
    assert_eq!(run(&around, vec!["a:b"]).unwrap_err(), "no colon");
    assert_eq!(run(&around, vec!["ab"]).unwrap(), "xab");

    let sequence = Op::ForbidSequence { sequence: "${".into(), reason: "expanded".into() };
    assert_eq!(literal(&sequence, &["${HOME}"]).unwrap(), "${HOME}");
    let seam = op(sequence, vec![vec![text("${A} $"), secret(0), text("{")]]);
    assert_eq!(run(&seam, vec!["x"]).unwrap(), "${A} $x{");
    for bad in ["{a", "a${b", "a$"] {
        assert_eq!(run(&seam, vec![bad]).unwrap_err(), "expanded", "{bad}");
    }
}

#[test]
fn allowing_looks_at_values_and_at_literal_text() {
    let allowed = Op::Allow { characters: CharacterSet("A-Za-z0-9_-".into()), reason: "a name".into() };
    assert_eq!(literal(&allowed, &["a-Z_9"]).unwrap(), "a-Z_9");
    assert_eq!(literal(&allowed, &["a b"]).unwrap_err().reason, "a name");
    let around = op(allowed, vec![vec![text("x"), secret(0)]]);
    assert_eq!(run(&around, vec!["Yz"]).unwrap(), "xYz");
    for bad in ["a.b", "é", "a\n"] {
        assert_eq!(run(&around, vec![bad]).unwrap_err(), "a name", "{bad}");
    }
}

#[test]
fn signatures_are_those_of_rfc_4231_and_rfc_2202() {
    // Test case 2 of both: the key `Jefe`.
    let args = ["Jefe", "what do ya want for nothing?"];
    let signed = |algorithm, encoding| literal(&Op::Hmac { algorithm, encoding }, &args).unwrap();
    assert_eq!(
        signed(HmacAlgorithm::Sha256, BytesEncoding::Hex),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
    assert_eq!(signed(HmacAlgorithm::Sha1, BytesEncoding::Hex), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
    assert!(signed(HmacAlgorithm::Sha512, BytesEncoding::Hex).starts_with("164b7a7bfcf819e2e395fbe73b56e0a387bd6422"));
    assert_eq!(signed(HmacAlgorithm::Sha1, BytesEncoding::Base64), "7/zfauXrL6LSdBbV8YTfnCWafHk=");
    assert_eq!(signed(HmacAlgorithm::Sha1, BytesEncoding::Base64url), "7_zfauXrL6LSdBbV8YTfnCWafHk");
    let sha256 = Op::Hmac { algorithm: HmacAlgorithm::Sha256, encoding: BytesEncoding::Hex };
    let both = op(sha256, vec![vec![secret(0)], vec![text("what do ya want "), secret(1)]]);
    assert_eq!(run(&both, vec!["Jefe", "for nothing?"]).unwrap(), signed(HmacAlgorithm::Sha256, BytesEncoding::Hex));
    // FIPS 180-4, as NIST's example: the SHA-256 of "abc".
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(literal(&Op::Sha256Hex, &["abc"]).unwrap(), digest);
}

#[test]
fn values_of_configuration_files_are_written_as_their_readers_want_them() {
    let text = "a \"b\" 'c' \\ $d `e`";
    for (op, written) in [
        (Op::YamlString, r#""a \"b\" 'c' \\ $d `e`""#.to_owned()),
        (Op::TomlString, r#""a \"b\" 'c' \\ $d `e`""#.to_owned()),
        (Op::ShellWord, r#"'a "b" '\''c'\'' \ $d `e`'"#.to_owned()),
        (Op::SystemdEnv, r#""a \"b\" 'c' \\ \$d \`e\`""#.to_owned()),
        (Op::DockerEnv, text.to_owned()),
        (Op::NetrcToken, r#""a \"b\" 'c' \\ $d `e`""#.to_owned()),
    ] {
        assert_eq!(literal(&op, &[text]).unwrap(), written, "{op:?}");
    }
    assert_eq!(
        literal(&Op::YamlString, &["\u{85}\u{2028}\u{feff}\0\u{7f}é\n"]).unwrap(),
        r#""\x85\u2028\ufeff\x00\x7fé\n""#
    );
    assert_eq!(literal(&Op::TomlString, &["\0\u{7f}\u{85}\t"]).unwrap(), "\"\\u0000\\u007f\u{85}\\t\"");
    assert_eq!(literal(&Op::NetrcToken, &["a!$'b"]).unwrap(), "a!$'b");
    assert_eq!(literal(&Op::NetrcToken, &["#a"]).unwrap(), "\"#a\"");
    for (op, bad) in [
        (Op::ShellWord, "a\0"),
        (Op::SystemdEnv, "a\0"),
        (Op::SystemdEnv, "a\u{fffe}"),
        (Op::DockerEnv, "a\nb"),
        (Op::DockerEnv, "a\rb"),
        (Op::NetrcToken, ""),
        (Op::NetrcToken, "a\nb"),
    ] {
        assert!(literal(&op, &[bad]).is_err(), "{op:?} {bad:?}");
    }
}

#[test]
fn an_ini_value_is_what_all_of_its_readers_take_as_it_is() {
    for good in ["a", "a b=c:d", "it's", "é€", "a[b]", "12", "True", "x\"y\""] {
        assert_eq!(literal(&Op::IniValue, &[good]).unwrap(), good);
    }
    for bad in [
        "",
        " a",
        "a ",
        "a\u{a0}",
        "a\nb",
        "a;b",
        "a#b",
        "50%",
        "$a",
        "a\\b",
        "\"a\"",
        "'a'",
        "true",
        "null",
        "a\u{2028}b",
    ] {
        assert!(literal(&Op::IniValue, &[bad]).is_err(), "{bad:?}");
    }
}

#[test]
fn a_refusal_blames_the_text_that_caused_it() {
    let blamed = |expr: &Expr, values: &[&'static str]| {
        assert!(run(expr, values.to_vec()).is_err(), "{values:?}");
        blame(expr, &Values(values.to_vec()))
    };
    let basic = op(Op::BasicCredentials, vec![vec![secret(0)], vec![secret(1)]]);
    assert_eq!(blamed(&basic, &["a:b", "c"]), [0]);
    assert_eq!(blamed(&basic, &["a", "c\n"]), [1]);
    assert_eq!(blamed(&basic, &["a:b", "c\n"]), [0, 1]);
    let forbid = op(Op::Forbid { characters: ":".into(), reason: "r".into() }, vec![vec![secret(0)]]);
    let joined = op(Op::CurlConfig, vec![vec![Part::Expr(forbid), text(":"), secret(1)]]);
    assert_eq!(blamed(&joined, &["a:b", "c"]), [0]);
    assert_eq!(blamed(&joined, &["ab", "c\0"]), [1]);
    let header = op(Op::HeaderValue, vec![vec![text("Bearer "), secret(0), text(" "), secret(1)]]);
    assert_eq!(blamed(&header, &["é", "b"]), [0]);
    assert_eq!(blamed(&header, &["a", "b "]), [1]);
    // Each is short enough: together they are not.
    let bounded = Op::AtMost { bytes: 4, reason: "r".into() };
    assert_eq!(blamed(&op(bounded, vec![vec![secret(0), secret(1)]]), &["abc", "def"]), [0, 1]);
    // A place that takes digits only.
    let digits = Op::Allow { characters: CharacterSet("0-9".into()), reason: "r".into() };
    assert_eq!(blamed(&op(digits, vec![vec![secret(0), secret(1)]]), &["12", "3a"]), [1]);
}

#[test]
fn a_text_that_would_be_cut_off_is_refused() {
    let bounded = Op::AtMost { bytes: 4, reason: "it is cut".into() };
    assert_eq!(literal(&bounded, &["abé"]).unwrap(), "abé");
    assert_eq!(literal(&bounded, &["abcé"]).unwrap_err().reason, "it is cut");
    let around = op(bounded, vec![vec![text("x"), secret(0)]]);
    assert_eq!(run(&around, vec!["abc"]).unwrap(), "xabc");
    assert_eq!(run(&around, vec!["abcd"]).unwrap_err(), "it is cut");
}

#[test]
fn trim_leaves_something() {
    let trim = op(Op::Filter(ValueFilter::Trim), vec![vec![secret(0)]]);
    assert_eq!(run(&trim, vec![" a b\n"]).unwrap(), "a b");
    assert!(run(&trim, vec![" \n"]).is_err());
}

#[test]
fn a_value_that_asterisk_would_strip_is_refused() {
    let value = |value: &str| literal(&Op::AsteriskValue, &[value]);
    assert_eq!(value(">a;--b\"\\").unwrap(), ">a\\;--b\"\\");
    for bad in [" a", "a ", "a\n", "\u{1}a", &"x".repeat(8_000)] {
        assert!(value(bad).is_err());
    }
}

/// Reads the value of a line as Asterisk's main/config.c does: `;` ends it unless a `\` precedes.
fn read_asterisk(line: &str) -> String {
    let mut read = String::new();
    for c in line.chars() {
        if c == ';' {
            if read.ends_with('\\') {
                read.pop();
            } else {
                break;
            }
        }
        read.push(c);
    }
    read.trim_matches(|c| c <= ' ').into()
}

/// Reads an attribute value as XML 1.0 does, without custom entities.
fn read_xml(text: &str) -> String {
    assert!(!text.contains(['<', '>', '"', '\'', '$', '\n', '\t', '\r']));
    let mut read = text.to_owned();
    for (name, c) in [("lt", '<'), ("gt", '>'), ("quot", '"'), ("#39", '\''), ("#36", '$')] {
        read = read.replace(&format!("&{name};"), &c.to_string());
    }
    for (name, c) in [("#9", '\t'), ("#10", '\n'), ("#13", '\r'), ("amp", '&')] {
        read = read.replace(&format!("&{name};"), &c.to_string());
    }
    read
}

#[test]
fn quoted_texts_of_programs_end_where_they_should() {
    assert_eq!(literal(&Op::KamailioString, &[r#"a"b\c;d"#]).unwrap(), r#""a\"b\\c;d""#);
    assert_eq!(literal(&Op::CurlConfig, &["a\"b\\c\n\t\r\u{b}"]).unwrap(), r#""a\"b\\c\n\t\r\v""#);
    for op in [Op::KamailioString, Op::BaresipParameter] {
        assert!(literal(&op, &["a\nb"]).is_err() && literal(&op, &["a\0b"]).is_err());
    }
    assert!(literal(&Op::CurlConfig, &["a\0b"]).is_err());
}

#[test]
fn baresip_gets_quotes_where_it_needs_them() {
    let value = |value: &str| literal(&Op::BaresipParameter, &[value]);
    for (text, written) in [
        ("4930%201", "4930%201"),
        ("a;b c", r#""a;b c""#),
        ("a=b", r#""a=b""#),
        (r"\a\\", r#""\a\\""#),
        ("; =x", r#""; =x""#),
        // Quotes in pairs.
        (r#"a"b"c"#, r#""a"b"c""#),
        (r#"a"b;"c"#, r#"a"b;"c"#),
    ] {
        assert_eq!(value(text).unwrap(), written);
    }
    for (text, word) in [
        ("", "empty"),
        ("a\nb", "line break"),
        ("a\0", "NUL"),
        ("a;regint=0", "another parameter"),
        ("a; outbound\t= x", "another parameter"),
        ("a\"b", "no escape"),
        (r#""a b""#, "no escape"),
        (r"a\", "cannot end with"),
        (&"x".repeat(129), "128 bytes"),
        (&" ".repeat(127), "128 bytes"),
    ] {
        let reason = value(text).unwrap_err().reason;
        assert!(reason.contains(word), "{text}: {reason}");
    }
}

/// Reads the value of `name` in a line as libre does (re_regex with `;name=[~ \t\r\n;]+`).
fn read_baresip(line: &str, name: &str) -> Option<String> {
    let (_, behind) = line.split_once(&format!(";{name}="))?;
    let (mut quoted, mut kept, mut read) = (false, false, String::new());
    for c in behind.chars() {
        if !kept && !quoted && matches!(c, ' ' | '\t' | ';') {
            break;
        }
        quoted ^= !kept && c == '"';
        kept = !kept && c == '\\';
        read.push(c);
    }
    match read.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => Some(inner.into()),
        None => Some(read),
    }
}

proptest! {
    #[test]
    fn what_baresip_reads_is_the_value(value in r#"[ -~é"\\;=]{1,12}"#) {
        if let Ok(written) = literal(&Op::BaresipParameter, &[&value]) {
            let line = format!("<sip:u@h>;auth_pass={written};x=1");
            prop_assert_eq!(read_baresip(&line, "auth_pass").unwrap(), value);
            prop_assert_eq!(read_baresip(&line, "x").unwrap(), "1");
        } else if !value.contains('=') {
            // There was indeed no way to write it.
            for form in [value.clone(), format!("\"{value}\"")] {
                let line = format!("<sip:u@h>;auth_pass={form};x=1");
                let read = read_baresip(&line, "auth_pass").unwrap();
                prop_assert!(read != value, "{line}");
            }
        }
    }

    #[test]
    fn percent_encoding_comes_back(value in any::<String>()) {
        let encoded = literal(&Op::UrlQuery, &[&value]).unwrap();
        prop_assert_eq!(&percent_encoded(&value), &encoded);
        prop_assert!(encoded.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b)));
        prop_assert_eq!(percent_encoding::percent_decode_str(&encoded).decode_utf8().unwrap(), value);
    }

    #[test]
    fn base_encodings_come_back(value in any::<String>()) {
        let b64 = literal(&Op::Base64, &[&value]).unwrap();
        prop_assert_eq!(data_encoding::BASE64.decode(b64.as_bytes()).unwrap(), value.as_bytes());
        let url = literal(&Op::Filter(ValueFilter::Base64url), &[&value]).unwrap();
        prop_assert_eq!(data_encoding::BASE64URL_NOPAD.decode(url.as_bytes()).unwrap(), value.as_bytes());
        let hex = literal(&Op::Filter(ValueFilter::Hex), &[&value]).unwrap();
        prop_assert_eq!(data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap(), value.as_bytes());
    }

    #[test]
    fn what_asterisk_reads_is_the_value(value in "[ -~é;\\\\>]{1,40}") {
        if let Ok(line) = literal(&Op::AsteriskValue, &[&value]) {
            prop_assert_eq!(read_asterisk(&line), value);
        } else {
            prop_assert!(value.trim_matches(|c| c <= ' ') != value);
        }
    }

    #[test]
    fn what_xml_reads_is_the_value(value in "[ -~é\t\n\r]{0,40}") {
        prop_assert_eq!(read_xml(&literal(&Op::Xml, &[&value]).unwrap()), value);
    }

    #[test]
    fn what_yaml_and_toml_read_is_the_value(value in any::<String>()) {
        let written = literal(&Op::YamlString, &[&value]).unwrap();
        let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}');
        prop_assert!(!written.contains(breaks));
        prop_assert_eq!(&serde_saphyr::from_str::<String>(&format!("{written}\n")).unwrap(), &value);
        let written = literal(&Op::TomlString, &[&value]).unwrap();
        let table: toml::Table = format!("k = {written}\n").parse().unwrap();
        prop_assert_eq!(table["k"].as_str().unwrap(), value);
    }

    #[test]
    fn what_json_reads_is_the_value(value in any::<String>()) {
        let written = literal(&Op::JsonString, &[&value]).unwrap();
        prop_assert_eq!(serde_json::from_str::<String>(&format!("\"{written}\"")).unwrap(), value);
    }

    #[test]
    fn nothing_panics_and_no_refusal_shows_the_text(value in "[\\PC\\pC]{4,40}") {
        for definition in ENCODERS.iter().chain(&FILTERS) {
            let op = definition.op(options(3));
            if let Err(refusal) = literal(&op, &vec![value.as_str(); definition.texts()]) {
                prop_assert!(!refusal.reason.contains(&value));
            }
        }
    }
}

/// Returns the parameters of a function in the contract, by their types.
fn parameters(definition: &EncoderDefinition) -> &'static [&'static str] {
    match definition.signature {
        Signature::Text(_) => &["string"],
        Signature::TwoTexts(_) => &["string"; 2],
        Signature::DigestTexts(_) => &["string"; 4],
        Signature::Hmac(_) => &["string"; 4],
        Signature::TextOptionReason(_) => &["string"; 3],
        Signature::TextNumberReason(_) => &["string", "u32", "string"],
        Signature::TextTable(_) => &["string", "escaping"],
    }
}

#[test]
fn the_table_is_the_contract() {
    let interface = WIT.split_once("interface encode {").unwrap().1.split_once("\n}").unwrap().0;
    let (_, terminal) = interface.split_once("// Terminal encoders").unwrap();
    let functions = |text: &'static str| {
        text.lines().filter_map(|line| line.trim().split_once(": func(")).map(|(name, signature)| {
            let (parameters, result) = signature.split_once(')').unwrap();
            let types = parameters.split(", ").map(|parameter| parameter.split_once(": ").unwrap().1);
            (name, types.collect::<Vec<_>>(), result)
        })
    };
    let mut encoders = 0;
    for (name, types, result) in functions(interface).filter(|(_, _, result)| *result == " -> string;") {
        let definition = ENCODERS.iter().find(|definition| definition.name == name).expect(name);
        assert_eq!((parameters(definition), result), (&*types, " -> string;"), "{name}");
        let is_terminal = functions(terminal).any(|(terminal, ..)| terminal == name);
        assert_eq!(definition.place == Placement::TextDocument, is_terminal, "{name}");
        encoders += 1;
    }
    assert_eq!(ENCODERS.len(), encoders, "{interface}");
}

#[test]
fn an_operation_has_the_definition_that_makes_it() {
    for definition in ENCODERS.iter().chain(&FILTERS) {
        let op = definition.op(options(1));
        assert!(std::ptr::eq(op.definition(), definition), "{}", definition.name);
        let written = serde_json::to_value(&op).unwrap();
        let key = written.as_object().map_or(written.as_str(), |fields| fields.keys().next().map(String::as_str));
        let filter = matches!(op, Op::Filter(_)).then_some("filter");
        assert_eq!(key.unwrap().replace('_', "-"), filter.unwrap_or(definition.name));
    }
    for (algorithm, known) in DigestAlgorithm::ALL {
        assert_eq!((known.name(), serde_json::to_value(known).unwrap()), (algorithm, algorithm.into()));
    }
    for (name, filter) in ValueFilter::ALL {
        assert_eq!(Op::Filter(filter).name(), name);
    }
}
