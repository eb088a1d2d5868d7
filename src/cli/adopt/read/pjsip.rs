//! Reads a trunk from Asterisk's pjsip.conf: an endpoint with the auth, aor, registration and identify sections that
//! belong to it.
//!
//! The names of sections have no meaning beyond linking them, except for the endpoint's own name.

use zeroize::Zeroizing;

use super::asterisk::{self, Section, Setting};
use crate::cli::adopt::config::{ConfigLeaf, ConfigNode, ConfigTable, Reading};
use crate::cli::adopt::equivalence::Facts;
use crate::cli::adopt::source::{Problems, SourceFile};
use crate::cli::adopt::tokens::{Quoting, Tokens};
use guillemet_plan::encode;
use guillemet_plan::expr::{DigestAlgorithm, Op};
use guillemet_template::Format;

/// A trunk: an endpoint and the sections it refers to or is referred to by.
struct PjsipTrunk<'a> {
    endpoint: &'a Section,
    auth: Option<&'a Section>,
    /// Whether the auth is for incoming calls, so that callers have to know it.
    inbound: bool,
    aor: Option<&'a Section>,
    registration: Option<&'a Section>,
    identify: Option<&'a Section>,
}

impl<'a> PjsipTrunk<'a> {
    fn of(sections: &'a [Section], endpoint: &'a Section) -> Self {
        let named = |kind: &str, key: &str| {
            let name = endpoint.get(key)?.value.split(',').next()?.trim().to_owned();
            sections.iter().find(|section| section.kind() == kind && section.name == name)
        };
        let (outbound_auth, inbound_auth) = (named("auth", "outbound_auth"), named("auth", "auth"));
        let auth = outbound_auth.or(inbound_auth);
        let of_endpoint = |section: &&Section, key| section.get(key).is_some_and(|line| *line.value == endpoint.name);
        let same_auth = |section: &&Section| {
            let name = section.get("outbound_auth").map(|line| line.value.as_str());
            name.is_some() && name == auth.map(|auth| auth.name.as_str())
        };
        let mut registrations = sections.iter().filter(|section| section.kind() == "registration");
        Self {
            endpoint,
            auth,
            inbound: outbound_auth.is_none() && inbound_auth.is_some(),
            aor: named("aor", "aors"),
            registration: registrations.find(|section| of_endpoint(section, "endpoint") || same_auth(section)),
            identify: sections.iter().find(|section| section.kind() == "identify" && of_endpoint(section, "endpoint")),
        }
    }

    /// Returns the meaning of the trunk for Asterisk.
    fn facts(&self) -> Facts {
        let mut facts = Facts::default();
        facts.text("name", &self.endpoint.name);
        let parts = [
            ("auth", self.auth),
            ("aor", self.aor),
            ("endpoint", Some(self.endpoint)),
            ("identify", self.identify),
            ("registration", self.registration),
        ];
        for (kind, section) in parts {
            let Some(section) = section else { continue };
            let mut keys: Vec<&str> = Vec::new();
            for line in section.lines.iter().filter(|line| line.key != "type") {
                if !keys.contains(&line.key.as_str()) {
                    keys.push(&line.key);
                    self.fact(&mut facts, kind, section, line);
                }
            }
            // This is Asterisk's default.
            if kind == "auth" && section.get("auth_type").is_none() {
                facts.text("auth.auth_type", "digest");
            }
        }
        facts
    }

    fn fact(&self, facts: &mut Facts, kind: &str, section: &Section, line: &Setting) {
        let path = format!("{kind}.{}", line.key);
        let joined = || {
            let of_key = section.lines.iter().filter(|other| other.key == line.key);
            of_key.map(|line| line.value.replace(' ', "")).collect::<Vec<_>>().join(",")
        };
        let names = |other: Option<&Section>| other.is_some_and(|other| *line.value == other.name);
        match line.key.as_str() {
            "allow" | "disallow" | "match" => facts.text(&path, &joined()),
            // `userpass` is an older name of `digest`.
            "auth_type" => facts.text(&path, if *line.value == "userpass" { "digest" } else { &line.value }),
            "aors" if names(self.aor) => facts.text(&path, "(the aor above)"),
            "auth" | "outbound_auth" if names(self.auth) => facts.text(&path, "(the auth above)"),
            "endpoint" if *line.value == self.endpoint.name => facts.text(&path, "(the endpoint above)"),
            "password" if kind == "auth" => match digest(section, &line.value) {
                Some(digest) => facts.text("auth.password_digest", &digest),
                None => facts.text(&path, &line.value),
            },
            _ => facts.text(&path, &section.get(&line.key).unwrap_or(line).value),
        }
    }
}

/// Returns the realm that a password is limited to, if there is one.
fn realm(auth: &Section) -> Option<&str> {
    auth.get("realm").map(|line| line.value.as_str()).filter(|realm| !realm.is_empty() && *realm != "*")
}

/// Returns the digest that is equivalent to a password within one realm.
fn digest(auth: &Section, password: &str) -> Option<Zeroizing<String>> {
    let (realm, user) = (realm(auth)?, auth.get("username")?);
    let ha1 = encode::literal(&Op::SipDigestHa1(DigestAlgorithm::Md5), &[&user.value, realm, password]).ok()?;
    Some(Zeroizing::new(format!("MD5:{ha1}")))
}

/// Reads one trunk of a file. `requested` is its endpoint, which is needed if there are several.
pub fn read(source: &SourceFile, requested: Option<&str>, problems: &mut Problems<'_>) -> Option<Reading> {
    let sections = asterisk::read(&source.text, problems);
    let endpoint = choose(&sections, requested, problems)?;
    let trunk = PjsipTrunk::of(&sections, endpoint);
    let facts = trunk.facts();
    let mut tokens = Tokens::default();
    let mut config: ConfigTable = vec![("name".into(), endpoint.name.as_str().into())];
    let mut leaf = |line: &Setting| {
        let token = tokens.add(None, line.range.clone(), &line.value, Quoting::Asterisk);
        ConfigLeaf::new(&line.value, Some(tokens.spot(token)))
    };
    if trunk.inbound {
        config.push(("direction".into(), "inbound".into()));
    }
    let server = trunk.registration.and_then(|section| section.get("server_uri"));
    let contact = server.or_else(|| trunk.aor?.get("contact"));
    let mut host = None;
    if let Some(line) = contact {
        match uri(&line.value) {
            Some((address, transport)) => {
                host = Some(address.split(':').next().unwrap_or_default().to_owned());
                config.push(("termination_uri".into(), address.into()));
                if let Some(transport) = transport {
                    config.push(("transport".into(), transport.into()));
                }
            }
            None => {
                let help = "use sip:host or sip:host:port, optionally followed by ;transport=udp, tcp or tls";
                problems.add(Some(line.range.start), &line.key, "is not a URI that a trunk supports", Some(help));
            }
        }
    }
    if let Some(auth) = trunk.auth {
        if let Some(user) = auth.get("username") {
            config.push(("username".into(), leaf(user).into()));
        }
        match (auth.get("password"), ["password_digest", "md5_cred"].iter().find_map(|key| auth.get(key))) {
            (Some(password), _) => {
                config.push(("password".into(), leaf(password).credential("password", super::PASSWORD).into()));
            }
            (None, Some(digest)) => {
                let help = "put the password there; Guillemet computes the digest";
                problems.add(Some(digest.range.start), &digest.key, "contains a digest, not the password", Some(help));
            }
            (None, None) => problems.add(Some(auth.at), "auth", "has no password", None),
        }
        if let Some(realm) = realm(auth) {
            config.push(("realm".into(), realm.into()));
        }
    } else {
        let help = "set one with `outbound_auth` (outgoing calls) or `auth` (incoming calls)";
        problems.add(Some(endpoint.at), &endpoint.name, "has no auth section, so no password", Some(help));
    }
    let addresses = trunk.identify.into_iter().flat_map(|section| &section.lines).filter(|line| line.key == "match");
    let addresses: Vec<ConfigNode> =
        addresses.flat_map(|line| line.value.split(',')).map(|address| address.trim().into()).collect();
    if !addresses.is_empty() {
        config.push(("allowed_ips".into(), ConfigNode::List(addresses)));
    }
    if trunk.registration.is_some() {
        config.push(("register".into(), ConfigNode::Other(true.into())));
    }
    Some(Reading {
        config,
        target: "pjsip",
        facts,
        read: Box::new(read_document),
        tokens,
        notes: other_endpoints(&sections, endpoint),
        host,
        format: Format::Toml,
    })
}

/// Returns a note about the endpoints that are not read, if there are any.
fn other_endpoints(sections: &[Section], endpoint: &Section) -> Vec<String> {
    let others = sections.iter().filter(|section| section.kind() == "endpoint" && !section.is_template);
    let others: Vec<&str> = others.map(|section| section.name.as_str()).filter(|name| *name != endpoint.name).collect();
    if others.is_empty() {
        return Vec::new();
    }
    vec![format!("other endpoints, which are not adopted: {}", others.join(", "))]
}

/// Returns the endpoint to read.
fn choose<'a>(sections: &'a [Section], requested: Option<&str>, problems: &mut Problems<'_>) -> Option<&'a Section> {
    let endpoints: Vec<&Section> =
        sections.iter().filter(|section| section.kind() == "endpoint" && !section.is_template).collect();
    let found = match (requested, endpoints.as_slice()) {
        (Some(requested), all) => all.iter().find(|section| section.name == requested).copied(),
        (None, [only]) => Some(*only),
        _ => None,
    };
    if found.is_none() {
        let names: Vec<&str> = endpoints.iter().map(|section| section.name.as_str()).collect();
        let (message, help) = match (requested, names.len()) {
            (_, 0) => ("has no endpoint".to_owned(), "a trunk is a section with `type = endpoint`".to_owned()),
            (Some(requested), _) => {
                (format!("has no endpoint `{requested}`"), format!("choose one with --section: {}", names.join(", ")))
            }
            (None, count) => (
                format!("has {count} endpoints, but a template describes one"),
                format!("choose one with --section: {}", names.join(", ")),
            ),
        };
        problems.add(None, "", message, Some(&help));
    }
    found
}

/// Returns host and transport of `sip:[user@]host[:port][;transport=…]`.
fn uri(uri: &str) -> Option<(&str, Option<&str>)> {
    let rest = uri.trim_matches(['"', '<', '>']).strip_prefix("sip:")?;
    let (address, parameters) = rest.split_once(';').unwrap_or((rest, ""));
    let address = address.rsplit('@').next().unwrap_or_default();
    let transport = parameters.split(';').find_map(|parameter| parameter.strip_prefix("transport="));
    let is_supported = transport.is_none_or(|transport| matches!(transport, "udp" | "tcp" | "tls"));
    (!address.is_empty() && is_supported).then_some((address, transport))
}

/// Reads a rendered document, which has one trunk.
fn read_document(text: &str) -> Result<Facts, String> {
    // The file's name and the problems are never shown: the error below has no details.
    let source = SourceFile { label: String::new(), text: Zeroizing::new(text.to_owned()), file: None, mark: 0 };
    let mut problems = Problems::new(&source);
    let sections = asterisk::read(&source.text, &mut problems);
    let endpoint = sections.iter().find(|section| section.kind() == "endpoint");
    match endpoint {
        Some(endpoint) if problems.is_empty() => Ok(PjsipTrunk::of(&sections, endpoint).facts()),
        _ => Err("Asterisk could not read it".into()),
    }
}
