//! Where the key of the stored secrets is: outside of the state directory, so that a copy of that has names only.

use std::path::PathBuf;

use crate::config::Environment;
use crate::config::guard::{self, Care};
use crate::error::{Error, Kind, Result};

/// The name of the credential of systemd that holds it.
const CREDENTIAL: &str = "runbook.key";

/// The place of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPlace {
    /// The file.
    pub file: PathBuf,
    /// Whether it is a credential of systemd, which somebody else keeps.
    pub is_credential: bool,
}

impl KeyPlace {
    /// The credential `runbook.key`, else `$RUNBOOK_KEY_FILE`, else `$XDG_CONFIG_HOME/runbook/secrets.key`, else
    /// the same below `~/.config`.
    ///
    /// # Errors
    ///
    /// `config`, when no variable says where.
    pub fn find(environment: &Environment) -> Result<Self> {
        let credential = environment.path("CREDENTIALS_DIRECTORY").map(|directory| directory.join(CREDENTIAL)).filter(|file| file.exists());
        if let Some(file) = credential {
            return Ok(Self { file, is_credential: true });
        }
        let file = environment
            .path("RUNBOOK_KEY_FILE")
            .or_else(|| Some(environment.home_or("XDG_CONFIG_HOME", ".config")?.join("runbook/secrets.key")))
            .ok_or_else(|| {
                Error::new(Kind::Config, "no place for the key of the secrets: HOME is not set")
                    .hint("set RUNBOOK_KEY_FILE, or start it as a unit with `LoadCredential=runbook.key:…`")
            })?;
        Ok(Self { file, is_credential: false })
    }

    /// The text of the key; nothing when there is none yet.
    ///
    /// # Errors
    ///
    /// `config` with the fix, when others can get at it or it can not be read.
    pub fn read(&self) -> Result<Option<String>> {
        if !self.file.exists() {
            return Ok(None);
        }
        guard::read(&self.file, Care::Secret).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_comes_first_and_no_key_is_in_the_state() {
        let directory = tempfile::tempdir().unwrap();
        let credentials = directory.path().to_str().unwrap();
        let all = [("CREDENTIALS_DIRECTORY", credentials), ("RUNBOOK_KEY_FILE", "/a/key"), ("XDG_CONFIG_HOME", "/b"), ("HOME", "/c")];
        let place = |skipped: usize| KeyPlace::find(&all[skipped..].iter().copied().collect()).unwrap().file;
        assert_eq!(place(0), PathBuf::from("/a/key"), "there is no such credential");
        std::fs::write(directory.path().join(CREDENTIAL), "").unwrap();
        assert_eq!(place(0), directory.path().join(CREDENTIAL));
        assert_eq!(place(2), PathBuf::from("/b/runbook/secrets.key"));
        assert_eq!(place(3), PathBuf::from("/c/.config/runbook/secrets.key"));
        assert!(KeyPlace::find(&Environment::default()).is_err());
    }
}
