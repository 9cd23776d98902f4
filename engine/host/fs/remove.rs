//! Removal, decided by a listing before the first deletion.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use jiff::Timestamp;
use rustix::fs::AtFlags;
use serde::{Deserialize, Serialize};

use super::place::{Entry, Place, open_below, wrong};
use super::read::{DEPTH, Facts, names};
use super::work::Waited;
use crate::error::{Error, Kind, Result};
use crate::model::{Size, Span};
use crate::words;

/// What to remove, and how much at most.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RemoveOptions {
    recursive: bool,
    max_files: Option<usize>,
    max_depth: Option<usize>,
    older_than: Option<Span>,
}

const MAX_FILES: usize = 1000;
const MAX_DEPTH: usize = 32;

/// What was removed.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(super) struct Removed {
    pub(super) files: u64,
    pub(super) directories: u64,
    pub(super) bytes: u64,
}

/// A listing of what shall go, with the identity of each, so that what takes its place later stays.
pub(super) struct Removal {
    entry: Entry,
    top: Doomed,
    pub(super) total: Removed,
    pub(super) paths: Vec<String>,
}

struct Doomed {
    name: OsString,
    identity: (u32, u32, u64),
    /// What is in it, for a directory.
    inside: Option<Vec<Self>>,
    /// Whether it goes itself, or only what is in it.
    goes: bool,
}

impl Removal {
    /// Lists what would go, and refuses what must stay.
    ///
    /// # Errors
    ///
    /// `invalid` for what is never removed, `limit` for more than was asked for, `denied` when a part
    /// of it is not granted. Nothing was removed then.
    pub(super) fn list(place: &Place, options: &RemoveOptions, waited: &Waited) -> Result<Self> {
        let target = place.path.display().to_string();
        let refused = |why: &str, hint: &str| Err(Error::new(Kind::Invalid, format!("`{target}` {why}")).hint(hint).target(target.clone()));
        let entry = place.entry()?;
        let facts = Facts::of(entry.dir.as_fd(), &entry.name).map_err(|error| wrong(&place.path, &error))?;
        let only_old = options.older_than.is_some();
        if facts.is_directory() {
            let is_top = entry.real.components().count() <= 2;
            if is_top {
                return refused("is a directory of the system", "name what is in it");
            }
            if place.is_root() && !only_old {
                return refused("is a granted directory itself, which stays", "remove what is in it, found with `fs::list` or `fs::glob`");
            }
            if facts.is_mount && !place.is_root() {
                return refused("is a mount point", "unmount it first");
            }
            if !options.recursive {
                return refused("is a directory", "remove it with `#{ recursive: true }` when all that is in it shall go");
            }
            if !only_old {
                place.admit_whole(&entry.real)?;
            }
        }
        let now = place.ctx().now();
        let before = options.older_than.map(|age| now.checked_sub(age.0).unwrap_or(Timestamp::MIN));
        let mut listing = Listing {
            place,
            max_files: options.max_files.unwrap_or(MAX_FILES),
            max_depth: options.max_depth.unwrap_or(MAX_DEPTH).min(DEPTH),
            before,
            total: Removed::default(),
            paths: Vec::new(),
            waited,
        };
        let top = listing.doom(&entry.dir, entry.name.clone(), &place.path, &entry.real, &facts, 0)?;
        let Listing { total, paths, .. } = listing;
        Ok(Self { entry, top, total, paths })
    }

    /// Removes what was listed, deepest first.
    ///
    /// # Errors
    ///
    /// `conflict` when something was put there since the listing; what was removed before stays removed,
    /// and the message says how much that is.
    pub(super) fn perform(self, path: &Path, waited: &Waited) -> Result<Removed> {
        let mut done = 0;
        let all = self.total.files + self.total.directories;
        remove(&self.entry.dir, &self.top, path, &mut done, waited).map_err(|error| match done {
            0 => error,
            done => error.context(format_args!("{done} of {all} were removed")),
        })?;
        Ok(self.total)
    }

    /// What goes, for the plan.
    pub(super) fn diff(&self) -> String {
        const SHOWN: usize = 50;
        let mut lines: Vec<String> = self.paths.iter().take(SHOWN).map(|path| format!("-{path}")).collect();
        if self.paths.len() > SHOWN {
            lines.push(format!("… and {} more", self.paths.len() - SHOWN));
        }
        lines.join("\n")
    }

    /// How much goes, in words.
    pub(super) fn in_words(&self) -> String {
        let Removed { files, directories, bytes } = self.total;
        format!("{} and {}, {}", words::count(files, "file"), words::count(directories, "directory"), Size(bytes))
    }
}

struct Listing<'a> {
    place: &'a Place,
    max_files: usize,
    max_depth: usize,
    before: Option<Timestamp>,
    total: Removed,
    paths: Vec<String>,
    waited: &'a Waited,
}

impl Listing<'_> {
    fn doom(&mut self, dir: &OwnedFd, name: OsString, path: &Path, real: &Path, facts: &Facts, depth: usize) -> Result<Doomed> {
        self.waited.check()?;
        self.place.admit(real)?;
        let mut doomed = Doomed { identity: facts.identity, inside: None, goes: true, name };
        if facts.is_directory() {
            if depth > 0 && facts.is_mount {
                return Err(self.refuse(Kind::Invalid, format!("`{}` in it is a mount point", path.display()), "unmount it first"));
            }
            if depth >= self.max_depth {
                let message = format!("it is more than {} directories deep", self.max_depth);
                return Err(self.refuse(Kind::Limit, message, "raise `max_depth` when that is meant"));
            }
            doomed.inside = Some(self.inside(dir, &doomed.name, path, real, depth)?);
            // With an age, directories stay: the age of a directory says nothing of what is in it.
            doomed.goes = self.before.is_none();
        } else {
            doomed.goes = self.before.is_none_or(|before| facts.modified < before);
        }
        if doomed.goes {
            self.count(path, facts)?;
        }
        Ok(doomed)
    }

    fn inside(&mut self, dir: &OwnedFd, name: &OsString, path: &Path, real: &Path, depth: usize) -> Result<Vec<Doomed>> {
        let inner = open_below(dir.as_fd(), name).map_err(|error| wrong(path, &error.into()))?;
        let mut names = names(&inner, path)?;
        names.sort();
        let mut inside = Vec::new();
        for name in names {
            let (path, real) = (path.join(&name), real.join(&name));
            let facts = Facts::of(inner.as_fd(), &name).map_err(|error| wrong(&path, &error))?;
            let doomed = self.doom(&inner, name, &path, &real, &facts, depth + 1)?;
            if doomed.goes || doomed.inside.is_some() {
                inside.push(doomed);
            }
        }
        Ok(inside)
    }

    fn count(&mut self, path: &Path, facts: &Facts) -> Result<()> {
        if facts.is_directory() {
            self.total.directories += 1;
        } else {
            self.total.files += 1;
            self.total.bytes += facts.on_disk;
        }
        let all = usize::try_from(self.total.files + self.total.directories).unwrap_or(usize::MAX);
        if all > self.max_files {
            let message = format!("there are more than {} files and directories to remove", self.max_files);
            return Err(self.refuse(Kind::Limit, message, "raise `max_files` when that is meant"));
        }
        self.paths.push(path.display().to_string());
        Ok(())
    }

    fn refuse(&self, kind: Kind, message: String, hint: &str) -> Error {
        Error::new(kind, message).hint(hint).hint("nothing was removed").target(self.place.path.display().to_string())
    }
}

fn remove(dir: &OwnedFd, doomed: &Doomed, path: &Path, done: &mut u64, waited: &Waited) -> Result<()> {
    waited.check()?;
    let failed = |error: std::io::Error| wrong(path, &error);
    if let Some(inside) = &doomed.inside {
        let inner = open_below(dir.as_fd(), &doomed.name).map_err(|error| failed(error.into()))?;
        if Facts::of_open(inner.as_fd()).map_err(failed)?.identity != doomed.identity {
            return Err(replaced(path));
        }
        for each in inside {
            remove(&inner, each, &path.join(&each.name), done, waited)?;
        }
    }
    if !doomed.goes {
        return Ok(());
    }
    if Facts::of(dir.as_fd(), &doomed.name).map_err(failed)?.identity != doomed.identity {
        return Err(replaced(path));
    }
    let flags = if doomed.inside.is_some() { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    rustix::fs::unlinkat(dir, &doomed.name, flags).map_err(|error| failed(error.into()))?;
    *done += 1;
    Ok(())
}

fn replaced(path: &Path) -> Error {
    Error::new(Kind::Conflict, format!("`{}` was replaced while it was being removed", path.display())).target(path.display().to_string())
}
