//! What a planner gives up before it reads its first byte.
//!
//! Invariant: from here on the process has its three pipes and nothing else of its parent.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, getrlimit, set_dumpable_behavior, set_parent_process_death_signal,
    setrlimit,
};

use crate::sys::process::close_from;

/// Most bytes of memory that can be written to: the heap, stacks and the memory of plugins.
const DATA_MAX: u64 = 512 << 20;
/// Most open descriptors.
const DESCRIPTORS_MAX: u64 = 16;

/// Why a planner would not start.
#[derive(Debug, thiserror::Error)]
#[error("the planner could not {what}: {error}; it does not run unconfined")]
pub struct ConfineError {
    what: &'static str,
    error: std::io::Error,
}

/// Gives up descriptors, privileges and resources of this process.
///
/// # Errors
/// Where the kernel refuses one of them.
pub fn confine() -> Result<(), ConfineError> {
    let to = |what| move |error: rustix::io::Errno| ConfineError { what, error: error.into() };
    close_from(3).map_err(|error| ConfineError { what: "close what it inherited", error })?;
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(to("tie itself to its parent"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(to("hide its memory"))?;
    rustix::thread::set_no_new_privs(true).map_err(to("give up new privileges"))?;
    rustix::process::chdir("/").map_err(to("leave its folder"))?;
    for (resource, most) in
        [(Resource::Core, 0), (Resource::Fsize, 0), (Resource::Nofile, DESCRIPTORS_MAX), (Resource::Data, DATA_MAX)]
    {
        let most = getrlimit(resource).maximum.map_or(most, |inherited| inherited.min(most));
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) }).map_err(to("limit itself"))?;
    }
    // Seccomp and Landlock follow here, once the engine's own system calls are listed.
    Ok(())
}
