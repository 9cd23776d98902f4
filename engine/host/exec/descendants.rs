//! The end of everything a process started, also of what left its group and session.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, waitid, waitpid};

use crate::host::process::Stat;

/// How long to look again: a process may start another one while it is being killed.
const PATIENCE: Duration = Duration::from_secs(2);
const ROUNDS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// The descendants of a process that are not yet dead.
pub(crate) struct Offspring(Vec<(Pid, Stat)>);

impl Offspring {
    pub(crate) fn of(pid: u32) -> Self {
        Self(if is_childless(pid) { Vec::new() } else { descendants(pid) })
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether they hold more memory together. What several of them share counts once; that is only looked at when it
    /// matters, since the kernel goes through all their pages for it.
    pub(crate) fn holds_more_than(&self, bytes: u64) -> bool {
        let simply: u64 = self.0.iter().map(|(_, process)| process.memory).sum();
        simply > bytes && self.0.iter().map(|(pid, process)| share(*pid).unwrap_or(process.memory)).sum::<u64>() > bytes
    }
}

/// The memory of a process, in bytes: what it shares with others is divided by their number. One that has ended
/// since it was seen holds nothing.
fn share(pid: Pid) -> Option<u64> {
    let text = match std::fs::read_to_string(format!("/proc/{}/smaps_rollup", pid.as_raw_nonzero())) {
        Err(error) if [Errno::NOENT, Errno::SRCH].iter().any(|gone| error.raw_os_error() == Some(gone.raw_os_error())) => return Some(0),
        found => found.ok()?,
    };
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Kills every descendant of a process until none is left; false when some stay after two seconds.
///
/// The process has to be the reaper of its orphans, or they are nobody's descendants.
pub(crate) fn kill_descendants(pid: u32) -> bool {
    // Most runs start nothing; looking at every process would cost them more than all the rest.
    if is_childless(pid) {
        return true;
    }
    let until = Instant::now() + PATIENCE;
    let mut told = HashSet::new();
    while Instant::now() < until {
        let living = descendants(pid);
        // What was killed is nobody's descendant once its parent is gone, and may still be dying.
        if living.is_empty() && told.iter().all(is_dead) {
            return true;
        }
        let mut is_news = false;
        for (pid, _) in living {
            // It may be gone by now, which is what is wanted.
            let _ = kill_process(pid, Signal::KILL);
            is_news |= told.insert(pid);
        }
        // What multiplies is given no time to.
        if !is_news {
            std::thread::sleep(PAUSE);
        }
    }
    false
}

fn is_dead(pid: &Pid) -> bool {
    u32::try_from(pid.as_raw_nonzero().get()).ok().and_then(Stat::of).is_none_or(|process| process.is_over())
}

/// Kills and collects every descendant of this process that does not come from one of these children.
pub(crate) fn kill_strays(keep: &BTreeSet<u32>) {
    for _ in 0..ROUNDS {
        let strays: Vec<u32> = children().into_iter().filter(|child| !keep.contains(child)).collect();
        if strays.is_empty() {
            return;
        }
        for pid in strays.iter().filter_map(|pid| i32::try_from(*pid).ok().and_then(Pid::from_raw)) {
            // Its own children come to this process then, and are found in the next round.
            let _ = kill_process(pid, Signal::KILL);
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
        if children().iter().any(|child| !keep.contains(child)) {
            std::thread::sleep(PAUSE);
        }
    }
}

/// The children of this process, those it inherited included.
fn children() -> BTreeSet<u32> {
    let listed = || -> std::io::Result<BTreeSet<u32>> {
        let mut children = BTreeSet::new();
        for task in std::fs::read_dir("/proc/self/task")? {
            let text = std::fs::read_to_string(task?.path().join("children"))?;
            children.extend(text.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        Ok(children)
    };
    // Not every kernel lists them, and a thread may end meanwhile; looking at every process takes longer.
    listed().unwrap_or_else(|_| {
        let me = std::process::id();
        processes().into_iter().filter(|(_, process)| process.parent == me).map(|(pid, _)| pid).collect()
    })
}

/// Whether this process has no child, adopted orphans included; false for other processes, of which
/// nobody but they can tell.
fn is_childless(pid: u32) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    pid == std::process::id() && matches!(waitid(WaitId::All, look), Err(Errno::CHILD))
}

/// The descendants that are not yet dead.
fn descendants(of: u32) -> Vec<(Pid, Stat)> {
    let mut processes = processes();
    let parent = |pid: u32| processes.get(&pid).map(|process| process.parent);
    let descends = |pid: u32| std::iter::successors(parent(pid), |pid| parent(*pid)).take(processes.len()).any(|above| above == of);
    let living: Vec<u32> = processes.iter().filter(|(pid, process)| !process.is_over() && descends(**pid)).map(|(pid, _)| *pid).collect();
    living.into_iter().filter_map(|pid| Some((i32::try_from(pid).ok().and_then(Pid::from_raw)?, processes.remove(&pid)?))).collect()
}

fn processes() -> BTreeMap<u32, Stat> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return BTreeMap::new() };
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    ids.filter_map(|id| Some((id, Stat::of(id)?))).collect()
}
