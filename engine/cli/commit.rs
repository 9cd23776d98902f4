//! The commit of a runbook's file, for the record of a run.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

/// Asks git in the background, while the script is being checked: which commit a file is at, when it
/// is in a work tree and unchanged. Without git, or outside of a work tree, there is none.
pub(super) fn of(file: Option<PathBuf>) -> Option<JoinHandle<Option<String>>> {
    let file = std::path::absolute(file?).ok()?;
    file.ancestors().skip(1).find(|directory| directory.join(".git").exists())?;
    Some(std::thread::spawn(move || {
        let output = Command::new("git")
            .arg("-C")
            .arg(file.parent()?)
            .args(["status", "--porcelain=v2", "--branch", "--untracked-files=all", "--no-renames", "--"])
            .arg(&file)
            .env("GIT_OPTIONAL_LOCKS", "0")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()?;
        unchanged(&String::from_utf8_lossy(&output.stdout))
    }))
}

/// The commit in the output of `git status --porcelain=v2 --branch`, unless it lists a change.
fn unchanged(status: &str) -> Option<String> {
    let commit = status.lines().find_map(|line| line.strip_prefix("# branch.oid "))?;
    let is_clean = status.lines().all(|line| line.starts_with('#'));
    (is_clean && commit != "(initial)").then(|| commit.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unchanged_file_has_a_commit() {
        assert_eq!(unchanged("# branch.oid abc\n# branch.head main\n"), Some("abc".to_owned()));
        assert_eq!(unchanged("# branch.oid abc\n1 .M N... a.rhai\n"), None);
        assert_eq!(unchanged("# branch.oid abc\n? a.rhai\n"), None);
        assert_eq!(unchanged("# branch.oid (initial)\n"), None);
        assert_eq!(unchanged(""), None);
    }
}
