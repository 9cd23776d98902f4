//! Landlock: files, TCP ports, signals.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

use crate::host::sandbox::power::{Area, Ports, Power};

/// The newest one this program knows; an older kernel enforces its part of it.
const NEWEST: ABI = ABI::V9;

/// What the kernel knows of it.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Features {
    pub(super) files: bool,
    pub(super) refer: bool,
    pub(super) truncate: bool,
    pub(super) tcp: bool,
    pub(super) devices: bool,
    pub(super) scopes: bool,
    pub(super) unix: bool,
}

impl Features {
    /// Asks the kernel for each, without restricting anything.
    pub(super) fn look() -> Self {
        let demand = || Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        let file = |access: AccessFs| demand().handle_access(access).is_ok();
        Self {
            files: file(AccessFs::ReadFile),
            refer: file(AccessFs::Refer),
            truncate: file(AccessFs::Truncate),
            tcp: demand().handle_access(AccessNet::ConnectTcp).is_ok(),
            devices: file(AccessFs::IoctlDev),
            scopes: demand().scope(Scope::Signal | Scope::AbstractUnixSocket).is_ok(),
            unix: file(AccessFs::ResolveUnix),
        }
    }
}

/// Restricts this thread and what it starts.
pub(super) fn restrict(power: &Power) -> Result<(), String> {
    enforce(power).map_err(|error| format!("Landlock: {error}"))
}

fn enforce(power: &Power) -> Result<(), RulesetError> {
    let mut ruleset = Ruleset::default().handle_access(AccessFs::from_all(NEWEST))?.scope(Scope::AbstractUnixSocket)?;
    if power.signals_stay_inside {
        ruleset = ruleset.scope(Scope::Signal)?;
    }
    if !matches!(power.connect, Ports::Any) {
        ruleset = ruleset.handle_access(AccessNet::from_all(NEWEST))?;
    }
    let mut created = ruleset.create()?;
    for (path, access) in rules(power) {
        created = allow(created, &path, access)?;
    }
    if let Ports::These(ports) = &power.connect {
        for port in ports {
            created = created.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
        }
    }
    created.restrict_self().map(drop)
}

/// One that is not there has nothing to allow.
fn allow(ruleset: RulesetCreated, path: &Path, access: BitFlags<AccessFs>) -> Result<RulesetCreated, RulesetError> {
    let Ok(handle) = PathFd::new(path) else { return Ok(ruleset) };
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(NEWEST) };
    if access.is_empty() { Ok(ruleset) } else { ruleset.add_rule(PathBeneath::new(handle, access)) }
}

/// Every path with all that is allowed on it.
pub(super) fn rules(power: &Power) -> BTreeMap<PathBuf, BitFlags<AccessFs>> {
    let mut rules = BTreeMap::new();
    for area in &power.areas {
        carve(area, &area.path, &mut rules);
    }
    rules
}

/// Landlock can only allow, and always what is below too. A directory that holds what is not allowed is
/// replaced by all else that is in it; nothing new can be made in it directly then.
fn carve(area: &Area, path: &Path, rules: &mut BTreeMap<PathBuf, BitFlags<AccessFs>>) {
    if area.except.iter().any(|except| path.starts_with(except)) {
        return;
    }
    if !area.except.iter().any(|except| except.starts_with(path)) {
        *rules.entry(path.to_owned()).or_default() |= area.access;
        return;
    }
    *rules.entry(path.to_owned()).or_default() |= area.access & AccessFs::ReadDir;
    let Ok(entries) = std::fs::read_dir(path) else { return };
    for entry in entries.flatten() {
        // A link is where it leads, and that is allowed by itself or not at all.
        if entry.file_type().is_ok_and(|kind| !kind.is_symlink()) {
            carve(area, &entry.path(), rules);
        }
    }
}

/// What lets a program look into files and directories.
pub(super) fn read() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::ReadDir
}

/// What lets a program make and change what is below a directory. A file is replaced by a rename, which
/// also takes the old one away; the kernel does not tell these apart.
pub(super) fn write() -> BitFlags<AccessFs> {
    (AccessFs::from_write(ABI::V5) & !(AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::RemoveDir | AccessFs::IoctlDev))
        | AccessFs::ReadDir
}

/// What lets a program take away what is below a directory.
pub(super) fn remove() -> BitFlags<AccessFs> {
    AccessFs::RemoveFile | AccessFs::RemoveDir | AccessFs::ReadDir
}

/// What lets a program start others.
pub(super) fn execute() -> BitFlags<AccessFs> {
    read() | AccessFs::Execute
}

/// What lets a program use a device that is no disk.
pub(super) fn device() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev
}

/// What lets a program connect to a local socket, where the kernel asks for it.
pub(super) fn socket() -> BitFlags<AccessFs> {
    AccessFs::ResolveUnix.into()
}
