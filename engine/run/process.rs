//! Processes as the kernel tells of them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Resource, Rlimit, Signal, pidfd_open, pidfd_send_signal, set_dumpable_behavior, setrlimit,
};

use crate::host::kill_strays;
use crate::host::process::Stat;
use crate::store::ProcessId;

/// This process.
pub fn me() -> ProcessId {
    of(std::process::id())
}

/// The process that has this number now.
pub fn of(pid: u32) -> ProcessId {
    ProcessId { pid, started: Stat::of(pid).map_or(0, |process| process.started) }
}

/// Keeps the memory of this process, which holds secrets, from others of the same user and from core files.
/// What the kernel refuses changes nothing else.
pub fn hide() {
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

/// Whether this process was started by that one, or by one that it started.
pub fn is_above_me(process: ProcessId) -> bool {
    let parent = |pid: u32| Stat::of(pid).map(|process| process.parent).filter(|parent| *parent > 0);
    std::iter::successors(parent(std::process::id()), |pid| parent(*pid)).any(|pid| of(pid) == process)
}

/// Whether that process was started by this one, or by one that it started.
pub fn comes_from_me(pid: u32) -> bool {
    let parent = |pid: &u32| Stat::of(*pid).map(|process| process.parent).filter(|parent| *parent > 0);
    std::iter::successors(parent(&pid), parent).any(|pid| pid == std::process::id())
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

/// Whose the children of this process are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Children {
    /// Of the one run it watches over, its own and those it inherits.
    OfOneRun,
    /// Of the runs it watches over, apart from programs it waits for itself.
    OfManyRuns,
    /// Of another program, which this library is only a part of.
    OfAnother,
}

static CHILDREN: OnceLock<Children> = OnceLock::new();
static WORKERS: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());
static HELPERS: RwLock<()> = RwLock::new(());
static HELPING: AtomicUsize = AtomicUsize::new(0);

/// Says whose the children of this process are, before there is one; of one run when nobody says so.
pub fn declare(children: Children) {
    CHILDREN.get_or_init(|| children);
}

/// Whose the children of this process are.
pub(super) fn children() -> Children {
    *CHILDREN.get_or_init(|| Children::OfOneRun)
}

/// The workers of this process.
pub(super) fn workers() -> MutexGuard<'static, BTreeSet<u32>> {
    WORKERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While this is held, children are started that are no worker and are waited for by who starts them.
pub fn helpers() -> RwLockReadGuard<'static, ()> {
    HELPERS.read().unwrap_or_else(PoisonError::into_inner)
}

/// The same for who waits for them in a task, which no thread stays with.
pub fn helping() -> Helping {
    let _nobody_sweeps = helpers();
    HELPING.fetch_add(1, Ordering::SeqCst);
    Helping(())
}

/// That there are helpers, until it is dropped.
#[derive(Debug)]
pub struct Helping(());

impl Drop for Helping {
    fn drop(&mut self) {
        HELPING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Ends and collects every child that is no worker: what workers left behind that were killed. While there are
/// helpers nothing is done, since they could not be told from it; whoever has many runs comes back.
pub fn sweep() {
    let Ok(_nobody_helps) = HELPERS.try_write() else { return };
    if HELPING.load(Ordering::SeqCst) == 0 {
        kill_strays(&workers());
    }
}

/// The memory a process holds, in bytes.
pub fn resident(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
