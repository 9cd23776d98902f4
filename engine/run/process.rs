//! Processes as the kernel tells of them.

use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Resource, Rlimit, Signal, pidfd_open, pidfd_send_signal, set_dumpable_behavior, setrlimit,
};

use crate::host::process::Stat;
use crate::store::ProcessId;

/// This process.
pub fn me() -> ProcessId {
    let pid = std::process::id();
    ProcessId { pid, started: Stat::of(pid).map_or(0, |process| process.started) }
}

/// Keeps the memory of this process, which holds secrets, from others of the same user and from core files.
/// What the kernel refuses changes nothing else.
pub fn hide() {
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

/// Whether a process still runs, and is not another one that got its number.
pub fn is_alive(process: ProcessId) -> bool {
    Stat::of(process.pid).is_some_and(|found| !found.is_over() && found.started == process.started)
}

/// Asks a process to end (SIGTERM); nothing happens when it is gone already.
///
/// # Errors
///
/// As the system says, when it belongs to somebody else.
pub fn terminate(process: ProcessId) -> std::io::Result<()> {
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
    match pidfd_send_signal(&handle, Signal::TERM) {
        Err(rustix::io::Errno::SRCH) => Ok(()),
        result => result.map_err(Into::into),
    }
}

/// The memory a process holds, in bytes.
pub fn resident(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
