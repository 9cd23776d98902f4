//! The library inside of another program: the example of `docs/examples/embed`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The example; `cargo test` builds it, and `cargo test --test suite` does not.
fn example() -> PathBuf {
    let binary = Path::new(env!("CARGO_BIN_EXE_runbook")).with_file_name("examples").join("embed");
    if !binary.exists() {
        let built = Command::new(env!("CARGO")).args(["build", "--quiet", "--locked", "--example", "embed"]).status().unwrap();
        assert!(built.success(), "the example does not build");
    }
    binary
}

fn run(state: &Path, house: &str) -> Output {
    Command::new(example())
        .arg(house)
        .env_clear()
        .env("HOME", state)
        .env("PATH", "/usr/bin:/bin")
        .env("RUNBOOK_STATE_DIR", state.join("state"))
        .output()
        .unwrap()
}

#[test]
fn a_program_runs_a_runbook_with_a_host_module_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let done = run(directory.path(), "east");
    let said = (String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap());
    assert_eq!(said, ("switch the lamp of east off\nit is dark: ok\nsucceeded\n".to_owned(), String::new()));
    assert!(done.status.success());
    assert!(directory.path().join("state/runbook.db").exists(), "it is recorded");
}

#[test]
fn its_permissions_hold_for_modules_of_the_program_too() {
    let directory = tempfile::tempdir().unwrap();
    let done = run(directory.path(), "west");
    assert_eq!(String::from_utf8(done.stdout).unwrap(), "failed\n");
    let complaint = String::from_utf8(done.stderr).unwrap();
    assert!(complaint.contains("`switch` on `west` is not allowed"), "{complaint}");
}
