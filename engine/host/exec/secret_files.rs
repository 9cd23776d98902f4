//! Secrets for programs that want them in a file: it is private, and there as long as they run.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};

/// The directory of these files in that of the run. A killed worker can leave some; its supervisor
/// removes it with what is in it.
pub(crate) const SECRET_FILES: &str = "secret-files";

/// Files that are removed when this is dropped.
#[derive(Default)]
pub(super) struct SecretFiles(Vec<PathBuf>);

impl SecretFiles {
    /// Writes each content to a file of mode 0600, and puts its path among the variables.
    ///
    /// # Errors
    ///
    /// `refused`, when one can not be written; none is left then.
    pub(super) fn write(contents: &BTreeMap<String, String>, directory: &Path, env: &mut BTreeMap<String, String>) -> Result<Self> {
        let mut files = Self::default();
        for (name, content) in contents {
            let path = directory.join(uuid::Uuid::now_v7().to_string());
            files.0.push(path.clone());
            write(directory, &path, content).map_err(|error| {
                Error::because(Kind::Refused, format_args!("option `secret_files`: `{name}` can not be written"), &error)
            })?;
            env.insert(name.clone(), path.display().to_string());
        }
        Ok(files)
    }
}

impl Drop for SecretFiles {
    fn drop(&mut self) {
        for path in &self.0 {
            // One that could not be made is not there; one that stays goes with the run.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn write(directory: &Path, path: &Path, content: &str) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    File::options().write(true).create_new(true).mode(0o600).open(path)?.write_all(content.as_bytes())
}
