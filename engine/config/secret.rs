//! Where a secret comes from.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::config::Environment;
use crate::config::guard::{self, Care};
use crate::error::{Error, Kind, Result};

/// How long a program may take to print a secret.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest secret that is read from a program.
const LONGEST: u64 = 64 * 1024;

/// The one place a secret comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SecretSource {
    /// The secret is the text of this file, which must be readable by its owner only.
    pub file: Option<String>,
    /// The secret is the value of this environment variable.
    pub env: Option<String>,
    /// The secret is this credential of systemd, from `$CREDENTIALS_DIRECTORY`.
    pub credential: Option<String>,
    /// The secret is what this program prints; it is started without a shell.
    pub command: Option<Vec<String>>,
}

impl SecretSource {
    /// How many places are named; there has to be one.
    pub(super) fn places(&self) -> usize {
        [self.file.is_some(), self.env.is_some(), self.credential.is_some(), self.command.is_some()].iter().filter(|given| **given).count()
    }

    /// Reads the secret called `name`; a trailing line end is not part of it. Relative files are relative to `root`.
    ///
    /// # Errors
    ///
    /// `config`, when it is not there, empty, or kept so that others can read it. Never its value.
    pub fn read(&self, name: &str, root: &Path, environment: &Environment) -> Result<String> {
        let value = self.value(root, environment).map_err(|error| error.context(format!("secret `{name}`")))?;
        let value = value.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).unwrap_or(&value);
        if value.is_empty() {
            return Err(Error::new(Kind::Config, format!("secret `{name}` is empty")));
        }
        Ok(value.to_owned())
    }

    fn value(&self, root: &Path, environment: &Environment) -> Result<String> {
        if let Some(file) = &self.file {
            return guard::read(&root.join(file), Care::Secret);
        }
        if let Some(variable) = &self.env {
            return environment
                .get(variable)
                .map(str::to_owned)
                .ok_or_else(|| Error::new(Kind::Config, format!("the environment variable `{variable}` is not set")));
        }
        if let Some(credential) = &self.credential {
            return credential_file(credential, environment).and_then(|path| guard::read(&path, Care::Secret));
        }
        match self.command.as_deref() {
            Some([program, arguments @ ..]) => printed(program, arguments),
            _ => Err(Error::new(Kind::Config, "no place it comes from").hint("give `file`, `env`, `credential` or `command`")),
        }
    }
}

/// The secret called `name` from a file that holds nothing else; nothing when there is no file.
///
/// # Errors
///
/// `config`, when it can not be read or is kept so that others can read it. Never its value.
pub fn kept_secret(name: &str, file: &Path) -> Result<Option<String>> {
    if matches!(file.try_exists(), Ok(false)) {
        return Ok(None);
    }
    guard::read(file, Care::Secret).map(Some).map_err(|error| error.context(format_args!("secret `{name}`")))
}

fn credential_file(credential: &str, environment: &Environment) -> Result<PathBuf> {
    if credential.contains('/') || credential.starts_with('.') {
        return Err(Error::new(Kind::Config, format!("found `{credential}`, expected the name of a credential")));
    }
    let directory = environment.path("CREDENTIALS_DIRECTORY").ok_or_else(|| {
        Error::new(Kind::Config, "CREDENTIALS_DIRECTORY is not set")
            .hint(format!("start it as a unit with `LoadCredential={credential}:…`"))
    })?;
    Ok(directory.join(credential))
}

/// What a program prints. Its standard error goes to ours, since such programs ask and complain there.
fn printed(program: &str, arguments: &[String]) -> Result<String> {
    let failed = |error: std::io::Error| Error::because(Kind::Config, format!("can not start `{program}`"), &error);
    let mut child = Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let output = child.stdout.take().expect("its output is a pipe");
    let (sender, printed) = std::sync::mpsc::channel();
    // Not joined: a grandchild may keep the pipe open for ever. It ends with the pipe, and holds nothing of ours.
    std::thread::spawn(move || {
        let mut text = String::new();
        // Nobody listens any more after the deadline.
        let _ = sender.send(output.take(LONGEST).read_to_string(&mut text).map(|_| text));
    });
    let answer = printed.recv_timeout(PATIENCE);
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().map_err(failed)? {
            Some(status) => break status,
            None if answer.is_err() || Instant::now() >= deadline => {
                child.kill().map_err(failed)?;
                child.wait().map_err(failed)?;
                return Err(Error::new(Kind::Timeout, format!("`{program}` did not end within {} s", PATIENCE.as_secs())));
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    if !status.success() {
        return Err(Error::new(Kind::Config, format!("`{program}` ended with {status}")));
    }
    match answer {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(_)) => Err(Error::new(Kind::Config, format!("what `{program}` printed is not text"))),
        Err(_) => Err(Error::new(Kind::Timeout, format!("`{program}` ended, but something it started keeps its output open"))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn read(source: SecretSource, environment: &Environment) -> Result<String> {
        source.read("db", Path::new("/"), environment)
    }

    #[test]
    fn a_secret_comes_from_the_environment_a_credential_or_a_program() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("pw"), "s3\n").unwrap();
        std::fs::set_permissions(dir.path().join("pw"), std::fs::Permissions::from_mode(0o400)).unwrap();
        let environment = [("PW", "s1"), ("CREDENTIALS_DIRECTORY", dir.path().to_str().unwrap())].into_iter().collect();
        let env = SecretSource { env: Some("PW".into()), ..SecretSource::default() };
        let credential = SecretSource { credential: Some("pw".into()), ..SecretSource::default() };
        let command = SecretSource { command: Some(vec!["echo".into(), "s2".into()]), ..SecretSource::default() };
        assert_eq!(read(env, &environment).unwrap(), "s1");
        assert_eq!(read(credential, &environment).unwrap(), "s3");
        assert_eq!(read(command, &environment).unwrap(), "s2");
    }

    #[test]
    fn a_program_that_fails_gives_no_secret() {
        let source = SecretSource { command: Some(vec!["false".into()]), ..SecretSource::default() };
        assert!(read(source, &Environment::default()).unwrap_err().message.contains("`false` ended with"));
    }

    #[test]
    fn a_credential_can_not_leave_its_directory() {
        let source = SecretSource { credential: Some("../shadow".into()), ..SecretSource::default() };
        assert!(read(source, &Environment::default()).unwrap_err().message.contains("expected the name of a credential"));
    }

    #[test]
    fn a_kept_secret_that_others_can_read_is_refused_and_an_absent_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("db");
        assert_eq!(kept_secret("db", &file).unwrap(), None);
        std::fs::write(&file, "s1").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = kept_secret("db", &file).unwrap_err();
        assert!(error.message.starts_with("secret `db`: others can read"), "{error}");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(kept_secret("db", &file).unwrap().as_deref(), Some("s1"));
    }
}
