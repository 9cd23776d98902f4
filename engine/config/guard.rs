//! Files that decide what may be done must not be written by others, files with secrets not be read by them.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Error, Kind, Result};

/// The largest settings, system or secret file that is read.
const LARGEST: u64 = 4 * 1024 * 1024;

/// How carefully a file must be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Care {
    /// Nobody else may change it.
    Settings,
    /// Nobody else may change or read it.
    Secret,
}

/// Reads a text file that is kept as carefully as it must be.
///
/// # Errors
///
/// `config` with the command that mends it, or the reason why it can not be read.
pub(super) fn read(path: &Path, care: Care) -> Result<String> {
    // One open file for the checks and the reading, so that it can not be exchanged between them.
    let failed = |error: std::io::Error| Error::because(Kind::Config, format!("can not read `{}`", path.display()), &error);
    let file = std::fs::File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if !about.is_file() {
        return Err(Error::new(Kind::Config, format!("`{}` is not a file", path.display())));
    }
    if about.len() > LARGEST {
        return Err(Error::new(Kind::Config, format!("`{}` has {} bytes, more than {LARGEST}", path.display(), about.len())));
    }
    keeper(path, &about)?;
    mode(path, &about, care)?;
    std::io::read_to_string(file).map_err(failed)
}

/// Refuses what belongs to somebody else; root may own what anyone uses.
pub(super) fn keeper(path: &Path, about: &Metadata) -> Result<()> {
    let me = rustix::process::geteuid().as_raw();
    if about.uid() == me || about.uid() == 0 {
        return Ok(());
    }
    Err(Error::new(Kind::Config, format!("`{}` belongs to user {}, not to user {me}", path.display(), about.uid()))
        .hint(format!("if you trust it: `chown {me} {}`", path.display())))
}

fn mode(path: &Path, about: &Metadata, care: Care) -> Result<()> {
    let mode = about.mode() & 0o777;
    let shown = path.display();
    // A group with the number of the user is that user's own; umask 002 lets it write everywhere.
    let own_group = about.gid() == about.uid();
    let others = match care {
        Care::Settings if own_group => 0o002,
        Care::Settings => 0o022,
        Care::Secret => 0o077,
    };
    if mode & others == 0 {
        return Ok(());
    }
    Err(match care {
        Care::Settings => {
            Error::new(Kind::Config, format!("others can write to `{shown}` (mode {mode:04o})")).hint(format!("`chmod go-w {shown}`"))
        }
        Care::Secret => {
            Error::new(Kind::Config, format!("others can read `{shown}` (mode {mode:04o})")).hint(format!("`chmod 600 {shown}`"))
        }
    })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("it");
        std::fs::write(&path, "text").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused_with_the_fix() {
        let (_dir, path) = file(0o640);
        let error = read(&path, Care::Secret).unwrap_err();
        assert_eq!(error.hints, [format!("`chmod 600 {}`", path.display())]);
        assert_eq!(read(&path, Care::Settings).unwrap(), "text");
    }

    #[test]
    fn settings_that_anyone_can_write_are_refused_with_the_fix() {
        let (_dir, path) = file(0o646);
        assert_eq!(read(&path, Care::Settings).unwrap_err().hints, [format!("`chmod go-w {}`", path.display())]);
    }

    #[test]
    fn a_file_of_another_user_is_refused_and_one_of_root_is_not() {
        let (_dir, path) = file(0o600);
        // Only root can give a file away; without it, the second half is what can be shown.
        if std::os::unix::fs::chown(&path, Some(4711), None).is_ok() {
            assert!(read(&path, Care::Settings).unwrap_err().message.contains("belongs to user 4711"));
        }
        assert!(keeper(Path::new("/"), &std::fs::metadata("/").unwrap()).is_ok());
    }
}
