//! Kamailio: what its `uac` module needs to log in at a carrier, as a file that `kamailio.cfg` includes.
//!
//! Facts [kamailio 5.6.3 and main: src/core/cfg.lex, src/modules/uac/{auth,auth_hdr,uac_reg}.c and its README, read
//! 2026-11; tried with Debian's kamailio 5.6.3 by tests/it/consumers_sip.rs]:
//! - `credential` is `user:realm:password`. User and realm end at a `:` or a blank, the password at a blank. A
//!   credential is found by the realm that the carrier names.
//! - If the realm is known, HA1 takes the place of the password; `uac_auth("1")` reads it as such.
//! - A registration is a row of `uacreg`, which `uac.reg_add` adds while Kamailio runs; its `auth_ha1` takes precedence
//!   over its `auth_password`. Here it is JSON in a string with pseudo-variables, where `$$` is a `$`.
//! - The user is written into a header between quotes, without escapes.

use guillemet_plugin::{Document, Fields, Text, encode, json};

use crate::{Trunk, without};

/// The number of seconds until a registration is renewed.
const EXPIRES: u64 = 3600;

/// The characters that C counts as blanks.
const BLANKS: &str = " \t\n\r\u{b}\u{c}";

const USER: &[(&str, &str)] = &[
    (":", "a Kamailio user cannot contain `:`, which separates user, realm and password"),
    (BLANKS, "a Kamailio user cannot contain a space, which ends it"),
    ("\"\\", "a Kamailio user cannot contain `\"` or `\\`: it goes into a header without escapes"),
];
const REGISTERED_USER: &[(&str, &str)] =
    &[("$", "a Kamailio user that registers cannot contain `$`, which starts a variable there")];
const PASSWORD: &[(&str, &str)] =
    &[(BLANKS, "a Kamailio password cannot contain a space, which ends it; set `realm` to use a digest instead")];

/// Writes the file: a route to the carrier, a credential, and a registration if one is wanted.
pub fn write(config: &Fields, trunk: &Trunk) -> Document {
    let name = trunk.word("routes of kamailio.cfg");
    trunk.must_call_out(config, "Kamailio authenticates incoming calls in its script");
    trunk.must_know_who_registers(config);
    trunk.leaves_out(
        config,
        &[
            ("numbers", "Kamailio routes numbers in its script"),
            ("allowed_ips", "Kamailio keeps addresses in its `permissions` module or in its script"),
        ],
    );
    let mut file = format!(
        "# SIP trunk {name}: include this file in kamailio.cfg, behind the lines that load modules, with\n\
         #   include_file \"kamailio_trunk.cfg\"\n"
    );
    let server = trunk.termination_uri.as_deref().map(|server| format!("sip:{server}{}", trunk.transport_parameter()));
    if let Some(server) = &server {
        file.push_str(&format!(
            "\n# The way to the carrier: route(\"{name}\"), then t_relay().\n\
             route[\"{name}\"] {{\n    $du = {};\n}}\n",
            encode::kamailio_string(server)
        ));
    }
    if let Some((username, password)) = trunk.credentials() {
        credential(&mut file, config, trunk, (username, password));
        if let (true, Some(server)) = (trunk.register, &server) {
            registration(&mut file, trunk, name, server, (username, password));
        }
    }
    Document::Text(file)
}

/// Writes the credential that answers a challenge.
fn credential(file: &mut String, config: &Fields, trunk: &Trunk, (username, password): (&Text, &Text)) {
    let user = without(username, USER);
    let (triple, mode) = match trunk.digest_realm() {
        Some(realm) => {
            if realm.contains(|c| BLANKS.contains(c) || c == '"' || c == '\\') {
                realm.problem("must not contain a space, `\"` or `\\` for this target, which could not find it again");
            }
            let ha1 = encode::sip_digest_ha1(username, realm, password, "MD5");
            (format!("{user}:{}:{ha1}", realm.get()), "\"1\"")
        }
        None => {
            let host = trunk.server().map_or("", |(host, _)| host);
            if trunk.register {
                config.problem("realm", "is required with `register`, which uses a digest");
            } else if host.contains(':') {
                config.problem("realm", "is required: Kamailio looks up the password by the carrier's realm");
            } else {
                let message = format!(
                    "is assumed to be `{host}`: Kamailio looks up the password by the carrier's realm, and with \
                     `realm` set it gets a digest instead of the password"
                );
                config.warning("realm", message);
            }
            (format!("{user}:{host}:{}", without(password, PASSWORD)), "")
        }
    };
    file.push_str(&format!(
        "\n# Answers a challenge, in a failure_route that calls uac_auth({mode}).\n\
         modparam(\"uac\", \"credential\", {})\n",
        encode::kamailio_string(&triple)
    ));
}

/// Writes a route that adds the trunk to what Kamailio registers.
fn registration(file: &mut String, trunk: &Trunk, name: &str, server: &str, (username, password): (&Text, &Text)) {
    let (Some(realm), Some(host)) = (&trunk.realm, &trunk.termination_uri) else { return };
    let ha1 = encode::sip_digest_ha1(username, realm, password, "MD5");
    let user = without(username, REGISTERED_USER);
    // l_uuid, l_username, l_domain, r_username, r_domain, realm, auth_username, auth_password, auth_ha1, auth_proxy,
    // expires, flags, reg_delay, socket, contact_addr; a dot leaves a value out.
    let row = json!([
        name,
        name,
        host.get(),
        encode::url_query(username),
        host.get(),
        realm.get(),
        user,
        ".",
        ha1,
        server,
        EXPIRES,
        0,
        0,
        "",
        "."
    ]);
    let call = json!({"jsonrpc": "2.0", "method": "uac.reg_add", "params": row, "id": 1});
    file.push_str(&format!(
        "\n# Registers, once this is called: event_route[core:worker-one-init] {{ route(\"{name}-register\"); }}\n\
         # It needs jsonrpcs.so, and of uac the parameters reg_db_url, reg_contact_addr and reg_retry_interval, without which\n\
         # a registration that fails once is not tried again.\n\
         route[\"{name}-register\"] {{\n    jsonrpc_exec({});\n}}\n",
        encode::kamailio_string(&call.to_string().replace('$', "$$"))
    ));
}
