//! SIP trunks: calls in and out through a carrier.
//!
//! `livekit` is the body of a request that creates the trunk [livekit/protocol, 2026-07]; the trunk
//! is state on the server, so a new password means an update call. `pjsip` (see its module) is for
//! Asterisk.

mod pjsip;

use std::net::IpAddr;

use guillemet_plugin::{Document, Feature, Fields, Target, Text, json, json_document, present};

struct SipTrunk;

guillemet_plugin::export!(SipTrunk);

/// The config, read.
struct Trunk<'a> {
    name: Option<Text<'a>>,
    termination_uri: Option<Text<'a>>,
    transport: Option<&'static str>,
    inbound: bool,
    username: Option<Text<'a>>,
    password: Option<Text<'a>>,
    realm: Option<Text<'a>>,
    numbers: Vec<Text<'a>>,
    allowed_ips: Vec<Text<'a>>,
    register: bool,
}

impl Feature for SipTrunk {
    const FEATURE: &'static str = "sip-trunk";
    const TITLE: &'static str = "SIP trunk";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SCHEMA: &'static str = include_str!("../schema.json");
    const SECRET_FIELDS: &'static [&'static str] = &["username", "password"];
    const TARGETS: &'static [Target] = &[
        Target { id: "livekit", title: "LiveKit SIP", media_type: "application/json", file_name: "trunk.json" },
        Target {
            id: "pjsip",
            title: "Asterisk",
            media_type: "text/plain; charset=utf-8",
            file_name: "pjsip_trunk.conf",
        },
    ];

    fn plan(config: &Fields, target: &str) -> Document {
        let trunk = Trunk::read(config);
        if target == "pjsip" { pjsip::write(config, &trunk) } else { livekit(config, &trunk) }
    }
}

impl<'a> Trunk<'a> {
    fn read(config: &Fields<'a>) -> Self {
        let host = |text: Text<'a>| text.check(is_host_port, "must be host or host:port, without `sip:`");
        let number = |text: Text<'a>| text.check(is_e164, "must be a number in E.164, like +493012345678");
        let address =
            |text: Text<'a>| text.check(is_network, "must be an IP address, or a network like 203.0.113.0/24");
        let plain =
            |text: Text<'a>| text.check(|text| !text.contains(char::is_control), "must not hold control characters");
        let trunk = Self {
            name: config.required("name").map(plain),
            termination_uri: config.text("termination_uri").map(host),
            transport: config.choice("transport", &["udp", "tcp", "tls"]),
            inbound: config.choice("direction", &["outbound", "inbound"]) == Some("inbound"),
            username: config.text("username"),
            password: config.text("password").map(|password| password.credential()),
            realm: config.text("realm").map(plain),
            numbers: config.texts("numbers").into_iter().map(number).collect(),
            allowed_ips: config.texts("allowed_ips").into_iter().map(address).collect(),
            register: config.flag("register").unwrap_or(false),
        };
        if trunk.username.is_some() != trunk.password.is_some() {
            let missing = if trunk.username.is_some() { "password" } else { "username" };
            config.problem(missing, "is required: user and password are given together or not at all");
        }
        if trunk.termination_uri.is_none() && (!trunk.inbound || trunk.register) {
            config.problem("termination_uri", "is required where the trunk calls out or registers");
        }
        trunk
    }
}

/// `SIPOutboundTrunkInfo` or `SIPInboundTrunkInfo`, in the request that creates it.
fn livekit(config: &Fields, trunk: &Trunk) -> Document {
    let texts =
        |texts: &[Text]| (!texts.is_empty()).then(|| texts.iter().map(|text| json!(text.get())).collect::<Vec<_>>());
    let numbers = texts(&trunk.numbers);
    if trunk.register {
        config
            .warning("register", "is left out: LiveKit does not register; the carrier must send calls to its address");
    }
    let fields = if trunk.inbound {
        if numbers.is_none() && trunk.allowed_ips.is_empty() && trunk.username.is_none() {
            config.problem(
                "",
                "anyone could call in: LiveKit wants `numbers`, `allowed_ips`, or `username` and `password`",
            );
        }
        json!({
            "name": trunk.name.as_deref(),
            "numbers": numbers,
            "allowed_addresses": texts(&trunk.allowed_ips),
            "auth_username": trunk.username.as_deref(),
            "auth_password": trunk.password.as_deref(),
        })
    } else {
        if numbers.is_none() {
            config.problem("numbers", "is required: LiveKit calls out from one of them");
        }
        if !trunk.allowed_ips.is_empty() {
            config.warning("allowed_ips", "is left out: LiveKit looks at the caller's address on inbound trunks only");
        }
        json!({
            "name": trunk.name.as_deref(),
            "address": trunk.termination_uri.as_deref(),
            "transport": match trunk.transport {
                None => "SIP_TRANSPORT_AUTO",
                Some("udp") => "SIP_TRANSPORT_UDP",
                Some("tcp") => "SIP_TRANSPORT_TCP",
                Some(_) => "SIP_TRANSPORT_TLS",
            },
            "numbers": numbers,
            "auth_username": trunk.username.as_deref(),
            "auth_password": trunk.password.as_deref(),
        })
    };
    json_document(json!({ "trunk": present(fields) }))
}

/// `host` or `host:port`: a name, an IPv4 address, or an IPv6 address in brackets.
fn is_host_port(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, port)) if v6.parse::<std::net::Ipv6Addr>().is_ok() => {
            ("v6", port.strip_prefix(':').or((!port.is_empty()).then_some("")))
        }
        Some(_) => return false,
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let label = |label: &str| {
        let inner = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        inner && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    let port =
        port.is_none_or(|port| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0));
    port && host.len() <= 253 && host.split('.').all(label)
}

/// `+` and up to fifteen digits, the first not zero.
fn is_e164(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or_default();
    (2..=15).contains(&digits.len()) && !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit())
}

/// An address, or a network in CIDR notation.
fn is_network(text: &str) -> bool {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    bits.is_none_or(|bits| bits.parse::<u8>().is_ok_and(|bits| bits <= most))
}
