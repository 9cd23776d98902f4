//! What the store has to know of the disk below it.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};

/// The kind of filesystem a path is on.
///
/// # Errors
///
/// As the system says.
pub fn filesystem(path: &Path) -> std::io::Result<&'static str> {
    Ok(kind(rustix::fs::statfs(path)?.f_type))
}

/// The numbers of `statfs(2)`.
fn kind(magic: i64) -> &'static str {
    match magic {
        0x6969 => "nfs",
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => "smb",
        0x0102_1997 => "9p",
        0x0102_1994 => "tmpfs",
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x2fc1_2fc1 => "zfs",
        0x794c_7630 => "overlay",
        0x6573_5546 => "fuse",
        _ => "a local filesystem",
    }
}

/// Refuses a directory whose locks or shared memory can not be trusted: there, two processes would
/// destroy the database sooner or later.
pub(super) fn refuse_remote(directory: &Path) -> Result<()> {
    refuse(directory, filesystem(directory).unwrap_or("unknown"))
}

fn refuse(directory: &Path, kind: &str) -> Result<()> {
    if !matches!(kind, "nfs" | "smb" | "9p") {
        return Ok(());
    }
    Err(Error::new(Kind::Store, format!("the state directory `{}` is on {kind}, whose locks SQLite can not trust", directory.display()))
        .hint("set RUNBOOK_STATE_DIR to a local disk"))
}

/// A file that is there to be removed: on a full disk, its space lets a run record how it ended.
#[derive(Debug)]
pub(super) struct Ballast(PathBuf);

impl Ballast {
    const SIZE: u64 = 1 << 20;

    /// The ballast in this directory, taken in when there is room for it.
    pub(super) fn of(directory: &Path) -> Self {
        let ballast = Self(directory.join("ballast"));
        if !ballast.0.exists() && ballast.take_in().is_err() {
            ballast.release();
        }
        ballast
    }

    fn take_in(&self) -> std::io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.0)?;
        Ok(fallocate(&file, FallocateFlags::empty(), 0, Self::SIZE)?)
    }

    /// Gives its space back. Whether there was any.
    pub(super) fn release(&self) -> bool {
        std::fs::remove_file(&self.0).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_on_another_machine_is_refused() {
        for magic in [0x6969, 0xff53_4d42, 0x0102_1997] {
            let refused = refuse(Path::new("/mnt"), kind(magic)).unwrap_err();
            assert!(refused.hints[0].contains("local disk"), "{refused}");
        }
        for magic in [0xef53, 0x0102_1994, 1] {
            refuse(Path::new("/srv"), kind(magic)).unwrap();
        }
    }

    #[test]
    fn the_ballast_is_taken_in_once_and_released_once() {
        let directory = tempfile::tempdir().unwrap();
        let ballast = Ballast::of(directory.path());
        assert_eq!(std::fs::metadata(&ballast.0).unwrap().len(), Ballast::SIZE);
        let again = Ballast::of(directory.path());
        assert!(again.release());
        assert!(!ballast.release());
    }
}
