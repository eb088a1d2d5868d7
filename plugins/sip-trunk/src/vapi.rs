//! Vapi: the body of the request that creates a `byo-sip-trunk` credential.
//!
//! Facts [@vapi-ai/server-sdk 2.0.1, 2026-09: CreateByoSipTrunkCredentialDto, SipTrunkGateway,
//! SipTrunkOutboundAuthenticationPlan, SipTrunkOutboundSipRegisterPlan]: a gateway that may call in has an IPv4
//! address, and one that is only called may have a name. User and password are for calls out and for registering.
//! Numbers are separate objects that name the credential. JSON can hold any value.

use std::net::Ipv4Addr;

use guillemet_plugin::{Document, Fields, Value, encode, json, json_document, present};

use crate::Trunk;

/// Writes the credential as JSON.
pub fn write(config: &Fields, trunk: &Trunk) -> Document {
    trunk.must_know_who_registers(config);
    trunk.leaves_out(config, &[("numbers", "Vapi manages numbers separately: create them with this credential's id")]);
    if !trunk.register {
        trunk.leaves_out(config, &[("realm", "Vapi uses a realm only to register")]);
    }
    let called = !trunk.inbound || trunk.register;
    if !called {
        if trunk.allowed_ips.is_empty() {
            config.problem("allowed_ips", "is required: Vapi identifies callers by address");
        }
        if let Some(username) = &trunk.username {
            username.problem("cannot be used: Vapi does not ask callers for a password; remove user and password");
        }
        let why = "this trunk makes no calls";
        trunk.leaves_out(config, &[("termination_uri", why), ("transport", why)]);
    }
    let mut gateways: Vec<Value> = Vec::new();
    if let (true, Some((host, port))) = (called, trunk.server()) {
        if host.starts_with('[') {
            config.problem("termination_uri", "must be a name or an IPv4 address for this target");
        }
        gateways.push(present(json!({
            "ip": host,
            "port": port.and_then(|port| port.parse::<u16>().ok()),
            "inboundEnabled": false,
            "outboundEnabled": true,
            "outboundProtocol": trunk.transport,
        })));
    }
    for allowed in &trunk.allowed_ips {
        let (address, bits) = allowed.split_once('/').map_or((allowed.get(), None), |(ip, bits)| (ip, Some(bits)));
        if address.parse::<Ipv4Addr>().is_err() {
            allowed.problem("must be an IPv4 address or network for this target");
        }
        gateways.push(present(json!({
            "ip": address,
            "netmask": bits.and_then(|bits| bits.parse::<u8>().ok()),
            "inboundEnabled": true,
            "outboundEnabled": false,
        })));
    }
    let plan = trunk.credentials().map(|(username, password)| {
        let registration = trunk.register.then(|| {
            present(json!({
                "domain": trunk.server().map(|(host, _)| host),
                // A second slot, because each slot may be in the document only once.
                "username": encode::forbid(username, "\r\n\0", "a SIP user cannot contain a line break or NUL"),
                "realm": trunk.realm.as_deref(),
            }))
        });
        present(json!({
            "authUsername": username.get(),
            "authPassword": password.get(),
            "sipRegisterPlan": registration,
        }))
    });
    json_document(present(json!({
        "provider": "byo-sip-trunk",
        "name": trunk.name.as_deref(),
        "gateways": gateways,
        "outboundAuthenticationPlan": plan,
    })))
}
