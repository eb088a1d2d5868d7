//! Runs a plugin's code in wasmtime: one store and one instance for each call, Cranelift, no pooling, a deadline, and
//! limits on memory.
//!
//! Knows nothing of templates. Whatever the plugin does, the call ends with an answer or with a `PluginError` and its
//! reason.

use std::time::{Duration, Instant};

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Config, Engine, Store, StoreContextMut, Strategy, Trap};

use self::bindings::exports::guillemet::feature::plugin as guest;
use self::bindings::guillemet::feature::encode::Escaping;
use self::limits::CallLimiter;
use super::encoder::{Encoder, PluginError, bytes_encoding, digest_algorithm, hmac_algorithm};
use guillemet_base::display::sanitize;
use guillemet_base::problem::{PROBLEMS_MAX, Problem, sanitize_problems};
use guillemet_plan::encode::{CharacterSet, ENCODERS, EncoderDefinition, EncoderOptions, EscapeTable, Signature};
use guillemet_plan::protocol::{
    About, BrokenRule, Cost, Description, DocumentKind, Import, LOG_MAX, Report, TIME_MAX, Target,
};
use guillemet_plan::{contract, slots};

/// The interval at which running code is checked against its deadline.
const TICK: Duration = Duration::from_millis(50);
/// The size of the plugin's stack, in bytes.
const STACK_MAX: usize = 512 << 10;
/// The most bytes and values that a plugin may pass in one call of the host or in its answer.
const TRANSFER_MAX: usize = 32 << 20;
/// The most characters of a plugin's message, or of a line of its log.
const MESSAGE_MAX: usize = 500;

/// The most imports that are reported, and the most functions of one.
const NAMES_MAX: usize = 200;
/// The most characters of such a name.
const NAME_MAX: usize = 80;

/// Generated from `wit/feature.wit`, for what plugins export; [`link_encode`] provides what they import. The unsafe
/// code in it is wasmtime's own, written by its macro.
#[allow(unsafe_code, missing_docs)]
mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "feature",
        imports: { default: trappable },
    });
}

mod limits;

/// The WebAssembly engine, its clock and the functions of the host.
pub struct Host {
    engine: Engine,
    linker: Linker<Call>,
}

/// A plugin that is ready to be called.
pub struct LoadedPlugin {
    engine: Engine,
    instance: InstancePre<Call>,
}

/// A plugin's answer to a config.
pub enum Written {
    /// The plugin wrote a document.
    Document {
        /// The text of the document, exactly as the plugin returned it.
        text: String,
        /// The syntax of the document: JSON or text.
        kind: DocumentKind,
        /// The plugin's warnings, tidied so that they can be shown.
        warnings: Vec<Problem>,
    },
    /// The plugin refused the config. The problems are tidied so that they can be shown.
    Problems(Vec<Problem>),
}

impl Host {
    /// Starts the engine, and the thread that advances its clock.
    ///
    /// # Errors
    /// Fails with [`PluginError`] if this machine cannot run the engine.
    pub fn new() -> Result<Self, PluginError> {
        let mut config = Config::new();
        config
            .strategy(Strategy::Cranelift)
            .epoch_interruption(true)
            .max_wasm_stack(STACK_MAX)
            .wasm_component_model(true)
            .memory_init_cow(false)
            .wasm_backtrace_max_frames(None)
            .concurrency_support(false);
        let fail = |error: wasmtime::Error| PluginError(format!("the plugin engine could not start: {error}"));
        let engine = Engine::new(&config).map_err(fail)?;
        let mut linker = Linker::new(&engine);
        link_encode(&mut linker).map_err(fail)?;
        let clock = engine.clone();
        let (started, running) = std::sync::mpsc::channel();
        let ticker = move || {
            let _ = started.send(());
            loop {
                std::thread::sleep(TICK);
                clock.increment_epoch();
            }
        };
        std::thread::Builder::new()
            .name("epoch".into())
            .stack_size(64 << 10)
            .spawn(ticker)
            .map_err(|error| PluginError(format!("the plugin engine could not start its clock: {error}")))?;
        // A thread makes system calls when it starts, which `confine::seal` forbids.
        running.recv().map_err(|_| PluginError("the plugin engine's clock stopped".into()))?;
        Ok(Self { engine, linker })
    }

    /// Compiles a component, or takes its compiled form, and asks it to describe itself. Returns a report of the
    /// findings, and, if nothing prevents its use, the plugin with its compiled form, which is empty if a compiled form
    /// was given.
    pub fn load(&self, bytes: &[u8], compiled: bool) -> (Report, Option<(LoadedPlugin, Vec<u8>)>) {
        let mut report = Report::default();
        let loaded = self.try_load(bytes, compiled, &mut report);
        let broken = |PluginError(sentence)| report.broken.push(BrokenRule { about: About::Component, sentence });
        let loaded = loaded.map_err(broken).ok().flatten();
        (report, loaded)
    }

    /// Does the steps of `load`. Returns `None` if the report contains the reason.
    fn try_load(
        &self,
        bytes: &[u8],
        compiled: bool,
        report: &mut Report,
    ) -> Result<Option<(LoadedPlugin, Vec<u8>)>, PluginError> {
        let started = Instant::now();
        let component = self.component(bytes, compiled)?;
        report.compile_micros = micros(started);
        let exports = self.interfaces(&component, report);
        let rule = |about| move |sentence| BrokenRule { about, sentence };
        report.broken.extend(contract::foreign_rule(&report.imports).map(rule(About::Imports)));
        report.broken.extend(contract::version_rules(&report.imports, &exports).into_iter().map(rule(About::Contract)));
        if !report.broken.is_empty() {
            return Ok(None);
        }
        let mismatch = |subject: &str, error: wasmtime::Error| {
            let contract = contract::version();
            PluginError(format!(
                "{subject} not match `guillemet:feature@{contract}`: {}",
                sanitize(&format!("{error:#}"), 300)
            ))
        };
        let instance = self.linker.instantiate_pre(&component).map_err(|error| mismatch("it does", error))?;
        bindings::FeaturePre::new(instance.clone()).map_err(|error| mismatch("its exports do", error))?;
        let plugin = LoadedPlugin { engine: self.engine.clone(), instance };
        let (description, cost) = plugin.describe(&mut report.log)?;
        report.describe = cost;
        match guillemet_plan::description::check(description.clone()) {
            Ok(description) => report.description = Some(description),
            Err(rules) => {
                report.description = Some(guillemet_plan::description::sanitized(description));
                report.broken = rules;
                return Ok(None);
            }
        }
        let form = if compiled {
            Vec::new()
        } else {
            component.serialize().map_err(|_| PluginError("its compiled form cannot be stored".into()))?
        };
        Ok(Some((plugin, form)))
    }

    fn component(&self, bytes: &[u8], compiled: bool) -> Result<Component, PluginError> {
        if compiled {
            return super::compiled::deserialize(&self.engine, bytes)
                .map_err(|_| PluginError("its compiled form was made by a different version".into()));
        }
        // `Component::new` would also accept the text format and compiled forms.
        if !bytes.starts_with(b"\0asm") {
            return Err(PluginError("it is not a WebAssembly component".into()));
        }
        Component::from_binary(&self.engine, bytes).map_err(|error| {
            PluginError(format!(
                "it is not a WebAssembly component of this contract: {}",
                sanitize(&format!("{error:#}"), 300)
            ))
        })
    }

    /// Records what a component imports, and returns the names of its exports. None of its code has run at this point.
    fn interfaces(&self, component: &Component, report: &mut Report) -> Vec<String> {
        let interface = component.component_type();
        let imports = interface.imports(&self.engine).take(NAMES_MAX).map(|(name, import)| Import {
            name: sanitize(name, NAME_MAX),
            functions: match import.ty {
                ComponentItem::ComponentInstance(instance) => {
                    let functions = instance.exports(&self.engine);
                    let functions = functions.filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)));
                    functions.take(NAMES_MAX).map(|(name, _)| sanitize(name, NAME_MAX)).collect()
                }
                _ => Vec::new(),
            },
        });
        report.imports = imports.collect();
        interface.exports(&self.engine).map(|(name, _)| name.to_owned()).collect()
    }
}

/// Returns the time since `started`, in microseconds.
fn micros(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX)
}

impl LoadedPlugin {
    fn describe(&self, log: &mut Vec<String>) -> Result<(Description, Cost), PluginError> {
        let Called { result: described, cost, .. } =
            self.call(Encoder::default(), log, |guest, store| guest.call_describe(store))?;
        let target = |target: guest::Target| Target {
            id: target.id,
            title: target.title,
            media_type: target.media_type,
            file_name: target.file_name,
            // Former names come from the schema.
            aliases: Vec::new(),
        };
        let description = Description {
            feature: described.feature,
            title: described.title,
            version: described.version,
            schema: described.schema,
            secret_fields: described.secret_fields,
            targets: described.targets.into_iter().map(target).collect(),
        };
        Ok((description, cost))
    }

    /// Asks the plugin to write a config for a target. Returns its answer, the encoder with the resulting expressions,
    /// and the cost of the call. Appends what it logs to `log`, even if the call fails.
    ///
    /// # Errors
    /// Fails with [`PluginError`] if the plugin traps, exceeds a limit or breaks a rule of the contract.
    pub fn plan(
        &self,
        encoder: Encoder,
        config: &str,
        target: &str,
        log: &mut Vec<String>,
    ) -> Result<(Written, Encoder, Cost), PluginError> {
        let Called { result: planned, encoder, cost, panic_message } =
            self.call(encoder, log, |guest, store| guest.call_plan(store, config, target))?;
        let problems = |problems: Vec<guest::Problem>| {
            let problems = problems.into_iter().take(PROBLEMS_MAX).map(|problem| Problem {
                path: problem.path,
                message: problem.message,
                help: problem.help,
                ..Problem::default()
            });
            sanitize_problems(problems.collect())
        };
        let written = match planned {
            Ok(guest::Planned { document, warnings }) => {
                let (text, kind) = match document {
                    guest::Document::Json(text) => (text, DocumentKind::Json),
                    guest::Document::Text(text) => (text, DocumentKind::Text),
                };
                Written::Document { text, kind, warnings: problems(warnings) }
            }
            // An exception in JavaScript arrives as a refusal, whatever was thrown.
            Err(reported) if reported.is_empty() && !panic_message.is_empty() => return Err(panicked(&panic_message)),
            Err(reported) if reported.is_empty() => {
                return Err(PluginError("it rejected the config without a reason".into()));
            }
            Err(reported) => Written::Problems(problems(reported)),
        };
        Ok((written, encoder, cost))
    }

    /// Makes one call in a store and an instance of its own, which never see another call.
    fn call<R>(
        &self,
        encoder: Encoder,
        log: &mut Vec<String>,
        function: impl FnOnce(&guest::Guest, &mut Store<Call>) -> wasmtime::Result<R>,
    ) -> Result<Called<R>, PluginError> {
        let started = Instant::now();
        let mut store = Store::new(
            &self.engine,
            Call { encoder, limits: CallLimiter::default(), panic_message: String::new(), log: Vec::new() },
        );
        store.limiter(|call| &mut call.limits);
        store.set_hostcall_fuel(TRANSFER_MAX);
        store.set_epoch_deadline(u64::try_from(TIME_MAX.as_millis() / TICK.as_millis()).unwrap_or(u64::MAX));
        let result = self.instance.instantiate(&mut store).and_then(|instance| {
            let feature = bindings::Feature::new(&mut store, &instance)?;
            function(feature.guillemet_feature_plugin(), &mut store)
        });
        let mut call = store.into_data();
        log.append(&mut call.log);
        match result {
            Ok(result) => {
                let cost = Cost { micros: micros(started), memory: call.limits.memory as u64 };
                Ok(Called { result, encoder: call.encoder, cost, panic_message: call.panic_message })
            }
            Err(error) => Err(explain(&error, &call)),
        }
    }
}

/// The result of a call that ended normally.
struct Called<R> {
    result: R,
    encoder: Encoder,
    cost: Cost,
    panic_message: String,
}

fn panicked(message: &str) -> PluginError {
    PluginError(format!("it panicked: {message}"))
}

/// Explains to people why a call has failed.
fn explain(error: &wasmtime::Error, call: &Call) -> PluginError {
    if let Some(message) = call.limits.overrun {
        return PluginError(message.to_owned());
    }
    if let Some(PluginError(rule)) = error.downcast_ref::<PluginError>() {
        return PluginError(rule.clone());
    }
    PluginError(match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => format!("it ran longer than {} s and was stopped", TIME_MAX.as_secs()),
        Some(_) if !call.panic_message.is_empty() => return panicked(&call.panic_message),
        Some(Trap::UnreachableCodeReached) => "it panicked".to_owned(),
        Some(Trap::StackOverflow) => "it recursed too deeply".to_owned(),
        // Rust keeps its own stack in linear memory.
        Some(Trap::MemoryOutOfBounds) => {
            "it accessed memory out of bounds (often because of deep recursion)".to_owned()
        }
        Some(trap) => format!("it trapped: {trap}"),
        None => format!("its response does not match the contract: {}", sanitize(&error.root_cause().to_string(), 200)),
    })
}

/// The state of one call of a plugin.
struct Call {
    encoder: Encoder,
    limits: CallLimiter,
    /// The last message passed to `encode.panic`, tidied so that it can be shown.
    panic_message: String,
    /// The messages passed to `encode.log`, tidied so that they can be shown.
    log: Vec<String>,
}

/// Returns a plugin's message as it can be shown, without any slot.
fn shown(message: &str) -> String {
    // Kept far longer than it is shown, so that no slot is cut at the visible end.
    let mut text = message[..message.floor_char_boundary(16 * MESSAGE_MAX)].to_owned();
    for at in slots::find(&text).into_iter().rev() {
        slots::replace(&mut text, at, "«secret»");
    }
    sanitize(&text, MESSAGE_MAX).trim().to_owned()
}

impl Call {
    fn log(&mut self, message: &str) {
        let room = LOG_MAX.saturating_sub(self.log.len());
        self.log.extend(message.lines().take(room).map(shown));
    }

    fn encode(
        &mut self,
        definition: &EncoderDefinition,
        texts: &[&str],
        options: EncoderOptions,
    ) -> wasmtime::Result<(String,)> {
        Ok((self.encoder.call(definition, texts, options)?,))
    }
}

/// Provides the functions of `encode` to plugins.
fn link_encode(linker: &mut Linker<Call>) -> wasmtime::Result<()> {
    type Context<'a> = StoreContextMut<'a, Call>;
    let mut encode = linker.instance(&contract::encode_interface())?;
    encode.func_wrap("has-secret", |mut context: Context<'_>, (text,): (String,)| {
        Ok((context.data_mut().encoder.has_secret(&text)?,))
    })?;
    encode.func_wrap("whole-secret", |mut context: Context<'_>, (text,): (String,)| {
        Ok((context.data_mut().encoder.whole_secret(&text)?,))
    })?;
    encode.func_wrap("log", |mut context: Context<'_>, (message,): (String,)| {
        context.data_mut().log(&message);
        Ok(())
    })?;
    encode.func_wrap("panic", |mut context: Context<'_>, (message,): (String,)| {
        context.data_mut().panic_message = shown(&message);
        Ok(())
    })?;
    for definition in ENCODERS {
        let name = definition.name;
        match definition.signature {
            Signature::Text(_) => encode.func_wrap(name, |mut context: Context<'_>, (text,): (String,)| {
                context.data_mut().encode(definition, &[&text], EncoderOptions::default())
            }),
            Signature::TwoTexts(_) => {
                encode.func_wrap(name, |mut context: Context<'_>, (first, second): (String, String)| {
                    context.data_mut().encode(definition, &[&first, &second], EncoderOptions::default())
                })
            }
            Signature::DigestTexts(_) => encode.func_wrap(
                name,
                |mut context: Context<'_>, (user, realm, password, option): (String, String, String, String)| {
                    let options = EncoderOptions { algorithm: digest_algorithm(&option)?, ..EncoderOptions::default() };
                    context.data_mut().encode(definition, &[&user, &realm, &password], options)
                },
            ),
            Signature::Hmac(_) => encode.func_wrap(
                name,
                |mut context: Context<'_>, (key, text, algorithm, encoding): (String, String, String, String)| {
                    let (hmac, encoding) = (hmac_algorithm(&algorithm)?, bytes_encoding(&encoding)?);
                    let options = EncoderOptions { hmac, encoding, ..EncoderOptions::default() };
                    context.data_mut().encode(definition, &[&key, &text], options)
                },
            ),
            Signature::TextOptionReason(_) => {
                encode.func_wrap(name, |mut context: Context<'_>, (text, option, reason): (String, String, String)| {
                    let options = EncoderOptions { option, reason, ..EncoderOptions::default() };
                    context.data_mut().encode(definition, &[&text], options)
                })
            }
            Signature::TextNumberReason(_) => {
                encode.func_wrap(name, |mut context: Context<'_>, (text, number, reason): (String, u32, String)| {
                    let options = EncoderOptions { number, reason, ..EncoderOptions::default() };
                    context.data_mut().encode(definition, &[&text], options)
                })
            }
            Signature::TextTable(_) => {
                encode.func_wrap(name, |mut context: Context<'_>, (text, table): (String, Escaping)| {
                    let options = EncoderOptions { table: table.into(), ..EncoderOptions::default() };
                    context.data_mut().encode(definition, &[&text], options)
                })
            }
        }?;
    }
    Ok(())
}

impl From<Escaping> for EscapeTable {
    fn from(table: Escaping) -> Self {
        let refused =
            |refused: bindings::guillemet::feature::encode::Refused| (CharacterSet(refused.characters), refused.reason);
        Self {
            opening: table.opening,
            closing: table.closing,
            replacements: table.replacements.into_iter().map(|by| (by.character, by.text)).collect(),
            refused: table.refused.into_iter().map(refused).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_short_and_hold_no_slot_and_nothing_that_moves_a_cursor() {
        let slot = slots::random_slot();
        let words = shown(&format!("{slot}\u{1b}[2J no route\nfor {}! ", slot.to_lowercase()));
        assert_eq!(words, "«secret»[2J no route for «secret»!");
        let long = shown(&format!("{}{slot}", "é".repeat(MESSAGE_MAX - 1)));
        assert_eq!(long.chars().count(), MESSAGE_MAX + 1);
        assert!(long.ends_with("é«…"), "{long}");
        assert_eq!(shown(&slot.repeat(10_000)).chars().count(), MESSAGE_MAX + 1);
    }
}
