//! The plugins that are part of the program, as `build.rs` made them, and the module of declarative ones.
//!
//! Knows nothing of how a plugin runs: here, a component is bytes.

pub mod declarative;
pub mod wasm;

/// A plugin that is part of the program.
#[derive(Clone, Copy)]
pub struct Builtin {
    /// The feature that it implements; also the folder of its templates.
    pub feature: &'static str,
    /// The bytes of its WASM component.
    pub component: &'static [u8],
}

/// Every built-in plugin, one for each feature.
pub const ALL: [Builtin; 4] = [
    Builtin { feature: "cal-com", component: include_bytes!(concat!(env!("OUT_DIR"), "/cal-com.wasm")) },
    Builtin { feature: "sip-trunk", component: include_bytes!(concat!(env!("OUT_DIR"), "/sip-trunk.wasm")) },
    Builtin { feature: "mcp-server", component: include_bytes!(concat!(env!("OUT_DIR"), "/mcp-server.wasm")) },
    Builtin { feature: "custom-action", component: include_bytes!(concat!(env!("OUT_DIR"), "/custom-action.wasm")) },
];
