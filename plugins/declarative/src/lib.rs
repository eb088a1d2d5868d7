//! The component of every declarative plugin: it reads a config as a definition says, and fills in the documents.
//!
//! `guillemet plugin build` writes the definition into [`DEFINITION`]. Without one, the component is of no use.
//! Knows nothing of plugin.toml: the program has read and checked it.

// Elsewhere there is nothing of it: what it does is tested as a component.
#![cfg(target_arch = "wasm32")]

mod config;
mod definition;
mod document;
mod encoders;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU8, Ordering};

use guillemet_plugin::{Planned, Problem, contract};

use self::definition::{CAPACITY, Definition};

/// The definition, as [`CAPACITY`] says. The program finds its place by this name, and fills it in: atomics, because
/// the compiler takes nothing for granted about their content.
#[unsafe(no_mangle)]
pub static DEFINITION: [AtomicU8; CAPACITY] = [const { AtomicU8::new(0) }; CAPACITY];

static PLUGIN: LazyLock<Definition> = LazyLock::new(|| {
    let byte = |byte: &AtomicU8| byte.load(Ordering::Relaxed);
    let (length, bytes) = DEFINITION.split_at(4);
    let length = u32::from_le_bytes(std::array::from_fn(|index| byte(&length[index])));
    let bytes: Vec<u8> = bytes.iter().take(length as usize).map(byte).collect();
    serde_json::from_slice(&bytes).expect("`guillemet plugin build` writes a definition")
});

struct Declarative;

impl contract::Guest for Declarative {
    fn describe() -> contract::Description {
        guillemet_plugin::tell_panics();
        let target = |target: &definition::Target| contract::Target {
            id: target.id.clone(),
            title: target.title.clone(),
            media_type: target.media_type.clone(),
            file_name: target.file_name.clone(),
        };
        contract::Description {
            feature: PLUGIN.feature.clone(),
            title: PLUGIN.title.clone(),
            version: PLUGIN.version.clone(),
            schema: PLUGIN.schema.clone(),
            secret_fields: PLUGIN.secret_fields.clone(),
            targets: PLUGIN.targets.iter().map(target).collect(),
        }
    }

    fn plan(config: String, target: String) -> Result<Planned, Vec<Problem>> {
        let targets: Vec<&str> = PLUGIN.targets.iter().map(|target| target.id.as_str()).collect();
        guillemet_plugin::plan(&PLUGIN.feature, &targets, &config, &target, |config| {
            let target = PLUGIN.targets.iter().find(|known| known.id == target)?;
            let values = config::read(config, &PLUGIN.fields, target.json);
            // A field that is wrong reads as absent, which no document has to expect.
            if config.notes().has_problems() {
                return None;
            }
            Some(document::write(&PLUGIN, target, values).unwrap_or_else(|message| give_up(&message)))
        })
    }
}

/// Ends the call, and tells the author why: a document with a mistake is no fault of the config.
fn give_up(message: &str) -> ! {
    guillemet_plugin::encode::panic(message);
    std::process::abort()
}

guillemet_plugin::bindings::export_component!(Declarative with_types_in guillemet_plugin::bindings);
