//! Builds a project in Rust: cargo makes a module, which becomes a component here.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{absent, missing, program};
use crate::cli::Failure;
use crate::cli::plugin::scaffold::Language;
use guillemet_builtin::wasm::{self, Rustc, TARGET};

/// The variables of cargo that do not change the resulting component.
const KEPT: [&str; 3] = ["CARGO_BUILD_JOBS", "CARGO_BUILD_TARGET_DIR", "CARGO_TARGET_DIR"];

/// Builds the component of a project in Rust.
///
/// # Errors
/// When a tool is missing, or cargo fails after printing its reasons.
pub fn build(dir: &Path) -> Result<Vec<u8>, Failure> {
    let (Some(cargo), Some(rustc)) = (program("cargo"), program("rustc")) else {
        return Err(absent("Rust (cargo and rustc)", "https://rustup.rs"));
    };
    let with_hint = |error: String| match error.contains("rustup target add") {
        true => missing(&format!("this Rust has no standard library for {TARGET}"), dir, Language::Rust.setup()),
        false => Failure::new(error),
    };
    let rustc = Rustc::detect(&rustc, dir).map_err(with_hint)?;
    let cargo = || {
        let mut command = Command::new(&cargo);
        wasm::clean_environment(&mut command, &KEPT);
        command.current_dir(dir).stdin(Stdio::null());
        command
    };
    // The flags replace the folders of the dependencies by fixed names, so these have to exist. What goes wrong here,
    // goes wrong again below, where it is shown.
    let _ = cargo().args(["fetch", "--quiet", "--target", TARGET]).stderr(Stdio::null()).status();
    let mut command = cargo();
    command.args(["build", "--release", "--lib", "--target", TARGET, "--message-format=json-render-diagnostics"]);
    if !io::stderr().is_terminal() {
        command.arg("--quiet");
    }
    let absolute = std::path::absolute(dir)?;
    command.env("CARGO_ENCODED_RUSTFLAGS", rustc.flags(vec![(absolute, ".".into())]));
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| Failure::new(format!("cannot run cargo: {error}")))?;
    if !output.status.success() {
        return Err(Failure::new(format!("the plugin was not built: cargo ended with {}", output.status)));
    }
    let module = module(&String::from_utf8_lossy(&output.stdout)).ok_or_else(|| {
        Failure::new("cargo built no module: Cargo.toml needs `crate-type = [\"cdylib\"]` under `[lib]`")
    })?;
    let module = std::fs::read(&module).map_err(|error| Failure::new(format!("{module}: {error}")))?;
    wasm::componentize(&module).map_err(|error| {
        Failure::new(format!(
            "the module cannot be turned into a component: {error}. Does src/lib.rs call `guillemet_plugin::export!`?"
        ))
    })
}

/// Returns the path of the module in cargo's messages: the last one, because dependencies come first.
fn module(messages: &str) -> Option<String> {
    let message = |line: &str| serde_json::from_str::<Value>(line).ok();
    let is_module = |message: &Value| {
        let kinds = message["target"]["crate_types"].as_array();
        message["reason"] == "compiler-artifact" && kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind == "cdylib"))
    };
    let artifact = messages.lines().filter_map(message).rfind(is_module)?;
    let mut files = artifact["filenames"].as_array()?.iter().filter_map(Value::as_str);
    files.rfind(|file| file.ends_with(".wasm")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::module;

    #[test]
    fn the_module_is_found_among_what_cargo_says() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"crate_types":["cdylib"]},"filenames":["/t/other.wasm"]}"#,
            "\nnot json\n",
            r#"{"reason":"compiler-artifact","target":{"crate_types":["cdylib"]},"filenames":["/t/hook.d","/t/hook.wasm"]}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"crate_types":["lib"]},"filenames":["/t/a.rlib"]}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(module(messages).as_deref(), Some("/t/hook.wasm"));
        assert_eq!(module(r#"{"reason":"build-finished","success":true}"#), None);
    }
}
