//! Processes as the kernel tells of them.

use crate::store::ProcessId;

/// This process.
pub fn me() -> ProcessId {
    let pid = std::process::id();
    ProcessId { pid, started: started(pid).unwrap_or(0) }
}

/// Whether a process still runs, and is not another one that got its number.
pub fn is_alive(process: ProcessId) -> bool {
    started(process.pid) == Some(process.started)
}

/// When a process started, in clock ticks since boot: field 22 of `/proc/PID/stat`.
fn started(pid: u32) -> Option<u64> {
    fields(pid)?.get(19)?.parse().ok()
}

/// The fields of `/proc/PID/stat` after the name, which may itself hold blanks and brackets.
fn fields(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// The memory a process holds, in bytes.
pub fn resident(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
