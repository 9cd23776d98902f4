//! The state directory: store, logs, artefacts. Its owner's alone.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;

use crate::config::{Environment, guard};
use crate::error::{Error, Kind, Result};

/// The state directory, made when it is not there.
///
/// `$RUNBOOK_STATE_DIR`, else the first of `$STATE_DIRECTORY` (systemd), else `$XDG_STATE_HOME/runbook`,
/// else `~/.local/state/runbook`.
///
/// # Errors
///
/// `config` with the fix, when others can get at it, it belongs to somebody else or can not be made.
pub fn state_dir(environment: &Environment) -> Result<PathBuf> {
    let path = state_place(environment)?;
    let failed = |error: std::io::Error| Error::because(Kind::Config, format!("no state directory at `{}`", path.display()), &error);
    DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(failed)?;
    let about = std::fs::metadata(&path).map_err(failed)?;
    guard::keeper(&path, &about)?;
    let mode = about.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Error::new(Kind::Config, format!("others can get at the state directory `{}` (mode {mode:04o})", path.display()))
            .hint(format!("`chmod 700 {}`; in a unit file, `StateDirectoryMode=0700`", path.display())));
    }
    Ok(path)
}

/// Where the state directory is, or would be; nothing is made.
///
/// # Errors
///
/// `config`, when no variable says where.
pub fn state_place(environment: &Environment) -> Result<PathBuf> {
    if let Some(text) = environment.get("RUNBOOK_STATE_DIR") {
        return Some(PathBuf::from(text))
            .filter(|path| path.is_absolute())
            .ok_or_else(|| Error::new(Kind::Config, format!("RUNBOOK_STATE_DIR: found `{text}`, expected an absolute path")));
    }
    // systemd separates several with colons.
    let systemd = environment.get("STATE_DIRECTORY").and_then(|all| all.split(':').next()).filter(|first| first.starts_with('/'));
    systemd
        .map(PathBuf::from)
        .or_else(|| Some(environment.home_or("XDG_STATE_HOME", ".local/state")?.join("runbook")))
        .ok_or_else(|| Error::new(Kind::Config, "no place for the state: HOME is not set").hint("set RUNBOOK_STATE_DIR"))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_most_particular_variable_decides() {
        let all = [("RUNBOOK_STATE_DIR", "/a"), ("STATE_DIRECTORY", "/b:/c"), ("XDG_STATE_HOME", "/d"), ("HOME", "/e")];
        for (skipped, wanted) in ["/a", "/b", "/d/runbook", "/e/.local/state/runbook"].iter().enumerate() {
            assert_eq!(state_place(&all[skipped..].iter().copied().collect()).unwrap(), PathBuf::from(wanted));
        }
        assert!(state_place(&Environment::default()).is_err());
    }

    #[test]
    fn it_is_made_for_its_owner_alone_and_refused_when_others_can_get_at_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let environment: Environment = [("RUNBOOK_STATE_DIR", path.to_str().unwrap())].into_iter().collect();
        assert_eq!(state_dir(&environment).unwrap(), path);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        assert!(state_dir(&environment).unwrap_err().hints[0].starts_with("`chmod 700 "));
    }
}
