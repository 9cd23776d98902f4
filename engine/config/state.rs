//! Where the state directory is: store, logs, artefacts.

use std::path::PathBuf;

use crate::config::Environment;
use crate::error::{Error, Kind, Result};

/// Where the state directory is, or would be; nothing is made.
///
/// `$RUNBOOK_STATE_DIR`, else the first of `$STATE_DIRECTORY` (systemd), else `$XDG_STATE_HOME/runbook`,
/// else `~/.local/state/runbook`.
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
    use super::*;

    #[test]
    fn the_most_particular_variable_decides() {
        let all = [("RUNBOOK_STATE_DIR", "/a"), ("STATE_DIRECTORY", "/b:/c"), ("XDG_STATE_HOME", "/d"), ("HOME", "/e")];
        for (skipped, wanted) in ["/a", "/b", "/d/runbook", "/e/.local/state/runbook"].iter().enumerate() {
            assert_eq!(state_place(&all[skipped..].iter().copied().collect()).unwrap(), PathBuf::from(wanted));
        }
        assert!(state_place(&Environment::default()).is_err());
    }
}
