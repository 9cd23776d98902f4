//! Processes as the kernel tells of them.

use std::sync::OnceLock;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::store::ProcessId;

/// This process.
pub fn me() -> ProcessId {
    of(std::process::id())
}

/// The process that has this number now.
pub fn of(pid: u32) -> ProcessId {
    ProcessId { pid, started: started(pid).unwrap_or(0) }
}

/// Whether this process was started by that one, or by one that it started.
pub fn is_above_me(process: ProcessId) -> bool {
    let parent = |pid: u32| fields(pid)?.get(1)?.parse::<u32>().ok().filter(|parent| *parent > 0);
    std::iter::successors(parent(std::process::id()), |pid| parent(*pid)).any(|pid| of(pid) == process)
}

/// Whether a process still runs, and is not another one that got its number.
pub fn is_alive(process: ProcessId) -> bool {
    let fields = fields(process.pid).unwrap_or_default();
    // One that ended and was not collected by its parent still has its number, and does nothing.
    let is_over = fields.first().is_none_or(|state| matches!(state.as_str(), "Z" | "X"));
    !is_over && started_of(&fields) == Some(process.started)
}

/// Asks a process to end (SIGTERM); nothing happens when it is gone already.
///
/// # Errors
///
/// As the system says, when it belongs to somebody else.
pub fn terminate(process: ProcessId) -> std::io::Result<()> {
    tell(process, Signal::TERM)
}

/// Asks a run to stop by its process (SIGHUP). Unlike a second SIGTERM, being asked again does not cut its
/// clean-up short.
///
/// # Errors
///
/// As the system says, when it belongs to somebody else.
pub fn hang_up(process: ProcessId) -> std::io::Result<()> {
    tell(process, Signal::HUP)
}

fn tell(process: ProcessId, signal: Signal) -> std::io::Result<()> {
    let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    let handle = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => handle,
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // The handle is of the process that has the number now; only then is it asked whether it is the one meant.
    if !is_alive(process) {
        return Ok(());
    }
    match pidfd_send_signal(&handle, signal) {
        Err(rustix::io::Errno::SRCH) => Ok(()),
        result => result.map_err(Into::into),
    }
}

/// When a process started, in clock ticks since boot: field 22 of `/proc/PID/stat`.
fn started(pid: u32) -> Option<u64> {
    started_of(&fields(pid)?)
}

fn started_of(fields: &[String]) -> Option<u64> {
    fields.get(19)?.parse().ok()
}

/// The fields of `/proc/PID/stat` after the name, which may itself hold blanks and brackets.
fn fields(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

static SHARED: OnceLock<()> = OnceLock::new();

/// Says that this process is another program's, whose children are none of ours.
pub fn share() {
    SHARED.get_or_init(|| ());
}

/// Whether this process is another program's.
pub fn is_shared() -> bool {
    SHARED.get().is_some()
}

/// Keeps what is in the memory of this process from other processes of the same user, and from core files.
pub fn keep_memory_private() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    // Where the kernel refuses, the secrets are as safe as before.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// The memory a process holds, in bytes.
pub fn resident(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
