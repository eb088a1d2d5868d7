//! SIP trunks: calls in and out through a carrier.
//!
//! Each target has a module; this file has what they share: the config and its checks.
//!
//! A trunk logs in with a user and a password, or with HA1, the digest of user, realm and password. HA1 is as good as
//! the password for its realm, so it is a secret too. But it gives no access anywhere else that has the same password,
//! and it contains no character that a format could misread. So a target that accepts HA1 gets it.

mod baresip;
mod freeswitch;
mod kamailio;
mod livekit;
mod pjsip;
mod vapi;

use std::net::IpAddr;

use guillemet_plugin::{Document, Feature, Fields, Target, Text, encode};

const TEXT: &str = "text/plain; charset=utf-8";

struct SipTrunk;

guillemet_plugin::export!(SipTrunk);

/// The fields of the config.
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
        Target { id: "pjsip", title: "Asterisk", media_type: TEXT, file_name: "pjsip_trunk.conf" },
        Target { id: "freeswitch", title: "FreeSWITCH", media_type: "application/xml", file_name: "gateway.xml" },
        Target { id: "kamailio", title: "Kamailio", media_type: TEXT, file_name: "kamailio_trunk.cfg" },
        Target { id: "baresip", title: "baresip", media_type: TEXT, file_name: "accounts" },
        Target { id: "vapi", title: "Vapi", media_type: "application/json", file_name: "credential.json" },
    ];

    fn plan(config: &Fields, target: &str) -> Document {
        let trunk = Trunk::read(config);
        match target {
            "pjsip" => pjsip::write(config, &trunk),
            "freeswitch" => freeswitch::write(config, &trunk),
            "kamailio" => kamailio::write(config, &trunk),
            "baresip" => baresip::write(config, &trunk),
            "vapi" => vapi::write(config, &trunk),
            _ => livekit::write(config, &trunk),
        }
    }
}

impl<'a> Trunk<'a> {
    fn read(config: &Fields<'a>) -> Self {
        let host = |text: Text<'a>| text.check(is_host_port, "must be host or host:port, without `sip:`");
        let number = |text: Text<'a>| text.check(is_e164, "must be a number in E.164, like +493012345678");
        let address =
            |text: Text<'a>| text.check(is_network, "must be an IP address, or a network like 203.0.113.0/24");
        let plain =
            |text: Text<'a>| text.check(|text| !text.contains(char::is_control), "must not contain control characters");
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
            config.problem(missing, "is required: set both user and password, or neither");
        }
        if trunk.termination_uri.is_none() && (!trunk.inbound || trunk.register) {
            config.problem("termination_uri", "is required if the trunk calls out or registers");
        }
        trunk
    }

    /// Returns the user and the password, if both are given.
    fn credentials(&self) -> Option<(&Text<'a>, &Text<'a>)> {
        self.username.as_ref().zip(self.password.as_ref())
    }

    /// Returns the name if it consists of letters, digits, `-` and `_`; any other is noted. `names` says what the
    /// target calls by this name.
    fn word(&self, names: &str) -> &str {
        let Some(name) = &self.name else { return "" };
        if name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)) {
            return name;
        }
        name.problem(format!("names {names}: use letters, digits, `-` or `_` for this target"));
        ""
    }

    /// Returns the carrier's host, and its port if one is given.
    fn server(&self) -> Option<(&str, Option<&str>)> {
        let uri = self.termination_uri.as_deref()?;
        let host = uri.len() - uri.rsplit(']').next().map_or(0, str::len);
        let at = uri[host..].find(':').map_or(uri.len(), |colon| host + colon);
        Some((&uri[..at], uri.get(at + 1..)))
    }

    /// Returns `;transport=tls` or similar, if the config sets the transport.
    fn transport_parameter(&self) -> String {
        self.transport.map(|transport| format!(";transport={transport}")).unwrap_or_default()
    }

    /// Notes a problem unless the trunk calls out or registers. `otherwise` says how the target recognizes callers.
    fn must_call_out(&self, config: &Fields, otherwise: &str) {
        if self.inbound && !self.register {
            let message = format!("must be `outbound` for this target, or `register` true: {otherwise}");
            config.problem("direction", message);
        }
    }

    /// Notes a problem if the trunk registers without a user and a password.
    fn must_know_who_registers(&self, config: &Fields) {
        if self.register && self.credentials().is_none() {
            config.problem("register", "needs `username` and `password`");
        }
    }

    /// Returns the realm for a digest that is computed here.
    fn digest_realm(&self) -> Option<&Text<'a>> {
        let realm = self.realm.as_ref()?;
        if realm.contains(':') {
            realm.problem("must not contain `:`, which separates user, realm and password in a digest");
        }
        Some(realm)
    }

    /// Warns about fields that are given but left out, each with the reason.
    fn leaves_out(&self, config: &Fields, fields: &[(&'static str, &str)]) {
        let given = |name: &str| match name {
            "termination_uri" => self.termination_uri.is_some(),
            "transport" => self.transport.is_some(),
            "realm" => self.realm.is_some(),
            "numbers" => !self.numbers.is_empty(),
            "allowed_ips" => !self.allowed_ips.is_empty(),
            "register" => self.register,
            _ => false,
        };
        for (name, why) in fields.iter().filter(|(name, _)| given(name)) {
            config.warning(name, format!("is left out: {why}"));
        }
    }
}

/// Returns the text without characters that a target cannot hold: each entry of `refused` has such characters and the
/// reason. Literal text with one of them is a problem of the field; a secret's value is checked when it is filled in.
fn without(text: &Text, refused: &[(&str, &str)]) -> String {
    refused.iter().fold(text.get().to_owned(), |value, (characters, reason)| {
        // A slot contains none of these characters.
        if text.contains(|c| characters.contains(c)) {
            text.problem(*reason);
        } else if encode::has_secret(text) {
            return encode::forbid(&value, characters, reason);
        }
        value
    })
}

/// Returns whether a text is `host` or `host:port`. The host is a name, an IPv4 address, or an IPv6 address in
/// brackets.
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

/// Returns whether a text is `+` and two to fifteen digits, the first of which is not zero.
fn is_e164(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or_default();
    (2..=15).contains(&digits.len()) && !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit())
}

/// Returns whether a text is an IP address, or a network in CIDR notation.
fn is_network(text: &str) -> bool {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    bits.is_none_or(|bits| bits.parse::<u8>().is_ok_and(|bits| bits <= most))
}
