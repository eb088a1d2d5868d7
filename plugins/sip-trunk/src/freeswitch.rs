//! FreeSWITCH: a gateway of a SIP profile, as XML that `sip_profiles/external/*.xml` takes in.
//!
//! Facts [signalwire/freeswitch: sofia.c, sofia_reg.c, switch_xml.c; sofia-sip: auth_client.c, auc_credentials;
//! Debian's sofia-sip 1.12.11; read 2026-11]:
//! - The lines are looked at before the XML is parsed: `$${x}` is expanded, a line with `<include>` is left
//!   out, and one with `X-PRE-PROCESS` is a command. `encode::xml` writes nothing that looks like one.
//! - User and password go to sofia-sip in one text, `scheme:"realm":user:password`, which it cuts up at each
//!   `:`. A password behind its first `:` is lost without a word.
//! - sofia-sip writes the user between quotes, without escapes. The user of an address is `username`, the one
//!   that logs in `auth-username`, so the first is percent-encoded.
//! - The text is cut after 255 bytes, which leaves some 150 for the password. There is no telling here how long
//!   a value is.

use guillemet_plugin::{Document, Fields, encode};

use crate::{Trunk, without};

const USER: &[(&str, &str)] = &[
    (":", "a FreeSWITCH user may not hold `:`: it hands user and password on in one text that is divided there"),
    ("\"\\", "a FreeSWITCH user may not hold `\"` or `\\`: it goes into a header without escapes"),
];
const PASSWORD: &[(&str, &str)] =
    &[(":", "a FreeSWITCH password may not hold `:`: what stands behind it would be cut off without a word")];

/// Writes the gateway.
pub fn write(config: &Fields, trunk: &Trunk) -> Document {
    let name = trunk.word("the gateway in dial strings");
    trunk.must_call_out(config, "FreeSWITCH knows who calls in by its directory or by an ACL, not by a gateway");
    trunk.must_know_who_registers(config);
    trunk.leaves_out(
        config,
        &[
            ("numbers", "FreeSWITCH routes numbers in its dialplan"),
            ("allowed_ips", "FreeSWITCH keeps addresses in an ACL of the profile"),
        ],
    );
    let mut file = format!(
        "<!-- A SIP trunk: put this file into sip_profiles/external. Calls go to sofia/gateway/, its name and /number. \
         -->\n<include>\n  <gateway name=\"{}\">\n",
        encode::xml(name)
    );
    let mut parameter = |name: &str, value: &str| {
        file.push_str(&format!("    <param name=\"{name}\" value=\"{}\"/>\n", encode::xml(value)));
    };
    if let Some((username, password)) = trunk.credentials() {
        parameter("username", &encode::url_query(username));
        parameter("auth-username", &without(username, USER));
        parameter("password", &without(password, PASSWORD));
    }
    if let Some((host, _)) = trunk.server() {
        parameter("realm", trunk.realm.as_deref().unwrap_or(host));
        parameter("from-domain", host);
    }
    if let Some(server) = &trunk.termination_uri {
        parameter("proxy", server);
    }
    if let Some(transport) = trunk.transport {
        parameter("register-transport", transport);
    }
    parameter("register", if trunk.register { "true" } else { "false" });
    file.push_str("  </gateway>\n</include>\n");
    Document::Text(file)
}
