//! Where runbooks are found: the project's directory, and those in the binary.

use std::path::{Path, PathBuf};

use crate::config::{Project, project};
use crate::error::{Error, Kind, Result};

/// The runbooks of the binary, by name. A file of the same name in the project comes before them.
pub const RUNBOOKS: &[(&str, &str)] = &[
    ("check-alerts", include_str!("../../runbooks/check-alerts.rhai")),
    ("check-health", include_str!("../../runbooks/check-health.rhai")),
    ("check-logs", include_str!("../../runbooks/check-logs.rhai")),
    ("check-metrics", include_str!("../../runbooks/check-metrics.rhai")),
    ("checklist-run", include_str!("../../runbooks/checklist-run.rhai")),
    ("incident-handle", include_str!("../../runbooks/incident-handle.rhai")),
    ("notify", include_str!("../../runbooks/notify.rhai")),
    ("recover-cpu", include_str!("../../runbooks/recover-cpu.rhai")),
    ("recover-db-connection", include_str!("../../runbooks/recover-db-connection.rhai")),
    ("recover-db-performance", include_str!("../../runbooks/recover-db-performance.rhai")),
    ("recover-disk", include_str!("../../runbooks/recover-disk.rhai")),
    ("recover-memory", include_str!("../../runbooks/recover-memory.rhai")),
    ("recover-service", include_str!("../../runbooks/recover-service.rhai")),
    ("remediate-auto", include_str!("../../runbooks/remediate-auto.rhai")),
    ("renew-certificate", include_str!("../../runbooks/renew-certificate.rhai")),
    ("scale-auto", include_str!("../../runbooks/scale-auto.rhai")),
    ("security-monitor", include_str!("../../runbooks/security-monitor.rhai")),
    ("trend-predict", include_str!("../../runbooks/trend-predict.rhai")),
];

/// The tests of the runbooks of the binary, by the name of the runbook.
pub const CASES: &[(&str, &str)] = &[
    ("check-health", include_str!("../../runbooks/check-health.test.toml")),
    ("check-logs", include_str!("../../runbooks/check-logs.test.toml")),
    ("notify", include_str!("../../runbooks/notify.test.toml")),
    ("recover-cpu", include_str!("../../runbooks/recover-cpu.test.toml")),
    ("recover-db-connection", include_str!("../../runbooks/recover-db-connection.test.toml")),
    ("recover-db-performance", include_str!("../../runbooks/recover-db-performance.test.toml")),
    ("recover-disk", include_str!("../../runbooks/recover-disk.test.toml")),
    ("recover-memory", include_str!("../../runbooks/recover-memory.test.toml")),
    ("recover-service", include_str!("../../runbooks/recover-service.test.toml")),
    ("remediate-auto", include_str!("../../runbooks/remediate-auto.test.toml")),
    ("renew-certificate", include_str!("../../runbooks/renew-certificate.test.toml")),
    ("scale-auto", include_str!("../../runbooks/scale-auto.test.toml")),
];

/// How the file of the tests of a runbook ends.
const CASE_FILE: &str = ".test.toml";

/// A runbook's text and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The name people run it by.
    pub name: String,
    /// The file as a person would name it; `built-in/NAME.rhai` for those of the binary.
    pub path: String,
    /// The file, when it is one.
    pub file: Option<PathBuf>,
    /// The text.
    pub text: String,
}

/// The runbooks of a project, and the built-in ones.
#[derive(Debug, Clone)]
pub struct Library {
    directory: PathBuf,
}

impl Library {
    /// The runbooks of a project.
    pub fn of(project: &Project) -> Self {
        Self { directory: project.runbooks() }
    }

    /// The directory of the project's runbooks.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The names of all runbooks, sorted. Directories are part of a name: `db/backup`.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = RUNBOOKS.iter().map(|(name, _)| (*name).to_owned()).collect();
        collect(&self.directory, "", &mut names, 4);
        names.sort();
        names.dedup();
        names
    }

    /// The runbook of this name, or in this file when it is a path.
    ///
    /// # Errors
    ///
    /// `usage`, with the name that was probably meant; `config`, when the file can not be read.
    pub fn find(&self, name: &str) -> Result<Found> {
        if name.ends_with(".rhai") {
            return self.read(name.trim_end_matches(".rhai"), Path::new(name));
        }
        if is_name(name) {
            let file = self.directory.join(format!("{name}.rhai"));
            if file.is_file() {
                return self.read(name, &file);
            }
            if let Some((name, text)) = RUNBOOKS.iter().find(|(known, _)| *known == name) {
                return Ok(Found { name: (*name).to_owned(), path: format!("built-in/{name}.rhai"), file: None, text: (*text).to_owned() });
            }
        }
        let names = self.names();
        let error = Error::new(Kind::Usage, format!("there is no runbook `{name}`")).code("RB2002");
        Err(error.suggest(name, &names))
    }

    fn read(&self, name: &str, file: &Path) -> Result<Found> {
        let text = project::file(file)?;
        let shown = std::env::current_dir()
            .ok()
            .and_then(|here| file.strip_prefix(here).ok().map(Path::to_owned))
            .unwrap_or_else(|| file.to_owned());
        let name = Path::new(name).strip_prefix(&self.directory).unwrap_or(Path::new(name)).display().to_string();
        let name = if name.starts_with('/') { name.rsplit('/').next().unwrap_or(&name).to_owned() } else { name };
        Ok(Found { name, path: shown.display().to_string(), file: Some(file.to_owned()), text })
    }

    /// The tests of a runbook, which stand beside it; nothing when there are none.
    ///
    /// # Errors
    ///
    /// `usage`, when there is no such runbook; `config`, when the file can not be read.
    pub fn cases(&self, name: &str) -> Result<Option<Found>> {
        let found = self.find(name)?;
        let Some(runbook) = &found.file else {
            let built_in = |(name, text): &(&str, &str)| Found {
                name: (*name).to_owned(),
                path: format!("built-in/{name}{CASE_FILE}"),
                file: None,
                text: (*text).to_owned(),
            };
            return Ok(CASES.iter().find(|(known, _)| *known == found.name).map(built_in));
        };
        let file = runbook.with_extension(CASE_FILE.trim_start_matches('.'));
        if !file.is_file() {
            return Ok(None);
        }
        let path = Path::new(&found.path).with_extension(CASE_FILE.trim_start_matches('.'));
        Ok(Some(Found { name: found.name, path: path.display().to_string(), text: project::file(&file)?, file: Some(file) }))
    }

    /// The text of a module beside the runbooks, by its import path.
    pub fn module(&self, path: &str) -> Option<String> {
        is_name(path).then(|| project::file(&self.directory.join(format!("{path}.rhai"))).ok()).flatten()
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .split('/')
            .all(|part| !part.is_empty() && part.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_')))
}

fn collect(directory: &Path, prefix: &str, names: &mut Vec<String>, depth: usize) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(file_name) = entry.file_name().into_string() else { continue };
        let path = entry.path();
        match file_name.strip_suffix(".rhai") {
            Some(name) if is_name(name) && !is_module(&path) => names.push(format!("{prefix}{name}")),
            None if depth > 0 && is_name(&file_name) && path.is_dir() => collect(&path, &format!("{prefix}{file_name}/"), names, depth - 1),
            _ => {}
        }
    }
}

/// A file without a header is a module, and no runbook.
fn is_module(path: &Path) -> bool {
    !std::fs::read_to_string(path).is_ok_and(|text| text.contains("runbook("))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_runbook_and_every_test_of_one_is_in_the_binary() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("runbooks");
        let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let (mut runbooks, mut cases) = (Vec::new(), Vec::new());
        for file in files {
            if let Some(name) = file.strip_suffix(CASE_FILE) {
                cases.push(name.to_owned());
            } else if let Some(name) = file.strip_suffix(".rhai") {
                runbooks.push(name.to_owned());
            }
        }
        runbooks.sort();
        cases.sort();
        let names = |known: &[(&'static str, &str)]| known.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!((names(RUNBOOKS), names(CASES)), (runbooks, cases));
    }
}
