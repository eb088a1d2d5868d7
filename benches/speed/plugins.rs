//! The cost of a plan for each built-in plugin and target: a call of its planner, which renders, reads the tree, runs
//! the plugin and writes the document. To compare with: a child that sends the document's bytes back over a pipe, which
//! is the least that a separate process costs.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use guillemet_base::home::Home;
use guillemet_daemon::config::Config;
use guillemet_plugin::plans::{TemplateSource, plan_once};
use guillemet_plugin::registry::Registry;
use guillemet_template::Format;
use guillemet_template::lexer::{Lexed, lex};

use super::home::BenchHome;
use super::report::{self, Report};

/// The size of the large templates, in bytes.
const LARGE: usize = 64 << 10;

/// A function that returns a line of a template by its number.
type Line = fn(usize) -> String;

/// The feature, the text of a small template, and the line that is repeated as often as it fits to make it large.
const EXAMPLES: [(&str, &str, Line); 4] = [
    ("cal-com", "api_key = \"<< secret 'a-b-c' >>\"\nevent_type_id = 12\ntimezone = \"Europe/Berlin\"\n", |number| {
        format!("# {number}: a note about how the front desk books its meetings, for those who come after\n")
    }),
    (
        "custom-action",
        "name = \"a\"\nmethod = \"POST\"\nurl = \"https://example.com/v1\"\nauth = { type = \"bearer\", token = \"<< secret 'a-b-c' >>\" }\n[body]\n",
        |number| format!("field_{number} = \"{{{{caller}}}} and << secret 'a-b-{}' >>\"\n", number % 100),
    ),
    (
        "mcp-server",
        "name = \"a\"\nurl = \"https://example.com/mcp\"\n[headers]\nAuthorization = \"Bearer << secret 'a-b-c' >>\"\n",
        |number| format!("X-Header-{number} = \"<< secret 'a-b-{}' >>\"\n", number % 100),
    ),
    (
        "sip-trunk",
        "name = \"a\"\ntermination_uri = \"sip.example.com\"\nusername = \"u\"\npassword = \"<< secret 'a-b-c' >>\"\nnumbers = [\n\"+493012345678\",\n",
        |number| format!("  \"+4930{number:08}\",\n"),
    ),
];

fn example(feature: usize, large: bool) -> String {
    let (name, head, line) = EXAMPLES[feature];
    let end = if name == "sip-trunk" { "]\n" } else { "" };
    let mut text = head.to_owned();
    let mut number = 1;
    while large && text.len() + line(number).len() + end.len() <= LARGE {
        text.push_str(&line(number));
        number += 1;
    }
    text + end
}

/// A child process that sends back what it receives.
struct Echo {
    child: Child,
}

impl Echo {
    fn start() -> Self {
        Self { child: Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("cat starts") }
    }

    fn ask(&mut self, bytes: &[u8]) {
        let (input, output) = (self.child.stdin.as_mut().expect("a pipe"), self.child.stdout.as_mut().expect("a pipe"));
        let mut back = vec![0; 32 << 10];
        for chunk in bytes.chunks(back.len()) {
            input.write_all(chunk).expect("it reads");
            output.read_exact(&mut back[..chunk.len()]).expect("it answers");
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn plugins(report: &mut Report, quick: bool) {
    let rounds = if quick { 20 } else { 300 };
    let bench = BenchHome::new(1, 0);
    let home = Home::at(bench.path());
    let config = Config::load(&home.config_file(), |_| None).expect("a configuration");
    let registry = Registry::unpinned(home.plugins());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut echo = Echo::start();
    for (index, (feature, _, _)) in EXAMPLES.iter().enumerate() {
        report.fact(&format!("{feature}: lines of the plugin"), lines(feature));
        let targets = runtime.block_on(registry.targets(feature)).expect("a plugin");
        let small: Lexed = lex(&example(index, false)).expect("a template");
        let large: Lexed = lex(&example(index, true)).expect("a template");
        let mut slowest = (Duration::ZERO, String::new());
        for target in &targets {
            let plan = |lexed: &Lexed, rounds: usize| {
                let source = TemplateSource { feature, format: Format::Toml, lexed };
                let work = || runtime.block_on(plan_once(source, Some(&target.id), &registry, &config.variables));
                // A target may refuse the config, which costs the same work.
                let document: usize = work().map_or(0, |plan| plan.literal_len);
                let time = report::median(rounds, || drop(work()));
                (time, document)
            };
            let (time, bytes) = plan(&small, rounds);
            let bare = report::median(rounds, || echo.ask(&vec![b'x'; bytes.max(1)]));
            let (large_time, _) = plan(&large, rounds / 10 + 1);
            let mut name = format!("{feature}: a plan for {}", target.id);
            if bytes == 0 {
                write!(name, " (a refusal)").expect("text");
            }
            report.ratio(&name, time, "a pipe there and back", bare);
            if large_time > slowest.0 {
                slowest = (large_time, target.id.clone());
            }
        }
        report.time(&format!("{feature}: a template of 64 KiB, the slowest target ({})", slowest.1), slowest.0);
    }
}

/// Returns the number of lines in a plugin's source.
fn lines(feature: &str) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins").join(feature).join("src");
    let files = std::fs::read_dir(folder).expect("a plugin").map(|entry| entry.expect("a file").path());
    files.map(|file| std::fs::read_to_string(file).expect("text").lines().count()).sum()
}
