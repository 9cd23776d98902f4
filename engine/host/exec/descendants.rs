//! The end of everything a process started, also of what left its group and session.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::host::process::Stat;

/// How often to look again: a process may start another one while it is being killed.
const ROUNDS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// Kills every descendant of a process until none is left; false when some stay after two seconds.
///
/// The process has to be the reaper of its orphans, or they are nobody's descendants.
pub(crate) fn kill_descendants(pid: u32) -> bool {
    // Most runs start nothing; looking at every process would cost them more than all the rest.
    if is_childless(pid) {
        return true;
    }
    for _ in 0..ROUNDS {
        let living = descendants(pid);
        if living.is_empty() {
            return true;
        }
        for pid in living {
            // It may be gone by now, which is what is wanted.
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(PAUSE);
    }
    false
}

/// Whether this process has no child, adopted orphans included; false for other processes, of which
/// nobody but they can tell.
fn is_childless(pid: u32) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    pid == std::process::id() && matches!(waitid(WaitId::All, look), Err(rustix::io::Errno::CHILD))
}

/// The descendants that are not yet dead.
fn descendants(of: u32) -> Vec<Pid> {
    let processes = processes();
    let parent = |pid: u32| processes.get(&pid).map(|process| process.parent);
    let descends = |pid: u32| std::iter::successors(parent(pid), |pid| parent(*pid)).take(processes.len()).any(|above| above == of);
    let living = processes.iter().filter(|(pid, process)| !process.is_over() && descends(**pid));
    living.filter_map(|(pid, _)| i32::try_from(*pid).ok().and_then(Pid::from_raw)).collect()
}

fn processes() -> BTreeMap<u32, Stat> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return BTreeMap::new() };
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    ids.filter_map(|id| Some((id, Stat::of(id)?))).collect()
}
