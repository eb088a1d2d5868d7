//! The planner: the child process that runs what the daemon must not, which is the template engine, the tree parsers
//! and plugin code.
//!
//! Of this workspace it uses `plan`, `template` and `base` only. Over a pipe it receives component bytes, templates and
//! variables, and nothing else.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod canonical;
#[expect(unsafe_code, reason = "only this crate names wasmtime, which cannot check code that it has compiled before")]
mod compiled;
pub mod confine;
mod encoder;
mod frame;
mod host;
mod plan;
mod render;
mod targets;

mod slot_tracking;
mod source_map;

use std::error::Error;
use std::fmt;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use self::host::{Host, LoadedPlugin};
use guillemet_plan::protocol::{
    ANSWER_MAX, CANNOT_WORK, Description, FORM_MAX, FRAME_MAX, PlannerRequest, PlannerResponse,
};

/// Runs a planner: gives up what it does not need, then answers requests from its standard input until that ends.
pub fn run() -> ExitCode {
    // A panic's message could contain text of a template; its location cannot.
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        log(format_args!("the planner panicked at {location}"));
    }));
    let host = match start_host() {
        Ok(host) => host,
        Err(error) => {
            log(format_args!("{error}"));
            return ExitCode::from(CANNOT_WORK);
        }
    };
    match serve(&host, &mut io::stdin().lock(), &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(format_args!("the planner lost its daemon: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Starts the engine in a process that has given up everything else. Writes each layer that this kernel lacks to
/// standard error as one line, which `confinement` reads.
fn start_host() -> Result<Host, Box<dyn Error>> {
    let mut missing = confine::confine()?;
    // Otherwise each plugin would be blamed for this.
    guillemet_base::sys::process::try_written_code().map_err(|error| {
        format!(
            "the system forbids memory that is both writable and executable ({error}), which plugins need to be \
             compiled: set MemoryDenyWriteExecute=no in the unit, or allow `execmem` in SELinux"
        )
    })?;
    // The engine's clock is the only other thread; it has to start before new threads are forbidden.
    let host = Host::new().map_err(|error| error.to_string())?;
    missing.extend(confine::seal()?);
    for layer in missing {
        log(format_args!("{layer}"));
    }
    Ok(host)
}

/// Writes a line to standard error, which the daemon reads. Ignores failures, because nothing depends on the line.
fn log(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Answers requests until the input ends.
fn serve(host: &Host, input: &mut impl Read, output: &mut impl Write) -> io::Result<()> {
    let mut loaded: Option<(LoadedPlugin, Description)> = None;
    while let Some(request) = frame::read(input, FRAME_MAX)? {
        let request: PlannerRequest = serde_json::from_slice(&request).map_err(|_| io::ErrorKind::InvalidData)?;
        match request {
            PlannerRequest::Load { compiled } => {
                let max = if compiled { FORM_MAX } else { FRAME_MAX };
                let bytes = frame::read(input, max)?.ok_or(io::ErrorKind::UnexpectedEof)?;
                let (report, plugin) = host.load(&bytes, compiled);
                let description = report.description.clone();
                write_response(output, &PlannerResponse::Loaded(report))?;
                let (plugin, form) = plugin.unzip();
                frame::write(output, &form.unwrap_or_default())?;
                loaded = plugin.zip(description);
            }
            PlannerRequest::Plan(request) => match &loaded {
                Some((plugin, description)) => {
                    let mut log = Vec::new();
                    let response = plan::plan(plugin, description, &request, &mut log);
                    if !log.is_empty() {
                        write_response(output, &PlannerResponse::Log(log))?;
                    }
                    write_response(output, &response)?;
                }
                None => write_response(output, &failure("no plugin has been loaded".into()))?,
            },
            PlannerRequest::Targets(request) => match &loaded {
                Some((_, description)) => write_response(output, &plan::targets(description, &request))?,
                None => write_response(output, &failure("no plugin has been loaded".into()))?,
            },
        }
    }
    Ok(())
}

fn failure(message: String) -> PlannerResponse {
    PlannerResponse::Failed { message }
}

fn write_response(output: &mut impl Write, response: &PlannerResponse) -> io::Result<()> {
    let bytes = serde_json::to_vec(response)?;
    if bytes.len() <= ANSWER_MAX {
        return frame::write(output, &bytes);
    }
    let message = format!("the plan is larger than {} MiB; split the template", ANSWER_MAX >> 20);
    frame::write(output, &serde_json::to_vec(&failure(message))?)
}
