//! The component of a declarative plugin: one module for all of them, with a definition written into it.
//!
//! Knows nothing of what a definition says.

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{ConstExpr, DataCountSection, DataSection, Module, RawSection};
use wasmparser::{ExternalKind, Operator, Parser, Payload};

use super::wasm;

/// The module, as `build.rs` made it of `plugins/declarative`.
const MODULE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/declarative.wasm"));
/// The static of the module that gets the definition.
const PLACE: &str = "DEFINITION";

/// Returns the component that carries out a definition: a text of at most `capacity` bytes with its length, which
/// takes four.
///
/// # Errors
/// When the definition is too long.
pub fn component(definition: &[u8], capacity: usize) -> Result<Vec<u8>, String> {
    let room = capacity - 4;
    let length = u32::try_from(definition.len()).ok().filter(|_| definition.len() <= room);
    let Some(length) = length else {
        return Err(format!("the definition comes to {} bytes; at most {room} are allowed", definition.len()));
    };
    let content = [&length.to_le_bytes(), definition].concat();
    let module = filled(MODULE, &content).map_err(|error| format!("the module cannot be filled in: {error}"))?;
    wasm::componentize(&module)
}

/// Returns the module with `content` at the place of [`PLACE`], as one more data segment, which comes last.
fn filled(module: &[u8], content: &[u8]) -> Result<Vec<u8>, String> {
    let told = |error: wasmparser::BinaryReaderError| error.to_string();
    let address = address(module)?;
    let mut out = Module::new();
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.map_err(told)?;
        match &payload {
            Payload::DataCountSection { count, .. } => {
                out.section(&DataCountSection { count: count + 1 });
            }
            Payload::DataSection(section) => {
                let mut data = DataSection::new();
                let encoded = RoundtripReencoder.parse_data_section(&mut data, section.clone());
                encoded.map_err(|error| error.to_string())?;
                data.active(0, &ConstExpr::i32_const(address), content.iter().copied());
                out.section(&data);
            }
            _ => {
                if let Some((id, range)) = payload.as_section() {
                    out.section(&RawSection { id, data: &module[range] });
                }
            }
        }
    }
    Ok(out.finish())
}

/// Returns the address of [`PLACE`] in the module's memory. A static is exported as a global with its address.
fn address(module: &[u8]) -> Result<i32, String> {
    let told = |error: wasmparser::BinaryReaderError| error.to_string();
    let (mut addresses, mut place) = (Vec::new(), None);
    for payload in Parser::new(0).parse_all(module) {
        match payload.map_err(told)? {
            Payload::GlobalSection(globals) => {
                for global in globals {
                    let value = global.map_err(told)?.init_expr.get_operators_reader().read().map_err(told)?;
                    addresses.push(if let Operator::I32Const { value } = value { Some(value) } else { None });
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export.map_err(told)?;
                    if export.kind == ExternalKind::Global && export.name == PLACE {
                        place = Some(export.index as usize);
                    }
                }
            }
            _ => {}
        }
    }
    let address = place.and_then(|index| addresses.get(index).copied().flatten());
    address.ok_or_else(|| format!("it exports no address of {PLACE}"))
}
