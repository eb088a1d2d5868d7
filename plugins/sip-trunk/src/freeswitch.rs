//! FreeSWITCH: a gateway of a SIP profile, as XML that `sip_profiles/external/*.xml` includes.
//!
//! Facts [signalwire/freeswitch: sofia.c, sofia_reg.c, switch_xml.c; sofia-sip: auth_client.c, auc_credentials;
//! Debian's sofia-sip 1.12.11; read 2026-11]:
//! - Lines are processed before the XML is parsed: `$${x}` is expanded, a line with `<include>` is left out, and one
//!   with `X-PRE-PROCESS` is a command. `encode::xml` writes nothing that looks like these.
//! - User and password go to sofia-sip in one text, `scheme:"realm":user:password`, which it splits at each `:`. The
//!   part of a password behind its first `:` is lost silently.
//! - sofia-sip writes the user between quotes, without escapes. The user of an address is `username`, and the one that
//!   logs in is `auth-username`, so the first is percent-encoded.
//! - The text is cut after 255 bytes. The realm is the one that the carrier names, so there is room for one of 64
//!   bytes.

use guillemet_plugin::{Document, Fields, encode};

use crate::{Trunk, without};

const USER: &[(&str, &str)] = &[
    (":", "a FreeSWITCH user cannot contain `:`: it passes user and password on as one text, split at `:`"),
    ("\"\\", "a FreeSWITCH user cannot contain `\"` or `\\`: it goes into a header without escapes"),
];
const PASSWORD: &[(&str, &str)] =
    &[(":", "a FreeSWITCH password cannot contain `:`: FreeSWITCH would silently cut off the rest")];

/// The most bytes of a user. With `PASSWORD_MAX`, `Digest:""::` and a realm of 64 bytes, the text has 255 bytes.
const USER_MAX: u32 = 64;
const PASSWORD_MAX: u32 = 116;
const LENGTH: &str = "too long for FreeSWITCH, which cuts realm, user and password off after 255 bytes together: 64 bytes of \
                      user and 116 of password are sure to fit";

/// Writes the gateway as XML.
pub fn write(config: &Fields, trunk: &Trunk) -> Document {
    let name = trunk.word("the gateway in dial strings");
    trunk.must_call_out(config, "FreeSWITCH identifies callers by its directory or an ACL, not by a gateway");
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
        parameter("auth-username", &encode::at_most(&without(username, USER), USER_MAX, LENGTH));
        parameter("password", &encode::at_most(&without(password, PASSWORD), PASSWORD_MAX, LENGTH));
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
