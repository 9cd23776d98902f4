//! Files that were removed while somebody writes to them: they take space until they are closed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sysinfo::Users;

use crate::error::{Error, Kind, Result};
use crate::host::{Answer, Question, Recorder};

/// Which of them are meant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DeletedOptions {
    on: Option<PathBuf>,
    limit: usize,
}

impl Default for DeletedOptions {
    fn default() -> Self {
        Self { on: None, limit: 20 }
    }
}

/// What was found, and how many processes could not be looked into.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Deleted {
    files: Vec<DeletedFile>,
    bytes: u64,
    unseen: u64,
}

/// A file without a name that a process holds open.
#[derive(Debug, Serialize, Deserialize)]
struct DeletedFile {
    path: String,
    bytes: u64,
    pid: u32,
    process: String,
    user: String,
}

const REMOVED: &str = " (deleted)";
/// `st_blocks` counts these, whatever the filesystem's own blocks are.
const BLOCK: u64 = 512;

/// What to ask for: as the supervisor sees it, which has no wall around it, or as it is seen from here.
pub(super) fn deleted(recorder: &dyn Recorder, options: &DeletedOptions) -> Result<Deleted> {
    let device = options.on.as_deref().map(device_of).transpose()?;
    match recorder.ask(Question::DeletedFiles { device, limit: options.limit }) {
        Ok(Answer::Value(found)) => {
            serde_json::from_value(found).map_err(|error| Error::new(Kind::Bug, format!("an answer can not be read: {error}")))
        }
        _ => deleted_files(device, options.limit),
    }
}

/// The removed files that are open on a device, or on all, the largest first; each once, with one of its owners.
pub(crate) fn deleted_files(device: Option<u64>, limit: usize) -> Result<Deleted> {
    let users = Users::new_with_refreshed_list().map_err(super::client::failed)?;
    let entries = fs::read_dir("/proc").map_err(|error| Error::because(Kind::Remote, "`/proc` can not be read", &error))?;
    let mut found: BTreeMap<(u64, u64), DeletedFile> = BTreeMap::new();
    let mut unseen = 0;
    for process in entries.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(handles) = fs::read_dir(process.path().join("fd")) else {
            // One that ended meanwhile holds nothing.
            unseen += u64::from(process.path().exists());
            continue;
        };
        for handle in handles.flatten() {
            let (path, facts) = match removed(&handle.path()) {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                // From inside a sandbox it is seen that a process has handles, and not which.
                Err(Hidden) => {
                    unseen += 1;
                    break;
                }
            };
            if facts.blocks() == 0 || device.is_some_and(|device| device != facts.dev()) {
                continue;
            }
            found.entry((facts.dev(), facts.ino())).or_insert_with(|| DeletedFile {
                path,
                bytes: facts.blocks() * BLOCK,
                pid,
                process: fs::read_to_string(process.path().join("comm")).map(|name| name.trim().to_owned()).unwrap_or_default(),
                user: owner(&process.path(), &users),
            });
        }
    }
    let bytes = found.values().map(|file| file.bytes).sum();
    let mut files: Vec<DeletedFile> = found.into_values().collect();
    files.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
    files.truncate(limit);
    Ok(Deleted { files, bytes, unseen })
}

fn device_of(path: &Path) -> Result<u64> {
    let facts = fs::metadata(path).map_err(|error| {
        Error::because(Kind::NotFound, "option `on` names nothing that is there", &error).target(path.display().to_string())
    })?;
    Ok(facts.dev())
}

/// The name a handle's file had, and its facts, when it has no name any more.
fn removed(handle: &Path) -> std::result::Result<Option<(String, fs::Metadata)>, Hidden> {
    let target = match fs::read_link(handle) {
        Ok(target) => target.to_string_lossy().into_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Err(Hidden),
        // It was closed meanwhile.
        Err(_) => return Ok(None),
    };
    let Some(path) = target.strip_suffix(REMOVED) else { return Ok(None) };
    let Ok(facts) = fs::metadata(handle) else { return Ok(None) };
    // Memory that is shared by a made-up name is no file of a disk.
    let is_file = facts.is_file() && facts.nlink() == 0 && path.starts_with('/') && !path.starts_with("/memfd:");
    Ok(is_file.then(|| (path.to_owned(), facts)))
}

/// What a process holds open may not be seen.
struct Hidden;

fn owner(process: &Path, users: &Users) -> String {
    let Ok(facts) = fs::metadata(process) else { return String::new() };
    let known = users.iter().find(|user| user.id().to_string() == facts.uid().to_string());
    known.map_or_else(|| facts.uid().to_string(), |user| user.name().to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_removed_file_that_is_open_is_named_with_its_owner_until_it_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("live.log");
        let mut file = fs::File::create(&path).unwrap();
        file.write_all(&[b'x'; 100_000]).unwrap();
        file.sync_all().unwrap();
        let look = || {
            let device = Some(device_of(directory.path()).unwrap());
            deleted_files(device, 1000).unwrap().files.into_iter().find(|found| Path::new(&found.path) == path)
        };
        assert!(look().is_none());
        fs::remove_file(&path).unwrap();
        let found = look().unwrap();
        assert_eq!(found.pid, std::process::id());
        assert!(found.bytes >= 100_000 && !found.user.is_empty() && !found.process.is_empty(), "{found:?}");
        drop(file);
        assert!(look().is_none());
    }

    #[test]
    fn a_place_that_is_not_there_is_not_found() {
        assert_eq!(device_of(Path::new("/no/such/place")).unwrap_err().kind, Kind::NotFound);
    }
}
