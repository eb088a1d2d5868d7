//! baresip: a line of its accounts file.
//!
//! Facts [baresip 1.0.0 and main: src/account.c, modules/account/account.c; libre 1.1.0: src/sip/auth.c; read 2026-11;
//! tried with Debian's baresip 1.0.0 by tests/it/consumers_sip.rs]: `encode::baresip_parameter` describes how values
//! are read. A line is cut after 511 bytes. The user that logs in is `auth_user`, which is written into a header
//! between quotes without escapes. The user of the address is in a URI, so it is percent-encoded.

use guillemet_plugin::{Document, Fields, encode};

use crate::{Trunk, without};

/// The most bytes of a line.
const LINE: usize = 511;
/// The most bytes that `baresip_parameter` makes of a secret.
const VALUE: usize = 128;

const USER: &[(&str, &str)] =
    &[("\"\\", "a baresip user cannot contain `\"` or `\\`: it goes into a header without escapes")];

/// Writes the line of the account.
pub fn write(config: &Fields, trunk: &Trunk) -> Document {
    trunk.must_call_out(config, "baresip does not authenticate incoming calls");
    trunk.must_know_who_registers(config);
    trunk.leaves_out(
        config,
        &[
            ("realm", "baresip answers every realm with the password"),
            ("numbers", "baresip accepts calls to any number"),
            ("allowed_ips", "baresip accepts calls from any address"),
        ],
    );
    let name = trunk.name.as_deref().unwrap_or_default();
    let server = trunk.termination_uri.as_deref().unwrap_or_default();
    let address = encode::baresip_parameter(&encode::url_query(trunk.username.as_deref().unwrap_or(name)));
    let mut values = vec![address.clone()];
    let mut line = format!("<sip:{address}@{server}{}>", trunk.transport_parameter());
    line.push_str(if trunk.register { ";regint=3600" } else { ";regint=0" });
    if let Some((username, password)) = trunk.credentials() {
        let user = encode::baresip_parameter(&without(username, USER));
        let password = encode::baresip_parameter(password);
        line.push_str(&format!(";auth_user={user};auth_pass={password}"));
        values.extend([user, password]);
    }
    let secrets = values.iter().filter(|value| encode::has_secret(value));
    let longest = line.len() + secrets.map(|slot| VALUE.saturating_sub(slot.len())).sum::<usize>();
    if longest > LINE {
        let message = format!(
            "is too long: baresip cuts a line after {LINE} bytes, and with this host, user and password it can have at \
             most {longest}"
        );
        config.problem("termination_uri", message);
    }
    Document::Text(format!("# SIP trunk {name}: put the line below into baresip's accounts file.\n{line}\n"))
}
