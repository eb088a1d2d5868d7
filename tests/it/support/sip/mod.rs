//! Helpers for the tests of SIP's consumers: values, configs that a real daemon fills with them, and the programs that
//! use the configs.

use serde_json::{Value, json};

use super::daemon::{Answer, Guillemet};
use guillemet_testing::missing;
use guillemet_testing::random::Random;

pub mod asterisk;
pub mod baresip;
pub mod freeswitch;
pub mod kamailio;

/// The seed of the random values. Every failure names it.
pub const SEED: u64 = 20_261_125;

/// The number of random values, beside the chosen ones.
const DRAWN: usize = 200;

/// Returns passwords of printable ASCII: those with syntax of some format, and random ones.
pub fn passwords() -> Vec<String> {
    let chosen = [
        "plain",
        "it's",
        "a\"b",
        "\"quoted\"",
        "a\"b\"c",
        "a\"b c\"d",
        "back\\slash",
        "\\",
        "\\\\",
        "tail\\",
        "\\\"",
        "\\n\\t\\x41\\101\\;",
        ";",
        ";--",
        "a;--b",
        "--;",
        "a;b;;c",
        "\\;",
        "# no comment",
        "// nor this",
        "/* or this */",
        "$${x}",
        "$${sip_password}",
        "$$",
        "${x}",
        "$rU $(ru) $var(x)",
        "%40",
        "&amp;",
        "<a/>",
        "</gateway>",
        "]]>",
        "<!--#",
        "X-PRE-PROCESS",
        "<X-pre-process cmd=\"exec\" data=\"id\"/>",
        "a:b",
        ":",
        "HA1+0123",
        "user@host",
        "@",
        "<<",
        "<< secret \"x\" >>",
        "{{ x }}",
        "=",
        ">",
        ">a",
        "=>a",
        " leading",
        "trailing ",
        " both ",
        " ",
        "two words",
        "a;regint=0",
        "a; outbound = sip:mallory.example",
        "a;b c=d",
        "[section]",
        "#include x",
        "#!define x",
        "~`!@#$%^&*()_+-={}[]|\\:;\"'<>,.?/",
    ];
    let mut random = Random::new(SEED);
    let mut drawn = || {
        let length = 1 + random.below(40);
        (0..length).map(|_| char::from(b' ' + random.below(95) as u8)).collect()
    };
    chosen.into_iter().map(str::to_owned).chain((0..DRAWN).map(|_| drawn())).collect()
}

/// The result of rendering: a document, or the reason why there is none.
pub type Rendered = Result<String, String>;

/// The placeholders of the two secrets.
pub const PASSWORD: &str = "<< secret 'password' >>";
pub const USER: &str = "<< secret 'user' >>";

/// A daemon that fills configs of `sip-trunk`.
pub struct Trunks(Guillemet);

impl Trunks {
    pub fn start() -> Self {
        let mut guillemet = Guillemet::init();
        guillemet.log_level = "warn";
        guillemet.run();
        for name in ["user", "password"] {
            guillemet.add(name, "none yet");
        }
        Self(guillemet)
    }

    /// Gives the secret `user` or `password` a new value.
    pub fn rotate(&self, name: &str, value: &str) {
        let answer =
            self.0.ask("PATCH", &format!("/v1/secrets/{name}"), &[], json!({"value": value}).to_string().as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Writes a template of `sip-trunk`.
    pub fn template(&self, name: &str, fields: &Value) {
        self.0.write(&format!("sip-trunk/{name}.json"), &fields.to_string());
    }

    /// Renders a template for a target.
    pub fn filled(&self, name: &str, target: &str) -> Rendered {
        rendered(&self.0.get(&format!("/v1/render/sip-trunk/{name}?target={target}")))
    }

    /// Renders a config that has no template file.
    pub fn fill(&self, target: &str, fields: &Value) -> Rendered {
        let inline =
            json!({"feature": "sip-trunk", "format": "json", "template": fields.to_string(), "target": target});
        rendered(&self.0.post("/v1/render", &inline))
    }

    /// Renders a config with each of the values as the secret `password`. `fields` returns the config for a value's
    /// number.
    pub fn each(&self, target: &str, values: &[String], fields: impl Fn(usize) -> Value) -> Vec<Rendered> {
        let fill = |(number, value): (usize, &String)| {
            self.rotate("password", value);
            self.fill(target, &fields(number))
        };
        values.iter().enumerate().map(fill).collect()
    }
}

fn rendered(answer: &Answer) -> Rendered {
    if answer.status == 200 {
        return Ok(answer.text());
    }
    assert_eq!((answer.status, answer.json()["code"].as_str()), (422, Some("validation_error")), "{}", answer.text());
    Err(answer.errors("message").join("; "))
}

/// Checks that most of the values were rendered, and whether some were refused.
pub fn assert_most(target: &str, rendered: &[Rendered], refuses_some: bool) {
    let filled = rendered.iter().filter(|rendered| rendered.is_ok()).count();
    assert!(filled * 2 > rendered.len(), "{target}: {filled} of {} were filled", rendered.len());
    assert_eq!(filled < rendered.len(), refuses_some, "{target}: {filled} of {} were filled", rendered.len());
}

/// Returns the hash of `user:realm:password` that a registrar keeps.
pub fn ha1(user: &str, realm: &str, password: &str) -> String {
    use md5::Digest;
    data_encoding::HEXLOWER.encode(&md5::Md5::digest(format!("{user}:{realm}:{password}")))
}

/// Reports whether a program is installed. If not, the test is reported as skipped.
pub fn installed(program: &str, package: &str) -> bool {
    let folders = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
    let is_there = folders.iter().any(|folder| std::path::Path::new(folder).join(program).exists());
    missing::has(is_there, program, &format!("`sudo apt-get install --no-install-recommends {package}`"))
}
