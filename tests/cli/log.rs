//! What all commands take: `-v`, `--color`, `--version`.

use crate::harness::Test;

#[test]
fn our_own_log_is_for_those_who_ask_and_on_standard_error() {
    let done = Test::new(["-v", "history", "--json"]).succeeds().talks("INFO");
    assert!(done.json().is_array());
    let done = done.then(["history"]).succeeds();
    assert!(!done.stderr.contains("INFO"));
    let _ = done.then(["history"]).env("RUST_LOG", "runbook=info").succeeds().talks("INFO");
}

#[test]
fn colours_are_a_choice() {
    let done = Test::new(["--color", "always", "list"]).succeeds().says("\u{1b}[");
    let done = done.then(["list"]).succeeds();
    assert!(!done.stdout.contains('\u{1b}'));
    let done = done.then(["--color", "never", "list"]).env("CLICOLOR_FORCE", "1").succeeds();
    assert!(!done.stdout.contains('\u{1b}'));
}

#[test]
fn the_long_version_names_the_store() {
    let done = Test::new(["--version"]).succeeds().says("SQLite 3.");
    let done = done.then(["-V"]).succeeds();
    assert_eq!(done.stdout.lines().count(), 1);
}
