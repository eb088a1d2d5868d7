//! The child process that runs what the daemon must not: template engine, tree parsers, plugin code.
//!
//! Uses nothing of `vault`, `api`, `resolve` or `inventory`. It gets component bytes, templates and
//! variables over a pipe and nothing else.

pub mod confine;
pub mod description;
mod document;
mod emissions;
mod encoder;
mod frame;
mod host;
mod origin;
mod plan;
pub mod protocol;
mod render;
mod slots;
mod targets;
pub mod text;
pub(crate) mod tree;

use std::error::Error;
use std::fmt;
use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitCode, Stdio};

use self::host::{Host, Plugin};
pub use self::host::{MEMORY_MAX, TIME_MAX};
use self::protocol::{ANSWER_MAX, Answer, Description, FORM_MAX, FRAME_MAX, Request};

/// The exit status of a planner that this machine does not let work (`EX_OSERR` of sysexits.h); why is on its standard
/// error.
pub const CANNOT_WORK: u8 = 71;

/// The whole life of a planner: gives up what it does not need, then answers requests on its standard
/// input until that ends.
pub fn run() -> ExitCode {
    // The message of a panic could hold text of a template; its place cannot.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        say(format_args!("the planner panicked at {place}"));
    }));
    let host = match ready() {
        Ok(host) => host,
        Err(error) => {
            say(format_args!("{error}"));
            return ExitCode::from(CANNOT_WORK);
        }
    };
    match serve(&host, &mut io::stdin().lock(), &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("the planner lost its daemon: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// The engine, in a process that has given up everything else. What this kernel cannot do is said on
/// standard error, a line each (`confinement`).
fn ready() -> Result<Host, Box<dyn Error>> {
    let mut missing = confine::confine()?;
    // Else each plugin would be blamed for it.
    crate::sys::process::try_written_code().map_err(|error| {
        format!(
            "the system forbids memory that is written and then run ({error}), and plugins cannot be compiled without \
             it: set MemoryDenyWriteExecute=no in the unit, or allow `execmem` where SELinux forbids it"
        )
    })?;
    // Its clock is the one other thread; it is there before no more can be.
    let host = Host::new().map_err(|error| error.to_string())?;
    missing.extend(confine::seal()?);
    for layer in missing {
        say(format_args!("{layer}"));
    }
    Ok(host)
}

/// Writes a line to standard error, which the daemon reads; where it does not, nothing is lost.
fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Starts a planner that is asked nothing, to learn what this kernel cannot do (`confinement`).
///
/// # Errors
/// When it cannot be started.
pub fn try_confinement() -> io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.arg("planner").env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn()
}

/// Waits for what `try_confinement` started: a sentence for each layer of the confinement that is missing.
///
/// # Errors
/// Why planners do not start at all.
pub fn confinement(child: Child) -> io::Result<Vec<String>> {
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let lines = said.lines().map(|line| text::tidy(line, 500));
    if output.status.success() {
        return Ok(lines.collect());
    }
    let said = lines.collect::<Vec<_>>().join("; ");
    Err(io::Error::other(match output.status.code() {
        Some(code) if code == i32::from(CANNOT_WORK) => said,
        _ => format!("{said} ({})", output.status),
    }))
}

/// Answers requests until the input ends.
fn serve(host: &Host, input: &mut impl Read, output: &mut impl Write) -> io::Result<()> {
    let mut loaded: Option<(Plugin, Description)> = None;
    while let Some(request) = frame::read(input, FRAME_MAX)? {
        let request: Request = serde_json::from_slice(&request).map_err(|_| io::ErrorKind::InvalidData)?;
        match request {
            Request::Load { compiled } => {
                let most = if compiled { FORM_MAX } else { FRAME_MAX };
                let bytes = frame::read(input, most)?.ok_or(io::ErrorKind::UnexpectedEof)?;
                let (report, plugin) = host.load(&bytes, compiled);
                let description = report.description.clone();
                answer(output, &Answer::Loaded(report))?;
                let (plugin, form) = plugin.unzip();
                frame::write(output, &form.unwrap_or_default())?;
                loaded = plugin.zip(description);
            }
            Request::Plan(request) => match &loaded {
                Some((plugin, description)) => answer(output, &plan::plan(plugin, description, &request))?,
                None => answer(output, &failed("no plugin has been loaded".into()))?,
            },
            Request::Targets(request) => match &loaded {
                Some((_, description)) => answer(output, &plan::targets(description, &request))?,
                None => answer(output, &failed("no plugin has been loaded".into()))?,
            },
        }
    }
    Ok(())
}

fn failed(message: String) -> Answer {
    Answer::Failed { message }
}

fn answer(output: &mut impl Write, answer: &Answer) -> io::Result<()> {
    let bytes = serde_json::to_vec(answer)?;
    if bytes.len() <= ANSWER_MAX {
        return frame::write(output, &bytes);
    }
    let message = format!("the plan is larger than {} MiB; split the template", ANSWER_MAX >> 20);
    frame::write(output, &serde_json::to_vec(&failed(message))?)
}
