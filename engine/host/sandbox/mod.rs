//! What the kernel holds a run to, whatever its script or a program it starts finds out.
//!
//! Host functions ask for permission themselves; this is the wall behind them. It is built from the same
//! permissions before the script is evaluated, twice: around the *worker*, wide enough for what its host functions
//! need, and around each *program* it starts, which has no host function between itself and the machine.
//! Landlock, seccomp and capabilities belong to threads, so a program is started by a thread of its own that
//! confines itself first. Programs granted with `host:` are started by a thread from before the wall.

mod files;
mod power;
mod syscalls;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;

use crate::error::{Error, Kind, Result};
use crate::host::Permissions;
use files::Features;
pub use power::Grants;
use power::Power;

/// How much must be enforced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Enforcement {
    /// What the kernel offers.
    #[default]
    Auto,
    /// Everything, or nothing runs.
    Strict,
    /// Nothing; for a kernel on which it is in the way.
    Off,
}

/// One thing the kernel may hold a run to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restriction {
    /// What is restricted.
    pub name: &'static str,
    /// Why it is not enforced here; nothing when it is.
    pub missing: Option<String>,
}

/// What this kernel enforces, and why not the rest.
pub fn restrictions() -> Vec<Restriction> {
    let features = Features::look();
    let landlock = |name, has: bool, abi: u8, release: &str| Restriction {
        name,
        missing: (!has).then(|| match features.files {
            true => format!("needs Landlock ABI {abi}, Linux {release}"),
            false => "Landlock is not in this kernel or not switched on (`lsm=landlock,…`)".to_owned(),
        }),
    };
    vec![
        landlock("files", features.files, 1, "5.13"),
        landlock("renames between directories", features.refer, 2, "5.19"),
        landlock("truncation", features.truncate, 3, "6.2"),
        landlock("TCP ports", features.tcp, 4, "6.7"),
        landlock("device commands", features.devices, 5, "6.10"),
        landlock("signals and abstract sockets", features.scopes, 6, "6.12"),
        Restriction { name: "system calls", missing: syscalls::missing() },
    ]
}

/// What no kernel of today restricts, or this one does not, and what is done instead.
pub fn limits() -> Vec<String> {
    let mut all = vec![
        "processes of programs are counted ten times a second, which ends a run after it had too many; their memory is not limited"
            .to_owned(),
        "a program with a network grant reaches its ports on every host, and UDP on any port".to_owned(),
        "a program with a write grant can change modes and owners of files elsewhere that its user owns".to_owned(),
    ];
    if !Features::look().unix {
        all.push(
            "local sockets are all or none: programs get none; a worker that may use docker, systemd or one of them gets all".to_owned(),
        );
    }
    all
}

/// Refuses a run that the kernel can not confine as `sandbox = "strict"` demands.
///
/// # Errors
///
/// `denied`, naming what is missing.
pub fn demand(permissions: &Permissions) -> Result<()> {
    let missing: Vec<String> =
        restrictions().into_iter().filter_map(|each| each.missing.map(|why| format!("{}: {why}", each.name))).collect();
    if !missing.is_empty() {
        return Err(Error::new(Kind::NotStarted, format!("`sandbox = \"strict\"` refuses to run: {}", missing.join("; ")))
            .hint("see `runbook doctor`, use a newer kernel, or set `sandbox = \"auto\"`"));
    }
    if permissions.has_host_power() {
        return Err(Error::new(Kind::NotStarted, "`sandbox = \"strict\"` refuses programs with the power of the host")
            .hint("grant them without `host:`, or set `sandbox = \"auto\"`"));
    }
    Ok(())
}

/// The walls of a run.
pub struct Sandbox {
    level: Enforcement,
    grants: Grants,
    outside: Option<Outside>,
}

/// A thread from before the wall: for programs that are granted the power of the host.
struct Outside(Sender<Box<dyn FnOnce() + Send>>);

impl Outside {
    fn new() -> io::Result<Self> {
        let (sender, receiver) = channel::<Box<dyn FnOnce() + Send>>();
        std::thread::Builder::new().name("outside".to_owned()).spawn(move || receiver.into_iter().for_each(|work| work()))?;
        Ok(Self(sender))
    }

    fn spawn(&self, mut command: Command) -> io::Result<Child> {
        let (sender, receiver) = channel();
        let runtime = Handle::current();
        let work = move || {
            let _inside = runtime.enter();
            // Whoever asked may be gone with its branch; the child dies with its handle then.
            let _ = sender.send(command.spawn());
        };
        let gone = || io::Error::other("the thread that starts programs is gone");
        self.0.send(Box::new(work)).map_err(|_| gone())?;
        receiver.recv().map_err(|_| gone())?
    }
}

impl Sandbox {
    /// Confines this thread and all it starts, and keeps what is needed to confine programs more.
    ///
    /// # Errors
    ///
    /// `denied`, when something can not be enforced and must be.
    pub fn enter(level: Enforcement, grants: Grants) -> Result<Arc<Self>> {
        if level == Enforcement::Strict {
            demand(&grants.permissions)?;
        }
        if level == Enforcement::Off {
            return Ok(Arc::new(Self { level, grants, outside: None }));
        }
        let no_thread = |error: io::Error| Error::because(Kind::Limit, "no thread to start programs", &error);
        let outside = grants.permissions.has_host_power().then(Outside::new).transpose().map_err(no_thread)?;
        let worker = Power::of_worker(&grants);
        let refused = |why: String| Error::new(Kind::Denied, format!("the sandbox could not be built: {why}"));
        confine(&worker).or_else(|why| if level == Enforcement::Strict { Err(refused(why)) } else { Ok(()) })?;
        Ok(Arc::new(Self { level, grants, outside }))
    }

    /// Starts a program behind its wall.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub(crate) fn spawn(&self, mut command: Command, has_host_power: bool) -> io::Result<Child> {
        if self.level == Enforcement::Off {
            return command.spawn();
        }
        if let Some(outside) = self.outside.as_ref().filter(|_| has_host_power) {
            return outside.spawn(command);
        }
        let runtime = Handle::current();
        let work = || {
            let _inside = runtime.enter();
            match confine(&Power::of_programs(&self.grants)) {
                Err(why) if self.level == Enforcement::Strict => Err(io::Error::new(io::ErrorKind::PermissionDenied, why)),
                _ => command.spawn(),
            }
        };
        std::thread::scope(|scope| scope.spawn(work).join())
            .unwrap_or_else(|_| Err(io::Error::other("the thread that starts programs panicked")))
    }
}

/// Takes from this thread what it does not need. What the kernel does not know is left out; what it knows and
/// refuses is the error, after all the rest was done.
fn confine(power: &Power) -> std::result::Result<(), String> {
    let results = [
        rustix::thread::set_no_new_privs(true).map_err(|error| format!("no_new_privs: {error}")),
        drop_privileges(power),
        files::restrict(power),
        // The last, since it may refuse the calls of the others.
        syscalls::restrict(power),
    ];
    let all: Vec<String> = results.into_iter().filter_map(std::result::Result::err).collect();
    if all.is_empty() { Ok(()) } else { Err(all.join("; ")) }
}

/// What root keeps: rights over files, which permissions decide about, and what a grant needs.
fn drop_privileges(power: &Power) -> std::result::Result<(), String> {
    let failed = |error: rustix::io::Errno| format!("capabilities: {error}");
    let held = rustix::thread::capabilities(None).map_err(failed)?;
    let kept = held.permitted & power.capabilities;
    if kept == held.permitted {
        return Ok(());
    }
    let sets = CapabilitySets { effective: held.effective & kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(failed)
}
