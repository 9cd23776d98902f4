//! Completion, as the shell asks for it.

use crate::harness::{Done, Project, Test};

const BACKUP: &str = "runbook(#{ title: \"Full backup\", params: #{ \
    keep: #{ type: \"int\", def: 7, help: \"copies to keep\" }, mode: #{ type: \"enum\", of: [\"fast\", \"full\"], def: \"fast\" } } });";

/// What bash would offer for the last of these words.
fn offered(project: Project, words: &[&str]) -> (Vec<String>, Done) {
    let index = (words.len() - 1).to_string();
    let arguments = std::iter::once("--").chain(words.iter().copied());
    let test = project.command(arguments).env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", &index).env("_CLAP_IFS", "\n");
    let done = test.env("_CLAP_COMPLETE_COMP_TYPE", "9").env("_CLAP_COMPLETE_SPACE", "true").succeeds();
    (done.stdout.lines().map(str::to_owned).collect(), done)
}

fn project() -> Project {
    Project::new().runbook("backup", BACKUP).file("runbooks/systems/shop.toml", "title = \"Shop\"\n")
}

#[test]
fn runbooks_systems_and_parameters_are_offered() {
    let (names, done) = offered(project(), &["runbook", "run", "ba"]);
    assert_eq!(names, ["backup"]);
    let (names, done) = offered(done.project, &["runbook", "run", "backup", "-s", "sh"]);
    assert_eq!(names, ["shop"]);
    let (names, done) = offered(done.project, &["runbook", "run", "backup", "-p", ""]);
    assert_eq!(names, ["keep=", "mode="]);
    let (names, done) = offered(done.project, &["runbook", "run", "backup", "-p", "mode=fu"]);
    assert_eq!(names, ["mode=full"]);
    assert!(!done.project.state().exists(), "completion made a state directory");
}

#[test]
fn runs_are_offered_and_nothing_is_written() {
    let done = project().command(["run", "backup"]).succeeds();
    let database = done.project.state().join("runbook.db");
    let before = std::fs::metadata(&database).unwrap().modified().unwrap();
    let (names, done) = offered(done.project, &["runbook", "logs", ""]);
    for name in ["1", "last", "last:backup"] {
        assert!(names.iter().any(|offered| offered == name), "{name}: {names:?}");
    }
    assert_eq!(std::fs::metadata(done.project.state().join("runbook.db")).unwrap().modified().unwrap(), before);
}

#[test]
fn zsh_shows_what_a_runbook_is_about() {
    let test = project().command(["--", "runbook", "show", "backup"]).env("COMPLETE", "zsh").env("_CLAP_COMPLETE_INDEX", "2");
    let done = test.env("_CLAP_IFS", "\n").succeeds();
    assert_eq!(done.stdout.trim(), "backup:Full backup");
}

#[test]
fn commands_are_offered_and_hidden_ones_are_not() {
    let (names, _) = offered(project(), &["runbook", ""]);
    assert!(names.iter().any(|name| name == "doctor") && !names.iter().any(|name| name.starts_with("__")), "{names:?}");
}

#[test]
fn a_broken_project_offers_nothing_and_says_nothing() {
    let project = Project::new().file("runbook.toml", "this is no toml");
    let (names, done) = offered(project, &["runbook", "run", ""]);
    assert!(!names.iter().any(|name| name == "backup"));
    assert_eq!(done.stderr, "");
}

#[test]
fn the_script_of_each_shell_asks_the_binary() {
    for shell in ["bash", "zsh", "fish"] {
        let _ = Test::new(["completions", shell]).succeeds().says("COMPLETE").says("runbook");
    }
    let _ = Test::new(["completions", "tcsh"]).exits(2);
}
