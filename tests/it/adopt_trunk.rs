//! `adopt` of SIP trunks and of Cal.com's credentials: compares the original with the rendered config, with readers of
//! the test's own and with python-dotenv.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::adopt::Adopting;
use crate::support::consumers;
use serde_json::{Value, json};

/// Reads the sections of a file as Asterisk documents its format: each name with its keys and values. Does not support
/// templates.
fn asterisk(text: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut sections: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    for line in text.lines() {
        let escaped = line.replace("\\;", "\u{1}");
        let line = escaped.split(';').next().unwrap().trim().replace('\u{1}', ";");
        if let Some(name) = line.strip_prefix('[') {
            sections.push((name.trim_end_matches(']').to_owned(), BTreeMap::new()));
        } else if let Some((key, value)) = line.split_once('=') {
            sections.last_mut().unwrap().1.insert(key.trim().to_owned(), value.trim().to_owned());
        }
    }
    sections
}

fn of_kind(sections: &[(String, BTreeMap<String, String>)], kind: &str) -> BTreeMap<String, String> {
    sections
        .iter()
        .find(|(_, section)| section.get("type").is_some_and(|found| found == kind))
        .unwrap_or_else(|| panic!("no {kind}"))
        .1
        .clone()
}

const PJSIP: &str = "; carrier
[transport-tls]
type=transport
protocol=tls

[base](!)
type=endpoint
context=from-trunk
disallow=all
allow=ulaw

[carrier_auth]
type = auth
auth_type = userpass
username = 4711
password = p4ss\\;w\"ord<< x ; the password

[carrier]
type=aor
contact=sip:sip.telnyx.com:5061\\;transport=tls

[carrier](base)
outbound_auth=carrier_auth
aors=carrier

[carrier_reg]
type=registration
outbound_auth=carrier_auth
server_uri=sip:sip.telnyx.com:5061\\;transport=tls
client_uri=sip:4711@sip.telnyx.com:5061\\;transport=tls

[phone]
type=endpoint
";

#[test]
fn a_trunk_of_asterisk() {
    let adopting = Adopting::start();
    let file = adopting.file("pjsip.conf", PJSIP);
    adopting
        .adopt(&file, "sip-trunk", "carrier", &["--yes"])
        .refused(&["has 2 endpoints", "choose one with --section: carrier, phone"]);
    let more = ["--yes", "--section", "carrier", "--replace"];
    let ran = adopting.adopt(&file, "sip-trunk", "carrier", &more).done();
    let password = "p4ss;w\"ord<< x";
    ran.never_says(&[password, "p4ss\\;w"]);
    for said in
        ["endpoint.context differs", "other endpoints, which are not adopted: phone", "the target livekit cannot"]
    {
        assert!(ran.stderr.contains(said), "{said:?} is not in: {}", ran.stderr);
    }
    assert_eq!(adopting.value("telnyx-password-prod"), password);
    let rendered = asterisk(&adopting.render("sip-trunk/carrier", "pjsip"));
    let plain = asterisk(PJSIP);
    let (before, after) = (of_kind(&plain, "auth"), of_kind(&rendered, "auth"));
    assert_eq!((&before["username"], &before["password"]), (&after["username"], &after["password"]));
    assert_eq!(after["password"], password);
    let (before, after) = (of_kind(&plain, "registration"), of_kind(&rendered, "registration"));
    assert_eq!((&before["server_uri"], &before["client_uri"]), (&after["server_uri"], &after["client_uri"]));
    assert_eq!(of_kind(&plain, "aor")["contact"], of_kind(&rendered, "aor")["contact"]);
    let after = std::fs::read_to_string(&file).unwrap();
    assert_eq!(after, PJSIP.replace("p4ss\\;w\"ord<< x", "«telnyx-password-prod»"));
}

#[test]
fn a_trunk_that_is_called_and_a_password_of_one_realm() {
    let adopting = Adopting::start();
    let text = "[in]\ntype=endpoint\nauth=in\naors=in\n[in]\ntype=auth\nusername=us\npassword=p4ssword\nrealm=carrier.example\n\
                [in]\ntype=aor\nmax_contacts=1\n[i]\ntype=identify\nendpoint=in\nmatch=192.0.2.1,192.0.2.0/24\n";
    let file = adopting.file("pjsip.conf", text);
    let ran = adopting.adopt(&file, "sip-trunk", "in", &["--yes"]).done();
    ran.never_says(&["p4ssword"]);
    let rendered = asterisk(&adopting.render("sip-trunk/in", "pjsip"));
    let auth = of_kind(&rendered, "auth");
    use md5::Digest;
    let ha1 = data_encoding::HEXLOWER.encode(&md5::Md5::digest(b"us:carrier.example:p4ssword"));
    assert_eq!(
        (auth["realm"].as_str(), auth["password_digest"].as_str()),
        ("carrier.example", format!("MD5:{ha1}").as_str())
    );
    assert!(ran.stdout.contains("+ auth.password_digest = MD5:«in-password-prod»"), "{}", ran.stdout);
    assert!(!ran.stdout.contains(&ha1), "a digest is as good as the password");
    assert_eq!(of_kind(&rendered, "endpoint")["auth"], "in-auth");

    for (text, why) in [
        (
            "[a]\ntype=endpoint\noutbound_auth=a\n[a]\ntype=auth\nusername=u\npassword_digest=MD5:0\n",
            "contains a digest, not the password",
        ),
        ("[a]\ntype=endpoint\n", "has no auth section"),
        ("#include \"b.conf\"\n[a]\ntype=endpoint\noutbound_auth=a\n", "includes another file"),
        (
            "[a]\ntype=endpoint\noutbound_auth=a\naors=a\n[a]\ntype=aor\ncontact=sips:x\n[a]\ntype=auth\nusername=u\npassword=p4ss\n",
            "not a URI that a trunk supports",
        ),
    ] {
        let file = adopting.file("pjsip.conf", text);
        adopting.adopt(&file, "sip-trunk", "a", &["--yes"]).refused(&[why]).never_says(&["p4ss"]);
    }
}

#[test]
fn trunks_of_livekit() {
    let adopting = Adopting::start();
    let outbound = json!({"trunk": {
        "name": "Telnyx out", "address": "sip.telnyx.com:5061", "transport": "SIP_TRANSPORT_TLS",
        "numbers": ["+493012345678"], "auth_username": "us", "auth_password": "p4ss \"<< x"}});
    let file = adopting.file("out.json", &outbound.to_string());
    let ran = adopting.adopt(&file, "sip-trunk", "out", &["--yes", "--secret", "username=telnyx-user-prod"]).done();
    ran.never_says(&["p4ss"]);
    let rendered: Value = serde_json::from_str(&adopting.render("sip-trunk/out", "livekit")).unwrap();
    assert_eq!(rendered, outbound);
    assert_eq!(adopting.value("telnyx-user-prod"), "us");

    let inbound = r#"{"trunk": {"numbers": ["+4930"], "allowedAddresses": ["192.0.2.0/24"], "authUsername": "us",
        "authPassword": "p4ss", "krispEnabled": true, "headers": {"X-Token": "t0ken"}}}"#;
    let file = adopting.file("in.json", inbound);
    let ran = adopting.adopt(&file, "sip-trunk", "in", &["--yes", "--replace"]).done();
    ran.never_says(&["p4ss", "t0ken"]);
    for said in ["krisp_enabled is omitted", "headers.X-Token is omitted", "name is added"] {
        assert!(ran.stderr.contains(said), "{said:?} is not in: {}", ran.stderr);
    }
    let rendered: Value = serde_json::from_str(&adopting.render("sip-trunk/in", "livekit")).unwrap();
    assert_eq!(
        rendered,
        json!({"trunk": {"name": "in", "numbers": ["+4930"], "allowed_addresses": ["192.0.2.0/24"], "auth_username": "us", "auth_password": "p4ss"}})
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), inbound.replace("p4ss", "«in-password-prod»"));
}

/// Returns the variables that python-dotenv reads from a text.
fn python_dotenv(python: &Path, text: &str) -> Value {
    let script =
        "import dotenv, io, json, sys\nprint(json.dumps(dotenv.dotenv_values(stream=io.StringIO(sys.stdin.read()))))";
    let mut child =
        Command::new(python).args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_dotenv_file_of_cal_com() {
    let adopting = Adopting::start();
    let text = "# keys\nexport CAL_API_KEY=cal_live_0123#4 # mine\nCAL_CLIENT_ID='cl'\nCAL_SECRET_KEY=\"x \\\"y\\\"\\n2\"\n\
                CAL_WEBHOOK_SECRET='a\\'b << c'\nDATABASE_URL=postgres://u:p4ss@h/db\nPORT=1\n";
    let file = adopting.file("cal.env", text);
    let ran = adopting.adopt(&file, "cal-com", "desk", &["--yes", "--replace"]).done();
    ran.never_says(&["cal_live_0123", "a'b", "p4ss"]);
    assert!(ran.stderr.contains("other variables, which are not adopted: DATABASE_URL, PORT"), "{}", ran.stderr);
    assert_eq!(adopting.value("calcom-api-key-prod"), "cal_live_0123#4");
    assert_eq!(adopting.value("calcom-secret-key-prod"), "x \"y\"\n2");
    let after = std::fs::read_to_string(&file).unwrap();
    assert_eq!(
        after,
        "# keys\nexport CAL_API_KEY='«calcom-api-key-prod»' # mine\nCAL_CLIENT_ID='cl'\nCAL_SECRET_KEY='«calcom-secret-key-prod»'\n\
         CAL_WEBHOOK_SECRET='«calcom-webhook-secret-prod»'\nDATABASE_URL=postgres://u:p4ss@h/db\nPORT=1\n"
    );
    let rendered = adopting.render("cal-com/desk", "dotenv");
    if let Some(python) = consumers::python() {
        let (mut before, after) = (python_dotenv(&python, text), python_dotenv(&python, &rendered));
        for other in ["DATABASE_URL", "PORT"] {
            before.as_object_mut().unwrap().remove(other);
        }
        assert_eq!(before, after);
    }

    let file = adopting.file("cal.env", "CAL_API_KEY=${OTHER}\nCAL_EVENT_TYPE_ID=x\nfree text\n");
    adopting.adopt(&file, "cal-com", "x", &["--yes"]).refused(&[
        "cal.env:1:13 CAL_API_KEY: refers to other variables",
        "cal.env:2:19 CAL_EVENT_TYPE_ID: is not a whole number",
        "cal.env:3:1: is not a line of a dotenv file",
    ]);
}

#[test]
fn the_json_of_cal_com() {
    let adopting = Adopting::start();
    let document = json!({
        "base_url": "https://api.cal.com/v2",
        "headers": {"Authorization": "Bearer cal_live_0123"},
        "api_versions": {"slots": "2024-09-04", "bookings": "2024-08-13", "event-types": "2024-06-14", "me": "2024-06-14"},
        "event_type_id": 42, "timezone": "Europe/Berlin", "client_id": "cl", "secret_key": "s3cret", "webhook_secret": "wh00k"
    });
    let file = adopting.file("cal.json", &document.to_string());
    let ran = adopting.adopt(&file, "cal-com", "desk", &["--yes", "--replace"]).done();
    ran.never_says(&["cal_live_0123", "s3cret", "wh00k"]);
    let rendered: Value = serde_json::from_str(&adopting.render("cal-com/desk", "json")).unwrap();
    assert_eq!(rendered, document);
    let after = std::fs::read_to_string(&file).unwrap();
    assert!(after.contains("\"Bearer «calcom-api-key-prod»\"") && !after.contains("s3cret"), "{after}");
}

/// The remaining files of MCP clients, beside those of `adopt.rs`. They are here because they are read in the same way.
#[test]
fn files_of_mcp_clients() {
    let adopting = Adopting::start();
    let whole = "https://mcp.zapier.com/api/mcp/s/k3Jd82mNq0PzX7vLwT5y/mcp?a=b+c";
    let text = format!(
        "{{\"inputs\": [], \"servers\": {{\"my zap\": {{\"type\": \"sse\", \"url\": \"{whole}\", \"headers\": {{\
         \"Authorization\": \"Basic dXM6cDRzcyE=\", \"X-Env\": \"${{env:HOME}}\"}}}}}}}}"
    );
    let file = adopting.file("mcp.json", &text);
    let ran = adopting.adopt(&file, "mcp-server", "zap", &["--yes", "--replace"]).done();
    ran.never_says(&["k3Jd82mNq0PzX7vLwT5y", "p4ss!", "dXM6cDRzcyE="]);
    assert!(ran.stderr.contains("name differs"), "{}", ran.stderr);
    assert_eq!(adopting.value("zapier-url-prod"), whole);
    assert_eq!(adopting.value("zapier-login-prod"), "us:p4ss!");
    let rendered: Value = serde_json::from_str(&adopting.render("mcp-server/zap", "vscode")).unwrap();
    let plain: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(rendered["servers"]["my-zap"], plain["servers"]["my zap"]);
    let after = std::fs::read_to_string(&file).unwrap();
    assert_eq!(after, text.replace(whole, "«zapier-url-prod»").replace("dXM6cDRzcyE=", "«zapier-login-prod»"));

    // A URL that the user keeps in the clear is taken apart.
    let file = adopting.file("mcp.json", &text.replace("a=b+c", "a=b"));
    adopting.adopt(&file, "mcp-server", "zap2", &["--yes", "--keep", "url"]).done();
    assert!(adopting.template("mcp-server/zap2.json").contains("\"a\": \"b\""));
}
