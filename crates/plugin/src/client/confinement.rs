//! Which layers of a planner's confinement this kernel has, found out by starting one.
//!
//! Knows nothing of plugins.

use std::io;
use std::process::{Child, Command, Stdio};

use guillemet_base::display::sanitize;
use guillemet_plan::protocol::CANNOT_WORK;

/// Starts a planner that gets no request, to find out what this kernel lacks ([`confinement`]).
///
/// # Errors
/// Fails if the process cannot be started.
pub fn try_confinement() -> io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.arg("planner").env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn()
}

/// Waits for the child of [`try_confinement`]. Returns one sentence for each layer of the confinement that is missing.
///
/// # Errors
/// Fails with the reason if planners do not start at all.
pub fn confinement(child: Child) -> io::Result<Vec<String>> {
    let output = child.wait_with_output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines = stderr.lines().map(|line| sanitize(line, 500));
    if output.status.success() {
        return Ok(lines.collect());
    }
    let message = lines.collect::<Vec<_>>().join("; ");
    Err(io::Error::other(match output.status.code() {
        Some(code) if code == i32::from(CANNOT_WORK) => message,
        _ => format!("{message} ({})", output.status),
    }))
}
