//! Which program is meant, decided once and held open.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::error::{Error, Kind, Result};
use crate::host::{Access, Ctx};

/// Where a bare name is looked up; never the `PATH` of whoever started runbook.
pub(super) const SEARCHED: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// A program that may be started, held open: what takes its name later is not started.
pub(super) struct Program {
    /// As named, or as found.
    pub(super) path: PathBuf,
    real: PathBuf,
    handle: File,
    is_script: bool,
    /// Whether it is started outside of the sandbox.
    pub(super) has_host_power: bool,
}

impl Program {
    /// Everything a grant may name it by: what people call it, and what that is today.
    pub(super) fn names(&self) -> [&Path; 2] {
        [&self.path, &self.real]
    }

    /// Finds a program and asks whether it may be started.
    ///
    /// # Errors
    ///
    /// `not_found`, `invalid` for a relative path, `denied` without a grant or for a program that others, or
    /// this run itself, can change.
    pub(super) fn find(ctx: &Ctx, name: &str) -> Result<Self> {
        let path = absolute(name)?;
        // Who may start nothing learns nothing about what there is.
        if !ctx.permissions().effective().any(|grant| grant.section == "exec") {
            ctx.permissions().check(&Access::program(&path))?;
        }
        let unreadable = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => not_found(name),
            _ => Error::new(Kind::Refused, format!("`{}` can not be opened: {error}", path.display())).target(name),
        };
        let handle = File::options().read(true).custom_flags(OFlags::PATH.bits().cast_signed()).open(&path).map_err(unreadable)?;
        let real = std::fs::read_link(handle_path(&handle)).map_err(unreadable)?;
        permit(ctx, &path, &real)?;
        let facts = handle.metadata().map_err(unreadable)?;
        if !facts.is_file() || facts.permissions().mode() & 0o111 == 0 {
            return Err(Error::new(Kind::Invalid, format!("`{}` is no program", path.display())).target(name));
        }
        let directory = real.parent().and_then(|directory| directory.metadata().ok());
        let is_open_to_all = facts.mode() & 0o002 != 0 || directory.is_none_or(|directory| directory.mode() & 0o002 != 0);
        if is_open_to_all {
            return Err(Error::new(Kind::Denied, format!("everyone may change `{}`", real.display()))
                .hint("take the right to write from the program and its directory")
                .target(name));
        }
        let is_script = starts_like_a_script(&handle);
        let may_all = |path: &Path| ctx.permissions().check(&Access::host_program(path)).is_ok();
        let has_host_power = may_all(&real) || may_all(&path);
        Ok(Self { path, real, handle, is_script, has_host_power })
    }

    /// What to execute: the open file itself.
    ///
    /// The kernel hands a `#!` script to its interpreter by name, so for a script it is the real path,
    /// after a look whether it is still the file that was checked.
    ///
    /// # Errors
    ///
    /// `conflict`, when a script was replaced.
    pub(super) fn executed(&self) -> Result<PathBuf> {
        if !self.is_script {
            return Ok(handle_path(&self.handle));
        }
        let identity = |facts: std::fs::Metadata| (facts.dev(), facts.ino());
        let now = std::fs::symlink_metadata(&self.real).map(identity).ok();
        if now.is_none() || now != self.handle.metadata().map(identity).ok() {
            return Err(Error::new(Kind::Conflict, format!("`{}` was replaced since it was checked", self.real.display())).permanent());
        }
        Ok(self.real.clone())
    }
}

fn permit(ctx: &Ctx, path: &Path, real: &Path) -> Result<()> {
    let permissions = ctx.permissions();
    let target = path.display().to_string();
    // A grant names what people call it, `/usr/bin/python3`, or what that is today, `/usr/bin/python3.11`.
    if permissions.check(&Access::program(real)).is_err() {
        permissions.check(&Access::program(path))?;
    }
    if permissions.forbids(&Access::program(real)) || permissions.forbids(&Access::program(path)) {
        return Err(Error::new(Kind::Denied, format!("`{target}` is forbidden by the policy"))
            .hint("see `[policy.deny]` in runbook.toml")
            .target(target));
    }
    let may_change = |path: &Path| permissions.check(&Access::path("write", path)).is_ok();
    if may_change(real) || may_change(path) {
        return Err(Error::new(Kind::Denied, format!("`{target}` lies where this run may write"))
            .hint("a run can not start what it can change; narrow `fs.write`")
            .target(target));
    }
    Ok(())
}

fn absolute(name: &str) -> Result<PathBuf> {
    let bad = |why: &str, hint: &str| Err(Error::new(Kind::Invalid, format!("`{}` {why}", name.escape_debug())).hint(hint));
    if name.is_empty() || name.contains('\0') {
        return bad("is no program", "give the name of a program, as in \"pg_dump\"");
    }
    if name.starts_with('/') {
        return match name.split('/').any(|part| part == "..") {
            true => bad("holds `..`", "write the path without it"),
            false => Ok(Path::new(name).components().collect()),
        };
    }
    if name.contains('/') {
        return bad("is a relative path", "start it with `/`, or give a bare name");
    }
    SEARCHED.iter().map(|directory| Path::new(directory).join(name)).find(|path| path.is_file()).ok_or_else(|| not_found(name))
}

fn not_found(name: &str) -> Error {
    let found = Error::new(Kind::NotFound, format!("program `{name}` is not there")).target(name);
    if name.starts_with('/') { found } else { found.hint(format!("it was looked for in {}", SEARCHED.join(", "))) }
}

fn handle_path(handle: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", handle.as_fd().as_raw_fd()))
}

/// One that may be executed but not read is no script: its interpreter could not read it either.
fn starts_like_a_script(handle: &File) -> bool {
    let mut start = [0; 2];
    File::open(handle_path(handle)).and_then(|mut file| file.read_exact(&mut start)).is_ok() && &start == b"#!"
}
