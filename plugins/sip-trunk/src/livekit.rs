//! LiveKit SIP: the body of the request that creates a trunk.
//!
//! Facts [livekit/protocol, livekit_sip.proto: SIPOutboundTrunkInfo, SIPInboundTrunkInfo, 2026-07]: the trunk is state
//! on the server, so a new password needs an update call. JSON can hold any value.

use guillemet_plugin::{Document, Fields, Text, json, json_document, present};

use crate::Trunk;

/// Writes `SIPOutboundTrunkInfo` or `SIPInboundTrunkInfo`, in the request that creates it.
pub fn write(config: &Fields, trunk: &Trunk) -> Document {
    let texts =
        |texts: &[Text]| (!texts.is_empty()).then(|| texts.iter().map(|text| json!(text.get())).collect::<Vec<_>>());
    let numbers = texts(&trunk.numbers);
    trunk.leaves_out(
        config,
        &[
            ("register", "LiveKit does not register; the carrier must send calls to its address"),
            ("realm", "LiveKit answers every realm with the password"),
        ],
    );
    let fields = if trunk.inbound {
        trunk.leaves_out(
            config,
            &[
                ("termination_uri", "an inbound LiveKit trunk makes no calls"),
                ("transport", "LiveKit accepts calls over every transport"),
            ],
        );
        if numbers.is_none() && trunk.allowed_ips.is_empty() && trunk.username.is_none() {
            config.problem(
                "",
                "anyone could call in: LiveKit needs `numbers`, `allowed_ips`, or `username` and `password`",
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
        trunk.leaves_out(config, &[("allowed_ips", "LiveKit checks the caller's address only on inbound trunks")]);
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
