//! Values that contain the syntax of formats: some written by hand, for each known way to break out, and some
//! generated. All are printable ASCII.

use guillemet_testing::random::Random;

/// The seed of the generated values, so that every run has the same ones. Failures name it.
pub const SEED: u64 = 0x67_75_69_6c;

/// The number of generated values.
const GENERATED: usize = 200;

/// Values that somebody would type to break out of a format.
const NASTY: [&str; 64] = [
    "plain",
    " ",
    " leading",
    "trailing ",
    "  both  ",
    "'",
    "''",
    "'''",
    "it's",
    "\"",
    "\"\"\"",
    "`",
    "'\"`",
    "'\"#",
    "a'b\"c",
    "a'b\"c#d",
    "\\",
    "\\\\",
    "\\\\\\",
    "tail\\",
    "'tail\\",
    "\\'\\\"",
    "\\n\\t\\u0041",
    "'\\n",
    "'\\\\\"",
    "$",
    "$HOME",
    "${HOME}",
    "a${HOME:-b}c",
    "$${x}",
    "$(id)",
    "a$",
    "{",
    "}",
    "{{",
    "{{x}}",
    "a{{ b }}c",
    "}}",
    "{%",
    "{% x %}",
    "{#",
    "<<",
    "<< secret \"password\" >>",
    "<<EOF",
    "%",
    "%41",
    "100%",
    "%0d%0a",
    "#",
    " # x",
    "x # y",
    ";",
    ";--",
    "@/etc/passwd",
    "-K",
    "a=b&c=d",
    "a+b c",
    "/../?x#y",
    "http://a:b@c",
    "a:b",
    "[1-9]{a,b}",
    "null",
    "Z000000000000000000000000000000000000000",
    "!\"#$%&'()*+,-./0:;<=>?@[\\]^_`{|}~",
];

/// The alphabets of the generated values, used in turn: all kinds of characters, and mostly special ones.
const ALPHABETS: [&str; 2] = [" !\"#$%&'()*+,-./0123456789:;<=>?@ABCXYZ[\\]^_`abcxyz{|}~", "ab'\"\\$`{}%#;=<>&@ "];

/// Returns more than two hundred different values.
pub fn passwords() -> Vec<String> {
    let mut random = Random::new(SEED);
    let mut passwords: Vec<String> = NASTY.iter().map(|&nasty| nasty.to_owned()).collect();
    while passwords.len() < NASTY.len() + GENERATED {
        let alphabet = ALPHABETS[passwords.len() % ALPHABETS.len()].as_bytes();
        let len = 1 + random.below(32);
        let password: String =
            (0..len).map(|_| alphabet[random.below(alphabet.len() as u64) as usize] as char).collect();
        if !passwords.contains(&password) {
            passwords.push(password);
        }
    }
    assert!(passwords.iter().all(|password| password.bytes().all(|b| (b' '..=b'~').contains(&b))));
    passwords
}
