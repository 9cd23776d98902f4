//! The locks of runs: one run holds a name, for all commands of a state directory.
//!
//! A lock is a lock of the kernel on a file: it is gone with the process that holds it, however that
//! ends, and nothing the process starts inherits it. The file tells whose it is; one that names a process that is
//! gone was left by a run that was cut off. The files stay: to remove one that another process is
//! about to lock would give the name to both.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Kind, Result};
use crate::model::{Run, Span, WhenLocked};
use crate::run::dispatch::Within;
use crate::run::process::{is_above_me, is_alive, me, of};
use crate::store::{Claim, ProcessId, StateDir};
use crate::words::hex;

/// The lock a run asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockRequest {
    /// Its name, with nothing left to expand.
    pub name: String,
    /// What to do when another run holds it.
    pub when: WhenLocked,
}

/// Who holds a lock, or held it last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The name of the lock.
    pub lock: String,
    /// The number of the run.
    pub run: u64,
    /// Its runbook.
    pub runbook: String,
    /// Who started it.
    pub by: String,
    /// Since when it holds it.
    pub since: Timestamp,
    /// The process that watches over it, and holds the lock.
    pub supervisor: ProcessId,
    /// The process that does its work.
    worker: ProcessId,
}

impl Owner {
    /// What holds it, as in `backup #12 since 3m`.
    pub fn in_words(&self, now: Timestamp) -> String {
        let seconds = u64::try_from(now.duration_since(self.since).as_secs()).unwrap_or(0);
        format!("{} #{} since {}", self.runbook, self.run, Span::secs(seconds))
    }

    /// Whether it still holds the lock; otherwise its run was cut off.
    pub fn holds(&self) -> bool {
        is_alive(self.supervisor)
    }
}

/// A lock that is held. It is given up when this is dropped, and by the kernel when the process ends.
#[derive(Debug)]
pub(super) struct Lock {
    name: String,
    claim: Claim,
}

/// What became of an attempt to take a lock.
#[derive(Debug)]
pub(super) enum Taken {
    /// It is held now. Whoever held it before and was cut off is named.
    Now(Lock, Option<Owner>),
    /// The run is part of one that holds it.
    Above,
    /// Another run holds it; who, unless it is only just starting.
    ByOther(Option<Owner>),
}

impl Lock {
    /// Takes it, if it is free. Where a run above holds it, the runs below take turns among themselves.
    pub(super) fn take_within(state: &StateDir, name: &str, within: Option<&Within>) -> Result<Taken> {
        Self::take(state, &Self::turns(state, name, within))
    }

    /// The name a run takes turns on with others: its own where a run above it holds the lock.
    pub(super) fn turns(state: &StateDir, name: &str, within: Option<&Within>) -> String {
        let mut name = name.to_owned();
        while let Some(owner) = owner_of(state, &name).filter(|owner| within.is_some_and(|within| within.is_below(owner.run))) {
            name = format!("{name} in #{}", owner.run);
        }
        name
    }

    pub(super) fn take(state: &StateDir, name: &str) -> Result<Taken> {
        let path = prepared(state, name)?;
        Ok(match Claim::take(&path).map_err(|error| failed(name, &error))? {
            Some(claim) => Self::taken(claim, &path, name).map(|(lock, left)| Taken::Now(lock, left))?,
            None => match owner_of(state, name) {
                Some(owner) if is_above_me(owner.worker) => Taken::Above,
                owner => Taken::ByOther(owner),
            },
        })
    }

    /// Queues for it: `turn` is called when it is held, on another thread. Who gave up meanwhile drops what it is given.
    pub(super) fn queue(state: &StateDir, name: &str, turn: impl FnOnce(Result<(Self, Option<Owner>)>) + Send + 'static) -> Result<()> {
        let file = prepared(state, name)?;
        let (path, owned) = (file.clone(), name.to_owned());
        let held = move |claim: std::io::Result<Claim>| {
            claim.map_err(|error| failed(&owned, &error)).and_then(|claim| Self::taken(claim, &path, &owned))
        };
        Claim::queue(&file, move |claim| turn(held(claim))).map_err(|error| failed(name, &error))
    }

    fn taken(claim: Claim, path: &Path, name: &str) -> Result<(Self, Option<Owner>)> {
        let left = owner(path);
        claim.file().set_len(0).map_err(|error| failed(name, &error))?;
        Ok((Self { name: name.to_owned(), claim }, left))
    }

    /// Writes down whose it is.
    pub(super) fn belongs_to(&mut self, run: &Run, worker: u32, since: Timestamp) -> Result<()> {
        let name = &self.name;
        let owner = Owner {
            lock: name.clone(),
            run: run.run,
            runbook: run.runbook.clone(),
            by: run.by.clone(),
            since,
            supervisor: me(),
            worker: of(worker),
        };
        let text = serde_json::to_string(&owner).map_err(|error| Error::new(Kind::Bug, error.to_string()))?;
        self.claim.file().write_all(text.as_bytes()).map_err(|error| failed(name, &error))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A name that stays is told as that of a run that was cut off, and holds nobody up.
        let _ = self.claim.file().set_len(0);
    }
}

/// Every lock that is held, and every one that was left by a run that was cut off.
///
/// # Errors
///
/// `store`, when they can not be listed.
pub fn owners(state: &StateDir) -> Result<Vec<Owner>> {
    let entries = match std::fs::read_dir(directory(state)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::because(Kind::Store, "the locks can not be listed", &error)),
    };
    let mut owners: Vec<Owner> = entries.flatten().filter_map(|entry| owner(&entry.path())).collect();
    owners.sort_by(|a, b| a.lock.cmp(&b.lock));
    Ok(owners)
}

/// Who holds this lock, or left it.
pub(super) fn owner_of(state: &StateDir, name: &str) -> Option<Owner> {
    owner(&path(state, name))
}

/// Where the file of a lock is; its directory is there after this.
fn prepared(state: &StateDir, name: &str) -> Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory(state)).map_err(|error| failed(name, &error))?;
    Ok(path(state, name))
}

fn failed(name: &str, error: &std::io::Error) -> Error {
    Error::because(Kind::Store, format_args!("the lock `{name}`"), error)
}

/// What the file tells; nothing when nobody holds it, or its owner has not written yet.
fn owner(path: &Path) -> Option<Owner> {
    let mut text = String::new();
    File::open(path).ok()?.take(64 << 10).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn directory(state: &StateDir) -> PathBuf {
    state.root().join("locks")
}

/// Names hold what file names can not.
fn path(state: &StateDir, name: &str) -> PathBuf {
    directory(state).join(hex(&Sha256::digest(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> (tempfile::TempDir, StateDir) {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(&directory.path().join("state")).unwrap();
        (directory, state)
    }

    fn take(state: &StateDir, name: &str) -> Option<Lock> {
        match Lock::take(state, name).unwrap() {
            Taken::Now(lock, _) => Some(lock),
            _ => None,
        }
    }

    #[test]
    fn one_holds_it_and_the_next_one_gets_it_after() {
        let (_directory, state) = state();
        let held = take(&state, "data:shop").unwrap();
        assert!(take(&state, "data:shop").is_none());
        assert!(take(&state, "data:other").is_some());
        drop(held);
        assert!(take(&state, "data:shop").is_some());
    }

    #[test]
    fn a_program_that_is_started_does_not_inherit_it() {
        let (_directory, state) = state();
        let held = take(&state, "data:shop").unwrap();
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        drop(held);
        assert!(take(&state, "data:shop").is_some());
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
