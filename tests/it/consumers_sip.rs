//! Configs of SIP trunks: a real daemon fills them with passwords of all kinds. The program that reads the config logs
//! in with exactly the password, or Guillemet has refused it, with the reason, and had to.
//!
//! baresip and kamailio run as Debian packages them. **Asterisk and FreeSWITCH do not run**, because Debian 12 has
//! neither. Readers in tests/it/support/sip, written from their sources, take their place, and a mistake of such a
//! reader would not be noticed here. LiveKit and Vapi do not run either: their configs are JSON, and are read as such.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use crate::support::sip::baresip::Baresip;
use crate::support::sip::kamailio::Kamailio;
use crate::support::sip::{
    PASSWORD, Rendered, SEED, Trunks, USER, assert_most, asterisk, freeswitch, ha1, installed, passwords,
};
use guillemet_plan::encode;
use guillemet_plan::expr::Op;
use guillemet_plugin::canary::readers::ReadableFormat;
use serde_json::{Value, json};

/// The realm of the accounts at the registrar.
const REALM: &str = "guillemet.test";

/// Checks that a refusal has a cause, states it, and does not show the value. `because` is the part of the reason that
/// the value gives; `None` if it gives none.
fn refused(target: &str, value: &str, reason: &str, because: Option<&str>) {
    let because = because.unwrap_or_else(|| panic!("{target} refused {value:?} (seed {SEED}): {reason}"));
    assert!(reason.contains(because), "{target} refused {value:?} (seed {SEED}) for another reason: {reason}");
    assert!(value.len() < 4 || !reason.contains(value), "the reason shows the value: {reason}");
}

/// Reports whether a value contains `;name=`, which baresip finds in quotes too.
fn holds_parameter(value: &str) -> bool {
    let mut pieces = value.split(';').skip(1);
    pieces.any(|piece| {
        let name = piece.split('=').next().unwrap().trim_matches([' ', '\t']);
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        piece.contains('=') && !name.is_empty() && name.chars().all(word)
    })
}

/// Returns the password in a line of accounts, as the reader of canaries reads it.
fn read_password(line: &str) -> Option<String> {
    let leaves = ReadableFormat::Baresip.leaves(line).ok()?;
    let password = leaves.into_iter().find(|leaf| leaf.structure.is_none() && leaf.path == ["auth_pass"])?;
    Some(password.text)
}

#[test]
#[expect(clippy::too_many_lines, reason = "one case after the other")]
fn baresip_logs_in_with_the_account_that_is_rendered() {
    let Some(mut kamailio) = Kamailio::new() else { return };
    if !installed("baresip", "baresip-core") {
        return;
    }
    let trunks = Trunks::start();
    let host = format!("127.0.0.1:{}", kamailio.registrar);
    let account = |name: String, username: &str| {
        json!({
            "name": name, "termination_uri": host, "transport": "udp", "register": true,
            "username": username, "password": PASSWORD, "realm": REALM,
        })
    };
    let mut accounts = String::new();
    let mut expected = BTreeMap::new();

    // First with the values as passwords.
    let values: Vec<String> = passwords().into_iter().chain(["x".repeat(128), "x".repeat(129)]).collect();
    let rendered = trunks.each("baresip", &values, |n| account(format!("p{n}"), &format!("p{n}")));
    assert_most("baresip", &rendered, true);
    for (n, (value, rendered)) in values.iter().zip(&rendered).enumerate() {
        kamailio.knows(&format!("p{n}"), ha1(&format!("p{n}"), REALM, value));
        match rendered {
            Ok(text) => {
                assert_eq!(read_password(text), Some(value.clone()), "{text}");
                accounts.push_str(text);
                expected.insert(format!("p{n}"), true);
            }
            Err(reason) => {
                let because = match value.as_str() {
                    value if value.len() > 126 => "128 bytes",
                    value if holds_parameter(value) => "another parameter",
                    value if value.contains('"') => "no escape",
                    _ => "cannot end with `\\`",
                };
                refused("baresip", value, reason, Some(because));
                if because.starts_with("no") || because.starts_with("cannot") {
                    // Neither way to write the value is read back.
                    for (way, written) in [("q", format!("\"{value}\"")), ("b", value.clone())] {
                        let user = format!("{way}{n}");
                        kamailio.knows(&user, ha1(&user, REALM, value));
                        let line = format!("<sip:{user}@{host}>;auth_pass={written};regint=3600\n");
                        assert_ne!(read_password(&line), Some(value.clone()), "{line}");
                        accounts.push_str(&line);
                        expected.insert(user, false);
                    }
                }
            }
        }
    }
    // Proves that the registrar checks: a changed password is refused.
    let spoiled = rendered[0].as_ref().unwrap().replace("plain", "plane").replace("p0", "spoiled");
    kamailio.knows("spoiled", ha1("spoiled", REALM, "plain"));
    accounts.push_str(&spoiled);
    expected.insert("spoiled".into(), false);
    // baresip reads a parameter in a quoted value as one: the account logs in as another user.
    kamailio.knows("mallory", ha1("eve", REALM, "a;auth_user=eve;b"));
    accounts.push_str(&format!("<sip:mallory@{host}>;auth_pass=\"a;auth_user=eve;b\"\n"));
    expected.insert("mallory".into(), true);

    // Then with the values as users, and so as parts of addresses.
    trunks.rotate("password", "secret");
    for (n, value) in passwords().iter().step_by(4).enumerate() {
        trunks.rotate("user", value);
        let word = encode::literal(&Op::UrlQuery, &[value]).unwrap();
        match trunks.fill("baresip", &account(format!("u{n}"), USER)) {
            Ok(text) => {
                kamailio.knows(&word, ha1(value, REALM, "secret"));
                accounts.push_str(&text);
                expected.insert(word, true);
            }
            Err(reason) => {
                let because = if value.contains(['"', '\\']) {
                    Some("without escapes")
                } else if holds_parameter(value) {
                    Some("another parameter")
                } else {
                    (word.len() > 128).then_some("128 bytes")
                };
                refused("baresip", value, &reason, because);
            }
        }
    }

    let mut registrar = kamailio.run();
    let baresip = Baresip::run(&accounts);
    let decided = registrar.decisions("", expected.len());
    let wrong: Vec<String> = expected
        .iter()
        .filter(|(word, expected)| decided.get(*word) != Some(expected))
        .map(|(word, expected)| {
            let number = word[1..].parse::<usize>().ok();
            let value = number.and_then(|n| values.get(n));
            let line = accounts.lines().find(|line| line.contains(&format!("<sip:{word}@"))).unwrap_or_default();
            format!("{word}, with {value:?}: to be accepted {expected}, was {:?}\n  {line}", decided.get(word))
        })
        .collect();
    assert!(wrong.is_empty(), "seed {SEED}:\n{}\n{}", wrong.join("\n"), baresip.log());
}

/// Sends a request for each trunk through kamailio. Returns the final answers.
fn call(kamailio: &Kamailio, trunks: &[(String, String, &str)]) -> BTreeMap<String, u16> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let port = socket.local_addr().unwrap().port();
    let mut answers = BTreeMap::new();
    let begun = Instant::now();
    let mut buffer = [0; 65_536];
    while answers.len() < trunks.len() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} of {} were answered", answers.len(), trunks.len());
        let open: Vec<_> = trunks.iter().filter(|(name, ..)| !answers.contains_key(name)).take(20).collect();
        for (name, realm, mode) in &open {
            let request = format!(
                "OPTIONS sip:carrier@{realm} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK{name}\r\n\
                 From: <sip:test@{realm}>;tag={name}\r\nTo: <sip:carrier@{realm}>\r\nCall-ID: {name}\r\n\
                 CSeq: 1 OPTIONS\r\nMax-Forwards: 9\r\nX-Trunk: {name}\r\nX-Realm: {realm}\r\nX-Mode: {mode}\r\n\
                 Content-Length: 0\r\n\r\n"
            );
            socket.send_to(request.as_bytes(), ("127.0.0.1", kamailio.client)).unwrap();
        }
        // A request without a timely answer is sent again.
        let all = answers.len() + open.len();
        while answers.len() < all
            && let Ok(length) = socket.recv(&mut buffer)
        {
            let text = String::from_utf8_lossy(&buffer[..length]);
            let status: u16 = text.split(' ').nth(1).unwrap().parse().unwrap();
            let name = text.lines().find_map(|line| line.strip_prefix("Call-ID: ")).unwrap();
            if status >= 200 {
                answers.insert(name.to_owned(), status);
            }
        }
    }
    answers
}

#[test]
#[expect(clippy::too_many_lines, reason = "one case after the other")]
fn kamailio_logs_in_with_the_configuration_that_is_rendered() {
    let Some(mut kamailio) = Kamailio::new() else { return };
    let trunks = Trunks::start();
    let values = passwords();
    let carrier = format!("127.0.0.1:{}", kamailio.registrar);
    let include = |kamailio: &mut Kamailio, name: &str, rendered: &Rendered| {
        kamailio.includes(&format!("{name}.cfg"), rendered.as_ref().unwrap_or_else(|why| panic!("{name}: {why}")));
    };
    let mut calls = Vec::new();

    let users = ["user", "a;b", "it's", "a&b@c", "<#>", "~!%/=+", "{x}", "\u{e9}\u{4e16}"];
    let mut plain = Vec::new();
    for (n, value) in values.iter().enumerate() {
        trunks.rotate("password", value);
        // With the password itself; the realm is the host.
        let (name, realm) = (format!("p{n}"), format!("p{n}.test"));
        let config = json!({"name": name, "termination_uri": realm, "username": "user", "password": PASSWORD});
        let rendered = trunks.fill("kamailio", &config);
        match &rendered {
            Ok(_) => {
                include(&mut kamailio, &name, &rendered);
                kamailio.knows(&realm, ha1("user", &realm, value));
                calls.push((name, realm, "password"));
            }
            Err(reason) => {
                refused("kamailio", value, reason, value.contains(' ').then_some("to use a digest instead"));
            }
        }
        plain.push(rendered);

        // With a digest in its place, nothing is refused. The route knows how to reach the carrier.
        let (name, realm) = (format!("d{n}"), format!("d{n}.test"));
        let mut config = json!({"termination_uri": carrier, "transport": "udp", "password": PASSWORD});
        (config["name"], config["realm"], config["username"]) = (json!(name), json!(realm), json!("user"));
        include(&mut kamailio, &name, &trunks.fill("kamailio", &config));
        kamailio.knows(&realm, ha1("user", &realm, value));
        calls.push((name, realm, "digest"));

        // With a digest that registers, for users that are secrets.
        let (name, realm) = (format!("r{n}"), format!("r{n}.test"));
        let user = users[n * users.len() / values.len()];
        if n == 0 || user != users[(n - 1) * users.len() / values.len()] {
            trunks.rotate("user", user);
        }
        (config["name"], config["realm"], config["username"]) = (json!(name), json!(realm), json!(USER));
        config["register"] = json!(true);
        include(&mut kamailio, &name, &trunks.fill("kamailio", &config));
        kamailio.knows(&realm, ha1(user, &realm, value));
        kamailio.begins_with(&format!("    route(\"{name}-register\");\n"));
    }
    assert_most("kamailio", &plain, true);

    // Shows why they are refused: a space at the end is lost, and one inside is an error.
    let by_hand = |name: &str, password: &str| {
        format!(
            "route[\"{name}\"] {{ $du = \"sip:{carrier}\"; }}\nmodparam(\"uac\", \"credential\", \"user:{name}.test:{password}\")\n"
        )
    };
    kamailio.includes("t0.cfg", &by_hand("t0", "trailing "));
    kamailio.knows("t0.test", ha1("user", "t0.test", "trailing "));
    calls.push(("t0".into(), "t0.test".into(), "password"));
    for (name, password) in [("inner", "two words"), ("quote", "a\"b")] {
        let mut other = Kamailio::new().unwrap();
        other.check().unwrap();
        other.includes("wrong.cfg", &by_hand(name, password));
        let said = other.check().unwrap_err();
        assert!(said.contains("wrong.cfg") || said.contains("parse error"), "{said}");
    }
    // Proves that the registrar checks: a changed password is refused.
    kamailio.includes("s0.cfg", &plain[0].as_ref().unwrap().replace("p0", "s0").replace("plain", "plane"));
    kamailio.knows("s0.test", ha1("user", "s0.test", "plain"));
    calls.push(("s0".into(), "s0.test".into(), "password"));

    // The encoder alone: all kinds of spaces, and non-ASCII characters.
    let strings: Vec<String> = values
        .iter()
        .cloned()
        .chain(["\t", "a\u{b}\u{c}b", "\u{1}\u{1b}", "\u{7f}", "\u{e9}\u{4e16}\u{1f511}", "12"].map(str::to_owned))
        .collect();
    for (n, text) in strings.iter().enumerate() {
        let string = encode::literal(&Op::KamailioString, &[text]).unwrap();
        kamailio.begins_with(&format!(
            "    $var(s) = {string};\n    xlog(\"L_ERR\", \"guillemet: string {n} $(var(s){{s.encode.hexa}})\\n\");\n"
        ));
    }

    kamailio.check().unwrap();
    let mut running = kamailio.run();
    for (n, text) in strings.iter().enumerate() {
        let begins = format!("guillemet: string {n} ");
        let read =
            running.log.iter().find_map(|line| Some(line.split_once(&begins)?.1)).expect("a line for each string");
        assert_eq!(
            read.to_ascii_lowercase(),
            data_encoding::HEXLOWER.encode(text.as_bytes()),
            "{text:?} (seed {SEED})"
        );
    }
    let answers = call(&kamailio, &calls);
    let wrong: Vec<String> = calls
        .iter()
        .filter(|(name, ..)| (answers[name] == 200) == matches!(name.as_str(), "t0" | "s0"))
        .map(|(name, ..)| format!("{name}, with {:?}: {}", values[name[1..].parse::<usize>().unwrap()], answers[name]))
        .collect();
    assert!(wrong.is_empty(), "seed {SEED}:\n{}", wrong.join("\n"));
    let registered = running.decisions("r", values.len());
    let wrong: Vec<_> = registered.iter().filter(|(_, accepted)| !**accepted).collect();
    assert!(wrong.is_empty(), "seed {SEED}: {wrong:?}");
}

/// Returns a trunk with these additional fields.
fn trunk(fields: Value) -> Value {
    let mut trunk = json!({"name": "a", "termination_uri": "sip.example.com:5061", "transport": "tls"});
    trunk.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    trunk
}

/// Reads the file with rules from Asterisk's sources, because Asterisk does not run here.
#[test]
fn the_pjsip_file_reads_back_by_the_rules_of_asterisk() {
    let trunks = Trunks::start();
    trunks.template("password", &trunk(json!({"username": "user", "password": PASSWORD})));
    trunks.template("digest", &trunk(json!({"username": "user", "password": PASSWORD, "realm": "sip;example"})));
    trunks.template("user", &trunk(json!({"username": PASSWORD, "password": "secret", "register": true})));
    let section = |text: &str, kind: &str| {
        let mut found = asterisk::read(text).into_iter().filter(|section| section.get("type") == kind);
        let section = found.next().unwrap_or_else(|| panic!("no {kind}: {text}"));
        assert!(found.next().is_none(), "two of {kind}: {text}");
        section
    };
    let mut filled = Vec::new();
    for value in passwords() {
        trunks.rotate("password", &value);
        let stripped = (value.trim() != value).then_some("which Asterisk strips");
        let rendered = trunks.filled("password", "pjsip");
        match &rendered {
            Ok(text) => {
                assert_eq!(section(text, "auth").get("password"), value, "seed {SEED}");
                assert_eq!(section(text, "aor").get("contact"), "sip:sip.example.com:5061;transport=tls");
                assert_eq!(asterisk::read(text).len(), 3, "{text}");
            }
            Err(reason) => {
                refused("pjsip", &value, reason, stripped);
                let by_hand = format!("[a]\npassword = {}\n", value.replace(';', "\\;"));
                assert_ne!(asterisk::read(&by_hand)[0].get("password"), value);
            }
        }
        filled.push(rendered);
        // With a realm nothing has to be refused.
        let text =
            trunks.filled("digest", "pjsip").unwrap_or_else(|reason| panic!("{value:?} (seed {SEED}): {reason}"));
        let auth = section(&text, "auth");
        assert_eq!(auth.get("realm"), "sip;example");
        assert_eq!(auth.get("password_digest"), format!("MD5:{}", ha1("user", "sip;example", &value)), "seed {SEED}");
        assert!(auth.variables.iter().all(|(name, _)| name != "password"), "{text}");
        // The user is also in the address that registers.
        match trunks.filled("user", "pjsip") {
            Ok(text) => {
                assert_eq!(section(&text, "auth").get("username"), value, "seed {SEED}");
                let user = encode::literal(&Op::UrlQuery, &[&value]).unwrap();
                let client = format!("sip:{user}@sip.example.com:5061;transport=tls");
                assert_eq!(section(&text, "registration").get("client_uri"), client);
            }
            Err(reason) => refused("pjsip", &value, &reason, stripped),
        }
    }
    assert_most("pjsip", &filled, true);
}

/// Reads the file with rules from FreeSWITCH's sources, because FreeSWITCH does not run here.
#[test]
fn the_gateway_reads_back_by_the_rules_of_freeswitch() {
    let trunks = Trunks::start();
    let registered = |user: &str, password: &str| {
        trunk(json!({"username": user, "password": password, "realm": "$${x}", "register": true}))
    };
    trunks.template("password", &registered("user", PASSWORD));
    trunks.template("user", &registered(PASSWORD, "secret"));
    let read = |text: &str| freeswitch::read(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let (mut passwords_filled, mut users_filled) = (Vec::new(), Vec::new());
    for value in passwords() {
        trunks.rotate("password", &value);
        let rendered = trunks.filled("password", "freeswitch");
        match &rendered {
            Ok(text) => {
                let gateway = read(text);
                let known = freeswitch::credentials(&gateway, "sip.example.com");
                assert_eq!(known, ("user".to_owned(), value.clone()), "seed {SEED}");
                let others = ["realm", "proxy", "register"].map(|name| gateway[name].as_str());
                assert_eq!(others, ["$${x}", "sip.example.com:5061", "true"]);
                assert_eq!(gateway.len(), 8, "{gateway:?}");
            }
            Err(reason) => {
                refused("freeswitch", &value, reason, value.contains(':').then_some("silently cut off"));
                let by_hand = [("username", "user"), ("password", &value)].map(|(k, v)| (k.to_owned(), v.to_owned()));
                assert_ne!(freeswitch::credentials(&by_hand.into(), "r").1, value);
            }
        }
        passwords_filled.push(rendered);
        let rendered = trunks.filled("user", "freeswitch");
        match &rendered {
            Ok(text) => {
                let gateway = read(text);
                assert_eq!(freeswitch::credentials(&gateway, "r"), (value.clone(), "secret".to_owned()), "seed {SEED}");
                assert_eq!(gateway["username"], encode::literal(&Op::UrlQuery, &[&value]).unwrap());
            }
            Err(reason) if value.contains(':') => refused("freeswitch", &value, reason, Some("split at `:`")),
            Err(reason) => {
                let because = value.contains(['"', '\\']).then_some("without escapes");
                refused("freeswitch", &value, reason, because);
            }
        }
        users_filled.push(rendered);
    }
    assert_most("freeswitch", &passwords_filled, true);
    assert_most("freeswitch", &users_filled, true);
    // The longest accepted value fits beside the longest realm; the end of a longer one would be lost.
    for (template, longest) in [("password", 116), ("user", 64)] {
        trunks.rotate("password", &"x".repeat(longest));
        let text = trunks.filled(template, "freeswitch").expect("it fits");
        let (user, password) = freeswitch::credentials(&read(&text), &"r".repeat(64));
        assert_eq!(if template == "user" { user.len() } else { password.len() }, longest);
        trunks.rotate("password", &"x".repeat(longest + 1));
        let reason = trunks.filled(template, "freeswitch").expect_err("it would be cut off");
        assert!(reason.contains("too long for FreeSWITCH"), "{reason}");
    }
}

#[test]
fn platforms_get_every_value_in_their_json() {
    let trunks = Trunks::start();
    trunks.template(
        "a",
        &trunk(json!({"username": USER, "password": PASSWORD, "numbers": ["+493012345678"], "register": true})),
    );
    trunks.rotate("user", "a \"user\"\\");
    for value in passwords() {
        trunks.rotate("password", &value);
        let read = |target: &str| -> Value {
            let text = trunks.filled("a", target).unwrap_or_else(|reason| panic!("{value:?} (seed {SEED}): {reason}"));
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{value:?} (seed {SEED}): {error}: {text}"))
        };
        let livekit = &read("livekit")["trunk"];
        assert_eq!([&livekit["auth_username"], &livekit["auth_password"]], ["a \"user\"\\", &value], "seed {SEED}");
        let expected = json!({
            "authUsername": "a \"user\"\\", "authPassword": value,
            "sipRegisterPlan": {"domain": "sip.example.com", "username": "a \"user\"\\"},
        });
        assert_eq!(read("vapi")["outboundAuthenticationPlan"], expected, "seed {SEED}");
    }
}

/// Tests the readers that are used in their place.
#[test]
fn the_readers_follow_the_rules_of_asterisk_and_freeswitch() {
    let file = "; a comment\n[a](!)\nk = v ; c\nl=>m\nn = \\;x\\;--y\no = 1 ;-- two\nlines = gone --; \np = \\\\;q\nr=\ts = t\n";
    let sections = asterisk::read(file);
    assert_eq!(sections.len(), 1);
    let expected = [("k", "v"), ("l", "m"), ("n", ";x;--y"), ("o", "1"), ("p", "\\;q"), ("r", "s = t")];
    assert_eq!(sections[0].variables, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));

    let gateway = |line: &str| format!("<include>\n<gateway name=\"g\">\n{line}\n</gateway>\n</include>\n");
    let value = |value: &str| {
        let parameters = freeswitch::read(&gateway(&format!("<param name=\"password\" value=\"{value}\"/>"))).ok()?;
        parameters.get("password").cloned()
    };
    assert_eq!(value("a$${x}b$${y}c&#36;&#36;{x}").unwrap(), "aexpandedbc$${x}");
    assert_eq!(value("X-Pre-Process"), None, "the line is a command");
    assert_eq!(value("<"), None);
    let known = |password: &str| [("username", "u"), ("password", password)].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(freeswitch::credentials(&known("left:right").into(), "r"), ("u".into(), "left".into()));
    assert_eq!(freeswitch::credentials(&known("HA1+x").into(), "r"), ("u".into(), "HA1+x".into()));
}
