//! Asterisk's res_pjsip: sections that `pjsip.conf` includes.
//!
//! Facts [docs.asterisk.org, 2026-07]: `auth_type = digest` is known since 20.12, 21.7 and 22.2, and so is
//! `password_digest = MD5:…`, which replaces the password for one realm. URIs in a `key = value` line go through
//! `asterisk_value`, because a bare `;` begins a comment.

use guillemet_plugin::{Document, Fields, Text, encode};

use crate::Trunk;

/// Writes the sections of a trunk: endpoint and aor under its name, and the sections that belong to them.
pub fn write(config: &Fields, trunk: &Trunk) -> Document {
    let name = trunk.word("sections of Asterisk's configuration");
    let credentials = trunk.credentials();
    trunk.must_know_who_registers(config);
    trunk.leaves_out(config, &[("numbers", "Asterisk routes numbers in its dialplan")]);
    if trunk.inbound && credentials.is_none() && trunk.allowed_ips.is_empty() {
        config.problem("", "Asterisk could not identify callers: set `allowed_ips`, or `username` and `password`");
    }

    let mut file = Sections(format!(
        "; SIP trunk {name}: include this file in pjsip.conf with\n;   #include pjsip_trunk.conf\n; Calls from it enter the dialplan context from-{name}.\n"
    ));
    if let Some((username, password)) = credentials {
        file.section(&format!("{name}-auth"), "auth");
        file.line("auth_type", "digest");
        file.line("username", username);
        match trunk.digest_realm() {
            Some(realm) => {
                let ha1 = encode::sip_digest_ha1(username, realm, password, "MD5");
                file.line("realm", realm);
                file.line("password_digest", &format!("MD5:{ha1}"));
            }
            None => file.line("password", password),
        }
    }
    let server = trunk.termination_uri.as_ref().map(|host| uri(None, host, trunk));
    file.section(name, "aor");
    match &server {
        Some(server) => file.line("contact", server),
        None => file.line("max_contacts", "1"),
    }
    file.section(name, "endpoint");
    file.line("context", &format!("from-{name}"));
    file.line("disallow", "all");
    file.line("allow", "ulaw,alaw");
    file.line("aors", name);
    if credentials.is_some() {
        // A carrier that we register with or call asks us to log in; one that only calls in is asked by us.
        let asked = if trunk.inbound && !trunk.register { "auth" } else { "outbound_auth" };
        file.line(asked, &format!("{name}-auth"));
        if asked == "auth" {
            file.line("identify_by", "auth_username,ip");
        }
    }
    if !trunk.allowed_ips.is_empty() {
        file.section(&format!("{name}-identify"), "identify");
        file.line("endpoint", name);
        trunk.allowed_ips.iter().for_each(|address| file.line("match", address));
    }
    if let (true, Some(server), Some(host), Some((username, _))) =
        (trunk.register, &server, &trunk.termination_uri, credentials)
    {
        file.section(&format!("{name}-registration"), "registration");
        file.line("outbound_auth", &format!("{name}-auth"));
        file.line("server_uri", server);
        file.line("client_uri", &uri(Some(username), host, trunk));
        file.line("endpoint", name);
        file.line("line", "yes");
    }
    Document::Text(file.0)
}

/// Returns a SIP URI. The user is percent-encoded (RFC 3261, section 19.1.2).
fn uri(user: Option<&Text>, host: &str, trunk: &Trunk) -> String {
    let user = user.map(|user| format!("{}@", encode::url_query(user))).unwrap_or_default();
    format!("sip:{user}{host}{}", trunk.transport_parameter())
}

/// The file while it is written.
struct Sections(String);

impl Sections {
    fn section(&mut self, name: &str, kind: &str) {
        self.0.push_str(&format!("\n[{name}]\n"));
        self.line("type", kind);
    }

    /// Writes `key = value` with the spaces: without them, a leading `>` of the value would be lost.
    fn line(&mut self, key: &str, value: &str) {
        self.0.push_str(&format!("{key} = {}\n", encode::asterisk_value(value)));
    }
}
