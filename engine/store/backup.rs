//! Copies of the state directory: made while others write, verified, and put back.
//!
//! A copy is a directory: the database, the logs and files of its runs, and a manifest with the size and
//! hash of each. Secrets and the key that signs checkpoints are not in it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Kind, Result};
use crate::store::audit::Anchor;
use crate::store::{DATABASE, Examination, Sqlite, StateDir, now, write_private};
use crate::words;

/// The name of the manifest in a copy.
pub const MANIFEST: &str = "manifest.json";

/// What belongs to a machine and not to its state: it is not copied, and stays when a copy is put back.
const OF_THE_MACHINE: [&str; 2] = ["secrets", "audit.key"];

/// A copy, as its manifest says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// When it was made.
    pub at: Timestamp,
    /// The version of the program that made it.
    pub version: String,
    /// Where the audit log stood.
    pub audit: Anchor,
    /// Its files.
    pub files: Vec<Copied>,
}

/// A file in a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copied {
    /// Its path in the copy.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// SHA-256 in hex.
    pub sha256: String,
}

/// Copies the state into a directory that is not there yet, and verifies the copy. Every run that ended
/// before it began is in it, whole. Under its name it appears when it is complete.
///
/// # Errors
///
/// `usage` when the directory is there, `store` when it can not be written, or does not verify.
pub fn back_up(state: &StateDir, store: &Sqlite, to: &Path) -> Result<(Backup, Examination)> {
    if to.exists() {
        return Err(Error::new(Kind::Usage, format!("`{}` is there already", to.display())).hint("name a directory that is not there yet"));
    }
    let name = to.file_name().ok_or_else(|| Error::new(Kind::Usage, format!("`{}` names no directory", to.display())))?;
    let partial = to.with_file_name(format!(".{}.partial", name.to_string_lossy()));
    let _ = std::fs::remove_dir_all(&partial);
    let made = copy(state, store, &partial).and_then(|()| {
        let seen = Backup::verify(&partial)?;
        let failed = |error: std::io::Error| Error::because(Kind::Store, format_args!("`{}`", to.display()), &error);
        std::fs::rename(&partial, to).map_err(failed)?;
        sync_directory(to.parent().unwrap_or(Path::new("."))).map_err(failed)?;
        Ok(seen)
    });
    if made.is_err() {
        let _ = std::fs::remove_dir_all(&partial);
    }
    made
}

fn copy(state: &StateDir, store: &Sqlite, to: &Path) -> Result<()> {
    let failed =
        |error: std::io::Error| Error::because(Kind::Store, format_args!("the copy `{}` can not be written", to.display()), &error);
    make_private(to).map_err(failed)?;
    // The database first: what a run put out is there before its record says so.
    store.copy_to(&to.join(DATABASE))?;
    let copied = Sqlite::look(&to.join(DATABASE))?;
    let numbers = copied.numbers()?;
    for number in numbers {
        let directory = state.run(number);
        if directory.is_dir() {
            copy_directory(&directory, &to.join("runs").join(number.to_string())).map_err(failed)?;
        }
    }
    let mut files = Vec::new();
    list(to, to, &mut files).map_err(failed)?;
    let backup = Backup { at: now(), version: env!("CARGO_PKG_VERSION").to_owned(), audit: copied.anchor()?, files };
    let text = serde_json::to_vec_pretty(&backup).map_err(|error| Error::new(Kind::Bug, error.to_string()))?;
    write_private(to, MANIFEST, &text).map_err(failed)
}

impl Backup {
    /// Verifies a copy: each file as the manifest says, no other file, and the journal in it.
    ///
    /// # Errors
    ///
    /// `store`, naming what is wrong with it.
    pub fn verify(directory: &Path) -> Result<(Self, Examination)> {
        let bad = |what: String| Error::new(Kind::Store, format!("the copy `{}` is not good: {what}", directory.display()));
        let text = std::fs::read(directory.join(MANIFEST)).map_err(|error| bad(format!("{MANIFEST}: {error}")))?;
        let backup: Self = serde_json::from_slice(&text).map_err(|error| bad(format!("{MANIFEST}: {error}")))?;
        let mut found = Vec::new();
        list(directory, directory, &mut found).map_err(|error| bad(error.to_string()))?;
        found.retain(|file| file.path != Path::new(MANIFEST));
        for file in &backup.files {
            match found.iter().find(|other| other.path == file.path) {
                Some(other) if other == file => {}
                Some(_) => return Err(bad(format!("`{}` was changed", file.path.display()))),
                None => return Err(bad(format!("`{}` is missing", file.path.display()))),
            }
        }
        if let Some(file) = found.iter().find(|file| !backup.files.contains(file)) {
            return Err(bad(format!("`{}` is not in the manifest", file.path.display())));
        }
        let seen = Sqlite::look(&directory.join(DATABASE))?.examine(std::slice::from_ref(&backup.audit));
        match seen.damage.first() {
            Some(damage) => Err(bad(damage.to_string())),
            None => Ok((backup, seen)),
        }
    }
}

/// Puts a copy in the place of the state. The old state stays beside it, at the path that is returned when
/// there was any; the secrets of this machine stay where they are.
///
/// # Errors
///
/// `store`; the old state is in its place then.
pub fn restore(from: &Path, state: &Path, prepare: impl FnOnce(&Sqlite) -> Result<()>) -> Result<Option<PathBuf>> {
    Backup::verify(from)?;
    let failed =
        |error: std::io::Error| Error::because(Kind::Store, format_args!("the state can not be put into `{}`", state.display()), &error);
    let beside = |word: &str| -> PathBuf {
        let name = state.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        state.with_file_name(format!("{name}.{word}"))
    };
    let new = beside("restoring");
    let _ = std::fs::remove_dir_all(&new);
    let made = (|| {
        copy_directory(from, &new).map_err(failed)?;
        std::fs::remove_file(new.join(MANIFEST)).map_err(failed)?;
        for name in OF_THE_MACHINE {
            let (old, new) = (state.join(name), new.join(name));
            match (old.is_dir(), old.is_file()) {
                (true, _) => copy_directory(&old, &new).map_err(failed)?,
                (_, true) => copy_file(&old, &new).map_err(failed)?,
                _ => {}
            }
        }
        prepare(&Sqlite::open(&new.join(DATABASE))?)
    })();
    if let Err(error) = made {
        let _ = std::fs::remove_dir_all(&new);
        return Err(error);
    }
    let old = state.exists().then(|| beside(&format!("before-{}", now().strftime("%Y%m%dT%H%M%S%.3fZ"))));
    if let Some(old) = &old {
        std::fs::rename(state, old).map_err(failed)?;
    }
    if let Err(error) = std::fs::rename(&new, state) {
        // The old one must serve again; when even that fails, the error says where both are.
        let back = old.as_ref().map_or(Ok(()), |old| std::fs::rename(old, state));
        let place = back.is_err().then(|| format!("the old state is beside it, the new one is `{}`", new.display()));
        return Err(place.into_iter().fold(failed(error), Error::hint));
    }
    sync_directory(state.parent().unwrap_or(Path::new("."))).map_err(failed)?;
    Ok(old)
}

/// Every file below a directory, sorted by path.
fn list(root: &Path, directory: &Path, files: &mut Vec<Copied>) -> std::io::Result<()> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    entries.sort();
    for path in entries {
        if std::fs::symlink_metadata(&path)?.is_dir() {
            list(root, &path, files)?;
            continue;
        }
        let (size, sha256) = digest(&path)?;
        let relative = path.strip_prefix(root).unwrap_or(&path).to_owned();
        files.push(Copied { path: relative, size, sha256 });
    }
    Ok(())
}

fn digest(path: &Path) -> std::io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let (mut hash, mut size, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => {
                hash.update(&buffer[..read]);
                size += read as u64;
            }
        }
    }
    Ok((size, words::hex(&hash.finalize())))
}

/// Files and directories; a link is none of ours, and is left out.
fn copy_directory(from: &Path, to: &Path) -> std::io::Result<()> {
    make_private(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (kind, to) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy_directory(&entry.path(), &to)?;
        } else if kind.is_file() {
            copy_file(&entry.path(), &to)?;
        }
    }
    sync_directory(to)
}

fn copy_file(from: &Path, to: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut copy = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    std::io::copy(&mut File::open(from)?, &mut copy)?;
    copy.sync_all()
}

fn make_private(directory: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

fn sync_directory(directory: &Path) -> std::io::Result<()> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    File::open(directory)?.sync_all()
}
