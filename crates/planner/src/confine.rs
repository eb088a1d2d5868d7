//! Confines a planner: before it starts its engine, it gives up everything it can do without; before it reads its first
//! byte, every system call that its work does not need.
//!
//! Invariant (promise Isolated): whatever reaches the engine runs in a process that has three pipes and nothing else of
//! its parent, and can open, connect to, start, signal and trace nothing. `tests` tries each of these.

use std::collections::BTreeMap;
use std::fmt;

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetStatus, Scope};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, getrlimit, set_dumpable_behavior, set_parent_process_death_signal,
    setrlimit,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use guillemet_base::sys::process::close_from;

/// The most bytes of writable memory: the heap, stacks and the memory of plugins. Compiling a component of 12 MiB that
/// contains a JavaScript engine takes 500 MiB; after that, a planner needs only what its plugin does.
const DATA_MAX: u64 = 1 << 30;
/// The most descriptors that can be open.
const DESCRIPTORS_MAX: u64 = 16;
/// The newest version of Landlock that is requested; an older kernel enforces what it can.
const LANDLOCK: ABI = ABI::V6;

/// The error of a planner that could not confine itself, and so refuses to run.
#[derive(Debug, thiserror::Error)]
#[error("the planner could not {action}: {error}; it refuses to run unconfined")]
pub struct ConfineError {
    action: &'static str,
    error: std::io::Error,
}

/// A layer of the confinement that this kernel lacks. The other layers hold without it.
#[derive(Debug)]
pub struct MissingLayer(String);

impl fmt::Display for MissingLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Gives up descriptors, privileges, resources, files, network and other processes. Call it while the process has a
/// single thread. Returns the layers that this kernel lacks.
///
/// # Errors
/// Fails with [`ConfineError`] if the kernel refuses a layer that it has.
pub fn confine() -> Result<Vec<MissingLayer>, ConfineError> {
    let to = |action| move |error: rustix::io::Errno| ConfineError { action, error: error.into() };
    close_from(3).map_err(|error| ConfineError { action: "close inherited descriptors", error })?;
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(to("bind itself to its parent process"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(to("protect its memory"))?;
    rustix::thread::set_no_new_privs(true).map_err(to("renounce new privileges"))?;
    rustix::process::chdir("/").map_err(to("leave its working folder"))?;
    for (resource, limit) in
        [(Resource::Core, 0), (Resource::Fsize, 0), (Resource::Nofile, DESCRIPTORS_MAX), (Resource::Data, DATA_MAX)]
    {
        let limit = getrlimit(resource).maximum.map_or(limit, |inherited| inherited.min(limit));
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })
            .map_err(to("set its resource limits"))?;
    }
    landlock()
}

/// Forbids, from here on, opening any file or port and reaching any socket or process outside.
fn landlock() -> Result<Vec<MissingLayer>, ConfineError> {
    let restricted = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(LANDLOCK)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(LANDLOCK)))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self);
    let status = restricted
        .map_err(|error| ConfineError { action: "give up file access", error: std::io::Error::other(error) })?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Vec::new(),
        RulesetStatus::PartiallyEnforced => vec![MissingLayer(
            "this kernel has an old version of Landlock: it blocks files for planners, but not all sockets and \
             signals; seccomp blocks those"
                .into(),
        )],
        RulesetStatus::NotEnforced => vec![MissingLayer(
            "this kernel has no Landlock: only seccomp blocks files for planners. Linux 5.13 or newer with the \
             security module `landlock` has it"
                .into(),
        )],
    })
}

/// Gives up, in all threads, every system call that computing does not need. No new thread can be started from here on.
///
/// # Errors
/// Fails with [`ConfineError`] if the kernel has seccomp and refuses the filter.
pub fn seal() -> Result<Vec<MissingLayer>, ConfineError> {
    let failed = |error| ConfineError { action: "give up system calls", error };
    let Ok(arch) = TargetArch::try_from(std::env::consts::ARCH) else {
        return Ok(vec![MissingLayer("seccomp is not supported on this processor architecture".into())]);
    };
    let filter = filter(arch).map_err(|error| failed(std::io::Error::other(error)))?;
    match seccompiler::apply_filter_all_threads(&filter) {
        Ok(()) => Ok(Vec::new()),
        Err(seccompiler::Error::Seccomp(error))
            if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) =>
        {
            Ok(vec![MissingLayer(
                "this kernel has no seccomp: only Landlock and resource limits confine planners. A kernel with \
                 CONFIG_SECCOMP_FILTER has it"
                    .into(),
            )])
        }
        Err(error) => Err(failed(std::io::Error::other(error))),
    }
}

/// Builds the filter that allows what computing needs: memory, locks, time, randomness, the process's own signals, and
/// the pipes it has.
fn filter(arch: TargetArch) -> Result<BpfProgram, seccompiler::BackendError> {
    const ALWAYS: [i64; 25] = [
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_close,
        libc::SYS_brk,
        libc::SYS_mremap,
        libc::SYS_munmap,
        libc::SYS_madvise,
        libc::SYS_membarrier,
        libc::SYS_futex,
        libc::SYS_sched_yield,
        libc::SYS_nanosleep,
        libc::SYS_clock_nanosleep,
        libc::SYS_clock_gettime,
        libc::SYS_restart_syscall,
        libc::SYS_getrandom,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ];
    let argument = |index, operator, value| SeccompCondition::new(index, SeccompCmpArgLen::Qword, operator, value);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALWAYS.iter().map(|call| (*call, Vec::new())).collect();
    // Memory must never be writable and executable at the same time.
    let mask = (libc::PROT_WRITE | libc::PROT_EXEC) as u64;
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let rule = |bits| SeccompRule::new(vec![argument(2, SeccompCmpOp::MaskedEq(mask), bits)?]);
        rules.insert(call, vec![rule(0)?, rule(libc::PROT_WRITE as u64)?, rule(libc::PROT_EXEC as u64)?]);
    }
    // `abort` signals this very process.
    let pid = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![argument(0, SeccompCmpOp::Eq, pid)?])?]);
    let denied = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, denied, SeccompAction::Allow, arch)?.try_into()
}

#[cfg(test)]
mod tests;
