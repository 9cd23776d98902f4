//! From the name a script gives to a handle beneath a granted directory.
//!
//! The name only finds the grant. What is touched is opened beneath the handle of the granted
//! directory, and the *real* path of what was opened is checked again: the grant must cover it, the
//! policy must not forbid it, and it must not be protected. Nothing is looked up by name after that.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use rustix::fs::{Mode, OFlags};

use crate::error::{Error, Kind, Result};
use crate::host::{Access, Ctx};

/// A file or directory a script named, found in a grant but not yet opened.
pub(super) struct Place {
    ctx: Ctx,
    verb: &'static str,
    /// As named, without `.`, doubled or trailing slashes.
    pub(super) path: PathBuf,
    root: Arc<Root>,
    relative: PathBuf,
}

/// A name in an opened directory; the last part of a path, not followed when it is a link.
pub(super) struct Entry {
    pub(super) dir: OwnedFd,
    /// `.` for a granted directory itself.
    pub(super) name: OsString,
    /// The real path.
    pub(super) real: PathBuf,
}

/// The opened directory of a grant.
struct Root {
    name: PathBuf,
    real: PathBuf,
    dir: Dir,
}

/// The directories of a run's grants, opened once: what takes their name later is not granted.
#[derive(Default)]
struct Roots(Mutex<HashMap<PathBuf, Arc<Root>>>);

impl Place {
    /// Finds the grant for a path.
    ///
    /// # Errors
    ///
    /// `invalid` for what is no plain absolute path, `denied` without a grant.
    pub(super) fn new(ctx: &Ctx, verb: &'static str, path: &str) -> Result<Self> {
        Self::at(ctx, verb, normal(path)?)
    }

    fn at(ctx: &Ctx, verb: &'static str, path: PathBuf) -> Result<Self> {
        let grant = ctx.permissions().check(&Access::path(verb, &path))?;
        let root = ctx.state::<Roots>().open(&grant.object).map_err(|error| wrong(&path, &error))?;
        let relative = path.strip_prefix(&root.name).map(Path::to_owned).unwrap_or_default();
        Ok(Self { ctx: ctx.clone(), verb, path, root, relative })
    }

    /// The place of a directory that is looked through: granted itself, or the directory of a pattern.
    ///
    /// # Errors
    ///
    /// As [`Place::new`].
    pub(super) fn to_search(ctx: &Ctx, path: &Path) -> Result<Self> {
        let denied = match Self::at(ctx, "read", path.to_owned()) {
            Ok(place) => return Ok(place),
            Err(error) => error,
        };
        let of_pattern = |object: &&str| object.contains('*') && path.starts_with(directory_of_pattern(object));
        let Some(object) = ctx.permissions().roots("read").find(of_pattern) else { return Err(denied) };
        let root = ctx.state::<Roots>().open(object).map_err(|error| wrong(path, &error))?;
        let relative = path.strip_prefix(&root.name).map(Path::to_owned).unwrap_or_default();
        Ok(Self { ctx: ctx.clone(), verb: "read", path: path.to_owned(), root, relative })
    }

    /// Whether it is a granted directory itself.
    pub(super) fn is_root(&self) -> bool {
        self.relative.as_os_str().is_empty()
    }

    /// Opens a regular file for reading. Links are followed as long as they stay in what is granted.
    ///
    /// # Errors
    ///
    /// `not_found`, `denied` for a link that leads out, `invalid` for what is no regular file.
    pub(super) fn file(&self) -> Result<File> {
        self.followed(|place| {
            // Opening a device or pipe can have effects of its own, so the kind is asked first.
            let kind = place.root.dir.metadata(&place.relative)?;
            if !kind.is_file() {
                return Err(not_a_file());
            }
            let mut options = OpenOptions::new();
            options.read(true).custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed());
            let file = place.root.dir.open_with(&place.relative, &options)?.into_std();
            if file.metadata()?.is_file() { Ok(file) } else { Err(not_a_file()) }
        })
    }

    /// Opens a directory; links as for [`Place::file`].
    ///
    /// # Errors
    ///
    /// As [`Place::file`].
    pub(super) fn directory(&self) -> Result<OwnedFd> {
        self.followed(|place| place.open_directory(&place.relative))
    }

    /// Opens a directory to look through for what is granted in it.
    ///
    /// # Errors
    ///
    /// As [`Place::directory`].
    pub(super) fn search(&self) -> Result<OwnedFd> {
        self.open_directory(&self.relative).map_err(|error| wrong(&self.path, &error))
    }

    /// Opens the directory a name is in, and leaves the name alone.
    ///
    /// # Errors
    ///
    /// `not_found` when the directory is not there, `denied` when it lies outside of what is granted.
    pub(super) fn entry(&self) -> Result<Entry> {
        let entry = match self.entry_beneath(&self.relative) {
            Err(error) if is_escape(&error) => return self.elsewhere_by_parent()?.entry_here(),
            other => other.map_err(|error| self.wrong_parent(&error))?,
        };
        self.admit(&entry.real)?;
        Ok(entry)
    }

    fn entry_here(&self) -> Result<Entry> {
        let entry = self.entry_beneath(&self.relative).map_err(|error| self.wrong_parent(&error))?;
        self.admit(&entry.real)?;
        Ok(entry)
    }

    fn entry_beneath(&self, relative: &Path) -> io::Result<Entry> {
        let Some(name) = relative.file_name() else {
            return Ok(Entry { dir: self.open_directory(Path::new(""))?, name: ".".into(), real: self.root.real.clone() });
        };
        let dir = self.open_directory(relative.parent().unwrap_or(Path::new("")))?;
        let real = real_path(dir.as_fd())?.join(name);
        Ok(Entry { dir, name: name.to_owned(), real })
    }

    /// A missing directory is what is missing, not the file in it.
    fn wrong_parent(&self, error: &io::Error) -> Error {
        match (error.kind(), self.path.parent()) {
            (io::ErrorKind::NotFound | io::ErrorKind::NotADirectory, Some(parent)) => wrong(parent, error),
            _ => wrong(&self.path, error),
        }
    }

    fn open_directory(&self, relative: &Path) -> io::Result<OwnedFd> {
        let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        let found: OwnedFd = self.root.dir.open_dir(relative)?.into_std_file().into();
        // cap-std opens directories as mere places; listing and syncing need more. A directory that may be
        // passed through but not listed stays a place.
        match rustix::fs::openat(&found, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Err(rustix::io::Errno::ACCESS) => Ok(found),
            other => Ok(other?),
        }
    }

    fn followed<H: AsFd>(&self, open: impl Fn(&Self) -> io::Result<H>) -> Result<H> {
        match open(self) {
            Err(error) if is_escape(&error) => {
                let elsewhere = self.elsewhere()?;
                let handle = open(&elsewhere).map_err(|error| wrong(&self.path, &error))?;
                elsewhere.admit_handle(handle.as_fd())?;
                Ok(handle)
            }
            other => {
                let handle = other.map_err(|error| wrong(&self.path, &error))?;
                self.admit_handle(handle.as_fd())?;
                Ok(handle)
            }
        }
    }

    /// Where a link leads that is absolute or leaves this grant. It has to be granted by itself, and
    /// is opened beneath the handle of that grant: the looked-up name is a hint, not an authority.
    fn elsewhere(&self) -> Result<Self> {
        let real = self.path.canonicalize().map_err(|error| wrong(&self.path, &error))?;
        self.leads_to(real)
    }

    fn elsewhere_by_parent(&self) -> Result<Self> {
        let parent = self.path.parent().unwrap_or(&self.path);
        let real = parent.canonicalize().map_err(|error| wrong(parent, &error))?;
        self.leads_to(real.join(self.path.file_name().unwrap_or_default()))
    }

    fn leads_to(&self, real: PathBuf) -> Result<Self> {
        let target = self.path.display().to_string();
        let leads_out = |error: Error| {
            Error::new(Kind::Denied, format!("`{target}` is a link that leads out of what is granted"))
                .target(target.clone())
                .code("RB3001")
                .hint(error.hints.first().cloned().unwrap_or_else(|| "name the place it leads to".to_owned()))
        };
        // The real path is as good as the granted one when the granted one is a link itself.
        let granted = real.strip_prefix(&self.root.real).map_or_else(|_| real.clone(), |below| self.root.name.join(below));
        Self::at(&self.ctx, self.verb, granted).map_err(leads_out)
    }

    fn admit_handle(&self, handle: BorrowedFd<'_>) -> Result<()> {
        let real = real_path(handle).map_err(|error| wrong(&self.path, &error))?;
        self.admit(&real)
    }

    /// Decides on what was really opened.
    ///
    /// # Errors
    ///
    /// `denied`, or `conflict` when the granted directory itself was replaced.
    pub(super) fn admit(&self, real: &Path) -> Result<()> {
        let now = real_path(self.root.dir.as_fd()).map_err(|error| wrong(&self.root.name, &error))?;
        if now != self.root.real {
            return Err(Error::new(Kind::Conflict, format!("`{}` was moved or replaced since the run began", self.root.name.display()))
                .target(self.path.display().to_string())
                .permanent());
        }
        let Ok(below) = real.strip_prefix(&self.root.real) else {
            return Err(self.denied(&format!("lies outside of what is granted, at `{}`", real.display())));
        };
        self.ctx.permissions().check(&Access::path(self.verb, &self.root.name.join(below)))?;
        self.admit_real(real)
    }

    fn admit_real(&self, real: &Path) -> Result<()> {
        if is_protected(&self.ctx, real) {
            return Err(self.denied("belongs to runbook itself, which no run may touch"));
        }
        if is_of_a_process(real) {
            return Err(self.denied("is the inside of a process").hint("ask `sys::processes` about processes"));
        }
        let permissions = self.ctx.permissions();
        let is_below = |object: &str| Path::new(object).canonicalize().is_ok_and(|forbidden| real.starts_with(forbidden));
        let is_forbidden = permissions.forbids(&Access::path(self.verb, real))
            || permissions.forbidden_paths().any(|(verb, object)| verb == self.verb && is_below(object));
        if is_forbidden {
            return Err(self.denied("is forbidden by the policy").hint("see `[policy.deny]` in runbook.toml"));
        }
        Ok(())
    }

    /// Refuses to move or remove a directory as a whole when something in it is not the run's to touch.
    ///
    /// # Errors
    ///
    /// `denied`, naming what is in the way.
    pub(super) fn admit_whole(&self, real: &Path) -> Result<()> {
        self.admit(&real.join("-"))?;
        if let Some(inside) = self.ctx.protected().iter().find(|path| resolved(path).starts_with(real)) {
            return Err(self.denied(&format!("holds `{}`, which no run may touch", inside.display())));
        }
        let holds = |object: &str| {
            let forbidden = directory_of_pattern(object);
            resolved(&forbidden).starts_with(real) || object.contains('*') && real.starts_with(resolved(&forbidden))
        };
        match self.ctx.permissions().forbidden_paths().find(|(_, object)| holds(object)) {
            Some((_, object)) => Err(self.denied(&format!("holds `{object}`, which the policy forbids"))),
            None => Ok(()),
        }
    }

    /// The run it is for.
    pub(super) fn ctx(&self) -> &Ctx {
        &self.ctx
    }

    fn denied(&self, why: &str) -> Error {
        let target = self.path.display().to_string();
        Error::new(Kind::Denied, format!("`{target}` {why}")).target(target).code("RB3001")
    }
}

impl Roots {
    fn open(&self, object: &str) -> io::Result<Arc<Root>> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let whole = PathBuf::from(if object.len() > 1 { object.trim_end_matches('/') } else { object });
        if let Some(root) = open.get(&whole) {
            return Ok(root.clone());
        }
        let is_directory = !object.contains('*') && whole.is_dir();
        let name = if is_directory { whole } else { directory_of_pattern_or_file(object) };
        if let Some(root) = open.get(&name) {
            return Ok(root.clone());
        }
        let dir = Dir::open_ambient_dir(&name, ambient_authority())?;
        let real = real_path(dir.as_fd())?;
        let root = Arc::new(Root { name: name.clone(), real, dir });
        open.insert(name, root.clone());
        Ok(root)
    }
}

/// The directory above the first `*`; the path itself without one.
fn directory_of_pattern(object: &str) -> PathBuf {
    match object.split_once('*') {
        Some((before, _)) => PathBuf::from(before.rfind('/').map_or("/", |at| &before[..at.max(1)])),
        None => PathBuf::from(object),
    }
}

fn directory_of_pattern_or_file(object: &str) -> PathBuf {
    match object.contains('*') {
        true => directory_of_pattern(object),
        false => Path::new(object).parent().unwrap_or(Path::new("/")).to_owned(),
    }
}

/// A plain absolute path: `..` is refused rather than folded, since what it means depends on links.
pub(super) fn normal(path: &str) -> Result<PathBuf> {
    let bad = |why: &str, hint: &str| Err(Error::new(Kind::Invalid, format!("`{}` {why}", path.escape_debug())).hint(hint).target(path));
    if path.is_empty() {
        return bad("is no path", "give an absolute path; an empty one usually means a parameter was not set");
    }
    if path.contains('\0') {
        return bad("holds a NUL character", "give a path without it");
    }
    if !path.starts_with('/') {
        return bad("is not absolute", "start it with `/`; a run has no working directory");
    }
    if Path::new(path).components().any(|part| part == Component::ParentDir) {
        return bad("holds `..`", "write the path without it");
    }
    Ok(Path::new(path).components().collect())
}

/// Whether it belongs to this program: no grant covers that. The run's own directory is its own.
pub(crate) fn is_protected(ctx: &Ctx, real: &Path) -> bool {
    !real.starts_with(resolved(&ctx.run().directory)) && ctx.protected().iter().any(|path| real.starts_with(resolved(path)))
}

/// `/proc/PID`: memory, environment and open files of processes, where secrets are.
fn is_of_a_process(real: &Path) -> bool {
    let Ok(below) = real.strip_prefix("/proc") else { return false };
    let first = below.components().next().map(|part| part.as_os_str().to_string_lossy().into_owned()).unwrap_or_default();
    matches!(first.as_str(), "self" | "thread-self") || !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit())
}

fn resolved(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Where an opened file or directory is now, as the kernel names it.
pub(super) fn real_path(handle: BorrowedFd<'_>) -> io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", handle.as_raw_fd()))
}

/// Opens a directory in a directory, never through a link.
pub(super) fn open_below(dir: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(dir, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn not_a_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")
}

/// cap-std makes this error itself, so it has no number of the kernel.
fn is_escape(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none()
}

/// The error of an operation on a path, by what the kernel said.
pub(super) fn wrong(path: &Path, error: &io::Error) -> Error {
    let target = path.display();
    let failed = match error.kind() {
        _ if is_escape(error) => Error::new(Kind::Denied, format!("`{target}` is a link that leads out of what is granted")),
        _ if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            Error::new(Kind::Denied, format!("`{target}` is a link that is not followed"))
        }
        io::ErrorKind::NotFound => Error::new(Kind::NotFound, format!("`{target}` is not there")),
        io::ErrorKind::PermissionDenied => {
            Error::new(Kind::Refused, format!("the system refuses `{target}`: {error}")).hint("the user of this run has no right to it")
        }
        io::ErrorKind::AlreadyExists => Error::new(Kind::Conflict, format!("`{target}` exists already")).permanent(),
        io::ErrorKind::NotADirectory => Error::new(Kind::Invalid, format!("`{target}` is not a directory")),
        io::ErrorKind::IsADirectory => Error::new(Kind::Invalid, format!("`{target}` is a directory")),
        io::ErrorKind::InvalidInput => Error::new(Kind::Invalid, format!("`{target}`: {error}")),
        io::ErrorKind::DirectoryNotEmpty => Error::new(Kind::Conflict, format!("`{target}` is not empty")),
        io::ErrorKind::CrossesDevices => {
            Error::new(Kind::Invalid, format!("`{target}` is on another filesystem")).hint("copy it, check the copy, then remove it")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::ResourceBusy => {
            Error::new(Kind::Conflict, format!("`{target}`: {error}"))
        }
        _ => Error::new(Kind::Remote, format!("`{target}`: {error}")),
    };
    failed.target(target.to_string())
}
