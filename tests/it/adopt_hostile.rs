//! Any content of a credential: a template that `adopt` makes from a generated config renders to the same config, or
//! `adopt` refuses with the reason and changes nothing. No value is printed or in the template, and none is left in a
//! file that was replaced. The test works out the expected config itself, without the program's readers.

use std::cell::Cell;
use std::collections::BTreeMap;

use crate::support::adopt::{Adopting, Ran};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Value, json};

const CASES: u32 = 24;

/// One run: the file, the arguments, the values in the file, and the reason it may be refused.
struct Case<'a> {
    feature: &'a str,
    text: &'a str,
    /// The values in the file, none of which may be printed.
    values: &'a [&'a str],
    unfit: &'a [&'a str],
}

struct Runs {
    adopting: Adopting,
    count: Cell<u32>,
    accepted: Cell<u32>,
}

impl Runs {
    fn start() -> Self {
        Self { adopting: Adopting::start(), count: Cell::new(0), accepted: Cell::new(0) }
    }

    /// Runs each case with a generated input.
    fn over<S: Strategy>(&self, strategy: &S, run: impl Fn(&Self, S::Value) -> Result<(), TestCaseError>)
    where
        S::Value: std::fmt::Debug,
    {
        let mut runner = TestRunner::new(Config { cases: CASES, max_shrink_iters: 30, ..Config::default() });
        runner.run(strategy, |value| run(self, value)).unwrap_or_else(|error| panic!("{error}"));
        assert!(2 * self.accepted.get() >= CASES, "most were refused: {} of {CASES} were not", self.accepted.get());
    }

    /// Adopts a file. Returns the template's id, or `None` if the file was rightly refused.
    fn adopt(&self, case: &Case<'_>) -> Result<Option<String>, TestCaseError> {
        let number = self.count.get();
        self.count.set(number + 1);
        let name = format!("t{number}");
        let file = self.adopting.file("plain", case.text);
        let before = self.adopting.state();
        let replace = number.is_multiple_of(2);
        let more = if replace { &["--yes", "--replace"][..] } else { &["--yes"] };
        let ran = self.adopting.adopt(&file, case.feature, &name, more);
        ran.never_says(case.values);
        if case.unfit.is_empty() {
            prop_assert_eq!(ran.code, Some(0), "{}\n{}", case.text, ran.said());
        } else {
            refused(&ran, case)?;
            prop_assert_eq!(self.adopting.state(), before);
            return Ok(None);
        }
        let id = format!("{}/{name}", case.feature);
        let template = ["json", "toml"].iter().find_map(|extension| {
            std::fs::read_to_string(self.adopting.guillemet.path("templates").join(format!("{id}.{extension}"))).ok()
        });
        let template = template.expect("a template");
        let after = std::fs::read_to_string(&file).unwrap();
        for value in case.values {
            prop_assert!(!template.contains(value), "{template}");
            prop_assert!(!replace || !after.contains(value), "{after}");
        }
        prop_assert_eq!(replace, after != case.text, "{}", after);
        self.accepted.set(self.accepted.get() + 1);
        Ok(Some(id))
    }
}

fn refused(ran: &Ran, case: &Case<'_>) -> Result<(), TestCaseError> {
    prop_assert_eq!(ran.code, Some(1), "{}\n{}", case.text, ran.said());
    prop_assert!(ran.stderr.contains("nothing was changed"), "{}", ran.said());
    for why in case.unfit {
        prop_assert!(ran.stderr.contains(why), "{why:?} is not in: {}", ran.said());
    }
    Ok(())
}

/// Generates printable ASCII with more special characters than usual. The beginning is fixed, so that no short part of
/// it occurs by chance.
fn printable() -> impl Strategy<Value = String> {
    let text = "k9([ -~]|[\"'\\\\;:$`%&+=?#/]|<<|\\{\\{|%\\}|<% |<# |\\$\\{|\\\\;|;--|%41){3,14}[!-~]Z";
    sometimes_expanded(text)
}

/// Generates any text that can be shown.
fn any_text() -> impl Strategy<Value = String> {
    sometimes_expanded("k9(\\PC|[\"'\\\\;<>%{}$ \t\n]){4,16}Z")
}

/// Generates a text that sometimes contains a variable. The consumer would expand it, so it has to be refused; most
/// texts have to be accepted.
fn sometimes_expanded(text: &'static str) -> impl Strategy<Value = String> {
    (text, prop::bool::weighted(0.05)).prop_map(|(text, expanded)| match expanded {
        true => text,
        false => text.replace("${", "$({").replace("{{", "{({"),
    })
}

/// Percent-encodes a text, without the program's own code.
fn percent(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// Reports whether a client would replace the text by something else, so that it is not a credential.
fn is_reference(text: &str) -> bool {
    text.split("${")
        .skip(1)
        .any(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && rest.contains('}'))
}

#[test]
fn headers_and_queries_of_mcp_servers() {
    let runs = Runs::start();
    let strategy = (prop::collection::vec(printable(), 4), any_text());
    runs.over(&strategy, |runs, (headers, query)| {
        prop_assume!(!headers.iter().chain([&query]).any(|value| is_reference(value)));
        let mut table =
            serde_json::Map::from_iter([("Authorization".to_owned(), json!(format!("Bearer {}", headers[0])))]);
        for (index, value) in headers[1..].iter().enumerate() {
            table.insert(format!("X-Key-{index}"), json!(value));
        }
        let url = format!("https://mcp.example.com/mcp?a=b%20c&token={}", percent(&query));
        let document = json!({"mcpServers": {"s": {"type": "http", "url": url, "headers": table}}});
        let values: Vec<&str> = headers.iter().chain([&query]).map(String::as_str).collect();
        let expands = values.iter().any(|value| value.contains("${"));
        let unfit = if expands && headers.iter().any(|value| value.contains("${")) {
            &["the MCP client would expand `${…}` in it"][..]
        } else {
            &[]
        };
        let text = serde_json::to_string_pretty(&document).unwrap();
        let Some(id) = runs.adopt(&Case { feature: "mcp-server", text: &text, values: &values, unfit })? else {
            return Ok(());
        };
        let rendered: Value = serde_json::from_str(&runs.adopting.render(&id, "mcp-json")).unwrap();
        let server = &rendered["mcpServers"]["s"];
        prop_assert_eq!(&server["headers"], &document["mcpServers"]["s"]["headers"]);
        let pairs = |url: &str| -> Vec<(String, String)> {
            let url = url::Url::parse(url).unwrap();
            url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
        };
        let rendered = server["url"].as_str().unwrap();
        prop_assert_eq!(pairs(rendered), vec![("a".into(), "b c".into()), ("token".into(), query)]);
        prop_assert!(rendered.starts_with("https://mcp.example.com/mcp?"), "{rendered}");
        Ok(())
    });
}

#[test]
fn passwords_of_trunks() {
    let runs = Runs::start();
    runs.over(&(printable(), any::<bool>()), |runs, (password, asterisk)| {
        let (text, target) = if asterisk {
            let written = password.replace(';', "\\;");
            let text = format!(
                "[t]\ntype = endpoint\noutbound_auth = a\naors = t\n[a]\ntype = auth\nusername = me\npassword = {written} ; \
                 c\n[t]\ntype = aor\ncontact = sip:sip.example.com\n"
            );
            (text, "pjsip")
        } else {
            let trunk = json!({"name": "t", "address": "sip.example.com", "numbers": ["+4930"], "auth_username": "me", "auth_password": password});
            (json!({"trunk": trunk}).to_string(), "livekit")
        };
        let Some(id) = runs.adopt(&Case { feature: "sip-trunk", text: &text, values: &[&password], unfit: &[] })? else {
            return Ok(());
        };
        let rendered = runs.adopting.render(&id, target);
        if asterisk {
            let line = rendered.lines().find_map(|line| line.strip_prefix("password = ")).expect("a password");
            prop_assert_eq!(line, password.replace(';', "\\;"));
        } else {
            let rendered: Value = serde_json::from_str(&rendered).unwrap();
            prop_assert_eq!(&rendered["trunk"]["auth_password"], &json!(password));
            prop_assert_eq!(&rendered["trunk"]["auth_username"], "me");
        }
        Ok(())
    });
}

#[test]
fn credentials_of_cal_com() {
    let runs = Runs::start();
    runs.over(&(printable(), any_text()), |runs, (key, webhook)| {
        prop_assume!(!key.contains("${") && !webhook.contains("${"));
        let written = |value: &str| format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"));
        let text = format!("OTHER=1\nCAL_API_KEY={} # c\nCAL_WEBHOOK_SECRET={}\n", written(&key), written(&webhook));
        // No quoting represents these texts for all readers.
        let holds = |text: &str| {
            let single = !text.contains('\'') && !text.contains("\\\\") && !text.ends_with('\\');
            let escapes =
                |behind: &str| behind.is_empty() || behind.starts_with(['\'', '\n', 'a', 'b', 'f', 'n', 'r', 't', 'v']);
            let double = !text.contains(['"', '$', '`']) && !text.split('\\').skip(1).any(escapes);
            single || double
        };
        let unfit = if holds(&key) && holds(&webhook) {
            &[][..]
        } else {
            &["no quotes make every reader of a dotenv file read this value back"]
        };
        let Some(id) = runs.adopt(&Case { feature: "cal-com", text: &text, values: &[&key, &webhook], unfit })? else {
            return Ok(());
        };
        let rendered = runs.adopting.render(&id, "dotenv");
        // In each of the three quotings, a text represents itself.
        let lines = rendered.strip_prefix("CAL_API_KEY=").and_then(|rest| rest.split_once("\nCAL_WEBHOOK_SECRET="));
        let (first, second) = lines.expect("two variables");
        let forms = |value: &str| [format!("'{value}'"), format!("\"{value}\""), value.to_owned()];
        prop_assert!(forms(&key).contains(&first.to_owned()), "{rendered}");
        prop_assert!(forms(&webhook).contains(&second.trim_end_matches('\n').to_owned()), "{rendered}");
        Ok(())
    });
}

#[test]
fn credentials_of_custom_actions() {
    let runs = Runs::start();
    let strategy = (printable(), printable(), any_text(), any_text(), any::<bool>());
    runs.over(&strategy, |runs, (password, header, body, query, command)| {
        let values = [password.as_str(), &header, &body, &query];
        prop_assume!(!values.iter().any(|value| is_reference(value)));
        let basic = format!("Basic {}", data_encoding::BASE64.encode(format!("me:{password}").as_bytes()));
        let headers = BTreeMap::from([
            ("Authorization", basic.as_str()),
            ("X-Key", &header),
            ("Content-Type", "application/json"),
        ]);
        let tree = json!({"list": [{"client_secret": body}, null, 1.5], "q": "a b"});
        let text = if command {
            let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
            format!(
                "curl -X PUT {} -u {} -H {} \\\n  -H 'Content-Type: application/json' -d {}\n",
                quoted(&format!("https://api.example.com/x?token={}", percent(&query))),
                quoted(&format!("me:{password}")),
                quoted(&format!("X-Key: {header}")),
                quoted(&tree.to_string()),
            )
        } else {
            let action = json!({
                "name": "t", "method": "PUT", "url": "https://api.example.com/x", "headers": headers,
                "query": {"token": query}, "body": tree,
            });
            action.to_string()
        };
        let expands = [&header, &body, &query].iter().any(|value| value.contains("{{"));
        let unfit = if expands { &["the agent platform would expand `{{…}}` in it"][..] } else { &[] };
        let Some(id) = runs.adopt(&Case { feature: "custom-action", text: &text, values: &values, unfit })? else {
            return Ok(());
        };
        let rendered: Value = serde_json::from_str(&runs.adopting.render(&id, "json")).unwrap();
        prop_assert_eq!(&rendered["headers"], &json!(headers));
        prop_assert_eq!(&rendered["query"], &json!({"token": query}));
        prop_assert_eq!(&rendered["body"], &tree);
        prop_assert_eq!((&rendered["method"], &rendered["url"]), (&json!("PUT"), &json!("https://api.example.com/x")));
        Ok(())
    });
}
