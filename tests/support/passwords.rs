//! Values that formats take for syntax: some by hand, for each way out that is known, and generated ones.
//! All printable ASCII.

use super::random::Random;

/// Every run has the same values. A test names this when it fails.
pub const SEED: u64 = 0x67_75_69_6c;

/// How many are generated.
const GENERATED: usize = 200;

/// What somebody would type who wants to get out.
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

/// What generated values are made of, in turn: everything there is, and the sharp things among it.
const ALPHABETS: [&str; 2] = [" !\"#$%&'()*+,-./0123456789:;<=>?@ABCXYZ[\\]^_`abcxyz{|}~", "ab'\"\\$`{}%#;=<>&@ "];

/// More than two hundred values, each once.
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
