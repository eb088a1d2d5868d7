//! The library for writing Guillemet plugins.
//!
//! A plugin knows one feature. It implements [`Feature`] and names itself in [`export!`]; [`Fields`] reads its config
//! and finds everything that is wrong with it; [`encode`] turns text that may contain secrets into what a place in the
//! document can hold.
//!
//! A secret never reaches a plugin. In its place the config has a slot: `Z` and 39 digits inside an ordinary string. So
//! a plugin places text, wraps it with `encode`, and asks [`encode::has_secret`] before it judges text by its
//! appearance; [`Text::check`] does that itself.
//!
//! Knows nothing of any feature, nor of what happens to a plan.

#[allow(missing_docs)]
#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "feature",
        pub_export_macro: true,
        export_macro_name: "export_component",
        default_bindings_module: "guillemet_plugin::bindings",
    });
}

mod fields;
pub mod http;
mod notes;
pub mod variables;

/// The encoders for text that may contain secrets; `wit/feature.wit` describes each.
#[cfg(target_arch = "wasm32")]
pub use bindings::guillemet::feature::encode;

#[cfg(not(target_arch = "wasm32"))]
pub mod cases;
#[cfg(not(target_arch = "wasm32"))]
pub mod encode;

pub use bindings::exports::guillemet::feature::plugin::{Document, Planned, Problem};
pub use fields::{Fields, Text};
pub use notes::Notes;
pub use serde_json::{Map, Value, json};

#[doc(hidden)]
pub use bindings::exports::guillemet::feature::plugin as contract;

/// An output format for one consumer.
pub struct Target {
    /// The id that `--target` takes.
    pub id: &'static str,
    /// The name for people.
    pub title: &'static str,
    /// The media type of the rendered config.
    pub media_type: &'static str,
    /// The usual name of the file.
    pub file_name: &'static str,
}

/// One kind of integration, such as an MCP server.
pub trait Feature {
    /// The id of the feature, and the name of the folder for its templates.
    const FEATURE: &'static str;
    /// The name for people.
    const TITLE: &'static str;
    /// The version of the plugin: `env!("CARGO_PKG_VERSION")`.
    const VERSION: &'static str;
    /// The JSON Schema of the config.
    const SCHEMA: &'static str;
    /// The fields that may contain secrets: `auth.token`, `headers.*` (one level), `body.**` (any depth).
    const SECRET_FIELDS: &'static [&'static str];
    /// The supported targets. The first is the default.
    const TARGETS: &'static [Target];

    /// Writes the config for a target, which is one of [`Self::TARGETS`].
    ///
    /// What is wrong goes to `config`, which reads a wrong field as absent, so that the plugin continues and the person
    /// sees everything at once. The document counts only if nothing was wrong. Every secret of the config has to be in
    /// it, and each slot exactly once.
    fn plan(config: &Fields, target: &str) -> Document;
}

/// Makes a JSON document. The host writes it again, with the escapes of the format.
pub fn json_document(value: Value) -> Document {
    Document::Json(value.to_string())
}

/// Returns an object without its null members, which are fields that the config leaves out.
pub fn present(mut object: Value) -> Value {
    if let Value::Object(members) = &mut object {
        members.retain(|_, value| !value.is_null());
    }
    object
}

/// Makes the host learn why and where a plugin panics. Set for each call, because every call gets a new instance.
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub fn tell_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(|place| format!(" ({place})")).unwrap_or_default();
        encode::panic(&format!("{message}{place}"));
    }));
}

/// Does nothing: outside a host, the program that runs the cases shows panics.
#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
pub fn tell_panics() {}

impl<F: Feature> contract::Guest for F {
    fn describe() -> contract::Description {
        tell_panics();
        contract::Description {
            feature: F::FEATURE.into(),
            title: F::TITLE.into(),
            version: F::VERSION.into(),
            schema: F::SCHEMA.into(),
            secret_fields: F::SECRET_FIELDS.iter().map(|&field| field.into()).collect(),
            targets: F::TARGETS
                .iter()
                .map(|target| contract::Target {
                    id: target.id.into(),
                    title: target.title.into(),
                    media_type: target.media_type.into(),
                    file_name: target.file_name.into(),
                })
                .collect(),
        }
    }

    fn plan(config: String, target: String) -> Result<Planned, Vec<Problem>> {
        let targets: Vec<_> = F::TARGETS.iter().map(|known| known.id).collect();
        plan(F::FEATURE, &targets, &config, &target, |config| Some(F::plan(config, &target)))
    }
}

/// Plans a config, JSON text, for one of the targets. `write` returns no document only if it noted a problem.
#[doc(hidden)]
pub fn plan(
    feature: &str,
    targets: &[&str],
    config: &str,
    target: &str,
    write: impl FnOnce(&Fields) -> Option<Document>,
) -> Result<Planned, Vec<Problem>> {
    tell_panics();
    let notes = Notes::default();
    let document = if !targets.contains(&target) {
        // A host asks for no other target. The message is the host's own.
        let message = format!("the feature {feature} has no target \"{target}\"");
        notes.problem("", message, Some(format!("choose one of: {}", targets.join(", "))));
        None
    } else if let Ok(Value::Object(object)) = serde_json::from_str(config) {
        write(&Fields::new(&object, String::new(), &notes))
    } else {
        notes.problem("", "the config must be a table of fields", None);
        None
    };
    notes.into_result(document)
}

/// Makes a [`Feature`] the plugin of this crate, and its `cases/*.toml` a test.
#[macro_export]
macro_rules! export {
    ($feature:ident) => {
        #[cfg(target_arch = "wasm32")]
        $crate::bindings::export_component!($feature with_types_in $crate::bindings);

        // Elsewhere only the cases call it; this keeps it from counting as dead code.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&$crate::Fields, &str) -> $crate::Document = <$feature as $crate::Feature>::plan;

        #[cfg(test)]
        #[test]
        fn cases() {
            $crate::cases::run::<$feature>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
        }
    };
}
