//! The plugins that come with the program, as `build.rs` made them.
//!
//! Knows no host: a component here is bytes.

/// A plugin of the program's own.
#[derive(Clone, Copy)]
pub struct Builtin {
    /// The feature it knows; the folder of its templates.
    pub feature: &'static str,
    /// The WASM component.
    pub component: &'static [u8],
}

/// All of them.
pub const ALL: [Builtin; 4] = [
    Builtin { feature: "cal-com", component: include_bytes!(concat!(env!("OUT_DIR"), "/cal-com.wasm")) },
    Builtin { feature: "sip-trunk", component: include_bytes!(concat!(env!("OUT_DIR"), "/sip-trunk.wasm")) },
    Builtin { feature: "mcp-server", component: include_bytes!(concat!(env!("OUT_DIR"), "/mcp-server.wasm")) },
    Builtin { feature: "custom-action", component: include_bytes!(concat!(env!("OUT_DIR"), "/custom-action.wasm")) },
];
